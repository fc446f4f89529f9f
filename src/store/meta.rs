//! Facts about the store itself: who it is, and the last time that was known to be right.

use crate::mail::date::UnixTime;
use crate::store::codec;
use crate::store::errors::Error;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// Written once by `schema`, when the store is made.
pub(super) const INSTANCE: &[u8] = b"instance-id";
const LAST_GOOD_TIME: &[u8] = b"last-good-time";

/// 32 hexadecimal digits, made at random with the store.
pub fn instance_id(r: &Reader<'_>) -> Result<String, Error> {
    let text = r.bytes(r.tables.meta, INSTANCE)?.ok_or_else(|| Error::Damaged("the instance id is missing".into()))?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The last moment at which the clock was confirmed. `None`: never yet.
pub fn last_good_time(r: &Reader<'_>) -> Result<Option<UnixTime>, Error> {
    let Some(octets) = r.bytes(r.tables.meta, LAST_GOOD_TIME)? else { return Ok(None) };
    Ok(Some(UnixTime(codec::u64_at(octets, 0)?.cast_signed())))
}

pub fn set_last_good_time(w: &mut Writer<'_>, time: UnixTime) -> Result<(), Error> {
    w.put_bytes(w.tables.meta, LAST_GOOD_TIME, &time.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn the_instance_keeps_its_name_and_time() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let name = store.read(instance_id).unwrap();
        assert_eq!((name.len(), name.bytes().all(|b| b.is_ascii_hexdigit())), (32, true));
        assert_eq!(store.read(last_good_time).unwrap(), None);
        block_on(store.write(|w| set_last_good_time(w, UnixTime(-7)))).unwrap();
        block_on(store.close());
        let store = scratch.open();
        assert_eq!(store.read(last_good_time).unwrap(), Some(UnixTime(-7)));
        assert_eq!(store.read(instance_id).unwrap(), name);
    }
}
