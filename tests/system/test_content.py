# SPDX-License-Identifier: Apache-2.0
"""ctr content and its neighbours, on what is there without a registry: edit, prune, collect, sizes, snapshots of images."""
import hashlib
import json
import pathlib

import pytest

import images
from harness import rows, run, until


@pytest.fixture
def ns(ctr, request):
    n = request.node.name.replace("[", "-").replace("]", "")[:60]
    yield n
    for key in [r[0] for r in rows(ctr.out("snapshots", "ls", ns=n)) if r[-1] in ("Active", "View")]:
        p = ctr("snapshots", "rm", key, check=False, ns=n)
        assert p.returncode == 0 or "not exist" in p.stderr, p.stderr  # or it was collected
    names = ctr.quiet("images", "ls", "-q", ns=n)
    if names:
        ctr("images", "rm", "--sync", *names, ns=n)


def pull(ctr, ref, ns):
    ctr("images", "pull", "--plain-http", ref, ns=ns)
    digest = [r for r in rows(ctr.out("images", "ls", ns=ns)) if r[0] == ref][0][2]
    return digest, json.loads(ctr.out("content", "get", digest, ns=ns))


def test_edit_stores_what_the_editor_leaves(ctr, busybox, ns, tmp_path):
    digest, manifest = pull(ctr, busybox, ns)
    env = {"ASAN_OPTIONS": "detect_leaks=0", "XDG_RUNTIME_DIR": str(tmp_path)}
    config = manifest["config"]["digest"]
    # An editor of two words, which puts a new file in the old one's place.
    new = ctr.out("content", "edit", "--editor", "sed -i s/FROM_IMAGE=yes/FROM_IMAGE=no/", config, ns=ns, env=env).strip()
    assert new != config and new in ctr.quiet("content", "ls", "-q", ns=ns)
    assert "FROM_IMAGE=no" in ctr.out("content", "get", new, ns=ns) and "FROM_IMAGE=yes" in ctr.out("content", "get", config, ns=ns)
    # $EDITOR; without a change it is the same blob.
    assert ctr.out("content", "edit", digest, ns=ns, env={**env, "EDITOR": "true"}).strip() == digest
    assert ctr.out("content", "edit", "--editor", "cat", digest, ns=ns, env=env).startswith('{"')
    assert list(tmp_path.iterdir()) == []


def test_edit_refuses_what_is_not_valid_and_leaves_nothing(ctr, busybox, ns, tmp_path):
    digest, _ = pull(ctr, busybox, ns)
    before = ctr.out("content", "ls", "-q", ns=ns)
    env = {"ASAN_OPTIONS": "detect_leaks=0", "XDG_RUNTIME_DIR": str(tmp_path), "EDITOR": ""}
    break_it = "sed -i s/{//"
    for flags, text in (([], "editor is required"), (["--editor", "false"], 'ended with status 1'), (["--editor", break_it, "--validate", "json"], "edited"),
                        (["--editor", "sed -i s/sha256:/sha1:/", "--validate", images.MANIFEST], "edited"),
                        (["--editor", "true", "--validate", "poetry"], "neither json")):
        failed = ctr("content", "edit", *flags, digest, ns=ns, env=env, check=False)
        assert failed.returncode == 1 and text in failed.stderr, failed.stderr
    assert ctr("content", "edit", "--editor", "true", "sha256:" + "0" * 64, ns=ns, env=env, check=False).returncode == 1
    assert ctr.out("content", "ls", "-q", ns=ns) == before and list(tmp_path.iterdir()) == []


def test_pruned_references_free_the_layers_and_not_the_snapshots(ctr, busybox, ns, name):
    digest, manifest = pull(ctr, busybox, ns)
    layers = {layer["digest"] for layer in manifest["layers"]}
    snapshots = ctr.out("snapshots", "ls", ns=ns)
    dry = ctr.out("content", "prune", "references", "--dry", ns=ns).splitlines()
    assert dry == [f"{digest} containerd.io/gc.ref.content.l.{i}" for i in range(len(layers))]
    assert layers <= set(ctr.quiet("content", "ls", "-q", ns=ns))
    ctr("content", "prune", "references", ns=ns)
    have = set(ctr.quiet("content", "ls", "-q", ns=ns))
    assert not layers & have and {digest, manifest["config"]["digest"]} <= have
    assert ctr.out("snapshots", "ls", ns=ns) == snapshots and ctr.quiet("leases", "ls", "-q", ns=ns) == []
    assert ctr.out("run", "--rm", busybox, name, "echo", "there", ns=ns) == "there\n"
    ctr("content", "prune", "references", "--async", ns=ns)


def ingest(ctr, ref, data, digest, label, **kw):
    """A blob with a label; again when a collection came between the two."""
    def labelled():
        ctr("content", "ingest", ref, input=data, binary=True, **kw)
        p = ctr("content", "label", digest, label, check=False, **kw)
        assert p.returncode == 0 or "not found" in p.stderr, p.stderr
        return p.returncode == 0
    until("the blob to be kept", labelled)


def test_garbage_collect_removes_what_nothing_refers_to(ctr, ns):
    data = ns.encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    lease = ctr.out("leases", "create", ns=ns).strip()
    ingest(ctr, "key", data, digest, "containerd.io/gc.root=now", ns=ns)
    ctr("content", "garbage-collect", ns=ns)
    assert ctr.quiet("content", "ls", "-q", ns=ns) == [digest]
    ctr("content", "label", digest, "containerd.io/gc.root=", ns=ns)
    ctr("content", "gc", ns=ns)
    assert ctr.quiet("content", "ls", "-q", ns=ns) == []
    assert ctr.quiet("leases", "ls", "-q", ns=ns) == [lease]
    ctr("leases", "rm", lease, ns=ns)


def test_unpacked_size_is_a_last_column_that_is_asked_for(ctr, busybox, ns):
    pull(ctr, busybox, ns)
    plain, wide = ctr.out("images", "ls", ns=ns), ctr.out("images", "ls", "--unpacked", ns=ns)
    assert plain.splitlines()[0].split() == ["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"]
    assert wide.splitlines()[0].split() == ["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS", "UNPACKED", "SIZE"]
    assert wide.splitlines()[1].startswith(plain.splitlines()[1].rstrip())
    used = sum(int(r[1]) for r in rows(ctr.out("snapshots", "usage", "-b", ns=ns)))
    shown = wide.split()[-2:]
    assert shown[1] == "MiB" and abs(float(shown[0]) * (1 << 20) - used) < 0.06 * (1 << 20)
    ctr("images", "rm", "--sync", busybox, ns=ns)
    ctr("images", "pull", "--plain-http", "--snapshotter", "native", busybox, ns=ns)
    assert ctr.out("images", "ls", "--unpacked", ns=ns).split()[-1] == "-"
    assert ctr.out("images", "ls", "--unpacked", "--snapshotter", "native", ns=ns).split()[-1] == "MiB"


def test_prepare_on_an_image_unpacks_it_first(ctr, busybox_layout, ns, tmp_path):
    archive = tmp_path / "a.tar"
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{busybox_layout}", f"oci-archive:{archive}:docker.io/library/frog:1"])
    ctr("images", "import", "--no-unpack", archive, ns=ns)
    ctr("snapshots", "prepare", "--image", "docker.io/library/frog:1", "mine", ns=ns)
    ctr("snapshots", "view", "--image", "docker.io/library/frog:1", "look", ns=ns)
    kinds = {r[0]: r[-1] for r in rows(ctr.out("snapshots", "ls", ns=ns))}
    assert (kinds["mine"], kinds["look"]) == ("Active", "View")
    both = ctr("snapshots", "prepare", "--image", "docker.io/library/frog:1", "more", "parent", ns=ns, check=False)
    assert both.returncode == 1 and "either --image or a parent" in both.stderr
    target = tmp_path / "m"
    target.mkdir()
    command = ctr.out("snapshots", "mounts", target, "mine", ns=ns)
    assert ctr.out("snapshots", "mounts", "--temp", target, "mine", ns=ns) == command
    assert ctr.quiet("leases", "ls", "-q", ns=ns) == []
    run(["sh", "-c", command])
    try:
        assert pathlib.Path(target / "etc/os-release").read_text() == "ID=busybox-test\n"
    finally:
        run(["umount", target])


def test_mount_without_a_target_tells_where_the_files_lie(ctr, busybox, layered, ns):
    chains = {}
    for ref, flags in ((busybox, []), (layered["gzip"], ["--snapshotter", "native"])):
        ctr("images", "pull", "--plain-http", "--print-chainid", *flags, ref, ns=ns)
        chain, where = ctr.out("images", "mount", *flags, ref, ns=ns).splitlines()
        chains[ref] = chain
        assert chain.startswith("sha256:") and (pathlib.Path(where) / "bin/busybox").exists()
    # An overlay of several layers is nowhere before it is mounted; nothing is left of the attempt.
    before = ctr.out("snapshots", "ls", ns=ns)
    ctr("images", "pull", "--plain-http", layered["gzip"], ns=ns)
    failed = ctr("images", "mount", layered["gzip"], ns=ns, check=False)
    assert failed.returncode == 1 and "target" in failed.stderr
    keys = [r[0] for r in rows(ctr.out("snapshots", "ls", ns=ns)) if "ctr-images-mount" in r[0]]
    assert len(keys) == 1 and keys[0] in before
    for flags in ([], ["--snapshotter", "native"]):
        for key in [r[0] for r in rows(ctr.out("snapshots", *flags, "ls", ns=ns)) if "ctr-images-mount" in r[0]]:
            ctr("snapshots", *flags, "rm", key, ns=ns)
            ctr("leases", "rm", key, ns=ns)


def test_a_mount_that_fails_leaves_an_earlier_one_its_lease(ctr, busybox, ns, tmp_path):
    pull(ctr, busybox, ns)
    target = tmp_path / "m"
    target.mkdir()
    ctr("images", "mount", busybox, target, ns=ns)
    try:
        failed = ctr("images", "mount", "--label", "=x", busybox, target, ns=ns, check=False)
        assert failed.returncode == 1 and "key=value" in failed.stderr
        ctr("content", "garbage-collect", ns=ns)
        assert str(target) in ctr.quiet("leases", "ls", "-q", ns=ns)
        assert str(target) in [r[0] for r in rows(ctr.out("snapshots", "ls", ns=ns))]
        assert (target / "bin/busybox").exists()
    finally:
        ctr("images", "unmount", "--rm", target, ns=ns)
    assert not ctr.quiet("leases", "ls", "-q", ns=ns)
