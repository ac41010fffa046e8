# SPDX-License-Identifier: Apache-2.0
"""What the measuring programs share: timing, memory of processes, the table, and which machine it was."""
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/system"))
from harness import DEBIAN_CONTAINERD, run  # noqa: E402

PROGRAMS = {"containerd": "daemon", "containerd-shim-runc-v2": "shim", "ctr": "ctr", "containerd-worker": "worker"}


# ---- measuring ----

def spawn(argv):
    """Seconds that a command takes, its output thrown away."""
    null = os.open(os.devnull, os.O_RDWR)
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1)])
    _, status = os.waitpid(pid, 0)
    end = time.perf_counter()
    os.close(null)
    if status:
        raise SystemExit(f"bench: wait status {status} of {' '.join(argv)}")
    return end - begin


def take_turns(cases, rounds, warm=1):
    """name -> function(round) that returns seconds; gives name -> median milliseconds."""
    times = {name: [] for name in cases}
    for n in range(-warm, rounds):
        for name, case in cases.items():
            t = case(n + warm)
            if n >= 0:
                times[name].append(t * 1000)
    return {name: statistics.median(t) for name, t in times.items()}


def status_kb(pid, key="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise SystemExit(f"bench: process {pid} has no {key}")


def pss_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def settled_rss(pid):
    """RSS when it has not moved for two seconds: idle threads end and heaps are given back after a while."""
    last, since = status_kb(pid), time.monotonic()
    begin = since
    while time.monotonic() - since < 6 and time.monotonic() - begin < 40:
        time.sleep(0.25)
        now = status_kb(pid)
        if now != last:
            last, since = now, time.monotonic()
    return last


# ---- what is told ----

class Table:
    def __init__(self):
        self.rows = []

    def section(self, title, peer="Debian"):
        self.rows.append((title, "this", peer, "ratio", None))

    def row(self, what, ours, theirs, unit):
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        form = "{:,.0f}" if unit in ("kB", "B") else "{:,.1f}"
        self.rows.append((what, form.format(ours) if ours is not None else "-", form.format(theirs) if theirs is not None else "-", ratio, unit))
        print(f"  {what:58} {self.rows[-1][1]:>12} {self.rows[-1][2]:>12} {unit:3} {ratio:>6}", flush=True)

    def markdown(self):
        out = []
        for what, ours, theirs, ratio, unit in self.rows:
            if unit is None:
                out += ["", f"| {what} | {ours} | {theirs} | | {ratio} |", "|---|--:|--:|---|--:|"]
            else:
                out.append(f"| {what} | {ours} | {theirs} | {unit} | {ratio} |")
        return "\n".join(out[1:]) + "\n"


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    version = {n: subprocess.run([n, "--version"], capture_output=True, text=True).stdout.splitlines()[0] for n in (DEBIAN_CONTAINERD, "runc", "crun")}
    return (f"{os.cpu_count()} x {cpu}, Linux {platform.release()}; beside {version[DEBIAN_CONTAINERD].removeprefix('containerd ')}, "
            f"{version['runc']}, {version['crun']}. Load when it began: {os.getloadavg()[0]:.1f}.")


def strip_programs(source, to):
    """The four programs, from a build directory or a directory of them, without symbols; gives @to."""
    to.mkdir()
    for name, folder in PROGRAMS.items():
        at = pathlib.Path(source) / name
        run(["strip", "-o", to / name, at if at.exists() else pathlib.Path(source) / "src" / folder / name])
    return to
