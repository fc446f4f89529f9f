//! People hand in mail: logins under TLS, whose addresses they may use, what is added, and where the mail goes.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use pipit::config::check::check;
use pipit::inbound::Door;
use pipit::inbound::Port;
use pipit::mail::date::UnixTime;
use pipit::mail::domain::Domain;
use pipit::mail::envelope::Body;
use pipit::mail::envelope::RequireTls;
use pipit::metrics::LoginOutcome;
use pipit::net::deadline::within;
use pipit::net::stream::Stream;
use pipit::net::tls::Certificates;
use pipit::net::tls::Tickets;
use pipit::proto::smtp::sasl::base64;
use pipit::proto::smtp::sasl::scram;
use pipit::proto::x509::certificate::SelfSigned;
use pipit::proto::x509::certificate::self_signed;
use pipit::proto::x509::key::new_key;
use pipit::store::BlobId;
use pipit::store::accounts;
use pipit::store::accounts::AppPassword;
use pipit::store::accounts::ScramSalt;
use pipit::store::blobs;
use pipit::store::queue;
use ring::digest;
use ring::hmac;
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use smol::io::AsyncReadExt;
use smol::io::AsyncWriteExt;

use crate::scene::PASSWORD;
use crate::scene::PEER;
use crate::scene::Scene;
use crate::scene::play;

const PATIENCE: Duration = Duration::from_secs(30);
const APP: &str = "k7m2p-x9q4w-3hd8-vvvv-0000-zzzz";

/// A listener's TLS and a client that trusts it.
struct Tls {
    door: Door,
    connector: TlsConnector,
}

fn tls(port: Port) -> Tls {
    let random = SystemRandom::new();
    let (key, names) = (new_key(&random).unwrap(), [Domain::parse("mx.home.test").unwrap()]);
    let (not_before, not_after) = (UnixTime::from_civil(2020, 1, 1, 0).unwrap(), UnixTime::from_civil(2060, 1, 1, 0).unwrap());
    let wish = SelfSigned { key_pkcs8: &key, names: &names, not_before, not_after, serial: [7; 16] };
    let der = self_signed(&wish, &random).unwrap();
    let certificates = Certificates::new(names[0].clone());
    certificates.replace(&names, vec![der.clone()], &key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(der)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let door = Door { port, tls: Some(certificates.server_config(Tickets::Some).unwrap()) };
    Tls { door, connector: TlsConnector::from(Arc::new(config)) }
}

/// A client under TLS.
struct Person {
    stream: TlsStream<Stream>,
    read: Vec<u8>,
}

impl Person {
    /// At the TLS-first port, greeted.
    async fn arrive(scene: &Scene, tls: &Tls, peer: &str) -> Person {
        let stream = scene.at_door(tls.door.clone(), peer);
        let mut person = Person::secured(stream, &tls.connector).await;
        person.expect("220 ").await;
        person.say("EHLO phone.local", "250 ").await;
        person
    }

    /// At either port for people, greeted under TLS.
    async fn at(scene: &Scene, tls: &Tls, port: Port) -> Person {
        if port == Port::Submissions {
            return Person::arrive(scene, tls, PEER).await;
        }
        let mut plain = crate::scene::Client::greeted(scene.at_door(tls.door.clone(), PEER)).await;
        plain.say("STARTTLS", "220 ").await;
        let mut person = Person::secured(plain.into_stream(), &tls.connector).await;
        person.say("EHLO phone.local", "250 ").await;
        person
    }

    async fn secured(stream: Stream, connector: &TlsConnector) -> Person {
        let name = ServerName::try_from("mx.home.test").unwrap();
        Person { stream: connector.connect(name, stream).await.unwrap(), read: Vec::new() }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let mut piece = [0; 4096];
            let n = within(PATIENCE, self.stream.read(&mut piece)).await.unwrap().unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.read.extend_from_slice(&piece[..n]);
        }
    }

    async fn expect(&mut self, begin: &str) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("closed instead of {begin}"));
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(begin), "{begin} expected: {line}");
                return line;
            }
        }
    }

    async fn say(&mut self, line: &str, begin: &str) -> String {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        self.expect(begin).await
    }

    async fn log_in(&mut self, name: &str, password: &str, begin: &str) {
        let response = base64::encode(format!("\0{name}\0{password}").as_bytes());
        self.say(&format!("AUTH PLAIN {response}"), begin).await;
    }

    async fn hand_in(&mut self, to: &[&str], message: &str, begin: &str) {
        self.say("MAIL FROM:<ann@home.test> RET=HDRS ENVID=e1", "250 ").await;
        for recipient in to {
            self.say(&format!("RCPT TO:<{recipient}> NOTIFY=FAILURE ORCPT=rfc822;{recipient}"), "250 ").await;
        }
        self.say("DATA", "354 ").await;
        self.say(&format!("{message}\r\n."), begin).await;
    }
}

fn raw(scene: &Scene, blob: BlobId) -> String {
    let chunks = (0..).map_while(|number| scene.service.store.read(|r| blobs::chunk(r, blob, number)).unwrap());
    String::from_utf8(chunks.flatten().collect()).unwrap()
}

#[test]
fn a_message_goes_to_people_here_and_into_the_queue() {
    play("", |scene| async move {
        let tls = tls(Port::Submissions);
        let mut ann = Person::arrive(&scene, &tls, PEER).await;
        ann.say("MAIL FROM:<ann@home.test>", "530 5.7.0").await;
        ann.log_in("ann@home.test", PASSWORD, "235 ").await;
        let message = "From: Ann <ann+shop@home.test>\r\nBcc: hidden@elsewhere.test\r\nTLS-Required: No\r\nSubject: s\r\n\r\nbody";
        ann.hand_in(&["bob@elsewhere.test", "bob@elsewhere.test", "info@home.test", "x@[192.0.2.9]"], message, "250 2.0.0").await;
        ann.say("QUIT", "221 ").await;

        let stored = scene.stored();
        assert_eq!((stored.len(), stored[0].1.require_tls), (1, RequireTls::Waived));
        let queued = scene.service.store.read(|r| queue::list(r, None, 10)).unwrap();
        let [(id, row)] = queued.as_slice() else { panic!("{queued:?}") };
        let row = row.as_ref().unwrap();
        assert_eq!((row.sender, row.reverse_path.to_string()), (Some(scene.account), "<ann@home.test>".to_owned()));
        assert_eq!((row.ret.to_string(), row.envid.as_deref(), row.wish), ("HDRS".to_owned(), Some("e1"), RequireTls::Waived));
        assert_eq!(row.blob, stored[0].1.blob, "one blob for all");
        let recipients = scene.service.store.read(|r| queue::recipients(r, *id)).unwrap();
        let shown: Vec<String> =
            recipients.iter().map(|(_, to)| format!("{} {} {}", to.address, to.notify, to.orcpt.as_deref().unwrap_or_default())).collect();
        assert_eq!(shown, ["bob@elsewhere.test FAILURE rfc822;bob@elsewhere.test", "x@[192.0.2.9] FAILURE rfc822;x@[192.0.2.9]"]);

        let raw = raw(&scene, row.blob);
        let header = raw.split("\r\n\r\n").next().unwrap().replace("\r\n\t", " ");
        let received = header.lines().next().unwrap();
        let begin = format!("Received: from hidden.invalid by mx.home.test with ESMTPSA id {id} (TLSv1.3 TLS_");
        assert!(received.starts_with(&begin), "{received}");
        assert!(!raw.contains(PEER) && !raw.contains("phone.local") && !raw.contains("hidden@"), "{raw}");
        assert_eq!(header.lines().filter(|line| line.starts_with("Date: ")).count(), 1, "{header}");
        let id = header.lines().find(|line| line.starts_with("Message-ID: <")).unwrap();
        assert!(id.ends_with("@home.test>"), "{id}");
        assert!(stored[0].1.digest.message_id.ends_with("@home.test>"));
        scene
    });
}

#[test]
fn success_is_told_of_people_here_to_those_who_asked() {
    play("", |scene| async move {
        let tls = tls(Port::Submissions);
        let mut ann = Person::arrive(&scene, &tls, PEER).await;
        ann.log_in("ann@home.test", PASSWORD, "235 ").await;
        ann.say("MAIL FROM:<ann@home.test> RET=FULL ENVID=e+2B1", "250 ").await;
        ann.say("RCPT TO:<info@home.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@home.test", "250 ").await;
        ann.say("RCPT TO:<ann+shop@home.test> NOTIFY=FAILURE", "250 ").await;
        ann.say("RCPT TO:<Postmaster> NOTIFY=SUCCESS", "250 ").await;
        ann.say("RCPT TO:<bob@elsewhere.test> NOTIFY=SUCCESS", "250 ").await;
        ann.say("DATA", "354 ").await;
        ann.say("From: ann@home.test\r\nSubject: s\r\n\r\nbody\r\n.", "250 2.0.0").await;
        let stored = scene.stored();
        assert_eq!(stored.len(), 2, "one copy and one notice before the 250");
        let texts: Vec<String> = stored.iter().map(|(_, row)| raw(&scene, row.blob)).collect();
        let notice = texts.iter().find(|text| text.contains("Subject: Your message was delivered\r\n")).unwrap();
        for part in [
            "Original-Envelope-Id: e+1\r\n",
            "Original-Recipient: rfc822; first@home.test\r\nFinal-Recipient: rfc822; info@home.test\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
            "Final-Recipient: rfc822; postmaster@mx.home.test\r\n",
            "\r\nContent-Type: text/rfc822-headers\r\n",
            "Subject: s\r\n",
        ] {
            assert!(notice.contains(part), "{part:?} not in {notice}");
        }
        assert!(!notice.contains("ann+shop") && !notice.contains("elsewhere") && !notice.contains("\r\nbody\r\n"), "{notice}");
        assert_eq!(notice.matches("Final-Recipient").count(), 2);
        // The wishes of one message are not those of the next, and the null path never hears.
        ann.say("MAIL FROM:<ann@home.test>", "250 ").await;
        ann.say("RCPT TO:<ann@home.test>", "250 ").await;
        ann.say("DATA", "354 ").await;
        ann.say("From: ann@home.test\r\n\r\nx\r\n.", "250 2.0.0").await;
        ann.say("MAIL FROM:<>", "250 ").await;
        ann.say("RCPT TO:<ann@home.test> NOTIFY=SUCCESS", "250 ").await;
        ann.say("DATA", "354 ").await;
        ann.say("From: ann@home.test\r\n\r\nx\r\n.", "250 2.0.0").await;
        ann.say("QUIT", "221 ").await;
        assert_eq!(scene.stored().len(), 4);
        scene
    });
}

#[test]
fn eight_bits_are_noticed_whatever_was_declared() {
    play("", |scene| async move {
        let tls = tls(Port::Submissions);
        let mut ann = Person::arrive(&scene, &tls, PEER).await;
        ann.log_in("ann@home.test", PASSWORD, "235 ").await;
        for (parameter, body, expected) in [
            ("", "x", Body::SevenBit),
            ("", "Gr\u{fc}\u{df}e", Body::EightBit),
            (" BODY=7BIT", "\u{fc}", Body::EightBit),
            (" BODY=8BITMIME", "x", Body::EightBit),
        ] {
            ann.say(&format!("MAIL FROM:<ann@home.test>{parameter}"), "250 ").await;
            ann.say("RCPT TO:<bob@elsewhere.test>", "250 ").await;
            ann.say("DATA", "354 ").await;
            ann.say(&format!("From: ann@home.test\r\n\r\n{body}\r\n."), "250 2.0.0").await;
            let queued = scene.service.store.read(|r| queue::list(r, None, 10)).unwrap();
            let newest = queued.into_iter().map(|(_, row)| row.unwrap()).max_by_key(|row| row.blob).unwrap();
            assert_eq!(newest.body, expected, "{parameter} {body}");
        }
        ann.say("QUIT", "221 ").await;
        scene
    });
}

#[test]
fn nobody_sends_in_the_name_of_another() {
    for port in [Port::Submissions, Port::Submission] {
        play("", |scene| async move {
            let mut ann = Person::at(&scene, &tls(port), port).await;
            ann.say("MAIL FROM:<ann@home.test>", "530 5.7.0").await;
            ann.log_in("ann", PASSWORD, "235 ").await;
            for foreign in ["bob@home.test", "nobody@home.test", "ann@elsewhere.test", "postmaster@home.test"] {
                ann.say(&format!("MAIL FROM:<{foreign}>"), "550 5.7.1").await;
            }
            for own in ["<>", "<ann@home.test>", "<Ann+x@HOME.test>", "<info@home.test>"] {
                ann.say(&format!("MAIL FROM:{own}"), "250 ").await;
                ann.say("RSET", "250 ").await;
            }
            ann.say("MAIL FROM:<ann@home.test>", "250 ").await;
            for refused in ["nobody@home.test", "ann@mx.home.test"] {
                ann.say(&format!("RCPT TO:<{refused}>"), "550 5.1.1").await;
            }
            ann.say("RSET", "250 ").await;
            scene
        });
    }
}

/// The owner takes home.test out of the file while ann is in a session; her account and its mail stay.
#[test]
fn the_people_of_a_domain_that_was_taken_out_send_nothing_and_get_in_no_more() {
    play("", |scene| async move {
        let tls = tls(Port::Submissions);
        let mut ann = Person::arrive(&scene, &tls, PEER).await;
        ann.log_in("ann@home.test", PASSWORD, "235 ").await;
        let mut between = Person::arrive(&scene, &tls, "192.0.2.8").await;
        ann.say("MAIL FROM:<ann@home.test>", "250 ").await;
        let dir = scene.service.store.dir().display().to_string();
        let text = format!("hostname = \"mx.home.test\"\ndir = \"{dir}\"\n[[domain]]\nname = \"other.test\"\n");
        scene.service.live.replace(check(&text).unwrap());
        ann.say("RCPT TO:<bob@elsewhere.test>", "250 ").await;
        ann.say("DATA", "354 ").await;
        ann.say("From: ann@home.test\r\n\r\nbegun before\r\n.", "550 5.7.1").await;
        ann.say("MAIL FROM:<ann@home.test>", "550 5.7.1").await;
        ann.say("MAIL FROM:<>", "250 ").await;
        ann.say("RCPT TO:<bob@elsewhere.test>", "250 ").await;
        ann.say("DATA", "354 ").await;
        ann.say("From: ann@home.test\r\n\r\nx\r\n.", "550 5.7.1").await;
        let login = |name: &str, password: &str| format!("AUTH PLAIN {}", base64::encode(format!("\0{name}\0{password}").as_bytes()));
        let right = between.say(&login("ann@home.test", PASSWORD), "535 ").await;
        let wrong = between.say(&login("ann@home.test", "wrong"), "535 ").await;
        let nobody = between.say(&login("nobody@home.test", "wrong"), "535 ").await;
        assert_eq!((&right, &right), (&wrong, &nobody));
        assert_eq!(scene.service.metrics.logins.value(LoginOutcome::Refused), 3);
        assert_eq!(scene.service.store.read(|r| queue::list(r, None, 10)).unwrap(), []);
        scene
    });
}

#[test]
fn the_header_speaks_for_the_account_alone() {
    let rows = [
        ("From: bob@home.test\r\n\r\n", "550 5.7.1"),
        ("From: \"ann@home.test\" <bob@home.test>\r\n\r\n", "550 5.7.1"),
        ("From: ann@home.test, bob@home.test\r\n\r\n", "550 5.7.1"),
        ("From: ann@home.test\r\nSender: bob@home.test\r\n\r\n", "550 5.7.1"),
        ("From: ann@home.test\r\nFrom: ann@home.test\r\n\r\n", "550 5.6.0"),
        ("Subject: none\r\n\r\n", "550 5.6.0"),
        ("From: undisclosed:;\r\n\r\n", "550 5.6.0"),
        ("From: ann@home.test <ann@home.test> bob@home.test\r\n\r\n", "550 5.6.0"),
        ("From: ann+x@home.test, info@home.test\r\nSender: ann@home.test\r\n\r\n", "250 2.0.0"),
    ];
    for port in [Port::Submissions, Port::Submission] {
        play("", |scene| async move {
            let mut ann = Person::at(&scene, &tls(port), port).await;
            ann.log_in("ann@home.test", PASSWORD, "235 ").await;
            for (message, reply) in rows {
                ann.hand_in(&["bob@elsewhere.test"], message, reply).await;
            }
            assert_eq!(scene.service.store.read(queue::counts).unwrap().messages, 1);
            scene
        });
    }
}

#[test]
fn wrong_logins_are_told_alike_paused_and_at_last_blocked() {
    play("", |scene| async move {
        let tls = tls(Port::Submissions);
        let mut replies = Vec::new();
        for (peer, name) in [("192.0.2.21", "ann@home.test"), ("192.0.2.22", "nobody@home.test"), ("192.0.2.23", "bob@home.test")] {
            let mut guest = Person::arrive(&scene, &tls, peer).await;
            let began = Instant::now();
            let response = base64::encode(format!("\0{name}\0wrong").as_bytes());
            replies.push(guest.say(&format!("AUTH PLAIN {response}"), "535 5.7.8").await);
            assert!(began.elapsed() >= Duration::from_secs(1), "a failure is delayed");
        }
        assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "{replies:?}");
        // Nine more at once would take a minute of pauses: they are counted when they are judged, so many guests share them.
        let mut guests = Vec::new();
        for _ in 0..9 {
            guests.push(Person::arrive(&scene, &tls, "192.0.2.21").await);
        }
        let response = base64::encode(b"\0ann@home.test\0wrong");
        for guest in &mut guests {
            guest.stream.write_all(format!("AUTH PLAIN {response}\r\n").as_bytes()).await.unwrap();
            guest.stream.flush().await.unwrap();
        }
        for guest in &mut guests {
            guest.expect("535 5.7.8").await;
        }
        let mut ann = Person::arrive(&scene, &tls, "192.0.2.21").await;
        ann.log_in("ann@home.test", PASSWORD, "535 5.7.8").await;
        assert_eq!(scene.service.metrics.logins.value(LoginOutcome::Blocked), 1);
        let mut elsewhere = Person::arrive(&scene, &tls, "192.0.2.99").await;
        elsewhere.log_in("ann@home.test", PASSWORD, "235 ").await;
        scene.hand.advance(Duration::from_secs(15 * 60));
        let mut again = Person::arrive(&scene, &tls, "192.0.2.21").await;
        again.log_in("ann@home.test", PASSWORD, "235 ").await;
        scene
    });
}

#[test]
fn starttls_comes_before_a_login_on_587_and_port_25_relays_nothing() {
    play("", |scene| async move {
        let tls = tls(Port::Submission);
        let mut plain = crate::scene::Client::greeted(scene.at_door(tls.door.clone(), PEER)).await;
        plain.say("AUTH PLAIN AGFubgBzZWNyZXQ=", "538 5.7.11").await;
        plain.say("MAIL FROM:<ann@home.test>", "530 5.7.0").await;
        plain.say("STARTTLS", "220 ").await;
        let mut ann = Person::secured(plain.into_stream(), &tls.connector).await;
        ann.say("EHLO phone.local", "250 ").await;
        ann.log_in("ann@home.test", PASSWORD, "235 ").await;
        ann.hand_in(&["bob@elsewhere.test"], "From: ann@home.test\r\n\r\n", "250 2.0.0").await;

        let mut stranger = scene.client().await;
        stranger.say("AUTH PLAIN AGFubgBzZWNyZXQ=", "503 5.5.1").await;
        stranger.say("MAIL FROM:<ann@home.test>", "250 ").await;
        stranger.say("RCPT TO:<bob@elsewhere.test>", "550 5.7.1").await;
        assert_eq!(scene.service.store.read(queue::counts).unwrap().messages, 1);
        scene
    });
}

/// Gives ann the app password.
async fn with_app_password(scene: &Scene) {
    let salt = ScramSalt { salt: vec![9; 16], iterations: scram::ITERATIONS };
    let keys = scram::derive(APP, &salt.salt, salt.iterations);
    let new = AppPassword { name: "phone".into(), created: UnixTime(1), stored_key: keys.stored, server_key: keys.server };
    let ann = scene.account;
    scene.service.store.write(move |w| accounts::add_app_password(w, ann, salt, new)).await.unwrap().unwrap();
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

#[test]
fn scram_plus_is_bound_to_the_real_session() {
    play("", |scene| async move {
        with_app_password(&scene).await;
        let tls = tls(Port::Submissions);
        let mut ann = Person::arrive(&scene, &tls, PEER).await;
        ann.log_in("ann@home.test", &APP.replace('-', ""), "235 ").await;
        for (own, reply) in [(true, "235 "), (false, "535 5.7.8")] {
            let mut ann = Person::arrive(&scene, &tls, PEER).await;
            let session = ann.stream.get_ref().1;
            let exporter = session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
            let exporter = if own { exporter } else { [0; 32] };
            let bare = "n=ann@home.test,r=abcdef";
            let first = base64::encode(format!("p=tls-exporter,,{bare}").as_bytes());
            let challenge = ann.say(&format!("AUTH SCRAM-SHA-256-PLUS {first}"), "334 ").await;
            let challenge = String::from_utf8(base64::decode(&challenge.as_bytes()[4..]).unwrap()).unwrap();
            let mut salted = [0; 32];
            let rounds = std::num::NonZeroU32::new(scram::ITERATIONS).unwrap();
            ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, &[9; 16], APP.as_bytes(), &mut salted);
            let client_key = sign(&salted, b"Client Key");
            let bound = base64::encode(&[b"p=tls-exporter,,".as_slice(), &exporter].concat());
            let last = format!("c={bound},{}", challenge.split(',').next().unwrap());
            let said = format!("{bare},{challenge},{last}");
            let signature = sign(digest::digest(&digest::SHA256, &client_key).as_ref(), said.as_bytes());
            let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, octet)| key ^ octet).collect();
            let last = base64::encode(format!("{last},p={}", base64::encode(&proof)).as_bytes());
            if own {
                let answer = ann.say(&last, "334 ").await;
                let expected = base64::encode(&sign(&sign(&salted, b"Server Key"), said.as_bytes()));
                assert_eq!(base64::decode(&answer.as_bytes()[4..]).unwrap(), format!("v={expected}").into_bytes());
                ann.say("", reply).await;
            } else {
                ann.say(&last, reply).await;
            }
        }
        scene
    });
}
