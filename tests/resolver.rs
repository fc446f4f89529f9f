//! The resolver against upstreams that misbehave, each in its own way, over real sockets.
//!
//! `Fake` is a server in a thread: a zone as text, a list of tricks for UDP, and a count of what it was asked.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use pipit::mail::date::UnixTime;
use pipit::metrics::Metrics;
use pipit::net::clock::Clock;
use pipit::net::clock::Hand;
use pipit::net::resolver::Beliefs;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::Upstreams;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::lookup::Answer;
use pipit::proto::dns::lookup::ExtendedError;
use pipit::proto::dns::lookup::Found;
use pipit::proto::dns::lookup::InfoCode;
use pipit::proto::dns::lookup::Judged;
use pipit::proto::dns::lookup::Lookup;
use pipit::proto::dns::lookup::Mx;
use pipit::proto::dns::lookup::TroubleCause;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::presentation::parse_rdata;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reader::RawRecord;
use pipit::proto::dns::reply::Reply;
use pipit::proto::dns::reply::write_reply;
use pipit::proto::dns::table::Fault;
use pipit::proto::dns::table::Step;
use pipit::proto::dns::table::Table;
use pipit::proto::dns::upstream::UpstreamAddress;

const ZONE: &str = "
    . NS ns.test
    example.org 60 MX 10 mx.example.org
    mx.example.org A 192.0.2.1
    www.example.org CNAME example.org
    loop.example CNAME loop2.example
    loop2.example CNAME loop.example
    fails.example SERVFAIL
";

/// What is wrong with the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trick {
    None,
    Silent,
    /// says nothing about fails.example, whose servers it waits for
    SilentAboutOne,
    /// says nothing about names below silent.example
    SilentBelow,
    SilentOnce,
    Truncated,
    /// wrong ones first, the right one behind
    WrongFirst,
    Garbage,
    FoldsCase,
    NoEdns,
    Slow,
    ServFail,
    Refused,
    BadCookie,
}

#[derive(Clone, Copy, PartialEq)]
enum Tcp {
    Open,
    Refused,
}

struct Fake {
    address: SocketAddr,
    udp: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
}

impl Fake {
    fn start(trick: Trick, tcp: Tcp, zone: &str) -> Fake {
        let (socket, listener) = bound();
        let address = socket.local_addr().unwrap();
        let fake = Fake { address, udp: Arc::default(), tcp: Arc::default() };
        let (udp_count, zone_text) = (Arc::clone(&fake.udp), zone.to_owned());
        thread::spawn(move || {
            let zone = Table::parse(&zone_text).unwrap();
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                let n = udp_count.fetch_add(1, Ordering::SeqCst);
                for octets in tricked(trick, &buffer[..length], &zone, n) {
                    let _ = socket.send_to(&octets, peer);
                }
            }
        });
        if tcp == Tcp::Open {
            let (tcp_count, zone_text) = (Arc::clone(&fake.tcp), zone.to_owned());
            thread::spawn(move || {
                let zone = Table::parse(&zone_text).unwrap();
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    tcp_count.fetch_add(1, Ordering::SeqCst);
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut query).unwrap();
                    let answer = answer(&query, &zone);
                    let answer = if trick == Trick::FoldsCase { folded(answer) } else { answer };
                    stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).unwrap();
                }
            });
        }
        fake
    }

    fn udp(&self) -> usize {
        self.udp.load(Ordering::SeqCst)
    }

    fn tcp(&self) -> usize {
        self.tcp.load(Ordering::SeqCst)
    }
}

/// The same free port for both; with a closed listener TCP is refused.
fn bound() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
            return (socket, listener);
        }
    }
}

fn soa(owner: &Name) -> Vec<RawRecord> {
    let rdata = parse_rdata(RecordType::SOA, "ns.test h.test 1 2 3 4 30").unwrap();
    vec![RawRecord { owner: owner.clone(), rtype: RecordType::SOA, ttl: 30, rdata }]
}

/// One step of the zone, CNAMEs not followed.
fn answer(query: &[u8], zone: &Table) -> Vec<u8> {
    let message = Message::read(query).unwrap();
    let asked = message.question().unwrap();
    let (name, kind) = (asked.name.clone(), asked.rtype);
    let error = [ExtendedError::new(InfoCode(22), "at delegation")];
    let none = Reply::of(Rcode::NO_ERROR);
    match zone.find(&name, kind) {
        Step::Records(records) => write_reply(&message, &Reply { answers: &records, ..none }, 65_535),
        Step::Cname(record) => write_reply(&message, &Reply { answers: &[record], ..none }, 65_535),
        Step::NoData => write_reply(&message, &Reply { authority: &soa(&name), ..none }, 65_535),
        Step::Fault(Fault::NoSuchName) => write_reply(&message, &Reply { rcode: Rcode::NX_DOMAIN, authority: &soa(&name), ..none }, 65_535),
        Step::Fault(_) => write_reply(&message, &Reply { rcode: Rcode::SERV_FAIL, errors: &error, ..none }, 65_535),
    }
}

fn folded(mut answer: Vec<u8>) -> Vec<u8> {
    let mut at = 12;
    while answer[at] != 0 {
        let end = at + 1 + usize::from(answer[at]);
        answer[at + 1..end].make_ascii_lowercase();
        at = end;
    }
    answer
}

fn tricked(trick: Trick, query: &[u8], zone: &Table, n: usize) -> Vec<Vec<u8>> {
    let message = Message::read(query).unwrap();
    let right = answer(query, zone);
    let code = |rcode| vec![write_reply(&message, &Reply::of(rcode), 1232)];
    match trick {
        Trick::Silent => Vec::new(),
        Trick::SilentAboutOne if message.question().unwrap().name == Name::parse("fails.example").unwrap() => Vec::new(),
        Trick::SilentBelow if message.question().unwrap().name.is_at_or_below(&Name::parse("silent.example").unwrap()) => Vec::new(),
        Trick::SilentOnce if n == 0 => Vec::new(),
        Trick::Truncated => {
            let mut cut = write_reply(&message, &Reply::of(Rcode::NO_ERROR), 1232);
            cut[2] |= 2;
            vec![cut]
        }
        Trick::WrongFirst => {
            let change = |at: usize, octet: u8| {
                let mut wrong = right.clone();
                wrong[at] ^= octet;
                wrong
            };
            // ID, a query instead of an answer, another name, another type, nothing at all
            vec![
                change(1, 1),
                change(2, 0x80),
                change(13, 3),
                change(12 + message.question().unwrap().octets.len() - 3, 1),
                Vec::new(),
                right,
            ]
        }
        Trick::Garbage => vec![[&query[..2], &[0xff; 40]].concat()],
        Trick::FoldsCase => vec![folded(right)],
        // Only the header comes back.
        Trick::NoEdns if message.edns().is_some() => vec![[&query[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat()],
        Trick::Slow => {
            thread::sleep(Duration::from_millis(120));
            vec![right]
        }
        Trick::ServFail => code(Rcode::SERV_FAIL),
        Trick::Refused => code(Rcode::REFUSED),
        Trick::BadCookie if n == 0 => code(Rcode::BAD_COOKIE),
        _ => vec![right],
    }
}

fn resolver(upstreams: &[SocketAddr]) -> (Resolver, Hand) {
    let (clock, hand) = Clock::settable(UnixTime(1_800_000_000));
    let upstreams = Upstreams::Listed(upstreams.iter().copied().map(UpstreamAddress::from).collect());
    let resolver = Resolver::new(upstreams, clock, Rc::new(Metrics::default()));
    // These zones are not signed, and stand below no anchor; `resolver_proofs.rs` has the signed ones.
    let anchors = Anchors::parse("elsewhere. DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000").unwrap();
    resolver.set_beliefs(Beliefs { policy: Policy { anchors: Rc::new(anchors), ..Policy::default() }, ..Beliefs::default() });
    (resolver, hand)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    pipit::net::run(&smol::LocalExecutor::new(), future)
}

fn mx(resolver: &Resolver, name: &str) -> Answer<Mx> {
    run(resolver.lookup::<Mx>(&Name::parse(name).unwrap()))
}

fn found(answer: &Answer<Mx>) -> bool {
    matches!(answer.judge(), Judged::Insecure(Found::Records([mx])) if mx.preference == 10)
}

fn dead() -> SocketAddr {
    bound().0.local_addr().unwrap()
}

#[test]
fn tricks_that_are_worked_around() {
    // trick, TCP, queries by UDP and TCP for the first lookup
    let rows = [
        (Trick::None, Tcp::Refused, 1, 0),
        (Trick::SilentOnce, Tcp::Refused, 2, 0),
        (Trick::SilentOnce, Tcp::Open, 1, 1),
        (Trick::Truncated, Tcp::Open, 1, 1),
        (Trick::WrongFirst, Tcp::Refused, 1, 0),
        (Trick::Garbage, Tcp::Open, 1, 1),
        (Trick::FoldsCase, Tcp::Open, 1, 1),
        (Trick::FoldsCase, Tcp::Refused, 2, 0),
        (Trick::NoEdns, Tcp::Refused, 2, 0),
        (Trick::Slow, Tcp::Refused, 1, 0),
        (Trick::BadCookie, Tcp::Open, 2, 0),
    ];
    for (trick, tcp, by_udp, by_tcp) in rows {
        let fake = Fake::start(trick, tcp, ZONE);
        let (resolver, _hand) = resolver(&[fake.address]);
        let answer = mx(&resolver, "example.org");
        assert!(found(&answer), "{trick:?} {answer:?}");
        assert_eq!((fake.udp(), fake.tcp()), (by_udp, by_tcp), "{trick:?}");
        assert_eq!(resolver.problem(), None);
        if matches!(trick, Trick::FoldsCase | Trick::NoEdns) {
            resolver.flush();
            assert!(found(&mx(&resolver, "example.org")));
            assert_eq!(fake.udp(), by_udp + 1, "{trick:?} is remembered");
        }
    }
}

#[test]
fn failures_say_whose_they_are() {
    let failed = |trick| {
        let fake = Fake::start(trick, Tcp::Refused, ZONE);
        let (resolver, _hand) = resolver(&[fake.address]);
        let answer = mx(&resolver, "fails.example");
        let Judged::Failed(trouble) = answer.judge() else { panic!("{trick:?}: {answer:?}") };
        trouble.clone()
    };
    // The zone alone fails: the control question was answered.
    let zone = failed(Trick::None);
    assert_eq!(zone.cause, TroubleCause::Zone);
    assert_eq!(zone.errors[0].code, InfoCode(22));
    assert!(zone.errors[0].text.starts_with("upstream 127.0.0.1:") && zone.errors[0].text.ends_with("at delegation"), "{zone}");
    // Else mail to a dead domain would never grow old.
    let silent = failed(Trick::SilentAboutOne);
    assert_eq!((silent.cause, silent.errors[0].code), (TroubleCause::Zone, InfoCode::NO_REACHABLE_AUTHORITY));
    for trick in [Trick::ServFail, Trick::Refused, Trick::Truncated] {
        assert_eq!(failed(trick).cause, TroubleCause::Ours, "{trick:?}");
    }
}

#[test]
fn whom_we_did_not_get_round_to_ask_about_is_not_to_blame() {
    let fake = Fake::start(Trick::SilentBelow, Tcp::Refused, ZONE);
    let (resolver, _hand) = resolver(&[fake.address]);
    assert!(found(&mx(&resolver, "example.org")), "it reaches the DNS");
    let executor = smol::LocalExecutor::new();
    pipit::net::run(&executor, async {
        let crowd = (0..400).map(|n| {
            let (resolver, name) = (resolver.clone(), Name::parse(&format!("x{n}.silent.example")).unwrap());
            executor.spawn(async move { drop(resolver.query(&name, RecordType::MX).await) })
        });
        let _crowd: Vec<_> = crowd.collect();
        smol::Timer::after(Duration::from_millis(100)).await;
        let answer: Answer<Mx> = resolver.lookup(&Name::parse("www.example.org").unwrap()).await;
        let Judged::Failed(trouble) = answer.judge() else { panic!("there was no crowd: {answer:?}") };
        assert_eq!(trouble.cause, TroubleCause::Ours, "{trouble}");
    });
}

#[test]
fn a_failure_from_memory_says_so() {
    let fake = Fake::start(Trick::None, Tcp::Refused, ZONE);
    let (resolver, _hand) = resolver(&[fake.address]);
    for cached in [0, 1, 1] {
        let answer = mx(&resolver, "fails.example");
        let Judged::Failed(trouble) = answer.judge() else { panic!("{answer:?}") };
        assert_eq!(trouble.errors.iter().filter(|error| error.code == InfoCode::CACHED_ERROR).count(), cached, "{trouble}");
        assert_ne!(trouble.errors[0].code, InfoCode::CACHED_ERROR);
    }
}

#[test]
fn who_refuses_everything_is_a_problem_until_it_does_not() {
    let fake = Fake::start(Trick::Refused, Tcp::Refused, ZONE);
    let (resolver, _hand) = resolver(&[fake.address]);
    mx(&resolver, "example.org");
    mx(&resolver, "example.net");
    assert!(resolver.problem().unwrap().contains("answers REFUSED"));
}

#[test]
fn nobody_there() {
    let begun = Instant::now();
    let (refused, _hand) = resolver(&[dead()]);
    let answer = mx(&refused, "example.org");
    let Judged::Failed(trouble) = answer.judge() else { panic!("{answer:?}") };
    assert_eq!((trouble.cause, trouble.errors[0].code), (TroubleCause::Ours, InfoCode::NETWORK_ERROR));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(refused.problem().unwrap().contains("cannot be reached"));

    let silent = Fake::start(Trick::Silent, Tcp::Refused, ZONE);
    let (waiting, _hand) = resolver(&[silent.address]);
    let answer = mx(&waiting, "example.org");
    let Judged::Failed(trouble) = answer.judge() else { panic!("{answer:?}") };
    assert_eq!((trouble.cause, trouble.errors[0].code), (TroubleCause::Ours, InfoCode::NO_REACHABLE_AUTHORITY));
    assert!((8..13).contains(&begun.elapsed().as_secs()) && (4..8).contains(&silent.udp()), "{} queries", silent.udp());

    let (none, _hand) = resolver(&[]);
    assert!(matches!(mx(&none, "example.org").judge(), Judged::Failed(trouble) if trouble.cause == TroubleCause::Ours));
    assert!(none.problem().is_some());
}

#[test]
fn another_upstream_helps() {
    let good = Fake::start(Trick::None, Tcp::Refused, ZONE);
    for trick in [Trick::Silent, Trick::ServFail, Trick::Refused, Trick::Truncated] {
        let bad = Fake::start(trick, Tcp::Refused, ZONE);
        let (resolver, _hand) = resolver(&[bad.address, good.address]);
        let begun = Instant::now();
        assert!(found(&mx(&resolver, "example.org")), "{trick:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{trick:?} {:?}", begun.elapsed());
        assert_eq!(resolver.problem(), None);
    }
    let (resolver, _hand) = resolver(&[dead(), good.address]);
    assert!(found(&mx(&resolver, "example.org")));
}

#[test]
fn cnames_are_followed_eleven_links_far() {
    let mut zone = ZONE.to_owned();
    for n in 0..12 {
        zone.push_str(&format!("n{n}.example CNAME {}\n", if n == 11 { "example.org".to_owned() } else { format!("n{}.example", n + 1) }));
    }
    let fake = Fake::start(Trick::None, Tcp::Refused, &zone);
    let (resolver, _hand) = resolver(&[fake.address]);
    let one = mx(&resolver, "www.example.org");
    assert!(found(&one));
    assert_eq!((one.owner().to_string().as_str(), one.links().len()), ("example.org.", 1));
    assert_eq!(mx(&resolver, "n1.example").links().len(), 11);
    for name in ["n0.example", "loop.example"] {
        assert!(matches!(mx(&resolver, name).judge(), Judged::Failed(trouble) if trouble.cause == TroubleCause::Zone), "{name}");
    }
    assert!(fake.udp() < 40, "{}", fake.udp());
}

#[test]
fn what_is_known_is_not_asked_again() {
    let fake = Fake::start(Trick::None, Tcp::Refused, ZONE);
    let (resolver, hand) = resolver(&[fake.address]);
    // name, seconds for which the outcome is kept
    for (name, age) in [("example.org", 60), ("gone.example", 30), ("mx.example.org", 30), ("fails.example", 5)] {
        mx(&resolver, name);
        let before = fake.udp();
        hand.advance(Duration::from_secs(age - 1));
        mx(&resolver, &name.to_uppercase());
        assert_eq!(fake.udp(), before, "{name}");
        hand.advance(Duration::from_secs(1));
        mx(&resolver, name);
        assert!(fake.udp() > before, "{name}");
    }
    let nothing = mx(&resolver, "mx.example.org");
    assert!(matches!(nothing.judge(), Judged::Insecure(Found::NoData)));
    assert!(matches!(mx(&resolver, "gone.example").judge(), Judged::Insecure(Found::NoSuchName)));
}

#[test]
fn the_command_says_who_strips_signatures() {
    let fake = Fake::start(Trick::None, Tcp::Refused, ZONE);
    let named = format!("upstream {}", fake.address);
    // arguments, exit status, what stands in the output
    let rows: [(&[&str], i32, &str); 4] = [
        (&["www.example.org", "MX"], 1, "status  bogus"),
        (&["www.example.org", "MX"], 1, &named),
        (&["fails.example", "A"], 1, "at delegation"),
        (&["gone.example", "A", "--json"], 1, "\"rcode\":\"SERVFAIL\",\"status\":\"bogus\""),
    ];
    for (words, exit, expected) in rows {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pipit"));
        let output = command.args(["dns", "lookup", "--upstream", &fake.address.to_string()]).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(exit) && text.contains(expected), "{words:?}: {output:?}");
    }
}

#[test]
fn equal_questions_in_flight_are_one() {
    let fake = Fake::start(Trick::Slow, Tcp::Refused, ZONE);
    let (resolver, _hand) = resolver(&[fake.address]);
    let executor = smol::LocalExecutor::new();
    let name = Name::parse("example.org").unwrap();
    pipit::net::run(&executor, async {
        // Who asked first goes away; the others must not wait for him.
        let first = executor.spawn({
            let (resolver, name) = (resolver.clone(), name.clone());
            async move { resolver.query(&name, RecordType::MX).await }
        });
        smol::future::yield_now().await;
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (resolver, name) = (resolver.clone(), name.clone());
                executor.spawn(async move { resolver.query(&name, RecordType::MX).await.rcode() })
            })
            .collect();
        smol::Timer::after(Duration::from_millis(50)).await;
        first.cancel().await;
        for task in tasks {
            assert_eq!(task.await, Rcode::NO_ERROR);
        }
    });
    assert_eq!(fake.udp(), 2);
}
