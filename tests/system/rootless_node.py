# SPDX-License-Identifier: Apache-2.0
"""The program of test_rootless.py that runs in the user namespace: a daemon and its user. Prints what was seen, as JSON."""
import json
import sys

from harness import Daemon, rows


def main(directory, image):
    seen = {}
    d = Daemon(directory=directory, env={"XDG_RUNTIME_DIR": f"{directory}/run"}).start()
    try:
        ctr = d.ctr
        ctr("images", "pull", "--plain-http", "--local", image)
        ctr("images", "pull", "--plain-http", "--snapshotter", "native", image)
        for runtime in "runc", "crun":
            seen[runtime] = ctr.out("run", "--rm", "--runc-binary", runtime, image, runtime, "sh", "-c", "id -u; stat -c %u /home/alice; cat /proc/self/uid_map").split()
        seen["native"] = ctr.out("run", "--rm", "--snapshotter", "native", image, "native", "id", "-u").split()
        seen["network"] = ctr.out("run", "--rm", "--net-host", image, "network", "ls", "/sys/class/net").split()
        ctr("run", "-d", image, "long", "sleep", "1000")
        seen["exec"] = ctr.out("tasks", "exec", "--exec-id", "e", "long", "echo", "there").split()
        d.kill()
        d.start()
        seen["after a crash"] = [r[2] for r in rows(ctr.out("tasks", "ls"))]
        seen["plugins"] = [r for r in rows(ctr.out("plugins", "ls")) if r[-1] == "error"]
    finally:
        d.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
