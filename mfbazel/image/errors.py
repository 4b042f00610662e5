"""The errors of image assembly."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class ImageError(MfbazelError):
    """An image cannot be assembled from what was given; the message names the file or option and what to do."""
