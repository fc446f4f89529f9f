//! One question, put to one upstream after another until one gives an answer that can be used.
//!
//! Each retry goes to another upstream and has twice the patience. Who answered "I cannot" is not asked again for this
//! lookup. What an upstream cannot do (EDNS, letter case, UDP) is worked around, and remembered.
//! A failure says on whose side it lies: our upstreams', unless one of them has shown lately that it reaches the DNS.

use std::time::Duration;

use crate::net::deadline::Deadline;
use crate::net::deadline::sleep;
use crate::net::resolver::Resolver;
use crate::net::resolver::attempt::Asking;
use crate::net::resolver::attempt::Fault;
use crate::net::resolver::attempt::Heard;
use crate::net::resolver::attempt::MAX_PATIENCE;
use crate::net::resolver::attempt::Offer;
use crate::net::resolver::upstream::Upstream;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Checking;
use crate::proto::dns::response;
use crate::proto::dns::response::Response;
use crate::proto::dns::response::ResponseFault;
use crate::proto::dns::upstream::UpstreamAddress;

/// For the question whether an upstream reaches anything at all: its answer stands in every cache.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// Upstreams that are asked it.
const MAX_CONTROLS: u32 = 2;
/// Before upstreams that cannot be reached are tried once more.
const PAUSE: Duration = Duration::from_millis(250);
/// Network errors of one upstream in one lookup.
const MAX_NETWORK_ERRORS: usize = 2;
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

/// Why what one upstream said is no answer.
enum NoAnswer {
    Code(Rcode, Vec<ExtendedError>),
    Chain,
    Fault(Fault),
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
        let mut patience = self.upstream(&candidates[0], |upstream| upstream.patience()).unwrap_or(MAX_PATIENCE);
        let mut failure = Failure::new(TroubleCause::Ours, Vec::new());
        let mut unreached = Vec::new();
        let mut at = 0;
        while !candidates.is_empty() && budget.queries > 0 && !budget.deadline.passed() {
            at %= candidates.len();
            let asking = Asking { upstream: &candidates[at].clone(), name, kind, checking: Checking::Disabled, patience };
            let taken = match self.attempt(&asking, budget).await {
                Ok(heard) => self.take(&asking, &heard),
                Err(fault) => Err(NoAnswer::Fault(fault)),
            };
            let fault = match taken {
                Ok(understood) => return Ok(understood),
                Err(NoAnswer::Fault(Fault::Spent)) => break,
                Err(NoAnswer::Chain) => {
                    failure.cause = TroubleCause::Zone;
                    failure.errors.push(ExtendedError::new(InfoCode::OTHER, ResponseFault::Chain.to_string()));
                    return Err(failure);
                }
                Err(fault) => fault,
            };
            match &fault {
                NoAnswer::Fault(Fault::Silent) => {
                    patience = (patience * 2).min(MAX_PATIENCE);
                    at += 1;
                }
                NoAnswer::Fault(Fault::Network(_))
                    if unreached.iter().filter(|other| *other == asking.upstream).count() + 1 < MAX_NETWORK_ERRORS =>
                {
                    unreached.push(asking.upstream.clone());
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
            let asking = Asking {
                upstream: &upstream,
                name: &Name::root(),
                kind: RecordType::NS,
                checking: Checking::Disabled,
                patience: CONTROL_PATIENCE,
            };
            if let Ok(heard) = self.attempt(&asking, budget).await
                && self.take(&asking, &heard).is_ok()
            {
                return true;
            }
        }
        false
    }

    fn take(&self, asking: &Asking<'_>, heard: &Heard) -> Result<Understood, NoAnswer> {
        let (message, offer) = (heard.message(), heard.offer);
        let remarks = message.edns().map_or(&[][..], |edns| &edns.errors);
        let said = format!("upstream {}", asking.upstream);
        let mark =
            |error: &ExtendedError| ExtendedError::new(error.code, format!("{said}: {}", error.text).trim_end_matches(": ").to_owned());
        let errors: Vec<ExtendedError> = remarks.iter().map(mark).collect();
        match response::understand(&message, asking.name, asking.kind) {
            Ok(response) => {
                self.note_useful(asking.upstream, offer);
                Ok(Understood { response, errors })
            }
            Err(ResponseFault::Chain) => {
                self.note_useful(asking.upstream, offer);
                Err(NoAnswer::Chain)
            }
            // It is alive, and may be right.
            Err(ResponseFault::Code(Rcode::SERV_FAIL)) => {
                self.upstream(asking.upstream, Upstream::note_alive);
                Err(NoAnswer::Code(Rcode::SERV_FAIL, errors))
            }
            // Whoever owns the zone can make these: they say nothing about the upstream.
            Err(fault @ (ResponseFault::Broken | ResponseFault::Contradiction)) => Err(NoAnswer::Fault(Fault::Useless(fault.to_string()))),
            Err(ResponseFault::Code(code)) => {
                self.useless(asking.upstream, format!("answers {code}"));
                Err(NoAnswer::Code(code, errors))
            }
            Err(fault @ ResponseFault::Referral) => {
                self.useless(asking.upstream, fault.to_string());
                Err(NoAnswer::Fault(Fault::Useless(fault.to_string())))
            }
        }
    }

    fn note_useful(&self, address: &UpstreamAddress, offer: Offer) {
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
    fn note(&mut self, address: &UpstreamAddress, fault: NoAnswer) {
        self.answered |= matches!(fault, NoAnswer::Code(..) | NoAnswer::Fault(Fault::Useless(_)));
        self.silent |= matches!(fault, NoAnswer::Fault(Fault::Silent));
        let errors = match fault {
            NoAnswer::Code(code, errors) if errors.is_empty() => {
                self.rcode = code;
                vec![ExtendedError::new(InfoCode::OTHER, format!("upstream {address} answers {code}"))]
            }
            NoAnswer::Code(code, errors) => {
                self.rcode = code;
                errors
            }
            NoAnswer::Fault(Fault::Useless(why)) => vec![ExtendedError::new(InfoCode::INVALID_DATA, format!("upstream {address} {why}"))],
            NoAnswer::Fault(Fault::Silent) => {
                vec![ExtendedError::new(InfoCode::NO_REACHABLE_AUTHORITY, format!("{address} does not answer"))]
            }
            NoAnswer::Fault(Fault::Network(why)) => {
                vec![ExtendedError::new(InfoCode::NETWORK_ERROR, format!("{address} cannot be reached: {why}"))]
            }
            NoAnswer::Fault(Fault::Tls(why)) => vec![ExtendedError::new(InfoCode::NETWORK_ERROR, format!("{address}: {why}"))],
            NoAnswer::Chain | NoAnswer::Fault(Fault::Spent) => Vec::new(),
        };
        for error in errors {
            if !self.errors.contains(&error) {
                self.errors.push(error);
            }
        }
    }
}
