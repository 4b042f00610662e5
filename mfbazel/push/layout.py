"""Reading OCI image layout directories (OCI image-spec 1.1, "OCI Image Layout Specification")."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.docker_load import Blob
from mfbazel.push.errors import PushError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_READ = 1 << 20  # bytes read at once while hashing


@dataclass(frozen=True)
class Layout:
    """The one image, or index of images, that a layout directory holds.

    Attributes:
        path: the directory.
        digest: ``sha256:…`` of the manifest or index, equal to the hash of its bytes.
        manifests: manifests (and indexes), children before their index; the last one has ``digest``.
        blobs: configurations and layers, each digest once, in the order of the manifests.
    """

    path: Path
    digest: str
    manifests: tuple[Blob, ...]
    blobs: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """The sum of the blobs' sizes in bytes, manifests not counted."""
        return sum(blob.size for blob in self.blobs)


def read_layout(path: Path) -> Layout:
    """Read the layout directory ``path`` and check that it is whole.

    The bytes of manifests and indexes are hashed; of configurations and layers only the size is compared, since the
    registry hashes what it receives (see :func:`corrupted_blobs`).

    Raises:
        PushError: the directory is missing, is not a layout, does not hold exactly one image, lacks a blob, or a
            manifest's bytes do not have its digest.
    """
    if not path.is_dir():
        raise PushError(f"the image layout {path} is missing or is not a directory; build the image again.")
    _expect(path, (path / "oci-layout").is_file(), "it has no file `oci-layout`")
    entries = _json(path, path / "index.json").get("manifests")
    _expect(path, isinstance(entries, list), "its index.json has no list `manifests`")
    _expect(path, len(entries or []) == 1, f"its index.json names {len(entries or [])} images, and one is expected")
    manifests: dict[str, Blob] = {}
    blobs: dict[str, Blob] = {}
    _walk(path, (entries or [None])[0], manifests, blobs)
    return Layout(path, list(manifests)[-1], tuple(manifests.values()), tuple(blobs.values()))


def corrupted_blobs(layout: Layout) -> Iterator[tuple[Blob, str]]:
    """Hash every configuration and layer; yield those whose bytes have another digest, and that digest."""
    for blob in layout.blobs:
        if (found := hash_file(blob.path)) != blob.digest:
            yield blob, found


def hash_file(path: Path) -> str:
    """Return ``sha256:…`` of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(_READ):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _walk(path: Path, descriptor: Any, manifests: dict[str, Blob], blobs: dict[str, Blob]) -> None:
    """Collect what ``descriptor`` (of a manifest or an index) refers to, children first."""
    blob = _blob(path, descriptor)
    if blob.digest in manifests:
        return
    found = hash_file(blob.path)
    if found != blob.digest:
        raise PushError(
            f"digest mismatch in the image layout {path}: the manifest {blob.path} has the digest {found}, but its "
            f"name says {blob.digest}. The file was changed after the build; build the image again."
        )
    content = _json(path, blob.path)
    if content.get("mediaType", descriptor.get("mediaType")) in _INDEXES:
        for child in content.get("manifests", []):
            _walk(path, child, manifests, blobs)
    else:
        _expect(path, isinstance(content.get("layers"), list), f"the manifest {blob.digest} has no list `layers`")
        for part in (content.get("config"), *content["layers"]):
            found_blob = _blob(path, part)
            blobs.setdefault(found_blob.digest, found_blob)
    manifests[blob.digest] = blob


def _blob(path: Path, descriptor: Any) -> Blob:
    """Find the file of a descriptor and check its size."""
    digest, size = (descriptor.get("digest"), descriptor.get("size")) if isinstance(descriptor, dict) else (None, None)
    _expect(
        path,
        isinstance(digest, str) and bool(_DIGEST.fullmatch(digest)) and isinstance(size, int),
        f"a descriptor has no sha256 digest and size: {json.dumps(descriptor)[:200]}",
    )
    file = path / "blobs" / "sha256" / str(digest).removeprefix("sha256:")
    _expect(path, file.is_file(), f"the blob {digest} is missing")
    actual = file.stat().st_size
    if actual != size:
        raise PushError(
            f"digest mismatch in the image layout {path}: the blob {file} has {actual} bytes, but its descriptor says "
            f"{size}. The file was changed or cut off after the build; build the image again."
        )
    return Blob(str(digest), int(size), file)


def _json(path: Path, file: Path) -> dict[str, Any]:
    """Read a JSON object of the layout ``path``."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PushError(f"the image layout {path} cannot be read: {file}: {error}. Build the image again.") from error
    _expect(path, isinstance(content, dict), f"{file} is not a JSON object")
    return dict(content)


def _expect(path: Path, condition: bool, otherwise: str) -> None:
    """Refuse the layout unless ``condition`` holds."""
    if not condition:
        raise PushError(f"{path} is not a whole OCI image layout: {otherwise}. Build the image again.")
