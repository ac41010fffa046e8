# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of tasks and containers through daemon and shim.

Most with a script in runc's place. What runc itself answers without CRIU is tested too.
"""
import json
import pathlib
import re

import pytest

import runc_with_state
from harness import until

@pytest.fixture
def fake(tmp_path):
    """The runtime for `ctr run`."""
    return runc_with_state.write(tmp_path)


def start(ctr, image, name, fake=None, *args):
    ctr("run", "-d", "--null-io", *(("--runc-binary", fake) if fake else ()), image, name, *(args or ("sleep", "1000000")))


def index_of(ctr, image):
    digest = [r.split()[2] for r in ctr.out("images", "ls").splitlines() if r.split()[0] == image][0]
    return json.loads(ctr.out("content", "get", digest))


def status_of(ctr, name):
    return {r.split()[0]: r.split()[2] for r in ctr.out("tasks", "ls").splitlines()[1:]}.get(name)


def kinds(index):
    return [re.sub(r".*container\.", "", m["mediaType"]) for m in index["manifests"]]


def test_checkpoint_of_a_task_becomes_an_image(ctr, image, name, fake):
    start(ctr, image, name, fake)
    ctr("tasks", "exec", "--exec-id", "e", name, "sh", "-c", "echo changed > /here")
    checkpoint = ctr.out("tasks", "checkpoint", name).strip()
    assert checkpoint.startswith(f"containerd.io/checkpoint/{name}:")
    assert status_of(ctr, name) == "RUNNING"
    index = index_of(ctr, checkpoint)
    assert index["annotations"] == {"image.name": image}
    assert kinds(index) == ["criu.checkpoint.criu.tar", "checkpoint.config.v1+proto", index["manifests"][2]["mediaType"],
                            "application/vnd.oci.image.layer.v1.tar+gzip"]
    assert all(m["platform"]["os"] == "linux" for m in index["manifests"][:2])
    tar = ctr("content", "get", index["manifests"][0]["digest"], binary=True).stdout
    assert b"frozen " + name.encode() in tar and b"sub/file" in tar
    assert not list(pathlib.Path("/tmp").glob("ctrd-checkpoint*"))
    ctr("images", "rm", "--sync", checkpoint)
    assert ctr("content", "get", index["manifests"][0]["digest"], check=False).returncode == 1


def test_checkpoint_into_a_directory_leaves_no_image(ctr, image, name, fake, tmp_path):
    start(ctr, image, name, fake)
    before = ctr.out("images", "ls", "-q")
    assert ctr.out("tasks", "checkpoint", "--image-path", tmp_path / "img", "--work-path", tmp_path / "work", name) == ""
    assert (tmp_path / "img" / "state").read_text() == f"frozen {name}\n"
    call = (tmp_path / "calls").read_text()
    assert f"--work-path {tmp_path}/work" in call and "--leave-running" in call
    assert ctr.out("images", "ls", "-q") == before and status_of(ctr, name) == "RUNNING"


def test_checkpoint_with_exit_ends_the_task(ctr, image, name, fake, tmp_path):
    start(ctr, image, name, fake)
    ctr("tasks", "checkpoint", "--exit", "--image-path", tmp_path / "img", name)
    until("the end of the task", lambda: status_of(ctr, name) == "STOPPED")
    assert "--leave-running" not in (tmp_path / "calls").read_text()


def test_container_is_restored_live_with_its_files(ctr, image, name, fake, tmp_path):
    start(ctr, image, name, fake)
    ctr("tasks", "exec", "--exec-id", "e", name, "sh", "-c", "echo changed > /here; rm /etc/group")
    ctr("containers", "checkpoint", "--rw", "--image", "--task", name, f"{name}:cp")
    index = index_of(ctr, f"{name}:cp")
    assert index["annotations"] == {"org.opencontainers.image.ref.name": image, "io.containerd.checkpoint.runtime": "io.containerd.runc.v2",
                                    "io.containerd.checkpoint.snapshotter": "overlayfs"}
    assert kinds(index)[0] == "checkpoint.runtime.options+proto" and kinds(index)[-3:] == [
        "criu.checkpoint.criu.tar", "checkpoint.config.v1+proto", "checkpoint.options.v1+proto"]
    assert status_of(ctr, name) == "RUNNING"
    ctr("tasks", "rm", "-f", name)
    ctr("containers", "rm", name)
    ctr("containers", "restore", "--rw", "--live", name, f"{name}:cp")
    assert status_of(ctr, name) == "RUNNING" and (tmp_path / "restored").read_text() == f"frozen {name}\n"
    assert ctr.out("tasks", "exec", "--exec-id", "f", name, "sh", "-c", "cat /here; ls /etc/group 2>&1 | wc -l").split()[0] == "changed"
    assert ctr("tasks", "exec", "--exec-id", "g", name, "test", "-e", "/etc/group", check=False).returncode == 1
    ctr("images", "rm", f"{name}:cp")


def test_container_is_restored_without_its_task(ctr, image, name):
    start(ctr, image, name)
    ctr("containers", "checkpoint", name, f"{name}:cp")
    ctr("tasks", "rm", "-f", name)
    ctr("containers", "rm", name)
    ctr("containers", "restore", name, f"{name}:cp")
    assert status_of(ctr, name) == "RUNNING"
    p = ctr("containers", "restore", "--live", f"{name}-2", f"{name}:cp", check=False)
    assert p.returncode == 1 and "the checkpoint has no application/vnd.containerd.container.criu" in p.stderr
    ctr("containers", "rm", f"{name}-2", check=False)
    ctr("images", "rm", f"{name}:cp")


def test_image_that_is_no_checkpoint_is_refused(ctr, image, name):
    p = ctr("containers", "restore", name, image, check=False)
    assert p.returncode == 1 and name not in ctr.quiet("containers", "ls", "-q")
    p = ctr("containers", "restore", name, "nothing:latest", check=False)
    assert p.returncode == 1 and "not found" in p.stderr


def test_runtime_that_cannot_checkpoint_says_why_and_goes_on(ctr, image, name, tmp_path):
    start(ctr, image, name)
    p = ctr("tasks", "checkpoint", "--image-path", tmp_path / "img", name, check=False)
    assert p.returncode == 1 and "OCI runtime checkpoint failed" in p.stderr
    assert status_of(ctr, name) == "RUNNING"
    before = ctr.out("images", "ls", "-q")
    assert ctr("tasks", "checkpoint", name, check=False).returncode == 1
    assert ctr.out("images", "ls", "-q") == before and status_of(ctr, name) == "RUNNING"
    assert not list(pathlib.Path("/tmp").glob("ctrd-checkpoint*"))


# ---- start, stop ----

def test_container_is_stopped_and_started_again(ctr, image, name):
    start(ctr, image, name, None, "sh", "-c", "rm -f /ready; trap 'rm /ready; exit 0' TERM; touch /ready; while :; do sleep 0.02; done")
    ready = lambda: ctr("tasks", "exec", "--exec-id", "r", name, "test", "-e", "/ready", check=False).returncode == 0
    until("the trap", ready)
    assert ctr.out("containers", "stop", "--time", "1000", name).split() == [name]
    assert status_of(ctr, name) is None
    ctr("containers", "start", "-d", "--null-io", name)
    assert status_of(ctr, name) == "RUNNING"
    until("the trap", ready)
    assert ctr.out("containers", "stop", "--time", "1000", name).split() == [name]
    assert ctr.out("containers", "stop", name).split() == [name]  # is stopped
    assert ctr("containers", "stop", "nobody", check=False).returncode == 1


def test_what_does_not_stop_is_killed(ctr, image, name):
    start(ctr, image, name, None, "sh", "-c", "trap '' TERM; while :; do sleep 0.02; done")
    ctr("tasks", "pause", name)
    ctr("containers", "stop", "-t", "1", name)
    assert status_of(ctr, name) is None


def test_start_replaces_a_task_that_has_ended(ctr, image, name):
    start(ctr, image, name, None, "true")
    until("the end of the task", lambda: status_of(ctr, name) == "STOPPED")
    ctr("containers", "start", "-d", "--null-io", name)
    until("the end of the task", lambda: status_of(ctr, name) == "STOPPED")
