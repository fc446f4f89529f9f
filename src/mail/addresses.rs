//! The addresses of a From, Sender, To or Cc field (RFC 5322 section 3.4), for decisions, not for display.
//!
//! In goes the raw value of a field, folded or not; out come all its addresses, those of groups among them, or a fault:
//! who may send as whom is decided by this, so that nothing is skipped and nothing guessed. Understood: comments, quoted
//! names, dots and raw UTF-8 in names (section 4.1, RFC 6532), groups (also empty ones, RFC 6854), empty places between
//! commas. Names and encoded words are never decoded: an address stands in the open or nowhere (RFC 2047 section 5).
//! Refused: source routes, blanks within addresses, anything behind an address but a comment.

use std::fmt;

use crate::mail::address::Address;

/// Octets of a value that are looked at: a thousand long addresses.
const MAX_VALUE: usize = 64 * 1024;
/// Most addresses of one field (reliability.md, "Message intake").
pub const MAX_ADDRESSES: usize = 1_000;
/// Comments in comments.
const MAX_DEPTH: usize = 50;

/// Why a value is no list of addresses. The sentence goes on behind the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFault {
    TooLong,
    NotUtf8,
    /// a quote, comment or bracket without its end
    Unclosed,
    /// neither a list of addresses nor of groups
    Malformed,
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListFault::TooLong => "is too long",
            ListFault::NotUtf8 => "is not valid UTF-8",
            ListFault::Unclosed => "has a quote, comment or bracket without an end",
            ListFault::Malformed => "is not a list of addresses",
        })
    }
}

/// All addresses, in their order.
pub fn parse_list(value: &[u8]) -> Result<Vec<Address>, ListFault> {
    if value.len() > MAX_VALUE {
        return Err(ListFault::TooLong);
    }
    let text = std::str::from_utf8(value).map_err(|_| ListFault::NotUtf8)?;
    let mut reading = Reading { place: Place::List, item: Item::default(), found: Vec::new() };
    let mut rest = text;
    while let Some((token, behind)) = next(rest)? {
        reading.take(token)?;
        rest = behind;
    }
    reading.end()
}

/// One piece of a value; comments are gone.
#[derive(Clone, Copy, PartialEq)]
enum Token<'a> {
    /// at least one blank, line break or comment
    Gap,
    /// with its quotes
    Quoted(&'a str),
    /// what stands between angle brackets
    Angle(&'a str),
    Comma,
    Colon,
    Semicolon,
    /// everything else: atoms, dots, `@`, literals
    Word(&'a str),
}

fn next(text: &str) -> Result<Option<(Token<'_>, &str)>, ListFault> {
    let Some(first) = text.chars().next() else { return Ok(None) };
    let (token, length) = match first {
        ',' => (Token::Comma, 1),
        ':' => (Token::Colon, 1),
        ';' => (Token::Semicolon, 1),
        ' ' | '\t' | '\r' | '\n' => (Token::Gap, text.len() - text.trim_start_matches([' ', '\t', '\r', '\n']).len()),
        '(' => (Token::Gap, comment_end(text)?),
        '"' => {
            let end = quote_end(text)?;
            (Token::Quoted(&text[..end]), end)
        }
        '<' => {
            let end = angle_end(text)?;
            (Token::Angle(&text[1..end - 1]), end)
        }
        '[' => {
            let end = text.find(']').ok_or(ListFault::Unclosed)? + 1;
            (Token::Word(&text[..end]), end)
        }
        ')' | '>' | ']' | '\\' => return Err(ListFault::Malformed),
        c if c.is_control() => return Err(ListFault::Malformed),
        _ => {
            let ends = |c: char| c.is_control() || ",:; \t\r\n(\"<[)>]\\".contains(c);
            let end = text.find(ends).unwrap_or(text.len());
            (Token::Word(&text[..end]), end)
        }
    };
    Ok(Some((token, &text[length..])))
}

fn comment_end(text: &str) -> Result<usize, ListFault> {
    let (mut depth, mut escaped) = (0, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' if depth == MAX_DEPTH => return Err(ListFault::Malformed),
            b'(' => depth += 1,
            b')' if depth == 1 => return Ok(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
    }
    Err(ListFault::Unclosed)
}

/// `text` begins with the opening quote.
fn quote_end(text: &str) -> Result<usize, ListFault> {
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate().skip(1) {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err(ListFault::Unclosed)
}

/// `text` begins with `<`; a quoted local part may hold `>`.
fn angle_end(text: &str) -> Result<usize, ListFault> {
    let mut at = 1;
    loop {
        match text.as_bytes().get(at) {
            None => return Err(ListFault::Unclosed),
            Some(b'>') => return Ok(at + 1),
            Some(b'<') => return Err(ListFault::Malformed),
            Some(b'"') => at += quote_end(&text[at..])?,
            Some(_) => at += 1,
        }
    }
}

/// Whether a group is open.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    List,
    Group,
    /// behind the semicolon: a comma or the end must follow
    AfterGroup,
}

/// What was seen since the last separator.
#[derive(Default)]
struct Item {
    /// words and quoted strings without what was between them
    text: String,
    /// blanks between the pieces of `text`: then it can only be a name
    gaps: Gaps,
    gap_pending: Gaps,
    open_at: OpenAt,
    angle: Option<Address>,
}

/// Whether an `@` stood outside of quotes: a name has none (RFC 5322 section 3.2.5), so some readers see an address.
#[derive(Clone, Copy, Default, PartialEq)]
enum OpenAt {
    #[default]
    None,
    Seen,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Gaps {
    #[default]
    None,
    Some,
}

struct Reading {
    place: Place,
    item: Item,
    found: Vec<Address>,
}

impl Reading {
    fn take(&mut self, token: Token<'_>) -> Result<(), ListFault> {
        match (token, self.place) {
            (Token::Gap, _) => {
                if !self.item.text.is_empty() {
                    self.item.gap_pending = Gaps::Some;
                }
            }
            (Token::Comma, Place::AfterGroup) => self.place = Place::List,
            (_, Place::AfterGroup) => return Err(ListFault::Malformed),
            (Token::Comma, _) => self.finish_item()?,
            (Token::Colon, Place::List) if self.item.angle.is_none() && !self.item.text.is_empty() => {
                // The name of a group is a phrase: an address there is none.
                if self.item.open_at == OpenAt::Seen {
                    return Err(ListFault::Malformed);
                }
                self.item = Item::default();
                self.place = Place::Group;
            }
            (Token::Semicolon, Place::Group) => {
                self.finish_item()?;
                self.place = Place::AfterGroup;
            }
            (Token::Colon | Token::Semicolon, _) => return Err(ListFault::Malformed),
            (Token::Angle(inner), _) if self.item.angle.is_none() => self.item.angle = Some(address(inner)?),
            (Token::Word(text) | Token::Quoted(text), _) if self.item.angle.is_none() => {
                if self.item.gap_pending == Gaps::Some {
                    self.item.gaps = Gaps::Some;
                }
                if matches!(token, Token::Word(_)) && text.contains('@') {
                    self.item.open_at = OpenAt::Seen;
                }
                self.item.text.push_str(text);
            }
            // Behind `<address>` nothing may stand but a comment.
            (Token::Angle(_) | Token::Word(_) | Token::Quoted(_), _) => return Err(ListFault::Malformed),
        }
        Ok(())
    }

    fn finish_item(&mut self) -> Result<(), ListFault> {
        let item = std::mem::take(&mut self.item);
        match (item.angle, item.text.as_str(), item.gaps) {
            (None, "", _) => Ok(()),
            (None, text, Gaps::None) => self.add(address(text)?),
            // `bob@y.org <ann@x.org>`: programs write an address twice, forgers two of them; readers disagree about who it is,
            // so both count.
            (Some(found), text, Gaps::None) if item.open_at == OpenAt::Seen => {
                self.add(address(text)?)?;
                self.add(found)
            }
            (Some(found), _, _) if item.open_at == OpenAt::None => self.add(found),
            (_, _, Gaps::Some | Gaps::None) => Err(ListFault::Malformed),
        }
    }

    fn add(&mut self, found: Address) -> Result<(), ListFault> {
        if self.found.len() == MAX_ADDRESSES {
            return Err(ListFault::TooLong);
        }
        self.found.push(found);
        Ok(())
    }

    fn end(mut self) -> Result<Vec<Address>, ListFault> {
        match self.place {
            Place::Group => Err(ListFault::Unclosed),
            Place::AfterGroup => Ok(self.found),
            Place::List => {
                self.finish_item()?;
                Ok(self.found)
            }
        }
    }
}

fn address(text: &str) -> Result<Address, ListFault> {
    Address::parse_received(text.trim_matches([' ', '\t'])).map_err(|_| ListFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(value: &str) -> Result<String, ListFault> {
        let found = parse_list(value.as_bytes())?;
        Ok(found.iter().map(Address::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn addresses_are_found_in_all_their_forms() {
        let rows = [
            (" ann@x.org", "ann@x.org"),
            ("Ann B. Cee <ann@x.org>", "ann@x.org"),
            ("\"Ann, B\" <ann@x.org>", "ann@x.org"),
            ("\"bob@y.org\" <ann@x.org>", "ann@x.org"),
            // An address in the open counts, whatever stands behind it.
            ("bob@y.org <ann@x.org>", "bob@y.org ann@x.org"),
            ("ann@x.org <ann@x.org>", "ann@x.org ann@x.org"),
            ("=?utf-8?q?bob=40y.org?= <ann@x.org>", "ann@x.org"),
            ("Jürgen <j@bücher.example>", "j@xn--bcher-kva.example"),
            ("ann@x.org (Ann (the first) \\) of all)", "ann@x.org"),
            ("(hi) ann@x.org\r\n , <bob@y.org>", "ann@x.org bob@y.org"),
            (",ann@x.org,,", "ann@x.org"),
            ("\"a,b\"@x.org", "\"a,b\"@x.org"),
            ("<\"a>b\"@x.org>", "\"a>b\"@x.org"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("us: ann@x.org, Bob <bob@y.org>;, c@z.org", "ann@x.org bob@y.org c@z.org"),
            ("nobody:;", ""),
            ("", ""),
        ];
        for (value, expected) in rows {
            assert_eq!(list(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_could_hide_an_address_is_refused() {
        for value in [
            "ann@x.org bob@y.org",
            "ann@x.org <bob@y.org> carol@z.org",
            "Bob bob@y.org <ann@x.org>",
            "\"Bob\" bob@y.org <ann@x.org>",
            "bob@ y.org <ann@x.org>",
            "\"us\" bob@y.org: ann@x.org;",
            "<ann@x.org> <bob@y.org>",
            "<@relay:ann@x.org>",
            "ann @x.org",
            "ann@ x.org",
            "ann",
            "Ann",
            "<>",
            "<ann>",
            "<ann@x.org",
            "\"ann@x.org",
            "(ann@x.org",
            "us: ann@x.org",
            "us: ann@x.org; bob@y.org",
            "us: them: ann@x.org;",
            "ann@x.org:",
            "ann@x.org; bob@y.org",
            "ann@x.org>",
            "a\\b@x.org",
            "ann@x.org\0",
            "<ann@x.org\r\n>",
        ] {
            assert!(list(value).is_err(), "{value}");
        }
        assert_eq!(parse_list(b"\xff <ann@x.org>"), Err(ListFault::NotUtf8));
        assert_eq!(list(&"a@b.c,".repeat(1_001)), Err(ListFault::TooLong));
        assert_eq!(list(&"(".repeat(60_000)), Err(ListFault::Malformed));
    }
}
