//! Replies of a server (RFC 5321 section 4.2) with enhanced status codes (RFC 2034).
//!
//! In goes a code and text, which may quote the peer; out come lines of at most 512 octets (section 4.5.3.1.5).
//! Every text passes `escape` when the reply is made, so that no peer's words can begin a line, hide in a terminal or
//! leave ASCII (RFC 6531 section 3.7.4.2 lets us stay in ASCII always).
//! Not done here: reading replies of others.

use std::fmt;
use std::fmt::Write;

use crate::mail::enhanced::EnhancedStatus;

/// Longest reply line with code and CRLF (RFC 5321 section 4.5.3.1.5).
pub const MAX_LINE: usize = 512;
/// Octets of a text that are sent; it fills four lines, and no explanation needs more.
const MAX_TEXT: usize = 2_000;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599
    pub code: u16,
    /// absent in the greeting and in replies to HELO and EHLO, 334 and 354 (RFC 2034 section 4)
    pub enhanced: Option<EnhancedStatus>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one text; it becomes several lines if it is long.
    pub fn new(code: u16, enhanced: EnhancedStatus, text: &str) -> Reply {
        Reply { code, enhanced: Some(enhanced), lines: vec![escape(text)] }
    }

    /// A reply to which no enhanced code belongs.
    pub fn bare(code: u16, text: &str) -> Reply {
        Reply { code, enhanced: None, lines: vec![escape(text)] }
    }

    /// A reply of several lines without enhanced codes: the answer to EHLO.
    pub fn listing(code: u16, lines: &[String]) -> Reply {
        Reply { code, enhanced: None, lines: lines.iter().map(|line| escape(line)).collect() }
    }

    /// The octets to send, each line with its CRLF.
    pub fn encode(&self) -> Vec<u8> {
        // RFC 2034 section 4: the enhanced code stands in every line of a reply.
        let status = self.enhanced.map_or_else(String::new, |enhanced| format!("{enhanced} "));
        // code, separator and CRLF
        let room = MAX_LINE - 6 - status.len();
        let pieces: Vec<&str> = self.lines.iter().flat_map(|line| wrap(line, room)).collect();
        let mut text = String::new();
        for (at, piece) in pieces.iter().enumerate() {
            let separator = if at + 1 == pieces.len() { ' ' } else { '-' };
            write!(text, "{}{separator}{status}{piece}\r\n", self.code).expect("a String takes all text");
        }
        text.into_bytes()
    }
}

/// One line for the log.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        f.write_str(&self.lines.join(" / "))
    }
}

/// Pieces of at most `room` octets, broken at blanks where there are any; an empty text is one empty piece.
fn wrap(line: &str, room: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while rest.len() > room {
        let at = rest[..room].rfind(' ').filter(|at| *at > 0).unwrap_or(room);
        pieces.push(&rest[..at]);
        rest = rest[at..].trim_start();
    }
    pieces.push(rest);
    pieces
}

/// The one escaping function for text that goes into replies and log lines: printable ASCII stays, everything else
/// becomes `\u{…}`, and the result is bounded. The backslash stays too: the result is for reading, not for parsing.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if escaped.len() >= MAX_TEXT {
            break;
        }
        if c == ' ' || c.is_ascii_graphic() { escaped.push(c) } else { escaped.extend(c.escape_unicode()) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: EnhancedStatus = EnhancedStatus::new(2, 0, 0);

    fn text(reply: &Reply) -> String {
        String::from_utf8(reply.encode()).unwrap()
    }

    #[test]
    fn lines_carry_code_and_enhanced_code() {
        assert_eq!(text(&Reply::new(250, OK, "fine")), "250 2.0.0 fine\r\n");
        assert_eq!(text(&Reply::bare(354, "go on")), "354 go on\r\n");
        assert_eq!(text(&Reply::listing(250, &["a".into(), "b".into()])), "250-a\r\n250 b\r\n");
        assert_eq!(Reply::new(250, OK, "fine").to_string(), "250 2.0.0 fine");
    }

    #[test]
    fn nothing_of_the_peer_can_begin_a_line() {
        assert_eq!(text(&Reply::new(550, OK, "a\r\n250 ok\0ü\x1b[2J")), "550 2.0.0 a\\u{d}\\u{a}250 ok\\u{0}\\u{fc}\\u{1b}[2J\r\n");
    }

    #[test]
    fn long_text_becomes_lines_of_512_octets_at_most() {
        for long in ["x".repeat(9000), "some words ".repeat(800), "ü".repeat(3000), " ".repeat(3000)] {
            let reply = text(&Reply::new(550, EnhancedStatus::new(5, 999, 999), &long));
            let lines: Vec<&str> = reply.split_inclusive("\r\n").collect();
            assert!(lines.len() > 1 && lines.len() <= 6, "{}", lines.len());
            assert!(lines.iter().all(|line| line.len() <= MAX_LINE && line.is_ascii()));
            assert!(lines[..lines.len() - 1].iter().all(|line| line.starts_with("550-5.999.999 ")));
            assert!(lines.last().unwrap().starts_with("550 5.999.999 "));
        }
    }
}
