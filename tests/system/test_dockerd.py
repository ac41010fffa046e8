# SPDX-License-Identifier: Apache-2.0
"""Debian's dockerd on our socket: it keeps images itself and has its containers run by our daemon, with options and events as it knows them.

It is started without networking of its own (no bridge, no iptables), with directories of its own. Both daemons are ended and come back
under running containers."""
import concurrent.futures
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

import evil
import harness
import images
from harness import Lines, alive, run, until

DOCKER, DOCKERD = "/usr/bin/docker", "/usr/sbin/dockerd"
NS = "moby"


class Docker:
    """dockerd over a containerd, and its client."""

    def __init__(self, containerd, directory):
        self.containerd, self.dir = containerd, directory
        self.socket = f"unix://{self.dir}/docker.sock"
        self.process = None

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                [DOCKERD, "--containerd", self.containerd.address, "--data-root", self.dir / "data", "--exec-root", self.dir / "exec", "-H", self.socket,
                 "--pidfile", self.dir / "pid", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", "--live-restore"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("dockerd to answer", self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, "dockerd ended:\n" + (self.dir / "log").read_text(errors="replace")[-4000:]
        return self("info", check=False).returncode == 0 and self("ps", check=False).returncode == 0

    def argv(self, *args):
        return [DOCKER, "-H", self.socket, *map(str, args)]

    def __call__(self, *args, **kw):
        return run(self.argv(*args), env={"DOCKER_CONFIG": str(self.dir)}, **kw)

    def out(self, *args, **kw):
        return self(*args, **kw).stdout.strip()

    def get(self, name, what):
        return self.out("inspect", "-f", "{{" + what + "}}", name)

    def popen(self, *args, **kw):
        return subprocess.Popen(self.argv(*args), **{"stdin": subprocess.DEVNULL, "env": {**os.environ, "DOCKER_CONFIG": str(self.dir)}, **kw})

    def stop(self):
        process, self.process = self.process, None
        assert harness.terminate(process) == 0

    def kill(self):
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def close(self):
        if self.process is None:
            return
        try:
            names = self("ps", "-aq", check=False).stdout.split()
            if names:
                self("rm", "-f", *names, check=False)
        finally:
            self.stop()
            # What it mounts for itself stays, since containers are to outlive it.
            harness.unmount_below(self.dir)


@pytest.fixture(scope="module")
def containerd():
    d = evil.new_daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def docker(containerd, tmp_path_factory):
    directory = tmp_path_factory.mktemp("dockerd")
    d = Docker(containerd, directory).start()
    layout = images.Layout(directory / "layout")
    ref = layout.index([layout.image([images.busybox_tar()])])
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{ref}", f"docker-archive:{directory}/bb.tar:bb:1"])
    d("load", "-i", directory / "bb.tar")
    yield d
    d.close()


@pytest.fixture(autouse=True)
def nothing_left(docker, containerd):
    """After every test: no task, no shim, no bundle, no mount of our daemon, whatever dockerd had it run."""
    yield
    names = docker("ps", "-aq").stdout.split()
    if names:
        docker("rm", "-f", *names)

    def left():
        now = {"tasks": containerd.ctr.quiet("tasks", "ls", "-q", ns=NS), "containers": containerd.ctr.quiet("containers", "ls", "-q", ns=NS),
               "shims": containerd.shims(), "bundles": list((containerd.state / "io.containerd.runtime.v2.task").glob("*/*")),
               "runc": os.listdir(docker.dir / "exec/runtime-runc/moby") if (docker.dir / "exec/runtime-runc/moby").exists() else [],
               "mounts": harness.mounts_below(containerd.dir) + [m for m in harness.mounts_below(docker.dir / "data") if m.endswith("/merged")]}
        return {k: v for k, v in now.items() if v}
    end = time.monotonic() + harness.SECONDS
    while left():
        assert time.monotonic() < end, left()
        time.sleep(0.05)
    containerd.check_reports()


def start(docker, name, *command, options=()):
    docker("run", "-d", "--name", name, *options, "bb:1", *command)
    return int(docker.get(name, ".State.Pid"))


@pytest.mark.parametrize("status", [0, 6, 137])
def test_run_shows_output_and_exit_status(docker, status):
    p = docker("run", "--rm", "bb:1", "sh", "-c", f"echo out; echo err >&2; exit {status}", check=False)
    assert (p.returncode, p.stdout) == (status, "out\n") and "err\n" in p.stderr
    assert docker.out("ps", "-aq") == ""


def test_input_environment_user_and_directory_reach_the_process(docker):
    p = docker("run", "--rm", "-i", "-e", "A=b c", "-u", "12:34", "-w", "/tmp", "--hostname", "h", "bb:1", "sh", "-c", "cat; echo $A; id -u; id -g; pwd; hostname",
               input="from stdin\n")
    assert p.stdout == "from stdin\nb c\n12\n34\n/tmp\nh\n"


def test_volumes_and_limits_are_as_asked(docker, tmp_path):
    (tmp_path / "f").write_text("host file\n")
    p = docker("run", "--rm", "-v", f"{tmp_path}:/v:ro", "--read-only", "--tmpfs", "/t", "--pids-limit", "77", "--cap-drop", "ALL", "bb:1", "sh", "-c",
               "cat /v/f; touch /x /v/x 2>/dev/null || echo ro; touch /t/x && echo rw; grep CapEff /proc/self/status")
    assert p.stdout.split("\n")[:3] == ["host file", "ro", "rw"] and re.search(r"CapEff:\s*0+$", p.stdout.strip())


@pytest.mark.parametrize("command,status,text", [("/nope", 127, "no such file"), ("/etc", 126, "ermission denied")])
def test_command_that_cannot_run_is_told(docker, command, status, text):
    p = docker("run", "--rm", "bb:1", command, check=False)
    assert p.returncode == status and text in p.stderr, p.stderr
    start(docker, "one", "sleep", "600")
    # Of an exec it says the same for both, whoever runs it.
    p = docker("exec", "one", command, check=False)
    assert p.returncode == 126 and text in p.stdout + p.stderr


def test_exec_runs_beside_with_its_own_streams_and_status(docker):
    start(docker, "one", "sleep", "600")
    p = docker("exec", "-i", "-e", "X=y", "-u", "5", "one", "sh", "-c", "cat; echo $X; id -u; exit 9", input="in\n", check=False)
    assert (p.returncode, p.stdout) == (9, "in\ny\n5\n")
    docker("exec", "-d", "one", "sleep", "601")
    until("the process of exec -d", lambda: "sleep 601" in docker.out("top", "one"))


def test_logs_are_complete_and_follow(docker):
    start(docker, "one", "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo last >&2; sleep 600")
    p = docker.popen("logs", "-f", "one", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = Lines(p)
    lines.wait("^last$")
    docker("kill", "one")
    assert p.wait(harness.SECONDS) == 0
    assert docker("logs", "one").stdout.splitlines() == [f"line {i}" for i in range(3000)]


def test_stats_and_top_show_processes_and_memory(docker):
    pid = start(docker, "one", "sh", "-c", "sleep 600; true", options=["-m", "64m", "--memory-swap", "64m"])
    until("sleep", lambda: len(docker.out("top", "one").splitlines()) == 3)
    assert str(pid) in docker.out("top", "one")
    stats = json.loads(docker.out("stats", "--no-stream", "--format", "{{json .}}", "one"))
    assert stats["PIDs"] == "2" and stats["MemUsage"].endswith("/ 64MiB") and not stats["MemUsage"].startswith("0B")


def test_pause_stops_the_processes(docker, tmp_path):
    start(docker, "one", "sh", "-c", "while :; do echo x >> /out/f; sleep 0.02; done", options=["-v", f"{tmp_path}:/out"])
    f = tmp_path / "f"
    until("writes", f.exists)
    docker("pause", "one")
    assert docker.get("one", ".State.Status") == "paused"
    size = f.stat().st_size
    refused = docker("exec", "one", "true", check=False)
    assert refused.returncode != 0 and "is paused" in refused.stderr
    assert f.stat().st_size == size
    docker("unpause", "one")
    until("writes again", lambda: f.stat().st_size > size)
    assert docker.get("one", ".State.Status") == "running"


def test_kill_stop_wait_and_restart(docker):
    first = start(docker, "one", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    until("the trap", lambda: harness.catches(first, signal.SIGTERM))
    docker("stop", "-t", "60", "one")
    assert docker.get("one", ".State.ExitCode") == "5" and not alive(first)
    docker("restart", "one")
    second = int(docker.get("one", ".State.Pid"))
    assert second != first and alive(second)
    docker("restart", "-t", "0", "one")
    third = int(docker.get("one", ".State.Pid"))
    assert third not in (0, first, second)
    waits = docker.popen("wait", "one", stdout=subprocess.PIPE)
    docker("kill", "-s", "KILL", "one")
    assert waits.communicate(timeout=harness.SECONDS)[0].strip() == b"137"


def test_policy_starts_a_failed_container_again(docker):
    docker("run", "-d", "--name", "one", "--restart", "on-failure:2", "bb:1", "sh", "-c", "exit 3")
    until("two restarts", lambda: docker.out("inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "one") == "2 exited 3")


def test_limits_are_changed_while_it_runs(docker):
    start(docker, "one", "sleep", "600", options=["-m", "64m", "--memory-swap", "64m"])
    docker("update", "-m", "32m", "--memory-swap", "32m", "--pids-limit", "55", "one")
    stats = json.loads(docker.out("stats", "--no-stream", "--format", "{{json .}}", "one"))
    assert stats["MemUsage"].endswith("/ 32MiB")


def test_out_of_memory_is_reported(docker):
    p = docker("run", "--name", "one", "-m", "20m", "--memory-swap", "20m", "bb:1", "sh", "-c", "head -c 100m /dev/zero | tail -c 90m > /dev/null; exit $?",
               check=False)
    assert p.returncode in (1, 137)
    until("the report", lambda: docker.get("one", ".State.OOMKilled") == "true")


def test_terminal_is_one_and_is_resized(docker):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["DOCKER_CONFIG"] = str(docker.dir)
        os.execv(DOCKER, docker.argv("run", "--rm", "-it", "--name", "one", "bb:1", "sh", "-c", "tty; read x; stty size; exit 4"))
    text = b""

    def expect(words):
        nonlocal text
        end = time.monotonic() + harness.SECONDS
        while words not in text:
            assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], text
            try:
                text += os.read(fd, 4096)
            except OSError:
                raise AssertionError(f"it ended with {text}") from None
    try:
        expect(b"/dev/pts/0")
        import fcntl
        import struct
        import termios
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        os.kill(pid, signal.SIGWINCH)
        # The new size reaches the container some time after.
        until("the size", lambda: docker.out("exec", "one", "sh", "-c", "stty size < /proc/1/fd/0") == "33 77")
        os.write(fd, b"go\n")
        expect(b"33 77")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    finally:
        os.close(fd)


def test_attach_shows_what_comes_and_ends_with_the_container(docker):
    start(docker, "one", "sh", "-c", "while read x; do [ $x = end ] && exit 3; echo got $x; done", options=["-i"])
    p = docker.popen("attach", "one", stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    p.stdin.write(b"words\n")
    # It ends without what has not arrived when the container ends.
    Lines(p).wait("^got words$")
    p.stdin.write(b"end\n")
    assert p.wait(harness.SECONDS) == 3


def test_events_tell_the_life_of_a_container(docker):
    p = docker.popen("events", "--format", "{{.Action}}", "--filter", "type=container", "--since", "0", stdout=subprocess.PIPE)
    try:
        lines = Lines(p)
        start(docker, "ev", "sleep", "600")
        docker("exec", "ev", "true")
        docker("pause", "ev")
        docker("unpause", "ev")
        docker("kill", "ev")
        for action in ("create", "start", "exec_create: true", "exec_start: true", "exec_die", "pause", "unpause", "kill", "die"):
            lines.wait(f"^{action}")
        docker("rm", "ev")
        lines.wait("^destroy")
    finally:
        p.kill()
        p.wait()


def test_changes_are_diffed_copied_and_committed(docker, tmp_path):
    docker("run", "--name", "one", "bb:1", "sh", "-c", "echo new > /added; rm /etc/passwd")
    assert {"A /added", "D /etc/passwd"} <= set(docker.out("diff", "one").splitlines())
    docker("cp", "one:/added", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "new\n"
    docker("commit", "one", "bb:2")
    assert docker.out("run", "--rm", "bb:2", "cat", "/added") == "new"


def test_twenty_at_once(docker):
    def one(i):
        p = docker("run", "--rm", "--name", f"many{i}", "bb:1", "sh", "-c", f"echo {i}; exit {i}", check=False)
        return p.returncode, p.stdout
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(i, f"{i}\n") for i in range(20)]


def test_dockerd_comes_back_to_running_containers(docker):
    docker("run", "-d", "--name", "stays", "bb:1", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done")
    docker("run", "-d", "--name", "ends", "bb:1", "sleep", "600")
    pids = {n: int(docker.get(n, ".State.Pid")) for n in ("stays", "ends")}
    for end in (docker.stop, docker.kill):
        end()
        assert alive(pids["stays"])
        if alive(pids["ends"]):
            os.kill(pids["ends"], signal.SIGTERM if end == docker.stop else signal.SIGKILL)
            os.kill(pids["ends"], signal.SIGKILL)
        docker.start()
        assert docker.get("stays", ".State.Pid") == str(pids["stays"]) and docker.get("stays", ".State.Running") == "true"
        until("the exit", lambda: docker.get("ends", ".State.Status") == "exited")
        assert docker.get("ends", ".State.ExitCode") == "137"
        assert docker.out("exec", "stays", "echo", "here") == "here"
    docker("stop", "-t", "60", "stays")
    assert docker.get("stays", ".State.ExitCode") == "8"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_our_daemon_comes_back_under_dockerd(docker, containerd, end):
    start(docker, "stays", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done")
    gone = start(docker, "gone", "sleep", "600")
    pid = docker.get("stays", ".State.Pid")
    getattr(containerd, end)()
    assert alive(int(pid))
    os.kill(gone, signal.SIGKILL)
    containerd.start()
    until("dockerd to reach it again", lambda: docker("exec", "stays", "true", check=False).returncode == 0)
    assert docker.get("stays", ".State.Pid") == pid
    until("the exit to be told", lambda: docker.get("gone", ".State.Status") == "exited")
    assert docker.get("gone", ".State.ExitCode") == "137"
    assert docker.out("run", "--rm", "bb:1", "echo", "again") == "again"
    docker("stop", "-t", "60", "stays")
    assert docker.get("stays", ".State.ExitCode") == "8"


def test_dockerd_sends_the_options_that_our_runtime_knows(docker, containerd):
    """What it stores and sends is what this daemon's answers must be made of."""
    start(docker, "one", "sleep", "600")
    record = json.loads(containerd.ctr.out("containers", "info", containerd.ctr.quiet("containers", "ls", "-q", ns=NS)[0], ns=NS))
    assert record["Runtime"]["Name"] == "io.containerd.runc.v2"
    assert record["Runtime"]["Options"]["type_url"].endswith("containerd.runc.v1.Options"), record["Runtime"]
    assert os.listdir(docker.dir / "exec/runtime-runc/moby") == [record["ID"]]
