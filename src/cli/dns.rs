//! `pipit dns lookup`: the server's own resolver for one question, without a configuration file (`resolver.md`, Command).
//!
//! Exit status 0 for an answer, a denial included, 1 for none. Texts of records and upstreams are strangers': they are
//! escaped by the presentation form, or here.

use std::io;
use std::io::Write;
use std::rc::Rc;
use std::time::Instant;

use nanoserde::SerJson;
use smol::LocalExecutor;

use crate::admin::Failure;
use crate::cli::args::DnsCommand;
use crate::cli::args::Globals;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::clock::RELEASED;
use crate::net::resolver::NOT_VALIDATED;
use crate::net::resolver::Outcome;
use crate::net::resolver::Resolved;
use crate::net::resolver::Resolver;
use crate::net::resolver::Upstreams;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;

/// The object of `--json`.
#[derive(SerJson)]
struct LookupRow {
    rcode: String,
    status: String,
    note: String,
    ede: Vec<EdeRow>,
    answers: Vec<String>,
    chain: Vec<String>,
    ms: u64,
}

#[derive(SerJson)]
struct EdeRow {
    code: u16,
    text: String,
}

/// Asks and prints.
pub fn run(globals: &Globals, command: &DnsCommand) -> Result<(), Failure> {
    let DnsCommand::Lookup { upstreams, name, kind } = command;
    let upstreams = if upstreams.is_empty() { Upstreams::System } else { Upstreams::Listed(upstreams.clone()) };
    let resolver = Resolver::new(upstreams, Clock::host(RELEASED), Rc::new(Metrics::default()));
    let begun = Instant::now();
    let resolved = crate::net::run(&LocalExecutor::new(), resolver.query(name, *kind));
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failed = matches!(resolved.outcome, Outcome::Failed(_));
    let printed = if globals.json { print_row(&resolved, ms) } else { print_text(&resolved, name, *kind, ms) };
    printed.map_err(|error| Failure::new(format!("the output could not be written: {error}"), ""))?;
    if failed {
        return Err(Failure::new(format!("{name} {kind}: no answer"), resolver.problem().unwrap_or_default()));
    }
    Ok(())
}

fn print_row(resolved: &Resolved, ms: u64) -> io::Result<()> {
    let row = LookupRow {
        rcode: resolved.rcode.to_string(),
        status: resolved.state().to_string(),
        note: NOT_VALIDATED.to_owned(),
        ede: resolved.errors.iter().map(|error| EdeRow { code: error.code.0, text: error.text.clone() }).collect(),
        answers: resolved.answers.iter().map(ToString::to_string).collect(),
        chain: Vec::new(),
        ms,
    };
    writeln!(io::stdout().lock(), "{}", row.serialize_json())
}

fn print_text(resolved: &Resolved, name: &Name, kind: RecordType, ms: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for record in &resolved.answers {
        writeln!(out, "{record}")?;
    }
    let words = match resolved.outcome {
        Outcome::Records => String::new(),
        Outcome::NoData => format!("{} has no {kind} records\n", resolved.owner),
        Outcome::NoSuchName => format!("{} does not exist\n", resolved.owner),
        Outcome::Failed(_) => format!("{name} {kind} could not be looked up\n"),
    };
    write!(out, "{words}")?;
    writeln!(out, "status: {} ({NOT_VALIDATED}), {} in {ms} ms", resolved.state(), resolved.rcode)?;
    for error in &resolved.errors {
        let safe: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(out, "reason: {safe}")?;
    }
    Ok(())
}
