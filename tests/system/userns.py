# SPDX-License-Identifier: Apache-2.0
"""Runs a command as root of a user namespace that belongs to somebody without any right, with a /run of its own, as RootlessKit
does it.

    userns.py IDS COMMAND…    IDS: how many ids the namespace has besides root's
"""
import ctypes
import os
import sys

OWNER, FIRST = 100500, 200000
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
PR_SET_DUMPABLE = 4


def main(ids, *command):
    libc = ctypes.CDLL(None, use_errno=True)
    mine, theirs = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(OWNER, OWNER, OWNER)
        os.setresuid(OWNER, OWNER, OWNER)
        libc.prctl(PR_SET_DUMPABLE, 1)
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0:
            sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
        os.write(mine[1], b"x")
        os.read(theirs[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) < 0 or libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755") < 0:
            sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
        os.execvp(command[0], command)
    os.read(mine[0], 1)
    for kind in "uid", "gid":
        with open(f"/proc/{pid}/{kind}_map", "w") as f:
            f.write(f"0 {OWNER} 1\n" + (f"1 {FIRST} {ids}\n" if int(ids) else ""))
    os.write(theirs[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
