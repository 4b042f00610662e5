"""Errors of this package."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class BuildError(MfbazelError):
    """A wheel could not be built from a source; the message says of which, why, and what to do next."""
