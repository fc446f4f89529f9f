"""A toy mail server on SQLite, with faults on demand: it shows that the crash tests see what they should see.

Purpose: a test that has never failed proves nothing. selftest.py runs powercut.py and kill9.py against this one.
Usage:   server("toy:full") is honest; "toy:off" never syncs (the power-cut test must fail it), "toy:early" answers 250
         before it commits (kill9 must fail it), "toy:twice" stores now and then two copies, "toy:damage" breaks an octet.
Result:  the interface of rig.pipit.Pipit.  As a program: `toy.py PORT FILE MODE`.
"""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig.wire import first_greeting, free_ports


class Toy:
    name = "toy"

    def __init__(self, base, mode="full", directory=None):
        self.base, self.mode = base, mode
        self.directory = directory or os.path.join(base, "dir")
        (self.port,) = free_ports(1)
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill9()

    def prepare(self):
        os.makedirs(self.directory, exist_ok=True)

    def at(self, base, directory):
        """The same kind of server on another directory."""
        return Toy(base, self.mode, directory)

    @property
    def file(self):
        return os.path.join(self.directory, "store.sqlite")

    @property
    def pid(self):
        return self.process.pid

    def start(self, environment=None, wrapper=()):
        self.prepare()
        began = time.monotonic()
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), str(self.port), self.file, self.mode],
                                        env={**os.environ, **(environment or {})})
        if first_greeting(self.port, 20) is None:
            raise RuntimeError("the toy did not greet")
        return time.monotonic() - began

    def stop(self, patience=0):
        self.kill9()

    def kill9(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def bodies(self, address="ann@home.test"):
        with closing(sqlite3.connect(self.file)) as db:
            return [bytes(octets) for (octets,) in db.execute("select octets from message")]

    def messages(self, address="ann@home.test"):
        rows = []
        for raw in self.bodies():
            start = raw.find(b"Message-ID: ") + 12
            rows.append({"id": len(rows), "size": len(raw), "message_id": raw[start:raw.find(b"\r\n", start)].decode("utf-8", "replace")})
        return rows

    def complaints(self):
        try:
            with closing(sqlite3.connect(self.file)) as db:
                verdict = db.execute("pragma integrity_check").fetchone()[0]
            return "" if verdict == "ok" else verdict
        except sqlite3.Error as error:
            return str(error)


def session(sock, db, lock, mode):
    file = sock.makefile("rb")

    def say(text):
        sock.sendall(text.encode() + b"\r\n")

    say("220 toy")
    for line in file:
        verb = line[:4].upper()
        if verb == b"DATA":
            say("354 go")
            octets = bytearray()
            for line in file:
                if line == b".\r\n":
                    break
                octets += line[1:] if line.startswith(b".") else line
            else:
                return
            if mode == "early":
                say("250 2.0.0 ok, I will")
                time.sleep(0.05)
            with lock:
                if mode == "damage" and len(octets) > 5000:
                    octets[4000] ^= 1
                db.execute("insert into message values (?)", (bytes(octets),))
                if mode == "twice" and hash(bytes(octets)) % 7 == 0:
                    db.execute("insert into message values (?)", (bytes(octets),))
                db.commit()
            if mode != "early":
                say("250 2.0.0 ok")
        elif verb == b"QUIT":
            return say("221 2.0.0 bye")
        else:
            say("250 2.1.0 fine")


def serve(port, path, mode):
    db = sqlite3.connect(path, check_same_thread=False)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=" + ("off" if mode == "off" else "full"))
    db.execute("create table if not exists message (octets blob)")
    db.commit()
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    if mode != "off":
        os.fsync(folder)
    lock = threading.Lock()
    with socket.create_server(("127.0.0.1", port), backlog=200) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=guarded, args=(sock, db, lock, mode), daemon=True).start()


def guarded(sock, db, lock, mode):
    with sock:
        try:
            session(sock, db, lock, mode)
        except OSError:
            pass


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
