//! The numbers by which rows are known. All are counters; none is ever given out twice.
//!
//! They are big-endian and of fixed width in keys (`codec`), so that rows lie in the order of their creation.

use std::fmt;

use nanoserde::{DeBin, DeBinErr, SerBin};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        // By hand: the derive does not understand types from macros.
        impl SerBin for $name {
            fn ser_bin(&self, out: &mut Vec<u8>) {
                self.0.ser_bin(out);
            }
        }

        impl DeBin for $name {
            fn de_bin(offset: &mut usize, bytes: &[u8]) -> Result<Self, DeBinErr> {
                Ok($name(DeBin::de_bin(offset, bytes)?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One account of this server.
    AccountId(u64)
);
number!(
    /// One mailbox (IMAP's word for a folder); unique in the whole store.
    MailboxId(u32)
);
number!(
    /// One message in one account; unique in the whole store.
    MessageId(u64)
);
number!(
    /// The octets of one accepted transaction, shared by its recipients.
    BlobId(u64)
);
number!(
    /// RFC 9051 section 2.3.1.1: ascending within a mailbox, begins at 1.
    Uid(u32)
);
number!(
    /// RFC 9051 section 2.3.1.1: changes when uids of a mailbox name begin anew.
    UidValidity(u32)
);
number!(
    /// RFC 7162: grows with every change of a mailbox, begins at 1.
    ModSeq(u64)
);
