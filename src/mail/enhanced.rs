//! Enhanced status codes (RFC 3463, RFC 2034): `class.subject.detail`.

use std::fmt;

use nanoserde::{DeBin, SerBin};

/// Three numbers that tell a machine what a reply means, e.g. `5.1.1` "no such mailbox".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, SerBin, DeBin)]
pub struct EnhancedStatus {
    /// 2 success, 4 temporary, 5 permanent
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

/// Highest subject and detail (RFC 3463 section 2: one to three digits each).
const MAX_NUMBER: u16 = 999;

impl EnhancedStatus {
    pub const fn new(class: u8, subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus { class, subject, detail }
    }

    /// Parses exactly `c.s.d`; `None` if the text is anything else.
    pub fn parse(text: &str) -> Option<EnhancedStatus> {
        let mut numbers = text.split('.');
        let class = match numbers.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = parse_number(numbers.next()?)?;
        let detail = parse_number(numbers.next()?)?;
        numbers.next().is_none().then_some(EnhancedStatus { class, subject, detail })
    }
}

fn parse_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n <= MAX_NUMBER)
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_parses() {
        assert_eq!(EnhancedStatus::parse("5.1.10"), Some(EnhancedStatus::new(5, 1, 10)));
        for text in ["", "5", "5.1", "5.1.1.1", "3.1.1", "5.1000.1", "5..1", "5.1.+1", "5.1.1 "] {
            assert_eq!(EnhancedStatus::parse(text), None, "{text}");
        }
        assert_eq!(EnhancedStatus::new(4, 3, 1).to_string(), "4.3.1");
    }
}
