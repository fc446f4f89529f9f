//! Passwords from a person: typed without echo, or the first line of stdin.

use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;

use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;

use crate::admin::Failure;
use crate::admin::wire::MAX_PASSWORD;
use crate::cli::args::PasswordFrom;

/// Reads a password; at a terminal it is asked for twice.
pub fn password(from: &PasswordFrom) -> Result<String, Failure> {
    match from {
        PasswordFrom::Stdin => first_line(),
        PasswordFrom::Terminal if io::stdin().is_terminal() => {
            let first = typed("Password: ")?;
            if typed("Once more: ")? == first {
                Ok(first)
            } else {
                Err(Failure::new("the two passwords differ", "nothing was changed; try again"))
            }
        }
        PasswordFrom::Terminal => Err(Failure {
            error: "there is no terminal to ask for the password".into(),
            hint: "give it on standard input with --password-stdin".into(),
            exit: 2,
        }),
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new(format!("the password could not be read: {error}"), "try again")
}

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), MAX_PASSWORD as u64 + 2).read_line(&mut line).map_err(unreadable)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::new("the password is empty", "give at least one character"));
    }
    Ok(password.to_string())
}

fn typed(prompt: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    let before = termios::tcgetattr(&stdin).map_err(|error| unreadable(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    eprint!("{prompt}");
    let _ = io::stderr().flush();
    termios::tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| unreadable(error.into()))?;
    let line = first_line();
    let _ = termios::tcsetattr(&stdin, OptionalActions::Flush, &before);
    eprintln!();
    line
}
