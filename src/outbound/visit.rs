//! One visit to a destination: claims its mail, finds its hosts, reaches one, and carries all that is due.
//!
//! In goes a domain; when the visit ends each claim has been settled or put back (`ledger`). A domain that cannot be
//! reached costs one attempt: what else is due for it shares the outcome. A place behind the gate is taken only when a
//! host has answered, and given up again where the host stalls while others wait (R11).
//! Wishes that this version cannot fulfil are refused before anything is asked (RFC 8689 section 4.2.1); mail that is
//! damaged is set aside.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use ring::rand::SystemRandom;
use smol::future::FutureExt;

use crate::config::settings::Settings;
use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ReversePath;
use crate::net::breathe::breathe;
use crate::net::clock::Certainty;
use crate::net::deadline::sleep;
use crate::outbound::Outbound;
use crate::outbound::busy::Pass;
use crate::outbound::candidates::Candidates;
use crate::outbound::candidates::Family;
use crate::outbound::converse::Caller;
use crate::outbound::converse::MAX_RECIPIENTS;
use crate::outbound::converse::Why;
use crate::outbound::ledger::End;
use crate::outbound::ledger::Ledger;
use crate::outbound::schedule::Patience;
use crate::outbound::schedule::Schedule;
use crate::outbound::scheduler::latest_due;
use crate::outbound::settle;
use crate::outbound::settle::Attempted;
use crate::outbound::settle::Fate;
use crate::outbound::settle::Place;
use crate::outbound::worker::Reached;
use crate::outbound::worker::Worker;
use crate::proto::dns::lookup::Lookup;
use crate::reach::route;
use crate::reach::route::Ourselves;
use crate::reach::route::Route;
use crate::reach::route::Verdict;
use crate::reach::route::together;
use crate::store::Error;
use crate::store::blobs;
use crate::store::queue;
use crate::store::queue::Claimed;
use crate::store::queue::LastAttempt;
use crate::store::queue::More;
use crate::store::queue::PutOff;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;

/// A visit begins no more messages after this time, so that waiting destinations get their turn, and mail behind a message
/// at which a host stalls each time gets another order; what was claimed is put back.
const LONGEST: Duration = Duration::from_secs(300);
/// Claims of an unreachable destination that share its outcome one by one, so that their ages are looked at; further
/// mail is put off all at once, unless it is time to tell senders.
const SHARED_ROUNDS: usize = 10;
/// Without a message settled or a chunk of one taken for so long, the place behind the gate goes to whoever waits: a host
/// that stalls may take minutes (R11). The visit itself goes on.
const STALLED: Duration = Duration::from_secs(45);
/// Between two looks at that.
const LOOK: Duration = Duration::from_secs(2);
/// Before a destination is looked at again when the store refused to give its mail.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// RFC 8689 section 4.2.1, until there is a plan for TLS.
const NO_VERIFIED_WAY: EnhancedStatus = EnhancedStatus::new(5, 7, 10);
/// RFC 3463: other or undefined mail system status; without a reply it is our own store that gives no message.
const UNREAD: EnhancedStatus = EnhancedStatus::new(4, 3, 0);
const GIVEN_UP: EnhancedStatus = EnhancedStatus::new(5, 0, 0);

/// What the workers of a visit share.
pub struct Visit<'s, L: Lookup> {
    pub service: &'s Outbound<L>,
    domain: &'s Domain,
    pub ledger: &'s Ledger,
    settings: Rc<Settings>,
    pub schedule: Schedule,
    pub caller: Caller,
    pub candidates: RefCell<Candidates>,
    waiting: RefCell<VecDeque<Claimed>>,
    began: Instant,
    /// the place behind the gate
    pass: RefCell<Option<Pass>>,
    /// when the last message was settled, or a chunk of one taken
    progress: Cell<Instant>,
    /// the candidates to which workers are connected, one entry a connection
    pub connected: RefCell<Vec<usize>>,
}

/// Visits `domain`, whatever happens.
pub async fn visit<L: Lookup>(service: &Outbound<L>, domain: &Domain) {
    let ledger = Ledger::default();
    let settings = service.live.current();
    let hostname = settings.hostname.clone();
    let visit = Visit {
        service,
        domain,
        ledger: &ledger,
        settings,
        schedule: service.schedule(),
        caller: Caller { name: hostname.clone(), greets_as: vec![hostname] },
        candidates: RefCell::default(),
        waiting: RefCell::default(),
        began: service.clock.instant(),
        pass: RefCell::default(),
        progress: Cell::new(service.clock.instant()),
        connected: RefCell::default(),
    };
    let outcome = AssertUnwindSafe(visit.carry_out()).catch_unwind().await;
    let end = if outcome.is_ok() { End::Orderly } else { End::Panic };
    if end == End::Panic {
        service.metrics.panics.add_one();
        log::error!("the delivery to {domain} ended in a panic; a message that this happens to twice is set aside");
    }
    // In doubt about the time: a due that is certainly past.
    let now = if service.clock.certainty() == Certainty::Confirmed { service.clock.now() } else { service.clock.floor() };
    if let Err(error) = ledger.close(&service.store, end, now).await {
        log::error!("mail for {domain} that was not tried cannot be put back, it waits for the next start: {error}");
    }
}

impl<L: Lookup> Visit<'_, L> {
    async fn carry_out(&self) {
        self.pull_in().await;
        let claims = self.claim().await;
        let Some(first) = claims.first() else { return };
        let family = other_family(first);
        let Some(route) = self.service.unless_draining(self.find_hosts()).await else { return };
        let hosts = match route {
            Route::Hosts(hosts) => hosts,
            Route::Permanent(verdict) => return self.conclude(claims, Fate::Failed(why(verdict)), None).await,
            Route::Temporary(verdict) => {
                // Lookups that fail take their time, too.
                self.service.busy.found_dead(self.domain);
                return self.conclude(claims, Fate::Deferred(why(verdict)), None).await;
            }
            Route::Blind(verdict) => return self.conclude(claims, Fate::Blind(why(verdict)), None).await,
        };
        *self.candidates.borrow_mut() = Candidates::new(&hosts, self.settings.outbound.port, family);
        let mut first = Worker::new(self);
        match self.service.unless_draining(first.reach(0)).await {
            None => return,
            Some(Reached::Yes) => self.service.busy.found_alive(self.domain),
            // Nobody else is connected yet, so it is not crowded.
            Some(Reached::NoHost | Reached::Crowded) => {
                self.service.busy.found_dead(self.domain);
                return self.conclude_unreachable(claims).await;
            }
        }
        let enter = self.service.busy.gate.enter(|| self.service.live.current().outbound.destinations);
        let Some(pass) = self.service.unless_draining(enter).await else { return };
        self.pass.replace(Some(pass));
        self.progresses();
        self.waiting.borrow_mut().extend(claims);
        smol::future::or(self.work(first), self.give_way()).await;
        if self.candidates.borrow().next(0).is_none() {
            let left = self.waiting.take().into();
            self.conclude_unreachable(left).await;
        }
    }

    /// All workers until nothing is left, or nothing can be reached.
    async fn work<'v>(&'v self, first: Worker<'v, '_, L>) {
        let most = self.settings.outbound.connections_per_destination;
        let count = self.waiting.borrow().len().clamp(1, most.max(1));
        let others = (1..count).map(|_| Worker::new(self));
        let workers = std::iter::once(first).chain(others);
        let works = workers.map(|worker| Box::pin(worker.work()) as Pin<Box<dyn Future<Output = ()> + '_>>);
        together(works.collect()).await;
    }

    /// Gives the place behind the gate up once the host stalls and others wait; never ends.
    async fn give_way(&self) {
        let is_stalled = || self.service.clock.instant().duration_since(self.progress.get()) > STALLED;
        while !(is_stalled() && self.service.busy.gate.is_wanted()) {
            sleep(LOOK).await;
        }
        log::info!("{} stalls; other destinations go first", self.domain);
        self.service.busy.found_dead(self.domain);
        self.pass.take();
        std::future::pending().await
    }

    pub fn progresses(&self) {
        self.progress.set(self.service.clock.instant());
    }

    /// What a wrong clock put off for years, beside mail that waits rightly (R12).
    async fn pull_in(&self) {
        if self.service.clock.certainty() != Certainty::Confirmed {
            return;
        }
        let (latest, domain) = (latest_due(self.service), self.domain.clone());
        let moved = match self.service.store.read(|r| queue::has_beyond(r, self.domain, latest)) {
            Ok(true) => self.service.store.write(move |w| queue::pull_in_domain(w, &domain, latest)).await.map(|_| ()),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = moved {
            log::error!("mail for {} that a wrong clock put off cannot be pulled in: {error}", self.domain);
        }
    }

    async fn find_hosts(&self) -> Route {
        let ourselves = Ourselves { names: self.caller.greets_as.clone(), addresses: self.service.own_addresses.clone() };
        let private = self.settings.outbound.private_addresses;
        route::gather(self.domain, &self.service.resolver, &ourselves, private, &SystemRandom::new()).await
    }

    /// The next message for a worker.
    pub async fn next(&self) -> Option<Claimed> {
        if self.service.is_draining() {
            return None;
        }
        if self.service.clock.instant().duration_since(self.began) > LONGEST {
            return None;
        }
        let waiting = self.waiting.borrow_mut().pop_front();
        if waiting.is_some() {
            return waiting;
        }
        let claims = self.claim().await;
        let mut waiting = self.waiting.borrow_mut();
        waiting.extend(claims);
        waiting.pop_front()
    }

    /// A worker without a connection leaves its message to the others.
    pub fn give_back(&self, claim: Claimed) {
        self.waiting.borrow_mut().push_front(claim);
    }

    /// Takes on what is due, as much as fits a transaction. What is not to be sent at all is settled here.
    async fn claim(&self) -> Vec<Claimed> {
        loop {
            let claims = self.claim_any().await;
            let none_left = claims.is_empty();
            let mut wanted = Vec::with_capacity(claims.len());
            for claim in claims {
                let kept = self.refuse_some(claim).await;
                if !kept.recipients.is_empty() {
                    wanted.push(kept);
                }
            }
            if none_left || !wanted.is_empty() {
                return wanted;
            }
        }
    }

    async fn claim_any(&self) -> Vec<Claimed> {
        if self.service.is_draining() || self.service.clock.certainty() != Certainty::Confirmed {
            return Vec::new();
        }
        let (domain, now, schedule) = (self.domain.clone(), self.service.clock.now(), self.schedule);
        let past = self.service.busy.past.borrow().clone();
        let next = move |message: &queue::Queued, recipient: &QueuedRecipient| schedule.next(past.life(message, recipient.attempts), now);
        match self.service.store.write(move |w| queue::claim(w, &domain, now, MAX_RECIPIENTS, next)).await {
            Ok(claims) => {
                self.ledger.claimed(&claims);
                claims
            }
            Err(error) => {
                log::error!("mail for {} cannot be taken from the queue: {error}", self.domain);
                let _ = self.service.unless_draining(sleep(AFTER_ERROR)).await;
                Vec::new()
            }
        }
    }

    /// Settles those whom an administrator failed, and those whose wish cannot be fulfilled; gives back the others.
    async fn refuse_some(&self, claim: Claimed) -> Claimed {
        let Claimed { id, message, recipients } = claim;
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        let damage = self.damage(&message);
        for (n, recipient) in recipients {
            match (refusal(&recipient), &damage) {
                (Some(why), _) => refused.push((n, recipient, Fate::Failed(why))),
                (None, Some(damage)) => refused.push((n, recipient, Fate::Illegible(damage.clone()))),
                (None, None) => kept.push((n, recipient)),
            }
        }
        self.settle(Attempted { id, message: &message, place: None, schedule: self.schedule, recipients: refused }).await;
        Claimed { id, message, recipients: kept }
    }

    /// Why the octets of a message cannot be sent, as far as a look at one row tells.
    fn damage(&self, message: &queue::Queued) -> Option<String> {
        match self.service.store.read(|r| blobs::length(r, message.blob)) {
            Ok(Some(length)) if length == message.size => None,
            Ok(Some(length)) => Some(format!("{length} octets of it are stored, {} were taken", message.size)),
            Ok(None) => Some("its octets are not in the store any more".to_owned()),
            Err(Error::Damaged(why)) => Some(why),
            // Another reason may pass; the attempt will tell.
            Err(_) => None,
        }
    }

    /// Why the octets of a message cannot be sent, after they could not be: all of them are looked at.
    async fn damaged_octets(&self, message: &queue::Queued) -> Option<String> {
        let mut length = 0;
        for number in 0.. {
            match self.service.store.read(|r| blobs::chunk(r, message.blob, number)) {
                Ok(Some(chunk)) => length += chunk.len() as u64,
                Ok(None) => break,
                Err(Error::Damaged(why)) => return Some(why),
                Err(_) => return None,
            }
            breathe().await;
        }
        // Somebody may have removed the message meanwhile, then there is nothing to set aside.
        (length != message.size).then(|| format!("{length} of its {} octets are there", message.size))
    }

    /// Settles, and takes them out of the ledger.
    pub async fn settle(&self, mut attempted: Attempted<'_>) {
        let ours = |fate: &Fate| matches!(fate, Fate::Deferred(why) if why.reply.is_none() && why.status == UNREAD);
        if attempted.recipients.iter().any(|(.., fate)| ours(fate))
            && let Some(damage) = self.damaged_octets(attempted.message).await
        {
            attempted.recipients.iter_mut().filter(|(.., fate)| ours(fate)).for_each(|(.., fate)| *fate = Fate::Illegible(damage.clone()));
        }
        settle::settle(self.service, &attempted).await;
        self.progresses();
        attempted.recipients.iter().for_each(|(n, ..)| self.ledger.settled(attempted.id, *n));
    }

    async fn conclude_unreachable(&self, claims: Vec<Claimed>) {
        let (fate, place) = self.unreachable();
        self.conclude(claims, fate, place.as_ref()).await;
    }

    /// What it means that no candidate is left, and who said so.
    pub fn unreachable(&self) -> (Fate, Option<Place>) {
        let candidates = self.candidates.borrow();
        let place = candidates.spokesman().map(|target| Place {
            host: target.host.to_string(),
            address: target.address.ip().to_string(),
            ..Place::default()
        });
        let why = candidates.why();
        (if why.status.class == 5 { Fate::Failed(why) } else { Fate::Deferred(why) }, place)
    }

    /// The same end for all that is due here.
    async fn conclude(&self, mut claims: Vec<Claimed>, fate: Fate, place: Option<&Place>) {
        let mut rounds = 0;
        while !claims.is_empty() {
            let is_news = matches!(fate, Fate::Deferred(_)) && claims.iter().any(|claim| self.is_news(claim));
            let settled = claims.iter().map(|claim| {
                let recipients = claim.recipients.iter().map(|(n, recipient)| (*n, recipient.clone(), fate.clone())).collect();
                let attempted = Attempted { id: claim.id, message: &claim.message, place, schedule: self.schedule, recipients };
                Box::pin(self.settle(attempted)) as Pin<Box<dyn Future<Output = ()> + '_>>
            });
            together(settled.collect()).await;
            rounds += 1;
            match &fate {
                // Where senders hear of a delay or the end, what is behind may be as old: it must not wait for another visit.
                Fate::Deferred(why) | Fate::Blind(why) if rounds >= SHARED_ROUNDS && !is_news => {
                    // As late as the latest of these, so that the waits grow for a large queue, too.
                    let dues = claims.iter().flat_map(|claim| &claim.recipients).map(|(_, recipient)| recipient.due);
                    let blind = if matches!(fate, Fate::Blind(_)) { Counts::No } else { Counts::Yes };
                    return self.put_off(why, place, dues.max(), blind).await;
                }
                Fate::Deferred(_) | Fate::Blind(_) | Fate::Failed(_) | Fate::Delivered(_) | Fate::Illegible(_) => {}
            }
            claims = self.claim().await;
        }
    }

    /// Whether one more failure is told to the sender of a message, or ends it.
    fn is_news(&self, claim: &Claimed) -> bool {
        let (now, past) = (self.service.clock.now(), self.service.busy.past.borrow());
        let can_hear = claim.message.reverse_path != ReversePath::Null;
        claim.recipients.iter().any(|(_, recipient)| match self.schedule.patience(past.life(&claim.message, recipient.attempts), now) {
            Patience::Fresh => false,
            Patience::Late => can_hear && !recipient.delay_told && recipient.notify.wants_delay(),
            Patience::Over => true,
        })
    }

    async fn put_off(&self, why: &Why, place: Option<&Place>, due: Option<UnixTime>, wait: Counts) {
        let now = self.service.clock.now();
        let due = due.filter(|_| wait == Counts::Yes).unwrap_or(now.plus(self.schedule.blind_wait()));
        let blind = match wait {
            Counts::Yes => 0,
            Counts::No => u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0),
        };
        let place = place.cloned().unwrap_or_default();
        let reply = why.reply.as_ref().map_or_else(|| why.text.clone(), ToString::to_string);
        let last = LastAttempt {
            at: now,
            host: place.host,
            address: place.address,
            reply,
            status: why.status,
            tls: None,
            remote: why.reply.is_some(),
        };
        let put_off = PutOff { now, due, last, blind };
        loop {
            let (domain, put_off) = (self.domain.clone(), put_off.clone());
            match self.service.store.write(move |w| queue::put_off(w, &domain, put_off)).await {
                Ok(More::Yes) => breathe().await,
                Ok(More::No) => return,
                Err(error) => return log::error!("mail for {} cannot be put off: {error}", self.domain),
            }
        }
    }
}

/// Whether the time until the next attempt counts into the age of the mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

fn refusal(recipient: &QueuedRecipient) -> Option<Why> {
    let text = match (&recipient.state, recipient.wish) {
        (RecipientState::Failing(why), _) => {
            let text = format!("the postmaster of this server gave up: {why}");
            return Some(Why { status: GIVEN_UP, reply: None, text });
        }
        (RecipientState::Waiting | RecipientState::Held(_), RequireTls::Required) => {
            "you asked for REQUIRETLS, and this version cannot yet verify the way to another server".to_owned()
        }
        (RecipientState::Waiting | RecipientState::Held(_), RequireTls::Default | RequireTls::Waived) => return None,
    };
    Some(Why { status: NO_VERIFIED_WAY, reply: None, text })
}

fn why(verdict: Verdict) -> Why {
    Why { status: verdict.status, reply: None, text: verdict.text }
}

/// A policy refusal at the first attempt may be about our address of that family: the other one is tried next.
fn other_family(claim: &Claimed) -> Option<Family> {
    let (_, recipient) = claim.recipients.first()?;
    let last = recipient.last.as_ref().filter(|last| recipient.attempts == 2 && last.remote)?;
    let refused = last.status.class == 5 && last.status.subject == 7;
    let address = last.address.parse().ok()?;
    refused.then(|| Family::of(address).other())
}
