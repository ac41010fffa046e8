# SPDX-License-Identifier: Apache-2.0
"""The node's own containerd, as systemd starts it: with the paths that are the default, and what a reboot shall find."""
import json
import pathlib
import subprocess

from cri import Cri
from harness import BIN, Ctr, run, until

STATE = pathlib.Path("/var/lib/vmtest")
NETWORK = "vmtest"
ADDRESSES = pathlib.Path("/var/lib/cni/networks") / NETWORK
IMAGE = "docker.io/library/busybox:latest"
CONFIG = """version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
"""


class Node:
    """What tests of a private daemon have in it, of the node's."""
    address = pathlib.Path("/run/containerd/containerd.sock")
    root, state = pathlib.Path("/var/lib/containerd"), pathlib.Path("/run/containerd")
    dir = STATE

    def __init__(self):
        self.ctr = Ctr(BIN / "ctr", self.address)

    def install(self):
        STATE.mkdir(exist_ok=True)
        for path, text in {"/etc/containerd/config.toml": CONFIG, f"/etc/cni/net.d/10-{NETWORK}.conflist": json.dumps({
                "cniVersion": "1.0.0", "name": NETWORK, "plugins": [
                    {"type": "bridge", "bridge": "vmtest0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
                    {"type": "portmap", "capabilities": {"portMappings": True}}]})}.items():
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(path).write_text(text)
        run(["systemctl", "enable", "--now", "containerd"], timeout=600)

    def started(self):
        until("the node's containerd", lambda: subprocess.run(["systemctl", "is-active", "-q", "containerd"]).returncode == 0, 300)
        return self

    def cri(self, stubs):
        return Cri(self, stubs)

    def journal(self):
        return run(["journalctl", "-b", "-u", "containerd", "--no-pager", "-o", "cat"]).stdout

    def shims(self):
        return [p for p in pathlib.Path("/proc").glob("[0-9]*/comm") if _comm(p).startswith("containerd-shim")]


def _comm(p):
    try:
        return p.read_text()
    except OSError:
        return ""


def addresses():
    return {f.name for f in ADDRESSES.glob("10.*")}


def remember(facts):
    (STATE / "facts.json").write_text(json.dumps(facts))


def remembered():
    return json.loads((STATE / "facts.json").read_text())
