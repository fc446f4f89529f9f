//! What time it is, and how far to believe it. A handle goes to whoever needs the time, so tests set it.
//!
//! A board without battery wakes up in 1970 or at its last shutdown; certificates, retries and expiry must not trust that
//! (R12). The floor is the newest time that is certainly past: the program's release or what the store saved last.
//! Not done here: asking the network for the time (later), saving the floor.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::mail::date::UnixTime;

/// No clock before this is right: 2026-11-01, shortly before this version.
pub const RELEASED: UnixTime = UnixTime(1_793_491_200);
/// A clock this far ahead of the newest known past is only plausible: five years are longer than a house goes without its
/// mail server, and shorter than the jumps of a broken clock (the test of R12 jumps ten).
const FARTHEST_AHEAD: i64 = 5 * 366 * 86_400;

/// How far the time may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Good for everything.
    Confirmed,
    /// Possible, but nothing may be expired, bounced or judged by it.
    Plausible,
    /// Certainly wrong.
    Unknown,
}

/// The time of this machine, or of a test. Clones share it.
#[derive(Clone)]
pub struct Clock(Rc<Inner>);

struct Inner {
    floor: Cell<UnixTime>,
    source: Source,
}

enum Source {
    Host,
    Fixed(UnixTime),
    Set(Hand),
}

/// Moves a settable clock.
#[derive(Clone)]
pub struct Hand(Rc<HandInner>);

struct HandInner {
    wall: Cell<UnixTime>,
    started: Instant,
    advanced: Cell<Duration>,
}

impl Clock {
    /// The host's clock, `clock = "host"`.
    pub fn host(floor: UnixTime) -> Clock {
        Clock(Rc::new(Inner { floor: Cell::new(floor.max(RELEASED)), source: Source::Host }))
    }

    /// A wall clock that stands and is believed, for `--at`; waiting takes as long as ever.
    pub fn fixed(now: UnixTime) -> Clock {
        Clock(Rc::new(Inner { floor: Cell::new(now), source: Source::Fixed(now) }))
    }

    /// A clock that stands until its hand is moved; its floor is where it begins.
    pub fn settable(now: UnixTime) -> (Clock, Hand) {
        let hand = Hand(Rc::new(HandInner { wall: Cell::new(now), started: Instant::now(), advanced: Cell::default() }));
        (Clock(Rc::new(Inner { floor: Cell::new(now), source: Source::Set(hand.clone()) })), hand)
    }

    /// Wall-clock time, for what people and protocols read.
    pub fn now(&self) -> UnixTime {
        match &self.0.source {
            Source::Host => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
                Err(before) => UnixTime(-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX)),
            },
            Source::Fixed(now) => *now,
            Source::Set(hand) => hand.0.wall.get(),
        }
    }

    /// Monotonic time, for intervals.
    pub fn instant(&self) -> Instant {
        match &self.0.source {
            Source::Host | Source::Fixed(_) => Instant::now(),
            Source::Set(hand) => hand.0.started + hand.0.advanced.get(),
        }
    }

    pub fn certainty(&self) -> Certainty {
        let (now, floor) = (self.now(), self.0.floor.get());
        if now < floor {
            Certainty::Unknown
        } else if now > floor.plus(FARTHEST_AHEAD) {
            Certainty::Plausible
        } else {
            Certainty::Confirmed
        }
    }

    /// The newest time that is certainly past.
    pub fn floor(&self) -> UnixTime {
        self.0.floor.get()
    }

    /// Remembers a time that is certainly past, e.g. what the store saved. Never lowers.
    pub fn raise_floor(&self, past: UnixTime) {
        self.0.floor.set(self.0.floor.get().max(past));
    }
}

impl Hand {
    /// Sets the wall clock; the monotonic one does not notice.
    pub fn set(&self, now: UnixTime) {
        self.0.wall.set(now);
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, time: Duration) {
        let before = self.0.advanced.get();
        let after = before + time;
        self.0.advanced.set(after);
        let seconds = i64::try_from(after.as_secs() - before.as_secs()).unwrap_or(i64::MAX);
        self.0.wall.set(self.0.wall.get().plus(seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_later_than_the_release_or_known_to_be_wrong() {
        let clock = Clock::host(UnixTime(0));
        assert_eq!(clock.floor(), RELEASED);
        assert_eq!(clock.certainty() == Certainty::Unknown, clock.now() < RELEASED);
    }

    #[test]
    fn a_fixed_clock_is_believed_and_does_not_stop_waiting() {
        for now in [UnixTime(0), RELEASED.plus(-86_400), RELEASED.plus(100 * 365 * 86_400)] {
            let clock = Clock::fixed(now);
            assert_eq!((clock.now(), clock.certainty(), clock.floor()), (now, Certainty::Confirmed, now));
            let before = clock.instant();
            std::thread::sleep(Duration::from_millis(2));
            assert!(clock.instant() > before);
        }
    }

    #[test]
    fn jumps_are_not_believed() {
        let ten_years = 10 * 365 * 86_400;
        let (clock, hand) = Clock::settable(RELEASED);
        assert_eq!(clock.certainty(), Certainty::Confirmed);
        hand.set(RELEASED.plus(-ten_years));
        assert_eq!(clock.certainty(), Certainty::Unknown);
        hand.set(RELEASED.plus(ten_years));
        assert_eq!(clock.certainty(), Certainty::Plausible);
        clock.raise_floor(RELEASED.plus(ten_years - 86_400));
        clock.raise_floor(RELEASED);
        assert_eq!(clock.certainty(), Certainty::Confirmed);
    }

    #[test]
    fn time_passes_on_both_clocks_and_jumps_on_one() {
        let (clock, hand) = Clock::settable(RELEASED);
        let before = clock.instant();
        for _ in 0..4 {
            hand.advance(Duration::from_millis(500));
        }
        assert_eq!((clock.now(), clock.instant()), (RELEASED.plus(2), before + Duration::from_secs(2)));
        hand.set(UnixTime(0));
        assert_eq!(clock.instant(), before + Duration::from_secs(2));
    }
}
