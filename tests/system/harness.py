# SPDX-License-Identifier: Apache-2.0
"""What the system tests stand on: daemons and registries that are started, watched and ended, and commands with a time limit.

Everything lives in private directories; processes are ended by their pid. A daemon here is any containerd: ours, or the one
that Debian packages, with either one's ctr.
"""
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CONTAINERD_BIN", "/usr/bin"))
OURS = "CONTAINERD_BIN" in os.environ
DEBIAN_CTR = "/usr/bin/ctr"
DEBIAN_CONTAINERD = "/usr/bin/containerd"
DEBIAN_SHIM = "/usr/bin/containerd-shim-runc-v2"
USER, PASSWORD = "tester", "s3cret"
# Limits of single commands, generous because everything runs under sanitizers on few processors.
SECONDS = float(os.environ.get("TEST_SECONDS", "90"))

_REPORT = re.compile(r"ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL|Sanitizer: CHECK failed")


class CommandFailed(AssertionError):
    pass


def run(argv, check=True, input=None, timeout=None, env=None, cwd=None, binary=False):
    """Runs a command to its end; returns CompletedProcess with text (or bytes) of both streams."""
    argv = [str(a) for a in argv]
    p = subprocess.run(argv, input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, text=not binary,
                       timeout=timeout or SECONDS, env={**os.environ, **(env or {})}, cwd=cwd)
    if check and p.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}\nexit status {p.returncode}\nstdout: {p.stdout[-4000:]}\nstderr: {p.stderr[-4000:]}")
    return p


def until(what, condition, seconds=None):
    """For conditions of other processes that nothing announces. Returns the first true value."""
    end = time.monotonic() + (seconds or SECONDS)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"in vain waited for: {what}")
        time.sleep(0.02)


_given = set()


def free_port():
    """Nobody listens there, and it is none of those that the kernel gives to whoever connects: it is still free when it is used."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10000, low) if low > 12000 else 0
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = s.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def rows(text):
    """Lines of a table as lists of cells, without the header."""
    return [line.split() for line in text.splitlines()[1:] if line.strip()]


def processes():
    """pid -> command line of all processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = pathlib.Path("/proc", name, "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            except OSError:
                continue
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def catches(pid, number):
    """Whether a process handles a signal: what comes to the first process of a namespace before that is lost."""
    line = [line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")][0]
    return bool(int(line.split()[1], 16) & 1 << (number - 1))


def mounts_below(directory):
    points = [line.split()[1].encode().decode("unicode_escape") for line in open("/proc/self/mounts")]
    return sorted((p for p in points if p.startswith(str(directory) + "/")), reverse=True)


def unmount_below(directory):
    for point in mounts_below(directory):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def terminate(process, seconds=SECONDS):
    """Ends a process that this test run started. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"process {process.args[0]} did not end within {seconds} s of SIGTERM")
    return process.returncode


class Ctr:
    """A ctr bound to a daemon's address."""

    def __init__(self, binary, address, namespace="default"):
        self.binary, self.address, self.namespace = str(binary), str(address), namespace

    def argv(self, *args, ns=None):
        return [self.binary, "-a", self.address, "-n", ns or self.namespace, *map(str, args)]

    def __call__(self, *args, ns=None, **kw):
        kw.setdefault("env", {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"})
        p = run(self.argv(*args, ns=ns), **kw)
        report = p.stderr if isinstance(p.stderr, str) else p.stderr.decode(errors="replace")
        assert not _REPORT.search(report), f"ctr {' '.join(map(str, args))}: sanitizer report\n{report[-6000:]}"
        return p

    def out(self, *args, **kw):
        return self(*args, **kw).stdout

    def popen(self, *args, ns=None, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.argv(*args, ns=ns), **kw)

    def quiet(self, *args, **kw):
        """Names of a `ls -q`."""
        return self.out(*args, **kw).split()


class Daemon:
    """A containerd with directories of its own. May be started again after it ended; keeps its root and state."""

    def __init__(self, containerd=None, ctr=None, config="", directory=None, path=None, env=None):
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="cd-", dir="/tmp"))
        self.owns_dir = directory is None
        self.containerd = str(containerd or BIN / "containerd")
        self.address = self.dir / "c.sock"
        self.root, self.state, self.log = self.dir / "root", self.dir / "state", self.dir / "log"
        self.config = self.dir / "config.toml"
        self.config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + config)
        self.ctr = Ctr(ctr or BIN / "ctr", self.address)
        self.path, self.env = path, env or {}
        self.process = None
        self.checked = 0

    def environment(self):
        env = {**os.environ, **self.env}
        env["PATH"] = (f"{self.path}:" if self.path else "") + env["PATH"]
        san = f"log_path={self.dir}/sanitizer"
        env["ASAN_OPTIONS"] = f"detect_leaks=1:{san}"
        env["UBSAN_OPTIONS"] = f"print_stacktrace=1:{san}"
        # Of libraries that keep caches until the end of the process; none of the project's own functions may stand here.
        env["LSAN_OPTIONS"] = "print_suppressions=0"
        return env

    def start(self, *args):
        assert self.process is None
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.dir / "notify"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        notify.settimeout(0.5)
        env = {**self.environment(), "NOTIFY_SOCKET": str(path)}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.containerd, "--config", self.config, "--root", self.root, "--state", self.state,
                                             "--address", self.address, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        end = time.monotonic() + SECONDS
        with notify:
            while True:
                try:
                    if b"READY=1" in notify.recv(4096):
                        return self
                except TimeoutError:
                    pass
                if self.process.poll() is not None:
                    status, self.process = self.process.returncode, None
                    raise AssertionError(f"containerd ended with {status} instead of starting:\n{self.tail()}")
                if time.monotonic() > end:
                    self.process.kill()
                    raise AssertionError(f"containerd was not ready after {SECONDS} s:\n{self.tail()}")

    def tail(self, n=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:]) if self.log.exists() else "(no log)"

    def stop(self):
        """An orderly end: status 0, nothing found by a sanitizer."""
        process, self.process = self.process, None
        if process is None:
            return
        status = terminate(process)
        assert status == 0, f"containerd ended with status {status} after SIGTERM:\n{self.tail()}"
        self.check_reports()

    def kill(self):
        """An end without notice."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def check_reports(self):
        found = []
        for f in sorted(self.dir.glob("sanitizer*")):
            text = f.read_text(errors="replace")
            if text.strip():
                found.append(text[-8000:])
            f.unlink()
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        new, self.checked = text[self.checked:], len(text)
        m = _REPORT.search(new)
        if m:
            found.append(new[max(0, m.start() - 2000):m.start() + 6000])
        assert not found, "sanitizer reports of daemon, shim or worker:\n" + "\n".join(found)

    def shims(self):
        return [pid for pid, argv in processes().items() if str(self.address) in argv and argv[0].rsplit("/", 1)[-1].startswith("containerd-shim")]

    def clear(self):
        """Ends all tasks and removes all containers, in whatever state a test left them."""
        if self.process is None or self.process.poll() is not None:
            return
        for line in self.ctr("namespaces", "ls", "-q", check=False).stdout.split():
            for task in self.ctr("tasks", "ls", "-q", ns=line, check=False).stdout.split():
                self.ctr("tasks", "rm", "-f", task, ns=line, check=False)
            for container in self.ctr("containers", "ls", "-q", ns=line, check=False).stdout.split():
                self.ctr("containers", "rm", container, ns=line, check=False)

    def close(self):
        """Ends everything; fails when the daemon does not end well. To be called once."""
        try:
            try:
                self.clear()
            finally:
                self.stop()
            if self.shims():
                until("shims to end", lambda: not self.shims())
            self.check_reports()
            mounts = mounts_below(self.dir)
            assert not mounts, f"mounts are left after all tasks were removed: {mounts}\n{self.tail()}"
            bundles = [str(p) for p in self.state.glob("io.containerd.runtime.v2.task/*/*")]
            assert not bundles, f"bundles are left after all tasks were removed: {bundles}"
        finally:
            self._remove()

    def _remove(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.shims():
            for child in children(pid):
                _kill(child)
            _kill(pid)
        unmount_below(self.dir)
        if self.owns_dir and not os.environ.get("KEEP_TEST_DIRS"):
            shutil.rmtree(self.dir, ignore_errors=True)


def children(pid):
    """Direct children, of all threads of a process."""
    found = []
    for f in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(p) for p in f.read_text().split()]
        except OSError:
            continue
    return found


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


class Registry:
    """Debian's docker-registry on a free port of the loopback interface (@netns: of that namespace, as cri.py has them)."""

    def __init__(self, auth=False, netns=None):
        self.netns = netns
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="reg-", dir="/tmp"))
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.auth = auth
        access = ""
        if auth:
            run(["htpasswd", "-Bbc", self.dir / "htpasswd", USER, PASSWORD])
            access = f"auth:\n  htpasswd:\n    realm: test\n    path: {self.dir}/htpasswd\n"
        (self.dir / "config.yml").write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {self.dir}/data\n"
                                             f"http:\n  addr: {self.host}\n{access}")
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen([*self.prefix(), "docker-registry", "serve", self.dir / "config.yml"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        until("docker-registry to listen", self._listening)

    def prefix(self):
        return self.netns.prefix() if self.netns else []

    def _listening(self):
        assert self.process.poll() is None, (self.dir / "log").read_text()
        try:
            (self.netns.connect if self.netns else lambda *a: socket.create_connection(a[:2], a[2]))("127.0.0.1", self.port, 10).close()
            return True
        except OSError:
            return False

    def push(self, layout, name, all_platforms=False):
        """An image of an OCI layout (`dir:tag`), by skopeo. Returns its reference."""
        ref = f"{self.host}/{name}"
        creds = ["--dest-creds", f"{USER}:{PASSWORD}"] if self.auth else []
        run([*self.prefix(), "skopeo", "--insecure-policy", "copy", "-q", *(["--all"] if all_platforms else []), "--dest-tls-verify=false", *creds,
             f"oci:{layout}", f"docker://{ref}"])
        return ref

    def requests(self):
        return (self.dir / "log").read_text(errors="replace")

    def close(self):
        self.process.terminate()
        self.process.wait(SECONDS)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Lines:
    """The output of a running command, line by line, waited for without polling."""

    def __init__(self, process):
        self.process, self.buffer, self.seen = process, b"", []

    def wait(self, pattern, seconds=None):
        """The match in the first line not yet returned that has one."""
        end = time.monotonic() + (seconds or SECONDS)
        fd = self.process.stdout.fileno()
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                self.seen.append(line.decode(errors="replace"))
                m = re.search(pattern, self.seen[-1])
                if m:
                    return m
            ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"no line with {pattern!r} in:\n" + "\n".join(self.seen[-40:]) + self.buffer.decode(errors="replace"))
            self.buffer += data


class Events:
    """`ctr events`, started and known to be subscribed."""

    def __init__(self, ctr, probe="probe"):
        self.process = ctr.popen("events", stdout=subprocess.PIPE)
        self.lines = Lines(self.process)
        # Nothing announces a subscription: events are made until the first of them is shown.
        for i in range(300):
            ctr("namespaces", "create", f"{probe}{i}")
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                break
        for k in range(i + 1):
            ctr("namespaces", "rm", f"{probe}{k}")

    def wait(self, topic):
        return json.loads(self.lines.wait(rf" {topic} (\{{.*)$")[1])

    def close(self):
        self.process.kill()
        self.process.wait()
