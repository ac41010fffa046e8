# SPDX-License-Identifier: Apache-2.0
"""A small kubelet: static pods, each looked after by a worker of its own, a relist of all that runs (PLEG) next to the stream of events,
probes, graceful ends, log rotation and the removal of what is dead. What the CRI says is believed but watched: each relist and each event is
compared with everything that was said before, and what does not fit becomes a line in `complaints`."""
import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import pathlib
import threading
import time

import grpc

RELIST = 1.0  # seconds, as the kubelet's
BACKOFF, BACKOFF_MAX = 0.5, 4.0  # the kubelet's are 10 s and 5 min
PROBE_PERIOD, PROBE_TIMEOUT, PROBE_FAILURES = 0.5, 60, 2
LOG_MAX = 20_000  # bytes; then it is rotated
# What a call may end with while there is no daemon, or it has just begun.
GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
UIDS = itertools.count(1)


@dataclasses.dataclass
class C:
    """A container as a manifest has it."""
    name: str
    script: str
    liveness: str = ""
    pre_stop: str = ""
    memory: int = 0


@dataclasses.dataclass
class Pod:
    name: str
    containers: list
    init: list = dataclasses.field(default_factory=list)
    restart: str = "Always"
    grace: int = 30

    def __post_init__(self):
        self.uid = f"{self.name}-{next(UIDS)}"
        self.deleted = False


class Worker(threading.Thread):
    """A loop of the kubelet's; ends with it, and what it dies of is a complaint."""

    def __init__(self, kubelet, name, period, function):
        super().__init__(name=name, daemon=True)
        self.kubelet, self.period, self.function = kubelet, period, function
        self.wake, self.over = threading.Event(), False

    def run(self):
        while not (self.over or self.kubelet.over.is_set()):
            try:
                self.function()
            except grpc.RpcError as e:
                if e.code() not in GONE:
                    self.kubelet.complain(f"{self.name}: {e.code()}: {e.details()}")
            except Exception as e:  # of this test
                self.kubelet.complain(f"{self.name}: {e!r} at line {e.__traceback__.tb_next.tb_lineno if e.__traceback__.tb_next else 0}")
            self.wake.wait(self.period)
            self.wake.clear()


class Seen:
    """All that was ever said of a container."""

    def __init__(self):
        self.told, self.noted = -1, []  # the state by the latest event; (monotonic time, state) whenever it went on
        self.exit, self.events, self.unsure = None, [], False


class Kubelet:
    def __init__(self, cri, image, directory, backoff=BACKOFF):
        self.cri, self.pb, self.image, self.dir = cri, cri.pb, image, pathlib.Path(directory)
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.complaints, self.workers, self.pods = [], [], {}
        self.view = ([], [])  # of the latest relist
        self.relists = self.probes = 0
        self.killed_by_probe = collections.Counter()
        # For the watch.
        self.seen = collections.defaultdict(Seen)
        self.created, self.removing, self.removed = {}, {}, {}  # id -> monotonic time
        self.last_event_at = self.n_events = 0
        self.rotated = collections.defaultdict(list)  # container -> old logs
        # Of a pod's sandbox, and of its containers by name.
        self.generation, self.attempts = collections.Counter(), collections.defaultdict(lambda: -1)
        self.first_backoff, self.backoff, self.not_before = backoff, {}, {}

    def complain(self, text):
        with self.lock:
            self.complaints.append(f"{time.monotonic():.2f} {text}")

    # ---- begin and end ----

    def start(self):
        self.check_runtime()
        self._work("events", 0.2, self.listen)
        self._work("relist", RELIST, self.relist)
        self._work("stats", 1, self.stats)
        self._work("logs", 0.5, self.rotate)
        return self

    def _work(self, name, period, function):
        w = Worker(self, name, period, function)
        self.workers.append(w)
        w.start()
        return w

    def check_runtime(self):
        """What a kubelet asks before it runs anything."""
        cri = self.cri
        v = cri.Version(version="0.1.0")
        assert v.version == "0.1.0" and v.runtime_api_version == "v1" and v.runtime_name and v.runtime_version
        s = cri.Status()
        assert {c.type: c.status for c in s.status.conditions if c.type in ("RuntimeReady", "NetworkReady")} == {"RuntimeReady": True, "NetworkReady": True}
        assert s.runtime_handlers and s.HasField("features") and not s.info
        assert cri.RuntimeConfig().linux.cgroup_driver in (self.pb.SYSTEMD, self.pb.CGROUPFS)
        fs = cri.ImageFsInfo()
        assert fs.image_filesystems and os.path.isdir(fs.image_filesystems[0].fs_id.mountpoint) and fs.image_filesystems[0].timestamp > 0
        names = [d.name for d in cri.ListMetricDescriptors().descriptors]
        assert "container_cpu_usage_seconds_total" in names and len(names) == len(set(names))
        cri.UpdateRuntimeConfig(runtime_config=self.pb.RuntimeConfig(network_config=self.pb.NetworkConfig(pod_cidr="10.244.0.0/24")))

    def close(self):
        self.over.set()
        with contextlib.suppress(Exception):
            self.stream.cancel()
        for w in self.workers:
            w.wake.set()
        for w in self.workers:
            w.join(180)
        assert not any(w.is_alive() for w in self.workers)

    # ---- manifests ----

    def run(self, pod):
        pod.worker = self._work(f"pod {pod.name}", 0.3, lambda: self.sync(pod))
        self.pods[pod.uid] = pod
        return pod

    def delete(self, pod):
        pod.deleted = True
        pod.worker.wake.set()

    def volume(self, pod):
        d = self.dir / "volumes" / pod.uid
        d.mkdir(parents=True, exist_ok=True)
        return d

    def labels(self, pod, container=None):
        labels = {"io.kubernetes.pod.name": pod.name, "io.kubernetes.pod.namespace": "test", "io.kubernetes.pod.uid": pod.uid}
        return {**labels, "io.kubernetes.container.name": container} if container else labels

    def namespaces(self):
        return self.pb.NamespaceOption(pid=self.pb.CONTAINER)

    def sandbox_config(self, pod, attempt):
        pb = self.pb
        return pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name=pod.name, uid=pod.uid, namespace="test", attempt=attempt), hostname=pod.name,
                                   log_directory=str(self.dir / "logs" / f"test_{pod.name}_{pod.uid}"), labels=self.labels(pod),
                                   linux=pb.LinuxPodSandboxConfig(cgroup_parent=f"/crit/{self.dir.name}/{pod.uid}", security_context=pb.LinuxSandboxSecurityContext(
                                       namespace_options=self.namespaces())))

    def container_config(self, pod, c, attempt):
        pb = self.pb
        resources = pb.LinuxContainerResources(cpu_shares=102, memory_limit_in_bytes=c.memory, oom_score_adj=500)
        return pb.ContainerConfig(metadata=pb.ContainerMetadata(name=c.name, attempt=attempt), image=pb.ImageSpec(image=self.image),
                                  command=["/bin/sh", "-c", c.script], labels=self.labels(pod, c.name), log_path=f"{c.name}/{attempt}.log",
                                  envs=[pb.KeyValue(key="ATTEMPT", value=str(attempt).encode())],
                                  mounts=[pb.Mount(container_path="/vol", host_path=str(self.volume(pod)))],
                                  linux=pb.LinuxContainerConfig(resources=resources, security_context=pb.LinuxContainerSecurityContext(
                                      namespace_options=self.namespaces())))

    # ---- the watch ----

    def note_state(self, k, state, source, asked=None):
        """States only go forward: from event to event, and in an answer from all that was known when it was asked for. An event that is
        heard late may well be older than an answer."""
        with self.lock:
            s = self.seen[k]
            known = s.told if asked is None else max((v for t, v in s.noted if t < asked), default=-1)
            if state < known:
                self.complain(f"{source}: container {k[:8]} went from state {known} back to {state}")
            if asked is None:
                s.told = max(s.told, state)
            if not s.noted or state > s.noted[-1][1]:
                s.noted.append((time.monotonic(), state))

    def note_exit(self, status, source):
        with self.lock:
            s, exit_ = self.seen[status.id], (status.exit_code, status.finished_at, status.reason)
            if status.finished_at == 0 or status.finished_at < status.started_at or not status.reason:
                self.complain(f"{source}: exit without its facts: {exit_}")
            if s.exit and s.exit != exit_:
                self.complain(f"{source}: container {status.id[:8]} ended twice: {s.exit} and {exit_}")
            s.exit = exit_

    def relist(self):
        begun = time.monotonic()
        # In this order a container never comes without its pod.
        containers = list(self.cri.ListContainers().containers)
        sandboxes = list(self.cri.ListPodSandbox().items)
        ended = time.monotonic()
        with self.lock:
            for what, listed in (("container", {k.id for k in containers}), ("sandbox", {p.id for p in sandboxes})):
                there = {i for i, (kind, t) in self.created.items() if kind == what and t < begun and self.removing.get(i, ended + 1) > ended}
                gone = {i for i, t in self.removed.items() if t < begun}
                for i in there - listed:
                    self.complain(f"relist: {what} {i[:8]} is lost")
                for i in listed & gone:
                    self.complain(f"relist: {what} {i[:8]} is there after it was removed")
            pods = {p.id for p in sandboxes}
            for k in containers:
                if k.pod_sandbox_id not in pods and k.pod_sandbox_id not in self.removing:
                    self.complain(f"relist: container {k.id[:8]} has no pod")
                self.note_state(k.id, k.state, "relist", begun)
        for k in containers:
            if k.state == self.pb.CONTAINER_EXITED:
                with contextlib.suppress(grpc.RpcError):  # removed meanwhile, or no daemon
                    self.note_exit(self.cri.status(k.id), "relist")
        for p in sandboxes:
            self.check_pod(p)
        self.view = (sandboxes, containers)
        self.relists += 1
        self.wake()

    def wake(self):
        for p in list(self.pods.values()):
            p.worker.wake.set()

    def check_pod(self, p):
        """One answer has the pod and all its containers, and its time."""
        before, asked = time.time_ns(), time.monotonic()
        try:
            r = self.cri.PodSandboxStatus(pod_sandbox_id=p.id)
        except grpc.RpcError:
            return
        if not before - 10**9 < r.timestamp < time.time_ns() + 10**9:
            self.complain("pod status without its time")
        for s in r.containers_statuses:
            self.note_state(s.id, s.state, "pod status", asked)
            if s.state == self.pb.CONTAINER_EXITED:
                self.note_exit(s, "pod status")
        if r.status.state == self.pb.SANDBOX_READY and not r.status.network.ip:
            self.complain(f"sandbox {p.id[:8]} is ready without an address")

    def listen(self):
        """As long as there is a stream."""
        self.stream = self.cri.GetContainerEvents(rpc_timeout=3600)
        try:
            for e in self.stream:
                with self.lock:
                    self.event(e)
                if self.over.is_set():
                    break
        finally:
            with self.lock:
                for s in self.seen.values():  # events may be missing from here on, or come again
                    s.unsure, s.told = s.unsure or self.pb.CONTAINER_DELETED_EVENT not in s.events, -1

    def event(self, e):
        pb, k, kind = self.pb, e.container_id, e.container_event_type
        s = self.seen[k]
        self.n_events += 1
        if e.created_at < self.last_event_at and not s.unsure:
            self.complain(f"event of {k[:8]}: older than the one before it")
        self.last_event_at = max(self.last_event_at, e.created_at)
        if kind in s.events:
            self.complain(f"event of {k[:8]}: {kind} came twice")
        if s.events and kind < s.events[-1]:
            self.complain(f"event of {k[:8]}: {kind} came after {s.events[-1]}")
        s.events.append(kind)
        if k == e.pod_sandbox_status.id:
            return
        if not e.pod_sandbox_status.id:
            self.complain(f"event of {k[:8]} has no pod")
        for c in e.containers_statuses:
            self.note_state(c.id, c.state, "event")
            if c.state == pb.CONTAINER_EXITED:
                self.note_exit(c, "event")
        own = [c.state for c in e.containers_statuses if c.id == k]
        least = {pb.CONTAINER_CREATED_EVENT: pb.CONTAINER_CREATED, pb.CONTAINER_STARTED_EVENT: pb.CONTAINER_RUNNING,
                 pb.CONTAINER_STOPPED_EVENT: pb.CONTAINER_EXITED}.get(kind)
        if least is not None and (not own or own[0] < least):
            self.complain(f"event {kind} of {k[:8]} with its state {own}")
        self.wake()

    def whole(self):
        """How many were heard of from their begin to their end."""
        with self.lock:
            return sum(not s.unsure and k in self.removed and k in self.created and self.pb.CONTAINER_DELETED_EVENT in s.events for k, s in self.seen.items())

    def check_events(self):
        """At the end: those of whom nothing can have been missed have all their events."""
        pb = self.pb
        with self.lock:
            whole = 0
            for k, s in self.seen.items():
                if s.unsure or k not in self.removed or k not in self.created:
                    continue
                never = s.exit is None or s.exit[2] == "StartError"
                want = [pb.CONTAINER_CREATED_EVENT, *([] if never else [pb.CONTAINER_STARTED_EVENT, pb.CONTAINER_STOPPED_EVENT]), pb.CONTAINER_DELETED_EVENT]
                if never and self.created[k][0] == "sandbox":
                    want[1:1] = [pb.CONTAINER_STARTED_EVENT, pb.CONTAINER_STOPPED_EVENT]
                whole += 1
                if s.events != want:
                    self.complain(f"events of {k[:8]} {self.created[k][0]}: {s.events}, not {want}")
            return whole

    # ---- a pod's worker ----

    def ids(self, kind, call):
        i = call()
        with self.lock:
            self.created[i] = (kind, time.monotonic())
        return i

    def remove(self, call, i):
        with self.lock:
            self.removing.setdefault(i, time.monotonic())
        call()
        with self.lock:
            self.removed[i] = time.monotonic()

    def of_pod(self, pod):
        """(sandboxes, containers), the latest attempts first; asked anew, by labels."""
        pb, want = self.pb, self.labels(pod)
        sandboxes = self.cri.ListPodSandbox(filter=pb.PodSandboxFilter(label_selector=want)).items
        containers = self.cri.ListContainers(filter=pb.ContainerFilter(label_selector=want)).containers
        return sorted(sandboxes, key=lambda p: -p.metadata.attempt), sorted(containers, key=lambda k: (-k.created_at, -k.metadata.attempt))

    def sync(self, pod):
        pb = self.pb
        sandboxes, containers = self.of_pod(pod)
        if pod.deleted:
            return self.terminate(pod, sandboxes, containers)
        ready = [p for p in sandboxes if p.state == pb.SANDBOX_READY]
        latest = {}
        for k in containers:
            latest.setdefault(k.metadata.name, k)
        finished = not ready and sandboxes and self.done(pod, latest)
        dead = [p for p in sandboxes if not finished and (not ready or p.id != ready[0].id)]
        for p in dead:
            self.end_sandbox(p, [k for k in containers if k.pod_sandbox_id == p.id])
        if dead:
            self.generation[pod.uid] = sandboxes[0].metadata.attempt + 1
            return pod.worker.wake.set()
        self.collect(containers, latest)
        if finished or self.done(pod, latest):
            return
        if not ready:
            config = self.sandbox_config(pod, self.generation[pod.uid])
            os.makedirs(config.log_directory, exist_ok=True)
            sandbox = self.ids("sandbox", lambda: self.cri.run_pod(config))
        else:
            config, sandbox = self.sandbox_config(pod, ready[0].metadata.attempt), ready[0].id
        for c in pod.init:
            k = latest.get(c.name)
            if not k or k.state != pb.CONTAINER_EXITED or self.cri.status(k.id).exit_code != 0:
                return self.keep_going(pod, c, k, sandbox, config)
        for c in pod.containers:
            self.keep_going(pod, c, latest.get(c.name), sandbox, config)

    def done(self, pod, latest):
        """Nothing is to be started any more."""
        if pod.restart == "Always" or len(latest) < len(pod.init) + len(pod.containers):
            return False
        ended = [self.cri.status(k.id) for k in latest.values()]
        return all(s.state == self.pb.CONTAINER_EXITED and (pod.restart == "Never" or s.exit_code == 0) for s in ended)

    def keep_going(self, pod, c, k, sandbox, config):
        """A container that should run does, after a pause that grows."""
        pb, key = self.pb, (pod.uid, c.name)
        if k and k.state == pb.CONTAINER_RUNNING and k.pod_sandbox_id == sandbox:
            if c.liveness and not any(w.name == f"probe {k.id}" for w in self.workers):
                self.probe(pod, c, k.id)
            return
        if k and k.state == pb.CONTAINER_EXITED and k.pod_sandbox_id == sandbox:
            code = self.cri.status(k.id).exit_code
            if pod.restart == "Never" or (pod.restart == "OnFailure" and code == 0):
                return
            if self.not_before.setdefault((key, k.id), time.monotonic() + self.backoff.setdefault(key, self.first_backoff)) > time.monotonic():
                return
            self.backoff[key] = min(self.backoff[key] * 2, BACKOFF_MAX)
        attempt = self.attempts[key] = max(self.attempts[key], k.metadata.attempt if k else -1) + 1
        if not self.cri.ImageStatus(image=pb.ImageSpec(image=self.image)).HasField("image"):
            return self.complain(f"image {self.image} is gone")
        cc = self.container_config(pod, c, attempt)
        os.makedirs(pathlib.Path(config.log_directory, c.name), exist_ok=True)
        i = self.ids("container", lambda: self.cri.CreateContainer(pod_sandbox_id=sandbox, config=cc, sandbox_config=config).container_id)
        self.cri.StartContainer(container_id=i)

    def collect(self, containers, latest):
        """Of what is dead the latest of each name stays."""
        for k in containers:
            if k.state != self.pb.CONTAINER_RUNNING and latest[k.metadata.name].id != k.id:
                self.remove(lambda: self.cri.RemoveContainer(container_id=k.id), k.id)

    def kill(self, pod, k, grace=None):
        """preStop, then what is left of the time for the signal."""
        c = next(c for c in pod.containers + pod.init if c.name == k.metadata.name)
        grace, begun = pod.grace if grace is None else grace, time.monotonic()
        if c.pre_stop and k.state == self.pb.CONTAINER_RUNNING:
            try:
                self.cri.ExecSync(container_id=k.id, cmd=["/bin/sh", "-c", c.pre_stop], timeout=grace)
            except grpc.RpcError as e:
                if e.code() in GONE:
                    raise
        self.cri.StopContainer(container_id=k.id, timeout=max(2, int(grace - (time.monotonic() - begun))))

    def end_sandbox(self, p, containers):
        for k in containers:
            self.cri.StopContainer(container_id=k.id, timeout=2)
        self.cri.StopPodSandbox(pod_sandbox_id=p.id)
        for k in containers:
            self.remove(lambda: self.cri.RemoveContainer(container_id=k.id), k.id)
        self.remove(lambda: self.cri.RemovePodSandbox(pod_sandbox_id=p.id), p.id)

    def terminate(self, pod, sandboxes, containers):
        running = [k for k in containers if k.state == self.pb.CONTAINER_RUNNING]
        with concurrent.futures.ThreadPoolExecutor(max(1, len(running))) as pool:
            list(pool.map(lambda k: self.kill(pod, k), running))
        for p in sandboxes:
            self.cri.StopPodSandbox(pod_sandbox_id=p.id)
        sandboxes, containers = self.of_pod(pod)
        if any(k.state == self.pb.CONTAINER_RUNNING for k in containers):
            return
        for k in containers:
            if k.state == self.pb.CONTAINER_EXITED:
                self.note_exit(self.cri.status(k.id), "end")
        for k in containers:
            self.remove(lambda: self.cri.RemoveContainer(container_id=k.id), k.id)
        for p in sandboxes:
            self.remove(lambda: self.cri.RemovePodSandbox(pod_sandbox_id=p.id), p.id)
        if not any(self.of_pod(pod)):
            self.pods.pop(pod.uid, None)
            pod.worker.over = True

    # ---- probes ----

    def probe(self, pod, c, i):
        failures, healthy = 0, False

        def once():
            nonlocal failures, healthy
            if pod.deleted:
                w.over = True
                return
            try:
                r = self.cri.ExecSync(container_id=i, cmd=["/bin/sh", "-c", c.liveness], timeout=PROBE_TIMEOUT)
                healthy = healthy or r.exit_code == 0
                failures = failures + 1 if r.exit_code and healthy else 0  # as with a startup probe
                self.probes += 1
            except grpc.RpcError as e:
                if e.code() in GONE:
                    return
                # Perhaps it has just ended, and that is not told yet.
                until = time.monotonic() + 60
                while time.monotonic() < until and not w.over:
                    w.over = self.over.wait(0.05) or i in self.removing or self.state_of(i) != self.pb.CONTAINER_RUNNING
                if w.over:
                    return
                self.complain(f"probe of {c.name}: {e.code()}: {e.details()}")
            if failures == PROBE_FAILURES:
                w.over = True
                self.killed_by_probe[c.name] += 1
                k = next((k for k in self.of_pod(pod)[1] if k.id == i), None)
                if k:
                    self.kill(pod, k)
        w = self._work(f"probe {i}", PROBE_PERIOD, once)

    def state_of(self, i):
        try:
            return self.cri.status(i).state
        except grpc.RpcError as e:
            return -1 if e.code() == grpc.StatusCode.NOT_FOUND else self.pb.CONTAINER_RUNNING

    # ---- the rest ----

    def uncounted(self):
        only = self.pb.ContainerFilter(state=self.pb.ContainerStateValue(state=self.pb.CONTAINER_RUNNING))
        running = {k.id for k in self.cri.ListContainers(filter=only).containers}
        return running - {s.attributes.id for s in self.cri.ListContainerStats().stats if s.HasField("cpu") and s.HasField("memory")}

    def lasting(self, what):
        """Of a set what stays in it."""
        left, end = what(), time.monotonic() + 20
        while left and time.monotonic() < end:
            if self.over.wait(0.5):
                return set()
            left &= what()
        return left

    def lacking(self):
        return {p.attributes.id for p in self.cri.ListPodSandboxStats().stats
                if not p.attributes.labels.get("io.kubernetes.pod.uid") or not p.linux.HasField("cpu")}

    def stats(self):
        # One that has just ended still counts as running for a moment.
        for i in self.lasting(self.uncounted):
            self.complain(f"stats: container {i[:8]} runs and has none")
        for i in self.lasting(self.lacking):
            self.complain(f"stats: pod {i[:8]} lacks its labels or its processor time")
        if len({m.pod_sandbox_id for m in self.cri.ListPodSandboxMetrics().pod_metrics} - self.created.keys()) > len(self.pods):
            self.complain("metrics of pods that nobody made")
        if not self.cri.ImageFsInfo().image_filesystems:
            self.complain("no image file system")

    def rotate(self):
        """Logs that have grown too long."""
        for k in self.view[1]:
            if k.state != self.pb.CONTAINER_RUNNING:
                continue
            try:
                path = pathlib.Path(self.cri.status(k.id).log_path)
                if path.stat().st_size < LOG_MAX:
                    continue
                old = path.with_suffix(f".log.{len(self.rotated[k.id])}")
                path.rename(old)
                self.rotated[k.id].append(old)
                self.reopen(k.id)
            except OSError:
                continue
            except grpc.RpcError as e:
                if e.code() in GONE or self.state_of(k.id) != self.pb.CONTAINER_RUNNING:
                    continue
                raise

    def reopen(self, i):
        """Again and again while there is no daemon: the log has its new name already."""
        while not self.over.is_set():
            try:
                return self.cri.ReopenContainerLog(container_id=i)
            except grpc.RpcError as e:
                if e.code() not in GONE:
                    raise
                self.over.wait(0.2)

    def log(self, i, path):
        """All of it, through rotations."""
        return "".join(f.read_text() for f in [*self.rotated[i], pathlib.Path(path)] if f.exists())

    # ---- for tests ----

    def find(self, pod, name):
        """The latest container of that name."""
        return next((k for k in self.of_pod(pod)[1] if k.metadata.name == name), None)
