//! The paths of MAIL and RCPT (RFC 5321 section 4.1.2): what stands between `<` and `>`.
//!
//! A reverse-path may be null; a forward-path may be the bare word `Postmaster` (section 4.5.1). Source routes
//! (`<@a,@b:ann@x>`) are read and ignored, as section 4.1.1.3 and appendix C tell receivers to do.

use std::fmt;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::{Address, AddressError, LocalPart};
use crate::mail::domain::Domain;

/// Longest path with its brackets (RFC 5321 section 4.5.3.1.3) plus room for the octets of UTF-8.
pub const MAX_PATH: usize = 512;

/// Where failure notices go; null for notices themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerBin, DeBin)]
pub enum ReversePath {
    Null,
    Address(Address),
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerBin, DeBin)]
pub enum ForwardPath {
    Postmaster,
    Address(Address),
}

/// Why a text is no path. The sentence can be shown to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    NoBrackets,
    TooLong,
    BadRoute,
    NullForward,
    Address(AddressError),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::NoBrackets => "the address must stand in angle brackets",
            PathError::TooLong => "the path is too long",
            PathError::BadRoute => "the source route is malformed",
            PathError::NullForward => "a recipient cannot be empty",
            PathError::Address(error) => return error.fmt(f),
        })
    }
}

impl From<AddressError> for PathError {
    fn from(error: AddressError) -> PathError {
        PathError::Address(error)
    }
}

/// Where the path that begins `text` ends (behind `>`), minding quoted local parts. `None`: it does not begin with
/// `<` or is not closed.
pub fn path_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' if at == 0 => {}
            _ if at == 0 => return None,
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn inside(text: &str) -> Result<&str, PathError> {
    if text.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).ok_or(PathError::NoBrackets)?;
    let Some(routed) = inner.strip_prefix('@') else { return Ok(inner) };
    let (route, mailbox) = routed.split_once(':').ok_or(PathError::BadRoute)?;
    for hop in route.split(',') {
        let hop = hop.strip_prefix('@').unwrap_or(hop);
        Domain::parse(hop).map_err(|_| PathError::BadRoute)?;
    }
    Ok(mailbox)
}

impl ReversePath {
    /// Parses `<>` or `<address>`.
    pub fn parse(text: &str) -> Result<ReversePath, PathError> {
        match inside(text)? {
            "" => Ok(ReversePath::Null),
            address => Ok(ReversePath::Address(Address::parse_received(address)?)),
        }
    }

    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Address(address) => Some(address),
        }
    }
}

impl ForwardPath {
    /// Parses `<Postmaster>` (any case) or `<address>`.
    pub fn parse(text: &str) -> Result<ForwardPath, PathError> {
        match inside(text)? {
            "" => Err(PathError::NullForward),
            word if word.eq_ignore_ascii_case("postmaster") => Ok(ForwardPath::Postmaster),
            address => Ok(ForwardPath::Address(Address::parse_received(address)?)),
        }
    }

    /// Octets of the address, about what it takes in memory.
    pub fn octets(&self) -> usize {
        match self {
            ForwardPath::Postmaster => "Postmaster".len(),
            ForwardPath::Address(address) => address.local.as_str().len() + 1 + address.domain.as_str().len(),
        }
    }

    /// The local part; `postmaster` for the bare word.
    pub fn local(&self) -> LocalPart {
        match self {
            ForwardPath::Postmaster => LocalPart::parse("postmaster").expect("a plain word is a local part"),
            ForwardPath::Address(address) => address.local.clone(),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => f.write_str("<>"),
            ReversePath::Address(address) => write!(f, "<{address}>"),
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardPath::Postmaster => f.write_str("<Postmaster>"),
            ForwardPath::Address(address) => write!(f, "<{address}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_parse_to_their_meaning() {
        let rows = [
            ("<>", "<>"),
            ("<ann@x.org>", "<ann@x.org>"),
            ("<@a.org,@b.org:ann@x.org>", "<ann@x.org>"),
            ("<\"a>b\"@x.org>", "<\"a>b\"@x.org>"),
        ];
        for (text, shown) in rows {
            assert_eq!(ReversePath::parse(text).unwrap().to_string(), shown);
            assert_eq!(path_end(text), Some(text.len()));
        }
        assert_eq!(ForwardPath::parse("<POSTmaster>").unwrap(), ForwardPath::Postmaster);
        assert_eq!(ForwardPath::parse("<>"), Err(PathError::NullForward));
    }

    #[test]
    fn broken_paths_are_refused() {
        for text in ["", "ann@x.org", "<ann@x.org", "ann@x.org>", "<@a.org>", "<@a..org:ann@x.org>", "<<ann@x.org>>", "< ann@x.org>"] {
            assert!(ReversePath::parse(text).is_err(), "{text}");
        }
        assert_eq!(path_end("<a\"@x.org>"), None);
        assert_eq!(path_end("<a@x.org> SIZE=1"), Some(9));
    }
}
