//! Tests of `smtp::dot`: every way to smuggle an end, split at every place into packets, against a simple oracle.
//!
//! The oracle reads the whole input at once and slowly; a new form of smuggling is a row of `BREAKS`.

use super::*;

/// The obvious reading of the whole input at once: message, octets consumed, faults. `None` if there is no end.
fn oracle(input: &[u8]) -> Option<(Vec<u8>, usize, Faults)> {
    let end = if input.starts_with(b".\r\n") { 0 } else { input.windows(5).position(|five| five == b"\r\n.\r\n")? + 2 };
    let data = &input[..end];
    let mut message = Vec::new();
    let mut faults = Faults::default();
    for (at, byte) in data.iter().enumerate() {
        let begins_line = at == 0 || data[..at].ends_with(b"\r\n");
        if *byte == b'.' && begins_line {
            continue;
        }
        message.push(*byte);
        faults.nul |= *byte == 0;
        faults.bare_lf |= *byte == b'\n' && !data[..at].ends_with(b"\r");
        faults.bare_cr |= *byte == b'\r' && data.get(at + 1) != Some(&b'\n');
    }
    Some((message, end + 3, faults))
}

/// Feeds `input` cut at the places of `cuts`.
fn unstuff(input: &[u8], cuts: &[usize]) -> (Vec<u8>, usize, Faults, bool) {
    let mut unstuffer = Unstuffer::new();
    let mut message = Vec::new();
    let mut consumed = 0;
    let mut begin = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let mut progress = Progress { consumed: 0, done: false };
        if begin < end {
            progress = unstuffer.push(&input[begin..end], &mut |slice| {
                assert!(!slice.is_empty());
                message.extend_from_slice(slice);
            });
        }
        consumed += progress.consumed;
        if progress.done {
            return (message, consumed, unstuffer.faults(), true);
        }
        assert_eq!(progress.consumed, end - begin, "everything before the end is consumed");
        begin = end;
    }
    (message, consumed, unstuffer.faults(), false)
}

fn check(input: &[u8]) {
    let expected = oracle(input);
    for first in 0..=input.len() {
        for second in first..=input.len() {
            let (message, consumed, faults, done) = unstuff(input, &[first, second]);
            let shown = input.escape_ascii();
            match &expected {
                Some(expected) => assert_eq!((&message, &consumed, &faults), (&expected.0, &expected.1, &expected.2), "{shown}"),
                None => assert_eq!(consumed, input.len(), "{shown}"),
            }
            assert_eq!(done, expected.is_some(), "{shown}");
        }
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(unstuff(input, &every).3, expected.is_some());
}

/// What may stand on either side of a dot; most of these were an end of data for some server (SMTP smuggling, 2023).
const BREAKS: [&str; 12] = ["\r\n", "\n", "\r", "\n\r", "\0", "\r\n\0", "\0\r\n", "\r\0\n", "\r\r\n", "\n\n", "", "\r\n."];

#[test]
fn only_crlf_dot_crlf_ends_the_data_however_it_is_split() {
    let mut smuggled = 0;
    for before in BREAKS {
        for after in BREAKS {
            let attempt = format!("a{before}.{after}MAIL FROM:<x>");
            let input = format!("{attempt}\r\n.\r\nQUIT\r\n");
            check(input.as_bytes());
            let (_, consumed, faults, _) = unstuff(input.as_bytes(), &[]);
            let ends_early = consumed < attempt.len();
            assert_eq!(ends_early, attempt.contains("\r\n.\r\n"), "{attempt:?}");
            let odd = attempt[..consumed.min(attempt.len())].replace("\r\n", "").contains(['\r', '\n', '\0']);
            assert_eq!(faults.any(), odd, "{attempt:?}: every odd form is noted");
            smuggled += usize::from(!ends_early);
            // The same directly behind DATA.
            check(format!(".{after}x\r\n.\r\n").as_bytes());
            check(format!("{before}.{after}").as_bytes());
        }
    }
    assert!(smuggled > 120);
}

#[test]
fn every_short_input_agrees_with_the_oracle() {
    let letters = b".\r\n\0a";
    for length in 0..=6u32 {
        for number in 0..letters.len().pow(length) {
            let input: Vec<u8> = (0..length).map(|place| letters[number / letters.len().pow(place) % letters.len()]).collect();
            let expected = oracle(&input);
            for cut in 0..=input.len() {
                let (message, consumed, faults, done) = unstuff(&input, &[cut]);
                assert_eq!(done, expected.is_some(), "{}", input.escape_ascii());
                if let Some(expected) = &expected {
                    assert_eq!((&message, &consumed, &faults), (&expected.0, &expected.1, &expected.2), "{}", input.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn slices_are_long_and_the_end_is_final() {
    let mut unstuffer = Unstuffer::new();
    let mut slices = Vec::new();
    let input = b"Subject: x\r\n\r\nlong text over sixteen octets\r\n..dot\r\n.\r\nQUIT\r\n";
    let progress = unstuffer.push(input, &mut |slice| slices.push(slice.to_vec()));
    assert_eq!(progress, Progress { consumed: input.len() - 6, done: true });
    assert_eq!(slices, [&b"Subject: x\r\n\r\nlong text over sixteen octets\r\n"[..], b".dot\r\n"]);
    assert_eq!(unstuffer.push(b"more", &mut |_| panic!("nothing follows")), Progress { consumed: 0, done: true });
}

#[test]
fn stuffed_data_comes_back_and_what_is_not_canonical_is_refused() {
    for message in ["", "a", "a\r\n", ".", ".\r\n", "..\r\n.a\r\n", "a\r\n.\r\nb\r\n", "\r\n\r\n.\r\n", "a.b\r\n"] {
        for cut in 0..=message.len() {
            let mut wire = Vec::new();
            let mut out = |slice: &[u8]| wire.extend_from_slice(slice);
            let mut stuffer = Stuffer::new();
            stuffer.push(&message.as_bytes()[..cut], &mut out).unwrap();
            stuffer.push(&message.as_bytes()[cut..], &mut out).unwrap();
            stuffer.finish(&mut out).unwrap();
            let (back, consumed, faults, done) = unstuff(&wire, &[]);
            let ended = if message.is_empty() || message.ends_with('\n') { message.to_owned() } else { format!("{message}\r\n") };
            assert_eq!((String::from_utf8(back).unwrap(), consumed, faults, done), (ended, wire.len(), Faults::default(), true));
        }
    }
    for message in ["a\rb", "a\nb", "a\0", "\n", "\r\r\n", ".\n"] {
        assert!(Stuffer::new().push(message.as_bytes(), &mut |_| ()).is_err(), "{message:?}");
    }
    let mut stuffer = Stuffer::new();
    stuffer.push(b"a\r", &mut |_| ()).unwrap();
    assert!(stuffer.finish(&mut |_| ()).is_err());
}

#[test]
fn faults_are_named() {
    assert_eq!(Faults { bare_cr: true, bare_lf: false, nul: true }.to_string(), "bare CR, NUL");
    assert_eq!(Faults::default().to_string(), "nothing");
}
