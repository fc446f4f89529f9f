//! Signatures over RRsets (RFC 4034 section 3, RFC 4035 section 5.3), and why they do not hold.
//!
//! One signature that holds is enough. Where none does, the fault that tells most is reported: time, then that there is no
//! signature (that can be used), then that no key fits, then that a signature is wrong.

use std::cmp::Ordering;
use std::fmt;

use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::budget;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Check;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::dnskey::Algorithm;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::rrset::RrSet;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;

/// One RRSIG record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrsig {
    pub covered: RecordType,
    pub algorithm: Algorithm,
    /// labels of the owner, without a wildcard's `*`
    pub labels: u8,
    /// seconds
    pub original_ttl: u32,
    /// seconds since 1970, compared as serial numbers
    pub expiration: u32,
    pub inception: u32,
    pub tag: u16,
    pub signer: Name,
    pub signature: Box<[u8]>,
}

/// What the two times of a signature say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Valid,
    Expired,
    NotYetValid,
    /// It expires before it begins.
    Never,
}

impl Rrsig {
    pub fn decode(rdata: &[u8]) -> Option<Rrsig> {
        let mut cursor = Rdata::alone(rdata).cursor();
        Some(Rrsig {
            covered: RecordType(cursor.u16()?),
            algorithm: Algorithm(cursor.u8()?),
            labels: cursor.u8()?,
            original_ttl: cursor.u32()?,
            expiration: cursor.u32()?,
            inception: cursor.u32()?,
            tag: cursor.u16()?,
            signer: cursor.name()?,
            signature: cursor.rest().into(),
        })
    }

    fn validity(&self, now: UnixTime) -> Validity {
        let now = now.0 as u32;
        if serial_order(self.expiration, self.inception) == Ordering::Less {
            Validity::Never
        } else if serial_order(self.expiration, now) == Ordering::Less {
            Validity::Expired
        } else if serial_order(self.inception, now) == Ordering::Greater {
            Validity::NotYetValid
        } else {
            Validity::Valid
        }
    }

    /// The fields before the signature, in canonical form.
    fn head(&self) -> Vec<u8> {
        let mut out = self.covered.0.to_be_bytes().to_vec();
        out.extend([self.algorithm.0, self.labels]);
        out.extend(self.original_ttl.to_be_bytes());
        out.extend(self.expiration.to_be_bytes());
        out.extend(self.inception.to_be_bytes());
        out.extend(self.tag.to_be_bytes());
        out.extend(self.signer.as_wire().iter().map(u8::to_ascii_lowercase));
        out
    }

    /// The octets that were signed (RFC 4034 section 3.1.8.1).
    fn signed_octets(&self, set: &RrSet, owner: &Name) -> Vec<u8> {
        let mut out = self.head();
        out.reserve(set.size());
        set.canonical_form(owner, self.original_ttl, &mut out);
        out
    }

    /// RFC 4035 section 5.3.3: no longer than received, as signed, and until it expires; in seconds.
    fn ttl(&self, set: &RrSet, now: UnixTime) -> u32 {
        set.ttl.min(self.original_ttl).min(self.expiration.wrapping_sub(now.0 as u32))
    }

    /// What the set stands for: itself, or a wildcard below this name (RFC 4035 section 5.3.2).
    fn source(&self, set: &RrSet) -> Option<Source> {
        let labels = canonical::label_count(&set.owner) - usize::from(canonical::is_wildcard(&set.owner));
        match usize::from(self.labels).cmp(&labels) {
            Ordering::Equal => Some(Source::Itself),
            Ordering::Less => Some(Source::Wildcard(canonical::suffix(&set.owner, usize::from(self.labels)))),
            Ordering::Greater => None,
        }
    }
}

/// RFC 1982 section 3.2; the order of two numbers 2^31 apart is not defined, and here the first is smaller.
fn serial_order(a: u32, b: u32) -> Ordering {
    match a.wrapping_sub(b) {
        0 => Ordering::Equal,
        1..=0x7fff_ffff => Ordering::Greater,
        _ => Ordering::Less,
    }
}

/// Where the records of a set come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Itself,
    /// Made from `*` below this closest encloser: it must be proved that the owner itself does not exist.
    Wildcard(Name),
}

/// A set with a signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// seconds
    pub ttl: u32,
    pub source: Source,
}

/// Why no signature holds, the most telling last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// the signature does not belong to the records
    Wrong,
    /// the key that signed has the wrong kind
    NotAZoneKey,
    NoKey,
    /// of the zone's own, of a supported algorithm
    Missing,
    /// only by algorithms that are not supported, in a zone that has a supported one
    Unsupported,
    Never,
    NotYetValid,
    Expired,
    /// the signature holds but for its time, and the clock may be wrong
    Clock,
}

impl Fault {
    pub fn code(self) -> InfoCode {
        match self {
            Fault::Wrong => InfoCode::DNSSEC_BOGUS,
            Fault::NotAZoneKey => InfoCode::NO_ZONE_KEY_BIT,
            Fault::NoKey => InfoCode::DNSKEY_MISSING,
            Fault::Missing | Fault::Unsupported => InfoCode::RRSIGS_MISSING,
            Fault::Never => InfoCode::EXPIRED_BEFORE_VALID,
            Fault::NotYetValid => InfoCode::SIGNATURE_NOT_YET_VALID,
            Fault::Expired => InfoCode::SIGNATURE_EXPIRED,
            Fault::Clock => InfoCode::NOT_READY,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Wrong => "the signature is wrong",
            Fault::NotAZoneKey => "the key that signed is no zone key, or is revoked",
            Fault::NoKey => "the zone has no key with the tag of the signature",
            Fault::Missing => "there is no signature of the zone",
            Fault::Unsupported => "there are only signatures of algorithms that are not supported",
            Fault::Never => "the signature expires before it begins",
            Fault::NotYetValid => "the signature is not valid yet",
            Fault::Expired => "the signature has expired",
            Fault::Clock => "the clock is not set, and the signature does not hold at the time that it shows",
        })
    }
}

/// Whose keys, and at what time.
#[derive(Clone, Copy, Debug)]
pub struct Signers<'a> {
    pub zone: &'a Name,
    pub keys: &'a [Dnskey],
    pub when: When,
    pub sha1: Sha1,
}

impl Signers<'_> {
    /// Whether one signature of the zone over `set` holds. The outer error is about our work, the inner about the set.
    pub fn check(&self, set: &RrSet, budget: &mut Budget) -> Result<Result<Verified, Fault>, Halt> {
        if set.data.len() > budget.limits().records_per_set {
            return Err(Halt::Exhausted("an RRset has too many records"));
        }
        let own = set.signatures.iter().filter(|signature| signature.covered == set.kind && signature.signer == *self.zone);
        let (supported, others): (Vec<&Rrsig>, Vec<&Rrsig>) = own.partition(|signature| signature.algorithm.is_supported(self.sha1));
        // Those of other algorithms do not count: else stripping the good ones would go unnoticed.
        let mut worst = if others.is_empty() { Fault::Missing } else { Fault::Unsupported };
        for (seen, signature) in supported.into_iter().enumerate() {
            if seen == budget.limits().signatures_per_set {
                return Err(Halt::Exhausted("an RRset has too many signatures"));
            }
            match self.check_one(set, signature, budget)? {
                Ok(verified) => return Ok(Ok(verified)),
                Err(fault) if seen == 0 => worst = fault,
                Err(fault) => worst = worst.max(fault),
            }
        }
        Ok(Err(worst))
    }

    fn check_one(&self, set: &RrSet, signature: &Rrsig, budget: &mut Budget) -> Result<Result<Verified, Fault>, Halt> {
        // A zone signs what is in it, and nothing else.
        let Some(source) = signature.source(set).filter(|_| set.owner.is_at_or_below(self.zone)) else { return Ok(Err(Fault::Wrong)) };
        let owner = match &source {
            Source::Itself => set.owner.clone(),
            // A wildcard stands in the zone, and what holds a zone together is not made from one.
            Source::Wildcard(encloser) => match canonical::wildcard_below(encloser) {
                Some(wildcard) if encloser.is_at_or_below(self.zone) && !is_structure(set.kind) => wildcard,
                _ => return Ok(Err(Fault::Wrong)),
            },
        };
        let late = match signature.validity(self.when.now) {
            Validity::Valid => None,
            Validity::Never => return Ok(Err(Fault::Never)),
            Validity::Expired => Some(Fault::Expired),
            Validity::NotYetValid => Some(Fault::NotYetValid),
        };
        if let Some(fault) = late
            && self.when.clock == ClockTrust::Confirmed
        {
            return Ok(Err(fault));
        }
        match (self.holds(set, &owner, signature, budget)?, late) {
            (Ok(()), None) => Ok(Ok(Verified { ttl: signature.ttl(set, self.when.now), source })),
            (Ok(()), Some(_)) => Ok(Err(Fault::Clock)),
            (Err(fault), _) => Ok(Err(fault)),
        }
    }

    /// Tries the keys that have the tag and the algorithm.
    fn holds(&self, set: &RrSet, owner: &Name, signature: &Rrsig, budget: &mut Budget) -> Result<Result<(), Fault>, Halt> {
        let mut fault = Fault::NoKey;
        let check = Check {
            identity: budget::fingerprint(&[&signature.head(), &signature.signature, owner.to_lowercase().as_wire(), set.content()]),
            size: set.size(),
            signature: &signature.signature,
            octets: &|| signature.signed_octets(set, owner),
        };
        let named = self.keys.iter().filter(|key| key.tag == signature.tag && key.algorithm == signature.algorithm);
        let (fit, unfit): (Vec<&Dnskey>, Vec<&Dnskey>) = named.partition(|key| key.may_sign());
        if !unfit.is_empty() {
            fault = Fault::NotAZoneKey;
        }
        for (tried, key) in fit.into_iter().filter(|key| key.is_usable()).enumerate() {
            if tried == budget.limits().keys_per_tag {
                return Err(Halt::Exhausted("too many keys have the same tag"));
            }
            if budget.verify(key, &check)? {
                return Ok(Ok(()));
            }
            fault = Fault::Wrong;
        }
        Ok(Err(fault))
    }
}

/// Types that are never made from a wildcard: a forged NSEC would deny anything (CVE-2017-15105), and a DNAME would stand
/// above names for which the wildcard itself stands (RFC 4592 section 4.4).
fn is_structure(kind: RecordType) -> bool {
    let cuts = matches!(kind, RecordType::DNSKEY | RecordType::DS | RecordType::SOA | RecordType::NS | RecordType::DNAME);
    cuts || matches!(kind, RecordType::NSEC | RecordType::NSEC3)
}

#[cfg(test)]
mod tests;
