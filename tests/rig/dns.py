#!/usr/bin/env python3
"""A tiny DNS server on loopback that looks like a recursive resolver and knows only what a test tells it.

Purpose: mail routing under test without the world: MX, addresses, aliases, broken and slow names, thousands of domains.
Usage:   with Dns("peer.test MX 10 mx.peer.test\nmx.peer.test A 127.0.0.2") as dns: dns.add("slow.test DELAY 2"); ...
         A line is `NAME TYPE VALUE`: MX, A, AAAA, CNAME, TXT, PTR, NS, or a fault of the whole name: `NAME SERVFAIL`, `NAME REFUSED`,
         `NAME SILENT` (no answer at all), `NAME DELAY SECONDS`; `NAME MX SERVFAIL` breaks one type. `wildcard(name)` gives lines
         for names not in the zone, or None. As a program: `dns.py PORT [FILE]` (for a look with dig).
Result:  UDP and TCP on one free port; `address` as text, `settings` for pipit.toml; `asked` counts (name, type). Unknown names are NXDOMAIN, known
         names without that type NODATA, both with an SOA; the question comes back letter for letter, EDNS is answered with EDNS.
"""

import collections
import heapq
import itertools
import selectors
import socket
import struct
import sys
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
NAMES = {number: name for name, number in TYPES.items()}
OPT = 41
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
FAULTS = {"SERVFAIL": SERVFAIL, "REFUSED": REFUSED, "SILENT": None}
# Without EDNS a UDP answer has 512 octets at most (RFC 1035 section 2.3.4).
PLAIN_UDP = 512
LONGEST_CHAIN = 12


def wire_name(name):
    """A name in wire form, not compressed."""
    labels = [label.encode("idna") if not label.isascii() else label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def rdata(kind, words):
    """The octets of a record from its words in a zone line."""
    if kind == "A":
        return socket.inet_pton(socket.AF_INET, words[0])
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, words[0])
    if kind == "MX":
        return struct.pack("!H", int(words[0])) + wire_name(words[1])
    if kind == "TXT":
        text = " ".join(words).strip('"').encode()
        return b"".join(bytes([len(piece)]) + piece for piece in (text[at:at + 255] for at in range(0, max(len(text), 1), 255)))
    if kind in ("CNAME", "PTR", "NS"):
        return wire_name(words[0])
    if kind == "TLSA":
        return bytes(map(int, words[:3])) + bytes.fromhex(words[3])
    raise ValueError(f"no record of type {kind} can be made")


class Node:
    """What is known of one name."""

    def __init__(self):
        self.records, self.faults, self.fault, self.delay = collections.defaultdict(list), {}, "", 0.0

    def take(self, words):
        kind = words[0].upper()
        if kind in FAULTS:
            self.fault = kind
        elif kind == "DELAY":
            self.delay = float(words[1])
        elif kind == "NXDOMAIN":
            raise ValueError("a name without lines is NXDOMAIN by itself")
        elif len(words) == 2 and words[1].upper() in FAULTS:
            self.faults[kind] = words[1].upper()
        else:
            self.records[kind].append(rdata(kind, words[1:]))


class Dns:
    """The server; one thread serves UDP and TCP."""

    def __init__(self, zone="", wildcard=None, ttl=5, host="127.0.0.1", port=0):
        self.lock, self.nodes, self.parents = threading.Lock(), {}, collections.Counter()
        self.wildcard, self.ttl = wildcard, ttl
        self.asked, self.deaf = collections.Counter(), False
        self.udp, self.tcp = bind_both(host, port)
        self.host, self.port = self.udp.getsockname()
        self.selector, self.late, self.serial = selectors.DefaultSelector(), [], itertools.count()
        self.running, self.thread = True, threading.Thread(target=self.serve, daemon=True)
        self.add(zone)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join(5)
        self.udp.close()
        self.tcp.close()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def settings(self):
        """The table `dns` of pipit.toml. Nothing is signed here: Pipit must take this server's word, or all mail would wait."""
        return {"upstream": [self.address], "trust-ad": True}

    def add(self, text):
        """Take lines into the zone."""
        with self.lock:
            for line in text.splitlines():
                words = line.split("#")[0].split()
                if words:
                    self.node(words[0]).take(words[1:])

    def remove(self, name):
        """Forget a name: it is NXDOMAIN from now on."""
        with self.lock:
            if self.nodes.pop(name.rstrip(".").lower(), None):
                self.parents.subtract(ancestors(name))

    def replace(self, name, text):
        """Forget a name and take lines."""
        self.remove(name)
        self.add(text)

    def node(self, name):
        key = name.rstrip(".").lower()
        if key not in self.nodes:
            self.nodes[key] = Node()
            self.parents.update(ancestors(key))
        return self.nodes[key]

    def find(self, key):
        """The node of a name in lower case, or None."""
        node = self.nodes.get(key)
        if node is None and self.wildcard:
            lines = self.wildcard(key)
            if lines:
                for line in lines.splitlines() if isinstance(lines, str) else lines:
                    self.node(line.split()[0]).take(line.split()[1:])
                node = self.nodes.get(key)
        return node

    def answer(self, query, most):
        """(seconds to wait, octets of the answer or None)."""
        try:
            ident, flags, questions, _, _, extra = struct.unpack_from("!6H", query)
            name, at = read_name(query, 12)
            kind, _ = struct.unpack_from("!2H", query, at)
            question = query[12:at + 4]
            if questions != 1 or flags & 0x8000:
                return 0, None
        except (struct.error, IndexError, UnicodeDecodeError):
            return 0, None
        size, do = edns(query, at + 4) if extra else (0, 0)
        kind = NAMES.get(kind, str(kind))
        with self.lock:
            self.asked[name, kind] += 1
            delay, code, answers = self.look_up(name, kind)
        if code is None:
            return 0, None
        # QR, RA, the query's opcode and RD; nothing here is validated, so never AD.
        head = 0x8080 | flags & 0x7900 | code
        tail, extras = b"", 0
        if not answers and code in (NOERROR, NXDOMAIN):
            tail = self.soa(name)
        if size:
            extras = 1
            opt = b"\0" + struct.pack("!HHIH", OPT, 1232, do, 0)
        body = b"".join(answers) + tail
        room = most or max(PLAIN_UDP, min(size, 4096))
        if 12 + len(question) + len(body) + 11 > room:
            head, answers, body, tail = head | 0x0200, [], b"", b""
        return delay, struct.pack("!6H", ident, head, 1, len(answers), bool(tail), extras) + question + body + (opt if extras else b"")

    def look_up(self, name, kind):
        """(delay, response code or None for silence, whole records as octets); follows aliases inside the zone."""
        answers, owner, delay = [], b"\xc0\x0c", 0.0
        for _ in range(LONGEST_CHAIN):
            node = self.find(name)
            if node is None:
                return delay, NOERROR if self.parents[name] > 0 or not name else NXDOMAIN, answers
            delay += node.delay
            fault = node.fault or node.faults.get(kind, "")
            if fault:
                return delay, FAULTS[fault], []
            alias = node.records.get("CNAME") if kind != "CNAME" else None
            for data in alias or node.records.get(kind, ()):
                answers.append(owner + struct.pack("!HHIH", TYPES["CNAME" if alias else kind], 1, self.ttl, len(data)) + data)
            if not alias:
                return delay, NOERROR, answers
            name, owner = read_name(alias[0], 0)[0], alias[0]
        return delay, SERVFAIL, []

    def soa(self, name):
        """The SOA of a negative answer, at the top of the tree below which all test names live."""
        top = wire_name(name.rpartition(".")[2])
        data = wire_name("ns.invalid") + wire_name("root.invalid") + struct.pack("!5I", 1, 3600, 600, 86400, self.ttl)
        return top + struct.pack("!HHIH", TYPES["SOA"], 1, self.ttl, len(data)) + data

    def serve(self):
        self.selector.register(self.udp, selectors.EVENT_READ, None)
        self.selector.register(self.tcp, selectors.EVENT_READ, None)
        while self.running:
            for key, _ in self.selector.select(min(0.2, self.until_late())):
                if key.fileobj is self.udp:
                    self.read_udp()
                elif key.fileobj is self.tcp:
                    connection, _ = self.tcp.accept()
                    connection.setblocking(False)
                    self.selector.register(connection, selectors.EVENT_READ, bytearray())
                else:
                    self.read_tcp(key.fileobj, key.data)
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, send = heapq.heappop(self.late)
                send()
        for key in list(self.selector.get_map().values()):
            if key.fileobj not in (self.udp, self.tcp):
                key.fileobj.close()

    def until_late(self):
        return max(0.0, self.late[0][0] - time.monotonic()) if self.late else 1.0

    def later(self, delay, send):
        if delay:
            heapq.heappush(self.late, (time.monotonic() + delay, next(self.serial), send))
        else:
            send()

    def read_udp(self):
        for _ in range(64):
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if self.deaf:
                continue
            delay, octets = self.answer(query, 0)
            if octets:
                self.later(delay, lambda octets=octets, peer=peer: quietly(self.udp.sendto, octets, peer))

    def read_tcp(self, connection, waiting):
        try:
            more = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.selector.unregister(connection)
            connection.close()
            return
        waiting += more
        while len(waiting) >= 2 and len(waiting) >= 2 + (length := int.from_bytes(waiting[:2], "big")):
            query = bytes(waiting[2:2 + length])
            del waiting[:2 + length]
            delay, octets = (0, None) if self.deaf else self.answer(query, 65535)
            if octets:
                self.later(delay, lambda octets=octets: quietly(connection.sendall, len(octets).to_bytes(2, "big") + octets))


def ancestors(name):
    """Every name above one."""
    labels = name.rstrip(".").lower().split(".")
    return [".".join(labels[n:]) for n in range(1, len(labels))]


def quietly(send, *arguments):
    """Send to someone who may have gone."""
    try:
        send(*arguments)
    except OSError:
        pass


def bind_both(host, port):
    """UDP and TCP sockets on one port."""
    for _ in range(50):
        tcp = socket.create_server((host, port), backlog=200)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        udp.setblocking(False)
        tcp.setblocking(False)
        return udp, tcp
    raise OSError("no port is free for both UDP and TCP")


def read_name(octets, at):
    """(name in lower case without the last dot, offset behind it); questions are never compressed."""
    labels = []
    while length := octets[at]:
        if length > 63:
            raise IndexError("a pointer in a question")
        labels.append(octets[at + 1:at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def edns(query, at):
    """(UDP size, TTL word reduced to DO) of an OPT record that follows the question; (0, 0) without one."""
    if len(query) >= at + 11 and query[at] == 0 and struct.unpack_from("!H", query, at + 1)[0] == OPT:
        size, word = struct.unpack_from("!HI", query, at + 3)
        return max(size, PLAIN_UDP), word & 0x8000
    return 0, 0


if __name__ == "__main__":
    with Dns(open(sys.argv[2]).read() if len(sys.argv) > 2 else "", port=int(sys.argv[1])) as server:
        print(server.address, flush=True)
        server.thread.join()
