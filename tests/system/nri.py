# SPDX-License-Identifier: Apache-2.0
"""A plugin of the node resource interface, with the wire written out: frames of several connections over one socket, ttrpc in
them. In a test it is an object whose methods are replaced; as a program (what a runtime starts) it follows its configuration."""
import importlib
import json
import os
import queue
import socket
import struct
import sys
import threading

PLUGIN, RUNTIME = 1, 2
SERVICE = "nri.pkg.api.v1alpha1."
EVENTS = {"RunPodSandbox": 1, "StopPodSandbox": 2, "RemovePodSandbox": 3, "CreateContainer": 4, "PostCreateContainer": 5, "StartContainer": 6,
          "PostStartContainer": 7, "UpdateContainer": 8, "PostUpdateContainer": 9, "StopContainer": 10, "RemoveContainer": 11,
          "UpdatePodSandbox": 12, "PostUpdatePodSandbox": 13, "ValidateContainerAdjustment": 14}


def mask(*methods):
    return sum(1 << (EVENTS[m] - 1) for m in methods)


class Refused(Exception):
    def __init__(self, text, code=2):
        super().__init__(text)
        self.code = code


class Plugin:
    """on[method] = function(request) -> response or None; what it raises as Refused the runtime is told. seen: (method, request)."""

    def __init__(self, pb, ttrpc, name, idx, sock, on=None, events=0, legacy=False, piece=0):
        self.pb, self.ttrpc, self.name, self.idx, self.sock = pb, ttrpc, name, idx, sock
        self.on, self.events, self.legacy, self.piece = dict(on or {}), events, legacy, piece
        self.seen, self.more = [], []
        self.synchronised, self.closed = threading.Event(), threading.Event()
        self.config = None
        self.lock = threading.Lock()
        self.replies = {}
        self.next_id = 1
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    # ---- frames ----

    def exactly(self, n):
        b = b""
        while len(b) < n:
            more = self.sock.recv(n - len(b))
            if not more:
                raise EOFError
            b += more
        return b

    def write(self, conn, data):
        size = self.piece or len(data)
        with self.lock:
            for i in range(0, len(data), size):
                part = data[i:i + size]
                self.sock.sendall(struct.pack(">II", conn, len(part)) + part)

    def message(self, conn, stream, kind, message):
        data = message.SerializeToString()
        self.write(conn, struct.pack(">IIBB", len(data), stream, kind, 0) + data)

    def read(self):
        streams = {PLUGIN: b"", RUNTIME: b""}
        try:
            while True:
                conn, n = struct.unpack(">II", self.exactly(8))
                streams[conn] = self.take(conn, streams.get(conn, b"") + self.exactly(n))
        except (EOFError, OSError):
            pass
        self.closed.set()
        for q in list(self.replies.values()):
            q.put(None)

    def take(self, conn, b):
        while len(b) >= 10:
            n, stream, kind, _ = struct.unpack(">IIBB", b[:10])
            if len(b) < 10 + n:
                break
            payload, b = b[10:10 + n], b[10 + n:]
            if conn == PLUGIN and kind == 1:
                request = self.ttrpc.Request.FromString(payload)
                threading.Thread(target=self.serve, args=(stream, request), daemon=True).start()
            elif conn == RUNTIME and kind == 2:
                self.replies.pop(stream).put(self.ttrpc.Response.FromString(payload))
        return b

    # ---- the plugin's service ----

    def serve(self, stream, request):
        response = self.ttrpc.Response()
        try:
            reply = self.dispatch(request.method, request.payload)
            response.payload = reply.SerializeToString()
        except Refused as e:
            response.status.code, response.status.message = e.code, str(e)
        try:
            self.message(PLUGIN, stream, 2, response)
        except OSError:
            pass

    def dispatch(self, method, payload):
        pb = self.pb
        if method in ("StateChange",):
            event = pb.StateChangeEvent.FromString(payload)
            name = next(k for k, v in EVENTS.items() if v == event.event)
            self.seen.append((name, event))
            return pb.Empty()
        if self.legacy and method not in ("Configure", "Synchronize", "CreateContainer", "UpdateContainer", "StopContainer"):
            raise Refused(f"method {method}", 12)
        request = getattr(pb, method + "Request").FromString(payload)
        self.seen.append((method, request))
        reply = self.on[method](request) if method in self.on else None
        if method == "Configure":
            self.config = request.config
            return reply or pb.ConfigureResponse(events=self.events)
        if method == "Synchronize":
            reply = reply or pb.SynchronizeResponse(more=request.more)
            if not request.more:
                self.synchronised.set()
            return reply
        return reply or getattr(pb, method + "Response")()

    def methods(self):
        return [m for m, _ in self.seen]

    # ---- the runtime's service ----

    def call(self, method, request, reply, timeout=90):
        q = queue.Queue()
        with self.lock:
            stream, self.next_id = self.next_id, self.next_id + 2
            self.replies[stream] = q
        self.message(RUNTIME, stream, 1, self.ttrpc.Request(service=SERVICE + "Runtime", method=method, payload=request.SerializeToString()))
        r = q.get(timeout=timeout)
        if r is None:
            raise EOFError("the connection has ended")
        if r.status.code:
            raise Refused(r.status.message, r.status.code)
        return reply.FromString(r.payload)

    def register(self):
        self.call("RegisterPlugin", self.pb.RegisterPluginRequest(plugin_name=self.name, plugin_idx=self.idx), self.pb.Empty)
        return self

    def update(self, *updates, evict=()):
        return self.call("UpdateContainers", self.pb.UpdateContainersRequest(update=updates, evict=evict), self.pb.UpdateContainersResponse)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def connect(path, pb, ttrpc, name, idx="10", wait=True, **kw):
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(path))
    p = Plugin(pb, ttrpc, name, idx, s, **kw)
    p.register()
    if wait and not p.synchronised.wait(90):
        raise TimeoutError("not synchronised")
    return p


def main():
    """Launched by the runtime; the configuration is JSON: {"stubs": directory, "out": file, "env": {...}}."""
    fd = int(os.environ["NRI_PLUGIN_SOCKET"])
    settings = json.load(open(os.path.dirname(os.path.abspath(sys.argv[0])) + "/settings.json"))
    sys.path.insert(0, settings["stubs"])
    pb = importlib.import_module("pb.nri.api_pb2")
    ttrpc = importlib.import_module("pb.ttrpc.request_pb2")

    def create(request):
        conf = json.loads(p.config or "{}")
        return pb.CreateContainerResponse(adjust=pb.ContainerAdjustment(env=[pb.KeyValue(key=k, value=v) for k, v in conf.get("env", {}).items()]))

    p = Plugin(pb, ttrpc, os.environ["NRI_PLUGIN_NAME"], os.environ["NRI_PLUGIN_IDX"], socket.socket(fileno=fd), on={"CreateContainer": create})
    p.register()
    p.closed.wait()


if __name__ == "__main__":
    main()
