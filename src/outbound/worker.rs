//! Carries the messages of a visit over one connection after the other (delivery.md section 2 points 8 and 9, section 6).
//!
//! A message goes to the best host that has not failed; recipients of whom that host said nothing go on to the next. What a
//! peer has taken is stored before anything else is sent (R4). A connection carries many messages, but neither forever
//! nor past a failure. Not done here: who waits (`visit`), what an outcome means for the queue (`settle`).

use std::cell::RefCell;
use std::time::Duration;
use std::time::Instant;

use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::Body;
use crate::outbound::candidates::Stack;
use crate::outbound::converse;
use crate::outbound::converse::Connection;
use crate::outbound::converse::HostFailure;
use crate::outbound::converse::LACKS_EIGHT_BIT;
use crate::outbound::converse::Outcome;
use crate::outbound::converse::Outgoing;
use crate::outbound::converse::TOO_BIG;
use crate::outbound::converse::Transaction;
use crate::outbound::converse::Why;
use crate::outbound::recoded;
use crate::outbound::recoded::Obstacle;
use crate::outbound::recoded::Recoded;
use crate::outbound::recoded::RecodedMessage;
use crate::outbound::settle::Attempted;
use crate::outbound::settle::Fate;
use crate::outbound::settle::Notices;
use crate::outbound::settle::Place;
use crate::outbound::source::StoredMessage;
use crate::outbound::visit::Visit;
use crate::proto::dns::lookup::Lookup;
use crate::proto::smtp::client::offers::SizeOffer;
use crate::proto::smtp::client::words::Stage;
use crate::store::QueueId;
use crate::store::queue::Claimed;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;

/// Messages of one connection: a server that keeps something a message would grow.
const MOST_MESSAGES: u32 = 100;
/// … and its age, so that changes in the DNS are heeded.
const OLDEST: Duration = Duration::from_secs(300);
/// A peer may have closed a connection that was not used for this long; under load some wait no longer than 10 s.
const FRESH: Duration = Duration::from_secs(5);

/// Our own store gives no message.
const UNREAD: EnhancedStatus = EnhancedStatus::new(4, 3, 0);

type Recipients = Vec<(u32, QueuedRecipient)>;

/// One connection at a time.
pub struct Worker<'v, 's, L: Lookup> {
    visit: &'v Visit<'s, L>,
    line: Option<Line<'v>>,
    /// the message under way with 7 bits, once a host needed it so
    seven_bit: Option<Result<Recoded, Obstacle>>,
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Yes,
    NoHost,
    /// the host is reached by another worker, and takes no more connections
    Crowded,
}

/// An open connection.
struct Line<'v> {
    /// the candidate
    at: usize,
    connection: Connection,
    place: Place,
    carried: u32,
    opened: Instant,
    _entry: Entry<'v>,
}

/// An entry among the candidates that are connected, for as long as the connection stands.
struct Entry<'v> {
    connected: &'v RefCell<Vec<usize>>,
    at: usize,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut connected = self.connected.borrow_mut();
        if let Some(place) = connected.iter().position(|at| *at == self.at) {
            connected.swap_remove(place);
        }
    }
}

/// What one transaction left undecided.
#[derive(Default)]
struct Left {
    /// go into the next transaction at once
    again: Recipients,
    /// go to the next host
    onward: Recipients,
    /// why the host did not take those that go on
    why: Option<Why>,
}

impl<'v, 's, L: Lookup> Worker<'v, 's, L> {
    pub fn new(visit: &'v Visit<'s, L>) -> Self {
        Worker { visit, line: None, seven_bit: None }
    }

    /// Until no mail is left, or no host.
    pub async fn work(mut self) {
        while let Some(claim) = self.visit.next().await {
            if self.deliver(claim).await == Reached::Crowded {
                break;
            }
            if self.visit.candidates.borrow().next(0).is_none() {
                break;
            }
        }
        if let Some(line) = self.line.take() {
            line.connection.quit().await;
        }
    }

    /// Makes sure of a connection to the best host at or behind the candidate `from`.
    pub async fn reach(&mut self, from: usize) -> Reached {
        let visit = self.visit;
        let now = visit.service.clock.instant();
        let best = visit.candidates.borrow().next(from);
        if let Some(line) = self.line.take() {
            let fresh = line.carried < MOST_MESSAGES && now.duration_since(line.opened) < OLDEST;
            if Some(line.at) == best && fresh && line.connection.is_usable() {
                self.line = Some(line);
                return Reached::Yes;
            }
            line.connection.quit().await;
        }
        loop {
            let found = {
                let candidates = visit.candidates.borrow();
                candidates.next(from).and_then(|at| Some((at, candidates.get(at)?.target.clone())))
            };
            let Some((at, target)) = found else { return Reached::NoHost };
            match converse::connect(&target, &visit.caller, &visit.service.metrics).await {
                Ok(connection) => {
                    let notices = if connection.offers().dsn { Notices::PassedOn } else { Notices::Ours };
                    let (host, address) = (target.host.to_string(), target.address.ip().to_string());
                    let place = Place { host, address, tls: connection.tls().cloned(), notices };
                    visit.connected.borrow_mut().push(at);
                    let _entry = Entry { connected: &visit.connected, at };
                    let opened = visit.service.clock.instant();
                    self.line = Some(Line { at, connection, place, carried: 0, opened, _entry });
                    return Reached::Yes;
                }
                Err(failure) => {
                    log::info!("{}[{}]: {failure}", target.host, target.address.ip());
                    // A limit of connections must not take the host from the worker that holds one.
                    if visit.connected.borrow().contains(&at) {
                        return Reached::Crowded;
                    }
                    visit.candidates.borrow_mut().fail(at, failure);
                }
            }
        }
    }

    /// One message to its recipients, over as many hosts and transactions as it takes. `Crowded`: what is left of it was given back.
    async fn deliver(&mut self, claim: Claimed) -> Reached {
        let Claimed { id, message, recipients } = claim;
        self.seven_bit = None;
        recipients.iter().for_each(|(n, _)| self.visit.ledger.transmitting(id, *n));
        let mut open = recipients;
        let mut onward = Recipients::new();
        let mut reasons: Vec<(Why, Place)> = Vec::new();
        let (mut from, mut next_from) = (0, 0);
        loop {
            if open.is_empty() {
                if onward.is_empty() {
                    return Reached::Yes;
                }
                (open, from) = (std::mem::take(&mut onward), next_from);
            }
            match self.reach(from).await {
                Reached::Yes => {}
                Reached::NoHost => {
                    open.append(&mut onward);
                    self.give_up(id, &message, open, reasons).await;
                    return Reached::NoHost;
                }
                Reached::Crowded => {
                    open.append(&mut onward);
                    self.visit.give_back(Claimed { id, message, recipients: open });
                    return Reached::Crowded;
                }
            }
            let Some(line) = &self.line else { return Reached::NoHost };
            let idle = self.visit.service.clock.instant().duration_since(line.opened);
            let (at, reused, place) = (line.at, line.carried > 0 || idle > FRESH, line.place.clone());
            let count = open.len();
            let mut left = self.transact(id, &message, open).await;
            let usable = self.line.as_ref().is_some_and(|line| line.connection.is_usable());
            if left.again.len() == count {
                // The client promises progress; without it this would go on for ever.
                let why = Why { status: EnhancedStatus::new(4, 5, 3), reply: None, text: "the server takes no recipient".to_owned() };
                let recipients = left.again.drain(..).map(|(n, recipient)| (n, recipient, Fate::Deferred(why.clone()))).collect();
                self.visit
                    .settle(Attempted { id, message: &message, place: Some(&place), schedule: self.visit.schedule, recipients })
                    .await;
            }
            open = left.again;
            if left.onward.is_empty() {
                continue;
            }
            // The peer had closed while nothing was sent: the same host deserves a fresh connection.
            next_from = if reused && !usable && left.onward.len() == count { at } else { at + 1 };
            onward.append(&mut left.onward);
            if let Some(why) = left.why {
                if !usable && next_from > at {
                    self.visit.candidates.borrow_mut().fail(at, failed_session(&why));
                }
                if next_from > at {
                    reasons.push((why, place));
                }
            }
        }
    }

    /// One transaction; what it decided is stored when this returns.
    async fn transact(&mut self, id: QueueId, message: &Queued, open: Recipients) -> Left {
        let visit = self.visit;
        let Some(line) = &mut self.line else { return Left { again: open, ..Left::default() } };
        let on_chunk = || visit.progresses();
        let mut source = StoredMessage::new(&visit.service.store, message.blob, &on_chunk);
        let offers = line.connection.offers();
        // Where the header needs what the host lacks, that is what the sender must hear (5.6.7).
        let lacks_utf8 = message.smtp_utf8 && !offers.smtp_utf8;
        let needs_seven = message.body == Body::EightBit && !offers.eight_bit_mime && !lacks_utf8;
        if needs_seven && self.seven_bit.is_none() {
            let settings = visit.service.live.current();
            let is_ours = |domain: &Domain| settings.is_local(domain) || *domain == settings.hostname;
            self.seven_bit = Some(recoded::plan(&mut source, is_ours).await);
        }
        let recoded = match self.seven_bit.as_ref().filter(|_| needs_seven) {
            None => None,
            Some(Ok(recoded)) => Some(recoded),
            // Another host may take it as it is.
            Some(Err(obstacle)) => return Left { onward: open, why: Some(hindered(obstacle)), ..Left::default() },
        };
        // Too large only by what we made of it: another host may take it as it is.
        if let (Some(recoded), SizeOffer::AtMost(limit)) = (recoded, offers.size)
            && (message.size..recoded.size).contains(&limit)
        {
            return Left { onward: open, why: Some(grown(recoded.size, limit)), ..Left::default() };
        }
        let transaction = Transaction {
            reverse_path: &message.reverse_path,
            recipients: open.iter().map(outgoing).collect(),
            body: if recoded.is_some() { Body::SevenBit } else { message.body },
            smtp_utf8: message.smtp_utf8,
            size: recoded.map_or(message.size, |recoded| recoded.size),
            ret: message.ret,
            envid: message.envid.as_deref(),
        };
        let outcomes = match recoded {
            None => line.connection.transact(&transaction, &mut source).await,
            Some(recoded) => line.connection.transact(&transaction, &mut RecodedMessage::new(&mut source, recoded)).await,
        };
        line.carried += 1;
        let stack = visit.candidates.borrow().get(line.at).map_or(Stack::Single, |candidate| candidate.stack);
        let (left, recipients) = sort(open, outcomes, stack);
        visit.settle(Attempted { id, message, place: Some(&line.place), schedule: visit.schedule, recipients }).await;
        left
    }

    /// No host is left. Permanent only if every host was reached, and each lacks what the message needs.
    async fn give_up(&self, id: QueueId, message: &Queued, open: Recipients, reasons: Vec<(Why, Place)>) {
        let reached_all = !self.visit.candidates.borrow().any_failed();
        let temporary = reasons.iter().position(|(why, _)| why.status.class == 4);
        let told = temporary.or_else(|| (reached_all && !reasons.is_empty()).then_some(0));
        let (fate, place) = match told.and_then(|at| reasons.get(at).cloned()) {
            Some((why, place)) if why.status.class == 5 => (Fate::Failed(why), Some(place)),
            Some((why, place)) => (Fate::Deferred(why), Some(place)),
            None => self.visit.unreachable(),
        };
        let place = place.as_ref();
        let recipients = open.into_iter().map(|(n, recipient)| (n, recipient, fate.clone())).collect();
        self.visit.settle(Attempted { id, message, place, schedule: self.visit.schedule, recipients }).await;
    }
}

/// What each outcome means: some are decided, the others are left.
fn sort(open: Recipients, outcomes: Vec<Outcome>, stack: Stack) -> (Left, Vec<(u32, QueuedRecipient, Fate)>) {
    let mut left = Left::default();
    let mut decided = Vec::new();
    let silent = Why { status: EnhancedStatus::new(4, 3, 0), reply: None, text: "nothing was said of this recipient".to_owned() };
    let outcomes = outcomes.into_iter().chain(std::iter::repeat(Outcome::Deferred(silent)));
    for ((n, recipient), outcome) in open.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Delivered(reply) => decided.push((n, recipient, Fate::Delivered(reply))),
            Outcome::Deferred(why) => decided.push((n, recipient, Fate::Deferred(why))),
            Outcome::Failed(why) if stack == Stack::Dual && is_about_us(&recipient, &why) => {
                decided.push((n, recipient, Fate::Deferred(why)));
            }
            Outcome::Failed(why) => decided.push((n, recipient, Fate::Failed(why))),
            Outcome::NextTransaction => left.again.push((n, recipient)),
            Outcome::NextHost(why) => {
                left.onward.push((n, recipient));
                left.why = Some(why);
            }
        }
    }
    (left, decided)
}

fn outgoing((_, recipient): &(u32, QueuedRecipient)) -> Outgoing {
    Outgoing { address: recipient.address.clone(), notify: recipient.notify, orcpt: recipient.orcpt.clone() }
}

/// Why a message cannot go to a host without 8BITMIME.
fn hindered(obstacle: &Obstacle) -> Why {
    match obstacle {
        Obstacle::Unfit(reason) => {
            let text = format!("the message has 8-bit text, which the host does not take, and it cannot be written otherwise: {reason}");
            Why { status: LACKS_EIGHT_BIT, reply: None, text }
        }
        Obstacle::Unread(trouble) => Why { status: UNREAD, reply: None, text: format!("the message cannot be read here: {trouble}") },
    }
}

fn grown(size: u64, limit: u64) -> Why {
    let text =
        format!("the host does not take 8-bit text, and without it the message has {size} octets, of which it takes at most {limit}");
    Why { status: TOO_BIG, reply: None, text }
}

/// A refusal by policy (5.7.x) at the first attempt, perhaps only for the address from which we came.
fn is_about_us(recipient: &QueuedRecipient, why: &Why) -> bool {
    recipient.attempts <= 1 && why.reply.is_some() && why.status.class == 5 && why.status.subject == 7
}

/// A session that ended without a word about the recipients.
fn failed_session(why: &Why) -> HostFailure {
    HostFailure::Refused { stage: Stage::Mail, reply: why.reply.clone(), text: why.text.clone() }
}
