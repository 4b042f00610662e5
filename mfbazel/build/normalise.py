"""Making a wheel's bytes a function of its files: order, times, modes, RECORD and compression are always the same.

The binary distribution format leaves all of these to who writes the archive. Members are stored, not deflated: what
deflate makes of the same input differs between the zlib of one Python and another. Layers compress anyway.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from mfbazel.build.errors import BuildError
from mfbazel.layer.errors import LayerError
from mfbazel.layer.record import Recorded, format_record
from mfbazel.layer.wheel import Member, Wheel

_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_ELF = b"\x7fELF"
_GLIBC = re.compile(rb"\bGLIBC_2\.(\d{1,3})\b")


@dataclass(frozen=True)
class Built:
    """A built wheel.

    Attributes:
        path: of the file.
        name: normalized name of the distribution; ``version`` as in the file name.
        sha256: of the file, lower-case hex; ``size`` in bytes.
        requires: its ``Requires-Dist``, in the order of its METADATA.
        glibc: the newest version (``2.Y``) of the C library that its compiled code asks for, empty for none.
    """

    path: Path
    name: str
    version: str
    sha256: str
    size: int
    requires: tuple[str, ...] = ()
    glibc: str = ""

    @property
    def pure(self) -> bool:
        """Whether it is for every platform."""
        _, _, _, tags = parse_wheel_filename(self.path.name)
        return all(tag.platform == "any" for tag in tags)


def normalise(wheel: Path, directory: Path) -> Built:
    """Write the wheel again into ``directory``, under its normalized file name.

    Raises:
        BuildError: it is no sound wheel.
    """
    try:
        with Wheel(wheel) as source:
            target = directory / _file_name(source, wheel.name)
            _write(source, target)
            metadata = source.members.get(f"{source.dist_info}/METADATA")
            requires = tuple(_requires(metadata.read().decode("utf-8", "replace"))) if metadata else ()
            glibc = _newest_glibc(source)
            name, version = source.name, str(source.version)
    except LayerError as error:
        raise BuildError(f"the build made a wheel that cannot be installed: {error}") from error
    return Built(target, canonicalize_name(name), version, _sha256(target), target.stat().st_size, requires, glibc)


def _file_name(wheel: Wheel, given: str) -> str:
    """Return the file name with name and version in normalized form, which old backends do not use."""
    rest = given.split("-", 2)[2]
    return f"{canonicalize_name(wheel.name).replace('-', '_')}-{wheel.version}-{rest}"


def _write(wheel: Wheel, target: Path) -> None:
    """Write the members, those of ``.dist-info`` last, as the format recommends."""
    names = sorted(wheel.members, key=lambda name: (name.startswith(f"{wheel.dist_info}/"), name))
    rows: list[tuple[str, Recorded | None]] = []
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink, zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                rows.append((name, _copy(wheel.members[name], name, archive)))
            record = f"{wheel.dist_info}/RECORD"
            with archive.open(_entry(record, executable=False), "w") as member:
                member.write(format_record([*rows, (record, None)]))
        os.chmod(temporary, 0o644)  # noqa: PTH101
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _copy(member: Member, name: str, archive: zipfile.ZipFile) -> Recorded:
    entry = _entry(name, executable=member.executable)
    digest, size = hashlib.sha256(), 0
    with archive.open(entry, "w", force_zip64=member.size >= 1 << 31) as sink:
        for chunk in member.chunks():
            digest.update(chunk)
            size += len(chunk)
            sink.write(chunk)
    return Recorded("sha256", digest.digest(), size)


def _entry(name: str, *, executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3  # Unix, whatever this machine is
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    entry.compress_type = zipfile.ZIP_STORED
    return entry


def _requires(metadata: str) -> Iterator[str]:
    """Yield the fields ``Requires-Dist`` of the header of METADATA."""
    for line in metadata.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() == "requires-dist":
            yield value.strip()


def _newest_glibc(wheel: Wheel) -> str:
    """Return the newest symbol version of the C library in compiled code, as ``auditwheel`` would read it."""
    newest = -1
    for member in wheel.members.values():
        if member.head(4) != _ELF:
            continue
        text = b"".join(member.chunks())
        newest = max([newest, *(int(minor) for minor in _GLIBC.findall(text))])
    return f"2.{newest}" if newest >= 0 else ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
