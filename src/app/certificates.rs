//! The keys of the host, and the certificate that is used until a better one is there.
//!
//! `host/current` and `host/next` are P-256 keys made once, before any certificate, so that TLSA records over them can
//! be published on the first day and survive every renewal. The self-signed certificate is kept too: a client that
//! remembers it is not startled by each restart.

use std::path::Path;
use std::rc::Rc;

use log::info;
use log::warn;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::admin::Failure;
use crate::config::settings::Settings;
use crate::config::settings::TlsFiles;
use crate::host::files;
use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::net::tls::Certificates;
use crate::proto::x509::certificate::SelfSigned;
use crate::proto::x509::certificate::self_signed;
use crate::proto::x509::key::new_key;
use crate::proto::x509::reader;
use crate::store::Store;
use crate::store::keys;

pub const CURRENT: &str = "host/current";
pub const NEXT: &str = "host/next";
/// The self-signed certificate over `host/current`, DER.
const SELF_SIGNED: &str = "host/current/self-signed";
/// Nobody checks its dates (RFC 7672 section 3.1.1), but some clients look: long, yet before 2050.
const VALID_FOR: i64 = 10 * 365 * 86_400;
/// Made anew when less than this is left.
const RENEW_BEFORE: i64 = 30 * 86_400;
/// Clocks of clients may be behind.
const BACKDATED: i64 = 86_400;
/// PEM files larger than this hold no certificate chain.
const MAX_FILE: usize = 1 << 20;

/// Certificate chain and key as the configured files hold them, PEM; read before privileges are dropped.
pub struct External {
    chain: Vec<u8>,
    key: Vec<u8>,
}

fn unusable(what: impl std::fmt::Display) -> Failure {
    Failure::new(what, "check tls.certificate and tls.key; without both Pipit uses a certificate of its own")
}

/// Reads the configured files.
pub fn read_external(tls: &TlsFiles) -> Result<External, Failure> {
    let read = |path: &Path| files::read_bounded(path, MAX_FILE).map_err(|error| unusable(format!("{}: {error}", path.display())));
    Ok(External { chain: read(&tls.certificate)?, key: read(&tls.key)? })
}

/// A handle with the certificate that fits: the configured one, else our own.
pub async fn load(store: &Store, settings: &Rc<Settings>, external: Option<External>, now: UnixTime) -> Result<Certificates, Failure> {
    let host = settings.hostname.clone();
    let certificates = Certificates::new(host.clone());
    let key = host_key(store, CURRENT).await?;
    host_key(store, NEXT).await?;
    let names = [host.clone()];
    let taken = match external {
        Some(external) => certificates.replace_pem(&names, &external.chain, &external.key),
        None => certificates.replace(&names, vec![own_certificate(store, &host, &key, now).await?], &key),
    };
    taken.map_err(|error| unusable(format!("the certificate cannot be used: {error}")))?;
    Ok(certificates)
}

async fn host_key(store: &Store, name: &'static str) -> Result<Vec<u8>, Failure> {
    if let Some(key) = store.read(|reader| keys::get(reader, name))? {
        return Ok(key);
    }
    let fresh = new_key(&SystemRandom::new()).map_err(|_| Failure::new("a key could not be made: no randomness", "try again"))?;
    let key = store.write(move |writer| keys::put_if_absent(writer, name, &fresh)).await?;
    info!("key {name} made");
    Ok(key)
}

/// Whether a kept certificate still serves: our name, our key's, and not about to expire.
fn still_good(der: &[u8], host: &Domain, now: UnixTime) -> bool {
    let names = reader::names(der).unwrap_or_default();
    let lasting = reader::validity(der).is_ok_and(|validity| validity.not_after > now.plus(RENEW_BEFORE));
    names.iter().any(|name| name == host.as_str()) && lasting
}

async fn own_certificate(store: &Store, host: &Domain, key: &[u8], now: UnixTime) -> Result<Vec<u8>, Failure> {
    if let Some(der) = store.read(|reader| keys::get(reader, SELF_SIGNED))? {
        if still_good(&der, host, now) {
            return Ok(der);
        }
        warn!("the self-signed certificate is made anew for {host}");
    }
    let random = SystemRandom::new();
    let mut serial = [0u8; 16];
    let failed = || Failure::new("a certificate could not be made: no randomness", "try again");
    random.fill(&mut serial).map_err(|_| failed())?;
    let wish = SelfSigned {
        key_pkcs8: key,
        names: std::slice::from_ref(host),
        not_before: now.plus(-BACKDATED),
        not_after: now.plus(VALID_FOR),
        serial,
    };
    let der = self_signed(&wish, &random).map_err(|_| failed())?;
    let kept = der.clone();
    store.write(move |writer| keys::put(writer, SELF_SIGNED, &kept)).await?;
    Ok(der)
}
