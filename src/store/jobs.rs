//! The jobs that wait for the writer thread, in the order in which they were asked for.

use std::collections::VecDeque;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use smol::channel::Sender;

use crate::store::errors::Error;
use crate::store::txn::Writer;

/// What becomes of the rows of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    TakeBack,
}

/// A change on its way through the writer thread.
pub(super) trait Job: Send {
    /// Called once, inside a transaction.
    fn run(&mut self, writer: &mut Writer<'_>) -> Verdict;
    /// Called once: after the sync when the rows were kept, at once when they were taken back.
    fn done(self: Box<Self>, outcome: Result<(), Error>);
}

/// The job of `Store::write`. Nobody may be waiting for the answer any more: that changes nothing.
pub(super) struct Change<T, F> {
    work: Option<F>,
    result: Option<Result<T, Error>>,
    reply: Sender<Result<T, Error>>,
}

impl<T, F> Change<T, F> {
    pub fn new(work: F, reply: Sender<Result<T, Error>>) -> Change<T, F> {
        Change { work: Some(work), result: None, reply }
    }
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: FnOnce(&mut Writer<'_>) -> Result<T, Error> + Send,
{
    fn run(&mut self, writer: &mut Writer<'_>) -> Verdict {
        let work = self.work.take().expect("a job runs once");
        let result = work(writer);
        let verdict = if result.is_ok() { Verdict::Keep } else { Verdict::TakeBack };
        self.result = Some(result);
        verdict
    }

    fn done(self: Box<Self>, outcome: Result<(), Error>) {
        let answer = match (outcome, self.result) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(Error::Panicked),
        };
        let _ = self.reply.try_send(answer);
    }
}

struct Waiting {
    jobs: VecDeque<Box<dyn Job>>,
    open: bool,
}

/// First in, first out; closing lets what waits through and takes nothing more.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { waiting: Mutex::new(Waiting { jobs: VecDeque::new(), open: true }), filled: Condvar::new() }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A closed queue drops the job; whoever waits for its answer finds the channel closed.
    pub fn push(&self, job: Box<dyn Job>) {
        let mut waiting = self.lock();
        if waiting.open {
            waiting.jobs.push_back(job);
            self.filled.notify_one();
        } else {
            // Dropping may come back here (a spool in the job queues its own removal).
            drop(waiting);
            drop(job);
        }
    }

    /// The next job; waits for one. `None` when the queue is closed and empty.
    pub fn wait(&self) -> Option<Box<dyn Job>> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if !waiting.open {
                return None;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn next_now(&self) -> Option<Box<dyn Job>> {
        self.lock().jobs.pop_front()
    }

    pub fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub fn close(&self) {
        self.lock().open = false;
        self.filled.notify_all();
    }
}
