//! Which hosts take the mail of a domain (RFC 5321 section 5.1, RFC 7505), and in which order.
//!
//! In go the domain, a `Lookup`, who we are, and the dice for hosts of equal preference; out comes a `Route`: hosts with
//! addresses, or a verdict on the domain. A verdict is permanent only if every answer that it rests on has arrived.
//! Not done here: whether the clock may be believed (no verdict counts while it may not; the caller knows), and TLS.

use std::future::Future;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::task::Poll;

use ring::rand::SecureRandom;

use crate::config::settings::PrivateAddresses;
use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::proto::dns::lookup::A;
use crate::proto::dns::lookup::Aaaa;
use crate::proto::dns::lookup::Answer;
use crate::proto::dns::lookup::Found;
use crate::proto::dns::lookup::Judged;
use crate::proto::dns::lookup::Lookup;
use crate::proto::dns::lookup::Mx;
use crate::proto::dns::lookup::Record;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::TroubleCause;
use crate::proto::dns::name::Name;

/// Hosts of a domain that are looked up: more are an attack on resolvers, and real domains have fewer than ten.
pub const MAX_HOSTS: usize = 20;
/// Addresses of an attempt: each may cost half a minute until it proves to be dead.
pub const MAX_ADDRESSES: usize = 8;
/// Hosts that a sentence names.
const NAMED: usize = 3;

const NO_SUCH_DOMAIN: EnhancedStatus = EnhancedStatus::new(5, 1, 2);
/// RFC 7505 section 4.
const NULL_MX: EnhancedStatus = EnhancedStatus::new(5, 1, 10);
const NO_ROUTE: EnhancedStatus = EnhancedStatus::new(5, 4, 4);
const LOOP: EnhancedStatus = EnhancedStatus::new(5, 4, 6);
const LOOKUP_FAILED: EnhancedStatus = EnhancedStatus::new(4, 4, 3);

/// By what a host is recognised as this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ourselves {
    pub names: Vec<Domain>,
    /// configured, of the interfaces, and as seen from outside where that is known
    pub addresses: Vec<IpAddr>,
}

/// A host to try, with at least one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// of the MX record; without MX the domain itself, or the literal
    pub name: Domain,
    /// in the order in which they are to be tried
    pub addresses: Vec<IpAddr>,
    pub preference: u16,
}

/// Why there are no hosts, for the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: EnhancedStatus,
    /// a sentence
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// best first; at most `MAX_ADDRESSES` addresses in all
    Hosts(Vec<Host>),
    /// the domain takes no mail
    Permanent(Verdict),
    /// their part of the DNS is in trouble
    Temporary(Verdict),
    /// our part is: everything waits, and the time does not count
    Blind(Verdict),
}

/// Finds the hosts of `domain`.
pub async fn gather(
    domain: &Domain,
    dns: &impl Lookup,
    ourselves: &Ourselves,
    private: PrivateAddresses,
    random: &dyn SecureRandom,
) -> Route {
    if let Some(address) = domain.literal() {
        let only = Sighting { name: domain.clone(), preference: 0, addresses: vec![address.to_canonical()], trouble: None };
        return choose(vec![only], ourselves, private, random);
    }
    let Some(name) = Name::from_domain(domain) else {
        return permanent(NO_SUCH_DOMAIN, format!("the domain {domain} cannot be asked for in the DNS"));
    };
    match (ask((domain, &name), dns, ourselves, private, random).await, dns.doubt()) {
        (Route::Permanent(Verdict { text, .. }), Some(why)) => {
            Route::Blind(Verdict { status: LOOKUP_FAILED, text: format!("{text}, as far as can be told: {why}") })
        }
        (route, _) => route,
    }
}

/// The route as the DNS has it.
async fn ask(
    (domain, name): (&Domain, &Name),
    dns: &impl Lookup,
    ourselves: &Ourselves,
    private: PrivateAddresses,
    random: &dyn SecureRandom,
) -> Route {
    let answer: Answer<Mx> = dns.lookup(name).await;
    let targets = match targets(domain, &answer) {
        Ok(targets) => targets,
        Err(route) => return route,
    };
    let targets = match before_ourselves(targets, ourselves, random) {
        Ok(targets) => targets,
        Err(route) => return route,
    };
    let lookups = targets.into_iter().map(|target| Box::pin(look_up(target, dns)) as Pin<Box<dyn Future<Output = Sighting> + '_>>);
    choose(together(lookups.collect()).await, ourselves, private, random)
}

/// A host whose addresses are not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: Domain,
    preference: u16,
}

/// What the DNS said of a host.
#[derive(Debug)]
struct Sighting {
    name: Domain,
    preference: u16,
    addresses: Vec<IpAddr>,
    /// the lookup of one family or both failed
    trouble: Option<Trouble>,
}

/// The hosts that the MX answer names, in any order.
fn targets(domain: &Domain, answer: &Answer<Mx>) -> Result<Vec<Target>, Route> {
    let records = match found(answer.judge()) {
        Err(trouble) => return Err(waiting(&format!("the mail servers of {domain} cannot be found out"), trouble)),
        Ok(Found::NoSuchName) => return Err(permanent(NO_SUCH_DOMAIN, format!("the domain {domain} does not exist"))),
        // RFC 5321 section 5.1: an implicit MX of preference 0. An alias leads on to its target's addresses.
        Ok(Found::NoData) => return Ok(vec![Target { name: domain.clone(), preference: 0 }]),
        Ok(Found::Records(records)) => records,
    };
    // RFC 7505 section 3: a null MX stands alone; beside others it means nothing.
    if records.iter().all(|mx| mx.exchange.is_root()) {
        return Err(permanent(NULL_MX, format!("the domain {domain} says that it takes no mail (null MX)")));
    }
    let hosts = records.iter().filter_map(|mx| Some(Target { name: mx.exchange.to_domain()?, preference: mx.preference }));
    let hosts: Vec<Target> = hosts.filter(|target| target.name.literal().is_none()).collect();
    if hosts.is_empty() {
        return Err(permanent(NO_ROUTE, format!("the MX records of {domain} name no host")));
    }
    Ok(hosts)
}

/// Shuffled, sorted, each name once, and without those that are no better than ourselves (RFC 5321 section 5.1).
fn before_ourselves(mut targets: Vec<Target>, ourselves: &Ourselves, random: &dyn SecureRandom) -> Result<Vec<Target>, Route> {
    shuffle(&mut targets, random);
    targets.sort_by_key(|target| target.preference);
    let own = targets.iter().find(|target| ourselves.names.contains(&target.name)).map(|target| target.preference);
    targets.retain(|target| own.is_none_or(|own| target.preference < own));
    if targets.is_empty() {
        return Err(mail_loop());
    }
    let mut seen: Vec<Domain> = Vec::new();
    targets.retain(|target| {
        let first = !seen.contains(&target.name);
        if first {
            seen.push(target.name.clone());
        }
        first
    });
    targets.truncate(MAX_HOSTS);
    Ok(targets)
}

async fn look_up(target: Target, dns: &impl Lookup) -> Sighting {
    let mut sighting = Sighting { name: target.name, preference: target.preference, addresses: Vec::new(), trouble: None };
    let Some(name) = Name::from_domain(&sighting.name) else { return sighting };
    let (v4, v6): (Answer<A>, Answer<Aaaa>) = smol::future::zip(dns.lookup(&name), dns.lookup(&name)).await;
    sighting.note(&v4, |record| IpAddr::V4(record.0));
    sighting.note(&v6, |record| IpAddr::V6(record.0).to_canonical());
    sighting
}

impl Sighting {
    fn note<R: Record>(&mut self, answer: &Answer<R>, address: impl Fn(&R) -> IpAddr) {
        match found(answer.judge()) {
            Ok(Found::Records(records)) => self.addresses.extend(records.iter().map(address)),
            Ok(Found::NoData | Found::NoSuchName) => {}
            Err(trouble) => self.trouble = Some(trouble.clone()),
        }
    }
}

/// The same for both states: no decision of this version depends on DNSSEC.
fn found<R: Record>(judged: Judged<'_, R>) -> Result<Found<'_, R>, &Trouble> {
    match judged {
        Judged::Secure(found) | Judged::Insecure(found) => Ok(found),
        Judged::Failed(trouble) => Err(trouble),
    }
}

/// Everything is known: drops what is ourselves or cannot be reached, and shares out the addresses.
fn choose(mut hosts: Vec<Sighting>, ourselves: &Ourselves, private: PrivateAddresses, random: &dyn SecureRandom) -> Route {
    let is_own = |host: &&Sighting| host.addresses.iter().any(|address| ourselves.addresses.contains(address));
    let own = hosts.iter().filter(is_own).map(|host| host.preference).min();
    hosts.retain(|host| own.is_none_or(|own| host.preference < own));
    if hosts.is_empty() {
        return mail_loop();
    }
    let asked = some_names(&hosts);
    let mut troubles: Vec<Trouble> = hosts.iter().filter_map(|host| host.trouble.clone()).collect();
    // What is our own fault must not be held against the domain.
    troubles.sort_by_key(|trouble| trouble.cause != TroubleCause::Ours);
    let unreachable = hosts.iter().any(|host| !host.addresses.is_empty());
    for host in &mut hosts {
        host.addresses.retain(|address| private == PrivateAddresses::Allowed || is_public(*address));
        shuffle(&mut host.addresses, random);
        host.addresses = alternating(&host.addresses);
    }
    hosts.retain(|host| !host.addresses.is_empty());
    if !hosts.is_empty() {
        return Route::Hosts(share(hosts));
    }
    match troubles.first() {
        Some(trouble) => waiting(&format!("no address of {asked} can be found out"), trouble),
        None if unreachable => permanent(NO_ROUTE, format!("{asked} has only addresses that the Internet cannot reach")),
        None => permanent(NO_ROUTE, format!("{asked} has no address")),
    }
}

fn some_names(hosts: &[Sighting]) -> String {
    let names: Vec<&str> = hosts.iter().take(NAMED).map(|host| host.name.as_str()).collect();
    let more = if hosts.len() > NAMED { " and others" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// IPv4 first: at homes an IPv6 address seldom has a PTR, and large sites refuse mail from those for good.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = v4.len().max(v6.len());
    let mut mixed: Vec<IpAddr> = (0..longest).flat_map(|at| [v4.get(at), v6.get(at)]).flatten().copied().collect();
    mixed.dedup();
    mixed
}

/// Every host gets its first address before any gets a second, so that one with many cannot keep the others out.
fn share(hosts: Vec<Sighting>) -> Vec<Host> {
    let mut shares = vec![0; hosts.len()];
    let mut left = MAX_ADDRESSES;
    let mut progress = true;
    while left > 0 && progress {
        progress = false;
        for (share, host) in shares.iter_mut().zip(&hosts) {
            if left > 0 && *share < host.addresses.len() {
                *share += 1;
                left -= 1;
                progress = true;
            }
        }
    }
    let taken = hosts.into_iter().zip(shares).filter(|(_, share)| *share > 0);
    taken
        .map(|(mut host, share)| {
            host.addresses.truncate(share);
            Host { name: host.name, addresses: host.addresses, preference: host.preference }
        })
        .collect()
}

/// Whether a server on the Internet can have this address (delivery.md section 2 point 4).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // RFC 6598: shared by the customers of one provider. RFC 1122 section 3.2.1.3: 0/8 is "this network".
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    let this_network = address.octets()[0] == 0;
    let special = address.is_loopback() || address.is_private() || address.is_link_local() || address.is_multicast();
    !(special || shared || this_network || address.is_broadcast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    let carries_private = carried_v4(address).is_some_and(|v4| !is_public_v4(v4));
    !(special || carries_private || address.is_unique_local() || address.is_unicast_link_local())
}

/// The IPv4 address to which a packet for this one goes in the end: mapped or compatible (RFC 4291 section 2.5.5), 6to4
/// (RFC 3056), or through a translator (RFC 6052 section 2.1).
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Fisher and Yates. Without dice the order stays: worse for the load of the others, and nothing else.
fn shuffle<T>(items: &mut [T], random: &dyn SecureRandom) {
    for last in (1..items.len()).rev() {
        let mut dice = [0u8; 4];
        if random.fill(&mut dice).is_err() {
            return;
        }
        let draw = usize::try_from(u32::from_be_bytes(dice)).unwrap_or(0);
        items.swap(last, draw % (last + 1));
    }
}

fn permanent(status: EnhancedStatus, text: String) -> Route {
    Route::Permanent(Verdict { status, text })
}

fn mail_loop() -> Route {
    permanent(LOOP, "the mail servers of this domain lead back to this server, which does not take its mail".to_owned())
}

fn waiting(what: &str, trouble: &Trouble) -> Route {
    let verdict = Verdict { status: LOOKUP_FAILED, text: format!("{what}: {trouble}") };
    match trouble.cause {
        TroubleCause::Zone => Route::Temporary(verdict),
        TroubleCause::Ours => Route::Blind(verdict),
    }
}

/// Runs a few futures at once and gives their outcomes in the same order.
pub async fn together<'f, T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + 'f>>>) -> Vec<T> {
    let mut outcomes: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *outcome = Some(value);
            }
        }
        if outcomes.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_told_from_others() {
        for text in ["8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2001:db8::1", "192.0.2.1", "2a00::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        let others = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1"];
        for text in others.into_iter().chain(["255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1"]) {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn equal_hosts_are_shuffled_and_nothing_is_lost() {
        let random = ring::rand::SystemRandom::new();
        let mut firsts = [0; 4];
        for _ in 0..400 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &random);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert!(firsts.iter().all(|count| *count > 40), "{firsts:?}");
    }

    #[test]
    fn a_host_with_many_addresses_leaves_room_for_the_others() {
        let sighting = |name: &str, count: u8| Sighting {
            name: Domain::parse(name).unwrap(),
            preference: 0,
            addresses: (0..count).map(|n| IpAddr::from([192, 0, 2, n])).collect(),
            trouble: None,
        };
        let shares: Vec<usize> = share(vec![sighting("a.test", 30), sighting("b.test", 1), sighting("c.test", 2)])
            .iter()
            .map(|host| host.addresses.len())
            .collect();
        assert_eq!(shares, [5, 1, 2]);
        let many = (0..20).map(|n| sighting(&format!("h{n}.test"), 3)).collect();
        assert_eq!(share(many).len(), MAX_ADDRESSES);
    }
}
