"""Which wheels share a layer: one plan for all images of a lock, from sizes and environments alone."""

from __future__ import annotations

from mfbazel.plan.errors import PlanError
from mfbazel.plan.layers import BIG, BUDGET, MOST_LAYERS, Layer, PlannedWheel, plan_layers

__all__ = ["BIG", "BUDGET", "MOST_LAYERS", "Layer", "PlanError", "PlannedWheel", "plan_layers"]
