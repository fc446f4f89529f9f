//! DER (ITU-T X.690 section 10): elements written inside out, and a reader that walks them within its bounds.
//!
//! The writer gives only what X.509 needs. The reader refuses what DER forbids in lengths, goes forward only, never
//! recurses and never copies; whoever calls it decides how deep to look.

use std::fmt;

use crate::mail::date::UnixTime;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The tag `[n]` with primitive content.
pub const fn context(n: u8) -> u8 {
    0x80 | n
}

/// The tag `[n]` around other elements.
pub const fn context_constructed(n: u8) -> u8 {
    0xa0 | n
}

/// One element.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// One element around others.
pub fn around(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    around(SEQUENCE, parts)
}

/// A number without sign, big-endian: as few octets as it takes, and one of zeros where the first bit would read as minus.
pub fn unsigned(number: &[u8]) -> Vec<u8> {
    let significant = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    match significant.first() {
        Some(first) if *first < 0x80 => element(INTEGER, significant),
        _ => element(INTEGER, &[&[0], significant].concat()),
    }
}

/// A bit string of whole octets.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes].concat())
}

/// A time of validity: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5). `None` outside of the
/// years 1950 to 9999, which no certificate can hold.
pub fn time(time: UnixTime) -> Option<Vec<u8>> {
    let text = time.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let year = digits.get(..4)?.parse::<u32>().ok()?;
    if text.starts_with('-') || digits.len() != 14 || year < 1950 {
        return None;
    }
    Some(if year < 2050 {
        element(UTC_TIME, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        element(GENERALIZED_TIME, format!("{digits}Z").as_bytes())
    })
}

/// Why bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerFault {
    /// Ends in the middle of an element.
    Truncated,
    /// A length that DER forbids, or over 4 octets.
    BadLength,
    /// An element of another kind.
    Unexpected,
    BadTime,
    /// More than the reader looks at.
    TooLarge,
}

impl fmt::Display for DerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DerFault::Truncated => "the DER ends in the middle of an element",
            DerFault::BadLength => "the DER has a bad length",
            DerFault::Unexpected => "the DER has another element than expected",
            DerFault::BadTime => "the DER has a time that does not exist",
            DerFault::TooLarge => "the DER is too large",
        })
    }
}

impl std::error::Error for DerFault {}

/// An element as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With its tag and length.
    pub whole: &'a [u8],
}

/// Walks the elements of one level.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    pub fn new(bytes: &'a [u8]) -> Walk<'a> {
        Walk(bytes)
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<Element<'a>, DerFault> {
        let [tag, first, rest @ ..] = self.0 else { return Err(DerFault::Truncated) };
        // Tags over 30 take further octets; nothing in X.509 has one.
        if tag & 0x1f == 0x1f {
            return Err(DerFault::Unexpected);
        }
        let (length, rest) = if *first < 0x80 { (usize::from(*first), rest) } else { long_length(first & 0x7f, rest)? };
        let content = rest.get(..length).ok_or(DerFault::Truncated)?;
        let (whole, after) = self.0.split_at(self.0.len() - rest.len() + length);
        self.0 = after;
        Ok(Element { tag: *tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, DerFault> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(DerFault::Unexpected) }
    }

    /// The next element if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerFault> {
        if self.0.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }
}

/// The long form: at most 4 octets, no leading zero, and only where the short form does not do (X.690 section 10.1).
fn long_length(octets: u8, rest: &[u8]) -> Result<(usize, &[u8]), DerFault> {
    let octets = usize::from(octets);
    if !(1..=4).contains(&octets) {
        return Err(DerFault::BadLength);
    }
    let (length, rest) = rest.split_at_checked(octets).ok_or(DerFault::Truncated)?;
    let value = length.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
    if length[0] == 0 || value < 0x80 { Err(DerFault::BadLength) } else { Ok((value, rest)) }
}

/// Reads what `time` writes, in either form.
pub fn read_time(element: Element<'_>) -> Result<UnixTime, DerFault> {
    let text = std::str::from_utf8(element.content).map_err(|_| DerFault::BadTime)?;
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).ok_or(DerFault::BadTime)?;
    let (year, rest) = match (element.tag, digits.len()) {
        // Two digits mean 1950 to 2049 (RFC 5280 section 4.1.2.5.1).
        (UTC_TIME, 12) => (two_digits(digits)? + if two_digits(digits)? < 50 { 2000 } else { 1900 }, &digits[2..]),
        (GENERALIZED_TIME, 14) => (two_digits(digits)? * 100 + two_digits(&digits[2..])?, &digits[4..]),
        (UTC_TIME | GENERALIZED_TIME, _) => return Err(DerFault::BadTime),
        _ => return Err(DerFault::Unexpected),
    };
    let field = |at: usize| two_digits(&rest[at..]);
    let (month, day, hour, minute, second) = (field(0)?, field(2)?, field(4)?, field(6)?, field(8)?);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(DerFault::BadTime);
    }
    let second_of_day = i64::from(hour * 3600 + minute * 60 + second);
    UnixTime::from_civil(i64::from(year), month, day, second_of_day).ok_or(DerFault::BadTime)
}

fn two_digits(digits: &str) -> Result<u32, DerFault> {
    digits.get(..2).and_then(|pair| pair.parse().ok()).ok_or(DerFault::BadTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form_and_no_other_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let written = element(OCTET_STRING, &vec![7; length]);
            let mut walk = Walk::new(&written);
            let read = walk.expect(OCTET_STRING).unwrap();
            assert_eq!((read.content.len(), read.whole.len(), walk.is_at_end()), (length, written.len(), true));
        }
        for (bytes, fault) in [
            (&[0x04, 0x81, 0x01, 7][..], DerFault::BadLength),
            (&[0x04, 0x82, 0x00, 0x80], DerFault::BadLength),
            (&[0x04, 0x80, 0, 0], DerFault::BadLength),
            (&[0x04, 0x85, 1, 0, 0, 0, 0], DerFault::BadLength),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], DerFault::Truncated),
            (&[0x04, 0x82, 0x01], DerFault::Truncated),
            (&[0x04], DerFault::Truncated),
            (&[], DerFault::Truncated),
            (&[0x1f, 0x00], DerFault::Unexpected),
        ] {
            assert_eq!(Walk::new(bytes).any(), Err(fault), "{bytes:x?}");
        }
    }

    #[test]
    fn numbers_without_sign() {
        for (number, written) in [
            (&[0][..], &[2, 1, 0][..]),
            (&[0, 0, 1], &[2, 1, 1]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0x80, 1], &[2, 3, 0, 0x80, 1]),
        ] {
            assert_eq!(unsigned(number), written);
        }
    }

    #[test]
    fn times_in_both_forms() {
        for (at, form) in [
            (UnixTime::from_civil(1950, 1, 1, 0), "500101000000Z"),
            (UnixTime::from_civil(2049, 12, 31, 86_399), "491231235959Z"),
            (UnixTime::from_civil(2050, 1, 1, 0), "20500101000000Z"),
            (UnixTime::from_civil(9999, 12, 31, 86_399), "99991231235959Z"),
        ] {
            let written = time(at.unwrap()).unwrap();
            let element = Walk::new(&written).any().unwrap();
            assert_eq!(element.content, form.as_bytes());
            assert_eq!(read_time(element), Ok(at.unwrap()));
        }
        for outside in [UnixTime::from_civil(1949, 12, 31, 0).unwrap(), UnixTime(i64::MAX / 1000), UnixTime(-100_000_000_000)] {
            assert_eq!(time(outside), None);
        }
        for bad in ["260230000000Z", "261301000000Z", "260101240000Z", "2601010000Z", "260101000000+", "+60101000000Z"] {
            let written = element(UTC_TIME, bad.as_bytes());
            assert_eq!(read_time(Walk::new(&written).any().unwrap()), Err(DerFault::BadTime), "{bad}");
        }
    }
}
