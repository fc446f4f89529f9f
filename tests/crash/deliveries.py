#!/usr/bin/env python3
"""deliveries: SIGKILL in the middle of deliveries.

Purpose: R4 of the reliability promises: what was acknowledged to our user arrives, whatever happens; a crash repeats at most
         the message that was under way on a connection.
Usage:   tests/crash/deliveries.py [--rounds 12] [--messages 400] [--seed N] [--server pipit|postfix] [--fault forget|mute|repeat]
         `--fault` lets the far end lie, to show that the test sees it: it forgets a message it took, closes without the reply
         to a final dot, or claims to have had a message twice; the run must then fail.
Result:  `ok`/`FAIL` lines, the counts of lost and repeated messages, the closing line; exit status 0 or 1.

How: twelve destinations, each a sink that writes a message down and then waits a random moment before its 250. While one thread
hands in mail (its ledger holds what was acknowledged to it), the server is killed again and again, each time with at least 8
transactions under way (asserted), and started again. Afterwards each acknowledged recipient must have its message, unchanged.
A repetition is lawful only if the copy before it was the last message of a connection that a kill cut: anything else is ours.
"""

import argparse
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.dns import Dns
from rig.outcome import Outcome, Scratch
from rig.pipit import Pipit
from rig.postfix_instance import Postfix
from rig.sink import Sink
from rig.wire import Client, free_ports, letter, trouble_with

LEAST, BACKLOG = 8, 60
READY = 2.0
ANN = "ann@home.test"
HOSTS = {f"far{n:02d}.test": f"127.0.1.{n + 1}" for n in range(12)}


class Relay(Postfix):
    """Postfix in the place of the server under test: it proves the test."""

    def __init__(self, base, port):
        routes = " ".join(f"{{{domain}=smtp:[{address}]:{port}}}" for domain, address in HOSTS.items())
        super().__init__(base, more=f"transport_maps = inline:{{ {routes} }}\ndefault_destination_concurrency_limit = 2\nsmtp_destination_rate_delay = 0\n")

    def submitter(self):
        client = Client(self.port)
        client.greet()
        return client

    def queue(self):
        return self.queued()


class Submitter(threading.Thread):
    """Hands in mail, so much that BACKLOG deliveries always wait, through every restart; a message without a reply is not repeated."""

    def __init__(self, under_test, sink, dice):
        super().__init__(daemon=True)
        self.under_test, self.sink, self.dice = under_test, sink, dice
        self.sent, self.acknowledged, self.refused, self.running, self.least = {}, {}, [], True, 0
        self.owed = 0  # deliveries that were acknowledged to us

    def run(self):
        while self.wanted():
            try:
                with self.under_test.submitter() as client:
                    while self.wanted() and self.one(client):
                        while self.running and self.owed - len(self.sink.taken) > BACKLOG:
                            time.sleep(0.01)
            except (OSError, RuntimeError):
                time.sleep(0.05)

    def wanted(self):
        return self.running or len(self.acknowledged) < self.least

    def finish(self, least):
        """The last kill is over: hand in what is still wanted, then end."""
        self.least, self.running = least, False
        self.join(120)

    def one(self, client):
        ident = f"q{len(self.sent):05d}"
        size = self.dice.choice((2000, 8000, 60_000))
        recipients = [f"{ident}@{domain}" for domain in self.dice.sample(sorted(HOSTS), self.dice.choice((1, 1, 1, 3)))]
        self.sent[ident] = size
        answer = client.deliver(ANN, recipients, letter(ident, size, sender=ANN, to="someone@far00.test"))
        if answer.code == 250:
            self.acknowledged[ident] = recipients
            self.owed += len(recipients)
        elif answer.code:
            self.refused.append(answer.text)
        return answer.code == 250


def one_round(under_test, sink, dice):
    """Wait for a moment with enough under way, kill; the connections that were open (of them how many under way), or None."""
    time.sleep(dice.uniform(0.3, 1.2))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if len(sink.in_flight()) >= LEAST:
            # The kill happens in the sink's own thread: nothing is taken or acknowledged between the count and the signal.
            seen = sink.ask(lambda: kill_if(under_test, sink))
            if seen:
                under_test.kill9()
                return seen
        time.sleep(dice.uniform(0.001, 0.02))
    return None


def kill_if(under_test, sink):
    under_way = [serial for serial, session in sink.open.items() if session.under_way]
    if len(under_way) < LEAST:
        return None
    under_test.kill9()
    return set(sink.open), len(under_way)


def judge(outcome, submitter, sink, cut, under_way):
    """Compare what the sinks hold with the ledger. `cut`: serial numbers of connections that were open at a kill."""
    copies, damaged, strangers = {}, [], 0
    for taken in sink.taken:
        if taken.ident not in submitter.sent:
            strangers += 1
            continue
        wrong = trouble_with(taken.octets, letter(taken.ident, submitter.sent[taken.ident], sender=ANN, to="someone@far00.test"))
        if wrong:
            damaged.append(f"{taken.ident}: {wrong}")
        for recipient in taken.recipients:
            copies.setdefault((taken.ident, recipient), []).append(taken)
    lost = [(ident, one) for ident, recipients in submitter.acknowledged.items() for one in recipients if (ident, one) not in copies]
    repeated = {key: found for key, found in copies.items() if len(found) > 1}
    last = {}
    for taken in sink.taken:
        last[taken.connection] = max(taken.place, last.get(taken.connection, -1))
    unlawful = [f"{key[0]} to {key[1]}: {[(t.connection, t.place, last[t.connection], t.connection in cut) for t in found]}" for key, found in repeated.items()
                if not all(taken.connection in cut and taken.place == last[taken.connection] for taken in found[:-1])]
    extra = sum(len(found) - 1 for found in repeated.values())
    outcome.note(f"handed in {len(submitter.sent)}, acknowledged {len(submitter.acknowledged)}, taken by the sinks {len(sink.taken)}")
    outcome.note(f"lost {len(lost)}, repeated {extra}, under way at the kills {under_way}, damaged {len(damaged)}")
    outcome.check("nothing acknowledged is lost", not lost, ", ".join(map(str, lost[:5])))
    outcome.check("repeated is at most what was under way at the kills", extra <= under_way, f"{extra} of {under_way}")
    outcome.check("each repetition is the last message of a connection that a kill cut", not unlawful, "; ".join(unlawful[:3]))
    outcome.check("nothing is damaged", not damaged and not strangers, "; ".join(damaged[:3]) or strangers)
    outcome.check("nothing was refused", not submitter.refused, "; ".join(submitter.refused[:2]))
    outcome.check("the load was real", len(submitter.acknowledged) >= submitter.least, f"{len(submitter.acknowledged)} acknowledged")


def lie(sink, fault):
    """The faults of the far end."""
    if fault == "forget":
        sink.taken.remove(next(one for one in sink.taken if one.replied))
    elif fault == "repeat":
        again = next(one for one in sink.taken if one.replied)
        sink.taken.append(again)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--messages", type=int, default=400)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options.add_argument("--server", choices=("pipit", "postfix"), default="pipit")
    options.add_argument("--fault", choices=("forget", "mute", "repeat"))
    chosen = options.parse_args()
    dice, (port,) = random.Random(chosen.seed), free_ports(1)
    zone = "".join(f"{domain} MX 10 mx.{domain}\nmx.{domain} A {address}\n" for domain, address in HOSTS.items())
    patience = random.Random(chosen.seed + 1)
    with Outcome("crash/deliveries") as outcome, Scratch("deliveries") as base, Dns(zone) as dns, Sink(HOSTS.values(), port, lambda: patience.uniform(0.02, 0.3)) as sink:
        sink.mute_every = 40 if chosen.fault == "mute" else 0
        settings = {"outbound": {"port": port, "private-addresses": True, "first-retry": "1s", "longest-retry": "2s", "destinations": 20}, "dns": dns.settings}
        outcome.note(f"{chosen.rounds} rounds, {chosen.messages} messages, seed {chosen.seed}")
        with (Relay(base, port) if chosen.server == "postfix" else Pipit(base, settings=settings)) as under_test:
            under_test.start()
            submitter = Submitter(under_test, sink, dice)
            submitter.start()
            cut, counts, slowest = set(), [], 0.0
            for number in range(chosen.rounds):
                seen = one_round(under_test, sink, dice)
                if not outcome.check(f"kill {number + 1}: at least {LEAST} deliveries are under way", seen, "" if not seen else seen[1]):
                    break
                cut |= seen[0]
                counts.append(len(seen[0]))
                slowest = max(slowest, under_test.start())
            submitter.finish(chosen.messages)
            outcome.check(f"ready again within {READY:g} s", slowest <= READY, f"slowest {slowest:.3f} s to the first 220")
            outcome.check("the queue becomes empty", under_test.wait_until_empty(90, flush=chosen.server == "postfix"), str(under_test.queue())[:600])
            lie(sink, chosen.fault)
            judge(outcome, submitter, sink, cut, sum(counts))
            outcome.ends_clean(under_test)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
