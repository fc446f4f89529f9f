#!/usr/bin/env python3
"""outgoing: what our users send reaches Debian's Postfix, and what cannot reach anybody comes back to them.

Purpose: the way out against the most common peer: both TLS modes, many recipients, refusals, waiting, routes, reports.
Usage:   tests/peers/outgoing.py [--only CASE]     (needs root for Postfix)
Result:  `ok`/`FAIL` lines and the closing line; exit status 0 or 1.

A private Postfix at 127.0.0.2 is the mail server of every test domain; a small DNS says so. Mail is handed in by smtplib, with
STARTTLS and with TLS from the first octet in turn. For each message: exactly one copy a recipient, the same octets behind
trace fields. Failure notices are read as a user's program would: with Python's email package.
"""

import argparse
import email
import email.policy
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.dns import Dns
from rig.outcome import Outcome, Scratch
from rig.pipit import Pipit
from rig.postfix_instance import Postfix
from rig.wire import free_ports, letter, trouble_with

ANN = "ann@home.test"
CROWD = [f"crowd{n:02d}@peer.test" for n in range(50)]
TEN_MEGABYTES = 10 * 1024 * 1024
PEER = "127.0.0.2"
ZONE = """
mx.home.test A 127.0.0.1
mx.peer.test A 127.0.0.2
peer.test MX 10 mx.peer.test
two.test MX 5 dead.two.test        # the first does not answer
two.test MX 10 mx.peer.test
dead.two.test A 127.0.0.77
alias.test CNAME peer.test
implicit.test A 127.0.0.2          # no MX: the domain itself
bouncer.test MX 10 mx.peer.test    # Postfix takes it, and cannot get rid of it: its next hop is us, who refuse it
null.test MX 0 .
ours.test MX 10 mx.home.test
dead.test MX 10 dead.two.test
broken.test SERVFAIL
"""
RECEIVED_THERE = "peer.test, two.test, alias.test, implicit.test, broken.test"


class Scene:
    """We, Postfix and DNS; hands in messages and looks for them at the other end."""

    def __init__(self, outcome, ours, peer, dns):
        self.outcome, self.ours, self.peer, self.dns, self.serial = outcome, ours, peer, dns, 0

    def submit(self, recipients, size=4096, eight_bit=False, options="", rcpt_options=(), name="out"):
        """Hand in a letter; (ident, its octets)."""
        self.serial += 1
        ident = f"{name}{self.serial:04d}"
        message = letter(ident, size, eight_bit, to="someone@peer.test", sender=ANN)
        self.ours.submit(message, recipients, options=options, rcpt_options=rcpt_options, implicit=self.serial % 2 == 0)
        return ident, message

    def case(self, what, recipients=("carol@peer.test",), patience=30, **letter_facts):
        """One message; every recipient must have it once, unchanged."""
        ident, message = self.submit(recipients, **letter_facts)
        self.arrived(what, ident, message, recipients, patience)
        return ident

    def copies(self, ident):
        """The copies of a letter in Postfix's one mailbox."""
        mark, found = b"X-Ledger: " + ident.encode() + b"\n", []
        for path in self.peer.stored():
            try:
                with open(path, "rb") as file:
                    raw = file.read()
            except FileNotFoundError:
                continue
            if mark in raw:
                found.append(raw.replace(b"\n", b"\r\n"))
        return found

    def arrived(self, what, ident, message, recipients, patience=30):
        end = time.monotonic() + patience
        while len(copies := self.copies(ident)) < len(recipients) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.2)  # a second copy would come now
        copies = self.copies(ident)
        people = sorted(line[14:].decode() for raw in copies for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(b"Delivered-To: "))
        wrong = [trouble for trouble in (trouble_with(raw, message) for raw in copies) if trouble]
        if people != sorted(recipients):
            wrong.append(f"delivered to {people[:3]}… ({len(people)}), queue: {json.dumps(self.ours.queue())[:300]}")
        return self.outcome.check(f"{what}: arrives once, unchanged ({len(recipients)} recipients, {len(message)} octets)", not wrong, "; ".join(wrong[:3]))

    def notices(self, ident, patience=20, least=1):
        """Parsed reports in ann's mailbox that carry or mention the letter, newest last."""
        end = time.monotonic() + patience
        while True:
            found = [email.message_from_bytes(raw, policy=email.policy.default) for raw in self.ours.bodies(ANN) if ident.encode() in raw]
            if len(found) >= least or time.monotonic() > end:
                return sorted(found, key=lambda report: report["Date"].datetime if report["Date"] else 0)
            time.sleep(0.3)

    def failure(self, what, ident, recipient, status, words, action="failed", patience=20):
        """Exactly one report of ours on the letter, that says what happened to the recipient."""
        found = [Report(one) for one in self.notices(ident, patience)]
        found = [one for one in found if one.action == action]
        if not self.outcome.check(f"{what}: one report ({action})", len(found) == 1, f"{len(found)} reports; log: {self.ours.last_words(500) if not found else ''}"):
            return None
        wrong = found[0].trouble(recipient, status, words)
        self.outcome.check(f"{what}: the report reads well ({status})", not wrong, "; ".join(wrong))
        return found[0]

    def queue_of(self, ident_or_address):
        return [row for row in self.ours.queue() if ident_or_address in json.dumps(row, ensure_ascii=False)]

    def wait_for_queue(self, mark, present=True, patience=20):
        """True when the queue shows (or no longer shows) something with that text in time."""
        end = time.monotonic() + patience
        while bool(self.queue_of(mark)) != present:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True


class Report:
    """A delivery report as a program reads it (RFC 3464)."""

    def __init__(self, message):
        self.message = message
        self.parts = list(message.iter_parts()) if message.is_multipart() else []
        status = [part for part in self.parts if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status")]
        groups = status[0].get_payload() if status else []
        if status and status[0].get_content_type() == "message/global-delivery-status":  # Python does not know its groups
            text = status[0].as_bytes(policy=email.policy.SMTPUTF8.clone(linesep="\n")).partition(b"\n\n")[2]
            groups = [email.message_from_bytes(group, policy=email.policy.default) for group in text.split(b"\n\n") if group.strip()]
        self.whole, self.each = (groups[0], groups[1:]) if groups else ({}, [])
        self.action = self.each[0]["Action"] if self.each else None

    def trouble(self, recipient, status, words):
        """What is wrong with it, as a list of sentences."""
        wrong, message = [], self.message
        text = " ".join(self.parts[0].get_content().split()) if self.parts and self.parts[0].get_content_type() == "text/plain" else ""
        fields = next((one for one in self.each if recipient in str(one["Final-Recipient"])), {})
        for held, what in (
            (message.get_content_type() == "multipart/report", f"its type is {message.get_content_type()}"),
            (message.get_param("report-type") == "delivery-status", "no report-type"),
            (str(message["Return-Path"] or "<>") == "<>", f"its reverse-path is {message['Return-Path']}"),
            (message["Auto-Submitted"] in ("auto-replied", "auto-generated"), "it does not say Auto-Submitted"),
            (ANN in str(message["To"]), f"To is {message['To']}"),
            (message["From"] and message["Date"] and message["Message-ID"] and message["Subject"], "From, Date, Message-ID or Subject is missing"),
            (len(self.parts) == 3, f"{len(self.parts)} parts"),
            (self.whole and self.whole["Reporting-MTA"] == "dns; mx.home.test", f"Reporting-MTA is {self.whole and self.whole['Reporting-MTA']}"),
            (bool(fields), f"{recipient} is not in {[str(one['Final-Recipient']) for one in self.each]}"),
            (bool(fields) and str(fields["Status"]).startswith(status), f"Status is {fields and fields['Status']}"),
            (recipient in text, "the text does not name the address"),
            (all(word in text for word in words), f"the text lacks {[word for word in words if word not in text]}: {text[:500]!r}"),
            (len(self.parts) < 3 or self.parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"), "no original"),
            (len(self.parts) < 3 or "X-Ledger" in self.parts[2].as_string(), "the original is not recognisable"),
        ):
            if not held:
                wrong.append(what)
        return wrong


def tls_levels(scene):
    """Both TLS modes of the peer and a broken one, 1 and 50 recipients."""
    for level, expects_tls in (("none", False), ("may", True), ("encrypt", True)):
        scene.peer.configure(smtpd_tls_security_level=level)
        before = scene.peer.log_text().count("TLS connection established from")
        scene.case(f"TLS {level}")
        scene.case(f"TLS {level}, 50 recipients", CROWD)
        log = scene.peer.log_text()
        scene.outcome.check(f"TLS {level}: {'TLS' if expects_tls else 'plain text'} was used", (log.count("TLS connection established from") > before) == expects_tls)
        scene.outcome.check(f"TLS {level}: 50 recipients in one transaction", "nrcpt=50 " in log)
        scene.peer.configure(smtpd_tls_security_level="may")
    scene.case("TLS may, 10 MB", size=TEN_MEGABYTES, patience=60)
    # No version in common: the handshake fails, and mail nobody wants protected goes on in plain text (RFC 3207 section 4.1).
    scene.peer.configure(smtpd_tls_protocols="<=TLSv1.1")
    scene.case("the peer's TLS is broken")
    scene.peer.configure(smtpd_tls_protocols="")


def letters_in_other_scripts(scene):
    scene.case("8-bit body", eight_bit=True, options="BODY=8BITMIME")
    scene.case("UTF-8 recipient", ["zoë@peer.test"], eight_bit=True, options="BODY=8BITMIME SMTPUTF8")
    scene.case("10 MB of 8-bit text", size=TEN_MEGABYTES, eight_bit=True, options="BODY=8BITMIME", patience=60)
    scene.case("an empty body", size=10)
    scene.peer.configure(smtpd_discard_ehlo_keywords="smtputf8")
    ident, _ = scene.submit(["zoë@peer.test"], eight_bit=True, options="BODY=8BITMIME SMTPUTF8")
    found = [Report(one) for one in scene.notices(ident)]
    scene.outcome.check("no SMTPUTF8 at the peer: back with 5.6.7", len(found) == 1 and found[0].each and found[0].each[0]["Status"] == "5.6.7",
                        [str(one.each and one.each[0]["Status"]) for one in found])
    scene.peer.configure(smtpd_discard_ehlo_keywords="")


def mixture(ident):
    """Everything that can be written with 7 bits: text in three character sets, data, a message within, a signed part of ASCII."""
    words = {"utf-8": "Schöne Grüße, 1 = 1 \t", "iso-8859-1": "<p>Æther und Öl</p>", "koi8-r": "Привет, мир"}
    texts = [f"Content-Type: text/{kind}; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode()
             + (words[charset] + "\r\n.\r\n--inner?\r\n" + 30 * words[charset]).encode(charset)
             for kind, charset in (("plain", "utf-8"), ("html", "iso-8859-1"), ("plain", "koi8-r"))]
    data = b"Content-Type: application/x-data\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes(n for n in range(1, 256) if n not in (10, 13)) * 9
    inner = (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nFrom: x@x.test\r\nSubject: within\r\nMIME-Version: 1.0\r\n"
             b"Content-Type: multipart/alternative; boundary=inner\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
             + b"".join(b"--inner\r\n" + part + b"\r\n" for part in texts) + b"--inner--\r\n")
    signed = (b"Content-Type: multipart/signed; boundary=signed; micalg=x; protocol=\"a/b\"\r\n\r\n--signed\r\nContent-Transfer-Encoding: 8bit\r\n\r\nASCII \r\n"
              b"--signed\r\nContent-Type: a/b\r\n\r\n1234\r\n--signed--\r\n")
    head = (f"X-Ledger: {ident}\r\nFrom: <{ANN}>\r\nTo: <carol@peer.test>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
            f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{ident}@home.test>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed;\r\n boundary=\"outer\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
    return head.encode() + b"".join(b"--outer\r\n" + part + b"\r\n" for part in (*texts, data, inner, signed)) + b"--outer--\r\n"


def contents(raw):
    """What a program makes of a message: the type and the decoded octets of each part, in order."""
    def decoded(part):
        octets = b"" if part.is_multipart() else part.get_payload(decode=True)
        return octets.replace(b"\r\n", b"\n")
    return [(part.get_content_type(), part.get_content_charset(), part["Subject"], decoded(part), part.defects) for part in email.message_from_bytes(raw).walk()]


def peer_of_seven_bits(scene):
    """A peer without 8BITMIME gets the same content with 7 bits, with the size that was declared; what is signed comes back."""
    scene.peer.configure(smtpd_discard_ehlo_keywords="8bitmime, smtputf8")
    plain = letter("seven0001", 200_000, eight_bit=True, to="someone@peer.test", sender=ANN)
    for ident, message in (("seven0001", plain), ("seven0002", mixture("seven0002"))):
        scene.ours.submit(message, ["carol@peer.test"])  # without BODY=8BITMIME, as many programs do
        end = time.monotonic() + 30
        while not (copies := scene.copies(ident)) and time.monotonic() < end:
            time.sleep(0.1)
        right = len(copies) == 1 and copies[0].isascii() and contents(copies[0]) == contents(message)
        scene.outcome.check(f"no 8BITMIME at the peer: the same content with 7 bits ({ident})", right, "" if right else copies and copies[0][:3000])
        lines = copies[0].replace(b"\r\n", b"\n").split(b"\n") if copies else []
        said = copies[0].partition(b"boundary=signed")[0] if copies else b""
        scene.outcome.check(f"… in short lines, and no part before the signed one says 8bit ({ident})", lines and max(map(len, lines)) <= 100 and b"8bit" not in said and b"binary" not in said)
    signed = mixture("seven0003").replace(b"ASCII ", "für dich".encode())
    scene.ours.submit(signed, ["carol@peer.test"], options="BODY=8BITMIME")
    scene.failure("no 8BITMIME at the peer, a signed part of 8 bits", "seven0003", "carol@peer.test", "5.6.1", ["signed"])
    scene.peer.configure(smtpd_discard_ehlo_keywords="")
    scene.ours.submit(mixture("seven0004"), ["carol@peer.test"])
    scene.arrived("8BITMIME again", "seven0004", mixture("seven0004"), ["carol@peer.test"])


def routes(scene):
    """Which hosts are asked, and what a domain without any means."""
    scene.case("the first MX is dead, the second takes it", ["carol@two.test"])
    scene.case("a domain that is an alias", ["carol@alias.test"])
    scene.case("a domain without MX", ["carol@implicit.test"])
    for domain, status, what in (("null.test", "5.1.10", "a null MX"), ("nowhere.test", "5.1.2", "a domain that does not exist"),
                                 ("ours.test", "5.4.6", "an MX that is ourselves")):
        ident, _ = scene.submit([f"carol@{domain}"])
        scene.failure(what, ident, f"carol@{domain}", status, [])
    ident, message = scene.submit(["carol@broken.test"])
    time.sleep(3)
    scene.outcome.check("DNS says SERVFAIL: it waits", scene.queue_of("carol@broken.test"), scene.ours.queue())
    scene.dns.replace("broken.test", "broken.test MX 10 mx.peer.test")
    scene.arrived("DNS is mended", ident, message, ["carol@broken.test"])


def refusals(scene):
    """What Postfix refuses in the session comes back; what it fails later comes back through it."""
    scene.peer.write("access", "refused@peer.test 550 5.1.1 no such bird here\nlater@peer.test 450 4.2.0 come back in a moment\n")
    scene.peer.configure(smtpd_recipient_restrictions=f"check_recipient_access texthash:{scene.peer.etc}/access")
    ident, message = scene.submit(["refused@peer.test", "carol@peer.test"])
    scene.arrived("one of two is refused, the other", ident, message, ["carol@peer.test"])
    scene.failure("refused recipient", ident, "refused@peer.test", "5.1.1", ["550", "no such bird here"])
    ident, _ = scene.submit(["refused@peer.test"], rcpt_options=["NOTIFY=NEVER"])
    scene.wait_for_queue("refused@peer.test", present=False)
    time.sleep(1)
    scene.outcome.check("NOTIFY=NEVER: no report", not scene.notices(ident, patience=0))
    ident, message = scene.submit(["later@peer.test"])
    scene.outcome.check("deferred by the peer: it waits and the queue says why", scene.wait_for_queue("come back in a moment"), scene.ours.queue())
    scene.peer.write("access", "refused@peer.test 550 5.1.1 no such bird here\n")
    scene.peer.configure()
    scene.arrived("deferred, then taken", ident, message, ["later@peer.test"])
    scene.outcome.check("deferred, then taken: no report", not scene.notices(ident, patience=0))
    ident, _ = scene.submit(["carol@bouncer.test"])
    found = scene.notices(ident)
    scene.outcome.check("failed behind Postfix's 250: its bounce reaches ann", len(found) == 1 and "MAILER-DAEMON" in str(found[0]["From"]), f"{len(found)} notices")


def requested_reports(scene):
    """NOTIFY=SUCCESS, ENVID and ORCPT travel to a peer that knows them; for one that does not, we answer ourselves."""
    options = "RET=HDRS ENVID=env+2D77"
    ident, _ = scene.submit(["carol@peer.test"], options=options, rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;first@peer.test"])
    found = [Report(one) for one in scene.notices(ident)]
    good = [one for one in found if one.whole and one.whole["Original-Envelope-Id"] == "env-77" and "first@peer.test" in str(one.each[0]["Original-Recipient"])]
    scene.outcome.check("NOTIFY=SUCCESS is passed on: Postfix reports, with ENVID and ORCPT", len(good) == 1 and good[0].action in ("delivered", "relayed"),
                        [(str(one.whole and one.whole["Original-Envelope-Id"]), one.action) for one in found])
    scene.peer.configure(smtpd_discard_ehlo_keywords="dsn")
    ident, _ = scene.submit(["carol@peer.test"], options=options, rcpt_options=["NOTIFY=SUCCESS"])
    scene.failure("a peer without DSN, NOTIFY=SUCCESS", ident, "carol@peer.test", "2.", [], action="relayed")
    scene.peer.configure(smtpd_discard_ehlo_keywords="")


def giving_up(scene):
    """A host that never answers: one delay notice, then the failure."""
    scene.ours.change("outbound", delay_notice_after="2s", give_up_after="1h")
    ident, _ = scene.submit(["carol@dead.test"])
    scene.failure("late", ident, "carol@dead.test", "4.4.1", [], action="delayed", patience=30)
    scene.ours.change("outbound", delay_notice_after="1h", give_up_after="1s")
    found = wait_for_action(scene, ident, "failed")
    scene.outcome.check("given up: one report, status 4.4.1, 4.4.7 or 5.4.x", found and str(found.each[0]["Status"])[:3] in ("4.4", "5.4"), found and found.each[0]["Status"])
    scene.ours.change("outbound", delay_notice_after="4h", give_up_after="5d")


def wait_for_action(scene, ident, action, patience=30):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for one in map(Report, scene.notices(ident)):
            if one.action == action:
                return one
        time.sleep(0.3)
    return None


def postfix_to_us(scene):
    """The way back in both TLS modes, and what we refuse bounces there."""
    for level in ("none", "may"):
        scene.peer.configure(smtp_tls_security_level=level)
        message = letter(f"back-{level}", 3000)
        scene.peer.inject(message, "carol@peer.test", [ANN, "nobody.here@home.test"])
        end = time.monotonic() + 20
        while not (found := [raw for raw in scene.ours.bodies(ANN) if raw.endswith(message)]) and time.monotonic() < end:
            time.sleep(0.2)
        scene.outcome.check(f"Postfix to us, TLS {level}", len(found) == 1, len(found))
        bounced = []
        while not bounced and time.monotonic() < end:
            time.sleep(0.2)
            bounced = [raw for raw in scene.peer.bodies() if b"nobody.here@home.test" in raw and f"back-{level}".encode() in raw]
        scene.outcome.check(f"Postfix to us, TLS {level}: an unknown user bounces there", len(bounced) == 1, len(bounced))


def peer_down(scene):
    """Postfix is away, we hold; we are killed meanwhile; then both are back."""
    scene.peer.stop()
    letters = [scene.submit(["carol@peer.test"], size=8000) for _ in range(5)]
    time.sleep(1)
    scene.outcome.check("the peer is away: five wait", len(scene.queue_of("carol@peer.test")) == 5, len(scene.ours.queue()))
    scene.ours.kill9()
    scene.ours.start()
    scene.peer.start()
    for ident, message in letters:
        scene.arrived("the peer is back", ident, message, ["carol@peer.test"])


CASES = (tls_levels, letters_in_other_scripts, peer_of_seven_bits, routes, refusals, requested_reports, giving_up, postfix_to_us, peer_down)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", choices=[case.__name__ for case in CASES])
    chosen = options.parse_args()
    (port,) = free_ports(1)
    with Outcome("peers/outgoing") as outcome, Scratch("outgoing") as base, Dns(ZONE) as dns:
        settings = {"outbound": {"port": port, "private-addresses": True, "first-retry": "1s", "longest-retry": "2s"}, "dns": dns.settings}
        with Pipit(base, settings=settings) as ours, Postfix(base, f"[127.0.0.1]:{ours.port}", host=PEER, port=port) as peer:
            peer.prepare()
            peer.configure(virtual_mailbox_domains=RECEIVED_THERE, relay_domains="home.test, bouncer.test",
                           transport_maps=f"inline:{{ {{home.test=smtp:[127.0.0.1]:{ours.port}}}, {{bouncer.test=smtp:[127.0.0.1]:{ours.port}}} }}")
            peer.start()
            ours.start()
            scene = Scene(outcome, ours, peer, dns)
            for case in CASES:
                if chosen.only in (None, case.__name__):
                    case(scene)
            outcome.check("in the end the queue is empty", ours.wait_until_empty(20), ours.queue())
            outcome.ends_clean(ours)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
