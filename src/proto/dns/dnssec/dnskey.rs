//! Keys of zones (RFC 4034 section 2): their tags, the algorithms that are supported, and checking a signature with `ring`.
//!
//! Supported are 8 and 10 (RSA with SHA-2), 13 and 14 (ECDSA), 15 (Ed25519); 5 and 7 (RSA with SHA-1) on demand. A key of a
//! supported algorithm can still be one that `ring` does not take: RSA below 1024 or above 8192 bits, or a huge exponent.

use ring::signature;
use ring::signature::RsaPublicKeyComponents;
use ring::signature::UnparsedPublicKey;

use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::rdata::Rdata;

const FLAG_ZONE: u16 = 0x0100;
const FLAG_REVOKE: u16 = 0x0080;
const FLAG_SEP: u16 = 0x0001;
/// RFC 4034 section 2.1.2.
const PROTOCOL: u8 = 3;
/// Bits of RSA that `ring` verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;
/// A modulus of 8192 bits, an exponent, and some zeros before both: no key is long only to be costly.
const MAX_RSA_OCTETS: usize = 1100;
/// `ring` takes exponents of at most 33 bits.
const MAX_EXPONENT: u64 = (1 << 33) - 1;

/// A number of the registry "DNS Security Algorithm Numbers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm(pub u8);

/// What a signature is checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    RsaSha1,
    RsaSha256,
    RsaSha512,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    pub fn is_supported(self, sha1: Sha1) -> bool {
        match self.scheme() {
            Some(Scheme::RsaSha1) => sha1 == Sha1::Accepted,
            Some(_) => true,
            None => false,
        }
    }

    fn scheme(self) -> Option<Scheme> {
        match self.0 {
            5 | 7 => Some(Scheme::RsaSha1),
            8 => Some(Scheme::RsaSha256),
            10 => Some(Scheme::RsaSha512),
            13 => Some(Scheme::P256),
            14 => Some(Scheme::P384),
            15 => Some(Scheme::Ed25519),
            _ => None,
        }
    }
}

/// One DNSKEY record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnskey {
    pub flags: u16,
    pub protocol: u8,
    pub algorithm: Algorithm,
    pub key: Box<[u8]>,
    /// RFC 4034 appendix B
    pub tag: u16,
}

impl Dnskey {
    /// The data of a DNSKEY record; `None` if it is too short.
    pub fn decode(rdata: &[u8]) -> Option<Dnskey> {
        let mut cursor = Rdata::alone(rdata).cursor();
        let (flags, protocol, algorithm) = (cursor.u16()?, cursor.u8()?, Algorithm(cursor.u8()?));
        Some(Dnskey { flags, protocol, algorithm, key: cursor.rest().into(), tag: key_tag(rdata) })
    }

    pub fn encode(&self) -> Vec<u8> {
        [&self.flags.to_be_bytes()[..], &[self.protocol, self.algorithm.0], &self.key].concat()
    }

    pub fn is_zone_key(&self) -> bool {
        self.flags & FLAG_ZONE != 0
    }

    /// RFC 5011 section 2.1: such a key signs nothing any more.
    pub fn is_revoked(&self) -> bool {
        self.flags & FLAG_REVOKE != 0
    }

    /// A hint only (RFC 4034 section 2.1.1).
    pub fn is_entry_point(&self) -> bool {
        self.flags & FLAG_SEP != 0
    }

    /// Whether signatures of the zone may be checked with it: zone key, protocol 3, not revoked.
    pub fn may_sign(&self) -> bool {
        self.is_zone_key() && self.protocol == PROTOCOL && !self.is_revoked()
    }

    /// Whether the octets are a key of a form and size that can be used.
    pub fn is_usable(&self) -> bool {
        match self.algorithm.scheme() {
            Some(Scheme::RsaSha1 | Scheme::RsaSha256 | Scheme::RsaSha512) => self.rsa().is_some(),
            Some(Scheme::P256) => self.key.len() == 64,
            Some(Scheme::P384) => self.key.len() == 96,
            Some(Scheme::Ed25519) => self.key.len() == 32,
            None => false,
        }
    }

    /// Units of work of one verification: 1 is about a tenth of a millisecond on a desktop, half of one on a small board.
    /// Measured with `ring` 0.17 in microseconds: P-256 93, P-384 871, Ed25519 46; RSA of 2048 bits 21, of 4096 bits 79, of
    /// 8192 bits 304; with the longest exponent that is taken 63, 241, 983.
    pub fn cost(&self) -> u32 {
        match self.algorithm.scheme() {
            Some(Scheme::P384) => 8,
            Some(Scheme::RsaSha1 | Scheme::RsaSha256 | Scheme::RsaSha512) => self.rsa().map_or(1, |key| {
                // The square of the length counts, and a multiplication for each bit of the exponent and each that is set.
                let kilobits = key.n.len().div_ceil(128) as u32;
                let zeros = key.e.first().map_or(0, |octet| octet.leading_zeros());
                let ones: u32 = key.e.iter().map(|octet| octet.count_ones()).sum();
                let multiplications = key.e.len() as u32 * 8 - zeros + ones;
                (kilobits * kilobits * multiplications).div_ceil(320)
            }),
            Some(Scheme::P256 | Scheme::Ed25519) | None => 1,
        }
    }

    /// Whether `signature` over `message` was made with this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(scheme) = self.algorithm.scheme() else { return false };
        match scheme {
            Scheme::RsaSha1 => self.verify_rsa(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, message, signature),
            Scheme::RsaSha256 => self.verify_rsa(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, message, signature),
            Scheme::RsaSha512 => self.verify_rsa(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, message, signature),
            // RFC 6605 section 4 leaves out the octet that says "uncompressed".
            Scheme::P256 => verify(&signature::ECDSA_P256_SHA256_FIXED, &[&[4], &self.key[..]].concat(), message, signature),
            Scheme::P384 => verify(&signature::ECDSA_P384_SHA384_FIXED, &[&[4], &self.key[..]].concat(), message, signature),
            Scheme::Ed25519 => verify(&signature::ED25519, &self.key, message, signature),
        }
    }

    fn verify_rsa(&self, parameters: &signature::RsaParameters, message: &[u8], signature: &[u8]) -> bool {
        self.rsa().is_some_and(|key| key.verify(parameters, message, signature).is_ok())
    }

    /// RFC 3110 section 2: the length of the exponent in one octet or three, the exponent, the modulus.
    fn rsa(&self) -> Option<RsaPublicKeyComponents<&[u8]>> {
        if self.key.len() > MAX_RSA_OCTETS {
            return None;
        }
        let mut cursor = Rdata::alone(&self.key).cursor();
        let length = match cursor.u8()? {
            0 => cursor.u16()?,
            length => u16::from(length),
        };
        let e = without_zeros(cursor.take(usize::from(length))?);
        let n = without_zeros(cursor.rest());
        let exponent = (e.len() <= 5).then(|| e.iter().fold(0u64, |number, octet| number << 8 | u64::from(*octet)))?;
        let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
        (RSA_BITS.contains(&bits) && (3..=MAX_EXPONENT).contains(&exponent) && exponent % 2 == 1).then_some(RsaPublicKeyComponents { n, e })
    }
}

fn verify(algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

/// RFC 3110 forbids them; `ring` refuses what some write all the same.
fn without_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|octet| **octet == 0).count()..]
}

/// RFC 4034 appendix B: a sum that picks candidates, and identifies nothing.
pub fn key_tag(rdata: &[u8]) -> u16 {
    if rdata.get(3) == Some(&1) {
        // RSA/MD5, appendix B.1
        return rdata.len().checked_sub(3).map_or(0, |at| u16::from_be_bytes([rdata[at], rdata[at + 1]]));
    }
    let sum: u32 = rdata.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum();
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
