//! Canonical order of names and canonical form of data (RFC 4034 section 6, RFC 6840 section 5.1), and arithmetic of labels.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::proto::dns::RecordType;
use crate::proto::dns::name::Builder;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Cursor;
use crate::proto::dns::rdata::Field;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::rdata::layout;

/// Labels without the root's.
pub fn label_count(name: &Name) -> usize {
    name.labels().count()
}

/// The rightmost `labels` labels; the name itself if it has no more.
pub fn suffix(name: &Name, labels: usize) -> Name {
    let mut builder = Builder::new();
    for label in name.labels().skip(label_count(name).saturating_sub(labels)) {
        builder.push(label).expect("a part of a name is a name");
    }
    builder.finish()
}

/// The name itself, the name above it, and so on up to the root.
pub fn upwards(name: &Name) -> impl Iterator<Item = Name> {
    std::iter::successors(Some(name.clone()), Name::parent)
}

/// Whether `name` stands below `above` and is not `above`.
pub fn is_below(name: &Name, above: &Name) -> bool {
    name.as_wire().len() > above.as_wire().len() && name.is_at_or_below(above)
}

/// The longest name that both are at or below.
pub fn common_ancestor(a: &Name, b: &Name) -> Name {
    upwards(a).find(|above| b.is_at_or_below(above)).unwrap_or_else(Name::root)
}

/// `*` below `name`; `None` if that is too long to be a name, and so cannot exist.
pub fn wildcard_below(name: &Name) -> Option<Name> {
    name.prepend("*").ok()
}

/// Whether the first label is `*` (RFC 4592 section 2.1.1).
pub fn is_wildcard(name: &Name) -> bool {
    name.labels().next() == Some(b"*")
}

/// RFC 4034 section 6.1: label by label from the right, octets in small letters, a missing label first.
pub fn compare(a: &Name, b: &Name) -> Ordering {
    let (a, b): (Vec<&[u8]>, Vec<&[u8]>) = (a.labels().collect(), b.labels().collect());
    for (left, right) in a.iter().rev().zip(b.iter().rev()) {
        let folded = left.iter().map(u8::to_ascii_lowercase).cmp(right.iter().map(u8::to_ascii_lowercase));
        if folded != Ordering::Equal {
            return folded;
        }
    }
    a.len().cmp(&b.len())
}

/// The data with the names in it in small letters, for the types of RFC 4034 section 6.2 as RFC 6840 section 5.1 corrects
/// it; other types, and data that does not fit its type, stay as they are.
pub fn rdata(kind: RecordType, octets: &[u8]) -> Cow<'_, [u8]> {
    match lowered(kind, octets) {
        Some(lowered) => Cow::Owned(lowered),
        None => Cow::Borrowed(octets),
    }
}

fn lowered(kind: RecordType, octets: &[u8]) -> Option<Vec<u8>> {
    let fields = fields_with_names(kind)?;
    let mut cursor = Rdata::alone(octets).cursor();
    let mut out = Vec::with_capacity(octets.len());
    for field in fields {
        lower_field(*field, &mut cursor, &mut out)?;
    }
    cursor.is_at_end().then_some(out)
}

fn lower_field(field: Field, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Option<()> {
    match field {
        Field::Name => out.extend(cursor.name()?.as_wire().iter().map(u8::to_ascii_lowercase)),
        Field::U8 => out.extend_from_slice(cursor.take(1)?),
        Field::U16 | Field::Type => out.extend_from_slice(cursor.take(2)?),
        Field::U32 | Field::Time => out.extend_from_slice(cursor.take(4)?),
        Field::Text => {
            let text = cursor.counted()?;
            out.push(text.len() as u8);
            out.extend_from_slice(text);
        }
        Field::Hex | Field::Base64 => out.extend_from_slice(cursor.rest()),
        // No type with names that are lowered has these.
        Field::V4 | Field::V6 | Field::Texts | Field::Long | Field::Bitmap | Field::Salt | Field::Hash | Field::Opaque => return None,
    }
    Some(())
}

/// The layout of types whose names are lowered. NSEC is not one of them, nor is any type newer than RFC 3597. A6 (RFC 6563:
/// historic) is left out.
fn fields_with_names(kind: RecordType) -> Option<&'static [Field]> {
    use Field::*;
    match kind {
        RecordType::NS | RecordType::CNAME | RecordType::SOA | RecordType::PTR | RecordType::MX | RecordType::RP => Some(layout(kind)),
        RecordType::AFSDB | RecordType::NAPTR | RecordType::SRV | RecordType::DNAME | RecordType::RRSIG => Some(layout(kind)),
        // MD, MF, MB, MG, MR
        RecordType(3 | 4 | 7 | 8 | 9) => Some(&[Name]),
        // MINFO
        RecordType(14) => Some(&[Name, Name]),
        // RT, KX
        RecordType(21 | 36) => Some(&[U16, Name]),
        // SIG
        RecordType(24) => Some(layout(RecordType::RRSIG)),
        // PX
        RecordType(26) => Some(&[U16, Name, Name]),
        // NXT
        RecordType(30) => Some(&[Name, Hex]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_are_in_the_order_of_rfc_4034() {
        // The list of section 6.1.
        let sorted =
            ["example", "a.example", "yljkjljk.a.example", "Z.a.example", "zABC.a.EXAMPLE", "z.example", r"\001.z.example", "*.z.example"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(&name(pair[0]), &name(pair[1])), Ordering::Less, "{pair:?}");
            assert_eq!(compare(&name(pair[1]), &name(pair[0])), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare(&name("*.z.example"), &name(r"\200.z.example")), Ordering::Less);
        assert_eq!(compare(&name("A.example"), &name("a.EXAMPLE")), Ordering::Equal);
        // A dot inside of a label is no border.
        assert_eq!(compare(&name(r"a\.b.example"), &name("b.example")), Ordering::Less);
    }

    #[test]
    fn labels_are_counted_from_the_right() {
        let deep = name("a.b.example.org");
        assert_eq!((label_count(&deep), label_count(&Name::root())), (4, 0));
        assert_eq!((suffix(&deep, 2), suffix(&deep, 0), suffix(&deep, 9)), (name("example.org"), Name::root(), deep.clone()));
        assert_eq!(common_ancestor(&deep, &name("x.B.example.ORG")), name("b.example.org"));
        assert_eq!(common_ancestor(&deep, &name("example.net")), Name::root());
        assert!(is_below(&deep, &name("example.org")) && !is_below(&deep, &deep) && !is_below(&name("aexample.org"), &name("example.org")));
        assert!(is_wildcard(&name("*.x")) && !is_wildcard(&name("a.*.x")) && !is_wildcard(&Name::root()));
        let long = "abcdefg.".repeat(31) + "abcde";
        assert_eq!(wildcard_below(&name(&long)), None);
    }

    #[test]
    fn names_in_data_are_lowered_where_the_list_says_so() {
        let mx = b"\0\x0a\x02MX\x01X\0";
        assert_eq!(&*rdata(RecordType::MX, mx), b"\0\x0a\x02mx\x01x\0");
        let nsec = b"\x01B\0\0\x01\x40";
        assert_eq!(&*rdata(RecordType::NSEC, nsec), nsec);
        let https = b"\0\x01\x01X\0";
        assert_eq!(&*rdata(RecordType::HTTPS, https), https);
        assert_eq!(&*rdata(RecordType(36), mx), b"\0\x0a\x02mx\x01x\0");
        let naptr = b"\0\x01\0\x02\x01S\x01T\0\x01X\0";
        assert_eq!(&*rdata(RecordType::NAPTR, naptr), b"\0\x01\0\x02\x01S\x01T\0\x01x\0");
        // Broken data is left alone; its signature fails.
        assert_eq!(&*rdata(RecordType::MX, b"\0"), b"\0");
    }
}
