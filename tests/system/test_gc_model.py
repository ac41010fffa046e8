# SPDX-License-Identifier: Apache-2.0
"""The garbage collector against a model of it: random graphs of content, snapshots, images, containers and leases, of which both must
keep the same. The model is written from the rules alone: nodes, roots, edges, and a walk."""
import concurrent.futures
import datetime
import random

import grpc
import pytest

import proxies
from dial import dial
from harness import Daemon

GC = "containerd.io/gc."
SN = "overlayfs"
PAST, FUTURE = "2001-02-03T04:05:06Z", "2101-02-03T04:05:06Z"


@pytest.fixture(scope="module")
def daemon():
    d = Daemon(config='[plugins."io.containerd.metadata.v1.bolt"]\n no_sync = true\n').start()
    yield d
    d.close()


class Graph:
    """What is to be made: kind -> name -> {labels, ...}, names of all kinds being known before any label is drawn."""

    def __init__(self, seed, scale):
        self.r = random.Random(seed)
        self.now = datetime.datetime.now(datetime.timezone.utc)
        self.data = {proxies.digest_of(b"%d %d" % (seed, i)): b"%d %d" % (seed, i) for i in range(6 * scale)}
        self.content = {d: {} for d in self.data}
        self.snapshots = {f"snapshot-{i}": {} for i in range(2 * scale)}
        self.images = {f"example.com/image-{i}:v1": {} for i in range(2 * scale)}
        self.containers = {f"container-{i}": {} for i in range(scale // 4)}
        self.leases = {}
        names = list(self.snapshots)
        for i, n in enumerate(names):
            self.snapshots[n]["parent"] = self.r.choice(names[:i]) if i and self.r.random() < 0.6 else ""
            self.snapshots[n]["labels"] = self.labels("snapshot")
            if self.r.random() < 0.5:
                age = datetime.timedelta(hours=self.r.choice([1, 12, 36, 100]))
                self.snapshots[n]["labels"][GC + "cond.value-usedat"] = (self.now - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        for c in self.content.values():
            c["labels"] = self.labels("content")
        for i in self.images.values():
            i["target"] = self.any(self.content)
            i["labels"] = self.labels("image")
            # Most are no roots, or hardly anything would go.
            if self.r.random() < 0.95:
                i["labels"][GC + "expire"] = PAST
            elif self.r.random() < 0.5:
                i["labels"][GC + "expire"] = self.r.choice([FUTURE, "not a time"])
        for c in self.containers.values():
            c["snapshot"] = self.any(self.snapshots) if self.r.random() < 0.5 else ""
            c["labels"] = self.labels("container")
        for i in range(scale // 8):
            self.leases[f"lease-{i}"] = {
                "expire": self.r.choice([None, None, PAST, FUTURE, "bad"]), "flat": self.r.random() < 0.5,
                "resources": [("content", self.any(self.content)) for _ in range(self.r.randrange(3))] +
                             [("snapshot", self.any(self.snapshots)) for _ in range(self.r.randrange(3))]}

    def any(self, kind):
        return self.r.choice(list(kind))

    def labels(self, kind):
        labels = {}
        for n in range(self.r.choice([0, 0, 1, 1, 2, 3])):
            way = self.r.random()
            if way < 0.02 and kind in ("content", "snapshot"):
                labels[GC + "root"] = "yes"
            elif way < 0.10 and kind in ("content", "image"):
                conditions = ",".join(self.r.choice(["usedat<24h", "usedat>24h", "usedat<2h", "usedat<=24h", "other<1h", "usedat<x"])
                                      for _ in range(self.r.choice([1, 2])))
                labels[f"{GC}cond.snapshot{self.r.choice(['.', '/'])}{SN}/{n}"] = f"{conditions}|{self.any(self.snapshots)}"
            else:
                ref = self.r.choice(["ref", "ref", "bref"])
                to = self.r.choice(["content", "content", "snapshot", "image"] + (["container"] if ref == "bref" else []))
                sep = self.r.choice([".", "/"])
                name = {"content": self.content, "snapshot": self.snapshots, "image": self.images, "container": self.containers}[to]
                key = f"{ref}.snapshot.{SN}/{n}" if to == "snapshot" else f"{ref}.{to}{sep}{n}"
                labels[GC + key] = self.any(name) if self.r.random() < 0.95 else "sha256:" + "0" * 64
        return labels


class Model:
    """What stays."""

    def __init__(self, g):
        self.g = g
        self.followed, self.held = {}, {}  # node -> others: by labels; and those that a flat lease holds, too
        for kind, objects in (("content", g.content), ("snapshot", g.snapshots), ("image", g.images), ("container", g.containers)):
            for name, o in objects.items():
                self.add_labels((kind, name), o["labels"])
        for name, i in g.images.items():
            self.held.setdefault(("image", name), []).append(("content", i["target"]))
        for name, s in g.snapshots.items():
            if s["parent"]:
                self.held.setdefault(("snapshot", name), []).append(("snapshot", s["parent"]))
        for name, c in g.containers.items():
            if c["snapshot"]:
                self.held.setdefault(("container", name), []).append(("snapshot", c["snapshot"]))

    def add_labels(self, node, labels):
        for key, value in labels.items():
            what = key[len(GC):]
            for way in ("ref.", "bref."):
                if not what.startswith(way):
                    continue
                kind = what[len(way):].replace("/", ".").split(".")[0]
                ends = (node, (kind, value)) if way == "ref." else ((kind, value), node)
                self.followed.setdefault(ends[0], []).append(ends[1])
            if what.startswith("cond.snapshot"):
                conditions, snapshot = value.split("|", 1)
                if any(self.holds(c, snapshot) for c in conditions.split(",")):
                    self.followed.setdefault(node, []).append(("snapshot", snapshot))

    def holds(self, condition, snapshot):
        used = self.g.snapshots.get(snapshot, {"labels": {}})["labels"].get(GC + "cond.value-usedat")
        limits = {"usedat<24h": (0, 24), "usedat>24h": (24, 1e9), "usedat<2h": (0, 2)}
        if not used or condition not in limits:
            return False
        used = datetime.datetime.strptime(used, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        low, high = limits[condition]
        return low < (self.g.now - used).total_seconds() / 3600 < high

    def kept(self):
        g, flat, full = self.g, set(), set()
        for name, lease in g.leases.items():
            if lease["expire"] != PAST:
                full.add(("lease", name))
                (flat if lease["flat"] else full).update(lease["resources"])
        full.update(("image", n) for n, i in g.images.items() if i["labels"].get(GC + "expire") != PAST)
        full.update(("container", n) for n in g.containers)
        full.update((k, n) for k, v in (("content", g.content), ("snapshot", g.snapshots)) for n, o in v.items() if GC + "root" in o["labels"])
        full = self.walk(full, lambda n: self.followed.get(n, []) + self.held.get(n, []))
        return full | self.walk(flat, lambda n: self.held.get(n, []))

    @staticmethod
    def walk(roots, edges):
        seen, todo = set(roots), list(roots)
        while todo:
            for n in edges(todo.pop()):
                if n not in seen:
                    seen.add(n)
                    todo.append(n)
        return seen


class Maker:
    """Makes a graph through the daemon's API, all of it held by a lease until it is whole."""

    def __init__(self, stubs, daemon, ns):
        self.channel = dial(daemon.address)
        self.md = [("containerd-namespace", ns)]
        self.held = self.md + [("containerd-lease", "hold")]
        for name in ("content", "images", "snapshots", "containers", "leases"):
            messages, services = stubs(f"services/{name}/v1/{name}")
            setattr(self, name + "_pb", messages)
            setattr(self, name, [getattr(services, n) for n in dir(services) if n.endswith("Stub")][0](self.channel))
        self.types = stubs("types/descriptor")[0]

    def make(self, g):
        self.leases.Create(self.leases_pb.CreateRequest(id="hold"), metadata=self.md)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda d: self.blob(d, g.data[d], g.content[d]["labels"]), g.content))
        for name, s in g.snapshots.items():
            pb = self.snapshots_pb
            self.snapshots.Prepare(pb.PrepareSnapshotRequest(snapshotter=SN, key="new", parent=s["parent"]), metadata=self.held)
            self.snapshots.Commit(pb.CommitSnapshotRequest(snapshotter=SN, name=name, key="new", labels=s["labels"]), metadata=self.held)
        for name, i in g.images.items():
            # Those that are expired belong to the lease by themselves.
            self.images.Create(self.images_pb.CreateImageRequest(image=self.images_pb.Image(
                name=name, labels=i["labels"], target=self.types.Descriptor(media_type="x", digest=i["target"], size=1))), metadata=self.held)
        for name, c in g.containers.items():
            pb = self.containers_pb
            self.containers.Create(pb.CreateContainerRequest(container=pb.Container(
                id=name, labels=c["labels"], runtime=pb.Container.Runtime(name="io.containerd.runc.v2"),
                snapshotter=SN if c["snapshot"] else "", snapshot_key=c["snapshot"])), metadata=self.md)
        for name, lease in g.leases.items():
            pb = self.leases_pb
            labels = {**({GC + "expire": lease["expire"]} if lease["expire"] else {}), **({GC + "flat": "1"} if lease["flat"] else {})}
            # One that is over may be gone before it has its resources; they count for nothing anyway.
            try:
                self.leases.Create(pb.CreateRequest(id=name, labels=labels), metadata=self.md)
                for kind, what in lease["resources"]:
                    resource = pb.Resource(id=what, type="content" if kind == "content" else f"snapshots/{SN}")
                    self.leases.AddResource(pb.AddResourceRequest(id=name, resource=resource), metadata=self.md)
            except grpc.RpcError as e:
                assert lease["expire"] == PAST and e.code() == grpc.StatusCode.NOT_FOUND

    def blob(self, digest, data, labels):
        pb = self.content_pb
        list(self.content.Write(iter([pb.WriteContentRequest(action=pb.COMMIT, ref=digest, data=data, total=len(data), expected=digest,
                                                             labels=labels)]), metadata=self.held))

    def collect(self):
        self.leases.Delete(self.leases_pb.DeleteRequest(id="hold", sync=True), metadata=self.md)

    def left(self):
        out = {("content", i.digest) for r in self.content.List(self.content_pb.ListContentRequest(), metadata=self.md) for i in r.info}
        out |= {("snapshot", i.name) for r in self.snapshots.List(self.snapshots_pb.ListSnapshotsRequest(snapshotter=SN), metadata=self.md)
                for i in r.info}
        out |= {("image", i.name) for i in self.images.List(self.images_pb.ListImagesRequest(), metadata=self.md).images}
        out |= {("container", c.id) for c in self.containers.List(self.containers_pb.ListContainersRequest(), metadata=self.md).containers}
        return out | {("lease", x.id) for x in self.leases.List(self.leases_pb.ListRequest(), metadata=self.md).leases}


@pytest.mark.parametrize("seed", range(6))
def test_collector_keeps_what_the_model_keeps(stubs, daemon, seed):
    g = Graph(seed, 100)
    everything = {(k, n) for k, v in (("content", g.content), ("snapshot", g.snapshots), ("image", g.images), ("container", g.containers),
                                      ("lease", g.leases)) for n in v}
    expected = Model(g).kept() & everything
    assert 0.1 < len(expected) / len(everything) < 0.9, "the graph shows nothing"
    maker = Maker(stubs, daemon, f"model-{seed}")
    maker.make(g)
    assert {n for n in everything if n[0] != "lease"} <= maker.left()
    maker.collect()
    left = maker.left()
    assert (sorted(expected - left), sorted(left - expected)) == ([], [])
    maker.channel.close()
