"""What earlier pushes attached and signed, so that a push without a change asks the registry for none of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mfbazel.sign.errors import SignError
from mfbazel.state import write_atomically

FILE = "signed.json"
"""Name of the file, beside the record of the push."""
_SCHEMA = 1


class Marks:
    """Marks by reference, ``host/path@sha256:…``; those that a run neither asks for nor sets are forgotten with it.

    A mark is only a memory: who cannot read it, or is told by the registry that an image was gone, looks again.
    """

    def __init__(self, file: Path | None) -> None:
        """Read ``file``; one that is missing or damaged counts as empty. ``None``: nothing is remembered."""
        self._file = file
        self._old = _read(file) if file else {}
        self._new: dict[str, str] = {}

    def has(self, reference: str, wish: str) -> bool:
        """Whether what ``wish`` stands for was done to ``reference``; it stays remembered then."""
        done = self._old.get(reference) == wish
        if done:
            self._new[reference] = wish
        return done

    def without(self) -> Marks:
        """Return marks that know of nothing, for what has to be looked at; nothing is remembered of it."""
        return Marks(None)

    def set(self, reference: str, wish: str) -> None:
        """Remember that what ``wish`` stands for is done to ``reference``."""
        self._new[reference] = wish

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            SignError: it cannot be written.
        """
        if not self._file or self._new == self._old:
            return
        content = {"schema": _SCHEMA, "done": self._new}
        try:
            write_atomically(self._file, json.dumps(content, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            raise SignError(
                f"everything is attached and signed, but {self._file} cannot be written: {error.strerror or error}. "
                "Make room or allow writing there."
            ) from error


def _read(file: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(file.read_bytes())
        done = content["done"] if content["schema"] == _SCHEMA else {}
        return {str(reference): str(wish) for reference, wish in done.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
