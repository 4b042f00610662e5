"""Image manifests and configurations from descriptors: the assembler that never reads a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfbazel.image.errors import ImageError, NoSuchPlatformError
from mfbazel.image.layout import (
    CONFIG,
    INDEX,
    MANIFEST,
    Image,
    Json,
    LayoutWriter,
    LinkMode,
    images,
    select_image,
)
from mfbazel.image.options import EPOCH, Options, apply
from mfbazel.layer.descriptor import Descriptor, read_descriptor

MAX_LAYERS = 125
"""What Moby accepts; containerd takes two more."""

_OCI_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


@dataclass(frozen=True)
class Layer:
    """A layer to add.

    Attributes:
        blob: the file.
        descriptor: what the layer tool said about it.
        created_by: the command that made it, for the image's history.
    """

    blob: Path
    descriptor: Descriptor
    created_by: str


@dataclass(frozen=True)
class Platform:
    """What an image without a base runs on, in Go's names: ``linux``, ``amd64``, ``v8`` or ``None``."""

    os: str
    architecture: str
    variant: str | None = None

    def config(self) -> Json:
        """Return an empty configuration for this platform."""
        fields: Json = {"created": EPOCH, "config": {}, "history": [], "rootfs": {"type": "layers", "diff_ids": []}}
        fields |= {"os": self.os, "architecture": self.architecture}
        return fields | ({"variant": self.variant} if self.variant else {})


def load_layer(blob: Path, descriptor: Path, history: str | None = None) -> Layer:
    """Return a layer after comparing the size of its two files.

    Args:
        blob: the layer.
        descriptor: its descriptor file.
        history: what the history says of it; default: ``bazel build <file name>``, as rules_oci's does.

    Raises:
        ImageError: the blob is missing or has another size.
        LayerError: the descriptor is missing or malformed.
    """
    described = read_descriptor(descriptor)
    try:
        size = blob.stat().st_size
    except OSError as error:
        raise ImageError(f"layer {blob} cannot be read: {error.strerror}") from error
    if size != described.size:
        raise ImageError(f"{descriptor} does not describe {blob}: it says {described.size} bytes, the file has {size}")
    return Layer(blob, described, history or f"bazel build {blob.name}")


def assemble(
    output: Path,
    base: Path | Platform,
    layers: Sequence[Layer],
    options: Options,
    *,
    platform: str | None = None,
    link: LinkMode = "symlink",
) -> str:
    """Write the image made of ``base`` and ``layers`` as an OCI layout, and return its manifest's digest.

    Args:
        output: directory of the layout.
        base: layout directory of the base image, or the platform of an image without one.
        layers: from the bottom to the top.
        options: of the configuration.
        platform: which image of a base with several, ``os/architecture[/variant]``.
        link: how blobs get into the layout; ``symlink`` and ``hard`` read nothing.

    Raises:
        ImageError: the base is not usable, there are too many layers, an option is malformed, or writing failed.
    """
    image = select_image(base, platform) if isinstance(base, Path) else None
    config = apply(options, _start(image) if image else _platform(base).config())
    inherited = [_inherited(entry) for entry in image.manifest["layers"]] if image else []
    if len(inherited) + len(layers) > MAX_LAYERS:
        raise ImageError(
            f"{output.name} would have {len(inherited) + len(layers)} layers ({len(inherited)} from the base); "
            f"container runtimes accept {MAX_LAYERS}. Lower the budget of dependency layers, or take a base with fewer."
        )
    _add_layers(config, layers)
    manifest: Json = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "layers": inherited + [_entry(layer) for layer in layers],
    }
    annotations = {**((image.manifest.get("annotations") if image else None) or {}), **options.annotations}
    if annotations:
        manifest["annotations"] = annotations
    with LayoutWriter(output, link) as writer:
        for entry in inherited:
            assert image is not None
            writer.add_blob(entry["digest"], image.blob(entry["digest"]))
        for layer in layers:
            writer.add_blob(layer.descriptor.digest, layer.blob)
        manifest["config"] = writer.add_document(config, CONFIG)
        top = writer.add_document(manifest, MANIFEST)
        writer.commit([top])
    return str(top["digest"])


def assemble_index(
    output: Path, layouts: Sequence[Path], annotations: dict[str, str], *, link: LinkMode = "symlink"
) -> str:
    """Write an index over the images of ``layouts`` as an OCI layout, and return its digest.

    Raises:
        ImageError: two images are for one platform, a layout is not usable, or writing failed.
    """
    found = [image for layout in layouts for image in images(layout)]
    seen: dict[str, Image] = {}
    for image in found:
        other = seen.setdefault(image.platform, image)
        if other is not image:
            raise ImageError(
                f"two images are for {image.platform}: {other.layout} and {image.layout}. Remove one of them."
            )
    document: Json = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_index_entry(image) for image in found]}
    if annotations:
        document["annotations"] = annotations
    with LayoutWriter(output, link) as writer:
        for image in found:
            for digest in (image.digest, image.manifest["config"]["digest"], *_layer_digests(image)):
                writer.add_blob(digest, image.blob(digest))
        top = writer.add_document(document, INDEX)
        writer.commit([top])
    return str(top["digest"])


def take_image(
    output: Path, layout: Path, platform: str, label: str | None = None, *, link: LinkMode = "symlink"
) -> str:
    """Write the image of ``layout`` for ``platform`` as an OCI layout of its own, and return its digest.

    Args:
        output: directory of the new layout.
        layout: may hold an index over several platforms.
        platform: ``os/architecture[/variant]``.
        label: what the layout is called in the message.
        link: how layers get into the layout; manifest and configuration are copied.

    Raises:
        ImageError: there is no such image (the message lists the platforms), the layout is not usable, or writing
            failed.
    """
    try:
        image = select_image(layout, platform)
    except NoSuchPlatformError as error:
        raise ImageError(
            f"{label or layout} has no image for the platform {platform}; it has: {', '.join(error.platforms)}. Name "
            f"an image for it in `base`, `bases` or `images`, or take {platform} out of `platforms` and lock again."
        ) from error
    with LayoutWriter(output, link) as writer:
        for digest in _layer_digests(image):
            writer.add_blob(digest, image.blob(digest))
        writer.add_bytes(image.blob(image.manifest["config"]["digest"]).read_bytes(), CONFIG)
        manifest = image.blob(image.digest).read_bytes()
        writer.commit([writer.add_bytes(manifest, image.manifest.get("mediaType", MANIFEST))])
    return image.digest


def _platform(base: Path | Platform) -> Platform:
    assert isinstance(base, Platform)
    return base


def _start(image: Image) -> Json:
    """Return the base's configuration, checked to have what layers are added to."""
    rootfs = image.config.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise ImageError(f"{image.layout}: the configuration of {image.digest} has no rootfs.diff_ids")
    if len(rootfs["diff_ids"]) != len(image.manifest["layers"]):
        raise ImageError(
            f"{image.layout}: {image.digest} has {len(image.manifest['layers'])} layers, and its configuration "
            f"{len(rootfs['diff_ids'])} diff IDs: the image is damaged. Pull or build it again."
        )
    return image.config


def _inherited(entry: Json) -> Json:
    """Return a layer of the base, its media type as OCI names it."""
    kept = {key: value for key, value in entry.items() if key in ("digest", "size", "annotations")}
    return {**kept, "mediaType": _OCI_TYPES.get(entry["mediaType"], entry["mediaType"])}


def _entry(layer: Layer) -> Json:
    described = layer.descriptor
    return {"mediaType": described.media_type, "digest": described.digest, "size": described.size}


def _add_layers(config: Json, layers: Sequence[Layer]) -> None:
    """Extend diff IDs and history; ``apply`` has made ``config`` a copy."""
    config["rootfs"]["diff_ids"] += [layer.descriptor.diff_id for layer in layers]
    history = config.get("history") or []
    config["history"] = history + [{"created": EPOCH, "created_by": layer.created_by} for layer in layers]


def _index_entry(image: Image) -> Json:
    keys = ("os", "architecture", "variant", "os.version", "os.features")
    platform = {key: image.config[key] for key in keys if image.config.get(key)}
    kind = image.manifest.get("mediaType", MANIFEST)
    return {"mediaType": kind, "digest": image.digest, "size": image.manifest_size, "platform": platform}


def _layer_digests(image: Image) -> list[str]:
    return [entry["digest"] for entry in image.manifest["layers"]]
