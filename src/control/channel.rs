//! The channel of one caller on a control socket: lines of JSON both ways, octets in between, the verdict at the end.
//!
//! Who is silent for `PATIENCE` is gone. Not decided here: who may ask what (`control`, `control::senders`).

use std::time::Duration;

use log::debug;
use nanoserde::SerJson;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Gone;
use crate::admin::wire::MAX_REQUEST;
use crate::admin::wire::Verdict;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::stream::Stream;

/// Between two octets of a request, and for the peer to take ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// One caller.
pub(super) struct SocketChannel {
    lines: LineStream,
}

impl SocketChannel {
    pub(super) fn new(stream: Stream) -> SocketChannel {
        SocketChannel { lines: LineStream::new(stream) }
    }

    /// Says how it ended, and closes.
    pub(super) async fn conclude(mut self, outcome: Result<(), Failure>) {
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
