# SPDX-License-Identifier: Apache-2.0
"""Input: of a container whose stdin is for one client (stdin_once) or for any, and of commands in a terminal that is typed into and
resized, by clients of both protocols."""
import itertools

import pytest

from cri_fixtures import cri_and_image
from harness import until
from k8s_streams import exit_code
from test_cri_stream import attach, client_of, exec_url

PODS = itertools.count()
ECHO = ["sh", "-c", "while read x; do echo got $x; done; echo ended; exit 9"]


@pytest.fixture
def cri(cri_and_image):
    yield cri_and_image[0]
    cri_and_image[0].daemon.clear()


@pytest.fixture
def start(cri, cri_and_image):
    def run(command, **fields):
        conf = cri.pod(f"stdin{next(PODS)}")
        return cri.start(cri.run_pod(conf), conf, cri.container("c", cri_and_image[1], command, **fields))
    return run


@pytest.fixture(params=["spdy", "websocket"])
def kind(request):
    return request.param


def says(client, text):
    """Writes until there is an answer: who has heard one is attached."""
    def answered():
        client.write(client.stdin, text + "\n")
        return f"got {text}".encode() in client.data[client.stdout]
    until("an answer", answered)


@pytest.mark.parametrize("leave", ["end of input", "hang up"])
def test_stdin_once_ends_with_its_client(cri, start, kind, leave):
    k = start(ECHO, stdin=True, stdin_once=True)
    c = attach(cri, cri.daemon.netns, kind, k, stdin=True, stdout=True, stderr=True)
    says(c, "one")
    c.end(c.stdin) if leave == "end of input" else c.close()
    assert cri.exited(k).exit_code == 9
    assert [line[2] for line in cri.log(k)][-1] == "ended"
    if leave == "end of input":
        assert c.status()["status"] == "Success"
        c.until(c.stdout, "ended")


def test_stdin_once_is_for_the_first_client_only(cri, start, kind):
    k = start(["sh", "-c", "cat; echo ended; sleep 1000"], stdin=True, stdin_once=True)
    ns = cri.daemon.netns
    c = attach(cri, ns, kind, k, stdin=True, stdout=True, stderr=True)
    c.write(c.stdin, "first\n")
    c.until(c.stdout, "first\n")
    c.end(c.stdin)
    c.until(c.stdout, "ended\n")
    d = attach(cri, ns, kind, k, stdin=True, stdout=True, stderr=True)
    d.write(d.stdin, "second\n")
    assert cri.ExecSync(container_id=k, cmd=["echo", "alive"]).stdout == b"alive\n"
    assert [line[2] for line in cri.log(k)] == ["first", "ended"]
    d.close()


@pytest.mark.parametrize("leave", ["end of input", "hang up"])
def test_stdin_that_is_not_once_waits_for_the_next_client(cri, start, kind, leave):
    k = start(ECHO, stdin=True)
    ns = cri.daemon.netns
    c = attach(cri, ns, kind, k, stdin=True, stdout=True, stderr=True)
    says(c, "one")
    c.end(c.stdin) if leave == "end of input" else c.close()
    d = attach(cri, ns, kind, k, stdin=True, stdout=True, stderr=True)
    says(d, "two")
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING and "ended" not in [line[2] for line in cri.log(k)]
    d.close()


def test_terminal_outlives_the_client_of_stdin_once(cri, start, kind):
    k = start(ECHO, stdin=True, stdin_once=True, tty=True)
    ns = cri.daemon.netns
    c = attach(cri, ns, kind, k, stdin=True, stdout=True, tty=True)
    says(c, "one")
    c.close()
    d = attach(cri, ns, kind, k, stdin=True, stdout=True, tty=True)
    says(d, "two")
    d.write(d.stdin, b"\x04")
    assert cri.exited(k).exit_code == 9


# ---- commands in a terminal ----


def test_command_in_a_terminal_echoes_answers_and_follows_the_size(cri, start, kind):
    k = start(["sleep", "1000"])
    url = exec_url(cri, k, "sh", stdin=True, tty=True)
    c = client_of(kind, cri.daemon.netns, url, ["stdin", "stdout", "resize"])
    c.write(c.resize, '{"Width":91,"Height":17}')

    def sized(rows, columns):
        def told():
            c.write(c.stdin, "echo size $(stty size)\n")
            return f"size {rows} {columns}".encode() in c.data[c.stdout]
        until("the size", told)
    sized(17, 91)
    assert b"echo size $(stty size)\r\n" in c.data[c.stdout]  # typed input is echoed
    c.write(c.resize, '{"Width":132,"Height":43}')
    sized(43, 132)
    c.write(c.stdin, "tty && echo TERM=$TERM\n")
    c.until(c.stdout, "TERM=xterm\r\n")
    c.write(c.resize, '{"Width":40,"Height":10}')
    sized(10, 40)
    c.write(c.stdin, "exit 3\n")
    assert exit_code(c.status()) == 3


def test_terminal_passes_keys_that_end_and_interrupt(cri, start, kind):
    k = start(["sleep", "1000"])
    ns = cri.daemon.netns
    c = client_of(kind, ns, exec_url(cri, k, "cat", stdin=True, tty=True), ["stdin", "stdout", "resize"])
    c.write(c.stdin, "a line\n")
    c.until(c.stdout, "a line\r\na line\r\n")
    c.write(c.stdin, b"\x04")
    assert exit_code(c.status()) == 0
    c = client_of(kind, ns, exec_url(cri, k, "sh", "-c", "trap 'exit 5' INT; echo ready; while :; do read x; done", stdin=True, tty=True), ["stdin", "stdout", "resize"])
    c.until(c.stdout, "ready")
    c.write(c.stdin, b"\x03")
    assert exit_code(c.status()) == 5


def test_terminal_that_its_client_leaves_ends_its_command(cri, start, kind):
    k = start(["sleep", "1000"])
    c = client_of(kind, cri.daemon.netns, exec_url(cri, k, "sh", "-c", "echo here; exec sleep 12345", stdin=True, tty=True), ["stdin", "stdout", "resize"])
    c.until(c.stdout, "here")
    assert b"12345" in cri.ExecSync(container_id=k, cmd=["ps"]).stdout
    c.close()
    # As with containerd the command goes on: only its terminal has nobody any more.
    assert cri.status(k).state == cri.pb.CONTAINER_RUNNING
