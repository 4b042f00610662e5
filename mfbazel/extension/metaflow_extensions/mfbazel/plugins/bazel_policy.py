"""What the policy of the repository (``mfbazel.toml``) says of a launch: registries of images, signatures, packages,
licences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .bazel_errors import NotAllowedException
from .bazel_images import StepRun
from .bazel_lock import IMAGES_VARIABLE, WORKSPACE_VARIABLE, Images, Lock, command
from .bazel_report import enumeration

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def check(runs: Iterable[StepRun], lock: Lock | None, images: Callable[[], Images]) -> None:
    """Compare what the steps run on with what is allowed.

    The rules are those of the workspace; where there is none, those that a build wrote into ``images.json``, which
    speak of registries and signatures alone. Who signed an image is what its push recorded: no registry is asked.

    Args:
        runs: what the steps run on.
        lock: of the flow, where it is known.
        images: called where there is no workspace, or something must be signed.

    Raises:
        NotAllowedException: the policy does not allow an image, a package or a licence, or cannot be read.
    """
    try:
        from mfbazel import policy
    except ImportError:  # only a launching process that is none of mfbazel's own lacks it
        return
    try:
        remote = list(_leaving(runs))
        rules, signing = _rules(policy, images if remote else None)
        if rules.concern("registries"):
            found = [item for run, image in remote for item in policy.check_registry(rules, _named(run), image)]
            policy.refuse(rules, "images of steps", found)
        if signing.required and any(run.built for run, _ in remote):
            _check_signatures(policy, rules, signing, remote, images())
        if lock is not None and rules.concern("packages", "licences"):
            content = json.loads(lock.path.read_text(encoding="utf-8"))
            policy.refuse(rules, f"packages of the flow {lock.flow}", policy.check_packages(rules, content))
    except policy.PolicyError as error:
        raise NotAllowedException(str(error)) from error


def _check_signatures(
    policy: Any, rules: Any, signing: Any, remote: Iterable[tuple[StepRun, str]], images: Images
) -> None:
    """Refuse images that, as their push recorded, are not signed as the policy wants them to be."""
    steps: dict[str, list[str]] = {}
    for run, image in remote:
        if run.built:
            steps.setdefault(image, []).append(run.step)
    found = []
    for image, names in steps.items():
        pushed = images.steps[names[0]]
        # Images that are not made from the lock need no documents.
        attached = pushed.attached if pushed.lock else policy.KINDS
        found += policy.check_signing(signing, f"the image of {enumeration(names)}", image, pushed.signed_by, attached)
    otherwise = f"Push them so, with `{command('push')}`, or promote what was pushed so"
    policy.refuse(rules, f"pushed images of steps, as {images.path} records them,", found, otherwise)


def _rules(policy: Any, images: Callable[[], Images] | None) -> tuple[Any, Any]:
    """Return what is allowed, and what must be signed."""
    if workspace := os.environ.get(WORKSPACE_VARIABLE):
        return policy.workspace_rules(Path(workspace)), policy.workspace_signing(Path(workspace))
    recorded = images().policy if images and os.environ.get(IMAGES_VARIABLE) else {}
    return policy.parse_rules(recorded), policy.parse_signing(recorded)


def _leaving(runs: Iterable[StepRun]) -> Iterator[tuple[StepRun, str]]:
    """Yield what runs in an image, with that; what this machine's own registry has left no machine."""
    for run in runs:
        if run.image is not None and not (run.built and run.image.partition("/")[0].partition(":")[0] in _LOOPBACK):
            yield run, run.image


def _named(run: StepRun) -> str:
    return f"the image of step *{run.step}*,"
