#!/usr/bin/env python3
"""resolver: CPU and memory of validated answers, ours beside a live unbound 1.26 or later that validates on one thread.

Usage:   tests/bench/resolver.py [--names 5000] [--rounds 3] [--only zones|flood]       (needs the packages of tests/peers/dnssec.py)
Result:  a Markdown table; `ok`/`FAIL` lines for the goals (cold: CPU per answer <= 1.5 x unbound's; from the cache: at least unbound's
         answers per CPU second; 5,000 cached names <= 8 MiB; the longest stall under a flood <= 10 ms), the closing line.

How: zones of P-256, P-384 and RSA-2048 are signed and served by nsd; an unbound that validates nothing makes them recursive and has
everything in its cache before anything is measured. Both validators ask it and begin with an empty cache. Ours is the product's resolver
in a process that does nothing else (resolver.rs); unbound is asked over UDP, and that is in its figures, ours has no server
for others: `serving` in the table is the CPU of unbound for as many cached answers, which it would need beside any validation.
The flood: a zone with 20 keys of one tag and 20 signatures over everything, none right (KeyTrap, CVE-2023-50387), of RSA-4096 and
RSA-2048 (ECDSA keys off the curve cost nothing), and one with NSEC3 of 50 iterations and 20 labels (CVE-2023-50868).
"""

import argparse
import base64
import json
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig import nameservers
from rig.outcome import ROOT
from rig.outcome import Outcome
from rig.signed_tree import SignedTree
from rig.signed_tree import Situation

MOST_COLD, LEAST_CACHED, MOST_CACHE, MOST_STALL = 1.5, 1.0, 8 * 1024, 10.0
ALGORITHMS = {"P-256": "ECDSAP256SHA256", "P-384": "ECDSAP384SHA384", "RSA-2048": "RSASHA256:2048"}
WINDOW = 16


def many(count):
    return [f"n{n:05d} A 192.0.2.{n % 250}" for n in range(count)]


def colliding_keys(octets, count):
    """DNSKEY data of RSA keys of one tag (RFC 4034 appendix B): the last but one word of the modulus makes up the sum."""
    keys = []
    while len(keys) < count:
        modulus = bytearray(random.randbytes(octets))
        modulus[0] |= 0x80
        modulus[-1] |= 1
        rdata = bytearray(struct.pack("!HBB", 257, 3, 8) + b"\3\1\0\1" + modulus)
        at = len(rdata) - 4 - len(rdata) % 2
        rdata[at:at + 2] = b"\0\0"
        total = sum(octet << 8 if place % 2 == 0 else octet for place, octet in enumerate(rdata))
        for word in range(65536):
            if (total + word + ((total + word) >> 16)) & 0xFFFF == 4711:
                rdata[at:at + 2] = struct.pack("!H", word)
                keys.append(bytes(rdata))
                break
    return keys


def trap(bits):
    """An edit: the zone has colliding keys, and signatures of them that are none over everything."""
    def edit(_, zone):
        keys = colliding_keys(bits // 8, 20)
        name = zone.name
        lines = [f"{name} 600 IN SOA ns.test. admin.test. 1 3600 900 604800 120", f"{name} 300 IN NS ns.test.", f"{name} 300 IN A 192.0.2.1"]
        lines += [f"{name} 300 IN DNSKEY 257 3 8 {base64.b64encode(key[4:]).decode()}" for key in keys]
        until, since = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 86400)), time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() - 86400))
        for kind in ("SOA", "NS", "A", "DNSKEY"):
            for _ in range(20):
                signature = base64.b64encode(b"\0" + random.randbytes(bits // 8 - 1)).decode()
                lines.append(f"{name} 300 IN RRSIG {kind} 8 2 300 {until} {since} 4711 {name} {signature}")
        return lines
    return edit


def situations(count):
    zones = [Situation(kind.lower(), "secure", algorithm=algorithm, nsec=True, more=many(count if kind == "P-256" else count // 2)) for kind, algorithm in ALGORITHMS.items()]
    return zones + [Situation("trap2048", "bogus", edit=[trap(2048)], ds_of_all=True), Situation("trap4096", "bogus", edit=[trap(4096)], ds_of_all=True),
                    Situation("hashes", "secure", nsec3=50)]


def bench_program():
    """Builds and finds the program; PIPIT_RESOLVER names one that is built."""
    if os.environ.get("PIPIT_RESOLVER"):
        return os.environ["PIPIT_RESOLVER"]
    out = subprocess.run(["cargo", "bench", "--locked", "--bench", "resolver", "--no-run", "--message-format=json"], cwd=ROOT, capture_output=True, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "resolver" and "bench" in message["target"]["kind"]:
            return message["executable"]
    raise SystemExit(out.stderr)


def query(number, name, kind=1):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    # RD, AD; in OPT: 1232 octets, DO.
    return struct.pack("!6H", number, 0x0120, 1, 0, 0, 1) + labels + b"\0" + struct.pack("!2H", kind, 1) + b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, 0)


def ask_all(port, names):
    """Asks all names over UDP, WINDOW at a time; gives counts of (rcode, AD)."""
    counts, waiting, todo = {}, {}, list(enumerate(names))[::-1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", port))
        one.settimeout(5)
        while todo or waiting:
            while todo and len(waiting) < WINDOW:
                number, name = todo.pop()
                waiting[number] = name
                one.send(query(number, name))
            try:
                reply = one.recv(4096)
            except TimeoutError:
                todo += waiting.items()
                waiting = {}
                continue
            number, flags = struct.unpack("!HH", reply[:4])
            if waiting.pop(number, None) is not None:
                key = (flags & 15, bool(flags & 0x20))
                counts[key] = counts.get(key, 0) + 1
    return counts


def unbounds_turn(tree, router, names):
    """(cold, cached) CPU seconds, and RSS in KiB for all names."""
    with nameservers.Unbound(nameservers.validating_conf(f"127.0.0.1@{router.port}", tree.anchor, "  key-cache-size: 4m\n")) as server:
        before = rss(server.process.pid)
        times = []
        for _ in range(2):
            used = server.cpu()
            counts = ask_all(server.port, names)
            times.append(server.cpu() - used)
            assert counts == {(0, True): len(names)}, f"unbound does not validate all: {counts}"
        return *times, rss(server.process.pid) - before


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1])


def our_turn(program, tree, router, names, passes=2):
    with tempfile.NamedTemporaryFile("w", suffix=".names") as file:
        file.write("".join(f"{name} A\n" for name in names))
        file.flush()
        words = [program, "--upstream", f"127.0.0.1:{router.port}", "--anchor", tree.anchor, "--names", file.name, "--passes", str(passes), "--width", str(WINDOW)]
        out = subprocess.run(words, capture_output=True, text=True, timeout=300)
        if out.returncode:
            raise RuntimeError(out.stderr)
        return [json.loads(line) for line in out.stdout.splitlines()]


def compare(outcome, program, options, tree, router):
    print("| zone | names | cold, µs of CPU an answer | cached, µs | memory for all, MiB |\n|---|---|---|---|---|")
    for kind in ALGORITHMS:
        names = [f"n{n:05d}.{kind.lower()}.test." for n in range(options.names if kind == "P-256" else options.names // 2)]
        ask_all(router.port, names)
        ours, theirs, idle = [], [], our_turn(program, tree, router, names[:1], 1)[0]["rss_kib"]
        for _ in range(options.rounds):
            first, second = our_turn(program, tree, router, names)
            assert first.get("secure") == second.get("secure") == len(names), f"we do not validate all: {first} {second}"
            ours.append((first["cpu_ms"] / 1000, second["cpu_ms"] / 1000, first["rss_kib"] - idle, first["stall_us"]))
            theirs.append(unbounds_turn(tree, router, names))
        cold, cached, memory, stall = (statistics.median(row[n] for row in ours) for n in range(4))
        their_cold, their_cached, their_memory = (statistics.median(row[n] for row in theirs) for n in range(3))
        micro = 1e6 / len(names)
        print(f"| {kind} | {len(names)} | {cold * micro:.0f} of {their_cold * micro:.0f} ({cold / their_cold:.2f} ×) | {cached * micro:.1f} of {their_cached * micro:.1f} "
              f"| {memory / 1024:.1f} of {their_memory / 1024:.1f} |", flush=True)
        outcome.check(f"{kind}: cold CPU at most {MOST_COLD} x unbound's", cold <= MOST_COLD * their_cold, f"{cold / their_cold:.2f}")
        outcome.check(f"{kind}: at least unbound's answers per CPU second from the cache", their_cached >= LEAST_CACHED * cached, f"{their_cached / max(cached, 1e-9):.1f} x")
        outcome.note(f"longest turn of the event loop {stall / 1000:.2f} ms")
        if kind == "P-256":
            outcome.check(f"{len(names)} cached names cost at most {MOST_CACHE // 1024} MiB", memory <= MOST_CACHE, f"{memory / 1024:.1f} MiB")


def flood(outcome, program, tree, router):
    print("| flood | lookups | ended | CPU each, ms | longest turn, ms |\n|---|---|---|---|---|")
    long = ".".join("abcdefghijklmnopqr")
    for zone, names in (("trap2048", [f"x{n}.trap2048.test." for n in range(20)]), ("trap4096", [f"x{n}.trap4096.test." for n in range(20)]),
                        ("hashes", [f"{long}.x{n}.hashes.test." for n in range(50)])):
        one = our_turn(program, tree, router, names, 1)[0]
        ended = {key: value for key, value in one.items() if key in ("secure", "insecure", "bogus", "indeterminate")}
        print(f"| {zone} | {len(names)} | {ended} | {one['cpu_ms'] / len(names):.2f} | {one['stall_us'] / 1000:.2f} |", flush=True)
        outcome.check(f"{zone}: longest stall at most {MOST_STALL} ms", one["stall_us"] / 1000 <= MOST_STALL, f"{one['stall_us'] / 1000:.2f}")
        outcome.check(f"{zone}: nothing of it is believed", zone == "hashes" or "secure" not in ended and "insecure" not in ended, ended)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["zones", "flood"])
    options = parser.parse_args()
    with Outcome("bench/resolver") as outcome:
        program = bench_program()
        print(f"unbound {nameservers.version()}")
        with SignedTree(situations(options.names)) as tree, nameservers.Unbound(nameservers.recursive_conf(tree.stubs)) as router:
            if options.only != "flood":
                compare(outcome, program, options, tree, router)
            if options.only != "zones":
                flood(outcome, program, tree, router)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
