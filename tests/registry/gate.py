"""A gate before a real registry: it asks for credentials, fails on purpose, and notes what was asked."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.push_rig import LoopbackHandler, find_crane, serve_registry
from mfbazel.registry.client import MANIFEST, digest_of

EMPTY = b"{}"
IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(EMPTY), "size": 2},
        "layers": [],
    }
).encode()
"""A manifest whose only blob is :data:`EMPTY`."""

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "host"}


@dataclass(frozen=True)
class Asked:
    """One request: ``authorization`` is the header's value, empty without."""

    method: str
    path: str
    authorization: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What the gate answers itself; after ``pause`` seconds."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0


Rule = Callable[[Asked], Reply | None]
"""Answers a request, or lets it through to the registry."""


class Gate:
    """A server on loopback before a registry.

    Attributes:
        host: ``127.0.0.1:port``.
        rule: may be replaced at any time.
        asked: all requests so far.
    """

    def __init__(self, upstream: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.rule: Rule = lambda _: None
        self.asked: list[Asked] = []
        self._upstream = upstream
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.socket.close()
        self._thread.join()

    def count(self, method: str, part: str = "") -> int:
        """Count the requests with this method whose path holds ``part``."""
        return sum(asked.method == method and part in asked.path for asked in self.asked)

    def _handler(self) -> type[LoopbackHandler]:
        gate = self

        class Handler(LoopbackHandler):
            def handle_one_request(self) -> None:
                if isinstance(self.connection, ssl.SSLSocket):  # at which nobody can peek
                    BaseHTTPRequestHandler.handle_one_request(self)
                else:
                    super().handle_one_request()

            def answer(self) -> None:
                asked = Asked(
                    self.command, self.path, self.headers.get("Authorization", ""), self.body(), dict(self.headers)
                )
                gate.asked.append(asked)
                reply = gate.rule(asked) or gate._pass_on(asked)
                time.sleep(reply.pause)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

        return Handler

    def _pass_on(self, asked: Asked) -> Reply:
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in _HOP_BY_HOP}
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        connection.request(asked.method, asked.path, asked.body or None, headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        if asked.method == "HEAD" and (length := answer.getheader("Content-Length")):
            kept["Content-Length"] = length
        connection.close()
        return Reply(answer.status, body, kept)


@contextmanager
def gate_before_a_registry(disk: Path, tls: ssl.SSLContext | None = None) -> Iterator[Gate]:
    """Run ``crane registry serve`` and a gate before it."""
    with serve_registry(find_crane(), disk) as upstream, Gate(upstream, tls) as gate:
        yield gate


def basic(username: str, password: str) -> Rule:
    """Let through who has this name and password."""
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def rule(asked: Asked) -> Reply | None:
        if asked.authorization == wanted:
            return None
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        return Reply(401, body, {"WWW-Authenticate": 'Basic realm="the registry"'})

    return rule


@dataclass
class TokenService:
    """Bearer tokens: the registry's answers and its token service in one, at ``/token`` of the gate.

    Attributes:
        gate: whose ``rule`` :meth:`rule` is.
        wanted: the ``Authorization`` that the service wants, empty for none.
        refresh_token: the identity token that a POST must bring.
        given: scopes, in order, that tokens were given for.
        valid: tokens that the registry takes.
    """

    gate: Gate
    wanted: str = ""
    refresh_token: str = ""
    given: list[list[str]] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    realm: str = ""
    name: str = "token"

    def rule(self, asked: Asked) -> Reply | None:
        """See :data:`Rule`."""
        if urlsplit(asked.path).path == "/token":
            return self._give(asked)
        if asked.authorization.removeprefix("Bearer ") in self.valid:
            return None
        realm = self.realm or f"http://{self.gate.host}/token"
        challenge = f'Bearer realm="{realm}",service="the registry",scope="repository:ml/x:pull"'
        return Reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": challenge})

    def _give(self, asked: Asked) -> Reply:
        form = parse_qs(asked.body.decode() if asked.method == "POST" else urlsplit(asked.path).query)
        refused = asked.authorization != self.wanted if asked.method == "GET" else False
        if refused or form.get("refresh_token", [""])[0] != self.refresh_token:
            return Reply(401, b'{"details":"incorrect username or password"}')
        assert form["service"] == ["the registry"]
        self.given.append([scope for text in form["scope"] for scope in text.split()])
        token = f"s3cret-token-{len(self.given)}"
        self.valid.add(token)
        return Reply(200, json.dumps({self.name: token, "expires_in": 60}).encode())


def without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file and no variable of the machine count."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
