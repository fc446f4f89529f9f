"""A tree of zones below `test.`: some right, about eighty wrong in one way each, signed by real tools and served by nsd.

Purpose: the situations of extended-dns-errors.com by name, and some of our own, with keys that are new in each run.
Usage:   with SignedTree() as tree: …  tree.address is ADDRESS@PORT of nsd, tree.anchor a file with the DS of `test.`,
         tree.stubs pairs for Unbound. SITUATIONS say what is asked and what must come out.
Needs:   bind9-utils (dnssec-keygen, dnssec-signzone), ldnsutils (ldns-signzone), bind9-dnsutils (dig); nameservers.py has nsd.
Result:  every zone has MX, A, TXT at its apex, www, and a wildcard; two keys, a KSK and a ZSK, of P-256; NSEC3 without salt
         and iterations, unless the situation says otherwise.
"""

import base64
import concurrent.futures
import hashlib
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import time

from rig.nameservers import free_port
from rig.nameservers import program
from rig.nameservers import terminated

TOP = "test."
DAY = 86400
HEX = "0123456789abcdef"
BODY = """$ORIGIN {z}
$TTL 300
@ 600 SOA ns.test. admin.test. 1 3600 900 604800 120
@ NS ns.test.
@ A 192.0.2.1
@ MX 10 www.{z}
@ TXT "v=spf1 -all"
www A 192.0.2.2
_25._tcp.www TLSA 3 1 1 aabbccdd
alias CNAME www.{z}
a.ent A 192.0.2.3
*.wild A 192.0.2.4
"""


class Situation:
    """One zone and one question about it.

    ask       the name before the zone, and the type
    expect    our status; ede the set of codes of which the first reported one must be, None for none
    unbound   status of the other if that differs, and `why`
    """

    def __init__(self, name, expect, ede=(), ask="@ A", unbound=None, why="", **how):
        self.name, self.expect, self.ede, self.unbound, self.why, self.how = name, expect, set(ede), unbound, why, how
        label, self.kind = ask.split()
        self.zone = f"{name}.{TOP}"
        self.question = self.zone if label == "@" else f"{label}.{self.zone}"


def each(pattern, change):
    """An edit: `change` makes new lines of those that match."""
    def edit(lines, _):
        hits = [line for line in lines if re.search(pattern, line)]
        assert hits, f"no line matches {pattern}"
        return [new for line in lines for new in (change(line) if re.search(pattern, line) else [line])]
    return edit


def drop(pattern):
    return each(pattern, lambda line: [])


def replace(pattern, old, new):
    return each(pattern, lambda line: [re.sub(old, new, line)])


def spoil(pattern):
    """Another octet somewhere in the last word, which is base64."""
    return each(pattern, lambda line: [" ".join([*line.split()[:-1], other_octet(line.split()[-1])])])


def other_octet(text):
    octets = bytearray(base64.b64decode(text))
    octets[random.randrange(len(octets))] ^= 1 << random.randrange(8)
    return base64.b64encode(octets).decode()


def other_address(line):
    words = line.split()
    at = random.randrange(4)
    parts = words[-1].split(".")
    parts[at] = str(int(parts[at]) ^ 1 << random.randrange(8))
    return [" ".join([*words[:-1], ".".join(parts)])]


def sibling(pattern, days):
    """An edit: the matching lines come from the same zone signed for other days."""
    def edit(lines, zone):
        other = zone.signed(*days)
        return [line for line in lines if not re.search(pattern, line)] + [line for line in other if re.search(pattern, line)]
    return edit


def swapped_times(pattern):
    """An edit: expires before it begins. (The signature is no longer right either; time is looked at first.)"""
    return replace(pattern, r" (\d{14}) (\d{14}) ", r" \2 \1 ")


def shown_as(algorithm):
    """An edit: everything of the zone claims to be of another algorithm."""
    def edit(lines, _):
        lines = [re.sub(r"(\sIN\s+DNSKEY\s+\d+\s+3\s+)13\s", rf"\g<1>{algorithm} ", line) for line in lines]
        return [re.sub(r"(\sIN\s+RRSIG\s+\w+\s+)13\s", rf"\g<1>{algorithm} ", line) for line in lines]
    return edit


KSK, ZSK = r"\sIN\s+DNSKEY\s+257 ", r"\sIN\s+DNSKEY\s+256 "
EXPIRED, FUTURE = (-60, -30), (30, 60)
ALGORITHM, DIGEST, IND, BOGUS, SECURE, INSECURE = {1}, {2}, "indeterminate", "bogus", "secure", "insecure"
KEPT = "we count SHA-1 as unsupported (RFC 9905), it does not"
ITERATIONS = "our limits are 50 and 500 (RFC 9276 section 3.2), its own is 150"


def ds(change):
    return dict(ds=change)


def iterations(n):
    return dict(nsec3=n)


SITUATIONS = [
    # The names of extended-dns-errors.com.
    Situation("valid", SECURE),
    Situation("unsigned", INSECURE, unsigned=True),
    Situation("no-ds", INSECURE, **ds(lambda lines: [])),
    Situation("ds-bad-tag", BOGUS, {9}, **ds(lambda lines: [re.sub(r" DS (\d+) ", lambda m: f" DS {int(m[1]) ^ 1} ", line) for line in lines])),
    Situation("ds-bad-key-algo", BOGUS, {9}, **ds(lambda lines: [line.replace(" 13 2 ", " 8 2 ") for line in lines])),
    Situation("ds-unassigned-key-algo", INSECURE, ALGORITHM, **ds(lambda lines: [line.replace(" 13 2 ", " 100 2 ") for line in lines])),
    Situation("ds-reserved-key-algo", INSECURE, ALGORITHM, **ds(lambda lines: [line.replace(" 13 2 ", " 200 2 ") for line in lines])),
    Situation("ds-unassigned-digest-algo", INSECURE, DIGEST, **ds(lambda lines: [line.replace(" 13 2 ", " 13 100 ") for line in lines])),
    Situation("ds-bogus-digest-value", BOGUS, {9}, **ds(lambda lines: [line[:-1] + HEX[int(line[-1], 16) ^ 1] for line in lines])),
    Situation("rrsig-exp-all", BOGUS, {7}, edit=[sibling(r"\sIN\s+RRSIG\s", EXPIRED)]),
    Situation("rrsig-exp-a", BOGUS, {7}, edit=[sibling(r"\sIN\s+RRSIG\s+A\s", EXPIRED)]),
    Situation("rrsig-not-yet-all", BOGUS, {8}, edit=[sibling(r"\sIN\s+RRSIG\s", FUTURE)]),
    Situation("rrsig-not-yet-a", BOGUS, {8}, edit=[sibling(r"\sIN\s+RRSIG\s+A\s", FUTURE)]),
    Situation("rrsig-exp-before-all", BOGUS, {25}, edit=[swapped_times(r"\sIN\s+RRSIG\s")]),
    Situation("rrsig-exp-before-a", BOGUS, {25}, edit=[swapped_times(r"\sIN\s+RRSIG\s+A\s")]),
    Situation("rrsig-no-all", BOGUS, {10}, edit=[drop(r"\sIN\s+RRSIG\s")]),
    Situation("rrsig-no-a", BOGUS, {10}, edit=[drop(r"\sIN\s+RRSIG\s+A\s")]),
    Situation("no-rrsig-ksk", BOGUS, {9, 10}, edit=[lambda lines, zone: [line for line in lines if not re.search(rf"\sIN\s+RRSIG\s+DNSKEY\s.*\s{zone.ksk}\s", line)]]),
    Situation("no-rrsig-dnskey", BOGUS, {10}, edit=[drop(r"\sIN\s+RRSIG\s+DNSKEY\s")]),
    Situation("bad-nsec3-hash", BOGUS, {6, 12}, ask="nothing A", edit=[replace(r"^[A-V0-9]{32}\.\S+\s.*\sIN\s+(NSEC3|RRSIG\s+NSEC3)\s", r"^(.)", lambda m: "1" if m[1] != "1" else "2")]),
    Situation("bad-nsec3-next", BOGUS, {6, 12}, ask="nothing A", edit=[replace(r"\sIN\s+NSEC3\s+1 \d+ 0 ", r"( - )(\w)", lambda m: m[1] + ("1" if m[2] != "1" else "2"))]),
    Situation("bad-nsec3param-salt", BOGUS, {10, 12}, ask="nothing A", edit=[replace(r"\sIN\s+NSEC3PARAM\s", r"-\s*$", "ABCD")]),
    Situation("bad-nsec3-rrsig", BOGUS, {6}, ask="nothing A", edit=[spoil(r"\sIN\s+RRSIG\s+NSEC3\s")]),
    Situation("nsec3-missing", BOGUS, {10, 12}, ask="nothing A", edit=[drop(r"\sIN\s+(NSEC3|RRSIG\s+NSEC3)\s")]),
    Situation("nsec3-rrsig-missing", BOGUS, {10, 12}, ask="nothing A", edit=[drop(r"\sIN\s+RRSIG\s+NSEC3\s")]),
    Situation("nsec3param-missing", BOGUS, {10, 12}, ask="nothing A", edit=[drop(r"\sIN\s+(NSEC3PARAM|RRSIG\s+NSEC3PARAM)\s")]),
    Situation("no-nsec3param-nsec3", BOGUS, {10, 12}, ask="nothing A", edit=[drop(r"\sIN\s+(NSEC3PARAM|RRSIG\s+NSEC3PARAM|NSEC3|RRSIG\s+NSEC3)\s")]),
    Situation("no-zsk", BOGUS, {6, 9}, edit=[drop(ZSK)]),
    Situation("bad-zsk", BOGUS, {6}, edit=[spoil(ZSK)]),
    Situation("no-ksk", BOGUS, {9}, edit=[drop(KSK)]),
    Situation("bad-ksk", BOGUS, {9}, edit=[spoil(KSK)]),
    Situation("bad-rrsig-ksk", BOGUS, {6}, edit=[lambda lines, zone: spoil(rf"\sIN\s+RRSIG\s+DNSKEY\s.*\s{zone.ksk}\s")(lines, zone)]),
    Situation("bad-rrsig-dnskey", BOGUS, {6}, edit=[spoil(r"\sIN\s+RRSIG\s+DNSKEY\s")]),
    Situation("no-dnskey-256", BOGUS, {6, 9, 11}, edit=[replace(ZSK, "DNSKEY(\\s+)256", r"DNSKEY\g<1>0")]),
    Situation("no-dnskey-257", BOGUS, {9, 11}, edit=[replace(KSK, "DNSKEY(\\s+)257", r"DNSKEY\g<1>1")]),
    Situation("no-dnskey-256-257", BOGUS, {9, 11}, edit=[replace(ZSK, "DNSKEY(\\s+)256", r"DNSKEY\g<1>0"), replace(KSK, "DNSKEY(\\s+)257", r"DNSKEY\g<1>1")]),
    Situation("bad-zsk-algo", BOGUS, {6}, edit=[replace(ZSK, " 3 13 ", " 3 8 ")]),
    Situation("bad-ksk-algo", BOGUS, {9}, edit=[replace(KSK, " 3 13 ", " 3 8 ")]),
    Situation("unassigned-zsk-algo", BOGUS, {6}, edit=[replace(ZSK, " 3 13 ", " 3 100 ")]),
    Situation("unassigned-ksk-algo", BOGUS, {9}, edit=[replace(KSK, " 3 13 ", " 3 100 ")]),
    Situation("reserved-zsk-algo", BOGUS, {6}, edit=[replace(ZSK, " 3 13 ", " 3 200 ")]),
    Situation("reserved-ksk-algo", BOGUS, {9}, edit=[replace(KSK, " 3 13 ", " 3 200 ")]),
    Situation("no-dnskey", BOGUS, {9}, edit=[drop(r"\sIN\s+(DNSKEY|RRSIG\s+DNSKEY)\s")]),
    Situation("nsec3-iter-0", SECURE, ask="nothing A"),
    Situation("nsec3-iter-1", SECURE, ask="nothing A", **iterations(1)),
    Situation("nsec3-iter-50", SECURE, ask="nothing A", **iterations(50)),
    Situation("nsec3-iter-51", INSECURE, {27}, ask="nothing A", unbound=SECURE, why=ITERATIONS, **iterations(51)),
    Situation("nsec3-iter-101", INSECURE, {27}, ask="nothing A", unbound=SECURE, why=ITERATIONS, **iterations(101)),
    Situation("nsec3-iter-151", INSECURE, {27}, ask="nothing A", **iterations(151)),
    Situation("nsec3-iter-200", INSECURE, {27}, ask="nothing A", **iterations(200)),
    Situation("nsec3-iter-501", BOGUS, {12, 27}, ask="nothing A", unbound=INSECURE, why=ITERATIONS, **iterations(501)),
    Situation("rsamd5", INSECURE, ALGORITHM, edit=[shown_as(1)], **ds(lambda lines: [line.replace(" 13 2 ", " 1 2 ") for line in lines])),
    Situation("dsa", INSECURE, ALGORITHM, edit=[shown_as(3)], **ds(lambda lines: [line.replace(" 13 2 ", " 3 2 ") for line in lines])),
    Situation("dsa-nsec3-sha1", INSECURE, ALGORITHM, edit=[shown_as(6)], **ds(lambda lines: [line.replace(" 13 2 ", " 6 2 ") for line in lines])),
    Situation("rsasha1", INSECURE, ALGORITHM, algorithm="RSASHA1:2048", nsec=True, unbound=SECURE, why=KEPT),
    Situation("rsasha1-nsec3-sha1", INSECURE, ALGORITHM, algorithm="NSEC3RSASHA1:2048", unbound=SECURE, why=KEPT),
    Situation("rsasha256", SECURE, algorithm="RSASHA256:2048"),
    Situation("rsasha512", SECURE, algorithm="RSASHA512:2048"),
    Situation("ecdsap256sha256", SECURE, algorithm="ECDSAP256SHA256"),
    Situation("ecdsap384sha384", SECURE, algorithm="ECDSAP384SHA384"),
    Situation("ed25519", SECURE, algorithm="ED25519"),
    Situation("ed448", INSECURE, ALGORITHM, algorithm="ED448", unbound=SECURE, why="ring has no Ed448; DANE sites sign with P-256 and RSA"),
    Situation("allow-query-none", IND, {22, 23, 0}, unsigned=True, blocked=True),
    Situation("v4-doc", IND, {22, 23, 0}, unsigned=True, nowhere="127.0.0.99@9"),
    # Three broken at an octet that chance picks.
    Situation("random-signature", BOGUS, {6}, edit=[spoil(r"^random-signature\.test\.\s.*\sIN\s+RRSIG\s+A\s")]),
    Situation("random-data", BOGUS, {6}, edit=[each(r"^random-data\.test\.\s.*\sIN\s+A\s", other_address)]),
    Situation("random-key-signature", BOGUS, {6}, edit=[spoil(r"\sIN\s+RRSIG\s+DNSKEY\s")]),
    # Our own.
    Situation("nsec", SECURE, ask="nothing A", nsec=True),
    Situation("nsec-nodata", SECURE, ask="www MX", nsec=True),
    Situation("nsec-missing", BOGUS, {10, 12}, ask="nothing A", nsec=True, edit=[drop(r"\sIN\s+(NSEC|RRSIG\s+NSEC)\s")]),
    Situation("nodata", SECURE, ask="www MX"),
    Situation("empty-non-terminal", SECURE, ask="ent A"),
    Situation("wildcard", SECURE, ask="one.wild A"),
    Situation("wildcard-unproved", BOGUS, {10, 12}, ask="one.wild A", edit=[drop(r"\sIN\s+(NSEC3|RRSIG\s+NSEC3)\s")]),
    Situation("link", SECURE, ask="alias A"),
    Situation("link-broken", BOGUS, {6}, ask="alias A", edit=[spoil(r"\sIN\s+RRSIG\s+CNAME\s")]),
    Situation("tlsa", SECURE, ask="_25._tcp.www TLSA"),
    Situation("ds-sha1", SECURE, digests=["-1"]),
    Situation("ds-sha384", SECURE, digests=["-a", "SHA-384"]),
    Situation("ds-two-one-wrong", SECURE, **ds(lambda lines: [lines[0][:-1] + HEX[int(lines[0][-1], 16) ^ 1], *lines])),
    Situation("ds-sha1-good-sha2-bad", BOGUS, {9}, digests=["-1", "-2"], unbound=SECURE,
              why="it ignores SHA-1 beside SHA-2 (RFC 4509 section 3) only with harden-algo-downgrade",
              **ds(lambda lines: [lines[0], lines[1][:-1] + HEX[int(lines[1][-1], 16) ^ 1]])),
    Situation("opt-out-child", INSECURE, unsigned=True, parent="opt-out.test."),
    Situation("opt-out", INSECURE, ask="nothing A", optout=True),
    Situation("below-opt-out", SECURE, parent="opt-out.test."),
    Situation("key-revoked", BOGUS, {9}, revoke=True),
]


def in_one_word(line):
    """The base64 at the end of a record as one word."""
    words = line.split()
    head = {"RRSIG": 12, "DNSKEY": 7}.get(words[3])
    if head is None or '"' in line:
        return line
    return " ".join([*words[:head], "".join(words[head:])])


class Zone:
    """One zone while it is made."""

    def __init__(self, base, name, how, more=()):
        self.base, self.name, self.how, self.more = base, name, how, [*how.get("more", []), *more]
        self.file = os.path.join(base, name.replace(".", "_"))
        self.keys, self.ksk = [], 0

    def run(self, *words):
        result = subprocess.run(words, cwd=self.base, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{' '.join(words)}: {result.stdout}{result.stderr}")
        return result.stdout

    def make(self):
        """Writes the zone's file; gives the DS lines for its parent."""
        with open(self.file, "w") as out:
            out.write(BODY.replace("{z}", self.name) + "\n".join(self.more) + "\n")
        if self.how.get("unsigned"):
            return []
        algorithm, _, bits = self.how.get("algorithm", "ECDSAP256SHA256").partition(":")
        for flag in (["-f", "KSK"], []):
            self.keys.append(self.run("dnssec-keygen", "-q", "-a", algorithm, *(["-b", bits] if bits else []), *flag, self.name).strip())
        self.ksk = int(self.keys[0].rsplit("+", 1)[1])
        points = self.run("dnssec-dsfromkey", *self.how.get("digests", ["-2"]), self.keys[0]).strip().splitlines()
        if self.how.get("revoke"):
            self.keys[0] = os.path.basename(self.run("dnssec-revoke", self.keys[0]).strip().splitlines()[-1]).removesuffix(".key")
        lines = self.signed(-1, 30)
        for edit in self.how.get("edit", []):
            lines = edit(lines, self)
        if self.how.get("ds_of_all"):
            points = [self.ds_of(line.split()) for line in lines if re.search(r"\sIN\s+DNSKEY\s", line)]
        with open(self.file, "w") as out:
            out.write("\n".join(lines) + "\n")
        return self.how.get("ds", lambda lines: lines)([line.replace(" IN DS ", " 300 IN DS ") for line in points])

    def ds_of(self, words):
        """The DS line, with SHA-256, of a DNSKEY line in words (RFC 4034 section 5.1.4 and appendix B)."""
        flags, protocol, algorithm = map(int, words[4:7])
        rdata = struct.pack("!HBB", flags, protocol, algorithm) + base64.b64decode(words[7])
        total = sum(octet << 8 if place % 2 == 0 else octet for place, octet in enumerate(rdata))
        owner = b"".join(bytes([len(label)]) + label.encode() for label in self.name.rstrip(".").split(".")) + b"\0"
        return f"{self.name} IN DS {(total + (total >> 16)) & 0xFFFF} {algorithm} 2 {hashlib.sha256(owner + rdata).hexdigest()}"

    def signed(self, first, last):
        """The lines of the zone, signed from the day `first` to the day `last`, counted from now."""
        source, out = f"{self.file}.source", f"{self.file}.signed{first}"
        with open(source, "w") as file:
            file.write(BODY.replace("{z}", self.name) + "\n".join(self.more) + "\n")
            for key in self.keys:
                file.write(open(os.path.join(self.base, key + ".key")).read())
        stamps = [time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + day * DAY)) for day in (first, last)]
        denial = [] if self.how.get("nsec") else ["-3", "-", "-H", str(self.how.get("nsec3", 0))] + (["-A"] if self.how.get("optout") else [])
        if self.how.get("nsec3", 0) > 150:  # more than BIND's signer makes
            self.run("ldns-signzone", "-n", "-t", str(self.how["nsec3"]), "-i", stamps[0], "-e", stamps[1], "-o", self.name, "-f", out, self.file, *self.keys)
            return open(out).read().splitlines()
        self.run("dnssec-signzone", "-q", "-P", "-O", "full", "-o", self.name, "-s", stamps[0], "-e", stamps[1], "-f", out, *denial, source, *self.keys)
        return [in_one_word(line.split(";")[0]) for line in open(out).read().splitlines() if line and not line.startswith(";")]


class SignedTree:
    """The zones and their server."""

    def __init__(self, situations=SITUATIONS):
        self.situations, self.port = situations, free_port()
        self.dir = tempfile.mkdtemp(prefix="pipit-tree-")
        self.address, self.anchor = f"127.0.0.1@{self.port}", os.path.join(self.dir, "anchor")
        self.stubs, self.served, self.blocked, self.process = [], {}, set(), None

    def __enter__(self):
        try:
            self.make()
            self.serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            terminated(self.process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def make(self):
        """Children first: a parent holds their DS."""
        more = {TOP: []}
        parents = {situation.how["parent"] for situation in self.situations if "parent" in situation.how}
        for situation in self.situations:
            if "parent" in situation.how:
                situation.zone = f"{situation.name}.{situation.how['parent']}"
                situation.question = situation.question.replace(f"{situation.name}.{TOP}", situation.zone)
        children = [s for s in self.situations if s.zone not in parents]
        inner = [s for s in self.situations if s.zone in parents]
        for group in (children, inner):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                points = list(pool.map(lambda s: self.zone(s.zone, s.how, more.get(s.zone, [])), group))
            for situation, lines in zip(group, points):
                above = more.setdefault(situation.how.get("parent", TOP), [])
                above += [f"{situation.zone} 300 NS ns.test.", *lines]
                where = situation.how.get("nowhere")
                self.stubs.append((situation.zone, where or self.address))
                if where:
                    del self.served[situation.zone]
                if situation.how.get("blocked"):
                    self.blocked.add(situation.zone)
        with open(self.anchor, "w") as out:
            out.write("\n".join(self.zone(TOP, dict(nsec=True), more[TOP])) + "\n")
        self.stubs.append((TOP, self.address))

    def zone(self, name, how, more):
        zone = Zone(self.dir, name, how, more)
        lines = zone.make()
        self.served[name] = zone.file
        return lines

    def serve(self):
        conf = os.path.join(self.dir, "nsd.conf")
        with open(conf, "w") as out:
            out.write(f'server:\n  ip-address: 127.0.0.1\n  port: {self.port}\n  username: ""\n  zonesdir: "{self.dir}"\n  pidfile: ""\n'
                      f'  logfile: "{self.dir}/log"\n  xfrdir: "{self.dir}"\n  xfrdfile: "{self.dir}/xfrd"\n  zonelistfile: "{self.dir}/list"\n'
                      f"remote-control:\n  control-enable: no\n")
            for name, file in self.served.items():
                out.write(f'zone:\n  name: "{name}"\n  zonefile: "{file}"\n' + ("  allow-query: 127.0.0.0/8 BLOCKED\n" if name in self.blocked else ""))
        self.process = subprocess.Popen([*program("nsd"), "-d", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while subprocess.run(["dig", "@127.0.0.1", "-p", str(self.port), "+time=1", "+tries=1", "+short", "test.", "SOA"], capture_output=True).stdout == b"":
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nsd does not answer: " + open(os.path.join(self.dir, "log")).read()[-2000:])
            time.sleep(0.1)
