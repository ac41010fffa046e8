# SPDX-License-Identifier: Apache-2.0
"""Runtime handlers in trouble, and those that are not."""
import os
import threading

import pytest

from cri import cri_daemon
from harness import until

HANDLERS = 8
# Asked what it can do, it says that it was, and nothing more before it may.
SHIM = """#!/bin/sh
echo $$ > {dir}/asked.$$ && mv {dir}/asked.$$ {dir}/asked
while ! [ -e {dir}/go ]; do sleep 0.1; done
exit 1
"""


@pytest.fixture
def hanging(tmp_path):
    yield tmp_path
    (tmp_path / "go").touch()


def test_shim_that_does_not_answer_keeps_only_its_own_handler_waiting(stubs, busybox_layout, hanging):
    shim = hanging / "containerd-shim-hangs-v1"
    shim.write_text(SHIM.format(dir=hanging))
    shim.chmod(0o755)
    asked = hanging / "asked"
    config = "\n".join(f"""
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hangs{n}]
runtime_type = 'io.containerd.hangs.v1'
runtime_path = '{shim}'""" for n in range(HANDLERS)) + """
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
"""

    def next_one(last):
        return until("another handler's shim to be asked", lambda: asked.exists() and (p := int(asked.read_text())) != last and p, 120)

    with cri_daemon(stubs, busybox_layout, config) as (cri, image):
        pod = cri.pod("p")
        p = cri.run_pod(pod)
        status = threading.Thread(target=cri.Status, kwargs={"rpc_timeout": 600}, daemon=True)
        status.start()
        # A shim is waited for no longer than half a minute, one after the other.
        shims = [None]
        for n in range(HANDLERS):
            shims.append(next_one(shims[-1]))
            cri.CreateContainer(pod_sandbox_id=p, config=cri.container(f"k{n}", image), sandbox_config=pod)
            if os.path.exists(f"/proc/{shims[-1]}"):
                break
        else:
            raise AssertionError("no container was made while a shim was asked")
        (hanging / "go").touch()
        status.join()
