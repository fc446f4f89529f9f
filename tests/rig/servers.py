"""The server under test by name.

Usage:   add_option(parser); under_test = server(chosen.server, base)
Result:  Pipit, or a stand-in of the same interface that proves the test itself: `postfix`, `toy:full`, `toy:off`, …
"""

from rig.pipit import Pipit
from rig.postfix_instance import Postfix
from rig.toy import Toy


def add_option(parser):
    parser.add_argument("--server", default="pipit", help="pipit (default), postfix, or toy:MODE (see rig/toy.py)")


def server(name, base, limits=None):
    kind, _, mode = name.partition(":")
    if kind == "postfix":
        return Postfix(base)
    return Toy(base, mode or "full") if kind == "toy" else Pipit(base, limits)
