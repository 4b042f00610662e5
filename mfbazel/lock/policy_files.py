#!/usr/bin/env python3
"""Print as JSON which files an ``mfbazel.toml`` names, for the module extension, which cannot read TOML.

Runs as a plain script under CPython 3.9 or newer with the standard library and pip. A file that says something wrong
names no files here: the command lines, which read it again (:mod:`mfbazel.lock.policy`), say what is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef,unused-ignore]


def policy_files(text: str) -> list[str]:
    """Return the paths that the policy ``text`` names, relative to its directory, sorted."""
    try:
        lock = tomllib.loads(text).get("lock", {})
        found = {file for key in ("constraints", "overrides") for file in lock.get(key, [])}
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return []
    return sorted(file for file in found if isinstance(file, str))


if __name__ == "__main__":
    json.dump(policy_files(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.stdout)
