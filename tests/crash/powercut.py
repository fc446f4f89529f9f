#!/usr/bin/env python3
"""powercut: power cuts at random points of a recorded run, in an ordered and a strict model of the disk.

Purpose: R1 and R2: a 250 is only said when the message would survive a power cut at that very moment.
Usage:   tests/crash/powercut.py [--cuts 100] [--messages 300] [--seed N] [--server pipit|toy:full|toy:off]
         [--forget folder-syncs|file-syncs]   acts as if the server had not made these: the run must then fail
Result:  lost, duplicated and corrupt counts of each model, closing line; exit 0 all held, 1 a promise broke,
         2 the tool could not do its work (no compiler, no recording).

How: the server runs under recorder.so while ten sessions send mail of all sizes and some sessions break off in the middle.
Then the log is replayed (replay.py): for each cut the directory is built as the cut could have left it, and the offline
command line looks at it. Every message acknowledged before the cut must be there exactly once and intact, every other
one at most once and intact, `store check` clean. Every tenth directory is also served: it must greet and take a message.
The run fails when some acknowledgement had no completed sync of its own (begun after the acknowledgement before it on the
same connection): then syncs are missing, or they go past the recorder and the replay proves nothing.
"""

import argparse
import os
import pwd
import random
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.outcome import Outcome, Scratch
from rig.pipit import service_user
from rig.servers import add_option, server
from rig.wire import Client, letter, stuffed, trouble_with
from replay import ORDERED, STRICT, Disk, events

SESSIONS = 10
HERE = os.path.dirname(os.path.abspath(__file__))


def without_syncs(recorded, folders):
    """The recording without the syncs of folders, or of files."""
    known = {event.inode for event in recorded if event.kind == "S" or event.kind == "O" and event.argument}
    return [event._replace(flags=event.flags & ~1) if event.kind == "W" and not folders else event
            for event in recorded if event.kind not in "BE" or (event.inode in known) != folders]


FORGOTTEN = {"folder-syncs": lambda recorded: without_syncs(recorded, True), "file-syncs": lambda recorded: without_syncs(recorded, False)}


class Load:
    """What was sent. `by_port[port]` are the idents acknowledged on a connection, in order."""

    def __init__(self, port, messages, seed):
        self.port, self.count, self.seed = port, messages, seed
        self.letters, self.by_port, self.refused = {}, {}, []

    def run(self):
        threads = [threading.Thread(target=self.session, args=(n,), daemon=True) for n in range(SESSIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)

    def session(self, number):
        dice = random.Random(f"{self.seed}/{number}")
        client = None
        for n in range(self.count // SESSIONS):
            if client is None or dice.random() < 0.1:
                client = self.connect(client)
            size = dice.choice((1000, 4096, 4096, 4096, 4096, 30_000, 30_000, 70_000, 200_000, 1_200_000 if n % 4 == 0 else 4096))
            if dice.random() < 0.08:
                self.break_off(client, size)
                client = self.connect(None)
            ident = f"p{number:02d}-{n:04d}"
            octets = letter(ident, size)
            self.letters[ident] = octets
            answer = client.deliver("carol@peer.test", ["ann@home.test"], octets)
            if answer.code == 250:
                self.by_port.setdefault(client.local_port, []).append(ident)
            else:
                self.refused.append(answer.text or "closed")
                client = None

    def connect(self, old):
        if old is not None:
            old.quit()
        client = Client(self.port)
        client.greet()
        return client

    @staticmethod
    def break_off(client, size):
        """A client that goes away in the middle of its message."""
        client.envelope("carol@peer.test", ["ann@home.test"])
        client.command("DATA")
        client.send(stuffed(letter("broken-off", size + 1_500_000))[: size + 700_000])
        client.close()


def build_recorder(into):
    made = os.path.join(into, "recorder.so")
    done = subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", made, os.path.join(HERE, "recorder.c"), "-ldl", "-lpthread"])
    if done.returncode != 0:
        raise SystemExit(2)
    return made


def record(base, chosen, outcome):
    """Run the load under the recorder; (log path, load, the server)."""
    under_test = server(chosen.server, base)
    log = os.path.join(base, "recording")
    under_test.prepare()
    with under_test:
        under_test.start({"LD_PRELOAD": build_recorder(base), "RECORDER_DIR": under_test.directory, "RECORDER_LOG": log})
        load = Load(under_test.port, chosen.messages, chosen.seed)
        load.run()
        under_test.stop()
    if not os.path.exists(log):
        print("  the recorder wrote nothing: is the program static?")
        raise SystemExit(2)
    outcome.check("the load was accepted", not load.refused and len(load.letters) >= chosen.messages * 9 // 10, "; ".join(load.refused[:3]))
    return log, load, under_test


def survey(outcome, recorded, load):
    """Count syncs against acknowledgements; gives [(index in the log, ident)] of the acknowledgements."""
    turn, acks, last_ack, sync_end, unsynced = {}, [], {}, 0, 0
    begun, newest_begin = {}, -1
    for index, event in enumerate(recorded):
        if event.kind == "B":
            begun[event.inode, event.argument] = index
        elif event.kind == "E":
            newest_begin, sync_end = max(newest_begin, begun.pop((event.inode, event.argument), -1)), sync_end + 1
        elif event.kind == "W" and event.flags & 1:
            newest_begin, sync_end = index, sync_end + 1
        elif event.kind == "K":
            port = event.argument
            known = load.by_port.get(port, [])
            if turn.get(port, 0) < len(known):
                acks.append((index, known[turn.get(port, 0)]))
                turn[port] = turn.get(port, 0) + 1
                unsynced += newest_begin < last_ack.get(port, 0)
                last_ack[port] = index
    told = sum(len(idents) for idents in load.by_port.values())
    outcome.note(f"{len(recorded)} events, {sync_end} completed syncs, {len(acks)} acknowledgements recorded, {told} received by clients")
    outcome.check("the recorder saw every acknowledgement", len(acks) == told, f"{len(acks)} of {told}")
    outcome.check("every acknowledgement had a completed sync of its own", unsynced == 0 and sync_end > 0,
                  f"{unsynced} of {len(acks)} without, {sync_end} syncs seen")
    return acks


class Verdicts:
    """Counts over all cuts of one model."""

    def __init__(self):
        self.cuts = self.lost = self.doubled = self.corrupt = self.checks = self.unreadable = 0
        self.examples = []

    def add(self, what, example):
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 4:
            self.examples.append(f"{what}: {example}")


def give_away(folder):
    user = service_user()
    if user:
        owner = pwd.getpwnam(user)
        for where, _, names in os.walk(folder):
            for path in [where, *(os.path.join(where, name) for name in names)]:
                os.chown(path, owner.pw_uid, owner.pw_gid)


def look_at(after, load, acknowledged, verdicts, label):
    """Judge one directory."""
    verdicts.cuts += 1
    complaint = after.complaints()
    if complaint and acknowledged:
        verdicts.add("checks", f"{label}: {complaint}")
    try:
        listed = [row["message_id"].strip("<>").split("@")[0] for row in after.messages()]
        bodies = list(after.bodies())
    except Exception as error:  # whatever it is: what was acknowledged cannot be read
        if acknowledged:
            verdicts.add("unreadable", f"{label}: {error}")
            verdicts.lost += len(acknowledged)
        return
    copies = {}
    for raw in bodies:
        mark = raw.find(b"X-Ledger: ")
        ident = raw[mark + 10:mark + 18].decode("ascii", "replace")
        copies[ident] = copies.get(ident, 0) + 1
        wrong = trouble_with(raw, load.letters[ident]) if ident in load.letters else "a message nobody sent"
        if wrong:
            verdicts.add("corrupt", f"{label}: {ident}: {wrong}")
    for ident in acknowledged:
        if copies.get(ident, 0) == 0 or ident not in listed:
            verdicts.add("lost", f"{label}: {ident}")
    for ident, count in copies.items():
        if count > 1 or listed.count(ident) > 1:
            verdicts.add("doubled", f"{label}: {ident}")


def serve_again(after, verdicts, label):
    """The directory must also serve."""
    try:
        after.start()
        with Client(after.port) as client:
            client.greet()
            answer = client.deliver("carol@peer.test", ["ann@home.test"], letter("after-cut", 2000))
        if answer.code != 250:
            verdicts.add("unreadable", f"{label}: takes no mail: {answer.text}")
    except Exception as error:
        verdicts.add("unreadable", f"{label}: does not serve: {error}")
    finally:
        after.kill9()


def replay(outcome, chosen, recorded, acks, load, under_test, room):
    dice = random.Random(chosen.seed)
    first, last = (acks[0][0] if acks else 0), len(recorded)
    cuts = sorted([dice.randrange(1, first + 1) for _ in range(chosen.cuts // 20)]
                  + [dice.randrange(first, last) for _ in range(chosen.cuts // 2)]
                  + [min(last, dice.choice(acks or [(last, "")])[0] + 1) for _ in range(chosen.cuts - chosen.cuts // 20 - chosen.cuts // 2)])
    verdicts = {ORDERED: Verdicts(), STRICT: Verdicts()}
    disk, at = Disk(), 0
    for number, cut in enumerate(cuts):
        for event in recorded[at:cut]:
            disk.apply(event)
        at = cut
        acknowledged = [ident for index, ident in acks if index < cut]
        for model in (ORDERED, STRICT):
            base = os.path.join(room, "cut")
            after = under_test.at(base, os.path.join(base, "dir"))
            label = f"{model} cut at {cut}, {len(acknowledged)} acknowledged, {disk.build(after.directory, model, dice)}"
            after.prepare()
            give_away(base)
            look_at(after, load, acknowledged, verdicts[model], label)
            if number % 10 == 0:
                give_away(base)
                serve_again(after, verdicts[model], label)
            shutil.rmtree(base)
    outcome.check("the recorder understood every call", not disk.odd, "; ".join(disk.odd[:3]))
    outcome.note(f"written through maps: {', '.join(sorted(disk.mapped)) or 'nothing'}")
    for model, found in verdicts.items():
        outcome.note(f"{model}: {found.cuts} cuts: lost {found.lost}, duplicated {found.doubled}, corrupt {found.corrupt}, "
                     f"store check complained {found.checks}, unreadable or not serving {found.unreadable}")
        for example in found.examples:
            outcome.note(example[:400])
        outcome.check(f"{model}: nothing acknowledged is lost", found.lost == 0, found.lost)
        outcome.check(f"{model}: nothing is there twice", found.doubled == 0, found.doubled)
        outcome.check(f"{model}: nothing is damaged", found.corrupt + found.checks == 0, found.corrupt + found.checks)
        outcome.check(f"{model}: everything opens and serves", found.unreadable == 0, found.unreadable)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cuts", type=int, default=100)
    options.add_argument("--messages", type=int, default=300)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options.add_argument("--forget", choices=sorted(FORGOTTEN), help="act as if these syncs had not happened: the run must then fail")
    add_option(options)
    chosen = options.parse_args()
    replay_on = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with Outcome("powercut") as outcome, Scratch("powercut") as base, Scratch("replay", replay_on) as room:
        outcome.note(f"{chosen.cuts} cuts in each model, seed {chosen.seed}")
        log, load, under_test = record(base, chosen, outcome)
        recorded = list(events(log))
        if chosen.forget:
            recorded = FORGOTTEN[chosen.forget](recorded)
        acks = survey(outcome, recorded, load)
        replay(outcome, chosen, recorded, acks, load, under_test, room)
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
