//! The queue through all its states; after each test the invariants hold.

use smol::block_on;
use smol::future::poll_once;

use super::*;
use crate::store::Store;
use crate::store::Topic;
use crate::store::blobs;
use crate::store::testing::Scratch;
use crate::store::testing::queue_one;
use crate::store::txn::Writer;

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn event(at: i64) -> Event {
    Event { at: UnixTime(at), what: "tried".into() }
}

fn last(at: i64) -> LastAttempt {
    LastAttempt {
        at: UnixTime(at),
        host: "mx.example.net".into(),
        address: "192.0.2.1".into(),
        reply: "451 later".into(),
        status: EnhancedStatus::new(4, 3, 0),
        tls: None,
        remote: true,
    }
}

fn change<T: Send + 'static>(store: &Store, work: impl FnOnce(&mut Writer<'_>) -> Result<T, Error> + Send + 'static) -> T {
    block_on(store.write(work)).unwrap()
}

/// Claims for a domain, the next due 300 s later an attempt.
fn claim_at(store: &Store, name: &str, now: i64, limit: usize) -> Vec<Claimed> {
    let to = domain(name);
    change(store, move |w| claim(w, &to, UnixTime(now), limit, |_, r| UnixTime(now).plus(300 * i64::from(r.attempts))))
}

fn due(store: &Store, now: i64) -> Vec<(i64, String)> {
    let found = store.read(|r| due_destinations(r, UnixTime(now), None, 100)).unwrap();
    found.into_iter().map(|(due, to)| (due.0, to.to_string())).collect()
}

fn numbers(claimed: &[Claimed]) -> Vec<(u64, Vec<u32>)> {
    claimed.iter().map(|c| (c.id.0, c.recipients.iter().map(|(n, _)| *n).collect())).collect()
}

fn sound(store: &Store) {
    assert_eq!(store.read(crate::store::check::everything).unwrap(), []);
}

#[test]
fn recipients_are_claimed_by_message_and_settled_one_by_one() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let one = queue_one(&store, 10, &["a@x.org", "b@y.org", "c@x.org"]);
    queue_one(&store, 11, &["d@x.org"]);
    assert_eq!(due(&store, 9), []);
    assert_eq!(due(&store, 20), [(10, "x.org".into()), (10, "y.org".into())]);
    let page = store.read(|r| due_destinations(r, UnixTime(20), Some((UnixTime(10), domain("x.org"))), 5)).unwrap();
    assert_eq!(page, [(UnixTime(10), domain("y.org"))]);
    let counts = store.read(counts).unwrap();
    assert_eq!(counts, QueueCounts { messages: 2, recipients: 4, held: 0, oldest: Some(UnixTime(10)) });

    let claimed = claim_at(&store, "x.org", 20, 10);
    assert_eq!(numbers(&claimed), [(10, vec![0, 2]), (11, vec![0])]);
    assert_eq!((claimed[0].recipients[0].1.attempts, claimed[0].recipients[0].1.due), (1, UnixTime(320)));
    assert_eq!(due(&store, 400), [(10, "y.org".into()), (320, "x.org".into())]);
    assert_eq!(store.read(next_due).unwrap(), Some(UnixTime(10)));
    assert_eq!(claim_at(&store, "x.org", 20, 10), []);

    assert_eq!(change(&store, move |w| settle(w, one, 0, Settlement::Done, event(21))), Settled::Open);
    let retry = Settlement::Retry { due: UnixTime(500), last: last(22), delay_told: true };
    change(&store, move |w| settle(w, one, 2, retry, event(22)));
    let waiting = store.read(|r| recipient(r, one, 2)).unwrap().unwrap();
    assert_eq!((waiting.due, waiting.delay_told, waiting.last), (UnixTime(500), true, Some(last(22))));
    assert_eq!(waiting.history, [event(22)]);
    sound(&store);

    let blob = store.read(|r| get(r, one)).unwrap().unwrap().blob;
    change(&store, move |w| settle(w, one, 1, Settlement::Done, event(23)));
    assert!(store.read(|r| blobs::length(r, blob)).unwrap().is_some());
    assert_eq!(change(&store, move |w| settle(w, one, 2, Settlement::Done, event(24))), Settled::LastOne);
    assert_eq!(store.read(|r| blobs::length(r, blob)).unwrap(), None);
    assert_eq!(change(&store, move |w| settle(w, one, 2, Settlement::Done, event(24))), Settled::Open);
    assert_eq!(store.read(counts_of).unwrap(), (1, 1, 0));
    sound(&store);
}

fn counts_of(r: &Reader<'_>) -> Result<(u64, u64, u64), Error> {
    let QueueCounts { messages, recipients, held, .. } = counts(r)?;
    Ok((messages, recipients, held))
}

#[test]
fn what_is_under_way_is_not_handed_out_again_before_a_restart() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    assert_eq!(claim_at(&store, "x.org", 10, 9).len(), 1);
    assert_eq!(change(&store, move |w| retry_now(w, id, 0, event(11))), Steered::Already("is being tried at this moment"));
    assert_eq!(claim_at(&store, "x.org", 5000, 9), [], "the attempt outlives its due");
    assert!(store.read(next_due).unwrap().unwrap() > UnixTime(5000));
    let attempts = store.read(|r| recipient(r, id, 0)).unwrap().unwrap().attempts;
    assert_eq!(attempts, 1);
    change(&store, move |w| put_back(w, id, 0, UnixTime(5001)));
    assert_eq!(store.read(|r| recipient(r, id, 0)).unwrap().unwrap().attempts, 0);
    assert_eq!(claim_at(&store, "x.org", 5001, 9).len(), 1);
    block_on(store.close());
    let store = scratch.open();
    assert_eq!(claim_at(&store, "x.org", 9000, 9)[0].recipients[0].1.attempts, 2);
    sound(&store);
}

#[test]
fn an_administrators_word_outlives_the_attempt() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org", "b@x.org", "c@x.org"]);
    claim_at(&store, "x.org", 10, 9);
    assert_eq!(change(&store, move |w| hold(w, id, 0, "wait".into(), event(11))), Steered::Done);
    assert_eq!(change(&store, move |w| fail(w, id, 1, "no".into(), event(11))), Steered::Done);
    assert_eq!(change(&store, move |w| remove(w, id, 2)), Steered::Done);
    assert_eq!(due(&store, 12), []);
    let mut bell = store.watch(Topic::Queue);
    for n in 0..3 {
        let retry = Settlement::Retry { due: UnixTime(500), last: last(20), delay_told: false };
        change(&store, move |w| settle(w, id, n, retry, event(20)));
    }
    assert!(block_on(poll_once(bell.changed())).is_some());
    assert_eq!(store.read(|r| recipient(r, id, 0)).unwrap().unwrap().state, RecipientState::Held("wait".into()));
    let claimed = claim_at(&store, "x.org", 20, 9);
    assert_eq!(numbers(&claimed), [(10, vec![1])]);
    assert_eq!((&claimed[0].recipients[0].1.state, claimed[0].recipients[0].1.attempts), (&RecipientState::Failing("no".into()), 1));
    assert_eq!(change(&store, move |w| release(w, id, 1, event(21))), Steered::Already("is not held"));
    assert_eq!(change(&store, move |w| release(w, id, 0, event(21))), Steered::Done);
    assert_eq!(change(&store, move |w| release(w, id, 9, event(21))), Steered::NoSuch);
    assert_eq!(due(&store, 21), [(21, "x.org".into())]);
    sound(&store);
}

#[test]
fn a_recipient_that_fails_the_program_twice_is_set_aside() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    for (at, held) in [(10, 0), (1000, 1)] {
        claim_at(&store, "x.org", at, 9);
        change(&store, move |w| settle(w, id, 0, Settlement::Crashed, event(at)));
        assert_eq!(store.read(counts_of).unwrap(), (1, 1, held));
    }
    assert_eq!(store.read(next_due).unwrap(), None);
    assert_eq!(change(&store, move |w| retry_now(w, id, 0, event(2000))), Steered::Already("is held: release it first"));
    change(&store, move |w| release(w, id, 0, event(2000)));
    assert_eq!(claim_at(&store, "x.org", 2000, 9).len(), 1);
    change(&store, move |w| settle(w, id, 0, Settlement::Hold("as asked".into()), event(2001)));
    assert_eq!(store.read(counts_of).unwrap(), (1, 1, 1));
    sound(&store);
}

#[test]
fn a_dead_destination_is_put_off_by_pages() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let many: Vec<String> = (0..PAGE + 20).map(|n| format!("u{n}@x.org")).collect();
    let id = queue_one(&store, 10, &many.iter().map(String::as_str).collect::<Vec<_>>());
    change(&store, move |w| fail(w, id, 3, "no".into(), event(10)));
    claim_at(&store, "x.org", 10, 3);
    let put = |now: i64| PutOff { now: UnixTime(now), due: UnixTime(now + 90), last: last(now), blind: 7 };
    let off = |now: i64| change(&store, move |w| put_off(w, &domain("x.org"), put(now)));
    assert_eq!(off(11), More::Yes);
    assert_eq!(off(11), More::No);
    assert_eq!(numbers(&claim_at(&store, "x.org", 11, 9)), [(10, vec![3])], "only the failing one is due");
    let rows = store.read(|r| recipients_after(r, Some((id, 3)), 500)).unwrap();
    assert_eq!(rows.len(), PAGE);
    assert!(rows.iter().all(|(_, _, r)| r.due == UnixTime(101) && r.attempts == 0 && r.history.is_empty() && r.last.is_some()));
    // Twice a page of one message: its age is the most that does not count.
    assert_eq!(store.read(|r| get(r, id)).unwrap().unwrap().waited_blind, 8);
    sound(&store);
}

#[test]
fn dues_of_a_wrong_clock_are_pulled_in() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let many: Vec<String> = (0..PAGE + 1).map(|n| format!("u{n}@x.org")).collect();
    queue_one(&store, 1_000_000, &many.iter().map(String::as_str).collect::<Vec<_>>());
    queue_one(&store, 1_000_001, &["b@y.org"]);
    queue_one(&store, 50, &["d@z.org"]);
    assert_eq!(claim_at(&store, "y.org", 1_000_001, 9).len(), 1);
    assert_eq!(change(&store, |w| pull_in(w, UnixTime(100))), More::Yes);
    assert_eq!(change(&store, |w| pull_in(w, UnixTime(100))), More::No);
    assert_eq!(due(&store, 100), [(0, "x.org".into()), (50, "z.org".into()), (100, "y.org".into())]);
    assert_eq!(claim_at(&store, "x.org", 0, 500)[0].recipients.len(), PAGE + 1);
    sound(&store);
}

#[test]
fn the_history_keeps_its_beginning_and_its_end() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    change(&store, move |w| {
        (0..50).try_for_each(|at| {
            let retry = Settlement::Retry { due: UnixTime(at), last: last(at), delay_told: false };
            settle(w, id, 0, retry, event(at)).map(|_| ())
        })
    });
    let history = store.read(|r| recipient(r, id, 0)).unwrap().unwrap().history;
    assert_eq!((history.len(), history[0].at, history[1].at, history[19].at), (20, UnixTime(0), UnixTime(31), UnixTime(49)));
}

#[test]
fn what_cannot_be_queued_is_withdrawn() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    let blob = store.read(|r| get(r, id)).unwrap().unwrap().blob;
    let to = NewRecipient { address: Address::parse("b@x.org").unwrap(), notify: Notify::Never, orcpt: None };
    let rows = [(id, blob, vec![to.clone()]), (QueueId(11), blob, vec![]), (QueueId(11), BlobId(99), vec![to])];
    for (id, blob, recipients) in rows {
        let new = crate::store::testing::new_queued(id, blob, recipients);
        assert!(matches!(block_on(store.write(move |w| enqueue(w, new))), Err(Error::Withdrawn(_))));
    }
    sound(&store);
}

/// The rows of a recipient, of a message, or of an index, overwritten by what no program wrote.
fn damage(store: &Store, work: impl FnOnce(&mut Writer<'_>) -> Result<(), Error> + Send + 'static) {
    change(store, work);
}

fn rules(store: &Store) -> Vec<crate::store::check::Rule> {
    store.read(crate::store::check::everything).unwrap().into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_damaged_recipient_is_set_aside_and_the_others_go_on() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org", "b@x.org"]);
    queue_one(&store, 11, &["c@x.org"]);
    damage(&store, move |w| w.put_bytes(w.tables.queue_rcpt, &recipient_key(id, 0), b"\x01rubbish"));
    assert_eq!(numbers(&claim_at(&store, "x.org", 20, 9)), [(10, vec![1]), (11, vec![0])]);
    assert_eq!(due(&store, 20), []);
    let named = store.read(aside).unwrap();
    assert!(named.len() == 1 && named[0].0 == id && named[0].1.contains("recipient 1"), "{named:?}");
    let listed = store.read(|r| listed_recipients(r, id)).unwrap();
    assert!(listed[0].1.is_err() && listed[1].1.is_ok());
    assert_eq!(store.read(|r| recipients_after(r, None, 9)).unwrap().len(), 2);
    assert!(store.counters().damaged >= 1);
    assert_eq!(change(&store, move |w| release(w, id, 0, event(30))), Steered::Already("is damaged: it can only be dropped"));
    assert_eq!(change(&store, move |w| remove(w, id, 0)), Steered::Done);
    assert_eq!(store.read(aside).unwrap(), []);
    sound(&store);
    change(&store, move |w| settle(w, id, 1, Settlement::Done, event(31)));
    assert_eq!(store.read(counts_of).unwrap(), (1, 1, 0));
    sound(&store);
}

#[test]
fn a_damaged_message_is_set_aside_with_all_its_recipients() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org", "b@y.org"]);
    queue_one(&store, 11, &["c@x.org"]);
    damage(&store, move |w| w.put_bytes(w.tables.queue, &queue_key(id), b"\x09"));
    assert_eq!(numbers(&claim_at(&store, "x.org", 20, 9)), [(11, vec![0])]);
    assert_eq!(numbers(&claim_at(&store, "y.org", 20, 9)), []);
    assert_eq!(store.read(counts_of).unwrap(), (2, 3, 2));
    let listed = store.read(|r| list(r, None, 9)).unwrap();
    assert!(listed[0].1.is_err() && listed[1].1.is_ok());
    assert_eq!(store.read(counts).unwrap().oldest, Some(UnixTime(11)), "the oldest one's time cannot be read");
    assert_eq!(store.read(aside).unwrap()[0].0, id);
    for n in 0..2 {
        assert_eq!(change(&store, move |w| remove(w, id, n)), Steered::Done);
    }
    assert_eq!((store.read(counts_of).unwrap(), store.read(aside).unwrap()), ((1, 1, 0), vec![]));
    // Nobody knows any more which octets were its own.
    assert_eq!(rules(&store), [crate::store::check::Rule::BlobCount]);
}

#[test]
fn unreadable_index_rows_are_passed_over_noted_and_found() {
    let scratch = Scratch::new();
    let store = scratch.open();
    queue_one(&store, 10, &["a@x.org"]);
    queue_one(&store, 11, &["b@y.org"]);
    damage(&store, |w| {
        w.put_bytes(w.tables.queue_due, &[0x80, 0, 0, 0, 0, 0, 0, 1, 0xff], &[])?;
        w.put_bytes(w.tables.queue_due, b"short", &[])?;
        w.put_bytes(w.tables.queue_dest, b"x.org\0odd", b"w")
    });
    for _ in 0..3 {
        assert_eq!(due(&store, 20), [(10, "x.org".into()), (11, "y.org".into())]);
    }
    assert_eq!(store.read(next_due).unwrap(), Some(UnixTime(10)));
    assert_eq!(store.read(|r| due_destinations(r, UnixTime(20), None, 1)).unwrap().len(), 1);
    assert_eq!(numbers(&claim_at(&store, "x.org", 20, 9)), [(10, vec![0])]);
    assert_eq!(store.counters().damaged, 3);
    assert_eq!(rules(&store), [crate::store::check::Rule::RowIsReadable; 3]);
    change(&store, |w| pull_in(w, UnixTime(100)));
}

#[test]
fn a_message_whose_octets_are_gone_can_go_too() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    let blob = store.read(|r| get(r, id)).unwrap().unwrap().blob;
    damage(&store, move |w| blobs::release(w, blob));
    claim_at(&store, "x.org", 10, 9);
    assert_eq!(change(&store, move |w| settle(w, id, 0, Settlement::Done, event(11))), Settled::LastOne);
    assert_eq!(store.counters().damaged, 1);
    sound(&store);
}

#[test]
fn a_wait_for_our_resolvers_is_no_attempt() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    for at in [10, 1000, 2000] {
        assert_eq!(claim_at(&store, "x.org", at, 9)[0].recipients[0].1.attempts, 1);
        change(&store, move |w| settle(w, id, 0, Settlement::Wait { due: UnixTime(at + 300), last: last(at) }, event(at)));
    }
    assert_eq!(store.read(|r| recipient(r, id, 0)).unwrap().unwrap().attempts, 0);
    sound(&store);
}

#[test]
fn times_in_doubt_outlive_a_restart_and_a_damaged_row_is_none() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(store.read(blind_times).unwrap(), BlindTimes::default());
    let time = BlindTime { until: UnixTime(9), seconds: 5, wrong: (UnixTime(-4), UnixTime(1)) };
    let times = BlindTimes { ended: vec![time, time], open: Some(time) };
    let stored = times.clone();
    change(&store, move |w| put_blind_times(w, &stored));
    block_on(store.close());
    let store = scratch.open();
    assert_eq!(store.read(blind_times).unwrap(), times);
    damage(&store, |w| w.put_bytes(w.tables.meta, b"queue-blind-times", b"\x01\xff"));
    assert_eq!((store.read(blind_times).unwrap(), store.counters().damaged), (BlindTimes::default(), 1));
}

#[test]
fn rows_of_the_index_that_are_missing_or_wrong_are_put_right() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let id = queue_one(&store, 10, &["a@x.org"]);
    queue_one(&store, 11, &["b@y.org"]);
    damage(&store, |w| w.delete(w.tables.queue_due, &index::due_key(UnixTime(10), &domain("x.org"))).map(|_| ()));
    assert_eq!(due(&store, 20), [(11, "y.org".into())]);
    assert_eq!(change(&store, |w| mend_dues(w, Vec::new())), None);
    sound(&store);
    // A row that names another due than the recipient has, and comes first.
    let wrong = index::dest_key(&domain("x.org"), UnixTime(5), (id, 0));
    damage(&store, move |w| {
        w.put_bytes(w.tables.queue_dest, &wrong, b"w")?;
        w.put_bytes(w.tables.queue_due, &index::due_key(UnixTime(5), &domain("x.org")), &[])?;
        w.delete(w.tables.queue_due, &index::due_key(UnixTime(10), &domain("x.org"))).map(|_| ())
    });
    assert_eq!(numbers(&claim_at(&store, "x.org", 20, 1)), []);
    assert_eq!(numbers(&claim_at(&store, "x.org", 20, 1)), [(10, vec![0])]);
    sound(&store);
    // Many destinations are mended by pages.
    let many: Vec<String> = (0..PAGE + 5).map(|n| format!("u@d{n}.org")).collect();
    queue_one(&store, 12, &many.iter().map(String::as_str).collect::<Vec<_>>());
    damage(&store, |w| {
        (0..PAGE + 5)
            .try_for_each(|n| w.delete(w.tables.queue_due, &index::due_key(UnixTime(12), &domain(&format!("d{n}.org")))).map(|_| ()))
    });
    let place = change(&store, |w| mend_dues(w, Vec::new())).unwrap();
    assert_eq!(change(&store, move |w| mend_dues(w, place)), None);
    sound(&store);
}
