"""memory: resident memory and start-up of Pipit.

Purpose: the memory rows of the table in README.md.
Usage:   from memory import rows; or tests/bench/run
Result:  [(what, value as text)].
"""

import os
import shutil
import subprocess
import time

from load import cpu_seconds, settle, smtp_source
from rig.outcome import ROOT
from rig.pipit import Pipit
from rig.wire import Client, letter

MANY = 1000
LIMITS = {"connections": MANY + 100, "connections-per-address": MANY + 100}
LARGEST = 35 * 1024 * 1024


def megabytes(kib):
    return f"{kib / 1024:.1f} MB"


def peak_since(server):
    """Forget the high-water mark of resident memory."""
    try:
        with open(f"/proc/{server.pid}/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def idle_connections(server, tls):
    """KiB resident with MANY idle sessions from many addresses, and what it was before."""
    before, clients = server.memory(), []
    try:
        for n in range(MANY):
            client = Client(server.port, source=f"127.{1 + n % 50}.{n // 250}.{1 + n % 250}")
            client.greet()
            if tls:
                client.start_tls()
            clients.append(client)
        time.sleep(1)
        return server.memory(), before
    finally:
        for client in clients:
            client.close()
        time.sleep(0.5)


def rows(base, say, stored=100_000):
    """Start, measure, stop; each row in its own fresh process where it matters."""
    found = []

    def row(what, value):
        say(f"{what}: {value}")
        found.append((what, value))

    with Pipit(os.path.join(base, "memory"), LIMITS) as server:
        os.makedirs(server.base)
        took = server.start()
        time.sleep(1)
        row("idle after start", megabytes(server.memory()))
        row("start to first 220, empty store", f"{took * 1000:.0f} ms")
        for tls in (False, True):
            full, before = idle_connections(server, tls)
            row(f"{MANY:,} idle {'TLS' if tls else 'plain'} connections",
                f"{megabytes(full)} ({(full - before) * 1024 / MANY / 1000:.1f} kB each)")
        server.stop()
        server.start()
        peak_since(server)
        with Client(server.port) as client:
            client.greet()
            answer = client.deliver("carol@peer.test", ["ann@home.test"], letter("largest", LARGEST - 4096))
            assert answer.code == 250, answer
        row("peak while receiving a message of 35 MB", megabytes(server.memory("VmHWM")))
        peak_since(server)
        smtp_source(server.port, 50, 3000, 4096)
        row("peak while taking 3,000 messages on 50 connections", megabytes(server.memory("VmHWM")))
        low, end = server.memory(), time.monotonic() + 15
        while time.monotonic() < end:
            time.sleep(1)
            low = min(low, server.memory())
        row("idle after that burst", megabytes(low))
        say(f"filling with {stored:,} messages")
        smtp_source(server.port, 50, stored, 1000)
        server.stop()
        times = []
        for _ in range(5):
            times.append(server.start())
            server.stop()
        row(f"start to first 220, {stored:,} messages stored", f"{sorted(times)[2] * 1000:.0f} ms")
    return found


def million(base, say, small=1000, large=1_000_000):
    """What one accepted message costs with few and with many stored. The filled directory is kept in .cache/bench."""
    found = []
    kept = os.path.join(ROOT, ".cache", "bench", f"filled-{large}")
    for stored in (small, large):
        with Pipit(os.path.join(base, f"stored-{stored}")) as server:
            os.makedirs(server.base)
            if stored == large and os.path.isdir(kept):
                subprocess.run(["cp", "-a", "--reflink=auto", kept, server.directory], check=True)
            server.prepare()
            server.start()
            if not (stored == large and os.path.isdir(kept)):
                say(f"filling with {stored:,} messages")
                for _ in range(max(1, stored // 50_000)):
                    smtp_source(server.port, 50, min(stored, 50_000), 1000)
                if stored == large:
                    server.stop()
                    os.makedirs(os.path.dirname(kept), exist_ok=True)
                    shutil.copytree(server.directory, kept, ignore=shutil.ignore_patterns("*.sock"))
                    server.start()
            rates, costs = [], []
            for _ in range(5):
                settle(server)
                before = cpu_seconds(server.processes())
                rates.append(2000 / smtp_source(server.port, 10, 2000, 4096))
                settle(server)
                costs.append((cpu_seconds(server.processes()) - before) / 2)
            row = f"4 KB at 10 connections with {stored:,} messages stored", f"{sorted(rates)[2]:,.0f}/s, {sorted(costs)[2]:.2f} CPU s per 1,000"
            say(": ".join(row))
            found.append(row)
    return found


def static_binary(say):
    """Octets of a stripped static build, built in target/static."""
    target = "x86_64-unknown-linux-gnu" if os.uname().machine == "x86_64" else "aarch64-unknown-linux-gnu"
    say("building the static binary")
    environment = {**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static", "CARGO_TARGET_DIR": os.path.join(ROOT, "target", "static")}
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "pipit", "--target", target], cwd=ROOT, env=environment, check=True)
    built = os.path.join(ROOT, "target", "static", target, "release", "pipit")
    copy = built + ".stripped"
    subprocess.run(["strip", "-o", copy, built], check=True)
    return [("static binary, stripped", f"{os.path.getsize(copy) / 1e6:.1f} MB")]
