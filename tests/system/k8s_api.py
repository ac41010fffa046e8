# SPDX-License-Identifier: Apache-2.0
"""As much of a Kubernetes API server (and of the kubelet behind it) as kubectl and client libraries need to look at pods and to stream:
what it knows comes from the CRI, logs from the files that the CRI names. An upgraded request becomes a tunnel of bare bytes to the URL that
the CRI gave: nothing here speaks SPDY or WebSocket, so what a client gets is what the daemon says."""
import datetime
import http.server
import json
import socket
import socketserver
import threading
import time
import urllib.parse

import grpc

STATES = ["waiting", "running", "terminated", "waiting"]  # of a container, by the CRI's number
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"}
HOP = {"host", "content-length"}


def rfc3339(ns):
    return datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def copy(read, target):
    """Until the end of what read() gives; the end is passed on."""
    try:
        while data := read():
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    # ---- answers ----

    def answer(self, body, status=200, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fail(self, status, reason, message):
        self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": status}, status)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    # ---- requests ----

    def do_GET(self):
        u = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(u.query)
        words = u.path.strip("/").split("/")
        self.server.requests.append((self.command, u.path, dict(self.headers)))
        try:
            self.route(words)
        except LookupError as e:
            self.fail(404, "NotFound", e.args[0])
        except grpc.RpcError as e:  # the kubelet's own answer
            self.fail(500, "InternalError", e.details())

    do_POST = do_GET

    def route(self, words):
        if words == ["version"]:
            return self.answer(VERSION)
        if words == ["api"]:
            return self.answer({"kind": "APIVersions", "versions": ["v1"]})
        if words == ["apis"]:
            return self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        if words == ["api", "v1"]:
            return self.answer({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"name": f"pods{sub}", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list", "create"], "shortNames": ["po"]}
                for sub in ("", "/attach", "/exec", "/log", "/portforward")]})
        if words[:3] != ["api", "v1", "namespaces"] or len(words) < 5 or words[4] != "pods":
            raise LookupError("the server could not find the requested resource")
        if len(words) == 5:
            return self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.server.pods(words[3])})
        pod = self.server.pod(words[3], words[5])
        if len(words) == 6:
            return self.answer(pod)
        return {"log": self.log, "exec": self.exec, "attach": self.attach, "portforward": self.forward}[words[6]](pod)

    def flag(self, name):
        return self.query.get(name, [""])[0].lower() in ("true", "1")

    def container_id(self, pod):
        name = self.query.get("container", [pod["spec"]["containers"][0]["name"]])[0]
        for s in pod["status"]["containerStatuses"]:
            if s["name"] == name:
                return s["containerID"].removeprefix("containerd://")
        raise LookupError(f"container {name} is not valid for pod {pod['metadata']['name']}")

    def streams(self):
        tty = self.flag("tty")
        return {"stdin": self.flag("stdin"), "stdout": self.flag("stdout"), "stderr": self.flag("stderr") and not tty, "tty": tty}

    def exec(self, pod):
        self.tunnel(self.server.cri.Exec(container_id=self.container_id(pod), cmd=self.query["command"], **self.streams()).url)

    def attach(self, pod):
        self.tunnel(self.server.cri.Attach(container_id=self.container_id(pod), **self.streams()).url)

    def forward(self, pod):
        ports = [int(p) for v in self.query.get("ports", []) for p in v.split(",")]
        self.tunnel(self.server.cri.PortForward(pod_sandbox_id=pod["metadata"]["uid"], port=ports).url)

    def tunnel(self, url):
        u = urllib.parse.urlsplit(url)
        back = self.server.cri.daemon.netns.connect(u.hostname, u.port)
        back.settimeout(None)
        head = [f"{self.command} {u.path} HTTP/1.1", f"Host: {u.netloc}", *(f"{k}: {v}" for k, v in self.headers.items() if k.lower() not in HOP),
                "Content-Length: 0"]
        back.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        self.close_connection = True
        t = threading.Thread(target=copy, args=(lambda: self.rfile.read1(1 << 16), back), daemon=True)
        t.start()
        copy(lambda: back.recv(1 << 16), self.connection)
        t.join()
        back.close()

    # ---- logs, as the kubelet reads them ----

    def log(self, pod):
        k = self.container_id(pod)
        path, follow, stamps = self.server.cri.status(k).log_path, self.flag("follow"), self.flag("timestamps")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with open(path, "rb") as f:
            lines = f.readlines()
            if "tailLines" in self.query:
                lines = lines[max(0, len(lines) - int(self.query["tailLines"][0])):]
            rest = b""
            while True:
                over = not follow or self.server.cri.status(k).state == self.server.cri.pb.CONTAINER_EXITED
                for line in [*lines, *f]:
                    rest += line
                    if not rest.endswith(b"\n"):
                        continue
                    time_, _, tag, text = rest.split(b" ", 3)
                    text = text if tag == b"F" else text[:-1]
                    if data := (time_ + b" " if stamps else b"") + text:
                        self.chunk(data)
                    rest = b""
                lines = []
                if over:
                    break
                time.sleep(0.05)
        self.chunk(b"")


class ApiServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cri):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cri, self.requests = cri, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def handle_error(self, *args):  # a client that leaves
        pass

    def close(self):
        self.shutdown()
        self.server_close()

    def pods(self, namespace):
        cri = self.cri
        containers = cri.ListContainers().containers
        return [self._pod(p, [k for k in containers if k.pod_sandbox_id == p.id]) for p in cri.ListPodSandbox().items if p.metadata.namespace == namespace]

    def pod(self, namespace, name):
        for p in self.pods(namespace):
            if p["metadata"]["name"] == name:
                return p
        raise LookupError(f'pods "{name}" not found')

    def _pod(self, p, containers):
        containers = sorted(containers, key=lambda k: k.created_at)
        status = {"phase": "Running" if p.state == 0 else "Succeeded", "startTime": rfc3339(p.created_at), "containerStatuses": [
            {"name": k.metadata.name, "ready": k.state == 1, "restartCount": k.metadata.attempt, "image": k.image.image, "imageID": k.image_ref,
             "containerID": f"containerd://{k.id}", "state": {STATES[k.state]: {}}} for k in containers]}
        spec = {"nodeName": "here", "containers": [self._container(k) for k in containers]}
        meta = {"name": p.metadata.name, "namespace": p.metadata.namespace, "uid": p.id, "creationTimestamp": rfc3339(p.created_at)}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": status}

    def _container(self, k):
        config = self.cri.verbose(k.id)["config"]
        return {"name": k.metadata.name, "image": k.image.image, "stdin": config.get("stdin", False), "tty": config.get("tty", False)}
