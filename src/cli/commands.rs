//! What each command does: asks, prints, and gives the exit status.

use std::fs;
use std::io;

use crate::admin::Failure;
use crate::admin::wire;
use crate::cli::args::AliasCommand;
use crate::cli::args::AppPassCommand;
use crate::cli::args::Command;
use crate::cli::args::ConfigCommand;
use crate::cli::args::Globals;
use crate::cli::args::MailCommand;
use crate::cli::args::ShowForm;
use crate::cli::args::StoreCommand;
use crate::cli::args::UserCommand;
use crate::cli::ask;
use crate::cli::clock;
use crate::cli::configuration;
use crate::cli::dns;
use crate::cli::import;
use crate::cli::owner;
use crate::cli::place;
use crate::cli::place::Place;
use crate::cli::print::Columns;
use crate::cli::print::Files;
use crate::cli::print::Lines;
use crate::cli::print::Raw;
use crate::cli::print::Readable;
use crate::cli::print::Rows;
use crate::cli::print::ShownOnce;
use crate::cli::queue;
use crate::cli::send;
use crate::cli::terminal;
use crate::mail::address::Address;
use crate::store;

/// Does a command that is not a server, and tells about it. Exit status: 0 fine, 1 no or a problem, 2 bad usage.
pub fn run(globals: &Globals, command: Command) -> i32 {
    let command = match command {
        // These have exit statuses of their own.
        Command::Send(sending) => return send::run(globals, sending),
        Command::Complaint(dialect, complaint) => return send::complain(dialect, &complaint),
        Command::Nothing => return 0,
        command => command,
    };
    match dispatch(globals, command) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("pipit: {}", failure.error);
            if !failure.hint.is_empty() {
                eprintln!("       {}", failure.hint);
            }
            i32::try_from(failure.exit).unwrap_or(1)
        }
    }
}

fn dispatch(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve | Command::Localserve { .. } | Command::Send(_) | Command::Complaint(..) | Command::Nothing => {
            Err(Failure::new("a server is started by main", "report this"))
        }
        Command::Status => listed(globals, wire::Command::Status, Rows::Status, ""),
        Command::Metrics => metrics(globals),
        Command::Reload => serving(globals, wire::Command::Reload),
        Command::Stop => serving(globals, wire::Command::Stop),
        Command::Config(command) => config(globals, command),
        Command::User(command) => user(globals, command),
        Command::Alias(command) => alias(globals, command),
        Command::Mail(command) => mail(globals, command),
        Command::Queue(command) => queue::run(globals, command),
        Command::Clock(command) => clock::run(globals, command),
        Command::Store(command) => store_command(globals, &command),
        Command::Dns(command) => dns::run(globals, &command),
    }
}

/// Asks for rows and prints them.
pub(super) fn listed(globals: &Globals, command: wire::Command, rows: Rows, nothing: &str) -> Result<(), Failure> {
    let place = place::find(globals)?;
    if globals.json {
        return ask::ask(&place, command, &[], &mut Lines);
    }
    let mut columns = Columns::new(rows);
    let outcome = ask::ask(&place, command, &[], &mut columns);
    // Rows that came before a failure are part of the answer (the findings of a check).
    if outcome.is_ok() || !columns.is_empty() {
        columns.finish(nothing).map_err(output)?;
    }
    outcome
}

fn output(error: io::Error) -> Failure {
    Failure::new(format!("the output could not be written: {error}"), "")
}

/// Asks for something that has no rows, and says what was done.
pub(super) fn done(globals: &Globals, command: wire::Command, words: &str) -> Result<(), Failure> {
    ask::ask(&place::find(globals)?, command, &[], &mut Lines)?;
    if !globals.json {
        println!("{words}");
    }
    Ok(())
}

/// Commands that make sense for a running server only.
fn serving(globals: &Globals, command: wire::Command) -> Result<(), Failure> {
    ask::only_online(&place::find(globals)?.dir, &command)
}

fn metrics(globals: &Globals) -> Result<(), Failure> {
    listed(globals, wire::Command::Metrics, Rows::Text, "")
}

fn config(globals: &Globals, command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check => configuration::check(globals),
        ConfigCommand::Show => configuration::show(globals),
        ConfigCommand::Explain { key } => configuration::explain_key(&key),
        ConfigCommand::Set { key, value } => {
            let words = format!("{key} is set");
            done(globals, wire::Command::ConfigSet { key, value }, &words)
        }
        ConfigCommand::Diff => configuration::show_diff(globals),
        ConfigCommand::Reference => {
            configuration::reference();
            Ok(())
        }
    }
}

fn user(globals: &Globals, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { address, password } => {
            let words = format!("account {address} added");
            let password = terminal::password(&password)?;
            done(globals, wire::Command::UserAdd { address, password }, &words)
        }
        UserCommand::List => listed(globals, wire::Command::UserList, Rows::Users, "no accounts yet: pipit user add NAME@DOMAIN"),
        UserCommand::Passwd { address, password } => {
            let words = format!("the password of {address} is changed");
            let password = terminal::password(&password)?;
            done(globals, wire::Command::UserPasswd { address, password }, &words)
        }
        UserCommand::Remove { address } => {
            let words = format!("account {address} and its mail are removed");
            done(globals, wire::Command::UserRemove { address }, &words)
        }
        UserCommand::AppPass(command) => app_password(globals, command),
    }
}

fn app_password(globals: &Globals, command: AppPassCommand) -> Result<(), Failure> {
    match command {
        AppPassCommand::Add { address, name } => {
            let (place, command) = (place::find(globals)?, wire::Command::UserAppPass { address, name });
            if globals.json { ask::ask(&place, command, &[], &mut Lines) } else { ask::ask(&place, command, &[], &mut ShownOnce) }
        }
        AppPassCommand::List { address } => {
            let nothing = format!("no app passwords yet: pipit user apppass add {address} NAME");
            listed(globals, wire::Command::UserAppPassList { address }, Rows::AppPasswords, &nothing)
        }
        AppPassCommand::Remove { address, name } => {
            let words = format!("the app password {name:?} of {address} is removed");
            done(globals, wire::Command::UserAppPassRemove { address, name }, &words)
        }
    }
}

fn alias(globals: &Globals, command: AliasCommand) -> Result<(), Failure> {
    match command {
        AliasCommand::Add { address, to } => {
            let words = format!("mail for {address} now goes to {}", to.iter().map(Address::to_string).collect::<Vec<_>>().join(", "));
            done(globals, wire::Command::AliasAdd { address, to }, &words)
        }
        AliasCommand::List => listed(globals, wire::Command::AliasList, Rows::Aliases, "no aliases yet: pipit alias add ADDRESS TO"),
        AliasCommand::Remove { address } => {
            let words = format!("alias {address} is removed");
            done(globals, wire::Command::AliasRemove { address }, &words)
        }
    }
}

fn mail(globals: &Globals, command: MailCommand) -> Result<(), Failure> {
    match command {
        MailCommand::List { address, mailbox } => {
            let nothing = format!("no mail for {address} yet");
            listed(globals, wire::Command::MailList { address, mailbox }, Rows::Mail, &nothing)
        }
        MailCommand::Show { address, id, form } => {
            let place = place::find(globals)?;
            let command = wire::Command::MailShow { address, id };
            match form {
                ShowForm::Raw => ask::ask(&place, command, &[], &mut Raw),
                ShowForm::Readable => {
                    let mut readable = Readable::new();
                    ask::ask(&place, command, &[], &mut readable)?;
                    readable.finish().map_err(output)
                }
            }
        }
        MailCommand::Import { address, files } => import_files(globals, &address, &files),
        MailCommand::Export { address, dir } => {
            let place = place::find(globals)?;
            fs::create_dir_all(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display()), "choose another folder"))?;
            let mut files = Files::new(dir.clone());
            ask::ask(&place, wire::Command::MailExport { address }, &[], &mut files)?;
            println!("{} messages written to {}", files.written, dir.display());
            Ok(())
        }
    }
}

fn import_files(globals: &Globals, address: &Address, files: &[std::path::PathBuf]) -> Result<(), Failure> {
    let place: Place = place::find(globals)?;
    let mut imported = 0;
    for file in files {
        let mut refused = None;
        let read = import::read(file, &mut |batch| {
            let command = wire::Command::MailImport { address: address.clone(), octets: batch.octets.len() as u64 };
            if let Err(failure) = ask::ask(&place, command, &batch.octets, &mut Lines) {
                refused = Some(failure);
                return Err(io::Error::other("refused"));
            }
            imported += batch.messages;
            Ok(())
        });
        if let Some(failure) = refused {
            let error = format!("{}: {} ({imported} messages were imported before)", file.display(), failure.error);
            return Err(Failure { error, ..failure });
        }
        read.map_err(|error| Failure::new(format!("{}: {error}", file.display()), format!("{imported} messages were imported before")))?;
    }
    println!("{imported} messages imported into the INBOX of {address}");
    Ok(())
}

fn store_command(globals: &Globals, command: &StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Check => listed(globals, wire::Command::StoreCheck, Rows::Text, "the store is in order"),
        StoreCommand::Stat => listed(globals, wire::Command::StoreStat, Rows::Tables, "the store is empty"),
        StoreCommand::Compact => {
            let place = place::find(globals)?;
            owner::become_owner(&place.dir, &place.settings.clone()?)?;
            let compacted = store::compact(&place.dir).map_err(|error| match error {
                store::OpenError::Locked { .. } => {
                    Failure::new("the server is running, and a store in use cannot be compacted", "`pipit stop` it first")
                }
                error => ask::not_opened(&place.dir, error),
            })?;
            println!("{} MiB before, {} MiB after", compacted.before >> 20, compacted.after >> 20);
            Ok(())
        }
    }
}
