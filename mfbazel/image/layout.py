"""OCI image layouts (OCI image specification, "Image Layout"): reading what is there, writing a new one.

Only JSON documents are read, never a layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mfbazel.image.errors import ImageError, NoSuchPlatformError

Json = dict[str, Any]
LinkMode = Literal["symlink", "hard", "copy"]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_DOCUMENT = 16 << 20


def canonical(document: Json) -> bytes:
    """Return a JSON document's bytes: sorted keys, no space, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(data: bytes) -> str:
    """Return ``sha256:…`` of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def platform_name(fields: Json) -> str:
    """Return ``os/architecture[/variant]`` of a platform object or an image configuration."""
    parts = [fields.get("os") or "unknown", fields.get("architecture") or "unknown", fields.get("variant")]
    return "/".join(part for part in parts if part)


@dataclass(frozen=True)
class Image:
    """An image of one platform in a layout.

    Attributes:
        layout: the layout's directory.
        digest: of the manifest.
        manifest, config: the parsed documents.
        manifest_size: bytes of the manifest as it is stored.
    """

    layout: Path
    digest: str
    manifest: Json
    manifest_size: int
    config: Json

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]`` according to the configuration."""
        return platform_name(self.config)

    def blob(self, digest: str) -> Path:
        """Return the path of a blob of the layout."""
        return blob_path(self.layout, digest)


def blob_path(layout: Path, digest: str) -> Path:
    """Return where the blob ``digest`` is in ``layout``.

    Raises:
        ImageError: the digest is not a sha256.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError(f"{layout}: {digest!r} is not a digest of the form sha256:<64 hex digits>")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def top_descriptor(layout: Path) -> Json:
    """Return the one entry of the layout's ``index.json``: a manifest, or an index over several platforms.

    Raises:
        ImageError: ``layout`` is no OCI layout, or its ``index.json`` has not exactly one entry.
    """
    entries = _entries(layout)
    if len(entries) != 1:
        raise ImageError(f"{layout}/index.json lists {len(entries)} images; exactly one is expected")
    return entries[0]


def images(layout: Path) -> list[Image]:
    """Return all images of a layout; indexes are followed, attestations (platform ``unknown``) left out.

    Raises:
        ImageError: the layout, or a document in it, is missing, damaged or malformed.
    """
    return [_image(layout, entry) for entry in _manifests(layout, _entries(layout))]


def select_image(layout: Path, platform: str | None = None) -> Image:
    """Return the image for ``platform`` (``os/architecture[/variant]``); it may be left out where there is only one.

    Raises:
        ImageError: none fits; the message lists the platforms that the layout has. Otherwise as :func:`images`.
    """
    found = images(layout)
    if platform:
        fitting = [image for image in found if image.platform == platform]
        fitting = fitting or [image for image in found if image.platform.startswith(f"{platform}/")]
    else:
        fitting = found
    if len(fitting) == 1:
        return fitting[0]
    platforms = sorted(image.platform for image in found)
    has = ", ".join(platforms) or "none"
    if platform:
        raise NoSuchPlatformError(f"{layout} has no image for the platform {platform}; it has: {has}", platforms)
    raise ImageError(f"{layout} holds {len(found)} images: choose one with --platform; it has: {has}")


def _entries(layout: Path) -> list[Json]:
    marker = layout / "oci-layout"
    if not marker.is_file():
        raise ImageError(
            f"{layout} is not an OCI image layout: it has no file oci-layout. Give the directory that oci_image, "
            "oci.pull or `crane pull --format=oci` makes."
        )
    version = _document(marker).get("imageLayoutVersion")
    if version != "1.0.0":
        raise ImageError(f"{marker}: imageLayoutVersion is {version!r}; 1.0.0 is understood")
    return _list(layout / "index.json", _document(layout / "index.json"), "manifests")


def _manifests(layout: Path, entries: list[Json]) -> Iterator[Json]:
    for entry in entries:
        if entry.get("mediaType") in _INDEXES:
            path = blob_path(layout, entry.get("digest", ""))
            yield from _manifests(layout, _list(path, _document(path, entry), "manifests"))
        elif (entry.get("platform") or {}).get("os") != "unknown":
            yield entry


def _image(layout: Path, entry: Json) -> Image:
    path = blob_path(layout, entry.get("digest", ""))
    manifest = _document(path, entry)
    kind = manifest.get("mediaType", entry.get("mediaType"))
    if kind not in _MANIFESTS:
        raise ImageError(f"{path} is not an image manifest: its mediaType is {kind!r}")
    _list(path, manifest, "layers")
    described = manifest.get("config") or {}
    config = _document(blob_path(layout, described.get("digest", "")), described)
    return Image(layout, entry["digest"], manifest, path.stat().st_size, config)


def _document(path: Path, descriptor: Json | None = None) -> Json:
    """Read a JSON object; verify it against ``descriptor`` when given."""
    try:
        if path.stat().st_size > _MAX_DOCUMENT:
            raise ImageError(f"{path} is larger than {_MAX_DOCUMENT} bytes: not a JSON document of an image")
        data = path.read_bytes()
        document = json.loads(data)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}. Is the layout complete?") from error
    except ValueError as error:
        raise ImageError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ImageError(f"{path}: a JSON object is expected")
    if descriptor is not None and digest_of(data) != descriptor.get("digest"):
        raise ImageError(f"{path} is damaged: its digest is {digest_of(data)}. Make or pull the layout again.")
    return document


def _list(path: Path, document: Json, key: str) -> list[Json]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ImageError(f"{path}: {key} is not a list of objects")
    return value


class LayoutWriter:
    """A new layout, built beside its place and moved there by :meth:`commit`.

    ``output`` may exist as an empty directory (Bazel makes it), or as a layout, which is replaced.
    """

    def __init__(self, output: Path, link: LinkMode = "symlink") -> None:
        """Prepare to write ``output``; ``link`` says how existing blobs get in.

        Raises:
            ImageError: ``output`` is something that must not be replaced, or cannot be written.
        """
        # Not resolved: links of the output must stay valid where Bazel moves it together with its inputs.
        self._output = Path(os.path.abspath(output))  # noqa: PTH100
        self._link = link
        if self._output.exists() and (
            not self._output.is_dir() or (any(self._output.iterdir()) and not (self._output / "oci-layout").is_file())
        ):
            raise ImageError(f"{output} exists and is not an OCI layout: remove it, or choose another --output")
        self._beside = self._output.with_name(f".{self._output.name}.{os.getpid()}.part")
        self._blobs = self._beside / "blobs" / "sha256"
        with _writing(output):
            self._blobs.mkdir(parents=True)

    def add_document(self, document: Json, media_type: str) -> Json:
        """Write a JSON document as a blob and return its descriptor."""
        return self.add_bytes(canonical(document), media_type)

    def add_bytes(self, data: bytes, media_type: str) -> Json:
        """Write the bytes of a document as a blob and return its descriptor."""
        digest = digest_of(data)
        with _writing(self._output):
            (self._blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_blob(self, digest: str, source: Path) -> None:
        """Bring the existing file ``source`` in as the blob ``digest``; it is read only where copying was chosen."""
        target = self._blobs / blob_path(self._beside, digest).name
        source = Path(os.path.abspath(source))  # noqa: PTH100
        if target.is_symlink() or target.exists():
            return
        with _writing(self._output):
            if self._link == "symlink":
                target.symlink_to(os.path.relpath(source, self._output / "blobs" / "sha256"))
            elif self._link == "hard":
                target.hardlink_to(source.resolve())
            else:
                shutil.copyfile(source, target)

    def commit(self, entries: list[Json]) -> None:
        """Write ``oci-layout`` and ``index.json``, and move the layout to its place."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        old = self._beside.with_suffix(".old")
        with _writing(self._output):
            (self._beside / "index.json").write_bytes(canonical(index))
            (self._beside / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
            if self._output.exists():
                self._output.rename(old)
            self._beside.rename(self._output)
            shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written; harmless after :meth:`commit`."""
        shutil.rmtree(self._beside, ignore_errors=True)

    def __enter__(self) -> LayoutWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"cannot write the image {output}: {error.strerror} ({error.filename}). What was written has been removed; "
            "if the disk is full, free space (with Bazel: on the disk of its output base) and run the command again."
        ) from error
