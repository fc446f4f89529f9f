//! The whole check: text in, `Settings` or all faults out, in the order of their lines.
//!
//! Each key is judged by itself first (`config::value`), then crosswise (`config::cross`). A value with a fault is
//! replaced by its default for the second part, so that one slip does not hide the others nor make new ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::config::cross;
use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::file;
use crate::config::file::Block;
use crate::config::file::Form;
use crate::config::file::Pair;
use crate::config::keys;
use crate::config::keys::BLOCKS;
use crate::config::keys::Key;
use crate::config::keys::Without;
use crate::config::recover::Lost;
use crate::config::settings::Alias;
use crate::config::settings::Dns;
use crate::config::settings::FirstUser;
use crate::config::settings::Limits;
use crate::config::settings::Listen;
use crate::config::settings::LocalDomain;
use crate::config::settings::Outbound;
use crate::config::settings::PrivateAddresses;
use crate::config::settings::Secret;
use crate::config::settings::Settings;
use crate::config::settings::TlsFiles;
use crate::config::settings::TrustAnchor;
use crate::config::value;
use crate::config::value::Meaning;
use crate::mail::address::Address;
use crate::mail::domain::Domain;
use crate::proto::dns::dnssec::anchor::Anchors;

/// Stands in while a wrong `hostname` is reported; RFC 2606 keeps it from being anybody's.
const NO_NAME: &str = "unnamed.invalid";

/// Checks a file as it was read. Text that is not UTF-8 is a fault with its line.
pub fn check_bytes(bytes: &[u8]) -> Result<Settings, Vec<Fault>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => check(text),
        Err(error) => {
            let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|b| **b == b'\n').count();
            Err(vec![Fault::new(line, "", "a character is not UTF-8", "save the file as UTF-8 in your editor")])
        }
    }
}

/// The data directory that a file names, whatever else is wrong with it: a server that runs there still answers.
pub fn dir(text: &str) -> Option<PathBuf> {
    read(text).0.root.path("dir").cloned()
}

/// Checks the text of `pipit.toml`.
pub fn check(text: &str) -> Result<Settings, Vec<Fault>> {
    let (reading, mut faults) = read(text);
    if reading.lost == Lost::Nothing {
        let absent = missing(&reading).into_iter().filter(|absent| faults.iter().all(|fault| fault.key != absent.key));
        let absent: Vec<Fault> = absent.collect();
        faults.extend(absent);
    }
    let names = cross::names(&reading);
    let expanded = cross::check(&reading, &names, &mut faults);
    faults.sort();
    faults.dedup();
    if faults.is_empty() { Ok(settings(reading, names, expanded)) } else { Err(faults) }
}

/// The file with every value understood that can be.
pub(in crate::config) struct Reading {
    /// keys outside of blocks; those with a default are always there
    pub root: Values,
    pub rows: Vec<Row>,
    pub lost: Lost,
}

/// One `[[block]]`.
pub(in crate::config) struct Row {
    pub block: &'static str,
    pub line: usize,
    pub values: Values,
}

/// Meanings by key, with the line where each is written (0: the default).
#[derive(Default)]
pub(in crate::config) struct Values {
    meanings: HashMap<&'static str, (usize, Meaning)>,
}

impl Reading {
    pub fn rows(&self, block: &'static str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.block == block)
    }
}

impl Values {
    pub fn line(&self, name: &str) -> usize {
        self.meanings.get(name).map_or(0, |(line, _)| *line)
    }

    pub fn get(&self, name: &str) -> Option<&Meaning> {
        self.meanings.get(name).map(|(_, meaning)| meaning)
    }

    pub fn address(&self, name: &str) -> Option<&Address> {
        if let Some(Meaning::Address(address)) = self.get(name) { Some(address) } else { None }
    }

    pub fn addresses(&self, name: &str) -> &[(usize, Address)] {
        if let Some(Meaning::Addresses(rows)) = self.get(name) { rows } else { &[] }
    }

    pub fn domain(&self, name: &str) -> Option<&Domain> {
        if let Some(Meaning::Domain(domain)) = self.get(name) { Some(domain) } else { None }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        if let Some(Meaning::Text(text)) = self.get(name) { Some(text) } else { None }
    }

    pub fn path(&self, name: &str) -> Option<&PathBuf> {
        if let Some(Meaning::Path(path)) = self.get(name) { Some(path) } else { None }
    }

    pub fn sockets(&self, name: &str) -> &[(usize, SocketAddr)] {
        if let Some(Meaning::Sockets(rows)) = self.get(name) { rows } else { &[] }
    }

    /// For keys of a numeric kind that have a default.
    fn number(&self, name: &str) -> u64 {
        let number = if let Some(Meaning::Number(number)) = self.get(name) { Some(*number) } else { None };
        number.expect("the table gives this key a default that is a number")
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn small(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(u32::MAX)
    }
}

fn read(text: &str) -> (Reading, Vec<Fault>) {
    let written = file::read(text);
    let mut faults = written.faults;
    let lost = written.lost;
    let mut root = defaults();
    understand_all(&written.pairs, Place::Root, &mut root, &mut faults);
    let mut rows = Vec::new();
    for block in written.blocks {
        let Some(name) = BLOCKS.into_iter().find(|name| *name == block.name) else {
            faults.push(unknown_block(&block));
            continue;
        };
        // Its secret is to be replaced by a comment, which needs lines of its own (`edit::consume_first_user`).
        if name == "first-user" && block.form == Form::Inline {
            faults.push(Fault::new(block.line, name, "is written as a list in braces", "write [[first-user]] on a line of its own"));
        }
        let mut values = Values::default();
        let before = faults.len();
        understand_all(&block.pairs, Place::Block, &mut values, &mut faults);
        if faults.len() == before && lost == Lost::Nothing {
            faults.extend(missing_in_row(name, block.line, &values));
        }
        rows.push(Row { block: name, line: block.line, values });
    }
    (Reading { root, rows, lost }, faults)
}

fn defaults() -> Values {
    let mut values = Values::default();
    for key in keys::TABLE {
        let Without::Value(default) = key.without else { continue };
        let meaning = file::read_value(default).and_then(|value| value::understand(key, 0, &value).ok());
        values.meanings.insert(key.name, (0, meaning.expect("a test understands every default")));
    }
    values
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Block,
}

fn understand_all(pairs: &[Pair], place: Place, values: &mut Values, faults: &mut Vec<Fault>) {
    for pair in pairs {
        let Some(key) = keys::find(&pair.key) else {
            faults.push(unknown(pair, place));
            continue;
        };
        if let (Some(block), Place::Root) = (key.block(), place) {
            faults.push(Fault::new(pair.line, key.name, "stands outside of a block", format!("begin the block with [[{block}]]")));
            continue;
        }
        match value::understand(key, pair.line, &pair.value) {
            Ok(meaning) => {
                values.meanings.insert(key.name, (pair.line, meaning));
            }
            Err(wrong) => faults.extend(wrong),
        }
    }
}

/// A key that is not in the table.
fn unknown(pair: &Pair, place: Place) -> Fault {
    let first = pair.key.split('.').next().unwrap_or_default();
    if place == Place::Root && BLOCKS.contains(&pair.key.as_str()) {
        return Fault::new(pair.line, &pair.key, "is a block and not a key", format!("write [[{first}]] and its keys below"));
    }
    unknown_key(pair.line, &pair.key)
}

/// For a name that came from anywhere.
pub(in crate::config) fn unknown_key(line: usize, name: &str) -> Fault {
    let right = match keys::nearest(name) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "remove it; `pipit config reference` lists all keys".to_owned(),
    };
    Fault::new(line, name, "is not a key of this version", right)
}

fn unknown_block(block: &Block) -> Fault {
    let section = keys::TABLE.iter().any(|key| key.name.split_once('.').is_some_and(|(first, _)| first == block.name));
    if section {
        return Fault::new(block.line, &block.name, "can stand only once", format!("write [{}] with single brackets", block.name));
    }
    let known = BLOCKS.map(|name| format!("[[{name}]]")).join(", ");
    Fault::new(
        block.line,
        &block.name,
        format!("[[{}]] is not a block of this version", shown(&block.name)),
        format!("the blocks are {known}"),
    )
}

/// Keys without which nothing can start.
fn missing(reading: &Reading) -> Vec<Fault> {
    let mut faults = Vec::new();
    if reading.root.domain("hostname").is_none() {
        let key = keys::find("hostname");
        faults.extend(key.map(|key| Fault::new(0, key.name, "is missing", key.right())));
    }
    if reading.rows("domain").next().is_none() {
        faults.push(Fault::new(
            0,
            "domain",
            "no domain is written, so no mail can be received",
            "write [[domain]] and below it name = \"example.org\"",
        ));
    }
    faults
}

fn missing_in_row(block: &str, line: usize, values: &Values) -> Vec<Fault> {
    let absent = |key: &&Key| key.block() == Some(block) && key.without == Without::Fault && values.get(key.name).is_none();
    keys::TABLE.iter().filter(absent).map(|key| Fault::new(line, key.name, "is missing", key.right())).collect()
}

/// Turns a reading without faults into settings.
fn settings(reading: Reading, by_name: HashMap<Domain, usize>, expanded: HashMap<String, Vec<Address>>) -> Settings {
    let root = &reading.root;
    let files = root.path("tls.certificate").zip(root.path("tls.key"));
    Settings {
        hostname: root.domain("hostname").cloned().unwrap_or_else(|| Domain::parse(NO_NAME).expect("a constant name parses")),
        dir: root.path("dir").cloned().expect("the table gives dir a default"),
        user: root.text("user").map(str::to_owned),
        postmaster: root.address("postmaster").cloned(),
        domains: reading.rows("domain").filter_map(local_domain).collect(),
        aliases: reading.rows("alias").filter_map(alias).collect(),
        first_users: reading.rows("first-user").filter_map(first_user).collect(),
        listen: Listen {
            smtp: root.sockets("listen.smtp").iter().map(|(_, socket)| *socket).collect(),
            submission: root.sockets("listen.submission").iter().map(|(_, socket)| *socket).collect(),
            submissions: root.sockets("listen.submissions").iter().map(|(_, socket)| *socket).collect(),
            require_tls: root.get("listen.require-tls") == Some(&Meaning::Switch(true)),
        },
        limits: limits(root),
        outbound: outbound(root),
        upstreams: if let Some(Meaning::Upstreams(sockets)) = root.get("dns.upstream") { Some(sockets.clone()) } else { None },
        dns: dns(root),
        local_senders: if let Some(Meaning::Names(names)) = root.get("local-senders") { names.clone() } else { Vec::new() },
        tls: files.map(|(certificate, key)| TlsFiles { certificate: certificate.clone(), key: key.clone() }),
        log_level: if let Some(Meaning::Level(level)) = root.get("log.level") { *level } else { LevelFilter::Info },
        tag_separator: cross::tag_separator(&reading),
        by_name,
        expanded,
        quotas: reading.rows("quota").filter_map(quota).collect(),
    }
}

fn limits(root: &Values) -> Limits {
    Limits {
        message_size: root.number("limits.message-size"),
        recipients: root.count("limits.recipients"),
        connections: root.count("limits.connections"),
        connections_per_address: root.count("limits.connections-per-address"),
        connections_per_minute: root.small("limits.connections-per-minute"),
        burst: root.small("limits.burst"),
        trusted: if let Some(Meaning::Networks(networks)) = root.get("limits.trusted") { networks.clone() } else { Vec::new() },
        memory_budget: root.count("limits.memory-budget"),
        idle_timeout: Duration::from_secs(root.number("limits.idle-timeout")),
        min_free: root.number("limits.min-free"),
        quota: Some(root.number("limits.quota")).filter(|octets| *octets > 0),
    }
}

fn dns(root: &Values) -> Dns {
    let given = |file: &PathBuf| TrustAnchor { file: file.clone(), line: root.line("dns.trust-anchor"), anchors: Anchors::none() };
    Dns {
        trust_anchor: root.path("dns.trust-anchor").map(given),
        negative_anchors: match root.get("dns.negative-anchor") {
            Some(Meaning::NegativeAnchors(anchors)) => anchors.clone(),
            _ => Vec::new(),
        },
        trust_ad: root.get("dns.trust-ad") == Some(&Meaning::Switch(true)),
    }
}

fn outbound(root: &Values) -> Outbound {
    let time = |name| Duration::from_secs(root.number(name));
    Outbound {
        first_retry: time("outbound.first-retry"),
        longest_retry: time("outbound.longest-retry"),
        give_up_after: time("outbound.give-up-after"),
        delay_notice_after: time("outbound.delay-notice-after"),
        destinations: root.count("outbound.destinations"),
        connections_per_destination: root.count("outbound.connections-per-destination"),
        port: u16::try_from(root.number("outbound.port")).expect("the table bounds this key"),
        private_addresses: match root.get("outbound.private-addresses") {
            Some(Meaning::Switch(true)) => PrivateAddresses::Allowed,
            _ => PrivateAddresses::Refused,
        },
    }
}

fn local_domain(row: &Row) -> Option<LocalDomain> {
    Some(LocalDomain { name: row.values.domain("domain.name")?.clone(), catch_all: row.values.address("domain.catch-all").cloned() })
}

fn alias(row: &Row) -> Option<Alias> {
    let to = row.values.addresses("alias.to").iter().map(|(_, address)| address.clone()).collect();
    Some(Alias { address: row.values.address("alias.address")?.clone(), to, line: row.line })
}

fn first_user(row: &Row) -> Option<FirstUser> {
    let password = Secret::new(row.values.text("first-user.password")?.to_owned());
    Some(FirstUser { address: row.values.address("first-user.address")?.clone(), password })
}

fn quota(row: &Row) -> Option<(String, u64)> {
    let Some(Meaning::Number(octets)) = row.values.get("quota.size") else { return None };
    Some((row.values.address("quota.address")?.folded(), *octets))
}
