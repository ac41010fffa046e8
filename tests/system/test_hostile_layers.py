# SPDX-License-Identifier: Apache-2.0
"""Layers that were made to do harm: nothing is touched outside of the snapshot, damaged ones end in one error, the rest is unpacked as it is meant."""
import gzip
import io
import os
import stat
import subprocess
import tarfile

import pytest

import evil
from evil import OCI_LAYER, refused
from evil import api, daemon  # fixtures

NONE = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def outside(daemon):
    """A directory that no layer may touch."""
    d = daemon.dir / "outside"
    d.mkdir()
    (d / "victim").write_text("safe")
    os.chmod(d / "victim", 0o640)
    return d


@pytest.fixture
def reg():
    r = evil.Evil()
    yield r
    r.close()


@pytest.fixture(autouse=True)
def gone(api, daemon, outside):
    g = evil.Gone(api)
    yield g
    g.check(resumable=True)
    daemon.check_reports()
    api.remove_images()
    assert (api.snapshot_keys(), api.digests(), api.lease_ids()) == ([], [], [])
    assert os.listdir(daemon.root / "io.containerd.snapshotter.v1.overlayfs/snapshots") == []
    st = (outside / "victim").stat()
    assert os.listdir(outside) == ["victim"] and (outside / "victim").read_text() == "safe"
    assert (st.st_nlink, stat.S_IMODE(st.st_mode), st.st_uid) == (1, 0o640, 0)


# ---- archives ----

def item(name, kind=tarfile.REGTYPE, link="", data=b"", **kw):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o755
    for k, v in kw.items():
        setattr(info, k, v)
    return info, data


def file(name, data=b"evil", **kw):
    return item(name, data=data, **kw)


def directory(name, **kw):
    return item(name, tarfile.DIRTYPE, **kw)


def symlink(name, to):
    return item(name, tarfile.SYMTYPE, str(to))


def hardlink(name, to):
    return item(name, tarfile.LNKTYPE, str(to))


def device(name, major, minor, kind=tarfile.CHRTYPE):
    return item(name, kind, devmajor=major, devminor=minor)


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def image(reg, *tars):
    return reg.image("t", [(t, OCI_LAYER, t) for t in tars])


def up(path):
    return "../" * 40 + str(path).lstrip("/")


# What tries to get out of its directory stays in it: as a path below the root of the snapshot.
ESCAPES = {
    "absolute name": lambda out: [tar(file(f"{out}/victim"))],
    "dots": lambda out: [tar(file(up(out / "victim")))],
    "dots in the middle": lambda out: [tar(directory("a"), file(f"a/{up(out / 'victim')}"))],
    "link out, then below it": lambda out: [tar(symlink("l", out), file("l/victim"), file("l/new"))],
    "link up and out": lambda out: [tar(symlink("l", up(out)), file("l/victim"))],
    "link to a file, then the file": lambda out: [tar(symlink("l", out / "victim"), file("l"))],
    "link out in a layer below": lambda out: [tar(symlink("l", out)), tar(file("l/victim"))],
    "link to a link": lambda out: [tar(symlink("a", out), symlink("b", "a/"), file("b/victim"))],
    "directory over a link": lambda out: [tar(symlink("l", out), directory("l"), file("l/victim"))],
    "hard link to a link, then a file": lambda out: [tar(symlink("l", out / "victim"), hardlink("h", "l"), file("h"))],
    "whiteout below a link": lambda out: [tar(symlink("l", out)), tar(file("l/.wh.victim", b""))],
    "opaque directory below a link": lambda out: [tar(symlink("l", out)), tar(file("l/.wh..wh..opq", b""))],
    "mode of a link": lambda out: [tar(item("l", tarfile.SYMTYPE, str(out / "victim"), mode=0o777, uid=1000))],
    "redirect of overlayfs": lambda out: [tar(directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": str(out)}),
                                              file("d/x", pax_headers={"SCHILY.xattr.trusted.overlay.metacopy": ""}))],
}


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
@pytest.mark.parametrize("case", ESCAPES)
def test_layer_stays_in_its_snapshot(api, daemon, reg, outside, case, snapshotter):
    tars = ESCAPES[case](outside)
    api.pull(image(reg, *tars), unpack=snapshotter)
    keys = api.snapshot_keys(snapshotter)
    assert len(keys) == len(tars)
    if case == "redirect of overlayfs" and snapshotter == "overlayfs":
        found = list((daemon.root / "io.containerd.snapshotter.v1.overlayfs/snapshots").glob("*/fs/d"))
        assert [os.listxattr(p) for p in found] == [[]]
    api.remove_images()
    assert api.snapshot_keys(snapshotter) == []


REFUSED = {
    "hard link out": (lambda out: tar(hardlink("h", out / "victim"), file("h")), "hard link's target"),
    "hard link up and out": (lambda out: tar(hardlink("h", up(out / "victim"))), "hard link's target"),
    "hard link below a link": (lambda out: tar(symlink("l", out), hardlink("h", "l/victim")), "hard link's target"),
    "hard link to itself": (lambda out: tar(file("h"), hardlink("h", "h")), "hard link to itself"),
    "hard link to the root": (lambda out: tar(hardlink("h", "/")), "hard link's target"),
    "links in a circle": (lambda out: tar(symlink("a", "b"), symlink("b", "a"), file("a/x")), '"a/x": make its directory: Too many levels'),
    "whiteout of ..": (lambda out: tar(file("a/.wh...", b"")), "invalid whiteout name"),
    "whiteout of .": (lambda out: tar(file("a/.wh..", b"")), "invalid whiteout name"),
    "whiteout of nothing": (lambda out: tar(file("a/.wh.", b"")), "invalid whiteout name"),
    "below a file": (lambda out: tar(file("d"), file("d/y")), '"d/y": make its directory: Not a directory'),
    "below a file that was a directory": (lambda out: tar(directory("d"), file("d/x"), file("d"), file("d/y")), "Not a directory"),
    "name too long": (lambda out: tar(file("x" * 5000)), "name is too long"),
    "component too long": (lambda out: tar(file("x" * 300)), "file name too long"),
    "path too deep": (lambda out: tar(file("a/" * 2100 + "x")), "name is too long"),
    "link too long": (lambda out: tar(symlink("l", "y" * 5000)), "create symbolic link"),
    "device beyond numbers": (lambda out: tar(device("x", 2097151, 2097151)), "create device"),
    "names for a terminal": (lambda out: tar(hardlink("c\nd", "\x1b[2J")), "c\\x0ad"),
    "size overflows": (lambda out: tar(file("x", pax_headers={"size": str(2 ** 63 - 1)})), "size"),
    "size below zero": (lambda out: tar(file("x", pax_headers={"size": "-1"})), "negative"),
    "owner beyond numbers": (lambda out: tar(file("x", pax_headers={"uid": str(2 ** 40)})), "owner out of range"),
    "owner -1": (lambda out: tar(file("x", pax_headers={"uid": "-1"})), "owner out of range"),
    "senseless capabilities": (lambda out: tar(file("x", pax_headers={"SCHILY.xattr.security.capability": "z"})), "security.capability"),
    "header of 50 MB": (lambda out: tar(file("x", pax_headers={"comment": "z" * 50_000_000})), "header too large"),
    "sparse map that lies": (lambda out: tar(file("x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "y",
                                                                    "GNU.sparse.realsize": str(10 ** 18)})), "read archive"),
    "wrong checksum": (lambda out: (lambda b: b[:148] + b"0000000\0" + b[156:])(tar(file("x"))), "read archive"),
    "noise": (lambda out: os.urandom(100000), "read archive"),
    "cut in a header": (lambda out: tar(file("x"))[:300], "read archive"),
    "cut in a file": (lambda out: tar(file("x", b"z" * 10000))[:3000], 'entry "x": read archive: Truncated'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_archive(api, reg, outside, case):
    make, text = REFUSED[case]
    code, words = refused(api.pull, image(reg, make(outside)))
    assert code == "INVALID_ARGUMENT" and text in words and "sha256:" in words, words
    assert "\x1b" not in words and "\n" not in words


def test_directory_as_hard_link(api, reg):
    code, words = refused(api.pull, image(reg, tar(directory("d"), hardlink("h", "d"))))
    assert "create hard link to d" in words


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_strange_but_valid_archives(api, reg, snapshotter):
    api.pull(image(reg, tar(directory("d"), file("d/x")), tar(file("d")), tar(device("null", 1, 3), device("w", 0, 0), item("p", tarfile.FIFOTYPE)),
                   tar(file(".wh..wh..opq", b"")), tar(file("x", mtime=-5)), tar(file("x", pax_headers={"mtime": "9" * 30})),
                   tar(file("a\udcff\udcfe"), form=tarfile.GNU_FORMAT), tar(file("x"))[:1024], b"", bytes(1024),
                   tar(file("x", pax_headers={"SCHILY.xattr.bogus.a": "z"})), tar(file("x", pax_headers={"SCHILY.xattr.security.ima": "z"}))),
             unpack=snapshotter)
    assert len(api.snapshot_keys(snapshotter)) == 12


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_directories_deeper_than_a_stack(api, reg, snapshotter):
    api.pull(image(reg, tar(file("a/" * 1800 + "x")), tar(file("b"))), unpack=snapshotter)
    assert len(api.snapshot_keys(snapshotter)) == 2


# ---- compression ----

PLAIN = tar(file("x", os.urandom(200000)))
GZ = gzip.compress(PLAIN, 1)
ZSTD = subprocess.run(["zstd", "-q", "-c"], input=PLAIN, capture_output=True, check=True).stdout


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1:]


COMPRESSED = {
    "gzip cut": (GZ[:-5000], "+gzip", "gzip: unexpected end of file"),
    "gzip of nothing": (GZ[:12], "+gzip", "gzip: unexpected end of file"),
    "gzip with a wrong checksum": (flip(GZ, len(GZ) - 6), "+gzip", "gzip: invalid checksum"),
    "gzip with a wrong byte": (flip(GZ, 5000), "+gzip", "gzip: "),
    "gzip with noise behind it": (GZ + b"evil", "+gzip", "gzip: invalid header after the end"),
    "zstd cut": (ZSTD[:-5000], "+zstd", "zstd: unexpected end of file"),
    "zstd with a wrong byte": (flip(ZSTD, 5000), "+zstd", "zstd: "),
    "zstd that wants all memory": (bytes.fromhex("28b52ffd00f8") + ZSTD[6:], "+zstd", "zstd: Frame requires too much memory"),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_damaged_compression(api, reg, case):
    data, suffix, text = COMPRESSED[case]
    code, words = refused(api.pull, reg.image("t", [(data, OCI_LAYER + suffix, PLAIN)]))
    assert code == "INVALID_ARGUMENT" and text in words, words


def test_ten_gigabytes_of_zeros_take_no_room(api, daemon, reg):
    """The archive is some kilobytes a gigabyte; what it unpacks to is a hole, and the wrong diff ID is noticed at its end."""
    member = gzip.compress(bytes(64 << 20), 9)
    head = item("big")[0]
    head.size = 10 << 30
    data = gzip.compress(head.tobuf(tarfile.GNU_FORMAT)) + member * 160 + gzip.compress(bytes(1024))
    largest = 0

    call = api.pull_later(reg.image("t", [(data, OCI_LAYER + "+gzip", b"")], diff_ids=[NONE]), timeout=300)
    while not call.done():
        s = subprocess.run(["du", "-sk", daemon.root], capture_output=True, text=True).stdout.split()
        largest = max(largest, int(s[0]))
        try:
            call.exception(0.2)
        except Exception:
            continue
    code, words = refused(call.result)
    assert code == "FAILED_PRECONDITION" and "wrong diff id" in words
    assert largest < 200_000


def test_many_entries(api, reg):
    blocks = [item(f"d{i % 500}/f{i}")[0].tobuf(tarfile.GNU_FORMAT) for i in range(100_000)]
    many = b"".join(blocks) + bytes(1024)
    api.pull(reg.image("t", [(gzip.compress(many, 1), OCI_LAYER + "+gzip", many)]), timeout=300)
    assert len(api.snapshot_keys()) == 1
