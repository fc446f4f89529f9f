//! Whether upstreams are fit for DNSSEC (`resolver.md`, proving 10): probed at start, after a change of the list, hourly,
//! and after answers that prove nothing though they should.
//!
//! A probe asks for the keys of the zone of a trust anchor, for a name that does not exist there, by TCP, and for a long answer.
//! Nothing is proved here, lookups do that: what is missing is the complaint. An upstream that says nothing is not judged; that
//! is the network. Who is unfit is asked last, and a person is told what to do: nothing is switched without the owner.

use std::time::Duration;
use std::time::Instant;

use log::info;
use log::warn;
use ring::rand::SecureRandom;

use crate::net::deadline::Deadline;
use crate::net::deadline::within;
use crate::net::resolver::Resolver;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::attempt::Asking;
use crate::net::resolver::attempt::Fault;
use crate::net::resolver::attempt::Heard;
use crate::net::resolver::tcp;
use crate::net::resolver::tcp::Left;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Checking;
use crate::proto::dns::question::UDP_PAYLOAD;
use crate::proto::dns::upstream::UpstreamAddress;

/// Between probes of one upstream.
const HOURLY: Duration = Duration::from_secs(3600);
/// Before who said nothing is probed again; doubles up to an hour. Also the least between two probes of one upstream.
const SOON: Duration = Duration::from_secs(60);
/// All questions of one probe.
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_QUERIES: u32 = 24;
/// For one answer by UDP: nobody waits.
const ANSWER: Duration = Duration::from_millis(1500);
/// Zones with long answers, where the root's keys alone are short: the largest below the root that are signed with RSA.
const LONG: [&str; 2] = ["org", "arpa"];
/// A zone that certainly has DS records in the root.
const SIGNED: &str = "com";
/// What a person can do; `dns.upstream` as it can stand in the file.
pub(super) const ADVICE: &str = "choose resolvers that leave DNSSEC alone, for example those of Quad9 and Cloudflare with this line in \
    pipit.toml: dns.upstream = [\"tls://9.9.9.9#dns.quad9.net\", \"tls://1.1.1.1#cloudflare-dns.com\"] \
    (or Google's \"tls://8.8.8.8#dns.google\"); nothing is switched without you";

/// What probes have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    Fit,
    #[default]
    Unknown,
    /// Complaints, each to stand behind the upstream's address: "gives no signatures".
    Unfit(Vec<String>),
}

/// One upstream for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    pub address: UpstreamAddress,
    pub fitness: Fitness,
    /// Why it is of no use at all: "does not answer".
    pub complaint: Option<String>,
    /// what to do about one that is unfit
    pub advice: Option<&'static str>,
}

/// When an upstream is probed.
#[derive(Clone, Default)]
pub struct Schedule {
    /// `None`: at once
    due: Option<Instant>,
    last: Option<Instant>,
    /// probes in a row that showed nothing
    misses: u32,
}

impl Schedule {
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// At once, or a little later if the last probe was just now.
    pub fn hasten(&mut self, now: Instant) {
        let soon = self.last.map(|last| last + SOON).filter(|soon| *soon > now);
        self.due = soon.map(|soon| self.due.map_or(soon, |due| due.min(soon)));
    }

    fn settle(&mut self, shown: &Option<Fitness>, now: Instant) {
        self.last = Some(now);
        self.misses = if shown.is_some() { 0 } else { self.misses.saturating_add(1) };
        let pause = if shown.is_some() { HOURLY } else { (SOON * (1 << self.misses.min(6))).min(HOURLY) };
        self.due = Some(now + pause);
    }
}

/// How to ask in a probe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Usual,
    Tcp,
}

/// One probe.
struct Probe<'a> {
    resolver: &'a Resolver,
    upstream: &'a UpstreamAddress,
    zone: &'a Name,
    budget: Budget,
    complaints: Vec<String>,
    /// a question that was not answered: the upstream cannot be called fit
    open: usize,
}

impl Resolver {
    /// Probes what is due, and closes connections that nobody uses, for ever.
    pub async fn watch_upstreams(self) {
        let woken = self.0.pool.borrow().woken();
        loop {
            self.probe_upstreams().await;
            let left = self.0.pool.borrow().close_idle();
            let rest = if left == Left::Open { tcp::IDLE / 2 } else { SOON };
            let _ = within(rest, woken.recv()).await;
        }
    }

    /// Probes the upstreams that are due, one after another.
    pub async fn probe_upstreams(&self) {
        self.flush_if_changed();
        let due = self.0.pool.borrow().due(self.now());
        let Some(zone) = self.0.beliefs.borrow().policy.anchors.highest() else { return };
        for address in due {
            let shown = self.probe(&address, &zone).await;
            let now = self.now();
            let before = self.upstream(&address, |upstream| {
                upstream.schedule.settle(&shown, now);
                if shown.is_some() {
                    upstream.note_alive();
                }
                shown.clone().map(|shown| std::mem::replace(&mut upstream.fitness, shown))
            });
            match (before.flatten(), shown) {
                (Some(before), Some(shown)) if before != shown => {
                    tell(&address, &shown);
                    if shown == Fitness::Fit {
                        self.0.cache.borrow_mut().forget_our_failures();
                    }
                }
                _ => {}
            }
        }
    }

    async fn probe(&self, upstream: &UpstreamAddress, zone: &Name) -> Option<Fitness> {
        let budget = Budget { queries: MAX_QUERIES, deadline: Deadline::after(PATIENCE) };
        let mut probe = Probe { resolver: self, upstream, zone, budget, complaints: Vec::new(), open: 0 };
        probe.run().await;
        match probe {
            Probe { complaints, .. } if !complaints.is_empty() => Some(Fitness::Unfit(complaints)),
            Probe { open: 0, .. } => Some(Fitness::Fit),
            _ => None,
        }
    }

    /// Its answers prove nothing though they should: it is probed soon.
    pub(super) fn suspect(&self, address: &UpstreamAddress) {
        let now = self.now();
        self.upstream(address, |upstream| upstream.schedule.hasten(now));
        self.0.pool.borrow().wake();
    }

    /// Judges all of them anew: something else is believed now.
    pub(super) fn suspect_all(&self) {
        self.0.pool.borrow_mut().forget_fitness();
        self.0.pool.borrow().wake();
    }

    /// The first complaint about an unfit one.
    pub(super) fn is_unfit(&self, address: &UpstreamAddress) -> Option<String> {
        self.upstream(address, |upstream| match &upstream.fitness {
            Fitness::Unfit(complaints) => complaints.first().cloned(),
            Fitness::Fit | Fitness::Unknown => None,
        })?
    }

    /// All upstreams, in the order in which they are asked.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.0.pool.borrow().status(self.now())
    }

    /// Which upstreams are unfit, why, and what to do; `None` if none is known to be.
    pub fn unfit_words(&self) -> Option<String> {
        self.0.pool.borrow().unfit_words()
    }
}

fn tell(address: &UpstreamAddress, shown: &Fitness) {
    match shown {
        Fitness::Fit => info!("the DNS resolver {address} is fit for DNSSEC"),
        Fitness::Unknown => {}
        Fitness::Unfit(complaints) => warn!("the DNS resolver {address} is unfit for DNSSEC: it {}; {ADVICE}", complaints.join(", it ")),
    }
}

impl Probe<'_> {
    async fn run(&mut self) {
        let (zone, soa) = (self.zone.clone(), RecordType::SOA);
        // Short, and in every cache: who does not answer that is not reached.
        if self.ask(&zone, soa, By::Usual).await.is_err() {
            self.open += 1;
            return;
        }
        let keys = match self.ask(&zone, RecordType::DNSKEY, By::Usual).await {
            Ok(heard) => Some(heard),
            Err(Fault::Spent) => {
                self.open += 1;
                return;
            }
            Err(_) => {
                self.complain("does not answer when the answer is long, as that about the keys of a zone");
                None
            }
        };
        if let Some(keys) = &keys {
            self.judge_keys(keys);
        }
        self.judge_denial().await;
        if zone.is_root() {
            self.judge_delegation().await;
        }
        if matches!(self.upstream, UpstreamAddress::Plain(_)) && self.ask(&zone, soa, By::Tcp).await.is_err() {
            self.complain("does not answer by TCP, which long answers need");
        }
        if let Some(keys) = keys.filter(|keys| zone.is_root() && !is_long(keys)) {
            drop(keys);
            self.judge_long().await;
        }
    }

    fn judge_keys(&mut self, keys: &Heard) {
        let received = Received::of(&keys.message());
        match received.set(self.zone, RecordType::DNSKEY) {
            _ if received.rcode != Rcode::NO_ERROR => self.open += 1,
            _ if keys.is_plain() => self.complain("does not know EDNS, without which there are no signatures"),
            Some(set) if set.signatures.is_empty() => self.complain("gives no signatures (RRSIG)"),
            Some(_) => {}
            None => self.complain("gives no keys (DNSKEY)"),
        }
    }

    /// A name that nobody has: by chance of 16 letters.
    async fn judge_denial(&mut self) {
        let mut dice = [0; 16];
        let thrown = self.resolver.0.random.fill(&mut dice);
        let label: String = dice.iter().map(|octet| char::from(b'a' + octet % 26)).collect();
        let (Ok(()), Ok(name)) = (thrown, self.zone.prepend(&label)) else {
            self.open += 1;
            return;
        };
        let Ok(heard) = self.ask(&name, RecordType::A, By::Usual).await else {
            self.open += 1;
            return;
        };
        let received = Received::of(&heard.message());
        let proved = received.denials().any(|set| !set.signatures.is_empty());
        match received.rcode {
            Rcode::NO_ERROR | Rcode::NX_DOMAIN if !received.answer.is_empty() => {
                self.complain("invents answers for names that do not exist");
            }
            Rcode::NO_ERROR | Rcode::NX_DOMAIN if !proved => self.complain("gives no proof that a name does not exist (NSEC or NSEC3)"),
            Rcode::NO_ERROR | Rcode::NX_DOMAIN => {}
            _ => self.open += 1,
        }
    }

    async fn judge_delegation(&mut self) {
        let Ok(name) = Name::parse(SIGNED) else { return };
        let Ok(heard) = self.ask(&name, RecordType::DS, By::Usual).await else {
            self.open += 1;
            return;
        };
        let received = Received::of(&heard.message());
        match received.set(&name, RecordType::DS) {
            Some(set) if !set.signatures.is_empty() => {}
            _ if received.rcode != Rcode::NO_ERROR => self.open += 1,
            _ => self.complain("gives no signed DS records"),
        }
    }

    /// None as long as that at hand, and nothing is known about long ones: no complaint.
    async fn judge_long(&mut self) {
        for name in LONG.iter().filter_map(|name| Name::parse(name).ok()) {
            match self.ask(&name, RecordType::DNSKEY, By::Usual).await {
                Ok(heard) if is_long(&heard) => return,
                Ok(_) | Err(Fault::Spent) => {}
                Err(_) => return self.complain("does not answer when the answer is long, as that about the keys of a zone"),
            }
        }
    }

    /// Twice, if the first has no answer: one datagram may be lost.
    async fn ask(&mut self, name: &Name, kind: RecordType, by: By) -> Result<Heard, Fault> {
        let asking = Asking { upstream: self.upstream, name, kind, checking: Checking::Disabled, patience: ANSWER };
        let mut result = Err(Fault::Silent);
        for _ in 0..2 {
            result = match by {
                By::Usual => self.resolver.attempt(&asking, &mut self.budget).await,
                By::Tcp => self.resolver.attempt_by_tcp(&asking, &mut self.budget).await,
            };
            if matches!(result, Ok(_) | Err(Fault::Spent)) {
                break;
            }
        }
        result
    }

    fn complain(&mut self, complaint: &str) {
        if !self.complaints.iter().any(|other| other == complaint) {
            self.complaints.push(complaint.to_owned());
        }
    }
}

fn is_long(heard: &Heard) -> bool {
    heard.octets.len() > usize::from(UDP_PAYLOAD)
}
