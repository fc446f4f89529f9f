"""Pipit as the server under test: its configuration, its life, and its command line.

Purpose: the one place that knows how `pipit` is configured, started, asked and stopped.
Usage:   with Pipit(base) as server: server.start(); ...; server.messages("ann@home.test")
Result:  a process of ours on a free loopback port, always gone at the end; PIPIT names another binary.
"""

import json
import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import time

from rig.outcome import ROOT
from rig.wire import Client, careless_tls, first_greeting, free_ports

PASSWORD = "correct horse 1 battery"
READY_PATIENCE = 20.0


def program():
    """The binary under test: $PIPIT, else the release build of this tree."""
    path = os.environ.get("PIPIT") or os.path.join(ROOT, "target", "release", "pipit")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is missing: cargo build --release, or set PIPIT")
    return path


def configuration(directory, listen, user, limits, first_user=True, settings=None):
    """The text of pipit.toml; the only place that knows its keys. `listen` maps smtp, submission, submissions to lists of
    sockets; `settings` maps other tables to their keys, {"outbound": {"first-retry": "1s"}}, and "" to keys of the top."""
    settings = dict(settings or {})
    text = f'hostname = "mx.home.test"\ndir = "{directory}"\n'
    if user:
        text += f'user = "{user}"\n'
    text += keys(settings.pop("", {}))
    text += "\n[listen]\n" + keys({**{"smtp": [], "submission": [], "submissions": []}, **listen})
    for table, values in {"limits": limits or {}, **settings}.items():
        if values:
            text += f"\n[{table}]\n" + keys(values)
    text += '\n[[domain]]\nname = "home.test"\n'
    if first_user:
        text += f'\n[[first-user]]\naddress = "ann@home.test"\npassword = "{PASSWORD}"\n'
    return text


def keys(values):
    return "".join(f"{key} = {as_toml(value)}\n" for key, value in values.items())


def as_toml(value):
    return json.dumps(value) if isinstance(value, (bool, str, list)) else str(value)


class Pipit:
    """One directory, and the server on it while it runs. `messages` asks the server, or the directory when it is down."""

    name = "pipit"

    def __init__(self, base, limits=None, directory=None, binary=None, first_user=True, host="127.0.0.1", settings=None):
        """`settings`: what else to configure, see configuration(); with a table "outbound" it also takes submissions."""
        self.binary, self.base = binary or program(), base
        self.directory = directory or os.path.join(base, "dir")
        self.config = os.path.join(self.directory, "pipit.toml")
        self.log = os.path.join(base, "pipit.log")
        (self.port, self.submission_port, self.submissions_port), self.host = free_ports(3), host
        self.limits, self.first_user, self.process = dict(limits or {}), first_user, None
        self.settings = settings
        self.user = service_user()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill9()

    def prepare(self):
        """Make the directory and write the configuration (again)."""
        os.makedirs(self.directory, exist_ok=True)
        with open(self.config, "w") as file:
            file.write(configuration(self.directory, self.listen(), self.user, self.limits, self.first_user, self.settings))
        if self.user:
            owner = pwd.getpwnam(self.user)
            for path in (self.directory, self.config):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def listen(self):
        """The listeners: submission only for tests that send."""
        ports = {"smtp": self.port}
        if self.settings and "outbound" in self.settings:
            ports |= {"submission": self.submission_port, "submissions": self.submissions_port}
        return {role: [f"{self.host}:{port}"] for role, port in ports.items()}

    def change(self, table, **values):
        """Change settings (`first_retry` is `first-retry`) and reload."""
        self.settings.setdefault(table, {}).update({key.replace("_", "-"): value for key, value in values.items()})
        self.prepare()
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)

    def at(self, base, directory):
        """The same kind of server on another directory."""
        return Pipit(base, self.limits, directory, self.binary, self.first_user, self.host, self.settings)

    def start(self, environment=None, wrapper=()):
        """Start, wait for the first 220; seconds from exec to greeting."""
        if not os.path.exists(self.config):
            self.prepare()
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*wrapper, self.binary, "serve", "--config", self.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env={**os.environ, **(environment or {})}, cwd="/")
        while time.monotonic() - began < READY_PATIENCE:
            if self.process.poll() is not None:
                break
            if first_greeting(self.port, 0.5, self.host) is not None:
                return time.monotonic() - began
        raise RuntimeError(f"pipit did not greet; its last words:\n{self.last_words()}")

    def last_words(self, octets=3000):
        try:
            with open(self.log, "rb") as log:
                return log.read()[-octets:].decode("utf-8", "replace")
        except OSError:
            return ""

    @property
    def pid(self):
        return self.process.pid

    def stop(self, patience=20):
        """SIGTERM and wait; the exit status, or None when it had to be killed."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill9()
            return None
        self.process = None
        return status

    def kill9(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()
            self.process = None

    def run(self, *arguments, stdin=None, patience=600):
        """One command; the CompletedProcess."""
        return subprocess.run([self.binary, *arguments, "--config", self.config], input=stdin, capture_output=True, timeout=patience)

    def messages(self, address="ann@home.test"):
        """All stored messages of an account, as the objects of `mail list --json`."""
        done = self.run("mail", "list", address, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"mail list: exit {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-500:]}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{") and b'"id"' in line]

    def raw(self, ident, address="ann@home.test"):
        """One stored message as it would be handed out, trace fields in front."""
        done = self.run("mail", "show", address, str(ident), "--raw")
        if done.returncode != 0:
            raise RuntimeError(f"mail show {ident}: exit {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def bodies(self, address="ann@home.test"):
        """Every stored message as octets, by `mail export` (one .eml each)."""
        into = os.path.join(self.base, f"export-{time.monotonic_ns()}")
        os.makedirs(into)
        if self.user:
            os.chmod(into, 0o777)
        try:
            done = self.run("mail", "export", address, into)
            if done.returncode != 0:
                raise RuntimeError(f"mail export: exit {done.returncode}: {done.stderr[-500:]}")
            for folder, _, names in os.walk(into):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as file:
                        yield file.read()
        finally:
            shutil.rmtree(into, ignore_errors=True)

    def complaints(self):
        """`store check`: "" when clean, else what it said."""
        try:
            done = self.run("store", "check", patience=120)
        except subprocess.TimeoutExpired:
            return "did not end in two minutes"
        return "" if done.returncode == 0 else f"exit {done.returncode}: {(done.stdout + done.stderr)[-800:].decode('utf-8', 'replace')}"

    def submitter(self, login=True, patience=60.0):
        """A bare client on the port with TLS from the first octet, logged in as ann: for many messages one after another."""
        client = Client(self.submissions_port, self.host, patience=patience, tls=True)
        client.greet("laptop.home.test")
        if login:
            answer = client.login("ann@home.test", PASSWORD)
            if answer.code != 235:
                raise RuntimeError(f"our own login was refused: {answer.text}")
        return client

    def submit(self, message, recipients, sender="ann@home.test", options="", implicit=True, user="ann@home.test", password=PASSWORD,
               mechanism="PLAIN", rcpt_options=()):
        """Hand in one message by smtplib, with STARTTLS or TLS from the first octet; smtplib's exceptions when it is refused."""
        kind, port = (smtplib.SMTP_SSL, self.submissions_port) if implicit else (smtplib.SMTP, self.submission_port)
        with kind(self.host, port, "laptop.home.test", timeout=60, **({"context": careless_tls()} if implicit else {})) as session:
            if not implicit:
                session.starttls(context=careless_tls())
            session.ehlo()
            session.user, session.password = user, password
            code, text = session.auth(mechanism, getattr(session, "auth_" + mechanism.lower()))
            if code != 235:
                raise smtplib.SMTPAuthenticationError(code, text)
            session.command_encoding = "utf-8"
            return session.sendmail(sender, list(recipients), message, options.split(), list(rcpt_options))

    def queue(self):
        """What waits: the objects of `queue list --json`, one a message."""
        return [row for row in self.asked("queue", "list") if "id" in row]

    def wait_until_empty(self, patience=60, flush=False):
        """True when the queue got empty in time; `flush` retries what is deferred."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not self.queue():
                return True
            if flush:
                self.run("queue", "retry", "--all")
            time.sleep(0.1)
        return False

    def asked(self, *words):
        """Rows of a command that must work."""
        done = self.run(*words, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-500:]}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]

    def hold_everything(self):
        """A hold rule for all mail from now on."""
        self.asked("hold", "add", "--all")

    def unhold(self):
        """Remove all hold rules; what they held stays held."""
        for rule in self.asked("hold", "list"):
            self.run("hold", "remove", str(rule["id"]))

    def release_everything(self):
        self.asked("queue", "release", "--all")

    def add_users(self, addresses):
        """Make accounts; those that could be made."""
        made = []
        for address in addresses:
            done = self.run("user", "add", address, "--password-stdin", stdin=PASSWORD.encode() + b"\n")
            if done.returncode == 0:
                made.append(address)
        return made

    def app_password(self, address, name):
        """Make an app password and give it back: SCRAM works with these only."""
        return next((row["password"] for row in self.asked("user", "apppass", "add", address, name) if "password" in row), "")

    def memory(self, field="VmRSS"):
        """KiB of one line of /proc/PID/status."""
        return status_kib(self.pid, field)

    def processes(self):
        return [self.pid]


def status_kib(pid, field):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def service_user():
    """The user that a server started by root becomes: PIPIT_USER, else nobody; None when we are not root."""
    return (os.environ.get("PIPIT_USER") or "nobody") if os.geteuid() == 0 else None


