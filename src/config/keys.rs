//! The one table of everything that can be set: name, type with unit and range, default, example, help, and whether a
//! reload is enough. Parsing, faults, suggestions, `config explain`, `config reference`, `config show`, `config set`
//! and the commented template are all made from it.
//!
//! Only keys that this version honours stand here; any other key in the file is a fault.

/// One key. Names are stable: a renamed key breaks files in the field.
#[derive(Debug)]
pub struct Key {
    /// dotted, `limits.connections`; keys of a `[[block]]` begin with its name, `alias.to`
    pub name: &'static str,
    pub kind: Kind,
    pub without: Without,
    /// a value as TOML, for faults and help
    pub example: &'static str,
    /// one sentence
    pub help: &'static str,
    pub applies: Applies,
}

/// What values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// a host or domain name, not an address literal
    Domain,
    Address,
    /// a list of addresses; one alone may stand without brackets
    Addresses,
    Switch,
    Integer {
        least: u64,
        most: u64,
        unit: &'static str,
    },
    /// octets, with the suffixes k, M, G (1024 each)
    Size {
        least: u64,
        most: u64,
    },
    /// seconds, with the suffixes s, m, h, d
    Duration {
        least: u64,
        most: u64,
    },
    /// a list of networks in CIDR form
    Networks,
    /// a list of at least so many `address:port`
    Sockets {
        least: usize,
    },
    /// a list of resolvers: `address` or `address:port`
    Upstreams,
    /// a list of names of system users
    UserNames,
    /// an absolute path
    Path,
    Level,
    /// one character, or nothing
    Separator,
    /// the name of a system user
    UserName,
    /// a password: never shown, not even in a fault
    Secret,
}

/// What holds when the key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// it has to be written
    Fault,
    /// nothing is set; the words say what happens then
    Nothing(&'static str),
    /// this value, as TOML
    Value(&'static str),
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// with the next reload, without dropping a connection
    Live,
    /// paths and sockets are fixed before the process locks itself in
    Restart,
}

/// The blocks that may stand several times, in the order in which people write them.
pub const BLOCKS: [&str; 4] = ["domain", "alias", "quota", "first-user"];

/// Shortest password that is accepted for an account (NIST SP 800-63B section 5.1.1.1).
pub const MIN_PASSWORD: usize = 8;
/// A suggestion must share most of its letters, or it confuses.
const MAX_DISTANCE_SHARE: usize = 3;
/// Longer names are not compared: the distance costs length × length.
const MAX_COMPARED: usize = 64;

const KILO: u64 = 1024;
const MEGA: u64 = 1024 * KILO;
const GIGA: u64 = 1024 * MEGA;
const TERA: u64 = 1024 * GIGA;

macro_rules! key {
    ($name:literal, $kind:expr, $without:expr, $example:literal, $applies:ident, $help:literal) => {
        Key { name: $name, kind: $kind, without: $without, example: $example, help: $help, applies: Applies::$applies }
    };
}

/// Every key, in the order of the reference and of the template.
#[rustfmt::skip]
pub const TABLE: &[Key] = &[
    key!("hostname", Kind::Domain, Without::Fault, "\"mail.example.org\"", Restart,
        "The name of this server in greetings, Received fields and certificates; DNS should lead to it and back."),
    key!("dir", Kind::Path, Without::Value("\"/var/lib/pipit\""), "\"/srv/pipit\"", Restart,
        "The directory of mail, accounts and keys."),
    key!("user", Kind::UserName, Without::Nothing("pipit when started as root, else no change"), "\"pipit\"", Restart,
        "The system user that the server becomes after it has opened its ports."),
    key!("postmaster", Kind::Address, Without::Nothing("the first account"), "\"ann@example.org\"", Live,
        "The account or alias that gets mail to postmaster@ and abuse@ of every domain."),
    key!("tag-separator", Kind::Separator, Without::Value("\"+\""), "\"-\"", Live,
        "What begins a tag: mail for ann+shop@ goes to ann@; an empty text turns tags off."),
    key!("local-senders", Kind::UserNames, Without::Value("[]"), "[\"root\", \"www-data\"]", Live,
        "System users that may hand in mail with `sendmail` although no account has their name."),
    key!("listen.smtp", Kind::Sockets { least: 1 }, Without::Value("[\"0.0.0.0:25\", \"[::]:25\"]"), "[\"192.0.2.1:25\"]", Restart,
        "Where mail from other servers is received."),
    key!("listen.submission", Kind::Sockets { least: 0 }, Without::Value("[\"0.0.0.0:587\", \"[::]:587\"]"), "[\"192.0.2.1:587\"]", Restart,
        "Where people's programs hand in mail, with STARTTLS and a login (RFC 6409); an empty list turns it off."),
    key!("listen.submissions", Kind::Sockets { least: 0 }, Without::Value("[\"0.0.0.0:465\", \"[::]:465\"]"), "[\"192.0.2.1:465\"]", Restart,
        "The same with TLS from the first octet (RFC 8314); an empty list turns it off."),
    key!("listen.require-tls", Kind::Switch, Without::Value("true"), "false", Live,
        "Announce REQUIRETLS (RFC 8689), so that senders can insist on verified TLS for a message."),
    // RFC 5321 section 4.5.3.1.7: at least 64 KiB.
    key!("limits.message-size", Kind::Size { least: 64 * KILO, most: GIGA }, Without::Value("\"35M\""), "\"50M\"", Live,
        "The largest message that is accepted."),
    // RFC 5321 section 4.5.3.1.8: at least 100.
    key!("limits.recipients", Kind::Integer { least: 100, most: 10_000, unit: "recipients" }, Without::Value("500"), "200", Live,
        "Recipients of one message; the sender is told to send the rest as a second one."),
    key!("limits.connections", Kind::Integer { least: 4, most: 10_000, unit: "connections" }, Without::Value("200"), "200", Live,
        "Connections that are served at once, over all addresses."),
    key!("limits.connections-per-address", Kind::Integer { least: 1, most: 10_000, unit: "connections" }, Without::Value("30"), "30", Live,
        "Connections at once from one IPv4 address or IPv6 /64."),
    key!("limits.connections-per-minute", Kind::Integer { least: 1, most: 100_000, unit: "connections a minute" }, Without::Value("200"), "200", Live,
        "New connections a minute from one IPv4 address or IPv6 /64."),
    key!("limits.burst", Kind::Integer { least: 1, most: 100_000, unit: "connections" }, Without::Value("120"), "120", Live,
        "New connections that one address may open within seconds; tests of mail standards open about 60."),
    key!("limits.trusted", Kind::Networks, Without::Value("[]"), "[\"192.0.2.0/24\"]", Live,
        "Networks to which the limits per address do not apply; loopback is always one."),
    key!("limits.memory-budget", Kind::Size { least: MEGA, most: 4 * GIGA }, Without::Value("\"16M\""), "\"8M\"", Restart,
        "Memory for messages that are being received, shared by all connections; 8M suits a board with 512 MB."),
    // RFC 5321 section 4.5.3.2.7 wants 5 minutes; less is for tests and for a server under attack.
    key!("limits.idle-timeout", Kind::Duration { least: 1, most: 3600 }, Without::Value("\"5m\""), "\"5m\"", Live,
        "How long a silent connection is kept; shorter by itself when few slots are left."),
    key!("limits.min-free", Kind::Size { least: 16 * MEGA, most: TERA }, Without::Value("\"200M\""), "\"500M\"", Live,
        "Space that must stay free on the disk (at most 5 % of it) for a message to be accepted."),
    key!("limits.quota", Kind::Size { least: 0, most: 1024 * TERA }, Without::Value("0"), "\"5G\"", Live,
        "Space of each account without a [[quota]] of its own; 0 is no limit."),
    key!("outbound.first-retry", Kind::Duration { least: 1, most: 86_400 }, Without::Value("\"5m\""), "\"5m\"", Live,
        "How long mail waits after the first failed attempt; the wait grows with every further one."),
    key!("outbound.longest-retry", Kind::Duration { least: 1, most: 7 * 86_400 }, Without::Value("\"4h\""), "\"4h\"", Live,
        "The longest wait between two attempts."),
    // RFC 5321 section 4.5.4.1: the give-up time generally needs to be at least 4 to 5 days.
    key!("outbound.give-up-after", Kind::Duration { least: 1, most: 60 * 86_400 }, Without::Value("\"5d\""), "\"5d\"", Live,
        "When mail that cannot be delivered goes back to its sender."),
    key!("outbound.delay-notice-after", Kind::Duration { least: 1, most: 60 * 86_400 }, Without::Value("\"4h\""), "\"4h\"", Live,
        "When the sender is told, once, that a message is late."),
    key!("outbound.destinations", Kind::Integer { least: 1, most: 1000, unit: "domains" }, Without::Value("10"), "10", Live,
        "Domains to which mail is delivered at once."),
    key!("outbound.connections-per-destination", Kind::Integer { least: 1, most: 100, unit: "connections" }, Without::Value("2"), "2", Live,
        "Connections at once to the servers of one domain."),
    key!("outbound.port", Kind::Integer { least: 1, most: 65_535, unit: "(a port)" }, Without::Value("25"), "25", Live,
        "The port of other mail servers; anything but 25 is for tests."),
    key!("outbound.private-addresses", Kind::Switch, Without::Value("false"), "true", Live,
        "Deliver to mail servers at loopback and private addresses too; for tests and closed networks."),
    key!("dns.upstream", Kind::Upstreams, Without::Nothing("those of /etc/resolv.conf"), "[\"192.0.2.53\", \"tls://9.9.9.9#dns.quad9.net\"]", Live,
        "The recursive resolvers to ask, instead of those of the system; tls:// asks encrypted, and never otherwise."),
    key!("tls.certificate", Kind::Path, Without::Nothing("Pipit makes its own"), "\"/etc/ssl/mail/fullchain.pem\"", Restart,
        "The certificate chain for TLS, in PEM."),
    key!("tls.key", Kind::Path, Without::Nothing("Pipit makes its own"), "\"/etc/ssl/mail/key.pem\"", Restart,
        "The private key of the certificate, in PEM."),
    key!("log.level", Kind::Level, Without::Value("\"info\""), "\"debug\"", Live,
        "How much is logged: error, warn, info or debug."),
    key!("domain.name", Kind::Domain, Without::Fault, "\"example.org\"", Live,
        "A domain whose mail is received here."),
    key!("domain.catch-all", Kind::Address, Without::Nothing("mail for unknown addresses is refused"), "\"ann@example.org\"", Live,
        "The account or alias that gets the domain's mail for addresses that nobody has."),
    key!("alias.address", Kind::Address, Without::Fault, "\"info@example.org\"", Live,
        "The address that is an alias."),
    key!("alias.to", Kind::Addresses, Without::Fault, "[\"ann@example.org\"]", Live,
        "The accounts or aliases of this server that get its mail."),
    key!("quota.address", Kind::Address, Without::Fault, "\"ann@example.org\"", Live,
        "The account that has a quota of its own."),
    key!("quota.size", Kind::Size { least: 0, most: 1024 * TERA }, Without::Fault, "\"10G\"", Live,
        "Its space; 0 is no limit."),
    key!("first-user.address", Kind::Address, Without::Fault, "\"ann@example.org\"", Live,
        "An account to make at the next start if it does not exist; the block is then replaced by a comment."),
    key!("first-user.password", Kind::Secret, Without::Fault, "\"correct horse battery\"", Live,
        "Its password, at least 8 characters."),
];

impl Key {
    /// The block that the key belongs to, if it stands in a `[[block]]`.
    pub fn block(&self) -> Option<&'static str> {
        let (first, _) = self.name.split_once('.')?;
        BLOCKS.into_iter().find(|block| *block == first)
    }

    /// How the key is written at its place: `to` inside `[[alias]]`, `limits.connections` elsewhere.
    pub fn written(&self) -> &'static str {
        match self.block() {
            Some(block) => &self.name[block.len() + 1..],
            None => self.name,
        }
    }

    /// What to do instead of a wrong value.
    pub fn right(&self) -> String {
        format!("write e.g. {} = {}", self.written(), self.example)
    }
}

/// The key of exactly this name.
pub fn find(name: &str) -> Option<&'static Key> {
    TABLE.iter().find(|key| key.name == name)
}

/// The known key that was probably meant by `name`; `None` when nothing is near enough to be a help.
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.chars().count() > MAX_COMPARED {
        return None;
    }
    // `limits.connection_per_address` and `Limits.Connections` are one slip, not five.
    let name = name.to_lowercase().replace('_', "-");
    let best = TABLE.iter().map(|key| (distance(&name, key.name), key.name)).min()?;
    if best.0 <= best.1.len() / MAX_DISTANCE_SHARE {
        return Some(best.1);
    }
    // `connections` without its table, or in a wrong one.
    let last = name.rsplit('.').next().unwrap_or(&name);
    TABLE.iter().find(|key| key.name.rsplit('.').next() == Some(last)).map(|key| key.name)
}

/// Levenshtein's edit distance with swapped neighbours counted once: the slips that fingers make.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut last = None;
    for (i, l) in left.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let mut cost = (row[j] + usize::from(l != *r)).min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && last == Some(*r) && l == right[j - 1] && l != *r {
                cost = cost.min(before[j - 1] + 1);
            }
            next.push(cost);
        }
        last = Some(l);
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_lead_to_the_key_that_was_meant() {
        let rows = [
            ("limits.conections", Some("limits.connections")),
            ("Limits.Connections_Per_Address", Some("limits.connections-per-address")),
            ("hostnmae", Some("hostname")),
            ("connections", Some("limits.connections")),
            ("listen.require-tsl", Some("listen.require-tls")),
            ("alias.too", Some("alias.to")),
            ("completely.different", None),
        ];
        for (written, meant) in rows {
            assert_eq!(nearest(written), meant, "{written}");
        }
        assert_eq!(nearest(&"é".repeat(5000)), None);
        assert_eq!(distance("abcd", "abdc"), 1);
    }

    #[test]
    fn names_are_unique_and_help_is_one_sentence() {
        for (n, key) in TABLE.iter().enumerate() {
            assert!(TABLE[..n].iter().all(|other| other.name != key.name), "{} stands twice", key.name);
            assert!(key.help.ends_with('.') && !key.help.contains(". "), "{}: {}", key.name, key.help);
            assert!(key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'.'), "{}", key.name);
        }
    }
}
