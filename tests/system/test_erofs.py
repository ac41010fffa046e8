# SPDX-License-Identifier: Apache-2.0
"""EROFS: the snapshotter, the differ, and the mounts that go with them."""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import images
import trees
from cri import cri_daemon, load_image
from harness import Daemon, mounts_below, rows, run, until

SNAPSHOTS = "io.containerd.snapshotter.v1.erofs/snapshots"

pytestmark = pytest.mark.skipif("\terofs\n" not in pathlib.Path("/proc/filesystems").read_text() or not shutil.which("mkfs.erofs"),
                                reason="the kernel has no erofs, or there is no mkfs.erofs")


def plugin(ctr, type, id):
    return [r for r in rows(ctr.out("plugins", "ls")) if r[0] == f"io.containerd.{type}" and r[1] == id][0]


@pytest.fixture(autouse=True)
def tidy(request):
    yield
    if "ctr" not in request.fixturenames:
        return
    ctr = request.getfixturevalue("ctr")
    names = ctr.quiet("images", "ls", "-q")
    if names:
        ctr("images", "rm", "--sync", *names)


def layers(daemon):
    """Of the snapshotter's directory: number -> names in it."""
    found = {}
    for d in (daemon.root / SNAPSHOTS).iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            found[d.name] = sorted(os.listdir(d))
    return found


def test_the_plugins_are_there(ctr):
    for type, id in (("mount-handler.v1", "erofs"), ("snapshotter.v1", "erofs"), ("differ.v1", "erofs")):
        assert plugin(ctr, type, id)[-1] == "ok"


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_an_image_is_pulled_and_run(daemon, ctr, layered, compression, name):
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered[compression])
    assert sorted(layers(daemon).values()) == [sorted([".erofslayer", "fs", "layer.erofs", "work"])] * 3
    out = ctr.out("run", "--rm", "--snapshotter", "erofs", layered[compression], name, "sh", "-c",
                  "cat /data/keep /data/change /data/hard /data/third; ls /full /data; echo w > /data/keep && cat /data/keep")
    assert out == "1233/data:\nchange\nhard\nkeep\norig\nthird\n\n/full:\nnew\nw\n"
    assert not mounts_below(daemon.state)
    assert ctr("run", "--rm", "--snapshotter", "erofs", layered[compression], name, "cat", "/data/gone", check=False).returncode != 0


# ---- the same trees ----

TREES = {f.__name__: f for f in (trees.hard_links, trees.whiteouts, trees.opaque_directories, trees.devices, trees.attributes, trees.modes,
                                 trees.names, trees.odd_owners, trees.times, trees.many_layers, trees.changed_types, trees.repeated_entries)}
TREES.update({f"generated-{seed}": lambda seed=seed: trees.generated(seed) for seed in range(3)})
# A directory with a mkfs.erofs that reads tar files (1.7 and later), where there is one besides the system's.
NEWER = os.environ.get("MKFS_EROFS_DIR")
OLD = "--tar=" not in (h := run(["mkfs.erofs", "--help"], check=False)).stdout + h.stderr if shutil.which("mkfs.erofs") else False
UNPACK_WALKING = """
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  snapshotter = "erofs"
  differ = "walking"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
"""
WAYS = {"differ": {}, "walking": {"config": UNPACK_WALKING},
        "ahead": {"config": '[plugins."io.containerd.transfer.v1.local"]\n  max_concurrent_unpacks = 4\n'},
        **({"newer": {"path": NEWER}} if NEWER else {})}


def imported(ctr, layout_dir, tars, name, tmp_path, compression="gzip"):
    layout = images.Layout(layout_dir)
    layout.index([layout.image(tars, compression=compression)])
    run(["tar", "-C", layout.dir, "-cf", tmp_path / "layout.tar", "."])
    ctr("images", "import", "--no-unpack", "--base-name", f"localhost/{name}", tmp_path / "layout.tar")
    return f"localhost/{name}:latest"


def tree_of(ctr, ref, snapshotter, target):
    target.mkdir(exist_ok=True)
    ctr("images", "mount", "--snapshotter", snapshotter, ref, target)
    try:
        return trees.describe(target)
    finally:
        ctr("images", "unmount", "--rm", "--snapshotter", snapshotter, target)


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    d = Daemon(**WAYS[request.param])
    d.start()
    d.way = request.param
    yield d
    d.close()


@pytest.mark.parametrize("what", TREES)
def test_trees_are_those_of_overlayfs(way, registry, tmp_path, what):
    ctr = way.ctr
    if what == "names" and OLD and way.way != "newer":
        pytest.skip("this mkfs.erofs takes no names of 255 bytes")
    layout = images.Layout(tmp_path / "layout")
    ref = registry.push(layout.index([layout.image(TREES[what]())]), f"erofs-{what}:latest".replace("_", "-"))
    ctr("images", "pull", "--plain-http", ref)
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", ref)
    theirs, ours = (tree_of(ctr, ref, s, tmp_path / "target") for s in ("overlayfs", "erofs"))
    assert len(ours) > 1
    found = trees.differences(ours, theirs)
    ctr("images", "rm", "--sync", ref)
    assert not found, "\n".join(found)
    assert layers(way) == {}


# ---- images of EROFS layers ----

def document(ctr, digest):
    return json.loads(ctr.out("content", "get", digest))


def target(ctr, ref):
    return [r for r in rows(ctr.out("images", "ls")) if r[0] == ref][0][2]


def collect(ctr):
    ctr("leases", "rm", "--sync", ctr.out("leases", "create").strip())


@pytest.fixture(scope="module")
def native():
    """A daemon whose diff service knows EROFS layers, too: for clients that unpack by themselves."""
    d = Daemon(config='[plugins."io.containerd.service.v1.diff-service"]\n  default = ["erofs", "walking"]\n')
    d.start()
    yield d
    d.close()


@pytest.mark.parametrize("form", ["raw", "zstd"])
def test_a_converted_image_runs_and_has_the_same_tree(native, registry, layered, tmp_path, form):
    ctr = native.ctr
    ctr("images", "pull", "--plain-http", layered["gzip"])
    want = tree_of(ctr, layered["gzip"], "overlayfs", tmp_path / "target")
    ref = f"{registry.host}/erofs-{form}:1"
    printed = ctr.out("images", "convert", "--erofs", form, "--oci", layered["gzip"], ref).strip()
    manifest = document(ctr, printed)
    config = document(ctr, manifest["config"]["digest"])
    assert config["os.features"] == ["erofs"]
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        assert layer["mediaType"] == "application/vnd.erofs.layer.v1" + ("+zstd" if form == "zstd" else "")
        data = ctr("content", "get", layer["digest"], binary=True).stdout
        if form == "zstd":
            data = run(["zstd", "-dc"], input=data, binary=True).stdout
        assert "sha256:" + hashlib.sha256(data).hexdigest() == diff_id
        assert data[1024:1028] == bytes.fromhex("e2e1f5e0")
    assert ctr.quiet("leases", "ls", "-q") == []
    ctr("images", "rm", "--sync", layered["gzip"])
    # Unpacked by ctr, from what is in the store.
    assert tree_of(ctr, ref, "erofs", tmp_path / "target") == want
    ctr("images", "push", "--plain-http", ref)
    ctr("images", "rm", "--sync", ref)
    assert layers(native) == {}
    # Unpacked while it is being pulled.
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", ref)
    assert ctr.out("run", "--rm", "--snapshotter", "erofs", ref, f"erofs-native-{form}", "cat", "/data/third", "/full/new") == "32"
    for digest, d in zip(config["rootfs"]["diff_ids"], sorted((native.root / SNAPSHOTS).iterdir(), key=lambda d: int(d.name))):
        assert "sha256:" + hashlib.sha256((d / "layer.erofs").read_bytes()).hexdigest() == digest
    # Nobody else can unpack it, and says so.
    failed = ctr("images", "pull", "--plain-http", ref, check=False)
    assert failed.returncode == 1 and "no processor for media-type" in failed.stderr
    ctr("images", "rm", "--sync", ref)


def test_conversion_takes_compressors_and_options_and_leaves_an_index_in_order(native, two_platforms, tmp_path):
    ctr = native.ctr
    ctr("images", "pull", "--plain-http", "--all-platforms", two_platforms)
    plain, small = (ctr.out("images", "convert", "--all-platforms", "--erofs", "raw", *more, two_platforms, f"localhost/erofs:{i}").strip()
                    for i, more in enumerate(([], ["--erofs-compressors", "lz4hc", "--erofs-mkfs-options", "-T1234 --all-root"])))
    sizes = []
    for top in (plain, small):
        manifests = document(ctr, top)["manifests"]
        assert [m["platform"].get("os.features") for m in manifests] == [["erofs"], ["erofs"]]
        sizes.append(document(ctr, manifests[0]["digest"])["layers"][0]["size"])
    assert sizes[1] < sizes[0]
    failed = ctr("images", "convert", "--erofs", "raw", "--erofs-mkfs-options", "--nonsense", two_platforms, "localhost/none:1", check=False)
    assert failed.returncode == 1 and "mkfs.erofs: exit status" in failed.stderr
    assert not list(pathlib.Path(os.environ.get("TMPDIR", "/var/tmp")).glob("ctr-erofs-*"))
    tree = tree_of(ctr, "localhost/erofs:1", "erofs", tmp_path / "target")
    assert tree[b"arch"]["mtime"] == 1234 * 10**9
    ctr("images", "rm", "--sync", two_platforms, "localhost/erofs:0", "localhost/erofs:1")


def test_a_layer_that_is_no_erofs_image_leaves_nothing_behind(native, registry, tmp_path):
    ctr = native.ctr
    layout = images.Layout(tmp_path / "layout")
    blob = os.urandom(70000)
    layer = layout.blob(blob, "application/vnd.erofs.layer.v1")
    config = layout.blob({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}, images.CONFIG)
    manifest = layout.blob({"schemaVersion": 2, "mediaType": images.MANIFEST, "config": config, "layers": [layer]}, images.MANIFEST)
    ref = registry.push(layout.index([manifest]), "erofs-broken:1")
    failed = ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", ref, check=False)
    assert failed.returncode == 1 and "mount" in failed.stderr
    ctr("images", "rm", "--sync", ref, check=False)
    collect(ctr)
    assert layers(native) == {}


# ---- snapshots ----

def test_usage_is_that_of_the_image_and_removal_takes_the_files(daemon, ctr, layered):
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
    used = {r[0]: (int(r[1]), int(r[2])) for r in rows(ctr.out("snapshots", "--snapshotter", "erofs", "usage", "-b"))}
    files = sorted(f.stat().st_blocks * 512 for f in (daemon.root / SNAPSHOTS).glob("*/layer.erofs"))
    assert sorted(used.values()) == [(size, 1) for size in files]
    ctr("images", "rm", "--sync", layered["gzip"])
    assert layers(daemon) == {}


def active(ctr, key, parent, target):
    ctr("snapshots", "--snapshotter", "erofs", "prepare", key, *([parent] if parent else []))
    return ctr.out("snapshots", "--snapshotter", "erofs", "mounts", "--temp", target, key)


def test_what_is_written_becomes_a_layer_and_can_be_read_in_a_view(daemon, ctr, layered, tmp_path):
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
    all_ = rows(ctr.out("snapshots", "--snapshotter", "erofs", "ls"))
    top = ({r[0] for r in all_} - {r[1] for r in all_}).pop()
    where = tmp_path / "rw"
    where.mkdir()
    script = active(ctr, "work", top, where)
    run(["sh", "-ec", script])
    try:
        (where / "data/keep").unlink()
        shutil.rmtree(where / "full")
        (where / "full").mkdir(mode=0o711)
        (where / "full/mine").write_text("mine")
        os.chown(where / "full/mine", 70000, 3)
        os.setxattr(where / "full/mine", "user.x", b"y")
        os.link(where / "full/mine", where / "linked")
        want = trees.describe(where)
    finally:
        run(["umount", where])
    usage = rows(ctr.out("snapshots", "--snapshotter", "erofs", "usage", "-b", "work"))[0]
    assert int(usage[1]) > 0 and int(usage[2]) > 1
    ctr("snapshots", "--snapshotter", "erofs", "commit", "mine", "work")
    number = max(layers(daemon), key=int)
    assert "layer.erofs" in layers(daemon)[number] and os.listdir(daemon.root / SNAPSHOTS / number / "fs") == []
    ctr("snapshots", "--snapshotter", "erofs", "view", "look", "mine")
    script = ctr.out("snapshots", "--snapshotter", "erofs", "mounts", "--temp", where, "look")
    run(["sh", "-ec", script])
    try:
        assert trees.differences(trees.describe(where), want) == []
        with pytest.raises(OSError):
            (where / "new").write_text("")
    finally:
        run(["umount", where])
    for key in ("look", "mine"):
        ctr("snapshots", "--snapshotter", "erofs", "rm", key)
    for lease in ctr.quiet("leases", "ls", "-q"):
        ctr("leases", "rm", "--sync", lease)
    until("mounts to go", lambda: not mounts_below(daemon.state))


def test_a_diff_of_a_snapshot_is_what_was_written(daemon, ctr, layered, name):
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
    ctr("run", "-d", "--snapshotter", "erofs", layered["gzip"], name, "sh", "-c", "echo new > /etc/new; rm /data/third; sleep 600")
    until("the command to have run", lambda: ctr("tasks", "exec", "--exec-id", "look", name, "test", "!", "-e", "/data/third", check=False).returncode == 0)
    tar = run(["tar", "-tzf", "-"], input=ctr("snapshots", "--snapshotter", "erofs", "diff", name, binary=True).stdout, binary=True).stdout.decode().split()
    assert "etc/new" in tar and "data/.wh.third" in tar and "bin/busybox" not in tar
    assert ctr.out("tasks", "exec", "--exec-id", "who", "--user", "root", name, "id", "-u") == "0\n"
    ctr("tasks", "rm", "-f", name)


def test_a_daemon_that_is_killed_while_it_unpacks_leaves_nothing_that_stays(registry, tmp_path):
    layout = images.Layout(tmp_path / "layout")
    big = images.tar_of([(f"f{i}", os.urandom(1 << 20)) for i in range(60)])
    ref = registry.push(layout.index([layout.image([images.busybox_tar(), big], compression="plain")]), "erofs-big:1")
    d = Daemon()
    d.start()
    try:
        pull = d.ctr.popen("images", "pull", "--plain-http", "--snapshotter", "erofs", ref, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the second layer to be worked on", lambda: list((d.root / SNAPSHOTS).glob("2/fs/f*")))
        d.kill()
        pull.wait()
        d.start()
        assert "layer.erofs" not in layers(d).get("2", [])
        d.ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", ref)
        assert d.ctr.out("run", "--rm", "--snapshotter", "erofs", ref, "erofs-killed", "sh", "-c", "ls / | grep -c ^f") == "60\n"
        d.ctr("images", "rm", "--sync", ref)
        for lease in d.ctr.quiet("leases", "ls", "-q"):
            d.ctr("leases", "rm", "--sync", lease)
        until("everything to be collected", lambda: layers(d) == {})
    finally:
        d.close()


def started(config="", **kw):
    d = Daemon(config=config, **kw)
    d.start()
    return d


def snapshotter_config(text):
    return f'[plugins."io.containerd.snapshotter.v1.erofs"]\n{text}\n'


def attributes(path):
    return run(["lsattr", path]).stdout.split()[0]


def test_immutable_layers_are_removed_all_the_same(layered):
    d = started(snapshotter_config("set_immutable = true"))
    try:
        d.ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
        images_ = list((d.root / SNAPSHOTS).glob("*/layer.erofs"))
        assert len(images_) == 3 and all("i" in attributes(f) for f in images_)
        with pytest.raises(PermissionError):
            images_[0].unlink()
        d.ctr("images", "rm", "--sync", layered["gzip"])
        assert layers(d) == {}
    finally:
        d.close()


def test_a_writable_layer_of_a_fixed_size_is_full_at_that_size(layered, busybox):
    d = started(snapshotter_config('default_size = "32MiB"'))
    try:
        ctr = d.ctr
        ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
        out = ctr.out("run", "--rm", "--snapshotter", "erofs", layered["gzip"], "erofs-block", "sh", "-c",
                      "cat /data/keep; dd if=/dev/zero of=/fill bs=1M count=64 2>&1 | grep -c 'No space'; echo ok > /small; rm /fill; echo ok > /small; cat /small")
        assert out == "11\nok\n"
        # What a container has written is committed and read again.
        ctr("run", "-d", "--snapshotter", "erofs", layered["gzip"], "erofs-block2", "sh", "-c", "echo kept > /kept; sync; sleep 600")
        until("it to write", lambda: ctr("tasks", "exec", "--exec-id", "l", "erofs-block2", "cat", "/kept", check=False).stdout == "kept\n")
        assert ctr.out("tasks", "exec", "--exec-id", "u", "--user", "root", "erofs-block2", "id", "-u") == "0\n"
        ctr("tasks", "rm", "-f", "erofs-block2")
        ctr("snapshots", "--snapshotter", "erofs", "commit", "kept", "erofs-block2")
        number = max(layers(d), key=int)
        assert layers(d)[number] == [".erofslayer", "fs", "layer.erofs"]
        ctr("snapshots", "--snapshotter", "erofs", "prepare", "again", "kept")
        ctr("containers", "rm", "--keep-snapshot", "erofs-block2", check=False)
        ctr("snapshots", "--snapshotter", "erofs", "rm", "again")
        ctr("snapshots", "--snapshotter", "erofs", "rm", "kept")
    finally:
        d.close()


def test_what_the_machine_has_not_is_said(tmp_path, layered):
    programs = tmp_path / "bin"
    programs.mkdir()
    d = Daemon(config=snapshotter_config('dmverity_mode = "on"') + '[plugins."io.containerd.differ.v1.erofs"]\n  enable_dmverity = true\n')
    d.start()
    try:
        for type in ("snapshotter.v1", "differ.v1"):
            assert plugin(d.ctr, type, "erofs")[-1] == "skip"
            assert "dm-verity is not supported" in d.ctr.out("plugins", "ls", "-d", f"type==io.containerd.{type},id==erofs")
    finally:
        d.close()
    d = Daemon(config=snapshotter_config('dmverity_mode = "perhaps"'))
    d.start()
    try:
        assert plugin(d.ctr, "snapshotter.v1", "erofs")[-1] == "error"
    finally:
        d.close()


def test_without_mkfs_erofs_the_differ_is_skipped_and_everything_else_is_there(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for directory in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"):
        for f in pathlib.Path(directory).glob("*"):
            if f.name != "mkfs.erofs" and not (programs / f.name).exists():
                (programs / f.name).symlink_to(f)
    d = Daemon(env={"PATH": str(programs)})
    d.environment = lambda original=d.environment: {**original(), "PATH": str(programs)}
    d.start()
    try:
        assert plugin(d.ctr, "differ.v1", "erofs")[-1] == "skip"
        assert "failed to check mkfs.erofs availability" in d.ctr.out("plugins", "ls", "-d", "type==io.containerd.differ.v1,id==erofs")
        assert plugin(d.ctr, "snapshotter.v1", "erofs")[-1] == "ok"
    finally:
        d.close()


def test_a_layer_with_a_hash_tree_is_not_mounted_without_its_checks(daemon, ctr, layered, name):
    ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
    first = min(layers(daemon), key=int)
    (daemon.root / SNAPSHOTS / first / "layer.erofs.dmverity").write_text('{"roothash": "00"}')
    failed = ctr("run", "--rm", "--snapshotter", "erofs", layered["gzip"], name, "true", check=False)
    assert failed.returncode == 1 and "dm-verity" in failed.stderr


def test_fsverity_where_the_file_system_has_none_skips_the_snapshotter():
    d = started(snapshotter_config("enable_fsverity = true"))
    try:
        state = plugin(d.ctr, "snapshotter.v1", "erofs")[-1]
        if state == "ok":
            pytest.skip("this file system has fs-verity")
        assert state == "skip"
        assert "fsverity is not supported on the filesystem of" in d.ctr.out("plugins", "ls", "-d", "type==io.containerd.snapshotter.v1,id==erofs")
    finally:
        d.close()


@pytest.mark.skipif(not NEWER, reason="MKFS_EROFS_DIR is not set")
def test_an_index_of_the_tar_is_a_layer_too(layered):
    d = started('[plugins."io.containerd.differ.v1.erofs"]\n  enable_tar_index = true\n', path=NEWER)
    try:
        d.ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", layered["gzip"])
        assert d.ctr.out("run", "--rm", "--snapshotter", "erofs", layered["gzip"], "erofs-index", "cat", "/data/third", "/full/new") == "32"
        d.ctr("images", "rm", "--sync", layered["gzip"])
    finally:
        d.close()


# ---- pods ----

HANDLER = """
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.erofs]
runtime_type = 'io.containerd.runc.v2'
snapshotter = 'erofs'
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net}'
"""


def test_a_pods_containers_and_image_volumes_are_of_erofs_with_user_namespaces_too(stubs, busybox_layout, tmp_path):
    layered_layout = images.layered_layout(tmp_path / "layered", "gzip")
    with cri_daemon(stubs, busybox_layout, lambda net: HANDLER.format(net=net)) as (cri, image):
        pb = cri.pb
        load_image(cri.daemon, layered_layout, "docker.io/library/layered:latest")
        mount = pb.Mount(container_path="/art", readonly=True, image=pb.ImageSpec(image="layered"))
        ids = [pb.IDMapping(host_id=300000, container_id=0, length=65536)]
        for mode in (None, pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids)):
            ns = pb.NamespaceOption(userns_options=mode) if mode else pb.NamespaceOption()
            conf = cri.pod("p" if mode is None else "u", linux=pb.LinuxPodSandboxConfig(
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=ns)))
            pod = cri.run_pod(conf, "erofs")
            k = cri.start(pod, conf, cri.container("c", "layered", mounts=[] if mode else [mount], linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=ns))))
            assert cri.verbose(k)["snapshotter"] == "erofs"
            r = cri.ExecSync(container_id=k, cmd=["sh", "-c", "stat -c %u /bin/sh /data/keep; cat /data/third; echo > /new && stat -c %u /new"
                                                  + ("" if mode else "; cat /art/data/third; ls /art/full")])
            assert r.exit_code == 0, r.stderr
            assert r.stdout.decode().split() == ["0", "0", "30"] + ([] if mode else ["3new"])
        cri.daemon.clear()
