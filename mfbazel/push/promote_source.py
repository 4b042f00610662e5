"""Reading from a registry what is to be copied: images, and what refers to them (signatures, SBOMs, provenance)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mfbazel.push.delivery import Content, Delivery, ManifestContent
from mfbazel.push.errors import PushError
from mfbazel.push.images import Signed
from mfbazel.push.repository import Repository
from mfbazel.registry import Client
from mfbazel.registry.client import INDEX, digest_of
from mfbazel.registry.download import BlobSource
from mfbazel.registry.reference import DIGEST
from mfbazel.registry.referrers import fallback_tag, get_referrers, tagged_referrers
from mfbazel.sign.documents import KINDS

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
        content = json.loads(manifest.data)
        named = (content.get("subject") or {}).get("digest")
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
            for child in content.get("manifests", ()):
                self._walk(str(child.get("digest")), manifests, blobs)
        else:
            for descriptor in (content.get("config"), *content.get("layers", ())):
                blob = self._blob(descriptor, digest)
                blobs.setdefault(blob.digest, blob)
        manifests[digest] = ManifestContent(digest, read.data, media_type)

    def _content(self, data: bytes, digest: str) -> dict[str, Any]:
        try:
            content: Any = json.loads(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise PushError(f"{self.repository.by_digest(digest)} is no manifest of an image; it cannot be copied.")
        return content

    def _blob(self, descriptor: Any, manifest: str) -> Content:
        """Return a blob of the source; one of several images is the same object, which verifies it."""
        digest, size = (descriptor.get("digest"), descriptor.get("size")) if isinstance(descriptor, dict) else (0, 0)
        if not (isinstance(digest, str) and DIGEST.fullmatch(digest) and isinstance(size, int)):
            raise PushError(f"{self.repository.by_digest(manifest)} names a blob without a sha256 digest and a size.")
        if digest not in self._contents:
            source = BlobSource(self.client, self.repository.path, digest, size)
            self._contents[digest] = Content(digest, size, source.open, self.repository.by_digest(digest))
        return self._contents[digest]


def travelling(said: Signed, delivery: Delivery, referrers: Iterable[Referrer]) -> Signed:
    """Return how much of what a push recorded of an image goes with it.

    Args:
        said: by the push.
        delivery: the image.
        referrers: what is copied with it.
    """
    digests = [manifest.digest for manifest in delivery.manifests]
    documents, signed = set(), False
    for item in referrers:
        kind = item.descriptor.get("artifactType")
        if kind in KINDS.values():
            documents |= {kind} if item.subject in digests else set()
        elif item.subject == delivery.digest or f"{fallback_tag(delivery.digest)}.sig" in item.delivery.tags:
            signed = True
    return Signed(
        said.signer if signed else None, tuple(kind for kind in said.attached if KINDS.get(kind) in documents)
    )


def descriptor_of(manifest: ManifestContent, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a manifest in a list of referrers (distribution-spec 1.1, "Listing Referrers")."""
    kind = content.get("artifactType") or (content.get("config") or {}).get("mediaType")
    return {
        "mediaType": manifest.media_type,
        "digest": digest_of(manifest.data),
        "size": len(manifest.data),
        **({"artifactType": kind} if kind else {}),
        **({"annotations": content["annotations"]} if content.get("annotations") else {}),
    }
