//! The queue at random and at size: against a model, and with 20,000 messages for 1,000 domains.
//!
//! `PIPIT_SEED=n` repeats a random run. The ignored test measures:
//! `cargo test --release --test store_queue -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::domain::Domain;
use pipit::mail::enhanced::EnhancedStatus;
use pipit::mail::envelope::Body;
use pipit::mail::envelope::RequireTls;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::store::Error;
use pipit::store::Options;
use pipit::store::QueueId;
use pipit::store::Spool;
use pipit::store::Spooled;
use pipit::store::Store;
use pipit::store::Writer;
use pipit::store::blobs;
use pipit::store::check;
use pipit::store::messages::Reception;
use pipit::store::queue;
use pipit::store::queue::Event;
use pipit::store::queue::LastAttempt;
use pipit::store::queue::More;
use pipit::store::queue::NewQueued;
use pipit::store::queue::NewRecipient;
use pipit::store::queue::Origin;
use pipit::store::queue::PutOff;
use pipit::store::queue::Settlement;
use smol::block_on;

/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pipit-queue-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { map_size: Some(1 << 30) }).unwrap()
}

fn spooled(store: &Store) -> Spooled {
    let mut spool = Spool::new(store, 1 << 20);
    block_on(spool.push(b"x")).unwrap();
    spool.finish(b"Received: by test\r\n".to_vec()).unwrap()
}

/// From inside a change: a message that arrived at `arrived`.
fn enqueue(w: &mut Writer<'_>, spooled: Spooled, id: QueueId, arrived: i64, to: &[String]) -> Result<(), Error> {
    let recipients = to.iter().map(|text| Address::parse(text).unwrap());
    let recipients = recipients.map(|address| NewRecipient { address, notify: Notify::Unset, orcpt: None }).collect();
    let blob = blobs::adopt(w, spooled, 1)?;
    let new = NewQueued {
        id,
        blob,
        reverse_path: ReversePath::Null,
        sender: None,
        origin: Origin::Submitted,
        body: Body::SevenBit,
        smtp_utf8: false,
        ret: Ret::Unset,
        envid: None,
        arrived: UnixTime(arrived),
        digest: Digest::default(),
        reception: Reception::default(),
        wish: RequireTls::Default,
        recipients,
    };
    queue::enqueue(w, new)
}

fn last(at: i64) -> LastAttempt {
    LastAttempt {
        at: UnixTime(at),
        host: "mx.test".into(),
        address: "192.0.2.1".into(),
        reply: "450 later".into(),
        status: EnhancedStatus::new(4, 2, 0),
        tls: None,
        remote: true,
    }
}

fn event(at: i64) -> Event {
    Event { at: UnixTime(at), what: "as the test asked".into() }
}

fn domain(number: u64) -> Domain {
    Domain::parse(&format!("d{number}.test")).unwrap()
}

/// splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What must be there: the domain of each recipient.
type Model = BTreeMap<(QueueId, u32), Domain>;

/// One operation, in the store and in the model; a change that fails on purpose leaves no trace.
fn operate(store: &Store, model: &mut Model, random: &mut Random, now: i64) {
    let picked = model.keys().nth(usize::try_from(random.below(model.len().max(1) as u64)).unwrap()).copied();
    match (random.below(10), picked) {
        (0..2, _) => {
            let id = QueueId(now.unsigned_abs());
            let to: Vec<u64> = (0..=random.below(5)).map(|_| random.below(4)).collect();
            let texts: Vec<String> = to.iter().map(|number| format!("u@d{number}.test")).collect();
            let (spooled, fails) = (spooled(store), random.below(4) == 0);
            let outcome = block_on(store.write(move |w| {
                enqueue(w, spooled, id, now, &texts)?;
                if fails { Err(Error::Withdrawn("as the test asked".into())) } else { Ok(()) }
            }));
            assert_eq!(outcome.is_err(), fails);
            if !fails {
                model.extend((0u32..).zip(to).map(|(n, number)| ((id, n), domain(number))));
            }
        }
        (2..5, _) => attempt(store, model, random, now),
        (5, _) => {
            let (to, due) = (domain(random.below(4)), UnixTime(now + 50));
            assert_eq!(
                block_on(store.write(move |w| queue::put_off(w, &to, PutOff { now: UnixTime(now), due, last: last(now), blind: 0 })))
                    .unwrap(),
                More::No
            );
        }
        (verb, Some((id, n))) => {
            let steered = block_on(store.write(move |w| match verb {
                6 => queue::hold(w, id, n, "why".into(), event(now)),
                7 => queue::release(w, id, n, event(now)),
                8 => queue::fail(w, id, n, "why".into(), event(now)),
                _ => queue::remove(w, id, n),
            }));
            steered.unwrap();
            if verb == 9 {
                model.remove(&(id, n));
            }
        }
        (_, None) => {}
    }
}

/// Claims for a domain and settles each in one of all ways; some not at all.
fn attempt(store: &Store, model: &mut Model, random: &mut Random, now: i64) {
    let to = domain(random.below(4));
    let (claiming, limit) = (to.clone(), usize::try_from(1 + random.below(4)).unwrap());
    let claimed = block_on(store.write(move |w| queue::claim(w, &claiming, UnixTime(now), limit, |_, _| UnixTime(now + 30)))).unwrap();
    for claimed in claimed {
        for (n, recipient) in claimed.recipients {
            assert_eq!(model.get(&(claimed.id, n)), Some(&recipient.address.domain));
            assert_eq!(recipient.address.domain, to);
            let (id, due) = (claimed.id, UnixTime(now + 10));
            let settlement = match random.below(7) {
                0..2 => Settlement::Done,
                2..4 => Settlement::Retry { due, last: last(now), delay_told: false },
                4 => Settlement::Hold("why".into()),
                5 => Settlement::Crashed,
                _ if random.below(2) == 0 => {
                    block_on(store.write(move |w| queue::put_back(w, id, n, due))).unwrap();
                    continue;
                }
                _ => continue,
            };
            let is_done = settlement == Settlement::Done;
            block_on(store.write(move |w| queue::settle(w, id, n, settlement, event(now)))).unwrap();
            if is_done {
                model.remove(&(id, n));
            }
        }
    }
}

#[test]
fn random_operations_leave_a_queue_without_findings() {
    let micros = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let seed = std::env::var("PIPIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::try_from(micros).unwrap());
    println!("PIPIT_SEED={seed}");
    let scratch = Scratch::new("random");
    let (mut store, mut random, mut model) = (open(&scratch.0), Random(seed), Model::new());
    for now in 1..=1500 {
        operate(&store, &mut model, &mut random, now);
        if now % 50 == 0 {
            assert_eq!(store.read(check::everything).unwrap(), [], "at {now}");
            let listed = store.read(|r| queue::recipients_after(r, None, 10_000)).unwrap();
            let expected: Vec<(QueueId, u32)> = model.keys().copied().take(listed.len().max(1)).collect();
            assert_eq!(listed.iter().map(|(id, n, _)| (*id, *n)).collect::<Vec<_>>(), expected);
            assert_eq!(store.read(queue::counts).unwrap().recipients, model.len() as u64);
        }
        if now % 300 == 0 {
            block_on(store.close());
            store = open(&scratch.0);
        }
    }
}

/// `messages` for `domains` in turn, `batch` a commit.
fn fill(store: &Store, messages: u64, domains: u64, batch: u64) {
    for first in (0..messages).step_by(usize::try_from(batch).unwrap()) {
        let spooled: Vec<Spooled> = (0..batch).map(|_| spooled(store)).collect();
        block_on(store.write(move |w| {
            for (number, spooled) in (first..).zip(spooled) {
                let to = [format!("u@d{}.test", number % domains)];
                enqueue(w, spooled, QueueId(number), number.cast_signed(), &to)?;
            }
            Ok(())
        }))
        .unwrap();
    }
}

/// Takes and finishes everything that is due, destination by destination.
fn drain(store: &Store, now: i64) -> u64 {
    let mut done = 0;
    loop {
        let due = store.read(|r| queue::due_destinations(r, UnixTime(now), None, 200)).unwrap();
        if due.is_empty() {
            return done;
        }
        assert!(due.is_sorted());
        done += block_on(store.write(move |w| {
            let mut done = 0;
            for (_, to) in due {
                for claimed in queue::claim(w, &to, UnixTime(now), 20, |_, _| UnixTime(now + 300))? {
                    for (n, _) in claimed.recipients {
                        queue::settle(w, claimed.id, n, Settlement::Done, event(now))?;
                        done += 1;
                    }
                }
            }
            Ok(done)
        }))
        .unwrap();
    }
}

#[test]
fn a_dead_destination_among_a_thousand_costs_the_others_nothing() {
    let scratch = Scratch::new("size");
    let store = open(&scratch.0);
    fill(&store, 20_000, 1000, 500);
    block_on(store.close());
    let begun = Instant::now();
    let store = open(&scratch.0);
    println!("opened in {:?}", begun.elapsed());
    assert_eq!(store.read(queue::counts).unwrap().messages, 20_000);
    let first = store.read(|r| queue::due_destinations(r, UnixTime(30_000), None, 3)).unwrap();
    assert_eq!(first, [(UnixTime(0), domain(0)), (UnixTime(1), domain(1)), (UnixTime(2), domain(2))]);
    let put_off = PutOff { now: UnixTime(30_000), due: UnixTime(90_000), last: last(30_000), blind: 0 };
    let off = block_on(store.write(|w| queue::put_off(w, &domain(0), put_off))).unwrap();
    assert_eq!(off, More::No);
    assert_eq!(drain(&store, 30_000), 19_980);
    assert_eq!(store.read(queue::next_due).unwrap(), Some(UnixTime(90_000)));
    assert_eq!(store.read(check::everything).unwrap(), []);
    assert_eq!(drain(&store, 90_000), 20);
    assert_eq!(store.read(queue::counts).unwrap(), queue::QueueCounts::default());
    assert_eq!(store.read(check::everything).unwrap(), []);
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let scratch = Scratch::new("measure");
    let store = open(&scratch.0);
    for (messages, domains) in [(1000, 50), (20_000, 1000), (50_000, 1)] {
        let begun = Instant::now();
        fill(&store, messages, domains, 250);
        let filled = begun.elapsed();
        let begun = Instant::now();
        let counted = store.read(queue::counts).unwrap();
        let counting = begun.elapsed();
        assert_eq!(counted.messages, messages);
        let begun = Instant::now();
        assert_eq!(drain(&store, 100_000), messages);
        let drained = begun.elapsed();
        let each = |time: std::time::Duration| time / u32::try_from(messages).unwrap();
        println!(
            "{messages} messages, {domains} domains: {:?} to queue one, {:?} to claim and settle one, counted in {counting:?}",
            each(filled),
            each(drained)
        );
    }
}
