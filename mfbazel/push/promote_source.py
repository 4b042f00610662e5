"""Reading from a registry what is to be copied: images, and what refers to them (signatures, SBOMs, provenance)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mfbazel.push.delivery import Content, Delivery, ManifestContent
from mfbazel.push.errors import PushError
from mfbazel.push.repository import Repository
from mfbazel.registry import Client
from mfbazel.registry.client import INDEX, digest_of
from mfbazel.registry.download import BlobSource
from mfbazel.registry.parsing import read_json
from mfbazel.registry.reference import DIGEST
from mfbazel.registry.referrers import fallback_tag, get_referrers, tagged_referrers

COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""What cosign appends to ``sha256-<hex>`` for its tags."""

_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")


@dataclass(frozen=True)
class Referrer:
    """A manifest of the source that belongs to another one.

    Attributes:
        delivery: how it is copied; its tags are cosign's.
        subject: digest of the manifest that it refers to with ``subject``; ``None`` where only a tag says so.
        descriptor: its entry in a list of referrers.
    """

    delivery: Delivery
    subject: str | None
    descriptor: Mapping[str, Any]


@dataclass
class Source:
    """A repository that images are copied from.

    Attributes:
        client: of its registry.
        repository: the repository.
        target: where they go.
    """

    client: Client
    repository: Repository
    target: Repository
    _contents: dict[str, Content] = field(default_factory=dict)

    def image(self, digest: str, tags: Mapping[str, str], what: str) -> Delivery:
        """Return how the image or index ``digest`` is copied.

        Args:
            digest: of its manifest.
            tags: tags to set, with the digests that they name.
            what: for messages.

        Raises:
            RegistryError: the registry does not have it, does not answer, refuses, or has other bytes.
            PushError: it is no image.
        """
        manifests: dict[str, ManifestContent] = {}
        blobs: dict[str, Content] = {}
        self._walk(digest, manifests, blobs)
        return Delivery(self.target, tuple(blobs.values()), tuple(manifests.values()), tags, what)

    def referrers(self, delivery: Delivery) -> list[Referrer]:
        """Return what refers to the manifests of ``delivery``, and what refers to that, each once.

        Raises:
            RegistryError, PushError: see :meth:`image`.
        """
        seen = {manifest.digest for manifest in delivery.manifests}
        waiting, found = list(seen), []
        while waiting:
            subject = waiting.pop()
            for digest, tags in self._referring(subject).items():
                if digest not in seen:
                    seen.add(digest)
                    waiting.append(digest)
                    found.append(self._referrer(digest, tags, subject, delivery.what))
        return found

    def _referrer(self, digest: str, tags: Iterable[str], subject: str, what: str) -> Referrer:
        copied = self.image(digest, dict.fromkeys(tags, digest), f"what refers to {what}")
        manifest = copied.manifests[-1]
        content = self._content(manifest.data, manifest.digest)
        named = _member(content, "subject").get("digest")
        return Referrer(copied, subject if named == subject else None, descriptor_of(manifest, content))

    def _referring(self, subject: str) -> dict[str, list[str]]:
        """Return the manifests that refer to ``subject``, each with the tags that cosign found it by."""
        found: dict[str, list[str]] = {}
        listed = get_referrers(self.client, self.repository.path, subject) or []
        for descriptor in [*listed, *tagged_referrers(self.client, self.repository.path, subject)]:
            if DIGEST.fullmatch(str(descriptor.get("digest"))):
                found.setdefault(str(descriptor["digest"]), [])
        for suffix in COSIGN_SUFFIXES:
            tag = f"{fallback_tag(subject)}{suffix}"
            if there := self.client.head_manifest(self.repository.path, tag):
                found.setdefault(there.digest, []).append(tag)
        return found

    def _walk(self, digest: str, manifests: dict[str, ManifestContent], blobs: dict[str, Content]) -> None:
        """Collect a manifest and what it names, children first."""
        if digest in manifests:
            return
        read = self.client.get_manifest(self.repository.path, digest)
        content = self._content(read.data, digest)
        media_type = str(content.get("mediaType") or read.media_type)
        if media_type in _INDEXES:
            for child in _descriptors(content.get("manifests")):
                self._walk(self._child(child, digest), manifests, blobs)
        else:
            for descriptor in (content.get("config"), *_descriptors(content.get("layers"))):
                blob = self._blob(descriptor, digest)
                blobs.setdefault(blob.digest, blob)
        manifests[digest] = ManifestContent(digest, read.data, media_type)

    def _child(self, descriptor: Any, index: str) -> str:
        """Return the digest of a manifest of an index; a tag in its place would become one of the target."""
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
            raise PushError(f"{self.repository.by_digest(index)} names a manifest without a sha256 digest.")
        return digest

    def _content(self, data: bytes, digest: str) -> dict[str, Any]:
        try:
            content: Any = read_json(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise PushError(f"{self.repository.by_digest(digest)} is no manifest of an image; it cannot be copied.")
        return content

    def _blob(self, descriptor: Any, manifest: str) -> Content:
        """Return a blob of the source; one of several images is the same object, which verifies it."""
        digest, size = (descriptor.get("digest"), descriptor.get("size")) if isinstance(descriptor, dict) else (0, 0)
        if not (isinstance(digest, str) and DIGEST.fullmatch(digest) and isinstance(size, int) and size >= 0):
            raise PushError(f"{self.repository.by_digest(manifest)} names a blob without a sha256 digest and a size.")
        if digest not in self._contents:
            source = BlobSource(self.client, self.repository.path, digest, size)
            self._contents[digest] = Content(digest, size, source.open, self.repository.by_digest(digest))
        return self._contents[digest]


def _descriptors(value: Any) -> list[Any]:
    """Return the descriptors of a member of a manifest; one that is no list counts as something that is none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def descriptor_of(manifest: ManifestContent, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a manifest in a list of referrers (distribution-spec 1.1, "Listing Referrers")."""
    kind = content.get("artifactType") or _member(content, "config").get("mediaType")
    return {
        "mediaType": manifest.media_type,
        "digest": digest_of(manifest.data),
        "size": len(manifest.data),
        **({"artifactType": kind} if kind else {}),
        **({"annotations": content["annotations"]} if content.get("annotations") else {}),
    }


def _member(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}
