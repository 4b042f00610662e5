"""HTTP as registries need it: schemes, proxies, certificates, redirects, retries, and a limit for all of it."""

from __future__ import annotations

import email.utils
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from mfbazel.registry.credentials import DOCKER_HUB
from mfbazel.registry.errors import INSECURE_VARIABLE, Failure, Kind
from mfbazel.registry.parsing import join, read_number, server_of
from mfbazel.registry.reference import is_loopback
from mfbazel.registry.tls import Adapter, TrustingAdapter

_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_CONNECT_SECONDS = 10.0
_SEND_SECONDS = 60.0  # for a block of a body to be taken
_ATTEMPTS = 4
_FIRST_PAUSE = 0.2  # seconds; doubled each time
LONGEST_PAUSE = 120.0
"""Seconds; who asks to wait for longer is not waited for."""
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that another attempt may not get."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_CONNECTIONS = 16
_CHUNK = 1 << 16
_DEEPEST = 50  # exceptions looked at for a reason
_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
_OTHER_TIME = ("certificate has expired", "certificate is not yet valid")
_SENT_TO_TLS = 400  # what TLS servers answer to plain HTTP, where they answer


class Deadline:
    """The moment at which an operation has taken too long.

    Attributes:
        seconds: the whole limit.
    """

    def __init__(self, seconds: float) -> None:
        """Let the limit of ``seconds`` begin now."""
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self._at - time.monotonic())

    def check(self) -> None:
        """Raise a :class:`Failure` when nothing is left."""
        if self.remaining() <= 0:
            raise Failure(Kind.TIMEOUT, f"no answer within {self.seconds:g} s")


class Body:
    """What a request sends, read while it is sent.

    Attributes:
        size: in bytes.
    """

    def __init__(self, size: int, start: Callable[[], BinaryIO], on_read: Callable[[int], None]) -> None:
        """Prepare; nothing is opened.

        Args:
            size: how many bytes are sent.
            start: opens the content at the first of them; called once for each time it is sent.
            on_read: called with the number of bytes that go out; what it raises ends the request.
        """
        self.size = size
        self._start = start
        self._on_read = on_read

    def open(self) -> _Sending:
        """Return what requests reads."""
        return _Sending(self.size, self._start(), self._on_read)


class _Sending:
    """A part of a file as requests wants it: with a length, and iterable, or it would be form data."""

    def __init__(self, size: int, stream: BinaryIO, on_read: Callable[[int], None]) -> None:
        self._size = self._left = size
        self._stream = stream
        self._on_read = on_read

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(_CHUNK):
            yield data

    def read(self, amount: int = -1) -> bytes:
        """Return at most ``amount`` of the bytes that are left."""
        data = self._stream.read(self._left if amount < 0 else min(amount, self._left))
        self._left -= len(data)
        self._on_read(len(data))
        return data

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: such as ``GET``.
        url: absolute.
        headers: without ``Authorization``.
        body: what is sent, or ``None``.
        authorization: the header's value; only sent to the origin of ``url``.
        limit: the most bytes that the answer may have.
        once: whether it must not be sent again after what passes.
        patience: seconds to wait for the answer to begin, once all is sent.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body | None = None
    authorization: str | None = field(default=None, repr=False)
    limit: int = 4 << 20
    once: bool = False
    patience: float = math.inf


@dataclass(frozen=True)
class Answer:
    """What came back: ``status``, ``headers`` (names in any case), the whole ``body`` and the ``url`` that gave it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Pace:
    """Lets requests of several threads begin at most so often."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, deadline: Deadline) -> None:
        """Wait for this request's turn.

        Raises:
            Failure: it comes after the deadline.
        """
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            if turn - now > deadline.remaining():
                raise Failure(Kind.TIMEOUT, "too many requests wait for their turn")
            self._next = turn + self._interval
        time.sleep(turn - now)


class Transport:
    """Requests to one registry, and to where it redirects.

    It may be used by several threads.

    Attributes:
        host: the registry, as its references name it.
        insecure: whether plain HTTP and unverifiable certificates are allowed; they are when
            ``MFBAZEL_INSECURE_REGISTRIES`` names the host.
    """

    def __init__(self, host: str, insecure: bool = False, pace: Pace | None = None) -> None:
        """Prepare, without any request; ``pace`` says when each may begin.

        Raises:
            Failure: a certificate that is kept for the host cannot be used.
        """
        self.host = host
        self._pace = pace
        self.insecure = insecure or host in os.environ.get(INSECURE_VARIABLE, "").replace(" ", "").split(",")
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        if self.insecure:  # which the user asked for
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        plain = Adapter(pool_maxsize=_CONNECTIONS)
        self._session.mount("https://", plain if self.insecure else TrustingAdapter(host, pool_maxsize=_CONNECTIONS))
        self._session.mount("http://", plain)
        self._origin: str | None = None
        self._choosing = threading.Lock()

    def allows(self, url: str) -> bool:
        """Whether ``url`` may be spoken to: TLS, or plain HTTP where that is allowed.

        On loopback it is for a registry on loopback; another one must not lead to what only this machine can ask.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        own = is_loopback(self.host) and is_loopback(parts.netloc)
        return parts.scheme == "https" or (parts.scheme == "http" and (self.insecure or own))

    def is_own(self, url: str, deadline: Deadline) -> bool:
        """Whether ``url`` is of the registry's API, which alone gets its credentials.

        Raises:
            Failure: see :meth:`origin`.
        """
        server = server_of(url)
        return server is not None and server == server_of(self.origin(deadline))

    def origin(self, deadline: Deadline) -> str:
        """Return ``scheme://host[:port]`` of the registry's API.

        TLS, without asking, for hosts that may be spoken to in no other way. On loopback plain HTTP is tried first, and
        for hosts that are allowed to have no TLS last; nothing secret is sent for that.

        Raises:
            Failure: it cannot be reached.
        """
        host = _API_HOSTS.get(self.host, self.host)
        loopback = is_loopback(host)
        if not (loopback or self.insecure):
            return f"https://{host}"
        with self._choosing:
            if self._origin is None:
                schemes = ("http", "https") if loopback else ("https", "http")
                self._origin = self._answering([f"{scheme}://{host}" for scheme in schemes], deadline)
        return self._origin

    def exchange(self, request: Request, deadline: Deadline) -> Answer:
        """Send a request, follow redirects, and try again after what passes; return the last answer.

        Raises:
            Failure: there is no answer within the limit, no connection, or an answer that is too large.
        """
        for pause in (None,) if request.once else _pauses():
            try:
                answer = self._follow(request, deadline)
            except Failure as failure:
                if failure.kind is not Kind.UNREACHABLE or pause is None or pause >= deadline.remaining():
                    raise
            else:
                if answer.status not in PASSING or pause is None:
                    return answer
                pause = max(pause, asked_pause(answer))
                if pause > LONGEST_PAUSE or pause >= deadline.remaining():
                    return answer
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _answering(self, origins: list[str], deadline: Deadline) -> str:
        """Return the first of two origins that answers."""
        first, second = origins
        refused: Failure | None = None
        try:
            if self._once(Request("GET", f"{first}/v2/"), deadline).status != _SENT_TO_TLS:
                return first
        except Failure as failure:
            if failure.kind is Kind.TIMEOUT:
                raise
            refused = failure
        try:
            self._once(Request("GET", f"{second}/v2/"), deadline)
        except Failure as failure:
            of_tls = failure.kind in (Kind.TLS, Kind.CLOCK)
            if refused is None and not of_tls:
                return first
            raise (failure if of_tls or refused is None else refused) from None
        return second

    def _follow(self, request: Request, deadline: Deadline) -> Answer:
        """Send a request and follow its redirects; credentials stay with the first origin."""
        answer = self._once(request, deadline)
        for _ in range(_MOST_REDIRECTS):
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location or request.method not in ("GET", "HEAD"):
                return answer
            request = self._redirected(request, location)
            answer = self._once(request, deadline)
        raise Failure(Kind.MALFORMED, f"it redirects more than {_MOST_REDIRECTS} times")

    def stream(self, request: Request, deadline: Deadline) -> requests.Response:
        """Send a request once and follow its redirects; return the last answer, whose body the caller reads and closes.

        Raises:
            Failure: there is no answer within the limit, or no connection.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            deadline.check()
            response = self._open(request, None, _CONNECT_SECONDS, deadline)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            request = self._redirected(request, location)
        raise Failure(Kind.MALFORMED, f"it redirects more than {_MOST_REDIRECTS} times")

    def _redirected(self, request: Request, location: str) -> Request:
        """Return the request that follows a redirect; credentials stay with the first origin."""
        url = join(request.url, location)
        if not self.allows(url):
            raise Failure(Kind.MALFORMED, f"it redirects to {_without_query(url)}, which is not https")
        server = server_of(url)
        same = server is not None and server == server_of(request.url)
        return replace(request, url=url, body=None, authorization=request.authorization if same else None)

    def _once(self, request: Request, deadline: Deadline) -> Answer:
        """Send one request and read the answer."""
        deadline.check()
        streamed = isinstance(request.body, Body)
        with closing(request.body.open()) if isinstance(request.body, Body) else nullcontext(request.body) as data:
            return self._send(request, data, _SEND_SECONDS if streamed else _CONNECT_SECONDS, deadline)

    def _send(self, request: Request, data: bytes | _Sending | None, patience: float, deadline: Deadline) -> Answer:
        """Send one request with the body ``data``; ``patience`` is for connecting, and for each block of the body."""
        with self._open(request, data, patience, deadline) as response:
            return read_answer(response, request.url, request.limit, deadline)

    def _open(
        self, request: Request, data: bytes | _Sending | None, patience: float, deadline: Deadline
    ) -> requests.Response:
        """Send one request; the answer's body is not read."""
        if self._pace:
            self._pace.wait(deadline)
        hostname = urlsplit(request.url).hostname or ""
        remaining = deadline.remaining()
        try:
            return self._session.request(
                request.method,
                request.url,
                headers={"Accept-Encoding": "identity", "User-Agent": "mfbazel", **request.headers},
                data=data,
                auth=_Authorization(request.authorization),
                timeout=(min(patience, remaining), min(request.patience, remaining)),
                allow_redirects=False,
                stream=True,
                # requests would take a proxy to loopback, which no other client of registries does.
                proxies={"no_proxy": hostname} if is_loopback(urlsplit(request.url).netloc) else None,
                verify=False if self.insecure else None,
            )
        except (OSError, urllib3.exceptions.HTTPError) as error:  # requests' are of the former, and it passes on some
            raise _failure(error, deadline) from None


def read_answer(response: requests.Response, url: str, limit: int, deadline: Deadline) -> Answer:
    """Read what ``url`` answered, at most ``limit`` bytes.

    Raises:
        Failure: there is more, the connection is lost, or the time is over.
    """
    try:
        body = _read(response, limit, deadline)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise _failure(error, deadline) from None
    return Answer(response.status_code, CaseInsensitiveDict(response.headers), body, url)


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read their whole bodies, to say where they lead."""

    def resolve_redirects(self, *_: Any, **_options: Any) -> Iterator[Any]:
        """See requests."""
        return iter(())


class _Authorization(requests.auth.AuthBase):
    """Sets the header, so that requests looks for nothing in ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value:
            prepared.headers["Authorization"] = self._value
        return prepared


def asked_pause(answer: Answer) -> float:
    """Return the seconds that ``Retry-After`` asks to wait (RFC 9110, 10.2.3), 0 when it asks for nothing."""
    value = answer.headers.get("Retry-After", "").strip()
    if (seconds := read_number(value)) is not None:
        return float(seconds)
    # A moment is one of the registry's clock, and so is Date; this machine's may differ.
    moment = _moment(value)
    now = _moment(answer.headers.get("Date", ""))
    return max(0.0, moment - (time.time() if now is None else now)) if moment else 0.0


def _moment(text: str) -> float | None:
    """Return the seconds since 1970 of an HTTP date, ``None`` when it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _pauses() -> Iterator[float | None]:
    """Yield how long to wait after each attempt, ``None`` after the last."""
    for attempt in range(_ATTEMPTS - 1):
        yield _FIRST_PAUSE * 2**attempt * random.uniform(0.75, 1.25)
    yield None


def _read(response: requests.Response, limit: int, deadline: Deadline) -> bytes:
    """Read the body, within the limits of size and time, however slowly it comes."""
    data = bytearray()
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        data += chunk
        if len(data) > limit:
            raise Failure(Kind.MALFORMED, f"the answer has more than {limit} bytes")
        deadline.check()
    return bytes(data)


def _failure(error: Exception, deadline: Deadline) -> Failure:
    """Turn an exception of requests, or of what is below, into a failure."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        kind = Kind.PLAIN_HTTP if any(code in text for code in _PLAIN_HTTP) else Kind.TLS
        return Failure(Kind.CLOCK if any(words in text for words in _OTHER_TIME) else kind, _reason(error))
    if isinstance(error, requests.Timeout) or "timed out" in text:
        within = f" within {deadline.seconds:g} s" if deadline.remaining() <= 0 else ": the connection timed out"
        return Failure(Kind.TIMEOUT, f"no answer{within}")
    return Failure(Kind.UNREACHABLE, _reason(error))


def _reason(error: BaseException) -> str:
    """Return the operating system's words for a failure, where there are any below what requests wraps around them."""
    waiting: list[object] = [error]
    for _ in range(_DEEPEST):
        if not waiting:
            break
        inner = waiting.pop(0)
        if not isinstance(inner, BaseException):
            continue
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
        waiting += [getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__]
    return f"{type(error).__name__}: {error}"


def _without_query(url: str) -> str:
    """Return the address without what may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
