//! The places of the send socket: how many messages are handed in at once, and how many of them by one user.
//!
//! Comes in: a user number; goes out: a place, held until it is dropped. Whoever finds none waits, in order of arrival, but never
//! behind somebody who waits for his own messages to end: one user of the machine takes nothing from the others. Programs
//! that hand mail in seldom try twice, so a moment's wait is better than a "no"; who waits is bounded, too.
//! Root and the server's own user have no limit but the whole.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use crate::net::deadline::within;

/// Messages handed in at once: each holds at most 512 KiB of the memory for messages (`inbound::handed_in`).
pub const PLACES: usize = 16;
/// Of these, for one user.
pub const PLACES_OF_A_USER: usize = 4;
/// Connections of one user that wait for a place: a web server's burst. Each is a descriptor and some KiB.
const WAITING_OF_A_USER: usize = 32;
/// Of all users.
const WAITING: usize = 128;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// as many connections of this user as may wait do so
    UserQueueFull,
    QueueFull,
    /// the wait was too long; the user's own messages stand in the way
    UserBusy,
    /// the wait was too long
    Busy,
}

/// Whether a user's places are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Own,
    Unlimited,
}

/// All places. Clones share them.
#[derive(Clone, Default)]
pub struct Places(Rc<RefCell<Book>>);

#[derive(Default)]
struct Book {
    taken: usize,
    /// places of a user that has some
    held: HashMap<u32, usize>,
    /// by ticket, so in order of arrival
    waiting: BTreeMap<u64, Waiting>,
    next_ticket: u64,
}

struct Waiting {
    uid: u32,
    quota: Quota,
    waker: Waker,
}

/// A place; dropping it gives it to the next.
#[derive(Debug)]
pub struct Place {
    book: Places,
    uid: u32,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Places({} taken)", self.0.borrow().taken)
    }
}

impl Places {
    /// Stands in line; `Err` if the line is as long as it may be. What is given back waits for a place.
    pub fn queue(&self, uid: u32, quota: Quota) -> Result<Turn, NoPlace> {
        let mut book = self.0.borrow_mut();
        if book.waiting.len() >= WAITING {
            return Err(NoPlace::QueueFull);
        }
        if quota == Quota::Own && book.waiting.values().filter(|waiting| waiting.uid == uid).count() >= WAITING_OF_A_USER {
            return Err(NoPlace::UserQueueFull);
        }
        let ticket = book.next_ticket;
        book.next_ticket += 1;
        book.waiting.insert(ticket, Waiting { uid, quota, waker: Waker::noop().clone() });
        Ok(Turn { book: self.clone(), ticket, uid, quota })
    }

    fn wake_next(&self) {
        let waker = self.0.borrow().next().map(|(_, waiting)| waiting.waker.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Book {
    fn has_room(&self, uid: u32, quota: Quota) -> bool {
        self.taken < PLACES && !self.is_user_full(uid, quota)
    }

    fn is_user_full(&self, uid: u32, quota: Quota) -> bool {
        quota == Quota::Own && self.held.get(&uid).is_some_and(|held| *held >= PLACES_OF_A_USER)
    }

    /// The first in line who can have a place.
    fn next(&self) -> Option<(u64, &Waiting)> {
        let found = self.waiting.iter().find(|(_, waiting)| self.has_room(waiting.uid, waiting.quota));
        found.map(|(ticket, waiting)| (*ticket, waiting))
    }
}

/// Somebody in line; dropping leaves it.
#[derive(Debug)]
pub struct Turn {
    book: Places,
    ticket: u64,
    uid: u32,
    quota: Quota,
}

impl Turn {
    /// Waits for a place.
    pub async fn place(self, patience: Duration) -> Result<Place, NoPlace> {
        let taken = within(patience, poll_fn(|cx| self.poll(cx))).await;
        taken.map_err(|_| if self.book.0.borrow().is_user_full(self.uid, self.quota) { NoPlace::UserBusy } else { NoPlace::Busy })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Place> {
        let mut book = self.book.0.borrow_mut();
        if book.next().is_none_or(|(ticket, _)| ticket != self.ticket) {
            if let Some(waiting) = book.waiting.get_mut(&self.ticket) {
                waiting.waker = cx.waker().clone();
            }
            return Poll::Pending;
        }
        book.waiting.remove(&self.ticket);
        book.taken += 1;
        *book.held.entry(self.uid).or_default() += 1;
        Poll::Ready(Place { book: self.book.clone(), uid: self.uid })
    }
}

impl Drop for Turn {
    /// Whoever had to let this one pass is next; also behind one who got his place.
    fn drop(&mut self) {
        self.book.0.borrow_mut().waiting.remove(&self.ticket);
        self.book.wake_next();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.book.0.borrow_mut();
        book.taken -= 1;
        if let Some(held) = book.held.get_mut(&self.uid) {
            *held -= 1;
            if *held == 0 {
                book.held.remove(&self.uid);
            }
        }
        drop(book);
        self.book.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use async_io::block_on;
    use smol::future::poll_once;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn now(places: &Places, uid: u32) -> Option<Place> {
        poll_once(Box::pin(places.queue(uid, Quota::Own).unwrap().place(LONG))).await.map(Result::unwrap)
    }

    #[test]
    fn one_user_leaves_places_for_the_others() {
        block_on(async {
            let places = Places::default();
            let mut held = Vec::new();
            for uid in [1, 2, 3] {
                for n in 0..6 {
                    let place = now(&places, uid).await;
                    assert_eq!(place.is_some(), n < PLACES_OF_A_USER, "{uid} {n}");
                    held.extend(place);
                }
            }
            for n in 0..6 {
                let place = poll_once(Box::pin(places.queue(0, Quota::Unlimited).unwrap().place(LONG))).await;
                assert_eq!(place.is_some(), n < PLACES - 3 * PLACES_OF_A_USER, "root {n}");
                held.extend(place.map(Result::unwrap));
            }
            held.clear();
            let book = places.0.borrow();
            assert_eq!((book.taken, book.held.len(), book.waiting.len()), (0, 0, 0));
        });
    }

    #[test]
    fn who_waits_comes_in_order_but_not_behind_a_user_who_is_at_his_limit() {
        block_on(async {
            let places = Places::default();
            let mut greedy: Vec<Place> = Vec::new();
            for _ in 0..PLACES_OF_A_USER {
                greedy.extend(now(&places, 1).await);
            }
            let mut first = Box::pin(places.queue(1, Quota::Own).unwrap().place(LONG));
            let mut second = Box::pin(places.queue(1, Quota::Own).unwrap().place(LONG));
            assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
            let other = now(&places, 2).await;
            assert!(other.is_some(), "not behind them");
            drop(greedy.pop());
            assert!(poll_once(&mut second).await.is_none(), "the first in line is first");
            let place = first.await.unwrap();
            assert!(poll_once(&mut second).await.is_none());
            drop(place);
            second.await.unwrap();
        });
    }

    /// The tasks sleep until they are woken: nobody polls them here.
    #[test]
    fn a_place_that_comes_free_wakes_the_next_even_if_the_one_before_went_away() {
        let places = Places::default();
        let executor = smol::LocalExecutor::new();
        block_on(executor.run(async {
            let mut held = Vec::new();
            for uid in 1..=4 {
                for _ in 0..PLACES_OF_A_USER {
                    held.extend(now(&places, uid).await);
                }
            }
            assert_eq!(held.len(), PLACES);
            let gone = executor.spawn(places.queue(5, Quota::Own).unwrap().place(LONG));
            let tasks: Vec<_> = (6..12).map(|uid| executor.spawn(places.queue(uid, Quota::Own).unwrap().place(LONG))).collect();
            smol::future::yield_now().await;
            gone.cancel().await;
            // Two at once, and each that ends lets another in.
            held.truncate(PLACES - 2);
            for task in tasks {
                drop(within(LONG, task).await.unwrap().unwrap());
            }
        }));
    }

    #[test]
    fn the_line_is_bounded_and_says_who_stands_in_the_way() {
        block_on(async {
            let places = Places::default();
            let _held = [now(&places, 1).await, now(&places, 1).await, now(&places, 1).await, now(&places, 1).await];
            let short = Duration::from_millis(5);
            assert_eq!(places.queue(1, Quota::Own).unwrap().place(short).await.unwrap_err(), NoPlace::UserBusy);
            let mut line: Vec<Turn> = (0..WAITING_OF_A_USER).map(|_| places.queue(1, Quota::Own).unwrap()).collect();
            assert_eq!(places.queue(1, Quota::Own).unwrap_err(), NoPlace::UserQueueFull);
            assert!(now(&places, 2).await.is_some());
            for uid in 10.. {
                let more: Vec<Turn> = (0..WAITING_OF_A_USER).map_while(|_| places.queue(uid, Quota::Own).ok()).collect();
                let full = more.len() < WAITING_OF_A_USER;
                line.extend(more);
                if full {
                    break;
                }
            }
            assert_eq!(line.len(), WAITING);
            assert_eq!(places.queue(99, Quota::Own).unwrap_err(), NoPlace::QueueFull);
            let first = line.remove(0);
            drop(line);
            drop(first);
            assert!(now(&places, 99).await.is_some());
        });
    }
}
