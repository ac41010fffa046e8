# SPDX-License-Identifier: Apache-2.0
"""AppArmor, enforced by a kernel that has it: the default profile that the daemon or ctr makes, profiles of the administrator's, and
containers that shall have none."""
import pathlib

import grpc
import pytest

from cri import fails
from cri_fixtures import cri, cri_and_image
from harness import run, until

PROFILES = pathlib.Path("/sys/kernel/security/apparmor/profiles")
DEFAULT = "cri-containerd.apparmor.d"
# Each is allowed to a container with all capabilities, and refused by the default profile.
REFUSED = {"a setting of the kernel's": "echo 60 > /proc/sys/vm/swappiness", "sysrq": "echo h > /proc/sysrq-trigger",
           "a mount": "mount -t tmpfs none /mnt && umount /mnt", "a device's setting": "echo add > /sys/class/net/lo/uevent"}
PREPARE = "mkdir -p /mnt; "


def loaded():
    return {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1].strip("()") for line in PROFILES.read_text().splitlines()}


def unload(name):
    if name in loaded():
        pathlib.Path("/sys/kernel/security/apparmor/.remove").write_text(name)


@pytest.fixture
def profile(name):
    """A name for a profile."""
    n = f"vmtest-{name[:40]}"
    yield n
    unload(n)


def load(text):
    run(["apparmor_parser", "-Kr"], input=text)


@pytest.fixture(params=["runc", "crun"])
def rt(request):
    return ["--runc-binary", request.param]


def test_kernel_has_it():
    assert pathlib.Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n" and PROFILES.exists()


@pytest.mark.parametrize("what", REFUSED)
def test_default_profile_of_ctr_refuses(ctr, image, rt, name, profile, what):
    script = PREPARE + REFUSED[what]
    free = ctr("run", "--rm", *rt, "--privileged", image, name, "sh", "-c", script, check=False)
    assert free.returncode == 0, free.stderr
    p = ctr("run", "--rm", *rt, "--privileged", "--apparmor-default-profile", profile, image, name, "sh", "-c", script, check=False)
    assert p.returncode != 0 and ("ermission denied" in p.stderr or "not permitted" in p.stderr), p.stderr
    assert loaded()[profile] == "enforce"


def test_default_profile_of_ctr_allows_ordinary_work(ctr, image, rt, name, profile):
    script = "cat /proc/self/attr/current; echo x > /file && cat /file; sleep 100 & kill $! && wait $!; echo $?; echo $$ > /tmp/pid && cat /proc/$$/stat > /dev/null && echo end"
    out = ctr.out("run", "--rm", *rt, "--apparmor-default-profile", profile, image, name, "sh", "-c", "mkdir -p /tmp; " + script).splitlines()
    assert out == [f"{profile} (enforce)", "x", "143", "end"]


def test_confined_container_is_signalled_and_entered_from_outside(ctr, image, rt, name, profile):
    ctr("run", "-d", *rt, "--apparmor-default-profile", profile, image, name, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    assert ctr.out("tasks", "exec", "--exec-id", "e", name, "cat", "/proc/self/attr/current") == f"{profile} (enforce)\n"
    p = ctr("tasks", "exec", "--exec-id", "w", name, "sh", "-c", "echo h > /proc/sysrq-trigger", check=False)
    assert p.returncode != 0
    ctr("tasks", "kill", "-s", "KILL", name)
    until("its end", lambda: "STOPPED" in ctr.out("tasks", "ls"))


def test_profile_of_the_administrator(ctr, image, rt, name, profile):
    load(f'profile "{profile}" flags=(attach_disconnected) {{ file, capability, network, signal, deny /secret/** w, }}')
    out = ctr.out("run", "--rm", *rt, "--apparmor-profile", profile, image, name, "sh", "-c",
                  "cat /proc/self/attr/current; mkdir /secret; echo x 2>&1 > /secret/f || echo refused; echo x > /other && echo written").splitlines()
    assert out[0] == f"{profile} (enforce)" and out[-2:] == ["refused", "written"]


def test_profile_that_is_not_loaded_fails(ctr, image, rt, name):
    p = ctr("run", "--rm", *rt, "--apparmor-profile", "vmtest-nowhere", image, name, "true", check=False)
    assert p.returncode != 0 and ("apparmor" in p.stderr.lower() or "/attr/" in p.stderr)


# ---- pods ----


@pytest.fixture
def pod_image(cri_and_image):
    return cri_and_image[1]


def container(cri, image, pod_privileged=False, **security):
    pb = cri.pb
    conf = cri.pod("p", linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(privileged=pod_privileged)))
    p = cri.run_pod(conf)
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**security))
    return cri.start(p, conf, cri.container("c", image, linux=linux))


def out(cri, k, script):
    r = cri.ExecSync(container_id=k, cmd=["/bin/sh", "-c", script])
    return (r.stdout + r.stderr).decode().strip()


def current(cri, k):
    mine, entered = pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/attr/current").read_text().strip(), out(cri, k, "cat /proc/self/attr/current")
    assert mine == entered
    return mine


@pytest.mark.parametrize("asked", ["nothing", "default", "old"])
def test_container_of_a_pod_gets_the_default_profile_which_is_loaded_when_needed(cri, pod_image, asked):
    pb = cri.pb
    cri.daemon.clear()
    until("the profile to be unused", lambda: _unloaded(DEFAULT))
    security = {"nothing": {}, "default": {"apparmor": pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)},
                "old": {"apparmor_profile": "runtime/default"}}[asked]
    k = container(cri, pod_image, capabilities=pb.Capability(add_capabilities=["ALL"]), **security)
    assert current(cri, k) == f"{DEFAULT} (enforce)" and loaded()[DEFAULT] == "enforce"
    assert "ermission denied" in out(cri, k, PREPARE + REFUSED["a mount"]) and "end" in out(cri, k, "echo x > /file && echo end")
    cri.StopContainer(container_id=k, timeout=20)
    assert cri.status(k).state == pb.CONTAINER_EXITED


def _unloaded(name):
    unload(name)
    return name not in loaded()


@pytest.mark.parametrize("how", ["unconfined", "old unconfined", "privileged"])
def test_container_of_a_pod_may_be_unconfined(cri, pod_image, how):
    pb = cri.pb
    security = {"unconfined": {"apparmor": pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)}, "old unconfined": {"apparmor_profile": "unconfined"},
                "privileged": {"privileged": True}}[how]
    k = container(cri, pod_image, pod_privileged=how == "privileged", **security)
    assert current(cri, k) == "unconfined"


def test_container_of_a_pod_gets_a_profile_of_the_host(cri, pod_image, profile):
    pb = cri.pb
    load(f'profile "{profile}" flags=(attach_disconnected) {{ file, capability, network, signal, ptrace, deny /secret/** w, }}')
    k = container(cri, pod_image, apparmor=pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=profile))
    assert current(cri, k) == f"{profile} (enforce)"
    assert "ermission denied" in out(cri, k, "mkdir -p /secret; echo x > /secret/f")
    cri.daemon.clear()
    k = container(cri, pod_image, apparmor_profile=f"localhost/{profile}")
    assert current(cri, k) == f"{profile} (enforce)"


def test_profile_of_the_host_must_be_there(cri, pod_image):
    pb = cri.pb
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        apparmor=pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref="vmtest-nowhere")))
    try:
        k = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("c", pod_image, linux=linux), sandbox_config=conf).container_id
    except grpc.RpcError as e:
        assert "vmtest-nowhere" in e.details()
    else:
        assert "apparmor" in fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=k).lower()
