//! The client's side of TLS (RFC 8446, RFC 5246): encrypts to whoever holds the key of the certificate shown.
//!
//! In goes a plain `Stream`, out comes a TLS one with what was agreed on. Any certificate is accepted (opportunistic TLS,
//! RFC 7435), but the handshake must be signed by its key. Each connection has its own settings and no session is
//! resumed: a resumed handshake would skip the verifier (delivery.md section 3).
//! Not done here: judging certificates, by DANE or PKIX.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;

use crate::mail::domain::Domain;
use crate::mail::received::TlsFacts;
use crate::net::deadline::within;
use crate::net::stream::Stream;
use crate::net::tls::cipher_name;
use crate::net::tls::version_name;
use crate::proto::x509::handshake;
use crate::proto::x509::handshake::Protocol;
use crate::proto::x509::handshake::Signed;

/// Why there is no TLS with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The host closed the connection.
    Closed(String),
    TimedOut,
    /// What came was no TLS at all.
    NotTls,
    /// The host's alert, no common ground, or a fault of the host; the sentence is rustls's.
    Failed(String),
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFailure::Closed(why) => write!(f, "the host ended the handshake: {why}"),
            TlsFailure::TimedOut => f.write_str("the handshake took too long"),
            TlsFailure::NotTls => f.write_str("the host did not speak TLS"),
            TlsFailure::Failed(why) => write!(f, "the handshake failed: {why}"),
        }
    }
}

impl std::error::Error for TlsFailure {}

/// The client's handshake over `stream`, within `patience`. `name` is asked for (SNI); a literal asks for none.
pub async fn connect(stream: Stream, name: &Domain, patience: Duration) -> Result<(Stream, TlsFacts), TlsFailure> {
    let config = client_config().map_err(|error| TlsFailure::Failed(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    // Boxed, as on the server's side: the handshake's state is large, and the future of a session lives long.
    let tls = match within(patience, Box::pin(connector.connect(server_name(name), stream))).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return Err(judge(&error)),
        Err(_) => return Err(TlsFailure::TimedOut),
    };
    let session = tls.get_ref().1;
    let facts = TlsFacts {
        version: session.protocol_version().map_or_else(String::new, version_name),
        cipher: session.negotiated_cipher_suite().map_or_else(String::new, |suite| cipher_name(suite.suite())),
    };
    Ok((Stream::TlsClient(Box::new(tls)), facts))
}

fn client_config() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyOnly))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// rustls sends no SNI for an address; the unspecified one stands for all that have no name to ask for.
fn server_name(name: &Domain) -> ServerName<'static> {
    let nameless = || ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into());
    match name.literal() {
        Some(address) => ServerName::IpAddress(address.into()),
        None => ServerName::try_from(name.as_str().to_owned()).unwrap_or_else(|_| nameless()),
    }
}

fn judge(error: &io::Error) -> TlsFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        None => TlsFailure::Closed(error.to_string()),
        Some(rustls::Error::InvalidMessage(_)) => TlsFailure::NotTls,
        Some(other) => TlsFailure::Failed(other.to_string()),
    }
}

/// Takes every certificate for its key alone.
#[derive(Debug)]
struct KeyOnly;

impl ServerCertVerifier for KeyOnly {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        check(Protocol::Tls12, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        check(Protocol::Tls13, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake::SCHEMES.map(SignatureScheme::from).to_vec()
    }
}

fn check(
    protocol: Protocol,
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let signed = Signed { protocol, scheme: dss.scheme.into(), message, signature: dss.signature() };
    match handshake::check(cert, &signed) {
        Ok(()) => Ok(HandshakeSignatureValid::assertion()),
        Err(fault) => Err(rustls::Error::General(fault.to_string())),
    }
}
