//! Records as text (RFC 1035 section 5.1) and back: `example.org. 300 MX 10 mx.example.org.`
//!
//! Types without a form of their own here, and data that does not fit its type, are shown as `\# LENGTH HEX` (RFC 3597
//! section 5), which is read for every type. Not read: bitmaps, times and hashes of DNSSEC records.

use std::fmt;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Cursor;
use crate::proto::dns::rdata::Field;
use crate::proto::dns::rdata::Rdata;
use crate::proto::dns::rdata::layout;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::text;

impl fmt::Display for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.owner, self.ttl, self.rtype, show_rdata(self.rtype, &self.rdata))
    }
}

/// The data of a record whose names are not compressed.
pub fn show_rdata(kind: RecordType, rdata: &[u8]) -> String {
    let mut cursor = Rdata::alone(rdata).cursor();
    let mut parts = Vec::new();
    for field in layout(kind) {
        match show_field(*field, &mut cursor) {
            Some(part) if !part.is_empty() => parts.push(part),
            Some(_) => {}
            None => return opaque(rdata),
        }
    }
    if cursor.is_at_end() { parts.join(" ") } else { opaque(rdata) }
}

fn opaque(rdata: &[u8]) -> String {
    let mut out = format!("\\# {}", rdata.len());
    if !rdata.is_empty() {
        out.push(' ');
        text::hex(&mut out, rdata);
    }
    out
}

fn show_field(field: Field, cursor: &mut Cursor<'_>) -> Option<String> {
    let mut out = String::new();
    match field {
        Field::Name => out = cursor.name()?.to_string(),
        Field::U8 => out = cursor.u8()?.to_string(),
        Field::U16 => out = cursor.u16()?.to_string(),
        Field::U32 => out = cursor.u32()?.to_string(),
        Field::V4 => out = Ipv4Addr::from(<[u8; 4]>::try_from(cursor.take(4)?).ok()?).to_string(),
        Field::V6 => out = Ipv6Addr::from(<[u8; 16]>::try_from(cursor.take(16)?).ok()?).to_string(),
        Field::Type => out = RecordType(cursor.u16()?).to_string(),
        // YYYYMMDDHHmmSS (RFC 4034 section 3.2)
        Field::Time => out = UnixTime(i64::from(cursor.u32()?)).to_string().chars().filter(char::is_ascii_digit).collect(),
        Field::Text => text::quote(&mut out, cursor.counted()?),
        Field::Texts => {
            text::quote(&mut out, cursor.counted()?);
            while !cursor.is_at_end() {
                out.push(' ');
                text::quote(&mut out, cursor.counted()?);
            }
        }
        Field::Long => text::quote(&mut out, cursor.rest()),
        Field::Hex => text::hex(&mut out, cursor.rest()),
        Field::Base64 => text::base64(&mut out, cursor.rest()),
        Field::Bitmap => out = bitmap(cursor.rest())?,
        Field::Salt => match cursor.counted()? {
            [] => out.push('-'),
            salt => text::hex(&mut out, salt),
        },
        Field::Hash => text::base32_hex(&mut out, cursor.counted()?),
        Field::Opaque => return None,
    }
    Some(out)
}

/// Windows of 256 types (RFC 4034 section 4.1.2).
fn bitmap(mut octets: &[u8]) -> Option<String> {
    let mut out = String::new();
    while let [window, length, rest @ ..] = octets {
        let (bits, behind) = rest.split_at_checked(usize::from(*length)).filter(|_| (1..=32).contains(length))?;
        for bit in (0..bits.len() * 8).filter(|bit| bits[bit / 8] & 0x80 >> (bit % 8) != 0) {
            let _ = write!(out, "{}{}", if out.is_empty() { "" } else { " " }, RecordType(u16::from(*window) << 8 | bit as u16));
        }
        octets = behind;
    }
    octets.is_empty().then_some(out)
}

/// Octets of the data of a record from its text; names end at the root, with or without final dot.
pub fn parse_rdata(kind: RecordType, text: &str) -> Option<Vec<u8>> {
    let words = text::words(text)?;
    if let ["\\#", length, hex @ ..] = &words[..] {
        let octets = text::from_hex(&hex.concat())?;
        return (length.parse() == Ok(octets.len())).then_some(octets);
    }
    let mut words = words.into_iter();
    let mut out = Vec::new();
    for field in layout(kind) {
        parse_field(*field, &mut words, &mut out)?;
    }
    (words.next().is_none() && out.len() <= usize::from(u16::MAX)).then_some(out)
}

fn parse_field<'a>(field: Field, words: &mut impl Iterator<Item = &'a str>, out: &mut Vec<u8>) -> Option<()> {
    match field {
        Field::Hex => out.extend(text::from_hex(&words.collect::<String>())?),
        Field::Base64 => out.extend(text::from_base64(&words.collect::<String>())?),
        Field::Texts => {
            counted(words.next()?, out)?;
            for word in words {
                counted(word, out)?;
            }
        }
        Field::Bitmap | Field::Time | Field::Salt | Field::Hash | Field::Opaque => return None,
        field => {
            let word = words.next()?;
            match field {
                Field::Name => out.extend_from_slice(Name::parse(word).ok()?.as_wire()),
                Field::U8 => out.push(word.parse().ok()?),
                Field::U16 => out.extend(word.parse::<u16>().ok()?.to_be_bytes()),
                Field::U32 => out.extend(word.parse::<u32>().ok()?.to_be_bytes()),
                Field::V4 => out.extend(word.parse::<Ipv4Addr>().ok()?.octets()),
                Field::V6 => out.extend(word.parse::<Ipv6Addr>().ok()?.octets()),
                Field::Type => out.extend(RecordType::parse(word)?.0.to_be_bytes()),
                Field::Text => counted(word, out)?,
                _ => out.extend(text::unquote(word)?),
            }
        }
    }
    Some(())
}

fn counted(word: &str, out: &mut Vec<u8>) -> Option<()> {
    let octets = text::unquote(word)?;
    out.push(u8::try_from(octets.len()).ok()?);
    out.extend(octets);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_are_read_and_shown() {
        let rows = [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("MX", "10 mx.example.org."),
            ("MX", "0 ."),
            ("CNAME", "a.b."),
            ("TXT", r#""v=spf1 -all" "b\"c""#),
            ("SOA", "ns.x. admin.x. 1 2 3 4 300"),
            ("SRV", "1 2 465 mail.x."),
            ("TLSA", "3 1 1 00ff10"),
            ("DS", "20326 8 2 e06d44b8"),
            ("DNSKEY", "257 3 8 Zm9v"),
            ("CAA", r#"0 "issue" "letsencrypt.org""#),
            ("NAPTR", r#"1 2 "S" "SIP+D2U" "" _sip._udp.x."#),
            ("TYPE65280", r"\# 2 0a0b"),
            ("TYPE65280", r"\# 0"),
        ];
        for (kind, shown) in rows {
            let kind = RecordType::parse(kind).unwrap();
            let rdata = parse_rdata(kind, shown).unwrap_or_else(|| panic!("{kind} {shown}"));
            assert_eq!(show_rdata(kind, &rdata), shown);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (kind, text) in [("A", "192.0.2"), ("A", "1.2.3.4 5"), ("MX", "mx.x."), ("MX", "70000 mx.x."), ("TXT", ""), ("TLSA", "3 1 1 0")]
        {
            assert_eq!(parse_rdata(RecordType::parse(kind).unwrap(), text), None, "{kind} {text}");
        }
        assert_eq!(parse_rdata(RecordType::A, r"\# 3 00"), None);
        assert_eq!(show_rdata(RecordType::A, &[1, 2, 3]), r"\# 3 010203");
        assert_eq!(show_rdata(RecordType::MX, b"\0\x01\x01a\0!"), r"\# 6 000101610021");
    }

    #[test]
    fn records_of_dnssec_are_shown() {
        let time = 1_700_000_160u32.to_be_bytes();
        let rrsig = [&[0, 15, 13, 2][..], &300u32.to_be_bytes(), &time, &time, &23_604u16.to_be_bytes(), b"\x01x\0foo"].concat();
        assert_eq!(show_rdata(RecordType::RRSIG, &rrsig), "MX 13 2 300 20231114221600 20231114221600 23604 x. Zm9v");
        let nsec = [&b"\x01b\0"[..], b"\0\x06\x40\x01\0\0\0\x03", b"\x01\x01\x40"].concat();
        assert_eq!(show_rdata(RecordType::NSEC, &nsec), "b. A MX RRSIG NSEC CAA");
        let nsec3 = [&b"\x01\x00\x00\x05\0\x06"[..], b"foobar", b"\0\x01\x40"].concat();
        assert_eq!(show_rdata(RecordType::NSEC3, &nsec3), "1 0 5 - cpnmuoj1e8 A");
        assert_eq!(show_rdata(RecordType::NSEC3PARAM, b"\x01\0\0\0\x01\xab"), "1 0 0 ab");
    }
}
