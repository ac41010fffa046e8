# SPDX-License-Identifier: Apache-2.0
"""ctr pods: what runs on a node, for a person without crictl."""
import json
import os
import subprocess
from concurrent import futures

import grpc
import pytest

from cri_fixtures import cri, cri_and_image, image
from harness import BIN, Ctr, until


def test_list_shows_pods_with_address_and_containers(cri, image):
    conf = cri.pod("web")
    pod = cri.run_pod(conf)
    cri.start(pod, conf, cri.container("a", image))
    cri.exited(cri.start(pod, conf, cri.container("b", image, ["/bin/true"])))
    other = cri.run_pod(cri.pod("old"))
    cri.StopPodSandbox(pod_sandbox_id=other)
    ctr = cri.daemon.ctr
    lines = [line.split() for line in ctr.out("pods", "ls").splitlines()]
    assert lines[0] == ["ID", "NAME", "NAMESPACE", "STATE", "IP", "AGE", "CONTAINERS"]
    rows = {r[1]: r for r in lines[1:]}
    ip = cri.PodSandboxStatus(pod_sandbox_id=pod).status.network.ip
    assert rows["web"][0] == pod[:13] and rows["web"][2:5] == ["test", "Ready", ip] and rows["web"][6] == "1/2"
    assert rows["old"][3] == "NotReady" and rows["old"][6] == "0/0"
    assert {p["Name"]: p["Containers"] for p in json.loads(ctr.out("pods", "ls", "--format", "json"))} == {"web": 2, "old": 0}
    assert set(ctr.out("pods", "ls", "-q").split()) == {pod, other}


def test_inspect_and_remove_take_names_and_ids(cri, image):
    pod = cri.run_pod(cri.pod("web"))
    ctr = cri.daemon.ctr
    for name in ("web", "test/web", pod, pod[:10]):
        out = json.loads(ctr.out("pods", "inspect", name))
        assert out["status"]["id"] == pod and out["info"]["runtimeType"] == "io.containerd.runc.v2"
        assert out["status"]["state"] == "SANDBOX_READY" and out["status"]["created_at"].endswith("Z") and out["containers"] == []
    assert "pod nothere: not found" in ctr("pods", "inspect", "nothere", check=False).stderr
    assert ctr.out("pods", "rm", "web").strip() == pod
    assert not cri.ListPodSandbox().items


def test_logs_of_a_container_by_name_id_or_pod(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    # The order of two streams is that in which they are read.
    wait = lambda name: f"until [ -e /{name} ]; do sleep 0.05; done"
    script = f"echo one; {wait('a')}; echo two >&2; {wait('b')}; echo three; printf part"
    k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", script]))
    for n, name in enumerate("ab"):
        until("the line before", lambda: len(cri.log(k)) > n)
        cri.ExecSync(container_id=k, cmd=["touch", f"/{name}"])
    cri.exited(k)
    ctr = cri.daemon.ctr
    for name in ("k", k, k[:12], "p"):
        r = ctr("pods", "logs", name)
        assert r.stdout == "one\nthree\npart" and r.stderr == "two\n"
    # To one place they come in the order in which they were written.
    p = subprocess.run(ctr.argv("pods", "logs", "k"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert p.stdout == b"one\ntwo\nthree\npart"
    r = ctr("pods", "logs", "--tail", "1", "k")
    assert (r.stdout, r.stderr) == ("three\npart", "")
    assert ctr("pods", "logs", "--tail", "0", "k").stdout == "part"
    first = ctr.out("pods", "logs", "--timestamps", "k").splitlines()[0]
    assert first.endswith(" one") and first[4] == "-" and "T" in first
    cri.start(pod, conf, cri.container("l", image))
    assert "has several containers, name one of them: k, l" in ctr("pods", "logs", "p", check=False).stderr
    assert ctr("pods", "logs", "p", "k").stdout == ctr("pods", "logs", "k").stdout
    assert "container x of pod p (it has: k, l): not found" in ctr("pods", "logs", "p", "x", check=False).stderr
    assert "container or pod nothere: not found" in ctr("pods", "logs", "nothere", check=False).stderr
    assert '"--tail" comes too late: flags go before the names' in ctr("pods", "logs", "k", "--tail", "1", check=False).stderr
    assert '"l" is one word too many' in ctr("pods", "logs", "p", "k", "l", check=False).stderr
    conf = cri.pod("q")
    cri.start(cri.run_pod(conf), conf, cri.container("k", image))
    assert 'several pods have a container k: say which, as in "ctr pods logs POD k"' in ctr("pods", "logs", "k", check=False).stderr


def test_logs_of_what_ran_before_and_of_lately(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    for n in (0, 1):
        k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", f"echo run {n}"], attempt=n, log_path=f"k.{n}.log"))
        cri.exited(k)
    ctr = cri.daemon.ctr
    assert ctr.out("pods", "logs", "p") == "run 1\n" == ctr.out("pods", "logs", "--since", "1h", "k")
    assert ctr.out("pods", "logs", "--previous", "p") == "run 0\n"
    path = cri.status(k).log_path
    old = open(path).read()
    with open(path, "w") as f:
        f.write(f"2001-02-03T04:05:06.7+01:00 stdout F long ago\n{old}")
    assert ctr.out("pods", "logs", "--since", "1h", "k") == "run 1\n"
    assert ctr.out("pods", "logs", "k") == "long ago\nrun 1\n"
    cri.start(pod, conf, cri.container("other", image))
    assert "other has no predecessor" in ctr("pods", "logs", "-p", "p", "other", check=False).stderr


def test_containers_are_listed_with_what_became_of_them(cri, image):
    conf = cri.pod("web")
    pod = cri.run_pod(conf)
    limit = cri.pb.LinuxContainerConfig(resources=cri.pb.LinuxContainerResources(memory_limit_in_bytes=16 << 20))
    for n, command in enumerate(["exit 3", "exec tail /dev/zero"]):
        k = cri.start(pod, conf, cri.container("dies", image, ["/bin/sh", "-c", command], attempt=n, linux=limit))
        cri.exited(k)
    runs = cri.start(pod, conf, cri.container("runs", image))
    cri.CreateContainer(pod_sandbox_id=pod, config=cri.container("created", image), sandbox_config=conf)
    cri.run_pod(cri.pod("other"))
    ctr = cri.daemon.ctr
    lines = [line.split() for line in ctr.out("pods", "ps").splitlines()]
    assert lines[0] == ["ID", "NAME", "POD", "STATE", "EXIT", "SINCE", "RESTARTS", "IMAGE"]
    rows = [(r[1], r[2], r[3]) for r in lines[1:]]
    assert rows == [("created", "test/web", "Created"), ("dies", "test/web", "Exited"), ("runs", "test/web", "Running")]
    assert lines[2][4:6] == ["137", "OOMKilled"] and lines[2][7:] == ["1", image] and lines[3][0] == runs[:13]
    every = json.loads(ctr.out("pods", "ps", "--all", "--format", "json", "web"))
    assert [(k["Name"], k["Attempt"], k["ExitCode"]) for k in every] == [("created", 0, 0), ("dies", 1, 137), ("dies", 0, 3), ("runs", 0, 0)]
    assert ctr.out("pods", "ps", "-q", "other") == ""
    out = json.loads(ctr.out("pods", "inspect", "web", "runs"))
    assert out["status"]["id"] == runs and out["status"]["state"] == "CONTAINER_RUNNING" and out["info"]["pid"] > 0
    assert json.loads(ctr.out("pods", "inspect", runs[:12])) == out
    pods = json.loads(ctr.out("pods", "inspect", "web"))
    assert {(k["metadata"]["name"], k["state"]) for k in pods["containers"]} >= {("runs", "CONTAINER_RUNNING"), ("dies", "CONTAINER_EXITED")}
    assert [line.split()[1] for line in ctr.out("pods", "ls").splitlines()[1:]] == ["other", "web"]
    # What a daemon does not say in a second is not offered.
    until("the pod's name", lambda: "web\ttest\n" in ctr.out("__complete", "--", "pods", "logs", "w"))


def test_a_daemon_without_cri_says_so(daemon):
    r = daemon.ctr("pods", "ls", check=False)
    assert r.returncode == 1 and "the daemon serves no CRI" in r.stderr


def test_following_goes_through_rotation_and_ends_with_the_container(cri, image):
    conf = cri.pod("follow")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after"]))
    path = cri.status(k).log_path
    until("the first line", lambda: "before" in open(path).read())
    follower = cri.daemon.ctr.popen("pods", "logs", "-f", "k", stdout=subprocess.PIPE, text=True)
    assert follower.stdout.readline() == "before\n"
    os.rename(path, path + ".1")
    cri.ReopenContainerLog(container_id=k)
    cri.ExecSync(container_id=k, cmd=["touch", "/go"])
    assert follower.stdout.read() == "after\n" and follower.wait(90) == 0


@pytest.mark.parametrize("nameless", ["pod", "container"])
def test_what_comes_without_a_name_is_an_error(stubs, tmp_path, nameless):
    """Of a containerd that is not ours; the metadata is optional on the wire."""
    pb, code = stubs("runtime/v1/api")

    class Odd(code.RuntimeServiceServicer):
        def ListPodSandbox(self, request, context):
            pod = pb.PodSandbox(id="p1", metadata=pb.PodSandboxMetadata(name="p", namespace="n") if nameless != "pod" else None)
            return pb.ListPodSandboxResponse(items=[pod, pod])

        def ListContainers(self, request, context):
            return pb.ListContainersResponse(containers=[pb.Container(id="c1", pod_sandbox_id="p1")] * 2)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    code.add_RuntimeServiceServicer_to_server(Odd(), server)
    server.add_insecure_port(f"unix:{tmp_path}/odd.sock")
    server.start()
    try:
        for command in (["pods", "ls"], ["pods", "ps"]):
            p = Ctr(BIN / "ctr", tmp_path / "odd.sock")(*command, check=False)
            assert p.returncode == 1 and f"{nameless} {nameless[0]}1 came without its name" in p.stderr, p.stderr
    finally:
        server.stop(None)
