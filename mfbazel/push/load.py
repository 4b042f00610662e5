"""Loading step images into a local container engine."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mfbazel.push.errors import PushError
from mfbazel.push.layout import Blob, Layout, read_layout
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
    load = _load_docker if Path(program).name == "docker" else _load_podman
    results = {}
    reporter.begin(f"{Path(program).name} as {name}:<step>", list(layouts), verb="loading")
    for step, path in layouts.items():
        reference = f"{name}:{parse_tag(step, 'the name of the step')}"
        load(program, read_layout(path), reference)
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
    """Stream the layout to ``docker load`` as a tar."""
    command = [program, "load", "--quiet"]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        except OSError as error:
            raise PushError(f"{program} cannot be started: {error.strerror}.") from error
        with process:
            assert process.stdin is not None
            broken = False
            try:
                write_archive(layout, reference, process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                broken = True
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        if process.returncode or broken:
            raise _refused(command, process.returncode, errors.read().decode(errors="replace"), layout)


def write_archive(layout: Layout, reference: str, stream: IO[bytes]) -> None:
    """Write the layout as an uncompressed tar that engines load as ``reference``.

    It is an OCI layout (OCI image-spec 1.1), with the ``manifest.json`` that engines before Docker 25 read beside it.
    Only what belongs to the image is written; symlinks are followed.
    """
    top = layout.manifests[-1]
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for blob in (*layout.manifests, *layout.blobs):
            _add_blob(archive, blob)
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        if len(layout.manifests) == 1:
            _add(archive, "manifest.json", [_docker_manifest(top, reference)])
        _add(archive, "index.json", _index(top, reference))


def _docker_manifest(manifest: Blob, reference: str) -> dict[str, Any]:
    """Return the entry of ``manifest.json`` (Docker image-spec 1.2)."""
    content = json.loads(manifest.path.read_bytes())
    return {
        "Config": _blob_name(content["config"]["digest"]),
        "RepoTags": [reference],
        "Layers": [_blob_name(layer["digest"]) for layer in content["layers"]],
    }


def _index(top: Blob, reference: str) -> dict[str, Any]:
    """Return the layout's ``index.json``."""
    media_type = json.loads(top.path.read_bytes()).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    annotations = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    descriptor = {"mediaType": media_type, "digest": top.digest, "size": top.size, "annotations": annotations}
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]}


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add_blob(archive: tarfile.TarFile, blob: Blob) -> None:
    """Add a blob's file to the archive."""
    member = tarfile.TarInfo(_blob_name(blob.digest))
    member.size = blob.size
    with blob.path.open("rb") as stream:
        archive.addfile(member, stream)


def _add(archive: tarfile.TarFile, name: str, content: Any) -> None:
    """Add a JSON file to the archive."""
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


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
