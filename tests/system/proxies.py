# SPDX-License-Identifier: Apache-2.0
"""Plugins behind a gRPC socket, written with gRPC's own Python: a snapshotter of plain directories, a differ, a content store.

Each keeps its state in memory beside a directory, so that its server can be ended and started again. `calls` lists what it
was asked, with namespace and lease; `fail` maps a method to (code, text) or to a function that is called first.
"""
import concurrent.futures
import hashlib
import io
import pathlib
import shutil
import tarfile
import threading

import grpc

from dial import dial

REF = "containerd.io/snapshot.ref"


class Plugin:
    def __init__(self, address):
        self.address = str(address)
        self.lock = threading.RLock()
        self.calls, self.fail = [], {}
        self.server = None

    def start(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        self.register(self.server)
        assert self.server.add_insecure_port(f"unix:{self.address}")
        self.server.start()
        return self

    def stop(self):
        server, self.server = self.server, None
        if server:
            server.stop(0).wait()
        pathlib.Path(self.address).unlink(missing_ok=True)

    def begin(self, method, context):
        md = dict(context.invocation_metadata())
        self.calls.append((method, md.get("containerd-namespace", ""), md.get("containerd-lease", "")))
        what = self.fail.get(method)
        if callable(what):
            what()
        elif what:
            context.abort(*what)

    def asked(self, method):
        return [c for c in self.calls if c[0] == method]


class Snapshotter(Plugin):
    """Every snapshot is a directory with a full copy, mounted by bind."""

    def __init__(self, stubs, address, directory):
        super().__init__(address)
        self.pb, self.services = stubs("services/snapshots/v1/snapshots")
        self.mounts_pb, _ = stubs("types/mount")
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(exist_ok=True)
        self.snapshots = {}  # key -> {kind, parent, labels, dir}
        self.remote = {}  # chain id -> function that fills a directory: what it gets by itself
        self.seen = []  # labels of Prepare
        self.n = 0

    def register(self, server):
        self.services.add_SnapshotsServicer_to_server(self, server)

    def new(self, key, kind, parent, labels):
        self.n += 1
        d = self.dir / str(self.n)
        if parent:
            shutil.copytree(self.snapshots[parent]["dir"], d, symlinks=True)
        else:
            d.mkdir()
        self.snapshots[key] = {"kind": kind, "parent": parent, "labels": dict(labels), "dir": d}
        return d

    def find(self, key, context):
        if key not in self.snapshots:
            context.abort(grpc.StatusCode.NOT_FOUND, f"snapshot {key} does not exist: not found")
        return self.snapshots[key]

    def info(self, key):
        s = self.snapshots[key]
        return self.pb.Info(name=key, parent=s["parent"], kind=s["kind"], labels=s["labels"])

    def mount(self, s):
        ro = "ro" if s["kind"] == self.pb.VIEW else "rw"
        return [self.mounts_pb.Mount(type="bind", source=str(s["dir"]), options=["rbind", ro])]

    def make(self, r, kind, context):
        with self.lock:
            if r.parent:
                self.find(r.parent, context)
            if r.key in self.snapshots:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"snapshot {r.key}: already exists")
            target = r.labels.get(REF)
            if kind == self.pb.ACTIVE:
                self.seen.append(dict(r.labels))
            if target in self.remote:
                self.remote[target](self.new(f"remote/{target}", self.pb.COMMITTED, r.parent, r.labels))
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"target snapshot {target}: already exists")
            self.new(r.key, kind, r.parent, r.labels)
            return self.mount(self.snapshots[r.key])

    def Prepare(self, r, context):
        self.begin("Prepare", context)
        return self.pb.PrepareSnapshotResponse(mounts=self.make(r, self.pb.ACTIVE, context))

    def View(self, r, context):
        self.begin("View", context)
        return self.pb.ViewSnapshotResponse(mounts=self.make(r, self.pb.VIEW, context))

    def Mounts(self, r, context):
        self.begin("Mounts", context)
        return self.pb.MountsResponse(mounts=self.mount(self.find(r.key, context)))

    def Commit(self, r, context):
        self.begin("Commit", context)
        with self.lock:
            s = self.find(r.key, context)
            self.snapshots[r.name] = {**s, "kind": self.pb.COMMITTED, "labels": dict(r.labels)}
            del self.snapshots[r.key]
        return empty()

    def Remove(self, r, context):
        self.begin("Remove", context)
        with self.lock:
            shutil.rmtree(self.find(r.key, context)["dir"])
            del self.snapshots[r.key]
        return empty()

    def Stat(self, r, context):
        self.begin("Stat", context)
        self.find(r.key, context)
        return self.pb.StatSnapshotResponse(info=self.info(r.key))

    def Update(self, r, context):
        self.begin("Update", context)
        self.find(r.info.name, context)["labels"] = dict(r.info.labels)
        return self.pb.UpdateSnapshotResponse(info=self.info(r.info.name))

    def List(self, r, context):
        self.begin("List", context)
        for key in sorted(self.snapshots):
            yield self.pb.ListSnapshotsResponse(info=[self.info(key)])

    def Usage(self, r, context):
        self.begin("Usage", context)
        files = [p for p in self.find(r.key, context)["dir"].rglob("*")]
        return self.pb.UsageResponse(size=sum(p.lstat().st_size for p in files if p.is_file() and not p.is_symlink()), inodes=len(files))

    def Cleanup(self, r, context):
        self.begin("Cleanup", context)
        return empty()


class Differ(Plugin):
    """Takes one media type: a tar whose bytes are all turned round (255 - byte). Reads blobs from the daemon."""
    MEDIA_TYPE = "application/vnd.test.layer.v1.tar+turned"

    def __init__(self, stubs, address, daemon_address):
        super().__init__(address)
        self.pb, self.services = stubs("services/diff/v1/diff")
        self.descriptor_pb, _ = stubs("types/descriptor")
        self.content_pb, self.content = stubs("services/content/v1/content")
        self.daemon = daemon_address

    def register(self, server):
        self.services.add_DiffServicer_to_server(self, server)

    def blob(self, digest, context):
        md = [(k, v) for k, v in context.invocation_metadata() if k.startswith("containerd-")]
        with dial(self.daemon) as channel:
            stub = self.content.ContentStub(channel)
            return b"".join(m.data for m in stub.Read(self.content_pb.ReadContentRequest(digest=digest), metadata=md))

    def Apply(self, r, context):
        self.begin("Apply", context)
        if r.diff.media_type != self.MEDIA_TYPE:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"media type {r.diff.media_type}: not implemented")
        plain = turned(self.blob(r.diff.digest, context))
        assert len(r.mounts) == 1
        m = r.mounts[0]
        target = m.source if m.type == "bind" else dict(o.split("=", 1) for o in m.options if "=" in o)["upperdir"]
        with tarfile.open(fileobj=io.BytesIO(plain)) as t:
            t.extractall(target)
        return self.pb.ApplyResponse(applied=self.descriptor_pb.Descriptor(
            media_type="application/vnd.oci.image.layer.v1.tar", digest=digest_of(plain), size=len(plain)))

    def Diff(self, r, context):
        self.begin("Diff", context)
        if r.media_type != self.MEDIA_TYPE:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"media type {r.media_type}: not implemented")
        return self.pb.DiffResponse(diff=self.descriptor_pb.Descriptor(media_type=r.media_type, digest=digest_of(b"made"), size=4))


class Content(Plugin):
    """A content store in memory."""

    def __init__(self, stubs, address):
        super().__init__(address)
        self.pb, self.services = stubs("services/content/v1/content")
        self.blobs, self.ingests = {}, {}

    def register(self, server):
        self.services.add_ContentServicer_to_server(self, server)

    def find(self, digest, context):
        if digest not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"content {digest}: not found")
        return self.blobs[digest]

    def Info(self, r, context):
        self.begin("Info", context)
        return self.pb.InfoResponse(info=self.pb.Info(digest=r.digest, size=len(self.find(r.digest, context))))

    def List(self, r, context):
        self.begin("List", context)
        for d in sorted(self.blobs):
            yield self.pb.ListContentResponse(info=[self.pb.Info(digest=d, size=len(self.blobs[d]))])

    def Update(self, r, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "labels are the daemon's")

    def Delete(self, r, context):
        self.begin("Delete", context)
        self.find(r.digest, context)
        del self.blobs[r.digest]
        return empty()

    def Read(self, r, context):
        self.begin("Read", context)
        data = self.find(r.digest, context)[r.offset:]
        if r.size > 0:
            data = data[:r.size]
        for at in range(0, len(data), 100000):
            yield self.pb.ReadContentResponse(offset=at, data=data[at:at + 100000])

    def status(self, ref):
        return self.pb.Status(ref=ref, offset=len(self.ingests[ref]))

    def Status(self, r, context):
        self.begin("Status", context)
        if r.ref not in self.ingests:
            context.abort(grpc.StatusCode.NOT_FOUND, f"reference {r.ref}: not found")
        return self.pb.StatusResponse(status=self.status(r.ref))

    def ListStatuses(self, r, context):
        self.begin("ListStatuses", context)
        return self.pb.ListStatusesResponse(statuses=[self.status(ref) for ref in self.ingests])

    def Abort(self, r, context):
        self.begin("Abort", context)
        if self.ingests.pop(r.ref, None) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"reference {r.ref}: not found")
        return empty()

    def Write(self, requests, context):
        self.begin("Write", context)
        data = ref = None
        for r in requests:
            if ref is None:
                ref = r.ref
                data = self.ingests.setdefault(ref, bytearray())
            if r.action != self.pb.STAT:
                if r.offset == 0:
                    data.clear()
                if r.offset != len(data):
                    context.abort(grpc.StatusCode.OUT_OF_RANGE, f"write @{r.offset} must occur at current offset {len(data)}: out of range")
                data += r.data
            digest = digest_of(bytes(data))
            if r.action == self.pb.COMMIT:
                if r.expected and r.expected != digest:
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"unexpected commit digest {digest}, expected {r.expected}: failed precondition")
                del self.ingests[ref]
                if digest in self.blobs:
                    context.abort(grpc.StatusCode.ALREADY_EXISTS, f"content {digest}: already exists")
                self.blobs[digest] = bytes(data)
            yield self.pb.WriteContentResponse(action=r.action, offset=len(data), total=r.total, digest=digest)
            if r.action == self.pb.COMMIT:
                return


def turned(data):
    return bytes(255 - b for b in data)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def empty():
    from google.protobuf.empty_pb2 import Empty
    return Empty()
