#!/usr/bin/env python3
"""postfix: Debian's Postfix sends mail to the server under test.

Purpose: the most common peer of the real world can hand us everything it has, and nothing is doubled, lost or changed.
Usage:   tests/peers/postfix.py [--server pipit|postfix]
Result:  `ok`/`FAIL` lines and the closing line; exit status 0 or 1.

Cases: without TLS, opportunistic TLS, mandatory TLS; 1 and 50 recipients; 8-bit body; UTF-8 addresses; 10 MB; an unknown
recipient, which Postfix must bounce to its sender with our status; our server down while Postfix holds mail, and up again.
For each: exactly one copy a recipient, the same octets behind trace fields.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.outcome import Outcome, Scratch
from rig.postfix_instance import Postfix
from rig.servers import add_option, server
from rig.wire import letter, trouble_with

ANN = "ann@home.test"
CROWD = [f"crowd{n:02d}@home.test" for n in range(50)]
TEN_MEGABYTES = 10 * 1024 * 1024
ZOE = "zoë@home.test"


class Deliveries:
    """Sends through Postfix and looks for the result in the server under test."""

    def __init__(self, outcome, sender, under_test):
        self.outcome, self.sender, self.under_test, self.serial = outcome, sender, under_test, 0

    def ident(self):
        self.serial += 1
        return f"peer{self.serial:04d}"

    def case(self, what, recipients=(ANN,), size=4096, eight_bit=False, options="", from_="carol@peer.test", patience=60):
        """One message to `recipients`; checks that each has it once, unchanged."""
        ident = self.ident()
        message = letter(ident, size, eight_bit)
        self.sender.inject(message, from_, recipients, options)
        if not self.outcome.check(f"{what}: leaves the queue of Postfix", self.sender.wait_until_empty(patience), self.trouble(ident)):
            return
        self.arrived(what, ident, message, recipients)

    def trouble(self, ident):
        return "" if not self.sender.queued() else str([to.get("delay_reason") for one in self.sender.queued() for to in one["recipients"]])[:300]

    def arrived(self, what, ident, message, recipients):
        wrong, copies = [], 0
        for recipient in recipients:
            rows = [row for row in self.under_test.messages(recipient) if ident in row["message_id"]]
            copies += len(rows)
            if len(rows) != 1:
                wrong.append(f"{recipient} has {len(rows)} copies")
        first = [raw for raw in self.under_test.bodies(recipients[0]) if b"X-Ledger: " + ident.encode() in raw]
        wrong += [trouble for trouble in (trouble_with(raw, message) for raw in first) if trouble]
        if not first:
            wrong.append("no body")
        self.outcome.check(f"{what}: arrives once, unchanged ({len(recipients)} recipients, {len(message)} octets)", not wrong, "; ".join(wrong[:3]))

    def last_tls(self, ident):
        """What Postfix wrote about the TLS of its last delivery."""
        lines = [line for line in self.sender.log_text().splitlines() if "TLS connection established" in line]
        return lines[-1].split("established")[1].strip() if lines else ""


def tls_levels(deliveries, outcome, sender):
    for level, expects_tls in (("none", False), ("may", True), ("encrypt", True)):
        sender.configure(smtp_tls_security_level=level)
        before = sender.log_text().count("TLS connection established to")
        deliveries.case(f"TLS {level}")
        deliveries.case(f"TLS {level}, 50 recipients", CROWD)
        after = sender.log_text().count("TLS connection established to")
        outcome.check(f"TLS {level}: {'TLS' if expects_tls else 'plain text'} was used", (after > before) == expects_tls, deliveries.last_tls("") if expects_tls else "")
    deliveries.case("TLS encrypt, 10 MB", size=TEN_MEGABYTES, patience=120)
    sender.configure(smtp_tls_security_level="may")


def unknown_user(outcome, sender, under_test):
    sender.inject(letter("nobody-there", 2000), "carol@peer.test", ["nobody.here@home.test"])
    bounced, end = [], time.monotonic() + 30
    while not bounced and time.monotonic() < end:
        time.sleep(0.2)
        bounced = [raw for raw in sender.bodies() if b"nobody.here@home.test" in raw and b"Undelivered" in raw]
    outcome.check("unknown recipient: Postfix bounces to the sender", len(bounced) == 1, f"{len(bounced)} bounces")
    status = [line for line in sender.log_text().splitlines() if "nobody.here@home.test" in line and "status=bounced" in line]
    outcome.check("unknown recipient: refused with 550 5.1.1", any("dsn=5.1.1" in line and "said: 550 5.1.1" in line for line in status), status[-1:])


def held_mail(deliveries, outcome, sender, under_test):
    """The server is down while mail waits, then up; then it is killed while a delivery runs."""
    under_test.stop()
    idents = [deliveries.ident() for _ in range(5)]
    for ident in idents:
        sender.inject(letter(ident, 8000), "carol@peer.test", [ANN])
    time.sleep(1.5)
    outcome.check("server down: Postfix holds the mail", len(sender.queued()) == 5, f"{len(sender.queued())} held")
    under_test.start()
    outcome.check("server up again: the queue empties", sender.wait_until_empty(60, flush=True), deliveries.trouble(""))
    for ident in idents:
        deliveries.arrived("held mail", ident, letter(ident, 8000), [ANN])
    idents = [deliveries.ident() for _ in range(10)]
    for ident in idents:
        sender.inject(letter(ident, 300_000), "carol@peer.test", [ANN])
    under_test.kill9()
    under_test.start()
    outcome.check("server killed during deliveries: the queue empties", sender.wait_until_empty(60, flush=True), deliveries.trouble(""))
    counts = [len([row for row in under_test.messages() if ident in row["message_id"]]) for ident in idents]
    # A reply lost with the connection makes the sender repeat (RFC 5321 4.5.4.1): two are its right, none is our fault.
    outcome.check("server killed during deliveries: nothing is lost", min(counts) >= 1, counts)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_option(options)
    chosen = options.parse_args()
    with Outcome("peers/postfix") as outcome, Scratch("peers") as base, server(chosen.server, base) as under_test:
        under_test.start()
        users = under_test.add_users([*CROWD, ZOE])
        with Postfix(os.path.join(base, "sender"), relay=f"[127.0.0.1]:{under_test.port}") as sender:
            sender.start()
            deliveries = Deliveries(outcome, sender, under_test)
            tls_levels(deliveries, outcome, sender)
            deliveries.case("8-bit body", eight_bit=True, options=" BODY=8BITMIME")
            deliveries.case("UTF-8 sender", eight_bit=True, options=" BODY=8BITMIME SMTPUTF8", from_="jörg@peer.test")
            if ZOE in users:
                deliveries.case("UTF-8 recipient", [ZOE], eight_bit=True, options=" BODY=8BITMIME SMTPUTF8")
            else:
                outcome.check("an account with a UTF-8 name can be made", False, "user add refused it")
            deliveries.case("null sender", from_="")
            deliveries.case("10 MB in plain text", size=TEN_MEGABYTES, patience=120)
            deliveries.case("an empty body", size=10)
            unknown_user(outcome, sender, under_test)
            held_mail(deliveries, outcome, sender, under_test)
            sender.stop()
        outcome.ends_clean(under_test)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
