# SPDX-License-Identifier: Apache-2.0
"""Images with encrypted layers: pulled by CRI and by ctr, imported, applied by a client, all through a decoder that stands in for
imgcrypt's ctd-decoder: it reads the same payload and really decrypts, with openssl."""
import base64
import gzip
import json
import os
import pathlib
import subprocess
import urllib.request

import grpc
import pytest

import images
import proxies
from cri import Cri, fails
from harness import Daemon, free_port
from test_proxy import Api, archive

LAYER = "application/vnd.oci.image.layer.v1.tar"
KEYS = "org.opencontainers.image.enc.keys.provider.test"
NS = [("containerd-namespace", "default")]

# The payload is an Any of type io.containerd.ocicrypt.v1.Payload as file 3; the annotation has the key, wrapped with the node's.
DECODER = """#!/usr/bin/python3
import base64, json, os, subprocess, sys
from google.protobuf.any_pb2 import Any
assert sys.argv[1] == "--decryption-keys-path"
try:
    data = os.fdopen(3, "rb").read()
except OSError:
    sys.exit("read payload: there is none")
payload = Any.FromString(data)
assert payload.type_url == "io.containerd.ocicrypt.v1.Payload", payload.type_url
payload = json.loads(payload.value)
desc = payload["Descriptor"]
assert desc["mediaType"] == os.environ["STREAM_PROCESSOR_MEDIATYPE"] and desc["digest"].startswith("sha256:") and desc["size"] > 0, desc
given = (payload["DecryptConfig"]["Parameters"] or {}).get("test")
try:
    node = base64.b64decode(given[0]) if given else open(sys.argv[2] + "/key", "rb").read()
except OSError as e:
    sys.exit(f"no key: {e}")
wrapped = base64.b64decode(desc["annotations"]["@KEYS@"])
ssl = lambda key, **kw: subprocess.run(["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-pass", "env:KEY"], env={**os.environ, "KEY": key.hex()}, **kw)
key = ssl(node, input=wrapped, capture_output=True)
if key.returncode:
    sys.exit("missing private key needed for decryption")
sys.exit(ssl(key.stdout).returncode)
""".replace("@KEYS@", KEYS)


def encrypt(data, key):
    return subprocess.run(["openssl", "enc", "-e", "-aes-256-cbc", "-pbkdf2", "-pass", "env:KEY"], input=data, capture_output=True, check=True,
                          env={**os.environ, "KEY": key.hex()}).stdout


def packed(tar, kind):
    return {"": lambda: tar, "+gzip": lambda: gzip.compress(tar, mtime=0),
            "+zstd": lambda: subprocess.run(["zstd", "-q", "-c"], input=tar, capture_output=True, check=True).stdout}[kind]()


class Secret:
    """An image: busybox, and on it one encrypted layer of each kind."""

    def __init__(self, directory, node_key, kinds):
        layout = images.Layout(directory)
        self.tars = [images.busybox_tar()] + [images.tar_of([(f"secret{k}", f"told {k}\n".encode())]) for k in kinds]
        stored = [layout.blob(gzip.compress(self.tars[0], mtime=0), LAYER + "+gzip")]
        for kind, tar in zip(kinds, self.tars[1:]):
            key = os.urandom(32)
            notes = {KEYS: base64.b64encode(encrypt(key, node_key)).decode(), "org.opencontainers.image.enc.pubopts": "e30="}
            stored.append(layout.blob(encrypt(packed(tar, kind), key), LAYER + kind + "+encrypted", annotations=notes))
        config = layout.blob({"os": "linux", "architecture": "amd64", "config": {"Env": [f"PATH={images.PATH}"], "Cmd": ["sh"]},
                              "rootfs": {"type": "layers", "diff_ids": [proxies.digest_of(t) for t in self.tars]}}, images.CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": images.MANIFEST, "config": config, "layers": stored}
        self.layers = stored
        self.layout = layout.index([layout.blob(manifest, images.MANIFEST)])
        self.blob = lambda i: (pathlib.Path(directory) / "blobs/sha256" / stored[i]["digest"].removeprefix("sha256:")).read_bytes()


def new_daemon(place, keys, key_model="node", zstd=True, path=None):
    names = {"tar": "", "tar.gzip": "+gzip", **({"tar.zstd": "+zstd"} if zstd else {})}
    d = Daemon()
    d.metrics = free_port()
    text = "\n".join(f"""[stream_processors.'io.containerd.ocicrypt.decoder.v1.{n}']
accepts = ['{LAYER}{k}+encrypted']
returns = '{LAYER}{k}'
path = '{path or place / "decoder"}'
args = ['--decryption-keys-path', '{keys}']
""" for n, k in names.items())
    (d.dir / "net.d").mkdir()
    d.config.write_text(f"""version = 3
disabled_plugins = ['io.containerd.nri.v1.nri']
[plugins.'io.containerd.cri.v1.images'.image_decryption]
key_model = '{key_model}'
[plugins.'io.containerd.cri.v1.runtime'.cni]
conf_dir = '{d.dir}/net.d'
[plugins.'io.containerd.server.v1.metrics']
address = '127.0.0.1:{d.metrics}'
{text}""")
    return d.start()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    d = tmp_path_factory.mktemp("encrypted")
    (d / "decoder").write_text(DECODER)
    (d / "decoder").chmod(0o755)
    for name in ("keys", "empty", "wrong"):
        (d / name).mkdir()
    (d / "keys/key").write_bytes(os.urandom(32))
    (d / "wrong/key").write_bytes(os.urandom(32))
    return d


@pytest.fixture(scope="module")
def secret(place):
    return Secret(place / "image", (place / "keys/key").read_bytes(), ["", "+gzip", "+zstd"])


@pytest.fixture(scope="module")
def ref(secret, registry):
    return registry.push(secret.layout, "secret:latest")


@pytest.fixture(scope="module")
def daemon(place):
    d = new_daemon(place, place / "keys")
    yield d
    d.close()


TOLD = "told \ntold +gzip\ntold +zstd\n"
READ = ["sh", "-c", "cat /secret /secret+gzip /secret+zstd"]


def test_pull_by_the_transfer_service_decrypts(daemon, ref):
    daemon.ctr("images", "pull", "--plain-http", ref)
    assert daemon.ctr.out("run", "--rm", ref, "encrypted1", *READ) == TOLD


def test_import_decrypts(daemon, secret):
    daemon.ctr("images", "import", "--base-name", "imported", "-", ns="import", input=archive(secret.layout), binary=True)
    image = daemon.ctr.quiet("images", "ls", "-q", ns="import")[0]
    assert daemon.ctr.out("run", "--rm", image, "encrypted2", *READ, ns="import") == TOLD


def test_pull_by_cri_decrypts(daemon, ref, stubs):
    cri = Cri(daemon, stubs)
    image = cri.PullImage(image=cri.pb.ImageSpec(image=ref)).image_ref
    assert ref in cri.ImageStatus(image=cri.pb.ImageSpec(image=image)).image.repo_tags
    assert daemon.ctr.out("run", "--rm", ref, "encrypted3", *READ, ns="k8s.io") == TOLD
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics}/v1/metrics", timeout=90).read().decode()
    assert 'containerd_cri_sandboxed_image_pulls_total{status="success"} 1\n' in metrics
    assert "containerd_cri_sandboxed_image_pulling_throughput_mibps_count 1\n" in metrics


def test_client_that_gives_keys_needs_none_on_the_node(place, secret, stubs, tmp_path):
    from google.protobuf.any_pb2 import Any
    d = new_daemon(place, place / "empty")
    try:
        api = Api(stubs, d)
        pb = api.content_pb
        layer, data = secret.layers[2], secret.blob(2)
        list(api.content.Write(iter([pb.WriteContentRequest(action=pb.COMMIT, ref="l", data=data, total=len(data), expected=layer["digest"],
                                                             labels={"containerd.io/gc.root": "1"})]), metadata=NS))
        (tmp_path / "t").mkdir()

        def apply(payloads):
            return api.diff.Apply(api.diff_pb.ApplyRequest(
                diff=api.types.Descriptor(media_type=layer["mediaType"], digest=layer["digest"], size=layer["size"], annotations=layer["annotations"]),
                mounts=[api.mounts.Mount(type="bind", source=str(tmp_path / "t"), options=["rw", "rbind"])], payloads=payloads), metadata=NS, timeout=180)
        keys = {"test": [base64.b64encode((place / "keys/key").read_bytes()).decode()]}
        payload = json.dumps({"DecryptConfig": {"Parameters": keys}, "Descriptor": layer}).encode()
        payload = {"io.containerd.ocicrypt.decoder.v1.tar.gzip": Any(type_url="io.containerd.ocicrypt.v1.Payload", value=payload)}
        assert apply(payload).applied.digest == proxies.digest_of(secret.tars[2])
        assert (tmp_path / "t/secret+gzip").read_text() == "told +gzip\n"
        # What a client does not send is not made up.
        assert "read payload: there is none" in fails(grpc.StatusCode.FAILED_PRECONDITION, apply, {})
        api.channel.close()
    finally:
        d.close()


@pytest.mark.parametrize("keys,why", [("empty", "no key: "), ("wrong", "missing private key needed for decryption")])
def test_node_without_the_key_does_not_get_the_image(place, ref, keys, why, stubs):
    d = new_daemon(place, place / keys)
    try:
        p = d.ctr("images", "pull", "--plain-http", ref, check=False)
        assert p.returncode == 1 and "stream processor io.containerd.ocicrypt.decoder.v1.tar" in p.stderr and why in p.stderr
        cri = Cri(d, stubs)
        assert why in fails(grpc.StatusCode.FAILED_PRECONDITION, cri.PullImage, image=cri.pb.ImageSpec(image=ref))
        assert not cri.ListImages().images
    finally:
        d.close()


def test_errors_say_what_to_configure(place, registry, tmp_path, stubs):
    key = (place / "keys/key").read_bytes()
    zstd = registry.push(Secret(tmp_path / "zstd", key, ["+zstd"]).layout, "zstd-secret:latest")
    plain = registry.push(Secret(tmp_path / "plain", key, [""]).layout, "plain-secret:latest")
    d = new_daemon(place, place / "keys", zstd=False, path="/nowhere/ctd-decoder")
    try:
        p = d.ctr("images", "pull", "--plain-http", zstd, check=False)
        assert p.returncode == 1 and f'no processor for media-type "{LAYER}+zstd+encrypted"' in p.stderr and "stream_processors.ID.accepts" in p.stderr
        p = d.ctr("images", "pull", "--plain-http", plain, check=False)
        assert p.returncode == 1 and f'for media-type "{LAYER}+encrypted"' in p.stderr
        assert "set stream_processors.'io.containerd.ocicrypt.decoder.v1.tar'.path" in p.stderr and "/nowhere/ctd-decoder" in p.stderr
        cri = Cri(d, stubs)
        fails(grpc.StatusCode.UNIMPLEMENTED, cri.PullImage, image=cri.pb.ImageSpec(image=zstd))
    finally:
        d.close()


def test_empty_key_model_tells_decoders_nothing_in_pulls_by_cri(place, ref, stubs):
    d = new_daemon(place, place / "keys", key_model="")
    try:
        cri = Cri(d, stubs)
        assert "read payload: there is none" in fails(grpc.StatusCode.FAILED_PRECONDITION, cri.PullImage, image=cri.pb.ImageSpec(image=ref))
        d.ctr("images", "pull", "--plain-http", ref)
    finally:
        d.close()
