"""What is deployed: the ``images.json`` of a push, from its record, a file or a registry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.registry import Client, Reference, RegistryError, fetch_images, parse_reference
from mfbazel.registry.artifact import SCHEME, artifact_manifest
from mfbazel.registry.client import digest_of
from mfbazel.verify.errors import VerifyError

_SCHEMA = 1


@dataclass(frozen=True)
class StepImage:
    """The image of a step.

    Attributes:
        step: its name.
        reference: by digest.
        lock: hash of the packages that it was made from; ``None`` for an image that is not made from the lock.
    """

    step: str
    reference: Reference
    lock: str | None


@dataclass(frozen=True)
class Deployed:
    """An ``images.json``.

    Attributes:
        where: where it was read, for people.
        flow: the flow's name.
        label: the flow's label; may be empty.
        images: of each step.
        artifact: the artifact that carries it, by digest, as a push publishes it; ``None`` where it cannot be told
            which repository has it.
        fetched: whether it was read from that artifact.
    """

    where: str
    flow: str
    label: str
    images: tuple[StepImage, ...]
    artifact: Reference | None = None
    fetched: bool = False


def read_deployed(source: str, insecure: bool, timeout: float) -> Deployed:
    """Read ``source``, a file or ``oci://…``.

    Raises:
        VerifyError: it cannot be read, or is no ``images.json`` of a push.
        RegistryError: the registry does not give it.
    """
    if source.startswith(SCHEME):
        named = parse_reference(source)
        # What a tag names is asked once: what is read is what is verified.
        found = Client(named.host, insecure, timeout).get_manifest(named.path, named.name)
        artifact: Reference | None = Reference(named.host, named.path, digest=found.digest)
        return _deployed(source, fetch_images(str(artifact), timeout=timeout, insecure=insecure), artifact)
    return _deployed(source, _read(Path(source)), None)


def _deployed(source: str, data: bytes, artifact: Reference | None) -> Deployed:
    content = _parse(source, data)
    images = tuple(_image(source, step, entry) for step, entry in content["steps"].items())
    fetched = artifact is not None
    if not artifact and (first := _first(images)):
        artifact = Reference(first.host, first.path, digest=digest_of(artifact_manifest(data)))
    return Deployed(source, str(content.get("flow", "")), str(content.get("label") or ""), images, artifact, fetched)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerifyError(
            f"{path}, which records what was pushed, cannot be read: {error.strerror}. Push the flow, or name what is "
            "deployed with --images FILE or --images oci://…"
        ) from error


def _parse(source: str, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerifyError(f"{source} is not JSON: {error}. Name the images.json of a push.") from error
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA or not isinstance(content.get("steps"), dict):
        raise VerifyError(f"{source} is no images.json of schema {_SCHEMA}. Name the one that a push wrote.")
    if not content["steps"]:
        raise VerifyError(f"{source} names no image: nothing is deployed. Name the images.json that a push wrote.")
    return content


def _image(source: str, step: str, entry: Any) -> StepImage:
    image = entry.get("image") if isinstance(entry, dict) else None
    try:
        reference = parse_reference(str(image))
    except RegistryError:
        reference = None
    if not image or reference is None or reference.digest != entry.get("digest"):
        raise VerifyError(
            f"{source}: the step {step!r} has no image by digest ({image!r}): it is the images.json of a build, or was "
            "changed. Name the one that a push wrote."
        )
    return StepImage(step, reference, entry.get("lock"))


def _first(images: tuple[StepImage, ...]) -> Reference | None:
    """Return the image whose repository has the artifact: that of the first step, which every flow calls ``start``."""
    repositories = {image.reference.repository: image.reference for image in images}
    if len(repositories) == 1:
        return next(iter(repositories.values()))
    return next((image.reference for image in images if image.step == "start"), None)
