//! Hashes of RFC 5155 appendix A, and proofs over small sets of records.

use super::*;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::denial::Proofs;
use crate::proto::dns::dnssec::denial::WildcardProof;
use crate::proto::dns::dnssec::presentation::parse_rdata;
use crate::proto::dns::text;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn shown(hash: &Hash) -> String {
    let mut out = String::new();
    text::base32_hex(&mut out, hash);
    out
}

#[test]
fn hashes_of_rfc_5155() {
    let parameters = Parameters { iterations: 12, salt: [0xaa, 0xbb, 0xcc, 0xdd].into() };
    for (owner, expected) in [
        ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
        ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
        ("ai.example", "gjeqe526plbf1g8mklp59enfd789njgi"),
        ("ns1.example", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
        ("ns2.example", "q04jkcevqvmu85r014c7dkba38o0ji5r"),
        ("w.example", "k8udemvp1j2f7eg6jebps17vp3n8i58h"),
        ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ("x.w.example", "b4um86eghhds6nea196smvmlo4ors995"),
        ("y.w.example", "ji6neoaepv8b5o6k4ev33abha8ht9fgc"),
        ("x.y.w.example", "2vptu5timamqttgl4luu9kg21e0aor3s"),
        ("xx.example", "t644ebqk9bibcna874givr6joj62mlhv"),
        ("XX.Example", "t644ebqk9bibcna874givr6joj62mlhv"),
    ] {
        let mut budget = Budget::new(Limits::default());
        assert_eq!(shown(&budget.hash(&name(owner), &parameters).unwrap()), expected, "{owner}");
    }
}

/// A zone `example` with these names, each with the types; flags and iterations for all.
fn zone(names: &[(&str, &str)], flags: u8, iterations: u16) -> Vec<Nsec3> {
    let parameters = Parameters { iterations, salt: Box::default() };
    let mut hashed: Vec<(Hash, &str)> =
        names.iter().map(|(owner, types)| (hash(&name(owner).as_wire().to_ascii_lowercase(), &parameters), *types)).collect();
    hashed.sort();
    let records = hashed.iter().enumerate().map(|(at, (owner, types))| {
        let next = hashed[(at + 1) % hashed.len()].0;
        let data = parse_rdata(RecordType::NSEC3, &format!("1 {flags} {iterations} - {} {types}", shown(&next))).unwrap();
        Nsec3::decode(&name(&format!("{}.example.", shown(owner))), &name("example."), &data).unwrap()
    });
    records.collect()
}

const NAMES: [(&str, &str); 6] = [
    ("example.", "NS SOA RRSIG DNSKEY NSEC3PARAM"),
    ("www.example.", "A RRSIG"),
    ("cut.example.", "NS"),
    ("dname.example.", "DNAME RRSIG"),
    ("wild.example.", ""),
    ("*.wild.example.", "TXT RRSIG"),
];

fn deny(records: &[Nsec3], at: &str, kind: RecordType) -> Finding {
    let proofs = Proofs { nsec3: records.to_vec(), ..Proofs::default() };
    let mut budget = Budget::new(Limits::default());
    proofs.deny(&name("example."), (&name(at), kind), &mut budget).unwrap()
}

#[test]
fn what_a_whole_zone_proves() {
    let rows = [
        ("nothing.example.", RecordType::A, Finding::NoSuchName),
        ("a.b.nothing.example.", RecordType::A, Finding::NoSuchName),
        ("www.example.", RecordType::MX, Finding::NoData),
        ("www.example.", RecordType::A, Finding::Unproved(Unproved::TypeExists)),
        ("wild.example.", RecordType::A, Finding::NoData),
        ("x.wild.example.", RecordType::A, Finding::NoData),
        ("x.wild.example.", RecordType::TXT, Finding::Unproved(Unproved::TypeExists)),
        ("cut.example.", RecordType::DS, Finding::NoData),
        ("cut.example.", RecordType::A, Finding::Unproved(Unproved::ParentSide)),
        ("x.cut.example.", RecordType::A, Finding::Unproved(Unproved::ParentSide)),
        ("x.dname.example.", RecordType::A, Finding::Unproved(Unproved::ParentSide)),
        ("example.", RecordType::DS, Finding::Unproved(Unproved::ChildSide)),
    ];
    for (at, kind, expected) in rows {
        assert_eq!(deny(&zone(&NAMES, 0, 3), at, kind), expected, "{at} {kind}");
    }
    assert_eq!(deny(&zone(&NAMES, 1, 3), "nothing.example.", RecordType::A), Finding::OptOut);
    assert_eq!(deny(&zone(&NAMES, 0, 50), "nothing.example.", RecordType::A), Finding::NoSuchName);
    assert_eq!(deny(&zone(&NAMES, 0, 51), "nothing.example.", RecordType::A), Finding::Iterations(51));
    assert_eq!(deny(&zone(&NAMES, 0, 500), "nothing.example.", RecordType::A), Finding::Iterations(500));
    assert_eq!(deny(&zone(&NAMES, 0, 501), "nothing.example.", RecordType::A), Finding::Unproved(Unproved::AbsurdIterations));
    assert_eq!(deny(&[], "nothing.example.", RecordType::A), Finding::Unproved(Unproved::Missing));
    let mixed = [&zone(&NAMES, 0, 3)[..], &zone(&NAMES, 0, 4)].concat();
    assert_eq!(deny(&mixed, "nothing.example.", RecordType::A), Finding::Unproved(Unproved::Mixed));
}

#[test]
fn each_record_of_a_proof_is_needed() {
    let whole = zone(&NAMES, 0, 0);
    let needed = (0..whole.len()).filter(|without| {
        let mut records = whole.clone();
        records.remove(*without);
        deny(&records, "nothing.example.", RecordType::A) != Finding::NoSuchName
    });
    // The closest encloser, and the covers of the next closer name and of the wildcard; two of them can be one record.
    assert!((2..=3).contains(&needed.count()));
}

#[test]
fn wildcards_need_the_next_closer_name_covered() {
    let only = |records: &[Nsec3], at: &str, encloser: &str| {
        let proofs = Proofs { nsec3: records.to_vec(), ..Proofs::default() };
        proofs.only_wildcard(&name("example."), (&name(at), &name(encloser)), &mut Budget::new(Limits::default())).unwrap()
    };
    let whole = zone(&NAMES, 0, 0);
    assert_eq!(only(&whole, "a.x.wild.example.", "wild.example."), WildcardProof::Proved);
    assert_eq!(only(&whole, "www.example.", "example."), WildcardProof::Unproved(Unproved::NotCovered));
    assert_eq!(only(&zone(&NAMES, 1, 0), "x.wild.example.", "wild.example."), WildcardProof::OptOut);
}

#[test]
fn records_that_must_be_ignored() {
    let hash = "2t7b4g4vsa5smi47k61mv5bv1a22bojr";
    let decode = |owner: &str, data: &str| Nsec3::decode(&name(owner), &name("example."), &parse_rdata(RecordType::NSEC3, data).unwrap());
    let good = format!("1 1 5 ab {hash} A");
    assert!(decode(&format!("{hash}.example."), &good).is_some());
    assert!(decode(&format!("{}.Example.", hash.to_uppercase()), &good).is_some());
    for owner in [
        format!("{hash}.sub.example."),
        "example.".into(),
        "short.example.".into(),
        format!("{hash}."),
        format!("z{}.example.", &hash[1..]),
    ] {
        assert!(decode(&owner, &good).is_none(), "{owner}");
    }
    for data in [format!("2 0 5 - {hash} A"), format!("1 2 5 - {hash} A"), format!("1 128 5 - {hash} A"), "1 0 5 - cpnmuoj1e8 A".into()] {
        assert!(decode(&format!("{hash}.example."), &data).is_none(), "{data}");
    }
}
