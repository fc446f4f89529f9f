#!/usr/bin/env python3
"""Makes answers.txt: zones signed by dnssec-signzone and ldns-signzone, served by nsd, asked with dig.

    tests/dnssec/make.py        (needs bind9-utils, bind9-dnsutils, ldnsutils, nsd; keys are new each time)

Everything is valid from 2026-01-01 to 2027-01-01; the scenarios look at it on 2026-07-01. Zones stand in ZONES below, with
what is wrong about them; what is wrong about single answers stands in the scenarios. QUESTIONS are the ones that scenarios
start with; all DS and DNSKEY records that a proof could want are added.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FROM, TO = "20260101000000", "20270101000000"
PORT = "5397"
WORK = tempfile.mkdtemp(prefix="dnssec-make-")

FULL = """
@ MX 10 Mail.{z}.
@ TXT "v=spf1 -all"
www A 192.0.2.1
www A 192.0.2.3
www A 192.0.2.2
mail A 192.0.2.9
_25._tcp.mail TLSA 3 1 1 aabbccdd
alias CNAME www.{z}.
dangling CNAME nothing.{z}.
out CNAME www.plain.test.
in3 CNAME www.n3.test.
a.ent A 192.0.2.4
*.wild A 192.0.2.5
x.wild MX 5 mail.{z}.
*.cwild CNAME www.{z}.
dn DNAME n3.test.
dplain DNAME plain.test.
loop1 CNAME loop2.{z}.
loop2 CNAME loop1.{z}.
plain NS ns.plain.{z}.
plain.deep NS ns.plain.{z}.
*.wild2 TXT "x"
zz A 192.0.2.6
""" + "".join(f"c{n} CNAME c{n + 1}.{{z}}.\n" for n in range(12)) + "c12 A 192.0.2.7\n"
SMALL = "www A 192.0.2.1\nalias CNAME www.{z}.\n"

# name -> content and how it is signed: a algorithms, n3 NSEC3 options, ds how the parent points to it, after what is done to the lines
ZONES = {
    ".": dict(a=["ECDSAP256SHA256"], two=True),
    "test.": dict(a=["ECDSAP256SHA256"], text='alias CNAME www.p256.test.\na.ent A 192.0.2.8\n'),
    "opt.": dict(a=["ECDSAP256SHA256"], n3=["-A", "-3", "-", "-H", "0"], text="www A 192.0.2.1\n*.wild A 192.0.2.5\n"),
    "p256.test.": dict(a=["ECDSAP256SHA256"], two=True, text=FULL),
    "sub.p256.test.": dict(a=["ECDSAP256SHA256"], text=SMALL),
    "n3.test.": dict(a=["ECDSAP256SHA256"], n3=["-3", "-", "-H", "0"], text=FULL),
    "salt.test.": dict(a=["ECDSAP256SHA256"], n3=["-3", "aabbccdd", "-H", "12"], text=SMALL),
    "signed.opt.": dict(a=["ECDSAP256SHA256"], text=SMALL),
    "plain.opt.": dict(text=SMALL),
    "plain.test.": dict(text=SMALL + "into CNAME www.p256.test.\nback DNAME p256.test.\ntwo CNAME into.plain.test.\n"),
    "signed.plain.test.": dict(a=["ECDSAP256SHA256"], text=SMALL),
    "plain.p256.test.": dict(text=SMALL),
    "plain.deep.p256.test.": dict(text=SMALL),
    "plain.n3.test.": dict(text=SMALL),
    "plain.deep.n3.test.": dict(text=SMALL),
    "rsa256.test.": dict(a=["RSASHA256:2048"], text=SMALL),
    "rsa1024.test.": dict(a=["RSASHA256:1024"], text=SMALL),
    "rsa512.test.": dict(a=["RSASHA512:2048"], text=SMALL),
    "p384.test.": dict(a=["ECDSAP384SHA384"], text=SMALL),
    "ed25519.test.": dict(a=["ED25519"], text=SMALL),
    "rsasha1.test.": dict(a=["RSASHA1:2048"], text=SMALL),
    "ed448.test.": dict(a=["ED448"], text=SMALL),
    "mixed.test.": dict(a=["ECDSAP256SHA256", "ED448"], text=SMALL),
    "ldns.test.": dict(a=["ECDSAP256SHA256"], ldns=[], text=FULL),
    "ldns3.test.": dict(a=["ECDSAP256SHA256"], ldns=["-n", "-t", "3", "-s", "ab12"], text=FULL),
    "it50.test.": dict(a=["ECDSAP256SHA256"], ldns=["-n", "-t", "50"], text=SMALL + "*.wild A 192.0.2.5\n"),
    "it51.test.": dict(a=["ECDSAP256SHA256"], ldns=["-n", "-t", "51"], text=SMALL + "*.wild A 192.0.2.5\nplain NS ns.plain.it51.test.\n"),
    "it501.test.": dict(a=["ECDSAP256SHA256"], ldns=["-n", "-t", "501"], text=SMALL + "*.wild A 192.0.2.5\n"),
    "compact.test.": dict(a=["ECDSAP256SHA256"], ldns=[], text=SMALL + "nx TYPE128 \\# 1 00\nboth TYPE128 \\# 1 00\nboth A 192.0.2.1\n"),
    "digest1.test.": dict(a=["ECDSAP256SHA256"], ds=["-1"], text=SMALL),
    "digest4.test.": dict(a=["ECDSAP256SHA256"], ds=["-a", "SHA-384"], text=SMALL),
    "digest250.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [re.sub(r" (\d+) (\d+) 2 ", r" \1 \2 250 ", ds[0])], text=SMALL),
    "digests.test.": dict(a=["ECDSAP256SHA256"], ds=["-1", "-2"], edit_ds=lambda ds: ds + [re.sub(r" 2 (\w+)$", r" 250 \1", ds[1])], text=SMALL),
    "sha1good.test.": dict(a=["ECDSAP256SHA256"], ds=["-1", "-2"], edit_ds=lambda ds: [ds[0], ds[1][:-2] + "00"], text=SMALL),
    "dsbadtag.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [re.sub(r"DS (\d+) ", lambda m: f"DS {int(m[1]) ^ 1} ", ds[0])], text=SMALL),
    "dsbaddigest.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [ds[0][:-2] + "00"], text=SMALL),
    "dsbadalgorithm.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [re.sub(r" 13 2 ", " 8 2 ", ds[0])], text=SMALL),
    "dsreserved.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [re.sub(r" 13 2 ", " 200 2 ", ds[0])], text=SMALL),
    "dstwo.test.": dict(a=["ECDSAP256SHA256"], edit_ds=lambda ds: [ds[0][:-2] + "00", ds[0]], text=SMALL),
    "expireda.test.": dict(a=["ECDSAP256SHA256"], old=("20240101000000", "20250101000000", r"RRSIG\sA\s"), text=SMALL),
    "futurea.test.": dict(a=["ECDSAP256SHA256"], old=("20280101000000", "20290101000000", r"RRSIG\sA\s"), text=SMALL),
    "expiredds.test.": dict(a=["ECDSAP256SHA256"], text=SMALL),
    "expiredkey.test.": dict(a=["ECDSAP256SHA256"], old=("20240101000000", "20250101000000", r"RRSIG\sDNSKEY\s"), text=SMALL),
    "expired.test.": dict(a=["ECDSAP256SHA256"], old=("20240101000000", "20250101000000", r"RRSIG\s"), text=SMALL),
    "expireddenial.test.": dict(a=["ECDSAP256SHA256"], old=("20240101000000", "20250101000000", r"RRSIG\sNSEC\s"), text=SMALL),
    "wrap.test.": dict(a=["ECDSAP256SHA256"], text=SMALL),
    "revoked.test.": dict(a=["ECDSAP256SHA256"], revoke=True, text=SMALL),
    "nodnskey.test.": dict(a=["ECDSAP256SHA256"], drop=r"\sDNSKEY\s", text=SMALL),
    "v6.test.": dict(a=["ECDSAP256SHA256"], n3=["-3", "-", "-H", "0"], text="1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 PTR www.p256.test.\n"),
}

QUESTIONS = """
www.p256.test. A|www.p256.test. MX|www.p256.test. DS|p256.test. MX|p256.test. TXT|p256.test. SOA|p256.test. NS|p256.test. DS|p256.test. DNSKEY|p256.test. A
_25._tcp.mail.p256.test. TLSA|_tcp.mail.p256.test. TLSA|ent.p256.test. A|a.ent.p256.test. A|b.ent.p256.test. A|nothing.p256.test. A|a.nothing.p256.test. A
alias.p256.test. A|alias.p256.test. CNAME|alias.p256.test. MX|dangling.p256.test. A|out.p256.test. A|in3.p256.test. A|one.wild.p256.test. A|two.one.wild.p256.test. A
one.wild.p256.test. MX|x.wild.p256.test. A|one.cwild.p256.test. A|www.dn.p256.test. A|nothing.dn.p256.test. A|dn.p256.test. DNAME|dn.p256.test. A|www.dplain.p256.test. A
www.dn.p256.test. CNAME|loop1.p256.test. A|c0.p256.test. A|c1.p256.test. A|www.plain.p256.test. A|plain.p256.test. NS|nothing.plain.p256.test. A|www.plain.deep.p256.test. A
www.sub.p256.test. A|sub.p256.test. DS|sub.p256.test. A|one.wild2.p256.test. A|*.wild.p256.test. A|zzz.p256.test. A|plain.p256.test. A|nothing.sub.p256.test. A
www.n3.test. A|www.n3.test. MX|n3.test. MX|n3.test. A|ent.n3.test. A|nothing.n3.test. A|a.b.nothing.n3.test. A|one.wild.n3.test. A|two.one.wild.n3.test. A|one.wild.n3.test. MX
alias.n3.test. A|out.n3.test. A|one.cwild.n3.test. A|www.dn.n3.test. A|www.plain.n3.test. A|www.plain.deep.n3.test. A|plain.n3.test. NS|nothing.plain.n3.test. A|b.ent.n3.test. A
www.salt.test. A|nothing.salt.test. A|www.opt. A|nothing.opt. A|www.opt. MX|one.wild.opt. A|www.plain.opt. A|nothing.plain.opt. A|www.signed.opt. A|plain.opt. DS
www.plain.test. A|www.plain.test. MX|nothing.plain.test. A|into.plain.test. A|two.plain.test. A|www.back.plain.test. A|www.signed.plain.test. A|plain.test. NS|plain.test. DS
test. NS|alias.test. A|ent.test. A|. NS|nothing. A|. DS|. DNSKEY|test. DS
www.rsa256.test. A|www.rsa1024.test. A|www.rsa512.test. A|www.p384.test. A|www.ed25519.test. A|www.rsasha1.test. A|www.ed448.test. A|www.mixed.test. A
www.ldns.test. A|nothing.ldns.test. A|ent.ldns.test. A|one.wild.ldns.test. A|www.ldns3.test. A|nothing.ldns3.test. A|ent.ldns3.test. A|one.wild.ldns3.test. A|ldns.test. MX
www.it50.test. A|nothing.it50.test. A|one.wild.it50.test. A|www.it51.test. A|nothing.it51.test. A|www.it51.test. MX|one.wild.it51.test. A|plain.it51.test. DS|www.plain.it51.test. A
www.it501.test. A|nothing.it501.test. A|one.wild.it501.test. A|www.digest1.test. A|www.digest4.test. A|www.digest250.test. A|www.digests.test. A|www.sha1good.test. A|www.dsbadtag.test. A
www.dsbaddigest.test. A|www.dsbadalgorithm.test. A|www.dsreserved.test. A|www.dstwo.test. A|www.expireda.test. A|www.expireda.test. MX|www.futurea.test. A|www.expiredkey.test. A|www.expired.test. A
nothing.expireddenial.test. A|www.expireddenial.test. A|www.revoked.test. A|www.nodnskey.test. A|1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.v6.test. PTR
2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.v6.test. PTR|signed.plain.test. A
x.wild.p256.test. MX|a.x.wild.p256.test. A|x.wild.n3.test. MX|a.x.wild.n3.test. A|a.alias.p256.test. A|www.www.p256.test. A|sub.p256.test. MX|sub.p256.test. SOA|plain.n3.test. A|opt. A
nx.compact.test. A|nx.compact.test. DS|both.compact.test. MX|both.compact.test. A|www.nx.compact.test. A
"""


def run(*words, cwd=WORK):
    result = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(words)}:\n{result.stdout}{result.stderr}")
    return result.stdout


def parent(name):
    above = [zone for zone in ZONES if zone != name and (zone == "." or name.endswith("." + zone))]
    return max(above, key=len)


def text_of(name, more):
    z = name.rstrip(".") if name != "." else ""
    body = ZONES[name].get("text", "").replace("{z}", z)
    head = f"$ORIGIN {name}\n$TTL 300\n@ 600 SOA ns.test. admin.test. 1 3600 900 604800 120\n@ NS ns.test.\n"
    return head + body + "\n".join(more) + "\n"


def sign(name, more):
    zone = ZONES[name]
    file = os.path.join(WORK, "zone." + name.replace(".", "_"))
    with open(file, "w") as out:
        out.write(text_of(name, more))
    signed = file + ".signed"
    if "a" not in zone:
        with open(signed, "w") as out:
            out.write(text_of(name, more))
        return [], signed
    keys = []
    for algorithm in zone["a"]:
        algorithm, _, bits = algorithm.partition(":")
        for flag in (["-f", "KSK"], []) if zone.get("two") else (["-f", "KSK"],):
            keys.append(run("dnssec-keygen", "-q", "-a", algorithm, *(["-b", bits] if bits else []), *flag, name).strip())
    ds = run("dnssec-dsfromkey", *zone.get("ds", ["-2"]), keys[0]).strip().splitlines()
    if zone.get("two") is None and len(zone["a"]) > 1:
        for key in keys[1:]:
            ds += run("dnssec-dsfromkey", "-2", key).strip().splitlines()
    if zone.get("revoke"):
        keys = [run("dnssec-revoke", key).strip().splitlines()[-1].split("/")[-1].removesuffix(".key").removesuffix(".private") for key in keys]
    make(zone, name, file, signed, keys, FROM, TO)
    lines = open(signed).read().splitlines()
    if "old" in zone:
        start, end, which = zone["old"]
        make(zone, name, file, signed + ".old", keys, start, end)
        old = open(signed + ".old").read().splitlines()
        lines = [line for line in lines if not re.search(which, line)] + [line for line in old if re.search(which, line)]
    if "drop" in zone:
        lines = [line for line in lines if not re.search(zone["drop"], line)]
    with open(signed, "w") as out:
        out.write("\n".join(lines) + "\n")
    return zone.get("edit_ds", lambda ds: ds)(ds), signed


def make(zone, name, file, signed, keys, start, end):
    if "ldns" in zone:
        run("ldns-signzone", "-i", start, "-e", end, "-o", name, "-f", signed, *zone["ldns"], file, *keys)
    else:
        paths = [os.path.join(WORK, key) for key in keys]
        whole = [] if zone.get("two") else ["-z"]
        with open(file + ".keys", "w") as out:
            out.write(open(file).read() + "".join(open(path + ".key").read() for path in paths))
        run("dnssec-signzone", "-q", "-P", *whole, "-O", "full", "-o", name, "-s", start, "-e", end, "-f", signed, *zone.get("n3", []), file + ".keys", *paths)


def ask(name, kind):
    out = run("dig", "@127.0.0.1", "-p", PORT, "+tcp", "+norec", "+dnssec", "+nosplit", "+noall", "+comments", "+answer", "+authority", name, kind)
    rcode = re.search(r"status: (\w+)", out)[1]
    lines, section = [], None
    for line in out.splitlines():
        if line.startswith(";;") and line.endswith("SECTION:"):
            section = line.split()[1]
        elif line and not line.startswith(";") and section in ("ANSWER", "AUTHORITY"):
            words = line.split()
            words.remove("IN")
            lines.append((section, " ".join(words)))
    positive = any(section == "ANSWER" for section, _ in lines)
    # What a recursive resolver leaves out: NS records beside an answer.
    lines = [(s, l) for s, l in lines if not (positive and s == "AUTHORITY" and re.search(r" \d+ (NS|RRSIG NS) ", l))]
    return rcode, lines


def main():
    more = {name: [] for name in ZONES}
    files = {}
    for name in sorted(ZONES, key=lambda name: -name.count(".") if name != "." else 1):
        ds, files[name] = sign(name, more[name])
        if name != ".":
            label = name if parent(name) == "." else name.removesuffix("." + parent(name))
            if f"{label} NS " not in ZONES[parent(name)].get("text", ""):
                more[parent(name)].append(f"{name} 3600 NS ns.test.")
            more[parent(name)] += [re.sub(" IN DS ", " 3600 IN DS ", line) for line in ds]
        else:
            anchor = ds
    with open(os.path.join(WORK, "nsd.conf"), "w") as out:
        out.write(f'server:\n  ip-address: 127.0.0.1\n  port: {PORT}\n  username: ""\n  zonesdir: "{WORK}"\n  database: ""\n  pidfile: ""\n  logfile: "{WORK}/log"\n'
                  f'  xfrdir: "{WORK}"\n  xfrdfile: "{WORK}/xfrd"\n  zonelistfile: "{WORK}/list"\n  verbosity: 1\nremote-control:\n  control-enable: no\n')
        for name, file in files.items():
            out.write(f'zone:\n  name: "{name}"\n  zonefile: "{file}"\n')
    server = subprocess.Popen(["nsd", "-d", "-c", os.path.join(WORK, "nsd.conf")])
    try:
        subprocess.run(["sleep", "3"])
        record(anchor)
    finally:
        server.terminate()


def record(anchor):
    questions = []
    for question in QUESTIONS.replace("\n", "|").split("|"):
        if question:
            questions.append(tuple(question.split()))
    done, out = {}, []
    wanted = list(questions)
    while wanted:
        question = wanted.pop(0)
        if question in done:
            continue
        done[question] = ask(*question)
        out.append(question)
        names = {question[0]} if question in questions else set()
        if question in questions:
            for _, line in done[question][1]:
                words = line.split()
                if words[2] in ("CNAME", "DNAME"):
                    names.add(words[3])
                    if words[2] == "CNAME":
                        questions.append((words[3], question[1]))
                        wanted.append((words[3], question[1]))
        for name in names:
            while True:
                wanted += [(name, "DS")] if name != "." else []
                wanted += [(name, "DNSKEY")] if name in ZONES else []
                if name == ".":
                    break
                name = name.split(".", 1)[1] or "."
    with open(os.path.join(HERE, "answers.txt"), "w") as file:
        file.write("; Made by make.py.\n")
        for line in anchor:
            file.write(f"anchor {line}\n")
        for question in out:
            rcode, lines = done[question]
            file.write(f"\n? {question[0]} {question[1]} {rcode}\n")
            for section, line in lines:
                file.write(("" if section == "ANSWER" else "+ ") + line + "\n")


main()
