//! The command line as argh sees it: one struct a command, whose comments are its help. Private to `cli::args`, which
//! turns them into `Command`, where no `bool` is left to be mixed up.

use std::path::PathBuf;

use argh::FromArgs;

use crate::cli::args::AliasCommand;
use crate::cli::args::AppPassCommand;
use crate::cli::args::Command;
use crate::cli::args::ConfigCommand;
use crate::cli::args::MailCommand;
use crate::cli::args::PasswordFrom;
use crate::cli::args::ShowForm;
use crate::cli::args::StoreCommand;
use crate::cli::args::UserCommand;
use crate::mail::address::Address;

mod dns;
mod queue;

fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

/// A mail server for the home.
#[derive(FromArgs)]
#[argh(help_triggers("--help", "-h"))]
pub(super) struct TopLevel {
    #[argh(subcommand)]
    command: Top,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Top {
    Serve(Serve),
    Localserve(Localserve),
    Status(Status),
    Metrics(MetricsShown),
    Reload(Reload),
    Stop(Stop),
    Config(Config),
    User(User),
    Alias(Alias),
    Mail(Mail),
    Queue(queue::Queue),
    Hold(queue::Hold),
    Store(Store),
    Dns(dns::Dns),
}

/// run the server in the foreground; SIGTERM drains, SIGHUP reloads
#[derive(FromArgs)]
#[argh(subcommand, name = "serve", help_triggers("--help", "-h"))]
struct Serve {}

/// run a demonstration on loopback, without configuration, network or root
#[derive(FromArgs)]
#[argh(subcommand, name = "localserve", help_triggers("--help", "-h"))]
struct Localserve {
    /// begin with empty data
    #[argh(switch)]
    fresh: bool,
}

/// show how the server is doing
#[derive(FromArgs)]
#[argh(subcommand, name = "status", help_triggers("--help", "-h"))]
struct Status {}

/// print the metrics
#[derive(FromArgs)]
#[argh(subcommand, name = "metrics", help_triggers("--help", "-h"))]
struct MetricsShown {}

/// apply the changed configuration
#[derive(FromArgs)]
#[argh(subcommand, name = "reload", help_triggers("--help", "-h"))]
struct Reload {}

/// let open conversations end, then stop the server
#[derive(FromArgs)]
#[argh(subcommand, name = "stop", help_triggers("--help", "-h"))]
struct Stop {}

/// check, show and change the configuration
#[derive(FromArgs)]
#[argh(subcommand, name = "config", help_triggers("--help", "-h"))]
struct Config {
    #[argh(subcommand)]
    command: ConfigOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum ConfigOf {
    Check(ConfigCheck),
    Show(ConfigShow),
    Explain(ConfigExplain),
    Set(ConfigSet),
    Diff(ConfigDiff),
    Reference(ConfigReference),
}

/// name every fault of the file with its line
#[derive(FromArgs)]
#[argh(subcommand, name = "check", help_triggers("--help", "-h"))]
struct ConfigCheck {}

/// show every value in force, and where it comes from
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("--help", "-h"))]
struct ConfigShow {}

/// tell all about a key
#[derive(FromArgs)]
#[argh(subcommand, name = "explain", help_triggers("--help", "-h"))]
struct ConfigExplain {
    /// e.g. limits.connections
    #[argh(positional)]
    key: String,
}

/// set a key, and leave the rest of the file as it is
#[derive(FromArgs)]
#[argh(subcommand, name = "set", help_triggers("--help", "-h"))]
struct ConfigSet {
    /// e.g. limits.connections
    #[argh(positional)]
    key: String,
    /// e.g. 300; lists with commas
    #[argh(positional)]
    value: String,
}

/// show what changed on disk since the server read it
#[derive(FromArgs)]
#[argh(subcommand, name = "diff", help_triggers("--help", "-h"))]
struct ConfigDiff {}

/// print the reference of all keys, Markdown
#[derive(FromArgs)]
#[argh(subcommand, name = "reference", help_triggers("--help", "-h"))]
struct ConfigReference {}

/// accounts
#[derive(FromArgs)]
#[argh(subcommand, name = "user", help_triggers("--help", "-h"))]
struct User {
    #[argh(subcommand)]
    command: UserOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum UserOf {
    Add(UserAdd),
    List(UserList),
    Passwd(UserPasswd),
    Remove(UserRemove),
    AppPass(AppPass),
}

/// make an account
#[derive(FromArgs)]
#[argh(subcommand, name = "add", help_triggers("--help", "-h"))]
struct UserAdd {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// read the password from standard input
    #[argh(switch)]
    password_stdin: bool,
}

/// list the accounts
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct UserList {}

/// set an account's password
#[derive(FromArgs)]
#[argh(subcommand, name = "passwd", help_triggers("--help", "-h"))]
struct UserPasswd {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// read the password from standard input
    #[argh(switch)]
    password_stdin: bool,
}

/// remove an account with all its mail
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("--help", "-h"))]
struct UserRemove {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
}

/// passwords for an account's programs
#[derive(FromArgs)]
#[argh(subcommand, name = "apppass", help_triggers("--help", "-h"))]
struct AppPass {
    #[argh(subcommand)]
    command: AppPassOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum AppPassOf {
    Add(AppPassAdd),
    List(AppPassList),
    Remove(AppPassRemove),
}

/// make a password for a program and show it, once
#[derive(FromArgs)]
#[argh(subcommand, name = "add", help_triggers("--help", "-h"))]
struct AppPassAdd {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// what to call it, e.g. phone
    #[argh(positional)]
    name: String,
}

/// list the names of an account's app passwords
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct AppPassList {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
}

/// forget an app password
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("--help", "-h"))]
struct AppPassRemove {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// its name
    #[argh(positional)]
    name: String,
}

/// aliases
#[derive(FromArgs)]
#[argh(subcommand, name = "alias", help_triggers("--help", "-h"))]
struct Alias {
    #[argh(subcommand)]
    command: AliasOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum AliasOf {
    Add(AliasAdd),
    List(AliasList),
    Remove(AliasRemove),
}

/// add an alias
#[derive(FromArgs)]
#[argh(subcommand, name = "add", help_triggers("--help", "-h"))]
struct AliasAdd {
    /// the alias
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// who gets its mail
    #[argh(positional, arg_name = "to", from_str_fn(parse_address))]
    to: Vec<Address>,
}

/// list the aliases
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct AliasList {}

/// remove an alias
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("--help", "-h"))]
struct AliasRemove {
    /// the alias
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
}

/// look at, import and export mail
#[derive(FromArgs)]
#[argh(subcommand, name = "mail", help_triggers("--help", "-h"))]
struct Mail {
    #[argh(subcommand)]
    command: MailOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum MailOf {
    List(MailList),
    Show(MailShow),
    Import(MailImport),
    Export(MailExport),
}

/// list the messages of an account
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("--help", "-h"))]
struct MailList {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// only this mailbox
    #[argh(option)]
    mailbox: Option<String>,
}

/// show a message
#[derive(FromArgs)]
#[argh(subcommand, name = "show", help_triggers("--help", "-h"))]
struct MailShow {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// its number in the listing
    #[argh(positional)]
    id: u64,
    /// the octets as stored
    #[argh(switch)]
    raw: bool,
}

/// import maildir, mbox and .eml files
#[derive(FromArgs)]
#[argh(subcommand, name = "import", help_triggers("--help", "-h"))]
struct MailImport {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// files and maildirs
    #[argh(positional)]
    files: Vec<PathBuf>,
}

/// write one .eml file per message
#[derive(FromArgs)]
#[argh(subcommand, name = "export", help_triggers("--help", "-h"))]
struct MailExport {
    /// the account
    #[argh(positional, from_str_fn(parse_address))]
    address: Address,
    /// where to
    #[argh(positional)]
    dir: PathBuf,
}

/// the store
#[derive(FromArgs)]
#[argh(subcommand, name = "store", help_triggers("--help", "-h"))]
struct Store {
    #[argh(subcommand)]
    command: StoreOf,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum StoreOf {
    Check(StoreCheck),
    Stat(StoreStat),
    Compact(StoreCompact),
}

/// check every invariant of the store
#[derive(FromArgs)]
#[argh(subcommand, name = "check", help_triggers("--help", "-h"))]
struct StoreCheck {}

/// show sizes and counts
#[derive(FromArgs)]
#[argh(subcommand, name = "stat", help_triggers("--help", "-h"))]
struct StoreStat {}

/// give free pages back to the disk
#[derive(FromArgs)]
#[argh(subcommand, name = "compact", help_triggers("--help", "-h"))]
struct StoreCompact {}

impl TopLevel {
    /// The command; `Err` for the one thing that argh cannot say: a list that needs at least one item.
    pub(super) fn into_command(self) -> Result<Command, &'static str> {
        Ok(match self.command {
            Top::Serve(Serve {}) => Command::Serve,
            Top::Localserve(Localserve { fresh }) => Command::Localserve { fresh },
            Top::Status(Status {}) => Command::Status,
            Top::Metrics(MetricsShown {}) => Command::Metrics,
            Top::Reload(Reload {}) => Command::Reload,
            Top::Stop(Stop {}) => Command::Stop,
            Top::Config(config) => Command::Config(config_command(config.command)),
            Top::User(user) => Command::User(user_command(user.command)),
            Top::Alias(alias) => Command::Alias(alias_command(alias.command)?),
            Top::Mail(mail) => Command::Mail(mail_command(mail.command)?),
            Top::Queue(queue) => Command::Queue(queue::queue_command(queue)?),
            Top::Hold(hold) => Command::Queue(queue::hold_command(hold)?),
            Top::Store(store) => Command::Store(store_command(store.command)),
            Top::Dns(dns) => Command::Dns(dns::dns_command(dns)),
        })
    }
}

fn config_command(command: ConfigOf) -> ConfigCommand {
    match command {
        ConfigOf::Check(ConfigCheck {}) => ConfigCommand::Check,
        ConfigOf::Show(ConfigShow {}) => ConfigCommand::Show,
        ConfigOf::Explain(ConfigExplain { key }) => ConfigCommand::Explain { key },
        ConfigOf::Set(ConfigSet { key, value }) => ConfigCommand::Set { key, value },
        ConfigOf::Diff(ConfigDiff {}) => ConfigCommand::Diff,
        ConfigOf::Reference(ConfigReference {}) => ConfigCommand::Reference,
    }
}

fn user_command(command: UserOf) -> UserCommand {
    match command {
        UserOf::Add(UserAdd { address, password_stdin }) => {
            UserCommand::Add { address, password: if password_stdin { PasswordFrom::Stdin } else { PasswordFrom::Terminal } }
        }
        UserOf::List(UserList {}) => UserCommand::List,
        UserOf::Passwd(UserPasswd { address, password_stdin }) => {
            UserCommand::Passwd { address, password: if password_stdin { PasswordFrom::Stdin } else { PasswordFrom::Terminal } }
        }
        UserOf::Remove(UserRemove { address }) => UserCommand::Remove { address },
        UserOf::AppPass(AppPass { command }) => UserCommand::AppPass(match command {
            AppPassOf::Add(AppPassAdd { address, name }) => AppPassCommand::Add { address, name },
            AppPassOf::List(AppPassList { address }) => AppPassCommand::List { address },
            AppPassOf::Remove(AppPassRemove { address, name }) => AppPassCommand::Remove { address, name },
        }),
    }
}

fn alias_command(command: AliasOf) -> Result<AliasCommand, &'static str> {
    Ok(match command {
        AliasOf::Add(AliasAdd { to, .. }) if to.is_empty() => {
            return Err("pipit alias add ADDRESS TO...: nobody is named who gets its mail");
        }
        AliasOf::Add(AliasAdd { address, to }) => AliasCommand::Add { address, to },
        AliasOf::List(AliasList {}) => AliasCommand::List,
        AliasOf::Remove(AliasRemove { address }) => AliasCommand::Remove { address },
    })
}

fn mail_command(command: MailOf) -> Result<MailCommand, &'static str> {
    Ok(match command {
        MailOf::List(MailList { address, mailbox }) => MailCommand::List { address, mailbox },
        MailOf::Show(MailShow { address, id, raw }) => {
            MailCommand::Show { address, id, form: if raw { ShowForm::Raw } else { ShowForm::Readable } }
        }
        MailOf::Import(MailImport { files, .. }) if files.is_empty() => return Err("pipit mail import ADDRESS FILE...: no file is named"),
        MailOf::Import(MailImport { address, files }) => MailCommand::Import { address, files },
        MailOf::Export(MailExport { address, dir }) => MailCommand::Export { address, dir },
    })
}

fn store_command(command: StoreOf) -> StoreCommand {
    match command {
        StoreOf::Check(StoreCheck {}) => StoreCommand::Check,
        StoreOf::Stat(StoreStat {}) => StoreCommand::Stat,
        StoreOf::Compact(StoreCompact {}) => StoreCommand::Compact,
    }
}
