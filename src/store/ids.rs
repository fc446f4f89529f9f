//! The numbers by which rows are known. All but `QueueId` are counters; none is ever given out twice.
//!
//! They are big-endian and of fixed width in keys (`codec`), so that rows lie in the order of their creation.
//! A `QueueId` is the trace id of a message (`intake::trace`) read as a number: people see the same 13 letters in
//! Received, in the log and in the queue.

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

number!(
    /// One rule that holds mail back.
    HoldId(u64)
);

/// The letters of a trace id: digits and lower-case letters without those that are mistaken for others when read aloud.
pub const TRACE_LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters of a trace id: 7 of its second, 6 at random.
const TRACE_LENGTH: u32 = 13;
const BITS_A_LETTER: u32 = 5;

/// One message of the queue: its trace id as a number, so that ids sort by the time of arrival. 65 bits do not fit, but
/// the first is zero until the year 2514.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, SerBin, DeBin)]
pub struct QueueId(pub u64);

impl QueueId {
    /// From the 13 letters, letter case ignored.
    pub fn parse(text: &str) -> Option<QueueId> {
        if text.len() != TRACE_LENGTH as usize {
            return None;
        }
        let mut number: u64 = 0;
        for letter in text.bytes() {
            let digit = TRACE_LETTERS.iter().position(|known| *known == letter.to_ascii_lowercase())?;
            number = number.checked_mul(1 << BITS_A_LETTER)?.checked_add(digit as u64)?;
        }
        Some(QueueId(number))
    }
}

/// The 13 letters.
impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in (0..TRACE_LENGTH).rev() {
            let digit = (u128::from(self.0) >> (BITS_A_LETTER * at)) & 31;
            let letter = TRACE_LETTERS[usize::try_from(digit).unwrap_or(0)];
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_survives_as_a_number() {
        for text in ["0000000000000", "1nfm2rbq0a1b2", "fzzzzzzzzzzzz"] {
            let id = QueueId::parse(text).unwrap();
            assert_eq!((id.to_string().as_str(), QueueId::parse(&text.to_uppercase())), (text, Some(id)));
        }
        assert_eq!(QueueId::parse("fzzzzzzzzzzzz"), Some(QueueId(u64::MAX)));
        assert!(QueueId::parse("0000000000001") > QueueId::parse("0000000000000"));
        for text in ["", "000000000000", "00000000000000", "g000000000000", "o000000000000", "000000000000ü"] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
    }
}
