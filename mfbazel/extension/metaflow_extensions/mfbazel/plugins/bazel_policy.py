"""What the policy of the repository (``mfbazel.toml``) says of a launch: registries of images, packages, licences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .bazel_errors import NotAllowedException
from .bazel_images import StepRun
from .bazel_lock import IMAGES_VARIABLE, WORKSPACE_VARIABLE, Images, Lock

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def check(runs: Iterable[StepRun], lock: Lock | None, images: Callable[[], Images]) -> None:
    """Compare what the steps run on with what is allowed.

    The rules are those of the workspace; where there is none, those that a build wrote into ``images.json``, which
    speak of registries alone.

    Args:
        runs: what the steps run on.
        lock: of the flow, where it is known.
        images: called where there is no workspace.

    Raises:
        NotAllowedException: the policy does not allow an image, a package or a licence, or cannot be read.
    """
    try:
        from mfbazel import policy
    except ImportError:  # only a launching process that is none of mfbazel's own lacks it
        return
    try:
        remote = list(_images(runs))
        rules = _rules(policy, images if remote else None)
        if rules.concern("registries"):
            found = [item for step, image in remote for item in policy.check_registry(rules, step, image)]
            policy.refuse(rules, "images of steps", found)
        if lock is not None and rules.concern("packages", "licences"):
            content = json.loads(lock.path.read_text(encoding="utf-8"))
            policy.refuse(rules, f"packages of the flow {lock.flow}", policy.check_packages(rules, content))
    except policy.PolicyError as error:
        raise NotAllowedException(str(error)) from error


def _rules(policy: Any, images: Callable[[], Images] | None) -> Any:
    if workspace := os.environ.get(WORKSPACE_VARIABLE):
        return policy.workspace_rules(Path(workspace))
    return policy.parse_rules(images().policy if images and os.environ.get(IMAGES_VARIABLE) else {})


def _images(runs: Iterable[StepRun]) -> Iterator[tuple[str, Any]]:
    """Yield what runs, for a message, and its image; what this machine's own registry has left no machine."""
    for run in runs:
        if run.image is not None and not (run.built and run.image.partition("/")[0].partition(":")[0] in _LOOPBACK):
            yield f"the image of step *{run.step}*,", run.image
