//! Replies of a peer (RFC 5321 section 4.2), read line by line.
//!
//! In go lines without CRLF, out comes a reply once its last line is there. A reply of several lines must keep its code.
//! What is kept is escaped and bounded: it goes into logs, the queue and notices. Enhanced status codes (RFC 2034) are
//! taken from the text whether announced or not: some servers send them without saying so.
//! Not done here: what a reply means (`smtp::client`), waiting.

use std::fmt;

use crate::mail::enhanced::EnhancedStatus;
use crate::proto::smtp::reply::escape;

/// Longest line without CRLF. RFC 5321 section 4.5.3.1.5 says 512 with CRLF, and some quote whole policies in one.
pub const MAX_LINE: usize = 4096;
/// Lines of one reply: the longest lists of extensions have some thirty.
const MAX_LINES: usize = 100;
/// Octets of all lines together that are kept; a reply is stored with each recipient it was said about.
const MAX_TEXT: usize = 2048;

/// What a peer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReply {
    /// 200 to 599
    pub code: u16,
    /// of the same class as the code
    pub enhanced: Option<EnhancedStatus>,
    /// the text behind the codes, escaped; at least one line, at most 100, together at most 2 KiB
    pub lines: Vec<String>,
}

/// Why a line is no part of a reply. Where the next reply begins is a guess then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFault {
    /// No three digits, of which the first is 2 to 5, with a blank, a hyphen or nothing behind them.
    NoReply,
    /// The lines of one reply have different codes.
    CodesDiffer,
    TooManyLines,
    LineTooLong,
    /// A bare CR, a bare LF or NUL.
    LineBroken,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyFault::NoReply => "the host sent a line that is no SMTP reply",
            ReplyFault::CodesDiffer => "the host sent a reply whose lines have different codes",
            ReplyFault::TooManyLines => "the host sent a reply of more than 100 lines",
            ReplyFault::LineTooLong => "the host sent a reply line of more than 4096 octets",
            ReplyFault::LineBroken => "the host sent a reply line with a bare CR, a bare LF or NUL",
        })
    }
}

impl std::error::Error for ReplyFault {}

impl PeerReply {
    /// The first digit: 2 to 5. RFC 5321 section 4.3.2 lets a client go by it alone.
    pub fn class(&self) -> u8 {
        // The reader gives nothing over 599.
        (self.code / 100) as u8
    }

    /// The enhanced status, or the class with nothing known beside it.
    pub fn status(&self) -> EnhancedStatus {
        self.enhanced.unwrap_or(EnhancedStatus::new(self.class(), 0, 0))
    }
}

/// One line for logs and the queue.
impl fmt::Display for PeerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        let text = self.lines.join(" / ");
        if text.is_empty() { Ok(()) } else { write!(f, " {text}") }
    }
}

/// Collects the lines of one reply.
#[derive(Debug, Default)]
pub struct ReplyReader {
    reply: Option<PeerReply>,
    octets: usize,
}

/// One line, taken apart.
struct Line<'a> {
    code: u16,
    text: &'a [u8],
    more: More,
}

#[derive(PartialEq, Eq)]
enum More {
    Follows,
    No,
}

impl ReplyReader {
    pub fn new() -> ReplyReader {
        ReplyReader::default()
    }

    /// Takes the next line without its CRLF. Gives the reply with its last line and is new again then; after a fault the
    /// conversation cannot go on.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<PeerReply>, ReplyFault> {
        if line.len() > MAX_LINE {
            return Err(ReplyFault::LineTooLong);
        }
        let Line { code, text, more } = split(line)?;
        let reply = self.reply.get_or_insert(PeerReply { code, enhanced: None, lines: Vec::new() });
        if reply.code != code {
            return Err(ReplyFault::CodesDiffer);
        }
        if reply.lines.len() == MAX_LINES {
            return Err(ReplyFault::TooManyLines);
        }
        let (enhanced, text) = split_status(text, reply.class());
        let text = match (reply.lines.is_empty(), enhanced) {
            (true, _) => {
                reply.enhanced = enhanced.map(|(status, _)| status);
                text
            }
            // RFC 2034 section 4 repeats the status in every line; another one than the first stays as text.
            (false, Some((status, whole))) if reply.enhanced != Some(status) => whole,
            (false, _) => text,
        };
        let mut kept = escape(&String::from_utf8_lossy(text));
        kept.truncate(MAX_TEXT - self.octets);
        self.octets += kept.len();
        reply.lines.push(kept);
        if more == More::Follows {
            return Ok(None);
        }
        self.octets = 0;
        Ok(self.reply.take())
    }
}

fn split(line: &[u8]) -> Result<Line<'_>, ReplyFault> {
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyFault::NoReply)?;
    if !(b'2'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReplyFault::NoReply);
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest {
        // Section 4.2.1: the text may be missing, and the blank with it.
        [] => Ok(Line { code, text: rest, more: More::No }),
        [b' ', text @ ..] => Ok(Line { code, text, more: More::No }),
        [b'-', text @ ..] => Ok(Line { code, text, more: More::Follows }),
        _ => Err(ReplyFault::NoReply),
    }
}

/// The enhanced status at the begin of `text` (with the whole text again) and what stands behind it.
fn split_status(text: &[u8], class: u8) -> (Option<(EnhancedStatus, &[u8])>, &[u8]) {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let status = std::str::from_utf8(&text[..end]).ok().and_then(EnhancedStatus::parse);
    match status {
        // A status of another class than the code contradicts it, and the code is what RFC 5321 goes by.
        Some(status) if status.class == class => (Some((status, text)), text[end..].trim_ascii_start()),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Option<PeerReply>, ReplyFault> {
        let mut reader = ReplyReader::new();
        let mut last = Ok(None);
        for line in text.split(|byte| *byte == b'\n') {
            assert_eq!(last, Ok(None), "lines behind the end of a reply");
            last = Ok(reader.line(line)?);
        }
        last
    }

    fn shown(text: &str) -> String {
        read(text.as_bytes()).unwrap().unwrap().to_string()
    }

    #[test]
    fn replies_of_one_and_more_lines() {
        for (text, expected) in [
            ("250 ok", "250 ok"),
            ("250", "250"),
            ("250 ", "250"),
            ("220-a\n220-b\n220 c", "220 a / b / c"),
            ("550-5.1.1 no such\n550 5.1.1 user", "550 5.1.1 no such / user"),
            ("550-5.1.1 no such\n550 5.1.2 user", "550 5.1.1 no such / 5.1.2 user"),
            ("550 5.1.1", "550 5.1.1"),
            ("550 4.1.1 odd", "550 4.1.1 odd"),
            ("550 5.1.1.1 odd", "550 5.1.1.1 odd"),
            ("550-\n550 5.7.1 no", "550  / 5.7.1 no"),
            ("451 \x1b[2Jü\u{202e}", "451 \\u{1b}[2J\\u{fc}\\u{202e}"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let reply = read(b"550 5.1.1 no").unwrap().unwrap();
        assert_eq!((reply.class(), reply.status()), (5, EnhancedStatus::new(5, 1, 1)));
        assert_eq!(read(b"450 no").unwrap().unwrap().status(), EnhancedStatus::new(4, 0, 0));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for text in ["", "2", "25", "abc", "250ok", "150 go", "650 x", "2 50", "HTTP/1.1 400 Bad Request", "\x15\x03\x01", "-250 x"] {
            assert_eq!(read(text.as_bytes()), Err(ReplyFault::NoReply), "{text:?}");
        }
        assert_eq!(read(b"250-a\n251 b"), Err(ReplyFault::CodesDiffer));
        assert_eq!(read(&[b"250 ", &b"x".repeat(MAX_LINE)[..]].concat()), Err(ReplyFault::LineTooLong));
        let endless = "250-a\n".repeat(MAX_LINES) + "250 a";
        assert_eq!(read(endless.as_bytes()), Err(ReplyFault::TooManyLines));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let line = format!("250-{}\n", "ü".repeat(2000));
        let reply = read((line.repeat(50) + "250 end").as_bytes()).unwrap().unwrap();
        assert_eq!(reply.lines.len(), 51);
        assert_eq!(reply.lines.iter().map(String::len).sum::<usize>(), MAX_TEXT);
    }
}
