//! A client's whole octet stream through `Session` and `Unstuffer`, with a small driver like the real one.
//!
//! The first octet chooses verdicts, its highest bit a submission listener with TLS first. Promises: how the stream is cut into packets changes nothing; replies are well-formed
//! lines; the end stays the end; REQUIRETLS is accepted under TLS only; message data ends only behind CRLF.CRLF; on
//! submission no transaction begins before a login was accepted.

use std::rc::Rc;

use pipit::mail::domain::Domain;
use pipit::mail::envelope::RequireTls;
use pipit::mail::received::TlsFacts;
use pipit::proto::smtp::dot::Unstuffer;
use pipit::proto::smtp::reply::Reply;
use pipit::proto::smtp::sasl::scram::Credentials;
use pipit::proto::smtp::server::Action;
use pipit::proto::smtp::server::DataVerdict;
use pipit::proto::smtp::server::Input;
use pipit::proto::smtp::server::KeysFound;
use pipit::proto::smtp::server::LoginVerdict;
use pipit::proto::smtp::server::Params;
use pipit::proto::smtp::server::RecipientVerdict;
use pipit::proto::smtp::server::Role;
use pipit::proto::smtp::server::SenderVerdict;
use pipit::proto::smtp::server::Session;
use pipit::proto::smtp::server::SpaceVerdict;

pub const SEEDS: &[&[u8]] = &[
    b"\x00EHLO a\r\nMAIL FROM:<b@x.org> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nFrom: b\r\n\r\n..text\r\n.\r\nQUIT\r\n",
    b"\x01EHLO a\r\nSTARTTLS\r\nEHLO a\r\nMAIL FROM:<> REQUIRETLS SMTPUTF8\r\nRCPT TO:<p\xc3\xa4@x.org>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\nRSET\r\n",
    b"\x02HELO a\r\nNOOP x\r\nVRFY y\r\nHELP\r\nEXPN z\r\nAUTH PLAIN\r\nBDAT 1 LAST\r\nRSET\r\nNONSENSE\r\nGET / HTTP/1.1\r\n",
    b"\x03EHLO a\r\nMAIL FROM:<b@x.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\na\n.\nMAIL FROM:<c@x.org>\r\n.\r\r\n.\r\nQUIT\r\n",
    b"\x82EHLO a\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@x.org> RET=FULL ENVID=x AUTH=<>\r\nRCPT TO:<b@y.org> NOTIFY=NEVER ORCPT=rfc822;b\r\nDATA\r\n.\r\n",
    b"\x80EHLO a\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nAUTH SCRAM-SHA-256\r\nbiwsbj1hLHI9Yg==\r\n*\r\nAUTH PLAIN =\r\nMAIL FROM:<>\r\n",
];

pub fn target(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let whole = converse(stream, stream.len().max(1), *choice);
    for packet in [1, 3, 64] {
        assert_eq!(converse(stream, packet, *choice), whole, "packets of {packet} octets change nothing");
    }
}

/// Everything that the server wrote, and every message it took.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    written: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

/// What the driver waits for.
enum Reading {
    Line,
    Data(Unstuffer, Vec<u8>),
    Closed,
}

struct Driver {
    session: Session,
    transcript: Transcript,
    reading: Reading,
    line: Vec<u8>,
    verdicts: u8,
    login: Login,
}

/// Whether a transaction may begin.
#[derive(PartialEq)]
enum Login {
    NotNeeded,
    Missing,
    Accepted,
}

fn tls_started() -> Input<'static> {
    Input::TlsStarted(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() }, Some([7; 32]))
}

fn converse(stream: &[u8], packet: usize, choice: u8) -> Transcript {
    let mut params = Params::new(Domain::parse("mx.example.org").expect("a plain name"));
    params.max_recipients = 3;
    let submission = choice & 0x80 != 0;
    if submission {
        params.role = Role::Submission;
    }
    let mut session = Session::new(Rc::new(params));
    if submission {
        session.handle(tls_started());
    }
    let mut driver = Driver {
        session,
        transcript: Transcript::default(),
        reading: Reading::Line,
        line: Vec::new(),
        verdicts: choice,
        login: if submission { Login::Missing } else { Login::NotNeeded },
    };
    driver.input(Input::Connected);
    for packet in stream.chunks(packet) {
        let mut rest = packet;
        while !rest.is_empty() && !matches!(driver.reading, Reading::Closed) {
            let consumed = driver.take(rest);
            rest = &rest[consumed..];
        }
    }
    if matches!(driver.reading, Reading::Closed) {
        assert_eq!(driver.session.handle(Input::Line(b"NOOP")), Action::Close, "the end stays the end");
        assert!(driver.session.is_idle());
    }
    driver.transcript
}

impl Driver {
    /// Takes octets of the client; says how many.
    fn take(&mut self, rest: &[u8]) -> usize {
        match std::mem::replace(&mut self.reading, Reading::Line) {
            Reading::Closed => rest.len(),
            Reading::Line => self.take_line(rest),
            Reading::Data(mut unstuffer, mut message) => {
                let progress = unstuffer.push(rest, &mut |slice| message.extend_from_slice(slice));
                if progress.done {
                    assert!(message.is_empty() || message.ends_with(b"\r\n"));
                    self.transcript.messages.push(message);
                    let faults = unstuffer.faults();
                    let verdict = match self.choose() {
                        _ if faults.any() => DataVerdict::Broken(faults),
                        0 => DataVerdict::TooBig,
                        1 => DataVerdict::Failed,
                        _ => DataVerdict::Stored { trace_id: "1".into() },
                    };
                    self.input(Input::Data(verdict));
                } else {
                    assert_eq!(progress.consumed, rest.len());
                    self.reading = Reading::Data(unstuffer, message);
                }
                progress.consumed
            }
        }
    }

    fn take_line(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        self.line.extend_from_slice(&rest[..length]);
        if !self.line.ends_with(b"\n") {
            return length;
        }
        let line = std::mem::take(&mut self.line);
        match line.strip_suffix(b"\r\n") {
            Some(text) if text.contains(&b'\r') || text.contains(&0) => self.input(Input::LineBroken),
            Some(text) if text.len() > self.session.max_line() => self.input(Input::LineTooLong),
            Some(text) => self.input(Input::Line(text)),
            None => self.input(Input::LineBroken),
        }
        length
    }

    /// 0 to 3, from the choice and how often was chosen.
    fn choose(&mut self) -> u8 {
        self.verdicts = self.verdicts.rotate_left(2).wrapping_add(1);
        self.verdicts & 3
    }

    fn keys(&mut self) -> KeysFound {
        match self.choose() {
            0 => KeysFound::TryLater,
            _ => KeysFound::Found(Credentials { salt: vec![1; 16], iterations: 4096, keys: vec![], nonce: "n".into() }),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut action = self.session.handle(input);
        loop {
            if let Some(envelope) = self.session.envelope() {
                assert!(envelope.require_tls != RequireTls::Required || self.session.tls().is_some());
                assert!(envelope.recipients.len() <= 3 && self.session.greeting().is_some());
                assert!(self.login != Login::Missing, "a transaction without a login");
            }
            let next = match action {
                Action::Listen => return,
                Action::Reply(reply) | Action::Challenge(reply) => return self.write(&reply),
                Action::ReadData(reply) => {
                    self.reading = Reading::Data(Unstuffer::new(), Vec::new());
                    return self.write(&reply);
                }
                Action::ReplyAndClose(reply) => {
                    self.reading = Reading::Closed;
                    return self.write(&reply);
                }
                Action::Close => {
                    self.reading = Reading::Closed;
                    return;
                }
                Action::StartTls(reply) => {
                    self.write(&reply);
                    tls_started()
                }
                Action::FindKeys { name } => {
                    assert!(!name.is_empty());
                    Input::Keys(self.keys())
                }
                Action::CheckLogin(attempt) => {
                    assert!(!attempt.name.is_empty());
                    Input::Login(match self.choose() {
                        0 => LoginVerdict::Refused,
                        1 => LoginVerdict::TryLater,
                        _ => {
                            self.login = Login::Accepted;
                            LoginVerdict::Accepted
                        }
                    })
                }
                Action::CheckSender(_) => Input::Sender(match self.choose() {
                    0 => SenderVerdict::Foreign,
                    1 => SenderVerdict::TryLater,
                    _ => SenderVerdict::Own,
                }),
                Action::CheckSpace { .. } => Input::Space(if self.choose() == 3 { SpaceVerdict::Short } else { SpaceVerdict::Enough }),
                Action::CheckRecipient(_) => Input::Recipient(match self.choose() {
                    0 => RecipientVerdict::UnknownUser,
                    1 => RecipientVerdict::MailboxFull,
                    _ => RecipientVerdict::Accepted,
                }),
            };
            action = self.session.handle(next);
        }
    }

    fn write(&mut self, reply: &Reply) {
        let octets = reply.encode();
        let lines: Vec<&[u8]> = octets.split_inclusive(|byte| *byte == b'\n').collect();
        for (at, line) in lines.iter().enumerate() {
            assert!(line.len() <= 512 && line.ends_with(b"\r\n") && line[..3].iter().all(u8::is_ascii_digit));
            assert_eq!(line[3], if at + 1 == lines.len() { b' ' } else { b'-' });
            assert!(line[..line.len() - 2].iter().all(|byte| (b' '..=b'~').contains(byte)));
        }
        self.transcript.written.extend_from_slice(&octets);
    }
}
