"""Uploading blobs: in chunks, resumed after what passes, or mounted from another repository.

OCI distribution-spec 1.1, "Pushing blobs". A registry that keeps an upload's session tells how much of it arrived; what
arrived is not sent again, neither in this run nor, where the session is remembered, in the next one.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Protocol
from urllib.parse import quote as quote_path

from mfbazel.registry.client import Client, same_digest
from mfbazel.registry.errors import Failure, Kind, RegistryError
from mfbazel.registry.operation import Operation
from mfbazel.registry.parsing import join
from mfbazel.registry.transport import LONGEST_PAUSE, PASSING, Answer, Body

_WHOLE = 4 << 20  # bytes; up to here an upload is two requests, without chunks
_SECONDS = 24 * 3600.0  # for one blob; what hangs is noticed by the limits below
_ANSWER_SECONDS = 120.0  # for the answer to a chunk
_COMMIT_SECONDS = 900.0  # for the answer to the last request: some registries hash or copy the blob then
_ATTEMPTS = 6  # without progress
_PROGRESS = 1 << 16  # bytes; who gets on by less with each attempt does not get there
_FIRST_PAUSE = 0.2  # seconds; doubled each time
_PASSING_KINDS = (Kind.UNREACHABLE, Kind.TIMEOUT, Kind.RATE, Kind.FAILED)
_GONE = (404, 410)  # what registries say of an upload that they do not know any more
_NO_CHUNKS = (400, 405, 411, 415, 416, 501)  # what registries without chunks answer to one
_STREAM = "application/octet-stream"


@dataclass(frozen=True)
class Source:
    """A blob to upload.

    Attributes:
        digest: ``sha256:…``.
        size: in bytes.
        open: returns its bytes from an offset on.
    """

    digest: str
    size: int
    open: Callable[[int], BinaryIO]


@dataclass(frozen=True)
class Session:
    """An upload that a registry has begun.

    Attributes:
        location: the address of the next request.
        offset: how many bytes the registry has.
    """

    location: str
    offset: int = 0


@dataclass(frozen=True)
class Mount:
    """Another repository of the registry to take a blob from.

    Attributes:
        path: of the repository.
        certain: whether it has the blob, and does not only seem to.
    """

    path: str
    certain: bool = False


class Sessions(Protocol):
    """Where sessions are remembered between runs."""

    def recall(self, host: str, path: str, digest: str) -> Session | None:
        """Return the session of a blob, ``None`` without one."""

    def remember(self, host: str, path: str, digest: str, session: Session) -> None:
        """Keep a session, in place of an earlier one."""

    def forget(self, host: str, path: str, digest: str) -> None:
        """Drop the session of a blob, if there is one."""


class Outcome(Enum):
    """What became of a blob."""

    PRESENT = "present"
    MOUNTED = "mounted"
    SENT = "sent"


@dataclass(frozen=True)
class Uploaded:
    """A blob that a repository has.

    Attributes:
        outcome: how it came there.
        sent: bytes that were sent for it in this run, those that did not arrive included.
        resumed: bytes that an earlier run had sent.
    """

    outcome: Outcome
    sent: int = 0
    resumed: int = 0


OnPosition = Callable[[int], None]
"""Called while a blob is sent, with the number of its bytes that are on the way or there; what it raises ends it."""


class Uploader:
    """Uploads blobs to one registry; several threads may use it.

    Attributes:
        client: of the registry.
        sessions: where sessions are remembered between runs, if anywhere.
        chunk: the most bytes of one request; ``None``: all of a blob in one.
    """

    def __init__(self, client: Client, sessions: Sessions | None = None, chunk: int | None = None) -> None:
        """Prepare, without any request."""
        self.client = client
        self.sessions = sessions
        self.chunk = chunk

    def put(self, path: str, source: Source, on_position: OnPosition, mount: Mount | None = None) -> Uploaded:
        """Let the repository ``path`` have a blob.

        Args:
            path: the repository.
            source: the blob.
            on_position: told of progress.
            mount: another repository to take it from.

        Raises:
            RegistryError: the registry cannot be reached, or refuses.
        """
        upload = _Upload(self, path, source, on_position)
        if mount and mount.path == path:
            mount = None
        if mount and mount.certain and upload.mounted(mount.path):  # one request, whether the repository had it or not
            return Uploaded(Outcome.MOUNTED)
        if self.client.usable_blob(path, source.digest):
            upload.forget()
            return Uploaded(Outcome.PRESENT)
        if mount and not mount.certain and upload.mounted(mount.path):
            return Uploaded(Outcome.MOUNTED)
        return upload.run()


class _Upload:
    """The upload of one blob."""

    def __init__(self, uploader: Uploader, path: str, source: Source, on_position: OnPosition) -> None:
        self._uploader = uploader
        self._path = path
        self._source = source
        self._on_position = on_position
        self._session: Session | None = None
        self._about = self._operation()
        self._sent = self._position = self._resumed = self._furthest = self._failures = 0
        self._disturbed = False  # whether the session may hold something else than was acknowledged

    def mounted(self, mount: str) -> bool:
        """Ask the registry to take the blob from the repository ``mount``; return whether it did."""
        query = {"mount": self._source.digest, "from": mount}
        try:
            with self._operation(mount) as about:
                answer = about.call("POST", "blobs/uploads/", {"Content-Length": "0"}, b"", query=query)
        except RegistryError:  # a token service may refuse the other repository
            return False
        if answer.status == 202:
            self._begun(answer)
        return answer.status == 201

    def run(self) -> Uploaded:
        """Send what the registry lacks, until it has all of it.

        Raises:
            RegistryError: it refuses, or fails again and again without any progress.
        """
        with self._about:
            unsure = self._disturbed = self._recall()
            while True:
                try:
                    if unsure and self._is_there():
                        break
                    if self._session and not self._sent:
                        self._resumed = self._session.offset
                    unsure = True
                    self._send_chunks()
                    self._commit()
                    break
                except Failure as failure:
                    self._bear(failure)
        self.forget()
        return Uploaded(Outcome.SENT, self._sent, self._resumed)

    def forget(self) -> None:
        """Drop what is remembered of an earlier session."""
        if self._uploader.sessions:
            self._uploader.sessions.forget(self._uploader.client.host, self._path, self._source.digest)

    def _operation(self, mount: str | None = None) -> Operation:
        digest, client = self._source.digest, self._uploader.client
        return client.operation(
            self._path, digest, "uploading the blob", writes=True, source=mount, seconds=None if mount else _SECONDS
        )

    def _recall(self) -> bool:
        """Take up the session of an earlier run; return whether there is one."""
        sessions = self._uploader.sessions
        if sessions and not self._session:
            found = sessions.recall(self._uploader.client.host, self._path, self._source.digest)
            if found and 0 <= found.offset <= self._source.size and self._about.is_own(found.location):
                self._session = found
                return True
        return False

    def _is_there(self) -> bool:
        """Find out how much arrived; return whether the repository has the blob."""
        if self._session is None:
            return False
        answer = self._about.send("GET", self._session.location, patience=_ANSWER_SECONDS)
        arrived = _arrived(answer)
        if answer.status in (200, 202, 204) and arrived <= self._source.size:
            self._begun(answer, arrived)
            return False
        if answer.status in PASSING:
            self._about.expect(answer, 204)
        if answer.status in (200, 202, 204, *_GONE):
            self._session = None
            self.forget()
        elif answer.status in (401, 403):  # an address that is too old, or nobody may: the next request tells
            self._session = None
        # Otherwise the registry keeps sessions and does not tell: what it acknowledged counts.
        return self._about.call("HEAD", f"blobs/{self._source.digest}").status == 200

    def _begin(self) -> Session:
        answer = self._about.call("POST", "blobs/uploads/", {"Content-Length": "0"}, b"")
        return self._begun(self._about.expect(answer, 202))

    def _begun(self, answer: Answer, offset: int = 0) -> Session:
        """Take the address of the next request from an answer; ``offset`` bytes are there."""
        location = answer.headers.get("Location")
        if not location and not self._session:
            raise Failure(Kind.MALFORMED, "it gives no address for an upload")
        url = join(answer.url, location) if location else self._session.location  # type: ignore[union-attr]
        self._session = session = Session(url, offset)
        self._remember(session)
        return session

    def _remember(self, session: Session) -> None:
        """Keep a session for the next run, if its address is the registry's own: another one may hold a signature."""
        if self._uploader.sessions and self._about.is_own(session.location):
            host = self._uploader.client.host
            self._uploader.sessions.remember(host, self._path, self._source.digest, session)

    def _send_chunks(self) -> None:
        """Send all but what the last request can carry."""
        session = self._session or self._begin()
        while session.offset < self._source.size and not self._is_small(session):
            session = self._send_chunk(session)

    def _is_small(self, session: Session) -> bool:
        """Whether the last request carries the whole blob, which every registry without chunks takes."""
        return session.offset == 0 and (self._source.size <= _WHOLE or self._uploader.chunk is None)

    def _send_chunk(self, session: Session) -> Session:
        """Send a chunk, or all that is left."""
        rest = self._source.size - session.offset
        size = min(rest, self._uploader.chunk or rest)
        headers = {"Content-Type": _STREAM}
        if size < self._source.size:
            headers["Content-Range"] = f"{session.offset}-{session.offset + size - 1}"
        answer = self._about.send(
            "PATCH", session.location, headers, self._body(session, size), once=True, patience=_ANSWER_SECONDS
        )
        self._about.expect(answer, 202, 201, 204)
        arrived = _arrived(answer)  # some registries always say 0
        expected = session.offset + size
        return self._begun(answer, arrived if session.offset < arrived < expected else expected)

    def _commit(self) -> None:
        """End the upload: the registry compares the digest."""
        assert self._session
        session, digest = self._session, self._source.digest
        url = f"{session.location}{'&' if '?' in session.location else '?'}digest={quote_path(digest, safe='')}"
        rest = self._source.size - session.offset
        body = self._body(session, rest) if rest else b""
        headers = {"Content-Type": _STREAM, **({} if rest else {"Content-Length": "0"})}
        answer = self._about.send("PUT", url, headers, body, once=True, patience=_COMMIT_SECONDS)
        self._about.expect(answer, 201, 204)
        same_digest(digest, answer.headers.get("Docker-Content-Digest", ""))

    def _body(self, session: Session, size: int) -> Body:
        """Return ``size`` bytes of the blob, those that follow the session's."""

        def start() -> BinaryIO:
            self._position = session.offset
            return self._source.open(session.offset)

        def on_read(count: int) -> None:
            self._sent += count
            self._position += count
            self._on_position(self._position)

        return Body(size, start, on_read)

    def _bear(self, failure: Failure) -> None:
        """Prepare for another attempt.

        Raises:
            Failure: there is none: the failure does not pass, or there were too many of them.
        """
        offset = self._session.offset if self._session else 0
        disturbed, started_over = self._disturbed, self._starts_over(failure)
        if not (started_over or failure.kind in _PASSING_KINDS or failure.status in PASSING):
            raise failure
        self._disturbed = not started_over
        if not (started_over and disturbed):  # which the failure before it counts for
            self._failures += 1
        if offset >= self._furthest + _PROGRESS:
            self._failures, self._furthest = 1, offset
        if self._failures >= _ATTEMPTS or failure.pause > LONGEST_PAUSE:
            raise failure
        if not started_over:
            time.sleep(max(failure.pause, _FIRST_PAUSE * 2 ** (self._failures - 1) * random.uniform(0.75, 1.25)))

    def _starts_over(self, failure: Failure) -> bool:
        """Whether the blob has to be sent from its beginning, and another attempt may succeed."""
        session = self._session
        if session is None or failure.status not in (*_NO_CHUNKS, *_GONE):
            return False
        if failure.kind is Kind.DIGEST and not self._disturbed:
            return False
        self._resumed = 0
        if session.offset == 0 and not self._disturbed:
            if self._uploader.chunk is None or failure.status in _GONE:
                return failure.status in _GONE
            self._uploader.chunk = None  # this registry takes none
        self._session = None
        self.forget()
        return True


def _arrived(answer: Answer) -> int:
    """Return how many bytes the registry says it has; ``0-0`` is what it says of none."""
    match = re.fullmatch(r"(?:bytes[= ])?0-([0-9]{1,18})", answer.headers.get("Range", "").strip())
    last = int(match[1]) if match else 0
    return last + 1 if last else 0
