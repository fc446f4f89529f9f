//! `pipit send` and the name `sendmail`: reads a message from standard input and hands it to the server.
//!
//! Ways, in this order: the control socket (root and the server's user), `DIR/send.sock`, for the system's server
//! `/run/pipit/send.sock` (a plain user can read neither its directory nor its configuration), and without a running server
//! the directory itself, if it is ours to work in: the message is stored or queued, and leaves when a server runs.
//! Exit status: 0, 1, 2 for `pipit send`; those of sysexits.h for `sendmail`.

use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use nanoserde::DeJson;

use crate::admin::Failure;
use crate::admin::send::BAD_CONFIGURATION;
use crate::admin::send::BAD_DATA;
use crate::admin::send::BAD_USAGE;
use crate::admin::send::TRY_LATER;
use crate::admin::send::UNAVAILABLE;
use crate::admin::send::refused;
use crate::admin::wire::Command;
use crate::admin::wire::SEND_SOCKET;
use crate::admin::wire::SendRequest;
use crate::admin::wire::SentRow;
use crate::cli::args::Globals;
use crate::cli::ask;
use crate::cli::ask::Listener;
use crate::cli::ask::Way;
use crate::cli::find;
use crate::cli::message;
use crate::cli::place;
use crate::cli::place::Place;
use crate::cli::print::counted;
use crate::cli::sendmail::Complaint;
use crate::cli::sendmail::Dialect;
use crate::cli::sendmail::Fault;
use crate::cli::sendmail::Recipients;
use crate::cli::sendmail::Sending;

/// More than any server takes; a pipe that goes on is no message.
const LARGEST: u64 = 256 << 20;

/// What `pipit send --help` prints.
pub const HELP: &str = "\
Usage: pipit send [-f FROM] [-F NAME] [-t] [-i] [--tls-not-required] [TO...]

Reads a message from standard input and sends it. Installed under the name `sendmail` it takes the
options of that program.

  -f FROM              the sender's address, for notices about the message
  -F NAME              the sender's name, if the message has no From
  -t                   take the recipients of To, Cc and Bcc, and remove Bcc
  -i, -oi              a line with a dot alone does not end the message
  -N never|success,failure,delay    when to be told about the delivery
  -R hdrs|full, -V ID  what such a notice contains
  -bp                  list the queue
  --tls-not-required   deliver even where the recipient's rules about TLS cannot be met
  --                   no options behind this
";

/// Sends; the exit status of the dialect.
pub fn run(globals: &Globals, sending: Sending) -> i32 {
    let dialect = sending.dialect;
    match send(globals, sending) {
        Ok(()) => 0,
        Err(failure) => tell(dialect, &failure),
    }
}

/// Prints why it was not done; the exit status.
fn tell(dialect: Dialect, failure: &Failure) -> i32 {
    let name = match dialect {
        Dialect::Pipit => "pipit",
        Dialect::Sendmail => "sendmail",
    };
    eprintln!("{name}: {}", failure.error);
    if !failure.hint.is_empty() {
        eprintln!("{:width$}  {}", "", failure.hint, width = name.len());
    }
    exit_status(dialect, failure.exit)
}

fn exit_status(dialect: Dialect, exit: u32) -> i32 {
    let status = match (dialect, exit) {
        (Dialect::Sendmail, 2) => BAD_USAGE,
        // Whatever else went wrong may go right at the next attempt; a program that gives up loses the message.
        (Dialect::Sendmail, 1) => TRY_LATER,
        (Dialect::Pipit, BAD_USAGE) => 2,
        (Dialect::Pipit, status) if status >= BAD_USAGE => 1,
        (_, status) => status,
    };
    i32::try_from(status).unwrap_or(1)
}

/// A command line that is not obeyed, as a failure.
pub fn complain(dialect: Dialect, complaint: &Complaint) -> i32 {
    let exit = match complaint.fault {
        Fault::Usage => BAD_USAGE,
        Fault::NotYet => UNAVAILABLE,
    };
    tell(dialect, &refused(complaint.error.clone(), complaint.hint, exit))
}

fn send(globals: &Globals, sending: Sending) -> Result<(), Failure> {
    let (message, to) = read(&sending)?;
    let request = SendRequest {
        from: sending.from,
        full_name: sending.name,
        to,
        notify: sending.notify,
        ret: sending.ret,
        envid: sending.envid,
        octets: message.len() as u64,
    };
    let globals = Globals { config: globals.config.clone().or(sending.config.map(PathBuf::from)), ..globals.clone() };
    let mut answer = Answer::default();
    let way = hand_over(&globals, request, &message, &mut answer)?;
    if globals.json {
        println!("{}", answer.line);
    } else if let Some(row) = answer.row
        && sending.dialect == Dialect::Pipit
    {
        println!("{}", said(&row));
    }
    if way == Way::Ourselves && answer.queued > 0 {
        eprintln!("pipit: no server is running: the message waits in the queue until one does (`pipit serve`)");
    }
    Ok(())
}

fn said(row: &SentRow) -> String {
    match (row.local, row.queued) {
        (0, queued) => format!("message {} is in the queue for {}: pipit queue show {}", row.id, recipients(queued), row.id),
        (local, 0) => format!("message {} is delivered to {}", row.id, counted(local, "mailbox", "mailboxes")),
        (local, queued) => {
            let mailboxes = counted(local, "mailbox", "mailboxes");
            format!(
                "message {} is delivered to {mailboxes} and in the queue for {}: pipit queue show {}",
                row.id,
                recipients(queued),
                row.id
            )
        }
    }
}

fn recipients(n: u64) -> String {
    counted(n, "recipient", "recipients")
}

/// The message as the server wants it, and to whom it goes.
fn read(sending: &Sending) -> Result<(Vec<u8>, Vec<String>), Failure> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(LARGEST + 1).read_to_end(&mut input);
    read.map_err(|error| refused(format!("the message cannot be read: {error}"), "", TRY_LATER))?;
    if input.len() as u64 > LARGEST {
        return Err(refused("this is no message: it does not end", "", BAD_DATA));
    }
    let mut message = message::canonical(&input, sending.end);
    drop(input);
    let mut to = sending.to.clone();
    if sending.recipients == Recipients::InTheHeader {
        let (named, without) = message::recipients(&message);
        to.extend(named);
        message = without;
    }
    if to.is_empty() {
        return Err(refused("the header names no recipient", "write a To field, or name one on the command line", BAD_USAGE));
    }
    Ok((message::with_wish(message, sending.tls), to))
}

/// The row of the answer.
#[derive(Default)]
struct Answer {
    line: String,
    row: Option<SentRow>,
    queued: u64,
}

impl Listener for Answer {
    fn line(&mut self, json: &str) -> io::Result<()> {
        json.clone_into(&mut self.line);
        self.row = SentRow::deserialize_json(json).ok();
        self.queued = self.row.as_ref().map_or(0, |row| row.queued);
        Ok(())
    }

    fn octets(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn hand_over(globals: &Globals, request: SendRequest, message: &[u8], answer: &mut Answer) -> Result<Way, Failure> {
    let place = match place::find(globals) {
        Ok(place) => place,
        Err(failure) => {
            // The system's server, whose configuration a plain user cannot read.
            let named = globals.config.is_some() || globals.dir.is_some();
            return match if named { None } else { connect(&[Path::new(find::RUNTIME_FOLDER).join(SEND_SOCKET)]) } {
                Some(stream) => ask::online(stream, &Command::Send(request), message, answer).map(|()| Way::Server),
                None => Err(Failure { exit: BAD_CONFIGURATION, ..failure }),
            };
        }
    };
    if is_ours(&place) {
        return ask::ask_any(&place, Command::Send(request), message, answer);
    }
    let mut sockets = vec![place.dir.join(SEND_SOCKET)];
    if find::is_system_wide(&place.file) {
        sockets.push(Path::new(find::RUNTIME_FOLDER).join(SEND_SOCKET));
    }
    match connect(&sockets) {
        Some(stream) => ask::online(stream, &Command::Send(request), message, answer).map(|()| Way::Server),
        None => Err(refused(format!("no server takes mail for {}", place.dir.display()), "is `pipit serve` running?", TRY_LATER)),
    }
}

/// Whether the directory is ours to work in: we are root, or its owner, or it is not there yet.
fn is_ours(place: &Place) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(&place.dir).map(|facts| facts.uid());
    uid == 0 || owner.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |owner| owner == uid)
}

fn connect(sockets: &[PathBuf]) -> Option<UnixStream> {
    sockets.iter().find_map(|path| UnixStream::connect(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_dialect() {
        let rows = [(0, 0, 0), (1, 1, 75), (2, 2, 64), (64, 2, 64), (67, 1, 67), (75, 1, 75), (77, 1, 77), (78, 1, 78)];
        for (exit, pipit, sendmail) in rows {
            assert_eq!(exit_status(Dialect::Pipit, exit), pipit);
            assert_eq!(exit_status(Dialect::Sendmail, exit), sendmail);
        }
    }
}
