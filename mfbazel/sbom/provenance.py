"""How the image of a step was made: an in-toto statement (v1) with SLSA provenance (v1), with in-toto-attestation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2 as slsa
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from mfbazel import __version__
from mfbazel.image.layout import Image
from mfbazel.lock.model import LockedWheel
from mfbazel.lock.origin import GIT, SDIST, Source, is_label
from mfbazel.sbom.inventory import (
    Base,
    Flow,
    Package,
    base_of,
    build_requirements,
    environment_of,
    images_of,
    packages_of,
    top_digest,
)
from mfbazel.sbom.purls import git_url, image_purl, sdist_purl, wheel_purl

BUILD_TYPE = "urn:mfbazel:build-type:step-image:1"
"""docs/sbom.md says what it means."""

_PREDICATE = "https://slsa.dev/provenance/v1"


def provenance_statement(
    flow: Flow, steps: Sequence[str], layout: Path, builder: str, built: datetime | None
) -> dict[str, Any]:
    """Return how the image of a step in ``layout``, of one or several platforms, was made, as JSON values.

    Args:
        steps: the step, and those whose images its image is derived from.
        builder: URI of who built.
        built: when the build finished (UTC); ``None``: not said.

    Raises:
        ImageError: the layout is damaged.
        SbomError: as :func:`~mfbazel.sbom.inventory.packages_of`.
    """
    images = images_of(layout)
    predicate = slsa.Provenance(
        build_definition=slsa.BuildDefinition(
            build_type=BUILD_TYPE,
            resolved_dependencies=[item.pb for item in _dependencies(flow, steps, images)],
        ),
        run_details=slsa.RunDetails(builder=slsa.Builder(id=builder, version={"mfbazel": __version__})),
    )
    predicate.build_definition.external_parameters.update(
        {
            "flow": flow.label,
            "step": steps[0],
            "environment": environment_of(flow, steps[0]),
            "platforms": [image.platform for image in images],
            "bases": sorted({base.reference or base.digest for base in _bases(images)}),
            **({"derivedFrom": list(steps[1:])} if steps[1:] else {}),
        }
    )
    if built:
        predicate.run_details.metadata.finished_on.FromDatetime(built)
    statement = Statement(_subjects(flow, layout, images), _PREDICATE, MessageToDict(predicate))
    statement.validate()
    document: dict[str, Any] = MessageToDict(statement.pb)
    return document


def _subjects(flow: Flow, layout: Path, images: Sequence[Image]) -> list[Any]:
    """Name what the layout is pulled by, first, and the image of each platform."""
    platforms = {image.digest: image.platform for image in images}
    digests = dict.fromkeys([top_digest(layout), *platforms])
    return [
        ResourceDescriptor(
            name=flow.name,
            uri=image_purl(flow.name, flow.repository, digest, platforms.get(digest, "")).to_string(),
            digest=_sha256(digest),
        ).pb
        for digest in digests
    ]


def _dependencies(flow: Flow, steps: Sequence[str], images: Sequence[Image]) -> Iterator[ResourceDescriptor]:
    """Yield the lock, the base, the wheels, and what wheels were built from and with; each once."""
    yield ResourceDescriptor(name=flow.lock_label, digest={"sha256": flow.lock_sha256})
    yield from map(_base, _bases(images))
    packages = {
        (package.wheel.name, package.wheel.sha256): (package, image.platform)
        for image in images
        for package in packages_of(flow, steps, image)
    }
    own = [packages[key] for key in sorted(packages)]
    for package, _ in own:
        yield _wheel(package.wheel)
    for source, wheel in _sources(package for package, _ in own).items():
        yield _source(wheel, source)
    seen = {sha256 for _, sha256 in packages}
    builders = {
        wheel.sha256: wheel for package, platform in own for wheel in build_requirements(flow, package, platform)
    }
    for wheel in sorted(builders.values(), key=lambda wheel: (wheel.name, wheel.sha256)):
        if wheel.sha256 not in seen:
            yield _wheel(wheel, {"role": "build requirement"})


def _bases(images: Sequence[Image]) -> list[Base]:
    return sorted({base for image in images if (base := base_of(image))}, key=lambda base: base.digest)


def _sources(packages: Iterator[Package]) -> Mapping[Source, LockedWheel]:
    found: dict[Source, LockedWheel] = {}
    for package in packages:
        if package.wheel.source and package.wheel.source.kind in (SDIST, GIT):
            found.setdefault(package.wheel.source, package.wheel)
    return found


def _base(base: Base) -> ResourceDescriptor:
    uri = image_purl(base.repository, base.repository, base.digest).to_string() if base.repository else ""
    return ResourceDescriptor(name=base.name, uri=uri, digest=_sha256(base.digest), annotations={"role": "base image"})


def _wheel(wheel: LockedWheel, annotations: Mapping[str, str] | None = None) -> ResourceDescriptor:
    """Describe a wheel; that of a target has no digest in a lock, only its label."""
    made = is_label(wheel.sha256)
    label = {"label": wheel.source.label} if wheel.source and wheel.source.label else {}
    return ResourceDescriptor(
        name=wheel.file,
        uri=wheel_purl(wheel).to_string(),
        digest=None if made else {"sha256": wheel.sha256},
        annotations={**(annotations or {}), **label},
    )


def _source(wheel: LockedWheel, source: Source) -> ResourceDescriptor:
    role = {"role": f"source of {wheel.name} {wheel.version}"}
    if source.kind == SDIST:
        uri = sdist_purl(wheel, source).to_string()
        return ResourceDescriptor(name=source.file, uri=uri, digest={"sha256": source.sha256}, annotations=role)
    return ResourceDescriptor(uri=git_url(source), digest={"gitCommit": source.commit}, annotations=role)


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
