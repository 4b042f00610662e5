"""The errors of verifying."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class VerifyError(MfbazelError):
    """It cannot be told what is deployed, or what it is to be compared with."""
