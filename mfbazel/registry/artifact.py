"""The ``images.json`` of a push as an artifact of the registry, beside the images that it names.

The artifact is an image manifest with an ``artifactType``, the empty configuration and one layer (OCI image-spec 1.1,
"Guidelines for Artifact Usage").
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mfbazel.registry.client import DEFAULT_TIMEOUT, MANIFEST, Client, digest_of
from mfbazel.registry.errors import Failure, Kind, RegistryError, Subject, explain
from mfbazel.registry.parsing import read_json
from mfbazel.registry.reference import parse_reference
from mfbazel.registry.transport import Deadline

IMAGES_TYPE = "application/vnd.mfbazel.images.v1+json"
"""Type of the artifact, and media type of its layer."""
SCHEME = "oci://"
_EMPTY = b"{}"  # OCI image-spec 1.1, "Guidance for an Empty Descriptor"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True)
class Published:
    """An artifact that the registry has.

    Attributes:
        digest: of its manifest.
        tags: the tags that were set anew; empty when nothing had to be sent.
        fixed: the tags that name something else, which the registry does not let go.
    """

    digest: str
    tags: tuple[str, ...]
    fixed: tuple[str, ...] = ()


def artifact_manifest(images: bytes) -> bytes:
    """Return the artifact's manifest; the same bytes for the same ``images.json``."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": IMAGES_TYPE,
        "config": _descriptor(_EMPTY_TYPE, _EMPTY),
        "layers": [
            {
                **_descriptor(IMAGES_TYPE, images),
                "annotations": {"org.opencontainers.image.title": "images.json"},
            }
        ],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def store_images(client: Client, path: str, images: bytes) -> bool:
    """Let the repository ``path`` have the artifact of ``images``, by digest alone; return whether it had it.

    Raises:
        RegistryError: see :class:`Client`.
    """
    manifest = artifact_manifest(images)
    if client.head_manifest(path, digest_of(manifest)):
        return True
    client.put_blob(path, _EMPTY)
    client.put_blob(path, images)
    client.put_manifest(path, digest_of(manifest), manifest)
    return False


def publish_images(client: Client, path: str, tags: Iterable[str], images: bytes) -> Published:
    """Let each of ``tags`` in the repository ``path`` name the artifact of ``images``; send only what is missing.

    Where the registry refuses to move a tag, as one with immutable tags does, the artifact is there by its digest.

    Raises:
        RegistryError: see :class:`Client`.
    """
    manifest = artifact_manifest(images)
    digest = digest_of(manifest)
    named = {tag: found.digest if (found := client.usable_manifest(path, tag)) else None for tag in tags}
    wanting = [tag for tag, there in named.items() if there != digest]
    if wanting:
        client.put_blob(path, _EMPTY)
        client.put_blob(path, images)
    fixed = [tag for tag in wanting if not _set_tag(client, path, tag, manifest, moves=named[tag] is not None)]
    if fixed and not client.head_manifest(path, digest):
        client.put_manifest(path, digest, manifest)
    return Published(digest, tuple(tag for tag in wanting if tag not in fixed), tuple(fixed))


def _set_tag(client: Client, path: str, tag: str, manifest: bytes, *, moves: bool) -> bool:
    """Let ``tag`` name the manifest; return whether the registry let it, if it ``moves``."""
    try:
        client.put_manifest(path, tag, manifest)
    except RegistryError as error:
        if moves and error.problem.kind is Kind.REFUSED:
            return False
        raise
    return True


def fetch_images(reference: str, *, timeout: float = DEFAULT_TIMEOUT, insecure: bool = False) -> bytes:
    """Return the ``images.json`` of the artifact ``reference``, with or without ``oci://``; its digests are verified.

    Raises:
        RegistryError: the reference is none, the registry did not answer or refused, does not have it, or what it has
            is no such artifact.
    """
    parsed = parse_reference(reference)
    client = Client(parsed.host, insecure, deadline=Deadline(timeout))
    manifest = client.get_manifest(parsed.path, parsed.name)
    try:
        content: Any = read_json(manifest.data)
        kind, layer = content["artifactType"], str(content["layers"][0]["digest"])
    except (ValueError, LookupError, TypeError):
        kind, layer = None, ""
    if kind != IMAGES_TYPE:
        failure = Failure(Kind.OTHER_CONTENT, f"its artifactType is {kind!r}, not {IMAGES_TYPE}")
        raise explain(failure, Subject(parsed.host, str(parsed), "reading images.json"))
    return client.get_blob(parsed.path, layer)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
