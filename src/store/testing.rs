//! What the tests of this folder share: a directory that goes away.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::store::BlobId;
use crate::store::NewAccount;
use crate::store::Options;
use crate::store::QueueId;
use crate::store::Spool;
use crate::store::Store;
use crate::store::blobs;
use crate::store::messages::Reception;
use crate::store::queue;
use crate::store::queue::NewQueued;
use crate::store::queue::NewRecipient;
use crate::store::queue::Origin;

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

/// A message for the queue, its blob stored in the same change: `b"x"` from ann@example.org, arrived at `UnixTime(id)`.
pub fn queue_one(store: &Store, id: u64, to: &[&str]) -> QueueId {
    let mut spool = Spool::new(store, 1 << 20);
    smol::block_on(spool.push(b"x")).unwrap();
    let spooled = spool.finish(b"Received: by test\r\n".to_vec()).unwrap();
    let recipients = to.iter().map(|text| Address::parse(text).unwrap());
    let recipients = recipients.map(|address| NewRecipient { address, notify: Notify::Unset, orcpt: None }).collect();
    smol::block_on(store.write(move |w| {
        let blob = blobs::adopt(w, spooled, 1)?;
        let arrived = UnixTime(id.cast_signed());
        queue::enqueue(w, NewQueued { arrived, ..new_queued(QueueId(id), blob, recipients) })
    }))
    .unwrap();
    QueueId(id)
}

pub fn new_queued(id: QueueId, blob: BlobId, recipients: Vec<NewRecipient>) -> NewQueued {
    NewQueued {
        id,
        blob,
        reverse_path: ReversePath::Address(Address::parse("ann@example.org").unwrap()),
        sender: None,
        origin: Origin::Submitted,
        body: Body::SevenBit,
        smtp_utf8: false,
        ret: Ret::Unset,
        envid: None,
        arrived: UnixTime(0),
        digest: Digest::default(),
        reception: Reception::default(),
        wish: RequireTls::Default,
        recipients,
    }
}
