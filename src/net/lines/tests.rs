//! Lines at every split, in both directions, over memory.

use std::time::Duration;

use smol::future::zip;
use smol::io::AsyncReadExt;

use super::*;
use crate::net::deadline::within;

const MAX: usize = 10;

/// What a conversation reads as, one word a line.
async fn transcript(lines: &mut LineStream) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match lines.next_line(MAX).await.unwrap() {
            LineRead::Line(line) => seen.push(String::from_utf8(line.to_vec()).unwrap()),
            LineRead::TooLong => seen.push("<long>".to_owned()),
            LineRead::Broken => seen.push("<broken>".to_owned()),
            LineRead::Closed => return seen,
        }
    }
}

/// Sends the pieces with a turn for the reader between them.
fn play(pieces: &[&[u8]]) -> Vec<String> {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    let send = async {
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            smol::future::yield_now().await;
        }
        far.close().await.unwrap();
    };
    async_io::block_on(zip(send, transcript(&mut lines))).1
}

const TABLE: [(&[u8], &[&str]); 14] = [
    (b"a\r\nbc\r\n\r\n", &["a", "bc", ""]),
    (b"0123456789\r\nx\r\n", &["0123456789", "x"]),
    (b"0123456789a\r\nx\r\n", &["<long>", "x"]),
    (b"0123456789abcdefghijklmnop\r\nx\r\n", &["<long>", "x"]),
    (b"a\nb\r\nc\r\n", &["<broken>", "c"]),
    (b"a\nb\nc\n", &["<broken>", "<broken>", "<broken>"]),
    (b"a\rb\r\nc\r\n", &["<broken>", "c"]),
    (b"a\r\r\nc\r\n", &["<broken>", "c"]),
    (b"a\0b\r\nc\r\n", &["<broken>", "c"]),
    (b"a\0b\rc\0\r\nd\r\n", &["<broken>", "d"]),
    (b"\n\r\nc\r\n", &["<broken>", "c"]),
    (b"0123456789abcdef\0g\r\nx\r\n", &["<broken>", "x"]),
    (b"0123456789abcdef\nx\r\ny\r\n", &["<broken>", "y"]),
    (b"unfinished", &[]),
];

#[test]
fn lines_read_the_same_at_every_split() {
    for (bytes, expected) in TABLE {
        for split in 0..=bytes.len() {
            let seen = play(&[&bytes[..split], &bytes[split..]]);
            assert_eq!(seen, expected, "{:?} split at {split}", String::from_utf8_lossy(bytes));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(play(&single), expected, "{:?} byte by byte", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_line_that_never_ends_ends_the_connection() {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    let outcome = async_io::block_on(zip(
        async {
            let _ = far.write_all(&vec![b'x'; 2 * MAX_DROPPED]).await;
        },
        async {
            let outcome = lines.next_line(MAX).await.map(|_| ());
            let held = lines.input.capacity();
            drop(lines);
            (outcome, held)
        },
    ))
    .1;
    assert_eq!(outcome.0.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(outcome.1 <= 2 * LINE_CHUNK);
}

#[test]
fn replies_are_written_before_a_read_waits() {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    async_io::block_on(async {
        far.write_all(b"a\r\nb\r\nhalf").await.unwrap();
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"a"));
        assert!(lines.buffered_line_waits());
        lines.queue(b"1\r\n").unwrap();
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"b"));
        assert!(!lines.buffered_line_waits());
        lines.queue(b"2\r\n").unwrap();
        let waiting = within(Duration::from_millis(5), lines.next_line(MAX)).await.map(|_| ());
        assert!(waiting.is_err());
        let mut answers = [0; 6];
        far.read_exact(&mut answers).await.unwrap();
        assert_eq!(&answers, b"1\r\n2\r\n");
        // The wait was dropped half-way; the half line is still there.
        far.write_all(b"\r\n").await.unwrap();
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"half"));
    });
}

#[test]
fn raw_bytes_and_counted_bytes_end_where_lines_go_on() {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    async_io::block_on(async {
        far.write_all(b"DATA\r\nbare\nlf\0.QUIT\r\nfourrest\r\n").await.unwrap();
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"DATA"));
        let raw = lines.fill_buf().await.unwrap();
        assert_eq!(&raw[..9], b"bare\nlf\0.");
        lines.consume(9);
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"QUIT"));
        assert_eq!(lines.exact(4).await.unwrap(), b"four");
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"rest"));
        far.close().await.unwrap();
        assert!(lines.fill_buf().await.unwrap().is_empty());
        assert_eq!(lines.exact(1).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn idle_holds_no_buffer() {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    async_io::block_on(async {
        far.write_all(&vec![b'x'; 20_000]).await.unwrap();
        while lines.buffered() < 20_000 {
            lines.receive::<DATA_CHUNK>().await.unwrap();
        }
        lines.consume(20_000);
        assert_eq!(lines.input.capacity(), 0);
        lines.write(b"250 OK\r\n").await.unwrap();
        lines.flush().await.unwrap();
        assert_eq!(lines.output.capacity(), 0);
        far.write_all(b"NOOP\r\n").await.unwrap();
        assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"NOOP"));
        assert!(within(Duration::from_millis(2), lines.next_line(MAX)).await.is_err());
        assert_eq!(lines.input.capacity(), 0);
    });
}

#[test]
fn the_output_is_bounded_and_write_is_not() {
    let (near, mut far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    lines.queue(&[b'a'; OUTPUT]).unwrap();
    assert_eq!(lines.queue(b"b"), Err(OutputFull));
    let sent = vec![b'c'; 5 * OUTPUT + 3];
    let received = async_io::block_on(zip(
        async {
            lines.write(&sent).await.unwrap();
            lines.close().await.unwrap();
        },
        async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        },
    ))
    .1;
    assert_eq!(received.len(), OUTPUT + sent.len());
    assert_eq!(received[OUTPUT..], sent);
}

#[test]
fn starttls_takes_the_stream_only_when_no_plaintext_waits() {
    for (after, expected) in [(&b""[..], true), (b"EHLO evil\r\n", false), (b"x", false)] {
        let (near, mut far) = Stream::memory_pair();
        let mut lines = LineStream::new(near);
        async_io::block_on(async {
            far.write_all(&[b"STARTTLS\r\n", after].concat()).await.unwrap();
            assert_eq!(lines.next_line(MAX).await.unwrap(), LineRead::Line(b"STARTTLS"));
        });
        assert_eq!(lines.into_stream().is_ok(), expected, "{:?}", String::from_utf8_lossy(after));
    }
    let (near, _far) = Stream::memory_pair();
    let mut lines = LineStream::new(near);
    lines.queue(b"220 go ahead\r\n").unwrap();
    assert!(lines.into_stream().is_err(), "an unsent reply would come out inside TLS");
}
