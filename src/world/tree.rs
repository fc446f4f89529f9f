//! The zones of the small internet, from lines like those of a zone file, and what a recursive resolver would answer.
//!
//! In go text, a record a line: `home.test MX 10 mx.home.test`, a comment that begins with `;`, or a zone: `$SIGNED home.test`,
//! `$UNSIGNED plain.test`, `$BOGUS bogus.test`. Each record belongs to the deepest zone that it is in; SOA, NS, DS and keys
//! are made here. Out come answers: CNAMEs followed from zone to zone, a SOA beside what does not exist, the difference
//! between no such name and no such data (RFC 2308), and with DO all signatures and proofs on the way (RFC 4035 section 3.2).

use ring::rand::SecureRandom;

use crate::mail::date::UnixTime;
use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::name::Name;
use crate::proto::dns::presentation;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::reader::RawRecord;
use crate::world::sign::Honesty;
use crate::world::sign::Signer;
use crate::world::zone::Proofs;
use crate::world::zone::Zone;

/// Of all records, seconds: who edits the world wants to see it soon.
const TTL: u32 = 60;
/// The server of all zones, which stands in `names::LOCALSERVE`.
const SERVER: &str = "ns.test.";
/// Behind the server's name; the last field is for what does not exist (RFC 2308 section 5).
const SOA: &str = "hostmaster.home.test. 1 3600 600 86400 60";

/// All zones; the root is one of them.
pub struct Tree {
    /// those with more labels first
    zones: Vec<Zone>,
}

/// Zones whose keys are made, and that may still get records: anchors are told before everything is known.
pub struct Draft {
    /// as in a tree
    zones: Vec<Open>,
}

/// A zone on its way: apex, who signs it, records.
type Open = (Name, Option<Signer>, Vec<RawRecord>);

/// An answer, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub rcode: Rcode,
    pub answers: Vec<RawRecord>,
    pub authority: Vec<RawRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signed(Honesty),
    Unsigned,
}

impl Draft {
    /// Reads the lines and makes the keys; the error names the first line that is none.
    pub fn parse(text: &str, random: &dyn SecureRandom) -> Result<Draft, String> {
        let mut kinds = vec![(Name::root(), Kind::Signed(Honesty::Honest))];
        let mut records = Vec::new();
        // Only a whole line is a comment: DMARC records are full of semicolons.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';')) {
            match line.strip_prefix('$') {
                Some(zone) => kinds.push(parse_zone(zone).ok_or_else(|| format!("{line:?} is no zone"))?),
                None => records.push(line),
            }
        }
        kinds.sort_by_key(|(apex, _)| std::cmp::Reverse(canonical::label_count(apex)));
        let mut zones = Vec::with_capacity(kinds.len());
        for (apex, kind) in kinds {
            let signer = match kind {
                Kind::Signed(honesty) => Some(Signer::new(&apex, honesty, random).map_err(|_| "a zone's key cannot be made".to_owned())?),
                Kind::Unsigned => None,
            };
            zones.push((apex, signer, Vec::new()));
        }
        let mut draft = Draft { zones };
        draft.cut()?;
        for line in records {
            draft.add(line)?;
        }
        Ok(draft)
    }

    /// One record more, in the zone that it belongs to.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        let record = parse_line(line).ok_or_else(|| format!("{line:?} is no record"))?;
        let zone = self.zones.iter_mut().find(|(apex, ..)| record.owner.is_at_or_below(apex));
        zone.expect("every name is below the root").2.push(record);
        Ok(())
    }

    /// SOA and NS at each apex; NS, and DS of signed zones, in the zone above.
    fn cut(&mut self) -> Result<(), String> {
        let made = |line: String| parse_line(&line).ok_or_else(|| format!("{line:?} is no record"));
        for at in 0..self.zones.len() {
            let (apex, signer, _) = &self.zones[at];
            let ns = made(format!("{apex} NS {SERVER}"))?;
            let soa = made(format!("{apex} SOA {SERVER} {SOA}"))?;
            let ds = signer.as_ref().map(|signer| signer.ds(TTL));
            // Zones above come later: they have fewer labels.
            let above = self.zones[at + 1..].iter_mut().find(|(above, ..)| canonical::is_below(&ns.owner, above));
            if let Some((.., records)) = above {
                records.push(ns.clone());
                records.extend(ds);
            }
            self.zones[at].2.extend([soa, ns]);
        }
        Ok(())
    }

    fn signer(&self, zone: &Name) -> Option<&Signer> {
        self.zones.iter().find(|(apex, ..)| apex == zone)?.1.as_ref()
    }

    /// What to believe of a signed zone, for our own programs: its DS as a line.
    pub fn anchor(&self, zone: &Name) -> Option<String> {
        Some(format!("{}\n", self.signer(zone)?.ds(TTL)))
    }

    /// The same for BIND's `delv -a`: the key.
    pub fn delv_anchor(&self, zone: &Name) -> Option<String> {
        let key = self.signer(zone)?.dnskey(TTL);
        let shown = presentation::show_rdata(key.rtype, &key.rdata);
        let (numbers, key) = shown.rsplit_once(' ')?;
        Some(format!("trust-anchors {{\n\t{zone} static-key {numbers} \"{key}\";\n}};\n"))
    }

    pub fn finish(self) -> Tree {
        Tree { zones: self.zones.into_iter().map(|(apex, signer, records)| Zone::new(apex, signer, records, TTL)).collect() }
    }
}

impl Tree {
    /// Answers a question of class IN.
    pub fn answer(&self, (name, kind): (&Name, RecordType), proofs: Proofs, now: UnixTime) -> Found {
        if kind == RecordType::ANY || kind.is_meta() {
            return Found { rcode: Rcode::REFUSED, answers: Vec::new(), authority: Vec::new() };
        }
        let mut answers = Vec::new();
        let mut owner = name.clone();
        for _ in 0..=MAX_LINKS {
            let zone = self.zone_of(&owner, kind);
            let here = zone.set((&owner, kind), proofs, now);
            if !here.is_empty() {
                answers.extend(here);
                return Found { rcode: Rcode::NO_ERROR, answers, authority: Vec::new() };
            }
            let link = zone.set((&owner, RecordType::CNAME), proofs, now);
            let Some(target) = link.first().and_then(|record| Rdata::alone(&record.rdata).cursor().name()) else {
                let rcode = if zone.exists(&owner) { Rcode::NO_ERROR } else { Rcode::NX_DOMAIN };
                return Found { rcode, answers, authority: zone.denial(&owner, proofs, now) };
            };
            answers.extend(link);
            owner = target;
        }
        // Whoever asked sees that they do not end.
        Found { rcode: Rcode::NO_ERROR, answers, authority: Vec::new() }
    }

    /// The zone that has the records of a type at a name: those of DS stand above the cut (RFC 4035 section 3.1.4.1).
    fn zone_of(&self, name: &Name, kind: RecordType) -> &Zone {
        let above = kind == RecordType::DS && !name.is_root();
        let zone = self.zones.iter().find(|zone| name.is_at_or_below(&zone.apex) && !(above && zone.apex == *name));
        zone.expect("every name is below the root")
    }
}

fn parse_zone(line: &str) -> Option<(Name, Kind)> {
    let (word, name) = line.split_once(char::is_whitespace)?;
    let kind = match word {
        "SIGNED" => Kind::Signed(Honesty::Honest),
        "BOGUS" => Kind::Signed(Honesty::Damaging),
        "UNSIGNED" => Kind::Unsigned,
        _ => return None,
    };
    Some((Name::parse(name.trim()).ok()?, kind))
}

fn parse_line(line: &str) -> Option<RawRecord> {
    let (owner, rest) = line.split_once(char::is_whitespace)?;
    let (rtype, data) = rest.trim_start().split_once(char::is_whitespace)?;
    let rtype = RecordType::parse(rtype)?;
    Some(RawRecord { owner: Name::parse(owner).ok()?, rtype, ttl: TTL, rdata: presentation::parse_rdata(rtype, data.trim())? })
}

#[cfg(test)]
mod tests;
