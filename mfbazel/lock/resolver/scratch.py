"""Directories for the time of one step, which nobody has to clean up: not even after a process was killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from mfbazel.lock.errors import LockError

_PREFIX = "mfbazel-scratch-"
_NEW = "mfbazel-new-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_cleaned: set[Path] = set()
_lock = threading.Lock()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a private directory and remove it at the end.

    Raises:
        LockError: the disk refuses to write in it.

    A directory is locked (flock) as long as its process lives; those that nobody holds any more are removed when a
    process makes its first one.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    handle = os.open(new, os.O_RDONLY)
    directory = new.with_name(_PREFIX + new.name.removeprefix(_NEW))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        new.rename(directory)
        yield directory
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise LockError(
            f"cannot write temporary files in {parent}: {error.strerror}. Make room there, or set TMPDIR to another "
            "place."
        ) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)
        os.close(handle)


def _remove_abandoned(parent: Path) -> None:
    with _lock:
        if parent in _cleaned:
            return
        _cleaned.add(parent)
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(handle)
