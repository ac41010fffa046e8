# SPDX-License-Identifier: Apache-2.0
"""After the power failed on before_reboot.py: what the kubelet and ctr find. The tests stand in the order of a node's morning."""
import pathlib
import re

import grpc
import pytest

import cgroups
from cri import fails
from harness import rows, run, until
from node import IMAGE, NETWORK, Node, addresses, remembered


@pytest.fixture(scope="module")
def node():
    return Node().started()


@pytest.fixture(scope="module")
def cri(node, stubs):
    return node.cri(stubs)


@pytest.fixture(scope="module")
def facts():
    return remembered()


def test_machine_was_booted_anew(facts):
    assert pathlib.Path("/proc/sys/kernel/random/boot_id").read_text() != facts["boot"]


def test_daemon_started_by_itself_without_errors(node, cri):
    assert not re.findall(r"level=(?:error|fatal|panic).*", node.journal())
    assert set(r[-1] for r in (line.split() for line in node.ctr.out("plugins", "ls").splitlines()[1:])) <= {"ok", "skip"}


def test_nothing_of_the_former_life_runs(node, cri):
    assert not [t for t in node.ctr.quiet("tasks", "ls", "-q", ns="k8s.io")]
    bundles = [p.name for p in node.state.glob("io.containerd.runtime.v2.task/k8s.io/*")]
    assert not bundles
    assert not [d for d in cgroups.TOP.glob("k8s.io/*") if d.is_dir()]


def test_pods_are_not_ready_and_keep_their_names(cri, facts):
    states = {i.id: i.state for i in cri.ListPodSandbox().items}
    assert states == {facts[k]: cri.pb.SANDBOX_NOTREADY for k in ("pod", "host", "gone")}
    assert f'is reserved for "{facts["pod"]}"' in fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("pod"))
    assert cri.PodSandboxStatus(pod_sandbox_id=facts["pod"]).status.network.ip == ""


def test_containers_have_ended_as_they_did(cri, facts):
    pb = cri.pb
    s = {k: cri.status(facts[k]) for k in ("running", "done", "killed", "created", "host_container")}
    assert (s["running"].state, s["running"].exit_code, s["running"].reason) == (pb.CONTAINER_EXITED, 255, "Unknown")
    assert s["running"].finished_at >= s["running"].started_at > 0
    assert (s["host_container"].state, s["host_container"].exit_code) == (pb.CONTAINER_EXITED, 255)
    assert (s["done"].state, s["done"].exit_code, s["done"].reason) == (pb.CONTAINER_EXITED, 4, "Error")
    assert (s["killed"].state, s["killed"].exit_code, s["killed"].reason) == (pb.CONTAINER_EXITED, 137, "OOMKilled")
    assert s["created"].state == pb.CONTAINER_CREATED
    assert "said" in pathlib.Path(s["running"].log_path).read_text()


def test_created_container_does_not_start_in_a_pod_that_has_ended(cri, facts):
    assert "is not running" in fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=facts["created"])


def test_images_snapshots_leases_and_content_are_there(node, facts):
    ctr = node.ctr
    assert sorted(ctr.quiet("images", "ls", "-q")) == facts["images"]
    assert set(facts["snapshots"]) <= {line.split()[0] for line in ctr.out("snapshots", "ls").splitlines()[1:]}
    assert "kept" in ctr.quiet("leases", "ls", "-q")
    assert "no incomplete" not in ctr.out("images", "check")


def test_container_of_ctr_starts_again_with_its_files(node):
    ctr = node.ctr
    assert "plain" in ctr.quiet("containers", "ls", "-q") and "plain" not in ctr.quiet("tasks", "ls", "-q")
    ctr("tasks", "start", "-d", "plain")
    assert ctr.out("tasks", "exec", "--exec-id", "e", "plain", "cat", "/file") == "kept\n"
    ctr("tasks", "rm", "-f", "plain")
    ctr("containers", "rm", "plain")


def test_container_to_be_kept_running_is_started_again(node):
    state = lambda: [r[2] for r in rows(node.ctr.out("tasks", "ls")) if r[0] == "again"]
    until("it to run", lambda: state() == ["RUNNING"], 120)
    node.ctr("containers", "label", "again", "containerd.io/restart.status=stopped")
    until("it to be stopped", lambda: state() in ([], ["STOPPED"]), 120)


def test_pod_is_made_again_beside_the_old_one(cri, facts):
    pb = cri.pb
    conf = cri.pod("pod", attempt=1, log_directory="/var/log/pods/vmtest", port_mappings=[pb.PortMapping(container_port=80, host_port=8099)])
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("running", IMAGE, ["/bin/sh", "-c", "echo page > /index.html; exec busybox httpd -f -p 80 -h /"], attempt=1))
    s = cri.PodSandboxStatus(pod_sandbox_id=p).status
    assert s.state == pb.SANDBOX_READY and s.network.ip in addresses()
    until("the page", lambda: run(["curl", "-s", "-m", "20", f"http://{s.network.ip}/index.html"], check=False).stdout == "page\n")
    assert run(["curl", "-s", "-m", "20", "http://10.0.2.15:8099/index.html"]).stdout == "page\n"
    run(["systemctl", "restart", "containerd"], timeout=300)
    cri.connect()
    assert cri.status(k).state == pb.CONTAINER_RUNNING, "systemd has ended it with the daemon"
    assert run(["curl", "-s", "-m", "20", f"http://{s.network.ip}/index.html"]).stdout == "page\n"
    cri.StopPodSandbox(pod_sandbox_id=p)
    cri.RemovePodSandbox(pod_sandbox_id=p)


def test_old_pods_go_and_free_their_addresses(node, cri, facts):
    assert facts["ip"] in addresses()
    for p in ("pod", "host", "gone"):
        for _ in range(2):
            cri.StopPodSandbox(pod_sandbox_id=facts[p])
    assert addresses() == set()
    for p in ("pod", "host", "gone"):
        cri.RemovePodSandbox(pod_sandbox_id=facts[p])
    assert not cri.ListPodSandbox().items and not cri.ListContainers().containers
    assert not list((node.root / "io.containerd.grpc.v1.cri/sandboxes").iterdir())
    assert not list((node.root / "io.containerd.grpc.v1.cri/containers").iterdir())
    assert not node.ctr.quiet("leases", "ls", "-q", ns="k8s.io")
    until("the snapshots to go", lambda: "Active" not in node.ctr.out("snapshots", "ls", ns="k8s.io"), 60)
    assert not list(pathlib.Path("/var/lib/cni/results").glob(f"{NETWORK}-*"))


def test_metadata_is_sound(node):
    """By a reader of its own: bolt_dump checks all pages."""
    run(["systemctl", "stop", "containerd"], timeout=300)
    try:
        for db in (node.root / "io.containerd.metadata.v1.bolt/meta.db", node.root / "io.containerd.snapshotter.v1.overlayfs/metadata.db"):
            run(["/opt/bin/bolt_dump", "--check", db])
    finally:
        run(["systemctl", "start", "containerd"], timeout=300)
