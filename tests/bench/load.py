"""load: how fast mail is taken, and what it costs, Pipit beside Debian's Postfix.

Purpose: the throughput rows of the table in README.md: messages/s and CPU seconds per 1,000 messages.
Usage:   from load import throughput, syncs; or tests/bench/run
Result:  plain dictionaries of medians.

Both servers are driven by the same generator, Postfix's smtp-source, which keeps its connections (-d), on the same file
system, in interleaved rounds. Postfix stores to a Maildir by virtual(8), with its default syncs. The rate is what the client sees:
messages acknowledged per second. CPU is all of the server's: utime + stime of every process of its tree, plus those of its
reaped children (cutime, cstime), read before the run and after the server has finished (Postfix: queue empty).
"""

import os
import re
import signal
import statistics
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
SIZES = (4096, 100_000)
CONNECTIONS = (1, 10, 50)
# A cell lasts some seconds on a disk with 1 ms syncs; more connections share a sync.
MESSAGES = {(4096, 1): 500, (4096, 10): 2000, (4096, 50): 4000, (100_000, 1): 200, (100_000, 10): 600, (100_000, 50): 1000}


def smtp_source(port, connections, messages, length):
    """Send; seconds it took. RuntimeError if the server did not take everything."""
    began = time.monotonic()
    done = subprocess.run(["smtp-source", "-4", "-d", "-s", str(connections), "-m", str(messages), "-l", str(length), "-f", "carol@peer.test",
                           "-t", "ann@home.test", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=900)
    took = time.monotonic() - began
    if done.returncode != 0 or "unexpected" in done.stderr or "fatal" in done.stderr:
        raise RuntimeError(f"smtp-source: {done.stderr[-300:]}")
    return took


def cpu_seconds(pids):
    """CPU of these processes and their reaped children."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        except OSError:
            pass
    return total / TICK


def settle(server):
    """Wait until the server has nothing left to do."""
    if hasattr(server, "wait_until_empty"):
        server.wait_until_empty(300)
    last = cpu_seconds(server.processes())
    for _ in range(100):
        time.sleep(0.1)
        now = cpu_seconds(server.processes())
        if now - last < 0.02:
            return
        last = now


def throughput(servers, rounds, say, share=1.0):
    """{(server name, size, connections): (messages/s, CPU s per 1,000)}: medians of interleaved rounds."""
    rates, costs = {}, {}
    for number in range(rounds):
        for size in SIZES:
            for connections in CONNECTIONS:
                for server in servers if number % 2 == 0 else servers[::-1]:
                    messages = max(50, int(MESSAGES[size, connections] * share))
                    settle(server)
                    before = cpu_seconds(server.processes())
                    took = smtp_source(server.port, connections, messages, size)
                    settle(server)
                    key = server.name, size, connections
                    rates.setdefault(key, []).append(messages / took)
                    costs.setdefault(key, []).append((cpu_seconds(server.processes()) - before) * 1000 / messages)
        say(f"round {number + 1} of {rounds} done")
    return {key: (statistics.median(rates[key]), statistics.median(costs[key])) for key in rates}


def syncs(server, connections, messages=300):
    """Syncs per 1,000 accepted messages, counted by strace (fsync, fdatasync, and writes to O_DSYNC descriptors)."""
    trace = os.path.join(server.base, "strace.out")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,pwrite64,pwritev,openat", "-o", trace,
                               *(word for pid in server.processes() for word in ("-p", str(pid)))], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        smtp_source(server.port, connections, messages, 4096)
        settle(server)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    flags = synced_descriptors(server.processes())
    count = 0
    with open(trace, errors="replace") as file:
        for line in file:
            call = re.match(r"\d+\s+(\w+)\((\d+)", line)
            if call and (call[1] in ("fsync", "fdatasync", "sync_file_range") or call[1].startswith("pwrite") and int(call[2]) in flags):
                count += 1
    os.unlink(trace)
    return count * 1000 / messages


def synced_descriptors(pids):
    """Descriptor numbers opened with O_DSYNC (O_SYNC contains it)."""
    found = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fdinfo"):
            try:
                with open(f"/proc/{pid}/fdinfo/{name}") as file:
                    flags = int(re.search(r"flags:\s+(\d+)", file.read())[1], 8)
            except OSError:
                continue
            if flags & os.O_DSYNC:
                found.add(int(name))
    return found


def file_system(path):
    """(type, device) of the file system that holds `path`; RuntimeError on tmpfs and overlay, which sync nothing real."""
    best = ("", "", "")
    with open("/proc/mounts") as file:
        for line in file:
            device, mount, kind = line.split()[:3]
            if (os.path.realpath(path) + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
                best = mount, kind, device
    if best[1] in ("tmpfs", "overlay", "ramfs"):
        raise RuntimeError(f"{path} is on {best[1]}: a benchmark of synced mail there says nothing; set PIPIT_SCRATCH to a real disk")
    return best[1], best[2]


def sync_latency(folder, count=200):
    """Median milliseconds of a 4 KiB pwrite and fdatasync, as a figure of the disk."""
    path, times = os.path.join(folder, "sync-probe"), []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for n in range(count):
            os.pwrite(fd, os.urandom(4096), n * 4096)
            began = time.perf_counter()
            os.fdatasync(fd)
            times.append(time.perf_counter() - began)
    finally:
        os.close(fd)
        os.unlink(path)
    return statistics.median(times) * 1000
