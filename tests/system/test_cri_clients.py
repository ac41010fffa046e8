# SPDX-License-Identifier: Apache-2.0
"""Streams and logs of the CRI through clients of other people: kubectl (SPDY; WebSocket where it knows that) and Python's kubernetes
(WebSocket), behind an API server that passes their bytes on."""
import concurrent.futures
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading

import pytest

from cri_fixtures import cri, cri_and_image
from harness import SECONDS, Lines, until
from k8s_api import ApiServer

KUBECTL = os.environ.get("KUBECTL") or shutil.which("kubectl")
PODS = itertools.count()
MB = 1 << 20


def minor():
    """Of kubectl's version; 0 = there is none."""
    if not KUBECTL:
        return 0
    out = subprocess.run([KUBECTL, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout
    return int(re.match(r"\d+", json.loads(out)["clientVersion"]["minor"])[0])


@pytest.fixture(scope="module")
def api(cri_and_image):
    server = ApiServer(cri_and_image[0])
    yield server
    server.close()


@pytest.fixture
def start(cri, cri_and_image):
    """Pods of one container."""
    def start(command="sleep 1000", **fields):
        name = f"client{next(PODS)}"
        conf = cri.pod(name)
        return name, cri.start(cri.run_pod(conf), conf, cri.container("c", cri_and_image[1], ["sh", "-c", command], **fields))
    return start


@pytest.fixture
def pod(start):
    return start()[0]


# ---- kubectl ----


class Kubectl:
    def __init__(self, api, kind, home):
        self.base = [KUBECTL, f"--server={api.url}", "--kubeconfig=/dev/null", f"--cache-dir={home}/cache", "--namespace=test", "--request-timeout=0"]
        web = "true" if kind == "websocket" else "false"
        self.env = {**os.environ, "HOME": str(home), "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": web, "KUBECTL_PORT_FORWARD_WEBSOCKETS": web}
        self.env.pop("KUBECONFIG", None)

    def __call__(self, *args, input=None, check=True, text=True, timeout=300):
        r = subprocess.run([*self.base, *args], input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, text=text,
                           timeout=timeout, env=self.env)
        assert not check or r.returncode == 0, (args, r.returncode, r.stdout[-2000:], r.stderr[-2000:])
        return r

    def popen(self, *args, **kw):
        return subprocess.Popen([*self.base, *args], env=self.env, **kw)


@pytest.fixture(params=["spdy", "websocket"])
def kind(request):
    if request.param == "websocket" and minor() < 30:
        pytest.skip("this kubectl speaks SPDY only")
    return request.param


@pytest.fixture
def kubectl(api, kind, tmp_path):
    if not KUBECTL:
        pytest.skip("no kubectl")
    api.requests.clear()
    yield Kubectl(api, kind, tmp_path)
    # Nobody fell back to the other protocol.
    asked = {h.get("Upgrade", "").lower() for _, path, h in api.requests if path.endswith(("/exec", "/attach"))}
    assert asked <= {"websocket" if kind == "websocket" else "spdy/3.1"}


def test_kubectl_tells_streams_and_exit_codes(kubectl, pod):
    r = kubectl("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (r.returncode, r.stdout) == (7, "out\n")
    assert r.stderr == "err\ncommand terminated with exit code 7\n"
    r = kubectl("exec", pod, "--", "/no/such/program", check=False)
    assert r.returncode == 1 and "/no/such/program" in r.stderr
    assert kubectl("exec", pod, "-c", "c", "--", "true").stdout == ""
    assert kubectl("get", "pods", "-o", "name").stdout == f"pod/{pod}\n"


@pytest.mark.parametrize("way", ["in", "out", "both"])
def test_kubectl_moves_much_and_ends_its_input(kubectl, pod, way):
    data = os.urandom(24 * MB)
    if way == "in":
        out = kubectl("exec", "-i", pod, "--", "sh", "-c", "sha256sum; echo ended", input=data, text=False).stdout.decode()
        assert out == f"{hashlib.sha256(data).hexdigest()}  -\nended\n"
    elif way == "out":
        kubectl("exec", "-i", pod, "--", "sh", "-c", "cat > /tmp/data", input=data, text=False)
        assert kubectl("exec", pod, "--", "cat", "/tmp/data", text=False).stdout == data
    else:
        assert kubectl("exec", "-i", pod, "--", "cat", input=data, text=False).stdout == data


def test_kubectl_output_to_both_streams_at_once(kubectl, pod):
    command = "for i in $(seq 1 60); do head -c 65536 /dev/zero; head -c 30000 /dev/zero | tr '\\0' e >&2; done; exit 3"
    r = kubectl("exec", pod, "--", "sh", "-c", command, check=False)
    assert (r.returncode, len(r.stdout)) == (3, 60 * 65536)
    assert r.stderr == "e" * 60 * 30000 + "command terminated with exit code 3\n"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, kubectl, rows, columns, *args):
        self.master, slave = pty.openpty()
        self.size(rows, columns)
        self.process = kubectl.popen(*args, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.seen = b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            while data := os.read(self.master, 65536):
                self.seen += data
        except OSError:  # the other side is closed
            pass

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text):
        until(f"{text} in {self.seen!r}", lambda: text.encode() in self.seen or self.process.poll() is not None)
        assert text.encode() in self.seen, self.seen

    def type(self, text):
        os.write(self.master, text.encode())

    def ask(self, text, answer):
        """Types a line again and again: what is typed too early may be lost."""
        for _ in range(240):
            if answer.encode() in self.seen or self.process.poll() is not None:
                break
            self.type(text + "\n")
            with contextlib.suppress(AssertionError):
                until(answer, lambda: answer.encode() in self.seen, 0.5)
        self.until(answer)

    def wait(self):
        status = self.process.wait(SECONDS)
        os.close(self.master)
        return status


def test_kubectl_gives_a_terminal_that_follows_its_size(kubectl, pod):
    t = Terminal(kubectl, 33, 99, "exec", "-it", pod, "--", "sh")
    t.ask("stty size", "33 99")
    t.size(44, 111)
    t.process.send_signal(signal.SIGWINCH)  # it is not the leader of the terminal's session
    t.ask("stty size", "44 111")
    t.ask("echo tty=$(tty) $((6*7))", "tty=/dev/pts/0 42")
    t.type("echo slee''ping; sleep 1000\n")
    t.until("sleeping")
    # Again and again: between two commands a shell takes it for a new line.
    t.ask("\x03echo aft''er", "after")
    t.type("exit 5\n")
    assert t.wait() == 5, t.seen


def test_kubectl_attaches(kubectl, start, cri):
    pod, k = start("while read x; do echo said $x; echo warned $x >&2; [ $x = end ] && exit 4; done", stdin=True)
    p = kubectl.popen("attach", "-i", pod, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = Lines(p)

    def heard():
        p.stdin.write(b"hello\n")
        p.stdin.flush()
        return b"said hello" in os.read(p.stdout.fileno(), 4096)
    until("an answer", heard)
    p.stdin.write(b"end\n")
    p.stdin.flush()
    out.wait("said end")
    assert p.wait(SECONDS) == 0
    assert "warned end" in p.stderr.read().decode()
    assert cri.exited(k).exit_code == 4
    for f in (p.stdin, p.stdout, p.stderr):
        f.close()


def test_kubectl_attaches_to_a_terminal(kubectl, start, cri):
    pod, k = start("exec sh", stdin=True, tty=True)
    t = Terminal(kubectl, 21, 87, "attach", "-it", pod)
    t.ask("stty size", "21 87")
    t.type("exit 6\n")
    assert t.wait() == 0, t.seen
    assert cri.exited(k).exit_code == 6


def test_kubectl_copies_trees_both_ways(kubectl, pod, tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(8 * MB))
    (tree / "deep/er/small").write_text("small\n")
    (tree / "deep/empty").touch()
    (tree / "deep/script").write_text("#!/bin/sh\n")
    (tree / "deep/script").chmod(0o755)
    kubectl("cp", str(tree), f"{pod}:/tmp/copy")
    kubectl("cp", f"{pod}:/tmp/copy", str(tmp_path / "back"))

    def content(d):
        return {str(f.relative_to(d)): hashlib.sha256(f.read_bytes()).hexdigest() for f in d.rglob("*") if f.is_file()}
    assert content(tmp_path / "back") == content(tree) and len(content(tree)) == 4
    assert kubectl("exec", pod, "--", "stat", "-c", "%a", "/tmp/copy/deep/script").stdout == "755\n"


def test_kubectl_prints_and_follows_logs(kubectl, start, cri):
    pod, k = start("echo one; head -c 40000 /dev/zero | tr '\\0' x; echo; while [ ! -e /go ]; do sleep 0.1; done; seq 1 20000; printf last")
    long = "x" * 40000
    until("the long line", lambda: kubectl("logs", pod).stdout == f"one\n{long}\n")
    follower = kubectl.popen("logs", "-f", pod, stdout=subprocess.PIPE, text=True)
    assert follower.stdout.readline() == "one\n"
    cri.ExecSync(container_id=k, cmd=["touch", "/go"])
    assert follower.stdout.read() == f"{long}\n" + "".join(f"{i}\n" for i in range(1, 20001)) + "last"
    assert follower.wait(SECONDS) == 0
    assert kubectl("logs", pod, "--tail=3").stdout == "19999\n20000\nlast"
    stamps = kubectl("logs", pod, "--timestamps").stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) one$", stamps[0])


def test_thirty_of_kubectl_at_once(kubectl, pod):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        def one(i):
            r = kubectl("exec", "-i", pod, "--", "sh", "-c", f"cat; exit {i}", input=f"input {i}", check=False)
            return r.returncode, r.stdout
        assert list(pool.map(one, range(30))) == [(i, f"input {i}") for i in range(30)]


def test_kubectl_that_is_killed_ends_its_command(kubectl, pod, start, cri):
    pod, k = start()
    p = kubectl.popen("exec", "-i", pod, "--", "sh", "-c", "echo here; cat; echo ended > /tmp/ended", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"here\n"
    p.kill()
    p.wait()
    until("the command to see its end", lambda: cri.ExecSync(container_id=k, cmd=["cat", "/tmp/ended"]).stdout == b"ended\n")
    p.stdin.close()
    p.stdout.close()


SERVER = """mkdir -p /tmp/served; cd /tmp/served; head -c 4194304 /dev/urandom > blob
printf '#!/bin/sh\\nsha256sum\\n' > sum; chmod +x sum
httpd -p 8000 -f -h /tmp/served & nc -ll -p 8001 -e cat & nc -ll -p 8002 -e /tmp/served/sum & wait"""


@pytest.fixture
def server(cri, start):
    name, k = start(SERVER)
    until("the servers", lambda: all(f":{p} ".encode() in cri.ExecSync(container_id=k, cmd=["netstat", "-ltn"]).stdout for p in (8000, 8001, 8002)))
    return name, k


@pytest.fixture
def forwarded(kubectl, server):
    """Local ports of kubectl, by the pod's."""
    p = kubectl.popen("port-forward", "--address=127.0.0.1", f"pod/{server[0]}", ":8000", ":8001", ":8002", ":9", stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT)
    lines, ports = Lines(p), {}
    while len(ports) < 4:
        m = lines.wait(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")
        ports[int(m[2])] = int(m[1])
    yield ports, lines
    p.terminate()
    p.wait()
    p.stdout.close()


def all_of(s):
    got = b""
    while data := s.recv(1 << 16):
        got += data
    return got


def test_kubectl_forwards_many_connections(forwarded, server, cri):
    ports, _ = forwarded
    want = cri.ExecSync(container_id=server[1], cmd=["sha256sum", "/tmp/served/blob"]).stdout.split()[0].decode()

    def download(i):
        with socket.create_connection(("127.0.0.1", ports[8000]), SECONDS) as s:
            s.sendall(b"GET /blob HTTP/1.0\r\n\r\n")
            return hashlib.sha256(all_of(s).split(b"\r\n\r\n", 1)[1]).hexdigest()

    def echo(i):
        data = os.urandom(MB)
        with socket.create_connection(("127.0.0.1", ports[8001]), SECONDS) as s:
            t = threading.Thread(target=s.sendall, args=(data,))
            t.start()
            got = b""
            while len(got) < len(data) and (more := s.recv(1 << 16)):
                got += more
            t.join()
            return got == data
    with concurrent.futures.ThreadPoolExecutor(6) as pool:  # busybox's nc lets few wait
        downloads, echoes = pool.map(download, range(20)), pool.map(echo, range(20))
        assert set(downloads) == {want}
        assert all(echoes)


def test_kubectl_passes_half_an_end_on(forwarded):
    ports, _ = forwarded
    data = os.urandom(3 * MB)
    with socket.create_connection(("127.0.0.1", ports[8002]), SECONDS) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert all_of(s).decode() == f"{hashlib.sha256(data).hexdigest()}  -\n"


def test_kubectl_hears_of_a_port_without_a_server(forwarded):
    ports, lines = forwarded
    with socket.create_connection(("127.0.0.1", ports[9]), SECONDS) as s:
        assert s.recv(10) == b""
    lines.wait("an error occurred forwarding .*refused")


# ---- Python's client ----


@pytest.fixture(scope="module")
def python(api):
    client = pytest.importorskip("kubernetes.client")
    stream = pytest.importorskip("kubernetes.stream")
    config = client.Configuration()
    config.host = api.url

    class Python:
        core = client.CoreV1Api(client.ApiClient(config))

        def call(self, function, pod, **kw):
            api_ = client.CoreV1Api(client.ApiClient(config))  # stream() changes the one it is given
            return stream.stream(getattr(api_, function), pod, "test", **kw)

        def exec(self, pod, *command, tty=False, stdin=False):
            return self.call("connect_get_namespaced_pod_exec", pod, command=list(command), stdin=stdin, stdout=True, stderr=not tty, tty=tty,
                             _preload_content=False)

        def forward(self, pod, *ports):
            api_ = client.CoreV1Api(client.ApiClient(config))
            return stream.portforward(api_.connect_get_namespaced_pod_portforward, pod, "test", ports=",".join(map(str, ports)))
    return Python()


def test_python_tells_streams_and_exit_codes(python, pod):
    c = python.exec(pod, "sh", "-c", "echo out; echo err >&2; exit 7")
    c.run_forever(SECONDS)
    assert (c.read_stdout(), c.read_stderr(), c.returncode) == ("out\n", "err\n", 7)
    c = python.exec(pod, "true")
    c.run_forever(SECONDS)
    assert c.returncode == 0


@pytest.mark.parametrize("form", [str, bytes])
def test_python_writes_text_and_bytes(python, pod, form):
    c = python.exec(pod, "sh", "-c", "head -c 3000000 | sha256sum", stdin=True)
    data = "0123456789abcdef" * (3000000 // 16)
    for i in range(0, len(data), 100000):
        piece = data[i:i + 100000]
        c.write_stdin(piece if form is str else piece.encode())
    c.run_forever(SECONDS)
    assert c.read_stdout() == f"{hashlib.sha256(data.encode()).hexdigest()}  -\n" and c.returncode == 0


def test_python_reads_much(python, pod):
    c = python.exec(pod, "sh", "-c", "seq 1 300000")
    c.run_forever(SECONDS)
    assert c.read_stdout() == "".join(f"{i}\n" for i in range(1, 300001)) and c.returncode == 0


@pytest.mark.parametrize("names", [("Width", "Height"), ("width", "height")])  # the latter as JavaScript's client has them
def test_python_has_a_terminal_with_a_size(python, pod, names):
    c = python.exec(pod, "sh", tty=True, stdin=True)
    c.write_channel(4, json.dumps(dict(zip(names, (91, 27)))))
    seen = ""

    def sized():
        nonlocal seen
        c.write_stdin("stty size\n")
        c.update(timeout=1)
        seen += c.read_stdout(timeout=1) or ""
        return "27 91" in seen
    until("the size", sized)
    c.write_stdin("exit 9\n")
    c.run_forever(SECONDS)
    assert c.returncode == 9


def test_python_attaches(python, start):
    pod, _ = start("while read x; do echo said $x; [ $x = end ] && exit 0; done", stdin=True)
    c = python.call("connect_get_namespaced_pod_attach", pod, stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False)
    seen = ""

    def heard():
        nonlocal seen
        c.write_stdin("hello\n")
        c.update(timeout=1)
        seen += c.read_stdout(timeout=1) or ""
        return "said hello" in seen
    until("an answer", heard)
    c.write_stdin("end\n")
    c.run_forever(SECONDS)
    assert "said end" in c.read_stdout()


def test_python_forwards_ports(python, server, cri):
    name, k = server
    want = cri.ExecSync(container_id=k, cmd=["sha256sum", "/tmp/served/blob"]).stdout.split()[0].decode()
    forward = python.forward(name, 8000, 8001, 9)
    s = forward.socket(8000)
    s.sendall(b"GET /blob HTTP/1.0\r\n\r\n")
    got = b""
    while len(got) < 4 * MB or hashlib.sha256(got.split(b"\r\n\r\n", 1)[1]).hexdigest() != want:
        more = s.recv(1 << 16)
        assert more, len(got)
        got += more
    e = forward.socket(8001)
    e.sendall(b"echo?")
    assert e.recv(100) == b"echo?"
    until("the error", lambda: "refused" in (forward.error(9) or ""))
    assert forward.error(8001) is None
    for x in (s, e):
        x.close()


def test_python_reads_logs(python, start, cri):
    pod, k = start("seq 1 1000")
    cri.exited(k)
    assert python.core.read_namespaced_pod_log(pod, "test") == "".join(f"{i}\n" for i in range(1, 1001))
