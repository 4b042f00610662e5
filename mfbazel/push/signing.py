"""What a push attaches to images and signs, between their manifests and their tags (docs/signing.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.policy import Violation, check_signing, refuse, workspace_rules, workspace_signing
from mfbazel.policy.signing import KINDS
from mfbazel.push.delivery import Delivery
from mfbazel.push.errors import PushError
from mfbazel.push.images import Signed
from mfbazel.push.repository import Repository
from mfbazel.registry import Client, Descriptor, RegistryError
from mfbazel.registry.artifact import Published, artifact_manifest, store_images
from mfbazel.registry.client import MANIFEST, digest_of
from mfbazel.sign import Document, Item, Marks, Outcome, SignError, Signing, attach, load_signer, read_document
from mfbazel.sign.documents import KINDS as MEDIA_TYPES

_NOTHING = "No tag that would name it was set, and nothing was recorded."


@dataclass(frozen=True)
class Attachments:
    """What the images of a flow get besides.

    Attributes:
        signing: who signs, ``None`` for nobody.
        documents: by the digest of the manifest that they are about.
    """

    signing: Signing | None = None
    documents: Mapping[str, tuple[Document, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.signing or self.documents)


def plan_attachments(
    sign: str | None,
    options: Mapping[str, str],
    files: Sequence[Path],
    deliveries: Collection[Delivery],
    workspace: Path,
) -> Attachments:
    """Load the signer and read the documents of a flow.

    Args:
        sign: the signer's name, ``None`` for none.
        options: of the signer; relative paths in them begin at ``workspace``.
        files: the documents; each says itself which image it is about.
        deliveries: the images of the flow.
        workspace: the Bazel workspace.

    Raises:
        SignError: there is no such signer, it refuses an option, or a file is no such document.
        PushError: a document is about none of the images.
    """
    signing = load_signer(sign, options, workspace) if sign else None
    known = {manifest.digest for delivery in deliveries for manifest in delivery.manifests}
    found: dict[str, dict[str, Document]] = {}
    for path in files:
        document = read_document(path)
        if document.subject not in known:
            raise PushError(
                f"{path} is about {document.subject}, which is none of the images that are pushed. They are of "
                "different builds; build the flow again."
            )
        found.setdefault(document.subject, {}).setdefault(document.sha256, document)
    return Attachments(signing, {digest: tuple(documents.values()) for digest, documents in found.items()})


def check_attachments(
    workspace: Path, attachments: Attachments, deliveries: Mapping[str, Delivery], made: Collection[str]
) -> None:
    """Refuse images that the workspace's policy wants to be signed, or to have documents, and that do not get them.

    Args:
        workspace: the Bazel workspace.
        attachments: of the flow.
        deliveries: by step.
        made: the steps whose images are made from the lock; the others have no documents.

    Raises:
        PolicyError: the policy does not allow it, or cannot be read.
    """
    rules = workspace_signing(workspace)
    found: list[Violation] = []
    for step, delivery in deliveries.items():
        signed = signed_image(attachments, delivery)
        kinds = signed.attached if step in made else KINDS
        found += check_signing(rules, delivery.what, str(delivery.repository), signed.signer, kinds)
    if found:
        refuse(workspace_rules(workspace), "images", found)


def signed_image(attachments: Attachments, delivery: Delivery) -> Signed:
    """Return what an image has besides, once it is pushed."""
    digests = [manifest.digest for manifest in delivery.manifests]
    types = {item.media_type for digest in digests for item in attachments.documents.get(digest, ())}
    kinds = tuple(kind for kind in KINDS if MEDIA_TYPES[kind] in types)
    return Signed(attachments.signing.name if attachments.signing else None, kinds)


def attach_images(
    attachments: Attachments,
    repository: Repository,
    deliveries: Collection[Delivery],
    client: Client,
    marks: Marks,
    present: Collection[str],
) -> Outcome:
    """Attach documents to images that ``repository`` has, and sign both; return what was done.

    Args:
        attachments: of the flow.
        repository: where the images are.
        deliveries: of this repository.
        client: of its registry.
        marks: what earlier pushes did.
        present: digests of images that were there before this push.

    Raises:
        PushError: the registry refuses, or something cannot be signed.
    """
    items: dict[str, Item] = {}
    there: set[str] = set()
    for delivery in deliveries:
        for manifest in delivery.manifests:
            subject = Descriptor(manifest.digest, len(manifest.data), manifest.media_type)
            own = manifest.digest == delivery.digest
            signed = own or (manifest.digest in items and items[manifest.digest].signed)
            documents = attachments.documents.get(manifest.digest, ())
            items[manifest.digest] = Item(delivery.what, subject, documents, signed)
            if delivery.digest in present:
                there.add(manifest.digest)
    return _attach(client, repository, list(items.values()), attachments.signing, marks, there)


def sign_artifact(signing: Signing, repository: Repository, images: bytes, client: Client, marks: Marks) -> Outcome:
    """Let ``repository`` have the artifact of ``images`` under no tag yet, and sign it; a mark saves both.

    Raises:
        PushError: the registry refuses, or it cannot be signed.
    """
    item = _artifact(images)
    if marks.has(item.reference(client, repository.path), item.wish(signing)):
        return Outcome()
    try:
        had = store_images(client, repository.path, images)
    except RegistryError as error:
        raise _failed(item, repository, error) from error
    return _attach(client, repository, [item], signing, marks, [item.subject.digest] if had else [])


def confirm_artifact(
    signing: Signing, repository: Repository, images: bytes, published: Published, client: Client, marks: Marks
) -> Outcome:
    """Look whether the artifact is signed where a tag had to be set: the registry may have lost what a mark says.

    Raises:
        PushError: the registry refuses, or it cannot be signed.
    """
    if not published.tags:
        return Outcome()
    return _attach(client, repository, [_artifact(images)], signing, marks.without(), [published.digest])


def _artifact(images: bytes) -> Item:
    data = artifact_manifest(images)
    return Item("the published images.json", Descriptor(digest_of(data), len(data), MANIFEST))


def _attach(
    client: Client,
    repository: Repository,
    items: Sequence[Item],
    signing: Signing | None,
    marks: Marks,
    present: Collection[str],
) -> Outcome:
    try:
        return attach(client, repository.path, items, signing, marks, present)
    except RegistryError as error:
        raise _failed(items[0], repository, error) from error
    except SignError as error:
        raise PushError(f"{error} {_NOTHING} Put that right and push again: no image is sent again.") from error


def _failed(item: Item, repository: Repository, error: RegistryError) -> PushError:
    return PushError(
        f"{item.name} is in {repository}, but what belongs to it cannot be attached: {error} {_NOTHING} For a registry "
        "that takes no artifacts, push without the attributes `attach` and `sign`."
    )
