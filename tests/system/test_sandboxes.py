# SPDX-License-Identifier: Apache-2.0
"""Sandboxes: a shim as one, its life through ctr and gRPC, tasks in it, and its way over a restart of the daemon."""
import json
import os
import pathlib
import queue
import signal
import threading

import grpc
import pytest

from dial import dial
from harness import DEBIAN_SHIM, SECONDS, alive, catches, processes, until

NS = [("containerd-namespace", "default")]
NOT_FOUND, INVALID, EXISTS = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS
PRECONDITION, UNIMPLEMENTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED
RUNTIME = "io.containerd.runc.v2"


class Sandboxes:
    """Store and controller, with the answers of the controller `shim`."""

    def __init__(self, stubs, daemon):
        self.daemon = daemon
        self.m, s = stubs("services/sandbox/v1/sandbox")
        self.types, _ = stubs("types/sandbox")
        self.tasks_m, t = stubs("services/tasks/v1/tasks")
        self.events_m, e = stubs("services/events/v1/events")
        self.channel = dial(daemon.address)
        self.store, self.controller = s.StoreStub(self.channel), s.ControllerStub(self.channel)
        self.tasks, self.events = t.TasksStub(self.channel), e.EventsStub(self.channel)

    def record(self, name, runtime=RUNTIME, **more):
        sandbox = self.types.Sandbox(sandbox_id=name, sandboxer="shim", runtime=self.types.Sandbox.Runtime(name=runtime), **more)
        self.store.Create(self.m.StoreCreateRequest(sandbox=sandbox), metadata=NS, timeout=SECONDS)
        return sandbox

    def call(self, method, name, **more):
        request = getattr(self.m, f"Controller{method}Request")(sandbox_id=name, sandboxer=more.pop("sandboxer", "shim"), **more)
        return getattr(self.controller, method)(request, metadata=NS, timeout=SECONDS)

    def create(self, name, **more):
        return self.call("Create", name, sandbox=self.record(name, **more))

    def remove(self, name):
        for undo in (lambda: self.call("Shutdown", name), lambda: self.store.Delete(self.m.StoreDeleteRequest(sandbox_id=name), metadata=NS)):
            try:
                undo()
            except grpc.RpcError:
                pass

    def bundle(self, name):
        return self.daemon.state / "io.containerd.sandbox.controller.v1.shim" / "default" / name


@pytest.fixture
def sb(stubs, daemon):
    s = Sandboxes(stubs, daemon)
    yield s
    if daemon.process:
        for left in s.store.List(s.m.StoreListRequest(), metadata=NS).list:
            s.remove(left.sandbox_id)
    s.channel.close()


@pytest.fixture
def sandbox(sb, name):
    """A sandbox that is ready; what is left of it is removed."""
    sb.create(name)
    yield sb.call("Start", name)
    sb.remove(name)


def fails(code, text, call, *args, **kw):
    with pytest.raises(grpc.RpcError) as e:
        call(*args, **kw)
    assert (e.value.code(), text in e.value.details()) == (code, True), f"{e.value.code()}: {e.value.details()}"


def test_sandbox_is_created_started_stopped_and_shut_down(sb, name):
    sb.create(name, labels={"a": "b"})
    status = sb.call("Status", name)
    assert (status.state, status.address.startswith("ttrpc+unix://"), status.version) == ("SANDBOX_NOTREADY", True, 3)
    started = sb.call("Start", name)
    assert started.sandbox_id == name and alive(started.pid) and started.created_at.seconds > 0
    assert started.address == status.address and started.version == 3
    status = sb.call("Status", name, verbose=True)
    assert (status.state, status.pid, status.info["bundle"]) == ("SANDBOX_READY", started.pid, str(sb.bundle(name)))
    platform = sb.call("Platform", name).platform
    assert (platform.os, platform.architecture) == ("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine))
    fails(PRECONDITION, "started already", sb.call, "Start", name)
    sb.call("Stop", name)
    status = sb.call("Status", name)
    assert (status.state, status.pid) == ("SANDBOX_NOTREADY", 0) and status.exited_at.seconds >= status.created_at.seconds
    assert sb.call("Wait", name).exited_at == status.exited_at
    sb.call("Shutdown", name)
    until("the end of the shim", lambda: not alive(started.pid))
    assert not sb.bundle(name).exists()
    fails(NOT_FOUND, name, sb.call, "Shutdown", name)
    assert sb.call("Status", name).state == ""
    sb.call("Stop", name)  # is stopped


def test_unknown_and_unnamed_controllers_are_refused(sb):
    fails(INVALID, "sandbox controller name can not be empty", sb.call, "Status", "x", sandboxer="")
    fails(NOT_FOUND, "nobody", sb.call, "Status", "x", sandboxer="nobody")
    fails(NOT_FOUND, "x", sb.call, "Wait", "x")
    fails(grpc.StatusCode.UNKNOWN, "sandbox", sb.controller.Update, sb.m.ControllerUpdateRequest(sandbox_id="x", sandboxer="shim"), metadata=NS)


def test_second_creation_is_refused_and_harms_nothing(sb, sandbox, name):
    request = sb.types.Sandbox(sandbox_id=name, runtime=sb.types.Sandbox.Runtime(name=RUNTIME))
    fails(EXISTS, name, sb.call, "Create", name, sandbox=request)
    assert sb.call("Status", name).state == "SANDBOX_READY"


def test_runtime_that_is_not_there_leaves_nothing(sb, name):
    fails(NOT_FOUND, "binary not installed", sb.create, name, runtime="io.containerd.nonsense.v9")
    assert not sb.bundle(name).exists()


@pytest.mark.skipif(not pathlib.Path(DEBIAN_SHIM).exists(), reason="Debian's shim is not installed")
def test_shim_without_a_sandbox_service_is_told_clearly(sb, name):
    from google.protobuf.any_pb2 import Any
    spec = Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
    fails(UNIMPLEMENTED, f"runtime {DEBIAN_SHIM} cannot run sandboxes", sb.create, name, runtime=DEBIAN_SHIM, spec=spec)
    assert not sb.bundle(name).exists()
    until("the end of the shim", lambda: not [c for c in processes().values() if c[:1] == [DEBIAN_SHIM] and name in c])


def test_sandbox_without_metrics_of_its_own_says_so(sb, sandbox, name):
    fails(UNIMPLEMENTED, "no cgroup of its own", sb.call, "Metrics", name)


def test_events_tell_creation_start_and_exit(sb, name):
    got, m = queue.Queue(), sb.events_m
    stream = sb.events.Subscribe(m.SubscribeRequest(filters=['topic~="/sandboxes/"']), timeout=SECONDS)

    def follow():
        try:
            for e in stream:
                got.put((e.topic, e.event.type_url))
        except grpc.RpcError:
            pass
    t = threading.Thread(target=follow)
    t.start()

    def heard():  # nothing announces a subscription
        sb.events.Publish(m.PublishRequest(topic="/sandboxes/probe"), metadata=NS)
        try:
            return got.get(timeout=0.2)
        except queue.Empty:
            return None
    until("an event", heard)
    while got.qsize():
        got.get()
    sb.create(name)
    sb.call("Start", name)
    wait = sb.controller.Wait.future(sb.m.ControllerWaitRequest(sandbox_id=name, sandboxer="shim"), metadata=NS, timeout=SECONDS)
    sb.call("Stop", name)
    assert wait.result().exited_at.seconds > 0
    events = []
    while len(events) < 3:
        event = got.get(timeout=SECONDS)
        events += [event] if event[0] != "/sandboxes/probe" else []
    assert events == [
        ("/sandboxes/create", "containerd.events.SandboxCreate"), ("/sandboxes/start", "containerd.events.SandboxStart"),
        ("/sandboxes/exit", "containerd.events.SandboxExit")]
    stream.cancel()
    t.join()
    sb.remove(name)


def test_wait_that_is_given_up_leaves_the_sandbox_alone(sb, sandbox, name):
    wait = sb.controller.Wait.future(sb.m.ControllerWaitRequest(sandbox_id=name, sandboxer="shim"), metadata=NS)
    wait.cancel()
    assert sb.call("Status", name).state == "SANDBOX_READY"


def test_next_daemon_finds_the_sandbox_again(sb, sandbox, name):
    sb.daemon.stop()
    sb.daemon.start()
    status = sb.call("Status", name)
    assert (status.state, status.pid) == ("SANDBOX_READY", sandbox.pid)


def test_next_daemon_ends_a_sandbox_that_nobody_recorded(sb, sandbox, name):
    sb.store.Delete(sb.m.StoreDeleteRequest(sandbox_id=name), metadata=NS)
    sb.daemon.stop()
    sb.daemon.start()
    assert sb.call("Status", name).state == ""
    until("the end of the shim", lambda: not alive(sandbox.pid))
    until("its bundle to go", lambda: not sb.bundle(name).exists())


def test_shim_that_dies_takes_its_sandbox_along(sb, sandbox, name):
    wait = sb.controller.Wait.future(sb.m.ControllerWaitRequest(sandbox_id=name, sandboxer="shim"), metadata=NS, timeout=SECONDS)
    sb.call("Status", name)
    os.kill(sandbox.pid, signal.SIGKILL)
    assert wait.exception(timeout=SECONDS).code() in (grpc.StatusCode.UNAVAILABLE, NOT_FOUND)
    until("the removal of the bundle", lambda: not sb.bundle(name).exists())
    assert sb.call("Status", name).state == ""


# ---- tasks in it ----

def run_in(ctr, image, sandbox, container, *args):
    ctr("run", "-d", "--null-io", "--sandbox", sandbox, image, container, *(args or ("sleep", "1000000")))


def test_tasks_run_in_the_shim_of_their_sandbox(sb, sandbox, ctr, image, name):
    first, second = f"{name}-1", f"{name}-2"
    run_in(ctr, image, name, first)
    run_in(ctr, image, name, second)
    bundles = sb.daemon.state / "io.containerd.runtime.v2.task" / "default"
    for c in (first, second):
        assert (bundles / c / "sandbox").read_text() == name
        assert not (bundles / c / "shim-binary-path").exists()
        assert json.loads((bundles / c / "bootstrap.json").read_text())["address"] == sandbox.address.removeprefix("ttrpc+")
        pid = sb.tasks.Get(sb.tasks_m.GetRequest(container_id=c), metadata=NS).process.pid
        assert int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == sandbox.pid
    ctr("tasks", "rm", "-f", first)
    assert alive(sandbox.pid) and sb.call("Status", name).state == "SANDBOX_READY"
    assert second in ctr.quiet("tasks", "ls", "-q")
    ctr("tasks", "rm", "-f", second)
    assert alive(sandbox.pid) and sb.call("Status", name).state == "SANDBOX_READY"
    ctr("containers", "rm", first, second)


def test_stop_ends_the_tasks_and_keeps_new_ones_out(sb, sandbox, ctr, image, name):
    c = f"{name}-1"
    run_in(ctr, image, name, c)
    sb.call("Stop", name)
    task = sb.tasks.Get(sb.tasks_m.GetRequest(container_id=c), metadata=NS).process
    assert (task.status, task.exit_status) == (3, 137)
    p = ctr("run", "-d", "--null-io", "--sandbox", name, image, f"{name}-2", "sleep", "1", check=False)
    assert p.returncode == 1 and "is stopped" in p.stderr
    ctr("tasks", "rm", c)
    ctr("containers", "rm", c)


def test_stop_with_time_lets_tasks_end_themselves(sb, sandbox, ctr, image, name):
    c = f"{name}-1"
    run_in(ctr, image, name, c, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.02; done")
    pid = sb.tasks.Get(sb.tasks_m.GetRequest(container_id=c), metadata=NS).process.pid
    until("the trap", lambda: catches(pid, signal.SIGTERM))
    sb.call("Stop", name, timeout_secs=60)
    assert sb.tasks.Get(sb.tasks_m.GetRequest(container_id=c), metadata=NS).process.exit_status == 7
    ctr("tasks", "rm", c, check=False)
    ctr("containers", "rm", c)


def test_shutdown_ends_the_tasks(sb, sandbox, ctr, image, name):
    c = f"{name}-1"
    run_in(ctr, image, name, c)
    pid = sb.tasks.Get(sb.tasks_m.GetRequest(container_id=c), metadata=NS).process.pid
    sb.call("Shutdown", name)
    until("the end of the container", lambda: not alive(pid))
    until("the end of the task", lambda: c not in ctr.quiet("tasks", "ls", "-q"))
    ctr("containers", "rm", c)


def test_task_in_a_sandbox_survives_the_daemon(sb, sandbox, ctr, image, name):
    c = f"{name}-1"
    run_in(ctr, image, name, c)
    sb.daemon.stop()
    sb.daemon.start()
    assert ctr.out("tasks", "exec", "--exec-id", "e1", c, "echo", "hello").strip() == "hello"
    ctr("tasks", "rm", "-f", c)
    assert sb.call("Status", name).state == "SANDBOX_READY"
    ctr("containers", "rm", c)


def test_record_without_a_sandbox_is_no_reason_to_join(sb, ctr, image, name):
    run_in(ctr, image, "nowhere", name)
    assert not (sb.daemon.state / "io.containerd.runtime.v2.task" / "default" / name / "sandbox").exists()


def test_sandbox_that_does_not_run_cannot_be_joined(sb, ctr, image, name):
    sb.record(f"{name}-sb")
    p = ctr("run", "-d", "--null-io", "--sandbox", f"{name}-sb", image, name, "sleep", "1", check=False)
    assert p.returncode == 1 and f"can't find sandbox {name}-sb" in p.stderr
    sb.remove(f"{name}-sb")


def test_address_of_a_sandbox_is_joined_as_given(sb, sandbox, ctr, image, name):
    c = f"{name}-1"
    ctr("containers", "create", image, c, "sleep", "1000000")
    mounts = sb_mounts(sb, c)
    request = sb.tasks_m.CreateTaskRequest(container_id=c, rootfs=mounts, task_api_address=sandbox.address, task_api_version=3)
    sb.tasks.Create(request, metadata=NS, timeout=SECONDS)
    bundles = sb.daemon.state / "io.containerd.runtime.v2.task" / "default"
    assert (bundles / c / "sandbox").exists()
    sb.tasks.Delete(sb.tasks_m.DeleteTaskRequest(container_id=c), metadata=NS, timeout=SECONDS)
    bad = sb.tasks_m.CreateTaskRequest(container_id=c, rootfs=mounts, task_api_address="nonsense")
    fails(INVALID, "scheme of sandbox address", sb.tasks.Create, bad, metadata=NS)
    assert alive(sandbox.pid)
    ctr("containers", "rm", c)


def sb_mounts(sb, container):
    import importlib
    m = importlib.import_module("pb.services.snapshots.v1.snapshots_pb2")
    s = importlib.import_module("pb.services.snapshots.v1.snapshots_pb2_grpc").SnapshotsStub(sb.channel)
    return s.Mounts(m.MountsRequest(snapshotter="overlayfs", key=container), metadata=NS).mounts


# ---- ctr ----

def test_ctr_runs_lists_and_removes_sandboxes(sb, ctr, name, tmp_path):
    config = tmp_path / "pod.json"
    config.write_text(json.dumps({"ociVersion": "1.2.0", "annotations": {"who": "me"}}))
    assert ctr.out("sandboxes", "run", config, name).split() == [name]
    assert json.loads((sb.bundle(name) / "config.json").read_text())["annotations"] == {"who": "me"}
    assert [r[0] for r in (line.split() for line in ctr.out("sandboxes", "ls").splitlines()[1:])] == [name]
    pid = sb.call("Status", name).pid
    assert alive(pid)
    p = ctr("sandboxes", "run", config, name, check=False)
    assert p.returncode == 1 and "already exists" in p.stderr and alive(pid)
    assert ctr.out("sandboxes", "rm", name).split() == [name]
    until("the end of the shim", lambda: not alive(pid))
    assert name not in ctr.out("sandboxes", "ls")


def test_ctr_leaves_no_record_of_a_sandbox_that_did_not_start(ctr, name, tmp_path):
    config = tmp_path / "pod.json"
    config.write_text("{}")
    p = ctr("sandboxes", "run", "--runtime", "io.containerd.nonsense.v9", config, name, check=False)
    assert p.returncode == 1 and "binary not installed" in p.stderr
    config.write_text("[")
    assert ctr("sandboxes", "run", config, name, check=False).returncode == 1
    assert name not in ctr.out("sandboxes", "ls")
