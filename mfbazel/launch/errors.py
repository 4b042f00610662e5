"""What starting a flow can fail with."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class LaunchError(MfbazelError):
    """A flow cannot be started: an interpreter, a directory of packages or a file that the build made is missing."""
