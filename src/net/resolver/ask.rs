//! One question, put to one upstream after another until one gives an answer that can be used.
//!
//! Each retry goes to another upstream and has twice the patience. Who answered "I cannot" is not asked again for this
//! lookup. What an upstream cannot do (EDNS, letter case, UDP) is worked around, and remembered.
//! A failure says on whose side it lies: our upstreams', unless one of them has shown lately that it reaches the DNS.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use ring::rand::SecureRandom;

use crate::net::deadline::Deadline;
use crate::net::deadline::sleep;
use crate::net::resolver::Resolver;
use crate::net::resolver::exchange;
use crate::net::resolver::exchange::ByUdp;
use crate::net::resolver::exchange::Echo;
use crate::net::resolver::exchange::ExchangeFault;
use crate::net::resolver::exchange::Reply;
use crate::net::resolver::exchange::Transport;
use crate::net::resolver::upstream;
use crate::net::resolver::upstream::Upstream;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Dice;
use crate::proto::dns::question::Extension;
use crate::proto::dns::question::Letters;
use crate::proto::dns::question::Query;
use crate::proto::dns::reader::Message;
use crate::proto::dns::response;
use crate::proto::dns::response::Response;
use crate::proto::dns::response::ResponseFault;

/// Longest wait for one answer by UDP, however often the patience was doubled.
const MAX_PATIENCE: Duration = Duration::from_secs(4);
/// For connecting and the answer by TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// For the question whether an upstream reaches anything at all: its answer stands in every cache.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// Upstreams that are asked it.
const MAX_CONTROLS: u32 = 2;
/// Before upstreams that cannot be reached are tried once more.
const PAUSE: Duration = Duration::from_millis(250);
/// Network errors of one upstream in one lookup.
const MAX_NETWORK_ERRORS: usize = 2;
/// Ways to ask one upstream: as ever, without EDNS, with its cookie, in small letters.
const MAX_WAYS: usize = 4;

/// What one lookup may still cost.
pub(super) struct Budget {
    pub queries: u32,
    pub deadline: Deadline,
}

/// An answer that can be used, and what the upstream remarked.
pub(super) struct Understood {
    pub response: Response,
    pub errors: Vec<ExtendedError>,
}

/// No upstream gave an answer that can be used.
pub(super) struct Failure {
    pub rcode: Rcode,
    pub cause: TroubleCause,
    pub errors: Vec<ExtendedError>,
    /// some upstream said something
    answered: bool,
    /// some upstream was asked, and said nothing
    silent: bool,
}

/// Why one upstream gave none.
enum Fault {
    Code(Rcode, Vec<ExtendedError>),
    Chain,
    Useless(String),
    Silent,
    Network(String),
    /// The lookup has used up its queries or time.
    Spent,
}

/// One question to one upstream.
struct Asking<'a> {
    upstream: SocketAddr,
    name: &'a Name,
    kind: RecordType,
    patience: Duration,
}

/// Whether to offer EDNS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Edns,
    Plain,
}

impl Resolver {
    /// The answer of the first upstream that gives one. Time is left to find out on whose side a failure lies.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType, budget: &mut Budget) -> Result<Understood, Failure> {
        let whole = budget.deadline;
        budget.deadline = Deadline::after(whole.left().saturating_sub(CONTROL_PATIENCE * MAX_CONTROLS));
        let asked = self.ask_in_turn(name, kind, budget).await;
        budget.deadline = whole;
        match asked {
            Ok(understood) => Ok(understood),
            Err(failure) => Err(self.judge(failure, budget).await),
        }
    }

    async fn ask_in_turn(&self, name: &Name, kind: RecordType, budget: &mut Budget) -> Result<Understood, Failure> {
        let mut candidates = self.0.pool.borrow().order(self.now());
        if candidates.is_empty() {
            let problem = self.problem().unwrap_or_default();
            return Err(Failure::ours(ExtendedError::new(InfoCode::NETWORK_ERROR, problem)));
        }
        let mut patience = self.upstream(candidates[0], |upstream| upstream.patience()).unwrap_or(MAX_PATIENCE);
        let mut failure = Failure::new(TroubleCause::Ours, Vec::new());
        let mut unreached = Vec::new();
        let mut at = 0;
        while !candidates.is_empty() && budget.queries > 0 && !budget.deadline.passed() {
            at %= candidates.len();
            let asking = Asking { upstream: candidates[at], name, kind, patience };
            let fault = match self.attempt(&asking, budget).await {
                Ok(understood) => return Ok(understood),
                Err(Fault::Spent) => break,
                Err(Fault::Chain) => {
                    failure.cause = TroubleCause::Zone;
                    failure.errors.push(ExtendedError::new(InfoCode::OTHER, ResponseFault::Chain.to_string()));
                    return Err(failure);
                }
                Err(fault) => fault,
            };
            match &fault {
                Fault::Silent => {
                    patience = (patience * 2).min(MAX_PATIENCE);
                    at += 1;
                }
                Fault::Network(_) if unreached.iter().filter(|other| **other == asking.upstream).count() + 1 < MAX_NETWORK_ERRORS => {
                    unreached.push(asking.upstream);
                    at += 1;
                    if candidates.iter().all(|candidate| unreached.contains(candidate)) {
                        sleep(budget.deadline.shorten(PAUSE)).await;
                    }
                }
                _ => drop(candidates.remove(at)),
            }
            failure.note(asking.upstream, fault);
        }
        Err(failure)
    }

    /// On whose side the failure lies. Upstreams fail for everything where a router has lost its line, and are silent about
    /// one zone whose servers are: something certain is asked, unless it is known already.
    async fn judge(&self, mut failure: Failure, budget: &mut Budget) -> Failure {
        let lately = self.0.pool.borrow().was_useful_lately(self.now());
        if failure.cause == TroubleCause::Ours
            && (failure.answered && lately || (failure.answered || failure.silent) && self.reaches_anything(budget).await)
        {
            failure.cause = TroubleCause::Zone;
        }
        failure.errors.sort_by_key(|error| !(is_own(error) && error.code == InfoCode::NO_REACHABLE_AUTHORITY));
        if failure.errors.is_empty() {
            failure.errors.push(ExtendedError::new(InfoCode::OTHER, "the lookup took too long"));
        }
        failure
    }

    /// Whether an upstream answers what every resolver can.
    async fn reaches_anything(&self, budget: &mut Budget) -> bool {
        let order = self.0.pool.borrow().order(self.now());
        for upstream in order.into_iter().take(MAX_CONTROLS as usize) {
            let asking = Asking { upstream, name: &Name::root(), kind: RecordType::NS, patience: CONTROL_PATIENCE };
            if self.attempt(&asking, budget).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Asks one upstream in the ways that it may need.
    async fn attempt(&self, asking: &Asking<'_>, budget: &mut Budget) -> Result<Understood, Fault> {
        let plain = self
            .upstream(asking.upstream, |upstream| upstream.is_plain(self.now()))
            .ok_or(Fault::Useless("is not used any more".into()))?;
        let mut offer = if plain { Offer::Plain } else { Offer::Edns };
        let mut by = Transport::Udp;
        for _ in 0..MAX_WAYS {
            let Some(reply) = self.exchange(asking, offer, by, budget).await? else { continue };
            let message = Message::read(&reply.octets).map_err(|fault| self.useless(asking, fault.to_string()))?;
            self.keep_cookie(asking, &message);
            match message.rcode() {
                Rcode::FORM_ERR | Rcode::NOT_IMP | Rcode::BAD_VERS if offer == Offer::Edns => {
                    offer = Offer::Plain;
                    continue;
                }
                Rcode::BAD_COOKIE if by == Transport::Udp => {
                    by = Transport::Tcp;
                    continue;
                }
                _ => {}
            }
            return self.take(asking, &message, offer);
        }
        Err(self.useless(asking, "needs too many tries".to_owned()))
    }

    fn take(&self, asking: &Asking<'_>, message: &Message<'_>, offer: Offer) -> Result<Understood, Fault> {
        let remarks = message.edns().map_or(&[][..], |edns| &edns.errors);
        let said = format!("upstream {}", upstream::shown(asking.upstream));
        let mark =
            |error: &ExtendedError| ExtendedError::new(error.code, format!("{said}: {}", error.text).trim_end_matches(": ").to_owned());
        let errors: Vec<ExtendedError> = remarks.iter().map(mark).collect();
        match response::understand(message, asking.name, asking.kind) {
            Ok(response) => {
                self.note_useful(asking.upstream, offer);
                Ok(Understood { response, errors })
            }
            Err(ResponseFault::Chain) => {
                self.note_useful(asking.upstream, offer);
                Err(Fault::Chain)
            }
            // It is alive, and may be right.
            Err(ResponseFault::Code(Rcode::SERV_FAIL)) => {
                self.upstream(asking.upstream, Upstream::note_alive);
                Err(Fault::Code(Rcode::SERV_FAIL, errors))
            }
            // Whoever owns the zone can make these: they say nothing about the upstream.
            Err(fault @ (ResponseFault::Broken | ResponseFault::Contradiction)) => Err(Fault::Useless(fault.to_string())),
            Err(ResponseFault::Code(code)) => {
                let _ = self.useless(asking, format!("answers {code}"));
                Err(Fault::Code(code, errors))
            }
            Err(fault @ ResponseFault::Referral) => Err(self.useless(asking, fault.to_string())),
        }
    }

    /// One query and its answer; `None`: ask again, something was learnt about the upstream.
    async fn exchange(&self, asking: &Asking<'_>, offer: Offer, by: Transport, budget: &mut Budget) -> Result<Option<Reply>, Fault> {
        let waiting = budget.deadline.within(MAX_PATIENCE, self.0.gate.acquire()).await;
        let _permit = waiting.map_err(|_| Fault::Spent)?;
        let mut folded = Echo::AsSent;
        if by == Transport::Udp {
            let query = self.query_for(asking, offer, budget)?;
            let begun = Instant::now();
            match exchange::by_udp(asking.upstream, &query, budget.deadline.shorten(asking.patience)).await {
                Ok(ByUdp::Reply(reply)) => {
                    self.upstream(asking.upstream, |upstream| upstream.note_answer(begun.elapsed()));
                    return Ok(Some(reply));
                }
                Ok(ByUdp::AskTcp(echo)) => folded = echo,
                Err(fault) => return Err(self.fault(asking, fault)),
            }
        }
        let query = self.query_for(asking, offer, budget)?;
        match exchange::by_tcp(asking.upstream, &query, budget.deadline.shorten(TCP_PATIENCE)).await {
            Ok(reply) => {
                self.upstream(asking.upstream, |upstream| {
                    upstream.note_answer(upstream.patience() / 3);
                    if folded == Echo::Folded && reply.letters == Echo::Folded {
                        upstream.letters = Letters::Small;
                    }
                });
                Ok(Some(reply))
            }
            // No TCP, and letters that came back folded: better small letters than no answers.
            Err(_) if folded == Echo::Folded => {
                self.upstream(asking.upstream, |upstream| upstream.letters = Letters::Small);
                Ok(None)
            }
            Err(fault) => Err(self.fault(asking, fault)),
        }
    }

    fn query_for(&self, asking: &Asking<'_>, offer: Offer, budget: &mut Budget) -> Result<Query, Fault> {
        budget.queries = budget.queries.checked_sub(1).ok_or(Fault::Spent)?;
        self.0.metrics.dns_queries.add_one();
        let mut octets = [0; 34];
        self.0.random.fill(&mut octets).map_err(|_| Fault::Network("this machine gives no random numbers".to_owned()))?;
        let (id, letters) = octets.split_at(2);
        let dice = Dice { id: u16::from_be_bytes([id[0], id[1]]), letters: letters.try_into().expect("32 of 34 octets are left") };
        let (letters, cookie) = self
            .upstream(asking.upstream, |upstream| (upstream.letters, upstream.cookie.clone()))
            .ok_or(Fault::Useless("is not used any more".into()))?;
        let extension = match offer {
            Offer::Edns => Extension::Edns { cookie: &cookie },
            Offer::Plain => Extension::Plain,
        };
        Ok(Query::new(asking.name, asking.kind, letters, extension, &dice))
    }

    fn keep_cookie(&self, asking: &Asking<'_>, message: &Message<'_>) {
        if let Some(edns) = message.edns() {
            self.upstream(asking.upstream, |upstream| upstream.keep_cookie(&edns.cookie));
        }
    }

    fn note_useful(&self, address: SocketAddr, offer: Offer) {
        let now = self.now();
        if self.problem().is_some() || !self.0.pool.borrow().was_useful_lately(now) {
            self.0.cache.borrow_mut().forget_our_failures();
        }
        self.upstream(address, |upstream| {
            upstream.note_useful(now);
            if offer == Offer::Plain && !upstream.is_plain(now) {
                upstream.set_plain(now);
            }
        });
    }

    fn useless(&self, asking: &Asking<'_>, complaint: String) -> Fault {
        let now = self.now();
        self.upstream(asking.upstream, |upstream| upstream.note_failure(complaint.clone(), now));
        Fault::Useless(complaint)
    }

    fn fault(&self, asking: &Asking<'_>, fault: ExchangeFault) -> Fault {
        let fault = match fault {
            ExchangeFault::Unreadable(why) => return self.useless(asking, why),
            ExchangeFault::Silent => Fault::Silent,
            ExchangeFault::Network(error) => Fault::Network(error.to_string()),
        };
        let complaint = if let Fault::Network(why) = &fault { format!("cannot be reached ({why})") } else { "does not answer".to_owned() };
        let _ = self.useless(asking, complaint);
        fault
    }

    fn upstream<T>(&self, address: SocketAddr, with: impl FnOnce(&mut Upstream) -> T) -> Option<T> {
        self.0.pool.borrow_mut().get(address).map(with)
    }

    fn now(&self) -> Instant {
        self.0.clock.instant()
    }
}

/// Not passed on from an upstream.
fn is_own(error: &ExtendedError) -> bool {
    !error.text.starts_with("upstream ")
}

impl Failure {
    fn ours(error: ExtendedError) -> Failure {
        Failure::new(TroubleCause::Ours, vec![error])
    }

    fn new(cause: TroubleCause, errors: Vec<ExtendedError>) -> Failure {
        Failure { rcode: Rcode::SERV_FAIL, cause, errors, answered: false, silent: false }
    }

    /// Keeps what is new about it.
    fn note(&mut self, address: SocketAddr, fault: Fault) {
        let address = upstream::shown(address);
        self.answered |= matches!(fault, Fault::Code(..) | Fault::Useless(_));
        self.silent |= matches!(fault, Fault::Silent);
        let errors = match fault {
            Fault::Code(code, errors) if errors.is_empty() => {
                self.rcode = code;
                vec![ExtendedError::new(InfoCode::OTHER, format!("upstream {address} answers {code}"))]
            }
            Fault::Code(code, errors) => {
                self.rcode = code;
                errors
            }
            Fault::Useless(why) => vec![ExtendedError::new(InfoCode::INVALID_DATA, format!("upstream {address} {why}"))],
            Fault::Silent => vec![ExtendedError::new(InfoCode::NO_REACHABLE_AUTHORITY, format!("{address} does not answer"))],
            Fault::Network(why) => vec![ExtendedError::new(InfoCode::NETWORK_ERROR, format!("{address} cannot be reached: {why}"))],
            Fault::Chain | Fault::Spent => Vec::new(),
        };
        for error in errors {
            if !self.errors.contains(&error) {
                self.errors.push(error);
            }
        }
    }
}
