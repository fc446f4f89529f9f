//! A disk that runs full (R7): the change is refused as `DiskFull`, nothing of it is stored, and the store works again
//! once there is room. On a small tmpfs, which only root may mount; elsewhere the test says so and does nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pipit::store::BlobId;
use pipit::store::Error;
use pipit::store::OpenError;
use pipit::store::Options;
use pipit::store::Spool;
use pipit::store::Store;
use pipit::store::blobs;
use pipit::store::check;
use pipit::store::keys;
use pipit::store::stat;
use smol::block_on;

/// Room for the tables and some messages.
const DISK: &str = "size=24m";

struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let path = std::env::temp_dir().join(format!("pipit-disk-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(path)),
            other => {
                println!("skipped: mounting a tmpfs is not permitted here ({other:?})");
                let _ = std::fs::remove_dir(&path);
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves about this much room.
    fn fill_to(&self, store: &Store, left: u64) {
        let ballast = store.space().unwrap().available.saturating_sub(left);
        std::fs::write(self.ballast(), vec![b'x'; usize::try_from(ballast).unwrap()]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The other test mounts a disk by a child process, which shares our lock between fork and exec: it is waited for.
fn open(dir: &Path) -> Store {
    for _ in 0..100 {
        match Store::open(dir, Options { map_size: Some(256 << 20) }) {
            Err(OpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the lock of {} is never free", dir.display());
}

/// Stores a blob as a delivery does, without the rows of a message; a key holds its place in the model.
fn store_blob(store: &Store, length: usize, memory: usize) -> Result<BlobId, Error> {
    let mut spool = Spool::new(store, memory);
    for part in vec![b'm'; length].chunks(100_000) {
        block_on(spool.push(part))?;
    }
    let spooled = spool.finish(b"Received: x\r\n".to_vec())?;
    block_on(store.write(move |w| {
        keys::put(w, "last", b"stored")?;
        blobs::adopt(w, spooled, 1)
    }))
}

fn settle(store: &Store) {
    for _ in 0..50 {
        let _ = block_on(store.write(|_| Ok(())));
    }
}

fn no_leak(store: &Store) {
    // These blobs have no messages: only their counts may differ.
    let findings = store.read(check::everything).unwrap();
    assert!(findings.iter().all(|finding| finding.rule == check::Rule::BlobCount), "{findings:?}");
}

#[test]
fn a_full_disk_refuses_stores_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    for memory in [8 << 20, 100_000] {
        // A new file each time: free pages of an old one would do without the disk.
        let dir = disk.0.join(format!("store-{memory}"));
        let store = open(&dir);
        let first = store_blob(&store, 1_000_000, memory).unwrap();
        disk.fill_to(&store, 1 << 20);
        block_on(store.write(|w| keys::remove(w, "last"))).unwrap();
        for _ in 0..3 {
            assert_eq!(store_blob(&store, 4_000_000, memory), Err(Error::DiskFull));
            assert_eq!(store.read(|r| keys::get(r, "last")).unwrap(), None, "rows of a change that was refused");
        }
        assert!(store.counters().failed_commits > 0 && !store.counters().must_reopen);
        assert_eq!(store.read(|r| blobs::length(r, first)).unwrap(), Some(1_000_013));
        // Opening, and reading, needs no room.
        block_on(store.close());
        let store = open(&dir);
        assert_eq!(store.read(|r| blobs::length(r, first)).unwrap(), Some(1_000_013));
        assert_eq!(store_blob(&store, 4_000_000, memory), Err(Error::DiskFull));

        std::fs::remove_file(disk.ballast()).unwrap();
        let second = store_blob(&store, 4_000_000, memory).unwrap();
        assert_eq!(store.read(|r| blobs::length(r, second)).unwrap(), Some(4_000_013));
        settle(&store);
        no_leak(&store);
        block_on(store.write(move |w| blobs::release(w, first).and_then(|()| blobs::release(w, second)))).unwrap();
        settle(&store);
        assert_eq!(store.read(check::everything).unwrap(), []);
        block_on(store.close());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn chunks_written_ahead_go_when_the_last_commit_finds_no_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = open(&disk.0.join("store"));
    let mut spool = Spool::new(&store, 100_000);
    block_on(spool.push(&vec![b'm'; 3_000_000])).unwrap();
    let spooled = spool.finish(b"Received: x\r\n".to_vec()).unwrap();
    disk.fill_to(&store, 0);
    // More than the free pages of the file can take.
    let refused = block_on(store.write(move |w| {
        keys::put(w, "large", &vec![0; 2 << 20])?;
        blobs::adopt(w, spooled, 1)
    }));
    assert_eq!(refused, Err(Error::DiskFull));
    assert_eq!(store.read(|r| keys::get(r, "large")).unwrap(), None);
    // The removal may have found no room either; it is tried again after the next commit.
    std::fs::remove_file(disk.ballast()).unwrap();
    block_on(store.write(|w| keys::put(w, "small", b"x"))).unwrap();
    settle(&store);
    let stat = store.read(stat::tables).unwrap();
    let rows = |name: &str| stat.tables.iter().find(|table| table.name == name).unwrap().rows;
    assert_eq!((rows("blob"), rows("spool"), rows("blob_use")), (0, 0, 0));
    assert_eq!(store.read(check::everything).unwrap(), []);
}
