//! Around an attempt: `claim` before it, `settle` after it; and `put_off` for those that are not tried.
//!
//! What `claim` hands out is under way until `settle` or `put_back`, in this run of the program: nobody is tried twice at
//! once, even if an administrator says "now", or an attempt outlives the next due.

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::mail::envelope::RequireTls;
use crate::store::codec::queue_key;
use crate::store::errors::Error;
use crate::store::ids::QueueId;
use crate::store::queue::Event;
use crate::store::queue::LastAttempt;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;
use crate::store::queue::aside;
use crate::store::queue::aside::SET_ASIDE;
use crate::store::queue::blind;
use crate::store::queue::destination;
use crate::store::queue::index;
use crate::store::queue::index::Entry;
use crate::store::queue::index::Indexed;
use crate::store::queue::rows;
use crate::store::queue::rows::RecipientRow;
use crate::store::txn::PAGE;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// Faults of this program at one recipient before it is set aside (R17): a second one may have been another message's.
const MAX_CRASHES: u8 = 2;

/// Recipients of one message with one domain and one wish, for one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub id: QueueId,
    pub message: Queued,
    pub recipients: Vec<(u32, QueuedRecipient)>,
}

/// How an attempt ended for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// delivered, relayed, failed with its notice in the same change, or dropped: the row goes
    Done,
    /// `delay_told`: a notice of delay was sent now
    Retry { due: UnixTime, last: LastAttempt, delay_told: bool },
    /// nothing could be asked, by a fault on our side: tried again, and it was no attempt
    Wait { due: UnixTime, last: LastAttempt },
    /// not tried again until released, and why
    Hold(String),
    /// this program failed at it; the due that `claim` stored stays
    Crashed,
}

/// Whether the message has recipients left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Open,
    LastOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    Yes,
    No,
}

/// Takes up to `limit` recipients of a domain that are due, earliest first. Their next due is `next`, asked with
/// `attempts` already raised, and stored here, before the attempt (delivery.md section 6). One that an administrator
/// failed comes, too (`RecipientState::Failing`), without counting an attempt.
pub fn claim(
    w: &mut Writer<'_>,
    domain: &Domain,
    now: UnixTime,
    limit: usize,
    next: impl Fn(&Queued, &QueuedRecipient) -> UnixTime,
) -> Result<Vec<Claimed>, Error> {
    let mut claimed: Vec<Claimed> = Vec::new();
    let mut places: HashMap<(QueueId, RequireTls), usize> = HashMap::new();
    for indexed in index::of_domain(&w.reader(), domain, now, limit)? {
        let (id, n) = indexed.who;
        let Some((message, mut row)) = load_due(w, domain, indexed, now)? else { continue };
        let before = row.recipient.clone();
        let is_under_way = row.claimed_by == w.run();
        if !is_under_way && row.recipient.state == RecipientState::Waiting {
            row.recipient.attempts = row.recipient.attempts.saturating_add(1);
        }
        // Never a due that has passed: the destination would come again at once.
        row.recipient.due = next(&message, &row.recipient).max(now.plus(1));
        row.claimed_by = w.run();
        rows::replace(w, id, n, &before, &row)?;
        if is_under_way {
            continue;
        }
        let place = *places.entry((id, row.recipient.wish)).or_insert_with(|| {
            claimed.push(Claimed { id, message, recipients: Vec::new() });
            claimed.len() - 1
        });
        claimed[place].recipients.push((n, row.recipient));
    }
    Ok(claimed)
}

/// The rows behind an index row. One that cannot be read is set aside, so that the others of its domain go on.
fn load_due(w: &mut Writer<'_>, domain: &Domain, indexed: Indexed, now: UnixTime) -> Result<Option<(Queued, RecipientRow)>, Error> {
    let (id, n) = indexed.who;
    let message = w.row::<Queued>(w.tables.queue, &queue_key(id));
    let what = match (message, rows::load(w, id, n)) {
        (Ok(Some(message)), Ok(Some(row))) => {
            let entry = Entry::of(&row.recipient);
            if row.recipient.address.domain == *domain && entry.is_some_and(|entry| entry.due == indexed.entry.due) {
                return Ok(Some((message, row)));
            }
            // The index is not what it should be; the recipient is, and keeps its own due.
            let n_shown = n.saturating_add(1);
            w.reader().damage.note(&format!("queue_dest has a wrong row for recipient {n_shown} of message {id}"));
            index::forget(w, domain, indexed.entry.due, (id, n))?;
            if let Some(entry) = entry {
                index::put_in(w, destination(&row.recipient), entry, (id, n))?;
            }
            return Ok(None);
        }
        (Ok(_), Ok(None)) => format!("queue_dest names recipient {} of message {id}, which is not there", n.saturating_add(1)),
        (Ok(None), _) => format!("the row of the queued message {id} is missing"),
        (Err(Error::Damaged(why)), _) | (_, Err(Error::Damaged(why))) => format!("message {id} of the queue: {why}"),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    w.reader().damage.note(&what);
    aside::set_aside(w, (id, n), (domain, indexed.entry.due), Event { at: now, what })?;
    Ok(None)
}

/// Stores how an attempt ended, with what to write into the history. A recipient that is not there (any more) is fine.
/// What an administrator decided meanwhile stays: one that is held is not due, one that is to fail is due at once.
pub fn settle(w: &mut Writer<'_>, id: QueueId, n: u32, settlement: Settlement, event: Event) -> Result<Settled, Error> {
    let Some(mut row) = rows::load(w, id, n)? else { return Ok(Settled::Open) };
    let before = row.recipient.clone();
    let now = event.at;
    row.claimed_by = 0;
    let recipient = &mut row.recipient;
    recipient.note(event);
    match settlement {
        Settlement::Done => return rows::remove(w, id, n, &before),
        Settlement::Retry { due, last, delay_told } => {
            recipient.due = due;
            recipient.last = Some(last);
            recipient.delay_told |= delay_told;
        }
        Settlement::Wait { due, last } => {
            recipient.due = due;
            recipient.last = Some(last);
            if recipient.state == RecipientState::Waiting {
                recipient.attempts = recipient.attempts.saturating_sub(1);
            }
        }
        Settlement::Hold(why) if recipient.state == RecipientState::Waiting => {
            if why.starts_with(SET_ASIDE) {
                aside::name(w, id)?;
            }
            recipient.state = RecipientState::Held(why);
        }
        Settlement::Hold(_) => {}
        Settlement::Crashed => {
            recipient.crashes = recipient.crashes.saturating_add(1);
            if recipient.crashes >= MAX_CRASHES {
                recipient.state = RecipientState::Held(format!("{SET_ASIDE}the program failed twice at it"));
                aside::name(w, id)?;
            }
        }
    }
    // At the first crash of a notice of failure its due stays, so that it does not crash in a circle.
    if matches!(recipient.state, RecipientState::Failing(_)) && recipient.crashes == 0 {
        recipient.due = now;
        w.raise(Topic::Queue);
    }
    rows::replace(w, id, n, &before, &row)?;
    Ok(Settled::Open)
}

/// A claimed recipient was not tried after all: it is due again, and the attempt does not count.
pub fn put_back(w: &mut Writer<'_>, id: QueueId, n: u32, due: UnixTime) -> Result<(), Error> {
    let Some(mut row) = rows::load(w, id, n)? else { return Ok(()) };
    let before = row.recipient.clone();
    row.claimed_by = 0;
    row.recipient.due = due;
    if row.recipient.state == RecipientState::Waiting {
        row.recipient.attempts = row.recipient.attempts.saturating_sub(1);
    }
    w.raise(Topic::Queue);
    rows::replace(w, id, n, &before, &row)
}

/// What becomes of mail that is not tried now.
#[derive(Clone, Debug)]
pub struct PutOff {
    pub now: UnixTime,
    pub due: UnixTime,
    pub last: LastAttempt,
    /// seconds that do not count into the lifetime, because nothing could be asked
    pub blind: u64,
}

/// Puts off what waits for a domain and is due, without an attempt: the destination cannot be reached. A page a call;
/// those that are under way only get the later due.
pub fn put_off(w: &mut Writer<'_>, domain: &Domain, put_off: PutOff) -> Result<More, Error> {
    let PutOff { now, due, last, blind } = put_off;
    let due = due.max(now.plus(1));
    let page = index::waiting_of_domain(&w.reader(), domain, now, PAGE)?;
    let mut messages = BTreeSet::new();
    for indexed in &page {
        let (id, n) = indexed.who;
        let Some((_, mut row)) = load_due(w, domain, *indexed, now)? else { continue };
        let before = row.recipient.clone();
        row.recipient.due = due;
        if row.claimed_by != w.run() {
            row.recipient.last = Some(last.clone());
            messages.insert(id);
        }
        rows::replace(w, id, n, &before, &row)?;
    }
    if blind > 0 {
        messages.into_iter().try_for_each(|id| blind::waited_blind(w, id, blind, now))?;
    }
    Ok(if page.len() == PAGE { More::Yes } else { More::No })
}

/// Pulls in destinations with nothing due until `latest`: no schedule goes that far, so the clock was wrong when the dues
/// were written (R12). What was never tried is due at once, the rest at `latest`. For after a step of the clock; about a
/// page a call. Destinations with a good due beside are not seen here: `pull_in_domain` is for their visits.
pub fn pull_in(w: &mut Writer<'_>, latest: UnixTime) -> Result<More, Error> {
    let domains = index::destinations_from(&w.reader(), latest.plus(1), PAGE)?;
    let mut moved = 0;
    for (_, domain) in &domains {
        if moved >= PAGE {
            return Ok(More::Yes);
        }
        moved += pull_in_domain(w, domain, latest)?;
        w.raise(Topic::Queue);
    }
    Ok(if domains.len() == PAGE { More::Yes } else { More::No })
}

/// The same for what one destination has behind `latest`; says how many were moved.
pub fn pull_in_domain(w: &mut Writer<'_>, domain: &Domain, latest: UnixTime) -> Result<usize, Error> {
    let beyond = index::beyond(&w.reader(), domain, latest)?;
    for indexed in &beyond {
        let (id, n) = indexed.who;
        let Some((_, mut row)) = load_due(w, domain, *indexed, latest)? else { continue };
        let before = row.recipient.clone();
        row.recipient.due = if row.recipient.attempts == 0 { UnixTime(0).min(latest) } else { latest };
        rows::replace(w, id, n, &before, &row)?;
    }
    Ok(beyond.len())
}
