"""The errors of signing."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class SignError(MfbazelError):
    """Something cannot be signed or attached, or a signer is not set up as it says."""


class UnsignedError(SignError):
    """What was to be verified has no signature that the signer's options accept."""
