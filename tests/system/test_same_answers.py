# SPDX-License-Identifier: Apache-2.0
"""The whole command trees of two ctr's, each against our daemon and against Debian's: what one daemon has them print, so has the other.

Each command runs on both daemons in turn. Exit status, standard output and error text are compared; times, ages, speeds, process
numbers, generated names and the daemons' own directories are not."""
import json
import os
import re

import pytest

from harness import BIN, DEBIAN_CONTAINERD, DEBIAN_CTR, SECONDS, Ctr, Daemon, rows, run, until

NOISE = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d| ?UTC|Z)?( m=[+-][\d.]+)?( UTC)?", "TIME"), (r"\x1b\[[0-9;]*[A-Za-z]|[\r\b]", ""),
    (r"\d+(\.\d+)? ?(s|ms|µs|minutes?|seconds?|hours?|days?)\b( ago)?", "AGE"), (r"(less than|about) an? (second|minute|hour)( ago)?", "AGE"), (r"now|AGE ago", "AGE"),
    (r"\(\d+(\.\d+)? ?[KMG]?i?B/s\)", "SPEED"), (r"\d+(\.\d+)? ?[KMG]?i?B/s", "SPEED"), (r"elapsed: \S+ total: .*", "ELAPSED"), (r"extract-\d+-\S+", "EXTRACT"),
    (r"/snapshots/\d+", "/snapshots/N"), (r"containerd-mount\d+", "MOUNT"), (r"time=\"[^\"]*\" ", ""), (r"every\d+|/(proc|fd)/\d+", "N"),
]


def clean(text, daemon):
    text = text.replace(str(daemon.dir), "DIR").replace(f"-{daemon.which}-", "-WHICH-")
    for pattern, word in NOISE:
        text = re.sub(pattern, word, text)
    # Labels and options of mounts come in any order.
    lines = [" ".join(",".join(sorted(word.split(","))) for word in line.split()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("ELAPSED")]


class Both:
    """One client on two daemons."""

    def __init__(self, daemons, client, ns):
        self.daemons = daemons
        # runc's state is the host's: the same container is in two namespaces.
        self.ctrs = [Ctr(client, d.address, f"cmp-{d.which}-{ns}") for d in daemons]

    def results(self, *args, **kw):
        found = []
        for d, c in zip(self.daemons, self.ctrs):
            here = [str(a).replace("DIR", str(d.dir)) for a in args]
            if "suffix" in kw:
                found.append(c(*here, check=False, ns=c.namespace + kw["suffix"], **{k: v for k, v in kw.items() if k != "suffix"}))
            else:
                found.append(c(*here, check=False, **kw))
        return found

    def same(self, *args, status=0, error=None, columns=None, unordered=False, quiet=False, shown=lambda lines: lines, **kw):
        """Runs it on both; `error` is a text that both complain with. Returns the outputs as they are."""
        first, second = self.results(*args, **kw)
        assert (first.returncode, second.returncode) == (status, status), (
            f"{args}: our daemon gave {first.returncode}, Debian's {second.returncode}\n{first.stdout[-1500:]}{first.stderr[-1500:]}\n---\n{second.stdout[-1500:]}{second.stderr[-1500:]}")
        if error is not None:
            for p in (first, second):
                assert error in p.stderr, f"{args}: {p.stderr}"
        if not quiet:
            a, b = (shown(clean(p.stdout, d)) for p, d in zip((first, second), self.daemons))
            if columns:
                a, b = ([[line.split()[c] for c in columns if c < len(line.split())] for line in x] for x in (a, b))
            assert (sorted(a) == sorted(b)) if unordered else (a == b), f"{args}:\nour daemon's answer: {a}\nDebian's: {b}"
            if status:
                a, b = (clean(p.stderr, d) for p, d in zip((first, second), self.daemons))
                assert a == b, f"{args}:\nour daemon's error: {a}\nDebian's: {b}"
        return first.stdout, second.stdout


@pytest.fixture(scope="module")
def daemons():
    ours, theirs = Daemon(), Daemon(containerd=DEBIAN_CONTAINERD, ctr=DEBIAN_CTR)
    ours.start()
    theirs.start()
    ours.which, theirs.which = "here", "there"
    for d in (ours, theirs):
        (d.dir / "out").mkdir()
        (d.dir / "out").chmod(0o777)
        (d.dir / "mnt").mkdir()
    yield ours, theirs
    try:
        ours.close()
    finally:
        theirs.close()


@pytest.fixture(scope="module", params=["debian", "ours"])
def both(request, daemons):
    return Both(daemons, {"debian": DEBIAN_CTR, "ours": str(BIN / "ctr")}[request.param], f"{request.param}-{os.getpid()}")


@pytest.fixture
def debian(both):
    return both.ctrs[0].binary == DEBIAN_CTR


@pytest.fixture(scope="module")
def pulled(both, layered):
    """An image of three layers, in both. Our ctr pulls through a service that Debian's daemon does not have."""
    for c in both.ctrs:
        Ctr(DEBIAN_CTR, c.address, c.namespace)("images", "pull", "--plain-http", layered["gzip"])
    return layered["gzip"]


def collect(both):
    """Both collect what nobody names."""
    both.same("leases", "create", "--id", "collect")
    both.same("leases", "rm", "--sync", "collect")


def digests(both, image):
    """Of index or manifest, config and layers."""
    target = [r for r in rows(both.ctrs[0].out("images", "ls")) if r[0] == image][0][2]
    manifest = json.loads(both.ctrs[0].out("content", "get", target))
    return target, manifest["config"]["digest"], [x["digest"] for x in manifest["layers"]]


def test_namespaces(both):
    name = "cmp-n-" + both.ctrs[0].binary.strip("/").replace("/", "-").replace(".", "-")[-20:].strip("-")
    both.same("namespaces", "create", name, "a=b", "c=d")
    both.same("namespaces", "create", name, status=1, error="already exists")
    both.same("namespaces", "create", "a..b", status=1, error="must match")
    both.same("namespaces", "label", name, "a=", "e=f")
    assert [name, "c=d,e=f"] in [line.split() for line in clean(both.ctrs[0].out("namespaces", "ls"), both.daemons[0])]
    both.same("namespaces", "ls", unordered=True)
    both.same("namespaces", "ls", "-q", unordered=True)
    both.same("namespaces", "rm", name)
    both.same("namespaces", "rm", name)


def test_images(both, pulled, registry, debian, tmp_path_factory):
    both.same("images", "ls")
    both.same("images", "ls", "-q")
    both.same("images", "ls", f'name=="{pulled}"')
    both.same("images", "ls", "name==nobody")
    both.same("images", "ls", "a=b", status=1, error="unsupported operator")
    both.same("images", "check")
    both.same("images", "tag", pulled, "localhost/t:1")
    both.same("images", "tag", pulled, "localhost/t:1", status=1, error="already exists")
    both.same("images", "tag", "--force", pulled, "localhost/t:1")
    both.same("images", "tag", "nobody:1", "x:1", status=1, error="not found")
    both.same("images", "label", "localhost/t:1", "x=y", "z=w")
    both.same("images", "label", "localhost/t:1", "z=")
    both.same("images", "ls")
    both.same("images", "rm", "--sync", "localhost/t:1")
    both.same("images", "rm", "nobody:1", quiet=True)
    if debian:
        both.same("images", "export", "DIR/out/i.tar", pulled)
        both.same("images", "import", "DIR/out/i.tar", suffix="-i", quiet=True)
        both.same("images", "ls", suffix="-i")
        both.same("images", "pull", "--plain-http", f"{registry.host}/nobody:1", status=1, quiet=True, error="not found")
    both.same("images", "mount", pulled, "DIR/mnt", quiet=True)
    assert sorted(os.listdir(both.daemons[0].dir / "mnt")) == sorted(os.listdir(both.daemons[1].dir / "mnt"))
    both.same("images", "unmount", "--rm", "DIR/mnt", quiet=True)
    if debian:
        both.same("images", "convert", "--uncompress", pulled, "converted:1", quiet=True)
        both.same("images", "ls", columns=[0, 1, 2, 3])
        both.same("images", "push", "--plain-http", f"{registry.host}/{both.ctrs[0].namespace}:1", pulled, quiet=True)
        both.same("images", "rm", "converted:1")


def test_content(both, pulled, debian):
    target, config, layers = digests(both, pulled)
    collect(both)
    for d in (target, config):
        both.same("content", "get", d)
    both.same("content", "ls", "-q")
    both.same("content", "ls", columns=[0, 1])
    both.same("content", "label", config, "x=y")
    both.same("content", "ls", f'digest=="{config}"', columns=[0, 1])
    both.same("content", "get", "sha256:" + "0" * 64, status=1, error="not found")
    both.same("content", "get", "sha256:0", status=1)
    both.same("content", "ingest", "--expected-size", "5", "key", input="words")
    both.same("content", "ingest", "--expected-digest", "sha256:" + "0" * 64, "wrong", input="x", status=1, error="unexpected commit digest")
    both.same("content", "active", unordered=True, columns=[0, 1])
    both.same("content", "rm", "sha256:" + "0" * 64, quiet=True)
    if debian:
        both.same("content", "fetch", "--plain-http", pulled, quiet=True)
        both.same("content", "fetch-object", "--plain-http", pulled, target)
        both.same("content", "edit", "--editor", "true", config, status=1, error="already exists")
        # Layers that are unpacked are not needed any more: in a namespace that nothing else uses.
        both.same("images", "pull", "--plain-http", pulled, suffix="-p", quiet=True)
        both.same("content", "prune", "references", suffix="-p", quiet=True)
        for c in both.ctrs:
            c("leases", "create", "--id", "collect", ns=c.namespace + "-p")
            c("leases", "rm", "--sync", "collect", ns=c.namespace + "-p")
        both.same("content", "ls", "-q", suffix="-p")
    collect(both)
    both.same("content", "ls", "-q", unordered=True)


def test_snapshots(both, pulled):
    committed = sorted(r[0] for r in rows(both.ctrs[0].out("snapshots", "ls")) if r[-1] == "Committed")
    parents = {r[1] for r in rows(both.ctrs[0].out("snapshots", "ls")) if len(r) == 3}
    top = [c for c in committed if c not in parents][0]
    both.same("snapshots", "ls", unordered=True)
    both.same("snapshots", "tree", unordered=True)
    both.same("snapshots", "info", top, shown=lambda lines: [x for x in lines if "TIME" not in x])
    both.same("snapshots", "info", "nobody", status=1, error="not found")
    both.same("snapshots", "prepare", "work", top)
    both.same("snapshots", "prepare", "work", top, status=1, error="already exists")
    both.same("snapshots", "prepare", "other", "nobody", status=1, error="not exist")
    both.same("snapshots", "mounts", "DIR/m", "work")
    both.same("snapshots", "view", "look", top)
    both.same("snapshots", "mounts", "DIR/m", "look")
    both.same("snapshots", "usage", "work", columns=[0, 2])
    both.same("snapshots", "usage", "-b", top)
    both.same("snapshots", "label", "work", "x=y")
    both.same("snapshots", "commit", "done", "work")
    both.same("snapshots", "commit", "done2", "look", status=1, error='look" is not active', quiet=True)
    both.same("snapshots", "rm", top, status=1, error="cannot remove snapshot with child")
    both.same("snapshots", "ls", unordered=True)
    both.same("snapshots", "tree", unordered=True)
    both.same("snapshots", "rm", "look")
    both.same("snapshots", "rm", "done")
    both.same("snapshots", "rm", "done", status=1, error="not exist")
    both.same("snapshots", "--snapshotter", "native", "ls")
    both.same("snapshots", "--snapshotter", "nobody", "ls", status=1, error="snapshotter not loaded: nobody")
    both.same("snapshots", "--snapshotter", "native", "unpack", digests(both, pulled)[0], quiet=True)
    both.same("snapshots", "--snapshotter", "native", "ls", unordered=True)


def test_leases(both):
    both.same("leases", "create", "--id", "mine", "a=b")
    both.same("leases", "create", "--id", "mine", status=1, error="already exists")
    both.same("leases", "create", "-x", "1h", "--id", "short", quiet=True)
    both.same("leases", "ls")
    both.same("leases", "ls", "-q")
    both.same("leases", "rm", "--sync", "mine", "short")
    both.same("leases", "ls")


def test_containers(both, pulled):
    both.same("containers", "create", "--label", "a=b", "--env", "X=y", pulled, "one", "true")
    both.same("containers", "create", pulled, "one", "true", status=1, quiet=True, error="already exists")
    both.same("containers", "create", pulled, "a..b", "true", status=1, quiet=True, error="must match")
    both.same("containers", "create", "nobody:1", "two", "true", status=1, quiet=True, error="not found")
    both.same("containers", "ls")
    both.same("containers", "ls", "-q")
    both.same("containers", "ls", "id==nobody")
    info = [json.loads(x) for x in both.same("containers", "info", "one", quiet=True)]
    for i in info:
        for key in ("CreatedAt", "UpdatedAt"):
            assert i.pop(key)
    for i, c in zip(info, both.ctrs):
        i["Spec"]["linux"]["cgroupsPath"] = i["Spec"]["linux"]["cgroupsPath"].replace(c.namespace, "NS")
    assert info[0] == info[1]
    both.same("containers", "info", "nobody", status=1, error="not found")
    both.same("containers", "label", "one", "c=d", "a=")
    both.same("containers", "ls", "labels.c==d")
    both.same("containers", "rm", "one")
    both.same("containers", "rm", "one", status=1, quiet=True, error="not found")


PROBE = ("id; pwd; hostname; env | sort | grep -v HOSTNAME; cat /proc/self/status | grep -E '^(Cap|NoNewPrivs|Seccomp:)'; cat /proc/mounts | sed 's/cd-[^/ ,:]*/DIR/g' | "
         "grep -vE '/out|^cgroup|^overlay' | sort; ls /dev | sort; cat /proc/1/limits | sort; ip a 2>/dev/null | grep -c lo")
FLAGS = {
    "plain": [], "user": ["--user", "1000:1000"], "cwd": ["--cwd", "/tmp"], "env": ["--env", "A=b", "--env", "C=d e"], "read-only": ["--read-only"],
    "mount": ["--mount", "type=tmpfs,dst=/t,options=size=1m:nosuid"], "net-host": ["--net-host"], "privileged": ["--privileged"], "caps": ["--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_KILL"],
    "new-privs": ["--allow-new-privs"], "seccomp": ["--seccomp"], "memory": ["--memory-limit", "50000000"], "cpus": ["--cpus", "0.5"], "device": ["--device", "/dev/fuse"],
    "label": ["--label", "x=y"], "cgroup": ["--cgroup", "/cmp-flags/x"], "native": ["--snapshotter", "native"], "no-pivot": ["--no-pivot"],
}


@pytest.mark.parametrize("flag", FLAGS)
def test_run_flags(both, pulled, flag, debian):
    if flag == "user" and "--user" not in both.ctrs[0].out("run", "--help"):
        pytest.skip("this ctr has none")
    if flag == "device" and not os.path.exists("/dev/fuse"):
        FLAGS[flag][1] = "/dev/null"
    out = []
    for d in both.daemons:
        (d.dir / "out/probe").unlink(missing_ok=True)
    wrapped = ["--mount", "type=bind,src=DIR/out,dst=/out,options=rbind:rw"]
    both.same("run", "--rm", "--null-io", *FLAGS[flag], *wrapped, pulled, f"f-{flag}", "sh", "-c", f"({PROBE}) > /out/part 2>&1; mv /out/part /out/probe; exit 5",
              status=5, quiet=True)
    for d in both.daemons:
        out.append((d.dir / "out/probe").read_text())
    assert out[0] == out[1]
    assert len(out[0].splitlines()) > 20


def status(ctr, name):
    return {r[0]: r[2] for r in rows(ctr.out("tasks", "ls"))}.get(name)


def test_tasks(both, pulled, debian):
    both.same("containers", "create", pulled, "t", "sleep", "1000")
    both.same("tasks", "start", "-d", "t", quiet=True)
    both.same("tasks", "start", "-d", "t", status=1, quiet=True, error="already exists")
    both.same("tasks", "start", "-d", "nobody", status=1, error="not found")
    both.same("tasks", "ls", columns=[0, 2])
    both.same("tasks", "ls", "-q")
    both.same("tasks", "ps", "t", columns=[1])
    both.same("tasks", "exec", "--exec-id", "e", "t", "sh", "-c", "exit 9", status=9, quiet=True)
    both.same("tasks", "exec", "--exec-id", "e", "t", "/nope", status=1, quiet=True, error="no such file or directory")
    both.same("tasks", "exec", "--exec-id", "e", "nobody", "true", status=1, error="not found")
    both.same("tasks", "exec", "-d", "--exec-id", "long", "t", "sleep", "1000", quiet=True)
    both.same("tasks", "ps", "t", columns=[1])
    both.same("tasks", "pause", "t")
    both.same("tasks", "ls", columns=[0, 2])
    both.same("tasks", "pause", "t", status=1, quiet=True)
    both.same("tasks", "resume", "t")
    both.same("tasks", "resume", "t", status=1, quiet=True)
    both.same("tasks", "metrics", "t", shown=lambda lines: [x.split()[0] for x in lines])
    metrics = [json.loads(x) for x in both.same("tasks", "metrics", "--format", "json", "t", quiet=True)]
    # What is zero is not printed.
    assert set(metrics[0]) == set(metrics[1])
    both.same("tasks", "kill", "-s", "USR5", "t", status=1, quiet=True)
    both.same("tasks", "kill", "nobody", status=1, error="not found")
    both.same("tasks", "rm", "t", status=1, quiet=True)
    both.same("containers", "rm", "t", status=1, quiet=True)
    both.same("tasks", "kill", "--exec-id", "long", "-s", "KILL", "t")
    both.same("tasks", "checkpoint", "t", status=1, quiet=True)
    both.same("tasks", "kill", "-s", "KILL", "t")
    for c in both.ctrs:
        until("the end", lambda c=c: status(c, "t") == "STOPPED")
    both.same("tasks", "kill", "t", status=1, quiet=True, error="not found")
    both.same("tasks", "rm", "t", quiet=True)
    both.same("tasks", "ls")
    both.same("containers", "rm", "t")


def keys(document):
    """The shape of a JSON document, without what a kernel may or may not have."""
    if isinstance(document, dict):
        return {k: keys(v) for k, v in document.items()}
    return [] if isinstance(document, list) else None


def test_client_only_commands(both, debian):
    both.same("oci", "spec", quiet=True)
    assert "Server:" in both.same("version", quiet=True)[0]
    for out in both.same("plugins", "ls", quiet=True):
        table = {(r[0], r[1]): r[-1] for r in rows(out)}
        for plugin in (("io.containerd.snapshotter.v1", "overlayfs"), ("io.containerd.content.v1", "content"), ("io.containerd.grpc.v1", "tasks")):
            assert table[plugin] == "ok"


def test_shim_commands(both, pulled, debian):
    """They go to the shim itself, at the socket that its name says."""
    if not debian:
        pytest.skip("this ctr has none")
    both.same("run", "-d", pulled, "sh", "sleep", "1000", quiet=True)
    try:
        state = [json.loads(x) for x in both.same("shim", "--id", "sh", "state", quiet=True)]
        assert keys(state[0]) == keys(state[1]) and state[0]["status"] == state[1]["status"]
    finally:
        for c in both.ctrs:
            c("tasks", "rm", "-f", "sh", check=False)
            c("containers", "rm", "sh", check=False)


def test_events(both, pulled):
    """All topics of a container's life, with the same fields."""
    import select
    import subprocess
    seen = []
    for c, d in zip(both.ctrs, both.daemons):
        p = c.popen("events", stdout=subprocess.PIPE)
        try:
            for i in range(200):
                c("namespaces", "create", f"cmp-ev{i}")
                c("namespaces", "rm", f"cmp-ev{i}")
                if select.select([p.stdout], [], [], 0.2)[0]:
                    break
            c("run", "--rm", "--null-io", pulled, "ev", "sh", "-c", "exit 3", check=False)
            c("namespaces", "create", "cmp-last")
            c("namespaces", "rm", "cmp-last")
            text, end = b"", SECONDS
            while b"/namespaces/delete {\"name\":\"cmp-last\"}" not in text:
                assert select.select([p.stdout], [], [], end)[0], text
                part = os.read(p.stdout.fileno(), 65536)
                assert part, text
                text += part
        finally:
            p.kill()
            p.wait()
        events = [re.match(r".*? (/\S+) (\{.*\})$", line) for line in text.decode().splitlines()]
        seen.append([(e[1], set(json.loads(e[2]))) for e in events if e and not e[1].startswith("/namespaces")])
    for events in seen:
        # The snapshot's removal is told before or after the container's.
        topics = [t for t, _ in events]
        assert topics.pop(topics.index("/snapshot/remove"))
        assert topics == ["/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"]
    # The snapshotter of a snapshot's events came later.
    first, second = (dict(events) for events in seen)
    assert {t: f - {"snapshotter"} for t, f in first.items()} == second


def test_images_of_podman_and_skopeo(both, debian, busybox_layout, tmp_path_factory):
    """Archives that other programs make are imported alike, and what is exported they take back."""
    directory = tmp_path_factory.mktemp("others")
    root = ["--root", directory / "store", "--runroot", directory / "run", "--storage-driver", "vfs"]
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{busybox_layout}", f"docker-archive:{directory}/skopeo.tar:example.com/skopeo:1"])
    run(["podman", *root, "load", "-q", "-i", directory / "skopeo.tar"])
    run(["podman", *root, "tag", "example.com/skopeo:1", "example.com/podman:1"])
    run(["podman", *root, "save", "-q", "--format", "oci-archive", "-o", directory / "podman-oci.tar", "example.com/podman:1"])
    run(["podman", *root, "save", "-q", "--format", "docker-archive", "-o", directory / "podman-docker.tar", "example.com/podman:1"])
    for archive in ("skopeo", "podman-oci", "podman-docker"):
        # Debian's ctr imports by itself, ours has the daemon do it.
        if debian:
            both.same("images", "import", directory / f"{archive}.tar", suffix="-" + archive, quiet=True)
        else:
            both.ctrs[0]("images", "import", directory / f"{archive}.tar", ns=f"{both.ctrs[0].namespace}-{archive}")
            Ctr(DEBIAN_CTR, both.ctrs[1].address)("images", "import", directory / f"{archive}.tar", ns=f"{both.ctrs[1].namespace}-{archive}")
        both.same("images", "ls", suffix="-" + archive, columns=[0, 1, 2] if debian else [0, 1])
    ours = both.ctrs[0]
    ns = f"{ours.namespace}-podman-oci"
    name = ours.quiet("images", "ls", "-q", ns=ns)[0]
    ours("images", "export", directory / "ours.tar", name, ns=ns)
    config = json.loads(run(["skopeo", "inspect", "--config", f"oci-archive:{directory}/ours.tar"]).stdout)
    assert config["config"]["Cmd"] == ["sh"]
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci-archive:{directory}/ours.tar", f"oci:{directory}/layout:x"])
    run(["umoci", "unpack", "--image", f"{directory}/layout:x", directory / "bundle"])
    assert (directory / "bundle/rootfs/etc/os-release").read_text() == "ID=busybox-test\n"
    run(["podman", *root, "load", "-q", "-i", directory / "ours.tar"])
