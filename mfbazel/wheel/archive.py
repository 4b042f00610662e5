"""The table of contents of a wheel, checked before anything of it is used (standard library only).

A wheel is foreign input. What no installer should unpack is refused, and so is what two programs that read zip archives
would understand differently: entries that overlap, data that belongs to none of them, two names or sizes of one entry,
two places of the table of contents.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import BinaryIO

from mfbazel.wheel.limits import SETTING, Limits
from mfbazel.wheel.paths import Folded, folded, unsafe

_LOCAL = struct.Struct("<4s2xHH4xLLLHH")
"""Of a local file header (APPNOTE.TXT, 4.3.7): signature, flags, method, CRC-32, sizes (compressed, and not), lengths of
the name and the extra field."""

_CENTRAL = struct.Struct("<4s24xHHH12x")
"""Of an entry of the central directory (4.3.12): signature, lengths of the name, the extra field and the comment."""

_END = struct.Struct("<4s4H2LH")
"""The end of central directory record without comment (APPNOTE.TXT, 4.3.16)."""

_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
"""The same with long numbers, and what says where it is (4.3.14, 4.3.15): one after the other, and before the other."""

_LONG_END = _END64.size + _LOCATOR.size

_ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Flags of entries that are encrypted in one way or another (4.4.4)."""

_LATER = 0x8
"""Flag of entries whose sizes follow their content (4.4.4)."""

_PATCH = 0x20
_UTF8 = 0x800
_SAME = _ENCRYPTED | _LATER | _UTF8  # in both headers of an entry
_LONG = 0xFFFFFFFF
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
    size = _check_end(archive, file, listed)
    _check_limits(limits, len(listed), sum(info.file_size for info in listed), size)
    for info in listed:
        name = info.orig_filename
        why = unsafe(name.removesuffix("/")) or _unsafe_entry(info)
        if why is None and name in infos:
            why = "it is there twice"
        if why is None and not name.endswith("/") and (other := names.clash(name)):
            why = _clash(name, other)
        if why:
            raise _unsafe_member(name, why)
        if not name.endswith("/"):
            infos[name] = info
    if file_above := _file_above(infos):
        raise _unsafe_member(file_above, "it is a file, and a directory of others")
    _check_order(archive, file, listed)
    return infos


def check_number(file: BinaryIO, limits: Limits) -> None:
    """Refuse an archive with too many entries before :mod:`zipfile` makes an object of half a kilobyte of each.

    Raises:
        UnsafeWheelError: there are more than ``limits`` allow.
        OSError: ``file`` cannot be read.
    """
    size: int = file.seek(0, 2)
    if size <= limits.files * _CENTRAL.size:
        return
    at, length = _directory(file, size)
    file.seek(max(0, at))
    rest, number = length, 0
    while rest > 0 and len(head := file.read(_CENTRAL.size)) == _CENTRAL.size and head.startswith(b"PK\1\2"):
        number += 1
        more = sum(_CENTRAL.unpack(head)[1:])
        file.seek(more, 1)
        rest -= _CENTRAL.size + more
    _check_limits(limits, number, 0, size)


def _directory(file: BinaryIO, size: int) -> tuple[int, int]:
    """Return where :mod:`zipfile` looks for the central directory, and its length; (0, 0) where it finds none."""
    file.seek(max(0, size - _END.size - 0xFFFF))
    start = file.tell()
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        return 0, 0
    length = _END.unpack_from(tail, at)[5]
    file.seek(max(0, start + at - _LONG_END))
    long = file.read(_LONG_END)
    if len(long) == _LONG_END and long.startswith(b"PK\6\6") and long.startswith(b"PK\6\7", _END64.size):
        length = _END64.unpack_from(long)[8]
        at -= len(long)
    return int(start + at - length), int(length)


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
    signature, flags, method, crc, compressed, size, length, extra = _LOCAL.unpack_from(head)
    if signature != b"PK\3\4":
        raise ValueError("there is no local header where the central directory says")
    same = method == info.compress_type and not (flags ^ info.flag_bits) & _SAME
    if not same or length != len(name) or not head.endswith(name):
        raise ValueError("its local header is of another name or compression than the central directory says")
    if _LONG in (compressed, size):
        compressed, size = _long_sizes(file.read(extra), compressed, size)
    told = (crc, compressed, size)
    if told != (info.CRC, info.compress_size, info.file_size) and not (flags & _LATER and not any(told)):
        raise ValueError("its local header is of another size or check sum than the central directory says")
    return int(info.header_offset + _LOCAL.size + length + extra)


def _long_sizes(extra: bytes, compressed: int, size: int) -> tuple[int, int]:
    """Return the two sizes of a local header, from its extra field where they stand there (4.5.3)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1 and length >= 16:
            long_size, long_compressed = struct.unpack_from("<QQ", extra.ljust(20), 4)
            return (
                long_compressed if compressed == _LONG else compressed,
                long_size if size == _LONG else size,
            )
        extra = extra[4 + length :]
    return compressed, size


def _check_limits(limits: Limits, files: int, unpacked: int, size: int) -> None:
    if why := limits.exceeded(files, unpacked, size):
        raise UnsafeWheelError(f"{why}. If it is not, do not install this wheel; report it to its authors.")


def _check_end(archive: zipfile.ZipFile, file: BinaryIO, listed: list[zipfile.ZipInfo]) -> int:
    """Check that the archive ends where the file does, and says once where its entries are; return the file's size."""
    size: int = file.seek(0, 2)
    at = max(0, size - _END.size - len(archive.comment))
    file.seek(at)
    record = file.read(_END.size)
    fields = _END.unpack(record) if len(record) == _END.size else (b"",)
    if fields[0] != b"PK\5\6":
        raise UnsafeWheelError("there is something after the archive's end. Download it again.")
    number, length, start = fields[4:7]
    if number not in (len(listed) & 0xFFFF, 0xFFFF):
        raise UnsafeWheelError(
            f"its end says that it has {number} entries, and its central directory lists {len(listed)}. "
            "Download it again."
        )
    lengths = [at - archive.start_dir, at - archive.start_dir - _LONG_END, _LONG]
    if (
        start not in (archive.start_dir, _LONG)
        or length not in lengths
        or _locator(file, at) not in (None, at - _LONG_END)
    ):
        at_first = min((info.header_offset for info in listed), default=0)
        raise UnsafeWheelError(
            "there is something before the archive's first entry. Download it again."
            if at_first
            else "its end says two things of where its entries are listed. Do not install this wheel; report it to its "
            "authors."
        )
    return size


def _locator(file: BinaryIO, at: int) -> int | None:
    """Return where the long form of the end record is, by what stands before the short one ``at``; or ``None``."""
    file.seek(max(0, at - _LOCATOR.size))
    locator = file.read(_LOCATOR.size)
    return int(_LOCATOR.unpack(locator)[2]) if locator.startswith(b"PK\6\7") else None


def _check_order(archive: zipfile.ZipFile, file: BinaryIO, listed: list[zipfile.ZipInfo]) -> None:
    """Check that entries and central directory lie one after another, with nothing before, between and in two."""
    end, before = 0, ""
    for info in sorted(listed, key=lambda info: info.header_offset):
        if not before and info.header_offset:
            raise UnsafeWheelError("there is something before the archive's first entry. Download it again.")
        if info.header_offset < end:
            raise UnsafeWheelError(
                f"its members {before!r} and {info.orig_filename!r} overlap. Do not install this wheel; report it to "
                "its authors."
            )
        if info.header_offset > end:
            raise UnsafeWheelError(
                f"there is something between its members {before!r} and {info.orig_filename!r} that belongs to none. "
                "Do not install this wheel; report it to its authors."
            )
        try:
            end = content_offset(file, info) + info.compress_size
        except ValueError as error:
            raise _unsafe_member(info.orig_filename, str(error)) from error
        if info.flag_bits & _LATER:
            end += _descriptor(file, end, info)
        before = info.orig_filename
    if end > archive.start_dir:
        raise UnsafeWheelError(f"its member {before!r} does not end before the central directory. Download it again.")
    if end < archive.start_dir:
        raise UnsafeWheelError(
            f"there is something between its member {before!r} and the central directory. Do not install this wheel; "
            "report it to its authors."
        )


def _descriptor(file: BinaryIO, at: int, info: zipfile.ZipInfo) -> int:
    """Return the length of what repeats an entry's sizes after its content (4.3.9), 0 where nothing does."""
    file.seek(at)
    found = file.read(24)
    for form in ("<LQQ", "<LLL"):
        with contextlib.suppress(struct.error):
            told = struct.pack(form, info.CRC, info.compress_size, info.file_size)
            for descriptor in (b"PK\7\x08" + told, told):
                if found.startswith(descriptor):
                    return len(descriptor)
    return 0


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


def _unsafe_member(name: str, why: str) -> UnsafeWheelError:
    return UnsafeWheelError(
        f"unsafe member {_shown(name)}: {why}. Do not install this wheel; report it to its authors."
    )


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def _clash(name: str, other: str) -> str:
    if folded(name, case=False).startswith(folded(other, case=False)):
        return f"it clashes with {other!r}: the two are the same text in two forms of Unicode"
    return (
        f"it clashes with {other!r}: some file systems take the two for the same "
        f"(where it is meant to be so: {SETTING}=case_clashes=yes)"
    )
