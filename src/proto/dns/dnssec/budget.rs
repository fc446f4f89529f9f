//! Bounds of the work of one lookup (CVE-2023-50387 "KeyTrap", CVE-2023-50868), and the memory of what was computed.
//!
//! A walk is run again from its last firm point after each answer and each pause; what it computed before costs nothing the
//! second time, and is counted once. Over a bound the answer is bogus, and says which bound it was.

use std::collections::HashMap;

use ring::digest;

use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::nsec3;
use crate::proto::dns::dnssec::nsec3::Parameters;
use crate::proto::dns::name::Name;

/// Units between two pauses: about 2 ms on a small board.
const UNITS_A_STRETCH: u32 = 4;
/// Octets of a set whose canonical form and digests cost a unit.
const OCTETS_A_UNIT: usize = 16 * 1024;
/// NSEC3 hashes between two pauses.
const HASHES_A_STRETCH: u32 = 8;

/// The bounds of one lookup, all its zones and links together (`resolver.md`, proving 9).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// signatures that turn out wrong
    pub failures: u32,
    /// units of work (`Dnskey::cost`)
    pub units: u32,
    /// keys tried that have the same tag
    pub keys_per_tag: usize,
    /// signatures looked at of one RRset
    pub signatures_per_set: usize,
    /// DS records that have the tag of a key, and another digest
    pub ds_mismatches: u32,
    /// An IPv6 PTR has 34 labels, and each is hashed once.
    pub hashes: u32,
    pub questions: u32,
    pub records_per_set: usize,
    /// of all answers together, in memory, with names uncompressed
    pub octets: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            failures: 16,
            units: 200,
            keys_per_tag: 4,
            signatures_per_set: 8,
            ds_mismatches: 4,
            hashes: 256,
            questions: 60,
            records_per_set: 100,
            octets: 1024 * 1024,
        }
    }
}

/// A signature to be checked.
pub struct Check<'a> {
    /// tells it from all others of the lookup, whatever the key
    pub identity: [u8; 32],
    /// of the octets that were signed, about
    pub size: usize,
    pub signature: &'a [u8],
    /// what was signed
    pub octets: &'a dyn Fn() -> Vec<u8>,
}

/// Why a computation stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// others shall run; then it goes on
    Pause,
    /// over a bound, in words
    Exhausted(&'static str),
}

/// What has been used up, and what came of it.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    used: Used,
    units_since_pause: u32,
    hashes_since_pause: u32,
    verified: HashMap<[u8; 32], bool>,
    hashed: HashMap<(Vec<u8>, Parameters), nsec3::Hash>,
    mismatched: Vec<Vec<u8>>,
}

/// For display and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub failures: u32,
    pub units: u32,
    pub hashes: u32,
    pub questions: u32,
    pub octets: usize,
}

impl Budget {
    pub fn new(limits: Limits) -> Budget {
        Budget {
            limits,
            used: Used::default(),
            units_since_pause: 0,
            hashes_since_pause: 0,
            verified: HashMap::new(),
            hashed: HashMap::new(),
            mismatched: Vec::new(),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn used(&self) -> Used {
        self.used
    }

    /// The pause is over.
    pub fn resume(&mut self) {
        (self.units_since_pause, self.hashes_since_pause) = (0, 0);
    }

    /// Whether the signature is of `key`.
    pub fn verify(&mut self, key: &Dnskey, check: &Check<'_>) -> Result<bool, Halt> {
        let fingerprint = fingerprint(&[&key.encode(), &check.identity]);
        if let Some(known) = self.verified.get(&fingerprint) {
            return Ok(*known);
        }
        let cost = key.cost() + u32::try_from(check.size / OCTETS_A_UNIT).unwrap_or(u32::MAX);
        // One check is not divided; a stretch has others only as long as they are cheap together.
        if self.units_since_pause > 0 && self.units_since_pause.saturating_add(cost) > UNITS_A_STRETCH {
            return Err(Halt::Pause);
        }
        if self.used.units.saturating_add(cost) > self.limits.units {
            return Err(Halt::Exhausted("the proof needs more work on signatures than a lookup may cost"));
        }
        if self.used.failures >= self.limits.failures {
            return Err(Halt::Exhausted("too many signatures are wrong"));
        }
        self.used.units += cost;
        self.units_since_pause += cost;
        let good = key.verify(&(check.octets)(), check.signature);
        self.used.failures += u32::from(!good);
        self.verified.insert(fingerprint, good);
        Ok(good)
    }

    /// The NSEC3 hash of a name (RFC 5155 section 5).
    pub fn hash(&mut self, name: &Name, parameters: &Parameters) -> Result<nsec3::Hash, Halt> {
        let key = (name.as_wire().to_ascii_lowercase(), parameters.clone());
        if let Some(known) = self.hashed.get(&key) {
            return Ok(*known);
        }
        if self.hashes_since_pause >= HASHES_A_STRETCH {
            return Err(Halt::Pause);
        }
        if self.used.hashes >= self.limits.hashes {
            return Err(Halt::Exhausted("the proof needs more NSEC3 hashes than a lookup may cost"));
        }
        self.used.hashes += 1;
        self.hashes_since_pause += 1;
        let hash = nsec3::hash(&key.0, parameters);
        self.hashed.insert(key, hash);
        Ok(hash)
    }

    /// Counts a DS record that has the tag of a key but another digest; `what` tells one from another.
    pub fn mismatch(&mut self, what: Vec<u8>) -> Result<(), Halt> {
        if self.mismatched.contains(&what) {
            return Ok(());
        }
        if self.mismatched.len() >= self.limits.ds_mismatches as usize {
            return Err(Halt::Exhausted("too many DS records have the tag of a key and another digest"));
        }
        self.mismatched.push(what);
        Ok(())
    }

    /// Counts an answer, which is kept to the end of the lookup.
    pub fn keep(&mut self, octets: usize) -> Result<(), Halt> {
        self.used.octets = self.used.octets.saturating_add(octets);
        if self.used.octets > self.limits.octets {
            return Err(Halt::Exhausted("the proof needs more memory than a lookup may have"));
        }
        Ok(())
    }

    /// Counts a question.
    pub fn ask(&mut self) -> Result<(), Halt> {
        if self.used.questions >= self.limits.questions {
            return Err(Halt::Exhausted("the proof needs more questions than a lookup may ask"));
        }
        self.used.questions += 1;
        Ok(())
    }
}

/// Of parts whose borders count.
pub(super) fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::dnssec::dnskey::Algorithm;

    fn key(algorithm: u8) -> Dnskey {
        Dnskey { flags: 256, protocol: 3, algorithm: Algorithm(algorithm), key: [0; 96].into(), tag: 1 }
    }

    /// Goes on after pauses.
    fn verify(budget: &mut Budget, key: &Dnskey, n: u32) -> Result<bool, Halt> {
        match check(budget, key, n, 0) {
            Err(Halt::Pause) => {
                budget.resume();
                check(budget, key, n, 0)
            }
            other => other,
        }
    }

    fn check(budget: &mut Budget, key: &Dnskey, n: u32, size: usize) -> Result<bool, Halt> {
        let identity = fingerprint(&[&n.to_be_bytes()]);
        budget.verify(key, &Check { identity, size, signature: b"", octets: &|| n.to_be_bytes().to_vec() })
    }

    #[test]
    fn the_same_signature_is_checked_once() {
        let mut budget = Budget::new(Limits::default());
        for _ in 0..100 {
            assert_eq!(check(&mut budget, &key(13), 1, 0), Ok(false));
        }
        assert_eq!(budget.used(), Used { failures: 1, units: 1, ..Used::default() });
    }

    #[test]
    fn wrong_signatures_and_units_are_bounded() {
        let mut budget = Budget::new(Limits::default());
        assert!((0..16).all(|n| verify(&mut budget, &key(13), n) == Ok(false)));
        assert!(matches!(verify(&mut budget, &key(13), 16), Err(Halt::Exhausted(_))));
        let mut budget = Budget::new(Limits { failures: 1000, ..Limits::default() });
        assert!((0..25).all(|n| verify(&mut budget, &key(14), n) == Ok(false)));
        assert!(matches!(verify(&mut budget, &key(14), 25), Err(Halt::Exhausted(_))));
        assert_eq!(budget.used().units, 200);
    }

    #[test]
    fn it_pauses_often() {
        let mut budget = Budget::new(Limits { failures: 1000, ..Limits::default() });
        let pauses = (0..100u32).filter(|n| check(&mut budget, &key(13), *n, 0) == Err(Halt::Pause)).count();
        assert_eq!(pauses, 96);
        let parameters = Parameters { iterations: 0, salt: Box::default() };
        let names: Vec<Name> = (0..300).map(|n| Name::parse(&format!("a{n}.x")).unwrap()).collect();
        let mut budget = Budget::new(Limits::default());
        for name in &names[..256] {
            if budget.hash(name, &parameters) == Err(Halt::Pause) {
                budget.resume();
                assert!(budget.hash(name, &parameters).is_ok());
            }
        }
        budget.resume();
        assert!(budget.hash(&names[3], &parameters).is_ok());
        assert!(matches!(budget.hash(&names[256], &parameters), Err(Halt::Exhausted(_))));
    }

    #[test]
    fn questions_and_mismatches_are_bounded() {
        let mut budget = Budget::new(Limits::default());
        assert!((0..60).all(|_| budget.ask().is_ok()) && budget.ask().is_err());
        assert!((0..4).all(|n| budget.mismatch(vec![n]).is_ok() && budget.mismatch(vec![n]).is_ok()) && budget.mismatch(vec![9]).is_err());
    }
}
