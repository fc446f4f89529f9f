//! The one memory map: opening it and giving its pages back. The only file of the store with `unsafe`.
//!
//! In goes a directory that this process has locked; out comes a handle for transactions. The environment is the plain
//! file `mail.mdb` with `mail.mdb-lock` beside it, both 0600. Every commit is synced: no flag that weakens that is ever set.
//! Read transactions are not bound to threads (MDB_NOTLS), so that one may be opened while another lives.
//! Not done: growing the map. It is opened larger than the disk on 64-bit; on 32-bit it ends at `MAP_32_BIT`.

use std::fs;
use std::io;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use heed::EnvFlags;
use heed::EnvOpenOptions;
use heed::RoTxn;
use heed::RwTxn;
use heed::WithoutTls;
use rustix::mm::Advice;

use crate::store::disk;
use crate::store::errors::OpenError;
use crate::store::tables::NAMES;

/// The database in the directory of the store.
pub(super) const FILE: &str = "mail.mdb";
/// A database that has no first commit yet.
const UNFINISHED: &str = "mail.mdb.new";
/// LMDB appends this to the name of the database for its reader table, whose content means nothing once no process has
/// the environment open.
const READERS_SUFFIX: &str = "-lock";
/// Larger than LMDB's table for 126 readers (8,192 octets).
const READERS_FILE_SIZE: usize = 16 * 1024;
/// The least map on 64-bit: address space costs nothing (a map of 1 TiB cost no memory).
const MAP_64_BIT: u64 = 64 << 30;
/// What a process of 32 bits can spare beside its heap and stacks.
const MAP_32_BIT: usize = 1 << 30;
/// Maps must be multiples of the page size; no system we run on has larger pages.
const MAP_UNIT: usize = 64 * 1024;
/// Linux maps up to 16 neighbours of a page at one fault (fault_around_bytes); they would stay resident.
const FAULT_AROUND: usize = 64 * 1024;
/// Room for tables of later versions.
const SPARE_TABLES: usize = 32;

/// An open environment.
pub(super) struct Env {
    env: heed::Env<WithoutTls>,
    path: PathBuf,
    /// addresses of the map; empty when /proc could not tell
    map: Range<usize>,
}

/// Whether pages of the map may be dropped under a value: rows of an uncommitted transaction lie on the heap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Committed,
    Uncommitted,
}

impl Env {
    /// Opens the environment. The caller holds the lock of the directory.
    pub fn open(dir: &Path, map_size: Option<usize>) -> Result<Env, OpenError> {
        Env::open_file(dir, FILE, map_size)
    }

    /// Makes a database with its first rows if there is none. It gets its name only when they are on the disk: a power cut
    /// in between would leave a file that looks damaged.
    pub fn create(dir: &Path, map_size: Option<usize>, fill: impl FnOnce(&Env) -> Result<(), OpenError>) -> Result<(), OpenError> {
        let path = dir.join(FILE);
        // Only a name that is provably free is taken: a read error of a dying card, or a link to a disk that is not
        // mounted, must end in an error, never in a fresh and empty store over the old one.
        match fs::symlink_metadata(&path) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::io(&path, error)),
        }
        let unfinished = dir.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(&unfinished, error)),
            _ => {}
        }
        let env = Env::open_file(dir, UNFINISHED, map_size)?;
        let filled = fill(&env);
        env.close();
        filled?;
        let _ = fs::remove_file(readers_file(&unfinished));
        // R1: without the sync of the directory the file itself can be lost, with all that is committed into it later.
        let named = fs::rename(&unfinished, &path).and_then(|()| disk::sync_dir(dir));
        named.map_err(|error| OpenError::io(&path, error))
    }

    #[expect(unsafe_code, reason = "a memory map is undefined if others change the file: the directory is locked and 0700")]
    fn open_file(dir: &Path, name: &str, map_size: Option<usize>) -> Result<Env, OpenError> {
        let path = dir.join(name);
        write_readers_file(&readers_file(&path))?;
        let size = match map_size {
            Some(size) => size,
            None => map_size_for(disk::space(dir).map_err(|error| OpenError::io(dir, error))?.total),
        };
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(size.next_multiple_of(MAP_UNIT)).max_dbs(u32::try_from(NAMES.len() + SPARE_TABLES).unwrap_or(u32::MAX));
        // SAFETY: NO_SUB_DIR only says that the path is a file. The lock of the directory keeps other processes away,
        // and heed refuses a second environment of this path in this process.
        let env = unsafe { options.flags(EnvFlags::NO_SUB_DIR).open(&path)? };
        let map = mapped_at(&path).unwrap_or(0..0);
        Ok(Env { env, path, map })
    }

    pub fn read_txn(&self) -> Result<RoTxn<'_, WithoutTls>, heed::Error> {
        self.env.read_txn()
    }

    pub fn write_txn(&self) -> Result<RwTxn<'_>, heed::Error> {
        self.env.write_txn()
    }

    pub fn nested_txn<'p>(&'p self, parent: &'p mut RwTxn<'_>) -> Result<RwTxn<'p>, heed::Error> {
        self.env.nested_write_txn(parent)
    }

    pub fn heed(&self) -> &heed::Env<WithoutTls> {
        &self.env
    }

    /// Length of the database file, in octets.
    pub fn file_size(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.len())
    }

    /// Takes the pages of a value, and those the kernel mapped around it, out of this process's resident memory. They
    /// stay in the page cache; the next look at them maps them again.
    pub fn give_back(&self, value: &[u8], view: View) {
        if view == View::Uncommitted || value.is_empty() {
            return;
        }
        let begin = value.as_ptr() as usize;
        let end = begin + value.len();
        if begin < self.map.start || end > self.map.end {
            return;
        }
        self.drop_pages((begin / FAULT_AROUND * FAULT_AROUND)..end.next_multiple_of(FAULT_AROUND));
    }

    /// Gives the whole map back.
    pub fn trim(&self) {
        let used = self.file_size().ok().and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.drop_pages(self.map.start..self.map.start.saturating_add(used));
    }

    #[expect(unsafe_code, reason = "madvise takes addresses")]
    fn drop_pages(&self, range: Range<usize>) {
        let begin = range.start.max(self.map.start);
        let end = range.end.min(self.map.end);
        if begin >= end {
            return;
        }
        // SAFETY: the range lies inside the map, which lives as long as `self.env`. It is a shared, read-only map of a
        // file: dropping its pages loses nothing, a reader in another thread faults them in again.
        // A refusal costs memory, never data.
        let _ = unsafe { rustix::mm::madvise(begin as *mut _, end - begin, Advice::LinuxDontNeed) };
    }

    /// Closes the environment and waits until the file is no longer mapped.
    pub fn close(self) {
        self.env.prepare_for_closing().wait();
    }
}

fn readers_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(READERS_SUFFIX);
    name.into()
}

/// On a full disk LMDB would write the reader table into a hole of the file and die of SIGBUS: real blocks, beforehand.
fn write_readers_file(path: &Path) -> Result<(), OpenError> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&[0; READERS_FILE_SIZE]));
    written.map_err(|error| OpenError::io(path, error))
}

fn map_size_for(file_system: u64) -> usize {
    if cfg!(target_pointer_width = "32") {
        return MAP_32_BIT;
    }
    usize::try_from(file_system.saturating_mul(2).max(MAP_64_BIT)).unwrap_or(MAP_32_BIT)
}

/// Where the kernel mapped the file: the line of `/proc/self/maps` with its inode number and name.
fn mapped_at(path: &Path) -> Option<Range<usize>> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let name = path.file_name()?.to_str()?;
    let mut found = 0..0;
    for line in maps.lines() {
        // address perms offset dev inode path; the path may hold spaces
        let mut words = line.split_ascii_whitespace();
        let Some(addresses) = words.next() else { continue };
        if words.nth(3) != Some(inode.as_str()) || !line.ends_with(name) {
            continue;
        }
        let (begin, end) = addresses.split_once('-')?;
        let (begin, end) = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        if end - begin > found.len() {
            found = begin..end;
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn the_map_is_larger_than_the_disk() {
        if cfg!(target_pointer_width = "64") {
            assert_eq!(map_size_for(1 << 30), 64 << 30);
            assert_eq!(map_size_for(1 << 40), 2 << 40);
        }
    }

    #[test]
    fn the_map_is_found_and_given_back() {
        let scratch = Scratch::new();
        let env = Env::open(scratch.path(), Some(1 << 20)).unwrap();
        assert_eq!(env.map.len(), 1 << 20);
        assert_eq!(fs::metadata(scratch.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        env.trim();
        env.give_back(b"not of the map", View::Committed);
        assert!(env.read_txn().is_ok());
        env.close();
    }

    #[test]
    fn a_database_gets_its_name_with_its_first_rows() {
        let scratch = Scratch::new();
        let refused = Env::create(scratch.path(), Some(1 << 20), |_| Err(OpenError::Lmdb("no".into())));
        assert!(refused.is_err() && !scratch.path().join(FILE).exists() && scratch.path().join(UNFINISHED).exists());
        fs::write(scratch.path().join(UNFINISHED), [0; 100_000]).unwrap();
        Env::create(scratch.path(), Some(1 << 20), |_| Ok(())).unwrap();
        assert!(scratch.path().join(FILE).exists() && !scratch.path().join(UNFINISHED).exists());
        Env::create(scratch.path(), Some(1 << 20), |_| unreachable!("it is there")).unwrap();
    }
}
