//! Everything that must survive a power cut: accounts, mailboxes, messages and their octets, keys. The only folder that
//! imports heed (LMDB).
//!
//! In go closures: `Store::read` runs one on a consistent view, at once; `Store::write` hands one to the writer thread
//! (`writer`), which commits many together, and resolves when they are on the disk. Out come plain values and, after each
//! commit, the ring of a `Watch`. Above, nobody sees a transaction or a table; the nouns are functions:
//! `accounts mailboxes messages blobs keys meta queue holds`, and `Spool` for octets on their way in.
//! `schema` makes and upgrades the tables, `check` proves the invariants, `stat` and `compact` are for the owner.
//!
//! One process owns a directory (`lock`); one that crashed leaves at most rows that `Store::open` clears away (`chores`).
//! Not done: TLS histories, reports, sessions, words (each comes with the service that needs it), and growing the
//! map on 32-bit systems, which ends at 1 GiB.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;

use smol::channel::Receiver;
use smol::channel::bounded;

pub mod accounts;
pub mod anchors;
pub mod blobs;
pub mod check;
mod chores;
mod codec;
mod compact;
mod core;
mod disk;
mod env;
mod errors;
pub mod holds;
pub mod ids;
mod jobs;
pub mod keys;
mod lock;
pub mod mailboxes;
pub mod messages;
pub mod meta;
pub mod queue;
pub mod room;
mod rows;
mod schema;
mod spool;
pub mod stat;
mod tables;
#[cfg(test)]
mod testing;
mod txn;
mod watch;
mod writer;

pub use crate::store::accounts::NewAccount;
pub use crate::store::compact::Compacted;
pub use crate::store::compact::compact;
pub use crate::store::core::Counters;
pub use crate::store::disk::Space;
pub use crate::store::errors::Error;
pub use crate::store::errors::OpenError;
pub use crate::store::ids::AccountId;
pub use crate::store::ids::BlobId;
pub use crate::store::ids::HoldId;
pub use crate::store::ids::MailboxId;
pub use crate::store::ids::MessageId;
pub use crate::store::ids::ModSeq;
pub use crate::store::ids::QueueId;
pub use crate::store::ids::Uid;
pub use crate::store::ids::UidValidity;
pub use crate::store::lock::create_dir;
pub use crate::store::schema::SCHEMA_VERSION;
pub use crate::store::spool::Spool;
pub use crate::store::spool::Spooled;
pub use crate::store::txn::PAGE;
pub use crate::store::txn::Reader;
pub use crate::store::txn::Writer;
pub use crate::store::watch::Topic;
pub use crate::store::watch::Watch;

use crate::store::core::Core;
use crate::store::env::Env;
use crate::store::jobs::Change;
use crate::store::lock::DirLock;
use crate::store::schema::Schema;

/// How a directory is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// octets of address space; `None`: twice the file system and at least 64 GiB (1 GiB on 32-bit). The database can
    /// never become larger.
    pub map_size: Option<usize>,
}

/// A handle to the open store. The directory is free for others when the last clone, and the last `Spool`, is dropped.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// closed when the writer thread has ended
    ended: Receiver<()>,
}

impl Store {
    /// Becomes the owner of the directory, which is made (0700) if it is not there; makes or upgrades the tables, begins
    /// to clear away what a crash left, and starts the thread `store-writer`.
    pub fn open(dir: &Path, options: Options) -> Result<Store, OpenError> {
        Store::open_with(dir, options, schema::CURRENT)
    }

    fn open_with(dir: &Path, options: Options, schema: Schema) -> Result<Store, OpenError> {
        let lock = DirLock::take(dir)?;
        Env::create(dir, options.map_size, |env| schema::prepare(env, schema).map(|_| ()))?;
        let env = Env::open(dir, options.map_size)?;
        let tables = schema::prepare(&env, schema)?;
        let mut core = Core::new(dir.to_owned(), env, tables, lock);
        let (next_blob, chores) = core.read(|r| Ok((txn::read_counter(r, blobs::NEXT_BLOB)?, chores::left_over(r)?)))?;
        core.set_next_blob(next_blob);
        let core = Arc::new(core);
        let work = core.clone();
        let (end, ended) = bounded::<()>(1);
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || {
            writer::serve(&work);
            drop((work, end));
        });
        let thread = thread.map_err(|error| OpenError::io(dir, error))?;
        chores.into_iter().for_each(|chore| chores::begin(&core, chore));
        Ok(Store { handle: Arc::new(Handle { core, thread: Mutex::new(Some(thread)), ended }) })
    }

    /// Looks at a consistent view. The closure must be short (lists give pages) and return what it owns. Reading inside
    /// of a read is allowed; the inner view may be newer than the outer one.
    pub fn read<T>(&self, look: impl FnOnce(&Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.handle.core.read(look)
    }

    /// Changes the store: all that the closure did, or nothing. `Ok` comes only after the sync; with any error nothing of
    /// it is stored. The change is queued at the first poll; dropping the future after that does not stop it. Give an
    /// error from the closure (`Error::Withdrawn`) to take its rows back.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Writer<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = bounded(1);
        self.handle.core.queue.push(Box::new(Change::new(change, reply)));
        let answer = answer.recv().await.unwrap_or(Err(Error::Closed));
        answer.map_err(|error| self.handle.core.judge(error))
    }

    /// A bell that rings after each commit that changed the topic.
    pub fn watch(&self, topic: Topic) -> Watch {
        self.handle.core.bells.watch(topic)
    }

    /// Batches synced to the disk since the store was opened.
    pub fn commits(&self) -> u64 {
        self.counters().commits
    }

    pub fn counters(&self) -> Counters {
        let core = &self.handle.core;
        core.counts.snapshot(core.queue.len())
    }

    /// Room in the file system of the store.
    pub fn space(&self) -> Result<Space, Error> {
        disk::space(self.dir()).map_err(|error| Error::Lmdb(format!("{}: {error}", self.dir().display())))
    }

    /// Octets of the database file that no table uses: removed mail leaves them, new mail takes them first.
    pub fn reusable(&self) -> Result<u64, Error> {
        Ok(self.read(stat::tables)?.free_bytes)
    }

    /// Takes the pages of the map out of resident memory; they stay in the page cache. After bursts and long reads.
    pub fn trim(&self) {
        self.handle.core.env.trim();
    }

    pub fn dir(&self) -> &Path {
        &self.handle.core.dir
    }

    /// Takes no further changes, and waits until the waiting ones are on the disk. Other clones still read.
    pub async fn close(self) {
        self.handle.core.queue.close();
        // Nothing is ever sent: the channel closes when the writer ends.
        let _ = self.handle.ended.recv().await;
    }
}

impl Drop for Handle {
    /// The last handle waits for the changes that are under way: what was asked for is stored.
    fn drop(&mut self) {
        self.core.queue.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A job may hold the last handle: then this is the writer itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
