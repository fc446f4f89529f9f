//! Messages for a server without 8BITMIME: every file of `tests/recode/`, and random trees of parts that must still say the
//! same. The reader of the second test is not the program's: it splits at the boundaries and decodes in the simplest way.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::Path;

use pipit::mail::recode::Recoder;
use pipit::mail::recode::Survey;
use pipit::mail::recode::Unfit;

/// Fewer files than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 30;
const ROUNDS: u64 = 3_000;

/// The message as a server without 8BITMIME gets it, read and written in slices of `size` octets.
fn recoded(message: &[u8], size: usize) -> Result<Vec<u8>, Unfit> {
    let mut survey = Survey::new();
    message.chunks(size).for_each(|slice| survey.push(slice));
    let plan = survey.finish()?;
    let (mut recoder, mut out) = (Recoder::new(&plan), Vec::new());
    message.chunks(size).for_each(|slice| recoder.push(slice, &mut out));
    assert_eq!(plan.is_empty(), message.is_ascii());
    Ok(out)
}

fn octets(lines: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for line in lines.lines() {
        let mut pieces = line.split("\\x");
        octets.extend_from_slice(pieces.next().unwrap().as_bytes());
        for piece in pieces {
            octets.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            octets.extend_from_slice(&piece.as_bytes()[2..]);
        }
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

fn play(text: &str) -> Result<(), String> {
    let text = text.strip_prefix("in:\n").ok_or("begins with in:")?;
    let (message, expected) = if let Some((message, out)) = text.split_once("\nout:\n") {
        (octets(message), Ok(octets(out)))
    } else if let Some((message, reason)) = text.split_once("\nunfit: ") {
        (octets(message), Err(reason.trim_end().to_owned()))
    } else {
        let message = octets(text.strip_suffix("\nsame:\n").ok_or("no out:, unfit: or same:")?);
        (message.clone(), Ok(message))
    };
    for size in [1, 2, 3, 7, 64, message.len()] {
        let found = recoded(&message, size).map_err(|unfit| unfit.to_string());
        if found != expected {
            let shown = found.map_or_else(|unfit| unfit, |found| String::from_utf8_lossy(&found).into_owned());
            return Err(format!("in slices of {size}:\n{shown}"));
        }
    }
    Ok(())
}

#[test]
fn every_file_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recode");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(files.len() >= AT_LEAST, "only {} files in {}", files.len(), folder.display());
    let played = files.iter().map(|path| (path, play(&std::fs::read_to_string(path).unwrap())));
    let failures: Vec<String> = played.filter_map(|(path, played)| played.err().map(|why| format!("{}: {why}", path.display()))).collect();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), files.len(), failures.join("\n"));
}

#[test]
fn a_line_too_long_is_encoded_if_something_else_is() {
    let message = |eight: &str| {
        let long = "y".repeat(999);
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{eight}\r\n--b\r\nContent-Transfer-Encoding: \
             8bit\r\n\r\n{long}\r\n--b--\r\n"
        )
    };
    let whole = message("x");
    assert_eq!(recoded(whole.as_bytes(), 100).unwrap(), whole.as_bytes());
    let out = String::from_utf8(recoded(message("ü und ASCII").as_bytes(), 100).unwrap()).unwrap();
    assert!(out.lines().all(|line| line.len() <= 76) && out.matches("quoted-printable").count() == 2, "{out}");
}

#[test]
fn numbers_have_their_limits() {
    let many = |count: usize| {
        let parts = "--b\r\n\r\nx\r\n".repeat(count);
        format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b\r\n\r\n\u{fc} and ASCII\r\n--b--\r\n")
    };
    assert!(recoded(many(1_900).as_bytes(), 1000).is_ok());
    assert_eq!(recoded(many(2_000).as_bytes(), 1000), Err(Unfit::TooManyParts));
    let nested = |depth: usize| {
        let begin = |at: usize| format!("Content-Type: multipart/mixed; boundary=b{at}\r\n\r\n--b{at}\r\n");
        let head: String = (0..depth).map(begin).collect();
        let tail: String = (0..depth).rev().map(|at| format!("\r\n--b{at}--\r\n")).collect();
        format!("MIME-Version: 1.0\r\n{head}\r\n\u{fc} and ASCII{tail}")
    };
    assert!(recoded(nested(50).as_bytes(), 1000).is_ok());
    assert_eq!(recoded(nested(51).as_bytes(), 1000), Err(Unfit::TooManyParts));
    let messages = format!("{}\r\n\u{fc}\r\n", "Content-Type: message/rfc822\r\n\r\n".repeat(3_000));
    assert_eq!(recoded(messages.as_bytes(), 1000), Err(Unfit::TooManyParts));
    let header = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: {}\r\n\r\n\u{fc}\r\n--b--\r\n",
        "x".repeat(70_000)
    );
    assert_eq!(recoded(header.as_bytes(), 1000), Err(Unfit::Broken));
}

#[test]
fn signers_are_told() {
    let signers = |header: &str| {
        let mut survey = Survey::new();
        survey.push(header.as_bytes());
        survey.finish().unwrap().signers().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let header = "dkim-signature: v=1; a=rsa-sha256; d=Home.test;\r\n\ts=x; bh=d=; h=from\r\nDKIM-Signature: d = list.test ;s=y\r\nDKIM-Signature: \
        v=1\r\nFrom: a\r\n\r\nDKIM-Signature: d=body.test\r\n";
    assert_eq!(signers(header), ["home.test", "list.test"]);
    assert_eq!(signers("From: a\r\n\r\nx\r\n"), [""; 0]);
}

/// xorshift: the same trees for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        for _ in 0..self.below(6) {
            let words = ["Grüße", "plain", " ", "\t", "=", ".", "--b1", "--b0--", "-", "мир", "日本語", "=C3", "", "x--b1--"];
            for _ in 0..self.below(40) {
                body.extend_from_slice(self.pick(&words).as_bytes());
                // A boundary of the tree must not come about by chance.
                body.extend_from_slice(if self.below(2) == 0 { b"_" } else { b"" });
            }
            body.extend_from_slice(if self.below(3) == 0 { b"\xff\r\n" } else { b"~\r\n" });
        }
        body
    }

    /// A part with its header; `prefix` keeps boundaries apart.
    fn part(&mut self, prefix: &str, depth: u32) -> Vec<u8> {
        let encoding = self.pick(&["", "Content-Transfer-Encoding: 8bit\r\n", "Content-Transfer-Encoding: binary\r\n"]);
        match self.below(if depth == 0 { 2 } else { 5 }) {
            0 | 1 => {
                let kind = self.pick(&["", "Content-Type: text/plain; charset=utf-8\r\n", "Content-Type: image/png\r\n"]);
                let header = if self.below(2) == 0 { format!("{encoding}{kind}\r\n") } else { format!("{kind}{encoding}\r\n") };
                [header.into_bytes(), self.body()].concat()
            }
            2 => {
                let header = format!("{encoding}Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\nSubject: x\r\n");
                [header.into_bytes(), self.part(prefix, depth - 1)].concat()
            }
            _ => {
                let boundary = format!("B{prefix}");
                let mut part = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n{encoding}\r\npreamble\r\n").into_bytes();
                for at in 0..=self.below(3) {
                    part.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                    part.extend_from_slice(&self.part(&format!("{prefix}{at}"), depth - 1));
                    part.extend_from_slice(b"\r\n");
                }
                part.extend_from_slice(format!("--{boundary}--\r\nepilogue\r\n").as_bytes());
                part
            }
        }
    }
}

/// Where `what` stands in `text`.
fn find(text: &[u8], what: &str) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what.as_bytes())
}

/// What a reader finds in a part: headers without their encoding, and bodies decoded.
fn read(part: &[u8], found: &mut Vec<Vec<u8>>) {
    let (header, body) = if part.starts_with(b"\r\n") {
        ("\r\n".to_owned(), &part[2..])
    } else {
        let end = find(part, "\r\n\r\n").unwrap();
        (String::from_utf8(part[..end + 2].to_vec()).unwrap(), &part[end + 4..])
    };
    let (encodings, others): (Vec<&str>, Vec<&str>) = header.lines().partition(|line| line.starts_with("Content-Transfer-Encoding"));
    found.push(others.join("\r\n").trim().as_bytes().to_vec());
    let encoding = encodings.first().copied().unwrap_or_default();
    if header.contains("message/rfc822") {
        assert!(!encoding.ends_with('4') && !encoding.ends_with('e'));
        return read(body, found);
    }
    let Some((_, boundary)) = header.split_once("boundary=\"") else {
        return found.push(match encoding.rsplit(' ').next().unwrap() {
            "quoted-printable" => unquoted(body),
            "base64" => unbased(body),
            _ => body.to_vec(),
        });
    };
    let boundary = boundary.split('"').next().unwrap();
    let all = [b"\r\n", body].concat();
    let mut rest = all.as_slice();
    let begin = find(rest, &format!("\r\n--{boundary}\r\n")).unwrap();
    found.push(rest[..begin].to_vec());
    rest = &rest[begin..];
    while let Some(behind) = rest.strip_prefix(format!("\r\n--{boundary}\r\n").as_bytes()) {
        let next = [find(behind, &format!("\r\n--{boundary}\r\n")), find(behind, &format!("\r\n--{boundary}--\r\n"))];
        let end = next.into_iter().flatten().min().unwrap();
        read(&behind[..end], found);
        rest = &behind[end..];
    }
    found.push(rest.to_vec());
}

fn unquoted(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).unwrap().replace("=\r\n", "");
    let mut pieces = text.split('=');
    let mut out = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    out
}

fn unbased(body: &[u8]) -> Vec<u8> {
    let digits = |byte: &u8| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".bytes().position(|other| other == *byte);
    let bits: Vec<usize> = body.iter().filter_map(digits).collect();
    let mut out = Vec::new();
    for four in bits.chunks(4) {
        let value = four.iter().enumerate().fold(0, |value, (at, six)| value | six << (18 - 6 * at));
        out.extend_from_slice(&[(value >> 16) as u8, (value >> 8) as u8, value as u8][..four.len() - 1]);
    }
    out
}

#[test]
fn random_trees_say_the_same_afterwards() {
    let (mut changed, mut encoded) = (0, 0);
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut message = b"From: a@x.org\r\nMIME-Version: 1.0\r\n".to_vec();
        message.extend_from_slice(&dice.part("0", 3));
        if !message.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
        let size = usize::try_from(1 + dice.below(200)).unwrap();
        let out = recoded(&message, size).unwrap_or_else(|unfit| panic!("seed {seed}: {unfit}\n{}", String::from_utf8_lossy(&message)));
        assert!(out.is_ascii(), "seed {seed}");
        let (mut before, mut after) = (Vec::new(), Vec::new());
        read(&message, &mut before);
        read(&out, &mut after);
        // A text that says nothing of itself is named.
        let name = |text: &[u8]| {
            String::from_utf8_lossy(text)
                .replace("\r\nContent-Type: text/plain; charset=utf-8", "")
                .replace("\r\nContent-Type: text/plain; charset=unknown-8bit", "")
        };
        let alike = before.len() == after.len() && before.iter().zip(&after).all(|(one, other)| one == other || name(one) == name(other));
        assert!(alike, "seed {seed}:\n{}\nbecame\n{}", String::from_utf8_lossy(&message), String::from_utf8_lossy(&out));
        assert_eq!(recoded(&out, 50).unwrap(), out, "seed {seed}: what has 7 bits stays");
        changed += usize::from(out != message);
        encoded += String::from_utf8(out).unwrap().matches("base64").count();
    }
    assert!(changed > 1_000 && encoded > 1_000, "{changed} messages were changed, {encoded} parts base64");
}
