"""Which paths a wheel may install to; checked before anything is written, as layers are unpacked by others, as root."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_DRIVE = re.compile(r"[A-Za-z]:")
_MAX_COMPONENT = 255
_MAX_PATH = 4096 - 256
"""Bytes: Linux takes 4095 from the root on; the rest is for the virtual environment's directory and byte code."""

_INVISIBLE = frozenset(["Cc", "Zl", "Zp"])
"""Unicode's categories of control characters and of line and paragraph separators."""

_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What changes the order in which characters are shown: a name would be read as another."""


def unsafe(path: str) -> str | None:
    """Return why ``path`` must not be installed, ``None`` if it may.

    Refused: absolute paths, ``..``, ``.`` and empty components, backslashes, drive letters, NUL and other control
    characters, components longer than 255 bytes and paths longer than 3840 (no file system takes them), and names that
    begin with ``.wh.``, which delete files of lower layers (OCI image specification, "Whiteouts"). Names that clash
    with each other are not looked for here: see :func:`folded`.
    """
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it contains a backslash"
    if _DRIVE.match(path):
        return "it begins with a drive letter"
    if why := _unsafe_character(path):
        return why
    if len(path) * 4 > _MAX_PATH and len(path.encode("utf-8", "replace")) > _MAX_PATH:
        return f"it is longer than {_MAX_PATH} bytes"
    return next((why for why in map(_unsafe_component, path.split("/")) if why), None)


def _unsafe_character(path: str) -> str | None:
    if path.isascii():
        return None if path.isprintable() else "it contains a control character"
    if any(unicodedata.category(char) in _INVISIBLE for char in path):
        return "it contains a control character"
    if not _BIDIRECTIONAL.isdisjoint(path):
        return "it contains a character that changes the order in which a name is shown"
    return None


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


def of_metadata(name: str) -> bool:
    """Tell whether a directory or file ``name`` in site-packages makes Python see a distribution, as
    :mod:`importlib.metadata` looks for them: in any case of letters."""
    return name.lower().endswith((".dist-info", ".egg-info"))


def folded(path: str, *, case: bool) -> str:
    """Return what ``path`` has in common with others that a file system may take for the same.

    Args:
        path: any.
        case: whether upper and lower case are the same; the forms of Unicode (composed or not) always are.
    """
    if path.isascii():
        return path.lower() if case else path
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold() if case else path)


class Folded:
    """Paths that were seen, and whether another one clashes with them by Unicode's forms, or by case."""

    def __init__(self, *, case: bool) -> None:
        """See :func:`folded` for ``case``."""
        self._case = case
        self._seen: dict[str, str] = {}
        self._directories: dict[str, str] = {}

    def clash(self, path: str) -> str | None:
        """Remember ``path``; return an earlier one, not equal, that it clashes with, ``None`` where there is none.

        Directories above it clash by Unicode's forms only: of those that differ in case the files are told apart.
        """
        other = self._seen.setdefault(folded(path, case=self._case), path)
        if other != path:
            return other
        if not path.isascii():
            for directory in _parents(path):
                other = self._directories.setdefault(folded(directory, case=False), directory)
                if other != directory:
                    return other
        return None


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
