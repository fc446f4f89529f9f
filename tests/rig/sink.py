"""A sink: mail servers of the world in one thread, that take everything and remember what they took, and when.

Purpose: the far end of deliveries, with a ledger as exact as the judgement needs: per connection, in order, before and after 250.
Usage:   with Sink(["127.0.1.1", "127.0.1.2"], port) as sink: ...; sink.taken; sink.in_flight()
         `patience()` gives the seconds to wait before the reply to the final dot (for kills in between); `answer(recipient)` may
         give another reply than 250 to RCPT; `keywords` replaces the EHLO list.
Result:  `taken`: a list of Taken, one for each message whose final dot came in, written down *before* the 250 is sent.
"""

import asyncio
import threading
from dataclasses import dataclass, field

EHLO = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass
class Taken:
    """One message as it came in."""

    ident: str                      # what stands in X-Ledger, else ""
    sender: str
    recipients: list
    connection: int                 # serial number of the connection
    place: int                      # how many messages this connection had brought before
    octets: bytes = field(repr=False, default=b"")
    replied: bool = False           # the 250 went out


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink):
        self.sink, self.waiting, self.in_data = sink, bytearray(), False
        self.sender, self.recipients, self.under_way, self.place = None, [], False, 0

    def connection_made(self, transport):
        self.transport = transport
        self.sink.serial += 1
        self.serial = self.sink.serial
        self.sink.open[self.serial] = self
        self.say("220 sink.peer.test ESMTP")

    def connection_lost(self, _):
        self.sink.open.pop(self.serial, None)

    def say(self, text):
        if not self.transport.is_closing():
            self.transport.write(text.encode() + b"\r\n")

    def data_received(self, octets):
        self.waiting += octets
        while not self.paused():
            if self.in_data:
                end = self.waiting.find(b"\r\n.\r\n")
                if end < 0 and self.waiting[:3] != b".\r\n":
                    return
                body = bytes(self.waiting[:end + 2] if end >= 0 else b"")
                del self.waiting[:(end + 5) if end >= 0 else 3]
                self.in_data = False
                self.take(body)
            else:
                end = self.waiting.find(b"\r\n")
                if end < 0:
                    return
                line = bytes(self.waiting[:end]).decode("utf-8", "replace")
                del self.waiting[:end + 2]
                self.command(line)

    def paused(self):
        """The reply to a final dot is still to come: what follows waits."""
        return self.under_way == "dot"

    def command(self, line):
        verb = line[:4].upper()
        if verb == "EHLO":
            self.say("\r\n".join([f"250-{word}" for word in ("sink.peer.test", *self.sink.keywords[:-1])] + [f"250 {self.sink.keywords[-1]}"]))
        elif verb == "MAIL":
            self.sender, self.recipients, self.under_way = between_brackets(line), [], "envelope"
            self.say("250 2.1.0 fine")
        elif verb == "RCPT":
            reply = self.sink.answer(between_brackets(line))
            if reply.startswith("2"):
                self.recipients.append(between_brackets(line))
            self.say(reply)
        elif verb == "DATA":
            self.in_data = bool(self.recipients)
            self.say("354 go on" if self.recipients else "554 5.5.1 no recipient")
        elif verb == "QUIT":
            self.say("221 2.0.0 bye")
            self.transport.close()
        elif verb in ("RSET", "NOOP", "HELO"):
            self.under_way = False
            self.say("250 2.0.0 fine")
        else:
            self.say("502 5.5.1 not here")

    def take(self, body):
        if self.sink.keep:
            body = body.replace(b"\r\n..", b"\r\n.")
            body = body[1:] if body.startswith(b"..") else body
        taken = Taken(ident_of(body), self.sender, self.recipients, self.serial, self.place, body if self.sink.keep else b"")
        self.place += 1
        self.sink.taken.append(taken)
        wait = self.sink.patience()
        if wait:
            self.under_way = "dot"
            self.sink.loop.call_later(wait, self.acknowledge, taken)
        else:
            self.acknowledge(taken)

    def acknowledge(self, taken):
        self.under_way = False
        if self.sink.mute_every and len(self.sink.taken) % self.sink.mute_every == 0:
            self.transport.abort()
        if not self.transport.is_closing():
            taken.replied = True
            self.say(f"250 2.0.0 taken as {len(self.sink.taken)}")
            if self.waiting:
                self.data_received(b"")


def between_brackets(line):
    return line.partition("<")[2].partition(">")[0]


def ident_of(body):
    start = body.find(b"X-Ledger: ")
    return body[start + 10:body.find(b"\r", start)].decode("ascii", "replace") if start >= 0 else ""


class Sink:
    """All the servers; one port on every address."""

    def __init__(self, addresses, port, patience=lambda: 0, keep=True):
        self.addresses, self.port, self.patience, self.keep = list(addresses), port, patience, keep
        self.keywords, self.answer = EHLO, lambda recipient: "250 2.1.5 fine"
        self.mute_every = 0  # every so many messages the connection is cut instead of the 250: the sender must repeat
        self.taken, self.open, self.serial = [], {}, 0
        self.loop, self.listeners = asyncio.new_event_loop(), []
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(20)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    async def listen(self):
        for address in self.addresses:
            self.listeners.append(await self.loop.create_server(lambda: Session(self), address, self.port, backlog=200))

    def in_flight(self):
        """Serial numbers of connections that are between MAIL and the reply to the final dot."""
        return self.ask(lambda: [serial for serial, session in self.open.items() if session.under_way])

    def ask(self, question):
        """The answer of a function that runs in the sink's own thread, where nothing changes meanwhile."""
        async def asked():
            return question()
        return asyncio.run_coroutine_threadsafe(asked(), self.loop).result(20)
