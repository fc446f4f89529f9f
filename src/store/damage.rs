//! Rows that could not be read while the server worked: each is told once in the log, and counted.
//!
//! Whoever passes over such a row, so that the others go on, notes it here. In memory only: `pipit store check` reads
//! every row and names them all, also after a restart.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Sentences that are remembered; with more the log has said enough.
const MAX_SEEN: usize = 1000;

#[derive(Default)]
pub(super) struct Damage(Mutex<HashSet<String>>);

impl Damage {
    /// `what` names the row; the same sentence is told once.
    pub fn note(&self, what: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MAX_SEEN && seen.insert(what.to_owned()) {
            log::error!("store: {what}; it is passed over, `pipit store check` tells more");
        }
    }

    /// Rows noted since the store was opened.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_row_counts_once_and_memory_is_bounded() {
        let damage = Damage::default();
        for _ in 0..3 {
            damage.note("a");
            damage.note("b");
        }
        assert_eq!(damage.count(), 2);
        (0..2 * MAX_SEEN).for_each(|n| damage.note(&n.to_string()));
        assert_eq!(damage.count(), MAX_SEEN as u64);
    }
}
