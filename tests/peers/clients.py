#!/usr/bin/env python3
"""clients: swaks, msmtp, GNU SASL and Python's smtplib hand in mail.

Purpose: people's programs can log in by every mechanism they know, and nobody else can, nor under another's name.
Usage:   tests/peers/clients.py
Result:  `ok`/`FAIL` lines and the closing line; exit status 0 or 1.

Each program: STARTTLS on the submission port and TLS from the first octet where it can, PLAIN, LOGIN, SCRAM-SHA-256 and with
channel binding, the account's password and an app password, a wrong password, a foreign sender. What is taken must come out at
a sink, byte for byte. A bare client looks at what the listeners offer before and after TLS.
"""

import argparse
import json
import os
import select
import smtplib
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.dns import Dns
from rig.outcome import Outcome, Scratch
from rig.pipit import PASSWORD, Pipit
from rig.sink import Sink
from rig.wire import Client, free_ports, letter, trouble_with

ANN, FAR = "ann@home.test", "carol@peer.test"
SINK = "127.0.1.1"
WRONG = "wrong horse 2 battery"


class Scene:
    def __init__(self, outcome, ours, sink):
        self.outcome, self.ours, self.sink, self.serial = outcome, ours, sink, 0

    def letter(self, sender=ANN):
        self.serial += 1
        ident = f"client{self.serial:03d}"
        return ident, letter(ident, 3000, eight_bit=False, to=FAR, sender=sender)

    def came_out(self, ident, patience=20):
        """The copies of a letter at the sink, or none when time is up."""
        end = time.monotonic() + patience
        while not (found := [one for one in self.sink.taken if one.ident == ident]) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def judge(self, what, worked, ident, message, detail=""):
        """A submission that must succeed: said so, and came out unchanged under our own name."""
        if not self.outcome.check(f"{what}: taken", worked, detail):
            return
        found = self.came_out(ident)
        wrong = [] if len(found) == 1 else [f"{len(found)} copies"]
        wrong += [trouble_with(one.octets, message) for one in found if trouble_with(one.octets, message)]
        wrong += [f"reverse-path {one.sender}" for one in found if one.sender != ANN]
        self.outcome.check(f"{what}: comes out unchanged", not wrong, "; ".join(wrong))

    def refused(self, what, held, ident, detail=""):
        """A submission that must fail: said so, and nothing comes out."""
        self.outcome.check(f"{what}: refused", held, detail)
        self.outcome.check(f"{what}: nothing comes out", not [one for one in self.sink.taken if one.ident == ident])


def run(words, message=b"", environment=None):
    return subprocess.run(words, input=message, capture_output=True, timeout=90, env={**os.environ, **(environment or {})})


def swaks_cases(scene, base):
    """swaks 20201014 knows PLAIN and LOGIN here."""
    ours, file = scene.ours, os.path.join(base, "swaks.eml")

    def swaks(port, message, *options):
        with open(file, "wb") as out:
            out.write(message.replace(b"\r\n", b"\n").removesuffix(b"\n"))  # swaks makes CRLF, stuffs dots, and ends the last line
        return run(["swaks", "--server", f"127.0.0.1:{port}", "--to", FAR, "--helo", "laptop.home.test", "--data", "@" + file, "--suppress-data", *options])

    for way, port, tls in (("STARTTLS", ours.submission_port, "-tls"), ("TLS first", ours.submissions_port, "-tlsc")):
        for mechanism in ("PLAIN", "LOGIN"):
            ident, message = scene.letter()
            done = swaks(port, message, tls, "--from", ANN, "--auth", mechanism, "--auth-user", ANN, "--auth-password", PASSWORD)
            scene.judge(f"swaks, {way}, {mechanism}", done.returncode == 0, ident, message, tail(done))
        ident, message = scene.letter()
        done = swaks(port, message, tls, "--from", ANN, "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", WRONG)
        scene.refused(f"swaks, {way}, wrong password", done.returncode == 28 and b"535 5.7.8" in done.stdout, ident, tail(done))
        ident, message = scene.letter("carol@peer.test")
        done = swaks(port, message, tls, "--from", "carol@peer.test", "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD)
        scene.refused(f"swaks, {way}, foreign reverse-path", done.returncode in (23, 24, 25, 26) and b"* 550 5.7.1" in done.stdout, ident, tail(done))
        ident, message = scene.letter("bob@home.test")
        done = swaks(port, message, tls, "--from", ANN, "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD)
        scene.refused(f"swaks, {way}, foreign From", done.returncode == 26 and b"* 550 5.7.1" in done.stdout, ident, tail(done))
        ident, message = scene.letter()
        done = swaks(port, message, tls, "--from", ANN)
        scene.refused(f"swaks, {way}, no login", done.returncode in (23, 24) and b"530 5.7.0" in done.stdout, ident, tail(done))
    ident, message = scene.letter()
    done = swaks(ours.submission_port, message, "--from", ANN, "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD)
    scene.refused("swaks without TLS", done.returncode == 28 and b"AUTH PLAIN" not in done.stdout, ident, tail(done))
    ident, message = scene.letter()
    done = swaks(ours.port, message, "-tls", "--from", ANN, "--auth", "PLAIN", "--auth-user", ANN, "--auth-password", PASSWORD)
    scene.refused("swaks on the port of servers", done.returncode == 28, ident, tail(done))


def msmtp_cases(scene, base, app_password):
    """msmtp takes its exit codes from sysexits.h; SCRAM needs a password that was made for it (an app password)."""
    def msmtp(message, port, starttls, mechanism, password, sender=ANN):
        file = os.path.join(base, "msmtprc")
        with open(file, "w") as out:
            out.write(f"account default\nhost 127.0.0.1\nport {port}\ndomain laptop.home.test\ntls on\ntls_starttls {'on' if starttls else 'off'}\ntls_certcheck off\n"
                      f"from {sender}\nauth {mechanism}\nuser {ANN}\npassword {password}\nlogfile -\n")
        os.chmod(file, 0o600)
        return run(["msmtp", "--file", file, "--", FAR], message.replace(b"\r\n", b"\n"))

    ours = scene.ours
    for way, port, starttls in (("STARTTLS", ours.submission_port, True), ("TLS first", ours.submissions_port, False)):
        for mechanism, password in (("plain", PASSWORD), ("login", PASSWORD), ("plain", app_password), ("scram-sha-256", app_password)):
            ident, message = scene.letter()
            done = msmtp(message, port, starttls, mechanism, password)
            scene.judge(f"msmtp, {way}, {mechanism}{', app password' if password == app_password else ''}", done.returncode == 0, ident, message, tail(done))
        for mechanism in ("plain", "scram-sha-256"):
            ident, message = scene.letter()
            done = msmtp(message, port, starttls, mechanism, WRONG)
            scene.refused(f"msmtp, {way}, {mechanism}, wrong password", done.returncode == 77, ident, tail(done))
        ident, message = scene.letter("carol@peer.test")
        done = msmtp(message, port, starttls, "plain", PASSWORD, sender="carol@peer.test")
        scene.refused(f"msmtp, {way}, foreign sender", done.returncode != 0 and b"55" in done.stdout + done.stderr, ident, tail(done))


def gsasl_cases(scene, app_password):
    """GNU SASL checks the server's proof too, and binds to the TLS channel when asked for PLUS.

    gsasl 2.2 says STARTTLS without EHLO, which we do not take: Polite stands between and says it. TLS goes through it untouched."""
    def gsasl(mechanism, password, *options):
        with Polite(scene.ours.submission_port) as between:
            return run(["gsasl", "--smtp", f"--connect=127.0.0.1:{between.port}", "--starttls", "--x509-ca-file=", f"--mechanism={mechanism}",
                        f"--authentication-id={ANN}", f"--password={password}", "--authorization-id=", "--verbose", *options])

    known = run(["gsasl", "--client-mechanisms"]).stdout.decode().split()
    for mechanism, options in (("SCRAM-SHA-256", ["--no-cb"]), ("SCRAM-SHA-256-PLUS", []), ("PLAIN", []), ("LOGIN", [])):
        if mechanism not in known:
            scene.outcome.skip(f"gsasl, {mechanism}", "this gsasl does not know it")
            continue
        done = gsasl(mechanism, app_password, *options)
        scene.outcome.check(f"gsasl, {mechanism}", done.returncode == 0 and b"235 2.7.0" in done.stdout + done.stderr, tail(done))
        done = gsasl(mechanism, WRONG, *options)
        scene.outcome.check(f"gsasl, {mechanism}, wrong password", b"535 5.7.8" in done.stdout + done.stderr, tail(done))


class Polite:
    """Takes one connection and passes it on, with an EHLO of its own behind the greeting."""

    def __init__(self, port):
        self.target, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        try:
            near, _ = self.listener.accept()
            with near, Client(self.target) as far:
                greeting = far.reply()
                far.command("EHLO laptop.home.test")
                near.sendall(greeting.text.encode() + b"\r\n")
                other = {near: far.socket, far.socket: near}
                while True:
                    for source in select.select(list(other), [], [], 60)[0]:
                        octets = source.recv(65536)
                        if not octets:
                            return
                        other[source].sendall(octets)
        except OSError:
            pass


def smtplib_cases(scene, app_password):
    ours = scene.ours
    for implicit in (False, True):
        way = "TLS first" if implicit else "STARTTLS"
        for mechanism, password in (("PLAIN", PASSWORD), ("LOGIN", PASSWORD), ("LOGIN", app_password)):
            ident, message = scene.letter()
            try:
                refused = ours.submit(message, [FAR], implicit=implicit, mechanism=mechanism, password=password)
            except smtplib.SMTPException as error:
                refused = str(error)
            scene.judge(f"smtplib, {way}, {mechanism}{', app password' if password == app_password else ''}", refused == {}, ident, message, refused)
        for what, facts, wanted in (("wrong password", {"password": WRONG}, 535), ("unknown user", {"user": "nobody.here@home.test"}, 535),
                                    ("foreign reverse-path", {"sender": FAR}, 550)):
            ident, message = scene.letter()
            try:
                ours.submit(message, [FAR], implicit=implicit, **facts)
                code = 250
            except smtplib.SMTPSenderRefused as error:
                code = error.smtp_code
            except smtplib.SMTPResponseException as error:
                code = error.smtp_code
            except smtplib.SMTPRecipientsRefused as error:
                code = list(error.recipients.values())[0][0]
            scene.refused(f"smtplib, {way}, {what}", code in (wanted, 553, 554) if wanted == 550 else code == wanted, ident, code)


def what_is_offered(scene):
    ours = scene.ours
    with Client(ours.submission_port) as client:
        words = offered(client.greet())
        scene.outcome.check("submission before TLS: STARTTLS and no AUTH", "STARTTLS" in words and "AUTH" not in words, " ".join(words))
        answer = client.command("AUTH PLAIN AGFubgBhbm4=")
        scene.outcome.check("AUTH before TLS is refused", answer.code in (530, 538, 503, 502, 500), answer.text)
        answer = client.command(f"MAIL FROM:<{ANN}>")
        scene.outcome.check("MAIL before a login is refused", answer.code == 530, answer.text)
        words = offered(client.start_tls())
        mechanisms = set(words.get("AUTH", "").upper().split())
        scene.outcome.check("under TLS: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS", {"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"} <= mechanisms, " ".join(mechanisms))
        scene.outcome.check("under TLS: DSN, SIZE, 8BITMIME, SMTPUTF8, no STARTTLS", {"DSN", "SIZE", "8BITMIME", "SMTPUTF8"} <= set(words) and "STARTTLS" not in words, " ".join(words))
    with ours.submitter(login=False) as client:
        words = offered(client.command("EHLO laptop.home.test"))
        scene.outcome.check("TLS first: AUTH at once, no STARTTLS", "AUTH" in words and "STARTTLS" not in words, " ".join(words))
        answer = client.command("RCPT TO:<carol@peer.test>")
        scene.outcome.check("no relay without a login", answer.code in (503, 530), answer.text)


def offered(answer):
    """EHLO words and their parameters."""
    return {line[4:].partition(" ")[0].upper(): line[4:].partition(" ")[2] for line in answer.text.splitlines()[1:]}


def tail(done):
    return f"exit {done.returncode}: {(done.stdout + done.stderr)[-300:].decode('utf-8', 'replace')}" if done.returncode else ""


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    (port,) = free_ports(1)
    zone = f"peer.test MX 10 mx.peer.test\nmx.peer.test A {SINK}"
    with Outcome("peers/clients") as outcome, Scratch("clients") as base, Dns(zone) as dns, Sink([SINK], port) as sink:
        settings = {"outbound": {"port": port, "private-addresses": True, "first-retry": "1s", "longest-retry": "2s"}, "dns": dns.settings}
        with Pipit(base, settings=settings) as ours:
            ours.start()
            ours.add_users(["bob@home.test"])
            scene = Scene(outcome, ours, sink)
            what_is_offered(scene)
            app_password = ours.app_password(ANN, "laptop")
            outcome.check("an app password can be made", bool(app_password))
            smtplib_cases(scene, app_password)
            swaks_cases(scene, base)
            msmtp_cases(scene, base, app_password)
            gsasl_cases(scene, app_password)
            outcome.check("in the end the queue is empty", ours.wait_until_empty(20), json.dumps(ours.queue())[:300])
            outcome.ends_clean(ours)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
