//! What a visit has claimed and not settled yet, so that every claim ends, whatever becomes of the visit (R17).
//!
//! A visit that ends well has an empty ledger. At a drain the rest is put back, as if it had never been claimed. After a
//! panic those who were being transmitted are noted as crashed and the others put back; if nothing was being
//! transmitted, the fault lies in finding the way, and all are noted: a second time they are set aside (`store::queue`).

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::mail::date::UnixTime;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Store;
use crate::store::queue;
use crate::store::queue::Claimed;
use crate::store::queue::Event;
use crate::store::queue::Settlement;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Transmitting,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Orderly,
    Panic,
}

/// The open claims of one visit.
#[derive(Default)]
pub struct Ledger(RefCell<BTreeMap<(QueueId, u32), Stage>>);

impl Ledger {
    pub fn claimed(&self, claims: &[Claimed]) {
        let mut open = self.0.borrow_mut();
        for claim in claims {
            open.extend(claim.recipients.iter().map(|(n, _)| ((claim.id, *n), Stage::Waiting)));
        }
    }

    pub fn transmitting(&self, id: QueueId, n: u32) {
        self.0.borrow_mut().insert((id, n), Stage::Transmitting);
    }

    pub fn settled(&self, id: QueueId, n: u32) {
        self.0.borrow_mut().remove(&(id, n));
    }

    /// Ends what is open.
    pub async fn close(&self, store: &Store, end: End, now: UnixTime) -> Result<(), Error> {
        let open = self.0.take();
        if open.is_empty() {
            return Ok(());
        }
        let transmitted = open.values().any(|stage| *stage == Stage::Transmitting);
        store
            .write(move |w| {
                for ((id, n), stage) in open {
                    let guilty = stage == Stage::Transmitting || !transmitted;
                    if end == End::Panic && guilty {
                        let event = Event { at: now, what: "this program failed at the attempt".to_owned() };
                        queue::settle(w, id, n, Settlement::Crashed, event)?;
                    } else {
                        queue::put_back(w, id, n, now)?;
                    }
                }
                Ok(())
            })
            .await
    }
}
