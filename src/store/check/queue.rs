//! The rules of the queue: messages, recipients, indexes and totals agree.

use std::ops::Bound;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::store::check::Check;
use crate::store::check::Known;
use crate::store::check::Rule;
use crate::store::check::first_number;
use crate::store::codec;
use crate::store::codec::blob_key;
use crate::store::codec::hold_key;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::errors::Error;
use crate::store::holds::HoldRule;
use crate::store::ids::HoldId;
use crate::store::ids::QueueId;
use crate::store::queue::Queued;
use crate::store::queue::index;
use crate::store::queue::index::DestKey;
use crate::store::queue::index::Entry;
use crate::store::queue::index::Mark;
use crate::store::queue::rows;
use crate::store::queue::rows::RecipientRow;
use crate::store::queue::rows::Totals;
use crate::store::rows::BlobUse;
use crate::store::txn::Counter;
use crate::store::txn::read_counter;

impl Check<'_, '_> {
    /// All rules of the queue but the count of blobs.
    pub(super) fn queue(&mut self) -> Result<(), Error> {
        let totals = self.queued_messages()?;
        if rows::totals(self.r) != Ok(totals) {
            self.find(Rule::QueueTotals, format!("the totals are {:?}, the rows {totals:?}", rows::totals(self.r)));
        }
        self.recipients_without_message()?;
        self.destinations()?;
        self.dues()?;
        self.hold_rules()
    }

    fn queued_messages(&mut self) -> Result<Totals, Error> {
        let mut totals = Totals::default();
        for row in self.r.all(self.r.tables.queue)? {
            let (key, value) = row?;
            let id = QueueId(codec::u64_at(key, 0)?);
            totals.messages += 1;
            let open = self.recipients_of(id, &mut totals)?;
            let Some(message) = self.read::<Queued>(value) else { continue };
            if open == 0 || u64::from(message.open) != open {
                self.find(Rule::QueueAndRecipientsAgree, format!("message {id} counts {} recipients and has {open}", message.open));
            }
            let beyond = self.r.from(self.r.tables.queue_rcpt, Bound::Included(&recipient_key(id, message.next_n)))?.next().transpose()?;
            if beyond.is_some_and(|(key, _)| key.starts_with(&queue_key(id))) {
                self.find(Rule::NumbersAreBelowCounter, format!("message {id} has recipients from {} on", message.next_n));
            }
            let used = self.r.row::<BlobUse>(self.r.tables.blob_use, &blob_key(message.blob)).ok().flatten();
            if used.is_none_or(|used| used.length != message.size) {
                self.find(Rule::MessageHasBlob, format!("message {id} of the queue, blob {}", message.blob));
            }
        }
        Ok(totals)
    }

    /// How many recipients a message has; each that is not held stands in the index.
    fn recipients_of(&mut self, id: QueueId, totals: &mut Totals) -> Result<u64, Error> {
        let mut count = 0;
        for row in self.r.prefix(self.r.tables.queue_rcpt, &queue_key(id))? {
            let (key, value) = row?;
            let n = codec::u32_at(key, 8)?;
            count += 1;
            let Some(RecipientRow { recipient, .. }) = self.read(value) else { continue };
            totals.held += rows::is_held(&recipient);
            let Some(entry) = Entry::of(&recipient) else { continue };
            let key = index::dest_key(&recipient.address.domain, entry.due, (id, n));
            let mark = self.r.bytes(self.r.tables.queue_dest, &key)?.map(Mark::read);
            if mark != Some(Ok(entry.mark)) {
                self.find(Rule::QueueIndex, format!("recipient {n} of message {id} is not in queue_dest"));
            }
        }
        totals.recipients += count;
        Ok(count)
    }

    fn recipients_without_message(&mut self) -> Result<(), Error> {
        let tables = self.r.tables;
        let mut next = Some(0);
        while let Some(id) = next.map(|from| first_number(self.r, tables.queue_rcpt, from)).transpose()?.flatten() {
            if self.has(tables.queue, &queue_key(QueueId(id)))? == Known::No {
                self.find(Rule::QueueAndRecipientsAgree, format!("there are recipients of message {}, which is not there", QueueId(id)));
            }
            self.pass();
            next = id.checked_add(1);
        }
        Ok(())
    }

    /// Each row of `queue_dest` names a recipient as it is; the first of a domain has its row in `queue_due`.
    fn destinations(&mut self) -> Result<(), Error> {
        let tables = self.r.tables;
        let mut last: Vec<u8> = Vec::new();
        for row in self.r.all(tables.queue_dest)? {
            let (key, value) = row?;
            self.pass();
            let Ok(DestKey { domain: name, due, who: (id, n) }) = index::read_dest_key(key) else {
                self.find(Rule::RowIsReadable, "a key of queue_dest is malformed".into());
                continue;
            };
            let Some(domain) = std::str::from_utf8(name).ok().and_then(|text| Domain::parse(text).ok()) else {
                self.find(Rule::RowIsReadable, "a key of queue_dest has no domain".into());
                continue;
            };
            if !self.is_recipient(&domain, due, (id, n), value) {
                self.find(Rule::QueueIndex, format!("queue_dest has recipient {n} of message {id} with {domain} at {due}"));
            }
            if name != last {
                last = name.to_vec();
                if self.has(tables.queue_due, &index::due_key(due, &domain))? == Known::No {
                    self.find(Rule::QueueIndex, format!("{domain} is due at {due}, but queue_due has no row for it"));
                }
            }
        }
        Ok(())
    }

    fn is_recipient(&self, domain: &Domain, due: UnixTime, (id, n): (QueueId, u32), value: &[u8]) -> bool {
        let row = self.r.row::<RecipientRow>(self.r.tables.queue_rcpt, &recipient_key(id, n)).ok().flatten();
        row.is_some_and(|row| {
            let entry = Entry::of(&row.recipient);
            row.recipient.address.domain == *domain && entry.is_some_and(|entry| entry.due == due && Mark::read(value) == Ok(entry.mark))
        })
    }

    fn dues(&mut self) -> Result<(), Error> {
        for row in self.r.all(self.r.tables.queue_due)? {
            let (key, _) = row?;
            self.pass();
            match index::read_due_key(key) {
                Err(error) => self.find(Rule::RowIsReadable, error.to_string()),
                Ok((due, domain)) => {
                    if index::earliest(self.r, &domain).ok().flatten() != Some(due) {
                        self.find(Rule::QueueIndex, format!("queue_due has {domain} at {due}, which is not its earliest"));
                    }
                }
            }
        }
        Ok(())
    }

    fn hold_rules(&mut self) -> Result<(), Error> {
        let next = read_counter(self.r, Counter::Hold.key())?;
        for row in self.r.all(self.r.tables.hold)? {
            let (key, value) = row?;
            let id = HoldId(codec::u64_at(key, 0)?);
            let _ = self.read::<HoldRule>(value);
            if id.0 >= next || key != hold_key(id) {
                self.find(Rule::NumbersAreBelowCounter, format!("hold rule {id}"));
            }
        }
        Ok(())
    }
}
