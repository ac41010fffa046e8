# SPDX-License-Identifier: Apache-2.0
"""Clients of the streaming server that break every rule: each loses its own connection and nothing else. Next to all of them stands a
session that must not notice, and afterwards neither daemon nor front may hold on to anything."""
import itertools
import os
import random
import socket
import struct
import subprocess
import threading
import zlib

import pytest

from cri import cri_daemon
from harness import until
from k8s_streams import DICTIONARY, HEADERS, PING, RST_STREAM, SETTINGS, SYN_REPLY, SYN_STREAM, WINDOW_UPDATE, Spdy, exit_code, request

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
           ("X-Stream-Protocol-Version", "portforward.k8s.io")]
WEB = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
       ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")]
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def held(cri):
    """(descriptors of daemon and fronts, threads of streams)."""
    daemon = cri.daemon.process.pid
    fronts = subprocess.run(["pgrep", "-P", str(daemon), "-f", "containerd-worker"], capture_output=True, text=True).stdout.split()
    return fronts, sum(len(os.listdir(f"/proc/{p}/fd")) for p in [daemon, *fronts])


class World:
    def __init__(self, cri, image):
        self.cri, self.ns = cri, cri.daemon.netns
        conf = cri.pod("hostile")
        self.pod = cri.run_pod(conf)
        self.k = cri.start(self.pod, conf, cri.container("c", image, ["sh", "-c", "nc -ll -p 80 -e cat & sleep 100000"]))
        until("the server", lambda: b":80 " in cri.ExecSync(container_id=self.k, cmd=["netstat", "-ltn"]).stdout)
        self.bystander = Spdy(self.ns, self.url()).open_command("stdin", "stdout", "stderr")
        self.bystander.sock.settimeout(None)
        self.count = itertools.count()
        self.alive()
        self.fronts, self.base = held(cri)

    def url(self, *cmd, stdin=True):
        return self.cri.Exec(container_id=self.k, cmd=cmd or ["cat"], stdin=stdin, stdout=True, stderr=True).url

    def forward(self):
        return self.cri.PortForward(pod_sandbox_id=self.pod, port=[80]).url

    def alive(self):
        """Who stood by still is served, by the same process, and who comes is too."""
        n = next(self.count)
        self.bystander.write(self.bystander.stdin, f"still here {n}\n")
        self.bystander.until(self.bystander.stdout, f"still here {n}\n")
        c = Spdy(self.ns, self.url("echo", "served")).open_command("stdin", "stdout", "stderr")
        assert exit_code(c.status()) == 0 and c.data[c.stdout] == b"served\n"
        c.close()

    def settled(self):
        """What was held for attackers has been given back."""
        self.alive()
        until("descriptors to be closed", lambda: held(self.cri)[1] <= self.base + 4)
        assert held(self.cri)[0] == self.fronts, "a front has died"


@pytest.fixture(scope="module")
def world(stubs, busybox_layout):
    with cri_daemon(stubs, busybox_layout) as (cri, image):
        w = World(cri, image)
        yield w
        w.bystander.close()
        cri.daemon.clear()


def raw(world, url, headers=UPGRADE, method="POST"):
    s, _, rest = request(world.ns, url, headers, method)
    assert not rest or method == "GET"
    return s


def gone(s, seconds=180):
    """Reads until the other side has ended it; what came."""
    s.settimeout(seconds)
    got = b""
    try:
        while data := s.recv(1 << 16):
            got += data
    except ConnectionError:
        pass
    s.close()
    return got


def control(kind, payload, flags=0, version=3, length=None):
    n = len(payload) if length is None else length
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | n) + payload


class Headers:
    """One connection's compression."""

    def __init__(self):
        self.z = zlib.compressobj(zdict=DICTIONARY)

    def block(self, raw_block):
        return self.z.compress(raw_block) + self.z.flush(zlib.Z_SYNC_FLUSH)

    def pairs(self, **headers):
        return struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(t)) + t.encode() for kv in headers.items() for t in kv)

    def syn(self, stream, flags=0, **headers):
        return control(SYN_STREAM, struct.pack(">IIBB", stream, 0, 0, 0) + self.block(self.pairs(**headers)), flags)


# ---- SPDY ----


def syn_of(block):
    return control(SYN_STREAM, struct.pack(">IIBB", 1, 0, 0, 0) + block)


def squeezed(raw_block):
    return syn_of(Headers().block(raw_block))


WRONG_SPDY = {
    "no protocol at all": b"\xff" * 100,
    "another version": control(PING, bytes(4), version=2),
    "a control frame that is too long": control(SYN_STREAM, b"", length=0xFFFFFF) + bytes(1 << 16),
    "a stream without its numbers": control(SYN_STREAM, bytes(3)),
    "headers that are not compressed": syn_of(bytes(range(64))),
    "compression with another dictionary": syn_of(zlib.compressobj(zdict=b"another").compress(b"x" * 100) + b"\0" * 20),
    "compressed noise behind a good start": syn_of(Headers().block(struct.pack(">I", 0))[:8] + b"\xff" * 64),
    "compression that ends": syn_of(zlib.compress(struct.pack(">I", 0)) + b"\0" * 8),
    "headers that burst": squeezed(struct.pack(">I", 1) + struct.pack(">I", 1 << 24) + bytes(1 << 24)),
    "a million headers": squeezed(struct.pack(">I", 1_000_000) + bytes(1000)),
    "a header longer than all": squeezed(struct.pack(">II", 1, 0xFFFFFFFF) + b"x" * 100),
    "a name without its value": squeezed(struct.pack(">II", 1, 4) + b"name"),
    "an empty name": squeezed(struct.pack(">III", 1, 0, 0)),
    "a name with a NUL": squeezed(struct.pack(">II", 1, 3) + b"a\0b" + struct.pack(">I", 0)),
    "bytes behind the headers": squeezed(struct.pack(">I", 0) + b"more"),
    "a reset of three bytes": control(RST_STREAM, bytes(3)),
    "a ping of eight bytes": control(PING, bytes(8)),
    "settings that are not there": control(SETTINGS, struct.pack(">I", 0xFFFFFFFF)),
    "a window of more than there is": control(SETTINGS, struct.pack(">III", 1, 7, 0xFFFFFFFF)),
    "windows that add up to too much": control(WINDOW_UPDATE, struct.pack(">II", 0, 0x7FFFFFFF)) * 3,
    "data of stream zero": struct.pack(">II", 0, 4) + b"data",
    "a reply to nothing that is noise": control(SYN_REPLY, bytes(range(40))),
    "late headers that are noise": control(HEADERS, bytes(range(40))),
}


@pytest.mark.parametrize("what", WRONG_SPDY)
@pytest.mark.parametrize("route", ["exec", "forward"])
def test_wrong_spdy_costs_its_connection_only(world, what, route):
    s = raw(world, world.url() if route == "exec" else world.forward())
    try:
        s.sendall(WRONG_SPDY[what])
    except ConnectionError:
        pass
    got = gone(s)
    assert struct.pack(">HH", 0x8003, 7) in got or not got  # GOAWAY, unless it was reset before
    world.alive()


def test_frames_that_come_byte_by_byte_are_whole(world):
    s = raw(world, world.url())
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    h = Headers()
    data = b"".join(h.syn(n, streamtype=t) for n, t in ((1, "error"), (3, "stdout"), (5, "stderr"), (7, "stdin")))
    data += struct.pack(">II", 7, 5) + b"small" + struct.pack(">II", 7, 1 << 24)
    for i in range(len(data)):
        s.sendall(data[i:i + 1])
    assert b"small" in gone(s)


def test_ten_thousand_streams_are_refused_but_for_those_it_takes(world):
    s = raw(world, world.url())
    h, reader = Headers(), {}
    t = threading.Thread(target=lambda: reader.update(got=gone(s)))
    t.start()
    s.sendall(b"".join(h.syn(n, streamtype=t_) for n, t_ in ((1, "error"), (3, "stdout"), (5, "stderr"))))
    for i in range(10):
        s.sendall(b"".join(h.syn(7 + 2 * (1000 * i + k), streamtype="stdin" if i == k == 0 else "stdout") for k in range(1000)))
    s.sendall(struct.pack(">II", 7, 1 << 24))
    t.join()
    assert reader["got"].count(struct.pack(">HHI", 0x8003, RST_STREAM, 8)) == 9999
    world.settled()


def test_ten_thousand_streams_of_ports_leave_nothing(world):
    s = raw(world, world.forward())
    h, reader = Headers(), {}
    t = threading.Thread(target=lambda: reader.update(got=gone(s)))
    t.start()
    for i in range(10):
        # Pairs to a port where nobody listens, and halves of pairs.
        s.sendall(b"".join(h.syn(1 + 2 * (1000 * i + k), streamtype="error" if k % 2 else "data", port="9", requestid=str(k // 2 if i % 2 else i * 1000 + k))
                           for k in range(1000)))
    s.shutdown(socket.SHUT_WR)
    t.join()
    got = reader["got"]
    assert got.count(struct.pack(">HHI", 0x8003, RST_STREAM, 8)) + got.count(struct.pack(">HH", 0x8003, SYN_REPLY)) > 5000
    world.settled()


@pytest.mark.parametrize("flood", ["pings", "streams", "resets", "windows"])
def test_who_sends_and_never_reads_waits_alone(world, flood):
    s = raw(world, world.url())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    h = Headers()
    piece = {"pings": lambda: control(PING, struct.pack(">I", 1)) * 1000,
             "streams": lambda: b"".join(h.syn(2, streamtype="stdin") for _ in range(1000)),
             "resets": lambda: control(RST_STREAM, struct.pack(">II", 3, 1)) * 1000,
             "windows": lambda: control(WINDOW_UPDATE, struct.pack(">II", 3, 1)) * 1000}[flood]
    s.settimeout(2 if flood in ("pings", "streams") else 180)
    sent = 0
    try:
        while sent < 20 << 20:
            sent += s.send(piece())
    except TimeoutError:
        assert flood in ("pings", "streams")  # which would be answered
    world.alive()
    s.close()
    world.settled()


# ---- WebSocket ----


def frame(opcode, data, fin=True, length=None, bits=0, mask=b"abcd"):
    n = len(data) if length is None else length
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    head += bytes([0x80 | n]) if n < 126 else struct.pack(">BH", 0x80 | 126, n) if n < 65536 else struct.pack(">BQ", 0x80 | 127, n)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


WRONG_WEBSOCKET = {
    "no frame at all": b"GET / HTTP/1.1\r\n\r\n",
    "a length of all bits": b"\x82\xff" + b"\xff" * 8 + b"mask" + bytes(100),
    "no mask": b"\x82\x05\x00abcd",
    "reserved bits": frame(2, b"\0x", bits=0x40),
    "an unknown opcode": frame(5, b"\0x"),
    "an unknown control opcode": frame(11, b"x"),
    "a ping in pieces": frame(9, b"x", fin=False),
    "a ping that is too long": frame(9, b"x" * 200),
    "a continuation of nothing": frame(0, b"x"),
    "a message within a message": frame(2, b"\0x", fin=False) + frame(2, b"\0y"),
    "a close of one byte": frame(8, b"x"),
}


@pytest.mark.parametrize("what", WRONG_WEBSOCKET)
@pytest.mark.parametrize("route", ["exec", "forward"])
def test_wrong_websocket_costs_its_connection_only(world, what, route):
    s = raw(world, world.url() if route == "exec" else world.forward(), WEB if route == "exec" else [*WEB[:4], ("Sec-WebSocket-Protocol", "v4.channel.k8s.io")],
            "GET")
    s.sendall(WRONG_WEBSOCKET[what])
    assert b"\x88\x02" + struct.pack(">H", 1002) in gone(s)
    world.alive()


def test_a_frame_that_never_ends_is_cut_with_its_connection(world):
    s = raw(world, world.url("sh", "-c", "head -c 1000000 | wc -c"), WEB, "GET")
    s.sendall(frame(2, b"\0" + bytes(999_999), length=1 << 40) + bytes(1))  # the head of a terabyte, of which a megabyte comes
    s.sendall(bytes(1_000_000))
    c = b""
    s.settimeout(180)
    while b"1000000" not in c:
        more = s.recv(4096)
        assert more, c
        c += more
    s.close()
    world.settled()


def test_a_million_empty_fragments(world):
    s = raw(world, world.url(), WEB, "GET")
    piece = frame(0, b"", fin=False) * 10000
    s.sendall(frame(2, b"\0", fin=False))
    for _ in range(20):
        s.sendall(piece)
    s.sendall(frame(0, b"end\n") + frame(2, b"\xff\0"))
    assert b"end\n" in gone(s)
    world.alive()


# ---- noise ----


def recorded(protocol):
    """What a good client of `cat` sends."""
    if protocol == "spdy":
        h = Headers()
        return b"".join(h.syn(n, streamtype=t) for n, t in ((1, "error"), (3, "stdout"), (5, "stderr"), (7, "stdin"))) + \
            control(SETTINGS, struct.pack(">III", 1, 7, 20000)) + control(PING, struct.pack(">I", 1)) + control(WINDOW_UPDATE, struct.pack(">II", 0, 100)) + \
            struct.pack(">II", 7, 300) + bytes(300) + control(RST_STREAM, struct.pack(">II", 5, 5)) + struct.pack(">II", 7, 1 << 24)
    return frame(9, b"ping") + frame(2, b"\0hello") + frame(2, b"\0a", fin=False) + frame(9, b"") + frame(0, b"b") + \
        frame(2, b'\4{"Width":1,"Height":2}') + frame(2, b"\0" + bytes(300)) + frame(2, b"\xff\0")


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        way = rng.randrange(5)
        if way == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[at:at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        elif way == 2:
            data[at:at] = data[rng.randrange(len(data)):][:rng.randrange(64)]
        elif way == 3:
            data[at:at + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF, 1 << 16]))
        elif len(data) > at + 1:
            del data[at:at + rng.randrange(1, 32)]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


@pytest.mark.parametrize("route", ["exec", "forward"])
@pytest.mark.parametrize("protocol", ["spdy", "websocket"])
def test_noise_made_of_good_sessions(world, protocol, route):
    rng = random.Random(f"{SEED} {protocol} {route}")
    headers, method = (UPGRADE, "POST") if protocol == "spdy" else (WEB if route == "exec" else [*WEB[:4], ("Sec-WebSocket-Protocol", "v4.channel.k8s.io")], "GET")
    good = recorded(protocol)
    for i in range(60):
        s = raw(world, world.url() if route == "exec" else world.forward(), headers, method)
        try:
            data = mutated(rng, good)
            while data:
                n = rng.choice([1, 7, 100, 1000])
                s.sendall(data[:n])
                data = data[n:]
            if rng.random() < 0.5:
                s.shutdown(socket.SHUT_WR)
                s.settimeout(0.02)
                s.recv(1 << 16)
        except OSError:  # it was thrown out, or nothing is said
            pass
        s.close()
        if i % 20 == 19:
            world.alive()
    world.settled()


@pytest.mark.parametrize("head", [b"\0" * 100, b"POST /exec/x HTTP/1.1\r\n" + b"A: b\r\n" * 100000, b"POST " + b"/" * (1 << 20), b"POST /exec/x HTTP/1.1\r\nHost",
                                  b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                  b"POST /exec/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                                  b"POST /exec/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"],
                         ids=["zeros", "many headers", "a long path", "half a header", "TLS", "HTTP/2", "a long length", "a long chunk"])
def test_what_is_no_request_costs_its_connection_only(world, head):
    u = world.url()
    host, port = u.split("/")[2].split(":")
    s = world.ns.connect(host, port)
    try:
        s.sendall(head)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    if head.endswith(b"\r\n\r\n"):  # else the rest may still come, says the server, and waits a while
        got = gone(s)
        assert not got or got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
    s.close()
    world.settled()


def test_five_hundred_connections_that_say_nothing(world):
    host, port = world.url().split("/")[2].split(":")
    idle = [world.ns.connect(host, port) for _ in range(500)]
    idle[0].sendall(b"POST /exec/")
    world.alive()
    for s in idle:
        s.close()
    world.settled()
