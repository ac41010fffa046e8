# SPDX-License-Identifier: Apache-2.0
"""A node as a kubelet drives it, from its first questions to the end, with a daemon that is killed in between (kubelet.py has the kubelet)."""
import base64
import json
import os
import random
import signal
import time

import grpc
import pytest

import images
from cri import cri_daemon, fails
from harness import PASSWORD, USER, Registry, until
from kubelet import C, Kubelet, Pod

CONFIG = """
[plugins.'io.containerd.cri.v1.images']
stats_collect_period = 1
"""
COUNT = "i=0; while :; do i=$((i+1)); echo line $i; [ -e /vol/stop-$NAME ] && rm /vol/stop-$NAME && exit 4; usleep 3000; done"
SERVER = f"""echo server$ATTEMPT >> /vol/order; touch /vol/healthy
trap 'echo bye >> /vol/bye$ATTEMPT; exit 0' TERM
NAME=server; {COUNT}"""


@pytest.fixture
def node(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout, CONFIG) as (cri, image):
        kubelet = Kubelet(cri, image, cri.daemon.dir / "kubelet").start()
        yield kubelet
        if not kubelet.over.is_set():
            kubelet.close()


def wait(kubelet, what, condition, seconds=180):
    """Conditions may ask the CRI while there is none."""
    def quiet():
        try:
            return condition()
        except grpc.RpcError as e:
            if e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
                raise
    try:
        return until(what, quiet, seconds)
    except AssertionError as e:
        raise AssertionError(f"{e}; complaints: {kubelet.complaints}; log:\n{kubelet.cri.daemon.tail(20)}")


def running(kubelet, pod, name, attempt):
    k = kubelet.find(pod, name)
    return k and k.state == kubelet.pb.CONTAINER_RUNNING and k.metadata.attempt >= attempt and k


def test_a_node_from_its_first_pod_to_its_last(node):
    cri, pb = node.cri, node.pb
    web = node.run(Pod("web", grace=90, init=[C("first", "echo first$ATTEMPT >> /vol/order; [ -e /vol/tried ] || ! touch /vol/tried"), C("second", "echo second >> /vol/order")],
                       containers=[C("server", SERVER, liveness="test -e /vol/healthy", pre_stop="echo stopping >> /vol/pre", memory=64 << 20),
                                   C("side", f"NAME=side; {COUNT}")]))
    crash = node.run(Pod("crash", containers=[C("c", "echo again; exit 1")]))
    job = node.run(Pod("job", restart="OnFailure", containers=[C("c", "[ $ATTEMPT = 2 ]")]))
    once = node.run(Pod("once", restart="Never", containers=[C("c", "exit 3")]))
    stubborn = node.run(Pod("stubborn", grace=2, containers=[C("c", "trap '' TERM; touch /vol/up; while :; do sleep 0.1; done")]))

    # Init containers in their order, again until they succeed; restarts by their policy, with growing pauses.
    server = wait(node, "the server", lambda: running(node, web, "server", 0))
    wait(node, "the order", lambda: (node.volume(web) / "order").read_text() == "first0\nfirst1\nsecond\nserver0\n")
    wait(node, "three crashes", lambda: (k := node.find(crash, "c")) and k.metadata.attempt >= 2)
    wait(node, "the job to be done", lambda: (k := node.find(job, "c")) and k.metadata.attempt == 2 and k.state == pb.CONTAINER_EXITED)
    wait(node, "the one to be done", lambda: (k := node.find(once, "c")) and k.state == pb.CONTAINER_EXITED and cri.status(k.id).exit_code == 3)

    # More memory while it runs.
    assert cri.status(server.id).resources.linux.memory_limit_in_bytes == 64 << 20
    cri.UpdateContainerResources(container_id=server.id, linux=pb.LinuxContainerResources(memory_limit_in_bytes=96 << 20, cpu_shares=204))
    cri.UpdatePodSandboxResources(pod_sandbox_id=server.pod_sandbox_id, resources=pb.LinuxContainerResources(memory_limit_in_bytes=128 << 20))
    s = cri.status(server.id)
    assert (s.resources.linux.memory_limit_in_bytes, s.resources.linux.cpu_shares, s.state) == (96 << 20, 204, pb.CONTAINER_RUNNING)

    # A daemon that is killed while a container ends, and while others are made. The others do not notice.
    side = wait(node, "its neighbour", lambda: running(node, web, "side", 0))
    wait(node, "some to be gone, and told of", lambda: node.whole() >= 5)
    cri.daemon.kill()
    (node.volume(web) / "stop-side").touch()
    until("the container to take its leave", lambda: not (node.volume(web) / "stop-side").exists())
    cri.daemon.start()
    again = wait(node, "another one", lambda: running(node, web, "side", side.metadata.attempt + 1))
    assert node.seen[side.id].exit[0] == 4 and again.id != side.id
    assert node.find(web, "server").id == server.id
    assert cri.status(server.id).resources.linux.memory_limit_in_bytes == 96 << 20

    # What is not healthy is ended with its preStop and its signal, and begun again.
    (node.volume(web) / "healthy").unlink()
    wait(node, "another server", lambda: running(node, web, "server", 1))
    assert node.killed_by_probe == {"server": 1} and node.seen[server.id].exit[0] == 0
    assert (node.volume(web) / "pre").read_text() == "stopping\n" and (node.volume(web) / "bye0").read_text() == "bye\n"

    # A sandbox that dies takes its containers along; there is another one.
    p = cri.PodSandboxStatus(pod_sandbox_id=again.pod_sandbox_id, verbose=True)
    os.kill(json.loads(p.info["info"])["pid"], signal.SIGKILL)
    later = wait(node, "a server in another sandbox", lambda: (k := running(node, web, "server", 0)) and k.pod_sandbox_id != again.pod_sandbox_id and k)
    assert cri.PodSandboxStatus(pod_sandbox_id=later.pod_sandbox_id).status.metadata.attempt == 1

    # And killed at moments that nobody chose.
    for i in range(3):
        last = wait(node, "a crash", lambda: (k := node.find(crash, "c")) and k.state == pb.CONTAINER_EXITED and k)
        wait(node, "the next", lambda: (k := node.find(crash, "c")) and (k.state != pb.CONTAINER_EXITED or k.id != last.id))
        cri.daemon.kill()
        cri.daemon.start()
    wait(node, "a relist", lambda: (n := node.relists) and until("the next", lambda: node.relists > n + 1))
    assert node.find(web, "server").id == later.id and node.find(job, "c").metadata.attempt == 2
    assert len([k for k in node.view[1] if k.labels["io.kubernetes.container.name"] == "c" and k.state == pb.CONTAINER_RUNNING]) <= 2

    wait(node, "probes, relists and rotated logs", lambda: node.probes >= 5 and node.relists >= 10 and node.rotated)
    wait(node, "a hundred lines", lambda: len(node.log(later.id, cri.status(later.id).log_path).splitlines()) > 100)

    # Everything ends: gracefully, or by force when its time is over.
    wait(node, "the stubborn one", lambda: (node.volume(stubborn) / "up").exists() and running(node, stubborn, "c", 0))
    c, path = node.find(stubborn, "c"), cri.status(later.id).log_path
    (node.volume(web) / "pre").unlink()
    for pod in (web, crash, job, once, stubborn):
        node.delete(pod)
    wait(node, "all pods to go", lambda: not node.pods)
    assert node.seen[c.id].exit[0] == 137 and node.seen[later.id].exit[0] == 0
    assert (node.volume(web) / "pre").read_text() == "stopping\n"
    wait(node, "a relist", lambda: not node.view[0] and not node.view[1])
    numbers = [line.split()[-1] for line in node.log(later.id, path).splitlines()]
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)] and len(numbers) > 100, (later, path, len(numbers))
    node.close()
    whole = node.check_events()
    assert not node.complaints, "\n".join(node.complaints)
    assert whole >= 5 and node.probes >= 5 and node.relists >= 10 and node.rotated, (whole, node.probes, node.relists, node.rotated)


def test_a_daemon_that_is_killed_again_and_again_loses_and_leaves_nothing(node):
    """The end of the daemon's life in this test looks for mounts, shims and bundles of which nobody knows."""
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    node.first_backoff = 0.1
    for i in range(2):
        node.run(Pod(f"crash{i}", containers=[C("c", "exit 1"), C("d", f"sleep 0.{i}; exit 2")]))
    churn = []
    for i in range(10):
        churn.append(node.run(Pod(f"churn{i}", grace=1, init=[C("i", "true")], containers=[C("c", "sleep 1000")])))
        if len(churn) > 2:
            node.delete(churn.pop(0))
        time.sleep(rng.random() * 1.5)  # any moment will do
        node.cri.daemon.kill()
        node.cri.daemon.start()
    for pod in list(node.pods.values()):
        node.delete(pod)
    wait(node, "all pods to go", lambda: not node.pods)
    node.close()
    node.check_events()
    assert not node.complaints, "\n".join(node.complaints)
    assert not node.cri.ListPodSandbox().items and not node.cri.ListContainers().containers
    assert not list((node.cri.daemon.state / "io.containerd.grpc.v1.cri/netns").iterdir())
    assert not list(node.cri.daemon.dir.glob("ipam/*/10.*"))


def test_images_are_pulled_with_a_secret_and_removed_when_the_disk_fills(node, tmp_path):
    cri, pb = node.cri, node.pb
    registry = Registry(auth=True, netns=cri.daemon.netns)
    try:
        ref = registry.push(images.layered_layout(tmp_path / "image", "gzip"), "team/app:1")
        spec = pb.ImageSpec(image=ref)
        assert not cri.ImageStatus(image=spec).HasField("image")
        fails(grpc.StatusCode.UNAUTHENTICATED, cri.PullImage, image=spec)
        fails(grpc.StatusCode.UNAUTHENTICATED, cri.PullImage, image=spec, auth=pb.AuthConfig(username=USER, password="wrong"))
        used = lambda: cri.ImageFsInfo().image_filesystems[0].used_bytes.value
        until("the node's own image to be counted", lambda: used() > 1 << 20)
        before = used()
        i = cri.PullImage(image=spec, auth=pb.AuthConfig(username=USER, password=PASSWORD)).image_ref
        assert i.startswith("sha256:") and cri.ImageStatus(image=spec).image.id == i == cri.ImageStatus(image=pb.ImageSpec(image=i)).image.id
        until("the image to take its place", lambda: used() > before)
        # The node's own image is in use; the other one is what the collector takes.
        pod = node.run(Pod("user", containers=[C("c", "sleep 1000")]))
        wait(node, "the pod", lambda: running(node, pod, "c", 0))
        in_use = {k.image_id or k.image.image for k in cri.ListContainers().containers}
        for image in cri.ListImages().images:
            if not image.pinned and image.id not in in_use and not in_use & {*image.repo_tags}:
                cri.RemoveImage(image=pb.ImageSpec(image=image.id))
        assert [x.id for x in cri.ListImages().images] != [] and i not in [x.id for x in cri.ListImages().images]
        until("its place to be free", lambda: used() <= before + (1 << 20))
        assert running(node, pod, "c", 0)
        i = cri.PullImage(image=spec, auth=pb.AuthConfig(auth=base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())).image_ref
        assert i in [x.id for x in cri.ListImages().images]
        node.delete(pod)
        wait(node, "the pod to go", lambda: not node.pods)
        node.close()
        assert not node.complaints, "\n".join(node.complaints)
    finally:
        registry.close()
