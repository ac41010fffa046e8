# SPDX-License-Identifier: Apache-2.0
"""What lies around tasks: ctr's commands for shims, the daemon's own small commands, root file systems that the mount manager makes,
and shims that nobody needs any more."""
import json
import os
import pathlib
import queue
import subprocess
import threading

import grpc
import pytest

from dial import dial
from harness import BIN, DEBIAN_SHIM, SECONDS, alive, processes, run, until

NS = [("containerd-namespace", "default")]
QUIET = {"ASAN_OPTIONS": "detect_leaks=0"}


class Api:
    def __init__(self, stubs, daemon):
        self.channel = dial(daemon.address)
        for name, path in (("tasks", "services/tasks/v1/tasks"), ("mounts", "services/mounts/v1/mounts"),
                           ("snapshots", "services/snapshots/v1/snapshots"), ("events", "services/events/v1/events")):
            m, s = stubs(path)
            setattr(self, name + "_m", m)
            setattr(self, name, getattr(s, [n for n in dir(s) if n.endswith("Stub")][0])(self.channel))
        self.types, _ = stubs("types/mount")


@pytest.fixture
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.channel.close()


def start(ctr, image, name, *args):
    ctr("run", "-d", "--null-io", *args, image, name, "sleep", "1000000")


def shim_of(daemon, name):
    return [pid for pid, argv in processes().items() if argv and "shim" in argv[0] and name in argv and str(daemon.address) in argv]


# ---- ctr shim ----

@pytest.fixture(params=["ours", "debian"])
def runtime(request):
    if request.param == "ours":
        return []
    if not pathlib.Path(DEBIAN_SHIM).exists():
        pytest.skip("Debian's shim is not installed")
    return ["--runtime", DEBIAN_SHIM]


def test_ctr_shim_tells_the_state_and_runs_a_process(daemon, ctr, image, name, runtime, tmp_path):
    start(ctr, image, name, *runtime)
    version = ["--api-version", "2"] if runtime else []
    state = json.loads(ctr.out("shim", "--id", name, "state", *version, "--task-id", name))
    assert (state["id"], state["status"]) == (name, 2) and alive(state["pid"])
    for f in ("out", "err"):
        os.mkfifo(tmp_path / f)
    spec = tmp_path / "process.json"
    spec.write_text(json.dumps({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "echo $WHO in $(pwd); echo bad >&2; exit 3"],
                                "env": ["PATH=/bin"], "cwd": "/"}))
    p = ctr("shim", "--id", name, "exec", "--attach", "--stdout", tmp_path / "out", "--stderr", tmp_path / "err", "--env", "WHO=me",
            "--cwd", "/tmp", "--spec", spec, "e1", check=False)
    assert (p.returncode, p.stdout.splitlines()[1:], p.stderr) == (3, ["me in /tmp"], "bad\n")
    assert p.stdout.startswith("exec running with pid ")
    ctr("tasks", "kill", "-s", "KILL", name)
    until("the end", lambda: json.loads(ctr.out("shim", "--id", name, "state", *version))["status"] == 3)


def test_the_end_of_standard_input_reaches_a_process_of_ctr_shim(ctr, image, name, runtime, tmp_path):
    start(ctr, image, name, *runtime)
    for f in ("in", "out", "err"):
        os.mkfifo(tmp_path / f)
    spec = tmp_path / "process.json"
    spec.write_text(json.dumps({"user": {"uid": 0, "gid": 0}, "args": ["cat"], "env": ["PATH=/bin"], "cwd": "/"}))
    p = ctr("shim", "--id", name, "exec", "--attach", "--stdin", tmp_path / "in", "--stdout", tmp_path / "out", "--stderr", tmp_path / "err",
            "--spec", spec, "e1", input="hello\n")
    assert p.stdout.splitlines()[1:] == ["hello"]


def test_ctr_shim_starts_and_deletes(daemon, ctr, image, name, api):
    ctr("containers", "create", image, name, "sleep", "1000000")
    mounts = api.snapshots.Mounts(api.snapshots_m.MountsRequest(snapshotter="overlayfs", key=name), metadata=NS).mounts
    api.tasks.Create(api.tasks_m.CreateTaskRequest(container_id=name, rootfs=mounts), metadata=NS, timeout=SECONDS)
    ctr("shim", "--id", name, "start")
    assert json.loads(ctr.out("shim", "--id", name, "state"))["status"] == 2
    ctr("shim", "--id", name, "shutdown")  # has a container and stays
    assert json.loads(ctr.out("shim", "--id", name, "state"))["status"] == 2
    address = json.loads((daemon.state / "io.containerd.runtime.v2.task" / "default" / name / "bootstrap.json").read_text())["address"]
    ctr("tasks", "kill", "-s", "KILL", name)
    until("the end", lambda: json.loads(ctr.out("shim", "--id", name, "--shim-address", address, "state"))["status"] == 3)
    assert ctr.out("shim", "--id", name, "delete") == "container deleted and returned exit status 137\n"
    ctr("tasks", "rm", name, check=False)


def test_ctr_shim_says_what_it_cannot_reach(ctr):
    p = ctr("shim", "state", check=False)
    assert p.returncode == 1 and "container id must be specified" in p.stderr
    p = ctr("shim", "--id", "nobody", "state", check=False)
    assert p.returncode == 1 and "fail to connect to container nobody's shim" in p.stderr
    p = ctr("shim", "--id", "nobody", "pprof", "heap", check=False)
    assert p.returncode == 1 and "no profiles at" in p.stderr


# ---- containerd publish, oci-hook ----

def test_publish_forwards_the_event_of_standard_input(daemon, api):
    got, m = queue.Queue(), api.events_m
    stream = api.events.Subscribe(m.SubscribeRequest(filters=['topic~="^/published"']), timeout=SECONDS)

    def follow():
        try:
            for e in stream:
                got.put((e.namespace, e.topic, e.event.type_url, e.event.value))
        except grpc.RpcError:
            pass
    t = threading.Thread(target=follow)
    t.start()
    from google.protobuf.any_pb2 import Any
    event = Any(type_url="containerd.events.TaskOOM", value=b"\n\x01x").SerializeToString()

    def published():
        run([BIN / "containerd", "--address", daemon.address, "publish", "--namespace", "n1", "--topic", "/published/x"], input=event,
            binary=True, env=QUIET)
        try:
            return got.get(timeout=0.5)
        except queue.Empty:
            return None
    assert until("an event", published) == ("n1", "/published/x", "containerd.events.TaskOOM", b"\n\x01x")
    stream.cancel()
    t.join()


def test_publish_refuses_what_it_cannot_send(daemon):
    def fails(text, *args, input=b""):
        p = run([BIN / "containerd", "--address", daemon.address, "publish", *args], check=False, input=input, binary=True, env=QUIET)
        assert p.returncode == 1 and text in p.stderr.decode(), p.stderr
    fails("topic required to publish event: invalid argument")
    fails("namespace is required", "--topic", "/a")
    fails("must start with '/'", "--topic", "a", "--namespace", "n")
    fails("google.protobuf.Any", "--topic", "/a", "--namespace", "n", input=b"\xff\xff")
    p = run([BIN / "containerd", "--address", "/nowhere.sock", "publish", "--topic", "/a", "--namespace", "n"], check=False, env=QUIET)
    assert p.returncode == 1 and "cannot connect to containerd" in p.stderr


def test_oci_hook_fills_templates_and_becomes_the_program(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}}))
    state = json.dumps({"id": "c1", "pid": 7, "status": "created", "bundle": str(tmp_path), "annotations": {"k": "v"}})
    p = run([BIN / "containerd", "oci-hook", "/bin/sh", "-c", "echo {{id}} {{pid}} {{rootfs}} {{annotation \"k\"}} $FROM $0", "{{status}}"],
            input=state, env={**QUIET, "FROM": "{{bundle}}"})
    assert p.stdout.split() == ["c1", "7", f"{tmp_path}/rootfs", "v", str(tmp_path), "created"]
    p = run([BIN / "containerd", "oci-hook", "--", "/bin/echo", "--", "{{pid}}"], input=state, env=QUIET)
    assert p.stdout.split() == ["--", "7"]
    p = run([BIN / "containerd", "oci-hook", "/bin/true", "{{nothing}}"], input=state, check=False, env=QUIET)
    assert p.returncode == 1 and "template" in p.stderr
    p = run([BIN / "containerd", "oci-hook", "/nowhere"], input=state, check=False, env=QUIET)
    assert p.returncode == 1 and "/nowhere" in p.stderr


# ---- root file systems of the mount manager ----

def activations(api):
    return [a.info.name for a in api.mounts.List(api.mounts_m.ListRequest(), metadata=NS)]


def test_root_file_system_goes_through_the_mount_manager(daemon, ctr, image, name, api):
    ctr("containers", "create", image, name, "sh", "-c", "test -e /bin/busybox && exit 5")
    mounts = list(api.snapshots.Mounts(api.snapshots_m.MountsRequest(snapshotter="overlayfs", key=name), metadata=NS).mounts)
    mounts.append(api.types.Mount(type="format/bind", source="{{ mount 0 }}", options=["rbind", "rw"]))
    api.tasks.Create(api.tasks_m.CreateTaskRequest(container_id=name, rootfs=mounts), metadata=NS, timeout=SECONDS)
    assert activations(api) == [name]
    wait = api.tasks.Wait.future(api.tasks_m.WaitRequest(container_id=name), metadata=NS, timeout=SECONDS)
    api.tasks.Start(api.tasks_m.StartRequest(container_id=name), metadata=NS, timeout=SECONDS)
    assert wait.result().exit_status == 5
    api.tasks.Delete(api.tasks_m.DeleteTaskRequest(container_id=name), metadata=NS, timeout=SECONDS)
    assert activations(api) == []


def test_mounts_of_a_creation_that_fails_are_undone(daemon, ctr, image, name, api):
    ctr("containers", "create", image, name, "/not/there")
    mounts = list(api.snapshots.Mounts(api.snapshots_m.MountsRequest(snapshotter="overlayfs", key=name), metadata=NS).mounts)
    request = api.tasks_m.CreateTaskRequest(container_id=name, rootfs=[*mounts, api.types.Mount(type="format/bind", source="{{ mount 0 }}",
                                                                                              options=["rbind"])])
    with pytest.raises(grpc.RpcError) as e:
        api.tasks.Create(request, metadata=NS, timeout=SECONDS)
    assert "OCI runtime create failed" in e.value.details() and activations(api) == []
    request = api.tasks_m.CreateTaskRequest(container_id=name, rootfs=[*mounts, api.types.Mount(type="format/bind", source="{{ mount 9 }}")])
    with pytest.raises(grpc.RpcError) as e:
        api.tasks.Create(request, metadata=NS, timeout=SECONDS)
    assert f"mount root file system of task {name}" in e.value.details() and activations(api) == []
    assert not (daemon.state / "io.containerd.runtime.v2.task" / "default" / name).exists()


def test_options_of_another_type_are_refused(ctr, image, name, api):
    from google.protobuf.any_pb2 import Any
    ctr("containers", "create", image, name, "true")
    request = api.tasks_m.CreateTaskRequest(container_id=name, options=Any(type_url="runtimeoptions.v1.Options"))
    with pytest.raises(grpc.RpcError) as e:
        api.tasks.Create(request, metadata=NS, timeout=SECONDS)
    assert (e.value.code(), e.value.details()) == (grpc.StatusCode.UNKNOWN, "invalid task create option for io.containerd.runc.v2")


# ---- shims that nobody needs ----

def test_next_daemon_ends_a_shim_without_a_task(daemon, ctr, image, name):
    start(ctr, image, name)
    (pid,) = shim_of(daemon, name)
    ctr("tasks", "kill", "-s", "KILL", name)
    until("the end", lambda: json.loads(ctr.out("shim", "--id", name, "state"))["status"] == 3)
    ctr("shim", "--id", name, "delete")  # past the daemon: as if it had ended before it created the task
    daemon.stop()
    daemon.start()
    until("the end of the shim", lambda: not alive(pid))
    assert name not in ctr.quiet("tasks", "ls", "-q")
    until("its bundle to go", lambda: not (daemon.state / "io.containerd.runtime.v2.task" / "default" / name).exists())


def shim_start(daemon, bundle, name, **how):
    """What the daemon does, up to the moment at which it would write down the answer."""
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text("{}")
    (bundle / "shim-binary-path").write_text(str(BIN / "containerd-shim-runc-v2"))
    return subprocess.run([BIN / "containerd-shim-runc-v2", "-namespace", "default", "-address", daemon.address, "-id", name, "start"],
                          cwd=bundle, stdin=subprocess.DEVNULL, env={**os.environ, **QUIET}, timeout=SECONDS, **how)


@pytest.mark.parametrize("plugin", ["io.containerd.runtime.v2.task", "io.containerd.sandbox.controller.v1.shim"])
def test_next_daemon_ends_a_shim_whose_address_nobody_wrote_down(daemon, name, plugin):
    daemon.kill()
    bundle = daemon.state / plugin / "default" / name
    assert shim_start(daemon, bundle, name, capture_output=True).returncode == 0
    (pid,) = shim_of(daemon, name)
    (bundle / "address").unlink()
    daemon.start()
    until("the end of the shim", lambda: not alive(pid))
    until("its bundle to go", lambda: not bundle.exists())


def test_shim_whose_daemon_does_not_hear_the_answer_does_not_stay(daemon, name, tmp_path):
    r, w = os.pipe()
    os.close(r)
    try:
        done = shim_start(daemon, tmp_path / name, name, stdout=w, stderr=subprocess.PIPE)
    finally:
        os.close(w)
    assert done.returncode == 1 and b"write the answer" in done.stderr
    until("the shim to end", lambda: not shim_of(daemon, name))


def test_task_that_has_ended_outlives_the_daemon(daemon, ctr, image, name, api):
    ctr("run", "-d", "--null-io", image, name, "sh", "-c", "exit 9")
    status = lambda: api.tasks.Get(api.tasks_m.GetRequest(container_id=name), metadata=NS).process  # noqa: E731
    until("the end", lambda: status().status == 3)
    daemon.stop()
    daemon.start()
    until("the connection", lambda: api.channel and ctr.quiet("tasks", "ls", "-q"))
    assert "9" in ctr("tasks", "rm", name).stderr
