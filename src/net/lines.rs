//! Lines, counted bytes and raw bytes over a `Stream`, and the replies on their way back.
//!
//! A line ends with CRLF and nothing else (RFC 5321 section 2.3.8). A bare LF is answered at once, because a client that
//! sends it waits for an answer; what follows it up to the next CRLF is dropped, never run as a command, so no lenient
//! relay in front of us can have a second command hidden in a line.
//!
//! Buffers live only while bytes wait in them: an idle connection holds none. Replies waiting in the output are written
//! before a read waits, so pipelined commands are answered in one go (RFC 2920 section 3.2) and nobody is left waiting.
//!
//! All methods may be dropped half-way (deadlines do it): no byte is lost or given twice.
//! Not done here: deadlines, dot-unstuffing, what the lines mean.

use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use smol::io::AsyncRead;
use smol::io::AsyncWrite;
use smol::io::AsyncWriteExt;

use crate::net::stream::Stream;

/// One read while lines are expected: commands are short (RFC 5321 section 4.5.3.1.4 asks for 512 octets), and 200
/// sessions with 8 KiB each would already cost what the whole idle server does.
const LINE_CHUNK: usize = 1024;
/// One read of message data: a whole TLS record (RFC 8446 section 5.1), the most that rustls gives at once.
const DATA_CHUNK: usize = 16 * 1024;
/// Replies that may wait for a flush: some thirty at their 512 octets; a peer that does not read gets no more of our memory.
const OUTPUT: usize = 16 * 1024;
/// How much of an overlong or broken line is dropped before the peer is taken for one who will never end it: the longest
/// line that any extension of SMTP or IMAP gives a meaning to is 64 KiB.
const MAX_DROPPED: usize = 64 * 1024;

/// What `next_line` found. Bytes are lent until the next call.
#[derive(Debug, PartialEq, Eq)]
pub enum LineRead<'a> {
    /// A line without its CRLF.
    Line(&'a [u8]),
    /// It was longer than allowed; all of it has been dropped.
    TooLong,
    /// It held a bare CR, a bare LF or NUL; it has been dropped.
    Broken,
    /// The peer has ended its direction; an unfinished line is dropped.
    Closed,
}

/// The output holds as much as it may: flush first. Nothing of the bytes was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFull;

/// Bytes wait in a buffer, in either direction, that must not cross into TLS (RFC 3207 section 4.2; CVE-2011-0411).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaintextWaits;

impl fmt::Display for OutputFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many replies wait for the peer to read them")
    }
}

impl fmt::Display for PlaintextWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plaintext was sent behind STARTTLS")
    }
}

impl std::error::Error for OutputFull {}
impl std::error::Error for PlaintextWaits {}

/// What is known of the line whose bytes are arriving.
#[derive(Clone, Copy, PartialEq)]
enum Arriving {
    /// Nothing is wrong with it so far; its bytes are kept.
    Clean,
    /// Over the limit; dropped as it comes.
    Long,
    /// Has a bare CR or NUL; dropped as it comes.
    Broken,
    /// Behind a bare LF that has been reported; dropped silently up to CRLF.
    Tail,
}

/// An end that `scan` came upon.
enum Found {
    Line(Range<usize>),
    TooLong,
    Broken,
}

/// A connection read by lines or by count and written through a small buffer.
pub struct LineStream {
    stream: Stream,
    input: Vec<u8>,
    /// `input[..taken]` has been handed out or dropped.
    taken: usize,
    /// `input[taken..scanned]` holds no end of a line. Never below `taken`.
    scanned: usize,
    arriving: Arriving,
    /// Bytes dropped since the last report.
    dropped: usize,
    output: Vec<u8>,
    /// `output[..written]` is with the stream.
    written: usize,
}

impl LineStream {
    pub fn new(stream: Stream) -> LineStream {
        LineStream {
            stream,
            input: Vec::new(),
            taken: 0,
            scanned: 0,
            arriving: Arriving::Clean,
            dropped: 0,
            output: Vec::new(),
            written: 0,
        }
    }

    /// The next line of at most `max` octets, CRLF not counted. A line without end gives `InvalidData` after 64 KiB.
    pub async fn next_line(&mut self, max: usize) -> io::Result<LineRead<'_>> {
        loop {
            match self.scan(max) {
                Some(Found::Line(range)) => return Ok(LineRead::Line(&self.input[range])),
                Some(Found::TooLong) => return Ok(LineRead::TooLong),
                Some(Found::Broken) => return Ok(LineRead::Broken),
                None if self.dropped > MAX_DROPPED => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sent a line without end"));
                }
                None => {}
            }
            if self.receive::<LINE_CHUNK>().await? == 0 {
                return Ok(LineRead::Closed);
            }
        }
    }

    /// Whether something that will be answered is already here, so that a flush can wait for its reply (RFC 2920).
    /// A wrong guess harms nobody: `next_line` flushes before it waits.
    pub fn buffered_line_waits(&self) -> bool {
        self.input[self.taken..].contains(&b'\n')
    }

    /// Bytes that have arrived and not been taken.
    pub fn buffered(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Exactly `n` bytes, which the caller has bounded; `UnexpectedEof` when the peer ends before.
    pub async fn exact(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffered() < n {
            if self.receive::<DATA_CHUNK>().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let bytes = self.input[self.taken..self.taken + n].to_vec();
        self.consume(n);
        Ok(bytes)
    }

    /// The raw bytes that come next, at most some 16 KiB; empty when the peer has ended. They stay until `consume`.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffered() == 0 {
            self.receive::<DATA_CHUNK>().await?;
        }
        Ok(&self.input[self.taken..])
    }

    /// Marks `n` bytes of the last `fill_buf` as used.
    pub fn consume(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.input.len());
        self.scanned = self.taken;
        if self.buffered() == 0 {
            self.forget_taken();
        }
    }

    /// Puts a reply into the output, to be written by the next flush or wait for input.
    pub fn queue(&mut self, bytes: &[u8]) -> Result<(), OutputFull> {
        if self.output.len() - self.written + bytes.len() > OUTPUT {
            return Err(OutputFull);
        }
        self.output.drain(..self.written);
        self.written = 0;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// As `queue` for any length: what does not fit is flushed on the way.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(OUTPUT) {
            if self.queue(piece).is_err() {
                self.flush().await?;
                self.queue(piece).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Writes everything that waits, to the kernel, and gives the buffer back.
    pub async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_output(cx)).await
    }

    /// Drops what waits to be written, so that a peer that takes no more can still be heard; nothing may be written then.
    pub fn forget_output(&mut self) {
        self.output = Vec::new();
        self.written = 0;
    }

    /// The stream below, for STARTTLS. By value, so that no plaintext reader can live on beside TLS, and only when no
    /// byte waits: what was sent before the handshake must not be taken for something said within it.
    pub fn into_stream(self) -> Result<Stream, PlaintextWaits> {
        let silent = self.buffered() == 0 && self.output.is_empty() && self.arriving == Arriving::Clean;
        if silent { Ok(self.stream) } else { Err(PlaintextWaits) }
    }

    /// Writes what waits, says goodbye (close_notify under TLS) and ends our direction.
    pub async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.close().await
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    fn scan(&mut self, max: usize) -> Option<Found> {
        loop {
            let Some(offset) = self.input[self.scanned..].iter().position(|b| matches!(b, b'\r' | b'\n' | 0)) else {
                self.scanned = self.input.len();
                break;
            };
            let at = self.scanned + offset;
            self.scanned = at + 1;
            match (self.input[at], self.input.get(at + 1)) {
                (b'\n', _) => {
                    self.begin_line(at + 1, Arriving::Tail);
                    return Some(Found::Broken);
                }
                (b'\r', None) => {
                    self.scanned = at;
                    break;
                }
                (b'\r', Some(b'\n')) => {
                    let line = self.taken..at;
                    let was = self.arriving;
                    self.begin_line(at + 2, Arriving::Clean);
                    match was {
                        Arriving::Clean if line.len() <= max => return Some(Found::Line(line)),
                        Arriving::Clean | Arriving::Long => return Some(Found::TooLong),
                        Arriving::Broken => return Some(Found::Broken),
                        Arriving::Tail => {}
                    }
                }
                _ if self.arriving == Arriving::Tail => {}
                _ => self.arriving = Arriving::Broken,
            }
        }
        self.drop_what_is_lost(max);
        None
    }

    fn begin_line(&mut self, at: usize, arriving: Arriving) {
        self.taken = at;
        self.scanned = at;
        self.arriving = arriving;
        self.dropped = 0;
    }

    /// No end in sight: called with everything scanned, except perhaps a CR whose LF may follow.
    fn drop_what_is_lost(&mut self, max: usize) {
        let length = self.scanned - self.taken;
        if self.arriving == Arriving::Clean && length > max {
            self.arriving = Arriving::Long;
        }
        if self.arriving != Arriving::Clean {
            self.dropped += length;
            self.taken = self.scanned;
        }
    }

    /// Flushes, then waits for at most `CHUNK` bytes; 0 when the peer has ended.
    async fn receive<const CHUNK: usize>(&mut self) -> io::Result<usize> {
        self.forget_taken();
        self.flush().await?;
        std::future::poll_fn(|cx| self.poll_input::<CHUNK>(cx)).await
    }

    /// Reads into the stack and keeps only what came: no buffer waits with the connection.
    fn poll_input<const CHUNK: usize>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; CHUNK];
        let count = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        self.input.reserve_exact(count);
        self.input.extend_from_slice(&chunk[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.output.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.output = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn forget_taken(&mut self) {
        if self.buffered() == 0 {
            self.input = Vec::new();
        } else {
            self.input.drain(..self.taken);
        }
        self.scanned -= self.taken;
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests;
