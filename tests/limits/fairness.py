"""Fairness: whoever keeps the one thread busy from outside, others get their turn (R13, R3).

Purpose: a client that never makes the server wait (it pipelines without end and reads every reply) must not stop the rest.
Usage:   tests/limits.py fairness
Result:  for each kind of attack: a second address is greeted and its message stored within 1 s, again and again, and no task
         held the loop for over 50 ms. Other work on this machine makes stalls longer, never shorter: the best of three counts.
"""

import contextlib
import multiprocessing
import os
import re
import threading
import time

from limits.house import ANN, CAROL, NET, House, in_namespace
from rig.pipit import Pipit
from rig.wire import Client, letter

LASTS, ANSWERED_WITHIN, LONGEST_STALL, TRIES = 5.0, 1.0, 0.050, 3
ENVELOPE = f"MAIL FROM:<{CAROL}>\r\nRCPT TO:<{ANN}>\r\nDATA\r\n".encode()
NO_FROM = ENVELOPE + b"Subject: no From\r\n\r\nrefused\r\n.\r\n"
ODD_NAME = "".join(chr(0x4E00 + n) for n in range(330)).encode()
FIELD = b"Authentication-Results: " + ODD_NAME + b"; none\r\n"
ODD_RESULTS = ENVELOPE + b"From: <carol@peer.test>\r\n" + FIELD * (250 * 1024 // len(FIELD)) + b"\r\nx\r\n.\r\n"

ATTACKS = {
    "RCPT for ever": (f"MAIL FROM:<{CAROL}>\r\n".encode(), f"RCPT TO:<{ANN}>\r\n".encode() * 2000),
    "refused messages for ever": (b"", NO_FROM * 200),
    "250 KiB of Authentication-Results with 330 ideographs each": (b"", ODD_RESULTS),
}


class Pump:
    """One connection at a time that sends a block over and over while it reads all replies; a new one where that was closed."""

    def __init__(self, house, first, block):
        self.house, self.first, self.block = house, first, block
        self.replies, self.stored, self.connections, self.end = 0, 0, 0, time.monotonic() + LASTS
        self.threads = [threading.Thread(target=self.run, daemon=True)]

    def run(self):
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError), Client(self.house.server.port, self.house.server.host, f"{NET}.10", 10) as client:
                client.greet()
                self.connections += 1
                client.send(self.first)
                reader = threading.Thread(target=self.read, args=(client,), daemon=True)
                reader.start()
                while time.monotonic() < self.end and client.send(self.block):
                    pass
                client.socket.shutdown(2)
                reader.join(5)

    def read(self, client):
        with contextlib.suppress(OSError):
            while octets := client.socket.recv(1 << 20):
                self.replies += octets.count(b"\r\n")
                self.stored += octets.count(b"stored as")


class Knock:
    """Connections over the limit, from processes of their own and 200 at a time: only so is the backlog never empty."""

    stored = 0

    def __init__(self, house):
        self.house, self.end = house, time.monotonic() + LASTS
        self.connected, self.refused = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
        self.threads = [multiprocessing.Process(target=self.run, daemon=True) for _ in range(3)]

    @property
    def replies(self):
        return self.refused.value

    @property
    def connections(self):
        return self.connected.value

    def run(self):
        while time.monotonic() < self.end:
            batch = []
            with contextlib.suppress(OSError):
                for _ in range(200):
                    batch.append(Client(self.house.server.port, self.house.server.host, f"{NET}.10", 5))
            refused = 0
            for client in batch:
                with contextlib.suppress(OSError):
                    refused += client.reply().text.startswith("421 4.7.0")
                client.close()
            for total, more in ((self.connected, len(batch)), (self.refused, refused)):
                with total.get_lock():
                    total.value += more


def longest_stall(server):
    """Seconds that one task held the event loop at most, since the start."""
    done = server.run("metrics")
    found = re.search(rb"longest_stall_microseconds (\d+)", done.stdout)
    return int(found[1]) / 1e6 if found else None


def one_try(outcome, base, what, attack):
    """What the attack did on a fresh server: (slowest answer to others, what was wrong, longest stall, a note)."""
    with Pipit(base, {"connections-per-minute": 6000, "burst": 6000, "connections-per-address": 1 if attack is Knock else 30}, host=f"{NET}.1") as server:
        os.makedirs(server.base)
        server.start()
        house, slowest, wrong = House(outcome, server), 0.0, ""
        before = longest_stall(server)
        with house.attack(what), contextlib.ExitStack() as held:
            if attack is Knock:
                held.enter_context(Client(server.port, server.host, f"{NET}.10", 30)).greet()
            pump = attack(house) if attack is Knock else Pump(house, *attack)
            for thread in pump.threads:
                thread.start()
            time.sleep(0.5)
            honest = 0
            while time.monotonic() < pump.end - 0.2 and not wrong:
                took, wrong = honest_message(server, f"fair-{honest}")
                slowest, honest = max(slowest, took), honest + 1
                time.sleep(0.1)
            for thread in pump.threads:
                thread.join(15)
        stall = longest_stall(server)
        stored = len(server.messages(ANN))
        if attack is Knock:
            outcome.check(f"{what}: each is told so", pump.replies == pump.connections > 0, f"{pump.replies} of {pump.connections}")
        if not wrong and stored < honest + pump.stored:
            wrong = f"{stored} stored, {honest} and {pump.stored} acknowledged"
        server.stop()
        wrong = wrong or server.complaints()
        note = f"{honest} honest messages, {pump.replies} reply lines in {pump.connections} connections, {pump.stored} stored; stall before {before * 1000:.1f} ms"
        return slowest, wrong, stall, note


def honest_message(server, name):
    """Seconds from connecting to the 250, and what was wrong."""
    began = time.monotonic()
    try:
        with Client(server.port, server.host, f"{NET}.11", 5) as client:
            client.greet()
            answer = client.deliver(CAROL, [ANN], letter(name, 2000))
            return time.monotonic() - began, "" if answer.code == 250 else answer.text or "closed"
    except OSError as error:
        return time.monotonic() - began, str(error)


def fairness(outcome, base):
    if not in_namespace(outcome, "fairness"):
        return
    for number, (what, attack) in enumerate({**ATTACKS, "connections over the limit": Knock}.items()):
        tries = []
        for n in range(TRIES):
            tries.append(one_try(outcome, os.path.join(base, f"fairness-{number}-{n}"), what, attack))
            slowest, wrong, stall, note = tries[-1]
            outcome.note(f"{what}: slowest answer {slowest:.3f} s, longest stall {(stall or 0) * 1000:.1f} ms; {note}")
            if wrong or (slowest <= ANSWERED_WITHIN and stall <= LONGEST_STALL):
                break
        wrong = next((wrong for _, wrong, _, _ in tries if wrong), "")
        outcome.check(f"{what}: every honest message is stored", not wrong, wrong)
        slowest, stall = min(one[0] for one in tries), min(one[2] or 9 for one in tries)
        outcome.check(f"{what}: another address is served within {ANSWERED_WITHIN:.0f} s", slowest <= ANSWERED_WITHIN, f"{slowest:.3f} s")
        outcome.check(f"{what}: nothing holds the loop over {LONGEST_STALL * 1000:.0f} ms", stall <= LONGEST_STALL, f"{stall * 1000:.1f} ms")
