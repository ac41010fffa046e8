# SPDX-License-Identifier: Apache-2.0
"""A daemon that cannot start says why, in one line that names file, place and key, and leaves nothing behind; one that can do without says so too."""
import os
import socket
import subprocess

import grpc
import pytest

import evil
import harness
import rpc
from harness import BIN


class Start:
    """Runs containerd until it ends, or is ready and told to end."""

    def __init__(self, directory, config, address=None, seconds=harness.SECONDS):
        self.dir = directory
        (directory / "c.toml").write_text(config.replace("DIR", str(directory)))
        argv = [BIN / "containerd", "--config", directory / "c.toml", "--root", directory / "root", "--state", directory / "state",
                "--address", address or directory / "c.sock"]
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.text, self.booted = "", False
        for line in p.stdout:
            self.text += line
            if "successfully booted" in line:
                self.booted = True
                p.terminate()
        self.status = p.wait(seconds)
        lines = [line for line in self.text.splitlines() if not line.startswith("time=")]
        self.last = lines[-1] if lines else ""
        assert not harness._REPORT.search(self.text), self.text
        self.sockets = sorted(str(f.relative_to(directory)) for f in directory.rglob("*") if f.is_socket())


FATAL = {
    "unknown key": ("version = 3\nbogus = 1\n", ["c.toml:2:1", "`bogus`", "unknown key"]),
    "unknown key of a plugin": ('version = 3\n[plugins."io.containerd.gc.v1.scheduler"]\nnope = 5\n', ["c.toml:3:1", "nope", "unknown key"]),
    "wrong type": ("version = 3\nroot = 5\n", ["c.toml:2:8", "`root`", "want string, got integer"]),
    "wrong type in a plugin": ('version = 3\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = "x"\n', ["pause_threshold", "want float"]),
    "syntax": ('version = 3\nroot = "unclosed\n', ["c.toml: line 2, column 17"]),
    "twice": ('version = 3\nroot = "/a"\nroot = "/b"\n', ["line 3", "`root`", "twice"]),
    "later version": ("version = 99\n", ["`99`"]),
    "version is text": ('version = "3"\n', ["`version`", "want integer"]),
    "missing import": ('version = 3\nimports = ["DIR/nope.toml"]\n', ["/nope.toml", "no such file or directory"]),
    "import of a directory": ('version = 3\nimports = ["DIR"]\n', ["is a directory"]),
    "no duration": ('version = 3\n[timeouts]\n"io.containerd.timeout.task.state" = "soon"\n', ["timeout.task.state", "`soon` is no duration"]),
    "required plugin": ('version = 3\nrequired_plugins = ["io.containerd.nope.v1.x"]\n', ["io.containerd.nope.v1.x"]),
    "sharing policy": ('version = 3\n[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "isolate"\n', ["unknown policy: isolate"]),
    "noise": ("\0\1\2", ["c.toml: line 1"]),
}


@pytest.mark.parametrize("case", FATAL)
def test_bad_configuration(tmp_path, case):
    config, texts = FATAL[case]
    s = Start(tmp_path, config)
    assert s.status == 1 and not s.booted and s.sockets == []
    assert s.last.startswith("containerd: ") and all(t in s.last for t in texts), s.last


def test_unreadable_configuration(tmp_path):
    for path in ("/nope.toml", tmp_path):
        p = subprocess.run([BIN / "containerd", "--config", path], capture_output=True, text=True, timeout=90)
        assert p.returncode == 1 and str(path) in p.stderr


def test_plugin_that_does_not_exist_is_only_told(tmp_path):
    s = Start(tmp_path, 'version = 3\n[plugins."io.containerd.nope.v1.x"]\nnope = 5\n')
    assert s.booted and s.status == 0 and "there is no such plugin" in s.text
    assert s.sockets == []


RUNC = '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
REGISTRY = '[plugins."io.containerd.cri.v1.images".registry'
NO_CRI = {
    "io type": (RUNC + 'io_type = "pipe"\n', "io_type is"),
    "mirrors beside config_path": (f'{REGISTRY}]\nconfig_path = "DIR"\n{REGISTRY}.mirrors."docker.io"]\nendpoint = ["http://x"]\n', "registry.mirrors cannot be set"),
}
if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
    NO_CRI["writable groups"] = (RUNC + "cgroup_writable = true\n", "cgroup_writable is for")


@pytest.mark.parametrize("case", NO_CRI)
def test_pods_are_not_run_as_nobody_wants_them(tmp_path, case):
    config, text = NO_CRI[case]
    s = Start(tmp_path, "version = 3\n" + config)
    assert s.booted and s.status == 0
    assert any("failed to load plugin" in line and text in line for line in s.text.splitlines()), s.text


def test_import_of_oneself_and_of_nothing(tmp_path):
    s = Start(tmp_path, 'version = 3\nimports = ["DIR/c.toml", "DIR/conf.d/*.toml"]\n')
    assert s.booted and s.status == 0


def test_root_that_cannot_be_written(tmp_path):
    (tmp_path / "root").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path / "root"], check=True)
    try:
        s = Start(tmp_path, "version = 3\n")
    finally:
        subprocess.run(["umount", tmp_path / "root"], check=True)
    assert s.status == 1 and "read-only file system" in s.last and str(tmp_path / "root") in s.last and s.sockets == []


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "root").write_text("x")
    s = Start(tmp_path, "version = 3\n")
    assert s.status == 1 and str(tmp_path / "root") in s.last and "not a directory" in s.last


def test_damaged_metadata(tmp_path):
    db = tmp_path / "root/io.containerd.metadata.v1.bolt/meta.db"
    db.parent.mkdir(parents=True)
    noise = os.urandom(65536)
    db.write_bytes(noise)
    s = Start(tmp_path, "version = 3\n")
    assert s.status == 1 and str(db) in s.last and s.sockets == []
    assert db.read_bytes() == noise


@pytest.mark.parametrize("what", ["file", "directory"])
def test_address_that_is_no_socket(tmp_path, what):
    if what == "file":
        (tmp_path / "c.sock").write_text("precious")
    else:
        (tmp_path / "c.sock").mkdir()
    s = Start(tmp_path, "version = 3\n")
    assert s.status == 1 and "c.sock" in s.last and s.sockets == []
    assert what == "directory" or (tmp_path / "c.sock").read_text() == "precious"


def test_stale_socket_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "c.sock"))
    assert Start(tmp_path, "version = 3\n").booted


def test_address_longer_than_a_socket_may_have(tmp_path):
    address = tmp_path / ("x" * 150) / "c.sock"
    s = Start(tmp_path, "version = 3\n", address=address)
    assert s.booted or ("c.sock" in s.last and s.status == 1)


def test_second_daemon(tmp_path):
    """At the address of another, with its root or not: it says so and ends; the first goes on."""
    d = evil.new_daemon()
    d.start()
    try:
        for root in (d.root, tmp_path / "other"):
            p = subprocess.run([BIN / "containerd", "--config", d.config, "--root", root, "--state", f"{root}-state", "--address", d.address],
                               capture_output=True, text=True, timeout=90)
            last = p.stderr.splitlines()[-1]
            assert p.returncode == 1 and "another containerd is running" in last and str(d.address) in last
            assert d.ctr("namespaces", "ls").returncode == 0
        # One that only shares the root waits for it, and can be ended while it does.
        p = subprocess.Popen([BIN / "containerd", "--config", d.config, "--root", d.root, "--state", tmp_path / "state", "--address", tmp_path / "2.sock"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        harness.Lines(p).wait("waiting for the lock of .*meta.db")
        p.terminate()
        p.wait(harness.SECONDS)
        assert d.ctr("namespaces", "ls").returncode == 0
    finally:
        d.close()
    assert not d.address.exists()


GONE = {
    "mount-manager.v1.bolt": "mounts.v1.Mounts/List",
    "runtime.v2.task": "tasks.v1.Tasks/List",
    "streaming.v1.manager": "streaming.v1.Streaming/Stream",
    "transfer.v1.local": "transfer.v1.Transfer/Transfer",
    "differ.v1.walking": "transfer.v1.Transfer/Transfer",
}
DELETED = {"images.v1.Images/Delete": {"name": "x", "sync": True}, "leases.v1.Leases/Delete": {"id": "x", "sync": True}}


@pytest.mark.parametrize("plugin", [*GONE, "gc.v1.scheduler"])
def test_service_whose_part_is_disabled_harms_nobody(stubs, plugin):
    d = evil.new_daemon()
    d.config.write_text(d.config.read_text().replace('cri"]', f'cri", "io.containerd.{plugin}"]'))
    d.start()
    client = rpc.Client(stubs, d.address, "default")
    if plugin in GONE:
        with pytest.raises(grpc.RpcError) as e:
            client.raw(f"containerd.services.{GONE[plugin]}", b"")
        assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    else:
        for method, request in DELETED.items():
            with pytest.raises(grpc.RpcError) as e:
                client(f"containerd.services.{method}", request)
            assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION and "disabled" in e.value.details()
    # With everything that needs the plugin, whether it is told so or not.
    requests = {"containerd.services.transfer.v1.Transfer/Transfer": transfer()}
    for path in rpc.METHODS:
        if not path.endswith(("/Subscribe", "/Watch")):
            try:
                client(path, requests[path]) if path in requests else client.raw(path, b"", timeout=20)
            except grpc.RpcError as e:
                assert e.code() != grpc.StatusCode.UNAVAILABLE, path
    client.close()
    d.close()


def test_limit_of_messages_below_zero_is_the_default(stubs):
    d = evil.new_daemon()
    d.config.write_text(d.config.read_text() + "[grpc]\nmax_recv_message_size = -1\nmax_send_message_size = -1\n")
    d.start()
    client = rpc.Client(stubs, d.address, "default")
    with pytest.raises(grpc.RpcError) as e:
        client.raw("containerd.services.namespaces.v1.Namespaces/List", bytes(17 << 20))
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.raw("containerd.services.namespaces.v1.Namespaces/List", b"") is not None
    client.close()
    d.close()


def test_port_of_streams_that_is_taken_costs_the_pods_only(stubs):
    """What the CRI had made by then, nobody finds any more."""
    d = evil.new_daemon()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        d.config.write_text(f'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nstream_server_port = "{taken.getsockname()[1]}"\n')
        for _ in range(5):
            d.start()
            client = rpc.Client(stubs, d.address, "default")
            with pytest.raises(grpc.RpcError) as e:
                client("containerd.services.sandbox.v1.Controller/Status", {"sandbox_id": "x", "sandboxer": "podsandbox"})
            assert "podsandbox" in e.value.details() and e.value.code() != grpc.StatusCode.UNAVAILABLE
            client.close()
            d.stop()
    assert "streaming server: listen on 127.0.0.1" in d.log.read_text()
    d.close()


def transfer():
    def store(name):
        return "containerd.types.transfer.ImageStore", rpc.build("containerd.types.transfer.ImageStore", {"name": name}).SerializeToString()
    return {"source": store("a"), "destination": store("b")}
