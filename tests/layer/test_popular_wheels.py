"""What is installed of popular wheels, file by file, against what pip installs of the same wheels.

The wheels are those of ``popular_wheels.lock``; the variable ``POPULAR_WHEELS`` names them, relative to the runfiles.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pip
import pytest

from mfbazel.layer.__main__ import main

PYTHON = "{}.{}".format(*sys.version_info)
INTERPRETER = b"#!/opt/venv/bin/python"


@dataclass(frozen=True)
class File:
    """An installed file; in its first line the environment's place is the image's."""

    content: bytes
    executable: bool


Pair = tuple[File | None, File | None]
"""One path: our file, pip's file."""


@pytest.fixture(scope="module")
def wheels() -> list[Path]:
    names = os.environ["POPULAR_WHEELS"].split()
    return [Path.cwd().parent / name for name in names]


@pytest.fixture(scope="module")
def ours(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, File]:
    out = tmp_path_factory.mktemp("ours")
    outputs = ["--compression", "none", "--blob", f"{out}/l.tar", "--descriptor", f"{out}/l.json"]
    main(["wheels", "--python", PYTHON, "--platform", "linux/amd64", *outputs, *map(str, wheels)])
    with tarfile.open(out / "l.tar") as archive:
        return {
            member.name.removeprefix("opt/venv/"): File(archive.extractfile(member).read(), bool(member.mode & 0o111))  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }


@pytest.fixture(scope="module")
def pips(wheels: list[Path]) -> dict[str, File]:
    # The kernel takes interpreter lines of 127 bytes only: with a longer path pip writes other scripts.
    with tempfile.TemporaryDirectory(prefix="pips-", dir="/tmp") as directory:
        return installed_by_pip(wheels, Path(directory).resolve())


def installed_by_pip(wheels: list[Path], prefix: Path) -> dict[str, File]:
    venv.create(prefix, symlinks=True)
    before = set(prefix.rglob("*"))
    python = prefix / "bin" / "python"
    options = ["--isolated", "install", "--no-deps", "--no-index", "--no-compile", "--ignore-installed", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(pip.__file__).parents[1]), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([python, "-m", "pip", *options, *wheels], check=True, env=environment)
    return {
        str(path.relative_to(prefix)): File(
            path.read_bytes().replace(f"#!{python}".encode(), INTERPRETER), os.access(path, os.X_OK)
        )
        for path in prefix.rglob("*")
        if path.is_file() and path not in before
    }


def texts(pair: Pair) -> tuple[str, str]:
    assert all(pair)
    ours, pips = (file.content.decode() for file in pair if file)
    return ours, pips


def called(script: str) -> tuple[str, ...] | None:
    """Return interpreter line, module, name and call of the wrapper of an entry point."""
    found = re.fullmatch(
        r"(#!.*)\n(?:# -\*- coding.*\n)?import sys\n+from (\S+) import (\S+)\n+if __name__ == .__main__.:\n"
        r"(?:    sys\.argv\[0\] = .*\n)?    sys\.exit\((\S+)\(\)\)\n",
        script,
    )
    return found.groups() if found else None


def same_call(pair: Pair) -> bool:
    ours, pips = map(called, texts(pair))
    return ours is not None and ours == pips and pair[0].executable == pair[1].executable  # type: ignore[union-attr]


def only_pip(pair: Pair) -> bool:
    return pair[0] is None


def rows(record: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in csv.reader(io.StringIO(record))}


def rows_of_what_is_the_same(pair: Pair) -> bool:
    """Tell whether two RECORDs differ in the rows of files only that may differ themselves."""
    ours, pips = map(rows, texts(pair))
    paths = {path for path in ours.keys() | pips.keys() if ours.get(path) != pips.get(path)}
    return all(re.search(r"^\.\./\.\./\.\./bin/|/(INSTALLER|REQUESTED|direct_url\.json)$", path) for path in paths)


DIFFERENCES: dict[str, tuple[str, Callable[[Pair], bool]]] = {
    "INSTALLER names the installer": (
        r".*\.dist-info/INSTALLER",
        lambda pair: texts(pair) == ("mfbazel\n", "pip\n"),
    ),
    "REQUESTED: pip got each wheel by name, an image has what the lock has": (r".*\.dist-info/REQUESTED", only_pip),
    "direct_url.json: pip got files by path, an image has them from an index": (
        r".*\.dist-info/direct_url\.json",
        only_pip,
    ),
    "wrappers of entry points: other text, the same call": (r"bin/[^/]+", same_call),
    "RECORD: rows of the files above": (r".*\.dist-info/RECORD", rows_of_what_is_the_same),
}
"""Everything in which the two trees may differ: reason → paths, and what else must hold. Nothing else is tolerated."""


def reason(path: str, pair: Pair) -> str | None:
    for why, (pattern, holds) in DIFFERENCES.items():
        if re.fullmatch(pattern, path) and holds(pair):
            return why
    return None


def test_tree_equals_the_one_that_pip_makes(wheels: list[Path], ours: dict[str, File], pips: dict[str, File]) -> None:
    assert len(wheels) >= 60
    pairs = {path: (ours.get(path), pips.get(path)) for path in sorted(ours.keys() | pips.keys())}
    different = {path: reason(path, pair) for path, pair in pairs.items() if pair[0] != pair[1]}
    assert not [path for path, why in different.items() if why is None]
    assert set(different.values()) == set(DIFFERENCES), "a difference that does not occur is not to be tolerated"
