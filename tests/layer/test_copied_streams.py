"""gzip layers: the wheel's own deflate streams, and what happens to streams that are not as the archive says."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbazel.layer import LayerError
from mfbazel.layer.existing import describe
from mfbazel.layer.tar import COPY_FROM
from tests.layer.wheels import SITE, content, layer, make_wheel, record_line, unpacked

GZIP = ("--compression", "gzip")


def text(size: int, seed: int = 7) -> bytes:
    """Return reproducible text that deflates to about a third."""
    words = [b"layer", b"wheel", b"digest", b"stream", b"member", b"content"]
    generator = random.Random(seed)
    return b" ".join(generator.choice(words) + b"%d" % generator.randrange(1000) for _ in range(size // 9))


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def streams(wheel: Path) -> dict[str, bytes]:
    """Return path → deflate stream of the wheel's members."""
    data = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        found = {}
        for info in archive.infolist():
            lengths = data[info.header_offset + 26 : info.header_offset + 30]
            start = info.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
            found[info.filename] = data[start : start + info.compress_size]
    return found


def gzip_members(blob: bytes) -> list[bytes]:
    """Return the contents of the members of a gzip file."""
    found = []
    while blob:
        stream = zlib.decompressobj(wbits=31)
        found.append(stream.decompress(blob))
        assert stream.eof
        blob = stream.unused_data
    return found


def test_long_streams_are_copied_and_short_ones_share_members(tmp_path: Path) -> None:
    files = {f"demo/small{i}.py": text(3000, i) for i in range(20)} | {
        "demo/a.txt": text(200_000),
        "z.txt": text(99_999),
    }
    wheel = make_wheel(tmp_path, files=files)
    target = layer(tmp_path, wheel, options=GZIP)
    blob = (target / "l.tar").read_bytes()
    found = streams(wheel)
    for name, stream in found.items():
        assert (len(stream) >= COPY_FROM) == (name in ("demo/a.txt", "z.txt"))
        assert (stream in blob) == (len(stream) >= COPY_FROM), name
    contents = gzip_members(blob)
    assert len(contents) == 5, "two copied, and what is before, between and after them"
    assert [contents[1], contents[3]] == [files["demo/a.txt"], files["z.txt"]]
    assert content(target) == content(layer(tmp_path, wheel, options=("--compression", "none"), out="plain"))


def test_copied_layers_are_read_by_gzip_tarfile_and_our_own_reader(tmp_path: Path) -> None:
    target = layer(tmp_path, make_wheel(tmp_path, files={"demo.txt": text(300_000)}), options=GZIP)
    tar = content(target)
    with tarfile.open(target / "l.tar", "r:gz") as archive:
        assert archive.extractfile(f"{SITE}/demo.txt").read() == text(300_000)  # type: ignore[union-attr]
    descriptor, _ = describe(target / "l.tar", "demo")
    assert descriptor.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    command = shutil.which("gzip")
    assert command, "gzip is part of every Linux"
    assert subprocess.run([command, "-dc", target / "l.tar"], capture_output=True, check=True).stdout == tar


def test_members_say_no_time_name_or_system(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.txt": text(300_000)})
    blob = (layer(tmp_path, wheel, options=GZIP) / "l.tar").read_bytes()
    assert blob.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff") == 3


@pytest.mark.parametrize("level", ["1", "6", "9"])
def test_an_explicit_level_compresses_everything(tmp_path: Path, level: str) -> None:
    wheel = make_wheel(tmp_path, files={"demo.txt": text(300_000)})
    target = layer(tmp_path, wheel, options=(*GZIP, "--level", level))
    blob = (target / "l.tar").read_bytes()
    assert gzip_members(blob) == [content(target)]
    stream = zlib.compressobj(int(level), zlib.DEFLATED, -15)
    assert blob[10:-8] == stream.compress(content(target)) + stream.flush()


def test_stored_members_are_compressed(tmp_path: Path) -> None:
    def store(archive: zipfile.ZipFile) -> None:
        archive.writestr(zipfile.ZipInfo("stored.txt"), text(300_000))

    wheel = make_wheel(tmp_path, record=listing("stored.txt", text(300_000)), extra=store)
    target = layer(tmp_path, wheel, options=GZIP)
    blob = (target / "l.tar").read_bytes()
    assert len(blob) < 150_000
    assert len(gzip_members(blob)) == 1
    assert unpacked(target)[f"{SITE}/stored.txt"] == text(300_000)


def listing(name: str, data: bytes) -> Callable[[str], str]:
    return lambda record: record + record_line(name, data)


def with_stream(tmp_path: Path, stream: bytes, data: bytes, **claims: int) -> Path:
    """Make a wheel whose member odd.bin has the bytes ``stream`` and claims to be the content ``data``, deflated."""

    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("odd.bin")
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(info, stream)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = len(data)
        info.CRC = claims.get("crc", zlib.crc32(data))
        assert archive.fp
        for place, value in ((8, struct.pack("<H", zipfile.ZIP_DEFLATED)), (14, struct.pack("<L", info.CRC))):
            archive.fp.seek(info.header_offset + place)
            archive.fp.write(value)  # what the local header says
        archive.fp.seek(info.header_offset + 22)
        archive.fp.write(struct.pack("<L", info.file_size))
        archive.fp.seek(archive.start_dir)

    return make_wheel(tmp_path, record=listing("odd.bin", data), extra=add)


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", deflated(text(1000)), bytes(300_000)])
def test_bytes_after_the_end_of_a_stream_are_left_out(tmp_path: Path, garbage: bytes) -> None:
    data = text(200_000)
    wheel = with_stream(tmp_path, deflated(data) + garbage, data)
    target = layer(tmp_path, wheel, options=GZIP)
    blob = (target / "l.tar").read_bytes()
    assert data in gzip_members(blob)
    assert deflated(data) in blob
    assert content(target) == content(layer(tmp_path, wheel, out="zstd"))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("fault", ["endless", "short", "crc", "damaged"])
def test_streams_that_are_not_what_the_archive_says_are_refused(tmp_path: Path, fault: str, compression: str) -> None:
    data = text(200_000)
    claims = {}
    if fault == "endless":
        writer = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = writer.compress(data) + writer.flush(zlib.Z_SYNC_FLUSH)
        expected = rf"the deflate stream of odd\.bin does not end within its {len(stream)} bytes"
    elif fault == "short":
        stream, expected = deflated(data)[:-100], r"odd\.bin does not have"
    elif fault == "crc":
        stream, claims, expected = deflated(data), {"crc": 1}, r"odd\.bin has the CRC-32 .*, the archive says 00000001"
    else:
        whole = deflated(data)
        middle = len(whole) // 2
        stream = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        expected = r"odd\.bin"
    wheel = with_stream(tmp_path, stream, data, **claims)
    with pytest.raises(LayerError, match=expected):
        layer(tmp_path, wheel, options=("--compression", compression))
    assert list((tmp_path / "out").iterdir()) == []


class Unseekable(io.RawIOBase):
    """A stream that cannot go back: what is written to it gets data descriptors."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


@pytest.mark.parametrize("form", ["data descriptors", "zip64", "data descriptors, zip64"])
def test_other_forms_of_archives_are_copied_too(tmp_path: Path, form: str) -> None:
    plain = make_wheel(tmp_path, files={"demo.txt": text(300_000)})
    wheel = tmp_path / "again" / plain.name
    wheel.parent.mkdir()
    with zipfile.ZipFile(plain) as source, wheel.open("wb") as file:
        seekable, long = form == "zip64", "zip64" in form
        with zipfile.ZipFile(file if seekable else Unseekable(file), "w", zipfile.ZIP_DEFLATED) as archive:
            for name in source.namelist():
                with archive.open(name, "w", force_zip64=long) as member:
                    member.write(source.read(name))
    if not seekable:
        with zipfile.ZipFile(wheel) as archive:
            assert all(info.flag_bits & 8 for info in archive.infolist())
    target = layer(tmp_path, wheel, options=GZIP)
    assert streams(wheel)["demo.txt"] in (target / "l.tar").read_bytes()
    assert content(target) == content(layer(tmp_path, plain, out="plain"))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 600_000), st.integers(0, 3), st.binary(max_size=20), st.integers(0, 9))
def test_every_stream_is_copied_to_its_last_byte(size: int, kind: int, garbage: bytes, level: int) -> None:
    data = [bytes(size), random.Random(size).randbytes(size), text(size), text(size // 2) + bytes(size // 2)][kind]
    writer = zlib.compressobj(level, zlib.DEFLATED, -15)
    stream = writer.compress(data) + writer.flush()
    with tempfile.TemporaryDirectory() as directory:
        wheel = with_stream(Path(directory), stream + garbage, data)
        target = layer(Path(directory), wheel, options=GZIP)
        blob = (target / "l.tar").read_bytes()
        assert unpacked(target)[f"{SITE}/odd.bin"] == data
    if len(stream) + len(garbage) >= COPY_FROM:
        trailer = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        assert stream + trailer in blob
    assert gzip.decompress(blob)
