//! The names of the small internet, from lines like those of a zone file, and what they answer.
//!
//! In goes text, a record a line: `home.test MX 10 mx.home.test`, or a comment that begins with `;`. Out come answers as a recursive
//! resolver gives them: CNAMEs followed, a SOA beside what does not exist, and the difference between no such name and no
//! such data (RFC 2308; a name with names below it exists, RFC 8020).

use std::collections::HashMap;

use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::presentation;
use crate::proto::dns::reader::RawRecord;

/// Of all records, seconds: who edits the world wants to see it soon.
const TTL: u32 = 60;
/// For what does not exist (RFC 2308 section 5): the SOA of everything.
const ROOT_SOA: &str = ". hostmaster.home.test. 1 3600 600 86400 60";

/// What localserve's DNS knows. The policy records are those of `cli.md`.
pub const LOCALSERVE: &str = "
; ourselves
home.test               MX   10 mx.home.test
home.test               TXT  \"v=spf1 mx -all\"
_dmarc.home.test        TXT  \"v=DMARC1; p=reject\"
mx.home.test            A    127.0.0.1
1.0.0.127.in-addr.arpa  PTR  mx.home.test
; the second instance
friend.test             MX   10 mx.friend.test
friend.test             TXT  \"v=spf1 ip4:127.0.0.0/8 -all\"
_dmarc.friend.test      TXT  \"v=DMARC1; p=none\"
mx.friend.test          A    127.0.1.2
2.1.0.127.in-addr.arpa  PTR  mx.friend.test
; names that lead there in other ways
www.friend.test         CNAME mx.friend.test
direct.test             A    127.0.1.2
; what goes wrong: nobody listens, no mail is taken, the host has no address. missing.test does not exist
dead.test               MX   10 mx.dead.test
mx.dead.test            A    127.0.1.99
nullmx.test             MX   0 .
nohost.test             MX   10 gone.nohost.test
";

/// All names of a small internet.
#[derive(Debug)]
pub struct Zone {
    records: HashMap<Name, Vec<RawRecord>>,
    soa: RawRecord,
}

/// An answer, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'z> {
    pub rcode: Rcode,
    pub answers: Vec<&'z RawRecord>,
    pub authority: Vec<&'z RawRecord>,
}

impl Zone {
    /// Reads the lines; the error names the first that is none.
    pub fn parse(text: &str) -> Result<Zone, String> {
        let mut records: HashMap<Name, Vec<RawRecord>> = HashMap::new();
        // Only a whole line is a comment: DMARC records are full of semicolons.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';')) {
            let record = parse_line(line).ok_or_else(|| format!("{line:?} is no record"))?;
            records.entry(record.owner.clone()).or_default().push(record);
        }
        let rdata = presentation::parse_rdata(RecordType::SOA, ROOT_SOA).ok_or("the SOA is none")?;
        Ok(Zone { records, soa: RawRecord { owner: Name::root(), rtype: RecordType::SOA, ttl: TTL, rdata } })
    }

    /// Answers a question of class IN.
    pub fn answer(&self, name: &Name, rtype: RecordType) -> Found<'_> {
        if rtype == RecordType::ANY || rtype.is_meta() {
            return Found { rcode: Rcode::REFUSED, answers: Vec::new(), authority: Vec::new() };
        }
        let mut answers = Vec::new();
        let mut owner = name.clone();
        for _ in 0..=MAX_LINKS {
            let here = self.records.get(&owner).map_or(&[][..], Vec::as_slice);
            let before = answers.len();
            answers.extend(here.iter().filter(|record| record.rtype == rtype));
            if answers.len() > before {
                return Found { rcode: Rcode::NO_ERROR, answers, authority: Vec::new() };
            }
            let Some(link) = here.iter().find(|record| record.rtype == RecordType::CNAME) else { break };
            answers.push(link);
            match target(link) {
                Some(next) => owner = next,
                None => break,
            }
        }
        let rcode = if self.exists(&owner) { Rcode::NO_ERROR } else { Rcode::NX_DOMAIN };
        Found { rcode, answers, authority: vec![&self.soa] }
    }

    fn exists(&self, name: &Name) -> bool {
        self.records.keys().any(|known| known.is_at_or_below(name))
    }
}

fn parse_line(line: &str) -> Option<RawRecord> {
    let (owner, rest) = line.split_once(char::is_whitespace)?;
    let (rtype, data) = rest.trim_start().split_once(char::is_whitespace)?;
    let rtype = RecordType::parse(rtype)?;
    Some(RawRecord { owner: Name::parse(owner).ok()?, rtype, ttl: TTL, rdata: presentation::parse_rdata(rtype, data.trim())? })
}

/// Where a CNAME leads: its data is one uncompressed name.
fn target(link: &RawRecord) -> Option<Name> {
    let text = presentation::show_rdata(link.rtype, &link.rdata);
    Name::parse(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, rtype: RecordType) -> String {
        let zone = Zone::parse(LOCALSERVE).unwrap();
        let found = zone.answer(&Name::parse(name).unwrap(), rtype);
        let show = |record: &&RawRecord| format!("{} {}", record.rtype, presentation::show_rdata(record.rtype, &record.rdata));
        let answers = found.answers.iter().map(show).collect::<Vec<_>>().join(", ");
        format!("{} {answers}{}", found.rcode, if found.authority.is_empty() { "" } else { "(SOA)" })
    }

    #[test]
    fn the_names_of_localserve_answer() {
        let rows = [
            ("friend.test", RecordType::MX, "NOERROR MX 10 mx.friend.test."),
            ("MX.Friend.Test", RecordType::A, "NOERROR A 127.0.1.2"),
            ("mx.friend.test", RecordType::AAAA, "NOERROR (SOA)"),
            ("2.1.0.127.in-addr.arpa", RecordType::PTR, "NOERROR PTR mx.friend.test."),
            ("www.friend.test", RecordType::A, "NOERROR CNAME mx.friend.test., A 127.0.1.2"),
            ("www.friend.test", RecordType::AAAA, "NOERROR CNAME mx.friend.test.(SOA)"),
            ("missing.test", RecordType::MX, "NXDOMAIN (SOA)"),
            ("test", RecordType::MX, "NOERROR (SOA)"),
            ("nullmx.test", RecordType::MX, "NOERROR MX 0 ."),
            ("gone.nohost.test", RecordType::A, "NXDOMAIN (SOA)"),
            ("home.test", RecordType::ANY, "REFUSED "),
        ];
        for (name, rtype, expected) in rows {
            assert_eq!(asked(name, rtype), expected, "{name} {rtype}");
        }
        assert!(asked("_dmarc.friend.test", RecordType::TXT).contains("p=none"));
    }

    #[test]
    fn a_loop_of_names_ends_and_nonsense_is_named() {
        let zone = Zone::parse("a.test CNAME b.test\nb.test CNAME a.test").unwrap();
        assert_eq!(zone.answer(&Name::parse("a.test").unwrap(), RecordType::A).answers.len(), MAX_LINKS + 1);
        assert!(Zone::parse("a.test MX soon").unwrap_err().contains("soon"));
        assert!(Zone::parse("a.test").is_err());
    }
}
