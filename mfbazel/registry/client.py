"""Manifests and blobs of one registry (OCI distribution-spec 1.1, "Pull" and "Push")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote as quote_path

from mfbazel.registry.auth import Authorizer, Scope
from mfbazel.registry.errors import Failure, Kind, RegistryError, Subject, explain
from mfbazel.registry.operation import Operation
from mfbazel.registry.parsing import join, read_number
from mfbazel.registry.reference import DIGEST
from mfbazel.registry.transport import Answer, Deadline, Pace, Transport

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
_UNREADABLE = (Kind.DIGEST, Kind.FAILED)
_ASKED_AGAIN = (400, 401, 403, 405)  # statuses of a HEAD whose reasons only a GET tells


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
        self,
        host: str,
        insecure: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: Deadline | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Make a client; nothing is requested.

        Args:
            host: the registry, as references name it.
            insecure: allow plain HTTP and unverifiable certificates; on loopback plain HTTP always is.
            timeout: seconds for each operation.
            deadline: one limit for all operations instead.
            pace: when each request may begin.

        Raises:
            RegistryError: a certificate that is kept for the host cannot be used.
        """
        self.host = host
        self.timeout = timeout
        self._deadline = deadline
        try:
            self._transport = Transport(host, insecure, pace)
        except Failure as failure:
            raise explain(failure, Subject(host, host)) from None
        self._authorizer = Authorizer(self._transport)

    def head_manifest(self, path: str, name: str) -> Descriptor | None:
        """Return what the registry says of a manifest, ``None`` when it does not have it.

        Raises:
            RegistryError: it did not answer, refused, or gives another digest than was asked for.
        """
        with self.operation(path, name, "asking for the manifest") as about:
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
            same_digest(digest, name)
            size = read_number(answer.headers.get("Content-Length", "")) or 0
            return Descriptor(digest, size, answer.headers.get("Content-Type", ""))

    def usable_manifest(self, path: str, name: str) -> Descriptor | None:
        """Return what the registry says of a manifest, ``None`` when it has to be sent.

        That is when the registry does not have it, and when it cannot read what it has: docker's fails for what it
        wrote while its disk was full, and crane's keeps a part of a manifest whose upload was cut off. Both take it
        again.

        Raises:
            RegistryError: it did not answer, or refused.
        """
        try:
            return self.head_manifest(path, name)
        except RegistryError as error:
            if error.problem.kind not in _UNREADABLE:
                raise
            return None

    def get_manifest(self, path: str, name: str) -> Manifest:
        """Return a manifest, whose bytes have the digest that was asked for.

        Raises:
            RegistryError: as above, or the registry does not have it.
        """
        with self.operation(path, name, "reading the manifest") as about:
            answer = about.expect(about.call("GET", f"manifests/{name}", {"Accept": _MANIFESTS}), 200)
            found = _manifest(answer)
            same_digest(found.digest, name)
            same_digest(found.digest, answer.headers.get("Docker-Content-Digest", ""))
            return found

    def put_manifest(self, path: str, name: str, data: bytes, media_type: str = MANIFEST) -> str:
        """Upload a manifest, whose blobs are there, as ``name``; return its digest.

        Raises:
            RegistryError: it did not answer, or refused.
        """
        digest = digest_of(data)
        with self.operation(path, name, "writing the manifest", writes=True) as about:
            answer = about.expect(about.call("PUT", f"manifests/{name}", {"Content-Type": media_type}, data), 201)
            same_digest(digest, answer.headers.get("Docker-Content-Digest", ""))
        return digest

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
        with self.operation(path, digest, "asking for the blob") as about:
            answer = about.call("HEAD", f"blobs/{digest}")
            return answer.status != 404 and bool(about.expect(answer, 200))

    def usable_blob(self, path: str, digest: str) -> bool:
        """Whether the repository has a blob and can read it; see :meth:`usable_manifest`.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        try:
            return self.head_blob(path, digest)
        except RegistryError as error:
            if error.problem.kind not in _UNREADABLE:
                raise
            return False

    def get_blob(self, path: str, digest: str, limit: int = MOST_BLOB_BYTES) -> bytes:
        """Return a blob of at most ``limit`` bytes, which have this digest.

        Raises:
            RegistryError: it is missing or larger, or the registry did not answer, refused, or has other bytes.
        """
        with self.operation(path, digest, "reading the blob") as about:
            if not DIGEST.fullmatch(digest):
                raise Failure(Kind.MALFORMED, f"{digest!r}, which names the blob, is no sha256 digest")
            data = about.expect(about.call("GET", f"blobs/{digest}", limit=limit), 200).body
            same_digest(digest_of(data), digest)
            return data

    def put_blob(self, path: str, data: bytes) -> bool:
        """Upload a blob in one piece, unless the repository has it; return whether it was sent.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        digest = digest_of(data)
        if self.usable_blob(path, digest):
            return False
        with self.operation(path, digest, "uploading the blob", writes=True) as about:
            started = about.expect(about.call("POST", "blobs/uploads/", {"Content-Length": "0"}, b""), 202)
            location = started.headers.get("Location")
            if not location:
                raise Failure(Kind.MALFORMED, "it gives no address for an upload")
            url = join(started.url, location)
            url += f"{'&' if '?' in url else '?'}digest={quote_path(digest, safe='')}"
            about.expect(about.send("PUT", url, {"Content-Type": "application/octet-stream"}, data), 201)
        return True

    def operation(
        self,
        path: str,
        name: str,
        doing: str,
        *,
        writes: bool = False,
        source: str | None = None,
        seconds: float | None = None,
    ) -> Operation:
        """Return an operation on the repository ``path``, for modules of this package.

        Args:
            path: the repository.
            name: a tag, or the digest of a manifest or a blob.
            doing: what is done, for messages.
            writes: whether it changes the repository.
            source: another repository that is read.
            seconds: how long it may take; default: :attr:`timeout`.
        """
        separator = "@" if ":" in name else ":"
        subject = Subject(self.host, f"{self.host}/{path}{separator}{name}", doing, writes)
        deadline = self._deadline or Deadline(seconds or self.timeout)
        return Operation(self._transport, self._authorizer, Scope(path, writes, source), subject, deadline)


def digest_of(data: bytes) -> str:
    """Return ``sha256:…`` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _manifest(answer: Answer) -> Manifest:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return Manifest(answer.body, digest_of(answer.body), media_type)


def same_digest(found: str, expected: str) -> None:
    """Compare two digests; an ``expected`` that is no sha256 digest (a tag, nothing) agrees with all.

    Raises:
        Failure: they differ.
    """
    if DIGEST.fullmatch(expected) and found != expected:
        raise Failure(Kind.DIGEST, f"digest mismatch: {found} instead of {expected}")
