//! A range of IP addresses in CIDR form (RFC 4632 section 3.1, RFC 4291 section 2.3): `192.0.2.0/24`, `2001:db8::/32`.
//!
//! In goes text of the configuration; out comes a range that can be asked whether it holds an address. Not done here:
//! host names, ranges with a hyphen, netmasks with dots.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BITS_V4: u8 = 32;
const BITS_V6: u8 = 128;

/// All addresses that share the first `prefix` bits. Bits behind them are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpNetwork {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no network. The sentence can be shown to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    BadAddress,
    BadPrefix,
    /// the network that was probably meant
    HostBits(IpNetwork),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkError::BadAddress => f.write_str("no IP address stands before the slash"),
            NetworkError::BadPrefix => f.write_str("the number behind the slash is not 0 to 32 (IPv4) or 0 to 128 (IPv6)"),
            NetworkError::HostBits(meant) => write!(f, "the address goes beyond the prefix; the network is {meant}"),
        }
    }
}

impl IpNetwork {
    /// Parses `address/prefix`, or an address alone, which is a network of one.
    pub fn parse(text: &str) -> Result<IpNetwork, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::BadAddress)?;
        let bits = if address.is_ipv4() { BITS_V4 } else { BITS_V6 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u8>().ok().filter(|prefix| *prefix <= bits).ok_or(NetworkError::BadPrefix)?
            }
            Some(_) => return Err(NetworkError::BadPrefix),
        };
        let network = IpNetwork { first: masked(address, prefix), prefix };
        if network.first == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }

    /// Whether the address lies inside. An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`, as a dual-stack socket
    /// reports it) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = match address {
            // A network that is itself written with mapped addresses is compared as it stands.
            IpAddr::V6(v6) if self.first.is_ipv4() => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            other => other,
        };
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

/// Keeps the first `prefix` bits.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::from(BITS_V4.saturating_sub(prefix))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u32::from(BITS_V6.saturating_sub(prefix))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let rows = [
            ("192.0.2.0/24", "192.0.2.0", "192.0.3.0"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.1.255"),
            ("192.0.2.0/24", "::ffff:192.0.2.7", "::ffff:192.0.3.7"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("2001:db8::/32", "2001:db8::1", "192.0.2.1"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("2001:db8::/127", "2001:db8::1", "2001:db8::2"),
        ];
        for (network, inside, outside) in rows {
            let parsed = IpNetwork::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
            assert_eq!(IpNetwork::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/", "192.0.2/24", "example.org", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/+8", "::/129", "::/0128", "1.2.3.4/8/8", " ::1"]
        {
            assert!(IpNetwork::parse(text).is_err(), "{text:?}");
        }
        let Err(NetworkError::HostBits(meant)) = IpNetwork::parse("192.0.2.5/24") else { panic!("host bits were accepted") };
        assert_eq!(meant.to_string(), "192.0.2.0/24");
    }
}
