//! The invariants of the store, as functions over a view. Each rule that does not hold becomes a `Finding`.
//!
//! Run by `pipit store check` and by tests after random operations. It reads every row and every octet of every blob, so
//! it takes long on a large store (not for the main thread); its memory stays bounded: counters of one account, a window
//! of blob counts, and pages given back as it goes. Nothing is mended here.

use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;

use ring::digest::Context;
use ring::digest::SHA256;

use crate::store::accounts::Account;
use crate::store::anchors;
use crate::store::blobs::CHUNK;
use crate::store::blobs::NEXT_BLOB;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::account_key;
use crate::store::codec::blob_key;
use crate::store::codec::message_key;
use crate::store::codec::uid_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::ids::MailboxId;
use crate::store::ids::MessageId;
use crate::store::ids::Uid;
use crate::store::mailboxes;
use crate::store::mailboxes::Mailbox;
use crate::store::messages;
use crate::store::messages::Message;
use crate::store::queue::Queued;
use crate::store::rows::BlobUse;
use crate::store::rows::Filing;
use crate::store::rows::Owner;
use crate::store::tables::Table;
use crate::store::txn::Counter;
use crate::store::txn::Reader;
use crate::store::txn::read_counter;

mod queue;

/// More would not help anybody to understand the damage.
const MAX_FINDINGS: usize = 1000;
/// Rows after which the pages read so far are given back: some 10 MB of them.
const TRIM_EVERY: u64 = 20_000;
/// Blobs whose uses are counted in one pass over the messages: 4 MiB of counters.
const WINDOW: u64 = 1 << 20;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// every row can be read
    RowIsReadable,
    /// an account's address leads to it, and to nothing else
    AddressLeadsToAccount,
    /// accounts, mailboxes and messages belong to something that is there
    HasOwner,
    /// counters of an account equal its messages
    AccountTotals,
    /// counters of a mailbox equal its messages
    MailboxTotals,
    /// message row and uid row name each other
    UidAndMessageAgree,
    /// numbers in use are below the counter they come from
    NumbersAreBelowCounter,
    /// a message's blob is there, with its size
    MessageHasBlob,
    /// `blob_use` counts the messages of mailboxes and queue that refer to it
    BlobCount,
    /// all chunks are there, of the right length
    BlobIsWhole,
    /// the octets are those that were received
    BlobDigest,
    /// chunks belong to a `blob_use` or a `spool` row, and not to both
    ChunksHaveOneOwner,
    /// a message of the queue counts its recipients, and no recipient is without message
    QueueAndRecipientsAgree,
    /// recipients that are not held stand in `queue_dest`, the earliest of each domain in `queue_due`, and nothing else does
    QueueIndex,
    /// the totals equal the rows
    QueueTotals,
}

/// A rule that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

/// Checks all rules; at most 1,000 findings.
pub fn everything(r: &Reader<'_>) -> Result<Vec<Finding>, Error> {
    let mut check = Check { r, findings: Vec::new(), rows: 0 };
    check.anchors();
    check.addresses()?;
    check.accounts()?;
    check.strays()?;
    check.uids()?;
    check.queue()?;
    check.blob_counts()?;
    check.blob_contents()?;
    check.chunk_owners()?;
    r.env.trim();
    Ok(check.findings)
}

struct Check<'c, 't> {
    r: &'c Reader<'t>,
    findings: Vec<Finding>,
    rows: u64,
}

/// What the messages of a mailbox, or of an account, add up to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Totals {
    messages: u64,
    unseen: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.unseen += u64::from(messages::unseen(message.flags));
        self.bytes += message.size;
    }
}

impl Check<'_, '_> {
    fn find(&mut self, rule: Rule, detail: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { rule, detail });
        }
    }

    fn anchors(&mut self) {
        if let Err(error) = anchors::root(self.r) {
            self.find(Rule::RowIsReadable, error.to_string());
        }
    }

    /// One more row was read.
    fn pass(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(TRIM_EVERY) {
            self.r.env.trim();
        }
    }

    fn read<R: Row>(&mut self, value: &[u8]) -> Option<R> {
        self.pass();
        codec::decode(value).map_err(|error| self.find(Rule::RowIsReadable, error.to_string())).ok()
    }

    fn has(&self, table: Table<'static>, key: &[u8]) -> Result<Known, Error> {
        Ok(if self.r.bytes(table, key)?.is_some() { Known::Yes } else { Known::No })
    }

    fn addresses(&mut self) -> Result<(), Error> {
        for row in self.r.all(self.r.tables.address)? {
            let (key, value) = row?;
            let Some(Owner(id)) = self.read(value) else { continue };
            let account = self.r.row::<Account>(self.r.tables.account, &account_key(id)).ok().flatten();
            if account.is_none_or(|account| account.address.folded().as_bytes() != key) {
                self.find(Rule::AddressLeadsToAccount, format!("{} leads to account {id}", String::from_utf8_lossy(key)));
            }
        }
        Ok(())
    }

    fn accounts(&mut self) -> Result<(), Error> {
        let next = read_counter(self.r, Counter::Account.key())?;
        for row in self.r.all(self.r.tables.account)? {
            let (key, value) = row?;
            let id = AccountId(codec::u64_at(key, 0)?);
            let Some(account) = self.read::<Account>(value) else { continue };
            if id.0 >= next {
                self.find(Rule::NumbersAreBelowCounter, format!("account {id}"));
            }
            let folded = account.address.folded();
            if self.has(self.r.tables.address, folded.as_bytes())? == Known::No {
                self.find(Rule::AddressLeadsToAccount, format!("account {id} has no row for its address"));
            }
            let (whole, mailboxes) = self.messages_of(id)?;
            if (account.messages, account.used_bytes) != (whole.messages, whole.bytes) {
                self.find(Rule::AccountTotals, format!("account {id} has {account:?}, its messages {whole:?}"));
            }
            self.mailboxes_of(id, mailboxes)?;
        }
        Ok(())
    }

    /// Checks the messages of an account and adds them up.
    fn messages_of(&mut self, account: AccountId) -> Result<(Totals, HashMap<MailboxId, Totals>), Error> {
        let next = read_counter(self.r, Counter::Message.key())?;
        let mut whole = Totals::default();
        let mut mailboxes: HashMap<MailboxId, Totals> = HashMap::new();
        for row in self.r.prefix(self.r.tables.message, &account_key(account))? {
            let (key, value) = row?;
            let id = MessageId(codec::u64_at(key, 8)?);
            let Some(message) = self.read::<Message>(value) else { continue };
            if id.0 >= next {
                self.find(Rule::NumbersAreBelowCounter, format!("message {id}"));
            }
            whole.add(&message);
            mailboxes.entry(message.mailbox).or_default().add(&message);
            let filing = self.r.row::<Filing>(self.r.tables.uid, &uid_key(account, message.mailbox, message.uid));
            if filing != Ok(Some(Filing(id))) {
                self.find(Rule::UidAndMessageAgree, format!("message {id} of account {account} has no uid row"));
            }
            let used = self.r.row::<BlobUse>(self.r.tables.blob_use, &blob_key(message.blob)).ok().flatten();
            if used.is_none_or(|used| used.length != message.size) {
                self.find(Rule::MessageHasBlob, format!("message {id} of account {account}, blob {}", message.blob));
            }
        }
        Ok((whole, mailboxes))
    }

    fn mailboxes_of(&mut self, account: AccountId, mut found: HashMap<MailboxId, Totals>) -> Result<(), Error> {
        let next = read_counter(self.r, Counter::Mailbox.key())?;
        let mailboxes = match mailboxes::list(self.r, account) {
            Ok(mailboxes) => mailboxes,
            Err(error) => {
                self.find(Rule::RowIsReadable, error.to_string());
                return Ok(());
            }
        };
        for (id, mailbox) in mailboxes {
            let Mailbox { messages, unseen, bytes, .. } = mailbox;
            let totals = Totals { messages: messages.into(), unseen: unseen.into(), bytes };
            let counted = found.remove(&id).unwrap_or_default();
            if totals != counted {
                self.find(Rule::MailboxTotals, format!("mailbox {id} has {totals:?}, its messages {counted:?}"));
            }
            if u64::from(id.0) >= next {
                self.find(Rule::NumbersAreBelowCounter, format!("mailbox {id}"));
            }
        }
        for id in found.keys() {
            self.find(Rule::HasOwner, format!("messages of account {account} are in mailbox {id}, which is not there"));
        }
        Ok(())
    }

    /// Rows of accounts that are neither there nor leaving.
    fn strays(&mut self) -> Result<(), Error> {
        let tables = self.r.tables;
        for (table, name) in [(tables.mailbox, "mailbox"), (tables.message, "message"), (tables.uid, "uid")] {
            let mut next = Some(0);
            while let Some(id) = next.map(|from| first_number(self.r, table, from)).transpose()?.flatten() {
                let key = account_key(AccountId(id));
                if self.has(tables.account, &key)? == Known::No && self.has(tables.leaving, &key)? == Known::No {
                    self.find(Rule::HasOwner, format!("{name} rows of account {id}, which is not there"));
                }
                next = id.checked_add(1);
            }
        }
        Ok(())
    }

    fn uids(&mut self) -> Result<(), Error> {
        let tables = self.r.tables;
        for row in self.r.all(tables.uid)? {
            let (key, value) = row?;
            let (account, mailbox, uid) =
                (AccountId(codec::u64_at(key, 0)?), MailboxId(codec::u32_at(key, 8)?), Uid(codec::u32_at(key, 12)?));
            let Some(Filing(id)) = self.read(value) else { continue };
            let message = self.r.row::<Message>(tables.message, &message_key(account, id)).ok().flatten();
            if message.is_none_or(|message| (message.mailbox, message.uid) != (mailbox, uid)) {
                self.find(Rule::UidAndMessageAgree, format!("uid {uid} of mailbox {mailbox} names message {id}"));
            }
        }
        for row in self.r.all(tables.mailbox)? {
            let (key, value) = row?;
            let Some(mailbox) = self.read::<Mailbox>(value) else { continue };
            let (account, id) = (AccountId(codec::u64_at(key, 0)?), MailboxId(codec::u32_at(key, 8)?));
            let prefix = &key[..key.len().min(12)];
            let beyond = self.r.from(tables.uid, Bound::Included(&uid_key(account, id, mailbox.next_uid)))?.next().transpose()?;
            if beyond.is_some_and(|(key, _)| key.starts_with(prefix)) {
                self.find(Rule::NumbersAreBelowCounter, format!("mailbox {id} has uids from {} on", mailbox.next_uid));
            }
        }
        Ok(())
    }

    fn blob_counts(&mut self) -> Result<(), Error> {
        let mut next = Some(0);
        while let Some(first) = next.map(|from| first_number(self.r, self.r.tables.blob_use, from)).transpose()?.flatten() {
            self.blob_counts_from(first)?;
            next = first.checked_add(WINDOW);
        }
        Ok(())
    }

    fn blob_counts_from(&mut self, first: u64) -> Result<(), Error> {
        let last = read_counter(self.r, NEXT_BLOB)?.max(first);
        let mut counts = vec![0u32; usize::try_from((last - first).min(WINDOW)).unwrap_or(0)];
        let place = |blob: BlobId| blob.0.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        for row in self.r.all(self.r.tables.message)? {
            let Ok(message) = codec::decode::<Message>(row?.1) else { continue };
            self.pass();
            if let Some(count) = place(message.blob).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        for row in self.r.all(self.r.tables.queue)? {
            let Ok(message) = codec::decode::<Queued>(row?.1) else { continue };
            self.pass();
            if let Some(count) = place(message.blob).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        for row in self.r.from(self.r.tables.blob_use, Bound::Included(&blob_key(BlobId(first))))? {
            let (key, value) = row?;
            let blob = BlobId(codec::u64_at(key, 0)?);
            if blob.0 - first >= WINDOW {
                break;
            }
            let Some(used) = self.read::<BlobUse>(value) else { continue };
            match place(blob).and_then(|at| counts.get(at)) {
                Some(count) if *count == used.count => {}
                Some(count) => self.find(Rule::BlobCount, format!("blob {blob} counts {} uses, {count} messages refer to it", used.count)),
                None => self.find(Rule::NumbersAreBelowCounter, format!("blob {blob}")),
            }
        }
        Ok(())
    }

    fn blob_contents(&mut self) -> Result<(), Error> {
        for row in self.r.all(self.r.tables.blob_use)? {
            let (key, value) = row?;
            let blob = BlobId(codec::u64_at(key, 0)?);
            if let Some(used) = self.read::<BlobUse>(value) {
                self.blob_content(blob, &used)?;
            }
        }
        Ok(())
    }

    fn blob_content(&mut self, blob: BlobId, used: &BlobUse) -> Result<(), Error> {
        let mut hash = Context::new(&SHA256);
        let mut trace: Option<&[u8]> = None;
        let mut length = 0;
        let mut expected = 0;
        for row in self.r.prefix(self.r.tables.blob, &blob_key(blob))? {
            let (key, bytes) = row?;
            let number = codec::u32_at(key, 8)?;
            let right_length = bytes.len() <= CHUNK;
            if number != expected || !right_length {
                self.find(Rule::BlobIsWhole, format!("chunk {number} of blob {blob} has {} octets, chunk {expected} was due", bytes.len()));
                return Ok(());
            }
            match trace {
                None => trace = Some(bytes),
                Some(_) => hash.update(bytes),
            }
            length += bytes.len() as u64;
            expected += 1;
            self.r.env.give_back(bytes, self.r.view);
            self.pass();
        }
        if expected != used.chunks + 1 || length != used.length {
            self.find(
                Rule::BlobIsWhole,
                format!("blob {blob} has {expected} chunks with {length} octets, due are {} with {}", used.chunks + 1, used.length),
            );
            return Ok(());
        }
        hash.update(trace.unwrap_or_default());
        if hash.finish().as_ref() != used.sha256 {
            self.find(Rule::BlobDigest, format!("blob {blob}"));
        }
        Ok(())
    }

    fn chunk_owners(&mut self) -> Result<(), Error> {
        let tables = self.r.tables;
        let mut next = Some(0);
        while let Some(id) = next.map(|from| first_number(self.r, tables.blob, from)).transpose()?.flatten() {
            let key = blob_key(BlobId(id));
            let owners = (self.has(tables.blob_use, &key)?, self.has(tables.spool, &key)?);
            match owners {
                (Known::Yes, Known::No) | (Known::No, Known::Yes) => {}
                (Known::No, Known::No) => self.find(Rule::ChunksHaveOneOwner, format!("nobody needs the chunks of blob {id}")),
                (Known::Yes, Known::Yes) => self.find(Rule::ChunksHaveOneOwner, format!("blob {id} is in use and in the spool")),
            }
            self.pass();
            next = id.checked_add(1);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// The first eight octets of the first key from `from` on.
fn first_number(r: &Reader<'_>, table: Table<'static>, from: u64) -> Result<Option<u64>, Error> {
    match r.from(table, Bound::Included(&from.to_be_bytes()))?.next() {
        None => Ok(None),
        Some(row) => codec::u64_at(row?.0, 0).map(Some),
    }
}

#[cfg(test)]
mod tests;
