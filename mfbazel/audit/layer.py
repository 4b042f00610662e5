"""One layer read from its first to its last byte: what in it should not be there."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import zstandard
from isal import igzip, isal_zlib

from mfbazel.audit.errors import AuditError
from mfbazel.audit.secrets import LONGEST, secrets
from mfbazel.layer.foreign import DAMAGED, Member

# Its type stubs declare an instance.
_GZIP_ERROR = cast(type[Exception], isal_zlib.error)
_READ = 1 << 20
_LONGEST_RECORD = 64 << 20
_SETUID, _SETGID, _STICKY, _WRITABLE = 0o4000, 0o2000, 0o1000, 0o002

_CAPABILITIES = "SCHILY.xattr.security.capability"
"""Of a pax header: what a program may do although its user is not root (Linux, capabilities(7))."""

_KINDS: tuple[tuple[str, Callable[[tarfile.TarInfo], bool]], ...] = (
    ("file", lambda member: member.isreg() or member.islnk()),
    ("directory", lambda member: member.isdir()),
    ("device", lambda member: member.isdev()),
)
"""What has a mode that counts; of symbolic links none does."""

SECRET, SETUID, WRITABLE = "secret", "setuid", "world-writable"
"""Kinds of findings."""


@dataclass(frozen=True, order=True)
class Found:
    """Something in a layer.

    Attributes:
        path: absolute, in the image.
        kind: :data:`SECRET`, :data:`SETUID` (or setgid, or capabilities) or :data:`WRITABLE`.
        what: more of it, for people; of secrets never the secret.
        distribution: ``name==version`` whose file it is; ``None``: none of the layer's.
    """

    path: str
    kind: str
    what: str
    distribution: str | None = None


@dataclass(frozen=True)
class LayerContent:
    """What was found, and whether the layer makes the virtual environment, below which everything is the base's."""

    found: tuple[Found, ...]
    environment: bool


def read_layer(
    blob: Path, digest: str, media_type: str, workdirs: Iterable[str], advance: Callable[[int], None] = lambda _: None
) -> LayerContent:
    """Read a layer.

    Args:
        blob: its file.
        digest: ``sha256:…`` that the blob must have.
        media_type: of the layer.
        workdirs: absolute paths of directories that are writable for any user on purpose.
        advance: told how many more bytes of the blob have been read.

    Raises:
        AuditError: the blob cannot be read, is damaged, or has another digest.
    """
    known = {path for name in workdirs if (path := _normal(name))}
    found: list[Found] = []
    records: dict[str, bytes] = {}
    environment = False
    try:
        with blob.open("rb") as file:
            stream = _Counting(file, advance)
            with _uncompressed(stream, media_type, blob) as content:
                with tarfile.open(fileobj=content, mode="r|", bufsize=_READ, tarinfo=Member) as archive:
                    for member in archive:
                        path = _normal(member.name)
                        environment = environment or path == "opt/venv/pyvenv.cfg"
                        found += _modes(member, path, known)
                        if member.isreg():
                            found += _content(archive, member, path, records)
                while content.read(_READ):
                    pass
            while stream.read(_READ):
                pass
    except (*DAMAGED, zstandard.ZstdError, _GZIP_ERROR, OSError) as error:
        raise AuditError(f"the layer {blob} cannot be read: {error}. Build the image again.") from error
    if stream.digest != digest:
        raise AuditError(f"the layer {blob} is damaged: its digest is {stream.digest}. Build the image again.")
    return LayerContent(tuple(sorted(_owned(found, records))), environment)


class _Counting(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._advance = advance
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._digest.update(data)
        self._advance(len(data))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _uncompressed(stream: _Counting, media_type: str, blob: Path) -> Iterator[IO[bytes]]:
    if media_type.endswith(("+zstd", ".zstd")):
        with zstandard.ZstdDecompressor().stream_reader(
            cast(IO[bytes], stream), read_size=_READ, read_across_frames=True
        ) as content:
            yield cast(IO[bytes], content)
    elif media_type.endswith(("+gzip", ".gzip")):
        with igzip.IGzipFile(fileobj=io.BufferedReader(stream, _READ), mode="rb") as unzipped:  # type: ignore[no-untyped-call]
            yield cast(IO[bytes], unzipped)
    elif media_type.endswith(".tar"):
        yield cast(IO[bytes], stream)
    else:
        raise AuditError(f"the layer {blob} has the media type {media_type}, which is none of tar, gzip and zstd.")


def _modes(member: tarfile.TarInfo, path: str, workdirs: set[str]) -> Iterator[Found]:
    """Yield what is wrong with the mode of an entry; that of a hard link changes the file that it leads to."""
    mode = member.mode
    kind = next((word for word, true in _KINDS if true(member)), "link")
    bits = [word for bit, word in ((_SETUID, "setuid"), (_SETGID, "setgid")) if mode & bit and kind == "file"]
    bits += ["capabilities"] if _CAPABILITIES in member.pax_headers else []
    if bits:
        yield Found(f"/{path}", SETUID, f"{' and '.join(bits)}, mode {mode:o}, owner {member.uid}:{member.gid}")
    meant = kind == "link" or (kind == "directory" and (mode & _STICKY or path in workdirs))
    if mode & _WRITABLE and not meant:
        yield Found(f"/{path}", WRITABLE, f"{kind}, mode {mode:o}")


def _normal(name: str) -> str:
    """Return a path relative to the image's root, as those who unpack layers understand it."""
    return posixpath.normpath(f"/{name.strip('/')}").lstrip("/")


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, records: dict[str, bytes]
) -> Iterator[Found]:
    is_record = path.endswith(".dist-info/RECORD") and member.size <= _LONGEST_RECORD
    if member.size > LONGEST and not is_record:
        return
    file = archive.extractfile(member)
    content = file.read() if file else b""
    if is_record:
        records[path] = content
        return
    for what in secrets(path, content):
        yield Found(f"/{path}", SECRET, what)


def _owned(found: list[Found], records: dict[str, bytes]) -> Iterator[Found]:
    """Yield what was found with the distribution whose RECORD lists it."""
    owners: dict[str, str] = {}
    wanted = {item.path for item in found}
    for path, text in records.items() if found else ():
        directory = posixpath.dirname(posixpath.dirname(f"/{path}"))
        name, _, version = posixpath.basename(posixpath.dirname(path)).removesuffix(".dist-info").partition("-")
        with contextlib.suppress(csv.Error):  # what is not a RECORD names no owner
            for row in csv.reader(text.decode("utf-8", "replace").splitlines()):
                listed = posixpath.normpath(posixpath.join(directory, row[0])) if row else ""
                if listed in wanted:
                    owners[listed] = f"{name}=={version}"
    for item in found:
        yield Found(item.path, item.kind, item.what, owners.get(item.path))
