# SPDX-License-Identifier: Apache-2.0
"""Calls of all services that run nothing, and what containerd 2.3 answers. See rpc.py for the language, test_every_rpc.py for the use.

Unless a step says otherwise its objects are kept by labels of the garbage collector, which runs at any time."""
import hashlib
import re
import time

from rpc import Do, Step, has

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
RUNC = "io.containerd.runc.v2"
ROOT = {"containerd.io/gc.root": "1"}
BIG = "v" * 4094
LONG_LABEL = has("label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: key: invalid argument")
WELL_FORMED = r"must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"
INVALID, MISSING, EXISTS, PRECONDITION = "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"
UNIMPLEMENTED, RANGE, UNKNOWN = "UNIMPLEMENTED", "OUT_OF_RANGE", "UNKNOWN"


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def bad_filter(text, twice=True):
    """The error of a filter with a wrong operator; several services append its class a second time."""
    return has("filters: parse error: [", text, ": invalid argument: invalid argument" if twice else ": invalid argument")


def target(**more):
    return {"media_type": MANIFEST, "digest": "sha256:" + "12" * 32, "size": 7, **more}


def bad_identifiers(method, make, prefix=""):
    """Steps with ids that no identifier may have."""
    return [Step(method, make(""), code=INVALID, text=has("identifier must not be empty: invalid argument")),
            Step(method, make("x" * 77), code=INVALID, text=has(f'identifier "{"x" * 77}" greater than maximum length (76 characters): invalid argument')),
            *[Step(method, make(i), code=INVALID, text=has(f'identifier "{i}" {WELL_FORMED}')) for i in ("a..b", "-a", "a/b", "a_", "a b")]]


def same(value, *path):
    """A check: the answer's part of this path."""
    def check(world, answer):
        for p in path:
            answer = getattr(answer, p) if hasattr(answer, p) else answer[p]
        have = dict(answer) if isinstance(value, dict) else list(answer) if isinstance(value, list) else answer
        return None if have == value else f"{have!r} != {value!r}"
    return check


def both(*checks):
    def check(world, answer):
        for c in checks:
            wrong = c(world, answer)
            if wrong is not None and wrong is not True:
                return wrong
        return None
    return check


# ---- version, introspection, health, namespaces ----

VERSION = [Step("Version", ok=lambda w, a: bool(re.match(r"\d+\.\d+\.\d+", a.version) and a.revision))]


def server_is_complete(w, a):
    import os
    pidns = int(os.readlink(f"/proc/{a.pid}/ns/pid").split("[")[1][:-1])
    return a.pid == w["daemon"].process.pid and a.pidns == pidns and bool(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", a.uuid))


INTROSPECTION = [
    Step("Server", ok=server_is_complete),
    Step("Plugins", ok=lambda w, a: len(a.plugins) > 30),
    Step("Plugins", {"filters": ["type==io.containerd.snapshotter.v1,id==native"]}, ok=lambda w, a: [p.id for p in a.plugins] == ["native"]),
    Step("Plugins", {"filters": ["id==nobody"]}, ok=same([], "plugins")),
    Step("Plugins", {"filters": ["type=x"]}, code=INVALID, text=has('unsupported operator "="')),
    Step("PluginInfo", {"type": "io.containerd.runtime.v2", "id": "task", "options": ("containerd.types.RuntimeRequest", b"\x0a\x15" + RUNC.encode())},
         ok=lambda w, a: a.extra.type_url == "containerd.types.RuntimeInfo" and a.plugin.id == "task"),
    Step("PluginInfo", {"type": "io.containerd.content.v1", "id": "content"}, ok=same("content", "plugin", "id")),
    Step("PluginInfo", {"type": "io.containerd.x.v1", "id": "y"}, code=MISSING, text=has("plugin io.containerd.x.v1.y not found")),
    Step("PluginInfo", {}, code=MISSING),
    Step("PluginInfo", {"type": "io.containerd.runtime.v2", "id": "task", "options": ("no.such.Type", b"\xff\xff")}, code=UNIMPLEMENTED),
]


def watch_health(w, client):
    import rpc
    m = "grpc.health.v1.Health/Watch"
    stream = client.callable(m)(rpc.build(rpc.METHODS[m].request, {}), timeout=90)
    assert next(stream).status == 1
    stream.cancel()


def watch_unknown(w, client):
    import rpc
    m = "grpc.health.v1.Health/Watch"
    stream = client.callable(m)(rpc.build(rpc.METHODS[m].request, {"service": "no.such"}), timeout=90)
    assert next(stream).status == 3, "SERVICE_UNKNOWN"
    stream.cancel()


HEALTH = [
    Step("Check", ok=same(1, "status")),
    Step("Check", {"service": "no.such"}, code=MISSING),
    Step("List", ok=lambda w, a: a.statuses[""].status == 1),
    Do("Watch", watch_health), Do("Watch", watch_unknown, good=False),
]


def ns(name, **labels):
    return {"namespace": {"name": name, **({"labels": labels} if labels else {})}}


NAMESPACES = [
    Step("Get", {"name": "never-made"}, ok=lambda w, a: a.namespace.name == "never-made" and not a.namespace.labels),
    *bad_identifiers("Create", ns),
    Step("Create", {}, code=INVALID),
    Step("Create", ns("n1", a="1", b="2", empty=""), ok=same({"a": "1", "b": "2", "empty": ""}, "namespace", "labels"),
         events=[("/namespaces/create", {"name": "n1", "labels": {"a": "1", "b": "2", "empty": ""}})]),
    Step("Get", {"name": "n1"}, ok=same({"a": "1", "b": "2"}, "namespace", "labels")),
    Step("Create", ns("n1"), code=EXISTS, text=has('namespace "n1": already exists')),
    Step("Create", ns("n2", key=BIG), code=INVALID, text=LONG_LABEL),
    Step("Get", {"name": ""}, code=INVALID),
    Step("List", ok=lambda w, a: "n1" in [n.name for n in a.namespaces]),
    Step("List", {"filter": "name==nobody"}, ok=lambda w, a: "n1" in [n.name for n in a.namespaces]),
    Step("Update", {**ns("n1", a="9"), "update_mask": {"paths": ["labels.a"]}}, ok=same({"a": "9", "b": "2"}, "namespace", "labels"),
         events=[("/namespaces/update", {"name": "n1"})]),
    Step("Update", {**ns("n1"), "update_mask": {"paths": ["labels.b"]}}, events=["/namespaces/update"]),
    Step("Get", {"name": "n1"}, ok=same({"a": "9"}, "namespace", "labels")),
    Step("Update", ns("n1", only="this"), events=["/namespaces/update"]),
    Step("Get", {"name": "n1"}, ok=same({"only": "this"}, "namespace", "labels")),
    *[Step("Update", {**ns("n1"), "update_mask": {"paths": [p]}}, code=INVALID) for p in ("labels", "name", "", "Labels.a")],
    Step("Update", {**ns("n1", key=BIG), "update_mask": {"paths": ["labels.key"]}}, code=INVALID, text=has("greater than maximum size")),
    Step("Update", ns("a..b"), code=INVALID),
    Step("Delete", {"name": "n1"}, events=[("/namespaces/delete", {"name": "n1"})]),
    Step("Delete", {"name": "n1"}, code=MISSING, text=has('namespace "n1": not found')),
    Step("Delete", {"name": ""}, code=INVALID),
    Step("Delete", lambda w: {"name": w["ns"]}, code=PRECONDITION,
         text=has('must be empty, but it still has images, blobs', 'snapshots on "overlayfs" snapshotter: failed precondition')),
]


# ---- containers ----

def container(id, **more):
    return {"id": id, "runtime": {"name": RUNC}, "spec": (SPEC, b'{"ociVersion":"1.1.0"}'), **more}


def change(id, paths, **fields):
    return {"container": {"id": id, **fields}, "update_mask": {"paths": paths}}


CONTAINERS = [
    *bad_identifiers("Create", lambda i: {"container": container(i)}),
    Step("Create", {}, code=INVALID),
    Step("Create", {"container": {**container("c"), "runtime": {"name": ""}}}, code=INVALID, text=has("untime.Name must be set: invalid argument")),
    Step("Create", {"container": {"id": "c", "spec": (SPEC, b"{}")}}, code=INVALID, text=has("untime.Name must be set")),
    Step("Create", {"container": container("c", snapshot_key="k")}, code=INVALID, text=has("napshotter")),
    Step("Create", {"container": container("c", extensions={"": ("x", b"y")})}, code=INVALID, text=has("xtension keys must not be zero-length")),
    Step("Create", {"container": container("c", labels={"key": BIG})}, code=INVALID, text=LONG_LABEL),
    Step("Create", {"container": container("c1", image="i", labels={"a": "1", "b": "2", "gone": ""}, snapshotter="overlayfs", snapshot_key="sk",
                                           extensions={"e": ("x.Y", b"z")}, sandbox="sb")},
         ok=lambda w, a: a.container.created_at.seconds > 0 and a.container.created_at == a.container.updated_at,
         events=[("/containers/create", {"id": "c1", "image": "i", "runtime": {"name": RUNC}})]),
    Step("Create", {"container": container("c1")}, code=EXISTS, text='container "c1": already exists'),
    Step("Create", {"container": {"id": "no-spec", "runtime": {"name": RUNC}}}, events=["/containers/create"]),
    Step("Get", {"id": "c1"}, keep="c1", ok=both(same({"a": "1", "b": "2"}, "container", "labels"), same("sk", "container", "snapshot_key"),
                                                 same("sb", "container", "sandbox"), same(b"z", "container", "extensions", "e", "value"),
                                                 same(SPEC, "container", "spec", "type_url"))),
    Step("Get", {"id": "nobody"}, code=MISSING, text=has('container "nobody" in namespace "every', '": not found')),
    Step("Get", {"id": ""}, code=MISSING),
    Step("Get", {"id": "c1"}, ns="elsewhere", code=MISSING),
    Step("List", {}, ok=lambda w, a: [c.id for c in a.containers] == ["c1", "no-spec"]),
    Step("List", {}, ns="elsewhere", ok=same([], "containers")),
    Step("List", {"filters": ["id=~x"]}, code=INVALID, text=bad_filter('unsupported operator "=~"')),
    Step("ListStream", {}, ok=lambda w, a: [m.container.id for m in a] == ["c1", "no-spec"]),
    Step("ListStream", {"filters": ["id==c1"]}, ok=lambda w, a: [m.container.id for m in a] == ["c1"]),
    Step("ListStream", {"filters": ["id=~x"]}, code=INVALID, text=bad_filter('unsupported operator "=~"')),
    Step("Update", change("c1", ["labels.a", "image"], image="j", labels={"a": "9", "b": "not taken"}),
         ok=both(same({"a": "9", "b": "2"}, "container", "labels"), same("j", "container", "image")),
         events=[("/containers/update", {"id": "c1", "image": "j", "labels": {"a": "9", "b": "2"}, "snapshot_key": "sk"})]),
    Step("Update", change("c1", ["labels.a"]), events=["/containers/update"]),
    Step("Get", {"id": "c1"}, ok=both(same({"b": "2"}, "container", "labels"),
                                      lambda w, a: a.container.created_at == w["c1"].container.created_at and
                                      (a.container.updated_at.seconds, a.container.updated_at.nanos) > (a.container.created_at.seconds, a.container.created_at.nanos))),
    Step("Update", change("c1", ["labels"], labels={"n": "1"}), ok=same({"n": "1"}, "container", "labels"), events=["/containers/update"]),
    Step("Update", change("c1", ["spec"], spec=(SPEC, b"{}")), ok=same(b"{}", "container", "spec", "value"), events=["/containers/update"]),
    Step("Update", change("c1", ["extensions.f"], extensions={"f": ("x.Y", b"f")}),
         ok=lambda w, a: sorted(a.container.extensions) == ["e", "f"], events=["/containers/update"]),
    Step("Update", change("c1", ["snapshotkey"], snapshot_key="other"), ok=same("other", "container", "snapshot_key"), events=["/containers/update"]),
    *[Step("Update", change("c1", [p], labels={"x": "y"}), code=INVALID, text=has(f'cannot update "{p}" field on "c1": invalid argument'))
      for p in ("runtime", "snapshotKey", "snapshot_key", "id", "nope", "labelsx", "created_at")],
    Step("Update", change("c1", ["labels.key"], labels={"key": BIG}), code=INVALID, text=has("greater than maximum size")),
    Step("Update", change("", ["labels"]), code=INVALID),
    Step("Update", {}, code=INVALID),
    Step("Update", change("nobody", ["labels"]), code=MISSING, text=has('container "nobody": not found')),
    Step("Update", {"container": container("c1", snapshotter="native")}, code=INVALID, text=has("immutable")),
    Step("Update", {"container": {**container("c1", snapshotter="overlayfs"), "runtime": {"name": "other.v1"}}}, code=INVALID, text=has("immutable")),
    Step("Update", {"container": container("c1", snapshotter="overlayfs", snapshot_key="sk", image="k")},
         ok=both(same({}, "container", "labels"), same("k", "container", "image")), events=["/containers/update"]),
    Step("Delete", {"id": "c1"}, events=[("/containers/delete", {"id": "c1"})]),
    Step("Delete", {"id": "no-spec"}, events=["/containers/delete"]),
    Step("Delete", {"id": "c1"}, code=MISSING, text=has('container "c1"', "not found")),
    Step("Delete", {"id": ""}, code=MISSING),
]


# ---- images ----

def image(name, **more):
    return {"image": {"name": name, "target": target(), **more}}


OTHER = "sha256:" + "ab" * 32
IMAGES = [
    Step("Create", {}, code=INVALID),
    Step("Create", image(""), code=INVALID, text=has("ame")),
    Step("Create", {"image": {"name": "x"}}, code=INVALID),
    Step("Create", {"image": {"name": "x", "target": target(size=0)}}, code=INVALID, text=has("target.Size must be greater than zero: invalid argument")),
    Step("Create", {"image": {"name": "x", "target": target(size=-1)}}, code=INVALID, text=has("target.Size must be greater than zero")),
    Step("Create", {"image": {"name": "x", "target": target(media_type="")}}, code=INVALID, text=has("target.MediaType")),
    *[Step("Create", {"image": {"name": "x", "target": target(digest=d)}}, code=INVALID, text=has(f'target.Digest "{d}" invalid: {why}: invalid argument'))
      for d, why in (("sha256:12", "invalid checksum digest length"), ("", "invalid checksum digest format"), ("sha256:" + "G" * 64, "invalid checksum digest format"),
                     ("md5:" + "1" * 32, "unsupported digest algorithm"), ("sha256:" + "A" * 64, "invalid checksum digest format"))],
    Step("Create", image("x", labels={"key": BIG}), code=INVALID, text=LONG_LABEL),
    Step("Create", image("a/b:1", labels={"l": "1", "gone": ""}), ok=lambda w, a: a.image.created_at.seconds > 1700000000,
         events=[("/images/create", {"name": "a/b:1"})]),
    Step("Create", image("a/b:1"), code=EXISTS, text='image "a/b:1": already exists'),
    Step("Create", {**image("old"), "source_date_epoch": {"seconds": 1000000000}},
         ok=lambda w, a: (a.image.created_at.seconds, a.image.updated_at.seconds) == (1000000000, 1000000000), events=["/images/create"]),
    Step("Get", {"name": "a/b:1"}, keep="made", ok=both(same({"l": "1"}, "image", "labels"), same(7, "image", "target", "size"))),
    Step("Get", {"name": "nobody"}, code=MISSING, text='image "nobody": not found'),
    Step("Get", {"name": ""}, code=MISSING),
    Step("List", {"filters": ["name==old", "name==a/b:1"]}, ok=lambda w, a: [i.name for i in a.images] == ["a/b:1", "old"]),
    Step("List", {"filters": ["name=~x"]}, code=INVALID,
         text='filters: parse error: [name >|=|< ~x]: unsupported operator "=~": invalid argument: invalid argument'),
    Step("Update", {**image("a/b:1", labels={"l": "2", "m": "3"}), "update_mask": {"paths": ["labels.m"]}}, ok=same({"l": "1", "m": "3"}, "image", "labels"),
         events=[("/images/update", {"name": "a/b:1", "labels": {"l": "1", "m": "3"}})]),
    Step("Update", {"image": {"name": "a/b:1", "target": target(digest=OTHER, annotations={"a": "b"})}, "update_mask": {"paths": ["target"]}},
         ok=both(same(OTHER, "image", "target", "digest"), same({"l": "1", "m": "3"}, "image", "labels")), events=["/images/update"]),
    Step("Update", {"image": {"name": "a/b:1", "target": target(annotations={"c": "d"})}, "update_mask": {"paths": ["annotations.c"]}},
         ok=same({"a": "b", "c": "d"}, "image", "target", "annotations"), events=["/images/update"]),
    Step("Update", {"image": {"name": "a/b:1", "target": target(annotations={"e": "f"})}, "update_mask": {"paths": ["annotations"]}},
         ok=both(same({"e": "f"}, "image", "target", "annotations"), same(OTHER, "image", "target", "digest")), events=["/images/update"]),
    *[Step("Update", {**image("a/b:1"), "update_mask": {"paths": [p]}}, code=INVALID, text=has("cannot update", p)) for p in ("name", "nope", "created_at", "target.size")],
    Step("Update", {**image("a/b:1", labels={"key": BIG}), "update_mask": {"paths": ["labels.key"]}}, code=INVALID, text=has("greater than maximum size")),
    Step("Update", image("nobody"), code=MISSING, text=has('image "nobody": not found')),
    Step("Update", image(""), code=INVALID),
    Step("Update", {}, code=INVALID),
    Step("Update", {"image": {"name": "a/b:1", "target": target(digest="sha256:1")}}, code=INVALID),
    Step("Update", image("a/b:1", labels={"n": "1"}), ok=both(same({"n": "1"}, "image", "labels"), same({}, "image", "target", "annotations"),
                                                              lambda w, a: a.image.created_at == w["made"].image.created_at), events=["/images/update"]),
    Step("Update", {**image("a/b:1"), "source_date_epoch": {"seconds": 1100000000}}, ok=lambda w, a: a.image.updated_at.seconds == 1100000000, events=["/images/update"]),
    Step("Delete", {"name": "a/b:1", "target": target(digest=OTHER)}, code=MISSING, text=has('image "a/b:1" has target', OTHER)),
    Step("Delete", {"name": "a/b:1", "target": target()}, events=[("/images/delete", {"name": "a/b:1"})]),
    Step("Delete", {"name": "old", "sync": True}, events=["/images/delete"]),
    Step("Delete", {"name": "old"}, code=MISSING, text=has('image "old": not found')),
    Step("Delete", {"name": ""}, code=MISSING),
    # An image that has expired goes with the next collection, and that is told.
    Step("Create", image("expired", labels={"containerd.io/gc.expire": "2020-01-01T00:00:00Z"}), events=["/images/create"]),
    Step("containerd.services.leases.v1.Leases/Create", {"id": "images-gc"}),
    Step("containerd.services.leases.v1.Leases/Delete", {"id": "images-gc", "sync": True}, events=[("/images/delete", {"name": "expired"})]),
    Step("Get", {"name": "expired"}, code=MISSING),
]

# ---- content ----

DATA = bytes(range(256)) * 20
D = sha(DATA)
STAT, WRITE, COMMIT = 0, 1, 2
WRONG_DIGESTS = ["", "x", "sha256:", "sha256:12", "sha256:" + "z" * 64, "md5:" + "0" * 32, "../../etc/passwd", D + "0", D.upper()]


def w(ref=None, action=WRITE, **more):
    return {"action": action, **({"ref": ref} if ref else {}), **more}


def digest_error(d):
    return Step("Info", {"digest": d}, code=INVALID, text=has("digest"))


CONTENT = [
    Step("Write", [w()], code=INVALID, text="first message must have a reference"),
    Step("Write", [], code=INVALID),
    Step("Write", [w("r1", STAT)], ok=lambda w, a: a[0].offset == 0 and a[0].started_at.seconds > 0 and a[0].updated_at.seconds > 0 and a[0].digest == sha(b"")),
    # The last answer comes again when the client is done.
    Step("Write", [w("r1", data=DATA[:100], total=len(DATA))], ok=lambda w, a: [(x.offset, x.digest) for x in a] == [(100, sha(DATA[:100]))] * 2 and
         not a[0].HasField("started_at")),
    Step("Status", {"ref": "r1"}, ok=lambda w, a: (a.status.ref, a.status.offset, a.status.expected) == ("r1", 100, "")),
    Step("Status", {"ref": "nobody"}, code=MISSING, text=has("reference nobody: not found")),
    Step("Status", {"ref": "r1"}, ns="elsewhere", code=MISSING),
    Step("Status", {}, code=MISSING),
    Step("ListStatuses", {}, ok=lambda w, a: [s.ref for s in a.statuses] == ["r1"]),
    Step("ListStatuses", {"filters": ["ref==r1", "ref==r2"]}, ok=lambda w, a: [s.ref for s in a.statuses] == ["r1"]),
    Step("ListStatuses", {"filters": ["ref==r2"]}, ok=same([], "statuses")),
    Step("ListStatuses", {}, ns="elsewhere", ok=same([], "statuses")),
    Step("ListStatuses", {"filters": ["ref=r"]}, code=INVALID, text=has('unsupported operator "="')),
    Step("Write", [w("r1", offset=99, data=b"x")], code=RANGE, text="write @99 must occur at current offset 100"),
    Step("Write", [w("r1", offset=101, data=b"x")], code=RANGE, text=has("write @101 must occur at current offset 100")),
    Step("Write", [w("r1", offset=-1, data=b"x")], code=RANGE),
    Step("Write", [w("r1", offset=100, data=DATA[100:200])], ok=lambda w, a: a[0].offset == 200 and a[0].digest == sha(DATA[:200])),
    # An offset of zero starts over.
    Step("Write", [w("r1", offset=0, data=DATA[:10])], ok=lambda w, a: a[0].offset == 10 and a[0].digest == sha(DATA[:10])),
    # A total that was told only later is not remembered: nothing starts over.
    Step("Write", [w("r1", STAT, total=77)], ok=lambda w, a: a[0].offset == 10),
    # One that is another than the ingest's does.
    Step("Write", [w("tot", data=b"abcdef", total=9)]),
    Step("Status", {"ref": "tot"}, ok=lambda w, a: (a.status.offset, a.status.total) == (6, 9)),
    Step("Write", [w("tot", STAT, total=10)], ok=lambda w, a: (a[0].offset, a[0].total) == (0, 10)),
    Step("Write", [w("r1", data=b"abc", total=11), w(action=COMMIT, total=11)], code=PRECONDITION, text='"r1" failed size validation: 0 != 11: failed precondition'),
    Step("Write", [w("r2", data=b"abc"), w(action=COMMIT, offset=3, expected=sha(b"x"))], code=PRECONDITION,
         text=f"unexpected commit digest {sha(b'abc')}, expected {sha(b'x')}: failed precondition"),
    Step("Write", [w("r3", data=b"abc"), w(action=COMMIT, offset=2)], code=RANGE),
    Step("Write", [w("r4", data=b"abc"), w(action=COMMIT, offset=3, labels={"key": BIG})], code=INVALID, text=has("greater than maximum size")),
    Step("Write", [w("r5", data=b"a"), w("other", offset=1, data=b"b")], code=INVALID),
    Step("Write", [w("r6", data=b"a", expected="sha256:12")], code=INVALID),
    Step("Write", [w("r7", action=7)], code=INVALID),
    *[Step("Abort", {"ref": r}) for r in ("r1", "r3", "r4", "tot")],
    Step("Abort", {"ref": "r1"}, code=MISSING),
    Step("Abort", {"ref": ""}, code=MISSING),
    # From begin to end.
    Step("Write", [w("good", STAT), w(offset=0, data=DATA), w(action=COMMIT, offset=len(DATA), total=len(DATA), expected=D, labels={**ROOT, "l": "1", "gone": ""})],
         ok=lambda w, a: a[-1].digest == D and a[-1].offset == len(DATA) and a[-1].action == COMMIT and len(a) == 4,
         events=[("/content/create", {"digest": D, "size": str(len(DATA))})]),
    Step("Status", {"ref": "good"}, code=MISSING),
    Step("Write", [w("again", expected=D, data=DATA)], code=EXISTS, text=f"content {D}: already exists"),
    Step("Write", [w("again2", data=DATA), w(action=COMMIT, offset=len(DATA))], code=EXISTS, text=has(D)),
    Step("Status", {"ref": "again2"}, code=MISSING),
    Step("Write", [w("again3", STAT), w(expected=D, data=DATA)], code=EXISTS, text=has(f"blob with expected digest {D} exists")),
    Step("Status", {"ref": "again3"}, code=MISSING),
    Step("Write", [w("empty", STAT), w(action=COMMIT, labels=ROOT)], ok=lambda w, a: a[-1].digest == sha(b""), events=["/content/create"]),
    Step("Write", [w("x512", data=b"abc"), w(action=COMMIT, offset=3, labels=ROOT, expected="sha512:" + hashlib.sha512(b"abc").hexdigest())],
         ok=lambda w, a: a[-1].digest.startswith("sha512:"), events=["/content/create"]),
    Step("Write", [w("lease", data=b"abc")], lease="nobody", code=MISSING, text=has("lease does not exist: not found")),
    Step("Info", {"digest": D}, ok=both(same(len(DATA), "info", "size"), same({**ROOT, "l": "1"}, "info", "labels"), lambda w, a: a.info.created_at.seconds > 0)),
    Step("Info", {"digest": sha(b"no")}, code=MISSING, text=f"content digest {sha(b'no')}: not found"),
    Step("Info", {"digest": D}, ns="elsewhere", code=MISSING),
    *map(digest_error, WRONG_DIGESTS),
    Step("Read", {"digest": D}, ok=lambda w, a: b"".join(x.data for x in a) == DATA),
    Step("Read", {"digest": D, "offset": 5, "size": 7}, ok=lambda w, a: [(x.offset, x.data) for x in a] == [(0, DATA[5:12])]),
    Step("Read", {"digest": D, "offset": -3}, ok=lambda w, a: b"".join(x.data for x in a) == DATA),
    Step("Read", {"digest": D, "offset": 5100, "size": 1 << 62}, ok=lambda w, a: b"".join(x.data for x in a) == DATA[5100:]),
    Step("Read", {"digest": D, "size": -1}, ok=lambda w, a: b"".join(x.data for x in a) == DATA),
    Step("Read", {"digest": D, "offset": len(DATA)}, ok=lambda w, a: a == []),
    Step("Read", {"digest": D, "offset": len(DATA) + 1}, code=RANGE, text=has(f"read past object length {len(DATA)} bytes")),
    Step("Read", {"digest": sha(b"no")}, code=MISSING),
    Step("Read", {"digest": D}, ns="elsewhere", code=MISSING),
    *[Step("Read", {"digest": d}, code=INVALID) for d in WRONG_DIGESTS],
    Step("List", {}, ok=lambda w, a: {D, sha(b"")} <= {i.digest for r in a for i in r.info}),
    Step("List", {"filters": [f'digest=="{D}"']}, ok=lambda w, a: [i.digest for r in a for i in r.info] == [D]),
    Step("List", {"filters": ["digest=x"]}, code=INVALID, text=has('unsupported operator "="')),
    Step("Update", {"info": {"digest": D, "labels": {"m": "2", "l": "not taken"}}, "update_mask": {"paths": ["labels.m"]}},
         ok=same({**ROOT, "l": "1", "m": "2"}, "info", "labels")),
    Step("Update", {"info": {"digest": D, "labels": {}}, "update_mask": {"paths": ["labels.m"]}}, ok=same({**ROOT, "l": "1"}, "info", "labels")),
    Step("Update", {"info": {"digest": D, "labels": {**ROOT, "n": "3"}}, "update_mask": {"paths": ["labels"]}}, ok=same({**ROOT, "n": "3"}, "info", "labels")),
    Step("Update", {"info": {"digest": D, "labels": ROOT}}, ok=same(ROOT, "info", "labels")),
    *[Step("Update", {"info": {"digest": D}, "update_mask": {"paths": [p]}}, code=INVALID, text=has("cannot update", p)) for p in ("size", "digest", "nope")],
    Step("Update", {"info": {"digest": D, "labels": {"key": BIG}}, "update_mask": {"paths": ["labels.key"]}}, code=INVALID, text=has("greater than maximum size")),
    Step("Update", {"info": {"digest": sha(b"no")}}, code=MISSING),
    Step("Update", {"info": {"digest": "x"}}, code=INVALID),
    Step("Update", {}, code=INVALID),
    # Another namespace gets it without sending it: the default policy shares.
    Step("Write", [w("shared", STAT, expected=D, total=len(DATA))], ns="second", ok=lambda w, a: (a[0].offset, a[0].total) == (len(DATA), len(DATA))),
    Step("Status", {"ref": "shared"}, ns="second", ok=lambda w, a: (a.status.offset, a.status.expected) == (len(DATA), D)),
    Step("Info", {"digest": D}, ns="second", code=MISSING),
    Step("Write", [w("shared", STAT, expected=D, total=len(DATA)), w(action=COMMIT, offset=len(DATA), expected=D, labels=ROOT)], ns="second",
         ok=lambda w, a: a[-1].digest == D),
    Step("Read", {"digest": D}, ns="second", ok=lambda w, a: b"".join(x.data for x in a) == DATA),
    Step("Delete", {"digest": D}, events=[("/content/delete", {"digest": D})]),
    Step("Delete", {"digest": D}, code=MISSING, text=has(f"content digest {D}: not found")),
    *[Step("Delete", {"digest": d}, code=INVALID) for d in WRONG_DIGESTS],
    Step("Info", {"digest": D}, code=MISSING),
    Step("Read", {"digest": D}, ns="second", ok=lambda w, a: b"".join(x.data for x in a) == DATA),
    Step("Delete", {"digest": D}, ns="second"),
    Step("Delete", {"digest": sha(b"")}, events=["/content/delete"]),
    Step("Delete", {"digest": "sha512:" + hashlib.sha512(b"abc").hexdigest()}, events=["/content/delete"]),
]

# ---- leases ----

L = "lease-1"


def resource(id, kind, lease=L):
    return {"id": lease, "resource": {"id": id, "type": kind}}


RESOURCES = [("content", D), ("snapshots/overlayfs", "k"), ("snapshots/native", "k2"), ("ingests", "ref"), ("images", "a/b:1")]
LEASES = [
    Step("Create", {}, ok=lambda w, a: bool(re.fullmatch(r"\d+-[\w-]{4}", a.lease.id)) and a.lease.created_at.seconds > 0, keep="generated"),
    Step("Create", {"id": L, "labels": {"a": "b", "gone": ""}}, ok=same(L, "lease", "id")),
    Step("Create", {"id": L}, code=EXISTS, text=has("already exists")),
    Step("Create", {"id": "x", "labels": {"key": BIG}}, code=INVALID, text=has("greater than maximum size")),
    Step("List", {"filters": [f'id=="{L}"']}, ok=both(lambda w, a: [x.id for x in a.leases] == [L], lambda w, a: dict(a.leases[0].labels) == {"a": "b"})),
    Step("List", {"filters": ["id=x"]}, code=INVALID, text=bad_filter('unsupported operator "="')),
    Step("List", {}, ns="elsewhere", ok=same([], "leases")),
    *[Step("AddResource", resource(i, t)) for t, i in RESOURCES],
    Step("AddResource", resource("a/b:1", "images")),
    Step("ListResources", {"id": L}, ok=lambda w, a: sorted((r.type, r.id) for r in a.resources) == sorted(RESOURCES)),
    Step("AddResource", resource("x", "foo"), code=UNIMPLEMENTED, text="resource type foo not supported yet: not implemented"),
    Step("AddResource", resource("x", "snapshots"), code=INVALID),
    Step("AddResource", resource("x", ""), code=UNIMPLEMENTED),
    Step("AddResource", resource("x", "content"), code=INVALID),
    Step("AddResource", resource(D, "content", "nobody"), code=MISSING, text='lease "nobody": not found'),
    Step("AddResource", {"id": L}, code=UNIMPLEMENTED),
    Step("DeleteResource", resource("x", "foo"), code=UNIMPLEMENTED),
    Step("DeleteResource", resource("x", "content"), code=INVALID),
    Step("DeleteResource", resource(D, "content", "nobody"), code=MISSING, text='lease "nobody": not found'),
    *[Step("DeleteResource", resource(i, t)) for t, i in RESOURCES],
    *[Step("DeleteResource", resource(i, t)) for t, i in RESOURCES],
    Step("ListResources", {"id": L}, ok=same([], "resources")),
    Step("ListResources", {"id": "nobody"}, code=MISSING, text='lease "nobody": not found'),
    Step("ListResources", {"id": ""}, code=MISSING),
    # What is made under a lease is kept by it.
    Step("containerd.services.content.v1.Content/Write", [w("leased", data=b"leased"), w(action=COMMIT, offset=6)], lease=L, events=["/content/create"]),
    Step("containerd.services.content.v1.Content/Write", [w("open", data=b"open")], lease=L),
    Step("containerd.services.snapshots.v1.Snapshots/Prepare", {"snapshotter": "native", "key": "leased"}, lease=L, events=["/snapshot/prepare"]),
    Step("containerd.services.snapshots.v1.Snapshots/View", {"snapshotter": "overlayfs", "key": "leased-view"}, lease=L),
    Step("containerd.services.images.v1.Images/Create", image("leased", labels={"containerd.io/gc.expire": "2020-01-01T00:00:00Z"}), lease=L, events=["/images/create"]),
    Step("ListResources", {"id": L}, ok=lambda w, a: sorted((r.type, r.id) for r in a.resources) == [
        ("content", sha(b"leased")), ("images", "leased"), ("ingests", "open"), ("snapshots/native", "leased"), ("snapshots/overlayfs", "leased-view")]),
    Step("Delete", lambda w: {"id": w["generated"].lease.id, "sync": True}),
    Step("containerd.services.content.v1.Content/Info", {"digest": sha(b"leased")}),
    Step("containerd.services.images.v1.Images/Get", {"name": "leased"}),
    Step("containerd.services.snapshots.v1.Snapshots/Stat", {"snapshotter": "native", "key": "leased"}),
    Step("containerd.services.snapshots.v1.Snapshots/Commit", {"snapshotter": "native", "key": "leased", "name": "done"}, lease=L, events=["/snapshot/commit"]),
    Step("ListResources", {"id": L}, ok=lambda w, a: ("snapshots/native", "done") in [(r.type, r.id) for r in a.resources] and
         ("snapshots/native", "leased") not in [(r.type, r.id) for r in a.resources]),
    Step("Delete", {"id": "nobody"}, code=MISSING, text='lease "nobody": not found'),
    Step("Delete", {"id": ""}, code=MISSING),
    Do("Delete", lambda w, c: delete_and_see(w, c), events=["/images/delete", "/snapshot/remove", "/snapshot/remove"]),
    # Expired: not a root any more.
    Step("Create", {"id": "old", "labels": {"containerd.io/gc.expire": "2020-01-01T00:00:00Z"}}),
    Step("Create", {"id": "run"}),
    Step("Delete", {"id": "run", "sync": True}),
    Step("List", {"filters": ["id==old"]}, ok=same([], "leases")),
    # A flat lease keeps what it names and not what that names.
    Step("Create", {"id": "flat", "labels": {"containerd.io/gc.flat": "1"}}),
    Step("containerd.services.content.v1.Content/Write", [w("low", data=b"low"), w(action=COMMIT, offset=3, labels=ROOT)], events=["/content/create"]),
    Step("containerd.services.content.v1.Content/Write",
         [w("high", data=b"high"), w(action=COMMIT, offset=4, labels={"containerd.io/gc.ref.content": sha(b"low")})], lease="flat", events=["/content/create"]),
    Step("containerd.services.content.v1.Content/Update", {"info": {"digest": sha(b"low")}, "update_mask": {"paths": ["labels"]}}),
    Step("Create", {"id": "run"}),
    Step("Delete", {"id": "run", "sync": True}),
    Step("containerd.services.content.v1.Content/Info", {"digest": sha(b"high")}),
    Step("containerd.services.content.v1.Content/Info", {"digest": sha(b"low")}, code=MISSING),
    Step("Delete", {"id": "flat", "sync": True}),
    Step("containerd.services.content.v1.Content/Info", {"digest": sha(b"high")}, code=MISSING),
]


def delete_and_see(world, client):
    """Nothing that only the lease kept is there after a synchronous delete. The collection tells of images and snapshots."""
    client("containerd.services.leases.v1.Leases/Delete", {"id": L, "sync": True})
    assert client("containerd.services.content.v1.Content/ListStatuses", {"filters": ["ref==open"]}).statuses[:] == [], "the ingest is left"
    for path, request in (("containerd.services.content.v1.Content/Info", {"digest": sha(b"leased")}), ("containerd.services.images.v1.Images/Get", {"name": "leased"}),
                          ("containerd.services.snapshots.v1.Snapshots/Stat", {"snapshotter": "native", "key": "done"}),
                          ("containerd.services.snapshots.v1.Snapshots/Stat", {"snapshotter": "overlayfs", "key": "leased-view"})):
        import evil
        assert evil.refused(client, path, request)[0] == MISSING, path


# ---- snapshots ----

def snapshots(sn):
    def s(**fields):
        return {"snapshotter": sn, **fields}

    def kinds(expected):
        return lambda w, a: {i.name: i.kind for r in a for i in r.info if i.name in expected or i.name[:1] in "kpv"} == expected
    first = ["rw", "rbind"] if sn == "overlayfs" else ["rbind", "rw"]
    unknown = [Step(m, {"snapshotter": "none", **({"info": {"name": "x"}} if m == "Update" else {"key": "k"}), **({"name": "n"} if m == "Commit" else {})}, code=INVALID,
                    text=has("snapshotter not loaded: none: invalid argument")) for m in ("Prepare", "View", "Mounts", "Commit", "Remove", "Stat", "Usage", "Update")]
    return [
        *unknown,
        *[Step(m, {"snapshotter": "none"}, code=INVALID, text=has("snapshotter not loaded: none")) for m in ("List", "Cleanup")],
        *[Step(m, {}, code=INVALID, text=has("snapshotter argument missing: invalid argument"))
          for m in ("Prepare", "View", "Mounts", "Commit", "Remove", "Stat", "Usage", "List", "Cleanup")],
        Step("Prepare", s(key="k1", labels={**ROOT, "l": "1", "gone": "", "containerd.io/snapshot/x": "y"}),
             ok=lambda w, a: [(m.type, list(m.options)) for m in a.mounts] == [("bind", first)], events=[("/snapshot/prepare", {"key": "k1", "snapshotter": sn})]),
        Step("Prepare", s(key="k1"), code=EXISTS, text='snapshot "k1": already exists'),
        Step("View", s(key="k1"), code=EXISTS, text=has('snapshot "k1": already exists')),
        Step("Prepare", s(key="k2", parent="nobody"), code=MISSING, text="parent snapshot nobody does not exist: not found"),
        Step("View", s(key="k2", parent="nobody"), code=MISSING, text="parent snapshot nobody does not exist: not found"),
        Step("Prepare", s(key="k2", parent="k1"), code=INVALID, text=has('parent "', '/k1" is not committed snapshot: invalid argument')),
        Step("View", s(key="k2", parent="k1"), code=INVALID, text=has("is not committed snapshot: invalid argument")),
        Step("Prepare", s(key="k2", labels={"key": BIG}), code=INVALID, text=LONG_LABEL),
        Step("Prepare", s(key=""), code=INVALID),
        Step("View", s(key=""), code=INVALID),
        Step("Mounts", s(key="k1"), ok=lambda w, a: [(m.type, list(m.options)) for m in a.mounts] == [("bind", first)]),
        Step("Mounts", s(key="nobody"), code=MISSING, text=has("nobody", "not found")),
        Step("Stat", s(key="k1"), ok=lambda w, a: (a.info.kind, a.info.parent, a.info.labels["l"], "gone" in a.info.labels) == (2, "", "1", False)),
        Step("Stat", s(key="nobody"), code=MISSING, text=has("nobody", "not found")),
        Do("Usage", lambda w, c: write_into(w, c, sn)),
        Step("Usage", s(key="k1"), ok=lambda w, a: a.size >= 10000 and a.inodes >= 2),
        Step("Usage", s(key="nobody"), code=MISSING),
        Step("Commit", s(name="p1", key="nobody"), code=MISSING),
        Step("Commit", s(name="p1", key="k1", labels={"key": BIG}), code=INVALID, text=LONG_LABEL),
        Step("Commit", s(name="", key="k1"), code=INVALID),
        Step("Commit", s(name="p1", key="k1", labels={**ROOT, "c": "1", "containerd.io/snapshot/y": "z"}), events=[("/snapshot/commit", {"key": "k1", "name": "p1", "snapshotter": sn})]),
        # Only the labels of the call itself.
        Step("Stat", s(key="p1"), ok=lambda w, a: a.info.kind == 3 and "l" not in a.info.labels and a.info.labels["c"] == "1" and
             a.info.labels["containerd.io/snapshot/y"] == "z"),
        Step("Stat", s(key="k1"), code=MISSING),
        Step("Usage", s(key="p1"), ok=lambda w, a: a.size >= 10000 and a.inodes >= 2),
        Step("Mounts", s(key="p1"), code=PRECONDITION),
        Step("Prepare", s(key="k3", parent="p1", labels=ROOT), events=[("/snapshot/prepare", {"key": "k3", "parent": "p1"})]),
        Step("Commit", s(name="p1", key="k3"), code=EXISTS, text=has("p1", "already exists")),
        Step("Commit", s(name="p9", key="k3", parent="other"), code=INVALID),
        Step("View", s(key="v1", parent="p1", labels=ROOT), ok=lambda w, a: "ro" in a.mounts[0].options),
        Step("Commit", s(name="p2", key="v1"), code=PRECONDITION),
        Step("Usage", s(key="v1"), ok=lambda w, a: a.size == 0) if sn == "overlayfs" else Step("Usage", s(key="v1")),
        Step("List", s(), ok=kinds({"p1": 3, "k3": 2, "v1": 1})),
        Step("List", s(filters=["kind==active,parent==p1"]), ok=lambda w, a: [i.name for r in a for i in r.info] == ["k3"]),
        Step("List", s(filters=["a=b"]), code=UNKNOWN, text='filters: parse error: [a >|=|< b]: unsupported operator "=": invalid argument'),
        Step("List", s(), ns="elsewhere", ok=lambda w, a: a == []),
        Step("Update", {"snapshotter": sn, "info": {"name": "p1", "labels": {"u": "1", "c": "not taken"}}, "update_mask": {"paths": ["labels.u"]}},
             ok=lambda w, a: a.info.labels["u"] == "1" and a.info.labels["c"] == "1"),
        Step("Update", {"snapshotter": sn, "info": {"name": "p1"}, "update_mask": {"paths": ["labels.u"]}}, ok=lambda w, a: "u" not in a.info.labels),
        Step("Update", {"snapshotter": sn, "info": {"name": "p1", "labels": ROOT}, "update_mask": {"paths": ["labels"]}},
             ok=lambda w, a: {k: v for k, v in a.info.labels.items() if "upperdir" not in k} == ROOT),
        *[Step("Update", {"snapshotter": sn, "info": {"name": "p1"}, "update_mask": {"paths": [p]}}, code=INVALID, text=has("cannot update", p)) for p in ("name", "kind", "parent")],
        Step("Update", {"snapshotter": sn, "info": {"name": "p1", "labels": {"key": BIG}}, "update_mask": {"paths": ["labels.key"]}}, code=INVALID, text=has("greater than maximum size")),
        Step("Update", {"snapshotter": sn, "info": {"name": "nobody"}}, code=MISSING),
        Step("Update", {"snapshotter": sn}, code=INVALID),
        Step("Remove", s(key="p1"), code=PRECONDITION, text=has("cannot remove snapshot with child")),
        Step("Remove", s(key="nobody"), code=MISSING),
        Step("Remove", s(key="a/b/c"), code=MISSING),
        # A snapshot may be named before it is made; then it need not be made.
        Step("Prepare", s(key="k4", parent="p1", labels={"containerd.io/snapshot.ref": "p1"}), code=EXISTS, text=has('target snapshot "p1"', "already exists")),
        Step("Prepare", s(key="k4", labels=ROOT), events=["/snapshot/prepare"]),
        # An active snapshot without a parent may be put upon one at its commit.
        *([Step("Commit", s(name="p4", key="k4", parent="p1", labels=ROOT), events=["/snapshot/commit"]),
           Step("Stat", s(key="p4"), ok=same("p1", "info", "parent")),
           Step("Remove", s(key="p4"), events=["/snapshot/remove"])] if sn == "overlayfs" else [Step("Remove", s(key="k4"), events=["/snapshot/remove"])]),
        Step("Remove", s(key="v1"), events=["/snapshot/remove"]),
        Step("Remove", s(key="k3"), events=["/snapshot/remove"]),
        Step("Remove", s(key="p1"), events=[("/snapshot/remove", {"key": "p1", "snapshotter": sn})]),
        Step("Remove", s(key="p1"), code=MISSING),
        Step("Cleanup", s(), **({"code": UNIMPLEMENTED, "text": has("does not implement Cleanup")} if sn == "native" else {})),
        Step("Cleanup", {"snapshotter": ""}, code=INVALID),
        # Without a root it goes with the next collection, which is told.
        Step("Prepare", s(key="k5"), lease=None, events=["/snapshot/prepare"]),
        Step("containerd.services.leases.v1.Leases/Create", {"id": f"gc-{sn}"}),
        Step("containerd.services.leases.v1.Leases/Delete", {"id": f"gc-{sn}", "sync": True}, events=[("/snapshot/remove", {"key": "k5"})]),
        Step("Stat", s(key="k5"), code=MISSING),
    ]


def write_into(world, client, sn):
    mount = client("containerd.services.snapshots.v1.Snapshots/Mounts", {"snapshotter": sn, "key": "k1"}).mounts[0]
    with open(f"{mount.source}/file", "wb") as f:
        f.write(b"x" * 10000)


# ---- events, diff, transfer, streaming, mounts, the sandbox store ----

def subscribe(world, client):
    """That it works is seen by every other table's events; here, that it ends well when the client leaves."""
    import rpc
    m = "containerd.services.events.v1.Events/Subscribe"
    stream = client.callable(m)(rpc.build(rpc.METHODS[m].request, {"filters": ["topic==x"]}))
    time.sleep(0)
    stream.cancel()


STAMP = {"seconds": 1600000000, "nanos": 123456789}
EVENTS = [
    Do("Subscribe", subscribe),
    Step("Subscribe", {"filters": ["a=b"]}, code=UNKNOWN, text=has('subscription error: failed parsing subscription filters: filters: parse error: [a >|=|< b]: unsupported operator "="')),
    Step("Publish", {"topic": "/a/b", "event": ("containerd.events.TaskOOM", b"\x0a\x01x")}, events=[("/a/b", {"container_id": "x"})]),
    Step("Publish", {"topic": "/a/b"}, events=["/a/b"]),
    *[Step("Publish", {"topic": t}, code=INVALID, text=has(f'envelope topic "{t}": ' if t else "", why)) for t, why in (
        ("bad", "must start with '/': invalid argument"), ("", "must not be empty"), ("/", "must have at least one component"), ("/a//b", "identifier must not be empty"), ("/a/-", "must match"),
        ("/" + "x" * 77, "greater than maximum length"))],
    Step("Forward", {"envelope": {"timestamp": STAMP, "namespace": "default", "topic": "/fw/d"}}, ns=""),
    Step("Forward", lambda w: {"envelope": {"timestamp": STAMP, "namespace": w["ns"], "topic": "/fw/e"}}, events=["/fw/e"]),
    Step("Forward", {}, code=INVALID),
    *[Step("Forward", {"envelope": {"timestamp": STAMP, "namespace": "x", "topic": "/fw/d", **c}}, code=INVALID, text=has(t)) for c, t in (
        ({"namespace": ""}, "identifier must not be empty"), ({"namespace": "a b"}, "must match"), ({"topic": "x"}, "must start with '/'"), ({"timestamp": {}}, "timestamp"))],
]


def layer():
    import gzip
    import images
    tar = images.tar_of([("f", b"content")])
    return tar, gzip.compress(tar, mtime=0)


def apply_layer(world, client):
    tar, zipped = layer()
    client("containerd.services.content.v1.Content/Write", [w("layer", data=zipped), w(action=COMMIT, offset=len(zipped), labels=ROOT)])
    mounts = client("containerd.services.snapshots.v1.Snapshots/Prepare", {"snapshotter": "overlayfs", "key": "applied", "labels": ROOT}).mounts
    d = {"media_type": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha(zipped), "size": len(zipped)}
    a = client("containerd.services.diff.v1.Diff/Apply", {"diff": d, "mounts": list(mounts), "sync_fs": True}).applied
    assert (a.media_type, a.digest, a.size) == ("application/vnd.oci.image.layer.v1.tar", sha(tar), len(tar))
    world.update(layer=d, mounts=mounts)


def diff_layer(world, client):
    lower = client("containerd.services.snapshots.v1.Snapshots/View", {"snapshotter": "overlayfs", "key": "nothing", "labels": ROOT}).mounts
    world["lower"] = lower
    for kind in ("", "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"):
        d = client("containerd.services.diff.v1.Diff/Diff", {"left": list(lower), "right": list(world["mounts"]), "media_type": kind, "labels": {**ROOT, "x": "y"},
                                                             "ref": "ref", "source_date_epoch": {"seconds": 1000000000}}).diff
        assert d.media_type == (kind or "application/vnd.oci.image.layer.v1.tar+gzip")
        info = client("containerd.services.content.v1.Content/Info", {"digest": d.digest}).info
        assert info.size == d.size and info.labels["x"] == "y" and info.labels["containerd.io/uncompressed"].startswith("sha256:")
        world.setdefault("diffed", set()).add(d.digest)


DIFF = [
    Do("Apply", apply_layer, events=["/content/create", "/snapshot/prepare"]),
    Step("Apply", lambda w: {"diff": {**w["layer"], "digest": "x"}, "mounts": list(w["mounts"])}, code=INVALID),
    Step("Apply", lambda w: {"diff": {**w["layer"], "digest": sha(b"none")}, "mounts": list(w["mounts"])}, code=MISSING),
    Step("Apply", lambda w: {"diff": {**w["layer"], "media_type": "text/plain"}, "mounts": list(w["mounts"])}, code=UNIMPLEMENTED),
    Step("Apply", {}, code=INVALID),
    Do("Diff", diff_layer, events=["/content/create"] * 3),
    Step("Diff", lambda w: {"left": list(w["lower"]), "right": list(w["mounts"]), "media_type": "text/plain"}, code=UNIMPLEMENTED),
]


def any_of(name, fields):
    import rpc
    return ("containerd.types.transfer." + name, rpc.build("containerd.types.transfer." + name, fields).SerializeToString())


def pair(source, destination):
    return lambda w: {"source": any_of(*source), "destination": any_of(*destination)}


def transfer_tag(world, client):
    client("containerd.services.transfer.v1.Transfer/Transfer", pair(("ImageStore", {"name": world["image"]}), ("ImageStore", {"name": "tagged:1"}))(world))
    assert client("containerd.services.images.v1.Images/Get", {"name": "tagged:1"}).image.target.size > 0
    client("containerd.services.images.v1.Images/Delete", {"name": "tagged:1"})


TRANSFER = [
    Do("Transfer", transfer_tag, events=["/images/create", "/images/delete"]),
    Step("Transfer", {}, code=UNKNOWN, text="type with url : not found"),
    Step("Transfer", {"source": ("no.such.Type", b""), "destination": ("no.such.Type", b"")}, code=UNKNOWN, text=has("type with url no.such.Type: not found")),
    Step("Transfer", pair(("ImageStore", {"name": "nobody"}), ("ImageStore", {"name": "x"})), code=MISSING, text=has('image "nobody": not found')),
    Step("Transfer", pair(("ImageStore", {"name": "a"}), ("ImageImportStream", {"stream": "x"})), code=UNIMPLEMENTED, text=has("unable to transfer from")),
    Step("Transfer", pair(("ImageImportStream", {"stream": "no-stream"}), ("ImageStore", {"name": "x"})), code=MISSING),
    Step("Transfer", {"source": ("containerd.types.transfer.ImageStore", b""), "destination": ("x", b"")}, code=UNKNOWN, text=has("type with url x: not found")),
    Step("Transfer", {"source": ("containerd.types.transfer.ReadStream", b""), "destination": ("containerd.types.transfer.ImageStore", b"")}, code=UNIMPLEMENTED,
         text=has("unable to transfer from")),
]


def stream(world, client):
    import queue
    import evil
    import rpc
    m = "containerd.services.streaming.v1.Streaming/Stream"
    init = {"type_url": "containerd.services.streaming.v1.StreamInit", "value": b"\x0a\x02s1"}
    more = queue.Queue()
    more.put(rpc.build("google.protobuf.Any", init))
    held = client.callable(m)(iter(more.get, None), metadata=client.metadata(), timeout=90)
    assert next(held).type_url == "google.protobuf.Empty"
    assert evil.refused(client, m, [init]) [0] == EXISTS
    # Of another namespace it is another stream.
    other = queue.Queue()
    other.put(rpc.build("google.protobuf.Any", init))
    second = client.callable(m)(iter(other.get, None), metadata=client.metadata("second"), timeout=90)
    assert next(second).type_url == "google.protobuf.Empty"
    client.good[m] = [init]
    for q, s in ((more, held), (other, second)):
        q.put(None)
        s.cancel()


STREAMING = [
    Do("Stream", stream),
    Step("Stream", [{"type_url": "containerd.services.streaming.v1.StreamInit", "value": b"\xff"}], code=INVALID),
    Step("Stream", [{"type_url": "containerd.types.Mount", "value": b""}], code=INVALID),
]

TMP = {"type": "mkdir/bind", "options": ["X-containerd.mkdir.path=/etc/x", "rbind"]}
MOUNTS = [
    Step("Activate", {"name": "m1", "mounts": [{"type": "bind", "source": "/tmp", "options": ["rbind"]}]}, code=UNIMPLEMENTED, text="not implemented"),
    Do("Activate", lambda w, c: activate(w, c)),
    Step("Activate", {"name": "m2", "mounts": [TMP]}, code=INVALID),
    Step("Activate", {"name": "", "mounts": [{"type": "format/bind", "source": "/"}]}, code=INVALID),
    Step("Activate", {"name": "m1", "mounts": [{"type": "tmpfs", "source": "t"}, {"type": "format/bind", "source": "{{ mount 0 }}", "options": ["rbind"]}]}, code=EXISTS),
    Step("Info", {"name": "m1"}, ok=lambda w, a: a.info.name == "m1" and dict(a.info.labels) == {"l": "1"} and len(a.info.active) == 1 and
         a.info.system[0].source == a.info.active[0].mount_point),
    Step("Info", {"name": "nobody"}, code=MISSING),
    Step("List", {"filters": ["name==nobody"]}, ok=lambda w, a: [m.info.name for m in a] == ["m1"]),
    Step("List", {}, ns="elsewhere", ok=lambda w, a: a == []),
    Step("Update", {"info": {"name": "m1"}}, code=UNIMPLEMENTED, text="not implemented"),
    Step("Deactivate", {"name": "m1"}),
    Step("Deactivate", {"name": "m1"}, code=MISSING),
    Step("Info", {"name": "m1"}, code=MISSING),
]


def activate(world, client):
    a = client("containerd.services.mounts.v1.Mounts/Activate", {"name": "m1", "labels": {"l": "1"}, "mounts": [
        {"type": "tmpfs", "source": "t"}, {"type": "format/bind", "source": "{{ mount 0 }}", "options": ["rbind"]}]})
    assert a.info.system[0].type == "bind" and a.info.system[0].source == a.info.active[0].mount_point


def sandbox(id, **more):
    return {"sandbox": {"sandbox_id": id, "runtime": {"name": RUNC}, "spec": ("x.Spec", b"{}"), "sandboxer": "shim", **more}}


SANDBOX_STORE = [
    Step("Get", {"sandbox_id": "x"}, ns="fresh", code=MISSING, text="no sandbox buckets: not found"),
    *bad_identifiers("Create", sandbox),
    Step("Create", {}, code=INVALID),
    Step("Create", sandbox("s1", labels={"a": "1"}, extensions={"e": ("x.Y", b"z")}), ok=lambda w, a: a.sandbox.created_at.seconds > 0),
    Step("Create", sandbox("s1"), code=EXISTS),
    Step("Create", sandbox("s2", labels={"key": BIG}), code=INVALID, text=has("greater than maximum size")),
    Step("Get", {"sandbox_id": "s1"}, ok=both(same({"a": "1"}, "sandbox", "labels"), same("shim", "sandbox", "sandboxer"), same(b"z", "sandbox", "extensions", "e", "value"))),
    Step("Get", {"sandbox_id": "nobody"}, code=MISSING, text='bucket "nobody" not found'),
    Step("Get", {"sandbox_id": ""}, code=MISSING),
    Step("List", {}, ok=lambda w, a: [s.sandbox_id for s in a.list] == ["s1"]),
    Step("List", {"filters": ["id==s1,labels.a==1"]}, ok=lambda w, a: [s.sandbox_id for s in a.list] == ["s1"]),
    Step("List", {"filters": ["id=x"]}, code=INVALID, text=bad_filter('unsupported operator "="')),
    Step("Update", {**sandbox("s1", labels={"a": "9", "b": "2"}), "fields": ["labels.b"]}, ok=same({"a": "1", "b": "2"}, "sandbox", "labels")),
    Step("Update", {**sandbox("s1", labels={"c": "3"}), "fields": ["labels"]}, ok=same({"c": "3"}, "sandbox", "labels")),
    Step("Update", {**sandbox("s1", extensions={"f": ("x.Y", b"f")}), "fields": ["extensions.f"]}, ok=lambda w, a: "f" in a.sandbox.extensions),
    Step("Update", {**sandbox("s1", spec=("x.Spec", b"new")), "fields": ["spec"]}, ok=same(b"new", "sandbox", "spec", "value")),
    *[Step("Update", {**sandbox("s1"), "fields": [f]}, code=INVALID, text=has("cannot update", f)) for f in ("id", "nope", "sandboxer")],
    Step("Update", sandbox("nobody"), code=MISSING),
    Step("Update", {}, code=INVALID),
    Step("Delete", {"sandbox_id": "s1"}),
    Step("Delete", {"sandbox_id": "nobody"}, code=MISSING),
    Step("Get", {"sandbox_id": "s1"}, code=MISSING),
]

STORE = "containerd.services.sandbox.v1.Store/"
C1 = {"sandbox_id": "c1", "sandboxer": "shim"}
NOBODY = {"sandbox_id": "nobody", "sandboxer": "shim"}
CONTROLLER = [
    Step(STORE + "Create", sandbox("c1")),
    *[Step("Create", {**C1, **more}, code=code, text=has(text)) for more, code, text in (
        ({"sandbox": {"sandbox_id": "c1", "runtime": {"name": "io.containerd.nonsense.v9"}}}, MISSING, "binary not installed"),
        ({"sandboxer": "nobody"}, MISSING, "nobody"))],
    Step("Create", {**C1, **sandbox("c1")}, ok=same("c1", "sandbox_id"), events=[("/sandboxes/create", {"sandbox_id": "c1"})]),
    Step("Create", {**C1, **sandbox("c1")}, code=EXISTS),
    Step("Status", C1, ok=both(same("SANDBOX_NOTREADY", "state"), same(3, "version"))),
    Step("Start", C1, ok=lambda w, a: a.pid > 0 and a.created_at.seconds > 0, events=[("/sandboxes/start", {"sandbox_id": "c1"})]),
    Step("Start", C1, code=PRECONDITION, text=has("started already")),
    Step("Start", NOBODY, code=MISSING),
    Step("Status", {**C1, "verbose": True}, ok=lambda w, a: a.state == "SANDBOX_READY" and a.pid > 0 and a.info["bundle"].endswith("/c1")),
    Step("Platform", C1, ok=same("linux", "platform", "os")),
    Step("Metrics", C1, code=UNIMPLEMENTED),
    Step("Metrics", NOBODY, code=MISSING),
    Step("Update", {**C1, **sandbox("c1"), "fields": ["labels"]}),
    Step("Update", C1, code=UNKNOWN),
    Step("Stop", {**C1, "timeout_secs": 10}),
    Step("Wait", C1, ok=lambda w, a: a.exited_at.seconds > 0, events=[("/sandboxes/exit", {"sandbox_id": "c1"})]),
    Step("Wait", NOBODY, code=MISSING),
    Step("Shutdown", C1),
    Step("Shutdown", C1, code=MISSING),
    Step(STORE + "Delete", {"sandbox_id": "c1"}),
    *[Step(m, {"sandbox_id": "x"}, code=INVALID, text="invalid argument: sandbox controller name can not be empty")
      for m in ("Create", "Start", "Platform", "Stop", "Wait", "Status", "Shutdown", "Metrics", "Update")],
]

S = "containerd.services."
TABLES = {
    S + "version.v1.Version": VERSION, S + "introspection.v1.Introspection": INTROSPECTION, "grpc.health.v1.Health": HEALTH,
    S + "namespaces.v1.Namespaces": NAMESPACES, S + "containers.v1.Containers": CONTAINERS, S + "images.v1.Images": IMAGES, S + "content.v1.Content": CONTENT,
    S + "leases.v1.Leases": LEASES, S + "snapshots.v1.Snapshots overlayfs": snapshots("overlayfs"), S + "snapshots.v1.Snapshots native": snapshots("native"),
    S + "events.v1.Events": EVENTS, S + "diff.v1.Diff": DIFF, S + "transfer.v1.Transfer": TRANSFER, S + "streaming.v1.Streaming": STREAMING,
    S + "mounts.v1.Mounts": MOUNTS, S + "sandbox.v1.Store": SANDBOX_STORE, S + "sandbox.v1.Controller": CONTROLLER,
}


# ---- filters ----
# kind: what to make in the namespace "filters", how to list names, (filters, expected names), (filters, (code, text))

def lister(path, name, field=None, **more):
    def go(client, filters):
        answer = client(path, {"filters": filters, **more}, ns="filters")
        return [name(x) for r in (answer if isinstance(answer, list) else [answer]) for x in (getattr(r, field) if field else [r])]
    return go


def label_cases(a, b):
    """For two objects, of which `a` has the labels k=v1 and x/y.z="q r", and `b` k=v2."""
    return [(["labels.k==v1"], [a]), (["labels.k!=v1"], [b]), (["labels.k~=^v"], [a, b]), (["labels.k~=/^v[2-9]$/"], [b]), (["labels.k~=|2$|"], [b]), (["labels.k"], [a, b]),
            (["labels.nope"], []), (["labels.nope!=x"], [a, b]), (["labels.nope==x"], []), (['labels."x/y.z"=="q r"'], [a]), (['labels."x/y.z"=="q\\x20r"'], [a]),
            (['labels."x/y.z"!="q r"'], [b]), (["labels.k==v1", "labels.k==v2"], [a, b]), (["labels.k==v1,labels.k==v2"], []),
            (["labels.k == v1, labels.k"], [a]), (["labels.k~=("], []), (["nofield==x"], []), (["nofield!=x"], [a, b])]


BAD = [["a=b"], ["=="], ["a=="], ["a==b,"], [",a"], ["a..b"], ['"a'], ["a~=/x"], ["a==b c"], ["a.=b"], ["a!b"], ["a=~b"]]


def bad(code=INVALID, text="filters: parse error: ["):
    return [(f, (code, text)) for f in BAD]


TWO = {"k": "v1", "x/y.z": "q r"}, {"k": "v2"}
R1, R2 = ({**t, **ROOT} for t in TWO)


FILTERS = {
    "containers": ([(S + "containers.v1.Containers/Create", {"container": container("f1", image="img/a:1", labels=TWO[0])}),
                    (S + "containers.v1.Containers/Create", {"container": {**container("f2", image="b", labels=TWO[1]), "runtime": {"name": "other.v1"}}})],
                   lister(S + "containers.v1.Containers/List", lambda c: c.id, "containers"),
                   label_cases("f1", "f2") + [(["id==f1"], ["f1"]), (["id!=f1"], ["f2"]), (["id~=^f"], ["f1", "f2"]), (["runtime.name==other.v1"], ["f2"]),
                                              (['image=="img/a:1"'], ["f1"]), (["image"], ["f1", "f2"]), (["runtime.nope==x"], [])], bad()),
    "images": ([(S + "images.v1.Images/Create", {"image": {"name": "f1", "labels": TWO[0], "target": target(annotations={"an": "x"})}}),
                (S + "images.v1.Images/Create", {"image": {"name": "f2", "labels": TWO[1], "target": target(digest=OTHER, media_type="m/t")}})],
               lister(S + "images.v1.Images/List", lambda i: i.name, "images"),
               label_cases("f1", "f2") + [(["name==f1"], ["f1"]), ([f'target.digest=="{OTHER}"'], ["f2"]), (['target.mediatype=="m/t"'], ["f2"]),
                                          (["annotations.an==x"], ["f1"]), (["annotations.an!=x"], ["f2"]), (["target.size==7"], [])], bad()),
    "content": ([(S + "content.v1.Content/Write", [w("f1", data=b"f1"), w(action=COMMIT, offset=2, labels=R1)]),
                 (S + "content.v1.Content/Write", [w("f2", data=b"f2"), w(action=COMMIT, offset=2, labels=R2)])],
                lister(S + "content.v1.Content/List", lambda i: i.digest, "info"),
                label_cases(sha(b"f1"), sha(b"f2")) + [([f'digest=="{sha(b"f1")}"'], [sha(b"f1")]), (['digest~="^sha256:"'], [sha(b"f1"), sha(b"f2")]), (["size"], []),
                                                       (["size==2"], [])], bad()),
    "statuses": ([(S + "content.v1.Content/Write", [w("s1", data=b"x")]), (S + "content.v1.Content/Write", [w("s2", data=b"x")])],
                 lister(S + "content.v1.Content/ListStatuses", lambda s: s.ref, "statuses"),
                 [(["ref==s1"], ["s1"]), (["ref!=s1"], ["s2"]), (["ref~=^s"], ["s1", "s2"]), (["ref"], ["s1", "s2"]), (["offset"], [])], bad()),
    "leases": ([(S + "leases.v1.Leases/Create", {"id": "f1", "labels": TWO[0]}), (S + "leases.v1.Leases/Create", {"id": "f2", "labels": TWO[1]})],
               lister(S + "leases.v1.Leases/List", lambda x: x.id, "leases"),
               label_cases("f1", "f2") + [(["id==f1"], ["f1"]), (["id~=2$"], ["f2"])], bad()),
    "snapshots": ([(S + "snapshots.v1.Snapshots/Prepare", {"snapshotter": "native", "key": "f0", "labels": ROOT}),
                   (S + "snapshots.v1.Snapshots/Commit", {"snapshotter": "native", "key": "f0", "name": "f1", "labels": R1}),
                   (S + "snapshots.v1.Snapshots/Prepare", {"snapshotter": "native", "key": "f2", "parent": "f1", "labels": R2})],
                  lister(S + "snapshots.v1.Snapshots/List", lambda i: i.name, "info", snapshotter="native"),
                  label_cases("f1", "f2") + [(["name==f1"], ["f1"]), (["kind==active"], ["f2"]), (["kind==committed"], ["f1"]), (["kind==view"], []), (["parent==f1"], ["f2"]),
                                             (["parent"], ["f1", "f2"]), (['parent!=""'], ["f2"]), (['parent==""'], ["f1"]), (["parent!=f1"], ["f1"])], bad(UNKNOWN)),
    "sandboxes": ([(S + "sandbox.v1.Store/Create", sandbox("f1", labels=TWO[0])), (S + "sandbox.v1.Store/Create", sandbox("f2", labels=TWO[1]))],
                  lister(S + "sandbox.v1.Store/List", lambda s: s.sandbox_id, "list"), label_cases("f1", "f2") + [(["id==f1"], ["f1"]), (["id!=f1"], ["f2"])], bad()),
    "plugins": ([], lister(S + "introspection.v1.Introspection/Plugins", lambda p: p.id, "plugins"),
                [(["type==io.containerd.content.v1"], ["content"]), (["type~=content,id==content"], ["content"]), (["id==nobody"], []), (["platforms"], []), (["capabilities"], []),
                 (["type==io.containerd.content.v1,id!=content"], [])], bad()),
}
