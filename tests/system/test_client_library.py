# SPDX-License-Identifier: Apache-2.0
"""libcontainerd-client as it is installed: found by pkg-config, linked as shared and as static library, used from C and C++."""
import os
import pathlib
import re
import subprocess

import pytest

from harness import BIN, ROOT, run

BUILD = BIN.parent
pytestmark = pytest.mark.skipif(not (BUILD / "build.ninja").exists(), reason="the tests do not run out of a build directory")
SANITIZERS = "-fsanitize=address,undefined"


@pytest.fixture(scope="module")
def installed(workdir):
    dest = workdir / "library"
    run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", dest, "--tags", "devel,runtime"], timeout=300)
    return dest


@pytest.fixture(scope="module")
def library(installed):
    return next(installed.rglob("libcontainerd-client.so.0"))


def pkg_config(installed, *args):
    pc = next(installed.rglob("libcontainerd-client.pc"))
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(installed))
    return run(["pkg-config", *args, "libcontainerd-client"], env=env).stdout.split()


@pytest.fixture(scope="module")
def build(installed, library, workdir):
    """(source, compiler, static) -> program."""
    sanitized = "libasan" in run(["readelf", "-d", library]).stdout

    def compile_(source, compiler="cc", static=False, *options):
        out = workdir / f"{pathlib.Path(source).stem}-{compiler}-{static}"
        flags = pkg_config(installed, "--cflags", "--libs", *(["--static"] if static else []))
        if static:
            flags = [str(library.parent / "libcontainerd-client.a") if f == "-lcontainerd-client" else f for f in flags]
        run([compiler, "-Wall", "-Wextra", "-Werror", *options, *([SANITIZERS] if sanitized else []), "-o", out, source, *flags], timeout=300)
        return out

    return compile_


@pytest.fixture(scope="module")
def env(library):
    return dict(os.environ, LD_LIBRARY_PATH=str(library.parent))


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_example_pulls_an_image_and_runs_a_container(build, env, daemon, busybox, name, static):
    example = build(ROOT / "examples/run.c", "cc", static)
    linked = run(["ldd", example], env=env).stdout
    assert ("libcontainerd-client" in linked) is not static
    p = subprocess.run([example, "-a", daemon.address, "-n", "example", "-p", busybox, name, "sh", "-c", "cat; echo err >&2; exit 42"],
                       input="through\n" * 10000, capture_output=True, text=True, env=env, timeout=300)
    assert p.returncode == 42, p.stderr
    assert p.stdout == "through\n" * 10000
    assert "err" in p.stderr.splitlines() and "sha256:" in p.stderr
    assert daemon.ctr.quiet("containers", "ls", "-q", ns="example") == []
    assert daemon.ctr.quiet("tasks", "ls", "-q", ns="example") == []


def test_example_tells_what_went_wrong(build, env, daemon, busybox, name):
    example = build(ROOT / "examples/run.c")
    missing = busybox.replace(":latest", ":missing")
    p = subprocess.run([example, "-a", daemon.address, "-n", "example", "-p", missing, name], capture_output=True, text=True, env=env, timeout=300)
    assert p.returncode == 125 and "not found" in p.stderr
    p = subprocess.run([example, "-a", daemon.address, "-n", "example", "-p", busybox, name, "/missing"], capture_output=True, text=True, env=env,
                       timeout=300)
    assert p.returncode == 125 and "/missing" in p.stderr
    assert daemon.ctr.quiet("containers", "ls", "-q", ns="example") == []


def test_every_function_does_what_the_header_says(build, env, daemon, busybox, tmp_path):
    program = build(ROOT / "tests/system/client_library.c", "cc", False, "-pthread")
    (tmp_path / "marker").touch()
    p = subprocess.run([program, daemon.address, busybox, tmp_path], capture_output=True, text=True, env=env, timeout=300)
    assert (p.returncode, p.stdout) == (0, "all is well\n"), p.stderr
    assert p.stderr == ""


def test_header_is_one_for_cplusplus(build, env, daemon, tmp_path):
    source = tmp_path / "version.cc"
    source.write_text("""
        #include <containerd/client.h>
        #include <cstdio>
        int main(int, char **argv)
        {
            auto o = CONTAINERD_INIT(struct containerd_client_options);
            struct containerd_client *c, *d;
            const struct containerd_version *v;
            o.ns = "other";
            if (containerd_connect(argv[1], nullptr, 0, &c, nullptr) < 0 || containerd_client_derive(c, &o, &d, nullptr) < 0 ||
                containerd_version_get(d, &v, nullptr) < 0)
                return 1;
            std::puts(v->version);
            containerd_free(v);
            containerd_client_free(d);
            containerd_client_free(c);
        }
    """)
    program = build(source, "c++", False, "-std=c++11", "-pedantic")
    assert run([program, daemon.address], env=env).stdout.strip() in daemon.ctr.out("version")


def test_library_exports_the_headers_functions_and_nothing_else(installed, library):
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "include/containerd/client.h").read_text(), flags=re.S)
    declared = set(re.findall(r"\b(containerd_\w+)\(", text)) - set(re.findall(r"\(\*(\w+)\)", text))
    symbols = run(["nm", "-D", "--defined-only", library]).stdout.splitlines()
    exported = {s.split()[-1].split("@")[0] for s in symbols if " A " not in s}
    assert exported == declared and len(declared) > 50
    archive = run(["nm", "-g", "--defined-only", next(installed.rglob("libcontainerd-client.a"))]).stdout
    assert {line.split()[-1] for line in archive.splitlines() if len(line.split()) == 3} == declared
    assert "libcontainerd-client.so.0" in run(["readelf", "-d", library]).stdout
