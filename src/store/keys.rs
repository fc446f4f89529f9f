//! Private keys by name (`host/current`, `host/next`): PKCS#8 DER.
//!
//! The file of the store is 0600 in a directory of 0700; the keys are not encrypted beyond that.

use crate::store::errors::Error;
use crate::store::txn::Reader;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// Longest name: LMDB takes keys of up to 511 octets.
const MAX_NAME: usize = 255;

pub fn get(r: &Reader<'_>, name: &str) -> Result<Option<Vec<u8>>, Error> {
    check_name(name)?;
    Ok(r.bytes(r.tables.key, name.as_bytes())?.map(<[u8]>::to_vec))
}

/// Names of all keys, in order.
pub fn list(r: &Reader<'_>) -> Result<Vec<String>, Error> {
    r.all(r.tables.key)?.map(|row| Ok(String::from_utf8_lossy(row?.0).into_owned())).collect()
}

/// Stores or replaces a key.
pub fn put(w: &mut Writer<'_>, name: &str, pkcs8: &[u8]) -> Result<(), Error> {
    check_name(name)?;
    w.raise(Topic::Certificates);
    w.put_bytes(w.tables.key, name.as_bytes(), pkcs8)
}

/// Stores a key unless there is one; returns the one that is there now.
pub fn put_if_absent(w: &mut Writer<'_>, name: &str, pkcs8: &[u8]) -> Result<Vec<u8>, Error> {
    if let Some(there) = get(&w.reader(), name)? {
        return Ok(there);
    }
    put(w, name, pkcs8)?;
    Ok(pkcs8.to_vec())
}

pub fn remove(w: &mut Writer<'_>, name: &str) -> Result<(), Error> {
    check_name(name)?;
    w.raise(Topic::Certificates);
    w.delete(w.tables.key, name.as_bytes()).map(|_| ())
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::Withdrawn("the name of a key is empty or too long".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn the_first_key_of_a_name_stays() {
        let scratch = Scratch::new();
        let store = scratch.open();
        assert_eq!(block_on(store.write(|w| put_if_absent(w, "host/current", b"one"))), Ok(b"one".to_vec()));
        assert_eq!(block_on(store.write(|w| put_if_absent(w, "host/current", b"two"))), Ok(b"one".to_vec()));
        block_on(store.write(|w| put(w, "host/next", b"three"))).unwrap();
        assert_eq!(store.read(list).unwrap(), ["host/current", "host/next"]);
        block_on(store.write(|w| remove(w, "host/current"))).unwrap();
        assert_eq!(store.read(|r| get(r, "host/current")), Ok(None));
        assert!(store.read(|r| get(r, "")).is_err());
    }
}
