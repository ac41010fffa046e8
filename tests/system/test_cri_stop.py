# SPDX-License-Identifier: Apache-2.0
"""Ends of containers that meet other requests about them."""
import threading

import pytest

from cri_fixtures import cri, cri_and_image, image  # noqa: F401
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
