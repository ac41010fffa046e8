# SPDX-License-Identifier: Apache-2.0
"""Every method of every service that proto/ declares, with good and with bad input.

The tables are in rpc_tables*.py. A method that the daemon serves and that has no step, or only good or only bad ones, fails
test_every_method_has_good_and_bad_steps: a new method needs new steps. What may still be Unimplemented stands in PENDING."""
import itertools
import json
import os

import grpc
import pytest

import evil
import rpc
import rpc_tables
import rpc_tables_cri
import rpc_tables_tasks
from cri import cri_daemon
from rpc import METHODS, Do, Heard, Player, Ttrpc, has

TABLES = {**rpc_tables.TABLES, **rpc_tables_tasks.TABLES}

# Served over ttrpc: the first by the daemon, the others by shims.
TTRPC = {"containerd.services.events.ttrpc.v1.Events", "containerd.task.v2.Task", "containerd.task.v3.Task"}
# No program of ours serves them; the daemon is their client.
CLIENT_ONLY = {"containerd.runtime.sandbox.v1.Sandbox"}
# Of the CRI plugin, which most of these tests' daemon is told not to load.
CRI = {"runtime.v1.RuntimeService", "runtime.v1.ImageService"}

# Methods whose good calls may be answered with Unimplemented. To be shortened only.
PENDING = {"containerd.services.tasks.v1.Tasks/Checkpoint"}  # with a criu that cannot dump here

# They ask for no namespace.
NO_NAMESPACE = {"containerd.services.version.v1.Version", "containerd.services.introspection.v1.Introspection", "grpc.health.v1.Health",
                "containerd.services.namespaces.v1.Namespaces"}
NO_NAMESPACE_METHODS = {"containerd.services.events.v1.Events/Subscribe", "containerd.services.events.v1.Events/Forward",
                        "containerd.services.mounts.v1.Mounts/Update", "containerd.services.sandbox.v1.Controller/Metrics",
                        "containerd.services.sandbox.v1.Controller/Update"}


@pytest.fixture(scope="module")
def daemon():
    d = evil.new_daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def player(stubs, daemon, busybox):
    # runc's own state is the host's: other runs may have containers of the same names.
    client = rpc.Client(stubs, daemon.address, f"every{os.getpid()}")
    p = Player(client, PENDING)
    daemon.ctr.namespace = client.ns
    daemon.ctr("images", "pull", "--plain-http", busybox)
    daemon.ctr("containers", "create", busybox, "pattern", "/bin/sleep", "1000")
    spec = json.loads(client("containerd.services.containers.v1.Containers/Get", {"id": "pattern"}).container.spec.value)
    daemon.ctr("containers", "rm", "pattern")
    snapshots = client("containerd.services.snapshots.v1.Snapshots/List", {"snapshotter": "overlayfs"})
    p.world.update(spec=spec, image=busybox, top=snapshots[0].info[0].name, ns=client.ns, daemon=daemon)
    yield p
    client.close()


@pytest.fixture(scope="module")
def heard(player):
    h = Heard(player.client)
    yield h
    h.close()


@pytest.mark.parametrize("table", TABLES)
def test_calls_and_their_events(player, heard, table):
    service = table.split(" ")[0]
    heard.since_last()
    player.play(service, TABLES[table])
    expected = [(e if isinstance(e, tuple) else (e, {})) for s in TABLES[table] for e in s.events]
    got = [e for e in heard.since_last() if e.namespace == player.client.ns or e.topic.startswith("/namespaces/")]
    shown = "\n".join(f"{e.namespace} {e.topic} {unpack(e.event)}" for e in got)
    assert [e.topic for e in got] == [t for t, _ in expected], shown
    for e, (topic, fields) in zip(got, expected):
        have = unpack(e.event)
        assert {k: have.get(k) for k in fields} == fields, f"{topic}: {have}"
        assert e.timestamp.seconds > 0


def unpack(event):
    name = event.type_url.rsplit("/", 1)[-1]
    assert event.type_url == name, "a prefix before the type name"
    return rpc.plain(rpc.message_type(name).FromString(event.value)) if name else {}


def test_calls_of_the_cri(stubs, busybox_layout):
    """Each of its methods, in the order of a pod's life."""
    with cri_daemon(stubs, busybox_layout) as (cri, image):
        client = rpc.Client(stubs, cri.daemon.address, "k8s.io")
        p = Player(client, rpc_tables_cri.PENDING)
        p.world.update(image=image, logs=str(cri.daemon.dir / "logs"))
        try:
            p.play("", rpc_tables_cri.STEPS)
            for path in (m.path for m in METHODS.values() if m.service in CRI):
                with pytest.raises(grpc.RpcError) as e:
                    client.raw(path, b"\xff" * 40, timeout=90)
                assert e.value.code().name in ("INVALID_ARGUMENT", "INTERNAL"), path
        finally:
            client.close()


def test_every_method_of_the_cri_has_good_and_bad_steps():
    have = {good: {s.method for s in rpc_tables_cri.STEPS if (s.code == "OK") == good} for good in (True, False)}
    declared = {m.path for m in METHODS.values() if m.service in CRI}
    assert declared - have[True] - rpc_tables_cri.ELSEWHERE - rpc_tables_cri.NOTHING_GOOD == set(), "methods without a good call"
    assert declared - have[False] - rpc_tables_cri.ELSEWHERE - rpc_tables_cri.NOTHING_BAD == set(), "methods without a bad call"


def served():
    return [m for m in METHODS.values() if m.service not in CLIENT_ONLY | CRI]


def test_every_method_has_good_and_bad_steps():
    have = {True: set(), False: set()}
    for table, steps in TABLES.items():
        for s in steps:
            path = s.method if "/" in s.method else f"{table.split(' ')[0]}/{s.method}"
            good = s.good if isinstance(s, Do) else s.code == "OK"
            have[good].add(path)
    for path, good, *_ in rpc_tables_tasks.SHIM_STEPS:
        for version in ("v2", "v3"):
            have[good].add(f"containerd.task.{version}.Task/{path}")
    have[True].add("containerd.services.events.ttrpc.v1.Events/Forward")
    have[False].add("containerd.services.events.ttrpc.v1.Events/Forward")
    # Update of mounts is Unimplemented in containerd, too; a shim without a pause container measures nothing.
    nothing_good = {"containerd.services.mounts.v1.Mounts/Update", "containerd.services.sandbox.v1.Controller/Metrics"}
    nothing_bad = {"containerd.services.version.v1.Version/Version", "containerd.services.introspection.v1.Introspection/Server",
                   "containerd.services.namespaces.v1.Namespaces/List", "grpc.health.v1.Health/List",
                   "containerd.services.mounts.v1.Mounts/List"}
    all_served = {m.path for m in served()}
    assert all_served - have[True] - PENDING - nothing_good == set(), "methods without a good call"
    assert all_served - have[False] - nothing_bad == set(), "methods without a bad call"
    assert (have[True] | have[False]) - all_served == set(), "steps for methods that are not declared"


@pytest.mark.parametrize("path", [m.path for m in served() if m.service not in TTRPC])
def test_method_needs_a_namespace_and_a_message(player, path):
    """With the first request that its table has; what no table knows is tried empty."""
    request = player.client.good.get(path, [] if METHODS[path].client_stream else {})
    free = METHODS[path].service in NO_NAMESPACE or path in NO_NAMESPACE_METHODS | PENDING
    if not free:
        for ns, code, text in (("", "FAILED_PRECONDITION", "namespace is required"), ("a..b", "INVALID_ARGUMENT", "namespace validation: identifier"),
                               ("x" * 77, "INVALID_ARGUMENT", "greater than maximum length (76 characters)")):
            got = evil.refused(player.client, path, request, ns)
            assert got[0] == code and text in got[1], (ns, got)
    try:
        code = "OK"
        # The Health service's streams and subscriptions have no end.
        player.client.raw(path, b"\xff" * 40, timeout=90)
    except grpc.RpcError as e:
        code = e.code().name
    assert code in ("INVALID_ARGUMENT", "INTERNAL") or code == "UNIMPLEMENTED" and path in PENDING, code


@pytest.mark.parametrize("service", sorted(CLIENT_ONLY | CRI))
def test_services_that_are_not_served_here(player, service):
    for m in METHODS.values():
        if m.service == service:
            assert evil.refused(player.client, m.path, {}) == ("UNIMPLEMENTED", f"unknown service {service}")


def test_event_of_a_shim(player, heard):
    """The only method of the daemon's other socket."""
    t = Ttrpc(f"{player.world['daemon'].address}.ttrpc")
    path = "containerd.services.events.ttrpc.v1.Events/Forward"
    good = {"timestamp": {"seconds": 1700000000, "nanos": 5}, "namespace": "fwd", "topic": "/tasks/oom",
            "event": ("containerd.events.TaskOOM", b"\x0a\x01x")}
    try:
        heard.since_last()
        assert t(path, {"envelope": good})[0] == "OK"
        e = heard.since_last()
        assert [(x.namespace, x.topic, x.timestamp.seconds, x.timestamp.nanos) for x in e] == [("fwd", "/tasks/oom", 1700000000, 5)]
        for change, text in (({"namespace": ""}, "identifier must not be empty"), ({"namespace": "a..b"}, "must match"), ({"topic": "x"}, "must start with '/'"),
                             ({"topic": ""}, "must not be empty"), ({"topic": "/"}, ""), ({"timestamp": {}}, "timestamp")):
            code, words, _ = t(path, {"envelope": {**good, **change}})
            assert code == "INVALID_ARGUMENT" and text in words, (change, code, words)
        assert t(path, {})[0] == "INVALID_ARGUMENT"
        assert t("containerd.services.events.ttrpc.v1.Events/Nope")[0] == "UNIMPLEMENTED"
        assert t("containerd.services.images.v1.Images/List", ns="default")[0] == "UNIMPLEMENTED"
        assert heard.since_last() == []
    finally:
        t.close()


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_task_methods_of_a_shim(player, version):
    rpc_tables_tasks.play_shim(player, version)


@pytest.mark.parametrize("kind", rpc_tables.FILTERS)
def test_filters(player, kind):
    """All operators on all fields of a kind of object."""
    prepare, lister, cases, bad = rpc_tables.FILTERS[kind]
    for path, fields in prepare:
        player.client(path, fields, ns="filters")
    for filters, expected in cases:
        assert sorted(lister(player.client, filters)) == sorted(expected), filters
    every = sorted(lister(player.client, []))
    assert every == sorted(lister(player.client, [""]))
    for filters, (code, text) in bad:
        got = evil.refused(lister, player.client, filters)
        assert got[0] == code and has(*([text] if isinstance(text, str) else text)) == got[1], (filters, got)


def test_filters_of_events(player):
    h = "containerd.services.events.v1.Events/"
    for filters, heard_topics in (
            (["topic==\"/f/a\""], ["/f/a"]), (["topic!=\"/f/a\",namespace==fe"], ["/f/b"]), (["topic~=\"^/f/\""], ["/f/a", "/f/b"]),
            (["event.container_id==one"], ["/f/a"]), (["event.container_id"], ["/f/a", "/f/b"]), (["event.nothing"], []),
            (["topic==\"/f/a\"", "event.container_id==two"], ["/f/a", "/f/b"]), (["timestamp"], [])):
        stream = player.client.callable(h + "Subscribe")(rpc.build(METHODS[h + "Subscribe"].request, {"filters": [*filters, "topic==\"/end/x\""]}))
        got, probe = [], itertools.count()

        def publish(topic, who):
            player.client(h + "Publish", {"topic": topic, "event": ("containerd.events.TaskOOM", b"\x0a\x03" + who)}, ns="fe")
        import threading
        seen, thread = threading.Event(), None

        def follow():
            try:
                for e in stream:
                    seen.set()
                    got.append(e.topic)
            except grpc.RpcError:
                pass
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        while not seen.wait(0.1):
            assert next(probe) < 600
            publish("/end/x", b"end")
        publish("/f/a", b"one")
        publish("/f/b", b"two")
        publish("/end/x", b"end")
        n = next(probe)
        evil.harness.until("the last event", lambda: got.count("/end/x") > n or got.count("/end/x") == n + 1)
        stream.cancel()
        thread.join(90)
        assert [t for t in got if t != "/end/x"] == heard_topics, filters


def test_lists_come_in_parts(player):
    """A hundred of a kind in a message, and all of them."""
    client, ns = player.client, "parts"
    snapshots, content = "containerd.services.snapshots.v1.Snapshots/", "containerd.services.content.v1.Content/"
    for i in range(120):
        client(snapshots + "View", {"snapshotter": "overlayfs", "key": f"v{i:03}", "labels": rpc_tables.ROOT}, ns=ns)
        data = b"part %d" % i
        client(content + "Write", [rpc_tables.w(f"r{i}", data=data), rpc_tables.w(action=rpc_tables.COMMIT, offset=len(data), labels=rpc_tables.ROOT)], ns=ns)
    for answers in (client(snapshots + "List", {"snapshotter": "overlayfs"}, ns=ns), client(content + "List", {}, ns=ns)):
        assert [len(a.info) for a in answers] == [100, 20]
    assert [i.name for a in client(snapshots + "List", {"snapshotter": "overlayfs"}, ns=ns) for i in a.info] == [f"v{i:03}" for i in range(120)]


def test_content_of_other_namespaces_is_not_shared_when_it_is_not_to_be(stubs):
    """The policy `isolated`: who does not send the bytes does not get them, unless a namespace is marked."""
    d = evil.new_daemon(config='[plugins."io.containerd.metadata.v1.bolt"]\n  content_sharing_policy = "isolated"\n')
    client = None
    try:
        d.start()
        client = rpc.Client(stubs, d.address, "one")
        w, data, digest = rpc_tables.w, rpc_tables.DATA, rpc_tables.D
        write, commit = "containerd.services.content.v1.Content/Write", rpc_tables.COMMIT
        client(write, [w("r", data=data), w(action=commit, offset=len(data), labels=rpc_tables.ROOT)])
        first = client(write, [w("r", action=rpc_tables.STAT, expected=digest, total=len(data))], ns="two")[0]
        assert first.offset == 0
        assert evil.refused(client, write, [w("r", action=commit, expected=digest, total=len(data))], "two")[0] == "FAILED_PRECONDITION"
        client(write, [w("r2", data=data, expected=digest, total=len(data)), w(action=commit, offset=len(data), labels=rpc_tables.ROOT)], ns="two")
        assert client("containerd.services.content.v1.Content/Info", {"digest": digest}, ns="two").info.size == len(data)
        client("containerd.services.namespaces.v1.Namespaces/Update", rpc_tables.ns("one", **{"containerd.io/namespace.shareable": "true"}))
        assert client(write, [w("r", action=rpc_tables.STAT, expected=digest, total=len(data))], ns="three")[0].offset == len(data)
    finally:
        if client:
            client.close()
        d.close()
