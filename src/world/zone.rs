//! One zone of the small internet: its names in canonical order, and which NSEC records deny what is not there.
//!
//! In go records, those of the cuts to zones below included; out come sets and denials, each with its signature behind it if
//! the zone is signed. The proofs are those of RFC 4035 section 3.1.3: the record of the name, or the one that covers it and
//! the one that covers the wildcard beside it. Wildcards themselves and DNAMEs are not understood.

use std::cmp::Ordering;

use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::presentation;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::RawRecord;
use crate::world::sign::Signer;

/// Whether signatures and proofs are wanted: the bit DO of the question (RFC 3225).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proofs {
    Wanted,
    Unwanted,
}

/// A name with records.
struct Node {
    name: Name,
    records: Vec<RawRecord>,
}

/// A zone from its apex down to the cuts.
pub struct Zone {
    pub apex: Name,
    pub signer: Option<Signer>,
    /// in canonical order, the apex first
    nodes: Vec<Node>,
}

impl Zone {
    /// `records` has a SOA at the apex, and no records below a cut. Of a signed zone the key is added here, and an NSEC record
    /// at each name.
    pub fn new(apex: Name, signer: Option<Signer>, mut records: Vec<RawRecord>, ttl: u32) -> Zone {
        records.extend(signer.as_ref().map(|signer| signer.dnskey(ttl)));
        records.sort_by(|a, b| canonical::compare(&a.owner, &b.owner).then(a.rtype.cmp(&b.rtype)));
        let mut nodes: Vec<Node> = Vec::new();
        for record in records {
            match nodes.last_mut() {
                Some(node) if node.name == record.owner => node.records.push(record),
                _ => nodes.push(Node { name: record.owner.clone(), records: vec![record] }),
            }
        }
        let mut zone = Zone { apex, signer, nodes };
        if zone.signer.is_some() {
            zone.chain(ttl);
        }
        zone
    }

    /// RFC 4034 section 4: each name with records leads to the next, the last one to the apex.
    fn chain(&mut self, ttl: u32) {
        let names: Vec<Name> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let nexts = names.iter().cycle().skip(1);
        for (node, next) in self.nodes.iter_mut().zip(nexts) {
            let mut kinds: Vec<String> = node.records.iter().map(|record| record.rtype.to_string()).collect();
            kinds.dedup();
            let text = format!("{next} {} RRSIG NSEC", kinds.join(" "));
            let rdata = presentation::parse_rdata(RecordType::NSEC, &text).expect("a name and types are an NSEC record");
            node.records.push(RawRecord { owner: node.name.clone(), rtype: RecordType::NSEC, ttl, rdata });
        }
    }

    /// Where the name stands, or would stand.
    fn place(&self, name: &Name) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| canonical::compare(&node.name, name))
    }

    /// The set of a type at a name and its signature, if there is one. Of the type RRSIG: all signatures of the name.
    pub fn set(&self, (name, kind): (&Name, RecordType), proofs: Proofs, now: UnixTime) -> Vec<RawRecord> {
        let Ok(at) = self.place(name) else { return Vec::new() };
        let records = &self.nodes[at].records;
        if kind == RecordType::RRSIG {
            let sets = records.chunk_by(|a, b| a.rtype == b.rtype).filter(|set| self.is_authoritative(set));
            return sets.filter_map(|set| self.signer.as_ref()?.sign(set, now)).collect();
        }
        let mut set: Vec<RawRecord> = records.iter().filter(|record| record.rtype == kind).cloned().collect();
        if let (Proofs::Wanted, Some(signer), true) = (proofs, &self.signer, self.is_authoritative(&set)) {
            set.extend(signer.sign(&set, now));
        }
        set
    }

    /// The NS records of a cut are the other zone's (RFC 4035 section 2.2).
    fn is_authoritative(&self, set: &[RawRecord]) -> bool {
        set.iter().all(|record| record.rtype != RecordType::NS || record.owner == self.apex)
    }

    /// Whether the name, or a name below it, has records (RFC 8020).
    pub fn exists(&self, name: &Name) -> bool {
        match self.place(name) {
            Ok(_) => true,
            // What is below a name stands right behind it.
            Err(at) => self.nodes.get(at).is_some_and(|node| node.name.is_at_or_below(name)),
        }
    }

    /// What an authority section says about a name without the type, or about no name: the SOA, and the proof of it.
    pub fn denial(&self, name: &Name, proofs: Proofs, now: UnixTime) -> Vec<RawRecord> {
        let mut records = self.set((&self.apex, RecordType::SOA), proofs, now);
        if proofs == Proofs::Unwanted || self.signer.is_none() {
            return records;
        }
        let mut owners = vec![self.at_or_before(name)];
        if !self.exists(name) {
            let encloser = canonical::upwards(name).find(|above| self.exists(above)).unwrap_or_else(|| self.apex.clone());
            owners.extend(canonical::wildcard_below(&encloser).map(|wildcard| self.at_or_before(&wildcard)));
        }
        owners.dedup();
        for owner in owners {
            records.extend(self.set((owner, RecordType::NSEC), proofs, now));
        }
        records
    }

    /// Whose NSEC record is about the name: its own or the one that covers it.
    fn at_or_before(&self, name: &Name) -> &Name {
        let behind = self.nodes.partition_point(|node| canonical::compare(&node.name, name) != Ordering::Greater);
        &self.nodes[behind.saturating_sub(1)].name
    }
}
