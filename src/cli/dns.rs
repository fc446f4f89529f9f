//! `pipit dns …`: the server's own resolver for one question, without a configuration file (`resolver.md`, Command), and the
//! keys that a server believes.
//!
//! Exit status 0 for an answer that is secure or insecure, a denial included, 1 for a bogus or indeterminate one, 2 for what
//! cannot be asked so. Texts of records and upstreams are strangers': they are escaped by the presentation form, or here.

use std::io;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use nanoserde::SerJson;
use smol::LocalExecutor;

use crate::admin::Failure;
use crate::admin::settings::read_anchors;
use crate::admin::wire;
use crate::admin::wire::dns::AnchorRow;
use crate::admin::wire::dns::UpstreamRow;
use crate::cli::args::DnsCommand;
use crate::cli::args::Globals;
use crate::cli::args::Question;
use crate::cli::commands::listed;
use crate::cli::place;
use crate::cli::print::Rows;
use crate::cli::print::cell;
use crate::cli::print::parsed;
use crate::cli::print::safe;
use crate::config::settings::Settings;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::clock::RELEASED;
use crate::net::resolver::Beliefs;
use crate::net::resolver::Resolver;
use crate::net::resolver::TrustAd;
use crate::net::resolver::Upstreams;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::walk::Found;
use crate::proto::dns::dnssec::walk::Outcome;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::dnssec::walk::Trust;
use crate::proto::dns::dnssec::walk::Verdict;
use crate::proto::dns::dnssec::walk::Zone;

/// Exit status for what cannot be asked.
const BAD_USAGE: u32 = 2;

/// The object of `--json`; its keys and their order are a stable interface.
#[derive(SerJson)]
struct LookupRow {
    rcode: String,
    status: String,
    ede: Vec<EdeRow>,
    answers: Vec<String>,
    chain: Vec<ZoneRow>,
    ms: u64,
}

#[derive(SerJson)]
struct EdeRow {
    code: u16,
    text: String,
}

/// One zone of the chain.
#[derive(SerJson)]
struct ZoneRow {
    zone: String,
    /// `secure` or `insecure`
    status: String,
    /// tags of the keys that the anchor or the DS stands for
    keys: Vec<u16>,
    /// of an insecure one
    why: String,
}

/// Does the command.
pub fn run(globals: &Globals, command: &DnsCommand) -> Result<(), Failure> {
    match command {
        DnsCommand::Lookup(question) => lookup(globals, question),
        DnsCommand::Anchors => listed(
            globals,
            wire::Command::DnsAnchors,
            Rows::Anchors,
            "no trust anchor is left: see `pipit config explain dns.trust-anchor`",
        ),
    }
}

pub const ANCHOR_HEAD: [&str; 7] = ["ZONE", "KEY", "ALGORITHM", "STATE", "SINCE", "UNTIL", "SOURCE"];

pub fn anchor_cells(json: &str) -> io::Result<Vec<String>> {
    let row: AnchorRow = parsed(json)?;
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let number = |number: String| if row.tag == 0 && row.algorithm == 0 { "-".to_owned() } else { number };
    let (tag, algorithm) = (number(row.tag.to_string()), number(row.algorithm.to_string()));
    Ok(vec![cell(&row.zone), tag, algorithm, row.state, or_dash(row.since), or_dash(row.until), row.source])
}

/// For `status`: `. key 20326 valid (built-in)`.
pub fn anchor_words(row: &AnchorRow) -> String {
    let key = if row.tag == 0 && row.algorithm == 0 { String::new() } else { format!(" key {}", row.tag) };
    let until = match (row.until.as_str(), row.state.as_str()) {
        ("", _) => String::new(),
        (until, "ended") => format!(" at {until}"),
        (until, _) => format!(" until {until}"),
    };
    format!("{}{key} {}{until} ({})", safe(&row.zone), row.state, row.source)
}

/// For `status`: `192.0.2.53 is unfit for DNSSEC: gives no signatures (RRSIG)`.
pub fn upstream_words(row: &UpstreamRow) -> String {
    let judged = match (row.answers, row.fitness.as_str()) {
        (false, _) => "is of no use now",
        (true, "fit") => "is fit for DNSSEC",
        (true, "unfit") => "is unfit for DNSSEC",
        (true, _) => "was not tried yet whether it is fit for DNSSEC",
    };
    let why = if row.complaints.is_empty() { String::new() } else { format!(": {}", row.complaints.join(", ")) };
    safe(&format!("{} {judged}{why}", row.address))
}

/// Asks and prints.
fn lookup(globals: &Globals, question: &Question) -> Result<(), Failure> {
    let named = globals.config.is_some() || globals.dir.is_some();
    let settings = if named { Some(place::find(globals)?.settings?) } else { None };
    let clock = question.at.map_or_else(|| Clock::host(RELEASED), Clock::fixed);
    let resolver = Resolver::new(upstreams(question, settings.as_ref()), clock, Rc::new(Metrics::default()));
    let anchors = Rc::new(believed(question, settings.as_ref())?);
    resolver.set_beliefs(Beliefs { policy: Policy { anchors, ..Policy::default() }, trust_ad: TrustAd::No });
    let begun = Instant::now();
    let verdict = crate::net::run(&LocalExecutor::new(), resolver.query(&question.name, question.kind));
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let printed = if globals.json { print_row(&verdict, ms) } else { print_text(&verdict, question, ms) };
    printed.map_err(|error| Failure::new(format!("the output could not be written: {error}"), ""))?;
    if matches!(verdict.outcome, Outcome::Failed(_)) {
        let Question { name, kind, .. } = question;
        return Err(Failure::new(format!("{name} {kind}: no answer that can be used"), resolver.problem().unwrap_or_default()));
    }
    Ok(())
}

/// Whom the command line names; else the server that it names; else the system.
fn upstreams(question: &Question, settings: Option<&Settings>) -> Upstreams {
    if !question.upstreams.is_empty() {
        return Upstreams::Listed(question.upstreams.clone());
    }
    settings.and_then(|settings| settings.upstreams.clone()).map_or(Upstreams::System, Upstreams::Listed)
}

/// As `upstreams`; zones that count as unsigned are added up.
fn believed(question: &Question, settings: Option<&Settings>) -> Result<Anchors, Failure> {
    let dns = settings.map(|settings| &settings.dns);
    let anchors = match (&question.trust_anchor, dns.and_then(|dns| dns.trust_anchor.as_ref())) {
        (Some(file), _) => anchors_of(file)?,
        (None, Some(given)) => given.anchors.clone(),
        (None, None) => Anchors::built_in(),
    };
    let negative = dns.into_iter().flat_map(|dns| &dns.negative_anchors);
    Ok(anchors.with_negatives(negative.chain(&question.negative_anchors)))
}

/// What a file says; one that says nothing is a mistake of the command line.
fn anchors_of(file: &Path) -> Result<Anchors, Failure> {
    read_anchors(file).map_err(|(what, right)| Failure {
        error: format!("--trust-anchor: {what}"),
        hint: right.to_owned(),
        exit: BAD_USAGE,
    })
}

fn answers(verdict: &Verdict) -> Vec<String> {
    let found = match &verdict.outcome {
        Outcome::Proved { found: Found::Records(records), .. } => &records[..],
        Outcome::Proved { .. } | Outcome::Failed(_) => &[],
    };
    verdict.link_records.iter().chain(found).map(ToString::to_string).collect()
}

fn zone_row(zone: &Zone) -> ZoneRow {
    let (status, keys, why) = match &zone.trust {
        Trust::Keys { entries, .. } => ("secure", entries.clone(), String::new()),
        Trust::Insecure { why, .. } => ("insecure", Vec::new(), safe(why)),
    };
    ZoneRow { zone: zone.name.to_string(), status: status.to_owned(), keys, why }
}

fn print_row(verdict: &Verdict, ms: u64) -> io::Result<()> {
    let row = LookupRow {
        rcode: verdict.rcode().to_string(),
        status: verdict.state().to_string(),
        ede: verdict.errors.iter().map(|error| EdeRow { code: error.code.0, text: safe(&error.text) }).collect(),
        answers: answers(verdict),
        chain: verdict.chain.iter().map(|zone| zone_row(zone)).collect(),
        ms,
    };
    writeln!(io::stdout().lock(), "{}", row.serialize_json())
}

/// The answer, how it is believed and why, then the zones from the root down.
fn print_text(verdict: &Verdict, question: &Question, ms: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for record in answers(verdict) {
        writeln!(out, "{record}")?;
    }
    let Question { name, kind, .. } = question;
    match &verdict.outcome {
        Outcome::Proved { found: Found::Records(_), .. } => {}
        Outcome::Proved { found: Found::NoData, .. } => writeln!(out, "{} has no {kind} records", verdict.owner)?,
        Outcome::Proved { found: Found::NoSuchName, .. } => writeln!(out, "{} does not exist", verdict.owner)?,
        Outcome::Failed(_) => writeln!(out, "{name} {kind} has no answer that can be used")?,
    }
    writeln!(out, "\nstatus  {}, {} in {ms} ms", verdict.state(), verdict.rcode())?;
    writeln!(out, "reason  {}", safe(&verdict.reason))?;
    for error in &verdict.errors {
        // Those of an upstream begin with its address.
        writeln!(out, "error   {}", safe(&error.to_string()))?;
    }
    for zone in verdict.chain.iter().map(|zone| zone_row(zone)) {
        let tags: Vec<String> = zone.keys.iter().map(ToString::to_string).collect();
        let more = if zone.keys.is_empty() { zone.why } else { format!("by key {}", tags.join(", ")) };
        writeln!(out, "zone    {} {} {more}", zone.zone, zone.status)?;
    }
    Ok(())
}
