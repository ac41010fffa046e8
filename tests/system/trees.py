# SPDX-License-Identifier: Apache-2.0
"""File trees, described so that two of them can be compared, and images whose trees are hard to get right."""
import hashlib
import io
import os
import random
import stat
import struct
import subprocess
import tarfile

OURS = ("trusted.overlay.", "user.overlay.")  # what a snapshotter keeps for itself


def xattrs(path):
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith(OURS):
            found[name] = os.getxattr(path, name, follow_symlinks=False).hex()
    return found


def describe(root):
    """path -> all that can be seen of it. Hard links: the names of a file, in the tree.

    Not of the root itself: as with containerd that is the snapshotter's, whatever a layer says of it.
    """
    root = os.fsencode(root)
    found, links = {}, {}

    def add(path):
        st = os.lstat(path)
        name = os.path.relpath(path, root)
        what = {"type": stat.S_IFMT(st.st_mode), "mode": oct(stat.S_IMODE(st.st_mode)), "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns,
                "xattrs": xattrs(path)}
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as f:
                what["data"] = (st.st_size, hashlib.file_digest(f, "sha256").hexdigest())
        elif stat.S_ISLNK(st.st_mode):
            what["target"] = os.readlink(path)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            what["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            links.setdefault((st.st_dev, st.st_ino), []).append(name)
        found[name] = what

    for directory, dirs, files in os.walk(root):
        if directory != root:
            add(directory)
        for name in files + [d for d in dirs if os.path.islink(os.path.join(directory, d))]:
            add(os.path.join(directory, name))
    for names in links.values():
        for name in names:
            if len(names) > 1:
                found[name]["links"] = sorted(names)
    return found


def differences(ours, theirs):
    """As lines, a few."""
    lines = [f"only ours: {p!r}" for p in sorted(ours.keys() - theirs.keys())] + [f"only theirs: {p!r}" for p in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        a, b = ours[path], theirs[path]
        lines += [f"{path!r} {k}: ours {a.get(k)}, theirs {b.get(k)}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    return lines[:40]


# ---- layers ----

class Tar:
    """A layer, entry by entry. Every layer starts with its root, so that trees do not depend on who makes that."""

    def __init__(self, format=tarfile.PAX_FORMAT, root=True):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=format)
        self.when = 1600000000
        if root:
            self.dir("./")

    def add(self, name, type, data=b"", link="", mode=0o644, owner=(0, 0), mtime=None, device=(0, 0), pax=None):
        info = tarfile.TarInfo(name)
        self.when += 1
        info.type, info.linkname, info.mode, info.size = type, link, mode, len(data)
        info.uid, info.gid = owner
        info.mtime = self.when if mtime is None else mtime
        info.devmajor, info.devminor = device
        info.pax_headers = pax or {}
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, name, mode=0o755, **kw):
        self.add(name, tarfile.DIRTYPE, mode=mode, **kw)

    def file(self, name, data=b"x", **kw):
        self.add(name, tarfile.REGTYPE, data, **kw)

    def symlink(self, name, target, **kw):
        self.add(name, tarfile.SYMTYPE, link=target, mode=0o777, **kw)

    def link(self, name, target, **kw):
        self.add(name, tarfile.LNKTYPE, link=target, **kw)

    def whiteout(self, name):
        head, _, tail = name.rpartition("/")
        self.file(f"{head}/.wh.{tail}" if head else f".wh.{tail}", b"")

    def opaque(self, name):
        self.file(f"{name}/.wh..wh..opq", b"")

    def bytes(self):
        self.tar.close()
        return self.out.getvalue()


def hard_links():
    a = Tar()
    a.dir("d")
    a.file("d/one", b"1" * 5000, mode=0o640, owner=(1, 2))
    a.link("d/two", "d/one")
    a.link("three", "./d/one")
    a.symlink("sym", "d/one")
    a.link("sym2", "sym")
    a.add("pipe", tarfile.FIFOTYPE)
    a.link("pipe2", "pipe")
    b = Tar()
    b.file("d/one", b"other")
    b.file("d/four", b"4")
    b.link("d/five", "d/four")
    b.whiteout("three")
    return [a.bytes(), b.bytes()]


def whiteouts():
    a = Tar()
    for d in ("a", "a/b", "a/b/c", "gone", "again"):
        a.dir(d)
        a.file(d + "/f")
    a.symlink("s", "a")
    a.file("top")
    b = Tar()
    b.dir("a")
    b.whiteout("a/f")
    b.whiteout("a/b/c")
    b.whiteout("gone")
    b.whiteout("top")
    b.whiteout("s")
    b.whiteout("again")
    c = Tar()
    c.dir("again", mode=0o700)
    c.file("again/new")
    c.file("top", b"back")
    return [a.bytes(), b.bytes(), c.bytes()]


def opaque_directories():
    a = Tar()
    for d in ("o", "o/sub", "o/sub/deep", "keep"):
        a.dir(d)
        a.file(d + "/old")
    b = Tar()
    b.dir("o", mode=0o750, owner=(5, 6))
    b.opaque("o")
    b.file("o/new")
    b.dir("o/sub")
    b.file("o/sub/new")
    # The mark after what it must not hide.
    b.dir("keep")
    b.file("keep/mine")
    b.opaque("keep")
    c = Tar()
    c.file("o/newer")
    return [a.bytes(), b.bytes(), c.bytes()]


def devices():
    a = Tar()
    a.dir("dev")
    a.add("dev/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    a.add("dev/sda", tarfile.BLKTYPE, mode=0o660, owner=(0, 6), device=(8, 0))
    a.add("dev/big", tarfile.CHRTYPE, mode=0o600, device=(4000, 300))
    a.add("dev/pipe", tarfile.FIFOTYPE, mode=0o622)
    a.link("dev/zero-link", "dev/null")
    b = Tar()
    b.dir("dev")
    b.file("dev/sda", b"now a file")
    b.add("dev/pipe", tarfile.CHRTYPE, mode=0o666, device=(1, 5))
    return [a.bytes(), b.bytes()]


def xattr(name, value):
    return {"SCHILY.xattr." + name: value.decode("latin-1")}


def attributes():
    a = Tar()
    a.dir("d", pax=xattr("user.on-dir", b"yes"))
    a.file("d/f", pax={**xattr("user.one", b"1"), **xattr("user.empty", b""), **xattr("user.equals=sign", b"a=b\n")})
    # v2 capabilities: cap_net_bind_service, effective.
    caps = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    a.file("d/ping", mode=0o755, pax={"SCHILY.xattr.security.capability": caps.decode("latin-1")})
    a.file("d/setuid-with-caps", mode=0o4755, owner=(7, 7), pax={"SCHILY.xattr.security.capability": caps.decode("latin-1")})
    b = Tar()
    b.dir("d")
    b.file("d/f", b"less", pax=xattr("user.two", b"2"))
    return [a.bytes(), b.bytes()]


def modes():
    a = Tar()
    for i, mode in enumerate((0o4755, 0o2755, 0o6711, 0o1777, 0, 0o7777, 0o444, 0o100)):
        a.file(f"f{i}", mode=mode, owner=(i, 1000 + i))
        a.dir(f"d{i}", mode=mode, owner=(i, 1000 + i))
        a.file(f"d{i}/inside", mode=mode)
    # A later layer that names a file only changes it, not its directory.
    b = Tar()
    b.file("d4/second", b"2")
    b.dir("d1", mode=0o711)
    return [a.bytes(), b.bytes()]


def names():
    long = "n" * 255
    a = Tar()
    for name in ("blank name", "new\nline", "quo\"te", "back\\slash", "ünïcode-\u4e2d\u6587", "-dash", "...", "..x", "tab\t", long,
                 "/".join(["d" * 120] * 12 + [long])):
        if "/" in name:
            parts = name.split("/")
            for i in range(1, len(parts)):
                a.dir("/".join(parts[:i]))
        a.file(name, name.encode())
    a.symlink("long-target", "t" * 3000)
    a.link("to-long", long)
    b = Tar(format=tarfile.GNU_FORMAT)
    b.file("gnu-" + "g" * 200)
    b.symlink("gnu-link", "u" * 500)
    c = Tar(format=tarfile.USTAR_FORMAT)
    c.dir("u" * 90)
    c.file("u" * 90 + "/" + "v" * 90)
    d = Tar()
    d.whiteout(long)
    return [a.bytes(), b.bytes(), c.bytes(), d.bytes()]


def sparse(directory):
    """Made by GNU tar in the formats that umoci reads, and plain zeroes."""
    layers = []
    for i, flags in enumerate((["--format=posix", "--sparse-version=0.0"], ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"])):
        d = directory / f"sparse{i}"
        d.mkdir()
        with open(d / f"holes{i}", "wb") as f:
            for at in range(0, 64 << 20, 3 << 20):
                f.seek(at)
                f.write(b"data%d" % at)
            f.truncate(70 << 20)
        with open(d / f"all-hole{i}", "wb") as f:
            f.truncate(5 << 20)
        os.utime(d / f"holes{i}", ns=(0, 1600000000123456789))
        layers.append(subprocess.run(["tar", "-C", d, "--sparse", *flags, "-cf", "-", "."], capture_output=True, check=True).stdout)
    a = Tar()
    a.file("zeroes", bytes(1 << 20) + b"end" + bytes(100000))
    return layers + [a.bytes()]


def odd_owners():
    a = Tar()
    for i, owner in enumerate(((65534, 65534), (100000, 165536), (2097152, 2097153), (2147483647, 2147483648), (4294967294, 4294967294))):
        a.dir(f"d{i}", owner=owner)
        a.file(f"d{i}/f", owner=owner)
        a.symlink(f"d{i}/s", "f", owner=owner)
    return [a.bytes()]


def times():
    a = Tar()
    for i, when in enumerate((0, 1, 1234567890.123456789, 2147483648, 4294967296, 1600000000.5)):
        a.file(f"f{i}", mtime=when)
        a.symlink(f"s{i}", f"f{i}", mtime=when)
        a.dir(f"d{i}", mtime=when)
        a.file(f"d{i}/later")
    a.dir("ns")
    a.file("ns/f", pax={"mtime": "1600000000.987654321"})
    b = Tar()
    b.file("d3/second")
    b.whiteout("d4/later")
    return [a.bytes(), b.bytes()]


def many_layers():
    layers = []
    for i in range(70):
        t = Tar()
        t.dir("d", mode=0o700 + i % 8)
        t.file(f"d/f{i}", b"%d" % i)
        t.file("same", b"%d" % i, owner=(i, i))
        if i > 2:
            t.whiteout(f"d/f{i - 2}")
        layers.append(t.bytes())
    return layers


def changed_types():
    a = Tar()
    for n in ("file", "dir", "link", "pipe"):
        for to in ("file", "dir", "link", "pipe"):
            name = f"{n}-{to}"
            if n == "file":
                a.file(name, b"old")
            elif n == "dir":
                a.dir(name)
                a.file(name + "/inside")
            elif n == "link":
                a.symlink(name, "target")
            else:
                a.add(name, tarfile.FIFOTYPE)
    a.dir("target")
    b = Tar()
    for n in ("file", "dir", "link", "pipe"):
        for to in ("file", "dir", "link", "pipe"):
            name = f"{n}-{to}"
            if to == "file":
                b.file(name, b"new")
            elif to == "dir":
                b.dir(name, mode=0o711)
            elif to == "link":
                b.symlink(name, "elsewhere")
            else:
                b.add(name, tarfile.FIFOTYPE, mode=0o600)
    b.file("dir-dir/more")
    return [a.bytes(), b.bytes()]


def repeated_entries():
    a = Tar()
    a.dir("d", mode=0o700)
    a.file("d/f", b"first", mode=0o600)
    a.link("d/l", "d/f")
    a.file("d/f", b"second", mode=0o644)
    a.dir("d", mode=0o750)
    a.file("./d/g")
    a.file("d//h")
    a.dir("d/e/")
    a.symlink("d/s", "f")
    a.symlink("d/s", "g")
    return [a.bytes()]


def generated(seed):
    """Layers of random operations."""
    rnd = random.Random(seed)
    layers, files, dirs = [], set(), {""}
    for _ in range(6):
        t = Tar()
        mine = []  # names of this layer's files: hard links stay in their layer
        made = set()
        for _ in range(120):
            parent = rnd.choice(sorted(dirs))
            for i in range(1, len(parent.split("/")) + 1):
                above = "/".join(parent.split("/")[:i])
                if above and above not in made:
                    t.dir(above, mode=0o755)
                    made.add(above)
            name = (parent + "/" if parent else "") + f"n{rnd.randrange(60)}"
            what = rnd.choice(["file", "file", "dir", "symlink", "hard", "gone"])
            if name in dirs and what != "dir":
                continue
            kw = {"mode": rnd.randrange(0o10000), "owner": (rnd.randrange(70000), rnd.randrange(70000))}
            if what == "file":
                t.file(name, rnd.randbytes(rnd.randrange(9000)), **kw)
                files.add(name)
                mine.append(name)
            elif what == "dir" and name not in files and name not in dirs:
                t.dir(name, **kw)
                dirs.add(name)
                made.add(name)
            elif what == "symlink":
                t.symlink(name, rnd.choice(["x", "/etc", "../..", name]), owner=kw["owner"])
                files.add(name)
                mine = [m for m in mine if m != name]
            elif what == "hard" and mine and name not in mine:
                t.link(name, rnd.choice(mine))
                files.add(name)
                mine.append(name)
            elif what == "gone" and name in files and name not in mine:
                t.whiteout(name)
                files.discard(name)
        layers.append(t.bytes())
    return layers
