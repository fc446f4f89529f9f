"""What all attacks stand on: the house (a server, what it acknowledged, its memory), threads, clients, a network.

Purpose: one way of measuring an attack: survived, within memory, others served, stored what was acknowledged.
Usage:   house = House(outcome, server); with house.attack("what"): ...; house.served("what")
Result:  checks of `outcome`.
"""

import contextlib
import os
import re
import ssl
import subprocess
import sys
import threading
import time

from rig.wire import Client, letter

ANN, CAROL = "ann@home.test", "carol@peer.test"
CEILING, IDLE = 64 * 1024, 16 * 1024
HEAD = b"From: <carol@peer.test>\r\nSubject: limits\r\nMessage-ID: <%s@limits.peer.test>\r\n"


class House:
    """The server, what it acknowledged, and its memory."""

    def __init__(self, outcome, server):
        self.outcome, self.server, self.acknowledged, self.serial = outcome, server, set(), 0

    def name(self):
        self.serial += 1
        return f"limits-{self.serial:05d}"

    def note(self, name, answer):
        if answer.code == 250:
            self.acknowledged.add(name)
        return answer

    def served(self, what, patience=5.0, source="127.0.0.2"):
        """A well-behaved client is served within `patience`."""
        began, name = time.monotonic(), self.name()
        try:
            with Client(self.server.port, self.server.host, source, patience) as client:
                client.greet()
                answer = self.note(name, client.deliver(CAROL, [ANN], letter(name, 2000)))
                detail = answer.text
        except OSError as error:
            answer, detail = None, str(error)
        took = time.monotonic() - began
        self.outcome.check(f"{what}: another client is served", answer is not None and answer.code == 250 and took <= patience, f"{took:.2f} s, {detail}")

    @contextlib.contextmanager
    def attack(self, what):
        """Measure the peak of resident memory during an attack; afterwards the server must be alive."""
        with open(f"/proc/{self.server.pid}/clear_refs", "w") as file:
            file.write("5")
        began = time.monotonic()
        try:
            yield
        except OSError as error:
            self.outcome.check(f"{what}: the attack ran to its end", False, repr(error))
        alive = self.server.process.poll() is None
        peak = self.server.memory("VmHWM") if alive else 0
        self.outcome.check(f"{what}: survived within {CEILING // 1024} MB", alive and peak <= CEILING,
                           f"peak {peak / 1024:.1f} MB, {time.monotonic() - began:.1f} s" if alive else "it died: " + self.server.last_words(600))
        if not alive:
            self.server.process = None
            self.server.start()

    def settle(self):
        """What the store holds is what was acknowledged, and memory went back."""
        low, end = self.server.memory(), time.monotonic() + 45
        while low > IDLE and time.monotonic() < end:
            time.sleep(1)
            low = min(low, self.server.memory())
        self.outcome.check(f"idle again: at most {IDLE // 1024} MB", low <= IDLE, f"{low / 1024:.1f} MB")
        listed = sorted(row["message_id"].strip("<>").split("@")[0] for row in self.server.messages(ANN))
        extra = [one for one in listed if one not in self.acknowledged]
        self.outcome.check("stored is exactly what was acknowledged", listed == sorted(self.acknowledged),
                           f"{len(listed)} stored, {len(self.acknowledged)} acknowledged, not acknowledged: {extra[:4]}")


def in_threads(count, action, patience=120):
    """Run action(n) in `count` threads; what they return, in order, None for those that failed."""
    found = [None] * count

    def one(n):
        with contextlib.suppress(OSError, ssl.SSLError):
            found[n] = action(n)

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.1, end - time.monotonic()))
    return found


def in_data(port, source=None, patience=60):
    """A client behind its 354."""
    client = Client(port, source=source, patience=patience)
    client.greet()
    client.envelope(CAROL, [ANN])
    answer = client.command("DATA")
    if answer.code != 354:
        client.close()
        raise ConnectionError(f"no 354 but {answer.text!r}")
    return client


NET = "192.0.2"


def in_namespace(outcome, part):
    """Loopback is exempt from limits per address, so such parts run again in a network namespace of their own, whose loopback
    device carries 192.0.2.0/24 (documentation addresses): nothing leaves the machine. True: we are inside."""
    if os.environ.get("PIPIT_NAMESPACE"):
        return True
    inside = "ip link set lo up && ip addr add 192.0.2.0/24 dev lo && exec \"$@\""
    done = subprocess.run(["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", inside, "sh", sys.executable, os.path.abspath(sys.argv[0]), part],
                          env={**os.environ, "PIPIT_NAMESPACE": "1"}, capture_output=True, text=True, timeout=300)
    print("".join(line + "\n" for line in done.stdout.splitlines() if f"limits/{part}" not in line), done.stderr[-2000:], end="")
    counts = re.search(rf"^limits/{part}: (\d+) passed, (\d+) failed", done.stdout, re.M)
    if counts:
        outcome.passed, outcome.failed = outcome.passed + int(counts[1]), outcome.failed + int(counts[2])
    else:
        outcome.check("a network namespace could be made", False, done.stderr[-300:])
    return False
