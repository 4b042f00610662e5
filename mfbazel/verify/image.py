"""An image as a registry has it: its manifests, and whether its blobs are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mfbazel.registry import Client, Descriptor, Failure, Kind, Reference, RegistryError, Subject, explain
from mfbazel.registry.client import Manifest
from mfbazel.registry.pieces import read_blob

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


@dataclass(frozen=True)
class Platform:
    """The manifest of one platform.

    Attributes:
        descriptor: of the manifest.
        name: ``os/architecture``; empty where nothing tells it.
        blobs: digest to size in bytes.
    """

    descriptor: Descriptor
    name: str
    blobs: dict[str, int]


@dataclass(frozen=True)
class Image:
    """An image, or an index of images.

    Attributes:
        reference: by digest.
        top: descriptor of what the digest names.
        platforms: of each platform.
    """

    reference: Reference
    top: Descriptor
    platforms: tuple[Platform, ...]

    @property
    def blobs(self) -> dict[str, int]:
        """Digest to size in bytes, of all platforms."""
        return {digest: size for platform in self.platforms for digest, size in platform.blobs.items()}


def read_image(client: Client, reference: Reference) -> Image:
    """Read the manifests of an image; each has the bytes that its digest says.

    Raises:
        RegistryError: the registry did not answer, refused, lacks one of them, has other bytes, or what it has names no
            image.
    """
    manifest = client.get_manifest(reference.path, reference.name)
    content = _content(reference, manifest)
    if _media_type(manifest, content) not in _INDEXES:
        return Image(reference, _descriptor(manifest, content), (_platform(client, reference, manifest),))
    children = []
    for entry in content.get("manifests", []):
        child = client.get_manifest(reference.path, str(entry["digest"]))
        children.append(_platform(client, reference, child, entry.get("platform") or {}))
    if not children:
        raise _malformed(reference, f"the index {manifest.digest} names no image")
    return Image(reference, _descriptor(manifest, content), tuple(children))


def missing_blobs(client: Client, image: Image) -> list[str]:
    """Return the digests of blobs that the repository does not have.

    Raises:
        RegistryError: the registry did not answer, or refused.
    """
    return [digest for digest in image.blobs if not client.head_blob(image.reference.path, digest)]


def hash_blobs(client: Client, image: Image) -> Iterator[tuple[str, RegistryError | None]]:
    """Read each blob to its end; yield its digest, and what is wrong with it."""
    for digest, size in image.blobs.items():
        try:
            _hash_blob(client, image.reference, digest, size)
        except RegistryError as error:
            yield digest, error
        else:
            yield digest, None


def _hash_blob(client: Client, reference: Reference, digest: str, size: int) -> None:
    found = hashlib.sha256()
    for chunk in read_blob(client, reference.path, digest, size):
        found.update(chunk)
    if f"sha256:{found.hexdigest()}" != digest:
        failure = Failure(Kind.DIGEST, f"digest mismatch: sha256:{found.hexdigest()} instead of {digest}")
        raise explain(failure, Subject(reference.host, f"{reference.repository}@{digest}", "reading the blob"))


def _platform(
    client: Client, reference: Reference, manifest: Manifest, platform: dict[str, Any] | None = None
) -> Platform:
    content = _content(reference, manifest)
    parts = [content.get("config") or {}, *content.get("layers", [])]
    blobs = {str(part["digest"]): int(part["size"]) for part in parts}
    if platform is None:  # only the configuration tells it
        config = client.get_blob(reference.path, str(parts[0]["digest"]))
        try:
            platform = json.loads(config)
        except ValueError:
            platform = {}
    told = platform or {}
    name = f"{told['os']}/{told['architecture']}" if {"os", "architecture"} <= told.keys() else ""
    return Platform(_descriptor(manifest, content), name, blobs)


def _content(reference: Reference, manifest: Manifest) -> dict[str, Any]:
    try:
        content = json.loads(manifest.data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _malformed(reference, f"the manifest {manifest.digest} is no JSON object")
    return content


def _malformed(reference: Reference, said: str) -> RegistryError:
    return explain(Failure(Kind.MALFORMED, said), Subject(reference.host, str(reference), "reading the manifest"))


def _media_type(manifest: Manifest, content: dict[str, Any]) -> str:
    return str(content.get("mediaType") or manifest.media_type)


def _descriptor(manifest: Manifest, content: dict[str, Any]) -> Descriptor:
    return Descriptor(manifest.digest, len(manifest.data), _media_type(manifest, content))
