//! A lookup that another validator on this machine has validated (`dns.trust-ad`, `resolver.md`, proving 11).
//!
//! AD says secure, an answer without it is insecure: it is the upstream that says so. SERVFAIL is asked again with CD to tell
//! bogus answers from none. Nothing of this happens unless every upstream is on this machine.

use crate::net::resolver::Key;
use crate::net::resolver::Resolver;
use crate::net::resolver::ask::Answered;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::ask::Failure;
use crate::net::resolver::ask::Way;
use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::dnssec::chain::MAX_NEGATIVE_TTL;
use crate::proto::dns::dnssec::chain::MAX_TTL;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::lookup::Link;
use crate::proto::dns::lookup::Proof;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::lookup::TroubleState;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::question::Checking;
use crate::proto::dns::response;
use crate::proto::dns::response::End;
use crate::proto::dns::response::ResponseFault;

const BELIEVING: Way = Way { checking: Checking::Enabled, avoid: None };

impl Resolver {
    /// The upstream's verdict.
    pub(super) async fn believe(&self, (name, kind): &Key, budget: &mut Budget) -> Verdict {
        let mut verdict = Verdict { ttl: u32::MAX, errors: Vec::new(), ..Verdict::failed(name.clone(), Trouble::indeterminate("")) };
        loop {
            let question = (verdict.owner.clone(), *kind);
            let answered = match self.ask(&question, &BELIEVING, budget).await {
                Ok(answered) => answered,
                Err(failure) => return failed(verdict, self.bogus_or_broken(&question, failure, budget).await),
            };
            if !answered.from.is_loopback() {
                // Others were set in the middle of the lookup: the word of one that is elsewhere counts for nothing.
                return failed(verdict, Trouble::unreachable("the resolvers have changed meanwhile"));
            }
            match add(&mut verdict, &answered, &question) {
                Ok(Some((proof, found))) => {
                    let most = if matches!(found, Found::Records(_)) { MAX_TTL } else { MAX_NEGATIVE_TTL };
                    verdict.ttl = verdict.ttl.min(most);
                    verdict.outcome = Outcome::Proved { proof, found };
                    verdict.reason = format!("the resolver {} says so (dns.trust-ad)", answered.from);
                    return verdict;
                }
                Ok(None) => {}
                Err(fault) => return failed(verdict, Trouble::indeterminate(fault.to_string())),
            }
        }
    }

    /// Why the upstream gives no answer: what it holds to be bogus it gives to who asks with CD.
    async fn bogus_or_broken(&self, question: &Key, failure: Failure, budget: &mut Budget) -> Trouble {
        let mut trouble = failure.to_trouble();
        if failure.is_server_failure()
            && let Ok(unchecked) = self.ask(question, &Way::usual(), budget).await
        {
            let text = format!("the resolver {} holds the answer to be bogus", unchecked.from);
            trouble.errors.insert(0, ExtendedError::new(InfoCode::DNSSEC_BOGUS, text));
            (trouble.state, trouble.cause) = (TroubleState::Bogus, TroubleCause::Zone);
        }
        trouble
    }
}

fn failed(verdict: Verdict, trouble: Trouble) -> Verdict {
    let Verdict { owner, links, link_records, errors, .. } = verdict;
    let errors = [trouble.errors.clone(), errors].concat();
    Verdict { links, link_records, errors, ..Verdict::failed(owner, trouble) }
}

/// Follows the links of an answer; `None` if it does not reach their end.
fn add(verdict: &mut Verdict, answered: &Answered, (name, kind): &Key) -> Result<Option<(Proof, Found)>, ResponseFault> {
    let message = answered.message();
    let response = response::understand(&message, name, *kind)?;
    let (proof, state) = match message.is_authentic() {
        true => (Proof::Secure, ValidationState::Secure),
        false => (Proof::Insecure, ValidationState::Insecure),
    };
    verdict.ttl = verdict.ttl.min(response.ttl);
    verdict.errors.extend(answered.remarks.iter().cloned());
    verdict.owner = response.owner;
    let mut records = response.records;
    let at_end = records.split_off(response.links.len());
    verdict.link_records.extend(records);
    verdict.links.extend(response.links.into_iter().map(|(from, to)| Link { from, to, state }));
    if verdict.links.len() > MAX_LINKS || verdict.links.iter().any(|link| link.from == verdict.owner) {
        return Err(ResponseFault::Chain);
    }
    Ok(match response.end {
        End::Records => Some((proof, Found::Records(at_end))),
        End::NoData => Some((proof, Found::NoData)),
        End::NoSuchName => Some((proof, Found::NoSuchName)),
        End::Open => None,
    })
}
