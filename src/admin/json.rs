//! Whether a text is one JSON value (RFC 8259) of bounded depth, before the derive's parser sees it.
//!
//! That parser panics on some broken values of fields it does not know, accepts comments, and recurses on nesting; what
//! passes here is grammar it reads without any of the three. One pass, no recursion, no allocation beyond a small stack.

/// Requests are flat objects with lists of strings; deeper nesting is not ours and would cost stack in the parser.
pub const MAX_DEPTH: usize = 4;

/// What may stand next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// Why a text is none; `at` is the octet where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Grammar { at: usize },
    TooDeep { at: usize },
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Grammar { at } => write!(f, "it is not JSON from octet {at} on"),
            Broken::TooDeep { at } => write!(f, "it nests deeper than {MAX_DEPTH} at octet {at}"),
        }
    }
}

/// Walks the whole text.
pub fn check(text: &str) -> Result<(), Broken> {
    let bytes = text.as_bytes();
    // The closing bracket of each open one.
    let mut open: Vec<u8> = Vec::with_capacity(MAX_DEPTH);
    let (mut at, mut next) = (0, Next::Value);
    while let Some(byte) = bytes.get(at) {
        let grammar = Err(Broken::Grammar { at });
        let value = matches!(next, Next::Value | Next::ValueOrEnd);
        let after = if open.is_empty() { Next::Nothing } else { Next::CommaOrEnd };
        let length = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'{' | b'[' if value => {
                if open.len() == MAX_DEPTH {
                    return Err(Broken::TooDeep { at });
                }
                open.push(if *byte == b'{' { b'}' } else { b']' });
                next = if *byte == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd };
                at += 1;
                continue;
            }
            b'}' | b']' if matches!(next, Next::KeyOrEnd | Next::ValueOrEnd | Next::CommaOrEnd) && open.last() == Some(byte) => {
                open.pop();
                next = if open.is_empty() { Next::Nothing } else { Next::CommaOrEnd };
                at += 1;
                continue;
            }
            b',' if next == Next::CommaOrEnd => {
                next = if open.last() == Some(&b'}') { Next::Key } else { Next::Value };
                at += 1;
                continue;
            }
            b':' if next == Next::Colon => {
                next = Next::Value;
                at += 1;
                continue;
            }
            b'"' if matches!(next, Next::Key | Next::KeyOrEnd) => {
                at += string(&bytes[at..]).ok_or(Broken::Grammar { at })?;
                next = Next::Colon;
                continue;
            }
            b'"' if value => string(&bytes[at..]),
            b'-' | b'0'..=b'9' if value => number(&bytes[at..]),
            _ if value => ["true", "false", "null"].iter().find(|word| bytes[at..].starts_with(word.as_bytes())).map(|word| word.len()),
            _ => return grammar,
        };
        at += length.ok_or(Broken::Grammar { at })?;
        next = after;
    }
    if next == Next::Nothing { Ok(()) } else { Err(Broken::Grammar { at }) }
}

/// Length of the string that begins here, quotes included.
fn string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match bytes.get(at + 1)? {
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            control if *control < 0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Length of the number that begins here.
fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at = (fraction > 0).then_some(at + 1 + fraction)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        at = (exponent > 0).then_some(at + 1 + sign + exponent)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json_and_nothing_else_is() {
        for text in
            ["{}", "[]", "1", "-0.5e+7", "\"a\\u00e9\\n\\\"\"", " {\"a\" : [1, \"b\", true, null, {\"c\":[]}] , \"d\":{} } ", "[[[[1]]]]"]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "]",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[,]",
            "{1:2}",
            "01",
            "-",
            "1.",
            "1e",
            "+1",
            "tru",
            "truefalse",
            "1 2",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "/* */ 1",
            "{\"a\":1}}",
            "nullnull",
        ] {
            assert!(matches!(check(text), Err(Broken::Grammar { .. })), "{text}");
        }
        assert_eq!(check("[[[[[1]]]]]"), Err(Broken::TooDeep { at: 4 }));
    }
}
