# SPDX-License-Identifier: Apache-2.0
"""Pods on cgroup version 2 as the kubelet makes them: groups of pods with limits, by cgroupfs and by systemd; unified keys, swap, huge
pages, resizing in place, pressure in the statistics, and who is killed when memory runs out."""
import pathlib

import grpc
import pytest

import cgroups
from cri import cri_daemon, fails
from harness import run, until

MB = 1 << 20
CONFIG = """
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
disable_hugetlb_controller = false
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{which}]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{which}.options]
BinaryName = '/usr/{bin}/{program}'
SystemdCgroup = {systemd}
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = '{which}'
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net}'
"""


class Groups:
    """Groups of pods, made in the way of one driver of the kubelet."""

    def __init__(self, systemd):
        self.systemd, self.made = systemd, []

    def pod(self, name, **limits):
        """(what the kubelet writes as cgroup_parent, the directory)"""
        if self.systemd:
            slice_ = f"vmtest-{name}.slice"
            # Made as the kubelet does it: a transient slice, whose limits are systemd's.
            properties = [f"MemoryMax={v}" if k == "memory.max" else f"{k}={v}" for k, v in limits.items()]
            run(["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
                 "ssa(sv)a(sa(sv))", slice_, "replace", str(len(properties)), *[w for p in properties for w in (p.split("=")[0], "t", p.split("=")[1])], "0"])
            d = cgroups.TOP / "vmtest.slice" / slice_
            until("the slice", d.exists)
            self.made.append(slice_)
            return slice_, d
        top = cgroups.TOP / "vmtest"
        d = top / name
        for g in (top, d):
            g.mkdir(exist_ok=True)
            (g.parent / "cgroup.subtree_control").write_text("+cpuset +cpu +io +memory +hugetlb +pids")
        for k, v in limits.items():
            (d / k).write_text(str(v))
        self.made.append(d)
        return f"/vmtest/{name}", d

    def close(self):
        for g in self.made:
            if self.systemd:
                run(["systemctl", "stop", g], check=False)
            else:
                until("the pod's group to be empty", lambda: _rmdir(g), 60)


def _rmdir(d):
    try:
        d.rmdir()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module", params=["runc", "crun", "runc-systemd", "crun-systemd"])
def world(request, stubs, busybox_layout):
    program, _, systemd = request.param.partition("-")
    config = lambda net: CONFIG.format(which=request.param, bin="sbin" if program == "runc" else "bin", program=program,
                                       systemd="true" if systemd else "false", net=net)
    with cri_daemon(stubs, busybox_layout, config) as (cri, image):
        yield cri, image, bool(systemd)


@pytest.fixture
def cri(world):
    yield world[0]
    world[0].daemon.clear()


@pytest.fixture
def image(world):
    return world[1]


@pytest.fixture
def groups(world):
    """To be named before `cri`: the pods go first."""
    g = Groups(world[2])
    yield g
    g.close()


def container_group(cri, k):
    """The group that has the limits."""
    return cgroups.TOP / cgroups.path(cri.verbose(k)["pid"], "").lstrip("/")


def in_pod(cri, groups, name, image, command=("sleep", "1000"), limits=None, resources=None, **fields):
    """(pod, its group's directory, container, its group's directory)"""
    pb = cri.pb
    parent, directory = groups.pod(name, **(limits or {}))
    conf = cri.pod(name, linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    p = cri.run_pod(conf)
    linux = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(**resources)) if resources else None
    k = cri.start(p, conf, cri.container("c", image, command, linux=linux, **fields))
    return p, directory, k, container_group(cri, k)


def number(directory, file):
    return int((directory / file).read_text())


def test_driver_is_told_to_the_kubelet(cri, groups):
    assert cri.RuntimeConfig().linux.cgroup_driver == (cri.pb.SYSTEMD if groups.systemd else cri.pb.CGROUPFS)


def test_pods_groups_hold_their_containers(groups, cri, image):
    p, pod, k, group = in_pod(cri, groups, "place", image)
    wanted = pod / (f"cri-containerd-{k}.scope" if groups.systemd else k)
    assert group in (wanted, wanted / "container")
    sandbox = pod / (f"cri-containerd-{p}.scope" if groups.systemd else p)
    assert sandbox.is_dir()
    cri.StopPodSandbox(pod_sandbox_id=p)
    cri.RemovePodSandbox(pod_sandbox_id=p)
    until("the groups to go", lambda: not [d for d in pod.iterdir() if d.is_dir()])


def test_limits_are_set_and_resized_in_place(groups, cri, image):
    pb = cri.pb
    res = dict(memory_limit_in_bytes=64 * MB, cpu_shares=512, cpu_period=100000, cpu_quota=50000, cpuset_cpus="0",
               unified={"memory.high": str(48 * MB), "memory.oom.group": "1", "pids.max": "77"})
    p, _, k, group = in_pod(cri, groups, "resize", image, resources=res)
    pid = cri.verbose(k)["pid"]
    assert (number(group, "memory.max"), number(group, "memory.high"), number(group, "memory.oom.group"), number(group, "pids.max")) == (64 * MB, 48 * MB, 1, 77)
    # Without a word about swap there is none.
    assert (group / "memory.swap.max").read_text() == "0\n"
    assert (group / "cpu.max").read_text() == "50000 100000\n" and (group / "cpuset.cpus").read_text() == "0\n"
    weight = number(group, "cpu.weight")
    assert 1 < weight < 100
    cri.UpdateContainerResources(container_id=k, linux=pb.LinuxContainerResources(
        memory_limit_in_bytes=128 * MB, cpu_shares=2048, cpu_period=100000, cpu_quota=150000, unified={"memory.high": "max", "memory.low": str(MB)}))
    assert (number(group, "memory.max"), (group / "memory.high").read_text(), number(group, "memory.low")) == (128 * MB, "max\n", MB)
    assert (group / "memory.swap.max").read_text() == "0\n"
    assert (group / "cpu.max").read_text() == "150000 100000\n" and number(group, "cpu.weight") > weight
    assert number(group, "pids.max") == 77 and (group / "cpuset.cpus").read_text() == "0\n", "what was not said stays"
    # Smaller again, too, while it runs.
    cri.UpdateContainerResources(container_id=k, linux=pb.LinuxContainerResources(memory_limit_in_bytes=32 * MB))
    assert number(group, "memory.max") == 32 * MB and (group / "memory.swap.max").read_text() == "0\n"
    s = cri.status(k).resources.linux
    assert (s.memory_limit_in_bytes, s.cpu_shares, s.cpu_quota) == (32 * MB, 2048, 150000)
    assert dict(s.unified)["memory.low"] == str(MB) and cri.verbose(k)["pid"] == pid
    stats = cri.ContainerStats(container_id=k).stats
    assert stats.memory.available_bytes.value == 32 * MB - stats.memory.working_set_bytes.value


def test_resize_that_the_kernel_refuses_changes_nothing(groups, cri, image):
    pb = cri.pb
    _, _, k, group = in_pod(cri, groups, "refuse", image, resources=dict(memory_limit_in_bytes=64 * MB))
    fails(grpc.StatusCode.UNKNOWN, cri.UpdateContainerResources, container_id=k, linux=pb.LinuxContainerResources(cpuset_cpus="4711"))
    assert cri.status(k).resources.linux.cpuset_cpus == "" and number(group, "memory.max") == 64 * MB
    assert cri.status(k).state == pb.CONTAINER_RUNNING


def test_container_killed_for_memory_says_so(groups, cri, image):
    _, _, k, _ = in_pod(cri, groups, "oom", image, ("/bin/sh", "-c", "exec tail /dev/zero"), resources=dict(memory_limit_in_bytes=16 * MB))
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (137, "OOMKilled")


def test_child_killed_for_memory_takes_the_group_with_it_when_asked(groups, cri, image):
    """memory.oom.group, which the kubelet sets for every container."""
    script = ("/bin/sh", "-c", "tail /dev/zero; sleep 1000")
    _, _, k, _ = in_pod(cri, groups, "oomgroup", image, script, resources=dict(memory_limit_in_bytes=16 * MB, unified={"memory.oom.group": "1"}))
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (137, "OOMKilled")


def test_container_killed_by_the_pods_limit_says_so(groups, cri, image):
    _, _, k, _ = in_pod(cri, groups, "oompod", image, ("/bin/sh", "-c", "exec tail /dev/zero"), limits={"memory.max": 32 * MB})
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (137, "OOMKilled")


def test_statistics_have_pressure_and_the_pods_own_numbers(groups, cri, image):
    p, pod, k, group = in_pod(cri, groups, "stats", image, ("/bin/sh", "-c", "while :; do :; done"),
                              resources=dict(memory_limit_in_bytes=64 * MB, cpu_period=100000, cpu_quota=10000))
    until("pressure", lambda: int((group / "cpu.pressure").read_text().split("total=")[1].split()[0]) > 200_000)
    s = cri.ContainerStats(container_id=k).stats
    # The kernel counts microseconds, the CRI nanoseconds.
    total = lambda d, f: 1000 * int((d / f"{f}.pressure").read_text().split("total=")[1].split()[0])
    assert 200_000_000 <= s.cpu.psi.Some.Total <= total(group, "cpu")
    assert s.memory.HasField("psi") and s.memory.psi.Some.Total <= total(group, "memory")
    assert s.io.HasField("psi") and s.io.psi.Full.Total <= total(group, "io")
    assert s.swap.HasField("swap_usage_bytes") and s.swap.swap_usage_bytes.value == 0
    # The kernel brings each group's sums up to date every two seconds, so groups cannot be compared.
    l = until("the pod's pressure", lambda: (x := cri.PodSandboxStats(pod_sandbox_id=p).stats.linux).cpu.psi.Some.Total > 0 and x)
    assert l.cpu.psi.Some.Total <= total(pod, "cpu")
    assert l.memory.HasField("psi") and l.io.HasField("psi")
    assert l.memory.usage_bytes.value >= s.memory.usage_bytes.value // 2 > 0
    assert l.process.process_count.value == 1 and l.network.default_interface.name == "eth0"
    metrics = {m.name: m.value.value for m in cri.ListPodSandboxMetrics().pod_metrics[0].container_metrics[0].metrics}
    assert metrics["container_spec_memory_limit_bytes"] == 64 * MB and metrics["container_cpu_cfs_throttled_periods_total"] > 0


def test_privileged_container_sees_the_hosts_groups(groups, cri, image):
    pb = cri.pb
    parent, _ = groups.pod("priv")
    conf = cri.pod("priv", linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent, security_context=pb.LinuxSandboxSecurityContext(privileged=True)))
    p = cri.run_pod(conf)
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    k = cri.start(p, conf, cri.container("c", image, linux=linux))
    out = lambda k, script: cri.ExecSync(container_id=k, cmd=["/bin/sh", "-c", script]).stdout.decode()
    assert k in out(k, "cat /proc/self/cgroup") and "system.slice" in out(k, "ls /sys/fs/cgroup")
    assert out(k, "mkdir /sys/fs/cgroup/vmtest-made && rmdir /sys/fs/cgroup/vmtest-made && echo wrote") == "wrote\n"
    plain = cri.start(p, conf, cri.container("plain", image))
    assert out(plain, "cat /proc/self/cgroup").strip() == "0::/" and "Read-only" in out(plain, "mkdir /sys/fs/cgroup/x 2>&1")


@pytest.fixture
def swap(tmp_path):
    file = tmp_path / "swap"
    file.write_bytes(b"\0" * (96 * MB))
    file.chmod(0o600)
    run(["mkswap", file])
    run(["swapon", file])
    yield
    run(["swapoff", file], timeout=600)


def test_swap_is_limited_and_counted(swap, groups, cri, image):
    res = dict(memory_limit_in_bytes=16 * MB, memory_swap_limit_in_bytes=80 * MB)
    p, _, k, group = in_pod(cri, groups, "swap", image, ("/bin/sh", "-c", "head -c 30000000 /dev/zero | tail; sleep 1000"), resources=res)
    assert number(group, "memory.swap.max") == 64 * MB
    s = until("swapped memory", lambda: (x := cri.ContainerStats(container_id=k).stats.swap).swap_usage_bytes.value > MB and x)
    assert s.swap_available_bytes.value + s.swap_usage_bytes.value == 64 * MB
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
    cri.StopContainer(container_id=k)


def test_huge_pages_are_limited(groups, cri, image):
    pb = cri.pb
    limit = pb.HugepageLimit(page_size="2MB", limit=4 * MB)
    _, _, k, group = in_pod(cri, groups, "huge", image, resources=dict(hugepage_limits=[limit]))
    assert number(group, "hugetlb.2MB.max") == 4 * MB


def test_restart_of_the_daemon_keeps_counting_and_seeing_kills(groups, cri, image):
    p, _, k, _ = in_pod(cri, groups, "again", image, ("/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exec tail /dev/zero"),
                        resources=dict(memory_limit_in_bytes=16 * MB))
    used = cri.ContainerStats(container_id=k).stats.cpu.usage_core_nano_seconds.value
    root = pathlib.Path(f"/proc/{cri.verbose(k)['pid']}/root")
    cri.daemon.kill()
    cri.daemon.start()
    cri.connect()
    assert cri.ContainerStats(container_id=k).stats.cpu.usage_core_nano_seconds.value >= used
    (root / "go").touch()
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (137, "OOMKilled")
