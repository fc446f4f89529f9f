//! Signatures of the examples in the RFCs, times as serial numbers, and faults in their order.

use super::*;
use crate::proto::dns::Rcode;
use crate::proto::dns::dnssec::budget::Limits;
use crate::proto::dns::dnssec::presentation::parse_rdata;
use crate::proto::dns::dnssec::presentation::parse_record;
use crate::proto::dns::dnssec::rrset::Received;

fn set(lines: &[&str]) -> RrSet {
    Received::new(Rcode::NO_ERROR, lines.iter().map(|line| parse_record(line).unwrap()), []).answer.remove(0)
}

fn check(set: &RrSet, zone: &str, key: &str, now: i64) -> Result<Verified, Fault> {
    let keys = [Dnskey::decode(&parse_rdata(RecordType::DNSKEY, key).unwrap()).unwrap()];
    let when = When { now: UnixTime(now), clock: ClockTrust::Confirmed };
    let zone = Name::parse(zone).unwrap();
    Signers { zone: &zone, keys: &keys, when, sha1: Sha1::Refused }.check(set, &mut Budget::new(Limits::default())).unwrap()
}

/// RFC 6605 section 6.1.
const P256_KEY: &str = "257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";
const P256: [&str; 2] = [
    "www.example.net. 3600 IN A 192.0.2.1",
    "www.example.net. 3600 IN RRSIG A 13 3 3600 20100909100439 20100812100439 55648 example.net. \
     qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
];
/// 2010-08-20
const P256_NOW: i64 = 1_282_262_400;

#[test]
fn the_example_of_rfc_6605_holds() {
    let verified = check(&set(&P256), "example.net", P256_KEY, P256_NOW).unwrap();
    assert_eq!(verified, Verified { ttl: 3600, source: Source::Itself });
    // At its last second, and not one later.
    let end = 1_284_026_679;
    assert_eq!(check(&set(&P256), "example.net", P256_KEY, end).map(|verified| verified.ttl), Ok(0));
    assert_eq!(check(&set(&P256), "example.net", P256_KEY, end + 1), Err(Fault::Expired));
    assert_eq!(check(&set(&P256), "example.net", P256_KEY, end - 28 * 86_400 - 1), Err(Fault::NotYetValid));
    assert_eq!(check(&set(&P256), "net", P256_KEY, P256_NOW), Err(Fault::Missing));
    assert_eq!(check(&set(&P256[..1]), "example.net", P256_KEY, P256_NOW), Err(Fault::Missing));
    let other = set(&["www.example.net. 3600 IN A 192.0.2.2", P256[1]]);
    assert_eq!(check(&other, "example.net", P256_KEY, P256_NOW), Err(Fault::Wrong));
    let elsewhere = set(&["ww2.example.net. 3600 IN A 192.0.2.1", &P256[1].replace("www.", "ww2.")]);
    assert_eq!(check(&elsewhere, "example.net", P256_KEY, P256_NOW), Err(Fault::Wrong));
}

#[test]
fn the_example_of_rfc_8080_holds() {
    let records = set(&[
        "example.com. 3600 IN MX 10 mail.example.com.",
        "example.com. 3600 IN RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. \
         oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
    ]);
    let key = "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";
    assert_eq!(check(&records, "example.com", key, 1_439_000_000).map(|verified| verified.ttl), Ok(3600));
    assert_eq!(check(&records, "example.com", &key.replace("257", "1"), 1_439_000_000), Err(Fault::NoKey), "the tag is another one");
}

#[test]
fn times_are_serial_numbers() {
    // RFC 4034 section 3.1.5: comparisons go round at 2^32, which is in 2106.
    for (a, b, order) in [
        (0, 0, Ordering::Equal),
        (1, 0, Ordering::Greater),
        (0, 1, Ordering::Less),
        (0, u32::MAX, Ordering::Greater),
        (u32::MAX, 0, Ordering::Less),
        (0x7fff_ffff, 0, Ordering::Greater),
        (0x8000_0001, 0, Ordering::Less),
    ] {
        assert_eq!(serial_order(a, b), order, "{a} {b}");
    }
    let mut signature = Rrsig::decode(&parse_record(P256[1]).unwrap().rdata).unwrap();
    let validity = |signature: &Rrsig, now| signature.validity(UnixTime(now));
    (signature.inception, signature.expiration) = (0xffff_ff00, 0x100);
    assert_eq!(validity(&signature, (1 << 32) + 5), Validity::Valid);
    assert_eq!(validity(&signature, (1 << 32) + 0x101), Validity::Expired);
    assert_eq!(validity(&signature, (1 << 32) - 0x101), Validity::NotYetValid);
    (signature.inception, signature.expiration) = (200, 100);
    assert_eq!(validity(&signature, 150), Validity::Never);
}

#[test]
fn the_most_telling_fault_wins() {
    let order = [
        Fault::Wrong,
        Fault::NotAZoneKey,
        Fault::NoKey,
        Fault::Missing,
        Fault::Unsupported,
        Fault::Never,
        Fault::NotYetValid,
        Fault::Expired,
    ];
    assert!(order.is_sorted());
    let other_key = P256[1].replace(" 55648 ", " 1 ");
    let wrong = P256[1].replace("qx6w", "AAAA");
    let unsupported = P256[1].replace(" A 13 ", " A 16 ");
    let rows: [(&[&str], Fault); 5] = [
        (&[&wrong], Fault::Wrong),
        (&[&wrong, &other_key], Fault::NoKey),
        (&[&unsupported], Fault::Unsupported),
        (&[&unsupported, &wrong], Fault::Wrong),
        (&[&unsupported, &other_key, &wrong], Fault::NoKey),
    ];
    for (signatures, fault) in rows {
        let lines: Vec<&str> = [&P256[..1], signatures].concat();
        assert_eq!(check(&set(&lines), "example.net", P256_KEY, P256_NOW), Err(fault), "{signatures:?}");
    }
    // One that holds is enough, wherever it stands.
    let lines = [P256[0], &wrong, &other_key, &unsupported, P256[1]];
    assert!(check(&set(&lines), "example.net", P256_KEY, P256_NOW).is_ok());
}

#[test]
fn a_broken_signature_record_is_none() {
    let whole = parse_record(P256[1]).unwrap().rdata;
    for length in 0..30 {
        assert_eq!(Rrsig::decode(&whole[..length]), None, "{length}");
    }
}
