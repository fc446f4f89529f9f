//! What the handles of a store and its writer thread share.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::store::chores::Chore;
use crate::store::damage::Damage;
use crate::store::disk;
use crate::store::env::Env;
use crate::store::errors::Error;
use crate::store::ids::BlobId;
use crate::store::jobs::Queue;
use crate::store::lock::DirLock;
use crate::store::tables::Tables;
use crate::store::txn::Reader;
use crate::store::watch::Bells;

/// Under this a failed commit is put down to a full disk: ext4 and tmpfs report it as EIO, too (R7).
const NEARLY_FULL: u64 = 16 << 20;
/// Reads after which the map is given back. Each can leave some windows of 64 KiB resident, which nothing else frees
/// (100,000 messages stored left 95 MB); doing it costs microseconds.
const TRIM_READS: u64 = 8;
/// Changed rows after which the writer does the same, in the middle of a batch too: some 15 messages. A queue that is
/// worked off touches rows all over the map (10,000 messages: 31 MB with 1,024 rows and only behind a batch).
const TRIM_CHANGES: u64 = 64;
/// Written octets that count as one changed row: a chunk touches as much of the map as eight rows.
const OCTETS_A_CHANGE: u64 = 8 * 1024;

pub(super) struct Core {
    pub env: Env,
    pub tables: Tables<'static>,
    pub queue: Queue,
    pub bells: Bells,
    pub counts: Counts,
    pub damage: Damage,
    pub dir: PathBuf,
    /// names this opening of the store among all others, never 0: what was begun in another one is not under way any more
    pub run: u64,
    next_blob: AtomicU64,
    reads: AtomicU64,
    /// rows changed since the map was last given back
    changes: AtomicU64,
    /// chores that failed for want of room; tried again after the next commit that succeeds
    put_off: Mutex<Vec<Chore>>,
    /// behind `env`: the directory is free only when the file is closed
    _lock: DirLock,
}

impl Core {
    pub fn new(dir: PathBuf, env: Env, tables: Tables<'static>, lock: DirLock) -> Core {
        Core {
            env,
            tables,
            queue: Queue::default(),
            bells: Bells::default(),
            counts: Counts::default(),
            damage: Damage::default(),
            dir,
            run: new_run(),
            next_blob: AtomicU64::new(1),
            reads: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            put_off: Mutex::default(),
            _lock: lock,
        }
    }

    pub fn read<T>(&self, look: impl FnOnce(&Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let txn = self.env.read_txn()?;
        let seen = look(&Reader::new(self, &txn));
        if self.reads.fetch_add(1, Ordering::Relaxed) % TRIM_READS == TRIM_READS - 1 {
            self.env.trim();
        }
        seen
    }

    /// Told by the writer after each job: pages of the file that it has mapped are clean, whatever it has changed.
    pub fn changed(&self, rows: u64, octets: u64) {
        let rows = rows + octets / OCTETS_A_CHANGE;
        if self.changes.fetch_add(rows, Ordering::Relaxed) + rows >= TRIM_CHANGES {
            self.changes.store(0, Ordering::Relaxed);
            self.env.trim();
        }
    }

    /// The first number that no stored blob has had.
    pub fn set_next_blob(&mut self, number: u64) {
        *self.next_blob.get_mut() = number;
    }

    /// A number for a blob. It is not taken in a transaction: a number whose rows were taken back must not name another
    /// blob while the removal of the first still waits.
    pub fn new_blob(&self) -> BlobId {
        BlobId(self.next_blob.fetch_add(1, Ordering::Relaxed))
    }

    /// Says why a write failed, with the eyes of the file system: a full disk may call itself EIO, and after LMDB's first
    /// error the transaction is marked and what follows only says so. Whatever words a change ends with, on a full disk the
    /// reason is the room.
    pub fn judge(&self, error: Error) -> Error {
        let about_writing = matches!(error, Error::Lmdb(_) | Error::NotCommitted(_));
        let full = about_writing && disk::space(&self.dir).is_ok_and(|space| space.available < NEARLY_FULL);
        if full { Error::DiskFull } else { error }
    }

    /// Says why a commit failed.
    pub fn commit_error(&self, error: heed::Error) -> Error {
        let fatal = matches!(error, heed::Error::Mdb(heed::MdbError::Panic));
        if fatal {
            self.counts.must_reopen.store(true, Ordering::Relaxed);
        }
        match self.judge(error.into()) {
            Error::Lmdb(why) if fatal => Error::NotCommitted(format!("{why}; the program must be started anew")),
            Error::Lmdb(why) => Error::NotCommitted(why),
            other => other,
        }
    }

    pub fn put_off(&self, chore: Chore) {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).push(chore);
    }

    pub fn take_put_off(&self) -> Vec<Chore> {
        std::mem::take(&mut *self.put_off.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// At random, so that no later opening has the same name. Without random numbers the process is the next best thing.
fn new_run() -> u64 {
    let mut octets = [0; 8];
    let filled = SystemRandom::new().fill(&mut octets);
    let number = if filled.is_ok() { u64::from_be_bytes(octets) } else { u64::from(std::process::id()) };
    number.max(1)
}

/// The store's own numbers since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// synced batches; a batch that changed nothing is not synced and not counted
    pub commits: u64,
    /// changes asked for, the store's own chores included
    pub jobs: u64,
    /// jobs whose rows were taken back because they returned an error
    pub failed_jobs: u64,
    pub panicked_jobs: u64,
    pub failed_commits: u64,
    pub longest_batch: Duration,
    /// jobs in the queue now
    pub waiting: usize,
    /// LMDB could not even write its old root back: every further commit will fail until the process starts anew
    pub must_reopen: bool,
    /// rows that could not be read and were passed over; `pipit store check` names them
    pub damaged: u64,
}

/// `Counters` while they count.
#[derive(Default)]
pub(super) struct Counts {
    pub commits: AtomicU64,
    pub jobs: AtomicU64,
    pub failed_jobs: AtomicU64,
    pub panicked_jobs: AtomicU64,
    pub failed_commits: AtomicU64,
    pub longest_batch_micros: AtomicU64,
    pub must_reopen: AtomicBool,
}

impl Counts {
    pub fn snapshot(&self, waiting: usize, damaged: u64) -> Counters {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            commits: value(&self.commits),
            jobs: value(&self.jobs),
            failed_jobs: value(&self.failed_jobs),
            panicked_jobs: value(&self.panicked_jobs),
            failed_commits: value(&self.failed_commits),
            longest_batch: Duration::from_micros(value(&self.longest_batch_micros)),
            waiting,
            must_reopen: self.must_reopen.load(Ordering::Relaxed),
            damaged,
        }
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
