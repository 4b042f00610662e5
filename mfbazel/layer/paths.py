"""Which paths a wheel may install to; checked before anything is written, as layers are unpacked by others, as root."""

from __future__ import annotations

import re

_DRIVE = re.compile(r"[A-Za-z]:")
_MAX_COMPONENT = 255


def unsafe(path: str) -> str | None:
    """Return why ``path`` must not be installed, ``None`` if it may.

    Refused: absolute paths, ``..``, ``.`` and empty components, backslashes, drive letters, NUL and other control
    characters, components longer than 255 bytes (no file system takes them), and names that begin with ``.wh.``, which
    delete files of lower layers (OCI image specification, "Whiteouts"). Names that differ in case only are different on
    Linux, and allowed.
    """
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it contains a backslash"
    if _DRIVE.match(path):
        return "it begins with a drive letter"
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        return "it contains a control character"
    return next((why for why in map(_unsafe_component, path.split("/")) if why), None)


def _unsafe_component(component: str) -> str | None:
    if component == "..":
        return "it leaves its directory with '..'"
    if component in ("", "."):
        return "it has an empty component or '.'"
    if component.startswith(".wh."):
        return "a component begins with '.wh.', which deletes files of the layers below"
    try:
        length = len(component.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    return f"a component is longer than {_MAX_COMPONENT} bytes" if length > _MAX_COMPONENT else None
