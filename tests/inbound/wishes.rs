//! What is stored of the sender's wish for TLS (RFC 8689 section 4.1); REQUIRETLS itself is in the dialogs.

use pipit::mail::envelope::RequireTls;
use pipit::store::blobs;

use crate::scene::play;

#[test]
fn tls_required_is_honoured_as_one_no_and_stays_in_the_message() {
    let rows = [
        ("", RequireTls::Default),
        ("TLS-Required: No\r\n", RequireTls::Waived),
        ("tls-required:nO\r\n", RequireTls::Waived),
        ("TLS-Required: \t No \t\r\n", RequireTls::Waived),
        ("TLS-Required:\r\n No\r\n", RequireTls::Waived),
        ("TLS-Required: Yes\r\n", RequireTls::Default),
        ("TLS-Required: N o\r\n", RequireTls::Default),
        ("TLS-Required: No.\r\n", RequireTls::Default),
        ("TLS-Required: \"No\"\r\n", RequireTls::Default),
        ("TLS-Required:\r\n", RequireTls::Default),
        ("X-TLS-Required: No\r\n", RequireTls::Default),
        ("TLS-Required: No\r\nTLS-Required: No\r\n", RequireTls::Default),
        ("TLS-Required: No\r\nSubject: x\r\ntls-required: Yes\r\n", RequireTls::Default),
        ("TLS-Required: Yes\r\nTLS-Required: No\r\n", RequireTls::Default),
    ];
    play("", |scene| async move {
        let mut client = scene.client().await;
        for (lines, _) in rows {
            client.deliver("wish", lines).await;
        }
        let stored = scene.stored();
        assert_eq!(stored.len(), rows.len());
        for ((lines, wish), (_, message)) in rows.into_iter().zip(stored) {
            assert_eq!(message.require_tls, wish, "{lines}");
            let chunks = (0..).map_while(|number| scene.service.store.read(|r| blobs::chunk(r, message.blob, number)).unwrap());
            let raw = String::from_utf8(chunks.flatten().collect()).unwrap();
            assert!(raw.contains(&format!("\r\n{lines}\r\n")), "{raw}");
        }
        scene
    });
}
