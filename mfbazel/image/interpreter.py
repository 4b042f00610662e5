"""Does a base image have the Python that step images link to? Asked when images are built, not when tasks start."""

from __future__ import annotations

import posixpath
import re

from mfbazel.image.errors import ImageError
from mfbazel.image.listing import Files

_PYTHON = re.compile(r"(?:^|/)bin/python3\.\d+$")
_MOST_LINKS = 40


def check_interpreter(files: Files, interpreter: str, image: str) -> str:
    """Return where ``interpreter`` lies in a base image once symlinks are followed.

    Args:
        files: of the base; see :mod:`mfbazel.image.listing`.
        interpreter: absolute path that the virtual environment links to.
        image: the image that is built on it, for the message.

    Raises:
        ImageError: there is no such file; the message lists the Pythons that the base has.
    """
    found = _resolve(files, interpreter)
    if found is None:
        has = sorted(f"/{path}" for path in files if _PYTHON.search(path))
        raise ImageError(
            f"{image}: the base image has no {interpreter}, which the image's virtual environment needs. "
            f"Pythons of the base: {', '.join(has) or 'none'}. Declare another `python` for the step, give another "
            "`base`, or say in `interpreter` where the base keeps it."
        )
    return found


def _resolve(files: Files, path: str) -> str | None:
    """Follow symlinks, of directories too; None where a file is missing or links go round."""
    rest, done = path.strip("/").split("/"), ""
    links = 0
    while rest:
        done = posixpath.join(done, rest.pop(0))
        target = files.get(done, "")
        if target:
            links += 1
            if links > _MOST_LINKS:
                return None
            joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(done), target))
            rest, done = [*joined.strip("/").split("/"), *rest], ""
    return f"/{done}" if done in files else None
