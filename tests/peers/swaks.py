#!/usr/bin/env python3
"""swaks: Debian's swaks, Python's smtplib and a bare socket talk to the server under test.

Purpose: what a session looks like from outside: greeting, EHLO list, STARTTLS, pipelining, wrong commands, wrong mail.
Usage:   tests/peers/swaks.py [--server pipit|postfix]      (against Postfix some of our own rules are skipped)
Result:  `ok`/`FAIL` lines and the closing line; exit status 0 or 1.
"""

import argparse
import os
import smtplib
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.outcome import Outcome, Scratch
from rig.servers import add_option, server
from rig.wire import Client, careless_tls, letter, stuffed, trouble_with

ANN = "ann@home.test"
PLAIN_EHLO = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "STARTTLS"}
NEVER = {"AUTH", "CHUNKING", "BINARYMIME", "VRFY", "ETRN", "XCLIENT", "XFORWARD", "DSN"}


def swaks(port, *options):
    return subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(port), "--from", "carol@peer.test", "--helo", "client.peer.test",
                           "--suppress-data", *options], capture_output=True, text=True, timeout=60)


def swaks_cases(outcome, port, ours):
    for what, options, wanted in (
        ("plain", ["--to", ANN], "250 2"),
        ("--tls", ["--to", ANN, "--tls"], "=== TLS started with cipher"),
        ("--tls with an attachment", ["--to", ANN, "--tls", "--attach", "@" + os.path.abspath(__file__)], "=== TLS started"),
        ("--pipeline", ["--to", ANN, "--pipeline"], "250 2"),
        ("--tls-optional", ["--to", ANN, "--tls-optional"], "=== TLS started"),
        ("null sender", ["--to", ANN, "--from", "<>"], "250 2"),
    ):
        done = swaks(port, *options)
        outcome.check(f"swaks {what}", done.returncode == 0 and wanted in done.stdout, "" if done.returncode == 0 else done.stdout[-300:])
    done = swaks(port, "--to", "nobody.here@home.test")
    outcome.check("swaks to an unknown user is refused", done.returncode == 24 and "550" in done.stdout, f"exit {done.returncode}")
    done = swaks(port, "--to", "someone@elsewhere.test")
    if ours:
        outcome.check("swaks to a foreign domain is refused", done.returncode == 24, f"exit {done.returncode}")
    done = swaks(port, "--to", ANN, "--quit-after", "EHLO", "--tls")
    outcome.check("swaks quits politely after EHLO under TLS", done.returncode == 0, done.stdout[-200:] if done.returncode else "")


def ehlo_cases(outcome, port, ours):
    with Client(port) as client:
        greeting = client.reply()
        outcome.check("the greeting names the host", greeting.code == 220 and greeting.text.split()[1].count(".") >= 1, greeting.text)
        words = {line[4:].split()[0].upper() for line in client.command("EHLO client.peer.test").text.splitlines()[1:]}
        outcome.check("EHLO offers what it should", PLAIN_EHLO <= words, " ".join(sorted(words)))
        if ours:
            outcome.check("EHLO does not offer what we do not do", not words & NEVER and "REQUIRETLS" not in words, " ".join(words & NEVER))
        client.start_tls()
        words = {line[4:].split()[0].upper() for line in client.command("EHLO client.peer.test").text.splitlines()[1:]}
        outcome.check("under TLS: no STARTTLS" + (", but REQUIRETLS" if ours else ""), "STARTTLS" not in words and (not ours or "REQUIRETLS" in words),
                      " ".join(sorted(words)))
        outcome.check("under TLS: a message", client.deliver("carol@peer.test", [ANN], letter("under-tls", 3000)).code == 250)
    with Client(port) as client:
        client.reply()
        answer = client.command("HELO client.peer.test")
        outcome.check("HELO has one line", answer.code == 250 and "\n" not in answer.text, answer.text)


def pipelining(outcome, port, under_test):
    first, second = letter("pipelined-1", 5000), letter("pipelined-2", 5000)
    with Client(port) as client:
        client.greet()
        envelope = f"MAIL FROM:<carol@peer.test>\r\nRCPT TO:<{ANN}>\r\nRCPT TO:<nobody.here@home.test>\r\nDATA\r\n".encode()
        client.send(envelope)
        codes = [client.reply().code for _ in range(4)]
        outcome.check("pipelined envelope: each command answered in order", codes == [250, 250, 550, 354], codes)
        client.send(stuffed(first) + b".\r\n" + envelope.replace(b"RCPT TO:<nobody.here@home.test>\r\n", b""))
        codes = [client.reply().code for _ in range(4)]
        outcome.check("commands behind the final dot in one packet", codes == [250, 250, 250, 354], codes)
        client.send(stuffed(second) + b".\r\nQUIT\r\n")
        outcome.check("QUIT behind the final dot", [client.reply().code for _ in range(2)] == [250, 221])
    stored = list(under_test.bodies())
    for message in (first, second):
        copies = [raw for raw in stored if raw.endswith(message)]
        outcome.check("a pipelined message is there once, unchanged", len(copies) == 1 and not trouble_with(copies[0], message), len(copies))
    with Client(port) as client:
        client.greet()
        client.send(b"RSET\r\n" * 50 + b"NOOP\r\n")
        outcome.check("51 commands in one packet", [client.reply().code for _ in range(51)] == [250] * 51)


def bad_commands(outcome, port, ours):
    table = (
        ("nonsense", ["FROBNICATE now"], {500, 502}),
        ("an empty line", [""], {500}),
        ("RCPT before MAIL", ["RCPT TO:<ann@home.test>"], {503}),
        ("DATA before RCPT", ["MAIL FROM:<carol@peer.test>", "DATA"], {503, 554}),
        ("MAIL twice", ["MAIL FROM:<carol@peer.test>", "MAIL FROM:<carol@peer.test>"], {503}),
        ("MAIL without brackets or colon", ["MAIL FROM carol@peer.test"], {501}),
        ("an address without domain's end", ["MAIL FROM:<carol@peer.test"], {501, 250} if not ours else {501}),
        ("an unknown parameter", ["MAIL FROM:<carol@peer.test> FROB=1"], {555}),
        ("SIZE too big", ["MAIL FROM:<carol@peer.test> SIZE=99999999999"], {552}),
        ("SIZE that is no number", ["MAIL FROM:<carol@peer.test> SIZE=x"], {501}),
        ("BDAT", ["MAIL FROM:<carol@peer.test>", "BDAT 10 LAST"], {500, 502, 503, 554}),
        ("AUTH on port 25", ["AUTH PLAIN AGEAYgBj"], {500, 502, 503, 504, 530, 538}),
        ("VRFY tells nothing", ["VRFY ann"], {252, 502, 500, 550}),
        ("REQUIRETLS without TLS", ["MAIL FROM:<carol@peer.test> REQUIRETLS"], {523, 530, 555, 550}),
        ("STARTTLS with a parameter", ["STARTTLS now"], {501}),
    )
    for what, lines, wanted in table:
        if what == "BDAT" and not ours:
            continue
        with Client(port) as client:
            client.greet()
            for line in lines:
                answer = client.command(line)
            outcome.check(f"{what}: {answer.code}", answer.code in wanted, answer.text if answer.code not in wanted else "")
            outcome.check(f"{what}: the session goes on", client.command("NOOP").code == 250)
    if not ours:
        return
    for verb in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"CONNECT x:1 HTTP/1.1\r\n"):
        with Client(port) as client:
            client.reply()
            client.send(verb)
            last = client.reply()
            outcome.check(f"{verb.split()[0].decode()} closes the connection", last.code in (0, 421, 500, 554) and client.reply().code == 0, last.text)
    with Client(port) as client:
        client.greet()
        codes = [client.command("FROB").code for _ in range(25)]
        outcome.check("10 errors end the session with 421", 421 in codes and codes.index(421) <= 11, codes.index(421) if 421 in codes else codes)
    with Client(port) as client:
        client.greet()
        client.command("MAIL FROM:<carol@peer.test>")
        codes = [client.command(f"RCPT TO:<guess{n}@home.test>").code for n in range(30)]
        outcome.check("20 unknown recipients end the session with 421", 421 in codes and 9 <= codes.index(421) <= 21, codes.index(421) if 421 in codes else codes)


def smtplib_cases(outcome, port, under_test):
    message = letter("smtplib", 20_000, eight_bit=True)
    with smtplib.SMTP("127.0.0.1", port, "client.peer.test", timeout=30) as session:
        session.ehlo()
        session.starttls(context=careless_tls())
        session.ehlo()
        refused = session.sendmail("carol@peer.test", [ANN], message, ["BODY=8BITMIME"])
        outcome.check("smtplib with STARTTLS and 8-bit body", refused == {})
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as session:
        try:
            refused = session.sendmail("carol@peer.test", [ANN, "nobody.here@home.test"], letter("smtplib-2", 900))
        except smtplib.SMTPException as error:
            refused = {"": (0, str(error))}
        outcome.check("smtplib: one of two recipients refused", list(refused) == ["nobody.here@home.test"] and refused["nobody.here@home.test"][0] == 550, refused)
    found = [raw for raw in under_test.bodies() if b"X-Ledger: smtplib\r" in raw]
    outcome.check("smtplib's message is unchanged", len(found) == 1 and not trouble_with(found[0], message), len(found))


def refused_mail(outcome, port):
    """Messages that are refused after their true end, with nothing stored."""
    head = b"From: <carol@peer.test>\r\nSubject: bad\r\n"
    for what, octets in (
        ("no From", b"Subject: x\r\n\r\nbody\r\n"), ("two From fields", b"From: <a@x.test>\r\n" + head + b"\r\nbody\r\n"),
        ("NUL in the body", head + b"\r\na\0b\r\n"), ("bare LF", head + b"\r\na\nb\r\n"), ("bare CR", head + b"\r\na\rb\r\n"),
        ("over 100 Received fields", b"Received: x\r\n" * 101 + head + b"\r\nbody\r\n"),
        ("over 1,000 fields", b"X: y\r\n" * 1001 + head + b"\r\nbody\r\n"),
    ):
        with Client(port) as client:
            client.greet()
            answer = client.deliver("carol@peer.test", [ANN], octets)
            outcome.check(f"{what} is refused", answer.code in (550, 554, 552), answer.text)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_option(options)
    chosen = options.parse_args()
    ours = chosen.server == "pipit"
    with Outcome("peers/swaks") as outcome, Scratch("swaks") as base, server(chosen.server, base) as under_test:
        under_test.start()
        swaks_cases(outcome, under_test.port, ours)
        ehlo_cases(outcome, under_test.port, ours)
        pipelining(outcome, under_test.port, under_test)
        bad_commands(outcome, under_test.port, ours)
        smtplib_cases(outcome, under_test.port, under_test)
        before = len(under_test.messages(ANN))
        if ours:
            refused_mail(outcome, under_test.port)
            outcome.check("of the refused nothing is stored", len(under_test.messages(ANN)) == before)
        outcome.ends_clean(under_test)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
