//! LOGIN (draft-murchison-sasl-login): two questions, a name and a password. Obsolete, and what many devices know.

use super::Attempt;
use super::Ending;
use super::Exchange;
use super::MAX_NAME;
use super::MAX_PASSWORD;
use super::Mechanism;
use super::Next;
use super::Password;
use super::Proof;
use super::text;

/// Which question was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Name,
    /// of this name
    Password(String),
}

impl Login {
    /// Clients look at these words, not at their number.
    pub fn question(&self) -> &'static [u8] {
        match self {
            Login::Name => b"Username:",
            Login::Password(_) => b"Password:",
        }
    }

    pub fn answer(self, said: &[u8]) -> Next {
        match self {
            Login::Name => match text(said, MAX_NAME) {
                Some(name) => {
                    let next = Login::Password(name);
                    let question = next.question().to_vec();
                    Next::Challenge(Exchange::Login(next), question)
                }
                None => Next::Malformed("LOGIN wants a name first"),
            },
            Login::Password(name) => match text(said, MAX_PASSWORD) {
                Some(password) => {
                    let proof = Proof::Password(Password::new(password));
                    Next::Judge(Attempt { mechanism: Mechanism::Login, name, proof }, Ending::Welcome)
                }
                None => Next::Malformed("LOGIN wants a password behind the name"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_then_password() {
        let Next::Challenge(Exchange::Login(login), question) = Login::Name.answer(b"ann@home.test") else { panic!() };
        assert_eq!(question, b"Password:");
        let Next::Judge(attempt, Ending::Welcome) = login.clone().answer(b"secret") else { panic!() };
        assert_eq!((attempt.name.as_str(), attempt.proof), ("ann@home.test", Proof::Password(Password::new("secret".into()))));
        assert!(matches!(login.answer(b""), Next::Malformed(_)));
        for malformed in [b"".as_slice(), b"a\0b", b"\xff", &[b'x'; 513]] {
            assert!(matches!(Login::Name.answer(malformed), Next::Malformed(_)));
        }
    }
}
