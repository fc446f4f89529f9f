//! The people who have mail here.
//!
//! An account is found by its primary address, letter case ignored (`Address::folded`); aliases, tags and catch-all are
//! decided above. Removing one takes it out of sight in one change (its row moves to `leaving`, its address is free
//! again); its mail goes in steps (`chores`), which a crash only interrupts.

use std::fmt;
use std::ops::Bound;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::store::chores::Chore;
use crate::store::chores::Progress;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::account_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::mailboxes;
use crate::store::messages;
use crate::store::rows::Owner;
use crate::store::txn::Counter;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// Rows a step of a removal takes: some milliseconds of the writer thread.
const CLEAR: usize = 200;

/// What an account begins with.
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub address: Address,
    /// argon2 hash in PHC form; empty: nobody can log in
    pub password: String,
    pub created: UnixTime,
}

#[derive(Clone, PartialEq, Eq, SerBin, DeBin)]
pub struct Account {
    /// the primary address
    pub address: Address,
    /// argon2 hash in PHC form; empty: nobody can log in
    pub password: String,
    pub created: UnixTime,
    /// octets of all messages
    pub used_bytes: u64,
    pub messages: u64,
}

impl Row for Account {
    const WHAT: &'static str = "an account row";
}

/// Without the hash, which is nobody's business in a log.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({}, {} messages, {} octets)", self.address, self.messages, self.used_bytes)
    }
}

/// The address has an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyThere;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchAccount;

/// Makes an account with its first mailboxes.
pub fn create(w: &mut Writer<'_>, new: NewAccount) -> Result<Result<AccountId, AlreadyThere>, Error> {
    let folded = new.address.folded();
    if w.row::<Owner>(w.tables.address, folded.as_bytes())?.is_some() {
        return Ok(Err(AlreadyThere));
    }
    let id = AccountId(w.next(Counter::Account)?);
    let account = Account { address: new.address, password: new.password, created: new.created, used_bytes: 0, messages: 0 };
    w.put(w.tables.account, &account_key(id), &account)?;
    w.put(w.tables.address, folded.as_bytes(), &Owner(id))?;
    mailboxes::create_first(w, id)?;
    w.raise(Topic::Accounts);
    Ok(Ok(id))
}

/// By primary address, letter case ignored.
pub fn find(r: &Reader<'_>, address: &Address) -> Result<Option<AccountId>, Error> {
    Ok(r.row::<Owner>(r.tables.address, address.folded().as_bytes())?.map(|owner| owner.0))
}

pub fn get(r: &Reader<'_>, id: AccountId) -> Result<Option<Account>, Error> {
    r.row(r.tables.account, &account_key(id))
}

/// Accounts behind `after` (`None`: from the first), oldest first, at most `limit` and at most `PAGE`.
pub fn list(r: &Reader<'_>, after: Option<AccountId>, limit: usize) -> Result<Vec<(AccountId, Account)>, Error> {
    let from = account_key(after.unwrap_or(AccountId(0)));
    let rows = r.from(r.tables.account, Bound::Excluded(&from))?.take(limit.min(PAGE));
    rows.map(|row| {
        let (key, value) = row?;
        Ok((AccountId(codec::u64_at(key, 0)?), codec::decode(value)?))
    })
    .collect()
}

/// Replaces the hash; an empty one ends all logins.
pub fn set_password(w: &mut Writer<'_>, id: AccountId, password: String) -> Result<Result<(), NoSuchAccount>, Error> {
    let Some(mut account) = w.row::<Account>(w.tables.account, &account_key(id))? else { return Ok(Err(NoSuchAccount)) };
    account.password = password;
    w.put(w.tables.account, &account_key(id), &account)?;
    w.raise(Topic::Accounts);
    Ok(Ok(()))
}

/// Takes the account out of sight at once; its mail is deleted in the background.
pub fn remove(w: &mut Writer<'_>, id: AccountId) -> Result<Result<(), NoSuchAccount>, Error> {
    let key = account_key(id);
    let Some(account) = w.row::<Account>(w.tables.account, &key)? else { return Ok(Err(NoSuchAccount)) };
    w.delete(w.tables.account, &key)?;
    w.delete(w.tables.address, account.address.folded().as_bytes())?;
    w.put(w.tables.leaving, &key, &account)?;
    w.begin_chore(Chore::ClearAccount(id));
    w.raise(Topic::Accounts);
    Ok(Ok(()))
}

/// Deletes some rows of an account that is leaving: messages, then mailboxes, then its own.
pub(super) fn clear(w: &mut Writer<'_>, id: AccountId) -> Result<Progress, Error> {
    let key = account_key(id);
    if w.row::<Account>(w.tables.leaving, &key)?.is_none() {
        return Ok(Progress::Done);
    }
    if messages::clear_some(w, id, CLEAR)? == Progress::More {
        return Ok(Progress::More);
    }
    let mailboxes: Result<Vec<Vec<u8>>, Error> = {
        let reader = w.reader();
        reader.prefix(w.tables.mailbox, &key)?.take(CLEAR).map(|row| Ok(row?.0.to_vec())).collect()
    };
    let mailboxes = mailboxes?;
    for mailbox in &mailboxes {
        w.delete(w.tables.mailbox, mailbox)?;
    }
    if mailboxes.len() == CLEAR {
        return Ok(Progress::More);
    }
    w.delete(w.tables.leaving, &key)?;
    Ok(Progress::Done)
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::testing::Scratch;
    use crate::store::testing::new_account;

    #[test]
    fn an_account_is_found_in_any_case_until_it_is_removed() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let mut bell = store.watch(Topic::Accounts);
        let ann = block_on(store.write(|w| create(w, new_account("Ann@example.org")))).unwrap().unwrap();
        block_on(bell.changed());
        let find = |text: &str| store.read(|r| find(r, &Address::parse(text).unwrap())).unwrap();
        assert_eq!(find("aNN@EXAMPLE.org"), Some(ann));
        assert_eq!(find("bob@example.org"), None);
        assert_eq!(block_on(store.write(|w| create(w, new_account("ann@example.org")))).unwrap(), Err(AlreadyThere));
        let bob = block_on(store.write(|w| create(w, new_account("bob@example.org")))).unwrap().unwrap();
        assert_eq!(block_on(store.write(move |w| set_password(w, bob, "$argon2id$x".into()))).unwrap(), Ok(()));
        let listed = store.read(|r| list(r, None, 10)).unwrap();
        assert_eq!(listed.iter().map(|(id, a)| (*id, a.password.as_str())).collect::<Vec<_>>(), [(ann, ""), (bob, "$argon2id$x")]);
        assert_eq!(store.read(|r| list(r, Some(ann), 10)).unwrap().len(), 1);
        assert!(!format!("{listed:?}").contains("argon2"));

        assert_eq!(block_on(store.write(move |w| remove(w, ann))).unwrap(), Ok(()));
        assert_eq!(find("ann@example.org"), None);
        assert_eq!(block_on(store.write(move |w| remove(w, ann))).unwrap(), Err(NoSuchAccount));
        let again = block_on(store.write(|w| create(w, new_account("ann@example.org")))).unwrap().unwrap();
        assert!(again > bob);
    }
}
