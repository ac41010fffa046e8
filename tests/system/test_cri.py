# SPDX-License-Identifier: Apache-2.0
"""Pods and containers by the CRI: the life cycle, what is told of it, and what a restart of the daemon leaves."""
import json
import os
import pathlib
import signal

import grpc
import pytest

import cgroups
from cri import cri_daemon, fails
from cri_fixtures import cri, cri_and_image, image
from harness import run, until


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_version_and_status(cri):
    v = cri.Version()
    assert (v.version, v.runtime_name, v.runtime_api_version) == ("0.1.0", "containerd", "v1")
    s = cri.Status(verbose=True)
    conditions = {c.type: c.status for c in s.status.conditions}
    # On a host with version 1 of cgroups there is a warning about it.
    assert conditions.pop("ContainerdHasNoDeprecationWarnings") == os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    assert [h.name for h in s.runtime_handlers] == ["", "runc"]
    shown = json.loads(s.info["config"])
    assert shown["maxContainerLogSize"] == 16384 and shown["containerd"]["defaultRuntimeName"] == "runc"
    assert shown["containerd"]["runtimes"]["runc"]["runtimeType"] == "io.containerd.runc.v2"
    assert json.loads(s.info["cniconfig"])["Networks"][0]["Config"]["Plugins"][0]["type"] == "bridge"
    assert s.info["lastCNILoadStatus"] == s.info["lastCNILoadStatus.default"] == "OK"


def test_network_is_not_ready_without_configuration_and_follows_changes(cri):
    path = cri.daemon.net_d / "10-test.conflist"
    text = path.read_text()
    path.unlink()
    condition = lambda: next(c for c in cri.Status().status.conditions if c.type == "NetworkReady")
    until("the network not to be ready", lambda: not condition().status)
    assert condition().reason == "NetworkPluginNotReady"
    assert "cni plugin not initialized" in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p"))
    assert not cri.ListPodSandbox().items
    cri.daemon.put_network(text)
    until("the network to be ready", lambda: condition().status)
    kept = cri.daemon.dir / "kept.conflist"
    path.rename(kept)
    for link in (path.symlink_to, path.hardlink_to):
        until("the network not to be ready", lambda: not condition().status)
        link(kept)
        until("the network to be ready", lambda: condition().status)
        path.unlink()
    kept.rename(path)
    until("the network to be ready", lambda: condition().status)


def test_pod_has_network_hostname_and_files(cri):
    conf = cri.pod("p", labels={"a": "b"}, annotations={"c": "d"},
                   dns_config=cri.pb.DNSConfig(servers=["10.0.0.1"], searches=["x.y", "z"], options=["ndots:5"]))
    p = cri.run_pod(conf)
    s = cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True)
    assert s.status.state == cri.pb.SANDBOX_READY and s.status.labels == {"a": "b"} and s.status.annotations == {"c": "d"}
    info = json.loads(s.info["info"])
    pid = info["pid"]
    assert run(["nsenter", "-t", str(pid), "-u", "hostname"]).stdout == "p\n"
    assert f"inet {s.status.network.ip}/24" in run(["nsenter", "-t", str(pid), "-n", "ip", "a", "show", "eth0"]).stdout
    assert "UP" in run(["nsenter", "-t", str(pid), "-n", "ip", "l", "show", "lo"]).stdout
    root = pathlib.Path(f"/proc/{pid}/root")
    assert (root / "etc/resolv.conf").read_text() == "search x.y z\nnameserver 10.0.0.1\noptions ndots:5\n"
    assert info["cniResult"]["Interfaces"]["eth0"]["IPConfigs"][0]["IP"] == s.status.network.ip
    assert [i.id for i in cri.ListPodSandbox(filter=cri.pb.PodSandboxFilter(label_selector={"a": "b"})).items] == [p]
    assert not cri.ListPodSandbox(filter=cri.pb.PodSandboxFilter(label_selector={"a": "x"})).items
    assert [i.id for i in cri.ListPodSandbox(filter=cri.pb.PodSandboxFilter(id=p[:10])).items] == [p]


def test_stop_and_remove_of_a_pod_may_be_repeated(cri):
    p = cri.run_pod(cri.pod("p"))
    netns = json.loads(cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True).info["info"])["cniResult"]["Interfaces"]["eth0"]["Sandbox"]
    for _ in range(2):
        cri.StopPodSandbox(pod_sandbox_id=p)
    assert cri.PodSandboxStatus(pod_sandbox_id=p).status.state == cri.pb.SANDBOX_NOTREADY
    assert not pathlib.Path(netns).exists()
    for _ in range(2):
        cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not cri.ListPodSandbox().items
    cri.StopPodSandbox(pod_sandbox_id="ab" * 32)
    assert "an error occurred when try to find sandbox" in fails(grpc.StatusCode.NOT_FOUND, cri.PodSandboxStatus, pod_sandbox_id=p)


def test_name_of_a_pod_is_reserved_until_it_is_removed(cri):
    p = cri.run_pod(cri.pod("p"))
    assert f'is reserved for "{p}"' in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p"))
    other = cri.run_pod(cri.pod("p", attempt=1))
    cri.RemovePodSandbox(pod_sandbox_id=p)
    again = cri.run_pod(cri.pod("p"))
    assert len({p, other, again}) == 3


@pytest.mark.parametrize("fields, code, text", [
    ({}, grpc.StatusCode.UNKNOWN, "must include metadata"),
    ({"config": {"metadata": {"name": "x"}}}, grpc.StatusCode.INVALID_ARGUMENT, "must have a name, a uid and a namespace"),
    ({"config": {"metadata": {"name": "x", "uid": "u", "namespace": "n"}}, "runtime_handler": "nope"}, grpc.StatusCode.UNKNOWN, 'no runtime for "nope" is configured'),
])
def test_bad_pods_are_refused_and_leave_nothing(cri, fields, code, text):
    assert text in fails(code, cri.RunPodSandbox, **fields)
    assert not cri.ListPodSandbox().items
    assert not cri.daemon.ctr.out("leases", "ls", "-q", ns="k8s.io").strip()


def test_pod_that_fails_in_the_network_leaves_nothing(cri):
    path = cri.daemon.net_d / "10-test.conflist"
    good = path.read_text()
    bad = json.loads(good)
    bad["plugins"].append({"type": "portmap-that-is-not-there"})
    cri.daemon.put_network(json.dumps(bad))
    until("the bad network to be loaded", lambda: "portmap-that-is-not-there" in cri.Status(verbose=True).info["cniconfig"])
    try:
        assert "portmap-that-is-not-there" in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p"))
        assert not cri.ListPodSandbox().items and not list((cri.daemon.state / "io.containerd.grpc.v1.cri/netns").iterdir())
        assert "veth" not in run([*cri.daemon.netns.prefix(), "ip", "l"]).stdout
        assert not addresses(cri)  # the first plugin's are freed though the last one is missing
    finally:
        cri.daemon.put_network(good)
    until("the good network to be loaded", lambda: "portmap-that" not in cri.Status(verbose=True).info["cniconfig"])
    cri.run_pod(cri.pod("p"))


def addresses(cri):
    """What host-local has given away."""
    return [p.name for p in (cri.daemon.dir / "ipam").glob("*/10.*")]


@pytest.mark.parametrize("call", ["StopPodSandbox", "RemovePodSandbox"])
def test_address_that_a_failing_plugin_kept_is_freed_by_the_next_try(cri, tmp_path, call):
    path = cri.daemon.net_d / "10-test.conflist"
    good = path.read_text()
    bad = json.loads(good)
    bad["plugins"].append({"type": "portmap-that-is-not-there"})
    p = cri.run_pod(cri.pod("p"))
    assert len(addresses(cri)) == 1
    cri.daemon.put_network(json.dumps(bad))
    until("the bad network to be loaded", lambda: "portmap-that-is-not-there" in cri.Status(verbose=True).info["cniconfig"])
    try:
        for i in range(2):
            assert "portmap-that-is-not-there" in fails(grpc.StatusCode.UNKNOWN, getattr(cri, call), pod_sandbox_id=p)
        assert len(addresses(cri)) == 1 and cri.PodSandboxStatus(pod_sandbox_id=p).status.state == cri.pb.SANDBOX_NOTREADY
        cri.daemon.stop()  # the next one tries as well
        cri.daemon.start()
        cri.connect()
        assert "portmap-that-is-not-there" in fails(grpc.StatusCode.UNKNOWN, getattr(cri, call), pod_sandbox_id=p)
    finally:
        cri.daemon.put_network(good)
    until("the good network to be loaded", lambda: "portmap-that" not in cri.Status(verbose=True).info["cniconfig"])
    getattr(cri, call)(pod_sandbox_id=p)
    assert not addresses(cri)
    cri.RemovePodSandbox(pod_sandbox_id=p)


def test_host_network_and_host_namespaces(cri):
    pb = cri.pb
    opts = pb.NamespaceOption(network=pb.NODE, pid=pb.NODE, ipc=pb.NODE)
    p = cri.run_pod(cri.pod("p", linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(namespace_options=opts))))
    s = cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True)
    assert s.status.network.ip == ""
    pid = json.loads(s.info["info"])["pid"]
    assert namespace(pid, "net") == namespace(cri.daemon.process.pid, "net")
    assert namespace(pid, "ipc") == namespace("self", "ipc") and namespace(pid, "pid") == namespace("self", "pid")


def test_container_lives_from_create_to_remove(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    c = cri.container("c", image, labels={"k": "v"}, annotations={"n": "m"})
    k = cri.CreateContainer(pod_sandbox_id=p, config=c, sandbox_config=conf).container_id
    s = cri.status(k)
    assert s.state == cri.pb.CONTAINER_CREATED and s.started_at == 0 and s.created_at > 0
    cri.StartContainer(container_id=k)
    s = cri.status(k)
    assert s.state == cri.pb.CONTAINER_RUNNING and s.labels == {"k": "v"} and s.annotations == {"n": "m"} and s.image.image == image
    assert "container is in CONTAINER_RUNNING state" in fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=k)
    v = cri.verbose(k)
    sandbox = json.loads(cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True).info["info"])["pid"]
    for kind in ("net", "ipc", "uts"):
        assert namespace(v["pid"], kind) == namespace(sandbox, kind)
    assert namespace(v["pid"], "mnt") != namespace(sandbox, "mnt")
    assert [i.id for i in cri.ListContainers(filter=cri.pb.ContainerFilter(pod_sandbox_id=p)).containers] == [k]
    cri.StopContainer(container_id=k, timeout=60)
    s = cri.status(k)
    assert s.state == cri.pb.CONTAINER_EXITED and s.exit_code == 143 and s.reason == "Error" and s.finished_at >= s.started_at
    cri.StopContainer(container_id=k, timeout=60)
    for _ in range(2):
        cri.RemoveContainer(container_id=k)
    assert not cri.ListContainers().containers
    assert not list((cri.daemon.root / "io.containerd.grpc.v1.cri/containers").glob("*"))


def test_exit_codes_and_reasons(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    for n, (command, code, reason) in enumerate([("true", 0, "Completed"), ("exit 3", 3, "Error"), ("kill -9 $$", 137, "Error")]):
        k = cri.start(p, conf, cri.container(f"c{n}", image, ["/bin/sh", "-c", command]))
        s = cri.exited(k)
        assert (s.exit_code, s.reason) == (code, reason)


def test_container_that_cannot_start_says_why(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("c", image, ["/no/such/program"]), sandbox_config=conf).container_id
    assert "/no/such/program" in fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=k)
    s = cri.status(k)
    assert s.state == cri.pb.CONTAINER_EXITED and s.exit_code == 128 and s.reason == "StartError" and "/no/such/program" in s.message
    cri.RemoveContainer(container_id=k)


def test_stop_kills_what_ignores_its_signal(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", "trap '' TERM; touch /ready; while :; do sleep 1; done"]))
    root = pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/root")
    until("the trap to be set", lambda: (root / "ready").exists())
    cri.StopContainer(container_id=k, timeout=1)
    assert cri.status(k).exit_code == 137


def test_stop_signal_of_the_request_is_used(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    script = "trap 'exit 7' USR1; touch /ready; while :; do sleep 0.1; done"
    k = cri.start(p, conf, cri.container("c", image, ["/bin/sh", "-c", script], stop_signal=cri.pb.SIGUSR1))
    root = pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/root")
    until("the trap to be set", lambda: (root / "ready").exists())
    cri.StopContainer(container_id=k, timeout=60)
    assert cri.status(k).exit_code == 7 and cri.status(k).stop_signal == cri.pb.SIGUSR1


def test_resources_are_applied_and_updated(cri, image):
    pb = cri.pb
    conf = cri.pod("p", linux=pb.LinuxPodSandboxConfig(cgroup_parent="/crit/pod1"))
    p = cri.run_pod(conf)
    res = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=512, cpu_period=100000, cpu_quota=50000, oom_score_adj=500)
    k = cri.start(p, conf, cri.container("c", image, linux=pb.LinuxContainerConfig(resources=res)))
    pid = cri.verbose(k)["pid"]
    limit = cgroups.file(pid, "memory", "memory.limit_in_bytes", "memory.max")
    assert cgroups.path(pid, "memory") == f"/crit/pod1/{k}" and int(limit.read_text()) == 64 << 20
    assert open(f"/proc/{pid}/oom_score_adj").read() == "500\n"
    cri.UpdateContainerResources(container_id=k, linux=pb.LinuxContainerResources(memory_limit_in_bytes=128 << 20))
    assert int(limit.read_text()) == 128 << 20
    s = cri.status(k).resources.linux
    assert (s.memory_limit_in_bytes, s.cpu_shares, s.oom_score_adj) == (128 << 20, 512, 500)
    swap = cri.verbose(k)["runtimeSpec"]["linux"]["resources"]["memory"].get("swap", 0)
    assert s.memory_swap_limit_in_bytes == swap and swap in (0, 128 << 20)


def test_mounts_of_the_kubelet(cri, image):
    pb = cri.pb
    host = cri.daemon.dir / "volume"
    host.mkdir(exist_ok=True)
    (host / "f").write_text("here")
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, mounts=[pb.Mount(container_path="/data", host_path=str(host), readonly=True),
                                                             pb.Mount(container_path="/new", host_path=str(cri.daemon.dir / "made"))]))
    pid = cri.verbose(k)["pid"]
    root = pathlib.Path(f"/proc/{pid}/root")
    assert (root / "data/f").read_text() == "here" and (cri.daemon.dir / "made").is_dir()
    assert (root / "etc/hostname").read_text() == "p\n" and (root / "etc/hosts").exists()
    with pytest.raises(OSError):
        (root / "data/g").write_text("no")


def test_pod_of_a_killed_sandbox_is_not_ready(cri):
    p = cri.run_pod(cri.pod("p"))
    pid = json.loads(cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True).info["info"])["pid"]
    os.kill(pid, 9)
    until("the pod not to be ready", lambda: cri.PodSandboxStatus(pod_sandbox_id=p).status.state == cri.pb.SANDBOX_NOTREADY)
    conf = cri.container("c", "docker.io/library/busybox:latest")
    assert "is not running" in fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=p, config=conf, sandbox_config=cri.pod("p"))


def test_images_of_other_clients_are_seen(cri, image):
    i = cri.ImageStatus(image=cri.pb.ImageSpec(image="busybox")).image
    assert i.id.startswith("sha256:") and image in i.repo_tags and i.size > 0
    assert [x.id for x in cri.ListImages().images] == [i.id]
    cri.daemon.ctr("images", "tag", image, "docker.io/library/other:1", ns="k8s.io")
    until("the new name", lambda: "docker.io/library/other:1" in cri.ImageStatus(image=cri.pb.ImageSpec(image=i.id)).image.repo_tags)
    cri.daemon.ctr("images", "rm", "docker.io/library/other:1", ns="k8s.io")
    until("the name to go", lambda: "docker.io/library/other:1" not in cri.ImageStatus(image=cri.pb.ImageSpec(image=i.id)).image.repo_tags)
    assert not cri.ImageStatus(image=cri.pb.ImageSpec(image="nowhere/nothing:1")).HasField("image")
    cri.RemoveImage(image=cri.pb.ImageSpec(image="nowhere/nothing:1"))
    fs = cri.ImageFsInfo().image_filesystems
    assert len(fs) == 1 and fs[0].fs_id.mountpoint.endswith("overlayfs")
    until("its room to be measured", lambda: cri.ImageFsInfo().image_filesystems[0].used_bytes.value > 0)


def test_events_come_in_order_with_their_states(cri, image):
    pb = cri.pb
    stream = cri.GetContainerEvents(rpc_timeout=600)
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, ["/bin/true"]))
    cri.exited(k)
    cri.RemovePodSandbox(pod_sandbox_id=p)
    got = []
    for e in stream:
        got.append((e.container_id, e.container_event_type))
        if e.container_event_type == pb.CONTAINER_STARTED_EVENT and e.container_id == p:
            assert e.pod_sandbox_status.state == pb.SANDBOX_READY
        if e.container_event_type == pb.CONTAINER_STOPPED_EVENT and e.container_id == k:
            assert e.containers_statuses[0].state == pb.CONTAINER_EXITED
        if got[-1] == (p, pb.CONTAINER_DELETED_EVENT):
            break
    stream.cancel()
    c, s, x, d = pb.CONTAINER_CREATED_EVENT, pb.CONTAINER_STARTED_EVENT, pb.CONTAINER_STOPPED_EVENT, pb.CONTAINER_DELETED_EVENT
    # An earlier test's events may have been kept for the first subscriber.
    assert [e for e in got if e[0] in (p, k)] == [(p, c), (p, s), (k, c), (k, s), (k, x), (p, x), (k, d), (p, d)]


def test_an_exit_is_told_once_after_a_restart(cri, image):
    """The recovery finds it, and then the shim tells it: both wait for the rest of the output, which somebody else holds open."""
    pb = cri.pb
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image))
    pid = cri.verbose(k)["pid"]
    with open(f"/proc/{pid}/fd/1", "wb"):
        cri.daemon.kill()
        os.kill(pid, signal.SIGKILL)
        cri.daemon.start()
        cri.connect()
        stream = cri.GetContainerEvents(rpc_timeout=600)
        assert cri.exited(k).exit_code == 137
    cri.RemovePodSandbox(pod_sandbox_id=p)
    got = []
    for e in stream:
        got.append((e.container_id, e.container_event_type))
        if got[-1] == (p, pb.CONTAINER_DELETED_EVENT):
            break
    stream.cancel()
    assert got.count((k, pb.CONTAINER_STOPPED_EVENT)) == 1


@pytest.mark.parametrize("hard", [False, True])
def test_restart_of_the_daemon_keeps_pods_containers_and_exits(cri, image, hard):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    ip = cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
    running = cri.start(p, conf, cri.container("running", image))
    ends = cri.start(p, conf, cri.container("ends", image, ["/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 5"]))
    done = cri.start(p, conf, cri.container("done", image, ["/bin/sh", "-c", "exit 4"]))
    created = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("created", image), sandbox_config=conf).container_id
    cri.exited(done)
    root = pathlib.Path(f"/proc/{cri.verbose(ends)['pid']}/root")
    cri.daemon.kill() if hard else cri.daemon.stop()
    (root / "go").touch()
    cri.daemon.start()
    cri.connect()
    s = cri.PodSandboxStatus(pod_sandbox_id=p).status
    assert s.state == cri.pb.SANDBOX_READY and s.network.ip == ip
    assert cri.status(running).state == cri.pb.CONTAINER_RUNNING
    assert cri.exited(ends).exit_code == 5
    assert cri.status(done).exit_code == 4
    assert cri.status(created).state == cri.pb.CONTAINER_CREATED
    cri.StartContainer(container_id=created)
    assert f'is reserved for "{p}"' in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p"))
    cri.StopContainer(container_id=running, timeout=5)
    assert cri.status(running).state == cri.pb.CONTAINER_EXITED


def test_addresses_of_pods_that_a_reboot_ended_are_freed(cri):
    p = cri.run_pod(cri.pod("p"))
    info = json.loads(cri.PodSandboxStatus(pod_sandbox_id=p, verbose=True).info["info"])
    ip = cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
    taken = lambda: [f.name for f in cri.daemon.dir.glob("ipam/*/10.*")]
    assert ip in taken()
    cri.daemon.kill()
    os.kill(info["pid"], 9)
    until("its shim to have seen the end", lambda: not os.path.exists(f"/proc/{info['pid']}"))
    run(["umount", info["cniResult"]["Interfaces"]["eth0"]["Sandbox"]])
    cri.daemon.start()
    cri.connect()
    s = until("the pod not to be ready", lambda: (s := cri.PodSandboxStatus(pod_sandbox_id=p).status).state == cri.pb.SANDBOX_NOTREADY and s)
    assert s.network.ip == ""
    for _ in range(2):
        cri.StopPodSandbox(pod_sandbox_id=p)
    assert ip not in taken()
    cri.RemovePodSandbox(pod_sandbox_id=p)


def test_many_pods_at_once_leave_nothing(cri, image):
    from concurrent.futures import ThreadPoolExecutor

    def one(n):
        conf = cri.pod(f"many{n}")
        p = cri.run_pod(conf)
        k = cri.start(p, conf, cri.container("c", image))
        assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
        cri.StopPodSandbox(pod_sandbox_id=p)
        cri.RemovePodSandbox(pod_sandbox_id=p)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    d = cri.daemon
    assert not cri.ListPodSandbox().items and not cri.ListContainers().containers
    until("shims to end", lambda: not d.shims())
    assert not list((d.state / "io.containerd.grpc.v1.cri/netns").iterdir())
    assert not list((d.state / "io.containerd.grpc.v1.cri/sandboxes").iterdir())
    assert d.ctr.out("snapshots", "ls", ns="k8s.io").count("Active") == 0
    assert not d.ctr.out("leases", "ls", "-q", ns="k8s.io").strip()


def test_first_pods_that_begin_at_once_share_one_mount_for_their_networks(stubs, busybox_layout):
    from concurrent.futures import ThreadPoolExecutor
    with cri_daemon(stubs, busybox_layout) as (cri, _):
        netns = f"{cri.daemon.state}/io.containerd.grpc.v1.cri/netns"
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: cri.run_pod(cri.pod(f"first{n}")), range(12)))
        points = [line.split()[4] for line in open("/proc/self/mountinfo")]
        assert points.count(netns) == 1
        assert len([p for p in points if p.startswith(netns + "/")]) == 12


def test_image_that_another_client_brings_is_there_at_once(cri, image, stubs):
    pb, services = stubs("services/images/v1/images")
    images, md = services.ImagesStub(cri.channel), [("containerd-namespace", "k8s.io")]
    had = images.Get(pb.GetImageRequest(name=image), metadata=md).image
    names = [f"docker.io/library/again:{n}" for n in range(200)]
    for n in names:
        images.Create(pb.CreateImageRequest(image=pb.Image(name=n, target=had.target)), metadata=md)
        assert n in cri.ImageStatus(image=cri.pb.ImageSpec(image=n)).image.repo_tags
    for n in names:
        images.Delete(pb.DeleteImageRequest(name=n), metadata=md)


def test_images_that_come_and_go_at_once_are_gone(cri, image, stubs):
    pb, services = stubs("services/images/v1/images")
    images, md = services.ImagesStub(cri.channel), [("containerd-namespace", "k8s.io")]
    target = images.Get(pb.GetImageRequest(name=image), metadata=md).image.target
    for n in range(300):
        name = f"docker.io/library/brief{n}:1"
        images.Create(pb.CreateImageRequest(image=pb.Image(name=name, target=target)), metadata=md)
        images.Delete(pb.DeleteImageRequest(name=name), metadata=md)
    until("them to be gone", lambda: not [t for i in cri.ListImages().images for t in i.repo_tags if "/brief" in t])
