//! What a readable answer means: the CNAMEs from the name asked for, and at their end records, no data, or no such name.
//!
//! After CNAMEs the response code belongs to the last name (RFC 6604 section 3). Where the message stops at a CNAME without
//! saying anything about its target, the caller asks further. How long it may be kept is found here too (RFC 2308).
//! Signatures are not looked at, and records of the signer (RRSIG, NSEC) are left behind: what a validator needs is in
//! `dnssec::rrset::Received`, and of this file only `is_usable`, whether another server should be asked instead.

use std::collections::HashSet;
use std::fmt;

use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::reader::Message;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::reader::Section;

/// The kinds of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Records,
    NoData,
    NoSuchName,
    /// The message knows nothing about the last name.
    Open,
}

/// What a message says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub end: End,
    /// the last name
    pub owner: Name,
    /// the CNAMEs that led there
    pub links: Vec<(Name, Name)>,
    /// the CNAME records and those at the end
    pub records: Vec<RawRecord>,
    /// seconds for which all of it holds
    pub ttl: u32,
}

/// Why a message is of no use, though it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// a response code that is no answer
    Code(Rcode),
    /// the zone's fault
    Chain,
    /// The records are there, and all broken.
    Broken,
    /// NXDOMAIN with records.
    Contradiction,
    /// The server is not recursive.
    Referral,
}

impl fmt::Display for ResponseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseFault::Code(code) => write!(f, "it answers {code}"),
            ResponseFault::Chain => write!(f, "the CNAMEs go round or have more than {MAX_LINKS} links"),
            ResponseFault::Broken => f.write_str("the records in its answer cannot be read"),
            ResponseFault::Contradiction => f.write_str("its answer says \"no such name\" and has records"),
            ResponseFault::Referral => f.write_str("it refers to other servers instead of asking them"),
        }
    }
}

/// What `message` says about `kind` at `name`.
pub fn understand(message: &Message<'_>, name: &Name, kind: RecordType) -> Result<Response, ResponseFault> {
    let code = message.rcode();
    if code != Rcode::NO_ERROR && code != Rcode::NX_DOMAIN {
        return Err(ResponseFault::Code(code));
    }
    let answers = Answers::gather(message, kind);
    let mut response = Response { end: End::Open, owner: name.clone(), links: Vec::new(), records: Vec::new(), ttl: u32::MAX };
    while !answers.have(&response.owner, kind)
        && let Some((cname, to)) = answers.cname(&response.owner)
    {
        if response.links.len() == MAX_LINKS || to == *name || response.links.iter().any(|(_, before)| *before == to) {
            return Err(ResponseFault::Chain);
        }
        response.ttl = response.ttl.min(cname.ttl);
        response.records.push(cname.clone());
        let from = std::mem::replace(&mut response.owner, to.clone());
        response.links.push((from, to));
    }
    let at_end =
        answers.records.iter().filter(|record| record.owner == response.owner && (record.rtype == kind || kind == RecordType::ANY));
    let before = response.records.len();
    for record in at_end {
        response.ttl = response.ttl.min(record.ttl);
        response.records.push(record.clone());
    }
    response.end = match (code, response.records.len() > before) {
        (Rcode::NX_DOMAIN, true) => return Err(ResponseFault::Contradiction),
        (_, true) => End::Records,
        (_, false) if answers.broken.contains(&response.owner) => return Err(ResponseFault::Broken),
        (Rcode::NX_DOMAIN, false) => End::NoSuchName,
        (_, false) => End::NoData,
    };
    if matches!(response.end, End::NoData | End::NoSuchName) {
        end_without_records(message, &mut response)?;
    }
    Ok(response)
}

/// Whether a proof may be sought in `message`, or another server shall be asked. What CNAMEs lead to is not judged.
pub fn is_usable(message: &Message<'_>, name: &Name, kind: RecordType) -> Result<(), ResponseFault> {
    match understand(message, name, kind) {
        // A DNAME whose result is too long (RFC 6672 section 2.2) is an answer: the DNAME.
        Ok(_) | Err(ResponseFault::Chain | ResponseFault::Code(Rcode::YX_DOMAIN)) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// The records of the answer section that matter.
struct Answers {
    records: Vec<RawRecord>,
    /// owners of records of the wanted type that are broken
    broken: Vec<Name>,
}

impl Answers {
    fn gather(message: &Message<'_>, kind: RecordType) -> Answers {
        let mut answers = Answers { records: Vec::new(), broken: Vec::new() };
        // By hash: the zone's owner decides how many there are, and how long their names.
        let mut seen = HashSet::new();
        for entry in message.records(Section::Answer) {
            if kind != RecordType::ANY && entry.rtype() != kind && entry.rtype() != RecordType::CNAME {
                continue;
            }
            match entry.to_raw() {
                // A copy of a record is one record (RFC 2181 section 5).
                Some(record) if !seen.insert((record.owner.clone(), record.rtype, record.rdata.clone())) => {}
                Some(record) => answers.records.push(record),
                None => answers.broken.extend(entry.owner()),
            }
        }
        answers
    }

    fn have(&self, owner: &Name, kind: RecordType) -> bool {
        self.records.iter().any(|record| record.owner == *owner && (record.rtype == kind || kind == RecordType::ANY))
    }

    fn cname(&self, owner: &Name) -> Option<(&RawRecord, Name)> {
        let cname = self.records.iter().find(|record| record.rtype == RecordType::CNAME && record.owner == *owner)?;
        Some((cname, Rdata::alone(&cname.rdata).cursor().name()?))
    }
}

/// A denial is kept as its SOA says (RFC 2308 section 5); without one it is not kept.
fn end_without_records(message: &Message<'_>, response: &mut Response) -> Result<(), ResponseFault> {
    let mut referral = false;
    for entry in message.records(Section::Authority) {
        referral |= entry.rtype() == RecordType::NS;
        if entry.rtype() != RecordType::SOA {
            continue;
        }
        let Some(soa) = entry.to_raw().filter(|soa| response.owner.is_at_or_below(&soa.owner)) else { continue };
        let minimum = soa.rdata.last_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets));
        response.ttl = response.ttl.min(soa.ttl).min(minimum);
        return Ok(());
    }
    if response.end == End::NoSuchName {
        response.ttl = 0;
    } else if !response.links.is_empty() {
        // No SOA of the last name's zone: the server did not go on.
        response.end = End::Open;
    } else if referral && !message.is_authoritative() {
        return Err(ResponseFault::Referral);
    } else {
        response.ttl = 0;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
