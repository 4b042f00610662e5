"""Tar archives whose bytes depend on their entries only.

Format: POSIX.1-2001, that is a ustar header, preceded by a pax header where a path, a link or a size does not fit into
it. Written here instead of by :mod:`tarfile`, whose headers may change with Python's version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

MTIME = 946684800
"""Time of every entry: 2000-01-01 00:00:00 UTC, seconds since 1970.

The one that rules_pkg's ``portable_mtime`` uses, so that all layers of an image agree. Not 0: zip files (which Python's
tools make out of installed packages) begin in 1980, and 1980-01-01 UTC is in 1979 west of Greenwich.
"""

BLOCK = 512
FILE, HARDLINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
_PAX = b"x"
_MAX_SIZE = 8**11 - 1
_TEMPLATE = b"ustar\x0000" + bytes(32 + 32)


class Source(Protocol):
    """Content of a file of a layer."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def sha256(self) -> str:
        """Hex digest of the content; may be known only after :meth:`chunks` has ended."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in order."""


@dataclass(frozen=True, slots=True)
class Deflated:
    """A part of a file's content, together with what of the file's deflate stream (RFC 1951) came with it.

    The streams of a file's parts, joined, are one complete stream of the joined contents.

    Attributes:
        content: the plain bytes; may be empty.
        stream: the deflated bytes; may be empty.
        last: whether the stream ends with this part.
    """

    content: bytes
    stream: bytes
    last: bool


Piece: TypeAlias = bytes | Deflated
"""A run of an archive: plain bytes, or bytes that are there in deflated form too."""


def plain(piece: Piece) -> bytes:
    """Return the archive's own bytes of a piece."""
    return piece.content if isinstance(piece, Deflated) else piece


@runtime_checkable
class DeflatedSource(Protocol):
    """A :class:`Source` whose content may be there as a deflate stream already."""

    @property
    def deflated_size(self) -> int | None:
        """Length of the stream in bytes, ``None`` where there is none."""

    def deflated(self) -> Iterator[Deflated]:
        """Yield content and stream in order."""


@dataclass(frozen=True)
class Content:
    """Content that is in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """Hex digest of the content."""
        return hashlib.sha256(self.data).hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        yield self.data


EMPTY = Content(b"")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer.

    Attributes:
        path: relative to the image's root, ``/`` between components, none at either end.
        kind: :data:`FILE`, :data:`DIRECTORY`, :data:`SYMLINK` or :data:`HARDLINK`.
        mode: permission bits.
        source: content of a file.
        link: target of a link.
        owner: whose it is, for errors and the file list, for example ``numpy==2.5.5``.
        uid, gid: numeric owner.
    """

    path: str
    kind: bytes = FILE
    mode: int = 0o644
    source: Source = field(default=EMPTY, compare=False)
    link: str = ""
    owner: str = ""
    uid: int = 0
    gid: int = 0


def header(entry: Entry) -> bytes:
    """Return the header blocks of ``entry``: one ustar header, after a pax header where it does not suffice."""
    path = entry.path + "/" if entry.kind == DIRECTORY else entry.path
    size = entry.source.size if entry.kind == FILE else 0
    pax: dict[str, str] = {}
    name, prefix = _split(path, pax)
    link = _short(entry.link, 100)
    if link is None:
        pax["linkpath"] = entry.link
        link = b""
    if size > _MAX_SIZE:
        pax["size"] = str(size)
    stored = 0 if "size" in pax else size
    main = _ustar(name, prefix, entry.kind, entry.mode, stored, link, entry.uid, entry.gid)
    return _pax(path, pax) + main if pax else main


def padding(size: int) -> bytes:
    """Return the zero bytes that follow ``size`` bytes of content."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)
"""What ends an archive."""


COPY_FROM = 16 << 10
"""Shortest deflate stream, in bytes, that is worth a gzip member of its own.

Two members more cost 36 bytes, and the text around them a fresh window each: with 16 KiB a blob is at most about 1 %
larger than one member of level 6, with 4 KiB up to 8 %; what is below takes little time to compress.
"""

_WHOLE = 64 << 10
"""Chunks of this length are passed on as they are; shorter ones are joined, as each piece has its price."""


def pieces(entries: Iterable[Entry], size: int, *, copy: bool = False) -> Iterator[Piece]:
    """Yield the archive of ``entries``, short parts joined to pieces of about ``size`` bytes.

    The sources are read as the pieces are asked for; their errors pass through.

    Args:
        entries: in the archive's order.
        size: bytes at which joined parts are passed on.
        copy: yield the content of files that have a deflate stream of at least :data:`COPY_FROM` bytes with it.
    """
    joined = bytearray()
    for entry in entries:
        joined += header(entry)
        if entry.kind == FILE:
            for piece in _content(entry.source, copy):
                if isinstance(piece, Deflated) or len(piece) >= _WHOLE:
                    yield from _taken(joined)
                    yield piece
                else:
                    joined += piece
                    if len(joined) >= size:
                        yield from _taken(joined)
            joined += padding(entry.source.size)
        if len(joined) >= size:
            yield from _taken(joined)
    joined += END
    yield from _taken(joined)


def _content(source: Source, copy: bool) -> Iterator[Piece]:
    if copy and isinstance(source, DeflatedSource) and (source.deflated_size or 0) >= COPY_FROM:
        return source.deflated()
    return source.chunks()


def _taken(joined: bytearray) -> Iterator[bytes]:
    """Yield what has been joined, if anything, and begin again."""
    if joined:
        yield bytes(joined)
        joined.clear()


def blocks(entries: Iterable[Entry], size: int) -> Iterator[bytes]:
    """Yield the archive of ``entries`` as plain bytes; see :func:`pieces`."""
    for piece in pieces(entries, size):
        assert isinstance(piece, bytes)
        yield piece


def _short(text: str, limit: int) -> bytes | None:
    """Return ``text`` as a ustar field, ``None`` if it needs a pax record."""
    if not text.isascii() or len(text) > limit:
        return None
    return text.encode("ascii")


def _split(path: str, pax: dict[str, str]) -> tuple[bytes, bytes]:
    """Return name and prefix of a ustar header; add a pax record where they cannot hold ``path``."""
    name = _short(path, 100)
    if name is not None:
        return name, b""
    if path.isascii() and len(path) <= 256:
        cut = path.find("/", max(0, len(path) - 101))
        if 0 < cut <= 155 and cut < len(path) - 1:
            return path[cut + 1 :].encode("ascii"), path[:cut].encode("ascii")
    pax["path"] = path
    return path.encode("ascii", "replace")[:100], b""


def _ustar(name: bytes, prefix: bytes, kind: bytes, mode: int, size: int, link: bytes, uid: int, gid: int) -> bytes:
    head = b"%s%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00" % (name.ljust(100, b"\0"), mode, uid, gid, size, MTIME)
    tail = b"%s%s%s0000000\x000000000\x00%s" % (kind, link.ljust(100, b"\0"), _TEMPLATE, prefix.ljust(167, b"\0"))
    total = sum(head) + sum(tail) + 8 * 32
    return b"%s%06o\x00 %s" % (head, total, tail)


def _pax(path: str, records: dict[str, str]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    name = b"PaxHeaders/" + path.rstrip("/").rpartition("/")[2].encode("ascii", "replace")[:88]
    return _ustar(name, b"", _PAX, 0o644, len(body), b"", 0, 0) + body + padding(len(body))


def _record(key: str, value: str) -> bytes:
    """Return a pax record: its own length in decimal, then ``key=value`` and a newline."""
    rest = b" %s=%s\n" % (key.encode(), value.encode())
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)
