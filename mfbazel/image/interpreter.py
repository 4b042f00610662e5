"""Does a base image have the Python that step images link to? Asked when images are built, not when tasks start."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Image, select_image
from mfbazel.layer.existing import describe

_PYTHON = re.compile(r"(?:^|/)bin/python3\.\d+$")
_MOST_LINKS = 40


def check_interpreter(base: Path, interpreter: str, image: str, platform: str | None = None) -> str:
    """Return where ``interpreter`` lies in ``base`` once symlinks are followed.

    Args:
        base: OCI layout directory of the base image; its layers are read.
        interpreter: absolute path that the virtual environment links to.
        image: the image that is built on it, for the message.
        platform: ``os/architecture`` where the base has several.

    Raises:
        ImageError: there is no such file; the message lists the Pythons that the base has. Otherwise as
            :func:`mfbazel.image.layout.select_image`.
        LayerError: a layer of the base is damaged.
    """
    files = _files(select_image(base, platform))
    found = _resolve(files, interpreter)
    if found is None:
        has = sorted(f"/{path}" for path in files if _PYTHON.search(path))
        raise ImageError(
            f"{image}: the base image has no {interpreter}, which the image's virtual environment needs. "
            f"Pythons of the base: {', '.join(has) or 'none'}. Declare another `python` for the step, give another "
            "`base`, or say in `interpreter` where the base keeps it."
        )
    return found


def _files(image: Image) -> dict[str, str]:
    """Return the target by path of what the layers leave: empty for files. Whiteouts as in the OCI image-spec."""
    files: dict[str, str] = {}
    for layer in image.manifest["layers"]:
        added = describe(image.blob(layer["digest"]), "base")[1]
        for listed in added:
            directory, name = posixpath.split(listed.path)
            if name.startswith(".wh."):
                gone = directory if name == ".wh..wh..opq" else posixpath.join(directory, name.removeprefix(".wh."))
                files = {path: to for path, to in files.items() if path != gone and not path.startswith(f"{gone}/")}
        for listed in added:
            files[listed.path] = listed.content.removeprefix("-> ") if listed.content.startswith("-> ") else ""
    return files


def _resolve(files: dict[str, str], path: str) -> str | None:
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
