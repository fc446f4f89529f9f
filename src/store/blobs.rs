//! The octets of messages, in rows that fill their pages exactly, shared by all who need them.
//!
//! Chunk 0 is the trace block (Received, Authentication-Results), written last and read first; chunks from 1 on are the
//! message as it was received. `blob_use` counts who refers to a blob; at zero the chunks go, small blobs at once, large
//! ones in steps (`chores`) under a `spool` row. SHA-256 (chunks from 1 on, then chunk 0) is for `check`.

use crate::store::chores::Chore;
use crate::store::chores::Progress;
use crate::store::codec::blob_key;
use crate::store::codec::chunk_key;
use crate::store::errors::Error;
use crate::store::ids::BlobId;
use crate::store::rows::BlobUse;
use crate::store::rows::Unowned;
use crate::store::spool::Spooled;
use crate::store::txn::Existed;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::txn::read_counter;

/// Octets of a chunk: with LMDB's page header exactly 16 pages of 4,096. One octet more takes 17.
pub const CHUNK: usize = 65_520;
/// The trace block.
const TRACE: u32 = 0;
/// Chunks removed in the change that drops the last use; a larger blob goes in steps.
const AT_ONCE: u32 = 16;
/// Chunks a step of a removal: the pages that LMDB looks at to free them (some of each chunk, and what the kernel maps
/// around them) stay a few MiB until the step gives them back. With 256, ten refused messages of 38 MB cost 163 MB.
const SWEEP: usize = 32;
/// The row of `meta` with the first number that no stored blob has had.
pub(super) const NEXT_BLOB: &[u8] = b"next-blob";

/// Gives a received message its place. `uses` is the number of rows that will refer to it in this same change.
pub fn adopt(w: &mut Writer<'_>, spooled: Spooled, uses: u32) -> Result<BlobId, Error> {
    let Spooled { ahead, written, pending, trace, length, sha256 } = spooled;
    if uses == 0 {
        return Err(Error::Withdrawn("a message without a recipient is not stored".into()));
    }
    let blob = match &ahead {
        Some(ahead) => ahead.blob(),
        None => w.new_blob(),
    };
    // Whatever happens to this change, the guard now shares its fate.
    if let Some(ahead) = ahead {
        w.adopt(ahead);
        if w.delete(w.tables.spool, &blob_key(blob))? == Existed::No {
            return Err(Error::Damaged(format!("the spool row of blob {blob} is missing")));
        }
    }
    claim(w, blob)?;
    let chunks = put_chunks(w, blob, written + 1, &pending)?;
    w.put_bytes(w.tables.blob, &chunk_key(blob, TRACE), &trace)?;
    w.put(w.tables.blob_use, &blob_key(blob), &BlobUse { count: uses, length, chunks, sha256 })?;
    Ok(blob)
}

/// Chunks of a message whose end is not seen yet; only the last may be a short one.
pub(super) fn write_ahead(w: &mut Writer<'_>, blob: BlobId, first: u32, bytes: &[u8]) -> Result<(), Error> {
    if first == TRACE + 1 {
        claim(w, blob)?;
        w.put(w.tables.spool, &blob_key(blob), &Unowned::WrittenAhead)?;
    } else if w.reader().bytes(w.tables.spool, &blob_key(blob))?.is_none() {
        return Err(Error::Damaged(format!("the spool row of blob {blob} is missing")));
    }
    put_chunks(w, blob, first, bytes).map(|_| ())
}

/// Writes chunks from `first` on; returns the number of the last chunk there is.
fn put_chunks(w: &mut Writer<'_>, blob: BlobId, first: u32, bytes: &[u8]) -> Result<u32, Error> {
    let mut number = first;
    for chunk in bytes.chunks(CHUNK) {
        w.put_bytes(w.tables.blob, &chunk_key(blob, number), chunk)?;
        number += 1;
    }
    Ok(number - 1)
}

/// No later run of the program may give this number out again.
fn claim(w: &mut Writer<'_>, blob: BlobId) -> Result<(), Error> {
    if read_counter(&w.reader(), NEXT_BLOB)? <= blob.0 {
        w.put_bytes(w.tables.meta, NEXT_BLOB, &(blob.0 + 1).to_be_bytes())?;
    }
    Ok(())
}

/// Octets of the blob with its trace block. `None`: there is no such blob.
pub fn length(r: &Reader<'_>, blob: BlobId) -> Result<Option<u64>, Error> {
    Ok(r.row::<BlobUse>(r.tables.blob_use, &blob_key(blob))?.map(|used| used.length))
}

/// One chunk; 0 is the trace block. `None`: behind the last. One closure of `Store::read` a chunk keeps memory flat.
pub fn chunk(r: &Reader<'_>, blob: BlobId, number: u32) -> Result<Option<Vec<u8>>, Error> {
    let Some(bytes) = r.bytes(r.tables.blob, &chunk_key(blob, number))? else { return Ok(None) };
    let copy = bytes.to_vec();
    r.env.give_back(bytes, r.view);
    Ok(Some(copy))
}

/// One use less; with the last the chunks go.
pub fn release(w: &mut Writer<'_>, blob: BlobId) -> Result<(), Error> {
    let key = blob_key(blob);
    let Some(mut used) = w.row::<BlobUse>(w.tables.blob_use, &key)? else {
        return Err(Error::Damaged(format!("the blob_use row of blob {blob} is missing")));
    };
    if used.count > 1 {
        used.count -= 1;
        return w.put(w.tables.blob_use, &key, &used);
    }
    w.delete(w.tables.blob_use, &key)?;
    if used.chunks > AT_ONCE {
        w.put(w.tables.spool, &key, &Unowned::Removed)?;
        w.begin_chore(Chore::SweepBlob(blob));
        return Ok(());
    }
    for number in TRACE..=used.chunks {
        w.delete(w.tables.blob, &chunk_key(blob, number))?;
    }
    Ok(())
}

/// Removes some chunks without an owner, and with the last of them the `spool` row.
pub(super) fn sweep(w: &mut Writer<'_>, blob: BlobId) -> Result<Progress, Error> {
    let key = blob_key(blob);
    if w.row::<Unowned>(w.tables.spool, &key)?.is_none() {
        return Ok(Progress::Done);
    }
    if w.row::<BlobUse>(w.tables.blob_use, &key)?.is_some() {
        return Err(Error::Damaged(format!("blob {blob} is in use and yet has a spool row")));
    }
    let rows: Result<Vec<Vec<u8>>, Error> = {
        let reader = w.reader();
        reader.prefix(w.tables.blob, &key)?.take(SWEEP).map(|row| Ok(row?.0.to_vec())).collect()
    };
    let rows = rows?;
    for row in &rows {
        w.delete(w.tables.blob, row)?;
    }
    if rows.len() == SWEEP {
        return Ok(Progress::More);
    }
    w.delete(w.tables.spool, &key)?;
    Ok(Progress::Done)
}
