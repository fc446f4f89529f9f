//! What follows DATA: raw bytes are unstuffed, the header examined, the body spooled, the whole filed.
//!
//! Comes in: a session with at least one destination, just after `354`. Goes out: the verdict for the machine, once the
//! *true* end (CRLF.CRLF) was read – whatever is wrong with the message, its bytes never become commands. `Stored`
//! only after the commit is on disk (promise R1). `Err(Gone)`: the peer went away; nothing is stored.
//! Memory: what is held is reserved in the shared budget first (promise R8); without room the session waits, writes
//! what it holds to the disk, and at last says 452 and skips the rest.

use std::time::Duration;
use std::time::Instant;

use log::info;
use log::warn;
use ring::rand::SystemRandom;

use crate::inbound::file;
use crate::inbound::serve::Conversation;
use crate::inbound::serve::Gone;
use crate::intake::outgoing;
use crate::intake::outgoing::Facts;
use crate::intake::outgoing::Refusal;
use crate::intake::senders::Ownership;
use crate::mail::address::Address;
use crate::mail::digest::Digest;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope;
use crate::mail::envelope::RequireTls;
use crate::mail::header;
use crate::mail::header::Gathered;
use crate::mail::header::Gatherer;
use crate::mail::header::HeaderEnd;
use crate::mail::header::HeaderFault;
use crate::metrics::MessageOutcome;
use crate::net::breathe::breathe;
use crate::net::budget::Reserved;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::proto::smtp::dot::Faults;
use crate::proto::smtp::dot::Unstuffer;
use crate::proto::smtp::reply::Reply;
use crate::proto::smtp::server::DataVerdict;
use crate::proto::smtp::server::Role;
use crate::proto::smtp::timeouts;
use crate::store::Error;
use crate::store::Spool;

/// What a message may keep in memory before it is written ahead: a chunk group of the spool (`store::spool`).
const SPOOL_MEMORY: usize = 256 * 1024;
/// The budget is taken in steps of this size; most messages need one.
const STEP: usize = 16 * 1024;
/// When memory is short, a message that holds at least this much goes to the disk instead of waiting.
const WORTH_WRITING: usize = 16 * 1024;
/// How long a session waits for memory that other sessions hold, before 452: longer than those that stall may keep it
/// (`IDLE_WHEN_BUSY`), so that an honest message outlasts them.
const MEMORY_PATIENCE: Duration = Duration::from_secs(30);
/// A refused message is read to its end, but one that goes on for this many times the limit has no end.
const SKIP_FACTOR: u64 = 3;
/// While slots are scarce, a message must come at this speed on average: a slow one gives its slot to another.
const SLOWEST: u64 = 1024;
/// … judged after this time.
const SLOW_JUDGED_AFTER: Duration = Duration::from_secs(60);
/// Body bytes are hashed and copied this much at a time before other sessions get a turn.
const TURN: usize = 64 * 1024;
/// Authors that a refusal names.
const NAMED: usize = 5;

/// A message whose header is complete and examined.
pub(super) struct Body {
    pub spool: Spool,
    pub digest: Digest,
    /// the header's, or the parameter's
    pub wish: RequireTls,
    /// lines that the header lacks
    pub additions: Vec<u8>,
    /// what it has, whatever MAIL declared: programs forget BODY, and other hosts must not be misled
    pub octets: envelope::Body,
}

/// What is kept of a header, and what it tells.
struct Header {
    kept: Vec<u8>,
    additions: Vec<u8>,
    digest: Digest,
    wish: RequireTls,
}

/// How far a message has come.
enum Stage {
    Header(Box<Gatherer>),
    Body(Box<Body>),
    /// refused already; read on to the true end
    Skipping(DataVerdict),
}

struct Incoming<'c> {
    conversation: &'c Conversation,
    stage: Stage,
    /// octets of the message so far, unstuffed
    size: u64,
    /// of the shared budget; `None`: nothing is held
    reserved: Option<Reserved>,
    since_turn: usize,
    /// octets of a header that are on their way from memory into the spool
    carried: usize,
    began: Instant,
    /// when the speed was judged last, and the size then
    window: (Instant, u64),
}

/// Reads one message to its true end and answers what became of it.
pub async fn receive(conversation: &mut Conversation, lines: &mut LineStream) -> Result<DataVerdict, Gone> {
    let began = conversation.service.clock.instant();
    let metrics = std::rc::Rc::clone(&conversation.service.metrics);
    let (stage, reserved) = match conversation.service.budget.take(STEP, MEMORY_PATIENCE).await {
        Ok(reserved) => (Stage::Header(Box::new(Gatherer::new())), Some(reserved)),
        Err(_) => (Stage::Skipping(DataVerdict::Overloaded), None),
    };
    let mut reception = Incoming { conversation, stage, size: 0, reserved, since_turn: 0, carried: 0, began, window: (began, 0) };
    let read = reception.read(lines).await;
    let Ok(faults) = read else {
        metrics.messages.add_one(MessageOutcome::Abandoned);
        return Err(Gone);
    };
    let verdict = reception.finish(faults).await;
    metrics.messages.add_one(outcome(&verdict));
    Ok(verdict)
}

fn outcome(verdict: &DataVerdict) -> MessageOutcome {
    match verdict {
        DataVerdict::Stored { .. } => MessageOutcome::Stored,
        DataVerdict::TooBig => MessageOutcome::TooBig,
        DataVerdict::Broken(_) => MessageOutcome::Broken,
        DataVerdict::BadHeader(HeaderFault::Loop) => MessageOutcome::Loop,
        DataVerdict::BadHeader(_) | DataVerdict::Refused(_) => MessageOutcome::Header,
        DataVerdict::NoSpace => MessageOutcome::NoSpace,
        DataVerdict::Overloaded => MessageOutcome::Overloaded,
        DataVerdict::Failed => MessageOutcome::Failed,
    }
}

fn refused(refusal: Refusal) -> DataVerdict {
    match refusal {
        Refusal::Header(fault) => DataVerdict::BadHeader(fault),
        Refusal::Addresses(..) | Refusal::NoAuthor => {
            DataVerdict::Refused(Reply::new(550, EnhancedStatus::new(5, 6, 0), &refusal.to_string()))
        }
        Refusal::NoRandomness => DataVerdict::Failed,
    }
}

fn foreign(authors: &[Address]) -> DataVerdict {
    let names: Vec<String> = authors.iter().take(NAMED).map(Address::to_string).collect();
    let text = format!("From and Sender must be addresses of the account that logged in; the message has {}", names.join(", "));
    DataVerdict::Refused(Reply::new(550, EnhancedStatus::new(5, 7, 1), &text))
}

impl Incoming<'_> {
    /// Reads to CRLF.CRLF.
    async fn read(&mut self, lines: &mut LineStream) -> Result<Faults, Gone> {
        let mut unstuffer = Unstuffer::new();
        loop {
            self.await_bytes(lines).await?;
            let raw = lines.fill_buf().await?;
            let mut piece = Vec::with_capacity(raw.len());
            let progress = unstuffer.push(raw, &mut |bytes: &[u8]| piece.extend_from_slice(bytes));
            lines.consume(progress.consumed);
            self.take(&piece).await;
            if progress.done {
                return Ok(unstuffer.faults());
            }
            self.endure()?;
        }
    }

    /// Waits until bytes are there, in pieces: patience shrinks when slots or memory get scarce meanwhile.
    async fn await_bytes(&self, lines: &mut LineStream) -> Result<(), Gone> {
        let clock = &self.conversation.service.clock;
        let since = clock.instant();
        loop {
            let piece = timeouts::server::IDLE_WHEN_BUSY.min(self.conversation.patience());
            match within(piece, lines.fill_buf()).await {
                Ok(raw) => return if raw?.is_empty() { Err(Gone) } else { Ok(()) },
                Err(_) if clock.instant().duration_since(since) < self.conversation.patience() => {}
                Err(_) => {
                    self.conversation.service.metrics.timeouts.add_one();
                    return Err(Gone);
                }
            }
        }
    }

    /// Gives up on a message without end, and on a slow one while others wait for what it holds.
    fn endure(&mut self) -> Result<(), Gone> {
        let max = self.conversation.service.live.current().limits.message_size;
        if self.size > max.saturating_mul(SKIP_FACTOR) {
            info!("{} sends a message without end; connection closed", self.conversation.peer);
            return Err(Gone);
        }
        let now = self.conversation.service.clock.instant();
        let (then, size) = self.window;
        let spent = now.duration_since(then);
        let slow = spent > SLOW_JUDGED_AFTER && (self.size - size) / spent.as_secs().max(1) < SLOWEST;
        if spent > SLOW_JUDGED_AFTER {
            self.window = (now, self.size);
        }
        if (slow && self.conversation.is_wanted()) || now.duration_since(self.began) > timeouts::server::MESSAGE {
            self.conversation.service.metrics.timeouts.add_one();
            info!("{} sends too slowly; connection closed", self.conversation.peer);
            return Err(Gone);
        }
        Ok(())
    }

    /// Adds unstuffed bytes to the message.
    async fn take(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.conversation.service.live.current().limits.message_size && !matches!(self.stage, Stage::Skipping(_)) {
            self.skip(DataVerdict::TooBig);
        }
        match &mut self.stage {
            Stage::Skipping(_) => {}
            Stage::Header(gatherer) => match gatherer.push(bytes) {
                Ok(Gathered::More) => {
                    let held = gatherer.held();
                    self.reserve_now(held);
                }
                Ok(Gathered::Complete) => self.begin_body().await,
                Err(fault) => self.skip(DataVerdict::BadHeader(fault)),
            },
            Stage::Body(_) => self.spool(bytes).await,
        }
        self.since_turn += bytes.len();
        if self.since_turn >= TURN {
            self.since_turn = 0;
            breathe().await;
        }
    }

    /// From here on the message is only read to its end; what it held is freed at once.
    fn skip(&mut self, verdict: DataVerdict) {
        self.stage = Stage::Skipping(verdict);
        self.reserved = None;
    }

    /// The header is complete: examine it and open the spool.
    async fn begin_body(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Skipping(DataVerdict::Failed));
        let Stage::Header(gatherer) = stage else { return };
        let block = gatherer.finish();
        let judged = match self.conversation.door.port.role() {
            Role::Exchange => self.received(block.header),
            Role::Submission => self.handed_in(&block.header),
        };
        let Header { mut kept, additions, digest, wish } = match judged {
            Ok(header) => header,
            Err(verdict) => return self.skip(verdict),
        };
        let spool = Spool::new(&self.conversation.service.store, SPOOL_MEMORY);
        self.stage = Stage::Body(Box::new(Body { spool, digest, wish, additions, octets: envelope::Body::SevenBit }));
        kept.shrink_to_fit();
        self.carried = kept.len();
        for slice in kept.chunks(STEP) {
            self.spool(slice).await;
            breathe().await;
        }
        drop(kept);
        self.carried = 0;
        if block.end == HeaderEnd::NotAField {
            self.spool(b"\r\n").await;
        }
        self.spool(&block.rest).await;
    }

    /// The header of a message from another server.
    fn received(&self, block: Vec<u8>) -> Result<Header, DataVerdict> {
        let settings = self.conversation.service.live.current();
        let examined = header::examine(&block, &settings.hostname).map_err(DataVerdict::BadHeader)?;
        let parameter = self.conversation.session.envelope().map(|envelope| envelope.require_tls).unwrap_or_default();
        let wish = examined.wish_with(parameter);
        let kept = if examined.forged.is_empty() { block } else { header::without(&block, &examined.forged) };
        Ok(Header { kept, additions: Vec::new(), digest: examined.digest, wish })
    }

    /// The header of a message of our own people: it may speak in their names only (promise R15).
    fn handed_in(&self, block: &[u8]) -> Result<Header, DataVerdict> {
        let conversation = self.conversation;
        let (service, settings) = (&conversation.service, conversation.service.live.current());
        let authors = outgoing::authors(block).map_err(refused)?;
        match conversation.owns(&authors) {
            Ok(Ownership::Own) => {}
            Ok(Ownership::Foreign) => return Err(foreign(&authors)),
            Err(error) => {
                warn!("the authors of a message could not be looked up: {error}");
                return Err(DataVerdict::Failed);
            }
        }
        let sender = conversation.session.envelope().and_then(|envelope| envelope.reverse_path.address());
        let domain = sender.or(authors.first()).map_or(&settings.hostname, |address| &address.domain);
        let facts = Facts { now: service.clock.now(), domain, authserv_id: &settings.hostname, random: &SystemRandom::new() };
        let prepared = outgoing::prepare(block, &facts).map_err(refused)?;
        Ok(Header { kept: prepared.header, additions: prepared.additions, digest: prepared.digest, wish: prepared.wish })
    }

    async fn spool(&mut self, bytes: &[u8]) {
        let Stage::Body(body) = &mut self.stage else { return };
        if !bytes.is_ascii() {
            body.octets = envelope::Body::EightBit;
        }
        let mut stored = body.spool.push(bytes).await;
        let reserved = self.reserved.as_ref().map_or(0, Reserved::bytes);
        let missing = (body.spool.held() + self.carried).saturating_sub(reserved);
        if stored.is_ok() && body.spool.held() >= WORTH_WRITING && self.conversation.service.budget.is_scarce(missing) {
            self.conversation.service.metrics.memory_waits.add_one();
            stored = body.spool.relieve().await;
        }
        // The header that is carried has its reservation; only what is new may have to wait for memory.
        let held = body.spool.held();
        match stored {
            Ok(()) => self.reserve_total(held).await,
            Err(error) => {
                warn!("a message from {} could not be spooled: {error}", self.conversation.peer);
                self.skip(if matches!(error, Error::DiskFull) { DataVerdict::NoSpace } else { DataVerdict::Failed });
            }
        }
    }

    /// For a header, which is in memory until its end: what is not there at once is not waited for, since all who
    /// wait hold what the others wait for.
    fn reserve_now(&mut self, held: usize) {
        while self.reserved.as_ref().map_or(0, Reserved::bytes) < held {
            match (self.conversation.service.budget.try_take(STEP), &mut self.reserved) {
                (Some(step), Some(reserved)) => reserved.absorb(step),
                (Some(step), empty) => *empty = Some(step),
                (None, _) => return self.skip(DataVerdict::Overloaded),
            }
        }
    }

    /// Keeps the reservation at least as large as what is held; waiting sessions are counted.
    async fn reserve_total(&mut self, held: usize) {
        let budget = &self.conversation.service.budget;
        while self.reserved.as_ref().map_or(0, Reserved::bytes) < held {
            let step = match budget.try_take(STEP) {
                Some(step) => Ok(step),
                None => {
                    self.conversation.service.metrics.memory_waits.add_one();
                    budget.take(STEP, MEMORY_PATIENCE).await
                }
            };
            match (step, &mut self.reserved) {
                (Ok(step), Some(reserved)) => reserved.absorb(step),
                (Ok(step), empty) => *empty = Some(step),
                (Err(_), _) => return self.skip(DataVerdict::Overloaded),
            }
        }
        if let Some(reserved) = &mut self.reserved
            && held + self.carried + 2 * STEP < reserved.bytes()
        {
            reserved.shrink_to(held + self.carried + STEP);
        }
    }

    /// The true end was read: judge, file, and say what happened.
    async fn finish(mut self, faults: Faults) -> DataVerdict {
        if matches!(self.stage, Stage::Header(_)) {
            self.begin_body().await;
        }
        // Bytes that other servers would read as an end or a new line are never passed on, whatever else is wrong.
        if faults.any() {
            info!("{} sent a message with {faults}; refused", self.conversation.peer);
            return DataVerdict::Broken(faults);
        }
        match self.stage {
            Stage::Body(body) => file::file(self.conversation, *body).await,
            Stage::Skipping(verdict) => {
                info!("message from {} refused: {:?}", self.conversation.peer, outcome(&verdict));
                verdict
            }
            Stage::Header(_) => DataVerdict::Failed,
        }
    }
}
