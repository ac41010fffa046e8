# SPDX-License-Identifier: Apache-2.0
"""Typing mistakes: one clear line on stderr and exit status 1."""
import os
import subprocess

from harness import BIN, SECONDS, USER, Ctr, Daemon, free_port, run, until


def one_line(p, *words):
    """Failed, with one line on stderr that contains the words."""
    assert p.returncode == 1, p
    lines = p.stderr.strip().splitlines()
    assert len(lines) == 1, p.stderr
    assert lines[0].startswith("ctr: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_unknown_command_shows_help(ctr):
    p = ctr("imagse", check=False)
    assert p.returncode != 0 and "imagse" in p.stdout + p.stderr


def test_unknown_flag_is_named(ctr):
    p = ctr("run", "--no-such-flag", check=False)
    assert p.returncode == 1 and "no-such-flag" in p.stderr


def test_image_that_is_not_there(ctr):
    one_line(ctr("run", "--rm", "localhost/none:1", "x", check=False), "localhost/none:1", "not found")


def test_container_and_task_that_are_not_there(ctr):
    one_line(ctr("containers", "info", "nobody", check=False), "nobody", "not found")
    one_line(ctr("tasks", "exec", "--exec-id", "e", "nobody", "true", check=False), "nobody", "not found")
    one_line(ctr("tasks", "kill", "nobody", check=False), "nobody", "not found")


def test_reference_that_is_none(ctr):
    one_line(ctr("images", "pull", "UPPER CASE", check=False), "UPPER CASE")


def test_repository_that_is_not_there(ctr, registry, busybox):
    one_line(ctr("images", "pull", "--plain-http", f"{registry.host}/no/such:1", check=False), f"{registry.host}/no/such:1", "not found")


def test_registry_that_is_not_there(ctr):
    ref = f"127.0.0.1:{free_port()}/x:1"
    one_line(ctr("images", "pull", "--plain-http", ref, check=False), ref)


def test_wrong_password(ctr, private_registry, busybox_layout):
    ref = private_registry.push(busybox_layout, "secret/busybox:2")
    one_line(ctr("images", "pull", "--plain-http", "--user", f"{USER}:wrong", ref, check=False), ref)
    one_line(ctr("images", "pull", "--plain-http", ref, check=False), ref)
    assert ref not in ctr.quiet("images", "ls", "-q")


def test_platform_that_the_image_has_not(ctr, two_platforms):
    one_line(ctr("images", "pull", "--plain-http", "--platform", "linux/s390x", two_platforms, check=False))


def test_runtime_that_is_not_there(ctr, image, name):
    one_line(ctr("run", "--rm", "--runtime", "io.containerd.none.v9", image, name, "true", check=False), "containerd-shim-none-v9")
    assert name not in ctr.quiet("containers", "ls", "-q")


def test_oci_runtime_that_is_not_there(ctr, image, name):
    p = ctr("run", "--rm", "--runc-binary", "/no/such/runc", image, name, "true", check=False)
    one_line(p, "/no/such/runc")
    assert name not in ctr.quiet("tasks", "ls", "-q")


def test_text_that_is_not_utf8_and_ids_that_are_none(ctr, image, name):
    ctr("run", "-d", image, name, "sleep", "1000")
    bad = b"a=\xff"
    for command in (["run", "--rm", image, name + "2", "echo", bad], ["run", "--rm", "--env", bad, image, name + "2", "true"],
                    ["run", "--rm", "--label", bad, image, name + "2", "true"], ["run", "--rm", "--cwd", bad, image, name + "2", "true"],
                    ["tasks", "exec", "--exec-id", "e", name, "echo", bad]):
        p = subprocess.run([*ctr.argv(), *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                           env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        assert p.returncode == 1 and b"is not UTF-8" in p.stderr and not p.stdout, p.stderr
    assert ctr.quiet("containers", "ls", "-q") == [name]
    for bad in ("a/b", "../../x", ""):
        one_line(ctr("tasks", "exec", "--exec-id", bad, name, "true", check=False), "identifier")


def test_daemon_that_ends_meanwhile():
    d = Daemon()
    d.start()
    p = d.ctr.popen("content", "ingest", "half", stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until("the ingest to begin", lambda: "half" in d.ctr.out("content", "active"))
    d.kill()
    p.stdin.close()
    assert p.wait(SECONDS) == 1
    assert p.stderr.read() == "ctr: the connection is closed: containerd has ended; containers go on without it\n"
    d.start()
    d.close()


def test_name_that_is_taken(ctr, image, name):
    ctr("run", "-d", image, name, "sleep", "600")
    one_line(ctr("run", "--rm", image, name, "true", check=False), name, "already exists")
    assert name in ctr.quiet("tasks", "ls", "-q")


def test_name_that_is_none(ctr, image):
    one_line(ctr("run", "--rm", image, "a b", "true", check=False), "a b")


def test_no_daemon(tmp_path):
    p = Ctr(BIN / "ctr", tmp_path / "none.sock")("images", "ls", check=False)
    one_line(p, str(tmp_path / "none.sock"))


def test_layer_that_is_damaged_on_its_way(ctr, registry, workdir):
    import images
    layout = images.Layout(workdir / "damaged")
    manifest = layout.image([images.tar_of([("a", b"1")]), images.tar_of([("b", b"2" * 5000)])])
    ref = registry.push(layout.index([manifest]), "damaged:1")
    # The registry serves what lies on its disk.
    blobs = [p for p in (registry.dir / "data").rglob("data") if p.stat().st_size > 20 and p.read_bytes()[:2] == b"\x1f\x8b"]
    import gzip
    victim = [p for p in blobs if b"2" * 5000 in gzip.decompress(p.read_bytes())][0]
    data = bytearray(victim.read_bytes())
    data[-6] ^= 1
    victim.write_bytes(data)
    p = ctr("images", "pull", "--plain-http", ref, check=False)
    assert p.returncode == 1
    assert ref not in ctr.quiet("images", "ls", "-q")


def test_unknown_configuration_key_is_named_with_its_place(tmp_path):
    (tmp_path / "c.toml").write_text('version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\n  no_such_key = 1\n')
    p = subprocess.run([BIN / "containerd", "--config", tmp_path / "c.toml"], capture_output=True, text=True, timeout=90)
    assert p.returncode == 1 and len(p.stderr.splitlines()) == 1
    assert "c.toml:3:3" in p.stderr and "no_such_key" in p.stderr


def test_configuration_that_is_no_toml_names_line_and_column(tmp_path):
    (tmp_path / "c.toml").write_text("version = 2\nroot = [\n")
    p = subprocess.run([BIN / "containerd", "--config", tmp_path / "c.toml"], capture_output=True, text=True, timeout=90)
    assert p.returncode == 1 and "c.toml" in p.stderr and "Sanitizer" not in p.stderr


def test_second_daemon_on_the_same_root_does_not_start(daemon, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(daemon.config.read_text() + '[timeouts]\n  "io.containerd.timeout.bolt.open" = "500ms"\n')
    p = subprocess.run([BIN / "containerd", "--config", config, "--root", daemon.root, "--state", tmp_path / "state", "--address",
                        tmp_path / "c.sock"], capture_output=True, text=True, timeout=90, env=daemon.environment())
    assert p.returncode == 1 and "meta.db" in p.stderr
    assert daemon.ctr("version").returncode == 0


def test_daemon_tells_its_version():
    assert "containerd" in run([BIN / "containerd", "--version"]).stdout
