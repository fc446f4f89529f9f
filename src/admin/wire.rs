//! The words of the control socket: one JSON line in, JSON lines out (`cli.md`, "Control socket").
//!
//! In goes a line of at most 64 KiB from a peer that is root or our own user, but that may still be broken; out comes a
//! `Command`, whose addresses and ids are parsed. Rows and the closing verdict are built here too, so that the socket,
//! the offline command and the tests speak one language.

#![expect(clippy::question_mark, reason = "nanoserde's derive writes its errors out in full")]

use nanoserde::DeJson;
use nanoserde::SerJson;

use crate::admin::json;
use crate::admin::wire::dns::AnchorRow;
use crate::admin::wire::dns::UpstreamRow;
use crate::admin::wire::queue::QueueCommand;
use crate::mail::address::Address;

pub mod dns;
pub mod queue;

/// The control socket's name within the data directory.
pub const SOCKET: &str = "pipit.sock";
/// The socket beside it for programs that hand mail in; it answers `send` only.
pub const SEND_SOCKET: &str = "send.sock";
/// Longest request line (`cli.md`).
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest password: argon2 takes any length, but nobody types more, and a hash of megabytes is an attack.
pub const MAX_PASSWORD: usize = 1024;

/// Everything a person can ask of a running server or of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    UserAdd {
        address: Address,
        password: String,
    },
    UserList,
    UserPasswd {
        address: Address,
        password: String,
    },
    UserRemove {
        address: Address,
    },
    /// makes one; the only time that it is shown
    UserAppPass {
        address: Address,
        name: String,
    },
    UserAppPassList {
        address: Address,
    },
    UserAppPassRemove {
        address: Address,
        name: String,
    },
    AliasAdd {
        address: Address,
        to: Vec<Address>,
    },
    AliasList,
    AliasRemove {
        address: Address,
    },
    MailList {
        address: Address,
        mailbox: Option<String>,
    },
    MailShow {
        address: Address,
        id: u64,
    },
    /// frames follow: `octets` bytes of `ImportFrame` lines, each with its message behind it
    MailImport {
        address: Address,
        octets: u64,
    },
    MailExport {
        address: Address,
    },
    /// the queue and its hold rules
    Queue(QueueCommand),
    DnsAnchors,
    StoreCheck,
    StoreStat,
    ConfigSet {
        key: String,
        value: String,
    },
    /// `bytes` octets of a message follow; done by `inbound::handed_in`, which is where mail comes in
    Send(SendRequest),
    Status,
    Metrics,
    Reload,
    Stop,
}

/// What `send` says about the message behind it. Addresses are as people and programs write them: `root` is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendRequest {
    /// `None`: the sender's own address; empty: the null path
    pub from: Option<String>,
    /// for the From field, if the message brings none
    pub full_name: Option<String>,
    pub to: Vec<String>,
    /// NOTIFY, RET and ENVID of RFC 3461, as written
    pub notify: Option<String>,
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// octets of the message, every line ending in CRLF
    pub octets: u64,
}

/// The answer to `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct SentRow {
    /// the letters that follow the message through log and queue
    pub id: String,
    /// copies in mailboxes here
    pub local: u64,
    /// recipients elsewhere, which now stand in the queue
    pub queued: u64,
}

/// The line before each message of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct ImportFrame {
    pub bytes: u64,
    /// IMAP names, e.g. `\Seen`
    pub flags: Vec<String>,
    /// seconds since 1970; the moment of import when absent
    pub received: Option<i64>,
}

/// The request as JSON has it: one flat object, absent fields are `None`.
#[derive(Default, SerJson, DeJson)]
struct Request {
    #[nserde(rename = "do")]
    verb: String,
    address: Option<String>,
    to: Option<Vec<String>>,
    password: Option<String>,
    name: Option<String>,
    mailbox: Option<String>,
    id: Option<u64>,
    bytes: Option<u64>,
    key: Option<String>,
    value: Option<String>,
    from: Option<String>,
    full_name: Option<String>,
    notify: Option<String>,
    ret: Option<String>,
    envid: Option<String>,
    /// of queued messages
    ids: Option<Vec<String>>,
    /// of recipients in the queue
    domain: Option<String>,
    /// every recipient in the queue
    all: Option<bool>,
    /// of a hold rule: an address or a domain; empty: the null sender
    sender: Option<String>,
    recipient: Option<String>,
}

/// Why a request is none. The sentence goes back to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest(pub String);

/// Parses JSON that came from outside, its grammar and depth checked first.
pub fn parse_json<T: DeJson>(line: &str) -> Result<T, BadRequest> {
    if line.len() > MAX_REQUEST {
        return Err(BadRequest(format!("a request has at most {MAX_REQUEST} octets")));
    }
    json::check(line).map_err(|broken| BadRequest(format!("the request cannot be read: {broken}")))?;
    T::deserialize_json(line).map_err(|error| BadRequest(format!("the request is not the expected JSON: {error}")))
}

impl Request {
    fn address(&self) -> Result<Address, BadRequest> {
        let text = self.address.as_deref().ok_or_else(|| missing(&self.verb, "address"))?;
        Address::parse(text).map_err(|error| BadRequest(format!("{text:?}: {error}")))
    }

    fn password(&mut self) -> Result<String, BadRequest> {
        let password = self.password.take().ok_or_else(|| missing(&self.verb, "password"))?;
        match password.len() {
            0 => Err(BadRequest("the password is empty".into())),
            n if n > MAX_PASSWORD => Err(BadRequest(format!("the password has more than {MAX_PASSWORD} octets"))),
            _ => Ok(password),
        }
    }

    fn send(self) -> Result<SendRequest, BadRequest> {
        let octets = self.bytes.ok_or_else(|| missing("send", "bytes"))?;
        let to = self.to.filter(|to| !to.is_empty()).ok_or_else(|| missing("send", "to"))?;
        Ok(SendRequest { from: self.from, full_name: self.full_name, to, notify: self.notify, ret: self.ret, envid: self.envid, octets })
    }

    fn name(&mut self) -> Result<String, BadRequest> {
        self.name.take().ok_or_else(|| missing(&self.verb, "name"))
    }

    fn targets(&self) -> Result<Vec<Address>, BadRequest> {
        let texts = self.to.as_deref().filter(|to| !to.is_empty()).ok_or_else(|| missing(&self.verb, "to"))?;
        texts.iter().map(|text| Address::parse(text).map_err(|error| BadRequest(format!("{text:?}: {error}")))).collect()
    }
}

fn missing(verb: &str, field: &str) -> BadRequest {
    BadRequest(format!("{verb} needs the field {field:?}"))
}

impl Command {
    /// Parses one request line (without its newline).
    pub fn parse(line: &str) -> Result<Command, BadRequest> {
        let mut request: Request = parse_json(line)?;
        Ok(match request.verb.as_str() {
            "user.add" => Command::UserAdd { address: request.address()?, password: request.password()? },
            "user.list" => Command::UserList,
            "user.passwd" => Command::UserPasswd { address: request.address()?, password: request.password()? },
            "user.remove" => Command::UserRemove { address: request.address()? },
            "user.apppass.add" => Command::UserAppPass { address: request.address()?, name: request.name()? },
            "user.apppass.list" => Command::UserAppPassList { address: request.address()? },
            "user.apppass.remove" => Command::UserAppPassRemove { address: request.address()?, name: request.name()? },
            "alias.add" => Command::AliasAdd { address: request.address()?, to: request.targets()? },
            "alias.list" => Command::AliasList,
            "alias.remove" => Command::AliasRemove { address: request.address()? },
            "mail.list" => Command::MailList { address: request.address()?, mailbox: request.mailbox },
            "mail.show" => Command::MailShow { address: request.address()?, id: request.id.ok_or_else(|| missing("mail.show", "id"))? },
            "mail.import" => {
                Command::MailImport { address: request.address()?, octets: request.bytes.ok_or_else(|| missing("mail.import", "bytes"))? }
            }
            "mail.export" => Command::MailExport { address: request.address()? },
            "send" => Command::Send(request.send()?),
            "dns.anchors" => Command::DnsAnchors,
            "store.check" => Command::StoreCheck,
            "store.stat" => Command::StoreStat,
            "config.set" => Command::ConfigSet {
                key: request.key.ok_or_else(|| missing("config.set", "key"))?,
                value: request.value.ok_or_else(|| missing("config.set", "value"))?,
            },
            verb if queue::VERBS.iter().any(|known| verb.starts_with(known)) => Command::Queue(QueueCommand::parse(&request)?),
            "status" => Command::Status,
            "metrics" => Command::Metrics,
            "reload" => Command::Reload,
            "stop" => Command::Stop,
            other => return Err(BadRequest(format!("{other:?} is no request of this version"))),
        })
    }

    /// The request line of this command, without the newline.
    pub fn to_line(&self) -> String {
        let mut request = Request { verb: self.verb().into(), ..Request::default() };
        match self {
            Command::UserAdd { address, password } | Command::UserPasswd { address, password } => {
                request.address = Some(address.to_string());
                request.password = Some(password.clone());
            }
            Command::AliasAdd { address, to } => {
                request.address = Some(address.to_string());
                request.to = Some(to.iter().map(Address::to_string).collect());
            }
            Command::MailList { address, mailbox } => {
                request.address = Some(address.to_string());
                request.mailbox.clone_from(mailbox);
            }
            Command::MailShow { address, id } => {
                request.address = Some(address.to_string());
                request.id = Some(*id);
            }
            Command::MailImport { address, octets } => {
                request.address = Some(address.to_string());
                request.bytes = Some(*octets);
            }
            Command::UserAppPass { address, name } | Command::UserAppPassRemove { address, name } => {
                request.address = Some(address.to_string());
                request.name = Some(name.clone());
            }
            Command::UserRemove { address }
            | Command::UserAppPassList { address }
            | Command::AliasRemove { address }
            | Command::MailExport { address } => {
                request.address = Some(address.to_string());
            }
            Command::ConfigSet { key, value } => {
                request.key = Some(key.clone());
                request.value = Some(value.clone());
            }
            Command::Send(send) => {
                request.from.clone_from(&send.from);
                request.full_name.clone_from(&send.full_name);
                request.to = Some(send.to.clone());
                request.notify.clone_from(&send.notify);
                request.ret.clone_from(&send.ret);
                request.envid.clone_from(&send.envid);
                request.bytes = Some(send.octets);
            }
            Command::Queue(command) => command.write(&mut request),
            Command::UserList
            | Command::AliasList
            | Command::DnsAnchors
            | Command::StoreCheck
            | Command::StoreStat
            | Command::Status
            | Command::Metrics
            | Command::Reload
            | Command::Stop => {}
        }
        request.serialize_json()
    }

    /// Whether it changes something, which is worth a line of the log.
    pub fn is_change(&self) -> bool {
        if let Command::Queue(command) = self {
            return command.is_change();
        }
        !matches!(
            self,
            Command::UserList
                | Command::UserAppPassList { .. }
                | Command::AliasList
                | Command::MailList { .. }
                | Command::MailShow { .. }
                | Command::MailExport { .. }
                | Command::DnsAnchors
                | Command::StoreCheck
                | Command::StoreStat
                | Command::Status
                | Command::Metrics
        )
    }

    /// The word that names this command, for the socket and the log.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::UserAdd { .. } => "user.add",
            Command::UserList => "user.list",
            Command::UserPasswd { .. } => "user.passwd",
            Command::UserRemove { .. } => "user.remove",
            Command::UserAppPass { .. } => "user.apppass.add",
            Command::UserAppPassList { .. } => "user.apppass.list",
            Command::UserAppPassRemove { .. } => "user.apppass.remove",
            Command::AliasAdd { .. } => "alias.add",
            Command::AliasList => "alias.list",
            Command::AliasRemove { .. } => "alias.remove",
            Command::MailList { .. } => "mail.list",
            Command::MailShow { .. } => "mail.show",
            Command::MailImport { .. } => "mail.import",
            Command::MailExport { .. } => "mail.export",
            Command::Send(_) => "send",
            Command::Queue(command) => command.verb(),
            Command::DnsAnchors => "dns.anchors",
            Command::StoreCheck => "store.check",
            Command::StoreStat => "store.stat",
            Command::ConfigSet { .. } => "config.set",
            Command::Status => "status",
            Command::Metrics => "metrics",
            Command::Reload => "reload",
            Command::Stop => "stop",
        }
    }
}

/// One message of `mail list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct MailRow {
    pub id: u64,
    pub uid: u32,
    pub mailbox: String,
    pub flags: Vec<String>,
    pub size: u64,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub message_id: String,
    /// RFC 3339, UTC
    pub received: String,
    /// `default`, `required` or `waived`
    pub require_tls: String,
    /// version and cipher suite of the receiving session; empty: it was not encrypted
    pub tls: String,
}

/// One account of `user list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct UserRow {
    pub address: String,
    pub messages: u64,
    pub bytes: u64,
    /// RFC 3339, UTC
    pub created: String,
}

/// One app password of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct AppPassRow {
    pub name: String,
    /// RFC 3339, UTC
    pub created: String,
    /// only in the answer to its making
    pub password: Option<String>,
}

/// One alias of `alias list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct AliasRow {
    pub address: String,
    pub to: Vec<String>,
}

/// One table of `store stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct TableRow {
    pub table: String,
    pub rows: u64,
    pub bytes: u64,
}

/// A line of text for people: a finding of `store check`, a notice, a line of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct TextRow {
    pub text: String,
}

/// The answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct StatusRow {
    pub version: String,
    pub hostname: String,
    pub dir: String,
    pub pid: u32,
    /// RFC 3339, UTC
    pub started: String,
    pub now: String,
    pub listening: Vec<String>,
    pub domains: Vec<String>,
    pub accounts: u64,
    pub sessions: u64,
    pub stored_messages: u64,
    pub received: u64,
    /// what waits to be delivered elsewhere
    pub queued_messages: u64,
    pub queued_recipients: u64,
    pub held_recipients: u64,
    /// arrival of the oldest message in the queue, RFC 3339; empty: the queue is empty
    pub queue_oldest: String,
    pub resident_bytes: u64,
    pub disk_available_bytes: u64,
    /// how far the time is believed: `confirmed`, `plausible` or `wrong`
    pub clock: String,
    /// who is asked about the DNS
    pub upstreams: Vec<UpstreamRow>,
    /// what DNS answers are believed by
    pub anchors: Vec<AnchorRow>,
    /// what is good to know, each a sentence
    pub notes: Vec<String>,
    /// what a person should do something about, each a sentence
    pub problems: Vec<String>,
}

/// The line before raw octets of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct OctetsHead {
    pub bytes: u64,
    pub id: u64,
    pub mailbox: String,
}

/// The last line of every answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct Verdict {
    pub ok: Option<bool>,
    pub error: Option<String>,
    pub hint: Option<String>,
    /// exit status of the command line: 1 the answer is "no" or a problem, 2 bad usage
    pub exit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_line() {
        let ann = Address::parse("ann@home.test").unwrap();
        let password = "pass \"word\" \u{e9}\\".to_string();
        let commands = [
            Command::UserAdd { address: ann.clone(), password: password.clone() },
            Command::UserList,
            Command::UserPasswd { address: ann.clone(), password },
            Command::UserRemove { address: ann.clone() },
            Command::UserAppPass { address: ann.clone(), name: "my \"phone\"".into() },
            Command::UserAppPassList { address: ann.clone() },
            Command::UserAppPassRemove { address: ann.clone(), name: "phone".into() },
            Command::AliasAdd { address: ann.clone(), to: vec![ann.clone(), ann.clone()] },
            Command::AliasList,
            Command::AliasRemove { address: ann.clone() },
            Command::MailList { address: ann.clone(), mailbox: Some("Junk".into()) },
            Command::MailList { address: ann.clone(), mailbox: None },
            Command::MailShow { address: ann.clone(), id: u64::MAX },
            Command::MailImport { address: ann.clone(), octets: 7 },
            Command::MailExport { address: ann },
            Command::Send(SendRequest {
                from: Some("ann@home.test".into()),
                full_name: Some("Ann \"B\"".into()),
                to: vec!["root".into(), "a@b.test".into()],
                notify: Some("NEVER".into()),
                ret: None,
                envid: Some("x".into()),
                octets: 12,
            }),
            Command::DnsAnchors,
            Command::StoreCheck,
            Command::StoreStat,
            Command::ConfigSet { key: "limits.connections".into(), value: "7".into() },
            Command::Status,
            Command::Metrics,
            Command::Reload,
            Command::Stop,
        ];
        for command in commands {
            let line = command.to_line();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Command::parse(&line).unwrap_or_else(|e| panic!("{line}: {}", e.0)), command);
        }
    }

    #[test]
    fn broken_requests_are_refused_with_a_sentence() {
        let deep = format!("{{\"do\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
        let long = format!("{{\"do\":\"{}\"}}", "x".repeat(MAX_REQUEST));
        for line in [
            "",
            "{",
            "[]",
            "{}",
            "{\"do\":1}",
            "{\"do\":\"nothing\"}",
            "{\"do\":\"user.add\"}",
            "{\"do\":\"user.add\",\"address\":\"x\"}",
            "{\"do\":\"user.add\",\"address\":\"a@b.c\",\"password\":\"\"}",
            "{\"do\":\"mail.show\",\"address\":\"a@b.c\",\"id\":-1}",
            "nul\0",
            &deep,
            &long,
        ] {
            let error = Command::parse(line).expect_err(&line[..line.len().min(60)]);
            assert!(!error.0.is_empty());
        }
    }
}
