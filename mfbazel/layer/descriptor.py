"""Descriptors of layers (OCI image specification, "OCI Content Descriptors", with the layer's diff ID added)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.layer.errors import LayerError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

MEDIA_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""Compression → media type of a layer."""


@dataclass(frozen=True)
class Descriptor:
    """What an image says about a layer.

    Attributes:
        media_type: one of the values of :data:`MEDIA_TYPES`.
        digest: ``sha256:…`` of the blob.
        size: of the blob, in bytes.
        diff_id: ``sha256:…`` of the uncompressed tar.
    """

    media_type: str
    digest: str
    size: int
    diff_id: str

    def to_json(self) -> bytes:
        """Return the descriptor file's content."""
        fields = {"mediaType": self.media_type, "digest": self.digest, "size": self.size, "diffID": self.diff_id}
        return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor file.

    Raises:
        LayerError: the file is missing, is not a descriptor, or a field is malformed.
    """
    try:
        fields: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LayerError(f"cannot read the layer descriptor {path}: {error}") from error
    if not isinstance(fields, dict):
        raise LayerError(f"{path} is not a layer descriptor: a JSON object is expected")
    _check(path, "mediaType", fields.get("mediaType"), fields.get("mediaType") in MEDIA_TYPES.values())
    for name in ("digest", "diffID"):
        value = fields.get(name)
        _check(path, name, value, isinstance(value, str) and _DIGEST.fullmatch(value) is not None)
    size = fields.get("size")
    _check(path, "size", size, type(size) is int and size >= 0)
    return Descriptor(fields["mediaType"], fields["digest"], fields["size"], fields["diffID"])


def _check(path: Path, field: str, value: object, good: bool) -> None:
    if not good:
        raise LayerError(
            f"{path} is not a layer descriptor: {field} is {value!r}. Descriptors are written by "
            "`python -m mfbazel.layer`; for a tar made otherwise, by its sub-command `tar`."
        )
