//! Mailboxes (IMAP's word for folders) of an account: names, counters, uids.
//!
//! `INBOX` is the same in any case (RFC 9051 section 5.1); other names are compared octet by octet. A UidValidity is the
//! mailbox's own number, so a name made anew never has an old one. Not done yet: renaming, removal, subscriptions.

use nanoserde::{DeBin, SerBin};

use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::account_key;
use crate::store::codec::mailbox_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::MailboxId;
use crate::store::ids::ModSeq;
use crate::store::ids::Uid;
use crate::store::ids::UidValidity;
use crate::store::txn::Counter;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// The name every account has (RFC 9051 section 5.1).
const INBOX: &str = "INBOX";
/// Longest name in octets: fits any screen, and a list of them any reply.
const MAX_NAME: usize = 255;
/// Mailboxes an account may have: a list of all of them is read at once.
const MAX_MAILBOXES: usize = 1000;

/// What a mailbox is for (RFC 6154).
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerBin, DeBin)]
pub enum SpecialUse {
    None,
    Inbox,
    Drafts,
    Sent,
    Junk,
    Trash,
    Archive,
}

/// What a new account gets, in this order.
const FIRST: [(&str, SpecialUse); 6] = [
    (INBOX, SpecialUse::Inbox),
    ("Drafts", SpecialUse::Drafts),
    ("Sent", SpecialUse::Sent),
    ("Junk", SpecialUse::Junk),
    ("Trash", SpecialUse::Trash),
    ("Archive", SpecialUse::Archive),
];

#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct Mailbox {
    pub name: String,
    pub special_use: SpecialUse,
    pub uid_validity: UidValidity,
    /// the uid of the next message
    pub next_uid: Uid,
    /// the number of the next change
    pub next_modseq: ModSeq,
    pub messages: u32,
    /// messages without the flag `\Seen`
    pub unseen: u32,
    /// octets of all messages
    pub bytes: u64,
}

impl Row for Mailbox {
    const WHAT: &'static str = "a mailbox row";
}

impl Mailbox {
    pub(super) fn take_modseq(&mut self) -> ModSeq {
        let modseq = self.next_modseq;
        self.next_modseq.0 += 1;
        modseq
    }
}

/// Why a mailbox was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    AlreadyThere,
    BadName,
    TooMany,
}

/// Makes a mailbox in an account that must exist.
pub fn create(w: &mut Writer<'_>, account: AccountId, name: &str, special_use: SpecialUse) -> Result<Result<MailboxId, NotMade>, Error> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Ok(Err(NotMade::BadName));
    }
    let there = list(&w.reader(), account)?;
    if there.iter().any(|(_, mailbox)| same_name(&mailbox.name, name)) {
        return Ok(Err(NotMade::AlreadyThere));
    }
    if there.len() >= MAX_MAILBOXES {
        return Ok(Err(NotMade::TooMany));
    }
    let number = u32::try_from(w.next(Counter::Mailbox)?).map_err(|_| Error::Withdrawn("the numbers of mailboxes are used up".into()))?;
    let mailbox = Mailbox {
        name: name.to_owned(),
        special_use,
        uid_validity: UidValidity(number),
        next_uid: Uid(1),
        next_modseq: ModSeq(1),
        messages: 0,
        unseen: 0,
        bytes: 0,
    };
    w.put(w.tables.mailbox, &mailbox_key(account, MailboxId(number)), &mailbox)?;
    w.raise(Topic::Messages);
    Ok(Ok(MailboxId(number)))
}

/// The mailboxes of a new account.
pub(super) fn create_first(w: &mut Writer<'_>, account: AccountId) -> Result<(), Error> {
    for (name, special_use) in FIRST {
        if create(w, account, name, special_use)?.is_err() {
            return Err(Error::Damaged(format!("the new account {account} has mailboxes already")));
        }
    }
    Ok(())
}

fn same_name(one: &str, other: &str) -> bool {
    one == other || (one.eq_ignore_ascii_case(INBOX) && other.eq_ignore_ascii_case(INBOX))
}

pub fn get(r: &Reader<'_>, account: AccountId, mailbox: MailboxId) -> Result<Option<Mailbox>, Error> {
    r.row(r.tables.mailbox, &mailbox_key(account, mailbox))
}

/// All mailboxes, oldest first; INBOX is the first.
pub fn list(r: &Reader<'_>, account: AccountId) -> Result<Vec<(MailboxId, Mailbox)>, Error> {
    let rows = r.prefix(r.tables.mailbox, &account_key(account))?;
    rows.map(|row| {
        let (key, value) = row?;
        Ok((MailboxId(codec::u32_at(key, 8)?), codec::decode(value)?))
    })
    .collect()
}

pub fn find_by_name(r: &Reader<'_>, account: AccountId, name: &str) -> Result<Option<(MailboxId, Mailbox)>, Error> {
    Ok(list(r, account)?.into_iter().find(|(_, mailbox)| same_name(&mailbox.name, name)))
}

/// The oldest mailbox of that use.
pub fn find_by_use(r: &Reader<'_>, account: AccountId, special_use: SpecialUse) -> Result<Option<(MailboxId, Mailbox)>, Error> {
    Ok(list(r, account)?.into_iter().find(|(_, mailbox)| mailbox.special_use == special_use))
}

/// Where mail is delivered. `None`: there is no such account.
pub fn inbox(r: &Reader<'_>, account: AccountId) -> Result<Option<MailboxId>, Error> {
    Ok(find_by_use(r, account, SpecialUse::Inbox)?.map(|(id, _)| id))
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::accounts;
    use crate::store::testing::Scratch;
    use crate::store::testing::new_account;

    #[test]
    fn names_are_unique_and_inbox_has_no_case() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let account = block_on(store.write(|w| accounts::create(w, new_account("ann@example.org")))).unwrap().unwrap();
        let names = store.read(|r| list(r, account)).unwrap().into_iter().map(|(_, m)| m.name).collect::<Vec<_>>();
        assert_eq!(names, ["INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"]);
        let make = |name: &'static str| block_on(store.write(move |w| create(w, account, name, SpecialUse::None))).unwrap();
        assert_eq!(make("inbox"), Err(NotMade::AlreadyThere));
        assert_eq!(make("Sent"), Err(NotMade::AlreadyThere));
        assert_eq!(make("a\r\nb"), Err(NotMade::BadName));
        let made = make("sent").unwrap();
        assert_eq!(store.read(|r| find_by_name(r, account, "sent")).unwrap().unwrap().0, made);
        assert_eq!(
            store.read(|r| find_by_name(r, account, "InBox")).unwrap().map(|(id, _)| id),
            store.read(|r| inbox(r, account)).unwrap()
        );
        assert_eq!(store.read(|r| inbox(r, AccountId(99))).unwrap(), None);
        assert_eq!(store.read(|r| get(r, account, made)).unwrap().unwrap().uid_validity, UidValidity(made.0));
    }
}
