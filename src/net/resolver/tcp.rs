//! The kept connection of an upstream: many queries at once, answered in any order (RFC 7766 section 6.2), by TCP or TLS.
//!
//! One of those who wait for an answer drives the connection for all: writes, reads, and hands answers out by ID; when he
//! leaves, another takes over. So no task is needed, and nothing is lost when a lookup is dropped. A connection that the server has closed is opened
//! again as long as each brings an answer; a server that takes one query a connection is given one at a time. Closed after
//! 10 s without use, by the next query or by `close_if_idle`.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use smol::channel::Sender;
use smol::io::AsyncRead;
use smol::io::AsyncWrite;
use smol::lock::Semaphore;

use crate::net::connect::connect;
use crate::net::deadline::Deadline;
use crate::net::resolver::dot;
use crate::net::resolver::dot::Trust;
use crate::net::resolver::exchange::Echo;
use crate::net::resolver::exchange::ExchangeFault;
use crate::net::resolver::exchange::Reply;
use crate::net::stream::Stream;
use crate::proto::dns::question::Query;
use crate::proto::dns::question::Relation;
use crate::proto::dns::reader::Message;
use crate::proto::dns::upstream::UpstreamAddress;

/// Without use; RFC 7766 section 6.2.3 says "of the order of a few seconds".
pub const IDLE: Duration = Duration::from_secs(10);
/// Queries waiting on one connection: as many exchanges as there are at a time, so that none waits for another's answer.
const MAX_IN_FLIGHT: usize = 64;
/// Answers nobody waits for any more, still to come: a server that owes more is asked on another connection.
const MAX_OWED: usize = 64;
/// For connecting and the handshake together: less than the patience for an answer, so that it is said what failed.
const OPEN_PATIENCE: Duration = Duration::from_millis(2500);
/// A connection that was silent for this long while somebody waited may be dead without anybody saying so.
const STALE: Duration = Duration::from_secs(2);
/// Connections for one query: one that was kept may be dead, and one may close in the middle.
const MAX_TRIES: usize = 8;
/// Of these without an answer on them to anybody.
const MAX_FRUITLESS: usize = 2;
const READ: usize = 4096;
/// Reads in a row before others run: who sends without end shall not hold the loop.
const MAX_READS: usize = 16;

/// The way to one upstream for all lookups.
pub struct Line {
    upstream: UpstreamAddress,
    wire: RefCell<Option<Rc<Wire>>>,
    slots: Semaphore,
    /// for a server that closes behind each answer
    turn: Semaphore,
    pipelines: Cell<bool>,
    used: Cell<Instant>,
    /// told when a connection is opened, so that somebody closes it again
    opened: Sender<()>,
}

/// Why a connection has ended.
#[derive(Clone, Debug)]
enum End {
    /// The server closed it, or the network did.
    Closed(String),
    Network(io::ErrorKind, String),
    Tls(String),
}

type Opening = Pin<Box<dyn Future<Output = Result<Stream, End>>>>;

enum Channel {
    Opening(Opening),
    Open(Box<Stream>),
    Ended(End),
}

/// A query that was sent.
enum Waiting {
    For(Waker),
    Answered(Vec<u8>),
    /// Nobody waits any more; the ID is not free before the answer has come.
    Nobody,
}

/// One connection.
struct Wire(RefCell<Inside>);

struct Inside {
    channel: Channel,
    /// frames, the first perhaps begun
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    waiting: HashMap<u16, Waiting>,
    answers: usize,
    /// who polls the channel: it tells one waker alone
    driver: Option<u16>,
}

/// A place on a connection; gives it up when the lookup is dropped.
struct Place {
    line: Rc<Line>,
    wire: Rc<Wire>,
    id: u16,
    answers_before: usize,
    since: Instant,
}

impl Line {
    pub fn new(upstream: UpstreamAddress, opened: Sender<()>) -> Rc<Line> {
        Rc::new(Line {
            upstream,
            wire: RefCell::default(),
            slots: Semaphore::new(MAX_IN_FLIGHT),
            turn: Semaphore::new(1),
            pipelines: Cell::new(true),
            used: Cell::new(Instant::now()),
            opened,
        })
    }

    /// Asks, and waits for the answer however long it takes. The query gets an ID that is free on the connection. Folded letters are
    /// fine here: nobody guesses his way into a connection.
    pub async fn ask(self: &Rc<Line>, query: &mut Query, trust: &Trust) -> Result<Reply, ExchangeFault> {
        let _slot = self.slots.acquire().await;
        let mut fruitless = 0;
        let mut ended = None;
        for _ in 0..MAX_TRIES {
            let _turn = if self.pipelines.get() { None } else { Some(self.turn.acquire().await) };
            let place = self.enter(query, trust);
            match poll_fn(|context| place.wire.poll_answer(place.id, context)).await {
                Ok(octets) => {
                    if !self.pipelines.get() {
                        self.leave(&place.wire);
                    }
                    return judge(query, octets);
                }
                Err(End::Network(kind, why)) => return Err(ExchangeFault::Network(io::Error::new(kind, why))),
                Err(End::Tls(why)) => return Err(ExchangeFault::Tls(why)),
                Err(End::Closed(why)) => {
                    self.leave(&place.wire);
                    match place.wire.answers() {
                        0 => fruitless += 1,
                        // It answered somebody else while ours was waiting, and closed.
                        1 if place.answers_before == 0 => self.pipelines.set(false),
                        _ => {}
                    }
                    ended = Some(why);
                    if fruitless == MAX_FRUITLESS {
                        break;
                    }
                }
            }
        }
        let why = ended.unwrap_or_default();
        Err(ExchangeFault::Network(io::Error::new(io::ErrorKind::ConnectionAborted, why)))
    }

    /// Closes what nobody has used for a while; whether a connection is left.
    pub fn close_if_idle(&self) -> Left {
        let mut wire = self.wire.borrow_mut();
        if wire.as_ref().is_some_and(|wire| Rc::strong_count(wire) == 1) && self.used.get().elapsed() >= IDLE {
            *wire = None;
        }
        if wire.is_some() { Left::Open } else { Left::Closed }
    }

    /// Puts the query on the connection that there is, or on a new one.
    fn enter(self: &Rc<Line>, query: &mut Query, trust: &Trust) -> Place {
        self.close_if_idle();
        self.used.set(Instant::now());
        let mut kept = self.wire.borrow_mut();
        let wire = match kept.as_ref().filter(|wire| wire.is_good()) {
            Some(wire) => Rc::clone(wire),
            None => {
                let wire = Rc::new(Wire::opening(&self.upstream, trust));
                *kept = Some(Rc::clone(&wire));
                // Full: it is told already.
                let _ = self.opened.try_send(());
                wire
            }
        };
        drop(kept);
        let (id, answers_before) = wire.send(query);
        Place { line: Rc::clone(self), wire, id, answers_before, since: Instant::now() }
    }

    /// No new queries on this connection; those on it go on.
    fn leave(&self, wire: &Rc<Wire>) {
        let mut kept = self.wire.borrow_mut();
        if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, wire)) {
            *kept = None;
        }
    }
}

/// Whether `Line::close_if_idle` has left a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Open,
    Closed,
}

fn judge(query: &Query, mut octets: Vec<u8>) -> Result<Reply, ExchangeFault> {
    let unreadable = |why: String| ExchangeFault::Unreadable(why);
    let message = Message::read(&octets).map_err(|fault| unreadable(format!("its answer cannot be read: {fault}")))?;
    let letters = match query.judge(&message) {
        Relation::Answer => Echo::AsSent,
        Relation::OtherCase => Echo::Folded,
        Relation::Foreign => return Err(unreadable("it answers another question by TCP".to_owned())),
    };
    if let Some(fault) = message.fault() {
        return Err(unreadable(format!("its answer cannot be read: {fault}")));
    }
    if message.is_truncated() {
        return Err(unreadable("its answer is truncated by TCP too".to_owned()));
    }
    drop(message);
    query.restore_letters(&mut octets);
    Ok(Reply { octets, letters })
}

async fn open(upstream: UpstreamAddress, trust: Trust) -> Result<Stream, End> {
    let deadline = Deadline::after(OPEN_PATIENCE);
    let opened = connect(upstream.socket(), OPEN_PATIENCE).await;
    let stream = opened.map_err(|error| End::Network(error.kind(), error.to_string()))?;
    match upstream {
        UpstreamAddress::Plain(_) => Ok(stream),
        UpstreamAddress::Tls { name, .. } => dot::secure(stream, &name, &trust, deadline.left()).await.map_err(End::Tls),
    }
}

impl Wire {
    fn opening(upstream: &UpstreamAddress, trust: &Trust) -> Wire {
        let channel = Channel::Opening(Box::pin(open(upstream.clone(), trust.clone())));
        let inside = Inside { channel, outgoing: Vec::new(), incoming: Vec::new(), waiting: HashMap::new(), answers: 0, driver: None };
        Wire(RefCell::new(inside))
    }

    /// Whether another query may be put on it. What the server has closed meanwhile shows when it is polled.
    fn is_good(&self) -> bool {
        let inside = self.0.borrow();
        let owed = inside.waiting.values().filter(|waiting| matches!(waiting, Waiting::Nobody)).count();
        !matches!(inside.channel, Channel::Ended(_)) && owed < MAX_OWED
    }

    fn answers(&self) -> usize {
        self.0.borrow().answers
    }

    /// Under an ID that no other query on the connection has. Gives it, and how many answers have come before.
    fn send(&self, query: &mut Query) -> (u16, usize) {
        let mut inside = self.0.borrow_mut();
        while inside.waiting.contains_key(&query.id()) {
            query.set_id(query.id().wrapping_add(1));
        }
        // In one segment with its length (RFC 7766 section 8).
        let length = u16::try_from(query.octets().len()).expect("a query has a name of 255 octets at most");
        inside.outgoing.extend(length.to_be_bytes());
        inside.outgoing.extend_from_slice(query.octets());
        inside.waiting.insert(query.id(), Waiting::For(Waker::noop().clone()));
        // It has something to write.
        inside.wake_driver();
        (query.id(), inside.answers)
    }

    fn poll_answer(&self, id: u16, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, End>> {
        let mut inside = self.0.borrow_mut();
        let inside = &mut *inside;
        if let Some(Waiting::For(waker)) = inside.waiting.get_mut(&id) {
            waker.clone_from(context.waker());
            if *inside.driver.get_or_insert(id) == id
                && let Err(end) = inside.pump(context)
            {
                inside.channel = Channel::Ended(end);
                inside.wake_all();
            }
        }
        if matches!(inside.waiting.get(&id), Some(Waiting::Answered(_)))
            && let Some(Waiting::Answered(octets)) = inside.waiting.remove(&id)
        {
            return Poll::Ready(Ok(octets));
        }
        match &inside.channel {
            Channel::Ended(end) => Poll::Ready(Err(end.clone())),
            Channel::Opening(_) | Channel::Open(_) => Poll::Pending,
        }
    }
}

impl Inside {
    /// Opens, writes and reads as far as that goes without waiting.
    fn pump(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        if let Channel::Opening(opening) = &mut self.channel {
            match opening.as_mut().poll(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(opened) => self.channel = Channel::Open(Box::new(opened?)),
            }
        }
        let Channel::Open(stream) = &mut self.channel else { return Ok(()) };
        let closed = |error: io::Error| End::Closed(format!("the connection broke: {error}"));
        // What the server has still said counts, though it takes nothing more.
        let written = write(Pin::new(stream), &mut self.outgoing, context);
        let mut buffer = [0; READ];
        for reads in 1.. {
            let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(context, &mut buffer) else { break };
            match read {
                Ok(0) => return Err(End::Closed("the server closed the connection".to_owned())),
                Ok(length) => self.incoming.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(closed(error)),
            }
            while let Some(message) = next_message(&mut self.incoming) {
                hand_out(&mut self.waiting, message);
                self.answers += 1;
            }
            if reads == MAX_READS {
                context.waker().wake_by_ref();
                break;
            }
        }
        match written {
            Poll::Ready(Err(error)) => Err(closed(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The driver, or else whoever is to be the next.
    fn wake_driver(&self) {
        let driver = self.driver.and_then(|id| self.waiting.get(&id));
        let next = driver.or_else(|| self.waiting.values().find(|waiting| matches!(waiting, Waiting::For(_))));
        if let Some(Waiting::For(waker)) = next {
            waker.wake_by_ref();
        }
    }

    fn wake_all(&self) {
        for waiting in self.waiting.values() {
            if let Waiting::For(waker) = waiting {
                waker.wake_by_ref();
            }
        }
    }
}

fn write(mut stream: Pin<&mut Box<Stream>>, outgoing: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !outgoing.is_empty() {
        match ready!(stream.as_mut().poll_write(context, outgoing))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => drop(outgoing.drain(..written)),
        }
    }
    stream.poll_flush(context)
}

/// The first whole message, taken off.
fn next_message(incoming: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*incoming.first_chunk()?));
    let message = incoming.get(2..2 + length)?.to_vec();
    incoming.drain(..2 + length);
    Some(message)
}

/// To who waits for its ID; what nobody asked for is dropped.
fn hand_out(waiting: &mut HashMap<u16, Waiting>, message: Vec<u8>) {
    let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
    match waiting.get_mut(&id) {
        Some(Waiting::For(waker)) => {
            waker.wake_by_ref();
            waiting.insert(id, Waiting::Answered(message));
        }
        Some(Waiting::Nobody) => drop(waiting.remove(&id)),
        Some(Waiting::Answered(_)) | None => {}
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.used.set(Instant::now());
        let mut inside = self.wire.0.borrow_mut();
        let unanswered = matches!(inside.waiting.remove(&self.id), Some(Waiting::For(_)));
        if unanswered {
            inside.waiting.insert(self.id, Waiting::Nobody);
        }
        if inside.driver == Some(self.id) {
            inside.driver = None;
            inside.wake_driver();
        }
        let silent = unanswered && inside.answers == self.answers_before;
        drop(inside);
        if silent && self.since.elapsed() >= STALE {
            self.line.leave(&self.wire);
        }
    }
}
