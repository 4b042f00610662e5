"""Tars that others made, such as rules_pkg: their descriptors and file lists, or layers of them, in one read."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import zstandard

from mfbazel.layer.blob import Outputs
from mfbazel.layer.compression import compressor
from mfbazel.layer.descriptor import MEDIA_TYPES, Descriptor
from mfbazel.layer.errors import LayerError
from mfbazel.layer.filelist import ListedFile, to_tsv
from mfbazel.layer.foreign import DAMAGED, Member
from mfbazel.layer.output import OutputFile, reading, write_together

_CHUNK = 1 << 20

_ZSTD_PIECE = 1 << 10
"""Bytes of zstd that are decoded at once: 4 of them may stand for 128 KiB, and the decoder has no limit of its own."""


class _Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` stands for, in pieces of some megabytes at most."""

    def at_end(self) -> bool: ...


class _PlainDecoder:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def at_end(self) -> bool:
        return True


class _GzipDecoder:
    """Any number of gzip members, one after another (RFC 1952)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                self._stream, self._fresh = zlib.decompressobj(wbits=31), True
            self._fresh = False
            yield self._stream.decompress(data, _CHUNK)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def at_end(self) -> bool:
        return self._fresh or self._stream.eof


class _ZstdDecoder:
    """Any number of zstd frames, one after another."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_PIECE):
            piece = data[start : start + _ZSTD_PIECE]
            while piece:
                if self._stream.eof:
                    self._stream = zstandard.ZstdDecompressor().decompressobj()
                yield self._stream.decompress(piece)
                piece = self._stream.unused_data if self._stream.eof else b""

    def at_end(self) -> bool:
        return self._stream.eof


_DECODERS: dict[str, Callable[[], _Decoder]] = {"gzip": _GzipDecoder, "zstd": _ZstdDecoder, "none": _PlainDecoder}


def compression_of(head: bytes) -> str:
    """Return the compression (``none``, ``gzip``, ``zstd``) of a file by its first 4 bytes."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if head.startswith(b"\x28\xb5\x2f\xfd") else "none"


class _Reader:
    """The uncompressed content of a file, as a raw stream for :mod:`tarfile`; counts and hashes both sides.

    ``sink`` gets the content in order, too.
    """

    def __init__(self, path: Path, pieces: Iterator[bytes], sink: Callable[[bytes], None] | None = None) -> None:
        self._path = path
        self._pieces = pieces
        self._sink = sink
        self._rest = b""
        self.blob = hashlib.sha256()
        self.tar = hashlib.sha256()
        self.size = 0
        first = next(pieces, b"")
        self.compression = compression_of(first)
        self._decoder = _DECODERS[self.compression]()
        self._contents = self._decoded(first)

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        while data:
            self.blob.update(data)
            self.size += len(data)
            try:
                for content in self._decoder.feed(data):
                    self.tar.update(content)
                    if self._sink:
                        self._sink(content)
                    yield content
            except (zlib.error, zstandard.ZstdError) as error:
                raise LayerError(
                    f"{self._path}: damaged {self.compression} data: {error}. Build the file again."
                ) from error
            data = next(self._pieces, b"")

    def read(self, count: int) -> bytes:
        parts, missing = [self._rest], count - len(self._rest)
        while missing > 0 and (content := next(self._contents, None)) is not None:
            parts.append(content)
            missing -= len(content)
        joined = b"".join(parts)
        self._rest = joined[count:]
        return joined[:count]

    def finish(self) -> None:
        self._rest = b""
        for _ in self._contents:
            pass
        if not self._decoder.at_end():
            raise LayerError(f"{self._path}: the {self.compression} data ends too early. Build the file again.")


def describe(path: Path, distribution: str | None = None) -> tuple[Descriptor, list[ListedFile]]:
    """Return the descriptor of an existing layer and, when ``distribution`` is given, its file list.

    Args:
        path: a tar, plain or compressed with gzip or zstd, told apart by their first bytes.
        distribution: what the file list says in its third column.

    Raises:
        LayerError: the file cannot be read, is damaged, or is not a tar.
    """
    with reading(path) as file:
        reader = _Reader(path, iter(lambda: file.read(_CHUNK), b""))
        files = _members(path, reader, distribution) if distribution is not None else []
        reader.finish()
    descriptor = Descriptor(
        MEDIA_TYPES[reader.compression],
        f"sha256:{reader.blob.hexdigest()}",
        reader.size,
        f"sha256:{reader.tar.hexdigest()}",
    )
    return descriptor, files


def repack(
    path: Path, outputs: Outputs, distribution: str, *, compression: str, level: int | None = None
) -> Descriptor:
    """Write a layer that holds what the existing tar ``path`` holds, compressed as is asked for; reads it once.

    Args:
        path: a tar, plain or compressed.
        outputs: where to write.
        distribution: what the file list says in its third column.
        compression: ``zstd``, ``gzip`` or ``none``.
        level: of the compression; its default when absent.

    Raises:
        LayerError: as :func:`describe`, or an output could not be written.
    """
    packer, digest = compressor(compression, level), hashlib.sha256()
    with OutputFile(outputs.blob) as blob, reading(path) as file:

        def put(data: bytes) -> None:
            digest.update(data)
            blob.write(data)

        def pack(content: bytes) -> None:
            for data in packer.take(content):
                put(data)

        reader = _Reader(path, iter(lambda: file.read(_CHUNK), b""), pack)
        files = _members(path, reader, distribution)
        reader.finish()
        put(packer.flush())
        descriptor = Descriptor(
            MEDIA_TYPES[compression], f"sha256:{digest.hexdigest()}", blob.written, f"sha256:{reader.tar.hexdigest()}"
        )
        contents = {outputs.descriptor: descriptor.to_json()}
        if outputs.files:
            contents[outputs.files] = to_tsv(files)
        write_together(contents, first=blob)
    return descriptor


def _members(path: Path, reader: _Reader, distribution: str) -> list[ListedFile]:
    hashes: dict[str, str] = {}
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=reader, mode="r|", bufsize=_CHUNK, tarinfo=Member
        ) as archive:
            for member in archive:
                name = _inside(path, member)
                if member.issym():
                    hashes[name] = f"-> {member.linkname}"
                elif member.islnk():
                    hashes[name] = hashes.get(_normal(member.linkname), "")
                elif member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    hashes[name] = hashlib.file_digest(content, "sha256").hexdigest()
    except DAMAGED as error:
        raise LayerError(f"{path}: not a tar archive, or a damaged one: {error}") from error
    return [ListedFile(name, content, distribution) for name, content in hashes.items()]


def _normal(name: str) -> str:
    """Return the path of an entry relative to the image's root, as those who unpack layers understand it."""
    return posixpath.normpath(f"/{name.strip('/')}").lstrip("/")


def _inside(path: Path, member: tarfile.TarInfo) -> str:
    """Return the path of an entry, after refusing what programs that unpack layers do not agree about."""
    if ".." in member.name.split("/"):
        raise LayerError(f"{path}: {member.name!r} leaves its directory with '..'. Make the tar without such a name.")
    if member.issparse():
        # The size that it claims may be any, and have no bytes.
        raise LayerError(
            f"{path}: {member.name!r} is a sparse file, which not every program that unpacks layers understands (OCI "
            'image specification, "Sparse files"). Make the tar without them, with GNU tar without --sparse.'
        )
    return _normal(member.name)
