"""Reading one wheel (PyPA specification "Binary distribution format") without unpacking it."""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from isal import igzip_lib, isal_zlib
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mfbazel.layer.errors import LayerError
from mfbazel.layer.record import Recorded, parse_record
from mfbazel.layer.tar import Deflated, plain
from mfbazel.wheel.archive import DAMAGED, UnsafeWheelError, check_number, content_offset, contents
from mfbazel.wheel.limits import Limits

# Its type stubs declare an instance.
_INFLATE_ERROR = cast(type[Exception], igzip_lib.error)
_P = TypeVar("_P", bytes, Deflated)
_CHUNK = 256 << 10
_READ = 128 << 10
_SMALL = 64 << 20
_SHOWN = 300
_LIMITS = Limits()
_SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(slots=True)
class Member:
    """A file of a wheel, verified against RECORD while it is read (see :class:`mfbazel.layer.tar.Source`)."""

    wheel: Wheel
    info: zipfile.ZipInfo
    recorded: Recorded
    _sha256: str | None = field(default=None)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.info.file_size

    @property
    def sha256(self) -> str:
        """Hex digest; known beforehand where RECORD uses sha256, else once the content has been read."""
        if self.recorded.algorithm == "sha256":
            return self.recorded.digest.hex()
        if self._sha256 is None:
            self.verify()
        assert self._sha256 is not None
        return self._sha256

    @property
    def executable(self) -> bool:
        """Whether the archive marks the file as executable."""
        mode = self.info.external_attr >> 16
        return bool(mode & 0o111) and stat.S_IFMT(mode) in (0, stat.S_IFREG)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in order.

        Raises:
            LayerError: the archive is damaged, or the content is not what RECORD says; raised at the end.
        """
        for piece in self._verified(self.wheel.content(self.info)):
            yield plain(piece)

    @property
    def deflated_size(self) -> int | None:
        """Length of the member's deflate stream in bytes, ``None`` if it is stored otherwise."""
        return self.info.compress_size if self.info.compress_type == zipfile.ZIP_DEFLATED else None

    def deflated(self) -> Iterator[Deflated]:
        """Yield content and deflate stream in order; the stream ends where it says itself that it does.

        Raises:
            LayerError: as :meth:`chunks`.
        """
        yield from self._verified(self.wheel.inflated(self.info))

    def _verified(self, pieces: Iterator[_P]) -> Iterator[_P]:
        """Pass ``pieces`` on; compare them at the end with RECORD and with the archive's CRC-32."""
        hashes = [hashlib.new(self.recorded.algorithm)]
        if self.recorded.algorithm != "sha256":
            hashes.append(hashlib.sha256())
        crc = 0
        for piece in pieces:
            content = plain(piece)
            crc = isal_zlib.crc32(content, crc)
            for digest in hashes:
                digest.update(content)
            yield piece
        where = f"{self.wheel.path}: {self.info.filename}"
        if hashes[0].digest() != self.recorded.digest:
            raise LayerError(
                f"{where} is not the file that RECORD lists: {self.recorded.algorithm} {hashes[0].hexdigest()}, "
                f"listed {self.recorded.digest.hex()}. {self.wheel.advice}"
            )
        if crc != self.info.CRC:
            raise LayerError(
                f"{where} has the CRC-32 {crc:08x}, the archive says {self.info.CRC:08x}. {self.wheel.advice}"
            )
        self._sha256 = hashes[-1].hexdigest()

    def verify(self) -> None:
        """Read and verify the content, keeping nothing.

        Raises:
            LayerError: as :meth:`chunks`.
        """
        for _ in self.chunks():
            pass

    def head(self, count: int) -> bytes:
        """Return the first ``count`` bytes, unverified."""
        return next(self.wheel.raw_chunks(self.info, count), b"")

    def read(self) -> bytes:
        """Return the verified content of a small file.

        Raises:
            LayerError: as :meth:`chunks`, or the file is larger than 64 MiB.
        """
        if self.size > _SMALL:
            raise LayerError(
                f"{self.wheel.path}: {self.info.filename} has {self.size} bytes; text of at most {_SMALL} is expected"
            )
        return b"".join(self.chunks())


class Wheel:
    """An open wheel whose table of contents, name, metadata and RECORD have been checked; contents are read on demand.

    Attributes:
        path: of the file.
        limits: how large it may be.
        name: normalized distribution name.
        version: of the distribution.
        dist_info, data: the names of the two special directories.
        members: path in the wheel → file, RECORD and its signatures excepted.
    """

    advice = "The wheel is damaged or was changed after it was built: download it again, or choose another version."

    def __init__(self, path: Path, limits: Limits = _LIMITS) -> None:
        """Open and check the wheel.

        Raises:
            LayerError: it is not a wheel, holds something unsafe, or its RECORD does not fit its table of contents.
        """
        self.path = path
        self.limits = limits
        self.name, self.version, self.tags = _parse_name(path)
        self._zip, self._file = _open(path, limits)
        try:
            infos = self._contents()
            self.dist_info = self._find_dist_info(infos)
            self.data = self.dist_info.removesuffix(".dist-info") + ".data"
            self.members = self._check_record(infos)
            self._check_metadata()
        except BaseException:
            self.close()
            raise

    @property
    def label(self) -> str:
        """``name==version``, as file lists name it."""
        return f"{self.name}=={self.version}"

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Wheel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw_chunks(self, info: zipfile.ZipInfo, size: int = _CHUNK) -> Iterator[bytes]:
        """Yield the content of an archive member, ``size`` bytes at a time.

        Raises:
            LayerError: the archive is damaged or uses a compression that this Python lacks.
        """
        try:
            with self._zip.open(info) as file:
                while chunk := file.read(size):
                    yield chunk
        except DAMAGED as error:
            raise LayerError(f"{self.path}: cannot read {info.filename}: {error}. {self.advice}") from error

    def content(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the content of a member whose hash the caller checks: without the archive's own check sum, and faster.

        Raises:
            LayerError: as :meth:`raw_chunks`.
        """
        if info.compress_type != zipfile.ZIP_DEFLATED:
            yield from self.raw_chunks(info)
            return
        for piece in self.inflated(info):
            yield piece.content

    def inflated(self, info: zipfile.ZipInfo) -> Iterator[Deflated]:
        """Yield content and stream of a deflated member, at most ``_CHUNK`` bytes of content at a time.

        Bytes that the archive counts to the member after the end of its stream are not part of it.

        Raises:
            LayerError: the stream is damaged or does not end, or the content does not have the archive's size for it.
        """
        size = 0
        ended = not (info.compress_size or info.file_size)
        try:
            for piece in self._inflate(info):
                size += len(piece.content)
                if size > info.file_size:
                    break
                yield piece
                ended = piece.last
        except (_INFLATE_ERROR, ValueError, OSError) as error:
            raise LayerError(f"{self.path}: cannot read {info.filename}: {error}. {self.advice}") from error
        if size != info.file_size:
            raise LayerError(f"{self.path}: {info.filename} does not have {info.file_size} bytes. {self.advice}")
        if not ended:
            raise LayerError(
                f"{self.path}: the deflate stream of {info.filename} does not end within its {info.compress_size} "
                f"bytes. {self.advice}"
            )

    def _inflate(self, info: zipfile.ZipInfo) -> Iterator[Deflated]:
        """Yield the parts of a member's stream; ISA-L inflates twice as fast as zlib."""
        # A second object of the same file: the archive's own position is not touched, nor its lock taken.
        self._file.seek(content_offset(self._file, info))
        inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        left = info.compress_size
        ended = False
        while not ended and (stream := self._file.read(min(_READ, left))):
            left -= len(stream)
            content = inflate.decompress(stream, _CHUNK)
            while not (inflate.eof or inflate.needs_input):
                yield Deflated(content, b"", last=False)
                content = inflate.decompress(b"", _CHUNK)
            ended = inflate.eof
            if ended:
                stream = stream[: len(stream) - len(inflate.unused_data)]
            yield Deflated(content, stream, last=ended)

    def check_python(self, python: str, platform: str | None = None) -> None:
        """Check that the wheel's tags fit CPython ``python`` (``X.Y``) and, when given, ``platform`` (``linux/amd64``).

        Raises:
            LayerError: no tag fits.
        """
        if not any(_fits(tag, python, platform) for tag in self.tags):
            tags = ", ".join(sorted(str(tag) for tag in self.tags))
            raise LayerError(
                f"{self.path.name} is not for CPython {python} on {platform or 'linux'}: its tags are {tags}. "
                "Lock again for this Python and platform, or set the step's python to one that the wheel was built for."
            )

    def _contents(self) -> dict[str, zipfile.ZipInfo]:
        """Return the files by path; refuse what no installer would unpack."""
        try:
            return contents(self._zip, self._file, self.limits)
        except (UnsafeWheelError, OSError) as error:
            raise LayerError(f"{self.path}: {error}") from error

    def _find_dist_info(self, infos: dict[str, zipfile.ZipInfo]) -> str:
        tops = {name.partition("/")[0] for name in infos}
        found = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(found) != 1:
            raise LayerError(
                f"{self.path}: a wheel has one .dist-info directory, this has {found or 'none'}. {self.advice}"
            )
        name, _, version = found[0].removesuffix(".dist-info").partition("-")
        try:
            fits = canonicalize_name(name) == self.name and Version(version.replace("_", "+")) == self.version
        except InvalidVersion:
            fits = False
        if not fits:
            raise LayerError(
                f"{self.path}: the directory {found[0]} is not of the distribution in the file name. {self.advice}"
            )
        return found[0]

    def _check_record(self, infos: dict[str, zipfile.ZipInfo]) -> dict[str, Member]:
        """Return the members, after comparing RECORD with the table of contents in both directions."""
        special = {f"{self.dist_info}/{name}" for name in _SIGNATURES}
        record = self._read_record(infos)
        missing = sorted(set(record) - set(infos) - special)
        if missing:
            raise LayerError(
                f"{self.path}: RECORD lists {_some(missing)}, which the wheel does not contain. {self.advice}"
            )
        members = {}
        for name, info in infos.items():
            if name in special:
                continue
            entry = record.get(name)
            if entry is None:
                how = "without a hash" if name in record else "not at all"
                raise LayerError(f"{self.path}: the wheel contains {name}, which RECORD lists {how}. {self.advice}")
            if entry.size not in (None, info.file_size):
                raise LayerError(
                    f"{self.path}: {name} has {info.file_size} bytes, RECORD lists {entry.size}. {self.advice}"
                )
            members[name] = Member(self, info, entry)
        return members

    def _read_record(self, infos: dict[str, zipfile.ZipInfo]) -> dict[str, Recorded | None]:
        name = f"{self.dist_info}/RECORD"
        if name not in infos:
            raise LayerError(f"{self.path}: {name} is missing. {self.advice}")
        if infos[name].file_size > _SMALL:
            raise LayerError(f"{self.path}: {name} has {infos[name].file_size} bytes; at most {_SMALL} are expected")
        try:
            return parse_record(b"".join(self.raw_chunks(infos[name])))
        except ValueError as error:
            raise LayerError(f"{self.path}: {name} is malformed: {error}. {self.advice}") from error

    def _check_metadata(self) -> None:
        """Check the file WHEEL as the specification asks installers to."""
        name = f"{self.dist_info}/WHEEL"
        if name not in self.members:
            raise LayerError(f"{self.path}: {name} is missing. {self.advice}")
        fields = _headers(self.members[name].read().decode("utf-8", "replace"))
        version = fields.get("wheel-version", "")
        if version.partition(".")[0] != "1":
            raise LayerError(
                f"{self.path}: Wheel-Version is {version!r}; versions 1.x are understood. "
                f"Choose another wheel of {self.name}."
            )
        purelib = fields.get("root-is-purelib", "").lower()
        if purelib not in ("true", "false"):
            raise LayerError(f"{self.path}: Root-Is-Purelib is {purelib!r}, not true or false. {self.advice}")


def _headers(text: str) -> dict[str, str]:
    """Return the fields of a WHEEL file, names in lower case; of a repeated one the first."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _parse_name(path: Path) -> tuple[str, Version, frozenset[Tag]]:
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise LayerError(f"{path}: not the file name of a wheel: {error}") from error
    if not _NAME.fullmatch(name):
        raise LayerError(f"{path}: not the file name of a wheel: {name!r} is no name of a distribution")
    return name, version, tags


def _open(path: Path, limits: Limits) -> tuple[zipfile.ZipFile, BinaryIO]:
    try:
        file = path.open("rb")
        try:
            check_number(file, limits)
            return zipfile.ZipFile(path), file
        except BaseException:
            file.close()
            raise
    except UnsafeWheelError as error:
        raise LayerError(f"{path}: {error}") from error
    except DAMAGED as error:
        raise LayerError(f"cannot open the wheel {path}: {error}. Download it again.") from error


def _fits(tag: Tag, python: str, platform: str | None) -> bool:
    major, minor = map(int, python.split("."))
    interpreter = f"cp{major}{minor}"
    if not _platform_fits(tag.platform, platform):
        return False
    known = {
        *cpython_tags((major, minor), abis=[interpreter], platforms=[tag.platform]),
        *compatible_tags((major, minor), interpreter=interpreter, platforms=[tag.platform]),
    }
    return tag in known


def _platform_fits(tag: str, platform: str | None) -> bool:
    if tag == "any":
        return True
    if not tag.startswith(("manylinux", "linux_", "musllinux")):
        return False
    machine = _MACHINES.get((platform or "").partition("/")[2].partition("/")[0])
    return platform is None or (machine is not None and tag.endswith(f"_{machine}"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…" for name in names[:3]) + more
