# SPDX-License-Identifier: Apache-2.0
"""Layers made of what containers changed: `ctr snapshots diff` and Diff.Diff, against Debian's containerd and against the tree itself."""
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile

import pytest

from harness import DEBIAN_CONTAINERD, DEBIAN_CTR, Daemon, rows, run, until
from test_grpc import INVALID, SECONDS, UNIMPLEMENTED, Api, fails

GZIP, ZSTD, PLAIN = (f"application/vnd.oci.image.layer.v1.tar{s}" for s in ("+gzip", "+zstd", ""))
LONG = "/".join(["a-directory-with-a-long-name"] * 5) + "/" + "file" * 40

# Everything that an image build does to a tree, and some of what only people do.
CHANGES = f"""set -e
echo new > /added; chown 1000:2000 /added; chmod 4751 /added
mkdir -p /deep/a/b; echo x > /deep/a/b/f; mkdir /deep/empty
echo more >> /etc/passwd
rm /etc/os-release
chmod 700 /home/alice
mkdir /etc/sub; echo 1 > /etc/sub/one; mv /etc/sub /etc/renamed
mv /home /house
rm -rf /usr; echo now a file > /usr
rm /bin/vi; mkdir /bin/vi; echo in > /bin/vi/in
rm -rf /root; mkdir /root; echo fresh > /root/f
rm -rf /var
ln /added /zlinked; ln /added /deep/linked; ln -s added /symbolic
mkfifo /pipe
touch -d '2001-02-03 04:05:06' /added /deep/empty /symbolic-not-there
mkdir -p /{os.path.dirname(LONG)}; echo long > /{LONG}
echo u > "/ümläut"; echo o > /with\\ space
touch /tmp/later; rm /tmp/later
dd if=/dev/urandom of=/big bs=1024 count=3000 2>/dev/null
"""


def layer(ctr, *args):
    return ctr("snapshots", "diff", *args, binary=True).stdout


def entries(data):
    """What a layer says, entry by entry, as far as it does not depend on when it was made."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for e in tar:
            content = hashlib.sha256(tar.extractfile(e).read()).hexdigest() if e.isfile() and e.name != "big" else ""
            found.append((e.name, e.type, e.linkname, oct(e.mode), e.uid, e.gid, e.size, content, e.devmajor, e.devminor,
                          int(e.mtime) if e.mtime < 1e9 else "now"))
    return found


def changed(ctr, image, name, *flags, script=CHANGES):
    ctr("run", "--net-host", *flags, image, name, "sh", "-c", script)
    return name


@pytest.fixture(scope="module")
def peer(busybox):
    d = Daemon(containerd=DEBIAN_CONTAINERD, ctr=DEBIAN_CTR)
    d.start()
    d.ctr("images", "pull", "--plain-http", busybox)
    yield d.ctr
    d.close()


@pytest.fixture(scope="module")
def snapshot(ctr, image):
    """Key of the snapshot of a container that has made all the changes."""
    return changed(ctr, image, "changes")


@pytest.fixture(scope="module")
def api(stubs, daemon):
    a = Api(stubs, daemon.address)
    yield a
    a.channel.close()


@pytest.fixture(scope="module")
def left(api, ctr, snapshot):
    """Mounts of the snapshot's parent, in a view."""
    parent = json.loads(ctr.out("snapshots", "info", snapshot))["Parent"]
    m = api.snapshots_pb
    request = m.ViewSnapshotRequest(snapshotter="overlayfs", key="left", parent=parent, labels={"containerd.io/gc.root": "now"})
    view = api.snapshots.View(request, metadata=default(), timeout=SECONDS)
    yield list(view.mounts)
    api.snapshots.Remove(m.RemoveSnapshotRequest(snapshotter="overlayfs", key="left"), metadata=default(), timeout=SECONDS)


def default():
    return [("containerd-namespace", "default")]


def mounts_of(api, key, snapshotter="overlayfs"):
    m = api.snapshots_pb
    return list(api.snapshots.Mounts(m.MountsRequest(snapshotter=snapshotter, key=key), metadata=default(), timeout=SECONDS).mounts)


def diff(api, left, right, labels=None, **more):
    """Diff.Diff, of which the result is kept."""
    request = api.diff_pb.DiffRequest(left=left, right=right, labels={"containerd.io/gc.root": "now", **(labels or {})}, **more)
    return api.diff.Diff(request, metadata=default(), timeout=SECONDS).diff


def tree(root):
    """Path -> all that a layer keeps of an entry."""
    found = {}
    inodes = {}
    for at, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(at, name)
            st, rel = os.lstat(path), os.path.relpath(path, root)
            what = ""
            if stat.S_ISREG(st.st_mode):
                what = hashlib.sha256(open(path, "rb").read()).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                what = os.readlink(path)
            times = () if stat.S_ISDIR(st.st_mode) else (st.st_mtime_ns,)
            found[rel] = (oct(st.st_mode), st.st_uid, st.st_gid, what, st.st_rdev, *times)
            if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
                inodes.setdefault(st.st_ino, set()).add(rel)
    return found, {frozenset(names) for names in inodes.values()}


def mounted(ctr, key, where, *flags):
    where.mkdir()
    run(["sh", "-c", ctr.out("snapshots", *flags, "mounts", where, key)])
    try:
        return tree(where)
    finally:
        run(["umount", where])


def test_layer_has_the_entries_of_debians(ctr, peer, snapshot, busybox):
    ours, theirs = entries(layer(ctr, snapshot)), entries(layer(peer, changed(peer, busybox, "changes")))
    assert len(ours) > 35 and sorted(ours) == sorted(theirs)
    assert [e[0] for e in ours] == [e[0] for e in theirs]


def test_layer_names_what_was_removed_and_not_what_stayed(ctr, snapshot):
    names = [e[0] for e in entries(layer(ctr, snapshot))]
    for there in (".wh.home", ".wh.var", "etc/.wh.os-release", "etc/passwd", "etc", "usr", "bin/vi", "bin/vi/in", "root", "root/f",
                  "house/alice", "etc/renamed/one", "deep/empty", "pipe", LONG, "ümläut", "with space"):
        assert there in names, there
    for absent in ("bin/busybox", "etc/group", ".wh.usr", ".wh.root", "bin/.wh.vi", "etc/sub", "usr/.wh.bin", "tmp/.wh.later"):
        assert absent not in names, absent


def test_whole_trees_compared_give_the_same_layer(ctr, busybox, snapshot, image):
    ctr("images", "pull", "--plain-http", "--snapshotter", "native", busybox)
    ctr("run", "--net-host", "--snapshotter", "native", image, "native", "sh", "-c", CHANGES)
    native = ctr("snapshots", "--snapshotter", "native", "diff", "native", binary=True).stdout
    assert entries(native) == entries(layer(ctr, snapshot))


def test_applied_to_the_parent_gives_the_same_tree(api, ctr, snapshot, tmp_path):
    parent = json.loads(ctr.out("snapshots", "info", snapshot))["Parent"]
    d = api.diff_pb
    data = layer(ctr, "--keep", snapshot)
    blob = "sha256:" + hashlib.sha256(data).hexdigest()
    want = mounted(ctr, snapshot, tmp_path / "want")
    for snapshotter in ("overlayfs", "native"):
        ctr("snapshots", "--snapshotter", snapshotter, "prepare", "applied", parent)
        request = d.ApplyRequest(mounts=mounts_of(api, "applied", snapshotter))
        request.diff.media_type, request.diff.digest, request.diff.size = GZIP, blob, len(data)
        applied = api.diff.Apply(request, metadata=default(), timeout=SECONDS).applied
        assert applied.digest == "sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest()
        got = mounted(ctr, "applied", tmp_path / snapshotter, "--snapshotter", snapshotter)
        assert got[0] == want[0]
        assert {"added", "zlinked", "deep/linked"} in got[1] and {"added", "zlinked", "deep/linked"} in want[1]
        ctr("snapshots", "--snapshotter", snapshotter, "rm", "applied")
    ctr("content", "rm", blob)


def test_layer_is_kept_only_when_asked_for(ctr, snapshot):
    data = layer(ctr, snapshot)
    blob = "sha256:" + hashlib.sha256(data).hexdigest()
    ctr("leases", "create", "--id", "now")
    ctr("leases", "rm", "--sync", "now")
    assert blob not in ctr.quiet("content", "ls", "-q")
    assert layer(ctr, "--keep", "--ref", "my-ref", "--label", "why=test", snapshot) == data
    ctr("leases", "create", "--id", "now")
    ctr("leases", "rm", "--sync", "now")
    line = [r for r in rows(ctr.out("content", "ls")) if r[0] == blob][0][-1]
    assert "why=test" in line and "containerd.io/gc.root=" in line
    assert "containerd.io/uncompressed=sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest() in line
    assert rows(ctr.out("content", "active")) == []
    ctr("content", "rm", blob)


@pytest.mark.parametrize("media_type", [PLAIN, GZIP, ZSTD])
def test_formats_hold_the_same_archive(ctr, snapshot, media_type):
    data, plain = layer(ctr, "--media-type", media_type, snapshot), layer(ctr, "--media-type", PLAIN, snapshot)
    if media_type == ZSTD:
        data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    assert (gzip.decompress(data) if media_type == GZIP else data) == plain


def test_unknown_media_type_is_not_made(ctr, api, left, snapshot):
    refused = ctr("snapshots", "diff", "--media-type", "application/zip", snapshot, check=False)
    assert refused.returncode == 1 and "unsupported diff media type: application/zip: not implemented" in refused.stderr
    fails(UNIMPLEMENTED, "unsupported diff media type", api.diff.Diff,
          api.diff_pb.DiffRequest(left=left, right=left, media_type="application/zip"), metadata=default())
    fails(INVALID, "no mounts", api.diff.Diff, api.diff_pb.DiffRequest(left=left), metadata=default())


def test_diff_answers_with_the_descriptor_of_what_is_stored(api, left, snapshot):
    right, c = mounts_of(api, snapshot), api.content_pb
    d = diff(api, left, right, labels={"a": "b"})
    info = api.content.Info(c.InfoRequest(digest=d.digest), metadata=default(), timeout=SECONDS).info
    assert (d.media_type, d.size) == (GZIP, info.size)
    assert info.labels["a"] == "b" and info.labels["containerd.io/uncompressed"].startswith("sha256:")
    again = diff(api, left, right, ref="again", labels={"c": "d"})
    assert again.digest == d.digest
    info = api.content.Info(c.InfoRequest(digest=d.digest), metadata=default(), timeout=SECONDS).info
    assert (info.labels["a"], info.labels["c"]) == ("b", "d")
    assert diff(api, [], right).size > d.size
    none = diff(api, right, right, media_type=PLAIN)
    assert none.size == 1024 and none.digest == "sha256:" + hashlib.sha256(bytes(1024)).hexdigest()


def test_snapshot_of_a_running_container_is_read(ctr, image, name):
    ctr("run", "-d", image, name, "sh", "-c", "mkdir /made; echo 1 > /made/f; rm /etc/os-release; sleep 600")
    until("the container to have written", lambda: "etc/.wh.os-release" in [e[0] for e in entries(layer(ctr, name))])
    assert [e[0] for e in entries(layer(ctr, name)) if e[0] != "run"] == ["etc", "etc/.wh.os-release", "made", "made/f"]
    assert ctr.out("tasks", "exec", "--exec-id", "e", name, "cat", "/made/f") == "1\n"


def test_nothing_is_newer_than_the_epoch(api, ctr, left, snapshot):
    from google.protobuf.timestamp_pb2 import Timestamp
    when = 1_500_000_000
    d = diff(api, left, mounts_of(api, snapshot), media_type=PLAIN, source_date_epoch=Timestamp(seconds=when))
    data = ctr("content", "get", d.digest, binary=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        times = {e.name: e.mtime for e in tar}
    assert max(times.values()) == when and times[".wh.var"] == when and times["added"] < when


def test_committed_snapshots_are_compared_with_each_other(ctr, layered):
    ctr("images", "pull", "--plain-http", layered["gzip"], ns="chain")
    found = {r[0]: r[1] if len(r) == 3 else "" for r in rows(ctr.out("snapshots", "ls", ns="chain"))}
    base = [k for k, parent in found.items() if not parent][0]
    second = [k for k, parent in found.items() if parent == base][0]
    third = [k for k, parent in found.items() if parent == second][0]
    of = lambda *keys: [e[0] for e in entries(ctr("snapshots", "diff", *keys, ns="chain", binary=True).stdout)]
    assert of(second) == ["data", "data/change", "data/.wh.gone", "full", "full/new", "full/.wh.old"]
    assert of(base, third) == ["data", "data/change", "data/.wh.gone", "data/hard", "data/orig", "data/third", "full", "full/new", "full/.wh.old"]
    # The way back.
    assert of(third, second) == ["data", "data/.wh.hard", "data/.wh.orig", "data/.wh.third"]
