# SPDX-License-Identifier: Apache-2.0
"""Every method that proto/ declares, callable by name with plain dictionaries; and the small language in which tables of calls are written.

A table is a list of steps that run in order against one daemon. A step is a call with what must come of it: an answer of which
parts are compared, or a code and its text. All steps of a table run, and what differs is reported together."""
import re
import socket
import struct
import threading

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory

from dial import dial
from harness import ROOT

SECONDS = 60


class Method:
    def __init__(self, service, name, request, answer, client_stream, server_stream):
        self.service, self.name, self.request, self.answer = service, name, request, answer
        self.client_stream, self.server_stream = client_stream, server_stream
        self.path = f"{service}/{name}"


def declared():
    """path -> Method, read from the files. NRI is spoken on connections of its own: test_cri_nri.py."""
    found = {}
    for f in sorted((ROOT / "proto").rglob("*.proto")):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", f.read_text(), flags=re.S)
        package = (re.findall(r"^\s*package\s+([\w.]+)\s*;", text, re.M) or [""])[0]
        if package.startswith("nri."):
            continue
        for service, body in re.findall(r"^\s*service\s+(\w+)\s*\{(.*?)^\}", text, re.M | re.S):
            for name, cs, req, ss, ans in re.findall(r"rpc\s+(\w+)\s*\(\s*(stream\s+)?([\w.]+)\s*\)\s*returns\s*\(\s*(stream\s+)?([\w.]+)\s*\)", body):
                full = [t.lstrip(".") if "." in t else f"{package}.{t}" for t in (req, ans)]
                m = Method(f"{package}.{service}", name, *full, bool(cs), bool(ss))
                found[m.path] = m
    return found


METHODS = declared()


def message_type(name):
    pool = descriptor_pool.Default()
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(name))


def build(name, fields):
    """A message of a dictionary. Values of Any may be given as (type URL, bytes)."""
    return fill(message_type(name)(), fields)


def fill(m, fields):
    for key, value in fields.items():
        field = m.DESCRIPTOR.fields_by_name[key]
        mine = getattr(m, key)
        if field.message_type and field.message_type.GetOptions().map_entry:
            for k, v in value.items():
                if field.message_type.fields_by_name["value"].message_type:
                    fill(mine[k], v if isinstance(v, dict) else {"type_url": v[0], "value": v[1]})
                else:
                    mine[k] = v
        elif field.label == field.LABEL_REPEATED:
            for v in value:
                if not field.message_type:
                    mine.append(v)
                elif isinstance(v, dict):
                    fill(mine.add(), v)
                else:
                    mine.add().CopyFrom(v)
        elif field.message_type:
            if isinstance(value, tuple):
                value = {"type_url": value[0], "value": value[1]}
            if isinstance(value, dict):
                mine.SetInParent()
                fill(mine, value)
            else:
                mine.CopyFrom(value)
        else:
            setattr(m, key, value)
    return m


class Client:
    def __init__(self, stubs, address, ns):
        for f in (ROOT / "proto").rglob("*.proto"):
            stubs(str(f.relative_to(ROOT / "proto").with_suffix("")))
        self.ns = ns
        # The first request of each method that was answered.
        self.good = {}
        self.channel = dial(address, options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])

    def metadata(self, ns=None, lease=None):
        ns = self.ns if ns is None else ns
        return ([("containerd-namespace", ns)] if ns else []) + ([("containerd-lease", lease)] if lease else [])

    def callable(self, path, raw=False):
        m = METHODS[path]
        kind = ("stream" if m.client_stream else "unary") + "_" + ("stream" if m.server_stream else "unary")
        return getattr(self.channel, kind)(f"/{path}", request_serializer=bytes if raw else lambda x: x.SerializeToString(),
                                           response_deserializer=message_type(m.answer).FromString)

    def __call__(self, path, fields=None, ns=None, lease=None, timeout=SECONDS):
        """The answer; for streams the list of all answers. `fields` of a client stream: a list of dictionaries."""
        m = METHODS[path]
        if m.client_stream:
            request = iter([build(m.request, f) for f in fields or []])
        else:
            request = build(m.request, fields or {})
        answer = self.callable(path)(request, metadata=self.metadata(ns, lease), timeout=timeout)
        answer = list(answer) if m.server_stream else answer
        self.good.setdefault(path, fields or {})
        return answer

    def raw(self, path, data, timeout=SECONDS):
        m = METHODS[path]
        answer = self.callable(path, raw=True)(iter([data]) if m.client_stream else data, metadata=self.metadata(), timeout=timeout)
        return list(answer) if m.server_stream else answer

    def close(self):
        self.channel.close()


class has:
    """An expected text that need not be the whole."""

    def __init__(self, *parts):
        self.parts = parts

    def __eq__(self, text):
        return all(p in text for p in self.parts)

    def __repr__(self):
        return " .. ".join(self.parts)


ANY = has("")


class Step:
    """`request` and `ok` may be functions of the table's world; `ok` of world and answer. `events`: topics that it publishes."""

    def __init__(self, method, request=None, code="OK", text=ANY, ok=None, ns=None, lease=None, events=(), keep=None):
        self.method, self.request, self.code, self.text, self.ok = method, request, code, text, ok
        self.ns, self.lease, self.events, self.keep = ns, lease, events, keep


class Do:
    """A step that is no single call; it covers a method, as good or as bad input."""

    def __init__(self, method, run, good=True, events=()):
        self.method, self.run, self.good, self.events = method, run, good, events


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


class Player:
    """Plays tables. `world`: whatever their steps keep; `pending`: methods that may be Unimplemented."""

    def __init__(self, client, pending=()):
        self.pending = pending
        self.client, self.world, self.differences = client, {}, []

    def play(self, service, steps):
        self.differences = []
        for n, step in enumerate(steps):
            path = f"{service}/{step.method}" if "/" not in step.method else step.method
            try:
                self.one(path, step)
            except Exception as e:
                self.differences.append(f"step {n + 1}, {step.method}: {type(e).__name__}: {e}")
        assert not self.differences, "\n".join(self.differences)

    def one(self, path, step):
        if isinstance(step, Do):
            step.run(self.world, self.client)
            return
        request = step.request(self.world) if callable(step.request) else step.request
        try:
            answer, code, text = self.client(path, request, step.ns, step.lease), "OK", ""
        except grpc.RpcError as e:
            answer, code, text = None, e.code().name, e.details()
        if code == "UNIMPLEMENTED" and path in self.pending:
            return
        shown = str(request)[:200]
        if code != step.code or not step.text == text:
            raise AssertionError(f"{shown} gave {code} {text!r} instead of {step.code} {step.text!r}")
        if code == "OK":
            if step.keep:
                self.world[step.keep] = answer
            if step.ok:
                wrong = step.ok(self.world, answer)
                assert wrong is None or wrong is True, f"{shown}: {wrong!r} is not right in {str(answer)[:600]}"


class Heard:
    """All events of a daemon from a moment on."""

    PATH = "containerd.services.events.v1.Events/Subscribe"

    def __init__(self, client):
        self.client, self.seen, self.changed = client, [], threading.Condition()
        self.stream = client.callable(self.PATH)(build(METHODS[self.PATH].request, {}))
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()
        # Nothing announces a subscription: events are published until one is heard.
        for _ in range(600):
            self.mark("/probe/x")
            with self.changed:
                if self.changed.wait_for(lambda: self.seen, 0.1):
                    return
        raise AssertionError("no event was heard")

    def mark(self, topic):
        self.client("containerd.services.events.v1.Events/Publish", {"topic": topic, "event": ("containerd.events.TaskOOM", b"\x0a\x01x")})

    def follow(self):
        try:
            for e in self.stream:
                with self.changed:
                    self.seen.append(e)
                    self.changed.notify_all()
        except grpc.RpcError:
            pass

    def since_last(self):
        """What was heard since the last call, up to now."""
        self.mark("/mark/here")
        with self.changed:
            assert self.changed.wait_for(lambda: any(e.topic == "/mark/here" for e in self.seen), SECONDS), "the mark was not heard"
            at = [e.topic for e in self.seen].index("/mark/here")
            found, self.seen = self.seen[:at], self.seen[at + 1:]
        return [e for e in found if e.topic != "/probe/x"]

    def close(self):
        self.stream.cancel()
        self.thread.join(SECONDS)


class Ttrpc:
    """One connection of the protocol between daemon and shims; unary calls, one after the other."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(str(path))
        self.stream = 1

    def close(self):
        self.socket.close()

    def receive(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            assert part, "the connection was closed"
            data += part
        return data

    def send(self, service, method, payload, ns):
        request = build("ttrpc.Request", {"service": service, "method": method, "payload": payload,
                                          "metadata": [{"key": "containerd-namespace-ttrpc", "value": ns}] if ns else []}).SerializeToString()
        self.socket.sendall(struct.pack(">IIBB", len(request), self.stream, 1, 0) + request)
        self.stream += 2

    def __call__(self, path, fields=None, ns=""):
        """(code, text, answer)"""
        service, method = path.split("/")
        m = METHODS.get(path)
        self.send(service, method, build(m.request, fields or {}).SerializeToString() if m else b"", ns)
        while True:
            length, stream, kind, _ = struct.unpack(">IIBB", self.receive(10))
            data = self.receive(length)
            if kind == 2 and stream == self.stream - 2:
                break
        r = message_type("ttrpc.Response").FromString(data)
        answer = message_type(m.answer).FromString(r.payload) if m and not r.status.code else None
        return grpc_name(r.status.code), r.status.message, answer


def grpc_name(number):
    return [c.name for c in grpc.StatusCode if c.value[0] == number][0]
