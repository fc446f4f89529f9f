//! `simple-dns` as an oracle of the reader: where both can read a record, both must read the same.
//!
//! It fails for whole messages that the reader takes, and takes names and leftovers that the reader refuses; so only what
//! both have is compared: the frame, and owner, type, TTL and data of records of the oldest types.

use pipit::proto::dns::RecordType;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reader::Section;
use simple_dns::CLASS;
use simple_dns::Packet;
use simple_dns::ResourceRecord;
use simple_dns::TYPE;
use simple_dns::rdata::RData;

pub use crate::dns::SEEDS;

pub fn target(input: &[u8]) {
    let (Ok(ours), Ok(theirs)) = (Message::read(input), Packet::parse(input)) else { return };
    // Their frame of one with another number of questions is not ours.
    if ours.fault().is_some() || theirs.questions.len() != usize::from(ours.question().is_some()) {
        return;
    }
    assert_eq!(ours.id(), theirs.id());
    if let (Some(ours), Some(theirs)) = (ours.question(), theirs.questions.first()) {
        assert_eq!(ours.name.as_wire(), wire(&theirs.qname));
    }
    let sections =
        [(Section::Answer, &theirs.answers), (Section::Authority, &theirs.name_servers), (Section::Additional, &theirs.additional_records)];
    for (section, theirs) in sections {
        let plain =
            |record: &&ResourceRecord<'_>| record.class == CLASS::IN && !record.cache_flush && record.rdata.type_code() != TYPE::OPT;
        let theirs: Vec<&ResourceRecord<'_>> = theirs.iter().filter(plain).collect();
        let ours: Vec<_> = ours.records(section).collect();
        assert_eq!(ours.len(), theirs.len(), "{section:?} {theirs:?}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.rtype(), RecordType(u16::from(theirs.rdata.type_code())));
            let (Some(record), Some(rdata)) = (ours.to_raw(), rdata(&theirs.rdata)) else { continue };
            assert_eq!(record.owner.as_wire(), wire(&theirs.name));
            assert!(record.ttl == theirs.ttl || record.ttl == 0 && theirs.ttl > i32::MAX as u32);
            assert_eq!(record.rdata, rdata, "{theirs:?}");
        }
    }
}

fn wire(name: &simple_dns::Name<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.as_bytes() {
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

/// The data uncompressed, of types that are compared.
fn rdata(data: &RData<'_>) -> Option<Vec<u8>> {
    match data {
        RData::A(a) => Some(a.address.to_be_bytes().to_vec()),
        RData::AAAA(aaaa) => Some(aaaa.address.to_be_bytes().to_vec()),
        RData::NS(name) => Some(wire(name)),
        RData::CNAME(name) => Some(wire(name)),
        RData::PTR(name) => Some(wire(name)),
        RData::MX(mx) => Some([&mx.preference.to_be_bytes()[..], &wire(&mx.exchange)].concat()),
        _ => None,
    }
}
