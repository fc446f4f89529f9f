//! Parses the arguments and hands over: servers to `app`, everything else to `cli`.

use std::process::ExitCode;

use pipit::admin::Failure;
use pipit::app;
use pipit::cli::args;
use pipit::cli::args::Command;
use pipit::cli::args::Globals;
use pipit::cli::commands;
use pipit::cli::place;

fn main() -> ExitCode {
    let argv = args::as_called(std::env::args_os().map(|word| word.to_string_lossy().into_owned()));
    let invocation = match args::parse(&argv) {
        Ok(invocation) => invocation,
        Err(usage) if usage.exit == 0 => {
            println!("{}", usage.text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(usage) => {
            eprintln!("{}", usage.text.trim_end());
            return ExitCode::from(2);
        }
    };
    let globals = invocation.globals;
    match invocation.command {
        Command::Serve => served(place::find(&globals).and_then(app::serve)),
        Command::Localserve { fresh } => served(localserve(&globals, fresh)),
        command => ExitCode::from(u8::try_from(commands::run(&globals, command)).unwrap_or(1)),
    }
}

#[cfg(feature = "localserve")]
fn localserve(globals: &Globals, fresh: bool) -> Result<(), Failure> {
    use pipit::app::localserve::Fresh;
    app::localserve::run(globals, if fresh { Fresh::Yes } else { Fresh::No })
}

#[cfg(not(feature = "localserve"))]
fn localserve(_globals: &Globals, _fresh: bool) -> Result<(), Failure> {
    Err(Failure::new("this build has no localserve", "build it with the cargo feature `localserve`"))
}

fn served(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    eprintln!("pipit: {}\n       {}", failure.error, failure.hint);
    ExitCode::FAILURE
}
