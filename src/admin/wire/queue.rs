//! The queue's part of the control socket: what can be asked of it, and the rows of its answers.
//!
//! A message is named by its 13 letters, one recipient of it by `LETTERS/n`, counted from 1 as people count.

#![expect(clippy::question_mark, reason = "nanoserde's derive writes its errors out in full")]

use std::fmt;

use nanoserde::DeJson;
use nanoserde::SerJson;

use crate::admin::wire::BadRequest;
use crate::admin::wire::Request;
use crate::admin::wire::missing;
use crate::mail::address::Address;
use crate::mail::domain::Domain;
use crate::store::HoldId;
use crate::store::QueueId;
use crate::store::holds::Sender;

/// Verbs with these beginnings are read here.
pub(super) const VERBS: [&str; 2] = ["queue.", "hold."];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    List,
    Show { id: QueueId },
    Steer { verb: Verb, whom: Whom },
    HoldAdd(HoldFields),
    HoldList,
    HoldRemove { id: HoldId },
}

/// What can be done to a recipient that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// try it now
    Retry,
    /// do not try it until it is released
    Hold,
    Release,
    /// give up, with a notice to the sender
    Fail,
    /// give up, without
    Drop,
}

/// To whom it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Picked(Vec<Picked>),
    /// every recipient with this domain
    Domain(Domain),
    All,
}

/// A message, or one recipient of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub id: QueueId,
    /// as the store counts: from 0
    pub n: Option<u32>,
}

/// The fields of a new rule; what is not set matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldFields {
    pub sender: Option<Sender>,
    pub recipient: Option<Address>,
    pub recipient_domain: Option<Domain>,
    /// who handed it in
    pub account: Option<Address>,
}

impl Verb {
    pub fn word(self) -> &'static str {
        match self {
            Verb::Retry => "queue.retry",
            Verb::Hold => "queue.hold",
            Verb::Release => "queue.release",
            Verb::Fail => "queue.fail",
            Verb::Drop => "queue.drop",
        }
    }
}

impl Picked {
    /// `LETTERS` or `LETTERS/n`.
    pub fn parse(text: &str) -> Option<Picked> {
        let Some((letters, number)) = text.split_once('/') else {
            return Some(Picked { id: QueueId::parse(text)?, n: None });
        };
        let n = number.parse::<u32>().ok()?.checked_sub(1)?;
        Some(Picked { id: QueueId::parse(letters)?, n: Some(n) })
    }
}

impl fmt::Display for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n {
            None => self.id.fmt(f),
            Some(n) => write!(f, "{}/{}", self.id, u64::from(n) + 1),
        }
    }
}

/// The sender of a rule: an address, a domain, or nothing at all (also `<>`) for the null sender.
pub fn parse_sender(text: &str) -> Result<Sender, String> {
    match text {
        "" | "<>" => Ok(Sender::Null),
        address if address.contains('@') => Address::parse(address).map(Sender::Address).map_err(|error| error.to_string()),
        domain => Domain::parse(domain).map(Sender::Domain).map_err(|error| error.to_string()),
    }
}

fn sender_text(sender: &Sender) -> String {
    match sender {
        Sender::Null => String::new(),
        Sender::Address(address) => address.to_string(),
        Sender::Domain(domain) => domain.to_string(),
    }
}

fn bad(what: &str, error: impl fmt::Display) -> BadRequest {
    BadRequest(format!("{what:?}: {error}"))
}

fn no_id(text: &str) -> BadRequest {
    BadRequest(format!("{text:?} is no id of a queued message: these have 13 letters and digits, with /1 behind them for one recipient"))
}

impl QueueCommand {
    pub(super) fn parse(request: &Request) -> Result<QueueCommand, BadRequest> {
        let steer = |verb| Ok(QueueCommand::Steer { verb, whom: whom(request)? });
        match request.verb.as_str() {
            "queue.list" => Ok(QueueCommand::List),
            "queue.show" => {
                let text = request.ids.as_deref().and_then(<[String]>::first).ok_or_else(|| missing("queue.show", "ids"))?;
                Ok(QueueCommand::Show { id: QueueId::parse(text).ok_or_else(|| no_id(text))? })
            }
            "queue.retry" => steer(Verb::Retry),
            "queue.hold" => steer(Verb::Hold),
            "queue.release" => steer(Verb::Release),
            "queue.fail" => steer(Verb::Fail),
            "queue.drop" => steer(Verb::Drop),
            "hold.add" => hold_fields(request).map(QueueCommand::HoldAdd),
            "hold.list" => Ok(QueueCommand::HoldList),
            "hold.remove" => {
                let id = request.id.ok_or_else(|| missing("hold.remove", "id"))?;
                Ok(QueueCommand::HoldRemove { id: HoldId(id) })
            }
            other => Err(BadRequest(format!("{other:?} is no request of this version"))),
        }
    }

    pub(super) fn write(&self, request: &mut Request) {
        match self {
            QueueCommand::List | QueueCommand::HoldList => {}
            QueueCommand::Show { id } => request.ids = Some(vec![id.to_string()]),
            QueueCommand::Steer { whom: Whom::All, .. } => request.all = Some(true),
            QueueCommand::Steer { whom: Whom::Domain(domain), .. } => request.domain = Some(domain.to_string()),
            QueueCommand::Steer { whom: Whom::Picked(picked), .. } => {
                request.ids = Some(picked.iter().map(Picked::to_string).collect());
            }
            QueueCommand::HoldAdd(fields) => {
                request.sender = fields.sender.as_ref().map(sender_text);
                request.recipient = fields.recipient.as_ref().map(Address::to_string);
                request.domain = fields.recipient_domain.as_ref().map(Domain::to_string);
                request.address = fields.account.as_ref().map(Address::to_string);
            }
            QueueCommand::HoldRemove { id } => request.id = Some(id.0),
        }
    }

    pub fn is_change(&self) -> bool {
        match self {
            QueueCommand::List | QueueCommand::Show { .. } | QueueCommand::HoldList => false,
            QueueCommand::Steer { .. } | QueueCommand::HoldAdd(_) | QueueCommand::HoldRemove { .. } => true,
        }
    }

    pub fn verb(&self) -> &'static str {
        match self {
            QueueCommand::List => "queue.list",
            QueueCommand::Show { .. } => "queue.show",
            QueueCommand::Steer { verb, .. } => verb.word(),
            QueueCommand::HoldAdd(_) => "hold.add",
            QueueCommand::HoldList => "hold.list",
            QueueCommand::HoldRemove { .. } => "hold.remove",
        }
    }
}

/// Exactly one of `ids`, `domain` and `all`: a request that lost its ids must not mean everything.
fn whom(request: &Request) -> Result<Whom, BadRequest> {
    match (&request.ids, &request.domain, request.all) {
        (Some(ids), None, None | Some(false)) if !ids.is_empty() => {
            let picked = ids.iter().map(|text| Picked::parse(text).ok_or_else(|| no_id(text)));
            Ok(Whom::Picked(picked.collect::<Result<_, _>>()?))
        }
        (None, Some(domain), None | Some(false)) => Ok(Whom::Domain(Domain::parse(domain).map_err(|error| bad(domain, error))?)),
        (None, None, Some(true)) => Ok(Whom::All),
        _ => Err(BadRequest(format!("{} needs one of \"ids\", \"domain\" and \"all\"", request.verb))),
    }
}

fn hold_fields(request: &Request) -> Result<HoldFields, BadRequest> {
    let address = |text: &String| Address::parse(text).map_err(|error| bad(text, error));
    Ok(HoldFields {
        sender: request.sender.as_ref().map(|text| parse_sender(text).map_err(|error| bad(text, error))).transpose()?,
        recipient: request.recipient.as_ref().map(address).transpose()?,
        recipient_domain: request.domain.as_ref().map(|text| Domain::parse(text).map_err(|error| bad(text, error))).transpose()?,
        account: request.address.as_ref().map(address).transpose()?,
    })
}

/// One message of `queue list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct QueueRow {
    pub id: String,
    /// reverse-path; `<>` for a notice
    pub from: String,
    /// the first recipient that is not done
    pub to: String,
    /// recipients that are not done, the held ones included
    pub recipients: u32,
    pub held: u32,
    pub size: u64,
    /// RFC 3339, UTC
    pub arrived: String,
    /// of the first recipient to be tried; empty: all are held
    pub next_attempt: String,
    /// the latest reply or sentence about a recipient; empty: none was tried
    pub last_error: String,
}

/// The first row of `queue show`: what all recipients share.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct QueueMessageRow {
    pub id: String,
    pub from: String,
    /// the account that handed it in; empty: none, or removed since
    pub account: String,
    /// `submitted`, `notice` or `forwarded`
    pub origin: String,
    pub subject: String,
    pub message_id: String,
    pub size: u64,
    /// RFC 3339, UTC
    pub arrived: String,
    /// `default`, `required` or `waived`
    pub require_tls: String,
    pub smtp_utf8: bool,
    /// RET and ENVID of MAIL (RFC 3461); empty: not given
    pub ret: String,
    pub envid: String,
    /// address of the client that handed it in
    pub client: String,
    /// version and cipher suite of the receiving session; empty: it was not encrypted
    pub tls: String,
    /// recipients there were, and those that are not done
    pub recipients: u32,
    pub open: u32,
    /// seconds of waiting that do not count, because clock or DNS were in doubt
    pub waited_blind: u64,
    /// why the message cannot be read; then only `id` is known, and it can only be dropped. Empty: it is whole
    pub damage: String,
}

/// A recipient of `queue show`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct QueueRecipientRow {
    pub recipient: String,
    /// from 1 on
    pub n: u32,
    /// `waiting`, `held`, `failing` or `damaged`: cannot be read, and only be dropped
    pub state: String,
    /// why it is held, failing or damaged
    pub why: String,
    pub attempts: u32,
    /// RFC 3339, UTC; empty: it is held
    pub due: String,
    pub require_tls: String,
    /// NOTIFY and ORCPT of RCPT (RFC 3461); empty: not given
    pub notify: String,
    pub orcpt: String,
    /// the sender got a notice of delay
    pub delay_told: bool,
    /// the last attempt; `last_at` is empty if there was none
    pub last_at: String,
    pub last_host: String,
    pub last_address: String,
    pub last_reply: String,
    pub last_status: String,
    /// the reply is the peer's words, not ours
    pub last_remote: bool,
    /// version and cipher suite of the last attempt; empty: not encrypted
    pub last_tls: String,
    pub history: Vec<EventRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct EventRow {
    /// RFC 3339, UTC
    pub at: String,
    pub what: String,
}

/// What was done to a recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct SteeredRow {
    pub id: String,
    /// from 1 on
    pub n: u32,
    pub recipient: String,
    /// `yes` or `no`
    pub changed: String,
    pub outcome: String,
}

/// One rule of `hold list`; the answer to `hold add`, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct HoldRow {
    pub id: u64,
    /// the rule in words
    pub rule: String,
    /// RFC 3339, UTC
    pub created: String,
    /// recipients that waited and are held now; only in the answer to `hold add`
    pub held: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::Command;

    #[test]
    fn every_request_survives_its_line() {
        let id = QueueId::parse("1nfm2rbq0a1b2").unwrap();
        let domain = Domain::parse("example.net").unwrap();
        let ann = Address::parse("ann@example.net").unwrap();
        let picked = vec![Picked { id, n: None }, Picked { id, n: Some(0) }];
        let steer = |verb, whom| QueueCommand::Steer { verb, whom };
        let rows = [
            QueueCommand::List,
            QueueCommand::Show { id },
            steer(Verb::Retry, Whom::All),
            steer(Verb::Hold, Whom::Domain(domain.clone())),
            steer(Verb::Release, Whom::Picked(picked.clone())),
            steer(Verb::Fail, Whom::Picked(picked)),
            steer(Verb::Drop, Whom::All),
            QueueCommand::HoldAdd(HoldFields::default()),
            QueueCommand::HoldAdd(HoldFields { sender: Some(Sender::Null), ..HoldFields::default() }),
            QueueCommand::HoldAdd(HoldFields {
                sender: Some(Sender::Address(ann.clone())),
                recipient: Some(ann.clone()),
                recipient_domain: Some(domain.clone()),
                account: Some(ann),
            }),
            QueueCommand::HoldAdd(HoldFields { sender: Some(Sender::Domain(domain)), ..HoldFields::default() }),
            QueueCommand::HoldList,
            QueueCommand::HoldRemove { id: HoldId(3) },
        ];
        for command in rows {
            let command = Command::Queue(command);
            let line = command.to_line();
            assert_eq!(Command::parse(&line).unwrap_or_else(|e| panic!("{line}: {}", e.0)), command);
        }
    }

    #[test]
    fn a_request_for_nobody_or_for_two_things_is_refused() {
        for line in [
            r#"{"do":"queue.show"}"#,
            r#"{"do":"queue.show","ids":["x"]}"#,
            r#"{"do":"queue.drop"}"#,
            r#"{"do":"queue.drop","ids":[]}"#,
            r#"{"do":"queue.drop","ids":["1nfm2rbq0a1b2/0"]}"#,
            r#"{"do":"queue.drop","ids":["1nfm2rbq0a1b2/x"]}"#,
            r#"{"do":"queue.drop","all":false}"#,
            r#"{"do":"queue.drop","domain":"a b"}"#,
            r#"{"do":"queue.drop","all":true,"ids":["1nfm2rbq0a1b2"]}"#,
            r#"{"do":"queue.frob"}"#,
            r#"{"do":"hold.add","sender":"a@"}"#,
            r#"{"do":"hold.remove"}"#,
        ] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
    }
}
