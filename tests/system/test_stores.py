# SPDX-License-Identifier: Apache-2.0
"""version, plugins, namespaces, content, snapshots and leases with our ctr."""
import gzip
import hashlib
import json

from harness import rows, until


def test_version_names_client_and_server(ctr):
    out = ctr.out("version")
    assert out.startswith("Client:\n  Version:") and "\nServer:\n  Version:" in out and "UUID:" in out


def test_info_is_json(ctr):
    assert json.loads(ctr.out("info"))["server"]["uuid"]


def test_plugins_are_listed_with_their_state(ctr):
    table = {(r[0], r[1]): r[-1] for r in rows(ctr.out("plugins", "ls"))}
    for plugin in [("io.containerd.snapshotter.v1", "overlayfs"), ("io.containerd.content.v1", "content"), ("io.containerd.metadata.v1", "bolt"),
                   ("io.containerd.runtime.v2", "task"), ("io.containerd.grpc.v1", "tasks")]:
        assert table.get(plugin) == "ok", plugin
    assert "error" not in table.values(), ctr.out("plugins", "ls", "-d")
    assert set(table.values()) <= {"ok", "skip"}


def test_namespaces_live_from_create_to_remove(ctr):
    ctr("namespaces", "create", "one", "owner=me")
    assert ["one", "owner=me"] in rows(ctr.out("namespaces", "ls"))
    ctr("namespaces", "label", "one", "owner=you")
    assert ["one", "owner=you"] in rows(ctr.out("namespaces", "ls"))
    again = ctr("namespaces", "create", "one", check=False)
    assert again.returncode == 1 and "already exists" in again.stderr
    assert ctr.out("namespaces", "rm", "one").strip() == "one"
    assert "one" not in ctr.quiet("namespaces", "ls", "-q")


def test_namespace_with_content_is_not_removed(ctr, busybox):
    ctr("images", "pull", "--plain-http", busybox, ns="full")
    refused = ctr("namespaces", "rm", "full", check=False)
    assert refused.returncode == 1 and "must be empty" in refused.stderr
    ctr("images", "rm", "--sync", busybox, ns="full")
    ctr("namespaces", "rm", "full")


def test_content_is_ingested_read_labelled_and_removed(ctr):
    data = b"some content\n" * 1000
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    def kept():  # a collection may come between the two
        ctr("content", "ingest", "--expected-size", len(data), "--expected-digest", digest, "key", input=data, binary=True)
        return ctr("content", "label", digest, "containerd.io/gc.root=yes", check=False).returncode == 0
    until("the blob to be kept", kept)
    assert digest in ctr.quiet("content", "ls", "-q")
    assert ctr("content", "get", digest, binary=True).stdout == data
    assert "containerd.io/gc.root=yes" in ctr.out("content", "ls")
    ctr("content", "rm", digest)
    assert digest not in ctr.quiet("content", "ls", "-q")


def test_content_of_the_wrong_digest_is_refused(ctr):
    wrong = ctr("content", "ingest", "--expected-digest", "sha256:" + "0" * 64, "wrong", input="x", check=False)
    assert wrong.returncode == 1 and "unexpected commit digest" in wrong.stderr
    assert "sha256:" + hashlib.sha256(b"x").hexdigest() not in ctr.quiet("content", "ls", "-q")


def test_manifest_in_the_store_is_what_the_image_names(ctr, image):
    digest = [r for r in rows(ctr.out("images", "ls")) if r[0] == image][0][2]
    manifest = json.loads(ctr.out("content", "get", digest))
    layer = manifest["layers"][0]
    data = ctr("content", "get", layer["digest"], binary=True).stdout
    assert len(data) == layer["size"] and "sha256:" + hashlib.sha256(data).hexdigest() == layer["digest"]
    config = json.loads(ctr.out("content", "get", manifest["config"]["digest"]))
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest()]


def test_no_ingest_is_left_after_a_pull(ctr, busybox):
    ctr("images", "pull", "--plain-http", busybox, ns="quiet")
    assert rows(ctr.out("content", "active", ns="quiet")) == []


def top_snapshot(ctr):
    committed = [r for r in rows(ctr.out("snapshots", "ls")) if r[-1] == "Committed"]
    parents = {r[1] for r in committed if len(r) == 3}
    return [r[0] for r in committed if r[0] not in parents][0]


def test_snapshots_are_prepared_written_committed_and_removed(ctr, image, tmp_path):
    top = top_snapshot(ctr)
    assert json.loads(ctr.out("snapshots", "info", top))["Kind"] == "Committed"
    ctr("snapshots", "prepare", "work", top)
    command = ctr.out("snapshots", "mounts", tmp_path, "work")
    assert command.startswith("mount -t overlay overlay") and str(tmp_path) in command
    from harness import run
    run(["sh", "-c", command])
    try:
        (tmp_path / "added").write_text("x" * 10000)
    finally:
        run(["umount", tmp_path])
    ctr("snapshots", "commit", "done", "work")
    kinds = {r[0]: r[-1] for r in rows(ctr.out("snapshots", "ls"))}
    assert kinds["done"] == "Committed" and "work" not in kinds
    tree = ctr.out("snapshots", "tree")
    assert tree.index(top) < tree.index("done")
    usage = [r for r in rows(ctr.out("snapshots", "usage", "-b", "done"))][0]
    assert int(usage[1]) >= 10000
    refused = ctr("snapshots", "rm", top, check=False)
    assert refused.returncode == 1 and "cannot remove snapshot with child" in refused.stderr
    ctr("snapshots", "view", "look", "done")
    assert "ro" in ctr.out("snapshots", "mounts", tmp_path, "look")
    ctr("snapshots", "rm", "look")
    ctr("snapshots", "rm", "done")
    assert "done" not in {r[0] for r in rows(ctr.out("snapshots", "ls"))}


def test_diff_of_a_snapshot_is_a_layer(ctr, image, tmp_path):
    from harness import run
    ctr("snapshots", "prepare", "diffed", top_snapshot(ctr))
    run(["sh", "-c", ctr.out("snapshots", "mounts", tmp_path, "diffed")])
    try:
        (tmp_path / "added").write_text("new")
        (tmp_path / "etc/os-release").unlink()
    finally:
        run(["umount", tmp_path])
    layer = ctr("snapshots", "diff", "diffed", binary=True).stdout
    import io
    import tarfile
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        names = [n.lstrip("./") for n in tar.getnames()]
        assert "added" in names and "etc/.wh.os-release" in names
        assert "bin/busybox" not in names
    ctr("snapshots", "rm", "diffed")


def test_leases_keep_content_until_they_are_removed(ctr):
    lease = ctr.out("leases", "create", "--id", "mine", "purpose=test").strip()
    assert lease == "mine"
    assert [r[0] for r in rows(ctr.out("leases", "ls"))] == ["mine"] and "purpose=test" in ctr.out("leases", "ls")
    ctr("leases", "rm", "--sync", "mine")
    assert rows(ctr.out("leases", "ls")) == []
