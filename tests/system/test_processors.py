# SPDX-License-Identifier: Apache-2.0
"""Stream processors: programs that decode layers of media types of their own, when an image is pulled, imported, and by Diff.Apply."""
import base64
import gzip
import pathlib
import stat

import grpc
import pytest

import images
import proxies
from harness import Daemon, processes
from test_proxy import Api, archive, image_of

TYPE = "application/vnd.test.layer.v1.tar"
NS = [("containerd-namespace", "default")]


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    d = tmp_path_factory.mktemp("processors")
    script(d / "told", f'env > {d}/env; cat <&3 > {d}/payload; echo "$@" > {d}/args; exec base64 -d\n')
    script(d / "fails", 'cat > /dev/null; echo "no key for this" >&2; exit 3\n')
    script(d / "half", 'head -c 1000 | base64 -d; echo "half way" >&2; exit 4\n')
    script(d / "chatty", 'yes complaint | head -c 1000000 >&2; exec base64 -d\n')
    script(d / "sleeps", f'echo $$ > {d}/pid; exec sleep 1000\n')
    config = [("b64", ["b64"], "application/vnd.oci.image.layer.v1.tar+gzip", "base64", ["-d"], []),
              ("rot", ["rot"], TYPE + "+b64", "tr", ["A-Za-z", "N-ZA-Mn-za-m"], []),
              ("told", ["told"], "application/vnd.oci.image.layer.v1.tar", d / "told", ["one", "two words"], ["MINE=1", "HOME=/nowhere"]),
              ("fails", ["fails"], "application/vnd.oci.image.layer.v1.tar", d / "fails", [], []),
              ("half", ["half"], "application/vnd.oci.image.layer.v1.tar", d / "half", [], []),
              ("chatty", ["chatty"], "application/vnd.oci.image.layer.v1.tar", d / "chatty", [], []),
              ("sleeps", ["sleeps"], "application/vnd.oci.image.layer.v1.tar", d / "sleeps", [], []),
              ("nothere", ["nothere"], "application/vnd.oci.image.layer.v1.tar", d / "nothere", [], []),
              ("round", ["round"], TYPE + "+round", "cat", [], []),
              ("nowhere", ["nowhere"], "application/unknown", "cat", [], []),
              ("first", ["twice"], "application/unknown", "false", [], []),
              ("second", ["twice"], "application/vnd.oci.image.layer.v1.tar+gzip", "base64", ["-d"], [])]
    text = ""
    for name, accepts, returns, path, args, env in config:
        text += f'[stream_processors.{name}]\n accepts = {[TYPE + "+" + a for a in accepts]}\n returns = "{returns}"\n path = "{path}"\n args = {args}\n env = {env}\n'
    daemon = Daemon(config=text).start()
    yield daemon, d
    daemon.close()


@pytest.fixture
def daemon(setup):
    return setup[0]


@pytest.fixture
def d(setup):
    return setup[1]


@pytest.fixture
def api(stubs, daemon):
    a = Api(stubs, daemon)
    yield a
    a.channel.close()


PLAIN = images.tar_of([("dir", None), ("dir/file", b"decoded\n")])


def apply(api, target, kind, data, payloads=None, ns="default", **kw):
    """Ingests the data and applies it as a layer of this type to a directory."""
    pb = api.content_pb
    digest = proxies.digest_of(data)
    md = [("containerd-namespace", ns)]
    try:
        list(api.content.Write(iter([pb.WriteContentRequest(action=pb.COMMIT, ref=digest, data=data, total=len(data), expected=digest,
                                                             labels={"containerd.io/gc.root": "1"})]), metadata=md))
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.ALREADY_EXISTS
    pathlib.Path(target).mkdir(exist_ok=True)
    return api.diff.Apply(api.diff_pb.ApplyRequest(
        diff=api.types.Descriptor(media_type=f"{TYPE}+{kind}", digest=digest, size=len(data)),
        mounts=[api.mounts.Mount(type="bind", source=str(target), options=["rw", "rbind"])], payloads=payloads), metadata=md, **{"timeout": 180, **kw})


def refused(api, target, kind, data, **kw):
    with pytest.raises(grpc.RpcError) as e:
        apply(api, target, kind, data, **kw)
    return e.value


def rot13(data):
    return data.translate(bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", b"NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"))


B64 = base64.b64encode(PLAIN)
B64GZ = base64.b64encode(gzip.compress(PLAIN, mtime=0))


def test_layer_is_decoded_and_its_diff_id_is_of_the_plain_tar(api, tmp_path):
    applied = apply(api, tmp_path / "t", "b64", B64GZ).applied
    assert (applied.media_type, applied.digest, applied.size) == ("application/vnd.oci.image.layer.v1.tar", proxies.digest_of(PLAIN), len(PLAIN))
    assert (tmp_path / "t/dir/file").read_text() == "decoded\n"


def test_processors_are_chained(api, tmp_path):
    assert apply(api, tmp_path / "t", "rot", rot13(B64GZ)).applied.digest == proxies.digest_of(PLAIN)
    assert (tmp_path / "t/dir/file").read_text() == "decoded\n"


def test_processor_gets_arguments_environment_media_type_and_payload(api, tmp_path, d):
    from google.protobuf.any_pb2 import Any
    payload = Any(type_url="type.test/x", value=b"secret" * 50000)
    apply(api, tmp_path / "t", "told", B64, payloads={"told": payload, "other": Any(type_url="type.test/y")})
    env = (d / "env").read_text().splitlines()
    assert f"STREAM_PROCESSOR_MEDIATYPE={TYPE}+told" in env and "MINE=1" in env and env.count("HOME=/nowhere") == 1
    assert not [e for e in env if e.startswith("HOME=") and e != "HOME=/nowhere"] and [e for e in env if e.startswith("PATH=")]
    assert (d / "args").read_text() == "one two words\n"
    assert (d / "payload").read_bytes() == payload.SerializeToString()


def test_later_processor_of_a_type_wins(api, tmp_path):
    assert apply(api, tmp_path / "t", "twice", B64GZ).applied.digest == proxies.digest_of(PLAIN)


def test_failed_processor_is_told_with_its_stderr(api, tmp_path):
    e = refused(api, tmp_path / "t", "fails", B64)
    assert e.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "stream processor fails: exit status 3: no key for this" in e.details()
    e = refused(api, tmp_path / "t", "half", B64)
    assert "stream processor half: exit status 4: half way" in e.details()


def test_processor_that_fails_at_garbage_is_the_reason(api, tmp_path):
    e = refused(api, tmp_path / "t", "b64", b"!!! no base64 !!!")
    assert "stream processor b64: exit status 1" in e.details() and "invalid input" in e.details()


def test_missing_program_is_told(api, tmp_path):
    e = refused(api, tmp_path / "t", "nothere", B64)
    assert e.code() == grpc.StatusCode.NOT_FOUND and "stream processor nothere" in e.details()


def test_much_on_stderr_does_not_block(api, tmp_path):
    assert apply(api, tmp_path / "t", "chatty", B64).applied.digest == proxies.digest_of(PLAIN)


def test_types_that_lead_nowhere_are_unimplemented(api, tmp_path):
    for kind in ("none", "nowhere"):
        e = refused(api, tmp_path / "t", kind, B64)
        assert e.code() == grpc.StatusCode.UNIMPLEMENTED and "no processor for media-type" in e.details()


def test_circle_of_processors_is_refused(api, tmp_path):
    e = refused(api, tmp_path / "t", "round", B64)
    assert e.code() == grpc.StatusCode.INVALID_ARGUMENT and "more than 8" in e.details()


def test_processor_that_hangs_ends_with_the_call(api, tmp_path, d):
    for seconds in (2, 20, 120):  # more, where the program is not started in so short a time
        assert refused(api, tmp_path / "t", "sleeps", B64, timeout=seconds).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if (d / "pid").exists() and (d / "pid").read_text().endswith("\n"):
            break
    pid = int((d / "pid").read_text())
    from harness import until
    until("the program to be ended", lambda: pid not in processes())


def test_pulled_image_is_decoded_while_it_comes(daemon, registry, workdir):
    base = images.busybox_tar()
    layers = [(base, TYPE + "+b64", base64.b64encode(gzip.compress(base, mtime=0))),
              (PLAIN, TYPE + "+rot", rot13(B64GZ))]
    layout = image_of(workdir / "encoded", layers)
    ref = registry.push(layout, "encoded:latest")
    daemon.ctr("images", "pull", "--plain-http", ref)
    assert daemon.ctr.out("run", "--rm", ref, "proxy-encoded", "cat", "/dir/file") == "decoded\n"
    daemon.ctr("images", "import", "--base-name", "imported", "-", ns="import", input=archive(layout), binary=True)
    image = daemon.ctr.quiet("images", "ls", "-q", ns="import")[0]
    assert daemon.ctr.out("run", "--rm", image, "proxy-encoded2", "cat", "/dir/file", ns="import") == "decoded\n"


def test_wrong_diff_id_behind_a_processor_is_refused(daemon, registry, workdir):
    layout = image_of(workdir / "lie", [(PLAIN + bytes(512), TYPE + "+b64", B64GZ)])
    failed = daemon.ctr("images", "pull", "--plain-http", registry.push(layout, "lie:latest"), check=False)
    assert failed.returncode == 1 and "wrong diff id" in failed.stderr
