# SPDX-License-Identifier: Apache-2.0
"""What stands beside containers and images: the restart monitor, sandboxes, image verifiers, what runtimes say of themselves."""
import json
import os
import signal

import grpc
import pytest

from dial import dial
from harness import Daemon, rows, until

STATUS, POLICY, COUNT = "containerd.io/restart.status", "containerd.io/restart.policy", "containerd.io/restart.count"
STOPPED, LOG_URI = "containerd.io/restart.explicitly-stopped", "containerd.io/restart.loguri"
NS = [("containerd-namespace", "default")]


@pytest.fixture(scope="module")
def verifiers(workdir):
    """Directory of image verifiers; not made yet."""
    return workdir / "verifiers"


@pytest.fixture(scope="module")
def daemon(verifiers):
    d = Daemon(config=f"""
[plugins."io.containerd.internal.v1.restart"]
  interval = "300ms"
[plugins."io.containerd.image-verifier.v1.bindir"]
  bin_dir = "{verifiers}"
  max_verifiers = 3
  per_verifier_timeout = "10s"
""")
    d.start()
    yield d
    d.close()


# ---- restart monitor ----

class Restarted:
    """A detached container that the monitor looks after. What it writes to /out/log is kept; each start adds a line to /out/starts."""

    def __init__(self, ctr, image, name, directory, policy, script, *options):
        self.ctr, self.name, self.dir = ctr, name, directory / name
        self.dir.mkdir()
        ctr("run", "-d", "--null-io", "--label", f"{STATUS}=running", "--label", f"{POLICY}={policy}", *options,
            "--mount", f"type=bind,src={self.dir},dst=/out,options=rbind:rw", image, name, "sh", "-c", f"echo x >> /out/starts; {script}")

    def starts(self):
        f = self.dir / "starts"
        return len(f.read_text().split()) if f.exists() else 0

    def wait(self, n):
        until(f"start {n} of {self.name}", lambda: self.starts() >= n)

    def labels(self):
        return json.loads(self.ctr.out("containers", "info", self.name))["Labels"]

    def label(self, *labels):
        self.ctr("containers", "label", self.name, *labels)

    def task(self):
        """(pid, status), or None."""
        found = [r for r in rows(self.ctr.out("tasks", "ls")) if r[0] == self.name]
        return (int(found[0][1]), found[0][2]) if found else None

    def remove(self):
        self.ctr("containers", "label", self.name, f"{STATUS}=", check=False)
        # A start may be under way: then its task is there a moment later.
        until(f"{self.name} to go", lambda: self.ctr("tasks", "rm", "-f", self.name, check=False) and
              self.ctr("containers", "rm", self.name, check=False).returncode == 0)


@pytest.fixture
def restarted(ctr, image, name, tmp_path):
    made = []

    def start(policy, script, *options, suffix=""):
        made.append(Restarted(ctr, image, name + suffix, tmp_path, policy, script, *options))
        return made[-1]

    yield start
    for c in made:
        c.remove()


def look_often(restarted):
    """Returns once the monitor has looked at all containers several times: it has then restarted another one that often."""
    restarted("always", "true", suffix="-witness").wait(4)


def test_container_that_ended_is_started_again(restarted):
    c = restarted("always", "true")
    c.wait(3)
    assert int(c.labels()[COUNT]) >= 2


def test_killed_container_is_started_again_with_a_new_process(restarted):
    c = restarted("always", "exec sleep 1000")
    c.wait(1)
    pid, status = c.task()
    assert status == "RUNNING"
    os.kill(pid, signal.SIGKILL)
    c.wait(2)
    assert until("the new task", lambda: (c.task() or (0, ""))[1] == "RUNNING") and c.task()[0] != pid
    look_often(restarted)
    assert c.starts() == 2 and c.labels()[COUNT] == "1"


def test_container_without_a_task_gets_one(restarted, ctr):
    c = restarted("always", "exec sleep 1000")
    c.wait(1)
    ctr("tasks", "rm", "-f", c.name, check=False)
    c.wait(2)


def test_failed_container_is_restarted_as_often_as_allowed(restarted):
    c = restarted("on-failure:2", "exit 3")
    c.wait(3)
    look_often(restarted)
    assert c.starts() == 3 and c.labels()[COUNT] == "2" and c.task()[1] == "STOPPED"


def test_container_that_did_not_fail_is_left_alone(restarted):
    c = restarted("on-failure", "exit 0")
    c.wait(1)
    look_often(restarted)
    assert c.starts() == 1 and COUNT not in c.labels()


def test_policy_no_and_unknown_policies_restart_nothing(restarted):
    no, bad = restarted("no", "exit 3", suffix="-no"), restarted("sometimes", "exit 3", suffix="-bad")
    no.wait(1), bad.wait(1)
    look_often(restarted)
    assert (no.starts(), bad.starts()) == (1, 1)


def test_explicitly_stopped_container_stays_stopped(restarted):
    c = restarted("unless-stopped", "exec sleep 1000")
    c.wait(1)
    os.kill(c.task()[0], signal.SIGKILL)
    c.wait(2)
    until("the new task", lambda: (c.task() or (0, ""))[1] == "RUNNING")
    c.label(f"{STOPPED}=true")
    os.kill(c.task()[0], signal.SIGKILL)
    look_often(restarted)
    assert c.starts() == 2 and c.task()[1] == "STOPPED"
    c.label(f"{STOPPED}=false")
    c.wait(3)


def test_status_stopped_ends_the_task(restarted):
    c = restarted("always", "trap '' TERM; sleep 1000")
    c.wait(1)
    c.label(f"{STATUS}=stopped")
    until("the task to go", lambda: c.task() is None)
    look_often(restarted)
    assert c.starts() == 1
    c.label(f"{STATUS}=running")
    c.wait(2)


def test_output_of_restarts_goes_to_the_log_uri(restarted, tmp_path):
    log = tmp_path / "log"
    c = restarted("always", "echo to the log", "--label", f"{LOG_URI}=file://{log}")
    c.wait(3)
    until("output", lambda: log.exists() and "to the log\n" in log.read_text())


def test_container_with_a_terminal_is_restarted(restarted, image, ctr, tmp_path):
    c = restarted("always", "exec sleep 1000")
    c.wait(1)
    name, out = c.name + "-tty", tmp_path / "tty"
    out.mkdir()
    ctr("containers", "create", "--tty", "--label", f"{STATUS}=running", "--mount", f"type=bind,src={out},dst=/out,options=rbind:rw",
        image, name, "sh", "-c", "test -t 0 && echo yes > /out/tty; head -c 100000 /dev/zero; echo > /out/end; exec sleep 1000")
    until("the terminal's container to start", lambda: (out / "end").exists())
    assert (out / "tty").read_text() == "yes\n"
    ctr("containers", "label", name, f"{STATUS}=stopped")
    until("its end", lambda: name not in ctr.quiet("tasks", "ls", "-q"))
    ctr("containers", "rm", name)


def test_container_whose_task_died_without_a_daemon_is_started_by_the_next(restarted, daemon):
    c = restarted("always", "exec sleep 1000")
    c.wait(1)
    pid = c.task()[0]
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    c.wait(2)


def test_daemon_stops_while_containers_are_being_restarted(restarted, daemon):
    c = restarted("always", "true")
    for n in range(2, 5):
        c.wait(n)
        daemon.restart()


# ---- image verifiers ----

@pytest.fixture
def verifier(verifiers):
    """Puts a verifier into the daemon's directory."""
    verifiers.mkdir(exist_ok=True)

    def put(name, script):
        f = verifiers / name
        f.write_text(f"#!/bin/sh\n{script}\n")
        f.chmod(0o755)

    yield put
    for f in verifiers.iterdir():
        f.unlink()
    verifiers.rmdir()


def pull(ctr, ref, ns, **kw):
    return ctr("images", "pull", "--plain-http", ref, ns=ns, **kw)


def test_verifier_sees_what_is_pulled_and_lets_it_pass(ctr, busybox, verifier, tmp_path):
    verifier("one", f'cat > {tmp_path}/in; echo "$@" > {tmp_path}/args; echo fine')
    verifier("two", "echo fine too")
    pull(ctr, busybox, "verified")
    row = [r for r in rows(ctr.out("images", "ls", ns="verified")) if r[0] == busybox][0]
    descriptor = json.loads((tmp_path / "in").read_text())
    assert (descriptor["mediaType"], descriptor["digest"]) == (row[1], row[2]) and descriptor["size"] > 0
    assert (tmp_path / "args").read_text() == f"-name {busybox} -digest {row[2]} -stdin-media-type application/vnd.oci.descriptor.v1+json\n"
    ctr("images", "rm", "--sync", busybox, ns="verified")


def test_refused_image_is_not_fetched(ctr, layered, verifier):
    ref = layered["plain"]
    verifier("no", "echo not signed; exit 1")
    p = pull(ctr, ref, "refused", check=False)
    assert p.returncode == 1 and "for reason: verifier no rejected image (exit code 1): not signed" in p.stderr, p.stderr
    assert ctr.quiet("images", "ls", "-q", ns="refused") == [] and ctr.quiet("content", "ls", "-q", ns="refused") == []


def test_verifier_that_hangs_or_cannot_run_blocks_the_pull(ctr, busybox, verifier, verifiers):
    verifier("slow", "sleep 1000")
    p = pull(ctr, busybox, "refused", check=False)
    assert p.returncode == 1 and "blocked pull" in p.stderr and "deadline exceeded" in p.stderr, p.stderr
    (verifiers / "slow").chmod(0o644)
    p = pull(ctr, busybox, "refused", check=False)
    assert p.returncode == 1 and "blocked pull" in p.stderr and "permission denied" in p.stderr, p.stderr
    assert ctr.quiet("content", "ls", "-q", ns="refused") == []


def test_verifiers_over_the_limit_are_not_asked(ctr, busybox, verifier):
    for name in "abc":
        verifier(name, "exit 0")
    verifier("d", "exit 1")
    pull(ctr, busybox, "limited")
    ctr("images", "rm", "--sync", busybox, ns="limited")


# ---- sandboxes ----

@pytest.fixture(scope="module")
def store(stubs, daemon):
    messages, services = stubs("services/sandbox/v1/sandbox")
    types, _ = stubs("types/sandbox")
    channel = dial(daemon.address)
    yield services.StoreStub(channel), messages, types
    channel.close()


def test_sandbox_records_are_shown_and_removed(ctr, store):
    stub, m, types = store
    sandbox = types.Sandbox(sandbox_id="pod1", labels={"app": "x"}, runtime=types.Sandbox.Runtime(name="io.containerd.runc.v2"))
    made = stub.Create(m.StoreCreateRequest(sandbox=sandbox), metadata=NS, timeout=90).sandbox
    assert made.created_at.seconds > 0 and made.created_at == made.updated_at
    stub.Create(m.StoreCreateRequest(sandbox=types.Sandbox(sandbox_id="pod2")), metadata=NS, timeout=90)
    listed = ctr.out("sandboxes", "ls")
    assert listed.split("\n")[0].split() == ["ID", "CREATED", "RUNTIME"]
    assert ["pod1", "io.containerd.runc.v2"] in [[r[0], r[-1]] for r in rows(listed)] and "pod2" in listed
    assert [r[0] for r in rows(ctr.out("sandboxes", "ls", "--filters", "labels.app==x"))] == ["pod1"]
    info = json.loads(ctr.out("sandboxes", "info", "pod1"))
    assert (info["ID"], info["Labels"], info["Runtime"]["Name"]) == ("pod1", {"app": "x"}, "io.containerd.runc.v2")
    ctr("sandboxes", "rm", "pod1", "pod2")
    assert rows(ctr.out("sandboxes", "ls")) == []
    missing = ctr("sandboxes", "info", "pod1", check=False)
    assert missing.returncode == 1 and "not found" in missing.stderr


def test_sandbox_survives_the_daemon_and_stays_in_its_namespace(ctr, store, daemon):
    stub, m, types = store
    stub.Create(m.StoreCreateRequest(sandbox=types.Sandbox(sandbox_id="kept")), metadata=NS, timeout=90)
    daemon.restart()
    assert [r[0] for r in rows(ctr.out("sandboxes", "ls"))] == ["kept"]
    assert rows(ctr.out("sandboxes", "ls", ns="other")) == []
    assert ctr("sandboxes", "rm", "kept", ns="other", check=False).returncode == 1
    ctr("sandboxes", "rm", "kept")


# ---- runtimes ----

def test_runtime_tells_about_itself(ctr):
    info = json.loads(ctr.out("plugins", "inspect-runtime"))
    assert info["Name"] == "containerd-shim-runc-v2" and info["Version"]["Version"]
    assert info["Features"]["ociVersionMax"]


def test_runtime_that_is_missing_or_fails_is_told(ctr):
    missing = ctr("plugins", "inspect-runtime", "--runtime", "io.containerd.nonsense.v9", check=False)
    assert missing.returncode == 1 and "binary not installed" in missing.stderr
    failing = ctr("plugins", "inspect-runtime", "--runtime", "/bin/false", check=False)
    assert failing.returncode == 1 and "failed to run [/bin/false -info]: exit status 1" in failing.stderr


# ---- mount manager ----

@pytest.fixture(scope="module")
def mounts(stubs, daemon):
    """(stub, messages, types) of the mounts service, and a stub of leases."""
    messages, services = stubs("services/mounts/v1/mounts")
    types, _ = stubs("types/mount")
    leases, lease_services = stubs("services/leases/v1/leases")
    channel = dial(daemon.address)
    yield services.MountsStub(channel), messages, types, lease_services.LeasesStub(channel), leases
    channel.close()


def mounted(path):
    return any(line.split()[1] == str(path) for line in open("/proc/self/mounts"))


def activation(mounts, daemon, name, **more):
    _, m, types = mounts[:3]
    made = f"{daemon.root}/made-{name}"
    return m.ActivateRequest(name=name, mounts=[types.Mount(type="tmpfs", source="tmpfs", options=["size=1m"]),
                                                types.Mount(type="format/mkdir/bind", source="{{ mount 0 }}",
                                                            options=["rbind", f"X-containerd.mkdir.path={made}"])], **more), made


def test_mounts_are_activated_under_a_lease_and_go_with_it(mounts, daemon, ctr):
    stub, m, types, leases, lm = mounts
    leases.Create(lm.CreateRequest(id="mounts"), metadata=NS, timeout=90)
    request, made = activation(mounts, daemon, "m1", labels={"a": "b"})
    info = stub.Activate(request, metadata=NS + [("containerd-lease", "mounts")], timeout=90).info
    point = info.active[0].mount_point
    assert mounted(point) and os.path.isdir(made) and point.startswith(f"{daemon.state}/io.containerd.mount-manager.v1.bolt/t/")
    assert (info.system[0].type, info.system[0].source, list(info.system[0].options)) == ("bind", point, ["rbind"])
    assert stub.Info(m.InfoRequest(name="m1"), metadata=NS, timeout=90).info.labels == {"a": "b"}
    with pytest.raises(grpc.RpcError) as e:
        stub.Activate(request, metadata=NS, timeout=90)
    assert e.value.code() == grpc.StatusCode.ALREADY_EXISTS
    leases.Create(lm.CreateRequest(id="another"), metadata=NS, timeout=90)
    leases.Delete(lm.DeleteRequest(id="another", sync=True), metadata=NS, timeout=90)  # a collection
    assert mounted(point)
    daemon.restart()
    assert mounted(point) and [x.info.name for x in stub.List(m.ListRequest(), metadata=NS, timeout=90, wait_for_ready=True)] == ["m1"]
    leases.Delete(lm.DeleteRequest(id="mounts", sync=True), metadata=NS, timeout=90)
    until("the mount to go", lambda: not mounted(point) and not os.path.exists(os.path.dirname(point)))
    assert list(stub.List(m.ListRequest(), metadata=NS, timeout=90)) == []


def test_mounts_are_deactivated_by_name(mounts, daemon):
    stub, m, types, leases, lm = mounts
    leases.Create(lm.CreateRequest(id="mounts2"), metadata=NS, timeout=90)
    request, _ = activation(mounts, daemon, "m2")
    info = stub.Activate(request, metadata=NS + [("containerd-lease", "mounts2")], timeout=90).info
    stub.Deactivate(m.DeactivateRequest(name="m2"), metadata=NS, timeout=90)
    assert not mounted(info.active[0].mount_point)
    leases.Delete(lm.DeleteRequest(id="mounts2"), metadata=NS, timeout=90)
    for call, arg in [(stub.Info, m.InfoRequest(name="m2")), (stub.Deactivate, m.DeactivateRequest(name="m2"))]:
        with pytest.raises(grpc.RpcError) as e:
            call(arg, metadata=NS, timeout=90)
        assert e.value.code() == grpc.StatusCode.NOT_FOUND


def test_plain_mounts_are_not_for_the_manager(mounts):
    stub, m, types = mounts[:3]
    for call, arg in [(stub.Activate, m.ActivateRequest(name="plain", mounts=[types.Mount(type="bind", source="/tmp", options=["ro"])])),
                      (stub.Update, m.UpdateRequest())]:
        with pytest.raises(grpc.RpcError) as e:
            call(arg, metadata=NS, timeout=90)
        assert (e.value.code(), e.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "not implemented")
