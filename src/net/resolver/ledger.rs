//! What the memory of a resolver costs: octets of verdicts, and of zones, which many verdicts share.
//!
//! A zone is counted as long as one entry holds it, be it another one than the zone of that name which is handed out now.

use std::collections::HashMap;
use std::rc::Rc;

use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Trust;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::dnssec::walk::Zone;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::Link;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::RawRecord;

/// What the allocator adds to each piece: its header, and rounding up.
const PIECE: usize = 16;

/// Who is held how often.
#[derive(Default)]
pub(super) struct Ledger {
    /// by place in memory, which stays as long as somebody holds the zone
    held: HashMap<*const Zone, (usize, usize)>,
    octets: usize,
}

impl Ledger {
    pub fn octets(&self) -> usize {
        self.octets
    }

    pub fn hold(&mut self, zone: &Rc<Zone>) {
        let (times, _) = self.held.entry(Rc::as_ptr(zone)).or_insert_with(|| {
            let octets = octets(zone);
            self.octets += octets;
            (0, octets)
        });
        *times += 1;
    }

    pub fn release(&mut self, zone: &Rc<Zone>) {
        let place = Rc::as_ptr(zone);
        if let Some((times, octets)) = self.held.get_mut(&place) {
            *times -= 1;
            if *times == 0 {
                self.octets -= *octets;
                self.held.remove(&place);
            }
        }
    }
}

/// What a zone costs.
pub(super) fn octets(zone: &Zone) -> usize {
    let trust = match &zone.trust {
        Trust::Keys { keys, entries } => {
            let keys = keys.iter().map(|key| size_of::<Dnskey>() + piece(key.key.len())).sum::<usize>();
            keys + piece(size_of_val(&entries[..])) + PIECE
        }
        Trust::Insecure { why, error } => piece(why.len()) + errors(error.as_slice()),
    };
    // And its line in the ledger, in a map that is half full.
    piece(size_of::<Zone>()) + of_name(&zone.name) + trust + 2 * size_of::<(*const Zone, (usize, usize))>()
}

/// What a verdict costs beside its zones.
pub(super) fn verdict_octets(verdict: &Verdict) -> usize {
    let outcome = match &verdict.outcome {
        Outcome::Proved { found: Found::Records(found), .. } => records(found),
        Outcome::Proved { found: Found::NoData | Found::NoSuchName, .. } => 0,
        Outcome::Failed(trouble) => errors(&trouble.errors) + trouble.zone.as_ref().map_or(0, of_name),
    };
    let links: usize = verdict.links.iter().map(|link| size_of::<Link>() + of_name(&link.from) + of_name(&link.to)).sum();
    let lists = piece(size_of_val(&verdict.chain[..])) + records(&verdict.link_records) + links + errors(&verdict.errors);
    piece(size_of::<Verdict>()) + of_name(&verdict.owner) + lists + piece(verdict.reason.len()) + outcome
}

fn piece(octets: usize) -> usize {
    if octets == 0 { 0 } else { octets + PIECE }
}

fn of_name(name: &Name) -> usize {
    piece(name.as_wire().len())
}

fn records(records: &[RawRecord]) -> usize {
    records.iter().map(|record| size_of::<RawRecord>() + of_name(&record.owner) + piece(record.rdata.len())).sum()
}

fn errors(errors: &[ExtendedError]) -> usize {
    errors.iter().map(|error| size_of::<ExtendedError>() + piece(error.text.len())).sum()
}
