"""The facts that all formats state: an image, its base, and the wheels that its lock puts into it."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mfbazel.image.layout import Image, Json, images, select_image, top_descriptor
from mfbazel.lock.document import FILE, Lock, read
from mfbazel.lock.model import LockedWheel
from mfbazel.lock.origin import is_label
from mfbazel.lock.requirements_txt import parse_annotations
from mfbazel.lock.wheels.licenses import UNKNOWN
from mfbazel.sbom.errors import SbomError

BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE_NAME = "org.opencontainers.image.base.name"

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:mfbazel:sbom")
_TAG = re.compile(r":[^/:]*$")
_LAYER_HISTORY = "packages "
"""How the line of a layer of wheels begins in the history of an image that the native assembler made."""


@dataclass(frozen=True)
class Flow:
    """The flow as it was locked.

    Attributes:
        label: ``//package:name``.
        repository: where its images are pushed to; empty where none is configured.
        lock: its lock.
        lock_sha256: of ``flow.json``.
    """

    label: str
    repository: str
    lock: Lock
    lock_sha256: str

    @property
    def name(self) -> str:
        """What images are called: the repository; without one, what the registry on this machine calls them."""
        return self.repository or self.label.removeprefix("//").removeprefix(":").replace(":", "/").lower()

    @property
    def lock_label(self) -> str:
        """The label of ``flow.json``."""
        return f"{self.label}.lock/{FILE}"


@dataclass(frozen=True)
class Base:
    """The image that a step image is built on.

    Attributes:
        digest: of its manifest or index.
        reference: what it is pulled by, ``repository:tag`` say; may be empty.
    """

    digest: str
    reference: str

    @property
    def repository(self) -> str:
        """The reference without tag and digest; empty where the reference is."""
        return _TAG.sub("", self.reference.partition("@")[0])

    @property
    def name(self) -> str:
        """What people call it."""
        return self.repository or "base image"


@dataclass(frozen=True)
class Package:
    """A ``wheel`` in an image.

    Attributes:
        license: what its metadata says; empty when that is nothing, or not in the lock.
        needs: names of the packages of the image that it requires.
        direct: whether the step requires it itself, or no other package is known to.
    """

    wheel: LockedWheel
    license: str
    needs: tuple[str, ...]
    direct: bool

    @property
    def sha256(self) -> str:
        """Of the wheel; empty when a target makes the wheel anew with every edit."""
        return "" if is_label(self.wheel.sha256) else self.wheel.sha256


@dataclass(frozen=True)
class Inventory:
    """What is in one image of one platform.

    Attributes:
        name: see :attr:`Flow.name`.
        repository: where it is pushed to, or empty.
        digest: of its manifest.
        platform: ``os/architecture[/variant]``.
        base: ``None`` where the image does not tell it.
        packages: ordered by name.
    """

    name: str
    repository: str
    digest: str
    platform: str
    base: Base | None
    packages: tuple[Package, ...]

    def id(self, format: str, created: datetime) -> uuid.UUID:
        """Return the id of the document in ``format``: equal for equal content, and for nothing else."""
        content = json.dumps([format, created.isoformat(), asdict(self)], sort_keys=True)
        return uuid.uuid5(_NAMESPACE, f"{self.digest} {hashlib.sha256(content.encode()).hexdigest()}")


def read_flow(flow_json: Path, label: str, repository: str) -> Flow:
    """Read the lock that ``flow_json`` belongs to.

    Raises:
        LockError: it is no lock of this version.
        SbomError: it is missing, or a lock without a flow.
    """
    lock = read(flow_json.parent, f"bazel run {label}.lock")
    if flow_json.name != FILE or lock is None:
        raise SbomError(f"{flow_json}: there is no lock. Make it with `bazel run {label}.lock`.")
    if not lock.document.get("flow"):
        raise SbomError(f"{flow_json} is a lock without a flow: it has no steps, and no images to describe.")
    return Flow(label, repository, lock, hashlib.sha256(flow_json.read_bytes()).hexdigest())


def environment_of(flow: Flow, step: str) -> str:
    """Return the name of the environment of ``step``.

    Raises:
        SbomError: the flow has no such step.
    """
    steps = {item["name"]: item["environment"] for item in flow.lock.document["flow"]["steps"]}
    if step not in steps:
        raise SbomError(f"--step {step}: {flow.label} has no such step; its lock has {', '.join(steps)}")
    return str(steps[step])


def take_inventory(flow: Flow, steps: Sequence[str], layout: Path, platform: str = "") -> Inventory:
    """Return what the image of a step in ``layout`` holds.

    Args:
        steps: the step, and those whose images its image is derived from.
        platform: which image of a layout with several.

    Raises:
        ImageError: the layout is damaged, or lacks the platform.
        SbomError: as :func:`packages_of`.
    """
    image = select_image(layout, platform or None)
    packages = packages_of(flow, steps, image)
    return Inventory(flow.name, flow.repository, image.digest, image.platform, base_of(image), packages)


def top_digest(layout: Path) -> str:
    """Return the digest that ``layout`` is pulled by: of a manifest, or of an index over several platforms."""
    return str(top_descriptor(layout)["digest"])


def images_of(layout: Path) -> list[Image]:
    """Return the images of ``layout`` in the order of their platforms."""
    return sorted(images(layout), key=lambda image: (image.platform, image.digest))


def base_of(image: Image) -> Base | None:
    """Return the base of ``image`` as its manifest's annotations tell it (OCI image specification, "Pre-Defined
    Annotation Keys")."""
    annotations: Mapping[str, str] = image.manifest.get("annotations") or {}
    digest = annotations.get(BASE_DIGEST)
    return Base(digest, annotations.get(BASE_NAME, "")) if digest else None


def packages_of(flow: Flow, steps: Sequence[str], image: Image) -> tuple[Package, ...]:
    """Return the packages that the lock puts into ``image``, ordered by name.

    Args:
        steps: the step, and those whose images its image is derived from.

    Raises:
        SbomError: the lock has no such step or platform, or two versions of a package for the image, or the image is
            that of another step.
    """
    platform = "/".join(image.platform.split("/")[:2])
    names = dict.fromkeys(environment_of(flow, step) for step in steps)
    wheels: dict[str, LockedWheel] = {}
    via: dict[str, set[str]] = {}
    for name in names:
        environment = flow.lock.environments[name]
        if platform not in environment["wheels"]:
            raise SbomError(
                f"{image.layout}: the image is for {image.platform}, and '{name}' of {flow.label} is locked for "
                f"{', '.join(sorted(environment['wheels']))} only. Add the platform to the attribute `platforms` and "
                f"run `bazel run {flow.label}.lock`."
            )
        asked = parse_annotations(flow.lock.texts.get(environment["file"], ""))
        for wheel in map(flow.lock.wheel, environment["wheels"][platform]):
            if wheels.setdefault(wheel.name, wheel) != wheel:
                raise SbomError(
                    f"step '{steps[0]}' of {flow.label} is derived from {', '.join(steps[1:])}, and has "
                    f"{wheels[wheel.name].file} where that has {wheel.file}: declare the same version for both."
                )
            via.setdefault(wheel.name, set()).update(asked.get((wheel.name, wheel.version), ()))
    _check_layers(flow, steps[0], names, platform, image)
    return tuple(_package(wheels[name], flow, via) for name in sorted(wheels))


def _package(wheel: LockedWheel, flow: Flow, via: Mapping[str, Collection[str]]) -> Package:
    license = flow.lock.document["wheels"][wheel.sha256].get("license", UNKNOWN)
    needs = tuple(sorted(name for name, askers in via.items() if wheel.name in askers and name != wheel.name))
    askers = via[wheel.name]
    return Package(wheel, "" if license == UNKNOWN else license, needs, not askers or not via.keys() >= set(askers))


def build_requirements(flow: Flow, package: Package, platform: str) -> Iterator[LockedWheel]:
    """Yield the wheels that ``package`` was built with, if it was built."""
    source = package.wheel.source
    if source and source.requires:
        wheels: Mapping[str, Sequence[str]] = flow.lock.environments[source.requires]["wheels"]
        for sha256 in wheels.get("/".join(platform.split("/")[:2]), ()):
            yield flow.lock.wheel(sha256)


def _check_layers(flow: Flow, step: str, environments: Collection[str], platform: str, image: Image) -> None:
    """Compare the layers that the lock plans with those that the image's history names.

    Only the native assembler writes their names; nothing can be said of other images.
    """
    history: Sequence[Json] = image.config.get("history") or ()
    lines = [str(entry.get("created_by") or "") for entry in history]
    has = {line.removeprefix(_LAYER_HISTORY) for line in lines if line.startswith(_LAYER_HISTORY)}
    plan: Sequence[Mapping[str, Any]] = flow.lock.document["layers"].get(platform, ())
    own = [layer for layer in plan if not set(environments).isdisjoint(layer["environments"])]
    lacks = [_layer_name(layer, flow) for layer in own if not has & _layer_names(layer, flow)]
    known = {name for layer in plan for name in _layer_names(layer, flow)}
    others = sorted(has & known - {name for layer in own for name in _layer_names(layer, flow)})
    if not has or not (lacks or others):
        return
    differences = [f"it lacks {', '.join(sorted(lacks))}"] if lacks else []
    differences += [f"it has {', '.join(others)} of other steps"] if others else []
    raise SbomError(
        f"{image.layout} is not the image of step '{step}' as {flow.lock_label} has it: "
        f"{', and '.join(differences)}. Give the image that `bazel build {flow.label}.{step}` makes."
    )


def _layer_name(layer: Mapping[str, Any], flow: Flow) -> str:
    """Return what history calls a layer of the plan: a wheel alone is built once, whatever locks call its layer."""
    if len(layer["wheels"]) == 1:
        wheel = flow.lock.document["wheels"][layer["wheels"][0]]
        return f"{wheel['name']}-{wheel['version']}"
    return str(layer["name"])


def _layer_names(layer: Mapping[str, Any], flow: Flow) -> set[str]:
    """Return all that history may call a layer: one that holds the same on several platforms is built once."""
    plans: Mapping[str, Sequence[Mapping[str, Any]]] = flow.lock.document["layers"]
    return {_layer_name(other, flow) for plan in plans.values() for other in plan if other["wheels"] == layer["wheels"]}
