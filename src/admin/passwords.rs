//! Account passwords as argon2id hashes (RFC 9106) in PHC form.
//!
//! 7 MiB and 5 passes: as hard as 19 MiB and 2 passes, and one hash at a time fits a board of 512 MB. Both functions
//! take tens of milliseconds and more on a small board: they run on the offload thread, never on the event loop.

use argon2::Algorithm;
use argon2::Argon2;
use argon2::Params;
use argon2::PasswordHasher;
use argon2::PasswordVerifier;
use argon2::Version;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

/// KiB
const MEMORY: u32 = 7 * 1024;
const PASSES: u32 = 5;
const SALT: usize = 16;

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY, PASSES, 1, None).expect("the constants are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The PHC string of a new salt and this password; `None` without randomness or memory.
pub fn hash(password: &str) -> Option<String> {
    let mut salt = [0u8; SALT];
    SystemRandom::new().fill(&mut salt).ok()?;
    let hash: argon2::password_hash::phc::PasswordHash = hasher().hash_password_with_salt(password.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

/// Whether the password is the one of the hash. A text that is no hash fits no password.
pub fn verify(password: &str, hash: &str) -> Verdict {
    match hasher().verify_password(password.as_bytes(), hash) {
        Ok(()) => Verdict::Right,
        Err(_) => Verdict::Wrong,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only() {
        let stored = hash("localserve").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{stored}");
        assert_eq!(verify("localserve", &stored), Verdict::Right);
        assert_eq!(verify("localserv", &stored), Verdict::Wrong);
        assert_eq!(verify("", ""), Verdict::Wrong);
        assert_ne!(hash("localserve").unwrap(), stored);
    }
}
