"""What a policy can refuse."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class PolicyError(MfbazelError):
    """``mfbazel.toml`` does not allow something, or cannot be read."""
