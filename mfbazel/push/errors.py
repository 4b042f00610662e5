"""The errors of the push."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class PushError(MfbazelError):
    """Images could not be pushed or loaded; nothing was recorded."""
