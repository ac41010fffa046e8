# SPDX-License-Identifier: Apache-2.0
"""Standard streams of Kubernetes' containers: the log, commands that are run in a container, and what a daemon that stops, dies
or is replaced does to the output (nothing)."""
import itertools
import os
import pathlib
import re
import socket
import time

import grpc
import pytest

from cri import cri_daemon, fails
from cri_fixtures import cri, image
from harness import DEBIAN_SHIM, run, until

CONFIG = f"""
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.debian]
runtime_type = 'io.containerd.runc.v2'
runtime_path = '{DEBIAN_SHIM}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow.options]
BinaryName = '@SLOW@'
"""
# Takes its time for an exec.
SLOW = """#!/bin/sh
case " $* " in *" exec "*) touch $0.reached; sleep 2 ;; esac
exec runc "$@"
"""
PODS = itertools.count()
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] ")


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout, tmp_path_factory):
    slow = tmp_path_factory.mktemp("runtime") / "slow"
    slow.write_text(SLOW)
    slow.chmod(0o755)
    with cri_daemon(stubs, busybox_layout, CONFIG.replace("@SLOW@", str(slow))) as v:
        v[0].slow = slow
        yield v


@pytest.fixture(params=["", "debian"], ids=["our-shim", "debian-shim"])
def handler(request):
    if request.param and not os.path.exists(DEBIAN_SHIM):
        pytest.skip("Debian's containerd is not installed")
    return request.param


def start(cri, image, command, handler="", name="c", **fields):
    conf = cri.pod(f"p{next(PODS)}")  # logs outlive their containers
    p = cri.run_pod(conf, handler)
    return cri.start(p, conf, cri.container(name, image, ["/bin/sh", "-c", command], **fields))


def sh(cri, k, command, timeout=90):
    return cri.ExecSync(container_id=k, cmd=["/bin/sh", "-c", command], **({"timeout": timeout} if timeout else {}))


def text(cri, k, stream="stdout"):
    """What the kubelet makes of the log: P pieces put together."""
    return "".join(t + ("\n" if tag == "F" else "") for s, tag, t in cri.log(k) if s == stream)


def test_log_has_both_streams_in_the_kubelets_form(cri, image, handler):
    k = start(cri, image, "echo one; echo two >&2; echo; printf 'cr\\r\\n'; printf 'a\\rb\\n'; printf end", handler)
    assert cri.exited(k).exit_code == 0
    raw = pathlib.Path(cri.status(k).log_path).read_bytes().decode().split("\n")
    assert raw.pop() == "" and all(LINE.match(line) for line in raw)
    assert sorted(line.split(" ", 1)[1] for line in raw) == sorted(
        ["stdout F one", "stderr F two", "stdout F ", "stdout F cr", "stdout F a\rb", "stdout P end"])
    assert os.stat(cri.status(k).log_path).st_mode & 0o777 == 0o640


def test_long_lines_come_in_pieces(cri, image, handler):
    k = start(cri, image, "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo; head -c 20000 /dev/zero | tr '\\0' z", handler)
    cri.exited(k)
    assert [(tag, len(t), t[0]) for _, tag, t in cri.log(k)] == [("P", 16384, "x"), ("P", 16384, "x"), ("F", 7232, "x"), ("F", 16384, "y"),
                                                                 ("P", 16384, "z"), ("P", 3616, "z")]


def test_terminal_is_one_stream(cri, image, handler):
    k = start(cri, image, "echo out; echo err >&2; test -t 0 && test -t 1 && echo tty", handler, tty=True, stdin=True)
    cri.exited(k)
    assert [(s, t) for s, _, t in cri.log(k)] == [("stdout", "out"), ("stdout", "err"), ("stdout", "tty")]


def test_everything_of_a_burst_is_there_when_the_exit_is_told(cri, image, handler):
    k = start(cri, image, "seq 1 200000", handler)
    assert cri.exited(k).exit_code == 0
    assert text(cri, k) == "".join(f"{i}\n" for i in range(1, 200001))


def test_log_is_reopened_after_rotation(cri, image, handler):
    k = start(cri, image, "i=0; while :; do i=$((i+1)); echo $i; usleep 2000; done", handler)
    path = pathlib.Path(cri.status(k).log_path)
    old = path.with_suffix(".1")
    until("output", lambda: path.stat().st_size > 2000)
    path.rename(old)
    cri.ReopenContainerLog(container_id=k)
    until("output in the new file", lambda: path.stat().st_size > 2000)
    size = old.stat().st_size
    cri.StopContainer(container_id=k, timeout=0)
    assert old.stat().st_size == size
    numbers = [int(line.split()[3]) for f in (old, path) for line in f.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "container is not running" in fails(grpc.StatusCode.UNKNOWN, cri.ReopenContainerLog, container_id=k)


def test_log_that_cannot_be_opened_is_told(cri, image, handler):
    conf = cri.pod("p", log_directory="/proc/no/such")
    p = cri.run_pod(conf, handler)
    k = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("c", image), sandbox_config=conf).container_id
    with pytest.raises(grpc.RpcError, match="/proc/no/such"):
        cri.StartContainer(container_id=k)
    assert cri.status(k).reason == "StartError"


def test_container_without_a_log_runs(cri, image, handler):
    k = start(cri, image, "seq 1 100000", handler, log_path="")
    assert cri.exited(k).exit_code == 0


# ---- commands ----


def test_exec_tells_code_and_both_streams(cri, image, handler):
    k = start(cri, image, "export A=b; sleep 1000", handler, envs=[cri.pb.KeyValue(key="K", value=b"v")], working_dir="/tmp")
    r = sh(cri, k, "echo out; echo err >&2; echo $K $PWD; exit 3")
    assert (r.exit_code, r.stdout, r.stderr) == (3, b"out\nv /tmp\n", b"err\n")
    assert sh(cri, k, "kill -9 $$").exit_code == 137
    assert sh(cri, k, "cat").stdout == b""  # nothing is its input
    assert "not-there" in fails(grpc.StatusCode.UNKNOWN, cri.ExecSync, container_id=k, cmd=["not-there"])
    assert "command cannot be empty" in fails(grpc.StatusCode.UNKNOWN, cri.ExecSync, container_id=k)
    cri.StopContainer(container_id=k, timeout=0)
    assert "CONTAINER_EXITED" in fails(grpc.StatusCode.UNKNOWN, cri.ExecSync, container_id=k, cmd=["true"])


def test_exec_is_killed_when_its_time_is_over(cri, image, handler):
    k = start(cri, image, "sleep 1000", handler)
    began = time.monotonic()
    assert "timeout 1s exceeded: context deadline exceeded" in fails(
        grpc.StatusCode.DEADLINE_EXCEEDED, cri.ExecSync, container_id=k, cmd=["sleep", "777"], timeout=1)
    assert 1 <= time.monotonic() - began < 777
    assert b"777" not in sh(cri, k, "ps").stdout


def test_exec_whose_caller_leaves_while_it_starts_is_killed(cri, image):
    k = start(cri, image, "sleep 1000", "slow")
    reached = cri.slow.with_name("slow.reached")
    call = cri.runtime.ExecSync.future(cri.pb.ExecSyncRequest(container_id=k, cmd=["sleep", "776"], timeout=600))
    until("the start", reached.exists)
    call.cancel()
    execs = cri.daemon.state / "io.containerd.grpc.v1.cri/containers" / k / "exec"
    until("the end of it", lambda: not list(execs.iterdir()))
    assert b"776" not in sh(cri, k, "ps").stdout


def test_exec_that_leaves_a_child_with_its_output_ends_by_its_time(cri, image):
    k = start(cri, image, "sleep 1000")
    began = time.monotonic()
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, cri.ExecSync, container_id=k, cmd=["/bin/sh", "-c", "sleep 778 & sleep 779"], timeout=1, rpc_timeout=900)
    assert time.monotonic() - began < 778


def test_output_of_exec_is_cut_at_16_mib(cri, image, handler):
    k = start(cri, image, "sleep 1000", handler)
    r = sh(cri, k, "head -c 17000000 /dev/zero; head -c 1000 /dev/zero >&2; exit 4")
    assert (len(r.stderr), r.exit_code) == (1000, 4)
    assert (16 << 20) - 8192 < len(r.stdout) + 1000 <= 16 << 20  # of a message


def test_execs_leave_nothing(cri, image, handler):
    k = start(cri, image, "sleep 1000", handler)
    for _ in range(5):
        assert sh(cri, k, "true").exit_code == 0
    state = cri.daemon.state / "io.containerd.grpc.v1.cri/containers" / k
    assert not list((state / "exec").iterdir())


# ---- the daemon comes and goes ----

COUNT = "i=0; while :; do i=$((i+1)); echo $i; echo $i >&2; usleep 1000; done"


def last(path):
    """The number in the last line that is whole."""
    lines = path.read_text().rpartition("\n")[0].splitlines()
    return int(lines[-1].split()[3]) if lines else 0


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_nothing_is_lost_or_doubled_or_stalled_while_there_is_no_daemon(cri, image, way):
    k = start(cri, image, COUNT)
    path = pathlib.Path(cri.status(k).log_path)
    for _ in range(3):
        until("output", lambda: path.stat().st_size > 0)
        getattr(cri.daemon, way)()
        before = last(path)
        until("output without a daemon", lambda: last(path) > before + 200)
        cri.daemon.start()
        cri.connect()
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
    old = path.with_suffix(".1")
    path.rename(old)
    cri.ReopenContainerLog(container_id=k)
    until("the new log", path.exists)
    cri.StopContainer(container_id=k, timeout=0)
    for stream in ("stdout", "stderr"):
        numbers = [int(w[3]) for f in (old, path) for line in f.read_text().splitlines() if (w := line.split())[1] == stream]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 600


def test_fifos_are_copied_on_after_a_restart(cri, image):
    k = start(cri, image, COUNT, "debian")
    path = pathlib.Path(cri.status(k).log_path)
    for _ in range(3):
        before = last(path)
        until("output", lambda: last(path) > before + 100)
        cri.daemon.restart()
        cri.connect()
    before = last(path)
    until("output", lambda: last(path) > before + 100)
    cri.StopContainer(container_id=k, timeout=0)
    for stream in ("stdout", "stderr"):
        assert (got := text(cri, k, stream).split()) == [str(i) for i in range(1, len(got) + 1)]


def test_fifos_are_copied_on_after_the_daemon_was_killed(cri, image):
    k = start(cri, image, "i=0; while :; do i=$((i+1)); echo $i; usleep 1000; done", "debian")
    path = pathlib.Path(cri.status(k).log_path)
    until("output", lambda: last(path) > 100)
    cri.daemon.kill()
    cri.daemon.start()
    cri.connect()
    before = last(path)
    until("output", lambda: last(path) > before + 100)
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING


def test_output_of_a_container_that_ended_without_a_daemon_is_there(cri, image):
    k = start(cri, image, "while [ ! -e /go ]; do sleep 0.05; done; seq 1 1000; exit 5")
    path, root = pathlib.Path(cri.status(k).log_path), pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/root")
    cri.daemon.kill()
    (root / "go").touch()
    until("the container to end", lambda: path.read_text().count("\n") == 1000)
    cri.daemon.start()
    cri.connect()
    assert cri.exited(k).exit_code == 5
    assert text(cri, k) == "".join(f"{i}\n" for i in range(1, 1001))


# ---- attaching ----


class Attached:
    """As the daemon attaches to a container whose shim writes the log."""

    def __init__(self, cri, k, streams=3):
        d = os.open(cri.daemon.state / "io.containerd.grpc.v1.cri/containers" / k / "io", os.O_PATH)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(90)
        self.socket.connect(f"/proc/self/fd/{d}/attach")  # its path is too long
        os.close(d)
        self.socket.send(bytes([ord("b"), streams]))
        assert self.socket.recv(10) == bytes([ord("b"), streams])

    def read(self, n):
        """At least n bytes, by stream."""
        got = {b"o": b"", b"e": b""}
        while sum(map(len, got.values())) < n:
            packet = self.socket.recv(1 << 16)
            if not packet:
                break
            got[packet[:1]] += packet[1:]
        return got[b"o"], got[b"e"]


def test_shim_gives_its_output_to_everybody_who_is_attached(cri, image):
    k = start(cri, image, "read x; echo out; read x; echo err >&2; read x", stdin=True)
    a, b = Attached(cri, k), Attached(cri, k, 1)
    stdin = os.open(cri.daemon.state / "io.containerd.grpc.v1.cri/containers" / k / "io/stdin", os.O_WRONLY)
    os.write(stdin, b"go\n")
    assert a.read(4) == b.read(4) == (b"out\n", b"")
    cri.daemon.restart()  # which the shim does not notice
    cri.connect()
    os.write(stdin, b"go\n")
    assert a.read(4) == (b"", b"err\n")
    os.write(stdin, b"go\n")
    assert a.read(1) == b.read(1) == (b"", b"")
    cri.exited(k)
    os.close(stdin)


def test_who_does_not_read_does_not_stall_the_container(cri, image):
    k = start(cri, image, "read x; head -c 20000000 /dev/zero | tr '\\0' x; echo; seq 1 1000", stdin=True)
    slow = Attached(cri, k)
    with open(cri.daemon.state / "io.containerd.grpc.v1.cri/containers" / k / "io/stdin", "w") as f:
        f.write("go\n")
    assert cri.exited(k).exit_code == 0
    assert text(cri, k).endswith("x\n" + "".join(f"{i}\n" for i in range(1, 1001)))
    assert len(slow.read(1 << 30)[0]) < 20000000


# ---- trouble ----


def test_full_disk_does_not_stall_the_container(cri, image, handler):
    small = cri.daemon.dir / f"small-{handler or 'ours'}"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small])
    try:
        conf = cri.pod(f"p{next(PODS)}", log_directory=str(small))
        p = cri.run_pod(conf, handler)
        k = cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", "seq 1 100000; while ! test -e /go; do sleep 0.1; done; echo again"]))
        until("the disk to be full", lambda: os.statvfs(small).f_bavail == 0)
        run(["mount", "-o", "remount,size=64m", small])
        assert sh(cri, k, "touch /go").exit_code == 0
        assert cri.exited(k).exit_code == 0
        assert cri.log(k)[-1] == ("stdout", "F", "again")
    finally:
        cri.daemon.clear()
        run(["umount", small])


def test_container_joins_a_pod_of_a_shim_that_knows_no_logs(stubs, busybox_layout):
    if not os.path.exists(DEBIAN_SHIM):
        pytest.skip("Debian's containerd is not installed")
    runtime = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n"
    theirs = runtime + f"runtime_path = '{DEBIAN_SHIM}'\n"
    with cri_daemon(stubs, busybox_layout, theirs) as (cri, image):
        conf = cri.pod("p")
        p = cri.run_pod(conf)
        cri.daemon.stop()
        cri.daemon.config.write_text(cri.daemon.config.read_text().replace(theirs, runtime))
        cri.daemon.start()
        cri.connect()
        k = cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", "echo out; echo err >&2"]))
        assert cri.exited(k).exit_code == 0
        assert sorted(cri.log(k)) == [("stderr", "F", "err"), ("stdout", "F", "out")]


# ---- memory ----


def test_container_that_the_kernel_killed_for_its_memory_says_so(cri, image):
    pb = cri.pb
    limits = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=16 << 20))
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    for i in range(50):
        k = cri.start(p, conf, cri.container(f"c{i}", image, ["/bin/sh", "-c", "exec tail /dev/zero"], linux=limits))
        s = cri.exited(k)
        assert (s.exit_code, s.reason) == (137, "OOMKilled"), i
        cri.RemoveContainer(container_id=k)


def test_shim_stays_small_under_output(cri, image):
    k = start(cri, image, "head -c 10000000 /dev/urandom | base64; sleep 1000")
    path = pathlib.Path(cri.status(k).log_path)
    until("10 MB of output", lambda: path.stat().st_size > 13_400_000)
    [shim] = cri.daemon.shims()
    if "asan" in open(f"/proc/{shim}/maps").read():
        pytest.skip("a sanitizer's memory is not the shim's")

    def rss():
        return sum(int(line.split()[1]) for line in open(f"/proc/{shim}/smaps_rollup") if line.startswith("Rss:"))
    until("the shim to be at rest", lambda: rss() <= 1024)
