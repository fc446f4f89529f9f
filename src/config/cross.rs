//! Faults that no key shows by itself: names that stand twice, addresses of domains that are not ours, aliases that
//! lead in a circle, listeners that overlap.
//!
//! Gives back what the checks had to work out anyway: the domains by name and where each alias ends.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::SocketAddr;

use crate::config::check::Reading;
use crate::config::check::Values;
use crate::config::fault::Fault;
use crate::config::recover::Lost;
use crate::config::settings::without_tag;
use crate::config::value::Meaning;
use crate::mail::address::Address;
use crate::mail::domain::Domain;

/// Most addresses that mail for one alias may pass or reach. A home has few people; more is the work of a list
/// manager. Bounds time and memory too: a file holds about 10,000 aliases.
const MAX_EXPANDED: usize = 200;

/// Local domains with their place among the `[[domain]]` blocks; of two equal ones the first.
pub(in crate::config) fn names(reading: &Reading) -> HashMap<Domain, usize> {
    let mut out = HashMap::new();
    for (place, name) in reading.rows("domain").filter_map(|row| row.values.domain("domain.name")).enumerate() {
        out.entry(name.clone()).or_insert(place);
    }
    out
}

pub(in crate::config) fn tag_separator(reading: &Reading) -> Option<char> {
    reading.root.text("tag-separator").and_then(|text| text.chars().next())
}

/// Adds every crosswise fault; gives where each alias ends, by folded address.
pub(in crate::config) fn check(
    reading: &Reading,
    names: &HashMap<Domain, usize>,
    faults: &mut Vec<Fault>,
) -> HashMap<String, Vec<Address>> {
    let unread = reading.lost == Lost::Domains || reading.rows("domain").any(|row| row.values.domain("domain.name").is_none());
    repeated_domains(reading, faults);
    repeated(reading, "alias", "alias.address", faults);
    repeated(reading, "quota", "quota.address", faults);
    repeated(reading, "first-user", "first-user.address", faults);
    shadowed(reading, faults);
    // Addresses of a [[domain]] that could not be read would seem to be foreign.
    if !unread {
        foreign(reading, names, faults);
    }
    listeners(&reading.root, faults);
    certificate(&reading.root, faults);
    trust_ad(&reading.root, faults);
    expand_all(reading, faults)
}

fn repeated_domains(reading: &Reading, faults: &mut Vec<Fault>) {
    let mut seen: HashMap<&Domain, usize> = HashMap::new();
    for values in reading.rows("domain").map(|row| &row.values) {
        let Some(name) = values.domain("domain.name") else { continue };
        let line = values.line("domain.name");
        match seen.get(name) {
            Some(first) => faults.push(Fault::new(
                line,
                "domain.name",
                format!("{name} stands already in line {first}"),
                "remove one of the two blocks",
            )),
            None => {
                seen.insert(name, line);
            }
        }
    }
}

fn repeated(reading: &Reading, block: &'static str, key: &'static str, faults: &mut Vec<Fault>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for values in reading.rows(block).map(|row| &row.values) {
        let Some(address) = values.address(key) else { continue };
        let line = values.line(key);
        match seen.get(&address.folded()) {
            Some(first) => {
                faults.push(Fault::new(line, key, format!("{address} stands already in line {first}"), "write one block with both"))
            }
            None => {
                seen.insert(address.folded(), line);
            }
        }
    }
}

/// An alias is looked at before accounts: the account of a first user with the same address would get nothing.
fn shadowed(reading: &Reading, faults: &mut Vec<Fault>) {
    let aliases: HashSet<String> =
        reading.rows("alias").filter_map(|row| row.values.address("alias.address")).map(Address::folded).collect();
    for (block, key) in [("first-user", "first-user.address"), ("quota", "quota.address")] {
        for values in reading.rows(block).map(|row| &row.values) {
            let Some(address) = values.address(key).filter(|address| aliases.contains(&address.folded())) else { continue };
            let what = format!("{address} is an alias, and cannot be an account too");
            faults.push(Fault::new(values.line(key), key, what, "rename the alias or the account"));
        }
    }
}

/// Addresses whose domain is not one of ours.
fn foreign(reading: &Reading, names: &HashMap<Domain, usize>, faults: &mut Vec<Fault>) {
    let mut judge = |values: &Values, key: &'static str| {
        let Some(address) = values.address(key).filter(|address| !names.contains_key(&address.domain)) else { return };
        let what = format!("{} is not one of the domains of this file", address.domain);
        faults.push(Fault::new(
            values.line(key),
            key,
            what,
            format!("use a domain of yours, or add [[domain]] with name = \"{}\"", address.domain),
        ));
    };
    judge(&reading.root, "postmaster");
    for row in &reading.rows {
        for key in ["domain.catch-all", "alias.address", "quota.address", "first-user.address"] {
            judge(&row.values, key);
        }
    }
    for row in reading.rows("alias") {
        for (line, address) in row.values.addresses("alias.to").iter().filter(|(_, address)| !names.contains_key(&address.domain)) {
            let what = format!("{address} is at another server; this version delivers to its own accounts only");
            faults.push(Fault::new(
                *line,
                "alias.to",
                what,
                "forwarding to other hosts comes with the outgoing queue; until then name a local address",
            ));
        }
    }
}

/// Two sockets that cannot both be opened. Port 0 (the system chooses) never collides; IPv6 sockets are IPv6 only.
fn listeners(root: &Values, faults: &mut Vec<Fault>) {
    let of = |key: &'static str| root.sockets(key).iter().map(move |(line, socket)| (key, *line, *socket));
    let sockets: Vec<(&str, usize, SocketAddr)> =
        ["listen.smtp", "listen.submission", "listen.submissions"].into_iter().flat_map(of).collect();
    for (n, (key, line, later)) in sockets.iter().enumerate() {
        let clash = sockets[..n].iter().find(|(_, _, earlier)| {
            let wide = earlier.ip().is_unspecified() || later.ip().is_unspecified() || earlier.ip() == later.ip();
            earlier.port() == later.port() && later.port() != 0 && earlier.is_ipv4() == later.is_ipv4() && wide
        });
        if let Some((_, _, earlier)) = clash {
            faults.push(Fault::new(*line, key, format!("{later} is already part of {earlier}"), "remove one of the two"));
        }
    }
}

fn certificate(root: &Values, faults: &mut Vec<Fault>) {
    for (one, other) in [("tls.certificate", "tls.key"), ("tls.key", "tls.certificate")] {
        if root.path(one).is_some() && root.path(other).is_none() && !faults.iter().any(|fault| fault.key == other) {
            faults.push(Fault::new(
                root.line(one),
                one,
                format!("{other} is missing beside it"),
                format!("write {other} too, or remove {one}"),
            ));
        }
    }
}

/// Whoever is between us and a resolver can set the bit: there must be nobody (RFC 6840 section 5.8).
fn trust_ad(root: &Values, faults: &mut Vec<Fault>) {
    const KEY: &str = "dns.trust-ad";
    if root.get(KEY) != Some(&Meaning::Switch(true)) {
        return;
    }
    let what = match root.get("dns.upstream") {
        Some(Meaning::Upstreams(upstreams)) => match upstreams.iter().find(|upstream| !upstream.is_loopback()) {
            Some(other) => format!("{other} is not on this machine, and anybody on the way to it could set the bit"),
            None if upstreams.is_empty() => "dns.upstream is empty".to_owned(),
            None => return,
        },
        Some(_) => return,
        None if faults.iter().any(|fault| fault.key == "dns.upstream") => return,
        None => "dns.upstream is missing beside it, and the system's resolvers may be elsewhere".to_owned(),
    };
    faults.push(Fault::new(root.line(KEY), KEY, what, "name only resolvers like 127.0.0.1 in dns.upstream, or remove dns.trust-ad"));
}

/// Where mail for every alias ends.
fn expand_all(reading: &Reading, faults: &mut Vec<Fault>) -> HashMap<String, Vec<Address>> {
    let graph = Graph::of(reading);
    let mut seen = vec![0; graph.steps.len() + graph.ends.len()];
    let mut out = HashMap::new();
    for (n, values) in graph.aliases.iter().enumerate() {
        let Some(address) = values.address("alias.address") else { continue };
        let line = values.line("alias.to");
        match graph.expand(n, &mut seen) {
            Ok(ends) => {
                out.insert(address.folded(), ends);
            }
            Err(Trouble::Loop { last }) => {
                let last = graph.aliases[last].address("alias.address").unwrap_or(address);
                let what = format!("mail for {address} comes back to it by way of {last}");
                faults.push(Fault::new(line, "alias.to", what, "let one of them lead to an account"));
            }
            Err(Trouble::TooMany) => {
                let what = format!("{address} leads through more than {MAX_EXPANDED} addresses");
                faults.push(Fault::new(line, "alias.to", what, "use a list manager for so many"));
            }
        }
    }
    out
}

enum Trouble {
    /// the alias that names the first one again
    Loop {
        last: usize,
    },
    TooMany,
}

/// The aliases as numbers, so that following them costs no comparing of texts.
struct Graph<'a> {
    aliases: Vec<&'a Values>,
    steps: Vec<Vec<Step>>,
    /// addresses that are no aliases, each spelling once
    ends: Vec<&'a Address>,
}

#[derive(Clone, Copy)]
enum Step {
    Alias(usize),
    End(usize),
}

impl<'a> Graph<'a> {
    fn of(reading: &'a Reading) -> Graph<'a> {
        let separator = tag_separator(reading);
        let aliases: Vec<&Values> =
            reading.rows("alias").map(|row| &row.values).filter(|values| values.address("alias.address").is_some()).collect();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for (n, address) in aliases.iter().enumerate().filter_map(|(n, values)| Some((n, values.address("alias.address")?))) {
            numbers.entry(address.folded()).or_insert(n);
        }
        let mut ends: Vec<&Address> = Vec::new();
        let mut end_numbers: HashMap<String, usize> = HashMap::new();
        let mut step = |address: &'a Address| {
            let folded = address.folded();
            let untagged = || without_tag(separator, address).and_then(|plain| numbers.get(&plain.folded()));
            if let Some(alias) = numbers.get(&folded).or_else(untagged) {
                return Step::Alias(*alias);
            }
            Step::End(*end_numbers.entry(folded).or_insert_with(|| {
                ends.push(address);
                ends.len() - 1
            }))
        };
        let mut row = |values: &&'a Values| values.addresses("alias.to").iter().map(|(_, address)| step(address)).collect();
        let steps = aliases.iter().map(&mut row).collect();
        Graph { aliases, steps, ends }
    }

    /// Follows an alias to addresses that are none. Each address counts once, so that every search ends. `seen` holds
    /// the search that last came by: it is shared, as clearing it for each alias would cost the most.
    fn expand(&self, start: usize, seen: &mut [usize]) -> Result<Vec<Address>, Trouble> {
        let search = start + 1;
        let mut ends = Vec::new();
        let mut count = 0;
        let mut todo = vec![start];
        while let Some(alias) = todo.pop() {
            for step in &self.steps[alias] {
                let place = match *step {
                    Step::Alias(next) if next == start => return Err(Trouble::Loop { last: alias }),
                    Step::Alias(next) => next,
                    Step::End(end) => self.steps.len() + end,
                };
                if std::mem::replace(&mut seen[place], search) == search {
                    continue;
                }
                count += 1;
                if count > MAX_EXPANDED {
                    return Err(Trouble::TooMany);
                }
                match *step {
                    Step::Alias(next) => todo.push(next),
                    Step::End(end) => ends.push(self.ends[end].clone()),
                }
            }
        }
        Ok(ends)
    }
}
