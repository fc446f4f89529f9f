//! What we write, openssl reads, and finds its signature good; what openssl writes, we serve.

#![expect(clippy::unwrap_used, reason = "a test with functions of its own")]

use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use pipit::mail::date::UnixTime;
use pipit::mail::domain::Domain;
use pipit::net::tls::CertificateFault;
use pipit::net::tls::Certificates;
use pipit::proto::x509::certificate::SelfSigned;
use pipit::proto::x509::certificate::self_signed;
use pipit::proto::x509::key::new_key;
use ring::rand::SystemRandom;

const BEGIN: UnixTime = UnixTime(1_795_452_194);
const END: UnixTime = UnixTime(1_795_452_194 + 3650 * 86_400);

fn sample(names: &[&str]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key = new_key(&random).unwrap();
    let names: Vec<Domain> = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
    self_signed(&SelfSigned { key_pkcs8: &key, names: &names, not_before: BEGIN, not_after: END, serial: [0; 16] }, &random).unwrap()
}

#[test]
fn openssl_reads_it_and_checks_its_signature() {
    let long = format!("{}.example.org", "a".repeat(63));
    for names in [&["mail.example.org", "[192.0.2.1]"][..], &[&long, "b.example"]] {
        let certificate = sample(names);
        let Some(text) = openssl(&["x509", "-inform", "DER", "-noout", "-text"], &certificate) else {
            eprintln!("openssl is not here; skipped");
            return;
        };
        for part in [
            "Version: 3 (0x2)",
            "ecdsa-with-SHA256",
            "CA:FALSE",
            "Digital Signature",
            "TLS Web Server Authentication",
            "Nov 23 16:43:14 2026 GMT",
            "X509v3 Basic Constraints: critical",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(text.contains("DNS:mail.example.org, IP Address:192.0.2.1") || text.contains("DNS:b.example"), "{text}");
        let path = std::env::temp_dir().join(format!("pipit-x509-{}.pem", std::process::id()));
        let pem = openssl(&["x509", "-inform", "DER"], &certificate).unwrap();
        std::fs::write(&path, pem).unwrap();
        let path_text = path.to_str().unwrap();
        let at = BEGIN.0.to_string();
        let checked =
            openssl(&["verify", "-x509_strict", "-attime", &at, "-check_ss_sig", "-partial_chain", "-trusted", path_text, path_text], &[]);
        std::fs::remove_file(&path).unwrap();
        assert!(checked.is_some_and(|text| text.contains("OK")));
    }
}

/// What openssl prints; `None` where it is not installed. A failure is the test's.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<String> {
    let piped = Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = piped.ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn files_of_openssl_are_served() {
    let names = [Domain::parse("mail.example.org").unwrap()];
    let Some(pkcs8) = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], &[]) else {
        eprintln!("openssl is not here; skipped");
        return;
    };
    let sec1 = openssl(&["ec"], pkcs8.as_bytes()).unwrap();
    let path = std::env::temp_dir().join(format!("pipit-key-{}.pem", std::process::id()));
    std::fs::write(&path, &pkcs8).unwrap();
    let arguments =
        ["req", "-x509", "-key", path.to_str().unwrap(), "-days", "9", "-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.example"];
    let chain = openssl(&arguments, &[]).unwrap();
    std::fs::remove_file(&path).unwrap();
    for key in [&pkcs8, &sec1] {
        let certificates = Certificates::new(names[0].clone());
        certificates.replace_pem(&names, chain.as_bytes(), key.as_bytes()).unwrap();
        assert!(!certificates.is_empty());
    }
    let certificates = Certificates::new(names[0].clone());
    assert_eq!(certificates.replace_pem(&names, b"", pkcs8.as_bytes()), Err(CertificateFault::EmptyChain));
    assert!(matches!(certificates.replace_pem(&names, chain.as_bytes(), chain.as_bytes()), Err(CertificateFault::Unusable(_))));
}
