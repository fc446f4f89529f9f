//! What a sender asked for about notices: the parameters NOTIFY and RET (RFC 3461 sections 4.1 and 4.3).
//!
//! In goes the value of a parameter, letter case ignored (RFC 5321 section 2.4); out comes its meaning, and `Display`
//! writes it as a parameter again. ENVID and ORCPT are kept as the xtext that was sent; they have no type here.

use std::fmt;

use nanoserde::{DeBin, SerBin};

/// NOTIFY of one recipient (section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub enum Notify {
    /// no parameter: failure, and delay if we like
    #[default]
    Unset,
    Never,
    On(Events),
}

/// What is worth a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct Events {
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

/// RET of a message (section 4.3): what a notice of failure gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub enum Ret {
    /// no parameter: as we like
    #[default]
    Unset,
    Full,
    Headers,
}

impl Notify {
    /// `NEVER`, or a list of `SUCCESS`, `FAILURE`, `DELAY` with commas and without spaces; each at most once.
    pub fn parse(text: &str) -> Option<Notify> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Notify::Never);
        }
        let mut events = Events::default();
        for word in text.split(',') {
            let event = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut events.success,
                "FAILURE" => &mut events.failure,
                "DELAY" => &mut events.delay,
                _ => return None,
            };
            if std::mem::replace(event, true) {
                return None;
            }
        }
        Some(Notify::On(events))
    }

    pub fn wants_failure(self) -> bool {
        match self {
            Notify::Unset => true,
            Notify::Never => false,
            Notify::On(events) => events.failure,
        }
    }

    pub fn wants_delay(self) -> bool {
        match self {
            Notify::Unset => true,
            Notify::Never => false,
            Notify::On(events) => events.delay,
        }
    }

    pub fn wants_success(self) -> bool {
        match self {
            Notify::Unset | Notify::Never => false,
            Notify::On(events) => events.success,
        }
    }
}

/// The value of the parameter; empty for none.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notify::On(events) = self else {
            return f.write_str(if *self == Notify::Never { "NEVER" } else { "" });
        };
        let words = [(events.success, "SUCCESS"), (events.failure, "FAILURE"), (events.delay, "DELAY")];
        let chosen: Vec<&str> = words.into_iter().filter_map(|(wanted, word)| wanted.then_some(word)).collect();
        f.write_str(&chosen.join(","))
    }
}

impl Ret {
    /// `FULL` or `HDRS`.
    pub fn parse(text: &str) -> Option<Ret> {
        match text.to_ascii_uppercase().as_str() {
            "FULL" => Some(Ret::Full),
            "HDRS" => Some(Ret::Headers),
            _ => None,
        }
    }
}

/// The value of the parameter; empty for none.
impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ret::Unset => "",
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_rfc_3461_are_read_and_written() {
        let rows = [
            ("NEVER", "NEVER", [false, false, false]),
            ("never", "NEVER", [false, false, false]),
            ("SUCCESS", "SUCCESS", [true, false, false]),
            ("delay,Failure", "FAILURE,DELAY", [false, true, true]),
            ("SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY", [true, true, true]),
        ];
        for (text, shown, wants) in rows {
            let notify = Notify::parse(text).unwrap();
            assert_eq!(notify.to_string(), shown);
            assert_eq!([notify.wants_success(), notify.wants_failure(), notify.wants_delay()], wants, "{text}");
        }
        assert_eq!((Ret::parse("full"), Ret::parse("HDRS"), Ret::parse("hdr")), (Some(Ret::Full), Some(Ret::Headers), None));
        assert_eq!(Ret::Headers.to_string(), "HDRS");
    }

    #[test]
    fn what_the_grammar_does_not_know_is_refused() {
        for text in ["", "NEVER,SUCCESS", "SUCCESS,", "SUCCESS, DELAY", "SUCCESS,SUCCESS", "FAIL"] {
            assert_eq!(Notify::parse(text), None, "{text}");
        }
        let unset = Notify::default();
        assert_eq!((unset.wants_failure(), unset.wants_delay(), unset.wants_success()), (true, true, false));
        assert_eq!(unset.to_string(), "");
    }
}
