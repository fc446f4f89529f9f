//! The data of one record: what its fields are (`layout`), and the records that mail needs as types of their own.
//!
//! In go octets of a message, where names may be compressed, or octets standing alone, where they are not. A record that
//! cannot be decoded is `None`: it is skipped, the others of its message stay. RFC 1035, 2782, 3403, 3596, 4034, 5155, 6698,
//! 8659, 9460.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader;

/// One part of the data of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Name,
    U8,
    U16,
    U32,
    V4,
    V6,
    /// the number of a type
    Type,
    /// seconds since 1970, 32 bits
    Time,
    /// one character-string
    Text,
    /// character-strings up to the end, at least one
    Texts,
    /// the rest, shown as one string
    Long,
    Hex,
    Base64,
    /// the type bitmaps of NSEC up to the end
    Bitmap,
    /// a length octet and octets shown in hex
    Salt,
    /// a length octet and octets shown in base32hex
    Hash,
    /// the rest, shown as RFC 3597 section 5 says
    Opaque,
}

/// The fields of a type; unknown types are opaque (RFC 3597).
pub fn layout(kind: RecordType) -> &'static [Field] {
    use Field::*;
    match kind {
        RecordType::A => &[V4],
        RecordType::AAAA => &[V6],
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => &[Name],
        RecordType::MX | RecordType::AFSDB => &[U16, Name],
        RecordType::RP => &[Name, Name],
        RecordType::SOA => &[Name, Name, U32, U32, U32, U32, U32],
        RecordType::TXT | RecordType::SPF | RecordType::HINFO => &[Texts],
        RecordType::SRV => &[U16, U16, U16, Name],
        RecordType::NAPTR => &[U16, U16, Text, Text, Text, Name],
        RecordType::TLSA | RecordType::SMIMEA => &[U8, U8, U8, Hex],
        RecordType::SSHFP => &[U8, U8, Hex],
        RecordType::ZONEMD => &[U32, U8, U8, Hex],
        RecordType::DS | RecordType::CDS => &[U16, U8, U8, Hex],
        RecordType::DNSKEY | RecordType::CDNSKEY => &[U16, U8, U8, Base64],
        RecordType::RRSIG => &[Type, U8, U8, U32, Time, Time, U16, Name, Base64],
        RecordType::NSEC => &[Name, Bitmap],
        RecordType::NSEC3 => &[U8, U8, U16, Salt, Hash, Bitmap],
        RecordType::NSEC3PARAM => &[U8, U8, U16, Salt],
        RecordType::CSYNC => &[U32, U16, Bitmap],
        RecordType::OPENPGPKEY => &[Base64],
        RecordType::CAA => &[U8, Text, Long],
        RecordType::URI => &[U16, U16, Long],
        RecordType::SVCB | RecordType::HTTPS => &[U16, Name, Opaque],
        _ => &[Opaque],
    }
}

/// The data of a record, where it stands.
#[derive(Clone, Copy)]
pub struct Rdata<'a> {
    /// all that compressed names may point into
    message: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Rdata<'a> {
    /// `start..end` of a message; the reader has checked the bounds.
    pub(super) fn within(message: &'a [u8], start: usize, end: usize) -> Rdata<'a> {
        Rdata { message, start, end }
    }

    /// Octets outside of a message, e.g. those of a `RawRecord`.
    pub fn alone(octets: &'a [u8]) -> Rdata<'a> {
        Rdata { message: octets, start: 0, end: octets.len() }
    }

    /// As they stand, names compressed as they came.
    pub fn octets(&self) -> &'a [u8] {
        &self.message[self.start..self.end]
    }

    pub fn cursor(&self) -> Cursor<'a> {
        Cursor { message: self.message, at: self.start, end: self.end }
    }

    /// With all names uncompressed; `None` if a field does not fit its place or octets are left.
    pub fn expand(&self, kind: RecordType) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.end - self.start);
        let mut cursor = self.cursor();
        for field in layout(kind) {
            let from = cursor.at;
            match field {
                Field::Name => {
                    out.extend_from_slice(cursor.name()?.as_wire());
                    continue;
                }
                field => cursor.skip(*field)?,
            }
            out.extend_from_slice(&self.message[from..cursor.at]);
        }
        // Expanded names can make more of it than a length on the wire can say, and a signature be taken for another's.
        (cursor.is_at_end() && out.len() <= usize::from(u16::MAX)).then_some(out)
    }
}

/// Walks the fields of one record forward, never beyond its end.
pub struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    pub fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let octets = self.message[self.at..self.end].get(..n)?;
        self.at += n;
        Some(octets)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        let octets = &self.message[self.at..self.end];
        self.at = self.end;
        octets
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Octets behind one that says how many.
    pub fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    pub fn name(&mut self) -> Option<Name> {
        let (name, behind) = reader::read_name(self.message, self.at, self.end).ok()?;
        self.at = behind;
        Some(name)
    }

    fn skip(&mut self, field: Field) -> Option<()> {
        match field {
            Field::Name => drop(self.name()?),
            Field::U8 => drop(self.take(1)?),
            Field::U16 | Field::Type => drop(self.take(2)?),
            Field::U32 | Field::Time | Field::V4 => drop(self.take(4)?),
            Field::V6 => drop(self.take(16)?),
            Field::Text | Field::Salt | Field::Hash => drop(self.counted()?),
            Field::Texts => {
                self.counted()?;
                while !self.is_at_end() {
                    self.counted()?;
                }
            }
            Field::Long | Field::Hex | Field::Base64 | Field::Bitmap | Field::Opaque => drop(self.rest()),
        }
        Some(())
    }
}

/// A type of records that can be looked up (`lookup::Lookup`).
pub trait Record: Sized + Clone + 'static {
    const TYPE: RecordType;
    /// `None` if the octets are no such record.
    fn decode(rdata: &Rdata<'_>) -> Option<Self>;
}

/// RFC 1035 section 3.3.9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// lower is tried first
    pub preference: u16,
    /// the root: takes no mail (RFC 7505)
    pub exchange: Name,
}

/// RFC 1035 section 3.4.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct A(pub Ipv4Addr);

/// RFC 3596 section 2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aaaa(pub Ipv6Addr);

/// RFC 1035 section 3.3.12.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ptr(pub Name);

/// RFC 1035 section 3.3.1; looked up by itself it is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cname(pub Name);

/// RFC 1035 section 3.3.14: the strings of one record joined without anything between (as RFC 7208 section 3.3, 8461
/// section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txt(pub Vec<u8>);

/// RFC 6698 section 2.1, uninterpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

fn whole<T>(cursor: &Cursor<'_>, record: T) -> Option<T> {
    cursor.is_at_end().then_some(record)
}

impl Record for Mx {
    const TYPE: RecordType = RecordType::MX;

    fn decode(rdata: &Rdata<'_>) -> Option<Mx> {
        let mut cursor = rdata.cursor();
        let mx = Mx { preference: cursor.u16()?, exchange: cursor.name()? };
        whole(&cursor, mx)
    }
}

impl Record for A {
    const TYPE: RecordType = RecordType::A;

    fn decode(rdata: &Rdata<'_>) -> Option<A> {
        <[u8; 4]>::try_from(rdata.octets()).ok().map(|octets| A(octets.into()))
    }
}

impl Record for Aaaa {
    const TYPE: RecordType = RecordType::AAAA;

    fn decode(rdata: &Rdata<'_>) -> Option<Aaaa> {
        <[u8; 16]>::try_from(rdata.octets()).ok().map(|octets| Aaaa(octets.into()))
    }
}

impl Record for Ptr {
    const TYPE: RecordType = RecordType::PTR;

    fn decode(rdata: &Rdata<'_>) -> Option<Ptr> {
        let mut cursor = rdata.cursor();
        let name = cursor.name()?;
        whole(&cursor, Ptr(name))
    }
}

impl Record for Cname {
    const TYPE: RecordType = RecordType::CNAME;

    fn decode(rdata: &Rdata<'_>) -> Option<Cname> {
        let mut cursor = rdata.cursor();
        let name = cursor.name()?;
        whole(&cursor, Cname(name))
    }
}

impl Record for Txt {
    const TYPE: RecordType = RecordType::TXT;

    fn decode(rdata: &Rdata<'_>) -> Option<Txt> {
        let mut cursor = rdata.cursor();
        let mut text = cursor.counted()?.to_vec();
        while !cursor.is_at_end() {
            text.extend_from_slice(cursor.counted()?);
        }
        Some(Txt(text))
    }
}

impl Record for Tlsa {
    const TYPE: RecordType = RecordType::TLSA;

    fn decode(rdata: &Rdata<'_>) -> Option<Tlsa> {
        let mut cursor = rdata.cursor();
        let (usage, selector, matching) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
        Some(Tlsa { usage, selector, matching, data: cursor.rest().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_decode_whole_or_not_at_all() {
        let mx = Mx::decode(&Rdata::alone(b"\0\x0a\x02mx\x01x\0")).unwrap();
        assert_eq!(mx, Mx { preference: 10, exchange: Name::parse("mx.x").unwrap() });
        assert_eq!(Mx::decode(&Rdata::alone(b"\0\x0a\x02mx\x01x\0!")), None);
        assert_eq!(Mx::decode(&Rdata::alone(b"\0\x0a\x02mx")), None);
        assert_eq!(A::decode(&Rdata::alone(&[192, 0, 2, 1])), Some(A(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(A::decode(&Rdata::alone(&[192, 0, 2])), None);
        assert_eq!(Aaaa::decode(&Rdata::alone(&[0; 15])), None);
        assert_eq!(Txt::decode(&Rdata::alone(b"\x02v=\x00\x04STS1")), Some(Txt(b"v=STS1".to_vec())));
        assert_eq!(Txt::decode(&Rdata::alone(b"")), None);
        assert_eq!(Txt::decode(&Rdata::alone(b"\x05v=")), None);
        assert_eq!(Tlsa::decode(&Rdata::alone(&[3, 1, 1])).unwrap().data, b"");
        assert_eq!(Tlsa::decode(&Rdata::alone(&[3, 1])), None);
    }

    #[test]
    fn names_are_expanded_and_leftovers_refused() {
        // "x." at 0, then MX 5 a.<pointer to 0>
        let message = b"\x01x\0\0\x05\x01a\xc0\0";
        let rdata = Rdata::within(message, 3, 9);
        assert_eq!(rdata.expand(RecordType::MX).unwrap(), b"\0\x05\x01a\x01x\0");
        assert_eq!(rdata.expand(RecordType::CNAME), None);
        assert_eq!(rdata.expand(RecordType(999)).unwrap(), &message[3..]);
        // A name and a bitmap of 65,535 octets together are more when the name is whole.
        let long = |bitmap: usize| [b"\x3f".to_vec(), vec![b'x'; 63], vec![0, 0xc0, 0], vec![1; bitmap]].concat();
        let expanded = |message: &[u8]| Rdata::within(message, 65, message.len()).expand(RecordType::NSEC).map(|octets| octets.len());
        assert_eq!((expanded(&long(65_470)), expanded(&long(65_471))), (Some(65_535), None));
    }
}
