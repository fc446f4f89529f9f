//! What people ask about the configuration: `pipit config explain KEY`, `reference`, `show`, and which changes need a
//! restart. All words come from the table in `config::keys`.

use std::fmt;

use crate::config::check;
use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::file;
use crate::config::file::Value;
use crate::config::keys;
use crate::config::keys::Applies;
use crate::config::keys::BLOCKS;
use crate::config::keys::Key;
use crate::config::keys::Kind;
use crate::config::keys::TABLE;
use crate::config::keys::Without;
use crate::config::settings::Settings;
use crate::config::value::size_words;

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// One key as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `limits.connections`; keys of blocks count them: `alias[2].to`
    pub key: String,
    /// as TOML; empty when nothing is set
    pub value: String,
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Line(usize),
    Default,
}

/// `limits.connections = 200  # default`
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.origin, self.value.is_empty()) {
            (Origin::Line(line), _) => write!(f, "{} = {}  # line {line}", self.key, self.value),
            (Origin::Default, false) => write!(f, "{} = {}  # default", self.key, self.value),
            (Origin::Default, true) => write!(f, "# {} is not set", self.key),
        }
    }
}

/// Everything about one key. The fault names the nearest key.
pub fn explain(name: &str) -> Result<String, Fault> {
    if let Some(key) = keys::find(name) {
        return Ok(facts(key));
    }
    let prefix = format!("{name}.");
    let inside: Vec<String> = TABLE.iter().filter(|key| key.name.starts_with(&prefix)).map(facts).collect();
    if inside.is_empty() { Err(check::unknown_key(0, name)) } else { Ok(inside.join("\n")) }
}

fn facts(key: &Key) -> String {
    let name = key.name;
    let place = match key.block() {
        Some(block) => format!("\n  written as  {} in [[{block}]]", key.written()),
        None => String::new(),
    };
    let (kind, without, when) = (kind_words(key.kind), without_words(key), applies_words(key.applies));
    format!(
        "{name}\n  {}\n  type        {kind}\n  default     {without}\n  example     {} = {}{place}\n  takes effect {when}\n",
        key.help,
        key.written(),
        key.example
    )
}

fn kind_words(kind: Kind) -> String {
    match kind {
        Kind::Domain => "a domain name".to_owned(),
        Kind::Address => "a mail address".to_owned(),
        Kind::Addresses => "a list of mail addresses".to_owned(),
        Kind::Switch => "true or false".to_owned(),
        Kind::Integer { least, most, unit } => format!("a number from {least} to {most} ({unit})"),
        Kind::Size { least, most } => {
            format!("a size from {} to {} (octets, or with k, M, G in quotes)", size_words(least), size_words(most))
        }
        Kind::Duration { least, most } => format!("a time from {least} to {most} seconds (with s, m, h, d in quotes)"),
        Kind::Networks => "a list of IP networks".to_owned(),
        Kind::Sockets { .. } => "a list of address:port".to_owned(),
        Kind::Upstreams => "a list of addresses, address:port, or tls://address#name".to_owned(),
        Kind::NegativeAnchors => "a list of zones, each \"zone\" or \"zone until YYYY-MM-DD\"".to_owned(),
        Kind::UserNames => "a list of names of system users".to_owned(),
        Kind::Path => "an absolute path".to_owned(),
        Kind::Level => "error, warn, info or debug".to_owned(),
        Kind::Separator => "one of + - _ = # or an empty text".to_owned(),
        Kind::UserName => "the name of a system user".to_owned(),
        Kind::Secret => format!("a password of at least {} characters", keys::MIN_PASSWORD),
    }
}

fn without_words(key: &Key) -> &'static str {
    match key.without {
        Without::Fault => "none: it has to be written",
        Without::Nothing(words) => words,
        Without::Value(value) => value,
    }
}

fn applies_words(applies: Applies) -> &'static str {
    match applies {
        Applies::Live => "with the next reload",
        Applies::Restart => "after a restart",
    }
}

/// The reference page, Markdown.
pub fn reference() -> String {
    let mut out = String::from(
        "# pipit.toml\n\nEvery key of this version, made by `pipit config reference`. Sizes take k, M, G (1024 each), times s, m, h, d, in quotes.\n",
    );
    let mut section = "";
    out.push_str("\n## Top of the file\n");
    for key in TABLE {
        let first = key.name.split_once('.').map_or("", |(first, _)| first);
        if first != section {
            let (open, close) = if BLOCKS.contains(&first) { ("[[", "]]") } else { ("[", "]") };
            out.push_str(&format!("\n## {open}{first}{close}\n"));
            section = first;
        }
        let name = key.name.rsplit('.').next().unwrap_or(key.name);
        let (kind, without, when) = (kind_words(key.kind), without_words(key), applies_words(key.applies));
        let without = if let Without::Value(value) = key.without { format!("`{value}`") } else { without.to_owned() };
        out.push_str(&format!(
            "\n### `{name}`\n\n{}\n\n- type: {kind}\n- default: {without}\n- example: `{name} = {}`\n- takes effect {when}\n",
            key.help, key.example
        ));
    }
    out
}

/// Every value in force and where it comes from: the keys of the table in its order, then the blocks as written.
pub fn show(text: &str) -> Result<Vec<Shown>, Vec<Fault>> {
    check::check(text)?;
    let written = file::read(text);
    let mut out = Vec::new();
    for key in TABLE.iter().filter(|key| key.block().is_none()) {
        let pair = written.pairs.iter().find(|pair| pair.key == key.name);
        let default = if let Without::Value(value) = key.without { value } else { "" };
        out.push(match pair {
            Some(pair) => Shown { key: key.name.to_owned(), value: toml(key, &pair.value), origin: Origin::Line(pair.line) },
            None => Shown { key: key.name.to_owned(), value: default.to_owned(), origin: Origin::Default },
        });
    }
    for name in BLOCKS {
        for (n, block) in written.blocks.iter().filter(|block| block.name == name).enumerate() {
            let known = block.pairs.iter().filter_map(|pair| keys::find(&pair.key).map(|key| (key, pair)));
            out.extend(known.map(|(key, pair)| Shown {
                key: format!("{name}[{}].{}", n + 1, key.written()),
                value: toml(key, &pair.value),
                origin: Origin::Line(pair.line),
            }));
        }
    }
    Ok(out)
}

fn toml(key: &Key, value: &Value) -> String {
    if key.kind == Kind::Secret {
        return HIDDEN.to_owned();
    }
    match value {
        Value::Text(text) => file::quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(|(_, item)| toml(key, item)).collect::<Vec<_>>().join(", ")),
        other => shown(&other.to_string()),
    }
}

/// The keys that differ and that a reload cannot apply.
pub fn restart_needed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let changed = [
        ("dir", old.dir != new.dir),
        ("user", old.user != new.user),
        ("listen.smtp", old.listen.smtp != new.listen.smtp),
        ("listen.submission", old.listen.submission != new.listen.submission),
        ("listen.submissions", old.listen.submissions != new.listen.submissions),
        ("limits.memory-budget", old.limits.memory_budget != new.limits.memory_budget),
        ("tls.certificate", old.tls.as_ref().map(|tls| &tls.certificate) != new.tls.as_ref().map(|tls| &tls.certificate)),
        ("tls.key", old.tls.as_ref().map(|tls| &tls.key) != new.tls.as_ref().map(|tls| &tls.key)),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hostname = \"m.example.org\"\n[[domain]]\nname = \"example.org\"\n[[first-user]]\naddress = \"a@example.org\"\npassword = \"secret-word\"\n";

    #[test]
    fn every_key_is_explained_and_in_the_reference() {
        let page = reference();
        for key in TABLE {
            let text = explain(key.name).unwrap();
            assert!(text.contains(key.help) && page.contains(key.help), "{}", key.name);
        }
        assert!(explain("limits").unwrap().contains("limits.burst"));
        assert_eq!(explain("limits.brust").unwrap_err().right, "did you mean limits.burst?");
    }

    #[test]
    fn show_tells_the_origin_and_hides_secrets() {
        let lines: Vec<String> = show(TEXT).unwrap().iter().map(Shown::to_string).collect();
        for line in [
            "hostname = \"m.example.org\"  # line 1",
            "limits.connections = 200  # default",
            "# tls.key is not set",
            "domain[1].name = \"example.org\"  # line 3",
            "first-user[1].password = (hidden)  # line 6",
        ] {
            assert!(lines.iter().any(|shown| shown == line), "{line} in {lines:#?}");
        }
        assert!(!lines.concat().contains("secret-word"));
    }

    #[test]
    fn every_change_of_a_restart_key_is_noticed() {
        let settings = |text: String| check::check(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let old = settings(TEXT.to_owned());
        assert_eq!(restart_needed(&old, &old), [""; 0]);
        for key in TABLE.iter().filter(|key| key.block().is_none()) {
            let other = match key.name {
                "hostname" => continue,
                "tls.certificate" => "tls.certificate = \"/a\"\ntls.key = \"/b\"".to_owned(),
                "tls.key" => continue,
                "dns.trust-ad" => "dns.trust-ad = true\ndns.upstream = \"127.0.0.1\"".to_owned(),
                "limits.memory-budget" => "limits.memory-budget = \"8M\"".to_owned(),
                name => format!("{name} = {}", key.example),
            };
            let needed = restart_needed(&old, &settings(format!("{other}\n{TEXT}")));
            assert_eq!(needed.contains(&key.name), key.applies == Applies::Restart, "{}", key.name);
        }
    }
}
