//! `pipit queue` and `pipit hold` on a directory without a server; the messages are put into its store by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::enhanced::EnhancedStatus;
use pipit::mail::envelope::Body;
use pipit::mail::envelope::RequireTls;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::store::OpenError;
use pipit::store::Options;
use pipit::store::QueueId;
use pipit::store::Spool;
use pipit::store::Store;
use pipit::store::blobs;
use pipit::store::messages::Reception;
use pipit::store::queue;
use pipit::store::queue::Event;
use pipit::store::queue::LastAttempt;
use pipit::store::queue::NewQueued;
use pipit::store::queue::NewRecipient;
use pipit::store::queue::Origin;
use pipit::store::queue::QueueCounts;
use pipit::store::queue::RecipientState;
use pipit::store::queue::Settlement;
use smol::block_on;

const ONE: &str = "1nfm2rbq0a1b2";
const TWO: &str = "1nfm2rcq0a1b2";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A directory with its configuration, removed when dropped.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// Two messages: ONE to x.test, y.test and x.test again, TWO to x.test from the null sender.
    fn new() -> Place {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Place(std::env::temp_dir().join(format!("pipit-queue-{}-{number}", std::process::id())));
        fs::create_dir_all(&place.0).unwrap();
        let text = format!("hostname = \"mx.home.test\"\ndir = \"{}\"\n[[domain]]\nname = \"home.test\"\n", place.0.display());
        fs::write(place.0.join("pipit.toml"), text).unwrap();
        place
    }

    fn filled() -> Place {
        let place = Place::new();
        place.with_store(|store| {
            enqueue(store, ONE, "<ann@home.test>", &["eve@x.test", "eve@y.test", "bob@x.test"]);
            enqueue(store, TWO, "<>", &["carl@x.test"]);
        });
        place
    }

    fn with_store<T>(&self, work: impl FnOnce(&Store) -> T) -> T {
        let store = open(&self.0);
        let value = work(&store);
        assert_eq!(store.read(pipit::store::check::everything).unwrap(), []);
        block_on(store.close());
        value
    }

    fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipit"));
        command.arg("--config").arg(self.0.join("pipit.toml")).args(words.split(' ')).output().unwrap()
    }

    fn fine(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stdout and stderr of a command that must end with 1.
    fn refused(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn counts(&self) -> (u64, u64, u64) {
        let QueueCounts { messages, recipients, held, .. } = self.with_store(|store| store.read(queue::counts).unwrap());
        (messages, recipients, held)
    }

    fn states(&self, id: &str) -> Vec<RecipientState> {
        let id = QueueId::parse(id).unwrap();
        let recipients = self.with_store(|store| store.read(|r| queue::recipients(r, id)).unwrap());
        recipients.into_iter().map(|(_, recipient)| recipient.state).collect()
    }
}

/// Another test's child process, between fork and exec, shares our lock for a moment: it is waited for.
fn open(dir: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(dir, Options { map_size: Some(64 << 20) }) {
            Err(OpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", dir.display());
}

fn enqueue(store: &Store, id: &str, from: &str, to: &[&str]) {
    let mut spool = Spool::new(store, 1 << 20);
    block_on(spool.push(b"Subject: tea\r\n\r\nx\r\n")).unwrap();
    let spooled = spool.finish(b"Received: by test\r\n".to_vec()).unwrap();
    let recipients = to.iter().map(|text| Address::parse(text).unwrap());
    let recipients = recipients.map(|address| NewRecipient { address, notify: Notify::Unset, orcpt: None }).collect();
    let (id, reverse_path) = (QueueId::parse(id).unwrap(), ReversePath::parse(from).unwrap());
    block_on(store.write(move |w| {
        let blob = blobs::adopt(w, spooled, 1)?;
        let new = NewQueued {
            id,
            blob,
            reverse_path,
            sender: None,
            origin: Origin::Submitted,
            body: Body::SevenBit,
            smtp_utf8: false,
            ret: Ret::Unset,
            envid: None,
            arrived: UnixTime(1_700_000_000),
            digest: Digest { subject: "tea".into(), ..Digest::default() },
            reception: Reception::default(),
            wish: RequireTls::Default,
            recipients,
        };
        queue::enqueue(w, new)
    }))
    .unwrap();
}

/// An attempt at the first recipient of ONE that the peer deferred, with a reply that would upset a terminal.
fn deferred(place: &Place) {
    let id = QueueId::parse(ONE).unwrap();
    let last = LastAttempt {
        at: UnixTime(1_700_000_100),
        host: "mx.x.test".into(),
        address: "192.0.2.7".into(),
        reply: "451 4.7.1 greylisted\u{1b}[31m".into(),
        status: EnhancedStatus::new(4, 7, 1),
        tls: None,
        remote: true,
    };
    let retry = Settlement::Retry { due: UnixTime(1_700_000_400), last, delay_told: false };
    let event = Event { at: UnixTime(1_700_000_100), what: "deferred by mx.x.test".into() };
    place.with_store(|store| block_on(store.write(move |w| queue::settle(w, id, 0, retry, event))).unwrap());
}

#[test]
fn the_queue_is_listed_and_shown() {
    let place = Place::new();
    let empty = place.run("queue list");
    assert!(empty.status.success() && empty.stdout.is_empty());
    assert!(String::from_utf8_lossy(&empty.stderr).contains("the queue is empty"));
    assert!(place.fine("status").contains("empty"));
    drop(place);
    let place = Place::filled();
    deferred(&place);
    let list = place.fine("queue list");
    assert_eq!(list.lines().count(), 3, "{list}");
    for part in ["eve@x.test +2", "2023-11-14T22:13:20Z", "greylisted", "<>", ONE, TWO] {
        assert!(list.contains(part), "{part} not in {list}");
    }
    assert!(!list.contains('\u{1b}'));
    let json = place.fine("queue list --json");
    assert!(json.contains("\"recipients\":3") && json.contains("\"from\":\"<>\"") && json.lines().count() == 2, "{json}");
    let shown = place.fine(&format!("queue show {ONE}"));
    for part in
        ["tea", "3 of 3 not done", "mx.x.test [192.0.2.7], not encrypted", "the host said", "deferred by mx.x.test", "bob@x.test (/3)"]
    {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
    let json = place.fine(&format!("queue show {ONE} --json"));
    assert!(json.lines().count() == 4 && json.contains("\"last_status\":\"4.7.1\"") && json.contains("\"history\":[{"), "{json}");
    let status = place.fine("status");
    assert!(status.contains("2 messages for 4 recipients, 0 of them held; the oldest since 2023-11-14T22:13:20Z"), "{status}");
    assert!(place.fine("metrics").contains("queue_recipients 4"));
}

#[test]
fn recipients_are_steered_one_by_one_by_domain_and_all() {
    let place = Place::filled();
    let held = place.fine(&format!("queue hold {ONE}/2 {TWO}"));
    assert!(held.contains(&format!("{ONE}/2")) && held.contains("eve@y.test") && held.contains("held"), "{held}");
    assert_eq!(place.counts(), (2, 4, 2));
    assert!(place.refused(&format!("queue hold {TWO}")).contains("is held already"));
    assert!(place.refused(&format!("queue retry {TWO}")).contains("release it first"));
    assert!(place.fine("queue retry --all").contains("made due now"));
    place.fine("queue release --to y.test");
    assert_eq!(place.counts(), (2, 4, 1));
    place.fine(&format!("queue fail {ONE}/1"));
    assert_eq!(place.states(ONE)[0], RecipientState::Failing("failed by the administrator".into()));
    assert!(place.fine(&format!("queue show {ONE}")).contains("the sender will be told"));
    place.fine("queue drop --to x.test --json");
    assert_eq!(place.counts(), (1, 1, 0));
    place.fine("queue drop --all");
    assert_eq!(place.counts(), (0, 0, 0));
    assert!(place.refused("queue drop --all").contains("no recipient in the queue"));
}

#[test]
fn an_unknown_id_changes_nothing() {
    let place = Place::filled();
    for words in ["queue show 1nfm2rdq0a1b2".to_owned(), format!("queue drop {ONE} 1nfm2rdq0a1b2"), format!("queue drop {ONE} {TWO}/2")] {
        assert!(place.refused(&words).contains("there is no"), "{words}");
    }
    assert_eq!(place.counts(), (2, 4, 0));
    assert_eq!(place.run("queue drop").status.code(), Some(2));
}

#[test]
fn hold_rules_hold_what_waits_and_what_comes() {
    let place = Place::filled();
    assert!(place.refused("hold remove 1").contains("there is no hold rule 1"));
    let added = place.fine("hold add --from <> --to x.test --json");
    assert!(added.contains("\"id\":1") && added.contains("\"held\":1"), "{added}");
    assert_eq!(place.counts(), (2, 4, 1));
    assert!(place.fine(&format!("queue show {TWO}")).contains("hold rule 1 (from the null sender, to the domain x.test)"));
    place.fine("hold add --to EVE@y.test --from home.test");
    assert_eq!(place.states(ONE).iter().filter(|state| matches!(state, RecipientState::Held(_))).count(), 1);
    place.with_store(|store| {
        enqueue(store, "1nfm2req0a1b2", "<>", &["x@x.test", "x@y.test"]);
        enqueue(store, "1nfm2rfq0a1b2", "<bob@home.test>", &["eve@y.test", "x@x.test"]);
    });
    assert_eq!(place.counts(), (4, 8, 4));
    assert_eq!(place.fine("hold list").lines().count(), 3);
    place.fine("hold remove 1");
    place.fine("hold remove 2");
    assert!(place.fine("hold list").is_empty());
    assert_eq!(place.counts(), (4, 8, 4));
    place.fine("queue release --all");
    assert_eq!(place.counts(), (4, 8, 0));
    assert!(place.refused("hold add --account nobody@home.test").contains("there is no account"));
}

/// Overwrites every occurrence of a text in the store's file, as a broken disk would.
fn damage(place: &Place, text: &str) {
    for entry in fs::read_dir(&place.0).unwrap() {
        let path = entry.unwrap().path();
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let places: Vec<usize> =
            (0..bytes.len().saturating_sub(text.len())).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
        if !places.is_empty() {
            places.into_iter().for_each(|at| bytes[at..at + text.len()].fill(0xff));
            fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn damaged_messages_are_listed_shown_and_dropped_and_status_names_them() {
    let place = Place::new();
    place.with_store(|store| {
        enqueue(store, ONE, "<ann@home.test>", &["eve@x.test", "damagedbob@x.test"]);
        enqueue(store, TWO, "<damagedpath@home.test>", &["carl@x.test"]);
    });
    damage(&place, "damagedbob");
    damage(&place, "damagedpath");
    let list = place.fine("queue list");
    assert_eq!((list.lines().count(), list.matches("(damaged)").count(), list.matches("set aside: ").count()), (3, 2, 2), "{list}");
    let shown = place.fine(&format!("queue show {ONE}"));
    assert!(shown.contains("eve@x.test (/1)") && shown.contains("(damaged) (/2)") && shown.contains("it can only be dropped"), "{shown}");
    let shown = place.fine(&format!("queue show {TWO}"));
    assert!(shown.contains("the store is damaged") || shown.contains("cannot be read"), "{shown}");
    assert!(shown.contains(&format!("pipit queue drop {TWO}")) && shown.contains("carl@x.test"), "{shown}");
    assert!(place.fine(&format!("queue show {TWO} --json")).contains("\"damage\":\"a queue row cannot be read\""));
    // The scheduler finds them when they are due, and names them for `status`.
    let store = open(&place.0);
    let to = pipit::mail::domain::Domain::parse("x.test").unwrap();
    let claimed = block_on(store.write(move |w| queue::claim(w, &to, UnixTime(1_800_000_000), 9, |_, _| UnixTime(1_900_000_000)))).unwrap();
    assert_eq!(claimed.iter().map(|claim| claim.recipients.len()).sum::<usize>(), 1);
    block_on(store.close());
    let status = place.fine("status");
    for id in [ONE, TWO] {
        assert!(status.contains(&format!("message {id} of the queue is set aside")), "{status}");
    }
    assert!(place.refused("store check").contains("RowIsReadable"));
    assert!(place.refused(&format!("queue release {ONE}/2")).contains("is damaged: it can only be dropped"));
    assert!(place.fine(&format!("queue drop {ONE}/2 {TWO}")).contains("dropped without a notice"));
    let status = place.fine("status");
    assert!(!status.contains("set aside") && status.contains("1 message for 1 recipient,"), "{status}");
    assert_eq!(place.fine("queue list").lines().count(), 2);
}
