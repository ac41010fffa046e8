# SPDX-License-Identifier: Apache-2.0
"""A node changes its containerd: Debian's is taken over by ours in place and the other way round, with running tasks and their shims;
and our daemon dies at any moment of its work and comes back with all that it had acknowledged, and with nothing half made."""
import json
import os
import random
import re
import subprocess
import threading
import time


import evil
import gzip
import harness
import images
from harness import BIN, DEBIAN_CONTAINERD, DEBIAN_CTR, Ctr, alive, rows, run, until

NAMESPACES = ("default", "second")


def check_bolt(d):
    for f in [d.root / "io.containerd.metadata.v1.bolt/meta.db", *d.root.glob("io.containerd.snapshotter.v1.*/metadata.db")]:
        run([BIN / "bolt_dump", "--check", f])


class Raw:
    """The whole state of a daemon as its API tells it, without what a switch may change (nothing)."""

    def __init__(self, stubs, daemon, ns):
        self.api = evil.Api(stubs, daemon, ns=ns)

    def look(self):
        a = self.api
        found = {
            "images": {i.name: (i.target.digest, i.target.size, i.target.media_type, dict(i.target.annotations), dict(i.labels), str(i.created_at), str(i.updated_at)) for i in a.images.List().images},
            "containers": {c.id: (c.image, c.spec.SerializeToString(), dict(c.labels), c.runtime.SerializeToString(), c.snapshot_key, c.snapshotter, c.created_at.SerializeToString(),
                                  c.updated_at.SerializeToString(), {k: v.SerializeToString() for k, v in c.extensions.items()}) for c in a.containers.List().containers},
            "leases": {x.id: (dict(x.labels), x.created_at.SerializeToString(), sorted((r.type, r.id) for r in a.leases.ListResources(id=x.id).resources)) for x in a.leases.List().leases},
            # When it was updated is kept, but not told by containerd 1.6.
            "content": {i.digest: (i.size, dict(i.labels), str(i.created_at)) for r in a.content.List() for i in r.info},
            "ingests": {s.ref: (s.offset, s.total) for s in a.content.ListStatuses().statuses},
            "namespaces": {n.name: dict(n.labels) for n in a.namespaces.List().namespaces},
            "tasks": {t.id: (t.pid, t.status) for t in a.tasks.List().tasks},
        }
        for sn in ("overlayfs", "native"):
            found[sn] = {i.name: (i.parent, i.kind, dict(i.labels), str(i.created_at), str(i.updated_at))
                         for r in a.snapshots.List(snapshotter=sn) for i in r.info}
            for key, info in found[sn].items():
                # Of what is active, usage is measured; the rest is recorded.
                usage = a.snapshots.Usage(snapshotter=sn, key=key)
                mounts = [] if info[1] == 3 else [(m.type, m.source, sorted(m.options)) for m in a.snapshots.Mounts(snapshotter=sn, key=key).mounts]
                found[sn][key] = (*info, usage.size if info[1] == 3 else 0, mounts)
        return found

    def close(self):
        self.api.close()


def everything(stubs, daemon):
    state = {}
    for ns in NAMESPACES:
        raw = Raw(stubs, daemon, ns)
        state[ns] = raw.look()
        raw.close()
    return state


def different(before, after):
    out = []
    for ns in before:
        for kind in before[ns]:
            a, b = before[ns][kind], after[ns][kind]
            out += [f"{ns} {kind} {k}: {a.get(k)} -> {b.get(k)}" for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)]
    return "\n".join(out)


def fill(daemon, ctr, busybox, layered, tag):
    """A node's usual contents, in two namespaces."""
    for ns in NAMESPACES:
        if ns not in ctr.quiet("namespaces", "ls", "-q"):
            ctr("namespaces", "create", ns, "made=by-" + tag)
        ctr("images", "pull", "--plain-http", busybox, ns=ns)
        ctr("images", "tag", busybox, f"localhost/{tag}:1", ns=ns)
        ctr("images", "label", f"localhost/{tag}:1", "a=b", ns=ns)
        ctr("containers", "create", "--label", "x=y", "--env", "A=b", busybox, f"{tag}-{ns}", "sleep", "1000", ns=ns)
        ctr("leases", "create", "--id", f"lease-{tag}", "l=m", ns=ns)
        # What a client has left in the middle.
        ctr("content", "ingest", "--expected-digest", "sha256:" + "0" * 64, f"ingest-{tag}", input="half", check=False, ns=ns)
        ctr("snapshots", "prepare", f"prepared-{tag}", ns=ns)
        ctr("snapshots", "label", f"prepared-{tag}", "containerd.io/gc.root=1", ns=ns)
    ctr("images", "pull", "--plain-http", "--snapshotter", "native", layered["zstd"] if tag == "ours" else layered["gzip"])
    ctr("run", "-d", busybox, f"run-{tag}", "sleep", "1000")
    ctr("tasks", "exec", "-d", "--exec-id", "beside", f"run-{tag}", "sleep", "1001")
    ctr("run", "-d", busybox, f"paused-{tag}", "sleep", "1000")
    ctr("tasks", "pause", f"paused-{tag}")


def settled(stubs, d):
    """The state after the collection that follows a start."""
    raw = Raw(stubs, d, "default")
    raw.api.collect()
    raw.close()
    return everything(stubs, d)


def work(daemon, ctr, tag):
    """What a daemon took over is its own: it is entered, changed, ended."""
    assert ctr.out("containers", "info", f"run-{tag}")
    assert ctr("tasks", "exec", "--exec-id", "e", f"run-{tag}", "sh", "-c", "exit 4", check=False).returncode == 4
    assert len(rows(ctr.out("tasks", "ps", f"run-{tag}"))) == 2
    assert "memory" in ctr.out("tasks", "metrics", f"run-{tag}")
    ctr("tasks", "resume", f"paused-{tag}")
    ctr("tasks", "kill", "-s", "KILL", f"paused-{tag}")
    until("the end", lambda: {r[0]: r[2] for r in rows(ctr.out("tasks", "ls"))}.get(f"paused-{tag}") == "STOPPED")
    ctr("tasks", "rm", f"paused-{tag}", check=False)
    ctr("containers", "rm", f"paused-{tag}")
    ctr("tasks", "start", "-d", f"{tag}-default")
    ctr("tasks", "rm", "-f", f"{tag}-default", check=False)
    ctr("images", "rm", "--sync", f"localhost/{tag}:1")
    ctr("leases", "rm", f"lease-{tag}")


def test_node_is_taken_over_and_given_back(stubs, busybox, layered):
    d = evil.new_daemon(containerd=DEBIAN_CONTAINERD, ctr=DEBIAN_CTR)
    ours, theirs = Ctr(BIN / "ctr", d.address), Ctr(DEBIAN_CTR, d.address)
    try:
        d.start()
        fill(d, theirs, busybox, layered, "theirs")
        before = settled(stubs, d)
        assert len(before["default"]["images"]) == 3 and len(before["second"]["content"]) >= 3 and len(before["default"]["tasks"]) == 2
        pids = [pid for pid, _ in before["default"]["tasks"].values()]
        d.stop()
        check_bolt(d)

        d.containerd, d.ctr = str(BIN / "containerd"), ours
        d.start()
        assert different(before, settled(stubs, d)) == ""
        assert all(map(alive, pids))
        d.restart()
        assert different(before, settled(stubs, d)) == ""
        work(d, ours, "theirs")
        fill(d, ours, busybox, layered, "ours")
        before = settled(stubs, d)
        d.stop()
        check_bolt(d)

        d.containerd, d.ctr = DEBIAN_CONTAINERD, theirs
        d.start()
        assert different(before, settled(stubs, d)) == ""
        work(d, theirs, "ours")
        theirs("tasks", "rm", "-f", "run-theirs", check=False)
        before = settled(stubs, d)
        d.stop()
        check_bolt(d)

        d.containerd, d.ctr = str(BIN / "containerd"), ours
        d.start()
        assert different(before, settled(stubs, d)) == ""
    finally:
        d.close()


# ---- sudden ends ----

class Work:
    """Mixed operations, each with what it must leave when it was acknowledged, and what it may leave when it was not."""

    def __init__(self, api, ctr, archive, refs, rng):
        self.api, self.ctr, self.archive, self.refs, self.rng = api, ctr, archive, refs, rng
        self.images, self.leases, self.containers, self.digests, self.snapshots = {}, set(), set(), set(), set()
        self.unsure, self.n, self.done = set(), 0, 0
        self.lock = threading.Lock()

    def name(self, kind):
        with self.lock:
            self.n += 1
            return f"{kind}{self.n}"

    def step(self):
        """One operation. What fails because the daemon is gone leaves its name in `unsure`."""
        op = self.rng.choice([self.pull, self.tag, self.tag, self.create, self.lease, self.blob, self.snapshot, self.remove_image, self.remove_lease, self.imported, self.ran])
        touched = []
        try:
            op(touched)
            with self.lock:
                self.done += 1
        except (evil.grpc.RpcError, harness.CommandFailed, subprocess.TimeoutExpired) as e:
            with self.lock:
                self.unsure.update(touched)
            if isinstance(e, evil.grpc.RpcError) and e.code().name not in ("UNAVAILABLE", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED"):
                raise

    def pull(self, touched):
        name, ref = self.name("pulled"), self.rng.choice(self.refs)
        touched.append(name)
        self.api.pull(ref, name=name)
        self.images[name] = None

    def tag(self, touched):
        name = self.name("tagged")
        touched.append(name)
        source = self.api.images.Get(name=self.refs[0]).image
        self.api.images.Create(image={"name": name, "target": source.target, "labels": {"n": name}})
        self.images[name] = source.target.digest

    def remove_image(self, touched):
        with self.lock:
            name = next(iter(self.images), None)
            if name is None:
                return
            del self.images[name]
        touched.append(name)
        self.api.images.Delete(name=name, sync=self.rng.random() < 0.5)
        with self.lock:
            self.unsure.discard(name)

    def create(self, touched):
        name = self.name("made")
        touched.append(name)
        self.api.containers.Create(container={"id": name, "runtime": {"name": "io.containerd.runc.v2"}, "labels": {"n": name}})
        self.containers.add(name)

    def lease(self, touched):
        name = self.name("lease")
        touched.append(name)
        self.api.leases.Create(id=name)
        self.leases.add(name)

    def remove_lease(self, touched):
        with self.lock:
            if not self.leases:
                return
            name = self.leases.pop()
        touched.append(name)
        self.api.leases.Delete(id=name, sync=True)

    def blob(self, touched):
        data = os.urandom(self.rng.choice([10, 100000, 3000000]))
        digest = evil.sha(data)
        touched.append(digest)
        m = self.api.content.messages
        parts = [m.WriteContentRequest(action=m.WRITE, ref=self.name("ref"), total=len(data), expected=digest, data=data[:1 << 20])]
        parts += [m.WriteContentRequest(action=m.WRITE, offset=i, data=data[i:i + (1 << 20)]) for i in range(1 << 20, len(data), 1 << 20)]
        parts += [m.WriteContentRequest(action=m.COMMIT, offset=len(data), expected=digest, labels={"containerd.io/gc.root": "1"})]
        list(self.api.content.stub.Write(iter(parts), metadata=self.api.metadata(), timeout=180))
        self.digests.add(digest)

    def snapshot(self, touched):
        name = self.name("snap")
        touched += [name, name + "-done"]
        self.api.snapshots.Prepare(snapshotter="overlayfs", key=name, labels={"containerd.io/gc.root": "1"})
        self.api.snapshots.Commit(snapshotter="overlayfs", key=name, name=name + "-done", labels={"containerd.io/gc.root": "1"})
        self.snapshots.add(name + "-done")

    def imported(self, touched):
        prefix = self.name("imported")
        touched.append(prefix)
        self.ctr("images", "import", "--index-name", prefix, self.archive)
        self.images[prefix] = None

    def ran(self, touched):
        name = self.name("ran")
        touched.append(name)
        self.ctr("run", "-d", "--null-io", self.refs[0], name, "sleep", "1000")
        self.containers.add(name)

    def check(self):
        """Everything acknowledged is there; nothing else but what may be, and that is whole."""
        api = self.api
        have = {i.name: i for i in api.images.List().images}
        lost = [n for n, digest in self.images.items() if n not in have or digest and have[n].target.digest != digest]
        assert not lost, f"images {lost} are lost"
        strange = [n for n in have if n not in self.images and n not in self.unsure and n not in self.refs and not n.startswith("docker.io/")]
        assert not strange, f"images {strange} came of nothing"
        containers = {c.id for c in api.containers.List().containers}
        assert self.containers <= containers, self.containers - containers
        assert containers <= self.containers | self.unsure, containers
        leases = set(api.lease_ids())
        assert self.leases <= leases and all(x in self.leases | self.unsure or re.match(r"\d+-", x) for x in leases), leases ^ self.leases
        digests = set(api.digests())
        assert self.digests <= digests, self.digests - digests
        assert self.snapshots <= set(api.snapshot_keys())
        for image in have.values():
            self.whole(image)
        return have

    def whole(self, image):
        """What a record names is there to the last byte, with its snapshots."""
        api, todo = self.api, [(image.target.digest, image.target.size)]
        while todo:
            digest, size = todo.pop()
            data = b"".join(p.data for p in api.content.Read(digest=digest, timeout=180))
            assert len(data) == size and evil.sha(data) == digest, f"{image.name}: {digest} is damaged"
            if data[:1] == b"{":
                document = json.loads(data)
                todo += [(x["digest"], x["size"]) for x in [*document.get("manifests", []), *document.get("layers", []), *([document["config"]] if "size" in document.get("config", {}) else [])]]


def test_daemon_that_dies_at_any_moment_keeps_what_it_acknowledged(stubs, tmp_path):
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 100000))
    rng = random.Random(seed)
    d = evil.new_daemon()
    reg = evil.Evil()
    d.start()
    api = evil.Api(stubs, d, ns=f"crash{os.getpid()}")
    try:
        d.ctr.namespace = api.ns
        tars = [images.busybox_tar(), *[images.tar_of([(f"d{i}/f{k}", os.urandom(2000)) for k in range(100)]) for i in range(3)]]
        refs = [reg.image(f"i{n}", [(gzip.compress(t, 1), evil.OCI_LAYER + "+gzip", t) for t in (tars[0], tars[n + 1])]) for n in range(3)]
        api.pull(refs[0])
        d.ctr("images", "export", tmp_path / "i.tar", refs[0])
        work = Work(api, d.ctr, tmp_path / "i.tar", refs, rng)
        rounds = 0
        while rounds < 6 or (work.done < 10 and rounds < 60):
            rounds += 1
            workers, failures = [], []

            def go():
                try:
                    for _ in range(5):
                        work.step()
                except BaseException as e:
                    failures.append(e)
            workers = [threading.Thread(target=go) for _ in range(3)]
            for t in workers:
                t.start()
            time.sleep(rng.uniform(0.05, 1.2))
            d.kill()
            for t in workers:
                t.join()
            if failures:
                raise failures[0]
            check_bolt(d)
            d.start()
            api.close()
            api = work.api = evil.Api(stubs, d, ns=api.ns)
            work.check()
            # The collection after the start takes what nobody named, and nothing else.
            api.collect()
            have = work.check()
            assert list(d.root.glob("io.containerd.snapshotter.v1.overlayfs/snapshots/new-*")) == []
            for name in work.unsure & set(have):
                api.images.Delete(name=name)
            # From here on it is known again.
            work.images = {n: i.target.digest for n, i in have.items() if n not in work.unsure and n not in refs}
            work.leases = {x for x in api.lease_ids() if x.startswith("lease")}
            work.containers = {c.id for c in api.containers.List().containers}
            work.unsure = set()
        assert work.done >= 10, work.done
        for container in work.containers:
            d.ctr("tasks", "rm", "-f", container, check=False)
            api.containers.Delete(id=container)
        for name in api.image_names():
            api.images.Delete(name=name)
        for name in api.lease_ids():
            api.leases.Delete(id=name)
        bare = {"update_mask": {"paths": ["labels"]}}
        for update in ([lambda k=k: api.snapshots.Update(snapshotter="overlayfs", info={"name": k}, **bare) for k in api.snapshot_keys()] +
                       [lambda d=d: api.content.Update(info={"digest": d}, **bare) for d in api.digests()]):
            try:
                update()
            except evil.grpc.RpcError as e:
                # A collection is under way.
                assert e.code().name == "NOT_FOUND", e
        api.collect()
        assert (api.snapshot_keys(), api.digests()) == ([], [])
        until("blobs to go", lambda: not list((d.root / "io.containerd.content.v1.content/blobs").rglob("*/*")))
        until("directories to go", lambda: not os.listdir(d.root / "io.containerd.snapshotter.v1.overlayfs/snapshots"))
        d.stop()
        check_bolt(d)
        d.start()
        # Those too whose start was cut off together with the daemon.
        until("shims to end", lambda: not d.shims())
    except BaseException:
        print("TEST_SEED", seed)
        raise
    finally:
        api.close()
        reg.close()
        d.close()
