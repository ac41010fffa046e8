# SPDX-License-Identifier: Apache-2.0
"""What a pod's and a container's configuration makes of the process that runs: users, capabilities, namespaces, mounts, volumes of
images, ports, runtime handlers."""
import json
import os
import pathlib

import grpc
import pytest

import images
from cri import cri_daemon, fails, load_image
from cri_fixtures import cri, image
from harness import mounts_below, run, until

CONFIG = """
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
pod_annotations = ['keep.io/*']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]
runtime_type = 'io.containerd.runc.v2'
base_runtime_spec = '{base}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun.options]
BinaryName = '/usr/bin/crun'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.native]
runtime_type = 'io.containerd.runc.v2'
snapshotter = 'native'
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net}'
"""


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout, workdir, daemon_config):
    with cri_daemon(stubs, busybox_layout, daemon_config) as v:
        yield v


@pytest.fixture(scope="module")
def daemon_config(workdir):
    base, net = workdir / "base.json", workdir / "cri-net.d"
    spec = json.loads(run(["runc", "spec"], cwd=workdir) and (workdir / "config.json").read_text())
    (workdir / "config.json").unlink()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 777, "hard": 888}]
    base.write_text(json.dumps(spec))
    net.mkdir(exist_ok=True)
    return lambda d: CONFIG.format(base=base, net=d)


def sh(cri, container_id, script):
    r = cri.ExecSync(container_id=container_id, cmd=["/bin/sh", "-c", script])
    assert r.exit_code == 0, r.stderr
    return r.stdout.decode()


def process_status(cri, k):
    """Once it is its own program's: a start is over a moment before."""
    pid = cri.verbose(k)["pid"]
    until("the program", lambda: b"sleep" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def container_with(cri, image, pod=None, pod_fields=None, handler="", **security):
    pb = cri.pb
    fields = {key: security.pop(key) for key in list(security) if key in ("mounts", "devices", "resources", "envs", "working_dir", "image_name")}
    image = fields.pop("image_name", image)
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**security))
    if "resources" in fields:
        linux.resources.CopyFrom(fields.pop("resources"))
    conf = pod or cri.pod("p", **(pod_fields or {}))
    p = cri.run_pod(conf, handler)
    return p, cri.start(p, conf, cri.container("c", image, linux=linux, **fields))


def test_user_group_and_supplementary_groups(cri, image):
    pb = cri.pb
    _, k = container_with(cri, image, run_as_user=pb.Int64Value(value=1234), run_as_group=pb.Int64Value(value=55), supplemental_groups=[77, 66])
    assert sh(cri, k, "id -u; id -g; id -G").split("\n")[:2] == ["1234", "55"]
    s = cri.status(k).user.linux
    assert (s.uid, s.gid, list(s.supplemental_groups)) == (1234, 55, [55, 66, 77])


def test_capabilities_and_no_new_privileges(cri, image):
    pb = cri.pb
    _, k = container_with(cri, image, capabilities=pb.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]), no_new_privs=True)
    s = process_status(cri, k)
    assert int(s["CapEff"], 16) == int(s["CapBnd"], 16) == 1 << 10 and int(s["CapAmb"], 16) == 0 and s["NoNewPrivs"] == "1"


def test_runtime_default_seccomp_and_unconfined(cri, image):
    pb = cri.pb
    _, k = container_with(cri, image, seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault))
    assert process_status(cri, k)["Seccomp"] == "2"
    cri.daemon.clear()
    _, k = container_with(cri, image, seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined))
    assert process_status(cri, k)["Seccomp"] == "0"


def test_localhost_seccomp_is_read_from_its_file(cri, image, tmp_path):
    pb = cri.pb
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}))
    _, k = container_with(cri, image, seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=str(profile)))
    r = cri.ExecSync(container_id=k, cmd=["/bin/mkdir", "/x"])
    assert r.exit_code != 0 and b"not supported" in r.stderr.lower()


def test_read_only_root_with_masked_paths(cri, image):
    _, k = container_with(cri, image, readonly_rootfs=True, masked_paths=["/proc/meminfo"], readonly_paths=["/proc/sys"])
    assert cri.ExecSync(container_id=k, cmd=["/bin/touch", "/x"]).exit_code != 0
    assert sh(cri, k, "wc -c </proc/meminfo").strip() == "0"
    assert cri.ExecSync(container_id=k, cmd=["/bin/sh", "-c", "echo 1 >/proc/sys/kernel/domainname"]).exit_code != 0


def test_privileged_container_sees_devices_and_may_mount(cri, image):
    pb = cri.pb
    pod = {"linux": pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(privileged=True))}
    _, k = container_with(cri, image, pod_fields=pod, privileged=True)
    sh(cri, k, "test -e /dev/loop-control || test -e /dev/kmsg; mount -t tmpfs none /mnt 2>/dev/null || { mkdir -p /mnt && mount -t tmpfs none /mnt; }")
    conf = cri.pod("q")
    q = cri.run_pod(conf)
    bad = cri.container("c", image, linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True)))
    assert "no privileged container allowed in sandbox" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=q, config=bad, sandbox_config=conf)


def test_processes_of_a_pod_share_their_namespace_only_when_asked(cri, image):
    pb = cri.pb
    own = pb.NamespaceOption(pid=pb.CONTAINER)
    _, k = container_with(cri, image, namespace_options=own)
    assert sh(cri, k, "cat /proc/1/comm").strip() != "pause"
    cri.daemon.clear()
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    a = cri.start(p, conf, cri.container("a", image))
    assert sh(cri, a, "cat /proc/1/comm").strip() == "pause"
    debug = cri.container("debug", image, linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.TARGET, target_id=a))))
    d = cri.start(p, conf, debug)
    assert os.readlink(f"/proc/{cri.verbose(a)['pid']}/ns/pid") == os.readlink(f"/proc/{cri.verbose(d)['pid']}/ns/pid")


def test_pod_in_a_user_namespace(cri, image):
    pb = cri.pb
    ids = [pb.IDMapping(host_id=300000, container_id=0, length=65536)]
    user = pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids)
    ns = pb.NamespaceOption(userns_options=user)
    pod = {"linux": pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(namespace_options=ns))}
    p, k = container_with(cri, image, pod_fields=pod, namespace_options=ns)
    pid = cri.verbose(k)["pid"]
    assert pathlib.Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "300000", "65536"]
    assert sh(cri, k, "id -u; stat -c %u /bin/sh; touch /x && stat -c %u /x").split() == ["0", "0", "0"]
    assert sh(cri, k, "stat -c %u:%g /etc/hosts /etc/hostname /etc/resolv.conf; echo 10.0.0.9 other >> /etc/hosts").split() == ["0:0"] * 3
    assert process_status(cri, k)["Uid"].split()[0] == "300000"
    assert cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
    conf = cri.pod("q")
    q = cri.run_pod(conf)
    c = cri.container("c", image, linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(namespace_options=ns)))
    assert "user namespace config for sandbox is different" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=q, config=c, sandbox_config=conf)


def test_sysctls_and_unprivileged_ports(cri, image):
    pb = cri.pb
    pod = {"linux": pb.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_local_port_range": "20000 20100"})}
    _, k = container_with(cri, image, pod_fields=pod)
    assert sh(cri, k, "cat /proc/sys/net/ipv4/ip_local_port_range").split() == ["20000", "20100"]
    assert sh(cri, k, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "0"


def test_devices_environment_and_working_directory(cri, image):
    pb = cri.pb
    _, k = container_with(cri, image, devices=[pb.Device(host_path="/dev/null", container_path="/dev/mynull", permissions="rw")],
                          envs=[pb.KeyValue(key="A", value=b"x y")], working_dir="/tmp/new")
    assert sh(cri, k, 'stat -c %t:%T /dev/mynull; echo "$A:$HOSTNAME"; readlink /proc/$$/cwd').split("\n")[:3] == ["1:3", "x y:p", "/tmp/new"]


def test_host_port_leads_to_the_pod(cri, image):
    pb = cri.pb
    conf = cri.pod("p", port_mappings=[pb.PortMapping(protocol=pb.TCP, container_port=8080, host_port=18080)])
    p = cri.run_pod(conf)
    cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", "while :; do echo hello | nc -l -p 8080; done"]))
    ip = cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip

    def answer(host, port):
        try:
            with cri.daemon.netns.connect(host, port, 5) as s:
                return s.recv(100) == b"hello\n"
        except OSError:
            return False
    until("the pod to answer", lambda: answer(ip, 8080))
    gateway = ip.rsplit(".", 1)[0] + ".1"
    until("the host port to answer", lambda: answer(gateway, 18080))
    cri.StopPodSandbox(pod_sandbox_id=p)
    assert not answer(gateway, 18080)


def test_volumes_of_the_image_keep_their_contents(cri, image, workdir):
    layout = images.layout_of(workdir / "volumes", {"data/file": b"from the image"}, {"Volumes": {"/data": {}}, "Cmd": ["/bin/sleep", "1000"]})
    load_image(cri.daemon, layout, "docker.io/library/volumes:latest")
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", "docker.io/library/volumes:latest", []))
    assert sh(cri, k, "cat /data/file; echo more >/data/new; grep -c ' /data ' /proc/mounts") == "from the image1\n"


def test_stop_signal_is_kept_and_told(cri, workdir):
    pb = cri.pb
    layout = images.layout_of(workdir / "signal", {"d/f": b""}, {"StopSignal": "SIGRTMIN+3", "Cmd": ["/bin/sleep", "1000"]})
    load_image(cri.daemon, layout, "docker.io/library/signal:latest")
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    for n, (wish, told) in enumerate([(pb.RUNTIME_DEFAULT, pb.SIGRTMINPLUS3), (pb.SIGRTMAXMINUS1, pb.SIGRTMAXMINUS1), (pb.SIGIO, pb.SIGIO)]):
        k = cri.start(p, conf, cri.container(f"c{n}", "docker.io/library/signal:latest", [], stop_signal=wish))
        assert cri.status(k).stop_signal == told
        cri.StopContainer(container_id=k, timeout=60)
        number = {pb.SIGRTMINPLUS3: 37, pb.SIGRTMAXMINUS1: 63, pb.SIGIO: 29}[told]
        assert cri.status(k).exit_code == 128 + number
    bad = cri.container("bad", "docker.io/library/signal:latest", [], stop_signal=999)
    assert "unknown CRI stop signal 999" in fails(grpc.StatusCode.INVALID_ARGUMENT, cri.CreateContainer, pod_sandbox_id=p, config=bad, sandbox_config=conf)


def test_image_of_a_container_is_told_by_its_name(cri, workdir):
    pb = cri.pb
    name = "zoo.example/named:1"  # which comes after "sha256:"
    layout = images.layout_of(workdir / "named", {"d/f": b""}, {"Volumes": {"relative": {}}, "Cmd": ["/bin/sleep", "1000"]})
    load_image(cri.daemon, layout, name)
    image_id = cri.ImageStatus(image=pb.ImageSpec(image=name)).image.id
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image_id, []))
    spec = cri.verbose(k)["runtimeSpec"]
    assert spec["annotations"]["io.kubernetes.cri.image-name"] == name
    assert json.loads(cri.daemon.ctr.out("containers", "info", k, ns="k8s.io"))["Image"] == name
    assert "/relative" in [m["destination"] for m in spec["mounts"]]
    assert sh(cri, k, "touch /relative/f; grep -c ' /relative ' /proc/mounts") == "1\n"
    c = cri.container("d", image_id, [])
    c.image.user_specified_image = "named:1"
    k = cri.CreateContainer(pod_sandbox_id=p, config=c, sandbox_config=conf).container_id
    assert cri.verbose(k)["runtimeSpec"]["annotations"]["io.kubernetes.cri.image-name"] == "named:1"


def test_image_mounted_into_a_container(cri, image, workdir):
    pb = cri.pb
    layout = images.layout_of(workdir / "artifact", {"model/weights": b"1234", "link": "/model"}, {})
    load_image(cri.daemon, layout, "docker.io/library/artifact:latest")
    mount = pb.Mount(container_path="/art", readonly=True, image=pb.ImageSpec(image="artifact"))
    sub = pb.Mount(container_path="/sub", readonly=True, image=pb.ImageSpec(image="artifact"), image_sub_path="link")
    _, k = container_with(cri, image, mounts=[mount, sub])
    assert sh(cri, k, "cat /art/model/weights /sub/weights; touch /art/x 2>/dev/null && echo written; true") == "12341234"
    conf = cri.pod("q")
    q = cri.run_pod(conf)
    for n in range(3):  # which share it
        cri.start(q, conf, cri.container(f"k{n}", image, mounts=[mount]))
    assert len([m for m in mounts_below(cri.daemon.dir) if f"/image-volumes/{q}/" in m]) == 1
    bad = cri.container("c", image, mounts=[pb.Mount(container_path="/art", image=pb.ImageSpec(image="artifact"))])
    assert "must be read-only" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=q, config=bad, sandbox_config=conf)


def test_handlers_choose_runtime_spec_and_snapshotter(cri, image):
    assert [h.name for h in cri.Status().runtime_handlers] == ["", "crun", "native", "runc"]
    conf = cri.pod("p")
    p = cri.run_pod(conf, "crun")
    k = cri.start(p, conf, cri.container("c", image))
    limits = pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/limits").read_text()
    assert "777" in next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert "rlimits" not in json.loads(cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True).info["info"])["runtimeSpec"]["process"]
    conf = cri.pod("q", annotations={"keep.io/a": "1", "drop.io/b": "2"})
    q = cri.run_pod(conf, "native")
    k = cri.start(q, conf, cri.container("c", image))
    assert cri.verbose(k)["snapshotter"] == "native"
    assert cri.PodSandboxStatus(pod_sandbox_id=q).status.runtime_handler == "native"
    spec = json.loads(cri.PodSandboxStatus(pod_sandbox_id=q, verbose=True).info["info"])["runtimeSpec"]
    assert "keep.io/a" not in spec["annotations"]  # of the handler runc only
    conf = cri.pod("r", annotations={"keep.io/a": "1", "drop.io/b": "2"})
    r = cri.run_pod(conf)
    spec = json.loads(cri.PodSandboxStatus(pod_sandbox_id=r, verbose=True).info["info"])["runtimeSpec"]
    assert spec["annotations"].get("keep.io/a") == "1" and "drop.io/b" not in spec["annotations"]


def test_mount_propagation(cri, image):
    pb = cri.pb
    host = cri.daemon.dir / "shared"
    host.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "none", host])
    try:
        run(["mount", "--make-private", host])
        conf = cri.pod("p")
        p = cri.run_pod(conf)
        bad = cri.container("bad", image, mounts=[pb.Mount(container_path="/m", host_path=str(host), propagation=pb.PROPAGATION_BIDIRECTIONAL)])
        assert "is not a shared mount" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=p, config=bad, sandbox_config=conf)
        run(["mount", "--make-shared", host])
        k = cri.start(p, conf, cri.container("c", image, mounts=[pb.Mount(container_path="/m", host_path=str(host), propagation=pb.PROPAGATION_HOST_TO_CONTAINER)]))
        (host / "sub").mkdir()
        run(["mount", "-t", "tmpfs", "none", host / "sub"])
        (host / "sub/seen").touch()
        sh(cri, k, "test -e /m/sub/seen")
        run(["umount", host / "sub"])
        cri.StopPodSandbox(pod_sandbox_id=p)
    finally:
        run(["umount", "-R", host])


def test_recursive_read_only_mounts(cri, image):
    pb = cri.pb
    host = cri.daemon.dir / "rro"
    (host / "sub").mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "none", host / "sub"])
    try:
        m = pb.Mount(container_path="/m", host_path=str(host), readonly=True, recursive_read_only=True)
        conf = cri.pod("p")
        p = cri.run_pod(conf)
        c = cri.container("c", image, mounts=[m])
        if not cri.Status().runtime_handlers[0].features.recursive_read_only_mounts:
            assert "does not support it" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=p, config=c, sandbox_config=conf)
            return
        k = cri.start(p, conf, c)
        assert cri.ExecSync(container_id=k, cmd=["/bin/touch", "/m/sub/x"]).exit_code != 0
        cri.StopPodSandbox(pod_sandbox_id=p)
    finally:
        run(["umount", host / "sub"])


def test_terminal_in_a_container_with_the_devices_of_the_host(cri, image):
    pb = cri.pb
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", "tty; sleep 1000"], tty=True, mounts=[pb.Mount(container_path="/dev", host_path="/dev")]))
    assert until("its terminal", lambda: cri.log(k))[0][2].startswith("/dev/")


def test_what_is_missing_for_a_container_is_no_missing_container(cri, image):
    pb = cri.pb
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    for wish, text in ({"run_as_username": "nobody-knows"}, "nobody-knows"), ({"seccomp": pb.SecurityProfile(profile_type=2, localhost_ref="/no/such")}, "/no/such"):
        linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**wish))
        assert text in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=p, config=cri.container("c", image, linux=linux), sandbox_config=conf)
