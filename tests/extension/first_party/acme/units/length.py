"""Another module of the namespace package, with files that actions made."""

from __future__ import annotations

from importlib.resources import files


def describe() -> dict[str, str]:
    """Return what the made files say."""
    here = files(__package__)
    made = {"meter": ["meter.txt"], "inch": ["tables", "inch", "mm.txt"], "mile": ["tables", "mile.txt"]}
    return {name: here.joinpath(*path).read_text(encoding="utf-8").strip() for name, path in made.items()}
