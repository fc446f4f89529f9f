//! Mail of one account: listed, shown, imported, exported.
//!
//! Reading goes in pages of one read transaction each, so that a long listing never holds pages of the store back.
//! An import files several messages in one commit; each message is whole or not there.

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::row;
use crate::admin::users;
use crate::admin::wire::ImportFrame;
use crate::admin::wire::MailRow;
use crate::admin::wire::OctetsHead;
use crate::admin::wire::parse_json;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::RequireTls;
use crate::mail::header;
use crate::mail::path::ReversePath;
use crate::mail::received::delivery_lines;
use crate::net::breathe::breathe;
use crate::store::AccountId;
use crate::store::BlobId;
use crate::store::MailboxId;
use crate::store::MessageId;
use crate::store::Spool;
use crate::store::Spooled;
use crate::store::Uid;
use crate::store::blobs;
use crate::store::mailboxes;
use crate::store::messages;
use crate::store::messages::Flags;
use crate::store::messages::Message;
use crate::store::messages::NewMessage;
use crate::store::messages::Reception;
use crate::store::room;
use crate::store::room::Room;

/// Rows of one read transaction.
const PAGE: usize = 200;
/// Rows between two turns of the event loop.
const TURN: usize = 16;
/// Octets read from the channel at a time.
const STEP: usize = 64 * 1024;
/// Messages filed by one commit of an import, and octets they may have together before it.
const GROUP: usize = 64;
const GROUP_OCTETS: u64 = 1 << 20;
/// Memory of one message of an import before it is written ahead.
const SPOOL_MEMORY: usize = 256 * 1024;

/// IMAP names of the flags that are stored.
const FLAG_WORDS: [(Flags, &str); 5] = [
    (Flags::SEEN, "\\Seen"),
    (Flags::ANSWERED, "\\Answered"),
    (Flags::FLAGGED, "\\Flagged"),
    (Flags::DELETED, "\\Deleted"),
    (Flags::DRAFT, "\\Draft"),
];

fn flag_words(flags: Flags) -> Vec<String> {
    FLAG_WORDS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| (*word).to_string()).collect()
}

fn flags_of(words: &[String]) -> Flags {
    let named = |word: &String| FLAG_WORDS.iter().find(|(_, known)| known.eq_ignore_ascii_case(word));
    words.iter().filter_map(named).fold(Flags::default(), |flags, (flag, _)| flags.with(*flag))
}

fn mail_row(id: MessageId, mailbox: &str, message: Message) -> MailRow {
    let tls = message.reception.tls;
    MailRow {
        id: id.0,
        uid: message.uid.0,
        mailbox: mailbox.to_string(),
        flags: flag_words(message.flags),
        size: message.size,
        from: message.digest.from,
        to: message.digest.to,
        subject: message.digest.subject,
        message_id: message.digest.message_id,
        received: message.received.to_string(),
        require_tls: message.require_tls.word().to_string(),
        tls: tls.map(|facts| format!("{} {}", facts.version, facts.cipher)).unwrap_or_default(),
    }
}

/// The mailboxes of an account, or the one that was named.
fn chosen(instance: &Instance, account: AccountId, name: Option<&str>) -> Result<Vec<(MailboxId, String)>, Failure> {
    let all = instance.store.read(|reader| match name {
        None => mailboxes::list(reader, account),
        Some(name) => Ok(mailboxes::find_by_name(reader, account, name)?.into_iter().collect()),
    })?;
    if let (Some(name), true) = (name, all.is_empty()) {
        return Err(Failure::new(format!("there is no mailbox {name:?}"), "leave --mailbox out to see all of them"));
    }
    Ok(all.into_iter().map(|(id, mailbox)| (id, mailbox.name)).collect())
}

/// Pages through a mailbox by uid.
struct Pages<'i> {
    instance: &'i Instance,
    account: AccountId,
    mailbox: MailboxId,
    after: Uid,
}

impl Pages<'_> {
    fn next(&mut self) -> Result<Vec<(MessageId, Message)>, Failure> {
        let page = self.instance.store.read(|reader| messages::list(reader, self.account, self.mailbox, self.after, PAGE))?;
        if let Some((_, last)) = page.last() {
            self.after = last.uid;
        }
        Ok(page)
    }
}

/// One row a message, mailbox by mailbox, oldest first.
pub async fn list<C: Channel>(instance: &Instance, channel: &mut C, address: &Address, mailbox: Option<&str>) -> Result<(), Failure> {
    let account = users::find(instance, address)?;
    for (mailbox, name) in chosen(instance, account, mailbox)? {
        let mut pages = Pages { instance, account, mailbox, after: Uid(0) };
        loop {
            let page = pages.next()?;
            if page.is_empty() {
                break;
            }
            for (at, (id, message)) in page.into_iter().enumerate() {
                row(channel, &mail_row(id, &name, message)).await?;
                if at % TURN == TURN - 1 {
                    breathe().await;
                }
            }
        }
    }
    Ok(())
}

/// A row of facts, then the message as the recipient gets it.
pub async fn show<C: Channel>(instance: &Instance, channel: &mut C, address: &Address, id: u64) -> Result<(), Failure> {
    let account = users::find(instance, address)?;
    let found = instance.store.read(|reader| {
        let Some(message) = messages::get(reader, account, MessageId(id))? else { return Ok(None) };
        let name = mailboxes::get(reader, account, message.mailbox)?.map(|mailbox| mailbox.name).unwrap_or_default();
        Ok(Some((message, name)))
    })?;
    let Some((message, name)) = found else {
        return Err(Failure::new(format!("{address} has no message {id}"), format!("pipit mail list {address} shows the ids")));
    };
    row(channel, &mail_row(MessageId(id), &name, message.clone())).await?;
    send_message(instance, channel, MessageId(id), &name, &message).await
}

/// Every message of the account, each behind a line that says how long it is.
pub async fn export<C: Channel>(instance: &Instance, channel: &mut C, address: &Address) -> Result<(), Failure> {
    let account = users::find(instance, address)?;
    for (mailbox, name) in chosen(instance, account, None)? {
        let mut pages = Pages { instance, account, mailbox, after: Uid(0) };
        loop {
            let page = pages.next()?;
            if page.is_empty() {
                break;
            }
            for (id, message) in page {
                send_message(instance, channel, id, &name, &message).await?;
            }
        }
    }
    Ok(())
}

/// What stands in front of the blob. An imported message brought its own lines along.
fn lines_in_front(message: &Message) -> String {
    if message.reception.trace_id.is_empty() { String::new() } else { delivery_lines(&message.return_path, &message.delivered_to) }
}

async fn send_message<C: Channel>(
    instance: &Instance,
    channel: &mut C,
    id: MessageId,
    name: &str,
    message: &Message,
) -> Result<(), Failure> {
    let front = lines_in_front(message);
    let head = OctetsHead { bytes: front.len() as u64 + message.size, id: id.0, mailbox: name.to_string() };
    row(channel, &head).await?;
    channel.octets(front.as_bytes()).await?;
    let mut left = message.size;
    for number in 0.. {
        let Some(chunk) = chunk(instance, message.blob, number)? else { break };
        left = left.saturating_sub(chunk.len() as u64);
        channel.octets(&chunk).await?;
    }
    if left > 0 {
        // The announced octets cannot be delivered: the framing is lost, so the connection must end here.
        return Err(Failure::new(format!("message {} is removed or damaged", id.0), "run `pipit store check`"));
    }
    Ok(())
}

fn chunk(instance: &Instance, blob: BlobId, number: u32) -> Result<Option<Vec<u8>>, Failure> {
    Ok(instance.store.read(|reader| blobs::chunk(reader, blob, number))?)
}

/// A message of an import that waits for the commit of its group.
struct Waiting {
    spooled: Spooled,
    flags: Flags,
    received: UnixTime,
    digest: Digest,
}

/// Files the frames that follow into the account's INBOX.
pub async fn import<C: Channel>(instance: &Instance, channel: &mut C, address: &Address, octets: u64) -> Result<(), Failure> {
    let account = users::find(instance, address)?;
    if let Room::Short { .. } = room::in_store(&instance.store, Some(octets), instance.live.current().limits.min_free)? {
        return Err(Failure::new("the disk has no room for this import", "free some space, or attach a larger disk"));
    }
    let (mut left, mut group, mut size) = (octets, Vec::new(), 0);
    while left > 0 {
        let line = channel.read_line().await?;
        left = left.saturating_sub(line.len() as u64 + 1);
        let frame: ImportFrame = parse_json(&line)?;
        if frame.bytes > left {
            return Err(Failure {
                error: "an import frame is longer than the request".into(),
                hint: "nothing of it was stored".into(),
                exit: 2,
            });
        }
        left -= frame.bytes;
        size += frame.bytes;
        group.push(read_message(instance, channel, frame).await?);
        if group.len() >= GROUP || size >= GROUP_OCTETS || left == 0 {
            file_group(instance, account, address, std::mem::take(&mut group)).await?;
            size = 0;
        }
    }
    Ok(())
}

async fn read_message<C: Channel>(instance: &Instance, channel: &mut C, frame: ImportFrame) -> Result<Waiting, Failure> {
    let mut spool = Spool::new(&instance.store, SPOOL_MEMORY);
    let mut header = Vec::new();
    let mut left = frame.bytes;
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(STEP).min(STEP);
        let bytes = channel.read(step).await?;
        left -= step as u64;
        let room = header::MAX_HEADER.saturating_sub(header.len());
        header.extend_from_slice(&bytes[..bytes.len().min(room)]);
        spool.push(&bytes).await?;
        breathe().await;
    }
    // An old mailbox holds messages that would be refused today; they are listed as well as their header allows.
    let mut digest = Digest::default();
    for field in header::fields(&header).take(header::MAX_FIELDS) {
        digest.note(field.name(), field.value());
    }
    let received = frame.received.map_or_else(|| instance.clock.now(), UnixTime);
    Ok(Waiting { spooled: spool.finish(Vec::new())?, flags: flags_of(&frame.flags), received, digest })
}

async fn file_group(instance: &Instance, account: AccountId, address: &Address, group: Vec<Waiting>) -> Result<(), Failure> {
    let address = address.clone();
    let filed = instance.store.write(move |writer| {
        let Some(inbox) = mailboxes::inbox(&writer.reader(), account)? else { return Ok(false) };
        for waiting in group {
            let blob = blobs::adopt(writer, waiting.spooled, 1)?;
            let row = NewMessage {
                blob,
                return_path: ReversePath::Null,
                delivered_to: address.clone(),
                flags: waiting.flags,
                received: waiting.received,
                digest: waiting.digest,
                auth_results: String::new(),
                require_tls: RequireTls::Default,
                reception: Reception::default(),
            };
            messages::file(writer, account, inbox, row)?;
        }
        Ok(true)
    });
    if filed.await? { Ok(()) } else { Err(Failure::new("the account was removed meanwhile", "the rest was not imported")) }
}
