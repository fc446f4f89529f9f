//! How people write the resolver that is to be asked: `192.0.2.53`, `[2001:db8::1]:5353`, `tls://9.9.9.9#dns.quad9.net`.
//!
//! The last is DNS over TLS (RFC 7858). Its name is what the certificate must show (RFC 8310 section 8.1); without one
//! nothing could be authenticated, so it is never left out. The address is a number: no name is looked up to look up names.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::mail::domain::Domain;

const DNS_PORT: u16 = 53;
/// RFC 7858 section 3.1.
const TLS_PORT: u16 = 853;
const TLS_SCHEME: &str = "tls://";

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpstreamAddress {
    /// by UDP, and by TCP where need be
    Plain(SocketAddr),
    Tls {
        address: SocketAddr,
        /// in small letters, without a final dot
        name: String,
    },
}

impl UpstreamAddress {
    /// The error says what is missing, for a sentence that begins with the text in quotes.
    pub fn parse(text: &str) -> Result<UpstreamAddress, &'static str> {
        let Some(rest) = text.get(..TLS_SCHEME.len()).filter(|head| head.eq_ignore_ascii_case(TLS_SCHEME)).map(|_| &text[6..]) else {
            return Ok(UpstreamAddress::Plain(socket(text, DNS_PORT).ok_or("is not the address of a resolver")?));
        };
        let (address, name) = rest.split_once('#').ok_or("lacks #NAME, the name that the resolver's certificate must show")?;
        let address = socket(address, TLS_PORT).ok_or("has no IP address between tls:// and #")?;
        match Domain::parse(name.strip_suffix('.').unwrap_or(name)) {
            Ok(domain) if domain.literal().is_none() => Ok(UpstreamAddress::Tls { address, name: domain.as_str().to_ascii_lowercase() }),
            _ => Err("has no host name behind #"),
        }
    }

    pub fn socket(&self) -> SocketAddr {
        match self {
            UpstreamAddress::Plain(address) | UpstreamAddress::Tls { address, .. } => *address,
        }
    }

    /// Whether nobody between us and it can change anything.
    pub fn is_loopback(&self) -> bool {
        self.socket().ip().to_canonical().is_loopback()
    }
}

impl From<SocketAddr> for UpstreamAddress {
    fn from(address: SocketAddr) -> UpstreamAddress {
        UpstreamAddress::Plain(address)
    }
}

impl fmt::Display for UpstreamAddress {
    /// As it can be written again, with the port only where it is not the usual one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |address: &SocketAddr, usual: u16| if address.port() == usual { bare(address) } else { address.to_string() };
        match self {
            UpstreamAddress::Plain(address) => f.write_str(&shown(address, DNS_PORT)),
            UpstreamAddress::Tls { address, name } => write!(f, "{TLS_SCHEME}{}#{name}", shown(address, TLS_PORT)),
        }
    }
}

/// Without its port; the scope of a link-local address stays.
fn bare(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    }
}

fn socket(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
        (Ok(socket), _) => Some(socket),
        (Err(_), Ok(address)) => Some(SocketAddr::new(address, port)),
        // The scope is a number here; the standard library reads it only with brackets and port.
        (Err(_), Err(_)) => format!("[{bare}]:{port}").parse::<SocketAddr>().ok().filter(|socket| socket.is_ipv6() && bare.contains('%')),
    }
    .filter(|socket| socket.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_how_it_is_shown() {
        // written, shown
        let rows = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:53", "192.0.2.1"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("192.0.2.1:853", "192.0.2.1:853"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("fe80::1%2", "fe80::1%2"),
            ("[fe80::1%2]:53", "fe80::1%2"),
            ("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
            ("TLS://9.9.9.9:853#DNS.Quad9.net.", "tls://9.9.9.9#dns.quad9.net"),
            ("tls://192.0.2.1:8853#a.test", "tls://192.0.2.1:8853#a.test"),
            ("tls://2620:fe::fe#dns.quad9.net", "tls://2620:fe::fe#dns.quad9.net"),
            ("tls://[2620:fe::fe]:8853#dns.quad9.net", "tls://[2620:fe::fe]:8853#dns.quad9.net"),
        ];
        for (written, shown) in rows {
            let address = UpstreamAddress::parse(written).unwrap_or_else(|why| panic!("{written} {why}"));
            assert_eq!(address.to_string(), shown, "{written}");
            assert_eq!(UpstreamAddress::parse(shown), Ok(address), "{written}");
        }
    }

    #[test]
    fn what_is_no_upstream() {
        let rows = [
            ("", "is not the address"),
            ("dns.quad9.net", "is not the address"),
            ("192.0.2.1:0", "is not the address"),
            ("192.0.2.1:65536", "is not the address"),
            ("192.0.2.1%1", "is not the address"),
            ("192.0.2.1#dns.quad9.net", "is not the address"),
            ("https://9.9.9.9/dns-query", "is not the address"),
            ("tls://9.9.9.9", "lacks #NAME"),
            ("tls://#dns.quad9.net", "has no IP address"),
            ("tls://dns.quad9.net#dns.quad9.net", "has no IP address"),
            ("tls://9.9.9.9#", "has no host name"),
            ("tls://9.9.9.9#[9.9.9.9]", "has no host name"),
            ("tls://9.9.9.9#a b", "has no host name"),
            ("tls://9.9.9.9#a#b", "has no host name"),
            ("äöü", "is not the address"),
        ];
        for (written, why) in rows {
            let fault = UpstreamAddress::parse(written).expect_err(written);
            assert!(fault.starts_with(why), "{written} {fault}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for (written, loopback) in [("127.0.0.1:1053", true), ("::1", true), ("[::ffff:127.0.0.1]:53", true), ("192.0.2.1", false)] {
            assert_eq!(UpstreamAddress::parse(written).unwrap().is_loopback(), loopback, "{written}");
        }
    }
}
