//! What the configuration means, typed, and prepared so that a RCPT is judged without looking through lists.
//!
//! Made only by `config::check`, so a `Settings` is free of faults: every alias ends at local addresses that are no
//! aliases, no name stands twice. Not known here: which accounts exist (that is in the store), hence `lookups`.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::mail::address::Address;
use crate::mail::address::LocalPart;
use crate::mail::domain::Domain;
use crate::mail::network::IpNetwork;
use crate::mail::path::ForwardPath;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::anchor::NegativeAnchor;
use crate::proto::dns::upstream::UpstreamAddress;

/// Who the server becomes when it was started as root and `user` is not written.
pub const DEFAULT_USER: &str = "pipit";
/// Names that must be read by a person in every domain (RFC 5321 section 4.5.1, RFC 2142 section 4).
const ROLES: [&str; 2] = ["postmaster", "abuse"];

/// All settings of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub hostname: Domain,
    pub dir: PathBuf,
    /// `None`: `DEFAULT_USER` when root, else no change
    pub user: Option<String>,
    /// `None`: the first account
    pub postmaster: Option<Address>,
    pub domains: Vec<LocalDomain>,
    /// as written, in the order of the file
    pub aliases: Vec<Alias>,
    pub first_users: Vec<FirstUser>,
    pub listen: Listen,
    pub limits: Limits,
    pub outbound: Outbound,
    /// recursive resolvers; `None`: those of /etc/resolv.conf
    pub upstreams: Option<Vec<UpstreamAddress>>,
    pub dns: Dns,
    /// system users who may send without an account of their name
    pub local_senders: Vec<String>,
    /// `None`: a certificate of our own
    pub tls: Option<TlsFiles>,
    pub log_level: LevelFilter,
    pub(in crate::config) tag_separator: Option<char>,
    pub(in crate::config) by_name: HashMap<Domain, usize>,
    /// folded address → where its mail ends; holds no alias any more
    pub(in crate::config) expanded: HashMap<String, Vec<Address>>,
    /// folded address → octets, 0 is no limit
    pub(in crate::config) quotas: HashMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDomain {
    pub name: Domain,
    pub catch_all: Option<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub address: Address,
    pub to: Vec<Address>,
    /// where it is written
    pub line: usize,
}

/// An account to make at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstUser {
    pub address: Address,
    pub password: Secret,
}

/// A text that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// at least one; `[::]` means IPv6 only, `0.0.0.0` stands beside it
    pub smtp: Vec<SocketAddr>,
    /// STARTTLS and login; may be empty
    pub submission: Vec<SocketAddr>,
    /// TLS first, and login; may be empty
    pub submissions: Vec<SocketAddr>,
    /// announce REQUIRETLS
    pub require_tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// octets
    pub message_size: u64,
    pub recipients: usize,
    pub connections: usize,
    pub connections_per_address: usize,
    pub connections_per_minute: u32,
    pub burst: u32,
    /// beside loopback
    pub trusted: Vec<IpNetwork>,
    /// octets
    pub memory_budget: usize,
    pub idle_timeout: Duration,
    /// octets, lowered to 5 % of the file system where that is less
    pub min_free: u64,
    /// octets for accounts without a quota of their own; `None`: no limit
    pub quota: Option<u64>,
}

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    pub first_retry: Duration,
    pub longest_retry: Duration,
    pub give_up_after: Duration,
    pub delay_notice_after: Duration,
    pub destinations: usize,
    pub connections_per_destination: usize,
    /// 25, but for tests
    pub port: u16,
    pub private_addresses: PrivateAddresses,
}

/// Whether a mail server may have an address that the Internet cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateAddresses {
    Refused,
    Allowed,
}

/// What is believed of answers of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `None`: the root's keys
    pub trust_anchor: Option<TrustAnchor>,
    pub negative_anchors: Vec<NegativeAnchor>,
    /// All upstreams are at loopback addresses if it is `true`.
    pub trust_ad: bool,
}

/// A file of anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    pub file: PathBuf,
    /// where the file is named
    pub line: usize,
    /// What it says; empty until somebody has read it: `config` opens no files.
    pub anchors: Anchors,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// One thing to try for a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// fits if the store has this account
    Account(Address),
    /// fits always: addresses of accounts, perhaps with a tag (`Settings::without_tag`), never of aliases
    Alias(Vec<Address>),
    /// the oldest account of the store
    FirstAccount,
}

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Settings {
    pub fn local_domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter().map(|domain| &domain.name)
    }

    /// Whether mail for the domain is received here.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.by_name.contains_key(domain)
    }

    /// Where mail for an alias ends: addresses of accounts (perhaps with a tag). `None` if the address is no alias.
    pub fn alias(&self, address: &Address) -> Option<&[Address]> {
        self.expanded.get(&address.folded()).map(Vec::as_slice)
    }

    pub fn catch_all(&self, domain: &Domain) -> Option<&Address> {
        let place = self.by_name.get(domain)?;
        self.domains.get(*place)?.catch_all.as_ref()
    }

    /// `ann@…` for `ann+shop@…`; `None` when there is no tag.
    pub fn without_tag(&self, address: &Address) -> Option<Address> {
        without_tag(self.tag_separator, address)
    }

    /// Octets that the account may use; `None`: no limit.
    pub fn quota(&self, account: &Address) -> Option<u64> {
        match self.quotas.get(&account.folded()) {
            Some(octets) => Some(*octets).filter(|octets| *octets > 0),
            None => self.limits.quota,
        }
    }

    /// What to try for a recipient, in order; the first that fits gets the message, none is "no such user" (550 5.1.1).
    /// `None`: the domain is not ours (relaying denied, 550 5.7.1).
    pub fn lookups(&self, path: &ForwardPath) -> Option<Vec<Lookup>> {
        let address = match path {
            // RFC 5321 section 4.5.1: postmaster without a domain must be accepted.
            ForwardPath::Postmaster => return Some(self.postmaster_lookups()),
            ForwardPath::Address(address) => address,
        };
        let role = ROLES.contains(&address.local.folded().as_str());
        if !self.is_local(&address.domain) {
            // The server is a host too, and its name needs a postmaster even if nobody else has mail there.
            return (role && address.domain == self.hostname).then(|| self.postmaster_lookups());
        }
        let mut out = Vec::new();
        self.try_address(address, &mut out);
        if role {
            out.extend(self.postmaster_lookups());
        }
        if let Some(catch_all) = self.catch_all(&address.domain) {
            self.try_address(catch_all, &mut out);
        }
        Some(out)
    }

    fn postmaster_lookups(&self) -> Vec<Lookup> {
        let mut out = Vec::new();
        if let Some(postmaster) = &self.postmaster {
            self.try_address(postmaster, &mut out);
        }
        // A postmaster that was removed must not leave the role empty.
        out.push(Lookup::FirstAccount);
        out
    }

    /// The address as it is, then without its tag: `ann+shop@` may be an alias or account of its own.
    fn try_address(&self, address: &Address, out: &mut Vec<Lookup>) {
        for address in [Some(address.clone()), self.without_tag(address)].into_iter().flatten() {
            out.push(match self.alias(&address) {
                Some(to) => Lookup::Alias(to.to_vec()),
                None => Lookup::Account(address),
            });
        }
    }
}

/// The address without what begins at the separator; `None` when there is no tag, or nothing before it.
pub(in crate::config) fn without_tag(separator: Option<char>, address: &Address) -> Option<Address> {
    let (name, _) = address.local.as_str().split_once(separator?)?;
    let local = LocalPart::parse(name).ok()?;
    Some(Address { local, domain: address.domain.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;

    const TEXT: &str = r#"
hostname = "mail.example.org"
postmaster = "root@example.org"
[limits]
quota = "1G"
[[domain]]
name = "example.org"
[[domain]]
name = "bücher.example"
catch-all = "Ann@example.org"
[[alias]]
address = "Info@example.org"
to = ["sales@example.org", "ann@example.org"]
[[alias]]
address = "sales@example.org"
to = ["bob+sales@example.org", "ANN@example.org"]
[[alias]]
address = "root@example.org"
to = "ann@example.org"
[[quota]]
address = "Ann@example.org"
size = 0
"#;

    fn words(lookups: Option<Vec<Lookup>>) -> String {
        let Some(lookups) = lookups else { return "not ours".to_owned() };
        let word = |lookup: &Lookup| match lookup {
            Lookup::Account(address) => address.to_string(),
            Lookup::Alias(to) => format!("({})", to.iter().map(Address::to_string).collect::<Vec<_>>().join(" ")),
            Lookup::FirstAccount => "first".to_owned(),
        };
        lookups.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_recipient_leads_to_what_to_try() {
        let settings = check(TEXT).unwrap();
        let rows = [
            ("<bob@example.org>", "bob@example.org"),
            ("<bob+x@EXAMPLE.org>", "bob+x@example.org, bob@example.org"),
            ("<INFO@example.org>", "(ann@example.org bob+sales@example.org)"),
            ("<info+x@example.org>", "info+x@example.org, (ann@example.org bob+sales@example.org)"),
            ("<+x@example.org>", "+x@example.org"),
            ("<who@bücher.example>", "who@xn--bcher-kva.example, Ann@example.org"),
            ("<Postmaster>", "(ann@example.org), first"),
            ("<abuse@example.org>", "abuse@example.org, (ann@example.org), first"),
            ("<postmaster@mail.example.org>", "(ann@example.org), first"),
            ("<ann@mail.example.org>", "not ours"),
            ("<ann@elsewhere.example>", "not ours"),
            ("<\"ann@elsewhere.example\"@example.org>", "\"ann@elsewhere.example\"@example.org"),
        ];
        for (path, expected) in rows {
            assert_eq!(words(settings.lookups(&ForwardPath::parse(path).unwrap())), expected, "{path}");
        }
    }

    #[test]
    fn quotas_are_per_account_or_for_all() {
        let settings = check(TEXT).unwrap();
        assert_eq!(settings.quota(&Address::parse("ann@example.org").unwrap()), None);
        assert_eq!(settings.quota(&Address::parse("bob@example.org").unwrap()), Some(1 << 30));
    }

    #[test]
    fn a_secret_does_not_show() {
        assert!(!format!("{:?}", Secret::new("hunter22".to_owned())).contains("hunter22"));
    }
}
