//! The octets of a stored message, for a connection: trace fields first, then the message as it was received.
//!
//! One read of the store a chunk, so that neither memory nor a read transaction is held while the peer is slow.

use crate::outbound::converse::Source;
use crate::store::BlobId;
use crate::store::Store;
use crate::store::blobs;

/// Reads one blob from its begin, as often as it is asked to.
pub struct StoredMessage<'s> {
    store: &'s Store,
    blob: BlobId,
    next: u32,
    /// called for each chunk: the peer took the one before
    on_chunk: &'s dyn Fn(),
}

impl<'s> StoredMessage<'s> {
    pub fn new(store: &'s Store, blob: BlobId, on_chunk: &'s dyn Fn()) -> StoredMessage<'s> {
        StoredMessage { store, blob, next: 0, on_chunk }
    }
}

impl Source for StoredMessage<'_> {
    async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        // A blob has its trace block at least: none means that somebody removed the message meanwhile.
        let number = self.next;
        (self.on_chunk)();
        match self.store.read(|r| blobs::chunk(r, self.blob, number)) {
            Ok(None) if number == 0 => Some(Err("the message was removed".to_owned())),
            Ok(None) => None,
            Ok(Some(bytes)) => {
                self.next += 1;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error.to_string())),
        }
    }

    fn restart(&mut self) {
        self.next = 0;
    }
}
