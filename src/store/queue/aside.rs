//! What was set aside: recipients that are not tried again because something of them cannot be read, or the program failed
//! at them twice. They stay in the queue until a person decides.
//!
//! Such a recipient is held, with a reason that begins with `SET_ASIDE`; if its own row is the damaged one it only leaves
//! the index. The messages are named in one row of `meta`, so that `pipit status` tells of them without a look at the whole
//! queue. What was released or dropped since is not told any more (`aside`).

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::store::codec;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::errors::Error;
use crate::store::ids::QueueId;
use crate::store::queue;
use crate::store::queue::Event;
use crate::store::queue::Listed;
use crate::store::queue::RecipientState;
use crate::store::queue::destination;
use crate::store::queue::index;
use crate::store::queue::index::Entry;
use crate::store::queue::rows;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// How the reason of a recipient that was set aside begins.
pub const SET_ASIDE: &str = "set aside: ";
/// The row of `meta` with the ids of the messages.
const NAMES: &[u8] = b"queue-set-aside";
/// Messages that are named; of more nobody reads the names. They are in `pipit queue list` all the same.
const MAX_NAMES: usize = 50;

/// Sets a recipient aside that stands in the index at a domain with a due; `event` says why. One that is gone leaves the
/// index.
pub fn set_aside(w: &mut Writer<'_>, (id, n): (QueueId, u32), (domain, due): (&Domain, UnixTime), event: Event) -> Result<(), Error> {
    index::forget(w, domain, due, (id, n))?;
    let row = match rows::load(w, id, n) {
        Ok(Some(row)) => Some(row),
        Ok(None) => return Ok(()),
        Err(Error::Damaged(why)) => {
            w.reader().damage.note(&format!("recipient {} of message {id} is set aside: {why}", n.saturating_add(1)));
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(mut row) = row {
        if let Some(entry) = Entry::of(&row.recipient) {
            index::forget(w, destination(&row.recipient), entry.due, (id, n))?;
        }
        let was_held = rows::is_held(&row.recipient);
        row.claimed_by = 0;
        row.recipient.state = RecipientState::Held(format!("{SET_ASIDE}{}", event.what));
        row.recipient.note(event);
        let mut totals = rows::totals(&w.reader())?;
        totals.held += 1 - was_held;
        rows::put_totals(w, totals)?;
        w.put(w.tables.queue_rcpt, &recipient_key(id, n), &row)?;
    }
    name(w, id)
}

/// Puts a message among those that `aside` tells of.
pub(super) fn name(w: &mut Writer<'_>, id: QueueId) -> Result<(), Error> {
    let mut names = names(&w.reader())?;
    if names.contains(&id) {
        return Ok(());
    }
    names.retain(|named| matches!(reason(&w.reader(), *named), Ok(Some(_))));
    let surplus = (names.len() + 1).saturating_sub(MAX_NAMES);
    names.drain(..surplus);
    names.push(id);
    let octets: Vec<u8> = names.iter().flat_map(|id| queue_key(*id)).collect();
    w.put_bytes(w.tables.meta, NAMES, &octets)
}

fn names(r: &Reader<'_>) -> Result<Vec<QueueId>, Error> {
    let octets = r.bytes(r.tables.meta, NAMES)?.unwrap_or_default();
    octets.chunks(8).map(|id| Ok(QueueId(codec::u64_at(id, 0)?))).collect()
}

/// The messages that are set aside, and why; the latest at most 50.
pub fn aside(r: &Reader<'_>) -> Result<Vec<(QueueId, String)>, Error> {
    let mut found = Vec::new();
    for id in names(r)? {
        found.extend(reason(r, id)?.map(|why| (id, why)));
    }
    Ok(found)
}

/// Why a message is set aside. `None`: it is not, or not any more.
fn reason(r: &Reader<'_>, id: QueueId) -> Result<Option<String>, Error> {
    let recipients = queue::listed_recipients(r, id)?;
    let message = match queue::get(r, id) {
        Ok(Some(_)) => None,
        Ok(None) if recipients.is_empty() => return Ok(None),
        Ok(None) => Some("its own row is missing".to_owned()),
        Err(Error::Damaged(why)) => Some(why),
        Err(error) => return Err(error),
    };
    let of_recipient = |listed: Listed<u32, _>| match listed {
        (n, Err(why)) => Some(format!("recipient {}: {why}", n.saturating_add(1))),
        (_, Ok(queue::QueuedRecipient { state: RecipientState::Held(why), .. })) => why.strip_prefix(SET_ASIDE).map(str::to_owned),
        (_, Ok(_)) => None,
    };
    Ok(message.or_else(|| recipients.into_iter().find_map(of_recipient)))
}
