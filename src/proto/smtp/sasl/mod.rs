//! SASL (RFC 4422) on the server's side: mechanisms as machines over octets, without base64 lines and without a store.
//!
//! In goes what the client said, decoded; out comes `Next`: a challenge, a question to the driver (the keys of a name,
//! a judgement of a password), or that the words make no sense. Nonces and keys enter as values. PLAIN (RFC 4616),
//! LOGIN (draft-murchison-sasl-login, which old programs still speak), SCRAM-SHA-256 and -PLUS (RFC 5802, 7677, 9266).
//! An authorization identity is accepted only when it is the login's own name: nobody acts for somebody else here.
//! Not done here: the lines of SMTP (`smtp::server`), who exists, delays and blocks (`admin::logins`).

pub mod base64;
pub mod login;
pub mod plain;
pub mod scram;

use std::fmt;

/// Longest name of a login in octets: an address has at most 320 in RFC 5321 section 4.5.3.1, longer local parts some more.
pub const MAX_NAME: usize = 512;
/// Longest password in octets; as `admin::wire` allows.
pub const MAX_PASSWORD: usize = 1024;

/// The `tls-exporter` value of a session (RFC 9266).
pub type Binding = [u8; 32];

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Login,
    ScramSha256,
    ScramSha256Plus,
}

impl Mechanism {
    /// By its registered name, letter case ignored.
    pub fn parse(name: &str) -> Option<Mechanism> {
        let all = [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256, Mechanism::ScramSha256Plus];
        all.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }
}

/// A password as it was sent; it does not show in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(text: String) -> Password {
        Password(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a client has said to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub mechanism: Mechanism,
    /// as sent, at most `MAX_NAME` octets
    pub name: String,
    pub proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// to be compared by the driver
    Password(Password),
    /// SCRAM: the client knows the secret behind these keys, which were handed in; whether they are still the account's is
    /// the driver's to look up
    Keys(Box<scram::Keys>),
    /// proved wrong already; the driver counts and delays it like a wrong password
    Wrong,
}

/// What follows when the attempt is found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// the client is in
    Welcome,
    /// the server proves itself first (RFC 5802 section 3); the client answers with nothing
    Prove(Vec<u8>),
}

/// A conversation in which the client has the word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    Plain,
    Login(login::Login),
    ScramFirst(scram::First),
    ScramFinal(Box<scram::Final>),
    /// the server has proved itself; an empty answer ends it
    ScramEnd,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Challenge(Exchange, Vec<u8>),
    /// look up the keys of `Lookup::name`, then `Lookup::challenge`
    FindKeys(Box<scram::Lookup>),
    Judge(Attempt, Ending),
    Welcome,
    /// not what the mechanism allows; a sentence about it
    Malformed(&'static str),
}

impl Exchange {
    /// Begins; `binding` is the session's, if it has one.
    pub fn begin(mechanism: Mechanism, binding: Option<Binding>) -> Exchange {
        match mechanism {
            Mechanism::Plain => Exchange::Plain,
            Mechanism::Login => Exchange::Login(login::Login::Name),
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => Exchange::ScramFirst(scram::First { mechanism, binding }),
        }
    }

    /// What to send to a client that began without an initial response.
    pub fn opening(&self) -> &'static [u8] {
        match self {
            Exchange::Login(login) => login.question(),
            Exchange::Plain | Exchange::ScramFirst(_) | Exchange::ScramFinal(_) | Exchange::ScramEnd => b"",
        }
    }

    /// Takes what the client said.
    pub fn answer(self, said: &[u8]) -> Next {
        match self {
            Exchange::Plain => plain::judge(said),
            Exchange::Login(login) => login.answer(said),
            Exchange::ScramFirst(first) => first.answer(said),
            Exchange::ScramFinal(last) => last.answer(said),
            Exchange::ScramEnd if said.is_empty() => Next::Welcome,
            Exchange::ScramEnd => Next::Malformed("nothing was to be said any more"),
        }
    }
}

/// A name or password: UTF-8 without NUL, neither empty nor longer than `max`.
fn text(octets: &[u8], max: usize) -> Option<String> {
    let fits = !octets.is_empty() && octets.len() <= max && !octets.contains(&0);
    fits.then(|| String::from_utf8(octets.to_vec()).ok()).flatten()
}

/// Whether the wish to act as `authorization` is the wish to act as oneself.
fn is_own(authorization: &[u8], name: &str) -> bool {
    authorization.is_empty() || authorization.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_known_by_name() {
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256, Mechanism::ScramSha256Plus] {
            assert_eq!(Mechanism::parse(&mechanism.name().to_lowercase()), Some(mechanism));
        }
        for unknown in ["", "CRAM-MD5", "PLAIN ", "SCRAM-SHA-1", "SCRAM-SHA-256-plus2"] {
            assert_eq!(Mechanism::parse(unknown), None);
        }
    }

    #[test]
    fn a_password_does_not_show() {
        let attempt = plain::judge(b"\0ann\0hunter22");
        assert!(!format!("{attempt:?}").contains("hunter22"));
    }
}
