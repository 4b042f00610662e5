"""Errors of SBOMs and provenance statements."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class SbomError(MfbazelError):
    """Lock and image do not belong together, or an option cannot be used."""
