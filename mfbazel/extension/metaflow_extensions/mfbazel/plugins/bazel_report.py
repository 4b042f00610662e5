"""What is said at launch: which steps run in which image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .bazel_images import StepRun

_MOST_LINES = 6
_MOST_NAMES = 6
_MOST_LOCKS = 3
_DIGITS = 12


def report(runs: Sequence[StepRun]) -> list[str]:
    """Return the lines of the report; none where every step runs on this machine.

    Steps with one image share a line. Where images are many, those that Bazel built share one for each repository, and
    those that the user gave share one.
    """
    here = [run.step for run in runs if run.image is None]
    if len(here) == len(runs):
        return []
    return [
        *_built([run for run in runs if run.built]),
        *_given([run for run in runs if run.given]),
        *([f"{enumeration(here)}: on this machine"] if here else []),
    ]


def enumeration(steps: Sequence[str]) -> str:
    """Return the names of ``steps``, the first few where they are many; Metaflow highlights what is in asterisks."""
    rest = len(steps) - _MOST_NAMES
    names = ", ".join(f"*{step}*" for step in steps[:_MOST_NAMES])
    return f"{names} and {rest} more" if rest > 0 else names


def _built(runs: Sequence[StepRun]) -> Iterable[str]:
    images = _by_image(runs)
    if len(images) <= _MOST_LINES:
        return [f"{_names(of)}: {_short(image)}" for image, of in images.items()]
    repositories: dict[str, list[str]] = {}
    for image in images:
        repositories.setdefault(image.partition("@")[0], []).append(image)
    return [
        f"{_names([run for image in found for run in images[image]])}: {len(found)} images of {repository}"
        for repository, found in repositories.items()
    ]


def _given(runs: Sequence[StepRun]) -> Iterable[str]:
    images = _by_image(runs)
    if len(images) <= _MOST_LINES:
        return [
            f"{_names(of)}: image {image} given by the flow; does not follow {_locks(of)}"
            for image, of in images.items()
        ]
    return [f"{_names(runs)}: {len(images)} images given by the flow; they do not follow {_locks(runs)}"]


def _by_image(runs: Sequence[StepRun]) -> Mapping[str, list[StepRun]]:
    images: dict[str, list[StepRun]] = {}
    for run in runs:
        images.setdefault(str(run.image), []).append(run)
    return images


def _names(runs: Sequence[StepRun]) -> str:
    return enumeration([run.step for run in runs])


def _locks(runs: Sequence[StepRun]) -> str:
    hashes = list(dict.fromkeys(run.lock for run in runs if run.lock))
    said = ", ".join(hashes[:_MOST_LOCKS]) + (", …" if len(hashes) > _MOST_LOCKS else "")
    return f"the lock {said}" if said else "the lock"


def _short(image: str) -> str:
    """Return a reference with so much of its digest as tells images apart."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}@sha256:{digest[:_DIGITS]}…" if at else image
