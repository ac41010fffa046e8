# SPDX-License-Identifier: Apache-2.0
"""Containers run with our ctr: what the process sees, and what ctr gives back. With each OCI runtime."""
import json
import pathlib
import signal
import subprocess

import pytest

import cgroups
from harness import Lines, alive, rows, until


@pytest.fixture(params=["runc", "crun"])
def rt(request):
    """Arguments that choose the OCI runtime."""
    return ["--runc-binary", request.param]


def sh(ctr, rt, image, name, script, *options, **kw):
    return ctr("run", "--rm", *rt, *options, image, name, "sh", "-c", script, **kw)


def test_output_goes_to_the_stream_it_was_written_to(ctr, rt, image, name):
    p = sh(ctr, rt, image, name, "echo out; echo err >&2")
    assert (p.stdout, p.stderr) == ("out\n", "err\n")
    assert ctr.quiet("containers", "ls", "-q") == [] and ctr.quiet("tasks", "ls", "-q") == []


def test_exit_status_is_the_containers(ctr, rt, image, name):
    assert sh(ctr, rt, image, name, "exit 42", check=False).returncode == 42


def test_death_by_signal_is_128_and_its_number(ctr, rt, image, name):
    assert sh(ctr, rt, image, name, "sh -c 'kill -9 $$'; exit $?", check=False).returncode == 137


def test_stdin_reaches_the_process_to_its_end(ctr, rt, image, name):
    data = "line\n" * 50000
    assert sh(ctr, rt, image, name, "wc -c; echo end", input=data).stdout.split() == [str(len(data)), "end"]


def test_large_output_is_complete(ctr, rt, image, name):
    assert len(sh(ctr, rt, image, name, "head -c 5000000 /dev/zero | tr '\\0' x").stdout) == 5000000


def test_environment_comes_from_image_and_flags(ctr, rt, image, name):
    out = sh(ctr, rt, image, name, "env", "--env", "A=1", "--env", "FROM_IMAGE=no").stdout.splitlines()
    assert "A=1" in out and "FROM_IMAGE=no" in out and any(line.startswith("PATH=") for line in out)


def test_working_directory_comes_from_image_or_flag(ctr, rt, image, name):
    assert sh(ctr, rt, image, name, "pwd").stdout == "/home\n"
    assert sh(ctr, rt, image, name, "pwd", "--cwd", "/etc").stdout == "/etc\n"


def test_default_command_is_the_images(ctr, rt, image, name):
    assert ctr.out("run", "--rm", *rt, image, name, input="echo from stdin\n") == "from stdin\n"


@pytest.mark.parametrize("user,expected", [("1000:2000", "1000 2000"), ("alice", "1000 1000"), ("1000", "1000 1000"), ("alice:extra", "1000 2000")])
def test_user_is_taken_from_the_images_files(ctr, rt, image, name, user, expected):
    assert sh(ctr, rt, image, name, "echo $(id -u) $(id -g)", "--user", user).stdout.strip() == expected


def test_bind_mounts_are_there_and_read_only_where_asked(ctr, rt, image, name, tmp_path):
    (tmp_path / "f").write_text("from the host\n")
    out = sh(ctr, rt, image, name, "cat /m/f; echo inside > /m/g; touch /r/h 2>&1; echo $?",
             "--mount", f"type=bind,src={tmp_path},dst=/m,options=rbind:rw", "--mount", f"type=bind,src={tmp_path},dst=/r,options=rbind:ro").stdout
    assert out.startswith("from the host\n") and "Read-only file system" in out and out.endswith("1\n")
    assert (tmp_path / "g").read_text() == "inside\n" and not (tmp_path / "h").exists()


def test_tmpfs_mount(ctr, rt, image, name):
    out = sh(ctr, rt, image, name, "grep ' /t ' /proc/mounts", "--mount", "type=tmpfs,src=tmpfs,dst=/t,options=size=1m:mode=0700").stdout
    assert out.startswith("tmpfs /t tmpfs") and "size=1024k" in out


def test_root_is_read_only_when_asked(ctr, rt, image, name):
    assert sh(ctr, rt, image, name, "touch /x && echo written").stdout == "written\n"
    p = sh(ctr, rt, image, name, "touch /x", "--read-only", check=False)
    assert p.returncode == 1 and "Read-only file system" in p.stderr


def task_pid(ctr, name):
    return int([r for r in rows(ctr.out("tasks", "ls")) if r[0] == name][0][1])


def test_memory_and_cpu_limits_reach_the_cgroup(ctr, rt, image, name):
    ctr("run", "-d", *rt, "--memory-limit", str(64 << 20), "--cpus", "0.5", image, name, "sleep", "600")
    pid = task_pid(ctr, name)
    assert cgroups.file(pid, "memory", "memory.limit_in_bytes", "memory.max").read_text().strip() == str(64 << 20)
    assert cgroups.file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").read_text().split()[0] == "50000"
    assert f"/{name}" in open(f"/proc/{pid}/cgroup").read()


def test_capabilities_are_added_and_dropped(ctr, rt, image, name):
    def effective(*options):
        return int(sh(ctr, rt, image, name, "grep CapEff /proc/self/status", *options).stdout.split()[1], 16)

    net_admin, chown = 1 << 12, 1 << 0
    assert not effective() & net_admin and effective() & chown
    assert effective("--cap-add", "CAP_NET_ADMIN") & net_admin
    assert not effective("--cap-drop", "CAP_CHOWN") & chown


def test_namespaces_are_the_containers_own(ctr, rt, image, name):
    out = sh(ctr, rt, image, name, "hostname; echo $$; ls /sys/class/net", "--hostname", "frog").stdout.split()
    assert out[0] == "frog" and out[1] == "1" and out[2:] == ["lo"]


def test_host_network_is_shared_when_asked(ctr, rt, image, name):
    mine = {p.name for p in pathlib.Path("/sys/class/net").iterdir()}
    assert set(sh(ctr, rt, image, name, "ls /sys/class/net", "--net-host").stdout.split()) == mine


def test_privileged_has_all_capabilities_of_the_host(ctr, rt, image, name):
    own = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0]
    assert sh(ctr, rt, image, name, "grep CapEff /proc/self/status", "--privileged").stdout.split()[1] == own


def process_status(*args):
    return dict(line.split(":\t") for line in sh(*args).stdout.splitlines() if ":\t" in line)


def test_no_new_privileges_unless_allowed(ctr, rt, image, name):
    who = (ctr, rt, image, name, "cat /proc/self/status")
    assert process_status(*who)["NoNewPrivs"] == "1" and process_status(*who)["Seccomp"] == "0"
    assert process_status(*who, "--allow-new-privs")["NoNewPrivs"] == "0"


def test_default_seccomp_profile_filters(ctr, rt, image, name):
    assert process_status(ctr, rt, image, name, "cat /proc/self/status", "--seccomp")["Seccomp"] == "2"


def test_seccomp_profile_of_a_file_refuses_what_it_says(ctr, rt, image, name, tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    p = sh(ctr, rt, image, name, "mkdir /x", "--seccomp", "--seccomp-profile", profile, check=False)
    assert p.returncode == 1 and "Operation not permitted" in p.stderr


def test_pid_file_names_the_running_process(ctr, rt, image, name, tmp_path):
    ctr("run", "-d", *rt, "--pid-file", tmp_path / "pid", image, name, "sleep", "600")
    pid = int((tmp_path / "pid").read_text())
    assert pid == task_pid(ctr, name)
    # It becomes its program a moment after its start is told.
    until("the program", lambda: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00")


def test_detached_container_goes_on_and_is_killed_and_removed(ctr, rt, image, name):
    ctr("run", "-d", *rt, image, name, "sleep", "600")
    assert [r for r in rows(ctr.out("tasks", "ls")) if r[0] == name][0][2] == "RUNNING"
    pid = task_pid(ctr, name)
    ctr("tasks", "kill", "-s", "KILL", name)
    until("the task to stop", lambda: [name, str(pid), "STOPPED"] in rows(ctr.out("tasks", "ls")))
    assert "exit code 137" in ctr("tasks", "rm", name).stderr
    assert not alive(pid)
    ctr("containers", "rm", name)


def test_signals_to_ctr_reach_the_container(ctr, rt, image, name):
    script = 'trap "echo caught; exit 7" TERM INT; echo up; while :; do sleep 0.05; done'
    for sig in (signal.SIGTERM, signal.SIGINT):
        p = ctr.popen("run", "--rm", *rt, image, name, "sh", "-c", script, stdout=subprocess.PIPE)
        try:
            lines = Lines(p)
            lines.wait("^up$")
            p.send_signal(sig)
            lines.wait("^caught$")
            assert p.wait(90) == 7
        finally:
            p.kill()
            p.wait()


def test_rootfs_directory_instead_of_an_image(ctr, rt, name, tmp_path):
    import images
    images.busybox_rootfs(tmp_path / "root")
    p = ctr("run", "--rm", *rt, "--rootfs", tmp_path / "root", name, "/bin/sh", "-c", "cat /etc/os-release; echo x > /written")
    assert p.stdout == "ID=busybox-test\n" and (tmp_path / "root/written").read_text() == "x\n"


def test_log_file_takes_the_output(ctr, rt, image, name, tmp_path):
    log = tmp_path / "log"
    ctr("run", "-d", *rt, "--log-uri", f"file://{log}", image, name, "sh", "-c", "echo one; echo two >&2")
    until("both lines", lambda: log.exists() and sorted(log.read_text().split()) == ["one", "two"])


def test_null_io_needs_no_reader(ctr, rt, image, name):
    assert ctr.out("run", "--rm", *rt, "--null-io", image, name, "sh", "-c", "head -c 1000000 /dev/zero") == ""


def test_command_that_does_not_exist_fails_and_leaves_nothing(ctr, rt, image, name):
    p = ctr("run", "--rm", *rt, image, name, "/no/such/program", check=False)
    assert p.returncode == 1 and "/no/such/program" in p.stderr
    assert name not in ctr.quiet("containers", "ls", "-q") and name not in ctr.quiet("tasks", "ls", "-q")
