//! The first reading: which parts a message has, where they are, and how each must change.
//!
//! Works line by line with a stack of open boundaries. A boundary counts where it is a whole line (blanks behind it
//! apart): a line that only begins with one is text. Only an outer boundary may not end an inner multipart: programs
//! disagree about what such a message shows, so it is left alone. The line break before a boundary belongs to it.
//! What is found unfit matters only if there is something to recode at all, which is known at the end.

use crate::mail::domain::Domain;
use crate::mail::header;
use crate::mail::header::Field;
use crate::mail::recode::Change;
use crate::mail::recode::Edit;
use crate::mail::recode::Plan;
use crate::mail::recode::Unfit;
use crate::mail::recode::content;
use crate::mail::recode::content::Kind;
use crate::mail::recode::content::Transfer;
use crate::mail::recode::encode::Behind;
use crate::mail::recode::encode::Encoding;

/// More parts than this are an attack; a long digest has some hundred. An edit has about 40 octets, a part at most two.
const MAX_PARTS: usize = 2_000;
/// Multiparts within each other.
const MAX_DEPTH: usize = 50;
/// Longest header of a part; that of the message has its own limit at the door.
const MAX_PART_HEADER: usize = 64 * 1024;
/// What is kept of a line: a boundary has at most 70 characters, and text that is looked at is mostly shorter.
const MAX_KEPT: usize = 2_000;
/// RFC 5322 section 2.1.1, without the line break; longer lines need an encoding unless they are 8bit as they are.
const MAX_LINE: u64 = 998;
/// DKIM signatures whose domain is told.
const MAX_SIGNERS: usize = 16;
/// Text with more than one octet in so many beyond ASCII is no more legible quoted, and nearly twice as long as in base64.
const MOSTLY: u64 = 2;

const MIME_VERSION: &str = "MIME-Version: 1.0\r\n";
const QUOTED: &str = "Content-Transfer-Encoding: quoted-printable\r\n";
const BASE64: &str = "Content-Transfer-Encoding: base64\r\n";
const SEVEN_BIT: &str = "Content-Transfer-Encoding: 7bit\r\n";
/// For a text that says nothing of itself.
const UTF8: &str = "Content-Type: text/plain; charset=utf-8\r\n";
/// RFC 1428 section 3: nobody knows the character set.
const UNKNOWN: &str = "Content-Type: text/plain; charset=unknown-8bit\r\n";

/// Reads a message once.
#[derive(Debug)]
pub struct Survey {
    line: Line,
    place: Place,
    /// open multiparts, the innermost last
    open: Vec<Multipart>,
    parts: usize,
    edits: Vec<Edit>,
    signers: Vec<Domain>,
    eight_bit: bool,
    unfit: Option<Unfit>,
}

/// The line that is being read.
#[derive(Debug, Default)]
struct Line {
    begin: u64,
    length: u64,
    /// octets beyond ASCII
    eight: u64,
    kept: Vec<u8>,
}

#[derive(Debug)]
struct Multipart {
    boundary: Vec<u8>,
    digest: bool,
}

#[derive(Debug)]
enum Place {
    Header {
        begin: u64,
        text: Vec<u8>,
        depth: Depth,
    },
    Body(Body),
    /// before the first part of a multipart, or behind its last
    Outside,
}

/// What a boundary does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Divides,
    Closes,
}

/// Whose header it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Message,
    Part,
    /// of a message in a part
    Enclosed,
}

/// A part without parts.
#[derive(Debug)]
struct Body {
    begin: u64,
    /// the field Content-Transfer-Encoding, or the place for one
    field: (u64, u64),
    treatment: Treatment,
    transfer: Transfer,
    eight: u64,
    longest: u64,
    /// where MIME-Version is missing in the header of a message
    unversioned: Option<u64>,
    /// what the text of a message seems to be if nothing says so
    unnamed: Option<Guess>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Text,
    Data,
    /// stays as it is
    Leave(Unfit),
}

/// What a text without Content-Type seems to be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Utf8,
    Unknown,
}

impl Default for Survey {
    fn default() -> Survey {
        Survey::new()
    }
}

impl Survey {
    pub fn new() -> Survey {
        Survey {
            line: Line::default(),
            place: Place::Header { begin: 0, text: Vec::new(), depth: Depth::Message },
            open: Vec::new(),
            parts: 0,
            edits: Vec::new(),
            signers: Vec::new(),
            eight_bit: false,
            unfit: None,
        }
    }

    /// Takes the next slice.
    pub fn push(&mut self, mut slice: &[u8]) {
        while !slice.is_empty() {
            let end = slice.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (now, later) = slice.split_at(end.unwrap_or(slice.len()));
            self.line.push(now, matches!(self.place, Place::Header { .. }));
            slice = later;
            if end.is_some() {
                self.end_line();
            }
        }
    }

    /// The message is at its end.
    pub fn finish(mut self) -> Result<Plan, Unfit> {
        if self.line.length > 0 {
            self.end_line();
        }
        let end = self.line.begin;
        self.end_part(end, Behind::End);
        if !self.open.is_empty() {
            self.unfit(Unfit::Broken);
        }
        if !self.eight_bit {
            return Ok(Plan { edits: Vec::new(), signers: self.signers });
        }
        if let Some(unfit) = self.unfit {
            return Err(unfit);
        }
        // Stable: what goes to one place stays in the order in which it was found.
        self.edits.sort_by_key(|edit| (edit.begin, edit.end));
        Ok(Plan { edits: self.edits, signers: self.signers })
    }

    /// The first reason is the one that is told.
    fn unfit(&mut self, unfit: Unfit) {
        self.unfit.get_or_insert(unfit);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.line.begin = line.begin + line.length;
        self.eight_bit |= line.eight > 0;
        if let Some((at, cut)) = self.boundary(&line) {
            return self.cut(at, cut, &line);
        }
        match &mut self.place {
            Place::Header { text, depth, .. } => {
                let most = if *depth == Depth::Message { header::MAX_HEADER } else { MAX_PART_HEADER };
                let empty = line.kept == b"\r\n";
                text.extend_from_slice(&line.kept);
                let too_long = text.len() > most;
                if line.eight > 0 {
                    self.unfit(Unfit::Header);
                }
                if too_long {
                    self.unfit(Unfit::Broken);
                    self.place = Place::Outside;
                } else if empty {
                    self.end_header();
                }
            }
            Place::Body(body) => body.take(&line),
            Place::Outside if line.eight > 0 => self.unfit(Unfit::Outside),
            Place::Outside => {}
        }
    }

    /// Which open multipart the line divides or closes.
    fn boundary(&self, line: &Line) -> Option<(usize, Cut)> {
        let rest = line.kept.strip_prefix(b"--").filter(|_| line.kept.len() as u64 == line.length)?;
        let rest = rest.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(at, multipart)| match rest.strip_prefix(multipart.boundary.as_slice())? {
            b"" => Some((at, Cut::Divides)),
            b"--" => Some((at, Cut::Closes)),
            _ => None,
        })
    }

    /// A boundary: the part before it ends, and perhaps another begins.
    fn cut(&mut self, at: usize, cut: Cut, line: &Line) {
        self.end_part(line.begin, Behind::Boundary);
        if at + 1 < self.open.len() {
            self.unfit(Unfit::Broken);
        }
        self.open.truncate(at + 1);
        match cut {
            Cut::Divides => self.place = Place::Header { begin: line.begin + line.length, text: Vec::new(), depth: Depth::Part },
            Cut::Closes => {
                self.open.pop();
            }
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            self.unfit(Unfit::TooManyParts);
            self.edits.clear();
            self.open.clear();
            self.place = Place::Outside;
        }
    }

    /// The header in `place` is whole: what follows it?
    fn end_header(&mut self) {
        let place = std::mem::replace(&mut self.place, Place::Outside);
        let Place::Header { begin, text, depth } = place else { return };
        let Some(found) = Found::read(&text) else { return self.unfit(Unfit::Broken) };
        let body = begin + text.len() as u64;
        // The empty line has two octets; fields go before it.
        let insertion = body.saturating_sub(2);
        let field = found.encoding.map_or((insertion, insertion), |(from, to, _)| (begin + from as u64, begin + to as u64));
        let transfer = found.encoding.map_or(Transfer::SevenBit, |(.., transfer)| transfer);
        if depth == Depth::Message {
            self.signers = signers(&text);
        }
        let digest = depth == Depth::Part && self.open.last().is_some_and(|multipart| multipart.digest);
        let named = found.kind.is_some();
        let kind = found.kind.unwrap_or(if digest { Kind::Message } else { Kind::Text });
        let composite = matches!(kind, Kind::Multipart { .. } | Kind::Message);
        let treatment = match (&kind, transfer) {
            (Kind::Sealed, _) => Treatment::Leave(Unfit::Sealed),
            (Kind::SevenBitOnly, _) => Treatment::Leave(Unfit::SevenBitOnly),
            (Kind::Broken, _) => Treatment::Leave(Unfit::Broken),
            (_, Transfer::Encoded | Transfer::Unknown) => Treatment::Leave(Unfit::Encoded),
            (Kind::Text, _) => Treatment::Text,
            (Kind::Other | Kind::Multipart { .. } | Kind::Message, _) => Treatment::Data,
        };
        let unversioned = (depth != Depth::Part && !found.versioned).then_some(insertion);
        if composite && treatment == Treatment::Data {
            if transfer == Transfer::Raw {
                self.write(field, SEVEN_BIT);
            }
            if let (Some(at), Depth::Message) = (unversioned, depth) {
                self.write((at, at), MIME_VERSION);
            }
            return self.enter(kind, body);
        }
        let unnamed = (depth != Depth::Part && !named).then_some(Guess::Utf8);
        self.place = Place::Body(Body { begin: body, field, treatment, transfer, eight: 0, longest: 0, unversioned, unnamed });
    }

    /// Into a part that has parts, or a message in it.
    fn enter(&mut self, kind: Kind, begin: u64) {
        self.parts += 1;
        match kind {
            Kind::Multipart { .. } if self.open.len() == MAX_DEPTH => self.unfit(Unfit::TooManyParts),
            Kind::Message if self.parts > MAX_PARTS => self.unfit(Unfit::TooManyParts),
            Kind::Multipart { boundary, digest } => self.open.push(Multipart { boundary, digest }),
            Kind::Message => self.place = Place::Header { begin, text: Vec::new(), depth: Depth::Enclosed },
            Kind::Text | Kind::Sealed | Kind::SevenBitOnly | Kind::Other | Kind::Broken => {}
        }
    }

    /// What is being read ends before `end`, where a boundary begins or the message ends.
    fn end_part(&mut self, end: u64, behind: Behind) {
        let Place::Body(body) = std::mem::replace(&mut self.place, Place::Outside) else { return };
        let line_break = if behind == Behind::Boundary { 2 } else { 0 };
        let end = end.saturating_sub(line_break).max(body.begin);
        let length = end - body.begin;
        if let Treatment::Leave(unfit) = body.treatment {
            if body.eight > 0 {
                self.unfit(unfit);
            } else if body.transfer == Transfer::Raw {
                self.write(body.field, SEVEN_BIT);
            }
            return;
        }
        let encode = body.eight > 0 || body.transfer == Transfer::Raw && body.longest > MAX_LINE;
        if !encode {
            if body.transfer == Transfer::Raw {
                self.write(body.field, SEVEN_BIT);
            }
            return;
        }
        let legible = body.treatment == Treatment::Text && body.eight.saturating_mul(MOSTLY) <= length;
        let (encoding, text) = if legible { (Encoding::QuotedPrintable, QUOTED) } else { (Encoding::Base64, BASE64) };
        if let Some(at) = body.unversioned {
            self.write((at, at), MIME_VERSION);
        }
        match body.unnamed {
            None => {}
            Some(Guess::Utf8) => self.write((body.field.0, body.field.0), UTF8),
            Some(Guess::Unknown) => self.write((body.field.0, body.field.0), UNKNOWN),
        }
        self.write(body.field, text);
        self.edits.push(Edit { begin: body.begin, end, change: Change::Encode(encoding, behind) });
    }

    fn write(&mut self, (begin, end): (u64, u64), text: &'static str) {
        self.edits.push(Edit { begin, end, change: Change::Write(text) });
    }
}

impl Line {
    /// `whole`: it belongs to a header, of which all is kept.
    fn push(&mut self, slice: &[u8], whole: bool) {
        self.length += slice.len() as u64;
        self.eight += slice.iter().filter(|byte| !byte.is_ascii()).count() as u64;
        let most = if whole { header::MAX_HEADER + 1 } else { MAX_KEPT };
        let room = most.saturating_sub(self.kept.len()).min(slice.len());
        self.kept.extend_from_slice(&slice[..room]);
    }
}

impl Body {
    fn take(&mut self, line: &Line) {
        self.eight += line.eight;
        self.longest = self.longest.max(line.length.saturating_sub(2));
        // No character goes over a line break.
        let legible = line.eight == 0 || line.kept.len() as u64 == line.length && std::str::from_utf8(&line.kept).is_ok();
        if self.unnamed.is_some() && !legible {
            self.unnamed = Some(Guess::Unknown);
        }
    }
}

/// What a header tells of the part.
#[derive(Debug, Default)]
struct Found {
    kind: Option<Kind>,
    /// begin, end and meaning of Content-Transfer-Encoding
    encoding: Option<(usize, usize, Transfer)>,
    versioned: bool,
}

impl Found {
    /// `None`: there are lines that are no fields, or two fields of which one only may be.
    fn read(text: &[u8]) -> Option<Found> {
        let mut found = Found::default();
        let mut at = 0;
        for field in header::fields(text) {
            at = field.range.end;
            if field.is("Content-Type") {
                found.kind.replace(content::kind(field.value())).is_none().then_some(())?;
            } else if field.is("Content-Transfer-Encoding") {
                let encoding = (field.range.start, field.range.end, content::transfer(field.value()));
                found.encoding.replace(encoding).is_none().then_some(())?;
            } else if field.is("MIME-Version") {
                found.versioned = true;
            }
        }
        (text.get(at..) == Some(b"\r\n")).then_some(found)
    }
}

/// The domains of DKIM-Signature fields (RFC 6376 section 3.5).
fn signers(text: &[u8]) -> Vec<Domain> {
    let signatures = header::fields(text).filter(|field| field.is("DKIM-Signature")).take(MAX_SIGNERS);
    signatures.filter_map(|field| signer(&field)).collect()
}

fn signer(field: &Field<'_>) -> Option<Domain> {
    let line = field.unfolded();
    let tags = line.split(|byte| *byte == b';').filter_map(|tag| {
        let at = tag.iter().position(|byte| *byte == b'=')?;
        Some((tag[..at].trim_ascii(), tag[at + 1..].trim_ascii()))
    });
    let domain = tags.into_iter().find_map(|(name, value)| (name == b"d").then_some(value))?;
    Domain::parse(std::str::from_utf8(domain).ok()?).ok()
}
