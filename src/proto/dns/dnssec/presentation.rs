//! RRSIG, NSEC and NSEC3 records from text (RFC 4034 sections 3.2 and 4.2, RFC 5155 section 3.3), and whole records.
//!
//! For trust anchors, and for zones of tests. What is shown is in `dns::presentation`.

use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::presentation;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::text;

/// `OWNER [TTL] [IN] TYPE DATA`, TTL and class in any order; without a TTL it is 0.
pub fn parse_record(line: &str) -> Option<RawRecord> {
    let words = text::words(line)?;
    let (owner, mut rest) = words.split_first()?;
    let mut ttl = 0;
    while let [word, behind @ ..] = rest {
        match word.parse() {
            Ok(seconds) => ttl = seconds,
            Err(_) if word.eq_ignore_ascii_case("IN") => {}
            Err(_) => break,
        }
        rest = behind;
    }
    let (kind, data) = rest.split_first()?;
    let rtype = RecordType::parse(kind)?;
    Some(RawRecord { owner: Name::parse(owner).ok()?, rtype, ttl, rdata: parse_rdata(rtype, &data.join(" "))? })
}

/// The octets of the data of a record of any type that has a text.
pub fn parse_rdata(kind: RecordType, text: &str) -> Option<Vec<u8>> {
    let words = text::words(text)?;
    match (kind, &words[..]) {
        (_, ["\\#", ..]) => presentation::parse_rdata(kind, text),
        (RecordType::RRSIG, words) => rrsig(words),
        (RecordType::NSEC, [next, types @ ..]) => Some([Name::parse(next).ok()?.as_wire(), &bitmap(types)?].concat()),
        (RecordType::NSEC3, [algorithm, flags, iterations, salt, next, types @ ..]) => {
            let mut out = parameters(&[algorithm, flags, iterations, salt])?;
            let next = from_base32_hex(next.as_bytes())?;
            out.push(u8::try_from(next.len()).ok()?);
            Some([out, next, bitmap(types)?].concat())
        }
        (RecordType::NSEC3PARAM, words) => parameters(words),
        _ => presentation::parse_rdata(kind, text),
    }
}

fn rrsig(words: &[&str]) -> Option<Vec<u8>> {
    let [covered, algorithm, labels, ttl, expiration, inception, tag, signer, signature @ ..] = words else { return None };
    let mut out = RecordType::parse(covered)?.0.to_be_bytes().to_vec();
    out.extend([algorithm.parse::<u8>().ok()?, labels.parse::<u8>().ok()?]);
    out.extend(ttl.parse::<u32>().ok()?.to_be_bytes());
    out.extend(time(expiration)?.to_be_bytes());
    out.extend(time(inception)?.to_be_bytes());
    out.extend(tag.parse::<u16>().ok()?.to_be_bytes());
    out.extend_from_slice(Name::parse(signer).ok()?.as_wire());
    out.extend(text::from_base64(&signature.concat())?);
    Some(out)
}

/// `YYYYMMDDHHmmSS`, or seconds since 1970.
fn time(word: &str) -> Option<u32> {
    if word.len() != 14 || !word.is_ascii() {
        return word.parse().ok();
    }
    let number = |from: usize, to: usize| word[from..to].parse::<u32>().ok();
    let second_of_day = number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
    let UnixTime(seconds) = UnixTime::from_civil(i64::from(number(0, 4)?), number(4, 6)?, number(6, 8)?, i64::from(second_of_day))?;
    // Modulo 2^32, as serial numbers are (RFC 4034 section 3.1.5).
    Some(seconds as u32)
}

fn parameters(words: &[&str]) -> Option<Vec<u8>> {
    let [algorithm, flags, iterations, salt] = words else { return None };
    let mut out = vec![algorithm.parse::<u8>().ok()?, flags.parse::<u8>().ok()?];
    out.extend(iterations.parse::<u16>().ok()?.to_be_bytes());
    let salt = if *salt == "-" { Vec::new() } else { text::from_hex(salt)? };
    out.push(u8::try_from(salt.len()).ok()?);
    out.extend(salt);
    Some(out)
}

/// RFC 4034 section 4.1.2.
fn bitmap(types: &[&str]) -> Option<Vec<u8>> {
    let mut kinds: Vec<RecordType> = types.iter().map(|word| RecordType::parse(word)).collect::<Option<_>>()?;
    kinds.sort();
    let mut out = Vec::new();
    for window in kinds.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let last = window.last()?.0 & 255;
        let mut bits = vec![0u8; usize::from(last / 8) + 1];
        for kind in window {
            bits[usize::from(kind.0 & 255) / 8] |= 0x80 >> (kind.0 % 8);
        }
        out.extend([(window[0].0 >> 8) as u8, bits.len() as u8]);
        out.extend(bits);
    }
    Some(out)
}

/// RFC 4648 section 7 without padding, letters of any case; left-over bits must be zero.
pub fn from_base32_hex(letters: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(letters.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0);
    for letter in letters {
        let value = char::from(*letter).to_digit(32)?;
        bits = bits << 5 | value;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count < 5).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        let rows = [
            "x. 300 RRSIG MX 13 2 300 20231114221600 20231114221600 23604 x. Zm9v",
            "x. 0 NSEC b. A MX RRSIG NSEC CAA",
            "x. 0 NSEC b.",
            "2t7b4g4vsa5smi47k61mv5bv1a22bojr.x. 60 NSEC3 1 0 5 - cpnmuoj1e8 A",
            "x. 60 NSEC3PARAM 1 0 0 ab",
            "x. 60 DS 20326 8 2 e06d44b8",
            "x. 60 TXT \"a ; b\"",
        ];
        for row in rows {
            assert_eq!(parse_record(row).unwrap_or_else(|| panic!("{row}")).to_string(), row);
        }
        assert_eq!(parse_record("X IN 5 a 1.2.3.4"), parse_record("X 5 A 1.2.3.4"));
        for row in ["", "x.", "x. 300", "x. NSEC b. FOO", "x. RRSIG MX 13", "x. NSEC3 1 0 5 - cpnmuoj1e A", "x. NSEC3PARAM 1 0 0"] {
            assert_eq!(parse_record(row), None, "{row}");
        }
    }
}
