"""Manifests and blobs of one registry (OCI distribution-spec 1.1, "Pull" and "Push")."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as quote_path
from urllib.parse import urljoin

from mfbazel.registry.auth import Authorizer, Scope
from mfbazel.registry.errors import Failure, Kind, Subject, explain
from mfbazel.registry.reference import DIGEST
from mfbazel.registry.transport import Answer, Deadline, Request, Transport, asked_pause

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
"""Media type of an image manifest (OCI image-spec 1.1)."""
INDEX = "application/vnd.oci.image.index.v1+json"
"""Media type of an image index (OCI image-spec 1.1)."""
DEFAULT_TIMEOUT = 30.0
"""Seconds that one operation may take, with all its retries."""
MOST_BLOB_BYTES = 64 << 20
"""The largest blob that :meth:`Client.get_blob` returns."""

_MANIFESTS = ", ".join(
    (
        MANIFEST,
        INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_ASKED_AGAIN = (400, 401, 403, 405)  # statuses of a HEAD whose reasons only a GET tells
_PIECE = 16 << 20  # bytes
_NO_REFERRERS = (400, 404, 405)  # of registries that do not know the address
_MOST_PAGES = 100
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_BY_STATUS = {401: Kind.CREDENTIALS, 403: Kind.DENIED, 413: Kind.TOO_LARGE, 429: Kind.RATE}
_BY_CODE = {"NAME_INVALID": Kind.NAME, "DIGEST_INVALID": Kind.DIGEST, "SIZE_INVALID": Kind.TOO_LARGE}


@dataclass(frozen=True)
class Descriptor:
    """What a registry says of a manifest: ``digest``, ``size`` in bytes (0 if it does not say) and ``media_type``."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """A manifest's ``data``, with the ``digest`` of those bytes and the ``media_type`` that the registry gives it."""

    data: bytes
    digest: str
    media_type: str


class Client:
    """A client of one registry; several threads may use it.

    Tokens and connections are kept for its lifetime. ``name`` of a manifest is a tag or a digest.

    Attributes:
        host: the registry, with the port if there is one.
        timeout: seconds that each operation may take, with all its retries.
    """

    def __init__(
        self, host: str, insecure: bool = False, timeout: float = DEFAULT_TIMEOUT, deadline: Deadline | None = None
    ) -> None:
        """Make a client; nothing is requested.

        Args:
            host: the registry, as references name it.
            insecure: allow plain HTTP and unverifiable certificates; on loopback plain HTTP always is.
            timeout: seconds for each operation.
            deadline: one limit for all operations instead.

        Raises:
            RegistryError: a certificate that is kept for the host cannot be used.
        """
        self.host = host
        self.timeout = timeout
        self._deadline = deadline
        try:
            self._transport = Transport(host, insecure)
        except Failure as failure:
            raise explain(failure, Subject(host, host)) from None
        self._authorizer = Authorizer(self._transport)

    def head_manifest(self, path: str, name: str) -> Descriptor | None:
        """Return what the registry says of a manifest, ``None`` when it does not have it.

        Raises:
            RegistryError: it did not answer, refused, or gives another digest than was asked for.
        """
        with self._about(path, name, "asking for the manifest") as about:
            answer = about.call("HEAD", f"manifests/{name}", {"Accept": _MANIFESTS})
            if answer.status in _ASKED_AGAIN:
                answer = about.call("GET", f"manifests/{name}", {"Accept": _MANIFESTS})
            if answer.status == 404:
                return None
            about.expect(answer, 200)
            digest = answer.headers.get("Docker-Content-Digest") or (name if DIGEST.fullmatch(name) else None)
            if digest is None:  # the specification allows to leave it out
                found = _manifest(about.expect(about.call("GET", f"manifests/{name}", {"Accept": _MANIFESTS}), 200))
                return Descriptor(found.digest, len(found.data), found.media_type)
            _same(digest, name)
            size = answer.headers.get("Content-Length", "")
            return Descriptor(digest, int(size) if size.isdigit() else 0, answer.headers.get("Content-Type", ""))

    def get_manifest(self, path: str, name: str) -> Manifest:
        """Return a manifest, whose bytes have the digest that was asked for.

        Raises:
            RegistryError: as above, or the registry does not have it.
        """
        with self._about(path, name, "reading the manifest") as about:
            answer = about.expect(about.call("GET", f"manifests/{name}", {"Accept": _MANIFESTS}), 200)
            found = _manifest(answer)
            _same(found.digest, name)
            _same(found.digest, answer.headers.get("Docker-Content-Digest", ""))
            return found

    def put_manifest(self, path: str, name: str, data: bytes, media_type: str = MANIFEST) -> str:
        """Upload a manifest, whose blobs are there, as ``name``; return its digest.

        Raises:
            RegistryError: it did not answer, or refused.
        """
        digest = digest_of(data)
        with self._about(path, name, "writing the manifest", writes=True) as about:
            answer = about.expect(about.call("PUT", f"manifests/{name}", {"Content-Type": media_type}, data), 201)
            _same(digest, answer.headers.get("Docker-Content-Digest", ""))
        return digest

    def get_referrers(self, path: str, digest: str) -> list[dict[str, Any]] | None:
        """Return the descriptors of the manifests that refer to ``digest``; ``None`` where the registry lists none.

        That is the referrers API (OCI distribution-spec 1.1, "Listing Referrers"); registries without it answer 404.

        Raises:
            RegistryError: it did not answer, refused, or answers with something else.
        """
        with self._about(path, digest, "listing what refers to it") as about:
            found: list[dict[str, Any]] = []
            what, seen = f"referrers/{digest}", 0
            answer = about.call("GET", what, {"Accept": INDEX})
            if answer.status in _NO_REFERRERS:
                return None
            while True:
                found += _descriptors(about.expect(answer, 200))
                following, seen = _next_page(answer), seen + 1
                if not following or seen == _MOST_PAGES:
                    return found
                answer = about.send("GET", following, {"Accept": INDEX})

    def speaks_plain_http(self) -> bool:
        """Whether the registry is spoken to without TLS, which :class:`Transport` allows for few.

        Raises:
            RegistryError: it cannot be reached.
        """
        deadline = self._deadline or Deadline(self.timeout)
        try:
            return self._transport.origin(deadline).startswith("http://")
        except Failure as failure:
            raise explain(failure, Subject(self.host, self.host, "asking how it is spoken to")) from None

    @property
    def insecure(self) -> bool:
        """Whether plain HTTP and unverifiable certificates are allowed."""
        return self._transport.insecure

    def head_blob(self, path: str, digest: str) -> bool:
        """Whether the repository has a blob.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        with self._about(path, digest, "asking for the blob") as about:
            answer = about.call("HEAD", f"blobs/{digest}")
            return answer.status != 404 and bool(about.expect(answer, 200))

    def get_blob(self, path: str, digest: str, limit: int = MOST_BLOB_BYTES) -> bytes:
        """Return a blob of at most ``limit`` bytes, which have this digest.

        Raises:
            RegistryError: it is missing or larger, or the registry did not answer, refused, or has other bytes.
        """
        with self._about(path, digest, "reading the blob") as about:
            data = about.expect(about.call("GET", f"blobs/{digest}", limit=limit), 200).body
            _same(digest_of(data), digest)
            return data

    def read_blob(self, path: str, digest: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a blob of ``size`` bytes, in pieces that are requested one after the other.

        Nothing is compared with the digest. A registry that does not know ranges (RFC 9110, 14) gives it in one piece.

        Raises:
            RegistryError: it is missing, or the registry did not answer, refused, or gives more or less than ``size``.
        """
        position = 0
        while position < size:
            last = min(size, position + _PIECE) - 1
            with self._about(path, digest, "reading the blob") as about:
                answer = about.call("GET", f"blobs/{digest}", {"Range": f"bytes={position}-{last}"}, limit=size)
                if answer.status != 206:
                    about.expect(answer, 200)
                    last = size - 1
                if len(answer.body) != last - position + 1:
                    raise Failure(Kind.DIGEST, f"{len(answer.body)} bytes where there should be {last - position + 1}")
            yield answer.body
            position = last + 1

    def put_blob(self, path: str, data: bytes) -> bool:
        """Upload a blob in one piece, unless the repository has it; return whether it was sent.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        digest = digest_of(data)
        if self.head_blob(path, digest):
            return False
        with self._about(path, digest, "uploading the blob", writes=True) as about:
            started = about.expect(about.call("POST", "blobs/uploads/", {"Content-Length": "0"}, b""), 202)
            location = started.headers.get("Location")
            if not location:
                raise Failure(Kind.MALFORMED, "it gives no address for an upload")
            url = urljoin(started.url, location)
            url += f"{'&' if '?' in url else '?'}digest={quote_path(digest, safe='')}"
            about.expect(about.send("PUT", url, {"Content-Type": "application/octet-stream"}, data), 201)
        return True

    def _about(self, path: str, name: str, doing: str, writes: bool = False) -> _Operation:
        separator = "@" if ":" in name else ":"
        subject = Subject(self.host, f"{self.host}/{path}{separator}{name}", doing, writes)
        deadline = self._deadline or Deadline(self.timeout)
        return _Operation(self._transport, self._authorizer, Scope(path, writes), subject, deadline)


class _Operation:
    """The requests of one operation; a failure inside is explained with what the operation is about."""

    def __init__(
        self, transport: Transport, authorizer: Authorizer, scope: Scope, subject: Subject, deadline: Deadline
    ) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._scope = scope
        self._subject = subject
        self._deadline = deadline

    def __enter__(self) -> _Operation:
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
    ) -> Answer:
        """Send a request about ``what`` in the repository."""
        origin = self._transport.origin(self._deadline)
        url = f"{origin}/v2/{quote_path(self._scope.path)}/{quote_path(what, safe='/:')}"
        return self.send(method, url, headers, body, limit)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = Request.limit,
    ) -> Answer:
        """Send a request to ``url``, with credentials if it is the registry's; again when it asks for new ones."""
        if not self._transport.allows(url):
            raise Failure(Kind.MALFORMED, "it names an address that is not https")
        origin = self._transport.origin(self._deadline) + "/"
        own = url.startswith(origin)
        used = self._authorizer.known(self._scope) if own else None
        answer = self._transport.exchange(Request(method, url, headers or {}, body, used, limit), self._deadline)
        if answer.status != 401 or not answer.url.startswith(origin):  # a storage has nothing to ask for
            return answer
        renewed = self._authorizer.renew(answer, self._scope, used, self._deadline)
        if renewed is None:
            return answer
        return self._transport.exchange(Request(method, url, headers or {}, body, renewed, limit), self._deadline)

    def expect(self, answer: Answer, status: int) -> Answer:
        """Return the answer when it has ``status``.

        Raises:
            Failure: it has another one; what the registry says of it is in the detail.
        """
        if answer.status == status:
            return answer
        code, message = _said(answer)
        detail = f"{answer.status}{f' {code}' if code else ''}{f': {message}' if message else ''}"
        if wait := asked_pause(answer):
            detail += f"; it asks to wait {wait:.0f} s"
        raise Failure(self._kind(answer.status, code), detail)

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


def digest_of(data: bytes) -> str:
    """Return ``sha256:…`` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _manifest(answer: Answer) -> Manifest:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return Manifest(answer.body, digest_of(answer.body), media_type)


def _same(found: str, expected: str) -> None:
    """Compare two digests; an ``expected`` that is no sha256 digest (a tag, nothing) agrees with all."""
    if DIGEST.fullmatch(expected) and found != expected:
        raise Failure(Kind.DIGEST, f"digest mismatch: {found} instead of {expected}")


def _descriptors(answer: Answer) -> list[dict[str, Any]]:
    """Return the entries of an index."""
    try:
        entries = json.loads(answer.body)["manifests"]
    except (ValueError, LookupError, TypeError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failure(Kind.MALFORMED, "it lists referrers, but gives no image index")
    return entries


def _next_page(answer: Answer) -> str | None:
    """Return the address of the next page (RFC 8288, as the specification's "Listing Referrers" has it)."""
    match = _NEXT.search(answer.headers.get("Link", ""))
    return urljoin(answer.url, match[1]) if match else None


def _said(answer: Answer) -> tuple[str, str]:
    """Return the code and the message of an error (the specification's "Error Codes"), empty when there are none."""
    try:
        content: Any = json.loads(answer.body)
        first = content["errors"][0]
        return str(first.get("code") or ""), str(first.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""
