//! The queue: messages that must leave this host, and what is known of the way to each recipient.
//!
//! In: `enqueue` (in the change that stores the message), `claim` and `settle` around each attempt, `put_off` for a
//! destination that cannot be reached, the verbs of the administrator (`steer`). Out: pages for lists, `due_destinations`
//! and `next_due` for the scheduler, `counts` for metrics. No clock: times come with the calls.
//!
//! | state of a recipient | rows | moved by |
//! |---|---|---|
//! | waiting | `queue_rcpt`, one in `queue_dest` with its due | `enqueue`, `settle` Retry, `put_off`, `release`, `retry_now` |
//! | under way | the same; its next due is stored already, and the run of the program that claimed it | `claim` |
//! | held | `queue_rcpt` only | a hold rule, `hold`, `settle` Hold or the second Crashed; `set_aside` where something is damaged |
//! | failing | as waiting, due at once: the scheduler settles it with a notice | `fail` |
//! | gone | none; with the last one the message goes and its blob is released | `settle` Done, `remove` |
//!
//! A crash leaves a claimed recipient waiting with a later due (reliability R4); nothing is scanned when the store is
//! opened. Every change costs some steps down a tree, whatever waits. A message whose sender's account was removed stays.

use std::ops::Bound;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::mail::received::TlsFacts;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::ids::QueueId;
use crate::store::messages::Reception;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;

mod aside;
mod attempts;
mod blind;
mod enqueue;
pub(super) mod index;
pub(super) mod rows;
mod steer;

pub use crate::store::queue::aside::SET_ASIDE;
pub use crate::store::queue::aside::aside;
pub use crate::store::queue::aside::set_aside;
pub use crate::store::queue::attempts::Claimed;
pub use crate::store::queue::attempts::More;
pub use crate::store::queue::attempts::PutOff;
pub use crate::store::queue::attempts::Settled;
pub use crate::store::queue::attempts::Settlement;
pub use crate::store::queue::attempts::claim;
pub use crate::store::queue::attempts::pull_in;
pub use crate::store::queue::attempts::pull_in_domain;
pub use crate::store::queue::attempts::put_back;
pub use crate::store::queue::attempts::put_off;
pub use crate::store::queue::attempts::settle;
pub use crate::store::queue::blind::BlindTime;
pub use crate::store::queue::blind::BlindTimes;
pub use crate::store::queue::blind::blind_times;
pub use crate::store::queue::blind::put_blind_times;
pub use crate::store::queue::blind::waited_blind;
pub use crate::store::queue::enqueue::NewQueued;
pub use crate::store::queue::enqueue::NewRecipient;
pub use crate::store::queue::enqueue::enqueue;
pub use crate::store::queue::index::due_destinations;
pub use crate::store::queue::index::has_beyond;
pub use crate::store::queue::index::mend_dues;
pub use crate::store::queue::index::next_due;
pub use crate::store::queue::steer::Steered;
pub use crate::store::queue::steer::fail;
pub use crate::store::queue::steer::hold;
pub use crate::store::queue::steer::release;
pub use crate::store::queue::steer::remove;
pub use crate::store::queue::steer::retry_now;

use crate::store::queue::rows::RecipientRow;

/// How a message came to be in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub enum Origin {
    /// handed in by one of our users
    Submitted,
    /// a notice of ours about another message
    Notice,
    /// received for an address that leads elsewhere
    Forwarded,
}

impl Origin {
    /// The word used in lists and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Submitted => "submitted",
            Origin::Notice => "notice",
            Origin::Forwarded => "forwarded",
        }
    }
}

/// One message with at least one recipient that is not done.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Queued {
    pub blob: BlobId,
    /// octets of the blob
    pub size: u64,
    pub reverse_path: ReversePath,
    /// the account that handed it in; it may have been removed since
    pub sender: Option<AccountId>,
    pub origin: Origin,
    pub body: Body,
    pub smtp_utf8: bool,
    pub ret: Ret,
    /// xtext as it was sent (RFC 3461 section 4.4)
    pub envid: Option<String>,
    pub arrived: UnixTime,
    pub digest: Digest,
    pub reception: Reception,
    /// of the reception; each recipient has its own
    pub wish: RequireTls,
    /// recipients there ever were
    pub next_n: u32,
    /// recipients that are not done
    pub open: u32,
    /// seconds that do not count into the lifetime: clock or upstreams were in doubt
    pub waited_blind: u64,
}

impl Row for Queued {
    const WHAT: &'static str = "a queue row";
}

/// What becomes of a recipient next.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub enum RecipientState {
    /// tried when it is due
    Waiting,
    /// not tried until somebody releases it, and why
    Held(String),
    /// an administrator gave up, and why: due at once, to be settled as a failure with its notice
    Failing(String),
}

#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct QueuedRecipient {
    pub address: Address,
    pub notify: Notify,
    /// xtext as it was sent (RFC 3461 section 4.2)
    pub orcpt: Option<String>,
    pub wish: RequireTls,
    pub state: RecipientState,
    pub attempts: u32,
    pub due: UnixTime,
    pub last: Option<LastAttempt>,
    /// the sender got a notice of delay
    pub delay_told: bool,
    /// attempts that ended in a fault of this program
    pub crashes: u8,
    /// what happened, oldest first; at most `MAX_HISTORY`
    pub history: Vec<Event>,
}

/// How the last attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct LastAttempt {
    pub at: UnixTime,
    /// name of the host, empty if none was reached
    pub host: String,
    /// its address, empty if none was reached
    pub address: String,
    /// the whole reply, or a sentence of ours
    pub reply: String,
    pub status: EnhancedStatus,
    pub tls: Option<TlsFacts>,
    /// the reply is the peer's words
    pub remote: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Event {
    pub at: UnixTime,
    pub what: String,
}

/// Events kept of a recipient: the first and the latest. Five days of attempts at their slowest are about 30, and their
/// number stands beside.
pub const MAX_HISTORY: usize = 20;

/// Messages among which one can be read that tells its age.
const FIRST: usize = 10;

impl QueuedRecipient {
    /// Adds an event; the oldest but the first gives way.
    fn note(&mut self, event: Event) {
        if self.history.len() >= MAX_HISTORY {
            self.history.remove(1);
        }
        self.history.push(event);
    }
}

/// What waits, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    pub messages: u64,
    /// recipients that are not done, the held ones included
    pub recipients: u64,
    pub held: u64,
    /// arrival of the oldest message
    pub oldest: Option<UnixTime>,
}

pub fn get(r: &Reader<'_>, id: QueueId) -> Result<Option<Queued>, Error> {
    r.row(r.tables.queue, &queue_key(id))
}

/// Recipients of a message that are not done, in the order in which they were named. One transaction has at most some
/// hundred (R6).
pub fn recipients(r: &Reader<'_>, id: QueueId) -> Result<Vec<(u32, QueuedRecipient)>, Error> {
    let rows = r.prefix(r.tables.queue_rcpt, &queue_key(id))?;
    rows.map(|row| {
        let (key, value) = row?;
        Ok((codec::u32_at(key, 8)?, codec::decode::<RecipientRow>(value)?.recipient))
    })
    .collect()
}

pub fn recipient(r: &Reader<'_>, id: QueueId, n: u32) -> Result<Option<QueuedRecipient>, Error> {
    Ok(r.row::<RecipientRow>(r.tables.queue_rcpt, &recipient_key(id, n))?.map(|row| row.recipient))
}

/// A row with its name; one that is damaged has the reason why it cannot be read.
pub type Listed<N, R> = (N, Result<R, Error>);

/// As `recipients`, with those that are damaged.
pub fn listed_recipients(r: &Reader<'_>, id: QueueId) -> Result<Vec<Listed<u32, QueuedRecipient>>, Error> {
    let rows = r.prefix(r.tables.queue_rcpt, &queue_key(id))?;
    rows.map(|row| {
        let (key, value) = row?;
        Ok((codec::u32_at(key, 8)?, codec::decode::<RecipientRow>(value).map(|row| row.recipient)))
    })
    .collect()
}

/// Messages behind `after`, oldest first, at most `limit` and at most `PAGE`.
pub fn list(r: &Reader<'_>, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed<QueueId, Queued>>, Error> {
    let from = after.map(queue_key);
    let from = from.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    let rows = r.from(r.tables.queue, from)?.take(limit.min(PAGE));
    rows.map(|row| {
        let (key, value) = row?;
        Ok((QueueId(codec::u64_at(key, 0)?), codec::decode(value)))
    })
    .collect()
}

/// Recipients of all messages behind `after`, at most `limit` and at most `PAGE`; those that are damaged are passed over.
pub fn recipients_after(
    r: &Reader<'_>,
    after: Option<(QueueId, u32)>,
    limit: usize,
) -> Result<Vec<(QueueId, u32, QueuedRecipient)>, Error> {
    let from = after.map(|(id, n)| recipient_key(id, n));
    let from = from.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    let mut found = Vec::new();
    for row in r.from(r.tables.queue_rcpt, from)? {
        if found.len() == limit.min(PAGE) {
            break;
        }
        let (key, value) = row?;
        let (id, n) = (QueueId(codec::u64_at(key, 0)?), codec::u32_at(key, 8)?);
        match codec::decode::<RecipientRow>(value) {
            Ok(row) => found.push((id, n, row.recipient)),
            Err(why) => r.damage.note(&format!("recipient {} of message {id}: {why}", n.saturating_add(1))),
        }
    }
    Ok(found)
}

/// Some rows are read, whatever waits.
pub fn counts(r: &Reader<'_>) -> Result<QueueCounts, Error> {
    let totals = rows::totals(r)?;
    let oldest = list(r, None, FIRST)?.into_iter().find_map(|(_, message)| message.ok()).map(|message| message.arrived);
    Ok(QueueCounts { messages: totals.messages, recipients: totals.recipients, held: totals.held, oldest })
}

/// Where a recipient's mail goes: what the attempts at it share.
fn destination(recipient: &QueuedRecipient) -> &Domain {
    &recipient.address.domain
}

#[cfg(test)]
mod tests;
