# SPDX-License-Identifier: Apache-2.0
"""The daemon as a kubelet sees it: in a network namespace of the test's own, with bridge and portmap from Debian's
containernetworking-plugins, and a client made from proto/."""
import contextlib
import ctypes
import itertools
import json
import os
import socket
import threading
import uuid

import grpc

from dial import dial
from harness import Daemon, processes, run, until

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SUBNETS = itertools.count(os.getpid() % 200 + 1)


DEFAULT = """
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{net}'
"""


class NetNs:
    """A network namespace with its loopback up."""

    def __init__(self):
        self.name = f"crit-{uuid.uuid4().hex[:8]}"
        run(["ip", "netns", "add", self.name])
        self.path = f"/run/netns/{self.name}"
        run([*self.prefix(), "ip", "link", "set", "lo", "up"])

    def prefix(self):
        return ["nsenter", f"--net={self.path}"]

    def inside(self, function):
        """Runs a function on a thread that is in the namespace; what sockets it makes stay there."""
        result = []

        def work():
            with open(self.path) as f:
                if LIBC.setns(f.fileno(), CLONE_NEWNET) != 0:
                    result.append((None, OSError(ctypes.get_errno(), "setns")))
                    return
            try:
                result.append((function(), None))
            except BaseException as e:  # handed to the caller
                result.append((None, e))

        t = threading.Thread(target=work)
        t.start()
        t.join()
        value, error = result[0]
        if error:
            raise error
        return value

    def connect(self, host, port, timeout=90):
        return self.inside(lambda: socket.create_connection((host, int(port)), timeout))

    def close(self):
        run(["ip", "netns", "del", self.name], check=False)


class NsDaemon(Daemon):
    """A daemon of ours with the CRI, in a network namespace. @config: text after the default's, or a function that makes the whole
    from the directory of CNI's configuration."""

    def __init__(self, netns, config="", **kw):
        super().__init__(**kw)
        self.netns = netns
        self.dir.chmod(0o711)  # the way to root file systems, for users of other namespaces
        self.net_d = self.dir / "net.d"
        self.net_d.mkdir()
        self.nri = self.dir / "nri"
        text = config(self.net_d) if callable(config) else DEFAULT.format(net=self.net_d) + config
        if "nri.v1.nri" not in text:
            text += f"""
[plugins.'io.containerd.nri.v1.nri']
socket_path = '{self.nri}/nri.sock'
plugin_path = '{self.nri}/plugins'
plugin_config_path = '{self.nri}/conf.d'
plugin_request_timeout = '10s'
plugin_registration_timeout = '60s'
"""
        self.config.write_text("version = 3\n" + text)
        self.program = self.containerd
        self.wrapper = self.dir / "in-netns"
        self.wrapper.write_text(f'#!/bin/sh\nexec {" ".join(netns.prefix())} {self.program} "$@"\n')
        self.wrapper.chmod(0o755)
        self.containerd = str(self.wrapper)

    def network(self, ports=True):
        n = next(SUBNETS)
        plugins = [{"type": "bridge", "bridge": f"crit{n}", "isGateway": True, "ipMasq": False, "hairpinMode": True,
                    "ipam": {"type": "host-local", "dataDir": str(self.dir / "ipam"), "ranges": [[{"subnet": f"10.{90 + n // 250}.{n % 250}.0/24"}]],
                             "routes": [{"dst": "0.0.0.0/0"}]}}]
        if ports:
            plugins.append({"type": "portmap", "capabilities": {"portMappings": True}})
        self.put_network(json.dumps({"cniVersion": "1.0.0", "name": f"crit{n}", "plugins": plugins}))

    def put_network(self, text):
        """Of a file that is being written the daemon would read a part, and have no network meanwhile."""
        path = self.net_d / "10-test.conflist"
        path.with_suffix(".tmp").write_text(text)
        path.with_suffix(".tmp").rename(path)

    def kill(self):
        """What plugins of the network had begun outlives them and it: what has not been taken yet the next daemon cannot give back."""
        super().kill()
        until("plugins of the network to end", lambda: not [a for a in processes().values() if a and a[0].startswith("/usr/lib/cni/")])

    def clear(self):
        """Removes what tests have left, the way a kubelet would."""
        if self.process is None or self.process.poll() is not None:
            return
        if getattr(self, "cri", None):
            for p in self.cri.ListPodSandbox().items:
                with contextlib.suppress(grpc.RpcError):
                    self.cri.StopPodSandbox(pod_sandbox_id=p.id)
                    self.cri.RemovePodSandbox(pod_sandbox_id=p.id)
        super().clear()


class Cri:
    """Both services of runtime.v1. cri.Method(field=value, ...) calls Method with a request of these fields."""

    def __init__(self, daemon, stubs, timeout=180):
        self.daemon, self.timeout = daemon, timeout
        self.pb, self.services = stubs("runtime/v1/api")
        daemon.cri = self
        self.connect()

    def connect(self):
        """Anew, after the daemon was restarted; waits until it has found its pods again."""
        self.channel = dial(self.daemon.address, options=[("grpc.max_receive_message_length", 64 << 20)])
        self.runtime, self.images = self.services.RuntimeServiceStub(self.channel), self.services.ImageServiceStub(self.channel)

        def ready():
            try:
                self.ListPodSandbox()
                return True
            except grpc.RpcError as e:
                if e.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
        until("the CRI to be ready", ready)
        return self

    def __getattr__(self, method):
        if method.startswith("_"):
            raise AttributeError(method)
        stub = getattr(self.runtime, method, None) or getattr(self.images, method)
        request = getattr(self.pb, "GetEventsRequest" if method == "GetContainerEvents" else method + "Request")
        return lambda rpc_timeout=None, **fields: stub(request(**fields), timeout=rpc_timeout or self.timeout)

    # ---- configurations ----

    def pod(self, name, **fields):
        pb = self.pb
        linux = fields.get("linux")
        if not linux or linux.security_context.namespace_options.network != pb.NODE:  # which has the host's
            fields.setdefault("hostname", name)
        fields.setdefault("log_directory", str(self.daemon.dir / "logs" / name))
        return pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="test", attempt=fields.pop("attempt", 0)), **fields)

    def container(self, name, image, command=("/bin/sh", "-c", "sleep 1000"), **fields):
        pb = self.pb
        fields.setdefault("log_path", f"{name}.log")
        return pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name, attempt=fields.pop("attempt", 0)), image=pb.ImageSpec(image=image),
                                  command=list(command), **fields)

    # ---- what most tests begin with ----

    def run_pod(self, config, handler=""):
        return self.RunPodSandbox(config=config, runtime_handler=handler).pod_sandbox_id

    def start(self, pod_id, pod, container):
        """Creates and starts; returns the id."""
        k = self.CreateContainer(pod_sandbox_id=pod_id, config=container, sandbox_config=pod).container_id
        self.StartContainer(container_id=k)
        return k

    def status(self, container_id):
        return self.ContainerStatus(container_id=container_id).status

    def until_image(self, name):
        """Until the CRI has heard of what another client brought."""
        until(f"the image {name}", lambda: self.ImageStatus(image=self.pb.ImageSpec(image=name)).HasField("image"))

    def exited(self, container_id, seconds=None):
        """Its status once it has ended."""
        done = self.pb.CONTAINER_EXITED
        return until("the container to end", lambda: (s := self.status(container_id)).state == done and s, seconds)

    def verbose(self, container_id):
        return json.loads(self.ContainerStatus(container_id=container_id, verbose=True).info["info"])

    def log(self, container_id):
        """Lines of the log as (stream, tag, text)."""
        with open(self.status(container_id).log_path) as f:
            # The last one may be half written.
            return [tuple(line.rstrip("\n").split(" ", 3)[1:]) for line in f if line.endswith("\n")]


def fails(code, function, *args, **kw):
    """The text of an error that must come."""
    try:
        function(*args, **kw)
    except grpc.RpcError as e:
        assert e.code() == code, f"{e.code()}: {e.details()}"
        return e.details()
    raise AssertionError("no error")


def load_image(daemon, layout, name):
    """An image into k8s.io without a registry."""
    tar = daemon.dir / "image.tar"
    run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}", f"oci-archive:{tar}:{name}"])
    daemon.ctr("images", "import", tar, ns="k8s.io")
    tar.unlink()
    if getattr(daemon, "cri", None):
        daemon.cri.until_image(name)


@contextlib.contextmanager
def cri_daemon(stubs, layout, config="", start=True):
    """(Cri, image name) with a network and busybox loaded."""
    ns = NetNs()
    d = NsDaemon(ns, config)
    try:
        d.network()
        d.start()
        cri = Cri(d, stubs)
        load_image(d, layout, "docker.io/library/busybox:latest")
        yield cri, "docker.io/library/busybox:latest"
    finally:
        try:
            d.close()
        finally:
            ns.close()
