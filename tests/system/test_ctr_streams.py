# SPDX-License-Identifier: Apache-2.0
"""ctr's own standard streams: full, closed, or given up by who reads them."""
import os
import subprocess

from harness import SECONDS

ENV = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def status(ctr, *args, **streams):
    """Exit status and standard error of a command with these streams."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
    p = subprocess.run(ctr.argv(*args), stderr=subprocess.PIPE, env=ENV, timeout=SECONDS, **streams)
    return p.returncode, p.stderr.decode()


def test_errors_of_others_are_not_taken_for_the_daemon_s(ctr, tmp_path):
    for command in (["pprof", "-d", tmp_path / "nobody", "heap"], ["content", "fetch-object", "--plain-http", "127.0.0.1:1/a:1"],
                    ["shim", "--id", "nobody", "state"]):
        code, text = status(ctr, *command)
        assert code == 1 and "systemctl" not in text and "--address" not in text, text
