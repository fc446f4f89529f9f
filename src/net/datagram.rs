//! Datagrams over UDP on the event loop.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;

use async_io::Async;

/// A bound socket on the event loop.
pub struct Datagrams(Async<UdpSocket>);

impl Datagrams {
    /// Takes over a bound socket.
    pub fn new(socket: UdpSocket) -> io::Result<Datagrams> {
        Ok(Datagrams(Async::new(socket)?))
    }

    /// The next datagram, cut where `buffer` ends, and its sender. An error is about one datagram that was sent before, or a
    /// shortage; the socket stays good.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    /// Sends one datagram; what is lost is lost.
    pub async fn send(&self, octets: &[u8], to: SocketAddr) -> io::Result<()> {
        self.0.send_to(octets, to).await.map(drop)
    }
}
