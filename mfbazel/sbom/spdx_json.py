"""An inventory as SPDX 2.3, with spdx-tools."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from license_expression import LicenseSymbol
from packageurl import PackageURL
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.model import Package as SpdxPackage
from spdx_tools.spdx.validation.uri_validators import validate_download_location

from mfbazel import __version__
from mfbazel.lock.origin import GIT, SDIST, Source
from mfbazel.sbom.inventory import Base, Inventory, Package
from mfbazel.sbom.licenses import License, read_license
from mfbazel.sbom.purls import git_url, image_purl, wheel_purl

_DOCUMENT, _IMAGE, _BASE = "SPDXRef-DOCUMENT", "SPDXRef-image", "SPDXRef-base"
_PREFIX = "https://spdx.org/spdxdocs"
"""Where the namespaces lie of those who have no website of their own for them (SPDX 2.3, 6.5.2); nothing is there."""

_COMMENT = (
    "Lists the Python packages that the flow's lock puts into the image, and the base image as a whole. What the base "
    "image holds, and first-party files, are not listed."
)
_NOBODY = SpdxNoAssertion()


def spdx_document(inventory: Inventory, created: datetime) -> dict[str, Any]:
    """Return ``inventory`` as the JSON values of an SPDX 2.3 document, ``created`` then (UTC)."""
    licenses = [license for package in inventory.packages if (license := read_license(package.license))]
    document = Document(
        _creation(inventory, created),
        packages=[_image(inventory), *_base(inventory.base), *map(_package, inventory.packages)],
        relationships=list(_relationships(inventory)),
        extracted_licensing_info=_unlisted(licenses),
    )
    converted: dict[str, Any] = DocumentConverter().convert(document)
    for package in converted["packages"]:
        for reference in package.get("externalRefs", ()):
            # Both spellings are read everywhere; the JSON schema of 2.3 as it was first published knows only this one.
            reference["referenceCategory"] = reference["referenceCategory"].replace("_", "-")
    return converted


def _creation(inventory: Inventory, created: datetime) -> CreationInfo:
    name = inventory.name.rpartition("/")[2]
    return CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=f"{inventory.name}@{inventory.digest}",
        document_namespace=f"{_PREFIX}/{name}-{inventory.id('spdx', created)}",
        creators=[Actor(ActorType.TOOL, f"mfbazel-{__version__}")],
        created=created,
        document_comment=_COMMENT,
    )


def _image(inventory: Inventory) -> SpdxPackage:
    purl = image_purl(inventory.name, inventory.repository, inventory.digest, inventory.platform)
    return _container(_IMAGE, inventory.name, inventory.digest, purl)


def _base(base: Base | None) -> list[SpdxPackage]:
    if base is None:
        return []
    purl = image_purl(base.repository, base.repository, base.digest) if base.repository else None
    return [_container(_BASE, base.name, base.digest, purl)]


def _container(id: str, name: str, digest: str, purl: PackageURL | None) -> SpdxPackage:
    return SpdxPackage(
        spdx_id=id,
        name=name,
        version=digest,
        download_location=_NOBODY,
        supplier=_NOBODY,
        files_analyzed=False,
        checksums=[_checksum(digest.removeprefix("sha256:"))],
        license_concluded=_NOBODY,
        license_declared=_NOBODY,
        copyright_text=_NOBODY,
        external_references=_purl_reference(purl),
        primary_package_purpose=PackagePurpose.CONTAINER,
    )


def _package(package: Package) -> SpdxPackage:
    wheel = package.wheel
    license = read_license(package.license)
    return SpdxPackage(
        spdx_id=_id(wheel.name),
        name=wheel.name,
        version=wheel.version,
        file_name=wheel.file or None,
        download_location=_location(wheel.source) or _NOBODY,
        supplier=_NOBODY,
        files_analyzed=False,
        checksums=[_checksum(package.sha256)] if package.sha256 else [],
        source_info=_source_info(wheel.source) if wheel.source else None,
        license_concluded=_NOBODY,
        license_declared=_declared(license) if license else _NOBODY,
        copyright_text=_NOBODY,
        external_references=_purl_reference(wheel_purl(wheel)),
        primary_package_purpose=PackagePurpose.LIBRARY,
    )


def _id(name: str) -> str:
    return f"SPDXRef-pypi-{name}"


def _checksum(sha256: str) -> Checksum:
    return Checksum(ChecksumAlgorithm.SHA256, sha256)


def _purl_reference(purl: PackageURL | None) -> list[ExternalPackageRef]:
    if purl is None:
        return []
    return [ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", purl.to_string())]


def _location(source: Source | None) -> str:
    """Return where a commit can be had, where SPDX can say it (7.7); of the others a lock knows no place."""
    url = git_url(source) if source and source.kind == GIT else ""
    return url if url and not validate_download_location(url) else ""


def _source_info(source: Source) -> str:
    if source.kind == SDIST:
        return f"built from the sdist {source.file}, sha256:{source.sha256}"
    return (
        f"built from {git_url(source)}" if source.kind == GIT else f"the wheel {source.label} of the flow's workspace"
    )


def _declared(license: License) -> Any:
    return license.expression if license.expression is not None else LicenseSymbol(license.identifier)


def _unlisted(licenses: list[License]) -> list[ExtractedLicensingInfo]:
    """Declare every ``LicenseRef-…`` that the packages use (SPDX 2.3, 10)."""
    texts = {license.identifier: license.text for license in licenses if license.expression is None}
    named = {reference for license in licenses for reference in license.references}
    found = {
        **{
            reference: ExtractedLicensingInfo(
                reference, f"{reference}: the wheel names this licence, and has its text", reference
            )
            for reference in named
        },
        **{
            identifier: ExtractedLicensingInfo(identifier, text, text, comment="as the wheel's metadata calls it")
            for identifier, text in texts.items()
        },
    }
    return [found[identifier] for identifier in sorted(found)]


def _relationships(inventory: Inventory) -> Iterator[Relationship]:
    yield Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)
    if inventory.base:
        yield Relationship(_IMAGE, RelationshipType.DESCENDANT_OF, _BASE)
    for package in inventory.packages:
        own = _id(package.wheel.name)
        yield Relationship(_IMAGE, RelationshipType.CONTAINS, own)
        if package.direct:
            yield Relationship(_IMAGE, RelationshipType.DEPENDS_ON, own)
        for name in package.needs:
            yield Relationship(own, RelationshipType.DEPENDS_ON, _id(name))
