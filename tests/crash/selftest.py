#!/usr/bin/env python3
"""selftest: shows that kill9, deliveries and powercut fail a server that deserves it.

Purpose: a test that cannot fail proves nothing. A toy server with faults on demand must be caught each time,
         and for deliveries, which Postfix stands in for, a far end that lies.
Usage:   tests/crash/selftest.py     (about 1 minute, needs no pipit)
Result:  one line a fault, the closing line; exit status 0 when every fault was caught and the honest toy passed.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from rig.outcome import Outcome

CASES = (
    ("kill9.py", "toy:full", ["--rounds", "3"], 0, ""),
    ("kill9.py", "toy:early", ["--rounds", "4"], 1, "FAIL nothing acknowledged is lost"),
    ("kill9.py", "toy:twice", ["--rounds", "2"], 1, "FAIL nothing is there twice"),
    ("kill9.py", "toy:damage", ["--rounds", "2"], 1, "FAIL nothing is damaged"),
    ("deliveries.py", "postfix", ["--rounds", "3", "--messages", "100"], 0, ""),
    ("deliveries.py", "postfix", ["--rounds", "2", "--messages", "100", "--fault", "forget"], 1, "FAIL nothing acknowledged is lost"),
    ("deliveries.py", "postfix", ["--rounds", "2", "--messages", "100", "--fault", "mute"], 1, "FAIL each repetition is the last message"),
    ("deliveries.py", "postfix", ["--rounds", "2", "--messages", "100", "--fault", "repeat"], 1, "FAIL each repetition is the last message"),
    ("powercut.py", "toy:full", ["--cuts", "20", "--messages", "80"], 0, ""),
    ("powercut.py", "toy:off", ["--cuts", "20", "--messages", "80"], 1, "FAIL strict: nothing acknowledged is lost"),
    ("powercut.py", "toy:off", ["--cuts", "20", "--messages", "80"], 1, "FAIL every acknowledgement had a completed sync of its own"),
    ("powercut.py", "toy:full", ["--cuts", "20", "--messages", "80", "--forget", "folder-syncs"], 1, "FAIL strict: nothing acknowledged is lost"),
    ("powercut.py", "toy:early", ["--cuts", "20", "--messages", "80"], 1, "FAIL strict: nothing acknowledged is lost"),
)


def main():
    with Outcome("selftest") as outcome:
        for tool, toy, options, status, words in CASES:
            done = subprocess.run([sys.executable, os.path.join(HERE, tool), "--server", toy, "--seed", "7", *options], capture_output=True, text=True, timeout=300)
            caught = done.returncode == status and words in done.stdout
            outcome.check(f"{' '.join((tool, *options[4:]))} {'passes' if status == 0 else 'catches'} {toy}{': ' + words[5:] if words else ''}", caught,
                          "" if caught else done.stdout[-900:] + done.stderr[-500:])
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
