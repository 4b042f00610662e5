"""Wheels that nobody should install: archives that are made by hand where zipfile would not make them."""

from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.layer.wheels import make_wheel, record_line


def of_kind(name: str, kind: int, content: bytes = b"") -> Callable[[zipfile.ZipFile], None]:
    """Return what adds a member whose Unix mode is ``kind``."""

    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = kind << 16
        archive.writestr(info, content)

    return add


def special(directory: Path, kind: int) -> Path:
    """Return a wheel whose member demo/special is of another kind than a file; RECORD lists it."""
    line = record_line("demo/special", b"/etc/passwd")
    return make_wheel(directory, record=lambda text: text + line, extra=of_kind("demo/special", kind, b"/etc/passwd"))


def modes(directory: Path, mode: int, name: str = "demo/tool") -> Path:
    """Return a wheel with a file of another mode."""
    return make_wheel(
        directory,
        record=lambda text: text + record_line(name, b"#!/bin/sh\n"),
        extra=of_kind(name, stat.S_IFREG | mode, b"#!/bin/sh\n"),
    )


def twice(directory: Path) -> Path:
    """Return a wheel that has a file twice."""

    def add(archive: zipfile.ZipFile) -> None:
        with warnings.catch_warnings(action="ignore"):
            archive.writestr("demo/__init__.py", b"value = 2\n")

    return make_wheel(directory, extra=add)


def with_files(directory: Path, *names: str) -> Path:
    """Return a wheel with files of these names, which RECORD lists."""
    return make_wheel(directory, files={name: name.encode() for name in names})


def flagged(directory: Path, flags: int) -> Path:
    """Return a wheel whose first member has these flags in both of its headers."""
    wheel = make_wheel(directory)
    data = bytearray(wheel.read_bytes())
    local, central = 0, data.index(b"PK\1\2")
    struct.pack_into("<H", data, local + 6, flags)
    struct.pack_into("<H", data, central + 8, flags)
    wheel.write_bytes(data)
    return wheel


def compressed_by(directory: Path, method: int) -> Path:
    """Return a wheel with a member that is compressed by a method of zipfile's that no wheel has."""

    def add(archive: zipfile.ZipFile) -> None:
        archive.writestr("demo/odd.txt", b"odd" * 100, compress_type=method)

    return make_wheel(directory, record=lambda text: text + record_line("demo/odd.txt", b"odd" * 100), extra=add)


def overlapping(directory: Path) -> Path:
    """Return a wheel two of whose members have the same bytes of the archive (a bomb of many entries, one content)."""
    wheel = with_files(directory, "demo/aaaa.py", "demo/bbbb.py")
    data = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        first = archive.getinfo("demo/aaaa.py").header_offset
    entry = data.index(b"demo/bbbb.py", data.index(b"PK\1\2")) - 46
    struct.pack_into("<L", data, entry + 42, first)
    wheel.write_bytes(data)
    return wheel


def two_names(directory: Path) -> Path:
    """Return a wheel whose local header calls a file otherwise than the central directory does."""
    wheel = with_files(directory, "demo/good.py")
    data = wheel.read_bytes()
    at = data.index(b"demo/good.py")
    wheel.write_bytes(data[:at] + b"demo/evil.py" + data[at + 12 :])
    return wheel


def local(directory: Path, at: int, value: bytes, *, stored: bool = False) -> Path:
    """Return a wheel whose first local header says ``value`` ``at`` a place where the central directory says another."""
    if stored:
        line = record_line("demo/stored.txt", b"text")

        def add(archive: zipfile.ZipFile) -> None:
            archive.writestr("demo/stored.txt", b"text", compress_type=zipfile.ZIP_STORED)

        wheel = make_wheel(directory, record=lambda text: text + line, extra=add)
    else:
        wheel = make_wheel(directory)
    data = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        start = archive.infolist()[-1 if stored else 0].header_offset
    data[start + at : start + at + len(value)] = value
    wheel.write_bytes(data)
    return wheel


def hidden(directory: Path, before: str | None) -> Path:
    """Return a wheel with an entry that its central directory does not list, before ``before``, or else at the end."""
    wheel = with_files(directory, "demo/good.py")
    secret = directory / "hidden.zip"
    with zipfile.ZipFile(secret, "w") as archive:
        archive.writestr("demo/evil.py", b"evil = True\n")
        length = archive.start_dir
    entry = secret.read_bytes()[:length]
    secret.unlink()
    data = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        start = archive.start_dir
        at = archive.getinfo(before).header_offset if before else start
    moved = bytearray(data[start:])
    place = 0
    while moved[place : place + 4] == b"PK\1\2":
        (offset,) = struct.unpack_from("<L", moved, place + 42)
        struct.pack_into("<L", moved, place + 42, offset + (length if offset >= at else 0))
        place += 46 + sum(struct.unpack_from("<HHH", moved, place + 28))
    struct.pack_into("<L", moved, place + 16, start + length)
    wheel.write_bytes(data[:at] + entry + data[at:start] + moved)
    return wheel


def second_end(directory: Path, *, elsewhere: bool = False) -> Path:
    """Return a wheel with a long end record, which :mod:`zipfile` believes, and a short one that says otherwise; or one
    that is said to be elsewhere than where :mod:`zipfile` looks."""
    wheel = with_files(directory, "demo/good.py")
    data = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        start, count = archive.start_dir, len(archive.infolist())
    at = len(data) - 22
    long = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, at - start, start)
    long += struct.pack("<4sLQL", b"PK\6\7", 0, 5 if elsewhere else at, 1)
    end = bytearray(data[at:])
    if not elsewhere:
        struct.pack_into("<L", end, 16, start + 7)
    wheel.write_bytes(data[:at] + long + end)
    return wheel


def many(directory: Path, number: int, *, told: int | None = None) -> Path:
    """Return a wheel of so many empty files, which its end tells as ``told``."""
    names = [b"d/%07d" % index for index in range(number)]
    size = 30 + len(names[0])
    out = bytearray()
    for name in names:
        out += struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name
    start = len(out)
    for index, name in enumerate(names):
        place = struct.pack("<5H2L", 0, 0, 0, 0, 0, 0o100644 << 16, index * size)[2:]
        out += struct.pack("<4s6H3LH", b"PK\1\2", 788, 20, 0, 0, 0, 33, 0, 0, 0, len(name)) + place + name
    count = (number if told is None else told) & 0xFFFF
    out += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(out) - start, start, 0)
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(out)
    return wheel


def unicode_path(directory: Path) -> Path:
    """Return a wheel with a member that has a second name in its extra field 0x7075."""
    import zlib

    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("demo/good.py")
        body = struct.pack("<BL", 1, zlib.crc32(b"demo/good.py")) + b"demo/evil.py"
        info.extra = struct.pack("<HH", 0x7075, len(body)) + body
        archive.writestr(info, b"")

    return make_wheel(directory, record=lambda text: text + record_line("demo/good.py", b""), extra=add)


def edited(directory: Path, edit: Callable[[bytes], bytes]) -> Path:
    """Return a wheel whose bytes were edited."""
    wheel = make_wheel(directory)
    wheel.write_bytes(edit(wheel.read_bytes()))
    return wheel


def bomb(directory: Path, size: int) -> Path:
    """Return a wheel with a file of ``size`` zeros."""
    return make_wheel(directory, files={"demo/zeros.bin": bytes(size)})
