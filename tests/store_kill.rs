//! SIGKILL while messages are being stored (R2): every acknowledged one is there whole, nothing is there twice, no
//! invariant is broken, and nothing is left of those that were under way.
//!
//! The test runs itself as a child that stores messages from several tasks and writes the number of each acknowledged one
//! to its standard output; the parent kills it at some moment, opens the directory and compares. A killed process loses no
//! written page, so this proves atomicity and cleaning up; power cuts are simulated elsewhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::envelope::Body;
use pipit::mail::envelope::RequireTls;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::store::AccountId;
use pipit::store::BlobId;
use pipit::store::MailboxId;
use pipit::store::NewAccount;
use pipit::store::Options;
use pipit::store::QueueId;
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
use pipit::store::queue;
use pipit::store::queue::Event;
use pipit::store::queue::NewQueued;
use pipit::store::queue::NewRecipient;
use pipit::store::queue::Origin;
use pipit::store::queue::Settled;
use pipit::store::queue::Settlement;
use smol::LocalExecutor;
use smol::block_on;

const CHILD: &str = "PIPIT_STORE_KILL_CHILD";
const KILLS: u64 = 8;
const SESSIONS: u64 = 16;

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { map_size: Some(1 << 30) }).unwrap()
}

fn inbox(store: &Store) -> (AccountId, MailboxId) {
    let address = Address::parse("ann@example.org").unwrap();
    let id = match store.read(|r| accounts::find(r, &address)).unwrap() {
        Some(id) => id,
        None => {
            let new = NewAccount { address, password: String::new(), created: UnixTime(0) };
            block_on(store.write(move |w| accounts::create(w, new))).unwrap().unwrap()
        }
    };
    (id, store.read(|r| mailboxes::inbox(r, id)).unwrap().unwrap())
}

/// Half of the messages are large enough to be written ahead.
fn length(number: u64) -> usize {
    if number.is_multiple_of(2) { 700_000 } else { 3_000 }
}

/// Every third message goes out, too, and half of these are done before they are acknowledged.
fn is_queued(number: u64) -> bool {
    number.is_multiple_of(3)
}

fn is_settled(number: u64) -> bool {
    number.is_multiple_of(6)
}

fn new_queued(number: u64, blob: BlobId) -> NewQueued {
    let address = Address::parse(&format!("bob@d{}.test", number % 7)).unwrap();
    NewQueued {
        id: QueueId(number),
        blob,
        reverse_path: ReversePath::Null,
        sender: None,
        origin: Origin::Submitted,
        body: Body::SevenBit,
        smtp_utf8: false,
        ret: Ret::Unset,
        envid: None,
        arrived: UnixTime(0),
        digest: Digest::default(),
        reception: Reception::default(),
        wish: RequireTls::Default,
        recipients: vec![NewRecipient { address, notify: Notify::Unset, orcpt: None }],
    }
}

async fn deliver(store: &Store, to: (AccountId, MailboxId), number: u64) {
    let mut spool = Spool::new(store, 128 << 10);
    for part in vec![b'k'; length(number)].chunks(50_000) {
        spool.push(part).await.unwrap();
    }
    let spooled = spool.finish(format!("Received: {number}\r\n").into_bytes()).unwrap();
    let uses = if is_queued(number) { 2 } else { 1 };
    let change = store.write(move |w| {
        let blob = blobs::adopt(w, spooled, uses)?;
        if is_queued(number) {
            queue::enqueue(w, new_queued(number, blob))?;
        }
        let new = NewMessage {
            blob,
            return_path: ReversePath::Null,
            delivered_to: Address::parse("ann@example.org").unwrap(),
            flags: Flags::NONE,
            received: UnixTime(0),
            digest: Digest { subject: number.to_string(), ..Digest::default() },
            auth_results: String::new(),
            require_tls: RequireTls::Default,
            reception: Reception::default(),
        };
        let filed = messages::file(w, to.0, to.1, new)?;
        // Removals run beside: every fourth message goes again, large ones in steps.
        if number.is_multiple_of(4) { messages::remove(w, to.0, filed.id).map(|_| ()) } else { Ok(()) }
    });
    change.await.unwrap();
    if is_settled(number) {
        let event = Event { at: UnixTime(1), what: "sent".into() };
        let settled = store.write(move |w| queue::settle(w, QueueId(number), 0, Settlement::Done, event)).await;
        assert_eq!(settled, Ok(Settled::LastOne));
    }
    if !number.is_multiple_of(4) {
        println!("stored {number}");
    }
}

/// The child: stores until it is killed.
#[test]
fn child() {
    let Ok(place) = std::env::var(CHILD) else { return };
    let (dir, from) = place.rsplit_once(':').unwrap();
    let from: u64 = from.parse().unwrap();
    let store = open(Path::new(dir));
    let to = inbox(&store);
    let executor = LocalExecutor::new();
    for session in 0..SESSIONS {
        let store = store.clone();
        executor
            .spawn(async move {
                for number in (from + session..).step_by(usize::try_from(SESSIONS).unwrap()) {
                    deliver(&store, to, number).await;
                }
            })
            .detach();
    }
    println!("\nready");
    block_on(executor.run(std::future::pending::<()>()));
}

/// Runs the child for some milliseconds; the numbers it acknowledged.
fn run_and_kill(dir: &Path, from: u64, patience: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(CHILD, format!("{}:{from}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("stored ")?.parse().ok()).collect());
    std::thread::sleep(patience);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn stored(store: &Store) -> BTreeMap<u64, u64> {
    let (account, mailbox) = inbox(store);
    let mut found = BTreeMap::new();
    let mut after = Uid(0);
    loop {
        let page = store.read(|r| messages::list(r, account, mailbox, after, 200)).unwrap();
        let Some((_, last)) = page.last() else { return found };
        after = last.uid;
        for (_, message) in &page {
            let number = message.digest.subject.parse().unwrap();
            assert_eq!(found.insert(number, message.size), None, "message {number} is there twice");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("pipit-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        acknowledged.extend(run_and_kill(&dir, round * 1_000_000 + 1, Duration::from_millis(60 + round * 37)));
        let begun = Instant::now();
        let store = open(&dir);
        assert!(begun.elapsed() < Duration::from_secs(2), "opening took {:?}", begun.elapsed());
        let found = stored(&store);
        for number in &acknowledged {
            let size = length(*number) + format!("Received: {number}\r\n").len();
            assert_eq!(found.get(number), Some(&(size as u64)), "message {number} was acknowledged");
            let queued = store.read(|r| queue::get(r, QueueId(*number))).unwrap();
            assert_eq!(queued.is_some(), is_queued(*number) && !is_settled(*number), "message {number} of the queue");
        }
        assert_eq!(store.read(check::everything).unwrap(), []);
        block_on(store.close());
    }
    assert!(acknowledged.len() > 100, "only {} messages were acknowledged", acknowledged.len());
    println!("{} acknowledged, all there", acknowledged.len());
    std::fs::remove_dir_all(&dir).unwrap();
}
