"""A proxy before a registry that lets things go wrong on purpose, and counts what arrived.

It passes bodies on as they come, so that a registry has a part of a blob when the connection is cut. It asks for
credentials, speaks TLS, and can keep upload sessions over a cut, which neither of the registries behind it does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from bench.push_rig import LoopbackHandler

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "expect", "te", "trailer", "upgrade"}
_PIECE = 1 << 16
_UNREAD = 256 << 10  # bytes of a body that Go's server still reads when it has answered already
_LINGER = 0.5  # seconds that it waits then, so that the client can read the answer
_HEAD = 1024  # bytes of an upload that say which blob it is
_UPLOAD = re.compile(r"^/v2/(?P<repository>.+)/blobs/uploads/(?P<session>[^/?]*)$")
_SOCKET_SECONDS = 60.0


@dataclass(frozen=True)
class Cut:
    """The connections to both sides end: by RST, or by FIN."""

    reset: bool = True


@dataclass(frozen=True)
class Reply:
    """The proxy answers itself; a large body is left unread, as Go's server does."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Wait:
    """Nothing happens for some ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Slow:
    """The rest of the request's body, or of the ``answer``, passes at ``rate`` bytes a second."""

    rate: int
    answer: bool = False


@dataclass(frozen=True)
class LoseAnswer:
    """The registry gets the request and answers; the client's connection ends before it."""


@dataclass(frozen=True)
class Truncate:
    """The answer's body ends after ``length`` bytes, whatever its header says."""

    length: int


@dataclass(frozen=True)
class Change:
    """The answer has other ``headers``."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class Forget:
    """The registry has lost the upload session: all that asks for it is answered with 404."""


Action = Cut | Reply | Wait | Slow | LoseAnswer | Truncate | Change | Forget


@dataclass(frozen=True)
class Fault:
    """What happens to some of the requests.

    Attributes:
        action: what happens.
        method: regular expression that the method matches.
        path: regular expression, searched in path and query.
        nth: the first request that matches and is hit, from 1.
        times: how many are hit; 0 for all that follow.
        after: how many bytes of the body pass first; with a body that ends before, when it ends.
    """

    action: Action
    method: str = ".*"
    path: str = ""
    nth: int = 1
    times: int = 1
    after: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that is over.

    Attributes:
        method: such as ``PATCH``.
        path: with the query.
        status: what the client was told; 0 when it was told nothing.
        arrived: bytes of the body that the registry has got.
        fault: what happened to it, or ``None``.
        authorization: the header's value.
    """

    method: str
    path: str
    status: int
    arrived: int
    fault: Action | None
    authorization: str = field(repr=False)


@dataclass
class Session:
    """An upload session: ``arrived`` bytes for ``repository``, which began with ``head``.

    ``digest`` is known once the upload is finished; ``over``: it is no more, be it finished or ``lost``, with what had
    arrived. Where the proxy keeps sessions, ``upstream`` is the address of the registry's.
    """

    repository: str
    arrived: int = 0
    head: bytes = b""
    digest: str | None = None
    over: bool = False
    lost: bool = False
    upstream: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, piece: bytes) -> None:
        """Note what the registry has got."""
        self.arrived += len(piece)
        self.head += piece[: _HEAD - len(self.head)]


@dataclass(frozen=True)
class Asked:
    """What a guard decides by."""

    method: str
    path: str
    authorization: str
    body: Callable[[], bytes]


Guard = Callable[[Asked], Reply | None]
"""Answers a request instead of the registry, or lets it through."""


class FaultyProxy:
    """The proxy; a context manager.

    Attributes:
        host: where it listens, ``127.0.0.1:port``.
        guard: asks for credentials.
        seen: the requests that are over, in the order in which they ended.
        sessions: the upload sessions by their names.
        change_location: makes other addresses of those of uploads.
        on_event: called when a request comes, when a piece of a body has been passed on, and before an answer.
    """

    def __init__(
        self,
        upstream: str,
        *,
        tls: ssl.SSLContext | None = None,
        guard: Guard = lambda _: None,
        keeps_sessions: bool = False,
        whole_manifests: bool = False,
    ) -> None:
        """Bind a free port.

        Args:
            upstream: ``host:port`` of the registry, which speaks plain HTTP.
            tls: what to speak to clients instead of plain HTTP.
            guard: see the class.
            keeps_sessions: answer for uploads as the distribution specification has it ("Resuming an upload"): what
                arrived before a cut stays, GET tells how much that is, and a chunk has to begin there. The registry
                behind has to be docker's.
            whole_manifests: pass manifests on when all of them has come. Crane's registry keeps what it gets of one
                when the connection ends, and sets the tag to it.
        """
        self.upstream = upstream
        self.guard = guard
        self.keeps_sessions = keeps_sessions
        self.whole_manifests = whole_manifests
        self.tls = tls
        self.seen: list[Seen] = []
        self.sessions: dict[str, Session] = {}
        self.on_event: Callable[[], None] = lambda: None
        self.change_location: Callable[[str], str] = lambda location: location
        self._faults: list[Fault] = []
        self._matched: list[int] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.port = int(self._server.server_address[1])
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, *faults: Fault) -> None:
        """Let these faults happen from now on, instead of earlier ones; for a request the first that is due counts."""
        with self.lock:
            self._faults, self._matched = list(faults), [0] * len(faults)

    def forget(self) -> None:
        """Begin a new account of requests; sessions stay."""
        with self.lock:
            self.seen = []

    def hits(self) -> int:
        """How many requests a fault happened to."""
        with self.lock:
            return sum(seen.fault is not None for seen in self.seen)

    def of(self, method: str, path: str = "") -> list[Seen]:
        """Return the requests with this method whose path the regular expression is found in."""
        with self.lock:
            return [seen for seen in self.seen if seen.method == method and re.search(path, seen.path)]

    def arrived(self, blobs: Mapping[str, bytes], lost: bool = False) -> dict[tuple[str, str], int]:
        """Return the bytes that arrived, by repository and digest.

        Args:
            blobs: the contents by digest, by which uploads are known that were never finished; where their beginnings
                do not tell, the digest is empty.
            lost: count those in uploads that the registry has lost, too.
        """
        found: dict[tuple[str, str], int] = {}
        with self.lock:
            sessions = list(self.sessions.values())
        for session in (session for session in sessions if lost or not session.lost):
            digests = [session.digest] if session.digest else _beginning_with(session.head, blobs)
            key = session.repository, digests[0] if len(digests) == 1 else ""
            found[key] = found.get(key, 0) + session.arrived
        return found

    def twice(self, blobs: Mapping[str, bytes], lost: bool = False) -> int:
        """Return how many bytes of ``blobs`` (by digest) arrived again in a repository; see :meth:`arrived`."""
        arrived = self.arrived(blobs, lost)
        return sum(max(0, count - len(blobs[digest])) for (_, digest), count in arrived.items() if digest in blobs)

    def due(self, method: str, path: str) -> Fault | None:
        """Return the fault that happens to this request, and count."""
        found = None
        with self.lock:
            for index, fault in enumerate(self._faults):
                if not (re.fullmatch(fault.method, method) and re.search(fault.path, path)):
                    continue
                self._matched[index] += 1
                late = self._matched[index] - fault.nth
                if found is None and late >= 0 and (late < fault.times or not fault.times):
                    found = fault
        return found

    def session(self, path: str) -> Session | None:
        """Return the upload session that a path names, made when it is new."""
        match = _UPLOAD.match(urlsplit(path).path)
        if not match or not match["session"]:
            return None
        with self.lock:
            return self.sessions.setdefault(match["session"], Session(match["repository"]))

    def note(self, seen: Seen) -> None:
        """Keep a request that is over."""
        with self.lock:
            self.seen.append(seen)

    def _handler(self) -> type[_Handler]:
        proxy = self

        class Handler(_Handler):
            def setup(self) -> None:
                self.proxy = proxy
                super().setup()

        return Handler


def _beginning_with(head: bytes, blobs: Mapping[str, bytes]) -> list[str]:
    return [digest for digest, content in blobs.items() if content.startswith(head)] if head else []


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that end."""


class _GoneError(Exception):
    """The connection to the client has ended, by its doing or ours."""


class _Handler(LoopbackHandler):
    """One connection of a client."""

    proxy: FaultyProxy
    timeout = _SOCKET_SECONDS

    def setup(self) -> None:
        """Begin TLS, on this connection's own thread."""
        if self.proxy.tls:
            self.request = self.proxy.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            self.request.settimeout(_SOCKET_SECONDS)
            self.request.do_handshake()
        super().setup()

    def handle_one_request(self) -> None:
        """Answer one request; nobody can peek at a TLS connection."""
        try:
            if isinstance(self.connection, ssl.SSLSocket):
                super(LoopbackHandler, self).handle_one_request()
            else:
                super().handle_one_request()
        except _GoneError:
            self.close_connection = True

    def answer(self) -> None:
        """See the class."""
        _Exchange(self).run()

    def cut(self, reset: bool) -> None:
        """End the connection at once.

        Raises:
            _GoneError: always.
        """
        self.close_connection = True
        with contextlib.suppress(OSError):
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            os.close(self.connection.detach())  # the files of the handler would keep it open
        self.rfile, self.wfile = io.BufferedReader(io.BytesIO()), io.BytesIO()
        raise _GoneError

    def pieces(self) -> Iterator[bytes]:
        """Yield the request's body as it comes.

        Raises:
            _GoneError: the client has gone before its end.
        """
        try:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                yield from self._read(int(self.headers.get("Content-Length") or 0))
                return
            while size := int(self.rfile.readline().split(b";")[0] or b"x", 16):
                yield from self._read(size)
                self.rfile.readline()
            self.rfile.readline()
        except (OSError, ValueError):
            raise _GoneError from None

    def _read(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read1(min(left, _PIECE))
            if not piece:
                raise _GoneError
            left -= len(piece)
            yield piece

    def head(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Send the beginning of an answer."""
        try:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if length is not None:
                self.send_header("Content-Length", str(length))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
        except OSError:
            raise _GoneError from None


class _Exchange:
    """One request, from the client to the registry, and the answer back."""

    def __init__(self, client: _Handler) -> None:
        self.client = client
        self.proxy = client.proxy
        self.method, self.path = client.command, client.path
        self.session = self.proxy.session(self.path)
        self.fault: Fault | None = None
        self.status = 0
        self.arrived = 0
        self.body = client.pieces()

    def run(self) -> None:
        """Do it, and note it."""
        authorization = self.client.headers.get("Authorization", "")
        try:
            with self.session.lock if self.session else contextlib.nullcontext():
                self._run(authorization)
        finally:
            action = self.fault.action if self.fault else None
            self.proxy.note(Seen(self.method, self.path, self.status, self.arrived, action, authorization))

    def _run(self, authorization: str) -> None:
        self.proxy.on_event()
        asked = Asked(self.method, self.path, authorization, lambda: b"".join(self.body))
        if reply := self.proxy.guard(asked):
            self._reply(reply)
            return
        self.fault = self.proxy.due(self.method, self.path)
        if self.fault and not self.fault.after:
            self._act(self.fault.action)
        if self.status:
            return
        if self.session and self.session.over:
            self._reply(_error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"))
        elif self.session and self.proxy.keeps_sessions:
            self._kept(self.session)
        else:
            self._pass_on(self.path)

    def _act(self, action: Action, abort: Callable[[], None] = lambda: None) -> None:
        """Let happen what happens before the answer; ``abort`` ends the connection to the registry."""
        match action:
            case Cut(reset):
                abort()
                self.client.cut(reset)
            case Reply():
                abort()
                self._reply(action)
            case Wait(seconds):
                time.sleep(seconds)
            case Forget() if self.session:
                abort()
                self.session.over = self.session.lost = True
                self._reply(_error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"))

    # To the registry.

    def _pass_on(self, path: str) -> None:
        """Pass the request on as it comes, and the answer back."""
        if self.proxy.whole_manifests and "/manifests/" in path:
            self.body = iter([b"".join(self.body)])
            if self.fault and self.fault.after:
                self._act(self.fault.action)
                self.fault = replace(self.fault, after=0)
            if self.status:
                return
        upstream = self._connect()
        lengths = [(name, self.client.headers[name]) for name in ("Content-Length", "Transfer-Encoding")]
        self._begin(upstream, self.method, path, [(name, value) for name, value in lengths if value])
        chunked = bool(lengths[1][1])
        try:
            self._pump(upstream, chunked, abort=lambda: _abort(upstream))
        except _GoneError:
            _abort(upstream)
            raise
        if self.status:
            return
        self._answer_of(upstream, path)

    def _connect(self) -> http.client.HTTPConnection:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=_SOCKET_SECONDS)
        try:
            upstream.connect()
        except OSError:
            self.client.close_connection = True  # announced, so that the client does not ask again on it meanwhile
            self._reply(Reply(502, {}, b"the registry does not run\n"))
            raise _GoneError from None
        return upstream

    def _begin(
        self,
        upstream: http.client.HTTPConnection,
        method: str,
        path: str,
        lengths: Sequence[tuple[str, str]],
    ) -> None:
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.client.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        if self.proxy.tls:
            upstream.putheader("X-Forwarded-Proto", "https")
        for name, value in lengths:
            upstream.putheader(name, value)
        upstream.endheaders()

    def _pump(self, upstream: http.client.HTTPConnection, chunked: bool, abort: Callable[[], None]) -> None:
        """Pass the body on; what a fault does within it happens there."""
        due = self.fault if self.fault and self.fault.after else None
        rate = _rate(self.fault, answer=False)
        for whole in self.body:
            piece = whole
            while due and self.arrived + len(piece) >= due.after:
                first = due.after - self.arrived
                self._send(upstream, piece[:first], chunked)
                piece, acted, due = piece[first:], due.action, None
                self._act(acted, abort)
                if self.status:
                    return
            if not self._send(upstream, piece, chunked):
                return  # the registry has answered already
            if rate and not due:
                time.sleep(len(piece) / rate)
        if due:
            self._act(due.action, abort)
        if chunked and not self.status:
            with contextlib.suppress(OSError):
                upstream.send(b"0\r\n\r\n")

    def _send(self, upstream: http.client.HTTPConnection, piece: bytes, chunked: bool) -> bool:
        """Send a piece; return whether the registry still listens."""
        if not piece:
            return True
        try:
            upstream.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        except OSError:
            return False
        self.arrived += len(piece)
        if self.session:
            self.session.count(piece)
        self.proxy.on_event()
        return True

    # Back to the client.

    def _answer_of(self, upstream: http.client.HTTPConnection, path: str) -> None:
        """Pass the registry's answer back."""
        try:
            answer = upstream.getresponse()
        except (OSError, http.client.HTTPException):
            self._reply(Reply(502, {}, b"the registry went away\n"))
            return
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = answer.getheader("Content-Length")
        body = b"" if self.method == "HEAD" else answer.read()
        upstream.close()
        self._finish(answer.status, headers, body, int(length) if length and self.method == "HEAD" else None, path)

    def _finish(self, status: int, headers: dict[str, str], body: bytes, length: int | None, path: str) -> None:
        """Send an answer that the registry gave, as the fault leaves it."""
        self._learn(status, path)
        self.proxy.on_event()
        if self.proxy.keeps_sessions and self.method == "POST" and status == 202:
            headers["Location"] = self._keep(headers["Location"])
        if self.method == "POST" and "Location" in headers:
            headers["Location"] = self.proxy.change_location(headers["Location"])
        action = self.fault.action if self.fault else None
        if isinstance(action, LoseAnswer):
            self.client.cut(reset=True)
        if isinstance(action, Change):
            headers |= action.headers
        self.status = status
        self._drain()
        self.client.head(status, headers.items(), None if status == 204 else len(body) if length is None else length)
        rate = _rate(self.fault, answer=True)
        if isinstance(action, Truncate):
            self._write(body[: action.length])
            self.client.cut(reset=False)
        size = max(1, rate // 10) if rate else _PIECE
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            self._write(piece)
            time.sleep(len(piece) / rate if rate else 0)

    def _learn(self, status: int, path: str) -> None:
        """Note which blob an upload was."""
        digest = parse_qs(urlsplit(path).query).get("digest", [""])[0]
        if self.session and self.method == "PUT" and status == 201:
            self.session.digest, self.session.over = digest, True
        elif self.session and (status == 404 or status >= 500):  # it does not keep what it fails to store
            self.session.lost = True
        elif self.method == "POST" and digest and status == 201 and (match := _UPLOAD.match(urlsplit(path).path)):
            with self.proxy.lock:
                name = f"POST {len(self.proxy.sessions)}"
                self.proxy.sessions[name] = Session(match["repository"], self.arrived, digest=digest)

    def _write(self, data: bytes) -> None:
        try:
            self.client.wfile.write(data)
        except OSError:
            raise _GoneError from None

    def _reply(self, reply: Reply) -> None:
        """Answer instead of the registry."""
        self.status = reply.status
        unread = self._drain()
        self.client.head(reply.status, reply.headers.items(), len(reply.body))
        if self.method != "HEAD":
            self._write(reply.body)
        if unread:
            self._linger()

    def _drain(self) -> bool:
        """Read what is left of the body, but not much; return whether there is more."""
        left = _UNREAD
        for piece in self.body:
            left -= len(piece)
            if left <= 0:
                self.client.close_connection = True
                return True
        return False

    def _linger(self) -> None:
        """Let the client read the answer before its sending fails."""
        with contextlib.suppress(OSError):
            self.client.connection.shutdown(socket.SHUT_WR)
            self.client.connection.settimeout(_LINGER)
            end = time.monotonic() + _LINGER
            while time.monotonic() < end and self.client.connection.recv(_PIECE):
                pass

    # Upload sessions that outlive a cut.

    def _kept(self, session: Session) -> None:
        """Answer a request about an upload as the specification has it."""
        if self.method == "DELETE":
            session.over = session.lost = True
            self._finish(204, {}, b"", None, self.path)
            return
        if self.method in ("GET", "HEAD"):
            self._finish(204, self._state(session), b"", None, self.path)
            return
        begins = re.match(r"(\d+)-", self.client.headers.get("Content-Range", ""))
        if begins and int(begins[1]) != session.arrived:
            self._reply(Reply(416, self._state(session)))
            return
        gone = self._append(session)
        if gone:
            raise _GoneError
        if self.status:
            return
        if self.method == "PATCH":
            self._finish(202, self._state(session), b"", None, self.path)
            return
        query = urlsplit(self.path).query
        path = f"{session.upstream}{'&' if '?' in session.upstream else '?'}{query}"
        upstream = self._connect()
        self._begin(upstream, "PUT", path, [("Content-Length", "0")])
        self._answer_of(upstream, path)

    def _keep(self, location: str) -> str:
        """Keep the registry's address of a new upload; return the one for the client."""
        path = urlsplit(location).path
        session = self.proxy.session(path)
        assert session, location
        session.upstream = _path(location)
        return path

    def _append(self, session: Session) -> bool:
        """Give the body to the registry as one PATCH of what arrives; return whether the client has gone meanwhile."""
        first = next(self.body, b"")
        if not first:
            return False
        self.body = _chained(first, self.body)
        upstream = self._connect()
        del self.client.headers["Content-Range"]  # which docker's registry does not look at
        self._begin(upstream, "PATCH", session.upstream, [("Transfer-Encoding", "chunked")])
        ended: list[bool] = []

        def end() -> None:
            if not ended:
                ended.append(True)
                upstream.send(b"0\r\n\r\n")

        gone = False
        try:
            self._pump(upstream, chunked=True, abort=end)
        except _GoneError:
            gone = True
            with contextlib.suppress(OSError):
                end()
        status, location = 502, ""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = upstream.getresponse()
            answer.read()
            status, location = answer.status, answer.getheader("Location", "")
        upstream.close()
        if status == 202:
            session.upstream = _path(location)
            return gone
        session.over = session.lost = True  # its disk is full, or it has ended
        if not self.status and not gone:
            self._reply(Reply(status))
        return gone

    def _state(self, session: Session) -> dict[str, str]:
        return {
            "Location": urlsplit(self.path).path,
            "Range": f"0-{max(0, session.arrived - 1)}",
            "Docker-Upload-UUID": urlsplit(self.path).path.rpartition("/")[2],
        }


def _rate(fault: Fault | None, answer: bool) -> int:
    """Return how many bytes a second pass of the body, or of the ``answer``; 0 for all that come."""
    action = fault.action if fault else None
    return action.rate if isinstance(action, Slow) and action.answer == answer else 0


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _abort(upstream: http.client.HTTPConnection) -> None:
    """End the connection to the registry in the middle of a request."""
    with contextlib.suppress(OSError):
        upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    upstream.close()


def _path(location: str) -> str:
    parts = urlsplit(location)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _error(status: int, code: str, message: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, {"Content-Type": "application/json"}, body)


def basic_auth(username: str, password: str) -> Guard:
    """Let through who has this name and password."""
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def guard(asked: Asked) -> Reply | None:
        if asked.authorization == wanted:
            return None
        refusal = _error(401, "UNAUTHORIZED", "authentication required")
        return Reply(401, {"WWW-Authenticate": 'Basic realm="the registry"', **refusal.headers}, refusal.body)

    return guard


@dataclass
class TokenService:
    """A guard that wants bearer tokens, and gives them at ``/token`` of the proxy (docker's token authentication).

    Attributes:
        realm: the address of the service, e.g. ``http://127.0.0.1:1/token``.
        basic: the ``Authorization`` that it wants, empty for none.
        refresh_token: the identity token that a POST must bring, empty where only GET is answered.
        ends: the numbers of the requests, of those that had a token, with which all tokens expire that there are.
        expires_in: what it says of its tokens' seconds, which nothing is done about.
        issued_at: when it says that it has issued them, if it says so.
        given: the tokens so far.
    """

    realm: str = ""
    basic: str = ""
    refresh_token: str = ""
    ends: Collection[int] = ()
    expires_in: int = 300
    issued_at: str = ""
    given: list[str] = field(default_factory=list)
    _good: set[str] = field(default_factory=set)
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Reply | None:
        """See :data:`Guard`."""
        if urlsplit(asked.path).path == "/token":
            return self._give(asked)
        with self._lock:
            token = asked.authorization.removeprefix("Bearer ")
            if token in self._good:
                self._taken += 1
                if self._taken not in self.ends:
                    return None
                self._good.clear()
        match = re.match(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)/", asked.path)
        scope = f',scope="repository:{match[1]}:pull,push"' if match else ""
        refusal = _error(401, "UNAUTHORIZED", "authentication required")
        challenge = f'Bearer realm="{self.realm}",service="the registry"{scope}'
        return Reply(401, {"WWW-Authenticate": challenge, **refusal.headers}, refusal.body)

    def _give(self, asked: Asked) -> Reply:
        form = parse_qs(asked.body().decode() if asked.method == "POST" else urlsplit(asked.path).query)
        known = (
            asked.authorization == self.basic
            if asked.method == "GET"
            else bool(self.refresh_token) and form.get("refresh_token", [""])[0] == self.refresh_token
        )
        if not known:
            return Reply(401, {"Content-Type": "application/json"}, b'{"details":"incorrect username or password"}')
        with self._lock:
            token = f"t0ken-of-the-test-{len(self.given)}-{os.urandom(8).hex()}"
            self.given.append(token)
            self._good.add(token)
        content: dict[str, object] = {"token": token, "expires_in": self.expires_in}
        if self.issued_at:
            content["issued_at"] = self.issued_at
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(content).encode())
