"""The error of this package."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class PlanError(MfbazelError):
    """No plan satisfies the budget."""
