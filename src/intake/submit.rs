//! Files a message that is to reach people here, elsewhere, or both: one blob, one transaction.
//!
//! In goes a spooled message of one of our own (a login, `pipit send`, the web, a notice of ours); when `submit` returns
//! `Ok` every local copy and every row of the queue is on stable storage (promises R1 and R2). On `Err` nothing was stored.
//! Whoever asked for a notice of success gets the one about people here at once (`intake::delivered`).

use crate::config::settings::Settings;
use crate::intake::delivered::Deliveries;
use crate::intake::recipients::Destination;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::store::AccountId;
use crate::store::BlobId;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Spooled;
use crate::store::Store;
use crate::store::Writer;
use crate::store::blobs;
use crate::store::mailboxes;
use crate::store::messages;
use crate::store::messages::Flags;
use crate::store::messages::NewMessage;
use crate::store::messages::Reception;
use crate::store::queue;
use crate::store::queue::NewQueued;
use crate::store::queue::NewRecipient;
use crate::store::queue::Origin;

/// A message that is complete and judged.
pub struct Submission {
    pub spooled: Spooled,
    /// the trace id as a number
    pub id: QueueId,
    pub reverse_path: ReversePath,
    /// the account that handed it in
    pub sender: Option<AccountId>,
    /// one an account
    pub local: Vec<Destination>,
    /// the addresses by which they were named, with what is wished for each
    pub named: Vec<NewRecipient>,
    /// one an address
    pub remote: Vec<NewRecipient>,
    pub body: Body,
    pub smtp_utf8: bool,
    pub ret: Ret,
    pub envid: Option<String>,
    pub received: UnixTime,
    pub digest: Digest,
    pub require_tls: RequireTls,
    pub reception: Reception,
    pub origin: Origin,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// mailboxes that got one; fewer than there were destinations: accounts were removed since RCPT
    pub copies: usize,
    /// the notice of success about them
    pub notice: Option<QueueId>,
}

/// Files the message; returns after the sync, and after that of its notice.
pub async fn submit(store: &Store, settings: &Settings, submission: Submission) -> Result<Submitted, Error> {
    let deliveries = Deliveries::of(&submission);
    let (id, wanted) = (submission.id, submission.local.len());
    let (blob, copies) = store.write(move |writer| file(writer, submission)).await?;
    let mut submitted = Submitted { copies, notice: None };
    // Of a mailbox that is gone nothing good can be told; who it was is not known here any more.
    if let Some(deliveries) = deliveries.filter(|_| copies == wanted) {
        match deliveries.tell(store, settings, blob).await {
            Ok(notice) => submitted.notice = notice,
            // The message itself is safe: a client that sent it again would double it.
            Err(error) => log::warn!("message {id}: the notice of its delivery cannot be stored: {error}"),
        }
    }
    if let Some(notice) = submitted.notice {
        log::info!("message {id}: notice {notice} (Delivered)");
    }
    Ok(submitted)
}

/// Gives the blob and the number of copies in mailboxes.
fn file(writer: &mut Writer<'_>, submission: Submission) -> Result<(BlobId, usize), Error> {
    let mut inboxes = Vec::with_capacity(submission.local.len());
    for destination in &submission.local {
        // An account removed since RCPT must not cost the others their copy.
        if let Some(inbox) = mailboxes::inbox(&writer.reader(), destination.account)? {
            inboxes.push((destination.clone(), inbox));
        }
    }
    let uses = inboxes.len() + usize::from(!submission.remote.is_empty());
    if uses == 0 {
        return Err(Error::Withdrawn("every recipient's account was removed meanwhile".into()));
    }
    let uses = u32::try_from(uses).map_err(|_| Error::Withdrawn("too many recipients".into()))?;
    let blob = blobs::adopt(writer, submission.spooled, uses)?;
    let copies = inboxes.len();
    for (destination, inbox) in inboxes {
        let row = NewMessage {
            blob,
            return_path: submission.reverse_path.clone(),
            delivered_to: destination.address,
            flags: Flags::default(),
            received: submission.received,
            digest: submission.digest.clone(),
            auth_results: String::new(),
            require_tls: submission.require_tls,
            reception: submission.reception.clone(),
        };
        messages::file(writer, destination.account, inbox, row)?;
    }
    if !submission.remote.is_empty() {
        let new = NewQueued {
            id: submission.id,
            blob,
            reverse_path: submission.reverse_path,
            sender: submission.sender,
            origin: submission.origin,
            body: submission.body,
            smtp_utf8: submission.smtp_utf8,
            ret: submission.ret,
            envid: submission.envid,
            arrived: submission.received,
            digest: submission.digest,
            reception: submission.reception,
            wish: submission.require_tls,
            recipients: submission.remote,
        };
        queue::enqueue(writer, new)?;
    }
    Ok((blob, copies))
}
