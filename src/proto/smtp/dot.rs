//! Message data on the wire (RFC 5321 section 4.5.2): where it ends, and the stuffing of dots.
//!
//! `Unstuffer` takes raw octets, split anywhere, and gives them without stuffed dots. Data ends at CRLF.CRLF only (the
//! first line may be the dot itself); bare CR, bare LF and NUL are noted, passed on, and never end anything, so that
//! no other server's idea of an end smuggles a second message in.
//! `Stuffer` writes data: it adds dots and the end, and refuses what it could not send canonically.
//! Not done here: judging the faults, limits of size.

use std::fmt;

/// Octets that have no place in message data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// CR without LF behind it
    pub bare_cr: bool,
    /// LF without CR before it
    pub bare_lf: bool,
    pub nul: bool,
}

impl Faults {
    pub fn any(self) -> bool {
        self.bare_cr || self.bare_lf || self.nul
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.bare_cr, "bare CR"), (self.bare_lf, "bare LF"), (self.nul, "NUL")];
        let found: Vec<&str> = names.iter().filter(|(found, _)| *found).map(|(_, name)| *name).collect();
        f.write_str(if found.is_empty() { "nothing" } else { "" })?;
        f.write_str(&found.join(", "))
    }
}

/// How far a `push` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// octets of the input that belong to the message; behind them the next command begins
    pub consumed: usize,
    /// the end was found
    pub done: bool,
}

/// What stands before the next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// nothing at all, or CRLF
    LineBegin,
    /// a dot that begins a line, held back
    Dot,
    /// that dot and CR, both held back
    DotCr,
    /// CR, already passed on
    Cr,
    Middle,
    Done,
}

/// Reads message data.
#[derive(Debug)]
pub struct Unstuffer {
    place: Place,
    faults: Faults,
}

impl Default for Unstuffer {
    fn default() -> Unstuffer {
        Unstuffer::new()
    }
}

impl Unstuffer {
    /// Behind the CRLF of DATA.
    pub fn new() -> Unstuffer {
        Unstuffer { place: Place::LineBegin, faults: Faults::default() }
    }

    /// What was found so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Gives the message's octets in `input` to `out`, in slices as long as possible.
    pub fn push(&mut self, input: &[u8], out: &mut impl FnMut(&[u8])) -> Progress {
        // input[begin..at] is looked at and not yet given out
        let (mut begin, mut at) = (0, 0);
        while let Some(byte) = input.get(at).copied() {
            match (self.place, byte) {
                (Place::Done, _) => break,
                (Place::LineBegin, b'.') => {
                    give(&input[begin..at], out);
                    self.place = Place::Dot;
                    at += 1;
                    begin = at;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                (Place::DotCr, b'\n') => {
                    self.place = Place::Done;
                    at += 1;
                    begin = at;
                }
                (Place::DotCr, _) => {
                    // The CR was text of the line; it may have come with an earlier slice.
                    if begin == at {
                        out(b"\r");
                    }
                    self.place = Place::Cr;
                }
                (Place::Cr, b'\n') => {
                    self.place = Place::LineBegin;
                    at += 1;
                }
                (Place::Cr, _) => {
                    self.faults.bare_cr = true;
                    self.place = Place::Middle;
                }
                // Section 4.5.2: the first dot goes if other characters follow; whatever it is, it is text.
                (Place::LineBegin | Place::Dot, _) => self.place = Place::Middle,
                (Place::Middle, _) => at += self.text(&input[at..]),
            }
        }
        if self.place != Place::DotCr {
            give(&input[begin..at], out);
        }
        Progress { consumed: at, done: self.place == Place::Done }
    }

    /// Passes over text within a line up to and with the next special octet; `rest` is not empty.
    fn text(&mut self, rest: &[u8]) -> usize {
        let run = plain_run(rest);
        match rest.get(run) {
            None => return run,
            Some(b'\r') => self.place = Place::Cr,
            Some(b'\n') => self.faults.bare_lf = true,
            Some(_) => self.faults.nul = true,
        }
        run + 1
    }
}

fn give(slice: &[u8], out: &mut impl FnMut(&[u8])) {
    if !slice.is_empty() {
        out(slice);
    }
}

fn is_special(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n' || byte == 0
}

/// Octets before the first CR, LF or NUL. Sixteen at a time without a branch each: the compiler makes vectors of it.
fn plain_run(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<16>();
    let plain = |block: &&[u8; 16]| !block.iter().fold(false, |found, byte| found | is_special(*byte));
    let begin = blocks.iter().take_while(plain).count() * 16;
    bytes[begin..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |at| begin + at)
}

/// The data to be sent has a bare CR, bare LF or NUL: sending it would let others read it in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical(pub Faults);

impl fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message cannot be sent as it is: it has {}", self.0)
    }
}

/// What a `Stuffer` wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// nothing, or CRLF
    LineEnd,
    Cr,
    Text,
}

/// Writes message data.
#[derive(Debug)]
pub struct Stuffer {
    written: Written,
}

impl Default for Stuffer {
    fn default() -> Stuffer {
        Stuffer::new()
    }
}

impl Stuffer {
    pub fn new() -> Stuffer {
        Stuffer { written: Written::LineEnd }
    }

    /// Gives `input` with stuffed dots to `out`. After an error the connection must be dropped: the message is cut.
    pub fn push(&mut self, input: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), NotCanonical> {
        let (mut begin, mut at) = (0, 0);
        while let Some(byte) = input.get(at).copied() {
            match (self.written, byte) {
                (Written::Cr, b'\n') => {
                    self.written = Written::LineEnd;
                    at += 1;
                    continue;
                }
                (Written::Cr, _) => return Err(NotCanonical(Faults { bare_cr: true, ..Faults::default() })),
                (Written::LineEnd, b'.') => {
                    give(&input[begin..at], out);
                    out(b".");
                    begin = at;
                }
                (Written::LineEnd | Written::Text, _) => {}
            }
            self.written = Written::Text;
            let run = plain_run(&input[at..]);
            at += run;
            match input.get(at) {
                None => {}
                Some(b'\r') => {
                    self.written = Written::Cr;
                    at += 1;
                }
                Some(b'\n') => return Err(NotCanonical(Faults { bare_lf: true, ..Faults::default() })),
                Some(_) => return Err(NotCanonical(Faults { nul: true, ..Faults::default() })),
            }
        }
        give(&input[begin..at], out);
        Ok(())
    }

    /// Ends the data; a last line without CRLF gets one.
    pub fn finish(self, out: &mut impl FnMut(&[u8])) -> Result<(), NotCanonical> {
        match self.written {
            Written::Cr => return Err(NotCanonical(Faults { bare_cr: true, ..Faults::default() })),
            Written::LineEnd => {}
            Written::Text => out(b"\r\n"),
        }
        out(b".\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
