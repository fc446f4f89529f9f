//! Records put together to RRsets with their signatures (RFC 2181 section 5, RFC 4035 section 5.3).
//!
//! Copies of a record are one record, in the order of their canonical form. Signatures stand with the set that they cover.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::HashSet;

use ring::digest;

use crate::proto::dns::CLASS_IN;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::rrsig::Rrsig;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::reader::Message;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::reader::Section;

/// All records of one owner and type in one section, and the signatures over them.
#[derive(Clone, Debug)]
pub struct RrSet {
    pub owner: Name,
    pub kind: RecordType,
    /// seconds, the smallest of the records
    pub ttl: u32,
    /// Data as received, without copies, in canonical order.
    pub data: Vec<Vec<u8>>,
    pub signatures: Vec<Rrsig>,
    /// computed when it is asked for
    content: OnceCell<[u8; 32]>,
}

impl RrSet {
    /// The set as records again, to be kept for `ttl` seconds.
    pub fn records(&self, ttl: u32) -> impl Iterator<Item = RawRecord> {
        self.data.iter().map(move |rdata| RawRecord { owner: self.owner.clone(), rtype: self.kind, ttl, rdata: rdata.clone() })
    }

    /// What is signed (RFC 4034 section 3.1.8.1), with `owner` and `ttl` as the signature has them.
    pub fn canonical_form(&self, owner: &Name, ttl: u32, out: &mut Vec<u8>) {
        let owner = owner.as_wire().to_ascii_lowercase();
        for data in &self.data {
            let data = canonical::rdata(self.kind, data);
            out.extend_from_slice(&owner);
            out.extend(self.kind.0.to_be_bytes());
            out.extend(CLASS_IN.to_be_bytes());
            out.extend(ttl.to_be_bytes());
            out.extend((data.len() as u16).to_be_bytes());
            out.extend_from_slice(&data);
        }
    }

    /// Octets of the canonical form; computing it and its digests costs work, too.
    pub fn size(&self) -> usize {
        let fixed = self.owner.as_wire().len() + 10;
        self.data.iter().map(|data| data.len() + fixed).sum()
    }

    /// A digest of kind and data, which tells one set from another in a lookup.
    pub fn content(&self) -> &[u8; 32] {
        self.content.get_or_init(|| {
            let mut octets = Vec::with_capacity(self.size());
            self.canonical_form(&Name::root(), 0, &mut octets);
            digest::digest(&digest::SHA256, &octets).as_ref().try_into().expect("SHA-256 has 32 octets")
        })
    }

    /// The name that a CNAME or DNAME set leads to; `None` if there is not exactly one.
    pub fn target(&self) -> Option<Name> {
        let [data] = &self.data[..] else { return None };
        Rdata::alone(data).cursor().name()
    }
}

/// What one question brought, without what DNSSEC does not need.
#[derive(Clone, Debug)]
pub struct Received {
    pub rcode: Rcode,
    pub answer: Vec<RrSet>,
    pub authority: Vec<RrSet>,
}

impl Received {
    /// From records of the sections answer and authority.
    pub fn new(rcode: Rcode, answer: impl IntoIterator<Item = RawRecord>, authority: impl IntoIterator<Item = RawRecord>) -> Received {
        Received { rcode, answer: gather(answer), authority: gather(authority) }
    }

    /// From a message; records that are broken are left out, and their signatures fail.
    pub fn of(message: &Message<'_>) -> Received {
        let section = |section| message.records(section).filter_map(|entry| entry.to_raw());
        Received::new(message.rcode(), section(Section::Answer), section(Section::Authority))
    }

    /// Octets that it takes in memory, or a little less.
    pub fn size(&self) -> usize {
        let of_signature = |signature: &Rrsig| signature.signature.len() + signature.signer.as_wire().len() + size_of::<Rrsig>();
        let of_set = |set: &RrSet| set.size() + set.signatures.iter().map(of_signature).sum::<usize>() + size_of::<RrSet>();
        self.answer.iter().chain(&self.authority).map(of_set).sum()
    }

    /// The set of the answer section.
    pub fn set(&self, owner: &Name, kind: RecordType) -> Option<&RrSet> {
        self.answer.iter().find(|set| set.kind == kind && set.owner == *owner)
    }

    /// The DNAME closest above `name` (RFC 6672 section 2.2).
    pub fn dname_above(&self, name: &Name) -> Option<&RrSet> {
        let dnames = self.answer.iter().filter(|set| set.kind == RecordType::DNAME && canonical::is_below(name, &set.owner));
        dnames.max_by_key(|set| set.owner.as_wire().len())
    }

    /// Sets of the authority section that may deny something.
    pub fn denials(&self) -> impl Iterator<Item = &RrSet> {
        self.authority.iter().filter(|set| matches!(set.kind, RecordType::NSEC | RecordType::NSEC3))
    }

    /// The SOA of a zone that `name` can be in.
    pub fn soa(&self, name: &Name) -> Option<&RrSet> {
        self.authority.iter().find(|set| set.kind == RecordType::SOA && name.is_at_or_below(&set.owner))
    }
}

/// In the order in which the sets come first.
fn gather(records: impl IntoIterator<Item = RawRecord>) -> Vec<RrSet> {
    let mut sets: Vec<RrSet> = Vec::new();
    let mut places: HashMap<(Name, RecordType), usize> = HashMap::new();
    let mut signatures = Vec::new();
    // By hash: whoever sends them decides how many there are, and how alike.
    let mut seen = HashSet::new();
    for record in records {
        if record.rtype == RecordType::RRSIG {
            if let Some(signature) = Rrsig::decode(&record.rdata)
                && seen.insert((record.owner.clone(), canonical::rdata(RecordType::RRSIG, &record.rdata).into_owned()))
            {
                signatures.push((record.owner, signature));
            }
            continue;
        }
        let place = *places.entry((record.owner.clone(), record.rtype)).or_insert(sets.len());
        if place == sets.len() {
            sets.push(RrSet {
                owner: record.owner,
                kind: record.rtype,
                ttl: record.ttl,
                data: vec![record.rdata],
                signatures: Vec::new(),
                content: OnceCell::new(),
            });
        } else {
            sets[place].ttl = sets[place].ttl.min(record.ttl);
            sets[place].data.push(record.rdata);
        }
    }
    for (owner, signature) in signatures {
        if let Some(place) = places.get(&(owner, signature.covered)) {
            sets[*place].signatures.push(signature);
        }
    }
    for set in &mut sets {
        let kind = set.kind;
        // RFC 4034 section 6.3: by the octets of the canonical form; and what is equal in it is one record.
        set.data.sort_by_cached_key(|data| canonical::rdata(kind, data).into_owned());
        set.data.dedup_by(|a, b| canonical::rdata(kind, a) == canonical::rdata(kind, b));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: &str, kind: RecordType, ttl: u32, rdata: &[u8]) -> RawRecord {
        RawRecord { owner: Name::parse(owner).unwrap(), rtype: kind, ttl, rdata: rdata.to_vec() }
    }

    #[test]
    fn copies_and_order_do_not_count() {
        let records = [
            record("x.org", RecordType::MX, 300, b"\0\x14\x01b\0"),
            record("X.org", RecordType::MX, 200, b"\0\x0a\x01A\0"),
            record("x.org", RecordType::A, 300, b"\x01\x02\x03\x04"),
            record("x.ORG", RecordType::MX, 300, b"\0\x0a\x01a\0"),
        ];
        let received = Received::new(Rcode::NO_ERROR, records, []);
        assert_eq!(received.answer.len(), 2);
        let mx = received.set(&Name::parse("x.org").unwrap(), RecordType::MX).unwrap();
        assert_eq!((mx.ttl, mx.data.len()), (200, 2));
        assert_eq!(mx.data[1], b"\0\x14\x01b\0");
    }

    #[test]
    fn the_closest_dname_counts() {
        let records = [record("org", RecordType::DNAME, 1, b"\x01a\0"), record("x.org", RecordType::DNAME, 1, b"\x01b\0")];
        let received = Received::new(Rcode::NO_ERROR, records, []);
        let above = |name: &str| received.dname_above(&Name::parse(name).unwrap()).map(|set| set.owner.to_string());
        assert_eq!(above("a.b.x.org").as_deref(), Some("x.org."));
        assert_eq!(above("x.org").as_deref(), Some("org."));
        assert_eq!(above("org"), None);
    }
}
