//! The administrator's verbs, one recipient a call; each is written into its history.
//!
//! A recipient whose attempt is under way cannot be tried now, nor be called back from the peer: holding and failing wait
//! for the end of the attempt (`attempts::settle`), removing takes the row at once.

use crate::mail::date::UnixTime;
use crate::store::errors::Error;
use crate::store::ids::QueueId;
use crate::store::queue;
use crate::store::queue::Event;
use crate::store::queue::RecipientState;
use crate::store::queue::rows;
use crate::store::queue::rows::RecipientRow;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

const DAMAGED: &str = "is damaged: it can only be dropped";

/// What a verb did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    Done,
    /// nothing, and why: `is held`
    Already(&'static str),
    NoSuch,
}

/// Makes a recipient that waits due at `event.at`.
pub fn retry_now(w: &mut Writer<'_>, id: QueueId, n: u32, event: Event) -> Result<Steered, Error> {
    change(w, id, n, event, |row, now, run| match row.recipient.state {
        RecipientState::Held(_) => Err("is held: release it first"),
        RecipientState::Failing(_) => Err("is about to be given up"),
        RecipientState::Waiting if row.claimed_by == run => Err("is being tried at this moment"),
        RecipientState::Waiting => {
            row.recipient.due = row.recipient.due.min(now);
            Ok(())
        }
    })
}

/// Keeps a recipient from being tried until it is released.
pub fn hold(w: &mut Writer<'_>, id: QueueId, n: u32, why: String, event: Event) -> Result<Steered, Error> {
    change(w, id, n, event, |row, _, _| match row.recipient.state {
        RecipientState::Held(_) => Err("is held already"),
        RecipientState::Waiting | RecipientState::Failing(_) => {
            row.recipient.state = RecipientState::Held(why);
            Ok(())
        }
    })
}

/// Makes a recipient that is held wait again, due at `event.at`. Faults of the program are forgotten with it.
pub fn release(w: &mut Writer<'_>, id: QueueId, n: u32, event: Event) -> Result<Steered, Error> {
    change(w, id, n, event, |row, now, run| match row.recipient.state {
        RecipientState::Waiting | RecipientState::Failing(_) => Err("is not held"),
        RecipientState::Held(_) => {
            row.recipient.state = RecipientState::Waiting;
            row.recipient.crashes = 0;
            if row.claimed_by != run {
                row.recipient.due = now;
            }
            Ok(())
        }
    })
}

/// Gives a recipient up: the scheduler settles it as a failure, with the notice that its sender is owed.
pub fn fail(w: &mut Writer<'_>, id: QueueId, n: u32, why: String, event: Event) -> Result<Steered, Error> {
    change(w, id, n, event, |row, now, run| match row.recipient.state {
        RecipientState::Failing(_) => Err("is about to be given up already"),
        RecipientState::Waiting | RecipientState::Held(_) => {
            row.recipient.state = RecipientState::Failing(why);
            row.recipient.crashes = 0;
            if row.claimed_by != run {
                row.recipient.due = now;
            }
            Ok(())
        }
    })
}

/// Takes a recipient away; nobody is told. The one verb for what cannot be read.
pub fn remove(w: &mut Writer<'_>, id: QueueId, n: u32) -> Result<Steered, Error> {
    match (rows::load(w, id, n), queue::get(&w.reader(), id)) {
        (Ok(None), _) => return Ok(Steered::NoSuch),
        (Ok(Some(row)), Ok(Some(_))) => rows::remove(w, id, n, &row.recipient)?,
        (Err(Error::Damaged(_)), _) | (_, Err(Error::Damaged(_)) | Ok(None)) => rows::discard(w, id, n)?,
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    Ok(Steered::Done)
}

/// Runs a verb on a row; what it changed is stored with its event, and the scheduler is woken.
fn change(
    w: &mut Writer<'_>,
    id: QueueId,
    n: u32,
    event: Event,
    verb: impl FnOnce(&mut RecipientRow, UnixTime, u64) -> Result<(), &'static str>,
) -> Result<Steered, Error> {
    let mut row = match (rows::load(w, id, n), queue::get(&w.reader(), id)) {
        (Ok(None), _) => return Ok(Steered::NoSuch),
        (Ok(Some(row)), Ok(Some(_))) => row,
        (Err(Error::Damaged(_)), _) | (_, Err(Error::Damaged(_)) | Ok(None)) => return Ok(Steered::Already(DAMAGED)),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let before = row.recipient.clone();
    if let Err(why) = verb(&mut row, event.at, w.run()) {
        return Ok(Steered::Already(why));
    }
    row.recipient.note(event);
    rows::replace(w, id, n, &before, &row)?;
    w.raise(Topic::Queue);
    Ok(Steered::Done)
}
