//! The header of a message: where it ends, its fields, and what one pass over it tells (RFC 5322 section 2.2).
//!
//! In go bytes as they arrive (`Gatherer`) or a whole header block; out come fields as ranges of it, and `Examined`:
//! what reception must know. Everything is bounded and iterative. 8-bit octets are tolerated in values.
//! The header ends at the empty line, or at the first line that is no field and no continuation, as in Postfix: such a
//! line begins the body. Who stores the message puts the missing empty line between, so that no later reader takes
//! lines of the body for fields (`HeaderEnd::NotAField`).
//! Not done here: what the values mean, beyond those of `Examined`; MIME.

use std::fmt;
use std::ops::Range;

use crate::mail::address::Address;
use crate::mail::authres;
use crate::mail::digest::Digest;
use crate::mail::domain::Domain;
use crate::mail::envelope::RequireTls;

/// Longest header in octets; real ones stay under 64 KiB, and the block is held in memory.
pub const MAX_HEADER: usize = 256 * 1024;
/// Most fields; real messages have under 200.
pub const MAX_FIELDS: usize = 1_000;
/// More Received fields mean a loop (RFC 5321 section 6.3 asks for a threshold of at least 100).
pub const MAX_RECEIVED: usize = 100;
/// Authentication-Results with names beyond ASCII that are compared; more in one header are an attack and go unread.
const MAX_COSTLY: usize = 16;

/// Why the header of an incoming message is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// other than one From field (RFC 5322 section 3.6); with how many there are
    FromCount(usize),
    TooManyFields,
    TooBig,
    Loop,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::FromCount(count) => write!(f, "the header has {count} From fields instead of one"),
            HeaderFault::TooManyFields => write!(f, "the header has more than {MAX_FIELDS} fields"),
            HeaderFault::TooBig => write!(f, "the header is longer than {} KiB", MAX_HEADER / 1024),
            HeaderFault::Loop => write!(f, "the message goes in circles: it has more than {MAX_RECEIVED} Received fields"),
        }
    }
}

/// What made the header end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderEnd {
    /// the empty line; it counts as part of the header block
    EmptyLine,
    /// a line that is no field: it is the first line of the body, and the empty line is missing
    NotAField,
    EndOfMessage,
}

/// Whether a `Gatherer` needs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    More,
    Complete,
}

/// A message cut behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// the fields, and the empty line if there is one
    pub header: Vec<u8>,
    /// octets of the body that had arrived with the last slice
    pub rest: Vec<u8>,
    pub end: HeaderEnd,
}

/// Collects the header of a message that arrives in slices.
#[derive(Debug, Default)]
pub struct Gatherer {
    bytes: Vec<u8>,
    /// begin of the first line that was not judged yet
    line: usize,
    /// octets already searched for the end of that line
    searched: usize,
    end: Option<HeaderEnd>,
}

impl Gatherer {
    pub fn new() -> Gatherer {
        Gatherer::default()
    }

    /// Takes the next slice. Behind `Complete` further slices belong to the body and are not to be given.
    pub fn push(&mut self, slice: &[u8]) -> Result<Gathered, HeaderFault> {
        self.bytes.extend_from_slice(slice);
        while self.end.is_none() {
            let Some(length) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.bytes.len();
                break;
            };
            let next = self.searched + length + 1;
            match judge_line(&self.bytes[self.line..next], self.line) {
                Line::Empty => {
                    self.line = next;
                    self.end = Some(HeaderEnd::EmptyLine);
                }
                Line::Body => self.end = Some(HeaderEnd::NotAField),
                Line::Field | Line::Continuation => {
                    self.line = next;
                    self.searched = next;
                }
            }
        }
        match self.end {
            Some(_) if self.line > MAX_HEADER => Err(HeaderFault::TooBig),
            Some(_) => Ok(Gathered::Complete),
            None if self.bytes.len() > MAX_HEADER => Err(HeaderFault::TooBig),
            None => Ok(Gathered::More),
        }
    }

    /// Octets of memory held, with what growing left over; for the budget.
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Cuts behind the header. Before `Complete` this means that the message ended.
    pub fn finish(mut self) -> Block {
        let end = match self.end {
            Some(end) => end,
            // The last line had no line break; it may be a field or a line of a body.
            None => match judge_line(&self.bytes[self.line..], self.line) {
                Line::Body if self.line < self.bytes.len() => HeaderEnd::NotAField,
                Line::Body | Line::Empty | Line::Field | Line::Continuation => {
                    self.line = self.bytes.len();
                    HeaderEnd::EndOfMessage
                }
            },
        };
        let rest = self.bytes.split_off(self.line);
        Block { header: self.bytes, rest, end }
    }
}

enum Line {
    Empty,
    Field,
    Continuation,
    Body,
}

/// What `line` (with its line break) is, `at` octets behind the begin of the header.
fn judge_line(line: &[u8], at: usize) -> Line {
    match line {
        b"\r\n" | b"\n" => Line::Empty,
        [b' ' | b'\t', ..] if at > 0 => Line::Continuation,
        _ => match name_end(line) {
            Some(_) => Line::Field,
            None => Line::Body,
        },
    }
}

/// Length of the field name that begins `line`: `1*ftext [WSP] ":"` (RFC 5322 sections 2.2 and 4.5).
fn name_end(line: &[u8]) -> Option<usize> {
    let length = line.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    let behind = line[length..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    (length > 0 && behind == Some(&b':')).then_some(length)
}

/// One field of a header block.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// the whole field in the block, with its line breaks
    pub range: Range<usize>,
    name: &'a str,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// As written, without the colon.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Field names are compared without regard to case (RFC 5322 section 1.2.2).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Everything behind the colon, without the last line break, still folded.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The value in one line, without the blanks around it (RFC 5322 section 2.2.3: only the line breaks go).
    pub fn unfolded(&self) -> Vec<u8> {
        let mut line = self.value.to_vec();
        line.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        line.trim_ascii().to_vec()
    }
}

/// The fields of a header block, top down; ends where the header ends.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    header: &'a [u8],
    at: usize,
}

/// Reads the fields of `header`, which may have a body behind it.
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { header, at: 0 }
}

/// Length of the line that begins `rest`, with its line break if it has one.
fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let begin = self.at;
        let rest = &self.header[begin..];
        let first = line_length(rest);
        // A continuation at this place would have been taken with its field; so only a field can go on the header.
        let Line::Field = judge_line(&rest[..first], 0) else { return None };
        let name_length = name_end(rest)?;
        let colon = name_length + rest[name_length..].iter().position(|byte| *byte == b':')?;
        let mut length = first;
        while matches!(rest.get(length), Some(b' ' | b'\t')) {
            length += line_length(&rest[length..]);
        }
        self.at = begin + length;
        let value = &rest[colon + 1..length];
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let name = std::str::from_utf8(&rest[..name_length]).ok()?;
        Some(Field { range: begin..begin + length, name, value })
    }
}

/// What reception must know of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// how many Received fields there are
    pub received: usize,
    /// `Waived` for exactly one `TLS-Required: No`, else `Default`
    pub wish: RequireTls,
    /// Authentication-Results fields that claim to be ours
    pub forged: Vec<Range<usize>>,
    pub digest: Digest,
}

impl Examined {
    /// The wish for the message: the parameter of MAIL wins over the header field (RFC 8689 section 4.1).
    pub fn wish_with(&self, parameter: RequireTls) -> RequireTls {
        match parameter {
            RequireTls::Required | RequireTls::Waived => parameter,
            RequireTls::Default => self.wish,
        }
    }
}

/// One pass over the header of an incoming message. `authserv_id` is the name in our own Authentication-Results.
pub fn examine(header: &[u8], authserv_id: &Domain) -> Result<Examined, HeaderFault> {
    if header.len() > MAX_HEADER {
        return Err(HeaderFault::TooBig);
    }
    let (mut from, mut received, mut costly) = (0, 0, 0);
    let mut tls_required = Vec::new();
    let mut forged = Vec::new();
    let mut digest = Digest::default();
    for (count, field) in fields(header).enumerate() {
        if count == MAX_FIELDS {
            return Err(HeaderFault::TooManyFields);
        }
        if field.is("From") {
            from += 1;
        } else if field.is("Received") {
            received += 1;
        } else if field.is("TLS-Required") {
            tls_required.push(field.unfolded());
        } else if field.is("Authentication-Results") {
            costly += usize::from(authres::is_costly(field.value()));
            if costly > MAX_COSTLY || authres::bears(field.value(), authserv_id) {
                forged.push(field.range.clone());
            }
        }
        digest.note(field.name(), field.value());
    }
    if received > MAX_RECEIVED {
        return Err(HeaderFault::Loop);
    }
    if from != 1 {
        return Err(HeaderFault::FromCount(from));
    }
    Ok(Examined { received, wish: wish_of(&tls_required), forged, digest })
}

/// RFC 8689 section 5: the field stands once and says No; anything else is as if it were absent.
fn wish_of(values: &[Vec<u8>]) -> RequireTls {
    match values {
        [value] if value.eq_ignore_ascii_case(b"No") => RequireTls::Waived,
        _ => RequireTls::Default,
    }
}

/// The header without the given ranges, which must be ascending as `Examined::forged` is.
pub fn without(header: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(header.len());
    let mut at = 0;
    for range in ranges {
        kept.extend_from_slice(header.get(at..range.start).unwrap_or_default());
        at = range.end.max(at);
    }
    kept.extend_from_slice(header.get(at..).unwrap_or_default());
    kept
}

/// Whether the message was delivered to `address` before.
pub fn delivered_to(header: &[u8], address: &Address) -> bool {
    let same = |value: Vec<u8>| {
        let text = String::from_utf8_lossy(&value);
        let text = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(&text);
        Address::parse(text).is_ok_and(|found| found.folded() == address.folded())
    };
    fields(header).take(MAX_FIELDS).any(|field| field.is("Delivered-To") && same(field.unfolded()))
}

#[cfg(test)]
mod tests;
