"""Reading a flow statically gives a flow, or one of the documented errors; nothing of the flow is run.

What an input is, and what is checked, is in ``tests/analyze/fuzz``, whose tests replay what was found.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from random import Random

from fuzz.targets.target import Target
from mfbazel.analyze import syntax
from tests.analyze.fuzz import inputs, mutate, target

_RUFF = syntax._ruff
_ASKED_EVERY = 50


def run(data: bytes, directory: Path) -> str:
    """Read the flow ``data``."""
    # Asking another parser about what does not parse takes a process each time.
    syntax._ruff = _RUFF if zlib.crc32(data) % _ASKED_EVERY == 0 else _no_ruff
    return target.run(data, directory / "input")


def _no_ruff() -> None:
    """Stand for ruff where it is not installed."""


_seeds = functools.cache(inputs.seeds)


def _mutate(data: bytes, random: Random) -> bytes:
    return mutate.mutate(data, random, _seeds())


TARGET = Target(run, _seeds, ("mfbazel.analyze",), _mutate)
