"""The checks: of each step's image in its registry, and of ``images.json`` against the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from mfbazel.errors import MfbazelError
from mfbazel.registry import Client
from mfbazel.sign import target
from mfbazel.state import StateError, parse_label
from mfbazel.verify.check import FLOW, Check, Outcome, Status
from mfbazel.verify.deployed import Deployed, StepImage
from mfbazel.verify.documents import Documents
from mfbazel.verify.image import Image, hash_blobs, missing_blobs, read_image
from mfbazel.verify.locked import Locked
from mfbazel.verify.wish import Wish

SIGNATURE = "signature"
"""Name of the check of an image's signature."""
IMAGES_SIGNATURE = "signature of images.json"
"""Name of the check of that of the artifact that carries ``images.json``."""
_AT_ONCE = 4


@dataclass
class _Clients:
    """One client per registry."""

    make: Callable[[str], Client]
    _known: dict[str, Client] = field(default_factory=dict)

    def of(self, host: str) -> Client:
        if host not in self._known:
            self._known[host] = self.make(host)
        return self._known[host]


def verify(deployed: Deployed, wish: Wish, make_client: Callable[[str], Client]) -> Iterator[Check]:
    """Yield the checks of ``deployed``, those of the whole flow first, then step by step.

    Nothing is raised: what cannot be asked is a failed check.
    """
    clients = _Clients(make_client)
    images = [image for image in deployed.images if not wish.steps or image.step in wish.steps]
    if wish.locked:
        order = {step: position for position, step in enumerate(wish.locked.steps)}
        images.sort(key=lambda image: order.get(image.step, len(order)))
    hosts = {image.reference.host for image in images} | ({deployed.artifact.host} if deployed.artifact else set())
    for host in sorted(hosts):
        clients.of(host)  # before threads ask for it
    yield from _of_flow(deployed, wish, clients)
    by_reference: dict[str, list[StepImage]] = {}
    for image in images:
        by_reference.setdefault(str(image.reference), []).append(image)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = [
            checks
            for group in pool.map(lambda group: _of_image(group, wish, clients), by_reference.values())
            for checks in group
        ]
    by_step = dict(found)
    for image in images:
        yield from by_step[image.step]


def _of_flow(deployed: Deployed, wish: Wish, clients: _Clients) -> Iterator[Check]:
    """Check ``images.json`` itself."""
    if wish.label or wish.locked:
        yield _is_flow(deployed, wish)
    if wish.locked:
        yield _steps_agree(deployed, wish.locked)
    if not wish.signing:
        return
    name = IMAGES_SIGNATURE
    artifact = deployed.artifact
    if not artifact or not artifact.digest:
        yield Check(FLOW, name, Status.SKIPPED, f"{deployed.where} does not say which repository has its artifact")
        return
    try:
        client = clients.of(artifact.host)
        if not deployed.fetched and client.head_manifest(artifact.path, artifact.digest) is None:
            yield Check(
                FLOW, name, Status.SKIPPED, f"{artifact.repository} has no artifact of it (a push with --no-artifact)"
            )
            return
        who = wish.signing.signer.verify(target(client, artifact.path, artifact.digest))
        yield Check(FLOW, name, Status.OK, f"{artifact.repository}@{artifact.digest} by {who}")
    except MfbazelError as error:
        yield Check(FLOW, name, Status.FAILED, str(error))


def _is_flow(deployed: Deployed, wish: Wish) -> Check:
    """Check that it is of the flow that is meant: a tag may name another one's, which is signed as well."""
    wrong = []
    if wish.label and not _same_target(deployed.label, wish.label):
        wrong.append(f"of {deployed.label or 'no target'}, and not of {wish.label}")
    if wish.locked and deployed.flow != wish.locked.flow:
        wrong.append(f"of the flow {deployed.flow}, and {wish.locked.path} is of {wish.locked.flow}")
    if wrong:
        text = f"{deployed.where} is {'; it is '.join(wrong)}. Name the one of this flow, or push the flow"
        return Check(FLOW, "flow", Status.FAILED, f"{text}; find out who let it name another.")
    return Check(FLOW, "flow", Status.OK, f"of {deployed.flow}, {deployed.label or 'no target'}")


def _same_target(label: str, other: str) -> bool:
    """Whether two labels name one target."""
    try:
        return parse_label(label) == parse_label(other)
    except StateError:
        return False


def _steps_agree(deployed: Deployed, locked: Locked) -> Check:
    has, wants = {image.step for image in deployed.images}, set(locked.steps)
    if has == wants:
        return Check(FLOW, "steps", Status.OK, f"{len(has)} steps, those that are locked")
    parts = [("lacks", wants - has), ("has besides", has - wants)]
    said = "; ".join(f"it {verb} {', '.join(sorted(names))}" for verb, names in parts if names)
    return Check(
        FLOW, "steps", Status.FAILED, f"{deployed.where} and the lock {locked.path} differ: {said}. Push the flow."
    )


def _of_image(steps: Sequence[StepImage], wish: Wish, clients: _Clients) -> Iterator[tuple[str, list[Check]]]:
    """Check an image, and what it has of each of its steps; yield step and checks."""
    reference = steps[0].reference
    image: Image | None = None
    try:
        client = clients.of(reference.host)
        image = read_image(client, reference)
    except MfbazelError as error:
        shared = [("manifest", Status.FAILED, str(error))]
    else:
        read = image
        shared = [
            ("manifest", Status.OK, str(reference)),
            ("blobs", *_tried(lambda: _blobs(client, read, wish.blobs))),
            (SIGNATURE, *_tried(lambda: _signature(client, read, wish))),
        ]
    documents = Documents(client, image, wish) if image else None
    for step in steps:
        checks = [Check(step.step, *part) for part in shared]
        checks += [*_locked(step, wish), *_built(step, wish.built)]
        if documents:
            checks += [Check(step.step, kind, *_tried(partial(documents.check, step, kind))) for kind in wish.expected]
            if not wish.expected:
                text = "none is expected (attribute `attach`, --expect)"
                checks.append(Check(step.step, "documents", Status.SKIPPED, text))
        yield step.step, checks


def _tried(check: Callable[[], Outcome]) -> Outcome:
    """Return how ``check`` ended; what it cannot ask is its failure."""
    try:
        return check()
    except MfbazelError as error:
        return Status.FAILED, str(error)


def _blobs(client: Client, image: Image, read: bool) -> Outcome:
    count, size, where = len(image.blobs), sum(image.blobs.values()) / 1e6, image.reference.repository
    if read:
        wrong = [str(error) for _, error in hash_blobs(client, image) if error]
        if wrong:
            return Status.FAILED, f"{len(wrong)} of {count} blobs are not as they should be: {' '.join(wrong)}"
        return Status.OK, f"{count} blobs, {size:.1f} MB, read, and as their digests say"
    missing = missing_blobs(client, image)
    if missing:
        names = ", ".join(missing)
        text = (
            f"{where} lacks {len(missing)} of {count} blobs: {names}. A push sends nothing of an image whose manifest"
        )
        return Status.FAILED, f"{text} is there: delete {image.top.digest} there, and push the flow again."
    return Status.OK, f"{count} blobs, {size:.1f} MB, there"


def _signature(client: Client, image: Image, wish: Wish) -> Outcome:
    if not wish.signing:
        return Status.SKIPPED, "no signer is named (attribute `sign`, --sign)"
    who = wish.signing.signer.verify(target(client, image.reference.path, image.top.digest))
    return Status.OK, f"by {who}"


def _locked(step: StepImage, wish: Wish) -> Iterator[Check]:
    """Compare the packages that the image was made from with those that are locked."""
    locked = wish.locked
    if locked is None or step.step not in locked.steps:
        return
    if step.step in wish.foreign:
        yield Check(step.step, "lock", Status.SKIPPED, "its image is not made from the lock")
    elif step.lock is None:
        text = f"{step.reference} does not say that it was made from the lock. Push the flow; where its image is meant"
        yield Check(step.step, "lock", Status.FAILED, f"{text} to be another, say --foreign {step.step}.")
    elif step.lock == locked.hash(step.step):
        yield Check(step.step, "lock", Status.OK, "made from the packages that are locked")
    else:
        text = f"{step.reference} was made from other packages than {locked.path} has. Push the flow, or check out its"
        yield Check(step.step, "lock", Status.FAILED, f"{text} commit.")


def _built(step: StepImage, built: Mapping[str, str] | None) -> Iterator[Check]:
    """Compare the image with the one that the workspace builds."""
    if built is None:
        return
    if built.get(step.step) == step.reference.digest:
        yield Check(step.step, "build", Status.OK, "what is built here")
    else:
        here = built.get(step.step, "no image of the step")
        text = f"{step.reference} is deployed, and {here} is built here. Push the flow, or check out its commit."
        yield Check(step.step, "build", Status.FAILED, text)
