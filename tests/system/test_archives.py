# SPDX-License-Identifier: Apache-2.0
"""Archives that others make, imported; our exports, read by others."""
import gzip
import json
import subprocess
import tarfile

import pytest

import evil
import images
from harness import SECONDS, rows, run, until


@pytest.fixture
def ns(ctr, request):
    """A namespace of the test's own, emptied afterwards."""
    n = request.node.name.replace("[", "-").replace("]", "")[:60]
    yield n
    names = ctr.quiet("images", "ls", "-q", ns=n)
    if names:
        ctr("images", "rm", "--sync", *names, ns=n)


def skopeo(source, target, *flags):
    run(["skopeo", "--insecure-policy", "copy", "-q", *flags, source, target])


def target(ctr, ref, ns):
    return [r for r in rows(ctr.out("images", "ls", ns=ns)) if r[0] == ref][0][2]


def manifest(ctr, ref, ns):
    return json.loads(ctr.out("content", "get", target(ctr, ref, ns), ns=ns))


def labels(ctr, digest, ns):
    line = [line for line in ctr.out("content", "ls", ns=ns).splitlines() if line.startswith(digest)][0]
    return dict(word.split("=", 1) for word in line.split("\t")[-1].strip().split(",") if "=" in word)


def checked(ctr, ref, ns):
    row = [r for r in rows(ctr.out("images", "check", ns=ns)) if r[0] == ref][0]
    return "complete" in row, row[-1] == "true"


def docker_archive(layout, tmp_path, name="frog:1"):
    archive = tmp_path / "docker.tar"
    skopeo(f"oci:{layout}", f"docker-archive:{archive}:{name}")
    return archive


def as_docker_archive(layout, tmp_path):
    return docker_archive(layout, tmp_path)


def as_oci_archive(layout, tmp_path):
    skopeo(f"oci:{layout}", f"oci-archive:{tmp_path}/oci.tar:docker.io/library/frog:1")
    return tmp_path / "oci.tar"


def as_tarred_directory(layout, tmp_path):
    skopeo(f"oci:{layout}", f"oci:{tmp_path}/dir:docker.io/library/frog:1")
    run(["tar", "-C", tmp_path / "dir", "-cf", tmp_path / "dir.tar", "."])
    return tmp_path / "dir.tar"


def as_gzipped_archive(layout, tmp_path):
    archive = as_oci_archive(layout, tmp_path)
    (tmp_path / "oci.tar.gz").write_bytes(gzip.compress(archive.read_bytes()))
    return tmp_path / "oci.tar.gz"


def as_zstd_archive(layout, tmp_path):
    archive = as_docker_archive(layout, tmp_path)
    run(["zstd", "-q", archive])
    return tmp_path / "docker.tar.zst"


@pytest.mark.parametrize("make", [as_docker_archive, as_oci_archive, as_tarred_directory, as_gzipped_archive, as_zstd_archive])
def test_archives_of_skopeo_are_images_that_run(ctr, busybox_layout, tmp_path, ns, name, make):
    ctr("images", "import", make(busybox_layout, tmp_path), ns=ns)
    assert ctr.quiet("images", "ls", "-q", ns=ns) == ["docker.io/library/frog:1"]
    assert checked(ctr, "docker.io/library/frog:1", ns) == (True, True)
    out = ctr.out("run", "--rm", "docker.io/library/frog:1", name, "sh", "-c", "cat /etc/os-release; stat -c %u /home/alice; echo $FROM_IMAGE", ns=ns)
    assert out == "ID=busybox-test\n1000\nyes\n"


def test_an_archive_of_several_images_has_them_all(ctr, busybox_layout, tmp_path, ns):
    archive = tmp_path / "all.tar"
    skopeo(f"oci:{busybox_layout}", f"docker-archive:{archive}:frog:1", "--additional-tag", "docker.io/library/toad:2", "--additional-tag",
           "quay.io/x/newt:3")
    ctr("images", "import", "--no-unpack", archive, ns=ns)
    assert sorted(ctr.quiet("images", "ls", "-q", ns=ns)) == ["docker.io/library/frog:1", "docker.io/library/toad:2", "quay.io/x/newt:3"]
    assert rows(ctr.out("snapshots", "ls", ns=ns)) == []


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_run_unpacks_what_was_imported_without(ctr, busybox_layout, tmp_path, ns, snapshotter):
    skopeo(f"oci:{busybox_layout}", f"docker-archive:{tmp_path / 'plain.tar'}:plain:1")
    ctr("images", "import", "--no-unpack", tmp_path / "plain.tar", ns=ns)
    ref, = ctr.quiet("images", "ls", "-q", ns=ns)
    for _ in range(2):
        assert ctr.out("run", "--rm", "--snapshotter", snapshotter, ref, "unpacks", "echo", "there", ns=ns) == "there\n"
    layers = rows(ctr.out("snapshots", "--snapshotter", snapshotter, "ls", ns=ns))
    assert layers and all(row[-1] == "Committed" for row in layers)
    assert rows(ctr.out("leases", "ls", ns=ns)) == []


def test_platform_takes_that_platform_of_an_index(ctr, tmp_path, ns):
    images.two_platform_layout(tmp_path / "two")
    run(["tar", "-C", tmp_path / "two", "-cf", tmp_path / "two.tar", "."])
    ctr("images", "import", "--base-name", "localhost/two", "--platform", "linux/arm64", tmp_path / "two.tar", ns=ns)
    children = manifest(ctr, "localhost/two:latest", ns)["manifests"]
    have = ctr.quiet("content", "ls", "-q", ns=ns)
    assert [c["platform"]["architecture"] for c in children if c["digest"] in have] == ["arm64"]
    assert len(rows(ctr.out("snapshots", "ls", ns=ns))) == 1


def test_compressed_layers_give_the_same_snapshots(ctr, busybox_layout, tmp_path, ns, name):
    archive = docker_archive(busybox_layout, tmp_path)
    ctr("images", "import", archive, ns=ns)
    plain, snapshots = manifest(ctr, "docker.io/library/frog:1", ns), ctr.out("snapshots", "ls", ns=ns)
    assert {layer["mediaType"] for layer in plain["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar"}
    for _ in range(2):
        ctr("images", "import", "--compress-blobs", archive, ns=ns)
        packed = manifest(ctr, "docker.io/library/frog:1", ns)
        assert {layer["mediaType"] for layer in packed["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    assert packed["config"] == plain["config"] and ctr.out("snapshots", "ls", ns=ns) == snapshots
    for old, new in zip(plain["layers"], packed["layers"]):
        assert new["size"] < old["size"] and labels(ctr, new["digest"], ns)["containerd.io/uncompressed"] == old["digest"]
        blob = ctr.out("content", "get", new["digest"], ns=ns, binary=True)
        assert len(blob) == new["size"] and len(gzip.decompress(blob)) == old["size"]
    assert ctr.out("run", "--rm", "docker.io/library/frog:1", name, "echo", "there", ns=ns) == "there\n"


def test_discarded_layers_are_collected_and_the_image_still_runs(ctr, busybox_layout, tmp_path, ns, name):
    archive = docker_archive(busybox_layout, tmp_path)
    ctr("images", "import", "--discard-unpacked-layers", archive, ns=ns)
    ctr("leases", "rm", "--sync", ctr.out("leases", "create", ns=ns).strip(), ns=ns)
    m = manifest(ctr, "docker.io/library/frog:1", ns)
    have = ctr.quiet("content", "ls", "-q", ns=ns)
    assert m["config"]["digest"] in have and not {layer["digest"] for layer in m["layers"]} & set(have)
    assert ctr.quiet("leases", "ls", "-q", ns=ns) == []
    assert ctr.out("run", "--rm", "docker.io/library/frog:1", name, "echo", "there", ns=ns) == "there\n"


def test_synced_import_and_pull_unpack(ctr, busybox_layout, busybox, tmp_path, ns):
    ctr("images", "import", "--sync-fs", docker_archive(busybox_layout, tmp_path), ns=ns)
    assert checked(ctr, "docker.io/library/frog:1", ns) == (True, True)
    ctr("images", "rm", "--sync", "docker.io/library/frog:1", ns=ns)
    assert rows(ctr.out("snapshots", "ls", ns=ns)) == []
    ctr("images", "pull", "--plain-http", "--sync-fs", busybox, ns=ns)
    assert checked(ctr, busybox, ns) == (True, True)
    assert ctr.quiet("leases", "ls", "-q", ns=ns) == []


def test_flags_that_exclude_each_other_are_refused(ctr, tmp_path):
    for flags, text in ((["--skip-digest-for-named"], "--digests"), (["--discard-unpacked-layers", "--no-unpack"], "incompatible")):
        failed = ctr("images", "import", *flags, tmp_path / "none.tar", check=False)
        assert failed.returncode == 1 and text in failed.stderr


# ---- export ----

def test_skopeo_and_umoci_read_an_export(ctr, image, tmp_path):
    archive = tmp_path / "image.tar"
    ctr("images", "export", archive, image)
    for kind in ("oci-archive", "docker-archive"):
        assert "FROM_IMAGE=yes" in json.loads(run(["skopeo", "inspect", f"{kind}:{archive}"]).stdout)["Env"], kind
        skopeo(f"{kind}:{archive}", f"dir:{tmp_path}/{kind}")
    (tmp_path / "layout").mkdir()
    run(["tar", "-C", tmp_path / "layout", "-xf", archive])
    run(["umoci", "unpack", "--image", f"{tmp_path}/layout:latest", tmp_path / "bundle"])
    assert (tmp_path / "bundle/rootfs/etc/os-release").read_text() == "ID=busybox-test\n"


def names_in(archive):
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_export_leaves_out_what_it_is_told_to(ctr, image, two_platforms, tmp_path):
    archive = tmp_path / "a.tar"
    ctr("images", "export", "--skip-manifest-json", archive, image)
    assert "manifest.json" not in names_in(archive)
    ctr("images", "pull", "--plain-http", "--all-platforms", two_platforms)
    top = json.loads(ctr.out("content", "get", [r for r in rows(ctr.out("images", "ls")) if r[0] == two_platforms][0][2]))
    amd, arm = ("blobs/sha256/" + m["digest"][7:] for m in top["manifests"])
    for flags, there in (([], [amd]), (["--platform", "linux/arm64"], [arm]), (["--all-platforms"], [amd, arm])):
        ctr("images", "export", *flags, archive, two_platforms)
        assert [n for n in names_in(archive) if n in (amd, arm)] == there


def test_export_skips_layers_that_are_not_to_be_distributed(ctr, tmp_path, ns):
    layout = images.Layout(tmp_path / "l")
    image = layout.image([images.tar_of([("a", b"1")]), images.tar_of([("b", b"2")])])
    path = layout.dir / "blobs/sha256" / image["digest"][7:]
    document = json.loads(path.read_text())
    document["layers"][1]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layout.index([layout.blob(document, images.MANIFEST)])
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "l.tar", "."])
    ctr("images", "import", "--base-name", "localhost/l", tmp_path / "l.tar", ns=ns)
    blobs = ["blobs/sha256/" + layer["digest"][7:] for layer in document["layers"]]
    ctr("images", "export", tmp_path / "out.tar", "localhost/l:latest", ns=ns)
    assert set(blobs) <= set(names_in(tmp_path / "out.tar"))
    ctr("images", "export", "--skip-non-distributable", tmp_path / "out.tar", "localhost/l:latest", ns=ns)
    assert blobs[0] in names_in(tmp_path / "out.tar") and blobs[1] not in names_in(tmp_path / "out.tar")


def test_what_refers_to_an_imported_image_is_kept_with_it(ctr, tmp_path, ns):
    layout = images.Layout(tmp_path / "l")
    image = layout.image([images.tar_of([("a", b"1")])])
    signature = layout.blob({"schemaVersion": 2, "mediaType": images.MANIFEST, "artifactType": "application/x-signature",
                             "config": layout.blob({}, "application/vnd.oci.empty.v1+json"), "layers": [],
                             "subject": {k: image[k] for k in ("mediaType", "digest", "size")}}, images.MANIFEST)
    (layout.dir / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {**image, "annotations": {"org.opencontainers.image.ref.name": "1"}},
        {**signature, "annotations": {"io.containerd.manifest.subject": image["digest"]}}]}))
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "l.tar", "."])
    ctr("images", "import", "--base-name", "localhost/l", "--digests", tmp_path / "l.tar", ns=ns)
    assert sorted(ctr.quiet("images", "ls", "-q", ns=ns)) == ["localhost/l:1", "localhost/l@" + image["digest"]]
    key = "containerd.io/gc.ref.content.referrer.sha256." + signature["digest"][7:19]
    assert labels(ctr, image["digest"], ns)[key] == signature["digest"]
    ctr("content", "garbage-collect", ns=ns)
    assert json.loads(ctr.out("content", "get", signature["digest"], ns=ns))["artifactType"] == "application/x-signature"
    ctr("images", "rm", "--sync", "localhost/l:1", "localhost/l@" + image["digest"], ns=ns)
    assert not ctr.quiet("content", "ls", "-q", ns=ns)


def test_export_to_a_pipe_is_import_from_one(ctr, image, ns):
    out = ctr.popen("images", "export", "-", image, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    taken = ctr.popen("images", "import", "-", ns=ns, stdin=out.stdout, stdout=subprocess.DEVNULL)
    out.stdout.close()
    assert (taken.wait(SECONDS), out.wait(SECONDS)) == (0, 0)
    assert ctr.quiet("images", "ls", "-q", ns=ns) == [image]


def test_archive_of_a_daemon_that_was_killed_does_not_stay(tmp_path):
    d = evil.new_daemon()
    d.start()
    p = d.ctr.popen("images", "import", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    info = tarfile.TarInfo("big")
    info.size = 1 << 20
    p.stdin.write(info.tobuf() + bytes(info.size))
    p.stdin.flush()
    until("the import to begin", lambda: list(d.root.glob("*/tmp/import-*/big")))
    d.kill()
    p.kill()
    p.communicate()
    d.start()
    assert not list(d.root.glob("*/tmp/*"))
    d.close()
