//! What the tests of this folder share: a directory that goes away.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::store::NewAccount;
use crate::store::Options;
use crate::store::Store;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An empty directory of its own, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let name = format!("pipit-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn open(&self) -> Store {
        Store::open(&self.0, Options { map_size: Some(64 << 20) }).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn new_account(address: &str) -> NewAccount {
    NewAccount { address: Address::parse(address).unwrap(), password: String::new(), created: UnixTime(1) }
}
