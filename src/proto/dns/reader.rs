//! Reads a message of the DNS (RFC 1035 section 4.1, RFC 6891) that anybody may have made.
//!
//! One pass notes where each record stands; names and data are decoded when asked for. Nothing is allocated by a count of
//! the header. Names are compressed only backwards. A record that cannot be decoded is skipped; a message whose frame
//! breaks keeps what stood before, and says so in `fault`.

use std::fmt;

use crate::proto::dns::CLASS_IN;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::ede::ExtendedError;
use crate::proto::dns::name;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;

const HEADER: usize = 12;
/// Records looked at in one message; 64 KiB could hold 5,900 empty ones, answers about mail have a few dozen.
const MAX_RECORDS: usize = 1000;
/// Pointers followed in one name: each is worth a label, and 127 labels fill a name.
const MAX_POINTERS: usize = 127;
/// EDE options kept of one message.
const MAX_ERRORS: usize = 8;

const QR: u16 = 1 << 15;
const AA: u16 = 1 << 10;
const TC: u16 = 1 << 9;
const AD: u16 = 1 << 5;
const RD: u16 = 1 << 8;
/// In the TTL field of OPT (RFC 6891 section 6.1.4).
const DO: u32 = 1 << 15;

/// Options of EDNS that are understood.
pub(super) const OPTION_COOKIE: u16 = 10;
pub(super) const OPTION_EDE: u16 = 15;

/// Where a message breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    Header,
    Question,
    Record,
    TooManyRecords,
    Name,
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadFault::Header => "the message is shorter than its header",
            ReadFault::Question => "the question is not one whole question",
            ReadFault::Record => "the message ends inside of a record",
            ReadFault::TooManyRecords => "the message has more than 1,000 records",
            ReadFault::Name => "a name is broken",
        })
    }
}

/// The question as it stands.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// name, type and class, for comparison octet by octet
    pub octets: &'a [u8],
    pub name: Name,
    pub rtype: RecordType,
    pub class: u16,
}

/// Sections of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    section: Section,
    owner: usize,
    rtype: RecordType,
    class: u16,
    ttl: u32,
    start: usize,
    end: usize,
}

/// What the OPT record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    pub udp_payload: u16,
    pub version: u8,
    pub dnssec_ok: bool,
    /// the content of COOKIE (RFC 7873), 8 or 16 to 40 octets
    pub cookie: Vec<u8>,
    pub errors: Vec<ExtendedError>,
}

/// One record, its names not compressed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    pub owner: Name,
    pub rtype: RecordType,
    /// seconds
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// A record of a message, not decoded yet.
pub struct Entry<'a> {
    octets: &'a [u8],
    span: Span,
}

/// A message whose frame has been read.
#[derive(Debug)]
pub struct Message<'a> {
    octets: &'a [u8],
    flags: u16,
    question: Option<Asked<'a>>,
    spans: Vec<Span>,
    edns: Option<Edns>,
    extended_rcode: u8,
    fault: Option<ReadFault>,
}

impl<'a> Message<'a> {
    /// Reads the frame. An error means that not even header and question are there.
    pub fn read(octets: &'a [u8]) -> Result<Message<'a>, ReadFault> {
        if octets.len() < HEADER {
            return Err(ReadFault::Header);
        }
        let mut message = Message {
            octets,
            flags: u16_at(octets, 2).ok_or(ReadFault::Header)?,
            question: None,
            spans: Vec::new(),
            edns: None,
            extended_rcode: 0,
            fault: None,
        };
        let mut at = HEADER;
        match message.count(4) {
            0 => {}
            // Another number has no meaning (RFC 9619).
            1 => at = message.read_question()?,
            _ => return Err(ReadFault::Question),
        }
        message.fault = message.read_records(at).err();
        Ok(message)
    }

    fn count(&self, at: usize) -> u16 {
        u16_at(self.octets, at).unwrap_or(0)
    }

    fn read_question(&mut self) -> Result<usize, ReadFault> {
        let (name, at) = read_name(self.octets, HEADER, self.octets.len()).map_err(|_| ReadFault::Question)?;
        let octets = self.octets.get(HEADER..at + 4).ok_or(ReadFault::Question)?;
        let rtype = RecordType(u16_at(self.octets, at).ok_or(ReadFault::Question)?);
        let class = u16_at(self.octets, at + 2).ok_or(ReadFault::Question)?;
        self.question = Some(Asked { octets, name, rtype, class });
        Ok(at + 4)
    }

    fn read_records(&mut self, mut at: usize) -> Result<(), ReadFault> {
        for (section, count) in [(Section::Answer, 6), (Section::Authority, 8), (Section::Additional, 10)] {
            for _ in 0..self.count(count) {
                if self.spans.len() == MAX_RECORDS {
                    return Err(ReadFault::TooManyRecords);
                }
                let span = read_span(self.octets, at, section).ok_or(ReadFault::Record)?;
                at = span.end;
                if span.rtype == RecordType::OPT {
                    self.read_options(&span);
                } else {
                    self.spans.push(span);
                }
            }
        }
        Ok(())
    }

    /// The first OPT of the additional section counts; its class is the payload and its TTL holds the rest.
    fn read_options(&mut self, span: &Span) {
        if self.edns.is_some() || span.section != Section::Additional || self.octets[span.owner] != 0 {
            return;
        }
        let [extended, version, ..] = span.ttl.to_be_bytes();
        self.extended_rcode = extended;
        let mut edns = Edns { udp_payload: span.class, version, dnssec_ok: span.ttl & DO != 0, ..Edns::default() };
        let mut cursor = Rdata::within(self.octets, span.start, span.end).cursor();
        while let (Some(code), Some(length)) = (cursor.u16(), cursor.u16()) {
            let Some(content) = cursor.take(usize::from(length)) else { break };
            match code {
                OPTION_COOKIE if content.len() == 8 || (16..=40).contains(&content.len()) => edns.cookie = content.to_vec(),
                OPTION_EDE if edns.errors.len() < MAX_ERRORS => edns.errors.extend(ExtendedError::decode(content)),
                _ => {}
            }
        }
        self.edns = Some(edns);
    }

    pub fn id(&self) -> u16 {
        self.count(0)
    }

    pub fn is_response(&self) -> bool {
        self.flags & QR != 0
    }

    /// 0 is QUERY.
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11) as u8 & 15
    }

    pub fn is_truncated(&self) -> bool {
        self.flags & TC != 0
    }

    pub fn is_authoritative(&self) -> bool {
        self.flags & AA != 0
    }

    /// AD: the server validated everything (RFC 4035 section 3.2.3); worth what the way to it is worth.
    pub fn is_authentic(&self) -> bool {
        self.flags & AD != 0
    }

    pub fn wants_recursion(&self) -> bool {
        self.flags & RD != 0
    }

    /// The header's four bits and the eight of OPT.
    pub fn rcode(&self) -> Rcode {
        Rcode(u16::from(self.extended_rcode) << 4 | self.flags & 15)
    }

    pub fn question(&self) -> Option<&Asked<'a>> {
        self.question.as_ref()
    }

    pub fn edns(&self) -> Option<&Edns> {
        self.edns.as_ref()
    }

    /// Why records are missing at the end, if they are.
    pub fn fault(&self) -> Option<ReadFault> {
        self.fault
    }

    /// The records of a section that are of class IN and have a readable owner.
    pub fn records(&self, section: Section) -> impl Iterator<Item = Entry<'a>> {
        let octets = self.octets;
        self.spans
            .iter()
            .filter(move |span| span.section == section && span.class == CLASS_IN)
            .map(move |span| Entry { octets, span: *span })
    }
}

impl<'a> Entry<'a> {
    pub fn rtype(&self) -> RecordType {
        self.span.rtype
    }

    /// In seconds; with the highest bit set it is 0 (RFC 2181 section 8).
    pub fn ttl(&self) -> u32 {
        if self.span.ttl > i32::MAX as u32 { 0 } else { self.span.ttl }
    }

    pub fn owner(&self) -> Result<Name, ReadFault> {
        read_name(self.octets, self.span.owner, self.octets.len()).map(|(name, _)| name)
    }

    pub fn rdata(&self) -> Rdata<'a> {
        Rdata::within(self.octets, self.span.start, self.span.end)
    }

    /// The record on its own; `None` if its owner or data are broken.
    pub fn to_raw(&self) -> Option<RawRecord> {
        let rdata = self.rdata().expand(self.span.rtype)?;
        Some(RawRecord { owner: self.owner().ok()?, rtype: self.span.rtype, ttl: self.ttl(), rdata })
    }
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn read_span(octets: &[u8], at: usize, section: Section) -> Option<Span> {
    let fixed = skip_name(octets, at)?;
    let start = fixed + 10;
    let ttl = u32::from_be_bytes(octets.get(fixed + 4..fixed + 8)?.try_into().ok()?);
    let end = start + usize::from(u16_at(octets, fixed + 8)?);
    if end > octets.len() {
        return None;
    }
    Some(Span { section, owner: at, rtype: RecordType(u16_at(octets, fixed)?), class: u16_at(octets, fixed + 2)?, ttl, start, end })
}

/// Where a name ends; pointers are not followed.
fn skip_name(octets: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    loop {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return (at + 2 <= octets.len()).then_some(at + 2),
            _ => return None,
        }
        if at - begin > name::MAX_NAME {
            return None;
        }
    }
}

/// The name at `at`, and where it ends. What stands in place must end before `end`; pointers go to earlier octets only,
/// each further back than the one before (RFC 1035 section 4.1.4: "a prior occurrence").
pub(super) fn read_name(octets: &[u8], at: usize, end: usize) -> Result<(Name, usize), ReadFault> {
    let mut builder = name::Builder::new();
    let (mut at, mut limit) = (at, end);
    // Where the part begins that is being read: a pointer must lead before it.
    let mut begin = at;
    let mut behind = None;
    let mut pointers = 0;
    loop {
        let octet = octets[..limit].get(at).copied().ok_or(ReadFault::Name)?;
        match octet {
            0 => return Ok((builder.finish(), behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = octets[..limit].get(at + 1..at + 1 + usize::from(octet)).ok_or(ReadFault::Name)?;
                builder.push(label).map_err(|_| ReadFault::Name)?;
                at += 1 + label.len();
            }
            192.. => {
                let low = octets[..limit].get(at + 1).copied().ok_or(ReadFault::Name)?;
                let target = usize::from(octet & 63) << 8 | usize::from(low);
                pointers += 1;
                if target >= begin || pointers > MAX_POINTERS {
                    return Err(ReadFault::Name);
                }
                behind = behind.or(Some(at + 2));
                (at, begin, limit) = (target, target, begin);
            }
            _ => return Err(ReadFault::Name),
        }
    }
}

#[cfg(test)]
mod tests;
