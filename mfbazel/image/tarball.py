"""One archive per image, for ``podman load`` and ``docker load``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import INDEX, Image, Json, canonical, select_image
from mfbazel.layer.output import OutputFile
from mfbazel.layer.tar import DIRECTORY, FILE, Content, Entry, blocks

_BLOCK = 1 << 20
_TAG = re.compile(r"[^\s:@][^\s@]*:[\w][\w.-]{0,127}")


@dataclass(frozen=True)
class _FileSource:
    """A blob of a layout, verified against its digest while it is read."""

    path: Path
    size: int
    digest: str

    @property
    def sha256(self) -> str:
        return self.digest.removeprefix("sha256:")

    def chunks(self) -> Iterator[bytes]:
        found, count = hashlib.sha256(), 0
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_BLOCK):
                    found.update(chunk)
                    count += len(chunk)
                    yield chunk
        except OSError as error:
            raise ImageError(f"cannot read the blob {self.path}: {error.strerror}") from error
        if count != self.size or f"sha256:{found.hexdigest()}" != self.digest:
            raise ImageError(
                f"the blob {self.path} is damaged: sha256:{found.hexdigest()}, {count} bytes. Build it again."
            )


def write_tarball(layout: Path, tags: Sequence[str], out: Path, kind: str, platform: str | None = None) -> None:
    """Write the archive of an image.

    Args:
        layout: OCI layout directory.
        tags: names that the engine gives to the image, ``NAME:TAG``.
        out: the archive.
        kind: ``docker`` (docker-archive) or ``oci`` (oci-archive).
        platform: which image of a layout with several.

    Raises:
        ImageError: a tag is malformed, the format cannot hold the image's layers, or a blob is damaged.
        LayerError: the archive could not be written.
    """
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise ImageError(f"tag {tag!r} is not of the form NAME:TAG, for example churn:latest")
    image = select_image(layout, platform)
    entries = _docker(image, tags) if kind == "docker" else _oci(image, tags)
    with OutputFile(out) as file:
        for block in blocks(entries, _BLOCK):
            file.write(block)
        file.commit()


def _docker(image: Image, tags: Sequence[str]) -> list[Entry]:
    """Return the entries of a docker-archive (Docker image specification 1.2): ``manifest.json``, files by digest."""
    layers = image.manifest["layers"]
    if any(entry["mediaType"].endswith("zstd") for entry in layers):
        raise ImageError(
            f"{image.layout} has layers compressed with zstd, which Docker's archive format cannot hold. Use the OCI "
            'format: oci_load(format = "oci"), here --format oci; podman, and Docker with the containerd image store, '
            "load it. "
            "Or build gzip layers: --@mfbazel//rules:compression=gzip"
        )
    config = image.manifest["config"]
    manifest = [
        {
            "Config": _blob_name(config["digest"]),
            "RepoTags": list(tags),
            "Layers": [_blob_name(entry["digest"]) for entry in layers],
        }
    ]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return [*_blobs(image, [config, *layers]), Entry("manifest.json", FILE, 0o644, Content(text))]


def _oci(image: Image, tags: Sequence[str]) -> list[Entry]:
    """Return the entries of an oci-archive: the layout itself, its index naming the image."""
    if len(tags) > 1:
        raise ImageError(
            f"an OCI archive carries one name, not {len(tags)} ({', '.join(tags)}): podman refuses to load several. "
            "Give one tag, and add the others with `podman tag`."
        )
    manifest: Json = {"mediaType": image.manifest["mediaType"], "digest": image.digest, "size": image.manifest_size}
    named = {**manifest, "annotations": _names(tags[0])} if tags else manifest
    index = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]})
    return [
        *_blobs(image, [manifest, image.manifest["config"], *image.manifest["layers"]]),
        Entry("index.json", FILE, 0o644, Content(index)),
        Entry("oci-layout", FILE, 0o644, Content(canonical({"imageLayoutVersion": "1.0.0"}))),
    ]


def _names(tag: str) -> dict[str, str]:
    return {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": tag}


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _blobs(image: Image, descriptors: Sequence[Json]) -> list[Entry]:
    """Return directories and blobs, sorted, each once."""
    wanted = {
        entry["digest"]: _FileSource(image.blob(entry["digest"]), entry["size"], entry["digest"])
        for entry in descriptors
    }
    files = [Entry(_blob_name(digest), FILE, 0o644, source) for digest, source in sorted(wanted.items())]
    return [Entry("blobs", DIRECTORY, 0o755), Entry("blobs/sha256", DIRECTORY, 0o755), *files]
