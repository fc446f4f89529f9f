//! The addresses that one visit to a domain may try, in their order, and what became of each.
//!
//! In goes a route; `next` gives the first that has not failed. A handshake that failed lets the same address be tried in
//! plaintext, after every host of equal preference was tried with TLS (delivery.md section 5); a host that turns out to be
//! ourselves takes all that are no better with it (RFC 5321 section 5.1). Indices stay what they are during a visit.

use std::net::IpAddr;
use std::net::SocketAddr;

use crate::mail::enhanced::EnhancedStatus;
use crate::outbound::converse::HostFailure;
use crate::outbound::converse::Security;
use crate::outbound::converse::Target;
use crate::outbound::converse::Why;
use crate::reach::route::Host;

const LOOP: EnhancedStatus = EnhancedStatus::new(5, 4, 6);
const UNREACHABLE: EnhancedStatus = EnhancedStatus::new(4, 4, 1);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Whether a host has addresses of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    Single,
    Dual,
}

#[derive(Debug)]
enum Standing {
    /// to be tried, or in use
    Good,
    /// plaintext at an address whose handshake has not failed
    InReserve,
    Failed(HostFailure),
}

#[derive(Debug)]
pub struct Candidate {
    pub target: Target,
    pub stack: Stack,
    preference: u16,
    standing: Standing,
}

#[derive(Debug, Default)]
pub struct Candidates(Vec<Candidate>);

impl Family {
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

impl Candidates {
    /// `first`: the family to begin with at hosts that have both.
    pub fn new(hosts: &[Host], port: u16, first: Option<Family>) -> Candidates {
        let mut list: Vec<Candidate> = Vec::new();
        for group in hosts.chunk_by(|one, other| one.preference == other.preference) {
            let encrypted = group.iter().flat_map(|host| of_host(host, port, first, Security::Opportunistic));
            list.extend(encrypted);
            let plain = group.iter().flat_map(|host| of_host(host, port, first, Security::Plaintext));
            list.extend(plain);
        }
        Candidates(list)
    }

    /// The first candidate at or behind `from` that is worth trying.
    pub fn next(&self, from: usize) -> Option<usize> {
        let good = |candidate: &Candidate| matches!(candidate.standing, Standing::Good);
        (from..self.0.len()).find(|at| self.0.get(*at).is_some_and(good))
    }

    pub fn get(&self, at: usize) -> Option<&Candidate> {
        self.0.get(at)
    }

    /// Notes that nothing can be delivered there during this visit.
    pub fn fail(&mut self, at: usize, failure: HostFailure) {
        let Some(candidate) = self.0.get_mut(at) else { return };
        let (preference, address) = (candidate.preference, candidate.target.address);
        let (own, handshake) = (matches!(failure, HostFailure::Ourselves), matches!(failure, HostFailure::Tls(_)));
        candidate.standing = Standing::Failed(failure);
        for other in &mut self.0 {
            if own && other.preference >= preference && !matches!(other.standing, Standing::Failed(_)) {
                other.standing = Standing::Failed(HostFailure::Ourselves);
            }
            if handshake && other.target.address == address && matches!(other.standing, Standing::InReserve) {
                other.standing = Standing::Good;
            }
        }
    }

    /// Why nothing could be reached: what a server said weighs more than a silence. Permanent only if all were ourselves.
    pub fn why(&self) -> Why {
        let failures: Vec<&HostFailure> = self.0.iter().filter_map(Candidate::failure).collect();
        let others = || failures.iter().filter(|failure| !matches!(failure, HostFailure::Ourselves));
        let told = others().find(|failure| failure.why().reply.is_some());
        match told.or_else(|| others().next()) {
            Some(failure) => failure.why(),
            None if failures.is_empty() => Why { status: UNREACHABLE, reply: None, text: "there was no server to try".to_owned() },
            None => {
                let text = "the mail servers of this domain are this server itself, which does not take its mail".to_owned();
                Why { status: LOOP, reply: None, text }
            }
        }
    }

    /// The host that `why` speaks of, for the record.
    pub fn spokesman(&self) -> Option<&Target> {
        let failed =
            || self.0.iter().filter(|candidate| matches!(candidate.failure(), Some(failure) if !matches!(failure, HostFailure::Ourselves)));
        let told = failed().find(|candidate| candidate.failure().is_some_and(|failure| failure.why().reply.is_some()));
        told.or_else(|| failed().next()).map(|candidate| &candidate.target)
    }

    /// Whether some host was not reached, so that it is not known what it would have said.
    pub fn any_failed(&self) -> bool {
        self.0.iter().any(|candidate| candidate.failure().is_some())
    }
}

impl Candidate {
    fn failure(&self) -> Option<&HostFailure> {
        match &self.standing {
            Standing::Failed(failure) => Some(failure),
            Standing::Good | Standing::InReserve => None,
        }
    }
}

fn of_host(host: &Host, port: u16, first: Option<Family>, security: Security) -> Vec<Candidate> {
    let has = |family| host.addresses.iter().any(|address| Family::of(*address) == family);
    let stack = if has(Family::V4) && has(Family::V6) { Stack::Dual } else { Stack::Single };
    let mut addresses = host.addresses.clone();
    // A stable sort: false stands before true.
    addresses.sort_by_key(|address| first.is_some_and(|first| Family::of(*address) != first));
    let candidate = |address: IpAddr| Candidate {
        target: Target { host: host.name.clone(), address: SocketAddr::new(address, port), security },
        stack,
        preference: host.preference,
        standing: match security {
            Security::Opportunistic => Standing::Good,
            Security::Plaintext => Standing::InReserve,
        },
    };
    addresses.into_iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::domain::Domain;

    fn host(name: &str, preference: u16, addresses: &[&str]) -> Host {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Host { name: Domain::parse(name).unwrap(), addresses, preference }
    }

    fn order(candidates: &mut Candidates, failure: impl Fn(&Candidate) -> HostFailure) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(at) = candidates.next(0) {
            let candidate = candidates.get(at).unwrap();
            let security = if matches!(candidate.target.security, Security::Plaintext) { " plain" } else { "" };
            order.push(format!("{}{security}", candidate.target.address.ip()));
            let failure = failure(candidate);
            candidates.fail(at, failure);
        }
        order
    }

    fn two_preferences(first: Option<Family>) -> Candidates {
        let hosts =
            [host("a.test", 1, &["192.0.2.1", "2001:db8::1"]), host("b.test", 1, &["192.0.2.2"]), host("c.test", 2, &["192.0.2.3"])];
        Candidates::new(&hosts, 25, first)
    }

    #[test]
    fn hosts_are_tried_by_preference_and_each_once() {
        let mut candidates = two_preferences(None);
        let seen = order(&mut candidates, |_| HostFailure::Unreachable("silent".into()));
        assert_eq!(seen, ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(candidates.why().status.class, 4);
        let seen = order(&mut two_preferences(Some(Family::V6)), |_| HostFailure::Unreachable("silent".into()));
        assert_eq!(seen, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn plaintext_comes_after_all_of_equal_preference_were_tried_with_tls() {
        let seen = order(&mut two_preferences(None), |candidate| match candidate.target.address.ip().to_string().as_str() {
            "192.0.2.1" => HostFailure::Tls("broken".into()),
            _ => HostFailure::Unreachable("silent".into()),
        });
        assert_eq!(seen, ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.1 plain", "192.0.2.3"]);
    }

    #[test]
    fn ourselves_takes_what_is_no_better_with_it() {
        let mut candidates = two_preferences(None);
        let seen = order(&mut candidates, |candidate| match candidate.preference {
            1 if candidate.target.address.ip().is_ipv6() => HostFailure::Ourselves,
            _ => HostFailure::Unreachable("silent".into()),
        });
        assert_eq!(seen, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(candidates.why().status, EnhancedStatus::new(4, 4, 1));
        let mut only = Candidates::new(&[host("a.test", 1, &["192.0.2.1"])], 25, None);
        assert_eq!(order(&mut only, |_| HostFailure::Ourselves).len(), 1);
        assert_eq!(only.why().status, LOOP);
    }
}
