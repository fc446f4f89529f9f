//! AUTH on a submission listener (RFC 4954): the lines around the machines of `smtp::sasl`.
//!
//! In go the command and the client's answers in base64; out come challenges, questions to the driver and the verdict.
//! Only under TLS (promise R14), only behind EHLO, once a session, and never within a transaction. Every refusal counts
//! as an error; the driver delays and blocks.

use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::sasl::Ending;
use crate::proto::smtp::sasl::Exchange;
use crate::proto::smtp::sasl::Mechanism;
use crate::proto::smtp::sasl::Next;
use crate::proto::smtp::sasl::base64;
use crate::proto::smtp::sasl::scram;

use super::Action;
use super::Binding;
use super::Greeting;
use super::KeysFound;
use super::Login;
use super::LoginVerdict;
use super::Offer;
use super::Phase;
use super::Protocol;
use super::Ready;
use super::Role;
use super::Session;
use super::Step;
use super::answers;

impl Session {
    /// Whether MAIL is refused until somebody has logged in.
    pub(super) fn must_log_in(&self) -> bool {
        (self.params.role, self.login) == (Role::Submission, Login::Nobody)
    }

    fn binding(&self) -> Option<Binding> {
        self.tls.as_ref().and_then(|tls| tls.binding)
    }

    /// Whether SCRAM-SHA-256-PLUS can be had.
    pub(super) fn binding_offer(&self) -> Offer {
        if self.binding().is_some() { Offer::Offered } else { Offer::Withheld }
    }

    pub(super) fn auth(&mut self, ready: Ready, argument: &[u8]) -> Step {
        if self.params.role == Role::Exchange {
            return self.wrong(ready, answers::auth_not_here());
        }
        let greeting = match ready {
            Ready::Greeted(greeting) if greeting.protocol == Protocol::Esmtp => greeting,
            Ready::Connected | Ready::Greeted(_) => return self.wrong(ready, answers::out_of_order("send EHLO first")),
            Ready::Mail(..) => return self.wrong(ready, answers::out_of_order("a transaction is running; RSET ends it")),
        };
        let refusal = match (self.login, self.channel()) {
            (Login::Known, _) => answers::out_of_order("you are logged in already"),
            (Login::Nobody, Channel::Plain) => answers::auth_needs_tls(),
            (Login::Nobody, Channel::Tls) => return self.begin_login(greeting, argument),
        };
        self.wrong(Ready::Greeted(greeting), refusal)
    }

    fn begin_login(&mut self, greeting: Greeting, argument: &[u8]) -> Step {
        let words: Vec<&[u8]> = argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(3).collect();
        let (name, response) = match words.as_slice() {
            [name] => (name, None),
            [name, response] => (name, Some(response)),
            _ => return self.wrong(Ready::Greeted(greeting), answers::bad_auth_arguments()),
        };
        let mechanism = std::str::from_utf8(name).ok().and_then(Mechanism::parse);
        let mechanism = mechanism.filter(|found| *found != Mechanism::ScramSha256Plus || self.binding().is_some());
        let Some(mechanism) = mechanism else { return self.wrong(Ready::Greeted(greeting), answers::unknown_mechanism()) };
        let exchange = Exchange::begin(mechanism, self.binding());
        match response {
            None => {
                let question = answers::challenge(exchange.opening());
                (Phase::Answering(greeting, Box::new(exchange)), Action::Challenge(question))
            }
            // RFC 4954 section 4: an initial response of no octets.
            Some(text) if *text == b"=" => self.go_on(greeting, exchange.answer(b"")),
            Some(text) => self.decoded(greeting, exchange, text),
        }
    }

    /// The client's answer to a challenge.
    pub(super) fn answer(&mut self, greeting: Greeting, exchange: Exchange, line: &[u8]) -> Step {
        match line {
            b"*" => self.wrong(Ready::Greeted(greeting), answers::login_cancelled()),
            text => self.decoded(greeting, exchange, text),
        }
    }

    fn decoded(&mut self, greeting: Greeting, exchange: Exchange, text: &[u8]) -> Step {
        match base64::decode(text) {
            Some(octets) => self.go_on(greeting, exchange.answer(&octets)),
            None => self.wrong(Ready::Greeted(greeting), answers::not_base64()),
        }
    }

    fn go_on(&mut self, greeting: Greeting, next: Next) -> Step {
        match next {
            Next::Challenge(exchange, octets) => {
                (Phase::Answering(greeting, Box::new(exchange)), Action::Challenge(answers::challenge(&octets)))
            }
            Next::FindKeys(lookup) => {
                let name = lookup.name.clone();
                (Phase::FindingKeys(greeting, lookup), Action::FindKeys { name })
            }
            Next::Judge(attempt, ending) => (Phase::CheckingLogin(greeting, Box::new(ending)), Action::CheckLogin(attempt)),
            Next::Welcome => {
                self.login = Login::Known;
                (Phase::Ready(Ready::Greeted(greeting)), Action::Reply(answers::logged_in()))
            }
            Next::Malformed(why) => self.wrong(Ready::Greeted(greeting), answers::malformed_login(why)),
        }
    }

    pub(super) fn keys(&mut self, greeting: Greeting, lookup: scram::Lookup, found: KeysFound) -> Step {
        match found {
            KeysFound::Found(credentials) => self.go_on(greeting, lookup.challenge(credentials)),
            KeysFound::TryLater => self.defer(Ready::Greeted(greeting), answers::login_later()),
        }
    }

    pub(super) fn login(&mut self, greeting: Greeting, ending: Ending, verdict: LoginVerdict) -> Step {
        match (verdict, ending) {
            (LoginVerdict::Accepted, Ending::Welcome) => self.go_on(greeting, Next::Welcome),
            (LoginVerdict::Accepted, Ending::Prove(proof)) => self.go_on(greeting, Next::Challenge(Exchange::ScramEnd, proof)),
            (LoginVerdict::Refused, _) => self.wrong(Ready::Greeted(greeting), answers::login_refused()),
            (LoginVerdict::TryLater, _) => self.defer(Ready::Greeted(greeting), answers::login_later()),
        }
    }
}
