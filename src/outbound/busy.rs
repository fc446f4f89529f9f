//! What is under way: visits to domains, their limits, the domains that were found dead, and the time that did not count.
//!
//! Two limits keep dead hosts from delaying live ones (R11): a visit needs a pass of the small gate only once a host has
//! answered; looking up and dialling happen under a large one. Of that, the last quarter is kept for domains that are not
//! known to be dead. In memory only: a restart begins with the best opinion of everybody.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::rc::Rc;

use smol::channel::Sender;
use smol::channel::bounded;

use crate::mail::domain::Domain;
use crate::outbound::doubt::Past;

/// Visits that look up and dial at once: each costs a few sockets and KiB, and a dead host some minutes.
pub const DIALLING: usize = 100;
/// … of these for domains that were dead at their last visit.
pub const DIALLING_DEAD: usize = 75;
/// Dead domains that are remembered, some 2 MiB; beyond, none is added until some are reached again.
const MAX_DEAD: usize = 100_000;

/// Shared by the scheduler and its visits.
#[derive(Default)]
pub struct Busy {
    visited: RefCell<BTreeSet<Domain>>,
    /// by their hashes: two domains with one hash share a bad name, which does little harm
    dead: RefCell<HashSet<u64>>,
    hasher: RandomState,
    /// times in which the clock was in doubt
    pub(super) past: RefCell<Past>,
    /// visits that hold a connection
    pub gate: Rc<Gate>,
    /// rung when a visit ends
    pub(super) ended: RefCell<Option<Sender<()>>>,
}

impl Busy {
    /// Visits under way; 0 after the drain.
    pub fn count(&self) -> usize {
        self.visited.borrow().len()
    }

    pub(super) fn is_visited(&self, domain: &Domain) -> bool {
        self.visited.borrow().contains(domain)
    }

    pub(super) fn begin(&self, domain: &Domain) {
        self.visited.borrow_mut().insert(domain.clone());
    }

    pub(super) fn end(&self, domain: &Domain) {
        self.visited.borrow_mut().remove(domain);
        if let Some(ended) = self.ended.borrow().as_ref() {
            // Full: the scheduler will look anyway.
            let _ = ended.try_send(());
        }
    }

    /// Whether one more visit may begin, to a domain like this.
    pub(super) fn has_room(&self, domain: &Domain) -> bool {
        let dialling = self.count().saturating_sub(self.gate.inside());
        dialling < if self.is_dead(domain) { DIALLING_DEAD } else { DIALLING }
    }

    /// Whether no visit may begin, whereto ever.
    pub(super) fn is_full(&self) -> bool {
        self.count().saturating_sub(self.gate.inside()) >= DIALLING
    }

    pub(super) fn found_dead(&self, domain: &Domain) {
        let mut dead = self.dead.borrow_mut();
        if dead.len() < MAX_DEAD {
            dead.insert(self.hasher.hash_one(domain.as_str()));
        }
    }

    pub(super) fn found_alive(&self, domain: &Domain) {
        self.dead.borrow_mut().remove(&self.hasher.hash_one(domain.as_str()));
    }

    fn is_dead(&self, domain: &Domain) -> bool {
        self.dead.borrow().contains(&self.hasher.hash_one(domain.as_str()))
    }

    /// The limit of destinations may have been raised: as many of those who wait as it allows now go on.
    pub fn settings_changed(&self, destinations: usize) {
        self.gate.widen(destinations);
    }
}

/// Lets so many pass at once, in the order of their coming.
#[derive(Default)]
pub struct Gate {
    inside: Cell<usize>,
    waiting: RefCell<VecDeque<Sender<()>>>,
}

/// A place behind the gate, until it is dropped.
pub struct Pass(Rc<Gate>);

impl Gate {
    pub fn inside(&self) -> usize {
        self.inside.get()
    }

    /// Whether somebody waits, or did until lately.
    pub fn is_wanted(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Waits for a place. `limit` is asked anew each time, because settings change.
    pub async fn enter(self: &Rc<Gate>, limit: impl Fn() -> usize) -> Pass {
        while self.inside.get() >= limit().max(1) {
            let (wake, woken) = bounded(1);
            self.waiting.borrow_mut().push_back(wake);
            // An error means that the sender was dropped, which only happens with the gate.
            let _ = woken.recv().await;
        }
        self.inside.set(self.inside.get() + 1);
        Pass(Rc::clone(self))
    }

    /// Wakes as many as a new limit has room for, first come first.
    fn widen(&self, limit: usize) {
        for _ in self.inside.get()..limit.max(1) {
            self.wake_one();
        }
    }

    fn wake_one(&self) {
        let mut waiting = self.waiting.borrow_mut();
        // One that gave up waiting is no heir.
        while let Some(next) = waiting.pop_front() {
            if next.try_send(()).is_ok() {
                break;
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get().saturating_sub(1));
        self.0.wake_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_lets_in_as_many_as_it_may_and_forgets_those_who_left() {
        let gate: Rc<Gate> = Rc::default();
        async_io::block_on(async {
            let first = gate.enter(|| 1).await;
            let gives_up = smol::future::or(async { Some(gate.enter(|| 1).await) }, async { None }).await;
            assert!(gives_up.is_none());
            let order = RefCell::new(Vec::new());
            let second = async {
                let _pass = gate.enter(|| 1).await;
                order.borrow_mut().push("second");
            };
            let leaves = async {
                order.borrow_mut().push("first leaves");
                drop(first);
            };
            smol::future::zip(second, leaves).await;
            assert_eq!(*order.borrow(), ["first leaves", "second"]);
        });
        assert_eq!(gate.inside(), 0);
    }

    #[test]
    fn dead_domains_leave_room_for_the_others() {
        let (busy, dead, fresh) = (Busy::default(), Domain::parse("dead.test").unwrap(), Domain::parse("fresh.test").unwrap());
        for number in 0..DIALLING_DEAD {
            busy.begin(&Domain::parse(&format!("d{number}.test")).unwrap());
        }
        busy.found_dead(&dead);
        assert!(!busy.has_room(&dead) && busy.has_room(&fresh));
        busy.found_alive(&dead);
        assert!(busy.has_room(&dead));
    }

    #[test]
    fn a_raised_limit_wakes_as_many_as_it_has_room_for() {
        let (busy, limit, inside) = (Busy::default(), Cell::new(1), Cell::new(0));
        async_io::block_on(async {
            let _first = busy.gate.enter(|| limit.get()).await;
            let waits = || async {
                let _pass = busy.gate.enter(|| limit.get()).await;
                inside.set(inside.get() + 1);
                std::future::pending::<()>().await;
            };
            let mut all = [Box::pin(waits()), Box::pin(waits()), Box::pin(waits())];
            let mut poll_all = async || {
                for one in &mut all {
                    assert!(smol::future::poll_once(one).await.is_none());
                }
            };
            poll_all().await;
            assert_eq!(inside.get(), 0);
            limit.set(3);
            busy.settings_changed(3);
            poll_all().await;
            assert_eq!((inside.get(), busy.gate.is_wanted()), (2, true));
        });
    }
}
