//! Messages of every size come back; whatever is dropped, torn or crashed leaves no chunk.

use smol::block_on;
use smol::future::poll_once;

use super::*;
use crate::store::check;
use crate::store::testing::Scratch;

fn spool_rows(store: &Store) -> usize {
    store.read(|r| Ok(r.all(r.tables.spool)?.count())).unwrap()
}

fn chunk_rows(store: &Store) -> usize {
    store.read(|r| Ok(r.all(r.tables.blob)?.count())).unwrap()
}

/// Waits until the chores are done, as far as they ever will be.
fn settle(store: &Store) {
    for _ in 0..1000 {
        block_on(store.write(|_| Ok(()))).unwrap();
        if spool_rows(store) == 0 && store.counters().waiting == 0 {
            break;
        }
    }
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn read_back(store: &Store, blob: BlobId) -> Vec<u8> {
    let mut whole = Vec::new();
    for number in 0.. {
        match store.read(|r| blobs::chunk(r, blob, number)).unwrap() {
            Some(chunk) => whole.extend(chunk),
            None => return whole,
        }
    }
    unreachable!()
}

#[test]
fn messages_of_every_size_come_back_with_their_trace_in_front() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 17 * CHUNK + 5, 40 * CHUNK] {
        for piece in [1000, 100_000, 3_000_000] {
            let bytes = message(length);
            let mut spool = Spool::new(&store, 2 * CHUNK);
            for part in bytes.chunks(piece) {
                block_on(spool.push(part)).unwrap();
                assert!(spool.pending.len() <= 2 * CHUNK);
            }
            let spooled = spool.finish(b"Received: x\r\n".to_vec()).unwrap();
            assert_eq!(spooled.len(), length as u64 + 13);
            let blob = block_on(store.write(move |w| blobs::adopt(w, spooled, 1))).unwrap();
            assert_eq!(read_back(&store, blob), [b"Received: x\r\n".to_vec(), bytes].concat());
            assert_eq!(store.read(|r| blobs::length(r, blob)).unwrap(), Some(length as u64 + 13));
            assert_eq!(spool_rows(&store), 0);
            block_on(store.write(move |w| blobs::release(w, blob))).unwrap();
            settle(&store);
            assert_eq!(chunk_rows(&store), 0);
        }
    }
}

#[test]
fn whatever_is_dropped_leaves_no_chunk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let spooled = |store: &Store| {
        let mut spool = Spool::new(store, CHUNK);
        block_on(spool.push(&message(20 * CHUNK))).unwrap();
        spool
    };
    let spool = spooled(&store);
    assert_eq!((spool_rows(&store), chunk_rows(&store) > 15), (1, true));
    drop(spool);
    settle(&store);
    assert_eq!((spool_rows(&store), chunk_rows(&store)), (0, 0));

    drop(spooled(&store).finish(Vec::new()).unwrap());
    settle(&store);
    assert_eq!(chunk_rows(&store), 0);

    let rest = spooled(&store).finish(Vec::new()).unwrap();
    let refused = block_on(store.write(move |w| {
        blobs::adopt(w, rest, 1)?;
        Err::<(), _>(Error::Withdrawn("no".into()))
    }));
    assert_eq!(refused, Err(Error::Withdrawn("no".into())));
    settle(&store);
    assert_eq!(chunk_rows(&store), 0);

    let rest = spooled(&store).finish(Vec::new()).unwrap();
    let panicked = block_on(store.write(move |w| -> Result<(), Error> {
        blobs::adopt(w, rest, 1)?;
        panic!("a fault of the test")
    }));
    assert_eq!(panicked, Err(Error::Panicked));
    settle(&store);
    assert_eq!((spool_rows(&store), chunk_rows(&store)), (0, 0));
    assert_eq!(store.read(check::everything).unwrap(), Vec::new());
}

#[test]
fn a_torn_push_spoils_the_spool_and_leaves_no_chunk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut spool = Spool::new(&store, CHUNK);
    let bytes = message(30 * CHUNK);
    match block_on(poll_once(spool.push(&bytes))) {
        None => {
            assert!(block_on(spool.push(b"more")).is_err());
            assert!(spool.finish(Vec::new()).is_err());
        }
        // On a busy machine the writer is done before we look.
        Some(_) => drop(spool),
    }
    settle(&store);
    assert_eq!((spool_rows(&store), chunk_rows(&store)), (0, 0));
}

#[test]
fn a_crash_leaves_a_row_that_the_next_opening_sweeps() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut spool = Spool::new(&store, CHUNK);
    block_on(spool.push(&message(600 * CHUNK))).unwrap();
    let mut rest = spool.finish(Vec::new()).unwrap();
    // As a crash would: nobody is there to queue the removal.
    rest.ahead.take().unwrap().has_owner();
    assert_eq!(spool_rows(&store), 1);
    block_on(store.close());
    let store = scratch.open();
    settle(&store);
    assert_eq!((spool_rows(&store), chunk_rows(&store)), (0, 0));
}

#[test]
fn a_trace_must_fit_one_chunk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert!(Spool::new(&store, 0).finish(vec![b'x'; CHUNK + 1]).is_err());
    assert!(Spool::new(&store, 0).finish(vec![b'x'; CHUNK]).is_ok());
}
