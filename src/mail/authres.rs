//! `Authentication-Results` (RFC 8601): whose verdict a field claims to be.
//!
//! A field that bears our own authserv-id but came from outside is a forgery and is removed (section 5); one that
//! cannot be read counts as bearing it, since a more lenient reader might read it so.
//! In goes the raw value of the field (folded or not); out comes the authserv-id without comments and quotes.
//! Not done here: writing the field, and reading the results in it.

use crate::mail::domain::Domain;

/// Comments deeper than this are not written by anybody; the scan is iterative, this bounds only its counter.
const MAX_COMMENT_DEPTH: usize = 50;
/// Longer than any domain with quotes and escapes; what is longer is unreadable.
const MAX_ID: usize = 1024;

/// Longest id in U-labels that is compared: as many octets as a name may have in A-labels, which are longer.
const MAX_UNICODE_ID: usize = 253;

/// Whether comparing this value needs the tables of IDNA, which costs hundreds of times more.
pub fn is_costly(value: &[u8]) -> bool {
    !value.iter().take(MAX_ID).all(u8::is_ascii)
}

/// The authserv-id that begins `value` (section 2.2: `[CFWS] value`), `None` if it cannot be read.
pub fn authserv_id(value: &[u8]) -> Option<String> {
    let rest = skip_cfws(value)?;
    let id = match rest.first()? {
        b'"' => quoted(&rest[1..])?,
        _ => token(rest),
    };
    (!id.is_empty()).then(|| String::from_utf8_lossy(&id).into_owned())
}

/// Whether a field with this value must be taken as ours.
pub fn bears(value: &[u8], ours: &Domain) -> bool {
    match authserv_id(value) {
        None => true,
        Some(id) => {
            let id = id.trim_end_matches('.');
            if id.is_ascii() {
                return id.eq_ignore_ascii_case(ours.as_str());
            }
            // Too long for any spelling of a name, and reading it costs: a lenient reader may have it.
            id.len() > MAX_UNICODE_ID || Domain::parse(id).is_ok_and(|domain| domain == *ours)
        }
    }
}

/// Behind white space, line breaks and comments (RFC 5322 section 3.2.2); `None` if a comment is not closed.
fn skip_cfws(value: &[u8]) -> Option<&[u8]> {
    let mut depth = 0;
    let mut bytes = value.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'(' if depth == MAX_COMMENT_DEPTH => return None,
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                bytes.next();
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return Some(&value[at..]),
        }
    }
    (depth == 0).then_some(&[])
}

fn quoted(rest: &[u8]) -> Option<Vec<u8>> {
    let mut id = Vec::new();
    let mut bytes = rest.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Some(id),
            b'\\' => id.push(*bytes.next()?),
            b'\r' | b'\n' => {}
            byte => id.push(*byte),
        }
        if id.len() > MAX_ID {
            return None;
        }
    }
    None
}

/// Wider than `token` of RFC 2045: everything up to what must end it, so that an odd id is still compared.
fn token(rest: &[u8]) -> Vec<u8> {
    rest.iter().copied().take(MAX_ID).take_while(|byte| !matches!(byte, b';' | b'(' | b' ' | b'\t' | b'\r' | b'\n')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_our_name_are_found() {
        let ours = Domain::parse("mx.bücher.example").unwrap();
        for value in [
            " mx.xn--bcher-kva.example; spf=pass",
            "mx.xn--bcher-kva.example;none",
            " MX.XN--Bcher-KVA.Example 1; none",
            "\r\n\t(a comment (inside \\) one)) mx.xn--bcher-kva.example(x);",
            " \"mx.xn--bcher-kva.example\"; none",
            " \"mx.xn--bch\\er-kva.example\"; none",
            " mx.bücher.example; none",
            " mx.xn--bcher-kva.example.; none",
            " (never closed mx.other.example; none",
            " \"never closed",
            "",
            " ; none",
        ] {
            assert!(bears(value.as_bytes(), &ours), "{value}");
        }
    }

    #[test]
    fn other_names_stay() {
        let ours = Domain::parse("mx.example.org").unwrap();
        for value in [" mx.example.net; none", " example.org; none", " x.mx.example.org; none", " (mx.example.org) other; none"] {
            assert!(!bears(value.as_bytes(), &ours), "{value}");
        }
        assert!(bears("(".repeat(100_000).as_bytes(), &ours));
    }
}
