"""The files of an image, read from its layers once: which paths are there, and where links lead."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from pathlib import Path

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Image, select_image
from mfbazel.layer.existing import describe

Files = Mapping[str, str]
"""Path, relative to the image's root → target of a link; empty for files."""


def list_files(layout: Path) -> dict[str, str]:
    """Return the files of the one image of a layout.

    Raises:
        ImageError: as :func:`mfbazel.image.layout.select_image`.
        LayerError: a layer is damaged.
    """
    return _files(select_image(layout))


def to_json(files: Files) -> bytes:
    """Return the content of a listing."""
    return json.dumps(files, sort_keys=True, separators=(",", ":")).encode()


def read_listing(path: Path) -> dict[str, str]:
    """Read what :func:`to_json` wrote.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        result: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the list of files {path}: {error}") from error
    return result


def _files(image: Image) -> dict[str, str]:
    """Return what the layers leave. Whiteouts as in the OCI image-spec ("Whiteouts")."""
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
