# SPDX-License-Identifier: Apache-2.0
"""A pod with several networks: they are attached and detached at the same time, or one after the other where the configuration says so."""
import json

import grpc
import pytest

from cri import NetNs, NsDaemon, Cri, fails, load_image
from harness import until

# Each plugin notes its begin; then it waits for all others of its kind, or makes sure that it is alone.
PLUGIN = """#!/bin/sh
cat > /dev/null
dir={place}
echo "$CNI_COMMAND $CNI_IFNAME" >> $dir/log
if [ -e $dir/alone ]; then
	mkdir $dir/busy || {{ echo '{{"code": 100, "msg": "not alone"}}'; exit 1; }}
	rmdir $dir/busy
else
	: > $dir/$CNI_COMMAND.$CNI_IFNAME
	for i in lo eth0 eth1; do
		n=0
		until [ -e $dir/$CNI_COMMAND.$i ]; do
			n=$((n + 1))
			[ $n -lt 1200 ] || {{ echo '{{"code": 100, "msg": "nobody else came"}}'; exit 1; }}
			sleep 0.05
		done
	done
fi
if [ "$CNI_COMMAND" = ADD ]; then
	if [ -e $dir/fail.$CNI_IFNAME ]; then echo '{{"code": 100, "msg": "broken"}}'; exit 1; fi
	echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "'$CNI_IFNAME'", "mac": "02:00:00:00:00:01", "sandbox": "'$CNI_NETNS'"}}],
		"ips": [{{"address": "10.1.'${{#CNI_IFNAME}}'.3/24", "interface": 0}}], "dns": {{"nameservers": ["10.0.0.'${{#CNI_IFNAME}}'"]}}}}'
fi
"""

CONFIG = """
[plugins.'io.containerd.cri.v1.runtime']
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{place}']
conf_dir = '{net}'
max_conf_num = 2
setup_serially = {serially}
"""


@pytest.fixture(params=["side by side", "serially"])
def cri(request, stubs, busybox_layout, tmp_path):
    tmp_path.chmod(0o711)
    serially = request.param == "serially"
    for name in ("loopback", "near", "far"):
        (tmp_path / name).write_text(PLUGIN.format(place=tmp_path))
        (tmp_path / name).chmod(0o755)
    if serially:
        (tmp_path / "alone").touch()
    ns = NetNs()
    d = NsDaemon(ns, lambda net: CONFIG.format(place=tmp_path, net=net, serially=str(serially).lower()))
    for n, name in enumerate(("near", "far", "unused")):
        (d.net_d / f"{n}.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": name}]}))
    try:
        d.start()
        c = Cri(d, stubs)
        load_image(d, busybox_layout, "docker.io/library/busybox:latest")
        c.place, c.serially = tmp_path, serially
        yield c
        d.clear()
    finally:
        d.close()
        ns.close()


def log(cri):
    """What the plugins were called for since the last time."""
    path = cri.place / "log"
    lines = path.read_text().splitlines()
    path.unlink()
    return lines if cri.serially else sorted(lines)


def test_networks_are_attached_and_detached_together_or_in_order(cri):
    expected = lambda command, *names: [f"{command} {n}" for n in (names if cri.serially else sorted(names))]
    pod = cri.run_pod(cri.pod("p"))
    assert log(cri) == expected("ADD", "lo", "eth0", "eth1")
    status = cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True)
    assert status.status.network.ip == "10.1.4.3"
    result = json.loads(status.info["info"])["cniResult"]
    assert {k: v["IPConfigs"][0]["IP"] for k, v in result["Interfaces"].items()} == {"lo": "10.1.2.3", "eth0": "10.1.4.3", "eth1": "10.1.4.3"}
    assert result["DNS"] == [{"nameservers": [f"10.0.0.{n}"]} for n in (2, 4, 4)]
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert log(cri) == expected("DEL", "eth1", "eth0", "lo")


def test_when_one_network_fails_all_are_detached(cri):
    (cri.place / "fail.eth0").touch()
    text = fails(grpc.StatusCode.UNKNOWN, cri.RunPodSandbox, config=cri.pod("p"))
    assert "failed to setup network for sandbox" in text and 'network "near": plugin type="near" failed (ADD): broken' in text
    lines = until("the end of the networks", lambda: (v := (cri.place / "log").read_text().splitlines()) and len([x for x in v if x[:3] == "DEL"]) == 3 and v)
    added = ["ADD lo", "ADD eth0"] if cri.serially else ["ADD lo", "ADD eth0", "ADD eth1"]
    assert sorted(x for x in lines if x[:3] == "ADD") == sorted(added)
    assert not cri.ListPodSandbox().items
