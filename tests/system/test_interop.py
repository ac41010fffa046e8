# SPDX-License-Identifier: Apache-2.0
"""Other people's containerd: Debian's ctr with our daemon, each one's shim under the other's daemon, one root for both daemons in turn."""
import os
import subprocess

import pytest

from harness import BIN, DEBIAN_CONTAINERD, DEBIAN_CTR, DEBIAN_SHIM, Ctr, Daemon, Lines, rows, run, until

SH = "echo hello; id -u; exit 6"


def status(ctr, name):
    return {r[0]: r[2] for r in rows(ctr.out("tasks", "ls"))}.get(name)


class TestDebiansCtrWithOurDaemon:
    @pytest.fixture(scope="class")
    def theirs(self, daemon):
        return Ctr(DEBIAN_CTR, daemon.address, "theirs")

    @pytest.fixture(scope="class")
    def pulled(self, theirs, layered):
        theirs("images", "pull", "--plain-http", layered["gzip"])
        return layered["gzip"]

    def test_pulls_and_runs(self, theirs, pulled):
        assert theirs.quiet("images", "ls", "-q") == [pulled]
        # Its ctr may return before all output is copied: a file tells.
        p = theirs("run", "--rm", pulled, "one", "sh", "-c", "exit 6", check=False)
        assert p.returncode == 6
        log = f"/tmp/interop-{os.getpid()}"
        try:
            theirs("run", "-d", "--log-uri", f"file://{log}", pulled, "two", "sh", "-c", "cat /data/change; ls /full; sleep 600")
            until("output", lambda: os.path.exists(log) and open(log).read() == "2new\n")
        finally:
            if os.path.exists(log):
                os.unlink(log)
        assert status(theirs, "two") == "RUNNING"
        assert theirs("tasks", "exec", "--exec-id", "e", "two", "sh", "-c", "exit 4", check=False).returncode == 4
        theirs("tasks", "pause", "two")
        assert status(theirs, "two") == "PAUSED"
        theirs("tasks", "resume", "two")
        assert "memory" in theirs.out("tasks", "metrics", "two")
        theirs("tasks", "kill", "-s", "KILL", "two")
        until("the task to stop", lambda: status(theirs, "two") == "STOPPED")
        theirs("tasks", "rm", "two", check=False)
        theirs("containers", "rm", "two")

    def test_sees_events(self, theirs, pulled):
        p = theirs.popen("events", stdout=subprocess.PIPE)
        try:
            import select
            for i in range(100):
                theirs("namespaces", "create", f"ev{i}")
                if select.select([p.stdout], [], [], 0.2)[0]:
                    break
            lines = Lines(p)
            theirs("run", "--rm", pulled, "evented", "true")
            for topic in ("/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"):
                lines.wait(topic)
        finally:
            p.kill()
            p.wait()

    def test_exports_and_imports(self, theirs, pulled, tmp_path):
        theirs("images", "export", tmp_path / "i.tar", pulled)
        theirs("images", "import", tmp_path / "i.tar", ns="theirs2")
        assert theirs.quiet("images", "ls", "-q", ns="theirs2") == [pulled]

    def test_tags_labels_and_removes(self, theirs, pulled):
        theirs("images", "tag", pulled, "localhost/t:1")
        theirs("images", "label", "localhost/t:1", "x=y")
        assert "x=y" in theirs.out("images", "ls")
        theirs("images", "rm", "--sync", "localhost/t:1")
        assert theirs.quiet("images", "ls", "-q") == [pulled]

    def test_lists_plugins_content_snapshots_and_leases(self, theirs, pulled):
        assert "io.containerd.snapshotter.v1" in theirs.out("plugins", "ls")
        assert len(rows(theirs.out("content", "ls"))) >= 5
        assert len(rows(theirs.out("snapshots", "ls"))) == 3
        theirs("leases", "create", "--id", "l")
        assert "l" in theirs.out("leases", "ls", "-q").split()
        theirs("leases", "rm", "l")


def exercise(ctr, image, runtime=()):
    """A container's life, as any daemon with any shim must give it."""
    p = ctr("run", "--rm", *runtime, image, "a", "sh", "-c", "exit 6", check=False)
    assert p.returncode == 6, p.stderr
    ctr("run", "-d", *runtime, image, "b", "sleep", "600")
    assert status(ctr, "b") == "RUNNING"
    assert ctr("tasks", "exec", "--exec-id", "e", "b", "sh", "-c", "exit 7", check=False).returncode == 7
    ctr("tasks", "pause", "b")
    assert status(ctr, "b") == "PAUSED"
    ctr("tasks", "resume", "b")
    assert len(rows(ctr.out("tasks", "ps", "b"))) == 1
    assert "memory" in ctr.out("tasks", "metrics", "b")
    ctr("tasks", "kill", "-s", "KILL", "b")
    until("the task to stop", lambda: status(ctr, "b") == "STOPPED")
    ctr("tasks", "rm", "b", check=False)
    ctr("containers", "rm", "b")


def test_our_shim_under_debians_daemon(busybox, workdir):
    path = workdir / "ourshim"
    path.mkdir()
    os.link(BIN / "containerd-shim-runc-v2", path / "containerd-shim-runc-v2")
    d = Daemon(containerd=DEBIAN_CONTAINERD, ctr=DEBIAN_CTR, path=path)
    try:
        d.start()
        d.ctr("images", "pull", "--plain-http", busybox)
        d.ctr("run", "-d", busybox, "who", "sleep", "600")
        assert [os.readlink(f"/proc/{p}/exe") for p in d.shims()] == [str(path / "containerd-shim-runc-v2")]
        d.restart()
        assert status(d.ctr, "who") == "RUNNING"
        d.ctr("tasks", "rm", "-f", "who", check=False)
        exercise(d.ctr, busybox)
        exercise(d.ctr, busybox, ["--runc-binary", "crun"])
    finally:
        d.close()


def test_debians_shim_under_our_daemon(daemon, ctr, image):
    ctr("run", "-d", "--runtime", DEBIAN_SHIM, image, "who", "sleep", "600")
    assert DEBIAN_SHIM in [os.readlink(f"/proc/{p}/exe") for p in daemon.shims()]
    ctr("tasks", "rm", "-f", "who", check=False)
    ctr("containers", "rm", "who")
    exercise(ctr, image, ["--runtime", DEBIAN_SHIM])
    assert ctr.out("run", "--rm", "--runtime", DEBIAN_SHIM, image, "out", "echo", "hello") == "hello\n"


def names(ctr):
    """What is stored, as far as both list it alike."""
    return {"images": sorted(ctr.quiet("images", "ls", "-q")), "containers": sorted(ctr.quiet("containers", "ls", "-q")),
            "content": sorted(ctr.quiet("content", "ls", "-q")), "snapshots": sorted(tuple(r) for r in rows(ctr.out("snapshots", "ls"))),
            "leases": sorted(ctr.quiet("leases", "ls", "-q"))}


def run_file(ctr, image, name, out):
    """Runs a container that writes to a file of the host (Debian's ctr may return before all output is copied)."""
    ctr("run", "--rm", "--mount", f"type=bind,src={out},dst=/out,options=rbind:rw", image, name, "sh", "-c", "cat /etc/passwd > /out/passwd")
    assert "root" in (out / "passwd").read_text()
    (out / "passwd").unlink()


def test_one_root_for_our_daemon_and_debians_in_turn(busybox, layered, tmp_path):
    d = Daemon()
    out = tmp_path / "out"
    out.mkdir()
    try:
        d.start()
        ours, theirs = Ctr(BIN / "ctr", d.address), Ctr(DEBIAN_CTR, d.address)
        ours("images", "pull", "--plain-http", busybox)
        ours("containers", "create", "--label", "made=by-us", busybox, "first", "true")
        ours("namespaces", "create", "more", "a=b")
        before = names(ours)
        d.stop()
        check_bolt(d)

        d.containerd, d.ctr = DEBIAN_CONTAINERD, theirs
        d.start()
        assert names(theirs) == before
        assert "made" in theirs.out("containers", "info", "first")
        assert theirs("tasks", "start", "first").returncode == 0
        run_file(theirs, busybox, "second", out)
        theirs("images", "pull", "--plain-http", layered["gzip"])
        theirs("containers", "create", layered["gzip"], "third", "true")
        before = names(theirs)
        d.stop()
        check_bolt(d)

        d.containerd, d.ctr = str(BIN / "containerd"), ours
        d.start()
        assert names(ours) == before
        run_file(ours, layered["gzip"], "fourth", out)
        assert ours("tasks", "start", "third").returncode == 0
        ours("containers", "rm", "first", "third")
        ours("images", "rm", "--sync", layered["gzip"])
        left = names(ours)
        assert left["images"] == [busybox] and left["containers"] == []
    finally:
        d.close()


def test_running_container_of_debians_daemon_is_taken_over_by_ours(busybox):
    d = Daemon(containerd=DEBIAN_CONTAINERD, ctr=DEBIAN_CTR)
    try:
        d.start()
        ours, theirs = Ctr(BIN / "ctr", d.address), d.ctr
        theirs("images", "pull", "--plain-http", busybox)
        theirs("run", "-d", busybox, "moved", "sleep", "600")
        pid = rows(theirs.out("tasks", "ls"))[0][1]
        d.stop()
        d.containerd, d.ctr = str(BIN / "containerd"), ours
        d.start()
        assert rows(ours.out("tasks", "ls")) == [["moved", pid, "RUNNING"]]
        assert ours.out("tasks", "exec", "--exec-id", "e", "moved", "echo", "hello") == "hello\n"
        ours("tasks", "kill", "-s", "KILL", "moved")
        until("the exit to be seen", lambda: status(ours, "moved") == "STOPPED")
        ours("tasks", "rm", "moved")
        ours("containers", "rm", "moved")
    finally:
        d.close()


def check_bolt(d):
    """The file is consistent (by our own checker), whoever wrote it."""
    if (BIN / "bolt_dump").exists():
        run([BIN / "bolt_dump", "--check", d.root / "io.containerd.metadata.v1.bolt/meta.db"])
