# SPDX-License-Identifier: Apache-2.0
"""Plugins in other processes: a snapshotter, a differ and a content store written in Python take the place of the daemon's own."""
import io
import json
import os
import pathlib
import tarfile
import threading

import grpc
import pytest

import images
import proxies
from cri import cri_daemon
from dial import dial
from harness import Daemon, rows, until

NS = [("containerd-namespace", "default")]
ROOT = {"containerd.io/gc.root": "1"}  # what has none may be collected at any time
TURNED = proxies.Differ.MEDIA_TYPE


def archive(layout):
    """An OCI layout as the tar that `ctr images import` takes."""
    directory = pathlib.Path(layout.rsplit(":", 1)[0])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for p in sorted(directory.rglob("*")):
            t.add(p, str(p.relative_to(directory)), recursive=False)
    return out.getvalue()


def image_of(directory, layers):
    """An image whose layers are (plain tar, media type, stored bytes)."""
    layout = images.Layout(directory)
    stored = [layout.blob(data, media_type) for _, media_type, data in layers]
    config = layout.blob({"os": "linux", "architecture": "amd64", "config": {"Env": [f"PATH={images.PATH}"], "Cmd": ["sh"]},
                          "rootfs": {"type": "layers", "diff_ids": [proxies.digest_of(tar) for tar, _, _ in layers]}}, images.CONFIG)
    manifest = layout.blob({"schemaVersion": 2, "mediaType": images.MANIFEST, "config": config, "layers": stored}, images.MANIFEST)
    return layout.index([manifest])


def chain_ids(tars):
    chain = []
    for tar in tars:
        diff = proxies.digest_of(tar)
        chain.append(proxies.digest_of(f"{chain[-1]} {diff}".encode()) if chain else diff)
    return chain


class Api:
    def __init__(self, stubs, daemon):
        self.channel = dial(daemon.address)
        for name, path in (("snapshots", "services/snapshots/v1/snapshots"), ("content", "services/content/v1/content"),
                           ("leases", "services/leases/v1/leases"), ("diff", "services/diff/v1/diff"),
                           ("introspection", "services/introspection/v1/introspection")):
            messages, services = stubs(path)
            setattr(self, name + "_pb", messages)
            setattr(self, name, [getattr(services, n) for n in dir(services) if n.endswith("Stub")][0](self.channel))
        self.types = stubs("types/descriptor")[0]
        self.mounts = stubs("types/mount")[0]


@pytest.fixture(scope="module")
def setup(stubs, tmp_path_factory):
    d = tmp_path_factory.mktemp("proxy")
    daemon = Daemon(config=f"""
[proxy_plugins.plain]
  type = "snapshot"
  address = "{d}/snap.sock"
  capabilities = ["one", "two"]
  [proxy_plugins.plain.exports]
    root = "/somewhere"
    enable_remote_snapshot_annotations = "true"
[proxy_plugins.turner]
  type = "diff"
  address = "unix://{d}/diff.sock"
  platform = "linux/s390x"
[proxy_plugins.missing]
  type = "io.containerd.snapshotter.v1"
  address = "{d}/missing.sock"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["walking", "turner"]
""")
    snapshotter = proxies.Snapshotter(stubs, d / "snap.sock", d / "snapshots").start()
    differ = proxies.Differ(stubs, d / "diff.sock", daemon.address).start()
    daemon.start()
    yield daemon, snapshotter, differ
    try:
        daemon.close()
    finally:
        snapshotter.stop()
        differ.stop()


@pytest.fixture
def daemon(setup):
    return setup[0]


@pytest.fixture
def snapshotter(setup):
    s = setup[1]
    yield s
    s.fail.clear()
    s.remote.clear()
    if not s.server:
        s.start()


@pytest.fixture
def differ(setup):
    return setup[2]


@pytest.fixture
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.channel.close()


def fails(code, parts, call, *args, **kw):
    with pytest.raises(grpc.RpcError) as e:
        r = call(*args, timeout=90, metadata=kw.pop("metadata", NS), **kw)
        if hasattr(r, "__next__"):
            list(r)
    assert e.value.code() == code, e.value
    for part in parts:
        assert part in e.value.details(), e.value.details()


def test_proxy_plugins_are_listed_with_what_they_are_configured_with(daemon, api):
    table = {(r[0], r[1]): r for r in rows(daemon.ctr.out("plugins", "ls"))}
    assert table["io.containerd.snapshotter.v1", "plain"][-1] == "ok"
    assert table["io.containerd.differ.v1", "turner"][-2:] == ["linux/s390x", "ok"]
    assert table["io.containerd.snapshotter.v1", "missing"][-1] == "ok"
    plugin = {p.id: p for p in api.introspection.Plugins(api.introspection_pb.PluginsRequest()).plugins}["plain"]
    assert list(plugin.capabilities) == ["one", "two"]
    assert plugin.exports["root"] == "/somewhere" and plugin.exports["address"].endswith("/snap.sock")


def test_image_is_unpacked_into_a_proxy_snapshotter_and_run(daemon, snapshotter, layered):
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", layered["gzip"])
    out = daemon.ctr.out("run", "--rm", "--snapshotter", "plain", layered["gzip"], "proxy-run", "sh", "-c",
                         "cat /data/change /data/hard; echo; ls /data /full; echo x > /data/new")
    assert out.splitlines()[0] == "23" and "gone" not in out and "old" not in out
    kinds = [r[2] for r in rows(daemon.ctr.out("snapshots", "--snapshotter", "plain", "ls")) if len(r) > 2]
    kinds += [r[1] for r in rows(daemon.ctr.out("snapshots", "--snapshotter", "plain", "ls")) if len(r) == 2]
    assert sorted(kinds) == ["Committed"] * 3
    assert {c[1] for c in snapshotter.asked("Prepare")} == {"default"}
    # The pull's lease goes along.
    assert any(c[2] for c in snapshotter.asked("Prepare"))


def test_image_in_a_proxy_snapshotter_is_collected(daemon, snapshotter, busybox):
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", busybox, ns="collect")
    assert any(k.startswith("collect/") for k in snapshotter.snapshots)
    before = len(snapshotter.asked("Cleanup"))
    daemon.ctr("images", "rm", "--sync", busybox, ns="collect")
    until("the snapshots to go", lambda: not any(k.startswith("collect/") for k in snapshotter.snapshots))
    assert not rows(daemon.ctr.out("snapshots", "--snapshotter", "plain", "ls", ns="collect"))
    until("the cleanup", lambda: len(snapshotter.asked("Cleanup")) > before)


def test_every_method_reaches_the_proxy_snapshotter(api, snapshotter):
    pb, s = api.snapshots_pb, api.snapshots
    root = [("containerd-namespace", "methods")]
    labels = {"containerd.io/snapshot/mine": "1", "other": "2"}
    m = s.Prepare(pb.PrepareSnapshotRequest(snapshotter="plain", key="a", labels=labels), metadata=root).mounts
    pathlib.Path(m[0].source, "file").write_bytes(b"12345")
    assert s.Mounts(pb.MountsRequest(snapshotter="plain", key="a"), metadata=root).mounts[0].source == m[0].source
    usage = s.Usage(pb.UsageRequest(snapshotter="plain", key="a"), metadata=root)
    assert (usage.size, usage.inodes) == (5, 1)
    s.Commit(pb.CommitSnapshotRequest(snapshotter="plain", name="c", key="a", labels=labels), metadata=root)
    info = s.Stat(pb.StatSnapshotRequest(snapshotter="plain", key="c"), metadata=root).info
    assert (info.kind, dict(info.labels)) == (pb.COMMITTED, labels)
    v = s.View(pb.ViewSnapshotRequest(snapshotter="plain", key="v", parent="c"), metadata=root).mounts[0]
    assert "ro" in v.options and pathlib.Path(v.source, "file").read_bytes() == b"12345"
    info.labels["containerd.io/snapshot/more"] = "3"
    from google.protobuf.field_mask_pb2 import FieldMask
    s.Update(pb.UpdateSnapshotRequest(snapshotter="plain", info=info, update_mask=FieldMask(paths=["labels"])), metadata=root)
    key = [k for k in snapshotter.snapshots if k.endswith("/c")][0]
    # The plugin is told the labels that are meant for it.
    assert snapshotter.snapshots[key]["labels"] == {"containerd.io/snapshot/mine": "1", "containerd.io/snapshot/more": "3"}
    names = [i.name for r in s.List(pb.ListSnapshotsRequest(snapshotter="plain"), metadata=root) for i in r.info]
    assert sorted(names) == ["c", "v"]
    s.Cleanup(pb.CleanupRequest(snapshotter="plain"), metadata=root)
    for key in ("v", "c"):
        s.Remove(pb.RemoveSnapshotRequest(snapshotter="plain", key=key), metadata=root)
    until("the back end to be cleaned", lambda: not any(k.startswith("methods/") for k in snapshotter.snapshots))


def test_codes_and_texts_of_a_proxy_plugin_are_kept(api, snapshotter):
    prepare = api.snapshots_pb.PrepareSnapshotRequest(snapshotter="plain", key="refused", labels=ROOT)
    for code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.OUT_OF_RANGE,
                 grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        snapshotter.fail["Prepare"] = (code, "because of this")
        fails(code, ["because of this"], api.snapshots.Prepare, prepare)
    api.snapshots.Prepare  # the daemon goes on
    snapshotter.fail.clear()
    api.snapshots.Prepare(prepare, metadata=NS, timeout=90)
    api.snapshots.Remove(api.snapshots_pb.RemoveSnapshotRequest(snapshotter="plain", key="refused"), metadata=NS)


def test_failed_commit_leaves_the_snapshot_as_it_was(api, snapshotter):
    pb, s = api.snapshots_pb, api.snapshots
    s.Prepare(pb.PrepareSnapshotRequest(snapshotter="plain", key="stays", labels=ROOT), metadata=NS)
    snapshotter.fail["Commit"] = (grpc.StatusCode.INTERNAL, "no room")
    fails(grpc.StatusCode.INTERNAL, ["no room"], s.Commit, pb.CommitSnapshotRequest(snapshotter="plain", name="stays-c", key="stays"))
    assert s.Stat(pb.StatSnapshotRequest(snapshotter="plain", key="stays"), metadata=NS).info.kind == pb.ACTIVE
    snapshotter.fail.clear()
    s.Commit(pb.CommitSnapshotRequest(snapshotter="plain", name="stays-c", key="stays", labels=ROOT), metadata=NS)
    s.Prepare(pb.PrepareSnapshotRequest(snapshotter="plain", key="stays", labels=ROOT), metadata=NS)
    fails(grpc.StatusCode.ALREADY_EXISTS, ["stays-c"], s.Commit,
          pb.CommitSnapshotRequest(snapshotter="plain", name="stays-c", key="stays"))
    for key in ("stays", "stays-c"):
        s.Remove(pb.RemoveSnapshotRequest(snapshotter="plain", key=key), metadata=NS)


def test_updates_of_others_do_not_wait_for_a_slow_plugin(api, snapshotter, daemon):
    pb, s = api.snapshots_pb, api.snapshots
    s.Prepare(pb.PrepareSnapshotRequest(snapshotter="plain", key="slow", labels=ROOT), metadata=NS)
    asked, go = threading.Event(), threading.Event()
    snapshotter.fail["Commit"] = lambda: (asked.set(), go.wait(600))
    commit = s.Commit.future(pb.CommitSnapshotRequest(snapshotter="plain", name="slow-c", key="slow", labels=ROOT), metadata=NS, timeout=600)
    assert asked.wait(90)
    daemon.ctr("namespaces", "create", "meanwhile", timeout=90)
    assert not commit.done()
    go.set()
    commit.result()
    s.Remove(pb.RemoveSnapshotRequest(snapshotter="plain", key="slow-c"), metadata=NS)


def test_call_ends_with_its_caller_though_the_plugin_hangs(api, snapshotter):
    asked, go = threading.Event(), threading.Event()
    snapshotter.fail["Prepare"] = lambda: (asked.set(), go.wait(600))
    for seconds in (2, 20, 120):  # more, where the plugin is not reached in so short a time
        with pytest.raises(grpc.RpcError) as e:
            api.snapshots.Prepare(api.snapshots_pb.PrepareSnapshotRequest(snapshotter="plain", key="hangs"), metadata=NS, timeout=seconds)
        assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if asked.is_set():
            break
    assert asked.is_set()
    go.set()


def test_plugin_that_nobody_serves_is_unavailable_by_name(api, daemon):
    stat = api.snapshots_pb.StatSnapshotRequest(snapshotter="missing", key="x")
    prepare = api.snapshots_pb.PrepareSnapshotRequest(snapshotter="missing", key="x")
    fails(grpc.StatusCode.NOT_FOUND, ["snapshot x"], api.snapshots.Stat, stat)
    fails(grpc.StatusCode.UNAVAILABLE, ['proxy plugin "missing"', "/missing.sock", "No such file"], api.snapshots.Prepare, prepare)
    refused = daemon.ctr("snapshots", "--snapshotter", "missing", "prepare", "x", check=False)
    assert refused.returncode == 1 and "missing.sock" in refused.stderr


def test_plugin_that_was_started_anew_is_connected_to_again(api, snapshotter):
    stat = api.snapshots_pb.PrepareSnapshotRequest(snapshotter="plain", key="again", labels=ROOT)
    api.snapshots.Prepare(stat, metadata=NS)
    for i in range(3):
        snapshotter.stop()
        fails(grpc.StatusCode.UNAVAILABLE, ['proxy plugin "plain"', "/snap.sock"], api.snapshots.Stat,
              api.snapshots_pb.StatSnapshotRequest(snapshotter="plain", key="again"))
        snapshotter.start()
        assert api.snapshots.Stat(api.snapshots_pb.StatSnapshotRequest(snapshotter="plain", key="again"), metadata=NS).info.name == "again"
    # Without a failed call between.
    snapshotter.stop()
    snapshotter.start()
    assert api.snapshots.Stat(api.snapshots_pb.StatSnapshotRequest(snapshotter="plain", key="again"), metadata=NS).info.name == "again"
    api.snapshots.Remove(api.snapshots_pb.RemoveSnapshotRequest(snapshotter="plain", key="again"), metadata=NS)


def test_call_in_flight_fails_when_the_plugin_dies(api, snapshotter):
    asked, go = threading.Event(), threading.Event()
    snapshotter.fail["Prepare"] = lambda: (asked.set(), go.wait(600))
    call = api.snapshots.Prepare.future(api.snapshots_pb.PrepareSnapshotRequest(snapshotter="plain", key="dies"), metadata=NS, timeout=60)
    assert asked.wait(90)
    dies = threading.Thread(target=snapshotter.stop)  # which waits for what it had begun
    dies.start()
    with pytest.raises(grpc.RpcError) as e:
        call.result()
    go.set()
    dies.join()
    assert e.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) and "plain" in e.value.details(), e.value


def layers_of(n):
    return [images.busybox_tar()] + [images.tar_of([(f"layer{i}", b"%d" % i)]) for i in range(1, n)]


def test_layers_that_a_remote_snapshotter_gets_itself_are_not_downloaded(daemon, snapshotter, registry, workdir, api):
    tars = layers_of(4)
    layout = images.Layout(workdir / "remote")
    manifest = layout.image(tars)
    ref = registry.push(layout.index([manifest]), "remote:latest")
    chain = chain_ids(tars)

    def fill(i):
        def go(directory):
            with tarfile.open(fileobj=io.BytesIO(tars[i])) as t:
                t.extractall(directory)
        return go

    snapshotter.remote.update({chain[0]: fill(0), chain[1]: fill(1)})
    before = len(registry.requests())
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", ref, ns="remote")
    fetched = registry.requests()[before:]
    have = daemon.ctr.quiet("content", "ls", "-q", ns="remote")
    md = [("containerd-namespace", "remote")]
    names = {i.name: i.parent for r in api.snapshots.List(api.snapshots_pb.ListSnapshotsRequest(snapshotter="plain"), metadata=md) for i in r.info}
    assert names == {chain[0]: "", chain[1]: chain[0], chain[2]: chain[1], chain[3]: chain[2]}
    document = json.loads((layout.dir / "blobs/sha256" / manifest["digest"].split(":")[1]).read_bytes())
    blobs = {layer["digest"] for layer in document["layers"][:2]}
    assert not blobs & set(have) and not any(b in fetched for b in blobs)
    assert len(have) == 4  # manifest, config, two layers
    told = [s for s in snapshotter.seen if s.get(proxies.REF) == chain[1]][-1]
    assert told["containerd.io/snapshot/cri.image-ref"] == ref
    assert told["containerd.io/snapshot/cri.layer-digest"] in blobs
    assert told["containerd.io/snapshot/cri.image-layers"].startswith(told["containerd.io/snapshot/cri.layer-digest"] + ",")
    assert told["containerd.io/snapshot/parent"] == chain[0]
    out = daemon.ctr.out("run", "--rm", "--snapshotter", "plain", ref, "proxy-remote", "sh", "-c", "cat /layer*", ns="remote")
    assert out == "123"
    # A second time everything is there.
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", ref, ns="remote")
    assert not any(b in daemon.ctr.quiet("content", "ls", "-q", ns="remote") for b in blobs)
    assert not [k for k in snapshotter.snapshots if "extract-" in k]


def test_whole_image_of_a_remote_snapshotter_needs_no_layer(daemon, snapshotter, registry, workdir):
    tars = layers_of(2)
    tars[1] = images.tar_of([("whole", b"1")])
    layout = images.Layout(workdir / "whole")
    ref = registry.push(layout.index([layout.image(tars)]), "whole:latest")
    for i, c in enumerate(chain_ids(tars)):
        snapshotter.remote[c] = lambda d, i=i: tarfile.open(fileobj=io.BytesIO(tars[i])).extractall(d)
    daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", ref, ns="whole")
    assert len(daemon.ctr.quiet("content", "ls", "-q", ns="whole")) == 2
    assert daemon.ctr.out("run", "--rm", "--snapshotter", "plain", ref, "proxy-whole", "cat", "/whole", ns="whole") == "1"


def test_failed_pull_takes_back_what_a_remote_snapshotter_prepared(daemon, snapshotter, registry, workdir):
    tars = [images.tar_of([("bad", b"x" * 10)])]
    layout = images.Layout(workdir / "bad")
    layer = layout.blob(b"no archive at all", images.LAYER)
    config = layout.blob({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {
        "type": "layers", "diff_ids": [proxies.digest_of(tars[0])]}}, images.CONFIG)
    manifest = layout.blob({"schemaVersion": 2, "mediaType": images.MANIFEST, "config": config, "layers": [layer]}, images.MANIFEST)
    ref = registry.push(layout.index([manifest]), "bad:latest")
    failed = daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "plain", ref, ns="bad", check=False)
    assert failed.returncode == 1
    until("the snapshot to go", lambda: not [k for k in snapshotter.snapshots if k.startswith("bad/")])


@pytest.mark.parametrize("snapshotter_name", ["overlayfs", "plain"])
def test_proxy_differ_unpacks_the_layers_that_the_daemon_does_not_know(daemon, snapshotter, differ, workdir, snapshotter_name):
    plain, top = images.busybox_tar(), images.tar_of([("top", b"turned\n")])
    layout = image_of(workdir / f"turned-{snapshotter_name}", [(plain, images.LAYER, plain), (top, TURNED, proxies.turned(top))])
    ns = f"turned-{snapshotter_name}"
    before = len(differ.asked("Apply"))
    daemon.ctr("images", "import", "--snapshotter", snapshotter_name, "--base-name", "turned", "-", ns=ns, input=archive(layout), binary=True)
    assert [c[1] for c in differ.asked("Apply")[before:]] == [ns]
    image = daemon.ctr.quiet("images", "ls", "-q", ns=ns)[0]
    assert daemon.ctr.out("run", "--rm", "--snapshotter", snapshotter_name, image, f"proxy-{ns}", "cat", "/top", ns=ns) == "turned\n"


def test_pull_goes_through_a_proxy_differ(daemon, differ, registry, workdir):
    plain, top = images.busybox_tar([("pulled", b"1")]), images.tar_of([("top", b"pulled\n")])
    ref = registry.push(image_of(workdir / "turned-pull", [(plain, images.LAYER, plain), (top, TURNED, proxies.turned(top))]), "turned:latest")
    daemon.ctr("images", "pull", "--plain-http", ref, ns="turned-pull")
    assert daemon.ctr.out("run", "--rm", ref, "proxy-turned-pull", "cat", "/top", ns="turned-pull") == "pulled\n"


def test_diff_service_asks_the_differs_in_order(api, differ, daemon):
    pb = api.diff_pb
    made = api.diff.Diff(pb.DiffRequest(media_type=TURNED), metadata=NS, timeout=90).diff
    assert made.digest == proxies.digest_of(b"made")
    fails(grpc.StatusCode.UNIMPLEMENTED, ["application/unknown"], api.diff.Diff, pb.DiffRequest(media_type="application/unknown"))


# ---- content ----

@pytest.fixture(scope="module")
def stored(stubs, tmp_path_factory):
    d = tmp_path_factory.mktemp("content")
    content = proxies.Content(stubs, d / "content.sock").start()
    daemon = Daemon(config=f"""
[proxy_plugins.elsewhere]
  type = "content"
  address = "{d}/content.sock"
""")
    daemon.config.write_text(daemon.config.read_text().replace('cri"]', 'cri", "io.containerd.content.v1.content"]'))
    daemon.start()
    yield daemon, content
    try:
        daemon.close()
    finally:
        content.stop()


def test_image_is_pulled_through_a_proxy_content_store_and_run(stored, layered):
    daemon, content = stored
    daemon.ctr("images", "pull", "--plain-http", layered["zstd"])
    assert len(content.blobs) >= 5 and not list(daemon.root.glob("io.containerd.content*/blobs/*/*"))
    assert daemon.ctr.out("run", "--rm", layered["zstd"], "proxy-content", "cat", "/data/change") == "2"


def ingest(api, ref, data):
    """A blob that stays."""
    pb, digest = api.content_pb, proxies.digest_of(data)
    list(api.content.Write(iter([pb.WriteContentRequest(action=pb.COMMIT, ref=ref, data=data, total=len(data), expected=digest,
                                                        labels={"containerd.io/gc.root": "1"})]), metadata=NS))
    return digest


def test_content_goes_to_and_comes_from_a_proxy_store(stored, stubs):
    daemon, content = stored
    data = os.urandom(3 << 20)
    api = Api(stubs, daemon)
    digest = ingest(api, "big", data)
    api.channel.close()
    assert content.blobs[digest] == data and not [k for k in content.ingests if k.endswith("/big")]
    assert daemon.ctr("content", "get", digest, binary=True).stdout == data
    wrong = daemon.ctr("content", "ingest", "--expected-digest", "sha256:" + "0" * 64, "wrong", input="x", check=False)
    assert wrong.returncode == 1 and "unexpected commit digest" in wrong.stderr
    daemon.ctr("content", "rm", digest)
    until("the blob to go", lambda: digest not in content.blobs)


def test_part_of_a_blob_is_read_without_the_rest(stored, stubs):
    daemon, content = stored
    data = bytes(range(256)) * 4096
    api = Api(stubs, daemon)
    digest = ingest(api, "part", data)
    sizes = []
    read = content.Read
    content.Read = lambda r, c: (sizes.append((r.offset, r.size)), read(r, c))[1]
    content.stop()
    content.start()
    got = b"".join(m.data for m in api.content.Read(api.content_pb.ReadContentRequest(digest=digest, offset=1000, size=300), metadata=NS))
    assert got == data[1000:1300] and sizes == [(1000, 300)]
    fails(grpc.StatusCode.OUT_OF_RANGE, ["read past object length"], api.content.Read,
          api.content_pb.ReadContentRequest(digest=digest, offset=len(data) + 1))
    api.channel.close()


def test_interrupted_ingest_is_resumed_in_a_proxy_store(stored, stubs):
    daemon, content = stored
    api = Api(stubs, daemon)
    pb = api.content_pb
    list(api.content.Write(iter([pb.WriteContentRequest(action=pb.WRITE, ref="r", data=b"first ")]), metadata=NS))
    assert [bytes(v) for k, v in content.ingests.items() if k.endswith("/r")] == [b"first "]
    status = api.content.Status(pb.StatusRequest(ref="r"), metadata=NS).status
    assert (status.ref, status.offset) == ("r", 6)
    answers = api.content.Write(iter([pb.WriteContentRequest(action=pb.STAT, ref="r"),
                                      pb.WriteContentRequest(action=pb.COMMIT, ref="r", offset=6, data=b"second", expected=proxies.digest_of(b"first second"),
                                                              labels=ROOT)]),
                                metadata=NS)
    assert list(answers)[-1].digest == proxies.digest_of(b"first second")
    assert content.blobs[proxies.digest_of(b"first second")] == b"first second"
    list(api.content.Write(iter([pb.WriteContentRequest(action=pb.WRITE, ref="gone", data=b"x")]), metadata=NS))
    api.content.Abort(pb.AbortRequest(ref="gone"), metadata=NS)
    assert not [k for k in content.ingests if k.endswith(("/r", "/gone"))]
    api.channel.close()


def test_proxy_store_that_is_down_is_unavailable_and_back_again(stored):
    daemon, content = stored
    content.stop()
    failed = daemon.ctr("content", "ingest", "down", input="x", check=False)
    assert failed.returncode == 1 and "elsewhere" in failed.stderr and "content.sock" in failed.stderr, failed.stderr
    assert "UNKNOWN" not in failed.stderr
    content.start()
    daemon.ctr("content", "ingest", "up", input="x")


def test_two_content_stores_are_refused(tmp_path):
    daemon = Daemon(config=f'[proxy_plugins.two]\n type = "content"\n address = "{tmp_path}/x.sock"\n')
    with pytest.raises(AssertionError, match="multiple plugins registered for io.containerd.content.v1"):
        daemon.start()
    daemon._remove()


def test_size_that_was_not_waited_for_is_measured_again(stubs, busybox_layout, tmp_path):
    plugin = proxies.Snapshotter(stubs, tmp_path / "snap.sock", tmp_path / "snapshots").start()
    config = f"""
[proxy_plugins.plain]
  type = "snapshot"
  address = "{plugin.address}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'plain'
"""
    answer = threading.Event()
    try:
        with cri_daemon(stubs, busybox_layout, config) as (cri, _):
            a = Api(stubs, cri.daemon)
            prepare = a.snapshots_pb.PrepareSnapshotRequest(snapshotter="plain", key="measured", labels=ROOT)
            a.snapshots.Prepare(prepare, metadata=[("containerd-namespace", "k8s.io")], timeout=90)
            key = next(k for k in plugin.snapshots if k.endswith("/measured"))
            (plugin.snapshots[key]["dir"] / "file").write_bytes(bytes(5000))
            plugin.fail["Usage"] = lambda: answer.wait(90)
            with pytest.raises(grpc.RpcError) as e:
                cri.ImageFsInfo(rpc_timeout=3)
            assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and plugin.asked("Usage")
            # The first one's measurement is over before the second is answered.
            with pytest.raises(grpc.RpcError) as e:
                cri.ImageFsInfo(rpc_timeout=3)
            assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            answer.set()
            assert cri.ImageFsInfo().image_filesystems[0].used_bytes.value >= 5000
            a.channel.close()
    finally:
        answer.set()
        plugin.stop()
