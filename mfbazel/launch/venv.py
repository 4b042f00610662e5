"""Virtual environments whose packages stay where Bazel unpacked them.

A directory looks as PEP 405 says: ``pyvenv.cfg``, ``bin/python`` (a symlink to the base interpreter) and an otherwise
empty ``site-packages`` with one ``.pth`` file that lists the unpacked wheels. Nothing is copied, and making one takes
milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfbazel.launch.errors import LaunchError

_PROBE = "import json, sys; print(json.dumps([sys.version_info[0], sys.version_info[1], sys._base_executable]))"
_PTH = "mfbazel.pth"


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter of this machine."""

    path: Path
    """Real path of the executable; never that of a virtual environment."""
    version: str
    """Major and minor version, such as ``3.14``."""


def probe(python: Path) -> Interpreter:
    """Run ``python`` to learn its version and, where it is a virtual environment's, the interpreter behind it.

    Raises:
        LaunchError: it does not run.
    """
    try:
        done = subprocess.run([python, "-I", "-c", _PROBE], capture_output=True, text=True, check=True)
        major, minor, base = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise LaunchError(f"the Python interpreter {python} does not run: {said}") from error
    return Interpreter(Path(os.path.realpath(base)), f"{major}.{minor}")


def create_venv(out: Path, interpreter: Interpreter, sites: Sequence[Path]) -> Path:
    """Make the virtual environment ``out``, whole or not at all, and return its ``bin/python``.

    ``sites`` are directories with the content of a ``site-packages``, in the order of ``sys.path``. An ``out`` that is
    already there is left as it is: name it after what goes into it.

    Raises:
        LaunchError: one of ``sites`` is not a directory.
        OSError: ``out`` cannot be written.
    """
    create_atomically(out, lambda directory: write_venv(directory, interpreter, sites))
    return out / "bin" / "python"


def create_atomically(out: Path, write: Callable[[Path], None]) -> None:
    """Make the directory ``out`` by calling ``write`` with a new one beside it, which is then renamed.

    Where ``out`` exists, or another process makes it in the meantime, that one stays.
    """
    if out.is_dir():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        write(beside)
        beside.chmod(0o755)
        beside.rename(out)
    except OSError:
        if not out.is_dir():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_venv(directory: Path, interpreter: Interpreter, sites: Sequence[Path]) -> None:
    """Write a virtual environment into ``directory``, which exists and may be moved afterwards.

    Raises:
        LaunchError: one of ``sites`` is not a directory.
    """
    if missing := [site for site in sites if not site.is_dir()]:
        raise LaunchError(
            f"these directories of packages are missing: {', '.join(map(str, missing))}. Build the flow again."
        )
    packages = directory / "lib" / f"python{interpreter.version}" / "site-packages"
    packages.mkdir(parents=True)
    packages.joinpath(_PTH).write_text("".join(f"{_pth_line(site)}\n" for site in sites), encoding="utf-8")
    binaries = directory / "bin"
    binaries.mkdir()
    binaries.joinpath("python").symlink_to(interpreter.path)
    for name in ("python3", f"python{interpreter.version}"):
        binaries.joinpath(name).symlink_to("python")
    directory.joinpath("pyvenv.cfg").write_text(
        f"home = {interpreter.path.parent}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n",
        encoding="utf-8",
    )


def _pth_line(site: Path) -> str:
    """Return the line that puts ``site`` on ``sys.path``, and reads the ``.pth`` files in it where there are any."""
    path = str(site.absolute())
    if any(site.glob("*.pth")):
        return f"import site; site.addsitedir({path!r})"
    return path
