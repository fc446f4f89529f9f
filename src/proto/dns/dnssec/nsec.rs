//! NSEC records (RFC 4034 section 4): what one that was verified says about a name.

use std::cmp::Ordering;

use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::bitmap::Bitmap;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::denial::Finding;
use crate::proto::dns::dnssec::denial::Unproved;
use crate::proto::dns::dnssec::denial::judge_types;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;

/// One record; its signature held, and it was not made from a wildcard.
#[derive(Clone, Debug)]
pub struct Nsec {
    pub owner: Name,
    pub next: Name,
    pub types: Bitmap,
}

impl Nsec {
    pub fn decode(owner: &Name, rdata: &[u8]) -> Option<Nsec> {
        let mut cursor = Rdata::alone(rdata).cursor();
        Some(Nsec { owner: owner.clone(), next: cursor.name()?, types: Bitmap::decode(cursor.rest())? })
    }

    /// Whether `name` lies between owner and next. RFC 6840 section 4.1: what stands at a cut or a DNAME says nothing about
    /// names below it.
    fn covers(&self, name: &Name, zone: &Name) -> bool {
        if canonical::is_below(name, &self.owner) && (self.types.is_delegation() || self.types.has(RecordType::DNAME)) {
            return false;
        }
        let behind = canonical::compare(&self.owner, name) == Ordering::Less;
        let before = canonical::compare(name, &self.next) == Ordering::Less;
        if self.next == *zone {
            // The last of the zone.
            return behind;
        }
        behind && before && canonical::compare(&self.owner, &self.next) == Ordering::Less
    }

    /// The name exists because there are names below it (an empty non-terminal).
    fn shows_names_below(&self, name: &Name) -> bool {
        canonical::is_below(&self.next, name)
    }

    /// The longest ancestor of `name`, which this covers, that exists.
    fn closest_encloser(&self, name: &Name) -> Name {
        let (left, right) = (canonical::common_ancestor(name, &self.owner), canonical::common_ancestor(name, &self.next));
        if left.as_wire().len() > right.as_wire().len() { left } else { right }
    }
}

/// What the records of `zone` prove about `kind` at `name` (RFC 4035 section 5.4).
pub fn deny(records: &[Nsec], zone: &Name, (name, kind): (&Name, RecordType)) -> Finding {
    if let Some(exact) = records.iter().find(|nsec| nsec.owner == *name) {
        return judge_types(&exact.types, name, kind);
    }
    let Some(cover) = records.iter().find(|nsec| nsec.covers(name, zone)) else { return Finding::Unproved(Unproved::NotCovered) };
    if cover.shows_names_below(name) {
        return Finding::NoData;
    }
    let Some(wildcard) = canonical::wildcard_below(&cover.closest_encloser(name)) else { return Finding::NoSuchName };
    if let Some(exact) = records.iter().find(|nsec| nsec.owner == wildcard) {
        return judge_types(&exact.types, &wildcard, kind);
    }
    match records.iter().find(|nsec| nsec.covers(&wildcard, zone)) {
        Some(cover) if cover.shows_names_below(&wildcard) => Finding::NoData,
        Some(_) => Finding::NoSuchName,
        None => Finding::Unproved(Unproved::Wildcard),
    }
}

/// Whether it is proved that nothing but the wildcard below `encloser` stands for `name` (RFC 4035 section 5.3.4).
pub fn only_wildcard(records: &[Nsec], zone: &Name, (name, encloser): (&Name, &Name)) -> bool {
    records.iter().any(|nsec| nsec.covers(name, zone) && !nsec.shows_names_below(name) && nsec.closest_encloser(name) == *encloser)
}

/// Whether it is proved that there is nothing at `name`, wildcards apart.
pub fn is_absent(records: &[Nsec], zone: &Name, name: &Name) -> bool {
    records.iter().any(|nsec| nsec.covers(name, zone) && !nsec.shows_names_below(name))
}

/// Whether `name` is proved to be an empty non-terminal.
pub fn is_empty_non_terminal(records: &[Nsec], zone: &Name, name: &Name) -> bool {
    records.iter().any(|nsec| nsec.covers(name, zone) && nsec.shows_names_below(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::dnssec::presentation::parse_rdata;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn nsec(text: &str) -> Nsec {
        let (owner, rest) = text.split_once(' ').unwrap();
        Nsec::decode(&name(owner), &parse_rdata(RecordType::NSEC, rest).unwrap()).unwrap()
    }

    #[test]
    fn what_records_prove() {
        let zone = name("example.");
        let apex = "example. a.example. NS SOA RRSIG NSEC DNSKEY";
        // (records, name, type, finding)
        let rows: [(&[&str], &str, RecordType, Finding); 19] = [
            (&["b.example. d.example. A RRSIG NSEC", apex], "c.example.", RecordType::A, Finding::NoSuchName),
            (&["b.example. d.example. A RRSIG NSEC"], "c.example.", RecordType::A, Finding::Unproved(Unproved::Wildcard)),
            (&["z.example. example. A RRSIG NSEC", apex], "zz.example.", RecordType::A, Finding::NoSuchName),
            (&["b.example. d.example. A RRSIG NSEC"], "b.example.", RecordType::MX, Finding::NoData),
            (&["b.example. d.example. A RRSIG NSEC"], "b.example.", RecordType::A, Finding::Unproved(Unproved::TypeExists)),
            (&["b.example. d.example. CNAME RRSIG NSEC"], "b.example.", RecordType::A, Finding::Unproved(Unproved::TypeExists)),
            // an empty non-terminal
            (&["b.example. x.c.example. A RRSIG NSEC"], "c.example.", RecordType::A, Finding::NoData),
            // a wildcard without the type, and with it
            (&["b.example. d.example. A", "*.example. b.example. MX RRSIG NSEC"], "c.example.", RecordType::A, Finding::NoData),
            (
                &["b.example. d.example. A", "*.example. b.example. A RRSIG NSEC"],
                "c.example.",
                RecordType::A,
                Finding::Unproved(Unproved::TypeExists),
            ),
            // The parent's side of a cut knows the DS only, and nothing below.
            (&["b.example. d.example. NS RRSIG NSEC"], "b.example.", RecordType::DS, Finding::NoData),
            (&["b.example. d.example. NS RRSIG NSEC"], "b.example.", RecordType::A, Finding::Unproved(Unproved::ParentSide)),
            (&["b.example. d.example. NS RRSIG NSEC", apex], "a.b.example.", RecordType::A, Finding::Unproved(Unproved::NotCovered)),
            (&["b.example. d.example. DNAME RRSIG NSEC", apex], "a.b.example.", RecordType::A, Finding::Unproved(Unproved::NotCovered)),
            // The child's side knows nothing of the DS.
            (&[apex], "example.", RecordType::DS, Finding::Unproved(Unproved::ChildSide)),
            (&[apex], "example.", RecordType::MX, Finding::NoData),
            // RFC 9824
            (&["c.example. \\000.c.example. RRSIG NSEC TYPE128"], "c.example.", RecordType::A, Finding::NxName),
            (&["c.example. \\000.c.example. RRSIG NSEC"], "c.example.", RecordType::A, Finding::NoData),
            // A record of a single name covers all the others.
            (&["example. example. NS SOA RRSIG NSEC"], "c.example.", RecordType::A, Finding::NoSuchName),
            // It goes backwards, and not to the apex: no form of a record.
            (&["d.example. b.example. A RRSIG NSEC", apex], "e.example.", RecordType::A, Finding::Unproved(Unproved::NotCovered)),
        ];
        for (records, at, kind, expected) in rows {
            let records: Vec<Nsec> = records.iter().map(|text| nsec(text)).collect();
            assert_eq!(deny(&records, &zone, (&name(at), kind)), expected, "{at} {kind} {records:?}");
        }
    }

    #[test]
    fn a_wildcard_stands_where_nothing_closer_is() {
        let zone = name("example.");
        let cover = [nsec("b.example. d.example. A RRSIG NSEC")];
        assert!(only_wildcard(&cover, &zone, (&name("c.example."), &zone)));
        assert!(only_wildcard(&cover, &zone, (&name("a.c.example."), &zone)));
        // b.example exists, so that *.example does not stand for names below it.
        assert!(!only_wildcard(&cover, &zone, (&name("a.b.example."), &zone)));
        assert!(!only_wildcard(&cover, &zone, (&name("e.example."), &zone)));
        assert!(!only_wildcard(&cover, &zone, (&name("b.example."), &zone)));
    }
}
