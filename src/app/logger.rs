//! Log lines on stderr: `2026-11-23T16:43:14Z INFO inbound: message …`, or with journald's priority instead of the time.
//!
//! One line an event; control characters of strangers are escaped, so that nobody writes lines into our log.

use std::io::Write;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use log::Level;
use log::LevelFilter;
use log::Log;
use log::Metadata;
use log::Record;

use crate::mail::date::UnixTime;

/// Longest line (`reliability.md`, "Message intake").
const MAX_LINE: usize = 512;

struct Logger {
    form: Form,
}

enum Form {
    Timed,
    /// under systemd, which adds the time itself: `<6>text`
    Journal,
}

/// Installs the logger once; later calls change the level only.
pub fn install(level: LevelFilter) {
    let form = if std::env::var_os("JOURNAL_STREAM").is_some() { Form::Journal } else { Form::Timed };
    // A second installation fails, which leaves the first one as it is.
    let _ = log::set_boxed_logger(Box::new(Logger { form }));
    log::set_max_level(level);
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Characters that end a line, move the cursor, or show text in another order than it stands.
fn is_deceptive(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One line: escaped and bounded.
fn line(form: &Form, now: UnixTime, level: Level, target: &str, text: &str) -> String {
    let place = target.strip_prefix("pipit::").unwrap_or(target).split("::").next().unwrap_or("");
    let mut line = match form {
        Form::Timed => format!("{now} {level:<5} {place}: "),
        Form::Journal => format!("<{}>{place}: ", priority(level)),
    };
    for c in text.chars() {
        if line.len() >= MAX_LINE - 4 {
            line.push('…');
            break;
        }
        if is_deceptive(c) { line.extend(c.escape_unicode()) } else { line.push(c) }
    }
    line.push('\n');
    line
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The program's own words; crates speak only of trouble.
        metadata.target().starts_with("pipit") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = UnixTime(i64::try_from(seconds).unwrap_or(0));
        let line = line(&self.form, now, record.level(), record.target(), &record.args().to_string());
        // A log that cannot be written must not stop the mail.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_write_no_lines() {
        let text = line(&Form::Timed, UnixTime(0), Level::Info, "pipit::inbound::serve", "from \u{1b}[2J\r\nforged\u{202e}");
        assert_eq!(text, "1970-01-01T00:00:00Z INFO  inbound: from \\u{1b}[2J\\u{d}\\u{a}forged\\u{202e}\n");
        let long = line(&Form::Journal, UnixTime(0), Level::Warn, "pipit::app", &"x".repeat(2000));
        assert!(long.starts_with("<4>app: x") && long.len() <= MAX_LINE, "{}", long.len());
    }
}
