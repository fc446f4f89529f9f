//! What the zones of localserve answer, and what a validator makes of every name in them.

use std::collections::BTreeSet;
use std::rc::Rc;

use ring::rand::SystemRandom;

use super::*;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::dnssec::walk::Action;
use crate::proto::dns::dnssec::walk::Found as Proved;
use crate::proto::dns::dnssec::walk::Input;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::dnssec::walk::Walk;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::lookup::ValidationState::Bogus;
use crate::proto::dns::lookup::ValidationState::Insecure;
use crate::proto::dns::lookup::ValidationState::Secure;
use crate::world::names::LOCALSERVE;
use crate::world::names::World;

const NOW: UnixTime = UnixTime(1_793_500_000);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Localserve's world with a few names more, and its anchor.
fn world(more: &str) -> (Tree, Rc<Anchors>) {
    let mut world = World::new(&SystemRandom::new()).unwrap();
    for host in ["mx.home.test", "mx.friend.test"] {
        world.publish(host, host.as_bytes()).unwrap();
    }
    let anchors = Anchors::parse(&world.anchor()).unwrap();
    for line in more.lines() {
        world.add(line).unwrap();
    }
    (world.finish(), Rc::new(anchors))
}

fn shown(found: &Found) -> String {
    let show = |record: &RawRecord| format!("{} {}", record.rtype, presentation::show_rdata(record.rtype, &record.rdata));
    let answers = found.answers.iter().map(show).collect::<Vec<_>>().join(", ");
    format!("{} {answers}{}", found.rcode, if found.authority.is_empty() { "" } else { "(SOA)" })
}

/// How many records of a type there are, signatures by what they cover.
fn count(records: &[RawRecord], rtype: RecordType) -> usize {
    records.iter().filter(|record| record.rtype == rtype).count()
}

#[test]
fn the_names_of_localserve_answer() {
    let (tree, _) = world("");
    let rows = [
        ("friend.test", RecordType::MX, "NOERROR MX 10 mx.friend.test."),
        ("MX.Friend.Test", RecordType::A, "NOERROR A 127.0.1.2"),
        ("mx.friend.test", RecordType::AAAA, "NOERROR (SOA)"),
        ("2.1.0.127.in-addr.arpa", RecordType::PTR, "NOERROR PTR mx.friend.test."),
        ("www.friend.test", RecordType::A, "NOERROR CNAME mx.friend.test., A 127.0.1.2"),
        ("www.friend.test", RecordType::AAAA, "NOERROR CNAME mx.friend.test.(SOA)"),
        ("missing.test", RecordType::MX, "NXDOMAIN (SOA)"),
        ("example.org", RecordType::MX, "NXDOMAIN (SOA)"),
        ("test", RecordType::MX, "NOERROR (SOA)"),
        ("test", RecordType::NS, "NOERROR NS ns.test."),
        ("_tcp.mx.dane.test", RecordType::TLSA, "NOERROR (SOA)"),
        ("in-addr.arpa", RecordType::PTR, "NOERROR (SOA)"),
        ("plain.test", RecordType::DS, "NOERROR (SOA)"),
        ("plain.test", RecordType::DNSKEY, "NOERROR (SOA)"),
        (".", RecordType::DS, "NOERROR (SOA)"),
        ("nullmx.test", RecordType::MX, "NOERROR MX 0 ."),
        ("gone.nohost.test", RecordType::A, "NXDOMAIN (SOA)"),
        ("home.test", RecordType::ANY, "REFUSED "),
    ];
    for (at, rtype, expected) in rows {
        let found = tree.answer((&name(at), rtype), Proofs::Unwanted, NOW);
        assert_eq!(shown(&found), expected, "{at} {rtype}");
        for kind in [RecordType::RRSIG, RecordType::NSEC] {
            assert_eq!(count(&found.answers, kind) + count(&found.authority, kind), 0, "{at} {rtype} without DO");
        }
    }
    let policy = tree.answer((&name("_dmarc.friend.test"), RecordType::TXT), Proofs::Unwanted, NOW);
    assert!(shown(&policy).contains("p=none"));
    // Asked for by themselves, they are records like others.
    let signatures = tree.answer((&name("mx.dane.test"), RecordType::RRSIG), Proofs::Unwanted, NOW);
    assert_eq!((signatures.answers.len(), count(&signatures.answers, RecordType::RRSIG)), (2, 2), "of A and NSEC");
}

#[test]
fn a_loop_of_names_ends_and_nonsense_is_named() {
    let random = SystemRandom::new();
    let tree = Draft::parse("a.test CNAME b.test\nb.test CNAME a.test", &random).unwrap().finish();
    assert_eq!(tree.answer((&name("a.test"), RecordType::A), Proofs::Unwanted, NOW).answers.len(), MAX_LINKS + 1);
    for nonsense in ["a.test MX soon", "a.test", "$SIGNED", "$HALF a.test", "$SIGNED a..test"] {
        assert!(Draft::parse(nonsense, &random).err().unwrap().contains(nonsense), "{nonsense}");
    }
}

#[test]
fn denials_show_no_more_than_they_need() {
    let (tree, _) = world("");
    // (name, type, NSEC records)
    let rows = [
        ("mx.dane.test", RecordType::MX, 1),
        // an empty non-terminal
        ("_tcp.mx.dane.test", RecordType::TLSA, 1),
        ("plain.test", RecordType::DS, 1),
        // Before the first name below the apex: the apex covers the name and the wildcard.
        ("a.dane.test", RecordType::A, 1),
        ("zz.mx.dane.test", RecordType::A, 2),
        ("nothing.plain.test", RecordType::A, 0),
        ("9.9.9.127.in-addr.arpa", RecordType::PTR, 0),
    ];
    for (at, rtype, expected) in rows {
        let found = tree.answer((&name(at), rtype), Proofs::Wanted, NOW);
        assert_eq!(count(&found.authority, RecordType::NSEC), expected, "{at} {rtype}");
        let signed = if expected == 0 { 0 } else { expected + 1 };
        assert_eq!(count(&found.authority, RecordType::RRSIG), signed, "{at} {rtype}");
    }
}

fn validated(tree: &Tree, anchors: &Rc<Anchors>, question: (Name, RecordType)) -> Rc<Verdict> {
    let policy = Policy { anchors: Rc::clone(anchors), ..Policy::default() };
    let mut walk = Walk::new(question, &policy, When { now: NOW, clock: ClockTrust::Confirmed });
    let mut input = Input::Continue;
    for _ in 0..1000 {
        input = match walk.handle(input) {
            Action::Done(verdict) => return verdict,
            Action::Pause => Input::Continue,
            Action::Ask { name, kind } => {
                let Found { rcode, answers, authority } = tree.answer((&name, kind), Proofs::Wanted, NOW);
                Input::Answer(Received::new(rcode, answers, authority))
            }
        };
    }
    panic!("the walk goes on and on");
}

/// The state that is meant: that of the deepest zone at or above the name.
fn expected(at: &Name, rtype: RecordType) -> ValidationState {
    // A DS is of the zone above, and the keys of the bogus zone are found.
    let above = rtype == RecordType::DS;
    let zone = |text: &str| at.is_at_or_below(&name(text)) && !(above && *at == name(text));
    let bogus = zone("bogus.test") && !(rtype == RecordType::DNSKEY && *at == name("bogus.test"));
    match () {
        () if !zone("test") || zone("plain.test") || zone("sts.test") => Insecure,
        () if bogus => Bogus,
        () => Secure,
    }
}

/// Every name that is written down, those above and beside it, and some that are not there.
fn names() -> BTreeSet<Name> {
    let mut names = BTreeSet::from([name("example.org"), name("zz.test"), name("*.test")]);
    for line in LOCALSERVE.lines().map(|line| line.trim_start_matches('$')) {
        let mut words = line.split_whitespace();
        let owner = match words.next() {
            None | Some(";") => continue,
            Some("SIGNED" | "UNSIGNED" | "BOGUS") => words.next().unwrap(),
            Some(owner) => owner,
        };
        for text in [owner.to_owned(), format!("_25._tcp.{owner}"), format!("0.{owner}"), format!("zz.{owner}"), format!("*.{owner}")] {
            names.extend(canonical::upwards(&name(&text)));
        }
    }
    names
}

#[test]
fn a_validator_finds_every_name_as_it_is_meant() {
    let (tree, anchors) = world("");
    let kinds = ["A", "AAAA", "MX", "TXT", "CNAME", "NS", "SOA", "PTR", "TLSA", "DS", "DNSKEY", "NSEC", "TYPE65280"];
    let names = names();
    assert!(names.len() > 150, "{}", names.len());
    let mut states = [Secure, Insecure, Bogus].map(|state| (state, 0));
    for at in &names {
        for rtype in kinds.map(|kind| RecordType::parse(kind).unwrap()) {
            let verdict = validated(&tree, &anchors, (at.clone(), rtype));
            assert_eq!(verdict.state(), expected(at, rtype), "{at} {rtype}: {}", verdict.reason);
            states.iter_mut().filter(|(state, _)| *state == verdict.state()).for_each(|(_, count)| *count += 1);
            let plain = tree.answer((at, rtype), Proofs::Unwanted, NOW);
            match &verdict.outcome {
                Outcome::Failed(trouble) => {
                    assert_eq!(trouble.zone, Some(name("bogus.test")), "{at} {rtype}");
                    assert_eq!(trouble.errors[0].code.0, 6, "{at} {rtype}");
                }
                Outcome::Proved { found, .. } => {
                    let there = match found {
                        Proved::Records(records) => records.len() + verdict.link_records.len(),
                        Proved::NoData | Proved::NoSuchName => verdict.link_records.len(),
                    };
                    assert_eq!((verdict.rcode(), there), (plain.rcode, plain.answers.len()), "{at} {rtype}");
                }
            }
        }
    }
    assert!(states.iter().all(|(_, count)| *count > 150), "{states:?}");
}

#[test]
fn links_lead_from_zone_to_zone() {
    let more = "to-unsigned.home.test CNAME mx.plain.test\nto-signed.plain.test CNAME mx.dane.test\nto-bogus.home.test CNAME mx.bogus.test\n\
                to-nothing.home.test CNAME nothing.dane.test\nto-outside.home.test CNAME host.example.org\nto-signed.home.test CNAME www.friend.test";
    let (tree, anchors) = world(more);
    let rows: [(&str, ValidationState, &[ValidationState], &str); 6] = [
        ("to-unsigned.home.test", Insecure, &[Secure], "NOERROR"),
        ("to-signed.plain.test", Insecure, &[Insecure], "NOERROR"),
        ("to-bogus.home.test", Bogus, &[Secure], "SERVFAIL"),
        ("to-nothing.home.test", Secure, &[Secure], "NXDOMAIN"),
        ("to-outside.home.test", Insecure, &[Secure], "NXDOMAIN"),
        ("to-signed.home.test", Secure, &[Secure, Secure], "NOERROR"),
    ];
    for (at, state, links, rcode) in rows {
        let verdict = validated(&tree, &anchors, (name(at), RecordType::A));
        assert_eq!((verdict.state(), verdict.rcode().to_string().as_str()), (state, rcode), "{at}: {}", verdict.reason);
        assert_eq!(verdict.links.iter().map(|link| link.state).collect::<Vec<_>>(), links, "{at}");
    }
}

#[test]
fn another_starts_anchor_proves_nothing() {
    let ((tree, _), (_, anchors)) = (world(""), world(""));
    let verdict = validated(&tree, &anchors, (name("mx.dane.test"), RecordType::A));
    assert_eq!((verdict.state(), verdict.errors[0].code.0), (Bogus, 9), "{}", verdict.reason);
}
