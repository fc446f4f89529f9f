//! What is written is read back, by us here, by rustls in `net::tls` and by openssl in
//! `tests/net_x509.rs`; mutations never panic a reader.

use ring::rand::SystemRandom;

use super::*;
use crate::proto::x509::key;
use crate::proto::x509::reader;

const BEGIN: UnixTime = UnixTime(1_795_452_194);
const END: UnixTime = UnixTime(1_795_452_194 + 3650 * 86_400);

fn domains(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| Domain::parse(name).unwrap()).collect()
}

fn sample(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let random = SystemRandom::new();
    let key = key::new_key(&random).unwrap();
    let names = domains(names);
    let wanted = SelfSigned { key_pkcs8: &key, names: &names, not_before: BEGIN, not_after: END, serial: [0; 16] };
    (self_signed(&wanted, &random).unwrap(), key)
}

#[test]
fn what_is_written_is_read_back() {
    let long = format!("{}.example.org", "a".repeat(63));
    let (certificate, key) = sample(&["mail.example.org", "[192.0.2.1]", "bücher.example", "[IPv6:2001:db8::1]", &long]);
    assert_eq!(reader::validity(&certificate).unwrap(), reader::Validity { not_before: BEGIN, not_after: END });
    assert_eq!(reader::spki(&certificate).unwrap(), key::spki_of_key(&key, &SystemRandom::new()).unwrap());
    assert_eq!(reader::names(&certificate).unwrap(), ["mail.example.org", "xn--bcher-kva.example", &long]);
}

#[test]
fn impossible_wishes_are_refused() {
    let random = SystemRandom::new();
    let key = key::new_key(&random).unwrap();
    let names = domains(&["a.example"]);
    let wish = |key_pkcs8, names, not_before, not_after| {
        self_signed(&SelfSigned { key_pkcs8, names, not_before, not_after, serial: [1; 16] }, &random).err()
    };
    assert_eq!(wish(&key, &[], BEGIN, END), Some(SignFault::NoNames));
    assert_eq!(wish(&key, &names, END, BEGIN), Some(SignFault::BadValidity));
    assert_eq!(wish(&key, &names, BEGIN, UnixTime(i64::MAX)), Some(SignFault::BadValidity));
    assert_eq!(wish(b"none", &names, BEGIN, END), Some(SignFault::BadKey));
    assert_eq!(wish(&key, &names, BEGIN, END), None);
}

#[test]
fn no_mutation_panics_a_reader() {
    let (certificate, _) = sample(&["mail.example.org", "[192.0.2.1]"]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut mutant = certificate.clone();
        for _ in 0..=random(4) {
            let at = random(mutant.len());
            match random(4) {
                0 => mutant[at] = random(256) as u8,
                1 => mutant[at] ^= 1 << random(8),
                2 => mutant.truncate(at.max(1)),
                _ => mutant.insert(at, random(256) as u8),
            }
        }
        let _ = (reader::validity(&mutant), reader::spki(&mutant).is_ok(), reader::names(&mutant));
    }
    for end in 0..certificate.len() {
        assert!(reader::spki(&certificate[..end]).is_err());
    }
}
