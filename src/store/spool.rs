//! A message on its way into the store: in memory while it is small, written ahead in chunks when it is not.
//!
//! In go the octets as they are received; out comes a `Spooled` that the final change adopts (`blobs::adopt`). Up to then
//! the chunks belong to nobody: the first job that writes some also writes a `spool` row, and whoever drops a `Spool` or
//! a `Spooled`, by whatever path, queues their removal. After a crash `Store::open` removes what such rows name.
//! Not done here: counting memory of all sessions (`net::budget`; `held` tells this one's part).

use std::mem;
use std::sync::Arc;

use ring::digest::Context;
use ring::digest::SHA256;

use crate::store::Store;
use crate::store::blobs;
use crate::store::blobs::CHUNK;
use crate::store::chores;
use crate::store::chores::Chore;
use crate::store::core::Core;
use crate::store::errors::Error;
use crate::store::ids::BlobId;

/// Chunks a transaction when writing ahead: 1 MiB costs a write amplification of 1.02.
const AHEAD: usize = 16;

/// Takes a message in pieces.
pub struct Spool {
    store: Store,
    /// octets kept in memory before the first chunks are written
    memory: usize,
    pending: Vec<u8>,
    ahead: Option<WrittenAhead>,
    /// chunks written ahead
    written: u32,
    length: u64,
    hash: Context,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// a write was begun and its end not seen: it failed, or the future of `push` was dropped
    Torn,
}

impl Spool {
    /// Keeps up to `memory` octets (at least one chunk) in memory.
    pub fn new(store: &Store, memory: usize) -> Spool {
        Spool {
            store: store.clone(),
            memory: memory.max(CHUNK),
            pending: Vec::new(),
            ahead: None,
            written: 0,
            length: 0,
            hash: Context::new(&SHA256),
            state: State::Whole,
        }
    }

    /// Adds octets, and waits while chunks are written. After an error, or when this future was dropped half way, the
    /// spool gives only errors: drop it.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check_whole()?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > self.limit() {
            let whole = (self.pending.len() / CHUNK).min(AHEAD) * CHUNK;
            self.write_ahead(whole).await?;
        }
        Ok(())
    }

    /// Writes everything that is in memory ahead, because others need the memory; the last chunk may be a short one.
    pub async fn relieve(&mut self) -> Result<(), Error> {
        self.check_whole()?;
        while !self.pending.is_empty() {
            self.write_ahead(self.pending.len().min(AHEAD * CHUNK)).await?;
        }
        self.pending = Vec::new();
        Ok(())
    }

    /// Once on disk, a large message keeps no more in memory than one transaction takes.
    fn limit(&self) -> usize {
        if self.ahead.is_some() { self.memory.min(AHEAD * CHUNK) } else { self.memory }
    }

    async fn write_ahead(&mut self, length: usize) -> Result<(), Error> {
        let chunks = length.div_ceil(CHUNK);
        let rest = self.pending.split_off(length);
        let bytes = mem::replace(&mut self.pending, rest);
        let core = &self.store.handle.core;
        let blob = self.ahead.get_or_insert_with(|| WrittenAhead { core: core.clone(), blob: core.new_blob(), owner: Owner::Nobody }).blob;
        let first = self.written + 1;
        self.state = State::Torn;
        self.store.write(move |w| blobs::write_ahead(w, blob, first, &bytes)).await?;
        self.written += u32::try_from(chunks).unwrap_or(u32::MAX);
        self.state = State::Whole;
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Error> {
        match self.state {
            State::Whole => Ok(()),
            State::Torn => Err(Error::Withdrawn("an earlier part of the message could not be stored".into())),
        }
    }

    /// Octets pushed so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Octets that this spool holds in memory.
    pub fn held(&self) -> usize {
        self.pending.capacity()
    }

    /// Ends the message. `trace` (Received and Authentication-Results, at most one chunk) comes in front when it is read.
    pub fn finish(mut self, trace: Vec<u8>) -> Result<Spooled, Error> {
        self.check_whole()?;
        if trace.len() > CHUNK {
            return Err(Error::Withdrawn(format!("the trace fields of the message are longer than {CHUNK} octets")));
        }
        self.hash.update(&trace);
        let digest = self.hash.finish();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest.as_ref());
        let length = self.length + trace.len() as u64;
        Ok(Spooled { ahead: self.ahead.take(), written: self.written, pending: self.pending, trace, length, sha256 })
    }
}

/// A whole message that waits for its owner. What is still in memory travels with the change that adopts it.
pub struct Spooled {
    pub(super) ahead: Option<WrittenAhead>,
    pub(super) written: u32,
    pub(super) pending: Vec<u8>,
    pub(super) trace: Vec<u8>,
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
}

impl Spooled {
    /// Octets of the message with its trace fields.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    ABlobUse,
}

/// Chunks in the database under a `spool` row. Dropped without an owner, it queues their removal, behind the job that
/// perhaps still waits to write them.
pub(super) struct WrittenAhead {
    core: Arc<Core>,
    blob: BlobId,
    owner: Owner,
}

impl WrittenAhead {
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// The change that adopted the chunks is on the disk.
    pub fn has_owner(mut self) {
        self.owner = Owner::ABlobUse;
    }
}

impl Drop for WrittenAhead {
    fn drop(&mut self) {
        if self.owner == Owner::Nobody {
            chores::begin(&self.core, Chore::SweepBlob(self.blob));
        }
    }
}

#[cfg(test)]
mod tests;
