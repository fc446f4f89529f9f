//! Time that counts into nobody's lifetime (R12): of a message that waited for our resolvers, and of all while the clock
//! was in doubt.
//!
//! The first stands with the message. The second would touch every message of the queue: its times stand in one row of
//! `meta` instead, with what there is of a doubt that has not ended, so that a restart forgets neither.

use nanoserde::{DeBin, SerBin};

use crate::mail::date::UnixTime;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::queue_key;
use crate::store::errors::Error;
use crate::store::ids::QueueId;
use crate::store::queue::Queued;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// The row of `meta`.
const TIMES: &[u8] = b"queue-blind-times";

/// A time during which the clock was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct BlindTime {
    /// when it ended, by the clock that was believed again; of one that has not ended: meaningless
    pub until: UnixTime,
    /// how long it lasted, by the monotonic clock
    pub seconds: u64,
    /// the earliest and the latest that the clock said meanwhile: a message that bears such a time came at an unknown one
    pub wrong: (UnixTime, UnixTime),
}

/// Those that ended, oldest first, and the one that goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct BlindTimes {
    pub ended: Vec<BlindTime>,
    pub open: Option<BlindTime>,
}

impl Row for BlindTimes {
    const WHAT: &'static str = "the row of the times that do not count";
}

/// What is known of such times; a row that is damaged is as good as none.
pub fn blind_times(r: &Reader<'_>) -> Result<BlindTimes, Error> {
    let Some(octets) = r.bytes(r.tables.meta, TIMES)? else { return Ok(BlindTimes::default()) };
    match codec::decode(octets) {
        Err(Error::Damaged(why)) => {
            r.damage.note(&why);
            Ok(BlindTimes::default())
        }
        times => times,
    }
}

pub fn put_blind_times(w: &mut Writer<'_>, times: &BlindTimes) -> Result<(), Error> {
    w.put(w.tables.meta, TIMES, times)
}

/// Seconds, from `now` on, that do not count into the lifetime of a message: its recipients at several domains wait through
/// the same ones, so they are never more than its age then.
pub fn waited_blind(w: &mut Writer<'_>, id: QueueId, seconds: u64, now: UnixTime) -> Result<(), Error> {
    let Some(mut message) = w.row::<Queued>(w.tables.queue, &queue_key(id))? else { return Ok(()) };
    let age = u64::try_from(now.0.saturating_sub(message.arrived.0)).unwrap_or(0).saturating_add(seconds);
    message.waited_blind = message.waited_blind.saturating_add(seconds).min(age.max(message.waited_blind));
    w.put(w.tables.queue, &queue_key(id), &message)
}
