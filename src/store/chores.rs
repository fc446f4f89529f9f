//! Long removals in short steps: the chunks of a large blob, the mail of an account.
//!
//! A chore is begun by a row (`spool`, `leaving`) of the change that made it necessary, does a bounded piece a job,
//! and deletes its row with the last piece; so it survives a crash: `Store::open` begins again what its row asks for.

use std::sync::Arc;

use crate::store::accounts;
use crate::store::blobs;
use crate::store::codec;
use crate::store::core::Core;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::jobs::Job;
use crate::store::jobs::Verdict;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// chunks without an owner, named by a `spool` row
    SweepBlob(BlobId),
    /// mail of an account named by a `leaving` row
    ClearAccount(AccountId),
}

/// What one step left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

impl Chore {
    fn step(self, writer: &mut Writer<'_>) -> Result<Progress, Error> {
        match self {
            Chore::SweepBlob(blob) => blobs::sweep(writer, blob),
            Chore::ClearAccount(account) => accounts::clear(writer, account),
        }
    }
}

/// Queues the next step.
pub(super) fn begin(core: &Arc<Core>, chore: Chore) {
    core.queue.push(Box::new(Step { core: core.clone(), chore, result: Err(Error::Panicked) }));
}

/// What a crash, or a closing in the middle, left to do.
pub(super) fn left_over(reader: &Reader<'_>) -> Result<Vec<Chore>, Error> {
    let mut chores = Vec::new();
    for row in reader.all(reader.tables.spool)? {
        chores.push(Chore::SweepBlob(BlobId(codec::u64_at(row?.0, 0)?)));
    }
    for row in reader.all(reader.tables.leaving)? {
        chores.push(Chore::ClearAccount(AccountId(codec::u64_at(row?.0, 0)?)));
    }
    Ok(chores)
}

struct Step {
    core: Arc<Core>,
    chore: Chore,
    result: Result<Progress, Error>,
}

impl Job for Step {
    fn run(&mut self, writer: &mut Writer<'_>) -> Verdict {
        self.result = self.chore.step(writer);
        // LMDB looked at a page of each chunk that it freed, and the kernel mapped more around them.
        self.core.env.trim();
        if self.result.is_ok() { Verdict::Keep } else { Verdict::TakeBack }
    }

    fn done(self: Box<Self>, outcome: Result<(), Error>) {
        match outcome.and_then(|()| self.result.clone()) {
            Ok(Progress::Done) => {}
            Ok(Progress::More) => begin(&self.core, self.chore),
            Err(Error::DiskFull | Error::NotCommitted(_) | Error::Lmdb(_)) => self.core.put_off(self.chore),
            // Closed: the next opening goes on.
            Err(Error::Closed) => {}
            Err(error @ (Error::Damaged(_) | Error::Panicked | Error::Withdrawn(_))) => {
                log::error!("store: {:?} cannot go on before the next start: {error}", self.chore);
            }
        }
    }
}
