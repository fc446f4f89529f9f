//! The resolver against upstreams that misbehave on the way, and the judgement of which are fit for DNSSEC.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![allow(dead_code, reason = "the servers are shared with other tests")]

#[path = "resolver/odd.rs"]
mod odd;
#[path = "resolver/signed.rs"]
mod signed;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use odd::By;
use odd::Odd;
use odd::Seen;
use odd::Way;
use pipit::config;
use pipit::mail::date::UnixTime;
use pipit::mail::domain::Domain;
use pipit::metrics::Metrics;
use pipit::net::clock::Clock;
use pipit::net::clock::Hand;
use pipit::net::resolver::Beliefs;
use pipit::net::resolver::Fitness;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::TrustAd;
use pipit::net::resolver::Upstreams;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::walk::Outcome;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::lookup::InfoCode;
use pipit::proto::dns::lookup::Lookup;
use pipit::proto::dns::lookup::Trouble;
use pipit::proto::dns::lookup::ValidationState;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::presentation::parse_rdata;
use pipit::proto::dns::reader::RawRecord;
use pipit::proto::dns::upstream::UpstreamAddress;
use pipit::proto::x509::certificate::SelfSigned;
use pipit::proto::x509::certificate::self_signed;
use pipit::proto::x509::key::new_key;
use ring::rand::SystemRandom;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use signed::NOW;
use signed::Said;

struct Scene {
    resolver: Resolver,
    hand: Hand,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    pipit::net::run(&smol::LocalExecutor::new(), future)
}

impl Scene {
    fn of(upstreams: Vec<UpstreamAddress>) -> Scene {
        let (clock, hand) = Clock::settable(UnixTime(NOW));
        let resolver = Resolver::new(Upstreams::Listed(upstreams), clock, Rc::new(Metrics::default()));
        let policy = Policy { anchors: Rc::new(Anchors::parse(&signed::recorded().0).unwrap()), ..Policy::default() };
        resolver.set_beliefs(Beliefs { policy, trust_ad: TrustAd::No });
        Scene { resolver, hand }
    }

    fn plain(upstreams: &[&Odd]) -> Scene {
        Scene::of(upstreams.iter().map(|odd| odd.address.into()).collect())
    }

    /// One question, not validated.
    fn fetch(&self, at: &str) -> Result<usize, Trouble> {
        run(self.resolver.fetch(&name(at), RecordType::DNSKEY)).map(|received| received.answer.len())
    }

    fn state(&self, at: &str) -> ValidationState {
        run(self.resolver.query(&name(at), RecordType::A)).state()
    }

    fn fitness(&self) -> Vec<Fitness> {
        run(self.resolver.probe_upstreams());
        self.resolver.upstreams().into_iter().map(|upstream| upstream.fitness).collect()
    }
}

fn ways(seen: &[Seen]) -> (usize, usize) {
    let by = |by| seen.iter().filter(|seen| seen.by == by).count();
    (by(By::Udp), by(By::Tcp))
}

#[test]
fn what_an_upstream_cannot_do_is_worked_around() {
    // way, queries by UDP and TCP, and connections, for three questions one after another
    let rows = [
        (Way::Fine, (3, 0), 0),
        (Way::OnlyUdp, (3, 0), 0),
        (Way::Truncates, (3, 3), 1),
        // The question that UDP is silent about is asked by TCP the second time.
        (Way::OnlyTcp, (3, 3), 1),
        (Way::LosesAbove(100), (3, 3), 1),
        (Way::OtherPort, (3, 3), 1),
        // A connection for each, and after the first answer it is known that it needs one.
        (Way::ClosesAfterOne, (3, 3), 3),
        (Way::CookieOnce, (4, 0), 0),
        (Way::CookieNever, (6, 3), 1),
        (Way::CookieLost, (3, 2), 1),
        (Way::CookieLostOnlyUdp, (4, 0), 0),
    ];
    for (way, queries, connections) in rows {
        let odd = Odd::of(way);
        let scene = Scene::plain(&[&odd]);
        for at in [".", "test", "."] {
            assert_eq!(scene.fetch(at).map_err(|trouble| trouble.to_string()), Ok(1), "{way:?} {at}");
        }
        assert_eq!((ways(&odd.seen()), odd.connections()), (queries, connections), "{way:?}");
        assert_eq!(scene.resolver.problem(), None, "{way:?}");
    }
}

#[test]
fn who_brings_nothing_by_udp_is_asked_by_tcp_at_once() {
    let odd = Odd::of(Way::OnlyTcp);
    let scene = Scene::plain(&[&odd]);
    for _ in 0..3 {
        scene.fetch(".").unwrap();
    }
    let _ = odd.seen();
    let begun = Instant::now();
    for _ in 0..10 {
        scene.fetch(".").unwrap();
    }
    assert_eq!((ways(&odd.seen()), odd.connections()), ((0, 10), 1));
    assert!(begun.elapsed() < Duration::from_secs(1));
    // Not for ever: another network may be there.
    scene.hand.advance(Duration::from_secs(3601));
    scene.fetch(".").unwrap();
    assert_eq!(ways(&odd.seen()), (1, 1));
}

#[test]
fn what_is_of_no_use_fails_and_says_so() {
    let rows = [
        (Way::Closes, InfoCode::NETWORK_ERROR, "the server closed the connection"),
        (Way::OtherQuestion, InfoCode::INVALID_DATA, "answers another question"),
        (Way::TruncatesForEver, InfoCode::INVALID_DATA, "truncated by TCP too"),
    ];
    for (way, code, words) in rows {
        let odd = Odd::of(way);
        let trouble = Scene::plain(&[&odd]).fetch(".").unwrap_err();
        let address = odd.address.to_string();
        assert_eq!(trouble.errors[0].code, code, "{way:?} {trouble}");
        assert!(trouble.errors[0].text.contains(words) && trouble.errors[0].text.contains(&address), "{way:?} {trouble}");
        // Another one helps.
        let fine = Odd::of(Way::Fine);
        assert_eq!(Scene::plain(&[&odd, &fine]).fetch(".").ok(), Some(1), "{way:?}");
    }
}

/// Many questions at the same time.
fn together(scene: &Scene, questions: usize) -> usize {
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        let one = |number: usize| {
            let (resolver, name) = (scene.resolver.clone(), name(&format!("n{number}.test")));
            executor.spawn(async move { resolver.fetch(&name, RecordType::SOA).await.is_ok() })
        };
        let tasks: Vec<_> = (0..questions).map(one).collect();
        let mut answered = 0;
        for task in tasks {
            answered += usize::from(task.await);
        }
        answered
    })
}

#[test]
fn one_connection_carries_many_questions_in_any_order() {
    let odd = Odd::of(Way::Backwards(20));
    let scene = Scene::plain(&[&odd]);
    let begun = Instant::now();
    assert_eq!(together(&scene, 20), 20);
    let seen = odd.seen();
    assert_eq!((ways(&seen), odd.connections()), ((20, 20), 1));
    let names: HashSet<&Name> = seen.iter().map(|seen| &seen.name).collect();
    assert_eq!(names.len(), 20);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_connection_that_closes_in_the_middle_loses_nothing() {
    let odd = Odd::of(Way::ClosesAfterOne);
    let scene = Scene::plain(&[&odd]);
    assert_eq!(together(&scene, 20), 20);
    // One for each answer, and few for nothing.
    assert!((20..30).contains(&odd.connections()), "{}", odd.connections());
}

#[test]
fn a_lookup_that_is_dropped_leaves_the_connection_to_the_others() {
    let odd = Odd::of(Way::Backwards(3));
    let scene = Scene::plain(&[&odd]);
    let executor = smol::LocalExecutor::new();
    let ask = |number: usize| {
        let (resolver, name) = (scene.resolver.clone(), name(&format!("n{number}.test")));
        executor.spawn(async move { resolver.fetch(&name, RecordType::SOA).await.is_ok() })
    };
    pipit::net::run(&executor, async {
        let (first, second) = (ask(1), ask(2));
        smol::Timer::after(Duration::from_millis(100)).await;
        first.cancel().await;
        assert!(ask(3).await && second.await);
    });
    assert_eq!(odd.connections(), 1);
}

#[test]
fn an_unused_connection_is_closed() {
    let odd = Odd::of(Way::Truncates);
    let scene = Scene::plain(&[&odd]);
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        executor.spawn(scene.resolver.clone().watch_upstreams()).detach();
        scene.resolver.fetch(&Name::root(), RecordType::DNSKEY).await.unwrap();
        assert_eq!(sockets_to(odd.address), 1);
        let begun = Instant::now();
        while sockets_to(odd.address) > 0 && begun.elapsed() < Duration::from_secs(25) {
            smol::Timer::after(Duration::from_millis(500)).await;
        }
        assert!((9..17).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    });
}

/// Of this process, by the kernel's table of connections; those that the server accepted have the port on their side.
fn sockets_to(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!("0100007F:{:04X}", address.port());
    let established = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[2] == remote && words[3] == "01"
    };
    table.lines().skip(1).filter(established).count()
}

struct Identity {
    certificate: Vec<u8>,
    config: ServerConfig,
}

/// A certificate that is its own authority.
fn identity(names: &str, from: i64, to: i64) -> Identity {
    let random = SystemRandom::new();
    let key = new_key(&random).unwrap();
    let names = [Domain::parse(names).unwrap()];
    let (not_before, not_after) = (UnixTime(from), UnixTime(to));
    let wanted = SelfSigned { key_pkcs8: &key, names: &names, not_before, not_after, serial: [7; 16] };
    let certificate = self_signed(&wanted, &random).unwrap();
    let chain = vec![CertificateDer::from(certificate.clone())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::try_from(key).unwrap()).unwrap();
    Identity { certificate, config }
}

fn tls(address: SocketAddr) -> UpstreamAddress {
    UpstreamAddress::parse(&format!("tls://{address}#dns.test")).unwrap()
}

#[test]
fn over_tls_who_is_not_the_one_meant_is_not_asked() {
    const DAY: i64 = 86_400;
    // name, days of validity from now, known authority, clock against its floor, what is said
    let rows = [
        ("dns.test", (-1, 1), true, 0, Ok(())),
        ("other.test", (-1, 1), true, 0, Err("not for the name dns.test")),
        ("dns.test", (-9, -1), true, 0, Err("has expired")),
        ("dns.test", (1, 9), true, 0, Err("is not valid yet")),
        ("dns.test", (-1, 1), false, 0, Err("unknown authority")),
        // Nothing but the dates is let pass while the clock is wrong.
        ("dns.test", (-9, -1), true, -50, Ok(())),
        ("dns.test", (1, 9), true, -50, Ok(())),
        ("other.test", (-9, -1), true, -50, Err("not for the name dns.test")),
        ("dns.test", (-9, -1), false, -50, Err("unknown authority")),
    ];
    for (at, (from, to), known, clock, expected) in rows {
        let identity = identity(at, NOW + from * DAY, NOW + to * DAY);
        let odd = Odd::with_tls(identity.config);
        let scene = Scene::of(vec![tls(odd.address)]);
        if known {
            scene.resolver.add_authority(&identity.certificate).unwrap();
        }
        scene.hand.set(UnixTime(NOW + clock * DAY));
        let row = format!("{at} {from} {to} {known} {clock}");
        match (scene.fetch("."), expected) {
            (Ok(1), Ok(())) => {
                let seen = odd.seen();
                assert!(seen.iter().all(|seen| seen.by == By::Tls && seen.length == 128 && seen.cookie == 0), "{row} {seen:?}");
            }
            (Err(trouble), Err(words)) => {
                let error = &trouble.errors[0];
                assert_eq!(error.code, InfoCode::NETWORK_ERROR, "{row}");
                assert!(error.text.contains(words) && error.text.contains("#dns.test gives no TLS that can be trusted"), "{row} {trouble}");
                // Never in the clear.
                assert_eq!(odd.seen(), [], "{row}");
                assert!(scene.resolver.problem().is_none_or(|problem| problem.contains(words)), "{row}");
            }
            (got, _) => panic!("{row}: {got:?}"),
        }
    }
}

#[test]
fn who_speaks_no_tls_is_not_asked_either() {
    let odd = Odd::of(Way::Fine);
    let trouble = Scene::of(vec![tls(odd.address)]).fetch(".").unwrap_err();
    assert_eq!(trouble.errors[0].code, InfoCode::NETWORK_ERROR, "{trouble}");
    assert!(odd.seen().iter().all(|seen| seen.by == By::Tcp && seen.kind != RecordType::DNSKEY), "{trouble}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let trouble = Scene::of(vec![tls(nobody)]).fetch(".").unwrap_err();
    assert!(trouble.errors[0].text.contains("cannot be reached"), "{trouble}");
}

#[test]
fn tls_keeps_one_connection_and_proves_as_well() {
    let identity = identity("dns.test", NOW - 9, NOW + 9);
    let odd = Odd::with_tls(identity.config);
    let scene = Scene::of(vec![tls(odd.address)]);
    scene.resolver.add_authority(&identity.certificate).unwrap();
    assert_eq!(scene.state("www.p256.test"), ValidationState::Secure);
    assert_eq!(together(&scene, 20), 20);
    assert_eq!(odd.connections(), 1);
    assert!(odd.seen().iter().all(|seen| seen.letters.to_ascii_lowercase() == seen.letters));
    assert_eq!(scene.fitness(), [Fitness::Fit]);
}

fn address(owner: &Name) -> RawRecord {
    let rdata = parse_rdata(RecordType::A, "192.0.2.80").unwrap();
    RawRecord { owner: owner.clone(), rtype: RecordType::A, ttl: 60, rdata }
}

/// Answers above 1,232 octets about the root's keys.
fn lengthen(said: &mut Said) {
    let text = "x".repeat(250);
    let rdata = parse_rdata(RecordType::TXT, &format!("\"{text}\"")).unwrap();
    let record = RawRecord { owner: Name::root(), rtype: RecordType::TXT, ttl: 60, rdata };
    said.answer.extend((0..5).map(|number: u8| {
        let mut record = record.clone();
        record.rdata[1] = number;
        record
    }));
}

type Change = fn(&Seen, &mut Said);

#[test]
fn who_is_fit_and_who_is_not() {
    let honest: Change = |_, _| {};
    let strips: Change = |_, said| said.strip();
    let strips_ds: Change = |seen, said| {
        if seen.kind == RecordType::DS {
            said.answer.clear();
        }
    };
    let invents: Change = |seen, said| {
        if seen.kind == RecordType::A {
            (said.rcode, said.answer) = (Rcode::NO_ERROR, vec![address(&seen.name)]);
        }
    };
    let strips_denials: Change = |_, said| said.authority.clear();
    let long: Change = |seen, said| {
        if seen.kind == RecordType::DNSKEY {
            lengthen(said);
        }
    };
    // Who sends a cookie speaks EDNS.
    let no_edns: Change = |seen, said| {
        if seen.cookie > 0 {
            *said = Said::code(Rcode::NOT_IMP);
        } else {
            said.strip();
        }
    };
    let does_nothing: Change = |_, said| *said = Said::code(Rcode::NOT_IMP);
    let fails: Change = |_, said| *said = Said::code(Rcode::SERV_FAIL);
    // `None` is unknown, nothing is fit
    let rows: [(&str, Way, Change, Option<&str>); 15] = [
        ("honest", Way::Fine, honest, Some("")),
        ("long", Way::Fine, long, Some("")),
        ("by TCP only", Way::OnlyTcp, honest, Some("")),
        ("above 100", Way::LosesAbove(100), honest, Some("")),
        ("other port", Way::OtherPort, honest, Some("")),
        ("strips", Way::Fine, strips, Some("gives no signatures")),
        ("strips DS", Way::Fine, strips_ds, Some("gives no signed DS records")),
        ("strips denials", Way::Fine, strips_denials, Some("gives no proof that a name does not exist")),
        ("invents", Way::Fine, invents, Some("invents answers")),
        ("no TCP", Way::OnlyUdp, honest, Some("does not answer by TCP")),
        ("above 1232", Way::LosesAllAbove(1232), long, Some("does not answer when the answer is long")),
        ("no EDNS", Way::Fine, no_edns, Some("does not know EDNS")),
        ("does nothing", Way::Fine, does_nothing, None),
        ("fails", Way::Fine, fails, None),
        ("closes", Way::Closes, honest, None),
    ];
    for (row, way, change, expected) in rows {
        let scene = Scene::plain(&[&Odd::start(way, change)]);
        match (&scene.fitness()[..], expected) {
            ([Fitness::Unknown], None) | ([Fitness::Fit], Some("")) => {
                assert_eq!(scene.resolver.unfit_words(), None, "{row}");
            }
            ([Fitness::Unfit(complaints)], Some(words)) if !words.is_empty() => {
                assert!(complaints[0].starts_with(words), "{row}: {complaints:?}");
                assert!(scene.resolver.problem().unwrap().contains(words), "{row}");
            }
            (fitness, _) => panic!("{row}: {fitness:?}"),
        }
    }
}

#[test]
fn nothing_is_known_about_who_is_dead() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scene = Scene::of(vec![dead.into()]);
    assert_eq!(scene.fitness(), [Fitness::Unknown]);
    assert!(scene.resolver.problem().unwrap().contains("no DNS resolver answers"));
}

#[test]
fn probes_are_rare_and_cheap() {
    let odd = Odd::of(Way::Fine);
    let scene = Scene::plain(&[&odd]);
    assert_eq!(scene.fitness(), [Fitness::Fit]);
    let cost = odd.seen().len();
    assert!(cost <= 8, "{cost} queries");
    for (seconds, probes) in [(3000, 0), (599, 0), (1, 1), (10, 0), (3590, 1)] {
        scene.hand.advance(Duration::from_secs(seconds));
        scene.fitness();
        assert_eq!(odd.seen().len(), cost * probes, "{seconds}");
    }
    // Another one on the list is probed at once, and only he.
    let second = Odd::of(Way::Fine);
    scene.resolver.set_upstreams(Upstreams::Listed(vec![odd.address.into(), second.address.into()]));
    assert_eq!(scene.fitness(), [Fitness::Fit, Fitness::Fit]);
    assert_eq!((odd.seen().len(), second.seen().len()), (0, cost));
}

#[test]
fn the_fit_one_is_asked_and_the_owner_is_told_about_the_other() {
    let (unfit, fit) = (Odd::start(Way::Fine, |_, said| said.strip()), Odd::of(Way::Fine));
    let scene = Scene::plain(&[&unfit, &fit]);
    let mut fitness = scene.fitness();
    fitness.sort();
    assert!(matches!(&fitness[..], [Fitness::Fit, Fitness::Unfit(_)]), "{fitness:?}");
    assert_eq!(scene.resolver.upstreams()[0].address, fit.address.into());
    let _ = unfit.seen();
    assert_eq!(scene.state("www.p256.test"), ValidationState::Secure);
    assert_eq!(unfit.seen(), []);
    assert_eq!((scene.resolver.problem(), scene.resolver.doubt()), (None, None));
    let words = scene.resolver.unfit_words().unwrap();
    assert!(words.contains(&format!("{} is unfit for DNSSEC: it gives no signatures", unfit.address)), "{words}");
    // What the owner is told to write can be written.
    let line = words.split("dns.upstream = ").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let file = format!("hostname = \"mail.example.org\"\ndns.upstream = {line}]\n[[domain]]\nname = \"example.org\"\n");
    let read = config::check::check(&file).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(read.upstreams.map(|list| list.len()), Some(2));
    // The one that is left is asked all the same, and proves nothing.
    scene.resolver.set_upstreams(Upstreams::Listed(vec![unfit.address.into()]));
    let verdict = run(scene.resolver.query(&name("www.p256.test"), RecordType::A));
    let Outcome::Failed(trouble) = &verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!(trouble.state(), ValidationState::Bogus);
    assert!((9..=12).contains(&trouble.errors[0].code.0), "{trouble}");
    assert!(trouble.errors[0].text.contains(&format!("upstream {} gives no signatures", unfit.address)), "{trouble}");
    assert_eq!(scene.resolver.doubt(), scene.resolver.unfit_words(), "nothing that it says may turn mail away");
}

#[test]
fn lies_of_one_are_found_with_another() {
    let strips: Change = |_, said| said.strip();
    let strips_ds: Change = |seen, said| {
        if seen.kind == RecordType::DS {
            said.answer.clear();
        }
    };
    let lies: Change = |_, said| said.spoil(RecordType::A);
    for (row, change) in [("strips", strips), ("strips DS", strips_ds), ("lies", lies)] {
        let (bad, fine) = (Odd::start(Way::Fine, change), Odd::of(Way::Fine));
        // Nothing is known about either yet: the first is asked first.
        assert_eq!(Scene::plain(&[&bad, &fine]).state("www.p256.test"), ValidationState::Secure, "{row}");
        assert_eq!(Scene::plain(&[&bad]).state("www.p256.test"), ValidationState::Bogus, "{row}");
    }
}

#[test]
fn who_proves_nothing_is_probed_soon() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    let bad = Arc::new(AtomicBool::new(false));
    let turns = Arc::clone(&bad);
    let odd = Odd::start(Way::Fine, move |_, said| {
        if turns.load(Ordering::SeqCst) {
            said.strip();
        }
    });
    let scene = Scene::plain(&[&odd]);
    assert_eq!(scene.fitness(), [Fitness::Fit]);
    scene.hand.advance(Duration::from_secs(300));
    bad.store(true, Ordering::SeqCst);
    assert_eq!(scene.fitness(), [Fitness::Fit], "it is not due");
    assert_eq!(scene.state("www.p256.test"), ValidationState::Bogus);
    assert!(matches!(&scene.fitness()[..], [Fitness::Unfit(_)]));
    // Not more than once a minute.
    scene.resolver.flush();
    let _ = odd.seen();
    assert_eq!(scene.state("www.rsa256.test"), ValidationState::Bogus);
    let asked = odd.seen().len();
    scene.fitness();
    assert_eq!(odd.seen().len(), 0, "after {asked}");
    bad.store(false, Ordering::SeqCst);
    scene.hand.advance(Duration::from_secs(60));
    assert_eq!(scene.fitness(), [Fitness::Fit]);
}
