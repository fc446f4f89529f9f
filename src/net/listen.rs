//! Listening sockets: `bind` while still privileged, `Listener::accept` later on the event loop.
//!
//! `accept` never fails: what goes wrong with one connection, or while descriptors are short, is outlived with a pause.
//! Not done here: who may connect and how many (`net::slots`).

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use async_io::Async;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::ipproto;
use rustix::net::sockopt;

use crate::net::deadline::sleep;
use crate::net::stream::Stream;

/// Connections the kernel completes while we are busy: the whole of a burst (R13: 200 slots) twice over; the kernel cuts
/// it to net.core.somaxconn.
const BACKLOG: i32 = 512;
/// Pause when descriptors or memory are short: sessions end within seconds, and a loop without pause would burn the CPU
/// that they need for it, because the waiting connection keeps the listener readable.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Binds and listens, address by number only. An IPv6 socket takes no IPv4 (each family has its own listener, so that a
/// peer's address has one form and `[::]` beside `0.0.0.0` is no conflict).
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // A restart within a minute would otherwise meet the connections in TIME_WAIT of the one before.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A bound socket on the event loop.
pub struct Listener(Async<TcpListener>);

impl Listener {
    pub fn new(socket: TcpListener) -> io::Result<Listener> {
        Ok(Listener(Async::new(socket)?))
    }

    /// The next connection and its peer.
    pub async fn accept(&self) -> (Stream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((socket, peer)) => {
                    // As `Stream::plain`; a peer that has left already is met by the first read, not here.
                    let _ = socket.get_ref().set_nodelay(true);
                    return (Stream::Plain(socket), peer);
                }
                Err(error) => outlive(&error).await,
            }
        }
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

/// Waits as long as the trouble deserves: not at all for a connection that its peer gave up while it was queued (accept(2)
/// lists the network's errors among these), a pause for everything else.
pub(super) async fn outlive(error: &io::Error) {
    const OF_ONE_PEER: [Errno; 9] = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::INTR,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NOTCONN,
    ];
    if Errno::from_io_error(error).is_some_and(|errno| OF_ONE_PEER.contains(&errno)) {
        crate::net::breathe::breathe().await;
        return;
    }
    log::warn!("a connection could not be accepted: {error}");
    sleep(SHORTAGE_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use smol::io::AsyncReadExt;
    use smol::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn both_families_share_a_port() {
        let v6 = bind("[::]:0".parse().unwrap()).unwrap();
        let port = v6.local_addr().unwrap().port();
        let _v4 = bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
        assert_eq!(bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_accepted_connection_carries_bytes() {
        let listener = Listener::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let mut client = Stream::plain(TcpStream::connect(listener.local_address().unwrap()).unwrap()).unwrap();
        async_io::block_on(async {
            let (mut server, peer) = listener.accept().await;
            assert_eq!(Some(peer), server.peer_address());
            server.write_all(b"220 hello\r\n").await.unwrap();
            server.close().await.unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"220 hello\r\n");
        });
    }

    #[test]
    fn a_shortage_pauses_and_a_lost_peer_does_not() {
        async_io::block_on(async {
            let started = std::time::Instant::now();
            outlive(&Errno::CONNABORTED.into()).await;
            assert!(started.elapsed() < SHORTAGE_PAUSE);
            outlive(&Errno::MFILE.into()).await;
            assert!(started.elapsed() >= SHORTAGE_PAUSE);
        });
    }
}
