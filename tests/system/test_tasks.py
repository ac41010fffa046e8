# SPDX-License-Identifier: Apache-2.0
"""Containers and tasks step by step with our ctr, and the events that tell of it."""
import json
import subprocess

import pytest

from harness import Events, Lines, rows, until


def status(ctr, name):
    return {r[0]: r[2] for r in rows(ctr.out("tasks", "ls"))}.get(name)


@pytest.fixture
def sleeper(ctr, image, name):
    ctr("run", "-d", image, name, "sleep", "600")
    return name


def test_container_from_create_to_remove(ctr, image, name):
    ctr("containers", "create", "--label", "a=b", image, name, "sleep", "600")
    assert [name, image, "io.containerd.runc.v2"] in rows(ctr.out("containers", "ls"))
    info = json.loads(ctr.out("containers", "info", name))
    assert info["ID"] == name and info["Image"] == image and info["Labels"]["a"] == "b"
    assert json.loads(ctr.out("containers", "info", "--spec", name))["process"]["args"] == ["sleep", "600"]
    ctr("containers", "label", name, "c=d")
    assert ctr.quiet("containers", "ls", "-q", "labels.c==d") == [name]
    assert status(ctr, name) is None
    ctr("tasks", "start", "-d", name)
    assert status(ctr, name) == "RUNNING"
    refused = ctr("containers", "rm", name, check=False)
    assert refused.returncode == 1
    ctr("tasks", "kill", "-s", "SIGKILL", name)
    until("the task to stop", lambda: status(ctr, name) == "STOPPED")
    ctr("tasks", "rm", name, check=False)
    ctr("containers", "rm", name)
    assert name not in ctr.quiet("containers", "ls", "-q")
    assert name not in {r[0] for r in rows(ctr.out("snapshots", "ls"))}


def test_exec_runs_beside_with_its_own_status_and_streams(ctr, sleeper):
    p = ctr("tasks", "exec", "--exec-id", "e1", sleeper, "sh", "-c", "echo out; echo err >&2; cat; exit 9", input="in\n", check=False)
    assert (p.returncode, p.stdout, p.stderr) == (9, "out\nin\n", "err\n")
    assert status(ctr, sleeper) == "RUNNING"
    # The id is free again.
    assert ctr.out("tasks", "exec", "--exec-id", "e1", "--user", "1000:1000", "--cwd", "/tmp", sleeper, "sh", "-c", "id -u; pwd") == "1000\n/tmp\n"


def test_detached_exec_is_seen_by_ps_and_killed_by_its_id(ctr, sleeper):
    ctr("tasks", "exec", "-d", "--exec-id", "e2", sleeper, "sleep", "601")
    pids = [int(r[0]) for r in rows(ctr.out("tasks", "ps", sleeper))]
    assert len(pids) == 2 and "e2" in ctr.out("tasks", "ps", sleeper)
    ctr("tasks", "kill", "-s", "KILL", "--exec-id", "e2", sleeper)
    until("the exec to end", lambda: len(rows(ctr.out("tasks", "ps", sleeper))) == 1)


def test_exec_of_a_program_that_is_not_there_fails(ctr, sleeper):
    p = ctr("tasks", "exec", "--exec-id", "e3", sleeper, "/no/such", check=False)
    assert p.returncode == 1 and "/no/such" in p.stderr
    assert ctr.out("tasks", "exec", "--exec-id", "e3", sleeper, "echo", "next") == "next\n"


def test_many_execs_at_once(ctr, sleeper):
    started = [ctr.popen("tasks", "exec", "--exec-id", f"m{i}", sleeper, "echo", f"n{i}", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for i in range(8)]
    results = [p.communicate(timeout=180) for p in started]
    assert [r[0] for r in results] == [f"n{i}\n" for i in range(8)], results


def test_pause_stops_and_resume_goes_on(ctr, image, name, tmp_path):
    log = tmp_path / "log"  # written by the container itself: what a shim copies may come later
    ctr("run", "-d", "--null-io", "--mount", f"type=bind,src={tmp_path},dst=/out,options=rbind:rw", image, name, "sh", "-c",
        "while :; do echo x >> /out/log; sleep 0.02; done")
    until("output", lambda: log.exists() and log.stat().st_size)
    ctr("tasks", "pause", name)
    assert status(ctr, name) == "PAUSED"
    size = log.stat().st_size
    import time
    time.sleep(0.3)  # a paused process has to be given the time to misbehave
    assert log.stat().st_size == size
    refused = ctr("tasks", "exec", "--exec-id", "e", name, "true", check=False)
    assert refused.returncode == 1 and "paused" in refused.stderr
    size = log.stat().st_size
    ctr("tasks", "resume", name)
    assert status(ctr, name) == "RUNNING"
    until("output again", lambda: log.stat().st_size > size)


def test_metrics_tell_memory_and_processes(ctr, sleeper):
    table = dict(r for r in rows(ctr.out("tasks", "metrics", sleeper)) if len(r) == 2)
    assert any(int(v) > 0 for k, v in table.items() if k.startswith("memory.")), table
    json.loads(ctr.out("tasks", "metrics", "--format", "json", sleeper))


def test_kill_of_all_processes(ctr, image, name):
    ctr("run", "-d", image, name, "sh", "-c", "sleep 600 & sleep 601 & wait")
    until("three processes", lambda: len(rows(ctr.out("tasks", "ps", name))) == 3)
    ctr("tasks", "kill", "-a", "-s", "KILL", name)
    until("the task to stop", lambda: status(ctr, name) == "STOPPED")


def test_attach_shows_output_and_ends_with_the_containers_status(ctr, image, name):
    ctr("run", "-d", image, name, "sh", "-c", "trap 'exit 4' TERM; while :; do echo tick; sleep 0.05; done")
    p = ctr.popen("tasks", "attach", name, stdout=subprocess.PIPE)
    try:
        Lines(p).wait("^tick$")
        ctr("tasks", "kill", name)
        assert p.wait(90) == 4
    finally:
        p.kill()
        p.wait()


def test_forced_removal_of_a_running_task(ctr, sleeper):
    refused = ctr("tasks", "rm", sleeper, check=False)
    assert refused.returncode == 1 and "running" in refused.stderr.lower()
    assert status(ctr, sleeper) == "RUNNING"
    ctr("tasks", "rm", "-f", sleeper, check=False)
    assert status(ctr, sleeper) is None


def test_containers_of_other_namespaces_are_not_seen(ctr, sleeper):
    assert sleeper not in ctr.quiet("containers", "ls", "-q", ns="elsewhere")
    missing = ctr("tasks", "ps", sleeper, ns="elsewhere", check=False)
    assert missing.returncode == 1 and 'is not in namespace "elsewhere"; it is in "default"' in missing.stderr


def test_shim_ends_with_its_task(daemon, ctr, image, name):
    before = set(daemon.shims())
    ctr("run", "--rm", image, name, "true")
    until("the shim to end", lambda: set(daemon.shims()) <= before)


@pytest.fixture
def events(ctr):
    e = Events(ctr)
    yield e
    e.close()


def test_events_tell_the_life_of_a_container_in_order(ctr, image, name, events):
    ctr("run", "-d", image, name, "sleep", "600")
    assert events.wait("/snapshot/prepare")["key"] == name
    created = events.wait("/containers/create")
    assert created["id"] == name and created["image"] == image
    assert events.wait("/tasks/create")["container_id"] == name
    started = events.wait("/tasks/start")
    assert started["container_id"] == name and started["pid"] > 0
    ctr("tasks", "exec", "--exec-id", "e1", name, "true")
    assert events.wait("/tasks/exec-added")["exec_id"] == "e1"
    assert events.wait("/tasks/exec-started")["exec_id"] == "e1"
    assert events.wait("/tasks/exit")["id"] == "e1"
    ctr("tasks", "pause", name)
    events.wait("/tasks/paused")
    ctr("tasks", "resume", name)
    events.wait("/tasks/resumed")
    ctr("tasks", "kill", "-s", "KILL", name)
    gone = events.wait("/tasks/exit")
    assert gone["container_id"] == name and gone["exit_status"] == 137
    ctr("tasks", "rm", name, check=False)
    assert events.wait("/tasks/delete")["exit_status"] == 137
    ctr("containers", "rm", name)
    assert events.wait("/containers/delete")["id"] == name


def test_events_tell_of_images_and_content(ctr, busybox, events):
    ns = "told"
    ctr("images", "pull", "--plain-http", busybox, ns=ns)
    events.wait("/images/create")
    ctr("images", "tag", busybox, "localhost/told:1", ns=ns)
    assert events.wait("/images/create")["name"] == "localhost/told:1"
    ctr("images", "rm", "localhost/told:1", ns=ns)
    assert events.wait("/images/delete")["name"] == "localhost/told:1"


def test_out_of_memory_is_told(ctr, image, name, events):
    # tail keeps all of a line that never ends.
    p = ctr("run", "--rm", "--memory-limit", str(8 << 20), image, name, "sh", "-c", "tail /dev/zero", check=False)
    assert p.returncode == 137
    assert events.wait("/tasks/oom")["container_id"] == name
