"""The errors of this package."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class AnalyzeError(MfbazelError):
    """A flow's source cannot be read; the message names file, line, construct and what to do."""


class NeedsRunningError(AnalyzeError):
    """The flow may be right, but holds what nobody can know without running it.

    ``construct`` says what it is in a few words and where, as the reason for reading the flow dynamically.
    """

    def __init__(self, message: str, construct: str) -> None:
        super().__init__(message)
        self.construct = construct


class DynamicError(AnalyzeError):
    """The flow could not be read by running it: it raised, took too long, or did what reading must not do."""
