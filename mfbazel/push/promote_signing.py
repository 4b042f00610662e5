"""Signatures and promotions: what must be signed before, and the ``images.json`` that a promotion makes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mfbazel.policy import KINDS, Rules, SigningRules, Violation, check_signing, refuse
from mfbazel.push.delivery import Delivery
from mfbazel.push.errors import PushError
from mfbazel.push.images import Signed
from mfbazel.push.promote_source import Referrer
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


def carried(said: Signed, delivery: Delivery, referrers: Sequence[Referrer]) -> Signed:
    """Return how much of what a push recorded of an image goes with it.

    Args:
        said: by the push.
        delivery: the image.
        referrers: what is copied with it.
    """
    digests = {manifest.digest for manifest in delivery.manifests}
    types = {item.descriptor.get("artifactType") for item in referrers if item.subject in digests}
    return Signed(
        said.signer if _takes_signature(delivery, referrers) else None,
        tuple(kind for kind in said.attached if MEDIA_TYPES.get(kind) in types),
    )


def check_signed(
    policies: Iterable[tuple[Rules, SigningRules]],
    deliveries: Mapping[str, Delivery],
    signed: Mapping[str, Signed],
    made: Collection[str],
) -> None:
    """Refuse images that a policy wants to be signed where they go, and that take no signature along.

    Whose signature it is, is for who verifies to say.

    Args:
        policies: of the workspace, and of the record.
        deliveries: by step.
        signed: by step, what goes with its image.
        made: the steps whose images are made from the lock; the others have no documents.

    Raises:
        PolicyError: one of them does not allow it.
    """
    for rules, signing in policies:
        found: list[Violation] = []
        for step, delivery in deliveries.items():
            kinds = signed[step].attached if step in made else KINDS
            found += check_signing(signing, delivery.what, str(delivery.repository), signed[step].signer, kinds)
        refuse(rules, "images", found, "Push them so, and promote them with what refers to them")


def _takes_signature(delivery: Delivery, referrers: Sequence[Referrer]) -> bool:
    """Whether what refers to an image may be a signature: it is no document about it."""
    tag = f"{fallback_tag(delivery.digest)}{_COSIGN_SIGNATURE}"
    return any(
        tag in item.delivery.tags
        or (item.subject == delivery.digest and item.descriptor.get("artifactType") not in MEDIA_TYPES.values())
        for item in referrers
    )
