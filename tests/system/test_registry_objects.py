# SPDX-License-Identifier: Apache-2.0
"""ctr content fetch, fetch-object, fetch-blob, push-object: a registry's documents and blobs one by one."""
import hashlib
import http.server
import json
import subprocess
import threading

import pytest

import images
from harness import PASSWORD, USER, rows, run


@pytest.fixture
def ns(ctr, request):
    n = request.node.name.replace("[", "-").replace("]", "")[:60]
    yield n
    names = ctr.quiet("images", "ls", "-q", ns=n)
    if names:
        ctr("images", "rm", "--sync", *names, ns=n)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def inspect(ref, *flags):
    return run(["skopeo", "inspect", "--raw", "--tls-verify=false", *flags, f"docker://{ref}"], binary=True).stdout


def test_fetch_object_prints_what_the_registry_has(ctr, busybox):
    raw = inspect(busybox)
    assert ctr.out("content", "fetch-object", "--plain-http", busybox, binary=True) == raw
    name, tag = busybox.rsplit(":", 1)
    for remote, obj in ((name, tag), (name, digest_of(raw)), (f"{name}@{digest_of(raw)}", "")):
        assert ctr.out("content", "fetch-object", "--plain-http", remote, *([obj] if obj else []), binary=True) == raw
    missing = ctr("content", "fetch-object", "--plain-http", name + ":none", check=False)
    assert missing.returncode == 1 and "not found" in missing.stderr


def test_fetch_blob_prints_blobs_and_manifests_by_digest(ctr, busybox):
    raw = inspect(busybox)
    manifest = json.loads(raw)
    config, layer = manifest["config"]["digest"], manifest["layers"][0]["digest"]
    out = ctr.out("content", "fetch-blob", "--plain-http", busybox, config, layer, binary=True)
    size = manifest["config"]["size"]
    assert digest_of(out[:size]) == config and digest_of(out[size:]) == layer
    for flags in ([], ["--media-type", images.MANIFEST]):
        assert ctr.out("content", "fetch-blob", "--plain-http", *flags, busybox, digest_of(raw), binary=True) == raw
    for args, text in (([busybox], "must specify digests"), ([busybox, "sha256:" + "0" * 64], "not found"), ([busybox, "abc"], "digest")):
        failed = ctr("content", "fetch-blob", "--plain-http", *args, check=False)
        assert failed.returncode == 1 and text in failed.stderr, failed.stderr


def test_private_registries_want_the_password(ctr, private_registry, busybox_layout):
    ref = private_registry.push(busybox_layout, "objects/busybox:1")
    raw = inspect(ref, "--creds", f"{USER}:{PASSWORD}")
    assert ctr.out("content", "fetch-object", "--plain-http", "--user", f"{USER}:{PASSWORD}", ref, binary=True) == raw
    for flags in ([], ["--user", f"{USER}:wrong"]):
        failed = ctr("content", "fetch-object", "--plain-http", *flags, ref, check=False)
        assert failed.returncode == 1 and not failed.stdout


def test_pushed_objects_are_an_image(ctr, registry, busybox, ns, tmp_path):
    ctr("content", "fetch", "--plain-http", busybox, ns=ns)
    manifest = json.loads(inspect(busybox))
    ref = f"{registry.host}/objects/pushed:7"
    # A registry takes a manifest after what it names.
    for d in (manifest["config"], *manifest["layers"]):
        assert ctr.out("content", "push-object", "--plain-http", ref, d["digest"], d["mediaType"], ns=ns) == f"Pushed {d['digest']} {d['mediaType']}\n"
    top = digest_of(inspect(busybox))
    for _ in range(2):
        assert ctr.out("content", "push-object", "--plain-http", ref, top, images.MANIFEST, ns=ns) == f"Pushed {top} {images.MANIFEST}\n"
    assert inspect(ref) == inspect(busybox)
    run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{ref}", f"dir:{tmp_path}/pushed"])
    for args in ([ref, "sha256:" + "0" * 64, "x/y"], [ref, top], [ref, "abc", "x/y"]):
        assert ctr("content", "push-object", "--plain-http", *args, ns=ns, check=False).returncode == 1


def test_fetch_stores_the_image_and_makes_no_snapshot(ctr, two_platforms, ns):
    ctr("content", "fetch", "--plain-http", "--label", "colour=green", two_platforms, ns=ns)
    assert ctr.quiet("images", "ls", "-q", "labels.colour==green", ns=ns) == [two_platforms]
    assert rows(ctr.out("snapshots", "ls", ns=ns)) == []
    row = [r for r in rows(ctr.out("images", "check", ns=ns)) if r[0] == two_platforms][0]
    assert "complete" in row and row[-1] == "false"
    children = json.loads(inspect(two_platforms))["manifests"]

    def layers():
        have = ctr.quiet("content", "ls", "-q", ns=ns)
        found = []
        for child in children:
            if child["digest"] in have:
                m = json.loads(ctr.out("content", "get", child["digest"], ns=ns))
                found.append([m["config"]["digest"] in have, m["layers"][0]["digest"] in have])
        return found

    # The documents of other platforms come too, unless they are not wanted.
    assert layers()[0] == [True, True] and [c[1] for c in layers()[1:]] == [False]
    ctr("content", "fetch", "--plain-http", "--all-platforms", two_platforms, ns=ns)
    assert layers() == [[True, True]] * 2
    ctr("images", "rm", "--sync", two_platforms, ns=ns)
    ctr("content", "fetch", "--plain-http", "--skip-metadata", two_platforms, ns=ns)
    assert layers() == [[True, True]]
    ctr("images", "rm", "--sync", two_platforms, ns=ns)
    out = ctr.out("content", "fetch", "--plain-http", "--metadata-only", "--label", "colour=blue", two_platforms, ns=ns)
    assert out.strip() == digest_of(inspect(two_platforms))
    ctr("content", "garbage-collect", ns=ns)
    assert layers() == [[True, False]] * 2 and ctr.quiet("leases", "ls", "-q", ns=ns) == []
    assert ctr.quiet("images", "ls", "-q", "labels.colour==blue", ns=ns) == [two_platforms]
    # What is there completes it.
    ctr("images", "pull", "--plain-http", two_platforms, ns=ns)
    assert ctr.out("images", "check", ns=ns).split()[-1] == "true"


def test_http_dump_shows_the_requests(ctr, busybox):
    shown = subprocess.run(ctr.argv("content", "fetch-object", "--plain-http", "--http-dump", busybox), capture_output=True, text=True,
                           env={"ASAN_OPTIONS": "detect_leaks=0", "PATH": "/usr/bin:/bin"})
    assert shown.returncode == 0 and json.loads(shown.stdout)["schemaVersion"] == 2
    assert "/v2/library/busybox/manifests/latest" in shown.stderr


def test_a_blob_that_is_not_what_was_asked_for_is_an_error(ctr):
    class Liar(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"other")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        failed = ctr("content", "fetch-blob", "--plain-http", f"127.0.0.1:{server.server_port}/a/b:1", digest_of(b"right"), check=False)
        server.shutdown()
    assert failed.returncode == 1 and digest_of(b"right") in failed.stderr and digest_of(b"other") in failed.stderr
