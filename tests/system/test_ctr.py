# SPDX-License-Identifier: Apache-2.0
"""ctr itself: forms of listings, errors that say what to do, what takes space and how it goes."""
import json
import os
import pathlib
import select
import subprocess

import pytest

from harness import BIN, ROOT, CommandFailed, run, until


@pytest.fixture
def sleeper(ctr, image, name):
    """A container whose task runs until it is killed."""
    ctr("run", "-d", image, name, "sleep", "1000")
    yield name
    ctr("tasks", "rm", "-f", name, check=False)
    ctr("containers", "rm", name, check=False)


def as_json(ctr, *args, **kw):
    return json.loads(ctr(*args, "--format", "json", **kw).stdout)


# ---- Forms ----

LISTINGS = [("images", "ls"), ("images", "check"), ("containers", "ls"), ("tasks", "ls"), ("snapshots", "ls"), ("snapshots", "usage"),
            ("content", "ls"), ("content", "active"), ("leases", "ls"), ("namespaces", "ls"), ("plugins", "ls"), ("sandboxes", "ls"),
            ("deprecations", "list"), ("system", "df")]


@pytest.mark.parametrize("command", LISTINGS, ids="-".join)
def test_every_listing_has_json(ctr, image, sleeper, command):
    ctr("leases", "create", "--id", "held", check=False)
    rows = as_json(ctr, *command)
    plain = ctr(*command).stdout.splitlines()
    assert isinstance(rows, list) and len(plain) == len(rows) + 1
    assert all(isinstance(r, dict) for r in rows)


def test_json_has_numbers_lists_and_labels_as_such(ctr, image, sleeper):
    row = next(r for r in as_json(ctr, "images", "ls") if r["Name"] == image)
    assert row["Size"] > 1000 and row["Platforms"] and row["Digest"].startswith("sha256:") and isinstance(row["Labels"], dict)
    assert "UnpackedSize" not in row
    row = next(r for r in as_json(ctr, "images", "ls", "--unpacked") if r["Name"] == image)
    assert row["UnpackedSize"] > 100000
    task = next(t for t in as_json(ctr, "tasks", "ls") if t["ID"] == sleeper)
    assert task["Status"] == "RUNNING" and pathlib.Path(f"/proc/{task['Pid']}").exists()
    assert json.loads(ctr("tasks", "ps", "--format", "json", sleeper).stdout)[0]["Pid"] == task["Pid"]
    assert next(c for c in as_json(ctr, "containers", "ls") if c["ID"] == sleeper)["Image"] == image


def test_templates_print_fields(ctr, image, sleeper):
    assert f"{sleeper} RUNNING" in ctr("tasks", "ls", "--format", "{{.ID}} {{.Status}}").stdout.splitlines()
    table = ctr("containers", "ls", "--format", r"table {{.ID}}\t{{.Image}}").stdout.splitlines()
    assert table[0].split() == ["ID", "IMAGE"] and [sleeper, image] in [line.split() for line in table]
    assert json.loads(ctr("info", "--format", "{{json .server}}").stdout)["uuid"]
    assert ctr("version", "--format", "{{.Server.Version}}").stdout.strip()
    with pytest.raises(CommandFailed, match=r"no field .Nmae; there are: .Name .Type"):
        ctr("images", "ls", "--format", "{{.Nmae}}")
    with pytest.raises(CommandFailed, match="cannot be used together"):
        ctr("images", "ls", "-q", "--format", "json")


def test_plain_tables_stay_as_they_are(ctr, image):
    assert ctr("images", "ls").stdout.split("\n")[0].split() == ["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"]
    assert ctr("content", "ls").stdout.split("\n")[0].endswith("LABELS")
    assert image in ctr("images", "ls", "-q").stdout.split()


def test_events_come_as_json_and_filtered(ctr):
    process = ctr.popen("events", "--format", "json", 'namespace==evt,topic=="/namespaces/create"', stdout=subprocess.PIPE)
    try:
        # Nothing announces a subscription: events are made until the first of them is shown.
        for _ in range(300):
            ctr("namespaces", "create", "other")
            ctr("namespaces", "create", "evt")
            ctr("namespaces", "rm", "other", "evt")
            if select.select([process.stdout], [], [], 0.2)[0]:
                break
        event = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert event["Namespace"] == "evt" and event["Topic"] == "/namespaces/create" and event["Event"] == {"name": "evt"}
    assert event["Type"].endswith("NamespaceCreate") and event["Timestamp"].startswith("20")


# ---- Errors ----

def fails(ctr, *args, **kw):
    p = ctr(*args, check=False, **kw)
    assert p.returncode == 1
    lines = [x for x in p.stderr.splitlines() if "warning:" not in x]
    assert len(lines) == 1, p.stderr
    return lines[0]


def hints(text, ctr, *args, **kw):
    """The error says where it is instead. That is looked for no longer than two seconds: who had no time for it asks again."""
    for _ in range(30):
        line = fails(ctr, *args, **kw)
        if text in line:
            return
    assert text in line


def test_what_is_in_another_namespace_is_found_there(ctr, image, sleeper):
    is_in = 'is not in namespace "elsewhere"; it is in "default": use -n default'
    for command in (("containers", "info", sleeper), ("tasks", "exec", "--exec-id", "x", sleeper, "ls"), ("tasks", "start", sleeper)):
        hints(f'container "{sleeper}" {is_in}', ctr, *command, ns="elsewhere")
    hints(f'image "{image}" {is_in}', ctr, "run", image, "x", ns="elsewhere")
    hints(f'snapshot "{sleeper}" {is_in}', ctr, "snapshots", "info", sleeper, ns="elsewhere")
    ctr("leases", "create", "--id", "mine", check=False)
    hints(f'lease "mine" {is_in}', ctr, "leases", "delete", "mine", ns="elsewhere")


def test_an_image_that_is_nowhere_is_pulled_how(ctr, image):
    hints("; pull it: ctr images pull docker.io/library/nosuch:1", ctr, "run", "nosuch:1", "x")
    hints("; pull it: ctr -n k8s.io images pull docker.io/library/nosuch:1", ctr, "run", "nosuch:1", "x", ns="k8s.io")


def test_a_short_name_leads_to_the_whole_one(ctr, image):
    ctr("images", "tag", "--force", image, "docker.io/library/short:latest")
    hints('there is "docker.io/library/short:latest"', ctr, "run", "short", "x")


def test_a_running_task_says_how_to_stop_it(ctr, sleeper):
    assert fails(ctr, "containers", "rm", sleeper).endswith(f"; stop it: ctr tasks kill -s SIGKILL {sleeper}")
    assert fails(ctr, "tasks", "rm", sleeper).endswith(f"; stop it: ctr tasks kill -s SIGKILL {sleeper}")


def test_a_daemon_that_is_not_there_says_how_to_start_it():
    p = run([BIN / "ctr", "images", "ls"], check=False, env={"CONTAINERD_ADDRESS": ""})
    if p.returncode:
        assert "/run/containerd/containerd.sock" in p.stderr and "systemctl start containerd" in p.stderr
        assert len(p.stderr.splitlines()) == 1
    p = run([BIN / "ctr", "-a", "/nonexistent/c.sock", "images", "ls"], check=False)
    assert '"/nonexistent/c.sock"' in p.stderr and "--address" in p.stderr
    p = run([BIN / "ctr", "-a", "tcp://localhost:1", "images", "ls"], check=False)
    assert "not that of a unix socket" in p.stderr


@pytest.mark.parametrize("form", ["{0}", "unix://{0}", "unix:{0}", "c.sock", "./c.sock", "unix://c.sock"])
def test_every_form_of_the_socket_s_address_works(daemon, form):
    address = form.format(daemon.address)
    run([BIN / "ctr", "-a", address, "version"], cwd=daemon.dir)
    run([BIN / "ctr", "version"], cwd=daemon.dir, env={"CONTAINERD_ADDRESS": address})


def test_the_environment_names_namespace_and_snapshotter(daemon, ctr, image):
    env = {"CONTAINERD_ADDRESS": str(daemon.address), "CONTAINERD_NAMESPACE": "empty", "CONTAINERD_SNAPSHOTTER": "native"}
    assert run([BIN / "ctr", "images", "ls", "-q"], env=env).stdout == ""
    assert image in run([BIN / "ctr", "-n", "default", "images", "ls", "-q"], env=env).stdout
    assert json.loads(run([BIN / "ctr", "-n", "default", "snapshots", "ls", "--format", "json"], env=env).stdout) == []


# ---- Space ----

def df(ctr, **kw):
    return {r["Type"]: r for r in as_json(ctr, "system", "df", **kw)}


def test_system_df_tells_what_is_used(ctr, busybox):
    ns = "dfns"
    ctr("images", "pull", "--plain-http", busybox, ns=ns)
    before = df(ctr, ns=ns)
    assert before["Images"]["Total"] == 1 and before["Images"]["Active"] == 0
    assert before["Images"]["Reclaimable"] == before["Images"]["Size"] > 0
    assert before["Content"]["Total"] == before["Content"]["Active"] >= 3
    ctr("containers", "create", busybox, "dfc", ns=ns)
    during = df(ctr, ns=ns)
    assert during["Images"]["Active"] == 1 and during["Images"]["Reclaimable"] == 0
    assert during["Containers"]["Total"] == 1 and during["Containers"]["Active"] == 0
    assert during["Snapshots (overlayfs)"]["Active"] == during["Snapshots (overlayfs)"]["Total"]
    ctr("containers", "rm", "dfc", ns=ns)
    assert df(ctr, ns=ns)["Snapshots (overlayfs)"]["Active"] == 0
    assert "RECLAIMABLE" in ctr("system", "df", ns=ns).stdout


def test_images_prune_spares_what_containers_use(ctr, busybox):
    ns = "prunens"
    ctr("images", "pull", "--plain-http", busybox, ns=ns)
    ctr("images", "tag", busybox, "docker.io/x/unused:1", "docker.io/x/other:1", ns=ns)
    ctr("containers", "create", busybox, "pc", ns=ns)
    assert "without --all" in ctr("images", "prune", ns=ns).stderr
    would = ctr("images", "prune", "--all", "--dry-run", ns=ns).stdout.split()
    assert sorted(would) == ["docker.io/x/other:1", "docker.io/x/unused:1"]
    assert len(ctr("images", "ls", "-q", ns=ns).stdout.split()) == 3
    assert ctr("images", "prune", "--all", "name==docker.io/x/unused:1", ns=ns).stdout.split() == ["docker.io/x/unused:1"]
    assert ctr("images", "prune", "--all", ns=ns).stdout.split() == ["docker.io/x/other:1"]
    assert ctr("images", "ls", "-q", ns=ns).stdout.split() == [busybox]
    ctr("containers", "rm", "pc", ns=ns)


def test_snapshots_prune_spares_images_containers_and_leases(ctr, busybox):
    ns = "snapns"
    ctr("images", "pull", "--plain-http", busybox, ns=ns)
    ctr("containers", "create", busybox, "sc", ns=ns)
    kept = {r["Key"] for r in as_json(ctr, "snapshots", "ls", ns=ns)}
    ctr("snapshots", "prepare", "hand", ns=ns)
    ctr("snapshots", "commit", "hand-base", "hand", ns=ns)
    ctr("snapshots", "prepare", "hand-top", "hand-base", ns=ns)
    assert set(ctr("snapshots", "prune", "--dry-run", ns=ns).stdout.split()) == {"hand-top", "hand-base"}
    assert ctr("snapshots", "prune", ns=ns).stdout.split() == ["hand-top", "hand-base"]
    assert {r["Key"] for r in as_json(ctr, "snapshots", "ls", ns=ns)} == kept
    ctr("containers", "rm", "sc", ns=ns)


# ---- Completion, manual pages ----

@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Completion scripts of each shell, with ctr in PATH under its own name."""
    d = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (d / shell).write_text(run([BIN / "ctr", "completion", shell]).stdout)
    return d


@pytest.fixture
def shell_env(daemon):
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "CONTAINERD_ADDRESS": str(daemon.address), "ASAN_OPTIONS": "detect_leaks=0",
            "HOME": "/nonexistent", "TERM": "dumb"}


def bash(scripts, env, line, **kw):
    code = (f'. "{scripts}/bash"; COMP_LINE=$1; COMP_POINT=${{#1}}; _ctr; [ ${{#COMPREPLY[@]}} -eq 0 ] || printf "%s\\n" "${{COMPREPLY[@]}}"')
    return run(["bash", "--norc", "-c", code, "bash", line], env=env, **kw).stdout.splitlines()


def fish(scripts, env, line, **kw):
    out = run(["fish", "--no-config", "-c", f'source {scripts}/fish; complete -C $argv[1]', line], env=env, **kw).stdout
    return [x.split("\t")[0] for x in out.splitlines()]


def zsh(scripts, env, line, tmp="/tmp"):
    """What an interactive zsh offers: the completion system itself, with a function that prints its matches in place of compadd."""
    code = f"""
    zmodload zsh/zpty
    zpty -b z 'env PS1=READY zsh -f -i'
    w() {{ zpty -w z "$1"; }}
    w 'autoload -Uz compinit; compinit -u -D; source {scripts}/zsh; zstyle ":completion:*" list-prompt ""; LISTMAX=10000'
    w 'compadd() {{ local -a m; builtin compadd -O m "$@"; print -rl -- FOUND:$^m >>$OUT; builtin compadd "$@"; }}'
    w 'complete-it() {{ zle complete-word; zle kill-buffer; }}; zle -N complete-it; bindkey "^X" complete-it; print loa""ded'
    zpty -r z o '*loaded*'
    zpty -w -n z "$1"$'\\x18'
    zpty -w z ''
    zpty -w z 'print do""ne'
    zpty -r z o '*done*'
    zpty -d z
    """
    out = pathlib.Path(tmp) / "zsh-out"
    out.write_text("")
    run(["zsh", "-f", "-c", code, "zsh", line], env={**env, "OUT": str(out)})
    return [x[6:] for x in out.read_text().splitlines() if x.startswith("FOUND:")]


@pytest.mark.parametrize("shell", [bash, fish, zsh], ids=lambda f: f.__name__)
def test_shells_complete_commands_flags_and_names(scripts, shell_env, ctr, image, sleeper, shell):
    def offers(line, *names):
        """Who types does not wait for long: names of a daemon that is slow to answer are left out."""
        until(f"{names} for {line!r}", lambda: set(names) <= set(shell(scripts, shell_env, line)))
    assert "images" in shell(scripts, shell_env, "ctr ima")
    assert {"list", "pull", "prune"} <= set(shell(scripts, shell_env, "ctr images "))
    assert "--quiet" in shell(scripts, shell_env, "ctr images ls --q")
    offers("ctr tasks kill ", sleeper)
    offers(f"ctr -n default containers info {sleeper[:4]}", sleeper)
    offers("ctr -n ", "default")
    head, tail = image.rsplit(":", 1)
    # Bash has broken the word at the colons; the other two give the whole.
    want = image if shell is not bash else image.split(":", 1)[1] if ":" in head else tail
    offers(f"ctr images rm {image.split(':')[0]}:", want)


@pytest.mark.parametrize("shell", [bash, fish], ids=lambda f: f.__name__)
def test_files_are_completed_by_the_shell(scripts, shell_env, tmp_path, shell):
    (tmp_path / "archive.tar").write_text("")
    assert [pathlib.Path(x).name for x in shell(scripts, shell_env, f"ctr images import {tmp_path}/arch")] == ["archive.tar"]


def test_completion_without_a_daemon_is_quick_and_silent(scripts, shell_env):
    p = run([BIN / "ctr", "__complete", "--", "-a", "/nonexistent/c.sock", "images", "rm", ""])
    assert (p.stdout, p.stderr) == ("", "")
    assert "only bash, zsh" not in run([BIN / "ctr", "completion", "csh"], check=False).stdout


def test_every_command_has_a_page_that_mandoc_takes(tmp_path):
    run([BIN / "ctr", "man", "--dir", tmp_path])
    pages = sorted(p.name for p in tmp_path.iterdir())
    listed = (ROOT / "packaging/meson.build").read_text()
    assert "ctr.8" in pages and len(pages) > 15
    for page in pages:
        # References are looked for among the installed pages, which these may not be yet.
        lint = run(["mandoc", "-Tlint", tmp_path / page], check=False).stdout.splitlines()
        assert [x for x in lint if "referenced manual not found" not in x and "outdated mandoc.db" not in x] == []
        assert page == "ctr.8" or f"'{page[4:-2]}'" in listed, f"{page} is not in packaging/meson.build"
    assert "images pull" in run(["mandoc", "-Thtml", tmp_path / "ctr-images.8"]).stdout


# ---- Devices ----

@pytest.fixture
def cdi_file():
    """A vendor of the test's own in /var/run/cdi."""
    d = pathlib.Path("/var/run/cdi")
    made = not d.exists()
    d.mkdir(exist_ok=True)
    path = d / f"ctr-test-{os.getpid()}.yaml"
    path.write_text("cdiVersion: 0.6.0\nkind: ctr-test.example/dev\ndevices:\n- name: zero\n  containerEdits:\n    env: [FROM_CDI=yes]\n"
                    "    deviceNodes:\n    - {path: /dev/my-zero, hostPath: /dev/zero}\n"
                    "    mounts:\n    - {hostPath: /etc/hostname, containerPath: /cdi-mounted, options: [ro, bind]}\n")
    yield "ctr-test.example/dev=zero"
    path.unlink()
    if made:
        d.rmdir()


def test_devices_come_by_their_cdi_names(ctr, image, name, cdi_file):
    out = ctr("run", "--rm", "--device", cdi_file, image, name, "sh", "-c",
              "echo $FROM_CDI; head -c 4 /dev/my-zero | wc -c; ls /cdi-mounted").stdout.split()
    assert out == ["yes", "4", "/cdi-mounted"]
    assert "unresolvable CDI devices ctr-test.example/dev=none" in fails(ctr, "run", "--device", "ctr-test.example/dev=none", image, name)
    assert "unresolvable CDI devices nvidia.com/gpu=0" in fails(ctr, "run", "--gpus", "0", image, name)


# ---- classes and profiles by name ----

def test_block_io_classes_come_from_a_file(ctr, image, name, tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("Classes:\n  slow:\n  - Weight: 80\n  - Devices: [/dev/null, /dev/no-such*]\n    ThrottleReadBps: 50M\n  none:\n")
    ctr("containers", "create", "--blockio-config-file", path, "--blockio-class", "slow", image, name)
    resources = json.loads(ctr.out("containers", "info", "--spec", name))["linux"]["resources"]
    assert resources["blockIO"] == {"weight": 80}
    fails_so = lambda *args: fails(ctr, "containers", "create", *args, image, name + "2")  # noqa: E731
    assert 'no OCI BlockIO parameters for class "fast"' in fails_so("--blockio-config-file", path, "--blockio-class", "fast")
    assert 'no OCI BlockIO parameters for class "slow"' in fails_so("--blockio-class", "slow")
    path.write_text("Classes:\n  slow:\n  - Weight: 8\n")
    assert "smaller than minimum (10)" in fails_so("--blockio-config-file", path)
    assert "blockio-config-file error" in fails_so("--blockio-config-file", tmp_path / "absent")


def test_apparmor_profiles_are_named_or_made(ctr, image, name):
    ctr("containers", "create", "--apparmor-profile", "mine", image, name)
    assert json.loads(ctr.out("containers", "info", "--spec", name))["process"]["apparmorProfile"] == "mine"
    fails_so = lambda *args: fails(ctr, "containers", "create", *args, image, name + "2")  # noqa: E731
    assert "conflicts" in fails_so("--apparmor-profile", "mine", "--apparmor-default-profile", "made")
    assert "profile name" in fails_so("--apparmor-default-profile", 'a"b')
    if not pathlib.Path("/sys/kernel/security/apparmor/profiles").exists():
        assert "apparmor is not enabled" in fails_so("--apparmor-default-profile", "made")


# ---- install ----

def test_install_puts_an_image_s_programs_where_the_daemon_finds_them(ctr, image, tmp_path):
    ctr("install", "--path", tmp_path / "opt", image)
    assert (tmp_path / "opt/bin/busybox").stat().st_size > 100000 and os.readlink(tmp_path / "opt/bin/ls") == "busybox"
    assert "cannot replace" in fails(ctr, "install", "--path", tmp_path / "opt", image)
    ctr("install", "--replace", "--path", tmp_path / "opt", image)
    assert not [s for s in as_json(ctr, "snapshots", "ls") if s["Key"].startswith("ctr-install")]
    hints("is not in namespace", ctr, "install", image, ns="elsewhere")
