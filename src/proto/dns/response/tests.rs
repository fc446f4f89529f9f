//! Answers as zones of text: what each means.

use super::*;
use crate::proto::dns::presentation::parse_rdata;
use crate::proto::dns::question::Checking;
use crate::proto::dns::question::Dice;
use crate::proto::dns::question::Extension;
use crate::proto::dns::question::Letters;
use crate::proto::dns::question::Query;
use crate::proto::dns::question::Question;
use crate::proto::dns::reply::Reply;
use crate::proto::dns::reply::write_reply;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// `owner TTL TYPE rdata`, one a line.
fn records(lines: &str) -> Vec<RawRecord> {
    let line = |line: &str| {
        let words: Vec<&str> = line.trim().splitn(4, ' ').collect();
        let rtype = RecordType::parse(words[2]).unwrap();
        RawRecord { owner: name(words[0]), ttl: words[1].parse().unwrap(), rtype, rdata: parse_rdata(rtype, words[3]).unwrap() }
    };
    lines.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

fn understood(rcode: Rcode, answers: &str, authority: &str) -> Result<Response, ResponseFault> {
    let dice = Dice { id: 1, letters: [0; 32] };
    let question = Question { name: &name("www.x"), kind: RecordType::A, checking: Checking::Disabled };
    let query = Query::new(&question, Letters::Random, Extension::Plain, &dice);
    let reply = Reply { rcode, answers: &records(answers), authority: &records(authority), errors: &[] };
    let mut octets = write_reply(&Message::read(query.octets()).unwrap(), &reply, 65_535);
    // A recursive server answers without AA.
    octets[2] &= !4;
    let message = Message::read(&octets).unwrap();
    assert_eq!(message.fault(), None);
    understand(&message, &name("www.x"), RecordType::A)
}

#[test]
fn ends_of_all_kinds() {
    let soa = "x 900 SOA ns.x h.x 1 2 3 4 300";
    let ok = Rcode::NO_ERROR;
    let nx = Rcode::NX_DOMAIN;
    // code, answers, authority: end, owner, links, ttl
    let rows = [
        (ok, "www.x 60 A 192.0.2.1\nwww.x 50 A 192.0.2.2\nwww.x 60 A 192.0.2.1", "", End::Records, "www.x", 0, 50),
        (ok, "WWW.x 60 CNAME a.y\na.y 20 A 192.0.2.1", "", End::Records, "a.y", 1, 20),
        (ok, "a.y 20 A 192.0.2.1\nwww.x 10 CNAME a.y", "", End::Records, "a.y", 1, 10),
        (ok, "", soa, End::NoData, "www.x", 0, 300),
        (ok, "", "", End::NoData, "www.x", 0, 0),
        (nx, "", soa, End::NoSuchName, "www.x", 0, 300),
        (nx, "", "", End::NoSuchName, "www.x", 0, 0),
        (nx, "www.x 60 CNAME gone.x", soa, End::NoSuchName, "gone.x", 1, 60),
        (ok, "www.x 60 CNAME bare.x", soa, End::NoData, "bare.x", 1, 60),
        (ok, "www.x 60 CNAME a.y", "", End::Open, "a.y", 1, 60),
        (ok, "www.x 60 CNAME a.y", soa, End::Open, "a.y", 1, 60),
        (ok, "other.x 60 A 192.0.2.1", soa, End::NoData, "www.x", 0, 300),
    ];
    for (code, answers, authority, end, owner, links, ttl) in rows {
        let response = understood(code, answers, authority).unwrap();
        assert_eq!((response.end, response.owner, response.links.len(), response.ttl), (end, name(owner), links, ttl), "{code} {answers}");
    }
}

#[test]
fn answers_of_no_use() {
    let chain = |links: usize| {
        (0..links)
            .map(|n| format!("{} 60 CNAME n{n}.x\n", if n == 0 { "www.x".into() } else { format!("n{}.x", n - 1) }))
            .collect::<String>()
    };
    assert_eq!(understood(Rcode::NO_ERROR, &(chain(11) + "n10.x 60 A 192.0.2.1"), "").unwrap().links.len(), 11);
    let rows = [
        (Rcode::SERV_FAIL, String::new(), "", ResponseFault::Code(Rcode::SERV_FAIL)),
        (Rcode::NO_ERROR, chain(12), "", ResponseFault::Chain),
        (Rcode::NO_ERROR, "www.x 60 CNAME www.x".into(), "", ResponseFault::Chain),
        (Rcode::NO_ERROR, "www.x 60 CNAME a.x\na.x 60 CNAME b.x\nb.x 60 CNAME a.x".into(), "", ResponseFault::Chain),
        (Rcode::NX_DOMAIN, "www.x 60 A 192.0.2.1".into(), "", ResponseFault::Contradiction),
        (Rcode::NO_ERROR, r"www.x 60 A \# 3 000000".into(), "", ResponseFault::Broken),
        (Rcode::NO_ERROR, String::new(), "x 60 NS ns.x", ResponseFault::Referral),
    ];
    for (code, answers, authority, fault) in rows {
        assert_eq!(understood(code, &answers, authority).err(), Some(fault), "{answers}");
    }
    let one_broken = understood(Rcode::NO_ERROR, "www.x 60 A \\# 3 000000\nwww.x 60 A 192.0.2.1", "").unwrap();
    assert_eq!(one_broken.records.len(), 1, "one bad record does not lose the others");
}
