"""The image of this machine's platform in an OCI layout directory (OCI image-spec 1.1)."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.container.errors import ContainerError

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Layer:
    """A layer of an image."""

    blob: Path
    media_type: str
    diff_id: str
    """``sha256:…`` of the uncompressed tar."""
    size: int
    """Bytes of the blob."""


@dataclass(frozen=True)
class LayoutImage:
    """An image in a layout."""

    layout: Path
    digest: str
    """``sha256:…`` of what ``index.json`` names: the image, or the index that the image is in."""
    manifest_digest: str
    config_digest: str
    """What podman and docker call the image."""
    variables: Mapping[str, str]
    layers: Sequence[Layer]
    """From the bottom to the top."""


def machine_architecture() -> str:
    """Return the architecture of this machine in the image-spec's terms."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def read_image(layout: Path, architecture: str | None = None) -> LayoutImage:
    """Read the image for linux and ``architecture`` (default: this machine's).

    Raises:
        ContainerError: ``layout`` is no layout with one image, is not whole, or has no image for that platform.
    """
    architecture = architecture or machine_architecture()
    listed = _document(layout, layout / "index.json").get("manifests") or []
    if not isinstance(listed, list) or len(listed) != 1:
        named = len(listed) if isinstance(listed, list) else "none"
        raise ContainerError(f"{layout} is not the layout of one image: its index.json names {named}.")
    try:
        top = listed[0]["digest"]
        manifest_digest, manifest = _manifest(layout, top, architecture)
        config_digest = manifest["config"]["digest"]
        config = _document(layout, _blob(layout, config_digest))
        if config.get("architecture", architecture) != architecture:
            raise ContainerError(
                f"the image {layout} is for linux/{config['architecture']}, and this machine is linux/{architecture}. "
                "Add it to `platforms` of the flow, or choose an image of your own."
            )
        for diff_id in config["rootfs"]["diff_ids"]:
            if not _DIGEST.fullmatch(diff_id):  # names a directory of unpacked layers
                raise ValueError(f"{diff_id!r} is no diff ID")
        layers = [
            Layer(_blob(layout, layer["digest"]), layer["mediaType"], diff_id, layer["size"])
            for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        variables = dict(entry.split("=", 1) for entry in (config.get("config") or {}).get("Env") or ())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ContainerError(f"{layout} is damaged ({error!r}); build the image again.") from error
    return LayoutImage(layout, top, manifest_digest, config_digest, variables, layers)


def _manifest(layout: Path, digest: str, architecture: str) -> tuple[str, dict[str, Any]]:
    """Return digest and content of the manifest for ``architecture``, below the one that has ``digest``."""
    content = _document(layout, _blob(layout, digest))
    if content.get("mediaType") not in _INDEXES and "manifests" not in content:
        return digest, content
    platforms = [entry.get("platform") or {} for entry in content["manifests"]]
    for entry, found in zip(content["manifests"], platforms, strict=True):
        if (found.get("os"), found.get("architecture")) == ("linux", architecture):
            return _manifest(layout, entry["digest"], architecture)
    there = ", ".join(f"{found.get('os')}/{found.get('architecture')}" for found in platforms)
    raise ContainerError(
        f"the image {layout} is for {there}, and this machine is linux/{architecture}. Add it to `platforms` of the "
        "flow, or choose an image of your own."
    )


def _blob(layout: Path, digest: str) -> Path:
    """Return the file of a blob."""
    if not _DIGEST.fullmatch(digest):
        raise ContainerError(f"the image {layout} is damaged: {digest!r} is no sha256 digest. Build the image again.")
    path = layout / "blobs" / digest.replace(":", "/")
    if not path.is_file():
        raise ContainerError(
            f"the image {layout} lacks the blob {digest}: it was not built on this machine, or is gone. Build the "
            "image again; where Bazel builds remotely, with --remote_download_outputs=all."
        )
    return path


def _document(layout: Path, path: Path) -> dict[str, Any]:
    """Read a JSON object; one that is a blob must have the digest that its name says."""
    try:
        data = path.read_bytes()
        content = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ContainerError(f"the image {layout} cannot be read: {path}: {error}.") from error
    if path.parent.name == "sha256" and hashlib.sha256(data).hexdigest() != path.name:
        raise ContainerError(f"the image {layout} is damaged: {path} has another digest. Build the image again.")
    if not isinstance(content, dict):
        raise ContainerError(f"the image {layout} is damaged: {path} is not a JSON object.")
    return content
