//! The people who have mail here.
//!
//! An account is found by its primary address, letter case ignored (`Address::folded`); aliases, tags and catch-all are
//! decided above. Removing one takes it out of sight in one change (its row moves to `leaving`, its address is free
//! again); its mail goes in steps (`chores`), which a crash only interrupts.
//! App passwords are kept as SCRAM keys (RFC 5802 section 3), which log nobody in by themselves; how they are made and
//! compared is decided above. One salt an account, so that one look-up serves whichever of them a program uses.

use std::fmt;
use std::ops::Bound;

use heed::RwTxn;
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
use crate::store::tables::Tables;
use crate::store::txn::Counter;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// Rows a step of a removal takes: some milliseconds of the writer thread.
const CLEAR: usize = 200;
/// App passwords of one account: a row is rewritten with each message, and nobody has more programs.
pub const MAX_APP_PASSWORDS: usize = 50;

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
    /// of all its app passwords; empty until the first is made
    pub scram_salt: Vec<u8>,
    pub scram_iterations: u32,
    /// oldest first, names unique
    pub app_passwords: Vec<AppPassword>,
}

/// A password of one program, made by us.
#[derive(Clone, PartialEq, Eq, SerBin, DeBin)]
pub struct AppPassword {
    /// what its owner calls it
    pub name: String,
    pub created: UnixTime,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl Row for Account {
    const WHAT: &'static str = "an account row";
    /// 2: app passwords
    const VERSION: u8 = 2;
}

/// Without the keys, which are nobody's business in a log.
impl fmt::Debug for AppPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppPassword({})", self.name)
    }
}

/// Salt and rounds with which the keys of an app password were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    pub salt: Vec<u8>,
    pub iterations: u32,
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

/// Why an app password is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppPasswordRefused {
    NoSuchAccount,
    NameTaken,
    TooMany,
    /// the account has got another salt meanwhile
    OtherSalt,
}

/// Makes an account with its first mailboxes.
pub fn create(w: &mut Writer<'_>, new: NewAccount) -> Result<Result<AccountId, AlreadyThere>, Error> {
    let folded = new.address.folded();
    if w.row::<Owner>(w.tables.address, folded.as_bytes())?.is_some() {
        return Ok(Err(AlreadyThere));
    }
    let id = AccountId(w.next(Counter::Account)?);
    let account = fresh(new);
    w.put(w.tables.account, &account_key(id), &account)?;
    w.put(w.tables.address, folded.as_bytes(), &Owner(id))?;
    mailboxes::create_first(w, id)?;
    w.raise(Topic::Accounts);
    Ok(Ok(id))
}

fn fresh(new: NewAccount) -> Account {
    Account {
        address: new.address,
        password: new.password,
        created: new.created,
        used_bytes: 0,
        messages: 0,
        scram_salt: Vec::new(),
        scram_iterations: 0,
        app_passwords: Vec::new(),
    }
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

/// Keeps an app password; the first decides the salt of all.
pub fn add_app_password(
    w: &mut Writer<'_>,
    id: AccountId,
    salt: ScramSalt,
    new: AppPassword,
) -> Result<Result<(), AppPasswordRefused>, Error> {
    let Some(mut account) = w.row::<Account>(w.tables.account, &account_key(id))? else {
        return Ok(Err(AppPasswordRefused::NoSuchAccount));
    };
    if account.app_passwords.iter().any(|old| old.name == new.name) {
        return Ok(Err(AppPasswordRefused::NameTaken));
    }
    if account.app_passwords.len() >= MAX_APP_PASSWORDS {
        return Ok(Err(AppPasswordRefused::TooMany));
    }
    if account.app_passwords.is_empty() {
        (account.scram_salt, account.scram_iterations) = (salt.salt, salt.iterations);
    } else if (&account.scram_salt, account.scram_iterations) != (&salt.salt, salt.iterations) {
        return Ok(Err(AppPasswordRefused::OtherSalt));
    }
    account.app_passwords.push(new);
    w.put(w.tables.account, &account_key(id), &account)?;
    w.raise(Topic::Accounts);
    Ok(Ok(()))
}

/// Forgets an app password; says whether there was one of this name.
pub fn remove_app_password(w: &mut Writer<'_>, id: AccountId, name: &str) -> Result<Result<Removed, NoSuchAccount>, Error> {
    let Some(mut account) = w.row::<Account>(w.tables.account, &account_key(id))? else { return Ok(Err(NoSuchAccount)) };
    let before = account.app_passwords.len();
    account.app_passwords.retain(|old| old.name != name);
    if account.app_passwords.len() == before {
        return Ok(Ok(Removed::Nothing));
    }
    w.put(w.tables.account, &account_key(id), &account)?;
    w.raise(Topic::Accounts);
    Ok(Ok(Removed::One))
}

/// What `remove_app_password` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    One,
    Nothing,
}

/// Replaces the hash; an empty one ends all logins with the account's own password. App passwords stay.
pub fn set_password(w: &mut Writer<'_>, id: AccountId, password: String) -> Result<Result<(), NoSuchAccount>, Error> {
    let Some(mut account) = w.row::<Account>(w.tables.account, &account_key(id))? else { return Ok(Err(NoSuchAccount)) };
    account.password = password;
    w.put(w.tables.account, &account_key(id), &account)?;
    w.raise(Topic::Accounts);
    Ok(Ok(()))
}

/// A row of version 1: without app passwords.
#[derive(SerBin, DeBin)]
struct AccountV1 {
    address: Address,
    password: String,
    created: UnixTime,
    used_bytes: u64,
    messages: u64,
}

impl Row for AccountV1 {
    const WHAT: &'static str = "an account row of version 1";
}

/// Rewrites the rows of `account` and `leaving` for version 2 of the store.
pub(super) fn upgrade_1_to_2(txn: &mut RwTxn<'_>, tables: &Tables<'_>) -> Result<(), Error> {
    for table in [tables.account, tables.leaving] {
        let rows: Vec<(Vec<u8>, AccountV1)> = table
            .iter(txn)?
            .map(|row| row.map_err(Error::from).and_then(|(key, value)| Ok((key.to_vec(), codec::decode(value)?))))
            .collect::<Result<_, Error>>()?;
        for (key, old) in rows {
            let AccountV1 { address, password, created, used_bytes, messages } = old;
            let row = Account { used_bytes, messages, ..fresh(NewAccount { address, password, created }) };
            table.put(txn, &key, &codec::encode(&row))?;
        }
    }
    Ok(())
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
    use crate::store::Options;
    use crate::store::Store;
    use crate::store::schema::Schema;
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

    #[test]
    fn app_passwords_come_and_go_and_outlive_a_new_password() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let ann = block_on(store.write(|w| create(w, new_account("ann@example.org")))).unwrap().unwrap();
        let salt = ScramSalt { salt: vec![1; 16], iterations: 4096 };
        let app = |name: &str| AppPassword { name: name.into(), created: UnixTime(7), stored_key: [2; 32], server_key: [3; 32] };
        let add = |salt: &ScramSalt, name: &str| {
            let (salt, new) = (salt.clone(), app(name));
            block_on(store.write(move |w| add_app_password(w, ann, salt, new))).unwrap()
        };
        assert_eq!(add(&salt, "phone"), Ok(()));
        assert_eq!(add(&salt, "phone"), Err(AppPasswordRefused::NameTaken));
        let other = ScramSalt { salt: vec![9; 16], iterations: 4096 };
        assert_eq!(add(&other, "tablet"), Err(AppPasswordRefused::OtherSalt));
        for number in 1..MAX_APP_PASSWORDS {
            assert_eq!(add(&salt, &number.to_string()), Ok(()));
        }
        assert_eq!(add(&salt, "one more"), Err(AppPasswordRefused::TooMany));
        block_on(store.write(move |w| set_password(w, ann, "$argon2id$x".into()))).unwrap().unwrap();
        let row = store.read(|r| get(r, ann)).unwrap().unwrap();
        assert_eq!((row.app_passwords.len(), &row.app_passwords[0], row.scram_salt.as_slice()), (50, &app("phone"), &[1; 16][..]));
        assert!(!format!("{row:?} {:?}", row.app_passwords).contains("2, 2"));
        for left in [Removed::One, Removed::Nothing] {
            assert_eq!(block_on(store.write(move |w| remove_app_password(w, ann, "phone"))).unwrap(), Ok(left));
        }
        block_on(store.write(move |w| remove(w, ann))).unwrap().unwrap();
        assert_eq!(add(&salt, "late"), Err(AppPasswordRefused::NoSuchAccount));
    }

    #[test]
    fn rows_of_version_1_get_no_app_passwords() {
        let old = AccountV1 {
            address: Address::parse("ann@example.org").unwrap(),
            password: "$argon2id$x".into(),
            created: UnixTime(7),
            used_bytes: 5,
            messages: 1,
        };
        let scratch = Scratch::new();
        let options = Options { map_size: Some(4 << 20) };
        let store = Store::open_with(scratch.path(), options, Schema { version: 1, steps: &[] }).unwrap();
        block_on(store.write(move |w| {
            w.put(w.tables.account, &account_key(AccountId(3)), &old)?;
            w.put(w.tables.leaving, &account_key(AccountId(2)), &old)
        }))
        .unwrap();
        block_on(store.close());
        let store = Store::open_with(scratch.path(), options, Schema { version: 2, steps: &[upgrade_1_to_2] }).unwrap();
        let row = store.read(|r| get(r, AccountId(3))).unwrap().unwrap();
        assert_eq!((row.password.as_str(), row.messages, row.used_bytes), ("$argon2id$x", 1, 5));
        assert_eq!((row.scram_salt.len(), row.app_passwords.len()), (0, 0));
        block_on(store.close());
    }
}
