//! A peer that plays a script, and the calls of the driver that meet it.

use std::sync::Arc;
use std::time::Duration;

use pipit::mail::address::Address;
use pipit::mail::domain::Domain;
use pipit::mail::envelope::Body;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::metrics::Metrics;
use pipit::net::lines::LineRead;
use pipit::net::lines::LineStream;
use pipit::net::stream::Stream;
use pipit::net::tls;
use pipit::outbound::converse;
use pipit::outbound::converse::Caller;
use pipit::outbound::converse::Connection;
use pipit::outbound::converse::HostFailure;
use pipit::outbound::converse::Outgoing;
use pipit::outbound::converse::Pace;
use pipit::outbound::converse::Security;
use pipit::outbound::converse::Source;
use pipit::outbound::converse::Target;
use pipit::outbound::converse::Transaction;
use pipit::proto::smtp::dot::Unstuffer;
use rustls::ServerConfig;

pub const GREETED: &str = "S: 220 mx.example.org\nC: EHLO out.sender.example\nS: 250-mx.example.org\nS: 250 PIPELINING\n";
pub const ENVELOPE: &str = "C: MAIL FROM:<bob@sender.example>\nC: RCPT TO:<ann@example.org>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go on\n";
/// Five minutes become a second; a handshake has a fifth of it, so tests that shake hands take the usual pace.
pub const HURRIED: u32 = 300;

/// What the peer saw.
#[derive(Default)]
pub struct Seen {
    pub messages: Vec<Vec<u8>>,
    pub handshakes: Vec<tls::Handshake>,
    /// the connection ended amid a message
    pub cut: Option<Vec<u8>>,
}

/// Plays the script on its end: `S:` and `C:` lines (`…` ends a beginning), `message`, `tls`, `tls fails`, `pause`, `end`
/// (of the connection is waited for). Closes behind its last line.
pub async fn play(stream: Stream, script: &str, config: Option<&Arc<ServerConfig>>) -> Seen {
    let mut seen = Seen::default();
    let mut lines = LineStream::new(stream);
    for line in script.lines() {
        if let Some(reply) = line.strip_prefix("S: ") {
            lines.write(format!("{}\r\n", reply.replace("\\n", "\r\n")).as_bytes()).await.unwrap();
            lines.flush().await.unwrap();
        } else if let Some(expected) = line.strip_prefix("C: ") {
            hear(&mut lines, expected).await;
        } else if line == "message" {
            match message(&mut lines).await {
                Ok(message) => seen.messages.push(message),
                Err(part) => seen.cut = Some(part),
            }
        } else if line.starts_with("tls") {
            let stream = lines.into_stream().unwrap();
            match tls::accept(stream, config.unwrap(), Duration::from_secs(20)).await {
                Ok((stream, handshake)) => {
                    assert_eq!(line, "tls");
                    seen.handshakes.push(handshake);
                    lines = LineStream::new(stream);
                }
                Err(_) => {
                    assert_eq!(line, "tls fails");
                    return seen;
                }
            }
        } else if line == "end" {
            assert_eq!(lines.next_line(1000).await.unwrap(), LineRead::Closed);
        } else if line == "silence" {
            let _ = lines.next_line(1000).await;
        } else {
            panic!("unknown line {line}");
        }
    }
    seen
}

async fn hear(lines: &mut LineStream, expected: &str) {
    let heard = match lines.next_line(1000).await.unwrap() {
        LineRead::Line(line) => String::from_utf8(line.to_vec()).unwrap(),
        other => panic!("expected {expected}, heard {other:?}"),
    };
    match expected.strip_suffix('…') {
        Some(begin) => assert!(heard.starts_with(begin), "expected {expected}, heard {heard}"),
        None => assert_eq!(heard, expected),
    }
}

/// The message, or what came of it before the connection ended.
async fn message(lines: &mut LineStream) -> Result<Vec<u8>, Vec<u8>> {
    let (mut unstuffer, mut message) = (Unstuffer::new(), Vec::new());
    loop {
        let octets = lines.fill_buf().await.unwrap();
        if octets.is_empty() {
            return Err(message);
        }
        let progress = unstuffer.push(octets, &mut |slice| message.extend_from_slice(slice));
        lines.consume(progress.consumed);
        if progress.done {
            assert!(!unstuffer.faults().any());
            return Ok(message);
        }
    }
}

/// A message in chunks, and what it has been through.
pub struct Chunks {
    pub chunks: Vec<Result<Vec<u8>, String>>,
    at: usize,
    pub readings: usize,
}

impl Chunks {
    pub fn new(chunks: &[&[u8]]) -> Chunks {
        Chunks { chunks: chunks.iter().map(|chunk| Ok(chunk.to_vec())).collect(), at: 0, readings: 0 }
    }
}

impl Source for Chunks {
    async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        self.at += 1;
        self.chunks.get(self.at - 1).cloned()
    }

    fn restart(&mut self) {
        self.at = 0;
        self.readings += 1;
    }
}

pub fn target(host: &str) -> Target {
    Target { host: Domain::parse(host).unwrap(), address: "192.0.2.1:25".parse().unwrap(), security: Security::Opportunistic }
}

pub fn caller() -> Caller {
    Caller { name: Domain::parse("out.sender.example").unwrap(), greets_as: vec![Domain::parse("sender.example").unwrap()] }
}

pub async fn greet(stream: Stream, host: &str, pace: Pace) -> Result<Connection, HostFailure> {
    converse::greet(stream, &target(host), &caller(), &Metrics::default(), pace).await
}

pub fn bob() -> ReversePath {
    ReversePath::parse("<bob@sender.example>").unwrap()
}

pub fn transaction(reverse_path: &ReversePath) -> Transaction<'_> {
    let address = Address::parse("ann@example.org").unwrap();
    Transaction {
        reverse_path,
        recipients: vec![Outgoing { address, notify: Notify::Unset, orcpt: None }],
        body: Body::SevenBit,
        smtp_utf8: false,
        size: 100,
        ret: Ret::Unset,
        envid: None,
    }
}
