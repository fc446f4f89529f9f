"""Outcome: counts and prints what a test found.

Purpose: one way of saying "this promise held" or "it did not", readable in a log.
Usage:   with Outcome("kill9") as o: o.check("nothing lost", lost == 0, f"{lost} lost"); sys.exit(o.finish())
Result:  a line per check, the closing line `kill9: N passed, N failed`, exit status 0 or 1. An exception inside the
         `with` block is one failed check ("ran to its end"), its traceback is printed, and clean-up still happens.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

# `timeout` and CI end a test by SIGTERM: then too the servers it started must go.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Outcome:
    """The verdicts of one test."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped, self.began = name, 0, 0, 0, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            traceback.print_exception(kind, error, trace, file=sys.stdout)
            self.check("ran to its end", False, f"{kind.__name__}: {error}")
            return True
        return False

    def check(self, what, held, detail=""):
        """Count one verdict and print it; gives `held` back."""
        self.passed, self.failed = self.passed + bool(held), self.failed + (not held)
        print(f"  {'ok  ' if held else 'FAIL'} {what}{': ' + str(detail) if detail not in ('', None) else ''}", flush=True)
        return bool(held)

    def skip(self, what, why):
        """Say that something was not looked at, and why."""
        self.skipped += 1
        print(f"  skip {what}: {why}", flush=True)

    def note(self, text):
        """A figure that is not a verdict."""
        print(f"       {text}", flush=True)

    def ends_clean(self, server):
        """Stop the server; what it leaves on disk must be sound."""
        server.stop()
        wrong = server.complaints()
        self.check("store check is clean", not wrong, wrong)

    def finish(self):
        """Print the closing line; the exit status of the test."""
        if self.passed + self.failed == 0:
            self.check("something was tested", False)
        print(f"  {self.name} took {time.monotonic() - self.began:.1f} s")
        print(f"{self.name}: {self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0


class Scratch:
    """A directory on the disk of the tree (never tmpfs by accident), removed at the end unless PIPIT_KEEP is set.

    It is world-traversable, because Postfix's daemons give up root."""

    def __init__(self, name, parent=None):
        parent = parent or os.environ.get("PIPIT_SCRATCH") or os.path.join(ROOT, "target", "house")
        os.makedirs(parent, exist_ok=True)
        self.path = tempfile.mkdtemp(prefix=name + "-", dir=parent)
        os.chmod(self.path, 0o755)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        if os.environ.get("PIPIT_KEEP"):
            print(f"  kept {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)
