# SPDX-License-Identifier: Apache-2.0
"""Ends of containers that meet other requests about them."""
import pathlib
import threading

import pytest

from cri_fixtures import cri, cri_and_image, image
from harness import until

IGNORES = ("/bin/sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done")
GRACE = 600  # longer than any test waits


def given_time(cri, image, pod_id, pod, name):
    """(id, thread) of a container that has been asked to end and does not."""
    k = cri.start(pod_id, pod, cri.container(name, image, IGNORES))
    until("the container to be ready", lambda: [text for _, _, text in cri.log(k)] == ["ready"])
    t = threading.Thread(target=cri.StopContainer, kwargs={"container_id": k, "timeout": GRACE, "rpc_timeout": GRACE}, daemon=True)
    t.start()
    until("the container to be asked", lambda: "asked" in [text for _, _, text in cri.log(k)])
    return k, t


def ended(t):
    t.join(120)
    return not t.is_alive()


def test_container_that_is_given_time_to_end_may_be_updated_and_killed(cri, image):
    pod = cri.pod("grace")
    k, t = given_time(cri, image, cri.run_pod(pod), pod, "stubborn")
    cri.UpdateContainerResources(container_id=k, linux=cri.pb.LinuxContainerResources(cpu_shares=100))
    assert t.is_alive() and cri.status(k).resources.linux.cpu_shares == 100
    cri.StopContainer(container_id=k, timeout=0)
    assert cri.status(k).exit_code == 137
    assert ended(t)


@pytest.mark.parametrize("call", ["RemoveContainer", "StopPodSandbox", "RemovePodSandbox"])
def test_container_that_is_given_time_to_end_keeps_nobody_from_removing_it(cri, image, call):
    pod = cri.pod(call.lower())
    p = cri.run_pod(pod)
    k, t = given_time(cri, image, p, pod, "stubborn")
    getattr(cri, call)(**({"container_id": k} if "Container" in call else {"pod_sandbox_id": p}))
    assert ended(t)


def test_exit_that_is_not_recorded_yet_is_waited_for(cri, image):
    """Its task has gone, its status cannot be written: then somebody stops it."""
    pod = cri.pod("exit")
    k = cri.start(cri.run_pod(pod), pod, cri.container("exits", image, ("/bin/sh", "-c", "while ! [ -e /go ]; do sleep 0.1; done; exit 7")))
    own = pathlib.Path(cri.daemon.root) / "io.containerd.grpc.v1.cri" / "containers" / k
    away = own.with_name(".away")  # what begins with a dot is none of the daemon's
    own.rename(away)
    own.touch()
    try:
        cri.ExecSync(container_id=k, cmd=["touch", "/go"])
        until("the task to go", lambda: k not in cri.daemon.ctr.out("tasks", "ls", ns="k8s.io"))
    finally:
        own.unlink()
        away.rename(own)
    cri.StopContainer(container_id=k, timeout=0)
    status = cri.exited(k)
    assert (status.exit_code, status.reason) == (7, "Error")
