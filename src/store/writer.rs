//! The writer thread: many jobs, one sync.
//!
//! It takes the jobs that wait, runs each so that it can lose only its own rows, commits once, and then completes every
//! job. While the disk syncs one batch, the jobs of the next gather (4 to 49 times the messages a second of one commit
//! each). The first job that is kept runs in the outer transaction itself, so that a lone message pays for no nested one.
//! A job that fails is answered at once; one that is kept only after the sync (R1).

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use heed::RwTxn;

use crate::store::chores;
use crate::store::core::Core;
use crate::store::core::count;
use crate::store::errors::Error;
use crate::store::jobs::Job;
use crate::store::jobs::Verdict;
use crate::store::txn::Effects;
use crate::store::txn::Writer;

/// Most jobs a batch: bounds how long the first of them waits for its answer.
const BATCH_JOBS: usize = 256;
/// No further job joins a batch that wrote this much: bounds the pages LMDB holds until the commit.
const BATCH_BYTES: usize = 4 << 20;

/// Runs until the queue is closed and empty.
pub(super) fn serve(core: &Arc<Core>) {
    let _closing = CloseOnExit(core);
    while let Some(first) = core.queue.wait() {
        let begun = Instant::now();
        let mut batch = Batch { core, taken: 0, bytes: 0, kept: Vec::new() };
        let outcome = batch.run_and_commit(first);
        let kept = batch.kept;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        core.counts.longest_batch_micros.fetch_max(micros, Ordering::Relaxed);
        complete(core, kept, outcome);
    }
}

/// Should the thread ever end by a panic, nobody must wait for it forever.
struct CloseOnExit<'c>(&'c Core);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Only a new process has a writer again.
            self.0.counts.must_reopen.store(true, Ordering::Relaxed);
        }
        self.0.queue.close();
        while let Some(job) = self.0.queue.next_now() {
            job.done(Err(Error::Closed));
        }
    }
}

/// A job whose rows are part of the batch.
struct Kept {
    job: Box<dyn Job>,
    effects: Effects,
}

struct Batch<'c> {
    core: &'c Core,
    taken: usize,
    bytes: usize,
    kept: Vec<Kept>,
}

impl<'c> Batch<'c> {
    fn run_and_commit(&mut self, first: Box<dyn Job>) -> Result<(), Error> {
        let core = self.core;
        let Some(mut outer) = self.begin(first) else { return Ok(()) };
        while let Some(job) = self.take() {
            match core.env.nested_txn(&mut outer) {
                Ok(txn) => {
                    if let Some(txn) = self.run(job, txn) {
                        self.join(txn);
                    }
                }
                Err(error) => job.done(Err(error.into())),
            }
        }
        outer.commit().map_err(|error| core.commit_error(error))
    }

    /// Runs jobs in an outer transaction until one is kept.
    fn begin(&mut self, first: Box<dyn Job>) -> Option<RwTxn<'c>> {
        let core = self.core;
        let mut next = Some(first);
        self.taken = 1;
        while let Some(job) = next.take().or_else(|| self.take()) {
            match core.env.write_txn() {
                Ok(txn) => {
                    if let Some(txn) = self.run(job, txn) {
                        return Some(txn);
                    }
                }
                Err(error) => job.done(Err(core.commit_error(error))),
            }
        }
        None
    }

    fn take(&mut self) -> Option<Box<dyn Job>> {
        if self.taken >= BATCH_JOBS || self.bytes >= BATCH_BYTES {
            return None;
        }
        self.taken += 1;
        self.core.queue.next_now()
    }

    /// Runs one job; gives the transaction back if its rows are to be kept.
    fn run<'p>(&mut self, mut job: Box<dyn Job>, txn: RwTxn<'p>) -> Option<RwTxn<'p>>
    where
        'c: 'p,
    {
        count(&self.core.counts.jobs);
        let mut writer = Writer::new(self.core, txn);
        // The writer is looked at again only to abort its transaction.
        let verdict = catch_unwind(AssertUnwindSafe(|| job.run(&mut writer)));
        let failure = match verdict {
            Ok(Verdict::Keep) => match writer.finish() {
                Ok((txn, effects)) => {
                    self.bytes += effects.bytes;
                    self.core.changed(effects.changes, effects.bytes as u64);
                    self.kept.push(Kept { job, effects });
                    return Some(txn);
                }
                // The job overlooked an error of LMDB. Committing would spoil the whole batch.
                Err(error) => {
                    count(&self.core.counts.failed_jobs);
                    Err(error)
                }
            },
            Ok(Verdict::TakeBack) => {
                count(&self.core.counts.failed_jobs);
                drop(writer);
                Ok(())
            }
            Err(_) => {
                count(&self.core.counts.panicked_jobs);
                drop(writer);
                Err(Error::Panicked)
            }
        };
        job.done(failure);
        None
    }

    /// Makes the rows of the job just run part of the outer transaction.
    fn join(&mut self, txn: RwTxn<'_>) {
        if let Err(error) = txn.commit() {
            count(&self.core.counts.failed_jobs);
            if let Some(Kept { job, effects }) = self.kept.pop() {
                drop(effects);
                job.done(Err(error.into()));
            }
        }
    }
}

/// Tells every job what became of the batch, then everybody else.
fn complete(core: &Arc<Core>, kept: Vec<Kept>, outcome: Result<(), Error>) {
    let mut topics = Vec::new();
    let changes: u64 = kept.iter().map(|kept| kept.effects.changes).sum();
    match &outcome {
        // LMDB syncs nothing when nothing changed.
        Ok(()) if changes == 0 => {}
        Ok(()) => count(&core.counts.commits),
        Err(_) => count(&core.counts.failed_commits),
    }
    for Kept { job, effects } in kept {
        let Effects { topics: raised, chores, adopted, .. } = effects;
        if outcome.is_ok() {
            adopted.into_iter().for_each(|spool| spool.has_owner());
            chores.into_iter().for_each(|chore| chores::begin(core, chore));
            topics.extend(raised.into_iter().filter(|topic| !topics.contains(topic)).collect::<Vec<_>>());
        }
        // Without the commit the spools are dropped here, and with that their chunks' removal is queued.
        job.done(outcome.clone());
    }
    if outcome.is_ok() {
        core.bells.ring(&topics);
        if changes > 0 {
            core.take_put_off().into_iter().for_each(|chore| chores::begin(core, chore));
        }
    }
}
