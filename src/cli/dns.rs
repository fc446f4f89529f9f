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
use crate::net::resolver::Resolver;
use crate::net::resolver::Upstreams;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::name::Name;

/// The object of `--json`.
#[derive(SerJson)]
struct LookupRow {
    rcode: String,
    status: String,
    reason: String,
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
    let verdict = crate::net::run(&LocalExecutor::new(), resolver.query(name, *kind));
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let printed = if globals.json { print_row(&verdict, ms) } else { print_text(&verdict, name, *kind, ms) };
    printed.map_err(|error| Failure::new(format!("the output could not be written: {error}"), ""))?;
    if matches!(verdict.outcome, Outcome::Failed(_)) {
        return Err(Failure::new(format!("{name} {kind}: no answer"), resolver.problem().unwrap_or_default()));
    }
    Ok(())
}

fn answers(verdict: &Verdict) -> Vec<String> {
    let found = match &verdict.outcome {
        Outcome::Proved { found: Found::Records(records), .. } => &records[..],
        Outcome::Proved { .. } | Outcome::Failed(_) => &[],
    };
    verdict.link_records.iter().chain(found).map(ToString::to_string).collect()
}

fn print_row(verdict: &Verdict, ms: u64) -> io::Result<()> {
    let row = LookupRow {
        rcode: verdict.rcode().to_string(),
        status: verdict.state().to_string(),
        reason: verdict.reason.clone(),
        ede: verdict.errors.iter().map(|error| EdeRow { code: error.code.0, text: error.text.clone() }).collect(),
        answers: answers(verdict),
        chain: verdict.chain.iter().map(|zone| zone.name.to_string()).collect(),
        ms,
    };
    writeln!(io::stdout().lock(), "{}", row.serialize_json())
}

fn print_text(verdict: &Verdict, name: &Name, kind: RecordType, ms: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for record in answers(verdict) {
        writeln!(out, "{record}")?;
    }
    let words = match &verdict.outcome {
        Outcome::Proved { found: Found::Records(_), .. } => String::new(),
        Outcome::Proved { found: Found::NoData, .. } => format!("{} has no {kind} records\n", verdict.owner),
        Outcome::Proved { found: Found::NoSuchName, .. } => format!("{} does not exist\n", verdict.owner),
        Outcome::Failed(_) => format!("{name} {kind} could not be looked up\n"),
    };
    write!(out, "{words}")?;
    let safe = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    writeln!(out, "status: {} ({}), {} in {ms} ms", verdict.state(), safe(verdict.reason.clone()), verdict.rcode())?;
    for error in &verdict.errors {
        writeln!(out, "reason: {}", safe(error.to_string()))?;
    }
    Ok(())
}
