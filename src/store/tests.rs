//! The promises of `Store` itself: batches, failing jobs, bells, closing, views.

use std::time::Duration;

use smol::block_on;
use smol::future::poll_once;

use super::*;
use crate::store::testing::Scratch;

fn names(store: &Store) -> Vec<String> {
    store.read(keys::list).unwrap()
}

/// Holds the writer thread until the sender is dropped, so that jobs gather behind it.
fn hold(store: &Store) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (began, begun) = std::sync::mpsc::channel::<()>();
    drop(poll(store.write(move |_| {
        drop(began);
        let _ = held.recv();
        // Taken back, so that the next job is the first of its batch.
        Err::<(), _>(Error::Withdrawn("it only held the thread".into()))
    })));
    let _ = begun.recv();
    release
}

/// Queues a change and drops its future.
fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    block_on(poll_once(future.as_mut()))
}

#[test]
fn many_changes_share_one_sync() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let before = store.commits();
    let release = hold(&store);
    for n in 0..100 {
        assert!(poll(store.write(move |w| keys::put(w, &format!("k{n}"), b"x"))).is_none());
    }
    drop(release);
    block_on(store.write(|_| Ok(()))).unwrap();
    assert_eq!(names(&store).len(), 100);
    assert!(store.commits() - before <= 2, "{}", store.commits() - before);
    assert!(store.counters().longest_batch > Duration::ZERO);
}

/// Queues a change; the future that is given back tells how it went.
fn queued<'f, T: 'f>(future: impl Future<Output = T> + 'f) -> std::pin::Pin<Box<dyn Future<Output = T> + 'f>> {
    let mut future: std::pin::Pin<Box<dyn Future<Output = T> + 'f>> = Box::pin(future);
    assert!(block_on(poll_once(future.as_mut())).is_none());
    future
}

#[test]
fn a_change_that_fails_or_panics_loses_only_its_own_rows() {
    // The order decides which of them run in the outer transaction and which in nested ones.
    for order in ["gfgp", "fgpg", "pggf", "fpgg", "ggfp"] {
        let scratch = Scratch::new();
        let store = scratch.open();
        let release = hold(&store);
        let mut names_due = Vec::new();
        let mut changes = Vec::new();
        for (at, kind) in order.chars().enumerate() {
            let name = format!("{kind}{at}");
            if kind == 'g' {
                names_due.push(name.clone());
            }
            let change = store.write(move |w| {
                keys::put(w, &name, b"x")?;
                match kind {
                    'f' => Err(Error::Withdrawn("as asked".into())),
                    'p' => panic!("a fault of the test"),
                    _ => Ok(()),
                }
            });
            changes.push((kind, queued(change)));
        }
        drop(release);
        for (kind, change) in changes {
            let due = match kind {
                'f' => Err(Error::Withdrawn("as asked".into())),
                'p' => Err(Error::Panicked),
                _ => Ok(()),
            };
            assert_eq!(block_on(change), due);
        }
        assert_eq!(names(&store), names_due);
        let counters = store.counters();
        assert_eq!((counters.failed_jobs, counters.panicked_jobs, counters.failed_commits), (2, 1, 0));
        assert_eq!(counters.commits, 1, "{order}");
    }
}

#[test]
fn an_error_that_a_change_overlooks_does_not_spoil_the_batch() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path(), Options { map_size: Some(1 << 20) }).unwrap();
    let release = hold(&store);
    let overlooks = |name: &'static str| {
        store.write(move |w| {
            let _ = keys::put(w, name, &vec![0; 4 << 20]);
            Ok(())
        })
    };
    let first = queued(overlooks("first"));
    let small = queued(store.write(|w| keys::put(w, "small", b"x")));
    let second = queued(overlooks("second"));
    let other = queued(store.write(|w| keys::put(w, "other", b"x")));
    drop(release);
    assert_eq!((block_on(first), block_on(second)), (Err(Error::DiskFull), Err(Error::DiskFull)));
    assert_eq!((block_on(small), block_on(other)), (Ok(()), Ok(())));
    assert_eq!(names(&store), ["other", "small"]);
}

#[test]
fn bells_ring_after_the_commit_and_only_for_what_was_kept() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut watch = store.watch(Topic::Certificates);
    let failed = block_on(store.write(|w| {
        w.raise(Topic::Certificates);
        Err::<(), _>(Error::Withdrawn("no".into()))
    }));
    assert!(failed.is_err());
    assert!(poll(watch.changed()).is_none());
    block_on(store.write(|w| keys::put(w, "k", b"x"))).unwrap();
    block_on(watch.changed());
    assert_eq!(names(&store), ["k"]);
}

#[test]
fn a_torn_future_harms_nobody() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert!(poll(store.write(|w| keys::put(w, "torn", b"x"))).is_none_or(|done| done.is_ok()));
    block_on(store.write(|w| keys::put(w, "next", b"x"))).unwrap();
    assert_eq!(names(&store), ["next", "torn"]);
}

#[test]
fn closing_stores_what_waits_and_refuses_the_rest() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let other = store.clone();
    let release = hold(&store);
    assert!(poll(store.write(|w| keys::put(w, "waiting", b"x"))).is_none());
    drop(release);
    block_on(store.close());
    assert_eq!(block_on(other.write(|w| keys::put(w, "late", b"x"))), Err(Error::Closed));
    assert_eq!(names(&other), ["waiting"]);
    assert!(matches!(Store::open(scratch.path(), Options::default()), Err(OpenError::Locked { holder: Some(_) })));
    drop(other);
    assert_eq!(names(&scratch.open()), ["waiting"]);
}

#[test]
fn a_view_does_not_move_and_views_may_be_nested() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let seen = store.read(|outer| {
        block_on(store.write(|w| keys::put(w, "k", b"x")))?;
        Ok((keys::list(outer)?.len(), store.read(|inner| Ok(keys::list(inner)?.len()))?))
    });
    assert_eq!(seen, Ok((0, 1)));
}

#[test]
fn the_last_handle_may_end_in_a_job() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let held = store.clone();
    let release = hold(&store);
    assert!(
        poll(store.write(move |_| {
            drop(held);
            Ok(())
        }))
        .is_none()
    );
    drop(release);
    drop(store);
    // The writer is not joined when it is itself the last; the lock comes free a moment later.
    for _ in 0..500 {
        match Store::open(scratch.path(), Options { map_size: Some(1 << 20) }) {
            Ok(_) => return,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("the lock was never given up");
}

#[test]
fn space_and_directory_are_told() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(store.dir(), scratch.path());
    assert!(store.space().unwrap().available > 0);
    store.trim();
}
