//! P-256 keys (FIPS 186-5): made, named by their SubjectPublicKeyInfo (RFC 5480), hashed for TLSA records.
//!
//! P-256, because every mail server of the last ten years takes it, and a Pi signs with it in under a millisecond.

use ring::digest;
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair;

use crate::proto::x509::der;

/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp256r1, 1.2.840.10045.3.1.7.
const SECP256R1: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A new private key as PKCS#8 (RFC 5958, with its public key).
pub fn new_key(random: &dyn SecureRandom) -> Result<Vec<u8>, Unspecified> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)?;
    Ok(document.as_ref().to_vec())
}

/// The SubjectPublicKeyInfo of a private key; `Unspecified` for what is no P-256 key in PKCS#8.
pub fn spki_of_key(key_pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Vec<u8>, Unspecified> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key_pkcs8, random).map_err(|_| Unspecified)?;
    Ok(spki_of_pair(&pair))
}

pub(super) fn spki_of_pair(pair: &EcdsaKeyPair) -> Vec<u8> {
    let algorithm =
        der::sequence(&[der::element(der::OBJECT_IDENTIFIER, &EC_PUBLIC_KEY), der::element(der::OBJECT_IDENTIFIER, &SECP256R1)]);
    der::sequence(&[algorithm, der::bit_string(pair.public_key().as_ref())])
}

/// What a TLSA record `3 1 1` holds for a SubjectPublicKeyInfo (RFC 6698 section 2.1, RFC 7671 section 5.1).
pub fn spki_sha256(spki: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn a_key_has_one_name_and_no_other_bytes_have_one() {
        let random = SystemRandom::new();
        let key = new_key(&random).unwrap();
        let spki = spki_of_key(&key, &random).unwrap();
        // 26 octets of frame and the point, uncompressed.
        assert_eq!(spki.len(), 91);
        assert_eq!(spki_of_key(&key, &random).unwrap(), spki);
        assert_ne!(spki_sha256(&spki), spki_sha256(&spki_of_key(&new_key(&random).unwrap(), &random).unwrap()));
        assert!(spki_of_key(&key[1..], &random).is_err());
    }
}
