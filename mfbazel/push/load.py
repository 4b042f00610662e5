"""Loading step images into a local container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mfbazel.docker_load import load, write_archive
from mfbazel.push.errors import PushError
from mfbazel.push.layout import Layout, read_layout
from mfbazel.push.report import Reporter
from mfbazel.push.repository import parse_tag
from mfbazel.registry.redaction import redact

LOADERS = ("podman", "docker")
# OCI distribution-spec's <name>, with an optional host before it.
_NAME = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)


def load_images(layouts: Mapping[str, Path], loader: str, name: str, reporter: Reporter) -> dict[str, str]:
    """Load each step's image as ``name:<step>``; return step to that name.

    Args:
        layouts: step to OCI layout directory.
        loader: ``podman``, ``docker`` (a name or the path of such a program), or ``auto``: the first that is installed.
        name: a repository name without a tag, e.g. ``churn_flow``.
        reporter: prints a line per step.

    Raises:
        PushError: the name is invalid, a layout is not whole, there is no such engine, or it refuses the image.
    """
    if not _NAME.fullmatch(name):
        raise PushError(
            f"the name {name!r} is invalid (option --tag): write a repository name without a tag, in lowercase, such "
            "as my_flow; each step's image becomes my_flow:<step>."
        )
    program = _program(loader)
    load_one = _load_docker if Path(program).name == "docker" else _load_podman
    results = {}
    reporter.begin(f"{Path(program).name} as {name}:<step>", list(layouts), verb="loading")
    for step, path in layouts.items():
        reference = f"{name}:{parse_tag(step, 'the name of the step')}"
        load_one(program, read_layout(path), reference)
        reporter.result(step, reference)
        results[step] = reference
    return results


def _program(loader: str) -> str:
    """Find the engine's program."""
    names = LOADERS if loader == "auto" else (loader,)
    for name in names:
        if found := shutil.which(name):
            return found
    raise PushError(
        f"no container engine to load into: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} not on PATH "
        "(option --loader). Install podman or docker."
    )


def _load_podman(program: str, layout: Layout, reference: str) -> None:
    """Let podman read the layout directory itself (transport ``oci:``): layers keep their digests."""
    with tempfile.TemporaryDirectory() as scratch:
        # The transport takes ':' for the end of the path, and a path of Bazel's may hold one.
        link = Path(scratch) / "image"
        link.symlink_to(layout.path.absolute(), target_is_directory=True)
        image = _run(program, ["pull", "--quiet", f"oci:{link}"], layout).strip().splitlines()
    if not image:
        raise PushError(f"{program} pull of {layout.path} gave no image id.")
    _run(program, ["tag", image[-1], reference], layout)


def _load_docker(program: str, layout: Layout, reference: str) -> None:
    """Stream the layout to ``docker load`` as a tar, with nothing but what belongs to the image."""
    command = [program, "load", "--quiet"]
    try:
        refusal = load(command, lambda stream: write_archive(layout.manifests, layout.blobs, reference, stream))
    except OSError as error:
        raise PushError(f"{program} cannot be started: {error.strerror}.") from error
    if refusal is not None:
        raise _refused(command, refusal.status, refusal.said, layout)


def _run(program: str, arguments: list[str], layout: Layout) -> str:
    """Run the engine and return its standard output."""
    command = [program, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PushError(f"{program} cannot be started: {error.strerror}.") from error
    if done.returncode:
        raise _refused(command, done.returncode, done.stderr, layout)
    return done.stdout


def _refused(command: list[str], status: int, errors: str, layout: Layout) -> PushError:
    """Say that the engine failed."""
    return PushError(
        f"`{' '.join(command)}` failed with exit status {status} while loading {layout.path}: "
        f"{redact(errors.strip())}. Check that the engine works (`podman info`, `docker info`) and has room."
    )
