"""A private package index on loopback, for tests: pypiserver behind TLS, passwords, certificates, a proxy and faults.

The index itself is pypiserver. Around it: a certificate authority of its own (trustme), basic authentication, client
certificates where wanted, a count of what was asked, and faults that a test injects into answers.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import re
import select
import socket
import socketserver
import ssl
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

import pypiserver  # type: ignore[import-untyped]
import pytest
import trustme

HOST = "127.0.0.1"
_STATUSES = {"refuse": "503 Out of Order", "missing": "404 Not Found", "forbid": "403 Forbidden"}
_START = Callable[..., Any]
_APP = Callable[[dict[str, Any], _START], Iterable[bytes]]


@dataclass(frozen=True)
class Authority:
    """A certificate authority, whose certificate lies in ``directory``."""

    directory: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def file(self) -> Path:
        """The authority's certificate, for those who shall trust it."""
        path = self.directory / "ca.pem"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self.ca.cert_pem.write_to_path(path)
        return path

    def server(
        self,
        *,
        client_certificates: bool = False,
        begins: datetime.datetime | None = None,
        ends: datetime.datetime | None = None,
    ) -> ssl.SSLContext:
        """Return what a server on loopback needs; with ``client_certificates`` it refuses who has none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(HOST, "localhost", not_before=begins, not_after=ends).configure_cert(context)
        if client_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def client(self) -> Path:
        """Return a file with a client's key and certificate."""
        path = self.directory / "client.pem"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(path)
        return path


@dataclass
class Fault:
    """What happens to answers instead of reaching the client whole.

    Attributes:
        path: regular expression, searched in the path that is asked for.
        kind: ``drop`` (the connection is closed before an answer), ``truncate`` (closed after half of the body),
            ``corrupt`` (one byte differs), ``refuse`` (HTTP 503), ``missing`` (404), ``forbid`` (403),
            ``yank`` (the files on a page whose names match ``file``), ``rewrite`` (``change`` makes another body).
        times: how often; the default is always.
        after: how many such requests pass first.
        file: for ``yank``: regular expression of file names.
        change: for ``rewrite``.
    """

    path: str
    kind: str
    times: int = 1 << 30
    after: int = 0
    file: str = ""
    change: Callable[[bytes], bytes] = lambda body: body
    on_hit: Callable[[], None] = lambda: None

    def hits(self, path: str) -> bool:
        """Say whether the fault is to happen now, and count."""
        if not re.search(self.path, path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        if self.times < 0:
            return False
        self.on_hit()
        return True


@dataclass(frozen=True)
class Asked:
    """One request that reached the index: ``user`` is the name given by basic authentication, if any."""

    method: str
    path: str
    user: str | None
    status: int


class _DroppedError(Exception):
    """The connection is closed on purpose."""


@dataclass
class Index:
    """A running index of the wheels in ``directory``.

    Attributes:
        users: passwords by name; empty: everyone may read.
        faults: what goes wrong; may be changed while the index runs.
        asked: the requests so far.
        refusal: the status for wrong credentials: 401, as most indexes have it, or pypiserver's own 403.
    """

    directory: Path
    scheme: str = "http"
    users: Mapping[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    refusal: int = 401
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, user: str = "", password: str = "", path: str = "/simple/") -> str:
        """Return the URL of the index, with credentials if they are given."""
        info = quote(user, safe="") + (":" + quote(password, safe="") if password else "") + "@" if user else ""
        return f"{self.scheme}://{info}{HOST}:{self.port}{path}"

    @property
    def place(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    def paths(self, ending: str = "") -> list[str]:
        """Return the paths asked for with success that end with ``ending``."""
        return [asked.path for asked in self.asked if asked.status < 400 and asked.path.endswith(ending)]

    def application(self) -> _APP:
        """Return pypiserver with counting and faults around it."""
        options: dict[str, Any] = {"authenticate": [], "password_file": "."}
        if self.users:
            options = {
                "authenticate": ["list", "download", "update"],
                "auther": lambda name, password: self.users.get(name) == password,
            }
        inner = pypiserver.app(
            roots=[self.directory], hash_algo="sha256", disable_fallback=True, backend_arg="simple-dir", **options
        )
        return lambda environ, start: self._answer(inner, environ, start)

    def _answer(self, inner: _APP, environ: dict[str, Any], start: _START) -> Iterable[bytes]:
        seen: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(inner(environ, lambda status, headers, *_rest: seen.append((status, headers))))
        status, headers = seen[-1]
        if status.startswith("403") and self.refusal == 401:
            status, headers = "401 Unauthorized", [*headers, ("WWW-Authenticate", 'Basic realm="index"')]
        path = environ["PATH_INFO"]
        with self._lock:
            self.asked.append(Asked(environ["REQUEST_METHOD"], path, _user(environ), int(status[:3])))
            faults = [fault for fault in self.faults if fault.hits(path)]
        for fault in faults:
            status, headers, body = _spoiled(fault, status, headers, body)
        start(status, headers)
        return [body]


def _user(environ: Mapping[str, Any]) -> str | None:
    kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return base64.b64decode(token).decode().partition(":")[0] if kind == "Basic" else None


def _spoiled(
    fault: Fault, status: str, headers: list[tuple[str, str]], body: bytes
) -> tuple[str, list[tuple[str, str]], bytes]:
    if fault.kind == "drop":
        raise _DroppedError
    if fault.kind in _STATUSES:
        return _STATUSES[fault.kind], [("Content-Length", "0")], b""
    if fault.kind == "truncate":
        return status, headers, body[: len(body) // 2]
    changed = body
    if fault.kind == "corrupt":
        changed = body[:-1] + bytes([body[-1] ^ 1]) if body else body
    elif fault.kind == "yank":
        link = rb"<a (?=[^>]*>\s*(?:" + fault.file.encode() + rb")\s*<)"
        changed = re.sub(link, b'<a data-yanked="broken" ', body)
    elif fault.kind == "rewrite":
        changed = fault.change(body)
    rest = [(name, value) for name, value in headers if name.lower() not in ("content-length", "etag")]
    return status, [*rest, ("Content-Length", str(len(changed)))], changed


class _Handler(ServerHandler):
    """Lets a dropped connection be one, instead of an answer with status 500."""

    def send_preamble(self) -> None:
        super().send_preamble()
        self._write(b"Connection: close\r\n")

    def handle_error(self) -> None:
        if not isinstance(sys.exc_info()[1], (_DroppedError, OSError, ssl.SSLError)):
            super().handle_error()

    def log_exception(self, exc_info: Any) -> None:
        if not isinstance(exc_info[1], (_DroppedError, OSError, ssl.SSLError, AssertionError)):
            super().log_exception(exc_info)


class _Requests(WSGIRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            self._handle_one()

    def _handle_one(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        handler = _Handler(self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True)  # type: ignore[arg-type]
        handler.http_version = "1.1"
        handler.request_handler = self  # type: ignore[attr-defined]
        handler.run(self.server.get_app())  # type: ignore[attr-defined]
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64
    context: ssl.SSLContext | None = None

    def server_bind(self) -> None:
        # Without the base's look-up of the host's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        connection.settimeout(20)
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, *_arguments: object) -> None:
        """Say nothing of clients that go away."""


@contextlib.contextmanager
def running(
    directory: Path,
    *,
    tls: ssl.SSLContext | None = None,
    users: Mapping[str, str] | None = None,
    faults: Sequence[Fault] = (),
) -> Iterator[Index]:
    """Run an index of the wheels in ``directory`` while the body runs."""
    directory.mkdir(parents=True, exist_ok=True)
    index = Index(directory, "https" if tls else "http", users or {}, list(faults))
    with _Server((HOST, 0), _Requests) as server:
        server.context = tls
        server.set_app(index.application())
        index.port = server.server_port
        with _serving(server):
            yield index


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@dataclass
class Proxy:
    """A running HTTP proxy. ``asked``: the hosts and ports that it was asked to reach; ``user``: whom it lets through,
    ``name:password``, or everyone."""

    port: int
    user: str = ""
    asked: list[str] = field(default_factory=list)

    def url(self, user: str = "") -> str:
        """Return its URL."""
        return f"http://{user}{'@' if user else ''}{HOST}:{self.port}"


class _ProxyRequest(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
            method, target, _ = self.rfile.readline().decode("latin-1").split(" ", 2)
            headers = list(iter(lambda: self.rfile.readline().decode("latin-1").strip(), ""))
            token = "Basic " + base64.b64encode(proxy.user.encode()).decode()
            if proxy.user and not any(line.partition(": ")[2] == token for line in headers):
                self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            proxy.asked.append(target)
            place = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = place.rpartition(":")
            with socket.create_connection((host, int(port)), 20) as upstream:
                if method == "CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    lines = [f"{method} /{target.split('/', 3)[3]} HTTP/1.1", *headers, "Connection: close", "", ""]
                    upstream.sendall("\r\n".join(lines).encode("latin-1"))
                _exchange(self.connection, upstream)


def _exchange(one: socket.socket, other: socket.socket) -> None:
    """Pass on bytes in both directions until one side ends."""
    partners = {one: other, other: one}
    while True:
        ready, _, _ = select.select(list(partners), [], [], 20)
        if not ready:
            return
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            partners[source].sendall(data)


@contextlib.contextmanager
def running_proxy(user: str = "") -> Iterator[Proxy]:
    """Run a proxy while the body runs."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server((HOST, 0), _ProxyRequest) as server:
        server.proxy = proxy = Proxy(server.server_address[1], user)  # type: ignore[attr-defined]
        with _serving(server):
            yield proxy


_KEYRING = """\
#!{python} -S
import argparse, json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "keyring.log"), "a") as log:
    log.write(repr(sys.argv[1:]) + chr(10))
parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["password", "creds"], default="password")
parser.add_argument("--output", choices=["plain", "json"], default="plain")
parser.add_argument("operation", choices=["get"])
parser.add_argument("service")
parser.add_argument("username", nargs="?")
asked = parser.parse_args()
place, user, password = json.load(open(os.path.join(here, "keyring.data")))
if place not in asked.service or asked.username not in (user, None if asked.mode == "creds" else user):
    sys.exit(1)
if asked.mode == "password":
    print(password)
elif asked.output == "json":
    print(json.dumps({{"username": user, "password": password}}))
else:
    print(user, password, sep=chr(10))
"""


def fake_keyring(directory: Path, place: str, user: str, password: str) -> Path:
    """Write a program ``keyring`` into ``directory``, with the command line of the program of that name, that knows one
    password; return the log of its calls. The password lies in the file ``keyring.data`` beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "keyring"
    program.write_text(_KEYRING.format(python=sys.executable), encoding="utf-8")
    (directory / "keyring.data").write_text(json.dumps([place, user, password]), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return directory / "keyring.log"


_SPY = """\
import os, sys
_log, _secret = os.environ["MFBAZEL_TEST_SPY"], open(os.environ["MFBAZEL_TEST_SECRET"], "rb").read()
def _note(kind, value):
    with open(_log, "a", encoding="utf-8", errors="replace") as stream:
        stream.write(kind + " " + repr(value) + chr(10))
def _look(path):
    paths = [os.path.join(d, f) for d, _, files in os.walk(path) for f in files] or [path]
    for path in paths:
        try:
            with open(path, "rb") as stream:
                if _secret in stream.read():
                    _note("FILE", path)
        except OSError:
            pass
def _hook(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"):
        _note("ARGV", arguments[:2])
    elif event in ("shutil.rmtree", "os.remove"):
        _look(os.fsdecode(arguments[0]))
_note("ARGV", sys.orig_argv)
sys.addaudithook(_hook)
"""


@dataclass
class Spy:
    """Watches every Python process below for ``secret``: command lines, and files that are removed again."""

    directory: Path
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the variables that make Python processes report."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "sitecustomize.py").write_text(_SPY, encoding="utf-8")
        (self.directory / "secret").write_text(self.secret, encoding="utf-8")
        return {
            "PYTHONPATH": os.pathsep.join([str(self.directory), *(path or str(Path.cwd()) for path in sys.path)]),
            "MFBAZEL_TEST_SPY": str(self.directory / "log"),
            "MFBAZEL_TEST_SECRET": str(self.directory / "secret"),
        }

    def lines(self) -> list[str]:
        """Return what was noted."""
        return (self.directory / "log").read_text(encoding="utf-8").splitlines()

    def check(self, *directories: Path, own: Sequence[Path] = ()) -> None:
        """Fail when the secret was on a command line, or in a file: one that was removed, or one that is below
        ``directories``; ``own``: the files that hold it on purpose."""
        lines = self.lines()
        assert any(line.startswith("ARGV") for line in lines)
        assert not [line for line in lines if line.startswith("FILE") or self.secret in line]
        allowed = {*own, self.directory / "secret"}
        found = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
        assert found
        assert not [path for path in found if path not in allowed and self.secret.encode() in path.read_bytes()]


def forget_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away every configuration of indexes; caches and configuration files lie below ``home``."""
    for name in list(os.environ):
        upper = name.upper()
        if upper.startswith(("PIP_", "UV_", "BUILD_WORKSPACE", "SSL_CERT", "SSL_CLIENT")) or upper.endswith(
            ("_PROXY", "_CA_BUNDLE")
        ):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR", "TMPDIR"):
        (home / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(home / name))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
