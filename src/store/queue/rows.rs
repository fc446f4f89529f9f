//! One way to change a recipient's row, so that the indexes and the totals always follow it.

use nanoserde::{DeBin, SerBin};

use crate::store::blobs;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::errors::Error;
use crate::store::ids::BlobId;
use crate::store::ids::QueueId;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;
use crate::store::queue::attempts::Settled;
use crate::store::queue::destination;
use crate::store::queue::index;
use crate::store::queue::index::Entry;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// The row of `meta` with the totals.
const TOTALS: &[u8] = b"queue-totals";

/// A row of `queue_rcpt`.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct RecipientRow {
    pub recipient: QueuedRecipient,
    /// the run of the program in which an attempt was begun and not settled; 0: none
    pub claimed_by: u64,
}

impl Row for RecipientRow {
    const WHAT: &'static str = "a queue_rcpt row";
}

/// What the queue adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub messages: u64,
    pub recipients: u64,
    pub held: u64,
}

pub fn totals(r: &Reader<'_>) -> Result<Totals, Error> {
    let Some(octets) = r.bytes(r.tables.meta, TOTALS)? else { return Ok(Totals::default()) };
    Ok(Totals { messages: codec::u64_at(octets, 0)?, recipients: codec::u64_at(octets, 8)?, held: codec::u64_at(octets, 16)? })
}

pub fn put_totals(w: &mut Writer<'_>, totals: Totals) -> Result<(), Error> {
    let Totals { messages, recipients, held } = totals;
    let octets = [messages.to_be_bytes(), recipients.to_be_bytes(), held.to_be_bytes()].concat();
    w.put_bytes(w.tables.meta, TOTALS, &octets)
}

pub fn is_held(recipient: &QueuedRecipient) -> u64 {
    u64::from(matches!(recipient.state, RecipientState::Held(_)))
}

pub fn load(w: &Writer<'_>, id: QueueId, n: u32) -> Result<Option<RecipientRow>, Error> {
    w.row(w.tables.queue_rcpt, &recipient_key(id, n))
}

/// Replaces a row that was `before`. The address never changes.
pub fn replace(w: &mut Writer<'_>, id: QueueId, n: u32, before: &QueuedRecipient, row: &RecipientRow) -> Result<(), Error> {
    let (old, new) = (Entry::of(before), Entry::of(&row.recipient));
    if old != new {
        let domain = destination(&row.recipient);
        if let Some(entry) = old {
            index::take_out(w, domain, entry.due, (id, n))?;
        }
        if let Some(entry) = new {
            index::put_in(w, domain, entry, (id, n))?;
        }
    }
    let (was, is) = (is_held(before), is_held(&row.recipient));
    if was != is {
        let mut totals = totals(&w.reader())?;
        totals.held = (totals.held + is).saturating_sub(was);
        put_totals(w, totals)?;
    }
    w.put(w.tables.queue_rcpt, &recipient_key(id, n), row)
}

/// Takes a recipient away, and with the last one the message.
pub fn remove(w: &mut Writer<'_>, id: QueueId, n: u32, recipient: &QueuedRecipient) -> Result<Settled, Error> {
    if let Some(entry) = Entry::of(recipient) {
        index::take_out(w, destination(recipient), entry.due, (id, n))?;
    }
    w.delete(w.tables.queue_rcpt, &recipient_key(id, n))?;
    let missing = || Error::Damaged(format!("recipient {n} of message {id} is queued, but the message is not"));
    let mut message = w.row::<Queued>(w.tables.queue, &queue_key(id))?.ok_or_else(missing)?;
    message.open = message.open.saturating_sub(1);
    let mut totals = totals(&w.reader())?;
    totals.recipients = totals.recipients.saturating_sub(1);
    totals.held = totals.held.saturating_sub(is_held(recipient));
    if message.open > 0 {
        put_totals(w, totals)?;
        w.put(w.tables.queue, &queue_key(id), &message)?;
        return Ok(Settled::Open);
    }
    totals.messages = totals.messages.saturating_sub(1);
    put_totals(w, totals)?;
    w.delete(w.tables.queue, &queue_key(id))?;
    release(w, id, message.blob)?;
    Ok(Settled::LastOne)
}

/// A message whose octets are damaged must be able to go all the same.
fn release(w: &mut Writer<'_>, id: QueueId, blob: BlobId) -> Result<(), Error> {
    match blobs::release(w, blob) {
        Err(Error::Damaged(why)) => {
            w.reader().damage.note(&format!("message {id} left the queue, its octets may not: {why}"));
            Ok(())
        }
        released => released,
    }
}

/// As `remove`, where a row of the message or of the recipient cannot be read. If it is the message's, its octets stay.
pub fn discard(w: &mut Writer<'_>, id: QueueId, n: u32) -> Result<Settled, Error> {
    let mut totals = totals(&w.reader())?;
    if let Ok(Some(row)) = load(w, id, n) {
        totals.held = totals.held.saturating_sub(is_held(&row.recipient));
        if let Some(entry) = Entry::of(&row.recipient) {
            index::forget(w, destination(&row.recipient), entry.due, (id, n))?;
        }
    }
    w.delete(w.tables.queue_rcpt, &recipient_key(id, n))?;
    totals.recipients = totals.recipients.saturating_sub(1);
    let is_last = w.reader().prefix(w.tables.queue_rcpt, &queue_key(id))?.next().is_none();
    let message = match w.row::<Queued>(w.tables.queue, &queue_key(id)) {
        Err(Error::Damaged(why)) if is_last => {
            w.reader().damage.note(&format!("message {id} left the queue, its octets stay: {why}"));
            None
        }
        Err(Error::Damaged(_)) => None,
        message => message?,
    };
    if is_last {
        totals.messages = totals.messages.saturating_sub(1);
        w.delete(w.tables.queue, &queue_key(id))?;
    }
    put_totals(w, totals)?;
    match message {
        Some(message) if is_last => release(w, id, message.blob)?,
        Some(mut message) => {
            message.open = message.open.saturating_sub(1);
            w.put(w.tables.queue, &queue_key(id), &message)?;
        }
        None => {}
    }
    Ok(if is_last { Settled::LastOne } else { Settled::Open })
}
