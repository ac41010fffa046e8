# SPDX-License-Identifier: Apache-2.0
"""The daemon goes and comes back, orderly or not: containers run on, and what was stored is there."""
import json
import signal
import os

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
