# SPDX-License-Identifier: Apache-2.0
"""Many containers and pulls, one after the other and some at a time: nothing of them is left, and the daemon does not grow."""
import gzip
import os
import pathlib
import subprocess
import threading
import time

import pytest

import evil
import harness
import images

CONTAINERS, AT_ONCE, PULLS = 200, 8, 20
CGROUPS = pathlib.Path("/sys/fs/cgroup")


@pytest.fixture
def soaked(stubs):
    d = evil.new_daemon()
    d.start()
    api = evil.Api(stubs, d, ns=f"soak{os.getpid()}")
    d.ctr.namespace = api.ns
    reg = evil.Evil()
    tar = images.busybox_tar()
    more = images.tar_of([(f"d/f{i}", os.urandom(100)) for i in range(300)])
    api.image = reg.image("bb", [(gzip.compress(t, 1), evil.OCI_LAYER + "+gzip", t) for t in (tar, more)])
    api.pull(api.image)
    yield api
    reg.close()
    api.close()
    d.close()


def sanitized(pid):
    return "libasan" in pathlib.Path(f"/proc/{pid}/maps").read_text()


def rss(pid):
    """Kilobytes."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def look(api):
    """All that containers are made of, on the host."""
    d = api.daemon
    pid = d.process.pid
    return {
        "processes": sorted(" ".join(a) for a in harness.processes().values() if str(d.dir) in " ".join(a) and a[0] != str(d.containerd)),
        "shims": d.shims(),
        "children": harness.children(pid),
        "mounts": sorted(line.split()[4] for line in open("/proc/self/mountinfo") if str(d.dir) in line.split()[4]),
        "cgroups": sorted(str(p) for p in CGROUPS.glob(f"**/{api.ns}/*") if p.is_dir()),
        "state": sorted(str(p) for p in d.state.glob(f"*/{api.ns}/*")),
        "fifos": sorted(str(p) for base in (d.dir, pathlib.Path("/run/containerd")) for p in base.rglob("*") if p.is_fifo() and (api.ns in str(p) or str(d.dir) in str(p))),
        "shim sockets": sorted(os.listdir("/run/containerd/s")) if os.path.isdir("/run/containerd/s") else [],
        "work": sorted(str(p) for p in (d.root / "io.containerd.runtime.v2.task").glob(f"{api.ns}/*")),
        "descriptors": sorted(f if f[:1] == "/" or "anon" in f else f.split(":")[0] for f in evil.fds(pid)),
        "snapshots": api.snapshot_keys(),
        "snapshot directories": len(os.listdir(d.root / "io.containerd.snapshotter.v1.overlayfs/snapshots")),
        "containers": [c.id for c in api.containers.List().containers],
        "tasks": [t.id for t in api.tasks.List().tasks],
        "leases": api.lease_ids(),
        "ingests": api.ingests(),
        "temporary": os.listdir(d.dir / "tmp"),
    }


def calm(api, shims):
    """A look when all that went before has ended."""
    evil.idle(api.daemon)
    harness.until("shims to end", lambda: len(api.daemon.shims()) == shims)
    return look(api)


def same_as(api, before, seconds=harness.SECONDS):
    end = time.monotonic() + seconds
    while True:
        api.collect()
        now = look(api)
        different = {k: (before[k], now[k]) for k in now if now[k] != before[k] and k != "shim sockets"}
        # Other daemons' shims come and go there.
        if not different:
            return
        if time.monotonic() > end:
            raise AssertionError("\n".join(f"{k}: {a} -> {b}" for k, (a, b) in different.items()))
        time.sleep(0.2)


def threads_calm(pid, at_most):
    """Threads that have nothing to do end after some seconds."""
    harness.until("threads to end", lambda: len(os.listdir(f"/proc/{pid}/task")) <= at_most)


def at_once(jobs):
    """Runs them, AT_ONCE at a time; the first failure is raised."""
    todo, failures, lock = list(jobs), [], threading.Lock()

    def work():
        while True:
            with lock:
                if not todo or failures:
                    return
                job = todo.pop(0)
            try:
                job()
            except BaseException as e:
                failures.append(e)
    pool = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()
    if failures:
        raise failures[0]


def test_containers(soaked):
    api, ctr = soaked, soaked.daemon.ctr
    pid = api.daemon.process.pid
    threads = len(os.listdir(f"/proc/{pid}/task"))

    def short(name):
        ctr("run", "--rm", api.image, name, "true")

    def long(name):
        ctr("run", "-d", api.image, name, "sleep", "1000")
        assert ctr.out("tasks", "exec", "--exec-id", "x", name, "echo", "here").strip() == "here"
        ctr("tasks", "kill", "-s", "KILL", name)
        api.tasks.Wait(container_id=name)
        ctr("tasks", "rm", name)
        ctr("containers", "rm", name)

    short("first")
    api.collect()
    before = calm(api, 0)
    sizes = []
    for part in range(4):
        at_once([lambda i=i, part=part: (long if i % 4 == 0 else short)(f"c{part}-{i}") for i in range(CONTAINERS // 4)])
        api.collect()
        sizes.append(rss(pid))
    same_as(api, before)
    threads_calm(pid, threads + 2)
    if not sanitized(pid):
        assert max(sizes[2:]) <= sizes[1] + 1024, sizes


def test_pulls(soaked):
    api = soaked
    pid = api.daemon.process.pid
    threads = len(os.listdir(f"/proc/{pid}/task"))
    api.remove_images()
    before, sizes = calm(api, 0), []
    for _ in range(PULLS):
        api.pull(api.image)
        assert len(api.snapshot_keys()) == 2
        api.images.Delete(name=api.image, sync=True, timeout=harness.SECONDS)
        assert (api.snapshot_keys(), api.digests()) == ([], [])
        sizes.append(rss(pid))
    same_as(api, before)
    assert list((api.daemon.root / "io.containerd.content.v1.content/blobs").rglob("*/*")) == []
    threads_calm(pid, threads + 2)
    if not sanitized(pid):
        assert max(sizes[PULLS // 2:]) <= max(sizes[:PULLS // 2]) + 512, sizes


def test_events_and_waits_of_clients_that_come_and_go(soaked):
    api = soaked
    pid = api.daemon.process.pid
    ctr = api.daemon.ctr
    ctr("run", "-d", api.image, "waited", "sleep", "1000")
    before = calm(api, 1)
    for _ in range(30):
        other = evil.Api(api.stubs, api.daemon, ns=api.ns)
        streams = [other.events.stub.Subscribe(other.events.Subscribe.request()) for _ in range(10)]
        waits = [other.tasks.Wait.later(container_id="waited") for _ in range(10)]
        other.namespaces.List()
        other.close()
        del streams, waits
    same_as(api, before)
    ctr("tasks", "rm", "-f", "waited")
    ctr("containers", "rm", "waited")
    assert subprocess.run(["kill", "-0", str(pid)]).returncode == 0
