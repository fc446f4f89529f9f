"""A bare SMTP client: it sends exactly the bytes it is told to, and says exactly what came back.

Purpose: smtplib hides what the tests are about (where a packet ends, a reply after a dead connection, bad bytes).
Usage:   c = Client(port); c.greet(); c.envelope("x@peer.test", ["ann@home.test"]); c.data(letter("m1", 4096))
Result:  every exchange gives a Reply(code, text); a closed connection gives Reply(0, "").
"""

import base64
import hashlib
import random
import socket
import ssl
import time
from collections import namedtuple

Reply = namedtuple("Reply", "code text")
CLOSED = Reply(0, "")


class Client:
    """One connection. `source` is the local address (any of 127.0.0.0/8); `tls`: from the first octet."""

    def __init__(self, port, host="127.0.0.1", source=None, patience=60.0, tls=False):
        self.socket = socket.create_connection((host, port), patience, (source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = careless_tls().wrap_socket(self.socket)
        self.waiting = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def local_port(self):
        return self.socket.getsockname()[1]

    def send(self, octets):
        """Send raw octets; gives False when the peer has gone."""
        try:
            self.socket.sendall(octets)
            return True
        except (ConnectionError, ssl.SSLError):
            return False

    def reply(self):
        """The next whole reply (all its lines), or CLOSED."""
        lines = []
        while True:
            end = self.waiting.find(b"\n")
            if end < 0:
                try:
                    more = self.socket.recv(65536)
                except (ConnectionError, ssl.SSLError):
                    more = b""
                if not more:
                    return CLOSED
                self.waiting += more
                continue
            line, self.waiting = self.waiting[:end], self.waiting[end + 1:]
            lines.append(line.rstrip(b"\r").decode("utf-8", "replace"))
            if len(lines[-1]) < 4 or lines[-1][3] != "-":
                code = lines[-1][:3]
                return Reply(int(code) if code.isdigit() else 0, "\n".join(lines))

    def command(self, text):
        """One command line and its reply."""
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def greet(self, name="client.peer.test"):
        """Greeting and EHLO; the EHLO reply."""
        first = self.reply()
        return self.command("EHLO " + name) if first.code == 220 else first

    def start_tls(self):
        """STARTTLS without checking the certificate, and EHLO again."""
        answer = self.command("STARTTLS")
        if answer.code != 220:
            return answer
        self.socket = careless_tls().wrap_socket(self.socket)
        return self.command("EHLO client.peer.test")

    def login(self, user, password):
        """AUTH PLAIN with an initial response (RFC 4616)."""
        return self.command("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())

    def envelope(self, sender, recipients, options=""):
        """MAIL and RCPTs; the first reply that is not 250, else the last."""
        answer = self.command(f"MAIL FROM:<{sender}>{options}")
        for recipient in recipients:
            if answer.code != 250:
                break
            answer = self.command(f"RCPT TO:<{recipient}>")
        return answer

    def data(self, message):
        """DATA, the stuffed message, the dot; the final reply (or DATA's, if that was not 354)."""
        answer = self.command("DATA")
        if answer.code != 354:
            return answer
        self.send(stuffed(message) + b".\r\n")
        return self.reply()

    def deliver(self, sender, recipients, message, options=""):
        """One whole transaction; the reply that decided."""
        answer = self.envelope(sender, recipients, options)
        return self.data(message) if answer.code == 250 else answer

    def quit(self):
        answer = self.command("QUIT")
        self.close()
        return answer

    def close(self):
        self.socket.close()


def careless_tls():
    """A TLS client context that accepts any certificate: what is tested is the server, not its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def stuffed(message):
    """The message with dots stuffed (RFC 5321 4.5.2); it must end in CRLF."""
    assert message.endswith(b"\r\n")
    body = message.replace(b"\r\n.", b"\r\n..")
    return b"." + body if body.startswith(b".") else body


def letter(ident, size, eight_bit=False, to="ann@home.test", sender="carol@peer.test"):
    """A message of about `size` octets whose every octet follows from `ident`, with dots at line starts.

    The same ident and size always give the same octets, so a ledger need not keep bodies."""
    dice = random.Random(f"{ident}/{size}")
    head = (f"X-Ledger: {ident}\r\nFrom: Carol <{sender}>\r\nTo: <{to}>\r\nSubject: ledger {ident}\r\n"
            f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{ident}@ledger.peer.test>\r\n")
    if eight_bit:
        head += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    lines, room = [], size - len(head) - 2
    block = [("." * dice.randint(0, 2) + dice.randbytes(24).hex() + ("ü–é" if eight_bit else "")).encode() for _ in range(64)]
    while room > 2:
        line = block[dice.randrange(64)][: max(1, room - 2)]
        try:
            line.decode()
        except UnicodeDecodeError:
            line = b"x" * len(line)
        lines.append(line)
        room -= len(line) + 2
    return head.encode() + b"\r\n" + b"".join(line + b"\r\n" for line in lines)


TRACE = {b"return-path", b"delivered-to", b"received", b"authentication-results", b"x-original-to", b"received-spf"}


def trouble_with(raw, sent):
    """Compare a stored message with what was sent: "" if it is byte for byte the same behind trace fields, else what is wrong."""
    if not raw.endswith(sent):
        alike = raw.replace(b"\r\n", b"\n").endswith(sent.replace(b"\r\n", b"\n"))
        return "line ends differ" if alike else f"octets differ ({len(raw)} stored, {len(sent)} sent)"
    front = raw[: len(raw) - len(sent)].replace(b"\r\n", b"\n")
    for line in front.split(b"\n"):
        if line and line[:1] not in b" \t" and line.split(b":")[0].lower() not in TRACE:
            return f"unexpected line in front: {line[:60]!r}"
    return ""


def digest(octets):
    """Short name of a body for messages."""
    return hashlib.sha256(octets).hexdigest()[:16]


def free_ports(count):
    """Ports of 127.0.0.1 that nobody listens on now (other builders share this machine)."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def first_greeting(port, patience, host="127.0.0.1"):
    """Seconds until the port greets with 220, or None; polls every 2 ms."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        try:
            with Client(port, host, patience=patience) as client:
                if client.reply().code == 220:
                    return time.monotonic() - began
        except (OSError, TimeoutError):
            pass
        time.sleep(0.002)
    return None
