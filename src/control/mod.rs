//! The control socket `DIR/pipit.sock`: how the command line reaches a running server (`cli.md`).
//!
//! Mode 0600, and the peer must be root or our own user: who may open it may do everything. One request a connection;
//! 16 connections at once, 10 s idle. Answers are JSON lines, raw octets behind a line that counts them, and a verdict.

use std::rc::Rc;
use std::time::Duration;

use log::Level;
use log::debug;
use log::log;
use log::warn;
use nanoserde::SerJson;

use crate::admin;
use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Gone;
use crate::admin::Instance;
use crate::admin::wire::Command;
use crate::admin::wire::MAX_REQUEST;
use crate::admin::wire::Verdict;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::local::LocalListener;
use crate::net::stream::Stream;
use crate::net::tasks::Tasks;

/// Only the owner may connect.
pub const SOCKET_MODE: u32 = 0o600;
/// Commands come one by one from people and monitors.
const MAX_CONNECTIONS: usize = 16;
/// Between two octets of a request, and for the peer to take ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves requests until the server ends.
pub async fn serve_all(instance: Rc<Instance>, tasks: Tasks, listener: Rc<LocalListener>) {
    let open = Rc::new(());
    loop {
        let stream = listener.accept().await;
        if Rc::strong_count(&open) > MAX_CONNECTIONS {
            warn!("more than {MAX_CONNECTIONS} connections to the control socket; one was closed");
            continue;
        }
        let (instance, held) = (Rc::clone(&instance), Rc::clone(&open));
        tasks.spawn("control request", async move {
            serve(&instance, stream).await;
            drop(held);
        });
    }
}

fn may_command(stream: &Stream) -> bool {
    let own = rustix::process::getuid().as_raw();
    stream.peer_uid().is_some_and(|uid| uid == 0 || uid == own)
}

async fn serve(instance: &Instance, stream: Stream) {
    if !may_command(&stream) {
        warn!("a process of uid {:?} was refused at the control socket", stream.peer_uid());
        return;
    }
    instance.metrics.control_requests.add_one();
    let mut channel = SocketChannel { lines: LineStream::new(stream) };
    let outcome = answer(instance, &mut channel).await;
    let verdict = match outcome {
        Ok(()) => Verdict { ok: Some(true), ..Verdict::default() },
        Err(failure) => {
            debug!("control request failed: {}", failure.error);
            Verdict { error: Some(failure.error), hint: Some(failure.hint), exit: Some(failure.exit), ok: None }
        }
    };
    let _ = channel.line(verdict.serialize_json()).await;
    let _ = within(PATIENCE, channel.lines.close()).await;
}

async fn answer(instance: &Instance, channel: &mut SocketChannel) -> Result<(), Failure> {
    let line = channel.read_line().await?;
    let command = Command::parse(&line)?;
    let level = if command.is_change() { Level::Info } else { Level::Debug };
    log!(level, "control request {}", command.verb());
    admin::run(instance, command, channel).await
}

struct SocketChannel {
    lines: LineStream,
}

impl SocketChannel {
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
