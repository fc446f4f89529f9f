//! `pipit queue …` and `pipit hold …`: asked, and answered in columns or, for one message, in paragraphs.

use std::io;
use std::io::Write;

use crate::admin::Failure;
use crate::admin::wire::Command;
use crate::admin::wire::queue::HoldRow;
use crate::admin::wire::queue::QueueCommand;
use crate::admin::wire::queue::QueueMessageRow;
use crate::admin::wire::queue::QueueRecipientRow;
use crate::admin::wire::queue::QueueRow;
use crate::admin::wire::queue::SteeredRow;
use crate::cli::args::Globals;
use crate::cli::ask;
use crate::cli::ask::Listener;
use crate::cli::commands::done;
use crate::cli::commands::listed;
use crate::cli::place;
use crate::cli::print::Rows;
use crate::cli::print::cell;
use crate::cli::print::parsed;
use crate::cli::print::safe;

pub const QUEUE_HEAD: [&str; 8] = ["ID", "FROM", "TO", "HELD", "SIZE", "ARRIVED", "NEXT", "LAST"];
pub const STEERED_HEAD: [&str; 3] = ["ID", "RECIPIENT", "OUTCOME"];
pub const HOLD_HEAD: [&str; 3] = ["ID", "CREATED", "HOLDS"];

/// Does a command of the queue, and tells about it.
pub fn run(globals: &Globals, command: QueueCommand) -> Result<(), Failure> {
    match &command {
        QueueCommand::List => listed(globals, Command::Queue(command), Rows::Queue, "the queue is empty"),
        QueueCommand::Show { .. } if globals.json => listed(globals, Command::Queue(command), Rows::Queue, ""),
        QueueCommand::Show { .. } => ask::ask(&place::find(globals)?, Command::Queue(command), &[], &mut Shown),
        QueueCommand::Steer { .. } => listed(globals, Command::Queue(command), Rows::Steered, ""),
        QueueCommand::HoldAdd(_) => listed(globals, Command::Queue(command), Rows::Holds, ""),
        QueueCommand::HoldList => listed(globals, Command::Queue(command), Rows::Holds, "no mail is held by a rule"),
        QueueCommand::HoldRemove { id } => {
            let words = format!("hold rule {id} is removed; what it held stays held until `pipit queue release`");
            done(globals, Command::Queue(command), &words)
        }
    }
}

pub fn queue_cells(json: &str) -> io::Result<Vec<String>> {
    let row: QueueRow = parsed(json)?;
    let others = row.recipients.saturating_sub(1);
    let to = if others == 0 { cell(&row.to) } else { format!("{} +{others}", cell(&row.to)) };
    let next = if row.next_attempt.is_empty() { "held".to_owned() } else { row.next_attempt };
    Ok(vec![row.id, cell(&row.from), to, row.held.to_string(), row.size.to_string(), row.arrived, next, cell(&row.last_error)])
}

pub fn steered_cells(json: &str) -> io::Result<Vec<String>> {
    let row: SteeredRow = parsed(json)?;
    Ok(vec![format!("{}/{}", row.id, row.n), cell(&row.recipient), row.outcome])
}

pub fn hold_cells(json: &str) -> io::Result<Vec<String>> {
    let row: HoldRow = parsed(json)?;
    let mut cells = vec![row.id.to_string(), row.created, safe(&row.rule)];
    // Only the answer to `hold add` knows.
    cells.extend(row.held.map(|held| format!("{held} held now")));
    Ok(cells)
}

/// `queue show` for a terminal: the message, then a paragraph a recipient.
struct Shown;

impl Listener for Shown {
    fn line(&mut self, json: &str) -> io::Result<()> {
        // The row of the message comes first and alone begins with an id.
        let facts = if json.starts_with("{\"id\":") { message_facts(parsed(json)?) } else { recipient_facts(parsed(json)?) };
        let mut out = io::stdout().lock();
        for (name, value) in facts {
            writeln!(out, "{}", format!("{name:12} {}", safe(&value)).trim_end())?;
        }
        Ok(())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

type Facts = Vec<(&'static str, String)>;

fn message_facts(row: QueueMessageRow) -> Facts {
    if !row.damage.is_empty() {
        let hint = format!("`pipit queue drop {}` takes it away; nobody is told", row.id);
        return vec![("message", format!("{}, set aside", row.id)), ("damaged", row.damage), ("", hint)];
    }
    let from = match (row.account.as_str(), row.from.as_str()) {
        ("", _) => row.from,
        (account, from) if account == from => row.from,
        (account, from) => format!("{from}, handed in by {account}"),
    };
    let mut facts = vec![
        ("message", format!("{}, {}", row.id, row.origin)),
        ("from", from),
        ("subject", row.subject),
        ("message-id", row.message_id),
        ("size", format!("{} octets", row.size)),
        ("arrived", arrival(&row.arrived, &row.client, &row.tls)),
        ("tls wish", row.require_tls),
        ("recipients", format!("{} of {} not done", row.open, row.recipients)),
    ];
    if row.waited_blind > 0 {
        facts.push(("not counted", format!("{} seconds of waiting, because clock or DNS were in doubt", row.waited_blind)));
    }
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn arrival(at: &str, client: &str, tls: &str) -> String {
    match (client, tls) {
        ("", _) => at.to_owned(),
        (client, "") => format!("{at} from {client}, not encrypted"),
        (client, tls) => format!("{at} from {client}, {tls}"),
    }
}

fn recipient_facts(row: QueueRecipientRow) -> Facts {
    let state = match row.state.as_str() {
        "waiting" => format!("waiting, next attempt {}", row.due),
        "failing" => format!("given up: {}; the sender will be told", row.why),
        "damaged" => format!("set aside: {}; it can only be dropped", row.why),
        _ => format!("held: {}", row.why),
    };
    let mut facts = vec![("", String::new()), ("recipient", format!("{} (/{})", row.recipient, row.n)), ("state", state)];
    facts.push(("attempts", row.attempts.to_string()));
    if !row.last_at.is_empty() {
        facts.push(("last attempt", last_attempt(&row)));
        let whose = if row.last_remote { "the host said" } else { "not the host's words" };
        facts.push(("reply", format!("{} ({}, {whose})", row.last_reply, row.last_status)));
    }
    if row.delay_told {
        facts.push(("delay", "the sender was told".into()));
    }
    if !row.notify.is_empty() {
        facts.push(("notify", row.notify));
    }
    facts.extend(row.history.into_iter().map(|event| ("history", format!("{} {}", event.at, event.what))));
    facts
}

fn last_attempt(row: &QueueRecipientRow) -> String {
    if row.last_host.is_empty() {
        return format!("{}, no host was reached", row.last_at);
    }
    let tls = if row.last_tls.is_empty() { "not encrypted" } else { &row.last_tls };
    format!("{} at {} [{}], {tls}", row.last_at, row.last_host, row.last_address)
}
