//! The server's side of TLS (RFC 8446, RFC 5246): certificates that can change while serving, and the handshake.
//!
//! In goes a plain `Stream`, out comes a TLS one with what was agreed on. TLS 1.2 and 1.3, ring only. Client certificates
//! are not asked for. rustls is driven by futures-rustls, never by `complete_io`, which loops on a blocked socket.
//! Not done here: verifying peers as a client, ACME challenges, where certificates come from.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use futures_rustls::TlsAcceptor;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

use crate::mail::domain::Domain;
use crate::net::deadline::within;
use crate::net::stream::Stream;

/// Session tickets of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// Port 25: each server that delivers proves and is proved anew, and most come once.
    None,
    /// Where people's programs come back every few minutes: resumption spares their batteries and our P-256.
    Some,
}

/// Why a certificate cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    NoNames,
    EmptyChain,
    /// The key or the certificate cannot be read, or they do not belong together; the sentence is rustls's.
    Unusable(String),
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateFault::NoNames => f.write_str("the certificate has no name to be served under"),
            CertificateFault::EmptyChain => f.write_str("the certificate chain is empty"),
            CertificateFault::Unusable(why) => write!(f, "the certificate cannot be used: {why}"),
        }
    }
}

impl std::error::Error for CertificateFault {}

/// All certificates of this server, by name. Clones share them; a change is seen by the next handshake of every listener.
#[derive(Clone)]
pub struct Certificates(Arc<Shelf>);

struct Shelf {
    host: Domain,
    entries: RwLock<Vec<Entry>>,
}

struct Entry {
    names: Vec<Domain>,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// `host` is the name whose certificate answers where no other name is asked for.
    pub fn new(host: Domain) -> Certificates {
        Certificates(Arc::new(Shelf { host, entries: RwLock::default() }))
    }

    /// Serves this chain (leaf first, DER) for these names from now on; whatever served one of them no longer does.
    pub fn replace(&self, names: &[Domain], chain_der: Vec<Vec<u8>>, key_pkcs8: &[u8]) -> Result<(), CertificateFault> {
        let chain = chain_der.into_iter().map(CertificateDer::from).collect();
        self.serve(names, chain, PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()).into())
    }

    /// As `replace`, from the files that certbot and the like write: a chain, and a key in PKCS#8, PKCS#1 or SEC1.
    pub fn replace_pem(&self, names: &[Domain], chain_pem: &[u8], key_pem: &[u8]) -> Result<(), CertificateFault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem).collect();
        let chain = chain.map_err(|error| CertificateFault::Unusable(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| CertificateFault::Unusable(error.to_string()))?;
        self.serve(names, chain, key)
    }

    fn serve(&self, names: &[Domain], chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), CertificateFault> {
        if names.is_empty() {
            return Err(CertificateFault::NoNames);
        }
        if chain.is_empty() {
            return Err(CertificateFault::EmptyChain);
        }
        // Also checks that the key is the certificate's.
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let certified = certified.map_err(|error| CertificateFault::Unusable(error.to_string()))?;
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.iter_mut() {
            entry.names.retain(|name| !names.contains(name));
        }
        entries.retain(|entry| !entry.names.is_empty());
        entries.push(Entry { names: names.to_vec(), key: Arc::new(certified) });
        Ok(())
    }

    /// Whether nothing could be served: STARTTLS must not be offered then.
    pub fn is_empty(&self) -> bool {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The settings of one listener. Make it once and keep it: its ticket keys live in it.
    pub fn server_config(&self, tickets: Tickets) -> Result<Arc<ServerConfig>, rustls::Error> {
        let shelf: Arc<Shelf> = Arc::clone(&self.0);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(shelf);
        // Without the extended master secret (RFC 7627) TLS 1.2 falls to triple handshakes, and exporters bind nothing.
        config.require_ems = true;
        // No memory for sessions: those who may resume carry their state in a ticket.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match tickets {
            Tickets::None => config.send_tls13_tickets = 0,
            Tickets::Some => {
                config.ticketer = ring::Ticketer::new()?;
                config.send_tls13_tickets = 1;
            }
        }
        Ok(Arc::new(config))
    }
}

impl Shelf {
    /// The certificate for a name asked for; without one, or an unknown one, the host's: a mail server that delivers to an
    /// MX by another name (RFC 7672 section 8.1) still gets TLS, and judges for itself.
    fn choose(&self, asked: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let named = |name: &str| entries.iter().find(|entry| entry.names.iter().any(|own| own.as_str() == name));
        let asked = asked.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let entry = asked.as_deref().and_then(named).or_else(|| named(self.host.as_str())).or(entries.first());
        entry.map(|entry| Arc::clone(&entry.key))
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates of {}", self.host)
    }
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// As in Received fields: `TLSv1.3`.
    pub version: String,
    /// The IANA name: `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The name the client asked for.
    pub sni: Option<String>,
    /// `tls-exporter` (RFC 9266): what a login can be bound to.
    pub exporter: Option<[u8; 32]>,
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// The peer left. It happens all day (probes, clients that dislike a certificate) and is no abuse: keep it quiet.
    Aborted,
    TimedOut,
    /// What came was no TLS at all.
    NotTls,
    /// No common ground, or a fault of the peer; the sentence is rustls's.
    Refused(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Aborted => f.write_str("the peer ended the TLS handshake"),
            TlsError::TimedOut => f.write_str("the TLS handshake took too long"),
            TlsError::NotTls => f.write_str("the peer did not speak TLS"),
            TlsError::Refused(why) => write!(f, "the TLS handshake failed: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// The server's handshake over `stream`, within `patience`. On failure the peer has been sent its alert.
pub async fn accept(stream: Stream, config: &Arc<ServerConfig>, patience: Duration) -> Result<(Stream, Handshake), TlsError> {
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    // Boxed: the handshake's state is over 1 KiB, and inside the future it would stay with each session, TLS or not.
    let tls = match within(patience, Box::pin(acceptor.accept(stream))).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return Err(judge(&error)),
        Err(_) => return Err(TlsError::TimedOut),
    };
    let session = tls.get_ref().1;
    let handshake = Handshake {
        version: session.protocol_version().map_or_else(String::new, version_name),
        cipher: session.negotiated_cipher_suite().map_or_else(String::new, |suite| cipher_name(suite.suite())),
        sni: session.server_name().map(str::to_owned),
        // RFC 9266 section 2: the context is the empty string. TLS 1.2 has the extended master secret (`require_ems`).
        exporter: session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok(),
    };
    Ok((Stream::Tls(Box::new(tls)), handshake))
}

/// Which kind of failure an error of the handshake is.
fn judge(error: &io::Error) -> TlsError {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return TlsError::Aborted;
    };
    match tls {
        rustls::Error::AlertReceived(_) => TlsError::Aborted,
        rustls::Error::InvalidMessage(_) => TlsError::NotTls,
        other => TlsError::Refused(other.to_string()),
    }
}

pub(super) fn version_name(version: rustls::ProtocolVersion) -> String {
    version.as_str().unwrap_or_default().replace('_', ".")
}

/// The IANA name. rustls calls the suites of TLS 1.3 `TLS13_…`, the registry `TLS_…`.
pub(super) fn cipher_name(suite: rustls::CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests;
