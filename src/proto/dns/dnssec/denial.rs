//! What follows from NSEC and NSEC3 records that were verified: no such name, no such records, no secure delegation.
//!
//! RFC 4035 section 5.4, RFC 5155 section 8, RFC 6840 section 4, RFC 9276 section 3.2, RFC 9824.

use std::fmt;

use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::bitmap::Bitmap;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::nsec;
use crate::proto::dns::dnssec::nsec::Nsec;
use crate::proto::dns::dnssec::nsec3::Nsec3;
use crate::proto::dns::dnssec::nsec3::OptOut;
use crate::proto::dns::dnssec::nsec3::Proof;
use crate::proto::dns::name::Name;

/// RFC 9824 section 3.5: in a bitmap it says that the name does not exist.
const NXNAME: RecordType = RecordType(128);
/// Iterations that are computed; above it the zone counts as unsigned (RFC 9276 section 3.2).
const MAX_ITERATIONS: u16 = 50;
/// Above this a record is treated as absent: no honest zone has ever had more (RFC 5155 section 10.3 allowed 2,500 for keys
/// that nobody has).
const ABSURD_ITERATIONS: u16 = 500;

/// What a proof says about a type at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Neither the name exists nor a wildcard that stands for it.
    NoSuchName,
    /// The name exists in the proof and not otherwise (RFC 9824).
    NxName,
    /// The name, or the wildcard that stands for it, exists without the type.
    NoData,
    /// Nothing signed is there; something unsigned may be (opt-out).
    OptOut,
    /// The proof costs more iterations than are computed: the zone counts as unsigned.
    Iterations(u16),
    Unproved(Unproved),
}

/// Why nothing is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// there is no record that could prove anything
    Missing,
    NotCovered,
    /// the wildcard may exist
    Wildcard,
    TypeExists,
    /// the record of a parent zone, which knows only the DS
    ParentSide,
    /// the record of a child zone, which does not know the DS
    ChildSide,
    /// records with different parameters
    Mixed,
    AbsurdIterations,
}

impl fmt::Display for Unproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unproved::Missing => "there is no signed NSEC or NSEC3 record",
            Unproved::NotCovered => "no NSEC or NSEC3 record covers the name",
            Unproved::Wildcard => "it is not proved that no wildcard stands for the name",
            Unproved::TypeExists => "the zone says that there are records of this type, or a CNAME",
            Unproved::ParentSide => "the NSEC or NSEC3 record is of the parent of the zone",
            Unproved::ChildSide => "the NSEC or NSEC3 record is of the child's side of the delegation",
            Unproved::Mixed => "the NSEC3 records have different parameters",
            Unproved::AbsurdIterations => "the NSEC3 records have more than 500 iterations",
        })
    }
}

/// What a proof says about a delegation at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// The name is a delegation, and has no DS: what is behind it is insecure.
    Unsigned,
    /// The name is a name of this zone.
    None,
    /// Nothing is at the name, and so no zone is at or below it.
    NoSuchName,
    /// An unsigned delegation may be there.
    OptOut,
    Iterations(u16),
    Unproved(Unproved),
}

/// Whether the owner of a set made from a wildcard is proved not to exist itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WildcardProof {
    Proved,
    OptOut,
    Iterations(u16),
    Unproved(Unproved),
}

/// What the bitmap of the record of `name` says about `kind`.
pub(super) fn judge_types(types: &Bitmap, name: &Name, kind: RecordType) -> Finding {
    if is_nxname(types) {
        return Finding::NxName;
    }
    // RFC 6840 section 4.3: with a CNAME there the answer would have been the CNAME.
    if types.has(kind) || types.has(RecordType::CNAME) {
        return Finding::Unproved(Unproved::TypeExists);
    }
    match kind {
        RecordType::DS if types.has(RecordType::SOA) && !name.is_root() => Finding::Unproved(Unproved::ChildSide),
        RecordType::DS => Finding::NoData,
        // Whatever is there would have been the answer.
        RecordType::ANY if !types.has_only(&[RecordType::RRSIG, RecordType::NSEC]) => Finding::Unproved(Unproved::TypeExists),
        _ if types.is_delegation() => Finding::Unproved(Unproved::ParentSide),
        _ => Finding::NoData,
    }
}

fn is_nxname(types: &Bitmap) -> bool {
    types.has(NXNAME) && types.has_only(&[RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3, NXNAME])
}

/// All records of a message that one zone signed.
#[derive(Clone, Debug, Default)]
pub struct Proofs {
    pub nsec: Vec<Nsec>,
    pub nsec3: Vec<Nsec3>,
    /// seconds, the smallest; `None` without records
    pub ttl: Option<u32>,
}

/// The NSEC3 records as they can be used.
enum Hashed<'a> {
    Proof(Proof<'a>),
    TooMany(u16),
    None(Unproved),
}

impl Proofs {
    /// What is proved about `kind` at `name`.
    pub fn deny(&self, zone: &Name, question: (&Name, RecordType), budget: &mut Budget) -> Result<Finding, Halt> {
        if !self.nsec.is_empty() {
            return Ok(nsec::deny(&self.nsec, zone, question));
        }
        match self.hashed(zone) {
            Hashed::Proof(proof) => proof.deny(question, budget),
            Hashed::TooMany(iterations) => Ok(Finding::Iterations(iterations)),
            Hashed::None(why) => Ok(Finding::Unproved(why)),
        }
    }

    /// What is proved about a delegation at `name`, which is below the apex.
    pub fn delegation(&self, zone: &Name, name: &Name, budget: &mut Budget) -> Result<Delegation, Halt> {
        if !self.nsec.is_empty() {
            return Ok(self.delegation_nsec(zone, name));
        }
        let proof = match self.hashed(zone) {
            Hashed::Proof(proof) => proof,
            Hashed::TooMany(iterations) => return Ok(Delegation::Iterations(iterations)),
            Hashed::None(why) => return Ok(Delegation::Unproved(why)),
        };
        if let Some(types) = proof.types_at(name, budget)? {
            return Ok(judge_delegation(types));
        }
        Ok(match proof.is_absent(name, budget)? {
            Some(OptOut::Set) => Delegation::OptOut,
            Some(OptOut::Clear) => Delegation::NoSuchName,
            None => Delegation::Unproved(Unproved::NotCovered),
        })
    }

    fn delegation_nsec(&self, zone: &Name, name: &Name) -> Delegation {
        if let Some(exact) = self.nsec.iter().find(|nsec| nsec.owner == *name) {
            return judge_delegation(&exact.types);
        }
        if nsec::is_empty_non_terminal(&self.nsec, zone, name) {
            return Delegation::None;
        }
        if nsec::is_absent(&self.nsec, zone, name) { Delegation::NoSuchName } else { Delegation::Unproved(Unproved::NotCovered) }
    }

    /// Whether `name` is proved not to exist, so that the wildcard below `encloser` stands for it.
    pub fn only_wildcard(&self, zone: &Name, names: (&Name, &Name), budget: &mut Budget) -> Result<WildcardProof, Halt> {
        if !self.nsec.is_empty() {
            let proved = nsec::only_wildcard(&self.nsec, zone, names);
            return Ok(if proved { WildcardProof::Proved } else { WildcardProof::Unproved(Unproved::NotCovered) });
        }
        let proof = match self.hashed(zone) {
            Hashed::Proof(proof) => proof,
            Hashed::TooMany(iterations) => return Ok(WildcardProof::Iterations(iterations)),
            Hashed::None(why) => return Ok(WildcardProof::Unproved(why)),
        };
        Ok(match proof.only_wildcard(names, budget)? {
            Some(OptOut::Clear) => WildcardProof::Proved,
            Some(OptOut::Set) => WildcardProof::OptOut,
            None => WildcardProof::Unproved(Unproved::NotCovered),
        })
    }

    fn hashed<'a>(&'a self, zone: &'a Name) -> Hashed<'a> {
        let Some(most) = self.nsec3.iter().map(|nsec3| nsec3.parameters.iterations).max() else { return Hashed::None(Unproved::Missing) };
        if most > ABSURD_ITERATIONS {
            return Hashed::None(Unproved::AbsurdIterations);
        }
        if most > MAX_ITERATIONS {
            return Hashed::TooMany(most);
        }
        Proof::new(zone, &self.nsec3).map_or(Hashed::None(Unproved::Mixed), Hashed::Proof)
    }
}

/// What the bitmap at a name below the apex says about a delegation there.
fn judge_delegation(types: &Bitmap) -> Delegation {
    if is_nxname(types) {
        return Delegation::NoSuchName;
    }
    if types.has(RecordType::SOA) {
        return Delegation::Unproved(Unproved::ChildSide);
    }
    if types.has(RecordType::DS) {
        return Delegation::Unproved(Unproved::TypeExists);
    }
    if types.has(RecordType::NS) { Delegation::Unsigned } else { Delegation::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::dnssec::budget::Limits;
    use crate::proto::dns::dnssec::presentation::parse_rdata;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn proofs(records: &[&str]) -> Proofs {
        let nsec = records.iter().map(|text| {
            let (owner, rest) = text.split_once(' ').unwrap();
            Nsec::decode(&name(owner), &parse_rdata(RecordType::NSEC, rest).unwrap()).unwrap()
        });
        Proofs { nsec: nsec.collect(), ..Proofs::default() }
    }

    #[test]
    fn what_is_said_about_delegations() {
        let rows: [(&[&str], Delegation); 10] = [
            (&["b.example. d.example. NS RRSIG NSEC"], Delegation::Unsigned),
            (&["b.example. d.example. A RRSIG NSEC"], Delegation::None),
            (&["b.example. d.example. CNAME RRSIG NSEC"], Delegation::None),
            (&["b.example. d.example. NS DS RRSIG NSEC"], Delegation::Unproved(Unproved::TypeExists)),
            (&["b.example. d.example. NS SOA RRSIG NSEC"], Delegation::Unproved(Unproved::ChildSide)),
            (&["a.example. d.example. A RRSIG NSEC"], Delegation::NoSuchName),
            (&["a.example. x.b.example. A RRSIG NSEC"], Delegation::None),
            (&["b.example. \\000.b.example. RRSIG NSEC TYPE128"], Delegation::NoSuchName),
            (&["c.example. d.example. A RRSIG NSEC"], Delegation::Unproved(Unproved::NotCovered)),
            (&[], Delegation::Unproved(Unproved::Missing)),
        ];
        for (records, expected) in rows {
            let mut budget = Budget::new(Limits::default());
            let got = proofs(records).delegation(&name("example."), &name("b.example."), &mut budget);
            assert_eq!(got, Ok(expected), "{records:?}");
        }
    }

    #[test]
    fn nxname_counts_alone() {
        let with_a = proofs(&["b.example. \\000.b.example. A RRSIG NSEC TYPE128"]);
        let mut budget = Budget::new(Limits::default());
        let mut deny = |kind| with_a.deny(&name("example."), (&name("b.example."), kind), &mut budget).unwrap();
        assert_eq!(deny(RecordType::MX), Finding::NoData);
        assert_eq!(deny(RecordType::A), Finding::Unproved(Unproved::TypeExists));
    }
}
