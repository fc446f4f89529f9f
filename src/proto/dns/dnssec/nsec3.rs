//! NSEC3 records (RFC 5155): hashes of names, and what records that were verified say about a name.
//!
//! All records of a proof have the same parameters. Records of an unknown hash or with unknown flags do not exist
//! (section 8.1, 8.2). Hashes cost work that somebody else decides on, so they come from the budget.

use ring::digest;

use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::bitmap::Bitmap;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::denial::Finding;
use crate::proto::dns::dnssec::denial::Unproved;
use crate::proto::dns::dnssec::denial::judge_types;
use crate::proto::dns::dnssec::presentation::from_base32_hex;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;

/// SHA-1, the only one registered.
const HASH_SHA1: u8 = 1;
const FLAG_OPT_OUT: u8 = 1;

pub type Hash = [u8; 20];

/// What a hash is made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// additional ones
    pub iterations: u16,
    pub salt: Box<[u8]>,
}

/// Whether unsigned delegations are left out of a span (RFC 5155 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOut {
    Set,
    Clear,
}

/// One record whose signature held.
#[derive(Clone, Debug)]
pub struct Nsec3 {
    pub hash: Hash,
    pub next: Hash,
    pub opt_out: OptOut,
    pub parameters: Parameters,
    pub types: Bitmap,
}

impl Nsec3 {
    /// `None` for a record that must be ignored, or does not stand directly below the apex.
    pub fn decode(owner: &Name, zone: &Name, rdata: &[u8]) -> Option<Nsec3> {
        if owner.parent()? != *zone {
            return None;
        }
        let hash = from_base32_hex(owner.labels().next()?)?.try_into().ok()?;
        let mut cursor = Rdata::alone(rdata).cursor();
        let (algorithm, flags, iterations) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
        if algorithm != HASH_SHA1 || flags & !FLAG_OPT_OUT != 0 {
            return None;
        }
        let opt_out = if flags == FLAG_OPT_OUT { OptOut::Set } else { OptOut::Clear };
        let parameters = Parameters { iterations, salt: cursor.counted()?.into() };
        let next = cursor.counted()?.try_into().ok()?;
        Some(Nsec3 { hash, next, opt_out, parameters, types: Bitmap::decode(cursor.rest())? })
    }

    fn covers(&self, hash: &Hash) -> bool {
        if self.hash < self.next {
            self.hash < *hash && *hash < self.next
        } else {
            // The last of the zone, or the only one.
            *hash > self.hash || *hash < self.next
        }
    }
}

/// RFC 5155 section 5, of a name in small letters.
pub fn hash(name: &[u8], parameters: &Parameters) -> Hash {
    let mut last: Hash = sha1(&[name, &parameters.salt]);
    for _ in 0..parameters.iterations {
        last = sha1(&[&last, &parameters.salt]);
    }
    last
}

fn sha1(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-1 has 20 octets")
}

/// The records of one proof, all with the same parameters, none with more iterations than are computed.
pub struct Proof<'a> {
    zone: &'a Name,
    parameters: &'a Parameters,
    records: &'a [Nsec3],
}

/// RFC 5155 section 8.3: the longest ancestor that exists, and the record that covers the name one label longer.
struct Enclosed<'a> {
    encloser: Name,
    next_closer: &'a Nsec3,
}

impl<'a> Proof<'a> {
    /// `None` without records, or if their parameters differ.
    pub fn new(zone: &'a Name, records: &'a [Nsec3]) -> Option<Proof<'a>> {
        let parameters = &records.first()?.parameters;
        records.iter().all(|nsec3| nsec3.parameters == *parameters).then_some(Proof { zone, parameters, records })
    }

    fn exact(&self, name: &Name, budget: &mut Budget) -> Result<Option<&'a Nsec3>, Halt> {
        let hash = budget.hash(name, self.parameters)?;
        Ok(self.records.iter().find(|nsec3| nsec3.hash == hash))
    }

    fn cover(&self, name: &Name, budget: &mut Budget) -> Result<Option<&'a Nsec3>, Halt> {
        let hash = budget.hash(name, self.parameters)?;
        Ok(self.records.iter().find(|nsec3| nsec3.covers(&hash)))
    }

    /// The closest encloser of a name that has no record of its own.
    fn enclosed(&self, name: &Name, budget: &mut Budget) -> Result<Result<Enclosed<'a>, Unproved>, Halt> {
        let mut next_closer = name.clone();
        for encloser in canonical::upwards(name).skip(1).take_while(|above| above.is_at_or_below(self.zone)) {
            let Some(exact) = self.exact(&encloser, budget)? else {
                next_closer = encloser;
                continue;
            };
            // A cut or a DNAME encloses nothing of this zone.
            if exact.types.is_delegation() || exact.types.has(RecordType::DNAME) {
                return Ok(Err(Unproved::ParentSide));
            }
            let cover = self.cover(&next_closer, budget)?;
            return Ok(cover.map(|next_closer| Enclosed { encloser, next_closer }).ok_or(Unproved::NotCovered));
        }
        Ok(Err(Unproved::NotCovered))
    }

    /// What is proved about `kind` at `name` (RFC 5155 sections 8.4 to 8.7).
    pub fn deny(&self, (name, kind): (&Name, RecordType), budget: &mut Budget) -> Result<Finding, Halt> {
        if let Some(exact) = self.exact(name, budget)? {
            return Ok(judge_types(&exact.types, name, kind));
        }
        let Enclosed { encloser, next_closer } = match self.enclosed(name, budget)? {
            Ok(enclosed) => enclosed,
            Err(why) => return Ok(Finding::Unproved(why)),
        };
        // An unsigned delegation may be at the next closer name, and what is asked for behind it (section 8.6, 9.2).
        if next_closer.opt_out == OptOut::Set {
            return Ok(Finding::OptOut);
        }
        let Some(wildcard) = canonical::wildcard_below(&encloser) else { return Ok(Finding::NoSuchName) };
        if let Some(exact) = self.exact(&wildcard, budget)? {
            return Ok(judge_types(&exact.types, &wildcard, kind));
        }
        Ok(match self.cover(&wildcard, budget)? {
            Some(_) => Finding::NoSuchName,
            None => Finding::Unproved(Unproved::Wildcard),
        })
    }

    /// Whether nothing closer than the wildcard below `encloser` stands for `name` (RFC 5155 section 8.8); `None`: unproved.
    pub fn only_wildcard(&self, (name, encloser): (&Name, &Name), budget: &mut Budget) -> Result<Option<OptOut>, Halt> {
        let next_closer = canonical::suffix(name, canonical::label_count(encloser) + 1);
        Ok(self.cover(&next_closer, budget)?.map(|nsec3| nsec3.opt_out))
    }

    /// The types at a name that has a record of its own.
    pub fn types_at(&self, name: &Name, budget: &mut Budget) -> Result<Option<&'a Bitmap>, Halt> {
        Ok(self.exact(name, budget)?.map(|nsec3| &nsec3.types))
    }

    /// Whether there is nothing at `name`, which has no record of its own, wildcards apart; `None`: unproved.
    pub fn is_absent(&self, name: &Name, budget: &mut Budget) -> Result<Option<OptOut>, Halt> {
        Ok(self.enclosed(name, budget)?.ok().map(|enclosed| enclosed.next_closer.opt_out))
    }
}

#[cfg(test)]
mod tests;
