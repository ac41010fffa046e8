# SPDX-License-Identifier: Apache-2.0
"""Calls of the CRI's two services, for a daemon with network and image. See rpc.py for the language, test_every_rpc.py for the use.

The world has the image's name (`image`) and the directory of logs (`logs`)."""
from rpc import Step, has
from rpc_tables import MISSING, UNKNOWN, same

R, I = "runtime.v1.RuntimeService/", "runtime.v1.ImageService/"
PODS_READY, RUNNING, EXITED = 0, 1, 2
ID = "0" * 64


def pod(w, name="p", **more):
    return {"metadata": {"name": name, "uid": "u", "namespace": "test"}, "hostname": name, "log_directory": w["logs"], **more}


def container(w, name="c", **more):
    return {"metadata": {"name": name}, "image": {"image": w["image"]}, "command": ["sleep", "1000"], "log_path": f"{name}.log",
            "linux": {"resources": {"cpu_shares": 100}}, **more}


def p(w):
    return {"pod_sandbox_id": w["pod"].pod_sandbox_id}


def c(w, **more):
    return {"container_id": w["container"].container_id, **more}


def ids(*path):
    """A check: the only object of the list (or of the parts of a stream) has the id of the world's pod or container."""
    def check(w, a):
        kind, field, name = path
        items = [i for part in (a if isinstance(a, list) else [a]) for i in getattr(part, field)]
        want = [w[kind].pod_sandbox_id if kind == "pod" else w[kind].container_id]
        have = [getattr(i, name).id if name else i.id for i in items]
        return None if have == want else f"{have} != {want}"
    return check


def nobody(method, **more):
    """A step with an id that nothing has; @more are further fields."""
    return Step(R + method, {"pod_sandbox_id" if "Pod" in method or method == "PortForward" else "container_id": ID, **more}, code=MISSING)


BEFORE = [
    Step(R + "Version", {"version": "v1"}, ok=same("containerd", "runtime_name")),
    Step(R + "Status", {"verbose": True}, ok=lambda w, a: {x.type for x in a.status.conditions} >= {"RuntimeReady", "NetworkReady"} and "config" in a.info),
    Step(R + "RuntimeConfig", {}, ok=lambda w, a: a.linux.cgroup_driver in (0, 1)),
    Step(R + "UpdateRuntimeConfig", {}),
    Step(R + "UpdateRuntimeConfig", {"runtime_config": {"network_config": {"pod_cidr": "no net"}}}, ok=lambda w, a: True),
]

IMAGES = [
    Step(I + "ImageStatus", lambda w: {"image": {"image": w["image"]}, "verbose": True}, ok=lambda w, a: a.image.size > 0 and w["image"] in a.image.repo_tags),
    Step(I + "ImageStatus", {"image": {"image": "localhost/nobody:1"}}, ok=lambda w, a: not a.HasField("image")),
    Step(I + "ImageStatus", {"image": {"image": "not a name!"}}, ok=lambda w, a: not a.HasField("image")),
    Step(I + "ListImages", lambda w: {"filter": {"image": {"image": w["image"]}}}, ok=lambda w, a: len(a.images) == 1),
    Step(I + "ListImages", {}, ok=lambda w, a: len(a.images) >= 1),
    Step(I + "StreamImages", {}, ok=lambda w, a: sum(len(part.images) for part in a) >= 1),
    Step(I + "PullImage", {"image": {"image": "not a name!"}}, code=UNKNOWN),
    Step(I + "PullImage", {"image": {"image": "127.0.0.1:1/nobody:1"}}, code="UNAVAILABLE"),
    Step(I + "ImageFsInfo", {}, ok=lambda w, a: a.image_filesystems[0].used_bytes.value > 0 and a.image_filesystems[0].fs_id.mountpoint != ""),
    Step(I + "RemoveImage", {"image": {"image": "localhost/nobody:1"}}),
    Step(I + "RemoveImage", {"image": {"image": "not a name!"}}),
]

PODS = [
    Step(R + "RunPodSandbox", {}, code=UNKNOWN),
    Step(R + "RunPodSandbox", lambda w: {"config": pod(w), "runtime_handler": "nobody"}, code=UNKNOWN, text=has("nobody")),
    Step(R + "RunPodSandbox", lambda w: {"config": pod(w)}, keep="pod"),
    Step(R + "RunPodSandbox", lambda w: {"config": pod(w)}, code=UNKNOWN, text=has("is reserved for")),
    Step(R + "PodSandboxStatus", lambda w: {**p(w), "verbose": True}, ok=lambda w, a: a.status.state == PODS_READY and a.status.network.ip != "" and "pid" in a.info["info"]),
    nobody("PodSandboxStatus"),
    Step(R + "ListPodSandbox", {"filter": {"state": {"state": PODS_READY}}}, ok=ids("pod", "items", "")),
    Step(R + "StreamPodSandboxes", {}, ok=ids("pod", "pod_sandboxes", "")),
    Step(R + "UpdatePodSandboxResources", lambda w: {**p(w), "overhead": {"cpu_shares": 10}}),
    nobody("UpdatePodSandboxResources"),
]

CONTAINERS = [
    Step(R + "CreateContainer", {"pod_sandbox_id": ID, "config": {}}, code=UNKNOWN),
    Step(R + "CreateContainer", lambda w: {"pod_sandbox_id": ID, "config": container(w), "sandbox_config": pod(w)}, code=MISSING),
    Step(R + "CreateContainer", lambda w: {**p(w), "config": container(w, image={"image": "localhost/nobody:1"}), "sandbox_config": pod(w)}, code=MISSING),
    Step(R + "CreateContainer", lambda w: {**p(w), "config": container(w), "sandbox_config": pod(w)}, keep="container"),
    Step(R + "StartContainer", c),
    Step(R + "StartContainer", c, code=UNKNOWN, text=has("container")),
    nobody("StartContainer"),
    Step(R + "ContainerStatus", c, ok=lambda w, a: a.status.state == RUNNING and a.status.started_at > 0),
    nobody("ContainerStatus"),
    Step(R + "ListContainers", lambda w: {"filter": p(w)}, ok=ids("container", "containers", "")),
    Step(R + "StreamContainers", {}, ok=ids("container", "containers", "")),
    Step(R + "UpdateContainerResources", lambda w: c(w, linux={"cpu_shares": 200})),
    nobody("UpdateContainerResources", linux={"cpu_shares": 200}),
    Step(R + "ReopenContainerLog", c),
    nobody("ReopenContainerLog"),
]

INSIDE = [
    Step(R + "ExecSync", lambda w: c(w, cmd=["sh", "-c", "echo out; exit 3"], timeout=90), ok=lambda w, a: (a.stdout, a.exit_code) == (b"out\n", 3)),
    Step(R + "ExecSync", lambda w: c(w, cmd=["/no/such"], timeout=90), code=UNKNOWN),
    nobody("ExecSync", cmd=["true"]),
    Step(R + "Exec", lambda w: c(w, cmd=["true"], stdout=True), ok=lambda w, a: "/exec/" in a.url),
    nobody("Exec", cmd=["true"], stdout=True),
    Step(R + "Attach", lambda w: c(w, stdout=True), ok=lambda w, a: "/attach/" in a.url),
    nobody("Attach", stdout=True),
    Step(R + "PortForward", lambda w: {**p(w), "port": [80]}, ok=lambda w, a: "/portforward/" in a.url),
    nobody("PortForward", port=[80]),
    Step(R + "ContainerStats", c, ok=lambda w, a: a.stats.attributes.id == w["container"].container_id),
    nobody("ContainerStats"),
    Step(R + "ListContainerStats", {}, ok=lambda w, a: [s.attributes.id for s in a.stats] == [w["container"].container_id]),
    Step(R + "StreamContainerStats", {}, ok=lambda w, a: [s.attributes.id for x in a for s in x.container_stats] == [w["container"].container_id]),
    Step(R + "PodSandboxStats", p, ok=lambda w, a: a.stats.attributes.id == w["pod"].pod_sandbox_id),
    nobody("PodSandboxStats"),
    Step(R + "ListPodSandboxStats", {}, ok=lambda w, a: [s.attributes.id for s in a.stats] == [w["pod"].pod_sandbox_id]),
    Step(R + "StreamPodSandboxStats", {}, ok=lambda w, a: [s.attributes.id for x in a for s in x.pod_sandbox_stats] == [w["pod"].pod_sandbox_id]),
    Step(R + "ListMetricDescriptors", {}, ok=lambda w, a: len(a.descriptors) > 0),
    Step(R + "ListPodSandboxMetrics", {}, ok=lambda w, a: [m.pod_sandbox_id for m in a.pod_metrics] == [w["pod"].pod_sandbox_id]),
    Step(R + "StreamPodSandboxMetrics", {}, ok=lambda w, a: [m.pod_sandbox_id for x in a for m in x.pod_sandbox_metrics] == [w["pod"].pod_sandbox_id]),
]

AFTER = [
    Step(R + "RemoveContainer", {"container_id": ID}),
    Step(R + "StopContainer", lambda w: c(w, timeout=0)),
    Step(R + "StopContainer", {"container_id": ID}),
    Step(R + "ContainerStatus", c, ok=lambda w, a: a.status.state == EXITED and a.status.exit_code == 137),
    Step(R + "ReopenContainerLog", c, code=UNKNOWN),
    Step(R + "RemoveContainer", c),
    Step(R + "ContainerStatus", c, code=MISSING),
    Step(R + "StopPodSandbox", p),
    Step(R + "RemovePodSandbox", p),
    Step(R + "RemovePodSandbox", p),
    Step(R + "StopPodSandbox", {"pod_sandbox_id": ID}),
    Step(R + "PodSandboxStatus", p, code=MISSING),
    Step(I + "RemoveImage", lambda w: {"image": {"image": w["image"]}}),
]

STEPS = BEFORE + IMAGES + PODS + CONTAINERS + INSIDE + AFTER

# What may still be Unimplemented: nothing.
PENDING = set()
# A subscription, which has no end, is heard in test_cri.py. Whether criu dumps is the host's matter.
ELSEWHERE = {R + "GetContainerEvents", R + "CheckpointContainer"}
# Pulled from a registry elsewhere.
NOTHING_GOOD = {I + "PullImage"}
NOTHING_BAD = {R + m for m in ("Version", "Status", "RuntimeConfig", "UpdateRuntimeConfig", "ListPodSandbox", "StreamPodSandboxes", "ListContainers",
                               "StreamContainers", "ListContainerStats", "StreamContainerStats", "ListPodSandboxStats", "StreamPodSandboxStats",
                               "ListMetricDescriptors", "ListPodSandboxMetrics", "StreamPodSandboxMetrics", "StopPodSandbox", "RemovePodSandbox",
                               "StopContainer", "RemoveContainer")} | {I + m for m in ("ListImages", "StreamImages", "ImageStatus", "RemoveImage", "ImageFsInfo")}
