//! The `nameserver` lines of /etc/resolv.conf (resolv.conf(5)). Search lists and options are for hand-typed names; mail has
//! none, so they are ignored.

use std::net::IpAddr;

/// More than glibc takes (3), and enough.
const MAX_SERVERS: usize = 8;

/// A resolver of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    pub address: IpAddr,
    /// the interface of a link-local address, by name or number
    pub scope: Option<String>,
}

/// The resolvers in order; lines that are none are left out.
pub fn nameservers(text: &str) -> Vec<Nameserver> {
    text.lines().filter_map(nameserver).take(MAX_SERVERS).collect()
}

fn nameserver(line: &str) -> Option<Nameserver> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    let (address, scope) = match words.next()?.split_once('%') {
        Some((address, scope)) => (address, Some(scope.to_owned())),
        None => (line.split_ascii_whitespace().nth(1)?, None),
    };
    Some(Nameserver { address: address.parse().ok()?, scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_in_the_file() {
        let text = "# made by hand\nsearch lan\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53 # v6\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\noptions edns0\n";
        let servers = nameservers(text);
        let plain = |address: &str| Nameserver { address: address.parse().unwrap(), scope: None };
        assert_eq!(servers[..2], [plain("192.0.2.53"), plain("2001:db8::53")]);
        assert_eq!(servers[2..], [Nameserver { scope: Some("eth0".into()), ..plain("fe80::1") }]);
        assert_eq!(nameservers(""), []);
        assert_eq!(nameservers(&"nameserver 192.0.2.1\n".repeat(50)).len(), MAX_SERVERS);
    }
}
