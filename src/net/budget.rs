//! One budget of memory for the message bytes in flight of all sessions (R8): over it sessions wait their turn, first come
//! first served, and those whose patience ends get `Exhausted` (`452 4.3.1`).
//!
//! A session that holds a share and waits for more keeps what it holds; patience, not order, ends a mutual wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use crate::net::deadline::within;

/// No memory came free in time, or more was asked than there is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory for messages is in use")
    }
}

impl std::error::Error for Exhausted {}

/// The shared budget. Clones share it.
#[derive(Clone)]
pub struct Budget(Rc<RefCell<Purse>>);

struct Purse {
    capacity: usize,
    used: usize,
    /// Who waits, in order of arrival. There is at most one entry a session, so slots bound it.
    queue: VecDeque<Waiting>,
    next_ticket: u64,
}

struct Waiting {
    ticket: u64,
    waker: Waker,
}

/// Bytes of the budget; dropping gives them back and wakes who waits.
pub struct Reserved {
    purse: Rc<RefCell<Purse>>,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        Budget(Rc::new(RefCell::new(Purse { capacity: bytes, used: 0, queue: VecDeque::new(), next_ticket: 0 })))
    }

    /// `n` bytes, after those who came before, within `patience`.
    pub async fn take(&self, n: usize, patience: Duration) -> Result<Reserved, Exhausted> {
        if let Some(reserved) = self.try_take(n) {
            return Ok(reserved);
        }
        if n > self.capacity() {
            return Err(Exhausted);
        }
        let place = Place::new(&self.0);
        let turn = poll_fn(|cx| place.poll_turn(n, cx));
        let reserved = within(patience, turn).await.map_err(|_| Exhausted);
        drop(place);
        reserved
    }

    /// `n` bytes if they are free and nobody waits for some.
    pub fn try_take(&self, n: usize) -> Option<Reserved> {
        let mut purse = self.0.borrow_mut();
        if !purse.queue.is_empty() || n > purse.capacity - purse.used {
            return None;
        }
        purse.used += n;
        Some(Reserved { purse: Rc::clone(&self.0), bytes: n })
    }

    /// What nobody has and nobody waits for is scarce: less than a quarter is left beside `n` more bytes. Who can do
    /// with less memory should, so that those who begin find some.
    pub fn is_scarce(&self, n: usize) -> bool {
        let purse = self.0.borrow();
        !purse.queue.is_empty() || purse.capacity - purse.used < purse.capacity / 4 + n
    }

    pub fn used(&self) -> usize {
        self.0.borrow().used
    }

    pub fn capacity(&self) -> usize {
        self.0.borrow().capacity
    }
}

impl Purse {
    fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.waker.wake_by_ref();
        }
    }
}

/// A place in the queue, left by dropping it.
struct Place {
    purse: Rc<RefCell<Purse>>,
    ticket: u64,
}

impl Place {
    fn new(purse: &Rc<RefCell<Purse>>) -> Place {
        let mut book = purse.borrow_mut();
        let ticket = book.next_ticket;
        book.next_ticket += 1;
        book.queue.push_back(Waiting { ticket, waker: Waker::noop().clone() });
        Place { purse: Rc::clone(purse), ticket }
    }

    fn poll_turn(&self, n: usize, cx: &Context<'_>) -> Poll<Reserved> {
        let mut purse = self.purse.borrow_mut();
        let first = purse.queue.front().is_some_and(|waiting| waiting.ticket == self.ticket);
        if first && n <= purse.capacity - purse.used {
            purse.used += n;
            return Poll::Ready(Reserved { purse: Rc::clone(&self.purse), bytes: n });
        }
        if let Some(waiting) = purse.queue.iter_mut().find(|waiting| waiting.ticket == self.ticket) {
            waiting.waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut purse = self.purse.borrow_mut();
        purse.queue.retain(|waiting| waiting.ticket != self.ticket);
        // There may be enough left for the next one.
        purse.wake_first();
    }
}

impl Reserved {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts another share of the same budget to this one.
    pub fn absorb(&mut self, mut other: Reserved) {
        debug_assert!(Rc::ptr_eq(&self.purse, &other.purse), "shares of one budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back what is over `n` bytes.
    pub fn shrink_to(&mut self, n: usize) {
        let excess = self.bytes.saturating_sub(n);
        self.bytes -= excess;
        self.give_back(excess);
    }

    fn give_back(&self, bytes: usize) {
        let mut purse = self.purse.borrow_mut();
        purse.used -= bytes;
        purse.wake_first();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use smol::LocalExecutor;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);
    const LATER: Duration = Duration::from_secs(10);

    #[test]
    fn over_the_budget_one_waits_and_then_gives_up() {
        let budget = Budget::new(100);
        async_io::block_on(async {
            let held = budget.take(60, SOON).await.unwrap();
            assert_eq!(budget.take(41, SOON).await.err(), Some(Exhausted));
            assert_eq!(budget.take(101, LATER).await.err(), Some(Exhausted));
            assert_eq!(budget.take(40, SOON).await.unwrap().bytes(), 40);
            drop(held);
            assert_eq!(budget.used(), 0);
        });
    }

    #[test]
    fn first_come_first_served_even_if_a_later_one_would_fit() {
        let budget = Budget::new(100);
        let order = Rc::new(RefCell::new(Vec::new()));
        let executor = LocalExecutor::new();
        crate::net::run(&executor, async {
            let mut held = budget.try_take(100).unwrap();
            let tasks: Vec<_> = [80, 10, 30]
                .map(|n| {
                    let (budget, order) = (budget.clone(), Rc::clone(&order));
                    executor.spawn(async move {
                        let share = budget.take(n, LATER).await.unwrap();
                        order.borrow_mut().push(share.bytes());
                        smol::future::yield_now().await;
                    })
                })
                .into_iter()
                .collect();
            smol::future::yield_now().await;
            held.shrink_to(50);
            crate::net::deadline::sleep(SOON).await;
            assert!(order.borrow().is_empty(), "10 and 30 wait behind 80");
            assert!(budget.try_take(1).is_none());
            drop(held);
            for task in tasks {
                task.await;
            }
        });
        assert_eq!(*order.borrow(), [80, 10, 30]);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn shares_grow_and_shrink() {
        let budget = Budget::new(100);
        let mut share = budget.try_take(10).unwrap();
        share.absorb(budget.try_take(20).unwrap());
        assert_eq!((share.bytes(), budget.used()), (30, 30));
        share.shrink_to(5);
        share.shrink_to(50);
        assert_eq!((share.bytes(), budget.used()), (5, 5));
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
