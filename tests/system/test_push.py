# SPDX-License-Identifier: Apache-2.0
"""Push: to Debian's docker-registry, read back with skopeo, and to a registry of our own that notes what it gets."""
import base64
import contextlib
import gzip
import json
import threading
import urllib.request

import pytest

import images
from evil import Api, Evil, descriptor, sha, workers
from harness import PASSWORD, USER, Daemon, run, until
from taking import Streams, Taking

HELM = {"config": "application/vnd.cncf.helm.config.v1+json", "layer": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "prov": "application/vnd.cncf.helm.chart.provenance.v1.prov"}


@pytest.fixture
def taking():
    r = Taking()
    yield r
    r.close()


@pytest.fixture(scope="module")
def source():
    r = Evil()
    yield r
    r.close()


@pytest.fixture(scope="module")
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.close()


def raw(ref, *args):
    return json.loads(run(["skopeo", "inspect", "--raw", "--tls-verify=false", *args, f"docker://{ref}"]).stdout)


def get(host, path, accept="*/*"):
    request = urllib.request.Request(f"http://{host}/v2/{path}", headers={"Accept": accept})
    return urllib.request.urlopen(request, timeout=90).read()


def small(source, tag, text=b"x"):
    """A pulled image of one small layer, with a name of its own."""
    tar = images.tar_of([("file", text)])
    return source.image(tag, [(gzip.compress(tar, mtime=0), images.LAYER + "+gzip", tar)])


def test_what_was_pulled_is_pushed_and_read_back(ctr, registry, busybox, workdir):
    ctr("images", "pull", "--plain-http", busybox)
    remote = f"{registry.host}/pushed/busybox:1"
    out = ctr.out("images", "push", "--plain-http", remote, busybox)
    assert f"Pushing to {remote}" in out and f"Completed push to {remote}" in out
    assert raw(remote) == raw(busybox)
    run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{remote}", f"oci:{workdir}/back:1"])
    assert "mount=sha256" in registry.requests()  # the same registry has the layers in library/busybox
    assert "from=library%2Fbusybox" in registry.requests()


def test_progress_in_a_pipe_is_a_line_for_each_step(ctr, source, taking):
    ref = small(source, "lines", b"lines")
    ctr("images", "pull", "--plain-http", ref)
    out = ctr.out("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    lines = out.splitlines()
    assert any(line.startswith("layer (") and "uploading" in line for line in lines), out
    assert any(line.startswith("layer (") and "complete" in line for line in lines), out
    assert any(line.startswith("manifest (") and "complete" in line for line in lines), out
    assert lines[-1].startswith("elapsed:") and "\033" not in out


def test_blobs_come_first_then_children_then_the_tagged_index(ctr, taking, two_platforms):
    ctr("images", "pull", "--plain-http", "--all-platforms", two_platforms, ns="order")
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:tag", two_platforms, ns="order")
    assert taking.order[-1] == "tag"
    index = json.loads(taking.manifests["tag"][0])
    children = [m["digest"] for m in index["manifests"]]
    assert taking.order[-3:-1] == children
    assert set(taking.order[:-3]) == set(taking.blobs) and taking.blobs


def test_index_whose_platforms_were_not_all_pulled_says_which(ctr, taking, two_platforms):
    ctr("images", "pull", "--plain-http", "--skip-metadata", two_platforms, ns="part")
    refused = ctr("images", "push", "--plain-http", f"{taking.host}/a/b:tag", two_platforms, ns="part", check=False)
    assert refused.returncode == 1 and "linux/arm64" in refused.stderr and "not pulled" in refused.stderr
    assert taking.seen == []
    ctr("images", "push", "--plain-http", "--platform", "linux/amd64", f"{taking.host}/a/b:tag", two_platforms, ns="part")
    assert taking.order[-1] == "tag" and len(taking.manifests) == 3  # the index by tag and digest, the child by digest


def test_second_push_sends_nothing(ctr, source, taking):
    ref = small(source, "twice", b"twice")
    ctr("images", "pull", "--plain-http", ref)
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    before = len(taking.seen)
    out = ctr.out("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    assert {method for method, _, _ in taking.seen[before:]} == {"HEAD"} and "already exists" in out
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:2", ref)
    assert taking.manifests["2"] == taking.manifests["1"]


def test_artifact_of_other_media_types_is_moved_as_it_is(ctr, source, registry):
    config = source.blob(b'{"name":"chart","version":"1.0.0"}')
    layer, prov = source.blob(gzip.compress(b"not even a tar")), source.blob(b"signature")
    ref = source.manifest("chart", {
        "schemaVersion": 2, "mediaType": images.MANIFEST, "artifactType": HELM["config"], "config": descriptor(config, HELM["config"]),
        "layers": [descriptor(layer, HELM["layer"]), descriptor(prov, HELM["prov"], annotations={"a": "b"})],
        "annotations": {"org.opencontainers.image.title": "chart"}})
    ctr("images", "pull", "--plain-http", ref)
    remote = f"{registry.host}/charts/chart:1"
    ctr("images", "push", "--plain-http", remote, ref)
    assert get(registry.host, "charts/chart/manifests/1", images.MANIFEST) == source.manifests["chart"][0]
    for data in (config, layer, prov):
        assert get(registry.host, f"charts/chart/blobs/{sha(data)}") == data


def test_private_registry_wants_the_password(ctr, private_registry, source):
    ref = small(source, "private", b"private")
    ctr("images", "pull", "--plain-http", ref)
    remote = f"{private_registry.host}/mine/image:1"
    for user in ([], ["--user", f"{USER}:wrong"]):
        refused = ctr("images", "push", "--plain-http", *user, remote, ref, check=False)
        assert refused.returncode == 1 and private_registry.host in refused.stderr, refused.stderr
    ctr("images", "push", "--plain-http", "--user", f"{USER}:{PASSWORD}", remote, ref)
    assert raw(remote, "--creds", f"{USER}:{PASSWORD}")["layers"]


def test_token_is_asked_for_with_push_and_for_the_repository_to_mount_from(ctr):
    registry = Taking(tokens=True)
    try:
        tar = images.tar_of([("file", b"token")])
        registry.image("1", [(gzip.compress(tar, mtime=0), images.LAYER + "+gzip", tar)])
        ctr("images", "pull", "--plain-http", f"{registry.host}/base/image:1")
        layer, config = sha(gzip.compress(tar, mtime=0)), json.loads(registry.manifests["1"][0])["config"]["digest"]
        registry.blobs.clear()
        registry.mountable = {layer}
        ctr("images", "push", "--plain-http", f"{registry.host}/base/other:1", f"{registry.host}/base/image:1")
        assert ["repository:base/other:pull,push", "repository:base/other:pull", "repository:base/image:pull"] == registry.scopes[-1]
        assert list(registry.blobs) == [config]
        # Who may not read the other repository sends the bytes.
        registry.blobs.clear()
        registry.refuse = {"base/image"}
        ctr("images", "push", "--plain-http", f"{registry.host}/base/third:1", f"{registry.host}/base/image:1")
        assert set(registry.blobs) == {layer, config}
    finally:
        registry.close()


def test_layers_not_to_be_distributed_are_left_out_unless_asked_for(ctr, source, taking):
    tar = images.tar_of([("file", b"foreign")])
    ref = source.image("foreign", [(gzip.compress(tar, mtime=0), "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", tar)])
    ctr("images", "pull", "--plain-http", ref)
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    layer = sha(gzip.compress(tar, mtime=0))
    assert "1" in taking.manifests and layer not in taking.blobs
    ctr("images", "push", "--plain-http", "--allow-non-distributable-blobs", f"{taking.host}/a/b:2", ref)
    assert layer in taking.blobs


def test_manifest_is_pushed_by_its_digest_alone(ctr, source, taking, api):
    ref = small(source, "manifest", b"manifest")
    ctr("images", "pull", "--plain-http", ref)
    digest = sha(source.manifests["manifest"][0])
    ctr("images", "push", "--plain-http", "--manifest", digest, f"{taking.host}/a/b:x")
    assert taking.manifests["x"] == source.manifests["manifest"]
    assert not [n for n in api.image_names() if n.startswith("ctr-push")]
    refused = ctr("images", "push", "--plain-http", "--manifest", "sha256:" + "0" * 64, f"{taking.host}/a/b:x", check=False)
    assert refused.returncode == 1 and "not found" in refused.stderr


def test_push_goes_to_the_host_that_may_be_pushed_to(ctr, source, taking, tmp_path):
    ref = small(source, "hosts", b"hosts")
    ctr("images", "pull", "--plain-http", ref)
    (tmp_path / "example.test").mkdir()
    (tmp_path / "example.test/hosts.toml").write_text(
        f'server = "http://{taking.host}"\n[host."http://{source.host}"]\n  capabilities = ["pull", "resolve"]\n')
    before = len(source.seen)
    ctr("images", "push", "--hosts-dir", tmp_path, "example.test/a/b:1", ref)
    assert "1" in taking.manifests and len(source.seen) == before
    (tmp_path / "example.test/hosts.toml").write_text(f'server = "http://{taking.host}"\ncapabilities = ["pull"]\n')
    refused = ctr("images", "push", "--hosts-dir", tmp_path, "example.test/a/b:2", ref, check=False)
    assert refused.returncode == 1 and "no push hosts" in refused.stderr


def test_large_layer_goes_in_pieces_where_the_whole_is_too_much(ctr, source, taking):
    tar = images.tar_of([("file", bytes(range(256)) * (20 << 12))])
    ref = source.image("large", [(tar, images.LAYER, tar)])
    ctr("images", "pull", "--plain-http", ref)

    def too_large(h):
        if int(h.headers.get("Content-Length", 0)) < 17 << 20:
            return False
        h.close_connection = True
        h.answer(413)

    taking.hooks["PUT"] = too_large
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    assert taking.blobs[sha(tar)] == tar
    assert sum(method == "PATCH" for method, _, _ in taking.seen) == 2


# ---- registries that do not do as they should ----

def break_off(h):
    h.rfile.read(min(100, int(h.headers["Content-Length"])))
    h.drop()


CASES = {
    "wrong location": ("POST", lambda h: h.answer(202, Location="gopher://x/y"), "no valid Location"),
    "no location": ("POST", lambda h: h.answer(202), "no valid Location"),
    "start fails": ("POST", lambda h: h.answer(500), "500 Internal Server Error"),
    "redirects without end": ("POST", lambda h: h.answer(307, Location=h.path), "redirects"),
    "start is closed": ("POST", lambda h: h.drop(), "POST"),
    "upload fails": ("PUT", lambda h: (setattr(h, "close_connection", True), h.answer(503)), "503 Service Unavailable"),
    "upload is closed": ("PUT", break_off, "/blobs/uploads/"),
    "redirect to another request": ("PUT", lambda h: (h.body(), h.answer(303, Location="/v2/ok")), "redirected to another request"),
    "denied": ("POST", lambda h: h.answer(403, b'{"errors":[{"code":"DENIED","message":"quota"}]}'), "DENIED: quota"),
    "manifest invalid": ("PUT /v2/a/b/manifests", lambda h: (h.body(), h.answer(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}')),
                         "MANIFEST_INVALID"),
    "stored as something else": ("PUT /v2/a/b/manifests", lambda h: (h.body(), h.answer(201, Docker_Content_Digest="sha256:" + "0" * 64)),
                                 "in its place"),
}


@pytest.mark.parametrize("case", CASES)
def test_registry_that_misbehaves_gets_an_error_that_names_it(ctr, api, source, taking, case, daemon):
    ref = small(source, "bad", b"bad")
    ctr("images", "pull", "--plain-http", ref)
    key, hook, text = CASES[case]
    taking.hooks[key] = hook
    leases = api.lease_ids()
    refused = ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref, check=False)
    assert refused.returncode == 1 and text in refused.stderr, refused.stderr
    assert taking.host in refused.stderr or case == "stored as something else"
    assert "1" not in taking.manifests
    until("lease and worker to go", lambda: api.lease_ids() == leases and workers(daemon) == [])
    taking.hooks.clear()
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    assert "1" in taking.manifests


def test_push_that_is_canceled_ends_its_worker(ctr, source, taking, daemon):
    ref = small(source, "stall", b"stall")
    ctr("images", "pull", "--plain-http", ref)
    reached = threading.Event()

    def stall(h):
        reached.set()
        h.server.registry.hold()

    taking.hooks["PUT"] = stall
    p = ctr.popen("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)
    assert reached.wait(90)
    assert workers(daemon)
    p.terminate()
    p.wait(90)
    until("the worker to end", lambda: workers(daemon) == [])
    taking.hooks.clear()
    ctr("images", "push", "--plain-http", f"{taking.host}/a/b:1", ref)


def test_mirrors_and_credentials_are_found_without_flags(private_registry, busybox_layout, tmp_path):
    """A daemon that is configured, and a user who has logged in."""
    ref = private_registry.push(busybox_layout, "flagless/busybox:1")
    certs = tmp_path / "certs.d/flagless.test"
    certs.mkdir(parents=True)
    (certs / "hosts.toml").write_text(f'server = "https://flagless.test"\n[host."http://{private_registry.host}"]\n')
    auths = {"auths": {private_registry.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
    (tmp_path / "auth.json").write_text(json.dumps(auths))
    (tmp_path / "none.json").write_text("{}")
    with contextlib.closing(Daemon(config=f"[plugins.'io.containerd.transfer.v1.local']\nconfig_path = '{tmp_path}/certs.d'\n")) as d:
        d.start()
        env = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
        d.ctr("images", "pull", "flagless.test/flagless/busybox:1", env=env)
        d.ctr("images", "push", "flagless.test/flagless/again:2", "flagless.test/flagless/busybox:1", env=env)
        assert raw(f"{private_registry.host}/flagless/again:2", "--creds", f"{USER}:{PASSWORD}")["layers"]
        # What is given on the line counts, even when the file knows better.
        wrong = d.ctr("images", "pull", "--user", f"{USER}:wrong", "flagless.test/flagless/busybox:1", env=env, check=False)
        assert wrong.returncode == 1
        env = {"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}
        assert d.ctr("images", "pull", "flagless.test/flagless/busybox:1", env=env, check=False).returncode == 1
        assert ref


def test_archive_is_echoed(api):
    """ImageImportStream to ImageExportStream: the bytes come back."""
    data = bytes(range(256)) * 1000
    assert Streams(api).echo(data) == data


def test_question_for_credentials_names_host_and_image(api, private_registry, busybox_layout):
    """containerd's own ctr gives a password only for the image that it was typed for."""
    ref = private_registry.push(busybox_layout, "asked/busybox:1")
    asked = Streams(api).pull_with_credentials(ref, USER, PASSWORD)
    assert [(q.host, q.reference) for q in asked] == [(private_registry.host, ref)]
    assert asked[0].wwwauthenticate[0].startswith("Basic")
