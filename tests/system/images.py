# SPDX-License-Identifier: Apache-2.0
"""Images for the tests: busybox made by umoci from Debian's busybox-static, and OCI layouts written by hand for what umoci cannot make."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

from harness import run

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def busybox_rootfs(root):
    """A small system: busybox with all its names, users, the usual directories."""
    root = pathlib.Path(root)
    for d in ("bin", "dev", "etc", "home/alice", "proc", "root", "sys", "tmp", "usr/bin", "var"):
        (root / d).mkdir(parents=True, exist_ok=True)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for name in run(["/bin/busybox", "--list"]).stdout.split():
        link = root / "bin" / name
        if not link.exists():
            os.symlink("busybox", link)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nalice:x:1000:\nextra:x:2000:alice\n")
    (root / "etc/os-release").write_text("ID=busybox-test\n")
    os.chown(root / "home/alice", 1000, 1000)
    os.chmod(root / "tmp", 0o1777)


def busybox_layout(directory):
    """busybox:latest in a new OCI layout, made by umoci. Returns `directory:latest`."""
    layout, bundle = pathlib.Path(directory) / "busybox", pathlib.Path(directory) / "bundle"
    ref = f"{layout}:latest"
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", ref])
    run(["umoci", "unpack", "--image", ref, bundle])
    busybox_rootfs(bundle / "rootfs")
    run(["umoci", "repack", "--image", ref, bundle])
    run(["umoci", "config", "--image", ref, "--config.cmd", "sh", "--config.env", f"PATH={PATH}", "--config.env", "FROM_IMAGE=yes",
         "--config.workingdir", "/home"])
    shutil.rmtree(bundle)
    return ref


class Layout:
    """An OCI layout on disk, blob by blob."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        (self.dir / "blobs/sha256").mkdir(parents=True)
        (self.dir / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data, media_type, **more):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.dir / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **more}

    def image(self, tars, arch="amd64", compression="gzip", config=None, variant=None):
        """Writes layers, configuration and manifest; returns the manifest's descriptor."""
        layers = []
        for tar in tars:
            if compression == "gzip":
                layers.append(self.blob(gzip.compress(tar, mtime=0), LAYER + "+gzip"))
            elif compression == "zstd":
                layers.append(self.blob(subprocess.run(["zstd", "-q", "-c"], input=tar, capture_output=True, check=True).stdout, LAYER + "+zstd"))
            else:
                layers.append(self.blob(tar, LAYER))
        platform = {"os": "linux", "architecture": arch, **({"variant": variant} if variant else {})}
        document = {**platform, "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], **(config or {})},
                    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]}}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.blob(document, CONFIG), "layers": layers}
        return self.blob(manifest, MANIFEST, platform=platform)

    def index(self, manifests, tag="latest"):
        """Names an image, or an index over several."""
        top = manifests[0]
        if len(manifests) > 1:
            top = self.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)
        top = {k: v for k, v in top.items() if k != "platform"}
        (self.dir / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
            {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}]}))
        return f"{self.dir}:{tag}"


def tar_of(entries):
    """entries: (name, content) with content bytes = file, None = directory, str = symlink, ("hard", target); or a TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for e in entries:
            if isinstance(e, tarfile.TarInfo):
                tar.addfile(e)
                continue
            name, content = e
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o755, 1600000000
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.LNKTYPE, content[1]
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def busybox_tar(extra=()):
    names = run(["/bin/busybox", "--list"]).stdout.split()
    entries = [(d, None) for d in ("bin", "dev", "etc", "proc", "root", "sys", "tmp")]
    entries += [("bin/busybox", pathlib.Path("/bin/busybox").read_bytes())]
    entries += [(f"bin/{n}", "busybox") for n in names if n != "busybox"]
    return tar_of(entries + [("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"), *extra])


def layered_layout(directory, compression):
    """Three layers of which each changes what is below: files replaced, whiteouts, an opaque directory, a hard link."""
    layout = Layout(directory)
    base = busybox_tar([("data", None), ("data/keep", b"1"), ("data/gone", b"1"), ("data/change", b"1"), ("full", None), ("full/old", b"1"),
                        ("link", "data/keep")])
    second = tar_of([("data/.wh.gone", b""), ("data/change", b"2"), ("full/.wh..wh..opq", b""), ("full/new", b"2")])
    third = tar_of([("data/hard", ("hard", "data/keep")), ("data/third", b"3")])
    # A hard link to a file of a lower layer is not a thing; it is made within its own layer.
    third = tar_of([("data/orig", b"3"), ("data/hard", ("hard", "data/orig")), ("data/third", b"3")])
    return layout.index([layout.image([base, second, third], compression=compression)])


def two_platform_layout(directory):
    layout = Layout(directory)
    return layout.index([layout.image([busybox_tar([("arch", b"amd64\n")])]),
                         layout.image([tar_of([("arch", b"arm64\n")])], arch="arm64", variant="v8")])


def layout_of(directory, files, config):
    """An image of busybox with further files (bytes, or the target of a link) and a configuration, as `dir:tag` of an OCI layout."""
    directory.mkdir(parents=True, exist_ok=True)
    root = directory / "root"
    busybox_rootfs(root)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.symlink_to(content)
    layout = directory / "oci"
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", f"{layout}:latest"])
    run(["umoci", "insert", "--image", f"{layout}:latest", root, "/"])
    args = [a for v in config.get("Volumes", {}) for a in ("--config.volume", v)]
    for word in config.get("Cmd", []):
        args += ["--config.cmd", word]
    if "StopSignal" in config:
        args += ["--config.stopsignal", config["StopSignal"]]
    if args:
        run(["umoci", "config", "--image", f"{layout}:latest", *args])
    return f"{layout}:latest"
