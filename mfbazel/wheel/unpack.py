"""Unpack a wheel into a directory for ``sys.path`` (standard library only: it runs before any wheel is there).

Follows the layout that PyPA's specification of the binary distribution format gives: the root of the archive, and
``purelib`` and ``platlib`` of ``NAME-VERSION.data``, become the directory, with scripts in its ``bin``, where ``pip
install --target`` puts them and where packages that carry an executable (uv, ruff) look for it. Headers and data are
left out. Layers of images are made elsewhere (``mfbazel.layer``), which compares the content with RECORD besides: here
the repository rule has checked the wheel's sha256.
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import sys
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from mfbazel.wheel.archive import DAMAGED, UnsafeWheelError, check_number, contents
from mfbazel.wheel.limits import Limits, parse_limits
from mfbazel.wheel.paths import of_metadata

# Directories of NAME-VERSION.data, and where below the directory their content goes.
_SCHEMES = {"purelib": "", "platlib": "", "scripts": "bin"}


def site_path(member: str, data: Collection[str]) -> PurePosixPath | None:
    """Return where ``member`` of a wheel, a safe path, lies below the directory; None when it is not for it.

    Args:
        member: path in the wheel.
        data: names of the directories that are not installed where they are.
    """
    path = PurePosixPath(member)
    if path.parts and path.parts[0] in data:
        if len(path.parts) < 3 or path.parts[1] not in _SCHEMES:
            return None
        return PurePosixPath(_SCHEMES[path.parts[1]], *path.parts[2:])
    return path


def unpack(wheel: Path, directory: Path, limits: Limits | None = None) -> None:
    """Write the importable content of ``wheel`` below ``directory``, which is made, or exists and is empty.

    Files get the modes 644 and 755, whatever the archive says.

    Raises:
        UnsafeWheelError: the wheel holds what no installer should unpack, or two of its files would become one.
        zipfile.BadZipFile: ``wheel`` is no zip archive, or a damaged one.
        OSError: a file could not be written.
    """
    allowed = limits or Limits()
    with wheel.open("rb") as file:
        check_number(file, allowed)
        with zipfile.ZipFile(file) as archive:
            _write(archive, contents(archive, file, allowed), directory)


def _write(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], directory: Path) -> None:
    tops = {name.partition("/")[0] for name in infos}
    data = {f"{top.removesuffix('.dist-info')}.data" for top in tops if top.endswith(".dist-info")}
    paths = {name: path for name in infos if (path := site_path(name, data)) is not None}
    if len(metadata := sorted({path.parts[0] for path in paths.values() if of_metadata(path.parts[0])})) > 1:
        raise UnsafeWheelError(
            f"it holds metadata of more than one distribution: {metadata[:2]}. Do not install this wheel; report it to "
            "its authors."
        )
    for name, path in paths.items():
        info, target = infos[name], directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Never into a file that is there: on some file systems two names are one.
            with archive.open(info) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        except FileExistsError as error:
            raise UnsafeWheelError(
                f"{name!r} would be written where another of its files is. Do not install this wheel; report it to "
                "its authors."
            ) from error
        target.chmod(0o755 if info.external_attr >> 16 & 0o111 else 0o644)


def compile_sources(directory: Path) -> None:
    """Write byte code of this Python beside every source below ``directory`` that compiles (PEP 552, unchecked hashes).

    Whoever imports a package from a directory that is read-only, as Bazel's outputs are, otherwise compiles it in every
    process anew. Nothing of the directory's place is in the byte code.
    """
    with warnings.catch_warnings(action="ignore"):
        compileall.compile_dir(
            directory,
            force=True,
            quiet=2,
            stripdir=directory,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def main() -> int:
    """Front: ``unpack.py [--limits KEY=VALUE,…] [--bytecode] WHEEL DIRECTORY``."""
    parser = argparse.ArgumentParser(prog="unpack.py", description="Unpacks a wheel for sys.path.")
    parser.add_argument("--limits", default="", metavar="KEY=VALUE,…", help="how large the wheel may be")
    parser.add_argument("--bytecode", action="store_true", help="compile the sources for this Python")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    try:
        unpack(options.wheel, options.directory, parse_limits(options.limits))
    except (UnsafeWheelError, *DAMAGED) as error:
        print(f"error: wheel {options.wheel.name} cannot be unpacked: {error}", file=sys.stderr)
        return 1
    if options.bytecode:
        compile_sources(options.directory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
