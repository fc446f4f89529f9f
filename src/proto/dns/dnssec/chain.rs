//! From a trust anchor to a zone: DS and DNSKEY records from the closest anchor down (RFC 4035 section 5).
//!
//! Two ways lead to a zone. `prove` goes for the zone that a signer's name gives, over the signers of its DS records: one
//! question a zone and kind. `standing` asks label by label where nothing is signed, until a delegation is proved to be
//! unsigned (RFC 4035 section 5.2, RFC 6840 section 4.4) or the name is reached. A signer's name alone never makes anything
//! insecure: that takes a verified denial of the DS, or a verified DS set of which nothing is supported.
//!
//! Each function can be called again after a question was answered; what was found before is remembered in `places`.

use std::collections::HashMap;
use std::rc::Rc;

use crate::mail::date::UnixTime;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::anchor::Anchor;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::denial::Delegation;
use crate::proto::dns::dnssec::denial::Proofs;
use crate::proto::dns::dnssec::denial::Unproved;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::ds;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::nsec::Nsec;
use crate::proto::dns::dnssec::nsec3::Nsec3;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::dnssec::rrset::RrSet;
use crate::proto::dns::dnssec::rrsig::Fault;
use crate::proto::dns::dnssec::rrsig::Signers;
use crate::proto::dns::dnssec::rrsig::Verified;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::name::Name;

/// NSEC and NSEC3 sets of one zone looked at in one message: a proof has three, and links bring further ones.
const MAX_PROOFS: usize = 16;

/// Seconds that what was proved is kept at most (`resolver.md`, proving 13).
pub const MAX_TTL: u32 = 24 * 3600;
/// Seconds for a denial.
pub const MAX_NEGATIVE_TTL: u32 = 3600;

/// A zone of which the proof is complete. It may be kept until `until`, and handed to other walks.
#[derive(Clone, Debug)]
pub struct Zone {
    pub name: Name,
    pub trust: Trust,
    pub until: UnixTime,
}

#[derive(Clone, Debug)]
pub enum Trust {
    Keys {
        /// All that the zone shows; those that may not sign are passed over where signatures are checked.
        keys: Vec<Dnskey>,
        /// of keys that the DS or the anchor stands for
        entries: Vec<u16>,
    },
    /// Proved to be unsigned, or treated so; so is everything below.
    Insecure { why: String, error: Option<ExtendedError> },
}

impl Zone {
    pub fn is_insecure(&self) -> bool {
        matches!(self.trust, Trust::Insecure { .. })
    }

    fn keys(&self) -> &[Dnskey] {
        match &self.trust {
            Trust::Keys { keys, .. } => keys,
            Trust::Insecure { .. } => &[],
        }
    }
}

/// Why a step does not end.
#[derive(Debug)]
pub(super) enum Stop {
    Ask(Name, RecordType),
    Pause,
    Fail(Box<Trouble>),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Stop {
        match halt {
            Halt::Pause => Stop::Pause,
            Halt::Exhausted(why) => fail(TroubleState::Bogus, InfoCode::OTHER, why, None),
        }
    }
}

pub(super) fn fail(state: TroubleState, code: InfoCode, text: impl Into<String>, zone: Option<&Name>) -> Stop {
    let errors = vec![ExtendedError::new(code, text)];
    Stop::Fail(Box::new(Trouble { state, cause: TroubleCause::Zone, errors, zone: zone.cloned() }))
}

/// What is at a name below the apex of a signed zone.
#[derive(Clone, Debug)]
enum Place {
    Zone(Rc<Zone>),
    /// a name of the same zone
    NoCut,
    /// no name, and none below
    Nothing,
}

/// The denials of a message that one zone signed.
pub(super) struct Gathered {
    pub(super) proofs: Proofs,
    /// why others do not count
    pub(super) fault: Option<Fault>,
}

/// What matches a DS set.
#[derive(Default)]
struct Entries {
    usable: Vec<Dnskey>,
    /// DS records whose key cannot be used for its size
    odd: usize,
    /// keys that match, but may not sign
    unfit: usize,
}

/// All keys that the entries of a zone stand for are of sizes that cannot be used.
struct KeySize;

/// What is known in the course of one lookup.
#[derive(Debug)]
pub(super) struct Prover {
    pub(super) anchors: Rc<Anchors>,
    pub(super) when: When,
    pub(super) sha1: Sha1,
    pub(super) budget: Budget,
    heard: HashMap<(Name, RecordType), Result<Rc<Received>, Trouble>>,
    places: HashMap<Name, Place>,
}

impl Prover {
    pub(super) fn new(anchors: Rc<Anchors>, (when, sha1): (When, Sha1), budget: Budget) -> Prover {
        Prover { anchors, when, sha1, budget, heard: HashMap::new(), places: HashMap::new() }
    }

    pub(super) fn learn(&mut self, question: (Name, RecordType), answer: Result<Received, Trouble>) {
        self.heard.insert(question, answer.map(Rc::new));
    }

    /// Takes over a zone that another walk proved.
    pub(super) fn know(&mut self, zone: Rc<Zone>) {
        if self.when.now.0 < zone.until.0 {
            self.places.insert(zone.name.clone(), Place::Zone(zone));
        }
    }

    /// The zones met so far, the root first.
    pub(super) fn zones(&self) -> Vec<Rc<Zone>> {
        let zones = self.places.values().filter_map(|place| match place {
            Place::Zone(zone) => Some(Rc::clone(zone)),
            Place::NoCut | Place::Nothing => None,
        });
        let mut zones: Vec<Rc<Zone>> = zones.collect();
        zones.sort_by(|a, b| canonical::compare(&a.name, &b.name));
        zones
    }

    /// The answer to a question, or the question.
    pub(super) fn hear(&self, name: &Name, kind: RecordType) -> Result<Rc<Received>, Stop> {
        match self.heard.get(&(name.clone(), kind)) {
            None => Err(Stop::Ask(name.clone(), kind)),
            Some(Err(trouble)) => Err(Stop::Fail(Box::new(trouble.clone()))),
            Some(Ok(received)) => match received.rcode {
                Rcode::NO_ERROR | Rcode::NX_DOMAIN | YX_DOMAIN => Ok(Rc::clone(received)),
                code => {
                    let text = format!("the question for {kind} of {name} is answered {code}");
                    Err(fail(TroubleState::Indeterminate, InfoCode::OTHER, text, None))
                }
            },
        }
    }

    /// The zone that signs what is at `base`: the one that a signer's name gives, or the one that is found label by label.
    pub(super) fn zone_for<'n>(&mut self, base: &Name, signers: impl Iterator<Item = &'n Name>) -> Result<Rc<Zone>, Stop> {
        let signers = signers.filter(|signer| base.is_at_or_below(signer) && self.may_rule(signer, base));
        let signer = signers.max_by_key(|signer| signer.as_wire().len());
        if let Some(signer) = signer {
            let zone = self.prove(signer)?;
            if zone.is_insecure() || zone.name == *signer {
                return Ok(zone);
            }
        }
        self.standing(base)
    }

    /// Whether what stands at `above` can decide about `name`: no anchor is closer to it. Else an insecure zone above an
    /// anchor could speak for what the anchor protects, by its signer's name or a DNAME, and so could the keys of a parent.
    pub(super) fn may_rule(&self, above: &Name, name: &Name) -> bool {
        let is_anchor = |name: &Name| self.anchors.positive(name).is_some() || self.anchors.is_negative(name, self.when.now);
        canonical::upwards(name).find(is_anchor).is_none_or(|anchor| above.is_at_or_below(&anchor))
    }

    /// The closest zone above `name`, or itself, of which something is known; at least an anchor.
    fn closest(&mut self, name: &Name) -> Result<Rc<Zone>, Stop> {
        if self.anchors.is_empty() {
            return Err(fail(TroubleState::Indeterminate, InfoCode::OTHER, "there is no trust anchor", None));
        }
        for above in canonical::upwards(name) {
            if self.anchors.is_negative(&above, self.when.now) {
                return Ok(self.insecure(&above, "a negative trust anchor says so".into(), None, 0));
            }
            if let Some(Place::Zone(zone)) = self.places.get(&above) {
                return Ok(Rc::clone(zone));
            }
            if let Some(anchor) = self.anchors.positive(&above).cloned() {
                return self.anchored(&above, anchor);
            }
        }
        Ok(self.insecure(&Name::root(), "no trust anchor is above it".into(), None, 0))
    }

    /// Without one anchor that can be used nothing is known: this never makes a zone insecure.
    fn anchored(&mut self, zone: &Name, anchor: Anchor) -> Result<Rc<Zone>, Stop> {
        let ds = ds::usable(anchor.ds, self.sha1).unwrap_or_default();
        let keys: Vec<Dnskey> = anchor.keys.into_iter().filter(|key| key.algorithm.is_supported(self.sha1) && key.is_usable()).collect();
        if ds.is_empty() && keys.is_empty() {
            let text = format!("no trust anchor of {zone} has an algorithm and a digest that are supported");
            return Err(fail(TroubleState::Indeterminate, InfoCode::OTHER, text, Some(zone)));
        }
        self.zone_with_keys(zone, &Anchor { ds, keys }, u32::MAX)?.map_err(|KeySize| {
            let text = format!("no trust anchor of {zone} stands for a key of a size that is supported");
            fail(TroubleState::Indeterminate, InfoCode::OTHER, text, Some(zone))
        })
    }

    /// The zone `signer`, or else the zone that the name is in. Insecure where a zone above is.
    fn prove(&mut self, signer: &Name) -> Result<Rc<Zone>, Stop> {
        let above = self.closest(signer)?;
        if above.is_insecure() || above.name == *signer {
            return Ok(above);
        }
        let reply = self.hear(signer, RecordType::DS)?;
        let parents = reply.set(signer, RecordType::DS).into_iter().flat_map(|set| &set.signatures).map(|signature| &signature.signer);
        let parent = parents.filter(|parent| canonical::is_below(signer, parent) && parent.is_at_or_below(&above.name));
        if let Some(parent) = parent.max_by_key(|parent| parent.as_wire().len()) {
            let zone = self.prove(parent)?;
            if zone.is_insecure() {
                return Ok(zone);
            }
            if zone.name == *parent
                && let Place::Zone(zone) = self.place(&zone, signer)?
            {
                return Ok(zone);
            }
        }
        self.standing(signer)
    }

    /// The deepest zone at or above `name`, label by label.
    fn standing(&mut self, name: &Name) -> Result<Rc<Zone>, Stop> {
        let mut zone = self.closest(name)?;
        for labels in canonical::label_count(&zone.name) + 1..=canonical::label_count(name) {
            if zone.is_insecure() {
                break;
            }
            match self.place(&zone, &canonical::suffix(name, labels))? {
                Place::Zone(child) => zone = child,
                Place::NoCut => {}
                Place::Nothing => break,
            }
        }
        Ok(zone)
    }

    /// What is at `name`, of which `zone` is the closest signed zone above.
    fn place(&mut self, zone: &Rc<Zone>, name: &Name) -> Result<Place, Stop> {
        if let Some(known) = self.places.get(name) {
            return Ok(known.clone());
        }
        let place = self.find_place(zone, name)?;
        self.places.insert(name.clone(), place.clone());
        Ok(place)
    }

    fn find_place(&mut self, zone: &Rc<Zone>, name: &Name) -> Result<Place, Stop> {
        let reply = self.hear(name, RecordType::DS)?;
        if let Some(set) = reply.set(name, RecordType::DS) {
            let verified = self.check(set, zone)?.map_err(|fault| fault_of(fault, set, &zone.name))?;
            return self.delegated(name, set, verified.ttl).map(Place::Zone);
        }
        // Where a CNAME is, or above a DNAME, there is no delegation.
        let alias = reply.dname_above(name).or_else(|| reply.set(name, RecordType::CNAME));
        let mut alias_fault = None;
        if let Some(alias) = alias {
            match self.check(alias, zone)? {
                Ok(_) => return Ok(Place::NoCut),
                Err(fault) => alias_fault = Some(fault_of(fault, alias, &zone.name)),
            }
        }
        let gathered = self.gather(&reply, zone)?;
        let ttl = gathered.proofs.ttl.unwrap_or(0);
        let parent = &zone.name;
        Ok(match gathered.proofs.delegation(parent, name, &mut self.budget)? {
            Delegation::Unsigned => {
                Place::Zone(self.insecure(name, format!("{parent} proves that {name} has no DS record: the zone is not signed"), None, ttl))
            }
            Delegation::OptOut => {
                Place::Zone(self.insecure(name, format!("{parent} leaves unsigned zones out of its proofs (opt-out)"), None, ttl))
            }
            Delegation::Iterations(iterations) => Place::Zone(self.too_many_iterations(name, iterations, ttl)),
            Delegation::None => Place::NoCut,
            Delegation::NoSuchName => Place::Nothing,
            Delegation::Unproved(why) => {
                return Err(alias_fault.unwrap_or_else(|| unproved(&gathered, why, (name, RecordType::DS), parent)));
            }
        })
    }

    /// The zone behind a DS set that was verified.
    fn delegated(&mut self, zone: &Name, set: &RrSet, ttl: u32) -> Result<Rc<Zone>, Stop> {
        let all = set.data.iter().filter_map(|data| Ds::decode(data)).collect();
        match ds::usable(all, self.sha1) {
            Ok(ds) => Ok(self.zone_with_keys(zone, &Anchor { ds, keys: Vec::new() }, ttl)?.unwrap_or_else(|KeySize| {
                let error = ExtendedError::new(InfoCode::UNSUPPORTED_ALGORITHM, "the size of the key is not supported");
                self.insecure(zone, format!("{zone} is signed only by keys of sizes that are not supported"), Some(error), ttl)
            })),
            Err(error) => {
                let why = format!("{zone} is signed only in ways that are not supported: {}", error.text);
                Ok(self.insecure(zone, why, Some(error), ttl))
            }
        }
    }

    /// The zone with the keys that lead on from `entry`; `ttl` is that of the entry, in seconds.
    fn zone_with_keys(&mut self, zone: &Name, entry: &Anchor, ttl: u32) -> Result<Result<Rc<Zone>, KeySize>, Stop> {
        let reply = self.hear(zone, RecordType::DNSKEY)?;
        let Some(set) = reply.set(zone, RecordType::DNSKEY) else {
            return Err(fail(TroubleState::Bogus, InfoCode::DNSKEY_MISSING, "the zone must have keys and shows none", Some(zone)));
        };
        if set.data.len() > self.budget.limits().records_per_set {
            return Err(Halt::Exhausted("an RRset has too many records").into());
        }
        let all: Vec<Dnskey> = set.data.iter().filter_map(|data| Dnskey::decode(data)).collect();
        let entries = self.entries(zone, entry, &all)?;
        if entries.usable.is_empty() {
            // Every DS leads to a key that we cannot use; were one without its key, an attacker could have taken it away.
            if entries.odd > 0 && entries.odd == entry.ds.len() && entry.keys.is_empty() {
                return Ok(Err(KeySize));
            }
            return Err(match entries.unfit {
                0 => fail(TroubleState::Bogus, InfoCode::DNSKEY_MISSING, "no key of the zone fits its DS records", Some(zone)),
                _ => fail(
                    TroubleState::Bogus,
                    InfoCode::NO_ZONE_KEY_BIT,
                    "the key of the DS record is no zone key or is revoked",
                    Some(zone),
                ),
            });
        }
        let signers = Signers { zone, keys: &entries.usable, when: self.when, sha1: self.sha1 };
        // Other keys sign the set too, often; their signatures say nothing here.
        let mut own = set.clone();
        own.signatures.retain(|signature| entries.usable.iter().any(|key| key.tag == signature.tag));
        let set = if own.signatures.is_empty() { set } else { &own };
        let verified = signers.check(set, &mut self.budget)?.map_err(|fault| fault_of(fault, set, zone))?;
        let entries = entries.usable.iter().map(|key| key.tag).collect();
        let trust = Trust::Keys { keys: all, entries };
        Ok(Ok(self.found(zone, trust, verified.ttl.min(ttl))))
    }

    /// The keys that the records of `entry` stand for.
    fn entries(&mut self, zone: &Name, entry: &Anchor, all: &[Dnskey]) -> Result<Entries, Stop> {
        let mut entries = Entries::default();
        for ds in &entry.ds {
            let mut odd = 0;
            for key in all.iter().filter(|key| ds.may_stand_for(key)) {
                if !ds.stands_for(zone, key) {
                    self.budget.mismatch([&key.encode()[..], &ds.digest].concat())?;
                } else if !key.may_sign() {
                    entries.unfit += 1;
                } else if !key.is_usable() {
                    odd = 1;
                } else if !entries.usable.contains(key) {
                    entries.usable.push(key.clone());
                }
            }
            entries.odd += odd;
        }
        let believed = all.iter().filter(|key| entry.keys.contains(key) && key.may_sign());
        entries.usable.extend(believed.cloned());
        Ok(entries)
    }

    fn insecure(&mut self, zone: &Name, why: String, error: Option<ExtendedError>, ttl: u32) -> Rc<Zone> {
        self.found(zone, Trust::Insecure { why, error }, ttl)
    }

    pub(super) fn too_many_iterations(&mut self, zone: &Name, iterations: u16, ttl: u32) -> Rc<Zone> {
        let error = iterations_error(iterations);
        self.insecure(zone, format!("the proof needs too much work: {}", error.text), Some(error), ttl)
    }

    fn found(&mut self, name: &Name, trust: Trust, ttl: u32) -> Rc<Zone> {
        let most = if matches!(trust, Trust::Keys { .. }) { MAX_TTL } else { MAX_NEGATIVE_TTL };
        let zone = Rc::new(Zone { name: name.clone(), trust, until: self.when.now.plus(i64::from(ttl.min(most))) });
        self.places.insert(name.clone(), Place::Zone(Rc::clone(&zone)));
        zone
    }

    /// Whether a signature of `zone` over `set` holds.
    pub(super) fn check(&mut self, set: &RrSet, zone: &Zone) -> Result<Result<Verified, Fault>, Stop> {
        let signers = Signers { zone: &zone.name, keys: zone.keys(), when: self.when, sha1: self.sha1 };
        Ok(signers.check(set, &mut self.budget)?)
    }

    /// What the authority section denies, as far as signatures of `zone` hold.
    pub(super) fn gather(&mut self, reply: &Received, zone: &Zone) -> Result<Gathered, Stop> {
        let mut gathered = Gathered { proofs: Proofs::default(), fault: None };
        let own = reply.denials().filter(|set| set.owner.is_at_or_below(&zone.name));
        let (signed, unsigned): (Vec<&RrSet>, Vec<&RrSet>) =
            own.partition(|set| set.signatures.iter().any(|signature| signature.signer == zone.name));
        if !unsigned.is_empty() {
            gathered.fault = Some(Fault::Missing);
        }
        for set in signed.into_iter().take(MAX_PROOFS) {
            let verified = match self.check(set, zone)? {
                Ok(verified) => verified,
                Err(fault) => {
                    gathered.fault = gathered.fault.max(Some(fault));
                    continue;
                }
            };
            let Proofs { nsec, nsec3, ttl } = &mut gathered.proofs;
            *ttl = Some(ttl.map_or(verified.ttl, |ttl| ttl.min(verified.ttl)));
            match set.kind {
                RecordType::NSEC => nsec.extend(set.data.iter().filter_map(|data| Nsec::decode(&set.owner, data))),
                _ => nsec3.extend(set.data.iter().filter_map(|data| Nsec3::decode(&set.owner, &zone.name, data))),
            }
        }
        Ok(gathered)
    }
}

/// A DNAME whose result would be too long (RFC 6672 section 2.2); what stands in the message counts.
const YX_DOMAIN: Rcode = Rcode(6);

pub(super) fn iterations_error(iterations: u16) -> ExtendedError {
    ExtendedError::new(InfoCode::UNSUPPORTED_ITERATIONS, format!("NSEC3 with {iterations} iterations"))
}

/// The verdict on a set of which no signature holds.
pub(super) fn fault_of(fault: Fault, set: &RrSet, zone: &Name) -> Stop {
    let text = format!("{} of {}: {fault}", set.kind, set.owner);
    match fault {
        Fault::Clock => {
            let errors = vec![ExtendedError::new(fault.code(), text)];
            let (state, cause) = (TroubleState::Indeterminate, TroubleCause::Ours);
            Stop::Fail(Box::new(Trouble { state, cause, errors, zone: Some(zone.clone()) }))
        }
        fault => fail(TroubleState::Bogus, fault.code(), text, Some(zone)),
    }
}

/// The verdict on a denial that is not proved.
pub(super) fn unproved(gathered: &Gathered, why: Unproved, (name, kind): (&Name, RecordType), zone: &Name) -> Stop {
    match gathered.fault {
        Some(Fault::Clock) => {
            let errors = vec![ExtendedError::new(Fault::Clock.code(), format!("the denial of {kind} of {name}: {}", Fault::Clock))];
            let (state, cause) = (TroubleState::Indeterminate, TroubleCause::Ours);
            Stop::Fail(Box::new(Trouble { state, cause, errors, zone: Some(zone.clone()) }))
        }
        Some(fault) => fail(TroubleState::Bogus, fault.code(), format!("the denial of {kind} of {name}: {fault}"), Some(zone)),
        None => fail(TroubleState::Bogus, InfoCode::NSEC_MISSING, format!("the denial of {kind} of {name}: {why}"), Some(zone)),
    }
}
