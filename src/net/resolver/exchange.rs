//! One query to one upstream by UDP (RFC 1035 section 4.2), and what an exchange by any way can bring.
//!
//! Each query has a socket, hence a port, of its own, connected so that the kernel drops what other peers send. What is
//! not the answer to the query is ignored, as long as the patience lasts. What is truncated, or cannot be read, is asked
//! again by TCP (`tcp`); so is an answer whose letters have another case, or that lacks the cookie of a server that gave one.

use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;

use async_io::Async;

use crate::net::deadline::within;
use crate::proto::dns::question::Query;
use crate::proto::dns::question::Relation;
use crate::proto::dns::reader::Message;

/// Larger than what we ask for by UDP; what fills it is truncated.
const DATAGRAM: usize = 4096;
/// Datagrams that are no answer, before TCP is tried: somebody is guessing.
const MAX_FOREIGN: usize = 64;

/// Why there is no answer.
#[derive(Debug)]
pub enum ExchangeFault {
    Silent,
    Network(io::Error),
    Unreadable(String),
    Tls(String),
}

/// An answer to the query.
pub struct Reply {
    pub octets: Vec<u8>,
    pub letters: Echo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    AsSent,
    Folded,
}

/// What UDP brought.
pub enum ByUdp {
    Reply(Reply),
    /// Only TCP can tell. Whether letters came back folded.
    AskTcp(Echo),
}

impl From<io::Error> for ExchangeFault {
    fn from(error: io::Error) -> ExchangeFault {
        ExchangeFault::Network(error)
    }
}

/// Asks by UDP.
pub async fn by_udp(upstream: SocketAddr, query: &Query, patience: Duration) -> Result<ByUdp, ExchangeFault> {
    within(patience, udp(upstream, query)).await.map_err(|_| ExchangeFault::Silent)?
}

async fn udp(upstream: SocketAddr, query: &Query) -> Result<ByUdp, ExchangeFault> {
    let any = match upstream {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = Async::<UdpSocket>::bind(any)?;
    socket.get_ref().connect(upstream)?;
    socket.send(query.octets()).await?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..MAX_FOREIGN {
        let length = socket.recv(&mut buffer).await?;
        let octets = &buffer[..length];
        let Ok(message) = Message::read(octets) else {
            if query.has_id_of(octets) {
                return Ok(ByUdp::AskTcp(Echo::AsSent));
            }
            continue;
        };
        match query.judge(&message) {
            Relation::Foreign => {}
            Relation::OtherCase => return Ok(ByUdp::AskTcp(Echo::Folded)),
            Relation::Answer if message.is_truncated() || message.fault().is_some() => return Ok(ByUdp::AskTcp(Echo::AsSent)),
            // Without it the answer may be anybody's: the connection shows whether the server has given cookies up.
            Relation::Answer if query.has_server_cookie() && message.edns().is_none_or(|edns| edns.cookie.is_empty()) => {
                return Ok(ByUdp::AskTcp(Echo::AsSent));
            }
            Relation::Answer => {
                let mut octets = octets.to_vec();
                query.restore_letters(&mut octets);
                return Ok(ByUdp::Reply(Reply { octets, letters: Echo::AsSent }));
            }
        }
    }
    Ok(ByUdp::AskTcp(Echo::AsSent))
}
