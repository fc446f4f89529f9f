//! Writes down how an attempt ended: rows, history, notices, log and metrics; all that must agree in one change (R4).
//!
//! In go recipients of one message with the fate that the attempt gave them; what that means now (try again, tell the
//! sender, give up) is decided here, by the age of the message. While the clock is in doubt nobody is given up (R12).
//! A store that refuses is asked again: a message that a peer has taken must not go out twice. Where rows are damaged,
//! asking again does not help: the recipients are then settled one by one, and those that cannot be are set aside.

use std::time::Duration;

use crate::intake::bounce;
use crate::intake::bounce::Draft;
use crate::intake::bounce::Notice;
use crate::mail::date::UnixTime;
use crate::mail::dsn::DsnAction;
use crate::mail::dsn::Story;
use crate::mail::dsn::Told;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ReversePath;
use crate::mail::received::TlsFacts;
use crate::metrics::DeliveryOutcome;
use crate::metrics::DeliveryTls;
use crate::net::clock::Certainty;
use crate::net::deadline::sleep;
use crate::outbound::Outbound;
use crate::outbound::converse::PeerReply;
use crate::outbound::converse::Why;
use crate::outbound::schedule::Patience;
use crate::outbound::schedule::Schedule;
use crate::proto::dns::lookup::Lookup;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::queue;
use crate::store::queue::Event;
use crate::store::queue::LastAttempt;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::SET_ASIDE;
use crate::store::queue::Settlement;

/// Between two requests to a store that refused.
const PAUSE: Duration = Duration::from_secs(3);
/// After an hour of refusals a restart will say more than we can.
const MAX_REFUSALS: u32 = 1200;
/// Octets of a line of the history.
const MAX_EVENT: usize = 300;
const DONE: EnhancedStatus = EnhancedStatus::new(2, 0, 0);
/// RFC 3463: other or undefined mail system status.
const DAMAGED: EnhancedStatus = EnhancedStatus::new(4, 3, 0);

/// What the attempt said of a recipient.
#[derive(Clone, Debug)]
pub enum Fate {
    Delivered(PeerReply),
    Deferred(Why),
    Failed(Why),
    /// nothing could be asked, by a fault on our side
    Blind(Why),
    /// the store does not give the message any more, and why
    Illegible(String),
}

/// Where the attempt got to.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub host: String,
    pub address: String,
    pub tls: Option<TlsFacts>,
    pub notices: Notices,
}

/// Who tells the sender of the delivery (RFC 3461 section 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notices {
    /// the peer took the sender's wishes with the recipient
    PassedOn,
    #[default]
    Ours,
}

/// Recipients of one message whose attempt has ended.
pub struct Attempted<'a> {
    pub id: QueueId,
    pub message: &'a Queued,
    pub place: Option<&'a Place>,
    /// one for all of a visit: what failed together is tried together
    pub schedule: Schedule,
    pub recipients: Vec<(u32, QueuedRecipient, Fate)>,
}

/// What follows for one recipient.
struct Consequence<'a> {
    n: u32,
    recipient: &'a QueuedRecipient,
    status: EnhancedStatus,
    /// of the peer, or our sentence
    said: String,
    verdict: Verdict,
    notice: Option<DsnAction>,
    /// when it is given up
    end: UnixTime,
    remote: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Delivered,
    Failed,
    Retry(UnixTime),
    /// tried again, and the time until then does not count
    Wait(UnixTime),
    /// not tried until a person decides
    SetAside,
}

/// Stores it; returns when it is stored.
pub async fn settle<L: Lookup>(service: &Outbound<L>, attempted: &Attempted<'_>) {
    if attempted.recipients.is_empty() {
        return;
    }
    let all = |now| consequences(service, attempted, now);
    if settle_some(service, attempted, &all).await == Stored::Damaged {
        for at in 0..attempted.recipients.len() {
            let one = |now| consequences(service, attempted, now).into_iter().skip(at).take(1).collect();
            if settle_some(service, attempted, &one).await == Stored::Damaged {
                set_aside(service, attempted, at).await;
            }
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// stored, or nothing more can be done here
    Done,
    /// asking again does not help, because rows are damaged
    Damaged,
}

/// Stores some consequences in one change, patiently.
async fn settle_some<'a, L: Lookup>(
    service: &Outbound<L>,
    attempted: &'a Attempted<'_>,
    some: &impl Fn(UnixTime) -> Vec<Consequence<'a>>,
) -> Stored {
    for _ in 0..MAX_REFUSALS {
        let now = service.clock.now();
        let consequences = some(now);
        match store(service, attempted, &consequences, now).await {
            Ok(notices) => {
                report(service, attempted, &consequences, &notices);
                return Stored::Done;
            }
            Err(Error::Closed) => {
                log::error!("message {}: the store closed before an attempt was written down", attempted.id);
                return Stored::Done;
            }
            Err(Error::Damaged(_) | Error::Panicked) => return Stored::Damaged,
            Err(error) => log::error!("message {}: how an attempt ended cannot be stored: {error}", attempted.id),
        }
        sleep(PAUSE).await;
    }
    Stored::Done
}

/// Takes a recipient out of the way whose rows are damaged, whatever its attempt came to.
async fn set_aside<L: Lookup>(service: &Outbound<L>, attempted: &Attempted<'_>, at: usize) {
    let Some((n, recipient, fate)) = attempted.recipients.get(at) else { return };
    let came_to = match fate {
        Fate::Delivered(reply) => format!("it was DELIVERED ({reply}), do not send it again"),
        Fate::Deferred(why) | Fate::Blind(why) | Fate::Failed(why) => {
            format!("its last attempt came to: {}", why.reply.as_ref().map_or_else(|| why.text.clone(), ToString::to_string))
        }
        Fate::Illegible(why) => why.clone(),
    };
    let what = shortened(format!("rows of the store are damaged; {came_to}"));
    let to = &recipient.address;
    log::error!("message {} to {to} is set aside: {what}; see `pipit queue show {}` and `pipit store check`", attempted.id, attempted.id);
    for _ in 0..MAX_REFUSALS {
        let (who, domain, due) = ((attempted.id, *n), to.domain.clone(), recipient.due);
        let event = Event { at: service.clock.now(), what: what.clone() };
        match service.store.write(move |w| queue::set_aside(w, who, (&domain, due), event)).await {
            Ok(()) | Err(Error::Closed) => return,
            Err(Error::Damaged(why)) => return log::error!("message {}: it cannot even be set aside: {why}", attempted.id),
            Err(error) => log::error!("message {}: it cannot be set aside: {error}", attempted.id),
        }
        sleep(PAUSE).await;
    }
}

fn consequences<'a, L: Lookup>(service: &Outbound<L>, attempted: &'a Attempted<'_>, now: UnixTime) -> Vec<Consequence<'a>> {
    let recipients = attempted.recipients.iter();
    recipients.map(|(n, recipient, fate)| consequence(service, attempted, (*n, recipient), fate, now)).collect()
}

fn consequence<'a, L: Lookup>(
    service: &Outbound<L>,
    attempted: &Attempted<'_>,
    (n, recipient): (u32, &'a QueuedRecipient),
    fate: &Fate,
    now: UnixTime,
) -> Consequence<'a> {
    let life = service.busy.past.borrow().life(attempted.message, recipient.attempts);
    let schedule = attempted.schedule;
    let (why, verdict) = match fate {
        Fate::Delivered(reply) => {
            let status = if reply.status().class == 2 { reply.status() } else { DONE };
            (Why { status, reply: Some(reply.clone()), text: String::new() }, Verdict::Delivered)
        }
        Fate::Failed(why) => (why.clone(), Verdict::Failed),
        Fate::Deferred(why) => match schedule.patience(life, now) {
            Patience::Over => (why.clone(), Verdict::Failed),
            Patience::Fresh | Patience::Late => (why.clone(), Verdict::Retry(schedule.next(life, now))),
        },
        Fate::Blind(why) => (why.clone(), Verdict::Wait(now.plus(schedule.blind_wait()))),
        Fate::Illegible(why) => (Why { status: DAMAGED, reply: None, text: why.clone() }, Verdict::SetAside),
    };
    let verdict = match (verdict, service.clock.certainty()) {
        (Verdict::Delivered | Verdict::SetAside, _) | (_, Certainty::Confirmed) => verdict,
        // The due that was stored with the claim was reckoned by a clock that could be believed.
        (_, Certainty::Plausible | Certainty::Unknown) => Verdict::Retry(recipient.due),
    };
    // Nor is anybody told how long it took by a clock that cannot be believed.
    let patience = match service.clock.certainty() {
        Certainty::Confirmed => schedule.patience(life, now),
        Certainty::Plausible | Certainty::Unknown => Patience::Fresh,
    };
    let remote = why.reply.is_some();
    let said = why.reply.map_or(why.text, |reply| reply.to_string());
    let mut consequence =
        Consequence { n, recipient, status: why.status, said, verdict, notice: None, end: schedule.end(life, now), remote };
    consequence.notice = consequence.notice_due(attempted, patience);
    consequence
}

impl Consequence<'_> {
    fn notice_due(&self, attempted: &Attempted<'_>, patience: Patience) -> Option<DsnAction> {
        // RFC 3464 section 2: never a notice about a notice.
        if attempted.message.reverse_path == ReversePath::Null {
            return None;
        }
        let notify = self.recipient.notify;
        match self.verdict {
            Verdict::Failed => notify.wants_failure().then_some(DsnAction::Failed),
            Verdict::Delivered => {
                let ours = attempted.place.is_none_or(|place| place.notices == Notices::Ours);
                (ours && notify.wants_success()).then_some(DsnAction::Relayed)
            }
            Verdict::Retry(_) => {
                let now = patience != Patience::Fresh && !self.recipient.delay_told;
                (now && notify.wants_delay()).then_some(DsnAction::Delayed)
            }
            Verdict::Wait(_) | Verdict::SetAside => None,
        }
    }

    fn settlement(&self, place: &Place, now: UnixTime) -> Settlement {
        match self.verdict {
            Verdict::Delivered | Verdict::Failed => Settlement::Done,
            Verdict::Retry(due) => {
                Settlement::Retry { due, last: self.last(place, now), delay_told: self.notice == Some(DsnAction::Delayed) }
            }
            Verdict::Wait(due) => Settlement::Wait { due, last: self.last(place, now) },
            Verdict::SetAside => Settlement::Hold(format!("{SET_ASIDE}{}", self.said)),
        }
    }

    fn last(&self, place: &Place, now: UnixTime) -> LastAttempt {
        LastAttempt {
            at: now,
            host: place.host.clone(),
            address: place.address.clone(),
            reply: self.said.clone(),
            status: self.status,
            tls: place.tls.clone(),
            remote: self.remote,
        }
    }

    /// For the history and the log.
    fn sentence(&self, place: &Place) -> String {
        let at = if place.host.is_empty() { String::new() } else { format!(" {}[{}]", place.host, place.address) };
        let (said, status) = (&self.said, self.status);
        match self.verdict {
            Verdict::Delivered => {
                let tls = place.tls.as_ref().map_or("no TLS".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher));
                format!("delivered to{at}: {said}, {tls}")
            }
            Verdict::Failed if self.remote => format!("failed at{at}: {said}"),
            Verdict::Failed => format!("failed{}: {status} {said}", where_to(&at)),
            Verdict::Retry(due) | Verdict::Wait(due) if self.remote => format!("deferred by{at}: {said}; next attempt at {due}"),
            Verdict::SetAside => format!("set aside: {said}"),
            Verdict::Retry(due) | Verdict::Wait(due) => format!("deferred{}: {status} {said}; next attempt at {due}", where_to(&at)),
        }
    }

    fn told(&self, place: &Place, now: UnixTime) -> Told<'_> {
        let story = if self.remote { Story::Theirs { host: "", reply: &self.said } } else { Story::Ours(&self.said) };
        Told {
            address: &self.recipient.address,
            orcpt: self.recipient.orcpt.as_deref(),
            status: self.status,
            story,
            last_attempt: (!place.host.is_empty()).then_some(now),
            retry_until: matches!(self.verdict, Verdict::Retry(_)).then_some(self.end),
        }
    }
}

/// For the history, of which a row holds many; the whole reply stands in `LastAttempt` and in the log.
fn shortened(mut sentence: String) -> String {
    if sentence.len() > MAX_EVENT {
        let cut = (0..=MAX_EVENT).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        sentence.truncate(cut);
        sentence.push('…');
    }
    sentence
}

/// One change for rows and notices.
async fn store<L: Lookup>(
    service: &Outbound<L>,
    attempted: &Attempted<'_>,
    consequences: &[Consequence<'_>],
    now: UnixTime,
) -> Result<Vec<(QueueId, DsnAction)>, Error> {
    let nowhere = Place::default();
    let place = attempted.place.unwrap_or(&nowhere);
    let mut notices: Vec<(Vec<u32>, Notice)> = Vec::new();
    let mut made = Vec::new();
    for action in [DsnAction::Failed, DsnAction::Delayed, DsnAction::Relayed] {
        if let Some(notice) = draft(service, attempted, consequences, action, now).await? {
            made.push((notice.id, action));
            let concerned = consequences.iter().filter(|one| one.notice == Some(action)).map(|one| one.n);
            notices.push((concerned.collect(), notice));
        }
    }
    let id = attempted.id;
    let rows: Vec<(u32, Settlement, Event)> = consequences
        .iter()
        .map(|one| (one.n, one.settlement(place, now), Event { at: now, what: shortened(one.sentence(place)) }))
        .collect();
    let wait = consequences.iter().find_map(|one| match one.verdict {
        Verdict::Wait(due) => u64::try_from(due.0 - now.0).ok(),
        Verdict::Delivered | Verdict::Failed | Verdict::Retry(_) | Verdict::SetAside => None,
    });
    service
        .store
        .write(move |w| {
            if let Some(seconds) = wait {
                queue::waited_blind(w, id, seconds, now)?;
            }
            for (concerned, notice) in notices {
                // Whom an administrator dropped meanwhile nobody is to hear of.
                let rows: Result<Vec<_>, Error> = concerned.iter().map(|n| queue::recipient(&w.reader(), id, *n)).collect();
                if rows?.iter().any(Option::is_some) {
                    notice.file(w)?;
                }
            }
            for (n, settlement, event) in rows {
                queue::settle(w, id, n, settlement, event)?;
            }
            Ok(())
        })
        .await?;
    Ok(made)
}

/// The notice of one kind for all whom it concerns.
async fn draft<L: Lookup>(
    service: &Outbound<L>,
    attempted: &Attempted<'_>,
    consequences: &[Consequence<'_>],
    action: DsnAction,
    now: UnixTime,
) -> Result<Option<Notice>, Error> {
    let nowhere = Place::default();
    let place = attempted.place.unwrap_or(&nowhere);
    let concerned = || consequences.iter().filter(|one| one.notice == Some(action));
    let recipients: Vec<Told<'_>> = concerned()
        .map(|one| {
            let mut told = one.told(place, now);
            if let Story::Theirs { host, .. } = &mut told.story {
                *host = &place.host;
            }
            told
        })
        .collect();
    if recipients.is_empty() {
        return Ok(None);
    }
    let wish = concerned().next().map_or(RequireTls::Default, |one| one.recipient.wish);
    let draft = Draft { id: attempted.id, message: attempted.message, action, recipients, wish, now };
    bounce::prepare(&service.store, &service.live.current(), draft).await
}

/// Log and metrics, once it is stored.
fn report<L: Lookup>(service: &Outbound<L>, attempted: &Attempted<'_>, consequences: &[Consequence<'_>], notices: &[(QueueId, DsnAction)]) {
    let nowhere = Place::default();
    let place = attempted.place.unwrap_or(&nowhere);
    for one in consequences {
        let level = if one.verdict == Verdict::SetAside { log::Level::Error } else { log::Level::Info };
        log::log!(level, "message {} to {} {}", attempted.id, one.recipient.address, one.sentence(place));
        service.metrics.deliveries.add_one(match one.verdict {
            Verdict::Delivered => DeliveryOutcome::Delivered,
            Verdict::Failed => DeliveryOutcome::Failed,
            Verdict::Retry(_) | Verdict::Wait(_) | Verdict::SetAside => DeliveryOutcome::Deferred,
        });
        if one.verdict == Verdict::Delivered {
            service.metrics.delivery_tls.add_one(if place.tls.is_some() { DeliveryTls::Tls } else { DeliveryTls::Plaintext });
        }
    }
    for (notice, action) in notices {
        service.metrics.notices.add_one();
        log::info!("message {}: notice {notice} ({action:?}) to {}", attempted.id, attempted.message.reverse_path);
    }
}

impl<L: Lookup> Outbound<L> {
    /// The retry figures as they are set now.
    pub(super) fn schedule(&self) -> Schedule {
        let mut dice = [0u8];
        // Without dice all intervals have their plain length.
        let thrown = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut dice);
        Schedule::new(&self.live.current().outbound, if thrown.is_ok() { dice[0] } else { 128 })
    }
}

/// ` at host[address]`, or nothing where no host was reached.
fn where_to(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at{at}") }
}
