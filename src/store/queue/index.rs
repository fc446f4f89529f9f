//! Who is due when: `queue_dest` has a row for each recipient that is not held, those of a domain together in the order of
//! their dues; `queue_due` has one row a domain, with the earliest of them.
//!
//! So the scheduler sees the first destinations without looking at their mail, and a dead destination with 10,000
//! messages is one row among the others (reliability R11). A row that cannot be read is passed over and noted: it must
//! not stop those behind it.

use std::ops::Bound;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::store::codec;
use crate::store::codec::time_octets;
use crate::store::errors::Error;
use crate::store::ids::QueueId;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;
use crate::store::txn::Existed;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// Ends the domain in a key: no domain contains it, and none sorts before it.
const END: u8 = 0;
/// Octets behind the domain and its end: due, `QueueId`, n.
const TAIL: usize = 8 + 8 + 4;

/// Value of a `queue_dest` row: what to do when it is due, without reading the recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Waiting,
    Failing,
}

impl Mark {
    fn octet(self) -> u8 {
        match self {
            Mark::Waiting => b'w',
            Mark::Failing => b'f',
        }
    }

    pub fn read(value: &[u8]) -> Result<Mark, Error> {
        match value {
            b"w" => Ok(Mark::Waiting),
            b"f" => Ok(Mark::Failing),
            _ => Err(Error::Damaged("a queue_dest row has an unknown mark".into())),
        }
    }
}

/// What the index knows of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub due: UnixTime,
    pub mark: Mark,
}

impl Entry {
    /// `None` for one that is held.
    pub fn of(recipient: &QueuedRecipient) -> Option<Entry> {
        let mark = match recipient.state {
            RecipientState::Waiting => Mark::Waiting,
            RecipientState::Failing(_) => Mark::Failing,
            RecipientState::Held(_) => return None,
        };
        Some(Entry { due: recipient.due, mark })
    }
}

pub fn prefix(domain: &Domain) -> Vec<u8> {
    let mut key = domain.as_str().as_bytes().to_vec();
    key.push(END);
    key
}

pub fn dest_key(domain: &Domain, due: UnixTime, (id, n): (QueueId, u32)) -> Vec<u8> {
    let mut key = prefix(domain);
    key.extend(time_octets(due));
    key.extend(id.0.to_be_bytes());
    key.extend(n.to_be_bytes());
    key
}

pub fn due_key(due: UnixTime, domain: &Domain) -> Vec<u8> {
    let mut key = time_octets(due).to_vec();
    key.extend(domain.as_str().as_bytes());
    key
}

/// The parts of a key of `queue_dest`.
pub struct DestKey<'k> {
    pub domain: &'k [u8],
    pub due: UnixTime,
    pub who: (QueueId, u32),
}

pub fn read_dest_key(key: &[u8]) -> Result<DestKey<'_>, Error> {
    let damaged = || Error::Damaged("a key of queue_dest is malformed".into());
    let end = key.iter().position(|octet| *octet == END).ok_or_else(damaged)?;
    if key.len() != end + 1 + TAIL {
        return Err(damaged());
    }
    Ok(DestKey {
        domain: &key[..end],
        due: codec::time_at(key, end + 1)?,
        who: (QueueId(codec::u64_at(key, end + 9)?), codec::u32_at(key, end + 17)?),
    })
}

/// The parts of a key of `queue_due`.
pub fn read_due_key(key: &[u8]) -> Result<(UnixTime, Domain), Error> {
    let domain = key.get(8..).and_then(|octets| std::str::from_utf8(octets).ok()).and_then(|text| Domain::parse(text).ok());
    Ok((codec::time_at(key, 0)?, domain.ok_or_else(|| Error::Damaged("a key of queue_due has no domain".into()))?))
}

/// A key of `queue_dest`; `None` for one that is malformed.
fn legible_dest<'k>(r: &Reader<'_>, key: &'k [u8]) -> Option<DestKey<'k>> {
    read_dest_key(key).map_err(|_| r.damage.note(&format!("the key {} of queue_dest is malformed", key.escape_ascii()))).ok()
}

/// A key of `queue_due`; `None` for one that is malformed.
fn legible_due(r: &Reader<'_>, key: &[u8]) -> Option<(UnixTime, Domain)> {
    read_due_key(key).map_err(|_| r.damage.note(&format!("the key {} of queue_due is malformed", key.escape_ascii()))).ok()
}

/// A row of `queue_dest`. Its mark only saves a look at the recipient, so one that is unknown counts as waiting.
fn legible<'k>(r: &Reader<'_>, key: &'k [u8], value: &[u8]) -> Option<(DestKey<'k>, Entry)> {
    let parts = legible_dest(r, key)?;
    let mark = Mark::read(value).unwrap_or_else(|error| {
        r.damage.note(&format!("{error}, for the key {}", key.escape_ascii()));
        Mark::Waiting
    });
    let due = parts.due;
    Some((parts, Entry { due, mark }))
}

/// The earliest due of a domain.
pub fn earliest(r: &Reader<'_>, domain: &Domain) -> Result<Option<UnixTime>, Error> {
    for row in r.prefix(r.tables.queue_dest, &prefix(domain))? {
        if let Some(parts) = legible_dest(r, row?.0) {
            return Ok(Some(parts.due));
        }
    }
    Ok(None)
}

pub fn put_in(w: &mut Writer<'_>, domain: &Domain, entry: Entry, who: (QueueId, u32)) -> Result<(), Error> {
    let before = earliest(&w.reader(), domain)?;
    w.put_bytes(w.tables.queue_dest, &dest_key(domain, entry.due, who), &[entry.mark.octet()])?;
    if before.is_none_or(|before| entry.due < before) {
        if let Some(before) = before {
            w.delete(w.tables.queue_due, &due_key(before, domain))?;
        }
        w.put_bytes(w.tables.queue_due, &due_key(entry.due, domain), &[])?;
    }
    Ok(())
}

pub fn take_out(w: &mut Writer<'_>, domain: &Domain, due: UnixTime, who: (QueueId, u32)) -> Result<(), Error> {
    if w.delete(w.tables.queue_dest, &dest_key(domain, due, who))? == Existed::No {
        return Err(Error::Damaged(format!("recipient {} of message {} has no queue_dest row", who.1, who.0)));
    }
    was_first(w, domain, due)
}

/// As `take_out`, where the row may be missing: the recipient that it names is damaged.
pub fn forget(w: &mut Writer<'_>, domain: &Domain, due: UnixTime, who: (QueueId, u32)) -> Result<(), Error> {
    w.delete(w.tables.queue_dest, &dest_key(domain, due, who))?;
    was_first(w, domain, due)
}

/// Corrects the row of `queue_due` of a domain from which a recipient with this due was taken.
fn was_first(w: &mut Writer<'_>, domain: &Domain, due: UnixTime) -> Result<(), Error> {
    let after = earliest(&w.reader(), domain)?;
    if after.is_none_or(|after| due < after) {
        w.delete(w.tables.queue_due, &due_key(due, domain))?;
        if let Some(after) = after {
            w.put_bytes(w.tables.queue_due, &due_key(after, domain), &[])?;
        }
    }
    Ok(())
}

/// Puts rows that are missing in `queue_due` in their places: the mail of their destinations would never be seen. Looks at a
/// page of destinations from a place on, at first an empty one; gives the next place. Rows that cannot be read stay, for
/// `store check`.
pub fn mend_dues(w: &mut Writer<'_>, mut from: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    for _ in 0..PAGE {
        let found = {
            let r = w.reader();
            let bound = if from.is_empty() { Bound::Unbounded } else { Bound::Included(&from[..]) };
            let Some(row) = r.from(r.tables.queue_dest, bound)?.next() else { return Ok(None) };
            let (key, _) = row?;
            let name = key.split(|octet| *octet == END).next().unwrap_or_default();
            from = [name, &[END + 1]].concat();
            let domain = std::str::from_utf8(name).ok().and_then(|text| Domain::parse(text).ok());
            domain.map(|domain| Ok::<_, Error>((earliest(&r, &domain)?, domain))).transpose()?
        };
        if let Some((Some(due), domain)) = found
            && w.reader().bytes(w.tables.queue_due, &due_key(due, &domain))?.is_none()
        {
            w.put_bytes(w.tables.queue_due, &due_key(due, &domain), &[])?;
            w.raise(Topic::Queue);
        }
    }
    Ok(Some(from))
}

/// A recipient of a domain as the index names it.
#[derive(Clone, Copy)]
pub struct Indexed {
    pub who: (QueueId, u32),
    pub entry: Entry,
}

/// The first recipients of a domain, earliest first, up to a due.
pub fn of_domain(r: &Reader<'_>, domain: &Domain, until: UnixTime, limit: usize) -> Result<Vec<Indexed>, Error> {
    let mut found = Vec::new();
    for row in r.prefix(r.tables.queue_dest, &prefix(domain))? {
        let (key, value) = row?;
        let Some((DestKey { due, who, .. }, entry)) = legible(r, key, value) else { continue };
        if due > until || found.len() == limit {
            break;
        }
        found.push(Indexed { who, entry });
    }
    Ok(found)
}

/// As `of_domain`, only those that wait; failing ones between them are passed over.
pub fn waiting_of_domain(r: &Reader<'_>, domain: &Domain, until: UnixTime, limit: usize) -> Result<Vec<Indexed>, Error> {
    let mut found = Vec::new();
    for row in r.prefix(r.tables.queue_dest, &prefix(domain))? {
        let (key, value) = row?;
        let Some((DestKey { due, who, .. }, entry)) = legible(r, key, value) else { continue };
        if due > until || found.len() == limit {
            break;
        }
        if entry.mark == Mark::Waiting {
            found.push(Indexed { who, entry });
        }
    }
    Ok(found)
}

/// The recipients of a domain that are due later than `latest`, earliest first.
pub fn beyond(r: &Reader<'_>, domain: &Domain, latest: UnixTime) -> Result<Vec<Indexed>, Error> {
    let mut found = Vec::new();
    let from = dest_key(domain, latest.plus(1), (QueueId(0), 0));
    for row in r.from(r.tables.queue_dest, Bound::Included(&from))? {
        let (key, value) = row?;
        if !key.starts_with(&prefix(domain)) {
            break;
        }
        found.extend(legible(r, key, value).map(|(DestKey { who, .. }, entry)| Indexed { who, entry }));
    }
    Ok(found)
}

/// Whether there are any.
pub fn has_beyond(r: &Reader<'_>, domain: &Domain, latest: UnixTime) -> Result<bool, Error> {
    let from = dest_key(domain, latest.plus(1), (QueueId(0), 0));
    match r.from(r.tables.queue_dest, Bound::Included(&from))?.next() {
        None => Ok(false),
        // One that is malformed is never pulled in: it must not keep asking for it.
        Some(row) => {
            let (key, _) = row?;
            Ok(key.starts_with(&prefix(domain)) && read_dest_key(key).is_ok())
        }
    }
}

/// Destinations with something due at `now` or before, earliest first, behind `after`; at most `limit` and at most `PAGE`.
pub fn due_destinations(
    r: &Reader<'_>,
    now: UnixTime,
    after: Option<(UnixTime, Domain)>,
    limit: usize,
) -> Result<Vec<(UnixTime, Domain)>, Error> {
    let from = after.map(|(due, domain)| due_key(due, &domain));
    let from = from.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    let mut found = Vec::new();
    for row in r.from(r.tables.queue_due, from)? {
        let Some((due, domain)) = legible_due(r, row?.0) else { continue };
        if due > now || found.len() == limit.min(PAGE) {
            break;
        }
        found.push((due, domain));
    }
    Ok(found)
}

/// Destinations with nothing due before `from`, earliest first.
pub fn destinations_from(r: &Reader<'_>, from: UnixTime, limit: usize) -> Result<Vec<(UnixTime, Domain)>, Error> {
    let mut found = Vec::new();
    for row in r.from(r.tables.queue_due, Bound::Included(&time_octets(from)))? {
        found.extend(legible_due(r, row?.0));
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// When the scheduler must wake up. `None`: nothing waits.
pub fn next_due(r: &Reader<'_>) -> Result<Option<UnixTime>, Error> {
    Ok(due_destinations(r, UnixTime(i64::MAX), None, 1)?.first().map(|(due, _)| *due))
}
