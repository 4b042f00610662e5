"""Asking the web servers of indexes about wheels, with pip's certificates, proxy and credentials.

Downloads are pip's business (:mod:`mfbazel.wheel.fetch`). Here are only the small questions that save one: how large a
wheel is, and what its archive lists. Whatever cannot be asked so is downloaded, so that no answer is no failure.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

from mfbazel.lock.resolver.indexes import Credentials
from mfbazel.wheel.pip_environment import certificates, pip_settings

_TIMEOUT_SECONDS = 20.0
_BLOCK = 1 << 16


class NoAnswerError(Exception):
    """The web server does not tell: unreachable, refused, no ranges, or no wheel."""


@dataclass
class Web:
    """Web servers, reached as pip would; one that could not be reached is not asked again.

    ``environment``: variables (default: those of this process).
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _unreachable: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def _settings(self) -> dict[str, str]:
        with self._lock:  # asking pip takes a process: not one per thread
            return self.__dict__.get("_settings") or pip_settings()

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        return self._make_opener(self._tls)

    @cached_property
    def _trusting_opener(self) -> urllib.request.OpenerDirector:
        """For the hosts that pip is told to trust."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return self._make_opener(context)

    def _make_opener(self, context: ssl.SSLContext) -> urllib.request.OpenerDirector:
        proxy = self._settings.get("proxy", "")
        proxies = {"http": proxy, "https": proxy} if proxy else None
        return urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler(proxies)
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        files = certificates(self._settings, self.environment)
        try:
            context = ssl.create_default_context(cafile=str(files[0]) if files else None)
            for file in files[1:]:
                context.load_verify_locations(file)
            client = self._settings.get("client-cert") or self.environment.get("SSL_CLIENT_CERT")
            if client:
                context.load_cert_chain(client)
        except OSError:
            return ssl.create_default_context()
        return context

    @cached_property
    def _credentials(self) -> Credentials:
        return Credentials(self._settings, self.environment)

    def open(self, url: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Send a request; ``headers`` with ``_`` for ``-``.

        Raises:
            NoAnswerError: there is no answer, or it is an error.
        """
        if not url.startswith(("http://", "https://")):
            raise NoAnswerError(url.partition(":")[0])
        try:
            parts = urlsplit(url)
            user, _, place = parts.netloc.rpartition("@")
            if place in self._unreachable:
                raise NoAnswerError("unreachable")
            request = urllib.request.Request(urlunsplit(parts._replace(netloc=place)), method=method)
            request.add_header("Accept-Encoding", "identity")
            for name, value in headers.items():
                request.add_header(name.replace("_", "-"), value)
            known = unquote(user) if ":" in user else self._credentials.of(place)
            if known:
                # Not sent on when the server redirects to another one.
                token = base64.b64encode(known.encode()).decode("ascii")
                request.add_unredirected_header("Authorization", f"Basic {token}")
            trusted = {parts.hostname, place} & set(self._settings.get("trusted-host", "").split())
            opener = self._trusting_opener if trusted else self._opener
            response = cast(http.client.HTTPResponse, opener.open(request, timeout=_TIMEOUT_SECONDS))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
                self._unreachable.add(urlsplit(url).netloc.rpartition("@")[2])
            raise NoAnswerError(type(error).__name__) from error
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if encoded or response.headers.get_content_type() == "text/html":  # a login page
            response.close()
            raise NoAnswerError("no file")
        return response

    def size(self, url: str) -> int | None:
        """Return the length in bytes that the web server gives for ``url`` (HTTP HEAD), or ``None``."""
        try:
            with self.open(url, "HEAD") as response:
                length = response.headers.get("Content-Length", "")
        except NoAnswerError:
            return None
        return int(length) if length.isdigit() and int(length) > 0 else None


class RangedFile(io.RawIOBase):
    """A file on a web server of which only what is read is transferred (RFC 9110, range requests).

    Made for archives, whose directory is at the end: the last 64 KiB are asked for first. Blocks are kept.
    """

    def __init__(self, web: Web, url: str, size: int) -> None:
        """Take the file ``url`` of ``size`` bytes.

        Raises:
            NoAnswerError: as every later read: there is no answer, or the server does not know ranges.
        """
        super().__init__()
        self._web, self._url, self._size = web, url, size
        self._position = 0
        self._blocks: dict[int, bytes] = {}
        self._ask(max(0, size - _BLOCK), size)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See :meth:`io.IOBase.seek`."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end of a block; see :meth:`io.RawIOBase.readinto`."""
        begin = self._position
        if begin >= self._size:
            return 0
        start = next((start for start, block in self._blocks.items() if start <= begin < start + len(block)), None)
        if start is None:
            # Up to what is there already.
            limit = min((other for other in self._blocks if other > begin), default=self._size)
            start = begin
            self._ask(begin, min(limit, begin + max(len(buffer), _BLOCK)))
        part = self._blocks[start][begin - start : begin - start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _ask(self, begin: int, end: int) -> None:
        with self._web.open(self._url, Range=f"bytes={begin}-{end - 1}") as response:
            expected = f"bytes {begin}-{end - 1}/{self._size}"
            if response.status != http.HTTPStatus.PARTIAL_CONTENT or response.headers["Content-Range"] != expected:
                raise NoAnswerError("no ranges")
            try:
                block = response.read(end - begin)
            except (OSError, http.client.HTTPException) as error:
                raise NoAnswerError(type(error).__name__) from error
        if len(block) != end - begin:
            raise NoAnswerError("cut off")
        self._blocks[begin] = block
