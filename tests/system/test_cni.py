# SPDX-License-Identifier: Apache-2.0
"""Networks by CNI: the library with Debian's plugins, in network namespaces that the tests make."""
import json
import os
import pathlib
import subprocess
import uuid

import pytest

from harness import BIN, CommandFailed, free_port, run

PLUGINS = "/usr/lib/cni"
CNI_RUN = pathlib.Path(os.environ.get("CNI_RUN") or BIN / "cni_run")


class Net:
    """A network of a bridge of its own with addresses by host-local, and what is attached to it."""

    def __init__(self, directory, subnet="10.231.7.0/24", version="1.0.0", extra=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.tag = uuid.uuid4().hex[:6]
        self.bridge = f"ct{self.tag}"
        self.namespaces = []
        self.cache = self.directory / "cache"
        self.conf = self.directory / "10-test.conflist"
        bridge = {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": False,
                  "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "dataDir": str(self.directory / "ipam"),
                           "routes": [{"dst": "0.0.0.0/0"}]}}
        self.conf.write_text(json.dumps({"cniVersion": version, "name": f"net-{self.tag}", "plugins": [bridge, *extra]}))

    def namespace(self):
        name = f"ctr-{self.tag}-{len(self.namespaces)}"
        run(["ip", "netns", "add", name])
        self.namespaces.append(name)
        return name

    def __call__(self, what, ns="", container="c1", ifname="eth0", caps=None, conf=None, **kw):
        argv = [CNI_RUN, what, conf or self.conf, self.cache, PLUGINS]
        if ns or container:
            argv += [container, f"/run/netns/{ns}" if ns else "", ifname]
        if caps:
            argv.append(json.dumps(caps))
        out = run(argv, **kw)
        return json.loads(out.stdout) if out.stdout.strip() else None

    def addresses(self, ns, ifname="eth0"):
        out = run(["ip", "-n", ns, "-j", "address", "show", "dev", ifname], check=False).stdout
        return [a["local"] for i in json.loads(out or "[]") for a in i.get("addr_info", []) if a["family"] == "inet"]

    def close(self):
        for name in self.namespaces:
            run(["ip", "netns", "delete", name], check=False)
        run(["ip", "link", "delete", self.bridge], check=False)


@pytest.fixture
def net(tmp_path):
    made = []

    def make(**kw):
        made.append(Net(tmp_path / f"n{len(made)}", **kw))
        return made[-1]

    yield make
    for n in made:
        n.close()


def ping(ns, address):
    """Whether a TCP connection from one namespace reaches another's listener."""
    code = ("import socket,sys\ns=socket.create_connection((sys.argv[1], 9999), 60)\nsys.stdout.write(s.recv(5).decode())")
    return run(["ip", "netns", "exec", ns, "/usr/bin/python3", "-c", code, address]).stdout


class Listener:
    def __init__(self, ns):
        code = ("import socket\ns=socket.socket()\ns.setsockopt(1,2,1)\ns.bind(('',9999))\ns.listen()\nprint('up',flush=True)\n"
                "while True:\n c,_=s.accept()\n c.sendall(b'hello')\n c.close()\n")
        self.process = subprocess.Popen(["ip", "netns", "exec", ns, "/usr/bin/python3", "-c", code], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"up\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_two_namespaces_on_a_bridge_reach_each_other(net):
    n = net()
    a, b = n.namespace(), n.namespace()
    first = n("add", a, "c1")
    second = n("add", b, "c2")
    assert first["cniVersion"] == "1.0.0"
    assert n.addresses(a) == [first["ips"][0]["address"].split("/")[0]]
    assert n.addresses(b) == [second["ips"][0]["address"].split("/")[0]] != n.addresses(a)
    with Listener(b):
        assert ping(a, n.addresses(b)[0]) == "hello"


def test_what_was_attached_is_kept_checked_and_detached(net):
    n = net()
    ns = n.namespace()
    result = n("add", ns)
    kept = json.loads((n.cache / "results" / f"net-{n.tag}-c1-eth0").read_text())
    assert kept["kind"] == "cniCacheV1" and kept["result"] == result and kept["netns"] == f"/run/netns/{ns}"
    n("check", ns)
    run(["ip", "-n", ns, "address", "flush", "dev", "eth0"])
    with pytest.raises(CommandFailed, match=r'plugin type="bridge" failed \(CHECK\)'):
        n("check", ns)
    n("del", ns)
    assert n.addresses(ns) == []
    assert not list((n.cache / "results").iterdir())
    n("del", ns)


def test_detaching_works_when_the_namespace_is_gone(net):
    n = net()
    ns = n.namespace()
    address = n("add", ns)["ips"][0]["address"].split("/")[0]
    lease = n.directory / "ipam" / f"net-{n.tag}" / address
    assert lease.exists()
    run(["ip", "netns", "delete", ns])
    n("del")
    assert not lease.exists()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_every_version_of_the_specification(net, version):
    n = net(version=version)
    ns = n.namespace()
    result = n("add", ns)
    assert result["cniVersion"] == version
    assert ("ip4" in result) == (version < "0.3")
    assert n.addresses(ns)
    n("del", ns)
    assert n.addresses(ns) == []


def test_ports_are_mapped_by_the_chained_plugin(net):
    n = net(extra=[{"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}])
    a, b = n.namespace(), n.namespace()
    port = free_port()
    n("add", b, "c2")
    n("add", a, "c1", caps={"portMappings": [{"hostPort": port, "containerPort": 9999, "protocol": "tcp"}]})
    rules = run(["iptables-save", "-t", "nat"]).stdout
    assert f"--dport {port} " in rules and f"{n.addresses(a)[0]}:9999" in rules
    # What DEL is not told comes from what was kept.
    n("del", a, "c1")
    assert f"--dport {port} " not in run(["iptables-save", "-t", "nat"]).stdout


def test_loopback_comes_up(net, tmp_path):
    n = net()
    ns = n.namespace()
    conf = tmp_path / "99-lo.conf"
    conf.write_text(json.dumps({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}))
    assert n.addresses(ns, "lo") == []
    n("add", ns, ifname="lo", conf=conf)
    assert n.addresses(ns, "lo") == ["127.0.0.1"]


def test_static_addresses_and_macs_are_given_as_capabilities(net):
    n = net(extra=[{"type": "tuning", "capabilities": {"mac": True}}])
    ns = n.namespace()
    n("add", ns, caps={"mac": "02:00:00:00:00:77"})
    link = json.loads(run(["ip", "-n", ns, "-j", "link", "show", "dev", "eth0"]).stdout)[0]
    assert link["address"] == "02:00:00:00:00:77"


def test_collection_detaches_what_is_not_valid(net):
    n = net()
    a, b = n.namespace(), n.namespace()
    n("add", a, "c1")
    n("add", b, "c2")
    n("gc", b, "c2")
    assert n.addresses(a) == [] and n.addresses(b)


def test_a_failure_names_the_network_the_plugin_and_the_cause(net):
    n = net()
    ns = n.namespace()
    n.conf.write_text(n.conf.read_text().replace("10.231.7.0/24", "10.231.7.0/32"))
    with pytest.raises(CommandFailed, match=rf'network "net-{n.tag}": plugin type="bridge" failed \(ADD\): '):
        n("add", ns)
    with pytest.raises(CommandFailed, match="container id"):
        n("add", ns, "../c")


# ---- ctr run --cni ----

@pytest.fixture
def on_net(net, ctr, image):
    """ctr with the one network's configuration."""
    n = net()

    def call(*args, **kw):
        env = {"NETCONFPATH": str(n.directory), "CNI_PATH": PLUGINS, "ASAN_OPTIONS": "detect_leaks=0"}
        return ctr(*args, env=env, **kw)

    call.net = n
    return call


def leases(n):
    return [p.name for p in (n.directory / "ipam" / f"net-{n.tag}").glob("10.*")]


def test_run_with_cni_has_an_address_while_it_runs(on_net, image, name):
    out = on_net("run", "--rm", "--cni", image, name, "ip", "-4", "addr", "show", "eth0").stdout
    assert "10.231.7." in out
    assert leases(on_net.net) == []


def test_what_stays_attached_goes_with_the_container(on_net, image, name):
    on_net("run", "-d", "--cni", image, name, "sleep", "1000")
    assert len(leases(on_net.net)) == 1
    assert "10.231.7." in on_net("tasks", "exec", "--exec-id", "x", name, "ip", "addr").stdout
    on_net("tasks", "rm", "-f", name)
    on_net("containers", "rm", name)
    assert leases(on_net.net) == []


def test_a_network_that_fails_leaves_no_task(on_net, image, name):
    n = on_net.net
    n.conf.write_text(n.conf.read_text().replace('"type": "bridge"', '"type": "nosuch"'))
    p = on_net("run", "--rm", "--cni", image, name, "true", check=False)
    assert p.returncode == 1 and 'plugin "nosuch" is not in /usr/lib/cni' in p.stderr
    assert name not in on_net("tasks", "ls", "-q").stdout.split()
    n.conf.unlink()
    p = on_net("run", "--rm", "--cni", image, name, "true", check=False)
    assert "no network config found in" in p.stderr
    assert name not in on_net("containers", "ls", "-q").stdout.split()
