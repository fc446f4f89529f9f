//! Notices to those who sent mail: made ready before a change of the store, filed inside of it (delivery.md sections 1 and 6).
//!
//! `prepare` reads what is given back of the original and spools the notice; `Notice::file` puts it where the reverse-path
//! leads, in the same change that settles the recipients: nothing is lost, nothing told twice. A sender of this server
//! finds it in the INBOX; for one elsewhere it is queued. There is never a notice to the null reverse-path (RFC 5321
//! section 6.1, R10). Not done here: whether the sender wants to know (`mail::notify`).

use ring::rand::SystemRandom;

use crate::config::settings::Settings;
use crate::intake::recipients;
use crate::intake::recipients::Destination;
use crate::intake::recipients::Resolved;
use crate::intake::trace::new_trace_id;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::dsn;
use crate::mail::dsn::DsnAction;
use crate::mail::dsn::Original;
use crate::mail::dsn::Report;
use crate::mail::dsn::Returned;
use crate::mail::dsn::Told;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::header;
use crate::mail::header::Gathered;
use crate::mail::header::Gatherer;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ForwardPath;
use crate::mail::path::ReversePath;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Spool;
use crate::store::Spooled;
use crate::store::Store;
use crate::store::Writer;
use crate::store::accounts;
use crate::store::blobs;
use crate::store::mailboxes;
use crate::store::messages;
use crate::store::messages::Flags;
use crate::store::messages::NewMessage;
use crate::store::messages::Reception;
use crate::store::queue;
use crate::store::queue::NewQueued;
use crate::store::queue::NewRecipient;
use crate::store::queue::Origin;
use crate::store::queue::Queued;

/// A larger original comes back as its header even where all of it was asked for; RFC 3461 section 4.3 allows it.
const MAX_WHOLE: u64 = 100 * 1024;
/// More of a header than this helps nobody; it is cut at the end of a line.
const MAX_HEADER: usize = 32 * 1024;
/// In memory until it is filed: a notice is never larger.
const SPOOL_MEMORY: usize = 512 * 1024;

/// What a notice is to say, and about which message.
pub struct Draft<'a> {
    pub id: QueueId,
    pub message: &'a Queued,
    pub action: DsnAction,
    pub recipients: Vec<Told<'a>>,
    /// of the recipients, which an administrator may have changed
    pub wish: RequireTls,
    pub now: UnixTime,
}

/// A notice that waits for the change that files it.
pub struct Notice {
    /// the 13 letters, for the log
    pub id: QueueId,
    spooled: Spooled,
    to: Address,
    ways: Ways,
    digest: Digest,
    wish: RequireTls,
    body: Body,
    smtp_utf8: bool,
    now: UnixTime,
}

enum Ways {
    Here(Vec<Destination>),
    Elsewhere,
}

/// Makes the notice ready. `None`: there is nobody to tell, and why not is in the log.
pub async fn prepare(store: &Store, settings: &Settings, draft: Draft<'_>) -> Result<Option<Notice>, Error> {
    let Some(to) = draft.message.reverse_path.address() else { return Ok(None) };
    let Some(ways) = find_ways(store, settings, &draft, to)? else {
        log::warn!("message {}: nobody can be told, the sender {to} has no mailbox here any more", draft.id);
        return Ok(None);
    };
    let Some(id) = new_trace_id(draft.now, &SystemRandom::new()).ok().and_then(|text| QueueId::parse(&text)) else {
        return Err(Error::Withdrawn("there are no random numbers".into()));
    };
    let wants_whole = draft.message.ret == Ret::Full && draft.message.size <= MAX_WHOLE && draft.wish != RequireTls::Required;
    let whole = wants_whole && draft.action == DsnAction::Failed;
    let original = if whole { read_whole(store, draft.message) } else { read_header(store, draft.message) };
    let original = match original {
        // A sender who is told without the text is better off than one who is told nothing.
        Err(Error::Damaged(why)) => {
            log::error!("message {}: its notice goes without the original, which cannot be read: {why}", draft.id);
            None
        }
        original => Some(original?),
    };
    let bytes = {
        let (letters, original_letters) = (id.to_string(), draft.id.to_string());
        let report = Report {
            host: &settings.hostname,
            to,
            id: &letters,
            now: draft.now,
            action: draft.action,
            original: Original {
                id: &original_letters,
                arrived: draft.message.arrived,
                envid: draft.message.envid.as_deref(),
                digest: &draft.message.digest,
                wish: draft.wish,
                returned: match &original {
                    None => Returned::Nothing,
                    Some(original) if whole => Returned::Whole(original),
                    Some(original) => Returned::Header(original),
                },
            },
            recipients: &draft.recipients,
        };
        dsn::write(&report)
    };
    let mut digest = Digest::default();
    header::fields(&bytes).for_each(|field| digest.note(field.name(), field.value()));
    let mut spool = Spool::new(store, SPOOL_MEMORY);
    spool.push(&bytes).await?;
    let body = if bytes.is_ascii() { Body::SevenBit } else { Body::EightBit };
    let smtp_utf8 = !to.local.is_ascii() || !bytes.is_ascii() && draft.message.smtp_utf8;
    let (to, wish, now) = (to.clone(), draft.wish, draft.now);
    Ok(Some(Notice { id, spooled: spool.finish(Vec::new())?, to, ways, digest, wish, body, smtp_utf8, now }))
}

/// Where the reverse-path leads; if it leads nowhere any more, to the account that handed the message in. A full mailbox is
/// none here: its owner must know.
fn find_ways(store: &Store, settings: &Settings, draft: &Draft<'_>, to: &Address) -> Result<Option<Ways>, Error> {
    let resolved = store.read(|r| recipients::resolve(r, settings, &ForwardPath::Address(to.clone()), 0))?;
    match resolved {
        Resolved::Here(destinations) => return Ok(Some(Ways::Here(destinations))),
        Resolved::NotLocal => return Ok(Some(Ways::Elsewhere)),
        Resolved::Full | Resolved::Unknown => {}
    }
    let Some(account) = draft.message.sender else { return Ok(None) };
    let is_there = store.read(|r| accounts::get(r, account))?.is_some();
    Ok(is_there.then(|| Ways::Here(vec![Destination { account, address: to.clone() }])))
}

/// The trace fields and the header, as the next server would have seen them.
fn read_header(store: &Store, message: &Queued) -> Result<Vec<u8>, Error> {
    let mut gatherer = Gatherer::new();
    for number in 0.. {
        let Some(chunk) = read_chunk(store, message, number)? else { break };
        match gatherer.push(&chunk) {
            Ok(Gathered::More) => {}
            // A header that is too long was refused at the door.
            Ok(Gathered::Complete) | Err(_) => break,
        }
    }
    let mut header = gatherer.finish().header;
    if header.ends_with(b"\r\n\r\n") {
        header.truncate(header.len() - 2);
    }
    if header.len() > MAX_HEADER {
        let cut = header[..MAX_HEADER].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        header.truncate(cut);
    }
    Ok(header)
}

fn read_whole(store: &Store, message: &Queued) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    for number in 0.. {
        let Some(chunk) = read_chunk(store, message, number)? else { break };
        whole.extend_from_slice(&chunk);
    }
    let length = whole.len() as u64;
    if length != message.size {
        return Err(Error::Damaged(format!("blob {} has {length} octets, not {}", message.blob, message.size)));
    }
    Ok(whole)
}

/// A blob has its trace block at least.
fn read_chunk(store: &Store, message: &Queued, number: u32) -> Result<Option<Vec<u8>>, Error> {
    let chunk = store.read(|r| blobs::chunk(r, message.blob, number))?;
    if chunk.is_none() && number == 0 {
        return Err(Error::Damaged(format!("blob {} is not there", message.blob)));
    }
    Ok(chunk)
}

impl Notice {
    /// Files or queues it. Accounts that were removed meanwhile go without.
    pub fn file(self, w: &mut Writer<'_>) -> Result<(), Error> {
        let reception = Reception { trace_id: self.id.to_string(), ..Reception::default() };
        let destinations = match &self.ways {
            Ways::Here(destinations) => destinations.clone(),
            Ways::Elsewhere => return self.queue(w, reception),
        };
        let mut inboxes = Vec::with_capacity(destinations.len());
        for destination in destinations {
            if let Some(inbox) = mailboxes::inbox(&w.reader(), destination.account)? {
                inboxes.push((destination, inbox));
            }
        }
        if inboxes.is_empty() {
            log::warn!("notice {} to {}: the account was removed meanwhile", self.id, self.to);
            return Ok(());
        }
        let uses = u32::try_from(inboxes.len()).map_err(|_| Error::Withdrawn("too many recipients".into()))?;
        let blob = blobs::adopt(w, self.spooled, uses)?;
        for (destination, inbox) in inboxes {
            let row = NewMessage {
                blob,
                return_path: ReversePath::Null,
                delivered_to: destination.address,
                flags: Flags::NONE,
                received: self.now,
                digest: self.digest.clone(),
                auth_results: String::new(),
                require_tls: self.wish,
                reception: reception.clone(),
            };
            messages::file(w, destination.account, inbox, row)?;
        }
        Ok(())
    }

    fn queue(self, w: &mut Writer<'_>, reception: Reception) -> Result<(), Error> {
        let blob = blobs::adopt(w, self.spooled, 1)?;
        let new = NewQueued {
            id: self.id,
            blob,
            reverse_path: ReversePath::Null,
            sender: None,
            origin: Origin::Notice,
            body: self.body,
            smtp_utf8: self.smtp_utf8,
            ret: Ret::Unset,
            envid: None,
            arrived: self.now,
            digest: self.digest,
            reception,
            wish: self.wish,
            recipients: vec![NewRecipient { address: self.to, notify: Notify::Never, orcpt: None }],
        };
        queue::enqueue(w, new)
    }
}
