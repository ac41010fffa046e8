# SPDX-License-Identifier: Apache-2.0
"""Containers where cgroup version 2 is all there is: limits, numbers, pressure, freezing and out-of-memory kills, beside what the
kernel says itself. With each OCI runtime, and with groups made by it or by systemd."""
import json
import pathlib
import re
import urllib.request

import pytest

import cgroups
from harness import Daemon, Events, free_port, rows, run, until

MB = 1 << 20


@pytest.fixture(params=["runc", "crun", "runc-systemd", "crun-systemd"])
def rt(request, name):
    """Arguments that choose the OCI runtime and who makes the groups."""
    runtime, _, systemd = request.param.partition("-")
    return ["--runc-binary", runtime, *(["--runc-systemd-cgroup", "--cgroup", f"system.slice:ctr:{name}"] if systemd else [])]


def task_pid(ctr, name):
    return int([r for r in rows(ctr.out("tasks", "ls")) if r[0] == name][0][1])


def group_of(pid):
    """The container's own group, which has its limits."""
    return cgroups.TOP / cgroups.path(pid, "").lstrip("/")


def keys(text):
    return {k: int(v) for k, v in (line.split() for line in text.splitlines())}


def metrics(ctr, name):
    return json.loads(ctr.out("tasks", "metrics", "--format", "json", name))


def test_the_machine_is_what_it_is_said_to_be():
    assert cgroups.UNIFIED and not cgroups.mounted()
    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set((cgroups.TOP / "cgroup.controllers").read_text().split())
    assert pathlib.Path("/proc/pressure/cpu").exists() and pathlib.Path("/run/systemd/system").exists()


def test_group_is_where_it_was_asked_for_and_goes_with_the_container(ctr, rt, image, name):
    ctr("run", "-d", *rt, image, name, "sleep", "600")
    pid = task_pid(ctr, name)
    group = group_of(pid)
    wanted = cgroups.TOP / (f"system.slice/ctr-{name}.scope" if "--cgroup" in rt else f"default/{name}")
    # In groups of systemd's, crun makes one more, for the container to do with it as it likes.
    assert group in (wanted, wanted / "container")
    ctr("tasks", "rm", "-f", name)
    ctr("containers", "rm", name)
    until("the group to go", lambda: not wanted.exists())


def test_limits_reach_the_files_of_the_group(ctr, rt, image, name):
    ctr("run", "-d", *rt, "--memory-limit", 64 * MB, "--cpus", "0.5", image, name, "sleep", "600")
    group = group_of(task_pid(ctr, name))
    assert (group / "memory.max").read_text().strip() == str(64 * MB)
    assert (group / "cpu.max").read_text().split() == ["50000", "100000"]


def test_container_is_at_the_root_of_its_namespace(ctr, rt, image, name):
    assert ctr.out("run", "--rm", *rt, image, name, "cat", "/proc/self/cgroup") == "0::/\n"


def test_metrics_are_the_kernels_numbers(ctr, rt, image, name):
    script = "dd if=/dev/zero of=/file bs=1M count=8 conv=fsync 2>/dev/null; echo done; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 600"
    ctr("run", "-d", *rt, "--memory-limit", 64 * MB, image, name, "sh", "-c", script)
    group = group_of(task_pid(ctr, name))
    until("the writing", lambda: "wbytes=8" in (group / "io.stat").read_text() or "wbytes=9" in (group / "io.stat").read_text())
    before = keys((group / "cpu.stat").read_text())
    m = metrics(ctr, name)
    after = keys((group / "cpu.stat").read_text())
    for field in ("usage_usec", "user_usec", "system_usec"):
        assert before[field] <= int(m["cpu"][field]) <= after[field], field
    assert int(m["memory"]["usage_limit"]) == 64 * MB and 0 < int(m["memory"]["usage"]) <= 64 * MB
    assert 8 * MB <= int(m["memory"]["max_usage"]) <= int((group / "memory.peak").read_text())
    stat = keys((group / "memory.stat").read_text())
    for field in ("anon", "file", "slab", "kernel_stack", "pgfault"):
        assert int(m["memory"].get(field, 0)) == pytest.approx(stat[field], rel=0.2, abs=300_000), field
    assert int(m["pids"]["current"]) == int((group / "pids.current").read_text())
    assert any(int(u["wbytes"]) >= 8 * MB and int(u["wios"]) > 0 for u in m["io"]["usage"])
    for part in ("cpu", "memory", "io"):
        text = (group / f"{part}.pressure").read_text()
        total = int(text.split("total=")[1].split()[0])
        assert int(m[part]["psi"]["some"].get("total", 0)) <= total
    table = dict(r for r in rows(ctr.out("tasks", "metrics", name)) if len(r) == 2)
    assert table["memory.usage_limit"] == str(64 * MB) and int(table["cpu.usage_usec"]) > 0


def test_pressure_of_a_group_that_waits_is_told(ctr, image, name):
    ctr("run", "-d", "--cpus", "0.05", image, name, "sh", "-c", "while :; do :; done")
    group = group_of(task_pid(ctr, name))
    until("pressure", lambda: int((group / "cpu.pressure").read_text().split("total=")[1].split()[0]) > 100_000)
    m = metrics(ctr, name)["cpu"]
    assert int(m["psi"]["some"]["total"]) > 100_000 and int(m["nr_throttled"]) > 0 and int(m["throttled_usec"]) > 0
    until("an average", lambda: float(metrics(ctr, name)["cpu"]["psi"]["some"].get("avg10", 0)) > 0)


def test_pause_freezes_the_group(ctr, rt, image, name):
    ctr("run", "-d", *rt, image, name, "sh", "-c", "while :; do :; done")
    group = group_of(task_pid(ctr, name))
    ctr("tasks", "pause", name)
    assert keys((group / "cgroup.events").read_text())["frozen"] == 1
    assert [r[2] for r in rows(ctr.out("tasks", "ls")) if r[0] == name] == ["PAUSED"]
    ctr("tasks", "resume", name)
    until("the group to thaw", lambda: keys((group / "cgroup.events").read_text())["frozen"] == 0)
    ctr("tasks", "pause", name)
    ctr("tasks", "rm", "-f", name)  # also a frozen one can be ended


def test_every_kill_for_memory_is_told_once(ctr, rt, image, name):
    events = Events(ctr, "oom" + name[-20:].lower())
    try:
        # The shell lives on; its children are killed.
        script = "for i in 1 2 3; do tail /dev/zero; echo killed $?; while [ ! -e /go$i ]; do sleep 0.1; done; done; exec tail /dev/zero"
        ctr("run", "-d", *rt, "--memory-limit", 16 * MB, image, name, "sh", "-c", script)
        pid = task_pid(ctr, name)
        group = group_of(pid)
        for i in (1, 2, 3):
            assert events.wait("/tasks/oom")["container_id"] == name
            assert int(metrics(ctr, name)["memory_events"]["oom_kill"]) == i == keys((group / "memory.events").read_text())["oom_kill"]
            pathlib.Path(f"/proc/{pid}/root/go{i}").touch()
        # The last one ends the container; the kill is told before the exit.
        assert events.wait("/tasks/(?:oom|exit)")["container_id"] == name
        seen = [m[0] for line in events.lines.seen if f'"{name}"' in line and (m := re.search(r"/tasks/[-\w]+", line))]
        assert seen[-1] == "/tasks/oom", seen
        assert events.wait("/tasks/exit")["exit_status"] == 137
        told = [line for line in events.lines.seen if "/tasks/oom" in line and f'"{name}"' in line]
        assert len(told) == 4
    finally:
        events.close()


def test_prometheus_has_the_numbers_of_version_2(busybox, image):
    port = free_port()
    d = Daemon(config=f'[metrics]\naddress = "127.0.0.1:{port}"\n')
    d.start()
    try:
        d.ctr("images", "pull", "--plain-http", busybox)
        d.ctr("run", "-d", "--memory-limit", 64 * MB, busybox, "prom", "sleep", "600")
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/metrics", timeout=60).read().decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if 'container_id="prom"' in line)
        label = '{container_id="prom",namespace="default"}'
        assert values[f"container_memory_usage_limit_bytes{label}"] == str(64 * MB)
        assert float(values[f"container_cpu_usage_usec_microseconds{label}"]) > 0
        assert values[f"container_pids_current{label}"] == "1"
        assert float(values[f"container_memory_oom_total{label}"]) == 0
        d.ctr("tasks", "rm", "-f", "prom")
    finally:
        d.close()


def test_daemon_joins_the_group_of_its_configuration():
    d = Daemon(config='[cgroup]\npath = "/vmtest-daemon"\n')
    d.start()
    try:
        assert cgroups.path(d.process.pid, "") == "/vmtest-daemon"
    finally:
        d.close()
    until("the group to be empty", lambda: not (cgroups.TOP / "vmtest-daemon/cgroup.procs").read_text())
    (cgroups.TOP / "vmtest-daemon").rmdir()


def test_group_of_a_namespace_goes_with_it(ctr, busybox, name):
    ctr("images", "pull", "--plain-http", busybox, ns="vmtest-ns")
    ctr("run", "--rm", busybox, name, "true", ns="vmtest-ns")
    assert (cgroups.TOP / "vmtest-ns").is_dir()
    ctr("images", "rm", "--sync", busybox, ns="vmtest-ns")
    ctr("namespaces", "rm", "--cgroup", "vmtest-ns")
    assert not (cgroups.TOP / "vmtest-ns").exists()


@pytest.fixture
def swap(tmp_path):
    file = tmp_path / "swap"
    with open(file, "wb") as f:
        f.write(b"\0" * (1 << 20) * 96)
    file.chmod(0o600)
    run(["mkswap", file])
    run(["swapon", file])
    yield
    run(["swapoff", file], timeout=600)


def test_swap_is_counted(swap, ctr, image, name):
    script = "head -c 30000000 /dev/zero | tail; sleep 600"
    ctr("run", "-d", "--memory-limit", 16 * MB, image, name, "sh", "-c", script)
    group = group_of(task_pid(ctr, name))
    (group / "memory.swap.max").write_text(str(64 * MB))
    m = until("swapped memory", lambda: (x := metrics(ctr, name)["memory"]) and int(x.get("swap_usage", 0)) > MB and x)
    assert int(m["swap_limit"]) == 64 * MB and int(m["swap_usage"]) <= 64 * MB
