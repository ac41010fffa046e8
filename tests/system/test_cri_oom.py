# SPDX-License-Identifier: Apache-2.0
"""Containers that the kernel kills for their memory say so, every time.

CRI_OOM_COUNT is the number of containers of test_every_kill_is_told (24 when it is not set), some of them at a time:

    CRI_OOM_COUNT=250 pytest tests/system/test_cri_oom.py -k every_kill
"""
import concurrent.futures
import os

import pytest

from cri_fixtures import cri_and_image, image
from harness import until

COUNT = int(os.environ.get("CRI_OOM_COUNT", "24"))
AT_ONCE = 4
LIMIT = 16 << 20
EAT = "exec tail /dev/zero"
# Who is killed: the first process, as soon as it starts or after a while, or a child whose end the first one passes on.
KINDS = [EAT, f"sleep 0.0$((RANDOM % 10)); {EAT}", "tail /dev/zero; exit $?", "head -c 40000000 /dev/zero > /dev/shm/f; " + EAT]


@pytest.fixture
def cri(cri_and_image):
    yield cri_and_image[0]
    cri_and_image[0].daemon.clear()


def limited(cri, name, image, script):
    limits = cri.pb.LinuxContainerConfig(resources=cri.pb.LinuxContainerResources(memory_limit_in_bytes=LIMIT))
    return cri.container(name, image, ["/bin/sh", "-c", script], linux=limits)


def test_every_kill_is_told(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)

    def one(i):
        k = cri.start(pod, conf, limited(cri, f"c{i}", image, KINDS[i % len(KINDS)]))
        s = cri.exited(k)
        cri.RemoveContainer(container_id=k)
        return (s.exit_code, s.reason)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(one, range(COUNT)))
    wrong = [(i, e) for i, e in enumerate(ends) if e != (137, "OOMKilled")]
    print(f"{len(ends) - len(wrong)} of {len(ends)} were told")
    assert not wrong


def test_other_ends_are_no_kills_for_memory(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    k = cri.start(pod, conf, limited(cri, "killed", image, "kill -9 $$"))
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (137, "Error")
    # A child was killed, and the first process coped with it.
    k = cri.start(pod, conf, limited(cri, "coped", image, "tail /dev/zero; exit 0"))
    s = cri.exited(k)
    assert (s.exit_code, s.reason) == (0, "Completed")


def test_kill_while_no_daemon_ran_is_told_later(cri, image):
    conf = cri.pod("p")
    pod = cri.run_pod(conf)
    ks = [cri.start(pod, conf, limited(cri, f"c{i}", image, f"until [ -e /go ]; do sleep 0.1; done; {EAT}")) for i in range(2)]
    pids = [cri.verbose(k)["pid"] for k in ks]
    cri.daemon.stop()
    for pid in pids:
        open(f"/proc/{pid}/root/go", "w").close()
    until("their ends", lambda: not any(os.path.exists(f"/proc/{pid}/root/go") for pid in pids))
    cri.daemon.start()
    cri.connect()
    for k in ks:
        s = cri.exited(k)
        assert (s.exit_code, s.reason) == (137, "OOMKilled")
