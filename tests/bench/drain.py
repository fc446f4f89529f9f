#!/usr/bin/env python3
"""drain: how fast a full queue empties when half of the world is dead, and what it costs; Pipit beside Debian's Postfix.

Usage:   tests/bench/drain.py [--messages 10000] [--destinations 1000] [--black-holes 50] [--start-messages 100000] [--only drain|start]
         [--servers pipit,postfix] [--rounds 1]        (needs root: Postfix, and a network namespace of its own)
Result:  a Markdown table; `ok`/`FAIL` lines for the goals (the live half at >= 2 x Postfix's rate, memory <= 24 MB, start <= 200 ms
         slower with 100,000 queued messages), the closing line; exit status 1 if a goal is missed.

How: everything runs in a network namespace. Live destinations are addresses of the loopback device, where one smtp-sink (C, of
Postfix) takes mail on all of them; dead ones are addresses behind a pair of virtual cables, where a second namespace refuses the
connection (RST) or, for `--black-holes` of them, says nothing at all, so that a connect must time out.
The queue is filled while nothing may leave (Pipit: a hold rule; Postfix: HOLD in its access map), then released. The clock runs
from the release (Postfix: from `postqueue -f`, after `postsuper -H` has moved its files) until the live half is at the sink.
Pipit asks a DNS server (rig/dns.py) for MX and addresses, and its messages came in by submission with TLS and AUTH. Postfix gets a
transport map with the addresses instead and needs no DNS at all, which is in its favour. Both deliver in plain text, as the
sink speaks no TLS; both run with their defaults of concurrency and retry times.
"""

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import cpu_seconds, file_system
from rig.dns import Dns
from rig.outcome import Outcome, Scratch
from rig.pipit import Pipit
from rig.postfix_instance import Postfix
from rig.wire import Client, letter, stuffed

ANN = "ann@home.test"
PORT = 2525
SIZE = 4096
FILLERS = 8
LEAST_RATIO, MOST_MEMORY, MOST_START = 2.0, 24 * 1024, 0.2
PATIENCE = 600
LIVE, REFUSING, SILENT = "10.7", "10.6", "10.8"


class World:
    """The destinations: name, address, and which of them live."""

    def __init__(self, count, black_holes):
        self.live, self.address = set(), {}
        dead = 0
        for n in range(count):
            net = LIVE
            if n % 2:
                net, dead = (SILENT if dead < black_holes else REFUSING), dead + 1
            else:
                self.live.add(f"d{n:04d}.test")
            self.address[f"d{n:04d}.test"] = f"{net}.{1 + n // 250}.{1 + n % 250}"

    def zone(self):
        return "".join(f"{name} MX 10 mx.{name}\nmx.{name} A {address}\n" for name, address in self.address.items())

    def transports(self):
        return "".join(f"{name} smtp:[{address}]:{PORT}\n" for name, address in self.address.items())


class Sink:
    """smtp-sink on every live address; counts messages."""

    def __init__(self, base):
        self.path = os.path.join(base, f"sink-{time.monotonic_ns()}")

    def __enter__(self):
        with open(self.path, "w") as out:
            self.process = subprocess.Popen(["smtp-sink", "-u", "nobody", "-c", f"inet:0.0.0.0:{PORT}", "500"], stdout=out, stderr=subprocess.STDOUT)
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def count(self):
        """Messages so far: the counter line is `sess=N quit=N mesg=N`, written again and again."""
        with open(self.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.path) - 200))
            found = re.findall(rb"mesg=(\d+)", file.read())
        return int(found[-1]) if found else 0

    def wait_for(self, wanted, patience):
        """(seconds until `wanted` messages were there or time was up, how many came)."""
        began = time.monotonic()
        while (count := self.count()) < wanted and time.monotonic() - began < patience:
            time.sleep(0.01)
        return time.monotonic() - began, count


class Relay(Postfix):
    """Postfix with its own defaults of retry and concurrency; holds what it gets until `release`."""

    def __init__(self, base, world):
        super().__init__(base)
        self.world = world

    def prepare(self):
        super().prepare()
        self.write("transport", self.world.transports())
        self.configure(minimal_backoff_time="300s", maximal_backoff_time="4000s", queue_run_delay="300s", transport_retry_time="60s",
                       transport_maps=f"texthash:{self.etc}/transport", smtpd_recipient_restrictions="check_client_access static:HOLD")

    def submitter(self):
        client = Client(self.port)
        client.greet()
        return client

    def hold(self):
        pass

    def release(self):
        subprocess.run(["postsuper", "-c", self.etc, "-H", "ALL"], check=True, capture_output=True)
        began = time.monotonic()
        self.flush()
        return began


class Ours(Pipit):
    def hold(self):
        self.hold_everything()

    def release(self):
        self.unhold()
        began = time.monotonic()
        self.release_everything()
        return began


def say(text):
    print(text, file=sys.stderr, flush=True)


def fill(server, recipients):
    """Hand in one message for each recipient over FILLERS connections; RuntimeError if one is not taken."""
    message, trouble = stuffed(letter("bench", SIZE, sender=ANN)) + b".\r\n", []

    def one(mine):
        try:
            with server.submitter() as client:
                for recipient in mine:
                    client.send(f"MAIL FROM:<{ANN}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
                    answers = [client.reply() for _ in range(3)]
                    client.send(message)
                    answers.append(client.reply())
                    if [answer.code for answer in answers] != [250, 250, 354, 250]:
                        raise RuntimeError(f"{server.name} answered {answers}")
        except (OSError, RuntimeError) as error:
            trouble.append(error)

    threads = [threading.Thread(target=one, args=(recipients[n::FILLERS],)) for n in range(FILLERS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise RuntimeError(f"filling {server.name}: {trouble[0]}")
    say(f"{server.name}: {len(recipients)} messages taken at {len(recipients) / (time.monotonic() - began):,.0f}/s")


def drain(server, base, recipients, live):
    """Fill, release, wait for the live half: a dictionary of what was measured."""
    server.hold()
    fill(server, recipients)
    settle_quietly(server)
    with Sink(base) as sink:
        for pid in server.processes():
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write("5")
        before = cpu_seconds(server.processes())
        began = server.release()
        marks = []
        for share in (0.25, 0.5, 0.75, 0.9, 1.0):
            _, count = sink.wait_for(int(live * share), PATIENCE - (time.monotonic() - began))
            marks.append(f"{share:.0%} {time.monotonic() - began:.2f} s")
        took = time.monotonic() - began
        found = {"took": took, "count": count, "rate": count / took, "cpu": cpu_seconds(server.processes()) - before,
                 "peak": max(server.memory("VmHWM"), 0), "now": server.memory()}
        time.sleep(2)
        found["late"] = sink.count() - count
        found["peak"] = max(found["peak"], server.memory("VmHWM"))
    say(f"{server.name}: {count} of {live} in {took:.2f} s: {found['rate']:,.0f}/s ({', '.join(marks)}), CPU {found['cpu']:.2f} s, peak {found['peak'] / 1024:.1f} MB")
    return found


def settle_quietly(server):
    """Until the server is idle; unlike load.settle it does not wait for an empty queue."""
    last = -1.0
    for _ in range(100):
        now = cpu_seconds(server.processes())
        if now - last < 0.02:
            return
        last = now
        time.sleep(0.3)


def compare(outcome, base, chosen):
    world = World(chosen.destinations, chosen.black_holes)
    names = sorted(world.address)
    recipients = [f"someone{n}@{names[n % len(names)]}" for n in range(chosen.messages)]
    random.Random(7).shuffle(recipients)
    live = sum(recipient.partition("@")[2] in world.live for recipient in recipients)
    found = {}
    with Dns(world.zone(), ttl=300) as dns:
        for number in range(chosen.rounds):
            order = chosen.servers.split(",")
            for name in order if number % 2 == 0 else order[::-1]:
                room = os.path.join(base, f"{name}-{number}")
                os.makedirs(room)
                settings = {"outbound": {"port": PORT, "private-addresses": True, **pairs(chosen.outbound)}, "dns": dns.settings}
                with (Ours(room, settings=settings, limits={"message-size": "1M"}) if name == "pipit" else Relay(room, world)) as server:
                    server.start()
                    found.setdefault(name, []).append(drain(server, base, recipients, live))
                    if name == "pipit":
                        left = len(server.queue())
                        outcome.check("what is dead still waits, what lived is gone", left == chosen.messages - live, f"{left} queued")
                        stopped = time.monotonic()
                        outcome.check("stops politely with connections under way", server.stop(30) == 0, f"{time.monotonic() - stopped:.1f} s")
                        wrong = server.complaints()
                        outcome.check("store check is clean", not wrong, wrong)
                    server.kill9()
    table(found, chosen)
    for name, each in found.items():
        outcome.check(f"{name}: the live half arrived, once", all(one["count"] == live and one["late"] == 0 for one in each), [(one["count"], one["late"]) for one in each])
    if "pipit" in found:
        peak = max(one["peak"] for one in found["pipit"])
        outcome.check(f"memory at most {MOST_MEMORY // 1024} MB", peak <= MOST_MEMORY, f"peak {peak / 1024:.1f} MB")
    if len(found) == 2:
        ratio = median(found["pipit"], "rate") / median(found["postfix"], "rate")
        print(f"ratio of rates, Pipit to Postfix: {ratio:.2f}")
        outcome.check(f"the live half at {LEAST_RATIO:g} times Postfix's rate", ratio >= LEAST_RATIO, f"{ratio:.2f}")


def median(each, key):
    return statistics.median(one[key] for one in each)


def table(found, chosen):
    print(f"| {chosen.messages:,} messages, {chosen.destinations:,} destinations, half dead ({chosen.black_holes} of them silent) | " + " | ".join(found) + " |")
    print("|---|" + "---:|" * len(found))
    for what, key, form in (("live half delivered in", "took", "{:.1f} s"), ("messages a second", "rate", "{:,.0f}"), ("CPU seconds", "cpu", "{:.1f}"),
                            ("peak memory (all processes)", "peak", "{:.0f} KiB")):
        print(f"| {what} | " + " | ".join(form.format(median(each, key)) for each in found.values()) + " |", flush=True)


def pairs(words):
    """`destinations=50` as settings, for looking at their effect."""
    return {key: int(value) if value.isdigit() else value for key, _, value in (word.partition("=") for word in words)}


def starts(server, count=5):
    """Median seconds from exec to the first 220, with the files in the page cache."""
    times = []
    for _ in range(count):
        server.stop()
        times.append(server.start())
    return statistics.median(times)


def start_with_a_full_queue(outcome, base, chosen):
    """Messages that all wait for a resolver that says SERVFAIL: an empty start against one with all of them."""
    room = os.path.join(base, "start")
    os.makedirs(room)
    with Dns(wildcard=lambda name: f"{name} SERVFAIL" if name.startswith("d") else None) as dns:
        settings = {"outbound": {"port": PORT, "private-addresses": True, "first-retry": "1d", "longest-retry": "1d"}, "dns": dns.settings}
        with Ours(room, settings=settings) as server:
            server.start()
            empty = starts(server)
            fill(server, [f"someone{n}@d{n % 1000:04d}.test" for n in range(chosen.start_messages)])
            settle_quietly(server)
            full, memory = starts(server), 0
            time.sleep(1)
            memory = server.memory()
            print(f"| start to first 220 | {empty * 1000:.0f} ms empty, {full * 1000:.0f} ms with {chosen.start_messages:,} queued; {memory / 1024:.1f} MB a second later |", flush=True)
            outcome.check(f"{chosen.start_messages:,} queued messages cost at most {MOST_START * 1000:.0f} ms at start", full - empty <= MOST_START, f"{(full - empty) * 1000:.0f} ms more")
            server.stop()


NETWORK = f"""ip link set lo up && ip addr add {LIVE}.0.0/16 dev lo
unshare --net sleep 86400 & other=$!
trap 'kill $other' EXIT
for try in 1 2 3 4 5 6 7 8 9 10; do [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.1; done
ip link add near type veth peer name far netns $other && ip addr add 10.5.0.1/30 dev near && ip link set near up
nsenter -t $other -n sh -c 'ip link set lo up; ip addr add 10.5.0.2/30 dev far; ip link set far up; ip addr add {REFUSING}.0.0/16 dev lo'
ip route add {REFUSING}.0.0/16 via 10.5.0.2 && ip route add {SILENT}.0.0/16 via 10.5.0.2
"$@"
"""


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--messages", type=int, default=10_000)
    options.add_argument("--destinations", type=int, default=1000)
    options.add_argument("--black-holes", type=int, default=50)
    options.add_argument("--start-messages", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--servers", default="postfix,pipit")
    options.add_argument("--only", choices=("drain", "start"))
    options.add_argument("--outbound", nargs="*", default=[], metavar="KEY=VALUE", help="other outbound settings of Pipit, to see their effect")
    chosen = options.parse_args()
    if not os.environ.get("PIPIT_NAMESPACE"):
        return subprocess.run(["unshare", "--net", "sh", "-c", NETWORK, "sh", sys.executable, os.path.abspath(__file__), *sys.argv[1:]],
                              env={**os.environ, "PIPIT_NAMESPACE": "1"}).returncode
    with Outcome("bench/drain") as outcome, Scratch("bench-drain") as base:
        say("on " + " ".join(file_system(base)))
        if chosen.only != "start":
            compare(outcome, base, chosen)
        if chosen.only != "drain":
            start_with_a_full_queue(outcome, base, chosen)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
