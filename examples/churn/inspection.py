"""What a step can see of the packages that are installed around it.

The flow keeps this as an artifact of every step, to show that each step runs on its own locked packages and on no
others.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from importlib import metadata
from typing import TypedDict

OWNED = ("pandas", "sklearn", "matplotlib")
"""Modules that exactly one step of the flow declares a package for."""


class Inspection(TypedDict):
    """What :func:`inspect_environment` found; plain values only, so that every other step can read it."""

    python: str
    """Version of the interpreter, such as ``3.14.0``."""
    executable: str
    """Path of the interpreter."""
    distributions: dict[str, str]
    """Version of every installed distribution by its normalised name."""
    imports: dict[str, str]
    """For each of :data:`OWNED`: ``imported``, or the name of the exception that importing it raised."""


def inspect_environment() -> Inspection:
    """Describe the interpreter that runs this, and the packages that it finds."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "distributions": installed_distributions(),
        "imports": {module: try_import(module) for module in OWNED},
    }


def installed_distributions() -> dict[str, str]:
    """Return the version of every distribution on ``sys.path`` by normalised name; the first on the path counts."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        found.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version)
    return dict(sorted(found.items()))


def try_import(module: str) -> str:
    """Return ``imported``, or the name of the exception that importing ``module`` raised."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return type(error).__name__
    return "imported"
