//! A DNS server for loopback that looks like a recursive resolver: UDP and TCP, EDNS, truncation (RFC 1035, 6891, 7766).
//!
//! In goes a `Tree`; out come answers with RA set, to any question of class IN: the question's octets come back as they were
//! sent, whatever the case of their letters. What is no query gets FORMERR or NOTIMP, an answer gets nothing, ANY is refused
//! (RFC 8482 allows it). The sockets are bound before the sandbox, the loops start with the event loop. It validates nothing,
//! and so never sets AD; what is bogus is given out with CD and without.
//! Not done: compression of names (nothing here is long), cookies.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

use log::debug;

use crate::net::breathe::breathe;
use crate::net::clock::Clock;
use crate::net::datagram::Datagrams;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::listen;
use crate::net::listen::Listener;
use crate::net::tasks::Tasks;
use crate::proto::dns::CLASS_IN;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::reader::Message;
use crate::proto::dns::reader::RawRecord;
use crate::world::tree::Found;
use crate::world::tree::Tree;
use crate::world::zone::Proofs;

/// What we take and send over UDP at most (DNS flag day 2020: fits any path unfragmented).
const PAYLOAD: u16 = 1232;
/// Without EDNS (RFC 1035 section 4.2.1).
const PLAIN_PAYLOAD: u16 = 512;
/// A TCP connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// TCP connections at once.
const MAX_CONNECTIONS: usize = 32;
/// Datagrams between two turns of the event loop.
const TURN: u32 = 16;

const QR: u16 = 1 << 15;
const TC: u16 = 1 << 9;
const RD: u16 = 1 << 8;
const RA: u16 = 1 << 7;
/// Comes back as it was sent (RFC 4035 section 3.2.2).
const CD: u16 = 1 << 4;
/// In the TTL of OPT: "DNSSEC OK", which is sent back as it came (RFC 3225).
const DO: u32 = 1 << 15;

/// Bound sockets, before there is an event loop.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Binds both at the same address; with port 0 both get the same free one.
pub fn bind(address: SocketAddr) -> io::Result<Sockets> {
    let tcp = listen::bind(address)?;
    let udp = UdpSocket::bind(tcp.local_addr()?)?;
    Ok(Sockets { udp, tcp })
}

impl Sockets {
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// What there is to tell, and the time for signatures.
pub struct Known {
    pub tree: Tree,
    pub clock: Clock,
}

/// Serves the tree until the process ends.
pub fn start(tasks: &Tasks, sockets: Sockets, known: Known) -> io::Result<()> {
    let (udp, tcp, known) = (Rc::new(Datagrams::new(sockets.udp)?), Rc::new(Listener::new(sockets.tcp)?), Rc::new(known));
    let for_udp = Rc::clone(&known);
    tasks.spawn_service("world's DNS over UDP", move || serve_udp(Rc::clone(&udp), Rc::clone(&for_udp)));
    let own = tasks.clone();
    tasks.spawn_service("world's DNS over TCP", move || serve_tcp(own.clone(), Rc::clone(&tcp), Rc::clone(&known)));
    Ok(())
}

async fn serve_udp(socket: Rc<Datagrams>, known: Rc<Known>) {
    let mut buffer = [0; PAYLOAD as usize];
    for count in 1u32.. {
        if count % TURN == 0 {
            breathe().await;
        }
        let Ok((length, peer)) = socket.receive(&mut buffer).await else {
            breathe().await;
            continue;
        };
        let Some(reply) = answer(&known, &buffer[..length], Carrier::Udp) else { continue };
        if let Err(error) = socket.send(&reply, peer).await {
            debug!("an answer to {peer} was not sent: {error}");
        }
    }
}

async fn serve_tcp(tasks: Tasks, listener: Rc<Listener>, known: Rc<Known>) {
    let open = Rc::new(());
    loop {
        let (stream, _) = listener.accept().await;
        if Rc::strong_count(&open) > MAX_CONNECTIONS {
            continue;
        }
        let (known, held) = (Rc::clone(&known), Rc::clone(&open));
        tasks.spawn("DNS connection", async move {
            // Whoever breaks off has got what it wanted.
            let _ = converse(LineStream::new(stream), &known).await;
            drop(held);
        });
    }
}

/// Questions and answers, each behind its length (RFC 1035 section 4.2.2).
async fn converse(mut lines: LineStream, known: &Known) -> io::Result<()> {
    let slow = |_| io::Error::from(io::ErrorKind::TimedOut);
    loop {
        let length = within(IDLE, lines.exact(2)).await.map_err(slow)??;
        let length = length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
        let query = within(IDLE, lines.exact(length)).await.map_err(slow)??;
        let Some(reply) = answer(known, &query, Carrier::Tcp) else { return Ok(()) };
        let mut framed = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend_from_slice(&reply);
        within(IDLE, async {
            lines.write(&framed).await?;
            lines.flush().await
        })
        .await
        .map_err(slow)??;
    }
}

/// How a query came, which decides how long the answer may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Udp,
    Tcp,
}

/// The whole answer to a query; `None` for what must not be answered.
fn answer(known: &Known, octets: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let id = octets.get(..2)?;
    // An answer to an answer would be a game of two servers without end.
    if octets.get(2)? & 0x80 != 0 {
        return None;
    }
    let refuse =
        |rcode| Some(Reply { id, flags: QR | RA, rcode, question: &[], found: None, edns: None }.encode(usize::from(PLAIN_PAYLOAD)));
    let Ok(query) = Message::read(octets) else { return refuse(Rcode::FORM_ERR) };
    if query.opcode() != 0 {
        return refuse(Rcode::NOT_IMP);
    }
    let Some(question) = query.question().filter(|_| query.fault().is_none()) else { return refuse(Rcode::FORM_ERR) };
    let edns = query.edns();
    let (rcode, found) = match edns {
        Some(edns) if edns.version > 0 => (Rcode::BAD_VERS, None),
        _ if question.class != CLASS_IN => (Rcode::REFUSED, None),
        _ => {
            let proofs = if edns.is_some_and(|edns| edns.dnssec_ok) { Proofs::Wanted } else { Proofs::Unwanted };
            let found = known.tree.answer((&question.name, question.rtype), proofs, known.clock.now());
            (found.rcode, Some(found))
        }
    };
    let max = match (carrier, edns) {
        (Carrier::Tcp, _) => u16::MAX,
        (Carrier::Udp, Some(edns)) => edns.udp_payload.clamp(PLAIN_PAYLOAD, PAYLOAD),
        (Carrier::Udp, None) => PLAIN_PAYLOAD,
    };
    let asked = u16::from_be_bytes([octets[2], octets[3]]);
    let flags = QR | RA | asked & (RD | CD);
    let reply = Reply { id, flags, rcode, question: question.octets, found, edns: edns.map(|edns| if edns.dnssec_ok { DO } else { 0 }) };
    Some(reply.encode(usize::from(max)))
}

struct Reply<'a> {
    id: &'a [u8],
    flags: u16,
    rcode: Rcode,
    question: &'a [u8],
    found: Option<Found>,
    /// flags of OPT, if the query had one
    edns: Option<u32>,
}

impl Reply<'_> {
    /// In at most `max` octets: what does not fit is left out whole, with TC, so that the asker comes back over TCP.
    fn encode(&self, max: usize) -> Vec<u8> {
        let (answers, authority) = self.found.as_ref().map_or((&[][..], &[][..]), |found| (&found.answers, &found.authority));
        let whole = self.with(0, answers, authority);
        if whole.len() <= max { whole } else { self.with(TC, &[], &[]) }
    }

    fn with(&self, more: u16, answers: &[RawRecord], authority: &[RawRecord]) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        let [extended, low] = self.rcode.0.to_be_bytes().map(u16::from);
        out.extend_from_slice(self.id);
        out.extend((self.flags | more | (low & 15)).to_be_bytes());
        for n in [usize::from(!self.question.is_empty()), answers.len(), authority.len(), usize::from(self.edns.is_some())] {
            out.extend(count(n));
        }
        out.extend_from_slice(self.question);
        for record in answers.iter().chain(authority) {
            out.extend_from_slice(record.owner.as_wire());
            out.extend(record.rtype.0.to_be_bytes());
            out.extend(CLASS_IN.to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            out.extend(count(record.rdata.len()));
            out.extend_from_slice(&record.rdata);
        }
        if let Some(flags) = self.edns {
            // Root, OPT, payload, the upper eight bits of the code, version 0 and flags, no options.
            let upper = u32::from(extended << 4 | low >> 4) << 24;
            out.push(0);
            out.extend(RecordType::OPT.0.to_be_bytes());
            out.extend(PAYLOAD.to_be_bytes());
            out.extend((upper | flags).to_be_bytes());
            out.extend([0, 0]);
        }
        out
    }
}

#[cfg(test)]
mod tests;
