# SPDX-License-Identifier: Apache-2.0
"""Fixtures. A module has one daemon of ours; every test cleans its containers up by a namespace or a name of its own."""
import contextlib
import importlib
import os
import pathlib
import re
import sys
import tempfile

import pytest

import cgroups
import images
from harness import ROOT, Daemon, Registry, run


def pytest_configure(config):
    sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def host():
    """What a plain virtual machine may lack: controllers that crun asks for."""
    assert os.geteuid() == 0, "the system tests mount and run containers: they need root"
    undo = cgroups.mount_missing()
    yield
    undo()


@pytest.fixture(scope="session")
def workdir():
    with tempfile.TemporaryDirectory(prefix="systest-", dir="/tmp") as d:
        yield pathlib.Path(d)


@pytest.fixture(scope="session")
def registry():
    r = Registry()
    yield r
    r.close()


@pytest.fixture(scope="session")
def private_registry():
    r = Registry(auth=True)
    yield r
    r.close()


@pytest.fixture(scope="session")
def busybox_layout(workdir):
    return images.busybox_layout(workdir)


@pytest.fixture(scope="session")
def busybox(registry, busybox_layout):
    """Reference of the busybox image in the registry."""
    return registry.push(busybox_layout, "library/busybox:latest")


@pytest.fixture(scope="session")
def layered(registry, workdir):
    """compression -> reference of an image of three layers."""
    return {c: registry.push(images.layered_layout(workdir / c, c), f"layered-{c}:latest") for c in ("gzip", "zstd", "plain")}


@pytest.fixture(scope="session")
def two_platforms(registry, workdir):
    return registry.push(images.two_platform_layout(workdir / "two"), "two:latest", all_platforms=True)


@pytest.fixture(scope="module")
def daemon():
    d = Daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def ctr(daemon):
    return daemon.ctr


@pytest.fixture(scope="module")
def image(ctr, busybox):
    """busybox, pulled into the module's daemon."""
    ctr("images", "pull", "--plain-http", busybox)
    return busybox


@pytest.fixture
def name(request):
    """A container name of the test's own; what is left under it is removed."""
    n = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:60].strip("-")
    yield n
    if "ctr" in request.fixturenames:
        c = request.getfixturevalue("ctr")
        if request.getfixturevalue("daemon").process is None:
            return
        if n in c("tasks", "ls", "-q", check=False).stdout.split():
            c("tasks", "rm", "-f", n, check=False)
        if n in c("containers", "ls", "-q", check=False).stdout.split():
            c("containers", "rm", n, check=False)


@contextlib.contextmanager
def stubs_directory():
    """gRPC's own Python code for proto/, made by protoc: stubs("services/images/v1/images") -> (messages, services).

    The files are moved into a package `pb`, since `types` is a module of Python's own.
    """
    with tempfile.TemporaryDirectory(prefix="stubs-", dir="/tmp") as d:
        src, out = pathlib.Path(d) / "src", pathlib.Path(d) / "out"
        out.mkdir()
        protos = {p.relative_to(ROOT / "proto") for p in (ROOT / "proto").rglob("*.proto")}
        for p in protos:
            text = (ROOT / "proto" / p).read_text()
            text = re.sub(r'^import "([^"]+)"', lambda m: f'import "pb/{m[1]}"' if pathlib.Path(m[1]) in protos else m[0], text, flags=re.M)
            (src / "pb" / p).parent.mkdir(parents=True, exist_ok=True)
            (src / "pb" / p).write_text(text)
        run(["protoc", f"-I{src}", f"--python_out={out}", f"--grpc_out={out}", "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin",
             *sorted(src / "pb" / p for p in protos)])
        sys.path.insert(0, str(out))

        def load(path):
            module = "pb." + path.replace("/", ".")
            return importlib.import_module(module + "_pb2"), importlib.import_module(module + "_pb2_grpc")

        yield load
        sys.path.remove(str(out))


@pytest.fixture(scope="session")
def stubs():
    with stubs_directory() as load:
        yield load


def pytest_runtest_logreport(report):
    """One line a result for the test command, which counts even when this run dies."""
    if "TEST_RESULTS" not in os.environ:
        return
    if report.when == "call" and not report.skipped or report.failed:
        with open(os.environ["TEST_RESULTS"], "a") as f:
            part = "" if report.when == "call" else f" ({report.when})"
            f.write(f"{'PASS' if report.passed else 'FAIL'} system: {report.nodeid.removeprefix('tests/system/')}{part}\n")
