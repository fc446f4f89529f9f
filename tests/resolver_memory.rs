//! What 5,000 names in the memory of the resolver cost: a process of its own, so that the figure is that of the memory alone.
//!
//! Each name is an unsigned zone below a signed root, the dearest of the usual kinds: its denial of DS is signed as it is
//! asked for, with Ed25519.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use pipit::mail::date::UnixTime;
use pipit::metrics::Metrics;
use pipit::net::clock::Clock;
use pipit::net::resolver::Beliefs;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::TrustAd;
use pipit::net::resolver::Upstreams;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::canonical;
use pipit::proto::dns::dnssec::dnskey::Dnskey;
use pipit::proto::dns::dnssec::presentation::parse_record;
use pipit::proto::dns::dnssec::rrset::Received;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::lookup::ValidationState;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reader::RawRecord;
use pipit::proto::dns::reply::Reply;
use pipit::proto::dns::reply::write_reply;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair;

const NOW: i64 = 1_800_000_000;
const NAMES: usize = 5000;
/// Names that are kept at least: a home knows fewer correspondents.
const KEPT: usize = 2500;
const MAX_OCTETS: usize = 8 * 1024 * 1024;

/// The root, and its only key.
struct Root(Ed25519KeyPair);

impl Root {
    fn key(&self) -> RawRecord {
        let key = Dnskey::decode(&[&[1, 1, 3, 15], self.0.public_key().as_ref()].concat()).unwrap();
        RawRecord { owner: Name::root(), rtype: RecordType::DNSKEY, ttl: 86_400, rdata: key.encode() }
    }

    /// The record, and a signature behind it.
    fn sign(&self, record: RawRecord) -> Vec<RawRecord> {
        let set = Received::new(Rcode::NO_ERROR, [record.clone()], []).answer.remove(0);
        let mut octets = set.kind.0.to_be_bytes().to_vec();
        octets.extend([15, canonical::label_count(&set.owner) as u8]);
        for number in [set.ttl, NOW as u32 + 86_400, NOW as u32 - 86_400] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend(Dnskey::decode(&self.key().rdata).unwrap().tag.to_be_bytes());
        octets.push(0);
        let mut rdata = octets.clone();
        set.canonical_form(&set.owner, set.ttl, &mut octets);
        rdata.extend(self.0.sign(&octets).as_ref());
        let signature = RawRecord { owner: set.owner.clone(), rtype: RecordType::RRSIG, ttl: set.ttl, rdata };
        vec![record, signature]
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let message = Message::read(query).unwrap();
        let asked = message.question().unwrap();
        let name = asked.name.to_string();
        let line = |line: String| parse_record(&line).unwrap();
        let (answers, authority) = match asked.rtype {
            RecordType::DNSKEY => (self.sign(self.key()), Vec::new()),
            RecordType::DS => {
                let next = format!("{}0.", name.trim_end_matches('.'));
                (Vec::new(), self.sign(line(format!("{name} 3600 NSEC {next} NS RRSIG NSEC"))))
            }
            _ => (vec![line(format!("{name} 3600 MX 10 mail.{name}")), line(format!("{name} 3600 MX 20 backup.{name}"))], Vec::new()),
        };
        write_reply(&message, &Reply { answers: &answers, authority: &authority, ..Reply::of(Rcode::NO_ERROR) }, 1232)
    }
}

fn serve(root: Root) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            socket.send_to(&root.answer(&buffer[..length]), peer).unwrap();
        }
    });
    (address, count)
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn five_thousand_names_cost_eight_mebibytes_at_most() {
    let root = Root(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
    let anchors = Anchors::parse(&root.key().to_string()).unwrap();
    let (address, count) = serve(root);
    let (clock, _hand) = Clock::settable(UnixTime(NOW));
    let resolver = Resolver::new(Upstreams::Listed(vec![address.into()]), clock, Rc::new(Metrics::default()));
    let policy = Policy { anchors: Rc::new(anchors), ..Policy::default() };
    resolver.set_beliefs(Beliefs { policy, trust_ad: TrustAd::No });
    let names: Vec<Name> = (0..NAMES).map(|n| Name::parse(&format!("correspondent{n}")).unwrap()).collect();
    pipit::net::run(&smol::LocalExecutor::new(), async {
        // What the first lookup costs once is not the memory's.
        resolver.query(&Name::parse("warm").unwrap(), RecordType::MX).await;
        let before = resident();
        for name in &names {
            let verdict = resolver.query(name, RecordType::MX).await;
            assert_eq!(verdict.state(), ValidationState::Insecure, "{verdict:?}");
        }
        let grown = resident().saturating_sub(before);
        let asked = count.load(Ordering::SeqCst);
        assert_eq!(asked, 2 * NAMES + 3);
        // From the youngest on, for as long as they are known.
        let mut kept = 0;
        for name in names.iter().rev() {
            resolver.query(name, RecordType::MX).await;
            if count.load(Ordering::SeqCst) > asked {
                break;
            }
            kept += 1;
        }
        println!("{kept} of {NAMES} names are kept; the process grew by {} KiB", grown / 1024);
        assert!(kept >= KEPT, "only {kept} are kept");
        assert!(grown <= MAX_OCTETS, "grown by {grown} octets");
    });
}
