//! What a closure of `Store::read` and `Store::write` works with: a transaction and the tables.
//!
//! The nouns (`accounts`, `messages`, …) take these; nobody above the store sees more of them. A `Writer` remembers what
//! must happen after the commit (topics to raise, chores to begin, spools whose rows now have an owner), and that it
//! saw LMDB fail, because a transaction that failed once must not be committed.

use std::ops::Bound;

use heed::RoTxn;
use heed::RwTxn;

use crate::store::chores::Chore;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::core::Core;
use crate::store::damage::Damage;
use crate::store::env::Env;
use crate::store::env::View;
use crate::store::errors::Error;
use crate::store::ids::BlobId;
use crate::store::spool::WrittenAhead;
use crate::store::tables::Table;
use crate::store::tables::Tables;
use crate::store::watch::Topic;

/// Most rows a list gives at once: a closure of the main thread must stay short.
pub const PAGE: usize = 200;

pub(super) type Bytes<'a> = (&'a [u8], &'a [u8]);

/// A consistent view of the store.
pub struct Reader<'t> {
    txn: &'t RoTxn<'t>,
    pub(super) tables: Tables<'static>,
    pub(super) env: &'t Env,
    pub(super) view: View,
    pub(super) damage: &'t Damage,
}

impl<'t> Reader<'t> {
    pub(super) fn new(core: &'t Core, txn: &'t RoTxn<'t>) -> Reader<'t> {
        Reader { txn, tables: core.tables, env: &core.env, view: View::Committed, damage: &core.damage }
    }

    pub(super) fn txn(&self) -> &'t RoTxn<'t> {
        self.txn
    }

    pub(super) fn bytes(&self, table: Table<'static>, key: &[u8]) -> Result<Option<&'t [u8]>, Error> {
        Ok(table.get(self.txn, key)?)
    }

    pub(super) fn row<R: Row>(&self, table: Table<'static>, key: &[u8]) -> Result<Option<R>, Error> {
        self.bytes(table, key)?.map(codec::decode).transpose()
    }

    /// Every row of a table, in the order of their keys.
    pub(super) fn all(&self, table: Table<'static>) -> Result<impl Iterator<Item = Result<Bytes<'t>, Error>> + use<'t>, Error> {
        self.from(table, Bound::Unbounded)
    }

    /// Rows whose key begins with `prefix` (not empty: LMDB takes no empty key), in the order of their keys.
    pub(super) fn prefix(
        &self,
        table: Table<'static>,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Bytes<'t>, Error>> + use<'t>, Error> {
        Ok(Rising::new(table.prefix_iter(self.txn, prefix)?, Bound::Included(prefix)))
    }

    /// Rows from the key on, in the order of their keys.
    pub(super) fn from(
        &self,
        table: Table<'static>,
        from: Bound<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<Bytes<'t>, Error>> + use<'t>, Error> {
        Ok(Rising::new(table.range(self.txn, &(from, Bound::Unbounded))?, from))
    }
}

/// Rows whose keys rise from where they began; the first that does not is the last, as an error. Pages that a disk lost
/// or mixed up can lead a cursor back to where it was: a scan would never end, and work would be done twice.
struct Rising<'t, I> {
    rows: I,
    begin: Bound<Vec<u8>>,
    last: Option<&'t [u8]>,
    ended: bool,
}

impl<'t, I: Iterator<Item = Result<Bytes<'t>, heed::Error>>> Rising<'t, I> {
    fn new(rows: I, begin: Bound<&[u8]>) -> Rising<'t, I> {
        Rising { rows, begin: begin.map(<[u8]>::to_vec), last: None, ended: false }
    }

    fn rises(&self, key: &[u8]) -> bool {
        match (self.last, &self.begin) {
            (Some(last), _) => key > last,
            (None, Bound::Included(begin)) => key >= begin.as_slice(),
            (None, Bound::Excluded(begin)) => key > begin.as_slice(),
            (None, Bound::Unbounded) => true,
        }
    }
}

impl<'t, I: Iterator<Item = Result<Bytes<'t>, heed::Error>>> Iterator for Rising<'t, I> {
    type Item = Result<Bytes<'t>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.rows.next().map(|row| match row? {
            (key, _) if !self.rises(key) => {
                Err(Error::Damaged("rows of a table are out of order: pages of the database are mixed up".into()))
            }
            row => Ok(row),
        });
        match &row {
            Some(Ok((key, _))) => self.last = Some(key),
            Some(Err(_)) | None => self.ended = true,
        }
        row
    }
}

/// The counters of `meta` from which numbers are taken.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    Account,
    Mailbox,
    Message,
    Hold,
}

impl Counter {
    pub fn key(self) -> &'static [u8] {
        match self {
            Counter::Account => b"next-account",
            Counter::Mailbox => b"next-mailbox",
            Counter::Message => b"next-message",
            Counter::Hold => b"next-hold",
        }
    }
}

/// What a job whose rows were kept leaves to be done when the batch is on the disk.
#[derive(Default)]
pub(super) struct Effects {
    pub topics: Vec<Topic>,
    pub chores: Vec<Chore>,
    pub adopted: Vec<WrittenAhead>,
    /// rows written or deleted
    pub changes: u64,
    /// octets of the rows written
    pub bytes: usize,
}

/// A change of the store: all of its rows, or none.
pub struct Writer<'p> {
    txn: RwTxn<'p>,
    core: &'p Core,
    pub(super) tables: Tables<'static>,
    effects: Effects,
    broken: Option<Error>,
}

impl<'p> Writer<'p> {
    pub(super) fn new(core: &'p Core, txn: RwTxn<'p>) -> Writer<'p> {
        Writer { txn, core, tables: core.tables, effects: Effects::default(), broken: None }
    }

    /// The transaction with its effects, or the failure of LMDB that makes it worthless.
    pub(super) fn finish(self) -> Result<(RwTxn<'p>, Effects), Error> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok((self.txn, self.effects)),
        }
    }

    /// A view that includes what this change wrote so far.
    pub fn reader(&self) -> Reader<'_> {
        Reader { txn: &self.txn, tables: self.tables, env: &self.core.env, view: View::Uncommitted, damage: &self.core.damage }
    }

    /// Wakes the watchers of a topic after the commit. The nouns do it for their own.
    pub fn raise(&mut self, topic: Topic) {
        if !self.effects.topics.contains(&topic) {
            self.effects.topics.push(topic);
        }
    }

    pub(super) fn row<R: Row>(&self, table: Table<'static>, key: &[u8]) -> Result<Option<R>, Error> {
        table.get(&self.txn, key)?.map(codec::decode).transpose()
    }

    pub(super) fn put<R: Row>(&mut self, table: Table<'static>, key: &[u8], row: &R) -> Result<(), Error> {
        self.put_bytes(table, key, &codec::encode(row))
    }

    pub(super) fn put_bytes(&mut self, table: Table<'static>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let done = table.put(&mut self.txn, key, value);
        self.effects.changes += 1;
        self.effects.bytes += key.len() + value.len();
        self.note(done)
    }

    /// Whether the row was there.
    pub(super) fn delete(&mut self, table: Table<'static>, key: &[u8]) -> Result<Existed, Error> {
        let done = table.delete(&mut self.txn, key);
        let existed = if self.note(done)? { Existed::Yes } else { Existed::No };
        self.effects.changes += u64::from(existed == Existed::Yes);
        Ok(existed)
    }

    /// The next number of a counter.
    pub(super) fn next(&mut self, counter: Counter) -> Result<u64, Error> {
        let number = read_counter(&self.reader(), counter.key())?;
        self.put_bytes(self.tables.meta, counter.key(), &(number + 1).to_be_bytes())?;
        Ok(number)
    }

    /// Which opening of the store this is.
    pub(super) fn run(&self) -> u64 {
        self.core.run
    }

    pub(super) fn new_blob(&self) -> BlobId {
        self.core.new_blob()
    }

    pub(super) fn begin_chore(&mut self, chore: Chore) {
        self.effects.chores.push(chore);
    }

    /// The spool's chunks have an owner if, and only if, this change is committed.
    pub(super) fn adopt(&mut self, spool: WrittenAhead) {
        self.effects.adopted.push(spool);
    }

    fn note<T>(&mut self, done: Result<T, heed::Error>) -> Result<T, Error> {
        done.map_err(|error| {
            let error = self.core.judge(error.into());
            self.broken.get_or_insert_with(|| error.clone());
            error
        })
    }
}

/// Whether a row was there before it was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existed {
    Yes,
    No,
}

/// A counter of `meta`: the next number to give out. The first is 1, so that 0 can mean "before all".
pub(super) fn read_counter(reader: &Reader<'_>, key: &[u8]) -> Result<u64, Error> {
    match reader.bytes(reader.tables.meta, key)? {
        None => Ok(1),
        Some(octets) => codec::u64_at(octets, 0),
    }
}
