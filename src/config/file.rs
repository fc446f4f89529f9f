//! What was written: every key of the file with its value, its line and its place in bytes. What it *means* is decided
//! in `config::value` and `config::check`.
//!
//! TOML 1.0 (<https://toml.io>). LF and CRLF, with or without a BOM. `limits.connections = 3`, `[limits]` with
//! `connections = 3`, and `limits = { connections = 3 }` are the same. Not done here: whether a key exists.

use std::fmt;
use std::ops::Range;

use toml_edit::Item;
use toml_edit::TableLike;

use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::recover;
use crate::config::recover::Lost;

/// Longest text that is read: 1 MiB holds about 10,000 aliases; the parsed form takes some ten times its size.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The byte order mark that Notepad writes.
pub const BOM: &str = "\u{feff}";

/// The whole file, flattened.
#[derive(Debug, Default)]
pub struct Written {
    /// keys outside of blocks, in the order of the file
    pub pairs: Vec<Pair>,
    /// `[[name]]` blocks in the order of the file
    pub blocks: Vec<Block>,
    /// what could not be read at all
    pub faults: Vec<Fault>,
    pub lost: Lost,
}

/// `key = value`.
#[derive(Debug)]
pub struct Pair {
    /// dotted and in full: `limits.connections`, `alias.to`
    pub key: String,
    pub line: usize,
    pub value: Value,
    /// bytes of the value in the text (its BOM counted)
    pub place: Range<usize>,
}

/// One `[[name]]` with what follows it.
#[derive(Debug)]
pub struct Block {
    pub name: String,
    pub line: usize,
    pub pairs: Vec<Pair>,
    /// bytes from its header (or opening brace) to the end of its last value (or closing brace)
    pub place: Range<usize>,
    pub form: Form,
}

/// How a block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `[[alias]]` on a line of its own
    Header,
    /// `alias = [{ … }]`
    Inline,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Switch(bool),
    /// with the line of each item
    List(Vec<(usize, Value)>),
    /// something that no key takes; the words name it
    Other(&'static str),
}

/// How a fault quotes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "\"{}\"", shown(text)),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Switch(switch) => write!(f, "{switch}"),
            Value::List(_) => f.write_str("a list"),
            Value::Other(words) => f.write_str(words),
        }
    }
}

/// Reads `text`. What cannot be read is a fault, all else is in the result.
pub fn read(text: &str) -> Written {
    if text.len() > MAX_TEXT {
        let fault = Fault::new(0, "", "the file is larger than 1 MiB", "remove what is not configuration");
        return Written { faults: vec![fault], lost: Lost::Domains, ..Written::default() };
    }
    let (base, body) = match text.strip_prefix(BOM) {
        Some(body) => (BOM.len(), body),
        None => (0, text),
    };
    let recovered = recover::parse(body);
    let mut reader =
        Reader { lines: Lines::of(body), base, written: Written { faults: recovered.faults, lost: recovered.lost, ..Written::default() } };
    let (pairs, _) = reader.table(recovered.document.as_table(), "");
    reader.written.pairs = pairs;
    reader.written.pairs.sort_by_key(|pair| pair.place.start);
    reader.written.blocks.sort_by_key(|block| block.place.start);
    reader.written
}

/// Reads one value as it stands behind the `=`. `None` if it is no TOML value.
pub fn read_value(text: &str) -> Option<Value> {
    let written = read(&format!("value = {text}"));
    if !written.faults.is_empty() || !written.blocks.is_empty() {
        return None;
    }
    let mut pairs = written.pairs.into_iter();
    let pair = pairs.next().filter(|pair| pair.key == "value" && pairs.next().is_none())?;
    Some(pair.value)
}

/// A text as TOML basic string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Line numbers of byte positions.
pub struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub fn of(text: &str) -> Lines {
        let behind = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Lines { starts: std::iter::once(0).chain(behind).collect() }
    }

    /// Counted from 1.
    pub fn number(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }
}

struct Reader {
    lines: Lines,
    base: usize,
    written: Written,
}

impl Reader {
    fn place(&self, span: Option<Range<usize>>) -> Range<usize> {
        let span = span.unwrap_or(0..0);
        span.start + self.base..span.end + self.base
    }

    /// Flattens a table. Gives its pairs and where its last value ends. The parser bounds the depth (80).
    fn table(&mut self, table: &dyn TableLike, prefix: &str) -> (Vec<Pair>, usize) {
        let mut pairs = Vec::new();
        let mut end = 0;
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            if let Some(inner) = item.as_table_like() {
                let (inner, inner_end) = self.table(inner, &key);
                end = end.max(inner_end);
                pairs.extend(inner);
            } else if prefix.is_empty() && self.blocks(name, item) {
                continue;
            } else {
                let span = item.span().or_else(|| table.key(name).and_then(toml_edit::Key::span));
                let place = self.place(span);
                end = end.max(place.end);
                let line = table.key(name).and_then(toml_edit::Key::span).map_or(place.start - self.base, |span| span.start);
                pairs.push(Pair { key, line: self.lines.number(line), value: self.value(item), place });
            }
        }
        (pairs, end)
    }

    /// Takes the item as blocks, if it is a list of tables.
    fn blocks(&mut self, name: &str, item: &Item) -> bool {
        if let Some(tables) = item.as_array_of_tables() {
            for table in tables {
                self.block(name, table, table.span(), Form::Header);
            }
            return true;
        }
        let Some(list) = item.as_array() else { return false };
        if list.is_empty() || !list.iter().all(toml_edit::Value::is_inline_table) {
            return false;
        }
        for table in list.iter().filter_map(toml_edit::Value::as_inline_table) {
            self.block(name, table, table.span(), Form::Inline);
        }
        true
    }

    fn block(&mut self, name: &str, table: &dyn TableLike, span: Option<Range<usize>>, form: Form) {
        let (pairs, end) = self.table(table, name);
        let mut place = self.place(span);
        place.end = place.end.max(end);
        let line = self.lines.number(place.start - self.base);
        self.written.blocks.push(Block { name: name.to_owned(), line, pairs, place, form });
    }

    fn value(&self, item: &Item) -> Value {
        match item {
            Item::Value(value) => self.simple(value),
            Item::ArrayOfTables(_) => Value::Other("a list of blocks"),
            Item::Table(_) | Item::None => Value::Other("a section"),
        }
    }

    fn simple(&self, value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => Value::Text(text.value().clone()),
            toml_edit::Value::Integer(number) => Value::Integer(*number.value()),
            toml_edit::Value::Boolean(switch) => Value::Switch(*switch.value()),
            toml_edit::Value::Float(_) => Value::Other("a number with a fraction"),
            toml_edit::Value::Datetime(_) => Value::Other("a date"),
            toml_edit::Value::InlineTable(_) => Value::Other("a section"),
            toml_edit::Value::Array(list) => {
                let line = |item: &toml_edit::Value| self.lines.number(item.span().unwrap_or(0..0).start);
                Value::List(list.iter().map(|item| (line(item), self.simple(item))).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spellings_of_a_section_are_one() {
        for text in ["limits.burst = 3", "[limits]\nburst = 3", "limits = { burst = 3 }"] {
            let written = read(text);
            assert_eq!((written.pairs[0].key.as_str(), &written.pairs[0].value), ("limits.burst", &Value::Integer(3)), "{text}");
            assert_eq!(&text[written.pairs[0].place.clone()], "3");
        }
        for text in ["[[alias]]\nto = \"x\"", "alias = [{ to = \"x\" }]", "alias = [\n{ to = \"x\" }\n]"] {
            let written = read(text);
            assert_eq!(written.blocks[0].pairs[0].key, "alias.to", "{text}");
            assert_eq!(&text[written.blocks[0].pairs[0].place.clone()], "\"x\"");
        }
    }

    #[test]
    fn lines_and_places_hold_with_bom_and_crlf() {
        let text = "\u{feff}# c\r\nhostname = \"a\"\r\n\r\n[[alias]]\r\nto = [\r\n  1,\r\n  2 ]\r\n";
        let written = read(text);
        assert_eq!(written.faults, []);
        assert_eq!((written.pairs[0].line, &text[written.pairs[0].place.clone()]), (2, "\"a\""));
        let block = &written.blocks[0];
        assert_eq!((block.line, &text[block.place.clone()]), (4, "[[alias]]\r\nto = [\r\n  1,\r\n  2 ]"));
        assert_eq!(block.pairs[0].line, 5);
        assert_eq!(block.pairs[0].value, Value::List(vec![(6, Value::Integer(1)), (7, Value::Integer(2))]));
    }

    #[test]
    fn a_quoted_text_reads_back() {
        for text in ["", "a", "\"\\", "tab\tnul\0del\u{7f}\u{85}", "päivi"] {
            assert_eq!(read_value(&quoted(text)), Some(Value::Text(text.to_owned())), "{text:?}");
        }
        for text in ["", "1\nb = 2", "x", "{ a = 1 }", "[{ a = 1 }]"] {
            assert_eq!(read_value(text), None, "{text:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        for text in ["a.".repeat(100_000) + "b = 1", "a = ".to_owned() + &"[".repeat(100_000), format!("[{}b]", "a.".repeat(100_000))] {
            assert!(!read(&text).faults.is_empty());
        }
    }
}
