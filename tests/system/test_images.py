# SPDX-License-Identifier: Apache-2.0
"""Images: pulled from registries, named, checked, exported and imported with our ctr."""
import json
import tarfile

import pytest

from harness import PASSWORD, USER, rows

FIND = "cat /data/keep /data/change /data/third; ls /data; ls /full; stat -c %h /data/hard; readlink /link"
FOUND = "123change\nhard\nkeep\norig\nthird\nnew\n2\ndata/keep\n"


def image_row(ctr, ref):
    found = [r for r in rows(ctr.out("images", "ls")) if r[0] == ref]
    assert len(found) == 1, ctr.out("images", "ls")
    return found[0]


def test_pull_names_the_image_and_unpacks_it(ctr, busybox):
    ctr("images", "pull", "--plain-http", busybox)
    row = image_row(ctr, busybox)
    assert row[1] == "application/vnd.oci.image.manifest.v1+json" and row[2].startswith("sha256:")
    assert "linux/amd64" in row
    assert busybox in ctr.quiet("images", "ls", "-q")
    checked = [r for r in rows(ctr.out("images", "check")) if r[0] == busybox][0]
    assert "complete" in checked and checked[-1] == "true"


def test_pull_of_what_is_there_fetches_nothing_again(ctr, busybox, registry):
    ctr("images", "pull", "--plain-http", busybox)
    def fetches():
        return [line for line in registry.requests().splitlines() if "GET" in line and "/blobs/" in line]

    before = fetches()
    assert before
    ctr("images", "pull", "--plain-http", busybox)
    assert fetches() == before


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_layers_are_stacked_with_their_whiteouts(ctr, layered, compression, name):
    ctr("images", "pull", "--plain-http", layered[compression])
    assert ctr.out("run", "--rm", layered[compression], name, "sh", "-c", FIND) == FOUND


def test_native_snapshotter_stacks_layers_with_their_whiteouts(ctr, layered, name):
    ctr("images", "pull", "--plain-http", "--snapshotter", "native", layered["gzip"])
    assert ctr.out("run", "--rm", "--snapshotter", "native", layered["gzip"], name, "sh", "-c", FIND) == FOUND


def test_pull_takes_the_hosts_platform_of_an_index(ctr, two_platforms, name):
    ctr("images", "pull", "--plain-http", two_platforms)
    assert ctr.out("run", "--rm", two_platforms, name, "cat", "/arch") == "amd64\n"
    row = image_row(ctr, two_platforms)
    assert row[1] == "application/vnd.oci.image.index.v1+json"


def test_pull_by_platform_unpacks_that_platform(ctr, two_platforms, name):
    ns = "arm"
    ctr("images", "pull", "--plain-http", "--platform", "linux/arm64", two_platforms, ns=ns)
    committed = [r for r in rows(ctr.out("snapshots", "ls", ns=ns)) if r[-1] == "Committed"]
    assert len(committed) == 1
    mounts = json.loads(ctr.out("snapshots", "view", "--mounts", "look", committed[0][0], ns=ns))
    assert open(mounts[0]["Source"] + "/arch").read() == "arm64\n"
    ctr("snapshots", "rm", "look", ns=ns)


def test_pull_from_a_private_registry_with_the_password(ctr, private_registry, busybox_layout):
    ref = private_registry.push(busybox_layout, "secret/busybox:1")
    ctr("images", "pull", "--plain-http", "--user", f"{USER}:{PASSWORD}", ref)
    assert ref in ctr.quiet("images", "ls", "-q")


def test_pull_by_digest(ctr, busybox):
    ctr("images", "pull", "--plain-http", busybox)
    digest = image_row(ctr, busybox)[2]
    ref = busybox.rsplit(":", 1)[0] + "@" + digest
    ctr("images", "pull", "--plain-http", ref)
    assert image_row(ctr, ref)[2] == digest
    ctr("images", "rm", ref)


def test_pull_through_hosts_toml_asks_the_mirror(ctr, busybox, registry, tmp_path):
    (tmp_path / "example.test").mkdir()
    (tmp_path / "example.test/hosts.toml").write_text(
        f'server = "https://example.test"\n[host."http://{registry.host}"]\n  capabilities = ["pull", "resolve"]\n')
    ctr("images", "pull", "--hosts-dir", tmp_path, "example.test/library/busybox:latest")
    assert "ns=example.test" in registry.requests()
    ctr("images", "rm", "example.test/library/busybox:latest")


def test_tag_and_rm_leave_the_other_name(ctr, image, name):
    ctr("images", "tag", image, "localhost/other:1")
    assert image_row(ctr, "localhost/other:1")[2] == image_row(ctr, image)[2]
    again = ctr("images", "tag", image, "localhost/other:1", check=False)
    assert again.returncode == 1 and "already exists" in again.stderr
    ctr("images", "tag", "--force", image, "localhost/other:1")
    assert ctr.out("images", "rm", "--sync", "localhost/other:1").strip() == "localhost/other:1"
    assert "localhost/other:1" not in ctr.quiet("images", "ls", "-q")
    assert ctr.out("run", "--rm", image, name, "echo", "still") == "still\n"


def test_label_is_shown_and_filtered(ctr, image):
    ctr("images", "label", image, "colour=green")
    assert "colour=green" in ctr.out("images", "ls")
    assert ctr.quiet("images", "ls", "-q", "labels.colour==green") == [image]
    assert ctr.quiet("images", "ls", "-q", "labels.colour==red") == []
    ctr("images", "label", image, "colour=")
    assert "colour" not in ctr.out("images", "ls")


def test_export_is_an_archive_that_import_takes_back(ctr, image, tmp_path, name):
    archive = tmp_path / "image.tar"
    ctr("images", "export", archive, image)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        index = json.load(tar.extractfile("index.json"))
    assert "oci-layout" in names and "manifest.json" in names
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == image
    ctr("images", "import", archive, ns="imported")
    assert ctr.quiet("images", "ls", "-q", ns="imported") == [image]
    assert ctr.out("run", "--rm", image, name, "cat", "/etc/os-release", ns="imported") == "ID=busybox-test\n"


def test_export_is_read_by_skopeo(ctr, image, tmp_path):
    from harness import run
    archive = tmp_path / "image.tar"
    ctr("images", "export", archive, image)
    seen = json.loads(run(["skopeo", "inspect", f"oci-archive:{archive}"]).stdout)
    assert "FROM_IMAGE=yes" in seen["Env"]


def test_import_of_a_docker_archive_names_it_as_docker_does(ctr, busybox_layout, tmp_path):
    from harness import run
    archive = tmp_path / "docker.tar"
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{busybox_layout}", f"docker-archive:{archive}:frog:1"])
    ctr("images", "import", archive, ns="docker")
    assert ctr.quiet("images", "ls", "-q", ns="docker") == ["docker.io/library/frog:1"]


def test_mount_shows_the_files_and_unmount_takes_them_away(ctr, image, tmp_path):
    target = tmp_path / "m"
    target.mkdir()
    ctr("images", "mount", image, target)
    try:
        assert (target / "etc/os-release").read_text() == "ID=busybox-test\n"
    finally:
        ctr("images", "unmount", "--rm", target)
    assert not (target / "etc").exists()


def test_removing_the_last_name_frees_content_and_snapshots(ctr, busybox):
    ns = "freed"
    ctr("images", "pull", "--plain-http", busybox, ns=ns)
    assert ctr.quiet("content", "ls", "-q", ns=ns) and rows(ctr.out("snapshots", "ls", ns=ns))
    ctr("images", "rm", "--sync", busybox, ns=ns)
    assert ctr.quiet("content", "ls", "-q", ns=ns) == []
    assert rows(ctr.out("snapshots", "ls", ns=ns)) == []
