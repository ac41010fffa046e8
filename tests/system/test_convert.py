# SPDX-License-Identifier: Apache-2.0
"""ctr images convert: what changes, what does not, and that the garbage collector sees the same."""
import contextlib
import hashlib
import json
import os
import subprocess

import pytest

import evil
import images
from harness import SECONDS, rows, run, until


def target(ctr, ref):
    return [r for r in rows(ctr.out("images", "ls")) if r[0] == ref][0][2]


def document(ctr, digest):
    return json.loads(ctr.out("content", "get", digest))


def labels(ctr, digest):
    line = [line for line in ctr.out("content", "ls").splitlines() if line.startswith(digest)][0]
    return dict(word.split("=", 1) for word in line.split("\t")[-1].strip().split(",") if "=" in word)


@pytest.fixture(autouse=True)
def tidy(ctr):
    yield
    names = ctr.quiet("images", "ls", "-q")
    if names:
        ctr("images", "rm", "--sync", *names)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_uncompressed_layers_are_their_diff_ids_and_give_the_same_snapshots(ctr, layered, compression, name):
    ctr("images", "pull", "--plain-http", layered[compression])
    before = ctr.out("snapshots", "ls")
    printed = ctr.out("images", "convert", "--uncompress", layered[compression], "localhost/plain:1").strip()
    assert printed == target(ctr, "localhost/plain:1") != target(ctr, layered[compression])
    manifest = document(ctr, printed)
    config = document(ctr, manifest["config"]["digest"])
    assert [layer["mediaType"] for layer in manifest["layers"]] == [images.LAYER] * 3
    assert [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
    # The configuration did not change.
    assert manifest["config"] == document(ctr, target(ctr, layered[compression]))["config"]
    have = labels(ctr, printed)
    assert {v for k, v in have.items() if k.startswith("containerd.io/gc.ref.content")} == {
        d["digest"] for d in [manifest["config"], *manifest["layers"]]}
    for layer in manifest["layers"]:
        assert "containerd.io/uncompressed" not in labels(ctr, layer["digest"])
    # Without the source, and after a collection, the new image is whole and runs.
    ctr("images", "rm", "--sync", layered[compression])
    checked = [r for r in rows(ctr.out("images", "check")) if r[0] == "localhost/plain:1"][0]
    assert "complete" in checked and checked[-1] == "true"
    assert ctr.out("snapshots", "ls") == before
    assert ctr.out("run", "--rm", "localhost/plain:1", name, "cat", "/data/third") == "3"


def test_docker_types_become_oci_types(ctr, registry, busybox_layout, name):
    ref = f"{registry.host}/docker:1"
    run(["skopeo", "--insecure-policy", "copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{busybox_layout}", f"docker://{ref}"])
    ctr("images", "pull", "--plain-http", ref)
    old = document(ctr, target(ctr, ref))
    assert old["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    new = document(ctr, ctr.out("images", "convert", "--oci", ref, "localhost/oci:1").strip())
    assert new["mediaType"] == images.MANIFEST and new["config"]["mediaType"] == images.CONFIG
    assert [layer["mediaType"] for layer in new["layers"]] == [images.LAYER + "+gzip"] * len(old["layers"])
    assert [layer["digest"] for layer in new["layers"]] == [layer["digest"] for layer in old["layers"]]
    row = [r for r in rows(ctr.out("images", "ls")) if r[0] == "localhost/oci:1"][0]
    assert row[1] == images.MANIFEST
    ctr("images", "rm", "--sync", ref)
    assert ctr.out("run", "--rm", "localhost/oci:1", name, "echo", "there") == "there\n"


def test_a_docker_image_without_the_flag_keeps_its_types(ctr, registry, busybox_layout):
    ref = f"{registry.host}/docker:2"
    run(["skopeo", "--insecure-policy", "copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{busybox_layout}", f"docker://{ref}"])
    ctr("images", "pull", "--plain-http", ref)
    new = document(ctr, ctr.out("images", "convert", "--uncompress", ref, "localhost/plain:2").strip())
    assert new["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert {layer["mediaType"] for layer in new["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar"}


def test_where_nothing_changes_the_digest_stays_and_nothing_is_written(ctr, layered, tmp_path):
    layout = images.layered_layout(tmp_path / "plain", "plain").rsplit(":", 1)[0]
    run(["tar", "-C", layout, "-cf", tmp_path / "plain.tar", "."])
    ctr("images", "import", "--base-name", "localhost/plain", tmp_path / "plain.tar")
    ctr("images", "pull", "--plain-http", layered["gzip"])
    content = ctr.out("content", "ls", "-q")
    for ref, flags in (("localhost/plain:latest", ["--uncompress", "--oci"]), (layered["gzip"], ["--oci", "--all-platforms"])):
        assert ctr.out("images", "convert", *flags, ref, "localhost/same:1").strip() == target(ctr, ref) == target(ctr, "localhost/same:1")
    # Onto itself it is an update.
    ctr("images", "convert", layered["gzip"], layered["gzip"])
    assert ctr.out("content", "ls", "-q") == content


def test_an_index_keeps_this_hosts_platform_only(ctr, two_platforms):
    ctr("images", "pull", "--plain-http", "--all-platforms", two_platforms)
    old = document(ctr, target(ctr, two_platforms))
    new = ctr.out("images", "convert", two_platforms, "localhost/one:1").strip()
    assert document(ctr, new)["manifests"] == old["manifests"][:1]
    kept = {v for k, v in labels(ctr, new).items() if k.startswith("containerd.io/gc.ref")}
    assert kept == {old["manifests"][0]["digest"]}
    arm = ctr.out("images", "convert", "--platform", "linux/arm64", two_platforms, "localhost/one:1").strip()
    assert document(ctr, arm)["manifests"] == old["manifests"][1:]
    assert target(ctr, "localhost/one:1") == arm
    both = ctr.out("images", "convert", "--all-platforms", "--uncompress", two_platforms, "localhost/both:1").strip()
    manifests = document(ctr, both)["manifests"]
    assert [m["platform"] for m in manifests] == [m["platform"] for m in old["manifests"]]
    ctr("images", "rm", "--sync", two_platforms, "localhost/one:1")
    for m in manifests:
        for layer in document(ctr, m["digest"])["layers"]:
            assert layer["mediaType"] == images.LAYER
            ctr("content", "get", layer["digest"], binary=True)


def test_what_is_not_there_cannot_be_converted(ctr, two_platforms):
    ctr("images", "pull", "--plain-http", "--skip-metadata", two_platforms)
    for flags, text in ((["--all-platforms"], "not found"), (["--platform", "linux/s390x"], "nothing for the platform"),
                        (["--erofs", "lzma"], "unsupported erofs format")):
        failed = ctr("images", "convert", *flags, two_platforms, "localhost/none:1", check=False)
        assert failed.returncode == 1 and text in failed.stderr.lower(), failed.stderr
    assert "localhost/none:1" not in ctr.quiet("images", "ls", "-q")
    assert ctr("images", "convert", two_platforms, check=False).returncode == 1
    assert ctr.quiet("leases", "ls", "-q") == []


def test_a_layer_that_is_not_what_its_name_says_leaves_nothing_behind(ctr, tmp_path):
    layout = images.Layout(tmp_path / "broken")
    image = layout.image([images.tar_of([("a", b"1" * 100000)])])
    manifest = json.loads((layout.dir / "blobs/sha256" / image["digest"][7:]).read_text())
    blob = layout.dir / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    cut = layout.blob(blob.read_bytes()[:-20], manifest["layers"][0]["mediaType"])
    manifest["layers"] = [cut]
    layout.index([layout.blob(manifest, images.MANIFEST)])
    archive = tmp_path / "a.tar"
    run(["tar", "-C", layout.dir, "-cf", archive, "."])
    ctr("images", "import", "--no-unpack", "--base-name", "localhost/broken", archive)
    failed = ctr("images", "convert", "--uncompress", "localhost/broken:latest", "localhost/x:1", check=False)
    assert failed.returncode == 1 and "unexpected end" in failed.stderr and cut["digest"] in failed.stderr
    assert ctr.quiet("content", "active")[3:] == []


@contextlib.contextmanager
def held(ctr, ref):
    """Somebody else writes this ingest."""
    p = ctr.popen("content", "ingest", ref, stdin=subprocess.PIPE)
    try:
        p.stdin.write(b"x")
        p.stdin.flush()
        until("the ingest to begin", lambda: ref in ctr.out("content", "active"))
        yield
    finally:
        p.kill()
        p.communicate()


def first_layer(ctr, ref):
    return document(ctr, target(ctr, ref))["layers"][0]["digest"]


def test_what_somebody_else_writes_is_waited_for(ctr, layered):
    ctr("images", "pull", "--plain-http", layered["gzip"])
    with held(ctr, "convert-uncompress-from-" + first_layer(ctr, layered["gzip"])):
        p = ctr.popen("images", "convert", "--uncompress", layered["gzip"], "localhost/plain:1", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(3)
    assert p.wait(SECONDS) == 0, p.stderr.read()
    assert "localhost/plain:1" in ctr.quiet("images", "ls", "-q")


def test_a_conversion_that_takes_too_long_gives_its_lease_back(ctr, layered):
    ctr("images", "pull", "--plain-http", layered["gzip"])
    with held(ctr, "convert-uncompress-from-" + first_layer(ctr, layered["gzip"])):
        late = ctr("--timeout", "8s", "images", "convert", "--uncompress", layered["gzip"], "localhost/plain:1", check=False)
    assert late.returncode == 1 and "deadline exceeded" in late.stderr and "delete lease" not in late.stderr
    assert not ctr.quiet("leases", "ls", "-q")


def test_manifests_in_the_place_of_layers_have_an_end(ctr, daemon, stubs):
    api = evil.Api(stubs, daemon)
    made = []

    def put(document, media_type):
        data = json.dumps(document).encode()
        made.append("sha256:" + hashlib.sha256(data).hexdigest())
        request = api.content.Write.request(action=2, ref=made[-1], expected=made[-1], total=len(data), data=data,
                                            labels={"containerd.io/gc.root": "1"})
        list(api.content.stub.Write(iter([request]), metadata=api.metadata()))
        return {"mediaType": media_type, "digest": made[-1], "size": len(data)}

    config = put({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}, images.CONFIG)
    top = []
    for _ in range(12):
        top = [put({"schemaVersion": 2, "config": config, "layers": top}, images.MANIFEST)]
    api.images.Create(image={"name": "localhost/deep:1", "target": {"media_type": top[0]["mediaType"], "digest": top[0]["digest"], "size": top[0]["size"]}})
    p = ctr("images", "convert", "--uncompress", "localhost/deep:1", "localhost/plain:1", check=False)
    assert p.returncode == 1 and "nested too deeply" in p.stderr, p.stderr
    ctr("images", "rm", "localhost/deep:1")
    ctr("content", "rm", *made)
    api.close()


def test_layers_of_some_megabytes_are_converted(ctr, tmp_path):
    """They are read and written at the same time, by two threads on one connection."""
    layout = images.Layout(tmp_path / "l")
    tars = [images.tar_of([(f"{i}", os.urandom(6 << 20))]) for i in range(3)]
    (layout.dir / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {**layout.image(tars), "annotations": {"org.opencontainers.image.ref.name": "1"}}]}))
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "l.tar", "."])
    ctr("images", "import", "--no-unpack", "--base-name", "localhost/big", tmp_path / "l.tar")
    converted = ctr.out("images", "convert", "--uncompress", "localhost/big:1", "localhost/plain:1").strip()
    assert [layer["digest"] for layer in document(ctr, converted)["layers"]] == ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]
