"""Unpacking source archives, which are foreign: nothing is written outside of the directory, whatever they say.

Formats: the tar archives of PyPA's specification "Source distribution format", older ones with other compressions, and
zip. What is written depends on the archive alone: modes are 0755 or 0644, times are fixed, owners are this user.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mfbazel.build.errors import BuildError

EPOCH = 315532800
"""1980-01-01 in seconds since 1970, the first time that a zip archive can hold: the time of everything built here."""

MOST_BYTES = 8 << 30
"""Bytes that a source may unpack to."""

MOST_MEMBERS = 500_000
"""Files, links and directories that a source may hold."""

_CHUNK = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class _Member:
    """One entry: ``kind`` is ``directory``, ``file``, ``link`` (symbolic), ``same`` (hard link) or what is refused.

    ``target``: of links. ``size`` in bytes. ``open``: the content of a file.
    """

    path: str
    kind: str
    executable: bool = False
    size: int = 0
    target: str = ""
    open: Callable[[], AbstractContextManager[IO[bytes]]] | None = None


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack ``archive`` below ``directory``, which must not exist yet; return the one directory at its top.

    Raises:
        BuildError: it is no archive, damaged, too large, holds a path or link that leads out of it or something that is
            neither file, directory nor link, or has no single directory at its top.
    """
    directory.mkdir(parents=True)
    try:
        _extract(archive, directory)
    except OSError as error:
        raise BuildError(f"{archive.name}: cannot unpack: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise BuildError(f"{archive.name}: not a readable source archive: {error}. Download it again.") from error
    tops = sorted(directory.iterdir())
    if len(tops) != 1 or not tops[0].is_dir() or tops[0].is_symlink():
        names = ", ".join(path.name for path in tops[:3]) or "nothing"
        raise BuildError(f"{archive.name}: a source archive has one directory at its top; this one has {names}")
    _set_times(directory)
    return tops[0]


def _extract(archive: Path, directory: Path) -> None:
    count = written = 0
    for member in _members(archive):
        count, written = count + 1, written + member.size
        if count > MOST_MEMBERS or written > MOST_BYTES:
            raise BuildError(
                f"{archive.name}: it unpacks to more than {MOST_MEMBERS} files or {MOST_BYTES >> 30} GiB; not used"
            )
        why = _unsafe(member)
        target = directory / member.path
        if why is None and _goes_through_link(directory, member.path):
            why = "it lies below a link"
        if why is None and member.kind == "same" and not (directory / member.target).is_file():
            why = f"it is a hard link to '{member.target}', which is not before it in the archive"
        if why:
            raise BuildError(f"{archive.name}: unsafe member '{member.path}': {why}. The source was not built.")
        _write(member, target, directory)


def _unsafe(member: _Member) -> str | None:
    """Return why ``member`` must not be written, ``None`` if it may."""
    path = PurePosixPath(member.path)
    if path.is_absolute() or "\0" in member.path:
        return "its path is absolute"
    if ".." in path.parts:
        return "its path has '..'"
    if member.kind == "link":
        return _unsafe_link(path, member.target)
    if member.kind == "same":
        target = PurePosixPath(member.target)
        return "it is a hard link that leads out" if target.is_absolute() or ".." in target.parts else None
    return None if member.kind in ("file", "directory") else f"it is a {member.kind}, neither file, directory nor link"


def _unsafe_link(path: PurePosixPath, target: str) -> str | None:
    """Refuse what may lead out: ``..`` counts only at the start of a target, where it means what it seems to."""
    parts = PurePosixPath(target).parts
    up = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or up > len(path.parts) - 1 or ".." in parts[up:]:
        return f"it is a link to '{target}', which leads out"
    return None


def _goes_through_link(directory: Path, path: str) -> bool:
    parents = list(PurePosixPath(path).parents)[:-1]
    return any((directory / parent).is_symlink() for parent in parents)


def _write(member: _Member, target: Path, directory: Path) -> None:
    if member.kind == "directory":
        if target.is_symlink():
            target.unlink()
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o755)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():  # a later member of the same path wins, as in tar
        target.unlink()
    if member.kind == "link":
        target.symlink_to(member.target)
        return
    if member.kind == "same":
        shutil.copyfile(directory / member.target, target)
        target.chmod(stat.S_IMODE((directory / member.target).stat().st_mode))
        return
    assert member.open is not None
    with member.open() as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, _CHUNK)
    target.chmod(0o755 if member.executable else 0o644)


def _set_times(directory: Path) -> None:
    for top, directories, files in os.walk(directory, topdown=False):
        for name in (*files, *directories):
            os.utime(os.path.join(top, name), (EPOCH, EPOCH), follow_symlinks=False)  # noqa: PTH118


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield from (_of_zip(zipped, info) for info in zipped.infolist())
        return
    with tarfile.open(archive) as tarred:
        yield from (_of_tar(tarred, info) for info in tarred)


def _of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if info.isdir():
        return _Member(info.name, "directory")
    if info.issym():
        return _Member(info.name, "link", target=info.linkname)
    if info.islnk():
        return _Member(info.name, "same", target=info.linkname)
    if not info.isreg():
        return _Member(info.name, "device or pipe")

    def content() -> IO[bytes]:
        opened = archive.extractfile(info)
        assert opened is not None
        return opened

    return _Member(info.name, "file", bool(info.mode & 0o111), info.size, open=content)


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    name = info.orig_filename
    if info.is_dir():
        return _Member(name, "directory")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return _Member(name, "special file")
    return _Member(name, "file", bool(mode & 0o111), info.file_size, open=lambda: archive.open(info))
