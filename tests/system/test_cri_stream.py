# SPDX-License-Identifier: Apache-2.0
"""Exec, attach and port-forward of the CRI, by clients of both protocols."""
import hashlib
import itertools
import os
import re
import socket
import struct
import subprocess
import threading

import grpc
import pytest

from cri import cri_daemon, fails
from cri_fixtures import cri, cri_and_image, image
from harness import run, until
from k8s_streams import SETTINGS, Refused, Spdy, WebSocket, exit_code, request

PODS = itertools.count()
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]


@pytest.fixture
def ns(cri):
    return cri.daemon.netns


@pytest.fixture
def pod(cri):
    conf = cri.pod(f"stream{next(PODS)}")
    return cri.run_pod(conf), conf


@pytest.fixture
def k(cri, image, pod):
    return cri.start(*pod, cri.container("c", image))


def exec_url(cri, k, *cmd, stdin=False, stdout=True, stderr=True, tty=False):
    return cri.Exec(container_id=k, cmd=cmd, stdin=stdin, stdout=stdout, stderr=stderr and not tty, tty=tty).url


def sh(cri, k, text, **kw):
    return exec_url(cri, k, "sh", "-c", text, **kw)


def client_of(kind, ns, url, streams):
    """One that has opened its streams, with names for them."""
    if kind == "spdy":
        return Spdy(ns, url).open_command(*streams)
    c = WebSocket(ns, url, ("v5.channel.k8s.io",))
    c.stdin, c.stdout, c.stderr, c.resize = 0, 1, 2, 4
    return c


@pytest.fixture(params=["spdy", "websocket"])
def kind(request):
    return request.param


# ---- calls and tokens ----


def test_requests_are_checked(cri, k, pod):
    bad = grpc.StatusCode.INVALID_ARGUMENT
    assert "one of stdin, stdout, or stderr must be set" in fails(bad, cri.Exec, container_id=k, cmd=["true"])
    assert "tty and stderr cannot both be true" in fails(bad, cri.Exec, container_id=k, cmd=["true"], tty=True, stdout=True, stderr=True)
    assert "one of stdin, stdout, or stderr must be set" in fails(bad, cri.Attach, container_id=k)
    assert "tty and stderr cannot both be true" in fails(bad, cri.Attach, container_id=k, tty=True, stderr=True)
    fails(grpc.StatusCode.NOT_FOUND, cri.Exec, container_id="nosuch", cmd=["true"], stdout=True)
    fails(grpc.StatusCode.NOT_FOUND, cri.PortForward, pod_sandbox_id="nosuch")
    cri.StopContainer(container_id=k, timeout=0)
    assert "container is in CONTAINER_EXITED state" in fails(grpc.StatusCode.UNKNOWN, cri.Exec, container_id=k, cmd=["true"], stdout=True)
    cri.StopPodSandbox(pod_sandbox_id=pod[0])
    assert "sandbox container is not running" in fails(grpc.StatusCode.UNKNOWN, cri.PortForward, pod_sandbox_id=pod[0])


def test_a_token_is_good_once_and_for_its_own_route(cri, k, ns):
    url = sh(cri, k, "true")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/exec/[A-Za-z0-9_-]{8}", url)
    with pytest.raises(Refused) as e:
        request(ns, url.rsplit("/", 1)[0] + "/AAAAAAAA", UPGRADE)
    assert e.value.status == 404
    c = Spdy(ns, url).open_command("stdout", "stderr")
    assert exit_code(c.status()) == 0
    for again in (url, sh(cri, k, "true").replace("/exec/", "/attach/"), url + "/x", url.rsplit("/", 1)[0] + "/"):
        with pytest.raises(Refused) as e:
            request(ns, again, UPGRADE)
        assert e.value.status == 404
    with pytest.raises(Refused) as e:
        request(ns, sh(cri, k, "true"), UPGRADE, method="DELETE")
    assert e.value.status == 405


def test_no_more_than_a_thousand_tokens_wait(cri, k):
    urls = {sh(cri, k, "true") for _ in range(990)}
    assert len(urls) == 990
    with pytest.raises(grpc.RpcError) as e:
        for _ in range(1000):
            sh(cri, k, "true")
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "maximum number of in-flight requests exceeded" in e.value.details()
    # The rest of this file's tests get a daemon whose tokens are gone.
    cri.daemon.restart()
    cri.connect()
    sh(cri, k, "true")


def test_requests_that_are_no_upgrade_are_refused(cri, k, ns):
    cases = [([], 400), (UPGRADE[:1], 400), ([*UPGRADE, ("X-Stream-Protocol-Version", "v9.channel.k8s.io")], 403)]
    for headers, status in cases:
        with pytest.raises(Refused) as e:
            request(ns, sh(cri, k, "true"), headers)
        assert e.value.status == status, headers
    assert [v for n, v in e.value.headers if n == "x-accepted-stream-protocol-versions"] == [
        "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]
    ws = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
    for headers, status in [(ws, 400), ([*ws, ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Protocol", "nonsense")], 403)]:
        with pytest.raises(Refused) as e:
            request(ns, sh(cri, k, "true"), headers, "GET")
        assert e.value.status == status


# ---- exec ----


def test_exec_keeps_streams_apart_and_tells_the_exit_code(cri, k, ns, kind):
    c = client_of(kind, ns, sh(cri, k, "echo out; echo err >&2; exit 7"), ["stdout", "stderr"])
    status = c.status()
    assert exit_code(status) == 7 and "exit code 7" in status["message"]
    assert (c.data[c.stdout], c.data[c.stderr]) == (b"out\n", b"err\n")
    c.until_closed()


def test_exec_of_what_is_not_there_is_an_error(cri, k, ns, kind):
    c = client_of(kind, ns, exec_url(cri, k, "/no/such/program"), ["stdout", "stderr"])
    status = c.status()
    assert status["status"] == "Failure" and status["reason"] == "InternalError" and status["code"] == 500
    assert status["message"].startswith("Internal error occurred: error executing command in container: ")


@pytest.mark.parametrize("protocols,answer", [((), None), (("channel.k8s.io",), "channel.k8s.io"), (("v3.channel.k8s.io", "v4.channel.k8s.io"), "v3.channel.k8s.io"),
                                              (("v9.x", "v2.channel.k8s.io"), "v2.channel.k8s.io")])
def test_older_protocols_of_spdy_tell_the_error_as_text(cri, k, ns, protocols, answer):
    c = Spdy(ns, sh(cri, k, "exit 3"), protocols).open_command("stdout", "stderr")
    assert c.protocol == answer
    assert c.status() == "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3"
    c = Spdy(ns, sh(cri, k, "echo fine"), protocols).open_command("stdout", "stderr")
    assert c.status() == "" and c.data[c.stdout] == b"fine\n"


@pytest.mark.parametrize("protocols,text", [((), True), (("channel.k8s.io",), True), (("base64.channel.k8s.io",), True), (("v4.channel.k8s.io",), False),
                                            (("v4.base64.channel.k8s.io",), False), (("x", "v5.channel.k8s.io"), False)])
def test_every_protocol_of_websocket(cri, k, ns, protocols, text):
    c = WebSocket(ns, sh(cri, k, "read x; echo got $x; exit 5", stdin=True), protocols)
    assert c.protocol == (protocols[-1] if protocols else "")
    c.write(0, "something\n")
    status = c.status()
    assert c.messages[0] == (1, b"")  # tells that the connection stands
    assert c.data[1] == b"got something\n" and c.code == 1000
    assert status.startswith("command terminated with non-zero exit code") if text else exit_code(status) == 5


def test_input_goes_in_whole_and_output_comes_out_whole(cri, k, ns, kind):
    c = client_of(kind, ns, sh(cri, k, "cat", stdin=True), ["stdin", "stdout", "stderr"])
    data = os.urandom(3 << 20)
    feeder = threading.Thread(target=lambda: [c.write(c.stdin, data[i:i + 50000]) for i in range(0, len(data), 50000)] + [c.end(c.stdin)])
    feeder.start()
    assert exit_code(c.status()) == 0
    feeder.join()
    assert hashlib.sha256(c.data[c.stdout]).digest() == hashlib.sha256(data).digest()


def test_a_terminal_has_the_clients_size(cri, k, ns, kind):
    url = sh(cri, k, "while :; do stty size 2>/dev/null; sleep 0.1; done", stdin=True, tty=True)
    c = client_of(kind, ns, url, ["stdin", "stdout", "resize"])
    c.write(c.resize, '{"Width":101,"Height":31}\n')
    c.until(c.stdout, "31 101")
    c.write(c.resize, '{"Width":77,')
    c.write(c.resize, '"Height":20}{"Width":78,"Height":22}')
    c.until(c.stdout, "22 78")
    c.write(c.stdin, b"\x03")
    assert exit_code(c.status()) == 130


def test_a_client_that_leaves_gives_the_command_its_end_of_input(cri, k, ns, kind):
    c = client_of(kind, ns, sh(cri, k, "echo here; cat > /tmp/in; echo done >> /tmp/in", stdin=True), ["stdin", "stdout", "stderr"])
    c.until(c.stdout, "here")
    c.write(c.stdin, "some\n")
    c.close()
    until("the command to see the end", lambda: cri.ExecSync(container_id=k, cmd=["cat", "/tmp/in"]).stdout == b"some\ndone\n")


def test_a_client_that_reads_nothing_stops_the_command_and_nobody_else(cri, k, ns):
    url = sh(cri, k, "i=0; while [ $i -lt 4000 ]; do head -c 4096 /dev/zero; i=$((i+1)); echo $i > /tmp/count; done")
    s, _, _ = request(ns, url, [*UPGRADE, ("X-Stream-Protocol-Version", "v4.channel.k8s.io")])
    c = Spdy.__new__(Spdy)
    import zlib

    from k8s_streams import DICTIONARY
    c.sock, c.sending, c.next, c.deflate = s, threading.Lock(), 1, zlib.compressobj(zdict=DICTIONARY)
    for name in ("error", "stdout", "stderr"):
        c.open(streamtype=name)

    def count():
        return cri.ExecSync(container_id=k, cmd=["cat", "/tmp/count"]).stdout
    seen = [b"", None]

    def still():
        seen.append(count())
        return seen[-1] == seen[-2] == seen[-3] != b""
    until("the command to wait", still)
    assert int(seen[-1]) < 4000
    other = Spdy(ns, sh(cri, k, "echo others go on")).open_command("stdout", "stderr")
    assert exit_code(other.status()) == 0
    s.close()


def test_the_command_begins_when_all_streams_are_open(cri, k, ns):
    c = Spdy(ns, sh(cri, k, "echo begun > /tmp/begun; cat", stdin=True))
    c.open_command("stdout", "stderr")
    c.ping(1)
    c.wait("the ping", lambda: c.pongs == [1])
    assert b"begun" not in cri.ExecSync(container_id=k, cmd=["sh", "-c", "cat /tmp/begun 2>&1"]).stdout.replace(b"/tmp/begun", b"")
    c.stdin = c.open(streamtype="stdin")
    c.write(c.stdin, "x", fin=True)
    assert exit_code(c.status()) == 0 and c.data[c.stdout] == b"x"


# ---- the protocols ----


def test_spdy_streams_that_are_wrong_are_refused_alone(cri, k, ns):
    c = Spdy(ns, sh(cri, k, "cat", stdin=True)).open_command("stdout", "stderr")
    wrong = [c.open(streamtype="nonsense"), c.open(), c.open(streamtype="stdout"), c.open(streamtype="data")]
    c.wait("resets", lambda: set(c.resets) == set(wrong))
    c.stdin = c.open(streamtype="stdin")
    c.write(c.stdin, "still there", fin=True)
    assert exit_code(c.status()) == 0 and c.data[c.stdout] == b"still there"


def test_spdy_flow_control_is_kept_by_who_keeps_it(cri, k, ns):
    c = Spdy(ns, sh(cri, k, "head -c 300000 /dev/zero; cat >/dev/null", stdin=True))
    c.control(SETTINGS, struct.pack(">III", 1, 7, 20000))
    c.open_command("stdin", "stdout", "stderr")
    c.wait("a full window", lambda: len(c.data[c.stdout]) == 20000)
    c.ping(1)
    c.wait("the ping", lambda: c.pongs == [1])
    assert len(c.data[c.stdout]) == 20000
    c.window(c.stdout, 1 << 20)
    c.wait("the session's window", lambda: len(c.data[c.stdout]) == 65536)
    c.window(0, 1 << 20)
    c.wait("the rest", lambda: len(c.data[c.stdout]) == 300000)
    c.write(c.stdin, bytes(100000), fin=True)
    assert exit_code(c.status()) == 0
    assert c.credit[0] >= 80000 and c.credit[c.stdin] >= 60000  # the client is told what was taken


@pytest.mark.parametrize("bytes_", [b"\xff" * 100, b"\x80\x03\x00\x01\x00\xff\xff\xff" + bytes(100), b"\x80\x03\x00\x01\x00\x00\x00\x20" + b"\xff" * 32,
                                    b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00\x00\x00\x01x"])
def test_garbage_in_place_of_spdy_ends_its_connection_only(cri, k, ns, bytes_):
    c = Spdy(ns, sh(cri, k, "true"))
    c._send(bytes_)
    c.until_closed()
    other = Spdy(ns, sh(cri, k, "true")).open_command("stdout", "stderr")
    assert exit_code(other.status()) == 0


def test_websocket_frames_of_all_sizes_and_pieces(cri, k, ns):
    c = WebSocket(ns, sh(cri, k, "cat", stdin=True), ("v5.channel.k8s.io",))
    c.frame(9, b"are you there")
    c.frame(2, b"\0a", fin=False)
    c.frame(9, b"")
    c.frame(0, b"b", fin=False)
    c.frame(0, b"c", fin=True)
    c.frame(2, b"")
    c.frame(2, b"\0")
    c.frame(2, b"\x07nobody's")
    expected = b"abc"
    for n in (125, 126, 65535, 65536, 200000):
        c.write(0, b"x" * n)
        expected += b"x" * n
    c.end(0)
    assert exit_code(c.status()) == 0
    assert c.data[1] == expected and c.pongs == [b"are you there", b""]


@pytest.mark.parametrize("send", [lambda c: c.frame(2, b"\0x", mask=False), lambda c: c.frame(3, b"x"), lambda c: c.frame(9, b"x", fin=False),
                                  lambda c: c.frame(9, b"x" * 126), lambda c: c.frame(0, b"x"), lambda c: c._send(b"\xf2\x80\0\0\0\0"),
                                  lambda c: c._send(b"\x82\xff" + b"\xff" * 8 + bytes(4))])
def test_wrong_websocket_frames_end_the_connection(cri, k, ns, send):
    c = WebSocket(ns, sh(cri, k, "cat", stdin=True))
    send(c)
    c.until_closed()
    assert c.code == 1002


def test_a_websocket_that_is_closed_is_answered(cri, k, ns):
    c = WebSocket(ns, sh(cri, k, "cat", stdin=True))
    c.frame(8, struct.pack(">H", 1000))
    c.until_closed()
    assert c.code == 1000


def test_wrong_base64_ends_the_connection(cri, k, ns):
    c = WebSocket(ns, sh(cri, k, "cat", stdin=True), ("base64.channel.k8s.io",))
    c.frame(1, b"0YWJj*")
    c.until_closed()
    assert c.code == 1002


# ---- attach ----


def attach(cri, ns, kind, k, **fields):
    url = cri.Attach(container_id=k, **fields).url
    assert "/attach/" in url
    streams = [s for s in ("stdin", "stdout", "stderr") if fields.get(s)] + (["resize"] if fields.get("tty") else [])
    return client_of(kind, ns, url, streams)


def test_three_attach_and_all_hear_what_one_says(cri, image, pod, ns):
    k = cri.start(*pod, cri.container("c", image, ["sh", "-c", "while read x; do echo said $x; [ $x = end ] && exit 4; done"], stdin=True))
    clients = [attach(cri, ns, kind, k, stdin=True, stdout=True, stderr=True) for kind in ("spdy", "websocket", "spdy")]
    for i, c in enumerate(clients):
        # Attached is who hears an answer.
        def heard():
            c.write(c.stdin, f"hello{i}\n")
            return f"said hello{i}\n".encode() in c.data[c.stdout]
        until("an answer", heard)
    clients[0].write(clients[0].stdin, "all\n")
    for c in clients:
        c.until(c.stdout, "said all\n")
    clients[1].close()
    clients[2].write(clients[2].stdin, "end\n")
    for c in (clients[0], clients[2]):
        assert c.status()["status"] == "Success"
        c.until(c.stdout, "said end\n")
    assert cri.exited(k).exit_code == 4


def test_attach_to_a_terminal_sets_its_size(cri, image, pod, ns, kind):
    k = cri.start(*pod, cri.container("c", image, ["sh"], stdin=True, tty=True))
    c = attach(cri, ns, kind, k, stdin=True, stdout=True, tty=True)
    c.write(c.resize, '{"Width":99,"Height":33}')

    def sized():
        c.write(c.stdin, "stty size\n")
        return b"33 99" in c.data[c.stdout]
    until("the size", sized)
    c.write(c.stdin, "exit 6\n")
    assert c.status()["status"] == "Success" and cri.exited(k).exit_code == 6


def test_stdin_once_ends_the_containers_input_with_the_client(cri, image, pod, ns):
    k = cri.start(*pod, cri.container("c", image, ["sh", "-c", "cat; echo ended; exit 9"], stdin=True, stdin_once=True))
    c = attach(cri, ns, "spdy", k, stdin=True, stdout=True, stderr=True)
    c.write(c.stdin, "bytes\n", fin=True)
    assert c.status()["status"] == "Success"
    assert cri.exited(k).exit_code == 9


# ---- port-forward ----

SERVER = """mkdir -p /tmp/w; cd /tmp/w; head -c 1048576 /dev/urandom > blob
printf '#!/bin/sh\\nsha256sum\\n' > sum; chmod +x sum
httpd -p 8000 -f -h /tmp/w & nc -ll -p 8001 -e cat & nc -ll -p 8002 -e /tmp/w/sum & wait"""


@pytest.fixture
def server(cri, image, pod):
    k = cri.start(*pod, cri.container("c", image, ["sh", "-c", SERVER]))

    def listening():
        out = cri.ExecSync(container_id=k, cmd=["netstat", "-ltn"]).stdout
        return all(f":{p} ".encode() in out for p in (8000, 8001, 8002))
    until("the servers", listening)
    return k


def sha_in(cri, k, path):
    return cri.ExecSync(container_id=k, cmd=["sha256sum", path]).stdout.split()[0].decode()


def test_a_megabyte_each_way_in_many_streams_at_once(cri, pod, server, ns):
    c = Spdy(ns, cri.PortForward(pod_sandbox_id=pod[0], port=[8000]).url, ("portforward.k8s.io",))
    assert c.protocol == "portforward.k8s.io"
    data = os.urandom(1 << 20)
    down = [c.pair(8000, f"down{i}")[1] for i in range(3)]
    echo = [c.pair(8001, f"echo{i}") for i in range(3)]
    for d in down:
        c.write(d, "GET /blob HTTP/1.0\r\n\r\n")

    def send(stream):
        for i in range(0, len(data), 30000):
            c.write(stream, data[i:i + 30000])
    feeders = [threading.Thread(target=send, args=(d,)) for _, d in echo]
    for t in feeders:
        t.start()
    for t in feeders:
        t.join()
    for _, d in echo:
        c.wait("the echo", lambda: len(c.data[d]) >= len(data))
        assert c.data[d] == data
        c.end(d)
    for d in down:
        c.wait("the end of the download", lambda: d in c.ended)
        assert hashlib.sha256(c.data[d].split(b"\r\n\r\n", 1)[1]).hexdigest() == sha_in(cri, server, "/tmp/w/blob")
    for e, d in echo:
        c.wait("the end of the pair", lambda: {e, d} <= c.ended)
        assert c.data[e] == b""
    c.close()


def test_half_a_connection_is_half_a_connection(cri, pod, server, ns):
    c = Spdy(ns, cri.PortForward(pod_sandbox_id=pod[0]).url, ("portforward.k8s.io",))
    e, d = c.pair(8002, "0")
    data = os.urandom(300000)
    c.write(d, data, fin=True)
    c.until(d, hashlib.sha256(data).hexdigest())
    c.wait("the end", lambda: {e, d} <= c.ended)


def test_a_port_without_a_server_is_an_error_of_its_pair(cri, pod, server, ns):
    c = Spdy(ns, cri.PortForward(pod_sandbox_id=pod[0]).url, ())
    e, d = c.pair(9, "a")
    c.wait("the end of the pair", lambda: {e, d} <= c.ended)
    text = c.data[e].decode()
    assert text.startswith(f"error forwarding port 9 to pod {pod[0]}, uid : ") and "refused" in text
    wrong = [c.open(streamtype="data", port=0, requestid="b"), c.open(streamtype="data", port="x", requestid="b"), c.open(streamtype="data", requestid="b"),
             c.open(streamtype="stdin", port=80, requestid="b")]
    c.wait("resets", lambda: set(wrong) == set(c.resets))
    e, d = c.open(streamtype="error", port=8001), c.open(streamtype="data", port=8001)  # without a number of the request
    c.write(d, "fine")
    c.until(d, "fine")
    c.reset(d)
    c.wait("the end of the pair", lambda: e in c.ended)


def test_ports_by_websocket(cri, pod, server, ns):
    c = WebSocket(ns, cri.PortForward(pod_sandbox_id=pod[0], port=[8001, 9]).url)
    c.wait("the ports", lambda: len(c.messages) >= 5)
    assert sorted(c.messages[:4]) == [(0, struct.pack("<H", 8001)), (1, struct.pack("<H", 8001)), (2, struct.pack("<H", 9)), (3, struct.pack("<H", 9))]
    data = os.urandom(500000)
    c.write(0, data)
    c.wait("the echo", lambda: len(c.data[0]) == 2 + len(data))
    assert c.data[0][2:] == data
    c.until(3, "refused")
    assert not c.closed
    with pytest.raises(Refused) as e:
        WebSocket(ns, cri.PortForward(pod_sandbox_id=pod[0]).url)
    assert e.value.status == 400


def test_the_hosts_network_is_reached_for_pods_that_have_it(cri, image, ns):
    sc = cri.pb.LinuxSandboxSecurityContext(namespace_options=cri.pb.NamespaceOption(network=cri.pb.NODE))
    conf = cri.pod(f"stream{next(PODS)}", linux=cri.pb.LinuxPodSandboxConfig(security_context=sc))
    p = cri.run_pod(conf)
    listener = ns.inside(lambda: socket.create_server(("127.0.0.1", 0)))
    port = listener.getsockname()[1]
    c = Spdy(ns, cri.PortForward(pod_sandbox_id=p).url, ("portforward.k8s.io",))
    _, d = c.pair(port, "0")
    s, _ = listener.accept()
    s.sendall(b"from the host")
    c.until(d, "from the host")
    s.close()
    listener.close()
    c.close()


# ---- the server ----


def test_streams_end_with_the_daemon_and_the_next_one_serves(cri, k, ns):
    c = Spdy(ns, sh(cri, k, "echo here; cat", stdin=True)).open_command("stdin", "stdout", "stderr")
    c.until(c.stdout, "here")
    cri.daemon.restart()
    c.until_closed()
    cri.connect()
    c = Spdy(ns, sh(cri, k, "echo again")).open_command("stdout", "stderr")
    assert exit_code(c.status()) == 0 and c.data[c.stdout] == b"again\n"


def test_a_front_that_dies_costs_its_streams_only(cri, k, ns):
    c = Spdy(ns, sh(cri, k, "echo here; cat", stdin=True)).open_command("stdin", "stdout", "stderr")
    c.until(c.stdout, "here")
    fronts = [p for p in subprocess.run(["pgrep", "-P", str(cri.daemon.process.pid), "-f", "containerd-worker"], capture_output=True, text=True).stdout.split()]
    for p in fronts:
        os.kill(int(p), 9)
    c.until_closed()

    def served():
        try:
            c = Spdy(ns, sh(cri, k, "echo again")).open_command("stdout", "stderr")
            return exit_code(c.status()) == 0
        except (OSError, EOFError, ValueError, Refused, grpc.RpcError):  # as far as the next one has come
            return False
    assert fronts
    until("the next front", served)


TLS = """
[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = '0.0.0.0'
stream_idle_timeout = '10s'
enable_tls_streaming = true
"""


def test_tls_a_wildcard_address_and_idle_streams(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout, TLS) as (cri, image):
        ns, conf = cri.daemon.netns, cri.pod("tls")
        k = cri.start(cri.run_pod(conf), conf, cri.container("c", image))
        url = sh(cri, k, "cat", stdin=True)
        assert re.match(r"https://(?!0\.0\.0\.0)[0-9.]+:\d+/exec/", url)
        c = client_of("spdy", ns, url, ["stdin", "stdout", "stderr"])
        data = os.urandom(1 << 20)
        c.write(c.stdin, data, fin=True)
        assert exit_code(c.status()) == 0 and c.data[c.stdout] == data
        c = client_of("websocket", ns, sh(cri, k, "cat", stdin=True), [])
        c.write(0, "x")
        c.until(1, "x")
        c.until_closed()  # nothing moves


def test_a_certificate_of_ones_own(stubs, busybox_layout, tmp_path):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=mine",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"])
    config = f"""
[plugins.'io.containerd.grpc.v1.cri']
enable_tls_streaming = true
[plugins.'io.containerd.grpc.v1.cri'.x509_key_pair_streaming]
tls_cert_file = '{tmp_path}/cert.pem'
tls_key_file = '{tmp_path}/key.pem'
"""
    with cri_daemon(stubs, busybox_layout, config) as (cri, image):
        ns, conf = cri.daemon.netns, cri.pod("cert")
        k = cri.start(cri.run_pod(conf), conf, cri.container("c", image))
        c = client_of("spdy", ns, sh(cri, k, "echo secure"), ["stdout", "stderr"])
        assert exit_code(c.status()) == 0 and c.data[c.stdout] == b"secure\n"
        import ssl
        mine = ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text())
        assert c.sock.getpeercert(binary_form=True) == mine
