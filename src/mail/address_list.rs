//! The addresses of To, Cc, Bcc and From, as written (RFC 5322 section 3.4), for programs that let the header name the recipients.
//!
//! In goes a raw field value, folded or not; out come the texts of addresses: names, comments, groups and source routes are
//! left away, quoted local parts stay quoted. `root` without a domain is one of them, what it means is for the caller to say.
//! Bounded and iterative. Not done here: checking the texts (`mail::address`), names for people (`mail::digest`).

/// More addresses in one field are no letter any more (`reliability.md`, "Message intake").
pub const MAX_ADDRESSES: usize = 1_000;

/// The addresses of a field, in order; at most `MAX_ADDRESSES`.
pub fn addresses(value: &[u8]) -> Vec<String> {
    let mut scan = Scan::default();
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        if scan.found.len() >= MAX_ADDRESSES {
            break;
        }
        scan.take(byte, &mut bytes);
    }
    scan.end_address();
    scan.found.truncate(MAX_ADDRESSES);
    scan.found
}

#[derive(Default)]
struct Scan {
    found: Vec<String>,
    /// a phrase or a bare address
    plain: Vec<u8>,
    /// what stands between angle brackets
    angle: Option<Vec<u8>>,
    place: Place,
}

/// Where the scan is.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Plain,
    Angle,
    /// behind `>`: nothing of the address follows
    Behind,
}

impl Scan {
    fn take(&mut self, byte: u8, rest: &mut impl Iterator<Item = u8>) {
        match byte {
            b'"' => self.quoted(rest),
            b'(' => skip_comment(rest),
            b'[' => self.literal(rest),
            b'<' if self.place == Place::Plain => {
                self.place = Place::Angle;
                self.angle = Some(Vec::new());
            }
            b'>' if self.place == Place::Angle => self.place = Place::Behind,
            // A source route: what stands before the colon is history (RFC 5322 section 4.4).
            b':' if self.place == Place::Angle => self.angle = Some(Vec::new()),
            b',' if self.place == Place::Angle => {}
            b',' | b';' => self.end_address(),
            // The name of a group.
            b':' => self.plain.clear(),
            b'\r' | b'\n' => {}
            byte => self.push(byte),
        }
    }

    fn push(&mut self, byte: u8) {
        match (self.place, &mut self.angle) {
            (Place::Plain, _) => self.plain.push(byte),
            (Place::Angle, Some(angle)) if !matches!(byte, b' ' | b'\t') => angle.push(byte),
            _ => {}
        }
    }

    fn quoted(&mut self, rest: &mut impl Iterator<Item = u8>) {
        let put = |scan: &mut Scan, byte: u8| match (scan.place, &mut scan.angle) {
            (Place::Plain, _) => scan.plain.push(byte),
            (Place::Angle, Some(angle)) => angle.push(byte),
            _ => {}
        };
        put(self, b'"');
        while let Some(byte) = rest.next() {
            match byte {
                b'\r' | b'\n' => continue,
                byte => put(self, byte),
            }
            match byte {
                b'\\' => {
                    if let Some(escaped) = rest.next() {
                        put(self, escaped);
                    }
                }
                b'"' => return,
                _ => {}
            }
        }
    }

    /// A domain literal may hold colons.
    fn literal(&mut self, rest: &mut impl Iterator<Item = u8>) {
        self.push(b'[');
        for byte in rest.by_ref() {
            self.push(byte);
            if byte == b']' {
                return;
            }
        }
    }

    fn end_address(&mut self) {
        let plain = std::mem::take(&mut self.plain);
        let text = self.angle.take().unwrap_or(plain);
        self.place = Place::Plain;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if !text.is_empty() {
            self.found.push(text);
        }
    }
}

fn skip_comment(rest: &mut impl Iterator<Item = u8>) {
    let mut depth = 1;
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => drop(rest.next()),
            b'(' => depth += 1,
            b')' if depth == 1 => return,
            b')' => depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_every_dress() {
        let rows: [(&str, &[&str]); 12] = [
            (" ann@home.test", &["ann@home.test"]),
            ("Ann B <ann@home.test>, bob@x.test (Bob, the other)", &["ann@home.test", "bob@x.test"]),
            ("\"B, Ann\" <ann@home.test>,\r\n\tc@d.test", &["ann@home.test", "c@d.test"]),
            ("friends: a@b.test, \"x;y\"@b.test;, d@e.test", &["a@b.test", "\"x;y\"@b.test", "d@e.test"]),
            ("undisclosed-recipients:;", &[]),
            ("root", &["root"]),
            ("root (Cron Daemon)", &["root"]),
            ("<@a.test,@b.test:ann@home.test>", &["ann@home.test"]),
            ("ann@[IPv6:2001:db8::1], b@[192.0.2.1]", &["ann@[IPv6:2001:db8::1]", "b@[192.0.2.1]"]),
            ("\"a \\\" b\"@home.test", &["\"a \\\" b\"@home.test"]),
            ("Ann <ann@home.test> trailing, ,", &["ann@home.test"]),
            ("((nested) x\\)) ann@home.test, <unclosed@x.test", &["ann@home.test", "unclosed@x.test"]),
        ];
        for (value, expected) in rows {
            assert_eq!(addresses(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(addresses("a,".repeat(5_000).as_bytes()).len(), MAX_ADDRESSES);
        assert!(addresses(&[b'('; 100_000]).is_empty());
    }
}
