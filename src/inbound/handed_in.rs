//! Mail that a process of this machine hands in: `pipit send`, the name `sendmail`, and `DIR/send.sock`.
//!
//! Comes in: who calls, the request, and the octets of the message over the caller's channel. Goes out: one row with the id,
//! after the message is on disk (promise R1): copies for people here, queue rows for the others. `control` calls this for a
//! running server, `cli::ask` for a directory without one; both are faces, and neither knows the other.
//! The header gets what a program forgets: From, and what every submission gets (Date, Message-ID). A From without a
//! domain (`root (Cron Daemon)`) is completed.

use std::time::Duration;

use log::info;
use ring::rand::SystemRandom;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::send;
use crate::admin::send::BAD_DATA;
use crate::admin::send::BAD_USAGE;
use crate::admin::send::Caller;
use crate::admin::send::NO_PERMISSION;
use crate::admin::send::NO_USER;
use crate::admin::send::Rule;
use crate::admin::send::Sender;
use crate::admin::send::TRY_LATER;
use crate::admin::send::UNAVAILABLE;
use crate::admin::send::refused;
use crate::admin::wire::SendRequest;
use crate::admin::wire::SentRow;
use crate::config::settings::Settings;
use crate::intake::outgoing;
use crate::intake::outgoing::Facts;
use crate::intake::recipients;
use crate::intake::recipients::Destination;
use crate::intake::recipients::Resolved;
use crate::intake::senders;
use crate::intake::senders::Ownership;
use crate::intake::submit;
use crate::intake::submit::Submission;
use crate::intake::trace::new_trace_id;
use crate::mail::address::Address;
use crate::mail::address_list;
use crate::mail::envelope::Body;
use crate::mail::header;
use crate::mail::header::Gathered;
use crate::mail::header::Gatherer;
use crate::mail::header::HeaderEnd;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ForwardPath;
use crate::metrics::MessageOutcome;
use crate::net::breathe::breathe;
use crate::net::budget::Reserved;
use crate::proto::smtp::parameters::is_envid;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Reader;
use crate::store::Spool;
use crate::store::Spooled;
use crate::store::messages::Reception;
use crate::store::queue::NewRecipient;
use crate::store::queue::Origin;
use crate::store::room;
use crate::store::room::Room;

/// Octets taken from the channel at a time.
const STEP: usize = 64 * 1024;
/// Memory of one message before it is written ahead; at most 16 are under way.
const SPOOL_MEMORY: usize = 256 * 1024;

/// How long a program waits for memory that others hold; `sendmail` then says "try later".
const MEMORY_PATIENCE: Duration = Duration::from_secs(30);

/// As whom, and to whom.
struct Plan {
    sender: Sender,
    local: Vec<Destination>,
    /// the addresses that led to them
    named: Vec<Address>,
    remote: Vec<Address>,
}

/// Takes the message that follows and answers with a `SentRow`.
pub async fn take<C: Channel>(instance: &Instance, caller: &Caller, request: SendRequest, channel: &mut C) -> Result<(), Failure> {
    let settings = instance.live.current();
    look_at_size(instance, &settings, &request)?;
    let plan = instance.store.read(|reader| plan(reader, &settings, caller, &request))??;
    let notify = parameter("NOTIFY", request.notify.as_deref(), Notify::parse)?;
    let ret = parameter("RET", request.ret.as_deref(), Ret::parse)?;
    if request.envid.as_deref().is_some_and(|envid| !is_envid(envid)) {
        return Err(refused("this is no ENVID", "at most 100 printable characters without = and blanks, see RFC 3461", BAD_USAGE));
    }
    let _reserved = reserve(instance, request.octets).await?;
    let message = read(instance, &plan.sender, &request, channel).await?;
    let now = instance.clock.now();
    let trace_id = new_trace_id(now, &SystemRandom::new()).map_err(|_| refused("there is no randomness", "try again", TRY_LATER))?;
    let (id, who) = (QueueId::parse(&trace_id).ok_or_else(|| refused("the id is none", "report this", UNAVAILABLE))?, name_of(caller));
    let front = format!("Received: by {} (Pipit, handed in by {who})\r\n\tid {trace_id}; {}\r\n", settings.hostname, now.rfc5322());
    let size = message.spool.len();
    let mut front = front.into_bytes();
    front.extend_from_slice(&message.additions);
    let spooled: Spooled = message.spool.finish(front)?;
    let (path, local, remote) = (plan.sender.path.clone(), plan.local.len(), plan.remote.len());
    let with_wishes = |address| NewRecipient { address, notify, orcpt: None };
    let submission = Submission {
        spooled,
        id,
        reverse_path: plan.sender.path,
        sender: plan.sender.account,
        smtp_utf8: plan.remote.iter().any(|address| !address.local.is_ascii()),
        local: plan.local,
        named: plan.named.into_iter().map(with_wishes).collect(),
        remote: plan.remote.into_iter().map(with_wishes).collect(),
        body: message.body,
        ret,
        envid: request.envid,
        received: now,
        digest: message.digest,
        require_tls: message.wish,
        reception: Reception {
            tls: None,
            client: match &caller {
                Caller::Owner => "a command on this machine".to_owned(),
                Caller::User(_) => format!("local user {who}"),
            },
            helo: String::new(),
            trace_id: trace_id.clone(),
        },
        origin: Origin::Submitted,
    };
    let submitted = submit::submit(&instance.store, &settings, submission).await;
    let submitted = submitted.inspect_err(|error| log::warn!("message {trace_id} not stored: {error}"))?;
    if submitted.notice.is_some() {
        instance.metrics.notices.add_one();
    }
    instance.metrics.messages.add_one(MessageOutcome::Stored);
    instance.metrics.message_bytes.add(size);
    info!("message {trace_id} from {path} handed in by {who}, {size} octets, {local} mailboxes, {remote} to other hosts");
    let row = SentRow { id: trace_id, local: local as u64, queued: remote as u64 };
    crate::admin::row(channel, &row).await?;
    Ok(())
}

/// The share of the budget (promise R8) for what the message may hold: its spool, or its header before that, twice since it
/// is completed in a copy. A command without a server has the memory to itself.
async fn reserve(instance: &Instance, octets: u64) -> Result<Option<Reserved>, Failure> {
    let Some(serving) = &instance.serving else { return Ok(None) };
    let held = usize::try_from(octets).unwrap_or(SPOOL_MEMORY).min(SPOOL_MEMORY);
    match serving.budget.take(2 * held, MEMORY_PATIENCE).await {
        Ok(reserved) => Ok(Some(reserved)),
        Err(_) => Err(refused("too many messages are under way", "try again later", TRY_LATER)),
    }
}

fn name_of(caller: &Caller) -> String {
    match caller {
        Caller::Owner => "the system".to_owned(),
        // Names of /etc/passwd have no parentheses and no control characters; if one has, it must not end our comment.
        Caller::User(name) => name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect(),
    }
}

fn parameter<T: Default>(name: &str, text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    let Some(text) = text else { return Ok(T::default()) };
    // sendmail's -R takes `hdrs` and `full`, -N `never` or a list, in any case.
    parse(&text.to_ascii_uppercase()).ok_or_else(|| refused(format!("{text:?} is no {name}"), "see RFC 3461", BAD_USAGE))
}

fn look_at_size(instance: &Instance, settings: &Settings, request: &SendRequest) -> Result<(), Failure> {
    let max = settings.limits.message_size;
    if request.octets > max {
        let error = format!("the message has {} octets, more than the {max} that are taken", request.octets);
        return Err(refused(error, "raise limits.message-size, or send less", UNAVAILABLE));
    }
    match room::in_store(&instance.store, Some(request.octets), settings.limits.min_free)? {
        Room::Short { .. } => Err(refused("the disk is nearly full", "free some space, then try again", TRY_LATER)),
        _ => Ok(()),
    }
}

/// Decides about sender and recipients in one view of the store. One wrong recipient refuses all: nobody would tell the
/// program which of them did not get it.
fn plan(reader: &Reader<'_>, settings: &Settings, caller: &Caller, request: &SendRequest) -> Result<Result<Plan, Failure>, Error> {
    let sender = match send::sender(reader, settings, caller, request.from.as_deref())? {
        Ok(sender) => sender,
        Err(failure) => return Ok(Err(failure)),
    };
    if let (Rule::Own(account), Some(_)) = (sender.rule, &request.from)
        && let crate::mail::path::ReversePath::Address(address) = &sender.path
        && senders::may_send_as(reader, settings, account, address)? != Ownership::Own
    {
        return Ok(Err(refused(
            format!("{address} is not yours to send from"),
            "leave -f out, or use an address of your own",
            NO_PERMISSION,
        )));
    }
    let mut plan = Plan { sender, local: Vec::new(), named: Vec::new(), remote: Vec::new() };
    for text in &request.to {
        let address = match send::complete(settings, text) {
            Ok(address) => address,
            Err(error) => return Ok(Err(refused(format!("{text:?} is no recipient: {error}"), "write NAME@DOMAIN", BAD_USAGE))),
        };
        let address = reader_of_root(reader, settings, text, address)?;
        if let Err(failure) = plan.add(reader, settings, address, request.octets)? {
            return Ok(Err(failure));
        }
        // Looked at here, not behind the loop: a request has room for thousands, and each is looked for among the others.
        if plan.remote.len() + plan.local.len().max(plan.named.len()) > settings.limits.recipients {
            let error = format!("more than {} recipients", settings.limits.recipients);
            return Ok(Err(refused(error, "raise limits.recipients, or send in parts", UNAVAILABLE)));
        }
    }
    Ok(Ok(plan))
}

/// Cron and its like write to `root`, whom nobody makes an account of on a new machine: the postmaster reads it then.
fn reader_of_root(reader: &Reader<'_>, settings: &Settings, text: &str, address: Address) -> Result<Address, Error> {
    if !text.trim().eq_ignore_ascii_case("root") {
        return Ok(address);
    }
    Ok(match recipients::resolve(reader, settings, &ForwardPath::Address(address.clone()), 0)? {
        Resolved::Unknown => send::postmaster(settings)?,
        Resolved::Here(_) | Resolved::Full | Resolved::NotLocal => address,
    })
}

impl Plan {
    fn add(&mut self, reader: &Reader<'_>, settings: &Settings, address: Address, octets: u64) -> Result<Result<(), Failure>, Error> {
        let path = ForwardPath::Address(address.clone());
        match recipients::resolve(reader, settings, &path, octets)? {
            Resolved::Here(found) => {
                for destination in found {
                    if !self.local.iter().any(|other| other.account == destination.account) {
                        self.local.push(destination);
                    }
                }
                if !self.named.contains(&address) {
                    self.named.push(address);
                }
            }
            // As on the submission ports: nobody has mail there, and it would come back here.
            Resolved::NotLocal if address.domain == settings.hostname => {
                let hint = match settings.local_domains().next() {
                    Some(domain) => format!("nothing was sent to anybody; did you mean {}@{domain}?", address.local),
                    None => "nothing was sent to anybody; list a [[domain]] of yours in the configuration".to_owned(),
                };
                return Ok(Err(refused(format!("nobody has mail at {}, the name of this server", address.domain), &hint, NO_USER)));
            }
            Resolved::NotLocal => {
                if !self.remote.iter().any(|other| other.domain == address.domain && other.local == address.local) {
                    self.remote.push(address);
                }
            }
            Resolved::Unknown => {
                return Ok(Err(refused(
                    format!("there is no {address} here"),
                    "nothing was sent to anybody; `pipit user list` and `pipit alias list` show who is",
                    NO_USER,
                )));
            }
            Resolved::Full => {
                return Ok(Err(refused(
                    format!("the mailbox of {address} is full"),
                    "nothing was sent to anybody; remove some mail, or raise its quota",
                    TRY_LATER,
                )));
            }
        }
        Ok(Ok(()))
    }
}

/// A message that was read, examined and spooled.
struct Message {
    spool: Spool,
    additions: Vec<u8>,
    digest: crate::mail::digest::Digest,
    wish: crate::mail::envelope::RequireTls,
    body: Body,
}

async fn read<C: Channel>(instance: &Instance, sender: &Sender, request: &SendRequest, channel: &mut C) -> Result<Message, Failure> {
    let settings = instance.live.current();
    let mut incoming = Incoming { channel, left: request.octets, body: Body::SevenBit, last: b'\n' };
    let mut gatherer = Gatherer::new();
    while let Some(piece) = incoming.next().await? {
        match gatherer.push(&piece).map_err(|fault| refused(fault.to_string(), "mend the header", BAD_DATA))? {
            Gathered::Complete => break,
            Gathered::More => {}
        }
    }
    let block = gatherer.finish();
    let head = with_author(&settings, sender, request, &block.header);
    look_at_authors(instance, &settings, sender, &head)?;
    let domain = send::home_domain(&settings).clone();
    let facts = Facts { now: instance.clock.now(), domain: &domain, authserv_id: &settings.hostname, random: &SystemRandom::new() };
    let prepared = outgoing::prepare(&head, &facts).map_err(|refusal| refused(refusal.to_string(), "mend the header", BAD_DATA))?;
    let mut spool = Spool::new(&instance.store, SPOOL_MEMORY);
    spool.push(&prepared.header).await?;
    match block.end {
        HeaderEnd::EmptyLine => {}
        HeaderEnd::NotAField | HeaderEnd::EndOfMessage => spool.push(b"\r\n").await?,
    }
    spool.push(&block.rest).await?;
    while let Some(piece) = incoming.next().await? {
        spool.push(&piece).await?;
        breathe().await;
    }
    Ok(Message { spool, additions: prepared.additions, digest: prepared.digest, wish: prepared.wish, body: incoming.body })
}

/// The octets behind the request, looked at on their way.
struct Incoming<'c, C> {
    channel: &'c mut C,
    left: u64,
    body: Body,
    last: u8,
}

impl<C: Channel> Incoming<'_, C> {
    /// The next piece; `None`: that was all. The command line sends canonical lines; another program on the socket must not
    /// bring in what SMTP refuses, and what other servers would read as the end of a message.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let step = usize::try_from(self.left).unwrap_or(STEP).min(STEP);
        if step == 0 {
            return if self.last == b'\n' { Ok(None) } else { Err(not_canonical()) };
        }
        let piece = self.channel.read(step).await?;
        self.left -= step as u64;
        if !piece.is_ascii() {
            self.body = Body::EightBit;
        }
        for byte in &piece {
            if *byte == 0 || (*byte == b'\n') != (self.last == b'\r') {
                return Err(not_canonical());
            }
            self.last = *byte;
        }
        Ok(Some(piece))
    }
}

fn not_canonical() -> Failure {
    refused("the message has a NUL, or a line that does not end in CRLF", "hand it in with `pipit send`, which mends both", BAD_DATA)
}

/// The header with a From that other hosts can answer to: added where it is missing, completed where it has no domain.
fn with_author(settings: &Settings, sender: &Sender, request: &SendRequest, header: &[u8]) -> Vec<u8> {
    let fields: Vec<_> = header::fields(header).take(header::MAX_FIELDS).filter(|field| field.is("From")).collect();
    let (name, address, old) = match fields.as_slice() {
        [] => (request.full_name.clone().unwrap_or_default(), sender.address.clone(), None),
        [field] => match address_list::addresses(field.value()).as_slice() {
            [text] if !text.contains('@') => {
                let mut digest = crate::mail::digest::Digest::default();
                digest.note("From", field.value());
                let address = send::complete(settings, text).unwrap_or_else(|_| sender.address.clone());
                let same = address.local == sender.address.local;
                let shown = name_in(field.value()).unwrap_or_else(|| text.clone());
                (shown, if same { address } else { sender.address.clone() }, Some(field.range.clone()))
            }
            _ => return header.to_vec(),
        },
        _ => return header.to_vec(),
    };
    let mut with = from_field(&name, &address).into_bytes();
    with.extend(match old {
        Some(range) => header::without(header, &[range]),
        None => header.to_vec(),
    });
    with
}

/// The comment of `root (Cron Daemon)`, or the name before the brackets.
fn name_in(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    let inner = match text.split_once('(') {
        Some((_, comment)) => comment.strip_suffix(')')?,
        None => text.split_once('<')?.0,
    };
    let name = inner.trim().trim_matches('"').to_owned();
    (!name.is_empty() && !name.contains(['(', ')', '<', '>', '"', '\\'])).then_some(name)
}

/// `From: "Ann B" <ann@home.test>`; a name beyond ASCII goes as encoded words (RFC 2047).
fn from_field(name: &str, address: &Address) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if clean.trim().is_empty() {
        return format!("From: {address}\r\n");
    }
    if clean.is_ascii() {
        return format!("From: \"{}\" <{address}>\r\n", clean.trim().replace('\\', "\\\\").replace('"', "\\\""));
    }
    let word = |c: char| {
        let mut octets = [0; 4];
        let encoded: String = c.encode_utf8(&mut octets).bytes().map(|byte| format!("={byte:02X}")).collect();
        if c.is_ascii_alphanumeric() { c.to_string() } else { encoded }
    };
    // A word holds at most 75 characters, and no character is split (RFC 2047 sections 2 and 5): 4 octets are 12 letters.
    let letters: Vec<char> = clean.trim().chars().collect();
    let words: Vec<String> =
        letters.chunks(5).map(|part| format!("=?utf-8?q?{}?=", part.iter().map(|c| word(*c)).collect::<String>())).collect();
    format!("From: {}\r\n <{address}>\r\n", words.join("\r\n "))
}

/// Longest display name, in characters.
const MAX_NAME: usize = 100;

/// R15: an account's mail shows the account's addresses, a listed user's those of our domains.
fn look_at_authors(instance: &Instance, settings: &Settings, sender: &Sender, header: &[u8]) -> Result<(), Failure> {
    let authors = match sender.rule {
        Rule::Any => return Ok(()),
        Rule::OurDomains | Rule::Own(_) => {
            outgoing::authors(header).map_err(|refusal| refused(refusal.to_string(), "mend the header", BAD_DATA))?
        }
    };
    for author in authors {
        let allowed = match sender.rule {
            Rule::Any => true,
            Rule::OurDomains => settings.is_local(&author.domain),
            Rule::Own(account) => instance.store.read(|reader| senders::may_send_as(reader, settings, account, &author))? == Ownership::Own,
        };
        if !allowed {
            return Err(refused(format!("the header says From {author}, which is not yours"), "use an address of your own", NO_PERMISSION));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_or_encoded() {
        let ann = Address::parse("ann@home.test").unwrap();
        assert_eq!(from_field("", &ann), "From: ann@home.test\r\n");
        assert_eq!(from_field("Ann \"B\"\r\nBcc: x", &ann), "From: \"Ann \\\"B\\\"Bcc: x\" <ann@home.test>\r\n");
        let encoded = from_field("Zoë Grün", &ann);
        assert!(encoded.is_ascii() && encoded.lines().all(|line| line.len() < 76), "{encoded}");
        assert_eq!(crate::mail::words::decode(&encoded.as_bytes()[5..], 200).trim(), "Zoë Grün <ann@home.test>");
    }

    #[test]
    fn names_are_found_in_comments_and_before_brackets() {
        assert_eq!(name_in(b" root (Cron Daemon)").as_deref(), Some("Cron Daemon"));
        assert_eq!(name_in(b" \"Web Server\" <www-data>").as_deref(), Some("Web Server"));
        assert_eq!(name_in(b" root"), None);
    }
}
