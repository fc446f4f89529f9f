//! `pipit queue …` and `pipit hold …` as argh sees them.

use argh::FromArgs;

use crate::admin::wire::queue::HoldFields;
use crate::admin::wire::queue::Picked;
use crate::admin::wire::queue::QueueCommand;
use crate::admin::wire::queue::Verb;
use crate::admin::wire::queue::Whom;
use crate::admin::wire::queue::parse_sender;
use crate::cli::shapes::parse_address;
use crate::mail::address::Address;
use crate::mail::domain::Domain;
use crate::store::HoldId;
use crate::store::QueueId;
use crate::store::holds::Sender;

fn parse_picked(text: &str) -> Result<Picked, String> {
    Picked::parse(text)
        .ok_or_else(|| "an id is 13 letters and digits, as `pipit queue list` shows them, with /1 behind it for one recipient".into())
}

fn parse_id(text: &str) -> Result<QueueId, String> {
    QueueId::parse(text).ok_or_else(|| "an id is 13 letters and digits, as `pipit queue list` shows them".into())
}

fn parse_domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

/// An address or a domain.
enum Recipient {
    Address(Address),
    Domain(Domain),
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.contains('@') { parse_address(text).map(Recipient::Address) } else { parse_domain(text).map(Recipient::Domain) }
}

/// mail that waits to be delivered elsewhere
#[derive(FromArgs)]
#[argh(subcommand, name = "queue", help_triggers("--help", "-h"))]
pub(super) struct Queue {
    #[argh(subcommand)]
    command: QueueOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum QueueOf {
    List(QueueList),
    Show(QueueShow),
    Retry(QueueRetry),
    Hold(QueueHold),
    Release(QueueRelease),
    Fail(QueueFail),
    Drop(QueueDrop),
}

/// list the messages that wait
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct QueueList {}

/// show a message with all its recipients and what happened to them
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("--help", "-h"))]
struct QueueShow {
    /// the message
    #[argh(positional, from_str_fn(parse_id))]
    id: QueueId,
}

/// try recipients now
#[derive(FromArgs)]
#[argh(subcommand, name = "retry", help_triggers("--help", "-h"))]
struct QueueRetry {
    /// messages, or ID/1 for the first recipient of one
    #[argh(positional, from_str_fn(parse_picked))]
    ids: Vec<Picked>,
    /// every recipient with this domain
    #[argh(option, from_str_fn(parse_domain))]
    to: Option<Domain>,
    /// the whole queue
    #[argh(switch)]
    all: bool,
}

/// do not try recipients until they are released
#[derive(FromArgs)]
#[argh(subcommand, name = "hold", help_triggers("--help", "-h"))]
struct QueueHold {
    /// messages, or ID/1 for the first recipient of one
    #[argh(positional, from_str_fn(parse_picked))]
    ids: Vec<Picked>,
    /// every recipient with this domain
    #[argh(option, from_str_fn(parse_domain))]
    to: Option<Domain>,
    /// the whole queue
    #[argh(switch)]
    all: bool,
}

/// let recipients go that are held
#[derive(FromArgs)]
#[argh(subcommand, name = "release", help_triggers("--help", "-h"))]
struct QueueRelease {
    /// messages, or ID/1 for the first recipient of one
    #[argh(positional, from_str_fn(parse_picked))]
    ids: Vec<Picked>,
    /// every recipient with this domain
    #[argh(option, from_str_fn(parse_domain))]
    to: Option<Domain>,
    /// the whole queue
    #[argh(switch)]
    all: bool,
}

/// give recipients up, and tell the sender
#[derive(FromArgs)]
#[argh(subcommand, name = "fail", help_triggers("--help", "-h"))]
struct QueueFail {
    /// messages, or ID/1 for the first recipient of one
    #[argh(positional, from_str_fn(parse_picked))]
    ids: Vec<Picked>,
    /// every recipient with this domain
    #[argh(option, from_str_fn(parse_domain))]
    to: Option<Domain>,
    /// the whole queue
    #[argh(switch)]
    all: bool,
}

/// give recipients up, and tell nobody
#[derive(FromArgs)]
#[argh(subcommand, name = "drop", help_triggers("--help", "-h"))]
struct QueueDrop {
    /// messages, or ID/1 for the first recipient of one
    #[argh(positional, from_str_fn(parse_picked))]
    ids: Vec<Picked>,
    /// every recipient with this domain
    #[argh(option, from_str_fn(parse_domain))]
    to: Option<Domain>,
    /// the whole queue
    #[argh(switch)]
    all: bool,
}

/// rules that hold mail back in the queue until it is released
#[derive(FromArgs)]
#[argh(subcommand, name = "hold", help_triggers("--help", "-h"))]
pub(super) struct Hold {
    #[argh(subcommand)]
    command: HoldOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum HoldOf {
    Add(HoldAdd),
    List(HoldList),
    Remove(HoldRemove),
}

/// hold what matches all of the options that are given, from now on and what waits already
#[derive(FromArgs)]
#[argh(subcommand, name = "add", help_triggers("--help", "-h"))]
struct HoldAdd {
    /// sender: an address, a domain, or <> for notices
    #[argh(option, from_str_fn(parse_sender))]
    from: Option<Sender>,
    /// recipient: an address or a domain
    #[argh(option, from_str_fn(parse_recipient))]
    to: Option<Recipient>,
    /// the account that handed it in
    #[argh(option, from_str_fn(parse_address))]
    account: Option<Address>,
    /// hold everything
    #[argh(switch)]
    all: bool,
}

/// list the rules
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct HoldList {}

/// remove a rule; what it holds stays held until `pipit queue release`
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("--help", "-h"))]
struct HoldRemove {
    /// its number in the list
    #[argh(positional)]
    id: u64,
}

pub(super) fn queue_command(queue: Queue) -> Result<QueueCommand, &'static str> {
    let steer = |verb, whom: Result<Whom, _>| Ok(QueueCommand::Steer { verb, whom: whom? });
    match queue.command {
        QueueOf::List(QueueList {}) => Ok(QueueCommand::List),
        QueueOf::Show(QueueShow { id }) => Ok(QueueCommand::Show { id }),
        QueueOf::Retry(QueueRetry { ids, to, all }) => steer(Verb::Retry, whom(ids, to, all.then_some(Whom::All))),
        QueueOf::Hold(QueueHold { ids, to, all }) => steer(Verb::Hold, whom(ids, to, all.then_some(Whom::All))),
        QueueOf::Release(QueueRelease { ids, to, all }) => steer(Verb::Release, whom(ids, to, all.then_some(Whom::All))),
        QueueOf::Fail(QueueFail { ids, to, all }) => steer(Verb::Fail, whom(ids, to, all.then_some(Whom::All))),
        QueueOf::Drop(QueueDrop { ids, to, all }) => steer(Verb::Drop, whom(ids, to, all.then_some(Whom::All))),
    }
}

/// Exactly one way to say it.
fn whom(ids: Vec<Picked>, to: Option<Domain>, all: Option<Whom>) -> Result<Whom, &'static str> {
    let picked = (!ids.is_empty()).then_some(Whom::Picked(ids));
    let mut ways = [picked, to.map(Whom::Domain), all].into_iter().flatten();
    match (ways.next(), ways.next()) {
        (Some(whom), None) => Ok(whom),
        (None, _) => Err("name at least one ID, or --to DOMAIN, or --all"),
        (Some(_), Some(_)) => Err("give either IDs, or --to DOMAIN, or --all"),
    }
}

pub(super) fn hold_command(hold: Hold) -> Result<QueueCommand, &'static str> {
    match hold.command {
        HoldOf::Add(HoldAdd { from, to, account, all }) => {
            let (recipient, recipient_domain) = match to {
                None => (None, None),
                Some(Recipient::Address(address)) => (Some(address), None),
                Some(Recipient::Domain(domain)) => (None, Some(domain)),
            };
            let fields = HoldFields { sender: from, recipient, recipient_domain, account };
            match (fields == HoldFields::default(), all) {
                (true, false) => Err("pipit hold add needs --from, --to or --account; --all holds everything"),
                (false, true) => Err("pipit hold add --all takes no other option"),
                (true, true) | (false, false) => Ok(QueueCommand::HoldAdd(fields)),
            }
        }
        HoldOf::List(HoldList {}) => Ok(QueueCommand::HoldList),
        HoldOf::Remove(HoldRemove { id }) => Ok(QueueCommand::HoldRemove { id: HoldId(id) }),
    }
}
