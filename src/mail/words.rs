//! Encoded words (RFC 2047): `=?utf-8?Q?Gr=C3=BC=C3=9Fe?=` becomes `Grüße`.
//!
//! In goes the raw value of an unstructured field (or a phrase), folded or not; out comes one line of text for a
//! person's eyes: unfolded, without control characters and without characters that turn the direction of writing.
//! Neighbouring words are joined (section 6.2), also when a character is split between two of one character set.
//! What is not a valid encoded word, or in an unknown character set, stays as it is.
//! Not done here: RFC 2231 parameters, and the structure of address fields (`mail::digest`).

use encoding_rs::Encoding;
use encoding_rs::REPLACEMENT;

/// RFC 2047 section 2 allows 75 characters; mailers that do not count write longer ones.
const MAX_WORD: usize = 1024;
/// Octets of a field that are looked at for every octet that may come out: base64 in words of one letter each.
const INPUT_FACTOR: usize = 40;

/// Decodes `value`; the result has at most `max` octets and ends at a character.
pub fn decode(value: &[u8], max: usize) -> String {
    let value = &value[..value.len().min(max.saturating_mul(INPUT_FACTOR))];
    let mut text = Text { out: String::new(), max, pending: None };
    let mut at = 0;
    // Blanks between two encoded words vanish, so they wait until the next piece is known.
    let mut gap = 0..0;
    while at < value.len() && !text.is_full() {
        let blanks = value[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blanks > 0 {
            gap = at..at + blanks;
            at += blanks;
            continue;
        }
        match Word::parse(&value[at..]) {
            Some(word) => {
                if text.pending.is_none() {
                    text.plain(&value[gap.clone()]);
                }
                at += word.len;
                text.encoded(word);
            }
            None => {
                text.plain(&value[gap.clone()]);
                let end = plain_end(&value[at..]);
                text.plain(&value[at..at + end]);
                at += end;
            }
        }
        gap = at..at;
    }
    text.finish()
}

/// One clean line of `value` as it stands: encoded words are not decoded. For what has a grammar of its own.
pub fn clean(value: &[u8], max: usize) -> String {
    let mut text = Text { out: String::new(), max, pending: None };
    text.plain(&value[..value.len().min(max.saturating_mul(INPUT_FACTOR))]);
    text.finish()
}

/// Octets before the next blank or possible encoded word; at least one.
fn plain_end(rest: &[u8]) -> usize {
    (1..rest.len()).find(|at| rest[*at].is_ascii_whitespace() || rest[*at..].starts_with(b"=?")).unwrap_or(rest.len())
}

struct Word {
    encoding: &'static Encoding,
    bytes: Vec<u8>,
    /// octets of the input it takes
    len: usize,
}

impl Word {
    /// `=?charset?encoding?text?=` at the very beginning of `rest`.
    fn parse(rest: &[u8]) -> Option<Word> {
        let rest = &rest[..rest.len().min(MAX_WORD)];
        let inner = rest.strip_prefix(b"=?")?;
        let charset_len = inner.iter().position(|byte| *byte == b'?')?;
        let (charset, tail) = (&inner[..charset_len], &inner[charset_len + 1..]);
        let (method, tail) = (tail.first()?, tail.get(1..)?.strip_prefix(b"?")?);
        let text_len = tail.iter().position(|byte| *byte == b'?' || byte.is_ascii_whitespace())?;
        if !tail[text_len..].starts_with(b"?=") {
            return None;
        }
        // RFC 2231 section 5: a language may follow the character set.
        let charset = charset.split(|byte| *byte == b'*').next()?;
        // WHATWG's "replacement" stands for sets that are not to be decoded.
        let encoding = Encoding::for_label(charset).filter(|encoding| *encoding != REPLACEMENT)?;
        let bytes = match method {
            b'Q' | b'q' => quoted_printable(&tail[..text_len])?,
            b'B' | b'b' => base64(&tail[..text_len])?,
            _ => return None,
        };
        Some(Word { encoding, bytes, len: 2 + charset_len + 3 + text_len + 2 })
    }
}

/// The Q encoding (RFC 2047 section 4.2).
fn quoted_printable(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'_' => bytes.push(b' '),
            b'=' => {
                let digits = std::str::from_utf8(text.get(at + 1..at + 3)?).ok().filter(|digits| !digits.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                at += 2;
            }
            byte => bytes.push(byte),
        }
        at += 1;
    }
    Some(bytes)
}

/// Base64 (RFC 4648 section 4) with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in &text[..unpadded] {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// What came out so far; bytes of encoded words wait until their character set ends.
struct Text {
    out: String,
    max: usize,
    pending: Option<(&'static Encoding, Vec<u8>)>,
}

impl Text {
    fn is_full(&self) -> bool {
        self.out.len() >= self.max
    }

    fn plain(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.settle();
        self.append(&String::from_utf8_lossy(bytes));
    }

    fn encoded(&mut self, word: Word) {
        match &mut self.pending {
            Some((encoding, bytes)) if *encoding == word.encoding && bytes.len() < self.max.saturating_mul(4) => bytes.extend(word.bytes),
            _ => {
                self.settle();
                self.pending = Some((word.encoding, word.bytes));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((encoding, bytes)) = self.pending.take() {
            let (text, _) = encoding.decode_without_bom_handling(&bytes);
            self.append(&text);
        }
    }

    fn append(&mut self, text: &str) {
        for c in text.chars() {
            let c = match c {
                '\r' | '\n' => continue,
                c if c.is_control() => ' ',
                c if turns_direction(c) => continue,
                c => c,
            };
            if self.out.len() + c.len_utf8() > self.max {
                // Nothing shorter may follow what did not fit.
                self.max = self.out.len();
                return;
            }
            self.out.push(c);
        }
    }

    fn finish(mut self) -> String {
        self.settle();
        let trimmed = self.out.trim();
        if trimmed.len() == self.out.len() { self.out } else { trimmed.to_owned() }
    }
}

/// Bidirectional overrides, embeddings and isolates, line and paragraph separators: they can make a listing lie.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decode() {
        let rows: [(&str, &str); 24] = [
            ("plain", "plain"),
            ("a  b", "a  b"),
            ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            ("=?ISO-8859-1?q?a_b?=", "a b"),
            ("=?iso-8859-1*de?Q?=FC?=", "ü"),
            ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
            ("=?UTF-8?B?R3LDvMOfZQ?=", "Grüße"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
            ("=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
            ("=?utf-8?q?=C3?= =?iso-8859-1?q?=FC?=", "\u{fffd}ü"),
            ("=?klingon?Q?x?=", "=?klingon?Q?x?="),
            ("=?utf-8?X?x?=", "=?utf-8?X?x?="),
            ("=?utf-8?Q?=ZZ?=", "=?utf-8?Q?=ZZ?="),
            ("=?utf-8?Q?a b?=", "=?utf-8?Q?a b?="),
            ("=?utf-8?Q?", "=?utf-8?Q?"),
            ("(=?utf-8?Q?a?=)", "(a)"),
            ("a\r\n\tb", "a b"),
            ("=?utf-8?Q?a=0D=0ABcc:_x?=", "aBcc: x"),
            ("=?utf-8?B?4oCuZ3Bq?=", "gpj"),
            ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
            ("=?windows-1252?Q?=80?=", "€"),
        ];
        for (raw, text) in rows {
            assert_eq!(decode(raw.as_bytes(), 255), text, "{raw}");
        }
        assert_eq!(decode(b"caf\xe9", 255), "caf\u{fffd}");
        assert_eq!(decode("Grüße".as_bytes(), 255), "Grüße");
        assert_eq!(clean(b" =?utf-8?q?a?=\r\n\tb\0 ", 255), "=?utf-8?q?a?= b");
    }

    #[test]
    fn the_limit_holds_at_a_character() {
        assert_eq!(decode("üüü".as_bytes(), 5), "üü");
        assert_eq!(decode(b"=?utf-8?q?=C3=BC=C3=BCa?=", 3), "ü");
        let many = b"=?utf-8?B?w7w=?= ".repeat(20_000);
        assert_eq!(decode(&many, 255).len(), 254);
        assert!(decode(&b"=?".repeat(500_000), 255).len() <= 255);
    }
}
