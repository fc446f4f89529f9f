//! Random operations on a store, several at once, against a model in memory; the store is closed and opened in between.
//!
//! After every opening the invariants of `store::check` hold and the store says what the model says. The seed is
//! printed; `PIPIT_SEED=n` repeats a run, `PIPIT_ROUNDS=n` makes it longer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::envelope::RequireTls;
use pipit::mail::path::ReversePath;
use pipit::store::AccountId;
use pipit::store::BlobId;
use pipit::store::Error;
use pipit::store::MessageId;
use pipit::store::NewAccount;
use pipit::store::Options;
use pipit::store::Spool;
use pipit::store::Store;
use pipit::store::Uid;
use pipit::store::accounts;
use pipit::store::blobs;
use pipit::store::check;
use pipit::store::mailboxes;
use pipit::store::messages;
use pipit::store::messages::Flags;
use pipit::store::messages::NewMessage;
use pipit::store::messages::Reception;
use smol::LocalExecutor;
use smol::block_on;
use smol::future::poll_once;

const ROUNDS: u64 = 100;
const REOPEN_EVERY: u64 = 20;
const TRACE: &[u8] = b"Received: by test\r\n";

/// splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }
}

/// Octets that follow from a number, so that the model needs to keep only the number and the length.
fn octets(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    seed: u64,
    length: usize,
    flags: Flags,
}

/// What the store must say.
#[derive(Default)]
struct Model {
    accounts: BTreeMap<AccountId, BTreeMap<MessageId, Expected>>,
    made: u64,
}

#[derive(Clone, Debug)]
enum Fate {
    Delivered,
    JobFails,
    JobPanics,
    DroppedWhileSpooling,
    DroppedBeforeTheChange,
    FutureDropped,
}

#[derive(Clone, Debug)]
enum Operation {
    Deliver { to: Vec<AccountId>, seed: u64, length: usize, fate: Fate },
    Remove(AccountId, MessageId),
    Flag(AccountId, MessageId, Flags),
}

#[derive(Debug)]
enum Effect {
    Nothing,
    Filed(Vec<(AccountId, MessageId)>, Expected),
    Removed(AccountId, MessageId),
    Flagged(AccountId, MessageId, Flags),
}

fn new_message(blob: BlobId) -> NewMessage {
    NewMessage {
        blob,
        return_path: ReversePath::Null,
        delivered_to: Address::parse("x@example.org").unwrap(),
        flags: Flags::NONE,
        received: UnixTime(0),
        digest: Digest::default(),
        auth_results: String::new(),
        require_tls: RequireTls::Default,
        reception: Reception::default(),
    }
}

async fn deliver(store: Store, to: Vec<AccountId>, seed: u64, length: usize, fate: Fate) -> Effect {
    let bytes = octets(seed, length);
    let mut spool = Spool::new(&store, 100_000 + length / 3);
    for part in bytes.chunks(70_001) {
        spool.push(part).await.unwrap();
        if matches!(fate, Fate::DroppedWhileSpooling) && seed.is_multiple_of(3) {
            return Effect::Nothing;
        }
    }
    if matches!(fate, Fate::DroppedWhileSpooling) {
        return Effect::Nothing;
    }
    let spooled = spool.finish(TRACE.to_vec()).unwrap();
    if matches!(fate, Fate::DroppedBeforeTheChange) {
        return Effect::Nothing;
    }
    let ending = fate.clone();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let change = store.write(move |w| {
        let blob = blobs::adopt(w, spooled, u32::try_from(to.len()).unwrap())?;
        for account in to {
            let inbox = mailboxes::inbox(&w.reader(), account)?.ok_or_else(|| Error::Withdrawn("gone".into()))?;
            let filed = messages::file(w, account, inbox, new_message(blob))?;
            telling.lock().unwrap().push((account, filed.id));
        }
        match ending {
            Fate::JobFails => Err(Error::Withdrawn("as the test asked".into())),
            Fate::JobPanics => panic!("as the test asked"),
            _ => Ok(()),
        }
    });
    let outcome = match fate {
        // The change goes on without its future; an empty one behind it tells when it is done.
        Fate::FutureDropped => {
            let _ = poll_once(Box::pin(change)).await;
            store.write(|_| Ok(())).await
        }
        _ => change.await,
    };
    match (fate, outcome) {
        (Fate::JobFails, Err(Error::Withdrawn(_))) | (Fate::JobPanics, Err(Error::Panicked)) => Effect::Nothing,
        (Fate::Delivered | Fate::FutureDropped, Ok(())) => {
            let filed = told.lock().unwrap().clone();
            Effect::Filed(filed, Expected { seed, length, flags: Flags::NONE })
        }
        other => panic!("{other:?}"),
    }
}

async fn perform(store: Store, operation: Operation) -> Effect {
    match operation {
        Operation::Deliver { to, seed, length, fate } => deliver(store, to, seed, length, fate).await,
        Operation::Remove(account, id) => {
            assert!(store.write(move |w| messages::remove(w, account, id)).await.unwrap().is_some());
            Effect::Removed(account, id)
        }
        Operation::Flag(account, id, flags) => {
            assert!(store.write(move |w| messages::set_flags(w, account, id, flags)).await.unwrap().is_some());
            Effect::Flagged(account, id, flags)
        }
    }
}

impl Model {
    /// Operations that can go on at once: no two of them touch the same message.
    fn plan(&self, random: &mut Random) -> Vec<Operation> {
        let accounts = self.accounts.keys().copied().collect::<Vec<_>>();
        let mut messages = self.accounts.iter().flat_map(|(a, m)| m.keys().map(|id| (*a, *id))).collect::<Vec<_>>();
        let mut operations = Vec::new();
        for _ in 0..=random.below(12) {
            let existing = (!messages.is_empty()).then(|| messages.swap_remove(random.below(messages.len())));
            operations.push(match (random.below(10), existing) {
                (0..3, Some((account, id))) => Operation::Remove(account, id),
                (3..5, Some((account, id))) => Operation::Flag(account, id, [Flags::SEEN, Flags::NONE, Flags::FLAGGED][random.below(3)]),
                _ => self.plan_delivery(&accounts, random),
            });
        }
        operations
    }

    fn plan_delivery(&self, accounts: &[AccountId], random: &mut Random) -> Operation {
        let mut to = accounts.iter().copied().filter(|_| random.below(2) == 0).collect::<Vec<_>>();
        if to.is_empty() {
            to.extend(random.pick(accounts));
        }
        let length = match random.below(10) {
            0 => random.below(3_000_000),
            1 => blobs::CHUNK * random.below(20),
            2..4 => random.below(200_000),
            _ => random.below(5_000),
        };
        let fate = match random.below(12) {
            0 => Fate::JobFails,
            1 => Fate::JobPanics,
            2 => Fate::DroppedWhileSpooling,
            3 => Fate::DroppedBeforeTheChange,
            4 => Fate::FutureDropped,
            _ => Fate::Delivered,
        };
        Operation::Deliver { to, seed: random.next(), length, fate }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Filed(filed, expected) => {
                for (account, id) in filed {
                    self.accounts.get_mut(&account).unwrap().insert(id, expected);
                }
            }
            Effect::Removed(account, id) => {
                self.accounts.get_mut(&account).unwrap().remove(&id);
            }
            Effect::Flagged(account, id, flags) => {
                self.accounts.get_mut(&account).unwrap().get_mut(&id).unwrap().flags = flags;
            }
        }
    }

    fn change_accounts(&mut self, store: &Store, random: &mut Random) {
        if self.accounts.len() < 2 || (self.accounts.len() < 6 && random.below(3) == 0) {
            self.made += 1;
            let address = Address::parse(&format!("user{}@example.org", self.made)).unwrap();
            let new = NewAccount { address, password: String::new(), created: UnixTime(0) };
            let id = block_on(store.write(move |w| accounts::create(w, new))).unwrap().unwrap();
            self.accounts.insert(id, BTreeMap::new());
        } else if random.below(20) == 0 {
            let ids = self.accounts.keys().copied().collect::<Vec<_>>();
            let id = *random.pick(&ids).unwrap();
            block_on(store.write(move |w| accounts::remove(w, id))).unwrap().unwrap();
            self.accounts.remove(&id);
        }
    }

    fn compare(&self, store: &Store) {
        let listed = store.read(|r| accounts::list(r, None, 200)).unwrap();
        assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), self.accounts.keys().copied().collect::<Vec<_>>());
        for (account, expected) in &self.accounts {
            let inbox = store.read(|r| mailboxes::inbox(r, *account)).unwrap().unwrap();
            let mut seen = 0;
            let mut after = Uid(0);
            loop {
                let page = store.read(|r| messages::list(r, *account, inbox, after, 50)).unwrap();
                let Some((_, last)) = page.last() else { break };
                after = last.uid;
                for (id, message) in &page {
                    let want = expected.get(id).unwrap_or_else(|| panic!("message {id} is too much"));
                    assert_eq!(message.flags, want.flags);
                    assert_eq!(whole(store, message.blob), [TRACE, &octets(want.seed, want.length)[..]].concat(), "message {id}");
                    seen += 1;
                }
            }
            assert_eq!(seen, expected.len());
        }
    }
}

fn whole(store: &Store, blob: BlobId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = 0;
    while let Some(chunk) = store.read(|r| blobs::chunk(r, blob, number)).unwrap() {
        bytes.extend(chunk);
        number += 1;
    }
    bytes
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { map_size: Some(1 << 30) }).unwrap()
}

fn no_findings(store: &Store) {
    assert_eq!(store.read(check::everything).unwrap(), []);
}

#[test]
fn random_operations_leave_a_store_without_findings() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_environment("PIPIT_SEED").unwrap_or(u64::try_from(now.as_micros()).unwrap());
    println!("PIPIT_SEED={seed}");
    let dir = std::env::temp_dir().join(format!("pipit-random-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let mut random = Random(seed);
    let mut model = Model::default();
    let mut store = open(&dir);
    for round in 1..=from_environment("PIPIT_ROUNDS").unwrap_or(ROUNDS) {
        model.change_accounts(&store, &mut random);
        let executor = LocalExecutor::new();
        let tasks = model.plan(&mut random).into_iter().map(|op| executor.spawn(perform(store.clone(), op))).collect::<Vec<_>>();
        block_on(executor.run(async {
            for task in tasks {
                model.apply(task.await);
            }
        }));
        drop(executor);
        if round % REOPEN_EVERY == 0 {
            no_findings(&store);
            block_on(store.close());
            store = open(&dir);
            no_findings(&store);
            model.compare(&store);
        }
    }
    let counters = store.counters();
    no_findings(&store);
    model.compare(&store);
    println!("{counters:?}");
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}
