# SPDX-License-Identifier: Apache-2.0
"""Before the power fails: the node's containerd with pods, containers and images, all of it remembered for after_reboot.py. What is
made last is not written back by anybody but the daemon itself."""
import os
import pathlib

from cri import load_image
from harness import until
from node import IMAGE, Node, STATE, addresses, remember


def test_node_is_put_to_work(stubs, busybox_layout):
    node = Node()
    node.install()
    node.started()
    load_image(node, busybox_layout, IMAGE)
    ctr = node.ctr
    (STATE / "rootfs.tar").unlink(missing_ok=True)
    ctr("images", "export", STATE / "rootfs.tar", IMAGE, ns="k8s.io")
    ctr("images", "import", STATE / "rootfs.tar")
    os.sync()  # the layers of an image are not synced one by one; all else that follows has to be

    cri = node.cri(stubs)
    pb = cri.pb
    conf = cri.pod("pod", log_directory="/var/log/pods/vmtest", port_mappings=[pb.PortMapping(container_port=80, host_port=8099)])
    p = cri.run_pod(conf)
    running = cri.start(p, conf, cri.container("running", IMAGE, ["/bin/sh", "-c", "echo said; echo kept > /file; sync; touch /ready; sleep 100000"]))
    until("its file", lambda: pathlib.Path(f"/proc/{cri.verbose(running)['pid']}/root/ready").exists())
    done = cri.start(p, conf, cri.container("done", IMAGE, ["/bin/sh", "-c", "exit 4"]))
    killed = cri.start(p, conf, cri.container("killed", IMAGE, ["/bin/sh", "-c", "exec tail /dev/zero"], linux=pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=16 << 20))))
    created = cri.CreateContainer(pod_sandbox_id=p, config=cri.container("created", IMAGE), sandbox_config=conf).container_id
    cri.exited(done)
    assert cri.exited(killed).reason == "OOMKilled"
    host = cri.pod("host", linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(network=pb.NODE))))
    hp = cri.run_pod(host)
    hc = cri.start(hp, host, cri.container("c", IMAGE))
    gone = cri.run_pod(cri.pod("gone"))
    cri.StopPodSandbox(pod_sandbox_id=gone)
    ip = cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
    assert ip in addresses()

    ctr("run", "-d", IMAGE, "plain", "sh", "-c", "echo kept > /file; sync; touch /ready; sleep 100000")
    until("its file", lambda: "ready" in ctr.out("tasks", "exec", "--exec-id", "l", "plain", "ls", "/"))
    ctr("run", "-d", "--label", "containerd.io/restart.status=running", IMAGE, "again", "sleep", "100000")
    ctr("leases", "create", "--id", "kept")
    ctr("snapshots", "prepare", "--image", IMAGE, "mine")
    remember({"pod": p, "ip": ip, "running": running, "done": done, "killed": killed, "created": created, "host": hp, "host_container": hc, "gone": gone,
              "boot": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(),
              "images": sorted(ctr.quiet("images", "ls", "-q")), "snapshots": sorted(line.split()[0] for line in ctr.out("snapshots", "ls").splitlines()[1:])})
    os.sync()  # of the test's own file and logs
