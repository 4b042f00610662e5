"""A module of a namespace package, with a data file beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ..units import length


def describe() -> dict[str, object]:
    """Return what is in data files: of this package, and of the other."""
    sides = json.loads(Path(__file__).with_name("sides.json").read_text(encoding="utf-8"))
    return {"sides": sides, **length.describe()}
