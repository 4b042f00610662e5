"""What is planned, and what a plan consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mfbazel.plan.errors import PlanError

BIG = 4 << 20
"""Size in bytes of the wheel file from which a wheel gets a layer of its own."""

HUGE = 3
"""The size class from which a wheel lies below all that is smaller: 64 MiB, see :func:`size_class`."""

BUDGET = 24
"""Dependency layers per image, where nothing else is said."""

MOST_LAYERS = 100
"""The highest budget: container runtimes refuse images of more than about 125 layers, the base's included."""


class Origin(IntEnum):
    """Where a wheel comes from, as far as that tells how often it changes; what changes more often is greater."""

    INDEX = 0
    """An index has it: another version makes it another wheel."""
    SOURCE = 1
    """It is checked in, or built from an sdist or a commit."""
    TARGET = 2
    """A target of the workspace makes it: any edit makes it another one."""


@dataclass(frozen=True)
class PlannedWheel:
    """What the planner needs to know of a wheel; ``size`` in bytes of the file, 0 where it is not known."""

    name: str
    version: str
    size: int
    origin: Origin = Origin.INDEX


@dataclass(frozen=True)
class Layer:
    """A layer: its ``name`` (safe as a file name, unique in the plan even where case does not count), the keys of its
    ``wheels`` and the names of the ``environments`` whose images contain it, both sorted."""

    name: str
    wheels: tuple[str, ...]
    environments: tuple[str, ...]


def size_class(size: int, big: int = BIG) -> int:
    """Return 0 for a wheel of less than ``big`` bytes, 1 up to four times that, 2 up to sixteen times, and so on."""
    return ((size // big).bit_length() + 1) // 2


def check_budget(budget: int) -> int:
    """Return ``budget``.

    Raises:
        PlanError: it is not 1 to :data:`MOST_LAYERS`.
    """
    if not 1 <= budget <= MOST_LAYERS:
        raise PlanError(
            f"attribute `budget`: {budget} layers per image is out of range; choose 1 to {MOST_LAYERS} "
            "(container runtimes refuse images of more than about 125 layers, the base's included)"
        )
    return budget
