# SPDX-License-Identifier: Apache-2.0
"""The daemon goes and comes back, orderly or not: containers run on, and what was stored is there."""
import contextlib
import json
import os
import signal
import threading

import pytest

from harness import Events, alive, catches, rows, until


def task(ctr, name):
    return {r[0]: r[1:] for r in rows(ctr.out("tasks", "ls"))}.get(name)


@pytest.fixture(params=["restart", "kill"])
def come_back(request, daemon):
    """Ends the daemon in one of two ways and starts it again."""
    def act(between=None):
        daemon.stop() if request.param == "restart" else daemon.kill()
        if between:
            between()
        daemon.start()
    return act


def test_container_runs_on_and_can_be_worked_with(ctr, image, name, come_back, tmp_path):
    log = tmp_path / "log"
    ctr("run", "-d", "--log-uri", f"file://{log}", image, name, "sh", "-c", "while :; do echo x; sleep 0.05; done")
    pid = int(task(ctr, name)[0])
    grown = []

    def between():
        assert alive(pid)
        size = log.stat().st_size
        until("output without a daemon", lambda: log.stat().st_size > size)
        grown.append(size)

    come_back(between)
    assert task(ctr, name) == [str(pid), "RUNNING"]
    assert ctr.out("tasks", "exec", "--exec-id", "e", name, "echo", "hello") == "hello\n"
    ctr("tasks", "kill", "-s", "KILL", name)
    until("the exit to be seen", lambda: task(ctr, name) == [str(pid), "STOPPED"])
    assert "exit code 137" in ctr("tasks", "rm", name).stderr
    ctr("containers", "rm", name)


def test_exit_while_the_daemon_is_away_is_seen(ctr, image, name, come_back):
    ctr("run", "-d", image, name, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    pid = int(task(ctr, name)[0])
    until("the trap", lambda: catches(pid, signal.SIGTERM))

    def between():
        os.kill(pid, signal.SIGTERM)
        until("the process to end", lambda: not alive(pid))

    come_back(between)
    until("the exit to be seen", lambda: task(ctr, name) == [str(pid), "STOPPED"])
    assert "exit code 3" in ctr("tasks", "rm", name).stderr


def test_shim_that_died_is_cleaned_up(daemon, ctr, image, name, come_back):
    before = set(daemon.shims())
    ctr("run", "-d", image, name, "sleep", "600")
    pid = int(task(ctr, name)[0])
    shim = set(daemon.shims()) - before

    def between():
        for p in shim:
            os.kill(p, signal.SIGKILL)
        until("the shim to end", lambda: not any(alive(p) for p in shim))

    come_back(between)
    until("the task to be gone", lambda: task(ctr, name) is None)
    until("its process to be gone", lambda: not alive(pid))
    ctr("containers", "rm", name)


def test_shim_that_dies_beside_a_running_daemon_is_cleaned_up(daemon, ctr, image, name):
    before = set(daemon.shims())
    ctr("run", "-d", image, name, "sleep", "600")
    pid = int(task(ctr, name)[0])
    events = Events(ctr)
    try:
        for p in set(daemon.shims()) - before:
            os.kill(p, signal.SIGKILL)
        assert events.wait("/tasks/exit")["container_id"] == name
        assert events.wait("/tasks/delete")["container_id"] == name
    finally:
        events.close()
    assert task(ctr, name) is None
    until("its process to be gone", lambda: not alive(pid))
    ctr("containers", "rm", name)
    assert ctr.out("run", "--rm", image, name, "echo", "again") == "again\n"


def test_everything_stored_is_there_after_a_crash(daemon, ctr, image, name):
    ctr("containers", "create", "--label", "a=b", image, name, "true")
    ctr("namespaces", "create", "kept", "x=y")
    before = [ctr.out(*args) for args in (["images", "ls"], ["snapshots", "ls"], ["content", "ls", "-q"], ["containers", "ls"])]
    daemon.kill()
    daemon.start()
    assert [ctr.out(*args) for args in (["images", "ls"], ["snapshots", "ls"], ["content", "ls", "-q"], ["containers", "ls"])] == before
    assert ["kept", "x=y"] in rows(ctr.out("namespaces", "ls"))
    assert json.loads(ctr.out("containers", "info", name))["Labels"]["a"] == "b"
    assert ctr("tasks", "start", name).returncode == 0
    ctr("containers", "rm", name)


def test_pull_is_repeated_after_a_crash_in_the_middle(daemon, ctr, registry, workdir):
    import images
    layout = images.Layout(workdir / "crash")
    big = images.tar_of([(f"f{i}", os.urandom(1 << 20)) for i in range(40)])
    ref = registry.push(layout.index([layout.image([images.busybox_tar(), big])]), "crash:1")
    p = ctr.popen("images", "pull", "--plain-http", ref, stdout=-3, stderr=-3)
    ingest = daemon.root / "io.containerd.content.v1.content/ingest"

    def arrived():
        try:
            return any(f.stat().st_size > 1 << 20 for f in ingest.glob("*/data"))
        except FileNotFoundError:  # it was whole, and is in its place now
            return True
    until("bytes to arrive", lambda: p.poll() is not None or arrived())
    daemon.kill()
    p.wait(90)
    daemon.start()
    ctr("images", "pull", "--plain-http", ref)
    assert ctr.out("run", "--rm", ref, "after-crash", "sh", "-c", "ls / | grep -c '^f'") == "40\n"


def test_socket_of_a_dead_daemon_is_taken_over(daemon, ctr):
    daemon.kill()
    assert daemon.address.exists()
    daemon.start()
    assert ctr("version").returncode == 0


def test_events_reach_a_daemon_with_a_relative_address(daemon, ctr, image, name):
    daemon.stop()
    daemon.start("--address", os.path.relpath(daemon.address))
    events = Events(ctr, probe=f"{name.lower()}-")
    try:
        ctr("run", "-d", image, name, "true")
        assert events.wait("/tasks/exit")["container_id"] == name
    finally:
        events.close()
    until("the exit to be seen", lambda: task(ctr, name)[1] == "STOPPED")
    ctr("tasks", "rm", name)
    ctr("containers", "rm", name)
    daemon.restart()


class Logs:
    """Shims that have much to tell: the daemon is always about to read it."""

    def __init__(self, daemon):
        self.files = [os.open(f, os.O_RDWR | os.O_NONBLOCK) for f in daemon.state.glob("io.containerd.runtime.v2.task/default/*/log")]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.over.wait(0.001):
            for f in self.files:
                with contextlib.suppress(BlockingIOError):
                    os.write(f, b"x\n")

    def close(self):
        self.over.set()
        self.thread.join()
        for f in self.files:
            os.close(f)


@pytest.mark.parametrize("more", ["required_plugins = ['io.containerd.server.v1.debug']\n", "[plugins.'io.containerd.server.v1.grpc']\naddress = ''\n"],
                         ids=["required", "server"])
def test_start_that_fails_late_leaves_tasks_alone(daemon, ctr, image, name, more):
    """It is connected to their shims by then, and lets go of them like at any other end."""
    names = [f"{name}-{i}" for i in range(4)]
    for n in names:
        ctr("run", "-d", image, n, "sleep", "1000")
    before = {n: task(ctr, n) for n in names}
    daemon.stop()
    text = daemon.config.read_text()
    first, _, rest = text.partition("\n")
    daemon.config.write_text(f"{first}\n{rest.rstrip()}\n{more}" if more.startswith("[") else f"{first}\n{more}{rest}")
    logs = Logs(daemon)
    try:
        for _ in range(8):
            with pytest.raises(AssertionError, match="ended with 1 instead of starting"):
                daemon.start(*(["--address", ""] if more.startswith("[") else []))
            daemon.check_reports()
    finally:
        logs.close()
        daemon.config.write_text(text)
    daemon.start()
    assert {n: task(ctr, n) for n in names} == before
    for n in names:
        assert ctr.out("tasks", "exec", "--exec-id", "e", n, "echo", "hello") == "hello\n"
        ctr("tasks", "rm", "-f", n)
        ctr("containers", "rm", n)
