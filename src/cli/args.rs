//! From argv to `Invocation`. Pure: prints nothing, exits never; help and complaints come back as `Usage`.
//!
//! argh does the commands. It knows neither options before *and* after a command nor `--opt=value`, so the global
//! options are taken out of argv first and known options are split. Behind `--` everything is left as it is.

use std::path::PathBuf;

use argh::FromArgs;

use crate::admin::wire::queue::QueueCommand;
use crate::cli::send;
use crate::cli::sendmail;
use crate::cli::sendmail::Complaint;
use crate::cli::sendmail::Dialect;
use crate::cli::sendmail::Sending;
use crate::cli::sendmail::Task;
use crate::cli::shapes::TopLevel;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::anchor::NegativeAnchor;
use crate::proto::dns::name::Name;
use crate::proto::dns::upstream::UpstreamAddress;

/// The options that take a value: only these are split at `=`.
const WITH_VALUE: [&str; 10] =
    ["--config", "--dir", "--mailbox", "--from", "--to", "--account", "--upstream", "--trust-anchor", "--at", "--negative-anchor"];
/// The first word that argh shows in its help.
const PROGRAM: &str = "pipit";
/// Exit status for a command line that cannot be obeyed.
const BAD_USAGE: i32 = 2;

const GLOBALS_HELP: &str = "
Global options, before or after the command:
  --config FILE     the configuration (else DIR/pipit.toml, /etc/pipit/pipit.toml, /boot/pipit.toml)
  --dir DIR         the data directory
  --json            listings as JSON
  --version         print the version

`pipit send` reads a message from standard input and sends it: pipit send --help
";

/// What was asked for.
#[derive(Debug, PartialEq)]
pub struct Invocation {
    pub globals: Globals,
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    pub config: Option<PathBuf>,
    pub dir: Option<PathBuf>,
    /// listings for machines
    pub json: bool,
}

/// A text for the user instead of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub text: String,
    /// 0: help or version, for stdout; 2: a complaint, for stderr
    pub exit: i32,
}

/// Argv without the program's name; a name that is not `pipit` is a command of its own, as programs know it.
pub fn as_called(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let name = words.next().unwrap_or_default();
    let front: &[&str] = match name.rsplit('/').next() {
        Some("sendmail") => &["sendmail"],
        Some("mailq") => &["sendmail", "-bp"],
        Some("newaliases") => &["sendmail", "-bi"],
        _ => &[],
    };
    front.iter().map(|word| (*word).to_owned()).chain(words).collect()
}

/// Parses argv without the program's name.
pub fn parse(argv: &[String]) -> Result<Invocation, Usage> {
    let (globals, rest) = split(argv)?;
    if rest.is_empty() {
        let help = parse_commands(&["--help".to_owned()]).err();
        return Err(complaint(help.map_or_else(String::new, |usage| usage.text)));
    }
    let command = match rest.split_first() {
        // What stands behind these is sendmail's language, not argh's.
        Some((word, behind)) if SENDING.contains(&word.as_str()) => sending(word, behind)?,
        _ => parse_commands(&rest)?,
    };
    Ok(Invocation { globals, command })
}

/// `pipit send` and `pipit sendmail`.
const SENDING: [&str; 2] = ["send", "sendmail"];

fn sending(word: &str, behind: &[String]) -> Result<Command, Usage> {
    if behind.iter().take_while(|word| *word != "--").any(|word| word == "--help") {
        return Err(Usage { text: send::HELP.to_owned(), exit: 0 });
    }
    let dialect = if word == "send" { Dialect::Pipit } else { Dialect::Sendmail };
    Ok(match sendmail::parse(dialect, behind) {
        Ok(Task::Send(sending)) => Command::Send(sending),
        Ok(Task::ListQueue) => Command::Queue(QueueCommand::List),
        Ok(Task::Nothing) => Command::Nothing,
        Err(complaint) => Command::Complaint(dialect, complaint),
    })
}

fn complaint(text: String) -> Usage {
    Usage { text, exit: BAD_USAGE }
}

/// Takes the global options out, wherever they stand.
fn split(argv: &[String]) -> Result<(Globals, Vec<String>), Usage> {
    let mut globals = Globals::default();
    let mut rest = Vec::new();
    let mut help = false;
    let mut words = argv.iter().cloned();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        let (option, glued) = match word.split_once('=') {
            Some((option, value)) if WITH_VALUE.contains(&option) => (option.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        match option.as_str() {
            "--config" | "--dir" => {
                let value = glued.or_else(|| words.next()).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| complaint(format!("{option} needs a path behind it.\n")))?;
                let place = if option == "--config" { &mut globals.config } else { &mut globals.dir };
                if place.replace(PathBuf::from(value)).is_some() {
                    return Err(complaint(format!("{option} stands twice.\n")));
                }
            }
            "--json" => globals.json = true,
            "--version" if rest.is_empty() => return Err(Usage { text: format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION")), exit: 0 }),
            // argh finds help only behind the last word of a command. The plain word counts only as the first one: it
            // may be the value of a key.
            // For sendmail -h is the number of hops.
            "-h" if rest.first().is_some_and(|word| SENDING.contains(&word.as_str())) => rest.push(option),
            "--help" | "-h" => help = true,
            "help" if rest.is_empty() => help = true,
            _ => {
                rest.push(option);
                rest.extend(glued);
            }
        }
    }
    if help {
        let end = rest.iter().position(|word| word == "--").unwrap_or(rest.len());
        rest.insert(end, "--help".to_owned());
    }
    Ok((globals, rest))
}

fn parse_commands(words: &[String]) -> Result<Command, Usage> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match TopLevel::from_args(&[PROGRAM], &words) {
        Ok(top) => top.into_command().map_err(|what| complaint(format!("{what}.\n"))),
        Err(early) if early.status.is_ok() => Err(Usage { text: format!("{}{GLOBALS_HELP}", early.output), exit: 0 }),
        Err(early) => {
            let text =
                format!("{}\n`{PROGRAM} --help` lists the commands, `{PROGRAM} COMMAND --help` its options.\n", early.output.trim_end());
            Err(complaint(text))
        }
    }
}

/// The commands of this version.
#[derive(Debug, PartialEq)]
pub enum Command {
    Serve,
    Localserve {
        fresh: bool,
    },
    Status,
    Metrics,
    Reload,
    Stop,
    Config(ConfigCommand),
    User(UserCommand),
    Alias(AliasCommand),
    Mail(MailCommand),
    /// `pipit queue` and `pipit hold`
    Queue(QueueCommand),
    Store(StoreCommand),
    Send(Sending),
    /// `newaliases`: nothing is to be done
    Nothing,
    /// of `send`, whose exit status depends on the name it was called by
    Complaint(Dialect, Complaint),
    Dns(DnsCommand),
}

#[derive(Debug, PartialEq)]
pub enum ConfigCommand {
    Check,
    Show,
    Explain { key: String },
    Set { key: String, value: String },
    Diff,
    Reference,
}

#[derive(Debug, PartialEq)]
pub enum UserCommand {
    Add { address: Address, password: PasswordFrom },
    List,
    Passwd { address: Address, password: PasswordFrom },
    Remove { address: Address },
    AppPass(AppPassCommand),
}

/// `pipit user apppass …`
#[derive(Debug, PartialEq)]
pub enum AppPassCommand {
    Add { address: Address, name: String },
    List { address: Address },
    Remove { address: Address, name: String },
}

/// Where a new password is read from: never the command line, which every user of the machine can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFrom {
    Terminal,
    Stdin,
}

#[derive(Debug, PartialEq)]
pub enum AliasCommand {
    Add { address: Address, to: Vec<Address> },
    List,
    Remove { address: Address },
}

#[derive(Debug, PartialEq)]
pub enum MailCommand {
    List { address: Address, mailbox: Option<String> },
    Show { address: Address, id: u64, form: ShowForm },
    Import { address: Address, files: Vec<PathBuf> },
    Export { address: Address, dir: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowForm {
    Readable,
    /// the octets as stored
    Raw,
}

#[derive(Debug, PartialEq)]
pub enum StoreCommand {
    Check,
    Stat,
    Compact,
}

#[derive(Debug, PartialEq)]
pub enum DnsCommand {
    Lookup(Question),
    Anchors,
}

/// `pipit dns lookup`
#[derive(Debug, PartialEq)]
pub struct Question {
    /// none: those of the system
    pub upstreams: Vec<UpstreamAddress>,
    /// none: the built-in keys
    pub trust_anchor: Option<PathBuf>,
    /// none: now
    pub at: Option<UnixTime>,
    pub negative_anchors: Vec<NegativeAnchor>,
    pub name: Name,
    pub kind: RecordType,
}
