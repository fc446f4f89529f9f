//! Reading on behind a syntax error, so that one run names every fault of a file and not only the first.
//!
//! The parser stops at its first error. So the statement that holds the error is blanked out with spaces (every other
//! byte keeps its place, hence its line) and the rest is parsed again. A broken header takes its whole section with
//! it: its keys would otherwise be taken for keys of the section before.

use std::ops::Range;

use toml_edit::Document;

use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::file::Lines;

/// After so many syntax errors the text is hardly a configuration; also bounds the time (one parse each).
const MAX_SYNTAX_FAULTS: usize = 20;

/// What could be parsed, and what could not.
pub struct Recovered {
    pub document: Document<String>,
    pub faults: Vec<Fault>,
    pub lost: Lost,
}

/// How much went with the syntax errors: what seems to be missing may just not have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    #[default]
    Nothing,
    /// single keys, none of which could be the name of a domain
    Keys,
    /// perhaps a domain: its addresses would seem to be foreign
    Domains,
}

/// Parses `text` (without a BOM). Always gives a document, at worst an empty one.
pub fn parse(text: &str) -> Recovered {
    let lines = Lines::of(text);
    let mut left = text.to_owned();
    // Found once: blanking moves nothing, so that the others keep their places.
    let mut statements = statements(text);
    let mut faults = Vec::new();
    let mut lost = Lost::Nothing;
    while faults.len() < MAX_SYNTAX_FAULTS {
        let error = match Document::parse(left.clone()) {
            Ok(document) => return Recovered { document, faults, lost },
            Err(error) => error,
        };
        let at = error.span().map_or(0, |span| span.start);
        let Some(broken) = blamed(&statements, at) else {
            // A comment, or something invisible on a line of its own.
            let start = left[..at.min(left.len())].rfind('\n').map_or(0, |end| end + 1);
            let line = line_at(&left, start);
            faults.push(Fault::new(lines.number(at), "", "a character that may not stand in a text file", "remove it"));
            left = blanked(&left, line);
            continue;
        };
        faults.push(describe(&lines, &left[statements[broken].bytes.clone()], &statements[broken], error.message()));
        lost = lost.max(loss(&left[statements[broken].bytes.clone()], statements[broken].kind));
        let next = match statements[broken].kind {
            StatementKind::Pair => broken + 1,
            StatementKind::Header => {
                let behind = statements.iter().skip(broken + 1).position(|statement| statement.kind == StatementKind::Header);
                behind.map_or(statements.len(), |behind| broken + 1 + behind)
            }
        };
        let gone: Vec<Statement> = statements.drain(broken..next).collect();
        let end = gone.last().map_or(left.len(), |last| last.bytes.end);
        left = blanked(&left, gone.first().map_or(end, |first| first.bytes.start)..end);
    }
    faults.push(Fault::new(0, "", "too much of the file is no TOML to read on", "correct the lines above first"));
    let empty = Document::parse(String::new()).expect("an empty text is valid TOML");
    Recovered { document: empty, faults, lost: Lost::Domains }
}

/// A header or a `key = value`, with all lines that belong to it.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    bytes: Range<usize>,
    kind: StatementKind,
    end: StatementEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatementKind {
    Header,
    Pair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatementEnd {
    Closed,
    /// a bracket or a three-quoted text is still open where the next statement begins
    Open,
}

/// The statement at fault for an error at byte `at`; `None` when the error lies between statements. An unclosed one is
/// noticed only in what follows it.
fn blamed(statements: &[Statement], at: usize) -> Option<usize> {
    let here = statements.iter().rposition(|statement| statement.bytes.start <= at)?;
    if here > 0 && statements[here - 1].end == StatementEnd::Open {
        return Some(here - 1);
    }
    (at <= statements[here].bytes.end || statements[here].end == StatementEnd::Open).then_some(here)
}

fn loss(text: &str, kind: StatementKind) -> Lost {
    let key = text.trim_start().split(|c: char| c.is_whitespace() || "=.".contains(c)).next().unwrap_or_default();
    match kind {
        StatementKind::Header => Lost::Domains,
        StatementKind::Pair if key.contains("name") && key != "hostname" || key.contains("domain") => Lost::Domains,
        StatementKind::Pair => Lost::Keys,
    }
}

fn describe(lines: &Lines, text: &str, statement: &Statement, message: &str) -> Fault {
    let line = lines.number(statement.bytes.start);
    let first = text.lines().next().unwrap_or_default().trim();
    if message == "duplicate key" {
        return match statement.kind {
            StatementKind::Header => {
                Fault::new(line, "", format!("{} stands twice", shown(first)), "move its keys to the first one, and remove it")
            }
            StatementKind::Pair => {
                let key = first.split('=').next().unwrap_or_default().trim();
                Fault::new(line, key, "stands twice in this section", "remove one of the two")
            }
        };
    }
    match statement.end {
        StatementEnd::Open => Fault::new(line, "", "a bracket or quote that is opened here is never closed", "close it"),
        StatementEnd::Closed => Fault::new(line, "", advice(first, message), "write key = value, texts in \"quotes\""),
    }
}

/// The parser's sentence, or a better one for the slips that beginners make. Never repeats a value: it may be secret.
fn advice(line: &str, message: &str) -> String {
    if line.starts_with('[') {
        return format!("this header is not closed or misspelt ({message})");
    }
    let Some((key, value)) = line.split_once('=') else {
        return "this line has no =".to_owned();
    };
    if value.trim().is_empty() {
        return format!("{} has no value", shown(key.trim()));
    }
    if value.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '/') {
        return format!("the value of {} needs quotes", shown(key.trim()));
    }
    message.to_owned()
}

/// Spaces instead of everything but line ends.
fn blanked(text: &str, range: Range<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..range.start]);
    out.extend(text[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
    out.push_str(&text[range.end..]);
    out
}

/// Splits into statements without judging them: strings, comments and brackets are minded, nothing else.
fn statements(text: &str) -> Vec<Statement> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line = line_at(text, at);
        let content = text[line.clone()].trim();
        if content.is_empty() || content.starts_with('#') {
            at = line.end;
            continue;
        }
        if content.starts_with('[') {
            out.push(Statement { bytes: line.clone(), kind: StatementKind::Header, end: StatementEnd::Closed });
            at = line.end;
            continue;
        }
        let (end, closed) = pair_end(text, line);
        out.push(Statement { bytes: at..end, kind: StatementKind::Pair, end: closed });
        at = end;
    }
    out
}

fn line_at(text: &str, start: usize) -> Range<usize> {
    start..text[start..].find('\n').map_or(text.len(), |length| start + length + 1)
}

/// Where the statement ends that begins with `first`: it goes on over lines while a bracket or a three-quoted text is open.
fn pair_end(text: &str, first: Range<usize>) -> (usize, StatementEnd) {
    let mut state = Scan::default();
    let mut line = first.clone();
    loop {
        state.line(&text[line.clone()]);
        if state.is_closed() {
            return (line.end, StatementEnd::Closed);
        }
        if line.end >= text.len() {
            // An open three-quoted text swallows the file: give the rest back, it may be good.
            let end = if state.quote.is_some() { first.end } else { line.end };
            return (end, StatementEnd::Open);
        }
        line = line_at(text, line.end);
        if state.quote.is_none() && begins_statement(text[line.clone()].trim()) {
            return (line.start, StatementEnd::Open);
        }
    }
}

/// Whether a line inside an open bracket looks like the next statement (no key of ours holds lists in lists).
fn begins_statement(line: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    if let Some(inner) = line.strip_prefix('[') {
        return inner.trim_start_matches('[').starts_with(|c: char| c.is_ascii_alphabetic());
    }
    match line.split_once('=') {
        Some((key, _)) => !key.is_empty() && key.chars().all(bare),
        None => false,
    }
}

/// What is open at the end of a line.
#[derive(Default)]
struct Scan {
    depth: usize,
    /// the three quotes that end the text
    quote: Option<&'static str>,
}

impl Scan {
    fn is_closed(&self) -> bool {
        self.depth == 0 && self.quote.is_none()
    }

    fn line(&mut self, line: &str) {
        let mut rest = line;
        while !rest.is_empty() {
            rest = match self.quote {
                Some(quote) => self.quoted(rest, quote),
                None => self.plain(rest),
            };
        }
    }

    /// Consumes at least one character outside of three-quoted text.
    fn plain<'a>(&mut self, rest: &'a str) -> &'a str {
        for quote in ["\"\"\"", "'''"] {
            if let Some(inside) = rest.strip_prefix(quote) {
                self.quote = Some(quote);
                return inside;
            }
        }
        let mut characters = rest.chars();
        match characters.next() {
            Some('#') | None => "",
            Some('"') => behind_quote(characters.as_str(), '"'),
            Some('\'') => behind_quote(characters.as_str(), '\''),
            Some('[' | '{') => {
                self.depth += 1;
                characters.as_str()
            }
            Some(']' | '}') => {
                self.depth = self.depth.saturating_sub(1);
                characters.as_str()
            }
            Some(_) => characters.as_str(),
        }
    }

    fn quoted<'a>(&mut self, rest: &'a str, quote: &'static str) -> &'a str {
        if let Some(behind) = rest.strip_prefix(quote) {
            self.quote = None;
            // Up to two more quotes may belong to the text (TOML 1.0, "Multi-line strings").
            return behind.trim_start_matches(&quote[..1]);
        }
        let mut characters = rest.chars();
        if characters.next() == Some('\\') && quote == "\"\"\"" {
            characters.next();
        }
        characters.as_str()
    }
}

/// What follows a one-line text; an unclosed one ends with its line.
fn behind_quote(rest: &str, quote: char) -> &str {
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        if c == '\\' && quote == '"' {
            characters.next();
        } else if c == quote {
            break;
        }
    }
    characters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faulty_lines(text: &str) -> Vec<usize> {
        parse(text).faults.iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn each_broken_statement_is_named_once_and_the_rest_is_read() {
        let rows: [(&str, &[usize]); 13] = [
            ("a = 1\nb = 2\n", &[]),
            ("a = \nb = 2\nc\nd = 4\n", &[1, 3]),
            ("a = \"x\nb = 2\n", &[1]),
            ("a = [1, 2\nb = 2\nc = ]\n", &[1, 3]),
            ("a = [\n 1,\n 2\n]\nb = mail\n", &[5]),
            ("a = \"\"\"\n[x]\n\"\"\"\nb = /etc\n", &[4]),
            ("a = \"\"\"\nb = 2\n", &[1]),
            ("[x\nb = 2\n[y]\nc = 3\n", &[1]),
            ("[x]\nb = 2\n[x]\nc = 3\n", &[3]),
            ("b = 2\nb = 3\nb = 4\n", &[2, 3]),
            ("b = \"\\q\"\r\nc = 1\r\nd =\r\n", &[1, 3]),
            ("\u{1}\n", &[1]),
            ("a = 1\n# \u{1}\nb =\n\u{a0}\n", &[2, 3, 4]),
        ];
        for (text, lines) in rows {
            let mut found = faulty_lines(text);
            found.sort_unstable();
            assert_eq!(found, lines, "{text:?}: {:?}", parse(text).faults);
        }
        assert!(parse("a = \nb = 2\n").document.as_table().contains_key("b"));
    }

    #[test]
    fn a_text_of_nothing_but_errors_ends() {
        let text = "= =\n".repeat(1000);
        assert_eq!(parse(&text).faults.len(), MAX_SYNTAX_FAULTS + 1);
    }
}
