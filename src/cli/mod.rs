//! The command line: what was asked for (`args`), which configuration it concerns (`find`, `place`), who answers
//! (`ask`), and the answer for people or for scripts (`commands`, `print`; `cli.md`).

pub mod args;
pub mod ask;
pub mod clock;
pub mod commands;
pub mod configuration;
pub mod dns;
pub mod find;
pub mod import;
pub mod message;
pub mod owner;
pub mod place;
pub mod print;
pub mod queue;
pub mod send;
pub mod sendmail;
mod shapes;
pub mod terminal;
