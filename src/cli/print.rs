//! Rows for people: aligned columns, one message for a terminal; or untouched JSON lines with `--json`.
//!
//! Text of messages is somebody else's: control characters never reach the terminal.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use nanoserde::DeJson;

use crate::admin::wire::AliasRow;
use crate::admin::wire::AppPassRow;
use crate::admin::wire::MailRow;
use crate::admin::wire::OctetsHead;
use crate::admin::wire::StatusRow;
use crate::admin::wire::TableRow;
use crate::admin::wire::TextRow;
use crate::admin::wire::UserRow;
use crate::cli::ask::Listener;
use crate::cli::dns;
use crate::cli::queue;

/// Widest cell of a column; what is longer is cut with an ellipsis.
const WIDEST: usize = 44;

/// Which rows a command answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Mail,
    Users,
    AppPasswords,
    Aliases,
    Tables,
    Anchors,
    Text,
    Status,
    Queue,
    Steered,
    Holds,
}

/// JSON lines as they come.
pub struct Lines;

impl Listener for Lines {
    fn line(&mut self, json: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{json}")
    }

    fn octets(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }
}

/// Gathers rows of one kind; `finish` prints them with aligned columns.
pub struct Columns {
    rows: Rows,
    cells: Vec<Vec<String>>,
}

impl Columns {
    pub fn new(rows: Rows) -> Columns {
        Columns { rows, cells: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Prints what was gathered; an empty listing says so on stderr, so that scripts see an empty stdout.
    pub fn finish(self, nothing: &str) -> io::Result<()> {
        if self.cells.is_empty() {
            eprintln!("{nothing}");
            return Ok(());
        }
        let head: &[&str] = match self.rows {
            Rows::Mail => &["ID", "MAILBOX", "RECEIVED", "SIZE", "FROM", "SUBJECT", "TLS"],
            Rows::Users => &["ADDRESS", "MESSAGES", "OCTETS", "CREATED"],
            Rows::AppPasswords => &["NAME", "CREATED"],
            Rows::Aliases => &["ADDRESS", "TO"],
            Rows::Tables => &["TABLE", "ROWS", "OCTETS"],
            Rows::Anchors => &dns::ANCHOR_HEAD,
            Rows::Queue => &queue::QUEUE_HEAD,
            Rows::Steered => &queue::STEERED_HEAD,
            Rows::Holds => &queue::HOLD_HEAD,
            Rows::Text | Rows::Status => &[],
        };
        let mut table = Vec::with_capacity(self.cells.len() + 1);
        if !head.is_empty() {
            table.push(head.iter().map(ToString::to_string).collect());
        }
        table.extend(self.cells);
        print_table(&table)
    }
}

fn print_table(table: &[Vec<String>]) -> io::Result<()> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = io::stdout().lock();
    for row in table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One line, no control characters.
pub(super) fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One line, no control characters, not wider than a column.
pub(super) fn cell(text: &str) -> String {
    let safe = safe(text);
    if safe.chars().count() <= WIDEST {
        return safe;
    }
    safe.chars().take(WIDEST - 1).chain(['…']).collect()
}

pub(super) fn parsed<T: DeJson>(json: &str) -> io::Result<T> {
    T::deserialize_json(json).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {error}")))
}

impl Listener for Columns {
    fn line(&mut self, json: &str) -> io::Result<()> {
        let cells = match self.rows {
            Rows::Mail => {
                let row: MailRow = parsed(json)?;
                let tls = if row.tls.is_empty() { "no".to_string() } else { row.tls };
                vec![row.id.to_string(), cell(&row.mailbox), row.received, row.size.to_string(), cell(&row.from), cell(&row.subject), tls]
            }
            Rows::Users => {
                let row: UserRow = parsed(json)?;
                vec![row.address, row.messages.to_string(), row.bytes.to_string(), row.created]
            }
            Rows::AppPasswords => {
                let row: AppPassRow = parsed(json)?;
                vec![cell(&row.name), row.created]
            }
            Rows::Aliases => {
                let row: AliasRow = parsed(json)?;
                vec![row.address, row.to.join(", ")]
            }
            Rows::Tables => {
                let row: TableRow = parsed(json)?;
                vec![row.table, row.rows.to_string(), row.bytes.to_string()]
            }
            Rows::Text => vec![parsed::<TextRow>(json)?.text],
            Rows::Anchors => dns::anchor_cells(json)?,
            Rows::Queue => queue::queue_cells(json)?,
            Rows::Steered => queue::steered_cells(json)?,
            Rows::Holds => queue::hold_cells(json)?,
            Rows::Status => return status(&parsed(json)?, &mut self.cells),
        };
        self.cells.push(cells);
        Ok(())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn status(row: &StatusRow, cells: &mut Vec<Vec<String>>) -> io::Result<()> {
    let mut fact = |name: &str, value: String| cells.push(vec![name.to_string(), value]);
    fact("version", row.version.clone());
    fact("host", row.hostname.clone());
    fact("directory", row.dir.clone());
    if !row.started.is_empty() {
        fact("running", format!("since {} as process {}", row.started, row.pid));
        fact("listening", row.listening.join(", "));
        fact("sessions", row.sessions.to_string());
        fact("received", format!("{} messages since the start", row.received));
        fact("memory", format!("{} KiB", row.resident_bytes / 1024));
    }
    fact("domains", row.domains.join(", "));
    fact("accounts", format!("{} with {} messages", row.accounts, row.stored_messages));
    fact("queue", queue_words(row));
    fact("disk", format!("{} MiB free", row.disk_available_bytes >> 20));
    fact("clock", format!("{}, {}", row.now, row.clock));
    for upstream in &row.upstreams {
        fact("resolver", dns::upstream_words(upstream));
    }
    for anchor in &row.anchors {
        fact("anchor", dns::anchor_words(anchor));
    }
    for note in &row.notes {
        fact("note", note.clone());
    }
    if row.problems.is_empty() {
        fact("problems", "none".into());
    }
    for problem in &row.problems {
        fact("problem", problem.clone());
    }
    Ok(())
}

/// `1 message`, `2 messages`.
pub(in crate::cli) fn counted(n: u64, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

fn queue_words(row: &StatusRow) -> String {
    match (row.queued_messages, row.held_recipients) {
        (0, _) => "empty".into(),
        (messages, held) => {
            format!(
                "{} for {}, {held} of them held; the oldest since {}",
                counted(messages, "message", "messages"),
                counted(row.queued_recipients, "recipient", "recipients"),
                row.queue_oldest
            )
        }
    }
}

/// A new app password: it alone on stdout, the advice beside it.
pub struct ShownOnce;

impl Listener for ShownOnce {
    fn line(&mut self, json: &str) -> io::Result<()> {
        let row: AppPassRow = parsed(json)?;
        eprintln!("the password for {} – it is shown this once:", cell(&row.name));
        writeln!(io::stdout().lock(), "{}", row.password.unwrap_or_default())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// `mail show`: facts and text for a terminal.
pub struct Readable {
    line: Vec<u8>,
}

impl Readable {
    pub fn new() -> Readable {
        Readable { line: Vec::new() }
    }

    /// Prints a last line that has no end of its own.
    pub fn finish(mut self) -> io::Result<()> {
        if self.line.is_empty() { Ok(()) } else { self.print_line() }
    }

    fn print_line(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.line);
        let safe: String = text.trim_end_matches('\r').chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        self.line.clear();
        writeln!(io::stdout().lock(), "{safe}")
    }
}

impl Default for Readable {
    fn default() -> Self {
        Readable::new()
    }
}

impl Listener for Readable {
    fn line(&mut self, json: &str) -> io::Result<()> {
        // The row of facts comes first, the head of the octets second; the octets say the rest themselves.
        if json.starts_with("{\"bytes\":") {
            return Ok(());
        }
        let row: MailRow = parsed(json)?;
        let tls = if row.tls.is_empty() { "none".to_string() } else { row.tls };
        let mut out = io::stdout().lock();
        for (name, value) in [("from", &row.from), ("to", &row.to), ("subject", &row.subject), ("received", &row.received), ("tls", &tls)] {
            writeln!(out, "{name:9} {}", value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())?;
        }
        writeln!(out)
    }

    fn octets(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            if *byte == b'\n' {
                self.print_line()?;
            } else {
                self.line.push(*byte);
            }
        }
        Ok(())
    }
}

/// `mail show --raw`: the octets alone.
pub struct Raw;

impl Listener for Raw {
    fn line(&mut self, _json: &str) -> io::Result<()> {
        Ok(())
    }

    fn octets(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }
}

/// `mail export`: one file a message, `DIR/MAILBOX-ID.eml`.
pub struct Files {
    dir: PathBuf,
    current: Option<std::fs::File>,
    left: u64,
    pub written: u64,
}

impl Files {
    pub fn new(dir: PathBuf) -> Files {
        Files { dir, current: None, left: 0, written: 0 }
    }
}

impl Listener for Files {
    fn line(&mut self, json: &str) -> io::Result<()> {
        let head: OctetsHead = parsed(json)?;
        let mailbox: String = head.mailbox.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let path = self.dir.join(format!("{mailbox}-{}.eml", head.id));
        // A file that is there is somebody's work: never overwritten.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        self.current = Some(file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?);
        self.left = head.bytes;
        Ok(())
    }

    fn octets(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.current {
            file.write_all(bytes)?;
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left == 0 && self.current.take().is_some() {
            self.written += 1;
        }
        Ok(())
    }
}
