#!/usr/bin/env python3
"""limits: floods, unfair and hostile sessions and a full disk, with a memory ceiling.

Purpose: R6, R7, R8, R13, R15 and the rules of message intake, over real sockets.
Usage:   tests/limits.py [PART…]     parts: flood fairness memory hostile smuggling relay disk (default: all)
Result:  `ok`/`FAIL` lines with the peak of resident memory of every attack, the closing line; exit status 0 or 1.

All attacks go to one server, whose resident memory may never pass 64 MB and must be at most 16 MB when it is idle again;
at the end the store holds exactly what was acknowledged. Every loop is bounded in count and time; only loopback is used.
`limits/` holds what attacks stand on (house), and the parts fairness and memory.
"""

import argparse
import contextlib
import os
import random
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from limits.fairness import fairness
from limits.house import ANN, CAROL, HEAD, NET, House, in_data, in_namespace, in_threads
from limits.memory import memory
from rig.outcome import Outcome, Scratch
from rig.pipit import Pipit
from rig.wire import Client, careless_tls, letter, stuffed


def flood(outcome, base):
    """R13."""
    if not in_namespace(outcome, "flood"):
        return
    with Pipit(os.path.join(base, "flood"), host=f"{NET}.1") as server:
        os.makedirs(server.base)
        server.start()
        house = House(outcome, server)
        one_address(outcome, house)
        reconnecting(outcome, house)
        all_slots(outcome, house)
        time.sleep(1)
        house.served("after all floods", source=f"{NET}.250")
        server.stop()
        wrong = server.complaints()
        outcome.check("store check is clean", not wrong, wrong)


def connect(house, last, patience=10):
    """A connection from 192.0.2.LAST."""
    return Client(house.server.port, house.server.host, f"{NET}.{last}", patience)


def one_address(outcome, house):
    with house.attack("220 connections from one address"):
        held = [connect(house, 10) for _ in range(220)]
        greetings = [client.reply() for client in held]
        taken = [greeting for greeting in greetings if greeting.code == 220]
        refused = [greeting.text for greeting in greetings if greeting.code != 220]
        outcome.check("30 at once from one address", len(taken) == 30, f"{len(taken)} greeted")
        outcome.check("the others are greeted with 421 4.7.0", refused and all(text.startswith("421 4.7.0") for text in refused), refused[:1])
        house.served("one address floods", source=f"{NET}.11")
        for client in held:
            client.close()


def reconnecting(outcome, house):
    with house.attack("reconnecting without pause for 3 s"):
        end, greeted, turned_away = time.monotonic() + 3, 0, 0
        while time.monotonic() < end and greeted + turned_away < 20_000:
            with connect(house, 20) as client:
                code = client.reply().code
            greeted, turned_away = greeted + (code == 220), turned_away + (code == 421)
        # a burst of 120, and 200 a minute make 10 in 3 s
        outcome.check("120 at once, then 200 a minute", 115 <= greeted <= 140 and turned_away > 0, f"{greeted} greeted, {turned_away} turned away")
        house.served("reconnecting", source=f"{NET}.21")


def all_slots(outcome, house):
    with house.attack("260 connections from 13 addresses"):
        held = [connect(house, 30 + n % 13) for n in range(260)]
        codes = [client.reply().code for client in held]
        outcome.check("all but the last quarter of 200 slots are taken", 150 <= codes.count(220) <= 163, f"{codes.count(220)} greeted")
        house.served("13 addresses hold the slots", source=f"{NET}.60")
        more = [connect(house, 100 + n) for n in range(100)]
        codes += [client.reply().code for client in more]
        outcome.check("never more than 200 in all", 190 <= codes.count(220) <= 200, f"{codes.count(220)} greeted")
        for client in held + more:
            client.close()


def slow_writers(house):
    with house.attack("100 writers of one octet a second"):
        clients = [client for client in in_threads(100, lambda n: in_data(house.server.port)) if client]
        for octet in HEAD[:6]:
            for client in clients:
                client.send(bytes([octet]))
            time.sleep(1)
        house.served("slow writers")
        for client in clients:
            client.close()


def long_lines(house):
    with house.attack("a command line of 20 MB"), Client(house.server.port) as client:
        client.greet()
        client.send(b"MAIL FROM:<" + b"a" * 20_000_000 + b"@peer.test>\r\n")
        answer = client.reply()
        house.outcome.check("a huge line is refused", answer.code in (500, 421, 0), answer.text[:80])
    with house.attack("a header line of 20 MB"):
        client = in_data(house.server.port)
        client.send(HEAD % b"x" + b"X-Long: " + b"a" * 20_000_000 + b"\r\n\r\nbody\r\n.\r\n")
        answer = client.reply()
        house.outcome.check("a huge header line is refused", answer.code in (550, 552, 554, 0), answer.text[:80])
    with house.attack("a header without end, 40 MB"):
        client = in_data(house.server.port)
        client.send(HEAD % b"x" + b"X-Field: value value value value\r\n" * 1_200_000 + b"\r\nbody\r\n.\r\n")
        answer = client.reply()
        house.outcome.check("an endless header is refused", answer.code in (550, 552, 554, 0), answer.text[:80])
    with house.attack("a body of one line of 20 MB"):
        name = house.name()
        client = in_data(house.server.port)
        client.send(HEAD % name.encode() + b"\r\n" + b"a" * 20_000_000 + b"\r\n.\r\n")
        house.note(name, client.reply())


def too_big(house):
    with house.attack("a message of 36 MB"):
        with Client(house.server.port) as client:
            client.greet()
            answer = client.command(f"MAIL FROM:<{CAROL}> SIZE={37_000_000}")
            house.outcome.check("declared 37 MB are refused at MAIL", answer.code == 552, answer.text)
        client = in_data(house.server.port)
        client.send(HEAD % b"too-big" + b"\r\n" + (b"x" * 70 + b"\r\n") * (38_000_000 // 72) + b".\r\n")
        answer = client.reply()
        house.outcome.check("undeclared 38 MB are refused", answer.code == 552, answer.text[:80])
    with house.attack("20 messages of 20 MB at once"):
        names = [house.name() for _ in range(20)]

        def one(n):
            client = in_data(house.server.port)
            client.send(HEAD % names[n].encode() + b"\r\n" + (b"x" * 70 + b"\r\n") * (20_000_000 // 72) + b".\r\n")
            return house.note(names[n], client.reply()).code

        codes = in_threads(20, one)
        house.outcome.check("each gets 250 or a temporary refusal", all(code in (250, 452, 421, 0) for code in codes), codes)


def thrown_away(house):
    """Spooled megabytes that come to nothing: collecting them must not pull them through resident memory."""
    body = HEAD % b"thrown-away" + b"\r\n" + (b"x" * 70 + b"\r\n") * (38_000_000 // 72)
    with house.attack("10 messages of 38 MB refused at once"):
        def refused(n):
            with in_data(house.server.port) as client:
                client.send(body + b".\r\n")
                return client.reply().code

        codes = in_threads(10, refused)
        house.outcome.check("each is refused", set(codes) <= {552, 452, 421, 0}, codes)
        time.sleep(8)  # collecting goes on behind the replies
    with house.attack("10 messages broken off after 30 MB"):
        def broken_off(n):
            with in_data(house.server.port) as client:
                client.send(body[:30_000_000])

        in_threads(10, broken_off)
        time.sleep(8)


def many_recipients(house):
    with house.attack("100,000 recipients"):
        client = Client(house.server.port, patience=60)
        client.greet()
        client.command(f"MAIL FROM:<{CAROL}>")
        sender = threading.Thread(target=lambda: client.send(b"".join(b"RCPT TO:<ann+%d@home.test>\r\n" % n for n in range(100_000))), daemon=True)
        sender.start()
        codes = []
        while len(codes) < 100_000:
            answer = client.reply()
            if answer.code == 0:
                break
            codes.append(answer.code)
        client.close()
        sender.join(20)
        house.outcome.check("500 recipients are taken, then 452", codes.count(250) == 500 and 452 in codes, f"{codes.count(250)} taken, {len(codes)} answered, last {codes[-1]}")


def half_sent(house):
    with house.attack("500 connections with 100 KB half-sent each"):
        clients = [client for client in in_threads(500, lambda n: in_data(house.server.port, f"127.2.{n // 250}.{1 + n % 250}")) if client]
        for client in clients:
            client.socket.settimeout(0.2)
        part = HEAD % b"half" + b"\r\n" + (b"h" * 70 + b"\r\n") * (100_000 // 72)
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(part)
        house.outcome.note(f"{len(clients)} sessions hold half a message")
        time.sleep(3)
        for client in clients[: len(clients) // 2]:
            client.close()
        house.served("half-sent messages", 30)
        for client in clients:
            client.close()


def tls_attacks(house):
    def starting(n):
        client = Client(house.server.port, source=f"127.3.0.{1 + n % 50}")
        client.greet()
        client.command("STARTTLS")
        return client

    with house.attack("50 TLS handshakes broken off"):
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for n in range(50):
            client = starting(0)
            client.send(hello if n % 2 else b"")
            client.close()
        house.served("broken handshakes are not abuse", source="127.3.0.1")
    with house.attack("50 TLS handshakes of garbage"):
        for n in range(50):
            with starting(n) as client:
                client.send(random.Random(n).randbytes(2000))
                with contextlib.suppress(OSError):
                    client.socket.recv(100)
    with house.attack("100 sessions that never finish their handshake"):
        clients = [client for client in in_threads(100, starting) if client]
        house.served("unfinished handshakes")
        for client in clients:
            client.close()
    with house.attack("300 TLS handshakes"):
        def whole(n):
            with starting(n) as client:
                client.socket = careless_tls().wrap_socket(client.socket)
                return client.command("NOOP").code
        codes = in_threads(100, whole) + in_threads(100, whole) + in_threads(100, whole)
        house.outcome.check("all handshakes succeed", codes.count(250) + codes.count(503) >= 290, f"{len(codes) - codes.count(None)} answered")
    with house.attack("STARTTLS with commands behind it in one packet"):
        with Client(house.server.port, patience=10) as client:
            client.greet()
            client.send(f"STARTTLS\r\nMAIL FROM:<{CAROL}>\r\nRCPT TO:<{ANN}>\r\n".encode())
            answer = client.reply()
            injected = True
            if answer.code == 220:
                try:
                    client.socket = careless_tls().wrap_socket(client.socket)
                    injected = client.command("RCPT TO:<ann@home.test>").code == 250
                except (OSError, ssl.SSLError):
                    injected = False
            else:
                injected = client.reply().code == 250
            house.outcome.check("nothing injected survives STARTTLS", not injected, answer.text)


def garbage(house):
    with house.attack("garbage"):
        def one(n):
            with Client(house.server.port, patience=10) as client:
                client.reply()
                client.send(random.Random(n).randbytes(1_000_000))
                while client.reply().code:
                    pass
        in_threads(20, one)
        codes = []
        for n in range(40):
            client = in_data(house.server.port)
            client.send(random.Random(n).randbytes(20_000) + b"\r\n.\r\n")
            codes.append(client.reply().code)
            client.close()
        house.outcome.check("garbage as a message is refused", set(codes) <= {550, 554}, sorted(set(codes)))
        house.served("garbage")


def hostile(outcome, base):
    with Pipit(os.path.join(base, "hostile"), {"connections": 700, "connections-per-address": 700}) as server:
        os.makedirs(server.base)
        server.start()
        house = House(outcome, server)
        for attack in (slow_writers, long_lines, too_big, thrown_away, many_recipients, half_sent, tls_attacks, garbage):
            attack(house)
            house.served(attack.__name__, 10)
        house.settle()
        server.stop()
        wrong = server.complaints()
        outcome.check("store check is clean", not wrong, wrong)


def smuggling(outcome, base):
    """No end of data but CRLF.CRLF, however the packets are cut; a message with anything else is refused whole."""
    forms = {"LF . LF": b"\n.\n", "LF . CRLF": b"\n.\r\n", "CRLF . LF": b"\r\n.\n", "CR . CR": b"\r.\r", "CR . CRLF": b"\r.\r\n", "CRLF . CR": b"\r\n.\r",
             "CRLF NUL . CRLF": b"\r\n\0.\r\n", "CRLF . NUL CRLF": b"\r\n.\0\r\n", "LF . CR": b"\n.\r", "CR CRLF . CRLF": b"\r\r\n.\r\n", "CRLF . CR CRLF": b"\r\n.\r\r\n"}
    inner = f"MAIL FROM:<{CAROL}>\r\nRCPT TO:<{ANN}>\r\nDATA\r\n".encode()
    with Pipit(os.path.join(base, "smuggling")) as server:
        os.makedirs(server.base)
        server.start()
        house = House(outcome, server)
        for what, form in forms.items():
            answers = []
            for cut in range(len(form) + 1):
                with contextlib.suppress(OSError), in_data(server.port, patience=10) as client:
                    client.send(HEAD % b"outer" + b"\r\nouter" + form[:cut])
                    time.sleep(0.003)
                    client.send(form[cut:] + inner + HEAD % b"smuggled" + b"\r\nsmuggled\r\n.\r\n")
                    codes = [client.reply().code]
                    client.send(b"NOOP\r\n")
                    answers.append(codes + [client.reply().code for _ in range(2)])
            refused = [codes for codes in answers if codes[0] != 550 or codes[1] not in (0, 421) or codes[2]]
            outcome.check(f"{what}: refused in every cut, and the next command ends the session", len(answers) == len(form) + 1 and not refused,
                          refused[:2] or f"{len(answers)} cuts")
        name = house.name()
        message = stuffed(letter(name, 300)) + b".\r\n"
        for cut in range(len(message) - 8, len(message)):
            with in_data(server.port) as client:
                client.send(message[:cut])
                time.sleep(0.003)
                client.send(message[cut:])
                answer = client.reply()
                outcome.check(f"an honest end in two packets ({len(message) - cut} octets in the second)", answer.code == 250, answer.text)
        listed = [row["message_id"] for row in server.messages(ANN)]
        outcome.check("nothing smuggled is stored", len(listed) == 8 and all(name in one for one in listed), listed[:3])


FOREIGN = (
    "user@elsewhere.test", '"user@elsewhere.test"', "user%elsewhere.test", "user%elsewhere.test@home.test", "user%elsewhere.test@mx.home.test",
    '"user%elsewhere.test"@home.test', '"user@elsewhere.test"@home.test', "user@elsewhere.test@home.test", "@home.test:user@elsewhere.test",
    "@home.test,@mx.home.test:user@elsewhere.test", "elsewhere.test!user", "elsewhere.test!user@home.test", "home.test!elsewhere.test!user",
    "user@[127.0.0.1]", '"user@elsewhere.test"@[127.0.0.1]', "user@[192.0.2.1]", "user@[IPv6:::1]", "user@localhost", "user@127.0.0.1", "user@elsewhere.test.",
    "user@sub.home.test", "user@xn--home.test", "user@HOME.TEST.elsewhere.test", "user",
)


def relay(outcome, base):
    """R15: never an open relay."""
    with Pipit(os.path.join(base, "relay")) as server:
        os.makedirs(server.base)
        server.start()
        taken = []
        for sender in ("", ANN, CAROL):
            for form in FOREIGN:
                with Client(server.port) as client:
                    client.greet()
                    client.command(f"MAIL FROM:<{sender}>")
                    answer = client.command(f"RCPT TO:<{form}>")
                    if not 500 <= answer.code <= 599:
                        taken.append(f"<{sender}> to <{form}>: {answer.text}")
        outcome.check(f"no relay: {len(FOREIGN)} address forms × 3 senders are refused", not taken, "; ".join(taken[:4]))


@contextlib.contextmanager
def small_disk(where, size):
    os.makedirs(where)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=False)


def leave(where, octets):
    """Fill the disk but for `octets`; the filler's path."""
    path = os.path.join(where, "filler")
    free = os.statvfs(where)
    with open(path, "wb") as file:
        left = max(0, free.f_bavail * free.f_frsize - octets)
        while left > 0:
            left -= file.write(bytes(min(left, 1 << 20)))
    return path


def disk(outcome, base):
    """R7: a full disk."""
    if os.geteuid() != 0:
        return outcome.skip("disk full", "needs root to mount a small tmpfs")
    # 16 MB must stay free: with 8 MB left MAIL is refused, with 22 MB left it is taken, and 34 undeclared MB do not fit.
    for what, room, size in (("low disk", 8 << 20, 2_000_000), ("full in the middle of a message", 22 << 20, 34_000_000)):
        where = os.path.join(base, "small-" + what.split()[0])
        with small_disk(where, "96m"), Pipit(os.path.join(base, "disk-" + what.split()[0]), None, os.path.join(where, "dir")) as server:
            os.makedirs(server.base)
            server.start()
            house = House(outcome, server)
            house.served(f"{what}: before")
            filler = leave(where, room)
            answers = []
            for _ in range(3):
                with Client(server.port) as client:
                    client.greet()
                    name = house.name()
                    answers.append(house.note(name, client.deliver(CAROL, [ANN], letter(name, size))))
            outcome.check(f"{what}: 452 4.3.1", all(answer.text.startswith("452 4.3.1") for answer in answers), {answer.text for answer in answers})
            listed = len(server.messages(ANN))
            outcome.check(f"{what}: nothing is stored", listed == len(house.acknowledged), f"{listed} stored, {len(house.acknowledged)} acknowledged")
            os.unlink(filler)
            house.served(f"{what}: after space was freed", 10)
            server.stop()
            wrong = server.complaints()
            outcome.check(f"{what}: store check is clean", not wrong, wrong)
            server.start()
            listed = len(server.messages(ANN))
            outcome.check(f"{what}: all is there after a restart", listed == len(house.acknowledged), f"{listed} of {len(house.acknowledged)}")


PARTS = {"flood": flood, "fairness": fairness, "memory": memory, "hostile": hostile, "smuggling": smuggling, "relay": relay, "disk": disk}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("part", nargs="*", choices=[[], *PARTS], default=[])
    chosen = options.parse_args().part or list(PARTS)
    status = 0
    with Scratch("limits") as base:
        for part in chosen:
            with Outcome(f"limits/{part}") as outcome:
                PARTS[part](outcome, base)
            status |= outcome.finish()
    return status


if __name__ == "__main__":
    sys.exit(main())
