//! The command line: what was asked for (`args`) and which configuration it concerns (`find`).

pub mod args;
pub mod find;
mod shapes;
