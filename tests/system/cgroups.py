# SPDX-License-Identifier: Apache-2.0
"""crun wants every controller of the kernel mounted somewhere. On a host with version 1 hierarchies, those that are left in the
version 2 hierarchy are mounted in a hierarchy of their own for the time of the tests; what is mounted stays as it is.

And where the group of a process is, by either version."""
import os
import pathlib
import subprocess

TOP = pathlib.Path("/sys/fs/cgroup")
UNIFIED = (TOP / "cgroup.controllers").exists()


def root(controller):
    """The hierarchy that has a controller."""
    return TOP if UNIFIED else TOP / controller


def path(pid, controller):
    """The path of a process's group below the hierarchy's root ("/x/y")."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, names, found = line.split(":", 2)
        if number == "0" if UNIFIED else controller in names.split(","):
            return found
    raise AssertionError(f"no {controller} of process {pid}")


def file(pid, controller, v1, v2):
    """A file of a process's group, which has another name in each version."""
    return root(controller) / path(pid, controller).lstrip("/") / (v2 if UNIFIED else v1)


def directories(group):
    """All directories of the group "/x/y"."""
    return [d for r in ([TOP] if UNIFIED else TOP.iterdir()) if (d := r / group.lstrip("/")).is_dir()]


def mounted():
    """Controllers of version 1 that are mounted."""
    out = set()
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, _, kind, options = line.split()[:4]
        if kind == "cgroup":
            out.update(options.split(","))
    return out


def missing():
    """Those in the version 2 hierarchy, and those whose hierarchy of an earlier run has outlived its mount."""
    left = set((TOP / "unified" / "cgroup.controllers").read_text().split())
    for line in pathlib.Path("/proc/cgroups").read_text().splitlines()[1:]:
        name, hierarchy, _, enabled = line.split()
        if enabled == "1" and hierarchy != "0":
            left.add(name)
    return sorted(left - mounted())


def mount_missing():
    """Returns a function that undoes it."""
    made = []
    if (TOP / "unified" / "cgroup.controllers").exists():
        for controller in missing():
            point = TOP / controller
            point.mkdir(exist_ok=True)
            r = subprocess.run(["mount", "-t", "cgroup", "-o", controller, "cgroup", point], capture_output=True)
            if r.returncode == 0:
                made.append(point)

    def undo():
        for point in made:
            # A hierarchy goes back to version 2 only when it is empty.
            for directory, _, _ in os.walk(point, topdown=False):
                if directory != str(point):
                    try:
                        os.rmdir(directory)
                    except OSError:
                        pass
            if subprocess.run(["umount", point], capture_output=True).returncode == 0:
                try:
                    point.rmdir()
                except OSError:
                    pass

    return undo
