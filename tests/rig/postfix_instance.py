"""A private Debian Postfix: a sender to Pipit, a peer in benchmarks, and the stand-in server while a test is being written.

Purpose: real mail software on the other end, without touching a system-wide Postfix.
Usage:   with Postfix(base) as p: p.start(); p.inject(message, sender, recipients); p.stop()
         Postfix(base, relay="[127.0.0.1]:2525") sends everything for home.test there; without `relay` it stores it itself.
         Postfix(base, relay, host="127.0.0.2", port=2526) stands at that address, as a host that we send to.
Result:  own configuration, queue, data and log below `base`, own loopback port, no chroot; started by `postfix -c`,
         stopped by the pid in its own pid file. `messages`, `bodies`, `complaints`, `memory` have the form of rig.pipit.Pipit,
         so that kill9.py and others can be proven against it.
"""

import email
import json
import os
import pwd
import signal
import subprocess
import time

from rig.pipit import status_kib
from rig.wire import Client, first_greeting, free_ports

MAIN = """
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {base}/postfix.log
maillog_file_prefixes = {base}
myhostname = mail.peer.test
mydestination =
myorigin = peer.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
message_size_limit = 50000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {base}/mail
virtual_mailbox_maps = {boxes}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 100
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = may
smtpd_tls_cert_file = {base}/etc/cert.pem
smtpd_tls_key_file = {base}/etc/key.pem
smtp_tls_loglevel = 1
smtpd_tls_loglevel = 1
smtp_dns_support_level = disabled
minimal_backoff_time = 1s
maximal_backoff_time = 3s
queue_run_delay = 1s
transport_retry_time = 1s
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = {processes}
"""

MASTER = """
{host}:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


def box_of(address):
    """The folder of a mailbox below `mail`: ann's and everything that a sender gets back is in `box`."""
    return "box" if address in ("", "ann@home.test") else address


class Postfix:
    """One instance. With `relay` its own domain is peer.test, and bounces land in its own mailbox of carol@peer.test."""

    name = "postfix"

    def __init__(self, base, relay=None, processes=100, host="127.0.0.1", port=None, more=""):
        self.base, self.relay, self.processes_limit = os.path.join(base, "postfix"), relay, processes
        self.etc = os.path.join(self.base, "etc")
        self.log = os.path.join(self.base, "postfix.log")
        self.host, self.port, self.more = host, port or free_ports(1)[0], more
        self.directory = os.path.join(self.base, "mail")
        self.master = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def prepare(self):
        nobody, postfix = pwd.getpwnam("nobody"), pwd.getpwnam("postfix")
        for folder in (self.base, self.etc, self.directory, os.path.join(self.base, "data"), os.path.join(self.base, "queue")):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
        os.chown(os.path.join(self.base, "data"), postfix.pw_uid, postfix.pw_gid)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=mail.peer.test",
                        "-keyout", f"{self.etc}/key.pem", "-out", f"{self.etc}/cert.pem"], check=True, capture_output=True)
        own = "peer.test" if self.relay else "home.test"
        main = MAIN.format(base=self.base, domains=own, uid=nobody.pw_uid, gid=nobody.pw_gid, processes=self.processes_limit,
                           boxes="static:box/" if self.relay else f"texthash:{self.etc}/boxes")
        if self.relay:
            main += f"transport_maps = inline:{{ {{home.test=smtp:{self.relay}}} }}\nrelay_domains = home.test\n"
        with open(os.path.join(self.etc, "main.cf"), "w") as file:
            file.write(main + self.more)
        with open(os.path.join(self.etc, "boxes"), "w") as file:
            file.write("ann@home.test box/\n")
        with open(os.path.join(self.etc, "master.cf"), "w") as file:
            file.write(MASTER.format(host=self.host, port=self.port))

    def start(self, environment=None, wrapper=()):
        """Start and wait for the greeting; seconds it took."""
        if not os.path.exists(self.etc):
            self.prepare()
        began = time.monotonic()
        done = subprocess.run([*wrapper, "postfix", "-c", self.etc, "start"], capture_output=True, env={**os.environ, **(environment or {})})
        if first_greeting(self.port, 20, self.host) is None:
            raise RuntimeError(f"postfix did not start: {done.stderr.decode()} {self.log_text()[-2000:]}")
        with open(os.path.join(self.base, "queue", "pid", "master.pid")) as file:
            self.master = int(file.read())
        return time.monotonic() - began

    def stop(self, patience=10):
        """`postfix stop`; whatever is left of its process group is killed by pid."""
        if self.master is None:
            return
        subprocess.run(["postfix", "-c", self.etc, "stop"], capture_output=True, timeout=60)
        end = time.monotonic() + patience
        while self.family() and time.monotonic() < end:
            time.sleep(0.05)
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)
        self.master = None

    def kill9(self):
        """Kill every process of the instance at once, as a power failure would."""
        if self.master is not None:
            try:
                os.killpg(self.master, signal.SIGKILL)
            except ProcessLookupError:
                pass
            while self.family():
                time.sleep(0.005)
            self.master = None

    def write(self, name, text):
        """Write a table below `etc` (texthash: tables need a reload, `configure()`)."""
        with open(os.path.join(self.etc, name), "w") as file:
            file.write(text)

    def configure(self, **parameters):
        """Change main.cf parameters and reload, if it runs."""
        if parameters:
            subprocess.run(["postconf", "-c", self.etc, "-e", *(f"{key}={value}" for key, value in parameters.items())], check=True)
        if self.master is not None:
            subprocess.run(["postfix", "-c", self.etc, "reload"], check=True, capture_output=True)

    def inject(self, message, sender, recipients, options=""):
        """Hand a message to this Postfix for sending; RuntimeError if it does not take it."""
        with Client(self.port, self.host) as client:
            client.greet()
            answer = client.deliver(sender, recipients, message, options)
            if answer.code != 250:
                raise RuntimeError(f"Postfix refused our own mail: {answer.text}")
            client.quit()

    def flush(self):
        """Try everything that is deferred now."""
        subprocess.run(["postqueue", "-c", self.etc, "-f"], capture_output=True)

    def queued(self):
        """What its queue holds: objects of `postqueue -j`."""
        done = subprocess.run(["postqueue", "-c", self.etc, "-j"], capture_output=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_until_empty(self, patience=60, flush=False):
        """True when the queue got empty in time."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not self.queued():
                return True
            if flush:
                self.flush()
            time.sleep(0.1)
        return False

    def log_text(self):
        try:
            with open(self.log, errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def add_users(self, addresses):
        """Make mailboxes of those names."""
        with open(os.path.join(self.etc, "boxes"), "a") as file:
            file.writelines(f"{address} {box_of(address)}/\n" for address in addresses)
        self.configure()
        return list(addresses)

    def stored(self, address=""):
        """Paths of delivered messages."""
        found = []
        for part in ("new", "cur"):
            folder = os.path.join(self.directory, box_of(address), part)
            if os.path.isdir(folder):
                found += [os.path.join(folder, name) for name in os.listdir(folder)]
        return found

    def bodies(self, address=""):
        """Delivered messages as octets, line ends as on the wire."""
        self.wait_until_empty(120, flush=True)
        for path in self.stored(address):
            with open(path, "rb") as file:
                yield file.read().replace(b"\n", b"\r\n")

    def messages(self, address=""):
        listed = []
        for raw in self.bodies(address):
            head = email.message_from_bytes(raw[:20000])
            listed.append({"id": len(listed), "message_id": head["Message-ID"], "size": len(raw)})
        return listed

    def complaints(self):
        return ""

    def family(self):
        """Living pids of the instance: master and its process group (zombies do not count)."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as file:
                        fields = file.read().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[2]) == self.master and fields[0] != "Z":
                    found.append(int(entry))
        return found

    processes = family

    def memory(self, field="VmRSS"):
        """KiB of all processes together (shared pages counted in each)."""
        total = 0
        for pid in self.family():
            try:
                total += status_kib(pid, field)
            except OSError:
                pass
        return total
