# SPDX-License-Identifier: Apache-2.0
"""Requests that make no sense, runtimes and shims that misbehave, clients that do not keep to any protocol."""
import gzip
import json
import os
import signal
import socket
import struct
import threading
import time

import grpc
import pytest
from google.protobuf import any_pb2

import evil
import harness
import images
from dial import dial
from evil import refused

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
NAMES = ["", "-", "a" * 77, "a..b", "../x", "a/b", "a b", "a\n", "é", "a\0b", ".", "..", "a-", "x" * 100000]
RUNC = "io.containerd.runc.v2"
STATE = 5  # seconds that a shim has for telling a task's state


@pytest.fixture(scope="module")
def daemon():
    d = evil.new_daemon(config=f'[timeouts]\n  "io.containerd.timeout.task.state" = "{STATE}s"\n')
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def api(stubs, daemon):
    # runc's own state is the host's: other runs may have containers of the same names.
    a = evil.Api(stubs, daemon, ns=f"hostile{os.getpid()}")
    daemon.ctr.namespace = a.ns
    reg = evil.Evil()
    tar = images.busybox_tar()
    a.image = reg.image("bb", [(gzip.compress(tar, 1), evil.OCI_LAYER + "+gzip", tar)])
    a.pull(a.image)
    reg.close()
    a.top = a.snapshot_keys()[0]
    daemon.ctr("containers", "create", a.image, "pattern", "/bin/sleep", "1000")
    a.pattern = json.loads(a.containers.Get(id="pattern").container.spec.value)
    a.containers.Delete(id="pattern")
    a.remove_snapshot("pattern")
    yield a
    a.close()


@pytest.fixture(autouse=True)
def gone(api, daemon):
    g = evil.Gone(api)
    yield g
    daemon.clear()
    for key in api.snapshot_keys():
        if key != api.top:
            api.remove_snapshot(key)
    api.collect()
    g.check()
    daemon.check_reports()


def container(api, name, runtime=RUNC, spec="pattern"):
    c = api.containers.Create.request().container
    c.id, c.image, c.snapshotter, c.snapshot_key = name, api.image, "overlayfs", name
    c.runtime.name = runtime
    if spec == "pattern":
        spec = json.dumps({**api.pattern, "linux": {**api.pattern["linux"], "cgroupsPath": f"/{api.ns}/{name}"}}).encode()
    if spec is not None:
        c.spec.CopyFrom(any_pb2.Any(type_url=SPEC, value=spec))
    api.containers.Create(container=c)
    return name


def rootfs(api, name):
    return api.snapshots.Prepare(snapshotter="overlayfs", key=name, parent=api.top).mounts


def running(api, name):
    container(api, name)
    api.tasks.Create(container_id=name, rootfs=rootfs(api, name))
    api.tasks.Start(container_id=name)
    return api.tasks.Get(container_id=name).process.pid


def process(*args):
    return any_pb2.Any(type_url=PROCESS, value=json.dumps({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}).encode())


def served(api):
    """Another client gets its answer while something goes on."""
    other = evil.Api(api.stubs, api.daemon)
    other.namespaces.List()
    other.close()


# ---- names and records ----

@pytest.mark.parametrize("i", range(len(NAMES)))
def test_invalid_name(api, i):
    name = NAMES[i]
    calls = {
        "container": lambda: api.containers.Create(container={"id": name, "runtime": {"name": RUNC}}),
        "task": lambda: api.tasks.Create(container_id=name),
        "kill": lambda: api.tasks.Kill(container_id=name, signal=9),
        "namespace": lambda: api.namespaces.Create(namespace={"name": name}),
        "image": lambda: api.images.Create(image={"name": name}),
        "snapshotter": lambda: api.snapshots.Prepare(snapshotter=name, key="x"),
        "digest": lambda: api.content.Info(digest=name),
        "ingest": lambda: api.content.Abort(ref=name),
        "lease": lambda: api.leases.Delete(id=name),
        "topic": lambda: api.events.Publish(topic=name),
        "exec": lambda: api.tasks.Exec(container_id="x", exec_id=name),
    }
    for what, call in calls.items():
        code, words = refused(call)
        assert code in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"), (what, code, words)
    assert api.containers.List().containers[:] == []


def test_invalid_namespace(api):
    for name in NAMES:
        if name.isascii() and name.isprintable() and len(name) < 8000:
            code, words = refused(api.images.stub.List, api.images.List.request(), metadata=[("containerd-namespace", name)])
            assert code == ("INVALID_ARGUMENT" if name else "FAILED_PRECONDITION"), words
    assert refused(api.images.stub.List, api.images.List.request())[1] == "namespace is required: failed precondition"


def test_second_container_and_task(api):
    request = api.containers.Create.request(container={"id": "twice", "runtime": {"name": RUNC}})
    calls = [api.containers.stub.Create.future(request, metadata=api.metadata(), timeout=harness.SECONDS) for _ in range(20)]
    codes = [c.exception().code().name if c.exception() else "" for c in calls]
    assert sorted(codes) == [""] + ["ALREADY_EXISTS"] * 19
    container(api, "one")
    mounts = rootfs(api, "one")
    calls = [api.tasks.Create.later(container_id="one", rootfs=mounts) for _ in range(8)]
    codes = [c.exception().code().name if c.exception() else "" for c in calls]
    assert sorted(codes) == [""] + ["ALREADY_EXISTS"] * 7, [c.exception() for c in calls]
    assert refused(api.tasks.Create, container_id="one", rootfs=mounts) == ("ALREADY_EXISTS", "task one: already exists")


@pytest.mark.parametrize("spec", [None, b"not json", b"{}", b"[]", b'{"process":{"args":["x"]},"ociVersion":"1.0.0","hooks":5}',
                                  b'{"a":' * 2000 + b"1" + b"}" * 2000, b'{"ociVersion":"1.0.0","a":"' + b"x" * (10 << 20) + b'"}'],
                         ids=["none", "noise", "empty", "list", "types", "deep", "huge"])
def test_broken_spec(api, spec):
    container(api, "spec", spec=spec)
    code, words = refused(api.tasks.Create, container_id="spec", rootfs=rootfs(api, "spec"))
    assert code in ("INVALID_ARGUMENT", "UNKNOWN") and words
    assert refused(api.tasks.Get, container_id="spec")[1] == "task spec not found"


def test_rootfs_that_cannot_be_mounted(api):
    container(api, "mounts")
    for m in ({"type": "overlay", "source": "x", "options": ["lowerdir=/nope"]}, {"type": "nosuchfs", "source": "x"},
              {"type": "bind", "source": "/nope", "options": ["bind"]}, {"type": "x" * 5000, "source": "y" * 5000, "options": ["z" * 5000] * 20}):
        assert "mount" in refused(api.tasks.Create, container_id="mounts", rootfs=[m])[1]


def test_invalid_output(api):
    container(api, "out")
    mounts = rootfs(api, "out")
    for path, text in (("/no/such/dir/fifo", "/no/such/dir/fifo"), ("relative", "relative"), ("http://x/y", "http"), ("/tmp", "is a directory"),
                       ("x" * 5000, ""), ("binary:///no/such", "/no/such")):
        assert text in refused(api.tasks.Create, container_id="out", rootfs=mounts, stdout=path)[1]


def test_calls_in_the_wrong_state(api):
    running(api, "wrong")
    call = {"container_id": "wrong"}
    sleep = process("sleep", "100")
    t = api.tasks
    assert refused(t.Delete, **call) == ("UNKNOWN", "cannot delete a running process")
    assert refused(t.Start, **call)[0] == "UNKNOWN"
    t.Exec(**call, exec_id="x", spec=sleep)
    assert refused(t.Exec, **call, exec_id="x", spec=sleep) == ("ALREADY_EXISTS", "id x: already exists")
    assert refused(t.Exec, **call, exec_id="", spec=sleep) == ("INVALID_ARGUMENT", "exec id cannot be empty: invalid argument")
    assert refused(t.Kill, **call, exec_id="x", signal=9) == ("FAILED_PRECONDITION", "process not created: failed precondition")
    t.Start(**call, exec_id="x")
    assert refused(t.Start, **call, exec_id="x")[0] == "UNKNOWN"
    assert refused(t.Start, **call, exec_id="nope")[0] == "NOT_FOUND"
    assert refused(t.DeleteProcess, **call, exec_id="x")[1] == "cannot delete a running process"
    t.Kill(**call, exec_id="x", signal=9)
    assert t.Wait(**call, exec_id="x").exit_status == 137
    assert refused(t.Kill, **call, exec_id="x", signal=9) == ("NOT_FOUND", "process already finished: not found")
    t.DeleteProcess(**call, exec_id="x")
    assert refused(t.Kill, **call, signal=99)[0] == "INVALID_ARGUMENT"
    t.Kill(**call, signal=9)
    assert t.Wait(**call).exit_status == 137
    assert refused(t.Kill, **call, signal=9) == ("NOT_FOUND", "process already finished: not found")
    assert refused(t.Exec, **call, exec_id="y", spec=sleep) == ("UNKNOWN", "cannot exec in a stopped state")
    assert refused(t.Pause, **call) == ("UNKNOWN", "cannot pause a stopped container")
    t.Delete(**call)
    assert refused(t.Delete, **call) == ("NOT_FOUND", "task wrong not found")


# ---- runtimes ----

def runtime(api, text):
    path = api.daemon.dir / f"runtime-{time.monotonic_ns()}"
    path.write_bytes(text if isinstance(text, bytes) else f"#!/bin/sh\n{text}\n".encode())
    path.chmod(0o755)
    return str(path)


RUNTIMES = {
    "fails": ("echo 'my last words' >&2; exit 7", "UNKNOWN", "my last words: exit status 7"),
    "is killed": ("kill -9 $$", "UNKNOWN", "exit status 137"),
    "says nothing": ("true", "INVALID_ARGUMENT", "answered no address"),
    "says noise": ("printf '\\377'; head -c 100000 /dev/urandom", "INVALID_ARGUMENT", "answered no address"),
    "says a name and noise": ("printf 'name\\000'; head -c 50000 /dev/urandom", "INVALID_ARGUMENT", "answered no address"),
    "says deep JSON": ("head -c 60000 /dev/zero | tr '\\0' '['; ", "INVALID_ARGUMENT", "shim"),
    "has a later version": ("""echo '{"version":99,"address":"x","protocol":"y"}'""", "UNIMPLEMENTED", "unsupported shim version (99)"),
    "is not there": ("echo unix:///no/such/socket", "NOT_FOUND", "connect to shim at unix:///no/such/socket"),
    "talks without end": ("yes & sleep 1", "INVALID_ARGUMENT", "answered no address"),
    "is no program": (b"\x7fELFnoise", "UNKNOWN", "exec format error"),
}


@pytest.mark.parametrize("case", RUNTIMES)
def test_bad_runtime(api, case):
    text, code, words = RUNTIMES[case]
    container(api, "runtime", runtime(api, text))
    got = refused(api.tasks.Create, container_id="runtime", rootfs=rootfs(api, "runtime"))
    assert got[0] == code and words in got[1], got


def test_unknown_runtime(api):
    for name, code in (("io.containerd.nope.v9", "NOT_FOUND"), ("nope", "INVALID_ARGUMENT"), ("/no/such", "NOT_FOUND"), ("../x/y", "INVALID_ARGUMENT")):
        container(api, f"r{code}{len(name)}".replace("_", ""), name)
        got = refused(api.tasks.Create, container_id=f"r{code}{len(name)}".replace("_", ""))
        assert got[0] == code and name in got[1]


def test_runtime_that_hangs_is_ended_with_the_call(api):
    container(api, "hangs", runtime(api, "sleep 98765"))
    assert refused(api.tasks.Create, container_id="hangs", rootfs=rootfs(api, "hangs"), timeout=1)[0] == "DEADLINE_EXCEEDED"
    harness.until("it to be gone", lambda: not [a for a in harness.processes().values() if "98765" in a])


def test_creation_that_is_canceled_leaves_nothing(api, daemon):
    """Whenever the client goes, there is a task, or none and no shim."""
    container(api, "early")
    mounts = rootfs(api, "early")

    def settled():
        try:
            api.tasks.Get(container_id="early")
            return "task"
        except grpc.RpcError:
            return "nothing" if not daemon.shims() and not list((daemon.state / "io.containerd.runtime.v2.task").glob("*/early")) else None
    for i in range(24):
        call = api.tasks.Create.later(container_id="early", rootfs=mounts)
        time.sleep(i * 0.005)
        call.cancel()
        if harness.until("the end of it", settled) == "task":
            daemon.ctr("tasks", "rm", "-f", "early")
            harness.until("the shim to end", lambda: not daemon.shims())


# ---- shims ----

def test_shim_is_killed(api, daemon):
    topics = []
    subscription = api.events.stub.Subscribe(api.events.Subscribe.request(filters=['topic~="/tasks/"']))

    def listen():
        try:
            for e in subscription:
                topics.append(e.topic)
        except grpc.RpcError:
            pass
    listener = threading.Thread(target=listen)
    listener.start()
    pid = running(api, "orphan")
    api.tasks.Exec(container_id="orphan", exec_id="x", spec=process("sleep", "100"))
    second = api.tasks.Start(container_id="orphan", exec_id="x").pid
    wait = api.tasks.Wait.later(container_id="orphan")
    for shim in daemon.shims():
        os.kill(shim, signal.SIGKILL)
    harness.until("its end to be told", lambda: "/tasks/delete" in topics)
    assert topics[-2:] == ["/tasks/exit", "/tasks/delete"]
    harness.until("its processes to end", lambda: not harness.alive(pid) and not harness.alive(second))
    assert refused(api.tasks.Get, container_id="orphan") == ("NOT_FOUND", "task orphan not found")
    assert wait.exception(harness.SECONDS).code().name in ("UNAVAILABLE", "NOT_FOUND", "UNKNOWN")
    subscription.cancel()
    listener.join()
    api.tasks.Create(container_id="orphan", rootfs=api.snapshots.Mounts(snapshotter="overlayfs", key="orphan").mounts)


def test_shim_that_hangs_holds_up_nobody_else(api, daemon):
    running(api, "hung")
    stopped = daemon.shims()
    running(api, "fine")
    for shim in stopped:
        os.kill(shim, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert refused(api.tasks.Get, container_id="hung", timeout=600)[0] == "DEADLINE_EXCEEDED"
        assert STATE - 0.5 < time.monotonic() - began < 300  # the daemon's limit, not the call's
        calls = [api.tasks.Kill.later(container_id="hung", signal=0, timeout=15) for _ in range(200)]
        assert api.tasks.Get(container_id="fine").process.pid
        assert not all(c.done() for c in calls)
        assert [t.id for t in api.tasks.List().tasks] == ["fine"]
        assert {c.exception().code().name for c in calls} == {"DEADLINE_EXCEEDED"}
        assert refused(api.tasks.Delete, container_id="hung", timeout=1)[0] == "DEADLINE_EXCEEDED"
    finally:
        for shim in stopped:
            os.kill(shim, signal.SIGCONT)


# ---- clients ----

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


SETTINGS = frame(4, 0, 0)


def literal(key, value):
    return b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value


def headers(path):
    return b"".join(literal(k, v) for k, v in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
                                               (b"content-type", b"application/grpc"), (b"te", b"trailers")))


def connect(address):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(90)
    s.connect(str(address))
    return s


def talk(address, data):
    with connect(address) as s:
        s.settimeout(5)  # some of it is waited for to go on
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError:
            pass


def test_noise(api, daemon):
    for data in (os.urandom(100000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100000), PREFACE + os.urandom(100000),
                 PREFACE + SETTINGS + frame(1, 4, 1, os.urandom(5000)), PREFACE + SETTINGS + frame(0, 0, 1, b"x" * 100),
                 PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100000):
        talk(daemon.address, data)
        served(api)
    for data in (os.urandom(100000), bytes(1000), struct.pack(">IIBB", 0xffffffff, 1, 1, 0) + b"x" * 100000,
                 struct.pack(">IIBB", 5, 1, 1, 0) + b"\xff" * 5, struct.pack(">IIBB", 0, 0, 0, 0) * 1000):
        talk(f"{daemon.address}.ttrpc", data)
        served(api)


def test_floods(api, daemon):
    """Resets, header blocks, pings, and answers that cannot be sent."""
    lists = headers(b"/containerd.services.introspection.v1.Introspection/Plugins")
    for chunks in ((frame(1, 4, i, lists) + frame(3, 0, i, b"\0\0\0\x08") for i in range(1, 60001, 2)),
                   [frame(1, 0, 1, lists)] + [frame(9, 0, 1, literal(b"a", b"b" * 127))] * 10000,
                   [(frame(6, 0, 0, b"x" * 8) + SETTINGS) * 10] * 10000):
        with connect(daemon.address) as s:
            try:
                s.sendall(PREFACE + SETTINGS)
                for chunk in chunks:
                    s.sendall(chunk)
            except OSError:
                pass
            served(api)
    with connect(daemon.address) as s:
        s.sendall(PREFACE + frame(4, 0, 0, b"\0\4\0\0\0\0"))
        for i in range(1, 1001, 2):
            s.sendall(frame(1, 4, i, lists) + frame(0, 1, i, b"\0\0\0\0\0"))
        served(api)


def test_connections_that_say_nothing(api, daemon):
    before = evil.fd_count(daemon.process.pid)
    open_ones = []
    for i in range(1000):
        s = connect(daemon.address if i % 2 else f"{daemon.address}.ttrpc")
        s.sendall((PREFACE + SETTINGS)[:i % 34] if i % 2 else bytes(i % 10))
        open_ones.append(s)
    served(api)
    for s in open_ones:
        s.close()
    harness.until("descriptors to be closed", lambda: evil.fd_count(daemon.process.pid) <= before)


def test_huge_messages(api):
    def publish(n):
        api.events.Publish(topic="/a/b", event=any_pb2.Any(type_url="x", value=bytes(n)))
    publish(15 << 20)
    for n in (17 << 20, 64 << 20):
        assert refused(publish, n)[0] == "RESOURCE_EXHAUSTED"
    served(api)


def test_thousands_of_streams(api):
    before = len(os.listdir(f"/proc/{api.daemon.process.pid}/task"))
    other = evil.Api(api.stubs, api.daemon)
    subscriptions = [other.events.stub.Subscribe(other.events.Subscribe.request()) for _ in range(2000)]
    calls = [api.namespaces.List.later() for _ in range(3000)]
    served(api)
    for c in calls:
        c.result()
    assert len(os.listdir(f"/proc/{api.daemon.process.pid}/task")) < before + 100
    other.close()
    del subscriptions


def test_slow_subscriber(api):
    """It is left behind; nobody else waits for it."""
    slow = evil.Api(api.stubs, api.daemon)
    subscription = slow.events.stub.Subscribe(slow.events.Subscribe.request())
    big = any_pb2.Any(type_url="x", value=bytes(1 << 20))
    for _ in range(60):
        api.events.Publish(topic="/a/b", event=big)
    served(api)
    with pytest.raises(grpc.RpcError) as e:
        for _ in subscription:
            pass
    assert e.value.code().name == "RESOURCE_EXHAUSTED"
    slow.close()


def test_malformed_requests(api, daemon):
    channel = dial(daemon.address)
    seen = set()
    for name in ("containers.v1.Containers/Create", "images.v1.Images/Create", "tasks.v1.Tasks/Create", "content.v1.Content/Info", "leases.v1.Leases/Create",
                 "transfer.v1.Transfer/Transfer", "snapshots.v1.Snapshots/Prepare", "events.v1.Events/Forward", "nope.v1.Nope/X"):
        call = channel.unary_unary(f"/containerd.services.{name}", request_serializer=bytes, response_deserializer=bytes)
        for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a" * 999, b"\x0a\x02\xff\xfe", b"\x12\x80\x80\x80\x80\x08", os.urandom(200)):
            try:
                call(data, metadata=api.metadata(), timeout=harness.SECONDS)
            except grpc.RpcError as e:
                seen.add(e.code().name)
    channel.close()
    assert not seen & {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}, seen
    served(api)


def test_strings_are_not_cut_at_nul(api):
    """Nor is a name let in that other clients could not read."""
    assert "NUL" in refused(api.images.Create, image={"name": "a\0b", "target": {"media_type": "x", "digest": "sha256:" + "a" * 64, "size": 1}})[1]
    channel = dial(api.daemon.address)
    create = channel.unary_unary("/containerd.services.leases.v1.Leases/Create", request_serializer=bytes, response_deserializer=bytes)
    assert refused(create, b"\x0a\x02\xff\xfe", metadata=api.metadata())[0] == "INVALID_ARGUMENT"
    channel.close()
    assert api.lease_ids() == []
