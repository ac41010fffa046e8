# SPDX-License-Identifier: Apache-2.0
"""Containers out of checkpoints by CreateContainer. CRIU cannot dump everywhere, so a script in runc's place plays its part: a
checkpoint is a file, and restoring it starts the container anew when the file is there."""
import gzip
import io
import itertools
import json
import os
import tarfile

import grpc
import pytest

import images
import proxies
import runc_with_state
from cri import cri_daemon, fails, load_image
from cri_fixtures import image
from harness import until

DISABLED = "checkpoint restore via CreateContainer is disabled by configuration"
PODS = itertools.count()
CRIO = "io.kubernetes.cri-o.annotations.checkpoint.name"
ORG = "org.criu.checkpoint.container.name"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    d = tmp_path_factory.mktemp("restore")
    runc_with_state.write(d)
    return d


def config_of(place, key):
    return lambda net_d: f"""
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
{key}
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net_d}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{place}/runc-with-state'
"""


@pytest.fixture(scope="module")
def path(place):
    old = os.environ["PATH"]
    os.environ["PATH"] = f"{place}:{old}"
    yield
    os.environ["PATH"] = old


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout, place, path):
    with cri_daemon(stubs, busybox_layout, config_of(place, "enable_experimental_restore_via_create = true")) as v:
        yield v


@pytest.fixture
def cri(cri_and_image):
    c = cri_and_image[0]
    yield c
    c.daemon.clear()
    containers = c.daemon.root / "io.containerd.grpc.v1.cri" / "containers"
    assert not containers.exists() or not list(containers.iterdir())
    assert not [s for s in c.daemon.ctr.out("snapshots", "ls", ns="k8s.io").splitlines() if "restore-" in s]


@pytest.fixture(scope="module")
def taken(cri_and_image, place):
    """(archive, id, pod's configuration): a container that has written to its log and its files."""
    cri, image = cri_and_image
    conf = cri.pod("first")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", "echo changed > /here; rm /bin/ls; echo said; sleep 1000"]))
    until("the output", lambda: cri.log(k))
    where = place / "k.tar"
    cri.CheckpointContainer(container_id=k, location=str(where))
    cri.daemon.clear()
    return where, k


def members(archive):
    with tarfile.open(archive) as t:
        return {m.name.removeprefix("./"): t.extractfile(m).read() for m in t if m.isfile()}


def write(path, files, extra=()):
    with tarfile.open(path, "w") as t:
        t.addfile(directory("checkpoint"))
        t.addfile(directory("checkpoint/sub"))
        for name, data in files.items():
            m = tarfile.TarInfo(name)
            m.size = len(data)
            t.addfile(m, io.BytesIO(data))
        for m in extra:
            t.addfile(m)
    return path


def directory(name):
    m = tarfile.TarInfo(name)
    m.type, m.mode = tarfile.DIRTYPE, 0o755
    return m


def special(name, kind, target=""):
    m = tarfile.TarInfo(name)
    m.type, m.linkname, m.devmajor, m.devminor = kind, target, 1, 3
    return m


def create(cri, ref, pod=None, conf=None, **fields):
    conf = conf or cri.pod(f"p{next(PODS)}")
    pod = pod or cri.run_pod(conf)
    fields.setdefault("command", ["/bin/sh", "-c", "cat /here; [ -e /bin/ls ] || echo gone; sleep 1000"])
    return cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=conf, config=cri.container("again", str(ref), **fields)).container_id


def check_restored(cri, k, old, place, image):
    restored = cri.daemon.root / "io.containerd.grpc.v1.cri" / "containers" / k / "restore"
    assert (restored / "checkpoint/state").exists() and not (restored / "spec.dump").exists()
    cri.StartContainer(container_id=k)
    assert (place / "restored").read_text() == f"frozen {old}\n"
    (place / "restored").unlink()
    s = cri.status(k)
    assert s.state == cri.pb.CONTAINER_RUNNING and s.image.image == image and not restored.exists()
    assert until("the output", lambda: len(t := [x[2] for x in cri.log(k)]) == 3 and t) == ["said", "changed", "gone"]
    assert cri.ExecSync(container_id=k, cmd=["cat", "/here"]).stdout == b"changed\n"
    assert cri.verbose(k)["pid"] > 0 and os.path.exists(f"/proc/{cri.verbose(k)['pid']}")
    cri.StopContainer(container_id=k, timeout=0)
    assert cri.status(k).exit_code == 137
    return s


def test_archive_becomes_a_container_with_files_log_and_processes(cri, image, taken, place):
    k = create(cri, taken[0], annotations={"mine": "1", "restored": "a lie"})
    s = check_restored(cri, k, taken[1], place, image)
    notes = dict(s.annotations)
    assert notes.pop("checkpointedAt").startswith("20") and notes == {"mine": "1", "restored": "true", "checkpointImage": ""}
    assert "io.containerd.deprecation/cri-create-container-checkpoint-restore" in cri.daemon.ctr.out("deprecations", "list")


@pytest.mark.parametrize("key", [ORG, CRIO])
def test_image_of_a_checkpoint_becomes_a_container(cri, image, taken, place, tmp_path, key):
    layer = taken[0].read_bytes()
    layout = images.Layout(tmp_path / "image")
    config = layout.blob({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [proxies.digest_of(layer)]},
                          "created": key}, images.CONFIG)
    layers = [layout.blob(gzip.compress(layer, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")]
    manifest = {"schemaVersion": 2, "mediaType": images.MANIFEST, "config": config, "layers": layers, "annotations": {key: "k"}}
    name = f"localhost/checkpoint-{key.split('.')[0]}:1"
    load_image(cri.daemon, layout.index([layout.blob(manifest, images.MANIFEST)]), name)
    check_restored(cri, create(cri, name), taken[1], place, image)


def test_daemon_that_was_restarted_restores(cri, image, taken, place):
    k = create(cri, taken[0])
    cri.daemon.stop()
    cri.daemon.start()
    cri.connect()
    check_restored(cri, k, taken[1], place, image)


def test_runtime_that_cannot_restore_is_told_and_ends_the_container(cri, taken, place):
    k = create(cri, taken[0])
    (place / "refuse").touch()
    try:
        assert "OCI runtime restore failed" in fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=k)
    finally:
        (place / "refuse").unlink()
    s = cri.status(k)
    assert (s.state, s.reason, s.exit_code) == (cri.pb.CONTAINER_EXITED, "StartError", 128)


def test_archive_has_no_say_in_annotations_labels_or_names(cri, image, taken, place, tmp_path):
    files = members(taken[0])
    status = json.loads(files["status.dump"])
    status["annotations"], status["labels"] = {"io.kubernetes.cri.untrusted": "1"}, {"io.kubernetes.pod.name": "victim"}
    status["image"] = {"image": "docker.io/library/other:1"}
    files["status.dump"] = json.dumps(status).encode()
    files["config.dump"] = json.dumps({**json.loads(files["config.dump"]), "rootfsImageName": "docker.io/library/victim:latest",
                                       "checkpointedTime": "now\nor never"}).encode()
    top = directory("./")
    top.mode, top.uid = 0o777, 12345
    k = create(cri, write(tmp_path / "a.tar", files, [top]), labels={"mine": "1"})
    s = cri.status(k)
    st = (cri.daemon.root / "io.containerd.grpc.v1.cri" / "containers" / k / "restore").stat()
    assert (st.st_mode & 0o7777, st.st_uid) == (0o700, 0)
    assert dict(s.labels) == {"mine": "1"} and dict(s.annotations) == {"restored": "true", "checkpointedAt": "", "checkpointImage": ""}
    assert s.image.image == image and "victim" not in cri.daemon.ctr.out("images", "ls", "-q", ns="k8s.io")


def change(name, fn):
    return lambda files: files.update({name: fn(files[name])}) or ()


def replace(name, kind, target=""):
    return lambda files: files.pop(name, None) and () or (special(name, kind, target),)


HOSTILE = {
    "link in the images": (lambda f: (special("checkpoint/pages-1.img", tarfile.SYMTYPE, "/etc/shadow"),), "no plain file"),
    "hard link in the images": (lambda f: (special("checkpoint/pages-1.img", tarfile.LNKTYPE, "config.dump"),), "no plain file"),
    "device in the images": (lambda f: (special("checkpoint/sub/null", tarfile.CHRTYPE),), "no plain file"),
    "images that are a link": (lambda f: [f.pop(n) for n in list(f) if n.startswith("checkpoint/")] and (special("checkpoint", tarfile.SYMTYPE, "/etc"),), "no directory"),
    "document that is a link": (replace("config.dump", tarfile.SYMTYPE, "/etc/passwd"), 'failed to read "config.dump"'),
    "document that is a link inside": (replace("config.dump", tarfile.SYMTYPE, "spec.dump"), 'failed to read "config.dump"'),
    "document that is a pipe": (replace("status.dump", tarfile.FIFOTYPE), 'failed to read "status.dump"'),
    "document that is no JSON": (change("spec.dump", lambda d: b"{" * 100000), 'failed to read "spec.dump"'),
    "document that is no object": (change("config.dump", lambda d: b"[]"), "no object"),
    "document without end": (change("status.dump", lambda d: b" " * (5 << 20) + d), 'failed to read "status.dump"'),
    "nothing but images": (lambda f: [f.pop(n) for n in list(f) if n.endswith(".dump")] and (), 'failed to read "spec.dump"'),
    "changes that are a link": (replace("rootfs-diff.tar", tarfile.SYMTYPE, "/etc/passwd"), "rootfs-diff.tar"),
    "changes that are no archive": (change("rootfs-diff.tar", lambda d: b"x" * 10000), "rootfs-diff.tar"),
    "log that is a device": (replace("container.log", tarfile.CHRTYPE), "container.log"),
    "no base image": (change("config.dump", lambda d: b"{}"), "does not name the image"),
    "base image that is nowhere": (change("config.dump", lambda d: json.dumps({"rootfsImageRef": "127.0.0.1:1/nobody:1"}).encode()), "pull it first"),
    "base image that cannot be pulled": (change("config.dump", lambda d: json.dumps({"rootfsImageRef": "127.0.0.1:1/nobody@sha256:" + "0" * 64}).encode()),
                                         "failed to pull checkpoint base image"),
    "base image that is no name": (change("config.dump", lambda d: json.dumps({"rootfsImageRef": "../../etc/passwd"}).encode()), "base image"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archive_is_refused_and_leaves_nothing(cri, taken, tmp_path, what):
    harm, why = HOSTILE[what]
    files = members(taken[0])
    extra = harm(files)
    archive = write(tmp_path / "a.tar", files, extra)
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    with pytest.raises(grpc.RpcError) as e:
        create(cri, archive, pod, conf)
    assert why in e.value.details(), e.value.details()
    assert not cri.ListContainers().containers
    assert not list((cri.daemon.root / "io.containerd.grpc.v1.cri" / "containers").iterdir())


def test_what_is_no_archive_is_refused(cri, tmp_path):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    (tmp_path / "text").write_text("no archive\n" * 1000)
    assert "unpacking of checkpoint archive" in fails(grpc.StatusCode.INVALID_ARGUMENT, create, cri, tmp_path / "text", pod, conf)
    assert "not a file" in fails(grpc.StatusCode.INVALID_ARGUMENT, create, cri, tmp_path, pod, conf)
    fails(grpc.StatusCode.NOT_FOUND, create, cri, tmp_path / "nothing", pod, conf)


def test_switched_off_it_says_so(stubs, busybox_layout, place, path, taken):
    with cri_daemon(stubs, busybox_layout, config_of(place, "")) as (cri, image):
        assert DISABLED in fails(grpc.StatusCode.UNKNOWN, create, cri, taken[0])
        assert not cri.ListContainers().containers


def test_without_criu_it_says_so(stubs, busybox_layout, place, path, taken):
    with cri_daemon(stubs, busybox_layout, config_of(place, "enable_experimental_restore_via_create = true\nenable_criu = false")) as (cri, image):
        assert "criu support is disabled by configuration" in fails(grpc.StatusCode.UNKNOWN, create, cri, taken[0])
