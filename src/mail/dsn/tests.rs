//! What people and machines read in a notice, and what strangers cannot put into it.

use super::*;
use crate::mail::header;

const NOW: UnixTime = UnixTime(1_795_452_194);

struct Facts {
    host: Domain,
    to: Address,
    address: Address,
    digest: Digest,
}

fn facts(address: &str) -> Facts {
    Facts {
        host: Domain::parse("mail.example.org").unwrap(),
        to: Address::parse("ann@example.org").unwrap(),
        address: Address::parse(address).unwrap(),
        digest: Digest { subject: "Grüße".into(), message_id: "<1@example.org>".into(), ..Digest::default() },
    }
}

impl Facts {
    fn told<'a>(&'a self, story: Story<'a>) -> Told<'a> {
        let status = EnhancedStatus::new(5, 1, 1);
        Told { address: &self.address, orcpt: None, status, story, last_attempt: Some(NOW), retry_until: None }
    }

    fn write(&self, action: DsnAction, wish: RequireTls, returned: Returned<'_>, recipients: &[Told<'_>]) -> String {
        let original =
            Original { id: "01abc23def45g", arrived: NOW.plus(-60), envid: Some("QQ+2B1"), digest: &self.digest, wish, returned };
        let report = Report { host: &self.host, to: &self.to, id: "01abc23def45h", now: NOW, action, original, recipients };
        String::from_utf8(write(&report)).unwrap()
    }
}

#[test]
fn a_failure_tells_person_and_machine_the_same() {
    let facts = facts("bob@peer.test");
    let mut told = facts.told(Story::Theirs { host: "mx.peer.test", reply: "550 5.1.1 no such user / really" });
    told.orcpt = Some("rfc822;b+2Bx@peer.test");
    let text = facts.write(DsnAction::Failed, RequireTls::Default, Returned::Header(b"Subject: x\r\n"), &[told]);
    let expected = [
        "From: Mail Delivery System <mailer-daemon@mail.example.org>\r\nTo: <ann@example.org>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "In-Reply-To: <1@example.org>\r\n",
        "multipart/report; report-type=delivery-status;\r\n\tboundary=\"=_01abc23def45h\"",
        "could not be delivered to:\r\n\r\n    bob@peer.test\r\n    mx.peer.test answered:\r\n    550 5.1.1 no such user\r\n    really\r\n",
        "    Please check the address: nobody has it there",
        "    Subject: Grüße\r\n",
        "as number 01abc23def45g\r\n",
        "Reporting-MTA: dns; mail.example.org\r\nOriginal-Envelope-Id: QQ+1\r\nArrival-Date: Mon, 23 Nov 2026 16:42:14 +0000\r\n\r\n",
        "Original-Recipient: rfc822; b+x@peer.test\r\nFinal-Recipient: rfc822; bob@peer.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Remote-MTA: dns; mx.peer.test\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user / really\r\n",
        "Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n\r\n--=_01abc23def45h--\r\n",
    ];
    for piece in expected {
        assert!(text.contains(piece), "{piece}\nis not in\n{text}");
    }
    assert!(!text.contains("TLS-Required"));
    assert!(text.replace("\r\n", "").bytes().all(|byte| byte != b'\r' && byte != b'\n'));
    let examined = header::examine(text.as_bytes(), &facts.host).unwrap();
    assert_eq!(examined.digest.subject, "Your message could not be delivered");
}

#[test]
fn our_own_verdict_names_no_other_server() {
    let facts = facts("bob@peer.test");
    let mut told = facts.told(Story::Ours("the domain peer.test does not exist"));
    told.status = EnhancedStatus::new(5, 1, 2);
    let text = facts.write(DsnAction::Failed, RequireTls::Waived, Returned::Header(b"Subject: x\r\n"), &[told]);
    assert!(text.contains("    the domain peer.test does not exist.\r\n    Please check the part behind the @"), "{text}");
    assert!(!text.contains("Remote-MTA") && !text.contains("Diagnostic-Code"));
    assert!(text.contains("TLS-Required: No\r\n"));
}

#[test]
fn a_delay_says_until_when() {
    let facts = facts("bob@peer.test");
    let mut told = facts.told(Story::Ours("mx.peer.test does not answer"));
    told.retry_until = Some(NOW.plus(86_400));
    let text = facts.write(DsnAction::Delayed, RequireTls::Default, Returned::Header(b"Subject: x\r\n"), &[told]);
    assert!(text.contains("Action: delayed\r\n") && text.contains("Will-Retry-Until: Tue, 24 Nov 2026 16:43:14 +0000\r\n"), "{text}");
    assert!(text.contains("goes on trying until Tue, 24 Nov 2026 16:43:14 +0000."), "{text}");
    assert!(!text.contains("Please check"));
}

#[test]
fn letters_beyond_ascii_have_types_of_their_own() {
    let facts = facts("bjørn@peer.test");
    let told = facts.told(Story::Ours("no"));
    let text = facts.write(DsnAction::Failed, RequireTls::Default, Returned::Header("Subject: ø\r\n".as_bytes()), &[told]);
    assert!(text.contains("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"), "{text}");
    assert!(text.contains("Final-Recipient: utf-8; bjørn@peer.test\r\n"));
    assert!(text.contains("Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: ø\r\n"));
    let told = facts.told(Story::Ours("no"));
    let text = facts.write(DsnAction::Failed, RequireTls::Default, Returned::Whole("Subject: x\r\n\r\nø\r\n".as_bytes()), &[told]);
    assert!(text.contains("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: x\r\n\r\nø\r\n"));
}

#[test]
fn what_strangers_wrote_adds_no_lines() {
    let mut facts = facts("bob@peer.test");
    facts.digest.message_id = "<a> <b>".into();
    let mut told = facts.told(Story::Theirs { host: "mx.peer.test", reply: "550 x\r\nAction: delivered" });
    told.orcpt = Some("rfc822;a+0D+0AAction:+20delivered");
    let text = facts.write(DsnAction::Failed, RequireTls::Default, Returned::Header(b""), &[told]);
    assert_eq!(text.matches("\r\nAction:").count(), 1, "{text}");
    assert!(!text.contains("In-Reply-To"));
    for long in [format!("550 {}", "word ".repeat(1000)), format!("550 {}", "ø".repeat(3000))] {
        let told = facts.told(Story::Theirs { host: "mx.peer.test", reply: &long });
        let text = facts.write(DsnAction::Failed, RequireTls::Default, Returned::Header(b""), &[told]);
        assert!(text.lines().all(|line| line.len() < 998));
    }
}
