//! The signature of a TLS handshake (RFC 8446 section 4.4.3, RFC 5246 section 7.4.1.4.1), checked with nothing but the key
//! of the peer's certificate.
//!
//! rustls-webpki does the same, but refuses to parse certificates that mail servers really have: X.509 v1, unknown critical
//! extensions, no names. Where the certificate is not judged, or judged by DANE-EE (RFC 7672 section 3.1.1), only its
//! key matters; a small walk through the DER finds it. Proves that the peer holds the key; who it is, nobody said yet.
//! Not done here: P-521 (ring has none), RSA under 2048 bits, SHA-1.

use std::fmt;

use ring::signature;
use ring::signature::UnparsedPublicKey;
use ring::signature::VerificationAlgorithm;

use crate::proto::x509::der;
use crate::proto::x509::der::DerFault;
use crate::proto::x509::der::Walk;
use crate::proto::x509::reader;

/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp256r1, 1.2.840.10045.3.1.7.
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, 1.3.132.0.34.
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-Ed25519, 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Which protocol made the signature: TLS 1.3 ties a curve to a hash and leaves PKCS#1 behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tls12,
    Tls13,
}

/// SignatureScheme of the TLS registry, in the order of our preference.
pub const SCHEMES: [u16; 9] = [0x0503, 0x0403, 0x0807, 0x0806, 0x0805, 0x0804, 0x0601, 0x0501, 0x0401];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    Certificate(DerFault),
    /// The scheme is unknown, or not for a key of this kind.
    WrongScheme,
    /// The signature was not made by the certificate's key, or the key is weaker than ring takes.
    Invalid,
}

impl fmt::Display for SignatureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureFault::Certificate(fault) => write!(f, "the certificate cannot be read: {fault}"),
            SignatureFault::WrongScheme => f.write_str("the handshake is signed in a way that does not fit the certificate's key"),
            SignatureFault::Invalid => f.write_str("the handshake is not signed by the certificate's key"),
        }
    }
}

impl std::error::Error for SignatureFault {}

/// A key as it stands in SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// What was signed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub protocol: Protocol,
    pub scheme: u16,
    pub message: &'a [u8],
    pub signature: &'a [u8],
}

/// Whether the key of `certificate` (DER) made the signature.
pub fn check(certificate: &[u8], signed: &Signed<'_>) -> Result<(), SignatureFault> {
    let spki = reader::spki(certificate).map_err(SignatureFault::Certificate)?;
    let (kind, key) = key(spki).map_err(SignatureFault::Certificate)?;
    let kind = kind.ok_or(SignatureFault::WrongScheme)?;
    let algorithm = algorithm(signed.protocol, signed.scheme, kind).ok_or(SignatureFault::WrongScheme)?;
    UnparsedPublicKey::new(algorithm, key).verify(signed.message, signed.signature).map_err(|_| SignatureFault::Invalid)
}

/// The kind, if we know it, and the octets of the key.
fn key(spki: &[u8]) -> Result<(Option<Kind>, &[u8]), DerFault> {
    let mut fields = Walk::new(Walk::new(spki).expect(der::SEQUENCE)?.content);
    let mut algorithm = Walk::new(fields.expect(der::SEQUENCE)?.content);
    let id = algorithm.expect(der::OBJECT_IDENTIFIER)?.content;
    let kind = if id == EC_PUBLIC_KEY {
        match algorithm.any()?.content {
            curve if curve == SECP256R1 => Some(Kind::P256),
            curve if curve == SECP384R1 => Some(Kind::P384),
            _ => None,
        }
    } else if id == RSA_ENCRYPTION {
        Some(Kind::Rsa)
    } else if id == ED25519 {
        Some(Kind::Ed25519)
    } else {
        None
    };
    // No bit of the last octet may be unused: all these keys are whole octets.
    let bits = fields.expect(der::BIT_STRING)?.content;
    let key = bits.strip_prefix(&[0]).ok_or(DerFault::Unexpected)?;
    Ok((kind, key))
}

fn algorithm(protocol: Protocol, scheme: u16, kind: Kind) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (protocol, scheme, kind) {
        (_, 0x0403, Kind::P256) => &signature::ECDSA_P256_SHA256_ASN1,
        (_, 0x0503, Kind::P384) => &signature::ECDSA_P384_SHA384_ASN1,
        // RFC 5246 ties only the hash; RFC 8446 section 4.2.3 the curve too.
        (Protocol::Tls12, 0x0403, Kind::P384) => &signature::ECDSA_P384_SHA256_ASN1,
        (Protocol::Tls12, 0x0503, Kind::P256) => &signature::ECDSA_P256_SHA384_ASN1,
        (_, 0x0807, Kind::Ed25519) => &signature::ED25519,
        (_, 0x0804, Kind::Rsa) => &signature::RSA_PSS_2048_8192_SHA256,
        (_, 0x0805, Kind::Rsa) => &signature::RSA_PSS_2048_8192_SHA384,
        (_, 0x0806, Kind::Rsa) => &signature::RSA_PSS_2048_8192_SHA512,
        (Protocol::Tls12, 0x0401, Kind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Protocol::Tls12, 0x0501, Kind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Protocol::Tls12, 0x0601, Kind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    use ring::signature::EcdsaKeyPair;

    use super::*;
    use crate::mail::date::UnixTime;
    use crate::mail::domain::Domain;
    use crate::proto::x509::certificate::SelfSigned;
    use crate::proto::x509::certificate::self_signed;
    use crate::proto::x509::key::new_key;

    #[test]
    fn only_the_key_of_the_certificate_signs() {
        let random = SystemRandom::new();
        let (own, other) = (new_key(&random).unwrap(), new_key(&random).unwrap());
        let names = [Domain::parse("mx.example.org").unwrap()];
        let (not_before, not_after) = (UnixTime(0), UnixTime(1));
        let wanted = SelfSigned { key_pkcs8: &own, names: &names, not_before, not_after, serial: [1; 16] };
        let certificate = self_signed(&wanted, &random).unwrap();
        let sign = |key: &[u8]| {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key, &random).unwrap();
            pair.sign(&random, b"message").unwrap().as_ref().to_vec()
        };
        let verdict = |key: &[u8], protocol, scheme, message: &[u8]| {
            check(&certificate, &Signed { protocol, scheme, message, signature: &sign(key) })
        };
        assert_eq!(verdict(&own, Protocol::Tls13, 0x0403, b"message"), Ok(()));
        assert_eq!(verdict(&own, Protocol::Tls12, 0x0403, b"message"), Ok(()));
        assert_eq!(verdict(&own, Protocol::Tls13, 0x0403, b"another"), Err(SignatureFault::Invalid));
        assert_eq!(verdict(&other, Protocol::Tls13, 0x0403, b"message"), Err(SignatureFault::Invalid));
        assert_eq!(verdict(&own, Protocol::Tls12, 0x0503, b"message"), Err(SignatureFault::Invalid));
        assert_eq!(verdict(&own, Protocol::Tls13, 0x0503, b"message"), Err(SignatureFault::WrongScheme));
        assert_eq!(verdict(&own, Protocol::Tls13, 0x0804, b"message"), Err(SignatureFault::WrongScheme));
        assert_eq!(verdict(&own, Protocol::Tls13, 0x0203, b"message"), Err(SignatureFault::WrongScheme));
        let cut = Signed { protocol: Protocol::Tls13, scheme: 0x0403, message: b"message", signature: &sign(&own) };
        assert_eq!(check(&certificate[..40], &cut), Err(SignatureFault::Certificate(DerFault::Truncated)));
    }

    #[test]
    fn every_scheme_that_is_offered_fits_some_key() {
        for scheme in SCHEMES {
            let fits =
                [Kind::P256, Kind::P384, Kind::Ed25519, Kind::Rsa].iter().any(|kind| algorithm(Protocol::Tls12, scheme, *kind).is_some());
            assert!(fits, "{scheme:04x}");
        }
        assert!(algorithm(Protocol::Tls13, 0x0401, Kind::Rsa).is_none(), "PKCS#1 is not for TLS 1.3");
    }
}
