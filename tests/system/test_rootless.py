# SPDX-License-Identifier: Apache-2.0
"""A daemon, its shims and runtimes in a user namespace, without any right outside of it."""
import json
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

from harness import BIN, run
from userns import FIRST, OWNER

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def place():
    """A directory of the namespace's owner, with programs that it may read."""
    with tempfile.TemporaryDirectory(prefix="rl-", dir="/tmp") as d:
        place = pathlib.Path(d)
        place.chmod(0o755)
        shutil.copytree(HERE, place / "tests")
        (place / "bin").mkdir()
        for f in BIN.iterdir():
            shutil.copy2(f, place / "bin")
        (place / "node/run").mkdir(parents=True)
        for f in (place / "node", place / "node/run"):
            os.chown(f, OWNER, OWNER)
        yield place


def rootless(place, ids, image):
    p = run([sys.executable, "-B", place / "tests/userns.py", ids, sys.executable, "-B", place / "tests/rootless_node.py", place / "node", image],
            env={"CONTAINERD_BIN": str(place / "bin"), "HOME": str(place / "node")}, timeout=600)
    return json.loads(p.stdout.splitlines()[-1])


def test_node_in_a_user_namespace_does_the_main_job(place, busybox):
    seen = rootless(place, 65536, busybox)
    assert seen["runc"] == seen["crun"] == ["0", "1000", "0", str(OWNER), "1", "1", str(FIRST), "65536"]
    assert seen["native"] == ["0"]
    assert sorted(seen["network"]) == sorted(os.listdir("/sys/class/net"))
    assert seen["exec"] == ["there"] and seen["after a crash"] == ["RUNNING"]
    assert seen["plugins"] == []
