//! A domain name of the DNS (RFC 1035 sections 2.3.4 and 3.1): at most 255 octets of labels, any octet allowed in them.
//!
//! Kept uncompressed as on the wire, in the letter case it came with; compared, ordered and hashed without letter case
//! (RFC 4343). `Domain` (`mail::domain`) is narrower: what may stand behind an `@`.

use std::cmp::Ordering;
use std::fmt;
use std::fmt::Write;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;

use crate::mail::domain::Domain;

/// Octets on the wire, the root's zero included (RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 255;
/// Octets of a label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// A name, from its first label to the root.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    Empty,
    EmptyLabel,
    LongLabel,
    LongName,
    BadEscape,
    NotAscii,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the name is empty; the root is \".\"",
            NameError::EmptyLabel => "the name has an empty label",
            NameError::LongLabel => "the name has a label of more than 63 octets",
            NameError::LongName => "the name is longer than 255 octets",
            NameError::BadEscape => "the name has a backslash without a character or three digits up to 255 behind it",
            NameError::NotAscii => "the name has letters outside of ASCII; write it with xn--",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    pub fn root() -> Name {
        Name([0].into())
    }

    /// Parses presentation form (RFC 1035 section 5.1): with or without the final dot, `\.` and `\065` understood.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text == "." {
            return Ok(Name::root());
        }
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let mut builder = Builder::new();
        let mut label = Vec::with_capacity(MAX_LABEL);
        let mut bytes = text.bytes();
        // An end without a dot is the same name; a dot at the end has closed its label already.
        let mut open = true;
        while let Some(byte) = bytes.next() {
            open = true;
            match byte {
                b'.' => {
                    builder.push(&label)?;
                    label.clear();
                    open = false;
                }
                b'\\' => label.push(unescape(&mut bytes)?),
                byte if byte.is_ascii() => label.push(byte),
                _ => return Err(NameError::NotAscii),
            }
            if label.len() > MAX_LABEL {
                return Err(NameError::LongLabel);
            }
        }
        if open {
            builder.push(&label)?;
        }
        Ok(builder.finish())
    }

    /// A host name as a name; `None` for an address literal.
    pub fn from_domain(domain: &Domain) -> Option<Name> {
        if domain.as_str().starts_with('[') {
            return None;
        }
        Name::parse(domain.as_str()).ok()
    }

    /// The host name that this is; `None` if it has other octets than those of host names, or is the root.
    pub fn to_domain(&self) -> Option<Domain> {
        let mut text = String::with_capacity(self.0.len());
        for label in self.labels() {
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(*byte)));
        }
        Domain::parse(&text).ok()
    }

    /// Where the PTR records of an address stand (RFC 1035 section 3.5, RFC 3596 section 2.5).
    pub fn reverse(address: IpAddr) -> Name {
        let mut text = String::new();
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let _ = write!(text, "{d}.{c}.{b}.{a}.in-addr.arpa.");
            }
            IpAddr::V6(v6) => {
                for octet in v6.octets().iter().rev() {
                    let _ = write!(text, "{:x}.{:x}.", octet & 15, octet >> 4);
                }
                text.push_str("ip6.arpa.");
            }
        }
        Name::parse(&text).expect("digits and two known labels are a name")
    }

    /// From the labels of the wire, which were checked; `Builder` is the way from outside.
    fn from_wire(wire: Vec<u8>) -> Name {
        Name(wire.into())
    }

    /// This name below a further label.
    pub fn prepend(&self, label: &str) -> Result<Name, NameError> {
        let mut builder = Builder::new();
        builder.push(label.as_bytes())?;
        for label in self.labels() {
            builder.push(label)?;
        }
        Ok(builder.finish())
    }

    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The octets of the wire, uncompressed, with the zero at the end.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from left to right, without the root's empty one.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let length = usize::from(rest[0]);
            let (label, behind) = rest[1..].split_at(length);
            if length > 0 {
                rest = behind;
            }
            (length > 0).then_some(label)
        })
    }

    /// Without the first label; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        if self.is_root() {
            return None;
        }
        Some(Name(self.0[1 + usize::from(self.0[0])..].into()))
    }

    /// Whether this is `above` or a name below it.
    pub fn is_at_or_below(&self, above: &Name) -> bool {
        let mut rest = &self.0[..];
        loop {
            if rest.len() == above.0.len() {
                return rest.eq_ignore_ascii_case(&above.0);
            }
            if rest.len() < above.0.len() || rest[0] == 0 {
                return false;
            }
            rest = &rest[1 + usize::from(rest[0])..];
        }
    }

    /// The same name with each letter's case decided by a bit of `dice` ("0x20", draft-vixie-dnsext-dns0x20).
    pub fn with_random_case(&self, dice: &[u8; 32]) -> Name {
        let mut wire = self.0.clone();
        for (at, byte) in wire.iter_mut().enumerate() {
            // Lengths of labels are below 64 and no letters.
            if byte.is_ascii_alphabetic() && dice[at / 8 % dice.len()] >> (at % 8) & 1 == 1 {
                *byte ^= 0x20;
            }
        }
        Name(wire)
    }

    /// The same name in small letters.
    pub fn to_lowercase(&self) -> Name {
        Name(self.0.to_ascii_lowercase().into())
    }
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return if first.is_ascii() { Ok(first) } else { Err(NameError::NotAscii) };
    }
    let mut number = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        number = number * 10 + u16::from(digit - b'0');
    }
    u8::try_from(number).map_err(|_| NameError::BadEscape)
}

/// Puts a name together label by label, within its bounds.
pub struct Builder(Vec<u8>);

impl Builder {
    pub fn new() -> Builder {
        Builder(Vec::with_capacity(32))
    }

    pub fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > MAX_LABEL {
            return Err(NameError::LongLabel);
        }
        if self.0.len() + 1 + label.len() + 1 > MAX_NAME {
            return Err(NameError::LongName);
        }
        self.0.push(label.len() as u8);
        self.0.extend_from_slice(label);
        Ok(())
    }

    pub fn finish(mut self) -> Name {
        self.0.push(0);
        Name::from_wire(self.0)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

// The length octets are below 64, so that folding letters leaves them alone.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In one piece: octet by octet takes ten times as long, and others decide how many names there are.
        let mut folded = [0; MAX_NAME];
        let folded = &mut folded[..self.0.len()];
        folded.copy_from_slice(&self.0);
        folded.make_ascii_lowercase();
        state.write(folded);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Some order, for maps and sorted lists; not the canonical one of RFC 4034.
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let folded = |name: &Name| name.0.to_ascii_lowercase();
        folded(self).cmp(&folded(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_char('.');
        }
        for label in self.labels() {
            for byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", char::from(*byte))?,
                    byte if byte.is_ascii_graphic() => f.write_char(char::from(*byte))?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_char('.')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn text_and_wire() {
        let rows: [(&str, &[u8], &str); 6] = [
            (".", b"\0", "."),
            ("example.org", b"\x07example\x03org\0", "example.org."),
            ("Example.ORG.", b"\x07Example\x03ORG\0", "Example.ORG."),
            (r"a\.b.c", b"\x03a.b\x01c\0", r"a\.b.c."),
            (r"\065\000.x", b"\x02A\0\x01x\0", r"A\000.x."),
            ("*._tcp.x", b"\x01*\x04_tcp\x01x\0", "*._tcp.x."),
        ];
        for (text, wire, shown) in rows {
            assert_eq!((name(text).as_wire(), name(text).to_string().as_str()), (wire, shown), "{text}");
            assert_eq!(name(shown), name(text));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let label = "a".repeat(64);
        let long = "abcdefg.".repeat(32);
        let rows = [
            ("", NameError::Empty),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (label.as_str(), NameError::LongLabel),
            (long.as_str(), NameError::LongName),
            (r"a\", NameError::BadEscape),
            (r"a\25", NameError::BadEscape),
            (r"a\256", NameError::BadEscape),
            ("bücher.de", NameError::NotAscii),
        ];
        for (text, error) in rows {
            assert_eq!(Name::parse(text).err(), Some(error), "{text}");
        }
        let longest = "abcdefg.".repeat(31) + "abcde";
        assert_eq!(name(&longest).as_wire().len(), MAX_NAME);
        assert_eq!(Name::parse(&(longest + "f")).err(), Some(NameError::LongName));
    }

    #[test]
    fn letter_case_does_not_count() {
        assert_eq!(name("Example.ORG"), name("example.org"));
        assert_ne!(name("example.org"), name("example.net"));
        let set: HashSet<Name> = [name("a.B"), name("A.b"), name("a.b.")].into();
        assert_eq!(set.len(), 1);
        let random = name("mail.example.org").with_random_case(&[0b1010_1010; 32]);
        assert_eq!(random, name("mail.example.org"));
        assert_ne!(random.as_wire(), name("mail.example.org").as_wire());
        assert_eq!(random.to_lowercase().as_wire(), name("mail.example.org").as_wire());
    }

    #[test]
    fn above_and_below() {
        let below = name("a.example.org");
        assert!(below.is_at_or_below(&below) && below.is_at_or_below(&name("EXAMPLE.org")) && below.is_at_or_below(&Name::root()));
        assert!(!name("example.org").is_at_or_below(&below) && !name("aexample.org").is_at_or_below(&name("example.org")));
        assert_eq!(below.parent().unwrap().parent().unwrap().parent(), Some(Name::root()));
        assert_eq!(Name::root().parent(), None);
        let tlsa = name("mx.org").prepend("_tcp").unwrap().prepend("_25").unwrap();
        assert_eq!(tlsa, name("_25._tcp.mx.org"));
        assert_eq!(tlsa.labels().collect::<Vec<_>>(), [&b"_25"[..], b"_tcp", b"mx", b"org"]);
    }

    #[test]
    fn hosts_and_addresses() {
        assert_eq!(name("MX_1.example.org").to_domain(), Some(Domain::parse("mx_1.example.org").unwrap()));
        for text in [".", r"a\.b.org", "*.org", "1.2.3.4", r"\[1\]", r"a\032b"] {
            assert_eq!(name(text).to_domain(), None, "{text}");
        }
        assert_eq!(Name::from_domain(&Domain::parse("[192.0.2.1]").unwrap()), None);
        assert_eq!(Name::from_domain(&Domain::parse("bücher.de").unwrap()), Some(name("xn--bcher-kva.de")));
        assert_eq!(Name::reverse("192.0.2.1".parse().unwrap()), name("1.2.0.192.in-addr.arpa"));
        let v6 = Name::reverse("2001:db8::1".parse().unwrap()).to_string();
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with("8.b.d.0.1.0.0.2.ip6.arpa.") && v6.len() == 73, "{v6}");
    }
}
