//! Octets as quoted-printable and base64 (RFC 2045 sections 6.7 and 6.8), in slices, in lines of at most 76 characters.
//!
//! In go the octets of a body with CRLF between its lines; out come ASCII lines that decode to the very same octets.
//! Between two slices stand at most 57 octets here.

/// Octets of a line of base64: 76 characters.
const LINE_OCTETS: usize = 57;
/// Characters of a line of quoted-printable before its soft break, which is the 76th.
const LINE_LETTERS: usize = 75;
const HEX: &[u8; 16] = b"0123456789ABCDEF";
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    QuotedPrintable,
    Base64,
}

/// What stands behind the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// the line break that belongs to a boundary
    Boundary,
    /// nothing: the message must end in a line break of its own
    End,
}

/// Encodes one body.
#[derive(Debug)]
pub enum Encoder {
    QuotedPrintable(Quoting),
    Base64(Lines),
}

impl Encoder {
    pub fn new(encoding: Encoding) -> Encoder {
        match encoding {
            Encoding::QuotedPrintable => Encoder::QuotedPrintable(Quoting::default()),
            Encoding::Base64 => Encoder::Base64(Lines::default()),
        }
    }

    pub fn push(&mut self, slice: &[u8], out: &mut Vec<u8>) {
        match self {
            Encoder::QuotedPrintable(quoting) => slice.iter().for_each(|byte| quoting.push(*byte, out)),
            Encoder::Base64(lines) => lines.push(slice, out),
        }
    }

    pub fn finish(self, behind: Behind, out: &mut Vec<u8>) {
        match self {
            Encoder::QuotedPrintable(quoting) => quoting.finish(out),
            Encoder::Base64(lines) => lines.finish(behind, out),
        }
    }
}

/// Quoted-printable under way.
#[derive(Debug, Default)]
pub struct Quoting {
    /// characters in the line
    column: usize,
    /// a blank that must not end a line
    blank: Option<u8>,
    /// a CR whose LF has not come
    cr: bool,
}

impl Quoting {
    fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.cr) {
            if byte == b'\n' {
                self.end_blank(out);
                out.extend_from_slice(b"\r\n");
                self.column = 0;
                return;
            }
            self.keep_blank(out);
            self.escaped(b'\r', out);
        }
        match byte {
            b'\r' => self.cr = true,
            b' ' | b'\t' => {
                self.keep_blank(out);
                self.blank = Some(byte);
            }
            b'=' | 0..=32 | 127..=255 => {
                self.keep_blank(out);
                self.escaped(byte, out);
            }
            // A line that begins behind a soft break must not look like a boundary.
            b'-' => {
                self.keep_blank(out);
                if self.column == LINE_LETTERS {
                    self.escaped(byte, out);
                } else {
                    self.token(&[byte], out);
                }
            }
            _ => {
                self.keep_blank(out);
                self.token(&[byte], out);
            }
        }
    }

    /// Something follows the blank in its line.
    fn keep_blank(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.token(&[blank], out);
        }
    }

    /// The line ends behind the blank, where others would strip it.
    fn end_blank(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.escaped(blank, out);
        }
    }

    fn escaped(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.token(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]], out);
    }

    fn token(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if self.column + token.len() > LINE_LETTERS {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        out.extend_from_slice(token);
        self.column += token.len();
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        if self.cr {
            self.keep_blank(out);
            self.escaped(b'\r', out);
        }
        self.end_blank(out);
    }
}

/// Base64 under way.
#[derive(Debug, Default)]
pub struct Lines {
    /// octets of the line that is not full
    held: Vec<u8>,
    /// a line stands before it
    begun: bool,
}

impl Lines {
    fn push(&mut self, mut slice: &[u8], out: &mut Vec<u8>) {
        while !slice.is_empty() {
            let take = (LINE_OCTETS - self.held.len()).min(slice.len());
            let (now, later) = slice.split_at(take);
            self.held.extend_from_slice(now);
            slice = later;
            if self.held.len() == LINE_OCTETS {
                self.line(out);
            }
        }
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(b"\r\n");
        }
        for three in self.held.chunks(3) {
            let octet = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
            for at in 0..4 {
                let index = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or(0);
                out.push(if at as usize <= three.len() { LETTERS[index] } else { b'=' });
            }
        }
        self.held.clear();
    }

    fn finish(mut self, behind: Behind, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.line(out);
        }
        if self.begun && behind == Behind::End {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoding: Encoding, text: &[u8]) -> String {
        let whole = in_slices(encoding, text, text.len().max(1));
        assert_eq!(in_slices(encoding, text, 1), whole);
        assert!(whole.split("\r\n").all(|line| line.len() <= 76), "{whole}");
        whole
    }

    fn in_slices(encoding: Encoding, text: &[u8], size: usize) -> String {
        let (mut encoder, mut out) = (Encoder::new(encoding), Vec::new());
        text.chunks(size).for_each(|slice| encoder.push(slice, &mut out));
        encoder.finish(Behind::Boundary, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quoted_printable_keeps_what_may_stand() {
        for (text, expected) in [
            ("Grüße = x\r\n", "Gr=C3=BC=C3=9Fe =3D x\r\n"),
            ("end \r\ntab\t\r\n \r\n", "end=20\r\ntab=09\r\n=20\r\n"),
            ("last ", "last=20"),
            ("two  ", "two =20"),
            ("a \r b\n\r\n", "a =0D b=0A\r\n"),
            ("x\r", "x=0D"),
            (".\r\n--x\r\n", ".\r\n--x\r\n"),
            ("\r\n\r\n", "\r\n\r\n"),
            ("", ""),
        ] {
            assert_eq!(encoded(Encoding::QuotedPrintable, text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn long_lines_break_softly_and_never_into_a_boundary() {
        let line = "a".repeat(75);
        assert_eq!(encoded(Encoding::QuotedPrintable, line.as_bytes()), line);
        assert_eq!(encoded(Encoding::QuotedPrintable, format!("{line}--x").as_bytes()), format!("{line}=\r\n=2D-x"));
        assert_eq!(encoded(Encoding::QuotedPrintable, format!("{line} \r\n").as_bytes()), format!("{line}=\r\n=20\r\n"));
        let umlauts = encoded(Encoding::QuotedPrintable, "ä".repeat(30).as_bytes());
        assert_eq!(umlauts.split("=\r\n").map(str::len).collect::<Vec<_>>(), [75, 75, 30]);
    }

    #[test]
    fn base64_has_lines_of_76() {
        for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encoded(Encoding::Base64, text.as_bytes()), expected);
        }
        let long = encoded(Encoding::Base64, &[0xff; 58]);
        assert_eq!(long, format!("{}\r\n/w==", "/".repeat(76)));
        let mut out = Vec::new();
        let mut encoder = Encoder::new(Encoding::Base64);
        encoder.push(b"foo", &mut out);
        encoder.finish(Behind::End, &mut out);
        assert_eq!(out, b"Zm9v\r\n");
    }
}
