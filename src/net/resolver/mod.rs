//! Asks recursive resolvers ("upstreams") for records: `Resolver` is the product's `Lookup` (`resolver.md`, Asking).
//!
//! Nothing is validated yet: an answer that arrived is insecure, with a note that says so; one that did not is
//! indeterminate. Equal questions in flight are asked once, outcomes are kept (`cache`), work and time are bounded per
//! lookup. Everything is on the one thread; no libc resolver is involved.
//! `ask` puts one question to one upstream after another, `exchange` does the sockets, `upstream` knows who is alive.

mod ask;
mod attempt;
mod cache;
mod exchange;
mod upstream;

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ring::rand::SystemRandom;
use smol::channel::Receiver;
use smol::channel::Sender;
use smol::lock::Semaphore;

use crate::metrics::DnsOutcome;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::deadline::Deadline;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::cache::Cache;
use crate::net::resolver::upstream::Changed;
use crate::net::resolver::upstream::Pool;
pub use crate::net::resolver::upstream::Upstreams;
use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::lookup::Answer;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Link;
use crate::proto::dns::lookup::Lookup;
use crate::proto::dns::lookup::Proof;
use crate::proto::dns::lookup::Rdata;
use crate::proto::dns::lookup::Record;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::response::End;
use crate::proto::dns::response::ResponseFault;

/// The whole of a lookup, all CNAMEs and retries included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Queries sent for one lookup (`resolver.md`, proving 9).
const MAX_QUERIES: u32 = 60;
/// Exchanges at a time: each is a socket, and the rest of the server needs some too.
const MAX_EXCHANGES: usize = 64;
/// What is said about every answer until signatures are looked at.
pub const NOT_VALIDATED: &str = "not validated by this build";

type Key = (Name, RecordType);

/// A handle; clones share upstreams and memory.
#[derive(Clone)]
pub struct Resolver(Rc<Inner>);

struct Inner {
    pool: RefCell<Pool>,
    cache: RefCell<Cache>,
    flights: RefCell<HashMap<Key, Rc<Flight>>>,
    gate: Semaphore,
    random: SystemRandom,
    clock: Clock,
    metrics: Rc<Metrics>,
}

/// How a lookup of any type ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Records,
    NoData,
    NoSuchName,
    Failed(TroubleCause),
}

/// The outcome of a lookup of any type, records not decoded.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub outcome: Outcome,
    pub rcode: Rcode,
    /// the end of the CNAMEs
    pub owner: Name,
    pub links: Vec<(Name, Name)>,
    /// the CNAME records and those of the owner
    pub answers: Vec<RawRecord>,
    pub errors: Vec<ExtendedError>,
}

impl Resolved {
    fn new(owner: Name, outcome: Outcome) -> Resolved {
        Resolved { outcome, rcode: Rcode::NO_ERROR, owner, links: Vec::new(), answers: Vec::new(), errors: Vec::new() }
    }

    /// What it costs to keep.
    fn octets(&self) -> usize {
        let names = |from: &Name, to: &Name| from.as_wire().len() + to.as_wire().len() + 48;
        let records = self.answers.iter().map(|record| record.owner.as_wire().len() + record.rdata.len() + 80);
        let links = self.links.iter().map(|(from, to)| names(from, to));
        let errors = self.errors.iter().map(|error| error.text.len() + 40);
        self.owner.as_wire().len() + records.chain(links).chain(errors).sum::<usize>() + size_of::<Resolved>()
    }

    pub fn state(&self) -> ValidationState {
        match self.outcome {
            Outcome::Records | Outcome::NoData | Outcome::NoSuchName => ValidationState::Insecure,
            Outcome::Failed(_) => ValidationState::Indeterminate,
        }
    }
}

/// A lookup that others wait for too.
struct Flight {
    result: OnceCell<Rc<Resolved>>,
    /// Closes when the lookup is over, or was dropped by who led it.
    landed: Receiver<()>,
}

/// Who does the lookup. Dropping it wakes those who wait; without a result one of them leads next.
struct Leader<'a> {
    resolver: &'a Inner,
    key: &'a Key,
    flight: Rc<Flight>,
    _closes: Sender<()>,
}

impl<'a> Leader<'a> {
    fn begin(resolver: &'a Inner, key: &'a Key) -> Leader<'a> {
        let (closes, landed) = smol::channel::bounded(1);
        let flight = Rc::new(Flight { result: OnceCell::new(), landed });
        resolver.flights.borrow_mut().insert(key.clone(), Rc::clone(&flight));
        Leader { resolver, key, flight, _closes: closes }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.resolver.flights.borrow_mut().remove(self.key);
    }
}

impl Resolver {
    /// A resolver with an empty memory. Opens nothing but the list of upstreams.
    pub fn new(upstreams: Upstreams, clock: Clock, metrics: Rc<Metrics>) -> Resolver {
        Resolver(Rc::new(Inner {
            pool: RefCell::new(Pool::new(upstreams)),
            cache: RefCell::new(Cache::new(cache::MAX_OCTETS)),
            flights: RefCell::default(),
            gate: Semaphore::new(MAX_EXCHANGES),
            random: SystemRandom::new(),
            clock,
            metrics,
        }))
    }

    /// Asks others from now on, and forgets what the former said.
    pub fn set_upstreams(&self, upstreams: Upstreams) {
        self.0.pool.borrow_mut().replace(upstreams);
        self.flush();
    }

    /// Forgets all answers.
    pub fn flush(&self) {
        self.0.cache.borrow_mut().clear();
    }

    /// Why nobody can be asked, in words for `status`; `None` while somebody can.
    pub fn problem(&self) -> Option<String> {
        self.0.pool.borrow().problem()
    }

    /// Looks up records of any type. Ends within 10 s; dropping it is harmless.
    pub async fn query(&self, name: &Name, kind: RecordType) -> Rc<Resolved> {
        let resolved = self.shared(&(name.clone(), kind)).await;
        self.0.metrics.dns_lookups.add_one(match resolved.outcome {
            Outcome::Records => DnsOutcome::Records,
            Outcome::NoData => DnsOutcome::NoData,
            Outcome::NoSuchName => DnsOutcome::NoSuchName,
            Outcome::Failed(_) => DnsOutcome::Failed,
        });
        resolved
    }

    async fn shared(&self, key: &Key) -> Rc<Resolved> {
        let inner = &self.0;
        loop {
            if inner.pool.borrow_mut().refresh() == Changed::Yes {
                self.flush();
            }
            if let Some(known) = inner.cache.borrow_mut().find(key, inner.clock.instant()) {
                inner.metrics.dns_cached.add_one();
                return known;
            }
            let flight = inner.flights.borrow().get(key).cloned();
            let Some(flight) = flight else { break };
            let _ = flight.landed.recv().await;
            if let Some(resolved) = flight.result.get() {
                return Rc::clone(resolved);
            }
        }
        let leader = Leader::begin(inner, key);
        let (resolved, ttl) = self.follow(key).await;
        let resolved = Rc::new(resolved);
        inner.cache.borrow_mut().keep(key, &remembered(&resolved), ttl, inner.clock.instant());
        let _ = leader.flight.result.set(Rc::clone(&resolved));
        resolved
    }

    /// Asks, and asks on where the answer stops at a CNAME. Gives how long the outcome holds, in seconds.
    async fn follow(&self, (name, kind): &Key) -> (Resolved, u32) {
        let mut budget = Budget { queries: MAX_QUERIES, deadline: Deadline::after(PATIENCE) };
        let mut all = Resolved::new(name.clone(), Outcome::NoData);
        let mut ttl = u32::MAX;
        loop {
            let owner = all.owner.clone();
            let understood = match self.ask(&owner, *kind, &mut budget).await {
                Ok(understood) => understood,
                Err(failure) => {
                    all.errors.extend(failure.errors);
                    return (Resolved { outcome: Outcome::Failed(failure.cause), rcode: failure.rcode, ..all }, 0);
                }
            };
            let response = understood.response;
            ttl = ttl.min(response.ttl);
            all.errors.extend(understood.errors);
            all.owner = response.owner;
            all.links.extend(response.links);
            all.answers.extend(response.records);
            let again = all.links.iter().any(|(from, _)| *from == all.owner);
            if again || all.links.len() > MAX_LINKS {
                all.errors.push(ExtendedError::new(InfoCode::OTHER, ResponseFault::Chain.to_string()));
                return (Resolved { outcome: Outcome::Failed(TroubleCause::Zone), rcode: Rcode::SERV_FAIL, ..all }, 0);
            }
            (all.outcome, all.rcode) = match response.end {
                End::Records => (Outcome::Records, Rcode::NO_ERROR),
                End::NoData => (Outcome::NoData, Rcode::NO_ERROR),
                End::NoSuchName => (Outcome::NoSuchName, Rcode::NX_DOMAIN),
                End::Open => continue,
            };
            return (all, ttl);
        }
    }
}

/// As it will be told from memory: a failure then says so (RFC 8914 section 4.14).
fn remembered(resolved: &Rc<Resolved>) -> Rc<Resolved> {
    if !matches!(resolved.outcome, Outcome::Failed(_)) {
        return Rc::clone(resolved);
    }
    let mut told = Resolved::clone(resolved);
    told.errors.push(ExtendedError::new(InfoCode::CACHED_ERROR, ""));
    Rc::new(told)
}

impl Lookup for Resolver {
    async fn lookup<R: Record>(&self, name: &Name) -> Answer<R> {
        answer(&*self.query(name, R::TYPE).await)
    }
}

fn answer<R: Record>(resolved: &Resolved) -> Answer<R> {
    let owner = resolved.owner.clone();
    let answer = match resolved.outcome {
        Outcome::Records => {
            let here = resolved.answers.iter().filter(|record| record.rtype == R::TYPE && record.owner == owner);
            let records: Vec<R> = here.filter_map(|record| R::decode(&Rdata::alone(&record.rdata))).collect();
            if records.is_empty() {
                Answer::failed(owner, Trouble::indeterminate("no record of the answer can be read"))
            } else {
                Answer::records(owner, Proof::Insecure, records)
            }
        }
        Outcome::NoData => Answer::no_data(owner, Proof::Insecure),
        Outcome::NoSuchName => Answer::no_such_name(owner, Proof::Insecure),
        Outcome::Failed(cause) => {
            let errors = resolved.errors.clone();
            Answer::failed(owner, Trouble { state: TroubleState::Indeterminate, cause, errors, zone: None })
        }
    };
    let link = |(from, to): &(Name, Name)| Link { from: from.clone(), to: to.clone(), state: ValidationState::Insecure };
    answer.with_links(resolved.links.iter().map(link).collect()).with_note(NOT_VALIDATED)
}
