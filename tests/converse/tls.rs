//! STARTTLS with real handshakes: versions, kinds of keys, odd certificates, forged signatures, injected plaintext.

use std::sync::Arc;

use pipit::mail::date::UnixTime;
use pipit::mail::domain::Domain;
use pipit::net::stream::Stream;
use pipit::outbound::converse::HostFailure;
use pipit::outbound::converse::Outcome;
use pipit::outbound::converse::Pace;
use pipit::proto::x509::certificate::SelfSigned;
use pipit::proto::x509::certificate::self_signed;
use pipit::proto::x509::key::new_key;
use ring::rand::SystemRandom;
use rustls::ServerConfig;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use smol::future::zip;

use crate::peer::Chunks;
use crate::peer::ENVELOPE;
use crate::peer::GREETED;
use crate::peer::HURRIED;
use crate::peer::bob;
use crate::peer::greet;
use crate::peer::play;
use crate::peer::transaction;

const BEFORE_TLS: &str =
    "S: 220 mx.example.org\nC: EHLO out.sender.example\nS: 250-mx.example.org\nS: 250-DSN\nS: 250 STARTTLS\nC: STARTTLS\n";
const UNDER_TLS: &str = "C: EHLO out.sender.example\nS: 250-mx.example.org\nS: 250 PIPELINING\n";

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn p256() -> Identity {
    let random = SystemRandom::new();
    let key = new_key(&random).unwrap();
    let names = [Domain::parse("mx.example.org").unwrap()];
    let (not_before, not_after) = (UnixTime(0), UnixTime(1));
    let certificate = self_signed(&SelfSigned { key_pkcs8: &key, names: &names, not_before, not_after, serial: [7; 16] }, &random).unwrap();
    (CertificateDer::from(certificate), PrivatePkcs8KeyDer::from(key).into())
}

fn pem(text: &str) -> Identity {
    (CertificateDer::from_pem_slice(text.as_bytes()).unwrap(), PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap())
}

/// Serves a certificate that rustls itself would not load, or with a key that is not its own.
#[derive(Debug)]
struct Serve(Arc<CertifiedKey>);

impl ResolvesServerCert for Serve {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn config(
    certificate: CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let signing = rustls::crypto::ring::sign::any_supported_type(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Serve(Arc::new(CertifiedKey::new(vec![certificate], signing)))));
    // It offers resumption; nobody may take it.
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    Arc::new(config)
}

/// What the greeting comes to, with the peer in `script`.
fn meet(script: &str, config: &Arc<ServerConfig>, pace: Pace) -> Result<(), HostFailure> {
    let (near, far) = Stream::memory_pair();
    let ours = async {
        let connection = greet(near, "mx.example.org", pace).await?;
        connection.quit().await;
        Ok(())
    };
    smol::block_on(zip(play(far, script, Some(config)), ours)).1
}

#[test]
fn both_versions_and_every_kind_of_key_and_odd_certificates() {
    let kinds: [(&str, Identity); 4] = [
        ("P-256", p256()),
        ("RSA in X.509 v1", pem(include_str!("rsa-v1.pem"))),
        ("P-384 of a CA with an unknown critical extension", pem(include_str!("p384-ca-odd-extension.pem"))),
        ("Ed25519 under another name", pem(include_str!("ed25519.pem"))),
    ];
    for (kind, (certificate, key)) in &kinds {
        for (version, name) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
            let config = config(certificate.clone(), key, version);
            // Twice: the second must not resume the first.
            for _ in 0..2 {
                let script = format!("{BEFORE_TLS}S: 220 go on\ntls\n{UNDER_TLS}{ENVELOPE}message\nS: 250 ok\nC: QUIT\nS: 221 bye\n");
                let (near, far) = Stream::memory_pair();
                let path = bob();
                let ours = async {
                    let mut connection =
                        greet(near, "mx.example.org", Pace::USUAL).await.unwrap_or_else(|failure| panic!("{kind}: {failure}"));
                    let facts = connection.tls().unwrap().clone();
                    assert!(connection.offers().pipelining && !connection.offers().dsn);
                    let outcomes = connection.transact(&transaction(&path), &mut Chunks::new(&[b"text\r\n"])).await;
                    assert!(matches!(outcomes[..], [Outcome::Delivered(_)]));
                    connection.quit().await;
                    facts
                };
                let (seen, facts) = smol::block_on(zip(play(far, &script, Some(&config)), ours));
                assert_eq!(facts.version, name);
                assert!(facts.cipher.starts_with("TLS_") && !facts.cipher.contains("TLS13"), "{}", facts.cipher);
                let handshake = &seen.handshakes[0];
                assert_eq!((handshake.version.as_str(), handshake.cipher.as_str()), (name, facts.cipher.as_str()));
                assert_eq!(handshake.sni.as_deref(), Some("mx.example.org"));
                assert_eq!(seen.messages, [b"text\r\n"]);
            }
        }
    }
}

#[test]
fn a_literal_asks_for_no_name() {
    let (certificate, key) = p256();
    let config = config(certificate, &key, &rustls::version::TLS13);
    for host in ["[192.0.2.1]", "[IPv6:2001:db8::1]"] {
        let (near, far) = Stream::memory_pair();
        let script = format!("{BEFORE_TLS}S: 220 go on\ntls\n{UNDER_TLS}C: QUIT\n");
        let ours = async { greet(near, host, Pace::USUAL).await.unwrap().quit().await };
        let seen = smol::block_on(zip(play(far, &script, Some(&config)), ours)).0;
        assert_eq!(seen.handshakes[0].sni, None);
    }
}

#[test]
fn a_handshake_signed_by_another_key_fails() {
    let (rsa_certificate, rsa_key) = pem(include_str!("rsa-v1.pem"));
    let ((certificate, _), (_, other)) = (p256(), p256());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (shown, key) in [(&certificate, &other), (&certificate, &rsa_key), (&rsa_certificate, &other)] {
            let config = config(shown.clone(), key, version);
            let failure = meet(&format!("{BEFORE_TLS}S: 220 go on\ntls fails\n"), &config, Pace::USUAL).unwrap_err();
            assert!(matches!(&failure, HostFailure::Tls(why) if why.contains("signed")), "{failure}");
            assert_eq!(failure.why().status.class, 4);
        }
    }
}

#[test]
fn plaintext_behind_the_220_fails_the_host() {
    let (certificate, key) = p256();
    let config = config(certificate, &key, &rustls::version::TLS13);
    for injected in ["220 go on\\n250 injected", "220 go on\\n250-mx\\n250 AUTH PLAIN"] {
        let failure = meet(&format!("{BEFORE_TLS}S: {injected}\n"), &config, Pace::USUAL).unwrap_err();
        assert_eq!(failure.to_string(), "no TLS with the host: the host sent plaintext behind its 220");
    }
    // Later, it stands where the ServerHello should be.
    let failure = meet(&format!("{BEFORE_TLS}S: 220 go on\nS: 250 injected\n"), &config, Pace::USUAL).unwrap_err();
    assert!(matches!(&failure, HostFailure::Tls(why) if why.contains("plaintext") || why.contains("did not speak TLS")), "{failure}");
}

#[test]
fn every_broken_handshake_is_the_hosts_tls_failure() {
    let (certificate, key) = p256();
    let config = config(certificate, &key, &rustls::version::TLS13);
    for (script, pace) in [("", Pace::USUAL), ("S: 220 go on\n", Pace::USUAL), ("S: 220 go on\nsilence\nsilence\n", Pace::hurried(HURRIED))]
    {
        let failure = meet(&format!("{BEFORE_TLS}{script}"), &config, pace).unwrap_err();
        assert!(matches!(failure, HostFailure::Tls(_)), "{script:?}: {failure}");
    }
}

#[test]
fn without_tls_the_session_goes_on_in_plaintext() {
    let (certificate, key) = p256();
    let config = config(certificate, &key, &rustls::version::TLS13);
    for answer in ["454 4.7.0 not now", "502 5.5.1 what"] {
        assert_eq!(meet(&format!("{BEFORE_TLS}S: {answer}\nC: QUIT\nS: 221 bye\n"), &config, Pace::USUAL), Ok(()));
    }
    assert_eq!(meet(&format!("{GREETED}C: QUIT\nS: 221 bye\n"), &config, Pace::USUAL), Ok(()));
}
