"""Which step runs in which image: the user's own, the one that Bazel built, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import bazel_requirements, bazel_versions
from .bazel_errors import NotPushedException, StaleImageException
from .bazel_lock import Images, Lock, StepImage, command

REMOTE_DECORATORS = ("batch", "kubernetes")
"""Step decorators whose ``image`` is set. Where a step has both, Step Functions runs it, on Batch."""


@dataclass(frozen=True)
class StepRun:
    """What one step runs on.

    Attributes:
        step: its name.
        image: the reference of the image; None where the step runs on this machine.
        given: whether the user chose the image.
        lock: hash of the packages that are locked for the step, None where it is not known. An image that the user
            chose does not follow it.
        digest: of the image that Bazel built.
        layers: of that image, by platform, from the bottom to the top.
    """

    step: str
    image: str | None = None
    given: bool = False
    lock: str | None = None
    digest: str | None = None
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def built(self) -> bool:
        """Whether the image is the one that Bazel built."""
        return self.image is not None and not self.given


def wants_image(flow: Iterable[Any]) -> bool:
    """Say whether a step of ``flow`` is sent elsewhere without an image of its own."""
    return any(_without_image(step) for step in flow)


def assign(flow: Any, lock: Lock | None, read_images: Callable[[], Images]) -> list[StepRun]:
    """Set ``image`` of every remote decorator that the user gave none, and return what each step runs on, in order.

    Args:
        flow: the flow, whose decorators are initialised.
        lock: of the flow, where it is known.
        read_images: called where a step wants an image.

    Raises:
        NotPushedException: the images are another flow's, or there is none of a step.
        StaleImageException: the image of a step was made from an older lock.
    """
    images = _images_of(flow.name, read_images) if wants_image(flow) else None
    runs = {step.name: _assign_step(step, lock, images) for step in flow}
    return [runs[name] for name in dict.fromkeys([*flow._graph.sorted_nodes, *runs]) if name in runs]


def _images_of(flow: str, read_images: Callable[[], Images]) -> Images:
    images = read_images()
    if images.flow != flow:
        raise NotPushedException(
            f"{images.path} records the images of the flow {images.flow}, not of {flow}. Run `{command('push')}`."
        )
    return images


def _assign_step(step: Any, lock: Lock | None, images: Images | None) -> StepRun:
    locked = lock.steps[step.name].lock if lock is not None else None
    decos = _remote_decorators(step)
    if not decos:
        return StepRun(step.name, lock=locked)
    wanting = _without_image(step)
    if images is not None and wanting:
        image = pushed_image(step, images, lock)
        for deco in wanting:
            deco.attributes["image"] = image.reference
        if decos[0] in wanting:
            return StepRun(step.name, image.reference, False, image.lock, image.digest, image.layers)
    return StepRun(step.name, decos[0].attributes["image"], given=True, lock=locked)


def _remote_decorators(step: Any) -> list[Any]:
    """Return the decorators that send ``step`` elsewhere, without those that Metaflow ignores (for ``spin``)."""
    return [
        deco
        for name in REMOTE_DECORATORS
        for deco in step.decorators
        if deco.name == name and bazel_versions.is_in_use(deco)
    ]


def _without_image(step: Any) -> list[Any]:
    """Return the remote decorators of ``step`` for which the user chose no image."""
    return [deco for deco in _remote_decorators(step) if not _has_own_image(deco)]


def _has_own_image(deco: Any) -> bool:
    """Say whether the user chose the image of ``deco``.

    What a mutator gives beside the text of a decorator is in no list of Metaflow's: there the image is the user's when
    it is not the one that Metaflow fills in.
    """
    if "image" in deco._user_defined_attributes:
        return True
    if not deco.inserted_by or not deco.attributes["image"]:
        return False
    plain = type(deco)()
    plain.external_init()
    return bool(deco.attributes["image"] != plain.attributes["image"])


def pushed_image(step: Any, images: Images, lock: Lock | None = None) -> StepImage:
    """Return the step's image, which has a reference.

    Args:
        step: of the flow.
        images: what was pushed.
        lock: of the flow, where it is known: what a step declares can stay while its packages are locked anew.

    Raises:
        NotPushedException: there is none.
        StaleImageException: it was made from an older lock.
    """
    image = images.steps.get(step.name)
    if image is None or not image.reference:
        what = "does not have" if image is None else "has no pushed image of"
        raise NotPushedException(
            f"{images.path} {what} step *{step.name}* of the flow {images.flow}. Run `{command('push')}`, or give the "
            "step an image of your own with image=…."
        )
    locked = lock.packages_of(step.name, image.includes) if lock is not None and image.lock else None
    if image.requirements_sha256 != bazel_requirements.of_step(step).sha256 or locked not in (None, image.lock):
        raise StaleImageException(
            f"The image of step *{step.name}* of the flow {images.flow} was pushed before its packages were locked "
            f"anew ({images.path}). Run `{command('push')}`."
        )
    return image
