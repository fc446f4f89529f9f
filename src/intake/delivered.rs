//! Tells a sender of copies that are in mailboxes here, where it asked for that (NOTIFY=SUCCESS, RFC 3461 section 5.2.4).
//!
//! In goes what was handed in, after its copies were stored; the notice is on disk before the client has its 250, so one
//! that hears of no success sends again. Asked for only by our own people: on port 25 there is no NOTIFY (delivery.md
//! section 6). Not done here: notices about other hosts (`outbound::settle`).

use crate::config::settings::Settings;
use crate::intake::bounce;
use crate::intake::bounce::Draft;
use crate::intake::submit::Submission;
use crate::mail::date::UnixTime;
use crate::mail::dsn::DsnAction;
use crate::mail::dsn::Story;
use crate::mail::dsn::Told;
use crate::mail::enhanced::EnhancedStatus;
use crate::store::BlobId;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Store;
use crate::store::queue::NewRecipient;
use crate::store::queue::Queued;

const DELIVERED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);

/// What a notice of success would be about.
pub struct Deliveries {
    id: QueueId,
    message: Queued,
    recipients: Vec<NewRecipient>,
}

impl Deliveries {
    /// Those of a message that is handed in; `None` if nobody wants to hear of them.
    pub fn of(submission: &Submission) -> Option<Deliveries> {
        let wanting = submission.named.iter().filter(|recipient| recipient.notify.wants_success());
        let recipients: Vec<NewRecipient> = wanting.cloned().collect();
        submission.reverse_path.address().filter(|_| !recipients.is_empty())?;
        let message = Queued {
            blob: BlobId(0),
            size: submission.spooled.len(),
            reverse_path: submission.reverse_path.clone(),
            sender: submission.sender,
            origin: submission.origin,
            body: submission.body,
            smtp_utf8: submission.smtp_utf8,
            ret: submission.ret,
            envid: submission.envid.clone(),
            arrived: submission.received,
            digest: submission.digest.clone(),
            reception: submission.reception.clone(),
            wish: submission.require_tls,
            next_n: 0,
            open: 0,
            waited_blind: 0,
        };
        Some(Deliveries { id: submission.id, message, recipients })
    }

    /// Files the notice. `blob`: where the message was stored. `None`: there is nobody to tell.
    pub async fn tell(mut self, store: &Store, settings: &Settings, blob: BlobId) -> Result<Option<QueueId>, Error> {
        self.message.blob = blob;
        let now = self.message.arrived;
        let recipients = self.recipients.iter().map(|recipient| told(recipient, now)).collect();
        let draft = Draft { id: self.id, message: &self.message, action: DsnAction::Delivered, recipients, wish: self.message.wish, now };
        let Some(notice) = bounce::prepare(store, settings, draft).await? else { return Ok(None) };
        let id = notice.id;
        store.write(move |w| notice.file(w)).await?;
        Ok(Some(id))
    }
}

fn told(recipient: &NewRecipient, now: UnixTime) -> Told<'_> {
    Told {
        address: &recipient.address,
        orcpt: recipient.orcpt.as_deref(),
        status: DELIVERED,
        story: Story::Ours("the message is in the mailbox"),
        last_attempt: Some(now),
        retry_until: None,
    }
}
