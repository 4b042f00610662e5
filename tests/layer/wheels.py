"""Wheels made for tests, as real archives, and what their layers hold."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from mfbazel.layer.__main__ import main

SITE = "opt/venv/lib/python3.14/site-packages"
WORKSPACE = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Return the variables of a process that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(WORKSPACE), *filter(None, sys.path)])}


def record_line(name: str, data: bytes, algorithm: str = "sha256") -> str:
    """Return the line of RECORD for a file."""
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")
    return f"{name},{algorithm}={digest},{len(data)}\n"


def make_wheel(
    directory: Path,
    name: str = "demo",
    files: dict[str, bytes] | None = None,
    *,
    version: str = "1.0",
    tag: str = "py3-none-any",
    wheel_version: str = "1.0",
    entry_points: str = "",
    executable: tuple[str, ...] = (),
    record: Callable[[str], str] = lambda text: text,
    extra: Callable[[zipfile.ZipFile], Any] = lambda _: None,
    algorithm: str = "sha256",
) -> Path:
    """Write a wheel; ``record`` edits its RECORD, ``extra`` adds members that RECORD does not list."""
    info = f"{name}-{version}.dist-info"
    contents = dict(files if files is not None else {f"{name}/__init__.py": b"value = 1\n"})
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    contents[f"{info}/WHEEL"] = f"Wheel-Version: {wheel_version}\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points.encode()
    lines = "".join(record_line(path, data, algorithm) for path, data in contents.items()) + f"{info}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in contents.items():
            zipped = zipfile.ZipInfo(member)
            zipped.external_attr = (stat.S_IFREG | (0o755 if member in executable else 0o644)) << 16
            zipped.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(zipped, data)
        archive.writestr(f"{info}/RECORD", record(lines))
        extra(archive)
    return path


def layer(tmp_path: Path, *wheels: Path, options: tuple[str, ...] = (), out: str = "out") -> Path:
    """Run the front and return the directory of its outputs."""
    target = tmp_path / out
    target.mkdir(exist_ok=True)
    outputs = ["--blob", f"{target}/l.tar", "--descriptor", f"{target}/l.json", "--files", f"{target}/l.tsv"]
    main(["wheels", "--python", "3.14", *outputs, *options, *map(str, wheels)])
    return target


def content(target: Path) -> bytes:
    """Return the tar of a layer, however it is compressed."""
    data = (target / "l.tar").read_bytes()
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def unpacked(target: Path) -> dict[str, bytes]:
    """Return path → content of the regular files."""
    with tarfile.open(fileobj=io.BytesIO(content(target))) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]


def members(target: Path) -> list[tarfile.TarInfo]:
    """Return the entries of a layer's tar."""
    with tarfile.open(fileobj=io.BytesIO(content(target))) as archive:
        return archive.getmembers()
