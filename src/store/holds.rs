//! Rules that hold mail back: recipients that match one are queued, but not tried until somebody releases them.
//!
//! The fields that are set are ANDed; one that is not set matches everything. An empty sender matches only the null
//! reverse-path (lesson D12: elsewhere it matched every sender). A rule is looked at when a message is queued, and once
//! for what waits already when it is made (`apply`); removing it releases nothing.

use std::fmt;
use std::ops::Bound;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::mail::path::ReversePath;
use crate::store::codec;
use crate::store::codec::Row;
use crate::store::codec::hold_key;
use crate::store::errors::Error;
use crate::store::ids::AccountId;
use crate::store::ids::HoldId;
use crate::store::ids::QueueId;
use crate::store::queue;
use crate::store::queue::Event;
use crate::store::queue::Queued;
use crate::store::txn::Counter;
use crate::store::txn::Existed;
use crate::store::txn::PAGE;
use crate::store::txn::Reader;
use crate::store::txn::Writer;

/// Each message that is queued is compared with all of them.
const MAX_RULES: usize = 100;

/// Which senders a rule means.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub enum Sender {
    /// notices, whose reverse-path is null
    Null,
    Address(Address),
    Domain(Domain),
}

/// What is held back. Nothing set: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct HoldRule {
    pub sender: Option<Sender>,
    pub recipient: Option<Address>,
    pub recipient_domain: Option<Domain>,
    /// the account that handed it in
    pub account: Option<AccountId>,
    pub created: UnixTime,
}

impl Row for HoldRule {
    const WHAT: &'static str = "a hold row";
}

impl HoldRule {
    fn matches(&self, message: &Queued, to: &Address) -> Verdict {
        let sender = self.sender.as_ref().is_none_or(|sender| match (sender, &message.reverse_path) {
            (Sender::Null, ReversePath::Null) => true,
            (Sender::Address(wanted), ReversePath::Address(from)) => wanted.folded() == from.folded(),
            (Sender::Domain(wanted), ReversePath::Address(from)) => *wanted == from.domain,
            (Sender::Null, ReversePath::Address(_)) | (Sender::Address(_) | Sender::Domain(_), ReversePath::Null) => false,
        });
        let recipient = self.recipient.as_ref().is_none_or(|wanted| wanted.folded() == to.folded());
        let domain = self.recipient_domain.as_ref().is_none_or(|wanted| *wanted == to.domain);
        let account = self.account.is_none_or(|wanted| message.sender == Some(wanted));
        if sender && recipient && domain && account { Verdict::Held } else { Verdict::Passes }
    }
}

/// What the rule is about, in words: `from ann@example.org, to the domain example.net`.
impl fmt::Display for HoldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match &self.sender {
            None => {}
            Some(Sender::Null) => parts.push("from the null sender".to_owned()),
            Some(Sender::Address(address)) => parts.push(format!("from {address}")),
            Some(Sender::Domain(domain)) => parts.push(format!("from the domain {domain}")),
        }
        parts.extend(self.account.map(|account| format!("handed in by account {account}")));
        parts.extend(self.recipient.as_ref().map(|address| format!("to {address}")));
        parts.extend(self.recipient_domain.as_ref().map(|domain| format!("to the domain {domain}")));
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(", ")) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Held,
    Passes,
}

/// `Withdrawn` if there are too many rules.
pub fn add(w: &mut Writer<'_>, rule: &HoldRule) -> Result<HoldId, Error> {
    if all(&w.reader())?.len() >= MAX_RULES {
        return Err(Error::Withdrawn(format!("there are {MAX_RULES} rules already, more would slow down every message")));
    }
    let id = HoldId(w.next(Counter::Hold)?);
    w.put(w.tables.hold, &hold_key(id), rule)?;
    Ok(id)
}

/// All rules, oldest first.
pub fn list(r: &Reader<'_>) -> Result<Vec<(HoldId, HoldRule)>, Error> {
    all(r)
}

/// The rule that was removed. `None`: there was none.
pub fn remove(w: &mut Writer<'_>, id: HoldId) -> Result<Option<HoldRule>, Error> {
    let Some(rule) = w.row::<HoldRule>(w.tables.hold, &hold_key(id))? else { return Ok(None) };
    match w.delete(w.tables.hold, &hold_key(id))? {
        Existed::Yes => Ok(Some(rule)),
        Existed::No => Ok(None),
    }
}

/// How far `apply` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// recipients that are held now and were not before
    pub held: u64,
    /// where to go on; `None`: all were looked at
    pub next: Option<(QueueId, u32)>,
}

/// Holds what waits already and matches a rule; looks at a page of recipients behind `after`.
pub fn apply(w: &mut Writer<'_>, id: HoldId, after: Option<(QueueId, u32)>, now: UnixTime) -> Result<Applied, Error> {
    let Some(rule) = w.row::<HoldRule>(w.tables.hold, &hold_key(id))? else { return Ok(Applied { held: 0, next: None }) };
    let page = queue::recipients_after(&w.reader(), after, PAGE)?;
    let mut held = 0;
    for (message_id, n, recipient) in &page {
        let message = match queue::get(&w.reader(), *message_id) {
            Ok(Some(message)) => message,
            // One that is damaged is not tried anyway.
            Ok(None) | Err(Error::Damaged(_)) => continue,
            Err(error) => return Err(error),
        };
        if rule.matches(&message, &recipient.address) == Verdict::Passes || recipient.state != queue::RecipientState::Waiting {
            continue;
        }
        let why = reason(id, &rule);
        let event = Event { at: now, what: format!("held by {why}") };
        held += u64::from(queue::hold(w, *message_id, *n, why, event)? == queue::Steered::Done);
    }
    let last = page.last().map(|(message_id, n, _)| (*message_id, *n));
    Ok(Applied { held, next: last.filter(|_| page.len() == PAGE) })
}

pub(super) fn all(r: &Reader<'_>) -> Result<Vec<(HoldId, HoldRule)>, Error> {
    let rows = r.from(r.tables.hold, Bound::Unbounded)?;
    rows.map(|row| {
        let (key, value) = row?;
        Ok((HoldId(codec::u64_at(key, 0)?), codec::decode(value)?))
    })
    .collect()
}

/// Why a recipient is held: the first rule that names it.
pub(super) fn first_match(rules: &[(HoldId, HoldRule)], message: &Queued, to: &Address) -> Option<String> {
    rules.iter().find(|(_, rule)| rule.matches(message, to) == Verdict::Held).map(|(id, rule)| reason(*id, rule))
}

fn reason(id: HoldId, rule: &HoldRule) -> String {
    format!("hold rule {id} ({rule})")
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::store::queue::RecipientState;
    use crate::store::testing::Scratch;
    use crate::store::testing::queue_one;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    /// Whether the rule holds a message from `from` ("" for null), handed in by account 7, to bob@example.net.
    fn holds(rule: &HoldRule, from: &str) -> bool {
        let scratch = Scratch::new();
        let store = scratch.open();
        let id = queue_one(&store, 1, &["x@x.org"]);
        let mut message = store.read(|r| queue::get(r, id)).unwrap().unwrap();
        message.reverse_path = if from.is_empty() { ReversePath::Null } else { ReversePath::Address(address(from)) };
        message.sender = Some(AccountId(7));
        rule.matches(&message, &address("Bob@example.net")) == Verdict::Held
    }

    #[test]
    fn set_fields_are_anded_and_an_empty_sender_is_only_the_null_one() {
        let all = HoldRule::default();
        let from = |sender| HoldRule { sender: Some(sender), ..HoldRule::default() };
        let rows = [
            (all.clone(), [true, true]),
            (from(Sender::Null), [false, true]),
            (from(Sender::Address(address("ANN@example.org"))), [true, false]),
            (from(Sender::Address(address("eve@example.org"))), [false, false]),
            (from(Sender::Domain(domain("example.org"))), [true, false]),
            (from(Sender::Domain(domain("example.net"))), [false, false]),
            (HoldRule { recipient: Some(address("bob@example.net")), ..all.clone() }, [true, true]),
            (HoldRule { recipient: Some(address("bob@example.org")), ..all.clone() }, [false, false]),
            (HoldRule { recipient_domain: Some(domain("example.net")), ..all.clone() }, [true, true]),
            (HoldRule { account: Some(AccountId(7)), ..all.clone() }, [true, true]),
            (HoldRule { account: Some(AccountId(8)), ..all }, [false, false]),
            (HoldRule { recipient_domain: Some(domain("example.net")), ..from(Sender::Null) }, [false, true]),
            (HoldRule { recipient_domain: Some(domain("example.org")), ..from(Sender::Null) }, [false, false]),
        ];
        for (rule, wanted) in rows {
            assert_eq!([holds(&rule, "ann@example.org"), holds(&rule, "")], wanted, "{rule}");
        }
    }

    #[test]
    fn rules_are_bounded_and_hold_by_pages() {
        let scratch = Scratch::new();
        let store = scratch.open();
        for id in 1..=120 {
            queue_one(&store, id, &["a@x.org", "b@y.org"]);
        }
        let rule = HoldRule { recipient_domain: Some(domain("x.org")), ..HoldRule::default() };
        let id = block_on(store.write(move |w| add(w, &rule))).unwrap();
        let (mut after, mut held) = (None, 0);
        loop {
            let applied = block_on(store.write(move |w| apply(w, id, after, UnixTime(500)))).unwrap();
            held += applied.held;
            after = applied.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((held, store.read(queue::counts).unwrap().held), (120, 120));
        let new = queue_one(&store, 999, &["c@x.org"]);
        let why = "hold rule 1 (to the domain x.org)".to_owned();
        assert_eq!(store.read(|r| queue::recipient(r, new, 0)).unwrap().unwrap().state, RecipientState::Held(why));
        for _ in 1..MAX_RULES {
            block_on(store.write(|w| add(w, &HoldRule::default()))).unwrap();
        }
        assert!(matches!(block_on(store.write(|w| add(w, &HoldRule::default()))), Err(Error::Withdrawn(_))));
        assert_eq!(store.read(crate::store::check::everything).unwrap(), []);
    }
}
