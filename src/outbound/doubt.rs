//! Times in which the clock was not believed (R12): noticed, kept across restarts, and what they mean for the age of mail.
//!
//! `Doubt` belongs to the scheduler: it watches the clock and stores what it saw, at the begin and the end of a doubt and
//! every few minutes in between, because a board that wakes up in 1970 is often switched off again. `Past` is everybody's:
//! by it a message that waited through such a time is younger than it looks, and one that came in it is of unknown age.

use std::time::Duration;
use std::time::Instant;

use crate::mail::date::UnixTime;
use crate::net::clock::Certainty;
use crate::outbound::Outbound;
use crate::outbound::schedule::Life;
use crate::proto::dns::lookup::Lookup;
use crate::store::Error;
use crate::store::queue;
use crate::store::queue::BlindTime;
use crate::store::queue::BlindTimes;
use crate::store::queue::Queued;

/// Times that are remembered; before more are, the two oldest become one.
const MAX_PAST: usize = 100;
/// Between two notes of how long a doubt has lasted: so much of it a crash forgets.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// The clock is looked at once a minute at least: mail that came a little before or after a look bears a wrong time, too.
const BETWEEN_LOOKS: i64 = 120;

/// The times that ended.
#[derive(Clone, Debug, Default)]
pub struct Past(Vec<BlindTime>);

impl Past {
    /// How long a message has waited.
    pub fn life(&self, message: &Queued, attempts: u32) -> Life {
        if self.0.iter().any(|time| time.wrong.0 <= message.arrived && message.arrived <= time.wrong.1) {
            // It came while the clock was wrong.
            return Life { arrived: UnixTime(0), blind: 0, attempts };
        }
        let blind: u64 = self.0.iter().filter(|time| time.until > message.arrived).map(|time| time.seconds).sum();
        Life { arrived: message.arrived, blind: message.waited_blind.saturating_add(blind), attempts }
    }

    fn add(&mut self, time: BlindTime) {
        self.0.push(time);
        if self.0.len() > MAX_PAST {
            let oldest = self.0.remove(0);
            let next = &mut self.0[0];
            next.seconds = next.seconds.saturating_add(oldest.seconds);
            next.wrong = (next.wrong.0.min(oldest.wrong.0), next.wrong.1.max(oldest.wrong.1));
        }
    }
}

/// Whether the clock is in doubt, and since when.
#[derive(Default)]
pub struct Doubt {
    open: Option<Open>,
}

struct Open {
    since: Instant,
    /// seconds of it that earlier runs of the program saw
    before: u64,
    wrong: (UnixTime, UnixTime),
    saved: Instant,
}

impl Open {
    fn time(&self, now: Instant, until: UnixTime) -> BlindTime {
        let (first, last) = self.wrong;
        let wrong = (first.plus(-BETWEEN_LOOKS), last.plus(BETWEEN_LOOKS));
        BlindTime { until, seconds: self.before.saturating_add(now.duration_since(self.since).as_secs()), wrong }
    }
}

impl Doubt {
    /// Goes on where the run of the program before this one ended.
    pub fn resume<L: Lookup>(service: &Outbound<L>) -> Doubt {
        let times = service.store.read(queue::blind_times).unwrap_or_else(|error| {
            log::error!("the times in which the clock was in doubt cannot be read: {error}");
            BlindTimes::default()
        });
        service.busy.past.replace(Past(times.ended));
        let now = service.clock.instant();
        let open = times.open.map(|time| {
            // The margins are added anew whenever it is stored.
            let wrong = (time.wrong.0.plus(BETWEEN_LOOKS), time.wrong.1.plus(-BETWEEN_LOOKS));
            Open { since: now, before: time.seconds, wrong, saved: now }
        });
        Doubt { open }
    }

    /// How far the time may be believed; notes begin and end of a doubt.
    pub async fn look<L: Lookup>(&mut self, service: &Outbound<L>) -> Certainty {
        let (certainty, wall, now) = (service.clock.certainty(), service.clock.now(), service.clock.instant());
        match (certainty, self.open.take()) {
            (Certainty::Confirmed, None) => {}
            (Certainty::Confirmed, Some(open)) => {
                let time = open.time(now, wall);
                log::info!("the clock is believed again after {} s; mail goes out", time.seconds);
                service.busy.past.borrow_mut().add(time);
                self.save(service).await;
            }
            (Certainty::Plausible | Certainty::Unknown, None) => {
                log::warn!("the clock says {wall}, which cannot be believed; mail waits until it is right");
                self.open = Some(Open { since: now, before: 0, wrong: (wall, wall), saved: now });
                self.save(service).await;
            }
            (Certainty::Plausible | Certainty::Unknown, Some(mut open)) => {
                open.wrong = (open.wrong.0.min(wall), open.wrong.1.max(wall));
                let is_old = now.duration_since(open.saved) >= SAVE_EVERY;
                self.open = Some(open);
                if is_old {
                    self.save(service).await;
                }
            }
        }
        certainty
    }

    /// Stores what is known; a doubt that goes on with its length so far.
    pub async fn save<L: Lookup>(&mut self, service: &Outbound<L>) {
        let now = service.clock.instant();
        let open = self.open.as_mut().map(|open| {
            open.saved = now;
            open.time(now, open.wrong.1)
        });
        let times = BlindTimes { ended: service.busy.past.borrow().0.clone(), open };
        match service.store.write(move |w| queue::put_blind_times(w, &times)).await {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => log::error!("how long the clock was in doubt cannot be stored: {error}"),
        }
    }

    /// Whether there is something that only this run of the program knows.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(until: i64, seconds: u64, wrong: (i64, i64)) -> BlindTime {
        BlindTime { until: UnixTime(until), seconds, wrong: (UnixTime(wrong.0), UnixTime(wrong.1)) }
    }

    fn life(past: &Past, arrived: i64) -> (i64, u64) {
        let message = queued(UnixTime(arrived));
        let life = past.life(&message, 3);
        (life.arrived.0, life.blind)
    }

    fn queued(arrived: UnixTime) -> Queued {
        Queued {
            blob: crate::store::BlobId(1),
            size: 1,
            reverse_path: crate::mail::path::ReversePath::Null,
            sender: None,
            origin: queue::Origin::Submitted,
            body: crate::mail::envelope::Body::SevenBit,
            smtp_utf8: false,
            ret: crate::mail::notify::Ret::Unset,
            envid: None,
            arrived,
            digest: crate::mail::digest::Digest::default(),
            reception: crate::store::messages::Reception::default(),
            wish: crate::mail::envelope::RequireTls::Default,
            next_n: 1,
            open: 1,
            waited_blind: 5,
        }
    }

    #[test]
    fn blind_times_count_for_those_who_were_there_and_hide_the_age_of_those_who_came_in_them() {
        let past = Past(vec![time(1000, 50, (10, 20)), time(2000, 7, (300, 400))]);
        assert_eq!([500, 1500, 2500].map(|arrived| life(&past, arrived)), [(500, 62), (1500, 12), (2500, 5)]);
        assert_eq!([10, 20, 350].map(|arrived| life(&past, arrived)), [(0, 0); 3]);
    }

    #[test]
    fn a_clock_that_flickers_loses_no_time() {
        let mut past = Past::default();
        (0..1000).for_each(|n| past.add(time(1_000_000 + n, 1, (n, n))));
        assert_eq!((past.0.len(), life(&past, 500_000)), (MAX_PAST, (500_000, 1005)));
        assert_eq!(life(&past, 3), (0, 0));
    }
}
