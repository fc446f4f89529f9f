//! A lookup that is validated: drives `dnssec::walk`, answers its questions, and decides what to believe.
//!
//! Zones that earlier lookups proved are handed to the walk first. A failed verdict is about what was received, so the same
//! is tried once more: through another upstream, or else through the same with CD clear, where a validating upstream looks
//! further for answers that hold (RFC 6840 appendix B). The second try knows no zones: keys may have changed. What both may cost
//! together is bounded. An upstream that leaves signatures out never makes anything insecure; its address stands in the verdict.

use std::collections::HashSet;
use std::rc::Rc;

use crate::net::breathe::breathe;
use crate::net::clock::Certainty;
use crate::net::deadline::Deadline;
use crate::net::resolver::Generation;
use crate::net::resolver::Key;
use crate::net::resolver::Resolver;
use crate::net::resolver::ask::Answered;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::ask::Failure;
use crate::net::resolver::ask::Way;
use crate::net::resolver::ask::is_own;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::budget::Used;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::dnssec::walk::Action;
use crate::proto::dns::dnssec::walk::Input;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::dnssec::walk::Walk;
use crate::proto::dns::dnssec::walk::Zone;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Checking;
use crate::proto::dns::upstream::UpstreamAddress;

/// What an upstream that strips lets a proof miss: keys, signatures, denials.
const MISSING: [InfoCode; 3] = [InfoCode::DNSKEY_MISSING, InfoCode::RRSIGS_MISSING, InfoCode::NSEC_MISSING];

/// Which zones a walk may be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Used,
    Unused,
}

/// What walks go by, read at one moment: zones that they prove are kept only as long as nothing else is believed.
struct Basis {
    policy: Policy,
    generation: Generation,
}

/// What one upstream gave in a walk.
struct Share {
    upstream: UpstreamAddress,
    answers: usize,
    signed: usize,
}

/// One walk, and what was seen on the way.
struct Course {
    verdict: Verdict,
    shares: Vec<Share>,
    /// of upstreams
    remarks: Vec<ExtendedError>,
    /// a question of the proof was not answered, though the first was
    proof_failed: bool,
    /// The zone that failed is that of a trust anchor, and its keys were not even proved.
    anchor_failed: bool,
}

impl Resolver {
    /// The verdict about a question, neither cached nor shared.
    pub(super) async fn prove(&self, key: &Key) -> Verdict {
        let mut budget = Budget::new();
        if self.is_believing() {
            return self.believe(key, &mut budget).await;
        }
        let mut basis = Basis { policy: self.0.beliefs.borrow().policy.clone(), generation: self.0.generation.get() };
        let mut first = self.walk(key, &basis, (&Way::usual(), Memory::Used), &mut budget).await;
        if !first.is_doubtful() {
            return first.into_verdict(self);
        }
        self.0.metrics.dns_second_tries.add_one();
        basis.policy.limits = left(basis.policy.limits, first.verdict.used);
        for (way, time) in self.other_ways(&first) {
            let whole = budget.deadline;
            budget.deadline = Deadline::after(whole.left() / time);
            let second = self.walk(key, &basis, (&way, Memory::Unused), &mut budget).await;
            budget.deadline = whole;
            basis.policy.limits = left(basis.policy.limits, second.verdict.used);
            match &second.verdict.outcome {
                Outcome::Proved { .. } => {
                    first.main_source().inspect(|source| self.suspect(source));
                    return second.into_verdict(self);
                }
                Outcome::Failed(trouble) if trouble.state == TroubleState::Bogus => return worse(first, second).into_verdict(self),
                // The way was none; why, an upstream may have said.
                Outcome::Failed(trouble) => first.remarks.extend(trouble.errors.iter().filter(|error| !is_own(error)).cloned()),
            }
        }
        first.into_verdict(self)
    }

    /// How else to ask, the best first, and through how much the time that is left is divided for it.
    fn other_ways(&self, first: &Course) -> Vec<(Way, u32)> {
        let mut ways = Vec::new();
        let order = self.0.pool.borrow().order(self.now());
        // Where a question had no answer, all were asked already.
        if let (Some(suspect), false) = (first.main_source(), first.proof_failed)
            && order.iter().any(|other| other != suspect)
        {
            ways.push((Way { avoid: Some(suspect.clone()), ..Way::usual() }, 2));
        }
        ways.push((Way { checking: Checking::Enabled, ..Way::usual() }, 1));
        ways
    }

    async fn walk(&self, key: &Key, basis: &Basis, (way, memory): (&Way, Memory), budget: &mut Budget) -> Course {
        let when = self.when();
        let mut walk = Walk::new(key.clone(), &basis.policy, when);
        let mut told = HashSet::new();
        let mut course = Course::new(key);
        let mut input = Input::Continue;
        let verdict = loop {
            input = match walk.handle(input) {
                Action::Done(verdict) => break verdict,
                Action::Pause => {
                    breathe().await;
                    Input::Continue
                }
                Action::Ask { name, kind } => {
                    let known = if memory == Memory::Used { self.known_zone(&name, when, &mut told) } else { None };
                    match known {
                        Some(zone) => Input::Known(zone),
                        None => course.take(self.ask(&(name, kind), way, budget).await, kind),
                    }
                }
            };
        };
        // The walk holds the verdict too: without it there is nothing to copy.
        drop(walk);
        course.verdict = Rc::unwrap_or_clone(verdict);
        course.note_anchor(&basis.policy);
        if self.0.generation.get() == basis.generation {
            self.remember_zones(&course.verdict.chain, when);
        }
        course
    }

    /// A zone at or above `name` that was proved before, and that this walk was not told yet.
    fn known_zone(&self, name: &Name, when: When, told: &mut HashSet<Name>) -> Option<Rc<Zone>> {
        let zones = self.0.cache.borrow_mut().zones_above(name, self.now(), when.now);
        zones.into_iter().find(|zone| told.insert(zone.name.clone()))
    }

    fn remember_zones(&self, zones: &[Rc<Zone>], when: When) {
        let mut cache = self.0.cache.borrow_mut();
        zones.iter().for_each(|zone| cache.keep_zone(zone, self.now(), when.now));
    }

    /// A clock that is certainly wrong is taken to stand at the newest time that is past.
    pub(super) fn when(&self) -> When {
        let clock = &self.0.clock;
        match clock.certainty() {
            Certainty::Confirmed => When { now: clock.now(), clock: ClockTrust::Confirmed },
            Certainty::Plausible => When { now: clock.now(), clock: ClockTrust::Plausible },
            Certainty::Unknown => When { now: clock.now().max(clock.floor()), clock: ClockTrust::Plausible },
        }
    }

    /// Says whose fault a failed proof is. Where the keys of a trust anchor already fail, no zone below is to blame, and where an
    /// upstream leaves out what proofs need, its address is told.
    fn blame(&self, course: &mut Course) {
        let (source, strips) = (course.main_source().cloned(), course.is_stripped());
        let (Outcome::Failed(trouble), Some(source)) = (&mut course.verdict.outcome, source) else { return };
        if trouble.state == TroubleState::Indeterminate {
            // All were asked.
            let order = self.0.pool.borrow().order(self.now());
            if course.proof_failed && order.iter().all(|upstream| self.is_unfit(upstream).is_some()) {
                trouble.cause = TroubleCause::Ours;
            }
            return;
        }
        self.suspect(&source);
        if course.anchor_failed {
            trouble.cause = TroubleCause::Ours;
        }
        let unfit = self.is_unfit(&source);
        let complaint = unfit.as_deref().or(strips.then_some("gives no signatures"));
        if let (Some(complaint), Some(error)) = (complaint, trouble.errors.first_mut())
            && MISSING.contains(&error.code)
        {
            error.text = format!("{} (upstream {source} {complaint})", error.text);
            if unfit.is_some() {
                trouble.cause = TroubleCause::Ours;
            }
            course.verdict.errors.splice(..1, [error.clone()]);
        }
        course.verdict.reason = trouble.to_string();
    }
}

/// Of two that failed, the second bogus, the one to report: one that is bogus, and whose upstream did not leave signatures out.
fn worse(first: Course, second: Course) -> Course {
    let first_tells_less = first.proof_failed || first.is_stripped() && !second.is_stripped();
    let (mut kept, other) = if first_tells_less { (second, first) } else { (first, second) };
    kept.remarks.extend(other.remarks);
    kept
}

/// A second try has what the first left over (`resolver.md`, proving 9: the limits are those of the whole lookup).
fn left(limits: Limits, used: Used) -> Limits {
    Limits {
        failures: limits.failures.saturating_sub(used.failures),
        units: limits.units.saturating_sub(used.units),
        hashes: limits.hashes.saturating_sub(used.hashes),
        questions: limits.questions.saturating_sub(used.questions),
        ..limits
    }
}

impl Course {
    fn new((name, _): &Key) -> Course {
        let verdict = Verdict::failed(name.clone(), Trouble::indeterminate(""));
        Course { verdict, shares: Vec::new(), remarks: Vec::new(), proof_failed: false, anchor_failed: false }
    }

    /// What the walk needs to know; the rest is noted.
    fn take(&mut self, asked: Result<Rc<Answered>, Failure>, kind: RecordType) -> Input {
        let answered = match asked {
            Ok(answered) => answered,
            Err(failure) => {
                self.proof_failed |= matches!(kind, RecordType::DS | RecordType::DNSKEY) && !self.shares.is_empty();
                return Input::Failed(failure.to_trouble());
            }
        };
        let received = Received::of(&answered.message());
        let signed = received.answer.iter().chain(&received.authority).any(|set| !set.signatures.is_empty());
        let at = self.shares.iter().position(|share| share.upstream == answered.from).unwrap_or(self.shares.len());
        if at == self.shares.len() {
            self.shares.push(Share { upstream: answered.from.clone(), answers: 0, signed: 0 });
        }
        self.shares[at].answers += 1;
        self.shares[at].signed += usize::from(signed);
        self.remarks.extend(answered.remarks.iter().cloned());
        Input::Answer(received)
    }

    fn note_anchor(&mut self, policy: &Policy) {
        let Outcome::Failed(Trouble { zone: Some(zone), .. }) = &self.verdict.outcome else { return };
        let proved = self.verdict.chain.iter().any(|known| known.name == *zone);
        self.anchor_failed = policy.anchors.positive(zone).is_some() && !proved;
    }

    /// Who gave most of the answers.
    fn main_source(&self) -> Option<&UpstreamAddress> {
        self.shares.iter().max_by_key(|share| share.answers).map(|share| &share.upstream)
    }

    /// Whether the upstream gave no signature at all, though some must be there.
    fn is_stripped(&self) -> bool {
        self.shares.iter().max_by_key(|share| share.answers).is_some_and(|share| share.signed == 0)
    }

    /// Whether the answers, not the zone, may be what is wrong.
    fn is_doubtful(&self) -> bool {
        match &self.verdict.outcome {
            Outcome::Proved { .. } => false,
            Outcome::Failed(trouble) => trouble.state == TroubleState::Bogus || self.proof_failed,
        }
    }

    fn into_verdict(mut self, resolver: &Resolver) -> Verdict {
        resolver.blame(&mut self);
        let Course { mut verdict, remarks, .. } = self;
        for remark in remarks {
            if !verdict.errors.contains(&remark) {
                verdict.errors.push(remark);
            }
        }
        verdict
    }
}
