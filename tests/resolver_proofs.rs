//! The resolver proves what really signed zones say, over real sockets: states, second tries, memory, bounds.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "resolver/signed.rs"]
mod signed;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use pipit::mail::date::UnixTime;
use pipit::metrics::DnsState;
use pipit::metrics::Metrics;
use pipit::net::clock::Clock;
use pipit::net::clock::Hand;
use pipit::net::resolver::Beliefs;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::TrustAd;
use pipit::net::resolver::Upstreams;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::walk::Outcome;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::dnssec::walk::Verdict;
use pipit::proto::dns::lookup::A;
use pipit::proto::dns::lookup::ExtendedError;
use pipit::proto::dns::lookup::Found;
use pipit::proto::dns::lookup::InfoCode;
use pipit::proto::dns::lookup::Judged;
use pipit::proto::dns::lookup::Lookup;
use pipit::proto::dns::lookup::Trouble;
use pipit::proto::dns::lookup::TroubleCause;
use pipit::proto::dns::lookup::ValidationState;
use pipit::proto::dns::lookup::ValidationState::Bogus;
use pipit::proto::dns::lookup::ValidationState::Indeterminate;
use pipit::proto::dns::lookup::ValidationState::Insecure;
use pipit::proto::dns::lookup::ValidationState::Secure;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::upstream::UpstreamAddress;
use signed::NOW;
use signed::Said;
use signed::Signed;

struct Scene {
    resolver: Resolver,
    hand: Hand,
    metrics: Rc<Metrics>,
}

fn policy() -> Policy {
    Policy { anchors: Rc::new(Anchors::parse(&signed::recorded().0).unwrap()), ..Policy::default() }
}

fn scene(upstreams: &[SocketAddr], trust_ad: TrustAd) -> Scene {
    let (clock, hand) = Clock::settable(UnixTime(NOW));
    let metrics = Rc::new(Metrics::default());
    let upstreams = upstreams.iter().copied().map(UpstreamAddress::from).collect();
    let resolver = Resolver::new(Upstreams::Listed(upstreams), clock, Rc::clone(&metrics));
    resolver.set_beliefs(Beliefs { policy: policy(), trust_ad });
    Scene { resolver, hand, metrics }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    pipit::net::run(&smol::LocalExecutor::new(), future)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl Scene {
    fn of(upstreams: &[&Signed]) -> Scene {
        scene(&upstreams.iter().map(|signed| signed.address).collect::<Vec<_>>(), TrustAd::No)
    }

    fn query(&self, at: &str, kind: RecordType) -> Rc<Verdict> {
        run(self.resolver.query(&name(at), kind))
    }

    fn state(&self, at: &str) -> ValidationState {
        self.query(at, RecordType::A).state()
    }

    fn trouble(&self, at: &str) -> Trouble {
        match &self.query(at, RecordType::A).outcome {
            Outcome::Failed(trouble) => trouble.clone(),
            Outcome::Proved { .. } => panic!("{at} is fine"),
        }
    }
}

#[test]
fn every_state_of_what_is_signed_and_what_is_not() {
    let upstream = Signed::honest();
    let scene = Scene::of(&[&upstream]);
    let rows = [
        ("www.p256.test", Secure, Rcode::NO_ERROR, None),
        ("nothing.p256.test", Secure, Rcode::NX_DOMAIN, None),
        ("alias.p256.test", Secure, Rcode::NO_ERROR, None),
        ("one.wild.n3.test", Secure, Rcode::NO_ERROR, None),
        ("www.plain.test", Insecure, Rcode::NO_ERROR, None),
        ("www.plain.opt", Insecure, Rcode::NO_ERROR, None),
        ("out.p256.test", Insecure, Rcode::NO_ERROR, None),
        ("www.ed448.test", Insecure, Rcode::NO_ERROR, Some(1)),
        ("www.expireda.test", Bogus, Rcode::SERV_FAIL, Some(7)),
        ("www.dsbadtag.test", Bogus, Rcode::SERV_FAIL, Some(9)),
        ("www.rsa256.test", Secure, Rcode::NO_ERROR, None),
        ("unrecorded.p256.test", Indeterminate, Rcode::SERV_FAIL, Some(0)),
    ];
    for (at, state, rcode, code) in rows {
        let verdict = scene.query(at, RecordType::A);
        let got = (verdict.state(), verdict.rcode(), verdict.errors.first().map(|error| error.code.0));
        assert_eq!(got, (state, rcode, code), "{at}: {verdict:?}");
    }
    assert_eq!(scene.metrics.dns_states.value(DnsState::Secure), 5);
    assert_eq!(scene.metrics.dns_states.value(DnsState::Insecure), 4);
    assert_eq!(scene.metrics.dns_states.value(DnsState::Bogus), 2);
    assert_eq!(scene.metrics.dns_states.value(DnsState::Indeterminate), 1);
    // As the rest of the program sees it.
    let answer = run(scene.resolver.lookup::<A>(&name("www.p256.test")));
    assert!(matches!(answer.judge(), Judged::Secure(Found::Records([_, _, _]))), "{answer:?}");
    let answer = run(scene.resolver.lookup::<A>(&name("out.p256.test")));
    let links: Vec<_> = answer.links().iter().map(|link| link.state).collect();
    assert!(matches!(answer.judge(), Judged::Insecure(Found::Records(_))) && links == [Secure], "{answer:?}");
    let answer = run(scene.resolver.lookup::<A>(&name("www.dsbadtag.test")));
    let Judged::Failed(trouble) = answer.judge() else { panic!("{answer:?}") };
    assert_eq!((trouble.zone.as_ref(), trouble.cause), (Some(&name("dsbadtag.test")), TroubleCause::Zone));
}

#[test]
fn the_proof_is_asked_for_once() {
    let upstream = Signed::honest();
    let scene = Scene::of(&[&upstream]);
    scene.query("p256.test", RecordType::MX);
    let asked: Vec<String> = upstream.asked().iter().map(|asked| format!("{} {}", asked.name, asked.kind).to_lowercase()).collect();
    assert_eq!(asked, ["p256.test. mx", ". dnskey", "p256.test. ds", "test. ds", "test. dnskey", "p256.test. dnskey"]);
    // In a zone that is known, and next to one, each lookup takes what is new.
    for (at, kind, count) in [
        ("www.p256.test", RecordType::A, 1),
        ("_25._tcp.mail.p256.test", RecordType::TLSA, 1),
        ("p256.test", RecordType::DS, 1),
        ("www.sub.p256.test", RecordType::A, 3),
        ("in3.p256.test", RecordType::A, 3),
        ("www.p256.test", RecordType::A, 0),
    ] {
        let verdict = scene.query(at, kind);
        assert_eq!((verdict.state(), upstream.count()), (Secure, count), "{at} {kind}");
    }
    assert_eq!(scene.metrics.dns_cached.value(), 1);
}

#[test]
fn zones_and_verdicts_end_with_their_time() {
    let upstream = Signed::honest();
    let scene = Scene::of(&[&upstream]);
    let minutes = |n: u64| Duration::from_secs(n * 60);
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 6));
    scene.hand.advance(minutes(4));
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 0));
    // Records and keys hold 300 s.
    scene.hand.advance(minutes(2));
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 6));
    // A clock that is put forward ends zones, and expires no verdict; what is proved then is seen by the new time.
    scene.hand.set(UnixTime(NOW + 86_400 * 200));
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 0));
    let verdict = scene.query("p256.test", RecordType::MX);
    assert_eq!((verdict.state(), verdict.errors[0].code), (Bogus, InfoCode::SIGNATURE_EXPIRED), "{verdict:?}");
}

#[test]
fn a_clock_that_is_not_believed_fails_nothing_and_one_that_is_starts_anew() {
    let upstream = Signed::honest();
    let scene = Scene::of(&[&upstream]);
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 6));
    // Before what is certainly past: the floor counts, and all that was known is forgotten.
    scene.hand.set(UnixTime(0));
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 6));
    let trouble = scene.trouble("www.expireda.test");
    assert_eq!((trouble.state(), trouble.cause, trouble.errors[0].code), (Indeterminate, TroubleCause::Ours, InfoCode::NOT_READY));
    assert_eq!(scene.metrics.dns_second_tries.value(), 0);
    upstream.count();
    scene.hand.set(UnixTime(NOW));
    assert_eq!((scene.state("www.p256.test"), upstream.count()), (Secure, 6));
    assert_eq!(scene.trouble("www.expireda.test").state(), Bogus);
}

#[test]
fn another_upstream_heals_what_one_has_spoiled() {
    for change in [|said: &mut Said| said.spoil(RecordType::A), |said: &mut Said| said.spoil(RecordType::RRSIG), Said::strip] {
        let bad = Signed::start(move |asked, said| {
            if asked.is("www.p256.test", RecordType::A) {
                change(said);
            }
        });
        let good = Signed::honest();
        let scene = Scene::of(&[&bad, &good]);
        assert_eq!(scene.state("www.p256.test"), Secure);
        assert!(bad.asked().iter().all(|asked| asked.unchecked) && good.asked().iter().all(|asked| asked.unchecked));
        assert_eq!(scene.metrics.dns_second_tries.value(), 1);
        // It is believed, and so kept.
        assert_eq!((scene.state("www.p256.test"), bad.count() + good.count()), (Secure, 0));
    }
}

#[test]
fn the_only_upstream_is_asked_once_more_to_check_for_itself() {
    // It has something wrong in its cache, which it does not give to who lets it check.
    let upstream = Signed::start(|asked, said| {
        if asked.unchecked && asked.is("www.p256.test", RecordType::A) {
            said.spoil(RecordType::A);
        }
    });
    let scene = Scene::of(&[&upstream]);
    assert_eq!(scene.state("www.p256.test"), Secure);
    assert!(upstream.asked().iter().any(|asked| !asked.unchecked && asked.is("www.p256.test", RecordType::A)));
}

#[test]
fn keys_that_have_changed_are_fetched_again() {
    let upstream = Signed::honest();
    let scene = Scene::of(&[&upstream]);
    assert_eq!(scene.query("p256.test", RecordType::MX).state(), Secure);
    // The address is signed by a key that the zone had not shown before: here, the other way round, the known keys are the
    // wrong ones because the first upstream kept one back.
    let behind = Signed::start(|asked, said| {
        if asked.is("p256.test", RecordType::DNSKEY) && asked.unchecked {
            said.answer.clear();
        }
    });
    let scene = Scene::of(&[&behind]);
    assert_eq!(scene.state("www.p256.test"), Secure);
}

#[test]
fn what_is_bogus_stays_so_with_the_reasons_of_both() {
    let upstream = Signed::start(|asked, said| {
        if !asked.unchecked && asked.name.is_at_or_below(&name("expireda.test")) {
            *said = Said { errors: vec![ExtendedError::new(InfoCode::SIGNATURE_EXPIRED, "too old")], ..Said::code(Rcode::SERV_FAIL) };
        }
    });
    let scene = Scene::of(&[&upstream]);
    let verdict = scene.query("www.expireda.test", RecordType::A);
    let Outcome::Failed(trouble) = &verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!((trouble.state(), trouble.cause, trouble.zone.as_ref()), (Bogus, TroubleCause::Zone, Some(&name("expireda.test"))));
    assert_eq!(verdict.errors[0].code, InfoCode::SIGNATURE_EXPIRED);
    assert!(!verdict.errors[0].text.starts_with("upstream "), "{verdict:?}");
    assert!(verdict.errors[1].text.ends_with(": too old") && verdict.errors[1].text.starts_with("upstream 127.0.0.1:"), "{verdict:?}");
    // From memory, for a minute first.
    upstream.count();
    let again = scene.query("www.expireda.test", RecordType::A);
    assert_eq!((again.errors.last().unwrap().code, upstream.count()), (InfoCode::CACHED_ERROR, 0));
    scene.hand.advance(Duration::from_secs(59));
    assert_eq!((scene.trouble("www.expireda.test").errors.last().unwrap().code, upstream.count()), (InfoCode::CACHED_ERROR, 0));
    scene.hand.advance(Duration::from_secs(1));
    assert_ne!(scene.trouble("www.expireda.test").errors.last().unwrap().code, InfoCode::CACHED_ERROR);
    assert!(upstream.count() > 0);
}

#[test]
fn who_strips_signatures_makes_nothing_insecure_and_is_named() {
    let strips = Signed::start(|_, said| said.strip());
    let scene = Scene::of(&[&strips]);
    for at in ["www.p256.test", "www.plain.test", "nothing.p256.test", "www.plain.opt"] {
        let trouble = scene.trouble(at);
        assert_eq!((trouble.state(), trouble.cause), (Bogus, TroubleCause::Ours), "{at}: {trouble}");
        assert!([9, 10, 12].contains(&trouble.errors[0].code.0), "{trouble}");
        assert!(trouble.errors[0].text.contains(&format!("upstream {}", strips.address)), "{trouble}");
    }
    // Somebody else helps, wherever he stands.
    let good = Signed::honest();
    let scene = Scene::of(&[&strips, &good]);
    assert_eq!((scene.state("www.p256.test"), scene.state("www.plain.test")), (Secure, Insecure));
    assert_eq!(scene.trouble("www.dsbadtag.test").cause, TroubleCause::Zone);
    // One zone that lost its signatures is that zone's fault.
    let one = Signed::start(|asked, said| {
        if asked.name.is_at_or_below(&name("p256.test")) && asked.kind != RecordType::DS {
            said.strip();
        }
    });
    let scene = Scene::of(&[&one]);
    let trouble = scene.trouble("www.p256.test");
    assert_eq!((trouble.state(), trouble.cause, trouble.errors[0].code), (Bogus, TroubleCause::Zone, InfoCode::RRSIGS_MISSING));
    assert!(!trouble.errors[0].text.contains("upstream"), "{trouble}");
    assert_eq!(scene.state("www.n3.test"), Secure);
}

#[test]
fn mail_waits_for_a_better_upstream_where_proofs_fail_in_any_way() {
    static STRIPS: AtomicBool = AtomicBool::new(true);
    let upstream = Signed::start(|asked, said| match asked.kind {
        _ if STRIPS.load(Ordering::SeqCst) => said.strip(),
        RecordType::DNSKEY => *said = Said::code(Rcode::SERV_FAIL),
        _ => {}
    });
    let scene = Scene::of(&[&upstream]);
    STRIPS.store(false, Ordering::SeqCst);
    let trouble = scene.trouble("www.p256.test");
    assert_eq!((trouble.state(), trouble.cause), (Indeterminate, TroubleCause::Zone), "for all that is known it is able: {trouble}");
    STRIPS.store(true, Ordering::SeqCst);
    run(scene.resolver.probe_upstreams());
    let trouble = scene.trouble("www.n3.test");
    assert_eq!((trouble.state(), trouble.cause), (Bogus, TroubleCause::Ours));
    let named = format!("(upstream {} gives no signatures (RRSIG))", upstream.address);
    assert!(trouble.errors[0].text.ends_with(&named), "{trouble}");
    STRIPS.store(false, Ordering::SeqCst);
    let trouble = scene.trouble("www.ldns.test");
    assert_eq!((trouble.state(), trouble.cause), (Indeterminate, TroubleCause::Ours), "{trouble}");
    // What has nothing to do with proofs stays the zone's.
    assert_eq!(scene.trouble("unrecorded.test").cause, TroubleCause::Zone);
}

#[test]
fn links_are_followed_where_an_upstream_stops_at_them() {
    let stops = Signed::start(|asked, said| {
        said.answer.retain(|record| record.owner == asked.name || record.rtype == RecordType::DNAME || record.rtype == RecordType::RRSIG);
    });
    let scene = Scene::of(&[&stops]);
    for (at, state, end) in [("in3.p256.test", Secure, "www.n3.test."), ("out.p256.test", Insecure, "www.plain.test.")] {
        let verdict = scene.query(at, RecordType::A);
        assert_eq!((verdict.state(), verdict.owner.to_string().as_str(), verdict.links.len()), (state, end, 1), "{verdict:?}");
    }
}

#[test]
fn failures_of_our_own_side_are_forgotten_when_it_is_mended() {
    static STRIPS: AtomicBool = AtomicBool::new(true);
    let (_, answers) = signed::recorded();
    let upstream = Signed::start(move |asked, said| {
        // What a probe asks for, and nobody recorded: DS records of com, and a name that chance made.
        if asked.is("com", RecordType::DS) {
            *said = answers[&(name("test"), RecordType::DS)].clone();
            said.answer.iter_mut().for_each(|record| record.owner = name("com"));
        } else if asked.kind == RecordType::A && said.rcode == Rcode::SERV_FAIL {
            *said = answers[&(name("nothing"), RecordType::A)].clone();
        }
        if STRIPS.load(Ordering::SeqCst) {
            said.strip();
        }
    });
    let scene = Scene::of(&[&upstream]);
    run(scene.resolver.probe_upstreams());
    // For a minute, then for two.
    for _ in 0..2 {
        assert_eq!(scene.trouble("www.p256.test").cause, TroubleCause::Ours);
        scene.hand.advance(Duration::from_secs(61));
    }
    STRIPS.store(false, Ordering::SeqCst);
    assert_eq!(scene.trouble("www.p256.test").errors.last().unwrap().code, InfoCode::CACHED_ERROR);
    run(scene.resolver.probe_upstreams());
    assert_eq!(scene.state("www.p256.test"), Secure);
}

#[test]
fn the_word_of_a_validator_on_this_machine() {
    let upstream = Signed::start(|asked, said| {
        assert!(asked.kind != RecordType::DNSKEY, "the proof is not ours to make");
        // It stops at this link.
        if asked.is("in3.p256.test", RecordType::A) {
            said.answer.retain(|record| record.owner == asked.name);
        }
        if !asked.unchecked {
            said.authentic = asked.name.is_at_or_below(&name("p256.test"));
            if asked.is("www.expireda.test", RecordType::A) {
                *said = Said { errors: vec![ExtendedError::new(InfoCode::SIGNATURE_EXPIRED, "")], ..Said::code(Rcode::SERV_FAIL) };
            }
        }
    });
    let scene = scene(&[upstream.address], TrustAd::Yes);
    let rows = [
        ("www.p256.test", Secure, Rcode::NO_ERROR, None),
        ("nothing.p256.test", Secure, Rcode::NX_DOMAIN, None),
        ("alias.p256.test", Secure, Rcode::NO_ERROR, None),
        ("www.plain.test", Insecure, Rcode::NO_ERROR, None),
        ("nothing.plain.test", Insecure, Rcode::NX_DOMAIN, None),
        // Through a name elsewhere, whose answer has no AD.
        ("in3.p256.test", Insecure, Rcode::NO_ERROR, None),
        ("www.expireda.test", Bogus, Rcode::SERV_FAIL, Some(6)),
        ("unrecorded.p256.test", Indeterminate, Rcode::SERV_FAIL, Some(0)),
    ];
    for (at, state, rcode, code) in rows {
        let verdict = scene.query(at, RecordType::A);
        let got = (verdict.state(), verdict.rcode(), verdict.errors.first().map(|error| error.code.0));
        assert_eq!(got, (state, rcode, code), "{at}: {verdict:?}");
    }
    let verdict = scene.query("www.expireda.test", RecordType::A);
    assert!(verdict.errors.iter().any(|error| error.code == InfoCode::SIGNATURE_EXPIRED && error.text.starts_with("upstream ")));
    let verdict = scene.query("in3.p256.test", RecordType::A);
    assert_eq!((verdict.links.len(), verdict.links[0].state, verdict.owner.to_string().as_str()), (1, Secure, "www.n3.test."));
    assert!(upstream.asked().iter().filter(|asked| asked.unchecked).all(|asked| !asked.is("www.p256.test", RecordType::A)));
}

#[test]
fn nobody_elsewhere_is_believed_for_his_word() {
    // AD on everything, also on what is not signed.
    let liar = Signed::start(|_, said| said.authentic = true);
    let believing = scene(&[liar.address], TrustAd::Yes);
    assert_eq!(believing.state("www.plain.test"), Secure);
    assert_eq!(scene(&[liar.address], TrustAd::No).state("www.plain.test"), Insecure);
    let mixed = scene(&[liar.address, SocketAddr::from(([192, 0, 2, 1], 53))], TrustAd::Yes);
    assert_eq!(mixed.state("www.plain.test"), Insecure);
}

#[test]
fn lookups_of_one_zone_share_their_questions() {
    let upstream = Signed::start(|_, said| said.delay = Some(Duration::from_millis(20)));
    let scene = Scene::of(&[&upstream]);
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        let names = ["www.p256.test", "alias.p256.test", "nothing.p256.test", "www.p256.test", "one.wild.p256.test", "a.ent.p256.test"];
        let tasks: Vec<_> = names
            .map(|at| {
                let resolver = scene.resolver.clone();
                executor.spawn(async move { resolver.query(&name(at), RecordType::A).await.state() })
            })
            .into();
        for task in tasks {
            assert_eq!(task.await, Secure);
        }
    });
    // Five names and the five questions of the proof.
    assert_eq!(upstream.count(), 10);
}

#[test]
fn what_was_under_way_when_beliefs_changed_is_neither_kept_nor_shared() {
    let upstream = Signed::start(|_, said| said.delay = Some(Duration::from_millis(30)));
    let scene = Scene::of(&[&upstream]);
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        let resolver = scene.resolver.clone();
        let before = executor.spawn(async move { resolver.query(&name("www.p256.test"), RecordType::A).await.state() });
        smol::Timer::after(Duration::from_millis(50)).await;
        let anchors = Anchors::clone(&policy().anchors).with_negative(name("p256.test"), None);
        scene.resolver.set_beliefs(Beliefs { policy: Policy { anchors: Rc::new(anchors), ..policy() }, ..Beliefs::default() });
        let after = scene.resolver.query(&name("www.p256.test"), RecordType::A).await.state();
        assert_eq!((before.await, after), (Secure, Insecure));
        assert_eq!(scene.resolver.query(&name("www.p256.test"), RecordType::A).await.state(), Insecure);
    });
    scene.resolver.set_beliefs(Beliefs { policy: Policy { anchors: Rc::new(Anchors::none()), ..policy() }, ..Beliefs::default() });
    assert_eq!(scene.state("www.p256.test"), Indeterminate);
    assert!(scene.resolver.problem().unwrap().contains("trust anchor"));
}

#[test]
fn a_second_try_by_former_beliefs_leaves_no_zones_behind() {
    let spoilt = AtomicBool::new(false);
    let upstream = Signed::start(move |asked, said| {
        said.delay = Some(Duration::from_millis(30));
        if asked.is("www.p256.test", RecordType::A) && !spoilt.swap(true, Ordering::Relaxed) {
            said.spoil(RecordType::RRSIG);
        }
    });
    let scene = Scene::of(&[&upstream]);
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        let resolver = scene.resolver.clone();
        let before = executor.spawn(async move { resolver.query(&name("www.p256.test"), RecordType::A).await.state() });
        smol::Timer::after(Duration::from_millis(50)).await;
        let stranger = Anchors::parse(&format!(". DS 1 13 2 {}", "ab".repeat(32))).unwrap();
        scene.resolver.set_beliefs(Beliefs { policy: Policy { anchors: Rc::new(stranger), ..policy() }, ..Beliefs::default() });
        assert_eq!(before.await, Secure, "the second try, by what was believed when it began");
        assert_eq!(scene.resolver.query(&name("www.p256.test"), RecordType::A).await.state(), Bogus);
    });
}

#[test]
fn a_lookup_sends_sixty_queries_at_most() {
    // An unsigned answer in a deep signed zone is looked into label by label, and each answer is got by TCP only.
    let deep = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.v6.test";
    let upstream = Signed::start(move |asked, said| {
        if asked.is(deep, RecordType::PTR) {
            said.strip();
        }
        if !asked.by_tcp {
            let filler = said.answer.first().or(said.authority.first()).cloned();
            said.answer.extend((0..60).flat_map(|_| filler.clone()));
        }
    });
    let scene = Scene::of(&[&upstream]);
    let verdict = scene.query(deep, RecordType::PTR);
    assert!(verdict.state() == Bogus || verdict.state() == Indeterminate, "{verdict:?}");
    let count = upstream.count();
    assert!((50..=60).contains(&count), "{count}");
    assert_eq!(scene.metrics.dns_queries.value(), count as u64);
}

#[test]
fn a_lookup_takes_ten_seconds_at_most() {
    let upstream = Signed::start(|asked, said| {
        if asked.kind == RecordType::DNSKEY && asked.name == name("p256.test") {
            said.delay = None;
        }
    });
    let scene = Scene::of(&[&upstream]);
    let begun = Instant::now();
    let trouble = scene.trouble("www.p256.test");
    assert_eq!(
        (trouble.state(), trouble.cause, trouble.errors[0].code),
        (Indeterminate, TroubleCause::Zone, InfoCode::NO_REACHABLE_AUTHORITY)
    );
    assert!((6..11).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[test]
fn fetching_proves_nothing_and_keeps_nothing() {
    let upstream = Signed::start(|_, said| said.spoil(RecordType::DNSKEY));
    let scene = Scene::of(&[&upstream]);
    for _ in 0..2 {
        let received = run(scene.resolver.fetch(&Name::root(), RecordType::DNSKEY)).unwrap();
        let keys = received.set(&Name::root(), RecordType::DNSKEY).unwrap();
        assert!(keys.data.len() >= 2 && !keys.signatures.is_empty());
        assert_eq!(upstream.count(), 1);
    }
    let trouble = run(scene.resolver.fetch(&name("unrecorded.p256.test"), RecordType::A)).unwrap_err();
    assert_eq!(trouble.state(), Indeterminate);
}
