"""Documents as referrers of a manifest (OCI image-spec 1.1, ``subject``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mfbazel.registry import Client, Descriptor
from mfbazel.registry.client import MANIFEST, digest_of
from mfbazel.registry.referrers import get_referrers, put_tagged_referrers, tagged_referrers
from mfbazel.sign.documents import Document

EMPTY = b"{}"
"""The empty configuration (OCI image-spec 1.1, "Guidance for an Empty Descriptor")."""
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True)
class Referrers:
    """What refers to a manifest.

    Attributes:
        descriptors: of the referring manifests, as the registry lists them.
        api: whether the registry keeps the list; otherwise clients do, under a tag.
    """

    descriptors: tuple[dict[str, Any], ...]
    api: bool

    @property
    def digests(self) -> frozenset[str]:
        """The digests of the referring manifests."""
        return frozenset(str(item.get("digest")) for item in self.descriptors)


@dataclass(frozen=True)
class Referrer:
    """A manifest that refers to another one and carries a document.

    Attributes:
        data: its bytes, the same for the same subject and document.
        document: what it carries.
    """

    data: bytes
    document: Document

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        """Its entry in a list of referrers."""
        return {
            "mediaType": MANIFEST,
            "digest": self.digest,
            "size": len(self.data),
            "artifactType": self.document.media_type,
            "annotations": self.document.annotations,
        }


def referrer(subject: Descriptor, document: Document) -> Referrer:
    """Return the referrer that attaches ``document`` to the manifest ``subject``."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": document.media_type,
        "config": _descriptor(_EMPTY_TYPE, EMPTY),
        "layers": [
            {
                **_descriptor(document.media_type, document.data),
                "annotations": {
                    "org.opencontainers.image.title": document.annotations["org.opencontainers.image.title"]
                },
            }
        ],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
        "annotations": document.annotations,
    }
    return Referrer(json.dumps(content, sort_keys=True, separators=(",", ":")).encode(), document)


def list_referrers(client: Client, path: str, digest: str) -> Referrers:
    """Return what refers to the manifest ``digest`` in the repository ``path``.

    Raises:
        RegistryError: the registry did not answer, refused, or has no such list under the tag.
    """
    listed = get_referrers(client, path, digest)
    if listed is not None:
        return Referrers(tuple(listed), api=True)
    return Referrers(tuple(tagged_referrers(client, path, digest)), api=False)


def put_referrers(client: Client, path: str, subject: str, referrers: Sequence[Referrer], there: Referrers) -> None:
    """Send ``referrers`` of the manifest ``subject``, and list them where the registry does not do that.

    Args:
        there: what :func:`list_referrers` returned.

    Raises:
        RegistryError: the registry did not answer, or refused.
    """
    if not referrers:
        return
    client.put_blob(path, EMPTY)
    for item in referrers:
        client.put_blob(path, item.document.data)
        client.put_manifest(path, item.digest, item.data)
    if not there.api:
        put_tagged_referrers(client, path, subject, [item.descriptor for item in referrers])


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
