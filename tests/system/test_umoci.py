# SPDX-License-Identifier: Apache-2.0
"""What we unpack is, file by file and in all that can be seen of a file, what umoci unpacks."""
import subprocess

import pytest

import images
import trees
from harness import run


def debian(tmp_path):
    """A minimal Debian: what is essential, unpacked by mmdebstrap with what apt is set up to use here."""
    made = subprocess.run(["mmdebstrap", "--quiet", "--variant=extract", "--include=?essential", "bookworm", tmp_path / "debian.tar"], capture_output=True, text=True, timeout=600)
    if made.returncode != 0 and subprocess.run(["apt-get", "update", "--error-on=any"], capture_output=True, timeout=300).returncode != 0:
        pytest.skip("apt reaches no mirror")
    assert made.returncode == 0, made.stderr
    return [(tmp_path / "debian.tar").read_bytes()]


def busybox(_):
    return [images.busybox_tar()]


LAYERS = {"busybox": busybox, "debian": debian, "sparse": trees.sparse,
          **{f.__name__: lambda _, f=f: f() for f in (trees.hard_links, trees.whiteouts, trees.opaque_directories, trees.devices, trees.attributes,
                                                      trees.modes, trees.names, trees.odd_owners, trees.times, trees.many_layers,
                                                      trees.changed_types, trees.repeated_entries)},
          **{f"generated-{seed}": lambda _, seed=seed: trees.generated(seed) for seed in range(4)}}


@pytest.fixture
def unpacked(ctr, tmp_path):
    """Mounts an image, by ctr; returns the description of its tree."""
    target = tmp_path / "ours"
    target.mkdir()

    def look(ref, snapshotter):
        ctr("images", "mount", "--snapshotter", snapshotter, ref, target)
        try:
            return trees.describe(target)
        finally:
            ctr("images", "unmount", "--rm", "--snapshotter", snapshotter, target)

    yield look
    names = ctr.quiet("images", "ls", "-q")
    if names:
        ctr("images", "rm", "--sync", *names)


@pytest.mark.parametrize("what", LAYERS)
def test_trees_are_those_that_umoci_makes(ctr, unpacked, tmp_path, what):
    layout = images.Layout(tmp_path / "layout")
    # A Debian is much to compress.
    ref = layout.index([layout.image(LAYERS[what](tmp_path), compression="plain" if what == "debian" else "gzip")])
    rootfs = tmp_path / "theirs"
    run(["umoci", "raw", "unpack", "--image", ref, rootfs])
    theirs = trees.describe(rootfs)
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "layout.tar", "."])
    ctr("images", "import", "--no-unpack", "--base-name", f"localhost/{what}", tmp_path / "layout.tar")
    for snapshotter in ("overlayfs", "native"):
        ours = unpacked(f"localhost/{what}:latest", snapshotter)
        assert len(ours) > 2
        assert not (found := trees.differences(ours, theirs)), snapshotter + "\n" + "\n".join(found)


def test_sparse_files_of_gnu_tars_own_format_have_their_holes(ctr, unpacked, tmp_path):
    # umoci refuses these: what they were made of is the measure.
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as f:
        for at in range(0, 200 << 20, 5 << 20):
            f.seek(at)
            f.write(b"data%d" % at)
        f.truncate(210 << 20)
    tar = run(["tar", "-C", source, "--sparse", "--format=gnu", "-cf", "-", "."], binary=True).stdout
    assert len(tar) < 1 << 20
    layout = images.Layout(tmp_path / "layout")
    layout.index([layout.image([tar])])
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "layout.tar", "."])
    ctr("images", "import", "--base-name", "localhost/sparse", tmp_path / "layout.tar")
    want = trees.describe(source)
    for what in want.values():
        what["mtime"] -= what["mtime"] % 1000000000
    assert not trees.differences(unpacked("localhost/sparse:latest", "overlayfs"), want)
