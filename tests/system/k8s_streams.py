# SPDX-License-Identifier: Apache-2.0
"""Clients of the streaming server, as kubectl and its like are: SPDY/3.1 and WebSocket, written from their specifications."""
import base64
import collections
import hashlib
import json
import os
import socket
import ssl
import struct
import threading
import time
import urllib.parse
import zlib

WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization
cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type
date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards
pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning
www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin""".split()
TEXTS = ("100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content"
         "301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
         "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,"
         "text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
         "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.")
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.replace("_", " ").encode() for w in WORDS) + TEXTS.encode()
assert len(DICTIONARY) == 1423 and zlib.adler32(DICTIONARY) == 0xE3C6A7C2  # as everybody's streams begin: 78 bb e3 c6 a7 c2

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status}: {body}")
        self.status, self.headers, self.body = status, headers, body


def request(netns, url, headers, method="POST", timeout=90):
    """(socket after the 101, headers, bytes behind them); Refused."""
    u = urllib.parse.urlsplit(url)
    s = netns.connect(u.hostname, u.port, timeout)
    if u.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        s = context.wrap_socket(s)
    lines = [f"{method} {u.path} HTTP/1.1", f"Host: {u.netloc}", *(f"{k}: {v}" for k, v in headers)]
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    first, *fields = head.decode().split("\r\n")
    got = [(k.strip().lower(), v.strip()) for k, v in (f.split(":", 1) for f in fields)]
    status = int(first.split()[1])
    if status != 101:
        n = int(dict(got).get("content-length", 0))
        while len(rest) < n:
            rest += s.recv(65536)
        s.close()
        raise Refused(status, got, rest.decode())
    return s, dict(got), rest


class Streams:
    """What both have in common: a thread that reads, and data by stream."""

    def __init__(self, sock, rest):
        self.sock, self.rest = sock, rest
        self.changed = threading.Condition()
        self.data = collections.defaultdict(bytes)
        self.ended, self.closed, self.failure = set(), False, None
        self.sending = threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _read(self, n):
        while len(self.rest) < n:
            more = self.sock.recv(1 << 16)
            if not more:
                raise EOFError
            self.rest += more
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def _run(self):
        try:
            while True:
                self._frame()
        except Exception as e:  # told by wait()
            with self.changed:
                self.closed, self.failure = True, e
                self.changed.notify_all()

    def _send(self, data):
        with self.sending:
            self.sock.sendall(data)

    def wait(self, what, condition, seconds=90):
        with self.changed:
            assert self.changed.wait_for(condition, seconds), f"waited in vain for {what}; have {dict(self.data)}, ended {self.ended}, {self.failure!r}"

    def until(self, stream, text, seconds=90):
        text = text if isinstance(text, bytes) else text.encode()
        self.wait(f"{text!r} on {stream}", lambda: text in self.data[stream] or self.closed, seconds)
        assert text in self.data[stream], (self.data, self.failure)

    def until_closed(self, seconds=90):
        self.wait("the end", lambda: self.closed, seconds)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class Spdy(Streams):
    """Streams are known by their numbers; open() makes one."""

    def __init__(self, netns, url, protocols=("v4.channel.k8s.io",), method="POST", timeout=90):
        headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), *(("X-Stream-Protocol-Version", p) for p in protocols)]
        sock, self.headers, rest = request(netns, url, headers, method, timeout)
        super().__init__(sock, rest)
        assert self.headers["upgrade"] == "SPDY/3.1"
        self.protocol = self.headers.get("x-stream-protocol-version")
        self.deflate, self.inflate = zlib.compressobj(zdict=DICTIONARY), zlib.decompressobj(zdict=DICTIONARY)
        self.next, self.replied, self.resets, self.pongs, self.names = 1, set(), {}, [], {}
        self.goaway, self.credit, self.updates = None, collections.Counter(), 0
        self.automatic = None  # window updates are sent for what was read
        self.thread.start()

    def control(self, kind, payload, flags=0):
        self._send(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload)

    def open(self, fin=False, **headers):
        block = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(t)) + t for kv in headers.items() for t in (kv[0].encode(), str(kv[1]).encode()))
        with self.sending:  # one order for numbers and compression
            n, self.next = self.next, self.next + 2
            z = self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
            self.sock.sendall(struct.pack(">HHIIIBB", 0x8003, SYN_STREAM, (1 if fin else 0) << 24 | len(z) + 10, n, 0, 0, 0) + z)
        return n

    def write(self, stream, data, fin=False):
        view = memoryview(data if isinstance(data, bytes) else data.encode())
        for i in range(0, len(view), 1 << 15):
            piece = view[i:i + (1 << 15)]
            last = fin and i + len(piece) == len(view)
            self._send(struct.pack(">II", stream, (1 if last else 0) << 24 | len(piece)) + piece)
        if fin and not view:
            self._send(struct.pack(">II", stream, 1 << 24))

    def end(self, stream):
        self.write(stream, b"", fin=True)

    def reset(self, stream):
        self.control(RST_STREAM, struct.pack(">II", stream, 5))

    def ping(self, n):
        self.control(PING, struct.pack(">I", n))

    def window(self, stream, delta):
        self.control(WINDOW_UPDATE, struct.pack(">II", stream, delta))

    def _frame(self):
        word, length = struct.unpack(">II", self._read(8))
        flags, payload = length >> 24, self._read(length & 0xFFFFFF)
        update = []
        with self.changed:
            if not word >> 31:
                assert word in self.replied, "data before the reply"
                self.data[word] += payload
                if flags & 1:
                    self.ended.add(word)
                if self.automatic and payload:
                    update = [(0, len(payload)), (word, len(payload))]
            else:
                self._control(word & 0xFFFF, payload)
            self.changed.notify_all()
        for stream, n in update:
            self.window(stream, n)

    def _control(self, kind, payload):
        first = struct.unpack(">I", payload[:4])[0] if len(payload) >= 4 else 0
        if kind == SYN_REPLY:
            assert self.inflate.decompress(payload[4:]) == b"\0\0\0\0"
            self.replied.add(first)
        elif kind == RST_STREAM:
            self.resets[first] = struct.unpack(">I", payload[4:])[0]
        elif kind == PING:
            self.pongs.append(first)
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">I", payload[4:])[0]
        elif kind == WINDOW_UPDATE:
            self.credit[first] += struct.unpack(">I", payload[4:])[0]
            self.updates += 1
        else:
            raise ValueError(f"frame {kind}")

    def open_command(self, *names):
        """Streams of a command, as attributes of the client: c.stdin, c.stdout, ..."""
        for name in ("error", *names):
            setattr(self, name, self.open(streamtype=name))
        return self

    def pair(self, port, request):
        """(error, data) of a forwarded port."""
        e = self.open(streamtype="error", port=port, requestid=request)
        d = self.open(streamtype="data", port=port, requestid=request)
        return e, d

    def status(self, seconds=90):
        """What the error stream says at the end."""
        self.wait("the status", lambda: self.error in self.ended or self.closed, seconds)
        text = self.data[self.error].decode()
        return json.loads(text) if self.protocol == "v4.channel.k8s.io" else text


def exit_code(status):
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode", status
    (cause,) = [c for c in status["details"]["causes"] if c["reason"] == "ExitCode"]
    return int(cause["message"])


class WebSocket(Streams):
    """Messages by channel number."""

    def __init__(self, netns, url, protocols=("v4.channel.k8s.io",), timeout=90):
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
        if protocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        sock, self.headers, rest = request(netns, url, headers, "GET", timeout)
        super().__init__(sock, rest)
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert base64.b64decode(self.headers["sec-websocket-accept"]) == accept
        self.protocol = self.headers.get("sec-websocket-protocol", "")
        self.base64 = "base64" in self.protocol
        self.messages, self.pongs, self.code = [], [], None
        self.thread.start()

    def frame(self, opcode, data, fin=True, mask=True):
        n = len(data)
        head = bytes([(0x80 if fin else 0) | opcode])
        bit = 0x80 if mask else 0
        head += bytes([bit | n]) if n < 126 else struct.pack(">BH", bit | 126, n) if n < 65536 else struct.pack(">BQ", bit | 127, n)
        if not mask:
            return self._send(head + data)
        key = os.urandom(4)
        stream = (key * (n // 4 + 1))[:n]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(n, "big") if n else b""
        return self._send(head + key + masked)

    def write(self, channel, data):
        data = data if isinstance(data, bytes) else data.encode()
        if self.base64:
            self.frame(1, str(channel).encode() + base64.b64encode(data))
        else:
            self.frame(2, bytes([channel]) + data)

    def end(self, channel):
        self.frame(2, bytes([255, channel]))

    def _frame(self):
        first, second = self._read(2)
        n = second & 0x7F
        assert not second & 0x80, "a server does not mask"
        n = struct.unpack(">H", self._read(2))[0] if n == 126 else struct.unpack(">Q", self._read(8))[0] if n == 127 else n
        payload, opcode = self._read(n), first & 15
        with self.changed:
            if opcode == 8:
                self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            elif opcode == 10:
                self.pongs.append(payload)
            else:
                assert opcode == (1 if self.base64 else 2) and first & 0x80
                channel = payload[0] - ord("0") if self.base64 else payload[0]
                data = base64.b64decode(payload[1:]) if self.base64 else payload[1:]
                self.messages.append((channel, data))
                self.data[channel] += data
            self.changed.notify_all()

    def status(self, seconds=90):
        self.until_closed(seconds)
        text = self.data[3].decode()
        return json.loads(text) if self.protocol.startswith(("v4", "v5")) else text


def pause_until(condition, seconds=90):
    """Polls what nothing tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
