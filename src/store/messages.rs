//! Messages in mailboxes: what is known of them without opening the blob.
//!
//! Filing one touches its own row, its uid row and two rows of counters, whatever is stored already: the cost does not
//! grow. Return-Path and Delivered-To stand here, because recipients share the blob. Strings come bounded by the caller.
//! Not done yet: moving, threads, changes since a ModSeq, words.

use std::ops::Bound;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ReversePath;
use crate::mail::received::TlsFacts;
use crate::store::accounts::Account;
use crate::store::blobs;
use crate::store::chores::Progress;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::account_key;
use crate::store::codec::mailbox_key;
use crate::store::codec::message_key;
use crate::store::codec::uid_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::ids::MailboxId;
use crate::store::ids::MessageId;
use crate::store::ids::ModSeq;
use crate::store::ids::Uid;
use crate::store::mailboxes::Mailbox;
use crate::store::rows::Filing;
use crate::store::txn::Counter;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// A set of system flags (RFC 9051 section 2.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const SEEN: Flags = Flags(1);
    pub const ANSWERED: Flags = Flags(2);
    pub const FLAGGED: Flags = Flags(4);
    pub const DELETED: Flags = Flags(8);
    pub const DRAFT: Flags = Flags(16);

    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// How a message came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct Reception {
    pub tls: Option<TlsFacts>,
    /// address of the client
    pub client: String,
    pub helo: String,
    /// the id in the Received field and the log
    pub trace_id: String,
}

/// What `file` needs to know.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub blob: BlobId,
    pub return_path: ReversePath,
    pub delivered_to: Address,
    pub flags: Flags,
    pub received: UnixTime,
    pub digest: Digest,
    pub auth_results: String,
    pub require_tls: RequireTls,
    pub reception: Reception,
}

#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Message {
    pub blob: BlobId,
    pub mailbox: MailboxId,
    pub uid: Uid,
    pub return_path: ReversePath,
    pub delivered_to: Address,
    /// octets of the blob
    pub size: u64,
    pub flags: Flags,
    pub modseq: ModSeq,
    pub received: UnixTime,
    pub digest: Digest,
    pub auth_results: String,
    pub require_tls: RequireTls,
    pub reception: Reception,
}

impl Row for Message {
    const WHAT: &'static str = "a message row";
}

/// Where a message was filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filed {
    pub id: MessageId,
    pub uid: Uid,
}

/// Puts a message into a mailbox. The blob was adopted in the same change and counts this use already.
/// `Withdrawn` if account, mailbox or blob is not there (any more).
pub fn file(w: &mut Writer<'_>, account: AccountId, mailbox: MailboxId, new: NewMessage) -> Result<Filed, Error> {
    let gone = |what: &str| Error::Withdrawn(format!("the {what} of the message is not there"));
    let account_at = account_key(account);
    let mailbox_at = mailbox_key(account, mailbox);
    let mut owner = w.row::<Account>(w.tables.account, &account_at)?.ok_or_else(|| gone("account"))?;
    let mut folder = w.row::<Mailbox>(w.tables.mailbox, &mailbox_at)?.ok_or_else(|| gone("mailbox"))?;
    let size = blobs::length(&w.reader(), new.blob)?.ok_or_else(|| gone("blob"))?;
    let id = MessageId(w.next(Counter::Message)?);
    let uid = folder.next_uid;
    folder.next_uid = Uid(uid.0.checked_add(1).ok_or_else(|| Error::Withdrawn("the uids of the mailbox are used up".into()))?);
    folder.messages += 1;
    folder.bytes += size;
    folder.unseen += unseen(new.flags);
    owner.messages += 1;
    owner.used_bytes += size;
    let NewMessage { blob, return_path, delivered_to, flags, received, digest, auth_results, require_tls, reception } = new;
    let modseq = folder.take_modseq();
    let message = Message {
        blob,
        mailbox,
        uid,
        return_path,
        delivered_to,
        size,
        flags,
        modseq,
        received,
        digest,
        auth_results,
        require_tls,
        reception,
    };
    w.put(w.tables.message, &message_key(account, id), &message)?;
    w.put(w.tables.uid, &uid_key(account, mailbox, uid), &Filing(id))?;
    w.put(w.tables.mailbox, &mailbox_at, &folder)?;
    w.put(w.tables.account, &account_at, &owner)?;
    w.raise(Topic::Messages);
    Ok(Filed { id, uid })
}

/// How much a message with these flags adds to `Mailbox::unseen`.
pub(super) fn unseen(flags: Flags) -> u32 {
    u32::from(!flags.contains(Flags::SEEN))
}

pub fn get(r: &Reader<'_>, account: AccountId, id: MessageId) -> Result<Option<Message>, Error> {
    r.row(r.tables.message, &message_key(account, id))
}

/// Messages of a mailbox with a uid behind `after`, oldest first, at most `limit` and at most `PAGE`.
pub fn list(r: &Reader<'_>, account: AccountId, mailbox: MailboxId, after: Uid, limit: usize) -> Result<Vec<(MessageId, Message)>, Error> {
    let prefix = mailbox_key(account, mailbox);
    let mut messages = Vec::new();
    for row in r.from(r.tables.uid, Bound::Excluded(&uid_key(account, mailbox, after)))?.take(limit.min(PAGE)) {
        let (key, value) = row?;
        if !key.starts_with(&prefix) {
            break;
        }
        let Filing(id) = codec::decode(value)?;
        let message = get(r, account, id)?.ok_or_else(|| Error::Damaged(format!("message {id} has a uid row but no row of its own")))?;
        messages.push((id, message));
    }
    Ok(messages)
}

/// Takes a message away. `None`: there was none.
pub fn remove(w: &mut Writer<'_>, account: AccountId, id: MessageId) -> Result<Option<Message>, Error> {
    let Some(message) = w.row::<Message>(w.tables.message, &message_key(account, id))? else { return Ok(None) };
    let (account_at, mailbox_at) = (account_key(account), mailbox_key(account, message.mailbox));
    // An account that is leaving has no counters to keep.
    if let Some(mut owner) = w.row::<Account>(w.tables.account, &account_at)? {
        owner.messages = owner.messages.saturating_sub(1);
        owner.used_bytes = owner.used_bytes.saturating_sub(message.size);
        w.put(w.tables.account, &account_at, &owner)?;
    }
    if let Some(mut folder) = w.row::<Mailbox>(w.tables.mailbox, &mailbox_at)? {
        folder.messages = folder.messages.saturating_sub(1);
        folder.unseen = folder.unseen.saturating_sub(unseen(message.flags));
        folder.bytes = folder.bytes.saturating_sub(message.size);
        folder.take_modseq();
        w.put(w.tables.mailbox, &mailbox_at, &folder)?;
    }
    delete_rows(w, account, id, &message)?;
    w.raise(Topic::Messages);
    Ok(Some(message))
}

fn delete_rows(w: &mut Writer<'_>, account: AccountId, id: MessageId, message: &Message) -> Result<(), Error> {
    w.delete(w.tables.message, &message_key(account, id))?;
    w.delete(w.tables.uid, &uid_key(account, message.mailbox, message.uid))?;
    blobs::release(w, message.blob)
}

/// Deletes up to `limit` messages of an account that is leaving.
pub(super) fn clear_some(w: &mut Writer<'_>, account: AccountId, limit: usize) -> Result<Progress, Error> {
    let rows: Result<Vec<(MessageId, Message)>, Error> = {
        let reader = w.reader();
        let rows = reader.prefix(w.tables.message, &account_key(account))?.take(limit);
        rows.map(|row| {
            let (key, value) = row?;
            Ok((MessageId(codec::u64_at(key, 8)?), codec::decode(value)?))
        })
        .collect()
    };
    let rows = rows?;
    for (id, message) in &rows {
        delete_rows(w, account, *id, message)?;
    }
    Ok(if rows.len() == limit { Progress::More } else { Progress::Done })
}

/// Replaces the flags. `None`: there is no such message.
pub fn set_flags(w: &mut Writer<'_>, account: AccountId, id: MessageId, flags: Flags) -> Result<Option<ModSeq>, Error> {
    let key = message_key(account, id);
    let Some(mut message) = w.row::<Message>(w.tables.message, &key)? else { return Ok(None) };
    if message.flags == flags {
        return Ok(Some(message.modseq));
    }
    let mailbox_at = mailbox_key(account, message.mailbox);
    let Some(mut folder) = w.row::<Mailbox>(w.tables.mailbox, &mailbox_at)? else {
        return Err(Error::Damaged(format!("message {id} is in mailbox {}, which is not there", message.mailbox)));
    };
    folder.unseen = (folder.unseen + unseen(flags)).saturating_sub(unseen(message.flags));
    message.flags = flags;
    message.modseq = folder.take_modseq();
    w.put(w.tables.message, &key, &message)?;
    w.put(w.tables.mailbox, &mailbox_at, &folder)?;
    w.raise(Topic::Messages);
    Ok(Some(message.modseq))
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::Spool;
    use crate::store::Store;
    use crate::store::accounts;
    use crate::store::check;
    use crate::store::mailboxes;
    use crate::store::testing::Scratch;
    use crate::store::testing::new_account;

    pub fn new_message(blob: BlobId) -> NewMessage {
        NewMessage {
            blob,
            return_path: ReversePath::Null,
            delivered_to: Address::parse("ann@example.org").unwrap(),
            flags: Flags::NONE,
            received: UnixTime(5),
            digest: Digest { subject: "tea".into(), ..Digest::default() },
            auth_results: "none".into(),
            require_tls: RequireTls::Default,
            reception: Reception {
                tls: Some(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() }),
                ..Reception::default()
            },
        }
    }

    fn deliver(store: &Store, accounts: &[AccountId], bytes: &[u8]) -> Result<Vec<Filed>, Error> {
        let mut spool = Spool::new(store, 1 << 20);
        block_on(spool.push(bytes))?;
        let spooled = spool.finish(b"Received: by test\r\n".to_vec())?;
        let accounts = accounts.to_vec();
        block_on(store.write(move |w| {
            let blob = blobs::adopt(w, spooled, u32::try_from(accounts.len()).unwrap())?;
            let mut filed = Vec::new();
            for account in accounts {
                let inbox = mailboxes::inbox(&w.reader(), account)?.ok_or(Error::Withdrawn("gone".into()))?;
                filed.push(file(w, account, inbox, new_message(blob))?);
            }
            Ok(filed)
        }))
    }

    fn account(store: &Store, address: &'static str) -> AccountId {
        block_on(store.write(move |w| accounts::create(w, new_account(address)))).unwrap().unwrap()
    }

    #[test]
    fn a_message_is_filed_flagged_listed_and_removed() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let (ann, bob) = (account(&store, "ann@example.org"), account(&store, "bob@example.org"));
        let filed = deliver(&store, &[ann, bob], b"From: x\r\n\r\nhello\r\n").unwrap();
        let inbox = store.read(|r| mailboxes::inbox(r, ann)).unwrap().unwrap();
        let listed = store.read(|r| list(r, ann, inbox, Uid(0), 10)).unwrap();
        assert_eq!((listed.len(), listed[0].0, listed[0].1.uid), (1, filed[0].id, Uid(1)));
        assert_eq!(listed[0].1.size, 37);
        assert_eq!(store.read(|r| list(r, ann, inbox, Uid(1), 10)).unwrap(), []);
        let folder = |store: &Store| store.read(|r| mailboxes::get(r, ann, inbox)).unwrap().unwrap();
        assert_eq!((folder(&store).messages, folder(&store).unseen, folder(&store).bytes), (1, 1, 37));

        let id = filed[0].id;
        let first = block_on(store.write(move |w| set_flags(w, ann, id, Flags::SEEN.with(Flags::FLAGGED)))).unwrap().unwrap();
        assert_eq!((first, folder(&store).unseen), (ModSeq(2), 0));
        assert_eq!(block_on(store.write(move |w| set_flags(w, bob, id, Flags::SEEN))).unwrap(), None);
        assert_eq!(store.read(check::everything).unwrap(), []);

        let removed = block_on(store.write(move |w| remove(w, ann, id))).unwrap().unwrap();
        assert_eq!(block_on(store.write(move |w| remove(w, ann, id))).unwrap(), None);
        assert!(store.read(|r| blobs::length(r, removed.blob)).unwrap().is_some(), "bob still needs the blob");
        let other = filed[1].id;
        block_on(store.write(move |w| remove(w, bob, other))).unwrap();
        assert_eq!(store.read(|r| blobs::length(r, removed.blob)).unwrap(), None);
        assert_eq!(store.read(|r| accounts::get(r, ann)).unwrap().unwrap().used_bytes, 0);
        assert_eq!(store.read(check::everything).unwrap(), []);
    }

    #[test]
    fn a_removed_account_takes_its_mail_along_and_refuses_more() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let (ann, bob) = (account(&store, "ann@example.org"), account(&store, "bob@example.org"));
        for _ in 0..450 {
            deliver(&store, &[ann, bob], b"x").unwrap();
        }
        block_on(store.write(move |w| accounts::remove(w, ann))).unwrap().unwrap();
        assert_eq!(store.read(check::everything).unwrap(), []);
        assert!(matches!(deliver(&store, &[bob, ann], b"x"), Err(Error::Withdrawn(_))));
        while store.counters().waiting > 0 || store.read(|r| Ok(r.all(r.tables.leaving)?.count())).unwrap() > 0 {
            block_on(store.write(|_| Ok(()))).unwrap();
        }
        assert_eq!(store.read(|r| Ok(r.prefix(r.tables.message, &account_key(ann))?.count())).unwrap(), 0);
        assert_eq!(store.read(|r| accounts::get(r, bob)).unwrap().unwrap().messages, 450);
        assert_eq!(store.read(check::everything).unwrap(), []);
    }
}
