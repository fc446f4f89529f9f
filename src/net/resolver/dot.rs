//! The TLS of an upstream (RFC 7858, RFC 8310 strict profile): who answers must show a certificate for the configured name.
//!
//! Chain, name and handshake signature are always judged, against the public authorities and those that were added. Dates are
//! judged by a confirmed clock only (`resolver.md`, proving 12): a machine that must ask the DNS before it can know the time
//! could else never begin. Until then any time will do at which the whole chain is valid. No session is resumed; there is
//! no way back to asking in the clear. The text of a failure stands behind "it gives no TLS that can be trusted: ".

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;

use crate::net::clock::Certainty;
use crate::net::clock::Clock;
use crate::net::deadline::within;
use crate::net::stream::Stream;

/// Certificates of a chain whose beginnings are looked for: longer chains than rustls takes have no meaning.
const MAX_CHAIN: usize = 8;

/// What certificates are judged by. Clones share it.
#[derive(Clone)]
pub struct Trust {
    clock: Clock,
    added: Rc<RefCell<Vec<CertificateDer<'static>>>>,
}

impl Trust {
    pub fn new(clock: Clock) -> Trust {
        Trust { clock, added: Rc::default() }
    }

    /// One more authority, as DER.
    pub fn add(&self, authority: &[u8]) -> Result<(), String> {
        let authority = CertificateDer::from(authority.to_vec());
        RootCertStore::empty().add(authority.clone()).map_err(|error| error.to_string())?;
        self.added.borrow_mut().push(authority);
        Ok(())
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in self.added.borrow().iter() {
            roots.add(authority.clone())?;
        }
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let chain = chain.map_err(|error| rustls::Error::General(error.to_string()))?;
        let dates = match self.clock.certainty() {
            Certainty::Confirmed => Dates::Judged(at(self.clock.now().0)),
            Certainty::Plausible | Certainty::Unknown => Dates::NotJudged,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Judge { chain, dates }))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// The client's handshake over `stream` with the holder of `name`, or why there is none, in words.
pub async fn secure(stream: Stream, name: &str, trust: &Trust, patience: Duration) -> Result<Stream, String> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is no name that a certificate can have"))?;
    let connector = TlsConnector::from(Arc::new(trust.config().map_err(|error| error.to_string())?));
    match within(patience, Box::pin(connector.connect(server, stream))).await {
        Ok(Ok(tls)) => Ok(Stream::TlsClient(Box::new(tls))),
        Ok(Err(error)) => Err(words(&error, name)),
        Err(_) => Err("the handshake took too long".to_owned()),
    }
}

fn words(error: &io::Error, name: &str) -> String {
    use rustls::Error::InvalidCertificate;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        None => format!("it ended the handshake ({error})"),
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
            format!("its certificate is not for the name {name}")
        }
        Some(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "its certificate has expired".to_owned()
        }
        Some(InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            "its certificate is not valid yet".to_owned()
        }
        Some(InvalidCertificate(CertificateError::UnknownIssuer)) => "its certificate is from an unknown authority".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[derive(Debug)]
enum Dates {
    Judged(UnixTime),
    NotJudged,
}

/// webpki's judgement, at our time or at any.
#[derive(Debug)]
struct Judge {
    chain: Arc<WebPkiServerVerifier>,
    dates: Dates,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |time| self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time);
        if let Dates::Judged(now) = self.dates {
            return judge(now);
        }
        // From the beginning of time on to where each certificate begins.
        let mut time = at(0);
        for _ in 0..MAX_CHAIN {
            match judge(time) {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) if not_before > time => {
                    time = not_before;
                }
                other => return other,
            }
        }
        judge(time)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
