"""Tars that others made, such as rules_pkg: their descriptors and file lists, or layers of them, in one read."""

from __future__ import annotations

import hashlib
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
from mfbazel.layer.output import OutputFile, reading, write_together

_CHUNK = 1 << 20


class _Decoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def at_end(self) -> bool: ...


class _PlainDecoder:
    def feed(self, data: bytes) -> bytes:
        return data

    def at_end(self) -> bool:
        return True


class _GzipDecoder:
    """Any number of gzip members, one after another (RFC 1952)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._fresh = True

    def feed(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._stream.eof:
                self._stream, self._fresh = zlib.decompressobj(wbits=31), True
            self._fresh = False
            out.append(self._stream.decompress(data))
            data = self._stream.unused_data
        return b"".join(out)

    def at_end(self) -> bool:
        return self._fresh or self._stream.eof


class _ZstdDecoder:
    """Any number of zstd frames, one after another."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()

    def feed(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._stream.eof:
                self._stream = zstandard.ZstdDecompressor().decompressobj()
            out.append(self._stream.decompress(data))
            data = self._stream.unused_data if self._stream.eof else b""
        return b"".join(out)

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
        self._take(first)

    def _take(self, data: bytes) -> None:
        self.blob.update(data)
        self.size += len(data)
        try:
            content = self._decoder.feed(data)
        except (zlib.error, zstandard.ZstdError) as error:
            raise LayerError(
                f"{self._path}: damaged {self.compression} data: {error}. Build the file again."
            ) from error
        self.tar.update(content)
        if self._sink:
            self._sink(content)
        self._rest += content

    def read(self, count: int) -> bytes:
        while len(self._rest) < count and (data := next(self._pieces, b"")):
            self._take(data)
        result, self._rest = self._rest[:count], self._rest[count:]
        return result

    def finish(self) -> None:
        self._rest = b""
        while data := next(self._pieces, b""):
            self._take(data)
            self._rest = b""
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
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_CHUNK) as archive:  # type: ignore[call-overload]
            for member in archive:
                name = member.name.removeprefix("./").strip("/")
                if member.issym():
                    hashes[name] = f"-> {member.linkname}"
                elif member.islnk():
                    hashes[name] = hashes.get(member.linkname.removeprefix("./").strip("/"), "")
                elif member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    hashes[name] = hashlib.file_digest(content, "sha256").hexdigest()
    except tarfile.TarError as error:
        raise LayerError(f"{path}: not a tar archive, or a damaged one: {error}") from error
    return [ListedFile(name, content, distribution) for name, content in hashes.items()]
