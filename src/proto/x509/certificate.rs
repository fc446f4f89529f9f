//! A self-signed certificate of version 3 (RFC 5280 section 4): what a server serves until, or instead of, a CA's. Other
//! mail servers encrypt to it; with a TLSA record `3 1 1` they verify it too (RFC 7672 section 3.1.1).
//!
//! An end entity, not a CA: rustls-webpki refuses a CA certificate as a leaf (`CaUsedAsEndEntity`), and so do others.
//! Not done here: signing requests, other keys than P-256.

use std::fmt;
use std::net::IpAddr;

use ring::rand::SecureRandom;
use ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use ring::signature::EcdsaKeyPair;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::proto::x509::der;
use crate::proto::x509::key::spki_of_pair;

/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// id-ce-keyUsage, 2.5.29.15.
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
/// id-ce-subjectAltName, 2.5.29.17.
pub(super) const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// id-ce-basicConstraints, 2.5.29.19.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
/// id-ce-extKeyUsage, 2.5.29.37.
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
/// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// The longest common name (RFC 5280 appendix A.1, ub-common-name).
const MAX_COMMON_NAME: usize = 64;
/// The common name when no name is short enough; the names that count are in subjectAltName (RFC 9525).
const FALLBACK_COMMON_NAME: &str = "Pipit mail server";

/// What the certificate is to say.
pub struct SelfSigned<'a> {
    /// P-256, PKCS#8.
    pub key_pkcs8: &'a [u8],
    /// At least one; address literals become iPAddress names.
    pub names: &'a [Domain],
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    /// Random: 126 of its bits are used (section 4.1.2.2 wants it positive and at most 20 octets).
    pub serial: [u8; 16],
}

/// Why there is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignFault {
    NoNames,
    BadValidity,
    BadKey,
    /// The random source or the signature failed.
    Crypto,
}

impl fmt::Display for SignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignFault::NoNames => "a certificate needs at least one name",
            SignFault::BadValidity => "the certificate would end before it begins, or outside of the years 1950 to 9999",
            SignFault::BadKey => "the key is not a P-256 key in PKCS#8",
            SignFault::Crypto => "the certificate could not be signed",
        })
    }
}

impl std::error::Error for SignFault {}

/// The certificate in DER.
pub fn self_signed(wanted: &SelfSigned<'_>, random: &dyn SecureRandom) -> Result<Vec<u8>, SignFault> {
    let first = wanted.names.first().ok_or(SignFault::NoNames)?;
    if wanted.not_after < wanted.not_before {
        return Err(SignFault::BadValidity);
    }
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, wanted.key_pkcs8, random).map_err(|_| SignFault::BadKey)?;
    let not_before = der::time(wanted.not_before).ok_or(SignFault::BadValidity)?;
    let not_after = der::time(wanted.not_after).ok_or(SignFault::BadValidity)?;
    let mut serial = wanted.serial;
    serial[0] = serial[0] & 0x7f | 0x40;
    let algorithm = der::sequence(&[oid(&ECDSA_WITH_SHA256)]);
    let subject = name(first);
    let body = der::sequence(&[
        // Version 3.
        der::around(der::context_constructed(0), &[der::unsigned(&[2])]),
        der::unsigned(&serial),
        algorithm.clone(),
        subject.clone(),
        der::sequence(&[not_before, not_after]),
        subject,
        spki_of_pair(&pair),
        der::around(der::context_constructed(3), &[extensions(wanted.names)]),
    ]);
    let signature = pair.sign(random, &body).map_err(|_| SignFault::Crypto)?;
    Ok(der::sequence(&[body, algorithm, der::bit_string(signature.as_ref())]))
}

fn oid(content: &[u8]) -> Vec<u8> {
    der::element(der::OBJECT_IDENTIFIER, content)
}

fn name(first: &Domain) -> Vec<u8> {
    let text = Some(first.as_str()).filter(|text| text.len() <= MAX_COMMON_NAME).unwrap_or(FALLBACK_COMMON_NAME);
    let attribute = der::sequence(&[oid(&COMMON_NAME), der::element(der::UTF8_STRING, text.as_bytes())]);
    der::sequence(&[der::around(der::SET, &[attribute])])
}

fn extensions(names: &[Domain]) -> Vec<u8> {
    let alternative: Vec<Vec<u8>> = names.iter().map(general_name).collect();
    der::sequence(&[
        // cA is FALSE by default, and defaults are not written (X.690 section 11.5).
        extension(&BASIC_CONSTRAINTS, Weight::Critical, &der::sequence(&[])),
        // digitalSignature is bit 0; seven bits of the octet are unused.
        extension(&KEY_USAGE, Weight::Critical, &der::element(der::BIT_STRING, &[7, 0x80])),
        extension(&EXTENDED_KEY_USAGE, Weight::Plain, &der::sequence(&[oid(&SERVER_AUTH)])),
        extension(&SUBJECT_ALT_NAME, Weight::Plain, &der::sequence(&alternative)),
    ])
}

/// Whether a reader that does not know the extension must refuse the certificate.
enum Weight {
    Critical,
    Plain,
}

fn extension(id: &[u8], weight: Weight, value: &[u8]) -> Vec<u8> {
    let value = der::element(der::OCTET_STRING, value);
    match weight {
        Weight::Critical => der::sequence(&[oid(id), der::element(der::BOOLEAN, &[0xff]), value]),
        Weight::Plain => der::sequence(&[oid(id), value]),
    }
}

/// dNSName is `[2]`, iPAddress `[7]` (section 4.2.1.6).
fn general_name(domain: &Domain) -> Vec<u8> {
    match domain.literal() {
        None => der::element(der::context(2), domain.as_str().as_bytes()),
        Some(IpAddr::V4(address)) => der::element(der::context(7), &address.octets()),
        Some(IpAddr::V6(address)) => der::element(der::context(7), &address.octets()),
    }
}

#[cfg(test)]
mod tests;
