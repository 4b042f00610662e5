"""What is attached to an image: documents that belong to it, and the packages that they name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mfbazel.registry import Client, RegistryError
from mfbazel.registry.reference import DIGEST
from mfbazel.sign import Document, list_referrers, parse_document
from mfbazel.sign.documents import CYCLONEDX, IN_TOTO, NAMES, SPDX
from mfbazel.verify.locked import Packages, gather

PROVENANCE = "https://slsa.dev/provenance/v1"
"""What an in-toto statement states that is provenance."""

_PYPI = "pkg:pypi/"
_LARGEST = 64 << 20  # bytes of a document


@dataclass(frozen=True)
class Attached:
    """A referrer of a manifest.

    Attributes:
        digest: of the referring manifest.
        media_type: what it says that it carries.
        document: that; ``None`` when it is damaged.
        problem: why it does not count; empty for a document that belongs to the manifest.
    """

    digest: str
    media_type: str
    document: Document | None
    problem: str = ""


def read_attached(client: Client, path: str, subject: str) -> list[Attached]:
    """Return the documents that refer to the manifest ``subject``; other referrers, such as signatures, are left out.

    Raises:
        RegistryError: the registry did not answer, or refused.
    """
    listed = list_referrers(client, path, subject).descriptors
    named = dict.fromkeys(str(item.get("digest")) for item in listed if item.get("artifactType") in (*NAMES, None))
    digests = [digest for digest in named if DIGEST.fullmatch(digest)]  # of anything else nobody knows what it is
    return [found for digest in digests for found in _read(client, path, subject, digest)]


def _read(client: Client, path: str, subject: str, digest: str) -> Iterator[Attached]:
    try:
        manifest: Any = json.loads(client.get_manifest(path, digest).data)
        media_type, about = str(manifest["artifactType"]), str(manifest["subject"]["digest"])
        layer = str(manifest["layers"][0]["digest"])
    except RegistryError as error:
        yield Attached(digest, "", None, str(error))
        return
    except (ValueError, LookupError, TypeError, RecursionError):
        return  # somebody else's
    if media_type not in NAMES or not DIGEST.fullmatch(layer):
        return
    if about != subject:
        yield Attached(digest, media_type, None, f"it refers to {about}")
        return
    try:
        document = parse_document(client.get_blob(path, layer, _LARGEST))
    except (RegistryError, ValueError) as error:
        yield Attached(digest, media_type, None, str(error))
        return
    problem = "" if subject in document.subjects else f"it is about {document.subject}"
    if document.media_type != media_type:
        problem = f"it is {NAMES[document.media_type]}, and attached as {media_type}"
    yield Attached(digest, media_type, document, problem)


def packages_of(document: Document) -> Packages:
    """Return the Python packages that a document names.

    Raises:
        ValueError: it is not made as its kind says.
    """
    try:
        return gather(_READERS[document.media_type](document.content))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"its packages cannot be read ({error!r})") from None


def _of_spdx(content: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    for package in content.get("packages", ()):
        for reference in package.get("externalRefs", ()):
            if reference["referenceType"] == "purl" and reference["referenceLocator"].startswith(_PYPI):
                sums = {item["algorithm"]: item["checksumValue"] for item in package.get("checksums", ())}
                yield _named(reference["referenceLocator"]), sums.get("SHA256", "")


def _of_cyclonedx(content: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    for component in content.get("components", ()):
        if component.get("purl", "").startswith(_PYPI):
            sums = {item["alg"]: item["content"] for item in component.get("hashes", ())}
            yield _named(component["purl"]), sums.get("SHA-256", "")


def _of_provenance(content: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    for dependency in content["predicate"]["buildDefinition"].get("resolvedDependencies", ()):
        # Bases, sources and build requirements say their role; wheels of the image have none.
        if dependency.get("uri", "").startswith(_PYPI) and "role" not in dependency.get("annotations", {}):
            yield _named(dependency["uri"]), dependency.get("digest", {}).get("sha256", "")


_READERS = {SPDX: _of_spdx, CYCLONEDX: _of_cyclonedx, IN_TOTO: _of_provenance}


def _named(purl: str) -> tuple[str, str]:
    name, _, version = purl.removeprefix(_PYPI).partition("?")[0].partition("#")[0].partition("@")
    return unquote(name), unquote(version)


def step_of(document: Document | None) -> str:
    """Return the step that a provenance statement is about; empty where it does not say."""
    try:
        return str((document.content if document else {})["predicate"]["buildDefinition"]["externalParameters"]["step"])
    except (LookupError, TypeError):
        return ""
