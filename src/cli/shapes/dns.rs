//! `pipit dns …` as argh sees it. A word that cannot be used is bad usage, and the complaint says what to write instead.

use std::net::IpAddr;
use std::path::PathBuf;

use argh::FromArgs;

use crate::cli::args::DnsCommand;
use crate::cli::args::Question;
use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::anchor::NegativeAnchor;
use crate::proto::dns::name::Name;
use crate::proto::dns::upstream::UpstreamAddress;

/// ask the DNS, and see what its answers are believed by
#[derive(FromArgs)]
#[argh(subcommand, name = "dns", help_triggers("--help", "-h"))]
pub(in crate::cli) struct Dns {
    #[argh(subcommand)]
    command: DnsOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum DnsOf {
    Lookup(DnsLookup),
    Anchors(DnsAnchors),
}

/// look up records and prove them as the server does, without a configuration
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "lookup",
    help_triggers("--help", "-h"),
    note = "With --config FILE or --dir DIR the resolvers and anchors of that server are taken where none are named.
Exit status: 0 secure or insecure, a proved denial too; 1 bogus or indeterminate; 2 bad usage.
--json prints one object: rcode, status, ede (code, text), answers, chain, ms. The chain has an object for each zone that the
proof met, the root first: zone, status (secure or insecure), keys (tags of those that the anchor or the DS stands for), why
(an insecure one is)."
)]
struct DnsLookup {
    /// a resolver to ask, ADDR, ADDR:PORT or tls://ADDR#NAME, instead of the system's; may repeat
    #[argh(option, from_str_fn(parse_upstream))]
    upstream: Vec<UpstreamAddress>,
    /// a file of DS or DNSKEY lines to validate with, instead of the root's built-in keys
    #[argh(option)]
    trust_anchor: Option<PathBuf>,
    /// the time to validate at, seconds since 1970
    #[argh(option, from_str_fn(parse_time))]
    at: Option<UnixTime>,
    /// a zone that counts as unsigned; may repeat
    #[argh(option, from_str_fn(parse_negative))]
    negative_anchor: Vec<NegativeAnchor>,
    /// e.g. example.org, or an address for type PTR
    #[argh(positional, from_str_fn(parse_name))]
    name: Name,
    /// e.g. MX, TLSA, TYPE52
    #[argh(positional, arg_name = "type", from_str_fn(parse_type))]
    kind: RecordType,
}

/// show the keys that answers are validated by, and what was learnt about them
#[derive(FromArgs)]
#[argh(subcommand, name = "anchors", help_triggers("--help", "-h"))]
struct DnsAnchors {}

fn parse_upstream(text: &str) -> Result<UpstreamAddress, String> {
    UpstreamAddress::parse(text).map_err(|why| {
        format!("\"{}\" {why}: write e.g. 192.0.2.53, [2001:db8::1]:5353 or tls://9.9.9.9#dns.quad9.net", text.escape_debug())
    })
}

fn parse_time(text: &str) -> Result<UnixTime, String> {
    let seconds = text.parse().ok().filter(|seconds| (0..1 << 40).contains(seconds));
    seconds.map(UnixTime).ok_or_else(|| format!("\"{}\" is not a time: write seconds since 1970, as `date +%s` does", text.escape_debug()))
}

fn parse_negative(text: &str) -> Result<NegativeAnchor, String> {
    NegativeAnchor::parse(text)
        .map_err(|why| format!("\"{}\" cannot count as unsigned: {why}; write the name of a zone", text.escape_debug()))
}

fn parse_name(text: &str) -> Result<Name, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Name::reverse(address));
    }
    let ascii = if text.is_ascii() { None } else { Domain::parse(text).ok().and_then(|domain| Name::from_domain(&domain)) };
    let name = ascii.map_or_else(|| Name::parse(text), Ok);
    name.map_err(|error| format!("\"{}\" is no name: {error}; write e.g. example.org", text.escape_debug()))
}

fn parse_type(text: &str) -> Result<RecordType, String> {
    match RecordType::parse(text) {
        Some(kind) if kind.is_meta() => Err(format!("{kind} is no type of records that can be looked up: write e.g. MX")),
        Some(kind) => Ok(kind),
        None => Err(format!("\"{}\" is no type of records: write e.g. MX, and TYPEnn for one that has no name here", text.escape_debug())),
    }
}

pub(in crate::cli) fn dns_command(Dns { command }: Dns) -> DnsCommand {
    match command {
        DnsOf::Anchors(DnsAnchors {}) => DnsCommand::Anchors,
        DnsOf::Lookup(DnsLookup { upstream, trust_anchor, at, negative_anchor, name, kind }) => {
            DnsCommand::Lookup(Question { upstreams: upstream, trust_anchor, at, negative_anchors: negative_anchor, name, kind })
        }
    }
}
