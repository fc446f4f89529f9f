//! What 1,000 idle connections cost, plain and under TLS. The clients live in a process of their own.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use smol::LocalExecutor;
use smol::io::AsyncReadExt;
use smol::io::AsyncWriteExt;

use pipit::host::memory;
use pipit::host::privileges;
use pipit::mail::date::UnixTime;
use pipit::mail::domain::Domain;
use pipit::net;
use pipit::net::deadline::within;
use pipit::net::lines::LineRead;
use pipit::net::lines::LineStream;
use pipit::net::listen::Listener;
use pipit::net::stream::Stream;
use pipit::net::tls::Certificates;
use pipit::net::tls::Tickets;
use pipit::proto::x509::certificate::SelfSigned;
use pipit::proto::x509::certificate::self_signed;
use pipit::proto::x509::key::new_key;

const CONNECTIONS: usize = 1000;
/// The goals, in KB for all.
const PLAIN_GOAL: i64 = 5_000;
const TLS_GOAL: i64 = 12_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// Set in the child: where to connect, and for TLS the file with the certificate to trust.
const SERVER: &str = "PIPIT_IDLE_SERVER";
const TRUST: &str = "PIPIT_IDLE_TRUST";

fn main() {
    privileges::raise_open_files();
    if let Ok(server) = std::env::var(SERVER) {
        return clients(server.parse().unwrap());
    }
    memory::settle();
    let (certificates, trust) = certificate();
    let path = std::env::temp_dir().join(format!("pipit-idle-{}", std::process::id()));
    std::fs::write(&path, trust).unwrap();
    let plain = measure(None, None);
    let tls = measure(Some(&certificates), path.to_str());
    std::fs::remove_file(&path).unwrap();
    println!("{CONNECTIONS} idle connections: plain +{plain} KB, TLS +{tls} KB");
    assert!(plain <= PLAIN_GOAL, "plain +{plain} KB");
    assert!(tls <= TLS_GOAL, "TLS +{tls} KB");
}

fn certificate() -> (Certificates, Vec<u8>) {
    let random = SystemRandom::new();
    let (key, names) = (new_key(&random).unwrap(), [Domain::parse("mail.example.org").unwrap()]);
    let (not_before, not_after) = (UnixTime::from_civil(2020, 1, 1, 0).unwrap(), UnixTime::from_civil(2060, 1, 1, 0).unwrap());
    let der = self_signed(&SelfSigned { key_pkcs8: &key, names: &names, not_before, not_after, serial: [1; 16] }, &random).unwrap();
    let certificates = Certificates::new(names[0].clone());
    certificates.replace(&names, vec![der.clone()], &key).unwrap();
    (certificates, der)
}

/// KB that the sessions added: each has greeted, read a line, answered it and waits for the next.
fn measure(certificates: Option<&Certificates>, trust: Option<&str>) -> i64 {
    let executor = LocalExecutor::new();
    net::run(&executor, async {
        let config = certificates.map(|own| own.server_config(Tickets::None).unwrap());
        let listener = Listener::new(net::listen::bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let (idle, sessions_idle) = smol::channel::unbounded();
        let mut child = start_clients(listener.local_address().unwrap(), trust);
        let mut before = 0;
        let mut tasks = Vec::with_capacity(CONNECTIONS);
        for count in 0..CONNECTIONS + 1 {
            let (stream, _) = listener.accept().await;
            let (config, idle) = (config.clone(), idle.clone());
            tasks.push(executor.spawn(async move {
                let stream = match &config {
                    Some(config) => net::tls::accept(stream, config, PATIENCE).await.unwrap().0,
                    None => stream,
                };
                session(stream, &idle).await;
            }));
            // The first one pays for what is there once.
            sessions_idle.recv().await.unwrap();
            if count == 0 {
                before = resident();
            }
        }
        let cost = resident() - before;
        drop(child.stdin.take());
        for task in tasks {
            within(PATIENCE, task).await.unwrap();
        }
        assert!(child.wait().unwrap().success());
        cost
    })
}

fn resident() -> i64 {
    memory::trim();
    i64::try_from(memory::resident().unwrap() / 1024).unwrap()
}

async fn session(stream: Stream, idle: &smol::channel::Sender<()>) {
    let mut lines = LineStream::new(stream);
    lines.write(b"220 mail.example.org ESMTP\r\n").await.unwrap();
    let mut answered = 0;
    loop {
        match within(PATIENCE, lines.next_line(512)).await.unwrap() {
            Ok(LineRead::Line(b"EHLO a")) => answered += 1,
            Ok(LineRead::Closed) | Err(_) => return,
            Ok(other) => panic!("{other:?}"),
        }
        lines.write(b"250-mail.example.org\r\n250-PIPELINING\r\n250 SIZE 36700160\r\n").await.unwrap();
        lines.flush().await.unwrap();
        if answered == 1 {
            idle.send(()).await.unwrap();
        }
    }
}

fn start_clients(server: SocketAddr, trust: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(SERVER, server.to_string()).stdin(Stdio::piped());
    if let Some(path) = trust {
        command.env(TRUST, path);
    }
    command.spawn().unwrap()
}

fn clients(server: SocketAddr) {
    let connector = std::env::var(TRUST).ok().map(|path| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(std::fs::read(path).unwrap())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    });
    let (mut plain, mut secure) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS + 1 {
        let mut greeting = [0; 28];
        let mut socket = TcpStream::connect(server).unwrap();
        match &connector {
            None => {
                socket.read_exact(&mut greeting).unwrap();
                socket.write_all(b"EHLO a\r\n").unwrap();
                plain.push(socket);
            }
            Some(connector) => smol::block_on(async {
                let name = ServerName::try_from("mail.example.org").unwrap();
                let mut tls = connector.connect(name, Stream::plain(socket).unwrap()).await.unwrap();
                tls.read_exact(&mut greeting).await.unwrap();
                tls.write_all(b"EHLO a\r\n").await.unwrap();
                tls.flush().await.unwrap();
                secure.push(tls);
            }),
        }
    }
    // Held until the parent has measured.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
