//! Giving disk space back: a copy without the free pages takes the place of the file.
//!
//! LMDB never shrinks its file. The directory must be closed; this takes its lock. The copy is synced before it is renamed
//! and the directory after, so that a power cut leaves one whole file.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use heed::CompactionOption;

use crate::store::disk;
use crate::store::env;
use crate::store::env::Env;
use crate::store::errors::OpenError;
use crate::store::lock::DirLock;

/// Left behind only by a crash; the next compaction writes it anew.
const COPY: &str = "mail.mdb.compact";

/// Octets of the file before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    pub before: u64,
    pub after: u64,
}

/// Rewrites the database of a directory that no process has open.
pub fn compact(dir: &Path) -> Result<Compacted, OpenError> {
    let path = dir.join(env::FILE);
    let missing = |error: io::Error| OpenError::io(&path, error);
    let before = fs::metadata(&path).map_err(missing)?.len();
    let _lock = DirLock::take(dir)?;
    let env = Env::open(dir, None)?;
    let copy = dir.join(COPY);
    let copied = write_copy(&env, &copy);
    env.close();
    if let Err(error) = copied {
        let _ = fs::remove_file(&copy);
        return Err(error);
    }
    let replaced = fs::rename(&copy, &path).and_then(|()| disk::sync_dir(dir));
    replaced.map_err(|error| OpenError::io(&copy, error))?;
    let after = fs::metadata(&path).map_err(|error| OpenError::io(&path, error))?.len();
    Ok(Compacted { before, after })
}

fn write_copy(env: &Env, copy: &Path) -> Result<(), OpenError> {
    let io = |error: io::Error| OpenError::io(copy, error);
    let opened: io::Result<File> = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(copy);
    let mut file = opened.map_err(io)?;
    env.heed().copy_to_file(&mut file, CompactionOption::Enabled)?;
    file.sync_all().map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use smol::block_on;

    use super::*;
    use crate::store::keys;
    use crate::store::testing::Scratch;

    #[test]
    fn a_compacted_store_is_smaller_and_whole() {
        let scratch = Scratch::new();
        let store = scratch.open();
        for n in 0..50 {
            block_on(store.write(move |w| keys::put(w, &format!("{n}"), &vec![7; 100_000]))).unwrap();
        }
        for n in 1..50 {
            block_on(store.write(move |w| keys::remove(w, &format!("{n}")))).unwrap();
        }
        assert!(matches!(compact(scratch.path()), Err(OpenError::Locked { .. })));
        block_on(store.close());
        let done = compact(scratch.path()).unwrap();
        assert!(done.after * 4 < done.before, "{done:?}");
        let path = scratch.path().join(env::FILE);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(scratch.open().read(|r| keys::get(r, "0")).unwrap(), Some(vec![7; 100_000]));
    }
}
