# SPDX-License-Identifier: Apache-2.0
"""ctr pods: what runs on a node, for a person without crictl."""
import json
import os
import subprocess

import pytest

from cri import cri_daemon
from harness import until


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout) as v:
        yield v


@pytest.fixture
def cri(cri_and_image):
    c = cri_and_image[0]
    yield c
    c.daemon.clear()


@pytest.fixture
def image(cri_and_image):
    return cri_and_image[1]


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
    assert "pod nothere: not found" in ctr("pods", "inspect", "nothere", check=False).stderr
    assert ctr.out("pods", "rm", "web").strip() == pod
    assert not cri.ListPodSandbox().items


def test_logs_of_a_container_by_name_id_or_pod(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, cri.container("k", image, ["/bin/sh", "-c", "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three; printf part"]))
    cri.exited(k)
    ctr = cri.daemon.ctr
    for name in ("k", k, k[:12], "p"):
        r = ctr("pods", "logs", name)
        assert r.stdout == "one\nthree\npart" and r.stderr == "two\n"
    r = ctr("pods", "logs", "--tail", "1", "k")
    assert (r.stdout, r.stderr) == ("three\npart", "")
    assert ctr("pods", "logs", "--tail", "0", "k").stdout == "part"
    first = ctr.out("pods", "logs", "--timestamps", "k").splitlines()[0]
    assert first.endswith(" one") and first[4] == "-" and "T" in first
    cri.start(pod, conf, cri.container("l", image))
    assert "several containers" in ctr("pods", "logs", "p", check=False).stderr
    assert "not found" in ctr("pods", "logs", "nothere", check=False).stderr


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
    cri.ExecSync(container_id=k, cmd=["touch", "/go"], timeout=10)
    assert follower.stdout.read() == "after\n" and follower.wait(30) == 0
