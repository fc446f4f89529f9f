//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677), the server's side, bound with `tls-exporter` (RFC 9266).
//!
//! The name comes first; the driver looks up a salt and keys, also for names that nobody has (with a stable salt and no
//! keys), and adds a nonce. The client's proof is then compared with every key, since each app password has its own.
//! Names are compared as sent: SASLprep (RFC 4013) of an address in ASCII changes nothing, and our app passwords are ASCII.

use std::num::NonZeroU32;

use ring::digest;
use ring::hmac;
use ring::pbkdf2;

use super::Attempt;
use super::Binding;
use super::Ending;
use super::Exchange;
use super::MAX_NAME;
use super::Mechanism;
use super::Next;
use super::Proof;
use super::base64;
use super::is_own;
use super::text;

/// Octets of SHA-256.
pub const KEY: usize = 32;
/// Rounds for new keys: the least that RFC 7677 section 4 allows; our app passwords are random, so more gain nothing.
pub const ITERATIONS: u32 = 4096;
/// Clients send about 30 octets.
const MAX_NONCE: usize = 256;
/// A message of the client: name, nonce, proof and whatever extensions.
const MAX_MESSAGE: usize = 4096;
/// The only type of binding that TLS 1.3 has (RFC 9266).
const BINDING_TYPE: &str = "tls-exporter";

/// What is kept of a password: enough to check a client and to prove oneself, not to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub stored: [u8; KEY],
    pub server: [u8; KEY],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What the driver found for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub salt: Vec<u8>,
    pub iterations: u32,
    /// none: nobody can log in, and nobody can tell
    pub keys: Vec<Keys>,
    /// printable ASCII without commas, new for each attempt
    pub nonce: String,
}

/// The keys of a password. Thousands of hashes: some milliseconds, not for the event loop.
pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let mut salted = [0; KEY];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
    let client = sign(&salted, b"Client Key");
    Keys { stored: hash(&client), server: sign(&salted, b"Server Key") }
}

/// Which of the keys are those of the password.
pub fn find(keys: &[Keys], wanted: &Keys) -> Option<usize> {
    // All are looked at, so that the time tells nothing.
    keys.iter().enumerate().fold(None, |found, (at, key)| if same(&key.stored, &wanted.stored) { Some(at) } else { found })
}

fn sign(key: &[u8], text: &[u8]) -> [u8; KEY] {
    fixed(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref())
}

fn hash(text: &[u8]) -> [u8; KEY] {
    fixed(digest::digest(&digest::SHA256, text).as_ref())
}

fn fixed(octets: &[u8]) -> [u8; KEY] {
    octets.try_into().expect("SHA-256 has 32 octets")
}

/// Compares in a time that does not depend on where they differ.
fn same(left: &[u8; KEY], right: &[u8; KEY]) -> bool {
    left.iter().zip(right).fold(0, |difference, (l, r)| difference | (l ^ r)) == 0
}

/// The client's first message is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub mechanism: Mechanism,
    pub binding: Option<Binding>,
}

/// The keys of a name are awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub name: String,
    mechanism: Mechanism,
    /// `client-first-message-bare`
    bare: String,
    nonce: String,
    /// what the attribute `c` must hold, decoded
    bound: Vec<u8>,
}

/// The client's proof is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    name: String,
    mechanism: Mechanism,
    /// both nonces
    nonce: String,
    /// `client-first-message-bare "," server-first-message`
    begun: String,
    bound: Vec<u8>,
    keys: Vec<Keys>,
}

/// The parts of `client-first-message` (RFC 5802 section 7).
struct Opening<'a> {
    /// with both commas
    header: &'a str,
    flag: &'a str,
    authorization: Option<String>,
    bare: &'a str,
    name: String,
    nonce: &'a str,
}

fn opening(message: &str) -> Option<Opening<'_>> {
    let (flag, rest) = message.split_once(',')?;
    let (authorization, bare) = rest.split_once(',')?;
    let header = &message[..message.len() - bare.len()];
    let authorization = match authorization {
        "" => None,
        text => Some(unescape(text.strip_prefix("a=")?)?),
    };
    // `m=` in front announces extensions that must be understood; none is.
    let (name, rest) = bare.strip_prefix("n=")?.split_once(',')?;
    let nonce = rest.split(',').next()?.strip_prefix("r=")?;
    let printable = nonce.bytes().all(|octet| octet.is_ascii_graphic());
    let name = text(unescape(name)?.as_bytes(), MAX_NAME)?;
    (printable && !nonce.is_empty() && nonce.len() <= MAX_NONCE).then_some(Opening { header, flag, authorization, bare, name, nonce })
}

/// `=2C` is a comma, `=3D` an equals sign, and no other `=` may stand in a name.
fn unescape(name: &str) -> Option<String> {
    let mut meaning = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, behind)) = rest.split_once('=') {
        meaning.push_str(before);
        let (escape, after) = behind.split_at_checked(2)?;
        meaning.push(match escape {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = after;
    }
    meaning.push_str(rest);
    Some(meaning)
}

fn message(said: &[u8]) -> Option<&str> {
    std::str::from_utf8(said).ok().filter(|text| text.len() <= MAX_MESSAGE && !text.contains('\0'))
}

impl First {
    pub fn answer(self, said: &[u8]) -> Next {
        let Some(opening) = message(said).and_then(opening) else { return Next::Malformed("this is no first message of SCRAM") };
        let bound = match (self.mechanism, opening.flag, self.binding) {
            (Mechanism::ScramSha256Plus, flag, Some(binding)) if flag.strip_prefix("p=") == Some(BINDING_TYPE) => {
                [opening.header.as_bytes(), &binding].concat()
            }
            (Mechanism::ScramSha256Plus, _, _) => return Next::Malformed("SCRAM-SHA-256-PLUS is bound by tls-exporter here"),
            (_, "n", _) | (_, "y", None) => opening.header.as_bytes().to_vec(),
            // RFC 5802 section 6: the client believes that we have no binding; somebody in between has told it so.
            (_, "y", Some(_)) => return wrong(self.mechanism, opening.name),
            (_, _, _) => return Next::Malformed("a channel binding needs the mechanism SCRAM-SHA-256-PLUS"),
        };
        if !opening.authorization.is_none_or(|wish| is_own(wish.as_bytes(), &opening.name)) {
            return wrong(self.mechanism, opening.name);
        }
        let (bare, nonce) = (opening.bare.to_owned(), opening.nonce.to_owned());
        Next::FindKeys(Box::new(Lookup { name: opening.name, mechanism: self.mechanism, bare, nonce, bound }))
    }
}

fn wrong(mechanism: Mechanism, name: String) -> Next {
    Next::Judge(Attempt { mechanism, name, proof: Proof::Wrong }, Ending::Welcome)
}

impl Lookup {
    /// The server's first message.
    pub fn challenge(self, found: Credentials) -> Next {
        let nonce = format!("{}{}", self.nonce, found.nonce);
        let challenge = format!("r={nonce},s={},i={}", base64::encode(&found.salt), found.iterations);
        let begun = format!("{},{challenge}", self.bare);
        let awaited = Final { name: self.name, mechanism: self.mechanism, nonce, begun, bound: self.bound, keys: found.keys };
        Next::Challenge(Exchange::ScramFinal(Box::new(awaited)), challenge.into_bytes())
    }
}

impl Final {
    pub fn answer(self, said: &[u8]) -> Next {
        const SHAPE: &str = "this is no final message of SCRAM";
        let parts = message(said).and_then(|text| Some((text.rsplit_once(",p=")?, text)));
        let Some(((without_proof, proof), _)) = parts else { return Next::Malformed(SHAPE) };
        let mut attributes = without_proof.split(',');
        let bound = attributes.next().and_then(|c| c.strip_prefix("c=")).and_then(|c| base64::decode(c.as_bytes()));
        let nonce = attributes.next().and_then(|r| r.strip_prefix("r="));
        let proof = base64::decode(proof.as_bytes()).and_then(|octets| <[u8; KEY]>::try_from(octets).ok());
        let (Some(bound), Some(nonce), Some(proof)) = (bound, nonce, proof) else { return Next::Malformed(SHAPE) };
        let said = format!("{},{without_proof}", self.begun);
        let proved = self.proved(&proof, said.as_bytes()).filter(|_| bound == self.bound && nonce == self.nonce);
        let Some(keys) = proved.cloned() else { return wrong(self.mechanism, self.name) };
        let signature = sign(&keys.server, said.as_bytes());
        let attempt = Attempt { mechanism: self.mechanism, name: self.name, proof: Proof::Keys(Box::new(keys)) };
        Next::Judge(attempt, Ending::Prove(format!("v={}", base64::encode(&signature)).into_bytes()))
    }

    /// Which of the keys belongs to the secret that the client knows.
    fn proved(&self, proof: &[u8; KEY], said: &[u8]) -> Option<&Keys> {
        let mut found = None;
        for keys in &self.keys {
            let mut client = sign(&keys.stored, said);
            client.iter_mut().zip(proof).for_each(|(key, octet)| *key ^= octet);
            if same(&hash(&client), &keys.stored) {
                found = Some(keys);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
