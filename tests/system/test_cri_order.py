# SPDX-License-Identifier: Apache-2.0
"""A pod's network and its pause process are made at the same time: whichever of them fails first, and whenever the daemon is killed,
nothing is left behind.

A plugin of the network and a runtime of this file's own stop where a test tells them to, and go on or fail when it does."""
import json
import os
import threading
import time

import grpc
import pytest

from cri import Cri, NetNs, NsDaemon, fails, load_image
from harness import mounts_below, processes, until

IMAGE = "docker.io/library/busybox:latest"

# Each step says that it is there, and waits for what the test has written for it: "go", or the text of an error.
STEP = """
step() {{
    [ -e {gates}/$1 ] || return 0
    echo $$ > {gates}/$1.tmp && mv {gates}/$1.tmp {gates}/$1.there
    while [ ! -e {gates}/$1.go ]; do sleep 0.02; done
    [ "$(cat {gates}/$1.go)" = go ]
}}
"""
PLUGIN = """#!/bin/sh
input=$(cat)
""" + STEP + """
[ "$CNI_COMMAND" = VERSION ] && exec /usr/lib/cni/bridge
echo $CNI_COMMAND >> {gates}/commands
[ $CNI_COMMAND = ADD ] || exit 0
step network || {{ echo '{{"cniVersion": "1.0.0", "code": 100, "msg": "the network has failed"}}'; exit 1; }}
echo "$input" | /usr/bin/python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
"""
RUNTIME = """#!/bin/sh
""" + STEP + """
for arg; do
    [ "$arg" = create ] || continue
    step runtime || {{ echo 'the runtime has failed' >&2; exit 1; }}
done
exec runc "$@"
"""


class Gates:
    def __init__(self, directory):
        self.dir = directory
        directory.mkdir()

    def program(self, name, text):
        path = self.dir / name
        path.write_text(text.format(gates=self.dir))
        path.chmod(0o755)

    def set(self, *names):
        for f in self.dir.glob("*"):
            if f.name not in ("gate", "gated-runc"):
                f.unlink()
        for n in names:
            (self.dir / n).touch()

    def wait(self, name):
        until(f"{name} to be there", (self.dir / f"{name}.there").exists)

    def both(self):
        return all((self.dir / f"{name}.there").exists() for name in ("network", "runtime"))

    def open(self, name, answer="go"):
        path = self.dir / f"{name}.tmp"
        path.write_text(answer)
        path.rename(self.dir / f"{name}.go")

    def ended(self, name):
        pid = int((self.dir / f"{name}.there").read_text())
        until(f"{name} to have ended", lambda: not os.path.exists(f"/proc/{pid}"))

    def commands(self):
        path = self.dir / "commands"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(scope="module")
def gated(stubs, busybox_layout, tmp_path_factory):
    gates = Gates(tmp_path_factory.mktemp("order") / "gates")
    gates.program("gate", PLUGIN)
    gates.program("gated-runc", RUNTIME)
    ns = NetNs()

    def config(net_d):
        return f"""
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{gates.dir}', '/usr/lib/cni']
conf_dir = '{net_d}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{gates.dir}/gated-runc'
"""
    d = NsDaemon(ns, config)
    try:
        d.network(ports=False)
        conf = json.loads((d.net_d / "10-test.conflist").read_text())
        conf["plugins"].append({"type": "gate"})
        d.put_network(json.dumps(conf))
        d.start()
        cri = Cri(d, stubs)
        load_image(d, busybox_layout, IMAGE)
        yield cri, gates
    finally:
        try:
            d.close()
        finally:
            ns.close()


@pytest.fixture
def cri(gated):
    gated[1].set()
    yield gated[0]
    gated[0].daemon.clear()


@pytest.fixture
def gates(gated):
    return gated[1]


def check_nothing_is_left(cri):
    d = cri.daemon
    assert not cri.ListPodSandbox().items and not cri.ListContainers().containers
    for noun in ("containers", "leases", "sandboxes"):
        assert not d.ctr.out(noun, "ls", ns="k8s.io").splitlines()[1:], noun
    until("the snapshots to go", lambda: all("Committed" in line for line in d.ctr.out("snapshots", "ls", ns="k8s.io").splitlines()[1:]))
    until("the shims to end", lambda: not d.shims())
    assert not [f.name for f in d.dir.glob("ipam/*/10.*")], "addresses"
    for top in (d.root, d.state):
        for kind in ("sandboxes", "containers", "netns"):
            left = list(top.glob(f"io.containerd.grpc.v1.cri/{kind}/*"))
            assert not left, left
    assert not [m for m in mounts_below(d.dir) if not m.endswith("/netns")]
    assert not [argv for argv in processes().values() if str(d.dir) in " ".join(argv[:2]) and "/pause" in argv[0]]


class Running(threading.Thread):
    """RunPodSandbox on a thread; .error is what it ended with."""

    def __init__(self, cri, **kw):
        super().__init__()
        self.cri, self.kw, self.error, self.id = cri, kw, None, None
        self.start()

    def run(self):
        try:
            self.id = self.cri.RunPodSandbox(config=self.cri.pod("p"), **self.kw).pod_sandbox_id
        except grpc.RpcError as e:
            self.error = e

    def failed(self):
        self.join(180)
        assert not self.is_alive() and self.error
        return self.error.details()


def test_network_and_runtime_work_at_the_same_time(cri, gates):
    gates.set("network", "runtime")
    r = Running(cri)
    gates.wait("network")
    gates.wait("runtime")
    gates.open("runtime")
    gates.open("network")
    r.join(180)
    assert cri.PodSandboxStatus(pod_sandbox_id=r.id).status.network.ip
    cri.StopPodSandbox(pod_sandbox_id=r.id)
    cri.RemovePodSandbox(pod_sandbox_id=r.id)
    check_nothing_is_left(cri)


def test_network_that_fails_while_the_pause_process_is_made(cri, gates):
    gates.set("network", "runtime")
    r = Running(cri)
    gates.wait("runtime")
    gates.wait("network")
    gates.open("network", "no")
    gates.ended("network")
    gates.open("runtime")
    assert "the network has failed" in r.failed()
    assert "DEL" in gates.commands()
    check_nothing_is_left(cri)


def test_runtime_that_fails_while_the_network_is_set_up(cri, gates):
    gates.set("network", "runtime")
    r = Running(cri)
    gates.wait("network")
    gates.wait("runtime")
    gates.open("runtime", "no")
    gates.ended("runtime")
    assert r.is_alive()  # what is under way cannot be undone yet
    gates.open("network")
    assert "OCI runtime create failed" in r.failed()
    assert gates.commands() == ["ADD", "DEL"]
    check_nothing_is_left(cri)


def test_both_fail_and_the_network_is_told(cri, gates):
    gates.set("network", "runtime")
    r = Running(cri)
    gates.wait("network")
    gates.wait("runtime")
    gates.open("runtime", "no")
    gates.open("network", "no")
    assert "the network has failed" in r.failed()
    check_nothing_is_left(cri)


def given_up(cri):
    until("the pod to be given up", lambda: not cri.ListPodSandbox().items and not list(cri.daemon.state.glob("io.containerd.grpc.v1.cri/netns/*")))
    until("its lease to go", lambda: not cri.daemon.ctr.out("leases", "ls", "-q", ns="k8s.io").strip())


def test_request_that_ends_in_between_leaves_nothing(cri, gates):
    for seconds in (2, 20, 120):  # more, where both steps are not reached in so short a time
        gates.set("network", "runtime")
        r = Running(cri, rpc_timeout=seconds)
        until("both steps, or the end", lambda: gates.both() or not r.is_alive())
        r.failed()
        if gates.both():
            break
        gates.open("network")
        gates.open("runtime")
        given_up(cri)
    assert gates.both()
    assert r.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    gates.open("network")
    gates.open("runtime")
    given_up(cri)
    check_nothing_is_left(cri)


def forget(cri):
    """What a kubelet does with pods that are not ready."""
    for p in cri.ListPodSandbox().items:
        cri.StopPodSandbox(pod_sandbox_id=p.id)
        cri.RemovePodSandbox(pod_sandbox_id=p.id)


@pytest.mark.parametrize("first", ["network", "runtime"])
def test_daemon_that_is_killed_meanwhile_knows_the_pod_afterwards(cri, gates, first):
    second = {"network": "runtime", "runtime": "network"}[first]
    gates.set("network", "runtime")
    r = Running(cri)
    gates.wait("network")
    gates.wait("runtime")
    gates.open(first)
    gates.ended(first)
    cri.daemon.kill()
    gates.open(second)
    gates.ended(second)
    r.failed()
    cri.daemon.start()
    cri.connect()
    pods = cri.ListPodSandbox().items
    assert [p.state for p in pods] == [cri.pb.SANDBOX_NOTREADY]
    assert f'is reserved for "{pods[0].id}"' in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p"))
    forget(cri)
    check_nothing_is_left(cri)


@pytest.mark.parametrize("after_ms", [3, 10, 20, 30, 45, 60, 80, 110, 150])
def test_daemon_that_is_killed_at_any_time_leaves_nothing_that_cannot_be_removed(cri, gates, after_ms):
    def life():
        try:
            conf = cri.pod("p")
            p = cri.run_pod(conf)
            cri.start(p, conf, cri.container("c", IMAGE))
        except grpc.RpcError:
            pass

    t = threading.Thread(target=life)
    t.start()
    time.sleep(after_ms / 1000)  # anywhere in it will do
    cri.daemon.kill()
    t.join()
    until("the last plugin of the network to end", lambda: not [a for a in processes().values() if f"{gates.dir}/gate" in a[:2]])
    cri.daemon.start()
    cri.connect()
    for k in cri.ListContainers().containers:
        assert k.state in (cri.pb.CONTAINER_CREATED, cri.pb.CONTAINER_RUNNING, cri.pb.CONTAINER_EXITED)
    forget(cri)
    check_nothing_is_left(cri)
