//! `pipit clock` and `pipit clock accept`: what time it is here, how far it is believed, and the owner's word that it is right.

use std::io;
use std::io::Write;

use crate::admin::Failure;
use crate::admin::wire::Command;
use crate::admin::wire::clock::ClockCommand;
use crate::admin::wire::clock::ClockRow;
use crate::cli::args::Globals;
use crate::cli::ask;
use crate::cli::ask::Listener;
use crate::cli::place;
use crate::cli::print::Lines;
use crate::cli::print::parsed;

/// Does it, and shows the clock as it is then.
pub fn run(globals: &Globals, command: ClockCommand) -> Result<(), Failure> {
    let (place, command) = (place::find(globals)?, Command::Clock(command));
    if globals.json { ask::ask(&place, command, &[], &mut Lines) } else { ask::ask(&place, command, &[], &mut Shown) }
}

struct Shown;

impl Listener for Shown {
    fn line(&mut self, json: &str) -> io::Result<()> {
        let row: ClockRow = parsed(json)?;
        let believed = match row.certainty.as_str() {
            "confirmed" => "yes",
            "plausible" => "no: possible, but nothing is judged by it",
            _ => "no: certainly wrong",
        };
        let saved = if row.saved.is_empty() { "never yet".to_owned() } else { row.saved };
        let facts =
            [("time", row.now), ("believed", believed.to_owned()), ("floor", row.floor), ("saved", saved), ("problem", row.problem)];
        let mut out = io::stdout().lock();
        for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(out, "{name:12} {value}")?;
        }
        Ok(())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
