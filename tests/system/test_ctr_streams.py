# SPDX-License-Identifier: Apache-2.0
"""ctr's own standard streams: full, closed, or given up by who reads them."""
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from harness import SECONDS, rows

ENV = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def blob(ctr, image):
    return [r for r in rows(ctr.out("images", "ls")) if r[0] == image][0][2]


def status(ctr, *args, **streams):
    """Exit status and standard error of a command with these streams."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
    p = subprocess.run(ctr.argv(*args), stderr=subprocess.PIPE, env=ENV, timeout=SECONDS, **streams)
    return p.returncode, p.stderr.decode()


@pytest.mark.parametrize("command", [["version"], ["plugins", "ls"], ["plugins", "ls", "-q"], ["oci", "spec"], ["completion", "bash"], ["man"], ["info"],
                                     ["--help"], ["--version"], ["snapshots", "tree"], ["images", "inspect", "IMAGE"], ["content", "get", "BLOB"]])
def test_what_cannot_be_printed_is_an_error(ctr, image, command):
    words = {"IMAGE": image, "BLOB": blob(ctr, image)}
    with open("/dev/full", "wb") as full:
        code, text = status(ctr, *[words.get(w, w) for w in command], stdout=full)
    assert code == 1 and text.startswith("ctr: write standard output: "), (code, text)


@pytest.mark.parametrize("command", [["plugins", "ls"], ["plugins", "ls", "--format", "json"], ["man"], ["snapshots", "tree"], ["content", "get", "BLOB"],
                                     ["images", "export", "-", "IMAGE"], ["run", "--rm", "IMAGE", "NAME", "echo", "x"]])
def test_a_reader_that_is_gone_is_no_news(ctr, image, name, command):
    words = {"IMAGE": image, "BLOB": blob(ctr, image), "NAME": name}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, text = status(ctr, *[words.get(w, w) for w in command], stdout=writer)
    finally:
        os.close(writer)
    progress = [line for line in text.splitlines() if line.startswith("ctr")]
    assert code == 1 and not progress, (code, text)
    assert name not in ctr.quiet("containers", "ls", "-q")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_not_taken_for_others(daemon, ctr, image, name, closed):
    """The next file that is opened, such as the daemon's socket, must not become standard input or output."""
    def run(*args):
        return subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *ctr.argv(*args)], stdin=subprocess.DEVNULL, capture_output=True, env=ENV,
                              timeout=SECONDS)

    p = run("plugins", "ls")
    assert p.returncode == 0, p.stderr
    assert (b"overlayfs" in p.stdout) == (">&-" not in closed)
    p = run("run", "--rm", image, name, "sh", "-c", "cat; echo done; exit 3")
    assert p.returncode == 3, p.stderr
    assert p.stdout == (b"done\n" if ">&-" not in closed else b"")
    daemon.check_reports()


def test_a_pipe_that_does_not_block_gets_all_of_it(ctr, image, name):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    p = ctr.popen("run", "--rm", image, name, "sh", "-c", "head -c 1000000 /dev/zero", stdout=writer, stderr=subprocess.PIPE, env=ENV)
    os.close(writer)
    with open(reader, "rb") as f:
        data = f.read()
    assert p.wait(SECONDS) == 0 and len(data) == 1000000, p.stderr.read()


def test_environment_files_of_other_systems_are_read(ctr, image, name, tmp_path):
    (tmp_path / "env").write_bytes(b"# a comment\r\nA=1\r\n\r\nB=2\r\nC=3")
    assert ctr.out("run", "--rm", "--env-file", tmp_path / "env", image, name, "sh", "-c", 'echo "$A-$B-$C"') == "1-2-3\n"


def test_errors_of_others_are_not_taken_for_the_daemon_s(ctr, tmp_path):
    for command in (["pprof", "-d", tmp_path / "nobody", "heap"], ["content", "fetch-object", "--plain-http", "127.0.0.1:1/a:1"],
                    ["shim", "--id", "nobody", "state"]):
        code, text = status(ctr, *command)
        assert code == 1 and "systemctl" not in text and "--address" not in text, text


def test_the_longest_time_is_no_time_at_all(ctr):
    longest = "2562047h47m16.854775807s"
    ctr("--timeout", longest, "--connect-timeout", longest, "version")


def test_an_interrupted_pull_leaves_nothing_in_tmp(ctr):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        p = ctr.popen("images", "pull", "--skip-verify", f"{host}/x:1", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENV)
        silent.settimeout(SECONDS)
        connection, _ = silent.accept()
        assert list(pathlib.Path("/tmp").glob(f"ctr-hosts-*/{host}"))
        p.send_signal(signal.SIGTERM)
        assert p.wait(SECONDS) == -signal.SIGTERM
        connection.close()
    assert not list(pathlib.Path("/tmp").glob(f"ctr-hosts-*/{host}"))
