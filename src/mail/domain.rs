//! What stands right of the `@`: a host name or an address literal (RFC 5321 sections 2.3.5 and 4.1.3).
//!
//! In goes text of a command, a header or the configuration; out comes one canonical form, so that two
//! spellings of a domain are equal, hash alike and make the same key of a table: A-labels (RFC 5890) in lower case
//! without the trailing dot, or `[192.0.2.1]` / `[IPv6:2001:db8::1]`.
//! Not done here: whether the domain exists, or is ours.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nanoserde::{DeBin, DeBinErr, SerBin};

/// Longest name in presentation form without the root dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// U-labels take up to 4 octets a letter; longer text cannot become a valid name, so it is not even looked at.
const MAX_TEXT: usize = 1024;

/// A host name or address literal in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

/// Why a text is no domain. The sentence can be shown to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    Empty,
    TooLong,
    BadLabel,
    BadLiteral,
    BadInternationalName,
    NumericTopLevel,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DomainError::Empty => "the domain is empty",
            DomainError::TooLong => "the domain is longer than 253 characters",
            DomainError::BadLabel => "the domain has a label that is empty, too long or not of letters, digits and hyphens",
            DomainError::BadLiteral => "the address literal is not [IPv4] or [IPv6:address]",
            DomainError::BadInternationalName => "the domain is not a valid internationalized name",
            DomainError::NumericTopLevel => "an IP address as domain needs square brackets",
        })
    }
}

impl Domain {
    /// Parses a host name (A- or U-labels, any case, optional trailing dot) or an address literal in brackets.
    pub fn parse(text: &str) -> Result<Domain, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(DomainError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(DomainError::BadLiteral)?;
            return parse_literal(inner).map(Domain::from_address);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let name = if name.is_ascii() { name.to_ascii_lowercase() } else { to_a_labels(name)? };
        check_name(&name)?;
        Ok(Domain(name.into()))
    }

    /// The literal form of an address, e.g. for a peer that is known by nothing else.
    pub fn from_address(address: IpAddr) -> Domain {
        Domain(match address {
            IpAddr::V4(v4) => format!("[{v4}]").into(),
            IpAddr::V6(v6) => format!("[IPv6:{v6}]").into(),
        })
    }

    /// The address if this is a literal, `None` for a host name.
    pub fn literal(&self) -> Option<IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        parse_literal(inner).ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for a person's eyes: U-labels where they are valid, else the A-labels.
    pub fn to_unicode(&self) -> String {
        if !self.0.contains("xn--") {
            return self.0.to_string();
        }
        let (text, verdict) = idna::domain_to_unicode(&self.0);
        if verdict.is_ok() { text } else { self.0.to_string() }
    }
}

fn to_a_labels(name: &str) -> Result<String, DomainError> {
    idna::domain_to_ascii_strict(name).map_err(|_| DomainError::BadInternationalName)
}

fn check_name(name: &str) -> Result<(), DomainError> {
    if name.is_empty() {
        return Err(DomainError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(DomainError::TooLong);
    }
    let mut last = "";
    for label in name.split('.') {
        // The underscore is no letter of a host name, yet hosts behind it send mail, and DNS carries it (RFC 2181 section 11).
        let letters = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if label.is_empty() || label.len() > MAX_LABEL || !letters || label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::BadLabel);
        }
        last = label;
    }
    // `a@192.0.2.1` is a mistyped literal, never a name: no top-level domain is all digits (RFC 3696 section 2).
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DomainError::NumericTopLevel);
    }
    Ok(())
}

fn parse_literal(inner: &str) -> Result<IpAddr, DomainError> {
    if let Some(v6) = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).map(|_| &inner[5..]) {
        return v6.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| DomainError::BadLiteral);
    }
    inner.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| DomainError::BadLiteral)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SerBin for Domain {
    fn ser_bin(&self, out: &mut Vec<u8>) {
        self.0.to_string().ser_bin(out);
    }
}

impl DeBin for Domain {
    fn de_bin(offset: &mut usize, bytes: &[u8]) -> Result<Self, DeBinErr> {
        Ok(Domain(String::de_bin(offset, bytes)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_domain_are_equal() {
        let rows = [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("[ipv6:2001:DB8:0::1]", "[IPv6:2001:db8::1]"),
            ("localhost", "localhost"),
            ("1und1.de", "1und1.de"),
        ];
        for (text, canonical) in rows {
            assert_eq!(Domain::parse(text).unwrap().as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long_label = "a".repeat(64) + ".org";
        let long_name = "abcdefg.".repeat(32) + "org";
        for text in [
            "",
            ".",
            "a..b",
            "-a.org",
            "a-.org",
            "a b.org",
            "192.0.2.1",
            "[192.0.2]",
            "[1.2.3.4",
            "[IPv6:zz]",
            "a\0.org",
            "a.org\r\n",
            &long_label,
            &long_name,
            "\u{202e}.org",
        ] {
            assert!(Domain::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_literal_gives_its_address_and_a_name_does_not() {
        assert_eq!(Domain::parse("[192.0.2.1]").unwrap().literal(), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(Domain::parse("[IPv6:::1]").unwrap().literal(), Some("::1".parse().unwrap()));
        assert_eq!(Domain::parse("example.org").unwrap().literal(), None);
        assert_eq!(Domain::parse("xn--bcher-kva.example").unwrap().to_unicode(), "bücher.example");
    }
}
