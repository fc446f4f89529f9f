//! The tables of the database: which there are, and what stands in them. Only `store` touches them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | schema version, instance id, counters, last good time |
//! | `account` | AccountId | `accounts::Account` |
//! | `address` | folded address | AccountId |
//! | `leaving` | AccountId | `accounts::Account`; its mail is being removed |
//! | `mailbox` | AccountId, MailboxId | `mailboxes::Mailbox` |
//! | `message` | AccountId, MessageId | `messages::Message` |
//! | `uid` | AccountId, MailboxId, Uid | MessageId |
//! | `blob` | BlobId, chunk | up to 65,520 octets, bare |
//! | `blob_use` | BlobId | count, length, chunks, SHA-256 |
//! | `spool` | BlobId | chunks of this blob belong to nobody yet, or no more |
//! | `key` | name | PKCS#8 |
//! | `queue` | QueueId | `queue::Queued` |
//! | `queue_rcpt` | QueueId, n | `queue::QueuedRecipient`, and whether an attempt is under way |
//! | `queue_dest` | Domain, 0, due, QueueId, n | waiting or failing; recipients that are held have no row |
//! | `queue_due` | due, Domain | nothing: one row a domain, with the earliest due of its `queue_dest` rows |
//! | `hold` | HoldId | `holds::HoldRule` |

use heed::types::Bytes;

use crate::store::errors::Error;

pub(super) type Table<'d> = heed::Database<'d, Bytes, Bytes>;

/// Names in the order of the struct below; a new table goes to the end.
pub(super) const NAMES: [&str; 16] = [
    "meta",
    "account",
    "address",
    "leaving",
    "mailbox",
    "message",
    "uid",
    "blob",
    "blob_use",
    "spool",
    "key",
    "queue",
    "queue_rcpt",
    "queue_dest",
    "queue_due",
    "hold",
];

/// Every table of the database; see the head of this file.
#[derive(Clone, Copy)]
pub(super) struct Tables<'d> {
    pub meta: Table<'d>,
    pub account: Table<'d>,
    pub address: Table<'d>,
    pub leaving: Table<'d>,
    pub mailbox: Table<'d>,
    pub message: Table<'d>,
    pub uid: Table<'d>,
    pub blob: Table<'d>,
    pub blob_use: Table<'d>,
    pub spool: Table<'d>,
    pub key: Table<'d>,
    pub queue: Table<'d>,
    pub queue_rcpt: Table<'d>,
    pub queue_dest: Table<'d>,
    pub queue_due: Table<'d>,
    pub hold: Table<'d>,
}

impl<'d> Tables<'d> {
    pub fn from_array(tables: [Table<'d>; NAMES.len()]) -> Tables<'d> {
        let [
            meta,
            account,
            address,
            leaving,
            mailbox,
            message,
            uid,
            blob,
            blob_use,
            spool,
            key,
            queue,
            queue_rcpt,
            queue_dest,
            queue_due,
            hold,
        ] = tables;
        Tables {
            meta,
            account,
            address,
            leaving,
            mailbox,
            message,
            uid,
            blob,
            blob_use,
            spool,
            key,
            queue,
            queue_rcpt,
            queue_dest,
            queue_due,
            hold,
        }
    }

    pub fn to_array(self) -> [Table<'d>; NAMES.len()] {
        let Tables {
            meta,
            account,
            address,
            leaving,
            mailbox,
            message,
            uid,
            blob,
            blob_use,
            spool,
            key,
            queue,
            queue_rcpt,
            queue_dest,
            queue_due,
            hold,
        } = self;
        [meta, account, address, leaving, mailbox, message, uid, blob, blob_use, spool, key, queue, queue_rcpt, queue_dest, queue_due, hold]
    }
}

/// Makes the tables that are not there yet.
pub(super) fn create<'e>(
    opener: &heed::DatabaseOpener<'e, heed::WithoutTls>,
    txn: &mut heed::RwTxn<'e>,
) -> Result<[Table<'e>; NAMES.len()], Error> {
    let mut made = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        made.push(opener.create_database::<Bytes, Bytes>(txn, Some(name))?);
    }
    made.try_into().map_err(|_| Error::Lmdb("a table is missing".into()))
}
