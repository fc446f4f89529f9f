//! The octets of a stored message, for a connection: trace fields first, then the message as it was received.
//!
//! One read of the store a chunk, so that neither memory nor a read transaction is held while the peer is slow. A blob that
//! ends too early is an error, and never a message: what the peer took of it would be half of one.

use crate::outbound::converse::Source;
use crate::store::BlobId;
use crate::store::Store;
use crate::store::blobs;

/// Reads one blob from its begin, as often as it is asked to.
pub struct StoredMessage<'s> {
    store: &'s Store,
    blob: BlobId,
    next: u32,
    /// octets of the whole blob, and those that were given
    length: u64,
    given: u64,
    /// called for each chunk: the peer took the one before
    on_chunk: &'s dyn Fn(),
}

impl<'s> StoredMessage<'s> {
    pub fn new(store: &'s Store, blob: BlobId, on_chunk: &'s dyn Fn()) -> StoredMessage<'s> {
        StoredMessage { store, blob, next: 0, length: 0, given: 0, on_chunk }
    }
}

impl Source for StoredMessage<'_> {
    async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        // A blob has its trace block at least: none means that somebody removed the message meanwhile.
        let number = self.next;
        (self.on_chunk)();
        let read = self.store.read(|r| {
            let length = if number == 0 { blobs::length(r, self.blob)?.unwrap_or_default() } else { self.length };
            Ok((length, blobs::chunk(r, self.blob, number)?))
        });
        let chunk = read.map(|(length, chunk)| {
            self.length = length;
            chunk
        });
        match chunk {
            Ok(None) if number == 0 => Some(Err("the message was removed".to_owned())),
            Ok(None) if self.given != self.length => Some(Err(format!("{} of its {} octets are there", self.given, self.length))),
            Ok(None) => None,
            Ok(Some(bytes)) => {
                self.next += 1;
                self.given += bytes.len() as u64;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error.to_string())),
        }
    }

    fn restart(&mut self) {
        self.next = 0;
        self.given = 0;
    }
}
