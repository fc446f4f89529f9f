//! Queries by hand against the zone of localserve, in memory and over sockets.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use ring::rand::SystemRandom;
use smol::LocalExecutor;

use super::*;
use crate::metrics::Metrics;
use crate::net::breathe::StallMeter;
use crate::net::clock::RELEASED;
use crate::net::resolver::Beliefs;
use crate::net::resolver::Resolver;
use crate::net::resolver::TrustAd;
use crate::net::resolver::Upstreams;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::Section;
use crate::world::names::LOCALSERVE;
use crate::world::names::World;
use crate::world::tree::Draft;

/// A query with RD; `payload` makes an OPT with DO.
fn query(name: &str, rtype: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(payload.is_some())];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend(rtype.0.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    if let Some(payload) = payload {
        out.extend([0, 0, 41]);
        out.extend(payload.to_be_bytes());
        out.extend([0, 0, 0x80, 0, 0, 0]);
    }
    out
}

fn known() -> Known {
    let long: String = (0..200).map(|n| format!("many.test A 192.0.2.{n}\n")).collect();
    let tree = Draft::parse(&format!("{LOCALSERVE}{long}"), &SystemRandom::new()).unwrap().finish();
    Known { tree, clock: Clock::host(RELEASED) }
}

#[test]
fn an_answer_looks_like_a_resolvers() {
    let asked = query("fRiEnD.TeSt", RecordType::MX, Some(1232));
    let reply = answer(&known(), &asked, Carrier::Udp).unwrap();
    assert_eq!(reply[..4], [0xab, 0xcd, 0x81, 0x80]);
    let message = Message::read(&reply).unwrap();
    assert_eq!(message.question().unwrap().octets, &asked[12..asked.len() - 11], "the letters as they were asked");
    assert_eq!((message.rcode(), message.is_authoritative(), message.is_truncated()), (Rcode::NO_ERROR, false, false));
    let edns = message.edns().unwrap();
    assert_eq!((edns.udp_payload, edns.dnssec_ok), (PAYLOAD, true));
    let kinds: Vec<RecordType> = message.records(Section::Answer).map(|entry| entry.rtype()).collect();
    assert_eq!(kinds, [RecordType::MX, RecordType::RRSIG]);
    let missing = answer(&known(), &query("missing.test", RecordType::A, None), Carrier::Udp).unwrap();
    let message = Message::read(&missing).unwrap();
    assert_eq!((message.rcode(), message.edns().is_none()), (Rcode::NX_DOMAIN, true));
    let kinds: Vec<RecordType> = message.records(Section::Authority).map(|entry| entry.rtype()).collect();
    assert_eq!(kinds, [RecordType::SOA], "no proofs without DO");
}

#[test]
fn checking_is_left_to_whoever_asks() {
    for name in ["friend.test", "bogus.test"] {
        let mut asked = query(name, RecordType::MX, Some(1232));
        // AD and CD.
        asked[3] = 0x30;
        let reply = answer(&known(), &asked, Carrier::Udp).unwrap();
        assert_eq!(reply[2..4], [0x81, 0x90], "CD comes back, AD does not");
        asked[3] = 0;
        assert_eq!(answer(&known(), &asked, Carrier::Udp).unwrap()[2..4], [0x81, 0x80], "{name}");
    }
}

#[test]
fn long_answers_are_cut_over_udp_only() {
    let asked = query("many.test", RecordType::A, Some(4096));
    let cut = answer(&known(), &asked, Carrier::Udp).unwrap();
    let message = Message::read(&cut).unwrap();
    assert!(message.is_truncated() && cut.len() < 100);
    let whole = answer(&known(), &asked, Carrier::Tcp).unwrap();
    assert_eq!(Message::read(&whole).unwrap().records(Section::Answer).count(), 201, "and a signature");
}

#[test]
fn what_is_no_query_is_refused_or_left_alone() {
    let known = known();
    let rcode = |octets: &[u8]| answer(&known, octets, Carrier::Udp).map(|reply| Message::read(&reply).unwrap().rcode());
    let good = query("friend.test", RecordType::MX, Some(1232));
    let with = |at: usize, octet: u8| {
        let mut changed = good.clone();
        changed[at] = octet;
        changed
    };
    assert_eq!(rcode(&[1, 2]), None);
    assert_eq!(rcode(&with(2, 0x81)), None, "an answer");
    assert_eq!(rcode(&good[..11]), Some(Rcode::FORM_ERR));
    assert_eq!(rcode(&good[..20]), Some(Rcode::FORM_ERR));
    assert_eq!(rcode(&with(5, 2)), Some(Rcode::FORM_ERR), "two questions");
    assert_eq!(rcode(&with(2, 0x29)), Some(Rcode::NOT_IMP), "an update");
    assert_eq!(rcode(&with(good.len() - 5, 1)), Some(Rcode::BAD_VERS));
    assert_eq!(rcode(&query("friend.test", RecordType::ANY, None)), Some(Rcode::REFUSED));
    assert_eq!(rcode(&with(12 + 13 + 3, 3)), Some(Rcode::REFUSED), "class CHAOS");
}

#[test]
fn both_sockets_answer() {
    let sockets = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sockets.address().unwrap();
    let asking = std::thread::spawn(move || {
        let asked = query("mx.friend.test", RecordType::A, None);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(IDLE)).unwrap();
        udp.send_to(&asked, address).unwrap();
        let mut buffer = [0; 512];
        let length = udp.recv(&mut buffer).unwrap();
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(IDLE)).unwrap();
        let mut framed = u16::try_from(asked.len()).unwrap().to_be_bytes().to_vec();
        framed.extend_from_slice(&asked);
        // Twice on one connection.
        for _ in 0..2 {
            tcp.write_all(&framed).unwrap();
            let mut reply = vec![0; 2 + length];
            tcp.read_exact(&mut reply).unwrap();
            assert_eq!(reply[2..], buffer[..length]);
        }
        let message = Message::read(&buffer[..length]).unwrap();
        let entry = message.records(Section::Answer).next().unwrap();
        (entry.owner().unwrap(), entry.rtype())
    });
    let executor = Rc::new(LocalExecutor::new());
    let tasks = Tasks::new(Rc::clone(&executor), StallMeter::new(), Rc::new(Metrics::default()));
    start(&tasks, sockets, known()).unwrap();
    let done = crate::net::run(&executor, async {
        while !asking.is_finished() {
            crate::net::deadline::sleep(Duration::from_millis(5)).await;
        }
        asking.join().unwrap()
    });
    assert_eq!(done, (Name::parse("mx.friend.test").unwrap(), RecordType::A));
}

/// The resolver of the program, over sockets, as the servers of localserve have it.
#[test]
fn our_resolver_proves_what_is_told() {
    let sockets = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sockets.address().unwrap();
    let executor = Rc::new(LocalExecutor::new());
    let metrics = Rc::new(Metrics::default());
    let tasks = Tasks::new(Rc::clone(&executor), StallMeter::new(), Rc::clone(&metrics));
    let world = World::new(&SystemRandom::new()).unwrap();
    let anchors = Rc::new(Anchors::parse(&world.anchor()).unwrap());
    let clock = Clock::host(RELEASED);
    start(&tasks, sockets, Known { tree: world.finish(), clock: clock.clone() }).unwrap();
    let resolver = Resolver::new(Upstreams::Listed(vec![address.into()]), clock, metrics);
    resolver.set_beliefs(Beliefs { policy: Policy { anchors, ..Policy::default() }, trust_ad: TrustAd::No });
    let rows = [
        ("_25._tcp.mx.dane.test", RecordType::TLSA, "secure"),
        ("_25._tcp.mx.opportunistic.test", RecordType::TLSA, "secure"),
        ("www.friend.test", RecordType::A, "secure"),
        ("missing.test", RecordType::MX, "secure"),
        ("plain.test", RecordType::MX, "insecure"),
        ("example.org", RecordType::MX, "insecure"),
        ("1.0.0.127.in-addr.arpa", RecordType::PTR, "insecure"),
        ("bogus.test", RecordType::MX, "bogus"),
        ("bogus.test", RecordType::DS, "secure"),
    ];
    crate::net::run(&executor, async {
        for (name, kind, expected) in rows {
            let verdict = resolver.query(&Name::parse(name).unwrap(), kind).await;
            assert_eq!(verdict.state().to_string(), expected, "{name} {kind}: {}", verdict.reason);
        }
    });
}
