//! Every change and question a person can put: `run(&Instance, Command, &mut channel)`.
//!
//! The control socket, the command line without a server, and later the web all end here, so that a rule (a quota, a
//! domain that is not ours, a name that is taken) stands in one place. Answers go out as JSON rows through `Channel`.

pub mod anchors;
pub mod app_passwords;
pub mod history;
mod json;
pub mod logins;
pub mod mail;
pub mod passwords;
pub mod queue;
pub mod runtime;
pub mod send;
pub mod settings;
pub mod state;
pub mod users;
pub mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;

use nanoserde::SerJson;

use crate::admin::wire::BadRequest;
use crate::admin::wire::Command;
use crate::admin::wire::dns::UpstreamRow;
use crate::config::live::Live;
use crate::config::settings::Settings;
use crate::mail::date::UnixTime;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::net::clock::Clock;
use crate::net::offload::Offload;
use crate::net::slots::Slots;
use crate::store::Error;
use crate::store::Store;

/// One directory and what runs on it; a command without a server has the parts of a server that it needs.
pub struct Instance {
    pub store: Store,
    pub live: Rc<Live>,
    /// the live configuration file
    pub file: PathBuf,
    pub metrics: Rc<Metrics>,
    pub clock: Clock,
    pub offload: Offload,
    /// `None`: no server runs, the command does the work itself
    pub serving: Option<Serving>,
}

/// The facts of a running server.
pub struct Serving {
    pub started: UnixTime,
    /// the memory for messages in flight (promise R8), shared with the sessions
    pub budget: Budget,
    pub listening: Vec<String>,
    pub slots: Slots,
    /// what a person should know, by what it is about, each a sentence for `status`
    pub problems: RefCell<BTreeMap<&'static str, String>>,
    /// a message ends the server
    pub stop: smol::channel::Sender<()>,
    /// the longest time one task held the event loop, microseconds
    pub longest_stall: Box<dyn Fn() -> u64>,
    /// what is wrong with the resolvers, for `status`
    pub resolver_problem: Box<dyn Fn() -> Option<String>>,
    /// who is asked, for `status`
    pub upstreams: Box<dyn Fn() -> Vec<UpstreamRow>>,
    /// gives the services that keep a part of the settings the new ones
    pub take_settings: Box<dyn Fn(&Settings)>,
}

impl Instance {
    /// Notes a problem for `status`, or that there is none any more about this.
    pub fn tell(&self, about: &'static str, problem: Option<String>) {
        let Some(serving) = &self.serving else { return };
        match problem {
            Some(problem) => serving.problems.borrow_mut().insert(about, problem),
            None => serving.problems.borrow_mut().remove(about),
        };
    }
}

/// The other end went away while we answered.
#[derive(Debug)]
pub struct Gone;

/// Why a command was not done, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub error: String,
    /// what to do about it
    pub hint: String,
    /// exit status: 1 the answer is "no" or a problem, 2 bad usage
    pub exit: u32,
}

impl Failure {
    pub fn new(error: impl fmt::Display, hint: impl fmt::Display) -> Failure {
        Failure { error: error.to_string(), hint: hint.to_string(), exit: 1 }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match &error {
            Error::DiskFull => "free some space on the disk of the data directory, then try again",
            Error::Damaged(_) => "run `pipit store check` to see what is damaged",
            _ => "try again; if it stays, look into the log",
        };
        Failure::new(error, hint)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Failure {
        Failure::new("the connection ended before the answer was complete", "try again")
    }
}

impl From<BadRequest> for Failure {
    fn from(bad: BadRequest) -> Failure {
        Failure { error: bad.0, hint: "see `pipit --help`".into(), exit: 2 }
    }
}

/// Where answers go and where octets of an import come from.
pub trait Channel {
    /// One line of JSON.
    fn line(&mut self, json: String) -> impl Future<Output = Result<(), Gone>>;
    /// Raw octets that the line before has announced.
    fn octets(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Gone>>;
    /// The next line of the request's octets, without its newline.
    fn read_line(&mut self) -> impl Future<Output = Result<String, Gone>>;
    /// Exactly `n` of the request's octets; `n` is at most 64 KiB.
    fn read(&mut self, n: usize) -> impl Future<Output = Result<Vec<u8>, Gone>>;
}

/// Sends one row.
pub(crate) async fn row<C: Channel>(channel: &mut C, row: &impl SerJson) -> Result<(), Gone> {
    channel.line(row.serialize_json()).await
}

/// Does what the command says. Rows have been sent when it returns; the caller sends the verdict.
pub async fn run<C: Channel>(instance: &Instance, command: Command, channel: &mut C) -> Result<(), Failure> {
    match command {
        Command::UserAdd { address, password } => users::add(instance, address, password).await,
        Command::UserList => users::list(instance, channel).await,
        Command::UserPasswd { address, password } => users::set_password(instance, &address, password).await,
        Command::UserRemove { address } => users::remove(instance, &address).await,
        Command::UserAppPass { address, name } => app_passwords::add(instance, channel, &address, name).await,
        Command::UserAppPassList { address } => app_passwords::list(instance, channel, &address).await,
        Command::UserAppPassRemove { address, name } => app_passwords::remove(instance, &address, name).await,
        Command::AliasAdd { address, to } => settings::alias_add(instance, address, to).await,
        Command::AliasList => settings::alias_list(instance, channel).await,
        Command::AliasRemove { address } => settings::alias_remove(instance, address).await,
        Command::MailList { address, mailbox } => mail::list(instance, channel, &address, mailbox.as_deref()).await,
        Command::MailShow { address, id } => mail::show(instance, channel, &address, id).await,
        Command::MailImport { address, octets } => mail::import(instance, channel, &address, octets).await,
        Command::MailExport { address } => mail::export(instance, channel, &address).await,
        // Mail comes in through the services' folder, which the faces call for it: `inbound::handed_in`.
        Command::Send(_) => Err(Failure::new("a message cannot be handed in here", "report this")),
        Command::Queue(command) => queue::run(instance, command, channel).await,
        Command::DnsAnchors => anchors::list(instance, channel).await,
        Command::StoreCheck => state::check(instance, channel).await,
        Command::StoreStat => state::stat(instance, channel).await,
        Command::ConfigSet { key, value } => settings::set(instance, key, value).await,
        Command::Status => state::status(instance, channel).await,
        Command::Metrics => state::metrics(instance, channel).await,
        Command::Reload => settings::reload(instance).await,
        Command::Stop => state::stop(instance),
    }
}
