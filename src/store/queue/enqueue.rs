//! Puts a message into the queue, in the change that stored its octets.

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::store::blobs;
use crate::store::codec::queue_key;
use crate::store::codec::recipient_key;
use crate::store::errors::Error;
use crate::store::holds;
use crate::store::ids::AccountId;
use crate::store::ids::BlobId;
use crate::store::ids::QueueId;
use crate::store::messages::Reception;
use crate::store::queue::Event;
use crate::store::queue::Origin;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;
use crate::store::queue::destination;
use crate::store::queue::index;
use crate::store::queue::index::Entry;
use crate::store::queue::rows;
use crate::store::queue::rows::RecipientRow;
use crate::store::txn::Writer;
use crate::store::watch::Topic;

/// A message that is to leave; the fields are those of `Queued`.
#[derive(Clone, Debug)]
pub struct NewQueued {
    pub id: QueueId,
    pub blob: BlobId,
    pub reverse_path: ReversePath,
    pub sender: Option<AccountId>,
    pub origin: Origin,
    pub body: Body,
    pub smtp_utf8: bool,
    pub ret: Ret,
    pub envid: Option<String>,
    pub arrived: UnixTime,
    pub digest: Digest,
    pub reception: Reception,
    pub wish: RequireTls,
    pub recipients: Vec<NewRecipient>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecipient {
    pub address: Address,
    pub notify: Notify,
    pub orcpt: Option<String>,
}

/// Queues a message. Its blob was adopted in the same change and counts one use for the queue already. Recipients are due
/// at once; those that a hold rule names are held. `Withdrawn` if the id is taken, there are no recipients, or no blob.
pub fn enqueue(w: &mut Writer<'_>, new: NewQueued) -> Result<(), Error> {
    let id = new.id;
    if new.recipients.is_empty() {
        return Err(Error::Withdrawn("a message without a recipient is not queued".into()));
    }
    if w.reader().bytes(w.tables.queue, &queue_key(id))?.is_some() {
        return Err(Error::Withdrawn(format!("there is a message {id} in the queue already")));
    }
    let size = blobs::length(&w.reader(), new.blob)?.ok_or_else(|| Error::Withdrawn("the blob of the message is not there".into()))?;
    let count = u32::try_from(new.recipients.len()).map_err(|_| Error::Withdrawn("too many recipients".into()))?;
    let (message, recipients) = split(new, size, count);
    let rules = holds::all(&w.reader())?;
    let mut totals = rows::totals(&w.reader())?;
    totals.messages += 1;
    totals.recipients += u64::from(count);
    for (n, recipient) in (0..count).zip(recipients) {
        let held = holds::first_match(&rules, &message, &recipient.address);
        let recipient = begin(&message, recipient, held);
        totals.held += rows::is_held(&recipient);
        if let Some(entry) = Entry::of(&recipient) {
            index::put_in(w, destination(&recipient), entry, (id, n))?;
        }
        w.put(w.tables.queue_rcpt, &recipient_key(id, n), &RecipientRow { recipient, claimed_by: 0 })?;
    }
    w.put(w.tables.queue, &queue_key(id), &message)?;
    rows::put_totals(w, totals)?;
    w.raise(Topic::Queue);
    Ok(())
}

fn split(new: NewQueued, size: u64, count: u32) -> (Queued, Vec<NewRecipient>) {
    let message = Queued {
        blob: new.blob,
        size,
        reverse_path: new.reverse_path,
        sender: new.sender,
        origin: new.origin,
        body: new.body,
        smtp_utf8: new.smtp_utf8,
        ret: new.ret,
        envid: new.envid,
        arrived: new.arrived,
        digest: new.digest,
        reception: new.reception,
        wish: new.wish,
        next_n: count,
        open: count,
        waited_blind: 0,
    };
    (message, new.recipients)
}

fn begin(message: &Queued, new: NewRecipient, held: Option<String>) -> QueuedRecipient {
    let mut recipient = QueuedRecipient {
        address: new.address,
        notify: new.notify,
        orcpt: new.orcpt,
        wish: message.wish,
        state: RecipientState::Waiting,
        attempts: 0,
        due: message.arrived,
        last: None,
        delay_told: false,
        crashes: 0,
        history: Vec::new(),
    };
    if let Some(why) = held {
        recipient.note(Event { at: message.arrived, what: format!("held by {why}") });
        recipient.state = RecipientState::Held(why);
    }
    recipient
}
