"""The compressions of a layer. The bytes of each depend on its level and its library, and on nothing else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard
from isal import isal_zlib

from mfbazel.layer.errors import LayerError
from mfbazel.layer.tar import Deflated, Piece, plain

_JOBS = 2
_LAST_LEVEL_OF_TWO_JOBS = 11
"""Up to this level two compressors of zstd fit into the memory that a layer may take."""

_LAST_LEVEL_OF_WHOLE_JOBS = 15
_JOB_SIZE = 16 << 20
"""Above that level, bytes of input that are compressed as one: half of what zstd would take, for the same reason."""

DEFAULT_LEVELS = {"none": 0, "gzip": 6, "zstd": 3}
_LEVELS = {"none": range(0, 1), "gzip": range(1, 10), "zstd": range(1, 20)}


class Compressor(Protocol):
    """Takes the pieces of an archive in order, gives the compressed stream in pieces."""

    @property
    def copies(self) -> bool:
        """Whether it writes deflate streams that it is given as they are."""

    def take(self, piece: Piece, /) -> Iterator[bytes]:
        """Yield what can be written after ``piece`` has been taken in; may be nothing."""

    def flush(self) -> bytes:
        """Return the rest of the stream."""


class _Plain:
    copies = False

    def take(self, piece: Piece, /) -> Iterator[bytes]:
        yield plain(piece)

    def flush(self) -> bytes:
        return b""


class _Member:
    """One gzip member (RFC 1952) without time and file name; operating system 255 (unknown), so that hosts agree."""

    def __init__(self, level: int) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._header = _gzip_header(level)
        self._trailer = _Trailer()

    def compress(self, data: bytes) -> bytes:
        self._trailer.update(data)
        header, self._header = self._header, b""
        return header + self._deflate.compress(data)

    def flush(self) -> bytes:
        return self._header + self._deflate.flush() + self._trailer.bytes()


class _Trailer:
    """CRC-32 and size of a member's content."""

    def __init__(self) -> None:
        self._crc = 0
        self._size = 0

    def update(self, data: bytes) -> None:
        self._crc = isal_zlib.crc32(data, self._crc)
        self._size += len(data)

    def bytes(self) -> bytes:
        return struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF)


def _gzip_header(level: int) -> bytes:
    return struct.pack("<BBBBLBB", 0x1F, 0x8B, 8, 0, 0, {1: 4, 9: 2}.get(level, 0), 255)


class _Gzip:
    """Everything in one gzip member."""

    copies = False

    def __init__(self, level: int) -> None:
        self._member = _Member(level)

    def take(self, piece: Piece, /) -> Iterator[bytes]:
        yield self._member.compress(plain(piece))

    def flush(self) -> bytes:
        return self._member.flush()


class _CopyingGzip:
    """A gzip member per deflate stream that is given, and ordinary members for what lies between them.

    The trailer of a copied member is computed from the content that the stream was seen to give, not taken from the
    file that the stream comes from.
    """

    copies = True

    def __init__(self, level: int) -> None:
        self._level = level
        self._ordinary: _Member | None = _Member(level)
        self._copied: _Trailer | None = None

    def take(self, piece: Piece, /) -> Iterator[bytes]:
        if not isinstance(piece, Deflated):
            self._ordinary = self._ordinary or _Member(self._level)
            yield self._ordinary.compress(piece)
            return
        if self._copied is None:
            yield self.flush()
            yield _gzip_header(0)
            self._copied = _Trailer()
        self._copied.update(piece.content)
        yield piece.stream
        if piece.last:
            yield self._copied.bytes()
            self._copied = None

    def flush(self) -> bytes:
        member, self._ordinary = self._ordinary, None
        return member.flush() if member else b""


class _Zstd:
    """One zstd frame (RFC 8878) without content size, check sum and dictionary: the digests say both, and better."""

    copies = False

    def __init__(self, level: int, jobs: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            threads=jobs,
            job_size=0 if level <= _LAST_LEVEL_OF_WHOLE_JOBS else _JOB_SIZE,
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
        )
        self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def take(self, piece: Piece, /) -> Iterator[bytes]:
        yield self._stream.compress(plain(piece))

    def flush(self) -> bytes:
        return self._stream.flush()


def compressor(compression: str, level: int | None = None, *, jobs: int | None = None) -> Compressor:
    """Return a new compressor.

    Args:
        compression: ``none``, ``gzip`` or ``zstd``.
        level: of the compression; when absent its default, and gzip copies the deflate streams that it is given.
        jobs: threads of zstd, at least 1; when absent as many as fit into 256 MB with the rest. With one or more, zstd
            cuts its input into pieces of a size that only the level decides, so that any number gives the same bytes;
            without threads it does not cut, and gives others. Never zero, therefore, whatever the machine.

    Raises:
        LayerError: the level is not one of the compression.
    """
    chosen = DEFAULT_LEVELS[compression] if level is None else level
    if chosen not in _LEVELS[compression]:
        allowed = _LEVELS[compression]
        raise LayerError(
            f"compression level {chosen} does not exist for {compression}: choose {allowed.start} to {allowed.stop - 1}"
        )
    if compression == "gzip":
        return _CopyingGzip(chosen) if level is None else _Gzip(chosen)
    if compression == "none":
        return _Plain()
    return _Zstd(chosen, jobs or (_JOBS if chosen <= _LAST_LEVEL_OF_TWO_JOBS else 1))
