"""OCI layouts as a reader of the image-spec sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"

Json = dict[str, Any]


def digest_of(data: bytes) -> str:
    """Return ``sha256:…`` of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Layout:
    """An OCI layout directory."""

    directory: Path

    def blob(self, digest: str) -> Path:
        """Return the path of a blob."""
        return self.directory / "blobs" / digest.replace(":", "/")

    def document(self, digest: str) -> Json:
        """Return a blob that is a JSON document."""
        return cast(Json, json.loads(self.blob(digest).read_bytes()))

    @property
    def top(self) -> Json:
        """The descriptor of the image or index that ``index.json`` names."""
        (descriptor,) = json.loads((self.directory / "index.json").read_bytes())["manifests"]
        return cast(Json, descriptor)

    def descriptors(self) -> Iterator[Json]:
        """Yield the descriptor of every blob that can be reached, from the top; one that is named twice comes twice."""
        yield from self._below(self.top)

    def manifests(self) -> list[Json]:
        """Return the manifest of every platform, in the order of the index."""
        return [self.document(entry["digest"]) for entry in self.descriptors() if entry["mediaType"] == MANIFEST]

    def manifest(self, architecture: str | None = None) -> Json:
        """Return the one manifest, or that for an architecture."""
        (manifest,) = [
            manifest for manifest in self.manifests() if architecture in (None, self.config(manifest)["architecture"])
        ]
        return manifest

    def config(self, manifest: Json) -> Json:
        """Return the configuration that a manifest names."""
        return self.document(manifest["config"]["digest"])

    def layers(self, architecture: str | None = None) -> list[str]:
        """Return the digests of an image's layers, from the bottom to the top."""
        return [layer["digest"] for layer in self.manifest(architecture)["layers"]]

    def _below(self, descriptor: Json) -> Iterator[Json]:
        yield descriptor
        kind = descriptor["mediaType"]
        if kind == INDEX:
            for entry in self.document(descriptor["digest"])["manifests"]:
                yield from self._below(entry)
        elif kind == MANIFEST:
            manifest = self.document(descriptor["digest"])
            yield manifest["config"]
            yield from manifest["layers"]
