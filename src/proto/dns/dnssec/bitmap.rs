//! The types that NSEC and NSEC3 say are there (RFC 4034 section 4.1.2).

use crate::proto::dns::RecordType;

/// A bitmap that was well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap(Box<[u8]>);

impl Bitmap {
    /// Windows must ascend, and each have 1 to 32 octets; a bitmap of any other form proves nothing.
    pub fn decode(octets: &[u8]) -> Option<Bitmap> {
        let mut last = None;
        for window in windows(octets) {
            let (number, _) = window?;
            if last.is_some_and(|last| last >= number) {
                return None;
            }
            last = Some(number);
        }
        Some(Bitmap(octets.into()))
    }

    pub fn has(&self, kind: RecordType) -> bool {
        let [wanted, low] = kind.0.to_be_bytes();
        windows(&self.0)
            .flatten()
            .any(|(number, bits)| number == wanted && bits.get(usize::from(low / 8)).is_some_and(|octet| octet & 0x80 >> (low % 8) != 0))
    }

    /// Whether no types but these are in it.
    pub fn has_only(&self, kinds: &[RecordType]) -> bool {
        let all: u32 = windows(&self.0).flatten().flat_map(|(_, bits)| bits).map(|octet| octet.count_ones()).sum();
        all == kinds.iter().filter(|kind| self.has(**kind)).count() as u32
    }

    /// NS without SOA: the parent's side of a cut, which says nothing about what is behind it (RFC 6840 section 4.1).
    pub fn is_delegation(&self) -> bool {
        self.has(RecordType::NS) && !self.has(RecordType::SOA)
    }
}

/// Number and bits of each window; `None` for one that is broken, and then no more.
fn windows(mut octets: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        if octets.is_empty() {
            return None;
        }
        let whole = match octets {
            [number, length, rest @ ..] if (1..=32).contains(length) => {
                rest.split_at_checked(usize::from(*length)).map(|(bits, behind)| (*number, bits, behind))
            }
            _ => None,
        };
        octets = whole.map_or(&[], |(_, _, behind)| behind);
        Some(whole.map(|(number, bits, _)| (number, bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_in_their_windows() {
        // RFC 4034 section 4.3: A MX RRSIG NSEC TYPE1234
        let mut octets = vec![0x00, 0x06, 0x40, 0x01, 0x00, 0x00, 0x00, 0x03, 0x04, 0x1b];
        octets.extend([0; 26]);
        octets.push(0x20);
        let bitmap = Bitmap::decode(&octets).unwrap();
        let there = [RecordType::A, RecordType::MX, RecordType::RRSIG, RecordType::NSEC, RecordType(1234)];
        assert!(there.iter().all(|kind| bitmap.has(*kind)) && bitmap.has_only(&there));
        assert!(!bitmap.has_only(&there[..4]));
        for kind in [RecordType::AAAA, RecordType::CAA, RecordType(1233), RecordType(65_535), RecordType::TLSA] {
            assert!(!bitmap.has(kind), "{kind}");
        }
    }

    #[test]
    fn a_bitmap_of_another_form_is_none() {
        let broken: [&[u8]; 6] =
            [b"\0", b"\0\0", b"\0\x02\x40", b"\0\x21aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"\0\x01\x40\0\x01\x40", b"\x01\x01\x40\0\x01\x40"];
        for octets in broken {
            assert_eq!(Bitmap::decode(octets), None, "{octets:?}");
        }
        assert!(Bitmap::decode(b"").unwrap().has_only(&[]));
        assert!(Bitmap::decode(b"\0\x01\x20").unwrap().is_delegation());
        assert!(!Bitmap::decode(b"\0\x01\x22").unwrap().is_delegation());
    }
}
