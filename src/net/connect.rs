//! Outgoing TCP connections, by number only: names are the resolver's business, and never libc's.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use async_io::Async;

use crate::net::deadline::within;
use crate::net::stream::Stream;

/// Connects within `patience`; then the error is `TimedOut`.
pub async fn connect(address: SocketAddr, patience: Duration) -> io::Result<Stream> {
    let socket = within(patience, Async::<TcpStream>::connect(address)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // As `Stream::plain`.
    socket.get_ref().set_nodelay(true)?;
    Ok(Stream::Plain(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen::Listener;
    use crate::net::listen::bind;

    #[test]
    fn a_listener_is_reached_and_a_closed_port_is_not() {
        let listener = Listener::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        async_io::block_on(async {
            let stream = connect(address, Duration::from_secs(10)).await.unwrap();
            assert_eq!(stream.peer_address(), Some(address));
            drop(listener);
            let refused = connect(address, Duration::from_secs(10)).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
