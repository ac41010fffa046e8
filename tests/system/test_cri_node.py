# SPDX-License-Identifier: Apache-2.0
"""What a node adds to containers: devices by name (CDI), classes, a network from a template; and checkpoints."""
import json
import os
import stat
import tarfile

import grpc
import pytest

import runc_with_state
from cri import cri_daemon, fails
from cri_fixtures import cri, image
from harness import until

# checkpoint: the state is a file in the image directory, and the process goes on.

TEMPLATE = """{"cniVersion": "1.0.0", "name": "tmpl", "plugins": [{"type": "bridge", "bridge": "tmpl0", "ipam": {"type": "host-local",
"dataDir": "@DIR@/ipam", "ranges": [{{range $i, $v := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$v}}"}]{{end}}],
"routes": [{{range $i, $v := .Routes}}{{if $i}}, {{end}}{"dst": "{{$v}}"}{{end}}]}}]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    d = tmp_path_factory.mktemp("node")
    runc_with_state.write(d)
    (d / "template").write_text(TEMPLATE.replace("@DIR@", str(d)))
    (d / "blockio").write_text("Classes:\n  slow:\n  - Weight: 50\n  fast:\n  - Weight: 800\n")
    (d / "cdi").mkdir()
    (d / "cdi" / "v.json").write_text(json.dumps({
        "cdiVersion": "0.6.0", "kind": "vendor.example/gadget",
        "devices": [{"name": n, "containerEdits": {"env": [f"GADGET_{n}=1"]}} for n in ("one", "two")],
        "containerEdits": {"deviceNodes": [{"path": "/dev/gadget", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}]}}))
    return d


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout, place):
    old = os.environ["PATH"]
    os.environ["PATH"] = f"{place}:{old}"
    config = lambda net_d: f"""
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
enable_criu = true
cdi_spec_dirs = ['{place}/cdi']
[plugins.'io.containerd.service.v1.tasks-service']
blockio_config_file = '{place}/blockio'
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net_d}'
conf_template = '{place}/template'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{place}/runc-with-state'
"""
    try:
        with cri_daemon(stubs, busybox_layout, config) as v:
            yield v
    finally:
        os.environ["PATH"] = old


def test_cdi_devices_by_field_and_annotation(cri, image):
    conf = cri.pod("p")
    k = cri.container("k", image, ["/bin/sh", "-c", "echo $GADGET_one$GADGET_two; echo x > /dev/gadget && echo ok; sleep 1000"],
                      CDI_devices=[cri.pb.CDIDevice(name="vendor.example/gadget=one")],
                      annotations={"cdi.k8s.io/x": "vendor.example/gadget=two,vendor.example/gadget=one"})
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, k)
    lines = until("the output", lambda: len(t := [x[2] for x in cri.log(k)]) == 2 and t)
    assert lines == ["11", "ok"]
    assert [d["path"] for d in cri.verbose(k)["runtimeSpec"]["linux"]["devices"]] == ["/dev/gadget"]
    create = lambda name: cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=conf, config=cri.container("l", image, CDI_devices=[cri.pb.CDIDevice(name=name)]))
    assert "unresolvable CDI devices vendor.example/gadget=three" in fails(grpc.StatusCode.UNKNOWN, create, "vendor.example/gadget=three")
    assert "invalid CDI device name" in fails(grpc.StatusCode.UNKNOWN, create, "/dev/null")


def test_classes_of_block_io_by_annotation(cri, image):
    notes = {"blockio.resources.beta.kubernetes.io/container.k": "slow", "blockio.resources.beta.kubernetes.io/pod": "fast"}
    conf = cri.pod("p", annotations=notes)
    pod = cri.run_pod(conf)
    create = lambda name, **kw: cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=conf, config=cri.container(name, image, **kw)).container_id
    blockio = lambda k: cri.verbose(k)["runtimeSpec"]["linux"]["resources"]["blockIO"]
    assert blockio(create("k")) == {"weight": 50} and blockio(create("l")) == {"weight": 800}
    assert blockio(create("m", annotations={"io.kubernetes.cri.blockio-class": "slow"})) == {"weight": 50}
    assert 'no OCI BlockIO parameters for class "none"' in fails(grpc.StatusCode.UNKNOWN, create, "n", annotations={"io.kubernetes.cri.blockio-class": "none"})
    text = fails(grpc.StatusCode.UNKNOWN, create, "o", annotations={"io.kubernetes.cri.rdt-class": "gold"})
    assert 'RDT disabled, refusing to set RDT class of container to "gold"' in text


@pytest.mark.parametrize("ignore", [False, True])
def test_classes_that_are_not_enabled(stubs, busybox_layout, tmp_path, ignore):
    (tmp_path / "bad").write_text("Classes:\n  slow:\n  - Weight: 5\n")
    text = f"""[plugins.'io.containerd.cri.v1.runtime'.containerd]
ignore_blockio_not_enabled_errors = {str(ignore).lower()}
ignore_rdt_not_enabled_errors = {str(ignore).lower()}
[plugins.'io.containerd.service.v1.tasks-service']
blockio_config_file = '{tmp_path}/bad'
rdt_config_file = '{tmp_path}/bad'
"""
    with cri_daemon(stubs, busybox_layout, text) as (cri, image):
        log = cri.daemon.log.read_text()
        assert "blockio not enabled" in log and "smaller than minimum" in log
        # Where there is no resctrl, and where there is: the file is not of RDT.
        assert "RDT initialization failed: RDT not enabled: " in log or 'unknown field "Classes"' in log
        conf = cri.pod("p")
        pod = cri.run_pod(conf)
        create = lambda name, **kw: cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=conf, config=cri.container(name, image, **kw)).container_id
        for i, (key, what) in enumerate((("io.kubernetes.cri.blockio-class", "blockio"), ("io.kubernetes.cri.rdt-class", "RDT"))):
            if ignore:
                spec = cri.verbose(create(f"k{i}", annotations={key: "slow"}))["runtimeSpec"]["linux"]
                assert "blockIO" not in spec["resources"] and "intelRdt" not in spec
            else:
                assert f"{what} disabled, refusing to set" in fails(grpc.StatusCode.UNKNOWN, create, f"k{i}", annotations={key: "slow"})


def test_platforms_of_the_runtime_are_told(stubs, busybox_layout):
    config = """[plugins.'io.containerd.runtime.v2.task']
platforms = ['linux/amd64', 'linux/aarch64']
"""
    with cri_daemon(stubs, busybox_layout, config) as (cri, *_):
        row = next(l for l in cri.daemon.ctr("plugins", "ls").stdout.splitlines() if l.startswith("io.containerd.runtime.v2"))
        assert row.split()[2] == "linux/amd64,linux/arm64"


def test_pod_cidr_makes_a_network_only_when_there_is_none(cri, place):
    net_d = cri.daemon.net_d
    cidr = lambda v: cri.UpdateRuntimeConfig(runtime_config=cri.pb.RuntimeConfig(network_config=cri.pb.NetworkConfig(pod_cidr=v)))
    cidr("10.88.0.0/24")
    assert not (net_d / "10-containerd-net.conflist").exists()
    other = net_d / "10-test.conflist"
    text = other.read_text()
    other.unlink()
    ready = lambda: next(c for c in cri.Status().status.conditions if c.type == "NetworkReady").status
    until("no network", lambda: not ready())
    assert "no network" in fails(grpc.StatusCode.UNKNOWN, cidr, "10.88.0.0")
    cidr("")
    assert not ready()
    cidr("10.88.0.0/24,fd00:88::/64")
    until("the network", ready)
    ipam = json.loads((net_d / "10-containerd-net.conflist").read_text())["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]
    assert [r["dst"] for r in ipam["routes"]] == ["0.0.0.0/0", "::/0"]
    (net_d / "10-containerd-net.conflist").unlink()
    cri.daemon.put_network(text)
    until("the network", lambda: json.loads(cri.Status(verbose=True).info["cniconfig"])["Networks"] and
          json.loads(cri.Status(verbose=True).info["cniconfig"])["Networks"][0]["Config"]["Name"] != "tmpl")


def test_checkpoint_is_an_archive_of_all_that_is_needed(cri, image, place):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", "echo changed > /here; echo said; sleep 1000"]))
    until("the output", lambda: cri.log(k))
    where = place / "k.tar"
    cri.CheckpointContainer(container_id=k, location=str(where))
    assert stat.S_IMODE(where.stat().st_mode) == 0o600
    with tarfile.open(where) as t:
        names = {n.removeprefix("./").rstrip("/") for n in t.getnames()}
        read = lambda n: t.extractfile(next(m for m in t if m.name.removeprefix("./") == n)).read()
        assert names - {"", "."} >= {"checkpoint", "checkpoint/state", "config.dump", "spec.dump", "status", "status.dump", "container.log",
                                     "rootfs-diff.tar", "dump.log", "stats-dump"}
        config = json.loads(read("config.dump"))
        assert config["id"] == k and config["rootfsImageName"] == image and config["runtime"] == "io.containerd.runc.v2"
        assert json.loads(read("spec.dump"))["process"]["args"][0] == "/bin/sh"
        assert json.loads(read("status.dump"))["id"] == k
        assert b"said" in read("container.log")
        (place / "diff.tar").write_bytes(read("rootfs-diff.tar"))
    with tarfile.open(place / "diff.tar") as t:
        assert "here" in [n.removeprefix("./") for n in t.getnames()] and "bin/busybox" not in t.getnames()
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
    assert not list((cri.daemon.root / "io.containerd.grpc.v1.cri" / "containers" / k).glob("ctrd-checkpoint"))
    assert "-checkpoint" not in cri.daemon.ctr("snapshots", "ls", ns="k8s.io").stdout


def test_checkpoint_refuses_and_leaves_nothing(cri, image, place):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k = cri.CreateContainer(pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf).container_id
    where = place / "no.tar"
    take = lambda location=where: cri.CheckpointContainer(container_id=k, location=str(location))
    assert "not running" in fails(grpc.StatusCode.UNKNOWN, take)
    cri.StartContainer(container_id=k)
    fails(grpc.StatusCode.INVALID_ARGUMENT, take, "relative")
    fails(grpc.StatusCode.NOT_FOUND, take, place / "nowhere" / "x.tar")
    (place / "refuse").touch()
    try:
        assert "failed to checkpoint container" in fails(grpc.StatusCode.UNKNOWN, take)
    finally:
        (place / "refuse").unlink()
    assert not where.exists() and not list(place.glob("*.tar.*"))
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
    assert "-checkpoint" not in cri.daemon.ctr("snapshots", "ls", ns="k8s.io").stdout
