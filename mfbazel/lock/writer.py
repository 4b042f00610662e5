"""Writing a lock directory so that at every moment there is a whole one: the new beside the old, then swapped."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from mfbazel.lock.errors import LockError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)


def write_directory(directory: Path, files: Mapping[str, str], owned: Collection[str]) -> bool:
    """Make ``directory`` hold ``files`` (name → text) instead of those named ``owned``; other files in it stay.

    The new directory is complete before it takes the place of the old one in a single step, so that an interruption
    leaves one of the two. Nothing is touched when nothing would change.

    Returns:
        Whether anything changed.

    Raises:
        LockError: the disk refuses.
    """
    directory = directory.resolve()
    try:
        if directory.exists() and not directory.is_dir():
            raise LockError(f"cannot write the lock {directory}: a file is there; remove it")
        _remove_leftovers(directory)
        if _unchanged(directory, files, owned):
            return False
        directory.parent.mkdir(parents=True, exist_ok=True)
        beside = directory.parent / f"{_prefix(directory)}{os.getpid()}-{secrets.token_hex(4)}"
        beside.mkdir()
        try:
            _fill(beside, directory, files, owned)
            _swap(beside, directory)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LockError(f"cannot write the lock {directory}: {reason}; the old lock is as it was") from error
    return True


def _prefix(directory: Path) -> str:
    return f".{directory.name}.new-"


def _unchanged(directory: Path, files: Mapping[str, str], owned: Collection[str]) -> bool:
    superfluous = any((directory / name).exists() for name in owned if name not in files)
    return not superfluous and all(_holds(directory / name, text) for name, text in files.items())


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _remove_leftovers(directory: Path) -> None:
    """Remove what a writer that was killed left beside ``directory``."""
    for path in directory.parent.glob(f"{_prefix(directory)}*"):
        owner = path.name.removeprefix(_prefix(directory)).partition("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fill(beside: Path, directory: Path, files: Mapping[str, str], owned: Collection[str]) -> None:
    if directory.is_dir():
        for path in directory.iterdir():
            if path.name not in owned:
                _copy(path, beside / path.name)
    for name, text in files.items():
        with (beside / name).open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _swap(beside: Path, directory: Path) -> None:
    """Put ``beside`` in the place of ``directory``; what was there ends up at ``beside``."""
    if not directory.exists():
        beside.rename(directory)
        return
    exchange = _exchange()
    if exchange and exchange(os.fsencode(beside), os.fsencode(directory)) == 0:
        return
    # No exchange on this system or file system: two renames, with the old one back if the second fails.
    old = beside.with_name(f"{beside.name}.old")
    directory.rename(old)
    try:
        beside.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    old.rename(beside)


def _exchange() -> Callable[[bytes, bytes], int] | None:
    """Return the system's atomic exchange of two names, where there is one."""
    names = {"linux": "renameat2", "darwin": "renamex_np"}
    if sys.platform not in names:
        return None
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), names[sys.platform])
    except (OSError, AttributeError):
        return None
    if names[sys.platform] == "renameat2":
        return lambda a, b: int(call(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE)))
    return lambda a, b: int(call(a, b, ctypes.c_uint(_RENAME_SWAP)))
