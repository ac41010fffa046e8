# SPDX-License-Identifier: Apache-2.0
"""A registry that takes pushes, with tokens when told to, and misbehaves where a hook says so."""
import json
import queue
import threading
import urllib.parse

import grpc

import evil
from evil import sha


class Handler(evil.Handler):
    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def authorized(self):
        registry = self.server.registry
        if not registry.tokens:
            return True
        path = urllib.parse.urlsplit(self.path)
        repo = path.path[4:].split("/blobs/")[0].split("/manifests/")[0]
        wanted = {(repo, "pull")}
        if self.command not in ("GET", "HEAD"):
            wanted.add((repo, "push"))
        mounted = urllib.parse.parse_qs(path.query).get("from")
        if mounted:
            wanted.add((mounted[0], "pull"))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        granted = registry.granted.get(token, set())
        if wanted <= granted:
            return True
        self.answer(401, WWW_Authenticate=f'Bearer realm="http://{registry.host}/token",service="test",scope="repository:{repo}:pull"')
        return False

    def token(self):
        registry = self.server.registry
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        registry.scopes.append(query.get("scope", []))
        granted = set()
        for scope in query.get("scope", []):
            _, repo, actions = scope.split(":")
            granted |= {(repo, action) for action in actions.split(",")}
        if registry.refuse & {repo for repo, _ in granted}:
            self.answer(403, b'{"errors":[{"code":"DENIED","message":"not yours"}]}')
            return
        name = f"t{len(registry.granted)}"
        registry.granted[name] = granted
        self.answer(200, json.dumps({"token": name}).encode())

    def do_GET(self):
        if self.path.startswith("/token"):
            self.token()
        elif self.authorized():
            super().do_GET()

    do_HEAD = do_GET

    def do_POST(self):
        self.write(self.start)

    def do_PUT(self):
        self.write(self.put)

    def do_PATCH(self):
        self.write(self.patch)

    def write(self, fn):
        registry = self.server.registry
        registry.seen.append((self.command, self.path, dict(self.headers)))
        for key, hook in list(registry.hooks.items()):
            if key in f"{self.command} {self.path}" and hook(self) is not False:
                return
        if self.authorized():
            fn()
        else:
            self.close_connection = True

    def start(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        registry = self.server.registry
        if query.get("mount", [""])[0] in registry.mountable:
            self.answer(201)
            return
        registry.uploads += 1
        self.answer(202, Location=f"{urllib.parse.urlsplit(self.path).path}{registry.uploads}?state=abc")

    def put(self):
        registry = self.server.registry
        path = urllib.parse.urlsplit(self.path)
        data = self.body()
        if "/manifests/" in path.path:
            name = path.path.rsplit("/", 1)[1]
            registry.manifests[name] = registry.manifests[sha(data)] = (data, self.headers["Content-Type"])
            registry.order.append(name)
        else:
            data = registry.parts.pop(path.path, b"") + data
            digest = urllib.parse.parse_qs(path.query)["digest"][0]
            if sha(data) != digest:
                self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}')
                return
            registry.blob(data)
            registry.order.append(digest)
        self.answer(201, Docker_Content_Digest=sha(data))

    def patch(self):
        registry = self.server.registry
        path = urllib.parse.urlsplit(self.path).path
        registry.parts[path] = registry.parts.get(path, b"") + self.body()
        self.answer(202, Location=self.path, Range=f"0-{len(registry.parts[path]) - 1}")


class Taking(evil.Evil):
    """`order`: what was put, in order. `tokens`: bearer tokens are wanted; `scopes`: what was asked for, token by token; `refuse`:
    repositories that nobody gets a token for. `mountable`: digests that other repositories have."""

    def __init__(self, tokens=False):
        super().__init__()
        self.server.RequestHandlerClass = Handler
        self.tokens, self.granted, self.scopes, self.refuse = tokens, {}, [], set()
        self.order, self.parts, self.uploads, self.mountable = [], {}, 0, set()


class Streams:
    """Byte streams of a client, on gRPC's own."""

    def __init__(self, api):
        self.api = api
        self.stub = api.stubs("services/streaming/v1/streaming")[1].StreamingStub(api.channel)
        self.init = api.msg("services/streaming/v1/streaming").StreamInit
        self.types = api.msg("types/transfer/streaming")

    def open(self, name):
        """(what is sent, what comes)"""
        out = queue.Queue()
        out.put(self.api.any(self.init(id=name)))
        answers = self.stub.Stream(iter(out.get, None), metadata=self.api.metadata(), timeout=180)
        next(answers)
        return out, answers

    def message(self, any_, kind):
        m = kind()
        assert any_.type_url.endswith(m.DESCRIPTOR.full_name), any_.type_url
        m.ParseFromString(any_.value)
        return m

    def send(self, out, answers, data):
        credit = 0
        while data:
            while credit <= 0:
                credit += self.message(next(answers), self.types.WindowUpdate).update
            piece, data = data[:min(credit, 32768)], data[min(credit, 32768):]
            credit -= len(piece)
            out.put(self.api.any(self.types.Data(data=piece)))
        out.put(None)

    def echo(self, data):
        (up, credits), (grants, down) = self.open("echo-up"), self.open("echo-down")
        grants.put(self.api.any(self.types.WindowUpdate(update=1 << 20)))
        threading.Thread(target=self.send, args=(up, credits, data), daemon=True).start()
        t, io = self.api.msg("services/transfer/v1/transfer"), self.api.msg("types/transfer/importexport")
        self.api.transfer.stub.Transfer(t.TransferRequest(
            source=self.api.any(io.ImageImportStream(stream="echo-up")),
            destination=self.api.any(io.ImageExportStream(stream="echo-down"))), metadata=self.api.metadata(), timeout=180)
        grants.put(None)
        return b"".join(self.message(m, self.types.Data).data for m in down)

    def pull_with_credentials(self, ref, username, secret):
        """A pull whose credentials are asked for; returns the questions."""
        out, questions = self.open("auth")
        types, asked = self.api.msg("types/transfer/registry"), []

        def answer():
            try:
                for q in questions:
                    asked.append(self.message(q, types.AuthRequest))
                    out.put(self.api.any(types.AuthResponse(authType=types.CREDENTIALS, username=username, secret=secret)))
            except grpc.RpcError:
                pass  # the transfer is over

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        request = self.api.pull_request(ref, unpack=None)
        registry = types.OCIRegistry.FromString(request.source.value)
        registry.resolver.auth_stream = "auth"
        request.source.value = registry.SerializeToString()
        self.api.transfer.stub.Transfer(request, metadata=self.api.metadata(), timeout=180)
        out.put(None)
        thread.join(90)
        return asked
