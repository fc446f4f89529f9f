//! The letters of presentation form: words and quoted strings (RFC 1035 section 5.1), hex, base64, base32hex (RFC 4648).

use std::fmt::Write;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32_HEX: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Splits at white space; `"..."` is one word, `;` outside of it begins a comment. Escapes stay. `None`: a quote is open.
pub fn words(line: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with(';') {
        let end = if rest.starts_with('"') { closing_quote(rest)? + 1 } else { word_end(rest) };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Some(words)
}

fn word_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && (c.is_whitespace() || c == ';') {
            return at;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == '"' {
            return Some(at);
        }
        escaped = !escaped && c == '\\';
    }
    None
}

/// The octets of a word, quoted or not.
pub fn unquote(word: &str) -> Option<Vec<u8>> {
    let inner = word.strip_prefix('"').map_or(Some(word), |rest| rest.strip_suffix('"'))?;
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let first = bytes.next()?;
        if !first.is_ascii_digit() {
            out.push(first);
            continue;
        }
        let digits = [first, bytes.next()?, bytes.next()?];
        out.push(std::str::from_utf8(&digits).ok()?.parse().ok()?);
    }
    Some(out)
}

/// Octets as one quoted string; what does not print is `\DDD`.
pub fn quote(out: &mut String, octets: &[u8]) {
    out.push('"');
    for byte in octets {
        match byte {
            b'"' | b'\\' => drop(write!(out, "\\{}", char::from(*byte))),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => drop(write!(out, "\\{byte:03}")),
        }
    }
    out.push('"');
}

pub fn hex(out: &mut String, octets: &[u8]) {
    for byte in octets {
        let _ = write!(out, "{byte:02x}");
    }
}

pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

pub fn base64(out: &mut String, octets: &[u8]) {
    for chunk in octets.chunks(3) {
        let mut bits = 0;
        for at in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = BASE64[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
}

pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in body.bytes() {
        bits = bits << 6 | BASE64.iter().position(|letter| *letter == byte)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// Without padding, as NSEC3 writes its hashes (RFC 5155 section 3.3).
pub fn base32_hex(out: &mut String, octets: &[u8]) {
    let (mut bits, mut count) = (0u32, 0);
    for byte in octets {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            out.push(char::from(BASE32_HEX[(bits >> count & 31) as usize]));
        }
    }
    if count > 0 {
        out.push(char::from(BASE32_HEX[(bits << (5 - count) & 31) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(" a  \"b ; c\\\"\" d\\ e ; f").unwrap(), ["a", "\"b ; c\\\"\"", "d\\ e"]);
        assert_eq!(words("a \"b"), None);
        assert_eq!(unquote("\"a\\\"\\065\"").unwrap(), b"a\"A");
        assert_eq!(unquote("a\\256"), None);
        let mut shown = String::new();
        quote(&mut shown, b"a\"\\\n\xff");
        assert_eq!(shown, r#""a\"\\\010\255""#);
        assert_eq!(unquote(&shown).unwrap(), b"a\"\\\n\xff");
    }

    #[test]
    fn numbers_in_letters() {
        for (octets, letters) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")] {
            let mut out = String::new();
            base64(&mut out, octets);
            assert_eq!(out, letters);
            assert_eq!(from_base64(letters).unwrap(), octets);
        }
        assert_eq!(from_base64("Zg="), None);
        assert_eq!(from_base64("Zg==Zg=="), None);
        let mut out = String::new();
        base32_hex(&mut out, b"foobar");
        assert_eq!(out, "cpnmuoj1e8");
        assert_eq!(from_hex("00fF"), Some(vec![0, 255]));
        assert_eq!((from_hex("0"), from_hex("0g")), (None, None));
    }
}
