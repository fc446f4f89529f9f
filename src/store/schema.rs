//! The version of the tables, and how a directory of an older one becomes new.
//!
//! Making the tables, the first rows, and all upgrade steps are one transaction: a crash leaves the old version whole.
//! A store of a later version is refused before anything is written.

use heed::CommitOrAbort;
use heed::RwTxn;
use heed::types::Bytes;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::store::accounts;
use crate::store::codec;
use crate::store::env::Env;
use crate::store::errors::Error;
use crate::store::errors::OpenError;
use crate::store::meta;
use crate::store::tables;
use crate::store::tables::NAMES;
use crate::store::tables::Table;
use crate::store::tables::Tables;

/// The version this program writes.
pub const SCHEMA_VERSION: u32 = 2;
const VERSION: &[u8] = b"schema-version";

/// Rewrites the rows of one version as those of the next.
pub(super) type Step = fn(&mut RwTxn<'_>, &Tables<'_>) -> Result<(), Error>;

/// Which version to reach, and how: `steps[0]` leads from version 1 to 2.
#[derive(Clone, Copy)]
pub(super) struct Schema {
    pub version: u32,
    pub steps: &'static [Step],
}

/// The schema of this program.
pub(super) const CURRENT: Schema = Schema { version: SCHEMA_VERSION, steps: &[from_1_to_2] };

/// The queue came, whose tables are new and empty, and app passwords in the row of an account.
fn from_1_to_2(txn: &mut RwTxn<'_>, tables: &Tables<'_>) -> Result<(), Error> {
    accounts::upgrade_1_to_2(txn, tables)
}

/// Makes or upgrades the tables.
pub(super) fn prepare(env: &Env, schema: Schema) -> Result<Tables<'static>, OpenError> {
    let found = look(env)?;
    if let Some(found) = found
        && found > schema.version
    {
        return Err(OpenError::Newer { found, known: schema.version });
    }
    let txn = env.write_txn()?;
    let made = env.heed().create_databases_and_commit(txn, |opener, txn| {
        let made = tables::create(opener, txn)?;
        let tables = Tables::from_array(made);
        match found {
            None => begin(txn, &tables, schema)?,
            Some(found) => upgrade(txn, &tables, schema, found)?,
        }
        Ok::<_, Error>(CommitOrAbort::<[Table<'_>; NAMES.len()], ()>::Commit(made))
    });
    match made?.commit() {
        Some(tables) => Ok(Tables::from_array(tables)),
        None => Err(OpenError::Lmdb("the tables were not made".into())),
    }
}

/// The version of the tables, `None` for a new file.
fn look(env: &Env) -> Result<Option<u32>, OpenError> {
    let txn = env.read_txn()?;
    let seen = env.heed().open_databases_and_commit(txn, |opener, txn| {
        let version = match opener.open_database::<Bytes, Bytes>(txn, Some("meta"))? {
            Some(meta) => meta.get(txn, VERSION)?.map(|octets| codec::u32_at(octets, 0)).transpose()?,
            None => None,
        };
        Ok::<_, Error>(CommitOrAbort::<(), Option<u32>>::Abort(version))
    })?;
    Ok(seen.abort().flatten())
}

fn begin(txn: &mut RwTxn<'_>, tables: &Tables<'_>, schema: Schema) -> Result<(), Error> {
    for (table, name) in tables.to_array().iter().zip(NAMES) {
        if !table.is_empty(txn)? {
            return Err(Error::Damaged(format!("the table {name} has rows, but the version of the store is missing")));
        }
    }
    tables.meta.put(txn, VERSION, &schema.version.to_be_bytes())?;
    tables.meta.put(txn, meta::INSTANCE, new_instance_id()?.as_bytes())?;
    Ok(())
}

fn upgrade(txn: &mut RwTxn<'_>, tables: &Tables<'_>, schema: Schema, found: u32) -> Result<(), Error> {
    if found == schema.version {
        return Ok(());
    }
    let missing = || Error::Damaged(format!("there is no way from version {found} of the store to {}", schema.version));
    for version in found..schema.version {
        let at = version.checked_sub(1).and_then(|at| usize::try_from(at).ok()).ok_or_else(missing)?;
        let step = schema.steps.get(at).ok_or_else(missing)?;
        step(txn, tables)?;
    }
    tables.meta.put(txn, VERSION, &schema.version.to_be_bytes())?;
    Ok(())
}

fn new_instance_id() -> Result<String, Error> {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).map_err(|_| Error::Lmdb("the system gives no random numbers".into()))?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use smol::block_on;

    use super::*;
    use crate::store::Options;
    use crate::store::Store;
    use crate::store::keys;
    use crate::store::testing::Scratch;

    fn options() -> Options {
        Options { map_size: Some(4 << 20) }
    }

    /// The version after this program's writes key names in upper case, the one after that forgets empty keys.
    const LATER: Schema = Schema { version: SCHEMA_VERSION + 2, steps: &[from_1_to_2, upper, forget] };

    type Copied = (Vec<u8>, Vec<u8>);

    fn rows(txn: &RwTxn<'_>, table: Table<'_>) -> Result<Vec<Copied>, Error> {
        table.iter(txn)?.map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(Error::from)).collect()
    }

    fn upper(txn: &mut RwTxn<'_>, tables: &Tables<'_>) -> Result<(), Error> {
        for (name, value) in rows(txn, tables.key)? {
            tables.key.delete(txn, &name)?;
            tables.key.put(txn, &name.to_ascii_uppercase(), &value)?;
        }
        Ok(())
    }

    fn forget(txn: &mut RwTxn<'_>, tables: &Tables<'_>) -> Result<(), Error> {
        for (name, value) in rows(txn, tables.key)? {
            if value.is_empty() {
                tables.key.delete(txn, &name)?;
            }
        }
        Ok(())
    }

    fn broken(_: &mut RwTxn<'_>, _: &Tables<'_>) -> Result<(), Error> {
        Err(Error::Damaged("this step fails".into()))
    }

    /// A directory as this program wrote it.
    fn of_today(scratch: &Scratch) {
        let store = Store::open(scratch.path(), options()).unwrap();
        block_on(store.write(|w| keys::put(w, "one", b"1").and_then(|()| keys::put(w, "empty", b"")))).unwrap();
        block_on(store.close());
    }

    #[test]
    fn an_older_directory_is_upgraded_step_by_step() {
        let scratch = Scratch::new();
        of_today(&scratch);
        let store = Store::open_with(scratch.path(), options(), LATER).unwrap();
        assert_eq!(store.read(keys::list).unwrap(), ["ONE"]);
        block_on(store.close());
        let again = Store::open_with(scratch.path(), options(), LATER).unwrap();
        assert_eq!(again.read(keys::list).unwrap(), ["ONE"]);
    }

    #[test]
    fn a_later_version_is_refused_and_not_touched() {
        let scratch = Scratch::new();
        of_today(&scratch);
        drop(Store::open_with(scratch.path(), options(), LATER).unwrap());
        let before = fs::read(scratch.path().join("mail.mdb")).unwrap();
        match Store::open(scratch.path(), options()) {
            Err(OpenError::Newer { found: 4, known: SCHEMA_VERSION }) => {}
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert!(fs::read(scratch.path().join("mail.mdb")).unwrap() == before);
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_version_whole() {
        let scratch = Scratch::new();
        of_today(&scratch);
        let failing = Schema { version: SCHEMA_VERSION + 2, steps: &[from_1_to_2, upper, broken] };
        assert!(matches!(Store::open_with(scratch.path(), options(), failing), Err(OpenError::Damaged(_))));
        let gap = Schema { version: SCHEMA_VERSION + 2, steps: &[from_1_to_2, upper] };
        assert!(matches!(Store::open_with(scratch.path(), options(), gap), Err(OpenError::Damaged(_))));
        let store = Store::open(scratch.path(), options()).unwrap();
        assert_eq!(store.read(keys::list).unwrap(), ["empty", "one"]);
    }

    #[test]
    fn what_is_no_store_is_called_damaged() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("mail.mdb"), vec![b'x'; 100_000]).unwrap();
        assert!(matches!(Store::open(scratch.path(), options()), Err(OpenError::Damaged(_))));
    }
}
