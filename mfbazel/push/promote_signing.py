"""Signatures and promotions: what must be signed before, and the ``images.json`` that a promotion makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mfbazel.policy import Violation, check_signing, refuse, workspace_rules, workspace_signing
from mfbazel.policy.signing import KINDS
from mfbazel.push.delivery import Delivery
from mfbazel.push.errors import PushError
from mfbazel.push.promote_source import Referrer
from mfbazel.push.repository import Repository
from mfbazel.registry import Client, parse_reference
from mfbazel.registry.artifact import SCHEME
from mfbazel.registry.referrers import fallback_tag
from mfbazel.sign import SignError, Signing, target
from mfbazel.sign.documents import KINDS as MEDIA_TYPES

_COSIGN_SIGNATURE = ".sig"


def verified_source(images: str, signing: Signing, insecure: bool) -> str:
    """Return what ``images``, ``oci://…``, names now, by digest, after a check that it is signed.

    Who signs the ``images.json`` that is made of it vouches for which image is whose.

    Raises:
        RegistryError: it cannot be fetched.
        PushError: the signer's options accept no signature of it.
    """
    named = parse_reference(images)
    client = Client(named.host, insecure)
    digest = client.get_manifest(named.path, named.name).digest
    try:
        signing.signer.verify(target(client, named.path, digest))
    except SignError as error:
        raise PushError(
            f"{images} is not promoted: the images.json that is made of it would be signed here, and nobody signed it "
            f"who counts: {error} Without a signature of the new one, pass --no-sign."
        ) from error
    return f"{SCHEME}{named.repository}@{digest}"


def check_signed(
    workspace: Path,
    deliveries: Mapping[str, Delivery],
    referrers: Mapping[Repository, Sequence[Referrer]],
    made: Collection[str],
) -> None:
    """Refuse images that the workspace's policy wants to be signed where they go, and that take no signature along.

    Whose signature it is, is for who verifies to say.

    Args:
        workspace: the Bazel workspace.
        deliveries: by step.
        referrers: what is copied with the images, by repository.
        made: the steps whose images are made from the lock; the others have no documents.

    Raises:
        PolicyError: the policy does not allow it, or cannot be read.
    """
    rules = workspace_signing(workspace)
    found: list[Violation] = []
    for step, delivery in deliveries.items():
        own = referrers.get(delivery.repository, ())
        digests = {manifest.digest for manifest in delivery.manifests}
        types = {str(item.descriptor.get("artifactType")) for item in own if item.subject in digests}
        kinds = [kind for kind in KINDS if MEDIA_TYPES[kind] in types] if step in made else KINDS
        signer = (*rules.signers, "somebody")[0] if _takes_signature(delivery, own) else None
        found += check_signing(rules, delivery.what, str(delivery.repository), signer, kinds)
    if found:
        refuse(workspace_rules(workspace), "images", found)


def _takes_signature(delivery: Delivery, referrers: Sequence[Referrer]) -> bool:
    """Whether what refers to an image may be a signature: it is no document about it."""
    tag = f"{fallback_tag(delivery.digest)}{_COSIGN_SIGNATURE}"
    return any(
        tag in item.delivery.tags
        or (item.subject == delivery.digest and item.descriptor.get("artifactType") not in MEDIA_TYPES.values())
        for item in referrers
    )
