"""Reading a blob of any size, in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from mfbazel.registry.client import Client
from mfbazel.registry.errors import Failure, Kind

_PIECE = 16 << 20  # bytes
_SECONDS = 300.0  # for a piece


def read_blob(client: Client, path: str, digest: str, size: int) -> Iterator[bytes]:
    """Yield the bytes of a blob of ``size`` bytes, in pieces that are requested one after the other.

    Nothing is compared with the digest. A registry that does not know ranges (RFC 9110, 14) gives it in one piece.

    Raises:
        RegistryError: it is missing, or the registry did not answer, refused, or gives more or less than ``size``.
    """
    position = 0
    while position < size:
        end = min(size, position + _PIECE)
        with client.operation(path, digest, "reading the blob", seconds=_SECONDS) as about:
            answer = about.call("GET", f"blobs/{digest}", {"Range": f"bytes={position}-{end - 1}"}, limit=size)
            data = answer.body
            if answer.status != 206:
                data, end = about.expect(answer, 200).body[position:], size
            if len(data) != end - position:
                raise Failure(Kind.DIGEST, f"{len(data)} bytes where there should be {end - position}")
        yield data
        position = end
