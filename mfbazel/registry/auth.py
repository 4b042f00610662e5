"""Answering a registry that wants to know who asks: Basic (RFC 7617), and Bearer tokens of a token service.

The token service is docker's (distribution's "Token Authentication Specification" and "OAuth 2.0 authorization"), which
registries follow.
"""

from __future__ import annotations

import math
import re
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from mfbazel.registry.credentials import Credentials, find_credentials
from mfbazel.registry.errors import Failure, Kind
from mfbazel.registry.parsing import read_json
from mfbazel.registry.transport import Answer, Deadline, Request, Transport

_CLIENT_ID = "mfbazel"
_TOKEN_SECONDS = 60.0  # the specification's, where a service does not say
_LIFETIME_USED = 0.8  # of a token, before another one is asked for
# RFC 9110, 11.6.1: challenges, each a scheme and parameters, all separated by commas.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"({_TOKEN})\s*=\s*(?:\"((?:\\.|[^\"\\])*)\"|([^\s,\"]*))")
_SCHEME = re.compile(rf"({_TOKEN})(?=\s|,|$)")
_USABLE = re.compile(r"[\x21-\x7e]+")  # as a part of a header, RFC 6750, 2.1
_LONGEST = 10**9  # seconds
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Scope:
    """What a request needs.

    Attributes:
        path: the repository.
        writes: whether it is written to.
        source: another repository, which is read.
    """

    path: str
    writes: bool = False
    source: str | None = None

    def names(self) -> list[str]:
        """Return the scopes as a token service calls them."""
        own = f"repository:{self.path}:{'pull,push' if self.writes else 'pull'}"
        return [own, *([f"repository:{self.source}:pull"] if self.source else [])]


@dataclass(frozen=True)
class _Known:
    """A header's ``value`` that answers ``challenges``, and the moment (``time.monotonic``) from which it is no use."""

    value: str = field(repr=False)
    challenges: tuple[Challenge, ...]
    until: float = math.inf


@dataclass(frozen=True)
class Challenge:
    """One challenge: its ``scheme`` and ``parameters``, both with lowercase names."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Read a ``WWW-Authenticate`` header; what follows something that is not understood is left out."""
    challenges: list[Challenge] = []
    position = 0
    while (position := _BETWEEN.match(header, position).end()) < len(header):  # type: ignore[union-attr]
        if (parameter := _PARAMETER.match(header, position)) and challenges:
            value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
            challenges[-1].parameters[parameter[1].lower()] = value
            position = parameter.end()
        elif scheme := _SCHEME.match(header, position):
            challenges.append(Challenge(scheme[1].lower()))
            position = scheme.end()
        else:
            break
    return challenges


@dataclass(frozen=True)
class _Token:
    """A token's ``value``, and the ``seconds`` for which it is good."""

    value: str = field(repr=False)
    seconds: float


class Authorizer:
    """Knows what to send as ``Authorization`` for each scope of one registry.

    Several threads may ask; for a scope one token is requested at a time.
    """

    def __init__(self, transport: Transport) -> None:
        """Ask for tokens over ``transport``."""
        self._transport = transport
        self._known: dict[Scope, _Known] = {}
        self._credentials: dict[str, Credentials | None] = {}
        self._said: dict[str, Credentials | None] = {}  # by helpers, which may take a second each
        self._looking = threading.Lock()
        self._locks: dict[Scope, threading.Lock] = {}

    def known(self, scope: Scope, deadline: Deadline) -> str | None:
        """Return the header's value to send, ``None`` when the registry did not ask yet.

        A token that is about to expire is renewed first: a registry that refuses an upload may do so after all of it
        was sent.

        Raises:
            Failure: see :meth:`renew`.
        """
        known = self._known.get(scope)
        if known is None or time.monotonic() < known.until:
            return known.value if known else None
        with self._locks.setdefault(scope, threading.Lock()):
            current = self._known[scope]
            if current is known:
                current = self._known[scope] = self._answer(known.challenges, scope, deadline) or known
            return current.value

    def renew(self, refusal: Answer, scope: Scope, used: str | None, deadline: Deadline) -> str | None:
        """Return another value after the registry refused ``used`` (401); ``None`` when there is none.

        Raises:
            Failure: the credentials cannot be read, or the token service cannot be reached or refuses.
        """
        with self._locks.setdefault(scope, threading.Lock()):
            current = self._known.get(scope)
            if current and current.value != used:  # another thread was faster
                return current.value
            challenges = tuple(parse_challenges(refusal.headers.get("WWW-Authenticate", "")))
            found = self._answer(challenges, scope, deadline)
            if found is None or found.value == used:
                return None
            self._known[scope] = found
            return found.value

    def _answer(self, challenges: tuple[Challenge, ...], scope: Scope, deadline: Deadline) -> _Known | None:
        """Answer the best challenge."""
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        credentials = self._credentials_of(scope.path, deadline) if by_scheme else None
        if "bearer" in by_scheme:
            token = self._token(by_scheme["bearer"], credentials or Credentials(), scope, deadline)
            return _Known(f"Bearer {token.value}", challenges, time.monotonic() + token.seconds * _LIFETIME_USED)
        if "basic" in by_scheme and credentials and credentials.basic:
            return _Known(credentials.basic, challenges)
        return None

    def _credentials_of(self, path: str, deadline: Deadline) -> Credentials | None:
        with self._looking:
            if path not in self._credentials:
                self._credentials[path] = find_credentials(
                    self._transport.host, path, seconds=deadline.remaining(), answers=self._said
                )
            return self._credentials[path]

    def _token(self, challenge: Challenge, credentials: Credentials, scope: Scope, deadline: Deadline) -> _Token:
        """Ask the token service."""
        if credentials.registry_token:
            if not _USABLE.fullmatch(credentials.registry_token):
                raise Failure(Kind.SETTINGS, "the registry token has blanks or letters that no header can carry")
            return _Token(credentials.registry_token, math.inf)
        realm = challenge.parameters.get("realm", "")
        if not self._transport.allows(realm):
            raise Failure(Kind.MALFORMED, f"its token service {realm!r} has no https address")
        scopes = list(dict.fromkeys([*scope.names(), *challenge.parameters.get("scope", "").split()]))
        service = challenge.parameters.get("service", "")
        if credentials.identity_token:
            request = _oauth_request(realm, service, scopes, credentials.identity_token)
        else:
            request = _token_request(realm, service, scopes, credentials.basic)
        answer = self._transport.exchange(request, deadline)
        if answer.status != 200:
            raise _token_refused(answer)
        return _read_token(answer)


def _token_request(realm: str, service: str, scopes: list[str], basic: str | None) -> Request:
    """Return the request of the token specification: a GET, with name and password if there are any."""
    query = urlencode([*([("service", service)] if service else []), *(("scope", scope) for scope in scopes)])
    return Request("GET", f"{realm}{'&' if '?' in realm else '?'}{query}", authorization=basic)


def _oauth_request(realm: str, service: str, scopes: list[str], refresh_token: str) -> Request:
    """Return the request of the OAuth 2 specification for an identity token."""
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": refresh_token,
    }
    return Request("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body=urlencode(form).encode())


def _read_token(answer: Answer) -> _Token:
    """Return the token; its name is one of two. When it was issued is not asked: the clocks may differ."""
    try:
        content = read_json(answer.body)
        token = content.get("token") or content.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not _USABLE.fullmatch(token):
        raise Failure(Kind.MALFORMED, f"its token service {_place(answer)} gives no token")
    seconds = content.get("expires_in")
    said = isinstance(seconds, int | float) and seconds > 0
    return _Token(token, float(min(seconds, _LONGEST)) if said else _TOKEN_SECONDS)


def _token_refused(answer: Answer) -> Failure:
    """Say that the token service gives none."""
    kinds = {400: Kind.CREDENTIALS, 401: Kind.CREDENTIALS, 403: Kind.DENIED, 429: Kind.RATE}
    kind = kinds.get(answer.status, Kind.FAILED if answer.status >= 500 else Kind.MALFORMED)
    return Failure(kind, f"its token service {_place(answer)} answers {answer.status}")


def _place(answer: Answer) -> str:
    parts = urlsplit(answer.url)
    return f"{parts.hostname}{parts.path}"
