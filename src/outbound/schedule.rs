//! When mail is tried again, when its sender is told, and when it goes back (RFC 5321 section 4.5.4.1, delivery.md section 6).
//!
//! In go the settings, the row of the queue and the time; out come moments. Pure: the clock and the dice are the caller's.
//! A message that bears a time at which no clock was right (R12) is given as many attempts as a whole lifetime has,
//! because its age is not known.

use crate::config::settings;
use crate::mail::date::UnixTime;

/// Intervals double up to the longest (RFC 5321 section 4.5.4.1 wants no more than a few attempts in the first hour).
const GROWTH: i64 = 2;
/// An interval is spread by this share of itself in each direction, so that what failed together does not come back
/// together.
const SPREAD: i64 = 8;
/// Doubling further than this cannot matter: 2^20 seconds are 12 days.
const MOST_DOUBLINGS: u32 = 20;

/// The settings of the retries, in seconds, and one throw of the dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    first: i64,
    longest: i64,
    give_up_after: i64,
    notice_after: i64,
    dice: u8,
}

/// The life of one message so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub arrived: UnixTime,
    /// seconds that do not count
    pub blind: u64,
    /// times that a recipient was tried, with the attempt under way
    pub attempts: u32,
}

/// What a failed attempt at this moment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// too early to say anything
    Fresh,
    /// the sender should know
    Late,
    Over,
}

impl Schedule {
    pub fn new(settings: &settings::Outbound, dice: u8) -> Schedule {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).max(1);
        Schedule {
            first: seconds(settings.first_retry),
            longest: seconds(settings.longest_retry).max(seconds(settings.first_retry)),
            give_up_after: seconds(settings.give_up_after),
            notice_after: seconds(settings.delay_notice_after),
            dice,
        }
    }

    /// When the next attempt is due if the one that begins now fails. The moments of the notice and of the end are never
    /// slept through.
    pub fn next(&self, life: Life, now: UnixTime) -> UnixTime {
        let doublings = life.attempts.saturating_sub(1).min(MOST_DOUBLINGS);
        let plain = self.first.saturating_mul(GROWTH.pow(doublings)).min(self.longest);
        // From 7/8 to 9/8, in 256 steps.
        let spread = plain / SPREAD * (2 * i64::from(self.dice) - 255) / 255;
        let next = now.plus((plain + spread).clamp(self.first, self.longest));
        let moments = [self.notice_at(life, now), self.end(life, now)];
        moments.into_iter().filter(|moment| *moment > now).fold(next, UnixTime::min)
    }

    pub fn patience(&self, life: Life, now: UnixTime) -> Patience {
        if now >= self.end(life, now) {
            Patience::Over
        } else if now >= self.notice_at(life, now) {
            Patience::Late
        } else {
            Patience::Fresh
        }
    }

    /// When the message is given up.
    pub fn end(&self, life: Life, now: UnixTime) -> UnixTime {
        self.begin(life, now).plus(self.give_up_after)
    }

    /// The wait when nothing can be known, because our resolvers are silent: neither longer nor shorter each time.
    pub fn blind_wait(&self) -> i64 {
        self.first
    }

    fn notice_at(&self, life: Life, now: UnixTime) -> UnixTime {
        self.begin(life, now).plus(self.notice_after)
    }

    /// The moment from which the age counts.
    fn begin(&self, life: Life, now: UnixTime) -> UnixTime {
        let Life { arrived, blind, attempts } = life;
        if arrived < crate::net::clock::RELEASED || arrived > now {
            return now.plus(-self.longest.saturating_mul(i64::from(attempts.saturating_sub(1))));
        }
        arrived.plus(i64::try_from(blind).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::settings::PrivateAddresses;
    use crate::net::clock::RELEASED;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn schedule(dice: u8) -> Schedule {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let settings = settings::Outbound {
            first_retry: Duration::from_secs(300),
            longest_retry: hours(4),
            give_up_after: hours(120),
            delay_notice_after: hours(4),
            destinations: 10,
            connections_per_destination: 2,
            port: 25,
            private_addresses: PrivateAddresses::Refused,
        };
        Schedule::new(&settings, dice)
    }

    /// Plays a life of failures; gives the attempts' times, and when `Late` and `Over` came first.
    fn play(dice: u8, arrived: UnixTime, begin: UnixTime) -> (Vec<i64>, UnixTime, UnixTime) {
        let (schedule, mut now, mut times, mut late) = (schedule(dice), begin, Vec::new(), None);
        for attempts in 1..1000 {
            let life = Life { arrived, blind: 0, attempts };
            times.push(now.0 - begin.0);
            match schedule.patience(life, now) {
                Patience::Over => return (times, late.unwrap(), now),
                Patience::Late => late = late.or(Some(now)),
                Patience::Fresh => {}
            }
            now = schedule.next(life, now);
        }
        panic!("it never ends");
    }

    #[test]
    fn intervals_grow_from_five_minutes_to_four_hours_for_five_days() {
        for dice in [0, 1, 127, 128, 255] {
            let (times, late, over) = play(dice, RELEASED, RELEASED);
            assert_eq!((late, over), (RELEASED.plus(4 * HOUR), RELEASED.plus(5 * DAY)), "{dice}");
            assert!((300..=338).contains(&times[1]), "{times:?}");
            assert!((30..=50).contains(&times.len()), "{times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 4 * HOUR), "{times:?}");
        }
        assert!(play(0, RELEASED, RELEASED).0[1..5] != play(255, RELEASED, RELEASED).0[1..5]);
    }

    #[test]
    fn a_wrong_time_of_arrival_ends_nothing_early() {
        let begin = RELEASED.plus(DAY);
        for arrived in [UnixTime(0), begin.plus(10 * 366 * DAY)] {
            let (times, _, over) = play(128, arrived, begin);
            assert!(over.0 - begin.0 >= 4 * DAY && times.len() >= 30, "{over:?}");
        }
    }

    #[test]
    fn blind_time_does_not_count() {
        let life = |blind| Life { arrived: RELEASED, blind, attempts: 40 };
        let now = RELEASED.plus(5 * DAY + 1);
        assert_eq!(schedule(0).patience(life(0), now), Patience::Over);
        assert_eq!(schedule(0).patience(life(3600), now), Patience::Late);
        assert_eq!(schedule(0).patience(life(5 * 86_400), now), Patience::Fresh);
    }
}
