"""Small OCI layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from mfbazel.container.layout import machine_architecture

TAR = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Members:
    """A tar, written member by member."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        self._archive = tarfile.TarFile(fileobj=self._stream, mode="w")

    def file(self, name: str, content: str = "", mode: int = 0o644) -> Members:
        """Add a regular file."""
        data = content.encode()
        member = self._member(name, tarfile.REGTYPE, mode)
        member.size = len(data)
        self._archive.addfile(member, io.BytesIO(data))
        return self

    def directory(self, name: str, mode: int = 0o755) -> Members:
        """Add a directory."""
        self._archive.addfile(self._member(name, tarfile.DIRTYPE, mode))
        return self

    def symlink(self, name: str, target: str) -> Members:
        """Add a symbolic link."""
        return self._link(name, tarfile.SYMTYPE, target)

    def hardlink(self, name: str, target: str) -> Members:
        """Add a hard link."""
        return self._link(name, tarfile.LNKTYPE, target)

    def device(self, name: str) -> Members:
        """Add a character device."""
        self._archive.addfile(self._member(name, tarfile.CHRTYPE, 0o666))
        return self

    def data(self) -> bytes:
        """Return the tar."""
        self._archive.close()
        return self._stream.getvalue()

    def _link(self, name: str, kind: bytes, target: str) -> Members:
        member = self._member(name, kind, 0o777)
        member.linkname = target
        self._archive.addfile(member)
        return self

    @staticmethod
    def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.mtime = kind, mode, 1_000_000
        return member


def write_layout(
    directory: Path,
    layers: Sequence[Members | bytes],
    *,
    compression: str = "",
    architecture: str | None = None,
    variables: Sequence[str] = ("PATH=/bin",),
) -> Path:
    """Write an image of one platform; every layer compressed with ``""``, ``gzip`` or ``zstd``."""
    tars = [layer if isinstance(layer, bytes) else layer.data() for layer in layers]
    config = {
        "architecture": architecture or machine_architecture(),
        "os": "linux",
        "config": {"Env": list(variables)},
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(directory, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [
            _blob(directory, _compressed(tar, compression), f"{TAR}+{compression}" if compression else TAR)
            for tar in tars
        ],
    }
    top = _blob(directory, json.dumps(manifest).encode(), MANIFEST)
    return finish(directory, top)


def write_index(directory: Path, images: dict[str, Path]) -> Path:
    """Write an index of the images, by architecture; their blobs are moved into it."""
    entries = []
    for architecture, image in images.items():
        (entry,) = json.loads((image / "index.json").read_text())["manifests"]
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
        for blob in (image / "blobs" / "sha256").iterdir():
            place = directory / "blobs" / "sha256" / blob.name
            place.parent.mkdir(parents=True, exist_ok=True)
            blob.rename(place)
    kind = "application/vnd.oci.image.index.v1+json"
    top = _blob(directory, json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode(), kind)
    return finish(directory, top)


def finish(directory: Path, top: dict[str, Any]) -> Path:
    """Write what makes ``directory`` a layout whose image is ``top``."""
    directory.joinpath("oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    directory.joinpath("index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return directory


def _blob(directory: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(data)
    place = directory / "blobs" / digest.replace(":", "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _compressed(tar: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(tar)
    if compression == "zstd":
        return zstandard.compress(tar)
    return tar


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
