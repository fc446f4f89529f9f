//! Puts a command to the running server over its socket, or does it in the directory if no server runs.
//!
//! Either way the same rows come back in the same order, and go to a `Listener`. The lock on the directory decides who
//! may open the store; a directory of another user is worked on as that user, so that no file of root stays behind.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use nanoserde::DeJson;

use crate::admin;
use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Gone;
use crate::admin::Instance;
use crate::admin::send::Caller;
use crate::admin::wire::Command;
use crate::admin::wire::OctetsHead;
use crate::admin::wire::SOCKET;
use crate::admin::wire::Verdict;
use crate::cli::owner;
use crate::cli::place::Place;
use crate::config::live::Live;
use crate::config::settings::Settings;
use crate::inbound::handed_in;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::clock::RELEASED;
use crate::net::offload::Offload;
use crate::store::OpenError;
use crate::store::Options;
use crate::store::Store;
use crate::store::meta;

/// A server that says nothing for this long hangs. `store check` of a large store is the longest silence.
const PATIENCE: Duration = Duration::from_secs(600);
/// Who owns the directory without answering is starting or ending; a server that hangs is told after this.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_STEP: Duration = Duration::from_millis(50);
/// Octets passed on at a time.
const STEP: usize = 64 * 1024;

/// Takes the rows of an answer.
pub trait Listener {
    fn line(&mut self, json: &str) -> io::Result<()>;
    /// A part of the octets that the line before announced.
    fn octets(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Who did a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Server,
    /// no server runs: this process
    Ourselves,
}

/// Does the command where it can be done. `octets`: what follows the request of an import.
pub fn ask(place: &Place, command: Command, octets: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
    ask_any(place, command, octets, listener).map(|_| ())
}

/// As `ask`, and tells who did it.
pub fn ask_any(place: &Place, command: Command, octets: &[u8], listener: &mut impl Listener) -> Result<Way, Failure> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(place.dir.join(SOCKET)) {
            Ok(stream) => return online(stream, &command, octets, listener).map(|()| Way::Server),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let error = format!("the control socket in {} is not for this user", place.dir.display());
                return Err(Failure::new(error, "run the command as root or as the server's user"));
            }
            Err(_) => {}
        }
        let settings = place.settings.clone()?;
        owner::become_owner(&place.dir, &settings)?;
        match Store::open(&place.dir, Options::default()) {
            // A server that starts or ends right now, or another command: soon one of both ways is open.
            Err(OpenError::Locked { .. }) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_STEP),
            Err(error) => return Err(not_opened(&place.dir, error)),
            Ok(store) => return offline(instance(place, settings, store)?, command, octets, listener).map(|()| Way::Ourselves),
        }
    }
}

/// Asks the running server; without one the answer is "no".
pub fn only_online(dir: &Path, command: &Command) -> Result<(), Failure> {
    let stream = UnixStream::connect(dir.join(SOCKET))
        .map_err(|_| Failure::new(format!("no server answers in {}", dir.display()), "`pipit serve` starts one"))?;
    online(stream, command, &[], &mut Quiet)
}

/// For answers without rows.
struct Quiet;

impl Listener for Quiet {
    fn line(&mut self, _json: &str) -> io::Result<()> {
        Ok(())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::new(format!("the connection to the server broke: {error}"), "look into the server's log, then try again")
}

/// Puts the command to a server that answered, and reads to its verdict.
pub(super) fn online(stream: UnixStream, command: &Command, octets: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut sending = stream.try_clone().map_err(broken)?;
    let mut line = command.to_line();
    line.push('\n');
    // A caller who is refused at once, or an import that is refused in the middle, finds the connection ended: the verdict
    // says why, not the broken pipe.
    let _ = sending.write_all(line.as_bytes()).and_then(|()| sending.write_all(octets));
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = line.trim_end();
        if let Some(verdict) = verdict(line) {
            return verdict;
        }
        listener.line(line).map_err(output)?;
        if let Some(n) = announced(line) {
            pass_on(&mut lines, n, listener)?;
        }
    }
}

fn output(error: io::Error) -> Failure {
    Failure::new(format!("the output could not be written: {error}"), "check the disk or the reader of the pipe")
}

/// Rows never begin like a verdict.
fn verdict(line: &str) -> Option<Result<(), Failure>> {
    if !line.starts_with("{\"ok\":") && !line.starts_with("{\"error\":") {
        return None;
    }
    let verdict = Verdict::deserialize_json(line).ok()?;
    Some(match verdict.error {
        None => Ok(()),
        Some(error) => Err(Failure { error, hint: verdict.hint.unwrap_or_default(), exit: verdict.exit.unwrap_or(1) }),
    })
}

fn announced(line: &str) -> Option<u64> {
    line.starts_with("{\"bytes\":").then(|| OctetsHead::deserialize_json(line).ok()).flatten().map(|head| head.bytes)
}

fn pass_on(from: &mut impl Read, mut left: u64, listener: &mut impl Listener) -> Result<(), Failure> {
    let mut buffer = vec![0; STEP];
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(STEP).min(STEP);
        from.read_exact(&mut buffer[..step]).map_err(broken)?;
        listener.octets(&buffer[..step]).map_err(output)?;
        left -= step as u64;
    }
    Ok(())
}

/// What a command without a server works with.
fn instance(place: &Place, settings: Settings, store: Store) -> Result<Instance, Failure> {
    let saved = store.read(meta::last_good_time)?.unwrap_or(RELEASED);
    Ok(Instance {
        store,
        live: Rc::new(Live::new(settings)),
        file: place.file.clone(),
        metrics: Rc::new(Metrics::default()),
        clock: Clock::host(saved),
        offload: Offload::start().map_err(|error| Failure::new(error, "try again"))?,
        serving: None,
    })
}

fn offline(instance: Instance, command: Command, octets: &[u8], listener: &mut impl Listener) -> Result<(), Failure> {
    let mut channel = DirectChannel { source: octets, listener };
    crate::net::run(&smol::LocalExecutor::new(), async {
        let outcome = match command {
            // Who may open the store may do everything.
            Command::Send(request) => handed_in::take(&instance, &Caller::Owner, request, &mut channel).await,
            command => admin::run(&instance, command, &mut channel).await,
        };
        instance.store.close().await;
        outcome
    })
}

/// Why a store could not be opened, and what to do.
pub fn not_opened(dir: &Path, error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Locked { .. } => "its socket does not answer: wait a moment, or look into that process's log",
        OpenError::Newer { .. } => "use the newer version of pipit that made it",
        _ => "check the directory's owner and rights, the disk, and `pipit store check`",
    };
    Failure::new(format!("{}: {error}", dir.display()), hint)
}

/// Without a socket between: rows go straight to the listener.
struct DirectChannel<'a, L> {
    source: &'a [u8],
    listener: &'a mut L,
}

impl<L: Listener> Channel for DirectChannel<'_, L> {
    async fn line(&mut self, json: String) -> Result<(), Gone> {
        self.listener.line(&json).map_err(|_| Gone)
    }

    async fn octets(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.listener.octets(bytes).map_err(|_| Gone)
    }

    async fn read_line(&mut self) -> Result<String, Gone> {
        let end = self.source.iter().position(|byte| *byte == b'\n').ok_or(Gone)?;
        let (line, rest) = self.source.split_at(end);
        self.source = &rest[1..];
        String::from_utf8(line.to_vec()).map_err(|_| Gone)
    }

    async fn read(&mut self, n: usize) -> Result<Vec<u8>, Gone> {
        let (bytes, rest) = self.source.split_at_checked(n).ok_or(Gone)?;
        self.source = rest;
        Ok(bytes.to_vec())
    }
}
