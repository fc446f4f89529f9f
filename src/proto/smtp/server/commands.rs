//! What each command does in each state (RFC 5321 section 4.1.4 has the order of commands).
//!
//! In goes a line and the state it meets; out comes the next phase and the action. Errors and idle commands are counted
//! here, at the one place where each is answered.

use crate::mail::envelope::Envelope;
use crate::mail::envelope::Recipient;
use crate::mail::path::ForwardPath;
use crate::mail::path::ReversePath;
use crate::proto::smtp::command;
use crate::proto::smtp::command::Charset;
use crate::proto::smtp::command::Command;
use crate::proto::smtp::command::Parameter;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::parameters;
use crate::proto::smtp::reply::Reply;

use super::Action;
use super::Greeting;
use super::MAX_DEFERRED;
use super::MAX_RECIPIENT_OCTETS;
use super::Offer;
use super::Phase;
use super::Protocol;
use super::Ready;
use super::Role;
use super::Session;
use super::Step;
use super::answers;
use super::end;

/// MAIL as parsed.
struct MailCommand<'a> {
    path: ReversePath,
    charset: Charset,
    parameters: Vec<Parameter<'a>>,
}

/// RCPT as parsed.
struct RcptCommand<'a> {
    path: ForwardPath,
    charset: Charset,
    parameters: Vec<Parameter<'a>>,
}

impl Session {
    pub(super) fn command(&mut self, ready: Ready, line: &[u8]) -> Step {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(fault) => return self.wrong(ready, answers::fault(fault)),
        };
        match command {
            Command::Helo(host) => self.greet(ready, Greeting { protocol: Protocol::Smtp, host: host.into() }),
            Command::Ehlo(host) => self.greet(ready, Greeting { protocol: Protocol::Esmtp, host: host.into() }),
            Command::Mail { path, charset, parameters } => self.mail(ready, MailCommand { path, charset, parameters }),
            Command::Rcpt { path, charset, parameters } => self.rcpt(ready, RcptCommand { path, charset, parameters }),
            Command::Data => self.data_command(ready),
            Command::Rset => self.idle(forget(ready), answers::reset()),
            Command::Noop => self.idle(ready, answers::noop()),
            Command::Vrfy => self.idle(ready, answers::vrfy()),
            Command::Help => self.idle(ready, answers::help()),
            Command::Quit => end(answers::bye()),
            Command::StartTls => self.starttls(ready),
            Command::Auth(argument) => self.auth(ready, argument),
            Command::NotServed => self.wrong(ready, answers::not_served()),
            // Whatever answer there is, a browser could be made to read it.
            Command::Foreign => (Phase::Closed, Action::Close),
            Command::Unknown => self.wrong(ready, answers::unknown_command()),
        }
    }

    /// Refuses and counts; too many refusals end the session.
    pub(super) fn wrong(&mut self, ready: Ready, reply: Reply) -> Step {
        self.counts.errors += 1;
        if self.counts.errors >= self.params.max_errors {
            return end(answers::too_many_errors());
        }
        (Phase::Ready(ready), Action::Reply(reply))
    }

    /// Puts off without blame. Who asks for more than any honest client would is put off for good.
    pub(super) fn defer(&mut self, ready: Ready, reply: Reply) -> Step {
        self.counts.deferred += 1;
        if self.counts.deferred >= MAX_DEFERRED {
            return end(answers::too_much_junk());
        }
        (Phase::Ready(ready), Action::Reply(reply))
    }

    /// Answers and counts a command that leads to no mail.
    fn idle(&mut self, ready: Ready, reply: Reply) -> Step {
        self.counts.junk += 1;
        if self.counts.junk >= self.params.max_junk {
            return end(answers::too_much_junk());
        }
        (Phase::Ready(ready), Action::Reply(reply))
    }

    fn greet(&mut self, ready: Ready, greeting: Greeting) -> Step {
        let reply = match greeting.protocol {
            Protocol::Smtp => answers::helo(&self.params.hostname),
            Protocol::Esmtp => answers::ehlo(&self.params.hostname, &self.params.offers().announced(self.channel(), self.binding_offer())),
        };
        // RFC 5321 section 4.1.4: a later EHLO is allowed and ends the transaction like RSET.
        match ready {
            Ready::Connected => (Phase::Ready(Ready::Greeted(greeting)), Action::Reply(reply)),
            Ready::Greeted(_) | Ready::Mail(..) => self.idle(Ready::Greeted(greeting), reply),
        }
    }

    fn mail(&mut self, ready: Ready, mail: MailCommand<'_>) -> Step {
        let greeting = match ready {
            Ready::Connected => return self.wrong(ready, answers::out_of_order("send EHLO first")),
            Ready::Mail(..) => return self.wrong(ready, answers::out_of_order("a transaction is running; RSET ends it")),
            Ready::Greeted(greeting) => greeting,
        };
        let wanted = match parameters::judge_mail(&mail.parameters, self.terms(greeting.protocol)) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.wrong(Ready::Greeted(greeting), refusal.reply()),
        };
        // RFC 6531 section 3.4: a path beyond ASCII only in a transaction with SMTPUTF8.
        if mail.charset == Charset::Utf8 && !wanted.smtp_utf8 {
            return self.wrong(Ready::Greeted(greeting), answers::needs_utf8());
        }
        if self.must_log_in() {
            return self.wrong(Ready::Greeted(greeting), answers::login_first(self.channel()));
        }
        let envelope = Envelope {
            reverse_path: mail.path,
            recipients: Vec::new(),
            require_tls: wanted.require_tls,
            body: wanted.body,
            smtp_utf8: wanted.smtp_utf8,
            declared_size: wanted.declared_size,
            ret: wanted.ret,
            envid: wanted.envid,
        };
        if self.params.role == Role::Submission {
            let path = envelope.reverse_path.clone();
            return (Phase::CheckingSender(greeting, Box::new(envelope)), Action::CheckSender(path));
        }
        (Phase::CheckingSpace(greeting, Box::new(envelope)), Action::CheckSpace { declared: wanted.declared_size })
    }

    fn rcpt(&mut self, ready: Ready, rcpt: RcptCommand<'_>) -> Step {
        let (greeting, envelope) = match ready {
            Ready::Connected | Ready::Greeted(_) => return self.wrong(ready, answers::out_of_order("send MAIL first")),
            Ready::Mail(greeting, envelope) => (greeting, envelope),
        };
        let wanted = match parameters::judge_rcpt(&rcpt.parameters, self.terms(greeting.protocol)) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.wrong(Ready::Mail(greeting, envelope), refusal.reply()),
        };
        if rcpt.charset == Charset::Utf8 && !envelope.smtp_utf8 {
            return self.wrong(Ready::Mail(greeting, envelope), answers::needs_utf8());
        }
        let octets: usize = envelope.recipients.iter().map(Recipient::octets).sum();
        if envelope.recipients.len() >= self.params.max_recipients || octets > MAX_RECIPIENT_OCTETS {
            // No error: how else would a client learn the limit.
            return self.defer(Ready::Mail(greeting, envelope), answers::too_many_recipients());
        }
        let recipient = Recipient { path: rcpt.path, notify: wanted.notify, orcpt: wanted.orcpt };
        (Phase::CheckingRecipient(greeting, envelope, Box::new(recipient.clone())), Action::CheckRecipient(recipient))
    }

    fn data_command(&mut self, ready: Ready) -> Step {
        match ready {
            Ready::Connected | Ready::Greeted(_) => self.wrong(ready, answers::out_of_order("send MAIL first")),
            // RFC 5321 section 3.3 allows 503 and 554; RFC 2920 section 3.1 wants a refusal where all RCPT failed.
            Ready::Mail(greeting, envelope) if envelope.recipients.is_empty() => {
                self.wrong(Ready::Mail(greeting, envelope), answers::no_recipients())
            }
            Ready::Mail(greeting, envelope) => (Phase::Receiving(greeting, envelope), Action::ReadData(answers::send_data())),
        }
    }

    fn starttls(&mut self, ready: Ready) -> Step {
        match (ready, self.channel(), self.params.starttls) {
            (ready, Channel::Tls, _) => self.wrong(ready, answers::out_of_order("TLS is active already")),
            (ready, Channel::Plain, Offer::Withheld) => self.wrong(ready, answers::starttls_not_available()),
            (ready @ Ready::Connected, Channel::Plain, Offer::Offered) => self.wrong(ready, answers::out_of_order("send EHLO first")),
            (ready @ Ready::Mail(..), Channel::Plain, Offer::Offered) => {
                self.wrong(ready, answers::out_of_order("a transaction is running; RSET ends it"))
            }
            (Ready::Greeted(_), Channel::Plain, Offer::Offered) => (Phase::StartingTls, Action::StartTls(answers::starttls_ready())),
        }
    }
}

fn forget(ready: Ready) -> Ready {
    match ready {
        Ready::Connected => Ready::Connected,
        Ready::Greeted(greeting) | Ready::Mail(greeting, _) => Ready::Greeted(greeting),
    }
}
