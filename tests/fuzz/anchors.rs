//! Trust anchors and records of DNSSEC as text: what is read is shown as what is read again.

use pipit::mail::date::UnixTime;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::Sha1;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::ds;
use pipit::proto::dns::dnssec::nsec::Nsec;
use pipit::proto::dns::dnssec::nsec3::Nsec3;
use pipit::proto::dns::dnssec::presentation::parse_record;
use pipit::proto::dns::dnssec::rrsig::Rrsig;
use pipit::proto::dns::name::Name;

pub const SEEDS: &[&[u8]] = &[
    b". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n. 3600 IN DS 1 13 4 (\n aabb ; c\n )",
    b"example. IN 3600 DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
    b"x. 300 RRSIG MX 13 2 300 20231114221600 20231114221600 23604 x. Zm9v\nx. 0 NSEC b. A MX RRSIG NSEC CAA",
    b"2t7b4g4vsa5smi47k61mv5bv1a22bojr.x. 60 NSEC3 1 0 5 - cpnmuoj1e8ql1ac2ur3nidtmt3s4q9ve A TYPE65535\nx. 60 NSEC3PARAM 1 0 0 ab",
    b"a\\.b\\000. 1 DNSKEY 256 3 8 AwEAAaz/tAm8yTn4 ( Mfeh5eyI\n96WSVexT )\nx \\# 3 010203\nx. DS \\# 4 00010d02",
];

pub fn target(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(anchors) = Anchors::parse(&text) {
        assert!(!anchors.is_empty());
        let anchors = anchors.with_negative(Name::root(), Some(UnixTime(5)));
        assert!(anchors.is_negative(&Name::root(), UnixTime(4)) && !anchors.is_negative(&Name::root(), UnixTime(5)));
    }
    for line in text.lines() {
        let Some(record) = parse_record(line) else { continue };
        let shown = record.to_string();
        let again = parse_record(&shown).unwrap_or_else(|| panic!("{line:?} is shown as {shown:?}, which is not read"));
        assert_eq!(again.to_string(), shown, "{line:?}");
        match record.rtype {
            RecordType::DS | RecordType::DNSKEY => {
                // Lines of anchors are cut at `;` and parentheses, escaped ones too.
                if !shown.contains('\\')
                    && let Ok(anchors) = Anchors::parse(&shown)
                {
                    let anchor = anchors.positive(&record.owner).expect("the line is of this zone");
                    assert_eq!(anchor.ds.len() + anchor.keys.len(), 1, "{shown}");
                    let _ = ds::usable(anchor.ds.clone(), Sha1::Accepted);
                    anchor.keys.iter().for_each(|key| assert!(key.cost() >= 1 && key.cost() <= 20 && !key.verify(b"", b"")));
                }
            }
            RecordType::RRSIG => drop(Rrsig::decode(&record.rdata)),
            RecordType::NSEC => drop(Nsec::decode(&record.owner, &record.rdata)),
            RecordType::NSEC3 => drop(Nsec3::decode(&record.owner, &Name::root(), &record.rdata)),
            _ => {}
        }
    }
}
