//! The addresses of this machine's interfaces, for a server that listens on all of them: mail must not be sent to ourselves.
//!
//! From `/proc/self/net`: `fib_trie` lists every local IPv4 address as a leaf with `/32 host LOCAL`, `if_inet6` every IPv6
//! address. Neither getifaddrs (a call of libc, unsafe) nor netlink is needed, and the sandbox leaves `/proc/self` readable.
//! A container without these files has no list; the host that greets with our own name is then still known as ourselves.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Every address of every interface, as it is now.
pub fn of_interfaces() -> Vec<IpAddr> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let mut all: Vec<IpAddr> = v4(&read("fib_trie")).into_iter().map(IpAddr::V4).collect();
    all.extend(v6(&read("if_inet6")).into_iter().map(IpAddr::V6));
    all.sort_unstable();
    all.dedup();
    all
}

/// A leaf is a line `|-- 192.0.2.1`, the routes to it stand below: `/32 host LOCAL` is an address of ours.
fn v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    found
}

/// `fe80000000000000021122fffe334455 02 40 20 80 eth0`, one line an address.
fn v6(if_inet6: &str) -> Vec<Ipv6Addr> {
    let digits = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    if_inet6.lines().filter_map(digits).map(Ipv6Addr::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_leaves_are_ours_networks_and_broadcasts_are_not() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.7\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\nLocal:\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(v4(trie), [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::LOCALHOST]);
        assert_eq!(v6("00000000000000000000000000000001 01 80 10 80       lo\nrubbish\n"), [Ipv6Addr::LOCALHOST]);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let all = of_interfaces();
        assert!(all.is_empty() || all.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{all:?}");
    }
}
