//! What has been learnt about the keys of a zone (RFC 5011): one value of `meta`, written as a whole.
//!
//! Losing it would forget that a key was revoked; what cannot be read is damaged, never taken for "nothing learnt".

use nanoserde::{DeBin, SerBin};

use crate::mail::date::UnixTime;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::rollover::Kept;
use crate::proto::dns::dnssec::rollover::Rollover;
use crate::proto::dns::dnssec::rollover::Source;
use crate::proto::dns::dnssec::rollover::State;
use crate::proto::dns::name::Name;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::errors::Error;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// Only the root's: a file of anchors is believed as it stands.
const ROOT: &[u8] = b"trust-anchors";

#[derive(SerBin, DeBin)]
struct RolloverRow {
    keys: Vec<KeptRow>,
    seen: Option<UnixTime>,
    next: Option<UnixTime>,
    retry: i64,
}

#[derive(SerBin, DeBin)]
struct KeptRow {
    /// the data of the DS record
    ds: Vec<u8>,
    state: StateRow,
    since: Option<UnixTime>,
    built_in: bool,
}

#[derive(SerBin, DeBin)]
enum StateRow {
    Pending(UnixTime),
    Valid,
    Missing,
    Revoked(UnixTime),
    Removed,
}

impl Row for RolloverRow {
    const WHAT: &'static str = "what was learnt about trust anchors";
}

/// What was learnt about the root's keys. `None`: nothing yet.
pub fn root(r: &Reader<'_>) -> Result<Option<Rollover>, Error> {
    let Some(octets) = r.bytes(r.tables.meta, ROOT)? else { return Ok(None) };
    let row: RolloverRow = codec::decode(octets)?;
    let keys = row.keys.into_iter().map(kept).collect::<Result<_, _>>()?;
    Ok(Some(Rollover { zone: Name::root(), keys, seen: row.seen, next: row.next, retry: row.retry }))
}

fn kept(row: KeptRow) -> Result<Kept, Error> {
    let ds = Ds::decode(&row.ds).ok_or_else(|| Error::Damaged(format!("{}: a key cannot be read", RolloverRow::WHAT)))?;
    let state = match row.state {
        StateRow::Pending(until) => State::Pending { until },
        StateRow::Valid => State::Valid,
        StateRow::Missing => State::Missing,
        StateRow::Revoked(until) => State::Revoked { until },
        StateRow::Removed => State::Removed,
    };
    Ok(Kept { ds, state, since: row.since, source: if row.built_in { Source::BuiltIn } else { Source::Learnt } })
}

pub fn set_root(w: &mut Writer<'_>, rollover: &Rollover) -> Result<(), Error> {
    let keys = rollover.keys.iter().map(|kept| KeptRow {
        ds: kept.ds.encode(),
        state: match kept.state {
            State::Pending { until } => StateRow::Pending(until),
            State::Valid => StateRow::Valid,
            State::Missing => StateRow::Missing,
            State::Revoked { until } => StateRow::Revoked(until),
            State::Removed => StateRow::Removed,
        },
        since: kept.since,
        built_in: kept.source == Source::BuiltIn,
    });
    let row = RolloverRow { keys: keys.collect(), seen: rollover.seen, next: rollover.next, retry: rollover.retry };
    w.put_bytes(w.tables.meta, ROOT, &codec::encode(&row))
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::proto::dns::dnssec::anchor::Anchors;
    use crate::store::check;
    use crate::store::testing::Scratch;

    #[test]
    fn every_state_comes_back() {
        let scratch = Scratch::new();
        let store = scratch.open();
        assert_eq!(store.read(root).unwrap(), None);
        let mut rollover = Rollover::new(Name::root()).seed(&Anchors::built_in());
        let example = rollover.keys[0].clone();
        let states =
            [State::Pending { until: UnixTime(7) }, State::Valid, State::Missing, State::Revoked { until: UnixTime(-7) }, State::Removed];
        for state in states {
            rollover.keys.push(Kept { state, since: Some(UnixTime(5)), source: Source::Learnt, ..example.clone() });
        }
        (rollover.seen, rollover.retry) = (Some(UnixTime(99)), 12_345);
        let written = rollover.clone();
        block_on(store.write(move |w| set_root(w, &written))).unwrap();
        block_on(store.close());
        let store = scratch.open();
        assert_eq!(store.read(root).unwrap(), Some(rollover));
        block_on(store.write(|w| w.put_bytes(w.tables.meta, ROOT, b"\x01\xff"))).unwrap();
        assert!(matches!(store.read(root), Err(Error::Damaged(_))));
        assert_eq!(store.read(check::everything).unwrap().len(), 1);
    }
}
