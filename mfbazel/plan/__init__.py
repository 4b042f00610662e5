"""Which wheels share a layer: one plan for all images of a lock, from what the lock says alone."""

from __future__ import annotations

from mfbazel.plan.errors import PlanError
from mfbazel.plan.layers import plan_layers
from mfbazel.plan.model import (
    BIG,
    BUDGET,
    HUGE,
    MOST_LAYERS,
    Layer,
    Origin,
    PlannedWheel,
    check_budget,
    size_class,
)

__all__ = [
    "BIG",
    "BUDGET",
    "HUGE",
    "MOST_LAYERS",
    "Layer",
    "Origin",
    "PlanError",
    "PlannedWheel",
    "check_budget",
    "plan_layers",
    "size_class",
]
