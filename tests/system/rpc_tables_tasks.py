# SPDX-License-Identifier: Apache-2.0
"""Calls about tasks, to the daemon and to a shim. See rpc.py for the language, test_every_rpc.py for the use."""
import json
import os

import harness
from rpc import Do, Step, Ttrpc, has
from rpc_tables import EXISTS, INVALID, MISSING, PRECONDITION, ROOT, RUNC, S, SPEC, UNIMPLEMENTED, UNKNOWN

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
METHODS = ("Start", "Delete", "Get", "Kill", "Pause", "Resume", "ListPids", "Wait", "Update", "Checkpoint", "ResizePty", "CloseIO")


def spec_of(world, name):
    return json.dumps({**world["spec"], "linux": {**world["spec"]["linux"], "cgroupsPath": f"/{world['ns']}/{name}"}}).encode()


def make(world, client, name="t1"):
    client(S + "containers.v1.Containers/Create", {"container": {"id": name, "runtime": {"name": RUNC}, "spec": (SPEC, spec_of(world, name)),
                                                                 "image": world["image"]}})
    world["rootfs"] = list(client(S + "snapshots.v1.Snapshots/Prepare", {"snapshotter": "overlayfs", "key": name, "parent": world["top"], "labels": ROOT}).mounts)
    world["container"] = name


def process(*args, **more):
    return (PROCESS, json.dumps({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"], **more}).encode())


def t1(**more):
    return {"container_id": "t1", **more}


def create(**more):
    return lambda w: t1(rootfs=w["rootfs"], **more)


def status(n):
    return lambda w, a: a.process.status == n


def limit_is_set(w, a):
    return a.metrics[0].data.type_url.startswith("io.containerd.cgroups.v")


METRIC_FILTERS = [([], 1), (["id==t1"], 1), (["id!=t1"], 0), (["id~=^t"], 1), (["id==nobody"], 0), (["namespace~=every"], 1), (["id==nobody", "id==t1"], 1),
                  (["id==t1,namespace==nobody"], 0), (["nofield"], 0)]

TASKS = [
    *[Step(m, {"container_id": "nobody"}, code=MISSING, text=has('container "nobody" in namespace "every', '": not found')) for m in ("Create", *METHODS)],
    *[Step(m, {"container_id": "nobody", "exec_id": "e"}, code=MISSING, text=has('container "nobody" in namespace')) for m in ("DeleteProcess", "Exec")],
    Step("Get", {"container_id": ""}, code=MISSING),
    Do("Create", make, events=["/containers/create", "/snapshot/prepare"]),
    *[Step(m, t1(), code=MISSING, text="task t1 not found") for m in METHODS],
    Step("Create", create(options=("no.such.Options", b"")), code=UNKNOWN, text=f"invalid task create option for {RUNC}"),
    Step("Create", create(options=("containerd.runc.v1.Options", b"\xff\xff")), code=INVALID, text=has("decode containerd.runc.v1.Options")),
    Step("Create", create(runtime_path="/no/such/shim"), code=MISSING, text=has("/no/such/shim")),
    Step("Create", {"container_id": "t1", "rootfs": [{"type": "nosuchfs", "source": "x"}]}, code=UNKNOWN, text=has("mount")),
    Step("Create", create(), ok=lambda w, a: a.container_id == "t1" and a.pid > 1, events=[("/tasks/create", {"container_id": "t1"})], keep="created"),
    Step("Create", create(), code=EXISTS, text="task t1: already exists"),
    Step("Get", t1(), ok=lambda w, a: (a.process.id, a.process.status, a.process.pid) == ("t1", CREATED, w["created"].pid)),
    Step("Pause", t1(), code=UNKNOWN, text=has("pause")),
    Step("Start", t1(), ok=lambda w, a: a.pid == w["created"].pid, events=[("/tasks/start", {"container_id": "t1"})]),
    Step("Start", t1(), code=UNKNOWN),
    Step("Get", t1(), ok=status(RUNNING)),
    Step("Get", t1(exec_id="nobody"), code=MISSING),
    Step("List", {}, ok=lambda w, a: [(t.id, t.status) for t in a.tasks] == [("t1", RUNNING)]),
    Step("List", {}, ns="elsewhere", ok=lambda w, a: not a.tasks),
    Step("List", {}, ns="a..b", code=INVALID),
    Step("ListPids", t1(), ok=lambda w, a: [p.pid for p in a.processes] == [w["created"].pid]),
    Step("Delete", t1(), code=UNKNOWN, text=has("cannot delete a running process")),
    *[Step("Metrics", {"filters": f}, ok=lambda w, a, n=n: len(a.metrics) == n) for f, n in METRIC_FILTERS],
    Step("Metrics", {"filters": ["id==t1"]}, ok=limit_is_set),
    Step("Metrics", {"filters": ["a=b"]}, code=UNKNOWN, text=has('filters: parse error: [a >|=|< b]: unsupported operator "="')),
    Step("Pause", t1(), events=["/tasks/paused"]),
    Step("Get", t1(), ok=status(PAUSED)),
    Step("Exec", t1(exec_id="p", spec=process("true")), code=UNKNOWN, text=has("paused")),
    Step("Resume", t1(), events=["/tasks/resumed"]),
    Step("Resume", t1(), code=UNKNOWN),
    Step("Update", t1(resources=(RESOURCES, b'{"memory":{"limit":50000000}}'))),
    Step("Update", t1(resources=(RESOURCES, b"no json")), code=UNKNOWN),
    Step("Exec", t1(exec_id="", spec=process("true")), code=INVALID, text=has("exec id cannot be empty")),
    Step("Exec", t1(exec_id="a..b", spec=process("true")), code=INVALID, text=has("must match")),
    Step("Exec", t1(exec_id="e1"), code=INVALID),
    Step("Exec", t1(exec_id="e1", spec=(PROCESS, b"[]")), code=INVALID, text=has("process document is no JSON object")),
    # One that cannot be started: who waits for it is told at once.
    Step("Exec", t1(exec_id="odd", spec=("any.Type", b"{}")), events=["/tasks/exec-added"]),
    Step("Start", t1(exec_id="odd"), code=UNKNOWN, text=has("OCI runtime exec failed")),
    Step("Wait", t1(exec_id="odd"), ok=lambda w, a: a.exit_status == 0),
    Step("DeleteProcess", t1(exec_id="odd"), ok=lambda w, a: a.id == "odd" and a.pid == 0),
    Step("Exec", t1(exec_id="e1", spec=process("sh", "-c", "exit 7")), events=[("/tasks/exec-added", {"container_id": "t1", "exec_id": "e1"})]),
    Step("Exec", t1(exec_id="e1", spec=process("true")), code=EXISTS, text=has("id e1")),
    Step("Exec", t1(exec_id="t1", spec=process("true")), code=EXISTS),
    Step("Kill", t1(exec_id="e1", signal=9), code=PRECONDITION, text=has("process not created")),
    Step("Start", t1(exec_id="e1"), events=[("/tasks/exec-started", {"exec_id": "e1"}), ("/tasks/exit", {"container_id": "t1", "id": "e1", "exit_status": 7})]),
    Step("Wait", t1(exec_id="e1"), ok=lambda w, a: a.exit_status == 7 and a.exited_at.seconds > 0),
    Step("Start", t1(exec_id="nobody"), code=MISSING),
    Step("Wait", t1(exec_id="nobody"), code=MISSING),
    Step("DeleteProcess", t1(exec_id="e1"), ok=lambda w, a: (a.id, a.exit_status) == ("e1", 7) and a.pid > 1),
    Step("DeleteProcess", t1(exec_id="e1"), code=MISSING),
    Step("Exec", t1(exec_id="tty", terminal=True, spec=process("sleep", "1000", terminal=True)), events=["/tasks/exec-added"]),
    Step("Start", t1(exec_id="tty"), events=["/tasks/exec-started"]),
    Step("ResizePty", t1(exec_id="tty", width=80, height=24)),
    Step("ResizePty", t1(exec_id="nobody", width=80, height=24), code=MISSING),
    Step("CloseIO", t1(exec_id="tty", stdin=True)),
    Step("CloseIO", t1(exec_id="nobody", stdin=True), code=MISSING),
    Step("ListPids", t1(), ok=lambda w, a: sorted(p.info.type_url for p in a.processes) == ["", "containerd.runc.v1.ProcessDetails"]),
    Step("Kill", t1(exec_id="tty", signal=9), events=[("/tasks/exit", {"id": "tty", "exit_status": 137})]),
    Step("Wait", t1(exec_id="tty"), ok=lambda w, a: a.exit_status == 137),
    Step("Kill", t1(exec_id="tty", signal=9), code=MISSING, text="process already finished: not found"),
    Step("Kill", t1(exec_id="nobody", signal=9), code=MISSING),
    Step("Kill", t1(signal=4000000000), code=INVALID),
    Step("Kill", t1(signal=9, all=True), events=[("/tasks/exit", {"container_id": "t1", "id": "t1", "exit_status": 137})]),
    Step("Wait", t1(), ok=lambda w, a: a.exit_status == 137),
    Step("Wait", t1(), ok=lambda w, a: a.exit_status == 137),
    Step("Get", t1(), ok=lambda w, a: (a.process.status, a.process.exit_status) == (STOPPED, 137)),
    Step("Exec", t1(exec_id="late", spec=process("true")), code=UNKNOWN, text=has("cannot exec in a stopped state")),
    Step("Pause", t1(), code=UNKNOWN, text=has("cannot pause a stopped container")),
    Step("Kill", t1(signal=9), code=MISSING, text="process already finished: not found"),
    Step("DeleteProcess", t1(exec_id="tty"), ok=lambda w, a: a.exit_status == 137),
    Step("Delete", t1(), ok=lambda w, a: (a.id, a.exit_status, a.pid) == ("t1", 137, w["created"].pid),
         events=[("/tasks/delete", {"container_id": "t1", "exit_status": 137})]),
    Step("Delete", t1(), code=MISSING, text="task t1 not found"),
    Step(S + "containers.v1.Containers/Delete", {"id": "t1"}, events=["/containers/delete"]),
    Step(S + "snapshots.v1.Snapshots/Remove", {"snapshotter": "overlayfs", "key": "t1"}, events=["/snapshot/remove"]),
]

TABLES = {S + "tasks.v1.Tasks": TASKS}

# ---- a shim ----
# (method, whether it is a good call, request, code, check of the answer or text); "id" is added. In this order, on a shim with a running task.
BUSY = "UNKNOWN"
SHIM_STEPS = [
    ("Connect", True, {}, "OK", lambda a: a.shim_pid > 1 and a.task_pid > 1),
    ("Connect", False, {"id": "nobody"}, "OK", lambda a: a.shim_pid > 1 and a.task_pid == 0),
    ("State", True, {}, "OK", lambda a: a.status == RUNNING and a.bundle and a.pid > 1),
    ("State", False, {"exec_id": "nobody"}, MISSING, ""),
    ("State", False, {"id": "nobody"}, MISSING, ""),
    ("Create", False, {"bundle": "/no/such"}, EXISTS, ""),
    ("Create", False, {"id": "../x", "bundle": "/no/such"}, None, ""),
    ("Start", False, {"exec_id": "nobody"}, MISSING, ""),
    ("Start", False, {"id": "nobody"}, MISSING, ""),
    ("Pids", True, {}, "OK", lambda a: len(a.processes) == 1),
    ("Pids", False, {"id": "nobody"}, MISSING, ""),
    ("Pause", True, {}, "OK", None), ("Pause", False, {"id": "nobody"}, MISSING, ""),
    ("Resume", True, {}, "OK", None), ("Resume", False, {"id": "nobody"}, MISSING, ""),
    ("Exec", True, {"exec_id": "e", "spec": process("sleep", "1000")}, "OK", None),
    ("Exec", False, {"exec_id": "e", "spec": process("true")}, EXISTS, ""),
    ("Exec", False, {"exec_id": "../e", "spec": process("true")}, None, ""),
    ("Exec", False, {"exec_id": "bad", "spec": (PROCESS, b"[]")}, None, ""),
    ("Start", True, {"exec_id": "e"}, "OK", lambda a: a.pid > 1),
    ("ResizePty", True, {"exec_id": "e", "width": 80, "height": 24}, "OK", None),
    ("ResizePty", False, {"exec_id": "nobody"}, MISSING, ""),
    ("CloseIO", True, {"exec_id": "e", "stdin": True}, "OK", None),
    ("CloseIO", False, {"exec_id": "nobody"}, MISSING, ""),
    ("Update", True, {"resources": (RESOURCES, b'{"memory":{"limit":50000000}}')}, "OK", None),
    ("Update", False, {"resources": (RESOURCES, b"no json")}, None, ""),
    ("Update", False, {"id": "nobody"}, MISSING, ""),
    ("Stats", True, {}, "OK", lambda a: a.stats.type_url.startswith("io.containerd.cgroups.v")),
    ("Stats", False, {"id": "nobody"}, MISSING, ""),
    ("Checkpoint", False, {"id": "nobody", "path": "/tmp"}, MISSING, ""),
    ("Checkpoint", False, {"path": "", "options": ("no.such.Options", b"\xff")}, None, ""),
    ("Delete", False, {"exec_id": "e"}, UNKNOWN, "cannot delete a running process"),
    ("Delete", False, {"id": "nobody"}, MISSING, ""),
    ("Kill", False, {"exec_id": "nobody", "signal": 9}, MISSING, ""),
    ("Wait", False, {"exec_id": "nobody"}, MISSING, ""),
    ("Kill", True, {"exec_id": "e", "signal": 9}, "OK", None),
    ("Wait", True, {"exec_id": "e"}, "OK", lambda a: a.exit_status == 137),
    ("Delete", True, {"exec_id": "e"}, "OK", lambda a: a.exit_status == 137),
    ("Shutdown", True, {}, "OK", None),
    # It holds a task: it does not end.
    ("State", True, {}, "OK", lambda a: a.status == RUNNING),
]
# The good call of Create is the daemon's own, and criu's is tried in the unit tests of the shim. An empty Shutdown is no bad one.
ELSEWHERE = [("Create", True), ("Checkpoint", True), ("Shutdown", False)]
SHIM_STEPS += [(m, good, None, None, None) for m, good in ELSEWHERE]


def play_shim(player, version):
    world, client, daemon = player.world, player.client, player.world["daemon"]
    name = f"shim-{version}"
    make(world, client, name)
    client(S + "tasks.v1.Tasks/Create", {"container_id": name, "rootfs": world["rootfs"]})
    client(S + "tasks.v1.Tasks/Start", {"container_id": name})
    bundle = daemon.state / "io.containerd.runtime.v2.task" / world["ns"] / name
    address = json.loads((bundle / "bootstrap.json").read_text())["address"].removeprefix("unix://")
    shim = Ttrpc(address)
    differences = []
    try:
        for method, _, request, code, check in SHIM_STEPS:
            if request is None:
                continue
            got, text, answer = shim(f"containerd.task.{version}.Task/{method}", {"id": name, **request}, ns=world["ns"])
            if code is None and got == "OK" or code is not None and got != code:
                differences.append(f"{method} {request}: {got} {text!r} instead of {code or 'an error'}")
            elif got == "OK" and check and not check(answer):
                differences.append(f"{method} {request}: wrong answer {answer}")
            elif got != "OK" and check not in text:
                differences.append(f"{method} {request}: {text!r} instead of {check!r}")
        assert shim(f"containerd.task.{version}.Task/Nope")[0] == UNIMPLEMENTED
        assert shim("no.such.Service/Nope")[0] == UNIMPLEMENTED
    finally:
        shim.close()
        daemon.ctr("tasks", "rm", "-f", name)
        daemon.ctr("containers", "rm", name)
        client(S + "snapshots.v1.Snapshots/Remove", {"snapshotter": "overlayfs", "key": name})
    assert not differences, "\n".join(differences)
    harness.until("the shim to end", lambda: not os.path.exists(address) or not daemon.shims())
