//! The clock's part of the control socket: `clock.show` and `clock.accept`, and the row of both.

use nanoserde::DeJson;
use nanoserde::SerJson;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockCommand {
    Show,
    /// the clock is right, whatever was seen before
    Accept,
}

impl ClockCommand {
    pub fn verb(self) -> &'static str {
        match self {
            ClockCommand::Show => "clock.show",
            ClockCommand::Accept => "clock.accept",
        }
    }
}

/// How far the clock is believed. Times are RFC 3339, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct ClockRow {
    pub now: String,
    /// `confirmed`; `plausible`: mail waits; `unknown`: certainly wrong
    pub certainty: String,
    /// the newest time that is certainly past
    pub floor: String,
    /// the time that was last saved as the floor of the next start; empty: none
    pub saved: String,
    /// no clock before this is right
    pub released: String,
    /// what is wrong and what to do; empty: nothing
    pub problem: String,
}
