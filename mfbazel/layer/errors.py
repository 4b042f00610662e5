"""The errors of layer making."""

from __future__ import annotations

import errno
from pathlib import Path

from mfbazel.errors import MfbazelError


class LayerError(MfbazelError):
    """A layer cannot be made from what was given; the message names the file and what to do."""


_FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the file system or the limit of the process (ulimit -f) allows",
}


def write_error(path: Path, written: int, error: OSError) -> LayerError:
    """Return the error to raise when writing ``path`` failed after ``written`` bytes.

    A full disk, a used-up quota and a file size limit get a text of their own that says what to do.
    """
    reason = _FULL.get(error.errno or 0)
    if reason is None:
        return LayerError(f"cannot write {path} (after {written} bytes): {error.strerror or error}")
    return LayerError(
        f"cannot write {path}: {reason}; {written} bytes had been written, and what was written has been removed.\n"
        f"  Free space on the file system of {path.parent} (with Bazel: its output base, see `bazel info output_base`; "
        "another disk is chosen by the start-up option --output_user_root), then run the same command again."
    )
