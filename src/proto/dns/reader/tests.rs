//! Messages that are broken in one way each.

use super::*;

/// Header with the counts, and the rest as given.
fn message(counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut octets = vec![0, 7, 0x81, 0x80];
    octets.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    octets.extend_from_slice(rest);
    octets
}

const QUESTION: &[u8] = b"\x01x\0\0\x0f\0\x01";
/// MX 5 of `x.`, its exchange the owner.
const MX: &[u8] = b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x04\0\x05\xc0\x0c";

#[test]
fn a_message_in_order() {
    let octets = message([1, 1, 0, 1], &[QUESTION, MX, b"\0\0\x29\x04\xd0\x01\0\x80\0\0\x06\0\x0f\0\x02\0\x16"].concat());
    let message = Message::read(&octets).unwrap();
    assert_eq!((message.fault(), message.rcode(), message.id()), (None, Rcode(16), 7));
    let record = message.records(Section::Answer).next().unwrap().to_raw().unwrap();
    assert_eq!(record.to_string(), "x. 60 MX 5 x.");
    let edns = message.edns().unwrap();
    assert!(edns.dnssec_ok && edns.version == 0 && edns.udp_payload == 1232 && edns.errors[0].code.0 == 22);
}

#[test]
fn frames_that_break() {
    let rows: [(Vec<u8>, Option<ReadFault>, usize); 8] = [
        (message([1, 0, 0, 0], QUESTION), None, 0),
        // counts that lie
        (message([1, 65_535, 65_535, 65_535], QUESTION), Some(ReadFault::Record), 0),
        (message([1, 2, 0, 0], &[QUESTION, MX].concat()), Some(ReadFault::Record), 1),
        // a record cut in its data, its fixed part, its owner
        (message([1, 2, 0, 0], &[QUESTION, MX, &MX[..14]].concat()), Some(ReadFault::Record), 1),
        (message([1, 2, 0, 0], &[QUESTION, MX, &MX[..5]].concat()), Some(ReadFault::Record), 1),
        (message([1, 2, 0, 0], &[QUESTION, MX, &MX[..1]].concat()), Some(ReadFault::Record), 1),
        // label types that do not exist any more
        (message([1, 1, 0, 0], &[QUESTION, b"\x41x\0"].concat()), Some(ReadFault::Record), 0),
        (
            message([1, 1001, 0, 0], &[QUESTION, &b"\0\0\x01\0\x01\0\0\0\0\0\0".repeat(1001)].concat()),
            Some(ReadFault::TooManyRecords),
            1000,
        ),
    ];
    for (octets, fault, records) in rows {
        let message = Message::read(&octets).unwrap();
        assert_eq!((message.fault(), message.records(Section::Answer).count()), (fault, records), "{}", octets.escape_ascii());
    }
    for octets in [&b""[..], b"\0\x07\x81\x80\0\0\0\0\0\0\0"] {
        assert_eq!(Message::read(octets).err(), Some(ReadFault::Header));
    }
    for octets in
        [message([2, 0, 0, 0], &QUESTION.repeat(2)), message([1, 0, 0, 0], &QUESTION[..6]), message([1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01")]
    {
        assert_eq!(Message::read(&octets).err(), Some(ReadFault::Question));
    }
}

#[test]
fn pointers_go_back_and_end() {
    let read = |octets: &[u8], at| read_name(octets, at, octets.len()).map(|(name, end)| (name.to_string(), end));
    assert_eq!(read(b"\x01x\0\x01a\xc0\0", 3), Ok(("a.x.".to_owned(), 7)));
    // to itself, forward, round in two steps
    assert_eq!(read(b"\xc0\0", 0), Err(ReadFault::Name));
    assert_eq!(read(b"\xc0\x02\x01x\0", 0), Err(ReadFault::Name));
    assert_eq!(read(b"\x01a\xc0\x04\x01b\xc0\0", 4), Err(ReadFault::Name));
    assert_eq!(read(b"\x01a\xc0\0", 0), Err(ReadFault::Name));
    // A chain of pointers without labels ends at its bound.
    let pointer = |n: u16| (0xc000 | if n == 0 { 0 } else { 2 * n - 1 }).to_be_bytes();
    let chain: Vec<u8> = std::iter::once(0).chain((0..200).flat_map(pointer)).collect();
    let begin = |n: usize| 1 + 2 * n;
    assert!(chain.len() > 255 && read(&chain[..begin(100)], begin(99)).is_ok());
    assert_eq!(read(&chain[..begin(128)], begin(127)), Err(ReadFault::Name));
}

#[test]
fn names_keep_to_255_octets() {
    let label = [&[63][..], &[b'a'; 63]].concat();
    let read = |octets: &[u8]| read_name(octets, 0, octets.len()).map(|(name, _)| name.as_wire().len());
    assert_eq!(read(&[&label.repeat(3)[..], &[61], &[b'a'; 61], &[0]].concat()), Ok(255));
    assert_eq!(read(&[&label.repeat(3)[..], &[62], &[b'a'; 62], &[0]].concat()), Err(ReadFault::Name));
    assert_eq!(read(&label), Err(ReadFault::Name));
}
