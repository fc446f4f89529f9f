//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL password` in one message.

use super::Attempt;
use super::Ending;
use super::MAX_NAME;
use super::MAX_PASSWORD;
use super::Mechanism;
use super::Next;
use super::Password;
use super::Proof;
use super::is_own;
use super::text;

const SHAPE: &str = "PLAIN wants a name and a password, separated by NUL";

/// Reads the message.
pub fn judge(said: &[u8]) -> Next {
    let parts: Vec<&[u8]> = said.split(|octet| *octet == 0).take(4).collect();
    let [authorization, name, password] = parts.as_slice() else { return Next::Malformed(SHAPE) };
    let (Some(name), Some(password)) = (text(name, MAX_NAME), text(password, MAX_PASSWORD)) else { return Next::Malformed(SHAPE) };
    let proof = if is_own(authorization, &name) { Proof::Password(Password::new(password)) } else { Proof::Wrong };
    Next::Judge(Attempt { mechanism: Mechanism::Plain, name, proof }, Ending::Welcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_and_nothing_else() {
        let Next::Judge(attempt, Ending::Welcome) = judge("\0ann@home.test\0pä ss".as_bytes()) else { panic!() };
        assert_eq!((attempt.name.as_str(), attempt.proof), ("ann@home.test", Proof::Password(Password::new("pä ss".into()))));
        let Next::Judge(own, _) = judge(b"Ann\0ann\0x") else { panic!() };
        assert!(matches!(own.proof, Proof::Password(_)));
        let Next::Judge(other, _) = judge(b"bob\0ann\0x") else { panic!() };
        assert_eq!(other.proof, Proof::Wrong);
        let long = [b"\0ann\0".as_slice(), &[b'x'; 1025]].concat();
        for malformed in [b"".as_slice(), b"\0", b"\0\0", b"\0ann\0", b"\0\0x", b"ann\0x", b"\0ann\0x\0y", b"\0a\xff\0x", &long] {
            assert!(matches!(judge(malformed), Next::Malformed(_)), "{malformed:?}");
        }
    }
}
