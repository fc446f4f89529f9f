//! What the value of one key means: a written value and the key's kind in, a typed meaning or a fault out.
//!
//! Also the way back for `config set`: the words of a command line as TOML of the kind that the key takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use log::LevelFilter;

use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::file::Value;
use crate::config::file::quoted;
use crate::config::file::read_value;
use crate::config::keys::Key;
use crate::config::keys::Kind;
use crate::config::keys::MIN_PASSWORD;
use crate::mail::address::Address;
use crate::mail::domain::Domain;
use crate::mail::network::IpNetwork;
use crate::proto::dns::dnssec::anchor::NegativeAnchor;
use crate::proto::dns::upstream::UpstreamAddress;

/// What may separate a tag: characters that people do not otherwise have in their address.
const SEPARATORS: &str = "+-_=#";
/// Longest name of a system user (useradd(8)).
const MAX_USER_NAME: usize = 32;
/// Longest path (PATH_MAX of Linux).
const MAX_PATH: usize = 4096;
/// Longest password; a longer one only makes hashing slow.
const MAX_PASSWORD: usize = 1024;

/// A value that has been understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    Domain(Domain),
    Address(Address),
    /// with the line of each
    Addresses(Vec<(usize, Address)>),
    Switch(bool),
    /// a count, octets or seconds
    Number(u64),
    Networks(Vec<IpNetwork>),
    Sockets(Vec<(usize, SocketAddr)>),
    Upstreams(Vec<UpstreamAddress>),
    NegativeAnchors(Vec<NegativeAnchor>),
    Names(Vec<String>),
    Path(PathBuf),
    Level(LevelFilter),
    Text(String),
}

/// The meaning of `value`, written for `key` in `line`. A list gives a fault for each wrong item.
pub fn understand(key: &Key, line: usize, value: &Value) -> Result<Meaning, Vec<Fault>> {
    let one = |result: Result<Meaning, String>| result.map_err(|what| vec![fault(key, line, what)]);
    match key.kind {
        Kind::Domain => one(text(value).and_then(domain).map(Meaning::Domain)),
        Kind::Address => one(text(value).and_then(address).map(Meaning::Address)),
        Kind::Addresses => addresses(key, line, value),
        Kind::Switch => one(match value {
            Value::Switch(switch) => Ok(Meaning::Switch(*switch)),
            other => Err(format!("{other} is neither true nor false")),
        }),
        Kind::Integer { least, most, unit } => one(integer(value).and_then(|n| within(n, least, most, unit)).map(Meaning::Number)),
        Kind::Size { least, most } => one(size(value).and_then(|n| within_size(n, least, most)).map(Meaning::Number)),
        Kind::Duration { least, most } => one(duration(value).and_then(|n| within(n, least, most, "seconds")).map(Meaning::Number)),
        Kind::Networks => {
            let network = |text: &str| IpNetwork::parse(text).map_err(|error| format!("\"{}\" is not a network: {error}", shown(text)));
            each(key, line, value, network).map(|rows| Meaning::Networks(rows.into_iter().map(|(_, network)| network).collect()))
        }
        Kind::Sockets { least } => sockets(key, line, value, least),
        Kind::Upstreams => {
            each(key, line, value, upstream).map(|rows| Meaning::Upstreams(rows.into_iter().map(|(_, upstream)| upstream).collect()))
        }
        Kind::NegativeAnchors => {
            let anchor = |text: &str| {
                NegativeAnchor::parse(text).map_err(|why| format!("\"{}\" is not `zone` or `zone until YYYY-MM-DD`: {why}", shown(text)))
            };
            each(key, line, value, anchor).map(|rows| Meaning::NegativeAnchors(rows.into_iter().map(|(_, anchor)| anchor).collect()))
        }
        Kind::UserNames => each(key, line, value, user_name).map(|rows| Meaning::Names(rows.into_iter().map(|(_, name)| name).collect())),
        Kind::Path => one(text(value).and_then(path).map(Meaning::Path)),
        Kind::Level => one(text(value).and_then(level).map(Meaning::Level)),
        Kind::Separator => one(text(value).and_then(separator).map(Meaning::Text)),
        Kind::UserName => one(text(value).and_then(user_name).map(Meaning::Text)),
        Kind::Secret => one(secret(value).map(Meaning::Text)),
    }
}

fn fault(key: &Key, line: usize, what: impl Into<String>) -> Fault {
    Fault::new(line, key.name, what, key.right())
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("{other} is not a text in quotes")),
    }
}

/// Applies `parse` to every item; one text alone is a list of one.
fn each<T>(key: &Key, line: usize, value: &Value, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<(usize, T)>, Vec<Fault>> {
    let alone;
    let items = match value {
        Value::List(items) => items,
        other => {
            alone = vec![(line, other.clone())];
            &alone
        }
    };
    let mut out = Vec::new();
    let mut faults = Vec::new();
    for (line, item) in items {
        match text(item).and_then(&parse) {
            Ok(meaning) => out.push((*line, meaning)),
            Err(what) => faults.push(fault(key, *line, what)),
        }
    }
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}

fn domain(text: &str) -> Result<Domain, String> {
    let domain = Domain::parse(text).map_err(|error| format!("\"{}\" is not a domain: {error}", shown(text)))?;
    if domain.literal().is_some() { Err(format!("\"{}\" is an IP address, not a name", shown(text))) } else { Ok(domain) }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| format!("\"{}\" is not an address: {error}", shown(text)))
}

fn addresses(key: &Key, line: usize, value: &Value) -> Result<Meaning, Vec<Fault>> {
    let rows = each(key, line, value, address)?;
    if rows.is_empty() { Err(vec![fault(key, line, "the list is empty")]) } else { Ok(Meaning::Addresses(rows)) }
}

fn sockets(key: &Key, line: usize, value: &Value, least: usize) -> Result<Meaning, Vec<Fault>> {
    let socket = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| format!("\"{}\" is not address:port, with an IPv6 address in brackets", shown(text)))
    };
    let rows = each(key, line, value, socket)?;
    if rows.len() < least { Err(vec![fault(key, line, "the list is empty")]) } else { Ok(Meaning::Sockets(rows)) }
}

fn upstream(text: &str) -> Result<UpstreamAddress, String> {
    UpstreamAddress::parse(text).map_err(|why| format!("\"{}\" {why}", shown(text)))
}

fn integer(value: &Value) -> Result<u64, String> {
    match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| format!("{number} is below zero")),
        other => Err(format!("{other} is not a number")),
    }
}

fn within(number: u64, least: u64, most: u64, unit: &str) -> Result<u64, String> {
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("{number} is not within {least} to {most} {unit}")) }
}

fn within_size(octets: u64, least: u64, most: u64) -> Result<u64, String> {
    let inside = (least..=most).contains(&octets);
    if inside { Ok(octets) } else { Err(format!("{} is not within {} to {}", size_words(octets), size_words(least), size_words(most))) }
}

/// A number with the last letter as unit.
fn with_suffix(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let suffix = text.chars().next_back()?;
    let factor = units.iter().find(|(letter, _)| *letter == suffix)?.1;
    let digits = text[..text.len() - suffix.len_utf8()].trim_end();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

const SIZE_UNITS: [(char, u64); 5] = [('k', 1 << 10), ('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30), ('T', 1 << 40)];
const TIME_UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

fn size(value: &Value) -> Result<u64, String> {
    match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| format!("{number} is below zero")),
        Value::Text(text) => with_suffix(text, &SIZE_UNITS)
            .or_else(|| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())))
            .ok_or_else(|| format!("\"{}\" is not a size (a number with k, M or G)", shown(text))),
        other => Err(format!("{other} is not a size (a number with k, M or G in quotes)")),
    }
}

fn duration(value: &Value) -> Result<u64, String> {
    match value {
        Value::Text(text) => {
            with_suffix(text, &TIME_UNITS).ok_or_else(|| format!("\"{}\" is not a time (a number with s, m, h or d)", shown(text)))
        }
        Value::Integer(number) => Err(format!("{number} has no unit (s, m, h or d in quotes)")),
        other => Err(format!("{other} is not a time (a number with s, m, h or d in quotes)")),
    }
}

/// Octets in the largest unit that divides them: `35M`.
pub fn size_words(octets: u64) -> String {
    let unit = SIZE_UNITS.iter().rev().find(|(letter, factor)| *letter != 'K' && octets > 0 && octets.is_multiple_of(*factor));
    unit.map_or_else(|| octets.to_string(), |(letter, factor)| format!("{}{letter}", octets / factor))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("\"{}\" is not an absolute path", shown(text)));
    }
    if text.len() > MAX_PATH || text.contains('\0') {
        return Err("the path is too long or holds a NUL".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        other => Err(format!("\"{}\" is none of error, warn, info, debug", shown(other))),
    }
}

fn separator(text: &str) -> Result<String, String> {
    let fits = text.is_empty() || (text.len() == 1 && SEPARATORS.contains(text));
    if fits { Ok(text.to_owned()) } else { Err(format!("\"{}\" is neither empty nor one of + - _ = #", shown(text))) }
}

fn user_name(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    let fits = letters && !text.is_empty() && text.len() <= MAX_USER_NAME && !text.starts_with('-');
    if fits { Ok(text.to_owned()) } else { Err(format!("\"{}\" is not the name of a system user", shown(text))) }
}

/// The words never repeat the password.
fn secret(value: &Value) -> Result<String, String> {
    let Value::Text(password) = value else { return Err("the password is not a text in quotes".to_owned()) };
    if password.chars().count() < MIN_PASSWORD {
        return Err(format!("the password has fewer than {MIN_PASSWORD} characters"));
    }
    if password.len() > MAX_PASSWORD || password.chars().any(char::is_control) {
        return Err("the password is too long or holds control characters".to_owned());
    }
    Ok(password.clone())
}

/// Words of a command line as TOML: `300`, `35M`, `on`, `192.0.2.0/24, ::1`, or already TOML (`["a", "b"]`). A value
/// that does not fit the kind becomes a quoted text, about which `understand` then complains.
pub fn to_toml(kind: Kind, words: &str) -> String {
    let words = words.trim();
    match kind {
        Kind::Switch => match words {
            "true" | "on" | "yes" => "true".to_owned(),
            "false" | "off" | "no" => "false".to_owned(),
            other => quoted(other),
        },
        Kind::Integer { .. } => match read_value(words) {
            Some(Value::Integer(_)) if !words.contains('#') => words.to_owned(),
            _ => quoted(words),
        },
        Kind::Addresses | Kind::Networks | Kind::Sockets { .. } | Kind::Upstreams | Kind::NegativeAnchors | Kind::UserNames => {
            match read_value(words) {
                Some(Value::List(_)) if !words.contains(['\n', '#']) => words.to_owned(),
                _ => list_to_toml(words.split(',').map(str::trim).filter(|item| !item.is_empty())),
            }
        }
        Kind::Size { .. } if !words.is_empty() && words.len() < 19 && words.bytes().all(|b| b.is_ascii_digit()) => {
            let digits = words.trim_start_matches('0');
            if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
        }
        Kind::Domain
        | Kind::Address
        | Kind::Size { .. }
        | Kind::Duration { .. }
        | Kind::Path
        | Kind::Level
        | Kind::Separator
        | Kind::UserName
        | Kind::Secret => quoted(words),
    }
}

/// `["a", "b"]`
pub fn list_to_toml<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::TABLE;
    use crate::config::keys::Without;
    use crate::config::keys::find;

    fn meaning(name: &str, toml: &str) -> Result<Meaning, String> {
        let value = read_value(toml).unwrap_or_else(|| panic!("{toml} is no TOML"));
        understand(find(name).unwrap(), 1, &value).map_err(|faults| faults[0].what.clone())
    }

    #[test]
    fn every_default_and_every_example_fits_its_key() {
        for key in TABLE {
            meaning(key.name, key.example).unwrap_or_else(|what| panic!("{}: {what}", key.name));
            if let Without::Value(default) = key.without {
                meaning(key.name, default).unwrap_or_else(|what| panic!("{}: {what}", key.name));
            }
        }
    }

    #[test]
    fn units_are_read() {
        let rows = [
            ("limits.message-size", "\"35M\"", 35 << 20),
            ("limits.message-size", "1000000", 1_000_000),
            ("limits.message-size", "\"64k\"", 65_536),
            ("limits.quota", "\"2T\"", 2 << 40),
            ("limits.quota", "0", 0),
            ("limits.idle-timeout", "\"5 m\"", 300),
            ("limits.idle-timeout", "\"1h\"", 3600),
            ("limits.connections", "0x40", 64),
        ];
        for (key, toml, number) in rows {
            assert_eq!(meaning(key, toml), Ok(Meaning::Number(number)), "{key} = {toml}");
        }
        assert_eq!(
            (size_words(35 << 20), size_words(1000), size_words(0), size_words(3 << 40)),
            ("35M".into(), "1000".into(), "0".into(), "3T".into())
        );
    }

    #[test]
    fn wrong_values_are_told_apart() {
        let rows = [
            ("limits.connections", "\"many\"", "\"many\" is not a number"),
            ("limits.connections", "-1", "-1 is below zero"),
            ("limits.connections", "1.5", "a number with a fraction is not a number"),
            ("limits.connections", "3", "3 is not within 4 to 10000 connections"),
            ("limits.message-size", "\"1k\"", "1k is not within 64k to 1G"),
            ("limits.message-size", "\"99999999999999999999G\"", "\"99999999999999999999G\" is not a size (a number with k, M or G)"),
            ("limits.idle-timeout", "300", "300 has no unit (s, m, h or d in quotes)"),
            ("listen.require-tls", "\"on\"", "\"on\" is neither true nor false"),
            ("listen.smtp", "[\"25\"]", "\"25\" is not address:port, with an IPv6 address in brackets"),
            ("listen.smtp", "[]", "the list is empty"),
            (
                "limits.trusted",
                "[\"192.0.2.5/24\"]",
                "\"192.0.2.5/24\" is not a network: the address goes beyond the prefix; the network is 192.0.2.0/24",
            ),
            ("hostname", "\"[192.0.2.1]\"", "\"[192.0.2.1]\" is an IP address, not a name"),
            ("dir", "\"mail\"", "\"mail\" is not an absolute path"),
            ("tag-separator", "\".\"", "\".\" is neither empty nor one of + - _ = #"),
            ("dns.negative-anchor", "[\".\"]", "\".\" is not `zone` or `zone until YYYY-MM-DD`: the root would be all there is"),
            (
                "dns.negative-anchor",
                "\"x.org until 2027-02-30\"",
                "\"x.org until 2027-02-30\" is not `zone` or `zone until YYYY-MM-DD`: there is no such day",
            ),
            ("first-user.password", "\"hunter2\"", "the password has fewer than 8 characters"),
        ];
        for (key, toml, what) in rows {
            assert_eq!(meaning(key, toml), Err(what.to_owned()), "{key} = {toml}");
        }
    }

    #[test]
    fn words_become_toml_of_the_kind() {
        let rows = [
            ("limits.connections", "300", "300"),
            ("limits.connections", "300 # x", "\"300 # x\""),
            ("limits.message-size", "50M", "\"50M\""),
            ("limits.quota", "000", "0"),
            ("listen.require-tls", "off", "false"),
            ("limits.trusted", "192.0.2.0/24, ::1", "[\"192.0.2.0/24\", \"::1\"]"),
            ("limits.trusted", "", "[]"),
            ("listen.smtp", "[\"127.0.0.1:25\"]", "[\"127.0.0.1:25\"]"),
            ("hostname", "mail.example.org", "\"mail.example.org\""),
            ("tag-separator", "", "\"\""),
        ];
        for (key, words, toml) in rows {
            assert_eq!(to_toml(find(key).unwrap().kind, words), toml, "{key} {words}");
        }
    }
}
