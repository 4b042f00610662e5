"""Letting Bazel build the images of a flow, from within ``bazel run``."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mfbazel.bazel import BAZEL_VARIABLE, NoBazelError, bazel_command, outer_environment, output_base
from mfbazel.container.errors import ContainerError


@dataclass(frozen=True)
class BuiltImages:
    """What Bazel built for a flow."""

    steps: Mapping[str, Path]
    """The layout of each step's image."""


_WITHOUT = "Run without --with container to use no images, or give the step an image of your own with image=…."


def build_images(
    label: str, workspace: Path, environ: Mapping[str, str], started_in: Path | None, otherwise: str = _WITHOUT
) -> BuiltImages:
    """Build ``<label>.images``; Bazel's progress goes to standard error.

    Args:
        label: of the flow's target.
        workspace: where Bazel runs.
        environ: environment variables of this process.
        started_in: a directory of the Bazel that started this, so that the same server is asked.
        otherwise: what to do when they cannot be built.

    Raises:
        ContainerError: there is no Bazel, or it fails.
    """
    target = f"{label}.images"
    base = output_base(started_in) if started_in else None
    try:
        program = bazel_command(workspace, environ)
    except NoBazelError as error:
        raise ContainerError(str(error)) from error
    command = [*program, *([f"--output_base={base}"] if base else []), "build"]
    with tempfile.TemporaryDirectory(prefix="mfbazel-images.") as scratch:
        events = Path(scratch, "events.json")
        options = [f"--build_event_json_file={events}", "--show_result=0", "--remote_download_outputs=toplevel"]
        try:
            status = subprocess.run(
                [*command, *options, target],
                cwd=workspace,
                env=outer_environment(environ),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                check=False,
            ).returncode
        except OSError as error:
            raise ContainerError(
                f"Bazel cannot be started: {command[0]}: {error.strerror}; name it in {BAZEL_VARIABLE}."
            ) from error
        if status:
            raise ContainerError(
                f"the images of {label} cannot be built: `{shlex.join([*command, target])}` ended with {status}. "
                f"{otherwise}"
            )
        return _read(events.read_text(encoding="utf-8").splitlines(), target)


def read_built(files: Iterable[Path], target: str) -> BuiltImages:
    """Return the layouts among the outputs of ``target``, by the step whose digest ``images.json`` gives them.

    Raises:
        ContainerError: ``images.json`` or a layout is missing.
    """
    layouts: dict[str, Path] = {}
    recorded: Path | None = None
    for file in files:
        if file.name == "images.json":
            recorded = file
        directory = file.parent if file.name == "index.json" else file
        if directory.joinpath("oci-layout").is_file():
            layouts[_json(directory / "index.json")["manifests"][0]["digest"]] = directory
    if recorded is None:
        raise ContainerError(f"Bazel built {target}, but there is no images.json among what it built.")
    steps = {}
    for step, image in _json(recorded)["steps"].items():
        if image["digest"] not in layouts:
            raise ContainerError(f"Bazel built {target}, but the image {image['digest']} of step {step} is not there.")
        steps[step] = layouts[image["digest"]]
    return BuiltImages(steps)


def _read(lines: Sequence[str], target: str) -> BuiltImages:
    """Return what the build events (JSON, one a line) say that was built."""
    events = [json.loads(line) for line in lines if line.strip()]
    files = (file for event in events for file in event.get("namedSetOfFiles", {}).get("files", []))
    return read_built(_paths(files), target)


def _paths(files: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    for file in files:
        parts = urlsplit(file.get("uri", ""))
        if parts.scheme == "file":
            yield Path(unquote(parts.path))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ContainerError(f"{path} cannot be read: {error}") from error
    return dict(content)
