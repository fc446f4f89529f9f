//! One byte stream, whatever carries it: TCP, a Unix socket, TLS over one of them, or memory (tests and localserve).
//!
//! Drivers are written against `Stream` alone, so a test plays the same code through `Stream::memory_pair`.
//! Not done here: deadlines (`net::deadline`), lines (`net::lines`), the handshake (`net::tls`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use async_io::Async;
use futures_rustls::client;
use futures_rustls::server::TlsStream;
use smol::io::AsyncRead;
use smol::io::AsyncWrite;

/// What a memory pipe holds in each direction: like a small socket buffer, so that tests meet back pressure too.
const MEMORY_PIPE: usize = 64 * 1024;

/// A connection, open until dropped.
pub enum Stream {
    Plain(Async<TcpStream>),
    Unix(Async<UnixStream>),
    /// The server's side of TLS; boxed, because a rustls connection is over 1 KiB and most streams are none.
    Tls(Box<TlsStream<Stream>>),
    /// The client's side.
    TlsClient(Box<client::TlsStream<Stream>>),
    Memory(MemoryEnd),
}

impl Stream {
    /// Two ends of a pipe in memory; what one writes the other reads.
    pub fn memory_pair() -> (Stream, Stream) {
        let (there, back) = (Rc::default(), Rc::default());
        let near = MemoryEnd { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) };
        (Stream::Memory(near), Stream::Memory(MemoryEnd { incoming: there, outgoing: back }))
    }

    /// Takes over a connected TCP socket. Without Nagle: replies are written whole, and waiting for more only delays them.
    pub fn plain(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        Ok(Stream::Plain(Async::new(socket)?))
    }

    /// Takes over a connected Unix socket.
    pub fn unix(socket: UnixStream) -> io::Result<Stream> {
        Ok(Stream::Unix(Async::new(socket)?))
    }

    /// The user at the other end of a Unix socket, as the kernel knows it.
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Stream::Unix(socket) => rustix::net::sockopt::socket_peercred(socket.get_ref()).ok().map(|peer| peer.uid.as_raw()),
            Stream::Plain(_) | Stream::Tls(_) | Stream::TlsClient(_) | Stream::Memory(_) => None,
        }
    }

    /// The address at the other end; `None` where there is none, or the peer has gone.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// The address on this side.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(socket) => Some(socket.get_ref()),
            Stream::Tls(tls) => tls.get_ref().0.tcp(),
            Stream::TlsClient(tls) => tls.get_ref().0.tcp(),
            Stream::Unix(_) | Stream::Memory(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, out),
            Stream::Unix(socket) => Pin::new(socket).poll_read(cx, out),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, out),
            Stream::TlsClient(tls) => Pin::new(tls).poll_read(cx, out),
            Stream::Memory(end) => end.incoming.borrow_mut().poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Stream::TlsClient(tls) => Pin::new(tls).poll_write(cx, bytes),
            Stream::Memory(end) => end.outgoing.borrow_mut().poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Stream::TlsClient(tls) => Pin::new(tls).poll_flush(cx),
            Stream::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends our direction (after close_notify under TLS); what the peer still sends can be read.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Poll::Ready(socket.get_ref().shutdown(Shutdown::Write)),
            Stream::Unix(socket) => Poll::Ready(socket.get_ref().shutdown(Shutdown::Write)),
            Stream::Tls(tls) => Pin::new(tls).poll_close(cx),
            Stream::TlsClient(tls) => Pin::new(tls).poll_close(cx),
            Stream::Memory(end) => {
                end.outgoing.borrow_mut().close();
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// One end of a pipe in memory. Dropping it ends both directions for the other end.
pub struct MemoryEnd {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

impl Drop for MemoryEnd {
    fn drop(&mut self) {
        self.outgoing.borrow_mut().close();
        self.incoming.borrow_mut().close();
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: Ended,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Default, PartialEq)]
enum Ended {
    #[default]
    No,
    Yes,
}

impl Pipe {
    fn poll_read(&mut self, cx: &Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && self.ended == Ended::No && !out.is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = out.len().min(self.bytes.len());
        for (to, from) in out.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        wake(&mut self.writer);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended == Ended::Yes {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(MEMORY_PIPE - self.bytes.len());
        if count == 0 && !bytes.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.bytes.extend(&bytes[..count]);
        wake(&mut self.reader);
        Poll::Ready(Ok(count))
    }

    fn close(&mut self) {
        self.ended = Ended::Yes;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use smol::future::zip;
    use smol::io::AsyncReadExt;
    use smol::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn memory_passes_more_than_it_holds() {
        let (mut near, mut far) = Stream::memory_pair();
        let sent = vec![7u8; 3 * MEMORY_PIPE + 1];
        let mut received = Vec::new();
        let send = async {
            near.write_all(&sent).await.unwrap();
            near.close().await.unwrap();
        };
        async_io::block_on(zip(send, async { far.read_to_end(&mut received).await.unwrap() }));
        assert_eq!(received, sent);
    }

    #[test]
    fn a_dropped_end_is_an_end_of_file_and_a_broken_pipe() {
        let (mut near, far) = Stream::memory_pair();
        drop(far);
        async_io::block_on(async {
            assert_eq!(near.read(&mut [0; 4]).await.unwrap(), 0);
            assert_eq!(near.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn the_kernel_names_the_user_behind_a_unix_socket() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert_eq!(Stream::unix(near).unwrap().peer_uid(), Some(rustix::process::getuid().as_raw()));
    }
}
