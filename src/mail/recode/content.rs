//! The fields of a part that say what it is and how it is written: Content-Type and Content-Transfer-Encoding (RFC 2045).
//!
//! In go the values of the fields as they stand in the header; out come the few facts on which recoding depends. What
//! is not understood is said to be so, never guessed: whoever guesses wrong changes what people read.
//! Not done here: parameters other than the boundary; RFC 2231 (a boundary has no need of it).

/// Longest boundary (RFC 2046 section 5.1.1). A longer one could not be told from the soft break of a line.
const MAX_BOUNDARY: usize = 70;

/// Longest value that is taken apart; real ones stay under 2 KiB, and each word of it takes memory.
const MAX_VALUE: usize = 8 * 1024;

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text/*`, and what reads like it
    Text,
    Multipart {
        boundary: Vec<u8>,
        /// its parts are messages unless they say otherwise (RFC 2046 section 5.1.5)
        digest: bool,
    },
    /// multipart/signed and multipart/encrypted (RFC 1847): a signature covers the parts as they are written
    Sealed,
    /// message/rfc822: a header and a body follow
    Message,
    /// message/partial and the like, for which RFC 2046 section 5.2 allows 7 bits only
    SevenBitOnly,
    Other,
    /// a multipart whose parts cannot be found, or what cannot be known not to be one
    Broken,
}

/// How the body of a part is written (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    SevenBit,
    /// 8bit or binary
    Raw,
    /// quoted-printable or base64
    Encoded,
    /// nobody knows how
    Unknown,
}

/// Reads the value of Content-Type.
pub fn kind(value: &[u8]) -> Kind {
    if value.len() > MAX_VALUE {
        return Kind::Broken;
    }
    let (words, whole) = tokens(value);
    let word = |at: usize| match words.get(at) {
        Some(Token::Word(word)) => word.to_ascii_lowercase(),
        _ => Vec::new(),
    };
    let (main, sub) = (word(0), word(2));
    let slash = words.get(1) == Some(&Token::Sign(b'/'));
    match main.as_slice() {
        b"multipart" if !slash => Kind::Broken,
        b"multipart" if sub == b"signed" || sub == b"encrypted" => Kind::Sealed,
        b"multipart" => match boundary(words.get(3..).unwrap_or_default()) {
            Some(boundary) if whole => Kind::Multipart { boundary, digest: sub == b"digest" },
            Some(_) | None => Kind::Broken,
        },
        b"message" if !slash => Kind::Broken,
        b"message" if sub == b"rfc822" => Kind::Message,
        // RFC 6532 section 3.7 and RFC 6533: these may be encoded, and are mostly ASCII.
        b"message" if sub.starts_with(b"global") => Kind::Text,
        b"message" => Kind::SevenBitOnly,
        b"text" => Kind::Text,
        _ => Kind::Other,
    }
}

/// Reads the value of Content-Transfer-Encoding.
pub fn transfer(value: &[u8]) -> Transfer {
    match tokens(&value[..value.len().min(MAX_VALUE)]) {
        (words, true) => match words.as_slice() {
            [Token::Word(word)] => match word.to_ascii_lowercase().as_slice() {
                b"7bit" => Transfer::SevenBit,
                b"8bit" | b"binary" => Transfer::Raw,
                b"quoted-printable" | b"base64" => Transfer::Encoded,
                _ => Transfer::Unknown,
            },
            _ => Transfer::Unknown,
        },
        _ => Transfer::Unknown,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// a token or the content of a quoted string
    Word(Vec<u8>),
    Sign(u8),
}

/// The one boundary among parameters; `None` for none, several, or one that no line can begin with.
fn boundary(mut parameters: &[Token]) -> Option<Vec<u8>> {
    let mut found = None;
    while let Some((first, rest)) = parameters.split_first() {
        match (first, rest) {
            (Token::Word(name), [Token::Sign(b'='), Token::Word(value), behind @ ..]) => {
                if name.eq_ignore_ascii_case(b"boundary") && found.replace(value.clone()).is_some() {
                    return None;
                }
                parameters = behind;
            }
            _ => parameters = rest,
        }
    }
    let fits = |boundary: &Vec<u8>| (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.is_ascii() && !boundary.ends_with(b" ");
    found.filter(fits)
}

/// Words and signs without comments and blanks (RFC 2045 section 5.1); `false`: a quote or a comment has no end.
fn tokens(value: &[u8]) -> (Vec<Token>, bool) {
    let is_sign = |byte: u8| b"<>@,;:/[]?=)".contains(&byte);
    let mut tokens = Vec::new();
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'(' => match behind_comment(behind) {
                Some(behind) => rest = behind,
                None => return (tokens, false),
            },
            b'"' => match quoted(behind) {
                Some((word, behind)) => {
                    tokens.push(Token::Word(word));
                    rest = behind;
                }
                None => return (tokens, false),
            },
            sign if is_sign(*sign) => tokens.push(Token::Sign(*sign)),
            _ => {
                let ends = |byte: &u8| is_sign(*byte) || matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'(' | b'"');
                let length = behind.iter().position(ends).unwrap_or(behind.len());
                let mut word = vec![*first];
                word.extend_from_slice(&behind[..length]);
                tokens.push(Token::Word(word));
                rest = &behind[length..];
            }
        }
    }
    (tokens, true)
}

fn behind_comment(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1usize;
    while depth > 0 {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        match first {
            b'\\' => rest = rest.get(1..)?,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
    }
    Some(rest)
}

fn quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        match first {
            b'"' => return Some((word, rest)),
            b'\\' => {
                word.push(*rest.first()?);
                rest = &rest[1..];
            }
            // Only the line break of a folded line goes (RFC 5322 section 2.2.3).
            b'\r' | b'\n' => {}
            other => word.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multipart(boundary: &str) -> Kind {
        Kind::Multipart { boundary: boundary.into(), digest: false }
    }

    #[test]
    fn types_are_read() {
        for (value, expected) in [
            (" text/plain; charset=utf-8", Kind::Text),
            ("TEXT/HTML", Kind::Text),
            (" text", Kind::Text),
            ("application/pdf; name=\"multipart/mixed\"", Kind::Other),
            (" multipart/mixed; boundary=abc", multipart("abc")),
            (" multipart (a \\) (b)) / mixed;\r\n\tBoundary = \"a =_\\\"b\" ; x=y", multipart("a =_\"b")),
            (" multipart/digest; boundary=a", Kind::Multipart { boundary: b"a".to_vec(), digest: true }),
            (" multipart/mixed", Kind::Broken),
            (" multipart/mixed; boundary=\"\"", Kind::Broken),
            (" multipart/mixed; boundary=a; boundary=b", Kind::Broken),
            (" multipart/mixed; boundary=\"a", Kind::Broken),
            (" multipart/mixed; boundary=a (", Kind::Broken),
            (" multipart", Kind::Broken),
            (" multipart/signed; boundary=a", Kind::Sealed),
            (" multipart/encrypted; boundary=a", Kind::Sealed),
            (" message/rfc822", Kind::Message),
            (" message/global-headers", Kind::Text),
            (" message/partial; id=x", Kind::SevenBitOnly),
            (" message/delivery-status", Kind::SevenBitOnly),
            (" message", Kind::Broken),
            (" =?", Kind::Other),
        ] {
            assert_eq!(kind(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(kind(format!("multipart/mixed; boundary={}", "a".repeat(71)).as_bytes()), Kind::Broken);
        assert_eq!(kind(format!("text/plain; {}", "a;".repeat(5_000)).as_bytes()), Kind::Broken);
    }

    #[test]
    fn encodings_are_read() {
        for (value, expected) in [
            (" 7bit", Transfer::SevenBit),
            (" 8BIT (really)", Transfer::Raw),
            ("binary", Transfer::Raw),
            (" Quoted-Printable", Transfer::Encoded),
            (" base64", Transfer::Encoded),
            (" x-uuencode", Transfer::Unknown),
            (" 8bit 7bit", Transfer::Unknown),
            ("", Transfer::Unknown),
            (" 8bit (", Transfer::Unknown),
        ] {
            assert_eq!(transfer(value.as_bytes()), expected, "{value}");
        }
    }
}
