"""Builds a wheel of this repository: ``make_wheel.py --output NAME.whl PLACE=FILE…``.

The files are laid out as in the repository and given to setuptools, the backend that pyproject.toml names (PEP 517);
what it makes is then normalised, so that the same files give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mfbazel.build.normalise import normalise
from mfbazel.errors import MfbazelError, run_front

_BACKEND = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
_NAMESPACE = "metaflow_extensions/"  # elsewhere in the repository than in the wheel
_EPOCH = "315532800"  # 1980-01-01, the first moment that a zip knows


class WheelError(MfbazelError):
    """The wheel cannot be built, or is not the one that is expected."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Raises:
        WheelError: the backend failed, the version is another one, or a module is not in the wheel.
    """
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("files", nargs="+", type=_placed, metavar="PLACE=FILE")
    options = parser.parse_args(arguments)
    output = options.output.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        project, made, normalised = (Path(scratch, name) for name in ("project", "made", "normalised"))
        for directory in (project, made, normalised):
            directory.mkdir()
        for place, file in options.files:
            target = project / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        wheel = normalise(_build(project, made), normalised).path
        _check(wheel, output.name, [place for place, _ in options.files if place.endswith(".py")])
        shutil.copyfile(wheel, output)
    return 0


def _build(project: Path, made: Path) -> Path:
    """Let the backend build ``project``; return the wheel in ``made``."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SOURCE_DATE_EPOCH": _EPOCH}
    done = subprocess.run(
        [sys.executable, "-c", _BACKEND, str(made)],
        cwd=project,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WheelError(f"setuptools cannot build the wheel (exit status {done.returncode}):\n{done.stdout.strip()}")
    (wheel,) = made.glob("*.whl")
    return wheel


def _check(wheel: Path, name: str, modules: Iterable[str]) -> None:
    """Compare the wheel with what it must be called and hold."""
    if wheel.name != name:
        raise WheelError(
            f"the wheel is {wheel.name}, and {name} is expected: MODULE.bazel and mfbazel/__init__.py name different "
            "versions. Write the same one into both."
        )
    with zipfile.ZipFile(wheel) as archive:
        present = {*archive.namelist()}
    missing = sorted(module for module in modules if _in_wheel(module) not in present)
    if missing:
        packages = sorted({_in_wheel(module).rpartition("/")[0].replace("/", ".") for module in missing})
        raise WheelError(
            f"the wheel lacks {', '.join(missing)}. Add {', '.join(packages)} to `packages` of [tool.setuptools] in "
            "pyproject.toml."
        )


def _in_wheel(module: str) -> str:
    """Return where a module of the repository is in the wheel."""
    _, namespace, rest = module.partition(_NAMESPACE)
    return namespace + rest if namespace else module


def _placed(argument: str) -> tuple[str, Path]:
    """Split ``place=file``."""
    place, equals, file = argument.partition("=")
    if not equals or Path(place).is_absolute() or ".." in Path(place).parts:
        raise argparse.ArgumentTypeError(f"{argument!r} is not PLACE=FILE")
    return place, Path(file)


if __name__ == "__main__":
    run_front(main)
