//! Plays every conversation of `tests/dialogs/` through the receiving machine. `tests/dialogs/README.md` has the format.
//!
//! No socket, no clock: a verdict line answers the action that asked for it. What the machine asks for and no line
//! answers gets the friendly verdict (enough space, recipient accepted).

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use pipit::mail::domain::Domain;
use pipit::mail::enhanced::EnhancedStatus;
use pipit::mail::envelope::Body;
use pipit::mail::header::HeaderFault;
use pipit::mail::received::TlsFacts;
use pipit::proto::smtp::dot::Faults;
use pipit::proto::smtp::reply::Reply;
use pipit::proto::smtp::sasl::Attempt;
use pipit::proto::smtp::sasl::Proof;
use pipit::proto::smtp::sasl::base64;
use pipit::proto::smtp::sasl::scram;
use pipit::proto::smtp::sasl::scram::Credentials;
use pipit::proto::smtp::server::Action;
use pipit::proto::smtp::server::DataVerdict;
use pipit::proto::smtp::server::Input;
use pipit::proto::smtp::server::KeysFound;
use pipit::proto::smtp::server::LoginVerdict;
use pipit::proto::smtp::server::Offer;
use pipit::proto::smtp::server::Params;
use pipit::proto::smtp::server::RecipientVerdict;
use pipit::proto::smtp::server::Role;
use pipit::proto::smtp::server::SenderVerdict;
use pipit::proto::smtp::server::Session;
use pipit::proto::smtp::server::SpaceVerdict;

/// Fewer files than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 50;
/// Longest `\{a*N}`: the longest line that the driver hands in (`MAX_LINE`).
const MAX_RUN: usize = 12 * 1024;

#[test]
fn every_dialog_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
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
        ("!connect\nS: 220 …\n!limit errors 5", "too late"),
        ("!connect\nC: NOOP\nS: 250 …", "is left over"),
        ("!connect\nS: 220 …\nS: 250 …", "nothing more"),
        ("!connect\nS: 221 …", "expected"),
        ("!connect\nS: 220 mx", "expected"),
        ("!connect\nS: 220 …\n!recipient unknown", "nobody asked"),
        ("!connect\nS: 220 …\nC: QUIT\nS: 221 …", "close"),
        ("!connect\nS: 220 …\nS: (close)", "nothing more"),
        ("!connect\nS: 220 …\n!expect wish blue", "unknown"),
        ("!connect\nS: 220 …\n!expect with ESMTP", "expected"),
        ("!repeat 2 {\n!connect", "ends the block"),
        ("!repeat 2 {\n!greeted\n!}\nC: NOOP\nS: 500 …", "to go well"),
        ("!greeted\nC: \\{a*99999}\nS: 500 …", "escape"),
    ];
    for (text, reason) in wrong {
        let why = play(text).expect_err(text);
        assert!(why.contains(reason), "{text}: {why}");
    }
}

fn play(text: &str) -> Result<(), String> {
    let mut player = Player::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let place = |why: String| format!("line {}: {why}", at + 1);
        if let Some(count) = lines[at].strip_prefix("!repeat ") {
            let block = block(count, &lines[at + 1..]).map_err(place)?;
            for _ in 0..block.times {
                block.lines.iter().try_for_each(|line| player.line(line)).map_err(place)?;
            }
            at += 1 + block.taken;
        } else {
            player.line(lines[at]).map_err(place)?;
            at += 1;
        }
    }
    player.nothing_left().map_err(|why| format!("at the end: {why}"))
}

/// What `!repeat` plays.
struct Block<'l> {
    times: usize,
    lines: &'l [&'l str],
    /// lines of the file that it stands for
    taken: usize,
}

/// `N {` up to `!}`, or `N` and the lines up to the next `C:` and its `S:` lines.
fn block<'l>(count: &str, behind: &'l [&'l str]) -> Result<Block<'l>, String> {
    let digits = count.strip_suffix(" {");
    let times: usize = digits.unwrap_or(count).parse().map_err(|_| "unknown count")?;
    if digits.is_some() {
        let end = behind.iter().position(|line| *line == "!}").ok_or("nothing ends the block")?;
        return Ok(Block { times, lines: &behind[..end], taken: end + 1 });
    }
    let command = behind.iter().position(|line| line.starts_with("C:")).unwrap_or(behind.len());
    let answers = behind.iter().skip(command + 1).take_while(|line| line.starts_with("S:")).count();
    let end = (command + 1 + answers).min(behind.len());
    Ok(Block { times, lines: &behind[..end], taken: end })
}

/// What a verdict line said, until the machine asks.
enum Verdict {
    Space(SpaceVerdict),
    Recipient(RecipientVerdict),
    Login(LoginVerdict),
    Sender(SenderVerdict),
    Keys(KeysFound),
}

struct Player {
    params: Params,
    session: Option<Session>,
    /// reply lines and `(close)` that no `S:` line has matched yet
    said: VecDeque<String>,
    verdict: Option<Verdict>,
    binding: Offer,
    /// the last login that the machine asked about
    attempt: Option<Attempt>,
}

impl Player {
    fn new() -> Player {
        let params = Params::new(Domain::parse("mx.example.org").expect("a plain name"));
        Player { params, session: None, said: VecDeque::new(), verdict: None, binding: Offer::Offered, attempt: None }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(expected) = line.strip_prefix("S:") {
            return self.server_says(expected.strip_prefix(' ').unwrap_or(expected));
        }
        if let Some(command) = line.strip_prefix("C:") {
            self.all_heard()?;
            let command = unescape(command.strip_prefix(' ').unwrap_or(command))?;
            self.input(Input::Line(&command))?;
            return if self.verdict.is_some() { Err("nobody asked for the verdict".into()) } else { Ok(()) };
        }
        let words: Vec<&str> = line.strip_prefix('!').ok_or("unknown line")?.split(' ').collect();
        match words.as_slice() {
            ["offer" | "limit" | "submission", ..] if self.session.is_some() => Err("a setting comes too late".into()),
            ["submission"] => {
                self.params.role = Role::Submission;
                self.params.require_tls = Offer::Withheld;
                Ok(())
            }
            ["offer", what, "off"] => self.withhold(what),
            ["limit", what, number] => self.limit(what, number.parse().map_err(|_| "unknown number")?),
            ["expect", rest @ ..] => self.expect(rest),
            rest => {
                self.nothing_left()?;
                self.event(rest)
            }
        }
    }

    fn withhold(&mut self, what: &str) -> Result<(), String> {
        match what {
            "starttls" => self.params.starttls = Offer::Withheld,
            "requiretls" => self.params.require_tls = Offer::Withheld,
            "binding" => self.binding = Offer::Withheld,
            _ => return Err(format!("unknown offer {what}")),
        }
        Ok(())
    }

    fn limit(&mut self, what: &str, number: u16) -> Result<(), String> {
        match what {
            "size" => self.params.max_size = number.into(),
            "recipients" => self.params.max_recipients = number.into(),
            "errors" => self.params.max_errors = number,
            "junk" => self.params.max_junk = number,
            "unknown" => self.params.max_unknown_recipients = number,
            _ => return Err(format!("unknown limit {what}")),
        }
        Ok(())
    }

    fn event(&mut self, words: &[&str]) -> Result<(), String> {
        let facts = || TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() };
        match words {
            ["connect"] => self.input(Input::Connected),
            ["greeted"] => self.prepare(&["!connect", "C: EHLO client.example.net"]),
            ["greeted", "tls"] => self.prepare(&["!tls-first", "!connect", "C: EHLO client.example.net"]),
            ["logged-in"] => self.prepare(&["!tls-first", "!connect", "C: EHLO client.example.net", "C: AUTH PLAIN AGFubgBzZWNyZXQ="]),
            ["transaction"] => self.prepare(&["C: MAIL FROM:<bob@example.net>", "C: RCPT TO:<ann@example.org>"]),
            ["too-many-connections"] => self.input(Input::TooManyConnections),
            ["tls-first" | "tls"] => {
                let binding = (self.binding == Offer::Offered).then_some([7; 32]);
                self.input(Input::TlsStarted(facts(), binding))
            }
            ["tls-fails"] => self.input(Input::TlsFailed),
            ["line-too-long"] => self.input(Input::LineTooLong),
            ["line-broken"] => self.input(Input::LineBroken),
            ["timeout"] => self.input(Input::TimedOut),
            ["shutdown"] => self.input(Input::ShuttingDown),
            ["space", "short"] => self.keep(Verdict::Space(SpaceVerdict::Short)),
            ["login", how] => self.keep(Verdict::Login(login_verdict(how)?)),
            ["sender", "foreign"] => self.keep(Verdict::Sender(SenderVerdict::Foreign)),
            ["sender", "later"] => self.keep(Verdict::Sender(SenderVerdict::TryLater)),
            ["keys", "later"] => self.keep(Verdict::Keys(KeysFound::TryLater)),
            ["keys", salt, nonce, passwords @ ..] => {
                let found = credentials(salt, nonce, passwords)?;
                self.keep(Verdict::Keys(KeysFound::Found(found)))
            }
            ["recipient", how] => self.keep(Verdict::Recipient(recipient_verdict(how)?)),
            ["data", rest @ ..] => self.input(Input::Data(data_verdict(rest)?)),
            other => Err(format!("unknown line {}", other.join(" "))),
        }
    }

    fn keep(&mut self, verdict: Verdict) -> Result<(), String> {
        self.verdict = Some(verdict);
        Ok(())
    }

    /// Steps that go well and are not what the file is about.
    fn prepare(&mut self, lines: &[&str]) -> Result<(), String> {
        for line in lines {
            self.line(line)?;
            if self.said.drain(..).any(|said| !said.starts_with('2')) {
                return Err(format!("expected {line} to go well"));
            }
        }
        Ok(())
    }

    /// Hands an input in and answers what the machine asks for, until it listens again.
    fn input(&mut self, input: Input<'_>) -> Result<(), String> {
        let params = &self.params;
        let session = self.session.get_or_insert_with(|| Session::new(Rc::new(params.clone())));
        let mut action = session.handle(input);
        loop {
            action = match action {
                Action::Listen => return Ok(()),
                Action::Reply(reply) | Action::Challenge(reply) | Action::StartTls(reply) | Action::ReadData(reply) => {
                    return self.say(&reply);
                }
                Action::ReplyAndClose(reply) => {
                    self.say(&reply)?;
                    self.said.push_back("(close)".into());
                    return Ok(());
                }
                Action::Close => {
                    self.said.push_back("(close)".into());
                    return Ok(());
                }
                Action::CheckLogin(attempt) => {
                    self.attempt = Some(attempt);
                    session.handle(Input::Login(match self.verdict.take() {
                        None => LoginVerdict::Accepted,
                        Some(Verdict::Login(verdict)) => verdict,
                        Some(_) => return Err("nobody asked for anything but a login".into()),
                    }))
                }
                Action::FindKeys { .. } => match self.verdict.take() {
                    Some(Verdict::Keys(found)) => session.handle(Input::Keys(found)),
                    _ => return Err("expected a line with keys".into()),
                },
                Action::CheckSender(_) => match self.verdict.take() {
                    None => session.handle(Input::Sender(SenderVerdict::Own)),
                    Some(Verdict::Sender(verdict)) => session.handle(Input::Sender(verdict)),
                    Some(other) => {
                        self.verdict = Some(other);
                        session.handle(Input::Sender(SenderVerdict::Own))
                    }
                },
                Action::CheckSpace { .. } => match self.verdict.take() {
                    None => session.handle(Input::Space(SpaceVerdict::Enough)),
                    Some(Verdict::Space(verdict)) => session.handle(Input::Space(verdict)),
                    Some(_) => return Err("nobody asked for anything but space".into()),
                },
                Action::CheckRecipient(_) => match self.verdict.take() {
                    None => session.handle(Input::Recipient(RecipientVerdict::Accepted)),
                    Some(Verdict::Recipient(verdict)) => session.handle(Input::Recipient(verdict)),
                    Some(_) => return Err("nobody asked for anything but a recipient".into()),
                },
            };
        }
    }

    fn say(&mut self, reply: &Reply) -> Result<(), String> {
        let text = String::from_utf8(reply.encode()).map_err(|_| "a reply is not UTF-8")?;
        for line in text.split_inclusive("\r\n") {
            if line.len() > 512 || !line.is_ascii() {
                return Err(format!("not a reply line: {line:?}"));
            }
            self.said.push_back(line.trim_end_matches("\r\n").to_owned());
        }
        Ok(())
    }

    fn server_says(&mut self, expected: &str) -> Result<(), String> {
        let said = self.said.pop_front().ok_or_else(|| format!("expected {expected:?}, but nothing more was said"))?;
        let same = match expected.strip_suffix('…') {
            Some(begin) => said.starts_with(begin),
            None => said == expected,
        };
        if same { Ok(()) } else { Err(format!("expected {expected:?}, the server said {said:?}")) }
    }

    fn nothing_left(&self) -> Result<(), String> {
        if self.verdict.is_some() {
            return Err("nobody asked for the verdict".into());
        }
        self.all_heard()
    }

    fn all_heard(&self) -> Result<(), String> {
        match self.said.front() {
            None => Ok(()),
            Some(line) => Err(format!("{line:?} is left over")),
        }
    }

    fn expect(&self, words: &[&str]) -> Result<(), String> {
        let session = self.session.as_ref().ok_or("expected a session")?;
        let greeting = session.greeting().map(|greeting| greeting.host.to_string());
        let envelope = session.envelope();
        let (found, wanted) = match words {
            ["with", value] => (Some(session.with_protocol().to_string()), value.to_string()),
            ["helo", rest @ ..] => (greeting, rest.join(" ")),
            ["no-greeting"] => (Some(greeting.unwrap_or_default()), String::new()),
            ["no-transaction"] => (Some(session.is_idle().to_string()), "true".into()),
            ["from", path] => (envelope.map(|envelope| envelope.reverse_path.to_string()), path.to_string()),
            ["to", rest @ ..] => {
                let shown = |recipient: &pipit::mail::envelope::Recipient| recipient.path.to_string();
                (envelope.map(|envelope| envelope.recipients.iter().map(shown).collect::<Vec<_>>().join(" ")), rest.join(" "))
            }
            ["wish", wish @ ("default" | "required")] => (envelope.map(|envelope| envelope.require_tls.word().into()), wish.to_string()),
            ["declared", size] => (envelope.and_then(|envelope| envelope.declared_size).map(|size| size.to_string()), size.to_string()),
            ["attempt", rest @ ..] => (self.attempt.as_ref().map(attempt_words), rest.join(" ")),
            ["ret", ret] => (envelope.map(|envelope| envelope.ret.to_string()), ret.to_string()),
            ["envid", envid] => (envelope.and_then(|envelope| envelope.envid.clone()), envid.to_string()),
            ["notify", rest @ ..] => {
                let shown = |recipient: &pipit::mail::envelope::Recipient| {
                    format!("{}/{}", recipient.notify, recipient.orcpt.as_deref().unwrap_or_default())
                };
                (envelope.map(|envelope| envelope.recipients.iter().map(shown).collect::<Vec<_>>().join(" ")), rest.join(" "))
            }
            ["utf8"] => (envelope.map(|envelope| envelope.smtp_utf8.to_string()), "true".into()),
            ["eight-bit"] => (envelope.map(|envelope| (envelope.body == Body::EightBit).to_string()), "true".into()),
            ["tls", version] => (session.tls().map(|facts| facts.version.clone()), version.to_string()),
            other => return Err(format!("unknown expectation {}", other.join(" "))),
        };
        if found.as_ref() == Some(&wanted) { Ok(()) } else { Err(format!("expected {wanted:?}, found {found:?}")) }
    }
}

fn login_verdict(how: &str) -> Result<LoginVerdict, String> {
    match how {
        "refused" => Ok(LoginVerdict::Refused),
        "later" => Ok(LoginVerdict::TryLater),
        _ => Err(format!("unknown verdict {how}")),
    }
}

fn credentials(salt: &str, nonce: &str, passwords: &[&str]) -> Result<Credentials, String> {
    let salt = base64::decode(salt.as_bytes()).ok_or("unknown salt")?;
    let keys = passwords.iter().map(|password| scram::derive(password, &salt, scram::ITERATIONS)).collect();
    Ok(Credentials { salt, iterations: scram::ITERATIONS, keys, nonce: nonce.to_owned() })
}

/// `MECHANISM NAME password TEXT`, `… key HEX` (its stored key begins so) or `… wrong`.
fn attempt_words(attempt: &Attempt) -> String {
    let proof = match &attempt.proof {
        Proof::Password(password) => format!("password {}", password.expose()),
        Proof::Keys(keys) => format!("key {:02x}{:02x}{:02x}{:02x}", keys.stored[0], keys.stored[1], keys.stored[2], keys.stored[3]),
        Proof::Wrong => "wrong".to_owned(),
    };
    format!("{} {} {proof}", attempt.mechanism.name(), attempt.name)
}

fn recipient_verdict(how: &str) -> Result<RecipientVerdict, String> {
    match how {
        "unknown" => Ok(RecipientVerdict::UnknownUser),
        "not-local" => Ok(RecipientVerdict::NotLocal),
        "full" => Ok(RecipientVerdict::MailboxFull),
        "later" => Ok(RecipientVerdict::TryLater),
        _ => Err(format!("unknown verdict {how}")),
    }
}

fn data_verdict(words: &[&str]) -> Result<DataVerdict, String> {
    Ok(match words {
        ["stored", id] => DataVerdict::Stored { trace_id: id.to_string() },
        ["too-big"] => DataVerdict::TooBig,
        ["broken", kinds @ ..] => {
            let has = |kind| kinds.contains(&kind);
            DataVerdict::Broken(Faults { bare_cr: has("cr"), bare_lf: has("lf"), nul: has("nul") })
        }
        ["no-from"] => DataVerdict::BadHeader(HeaderFault::FromCount(0)),
        ["two-froms"] => DataVerdict::BadHeader(HeaderFault::FromCount(2)),
        ["many-fields"] => DataVerdict::BadHeader(HeaderFault::TooManyFields),
        ["big-header"] => DataVerdict::BadHeader(HeaderFault::TooBig),
        ["loop"] => DataVerdict::BadHeader(HeaderFault::Loop),
        ["no-space"] => DataVerdict::NoSpace,
        ["overloaded"] => DataVerdict::Overloaded,
        ["failed"] => DataVerdict::Failed,
        ["refused", code, enhanced, rest @ ..] => {
            let enhanced = EnhancedStatus::parse(enhanced).ok_or("unknown enhanced code")?;
            DataVerdict::Refused(Reply::new(code.parse().map_err(|_| "unknown code")?, enhanced, &rest.join(" ")))
        }
        other => return Err(format!("unknown verdict {}", other.join(" "))),
    })
}

/// `\xNN`, `\\` and `\{a*65}`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('\\') {
            octets.push(b'\\');
            rest = after;
        } else if let Some((run, after)) = behind.strip_prefix('{').and_then(|run| run.split_once('}')) {
            let (unit, count) = run.rsplit_once('*').ok_or("unknown escape")?;
            let count: usize = count.parse().ok().filter(|count| *count <= MAX_RUN).ok_or("unknown escape")?;
            octets.extend(unit.as_bytes().repeat(count));
            rest = after;
        } else {
            let digits = behind.strip_prefix('x').and_then(|hex| hex.get(..2)).ok_or("unknown escape")?;
            octets.push(u8::from_str_radix(digits, 16).map_err(|_| "unknown escape")?);
            rest = &behind[3..];
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
