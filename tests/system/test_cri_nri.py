# SPDX-License-Identifier: Apache-2.0
"""Plugins of the node resource interface: what they are told, what they may change, and what becomes of those that fail."""
import contextlib
import json
import os
import shutil
import socket
import struct
import sys
import threading

import grpc
import pytest

import nri
from cri import cri_daemon, fails
from cri_fixtures import cri, cri_and_image, image
from harness import run, until


@pytest.fixture
def connect(cri, stubs):
    pb, ttrpc = stubs("nri/api")[0], stubs("ttrpc/request")[0]
    plugins = []

    def new(name, idx="10", **kw):
        p = nri.connect(cri.daemon.nri / "nri.sock", pb, ttrpc, name, idx, **kw)
        plugins.append(p)
        return p

    new.pb = pb
    new.ttrpc = ttrpc
    yield new
    for p in plugins:
        p.close()
    for p in plugins:
        assert p.closed.wait(90)


def adjuster(pb, **fields):
    return {"CreateContainer": lambda q: pb.CreateContainerResponse(adjust=pb.ContainerAdjustment(**fields))}


def spec_of(cri, k):
    return cri.verbose(k)["runtimeSpec"]


def test_plugin_is_told_of_the_life_of_pods_and_containers(cri, image, connect):
    p = connect("watch")
    conf = cri.pod("p", labels={"a": "b"}, annotations={"c": "d"})
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image, labels={"l": "m"}))
    cri.UpdateContainerResources(container_id=k, linux=cri.pb.LinuxContainerResources(cpu_shares=77))
    cri.StopContainer(container_id=k, timeout=0)
    cri.RemoveContainer(container_id=k)
    cri.StopPodSandbox(pod_sandbox_id=pod)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert p.methods() == ["Configure", "Synchronize", "RunPodSandbox", "CreateContainer", "ValidateContainerAdjustment", "PostCreateContainer",
                           "StartContainer", "PostStartContainer", "UpdateContainer", "PostUpdateContainer", "StopContainer", "RemoveContainer",
                           "StopPodSandbox", "RemovePodSandbox"]
    seen = dict(p.seen)
    configure = seen["Configure"]
    assert (configure.runtime_name, configure.request_timeout, configure.registration_timeout) == ("containerd", 10000, 60000)
    run_pod = seen["RunPodSandbox"].pod
    assert (run_pod.id, run_pod.name, run_pod.uid, run_pod.namespace) == (pod, "p", "uid-p", "test")
    assert dict(run_pod.labels) == {"a": "b"} and dict(run_pod.annotations) == {"c": "d"}
    assert run_pod.ips and run_pod.pid and {n.type for n in run_pod.linux.namespaces} >= {"network", "pid", "ipc"}
    create = seen["CreateContainer"].container
    assert (create.id, create.pod_sandbox_id, create.name) == (k, pod, "k")
    assert list(create.args) == ["/bin/sh", "-c", "sleep 1000"] and any(e.startswith("PATH=") for e in create.env)
    assert create.annotations["io.kubernetes.cri.container-type"] == "container"
    assert "/etc/hosts" in [m.destination for m in create.mounts]
    assert create.linux.cgroups_path and create.linux.resources.devices
    assert seen["UpdateContainer"].linux_resources.cpu.shares.value == 77
    assert seen["PostStartContainer"].container.pid > 0
    assert seen["StopContainer"].container.state == connect.pb.CONTAINER_STOPPED


def test_older_plugin_gets_state_changes(cri, image, connect):
    p = connect("old", legacy=True)
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    cri.start(pod, conf, cri.container("k", image))
    assert [m for m in p.methods() if m.startswith(("Run", "Start", "Post"))] == ["RunPodSandbox", "PostCreateContainer", "StartContainer",
                                                                                     "PostStartContainer"]


def test_plugin_sees_what_there_was_before_it_came(cri, image, connect):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image))
    ended = cri.start(pod, conf, cri.container("e", image, ["/bin/true"]))
    cri.exited(ended)
    pb = connect.pb
    wish = pb.ContainerUpdate(container_id=k, linux=pb.LinuxContainerUpdate(resources=pb.LinuxResources(cpu=pb.LinuxCPU(shares=pb.OptionalUInt64(value=345)))))
    p = connect("late", on={"Synchronize": lambda q: pb.SynchronizeResponse(update=[wish])})
    sync = dict(p.seen)["Synchronize"]
    assert [x.id for x in sync.pods] == [pod] and [x.id for x in sync.containers] == [k]
    assert sync.containers[0].state == pb.CONTAINER_RUNNING and sync.containers[0].pid
    until("the update", lambda: spec_of(cri, k)["linux"]["resources"].get("cpu", {}).get("shares") == 345)


def test_only_wanted_events_come(cri, image, connect):
    p = connect("few", events=nri.mask("StartContainer"))
    conf = cri.pod("p")
    cri.start(cri.run_pod(conf), conf, cri.container("k", image))
    assert p.methods() == ["Configure", "Synchronize", "StartContainer"]


def test_adjustments_reach_the_container(cri, image, connect, tmp_path):
    pb = connect.pb
    (tmp_path / "f").write_text("from the host\n")
    linux = pb.LinuxContainerAdjustment(
        devices=[pb.LinuxDevice(path="/dev/mynull", type="c", major=1, minor=3, file_mode=pb.OptionalFileMode(value=0o666))],
        resources=pb.LinuxResources(cpu=pb.LinuxCPU(shares=pb.OptionalUInt64(value=321)), memory=pb.LinuxMemory(limit=pb.OptionalInt64(value=64 << 20)),
                                    pids=pb.LinuxPids(limit=99)),
        oom_score_adj=pb.OptionalInt(value=500), sysctl={"net.core.somaxconn": "77"},
        namespaces=[pb.LinuxNamespace(type="uts")])
    p = connect("all", piece=1000, on=adjuster(
        pb, annotations={"note": "x"}, env=[pb.KeyValue(key="NEW", value="v=w"), pb.KeyValue(key="-OLD")],
        mounts=[pb.Mount(destination="/mnt/deep/f", type="bind", source=str(tmp_path / "f"), options=["bind", "ro"]), pb.Mount(destination="-/etc/hostname")],
        rlimits=[pb.POSIXRlimit(type="RLIMIT_NOFILE", hard=512, soft=256)],
        args=["/bin/sh", "-c", "echo $NEW-$OLD-; cat /mnt/deep/f; ulimit -n; cat /proc/self/oom_score_adj; hostname; echo x > /dev/mynull && echo dev; sleep 1000"],
        linux=linux))
    conf = cri.pod("p")
    k = cri.start(cri.run_pod(conf), conf, cri.container("k", image, envs=[cri.pb.KeyValue(key="OLD", value=b"o")]))
    assert p.methods()[2] == "RunPodSandbox"
    spec = spec_of(cri, k)
    assert spec["annotations"]["note"] == "x"
    assert "NEW=v=w" in spec["process"]["env"] and not any(e.startswith("OLD=") for e in spec["process"]["env"])
    assert "/etc/hostname" not in [m["destination"] for m in spec["mounts"]]
    depths = [m["destination"].count("/") for m in spec["mounts"]]
    assert depths == sorted(depths)
    res = spec["linux"]["resources"]
    assert (res["cpu"]["shares"], res["memory"]["limit"], res["pids"]["limit"]) == (321, 64 << 20, 99)
    told = cri.status(k).resources.linux
    assert (told.cpu_shares, told.memory_limit_in_bytes, told.oom_score_adj) == (321, 64 << 20, 500)
    assert spec["linux"]["sysctl"]["net.core.somaxconn"] == "77"
    assert {"type": "uts"} in spec["linux"]["namespaces"]
    lines = until("the output", lambda: len(t := [x[2] for x in cri.log(k)]) > 5 and t)
    assert lines[:4] == ["v=w--", "from the host", "256", "500"] and lines[5] == "dev"


def test_later_plugin_sees_what_earlier_ones_have_changed(cri, image, connect):
    pb = connect.pb
    second = connect("b", "20")
    connect("a", "10", on=adjuster(pb, env=[pb.KeyValue(key="A", value="1")]))
    conf = cri.pod("p")
    cri.start(cri.run_pod(conf), conf, cri.container("k", image))
    seen = dict(second.seen)
    assert "A=1" in seen["CreateContainer"].container.env
    v = seen["ValidateContainerAdjustment"]
    assert [(e.key, e.value) for e in v.adjust.env] == [("A", "1")]
    k = v.container.id
    assert v.owners.owners[k].compound[pb.Env].owners["A"] == "10-a"
    assert [(x.index, x.name) for x in v.plugins] == [("10", "a"), ("20", "b")]


def test_two_plugins_that_set_the_same_are_both_named(cri, image, connect):
    pb = connect.pb
    connect("a", "10", on=adjuster(pb, env=[pb.KeyValue(key="X", value="1")]))
    b = connect("b", "20", on=adjuster(pb, env=[pb.KeyValue(key="X", value="2")]))
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    for _ in range(2):  # nothing is left of the first: its name is free
        try:
            cri.CreateContainer(pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf)
        except grpc.RpcError as e:
            assert 'plugins "10-a" and "20-b" both tried to set Env X' in e.details()
        else:
            raise AssertionError("no conflict")
    # Removing it first makes it one's own.
    b.on = adjuster(pb, env=[pb.KeyValue(key="-X"), pb.KeyValue(key="X", value="2")])
    k = cri.start(pod, conf, cri.container("k", image))
    assert "X=2" in spec_of(cri, k)["process"]["env"]


def test_refusal_fails_the_request_and_names_the_plugin(cri, image, connect):
    def refuse(q):
        raise nri.Refused("not on my node")

    p = connect("no", on={"CreateContainer": refuse})
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    text = fails(grpc.StatusCode.UNKNOWN, cri.CreateContainer, pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf)
    assert "10-no" in text and "not on my node" in text and not cri.ListContainers().containers
    p.on = {"RunPodSandbox": refuse}
    assert "not on my node" in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("q"))
    assert [x.metadata.name for x in cri.ListPodSandbox().items] == ["p"]


def test_validator_rejects_with_its_reason(cri, image, connect):
    pb = connect.pb
    connect("v", "90", on={"ValidateContainerAdjustment": lambda q: pb.ValidateContainerAdjustmentResponse(reject=True, reason="too much")})
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    text = fails(grpc.StatusCode.FAILED_PRECONDITION, cri.CreateContainer, pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf)
    assert 'validator "90-v" rejected container adjustment, reason: too much' in text


def test_update_of_a_container_is_changed_on_its_way(cri, image, connect):
    pb = connect.pb
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k, other = cri.start(pod, conf, cri.container("k", image)), cri.start(pod, conf, cri.container("o", image))

    def change(q):
        res = lambda shares: pb.LinuxContainerUpdate(resources=pb.LinuxResources(cpu=pb.LinuxCPU(shares=pb.OptionalUInt64(value=shares))))
        return pb.UpdateContainerResponse(update=[pb.ContainerUpdate(container_id=q.container.id, linux=res(200)),
                                                  pb.ContainerUpdate(container_id=other, linux=res(300))])

    connect("u", on={"UpdateContainer": change})
    cri.UpdateContainerResources(container_id=k, linux=cri.pb.LinuxContainerResources(cpu_shares=100, cpu_period=50000))
    cpu = spec_of(cri, k)["linux"]["resources"]["cpu"]
    assert (cpu["shares"], cpu["period"]) == (200, 50000)
    assert spec_of(cri, other)["linux"]["resources"]["cpu"]["shares"] == 300


def test_unsolicited_updates_and_evictions(cri, image, connect):
    pb = connect.pb
    p = connect("act")
    conf = cri.pod("p")
    k = cri.start(cri.run_pod(conf), conf, cri.container("k", image))
    update = pb.ContainerUpdate(container_id=k, linux=pb.LinuxContainerUpdate(resources=pb.LinuxResources(pids=pb.LinuxPids(limit=55))))
    assert not p.update(update).failed
    assert spec_of(cri, k)["linux"]["resources"]["pids"]["limit"] == 55
    unknown = pb.ContainerUpdate(container_id="nothere", linux=update.linux)
    assert [u.container_id for u in p.update(unknown, update).failed] == ["nothere"]
    unknown.ignore_failure = True
    assert not p.update(unknown).failed
    p.update(evict=[pb.ContainerEviction(container_id=k, reason="noisy")])
    assert cri.exited(k).exit_code == 137


def test_plugin_may_evict_the_container_that_it_is_asked_about(cri, image, connect):
    pb = connect.pb
    conf = cri.pod("p")
    k = cri.start(cri.run_pod(conf), conf, cri.container("k", image))
    connect("evictor", on={"UpdateContainer": lambda q: pb.UpdateContainerResponse(evict=[pb.ContainerEviction(container_id=k, reason="test")])})
    with contextlib.suppress(grpc.RpcError):  # on a slow machine it meets the container while that ends
        cri.UpdateContainerResources(container_id=k, linux=cri.pb.LinuxContainerResources(cpu_shares=77))
    assert cri.exited(k).exit_code == 137


def test_plugin_that_does_not_answer_is_closed(cri, image, connect):
    over = threading.Event()
    slow = connect("slow", on={"CreateContainer": lambda q: over.wait(600) and None})
    good = connect("good", "20")
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    cri.start(pod, conf, cri.container("k", image))
    assert not over.is_set()
    assert slow.closed.wait(90) and not good.closed.is_set() and "PostStartContainer" in good.methods()
    assert "StartContainer" not in slow.methods()
    over.set()


def test_plugin_that_leaves_in_a_request_is_forgotten(cri, image, connect):
    def leave(q):
        p.close()

    p = connect("gone", on={"CreateContainer": leave})
    conf = cri.pod("p")
    cri.start(cri.run_pod(conf), conf, cri.container("k", image))


@pytest.mark.parametrize("hostile", ["frame", "message", "utf8", "mounts", "name", "index", "early"])
def test_hostile_plugin_harms_nobody(cri, image, connect, hostile):
    pb = connect.pb
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    if hostile in ("name", "index"):
        with pytest.raises((nri.Refused, EOFError, OSError)):
            connect("x/y" if hostile == "name" else "x", "1" if hostile == "index" else "10", wait=False)
    elif hostile == "early":
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(cri.daemon.nri / "nri.sock"))
        p = nri.Plugin(pb, connect.ttrpc, "early", "10", s)
        with pytest.raises(nri.Refused, match="not registered"):
            p.update()
        p.close()
    elif hostile == "frame":
        p = connect("f")
        p.sock.sendall(struct.pack(">II", nri.PLUGIN, 0xffffffff))
        assert p.closed.wait(90)
    elif hostile == "message":
        p = connect("m")
        p.write(nri.RUNTIME, struct.pack(">IIBB", 0x7fffffff, 1, 1, 0) + b"x" * 1000)
        p.write(77, b"what")
        p.close()
    else:
        adj = pb.ContainerAdjustment(mounts=[pb.Mount(destination="relative", type="bind", source="/")]) if hostile == "mounts" else None
        bad = b"\xff\xfe"
        p = connect("h", on={"CreateContainer": lambda q: pb.CreateContainerResponse(adjust=adj) if adj else Raw(bad)})
        text = fails(grpc.StatusCode.INVALID_ARGUMENT, cri.CreateContainer, pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf)
        assert "10-h" in text and ("absolute" in text or "UTF-8" in text)
        p.close()
        assert p.closed.wait(90)
    cri.start(pod, conf, cri.container("k", image))


class Raw:
    """adjust.env[0].value = bytes, which Python does not let one put into a string."""

    def __init__(self, value):
        kv = b"\x0a\x01K\x12" + bytes([len(value)]) + value
        env = b"\x22" + bytes([len(kv)]) + kv
        self.data = b"\x0a" + bytes([len(env)]) + env

    def SerializeToString(self):
        return self.data


def test_requests_wait_while_a_plugin_is_synchronised(cri, image, connect):
    began, go = [], []

    def sync(q):
        began.append(1)
        until("the go", lambda: go, 9)

    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    p = connect("sync", wait=False, on={"Synchronize": sync})
    until("the synchronisation", lambda: began)
    future = cri.runtime.CreateContainer.future(cri.pb.CreateContainerRequest(pod_sandbox_id=pod, config=cri.container("k", image), sandbox_config=conf))
    assert not future.done()
    go.append(1)
    future.result(timeout=90)
    # Told of it by its creation, since it was not there before.
    assert "CreateContainer" in p.methods()


def test_installed_plugins_are_started_in_order_with_their_configuration(stubs, busybox_layout, tmp_path):
    pb = stubs("nri/api")[0]
    d = tmp_path / "nri"
    (d / "plugins").mkdir(parents=True)
    (d / "conf.d").mkdir()
    (d / "plugins" / "settings.json").write_text(json.dumps({"stubs": os.path.dirname(os.path.dirname(os.path.dirname(pb.__file__)))}))
    for name in ("20-late", "10-early"):
        shutil.copy(nri.__file__, d / "plugins" / name)
        text = (d / "plugins" / name).read_text()
        (d / "plugins" / name).write_text(f"#!{sys.executable}\n" + text)
        (d / "plugins" / name).chmod(0o755)
    (d / "plugins" / "30-broken").write_text("#!/bin/false\n")
    (d / "plugins" / "30-broken").chmod(0o755)
    (d / "plugins" / "40-noexec").write_text("")
    (d / "conf.d" / "10-early.conf").write_text('{"env": {"EARLY": "1"}}')
    (d / "conf.d" / "late.conf").write_text('{"env": {"LATE": "2"}}')
    config = f"""
[plugins.'io.containerd.nri.v1.nri']
socket_path = '{d}/nri.sock'
plugin_path = '{d}/plugins'
plugin_config_path = '{d}/conf.d'
plugin_registration_timeout = '60s'
disable_connections = true
[plugins.'io.containerd.nri.v1.nri'.default_validator]
enable = true
reject_oci_hook_adjustment = true
required_plugins = ['early']
tolerate_missing_plugins_annotation = 'tolerate.example/it'
"""
    with cri_daemon(stubs, busybox_layout, config) as (cri, image):
        assert not (d / "nri.sock").exists()
        conf = cri.pod("p")
        pod = cri.run_pod(conf)
        k = cri.start(pod, conf, cri.container("k", image))
        env = spec_of(cri, k)["process"]["env"]
        assert env.index("EARLY=1") < env.index("LATE=2")
        assert "30-broken" in cri.daemon.log.read_text()
        pids = run(["pgrep", "-f", f"{d}/plugins/10-early"]).stdout.split()
        os.kill(int(pids[0]), 9)
        until("its end to be noticed", lambda: "plugin 10-early" in cri.daemon.log.read_text())

        def missed():
            try:
                made = cri.CreateContainer(pod_sandbox_id=pod, config=cri.container("l", image), sandbox_config=conf)
                cri.RemoveContainer(container_id=made.container_id)  # its end had not been noticed yet
            except grpc.RpcError as e:
                return 'required plugin "early" not present' in e.details()
        until("the plugin to be missed", missed)
        free = cri.pod("q", annotations={"tolerate.example/it": "true"})
        cri.start(cri.run_pod(free), free, cri.container("k", image))
        cri.daemon.clear()
    until("the plugins to end", lambda: not run(["pgrep", "-f", f"{d}/plugins/20-late"], check=False).stdout)


def test_plugin_is_told_of_pods_while_a_container_is_given_time_to_end(cri, image, connect):
    pod = cri.pod("patience")
    k = cri.start(cri.run_pod(pod), pod, cri.container("stubborn", image, ("/bin/sh", "-c", "trap 'echo asked' TERM; echo; while :; do sleep 0.1; done")))
    until("the container to run", lambda: cri.log(k))
    t = threading.Thread(target=cri.StopContainer, kwargs={"container_id": k, "timeout": 600, "rpc_timeout": 600}, daemon=True)
    t.start()
    until("the container to be asked", lambda: "asked" in [text for _, _, text in cri.log(k)])
    connect("late", "10")  # waits until it is told
    assert t.is_alive()
    cri.StopContainer(container_id=k, timeout=0)
    t.join()
