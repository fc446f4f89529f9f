//! How large the store is, table by table.

use crate::store::errors::Error;
use crate::store::tables::NAMES;
use crate::store::txn::Reader;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStat {
    pub name: &'static str,
    pub rows: u64,
    /// octets of the pages it takes
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub tables: Vec<TableStat>,
    /// octets of the database file
    pub file_bytes: u64,
    /// octets in the file that later rows will use first; `compact` gives them back
    pub free_bytes: u64,
}

pub fn tables(r: &Reader<'_>) -> Result<Stat, Error> {
    let mut tables = Vec::with_capacity(NAMES.len());
    for (table, name) in r.tables.to_array().iter().zip(NAMES) {
        let stat = table.stat(r.txn())?;
        let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        tables.push(TableStat { name, rows: stat.entries as u64, bytes: pages as u64 * u64::from(stat.page_size) });
    }
    let file_bytes = r.env.file_size().map_err(|error| Error::Lmdb(error.to_string()))?;
    let used: u64 = tables.iter().map(|table| table.bytes).sum();
    Ok(Stat { tables, file_bytes, free_bytes: file_bytes.saturating_sub(used) })
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::keys;
    use crate::store::testing::Scratch;

    #[test]
    fn rows_and_octets_are_counted() {
        let scratch = Scratch::new();
        let store = scratch.open();
        block_on(store.write(|w| keys::put(w, "a", &[7; 100]))).unwrap();
        let stat = store.read(tables).unwrap();
        let key = stat.tables.iter().find(|table| table.name == "key").unwrap();
        assert_eq!((key.rows, key.bytes), (1, 4096));
        assert!(stat.file_bytes > stat.free_bytes);
    }
}
