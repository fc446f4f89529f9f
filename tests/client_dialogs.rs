//! Plays every conversation of `tests/client_dialogs/` through the sending machine. Its `README.md` has the format.
//!
//! No socket, no clock: the peer's lines are in the file, and what the machine sends must be there too, line by line.

use std::collections::VecDeque;
use std::path::Path;

use pipit::mail::address::Address;
use pipit::mail::domain::Domain;
use pipit::mail::envelope::Body;
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
use pipit::proto::smtp::client::words::Transaction;
use pipit::proto::smtp::client::words::Why;
use pipit::proto::smtp::dot::Faults;
use pipit::proto::smtp::dot::NotCanonical;
use pipit::proto::smtp::peer_reply::ReplyFault;
use pipit::proto::smtp::peer_reply::ReplyReader;

/// Fewer files than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 60;

#[test]
fn every_dialog_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client_dialogs");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= AT_LEAST, "only {} dialogs in {}", files.len(), folder.display());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| play(&std::fs::read_to_string(path).unwrap()).err().map(|why| format!("{}: {why}", path.display())))
        .collect();
    assert!(failures.is_empty(), "{} of {} dialogs failed:\n{}", failures.len(), files.len(), failures.join("\n"));
}

#[test]
fn the_player_itself_is_strict() {
    let wrong = [
        ("!nonsense", "unknown"),
        ("X: what", "unknown"),
        ("!connect\nS: 220 mx\nS: 250 x", "is left over"),
        ("!connect\nS: 220 mx\nC: HELO x", "expected"),
        ("!connect\nC: EHLO x", "nothing more"),
        ("!greeted\n!begin\nC: MAIL …\nC: RCPT …", "nothing more"),
        ("!greeted\nS: 250 x", "nobody reads"),
        ("!connect\n!ready", "expected"),
        ("!connect\nS: 554 no\n!fails the host refused EHLO…", "expected"),
        ("!connect\nS: 554 no", "is left over"),
        ("!connect\n!security plaintext", "too late"),
        ("!connect\nS: 220 mx\nC: EHLO …\nS: 250-mx", "amid a reply"),
    ];
    for (text, reason) in wrong {
        let why = play(text).expect_err(text);
        assert!(why.contains(reason), "{text}: {why}");
    }
}

fn play(text: &str) -> Result<(), String> {
    let mut player = Player::new();
    for (at, line) in text.lines().enumerate() {
        player.line(line).map_err(|why| format!("line {}: {why}", at + 1))?;
    }
    player.nothing_left().map_err(|why| format!("at the end: {why}"))
}

/// What the message of the next `!begin` is.
struct Message {
    reverse_path: ReversePath,
    recipients: Vec<Outgoing>,
    body: Body,
    smtp_utf8: bool,
    size: u64,
    ret: Ret,
    envid: Option<String>,
}

impl Message {
    fn new() -> Message {
        Message {
            reverse_path: ReversePath::parse("<bob@sender.example>").expect("a plain path"),
            recipients: Vec::new(),
            body: Body::SevenBit,
            smtp_utf8: false,
            size: 1000,
            ret: Ret::Unset,
            envid: None,
        }
    }
}

struct Player {
    security: Security,
    own_names: Vec<Domain>,
    session: Option<Session>,
    message: Message,
    reader: ReplyReader,
    /// lines, and what else the machine wants, that no line of the file has matched yet
    said: VecDeque<String>,
    /// what is waited for, if a reply is
    reading: Option<String>,
    amid_reply: bool,
}

impl Player {
    fn new() -> Player {
        Player {
            security: Security::Opportunistic,
            own_names: vec![],
            session: None,
            message: Message::new(),
            reader: ReplyReader::new(),
            said: VecDeque::new(),
            reading: None,
            amid_reply: false,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(expected) = line.strip_prefix("C: ").or(line.strip_prefix("> ")) {
            return self.expect(expected);
        }
        if let Some(reply) = line.strip_prefix("S:") {
            return self.peer_says(reply.strip_prefix(' ').unwrap_or(reply));
        }
        let words: Vec<&str> = line.strip_prefix('!').ok_or("unknown line")?.split(' ').collect();
        match words.as_slice() {
            ["security" | "own", ..] if self.session.is_some() => Err("a setting comes too late".into()),
            ["security", "plaintext"] => {
                self.security = Security::Plaintext;
                Ok(())
            }
            ["own", name] => {
                self.own_names.push(Domain::parse(name).map_err(|error| error.to_string())?);
                Ok(())
            }
            ["fails", rest @ ..] => self.expect(&format!("(fails) {}", rest.join(" "))),
            ["ready"] => self.expect("(ready)"),
            ["waits", rest @ ..] => self.waits(&rest.join(" ")),
            ["usable"] => self.usable("usable"),
            ["unusable"] => self.usable("unusable"),
            ["secure", what] => self.secure(what),
            ["from", rest @ ..] => self.from(rest),
            ["to", address, rest @ ..] => self.to(address, rest),
            ["greeted", keywords @ ..] => self.greeted(keywords),
            rest => {
                self.all_heard()?;
                self.event(rest)
            }
        }
    }

    fn event(&mut self, words: &[&str]) -> Result<(), String> {
        let facts = TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() };
        match words {
            ["connect"] => self.input(Input::Connected),
            ["tls"] => self.input(Input::TlsStarted(facts)),
            ["tls-fails"] => self.input(Input::TlsFailed("no common suite".into())),
            ["plaintext-waits"] => self.input(Input::PlaintextWaits),
            ["sent"] => self.input(Input::DataSent),
            ["not-canonical"] => {
                self.input(Input::DataFailed(DataFault::NotCanonical(NotCanonical(Faults { nul: true, ..Faults::default() }))))
            }
            ["unreadable"] => self.input(Input::DataFailed(DataFault::Source("the disk failed".into()))),
            ["lost"] => self.input(Input::Broken(Break::Lost(String::new()))),
            ["timeout"] => self.input(Input::Broken(Break::TimedOut)),
            ["line-too-long"] => self.input(Input::Broken(Break::Garbage(ReplyFault::LineTooLong))),
            ["line-broken"] => self.input(Input::Broken(Break::Garbage(ReplyFault::LineBroken))),
            ["begin"] => self.begin(),
            ["quit"] => self.input(Input::Quit),
            other => Err(format!("unknown line {}", other.join(" "))),
        }
    }

    /// The way to `(ready)` that goes well: `!greeted SIZE=100 PIPELINING` offers `SIZE 100` and `PIPELINING`.
    fn greeted(&mut self, keywords: &[&str]) -> Result<(), String> {
        self.line("!connect")?;
        self.line("S: 220 mx.example.org ESMTP")?;
        self.line("C: EHLO out.sender.example")?;
        for keyword in ["mx.example.org"].iter().chain(keywords).take(keywords.len()) {
            self.line(&format!("S: 250-{}", keyword.replacen(':', " ", 1)))?;
        }
        self.line(&format!("S: 250 {}", keywords.last().unwrap_or(&"mx.example.org").replacen(':', " ", 1)))?;
        self.line("!ready")
    }

    fn from(&mut self, words: &[&str]) -> Result<(), String> {
        self.message = Message::new();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "path" => self.message.reverse_path = ReversePath::parse(value).map_err(|error| error.to_string())?,
                "size" => self.message.size = value.parse().map_err(|_| "unknown size")?,
                "8bit" => self.message.body = Body::EightBit,
                "utf8" => self.message.smtp_utf8 = true,
                "ret" => self.message.ret = Ret::parse(value).ok_or("unknown RET")?,
                "envid" => self.message.envid = Some(value.into()),
                _ => return Err(format!("unknown word {word}")),
            }
        }
        Ok(())
    }

    fn to(&mut self, address: &str, words: &[&str]) -> Result<(), String> {
        let address = Address::parse(address).map_err(|error| error.to_string())?;
        let mut outgoing = Outgoing { address, notify: Notify::Unset, orcpt: None };
        for word in words {
            match word.split_once('=') {
                Some(("notify", value)) => outgoing.notify = Notify::parse(value).ok_or("unknown NOTIFY")?,
                Some(("orcpt", value)) => outgoing.orcpt = Some(value.into()),
                Some(("times", value)) => {
                    let more = value.parse::<usize>().map_err(|_| "unknown number")?;
                    self.message.recipients.extend(vec![outgoing.clone(); more - 1]);
                }
                _ => return Err(format!("unknown word {word}")),
            }
        }
        self.message.recipients.push(outgoing);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), String> {
        if self.message.recipients.is_empty() {
            self.to("ann@example.org", &[])?;
        }
        let message = std::mem::replace(&mut self.message, Message::new());
        let transaction = Transaction {
            reverse_path: &message.reverse_path,
            recipients: message.recipients,
            body: message.body,
            smtp_utf8: message.smtp_utf8,
            size: message.size,
            ret: message.ret,
            envid: message.envid.as_deref(),
        };
        self.input(Input::Begin(&transaction))
    }

    fn peer_says(&mut self, line: &str) -> Result<(), String> {
        self.all_heard()?;
        if self.reading.is_none() {
            return Err("nobody reads".into());
        }
        match self.reader.line(&unescape(line)?) {
            Ok(None) => {
                self.amid_reply = true;
                Ok(())
            }
            Ok(Some(reply)) => self.input(Input::Reply(reply)),
            Err(fault) => self.input(Input::Broken(Break::Garbage(fault))),
        }
    }

    fn input(&mut self, input: Input<'_>) -> Result<(), String> {
        let params = Params {
            name: Domain::parse("out.sender.example").expect("a plain name"),
            own_names: self.own_names.as_slice().into(),
            security: self.security,
        };
        let session = self.session.get_or_insert_with(|| Session::new(params));
        self.amid_reply = false;
        self.reading = None;
        match session.handle(input) {
            Action::Read(stage) => self.reading = Some(stage.to_string()),
            Action::Send(octets, stage) => {
                self.reading = Some(stage.to_string());
                let text = String::from_utf8(octets).map_err(|_| "a command is not UTF-8")?;
                for line in text.split_inclusive("\r\n") {
                    let line = line.strip_suffix("\r\n").ok_or("a command does not end with CRLF")?;
                    if line.contains(['\r', '\n', '\0']) {
                        return Err(format!("not a command: {line:?}"));
                    }
                    self.said.push_back(line.to_owned());
                }
            }
            Action::StartTls => self.said.push_back("(handshake)".into()),
            Action::Ready => self.said.push_back("(ready)".into()),
            Action::SendData => self.said.push_back("(message)".into()),
            Action::Done(outcomes) => self.said.extend(outcomes.iter().map(outcome_line)),
            Action::Fail(failure) => {
                if failure.why().status.class != 4 {
                    return Err("a host's failure is permanent".into());
                }
                self.said.push_back(format!("(fails) {failure}"));
            }
            Action::Close => self.said.push_back("(close)".into()),
        }
        Ok(())
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let said = self.said.pop_front().ok_or_else(|| format!("expected {expected:?}, but nothing more was said"))?;
        let same = match expected.strip_suffix('…') {
            Some(begin) => said.starts_with(begin),
            None => said == expected,
        };
        if same { Ok(()) } else { Err(format!("expected {expected:?}, found {said:?}")) }
    }

    fn waits(&self, stage: &str) -> Result<(), String> {
        if self.reading.as_deref() == Some(stage) { Ok(()) } else { Err(format!("expected to wait for {stage}, found {:?}", self.reading)) }
    }

    fn usable(&self, expected: &str) -> Result<(), String> {
        let usable = self.session.as_ref().is_some_and(Session::is_usable);
        let found = if usable { "usable" } else { "unusable" };
        if found == expected { Ok(()) } else { Err(format!("the session is {found}")) }
    }

    fn secure(&self, what: &str) -> Result<(), String> {
        let found = self.session.as_ref().and_then(Session::tls).map_or("no", |facts| facts.version.as_str());
        if found == what { Ok(()) } else { Err(format!("expected {what}, found {found}")) }
    }

    fn all_heard(&self) -> Result<(), String> {
        match self.said.front() {
            None => Ok(()),
            Some(line) => Err(format!("{line:?} is left over")),
        }
    }

    fn nothing_left(&self) -> Result<(), String> {
        if self.amid_reply {
            return Err("the file ends amid a reply".into());
        }
        self.all_heard()
    }
}

fn outcome_line(outcome: &Outcome) -> String {
    let because = |word: &str, why: &Why| match &why.reply {
        Some(reply) => format!("{word} {}: {reply}", why.status),
        None => format!("{word} {}, {}", why.status, why.text),
    };
    match outcome {
        Outcome::Delivered(reply) => format!("delivered: {reply}"),
        Outcome::Deferred(why) => because("deferred", why),
        Outcome::Failed(why) => because("failed", why),
        Outcome::NextHost(why) => because("next host", why),
        Outcome::NextTransaction => "next transaction".into(),
    }
}

/// `\xNN` is an octet, `\{ab*65}` is `ab` 65 times.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((plain, special)) = rest.split_once('\\') {
        octets.extend_from_slice(plain.as_bytes());
        if let Some(run) = special.strip_prefix('{') {
            let (what, after) = run.split_once('}').ok_or("bad escape")?;
            let (piece, times) = what.split_once('*').ok_or("bad escape")?;
            octets.extend(piece.repeat(times.parse().map_err(|_| "bad escape")?).bytes());
            rest = after;
        } else {
            let digits = special.strip_prefix('x').and_then(|digits| digits.get(..2)).ok_or("bad escape")?;
            octets.push(u8::from_str_radix(digits, 16).map_err(|_| "bad escape")?);
            rest = &special[3..];
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
