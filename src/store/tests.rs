//! The promises of `Store` itself: batches, failing jobs, bells, closing, views.

use std::time::Duration;

use smol::block_on;
use smol::future::poll_once;
use smol::future::zip;

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
        Ok(())
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

#[test]
fn a_change_that_fails_or_panics_loses_only_its_own_rows() {
    for first in 0..3 {
        let scratch = Scratch::new();
        let store = scratch.open();
        let release = hold(&store);
        let good = |name: &'static str| store.write(move |w| keys::put(w, name, b"x"));
        let fails = store.write(|w| {
            keys::put(w, "failed", b"x")?;
            Err::<(), _>(Error::Withdrawn("as asked".into()))
        });
        let panics = store.write(|w| -> Result<(), Error> {
            keys::put(w, "panicked", b"x").unwrap();
            panic!("a fault of the test")
        });
        drop(release);
        let (a, b) = (good("a"), good("b"));
        let (failed, panicked, ((), ())) = block_on(async {
            match first {
                0 => {
                    let ((f, p), (a, b)) = zip(zip(fails, panics), zip(a, b)).await;
                    (f, p, (a.unwrap(), b.unwrap()))
                }
                1 => {
                    let ((a, b), (f, p)) = zip(zip(a, b), zip(fails, panics)).await;
                    (f, p, (a.unwrap(), b.unwrap()))
                }
                _ => {
                    let ((a, f), (b, p)) = zip(zip(a, fails), zip(b, panics)).await;
                    (f, p, (a.unwrap(), b.unwrap()))
                }
            }
        });
        assert_eq!(failed, Err(Error::Withdrawn("as asked".into())));
        assert_eq!(panicked, Err(Error::Panicked));
        assert_eq!(names(&store), ["a", "b"]);
        let counters = store.counters();
        assert_eq!((counters.failed_jobs, counters.panicked_jobs, counters.failed_commits), (1, 1, 0));
    }
}

#[test]
fn an_error_that_a_change_overlooks_does_not_spoil_the_batch() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path(), Options { map_size: Some(1 << 20) }).unwrap();
    let release = hold(&store);
    let small = store.write(|w| keys::put(w, "small", b"x"));
    let large = store.write(|w| {
        let _ = keys::put(w, "large", &vec![0; 4 << 20]);
        Ok(())
    });
    let other = store.write(|w| keys::put(w, "other", b"x"));
    drop(release);
    let ((small, large), other) = block_on(zip(zip(small, large), other));
    assert_eq!((small, large, other), (Ok(()), Err(Error::DiskFull), Ok(())));
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
