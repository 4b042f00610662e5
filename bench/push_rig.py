"""What the push's benchmark and tests stand on: synthetic OCI layouts, a registry, and a proxy that counts."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import zstandard

LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_CHUNK = 1 << 20  # bytes; Random.randbytes cannot give more than 256 MiB at once
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_KEPT: list[socket.socket] = []  # ports of this process that nobody else gets


def find_crane() -> Path:
    """Return the crane to measure: ``$MFBAZEL_TEST_CRANE``, else the one on PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    found = shutil.which(os.environ.get("MFBAZEL_TEST_CRANE") or "crane")
    if not found:
        raise FileNotFoundError("no crane: set MFBAZEL_TEST_CRANE or put crane on PATH")
    return Path(found).absolute()


def random_content(seed: str, size: int) -> bytes:
    """Return ``size`` bytes that do not compress, always the same ones for ``seed``."""
    source = random.Random(seed)
    return b"".join(source.randbytes(min(_CHUNK, size - start)) for start in range(0, size, _CHUNK))


def write_layout(directory: Path, layers: Mapping[str, bytes]) -> str:
    """Write an OCI layout whose image has one layer per entry (file name: content); return its digest."""
    store = _Store(directory)
    descriptors, diff_ids = [], []
    for name, content in layers.items():
        tar = _tar(name, content)
        diff_ids.append(_digest(tar))
        descriptors.append({"mediaType": LAYER, **store.add(zstandard.ZstdCompressor(level=1).compress(tar))})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, **store.add(_json(config))},
        "layers": descriptors,
    }
    return store.finish(MANIFEST, store.add(_json(manifest)))


def write_index_layout(directory: Path, images: Sequence[Path]) -> str:
    """Write an OCI layout that holds an index of the images of other layouts; return its digest."""
    store = _Store(directory)
    entries = []
    for image in images:
        shutil.copytree(image / "blobs", directory / "blobs", dirs_exist_ok=True)
        entries += json.loads((image / "index.json").read_bytes())["manifests"]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return store.finish(INDEX, store.add(_json(index)))


def write_images_json(path: Path, digests: Mapping[str, str], repository: str | None, label: str) -> Path:
    """Write the build's ``images.json`` (``docs/design/interfaces.md``); return ``path``."""
    steps = {
        step: {
            "digest": digest,
            "requirements_sha256": hashlib.sha256(step.encode()).hexdigest(),
            "platforms": ["linux/amd64"],
        }
        for step, digest in digests.items()
    }
    content = {"schema": 1, "flow": "Flow", "label": label, "repository": repository, "steps": steps}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path


class _Store:
    """The blobs of a layout that is being written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)

    def add(self, data: bytes) -> dict[str, Any]:
        """Write a blob; return its digest and size."""
        digest = _digest(data)
        (self.blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def finish(self, media_type: str, descriptor: Mapping[str, Any]) -> str:
        """Write the files at the layout's top; return the image's digest."""
        (self.directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entries = [{"mediaType": media_type, **descriptor}]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        (self.directory / "index.json").write_bytes(_json(index))
        return str(descriptor["digest"])


@contextmanager
def serve_registry(crane: Path, disk: Path, port: int | None = None) -> Iterator[str]:
    """Run ``crane registry serve`` on a free loopback port with its blobs in ``disk``; yield ``host:port``."""
    disk.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{port or free_port()}"
    command = [str(crane), "registry", "serve", "--address", host, "--disk", str(disk)]
    with (disk.parent / f"{disk.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_listening(host, process)
        yield host
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that the system gives nobody until this process ends.

    It stays bound without listening, which servers that set SO_REUSEADDR, as all do, and nobody else may pass over.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _KEPT.append(kept)
    return int(kept.getsockname()[1])


@dataclass
class Counts:
    """What went through a proxy.

    Attributes:
        requests: method and path, in order.
        blob_bytes: bytes of bodies sent to upload blobs.
        manifest_bytes: bytes of bodies sent to upload manifests.
    """

    requests: list[tuple[str, str]] = field(default_factory=list)
    blob_bytes: int = 0
    manifest_bytes: int = 0

    def of(self, method: str, part: str = "") -> int:
        """Count the requests with this method whose path holds ``part``."""
        return sum(verb == method and part in path for verb, path in self.requests)


class Proxy:
    """A reverse proxy before a registry on loopback that counts requests and the bytes sent.

    ``host`` is where it listens (``127.0.0.1:port``); ``take()`` returns the counts since the last call.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._counts = Counts()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> Counts:
        """Return what was counted since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counts()
        return counts

    def _count(self, method: str, path: str, sent: int) -> None:
        with self._lock:
            self._counts.requests.append((method, path))
            if "/manifests/" in path:
                self._counts.manifest_bytes += sent
            else:
                self._counts.blob_bytes += sent

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(LoopbackHandler):
            def answer(self) -> None:
                body = self.body()
                proxy._count(self.command, self.path, len(body))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                connection = http.client.HTTPConnection(proxy._upstream, timeout=600)
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                connection.close()

        return Handler


class LoopbackHandler(BaseHTTPRequestHandler):
    """A quiet HTTP/1.1 handler for all methods; subclasses define :meth:`answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Answer the request, whose body has not been read yet."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer any method."""
        self.answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def handle_one_request(self) -> None:
        """Tell a client that tries TLS at once that this is HTTP, as Go's servers do."""
        first = self.connection.recv(1, socket.MSG_PEEK)
        if first == b"\x16":
            self.connection.recv(65536)
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            self.close_connection = True
            return
        super().handle_one_request()

    def body(self) -> bytes:
        """Read the request's body, chunked or not."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = io.BytesIO()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data.write(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return data.getvalue()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _wait_until_listening(host: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the registry answers."""
    address, _, port = host.partition(":")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((address, int(port))) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the registry on {host} did not come up")


def _tar(name: str, content: bytes) -> bytes:
    """Return a tar of one file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
