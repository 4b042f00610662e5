"""A small caching mirror of the user's package index on loopback, so that measurements are not of the network.

It asks the index as pip does, with pip's certificates, credentials and proxy, and each question once: whatever it has
been told it keeps on disk, pages and files alike. Links of pages lead back to the mirror. Where the index does not say
how long its answers may be kept, the mirror says what the public index says.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from pip._internal.commands import create_command
from pip._internal.commands.install import InstallCommand
from pip._internal.network.session import PipSession

_PAGES = ("text/html", "application/json", "application/vnd.pypi.simple.")
_LINK = re.compile(rb"""(?<=["'])https?://[^/"'<>\s]+(?=/)""")
_ORIGIN = re.compile(r"/~(\d+)(/.*)")
_KEPT = ("Content-Type", "Content-Range", "Accept-Ranges", "ETag", "Cache-Control", "X-PyPI-Last-Serial")
_ASKED = ("Accept", "Range")
_PAGE_AGE, _FILE_AGE = "max-age=600, public", "max-age=365000000, immutable, public"


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: Path


@dataclass
class Mirror:
    """What the index has answered.

    Attributes:
        directory: where the answers are kept.
        address: where the mirror is.
        index: path of the index there.
        others: how many indexes and places of files the user has configured besides the one that is mirrored.
        asked: how many requests have gone to the network, those included that did not come here but should have.
    """

    directory: Path
    address: str = ""
    index: str = ""
    others: int = 0
    asked: int = 0
    _origins: list[str] = field(default_factory=list)
    _answers: dict[tuple[str, ...], _Answer] = field(default_factory=dict)
    _asking: dict[tuple[str, ...], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # As pip-compile has it, with pip's certificates, credentials and proxy.
        command = create_command("install")
        assert isinstance(command, InstallCommand)
        options, _ = command.parse_args(["--no-cache-dir"])
        index = urlsplit(str(options.index_url))
        self._session: PipSession = command._build_session(options)
        self.index = index.path
        self._origins.append(f"{index.scheme}://{index.netloc}")
        self.others = len(options.extra_index_urls) + len(options.find_links)

    def count(self) -> None:
        """Count a request to the network."""
        with self._lock:
            self.asked += 1

    def answer(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        """Return what the index answers to a request, by asking it when that was never asked before."""
        key = (method, path, *headers.values())
        with self._lock:
            asking = self._asking[key]
        with asking:
            answer = self._answers.get(key) or self._ask(method, path, headers)
            if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._answers[key] = answer
            return answer

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        self.count()
        match = _ORIGIN.fullmatch(path)
        url = self._origins[int(match[1])] + match[2] if match else self._origins[0] + path
        wanted = {"Accept-Encoding": "identity", "Connection": "keep-alive", **headers}
        with self._session.request(method, url, headers=wanted, stream=True) as response:
            kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
            body = self.directory / _digest(repr((method, path, headers)).encode())
            with body.open("wb") as file:
                shutil.copyfileobj(response.raw, file, 1 << 20)
        page = kept.get("Content-Type", "").startswith(_PAGES)
        if page:
            body.write_bytes(_LINK.sub(self._here, body.read_bytes()))
        length = response.headers.get("Content-Length", "0") if method == "HEAD" else str(body.stat().st_size)
        kept["Content-Length"] = length
        if response.status_code < HTTPStatus.BAD_REQUEST:
            kept.setdefault("ETag", f'"{_digest(body.read_bytes() if page else path.encode())}"')
            kept.setdefault("Cache-Control", _PAGE_AGE if page else _FILE_AGE)
        return _Answer(response.status_code, kept, body)

    def _here(self, link: re.Match[bytes]) -> bytes:
        origin = link[0].decode()
        with self._lock:
            if origin not in self._origins:
                self._origins.append(origin)
            return f"{self.address}/~{self._origins.index(origin)}".encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def mirrored(directory: Path) -> Iterator[Mirror]:
    """Serve a mirror on a free port of loopback; answers are kept in ``directory``."""
    mirror = Mirror(directory)

    class Handler(_Handler):
        source = mirror

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield mirror
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    source: Mirror

    def do_GET(self) -> None:
        headers = {name: value for name in _ASKED if (value := self.headers[name])}
        answer = self.source.answer(self.command, self.path, headers)
        fresh = answer.headers.get("ETag") in self.headers.get("If-None-Match", "").split(", ")
        self.send_response(HTTPStatus.NOT_MODIFIED if fresh else answer.status)
        for name, value in answer.headers.items():
            if not fresh or not name.startswith("Content-"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        if self.command == "GET" and not fresh:
            with answer.body.open("rb") as file:
                self.connection.sendfile(file)

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        """Refuse to be the proxy for a request that leads elsewhere."""
        self.source.count()
        self.send_error(HTTPStatus.BAD_GATEWAY)

    def log_message(self, format: str, *args: object) -> None:
        pass
