# SPDX-License-Identifier: Apache-2.0
"""What the hostile tests use: a registry that does as it is told, gRPC's own client on a daemon's socket, and a look at what a failed
operation has left behind."""
import hashlib
import json
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from google.protobuf import any_pb2, message_factory

import harness
import images
from dial import dial
from harness import Daemon, children, processes

OCI_MANIFEST, OCI_INDEX, OCI_CONFIG, OCI_LAYER = images.MANIFEST, images.INDEX, images.CONFIG, images.LAYER


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data, media_type, **more):
    return {"mediaType": media_type, "digest": sha(data), "size": len(data), **more}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for key, value in headers.items():
            if value is not None:
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status, length, **headers):
        """The head of an answer whose body the caller writes as badly as it likes."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def drop(self):
        """The end of the connection, as a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True

    def do_GET(self):
        registry = self.server.registry
        path = self.path.split("?")[0]
        registry.seen.append((self.command, path, dict(self.headers)))
        for key, hook in list(registry.hooks.items()):
            if path.endswith(key) and hook(self) is not False:
                return
        kind, name = path.rsplit("/", 2)[1:] if path.count("/") > 2 else ("", "")
        if kind == "manifests":
            found = registry.manifests.get(name)
        else:
            found = (registry.blobs[name], "application/octet-stream") if name in registry.blobs else None
        if found is None:
            self.answer(404, b'{"errors":[{"code":"UNKNOWN","message":"not here"}]}')
            return
        data, media_type = found
        start, end = 0, len(data)
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, last = wanted[6:].split("-")
            start, end = int(first), int(last) + 1 if last else end
        part = start > 0 or end < len(data)
        more = {"Content_Range": f"bytes {start}-{end - 1}/{len(data)}"} if part else {}
        self.answer(206 if part else 200, data[start:end], Content_Type=media_type, Docker_Content_Digest=sha(data), **more)

    do_HEAD = do_GET


class Evil:
    """A registry. `hooks` (end of a path -> function of the handler) come before what it has; one that returns False passes the
    request on."""

    def __init__(self):
        self.blobs, self.manifests, self.hooks, self.seen = {}, {}, {}, []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        self.server.registry = self
        self.released = threading.Event()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def hold(self, seconds=600):
        """For hooks: until the test lets go."""
        self.released.wait(seconds)

    def blob(self, data):
        self.blobs[sha(data)] = data
        return data

    def manifest(self, tag, document, media_type=OCI_MANIFEST):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.manifests[tag] = self.manifests[sha(data)] = (data, media_type)
        return f"{self.host}/evil:{tag}"

    def image(self, tag, layers, diff_ids=None, change=None):
        """`layers`: (bytes as sent, media type, bytes of the tar); `change` edits the manifest. Returns the reference."""
        config = self.blob(json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {
            "type": "layers", "diff_ids": diff_ids or [sha(tar) for _, _, tar in layers]}}).encode())
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config, OCI_CONFIG),
                    "layers": [descriptor(self.blob(data), media_type) for data, media_type, _ in layers]}
        if change:
            change(document)
        return self.manifest(tag, document)


class Api:
    """gRPC's Python client on a daemon."""

    def __init__(self, stubs, daemon, ns="default", options=()):
        self.stubs, self.ns, self.daemon = stubs, ns, daemon
        self.channel = dial(daemon.address, options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), *options])
        self.made = {}

    def close(self):
        self.channel.close()

    def msg(self, path):
        return self.stubs(path)[0]

    def __getattr__(self, service):
        """api.images, api.tasks, ... : the stubs of services/<x>/v1."""
        if service.startswith("_") or service not in SERVICES:
            raise AttributeError(service)
        if service not in self.made:
            name = SERVICES[service]
            messages, code = self.stubs(f"services/{service}/v1/{FILES.get(service, service)}")
            self.made[service] = Service(self, messages, getattr(code, name + "Stub")(self.channel))
        return self.made[service]

    def any(self, message):
        return any_pb2.Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())

    def pull_request(self, ref, unpack="overlayfs", name=None):
        t, r, i, p = (self.msg(x) for x in ("services/transfer/v1/transfer", "types/transfer/registry", "types/transfer/imagestore",
                                            "types/platform"))
        here = p.Platform(os="linux", architecture="amd64")
        source = r.OCIRegistry(reference=ref, resolver=r.RegistryResolver(default_scheme="http"))
        store = i.ImageStore(name=name or ref, platforms=[here])
        if unpack:
            store.unpacks.append(i.UnpackConfiguration(platform=here, snapshotter=unpack))
        return t.TransferRequest(source=self.any(source), destination=self.any(store))

    def pull(self, ref, timeout=harness.SECONDS, **kw):
        return self.transfer.stub.Transfer(self.pull_request(ref, **kw), metadata=self.metadata(), timeout=timeout)

    def pull_later(self, ref, timeout=harness.SECONDS, **kw):
        return self.transfer.stub.Transfer.future(self.pull_request(ref, **kw), metadata=self.metadata(), timeout=timeout)

    def metadata(self):
        return [("containerd-namespace", self.ns)] if self.ns is not None else []

    # ---- what is there ----

    def image_names(self):
        return sorted(i.name for i in self.images.List().images)

    def snapshot_keys(self, snapshotter="overlayfs"):
        return sorted(i.name for r in self.snapshots.List(snapshotter=snapshotter) for i in r.info)

    def digests(self):
        return sorted(i.digest for r in self.content.List() for i in r.info)

    def ingests(self):
        return sorted(s.ref for s in self.content.ListStatuses().statuses)

    def lease_ids(self):
        return sorted(x.id for x in self.leases.List().leases)

    def remove_snapshot(self, key):
        """One that nothing holds may have been collected by now."""
        try:
            self.snapshots.Remove(snapshotter="overlayfs", key=key)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.NOT_FOUND, e

    def collect(self):
        """A garbage collection, waited for."""
        lease = self.leases.Create().lease
        self.leases.Delete(id=lease.id, sync=True)

    def remove_images(self):
        for name in self.image_names():
            self.images.Delete(name=name)
        self.collect()


def refused(call, *args, **kw):
    """Code and text of a call that must fail."""
    try:
        answer = call(*args, **kw)
    except grpc.RpcError as e:
        return e.code().name, e.details()
    raise AssertionError(f"was not refused: {answer}")


SERVICES = {"images": "Images", "tasks": "Tasks", "containers": "Containers", "content": "Content", "snapshots": "Snapshots",
            "leases": "Leases", "transfer": "Transfer", "events": "Events", "version": "Version", "namespaces": "Namespaces",
            "introspection": "Introspection"}
FILES = {"namespaces": "namespace"}


class Service:
    """api.images.Get(name="x", timeout=3): builds the request by the method's own type."""

    def __init__(self, api, messages, stub):
        self.api, self.messages, self.stub = api, messages, stub
        self.types = {}
        for service in messages.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                self.types[method.name] = method.input_type

    def __getattr__(self, method):
        call = getattr(self.stub, method)
        make = message_factory.MessageFactory().GetPrototype(self.types[method])

        def go(timeout=harness.SECONDS, **fields):
            return call(make(**fields), metadata=self.api.metadata(), timeout=timeout)

        def later(timeout=harness.SECONDS, **fields):
            return call.future(make(**fields), metadata=self.api.metadata(), timeout=timeout)

        go.later = later
        go.request = make
        return go


def new_daemon(**kw):
    """With a directory of its own for temporary files."""
    d = Daemon(**kw)
    (d.dir / "tmp").mkdir()
    d.env["TMPDIR"] = str(d.dir / "tmp")
    return d


# ---- fixtures, for a file of tests to import ----


@pytest.fixture(scope="module")
def daemon():
    d = new_daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.close()


def workers(daemon, role=None):
    return [c for c in children(daemon.process.pid) if (role or "containerd-worker") in processes().get(c, [])]


def idle(daemon):
    """Until helpers of what is over have ended."""
    harness.until("workers to end", lambda: not [c for c in children(daemon.process.pid) if "front" not in processes().get(c, [])])


class Gone:
    """Compares a daemon's processes, mounts, descriptors and directories with what they were."""

    def __init__(self, api):
        self.api, self.daemon = api, api.daemon
        idle(self.daemon)
        self.before = self.look()

    def look(self):
        d = self.daemon
        pid = d.process.pid
        api = self.api
        mounts = sorted(line.split()[4] for line in open("/proc/self/mountinfo") if str(d.dir) in line.split()[4])
        return {
            "children": sorted(" ".join(processes().get(c, ["?"])) for c in children(pid)),
            "mounts": mounts,
            "extracting": [k for k in api.snapshot_keys() if "extract-" in k],
            "ingests": api.ingests(),
            "ingest dirs": sorted(os.listdir(d.root / "io.containerd.content.v1.content/ingest")),
            "leases": api.lease_ids(),
            "temporary": sorted(os.listdir(d.dir / "tmp")),
            "bundles": sorted(str(p) for p in (d.state / "io.containerd.runtime.v2.task").glob("*/*")),
            "shims": len(d.shims()),
            "fifos": sorted(p.name for p in d.state.rglob("*") if p.is_fifo()),
        }

    def check(self, resumable=False, seconds=harness.SECONDS):
        """`resumable`: ingests may stay, for the next attempt."""
        def ignored(x):
            return {k: v for k, v in x.items() if not (resumable and k.startswith("ingest"))}
        end = time.monotonic() + seconds
        while True:
            assert self.daemon.process.poll() is None, self.daemon.tail()
            now = self.look()
            if ignored(now) == ignored(self.before):
                return now
            if time.monotonic() > end:
                raise AssertionError("left over: " + "; ".join(f"{k}: {self.before[k]} -> {v}" for k, v in now.items() if v != self.before[k]))
            time.sleep(0.05)


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def fds(pid):
    found = []
    for f in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{f}"))
        except OSError:
            continue
    return sorted(found)
