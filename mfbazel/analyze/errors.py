"""The error of this package."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class AnalyzeError(MfbazelError):
    """A flow's source cannot be read; the message names file, line, construct and what to do."""
