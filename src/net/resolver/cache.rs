//! What lookups have found, for as long as it holds: bounded in octets, the least recently used goes first.
//!
//! Records at most a day, denials at most an hour (RFC 2308), failures 5 s and twice as long each time, up to 5 min (RFC
//! 9520). The time is monotonic and comes in from outside: a clock that jumps expires nothing.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use crate::net::resolver::Key;
use crate::net::resolver::Outcome;
use crate::net::resolver::Resolved;
use crate::proto::dns::lookup::TroubleCause;

/// 4 MiB hold about 10,000 answers: weeks of a home's mail.
pub const MAX_OCTETS: usize = 4 * 1024 * 1024;
const MAX_RECORDS_AGE: Duration = Duration::from_secs(86_400);
const MAX_DENIAL_AGE: Duration = Duration::from_secs(3600);
const FIRST_FAILURE_AGE: Duration = Duration::from_secs(5);
const MAX_FAILURE_AGE: Duration = Duration::from_secs(300);
/// What an entry costs beside its names and records: keys twice, map slots, allocations.
const OVERHEAD: usize = 320;

struct Entry {
    resolved: Rc<Resolved>,
    until: Instant,
    /// of a failure: for how long this time
    age: Duration,
    octets: usize,
    used: u64,
}

/// The memory of one resolver.
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// by last use
    order: BTreeMap<u64, Key>,
    octets: usize,
    max: usize,
    uses: u64,
}

impl Cache {
    pub fn new(max: usize) -> Cache {
        Cache { entries: HashMap::new(), order: BTreeMap::new(), octets: 0, max, uses: 0 }
    }

    /// What still holds.
    pub fn find(&mut self, key: &Key, now: Instant) -> Option<Rc<Resolved>> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.until > now)?;
        self.order.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.order.insert(entry.used, key.clone());
        Some(Rc::clone(&entry.resolved))
    }

    /// Keeps an outcome; `ttl` in seconds, without meaning for failures.
    pub fn keep(&mut self, key: &Key, resolved: &Rc<Resolved>, ttl: u32, now: Instant) {
        let ttl = Duration::from_secs(u64::from(ttl));
        let age = match resolved.outcome {
            Outcome::Records => ttl.min(MAX_RECORDS_AGE),
            Outcome::NoData | Outcome::NoSuchName => ttl.min(MAX_DENIAL_AGE),
            Outcome::Failed(_) => self.failure_age(key, now),
        };
        self.forget(key);
        let octets = resolved.octets() + key.0.as_wire().len() * 2 + OVERHEAD;
        if age.is_zero() || octets > self.max {
            return;
        }
        while self.octets + octets > self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.octets -= self.entries.remove(&oldest).map_or(0, |entry| entry.octets);
        }
        self.uses += 1;
        self.octets += octets;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key.clone(), Entry { resolved: Rc::clone(resolved), until: now + age, age, octets, used: self.uses });
    }

    /// Twice the last time, if that was not long ago.
    fn failure_age(&self, key: &Key, now: Instant) -> Duration {
        let before = self.entries.get(key).filter(|entry| matches!(entry.resolved.outcome, Outcome::Failed(_)));
        match before {
            Some(entry) if now < entry.until + MAX_FAILURE_AGE => (entry.age * 2).min(MAX_FAILURE_AGE),
            _ => FIRST_FAILURE_AGE,
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.octets -= entry.octets;
        }
    }

    /// Failures of our own upstreams mean nothing any more once one of them answers.
    pub fn forget_our_failures(&mut self) {
        let ours = |entry: &Entry| entry.resolved.outcome == Outcome::Failed(TroubleCause::Ours);
        let keys: Vec<Key> = self.entries.iter().filter(|(_, entry)| ours(entry)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.forget(key));
    }

    pub fn clear(&mut self) {
        *self = Cache::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::RecordType;
    use crate::proto::dns::name::Name;

    fn key(n: u64) -> Key {
        (Name::parse(&format!("n{n}.example")).unwrap(), RecordType::MX)
    }

    fn resolved(outcome: Outcome) -> Rc<Resolved> {
        Rc::new(Resolved::new(key(0).0, outcome))
    }

    fn holds_for(cache: &mut Cache, at: &Key, now: Instant, age: Duration) -> bool {
        let moment = Duration::from_millis(1);
        cache.find(at, now + age - moment).is_some() && cache.find(at, now + age).is_none()
    }

    #[test]
    fn ages_have_their_limits() {
        let now = Instant::now();
        let mut cache = Cache::new(MAX_OCTETS);
        let rows = [
            (Outcome::Records, 60, 60),
            (Outcome::Records, u32::MAX, 86_400),
            (Outcome::NoData, 90_000, 3600),
            (Outcome::NoSuchName, 10, 10),
            (Outcome::Failed(TroubleCause::Zone), 90_000, 5),
        ];
        for (n, (outcome, ttl, age)) in rows.into_iter().enumerate() {
            cache.keep(&key(n as u64), &resolved(outcome), ttl, now);
            assert!(holds_for(&mut cache, &key(n as u64), now, Duration::from_secs(age)), "{outcome:?} {ttl}");
        }
        cache.keep(&key(9), &resolved(Outcome::Records), 0, now);
        assert!(cache.find(&key(9), now).is_none());
    }

    #[test]
    fn failures_are_kept_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut cache = Cache::new(MAX_OCTETS);
        for age in [5, 10, 20, 40, 80, 160, 300, 300] {
            cache.keep(&key(1), &resolved(Outcome::Failed(TroubleCause::Zone)), 0, now);
            assert!(holds_for(&mut cache, &key(1), now, Duration::from_secs(age)), "{age}");
            now += Duration::from_secs(age + 1);
        }
        cache.keep(&key(1), &resolved(Outcome::Records), 1, now);
        cache.keep(&key(1), &resolved(Outcome::Failed(TroubleCause::Ours)), 0, now);
        assert!(holds_for(&mut cache, &key(1), now, FIRST_FAILURE_AGE));
        cache.forget_our_failures();
        assert!(cache.find(&key(1), now).is_none() && cache.order.is_empty() && cache.octets == 0);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let now = Instant::now();
        let mut cache = Cache::new(20_000);
        for n in 0..1000 {
            cache.keep(&key(n), &resolved(Outcome::Records), 60, now);
            assert!(cache.find(&key(0), now).is_some(), "used again and again");
            assert!(cache.octets <= 20_000 && cache.order.len() == cache.entries.len());
        }
        assert!(cache.find(&key(1), now).is_none() && cache.find(&key(999), now).is_some());
        assert_eq!(cache.octets, cache.entries.values().map(|entry| entry.octets).sum());
        assert!(cache.entries.len() > 20);
    }
}
