#!/usr/bin/env python3
"""Print as JSON which files and indexes an ``mfbazel.toml`` names, for the module extension, which cannot read TOML.

Runs as a plain script under CPython 3.9 or newer with the standard library and pip. What is wrong in the file is left
out here: the command lines, which read it again (:mod:`mfbazel.lock.policy`), say what is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef,unused-ignore]


def policy_names(text: str) -> dict[str, Any]:
    """Return what the policy ``text`` names: ``files``, paths from its directory, and ``indexes``, URL by name."""
    try:
        lock = tomllib.loads(text).get("lock", {})
        files = {file for key in ("constraints", "overrides") for file in lock.get(key, [])}
        indexes = {index["name"]: index["url"] for index in lock.get("index", [])}
    except (tomllib.TOMLDecodeError, AttributeError, TypeError, KeyError):
        return {"files": [], "indexes": {}}
    return {"files": sorted(file for file in files if isinstance(file, str)), "indexes": indexes}


if __name__ == "__main__":
    json.dump(policy_names(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.stdout)
