# SPDX-License-Identifier: Apache-2.0
"""Servers that clients reach over HTTP or TLS, and the confined process in front of them: metrics, debug, gRPC on TCP."""
import concurrent.futures
import gzip
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import grpc
import pytest

from dial import dial
from harness import BIN, Daemon, children, free_port, processes, run, until

SECONDS = 90


# ---- certificates ----

def authority(directory, name):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.crt"])
    return directory / f"{name}.crt"


def certificate(directory, ca, name, usage):
    """name.crt and name.key, signed by the authority."""
    ext = directory / f"{name}.ext"
    ext.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
    run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
         "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.csr"])
    run(["openssl", "x509", "-req", "-in", directory / f"{name}.csr", "-CA", directory / f"{ca}.crt", "-CAkey", directory / f"{ca}.key",
         "-CAcreateserial", "-days", "2", "-extfile", ext, "-out", directory / f"{name}.crt"])


@pytest.fixture(scope="module")
def certs(workdir):
    d = workdir / "certs"
    d.mkdir()
    authority(d, "ca")
    authority(d, "other")
    certificate(d, "ca", "server", "serverAuth")
    certificate(d, "ca", "client", "clientAuth")
    certificate(d, "other", "stranger", "clientAuth")
    return d


# ---- daemons ----

class Fronted(Daemon):
    def __init__(self, certs, more=""):
        self.metrics_port, self.tcp_port = free_port(), free_port()
        super().__init__()
        self.debug = self.dir / "debug.sock"
        self.tls = self.dir / "tls"
        self.tls.mkdir()
        for name in ("server.crt", "server.key", "ca.crt"):
            (self.tls / name).write_bytes((certs / name).read_bytes())
        self.config.write_text(f"""version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[metrics]
  address = "127.0.0.1:{self.metrics_port}"
  grpc_histogram = true
[debug]
  address = "{self.debug}"
  uid = 0
  gid = 1
[grpc]
  tcp_address = "127.0.0.1:{self.tcp_port}"
  tcp_tls_cert = "{self.tls}/server.crt"
  tcp_tls_key = "{self.tls}/server.key"
  tcp_tls_ca = "{self.tls}/ca.crt"
{more}""")

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/v1/metrics", timeout=SECONDS) as r:
            assert r.status == 200 and r.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return r.read().decode()

    def pprof(self, *args, **kw):
        return run([BIN / "ctr", "pprof", "-d", self.debug, *args], env={"ASAN_OPTIONS": "detect_leaks=0"}, **kw)

    def fronts(self):
        """pid of the process behind each listening port."""
        return [p for p in children(self.process.pid) if "front" in processes().get(p, [])]


@pytest.fixture(scope="module")
def daemon(certs):
    d = Fronted(certs)
    d.start()
    yield d
    d.close()


def value(text, name, **labels):
    """Of one metric; None when there is none."""
    for line in text.splitlines():
        m = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
        if m and all(f'{k}="{v}"' in (m[1] or "") for k, v in labels.items()):
            return float(m[2])
    return None


# ---- metrics ----

def test_metrics_count_calls_by_method_and_outcome(daemon, ctr):
    method = {"grpc_service": "containerd.services.namespaces.v1.Namespaces", "grpc_method": "Get", "grpc_type": "unary"}
    listed = {**method, "grpc_method": "List"}
    before = daemon.metrics()
    ctr("namespaces", "ls")
    ctr("namespaces", "label", "no-such", "a=b", check=False)
    after = daemon.metrics()
    assert value(after, "grpc_server_started_total", **listed) == (value(before, "grpc_server_started_total", **listed) or 0) + 1
    assert value(after, "grpc_server_handled_total", grpc_code="OK", **listed) == (value(before, "grpc_server_handled_total", grpc_code="OK", **listed) or 0) + 1
    assert value(after, "grpc_server_handling_seconds_count", **listed) == value(after, "grpc_server_handled_total", grpc_code="OK", **listed)
    assert value(after, "grpc_server_handling_seconds_bucket", le="+Inf", **listed) == value(after, "grpc_server_handling_seconds_count", **listed)
    assert value(after, "grpc_server_msg_sent_total", **listed) == value(after, "grpc_server_started_total", **listed)


def test_metrics_tell_of_the_process_and_the_build(daemon):
    text = daemon.metrics()
    assert 1e6 < value(text, "process_resident_memory_bytes") < 1e10
    assert abs(value(text, "process_start_time_seconds") - time.time()) < 3600
    assert value(text, "process_open_fds") > 5
    assert value(text, "containerd_build_info_total") == 1


def test_metrics_are_well_formed(daemon):
    """What Prometheus' own parser insists on: one TYPE a family, before its values, and no value twice."""
    types, seen, current = {}, set(), None
    for line in daemon.metrics().splitlines():
        if line.startswith("# TYPE "):
            current, kind = line.split()[2:]
            assert current not in types
            types[current] = kind
        elif not line.startswith("#"):
            name = re.match(r"[a-z_0-9A-Z]+", line)[0]
            assert name == current or (types[current] == "histogram" and name in {f"{current}_bucket", f"{current}_sum", f"{current}_count"}), line
            key = line.rsplit(" ", 1)[0]
            assert key not in seen
            seen.add(key)
    assert len(types) > 8


def test_metrics_of_containers_come_and_go(daemon, ctr, image, name):
    ctr("run", "-d", image, name, "sleep", "600")

    def told():
        text = daemon.metrics()
        pids = value(text, "container_pids_current", container_id=name, namespace="default")
        cpu = value(text, "container_cpu_total_nanoseconds", container_id=name) or value(text, "container_cpu_usage_usec_microseconds", container_id=name)
        return pids is not None or cpu is not None
    until("metrics of the container", told)
    ctr("tasks", "rm", "-f", name, check=False)
    assert name not in daemon.metrics()


def test_other_paths_and_methods_are_refused(daemon):
    url = f"http://127.0.0.1:{daemon.metrics_port}"
    for path, method, status in (("/", "GET", "404"), ("/metrics", "GET", "404"), ("/v1/metrics/", "GET", "404"), ("/v1/metrics", "POST", "405"),
                                 ("/v1/metrics", "HEAD", "200"), ("/debug/pprof/", "GET", "404")):
        p = run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *(["-I"] if method == "HEAD" else ["-X", method]), url + path])
        assert p.stdout == status, (path, method)


def test_many_scrapes_under_load(daemon, ctr):
    stop = threading.Event()

    def load():
        while not stop.is_set():
            ctr("version")

    worker = threading.Thread(target=load)
    worker.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda _: daemon.metrics(), range(24)))
    finally:
        stop.set()
        worker.join()
    assert all(t.endswith("\n") and "process_open_fds" in t for t in texts)


# ---- hostile and slow clients ----

def test_garbage_and_slow_clients_disturb_nobody(daemon):
    held = []
    for i in range(40):
        s = socket.create_connection(("127.0.0.1", daemon.metrics_port))
        s.settimeout(SECONDS)
        # Some say nothing, some half of a request, some nonsense, some ask and do not read.
        s.sendall([b"", b"GET /v1/met", os.urandom(400), b"GET /v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n"][i % 4])
        held.append(s)
    for i in range(10):
        s = socket.create_connection(("127.0.0.1", daemon.tcp_port))
        s.sendall(os.urandom(300) if i % 2 else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        held.append(s)
    pids = daemon.fronts()
    assert "process_open_fds" in daemon.metrics()
    assert daemon.fronts() == pids
    for s in held:
        s.close()
    assert "process_open_fds" in daemon.metrics()


def test_large_requests_are_refused(daemon):
    url = f"http://127.0.0.1:{daemon.metrics_port}/v1/metrics"
    status = ["-s", "-o", "/dev/null", "-w", "%{http_code}"]
    assert run(["curl", *status, "-H", "X-Long: " + "a" * 60000, url], check=False).stdout in ("431", "413", "400")
    assert run(["curl", *status, "--data-binary", "@-", url], input="a" * 200000).stdout == "413"
    assert "process_open_fds" in daemon.metrics()


# ---- the process ----

def test_front_is_confined(daemon):
    for pid in daemon.fronts():
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
        assert status["Uid"].split()[1] == "65534"
        assert int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_killed_front_comes_back_and_the_daemon_does_not_care(daemon, ctr):
    old = daemon.fronts()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    ctr("version")
    # The listening socket is still there: what arrives now is served by the next process.
    assert "process_open_fds" in daemon.metrics()
    until("all fronts to be there again", lambda: len(daemon.fronts()) == len(old))
    assert not set(old) & set(daemon.fronts())
    daemon.pprof("threadcreate")


# ---- debug ----

def test_debug_socket_has_its_owner_and_mode(daemon):
    st = os.stat(daemon.debug)
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (0, 1, 0o660)


def test_pprof_threads(daemon):
    text = daemon.pprof("goroutines").stdout
    assert re.search(r"^thread \d+ containerd \[S.*\]:\n(\t.*\n)*\t.*epoll_wait", text, re.M), text
    assert "front [" in text and "does not answer" not in text


def test_pprof_heap_and_others(daemon):
    assert daemon.pprof("heap").stdout.startswith("heap profile: ")
    assert daemon.pprof("block").stdout.startswith("--- contention:")
    assert re.fullmatch(r"threadcreate profile: total \d+\n", daemon.pprof("threadcreate").stdout)
    p = run(["curl", "-s", "--unix-socket", daemon.debug, "http://x/debug/pprof/cmdline"])
    assert str(daemon.config) in p.stdout.split("\0")
    p = run(["curl", "-s", "--unix-socket", daemon.debug, "http://x/debug/pprof/"])
    assert '<a href="profile">' in p.stdout
    p = run(["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", "--unix-socket", daemon.debug, "http://x/debug/pprof/nonsense"])
    assert p.stdout == "404"


def fields(data):
    """(number, value) of a protobuf message."""
    i = 0

    def varint():
        nonlocal i
        v = shift = 0
        while True:
            b = data[i]
            i += 1
            v |= (b & 0x7f) << shift
            shift += 7
            if b < 0x80:
                return v

    while i < len(data):
        key = varint()
        v = varint()
        if key & 7 == 2:
            v, i = data[i:i + v], i + v
        yield key >> 3, v


def test_pprof_profile_shows_work(daemon, ctr):
    def taken():
        """One of which the work of two seconds has made enough samples."""
        p = subprocess.Popen([BIN / "ctr", "pprof", "-d", daemon.debug, "profile", "-s", "2s"], stdout=subprocess.PIPE,
                             env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        while p.poll() is None:
            daemon.metrics()
        profile = list(fields(gzip.decompress(p.stdout.read())))
        return len({dict(fields(v))[1] for n, v in profile if n == 2}) > 5 and profile
    profile = until("a profile of work in many places", taken)
    strings = [v.decode() for n, v in profile if n == 6]
    assert strings[0] == "" and {"samples", "count", "cpu", "nanoseconds"} <= set(strings)
    samples = [dict(fields(v)) for n, v in profile if n == 2]
    locations = {dict(fields(v))[1]: dict(fields(v)) for n, v in profile if n == 4}
    mappings = {dict(fields(v))[1]: dict(fields(v)) for n, v in profile if n == 3}
    # The work is that of pool threads, in many places.
    assert len({s[1] for s in samples}) > 5
    files = {strings[mappings[l[2]][5]] for l in locations.values() if 2 in l}
    assert any(f.endswith("/containerd") for f in files), files
    for l in locations.values():
        if 2 in l:
            assert mappings[l[2]][2] <= l[3] < mappings[l[2]][3]


def test_pprof_profiles_do_not_mix(daemon):
    """Of two at a time one is refused, and the next one is taken."""
    both = [subprocess.Popen([BIN / "ctr", "pprof", "-d", daemon.debug, "profile", "-s", "4s"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             text=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}) for _ in range(2)]
    errors = sorted(p.communicate(timeout=SECONDS)[1] for p in both)
    assert sorted(p.returncode for p in both) == [0, 1] and "500" in errors[1]
    daemon.pprof("goroutines")


def test_pprof_trace_is_a_trace(daemon, ctr):
    def traced():
        p = subprocess.Popen([BIN / "ctr", "pprof", "-d", daemon.debug, "trace", "-s", "1s"], stdout=subprocess.PIPE,
                             env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        while p.poll() is None:
            ctr("namespaces", "ls")
        events = json.loads(p.stdout.read())
        return any("Namespaces/List" in e["name"] for e in events)
    until("a call in the second that is traced", traced)


def test_pprof_says_when_there_is_no_socket(daemon):
    p = run([BIN / "ctr", "pprof", "-d", daemon.dir / "none", "heap"], check=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert p.returncode == 1 and "none" in p.stderr


# ---- gRPC on TCP ----

def health_over(stubs, port, certs, client="client", ca="ca"):
    """Status of the daemon, by gRPC's own client in TLS."""
    messages, services = stubs("grpc/health/v1/health")
    pair = {"private_key": (certs / f"{client}.key").read_bytes(), "certificate_chain": (certs / f"{client}.crt").read_bytes()} if client else {}
    creds = grpc.ssl_channel_credentials(root_certificates=(certs / f"{ca}.crt").read_bytes(), **pair)
    with grpc.secure_channel(f"localhost:{port}", creds, options=[("grpc.enable_retries", 0)]) as channel:
        r = services.HealthStub(channel).Check(messages.HealthCheckRequest(), timeout=SECONDS)
        return messages.HealthCheckResponse.ServingStatus.Name(r.status)


def test_grpc_over_tls_with_a_client_certificate(daemon, stubs, certs):
    assert health_over(stubs, daemon.tcp_port, certs) == "SERVING"


@pytest.mark.parametrize("client,ca", [(None, "ca"), ("stranger", "ca"), ("client", "other")])
def test_grpc_over_tls_refuses_who_is_not_trusted(daemon, stubs, certs, client, ca):
    with pytest.raises(grpc.RpcError) as e:
        health_over(stubs, daemon.tcp_port, certs, client, ca)
    assert e.value.code() == grpc.StatusCode.UNAVAILABLE


def test_grpc_on_tcp_has_no_local_services(daemon, stubs, certs):
    messages, services = stubs("services/version/v1/version")
    creds = grpc.ssl_channel_credentials((certs / "ca.crt").read_bytes(), (certs / "client.key").read_bytes(), (certs / "client.crt").read_bytes())
    from google.protobuf.empty_pb2 import Empty
    with grpc.secure_channel(f"localhost:{daemon.tcp_port}", creds) as channel, pytest.raises(grpc.RpcError) as e:
        services.VersionStub(channel).Version(Empty(), timeout=SECONDS)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_cri_is_served_on_tcp_when_it_is_asked_for(certs):
    d = Fronted(certs, '[plugins."io.containerd.grpc.v1.cri"]\n  disable_tcp_service = false\n')
    d.config.write_text(d.config.read_text().replace('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n', ""))
    d.start()
    try:
        creds = grpc.ssl_channel_credentials((certs / "ca.crt").read_bytes(), (certs / "client.key").read_bytes(), (certs / "client.crt").read_bytes())
        with grpc.secure_channel(f"localhost:{d.tcp_port}", creds) as channel:
            call = {name: channel.unary_unary(f"/runtime.v1.RuntimeService/{name}") for name in ("Version", "Status")}
            assert b"containerd" in call["Version"](b"", timeout=SECONDS)
            v1 = not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
            assert (b"io.containerd.deprecation/cgroup-v1" in call["Status"](b"", timeout=SECONDS)) == v1
    finally:
        d.close()


def test_old_tls_is_refused(daemon, certs):
    p = run(["openssl", "s_client", "-connect", f"127.0.0.1:{daemon.tcp_port}", "-tls1_1", "-cert", certs / "client.crt", "-key", certs / "client.key"],
            input="", check=False)
    assert p.returncode != 0


def serial(port, certs):
    """Of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=certs / "ca.crt")
    context.load_cert_chain(certs / "client.crt", certs / "client.key")
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as s, context.wrap_socket(s, server_hostname="localhost") as t:
        return t.getpeercert()["serialNumber"]


def test_certificates_are_renewed_when_their_files_change(daemon, certs):
    old, pids = serial(daemon.tcp_port, certs), daemon.fronts()
    certificate(certs, "ca", "renewed", "serverAuth")
    # The key last: in between the two do not belong together, which must not end anything.
    for name in ("crt", "key"):
        new = daemon.tls / f"new.{name}"
        new.write_bytes((certs / f"renewed.{name}").read_bytes())
        new.rename(daemon.tls / f"server.{name}")
        if name == "crt":
            until("the pair that does not fit to be warned about", lambda: "certificate and key" in daemon.tail(400))
            assert serial(daemon.tcp_port, certs) == old
    until("the new certificate", lambda: serial(daemon.tcp_port, certs) != old)
    assert daemon.fronts() == pids


# ---- configurations ----

@pytest.mark.parametrize("tcp,text", [
    ('tcp_tls_cert = "/none.crt"\n  tcp_tls_key = "/none.key"', "/none.crt"),
    ('tcp_tls_ca = "/none.crt"', "tls_ca needs"),
    ('tcp_tls_cert = "/none.crt"', "one is missing"),
    ('tcp_tls_common_name = "x"', "tls_common_name"),
])
def test_tls_that_cannot_work_fails_the_plugin_only(tcp, text):
    d = Daemon(config=f'[grpc]\n  tcp_address = "127.0.0.1:{free_port()}"\n  {tcp}\n')
    d.start()
    try:
        detail = d.ctr.out("plugins", "ls", "-d", "id==grpc-tcp")
        assert text in detail
    finally:
        d.close()


def test_plain_grpc_on_tcp(stubs):
    port = free_port()
    d = Daemon(config=f'[grpc]\n  tcp_address = "127.0.0.1:{port}"\n')
    d.start()
    try:
        messages, services = stubs("grpc/health/v1/health")
        with dial(f"127.0.0.1:{port}") as channel:
            assert services.HealthStub(channel).Check(messages.HealthCheckRequest(), timeout=SECONDS).status == 1
    finally:
        d.close()


def test_address_in_use_fails_the_plugin_only(daemon):
    d = Daemon(config=f'[metrics]\n  address = "127.0.0.1:{daemon.metrics_port}"\n')
    d.start()
    try:
        assert "ddress already in use" in d.ctr.out("plugins", "ls", "-d", "id==metrics")
    finally:
        d.close()


def test_restart_keeps_the_addresses(certs):
    d = Fronted(certs)
    d.start()
    try:
        d.metrics()
        d.restart()
        d.metrics()
        assert d.pprof("block").returncode == 0
    finally:
        d.close()
    assert not d.debug.exists()


# ---- deprecations ----

def test_deprecations_are_listed(daemon, ctr, stubs):
    v1 = not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    listed = json.loads(ctr.out("deprecations", "list", "--format", "json"))
    assert ("io.containerd.deprecation/cgroup-v1" in {d["id"] for d in listed}) == v1
    for d in listed:
        assert d["message"] and d["last_occurrence"]


def test_deprecated_keys_are_listed_unless_their_plugin_is_disabled():
    for disabled in (False, True):
        d = Daemon(config='[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n  endpoint = ["https://example.com"]\n')
        if disabled:
            d.config.write_text(d.config.read_text().replace("grpc.v1.cri\"]", "grpc.v1.cri\", \"io.containerd.cri.v1.images\"]", 1))
        d.start()
        try:
            text = d.ctr.out("deprecations", "list")
            assert ("cri-registry-mirrors" in text) != disabled, text
        finally:
            d.close()
