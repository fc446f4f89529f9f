//! `local-part@domain` (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
//!
//! In goes the text between angle brackets or of a configuration key; out comes the *meaning*: a local part without
//! its quoting and a canonical `Domain`. `Display` quotes again where the grammar needs it.
//! Not done here: source routes and the empty path (`mail::path`), `+` tags (a matter of the receiving site).

use std::fmt;

use nanoserde::{DeBin, DeBinErr, SerBin};

use crate::mail::domain::{Domain, DomainError};

/// Longest local part, in octets. RFC 5321 section 4.5.3.1.1 asks for 64 as a minimum, and senders that put the
/// recipient's address into their reverse-path (VERP, SRS) exceed it.
pub const MAX_LOCAL_PART: usize = 255;

/// What stands left of the `@`, unquoted: `"ann b"@x` and `ann b` are the same local part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Box<str>);

/// An addr-spec with its domain in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub local: LocalPart,
    pub domain: Domain,
}

/// Why a text is no address. The sentence can be shown to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    NoAt,
    LocalEmpty,
    LocalTooLong,
    LocalBadCharacter,
    LocalBadDots,
    QuoteUnclosed,
    Domain(DomainError),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::NoAt => "the address has no @",
            AddressError::LocalEmpty => "the part before the @ is empty",
            AddressError::LocalTooLong => "the part before the @ is longer than 255 octets",
            AddressError::LocalBadCharacter => "the part before the @ has a character that needs quotes or is not allowed",
            AddressError::LocalBadDots => "the part before the @ begins or ends with a dot, or has two in a row",
            AddressError::QuoteUnclosed => "the quotes before the @ are not closed",
            AddressError::Domain(error) => return error.fmt(f),
        })
    }
}

impl From<DomainError> for AddressError {
    fn from(error: DomainError) -> AddressError {
        AddressError::Domain(error)
    }
}

/// `atext` of RFC 5322 section 3.2.3, widened to non-ASCII by RFC 6531 section 3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// `qtextSMTP` of RFC 5321 section 4.1.2 (with the backslash pairs already resolved: any printable character).
fn is_quotable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && !c.is_control())
}

impl LocalPart {
    /// Parses a dot-string or a quoted string.
    pub fn parse(text: &str) -> Result<LocalPart, AddressError> {
        if !text.starts_with('"') {
            check_dot_string(text)?;
        }
        LocalPart::parse_received(text)
    }

    /// As `parse`, but dots may stand anywhere in a dot-string: some mobile carriers gave out `a..b.@` for years, and
    /// mail from these addresses is real. `Display` quotes them.
    pub fn parse_received(text: &str) -> Result<LocalPart, AddressError> {
        let meaning = match text.strip_prefix('"') {
            Some(rest) => unquote(rest)?,
            None if text.chars().all(|c| c == '.' || is_atext(c)) => text.to_owned(),
            None => return Err(AddressError::LocalBadCharacter),
        };
        if meaning.is_empty() {
            return Err(AddressError::LocalEmpty);
        }
        if meaning.len() > MAX_LOCAL_PART {
            return Err(AddressError::LocalTooLong);
        }
        Ok(LocalPart(meaning.into()))
    }

    /// The meaning, without quotes and backslashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Equal for people: local parts of this server are compared without regard to case.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// Whether an envelope with this local part needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

fn check_dot_string(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::LocalEmpty);
    }
    if text.split('.').any(str::is_empty) {
        return Err(AddressError::LocalBadDots);
    }
    if text.chars().all(|c| c == '.' || is_atext(c)) { Ok(()) } else { Err(AddressError::LocalBadCharacter) }
}

/// `rest` begins behind the opening quote and must end with the closing one.
fn unquote(rest: &str) -> Result<String, AddressError> {
    let mut meaning = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' if characters.as_str().is_empty() => return Ok(meaning),
            '"' => return Err(AddressError::LocalBadCharacter),
            '\\' => match characters.next() {
                Some(escaped) if escaped.is_ascii() && is_quotable(escaped) => meaning.push(escaped),
                _ => return Err(AddressError::LocalBadCharacter),
            },
            c if is_quotable(c) => meaning.push(c),
            _ => return Err(AddressError::LocalBadCharacter),
        }
    }
    Err(AddressError::QuoteUnclosed)
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if check_dot_string(&self.0).is_ok() {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

impl Address {
    /// Parses `local@domain`; the whole text must be the address (no angle brackets, no white space around).
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        // The last @ separates: a quoted local part may hold more of them, a domain none.
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        Ok(Address { local: LocalPart::parse(local)?, domain: Domain::parse(domain)? })
    }

    /// As `parse`, for addresses in the commands of a peer: dots may stand anywhere in the local part.
    pub fn parse_received(text: &str) -> Result<Address, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        Ok(Address { local: LocalPart::parse_received(local)?, domain: Domain::parse(domain)? })
    }

    /// The form that two spellings of a local mailbox share; only for addresses that are ours.
    pub fn folded(&self) -> String {
        format!("{}@{}", self.local.folded(), self.domain)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl SerBin for Address {
    fn ser_bin(&self, out: &mut Vec<u8>) {
        self.local.0.to_string().ser_bin(out);
        self.domain.ser_bin(out);
    }
}

impl DeBin for Address {
    fn de_bin(offset: &mut usize, bytes: &[u8]) -> Result<Self, DeBinErr> {
        let local = LocalPart(String::de_bin(offset, bytes)?.into());
        Ok(Address { local, domain: Domain::de_bin(offset, bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_parse_and_display() {
        let rows = [
            ("ann@example.org", "ann@example.org"),
            ("Ann.B@Example.ORG", "Ann.B@example.org"),
            ("\"ann\"@example.org", "ann@example.org"),
            ("\"a b\"@example.org", "\"a b\"@example.org"),
            ("\"a@b\"@example.org", "\"a@b\"@example.org"),
            ("\"a\\\"b\\\\\"@example.org", "\"a\\\"b\\\\\"@example.org"),
            ("\"a..b\"@example.org", "\"a..b\"@example.org"),
            ("päivi@bücher.example", "päivi@xn--bcher-kva.example"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a+tag@example.org", "a+tag@example.org"),
            ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
        ];
        for (text, shown) in rows {
            let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown).unwrap(), address);
            let mut offset = 0;
            assert_eq!(Address::de_bin(&mut offset, &address.serialize_bin()).unwrap(), address);
        }
    }

    #[test]
    fn odd_dots_of_a_peer_are_understood_and_quoted() {
        let odd = Address::parse_received("foo..bar.@carrier.example").unwrap();
        assert_eq!(odd.to_string(), "\"foo..bar.\"@carrier.example");
        assert_eq!(Address::parse(&odd.to_string()).unwrap(), odd);
        assert!(Address::parse_received("a b@x.org").is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = "a".repeat(256) + "@example.org";
        for text in [
            "",
            "ann",
            "@example.org",
            "ann@",
            ".ann@x.org",
            "ann.@x.org",
            "a..b@x.org",
            "a b@x.org",
            "\"a@x.org",
            "\"a\"b@x.org",
            "\"\"@x.org",
            "a\\@x.org",
            "\"a\\\"@x.org",
            "a,b@x.org",
            "a\r\nb@x.org",
            "\"a\rb\"@x.org",
            "a\0@x.org",
            "<a@x.org>",
            &long,
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }
}
