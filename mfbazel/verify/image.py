"""An image as a registry has it: its manifests, and whether its blobs are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mfbazel.registry import Client, Descriptor, Failure, Kind, Reference, RegistryError, Subject, explain
from mfbazel.registry.client import Manifest
from mfbazel.registry.download import BlobSource, SourceError
from mfbazel.registry.parsing import read_json
from mfbazel.registry.reference import DIGEST

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_BLOCK = 1 << 20


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
    for entry in _list(content, "manifests"):
        digest, _ = _named(reference, manifest, entry)
        child = client.get_manifest(reference.path, digest)
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


def hash_blobs(client: Client, image: Image) -> Iterator[tuple[str, SourceError | None]]:
    """Read each blob to its end, which verifies it; yield its digest, and what is wrong with it."""
    for digest, size in image.blobs.items():
        try:
            with BlobSource(client, image.reference.path, digest, size).open(0) as content:
                while content.read(_BLOCK):
                    pass
        except SourceError as error:
            yield digest, error
        else:
            yield digest, None


def _platform(client: Client, reference: Reference, manifest: Manifest, platform: Any = None) -> Platform:
    content = _content(reference, manifest)
    parts = [_named(reference, manifest, part) for part in (content.get("config"), *_list(content, "layers"))]
    if platform is None:  # only the configuration tells it
        try:
            platform = read_json(client.get_blob(reference.path, parts[0][0]))
        except ValueError:
            platform = {}
    told = platform if isinstance(platform, dict) else {}
    name = f"{told['os']}/{told['architecture']}" if {"os", "architecture"} <= told.keys() else ""
    return Platform(_descriptor(manifest, content), name, dict(parts))


def _named(reference: Reference, manifest: Manifest, entry: Any) -> tuple[str, int]:
    """Return digest and size of what a manifest names."""
    digest, size = (entry.get("digest"), entry.get("size")) if isinstance(entry, dict) else (None, None)
    if not (isinstance(digest, str) and DIGEST.fullmatch(digest) and isinstance(size, int) and size >= 0):
        raise _malformed(reference, f"the manifest {manifest.digest} names something without sha256 digest and size")
    return digest, size


def _list(content: dict[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    return found if isinstance(found, list) else []


def _content(reference: Reference, manifest: Manifest) -> dict[str, Any]:
    try:
        content = read_json(manifest.data)
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
