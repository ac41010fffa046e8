# SPDX-License-Identifier: Apache-2.0
"""A daemon that finds pods of an earlier one, while their shims do not answer, or while it is told to end again."""
import contextlib
import json
import socket
import struct
import threading

import pytest

from cri import cri_daemon
from harness import SECONDS, until


class Slow:
    """Stands between the daemon and a pod's shim, and keeps what the daemon asks once it has found the task: its state."""

    def __init__(self, daemon, pod):
        self.file = daemon.state / "io.containerd.runtime.v2.task" / "k8s.io" / pod / "bootstrap.json"
        self.saved = self.file.read_text()
        params = json.loads(self.saved)
        self.target = params["address"].removeprefix("unix://")
        self.path = daemon.dir / "slow.sock"
        self.path.unlink(missing_ok=True)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen()
        self.asked = threading.Event()
        self.file.write_text(json.dumps({**params, "address": f"unix://{self.path}"}))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                c, _ = self.server.accept()
                s = socket.socket(socket.AF_UNIX)
                s.connect(self.target)
                threading.Thread(target=self.back, args=(s, c), daemon=True).start()
                threading.Thread(target=self.forth, args=(c, s), daemon=True).start()

    def back(self, s, c):
        with contextlib.suppress(OSError):
            while data := s.recv(65536):
                c.sendall(data)

    def forth(self, c, s):
        states = 0
        with contextlib.suppress(OSError), c.makefile("rb") as f:
            while len(head := f.read(10)) == 10:
                body = f.read(struct.unpack(">I", head[:4])[0])
                states += b"\x12\x05State" in body
                if states > 1:  # the first is the runtime's, which looks whether there is a task at all
                    self.asked.set()
                    continue
                s.sendall(head + body)

    def close(self):
        self.file.write_text(self.saved)
        self.server.close()


@pytest.fixture
def cri_and_image(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout) as v:
        yield v


def pod_with_container(cri, image, name):
    pod = cri.pod(name)
    p = cri.run_pod(pod)
    return p, cri.start(p, pod, cri.container(name, image))


def test_end_while_pods_are_being_found_loses_no_container(cri_and_image):
    """The connections to the shims end before the daemon does: that is no reason to take the containers for gone."""
    cri, image = cri_and_image
    d = cri.daemon
    pods = [pod_with_container(cri, image, f"r{i}") for i in range(4)]
    d.stop()
    for p, _ in pods:
        slow = Slow(d, p)
        try:
            d.start()
            assert slow.asked.wait(SECONDS)
            d.stop()
        finally:
            slow.close()
    d.start()
    cri.connect()
    assert {s.id: s.state for s in cri.ListPodSandbox().items} == {p: cri.pb.SANDBOX_READY for p, _ in pods}
    assert {k.id: k.state for k in cri.ListContainers().containers} == {k: cri.pb.CONTAINER_RUNNING for _, k in pods}
    for _, k in pods:
        assert cri.ExecSync(container_id=k, cmd=["echo", "here"]).stdout == b"here\n"


def test_shim_that_does_not_answer_holds_up_nobody_for_ever(cri_and_image):
    cri, image = cri_and_image
    d = cri.daemon
    pods = [pod_with_container(cri, image, f"h{i}") for i in range(2)]
    d.stop()
    slow = Slow(d, pods[0][0])
    try:
        d.start()
        assert slow.asked.wait(SECONDS)
        cri.connect()
        assert cri.ExecSync(container_id=pods[1][1], cmd=["echo", "here"]).stdout == b"here\n"
        d.stop()
    finally:
        slow.close()
    d.start()
    cri.connect()
    assert cri.ExecSync(container_id=pods[0][1], cmd=["echo", "here"]).stdout == b"here\n"


def test_container_that_cannot_be_read_is_left_for_a_daemon_that_can(cri_and_image, stubs):
    cri, image = cri_and_image
    d = cri.daemon
    _, k = pod_with_container(cri, image, "odd")
    pb, services = stubs("services/containers/v1/containers")

    def metadata(value=None):
        containers, ns = services.ContainersStub(cri.channel), (("containerd-namespace", "k8s.io"),)
        record = containers.Get(pb.GetContainerRequest(id=k), metadata=ns).container
        part = record.extensions["io.cri-containerd.container.metadata"]
        before = part.value
        if value is not None:
            part.value = value
            containers.Update(pb.UpdateContainerRequest(container=record, update_mask={"paths": ["extensions"]}), metadata=ns)
        return before

    whole = metadata(b"{")
    d.stop()
    d.start()
    cri.connect()
    assert not cri.ListContainers().containers
    metadata(whole)
    d.stop()
    d.start()
    cri.connect()
    assert [(c.id, c.state) for c in cri.ListContainers().containers] == [(k, cri.pb.CONTAINER_RUNNING)]
    assert cri.ExecSync(container_id=k, cmd=["echo", "here"]).stdout == b"here\n"
