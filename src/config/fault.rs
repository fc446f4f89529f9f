//! One thing that is wrong in the configuration, told so that it can be put right without a manual.

use std::fmt;

/// Longest piece of the user's text that a fault repeats, in characters.
const MAX_SHOWN: usize = 40;

/// What is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// counted from 1; 0 when it concerns the whole file
    pub line: usize,
    /// the dotted key, `alias.to`; empty when the line could not be read
    pub key: String,
    /// what is wrong: the end of a sentence that the key begins
    pub what: String,
    /// what to do
    pub right: String,
}

impl Fault {
    pub fn new(line: usize, key: &str, what: impl Into<String>, right: impl Into<String>) -> Fault {
        Fault { line, key: key.to_owned(), what: what.into(), right: right.into() }
    }
}

/// `line 12: limits.connections: "many" is not a number – write e.g. limits.connections = 200`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", shown(&self.key))?;
        }
        write!(f, "{} – {}", self.what, self.right)
    }
}

/// The user's own text for a message: short, on one line, and without characters that a terminal would obey.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            out.push('…');
            break;
        }
        // Format characters such as U+202E turn the rest of the line around.
        if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_sentence() {
        let fault = Fault::new(12, "limits.connections", "\"many\" is not a number", "write e.g. limits.connections = 200");
        assert_eq!(fault.to_string(), "line 12: limits.connections: \"many\" is not a number – write e.g. limits.connections = 200");
        assert_eq!(Fault::new(0, "", "the file is empty", "write one").to_string(), "the file is empty – write one");
    }

    #[test]
    fn shown_text_cannot_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), MAX_SHOWN + 1);
    }
}
