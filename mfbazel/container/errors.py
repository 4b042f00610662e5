"""What running in a container can fail with."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class ContainerError(MfbazelError):
    """A step cannot run in a container here: no engine, no image, or an image that the engine refuses."""
