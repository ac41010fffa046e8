# SPDX-License-Identifier: Apache-2.0
"""Pulls in their variants: layers unpacked at the same time, what is unpacked at all, limits and further names."""
import contextlib
import gzip
import json
import os
import stat
import subprocess
import tarfile
import threading

import pytest

import images
from evil import OCI_INDEX, Api, Evil, descriptor, refused, sha
from harness import Daemon, Lines
from test_images import FIND, FOUND

SECTION = "[plugins.'io.containerd.transfer.v1.local']\n"


@pytest.fixture(scope="module")
def source():
    r = Evil()
    yield r
    r.close()


@pytest.fixture(scope="module")
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.close()


@pytest.fixture(scope="module")
def parallel():
    with contextlib.closing(Daemon(config=SECTION + "max_concurrent_unpacks = 4\n")) as d:
        d.start()
        yield d


def gz(tar):
    return gzip.compress(tar, mtime=0), images.LAYER + "+gzip", tar


def entry(name, kind=tarfile.REGTYPE, mode=0o755, uid=0, link=""):
    e = tarfile.TarInfo(name)
    e.type, e.mode, e.uid, e.gid, e.linkname, e.mtime = kind, mode, uid, uid, link, 1600000000
    return e


# Layers that name their directories, and layers that need what lies below them.
LAYERS = [
    images.tar_of([entry("usr", tarfile.DIRTYPE), entry("usr/bin", tarfile.DIRTYPE, 0o711, 7), ("usr/bin/a", b"a"), ("bin", "usr/bin"),
                   entry("data", tarfile.DIRTYPE, 0o700, 5), ("data/gone", b"1"), ("data/kept", b"1"), ("data/old", None),
                   ("data/old/x", b"1")]),
    images.tar_of([entry("data", tarfile.DIRTYPE, 0o750, 6), ("data/.wh.gone", b""), ("data/new", b"2"),
                   ("data/old", None), ("data/old/.wh..wh..opq", b""), ("data/old/y", b"2")]),
    images.tar_of([("bin/b", b"3"), ("usr/bin/deep/c", b"3")]),  # through a link below, below a directory it does not name
    images.tar_of([("data", None), ("data/hard", ("hard", "data/kept"))]),  # a link into a lower layer
    images.tar_of([("top", b"5"), ("etc", None), ("etc/x", b"5")]),
    images.tar_of([("etc", None), ("etc/.wh.x", b""), ("etc/y", b"6")]),
]


def top_of(d, ref, workdir, name):
    """What the image looks like: path -> type, mode, owner, contents."""
    view = workdir / name
    view.mkdir()
    mount = d.ctr.out("images", "mount", ref, view)
    assert mount
    try:
        seen = {}
        for root, dirs, files in os.walk(view):
            for n in dirs + files + ["."]:
                p = os.path.join(root, n)
                s = os.lstat(p)
                what = os.readlink(p) if stat.S_ISLNK(s.st_mode) else open(p, "rb").read() if stat.S_ISREG(s.st_mode) else None
                seen[os.path.relpath(p, view)] = (s.st_mode, s.st_uid, s.st_gid, what)
        return seen
    finally:
        d.ctr("images", "unmount", "--rm", view)


def test_layers_unpacked_together_give_what_layers_in_turn_give(daemon, parallel, source, workdir):
    ref = source.image("many", [gz(t) for t in LAYERS])
    for d in (daemon, parallel):
        d.ctr("images", "pull", "--plain-http", ref)
    ours, theirs = top_of(parallel, ref, workdir, "par"), top_of(daemon, ref, workdir, "seq")
    assert ours == theirs
    assert "data/gone" not in ours and ours["data/old/y"] and "data/old/x" not in ours and ours["bin/b"][3] == b"3"
    assert ours["data"][:2] == (stat.S_IFDIR | 0o755, 0) and ours["usr/bin"][:2] == (stat.S_IFDIR | 0o711, 7)
    for d in (daemon, parallel):
        assert "Active" not in d.ctr.out("snapshots", "ls")


def test_snapshots_of_both_ways_have_the_same_parents(daemon, parallel, source):
    def tree(d):
        return sorted(tuple(line.split()) for line in d.ctr.out("snapshots", "ls").splitlines()[1:])

    ref = source.image("parents", [gz(images.tar_of([(f"p{i}", b"%d" % i)])) for i in range(5)])
    for d in (daemon, parallel):
        d.ctr("images", "pull", "--plain-http", ref)
    assert set(tree(daemon)) == set(tree(parallel))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_image_of_layers_unpacked_together_runs(parallel, layered, compression):
    parallel.ctr("images", "pull", "--plain-http", layered[compression])
    assert parallel.ctr.out("run", "--rm", layered[compression], f"reg-par-{compression}", "sh", "-c", FIND) == FOUND


def test_upper_layer_is_unpacked_while_a_lower_one_is_still_coming(parallel, source):
    tars = [images.tar_of([("slow", b"slow" * 50)]), images.tar_of([("fast", b"fast")])]
    layers = [gz(t) for t in tars]
    ref = source.image("slow", layers)
    source.hooks[sha(layers[0][0])] = lambda h: (source.hold(), False)[1]
    p = parallel.ctr.popen("images", "pull", "--plain-http", ref, stdout=subprocess.PIPE)
    label = f"layer ({sha(layers[1][0])[7:19]})"
    Lines(p).wait(label.replace("(", r"\(").replace(")", r"\)") + ": extracting")
    source.hooks.clear()
    source.released.set()
    assert p.wait(90) == 0
    source.released.clear()


@pytest.mark.parametrize("bad", [0, 1, 2, 3, 4])
def test_wrong_layer_leaves_no_snapshot(parallel, stubs, source, bad):
    tars = [images.tar_of([(f"w{bad}-{i}", b"%d" % i)]) for i in range(5)]
    diff_ids = [sha(t) for t in tars]
    diff_ids[bad] = sha(b"something else")
    ref = source.image(f"wrong{bad}", [gz(t) for t in tars], diff_ids=diff_ids)
    api = Api(stubs, parallel, ns=f"wrong{bad}")
    code, words = refused(api.pull, ref)
    assert code == "FAILED_PRECONDITION" and "wrong diff id" in words, words
    assert api.image_names() == [] and api.lease_ids() == []
    # What was right and below the wrong one may stay until it is collected; nothing is half made.
    assert not [k for k in api.snapshot_keys() if k.startswith("extract-")]
    api.collect()
    assert api.snapshot_keys() == []
    api.close()


# ---- names, limits, rules ----

def store_request(api, ref, **fields):
    t, r, i = (api.msg(x) for x in ("services/transfer/v1/transfer", "types/transfer/registry", "types/transfer/imagestore"))
    source = r.OCIRegistry(reference=ref, resolver=r.RegistryResolver(default_scheme="http"))
    fields.setdefault("name", ref)
    return t.TransferRequest(source=api.any(source), destination=api.any(i.ImageStore(**fields)))


def transfer(api, request):
    return api.transfer.stub.Transfer(request, metadata=api.metadata(), timeout=180)


def test_extra_references_name_the_image_and_go_with_it(api, source):
    ref = source.image("extra", [gz(images.tar_of([("extra", b"1")]))])
    i = api.msg("types/transfer/imagestore")
    transfer(api, store_request(api, ref, extra_references=[
        i.ImageReference(name="other.test/a:1"), i.ImageReference(name="other.test/b", add_digest=True),
        i.ImageReference(name="other.test/prefix", is_prefix=True)]))
    digest = sha(source.manifests["extra"][0])
    names = {"other.test/a:1", f"other.test/b@{digest}"}
    assert names <= set(api.image_names()) and not [n for n in api.image_names() if "prefix" in n]
    image = api.images.Get(name="other.test/a:1").image
    assert image.target.digest == digest and image.labels["containerd.io/gc.bref.image"] == ref
    api.collect()
    assert names <= set(api.image_names())
    api.images.Delete(name=ref)
    api.collect()
    assert not names & set(api.image_names())


def test_manifest_limit_takes_the_best_ones(api, source):
    children = []
    for arch, variant in (("arm64", "v8"), ("amd64", ""), ("386", ""), ("arm", "v7")):
        tar = images.tar_of([(f"limit-{arch}", b"1")])
        config = source.blob(json.dumps({"os": "linux", "architecture": arch, "rootfs": {"type": "layers", "diff_ids": [sha(tar)]}}).encode())
        layer = source.blob(gz(tar)[0])
        source.manifest(f"limit-{arch}", {"schemaVersion": 2, "mediaType": images.MANIFEST, "config": descriptor(config, images.CONFIG),
                                          "layers": [descriptor(layer, images.LAYER + "+gzip")]})
        data = source.manifests[f"limit-{arch}"][0]
        children.append(descriptor(data, images.MANIFEST, platform={"os": "linux", "architecture": arch,
                                                                     **({"variant": variant} if variant else {})}))
    ref = source.manifest("limit", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}, OCI_INDEX)
    p = api.msg("types/platform").Platform
    wanted = [p(os="linux", architecture="amd64"), p(os="linux", architecture="arm64")]

    def pulled(**fields):
        api.remove_images()
        transfer(api, store_request(api, ref, **fields))
        return [c["platform"]["architecture"] for c in children if c["digest"] in api.digests()]

    assert pulled(platforms=wanted) == ["arm64", "amd64"]
    assert pulled(platforms=wanted, manifest_limit=1) == ["amd64"]
    assert pulled(platforms=wanted[::-1], manifest_limit=1) == ["arm64"]
    assert pulled(platforms=wanted, manifest_limit=1, all_metadata=True) == ["amd64"]
    assert pulled(manifest_limit=2) == ["arm64", "amd64"]
    assert pulled() == ["arm64", "amd64", "386", "arm"]


def test_only_what_is_configured_is_unpacked(stubs, source, tmp_path):
    config = SECTION + """check_platform_supported = true
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
platform = 'linux/amd64'
snapshotter = 'native'
layer_types = ['application/vnd.oci.image.layer.v1.tar+gzip']
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
snapshotter = 'that-is-not-there'
optional = true
"""
    ref = source.image("rules", [gz(images.tar_of([("rules", b"1")]))])
    plain = images.tar_of([("rules", b"2")])
    other = source.image("rules-plain", [(plain, images.LAYER, plain)])
    with contextlib.closing(Daemon(config=config)) as d:
        d.start()
        a = Api(stubs, d)
        i, p = a.msg("types/transfer/imagestore"), a.msg("types/platform").Platform
        amd64, arm64 = p(os="linux", architecture="amd64"), p(os="linux", architecture="arm64")
        transfer(a, store_request(a, ref, unpacks=[i.UnpackConfiguration(platform=amd64)]))
        assert len(a.snapshot_keys("native")) == 1
        for unpack in (i.UnpackConfiguration(platform=amd64, snapshotter="overlayfs"), i.UnpackConfiguration(platform=arm64)):
            code, words = refused(transfer, a, store_request(a, ref, unpacks=[unpack]))
            assert code == "INVALID_ARGUMENT" and "no unpack platforms defined" in words
        transfer(a, store_request(a, other, unpacks=[i.UnpackConfiguration(platform=amd64)]))
        assert len(a.snapshot_keys("native")) == 1
        a.close()


def test_unpack_config_of_a_missing_snapshotter_fails_the_plugin(source):
    with contextlib.closing(Daemon(config=SECTION + "[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\nsnapshotter = 'gone'\n")) as d:
        d.start()
        assert "unpack_config: snapshotter gone" in d.ctr.out("plugins", "ls", "-d", "id==local")


def test_downloads_at_the_same_time_are_as_many_as_wished(ctr, source):
    tars = [images.tar_of([(f"conc{i}", os.urandom(100))]) for i in range(4)]
    ref = source.image("conc", [gz(t) for t in tars])
    now, most = [0], [0]
    lock = threading.Lock()

    def count(h):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.2)
        with lock:
            now[0] -= 1
        return False

    for t in tars:
        source.hooks[sha(gz(t)[0])] = count
    ctr("images", "pull", "--plain-http", "--max-concurrent-downloads", "1", "--sync-fs", ref)
    source.hooks.clear()
    assert most[0] == 1
    assert ctr("images", "pull", "--plain-http", "--max-concurrent-downloads", "65", ref, check=False).returncode == 1


# ---- one layer by several requests ----

@pytest.fixture(scope="module")
def parts():
    with contextlib.closing(Daemon(config=SECTION + "max_concurrent_downloads = 4\nconcurrent_layer_fetch_buffer = 65536\n")) as d:
        d.start()
        yield d


def big_layer(source, name):
    tar = images.tar_of([(name, os.urandom(1 << 20))])
    data = gz(tar)
    return source.image(name, [data]), sha(data[0]), len(data[0])


def ranges(source, digest):
    return [h.get("Range") for _, path, h in source.seen if path.endswith(digest)]


def test_layer_is_fetched_by_several_requests(parts, source):
    ref, digest, size = big_layer(source, "parts")
    parts.ctr("images", "pull", "--plain-http", ref)
    want = [f"bytes={i}-{min(i + 65536, size) - 1}" for i in range(0, size, 65536)]
    assert sorted(ranges(source, digest)) == sorted(want)
    assert "Committed" in parts.ctr.out("snapshots", "ls")


def test_part_that_breaks_off_is_resumed(parts, source):
    ref, digest, size = big_layer(source, "broken-parts")
    broken = []

    def hook(h):
        first = int(h.headers["Range"][6:].split("-")[0])
        if first != 131072 or broken:
            return False
        broken.append(first)
        data = source.blobs[digest]
        h.begin(206, 65536, Content_Range=f"bytes {first}-{first + 65535}/{size}")
        h.wfile.write(data[first:first + 1000])
        return None

    source.hooks[digest] = hook
    parts.ctr("images", "pull", "--plain-http", ref)
    source.hooks.clear()
    assert broken and f"bytes={131072 + 1000}-{131072 + 65535}" in ranges(source, digest)


def test_server_without_ranges_gives_the_whole(parts, source):
    ref, digest, size = big_layer(source, "no-parts")

    def whole(h):
        h.headers.replace_header("Range", "none") if "Range" in h.headers else None
        return False

    source.hooks[digest] = whole
    parts.ctr("images", "pull", "--plain-http", ref)
    source.hooks.clear()


def test_part_that_is_missing_fails_the_pull_and_the_next_one_goes_on(parts, source, stubs):
    ref, digest, size = big_layer(source, "lost-part")
    api = Api(stubs, parts, ns="lost")
    source.hooks[digest] = lambda h: h.answer(404) if h.headers["Range"].startswith("bytes=524288-") else False
    # The client's lease keeps what has come.
    metadata = [*api.metadata(), ("containerd-lease", api.leases.Create().lease.id)]

    def pull():
        return api.transfer.stub.Transfer(api.pull_request(ref), metadata=metadata, timeout=180)

    code, words = refused(pull)
    assert code == "NOT_FOUND" and digest in words, words
    assert api.image_names() == []
    source.hooks.clear()
    before = len(source.seen)
    pull()
    again = ranges(source, digest)
    starts = [int(h["Range"][6:].split("-")[0]) for _, path, h in source.seen[before:] if path.endswith(digest)]
    assert again and min(starts) > 0, starts
    api.close()


def test_layer_of_a_real_registry_is_fetched_by_several_requests(parts, busybox, registry, name):
    parts.ctr("images", "pull", "--plain-http", busybox)
    assert parts.ctr.out("run", "--rm", busybox, f"reg-{name}", "echo", "parts") == "parts\n"
