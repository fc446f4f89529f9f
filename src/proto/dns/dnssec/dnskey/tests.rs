//! Keys, tags and signatures of the examples in the RFCs.

use super::*;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::presentation::parse_rdata;
use crate::proto::dns::name::Name;

fn key(text: &str) -> Dnskey {
    Dnskey::decode(&parse_rdata(RecordType::DNSKEY, text).unwrap()).unwrap()
}

/// The root's keys as Debian's dns-root-data has them.
const ROOT_2017: &str = "257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";
const ROOT_2024: &str = "257 3 8 AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQWOmOElZsjICMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5oUKEpUge71M3ej2/7CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9mR7K2vaF18UYH9Z9GNUUeayffKC73PYc=";
/// RFC 6605 section 6.1.
const P256: &str = "257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";
/// RFC 8080 section 6.1.
const ED25519: &str = "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";

#[test]
fn tags_and_digests() {
    let rows = [
        (".", ROOT_2017, 20326, "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"),
        (".", ROOT_2024, 38696, "38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16"),
        ("example.net", P256, 55648, "55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"),
        ("EXAMPLE.com", ED25519, 3613, "3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"),
    ];
    for (zone, text, tag, ds) in rows {
        let (zone, key) = (Name::parse(zone).unwrap(), key(text));
        let ds = Ds::decode(&parse_rdata(RecordType::DS, ds).unwrap()).unwrap();
        assert_eq!(key.tag, tag);
        assert!(key.is_usable() && key.may_sign() && key.is_entry_point() && ds.may_stand_for(&key));
        assert!(ds.stands_for(&zone, &key), "{zone}");
        assert!(!ds.stands_for(&Name::parse("other").unwrap(), &key));
        assert!(!Ds { digest: [0; 32].into(), ..ds }.stands_for(&zone, &key));
    }
    // RFC 4034 appendix B.1 takes the tag of algorithm 1 from the modulus.
    assert_eq!(key_tag(&[1, 0, 3, 1, 9, 9, 0x12, 0x34, 0x56]), 0x1234);
    assert_eq!(key_tag(&[1, 0, 3]), 0x0400);
}

#[test]
fn flags_decide_what_a_key_may_do() {
    for (flags, may) in [(256, true), (257, true), (0, false), (1, false), (384, false), (385, false), (512, false)] {
        assert_eq!(key(&format!("{flags} 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=")).may_sign(), may, "{flags}");
    }
    assert!(!key("257 2 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=").may_sign());
    assert_eq!(Dnskey::decode(&[1, 1, 3]), None);
    let whole = parse_rdata(RecordType::DNSKEY, P256).unwrap();
    assert_eq!(Dnskey::decode(&whole).unwrap().encode(), whole);
}

#[test]
fn algorithms_that_are_supported() {
    for number in 0..=255u8 {
        let supported = Algorithm(number).is_supported(Sha1::Refused);
        assert_eq!(supported, [8, 10, 13, 14, 15].contains(&number), "{number}");
        assert_eq!(Algorithm(number).is_supported(Sha1::Accepted), supported || [5, 7].contains(&number), "{number}");
    }
}

fn rsa(exponent: &[u8], bits: usize) -> Dnskey {
    let mut octets = vec![exponent.len() as u8];
    octets.extend(exponent);
    octets.push(1 << ((bits - 1) % 8));
    octets.extend(vec![0xff; (bits - 1) / 8]);
    Dnskey { flags: 256, protocol: 3, algorithm: Algorithm(8), key: octets.into(), tag: 0 }
}

#[test]
fn keys_of_sizes_that_cannot_be_used() {
    let e: &[u8] = &[1, 0, 1];
    for (key, usable) in [
        (rsa(e, 1024), true),
        (rsa(e, 4096), true),
        (rsa(e, 8192), true),
        (rsa(e, 1023), false),
        (rsa(e, 512), false),
        (rsa(e, 8193), false),
        (rsa(&[3], 2048), true),
        (rsa(&[1, 0xff, 0xff, 0xff, 0xff], 2048), true),
        (rsa(&[2, 0, 0, 0, 1], 2048), false),
        (rsa(&[1, 0, 0, 0, 0, 1], 2048), false),
        (rsa(&[1], 2048), false),
        (rsa(&[2], 2048), false),
        (rsa(&[], 2048), false),
        // zeros in front, and the long form of the length
        (rsa(&[0, 0, 1, 0, 1], 2048), true),
        (Dnskey { key: [&[0, 0, 3, 1, 0, 1][..], &[0xff; 256]].concat().into(), ..rsa(e, 1024) }, true),
        (Dnskey { key: [0, 0xff, 0xff, 1].into(), ..rsa(e, 1024) }, false),
        (Dnskey { key: [].into(), ..rsa(e, 1024) }, false),
        (Dnskey { algorithm: Algorithm(13), key: [1; 63].into(), ..rsa(e, 1024) }, false),
        (Dnskey { algorithm: Algorithm(14), key: [1; 64].into(), ..rsa(e, 1024) }, false),
        (Dnskey { algorithm: Algorithm(15), key: [1; 33].into(), ..rsa(e, 1024) }, false),
        (Dnskey { algorithm: Algorithm(16), key: [1; 57].into(), ..rsa(e, 1024) }, false),
    ] {
        assert_eq!(key.is_usable(), usable, "{key:?}");
        // No octets make it panic.
        assert!(!key.verify(b"message", b"signature"));
    }
}

#[test]
fn what_a_check_costs() {
    let rsa = |octets: usize, exponent: &[u8]| {
        let head = [&[exponent.len() as u8][..], exponent].concat();
        [&[1, 0, 3, 8][..], &head, &vec![0xff; octets]].concat()
    };
    let (usual, longest) = (&[1, 0, 1][..], &[1, 0xff, 0xff, 0xff, 0xff][..]);
    let rows = [(128, usual, 1), (256, usual, 1), (512, usual, 1), (512, longest, 4), (1024, usual, 4), (1024, longest, 14)];
    for (octets, exponent, cost) in rows {
        let key = Dnskey::decode(&rsa(octets, exponent)).unwrap();
        assert!(key.is_usable() && key.cost() == cost, "{octets}: {}", key.cost());
    }
    // Zeros before the modulus are no part of it, but as many as this are nobody's.
    let zeros = |count: usize| [&[1, 0, 3, 8, 3, 1, 0, 1][..], &vec![0; count], &[0xff; 256]].concat();
    assert!(Dnskey::decode(&zeros(1)).unwrap().is_usable() && !Dnskey::decode(&zeros(60_000)).unwrap().is_usable());
}
