//! One question, put to one upstream after another until one gives an answer that can be used.
//!
//! Each retry goes to another upstream and has twice the patience. Who answered "I cannot" is not asked again for this
//! question. Whether the answer proves anything is not looked at: `drive` does. Equal questions in flight are one.
//! A failure says on whose side it lies: our upstreams', unless one of them has shown lately that it reaches the DNS.

use std::rc::Rc;
use std::time::Duration;

use crate::net::deadline::Deadline;
use crate::net::deadline::sleep;
use crate::net::resolver::Key;
use crate::net::resolver::Resolver;
use crate::net::resolver::attempt::Asking;
use crate::net::resolver::attempt::Fault;
use crate::net::resolver::attempt::Heard;
use crate::net::resolver::attempt::MAX_PATIENCE;
use crate::net::resolver::flight::Turn;
use crate::net::resolver::upstream::Upstream;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Checking;
use crate::proto::dns::reader::Message;
use crate::proto::dns::response;
use crate::proto::dns::response::ResponseFault;
use crate::proto::dns::upstream::UpstreamAddress;

/// The whole of a lookup, its proof and all retries included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Queries sent for one lookup (`resolver.md`, proving 9).
const MAX_QUERIES: u32 = 60;
/// For the question whether an upstream reaches anything at all: its answer stands in every cache.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// Upstreams that are asked it.
const MAX_CONTROLS: u32 = 2;
/// Before upstreams that cannot be reached are tried once more.
const PAUSE: Duration = Duration::from_millis(250);
/// Network errors of one upstream for one question.
const MAX_NETWORK_ERRORS: usize = 2;

/// What one lookup may still cost.
pub(super) struct Budget {
    pub queries: u32,
    pub deadline: Deadline,
}

/// How to ask, and whom not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub checking: Checking,
    pub avoid: Option<UpstreamAddress>,
}

/// An answer that can be used, and what the upstream remarked.
pub(super) struct Answered {
    pub from: UpstreamAddress,
    octets: Vec<u8>,
    pub remarks: Vec<ExtendedError>,
}

/// No upstream gave an answer that can be used.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub rcode: Rcode,
    pub cause: TroubleCause,
    pub errors: Vec<ExtendedError>,
    /// some upstream said something
    answered: bool,
    /// some upstream was asked, and said nothing
    silent: bool,
    /// It ended for want of time or queries: who has some left may do better.
    spent: bool,
}

/// Why an upstream is not heard on this question.
enum Refusal {
    Code(Rcode, Vec<ExtendedError>),
    Fault(Fault),
}

impl Budget {
    pub fn new() -> Budget {
        Budget { queries: MAX_QUERIES, deadline: Deadline::after(PATIENCE) }
    }
}

impl Way {
    /// Whoever is best, and everything that there is.
    pub fn usual() -> Way {
        Way { checking: Checking::Disabled, avoid: None }
    }
}

impl Answered {
    pub fn message(&self) -> Message<'_> {
        Message::read(&self.octets).expect("it was read before it was kept")
    }
}

impl Resolver {
    /// The answer of the first upstream that gives one.
    pub(super) async fn ask(&self, question: &Key, way: &Way, budget: &mut Budget) -> Result<Rc<Answered>, Failure> {
        let key = (question.clone(), way.clone(), self.0.generation.get());
        loop {
            let flight = match self.0.questions.board(&key) {
                Turn::Lead(leader) => {
                    let asked = self.ask_and_judge(question, way, budget).await.map(Rc::new);
                    leader.land(asked.clone());
                    return asked;
                }
                Turn::Wait(flight) => flight,
            };
            match budget.deadline.within(PATIENCE, flight.wait()).await {
                Ok(Some(Err(failure))) if failure.spent && !budget.is_spent() => {}
                Ok(Some(asked)) => return asked,
                Ok(None) if !budget.deadline.passed() => {}
                Ok(None) | Err(_) => return Err(self.late()),
            }
        }
    }

    /// Another lookup is asking, for longer than this one can wait.
    fn late(&self) -> Failure {
        let useful = self.0.pool.borrow().was_useful_lately(self.now());
        let cause = if useful { TroubleCause::Zone } else { TroubleCause::Ours };
        Failure { spent: true, cause, ..Failure::ours(vec![ExtendedError::new(InfoCode::OTHER, TOO_LONG)]) }
    }

    /// Time is left to find out on whose side a failure lies.
    async fn ask_and_judge(&self, question: &Key, way: &Way, budget: &mut Budget) -> Result<Answered, Failure> {
        let whole = budget.deadline;
        budget.deadline = Deadline::after(whole.left().saturating_sub(CONTROL_PATIENCE * MAX_CONTROLS));
        let asked = self.ask_in_turn(question, way, budget).await;
        budget.deadline = whole;
        match asked {
            Ok(answered) => Ok(answered),
            Err(failure) => Err(self.judge(failure, budget).await),
        }
    }

    async fn ask_in_turn(&self, (name, kind): &Key, way: &Way, budget: &mut Budget) -> Result<Answered, Failure> {
        let mut candidates = self.0.pool.borrow().order(self.now());
        candidates.retain(|candidate| way.avoid.as_ref() != Some(candidate));
        let Some(first) = candidates.first() else {
            let problem = self.0.pool.borrow().problem().unwrap_or_default();
            return Err(Failure::ours(vec![ExtendedError::new(InfoCode::NETWORK_ERROR, problem)]));
        };
        let mut patience = self.upstream(first, |upstream| upstream.patience()).unwrap_or(MAX_PATIENCE);
        let mut failure = Failure::ours(Vec::new());
        let mut unreached = Vec::new();
        let mut at = 0;
        while !candidates.is_empty() && !budget.is_spent() {
            at %= candidates.len();
            let upstream = candidates[at].clone();
            let asking = Asking { upstream: &upstream, name, kind: *kind, checking: way.checking, patience };
            let refusal = match self.attempt(&asking, budget).await {
                Ok(heard) => match self.take(&asking, heard) {
                    Ok(answered) => return Ok(answered),
                    Err(refusal) => refusal,
                },
                // Others hold all places for exchanges: nobody was asked, and the zone is not to blame.
                Err(Fault::Spent) if !budget.is_spent() => {
                    return Err(Failure::ours(vec![ExtendedError::new(InfoCode::OTHER, "this server has too many lookups under way")]));
                }
                Err(Fault::Spent) => break,
                Err(fault) => Refusal::Fault(fault),
            };
            match &refusal {
                Refusal::Fault(Fault::Silent) => {
                    patience = (patience * 2).min(MAX_PATIENCE);
                    at += 1;
                }
                Refusal::Fault(Fault::Network(_))
                    if unreached.iter().filter(|other| **other == upstream).count() + 1 < MAX_NETWORK_ERRORS =>
                {
                    unreached.push(upstream.clone());
                    at += 1;
                    if candidates.iter().all(|candidate| unreached.contains(candidate)) {
                        sleep(budget.deadline.shorten(PAUSE)).await;
                    }
                }
                _ => drop(candidates.remove(at)),
            }
            failure.note(&upstream, refusal);
        }
        failure.spent = !candidates.is_empty();
        Err(failure)
    }

    /// On whose side the failure lies. Upstreams fail for everything where a router has lost its line, and are silent about
    /// one zone whose servers are: something certain is asked, unless it is known already.
    async fn judge(&self, mut failure: Failure, budget: &mut Budget) -> Failure {
        let lately = self.0.pool.borrow().was_useful_lately(self.now());
        let asked = failure.answered || failure.silent;
        // Where nobody was asked any more, questions of the same lookup before have used up its time.
        if lately && (failure.answered || failure.spent && !asked) || asked && self.reaches_anything(budget).await {
            failure.cause = TroubleCause::Zone;
        }
        failure.errors.sort_by_key(|error| !(is_own(error) && error.code == InfoCode::NO_REACHABLE_AUTHORITY));
        if failure.errors.is_empty() {
            let why = if budget.queries == 0 { TOO_MANY } else { TOO_LONG };
            failure.errors.push(ExtendedError::new(InfoCode::OTHER, why));
        }
        failure
    }

    /// Whether an upstream answers what every resolver can.
    async fn reaches_anything(&self, budget: &mut Budget) -> bool {
        let order = self.0.pool.borrow().order(self.now());
        for upstream in order.iter().take(MAX_CONTROLS as usize) {
            let checking = Checking::Disabled;
            let asking = Asking { upstream, name: &Name::root(), kind: RecordType::NS, checking, patience: CONTROL_PATIENCE };
            if let Ok(heard) = self.attempt(&asking, budget).await
                && self.take(&asking, heard).is_ok()
            {
                return true;
            }
        }
        false
    }

    /// What a message is worth, and what it says about who sent it.
    fn take(&self, asking: &Asking<'_>, heard: Heard) -> Result<Answered, Refusal> {
        let message = heard.message();
        let said = format!("upstream {}", asking.upstream);
        let mark =
            |error: &ExtendedError| ExtendedError::new(error.code, format!("{said}: {}", error.text).trim_end_matches(": ").to_owned());
        let remarks: Vec<ExtendedError> = message.edns().map_or(&[][..], |edns| &edns.errors).iter().map(mark).collect();
        let usable = response::is_usable(&message, asking.name, asking.kind);
        drop(message);
        let fault = match usable {
            Ok(()) => {
                self.note_useful(asking.upstream, &heard);
                return Ok(Answered { from: asking.upstream.clone(), octets: heard.octets, remarks });
            }
            Err(fault) => fault,
        };
        match fault {
            // It is alive, and may be right.
            ResponseFault::Code(Rcode::SERV_FAIL) => {
                self.upstream(asking.upstream, Upstream::note_alive);
                Err(Refusal::Code(Rcode::SERV_FAIL, remarks))
            }
            ResponseFault::Code(code) => {
                self.useless(asking.upstream, format!("answers {code}"));
                Err(Refusal::Code(code, remarks))
            }
            ResponseFault::Referral => {
                self.useless(asking.upstream, fault.to_string());
                Err(Refusal::Fault(Fault::Useless(fault.to_string())))
            }
            // Whoever owns the zone can make these: they say nothing about the upstream.
            ResponseFault::Broken | ResponseFault::Contradiction | ResponseFault::Chain => {
                Err(Refusal::Fault(Fault::Useless(fault.to_string())))
            }
        }
    }

    fn note_useful(&self, address: &UpstreamAddress, heard: &Heard) {
        let now = self.now();
        let failed = self.upstream(address, |upstream| upstream.has_failed()).unwrap_or(false);
        if failed || !self.0.pool.borrow().was_useful_lately(now) {
            self.0.cache.borrow_mut().forget_our_failures();
        }
        self.upstream(address, |upstream| upstream.note_useful(now));
        self.note_way(address, heard);
    }
}

const TOO_LONG: &str = "the lookup took too long";
const TOO_MANY: &str = "the lookup needs more queries than one may send";

/// Not passed on from an upstream.
pub(super) fn is_own(error: &ExtendedError) -> bool {
    !error.text.starts_with("upstream ")
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.queries == 0 || self.deadline.passed()
    }
}

impl Failure {
    /// Nobody else is to blame, as far as is known.
    fn ours(errors: Vec<ExtendedError>) -> Failure {
        Failure { rcode: Rcode::SERV_FAIL, cause: TroubleCause::Ours, errors, answered: false, silent: false, spent: false }
    }

    /// No answer, hence no verdict (RFC 4035 section 4.3).
    pub fn to_trouble(&self) -> Trouble {
        Trouble { state: TroubleState::Indeterminate, cause: self.cause, errors: self.errors.clone(), zone: None }
    }

    /// Whether an upstream has said that it cannot, which it may say of what it holds to be bogus.
    pub fn is_server_failure(&self) -> bool {
        self.answered && self.rcode == Rcode::SERV_FAIL
    }

    /// Keeps what is new about it.
    fn note(&mut self, address: &UpstreamAddress, refusal: Refusal) {
        self.answered |= matches!(refusal, Refusal::Code(..) | Refusal::Fault(Fault::Useless(_)));
        self.silent |= matches!(refusal, Refusal::Fault(Fault::Silent));
        let errors = match refusal {
            Refusal::Code(code, errors) if errors.is_empty() => {
                self.rcode = code;
                vec![ExtendedError::new(InfoCode::OTHER, format!("upstream {address} answers {code}"))]
            }
            Refusal::Code(code, errors) => {
                self.rcode = code;
                errors
            }
            Refusal::Fault(Fault::Useless(why)) => {
                vec![ExtendedError::new(InfoCode::INVALID_DATA, format!("upstream {address} {why}"))]
            }
            Refusal::Fault(Fault::Silent) => {
                vec![ExtendedError::new(InfoCode::NO_REACHABLE_AUTHORITY, format!("{address} does not answer"))]
            }
            Refusal::Fault(Fault::Network(why)) => {
                vec![ExtendedError::new(InfoCode::NETWORK_ERROR, format!("{address} cannot be reached: {why}"))]
            }
            Refusal::Fault(Fault::Tls(why)) => {
                vec![ExtendedError::new(InfoCode::NETWORK_ERROR, format!("{address} gives no TLS that can be trusted: {why}"))]
            }
            Refusal::Fault(Fault::Spent) => Vec::new(),
        };
        for error in errors {
            if !self.errors.contains(&error) {
                self.errors.push(error);
            }
        }
    }
}
