"""Asking the registries, before anything is scheduled, whether they have the images that Bazel built."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .bazel_errors import BazelException, MissingImageException, UnverifiedImageException
from .bazel_images import StepRun
from .bazel_lock import command, target
from .bazel_report import enumeration

VERIFY_VARIABLE = "MFBAZEL_VERIFY"
"""Environment variable: ``0`` leaves the registries alone."""
TIMEOUT_VARIABLE = "MFBAZEL_VERIFY_TIMEOUT"
"""Environment variable: seconds that all registries together may take."""

_DEFAULT_TIMEOUT = 10.0
_MISSING = ("MISSING", "NO_REPOSITORY", "NAME")
"""Kinds of problems of ``mfbazel.registry`` that mean: it answered, and the image is not there."""

Confirm = Callable[..., Mapping[str, Any]]


def verify(runs: Iterable[StepRun], confirm: Confirm | None = None) -> None:
    """Ask for the manifest of each image that Bazel built; do nothing where ``MFBAZEL_VERIFY`` is 0.

    Args:
        runs: what the steps run on.
        confirm: what asks; default: ``mfbazel.registry.confirm``.

    Raises:
        MissingImageException: a registry says that it does not have one.
        UnverifiedImageException: a registry cannot be reached, or does not let anyone ask.
        BazelException: ``MFBAZEL_VERIFY_TIMEOUT`` is no number of seconds.
    """
    if os.environ.get(VERIFY_VARIABLE, "").lower() in ("0", "false", "no"):
        return
    steps: dict[str, list[str]] = {}
    for run in runs:
        if run.built and run.image is not None:
            steps.setdefault(run.image, []).append(run.step)
    if not steps:
        return
    answers = (confirm or _confirm())(steps, timeout=_timeout())
    problems = {image: problem for image, problem in answers.items() if problem is not None}
    missing = {image: problem for image, problem in problems.items() if problem.kind.name in _MISSING}
    if missing:
        raise MissingImageException(f"{_said(missing, steps)}\nRun `{command('push')}`. {_air_gap()}")
    if problems:
        raise UnverifiedImageException(f"{_said(problems, steps)}\nNothing was scheduled. {_air_gap()}")


def _confirm() -> Confirm:
    try:
        confirm: Confirm = importlib.import_module("mfbazel.registry").confirm
    except ImportError as error:
        raise UnverifiedImageException(
            f"The registries cannot be asked for the images ({error}). Start the flow with `bazel run`, or install "
            f"mfbazel. {_air_gap()}"
        ) from error
    return confirm


def _timeout() -> float:
    told = os.environ.get(TIMEOUT_VARIABLE) or str(_DEFAULT_TIMEOUT)
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise BazelException(f"{TIMEOUT_VARIABLE} is {told!r}, not a number of seconds above 0.")
    return seconds


def _said(problems: Mapping[str, Any], steps: Mapping[str, list[str]]) -> str:
    """Return a line for each answer; images that have the same problem at one registry share it."""
    lines: dict[str, list[str]] = {}
    for image, problem in problems.items():
        # The message names the reference, which differs.
        lines.setdefault(str(problem).replace(image, "…"), []).append(image)
    said = []
    for images in lines.values():
        of = enumeration([step for image in images for step in steps[image]])
        others = f" and {len(images) - 1} more" if len(images) > 1 else ""
        said.append(f"{of}: {images[0]}{others}: {problems[images[0]]}")
    return "\n".join(said)


def _air_gap() -> str:
    return (
        "Where this machine does not reach the registry, and the cluster does: "
        f"`bazel run {target()} -- --no-verify …`, or {VERIFY_VARIABLE}=0."
    )
