"""Byte code of Metaflow in the code package, so that no task compiles what every task imports.

A task starts several interpreters one after the other, on a machine that never ran Metaflow before. The byte code is
that of the Python which launches; a step with another Python does not find it, and compiles. It is checked against its
source by hash (PEP 552), so that it can be no other than the package's own.
"""

from __future__ import annotations

import hashlib
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

PACKAGES = ("metaflow", "metaflow_extensions")
"""What the code package holds beside the flow."""


def packaged() -> Iterator[tuple[str, str, Any]]:
    """Yield the byte code as Metaflow's ``add_to_package`` wants it."""
    from metaflow.packaging_sys import ContentType

    for file, arcname in compiled_files():
        yield file, arcname, ContentType.CODE_CONTENT


def compiled_files() -> Iterator[tuple[str, str]]:
    """Yield file and path in the code package of the byte code of every module of Metaflow that is imported here.

    What a task imports, the process that launches has imported as well, but for little. Files are kept in the cache
    directory by what they are made from. Where that cannot be written, there is no byte code.
    """
    from mfbazel.state import cache_dir

    directory = cache_dir() / "bytecode" / str(sys.implementation.cache_tag)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source, arcname in sorted(_sources().items()):
            yield str(_compiled(source, arcname, directory)), _beside(arcname)
    except (OSError, py_compile.PyCompileError):
        return


def _beside(arcname: str) -> str:
    """Return where Python looks for the byte code of ``arcname`` (PEP 3147), where no variable says otherwise.

    That the launcher keeps byte code elsewhere (PYTHONPYCACHEPREFIX) is of no concern to a task.
    """
    path = PurePosixPath(arcname)
    return str(path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc")


def _sources() -> dict[Path, str]:
    """Return the source files of imported modules, with their paths in the code package."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in PACKAGES and isinstance(file, str) and file.endswith(".py"):
            path = PurePosixPath(*name.split("."))
            arcname = path / "__init__.py" if file.endswith("__init__.py") else path.with_suffix(".py")
            # A module under another name than its file's is not found under that of its file.
            if Path(file).parts[-len(arcname.parts) :] == arcname.parts:
                found[Path(file)] = str(arcname)
    return found


def _compiled(source: Path, arcname: str, directory: Path) -> Path:
    """Return the byte code of ``source``, made now unless it is there."""
    key = hashlib.sha256(arcname.encode() + b"\0" + source.read_bytes()).hexdigest()
    file = directory / f"{key}.pyc"
    if not file.is_file():
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        py_compile.compile(str(source), str(file), dfile=arcname, doraise=True, invalidation_mode=mode)
    return file
