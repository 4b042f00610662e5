"""The errors of image assembly."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class ImageError(MfbazelError):
    """An image cannot be assembled from what was given; the message names the file or option and what to do."""


class NoSuchPlatformError(ImageError):
    """A layout has no image for a platform.

    Attributes:
        platforms: those that it has, sorted.
    """

    def __init__(self, message: str, platforms: list[str]) -> None:
        super().__init__(message)
        self.platforms = platforms
