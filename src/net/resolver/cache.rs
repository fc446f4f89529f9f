//! What lookups have found, for as long as it holds: verdicts, and the zones that were proved on the way to them.
//!
//! Bounded in octets, all together; the least recently used goes first. Records hold at most a day, denials at most an hour
//! (RFC 2308), failures 5 s and bogus answers 60 s, and twice as long each time up to 5 min (RFC 9520). The time is
//! monotonic and comes in from outside: a clock that jumps expires nothing here. A zone has an end by the wall clock too,
//! since its signatures have one; who asks for it says what time it is. A zone is counted once, by `ledger`, however many
//! verdicts hold it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use crate::mail::date::UnixTime;
use crate::net::resolver::Key;
use crate::net::resolver::ledger;
use crate::net::resolver::ledger::Ledger;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::dnssec::walk::Zone;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::name::Name;

/// 4 MiB hold about 3,000 domains with their zones (tests/resolver_memory.rs): weeks of a home's mail.
pub const MAX_OCTETS: usize = 4 * 1024 * 1024;
const MAX_RECORDS_AGE: Duration = Duration::from_secs(86_400);
const MAX_DENIAL_AGE: Duration = Duration::from_secs(3600);
const FIRST_FAILURE_AGE: Duration = Duration::from_secs(5);
/// Somebody has to mend a zone or an upstream before it can be otherwise.
const FIRST_BOGUS_AGE: Duration = Duration::from_secs(60);
const MAX_FAILURE_AGE: Duration = Duration::from_secs(300);
/// What an entry costs beside what it holds: the key, slots of two maps that are half full, allocations.
const OVERHEAD: usize = 256;

/// What an entry is about.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Slot {
    Verdict(Key),
    Zone(Name),
}

#[derive(Clone)]
enum Kept {
    Verdict(Rc<Verdict>),
    Zone(Rc<Zone>),
}

struct Entry {
    kept: Kept,
    until: Instant,
    /// of a failure: for how long this time
    age: Duration,
    /// without zones
    octets: usize,
    used: u64,
}

/// The memory of one resolver.
pub struct Cache {
    entries: HashMap<Rc<Slot>, Entry>,
    /// by last use
    order: BTreeMap<u64, Rc<Slot>>,
    octets: usize,
    zones: Ledger,
    max: usize,
    uses: u64,
}

impl Cache {
    pub fn new(max: usize) -> Cache {
        Cache { entries: HashMap::new(), order: BTreeMap::new(), octets: 0, zones: Ledger::default(), max, uses: 0 }
    }

    /// What still holds.
    pub fn find(&mut self, key: &Key, now: Instant) -> Option<Rc<Verdict>> {
        match self.look(&Slot::Verdict(key.clone()), now)? {
            Kept::Verdict(verdict) => Some(verdict),
            Kept::Zone(_) => None,
        }
    }

    /// The zones at or above `name` that were proved, the deepest first; `wall` is the time of the new proof.
    pub fn zones_above(&mut self, name: &Name, now: Instant, wall: UnixTime) -> Vec<Rc<Zone>> {
        let mut zones = Vec::new();
        for above in canonical::upwards(name) {
            if let Some(Kept::Zone(zone)) = self.look(&Slot::Zone(above), now)
                && wall.0 < zone.until.0
            {
                zones.push(zone);
            }
        }
        zones
    }

    /// Keeps a verdict for as long as it says, a failure for a while.
    pub fn keep(&mut self, key: &Key, verdict: &Rc<Verdict>, now: Instant) {
        let ttl = Duration::from_secs(u64::from(verdict.ttl));
        let slot = Slot::Verdict(key.clone());
        let age = match &verdict.outcome {
            Outcome::Proved { found: Found::Records(_), .. } => ttl.min(MAX_RECORDS_AGE),
            Outcome::Proved { found: Found::NoData | Found::NoSuchName, .. } => ttl.min(MAX_DENIAL_AGE),
            Outcome::Failed(trouble) => self.failure_age(&slot, trouble.state, now),
        };
        self.put(slot, Kept::Verdict(Rc::clone(verdict)), age, now);
    }

    /// Keeps a zone that was proved at `wall`, with its own end.
    pub fn keep_zone(&mut self, zone: &Rc<Zone>, now: Instant, wall: UnixTime) {
        let slot = Slot::Zone(zone.name.clone());
        let known = self.entries.get(&slot).map(|entry| &entry.kept);
        if matches!(known, Some(Kept::Zone(known)) if Rc::ptr_eq(known, zone)) {
            return;
        }
        let age = Duration::from_secs(u64::try_from(zone.until.0 - wall.0).unwrap_or(0)).min(MAX_RECORDS_AGE);
        self.put(slot, Kept::Zone(Rc::clone(zone)), age, now);
    }

    fn look(&mut self, slot: &Slot, now: Instant) -> Option<Kept> {
        let entry = self.entries.get_mut(slot).filter(|entry| entry.until > now)?;
        let shared = self.order.remove(&entry.used)?;
        self.uses += 1;
        entry.used = self.uses;
        self.order.insert(entry.used, shared);
        Some(entry.kept.clone())
    }

    fn put(&mut self, slot: Slot, kept: Kept, age: Duration, now: Instant) {
        self.forget(&slot);
        let octets = OVERHEAD + kept.octets() + slot.name().as_wire().len();
        let zones: usize = kept.zones().iter().map(|zone| ledger::octets(zone)).sum();
        if age.is_zero() || octets + zones > self.max {
            return;
        }
        self.uses += 1;
        self.octets += octets;
        kept.zones().iter().for_each(|zone| self.zones.hold(zone));
        let slot = Rc::new(slot);
        self.order.insert(self.uses, Rc::clone(&slot));
        self.entries.insert(slot, Entry { kept, until: now + age, age, octets, used: self.uses });
        while self.octets() > self.max
            && let Some(oldest) = self.order.values().next().cloned()
        {
            self.forget(&oldest);
        }
    }

    /// All that is held.
    fn octets(&self) -> usize {
        self.octets + self.zones.octets()
    }

    /// Twice the last time, if that was not long ago.
    fn failure_age(&self, slot: &Slot, state: TroubleState, now: Instant) -> Duration {
        let first = match state {
            TroubleState::Bogus => FIRST_BOGUS_AGE,
            TroubleState::Indeterminate => FIRST_FAILURE_AGE,
        };
        let failed = |entry: &&Entry| matches!(&entry.kept, Kept::Verdict(verdict) if matches!(verdict.outcome, Outcome::Failed(_)));
        match self.entries.get(slot).filter(failed) {
            Some(entry) if now < entry.until + MAX_FAILURE_AGE => (entry.age * 2).clamp(first, MAX_FAILURE_AGE),
            _ => first,
        }
    }

    fn forget(&mut self, slot: &Slot) {
        if let Some(entry) = self.entries.remove(slot) {
            self.order.remove(&entry.used);
            self.octets -= entry.octets;
            entry.kept.zones().iter().for_each(|zone| self.zones.release(zone));
        }
    }

    /// Failures of our own upstreams mean nothing any more once one of them answers.
    pub fn forget_our_failures(&mut self) {
        let ours = |entry: &Entry| match &entry.kept {
            Kept::Verdict(verdict) => matches!(&verdict.outcome, Outcome::Failed(trouble) if trouble.cause == TroubleCause::Ours),
            Kept::Zone(_) => false,
        };
        let slots: Vec<Rc<Slot>> = self.entries.iter().filter(|(_, entry)| ours(entry)).map(|(slot, _)| Rc::clone(slot)).collect();
        slots.iter().for_each(|slot| self.forget(slot));
    }

    pub fn clear(&mut self) {
        *self = Cache::new(self.max);
    }
}

impl Slot {
    fn name(&self) -> &Name {
        match self {
            Slot::Verdict((name, _)) | Slot::Zone(name) => name,
        }
    }
}

impl Kept {
    fn zones(&self) -> &[Rc<Zone>] {
        match self {
            Kept::Verdict(verdict) => &verdict.chain,
            Kept::Zone(zone) => std::slice::from_ref(zone),
        }
    }

    fn octets(&self) -> usize {
        match self {
            Kept::Verdict(verdict) => ledger::verdict_octets(verdict),
            Kept::Zone(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
