//! Plays every course of events of `tests/rollover/` through the state machine of RFC 5011, with a clock that is set.
//!
//! Each look is followed by a round through a real store. Keys are made for the run from their letters; the sets are signed
//! with `ring`. `tests/rollover/README.md` has the format.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "resolver/signed.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod signed;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use pipit::admin::Instance;
use pipit::app::anchors::Keeper;
use pipit::config::check::check;
use pipit::config::live::Live;
use pipit::config::settings::TrustAnchor;

use pipit::mail::date::UnixTime;
use pipit::metrics::Metrics;
use pipit::net::clock::Clock;
use pipit::net::offload::Offload;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::Upstreams;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::ClockTrust;
use pipit::proto::dns::dnssec::When;
use pipit::proto::dns::dnssec::anchor::Anchor;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::dnskey::Dnskey;
use pipit::proto::dns::dnssec::ds::Ds;
use pipit::proto::dns::dnssec::rollover::Kept;
use pipit::proto::dns::dnssec::rollover::Look;
use pipit::proto::dns::dnssec::rollover::Rollover;
use pipit::proto::dns::dnssec::rollover::State;
use pipit::proto::dns::dnssec::rrset::Received;
use pipit::proto::dns::dnssec::rrset::RrSet;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::RawRecord;
use pipit::proto::dns::upstream::UpstreamAddress;
use pipit::store::Options;
use pipit::store::Store;
use pipit::store::anchors;
use ring::digest;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair;
use signed::Said;
use signed::Signed;

/// Fewer scenarios than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 18;
const DAY: i64 = 86_400;
const ED25519: u8 = 15;

fn pair(letter: char) -> Ed25519KeyPair {
    let seed = digest::digest(&digest::SHA256, format!("key {letter}").as_bytes());
    Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap()
}

/// `A`, `A!`, `z`.
fn dnskey(word: &str) -> Dnskey {
    let letter = word.chars().next().unwrap();
    let flags: u16 = 256 | u16::from(letter.is_uppercase()) | if word.ends_with('!') { 128 } else { 0 };
    let octets = [&flags.to_be_bytes()[..], &[3, ED25519], pair(letter).public_key().as_ref()].concat();
    Dnskey::decode(&octets).unwrap()
}

fn ds(word: &str) -> Ds {
    Ds::of(&Name::root(), &dnskey(word), 2).unwrap()
}

fn built_in(words: &[&str]) -> Anchors {
    Anchors::none().with_positive(Name::root(), Anchor { ds: words.iter().map(|word| ds(word)).collect(), keys: Vec::new() })
}

/// What the signatures of a set are like.
struct Manner {
    ttl: u32,
    left: i64,
}

fn record(kind: RecordType, ttl: u32, rdata: Vec<u8>) -> RawRecord {
    RawRecord { owner: Name::root(), rtype: kind, ttl, rdata }
}

fn signature(set: &RrSet, signer: &str, manner: &Manner, now: UnixTime) -> Vec<u8> {
    let (word, right) = signer.strip_prefix('~').map_or((signer, true), |word| (word, false));
    let (end, start) = (now.plus(manner.left * DAY).0 as u32, now.plus(-20 * DAY).0 as u32);
    let tag = dnskey(word).tag;
    let mut rdata = [&RecordType::DNSKEY.0.to_be_bytes()[..], &[ED25519, 0], &manner.ttl.to_be_bytes()].concat();
    rdata.extend([&end.to_be_bytes()[..], &start.to_be_bytes(), &tag.to_be_bytes(), &[0]].concat());
    let mut octets = rdata.clone();
    set.canonical_form(&Name::root(), manner.ttl, &mut octets);
    if !right {
        octets.push(0);
    }
    rdata.extend(pair(word.chars().next().unwrap()).sign(&octets).as_ref());
    rdata
}

fn signed_set(keys: &[&str], signers: &[&str], manner: &Manner, now: UnixTime) -> RrSet {
    Received::new(Rcode::NO_ERROR, signed_records(keys, signers, manner, now), []).answer.remove(0)
}

fn signed_records(keys: &[&str], signers: &[&str], manner: &Manner, now: UnixTime) -> Vec<RawRecord> {
    let mut records: Vec<RawRecord> = keys.iter().map(|word| record(RecordType::DNSKEY, manner.ttl, dnskey(word).encode())).collect();
    let set = Received::new(Rcode::NO_ERROR, records.clone(), []).answer.remove(0);
    records.extend(signers.iter().map(|signer| record(RecordType::RRSIG, manner.ttl, signature(&set, signer, manner, now))));
    records
}

/// One scenario under way.
struct Play {
    store: Store,
    rollover: Rollover,
    when: When,
    look: Option<Look>,
}

impl Play {
    fn save(&self) {
        let written = self.rollover.clone();
        smol::block_on(self.store.write(move |w| anchors::set_root(w, &written))).unwrap();
    }

    fn see(&mut self, words: &[&str]) {
        let mut manner = Manner { ttl: 172_800, left: 20 };
        let end = words.iter().position(|word| *word == "signed").unwrap();
        let more = words[end..].iter().position(|word| ["expired", "ttl", "left"].contains(word)).map_or(words.len(), |at| end + at);
        let mut options = words[more..].iter();
        while let Some(option) = options.next() {
            match *option {
                "expired" => manner.left = -1,
                "ttl" => manner.ttl = options.next().unwrap().parse().unwrap(),
                "left" => manner.left = options.next().unwrap().parse().unwrap(),
                other => panic!("{other}"),
            }
        }
        let set = signed_set(&words[..end], &words[end + 1..more], &manner, self.when.now);
        let (look, changes) = self.rollover.look(&set, self.when);
        assert!(changes.iter().all(|change| change.to_string().contains(&change.tag.to_string())));
        self.look = Some(look);
        self.save();
    }

    fn keys(&self) -> BTreeMap<String, &'static str> {
        let letter = |ds_of: &Ds| ('A'..='Z').find(|letter| ds(&letter.to_string()) == *ds_of).unwrap().to_string();
        let state = |state| match state {
            State::Pending { .. } => "pending",
            State::Valid => "valid",
            State::Missing => "missing",
            State::Revoked { .. } => "revoked",
            State::Removed => "removed",
        };
        self.rollover.keys.iter().map(|kept| (letter(&kept.ds), state(kept.state))).collect()
    }

    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "built-in" => {
                let learnt = self.store.read(anchors::root).unwrap();
                self.rollover = learnt.unwrap_or_else(|| Rollover::new(Name::root())).seed(&built_in(&words[1..]));
            }
            "at" => {
                let number = |from: usize, to: usize| words[1].get(from..to).map_or(0, |digits| digits.parse::<u32>().unwrap());
                let seconds = i64::from(number(11, 13)) * 3600;
                self.when.now = UnixTime::from_civil(i64::from(number(0, 4)), number(5, 7), number(8, 10), seconds).unwrap();
            }
            "clock" => {
                self.when.clock = if words[1] == "confirmed" { ClockTrust::Confirmed } else { ClockTrust::Plausible };
            }
            "see" => self.see(&words[1..]),
            "nothing" => self.rollover.fail(self.when.now),
            "look" => {
                let look = match self.look.as_ref().unwrap() {
                    Look::NotNow => "not-now",
                    Look::Unproved(why) => {
                        assert!(!why.is_empty());
                        "unproved"
                    }
                    Look::Seen => "seen",
                };
                assert_eq!(look, words[1]);
            }
            "keys" => {
                let wanted = words[1..].iter().map(|word| word.split_once('=').unwrap()).map(|(key, state)| (key.to_owned(), state));
                assert_eq!(self.keys(), wanted.collect::<BTreeMap<_, _>>());
            }
            "believed" => {
                let mut believed = self.rollover.anchors().positive(&Name::root()).map_or(Vec::new(), |anchor| anchor.ds.clone());
                let mut wanted: Vec<Ds> = words[1..].iter().filter(|word| **word != "none").map(|word| ds(word)).collect();
                believed.sort_by_key(|ds| ds.digest.clone());
                wanted.sort_by_key(|ds| ds.digest.clone());
                assert_eq!(believed, wanted);
                assert_eq!(self.rollover.anchors().is_empty(), wanted.is_empty());
            }
            "again" => {
                let wait = self.rollover.next.unwrap().0 - self.when.now.0;
                assert_eq!(wait, words[1].parse::<i64>().unwrap() * 3600);
            }
            other => panic!("{other} is no step"),
        }
    }
}

fn play(file: &Path, dir: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::create_dir_all(dir).unwrap();
    let store = Store::open(dir, Options { map_size: Some(16 << 20) }).unwrap();
    let when = When { now: UnixTime(0), clock: ClockTrust::Confirmed };
    let mut play = Play { store, rollover: Rollover::new(Name::root()), when, look: None };
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with(';')) {
        eprintln!("{}:{}: {line}", file.file_name().unwrap().to_string_lossy(), at + 1);
        play.step(line);
    }
    smol::block_on(play.store.close());
}

#[test]
fn every_course_of_events_ends_as_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollover");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= AT_LEAST, "{files:?}");
    let scratch = std::env::temp_dir().join(format!("pipit-rollover-{}", std::process::id()));
    for (n, file) in files.iter().enumerate() {
        play(file, &scratch.join(n.to_string()));
    }
    std::fs::remove_dir_all(scratch).unwrap();
}

const TEXT: &str = "hostname = \"m.example.org\"\n[[domain]]\nname = \"example.org\"\n";

/// The states of the keys made here; the real root's, which are built in, are left out.
fn stored_states(store: &Store) -> Vec<(char, State)> {
    let rollover = store.read(anchors::root).unwrap().unwrap();
    let letter = |kept: &Kept| ('A'..='C').find(|letter| ds(&letter.to_string()) == kept.ds);
    rollover.keys.iter().filter_map(|kept| Some((letter(kept)?, kept.state))).collect()
}

/// A directory that nobody serves.
fn instance(dir: &Path, clock: &Clock, metrics: Rc<Metrics>) -> Instance {
    Instance {
        store: Store::open(dir, Options { map_size: Some(16 << 20) }).unwrap(),
        live: Rc::new(Live::new(check(TEXT).unwrap())),
        file: dir.join("pipit.toml"),
        metrics,
        clock: clock.clone(),
        offload: Offload::start().unwrap(),
        serving: None,
    }
}

/// A server over real sockets: it asks when it is time, keeps what it sees, and its resolver believes accordingly.
#[test]
fn a_server_follows_the_keys_of_the_root() {
    let dir = std::env::temp_dir().join(format!("pipit-rollover-server-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let begin = UnixTime::from_civil(2027, 1, 1, 0).unwrap();
    let (clock, hand) = Clock::settable(begin);
    let told: Arc<Mutex<Vec<RawRecord>>> = Arc::default();
    let telling = Arc::clone(&told);
    let upstream = Signed::start(move |asked, said| {
        if asked.is(".", RecordType::DNSKEY) {
            *said = Said { answer: telling.lock().unwrap().clone(), ..Said::code(Rcode::NO_ERROR) };
        }
    });
    let show = |keys: &[&str], signers: &[&str]| {
        let now = clock.now();
        *told.lock().unwrap() = signed_records(keys, signers, &Manner { ttl: 172_800, left: 20 }, now);
    };
    let metrics = Rc::new(Metrics::default());
    let upstreams = Upstreams::Listed(vec![UpstreamAddress::Plain(upstream.address)]);
    let resolver = Resolver::new(upstreams, clock.clone(), Rc::clone(&metrics));
    let instance = instance(&dir, &clock, metrics);
    pipit::net::run(&smol::LocalExecutor::new(), async {
        let learnt = Rollover::new(Name::root()).seed(&built_in(&["A"]));
        instance.store.write(move |w| anchors::set_root(w, &learnt)).await.unwrap();
        let keeper = Keeper::begin(&instance.store, resolver, &instance.live.current(), clock.now());
        assert_eq!(keeper.problem(&instance.live.current()), None);
        show(&["A", "B", "z"], &["A"]);
        keeper.attend(&instance).await;
        let day = |days: i64| begin.plus(days * DAY);
        assert_eq!(stored_states(&instance.store), [('A', State::Valid), ('B', State::Pending { until: day(30) })]);
        // Not again before it is time, and not with a time in doubt.
        keeper.attend(&instance).await;
        hand.set(day(-400));
        keeper.attend(&instance).await;
        hand.set(day(8000));
        keeper.attend(&instance).await;
        assert_eq!(upstream.asked().len(), 1);
        hand.set(begin);
        hand.advance(Duration::from_secs(31 * 86_400));
        clock.raise_floor(begin);
        show(&["A", "B", "z"], &["A"]);
        keeper.attend(&instance).await;
        assert_eq!(stored_states(&instance.store), [('A', State::Valid), ('B', State::Valid)]);
        hand.advance(Duration::from_secs(2 * 86_400));
        show(&["A!", "B", "z"], &["A!", "B"]);
        keeper.attend(&instance).await;
        assert_eq!(stored_states(&instance.store), [('A', State::Revoked { until: day(63) }), ('B', State::Valid)]);
        assert_eq!(upstream.asked().len(), 2);
        // Nobody answers: an hour or more later again, and nothing is forgotten.
        told.lock().unwrap().clear();
        hand.advance(Duration::from_secs(2 * 86_400));
        keeper.attend(&instance).await;
        hand.advance(Duration::from_secs(1800));
        keeper.attend(&instance).await;
        assert_eq!(upstream.asked().len(), 1);
        assert_eq!(stored_states(&instance.store).len(), 2);
        instance.store.clone().close().await;
    });
    std::fs::remove_dir_all(dir).unwrap();
}

/// What cannot be read is neither written over nor forgotten to be told, until a file of anchors makes it matter no more.
#[test]
fn a_damaged_state_is_left_for_a_person() {
    let dir = std::env::temp_dir().join(format!("pipit-rollover-damaged-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (clock, hand) = Clock::settable(UnixTime::from_civil(2027, 1, 1, 0).unwrap());
    let upstream = Signed::honest();
    let resolver = |metrics| Resolver::new(Upstreams::Listed(vec![UpstreamAddress::Plain(upstream.address)]), clock.clone(), metrics);
    let first = instance(&dir, &clock, Rc::default());
    pipit::net::run(&smol::LocalExecutor::new(), async {
        let learnt = Rollover::new(Name::root()).seed(&built_in(&["A"]));
        first.store.write(move |w| anchors::set_root(w, &learnt)).await.unwrap();
        first.store.clone().close().await;
    });
    drop(first);
    let file = dir.join("mail.mdb");
    let mut octets = std::fs::read(&file).unwrap();
    let key = b"trust-anchors";
    let places: Vec<usize> = (0..octets.len() - key.len()).filter(|at| octets[*at..].starts_with(key)).collect();
    assert!(!places.is_empty());
    // The version of the value, behind its key.
    places.iter().for_each(|at| octets[at + key.len()] = 0xee);
    std::fs::write(&file, octets).unwrap();
    let metrics = Rc::new(Metrics::default());
    let instance = instance(&dir, &clock, Rc::clone(&metrics));
    pipit::net::run(&smol::LocalExecutor::new(), async {
        let keeper = Keeper::begin(&instance.store, resolver(metrics), &instance.live.current(), clock.now());
        for _ in 0..3 {
            keeper.attend(&instance).await;
            hand.advance(Duration::from_secs(2 * 86_400));
        }
        assert!(keeper.problem(&instance.live.current()).unwrap().contains("dns.trust-anchor"));
        assert!(instance.store.read(anchors::root).is_err(), "written over");
        assert_eq!(upstream.asked().len(), 0);
        let mut settings = (*instance.live.current()).clone();
        let anchors = built_in(&["A"]);
        settings.dns.trust_anchor = Some(TrustAnchor { file: "/x".into(), line: 1, anchors });
        assert_eq!(keeper.problem(&settings), None);
        instance.store.clone().close().await;
    });
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn who_believes_more_is_told() {
    let (a, ab) = (Rollover::new(Name::root()).seed(&built_in(&["A"])), Rollover::new(Name::root()).seed(&built_in(&["A", "B"])));
    assert!(ab.believes_more_than(&a) && !a.believes_more_than(&ab) && !a.believes_more_than(&a));
    let mut revoked = ab.clone();
    revoked.keys[0].state = State::Revoked { until: UnixTime(0) };
    assert!(!revoked.believes_more_than(&ab) && ab.believes_more_than(&revoked));
}
