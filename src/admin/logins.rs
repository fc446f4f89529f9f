//! Who may log in (promise R14): passwords compared, failures delayed, then blocked per account and address.
//!
//! In goes what a client said (`smtp::sasl::Attempt`) and where it is; out comes the account, or "no" after a pause. A
//! hash is always computed, also for names that nobody has, and a name without app passwords gets a salt all the same
//! (an HMAC of the name under the store's id), so that neither time nor challenge tells who exists. Blocks are for the
//! pair of name and network: who guesses shuts out nobody but himself. They are kept in memory and end with the process: on an
//! SD card each guess of a stranger would be a write, and a restart gains him no more than `FREE` guesses.
//! Account passwords are argon2id, for PLAIN and LOGIN; app passwords are ours and work with every mechanism.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use log::info;
use log::warn;
use ring::hmac;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::admin::app_passwords;
use crate::admin::passwords;
use crate::config::live::Live;
use crate::mail::address::Address;
use crate::metrics::LoginOutcome;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::deadline::sleep;
use crate::net::offload::Offload;
use crate::net::offload::Priority;
use crate::proto::smtp::sasl::Attempt;
use crate::proto::smtp::sasl::Password;
use crate::proto::smtp::sasl::Proof;
use crate::proto::smtp::sasl::base64;
use crate::proto::smtp::sasl::scram;
use crate::proto::smtp::sasl::scram::Credentials;
use crate::proto::smtp::sasl::scram::Keys;
use crate::store::AccountId;
use crate::store::Error;
use crate::store::Store;
use crate::store::accounts;
use crate::store::accounts::Account;
use crate::store::meta;

/// Failures of a pair before it is blocked: a mistyped password, a program with the old one that tries a few times.
const FREE: u32 = 10;
/// How long a block lasts; as long a silence forgets what was before it.
const BLOCKED: Duration = Duration::from_secs(15 * 60);
/// The pause behind the first failure; doubled with each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this, which a client still waits for, and a server that ends too.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Pairs remembered, about 300 KB; beyond it the longest silent one is forgotten.
const MAX_PAIRS: usize = 4096;
/// Octets of a salt (RFC 7677 names none; 16 is what everybody takes).
const SALT: usize = 16;
/// Octets of a nonce before base64.
const NONCE: usize = 18;
/// A hash that no password has, for names that nobody has; made with the parameters of `passwords::hash`.
const NOBODYS: &str = "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5cy1zYWx0LTE2IQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Somebody who is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub account: AccountId,
    pub address: Address,
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Welcome(Login),
    /// wrong, unknown or blocked
    Refused,
    /// too many logins wait, or the store cannot be read
    Later,
}

/// Logins of one instance.
pub struct Logins {
    store: Store,
    live: Rc<Live>,
    offload: Offload,
    clock: Clock,
    metrics: Rc<Metrics>,
    /// makes salts for names
    salts: hmac::Key,
    guesses: RefCell<Guesses>,
}

impl Logins {
    pub fn new(store: &Store, live: &Rc<Live>, offload: &Offload, clock: &Clock, metrics: &Rc<Metrics>) -> Result<Logins, Error> {
        Ok(Logins {
            salts: salt_key(&store.read(meta::instance_id)?),
            store: store.clone(),
            live: Rc::clone(live),
            offload: offload.clone(),
            clock: clock.clone(),
            metrics: Rc::clone(metrics),
            guesses: RefCell::default(),
        })
    }

    /// The salt and keys for a SCRAM login, whether or not there is such an account. `Err`: try later.
    pub fn keys(&self, name: &str) -> Result<Credentials, Error> {
        let account = self.find(name)?;
        let mut nonce = [0; NONCE];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Error::Withdrawn("the system gives no random numbers".into()))?;
        let nonce = base64::encode(&nonce);
        let found = account.map(|(_, row)| row).filter(|row| !row.app_passwords.is_empty());
        Ok(match found {
            Some(row) => Credentials { keys: keys_of(&row), salt: row.scram_salt, iterations: row.scram_iterations, nonce },
            None => Credentials { keys: Vec::new(), salt: self.salt(name), iterations: scram::ITERATIONS, nonce },
        })
    }

    /// Judges an attempt from `peer`; a "no" comes after a pause that grows with each one.
    pub async fn check(&self, attempt: Attempt, peer: IpAddr) -> Verdict {
        let (name, mechanism) = (attempt.name.clone(), attempt.mechanism.name());
        let pair = self.pair(&name, peer);
        let blocked = self.guesses.borrow().is_blocked(&pair, self.clock.instant());
        // Counted before it is judged: a hundred guesses at once are a hundred, not one.
        let pause = self.guesses.borrow_mut().count(pair, self.clock.instant());
        let (verdict, outcome) = if blocked {
            (Verdict::Refused, LoginOutcome::Blocked)
        } else {
            match self.judge(attempt).await {
                Verdict::Welcome(login) => (Verdict::Welcome(login), LoginOutcome::Accepted),
                Verdict::Refused => (Verdict::Refused, LoginOutcome::Refused),
                Verdict::Later => (Verdict::Later, LoginOutcome::Later),
            }
        };
        self.metrics.logins.add_one(outcome);
        match outcome {
            LoginOutcome::Accepted => self.guesses.borrow_mut().forget(&pair),
            LoginOutcome::Refused | LoginOutcome::Blocked => {
                let why = if blocked { "blocked for a while" } else { self.reason(&name) };
                info!("login of {name} from {peer} with {mechanism}: {why}");
                sleep(pause).await;
            }
            LoginOutcome::Later => {
                self.guesses.borrow_mut().take_back(&pair);
                warn!("login of {name} from {peer} put off: too many wait, or the store cannot be read");
            }
        }
        verdict
    }

    async fn judge(&self, attempt: Attempt) -> Verdict {
        let found = match self.find(&attempt.name) {
            Ok(found) => found,
            Err(error) => {
                warn!("the account of a login could not be looked up: {error}");
                return Verdict::Later;
            }
        };
        let right = match attempt.proof {
            Proof::Wrong => Ok(Right::No),
            // The client proved it to keys that were this account's; they must be so still. Not by their place among the
            // keys: where one was revoked meanwhile, that place may be another's.
            Proof::Keys(keys) => {
                let known = found.as_ref().map(|(_, row)| keys_of(row)).unwrap_or_default();
                Ok(if scram::find(&known, &keys).is_some() { Right::Yes } else { Right::No })
            }
            Proof::Password(password) => self.compare(found.as_ref().map(|(_, row)| row), &attempt.name, password).await,
        };
        match (right, found) {
            (Ok(Right::Yes), Some((account, row))) => Verdict::Welcome(Login { account, address: row.address }),
            (Ok(_), _) => Verdict::Refused,
            (Err(Busy), _) => Verdict::Later,
        }
    }

    /// Compares with the account's own password, and with its app passwords if it looks like one of ours. What is computed
    /// depends on the password's look only.
    async fn compare(&self, row: Option<&Account>, name: &str, password: Password) -> Result<Right, Busy> {
        let hash = row.map(|row| row.password.clone()).filter(|hash| !hash.is_empty()).unwrap_or_else(|| NOBODYS.to_owned());
        let keys = row.map(keys_of).unwrap_or_default();
        let salt = row.map(|row| row.scram_salt.clone()).filter(|salt| !salt.is_empty()).unwrap_or_else(|| self.salt(name));
        let iterations = row.map(|row| row.scram_iterations).filter(|rounds| *rounds > 0).unwrap_or(scram::ITERATIONS);
        let job = move || {
            let ours = app_passwords::canonical(password.expose());
            let app = ours.and_then(|text| scram::find(&keys, &scram::derive(&text, &salt, iterations)));
            match (app, passwords::verify(password.expose(), &hash)) {
                (None, passwords::Verdict::Wrong) => Right::No,
                (Some(_), _) | (None, passwords::Verdict::Right) => Right::Yes,
            }
        };
        self.offload.run(Priority::Login, job).await.map_err(|_| Busy)
    }

    /// The account that a name means: an address, or a local part that one account alone has. One whose domain was taken out
    /// of the configuration is nobody's: it gets the same challenge, hash and pause.
    fn find(&self, name: &str) -> Result<Option<(AccountId, Account)>, Error> {
        let settings = self.live.current();
        self.store.read(|reader| {
            let mut found = Vec::new();
            let candidates: Vec<Address> = match Address::parse(name) {
                Ok(address) if settings.is_local(&address.domain) => vec![address],
                Ok(_) => Vec::new(),
                Err(_) => settings.local_domains().filter_map(|domain| Address::parse(&format!("{name}@{domain}")).ok()).collect(),
            };
            for candidate in candidates {
                if let Some(id) = accounts::find(reader, &candidate)?
                    && let Some(row) = accounts::get(reader, id)?
                {
                    found.push((id, row));
                }
            }
            Ok(if found.len() == 1 { found.pop() } else { None })
        })
    }

    /// Why a login was refused, for the log.
    fn reason(&self, name: &str) -> &'static str {
        let stays_out = |address: &Address| {
            let known = self.store.read(|reader| accounts::find(reader, address)).is_ok_and(|id| id.is_some());
            known && !self.live.current().is_local(&address.domain)
        };
        if Address::parse(name).is_ok_and(|address| stays_out(&address)) {
            return "refused: the account's domain is not in the configuration";
        }
        "refused"
    }

    /// Whose failures are counted together.
    fn pair(&self, name: &str, peer: IpAddr) -> Pair {
        self.guesses.borrow().pair(&self.spelt(name), peer)
    }

    fn salt(&self, name: &str) -> Vec<u8> {
        salt_for(&self.salts, &self.spelt(name))
    }

    /// The one spelling of a name, whoever exists: quotes, backslashes and letter case mean nothing (`"a\nn"@x` is `ann@x`),
    /// else each would have guesses and a salt of its own. A bare local part is completed as `find` would; where that finds
    /// nobody, with one of our domains by lot, the same each time: always the first would show who has an account elsewhere.
    fn spelt(&self, name: &str) -> String {
        if let Ok(address) = Address::parse(name) {
            return address.to_string().to_lowercase();
        }
        if let Ok(Some((_, row))) = self.find(name) {
            return row.address.to_string().to_lowercase();
        }
        let settings = self.live.current();
        let completed = settings.local_domains().filter_map(|domain| Address::parse(&format!("{name}@{domain}")).ok());
        let completed: Vec<String> = completed.map(|address| address.to_string().to_lowercase()).collect();
        let Some(first) = completed.first() else { return name.to_lowercase() };
        let lot = salt_for(&self.salts, first).iter().fold(0usize, |sum, octet| sum + usize::from(*octet)) % completed.len();
        completed.into_iter().nth(lot).unwrap_or_default()
    }
}

fn keys_of(row: &Account) -> Vec<Keys> {
    row.app_passwords.iter().map(|app| Keys { stored: app.stored_key, server: app.server_key }).collect()
}

enum Right {
    Yes,
    No,
}

/// The offload thread takes no more.
struct Busy;

/// The key under which salts are made, from the store's id.
pub(crate) fn salt_key(instance_id: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, instance_id.as_bytes())
}

/// The salt of a name: the same every time, and the one that the account's first app password is made with.
pub(crate) fn salt_for(key: &hmac::Key, name: &str) -> Vec<u8> {
    hmac::sign(key, name.to_lowercase().as_bytes()).as_ref()[..SALT].to_vec()
}

/// Failures of one pair.
#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// A name, hashed so that its length costs nothing, and a network: an IPv4 address or an IPv6 /64.
type Pair = (u64, IpAddr);

#[derive(Default)]
struct Guesses {
    hasher: RandomState,
    failures: HashMap<Pair, Failures>,
}

impl Guesses {
    fn pair(&self, name: &str, peer: IpAddr) -> Pair {
        let network = match peer.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        };
        (self.hasher.hash_one(name.to_lowercase()), network)
    }

    fn is_blocked(&self, pair: &Pair, now: Instant) -> bool {
        self.failures.get(pair).is_some_and(|failures| failures.count >= FREE && now.duration_since(failures.last) < BLOCKED)
    }

    /// Counts a failure; says how long to wait before it is told. A block is not prolonged by those who run into it: a
    /// program with an old password would shut out its owner for ever.
    fn count(&mut self, pair: Pair, now: Instant) -> Duration {
        if self.failures.len() >= MAX_PAIRS && !self.failures.contains_key(&pair) {
            self.make_room(now);
        }
        let failures = self.failures.entry(pair).or_insert(Failures { count: 0, last: now });
        if now.duration_since(failures.last) >= BLOCKED {
            failures.count = 0;
        }
        if failures.count < FREE {
            *failures = Failures { count: failures.count + 1, last: now };
        }
        FIRST_PAUSE.saturating_mul(1 << (failures.count - 1).min(10)).min(LONGEST_PAUSE)
    }

    /// What was counted was no failure.
    fn take_back(&mut self, pair: &Pair) {
        if let Some(failures) = self.failures.get_mut(pair) {
            failures.count -= 1;
            if failures.count == 0 {
                self.failures.remove(pair);
            }
        }
    }

    fn forget(&mut self, pair: &Pair) {
        self.failures.remove(pair);
    }

    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, failures| now.duration_since(failures.last) < BLOCKED);
        if self.failures.len() >= MAX_PAIRS
            // Blocks go last: else a guesser could wash his own out with names of no meaning.
            && let Some(oldest) = self.failures.iter().min_by_key(|(_, failures)| (failures.count >= FREE, failures.last)).map(|(pair, _)| *pair)
        {
            self.failures.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
