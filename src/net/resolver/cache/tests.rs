//! What is kept for how long, what it costs, and what goes first.

use super::*;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::walk::Trust;
use crate::proto::dns::lookup::Proof;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::reader::RawRecord;

const WALL: UnixTime = UnixTime(1_800_000_000);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn key(n: u64) -> Key {
    (name(&format!("n{n}.example")), RecordType::MX)
}

fn verdict(outcome: Outcome, ttl: u32) -> Rc<Verdict> {
    Rc::new(Verdict { outcome, ttl, ..Verdict::failed(key(0).0, Trouble::indeterminate("")) })
}

fn proved(found: Found) -> Outcome {
    Outcome::Proved { proof: Proof::Secure, found }
}

fn records(ttl: u32) -> Rc<Verdict> {
    verdict(proved(Found::Records(Vec::new())), ttl)
}

fn failed(trouble: Trouble) -> Rc<Verdict> {
    verdict(Outcome::Failed(trouble), 0)
}

fn zone(at: &str, seconds: i64) -> Rc<Zone> {
    Rc::new(Zone { name: name(at), trust: Trust::Insecure { why: "x".repeat(1000), error: None }, until: WALL.plus(seconds) })
}

fn holds_for(cache: &mut Cache, at: &Key, now: Instant, age: Duration) -> bool {
    let moment = Duration::from_millis(1);
    cache.find(at, now + age - moment).is_some() && cache.find(at, now + age).is_none()
}

#[test]
fn ages_have_their_limits() {
    let now = Instant::now();
    let mut cache = Cache::new(MAX_OCTETS);
    let rows = [
        (records(60), 60),
        (records(u32::MAX), 86_400),
        (verdict(proved(Found::NoData), 90_000), 3600),
        (verdict(proved(Found::NoSuchName), 10), 10),
        (failed(Trouble::indeterminate("")), 5),
        (failed(Trouble::bogus("")), 60),
    ];
    for (n, (verdict, age)) in rows.into_iter().enumerate() {
        cache.keep(&key(n as u64), &verdict, now);
        assert!(holds_for(&mut cache, &key(n as u64), now, Duration::from_secs(age)), "{verdict:?}");
    }
    cache.keep(&key(9), &records(0), now);
    assert!(cache.find(&key(9), now).is_none());
}

#[test]
fn failures_are_kept_twice_as_long_each_time() {
    let mut now = Instant::now();
    let mut cache = Cache::new(MAX_OCTETS);
    let rows = [(Trouble::indeterminate(""), &[5, 10, 20, 40, 80, 160, 300, 300][..]), (Trouble::bogus(""), &[60, 120, 240, 300, 300])];
    for (n, (trouble, ages)) in rows.into_iter().enumerate() {
        let key = key(n as u64);
        for age in ages {
            cache.keep(&key, &failed(trouble.clone()), now);
            assert!(holds_for(&mut cache, &key, now, Duration::from_secs(*age)), "{age}");
            now += Duration::from_secs(age + 1);
        }
    }
    cache.keep(&key(1), &records(1), now);
    cache.keep(&key(1), &failed(Trouble::unreachable("")), now);
    assert!(holds_for(&mut cache, &key(1), now, FIRST_FAILURE_AGE), "begins anew after a success");
    cache.forget_our_failures();
    assert!(cache.find(&key(1), now).is_none() && cache.entries.contains_key(&Slot::Verdict(key(0))));
}

#[test]
fn the_least_recently_used_goes_first() {
    let now = Instant::now();
    let mut cache = Cache::new(20_000);
    for n in 0..1000 {
        cache.keep(&key(n), &records(60), now);
        assert!(cache.find(&key(0), now).is_some(), "used again and again");
        assert!(cache.octets() <= 20_000 && cache.order.len() == cache.entries.len());
    }
    assert!(cache.find(&key(1), now).is_none() && cache.find(&key(999), now).is_some());
    assert_eq!(cache.octets, cache.entries.values().map(|entry| entry.octets).sum());
    assert!(cache.entries.len() > 20);
}

#[test]
fn zones_are_found_from_the_deepest_up_until_both_their_ends() {
    let now = Instant::now();
    let mut cache = Cache::new(MAX_OCTETS);
    for (at, seconds) in [(".", 100), ("org", 50), ("example.org", 100), ("net", 100), ("later.example.org", 0)] {
        cache.keep_zone(&zone(at, seconds), now, WALL);
    }
    let mut names = |passed: u64, wall: i64| -> Vec<String> {
        let zones = cache.zones_above(&name("www.Later.example.ORG"), now + Duration::from_secs(passed), WALL.plus(wall));
        zones.iter().map(|zone| zone.name.to_string()).collect()
    };
    assert_eq!(names(0, 0), ["example.org.", "org.", "."]);
    assert_eq!(names(50, 50), ["example.org.", "."]);
    // A wall clock that is put forward, and one that is put back, make nothing live longer.
    assert_eq!(names(0, 60), ["example.org.", "."]);
    assert_eq!(names(60, -1000), ["example.org.", "."]);
    assert!(names(100, 0).is_empty());
}

#[test]
fn a_zone_costs_once_and_as_long_as_somebody_holds_it() {
    let now = Instant::now();
    let mut cache = Cache::new(60_000);
    let shared = zone("example", 86_400);
    let with_zone = |zone: &Rc<Zone>| Rc::new(Verdict { chain: vec![Rc::clone(zone)], ..Verdict::clone(&records(60)) });
    cache.keep_zone(&shared, now, WALL);
    let alone = cache.octets();
    assert!(alone > 1000);
    cache.keep(&key(1), &with_zone(&shared), now);
    cache.keep(&key(2), &with_zone(&shared), now);
    assert!(cache.octets() < alone + 1500, "{} {alone}", cache.octets());
    // Another proof of the same zone takes its place; the verdicts hold the former.
    cache.keep_zone(&zone("example", 86_400), now, WALL);
    assert!(cache.octets() > 2 * alone);
    cache.keep(&key(1), &records(60), now);
    assert!(cache.octets() > 2 * alone);
    cache.keep(&key(2), &records(60), now);
    assert!(cache.octets() < 2 * alone);
    // Zones of their own push out what is older, and are gone with their verdicts.
    for n in 0..1000 {
        cache.keep(&key(n), &with_zone(&zone(&format!("n{n}.example"), 60)), now);
        assert!(cache.octets() <= 60_000);
    }
    assert!(cache.entries.len() > 10);
    cache.clear();
    assert_eq!(cache.octets(), 0);
}

#[test]
fn what_is_counted_is_not_less_than_what_is_held() {
    let record = RawRecord { owner: key(0).0, rtype: RecordType::TXT, ttl: 60, rdata: vec![0; 5000] };
    let heavy = verdict(proved(Found::Records(vec![record; 3])), 60);
    assert!((15_000..17_000).contains(&ledger::verdict_octets(&heavy)));
    let errors = vec![crate::proto::dns::lookup::ExtendedError::new(crate::proto::dns::lookup::InfoCode::OTHER, "x".repeat(500)); 4];
    let trouble = Trouble { errors, ..Trouble::bogus("") };
    assert!(ledger::verdict_octets(&failed(trouble)) > 2000);
}
