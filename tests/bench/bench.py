#!/usr/bin/env python3
"""bench: the figures of README.md, measured here.

Usage:   tests/bench/run [--rounds 5] [--quick] [--million] [--no-static] [--only load|memory] [--write-readme]
         --quick: one round of a tenth of the messages, to see that everything works (the figures mean nothing)
         --million: also the cost of a message with 1,000,000 stored (fills once, kept in .cache/bench)
Result:  a Markdown table on stdout; with --write-readme it replaces what stands between the two `<!-- bench -->` lines of
         README.md. Progress goes to stderr. Exit 2 on a file system that syncs nothing real.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from load import CONNECTIONS, SIZES, file_system, sync_latency, syncs, throughput
from memory import million, rows, static_binary
from rig.outcome import ROOT, Scratch
from rig.pipit import Pipit, program
from rig.postfix_instance import Postfix

MARK = "<!-- bench -->"


def say(text):
    print(f"  {datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def command(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def setting(base):
    """What the figures were measured on."""
    kind, device = file_system(base)
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    revision = command("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    postfix = command("postconf", "-h", "mail_version")
    return (f"Measured {datetime.date.today()} at {revision} on {os.cpu_count()} cores ({model}), Linux {platform.release()}, {kind} on {device}, "
            f"a 4 KiB write with fdatasync takes {sync_latency(base):.2f} ms (median). Peer: Debian's Postfix {postfix} storing to a Maildir, its "
            f"default syncs. Generator: smtp-source for both; medians of interleaved rounds.")


def load_table(base, chosen):
    servers = [Pipit(os.path.join(base, "pipit")), Postfix(base)]
    os.makedirs(servers[0].base)
    try:
        for server in servers:
            server.start()
        found = throughput(servers, 1 if chosen.quick else chosen.rounds, say, 0.1 if chosen.quick else 1.0)
        counted = {}
        for server in servers:
            for connections in (1, 50):
                counted[server.name, connections] = syncs(server, connections)
                say(f"{server.name}: {counted[server.name, connections]:.0f} syncs per 1,000 messages at {connections} connections")
    finally:
        for server in servers:
            server.kill9()
    lines = ["| accepted mail | Pipit | Postfix | Pipit, CPU s per 1,000 | Postfix, CPU s per 1,000 |", "|---|---:|---:|---:|---:|"]
    for size in SIZES:
        for connections in CONNECTIONS:
            ours, theirs = found["pipit", size, connections], found["postfix", size, connections]
            plural = "" if connections == 1 else "s"
            lines.append(f"| {'4 KB' if size == 4096 else '100 KB'}, {connections} connection{plural} | {ours[0]:,.0f}/s | {theirs[0]:,.0f}/s | {ours[1]:.2f} | {theirs[1]:.2f} |")
    for connections in (1, 50):
        lines.append(f"| syncs per 1,000 messages, {connections} connection{'' if connections == 1 else 's'} | {counted['pipit', connections]:,.0f} "
                     f"| {counted['postfix', connections]:,.0f} | | |")
    return lines


def memory_table(base, chosen):
    found = rows(base, say, 5_000 if chosen.quick else 100_000)
    if chosen.million:
        found += million(base, say, large=50_000 if chosen.quick else 1_000_000)
    if not chosen.no_static:
        found += static_binary(say)
    return ["| memory and start | Pipit |", "|---|---:|"] + [f"| {what} | {value} |" for what, value in found]


def write_readme(text):
    path = os.path.join(ROOT, "README.md")
    with open(path) as file:
        parts = file.read().split(MARK)
    if len(parts) != 3:
        raise SystemExit(f"README.md needs exactly two lines {MARK}, it has {len(parts) - 1}")
    with open(path, "w") as file:
        file.write(f"{parts[0]}{MARK}\n{text}\n{MARK}{parts[2]}")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    for flag in ("--quick", "--million", "--no-static", "--write-readme"):
        options.add_argument(flag, action="store_true")
    options.add_argument("--only", choices=("load", "memory"))
    chosen = options.parse_args()
    program()
    with Scratch("bench") as base:
        try:
            parts = [setting(base)]
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
        if chosen.only != "memory":
            parts.append("\n".join(load_table(base, chosen)))
        if chosen.only != "load":
            parts.append("\n".join(memory_table(base, chosen)))
    text = "\n\n".join(parts)
    print(text)
    if chosen.write_readme:
        write_readme(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
