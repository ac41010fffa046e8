# SPDX-License-Identifier: Apache-2.0
"""Pulls that go wrong: each ends in one error that names the thing and the step, leaves nothing half-made, and the daemon goes on."""
import contextlib
import gzip
import json
import os
import signal
import subprocess
import threading

import grpc
import pytest

import evil
import harness
import images
from evil import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, refused, sha, workers
from evil import api, daemon  # fixtures

TAR = images.tar_of([("file", b"x" * 50000 + os.urandom(50000)), ("dir", None)])
GZ = gzip.compress(TAR, 1)
BIG_TAR = images.tar_of([("big", os.urandom(2_000_000))])
BIG = gzip.compress(BIG_TAR, 1)
NONE = "sha256:" + "a" * 64


@pytest.fixture
def reg():
    r = evil.Evil()
    yield r
    r.close()


@pytest.fixture(autouse=True)
def gone(api, daemon):
    """After every test nothing is left but what a next attempt may resume, and that goes with a collection."""
    g = evil.Gone(api)
    yield g
    g.check(resumable=True)
    daemon.check_reports()
    api.remove_images()
    assert (api.snapshot_keys(), api.digests(), api.lease_ids()) == ([], [], [])
    for ref in api.ingests():
        api.content.Abort(ref=ref)


def good(reg, **kw):
    return reg.image("t", [(GZ, OCI_LAYER + "+gzip", TAR)], **kw)


# ---- answers of a registry ----

def answer(key, hook):
    """An image whose object @key ("tag", "layer") is answered by @hook."""
    def make(reg):
        ref = good(reg)
        reg.hooks["manifests/t" if key == "tag" else sha(GZ)] = lambda h: hook(h)
        return ref
    return make


def body(length, data, drop=True):
    def hook(h):
        h.begin(200, length)
        h.wfile.write(data)
        h.wfile.flush()
        if drop:
            h.drop()
    return hook


def endless(h):
    h.answer(200, b"", Content_Length=None)
    h.close_connection = True
    while True:
        h.wfile.write(b"x" * 65536)


def endless_headers(h):
    h.send_response(200)
    while True:
        h.wfile.write(b"X-Y: " + b"z" * 100 + b"\r\n")


def noise(h):
    h.wfile.write(os.urandom(10000))
    h.drop()


def challenge(text, token=None):
    def make(reg):
        reg.hooks["manifests/t"] = lambda h: h.answer(401, WWW_Authenticate=text.replace("HOST", reg.host))
        if token:
            reg.hooks["/token"] = token
        return f"{reg.host}/evil:t"
    return make


BEARER = 'Bearer realm="http://HOST/token",service="s"'

ANSWERS = {
    "missing tag": (lambda r: f"{r.host}/evil:none", "NOT_FOUND", "evil:none: not found"),
    "missing digest": (lambda r: f"{r.host}/evil@{NONE}", "NOT_FOUND", f"evil@{NONE}: not found"),
    "no reference": (lambda r: "", "INVALID_ARGUMENT", "invalid reference"),
    "nobody listens": (lambda r: "127.0.0.1:1/x:y", "UNAVAILABLE", "http://127.0.0.1:1/v2/x/manifests/y"),
    "layer is missing": (answer("layer", lambda h: h.answer(404)), "NOT_FOUND", sha(GZ)),
    "layer is forbidden": (answer("layer", lambda h: h.answer(403)), "PERMISSION_DENIED", "403 Forbidden"),
    "server is broken": (answer("layer", lambda h: h.answer(500)), "UNKNOWN", "500 Internal Server Error"),
    "wrong bytes": (answer("layer", lambda h: h.answer(200, GZ[:-1] + bytes([GZ[-1] ^ 1]))), "FAILED_PRECONDITION", f"expected {sha(GZ)}"),
    "drops the connection": (answer("layer", body(len(GZ), b"")), "UNAVAILABLE", sha(GZ)),
    "closes midway and again": (answer("layer", body(len(GZ), GZ[:500])), "UNAVAILABLE", sha(GZ)),
    "length too long": (answer("layer", body(len(GZ) + 9, GZ)), "FAILED_PRECONDITION", f"server has {len(GZ) + 9} bytes, descriptor says {len(GZ)}"),
    "length too short": (answer("layer", body(len(GZ) - 9, GZ[:-9])), "FAILED_PRECONDITION", f"server has {len(GZ) - 9} bytes"),
    "never ends": (answer("layer", endless), "FAILED_PRECONDITION", f"more than the {len(GZ)} bytes"),
    "headers never end": (answer("layer", endless_headers), "UNAVAILABLE", sha(GZ)),
    "not HTTP": (answer("tag", noise), "UNAVAILABLE", "failed to resolve image"),
    "redirects in a loop": (answer("layer", lambda h: h.answer(307, Location=h.path)), "UNAVAILABLE", "redirects"),
    "resolves in a loop": (answer("tag", lambda h: h.answer(307, Location=h.path)), "UNAVAILABLE", "redirects"),
    "redirects to a file": (answer("layer", lambda h: h.answer(307, Location="file:///etc/passwd")), "UNAVAILABLE", '"file" not supported'),
    "lies about the digest": (answer("tag", lambda h: h.answer(200, b"{}", Content_Type=OCI_MANIFEST, Docker_Content_Digest=NONE)), "NOT_FOUND", NONE),
    "wants a password for ever": (challenge('Basic realm="x"'), "UNAUTHENTICATED", "no basic auth credentials"),
    "refuses its own token": (challenge(BEARER, lambda h: h.answer(200, b'{"token":"abc"}')), "UNAUTHENTICATED", "401 Unauthorized"),
    "gives no token": (challenge(BEARER, lambda h: h.answer(401)), "UNAUTHENTICATED", "anonymous token"),
    "token with a header in it": (challenge(BEARER, lambda h: h.answer(200, b'{"token":"a\\r\\nb: c"}')), "UNAUTHENTICATED", "did not include a token"),
    "senseless challenge": (challenge('Bearer realm="\\' + '"' * 3000), "UNAUTHENTICATED", "realm"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_bad_answer_of_registry(api, reg, case):
    make, code, text = ANSWERS[case]
    got, words = refused(api.pull, make(reg))
    assert got == code and text in words, words


# ---- documents ----

def config_of(data):
    return lambda r: good(r, change=lambda m: m.update(config=evil.descriptor(r.blob(data), OCI_CONFIG)))


def with_config(**kw):
    return {"schemaVersion": 2, "config": {"mediaType": OCI_CONFIG, "digest": NONE, "size": 5, **kw}, "layers": []}


def nested_indexes(reg, deep, wide):
    x = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    for i in range(deep):
        reg.manifest(f"n{i}", x, OCI_INDEX)
        x = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [evil.descriptor(x, OCI_INDEX)] * wide}).encode()
    return reg.manifest("t", x, OCI_INDEX)


def many_layers(reg):
    tar = images.tar_of([("a", b"x")])
    return reg.image("t", [(tar, OCI_LAYER, tar)] * 5000)


def doc(document, media_type=OCI_MANIFEST):
    return lambda r: r.manifest("t", document, media_type)


def layer(**kw):
    return lambda r: good(r, change=lambda m: m["layers"][0].update(kw))


DOCUMENTS = {
    "empty": (doc(b""), "INVALID_ARGUMENT", "JSON"),
    "noise": (doc(os.urandom(5000)), "INVALID_ARGUMENT", "JSON"),
    "list": (doc(b"[]"), "INVALID_ARGUMENT", "no config or no layers"),
    "null": (doc(b"null"), "INVALID_ARGUMENT", "JSON"),
    "deep objects": (doc(b'{"a":' * 100000 + b"1" + b"}" * 100000), "INVALID_ARGUMENT", "depth"),
    "deep lists": (doc(b"[" * 2000000), "INVALID_ARGUMENT", "depth"),
    "as deep as is read": (doc(b'{"a":' * 256 + b"1" + b"}" * 256), "INVALID_ARGUMENT", "no config or no layers"),
    "too large": (doc(b'{"a":"' + b"x" * 5000000 + b'"}'), "INVALID_ARGUMENT", "larger than"),
    "wrong types": (doc({"schemaVersion": "2", "mediaType": 5, "config": [], "layers": {}}), "INVALID_ARGUMENT", "no config or no layers"),
    "negative size": (doc(with_config(size=-5)), "INVALID_ARGUMENT", "no valid size"),
    "size is a fraction": (doc(with_config(size=1e300)), "INVALID_ARGUMENT", "no valid size"),
    "size overflows": (doc(json.dumps(with_config(size="N")).replace('"N"', "9" * 30).encode()), "INVALID_ARGUMENT", "too big integer"),
    "digest is a path": (doc(with_config(digest="sha256:../../../etc")), "INVALID_ARGUMENT", "invalid checksum digest"),
    "NUL": (doc(b'{"schemaVersion":2,"mediaType":"a\\u0000b","config":{},"layers":[]}'), "INVALID_ARGUMENT", "JSON"),
    "not UTF-8": (doc(b'{"schemaVersion":2,"mediaType":"a\xff\xfeb"}'), "INVALID_ARGUMENT", "JSON"),
    "schema 1": (doc({"schemaVersion": 1, "fsLayers": []}), "UNIMPLEMENTED", "schema 1"),
    "an index, too": (doc({**with_config(), "manifests": []}), "INVALID_ARGUMENT", "both layers and manifests"),
    "other than it says": (doc({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}, OCI_INDEX), "INVALID_ARGUMENT", "manifest says it is"),
    "empty index": (doc({"schemaVersion": 2, "manifests": []}, OCI_INDEX), "NOT_FOUND", "no match for platform"),
    "web page": (doc(b"<html>", "text/html"), "UNIMPLEMENTED", "text/html"),
    "indexes in one another": (lambda r: nested_indexes(r, 50, 1), "INVALID_ARGUMENT", "indexes in one another"),
    "indexes without number": (lambda r: nested_indexes(r, 7, 30), "INVALID_ARGUMENT", "manifests and indexes"),
    "5000 layers": (many_layers, "INVALID_ARGUMENT", "5000"),
    "config is noise": (config_of(b"not json"), "INVALID_ARGUMENT", "image config: JSON"),
    "config is deep": (config_of(b'{"a":' * 100000), "INVALID_ARGUMENT", "depth"),
    "config is huge": (config_of(b'{"a":"' + b"1" * 10000000 + b'"}'), "INVALID_ARGUMENT", "10000008 bytes"),
    "more diff ids than layers": (lambda r: good(r, diff_ids=[sha(TAR)] * 2), "INVALID_ARGUMENT", "2 diff ids, 1 layers"),
    "wrong diff id": (lambda r: good(r, diff_ids=[NONE]), "FAILED_PRECONDITION", f'wrong diff id "{NONE}"'),
    "diff id is a number": (lambda r: good(r, diff_ids=[5]), "INVALID_ARGUMENT", "diff_id 0"),
    "layer of unknown type": (layer(mediaType="application/vnd.evil"), "UNIMPLEMENTED", "application/vnd.evil"),
    "layer is called a manifest": (layer(mediaType=OCI_MANIFEST), "UNIMPLEMENTED", "no processor"),
    "layer smaller than said": (layer(size=10_000_000), "FAILED_PRECONDITION", "descriptor says 10000000"),
    "layer larger than said": (layer(size=10), "FAILED_PRECONDITION", "descriptor says 10"),
    "layer of no size": (layer(size=0), "FAILED_PRECONDITION", sha(GZ)),
    "layer of all sizes": (layer(size=2 ** 62), "FAILED_PRECONDITION", str(2 ** 62)),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_bad_document(api, reg, case):
    make, code, text = DOCUMENTS[case]
    got, words = refused(api.pull, make(reg))
    assert got == code and text in words, words


def test_strange_but_valid_documents_are_pulled(api, reg):
    for change in ({"annotations": {"org.opencontainers.image.ref.name": "../../../x\n" * 100}}, {"annotations": {"a": 5}}):
        api.pull(layer(**change)(reg))
    assert len(api.snapshot_keys()) == 1


def test_unknown_snapshotter(api, reg):
    code, words = refused(api.pull, good(reg), unpack="nope")
    assert code == "INVALID_ARGUMENT" and "snapshotter not loaded: nope" in words


# ---- in the middle ----

def stall(reg, data=BIG, at=500_000):
    """The first answer stops after some bytes until the registry is closed; one that asks for the rest gets it."""
    reached = threading.Event()

    def hook(h):
        if "Range" in h.headers or h.command == "HEAD":
            return False
        body(len(data), data[:at], drop=False)(h)
        reached.set()
        reg.hold()
        h.drop()
    reg.hooks[sha(data)] = hook
    return reached


def big(reg):
    return reg.image("t", [(BIG, OCI_LAYER + "+gzip", BIG_TAR)])


def test_cancel_while_registry_stalls(api, reg, gone):
    ref, reached = big(reg), stall(reg)
    call = api.pull_later(ref)
    assert reached.wait(harness.SECONDS)
    call.cancel()
    gone.check(resumable=True)  # the registry would hold it for longer


def test_deadline_while_registry_stalls(api, reg):
    ref = big(reg)
    reg.hooks["manifests/t"] = lambda h: (reg.hold(), h.drop())
    assert refused(api.pull, ref, timeout=0.5)[0] == "DEADLINE_EXCEEDED"


def test_download_is_resumed_until_it_is_whole(api, reg):
    ref, asked = big(reg), []

    def hook(h):
        start = int(h.headers.get("Range", "bytes=0-")[6:-1])
        asked.append(start)
        if start > 1_500_000:
            return False
        h.begin(206 if start else 200, len(BIG) - start, **({"Content_Range": f"bytes {start}-{len(BIG) - 1}/{len(BIG)}"} if start else {}))
        h.wfile.write(BIG[start:start + 400_000])
        h.wfile.flush()
        h.drop()
    reg.hooks[sha(BIG)] = hook
    api.pull(ref)
    assert asked == sorted(asked) and len(asked) > 3


def test_server_that_cannot_resume_sends_all_again(api, reg):
    ref, n = big(reg), [0]

    def hook(h):
        n[0] += 1
        if n[0] > 3:
            h.answer(200, BIG)
        else:
            body(len(BIG), BIG[:300_000 * n[0]])(h)
    reg.hooks[sha(BIG)] = hook
    api.pull(ref)


def test_server_that_resumes_elsewhere(api, reg):
    ref, n = big(reg), [0]

    def hook(h):
        n[0] += 1
        if n[0] == 1:
            body(len(BIG), BIG[:400_000])(h)
            return
        start = int(h.headers["Range"][6:-1])
        h.begin(206, len(BIG) - start, Content_Range=f"bytes 0-{len(BIG) - 1}/{len(BIG)}")
        h.wfile.write(BIG[:len(BIG) - start])
    reg.hooks[sha(BIG)] = hook
    assert "server sent bytes from 0 when asked for" in refused(api.pull, ref)[1]


@pytest.mark.parametrize("role", ["fetch", "unpack"])
def test_worker_is_killed(api, daemon, reg, role):
    ref, reached = big(reg), stall(reg)
    call = api.pull_later(ref)
    assert reached.wait(harness.SECONDS)
    for pid in harness.until("worker", lambda: workers(daemon, role)):
        os.kill(pid, signal.SIGKILL)
    if role == "unpack":
        reg.released.set()
    code, words = refused(call.result, harness.SECONDS)
    assert code == "UNAVAILABLE" and "containerd-worker" in words and sha(BIG) in words, words
    reg.hooks.clear()
    api.pull(ref)


def test_worker_that_hangs_is_ended_with_the_call(api, daemon, reg, gone):
    many = images.tar_of([(f"d{i % 100}/f{i}", b"") for i in range(30000)])
    call = api.pull_later(reg.image("t", [(gzip.compress(many, 1), OCI_LAYER + "+gzip", many)]))
    harness.until("worker", lambda: workers(daemon, "unpack"))
    for pid in workers(daemon):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    call.cancel()
    gone.check(resumable=True)


def test_one_image_by_many_clients(api, reg):
    ref = reg.image("t", [(BIG, OCI_LAYER + "+gzip", BIG_TAR), (GZ, OCI_LAYER + "+gzip", TAR)])
    for call in [api.pull_later(ref) for _ in range(8)]:
        call.result(harness.SECONDS)
    assert api.image_names() == [ref] and len(api.snapshot_keys()) == 2
    assert len([1 for _, path, _ in reg.seen if "/blobs/" in path]) == 3


def test_second_client_goes_on_where_the_first_gave_up(api, reg):
    ref, reached = big(reg), stall(reg)
    first = api.pull_later(ref)
    assert reached.wait(harness.SECONDS)
    second = api.pull_later(ref)
    harness.until("both to be at it", lambda: len([1 for m, p, _ in reg.seen if m == "HEAD" and "manifests" in p]) == 2)
    first.cancel()
    second.result(harness.SECONDS)
    ranges = [h.get("Range") for _, path, h in reg.seen if path.endswith(sha(BIG))]
    assert ranges[0] is None and all(ranges[1:])


def test_wrong_bytes_are_not_kept_for_the_next_attempt(api, reg):
    ref = good(reg)
    lease = api.leases.Create().lease.id
    metadata = api.metadata() + [("containerd-lease", lease)]

    def pull():
        api.transfer.stub.Transfer(api.pull_request(ref), metadata=metadata, timeout=harness.SECONDS)
    reg.blobs[sha(GZ)] = GZ[:-1] + bytes([GZ[-1] ^ 1])
    assert refused(pull)[0] == "FAILED_PRECONDITION"
    assert api.ingests() == [f"layer-{sha(GZ)}"]
    reg.blobs[sha(GZ)] = GZ
    pull()
    api.leases.Delete(id=lease)


def test_daemon_is_killed_in_a_pull(stubs, reg):
    d = evil.new_daemon()
    d.start()
    try:
        ref, reached = big(reg), stall(reg)
        api = evil.Api(stubs, d)
        call = api.pull_later(ref)
        assert reached.wait(harness.SECONDS)
        harness.until("bytes on the disk", lambda: any(f.stat().st_size >= 400_000 for f in
                                                       (d.root / "io.containerd.content.v1.content/ingest").glob("*/data")))
        helpers = workers(d)
        d.kill()
        call.exception(harness.SECONDS)
        api.close()
        harness.until("workers to end", lambda: not [w for w in helpers if harness.alive(w)])
        d.start()
        api = evil.Api(stubs, d)
        before = len(reg.seen)
        api.pull(ref)
        ranges = [h.get("Range") for _, path, h in reg.seen[before:] if path.endswith(sha(BIG))]
        assert len(ranges) == 1 and int(ranges[0][6:-1]) >= 400_000
        # The lease of the pull that was cut off is there until it expires.
        for lease in api.lease_ids():
            api.leases.Delete(id=lease)
        api.remove_images()
        assert (api.snapshot_keys(), api.digests(), api.ingests()) == ([], [], [])
        assert os.listdir(d.root / "io.containerd.snapshotter.v1.overlayfs/snapshots") == []
        api.close()
    finally:
        d.close()


# ---- a full disk ----

@pytest.fixture
def small_disk(stubs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    d = evil.new_daemon(directory=disk)
    try:
        d.start()
        a = evil.Api(stubs, d)
        yield a, disk
        a.close()
    finally:
        try:
            d.close()
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def used(disk):
    s = os.statvfs(disk)
    return (s.f_blocks - s.f_bfree) * s.f_frsize


def test_disk_is_full(small_disk, reg):
    """While fetching, while unpacking, while writing metadata; afterwards all room is free again."""
    api, disk = small_disk
    large = os.urandom(30 << 20)
    tar = images.tar_of([("a", b"\1" * (40 << 20))])
    small = reg.image("small", [(TAR, OCI_LAYER, TAR)])
    empty = used(disk)
    gone = evil.Gone(api)

    for ref in (reg.image("f", [(large, OCI_LAYER, large)]), reg.image("u", [(gzip.compress(tar, 1), OCI_LAYER + "+gzip", tar)])):
        for _ in range(2):
            code, words = refused(api.pull, ref)
            assert code == "RESOURCE_EXHAUSTED" and "no space left on device" in words and ref in words, words
    gone.check(resumable=True)

    def fill(left):
        """When what failed before has been removed."""
        api.collect()
        harness.until("room to be free", lambda: used(disk) < empty + (1 << 20))
        (disk / "filler").write_bytes(b"")
        s = os.statvfs(disk)
        with open(disk / "filler", "wb") as f:
            f.write(b"x" * max(0, s.f_bavail * s.f_frsize - left))
    for left in (0, 8192, 30000):
        try:
            fill(left)
            assert refused(api.pull, small)[0] == "RESOURCE_EXHAUSTED"
        finally:
            (disk / "filler").unlink()
    gone.check(resumable=True)
    api.pull(small)
    api.remove_images()
    harness.until("room to be free", lambda: used(disk) < empty + (1 << 20))
    assert (api.snapshot_keys(), api.digests(), api.ingests()) == ([], [], [])
    api.daemon.restart()


def test_removal_from_a_full_disk_frees_it(small_disk, reg):
    api, disk = small_disk
    tar = images.tar_of([("a", b"\1" * (8 << 20))])
    ref = reg.image("t", [(gzip.compress(tar, 1), OCI_LAYER + "+gzip", tar)])
    api.pull(ref)
    s = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * (s.f_bavail * s.f_frsize))
    api.images.Delete(name=ref, sync=True)
    harness.until("room to be free", lambda: os.statvfs(disk).f_bavail * s.f_frsize > 7 << 20)


def test_other_clients_are_served_meanwhile(api, reg):
    """Pulls that hang take no thread and no lock from others."""
    refs = []
    for i in range(20):
        reg.hooks[f"manifests/h{i}"] = lambda h: (reg.hold(), h.drop())
        refs.append(f"{reg.host}/evil:h{i}")
    calls = [api.pull_later(ref, timeout=600) for ref in refs]
    harness.until("all to wait", lambda: len(reg.seen) >= len(refs))
    api.images.List()
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    for call in calls:
        with pytest.raises(grpc.FutureCancelledError):
            call.result(harness.SECONDS)
