"""Memory that many sessions hold at once (R8): nobody waits for somebody who waits, and nobody holds it for ever.

Purpose: the shared budget of message octets under many honest, stalled and greedy sessions.
Usage:   tests/limits.py memory
Result:  checks that all is stored or honestly put off, that who stalls goes when memory is scarce, and the ceiling.
"""

import contextlib
import os
import select
import time

from limits.house import ANN, CAROL, HEAD, House, in_data, in_threads
from rig.pipit import Pipit
from rig.wire import Client, letter

# few and long, for there may be 1,000
FILLER = b"X-Filler: " + b"f" * 900 + b"\r\n"
LINE = b"b" * 70 + b"\r\n"
STALLED = 64


def header(name, octets):
    """A header without its empty line."""
    return HEAD % name.encode() + FILLER * (octets // len(FILLER))


@contextlib.contextmanager
def serving(outcome, base, limits=None):
    with Pipit(base, limits) as server:
        os.makedirs(server.base)
        server.start()
        house = House(outcome, server)
        yield house
        server.stop()
        wrong = server.complaints()
        outcome.check("store check is clean", not wrong, wrong)


def hundred_at_once(outcome, base):
    what = "100 sessions × 1 MB at once"
    with serving(outcome, base) as house:
        with house.attack(what):
            names = [house.name() for _ in range(100)]
            clients = in_threads(100, lambda n: in_data(house.server.port))
            body = LINE * (1_000_000 // len(LINE))

            def send(n):
                # all get so far before any ends: each holds what it can hold
                half = HEAD % names[n].encode() + b"\r\n" + body
                clients[n].send(half[:500_000])
                time.sleep(1)
                clients[n].send(half[500_000:] + b".\r\n")
                return house.note(names[n], clients[n].reply())

            answers = in_threads(100, send)
            others = [answer and answer.text for answer in answers if not answer or answer.code != 250]
            outcome.check(f"{what}: all are stored", not others, f"{len(others)} not: {others[:3]}" if others else "")
            close(clients)
        house.settle()


def stalled(outcome, base, what, budget, part):
    """Sessions that send `part(n)` and then nothing."""
    with serving(outcome, base, {"memory-budget": budget}) as house:
        with house.attack(what):
            clients = in_threads(STALLED, lambda n: in_data(house.server.port, f"127.4.0.{1 + n}"))
            began = time.monotonic()
            in_threads(STALLED, lambda n: clients[n].send(part(n)))
            house.served(f"{what}: first", 25)
            waits = time.monotonic() - began
            house.served(f"{what}: then", 25)
            time.sleep(max(0.0, began + 30 - time.monotonic()))
            gone = sum(is_gone(client) for client in clients)
            outcome.note(f"{what}: {gone} of {STALLED} stalled sessions were closed after 30 s; the first honest message took {waits:.1f} s")
            house.served(f"{what}: after 30 s", 2)
            close(clients)
        house.settle()
    return gone


def is_gone(client):
    """The server has closed, or says that it does."""
    while select.select([client.socket], [], [], 0)[0]:
        try:
            octets = client.socket.recv(4096)
        except OSError:
            return True
        if not octets:
            return True
    return False


def close(clients):
    for client in clients:
        if client:
            client.close()


def stalled_sessions(outcome, base):
    def in_header(n):
        return header(f"stalled-{n}", 60 * 1024)

    def in_body(n):
        return header(f"stalled-{n}", 250 * 1024) + b"\r\n" + LINE

    # 3.8 MB of headers in a budget of 4: scarce from the 48th on. Headers of 250 KiB find room in 16 MB because they go to the disk.
    gone = stalled(outcome, os.path.join(base, "stalled-header"), f"{STALLED} sessions stalled in a header of 60 KiB", "4M", in_header)
    outcome.check("those who stall while memory is scarce are closed within 30 s", gone >= STALLED // 4, f"{gone} of {STALLED}")
    stalled(outcome, os.path.join(base, "stalled-body"), f"{STALLED} sessions stalled behind a header of 250 KiB", "16M", in_body)
    # The same where it is really tight: one header is a quarter of the budget.
    stalled(outcome, os.path.join(base, "stalled-tight"), f"{STALLED} sessions stalled behind a header of 250 KiB, budget 1 MB", "1M", in_body)


def greedy_under_tls(outcome, base):
    """All slots, TLS, all recipients, the largest header, and a body."""
    # 500 ordinary recipients fit one message; of the longest 32 KiB do (RFC 5321 4.5.3.1.8 wants room for 100).
    attacks = (
        ("199 TLS sessions × 500 recipients", "ann+%d", range(501, 502)),
        ("199 TLS sessions × 500 recipients of 250 octets", "ann+%d" + "l" * 240, range(101, 140)),
    )
    for what, local, room in attacks:
        with serving(outcome, os.path.join(base, f"greedy-{len(local)}")) as house:
            recipients = b"".join(f"RCPT TO:<{local % n}@home.test>\r\n".encode() for n in range(500))
            names = [house.name() for _ in range(199)]

            def begin(n):
                client = Client(house.server.port, source=f"127.5.0.{1 + n}", patience=60)
                client.greet()
                client.start_tls()
                client.send(f"MAIL FROM:<{CAROL}>\r\n".encode() + recipients + b"DATA\r\n")
                codes = [client.reply().code for _ in range(502)]
                return (client, codes.count(250), codes[-1])

            with house.attack(what):
                began = time.monotonic()
                sessions = [one for one in in_threads(199, begin, 60) if one]
                ready = [client for client, taken, last in sessions if taken in room and last == 354]
                outcome.check(f"{what}: as many as fit are taken, then data", len(ready) >= 190, f"{len(ready)} behind 354 after {time.monotonic() - began:.1f} s, RSS {house.server.memory() / 1024:.1f} MB")
                in_threads(len(ready), lambda n: ready[n].send(header(names[n], 250 * 1024)), 30)
                outcome.note(f"{what}: RSS with headers {house.server.memory() / 1024:.1f} MB")

                def finish(n):
                    ready[n].send(b"\r\n" + LINE * (255 * 1024 // len(LINE)) + b".\r\n")
                    return house.note(names[n], ready[n].reply()).code

                codes = in_threads(len(ready), finish, 60)
                counts = {code: codes.count(code) for code in set(codes)}
                outcome.check(f"{what}: each is stored or put off", set(codes) <= {250, 452, 421, 0} and 250 in codes, counts)
                close(ready)
            house.served(f"{what}: afterwards", 5)
            house.settle()


def memory(outcome, base):
    hundred_at_once(outcome, os.path.join(base, "hundred"))
    stalled_sessions(outcome, base)
    greedy_under_tls(outcome, base)
