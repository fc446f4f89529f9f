//! Whether the disk has room for one more message (promise R7).

use crate::store::Store;
use crate::store::disk::Space;
use crate::store::errors::Error;

/// Below this the disk counts as full whatever its size: LMDB needs room for the pages of a batch.
const FLOOR: u64 = 16 << 20;
/// A share of the disk that stays free, so that the owner can still log in and clean up.
const SHARE: u64 = 20;

/// Octets that have to stay free on a file system of this size: 5 %, at most what the setting says, at least 16 MiB.
pub fn reserve(total: u64, min_free: u64) -> u64 {
    (total / SHARE).min(min_free).max(FLOOR)
}

/// Whether a message of the declared size may begin: twice its size must fit above the reserve, or into pages of the
/// file that removed mail left free (`Store::reusable`, asked only when the disk itself says no).
pub fn in_store(store: &Store, declared: Option<u64>, min_free: u64) -> Result<Room, Error> {
    let space = store.space()?;
    if enough(space, declared, min_free) {
        return Ok(Room::Enough);
    }
    let with_free = Space { available: space.available.saturating_add(store.reusable()?), ..space };
    // The disk itself keeps the floor: the tables and the root page need to grow all the same.
    let room = space.available >= FLOOR && enough(with_free, declared, min_free);
    Ok(if room { Room::Enough } else { Room::Short { available: space.available } })
}

/// Whether mail can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// octets that the disk has left
    Short {
        available: u64,
    },
}

/// Whether a message of the declared size fits a file system as it is.
pub fn enough(space: Space, declared: Option<u64>, min_free: u64) -> bool {
    let need = declared.unwrap_or(0).saturating_mul(2);
    space.available.saturating_sub(need) >= reserve(space.total, min_free) && space.available >= need
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_FREE: u64 = 200_000_000;

    #[test]
    fn the_reserve_is_five_percent_within_its_bounds() {
        assert_eq!(reserve(1 << 40, MIN_FREE), MIN_FREE);
        assert_eq!(reserve(2_000_000_000, MIN_FREE), 100_000_000);
        assert_eq!(reserve(64 << 20, MIN_FREE), FLOOR);
    }

    #[test]
    fn twice_the_declared_size_must_fit_above_the_reserve() {
        let space = |available| Space { available, total: 2_000_000_000 };
        assert!(enough(space(100_000_000), None, MIN_FREE));
        assert!(!enough(space(99_999_999), None, MIN_FREE));
        assert!(enough(space(102_000_000), Some(1_000_000), MIN_FREE));
        assert!(!enough(space(102_000_000), Some(1_000_001), MIN_FREE));
        assert!(!enough(space(10), Some(u64::MAX), MIN_FREE));
    }
}
