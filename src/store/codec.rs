//! How rows and keys become octets.
//!
//! A value is one version octet and nanoserde binary; a key is big-endian numbers of fixed width. Chunks of blobs have
//! no version octet: they must fill their pages exactly. What cannot be read back is `Error::Damaged`, never a guess.

use std::panic::catch_unwind;

use nanoserde::{DeBin, SerBin};

use crate::mail::date::UnixTime;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::ids::HoldId;
use crate::store::ids::MailboxId;
use crate::store::ids::MessageId;
use crate::store::ids::QueueId;
use crate::store::ids::Uid;

/// Turned over, negative numbers come before the others.
const SIGN: u64 = 1 << 63;

/// A value with a version octet in front.
pub(super) trait Row: SerBin + DeBin {
    /// for the sentence about a damaged row
    const WHAT: &'static str;
    /// raised, with a step in `schema`, when the fields change
    const VERSION: u8 = 1;
}

pub(super) fn encode<R: Row>(row: &R) -> Vec<u8> {
    let mut bytes = vec![R::VERSION];
    row.ser_bin(&mut bytes);
    bytes
}

pub(super) fn decode<R: Row>(bytes: &[u8]) -> Result<R, Error> {
    let damaged = |why: &str| Error::Damaged(format!("{} {why}", R::WHAT));
    match bytes.first() {
        Some(version) if *version == R::VERSION => {}
        Some(version) => return Err(damaged(&format!("has the unknown version {version}"))),
        None => return Err(damaged("is empty"))?,
    }
    // nanoserde adds a length from the row to its offset: a flipped bit can overflow it. `store check` must survive that.
    let read = catch_unwind(|| {
        let mut offset = 1;
        R::de_bin(&mut offset, bytes).map(|row| (row, offset))
    });
    match read {
        Ok(Ok((row, end))) if end == bytes.len() => Ok(row),
        Ok(Ok(_)) => Err(damaged("has octets behind its end")),
        Ok(Err(_)) | Err(_) => Err(damaged("cannot be read")),
    }
}

pub(super) fn account_key(account: AccountId) -> [u8; 8] {
    account.0.to_be_bytes()
}

pub(super) fn mailbox_key(account: AccountId, mailbox: MailboxId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&account.0.to_be_bytes());
    key[8..].copy_from_slice(&mailbox.0.to_be_bytes());
    key
}

pub(super) fn message_key(account: AccountId, message: MessageId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&account.0.to_be_bytes());
    key[8..].copy_from_slice(&message.0.to_be_bytes());
    key
}

pub(super) fn uid_key(account: AccountId, mailbox: MailboxId, uid: Uid) -> [u8; 16] {
    let mut key = [0; 16];
    key[..12].copy_from_slice(&mailbox_key(account, mailbox));
    key[12..].copy_from_slice(&uid.0.to_be_bytes());
    key
}

pub(super) fn blob_key(blob: BlobId) -> [u8; 8] {
    blob.0.to_be_bytes()
}

pub(super) fn chunk_key(blob: BlobId, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&blob.0.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn queue_key(id: QueueId) -> [u8; 8] {
    id.0.to_be_bytes()
}

pub(super) fn recipient_key(id: QueueId, n: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.0.to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

pub(super) fn hold_key(id: HoldId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// A time as octets that sort as times do, also before 1970.
pub(super) fn time_octets(time: UnixTime) -> [u8; 8] {
    (time.0.cast_unsigned() ^ SIGN).to_be_bytes()
}

/// The time that stands in a key from `at` on.
pub(super) fn time_at(key: &[u8], at: usize) -> Result<UnixTime, Error> {
    Ok(UnixTime((u64_at(key, at)? ^ SIGN).cast_signed()))
}

/// The eight octets of a key from `at` on.
pub(super) fn u64_at(key: &[u8], at: usize) -> Result<u64, Error> {
    let octets = key.get(at..at + 8).and_then(|part| part.try_into().ok());
    octets.map(u64::from_be_bytes).ok_or_else(|| Error::Damaged("a key is too short".into()))
}

/// The four octets of a key from `at` on.
pub(super) fn u32_at(key: &[u8], at: usize) -> Result<u32, Error> {
    let octets = key.get(at..at + 4).and_then(|part| part.try_into().ok());
    octets.map(u32::from_be_bytes).ok_or_else(|| Error::Damaged("a key is too short".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, SerBin, DeBin)]
    struct Sample {
        text: String,
        number: u32,
    }

    impl Row for Sample {
        const WHAT: &'static str = "a sample row";
    }

    #[test]
    fn a_row_survives_and_every_damage_is_told() {
        let row = Sample { text: "ann".into(), number: 7 };
        let bytes = encode(&row);
        assert_eq!(bytes[0], 1);
        assert_eq!(decode::<Sample>(&bytes).unwrap(), row);
        for cut in 0..bytes.len() {
            assert!(matches!(decode::<Sample>(&bytes[..cut]), Err(Error::Damaged(_))), "{cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode::<Sample>(&longer).is_err());
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(decode::<Sample>(&newer), Err(Error::Damaged("a sample row has the unknown version 2".into())));
        let mut huge = bytes;
        huge[1..9].fill(0xff);
        assert!(decode::<Sample>(&huge).is_err());
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(message_key(AccountId(1), MessageId(256)) > message_key(AccountId(1), MessageId(255)));
        assert!(message_key(AccountId(2), MessageId(0)) > message_key(AccountId(1), MessageId(u64::MAX)));
        let key = uid_key(AccountId(3), MailboxId(4), Uid(5));
        assert_eq!((u64_at(&key, 0), u32_at(&key, 8), u32_at(&key, 12)), (Ok(3), Ok(4), Ok(5)));
        let times = [i64::MIN, -1, 0, 1, i64::MAX].map(UnixTime);
        assert!(times.is_sorted_by_key(|time| time_octets(*time)));
        assert_eq!(times.map(|time| time_at(&time_octets(time), 0).unwrap()), times);
        assert!(u64_at(&key, 9).is_err() && u32_at(&chunk_key(BlobId(1), 2), 9).is_err());
    }
}
