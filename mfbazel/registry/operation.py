"""The requests of one operation on a registry, and what their answers mean (distribution-spec 1.1, "Error Codes")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import quote as quote_path
from urllib.parse import urlencode

import requests

from mfbazel.registry.auth import Authorizer, Scope
from mfbazel.registry.errors import Failure, Kind, Subject, explain
from mfbazel.registry.parsing import read_json
from mfbazel.registry.transport import Answer, Body, Deadline, Request, Transport, asked_pause, read_answer

_RENEWALS = 2
_BY_STATUS = {401: Kind.CREDENTIALS, 403: Kind.DENIED, 413: Kind.TOO_LARGE, 429: Kind.RATE}
_BY_CODE = {"NAME_INVALID": Kind.NAME, "DIGEST_INVALID": Kind.DIGEST, "SIZE_INVALID": Kind.TOO_LARGE}
_BLOCK_SECONDS = 60.0  # for a block of a blob that is read


class Operation:
    """The requests of one operation; a failure inside is explained with what the operation is about."""

    def __init__(
        self, transport: Transport, authorizer: Authorizer, scope: Scope, subject: Subject, deadline: Deadline
    ) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._scope = scope
        self._subject = subject
        self._deadline = deadline

    def __enter__(self) -> Operation:
        return self

    def __exit__(self, _type: object, raised: BaseException | None, _trace: object) -> None:
        if isinstance(raised, Failure):
            raise explain(raised, self._subject) from None

    def call(
        self,
        method: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = Request.limit,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request about ``what`` in the repository."""
        origin = self._transport.origin(self._deadline)
        url = f"{origin}/v2/{quote_path(self._scope.path)}/{quote_path(what, safe='/:')}"
        url += f"?{urlencode(query)}" if query else ""
        return self.send(method, url, headers, body, limit)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        limit: int = Request.limit,
        once: bool = False,
        patience: float = math.inf,
    ) -> Answer:
        """Send a request to ``url``, with credentials if it is the registry's; again when it asks for new ones.

        Args:
            url: absolute.
            headers: without ``Authorization``.
            body: what is sent.
            limit: the most bytes that the answer may have.
            patience: seconds to wait for the answer, once all is sent.
            once: do not try again after what passes: another request has to find out first what arrived.

        Raises:
            Failure: see :meth:`Transport.exchange`.
        """
        if not self._transport.allows(url):
            raise Failure(Kind.MALFORMED, "it names an address that is not https")
        used = self._authorizer.known(self._scope, self._deadline) if self.is_own(url) else None
        request = Request(method, url, headers or {}, body, used, limit, once, patience)
        answer = self._transport.exchange(request, self._deadline)
        # The second one: a token that another thread was given may be over before this one uses it.
        for _ in range(_RENEWALS):
            if answer.status != 401 or not self.is_own(answer.url):  # a storage has nothing to ask for
                break
            used = self._authorizer.renew(answer, self._scope, used, self._deadline)
            if used is None:
                break
            answer = self._transport.exchange(replace(request, authorization=used), self._deadline)
        return answer

    def is_own(self, url: str) -> bool:
        """Whether ``url`` is of the registry itself; see :meth:`Transport.is_own`."""
        return self._transport.is_own(url, self._deadline)

    def stream(self, what: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask for ``what`` in the repository; return the answer (200 or 206), whose body the caller reads and closes.

        Raises:
            Failure: see :meth:`Transport.stream`, or the answer is another one.
        """
        origin = self._transport.origin(self._deadline)
        url = f"{origin}/v2/{quote_path(self._scope.path)}/{quote_path(what, safe='/:')}"
        used = self._authorizer.known(self._scope, self._deadline)
        request = Request("GET", url, headers, authorization=used, patience=_BLOCK_SECONDS)
        response = self._transport.stream(request, self._deadline)
        if response.status_code == 401 and self.is_own(response.url):
            with response:
                refusal = read_answer(response, response.url, Request.limit, self._deadline)
            renewed = self._authorizer.renew(refusal, self._scope, used, self._deadline)
            if renewed is None:
                return self._refused(refusal)
            response = self._transport.stream(replace(request, authorization=renewed), self._deadline)
        if response.status_code not in (200, 206):
            with response:
                self._refused(read_answer(response, response.url, Request.limit, self._deadline))
        return response

    def _refused(self, answer: Answer) -> NoReturn:
        self.expect(answer, 200, 206)
        raise AssertionError("what is not expected raises")

    def expect(self, answer: Answer, *statuses: int) -> Answer:
        """Return the answer when it has one of ``statuses``.

        Raises:
            Failure: it has another one; what the registry says of it is in the detail.
        """
        if answer.status in statuses:
            return answer
        code, message = _said(answer)
        detail = f"{answer.status}{f' {code}' if code else ''}{f': {message}' if message else ''}"
        wait = asked_pause(answer)
        if wait:
            detail += f"; it asks to wait {wait:.0f} s"
        raise Failure(self._kind(answer.status, code), detail, answer.status, wait)

    def _kind(self, status: int, code: str) -> Kind:
        if code in _BY_CODE:
            return _BY_CODE[code]
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        if status == 404:
            return Kind.NO_REPOSITORY if self._subject.writes else Kind.MISSING
        if status == 405 and self._subject.writes:
            return Kind.READ_ONLY
        if status >= 500:
            return Kind.FAILED
        return Kind.REFUSED if status >= 400 else Kind.MALFORMED


def _said(answer: Answer) -> tuple[str, str]:
    """Return the code and the message of an error (the specification's "Error Codes"), empty when there are none."""
    try:
        content: Any = read_json(answer.body)
        first = content["errors"][0]
        return str(first.get("code") or ""), str(first.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""
