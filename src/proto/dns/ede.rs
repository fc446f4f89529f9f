//! Extended DNS Errors (RFC 8914): why a lookup failed, or what is odd about an answer.
//!
//! Some come from an upstream; their text then begins with the upstream's address, and is a stranger's: without control
//! characters and bounded here, escaped again wherever it is shown.

use std::fmt;

/// Characters of text kept from one error; real ones are a sentence.
const MAX_TEXT: usize = 240;

/// A number of the registry "Extended DNS Error Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InfoCode(pub u16);

impl InfoCode {
    pub const OTHER: InfoCode = InfoCode(0);
    pub const DNSSEC_BOGUS: InfoCode = InfoCode(6);
    pub const CACHED_ERROR: InfoCode = InfoCode(13);
    pub const NO_REACHABLE_AUTHORITY: InfoCode = InfoCode(22);
    pub const NETWORK_ERROR: InfoCode = InfoCode(23);
    pub const INVALID_DATA: InfoCode = InfoCode(24);

    /// The registry's words.
    fn words(self) -> Option<&'static str> {
        const WORDS: [&str; 31] = [
            "Other Error",
            "Unsupported DNSKEY Algorithm",
            "Unsupported DS Digest Type",
            "Stale Answer",
            "Forged Answer",
            "DNSSEC Indeterminate",
            "DNSSEC Bogus",
            "Signature Expired",
            "Signature Not Yet Valid",
            "DNSKEY Missing",
            "RRSIGs Missing",
            "No Zone Key Bit Set",
            "NSEC Missing",
            "Cached Error",
            "Not Ready",
            "Blocked",
            "Censored",
            "Filtered",
            "Prohibited",
            "Stale NXDOMAIN Answer",
            "Not Authoritative",
            "Not Supported",
            "No Reachable Authority",
            "Network Error",
            "Invalid Data",
            "Signature Expired before Valid",
            "Too Early",
            "Unsupported NSEC3 Iterations Value",
            "Unable to conform to policy",
            "Synthesized",
            "Invalid Query Type",
        ];
        WORDS.get(usize::from(self.0)).copied()
    }
}

impl fmt::Display for InfoCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some(words) => write!(f, "{words} ({})", self.0),
            None => write!(f, "Extended DNS Error {}", self.0),
        }
    }
}

/// One error with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    pub code: InfoCode,
    /// may be empty
    pub text: String,
}

impl ExtendedError {
    pub fn new(code: InfoCode, text: impl Into<String>) -> ExtendedError {
        ExtendedError { code, text: text.into() }
    }

    /// The content of an EDE option (RFC 8914 section 2); `None` if it is too short to hold a code.
    pub fn decode(option: &[u8]) -> Option<ExtendedError> {
        let (code, text) = option.split_at_checked(2)?;
        // Some senders close the text with a NUL.
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0').chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(ExtendedError { code: InfoCode(u16::from_be_bytes([code[0], code[1]])), text })
    }

    /// The content of an EDE option.
    pub fn encode(&self) -> Vec<u8> {
        [&self.code.0.to_be_bytes()[..], self.text.as_bytes()].concat()
    }
}

impl fmt::Display for ExtendedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return self.code.fmt(f);
        }
        write!(f, "{}: {}", self.code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_bounded_and_without_control_characters() {
        let option = [&[0, 22][..], b"at delegation\x1b[0m x\0"].concat();
        let error = ExtendedError::decode(&option).unwrap();
        assert_eq!(error.to_string(), "No Reachable Authority (22): at delegation [0m x");
        assert_eq!(ExtendedError::decode(&[0]), None);
        assert_eq!(ExtendedError::decode(&[0, 1]).unwrap().to_string(), "Unsupported DNSKEY Algorithm (1)");
        assert_eq!(ExtendedError::decode(&[[1, 0].to_vec(), vec![b'x'; 4000]].concat()).unwrap().text.len(), MAX_TEXT);
        assert_eq!(ExtendedError::decode(&error.encode()), Some(error));
    }
}
