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
