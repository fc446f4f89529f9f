//! Following the keys of a zone through their changes (RFC 5011), as a state machine: what was seen goes in, states come out.
//!
//! In go the DNSKEY RRset of the zone with its signatures and the time; out come the keys that may be believed from then on,
//! what changed, and when to look again. A new key is believed when a believed one has signed it at two sightings with the
//! hold-down between them; a revoked one is never believed again, whatever is built in. Nothing moves while the clock is not
//! confirmed: a wrong time would shorten the hold-down. Keys are kept as DS records: a digest is enough to believe by.
//! Not done here: asking, and keeping the states (`app::anchors`, `store::anchors`).

use std::fmt;

use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::anchor::Anchor;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::rrset::RrSet;
use crate::proto::dns::dnssec::rrsig::Rrsig;
use crate::proto::dns::dnssec::rrsig::Signers;
use crate::proto::dns::name::Name;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// A new key waits at least this long (RFC 5011 section 2.4.1), a revoked one is shown this long (section 2.4.2).
const HOLD_DOWN: i64 = 30 * DAY;
/// Keys kept; a zone has one or two, and their predecessors. Without a bound a zone could fill the store.
const MAX_KEPT: usize = 16;
/// Signatures looked at of one RRset; the root's has one or two.
const MAX_SIGNATURES: usize = 16;
/// SHA-256, the digest by which keys are kept.
const DIGEST: u8 = 2;
/// RFC 5011 section 7.
const FLAG_REVOKE: u16 = 0x0080;

/// The keys of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollover {
    pub zone: Name,
    pub keys: Vec<Kept>,
    /// the last sighting of a set that a believed key had signed
    pub seen: Option<UnixTime>,
    /// when to look again
    pub next: Option<UnixTime>,
    /// seconds to the next look after one that failed
    pub retry: i64,
}

/// A key that was seen or is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub ds: Ds,
    pub state: State,
    /// when the state began; `None`: before anything was seen
    pub since: Option<UnixTime>,
    pub source: Source,
}

/// RFC 5011 section 4.2. Its "Start" is that the key is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// "AddPend": not believed before it is seen again at this time or later
    Pending {
        until: UnixTime,
    },
    Valid,
    /// not in the last set, and believed all the same
    Missing,
    /// not believed; not shown any more from this time on
    Revoked {
        until: UnixTime,
    },
    /// not believed, kept so that it does not come back
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    BuiltIn,
    Learnt,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Appeared {
        until: UnixTime,
    },
    /// before it was believed
    Vanished,
    Accepted,
    Missed,
    Returned,
    Revoked,
    Removed,
    /// There are too many keys to keep one more.
    Refused,
}

/// One change, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub tag: u16,
    pub turn: Turn,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag;
        match self.turn {
            Turn::Appeared { until } => write!(f, "key {tag} is new; it will be believed if it is still there at {until}"),
            Turn::Vanished => write!(f, "key {tag} is gone before it was believed"),
            Turn::Accepted => write!(f, "key {tag} is believed from now on"),
            Turn::Missed => write!(f, "key {tag} is not there any more, and is believed until it is revoked"),
            Turn::Returned => write!(f, "key {tag} is there again"),
            Turn::Revoked => write!(f, "key {tag} was revoked, and is not believed any more"),
            Turn::Removed => write!(f, "key {tag} was revoked long ago, and is forgotten"),
            Turn::Refused => write!(f, "key {tag} is new, and there are too many keys to follow one more"),
        }
    }
}

/// What a look brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The time is in doubt: nothing was looked at.
    NotNow,
    /// The set says nothing, in words why; a revocation in it holds nevertheless.
    Unproved(String),
    Seen,
}

impl Kept {
    fn is_believed(&self) -> bool {
        match self.state {
            State::Valid | State::Missing => true,
            State::Pending { .. } | State::Revoked { .. } | State::Removed => false,
        }
    }

    fn turn(&mut self, state: State, now: UnixTime) {
        (self.state, self.since) = (state, Some(now));
    }
}

impl Rollover {
    /// Nothing is known of the zone yet.
    pub fn new(zone: Name) -> Rollover {
        Rollover { zone, keys: Vec::new(), seen: None, next: None, retry: HOUR }
    }

    /// Takes the keys that this program brings along: those not known are believed at once, those that were revoked stay so.
    pub fn seed(mut self, built_in: &Anchors) -> Rollover {
        for ds in built_in.positive(&self.zone).into_iter().flat_map(|anchor| &anchor.ds) {
            match self.keys.iter_mut().find(|kept| kept.ds == *ds) {
                Some(kept) => {
                    kept.source = Source::BuiltIn;
                    if matches!(kept.state, State::Pending { .. }) {
                        kept.state = State::Valid;
                    }
                }
                None => self.keys.push(Kept { ds: ds.clone(), state: State::Valid, since: None, source: Source::BuiltIn }),
            }
        }
        self
    }

    /// What may be believed of the zone. Empty when every key was revoked: then nothing can be proved, and nothing is
    /// insecure either.
    pub fn anchors(&self) -> Anchors {
        let ds: Vec<Ds> = self.keys.iter().filter(|kept| kept.is_believed()).map(|kept| kept.ds.clone()).collect();
        if ds.is_empty() { Anchors::none() } else { Anchors::none().with_positive(self.zone.clone(), Anchor { ds, keys: Vec::new() }) }
    }

    /// Whether a key is believed here that is not believed there.
    pub fn believes_more_than(&self, other: &Rollover) -> bool {
        let believed = |ds: &Ds| other.keys.iter().any(|kept| kept.is_believed() && kept.ds == *ds);
        self.keys.iter().any(|kept| kept.is_believed() && !believed(&kept.ds))
    }

    /// No answer came, or none with keys: looks again soon.
    pub fn fail(&mut self, now: UnixTime) {
        self.next = Some(now.plus(self.retry));
    }

    /// Takes the zone's DNSKEY RRset as it was received.
    pub fn look(&mut self, set: &RrSet, when: When) -> (Look, Vec<Change>) {
        let (mut changes, now) = (Vec::new(), when.now);
        if when.clock != ClockTrust::Confirmed {
            return (Look::NotNow, changes);
        }
        if set.owner != self.zone || set.kind != RecordType::DNSKEY {
            self.fail(now);
            return (Look::Unproved(format!("these are not the keys of {}", self.zone)), changes);
        }
        if set.data.len() > Limits::default().records_per_set {
            self.fail(now);
            return (Look::Unproved(format!("{} keys are too many", set.data.len())), changes);
        }
        let keys: Vec<Dnskey> = set.data.iter().filter_map(|data| Dnskey::decode(data)).collect();
        // What it costs to be fooled: four wrong signatures.
        let mut budget = Budget::new(Limits { failures: 4, units: 32, ..Limits::default() });
        self.revoke(set, &keys, (when, &mut budget), &mut changes);
        self.expire(now, &mut changes);
        let believed: Vec<Dnskey> = keys.iter().filter(|key| key.may_sign() && self.is_believed(key)).cloned().collect();
        let signature = match self.signature(set, &believed, when, &mut budget) {
            Ok(signature) => signature,
            Err(why) => {
                self.fail(now);
                return (Look::Unproved(why), changes);
            }
        };
        let hold_down = HOLD_DOWN.max(i64::from(signature.original_ttl));
        self.miss(&keys, now, &mut changes);
        for key in keys.iter().filter(|key| key.may_sign() && key.is_entry_point() && key.is_usable()) {
            self.meet(key, now, now.plus(hold_down), &mut changes);
        }
        self.seen = Some(now);
        let (wait, retry) = intervals(signature, now);
        (self.next, self.retry) = (Some(now.plus(wait)), retry);
        (Look::Seen, changes)
    }

    fn is_believed(&self, key: &Dnskey) -> bool {
        self.keys.iter().any(|kept| kept.is_believed() && kept.ds.stands_for(&self.zone, key))
    }

    /// Section 2.1: a key that is marked as revoked and has signed the set itself, whoever else has.
    fn revoke(&mut self, set: &RrSet, keys: &[Dnskey], (when, budget): (When, &mut Budget), changes: &mut Vec<Change>) {
        for key in keys.iter().filter(|key| key.is_revoked()) {
            let Some(place) = self.place(&before_revocation(key)).filter(|place| self.keys[*place].is_believed()) else { continue };
            // The tag of the signature is that of the key with its mark.
            let signer = Dnskey { flags: key.flags & !FLAG_REVOKE, ..key.clone() };
            if self.signature(set, &[signer], when, budget).is_ok() {
                let kept = &mut self.keys[place];
                kept.turn(State::Revoked { until: when.now.plus(HOLD_DOWN) }, when.now);
                changes.push(Change { tag: kept.ds.tag, turn: Turn::Revoked });
            }
        }
    }

    fn expire(&mut self, now: UnixTime, changes: &mut Vec<Change>) {
        for kept in &mut self.keys {
            if matches!(kept.state, State::Revoked { until } if now.0 >= until.0) {
                kept.turn(State::Removed, now);
                changes.push(Change { tag: kept.ds.tag, turn: Turn::Removed });
            }
        }
    }

    /// Keys that are not in the set ("KeyRem").
    fn miss(&mut self, keys: &[Dnskey], now: UnixTime, changes: &mut Vec<Change>) {
        let zone = &self.zone;
        self.keys.retain_mut(|kept| {
            if keys.iter().any(|key| key.may_sign() && kept.ds.stands_for(zone, key)) {
                return true;
            }
            let turn = match kept.state {
                State::Pending { .. } => Turn::Vanished,
                State::Valid => Turn::Missed,
                State::Missing | State::Revoked { .. } | State::Removed => return true,
            };
            changes.push(Change { tag: kept.ds.tag, turn });
            kept.turn(State::Missing, now);
            turn != Turn::Vanished
        });
    }

    /// A key that is in the set ("NewKey", "KeyPres", "AddTime").
    fn meet(&mut self, key: &Dnskey, now: UnixTime, until: UnixTime, changes: &mut Vec<Change>) {
        let Some(place) = self.place(key) else { return self.take_in(key, now, until, changes) };
        let kept = &mut self.keys[place];
        let turn = match kept.state {
            State::Pending { until } if now.0 >= until.0 => Turn::Accepted,
            State::Missing => Turn::Returned,
            State::Pending { .. } | State::Valid | State::Revoked { .. } | State::Removed => return,
        };
        kept.turn(State::Valid, now);
        changes.push(Change { tag: kept.ds.tag, turn });
    }

    fn take_in(&mut self, key: &Dnskey, now: UnixTime, until: UnixTime, changes: &mut Vec<Change>) {
        let Some(ds) = Ds::of(&self.zone, key, DIGEST) else { return };
        if self.keys.len() >= MAX_KEPT {
            // A removed key that is built in would come back as a valid one.
            let oldest = self.keys.iter().position(|kept| kept.state == State::Removed && kept.source == Source::Learnt);
            let Some(oldest) = oldest else { return changes.push(Change { tag: key.tag, turn: Turn::Refused }) };
            self.keys.remove(oldest);
        }
        changes.push(Change { tag: key.tag, turn: Turn::Appeared { until } });
        self.keys.push(Kept { ds, state: State::Pending { until }, since: Some(now), source: Source::Learnt });
    }

    fn place(&self, key: &Dnskey) -> Option<usize> {
        self.keys.iter().position(|kept| kept.ds.stands_for(&self.zone, key))
    }

    /// The first signature of one of the keys that holds.
    fn signature<'s>(&self, set: &'s RrSet, keys: &[Dnskey], when: When, budget: &mut Budget) -> Result<&'s Rrsig, String> {
        if keys.is_empty() {
            return Err("no key that is believed is among them".into());
        }
        let signers = Signers { zone: &self.zone, keys, when, sha1: Sha1::Refused };
        let mut why = "no key that is believed has signed them".to_owned();
        for signature in set.signatures.iter().take(MAX_SIGNATURES).filter(|signature| keys.iter().any(|key| key.tag == signature.tag)) {
            let mut alone = set.clone();
            alone.signatures = vec![signature.clone()];
            let checked = loop {
                match signers.check(&alone, budget) {
                    Err(Halt::Pause) => budget.resume(),
                    Err(Halt::Exhausted(why)) => return Err(why.to_owned()),
                    Ok(checked) => break checked,
                }
            };
            match checked {
                Ok(_) => return Ok(signature),
                Err(fault) => why = fault.to_string(),
            }
        }
        Err(why)
    }
}

/// The key as it was when it was believed: without the mark, and with another tag.
fn before_revocation(key: &Dnskey) -> Dnskey {
    let octets = Dnskey { flags: key.flags & !FLAG_REVOKE, ..key.clone() }.encode();
    Dnskey::decode(&octets).expect("the octets of a key are a key")
}

/// Section 2.3: seconds to the next look, and to the next one after a look that failed.
fn intervals(signature: &Rrsig, now: UnixTime) -> (i64, i64) {
    let ttl = i64::from(signature.original_ttl);
    // As serial numbers (RFC 1982); the signature has not expired.
    let left = i64::from(signature.expiration.wrapping_sub(now.0 as u32));
    ((15 * DAY).min(ttl / 2).min(left / 2).max(HOUR), DAY.min(ttl / 10).min(left / 10).max(HOUR))
}
