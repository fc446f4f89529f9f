//! A store is spoilt in one place at a time; the rule for that place must speak.

use smol::block_on;

use super::*;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::domain::Domain;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ReversePath;
use crate::store::Spool;
use crate::store::Store;
use crate::store::Writer;
use crate::store::accounts;
use crate::store::blobs;
use crate::store::codec::chunk_key;
use crate::store::codec::mailbox_key;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::ids::QueueId;
use crate::store::messages::Flags;
use crate::store::messages::NewMessage;
use crate::store::messages::Reception;
use crate::store::queue::index;
use crate::store::queue::rows;
use crate::store::rows::Unowned;
use crate::store::testing::Scratch;
use crate::store::testing::new_account;
use crate::store::testing::queue_one;

/// Where the one message of the spoilt store is.
#[derive(Clone, Copy)]
struct Places {
    account: AccountId,
    mailbox: MailboxId,
    id: MessageId,
    blob: BlobId,
}

fn with_one_message(store: &Store) -> Places {
    let mut spool = Spool::new(store, 1 << 20);
    block_on(spool.push(&vec![b'x'; CHUNK + 100])).unwrap();
    let spooled = spool.finish(b"Received: x\r\n".to_vec()).unwrap();
    block_on(store.write(move |w| {
        let account = accounts::create(w, new_account("ann@example.org"))?.unwrap();
        let mailbox = mailboxes::inbox(&w.reader(), account)?.unwrap();
        let blob = blobs::adopt(w, spooled, 1)?;
        let new = NewMessage {
            blob,
            return_path: ReversePath::Null,
            delivered_to: Address::parse("ann@example.org").unwrap(),
            flags: Flags::NONE,
            received: UnixTime(0),
            digest: Digest::default(),
            auth_results: String::new(),
            require_tls: RequireTls::Default,
            reception: Reception::default(),
        };
        let id = messages::file(w, account, mailbox, new)?.id;
        Ok(Places { account, mailbox, id, blob })
    }))
    .unwrap()
}

type Spoil = fn(&mut Writer<'_>, Places) -> Result<(), Error>;

const SPOILS: [(Spoil, Rule); 15] = [
    (|w, p| w.put_bytes(w.tables.message, &message_key(p.account, p.id), &[1, 2, 3]), Rule::RowIsReadable),
    (|w, _| w.delete(w.tables.address, b"ann@example.org").map(|_| ()), Rule::AddressLeadsToAccount),
    (|w, p| w.put(w.tables.address, b"bob@example.org", &Owner(p.account)), Rule::AddressLeadsToAccount),
    (|w, p| w.delete(w.tables.account, &account_key(p.account)).map(|_| ()), Rule::HasOwner),
    (|w, p| w.delete(w.tables.mailbox, &mailbox_key(p.account, p.mailbox)).map(|_| ()), Rule::HasOwner),
    (
        |w, p| {
            let mut account = w.row::<Account>(w.tables.account, &account_key(p.account))?.unwrap();
            account.used_bytes += 1;
            w.put(w.tables.account, &account_key(p.account), &account)
        },
        Rule::AccountTotals,
    ),
    (
        |w, p| {
            let mut mailbox = w.row::<Mailbox>(w.tables.mailbox, &mailbox_key(p.account, p.mailbox))?.unwrap();
            mailbox.unseen = 0;
            w.put(w.tables.mailbox, &mailbox_key(p.account, p.mailbox), &mailbox)
        },
        Rule::MailboxTotals,
    ),
    (|w, p| w.delete(w.tables.uid, &uid_key(p.account, p.mailbox, Uid(1))).map(|_| ()), Rule::UidAndMessageAgree),
    (|w, p| w.put(w.tables.uid, &uid_key(p.account, p.mailbox, Uid(9)), &Filing(p.id)), Rule::UidAndMessageAgree),
    (|w, p| w.delete(w.tables.blob_use, &blob_key(p.blob)).map(|_| ()), Rule::MessageHasBlob),
    (
        |w, p| {
            let mut used = w.row::<BlobUse>(w.tables.blob_use, &blob_key(p.blob))?.unwrap();
            used.count += 1;
            w.put(w.tables.blob_use, &blob_key(p.blob), &used)
        },
        Rule::BlobCount,
    ),
    (|w, p| w.delete(w.tables.blob, &chunk_key(p.blob, 1)).map(|_| ()), Rule::BlobIsWhole),
    (|w, p| w.put_bytes(w.tables.blob, &chunk_key(p.blob, 2), &[b'y'; 100]), Rule::BlobDigest),
    (|w, p| w.put(w.tables.spool, &blob_key(p.blob), &Unowned::Removed), Rule::ChunksHaveOneOwner),
    (|w, _| w.put_bytes(w.tables.blob, &chunk_key(BlobId(77), 0), b"x"), Rule::ChunksHaveOneOwner),
];

#[test]
fn every_damage_is_found_by_its_rule() {
    for (at, (spoil, rule)) in SPOILS.into_iter().enumerate() {
        let scratch = Scratch::new();
        let store = scratch.open();
        let places = with_one_message(&store);
        assert_eq!(store.read(everything).unwrap(), []);
        block_on(store.write(move |w| spoil(w, places))).unwrap();
        let findings = store.read(everything).unwrap();
        assert!(findings.iter().any(|finding| finding.rule == rule), "{at} {rule:?}: {findings:?}");
    }
}

const QUEUED: QueueId = QueueId(9);
type SpoilQueue = fn(&mut Writer<'_>) -> Result<(), Error>;

/// Two recipients of one domain, the first with an earlier due.
const QUEUE_SPOILS: [(SpoilQueue, Rule); 10] = [
    (|w| w.put_bytes(w.tables.queue_rcpt, &recipient_key(QUEUED, 0), &[1, 2]), Rule::RowIsReadable),
    (|w| w.delete(w.tables.queue_rcpt, &recipient_key(QUEUED, 0)).map(|_| ()), Rule::QueueAndRecipientsAgree),
    (|w| w.delete(w.tables.queue, &queue_key(QUEUED)).map(|_| ()), Rule::QueueAndRecipientsAgree),
    (|w| w.delete(w.tables.queue, &queue_key(QUEUED)).map(|_| ()), Rule::BlobCount),
    (|w| w.delete(w.tables.queue_dest, &index::dest_key(&domain(), UnixTime(9), (QUEUED, 0))).map(|_| ()), Rule::QueueIndex),
    (|w| w.put_bytes(w.tables.queue_dest, &index::dest_key(&domain(), UnixTime(9), (QUEUED, 0)), b"f"), Rule::QueueIndex),
    (|w| w.put_bytes(w.tables.queue_dest, &index::dest_key(&domain(), UnixTime(9), (QUEUED, 7)), b"w"), Rule::QueueIndex),
    (|w| w.delete(w.tables.queue_due, &index::due_key(UnixTime(9), &domain())).map(|_| ()), Rule::QueueIndex),
    (|w| w.put_bytes(w.tables.queue_due, &index::due_key(UnixTime(8), &domain()), b""), Rule::QueueIndex),
    (|w| rows::put_totals(w, rows::Totals::default()), Rule::QueueTotals),
];

fn domain() -> Domain {
    Domain::parse("example.net").unwrap()
}

#[test]
fn every_damage_of_the_queue_is_found_by_its_rule() {
    for (at, (spoil, rule)) in QUEUE_SPOILS.into_iter().enumerate() {
        let scratch = Scratch::new();
        let store = scratch.open();
        queue_one(&store, QUEUED.0, &["a@example.net", "b@example.net"]);
        assert_eq!(store.read(everything).unwrap(), []);
        block_on(store.write(spoil)).unwrap();
        let findings = store.read(everything).unwrap();
        assert!(findings.iter().any(|finding| finding.rule == rule), "{at} {rule:?}: {findings:?}");
    }
}

#[test]
fn numbers_that_could_be_given_out_again_are_found() {
    for name in [Counter::Account.key(), Counter::Mailbox.key(), Counter::Message.key(), NEXT_BLOB] {
        let scratch = Scratch::new();
        let store = scratch.open();
        with_one_message(&store);
        block_on(store.write(move |w| w.put_bytes(w.tables.meta, name, &0u64.to_be_bytes()))).unwrap();
        let findings = store.read(everything).unwrap();
        assert!(findings.iter().any(|f| f.rule == Rule::NumbersAreBelowCounter), "{findings:?}");
    }
}
