# SPDX-License-Identifier: Apache-2.0
"""Terminals: ctr run -t, exec -t and attach on a real pseudo terminal."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest

from harness import SECONDS


class Terminal:
    """A command on a pseudo terminal of its own, and what it shows."""

    def __init__(self, argv, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, pattern):
        """Waits for it in what has not been waited for; takes it off."""
        end = time.monotonic() + SECONDS
        while True:
            m = re.search(pattern, self.text)
            if m:
                self.text = self.text[m.end():]
                return m
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {pattern!r} on the terminal, but {self.text[-2000:]!r}"
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(ctr):
    opened = []

    def start(*args, **kw):
        opened.append(Terminal(ctr.argv(*args), **kw))
        return opened[-1]

    yield start
    for t in opened:
        t.close()


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_run_gives_a_terminal_of_the_right_size_that_follows_resizes(terminal, image, name, runtime):
    t = terminal("run", "--rm", "-t", "--runc-binary", runtime, image, name, "sh", rows=33, columns=101)
    t.wait("[#$] ")
    t.type("tty; stty size\n")
    assert t.wait(r"\n(/dev/\S+)")[1].startswith(("/dev/pts/", "/dev/console"))
    t.wait(r"33 101")
    t.resize(44, 122)
    # The new size travels through ctr, daemon and shim: ask until it is there.
    t.type("until [ \"$(stty size)\" = '44 122' ]; do sleep 0.05; done; echo re''sized\n")
    t.wait("resized")
    t.type("exit 5\n")
    assert t.process.wait(SECONDS) == 5


def test_terminal_is_given_back_as_it_was(terminal, image, name):
    t = terminal("run", "--rm", "-t", image, name, "sh", "-c", "echo ready; read x; exit 0")
    t.wait("ready")
    assert termios.tcgetattr(t.slave)[3] & termios.ICANON == 0, "raw while the container has it"
    t.type("x\n")
    assert t.process.wait(SECONDS) == 0
    assert termios.tcgetattr(t.slave)[3] == t.before[3]


def test_control_c_interrupts_the_program_in_the_container(terminal, image, name):
    t = terminal("run", "--rm", "-t", image, name, "sh", "-c", "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done")
    t.wait("up")
    t.type("\x03")
    t.wait("caught")
    assert t.process.wait(SECONDS) == 9


def test_exec_gives_a_terminal_too(ctr, terminal, image, name):
    ctr("run", "-d", image, name, "sleep", "600")
    t = terminal("tasks", "exec", "-t", "--exec-id", "e1", name, "sh", rows=20, columns=70)
    t.wait("[#$] ")
    t.type("stty size; exit 3\n")
    t.wait("20 70")
    assert t.process.wait(SECONDS) == 3


def test_attach_shows_the_terminal_of_a_detached_container(ctr, terminal, image, name):
    ctr("run", "-d", "-t", image, name, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    t = terminal("tasks", "attach", name)
    t.wait("tick\r\n")
