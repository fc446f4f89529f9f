//! A lookup that is proved, as a machine: one `Input` in, one `Action` out.
//!
//! The walk asks the question itself, then what its proof needs: DS and DNSKEY records, and the targets of CNAMEs that the
//! answer does not reach. Questions are to be asked of a recursive resolver with CD and DO. The driver may answer a question for DS or
//! DNSKEY of a zone with `Known`, when an earlier walk proved that zone; `Verdict::chain` holds what this one proved.
//! `Pause` says that others shall run before `Input::Continue`. After `Done` every input gives `Done` again.
//! A bogus verdict is about what was received: the driver tries once more elsewhere before it believes it.

use std::rc::Rc;

use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::budget::Budget;
use crate::proto::dns::dnssec::budget::Halt;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::budget::Used;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::chain;
use crate::proto::dns::dnssec::chain::MAX_NEGATIVE_TTL;
use crate::proto::dns::dnssec::chain::MAX_TTL;
use crate::proto::dns::dnssec::chain::Prover;
use crate::proto::dns::dnssec::chain::Stop;
use crate::proto::dns::dnssec::denial::Finding;
use crate::proto::dns::dnssec::denial::WildcardProof;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::dnssec::rrset::RrSet;
use crate::proto::dns::dnssec::rrsig::Source;
use crate::proto::dns::lookup::Answer;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Link;
use crate::proto::dns::lookup::Proof;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::name::Builder;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::rdata::Record;
use crate::proto::dns::reader::RawRecord;

pub use crate::proto::dns::dnssec::chain::Trust;
pub use crate::proto::dns::dnssec::chain::Zone;

/// What is believed and how hard is worked; shared by all walks.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub anchors: Rc<Anchors>,
    pub sha1: Sha1,
    pub limits: Limits,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// the first input, and the one behind `Pause`
    Continue,
    /// to the question of `Ask`
    Answer(Received),
    /// no answer to the question of `Ask`
    Failed(Trouble),
    /// a zone that another walk proved: at the beginning, or instead of `Answer`
    Known(Rc<Zone>),
}

/// What the driver must do before it may call again.
#[derive(Debug)]
pub enum Action {
    /// answer with `Answer`, `Failed`, or `Known`
    Ask {
        name: Name,
        kind: RecordType,
    },
    /// let others run, then `Continue`
    Pause,
    Done(Rc<Verdict>),
}

/// What there is at the end of the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// at least one
    Records(Vec<RawRecord>),
    NoData,
    NoSuchName,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// `proof` is of the end alone: the links have their own.
    Proved {
        proof: Proof,
        found: Found,
    },
    Failed(Trouble),
}

/// The end of a walk.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub outcome: Outcome,
    /// the end of the CNAMEs; the name asked for if there are none
    pub owner: Name,
    pub links: Vec<Link>,
    /// the CNAMEs of the links, those that a DNAME made too
    pub link_records: Vec<RawRecord>,
    /// seconds for which all of it holds; 0 of a failure
    pub ttl: u32,
    /// the zones that the proof met, the root first
    pub chain: Vec<Rc<Zone>>,
    pub errors: Vec<ExtendedError>,
    /// a sentence without its full stop
    pub reason: String,
    pub used: Used,
}

impl Verdict {
    /// The state of the whole: a link that is not secure makes the answer insecure.
    pub fn state(&self) -> ValidationState {
        match &self.outcome {
            Outcome::Failed(trouble) => trouble.state(),
            Outcome::Proved { proof: Proof::Secure, .. } if self.links.iter().all(|link| link.state == ValidationState::Secure) => {
                ValidationState::Secure
            }
            Outcome::Proved { .. } => ValidationState::Insecure,
        }
    }

    /// As a validating resolver would answer.
    pub fn rcode(&self) -> Rcode {
        match &self.outcome {
            Outcome::Failed(_) => Rcode::SERV_FAIL,
            Outcome::Proved { found: Found::NoSuchName, .. } => Rcode::NX_DOMAIN,
            Outcome::Proved { found: Found::Records(_) | Found::NoData, .. } => Rcode::NO_ERROR,
        }
    }
}

impl Verdict {
    /// No answer, and nothing known about the way to it.
    pub fn failed(owner: Name, trouble: Trouble) -> Verdict {
        Verdict {
            owner,
            links: Vec::new(),
            link_records: Vec::new(),
            ttl: 0,
            chain: Vec::new(),
            errors: trouble.errors.clone(),
            reason: trouble.to_string(),
            used: Used::default(),
            outcome: Outcome::Failed(trouble),
        }
    }

    /// As `Lookup` gives it. The proof is that of the whole, links included.
    pub fn to_answer<R: Record>(&self) -> Answer<R> {
        let owner = self.owner.clone();
        let answer = match &self.outcome {
            Outcome::Failed(trouble) => Answer::failed(owner, trouble.clone()),
            Outcome::Proved { found, .. } => {
                let proof = if self.state() == ValidationState::Secure { Proof::Secure } else { Proof::Insecure };
                match found {
                    Found::NoData => Answer::no_data(owner, proof),
                    Found::NoSuchName => Answer::no_such_name(owner, proof),
                    Found::Records(raw) => {
                        let records: Vec<R> = raw.iter().filter_map(|record| R::decode(&Rdata::alone(&record.rdata))).collect();
                        if records.is_empty() {
                            // There are some: they must not look like none.
                            Answer::failed(owner, Trouble::indeterminate(format!("the {} records cannot be read", R::TYPE)))
                        } else {
                            Answer::records(owner, proof, records)
                        }
                    }
                }
            }
        };
        answer.with_links(self.links.clone()).with_note(self.reason.clone())
    }
}

/// How one set or one denial was proved.
struct Proved {
    proof: Proof,
    /// seconds
    ttl: u32,
    error: Option<ExtendedError>,
}

/// The end of the links.
struct End {
    proved: Proved,
    found: Found,
}

/// One lookup.
#[derive(Debug)]
pub struct Walk {
    prover: Prover,
    question: Name,
    kind: RecordType,
    /// the last name
    owner: Name,
    /// whose answer is read; the owner, or a name before it
    source: Name,
    links: Vec<Link>,
    link_records: Vec<RawRecord>,
    errors: Vec<ExtendedError>,
    ttl: u32,
    asking: Option<(Name, RecordType)>,
    verdict: Option<Rc<Verdict>>,
}

impl Walk {
    pub fn new((name, kind): (Name, RecordType), policy: &Policy, when: When) -> Walk {
        let budget = Budget::new(policy.limits);
        Walk {
            prover: Prover::new(Rc::clone(&policy.anchors), (when, policy.sha1), budget),
            question: name.clone(),
            kind,
            owner: name.clone(),
            source: name,
            links: Vec::new(),
            link_records: Vec::new(),
            errors: Vec::new(),
            ttl: u32::MAX,
            asking: None,
            verdict: None,
        }
    }

    /// Takes what happened and says what to do. An answer that nothing was asked for is dropped.
    pub fn handle(&mut self, input: Input) -> Action {
        if let Some(verdict) = &self.verdict {
            return Action::Done(Rc::clone(verdict));
        }
        match input {
            Input::Answer(received) => {
                if let Some(question) = self.asking.take() {
                    if let Err(halt) = self.prover.budget.keep(received.size()) {
                        return self.stop(halt.into());
                    }
                    self.prover.learn(question, Ok(received));
                }
            }
            Input::Failed(trouble) => {
                if let Some(question) = self.asking.take() {
                    self.prover.learn(question, Err(trouble));
                }
            }
            Input::Known(zone) => self.prover.know(zone),
            Input::Continue => {}
        }
        self.prover.budget.resume();
        match self.run() {
            Ok(end) => self.done(Ok(end)),
            Err(stop) => self.stop(stop),
        }
    }

    fn stop(&mut self, stop: Stop) -> Action {
        match stop {
            Stop::Ask(name, kind) => {
                let question = (name.clone(), kind);
                // Asked again behind `Known` it is the same question.
                if self.asking.as_ref() != Some(&question) {
                    if let Err(halt) = self.prover.budget.ask() {
                        return self.stop(halt.into());
                    }
                    self.asking = Some(question);
                }
                Action::Ask { name, kind }
            }
            Stop::Pause => Action::Pause,
            Stop::Fail(trouble) => self.done(Err(*trouble)),
        }
    }

    fn done(&mut self, end: Result<End, Trouble>) -> Action {
        let mut verdict = Verdict {
            outcome: Outcome::Failed(Trouble::indeterminate("")),
            owner: self.owner.clone(),
            links: std::mem::take(&mut self.links),
            link_records: std::mem::take(&mut self.link_records),
            ttl: 0,
            chain: self.prover.zones(),
            errors: std::mem::take(&mut self.errors),
            reason: String::new(),
            used: self.prover.budget.used(),
        };
        match end {
            Err(trouble) => {
                verdict.errors.splice(0..0, trouble.errors.iter().cloned());
                verdict.outcome = Outcome::Failed(trouble);
            }
            Ok(End { proved, found }) => {
                let most = if matches!(found, Found::Records(_)) { MAX_TTL } else { MAX_NEGATIVE_TTL };
                verdict.ttl = self.ttl.min(proved.ttl).min(most);
                verdict.errors.extend(proved.error);
                verdict.outcome = Outcome::Proved { proof: proved.proof, found };
            }
        }
        verdict.errors.dedup();
        verdict.reason = reason(&verdict);
        let verdict = Rc::new(verdict);
        self.verdict = Some(Rc::clone(&verdict));
        Action::Done(verdict)
    }

    fn run(&mut self) -> Result<End, Stop> {
        loop {
            match self.step() {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                // What came along with the answer for another name may be incomplete: ask for the name itself.
                Err(Stop::Fail(_)) if self.source != self.owner => self.source = self.owner.clone(),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Follows one link, or finds the end. Nothing changes before all of it is proved.
    fn step(&mut self) -> Result<Option<End>, Stop> {
        let reply = self.prover.hear(&self.source, self.kind)?;
        let owner = self.owner.clone();
        if self.kind == RecordType::RRSIG {
            let text = "RRSIG records are proofs, and cannot be proved by themselves";
            return Err(chain::fail(TroubleState::Indeterminate, InfoCode::OTHER, text, None));
        }
        if self.kind == RecordType::ANY {
            return self.anything(&reply);
        }
        // Below a DNAME there is nothing but what it makes (RFC 6672 section 2.4).
        if let Some(dname) = reply.dname_above(&owner).filter(|dname| self.prover.may_rule(&dname.owner, &owner)) {
            let target = dname.target().and_then(|target| substitute(&owner, &dname.owner, &target));
            return self.follow(dname, target, &reply);
        }
        if let Some(set) = reply.set(&owner, self.kind) {
            let proved = self.prove_set(set, &reply)?;
            let records = set.records(proved.ttl).collect();
            return Ok(Some(End { proved, found: Found::Records(records) }));
        }
        if let Some(cname) = reply.set(&owner, RecordType::CNAME) {
            return self.follow(cname, cname.target(), &reply);
        }
        if self.source != owner && reply.soa(&owner).is_none() {
            // The answer stops at a CNAME.
            self.source = owner;
            return Ok(None);
        }
        self.deny(&reply).map(Some)
    }

    /// All sets at the name (RFC 8482: a server may leave some out). CNAMEs are not followed.
    fn anything(&mut self, reply: &Received) -> Result<Option<End>, Stop> {
        let owner = self.owner.clone();
        let mut all = Proved { proof: Proof::Secure, ttl: u32::MAX, error: None };
        let mut records = Vec::new();
        if reply.answer.len() > self.prover.budget.limits().records_per_set {
            return Err(Halt::Exhausted("the answer has too many RRsets").into());
        }
        for set in reply.answer.iter().filter(|set| set.owner == owner) {
            let proved = self.prove_set(set, reply)?;
            records.extend(set.records(proved.ttl));
            if proved.proof == Proof::Insecure {
                all.proof = Proof::Insecure;
            }
            all = Proved { ttl: all.ttl.min(proved.ttl), error: all.error.or(proved.error), ..all };
        }
        if records.is_empty() {
            return self.deny(reply).map(Some);
        }
        Ok(Some(End { proved: all, found: Found::Records(records) }))
    }

    /// Goes on at `target` once `set` is proved. A CNAME that a DNAME made is made again, not believed.
    fn follow(&mut self, set: &RrSet, target: Option<Name>, reply: &Received) -> Result<Option<End>, Stop> {
        let proved = self.prove_set(set, reply)?;
        let wrong = |text: &str| chain::fail(TroubleState::Indeterminate, InfoCode::INVALID_DATA, text, Some(&set.owner));
        let Some(to) = target else {
            return Err(wrong("the CNAME or DNAME does not lead to one name"));
        };
        let cname = RawRecord { owner: self.owner.clone(), rtype: RecordType::CNAME, ttl: proved.ttl, rdata: to.as_wire().to_vec() };
        if self.kind == RecordType::CNAME {
            // Asked for the CNAME itself, below a DNAME.
            return Ok(Some(End { proved, found: Found::Records(vec![cname]) }));
        }
        if self.links.len() == MAX_LINKS || to == self.question || to == self.owner || self.links.iter().any(|link| link.to == to) {
            return Err(wrong("the CNAMEs go round, or have more than 11 links"));
        }
        let state = match proved.proof {
            Proof::Secure => ValidationState::Secure,
            Proof::Insecure => ValidationState::Insecure,
        };
        self.ttl = self.ttl.min(proved.ttl);
        self.errors.extend(proved.error);
        self.link_records.push(cname);
        let from = std::mem::replace(&mut self.owner, to.clone());
        self.links.push(Link { from, to, state });
        Ok(None)
    }

    /// The DS of a zone stands in its parent (RFC 4035 section 2.4).
    fn base(&self, owner: &Name, kind: RecordType) -> Name {
        if kind == RecordType::DS { owner.parent().unwrap_or_else(Name::root) } else { owner.clone() }
    }

    /// How a set of the answer section is proved; fails if it is bogus.
    fn prove_set(&mut self, set: &RrSet, reply: &Received) -> Result<Proved, Stop> {
        let base = self.base(&set.owner, set.kind);
        let zone = self.prover.zone_for(&base, set.signatures.iter().map(|signature| &signature.signer))?;
        if let Trust::Insecure { error, .. } = &zone.trust {
            return Ok(Proved { proof: Proof::Insecure, ttl: set.ttl, error: error.clone() });
        }
        let verified = self.prover.check(set, &zone)?.map_err(|fault| chain::fault_of(fault, set, &zone.name))?;
        let Source::Wildcard(encloser) = &verified.source else {
            return Ok(Proved { proof: Proof::Secure, ttl: verified.ttl, error: None });
        };
        let gathered = self.prover.gather(reply, &zone)?;
        let ttl = verified.ttl;
        let names = (&set.owner, encloser);
        match gathered.proofs.only_wildcard(&zone.name, names, &mut self.prover.budget)? {
            WildcardProof::Proved => Ok(Proved { proof: Proof::Secure, ttl, error: None }),
            WildcardProof::OptOut => Ok(Proved { proof: Proof::Insecure, ttl, error: None }),
            WildcardProof::Iterations(n) => Ok(Proved { proof: Proof::Insecure, ttl, error: Some(chain::iterations_error(n)) }),
            WildcardProof::Unproved(why) => Err(chain::unproved(&gathered, why, (&set.owner, set.kind), &zone.name)),
        }
    }

    /// How it is proved that there is nothing of the type at the last name; fails if it is not.
    fn deny(&mut self, reply: &Received) -> Result<End, Stop> {
        let owner = self.owner.clone();
        let base = self.base(&owner, self.kind);
        let signers = reply.denials().flat_map(|set| &set.signatures).map(|signature| &signature.signer);
        let zone = self.prover.zone_for(&base, signers)?;
        let said = if reply.rcode == Rcode::NX_DOMAIN { Found::NoSuchName } else { Found::NoData };
        let soa_ttl = reply.soa(&owner).map_or(0, |soa| {
            // RFC 2308 section 5: the TTL of the SOA, and its last field.
            let minimums = soa.data.iter().filter_map(|data| data.last_chunk::<4>()).map(|octets| u32::from_be_bytes(*octets));
            minimums.min().unwrap_or(0).min(soa.ttl)
        });
        if let Trust::Insecure { error, .. } = &zone.trust {
            return Ok(End { proved: Proved { proof: Proof::Insecure, ttl: soa_ttl, error: error.clone() }, found: said });
        }
        let gathered = self.prover.gather(reply, &zone)?;
        let ttl = soa_ttl.min(gathered.proofs.ttl.unwrap_or(0));
        let end = |proof, found, error| Ok(End { proved: Proved { proof, ttl, error }, found });
        match gathered.proofs.deny(&zone.name, (&owner, self.kind), &mut self.prover.budget)? {
            // Less than it could say is still a denial.
            Finding::NoSuchName => end(Proof::Secure, said, None),
            Finding::NxName => end(Proof::Secure, Found::NoSuchName, None),
            Finding::NoData if said == Found::NoData => end(Proof::Secure, said, None),
            Finding::NoData => {
                let text = format!("{owner} is said not to exist, and the proof says that it does");
                Err(chain::fail(TroubleState::Bogus, InfoCode::NSEC_MISSING, text, Some(&zone.name)))
            }
            Finding::OptOut => end(Proof::Insecure, said, None),
            Finding::Iterations(n) => end(Proof::Insecure, said, Some(chain::iterations_error(n))),
            Finding::Unproved(why) => Err(chain::unproved(&gathered, why, (&owner, self.kind), &zone.name)),
        }
    }
}

/// RFC 6672 section 2.2: `name` with `owner` at its end replaced by `target`; `None` if that is too long.
fn substitute(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let kept = canonical::label_count(name) - canonical::label_count(owner);
    let mut builder = Builder::new();
    for label in name.labels().take(kept).chain(target.labels()) {
        builder.push(label).ok()?;
    }
    Some(builder.finish())
}

/// The verdict in words, for people.
fn reason(verdict: &Verdict) -> String {
    let unsigned = verdict.chain.iter().rev().find_map(|zone| match &zone.trust {
        Trust::Insecure { why, .. } => Some(format!("{}: {why}", zone.name)),
        Trust::Keys { .. } => None,
    });
    match (&verdict.outcome, verdict.state()) {
        (Outcome::Failed(trouble), _) => trouble.to_string(),
        (_, ValidationState::Secure) => "every signature from the trust anchor to the answer holds".into(),
        (_, _) => unsigned.unwrap_or_else(|| match verdict.errors.first() {
            Some(error) => error.to_string(),
            None => "the zone leaves unsigned names out of its proofs (opt-out)".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
