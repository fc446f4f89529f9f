//! Reads mail from maildir folders, mbox files and single messages, as frames for `mail import`.
//!
//! Out come batches of at most `BATCH` octets (or one larger message), so that memory stays bounded and a refused
//! batch says where it stopped. Line ends become CRLF; `>From ` of mboxrd loses one `>`.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use nanoserde::SerJson;

use crate::admin::wire::ImportFrame;

/// Octets of one request to the server.
const BATCH: usize = 8 << 20;
/// A larger single message is no mail; the file is probably not a mailbox at all.
const LARGEST: usize = 256 << 20;

/// Frames ready to be sent.
#[derive(Default)]
pub struct Batch {
    pub octets: Vec<u8>,
    pub messages: u64,
}

/// Reads all of `path` and hands over batches as they fill.
pub fn read(path: &Path, send: &mut impl FnMut(Batch) -> io::Result<()>) -> io::Result<()> {
    let mut gather = Gather { batch: Batch::default(), send };
    if path.is_dir() {
        maildir(path, &mut gather)?;
    } else {
        let mut lines = BufReader::new(File::open(path)?);
        if lines.fill_buf()?.starts_with(b"From ") { mbox(&mut lines, &mut gather)? } else { single(path, Vec::new(), &mut gather)? }
    }
    gather.finish()
}

struct Gather<'s, S> {
    batch: Batch,
    send: &'s mut S,
}

impl<S: FnMut(Batch) -> io::Result<()>> Gather<'_, S> {
    fn add(&mut self, message: &[u8], flags: Vec<String>, received: Option<i64>) -> io::Result<()> {
        let frame = ImportFrame { bytes: message.len() as u64, flags, received };
        self.batch.octets.extend_from_slice(frame.serialize_json().as_bytes());
        self.batch.octets.push(b'\n');
        self.batch.octets.extend_from_slice(message);
        self.batch.messages += 1;
        if self.batch.octets.len() >= BATCH { (self.send)(std::mem::take(&mut self.batch)) } else { Ok(()) }
    }

    fn finish(self) -> io::Result<()> {
        if self.batch.messages == 0 { Ok(()) } else { (self.send)(self.batch) }
    }
}

/// `cur` and `new` of a maildir, in the order of their names (which begin with the time of delivery).
fn maildir<S: FnMut(Batch) -> io::Result<()>>(path: &Path, gather: &mut Gather<'_, S>) -> io::Result<()> {
    if !path.join("cur").is_dir() && !path.join("new").is_dir() {
        let text = format!("{} is a folder without cur or new: no maildir", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for folder in ["cur", "new"] {
        let Ok(entries) = fs::read_dir(path.join(folder)) else { continue };
        let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| file.is_file()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            single(&file, maildir_flags(&name), gather)?;
        }
    }
    Ok(())
}

fn maildir_flags(name: &str) -> Vec<String> {
    let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
    let known = [('S', "\\Seen"), ('R', "\\Answered"), ('F', "\\Flagged"), ('T', "\\Deleted"), ('D', "\\Draft")];
    known.iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, word)| (*word).to_string()).collect()
}

fn single<S: FnMut(Batch) -> io::Result<()>>(path: &Path, flags: Vec<String>, gather: &mut Gather<'_, S>) -> io::Result<()> {
    let facts = fs::metadata(path)?;
    if facts.len() > LARGEST as u64 {
        return Err(too_large(&path.display().to_string()));
    }
    let mut message = Vec::new();
    for line in fs::read(path)?.split_inclusive(|byte| *byte == b'\n') {
        push_line(&mut message, line);
    }
    gather.add(&message, flags, Some(facts.mtime()))
}

fn too_large(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name}: a message of more than {} MiB is not imported", LARGEST >> 20))
}

fn push_line(message: &mut Vec<u8>, line: &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    message.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
    message.extend_from_slice(b"\r\n");
}

/// A message begins with a `From ` line at the start of the file or behind an empty line (RFC 4155).
fn mbox<S: FnMut(Batch) -> io::Result<()>>(lines: &mut impl BufRead, gather: &mut Gather<'_, S>) -> io::Result<()> {
    let (mut message, mut line, mut after_empty, mut begun) = (Vec::new(), Vec::new(), true, false);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line)?;
        let separator = after_empty && line.starts_with(b"From ");
        if (separator || read == 0) && begun {
            // The empty line before the separator belongs to the mailbox, not to the message.
            let end = message.strip_suffix(b"\r\n\r\n").map_or(message.len(), |rest| rest.len() + 2);
            gather.add(&message[..end], Vec::new(), None)?;
            message.clear();
        }
        if read == 0 {
            return Ok(());
        }
        if separator {
            begun = true;
            continue;
        }
        after_empty = line == b"\n" || line == b"\r\n";
        let quoted = line.iter().take_while(|byte| **byte == b'>').count();
        let text = if quoted > 0 && line[quoted..].starts_with(b"From ") { &line[1..] } else { &line[..] };
        push_line(&mut message, text);
        if message.len() > LARGEST {
            return Err(too_large("mbox"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(text: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut send = |batch: Batch| {
            let mut rest = &batch.octets[..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let frame: ImportFrame = nanoserde::DeJson::deserialize_json(std::str::from_utf8(&rest[..end]).unwrap()).unwrap();
                let length = usize::try_from(frame.bytes).unwrap();
                found.push(rest[end + 1..end + 1 + length].to_vec());
                rest = &rest[end + 1 + length..];
            }
            Ok(())
        };
        let mut gather = Gather { batch: Batch::default(), send: &mut send };
        mbox(&mut &text[..], &mut gather).unwrap();
        gather.finish().unwrap();
        found
    }

    #[test]
    fn an_mbox_is_split_where_a_message_begins() {
        let text = b"From a@x Mon\nSubject: 1\n\n>From here\n>>From there\nFrom inside\n\nFrom b@x Tue\nSubject: 2\n\nbody\n";
        let found = frames(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], b"Subject: 1\r\n\r\nFrom here\r\n>From there\r\nFrom inside\r\n");
        assert_eq!(found[1], b"Subject: 2\r\n\r\nbody\r\n");
    }

    #[test]
    fn maildir_names_tell_flags() {
        assert_eq!(maildir_flags("1.2.host:2,FS"), ["\\Seen", "\\Flagged"]);
        assert!(maildir_flags("1.2.host").is_empty());
    }
}
