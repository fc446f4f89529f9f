//! Messages of the DNS: the reader, what an answer means, and every record as text.

use pipit::proto::dns::RecordType;
use pipit::proto::dns::name::MAX_NAME;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::presentation::parse_rdata;
use pipit::proto::dns::presentation::show_rdata;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reader::Section;
use pipit::proto::dns::reply::Reply;
use pipit::proto::dns::reply::write_reply;
use pipit::proto::dns::resolv_conf;
use pipit::proto::dns::response;
use pipit::proto::dns::table::Table;

pub const SEEDS: &[&[u8]] = &[
    // a question with EDNS, cookie and DO
    b"\0\x07\x01\x10\0\x01\0\0\0\0\0\x01\x01x\x03org\0\0\x0f\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x0812345678",
    // an answer: CNAME, two MX, compressed; an EDE
    b"\0\x07\x81\x80\0\x01\0\x03\0\0\0\x01\x01x\x03org\0\0\x0f\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01y\xc0\x0e\xc0\x23\0\x0f\0\x01\0\0\0\x3c\0\x04\0\x05\xc0\x0c\xc0\x23\0\x0f\0\x01\0\0\0\x3c\0\x07\0\x0a\x02mx\xc0\x0c\0\0\x29\x04\xd0\x01\0\x80\0\0\x08\0\x0f\0\x04\0\x16no",
    // NXDOMAIN with SOA
    b"\0\x07\x81\x83\0\x01\0\0\0\x01\0\0\x01x\x03org\0\0\x0f\0\x01\xc0\x0e\0\x06\0\x01\0\0\x03\x84\0\x1b\x01a\xc0\x0e\x01b\xc0\x0e\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\x01\x2c",
    // TXT, NSEC, RRSIG, NSEC3
    b"\0\x07\x81\x80\0\x01\0\x04\0\0\0\0\x01x\x03org\0\0\x10\0\x01\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x06\x02v=\x02s1\xc0\x0c\0\x2f\0\x01\0\0\0\x3c\0\x0b\x01a\xc0\x0e\0\x05\x40\x01\0\0\x40\xc0\x0c\0\x2e\0\x01\0\0\0\x3c\0\x18\0\x10\x0d\x02\0\0\x01\x2cAAAABBBB\x5c\x34\x01x\0foo\xc0\x0c\0\x32\0\x01\0\0\0\x3c\0\x0d\x01\0\0\x05\0\x04abcd\0\x01\x40",
    b"example.org. 300 MX 10 mx.example.org.\nnameserver fe80::1%eth0\nx TXT \"a\\\"b\" c ; d\ny.x CNAME x\nz TLSA 3 1 1 00ff\nw A \\# 4 01020304",
];

const KINDS: [RecordType; 4] = [RecordType::MX, RecordType::CNAME, RecordType::ANY, RecordType::TXT];

pub fn target(data: &[u8]) {
    text(&String::from_utf8_lossy(data));
    for kind in 0..70 {
        shown(RecordType(kind), data);
    }
    let Ok(message) = Message::read(data) else { return };
    let mut count = 0;
    for section in [Section::Answer, Section::Authority, Section::Additional] {
        for entry in message.records(section) {
            count += 1;
            let Some(record) = entry.to_raw() else { continue };
            assert!(record.owner.as_wire().len() <= MAX_NAME && record.ttl <= i32::MAX as u32);
            shown(record.rtype, &record.rdata);
            let text = record.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
    assert!(count <= 1000);
    let Some(asked) = message.question() else { return };
    assert_eq!(Name::parse(&asked.name.to_string()).as_ref().map(Name::as_wire), Ok(asked.name.as_wire()), "a name survives its text");
    for kind in KINDS {
        let Ok(response) = response::understand(&message, &asked.name, kind) else { continue };
        assert!(response.links.len() <= 11);
        assert_eq!(&response.owner, response.links.last().map_or(&asked.name, |(_, to)| to));
        let reply = Reply { rcode: message.rcode(), answers: &response.records, authority: &[], errors: &[] };
        let again = write_reply(&message, &reply, 65_535);
        let again = Message::read(&again).expect("what is written can be read");
        assert!(again.is_truncated() || again.records(Section::Answer).count() == response.records.len());
    }
}

/// What is shown can be read again, where it is read at all.
fn shown(kind: RecordType, rdata: &[u8]) {
    let text = show_rdata(kind, rdata);
    assert!(!text.chars().any(char::is_control), "{text:?}");
    if let Some(parsed) = parse_rdata(kind, &text) {
        let second = show_rdata(kind, &parsed);
        assert_eq!(second, text, "{kind}");
    }
}

fn text(text: &str) {
    let _ = Table::parse(text);
    let _ = resolv_conf::nameservers(text);
    for line in text.lines() {
        if let Ok(name) = Name::parse(line) {
            assert!(name.as_wire().len() <= MAX_NAME && Name::parse(&name.to_string()).as_ref() == Ok(&name));
        }
    }
}
