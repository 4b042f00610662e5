"""Run one linter over all sources of the workspace, as a Bazel test.

    lint.py TOOL MARKER [EXECUTABLE]

The directory of the file MARKER holds the sources, each with ``.source`` appended to its name; they are copied under
their own names into a temporary directory first, where the linter finds its configuration too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mfbazel.launch.venv import probe, write_venv

Command = Sequence[str | Path]


def copy_sources(directory: Path, tree: Path) -> list[Path]:
    """Copy every source below ``directory`` into ``tree`` under its own name; return the paths relative to ``tree``."""
    paths = []
    for source in sorted(directory.rglob("*.source")):
        path = source.relative_to(directory).with_suffix("")
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(source.read_bytes())
        paths.append(path)
    if not paths:
        raise SystemExit(f"error: no sources below {directory}")
    return paths


def sites() -> list[Path]:
    """Return the directories of unpacked wheels on ``sys.path``."""
    return [Path(entry).absolute() for entry in sys.path if entry.endswith(("/site", "/compiled_site"))]


def script(name: str) -> Path:
    """Return the executable ``name`` that a wheel carries."""
    return next(site / "bin" / name for site in sites() if (site / "bin" / name).exists())


def ruff_check(paths: list[Path], _tree: Path, _executable: Path | None) -> Command:
    """Lint Python."""
    return [script("ruff"), "check", "--no-cache", *python(paths)]


def ruff_format(paths: list[Path], _tree: Path, _executable: Path | None) -> Command:
    """Check the format of Python."""
    return [script("ruff"), "format", "--no-cache", "--diff", *python(paths)]


# Flows, which have no types: as data scientists write them.
_FLOWS = tuple(map(Path, ("examples", "tests/analyze/corpus", "tests/flows", "bench/cold_start/cold_flow.py")))


def mypy(paths: list[Path], tree: Path, _executable: Path | None) -> Command:
    """Check types; a virtual environment tells mypy where the packages are."""
    environment = tree / ".venv"
    environment.mkdir()
    write_venv(environment, probe(Path(sys.executable)), sites())
    checked = [path for path in python(paths) if not any(path.is_relative_to(flows) for flows in _FLOWS)]
    return [
        sys.executable,
        "-m",
        "mypy",
        "--no-incremental",
        "--python-executable",
        environment / "bin" / "python",
        *checked,
    ]


def buildifier(paths: list[Path], _tree: Path, executable: Path | None) -> Command:
    """Lint and check the format of Starlark."""
    assert executable is not None
    starlark = [path for path in paths if path.suffix in (".bzl", ".bazel")]
    off = "-module-docstring,-function-docstring,-native-py,-function-docstring-args,-function-docstring-return"
    return [executable, "-mode=diff", "-lint=warn", f"-warnings={off}", *starlark]


def shellcheck(_paths: list[Path], _tree: Path, _executable: Path | None) -> Command:
    """Lint the shell script and what it sources, with the shellcheck on PATH."""
    return ["shellcheck", "--external-sources", "--check-sourced", "bazelw"]


TOOLS: dict[str, Callable[[list[Path], Path, Path | None], Command]] = {
    "ruff_check": ruff_check,
    "ruff_format": ruff_format,
    "mypy": mypy,
    "buildifier": buildifier,
    "shellcheck": shellcheck,
}


def python(paths: list[Path]) -> list[Path]:
    """Return the Python files of ``paths``."""
    return [path for path in paths if path.suffix == ".py"]


def main() -> int:
    """Front; returns the linter's exit code."""
    tool, directory = sys.argv[1], Path(sys.argv[2]).absolute().parent
    executable = Path(sys.argv[3]).absolute() if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as temporary:
        tree = Path(temporary)
        command = TOOLS[tool](copy_sources(directory, tree), tree, executable)
        return subprocess.run([str(word) for word in command], cwd=tree, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
