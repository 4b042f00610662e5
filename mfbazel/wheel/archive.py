"""The table of contents of a wheel, checked before anything of it is used (standard library only).

A wheel is foreign input. What no installer should unpack is refused, and so is what two programs that read zip archives
would understand differently (entries that overlap, data before or after the archive, two names of one entry).
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import BinaryIO

from mfbazel.wheel.limits import SETTING, Limits
from mfbazel.wheel.paths import Folded, folded, unsafe

_LOCAL = struct.Struct("<4s2xHH16xHH")
"""Of a local file header (APPNOTE.TXT, 4.3.7): signature, flags, method, lengths of the name and the extra field."""

_END = struct.Struct("<4s4H2LH")
"""The end of central directory record without comment (APPNOTE.TXT, 4.3.16)."""

_ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Flags of entries that are encrypted in one way or another (4.4.4)."""

_PATCH = 0x20
_UTF8 = 0x800
_SAME = _ENCRYPTED | _UTF8  # in both headers of an entry
_SHOWN = 300
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    OSError,
)
"""What :mod:`zipfile` raises for archives that are damaged, or made to look so."""


class UnsafeWheelError(Exception):
    """A wheel that must not be unpacked; the message says which entry, why, and what to do."""


def contents(archive: zipfile.ZipFile, file: BinaryIO, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a wheel by path.

    Args:
        archive: the wheel, open.
        file: the same one's bytes.
        limits: how large it may be.

    Raises:
        UnsafeWheelError: an entry, or the archive as a whole, is what no installer should unpack.
        OSError: ``file`` cannot be read.
    """
    infos: dict[str, zipfile.ZipInfo] = {}
    names = Folded(case=not limits.case_clashes)
    listed = archive.infolist()
    size = _check_frame(archive, file, listed)
    if why := limits.exceeded(len(listed), sum(info.file_size for info in listed), size):
        raise UnsafeWheelError(f"{why}. If it is not, do not install this wheel; report it to its authors.")
    for info in listed:
        name = info.orig_filename
        why = unsafe(name.removesuffix("/")) or _unsafe_entry(info)
        if why is None and name in infos:
            why = "it is there twice"
        if why is None and not name.endswith("/") and (other := names.clash(name)):
            why = _clash(name, other)
        if why:
            raise UnsafeWheelError(
                f"unsafe member {_shown(name)}: {why}. Do not install this wheel; report it to its authors."
            )
        if not name.endswith("/"):
            infos[name] = info
    if file_above := _file_above(infos):
        raise UnsafeWheelError(
            f"unsafe member {_shown(file_above)}: it is a file, and a directory of others. Do not install this wheel; "
            "report it to its authors."
        )
    return infos


def content_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where in ``file`` the content of an entry begins.

    Raises:
        ValueError: there is no local header of this entry: the archive is damaged, or says two things.
        OSError: ``file`` cannot be read.
    """
    name = _raw_name(info)
    file.seek(info.header_offset)
    head = file.read(_LOCAL.size + len(name))
    if len(head) < _LOCAL.size + len(name):
        raise ValueError("its local header is cut off")
    signature, flags, method, length, extra = _LOCAL.unpack_from(head)
    if signature != b"PK\3\4":
        raise ValueError("there is no local header where the central directory says")
    same = method == info.compress_type and not (flags ^ info.flag_bits) & _SAME
    if not same or length != len(name) or not head.endswith(name):
        raise ValueError("its local header is of another name or compression than the central directory says")
    return int(info.header_offset + _LOCAL.size + length + extra)


def _check_frame(archive: zipfile.ZipFile, file: BinaryIO, listed: list[zipfile.ZipInfo]) -> int:
    """Check that the archive is the whole file, and its entries lie one after another; return the file's size."""
    size: int = file.seek(0, 2)
    file.seek(max(0, size - _END.size - len(archive.comment)))
    record = file.read(_END.size)
    fields = _END.unpack(record) if len(record) == _END.size else (b"",)
    if fields[0] != b"PK\5\6":
        raise UnsafeWheelError("there is something after the archive's end. Download it again.")
    if fields[4] not in (len(listed) & 0xFFFF, 0xFFFF):
        raise UnsafeWheelError(
            f"its end says that it has {fields[4]} entries, and its central directory lists {len(listed)}. "
            "Download it again."
        )
    end, before = 0, ""
    for info in sorted(listed, key=lambda info: info.header_offset):
        if not before and info.header_offset:
            raise UnsafeWheelError("there is something before the archive's first entry. Download it again.")
        if info.header_offset < end:
            raise UnsafeWheelError(
                f"its members {before!r} and {info.orig_filename!r} overlap. Do not install this wheel; report it to "
                "its authors."
            )
        end = info.header_offset + _LOCAL.size + len(_raw_name(info)) + info.compress_size
        before = info.orig_filename or "?"
    if end > archive.start_dir:
        raise UnsafeWheelError(f"its member {before!r} does not end before the central directory. Download it again.")
    return size


def _file_above(names: Collection[str]) -> str | None:
    """Return one of ``names`` that is a directory of another one."""
    directories: set[str] = set()
    for name in names:
        directory = name.rpartition("/")[0]
        while directory and directory not in directories:
            if directory in names:
                return directory
            directories.add(directory)
            directory = directory.rpartition("/")[0]
    return None


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """Return the name of an entry as the archive has it."""
    name = info.orig_filename
    return name.encode("utf-8" if info.flag_bits & _UTF8 or name.isascii() else "cp437")


def _unsafe_entry(info: zipfile.ZipInfo) -> str | None:
    """Return why an entry is refused for what it is.

    Symbolic links are refused wherever they point to: the wheel format has none, and installers write the target's name
    into a regular file instead, so that no program can rely on them.
    """
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if info.flag_bits & _PATCH:
        return "it is a patch for another file"
    if info.filename != info.orig_filename:
        return f"it has a second name, {info.filename!r}"
    if info.compress_type not in _COMPRESSIONS:
        return f"its compression is method {info.compress_type}; members of wheels are stored or deflated"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return f"it is stored, with {info.file_size} bytes in {info.compress_size}"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "it is a symbolic link, which the wheel format does not have"
    allowed = (0, stat.S_IFDIR) if info.orig_filename.endswith("/") else (0, stat.S_IFREG)
    return None if kind in allowed else f"its type is {kind:#o}, neither file nor directory"


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def _clash(name: str, other: str) -> str:
    if folded(name, case=False).startswith(folded(other, case=False)):
        return f"it clashes with {other!r}: the two are the same text in two forms of Unicode"
    return (
        f"it clashes with {other!r}: some file systems take the two for the same "
        f"(where it is meant to be so: {SETTING}=case_clashes=yes)"
    )
