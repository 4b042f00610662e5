"""The compressions of a layer. The bytes of each depend on its level and its library, and on nothing else."""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

import zstandard

from mfbazel.layer.errors import LayerError

ZSTD_JOBS = 2
"""Threads of the compressor.

With one or more, zstd cuts its input into jobs of a size that only the level decides, so that any number gives the same
bytes; without threads it does not cut, and gives others. Never zero, therefore, whatever the machine.
"""

DEFAULT_LEVELS = {"none": 0, "gzip": 6, "zstd": 3}
_LEVELS = {"none": range(0, 1), "gzip": range(1, 10), "zstd": range(1, 20)}


class Compressor(Protocol):
    """Takes blocks in order, gives the compressed stream in pieces."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what can be written after ``data`` has been taken in; may be empty."""

    def flush(self) -> bytes:
        """Return the rest of the stream."""


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Gzip:
    """One gzip member (RFC 1952) without time and file name; operating system 255 (unknown), so that hosts agree."""

    def __init__(self, level: int) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._header = struct.pack("<BBBBLBB", 0x1F, 0x8B, 8, 0, 0, {1: 4, 9: 2}.get(level, 0), 255)
        self._crc = 0
        self._size = 0

    def compress(self, data: bytes, /) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        header, self._header = self._header, b""
        return header + self._deflate.compress(data)

    def flush(self) -> bytes:
        return self._header + self._deflate.flush() + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF)


class _Zstd:
    """One zstd frame (RFC 8878) without content size, check sum and dictionary: the digests say both, and better."""

    def __init__(self, level: int, jobs: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, threads=jobs, write_content_size=False, write_checksum=False, write_dict_id=False
        )
        self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def compress(self, data: bytes, /) -> bytes:
        return self._stream.compress(data)

    def flush(self) -> bytes:
        return self._stream.flush()


def compressor(compression: str, level: int | None = None, *, jobs: int = ZSTD_JOBS) -> Compressor:
    """Return a new compressor.

    Args:
        compression: ``none``, ``gzip`` or ``zstd``.
        level: of the compression; its default when absent.
        jobs: threads of zstd, at least 1; does not decide the bytes.

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
        return _Gzip(chosen)
    return _Zstd(chosen, max(1, jobs)) if compression == "zstd" else _Plain()
