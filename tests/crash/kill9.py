#!/usr/bin/env python3
"""kill9: SIGKILL at random moments while sessions are between DATA and 250.

Purpose: R2 of the reliability promises: nothing acknowledged is lost, doubled or damaged by a crash; ready again within 2 s.
Usage:   tests/crash/kill9.py [--rounds 20] [--sessions 12] [--seed N] [--server pipit|postfix|toy:MODE]
Result:  `ok`/`FAIL` lines, the counts of lost, duplicated and corrupt messages, the closing line; exit status 0 or 1.

How: every round, SESSIONS clients send mail without pause, half of the messages with 1 MB bodies. A message's body goes in
slices with small pauses, so that a session spends nearly all its time between its DATA and its 250. In every second round
the clients also hold back their final dots and send them in one burst, and the kill falls into the milliseconds after it.
The kill happens only at a moment when at least 8 sessions are between DATA and 250 (counted under a lock, asserted). Replies
that were already on the way are read after the kill and count as acknowledged: the ledger is what a client could know.
"""

import argparse
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.outcome import Outcome, Scratch
from rig.servers import add_option, server
from rig.wire import Client, letter, stuffed, trouble_with

LEAST = 8
READY = 2.0
SMALL, LARGE = 4096, 1_000_000


class Ledger:
    """What the clients know. `sent` maps ident to size, `acknowledged` holds idents whose 250 was read."""

    def __init__(self):
        self.lock = threading.Condition()
        self.sent, self.acknowledged, self.refused = {}, set(), []
        self.between, self.dotted, self.holding, self.hold = 0, 0, 0, False
        self.running = True
        self.serial = 0

    def next_message(self):
        with self.lock:
            self.serial += 1
            ident = f"k{self.serial:06d}"
            self.sent[ident] = LARGE if self.serial % 2 else SMALL
            return ident, self.sent[ident]

    def change(self, **steps):
        with self.lock:
            for name, step in steps.items():
                setattr(self, name, getattr(self, name) + step)
            self.lock.notify_all()


class Sender(threading.Thread):
    """One session after another until the round ends."""

    def __init__(self, ledger, port, seed):
        super().__init__(daemon=True)
        self.ledger, self.port, self.dice = ledger, port, random.Random(seed)

    def run(self):
        while self.ledger.running:
            try:
                with Client(self.port, patience=30) as client:
                    if client.greet().code == 250:
                        while self.ledger.running and self.one(client):
                            pass
            except OSError:
                time.sleep(0.01)

    def one(self, client):
        """One transaction; False when the connection is of no more use."""
        ident, size = self.ledger.next_message()
        answer = client.envelope("carol@peer.test", ["ann@home.test"])
        if answer.code != 250 or client.command("DATA").code != 354:
            return False
        self.ledger.change(between=+1)
        dotted = False
        try:
            octets = stuffed(letter(ident, size))
            slices = 6
            for n in range(slices):
                if not client.send(octets[n * len(octets) // slices:(n + 1) * len(octets) // slices]):
                    break
                time.sleep(self.dice.uniform(0.002, 0.02))
            self.wait_for_burst()
            self.ledger.change(dotted=+1)
            dotted = True
            client.send(b".\r\n")
            answer = client.reply()
            if answer.code == 250:
                with self.ledger.lock:
                    self.ledger.acknowledged.add(ident)
            elif answer.code:
                with self.ledger.lock:
                    self.ledger.refused.append(answer.text)
            return answer.code == 250
        finally:
            self.ledger.change(between=-1, dotted=-1 if dotted else 0)

    def wait_for_burst(self):
        ledger = self.ledger
        with ledger.lock:
            if ledger.hold:
                ledger.holding += 1
                ledger.lock.notify_all()
                ledger.lock.wait_for(lambda: not ledger.hold or not ledger.running, 20)
                ledger.holding -= 1


def one_round(under_test, ledger, number, sessions, dice):
    """Run until a random moment, kill; (sessions between DATA and 250, of them with the dot sent, acknowledged so far)."""
    ledger.running, ledger.hold = True, False
    senders = [Sender(ledger, under_test.port, dice.random()) for _ in range(sessions)]
    for sender in senders:
        sender.start()
    time.sleep(dice.uniform(0.2, 1.0))
    if number % 2:
        with ledger.lock:
            ledger.hold = True
            ledger.lock.wait_for(lambda: ledger.holding >= LEAST, 20)
            ledger.hold = False
            ledger.lock.notify_all()
        time.sleep(dice.choice((0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.015)))
    with ledger.lock:
        ledger.lock.wait_for(lambda: ledger.between >= LEAST, 20)
        seen = ledger.between, ledger.dotted, len(ledger.acknowledged)
        ledger.running = False
        under_test.kill9()
        ledger.lock.notify_all()
    for sender in senders:
        sender.join(40)
    return seen


def judge(outcome, ledger, under_test):
    """Compare the store with the ledger."""
    copies, corrupt, strangers = {}, 0, 0
    for raw in under_test.bodies():
        mark = raw.find(b"X-Ledger: ")
        ident = raw[mark + 10:mark + 17].decode("ascii", "replace") if mark >= 0 else ""
        if ident not in ledger.sent:
            strangers += 1
            continue
        copies[ident] = copies.get(ident, 0) + 1
        wrong = trouble_with(raw, letter(ident, ledger.sent[ident]))
        if wrong:
            corrupt += 1
            outcome.note(f"{ident}: {wrong}")
    listed = {}
    for row in under_test.messages():
        key = row["message_id"].strip("<>").split("@")[0]
        listed[key] = listed.get(key, 0) + 1
    lost = [ident for ident in ledger.acknowledged if copies.get(ident, 0) == 0]
    doubled = [ident for ident, count in copies.items() if count > 1]
    unknown = len(copies) - len(ledger.acknowledged & set(copies))
    outcome.note(f"sent {len(ledger.sent)}, acknowledged {len(ledger.acknowledged)}, stored {sum(copies.values())} "
                 f"(of them {unknown} whose reply was lost with the connection)")
    outcome.note(f"lost {len(lost)}, duplicated {len(doubled)}, corrupt {corrupt}")
    outcome.check("nothing acknowledged is lost", not lost, ", ".join(lost[:5]))
    outcome.check("nothing is there twice", not doubled, ", ".join(doubled[:5]))
    outcome.check("nothing is damaged", not corrupt and not strangers, f"{corrupt} corrupt, {strangers} unknown")
    outcome.check("the listing agrees with the bodies", listed == copies, f"{len(listed)} listed, {len(copies)} exported")
    outcome.check("nothing was refused", not ledger.refused, "; ".join(ledger.refused[:2]))
    outcome.check("the load was real", len(ledger.acknowledged) >= LEAST, f"{len(ledger.acknowledged)} acknowledged")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--sessions", type=int, default=12)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    add_option(options)
    chosen = options.parse_args()
    dice, ledger = random.Random(chosen.seed), Ledger()
    with Outcome("kill9") as outcome, Scratch("kill9") as base, server(chosen.server, base) as under_test:
        outcome.note(f"{chosen.rounds} rounds, {chosen.sessions} sessions, seed {chosen.seed}")
        under_test.start()
        held, dots, slowest = [], 0, 0.0
        for number in range(chosen.rounds):
            between, dotted, _ = one_round(under_test, ledger, number, chosen.sessions, dice)
            held.append(between)
            dots += dotted
            slowest = max(slowest, under_test.start())
        outcome.check(f"at every kill at least {LEAST} sessions were between DATA and 250", min(held) >= LEAST,
                      f"least {min(held)}, mean {sum(held) / len(held):.1f}; {dots} had sent their dot")
        outcome.check(f"ready again within {READY:g} s", slowest <= READY, f"slowest {slowest:.3f} s to the first 220")
        judge(outcome, ledger, under_test)
        with Client(under_test.port) as client:
            client.greet()
            answer = client.deliver("carol@peer.test", ["ann@home.test"], letter("after", SMALL))
            outcome.check("it still takes mail", answer.code == 250, answer.text)
        outcome.ends_clean(under_test)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
