//! A server's whole octet stream through `ReplyReader` and the sending `Session`, with a small driver like the real one.
//!
//! The first octet chooses the messages and how handshakes end. Promises: one outcome for each recipient; a message goes
//! only to a peer that took a recipient, and is delivered only by a 2yz behind its end; commands are single lines, in
//! ASCII unless SMTPUTF8 is offered, with parameters only as offered; TLS once at most; the end stays the end.

use pipit::mail::address::Address;
use pipit::mail::domain::Domain;
use pipit::mail::envelope::Body;
use pipit::mail::notify::Events;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::mail::received::TlsFacts;
use pipit::proto::smtp::client::Action;
use pipit::proto::smtp::client::DataFault;
use pipit::proto::smtp::client::Input;
use pipit::proto::smtp::client::Params;
use pipit::proto::smtp::client::Session;
use pipit::proto::smtp::client::words::Break;
use pipit::proto::smtp::client::words::Outcome;
use pipit::proto::smtp::client::words::Outgoing;
use pipit::proto::smtp::client::words::Security;
use pipit::proto::smtp::client::words::Stage;
use pipit::proto::smtp::client::words::Transaction;
use pipit::proto::smtp::peer_reply::PeerReply;
use pipit::proto::smtp::peer_reply::ReplyFault;
use pipit::proto::smtp::peer_reply::ReplyReader;

pub const SEEDS: &[&[u8]] = &[
    b"\x00220 mx\r\n250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n550 5.1.1 no\r\n452 4.5.3 many\r\n354 go\r\n250 2.0.0 ok\r\n221 bye\r\n",
    b"\x01220-mx\r\n220 mx\r\n250-mx\r\n250-STARTTLS\r\n250 DSN\r\n220 go\r\n250-mx\r\n250-SMTPUTF8\r\n250 LIMITS RCPTMAX=1 MAILMAX=2\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
    b"\x02220 mx\r\n502 what\r\n250 mx\r\n250 ok\r\n550 no\r\n550 no\r\n450 no\r\n250 reset\r\n250 ok\r\n530 TLS\r\n",
    b"\x03220 mx\r\n250-mx\r\n250 PIPELINING\r\n550 5.7.10 no\r\n503 no\r\n503 no\r\n503 no\r\n354 go\r\n250 ok\r\n421 bye\r\n",
    b"\x04220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 later\r\n250 ok\r\n250 ok\r\n250 ok\r\n251 ok\r\n354-go\r\n354 go\r\n451 later\r\n",
];

/// Messages in one session.
const MESSAGES: usize = 3;
/// Nobody can be kept busy longer than one reply a command, and a line of the input is at least 5 octets.
const MOST_STEPS: usize = 16 * 1024;

pub fn target(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    read_alone(stream);
    let mut peer = Peer { rest: stream, took_recipient: false, message_out: false, handshakes: 0, begun: 0, choice: *choice };
    let security = if choice & 8 == 0 { Security::Opportunistic } else { Security::Plaintext };
    let name = Domain::parse("out.sender.example").expect("a plain name");
    let mut session = Session::new(Params { name, own_names: [].as_slice().into(), security });
    let reverse_path = ReversePath::parse("<böb@sender.example>").expect("a plain path");
    let plain_path = ReversePath::parse("<bob@sender.example>").expect("a plain path");
    let transaction = transaction(*choice, if choice & 16 == 0 { &plain_path } else { &reverse_path });
    let mut action = session.handle(Input::Connected);
    for step in 0.. {
        assert!(step < MOST_STEPS);
        let input = match action {
            Action::Ready => peer.begin(&transaction),
            Action::Done(outcomes) => {
                assert_eq!(outcomes.len(), transaction.recipients.len());
                assert!(peer.message_out || !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_))));
                if !session.is_usable() && peer.choice & 32 == 0 {
                    break;
                }
                peer.begin(&transaction)
            }
            Action::Fail(_) | Action::Close => break,
            Action::Send(octets, stage) => {
                check_commands(&octets, &session, stage);
                peer.reply(stage)
            }
            Action::Read(stage) => peer.reply(stage),
            Action::StartTls => {
                assert!(security == Security::Opportunistic && session.tls().is_none());
                peer.handshake()
            }
            Action::SendData => {
                assert!(peer.took_recipient);
                peer.message()
            }
        };
        action = session.handle(input);
    }
    if !session.is_usable() {
        session.handle(Input::Quit);
        assert_eq!(
            session.handle(Input::Reply(PeerReply { code: 250, enhanced: None, lines: vec![] })),
            Action::Close,
            "the end stays the end"
        );
    }
}

/// Whatever lines come, what is kept is small and plain.
fn read_alone(stream: &[u8]) {
    let mut reader = ReplyReader::new();
    for line in stream.split(|byte| *byte == b'\n') {
        match reader.line(line) {
            Ok(None) => {}
            Ok(Some(reply)) => {
                assert!((200..600).contains(&reply.code) && (1..=100).contains(&reply.lines.len()));
                assert!(reply.lines.iter().map(String::len).sum::<usize>() <= 2048);
                assert!(reply.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                assert!(reply.enhanced.is_none_or(|status| status.class == reply.class()));
            }
            Err(_) => reader = ReplyReader::new(),
        }
    }
}

fn check_commands(octets: &[u8], session: &Session, stage: Stage) {
    let text = std::str::from_utf8(octets).expect("commands are UTF-8");
    assert!(text.ends_with("\r\n"));
    let offers = session.offers();
    let lines: Vec<&str> = text.strip_suffix("\r\n").expect("seen").split("\r\n").collect();
    assert!(lines.len() == 1 || offers.pipelining);
    assert!(lines.len() <= 50);
    for line in lines {
        assert!(!line.contains(['\r', '\n', '\0']) && line.len() < 2000);
        assert!(line.is_ascii() || offers.smtp_utf8);
        assert!(line != "." || stage == Stage::DataEnd);
        for (word, offered) in
            [(" SMTPUTF8", offers.smtp_utf8), (" BODY=", offers.eight_bit_mime), (" NOTIFY=", offers.dsn), (" RET=", offers.dsn)]
        {
            assert!(offered || !line.contains(word), "{line}");
        }
    }
}

fn transaction(choice: u8, reverse_path: &ReversePath) -> Transaction<'_> {
    let outgoing = |local: &str| Outgoing {
        address: Address::parse(&format!("{local}@example.org")).expect("a plain address"),
        notify: Notify::On(Events { success: true, failure: true, delay: false }),
        orcpt: Some("rfc822;ann@example.org".into()),
    };
    Transaction {
        reverse_path,
        recipients: ["ann", "bea", "\"c d\""].map(outgoing).to_vec(),
        body: if choice & 1 == 0 { Body::SevenBit } else { Body::EightBit },
        smtp_utf8: choice & 2 != 0,
        size: 500,
        ret: Ret::Full,
        envid: Some("a+20b"),
    }
}

struct Peer<'d> {
    rest: &'d [u8],
    /// some reply may have been a "yes" to RCPT in this transaction
    took_recipient: bool,
    message_out: bool,
    handshakes: usize,
    begun: usize,
    choice: u8,
}

impl Peer<'_> {
    fn begin<'t>(&mut self, transaction: &'t Transaction<'t>) -> Input<'t> {
        self.begun += 1;
        self.took_recipient = false;
        self.message_out = false;
        if self.begun > MESSAGES { Input::Quit } else { Input::Begin(transaction) }
    }

    fn handshake(&mut self) -> Input<'static> {
        self.handshakes += 1;
        assert_eq!(self.handshakes, 1);
        match self.choice & 6 {
            2 => Input::TlsFailed("no".into()),
            4 => Input::PlaintextWaits,
            _ => Input::TlsStarted(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() }),
        }
    }

    fn message(&mut self) -> Input<'static> {
        if self.choice & 64 != 0 && self.begun == 2 {
            return Input::DataFailed(DataFault::Source("no".into()));
        }
        self.message_out = true;
        Input::DataSent
    }

    fn reply(&mut self, stage: Stage) -> Input<'static> {
        let mut reader = ReplyReader::new();
        loop {
            let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
                return Input::Broken(if self.choice & 128 == 0 { Break::Lost(String::new()) } else { Break::TimedOut });
            };
            let (line, rest) = self.rest.split_at(end + 1);
            self.rest = rest;
            let whole = match line.strip_suffix(b"\r\n") {
                Some(text) if !text.contains(&b'\r') && !text.contains(&0) => reader.line(text),
                Some(_) | None => Err(ReplyFault::LineBroken),
            };
            match whole {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    self.took_recipient |= stage == Stage::Recipient && reply.class() == 2;
                    return Input::Reply(reply);
                }
                Err(fault) => return Input::Broken(Break::Garbage(fault)),
            }
        }
    }
}
