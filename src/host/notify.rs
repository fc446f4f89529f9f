//! The supervisor is told how we are, as sd_notify(3) does it: a datagram to `$NOTIFY_SOCKET`. Silently nothing without one.
//!
//! The socket is opened once, before the sandbox; a supervisor that is not there must never stop a mail server.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Longest status line, so that a message is never cut by the socket: systemd shows one line.
const MAX_STATUS: usize = 200;

/// What the supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The service answers.
    Ready,
    /// The configuration is being read again; `Ready` follows.
    Reloading,
    Stopping,
    /// The event loop turns.
    Watchdog,
    /// One line for people.
    Status(&'a str),
}

/// The way to the supervisor, if there is one.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `$NOTIFY_SOCKET` and `$WATCHDOG_USEC`.
    pub fn from_environment() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::warn!("the supervisor's socket {} cannot be opened: {error}", name.display());
                None
            }
        });
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Notifier { socket, watchdog: micros.filter(|micros| *micros > 0).map(Duration::from_micros) }
    }

    /// Tells it, in one datagram. What is lost is lost: the next one comes.
    pub fn send(&self, notices: &[Notice<'_>]) {
        let Some(socket) = &self.socket else { return };
        let text: String = notices.iter().map(|notice| line(*notice)).collect();
        if let Err(error) = socket.send(text.as_bytes()) {
            log::debug!("the supervisor was not reached: {error}");
        }
    }

    /// How often `Watchdog` is due: half of what the supervisor allows, as sd_watchdog_enabled(3) advises.
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        self.watchdog.map(|allowed| allowed / 2)
    }
}

/// A path, or `@name` in the abstract name space.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes() {
        [b'@', abstract_name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(abstract_name)?)?,
        _ => socket.connect(name)?,
    }
    // A supervisor that does not read must not stop the event loop.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn line(notice: Notice<'_>) -> String {
    match notice {
        Notice::Ready => "READY=1\n".to_owned(),
        Notice::Reloading => {
            // Type=notify-reload wants to know when, on the monotonic clock, to match it with its SIGHUP.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
        }
        Notice::Stopping => "STOPPING=1\n".to_owned(),
        Notice::Watchdog => "WATCHDOG=1\n".to_owned(),
        Notice::Status(text) => {
            let safe: String = text.chars().take(MAX_STATUS).map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("STATUS={safe}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(supervisor: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let name = format!("pipit-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, supervisor) in [(path.as_os_str(), by_path), (OsStr::new(&format!("@{name}")), by_name)] {
            let notifier = Notifier { socket: Some(connect(address).unwrap()), watchdog: Some(Duration::from_secs(10)) };
            notifier.send(&[Notice::Ready, Notice::Status("2 sessions\nREADY=0")]);
            assert_eq!(heard(&supervisor), "READY=1\nSTATUS=2 sessions READY=0\n");
            notifier.send(&[Notice::Reloading]);
            assert!(heard(&supervisor).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            assert_eq!(notifier.watchdog_period(), Some(Duration::from_secs(5)));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        let notifier = Notifier { socket: None, watchdog: Some(Duration::from_secs(10)) };
        notifier.send(&[Notice::Stopping, Notice::Watchdog]);
        assert_eq!(notifier.watchdog_period(), None);
    }
}
