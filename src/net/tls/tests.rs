//! Handshakes with a real rustls client over memory: trust, names, hot swap, tickets, aborts.

use ::ring::rand::SystemRandom;
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream as ClientStream;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use smol::future::zip;
use smol::io::AsyncReadExt;
use smol::io::AsyncWriteExt;

use super::*;
use crate::mail::date::UnixTime;
use crate::net::lines::LineRead;
use crate::net::lines::LineStream;
use crate::proto::x509::certificate::SelfSigned;
use crate::proto::x509::certificate::self_signed;
use crate::proto::x509::key::new_key;

const PATIENCE: Duration = Duration::from_secs(10);

struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    names: Vec<Domain>,
}

fn identity(names: &[&str]) -> Identity {
    let random = SystemRandom::new();
    let key = new_key(&random).unwrap();
    let names: Vec<Domain> = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
    let (not_before, not_after) = (UnixTime::from_civil(2020, 1, 1, 0).unwrap(), UnixTime::from_civil(2060, 1, 1, 0).unwrap());
    let wanted = SelfSigned { key_pkcs8: &key, names: &names, not_before, not_after, serial: [7; 16] };
    Identity { certificate: self_signed(&wanted, &random).unwrap(), key, names }
}

fn serve(certificates: &Certificates, identity: &Identity) {
    certificates.replace(&identity.names, vec![identity.certificate.clone()], &identity.key).unwrap();
}

fn host(name: &str) -> Certificates {
    Certificates::new(Domain::parse(name).unwrap())
}

/// A client that trusts exactly these self-signed certificates and checks names.
fn client(trusted: &[&Identity], versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for identity in trusted {
        roots.add(CertificateDer::from(identity.certificate.clone())).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

type Outcome = (io::Result<ClientStream<Stream>>, Result<(Stream, Handshake), TlsError>);

fn handshake(connector: &TlsConnector, name: &str, config: &Arc<ServerConfig>) -> Outcome {
    let (near, far) = Stream::memory_pair();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    // An abort of one side must reach the other: hence both ends are dropped by who fails.
    async_io::block_on(zip(connector.connect(name, far), accept(near, config, PATIENCE)))
}

#[test]
fn a_real_client_trusts_it_by_name_in_both_versions() {
    let own = identity(&["mail.example.org", "example.org"]);
    let certificates = host("mail.example.org");
    assert!(certificates.is_empty());
    serve(&certificates, &own);
    let config = certificates.server_config(Tickets::None).unwrap();
    for (version, expected) in [
        (&rustls::version::TLS13, ("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
        (&rustls::version::TLS12, ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")),
    ] {
        let (theirs, ours) = handshake(&client(&[&own], &[version]), "example.org", &config);
        let (server, facts) = ours.unwrap();
        assert_eq!((facts.version.as_str(), facts.cipher.as_str(), facts.sni.as_deref()), (expected.0, expected.1, Some("example.org")));
        let (mut client, mut lines) = (theirs.unwrap(), LineStream::new(server));
        async_io::block_on(async {
            client.write_all(b"EHLO a\r\n").await.unwrap();
            client.flush().await.unwrap();
            assert_eq!(lines.next_line(100).await.unwrap(), LineRead::Line(b"EHLO a"));
            lines.write(b"250 b\r\n").await.unwrap();
            lines.close().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"250 b\r\n", "and a clean end: close_notify was sent");
        });
    }
}

#[test]
fn names_choose_and_the_host_answers_for_the_rest() {
    let (first, second, newer) = (identity(&["mail.example.org"]), identity(&["other.example"]), identity(&["other.example"]));
    let certificates = host("mail.example.org");
    let config = certificates.server_config(Tickets::None).unwrap();
    serve(&certificates, &second);
    serve(&certificates, &first);
    let served = |name: &str| {
        let (theirs, _) = handshake(&client(&[&first, &second, &newer], &[&rustls::version::TLS13]), name, &config);
        theirs.map(|tls| tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()).ok()
    };
    assert_eq!(served("mail.example.org"), Some(first.certificate.clone()));
    assert_eq!(served("OTHER.example"), Some(second.certificate.clone()));
    assert_eq!(certificates.0.choose(Some("unknown.example")).unwrap().cert[0].as_ref(), first.certificate);
    assert_eq!(certificates.0.choose(None).unwrap().cert[0].as_ref(), first.certificate);
    // A listener that already runs serves the new one, and not the old one beside it.
    serve(&certificates, &newer);
    assert_eq!(served("other.example"), Some(newer.certificate.clone()));
    assert_eq!(certificates.0.entries.read().unwrap().len(), 2);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, two) = (identity(&["a.example"]), identity(&["a.example"]));
    let certificates = host("a.example");
    let chain = vec![one.certificate.clone()];
    assert!(matches!(certificates.replace(&one.names, chain.clone(), &two.key), Err(CertificateFault::Unusable(_))));
    assert_eq!(certificates.replace(&[], chain, &one.key), Err(CertificateFault::NoNames));
    assert_eq!(certificates.replace(&one.names, vec![], &one.key), Err(CertificateFault::EmptyChain));
    assert!(certificates.is_empty());
}

#[test]
fn failed_handshakes_are_told_apart() {
    let (own, stranger) = (identity(&["mail.example.org"]), identity(&["mail.example.org"]));
    let certificates = host("mail.example.org");
    serve(&certificates, &own);
    let config = certificates.server_config(Tickets::None).unwrap();
    let refused_by_client = handshake(&client(&[&stranger], &[&rustls::version::TLS13]), "mail.example.org", &config).1;
    assert_eq!(refused_by_client.err(), Some(TlsError::Aborted));
    let says = |bytes: &'static [u8]| {
        let (near, mut far) = Stream::memory_pair();
        let talk = async {
            far.write_all(bytes).await.unwrap();
            if bytes.is_empty() { drop(far) } else { far.close().await.unwrap() }
        };
        async_io::block_on(zip(talk, accept(near, &config, PATIENCE))).1.err()
    };
    assert_eq!(says(b""), Some(TlsError::Aborted));
    assert_eq!(says(b"\x16\x03\x01\x02\x00\x01"), Some(TlsError::Aborted));
    assert_eq!(says(b"EHLO plain.example\r\n"), Some(TlsError::NotTls));
    let (near, _far) = Stream::memory_pair();
    let silent = async_io::block_on(accept(near, &config, Duration::from_millis(10)));
    assert_eq!(silent.err(), Some(TlsError::TimedOut));
}

#[test]
fn tickets_are_given_only_where_wanted() {
    let own = identity(&["mail.example.org"]);
    let certificates = host("mail.example.org");
    serve(&certificates, &own);
    for (tickets, resumed) in [(Tickets::None, rustls::HandshakeKind::Full), (Tickets::Some, rustls::HandshakeKind::Resumed)] {
        let config = certificates.server_config(tickets).unwrap();
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let connector = client(&[&own], &[version]);
            let mut kind = None;
            for _ in 0..2 {
                let (theirs, ours) = handshake(&connector, "mail.example.org", &config);
                let (mut tls, (mut server, _)) = (theirs.unwrap(), ours.unwrap());
                async_io::block_on(async {
                    server.write_all(b"x").await.unwrap();
                    server.flush().await.unwrap();
                    tls.read_exact(&mut [0]).await.unwrap();
                });
                kind = tls.get_ref().1.handshake_kind();
            }
            assert_eq!(kind, Some(resumed), "{tickets:?} {version:?}");
        }
    }
}
