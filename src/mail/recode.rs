//! A message with 8-bit bodies, written anew with 7 bits, for a server without 8BITMIME (RFC 6152 section 3).
//!
//! `Survey` reads the message once and finds its parts (RFC 2046); its `Plan` says what has to change, where. `Recoder` reads
//! it again and writes it so. Both take it in any slices; what they hold does not grow with it. What a part says, its
//! decoded octets and every other line stay what they are: text becomes quoted-printable, the rest base64.
//!
//! Not changed, since it would break or mislead: what a signature or an encryption covers (RFC 1847), header fields with
//! 8 bits (only SMTPUTF8 carries them), message/partial, and MIME that is not well-formed. If such a part has 8-bit
//! octets the message cannot be recoded, and `Unfit` says why. `signers` tells whose DKIM signatures change with it.

mod content;
mod encode;
mod survey;

use std::fmt;

use crate::mail::domain::Domain;
use crate::mail::recode::encode::Behind;
use crate::mail::recode::encode::Encoder;
use crate::mail::recode::encode::Encoding;

pub use crate::mail::recode::survey::Survey;

/// Why a message cannot be written with 7 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// 8-bit octets in a header, of the message or of a part
    Header,
    /// … in a part of multipart/signed or multipart/encrypted
    Sealed,
    /// … in message/partial, message/delivery-status and the like
    SevenBitOnly,
    /// … in a part that says it is base64, quoted-printable, or something unknown
    Encoded,
    /// … before the first or behind the last part of a multipart
    Outside,
    /// the parts cannot be told from each other for certain
    Broken,
    TooManyParts,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Header => "its header has 8-bit characters",
            Unfit::Sealed => "a signed or encrypted part has 8-bit text, and its signature would break",
            Unfit::SevenBitOnly => "a part of a kind that must not be encoded has 8-bit text",
            Unfit::Encoded => "a part has 8-bit text although it says that it is encoded",
            Unfit::Outside => "there is 8-bit text outside of its parts",
            Unfit::Broken => "its MIME structure is broken",
            Unfit::TooManyParts => "it has too many parts",
        })
    }
}

/// What changes, in the order of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    edits: Vec<Edit>,
    signers: Vec<Domain>,
}

/// Octets from `begin` up to `end` of the message are replaced; none are for what is put between.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    begin: u64,
    end: u64,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Write(&'static str),
    Encode(Encoding, Behind),
}

impl Plan {
    /// Whether the message has no 8-bit octet, and goes as it is.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The domains (`d=`) of the message's DKIM signatures, as far as they are legible.
    pub fn signers(&self) -> &[Domain] {
        &self.signers
    }
}

/// Writes a message as planned. The same message must come in as was surveyed.
#[derive(Debug)]
pub struct Recoder<'p> {
    edits: std::slice::Iter<'p, Edit>,
    current: Option<&'p Edit>,
    /// within the current edit, if it encodes
    encoder: Option<Encoder>,
    at: u64,
}

impl<'p> Recoder<'p> {
    pub fn new(plan: &'p Plan) -> Recoder<'p> {
        let mut edits = plan.edits.iter();
        Recoder { current: edits.next(), edits, encoder: None, at: 0 }
    }

    /// Takes the next slice and appends what is to be sent: at most about three times as much.
    pub fn push(&mut self, mut slice: &[u8], out: &mut Vec<u8>) {
        while !slice.is_empty() {
            let Some(edit) = self.current else {
                out.extend_from_slice(slice);
                return;
            };
            let kept = self.take(&mut slice, edit.begin);
            out.extend_from_slice(kept);
            // An edit begins with the octet behind it, once: no edit stands at the end of a message.
            if slice.is_empty() {
                return;
            }
            if self.at == edit.begin {
                self.begin(edit, out);
            }
            let replaced = self.take(&mut slice, edit.end);
            if let Some(encoder) = &mut self.encoder {
                encoder.push(replaced, out);
            }
            if self.at == edit.end {
                if let (Some(encoder), Change::Encode(_, behind)) = (self.encoder.take(), edit.change) {
                    encoder.finish(behind, out);
                }
                self.current = self.edits.next();
            }
        }
    }

    fn begin(&mut self, edit: &Edit, out: &mut Vec<u8>) {
        match edit.change {
            Change::Write(text) => out.extend_from_slice(text.as_bytes()),
            Change::Encode(encoding, _) => self.encoder = Some(Encoder::new(encoding)),
        }
    }

    /// The octets of `slice` before the place `end` of the message.
    fn take<'s>(&mut self, slice: &mut &'s [u8], end: u64) -> &'s [u8] {
        let length = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(slice.len());
        let (now, later) = slice.split_at(length);
        *slice = later;
        self.at += length as u64;
        now
    }
}
