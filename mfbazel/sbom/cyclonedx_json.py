"""An inventory as CycloneDX 1.6 (ECMA-424), with cyclonedx-python-lib."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from mfbazel import __version__
from mfbazel.lock.origin import GIT, SDIST, Source
from mfbazel.sbom.inventory import Base, Inventory, Package
from mfbazel.sbom.licenses import read_license
from mfbazel.sbom.purls import git_url, image_purl, wheel_purl

_DECLARED = LicenseAcknowledgement.DECLARED


def cyclonedx_document(inventory: Inventory, created: datetime) -> dict[str, Any]:
    """Return ``inventory`` as the JSON values of a CycloneDX 1.6 document, ``created`` then (UTC)."""
    purl = image_purl(inventory.name, inventory.repository, inventory.digest, inventory.platform)
    image = _container(inventory.name, inventory.digest, purl)
    base = _base(inventory.base) if inventory.base else None
    packages = {package.wheel.name: _package(package) for package in inventory.packages}
    bom = Bom(
        serial_number=inventory.id("cyclonedx", created),
        metadata=BomMetaData(
            timestamp=created,
            component=image,
            lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
            tools=ToolRepository(
                components=[Component(name="mfbazel", type=ComponentType.APPLICATION, version=__version__)]
            ),
        ),
        components=[*([base] if base else []), *packages.values()],
    )
    direct = [packages[package.wheel.name] for package in inventory.packages if package.direct]
    bom.register_dependency(image, [*([base] if base else []), *direct])
    for package in inventory.packages:
        bom.register_dependency(packages[package.wheel.name], [packages[name] for name in package.needs])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return document


def _base(base: Base) -> Component:
    purl = image_purl(base.repository, base.repository, base.digest) if base.repository else None
    return _container(base.name, base.digest, purl)


def _container(name: str, digest: str, purl: PackageURL | None) -> Component:
    return Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=digest,
        bom_ref=purl.to_string() if purl else digest,
        purl=purl,
        hashes=[_hash(digest.removeprefix("sha256:"))],
    )


def _package(package: Package) -> Component:
    wheel, purl = package.wheel, wheel_purl(package.wheel)
    return Component(
        type=ComponentType.LIBRARY,
        name=wheel.name,
        version=wheel.version,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[_hash(package.sha256)] if package.sha256 else [],
        licenses=list(_licenses(package.license)),
        external_references=_references(wheel.source) if wheel.source else [],
        properties=list(_properties(package)),
    )


def _hash(sha256: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _licenses(text: str) -> Iterator[DisjunctiveLicense | LicenseExpression]:
    license = read_license(text)
    if license is None:
        return
    if license.expression is None:
        yield DisjunctiveLicense(name=text, acknowledgement=_DECLARED)
    elif is_supported_id(str(license.expression)):
        yield DisjunctiveLicense(id=str(license.expression), acknowledgement=_DECLARED)
    else:
        yield LicenseExpression(str(license.expression), acknowledgement=_DECLARED)


def _references(source: Source) -> list[ExternalReference]:
    """Return what a wheel was built from; of an sdist the lock knows the file name, and no place."""
    if source.kind == SDIST:
        type, url, hashes = ExternalReferenceType.SOURCE_DISTRIBUTION, quote(source.file), [_hash(source.sha256)]
    elif source.kind == GIT:
        type, url, hashes = ExternalReferenceType.VCS, git_url(source), []
    else:
        return []
    return [ExternalReference(type=type, url=XsUri(url), hashes=hashes)]


def _properties(package: Package) -> Iterator[Property]:
    wheel = package.wheel
    if wheel.file:
        yield Property(name="mfbazel:wheel:file", value=wheel.file)
    if wheel.source and wheel.source.label:
        yield Property(name="mfbazel:wheel:label", value=wheel.source.label)
