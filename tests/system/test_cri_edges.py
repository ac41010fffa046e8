# SPDX-License-Identifier: Apache-2.0
"""The CRI where it meets others: images that somebody else brought, namespaces that somebody else closed, a daemon that dies half way."""
import http.server
import json
import os
import pathlib
import threading

import grpc
import pytest

from cri import cri_daemon, fails, load_image
from cri_fixtures import cri, image
from harness import run, until

GROUP = f"caged-{os.getpid()}"
TOP = pathlib.Path("/sys/fs/cgroup")
MANAGED = "io.cri-containerd.image"


def hierarchies():
    """Directories of the group in every hierarchy there is."""
    if (TOP / "cgroup.procs").exists():
        return [TOP / GROUP]
    return [d / GROUP for d in TOP.iterdir() if (d / "cgroup.procs").exists() and not d.is_symlink()]


def _rmdir(d):
    try:
        d.rmdir()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def groups():
    made = hierarchies()
    for d in made:
        d.mkdir()
        for f in ("cpuset.cpus", "cpuset.mems"):
            if (d / "cpuset.sched_load_balance").exists():
                (d / f).write_text((d.parent / f).read_text())
    yield made
    for d in made:
        until("the group to be empty", lambda: _rmdir(d))


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout, groups, tmp_path_factory):
    plugins = tmp_path_factory.mktemp("plugins")
    config = lambda net_d: f"""
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni', '{plugins}']
conf_dir = '{net_d}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.caged]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.caged.options]
ShimCgroup = '/{GROUP}'
[plugins.'io.containerd.cri.v1.images'.registry.headers]
'X-A.B' = ['one', 'two']
X-C = ['three']
"""
    with cri_daemon(stubs, busybox_layout, config) as v:
        v[0].plugins = plugins
        yield v


def info(cri, pod):
    return json.loads(cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])


def labels(cri, name):
    """Of the image's record; None when there is none."""
    rows = [r.split() for r in cri.daemon.ctr.out("images", "ls", ns="k8s.io").splitlines()[1:]]
    found = [r[-1] for r in rows if r[0] == name]
    return dict(p.split("=", 1) for p in found[0].split(",") if "=" in p) if found else None


def test_image_that_another_client_brought_becomes_managed_and_keeps_its_labels(cri, busybox_layout):
    name = "example.com/brought:1"
    ctr = cri.daemon.ctr
    load_image(cri.daemon, busybox_layout, name)
    until("the image to be managed", lambda: (labels(cri, name) or {}).get(MANAGED) == "managed")
    i = cri.ImageStatus(image=cri.pb.ImageSpec(image=name)).image
    until("its other name to be managed", lambda: (labels(cri, i.id) or {}).get(MANAGED) == "managed")
    ctr("images", "label", name, "mine=1", ns="k8s.io")
    # A label that somebody takes away comes back, and nothing else is touched.
    ctr("images", "label", name, f"{MANAGED}=", ns="k8s.io")
    until("the label to be back", lambda: labels(cri, name).get(MANAGED) == "managed")
    assert labels(cri, name)["mine"] == "1"
    ctr("images", "rm", name, ns="k8s.io")
    assert cri.ImageStatus(image=cri.pb.ImageSpec(image=i.id)).image.id == i.id


def test_image_that_came_while_the_daemon_was_away_is_managed_after_its_start(cri, busybox_layout):
    name = "example.com/away:1"
    load_image(cri.daemon, busybox_layout, name)
    until("the image to be managed", lambda: (labels(cri, name) or {}).get(MANAGED) == "managed")
    text = cri.daemon.config.read_text()
    cri.daemon.stop()
    cri.daemon.config.write_text("disabled_plugins = ['io.containerd.grpc.v1.cri']\n" + text)
    cri.daemon.start()
    cri.daemon.ctr("images", "label", name, f"{MANAGED}=", ns="k8s.io")
    assert MANAGED not in labels(cri, name)
    cri.daemon.stop()
    cri.daemon.config.write_text(text)
    cri.daemon.start()
    cri.connect()
    assert labels(cri, name)[MANAGED] == "managed"


def test_name_of_its_own_with_the_hosts_network_is_refused(cri):
    pb = cri.pb
    linux = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(network=pb.NODE)))
    assert "hostname" in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("p", linux=linux, hostname="other"))
    assert not cri.ListPodSandbox().items
    cri.run_pod(cri.pod("p", linux=linux))


def test_network_namespace_that_somebody_else_closed_is_told(cri):
    p = cri.run_pod(cri.pod("p"))
    i = info(cri, p)
    assert i["netNamespaceClosed"] is False
    path = next(n["path"] for n in i["runtimeSpec"]["linux"]["namespaces"] if n["type"] == "network")
    run(["umount", "-l", path])
    assert info(cri, p)["netNamespaceClosed"] is True
    os.unlink(path)
    assert info(cri, p)["netNamespaceClosed"] is True


def test_container_without_limits_has_empty_resources_and_no_metrics_once_it_ended(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("k", image))
    s = cri.status(k)
    assert s.HasField("resources") and s.resources.HasField("linux") and not s.resources.linux.memory_limit_in_bytes
    assert cri.ContainerStats(container_id=k).stats.memory.working_set_bytes.value > 0
    cri.StopContainer(container_id=k, timeout=0)
    assert "does not run" in fails(grpc.StatusCode.UNKNOWN, cri.ContainerStats, container_id=k)
    assert [s.attributes.id for s in cri.ListContainerStats().stats] == [k]


def test_metadata_of_a_sandbox_is_told_as_it_is_kept(cri):
    p = cri.run_pod(cri.pod("p"))
    kept = info(cri, p)["sandboxMetadata"]
    assert kept["Version"] == "v1" and kept["Metadata"]["ID"] == p
    assert kept["Metadata"]["IP"] == cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip


def test_container_whose_status_was_lost_ends_all_the_same(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    host = cri.daemon.dir / "lost"
    host.mkdir()
    mount = cri.pb.Mount(container_path="/m", host_path=str(host))
    k = cri.start(p, conf, cri.container("k", image, ["/bin/sh", "-c", "while [ ! -e /m/stop ]; do sleep 0.1; done; touch /m/end; exit 5"], mounts=[mount]))
    pid = cri.verbose(k)["pid"]
    cri.daemon.kill()
    (cri.daemon.root / f"io.containerd.grpc.v1.cri/containers/{k}/status").unlink()
    (host / "stop").touch()
    until("the process to end", lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split()[2] == "Z")
    cri.daemon.start()
    cri.connect()
    assert cri.exited(k).exit_code == 5


def test_shim_is_put_into_its_group_in_every_hierarchy(cri, groups):
    p = cri.run_pod(cri.pod("p"), handler="caged")
    shim = next(s for s in cri.daemon.shims() if p in " ".join(open(f"/proc/{s}/cmdline").read().split("\0")))
    for d in groups:
        assert str(shim) in (d / "cgroup.procs").read_text().split(), d


def test_pod_whose_network_was_not_finished_when_the_daemon_died_is_not_ready(cri):
    slow = cri.plugins / "slow"
    gate = cri.plugins / "reached"
    slow.write_text(f"""#!/bin/sh
[ "$CNI_COMMAND" = ADD ] || exit 0
touch {gate}
while [ ! -e {gate}.over ]; do sleep 0.1; done <&- >&- 2>&-
""")
    slow.chmod(0o755)
    path = cri.daemon.net_d / "10-test.conflist"
    good = path.read_text()
    conf = json.loads(good)
    conf["plugins"].append({"type": "slow"})
    cri.daemon.put_network(json.dumps(conf))
    try:
        until("the slow network to be loaded", lambda: '"slow"' in cri.Status(verbose=True).info["cniconfig"])
        call = cri.runtime.RunPodSandbox.future(cri.pb.RunPodSandboxRequest(config=cri.pod("p")), timeout=600)
        until("the slow plugin to run", gate.exists)
        until("the sandbox to run", lambda: any("RUNNING" in line for line in cri.daemon.ctr.out("tasks", "ls", ns="k8s.io").splitlines()))
        cri.daemon.kill()
        assert call.exception() is not None
    finally:
        cri.daemon.put_network(good)
        gate.with_name("reached.over").touch()
    cri.daemon.start()
    cri.connect()
    pods = cri.ListPodSandbox().items
    assert [(p.metadata.name, p.state) for p in pods] == [("p", cri.pb.SANDBOX_NOTREADY)]
    cri.StopPodSandbox(pod_sandbox_id=pods[0].id)
    cri.RemovePodSandbox(pod_sandbox_id=pods[0].id)
    cri.run_pod(cri.pod("p"))


def test_headers_of_the_configuration_are_in_every_request_for_an_image(cri):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_error(404)
        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = cri.daemon.netns.inside(lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    threading.Thread(target=server.serve_forever).start()
    try:
        fails(grpc.StatusCode.NOT_FOUND, cri.PullImage, image=cri.pb.ImageSpec(image=f"127.0.0.1:{server.server_address[1]}/some/image:1"))
    finally:
        server.shutdown()
        server.server_close()
    assert seen and all((h["X-A.B"], h["X-C"]) == ("one, two", "three") for h in seen), [str(h) for h in seen]
