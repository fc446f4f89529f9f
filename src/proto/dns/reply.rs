//! Writes answers: for the small server of localserve and for the misbehaving upstreams of the tests.
//!
//! The question is echoed as it came, EDNS and cookie too; what does not fit is left out and TC set. Names are not
//! compressed but for the owner that was asked for.

use crate::proto::dns::CLASS_IN;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::ede::ExtendedError;
use crate::proto::dns::question::UDP_PAYLOAD;
use crate::proto::dns::reader::Message;
use crate::proto::dns::reader::OPTION_COOKIE;
use crate::proto::dns::reader::OPTION_EDE;
use crate::proto::dns::reader::RawRecord;

const QR: u16 = 1 << 15;
const AA: u16 = 1 << 10;
const TC: u16 = 1 << 9;
const RD: u16 = 1 << 8;
const RA: u16 = 1 << 7;
/// Where the name of the question stands, as a pointer to it.
const QUESTION_NAME: [u8; 2] = [0xc0, 12];

/// What to answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub rcode: Rcode,
    pub answers: &'a [RawRecord],
    pub authority: &'a [RawRecord],
    /// only sent to who speaks EDNS
    pub errors: &'a [ExtendedError],
}

impl Reply<'_> {
    /// A code and nothing else.
    pub fn of(rcode: Rcode) -> Reply<'static> {
        Reply { rcode, answers: &[], authority: &[], errors: &[] }
    }
}

/// The octets of an answer to `query`, at most `max` where that is possible; over TCP 65,535.
pub fn write_reply(query: &Message<'_>, reply: &Reply<'_>, max: usize) -> Vec<u8> {
    let whole = write(query, reply, 0);
    if whole.len() <= max { whole } else { write(query, &Reply { answers: &[], authority: &[], ..*reply }, TC) }
}

fn write(query: &Message<'_>, reply: &Reply<'_>, truncated: u16) -> Vec<u8> {
    let recursion = if query.wants_recursion() { RD } else { 0 };
    let flags = QR | AA | RA | recursion | truncated | reply.rcode.0 & 15;
    let counts =
        [query.question().is_some().into(), reply.answers.len() as u16, reply.authority.len() as u16, query.edns().is_some().into()];
    let mut out = Vec::with_capacity(512);
    for number in [query.id(), flags].into_iter().chain(counts) {
        out.extend(number.to_be_bytes());
    }
    out.extend_from_slice(query.question().map_or(&[][..], |asked| asked.octets));
    for record in reply.answers.iter().chain(reply.authority) {
        match query.question() {
            Some(asked) if asked.name == record.owner && !record.owner.is_root() => out.extend(QUESTION_NAME),
            _ => out.extend_from_slice(record.owner.as_wire()),
        }
        out.extend(record.rtype.0.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(record.ttl.to_be_bytes());
        out.extend((record.rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(&record.rdata);
    }
    if let Some(edns) = query.edns() {
        let mut options = Vec::new();
        let own = edns.cookie.get(..8).map(|client| (OPTION_COOKIE, [client, b"a server"].concat()));
        for (code, content) in own.into_iter().chain(reply.errors.iter().map(|error| (OPTION_EDE, error.encode()))) {
            options.extend(code.to_be_bytes());
            options.extend((content.len() as u16).to_be_bytes());
            options.extend(content);
        }
        out.push(0);
        let extended = (reply.rcode.0 >> 4 & 255) << 8;
        let dnssec_ok = u16::from(edns.dnssec_ok) << 15;
        for number in [RecordType::OPT.0, UDP_PAYLOAD, extended, dnssec_ok, options.len() as u16] {
            out.extend(number.to_be_bytes());
        }
        out.extend(options);
    }
    out
}
