//! Asks recursive resolvers ("upstreams") for records, and proves what they say: `Resolver` is the product's `Lookup`
//! (`resolver.md`).
//!
//! Every answer is validated from a trust anchor down and carries its state. Equal questions in flight are asked once
//! (`flight`), verdicts and the zones on the way to them are kept (`cache`, `ledger`), work and time are bounded per lookup.
//! Everything is on the one thread; no libc resolver is involved.
//! `drive` leads `proto::dns::dnssec::walk` to its verdict, `believe` takes that of a validator on this machine instead, `ask`
//! puts one question to one upstream after another, `attempt` and `exchange` to one, `upstream` knows who is alive.

mod ask;
mod attempt;
mod believe;
mod cache;
mod dot;
mod drive;
mod exchange;
mod fitness;
mod flight;
mod ledger;
mod tcp;
mod upstream;

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

use ring::rand::SystemRandom;
use smol::lock::Semaphore;

use crate::metrics::DnsOutcome;
use crate::metrics::DnsState;
use crate::metrics::Metrics;
use crate::net::clock::Certainty;
use crate::net::clock::Clock;
use crate::net::resolver::ask::Answered;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::ask::Failure;
use crate::net::resolver::ask::Way;
use crate::net::resolver::cache::Cache;
use crate::net::resolver::dot::Trust;
pub use crate::net::resolver::fitness::Fitness;
pub use crate::net::resolver::fitness::UpstreamStatus;
use crate::net::resolver::flight::Flights;
use crate::net::resolver::flight::Turn;
use crate::net::resolver::upstream::Changed;
use crate::net::resolver::upstream::Pool;
pub use crate::net::resolver::upstream::Upstreams;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::lookup::Answer;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Lookup;
use crate::proto::dns::lookup::Record;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::name::Name;

/// Exchanges at a time: each is a socket, and the rest of the server needs some too.
const MAX_EXCHANGES: usize = 64;

type Key = (Name, RecordType);
/// Counts up whenever everything is forgotten: what began before must not be kept or shared afterwards.
type Generation = u64;

/// Whether the AD bit of upstreams on this machine is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustAd {
    #[default]
    No,
    Yes,
}

/// What is believed without proof.
#[derive(Clone, Debug)]
pub struct Beliefs {
    pub policy: Policy,
    pub trust_ad: TrustAd,
}

impl Default for Beliefs {
    /// The root's keys alone.
    fn default() -> Beliefs {
        let policy = Policy { anchors: Rc::new(Anchors::built_in()), sha1: Sha1::default(), limits: Limits::default() };
        Beliefs { policy, trust_ad: TrustAd::No }
    }
}

/// A handle; clones share upstreams and memory.
#[derive(Clone)]
pub struct Resolver(Rc<Inner>);

struct Inner {
    pool: RefCell<Pool>,
    beliefs: RefCell<Beliefs>,
    cache: RefCell<Cache>,
    generation: Cell<Generation>,
    /// of the clock, when the memory was empty
    certainty: Cell<Certainty>,
    lookups: Flights<(Key, Generation), Rc<Verdict>>,
    questions: Flights<(Key, Way, Generation), Result<Rc<Answered>, Failure>>,
    gate: Semaphore,
    random: SystemRandom,
    /// what certificates of upstreams are judged by
    trust: Trust,
    clock: Clock,
    metrics: Rc<Metrics>,
}

impl Resolver {
    /// A resolver with an empty memory, that believes the root's keys. Opens nothing but the list of upstreams.
    pub fn new(upstreams: Upstreams, clock: Clock, metrics: Rc<Metrics>) -> Resolver {
        Resolver(Rc::new(Inner {
            pool: RefCell::new(Pool::new(upstreams)),
            beliefs: RefCell::default(),
            cache: RefCell::new(Cache::new(cache::MAX_OCTETS)),
            generation: Cell::default(),
            certainty: Cell::new(clock.certainty()),
            lookups: Flights::default(),
            questions: Flights::default(),
            gate: Semaphore::new(MAX_EXCHANGES),
            random: SystemRandom::new(),
            trust: Trust::new(clock.clone()),
            clock,
            metrics,
        }))
    }

    /// Asks others from now on, and forgets what the former said.
    pub fn set_upstreams(&self, upstreams: Upstreams) {
        self.0.pool.borrow_mut().replace(upstreams);
        self.flush();
    }

    /// One more authority (DER) for the certificates of upstreams with TLS, beside the public ones.
    pub fn add_authority(&self, authority: &[u8]) -> Result<(), String> {
        self.0.trust.add(authority)
    }

    /// Believes something else from now on, and forgets what followed from the former beliefs.
    pub fn set_beliefs(&self, beliefs: Beliefs) {
        *self.0.beliefs.borrow_mut() = beliefs;
        self.suspect_all();
        self.flush();
    }

    /// Forgets all verdicts and zones, those too that lookups under way will find.
    pub fn flush(&self) {
        self.0.generation.set(self.0.generation.get() + 1);
        self.0.cache.borrow_mut().clear();
    }

    /// Why lookups must fail, in words for `status` and with what to do; `None` while they can succeed.
    pub fn problem(&self) -> Option<String> {
        let nobody = self.0.pool.borrow().problem();
        let unbelieving = self.0.beliefs.borrow().policy.anchors.is_empty() && !self.is_believing();
        nobody.or_else(|| unbelieving.then(|| NO_ANCHOR.to_owned()))
    }

    /// Whether the upstreams' word counts, all of them being on this machine.
    fn is_believing(&self) -> bool {
        self.0.beliefs.borrow().trust_ad == TrustAd::Yes && self.0.pool.borrow().is_all_loopback()
    }

    /// Looks up and proves records of any type. Ends within 10 s; dropping it is harmless.
    pub async fn query(&self, name: &Name, kind: RecordType) -> Rc<Verdict> {
        let verdict = self.shared(&(name.clone(), kind)).await;
        self.0.metrics.dns_lookups.add_one(match &verdict.outcome {
            Outcome::Proved { found: Found::Records(_), .. } => DnsOutcome::Records,
            Outcome::Proved { found: Found::NoData, .. } => DnsOutcome::NoData,
            Outcome::Proved { found: Found::NoSuchName, .. } => DnsOutcome::NoSuchName,
            Outcome::Failed(_) => DnsOutcome::Failed,
        });
        self.0.metrics.dns_states.add_one(match verdict.state() {
            ValidationState::Secure => DnsState::Secure,
            ValidationState::Insecure => DnsState::Insecure,
            ValidationState::Bogus => DnsState::Bogus,
            ValidationState::Indeterminate => DnsState::Indeterminate,
        });
        verdict
    }

    /// What an upstream says, proved by nothing and not kept: for who proves it in another way (RFC 5011). Within 10 s.
    pub async fn fetch(&self, name: &Name, kind: RecordType) -> Result<Received, Trouble> {
        let asked = self.ask(&(name.clone(), kind), &Way::usual(), &mut Budget::new()).await;
        asked.map(|answered| Received::of(&answered.message())).map_err(|failure| failure.to_trouble())
    }

    async fn shared(&self, key: &Key) -> Rc<Verdict> {
        let inner = &self.0;
        loop {
            self.flush_if_changed();
            if let Some(known) = inner.cache.borrow_mut().find(key, inner.clock.instant()) {
                inner.metrics.dns_cached.add_one();
                return known;
            }
            let generation = inner.generation.get();
            let leader = match inner.lookups.board(&(key.clone(), generation)) {
                Turn::Lead(leader) => leader,
                Turn::Wait(flight) => match flight.wait().await {
                    Some(verdict) => return verdict,
                    None => continue,
                },
            };
            let verdict = Rc::new(self.prove(key).await);
            if inner.generation.get() == generation {
                inner.cache.borrow_mut().keep(key, &remembered(&verdict), inner.clock.instant());
            }
            leader.land(Rc::clone(&verdict));
            return verdict;
        }
    }

    /// What was found through other upstreams, or by a clock that was believed less or more, is not true any more.
    fn flush_if_changed(&self) {
        let certainty = self.0.clock.certainty();
        let other_time = self.0.certainty.replace(certainty) != certainty;
        let others = self.0.pool.borrow_mut().refresh() == Changed::Yes;
        if other_time || others {
            self.flush();
        }
    }
}

const NO_ANCHOR: &str = "no DNSSEC trust anchor is left, so that no answer of the DNS can be proved: name a file with one in \
                         dns.trust-anchor, or install a newer version of this program";

/// As it will be told from memory: a failure then says so (RFC 8914 section 4.14).
fn remembered(verdict: &Rc<Verdict>) -> Rc<Verdict> {
    let Outcome::Failed(trouble) = &verdict.outcome else { return Rc::clone(verdict) };
    let cached = ExtendedError::new(InfoCode::CACHED_ERROR, "");
    let mut trouble = trouble.clone();
    trouble.errors.push(cached.clone());
    let mut told = Verdict { outcome: Outcome::Failed(trouble), ..Verdict::clone(verdict) };
    told.errors.push(cached);
    Rc::new(told)
}

impl Lookup for Resolver {
    async fn lookup<R: Record>(&self, name: &Name) -> Answer<R> {
        self.query(name, R::TYPE).await.to_answer()
    }

    fn doubt(&self) -> Option<String> {
        if self.is_believing() { None } else { self.0.pool.borrow().none_is_fit() }
    }
}
