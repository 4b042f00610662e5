"""The error of this package."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class LockError(MfbazelError):
    """A lock could not be made, read or written, or it is stale."""
