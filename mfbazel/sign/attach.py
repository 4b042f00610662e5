"""Attaching documents to manifests, and signing both: only what is not there yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mfbazel.registry import Client, Descriptor, Reference
from mfbazel.sign.documents import Document
from mfbazel.sign.errors import SignError
from mfbazel.sign.marks import Marks
from mfbazel.sign.referrers import Referrer, Referrers, list_referrers, put_referrers, referrer
from mfbazel.sign.signer import Signing
from mfbazel.sign.target import target

_AT_ONCE = 4  # a signature costs a process, and with a key file a third of a second of one core


@dataclass(frozen=True)
class Item:
    """What one manifest gets.

    Attributes:
        name: what it is, for messages: ``the image of the step 'train'``.
        subject: the manifest.
        documents: they become its referrers; their subject is this manifest.
        signed: whether it is signed itself; its documents always are.
    """

    name: str
    subject: Descriptor
    documents: tuple[Document, ...] = ()
    signed: bool = True

    def reference(self, client: Client, path: str) -> str:
        """Return ``host/path@sha256:…`` of the manifest in the repository ``path``."""
        return str(Reference(client.host, path, digest=self.subject.digest))

    def wish(self, signing: Signing | None) -> str:
        """Return what stands for all that it gets; a mark remembers it."""
        documents = sorted(document.sha256 for document in self.documents)
        signer = [signing.name, dict(signing.options)] if signing else None
        text = json.dumps([self.signed, documents, signer], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What was done: how many documents were ``attached`` and how many manifests ``signed``; not what was there."""

    attached: int = 0
    signed: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.attached + other.attached, self.signed + other.signed)


def attach(
    client: Client,
    path: str,
    items: Sequence[Item],
    signing: Signing | None,
    marks: Marks | None = None,
    present: Collection[str] = (),
    done: Callable[[Item, Outcome], None] = lambda _item, _outcome: None,
) -> Outcome:
    """Attach and sign ``items``, whose manifests the repository ``path`` has; return what was done.

    What a mark says is done to a manifest that the registry had before is not asked for. Otherwise the registry is
    asked what refers to the manifest, and what lacks is sent. What was there, and whose signature the signer's own
    options accept, is not signed again.

    Args:
        signing: who signs; ``None``: nobody.
        marks: what was done before; the caller writes them.
        present: digests of manifests that the registry had before this push.
        done: called after each item, by several threads.

    Raises:
        RegistryError: the registry did not answer, or refused.
        SignError: something cannot be signed.
    """
    marks = marks or Marks(None)
    wanting = [
        (item, item.reference(client, path), item.wish(signing))
        for item in items
        if item.documents or (signing and item.signed)
    ]
    open_ = [
        (item, reference, wish)
        for item, reference, wish in wanting
        if item.subject.digest not in present or not marks.has(reference, wish)
    ]

    def work(asked: tuple[Item, str, str]) -> Outcome:
        item, reference, wish = asked
        outcome = _attach_one(client, path, item, signing, item.subject.digest in present)
        marks.set(reference, wish)
        done(item, outcome)
        return outcome

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return sum(pool.map(work, open_), Outcome())


def _attach_one(client: Client, path: str, item: Item, signing: Signing | None, had: bool) -> Outcome:
    subject = item.subject.digest
    wanted = {found.digest: found for found in (referrer(item.subject, document) for document in item.documents)}
    there = list_referrers(client, path, subject)
    missing = [digest for digest, found in wanted.items() if not _is_there(client, path, found, there)]
    put_referrers(client, path, subject, [wanted[digest] for digest in missing], there)
    if not signing:
        return Outcome(attached=len(missing))
    unsigned = [digest for digest in wanted if digest in missing or not _signed(client, path, digest, signing)]
    if item.signed and not (had and _signed(client, path, subject, signing)):
        unsigned.append(subject)  # last: who finds it signed finds the rest
    for digest in unsigned:
        try:
            signing.signer.sign(target(client, path, digest))
        except SignError as error:
            raise SignError(f"{item.name} is in the registry, but not all of it is signed: {error}") from error
    return Outcome(len(missing), len(unsigned))


def _is_there(client: Client, path: str, wanted: Referrer, there: Referrers) -> bool:
    """Whether a referrer is there; in a list that clients keep also as what it is.

    Who cleans up a registry does not clean up such lists.
    """
    if there.api:
        return wanted.digest in there.digests
    listed = any(
        (entry.get("digest"), entry.get("artifactType")) == (wanted.digest, wanted.document.media_type)
        for entry in there.descriptors
    )
    return listed and client.usable_manifest(path, wanted.digest) is not None


def _signed(client: Client, path: str, digest: str, signing: Signing) -> bool:
    """Whether the signer's options accept a signature; where they do not say whose, none is known."""
    try:
        signing.signer.verify(target(client, path, digest))
    except SignError:
        return False
    return True
