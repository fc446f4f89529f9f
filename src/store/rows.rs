//! Small rows that only the store itself reads: indexes, uses, leftovers.

use nanoserde::{DeBin, SerBin};

use crate::store::codec::Row;
use crate::store::ids::AccountId;
use crate::store::ids::MessageId;

/// A row of `address`: whose address this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Owner(pub AccountId);

impl Row for Owner {
    const WHAT: &'static str = "an address row";
}

/// A row of `uid`: which message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Filing(pub MessageId);

impl Row for Filing {
    const WHAT: &'static str = "a uid row";
}

/// A row of `blob_use`: who needs a blob, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct BlobUse {
    /// rows of `message` and `queue` that refer to it
    pub count: u32,
    /// octets of all chunks
    pub length: u64,
    /// the highest chunk number
    pub chunks: u32,
    /// of the chunks from 1 on, then chunk 0
    pub sha256: [u8; 32],
}

impl Row for BlobUse {
    const WHAT: &'static str = "a blob_use row";
}

/// A row of `spool`: why there are chunks without a `blob_use` row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub enum Unowned {
    /// a message is being received
    WrittenAhead,
    /// the last use is gone
    Removed,
}

impl Row for Unowned {
    const WHAT: &'static str = "a spool row";
}
