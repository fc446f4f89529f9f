//! Attacks on the work of a validator, and keys of kinds that no signer makes: zones signed here, with Ed25519.

use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair;

use super::*;
use crate::mail::date::UnixTime;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::dnskey::Algorithm;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::nsec3;
use crate::proto::dns::dnssec::presentation::parse_record;
use crate::proto::dns::text;

const NOW: i64 = 1_782_864_000;
const YEAR: u32 = 365 * 86_400;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A zone's only key.
struct Signer {
    zone: Name,
    pair: Ed25519KeyPair,
    key: Dnskey,
}

impl Signer {
    fn new(zone: &str, seed: u8) -> Signer {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let encoded = [&[1, 1, 3, 15], pair.public_key().as_ref()].concat();
        Signer { zone: name(zone), pair, key: Dnskey::decode(&encoded).unwrap() }
    }

    fn anchor(&self) -> Anchors {
        Anchors::parse(&self.dnskey().to_string()).unwrap()
    }

    fn dnskey(&self) -> RawRecord {
        record_of(&self.zone, RecordType::DNSKEY, self.key.encode())
    }

    /// The records, all of one set, and a signature behind them.
    fn sign(&self, records: &[RawRecord]) -> Vec<RawRecord> {
        let set = Received::new(Rcode::NO_ERROR, records.to_vec(), []).answer.remove(0);
        let labels = canonical::label_count(&set.owner) - usize::from(canonical::is_wildcard(&set.owner));
        let mut octets = set.kind.0.to_be_bytes().to_vec();
        octets.extend([15, labels as u8]);
        for number in [set.ttl, NOW as u32 + YEAR, NOW as u32 - YEAR] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend(self.key.tag.to_be_bytes());
        octets.extend(self.zone.as_wire().to_ascii_lowercase());
        let mut rdata = octets.clone();
        set.canonical_form(&set.owner, set.ttl, &mut octets);
        rdata.extend(self.pair.sign(&octets).as_ref());
        [records, &[record_of(&set.owner, RecordType::RRSIG, rdata)]].concat()
    }

    fn signed(&self, lines: &[&str]) -> Vec<RawRecord> {
        self.sign(&lines.iter().map(|line| parse_record(line).unwrap()).collect::<Vec<_>>())
    }
}

fn record_of(owner: &Name, rtype: RecordType, rdata: Vec<u8>) -> RawRecord {
    RawRecord { owner: owner.clone(), rtype, ttl: 300, rdata }
}

fn answer(records: Vec<RawRecord>) -> Received {
    Received::new(Rcode::NO_ERROR, records, [])
}

fn denial(rcode: Rcode, records: Vec<RawRecord>) -> Received {
    Received::new(rcode, [], records)
}

/// Plays a walk to its end; says how often it paused, too.
fn play(walk: &mut Walk, reply: impl Fn(&Name, RecordType) -> Received) -> (Rc<Verdict>, usize) {
    let mut input = Input::Continue;
    let mut pauses = 0;
    for _ in 0..10_000 {
        input = match walk.handle(input) {
            Action::Done(verdict) => return (verdict, pauses),
            Action::Ask { name, kind } => Input::Answer(reply(&name, kind)),
            Action::Pause => {
                pauses += 1;
                Input::Continue
            }
        };
    }
    panic!("it goes on and on");
}

fn walk(at: &str, anchors: Anchors, limits: Limits) -> Walk {
    let policy = Policy { anchors: Rc::new(anchors), limits, ..Policy::default() };
    Walk::new((name(at), RecordType::A), &policy, When { now: UnixTime(NOW), clock: ClockTrust::Confirmed })
}

fn assert_exhausted(verdict: &Verdict, why: &str) {
    assert_eq!(verdict.state(), ValidationState::Bogus, "{verdict:?}");
    assert_eq!(verdict.errors[0].code, InfoCode::OTHER);
    assert!(verdict.errors[0].text.contains(why), "{verdict:?}");
}

/// Keys with the tag of `key`: swapping words leaves the sum.
fn colliding(key: &Dnskey, count: usize) -> Vec<Dnskey> {
    let pairs = (0..16).flat_map(|a| (a + 1..16).map(move |b| (a, b)));
    let keys = pairs.filter_map(|(a, b)| {
        let mut octets = key.key.to_vec();
        for n in 0..2 {
            octets.swap(2 * a + n, 2 * b + n);
        }
        let mut other = key.clone();
        other.key = octets.into();
        let other = Dnskey::decode(&other.encode()).unwrap();
        assert_eq!(other.tag, key.tag);
        (other.key != key.key).then_some(other)
    });
    keys.take(count).collect()
}

/// An address with many signatures that are wrong, each another one.
fn wrongly_signed(signer: &Signer, count: u8) -> Vec<RawRecord> {
    let mut records = signer.signed(&["www.example. 300 A 192.0.2.1"]);
    let good = records.pop().unwrap();
    for n in 0..count {
        let mut wrong = good.clone();
        *wrong.rdata.last_mut().unwrap() ^= n + 1;
        records.push(wrong);
    }
    records
}

#[test]
fn keytrap_is_bounded() {
    let signer = Signer::new("example.", 1);
    for (keys, signatures, why) in
        [(90, 100, "the same tag"), (3, 100, "wrong"), (0, 100, "too many signatures"), (0, 8, ""), (120, 1, "too many records")]
    {
        let others = colliding(&signer.key, keys).into_iter().map(|key| record_of(&signer.zone, RecordType::DNSKEY, key.encode()));
        let dnskeys: Vec<RawRecord> = others.chain([signer.dnskey()]).collect();
        let dnskeys = signer.sign(&dnskeys);
        let address = wrongly_signed(&signer, signatures);
        let mut walk = walk("www.example.", signer.anchor(), Limits::default());
        let (verdict, _) = play(&mut walk, |_, kind| answer(if kind == RecordType::DNSKEY { dnskeys.clone() } else { address.clone() }));
        if why.is_empty() {
            assert_eq!(verdict.errors[0].code, InfoCode::DNSSEC_BOGUS);
        } else {
            assert_exhausted(&verdict, why);
        }
        assert!(verdict.used.failures <= 16 && verdict.used.units <= 18, "{:?}", verdict.used);
    }
}

#[test]
fn many_ds_records_with_the_tag_are_bounded() {
    let (root, signer) = (Signer::new(".", 1), Signer::new("example.", 2));
    let wrong = |n: u8| {
        let digest = [n; 32];
        record_of(&signer.zone, RecordType::DS, [&signer.key.tag.to_be_bytes()[..], &[15, 2], &digest].concat())
    };
    let ds = root.sign(&(0..90).map(wrong).collect::<Vec<_>>());
    let mut walk = walk("www.example.", root.anchor(), Limits::default());
    let (verdict, _) = play(&mut walk, |at, kind| match kind {
        RecordType::DS => answer(ds.clone()),
        RecordType::DNSKEY => answer(if at.is_root() { root.sign(&[root.dnskey()]) } else { signer.sign(&[signer.dnskey()]) }),
        _ => answer(signer.signed(&["www.example. 300 A 192.0.2.1"])),
    });
    assert_exhausted(&verdict, "another digest");
}

/// The record that owns the hash of `owner`, up to the hash of `next` or all round.
fn nsec3(signer: &Signer, owner: &Name, types: &str) -> Vec<RawRecord> {
    let parameters = nsec3::Parameters { iterations: 50, salt: Box::default() };
    let mut shown = String::new();
    text::base32_hex(&mut shown, &nsec3::hash(&owner.as_wire().to_ascii_lowercase(), &parameters));
    let line = format!("{shown}.{} 300 NSEC3 1 0 50 - {shown} {types}", signer.zone);
    signer.signed(&[&line])
}

#[test]
fn nsec3_floods_are_bounded() {
    let signer = Signer::new("example.", 1);
    let deep = "a.".repeat(110) + "example.";
    // One record of the apex that covers everything else.
    let mut proof = nsec3(&signer, &signer.zone, "NS SOA");
    for n in 0..200 {
        proof.extend(nsec3(&signer, &name(&format!("n{n}.example.")), "A"));
    }
    let play_it = |limits| {
        let mut walk = walk(&deep, signer.anchor(), limits);
        play(&mut walk, |_, kind| match kind {
            RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
            _ => denial(Rcode::NX_DOMAIN, proof.clone()),
        })
    };
    let (verdict, pauses) = play_it(Limits::default());
    assert_eq!((verdict.state(), verdict.rcode()), (ValidationState::Secure, Rcode::NX_DOMAIN), "{verdict:?}");
    // 110 names and the wildcard, each once; few of the signatures.
    assert!((111..=112).contains(&verdict.used.hashes), "{:?}", verdict.used);
    assert!(verdict.used.units <= 20 && pauses >= 13, "{:?} {pauses}", verdict.used);
    let (verdict, _) = play_it(Limits { hashes: 100, ..Limits::default() });
    assert_exhausted(&verdict, "NSEC3 hashes");
}

#[test]
fn questions_are_bounded() {
    let signer = Signer::new("example.", 1);
    let deep = "a.".repeat(110) + "example.";
    // Every name on the way is an empty non-terminal, and nothing is signed at the end.
    let proof = signer.signed(&[&format!("example. 300 NSEC b.{deep} NS SOA RRSIG NSEC")]);
    let mut walk = walk(&deep, signer.anchor(), Limits::default());
    let (verdict, _) = play(&mut walk, |_, kind| match kind {
        RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
        RecordType::DS => denial(Rcode::NO_ERROR, proof.clone()),
        _ => answer(vec![parse_record(&format!("{deep} 300 A 192.0.2.1")).unwrap()]),
    });
    assert_exhausted(&verdict, "more questions");
    assert_eq!(verdict.used.questions, 60);
}

/// A delegation to keys of any kind, and an address signed by a good one.
fn delegated_to(keys: &[Dnskey], ds_of: &[&Dnskey]) -> Rc<Verdict> {
    let (root, signer) = (Signer::new(".", 1), Signer::new("example.", 2));
    let ds: Vec<RawRecord> = ds_of
        .iter()
        .map(|key| {
            let ds = Ds::of(&signer.zone, key, 2).unwrap();
            record_of(&signer.zone, RecordType::DS, [&ds.tag.to_be_bytes()[..], &[ds.algorithm.0, 2], &ds.digest].concat())
        })
        .collect();
    let ds = root.sign(&ds);
    let dnskeys = signer.sign(&keys.iter().map(|key| record_of(&signer.zone, RecordType::DNSKEY, key.encode())).collect::<Vec<_>>());
    let mut walk = walk("www.example.", root.anchor(), Limits::default());
    play(&mut walk, |at, kind| match kind {
        RecordType::DS => answer(ds.clone()),
        RecordType::DNSKEY => answer(if at.is_root() { root.sign(&[root.dnskey()]) } else { dnskeys.clone() }),
        _ => answer(signer.signed(&["www.example. 300 A 192.0.2.1"])),
    })
    .0
}

#[test]
fn keys_of_other_kinds() {
    let good = Signer::new("example.", 2).key;
    let again = |flags: u16, protocol: u8| Dnskey::decode(&Dnskey { flags, protocol, ..good.clone() }.encode()).unwrap();
    let small = Dnskey { algorithm: Algorithm(8), key: [&[3, 1, 0, 1][..], &[0xff; 64]].concat().into(), ..good.clone() };
    let small = Dnskey::decode(&small.encode()).unwrap();
    let (no_zone, revoked, other_protocol) = (again(1, 3), again(0x0181, 3), again(257, 2));
    let secure = (ValidationState::Secure, None);
    type Outcome = (ValidationState, Option<u16>);
    // (keys of the zone, keys that DS records stand for, state and code)
    let rows: [(&[Dnskey], &[&Dnskey], Outcome); 9] = [
        (std::slice::from_ref(&good), &[&good], secure),
        (std::slice::from_ref(&no_zone), &[&no_zone], (ValidationState::Bogus, Some(11))),
        (std::slice::from_ref(&revoked), &[&revoked], (ValidationState::Bogus, Some(11))),
        (std::slice::from_ref(&other_protocol), &[&other_protocol], (ValidationState::Bogus, Some(11))),
        // RSA of 512 bits: no key that we can use, which the DS says.
        (std::slice::from_ref(&small), &[&small], (ValidationState::Insecure, Some(1))),
        (&[small.clone(), good.clone()], &[&small, &good], secure),
        // The good key was taken away: that is no reason to trust less.
        (std::slice::from_ref(&small), &[&small, &good], (ValidationState::Bogus, Some(9))),
        (&[small.clone(), good.clone()], &[&small], (ValidationState::Insecure, Some(1))),
        (std::slice::from_ref(&good), &[&small], (ValidationState::Bogus, Some(9))),
    ];
    for (keys, ds_of, (state, code)) in rows {
        let verdict = delegated_to(keys, ds_of);
        assert_eq!((verdict.state(), verdict.errors.first().map(|error| error.code.0)), (state, code), "{verdict:?}");
    }
}

#[test]
fn anchors_whose_keys_cannot_be_used_make_nothing_insecure() {
    let signer = Signer::new("example.", 2);
    let small = Dnskey { algorithm: Algorithm(8), key: [&[3, 1, 0, 1][..], &[0xff; 64]].concat().into(), ..signer.key.clone() };
    let small = Dnskey::decode(&small.encode()).unwrap();
    let ds = Ds::of(&signer.zone, &small, 2).unwrap();
    let ds = record_of(&signer.zone, RecordType::DS, [&ds.tag.to_be_bytes()[..], &[8, 2], &ds.digest].concat());
    let keys = signer.sign(&[record_of(&signer.zone, RecordType::DNSKEY, small.encode())]);
    // With another key in the anchor, which somebody has taken away, too.
    for (anchor, state) in
        [(ds.to_string(), ValidationState::Indeterminate), (format!("{ds}\n{}", signer.dnskey()), ValidationState::Bogus)]
    {
        let mut walk = walk("www.example.", Anchors::parse(&anchor).unwrap(), Limits::default());
        let (verdict, _) = play(&mut walk, |_, kind| match kind {
            RecordType::DNSKEY => answer(keys.clone()),
            _ => answer(vec![parse_record("www.example. 300 A 192.0.2.66").unwrap()]),
        });
        assert_eq!(verdict.state(), state, "{verdict:?}");
    }
}

#[test]
fn keys_of_a_parent_do_not_sign_below_an_anchor() {
    let (parent, child) = (Signer::new("example.", 1), Signer::new("sub.example.", 2));
    let anchors = format!("{}\n{}", parent.dnskey(), child.dnskey());
    for (signer, state) in [(&parent, ValidationState::Bogus), (&child, ValidationState::Secure)] {
        let mut walk = walk("www.sub.example.", Anchors::parse(&anchors).unwrap(), Limits::default());
        let (verdict, _) = play(&mut walk, |at, kind| match kind {
            RecordType::DNSKEY if *at == parent.zone => answer(parent.sign(&[parent.dnskey()])),
            RecordType::DNSKEY => answer(child.sign(&[child.dnskey()])),
            _ => answer(signer.signed(&["www.sub.example. 300 A 192.0.2.1"])),
        });
        assert_eq!(verdict.state(), state, "{verdict:?}");
    }
}

#[test]
fn a_key_beside_the_believed_one_does_not_let_itself_in() {
    // RUSTSEC-2025-0006: the set of keys must be signed by one that the DS or the anchor stands for.
    let (root, good, evil) = (Signer::new(".", 1), Signer::new("example.", 2), Signer::new("example.", 3));
    let ds = Ds::of(&good.zone, &good.key, 2).unwrap();
    let ds = root.sign(&[record_of(&good.zone, RecordType::DS, [&ds.tag.to_be_bytes()[..], &[15, 2], &ds.digest].concat())]);
    for anchors in [root.anchor(), good.anchor()] {
        for (signer, state) in [(&evil, ValidationState::Bogus), (&good, ValidationState::Secure)] {
            let keys = signer.sign(&[good.dnskey(), evil.dnskey()]);
            let mut walk = walk("www.example.", anchors.clone(), Limits::default());
            let (verdict, _) = play(&mut walk, |at, kind| match kind {
                RecordType::DNSKEY if at.is_root() => answer(root.sign(&[root.dnskey()])),
                RecordType::DNSKEY => answer(keys.clone()),
                RecordType::DS => answer(ds.clone()),
                _ => answer(evil.signed(&["www.example. 300 A 192.0.2.1"])),
            });
            assert_eq!(verdict.state(), state, "{verdict:?}");
        }
    }
}

#[test]
fn a_dname_is_not_made_from_a_wildcard() {
    let signer = Signer::new("example.", 1);
    let mut records = signer.signed(&["*.example. 300 DNAME example."]);
    records.iter_mut().for_each(|record| record.owner = name("x.example."));
    let cover = signer.signed(&["example. 300 NSEC zz.example. NS SOA RRSIG NSEC"]);
    let mut walk = walk("www.x.example.", signer.anchor(), Limits::default());
    let (verdict, _) = play(&mut walk, |at, kind| match kind {
        RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
        _ if *at == name("www.x.example.") => Received::new(Rcode::NO_ERROR, records.clone(), cover.clone()),
        _ => answer(signer.signed(&["www.example. 300 A 192.0.2.1"])),
    });
    assert_eq!(verdict.state(), ValidationState::Bogus, "{verdict:?}");
}

#[test]
fn the_nsec_of_a_wildcard_denies_nothing_elsewhere() {
    // CVE-2017-15105: under another name it would deny what is there.
    let signer = Signer::new("example.", 1);
    let ask = |owner: &str| {
        let mut records = signer.signed(&["*.example. 300 NSEC example. MX RRSIG NSEC"]);
        records.iter_mut().for_each(|record| record.owner = name(owner));
        let mut walk = walk(owner, signer.anchor(), Limits::default());
        let (verdict, _) = play(&mut walk, |_, kind| match kind {
            RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
            _ => denial(Rcode::NO_ERROR, records.clone()),
        });
        verdict.state()
    };
    assert_eq!((ask("*.example."), ask("www.example.")), (ValidationState::Secure, ValidationState::Bogus));
}

#[test]
fn memory_is_bounded() {
    let signer = Signer::new("example.", 1);
    let deep = "a.".repeat(50) + "example.";
    let much: Vec<RawRecord> = (0..1000u32).map(|n| record_of(&name(&format!("n{n}.{deep}")), RecordType::TXT, vec![b'x'; 60])).collect();
    let proof = signer.signed(&[&format!("example. 300 NSEC b.{deep} NS SOA RRSIG NSEC")]);
    let mut walk = walk(&deep, signer.anchor(), Limits::default());
    let (verdict, _) = play(&mut walk, |_, kind| match kind {
        RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
        RecordType::DS => Received::new(Rcode::NO_ERROR, much.clone(), proof.clone()),
        _ => answer(vec![parse_record(&format!("{deep} 300 A 192.0.2.1")).unwrap()]),
    });
    assert_exhausted(&verdict, "more memory");
    assert!((4..12).contains(&verdict.used.questions), "{:?}", verdict.used);
}

#[test]
fn long_sets_cost_more() {
    let signer = Signer::new("example.", 1);
    let long: Vec<RawRecord> = (0..90u8).map(|n| record_of(&name("www.example."), RecordType::A, vec![n; 600])).collect();
    let mut records = signer.sign(&long);
    let good = records.pop().unwrap();
    for n in 1..=8 {
        let mut wrong = good.clone();
        *wrong.rdata.last_mut().unwrap() ^= n;
        records.push(wrong);
    }
    let mut walk = walk("www.example.", signer.anchor(), Limits::default());
    let (verdict, pauses) = play(&mut walk, |_, kind| match kind {
        RecordType::DNSKEY => answer(signer.sign(&[signer.dnskey()])),
        _ => answer(records.clone()),
    });
    assert_eq!((verdict.state(), verdict.used.failures), (ValidationState::Bogus, 8));
    // One for the keys, and 1 + 3 for each of the others, one at a time.
    assert_eq!((verdict.used.units, pauses), (33, 8));
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let signer = Signer::new("example.", 1);
    let mut walk = walk("www.example.", signer.anchor(), Limits::default());
    assert!(matches!(walk.handle(Input::Answer(answer(Vec::new()))), Action::Ask { kind: RecordType::A, .. }));
    // Nor does a pause that was none, or a zone of elsewhere.
    assert!(matches!(walk.handle(Input::Continue), Action::Ask { kind: RecordType::A, .. }));
    let elsewhere = Zone { name: name("org."), trust: Trust::Insecure { why: "".into(), error: None }, until: UnixTime(NOW + 60) };
    assert!(matches!(walk.handle(Input::Known(Rc::new(elsewhere))), Action::Ask { kind: RecordType::A, .. }));
    let (verdict, _) = play(&mut walk, |_, kind| {
        answer(if kind == RecordType::DNSKEY { signer.sign(&[signer.dnskey()]) } else { signer.signed(&["www.example. 300 A 192.0.2.1"]) })
    });
    assert_eq!((verdict.state(), verdict.used.questions), (ValidationState::Secure, 2));
    assert!(matches!(walk.handle(Input::Failed(Trouble::unreachable(""))), Action::Done(again) if Rc::ptr_eq(&again, &verdict)));
}

#[test]
fn a_dname_replaces_the_end_of_a_name() {
    assert_eq!(substitute(&name("a.b.x."), &name("x."), &name("long.y.")), Some(name("a.b.long.y.")));
    let long = "abcdefg.".repeat(31);
    assert_eq!(substitute(&name(&format!("{long}x.")), &name("x."), &name("y.z.w.v.u.")), None);
}
