//! The control socket: a Unix socket in the data directory, whose callers the kernel identifies (`Stream::peer_uid`).

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

use async_io::Async;

use crate::net::listen::outlive;
use crate::net::stream::Stream;

/// Binds at `path` with permission bits `mode`. A socket that a crash left behind is replaced; one that somebody answers
/// on gives `AddrInUse`, and what is no socket is never removed.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = UnixListener::bind(path)?;
    // Between bind and chmod the umask rules; the directory around it is 0700, and every request is judged by its uid.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

/// The control socket on the event loop.
pub struct LocalListener(Async<UnixListener>);

impl LocalListener {
    pub fn new(socket: UnixListener) -> io::Result<LocalListener> {
        Ok(LocalListener(Async::new(socket)?))
    }

    /// The next caller; never fails, as `net::listen::Listener::accept`.
    pub async fn accept(&self) -> Stream {
        loop {
            match self.0.accept().await {
                Ok((socket, _)) => return Stream::Unix(socket),
                Err(error) => outlive(&error).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let dir = std::env::temp_dir().join(format!("pipit-local-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("control");
        drop(bind(&path, 0o600).unwrap());
        let live = bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let listener = LocalListener::new(live).unwrap();
        let _caller = UnixStream::connect(&path).unwrap();
        let server = async_io::block_on(listener.accept());
        assert_eq!(server.peer_uid(), Some(rustix::process::getuid().as_raw()));
        let file = dir.join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(bind(&file, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir_all(&dir).unwrap();
    }
}
