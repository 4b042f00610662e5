"""What travels in the code package besides the flow's own directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .bazel_errors import UnreadableFileException

FIRST_PARTY_VARIABLE = "MFBAZEL_FIRST_PARTY"
"""Environment variable: JSON file, path in the code package → file, of the code outside the flow's directory."""
RUNFILES_VARIABLE = "MFBAZEL_RUNFILES"
"""Environment variable: directory that relative paths in that file start from."""


def first_party() -> dict[str, Path]:
    """Return the first-party files outside the flow's directory by the paths by which they are imported; those of a
    directory one by one.

    Raises:
        UnreadableFileException: the launcher's list is damaged, or names a file that is missing.
    """
    named = os.environ.get(FIRST_PARTY_VARIABLE)
    if not named:
        return {}
    try:
        listed = json.loads(Path(named).read_text(encoding="utf-8"))
        paths = {str(arcname): Path(os.environ.get(RUNFILES_VARIABLE, ""), path) for arcname, path in listed.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UnreadableFileException(
            f"{named}, named by {FIRST_PARTY_VARIABLE}, cannot be read: {error!r}."
        ) from error
    found: dict[str, Path] = {}
    for arcname, path in paths.items():
        if path.is_dir():
            found |= {f"{arcname}/{file.relative_to(path)}": file for file in path.rglob("*") if file.is_file()}
        elif path.is_file():
            found[arcname] = path
        else:
            raise UnreadableFileException(f"{named} lists {arcname}, but there is no file {path}.")
    return found
