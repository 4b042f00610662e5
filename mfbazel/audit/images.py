"""The images of a flow's steps: what in their layers should not be there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mfbazel.audit.errors import AuditError
from mfbazel.audit.layer import SECRET, LayerContent, read_layer

_MOST_INDEXES = 4


@dataclass(frozen=True)
class ImageLayer:
    """A layer of an image; ``history`` is what the image says how it was made."""

    blob: Path
    digest: str
    media_type: str
    size: int
    history: str


@dataclass(frozen=True)
class Image:
    """One platform's image; ``workdir`` as its configuration has it."""

    layers: tuple[ImageLayer, ...]
    workdir: str


@dataclass(frozen=True)
class LayerFinding:
    """Something that should not be in a layer.

    Attributes:
        kind: ``secret``, ``setuid`` or ``world-writable``.
        path: absolute.
        what: more of it; never the secret.
        layer: digest of the layer.
        origin: ``name==version`` of the wheel that the file is from, else what the image says of the layer.
        base: whether the layer is the base image's.
        steps: those whose images have the layer.
        exempt: the entry of the policy that allows it, ``None`` where none does.
    """

    kind: str
    path: str
    what: str
    layer: str
    origin: str
    base: bool
    steps: tuple[str, ...]
    exempt: str | None = None

    @property
    def counts(self) -> bool:
        """Whether it is to be acted on: what the distribution of a base has setuid or writable is only listed."""
        return self.exempt is None and not (self.base and self.kind != SECRET)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "counts": self.counts}


@dataclass(frozen=True)
class LayerAudit:
    """What was looked at, and what was found. ``size`` is the sum of the layers' blobs in bytes."""

    layers: int
    size: int
    findings: tuple[LayerFinding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"count": self.layers, "size": self.size, "findings": [item.to_json() for item in self.findings]}


def read_images(layout: Path) -> list[Image]:
    """Read the images, of one platform or several, that an OCI layout directory holds.

    Raises:
        AuditError: it is no such layout, or not whole.
    """
    try:
        return [image for entry in _json(layout / "index.json")["manifests"] for image in _images(layout, entry)]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise AuditError(f"{layout} is not a whole OCI image layout: {error!r}. Build the image again.") from error


def audit_layers(
    steps: Mapping[str, Path], exempt: Sequence[str], progress: Callable[[int, int], None] = lambda *_: None
) -> LayerAudit:
    """Read every layer of the images once.

    Args:
        steps: the layout of each step's image.
        exempt: entries of the policy: paths, with wildcards, that somebody looked at.
        progress: told bytes that were read, and all of them.

    Raises:
        AuditError: a layout or a layer cannot be read, or is damaged.
    """
    images = [(step, image) for step, layout in steps.items() for image in read_images(layout)]
    layers = {layer.digest: layer for _, image in images for layer in image.layers}
    users: dict[str, dict[str, None]] = {}
    for step, image in images:
        for layer in image.layers:
            users.setdefault(layer.digest, {})[step] = None
    total, done = sum(layer.size for layer in layers.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    workdirs = {image.workdir for _, image in images}
    contents = {
        digest: read_layer(layer.blob, digest, layer.media_type, workdirs, advance) for digest, layer in layers.items()
    }
    bases = _bases([image for _, image in images], contents)
    findings = [
        LayerFinding(
            found.kind,
            found.path,
            found.what,
            digest,
            found.distribution or layers[digest].history,
            digest in bases,
            tuple(users[digest]),
            next((entry for entry in exempt if takes(entry, found.path)), None),
        )
        for digest, content in contents.items()
        for found in content.found
    ]
    findings.sort(key=lambda item: (not item.counts, item.kind, item.path, item.layer))
    return LayerAudit(len(layers), total, tuple(findings))


def takes(entry: str, path: str) -> bool:
    """Say whether an entry of the policy means ``path``: the same, or one below it; ``**`` stands for directories."""
    wanted, found = entry.strip("/").split("/"), path.strip("/").split("/")
    return _takes(wanted, found)


def _takes(wanted: Sequence[str], found: Sequence[str]) -> bool:
    if not wanted:
        return True
    if wanted[0] == "**":
        return any(_takes(wanted[1:], found[start:]) for start in range(len(found)))
    return bool(found) and fnmatchcase(found[0], wanted[0]) and _takes(wanted[1:], found[1:])


def _bases(images: Iterable[Image], contents: Mapping[str, LayerContent]) -> set[str]:
    """Return the layers that are below the virtual environment's in every image that has them."""
    below: set[str] = set()
    above: set[str] = set()
    for image in images:
        digests = [layer.digest for layer in image.layers]
        made = next((at for at, digest in enumerate(digests) if contents[digest].environment), len(digests))
        below |= set(digests[:made])
        above |= set(digests[made:])
    return below - above


def _images(layout: Path, descriptor: Mapping[str, Any], depth: int = 0) -> Iterator[Image]:
    content = _json(_blob(layout, descriptor), descriptor)
    if "manifests" in content:
        if depth == _MOST_INDEXES:
            raise ValueError(f"more than {_MOST_INDEXES} indexes, one in the other")
        for entry in content["manifests"]:
            yield from _images(layout, entry, depth + 1)
        return
    config = _json(_blob(layout, content["config"]), content["config"])
    said = [str(entry.get("created_by", "")) for entry in config.get("history") or () if not entry.get("empty_layer")]
    said += [""] * len(content["layers"])
    layers = tuple(
        ImageLayer(
            _blob(layout, layer),
            str(layer["digest"]),
            str(layer["mediaType"]),
            int(layer["size"]),
            " ".join(said[at].split())[:100],
        )
        for at, layer in enumerate(content["layers"])
    )
    yield Image(layers, str((config.get("config") or {}).get("WorkingDir") or "/"))


def _blob(layout: Path, descriptor: Mapping[str, Any]) -> Path:
    algorithm, _, name = str(descriptor["digest"]).partition(":")
    if algorithm != "sha256" or len(name) != 64 or not name.isalnum():
        raise ValueError(f"no sha256 digest: {descriptor['digest']!r}")
    return layout / "blobs" / algorithm / name


def _json(path: Path, descriptor: Mapping[str, Any] | None = None) -> dict[str, Any]:
    data = path.read_bytes()
    if descriptor and f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor["digest"]:
        raise ValueError(f"{path} was changed: its digest is another")
    content = json.loads(data)
    if not isinstance(content, dict):
        raise TypeError(f"{path} is not a JSON object")
    return content
