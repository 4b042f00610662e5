"""Reading blobs of any size from a registry: from any offset, taken up again after what passes, verified.

OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110, section 14, for parts of one. Where a registry, or the storage
that it redirects to, gives no parts, what was read already is read again and dropped.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
from typing import BinaryIO, cast

import requests
import urllib3

from mfbazel.errors import MfbazelError
from mfbazel.registry.client import Client
from mfbazel.registry.errors import Failure, Kind, Problem, RegistryError
from mfbazel.registry.operation import Operation
from mfbazel.registry.transport import LONGEST_PAUSE, PASSING

_SECONDS = 24 * 3600.0  # for one blob; what hangs is noticed by the transport
_BLOCK = 1 << 20
_ATTEMPTS = 6  # without progress
_FIRST_PAUSE = 0.2  # seconds; doubled each time
_PASSING_KINDS = (Kind.UNREACHABLE, Kind.TIMEOUT, Kind.RATE, Kind.FAILED)
_NO_PARTS = 416
_PART = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/(?:[0-9]+|\*)")


class SourceError(MfbazelError):
    """A blob cannot be read.

    It is no :class:`RegistryError`, since who sends the blob elsewhere would take that for the other registry's.

    Attributes:
        problem: what is wrong, and with which registry.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class BlobSource:
    """A blob of a registry, as a source of an upload.

    Its bytes are hashed as far as they are read from the first on without a gap; after the last one the digest is
    compared.

    Attributes:
        client: of the registry.
        path: the repository.
        digest: ``sha256:…``.
        size: in bytes, as the manifest says.
    """

    def __init__(self, client: Client, path: str, digest: str, size: int) -> None:
        """Prepare, without any request."""
        self.client = client
        self.path = path
        self.digest = digest
        self.size = size
        self._hash = hashlib.sha256()
        self._hashed = 0

    def open(self, offset: int) -> BinaryIO:
        """Return the bytes from ``offset`` on; nothing is requested before they are read.

        Reading raises a :class:`SourceError` when the registry does not have the blob, fails again and again, or has
        other bytes than the digest says.
        """
        return cast(BinaryIO, _Reader(self, offset))

    def operation(self) -> Operation:
        """Return the operation of reading it."""
        return self.client.operation(self.path, self.digest, "reading the blob", seconds=_SECONDS)

    def note(self, position: int, data: bytes) -> None:
        """Hash what was read at ``position``.

        Raises:
            Failure: these were the last bytes, and the digest is another one.
        """
        skipped = self._hashed - position
        if not 0 <= skipped < len(data):
            return
        self._hash.update(data[skipped:])
        self._hashed = position + len(data)
        if self._hashed == self.size and (found := f"sha256:{self._hash.hexdigest()}") != self.digest:
            raise Failure(Kind.DIGEST, f"digest mismatch: {found} instead of {self.digest}")


class _Reader(io.RawIOBase):
    """The bytes of a blob from an offset on."""

    def __init__(self, source: BlobSource, offset: int) -> None:
        super().__init__()
        self._source = source
        self._position = offset
        self._about = source.operation()
        self._response: requests.Response | None = None
        self._failures = 0

    def readable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See :class:`io.RawIOBase`; fewer bytes than asked for are no end."""
        wanted = min(len(buffer), self._source.size - self._position)
        data = self._read(wanted) if wanted else b""
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """See :class:`io.RawIOBase`."""
        self._drop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        """Return at least one byte and at most ``wanted``."""
        try:
            with self._about:
                return self._next(min(wanted, _BLOCK))
        except RegistryError as error:
            raise SourceError(error.problem) from error

    def _next(self, wanted: int) -> bytes:
        while True:
            try:
                data = self._some(wanted)
                self._source.note(self._position, data)
                self._position += len(data)
                self._failures = 0
                return data
            except Failure as failure:
                self._bear(failure)

    def _some(self, wanted: int) -> bytes:
        response = self._response or self._begin()
        data = _read(response, wanted)
        if not data:
            raise Failure(Kind.UNREACHABLE, f"the blob ended after {self._position} of {self._source.size} bytes")
        return data

    def _begin(self) -> requests.Response:
        """Ask for the rest of the blob."""
        start = self._position
        response = self._response = self._asked(start)
        if response.status_code == 206:
            part = _PART.fullmatch(response.headers.get("Content-Range", ""))
            if not part or int(part[1]) != start:
                raise Failure(Kind.MALFORMED, f"it gives another part of a blob than bytes {start} on")
        else:
            while start:
                data = _read(response, min(start, _BLOCK))
                if not data:
                    raise Failure(Kind.UNREACHABLE, "the blob ended before the part that is wanted")
                start -= len(data)
        return response

    def _asked(self, start: int) -> requests.Response:
        """Ask for the blob from ``start`` on; for all of it where the registry refuses that."""
        what = f"blobs/{self._source.digest}"
        try:
            # Not every registry takes a range without an end.
            return self._about.stream(what, {"Range": f"bytes={start}-{self._source.size - 1}"} if start else {})
        except Failure as failure:
            if not start or failure.status != _NO_PARTS:
                raise
        return self._about.stream(what, {})

    def _bear(self, failure: Failure) -> None:
        """Prepare for another attempt.

        Raises:
            Failure: there is none: the failure does not pass, or there were too many of them.
        """
        self._drop()
        if failure.kind not in _PASSING_KINDS and failure.status not in PASSING:
            raise failure
        self._failures += 1
        if self._failures >= _ATTEMPTS or failure.pause > LONGEST_PAUSE:
            raise failure
        time.sleep(max(failure.pause, _FIRST_PAUSE * 2 ** (self._failures - 1) * random.uniform(0.75, 1.25)))

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _read(response: requests.Response, amount: int) -> bytes:
    """Read from a body.

    Raises:
        Failure: the connection is lost.
    """
    try:
        return bytes(response.raw.read(amount))
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise Failure(Kind.UNREACHABLE, f"the connection was lost: {type(error).__name__}") from None
