//! The sockets through which processes of this machine reach the server (`cli.md`, "Control socket").
//!
//! `DIR/pipit.sock`, mode 0600: the peer must be root or our own user, and may do everything. `DIR/send.sock`, mode 0666,
//! and for the system's server `/run/pipit/send.sock`: anybody may connect, the only request is `send`, and who it is for is
//! decided by the user that the kernel names (`admin::send`).
//! One request a connection; 16 connections at once, 10 s idle. Answers are JSON lines, raw octets behind a line that
//! counts them, and a verdict.

use std::rc::Rc;
use std::time::Duration;

use log::Level;
use log::debug;
use log::info;
use log::log;
use log::warn;
use nanoserde::SerJson;

use crate::admin;
use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Gone;
use crate::admin::Instance;
use crate::admin::send::Caller;
use crate::admin::send::NO_PERMISSION;
use crate::admin::wire::Command;
use crate::admin::wire::MAX_REQUEST;
use crate::admin::wire::Verdict;
use crate::host::users::Users;
use crate::inbound::handed_in;
use crate::net::deadline::sleep;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::local::LocalListener;
use crate::net::stream::Stream;
use crate::net::tasks::Tasks;

/// Commands come one by one from people and monitors.
const MAX_CONNECTIONS: usize = 16;
/// Between two octets of a request, and for the peer to take ours.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message handed in that takes longer than this is not coming.
const LONGEST_SENDING: Duration = Duration::from_secs(600);
/// How often a full send socket looks whether one has ended: programs that hand mail in wait in the kernel's queue, as a
/// message is not asked for twice.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Who may come in, and for what.
#[derive(Clone)]
pub enum Gate {
    /// root and our own user, for everything
    Owner,
    /// everybody, to hand mail in; with the names of the machine's users
    Senders(Rc<Users>),
}

impl Gate {
    /// Permission bits of the socket.
    pub fn mode(&self) -> u32 {
        match self {
            Gate::Owner => 0o600,
            Gate::Senders(_) => 0o666,
        }
    }
}

/// Serves requests until the server ends.
pub async fn serve_all(instance: Rc<Instance>, tasks: Tasks, listener: Rc<LocalListener>, gate: Gate) {
    let open = Rc::new(());
    let gate = Rc::new(gate);
    loop {
        let stream = listener.accept().await;
        while Rc::strong_count(&open) > MAX_CONNECTIONS && matches!(*gate, Gate::Senders(_)) {
            sleep(FULL_PAUSE).await;
        }
        if Rc::strong_count(&open) > MAX_CONNECTIONS {
            warn!("more than {MAX_CONNECTIONS} connections to the control socket; one was closed");
            continue;
        }
        let (instance, gate, held) = (Rc::clone(&instance), Rc::clone(&gate), Rc::clone(&open));
        tasks.spawn("control request", async move {
            match &*gate {
                Gate::Owner => serve_owner(&instance, stream).await,
                Gate::Senders(users) => drop(within(LONGEST_SENDING, serve_sender(&instance, users, stream)).await),
            }
            drop(held);
        });
    }
}

fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::getuid().as_raw()
}

async fn serve_owner(instance: &Instance, stream: Stream) {
    let peer = stream.peer_uid();
    if !peer.is_some_and(is_owner) {
        warn!("a process of uid {peer:?} was refused at the control socket");
        return;
    }
    instance.metrics.control_requests.add_one();
    let mut channel = SocketChannel { lines: LineStream::new(stream) };
    let outcome = answer(instance, &mut channel).await;
    channel.conclude(outcome).await;
}

async fn answer(instance: &Instance, channel: &mut SocketChannel) -> Result<(), Failure> {
    let line = channel.read_line().await?;
    let command = Command::parse(&line)?;
    let level = if command.is_change() { Level::Info } else { Level::Debug };
    log!(level, "control request {}", command.verb());
    match command {
        Command::Send(request) => handed_in::take(instance, &Caller::Owner, request, channel).await,
        command => admin::run(instance, command, channel).await,
    }
}

async fn serve_sender(instance: &Instance, users: &Users, stream: Stream) {
    let Some(uid) = stream.peer_uid() else { return };
    instance.metrics.control_requests.add_one();
    let mut channel = SocketChannel { lines: LineStream::new(stream) };
    let outcome = take_mail(instance, users, uid, &mut channel).await;
    if let Err(failure) = &outcome {
        info!("mail handed in by uid {uid} was refused: {}", failure.error);
    }
    channel.conclude(outcome).await;
}

async fn take_mail(instance: &Instance, users: &Users, uid: u32, channel: &mut SocketChannel) -> Result<(), Failure> {
    let line = channel.read_line().await?;
    let Command::Send(request) = Command::parse(&line)? else {
        let error = "this socket takes mail and nothing else";
        return Err(Failure { error: error.into(), hint: "commands go to pipit.sock beside it".into(), exit: NO_PERMISSION });
    };
    let caller = match users.name(uid) {
        _ if is_owner(uid) => Caller::Owner,
        Some(name) => Caller::User(name.to_owned()),
        None => {
            let error = format!("the user number {uid} has no name here");
            let hint = "if the user is new, restart the server: it reads /etc/passwd when it starts".into();
            return Err(Failure { error, hint, exit: NO_PERMISSION });
        }
    };
    handed_in::take(instance, &caller, request, channel).await
}

struct SocketChannel {
    lines: LineStream,
}

impl SocketChannel {
    /// Says how it ended, and closes.
    async fn conclude(mut self, outcome: Result<(), Failure>) {
        let verdict = match outcome {
            Ok(()) => Verdict { ok: Some(true), ..Verdict::default() },
            Err(failure) => {
                debug!("control request failed: {}", failure.error);
                Verdict { error: Some(failure.error), hint: Some(failure.hint), exit: Some(failure.exit), ok: None }
            }
        };
        let _ = self.line(verdict.serialize_json()).await;
        let _ = within(PATIENCE, self.lines.close()).await;
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        within(PATIENCE, self.lines.write(bytes)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}

impl Channel for SocketChannel {
    async fn line(&mut self, mut json: String) -> Result<(), Gone> {
        json.push('\n');
        self.send(json.as_bytes()).await
    }

    async fn octets(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.send(bytes).await
    }

    /// Lines of the socket end in LF, unlike those of SMTP.
    async fn read_line(&mut self) -> Result<String, Gone> {
        let mut line = Vec::new();
        loop {
            let read = within(PATIENCE, self.lines.fill_buf()).await.map_err(|_| Gone)?.map_err(|_| Gone)?;
            if read.is_empty() || line.len() > MAX_REQUEST {
                return Err(Gone);
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&read[..end.unwrap_or(read.len())]);
            let taken = end.map_or(read.len(), |at| at + 1);
            self.lines.consume(taken);
            if end.is_some() {
                return String::from_utf8(line).map_err(|_| Gone);
            }
        }
    }

    async fn read(&mut self, n: usize) -> Result<Vec<u8>, Gone> {
        within(PATIENCE, self.lines.exact(n)).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}
