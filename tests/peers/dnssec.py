#!/usr/bin/env python3
"""dnssec: what we say about zones that are wrong in every way, beside a live unbound that validates.

Purpose: one table from one run: situation, what must come out, `pipit dns lookup`, unbound 1.26 or later. A difference
         between us and unbound that the situation does not explain is a failure, and so is one that is gone.
Usage:   tests/peers/dnssec.py [--table FILE] [NAME…]      names of situations (rig/signed_tree.py); PIPIT=/path/to/pipit
Needs:   bind9-utils, ldnsutils, bind9-dnsutils, mmdebstrap (for nsd and unbound of sid, see rig/nameservers.py).
Result:  the table, the closing line, exit status 0 or 1. Codes are those of RFC 8914: unbound tells 6 (DNSSEC bogus) where we
         name the reason, and no code beside an insecure answer; any other code that differs is a failure.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig import nameservers
from rig.outcome import Outcome
from rig.pipit import program
from rig.signed_tree import SITUATIONS
from rig.signed_tree import SignedTree


def ours(pipit, upstream, anchor, situation):
    """Status, EDE codes and reason of `pipit dns lookup`."""
    words = [pipit, "dns", "lookup", "--json", "--upstream", f"127.0.0.1:{upstream}", "--trust-anchor", anchor, situation.question, situation.kind]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30)
    if not result.stdout.startswith("{"):
        raise RuntimeError(f"{' '.join(words)}: exit {result.returncode}: {result.stdout}{result.stderr}")
    answer = json.loads(result.stdout)
    bad = answer["status"] in ("bogus", "indeterminate")
    assert result.returncode == (1 if bad else 0), f"{situation.name}: exit status {result.returncode} beside {answer['status']}"
    assert (answer["rcode"] == "SERVFAIL") == bad, f"{situation.name}: {answer['rcode']} beside {answer['status']}"
    return answer["status"], [error["code"] for error in answer["ede"]], "; ".join(error["text"] for error in answer["ede"])


def dig(port, situation, *more):
    out = subprocess.run(["dig", "@127.0.0.1", "-p", str(port), "+time=9", "+tries=1", "+dnssec", *more, situation.question, situation.kind],
                         capture_output=True, text=True).stdout
    rcode, flags = re.search(r"status: (\w+)", out), re.search(r"flags:([^;]*);", out)
    return rcode[1] if rcode else "none", flags[1].split() if flags else [], [int(code) for code in re.findall(r"^; EDE: (\d+)", out, re.M)]


def theirs(port, situation):
    """Status and EDE codes of unbound. SERVFAIL is bogus if the records are there with CD."""
    rcode, flags, errors = dig(port, situation)
    if rcode in ("NOERROR", "NXDOMAIN"):
        return "secure" if "ad" in flags else "insecure", errors
    return "bogus" if dig(port, situation, "+cd")[0] in ("NOERROR", "NXDOMAIN") else "indeterminate", errors


def shown(status, errors):
    return f"{status} {','.join(map(str, errors))}".strip()


def judge(outcome, situation, mine, other):
    """Counts one row; gives it as text."""
    status, errors, reason = mine
    right = status == situation.expect and (errors[:1] == [] if not situation.ede else set(errors[:1]) <= situation.ede and errors)
    expected = shown(situation.expect, sorted(situation.ede)).replace(",", "|")
    explained = situation.unbound or situation.expect
    # Unbound has 6 for what it cannot name, and says nothing beside an answer.
    told = other[1][:1] in ([], [6]) or set(other[1][:1]) <= situation.ede
    row = f"{situation.name:26} {situation.kind:5} {expected:22} {shown(status, errors):22} {shown(*other):22} {situation.why}".rstrip()
    held = right and told and other[0] == explained
    outcome.check(row, held, "" if held else f"unbound was expected to say {explained}; we said: {reason}")
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="write the table there, too")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    situations = [s for s in SITUATIONS if not options.names or s.name in options.names or s.name == "opt-out"]
    with Outcome("peers/dnssec") as outcome:
        pipit = program()
        with SignedTree(situations) as tree, nameservers.Unbound(nameservers.recursive_conf(tree.stubs)) as router:
            with nameservers.Unbound(nameservers.validating_conf(f"127.0.0.1@{router.port}", tree.anchor)) as validator:
                head = f"{'situation':26} {'asked':5} {'expected':22} {'pipit':22} {'unbound ' + nameservers.version():22} why they differ"
                outcome.note(head)
                with concurrent.futures.ThreadPoolExecutor(4) as pool:
                    mine = pool.map(lambda s: ours(pipit, router.port, tree.anchor, s), situations)
                    other = pool.map(lambda s: theirs(validator.port, s), situations)
                    rows = [judge(outcome, *row) for row in zip(situations, mine, other)]
        if options.table:
            with open(options.table, "w") as out:
                out.write("\n".join([head, *rows]) + "\n")
    return outcome.finish()


if __name__ == "__main__":
    sys.exit(main())
