"""What is pushed: images and their tags, each with its place."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from mfbazel.push.errors import PushError
from mfbazel.push.layout import Layout
from mfbazel.push.repository import Repository
from mfbazel.registry.client import MANIFEST
from mfbazel.registry.upload import Source


class ContentError(PushError):
    """A file of an image cannot be read, or ends too early, while it is sent."""


@dataclass(frozen=True)
class Content(Source):
    """A configuration or layer.

    Attributes:
        origin: where its bytes come from, for messages.
        file: its file, where it has one.
    """

    origin: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class ManifestContent:
    """A manifest or index: ``digest``, the bytes ``data``, ``media_type``."""

    digest: str
    data: bytes
    media_type: str = MANIFEST


@dataclass(frozen=True)
class Delivery:
    """An image, or an index of images, that a repository is to have.

    Attributes:
        repository: where to.
        blobs: configurations and layers, each digest once.
        manifests: children before their index; the last one is the image's own.
        tags: tag to the digest of one of the manifests.
        what: for messages, e.g. ``the image of the step 'train'``.
    """

    repository: Repository
    blobs: tuple[Content, ...]
    manifests: tuple[ManifestContent, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    what: str = "the image"

    @property
    def digest(self) -> str:
        """The digest that names it."""
        return self.manifests[-1].digest

    @property
    def reference(self) -> str:
        """``host/path@sha256:…``."""
        return self.repository.by_digest(self.digest)

    @property
    def size(self) -> int:
        """The sum of the blobs' sizes in bytes."""
        return sum(blob.size for blob in self.blobs)


def deliver(layout: Layout, repository: Repository, tags: Mapping[str, str], what: str) -> Delivery:
    """Return the delivery of the image of a layout directory."""
    blobs = tuple(
        Content(blob.digest, blob.size, partial(_open, blob.path, blob.size), str(blob.path), blob.path)
        for blob in layout.blobs
    )
    manifests = []
    for blob in layout.manifests:
        data = blob.path.read_bytes()
        manifests.append(ManifestContent(blob.digest, data, json.loads(data).get("mediaType", MANIFEST)))
    return Delivery(repository, blobs, tuple(manifests), tags, what)


class _File(io.FileIO):
    """A blob's file, whose failures are told as its own: a registry must not be blamed for them."""

    def __init__(self, path: Path, size: int) -> None:
        """Open it; ``size`` is what it had when the layout was read."""
        self._path = path
        self._blob_size = size
        try:
            super().__init__(path)
        except OSError as error:
            raise self._failed(error) from error

    def read(self, amount: int | None = -1, /) -> bytes:
        """See :class:`io.FileIO`."""
        try:
            data = super().read(-1 if amount is None else amount)
        except OSError as error:
            raise self._failed(error) from error
        if not data and amount and (end := self.tell()) < self._blob_size:
            raise ContentError(
                f"the blob {self._path} ends after {end} of {self._blob_size} bytes: the file was changed after the "
                "build; build the image again. Nothing was recorded."
            )
        return data or b""

    def _failed(self, error: OSError) -> ContentError:
        return ContentError(
            f"the blob {self._path} cannot be read while it is sent: {error.strerror or error}. Look at the disk, or "
            "build the image again if something removed it. Nothing was recorded."
        )


def _open(path: Path, size: int, offset: int) -> BinaryIO:
    stream = _File(path, size)
    stream.seek(offset)
    return cast(BinaryIO, stream)
