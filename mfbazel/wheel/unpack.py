"""Unpack a wheel into a directory for ``sys.path`` (standard library only: it runs before any wheel is there).

Follows the layout that PyPA's specification of the binary distribution format gives: the root of the archive, and
``purelib`` and ``platlib`` of ``NAME-VERSION.data``, become the directory, with scripts in its ``bin``, where ``pip
install --target`` puts them and where packages that carry an executable (uv, ruff) look for it. Headers and data are
left out. Layers of images are made elsewhere (``mfbazel.layer``), which checks more: here the repository rule has
checked the wheel's sha256.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

# Directories of NAME-VERSION.data, and where below the directory their content goes.
_SCHEMES = {"purelib": "", "platlib": "", "scripts": "bin"}


class UnsafePathError(Exception):
    """A member of the wheel would be written outside of the directory."""


def site_path(member: str) -> PurePosixPath | None:
    """Return where ``member`` of a wheel lies below the directory, or None when it is not for ``sys.path``.

    Raises:
        UnsafePathError: the path is absolute or climbs out.
    """
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member:
        raise UnsafePathError(f"unsafe path {member!r}")
    if path.parts and path.parts[0].endswith(".data"):
        if len(path.parts) < 3 or path.parts[1] not in _SCHEMES:
            return None
        return PurePosixPath(_SCHEMES[path.parts[1]], *path.parts[2:])
    return path


def unpack(wheel: Path, directory: Path) -> None:
    """Write the importable content of ``wheel`` below ``directory``, which exists or is made.

    Raises:
        UnsafePathError: a member would be written outside of ``directory``.
        zipfile.BadZipFile: ``wheel`` is no zip archive.
        OSError: a file could not be written.
    """
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = site_path(info.filename)
            if path is None or info.is_dir():
                continue
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if info.external_attr >> 16 & 0o111:
                target.chmod(0o755)


def main() -> int:
    """Front: ``unpack.py WHEEL DIRECTORY``."""
    wheel, directory = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        unpack(wheel, directory)
    except (UnsafePathError, zipfile.BadZipFile, OSError) as error:
        print(f"error: wheel {wheel.name} cannot be unpacked: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
