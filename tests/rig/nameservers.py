"""Name servers of Debian's sid, run without being installed: unbound (1.26 or later) and nsd.

Purpose: unbound once as a recursive resolver that validates nothing, what a home router is to us, and once as the validator that we
         compare with; nsd for the zones. Installing them would start services on port 53 of somebody's machine: mmdebstrap
         unpacks them once into a cache, and their own loader runs them.
Usage:   with Unbound(recursive_conf(stubs)) as router, Unbound(validating_conf(...)) as validator: ... validator.cpu()
Result:  `program(name)` gives the words that start one, `version()` unbound's version. A server is ready when it answers.
"""

import glob
import os
import socket
import struct
import subprocess
import tempfile
import time

CACHE = os.environ.get("PIPIT_CACHE", os.path.expanduser("~/.cache/pipit"))


def unpacked():
    """Where sid's programs are; some 100 MB, unpacked at first use in ten seconds."""
    place = os.path.join(CACHE, "sid-name-servers")
    if not os.path.isdir(place):
        os.makedirs(CACHE, exist_ok=True)
        fresh = tempfile.mkdtemp(prefix="sid-", dir=CACHE)
        # The mirror's index of sid may be past its date; its signature is checked all the same.
        subprocess.run(["mmdebstrap", "--quiet", "--variant=extract", "--aptopt=Acquire::Check-Valid-Until false", "--include=unbound,nsd", "sid", fresh],
                       check=True, stdin=subprocess.DEVNULL)
        os.rename(fresh, place)
    return place


def program(name):
    """The words that start a program of sid, with the libraries it was built for."""
    place = unpacked()
    loader = glob.glob(os.path.join(place, "usr/lib/*-linux-gnu*/ld-linux-*"))[0]
    return [loader, "--library-path", os.path.dirname(loader), os.path.join(place, "usr/sbin", name)]


def version():
    """Unbound's, as it says itself, e.g. `1.26.2`."""
    return subprocess.run([*program("unbound"), "-V"], capture_output=True, text=True, check=True).stdout.split()[1]


def terminated(process):
    """Stop a process, kindly first."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


HEAD = """server:
  interface: 127.0.0.1@{port}
  port: {port}
  username: ""
  chroot: ""
  directory: "{dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  num-threads: 1
  do-daemonize: no
  do-not-query-localhost: no
  local-zone: "test." nodefault
  qname-minimisation: no
  ede: yes
  msg-cache-size: 32m
  rrset-cache-size: 64m
"""


def recursive_conf(stubs):
    """Asks nsd at `stubs`, pairs of a zone and ADDRESS@PORT, and looks at no signature."""
    zones = "".join(f'stub-zone:\n  name: "{zone}"\n  stub-addr: {address}\n  stub-no-cache: no\n' for zone, address in stubs)
    return HEAD + '  module-config: "iterator"\n  cache-min-ttl: 0\n' + zones + "remote-control:\n  control-enable: no\n"


def validating_conf(upstream, anchor, more=""):
    """Forwards everything to `upstream` (ADDRESS@PORT) and validates from the DS or DNSKEY lines in the file `anchor`."""
    return (HEAD + '  module-config: "validator iterator"\n' + f'  trust-anchor-file: "{anchor}"\n  val-log-level: 2\n{more}'
            + f'forward-zone:\n  name: "."\n  forward-addr: {upstream}\nremote-control:\n  control-enable: no\n')


class Unbound:
    """A running unbound on 127.0.0.1."""

    def __init__(self, conf):
        self.port, self.dir = free_port(), tempfile.mkdtemp(prefix="pipit-unbound-")
        with open(os.path.join(self.dir, "unbound.conf"), "w") as out:
            out.write(conf.format(port=self.port, dir=self.dir))
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.process = subprocess.Popen([*program("unbound"), "-d", "-c", os.path.join(self.dir, "unbound.conf")], stdout=self.log, stderr=self.log)

    def __enter__(self):
        query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\7version\4bind\0" + struct.pack("!2H", 16, 3)
        until = time.monotonic() + 10
        while time.monotonic() < until and self.process.poll() is None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.settimeout(0.2)
                one.connect(("127.0.0.1", self.port))
                try:
                    one.send(query)
                    one.recv(512)
                    return self
                except OSError:
                    time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f"unbound does not answer: {open(self.log.name).read()[-2000:]}")

    def __exit__(self, *_):
        terminated(self.process)
        self.log.close()

    def cpu(self):
        """Seconds of CPU used so far."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
