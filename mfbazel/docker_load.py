"""Giving an image to ``docker load``: the one way into docker's storage, as a tar through its standard input.

Nothing here needs more than the standard library: the module is also shipped to where Metaflow launches a flow.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Blob:
    """A blob of a layout: its ``digest``, ``size`` in bytes and the ``path`` of its file (may be a symlink)."""

    digest: str
    size: int
    path: Path


@dataclass(frozen=True)
class Refusal:
    """Why docker did not take an image: its exit ``status``, and what it ``said``."""

    status: int
    said: str


def load(command: Sequence[str], write: Callable[[IO[bytes]], None]) -> Refusal | None:
    """Run ``docker load`` on what ``write`` writes.

    Args:
        command: docker and its arguments.
        write: called with the standard input of the command.

    Returns:
        ``None`` where docker took it.

    Raises:
        OSError: the command cannot be started. What ``write`` raises passes through; docker is ended then.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
        with process:
            assert process.stdin is not None
            broken = False
            try:
                write(process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                broken = True
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
        return Refusal(process.returncode, text) if process.returncode or broken else None


def write_archive(manifests: Sequence[Blob], blobs: Sequence[Blob], reference: str, stream: IO[bytes]) -> None:
    """Write an uncompressed tar that engines load as ``reference``; symlinks are followed.

    It is an OCI layout (OCI image-spec 1.1), with the ``manifest.json`` that engines before Docker 25 read beside it.

    Args:
        manifests: of the image; with several, the index over them is the last.
        blobs: configurations and layers.
        reference: what the image is called.
        stream: takes the tar.
    """
    top = manifests[-1]
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for blob in {blob.digest: blob for blob in (*manifests, *blobs)}.values():
            member = tarfile.TarInfo(_name(blob.digest))
            member.size = blob.size
            with blob.path.open("rb") as file:
                archive.addfile(member, file)
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        if len(manifests) == 1:
            _add(archive, "manifest.json", [_docker_manifest(top, reference)])
        _add(archive, "index.json", _index(top, reference))


def _docker_manifest(manifest: Blob, reference: str) -> dict[str, Any]:
    """Return the entry of ``manifest.json`` (Docker image-spec 1.2)."""
    content = json.loads(manifest.path.read_bytes())
    return {
        "Config": _name(content["config"]["digest"]),
        "RepoTags": [reference],
        "Layers": [_name(layer["digest"]) for layer in content["layers"]],
    }


def _index(top: Blob, reference: str) -> dict[str, Any]:
    """Return the layout's ``index.json``."""
    media_type = json.loads(top.path.read_bytes()).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    annotations = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    descriptor = {"mediaType": media_type, "digest": top.digest, "size": top.size, "annotations": annotations}
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]}


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, content: Any) -> None:
    """Add a JSON file to the archive."""
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
