# SPDX-License-Identifier: Apache-2.0
"""The daemon as gRPC's own Python client sees it: every answer and every error code over the wire, without any code of ours between."""
import hashlib
import queue
import threading

import grpc
import pytest

from dial import dial
from harness import until

OK, INVALID, NOT_FOUND, EXISTS = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS
PRECONDITION, RANGE, UNIMPLEMENTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED
NS = [("containerd-namespace", "py")]
SECONDS = 90


class Api:
    """api.images.Create(...) with the messages beside it: api.images_pb.Image."""

    FILES = {"version": "services/version/v1/version", "introspection": "services/introspection/v1/introspection",
             "namespaces": "services/namespaces/v1/namespace", "containers": "services/containers/v1/containers",
             "content": "services/content/v1/content", "images": "services/images/v1/images", "leases": "services/leases/v1/leases",
             "snapshots": "services/snapshots/v1/snapshots", "tasks": "services/tasks/v1/tasks", "events": "services/events/v1/events",
             "transfer": "services/transfer/v1/transfer", "health": "grpc/health/v1/health", "diff": "services/diff/v1/diff"}

    def __init__(self, stubs, address):
        self.channel = dial(address)
        for name, path in self.FILES.items():
            messages, services = stubs(path)
            stub = [getattr(services, n) for n in dir(services) if n.endswith("Stub")][0]
            setattr(self, name + "_pb", messages)
            setattr(self, name, stub(self.channel))


@pytest.fixture(scope="module")
def api(stubs, daemon):
    a = Api(stubs, daemon.address)
    yield a
    a.channel.close()


def fails(code, text, call, *args, **kw):
    """The call ends with this code and a message that contains the text."""
    with pytest.raises(grpc.RpcError) as e:
        r = call(*args, timeout=SECONDS, **kw)
        if hasattr(r, "__next__"):
            list(r)
    assert (e.value.code(), text in e.value.details()) == (code, True), f"{e.value.code()}: {e.value.details()}"


def empty():
    from google.protobuf.empty_pb2 import Empty
    return Empty()


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write(api, ref, data, labels=None, **more):
    """The usual way to store a blob. Returns its digest."""
    m, digest = api.content_pb, digest_of(data)
    messages = [m.WriteContentRequest(action=m.WRITE, ref=ref, total=len(data), expected=digest, data=data[:1000]),
                m.WriteContentRequest(action=m.WRITE, offset=min(1000, len(data)), data=data[1000:]),
                m.WriteContentRequest(action=m.COMMIT, offset=len(data), total=len(data), expected=digest, labels=labels or {})]
    for _ in api.content.Write(iter(messages), metadata=NS + more.get("metadata", []), timeout=SECONDS):
        pass
    return digest


def test_version_needs_no_namespace(api):
    v = api.version.Version(empty(), timeout=SECONDS)
    assert v.version and v.revision


def test_health_is_serving(api):
    m = api.health_pb
    assert api.health.Check(m.HealthCheckRequest(), timeout=SECONDS).status == m.HealthCheckResponse.SERVING


def test_unknown_service_is_unimplemented(api):
    call = api.channel.unary_unary("/foo.Bar/Baz", request_serializer=lambda b: b, response_deserializer=lambda b: b)
    fails(UNIMPLEMENTED, "unknown service foo.Bar", call, b"")


def test_introspection_names_server_and_plugins(api, daemon):
    server = api.introspection.Server(empty(), timeout=SECONDS)
    assert server.pid == daemon.process.pid and len(server.uuid) == 36
    m = api.introspection_pb
    plugins = api.introspection.Plugins(m.PluginsRequest(filters=["type==io.containerd.snapshotter.v1"]), timeout=SECONDS).plugins
    assert {"overlayfs", "native"} <= {p.id for p in plugins} and {p.type for p in plugins} == {"io.containerd.snapshotter.v1"}


@pytest.mark.parametrize("metadata,code,text", [([], PRECONDITION, "namespace is required: failed precondition"),
                                                ([("containerd-namespace", "a..b")], INVALID, 'namespace validation: identifier "a..b" must match')])
def test_namespace_header_is_checked(api, metadata, code, text):
    fails(code, text, api.images.List, api.images_pb.ListImagesRequest(), metadata=metadata)


def test_namespaces_are_made_changed_and_deleted(api):
    m = api.namespaces_pb
    create = m.CreateNamespaceRequest(namespace=m.Namespace(name="n1", labels={"a": "1", "b": "2"}))
    api.namespaces.Create(create, timeout=SECONDS)
    fails(EXISTS, "already exists", api.namespaces.Create, create)
    fails(INVALID, "identifier", api.namespaces.Create, m.CreateNamespaceRequest(namespace=m.Namespace(name="-x")))
    update = m.UpdateNamespaceRequest(namespace=m.Namespace(name="n1", labels={"a": "9"}))
    update.update_mask.paths.append("labels.a")
    api.namespaces.Update(update, timeout=SECONDS)
    got = api.namespaces.Get(m.GetNamespaceRequest(name="n1"), timeout=SECONDS).namespace
    assert dict(got.labels) == {"a": "9", "b": "2"}
    api.namespaces.Delete(m.DeleteNamespaceRequest(name="n1"), timeout=SECONDS)
    fails(NOT_FOUND, "not found", api.namespaces.Delete, m.DeleteNamespaceRequest(name="n1"))


def container(api, name, **more):
    m = api.containers_pb
    c = m.Container(id=name, runtime=m.Container.Runtime(name="io.containerd.runc.v2"), **more)
    c.spec.type_url, c.spec.value = "types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}"
    return c


def test_containers_are_created_listed_updated_and_deleted(api):
    m = api.containers_pb
    made = api.containers.Create(m.CreateContainerRequest(container=container(api, "c1", image="i", labels={"k": "v"})), metadata=NS, timeout=SECONDS)
    assert made.container.created_at.seconds > 0
    fails(EXISTS, 'container "c1": already exists', api.containers.Create, m.CreateContainerRequest(container=container(api, "c1")), metadata=NS)
    fails(INVALID, "identifier", api.containers.Create, m.CreateContainerRequest(container=container(api, "a b")), metadata=NS)
    got = api.containers.Get(m.GetContainerRequest(id="c1"), metadata=NS, timeout=SECONDS).container
    assert got.spec.value == b"{}" and got.image == "i"
    listed = api.containers.List(m.ListContainersRequest(filters=['labels."k"==v', "id==nobody"]), metadata=NS, timeout=SECONDS).containers
    assert [c.id for c in listed] == ["c1"]
    assert [c.container.id for c in api.containers.ListStream(m.ListContainersRequest(), metadata=NS, timeout=SECONDS)] == ["c1"]
    update = m.UpdateContainerRequest(container=m.Container(id="c1", labels={"new": "1"}, image="other"))
    update.update_mask.paths.append("labels")
    updated = api.containers.Update(update, metadata=NS, timeout=SECONDS).container
    assert dict(updated.labels) == {"new": "1"} and updated.image == "i"
    update.update_mask.paths[:] = ["runtime"]
    fails(INVALID, "cannot update", api.containers.Update, update, metadata=NS)
    api.containers.Delete(m.DeleteContainerRequest(id="c1"), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, "not found", api.containers.Get, m.GetContainerRequest(id="c1"), metadata=NS)


def test_bad_filters_are_invalid(api):
    fails(INVALID, 'unsupported operator "=~"', api.images.List, api.images_pb.ListImagesRequest(filters=["name=~x"]), metadata=NS)


def test_content_is_written_and_read_in_parts(api):
    m, data = api.content_pb, bytes(range(256)) * 9000
    digest = write(api, "parts", data, {"containerd.io/gc.root": "1"})
    info = api.content.Info(m.InfoRequest(digest=digest), metadata=NS, timeout=SECONDS).info
    assert info.size == len(data) and info.labels["containerd.io/gc.root"] == "1"

    def read(offset=0, size=0):
        return list(api.content.Read(m.ReadContentRequest(digest=digest, offset=offset, size=size), metadata=NS, timeout=SECONDS))

    parts = read()
    assert b"".join(p.data for p in parts) == data and max(len(p.data) for p in parts) <= 1 << 20
    part = read(100, 1000)
    assert b"".join(p.data for p in part) == data[100:1100] and part[0].offset == 0
    fails(RANGE, "read past object length", api.content.Read, m.ReadContentRequest(digest=digest, offset=len(data) + 1), metadata=NS)
    listed = [i.digest for r in api.content.List(m.ListContentRequest(), metadata=NS, timeout=SECONDS) for i in r.info]
    assert digest in listed
    api.content.Delete(m.DeleteContentRequest(digest=digest), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, "not found", api.content.Info, m.InfoRequest(digest=digest), metadata=NS)


def test_content_of_another_namespace_is_not_found(api):
    m = api.content_pb
    digest = write(api, "mine", b"mine only", {"containerd.io/gc.root": "1"})
    fails(NOT_FOUND, "not found", api.content.Info, m.InfoRequest(digest=digest), metadata=[("containerd-namespace", "other")])


def test_wrong_content_is_refused(api):
    m = api.content_pb

    def send(*messages):
        return iter([m.WriteContentRequest(**x) for x in messages])

    fails(INVALID, "first message must have a reference", api.content.Write, send({"action": m.STAT}), metadata=NS)
    fails(PRECONDITION, "unexpected commit digest", api.content.Write,
          send({"action": m.WRITE, "ref": "r1", "data": b"abc"}, {"action": m.COMMIT, "offset": 3, "expected": digest_of(b"abd")}), metadata=NS)
    fails(PRECONDITION, "failed size validation", api.content.Write,
          send({"action": m.WRITE, "ref": "r2", "data": b"abc"}, {"action": m.COMMIT, "offset": 3, "total": 4}), metadata=NS)
    fails(RANGE, "must occur at current offset", api.content.Write,
          send({"action": m.WRITE, "ref": "r3", "data": b"abc"}, {"action": m.WRITE, "offset": 7, "data": b"d"}), metadata=NS)
    digest = write(api, "r4", b"there", {"containerd.io/gc.root": "1"})
    fails(EXISTS, "already exists", api.content.Write, send({"action": m.WRITE, "ref": "r5", "expected": digest, "data": b"there"}), metadata=NS)


def test_interrupted_ingest_is_listed_resumed_and_aborted(api):
    m = api.content_pb
    first = [m.WriteContentRequest(action=m.WRITE, ref="resume", total=6, data=b"abc")]
    list(api.content.Write(iter(first), metadata=NS, timeout=SECONDS))
    status = api.content.Status(m.StatusRequest(ref="resume"), metadata=NS, timeout=SECONDS).status
    assert (status.ref, status.offset, status.total) == ("resume", 3, 6)
    rest = [m.WriteContentRequest(action=m.STAT, ref="resume", total=6), m.WriteContentRequest(action=m.WRITE, offset=3, data=b"def")]
    answers = list(api.content.Write(iter(rest), metadata=NS, timeout=SECONDS))
    assert answers[0].offset == 3 and answers[-1].digest == digest_of(b"abcdef")
    api.content.Abort(m.AbortRequest(ref="resume"), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, "not found", api.content.Status, m.StatusRequest(ref="resume"), metadata=NS)


def test_locked_reference_is_unavailable(api):
    m, more = api.content_pb, queue.Queue()
    held = api.content.Write(iter(more.get, None), metadata=NS, timeout=SECONDS)
    more.put(m.WriteContentRequest(action=m.STAT, ref="locked"))
    next(held)
    fails(grpc.StatusCode.UNAVAILABLE, "locked", api.content.Write, iter([m.WriteContentRequest(action=m.STAT, ref="locked")]), metadata=NS)
    more.put(None)
    list(held)


def test_images_are_records_over_content(api):
    m, digest = api.images_pb, "sha256:" + "12" * 32

    def image(name, **target):
        i = m.Image(name=name)
        for k, v in {"media_type": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7, **target}.items():
            setattr(i.target, k, v)
        return m.CreateImageRequest(image=i)

    api.images.Create(image("a/b:1"), metadata=NS, timeout=SECONDS)
    fails(EXISTS, "already exists", api.images.Create, image("a/b:1"), metadata=NS)
    fails(INVALID, "", api.images.Create, image("x", size=0), metadata=NS)
    fails(INVALID, "invalid checksum digest length", api.images.Create, image("x", digest="sha256:12"), metadata=NS)
    fails(INVALID, "", api.images.Create, m.CreateImageRequest(image=m.Image(name="x")), metadata=NS)
    got = api.images.Get(m.GetImageRequest(name="a/b:1"), metadata=NS, timeout=SECONDS).image
    assert got.target.digest == digest and got.created_at.seconds > 0
    assert [i.name for i in api.images.List(m.ListImagesRequest(filters=["name~=^a/"]), metadata=NS, timeout=SECONDS).images] == ["a/b:1"]
    api.images.Delete(m.DeleteImageRequest(name="a/b:1", sync=True), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, 'image "a/b:1": not found', api.images.Get, m.GetImageRequest(name="a/b:1"), metadata=NS)


def test_labels_have_a_limit(api):
    m = api.containers_pb
    fails(INVALID, "greater than maximum size (4096 bytes)", api.containers.Create,
          m.CreateContainerRequest(container=container(api, "long", labels={"k": "v" * 4096})), metadata=NS)


def test_leases_hold_resources_until_deleted(api):
    m = api.leases_pb
    made = api.leases.Create(m.CreateRequest(labels={"a": "b"}), metadata=NS, timeout=SECONDS).lease
    assert made.id and made.created_at.seconds > 0
    api.leases.Create(m.CreateRequest(id="held"), metadata=NS, timeout=SECONDS)
    fails(EXISTS, "already exists", api.leases.Create, m.CreateRequest(id="held"), metadata=NS)
    digest = write(api, "leased", b"kept by a lease", metadata=[("containerd-lease", "held")])
    resources = api.leases.ListResources(m.ListResourcesRequest(id="held"), metadata=NS, timeout=SECONDS).resources
    assert [(r.type, r.id) for r in resources] == [("content", digest)]
    # Another lease goes, and with it a collection runs: this one's content stays.
    api.leases.Delete(m.DeleteRequest(id=made.id, sync=True), metadata=NS, timeout=SECONDS)
    info = api.content_pb.InfoRequest(digest=digest)
    assert api.content.Info(info, metadata=NS, timeout=SECONDS).info.size == 15
    fails(UNIMPLEMENTED, "resource type foo not supported yet", api.leases.AddResource,
          m.AddResourceRequest(id="held", resource=m.Resource(id="x", type="foo")), metadata=NS)
    api.leases.Delete(m.DeleteRequest(id="held", sync=True), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, "not found", api.content.Info, info, metadata=NS)
    fails(NOT_FOUND, "lease does not exist", lambda timeout: write(api, "none", b"x", metadata=[("containerd-lease", "none")]))


def test_snapshots_are_prepared_committed_and_removed(api):
    m = api.snapshots_pb
    who = {"snapshotter": "overlayfs"}
    kept = {**who, "labels": {"containerd.io/gc.root": "1"}}
    mounts = api.snapshots.Prepare(m.PrepareSnapshotRequest(key="k1", **kept), metadata=NS, timeout=SECONDS).mounts
    assert [(x.type, list(x.options)) for x in mounts] == [("bind", ["rw", "rbind"])]
    fails(EXISTS, 'snapshot "k1": already exists', api.snapshots.Prepare, m.PrepareSnapshotRequest(key="k1", **who), metadata=NS)
    fails(INVALID, "is not committed snapshot", api.snapshots.Prepare, m.PrepareSnapshotRequest(key="k2", parent="k1", **who), metadata=NS)
    fails(NOT_FOUND, "", api.snapshots.Prepare, m.PrepareSnapshotRequest(key="k2", parent="nobody", **who), metadata=NS)
    fails(INVALID, "snapshotter not loaded: none", api.snapshots.Prepare, m.PrepareSnapshotRequest(key="k", snapshotter="none"), metadata=NS)
    commit = m.CommitSnapshotRequest(name="s1", key="k1", labels={"containerd.io/gc.root": "1"}, **who)
    api.snapshots.Commit(commit, metadata=NS, timeout=SECONDS)
    mounts = api.snapshots.Prepare(m.PrepareSnapshotRequest(key="k2", parent="s1", **kept), metadata=NS, timeout=SECONDS).mounts
    assert mounts[0].type == "overlay" and [o.split("=")[0] for o in mounts[0].options][:3] == ["workdir", "upperdir", "lowerdir"]
    mounts = api.snapshots.View(m.ViewSnapshotRequest(key="v1", parent="s1", **kept), metadata=NS, timeout=SECONDS).mounts
    assert (mounts[0].type, list(mounts[0].options)) == ("bind", ["ro", "rbind"])
    fails(PRECONDITION, "cannot remove snapshot with child", api.snapshots.Remove, m.RemoveSnapshotRequest(key="s1", **who), metadata=NS)
    listed = {i.name: m.Kind.Name(i.kind) for r in api.snapshots.List(m.ListSnapshotsRequest(**who), metadata=NS, timeout=SECONDS) for i in r.info}
    assert listed == {"s1": "COMMITTED", "k2": "ACTIVE", "v1": "VIEW"}
    for key in ("v1", "k2", "s1"):
        api.snapshots.Remove(m.RemoveSnapshotRequest(key=key, **who), metadata=NS, timeout=SECONDS)
    fails(NOT_FOUND, "", api.snapshots.Stat, m.StatSnapshotRequest(key="s1", **who), metadata=NS)


def test_tasks_that_are_not_there_are_not_found(api):
    m = api.tasks_pb
    fails(NOT_FOUND, 'container "x" in namespace "py": not found', api.tasks.Get, m.GetRequest(container_id="x"), metadata=NS)
    assert list(api.tasks.List(m.ListTasksRequest(), metadata=NS, timeout=SECONDS).tasks) == []


def test_subscribers_get_what_their_filters_match(api):
    m, n, got = api.events_pb, api.namespaces_pb, queue.Queue()
    # Without quotes a path of a topic does not parse: slashes start a quoted value.
    stream = api.events.Subscribe(m.SubscribeRequest(filters=['topic=="/namespaces/create",event.name~="^sub"']), timeout=4 * SECONDS)

    def follow():
        try:
            for envelope in stream:
                got.put(envelope)
        except grpc.RpcError:
            pass

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()

    def first():
        # Nothing announces a subscription.
        for name in ("other", "sub"):
            api.namespaces.Create(n.CreateNamespaceRequest(namespace=n.Namespace(name=name)), timeout=SECONDS)
            api.namespaces.Delete(n.DeleteNamespaceRequest(name=name), timeout=SECONDS)
        try:
            return got.get(timeout=0.2)
        except queue.Empty:
            return None

    envelope = until("an event", first, SECONDS)
    assert (envelope.namespace, envelope.topic) == ("sub", "/namespaces/create")
    assert envelope.event.type_url.endswith("containerd.events.NamespaceCreate")
    assert all(e.topic == "/namespaces/create" and e.namespace == "sub" for e in list(got.queue))
    stream.cancel()
    thread.join(SECONDS)


def test_published_events_are_checked(api):
    m = api.events_pb
    fails(INVALID, "must start with '/'", api.events.Publish, m.PublishRequest(topic="bad"), metadata=NS)
    api.events.Publish(m.PublishRequest(topic="/good/one"), metadata=NS, timeout=SECONDS)


def test_transfer_of_nothing_is_an_error(api):
    fails(grpc.StatusCode.UNKNOWN, "not found", api.transfer.Transfer, api.transfer_pb.TransferRequest(), metadata=NS)


def test_many_calls_at_once_on_one_connection(api):
    m = api.images_pb
    calls = [api.images.List.future(m.ListImagesRequest(), metadata=NS, timeout=SECONDS) for _ in range(300)]
    assert all(c.result() is not None for c in calls)


def test_deadline_of_a_call_is_kept(api):
    with pytest.raises(grpc.RpcError) as e:
        list(api.events.Subscribe(api.events_pb.SubscribeRequest(), timeout=0.3))
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_message_that_is_too_large_is_refused_and_the_connection_lives(api):
    m = api.content_pb
    fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "", api.content.Write,
          iter([m.WriteContentRequest(action=m.WRITE, ref="big", data=bytes(17 << 20))]), metadata=NS)
    assert api.version.Version(empty(), timeout=SECONDS).version


def test_list_of_more_than_a_call_may_take(api, daemon, stubs):
    m, md = api.content_pb, [("containerd-namespace", "many")]
    labels = {f"l{n}": "x" * 4000 for n in range(15)} | {"containerd.io/gc.root": "1"}
    for n in range(1200):  # 72 MB of labels
        data = str(n).encode()
        list(api.content.Write(iter([m.WriteContentRequest(action=m.COMMIT, ref=str(n), data=data, total=len(data), labels=labels)]), metadata=md))
    with dial(daemon.address, options=[("grpc.max_receive_message_length", 64 << 20)]) as channel:
        content = stubs(Api.FILES["content"])[1].ContentStub(channel)
        infos = [i for answer in content.List(m.ListContentRequest(), metadata=md) for i in answer.info]
    assert {i.digest for i in infos} == {digest_of(str(n).encode()) for n in range(1200)}
    assert all(len(i.labels) == 16 for i in infos)


def test_calls_that_go_on_keep_nobody_from_being_served(api):
    m, md, held = api.content_pb, [("containerd-namespace", "held")], []
    try:
        for n in range(600):
            more = queue.Queue()
            more.put(m.WriteContentRequest(action=m.WRITE, ref=f"held-{n}", total=9, data=b"x"))
            held.append((more, api.content.Write(iter(more.get, None), metadata=md)))
        for _, answers in held:
            assert next(answers).offset == 1
        assert api.images.List(api.images_pb.ListImagesRequest(), metadata=md, timeout=SECONDS).images is not None
        assert len(api.content.ListStatuses(m.ListStatusesRequest(), metadata=md, timeout=SECONDS).statuses) == 600
    finally:
        for more, answers in held:
            more.put(None)
            answers.cancel()
