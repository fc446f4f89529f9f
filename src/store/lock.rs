//! The lock that makes one process the owner of a directory: `flock` on `DIR/lock`, with the owner's number inside.
//!
//! The kernel frees it when the owner ends, however it ends; the number is only for people.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::store::disk;
use crate::store::errors::OpenError;

const FILE: &str = "lock";
/// A process number has at most ten digits.
const LONGEST_NUMBER: u64 = 20;

/// Ownership of a directory; given up when dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Creates the directory (0700) if it is not there, and becomes its owner.
    pub fn take(dir: &Path) -> Result<DirLock, OpenError> {
        create_dir(dir).map_err(|error| OpenError::io(dir, error))?;
        let path = dir.join(FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(|error| OpenError::io(&path, error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked { holder: read_number(&mut file) }),
            Err(error) => return Err(OpenError::io(&path, error)),
        }
        // On a full disk the number is missing; the lock holds all the same.
        let _ = write_number(&mut file);
        Ok(DirLock { _file: file })
    }
}

/// Makes the directory (0700) with its missing parents (0755, so that its user can pass through), and their names
/// durable (R1). One that is there stays as it is.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    create_with(dir, 0o700)
}

fn create_with(dir: &Path, mode: u32) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_with(parent.ok_or(error)?, 0o755)?;
            DirBuilder::new().mode(mode).create(dir)?;
        }
        made => made?,
    }
    disk::sync_dir(parent.unwrap_or(Path::new(".")))
}

fn read_number(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST_NUMBER).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_number(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn the_second_owner_learns_who_is_the_first() {
        let scratch = Scratch::new();
        let dir = scratch.path().join("a/b");
        let lock = DirLock::take(&dir).unwrap();
        match DirLock::take(&dir) {
            Err(OpenError::Locked { holder }) => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(DirLock::take(&dir).is_ok());
    }
}
