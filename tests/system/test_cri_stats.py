# SPDX-License-Identifier: Apache-2.0
"""Statistics and metrics of pods and containers by the CRI, beside what the kernel says itself."""
import json
import time
import urllib.request

import grpc
import pytest

import cgroups
from cri import cri_daemon, fails
from cri_fixtures import cri, image
from harness import run, until

METRICS_PORT = 1338  # the daemon has a network namespace of its own
BUSY = ("/bin/sh", "-c", "while :; do :; done")


@pytest.fixture(scope="module")
def cri_and_image(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout, f"[metrics]\naddress = '127.0.0.1:{METRICS_PORT}'") as v:
        yield v


@pytest.fixture
def parent(name):
    """A group for a pod, as the kubelet makes one."""
    yield f"/{name}"
    for d in cgroups.directories(name):
        until("the group to be empty", lambda: _rmdir(d))


def _rmdir(d):
    try:
        d.rmdir()
        return True
    except OSError:
        return False


def cpu_time(directory):
    """Nanoseconds of a group's directory."""
    if cgroups.UNIFIED:
        return int((directory / "cpu.stat").read_text().split()[1]) * 1000
    return int((directory / "cpuacct.usage").read_text())


def test_running_container_has_cpu_memory_and_writable_layer(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, ("/bin/sh", "-c", "head -c 300000 /dev/zero > /file; while :; do :; done"), labels={"a": "b"}))
    s = cri.ContainerStats(container_id=k).stats
    assert s.attributes.id == k and s.attributes.metadata.name == "c" and s.attributes.labels == {"a": "b"}
    assert s.cpu.usage_core_nano_seconds.value > 0 and abs(s.cpu.timestamp / 1e9 - time.time()) < 60
    assert not s.cpu.HasField("usage_nano_cores"), "there is no rate before the second question"
    assert 0 < s.memory.working_set_bytes.value <= s.memory.usage_bytes.value < 1 << 30
    assert s.memory.available_bytes.value == 0, "there is no limit"
    assert s.memory.page_faults.value > 0
    assert s.cpu.usage_core_nano_seconds.value <= cpu_time(cgroups.file(cri.verbose(k)["pid"], "cpuacct", "", ""))

    def rated():
        s = cri.ContainerStats(container_id=k[:12]).stats
        return s if s.cpu.HasField("usage_nano_cores") else None
    # Of a moment in which others had the processors it is small.
    until("the rate of who is busy", lambda: (s := rated()) and 10_000_000 < s.cpu.usage_nano_cores.value < 1_500_000_000)
    layer = until("the layer to be measured", lambda: (l := cri.ContainerStats(container_id=k).stats.writable_layer).used_bytes.value >= 300000 and l)
    assert layer.inodes_used.value >= 2 and layer.timestamp > 0
    assert layer.fs_id.mountpoint == str(cri.daemon.root / "io.containerd.snapshotter.v1.overlayfs")


def test_memory_limit_makes_available_memory(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    limits = cri.pb.LinuxContainerConfig(resources=cri.pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    k = cri.start(p, conf, cri.container("c", image, linux=limits))
    m = cri.ContainerStats(container_id=k).stats.memory
    assert m.available_bytes.value == (64 << 20) - m.working_set_bytes.value


def test_only_running_containers_have_cpu_and_memory(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    created = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("created", image), sandbox_config=conf).container_id
    ended = cri.start(p, conf, cri.container("ended", image, ("/bin/true",)))
    cri.exited(ended)
    running = cri.start(p, conf, cri.container("running", image))
    found = {s.attributes.id: s for s in cri.ListContainerStats().stats}
    assert set(found) == {created, ended, running}
    assert {i: (s.HasField("cpu"), s.HasField("memory")) for i, s in found.items()} == {created: (False, False), ended: (False, False), running: (True, True)}
    assert all(s.HasField("writable_layer") for s in found.values())


def test_lists_are_filtered(cri, image):
    pods, ids = {}, {}
    for n in "ab":
        conf = cri.pod(n, labels={"pod": n})
        pods[n] = cri.run_pod(conf)
        ids[n] = cri.start(pods[n], conf, cri.container(f"c{n}", image, labels={"which": n}))
    pb = cri.pb
    listed = lambda **f: sorted(s.attributes.id for s in cri.ListContainerStats(filter=pb.ContainerStatsFilter(**f)).stats)
    assert listed() == sorted(ids.values())
    assert listed(id=ids["a"][:20]) == [ids["a"]]
    assert listed(pod_sandbox_id=pods["b"][:20]) == [ids["b"]]
    assert listed(label_selector={"which": "a"}) == [ids["a"]]
    assert listed(label_selector={"which": "c"}) == [] and listed(id="ffff" * 16) == []
    assert [s.attributes.id for m in cri.StreamContainerStats(filter=pb.ContainerStatsFilter(label_selector={"which": "b"})) for s in m.container_stats] == [ids["b"]]
    podded = lambda **f: sorted(s.attributes.id for s in cri.ListPodSandboxStats(filter=pb.PodSandboxStatsFilter(**f)).stats)
    assert podded() == sorted(pods.values()) and podded(id=pods["a"][:20]) == [pods["a"]] and podded(label_selector={"pod": "b"}) == [pods["b"]]
    assert [s.attributes.id for m in cri.StreamPodSandboxStats(filter=pb.PodSandboxStatsFilter(id=pods["a"])) for s in m.pod_sandbox_stats] == [pods["a"]]


def test_unknown_ids_are_not_found(cri):
    assert "an error occurred when try to find container" in fails(grpc.StatusCode.NOT_FOUND, cri.ContainerStats, container_id="ab" * 32)
    assert "an error occurred when try to find sandbox" in fails(grpc.StatusCode.NOT_FOUND, cri.PodSandboxStats, pod_sandbox_id="ab" * 32)


def test_pod_counts_its_group_its_network_and_its_processes(parent, cri, image):
    conf = cri.pod("p", labels={"x": "y"}, linux=cri.pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    p = cri.run_pod(conf)
    one = cri.start(p, conf, cri.container("one", image, ("/bin/sh", "-c", "sleep 1000 & sleep 1001 & wait")))
    two = cri.start(p, conf, cri.container("two", image, ("sleep", "1002")))
    pid = cri.verbose(one)["pid"]
    until("its processes", lambda: cri.PodSandboxStats(pod_sandbox_id=p).stats.linux.process.process_count.value == 4)
    gateway = cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip.rpartition(".")[0] + ".1"
    run(["nsenter", "-t", str(pid), "-n", "ping", "-c", "1", gateway], check=False)
    s = cri.PodSandboxStats(pod_sandbox_id=p).stats
    assert s.attributes.id == p and s.attributes.metadata.name == "p" and s.attributes.labels == {"x": "y"}
    assert {c.attributes.id for c in s.linux.containers} == {one, two}
    total = s.linux.memory.usage_bytes.value
    assert total >= sum(c.memory.usage_bytes.value for c in s.linux.containers) > 0
    assert s.linux.cpu.usage_core_nano_seconds.value <= cpu_time(cgroups.root("cpuacct") / parent[1:])
    assert s.linux.cpu.usage_core_nano_seconds.value > sum(c.cpu.usage_core_nano_seconds.value for c in s.linux.containers)
    net = s.linux.network.default_interface
    assert net.name == "eth0"
    device = next(line.split() for line in run(["nsenter", "-t", str(pid), "-n", "cat", "/proc/thread-self/net/dev"]).stdout.splitlines() if "eth0:" in line)
    assert 0 < net.tx_bytes.value <= int(device[9]) and net.rx_bytes.value <= int(device[1])
    assert "lo" not in [i.name for i in s.linux.network.interfaces]


def test_pod_without_a_group_is_the_sum_of_its_containers(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    for n in ("one", "two"):
        cri.start(p, conf, cri.container(n, image))
    s = cri.PodSandboxStats(pod_sandbox_id=p).stats.linux
    assert s.memory.usage_bytes.value == sum(c.memory.usage_bytes.value for c in s.containers) > 0
    assert s.process.process_count.value >= 2


def test_pod_that_is_stopped_is_unavailable_and_not_listed(cri):
    p = cri.run_pod(cri.pod("p"))
    assert cri.PodSandboxStats(pod_sandbox_id=p).stats.attributes.id == p
    cri.StopPodSandbox(pod_sandbox_id=p)
    assert "not in ready state" in fails(grpc.StatusCode.UNAVAILABLE, cri.PodSandboxStats, pod_sandbox_id=p)
    assert not cri.ListPodSandboxStats().stats


def test_process_that_moves_into_a_group_below_is_still_counted(cri, image):
    """An init system makes groups of its own below its container's."""
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image))
    pid = cri.verbose(k)["pid"]
    group = cgroups.file(pid, "memory", "", "")
    below = group / "below"
    below.mkdir()
    (below / "cgroup.procs").write_text(str(pid))
    if cgroups.UNIFIED:  # where only a group without processes has controllers for those below it
        for child in group.joinpath("cgroup.procs").read_text().split():
            (below / "cgroup.procs").write_text(child)
        (group / "cgroup.subtree_control").write_text("+memory +pids")
    usage = below / ("memory.current" if cgroups.UNIFIED else "memory.usage_in_bytes")
    used = cri.ContainerStats(container_id=k).stats.memory.usage_bytes.value
    assert used >= int(usage.read_text()) and usage.read_text().strip() != str(used)
    assert cri.PodSandboxStats(pod_sandbox_id=p).stats.linux.process.process_count.value >= 1
    if cgroups.UNIFIED:
        (group / "cgroup.subtree_control").write_text("-memory -pids")
    (group / "cgroup.procs").write_text(str(pid))
    below.rmdir()


def test_statistics_go_on_after_a_restart(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image, BUSY))
    before = cri.ContainerStats(container_id=k).stats.cpu.usage_core_nano_seconds.value
    cri.daemon.stop()
    cri.daemon.start()
    cri.connect()
    s = cri.ContainerStats(container_id=k).stats
    assert s.cpu.usage_core_nano_seconds.value > before and s.memory.usage_bytes.value > 0
    assert cri.PodSandboxStats(pod_sandbox_id=p).stats.linux.network.default_interface.name == "eth0"


BASE = ["pod", "namespace", "container", "id", "image"]
EXTRA = {"container_memory_failures_total": ["failure_type", "scope"], "container_ulimits_soft": ["ulimit"],
         "container_blkio_device_usage_total": ["device", "major", "minor", "operation"]}


def test_every_metric_is_described(cri):
    found = {d.name: d for d in cri.ListMetricDescriptors().descriptors}
    assert len(found) == 49 and all(d.help for d in found.values())
    for name, d in found.items():
        extra = EXTRA.get(name) or (["device"] if "_fs_" in name else ["interface"] if "_network_" in name else [])
        assert list(d.label_keys) == BASE + extra, name


def test_metrics_have_their_described_labels_and_true_values(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    limits = cri.pb.LinuxContainerConfig(resources=cri.pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=512, cpu_period=100000, cpu_quota=50000))
    command = ("/bin/sh", "-c", "busybox httpd -f -p 99 & while :; do :; done & wait")
    k = cri.start(p, conf, cri.container("c", image, command, linux=limits))
    created = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("created", image), sandbox_config=conf).container_id
    keys = {d.name: len(d.label_keys) for d in cri.ListMetricDescriptors().descriptors}

    def collect():
        (pod,) = cri.ListPodSandboxMetrics().pod_metrics
        (c,) = pod.container_metrics
        return pod, c, {(m.name, *m.label_values[5:]): m.value.value for m in c.metrics}

    pod, c, values = until("its processes and the server's socket", lambda: (v := collect())[2].get(("container_processes",)) == 3 and v[2][("container_sockets",)] >= 1 and v)
    assert pod.pod_sandbox_id == p and c.container_id == k and created
    assert all(len(m.label_values) == keys[m.name] for m in [*pod.metrics, *c.metrics])
    assert list(c.metrics[0].label_values) == ["p", "test", "c", k, image]
    assert all(list(m.label_values[:4]) == ["p", "test", "", p] for m in pod.metrics)
    assert {m.name for m in pod.metrics} == {n for n in keys if "_network_" in n} and {m.label_values[5] for m in pod.metrics} == {"eth0"}
    # 0 and more of a device are told; all others have a value.
    assert {n for n, *_ in values} >= {n for n in keys if "_network_" not in n and "_fs_reads" not in n and "_fs_writes" not in n and "_blkio_" not in n}
    assert values[("container_spec_memory_limit_bytes",)] == 64 << 20
    assert values[("container_spec_cpu_shares",)] == 512 and values[("container_spec_cpu_period",)] == 100000
    assert values[("container_threads",)] == 3
    assert values[("container_file_descriptors",)] >= 3 * 3 + 1
    assert values[("container_memory_failures_total", "pgfault", "hierarchy")] >= values[("container_memory_failures_total", "pgfault", "container")] > 0
    assert 0 <= time.time() - values[("container_start_time_seconds",)] < 120
    assert values[("container_ulimits_soft", "max_open_files")] > 0
    (device,) = [d for n, *d in values if n == "container_fs_limit_bytes"]
    assert device[0]
    until("CPU time of whole seconds", lambda: collect()[2][("container_cpu_usage_seconds_total",)] >= 1)
    assert collect()[2][("container_cpu_cfs_periods_total",)] > 0
    streamed = [m for s in cri.StreamPodSandboxMetrics() for m in s.pod_sandbox_metrics]
    assert [m.pod_sandbox_id for m in streamed] == [p] and len(streamed[0].container_metrics) == 1


def test_pod_that_is_stopped_has_no_metrics(cri, image):
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    cri.start(p, conf, cri.container("c", image))
    assert cri.ListPodSandboxMetrics().pod_metrics[0].metrics
    cri.StopPodSandbox(pod_sandbox_id=p)
    assert not cri.ListPodSandboxMetrics().pod_metrics


def test_metrics_server_has_the_times_of_operations(cri, image):
    def scrape():
        text = cri.daemon.netns.inside(lambda: urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/v1/metrics", timeout=90).read().decode())
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("containerd_cri_"))}

    before = scrape()
    conf = cri.pod("p")
    p = cri.run_pod(conf)
    k = cri.start(p, conf, cri.container("c", image))
    fails(grpc.StatusCode.UNKNOWN, cri.StartContainer, container_id=k)
    cri.StopContainer(container_id=k)
    cri.RemoveContainer(container_id=k)
    cri.StopPodSandbox(pod_sandbox_id=p)
    cri.RemovePodSandbox(pod_sandbox_id=p)
    cri.ListContainers()
    after = scrape()
    grown = {n: after[n] - before.get(n, 0) for n in after if n.startswith("containerd_cri_") and "_count" in n}
    runc = 'seconds_count{runtime="io.containerd.runc.v2"}'
    assert grown['containerd_cri_sandbox_runtime_stop_seconds_count{runtime=""}'] == 2  # by the removal once more
    assert grown['containerd_cri_sandbox_remove_seconds_count{runtime=""}'] == 1
    for name in ("sandbox_runtime_create", "container_create", "container_start", "container_stop", "container_remove"):
        assert grown[f"containerd_cri_{name}_{runc}"] == 1, name
    for name in ("sandbox_create_network", "sandbox_delete_network", "container_list"):
        assert grown[f"containerd_cri_{name}_seconds_count"] == 1, name
    runtime = 'runtime="io.containerd.runc.v2"'
    assert after[f'containerd_cri_container_start_seconds_bucket{{{runtime},le="+Inf"}}'] == after[f"containerd_cri_container_start_{runc}"]
    assert 0.001 < after[f"containerd_cri_container_start_seconds_sum{{{runtime}}}"] / after[f"containerd_cri_container_start_{runc}"] < 60


def test_metrics_server_counts_networks_pulls_and_lost_events(cri, image):
    def scrape():
        text = cri.daemon.netns.inside(lambda: urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/v1/metrics", timeout=90).read().decode())
        return {k.removeprefix("containerd_cri_"): float(v) for k, v in (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("containerd_cri_"))}

    before = scrape()
    grown = lambda name: scrape().get(name, 0) - before.get(name, 0)
    p = cri.run_pod(cri.pod("p"))
    cri.StopPodSandbox(pod_sandbox_id=p)
    cri.RemovePodSandbox(pod_sandbox_id=p)
    for op in ("set_up_pod", "tear_down_pod"):
        assert grown(f'network_plugin_operations_total_total{{operation_type="{op}"}}') == 1
        assert grown(f'network_plugin_operations_duration_seconds_seconds_count{{operation_type="{op}"}}') == 1
        assert grown(f'network_plugin_operations_errors_total_total{{operation_type="{op}"}}') == 0
    path = cri.daemon.net_d / "10-test.conflist"
    good = path.read_text()
    bad = json.loads(good)
    bad["plugins"][0]["ipam"]["type"] = "nowhere-to-be-found"
    cri.daemon.put_network(json.dumps(bad))
    try:
        until("the bad network", lambda: "nowhere-to-be-found" in cri.Status(verbose=True).info["cniconfig"])
        fails(grpc.StatusCode.UNKNOWN, cri.run_pod, cri.pod("q"))
    finally:
        cri.daemon.put_network(good)
        until("the good network", lambda: "nowhere-to-be-found" not in cri.Status(verbose=True).info["cniconfig"])
    assert grown('network_plugin_operations_errors_total_total{operation_type="set_up_pod"}') == 1
    # Nobody answers there.
    fails(grpc.StatusCode.UNAVAILABLE, cri.PullImage, image=cri.pb.ImageSpec(image="127.0.0.1:1/nobody:1"))
    after = scrape()
    assert after['sandboxed_image_pulls_total{status="failure"}'] - before.get('sandboxed_image_pulls_total{status="failure"}', 0) == 1
    assert after["sandboxed_in_progress_image_pulls_total"] == 0 and after["sandboxed_image_pulling_throughput_count"] == 0
    assert 'sandboxed_image_pulling_throughput_mibps_bucket{le="4000"}' in after
    assert after["container_events_dropped_total"] >= before["container_events_dropped_total"]
