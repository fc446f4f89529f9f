//! Figures of the store on this machine; they prove nothing and fail nothing but gross mistakes.
//! `cargo test --test store_measure -- --ignored --nocapture` (`PIPIT_MESSAGES=n` sets how many are stored).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Instant;

use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::envelope::RequireTls;
use pipit::mail::path::ReversePath;
use pipit::store::AccountId;
use pipit::store::BlobId;
use pipit::store::Error;
use pipit::store::MailboxId;
use pipit::store::NewAccount;
use pipit::store::Options;
use pipit::store::Spool;
use pipit::store::Store;
use pipit::store::accounts;
use pipit::store::blobs;
use pipit::store::check;
use pipit::store::mailboxes;
use pipit::store::messages;
use pipit::store::messages::Flags;
use pipit::store::messages::NewMessage;
use pipit::store::messages::Reception;
use pipit::store::stat;
use smol::LocalExecutor;
use smol::block_on;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("pipit-measure-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn new_message(blob: BlobId) -> NewMessage {
    let text = |text: &str| text.to_owned();
    NewMessage {
        blob,
        return_path: ReversePath::Address(Address::parse("somebody@example.net").unwrap()),
        delivered_to: Address::parse("ann@example.org").unwrap(),
        flags: Flags::NONE,
        received: UnixTime(1_790_000_000),
        digest: Digest { from: text("Some Body <somebody@example.net>"), subject: text("A subject as long as many"), ..Digest::default() },
        auth_results: text("mx.example.org; spf=pass smtp.mailfrom=example.net; dkim=pass header.d=example.net"),
        require_tls: RequireTls::Default,
        reception: Reception { client: text("192.0.2.1"), helo: text("mail.example.net"), ..Reception::default() },
    }
}

fn account(store: &Store) -> (AccountId, MailboxId) {
    let address = Address::parse("ann@example.org").unwrap();
    let new = NewAccount { address, password: String::new(), created: UnixTime(0) };
    let id = block_on(store.write(move |w| accounts::create(w, new))).unwrap().unwrap();
    (id, store.read(|r| mailboxes::inbox(r, id)).unwrap().unwrap())
}

async fn deliver(store: &Store, to: (AccountId, MailboxId), bytes: &[u8]) -> Result<BlobId, Error> {
    let mut spool = Spool::new(store, 256 << 10);
    spool.push(bytes).await?;
    let spooled = spool.finish(b"Received: from mail.example.net by mx.example.org\r\n".to_vec())?;
    store
        .write(move |w| {
            let blob = blobs::adopt(w, spooled, 1)?;
            messages::file(w, to.0, to.1, new_message(blob))?;
            Ok(blob)
        })
        .await
}

#[test]
#[ignore = "a measurement"]
fn group_commit() {
    let dir = scratch("group");
    let store = Store::open(&dir, Options::default()).unwrap();
    let to = account(&store);
    let bytes = vec![b'x'; 4096];
    for sessions in [1, 10, 100] {
        let (begun, before) = (Instant::now(), store.commits());
        let executor = LocalExecutor::new();
        let each = 1000 / sessions;
        for _ in 0..sessions {
            let (store, bytes) = (store.clone(), bytes.clone());
            executor
                .spawn(async move {
                    for _ in 0..each {
                        deliver(&store, to, &bytes).await.unwrap();
                    }
                })
                .detach();
        }
        block_on(executor.run(async {
            while !executor.is_empty() {
                smol::future::yield_now().await;
            }
        }));
        let rate = 1000.0 / begun.elapsed().as_secs_f64();
        println!("{sessions} sessions: {rate:.0} messages/s, {} syncs for 1000", store.commits() - before);
    }
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
#[ignore = "a measurement"]
fn memory_of_a_large_message() {
    let dir = scratch("large");
    let store = Store::open(&dir, Options::default()).unwrap();
    let to = account(&store);
    let piece = vec![b'x'; 100_000];
    let before = resident_kib();
    let mut spool = Spool::new(&store, 256 << 10);
    let mut peak = 0;
    for _ in 0..500 {
        block_on(spool.push(&piece)).unwrap();
        peak = peak.max(resident_kib());
    }
    let spooled = spool.finish(Vec::new()).unwrap();
    let blob = block_on(store.write(move |w| {
        let blob = blobs::adopt(w, spooled, 1)?;
        messages::file(w, to.0, to.1, new_message(blob))?;
        Ok(blob)
    }))
    .unwrap();
    println!("writing 50 MB: peak +{} KiB, after +{} KiB", peak - before, resident_kib().saturating_sub(before));
    let before = resident_kib();
    let (mut peak, mut number) = (0, 0);
    while store.read(|r| blobs::chunk(r, blob, number)).unwrap().is_some() {
        number += 1;
        peak = peak.max(resident_kib());
    }
    println!("reading {number} chunks: peak +{} KiB", peak.saturating_sub(before));
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
#[ignore = "a measurement"]
fn a_large_store() {
    let total: usize = std::env::var("PIPIT_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let dir = scratch("many");
    let store = Store::open(&dir, Options::default()).unwrap();
    let to = account(&store);
    for part in 0..10 {
        let begun = Instant::now();
        for _ in 0..total / 10 / 100 {
            let blobs: Vec<_> = (0..100).map(|_| Spool::new(&store, 1 << 20).finish(vec![b'x'; 500]).unwrap()).collect();
            let change = store.write(move |w| {
                for spooled in blobs {
                    let blob = blobs::adopt(w, spooled, 1)?;
                    messages::file(w, to.0, to.1, new_message(blob))?;
                }
                Ok(())
            });
            block_on(change).unwrap();
        }
        println!("part {part}: {:.1} µs a message", begun.elapsed().as_secs_f64() * 1e6 / (total / 10) as f64);
    }
    store.trim();
    let (before, begun) = (resident_kib(), Instant::now());
    assert_eq!(store.read(check::everything).unwrap(), []);
    println!("check: {:.1} s, resident {} KiB before, {} after", begun.elapsed().as_secs_f64(), before, resident_kib());
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", peak.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
    println!("{:?}", store.read(stat::tables).unwrap());
    block_on(store.close());
    let begun = Instant::now();
    let store = Store::open(&dir, Options::default()).unwrap();
    println!("opening: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}
