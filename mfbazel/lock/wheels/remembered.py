"""What wheels told, kept in the wheel cache beside them: a wheel is asked once by all locks of this machine.

A sha256 names the content, so nothing here can become wrong; what cannot be read is asked for again.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from mfbazel.lock.model import Contents
from mfbazel.wheel.fetch import cache_directory

_FILE = "told-1.json"
"""The number goes up when :mod:`mfbazel.lock.wheels.modules` or :mod:`mfbazel.lock.wheels.licenses` read wheels in
another way."""


def remembered_size(sha256: str) -> int | None:
    """Return the size of the wheel ``sha256`` in bytes, ``None`` when it is not known."""
    table = _read(sha256)
    return table["size"] if table else None


def remembered_contents(sha256: str) -> Contents | None:
    """Return what the wheel ``sha256`` tells of itself, ``None`` when it is not known."""
    table = _read(sha256)
    return Contents(tuple(table["modules"]), table["license"]) if table else None


def remember(sha256: str, size: int, contents: Contents) -> None:
    """Keep ``size`` (in bytes) and ``contents`` of the wheel ``sha256``; where the cache cannot be written, do not."""
    path = _path(sha256)
    text = json.dumps({"size": size, "modules": list(contents.modules), "license": contents.license})
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{_FILE}.", dir=path.parent) as directory:
            (Path(directory) / _FILE).write_text(text, encoding="utf-8")
            (Path(directory) / _FILE).replace(path)


def _path(sha256: str) -> Path:
    return cache_directory() / sha256 / _FILE


def _read(sha256: str) -> dict[str, Any] | None:
    try:
        table = json.loads(_path(sha256).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(table, dict) and {"size": int, "modules": list, "license": str}
    return table if known and all(isinstance(table.get(key), kind) for key, kind in known.items()) else None
