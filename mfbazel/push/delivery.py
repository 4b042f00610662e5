"""What is pushed: images and their tags, each with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mfbazel.push.layout import Layout
from mfbazel.push.repository import Repository
from mfbazel.registry.client import MANIFEST
from mfbazel.registry.upload import Source


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
        Content(blob.digest, blob.size, partial(_open, blob.path), str(blob.path), blob.path) for blob in layout.blobs
    )
    manifests = []
    for blob in layout.manifests:
        data = blob.path.read_bytes()
        manifests.append(ManifestContent(blob.digest, data, json.loads(data).get("mediaType", MANIFEST)))
    return Delivery(repository, blobs, tuple(manifests), tags, what)


def _open(path: Path, offset: int) -> BinaryIO:
    stream = path.open("rb", buffering=0)
    stream.seek(offset)
    return stream
