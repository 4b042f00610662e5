"""Documents about an image, as ``mfbazel.sbom`` makes them: SBOMs (SPDX, CycloneDX) and provenance (in-toto)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.registry.reference import DIGEST
from mfbazel.sign.errors import SignError

SPDX = "application/spdx+json"
CYCLONEDX = "application/vnd.cyclonedx+json"
IN_TOTO = "application/vnd.in-toto+json"
SBOMS = (SPDX, CYCLONEDX)
"""Media types of SBOMs."""

TITLES = {SPDX: "sbom.spdx.json", CYCLONEDX: "sbom.cdx.json", IN_TOTO: "provenance.json"}
"""File name by media type; it names no step, so that steps with equal documents share one referrer."""
NAMES = {SPDX: "SPDX", CYCLONEDX: "CycloneDX", IN_TOTO: "provenance"}
"""What people call a document, by media type."""

KINDS = {"spdx": SPDX, "cyclonedx": CYCLONEDX, "provenance": IN_TOTO}
"""Media type by the name that attributes and options have for it."""

PREDICATE_TYPE = "in-toto.io/predicate-type"
"""Annotation that says what an in-toto statement states; as BuildKit writes it."""


@dataclass(frozen=True)
class Document:
    """A document and what it says that it is about.

    Attributes:
        media_type: one of :data:`NAMES`.
        data: its bytes.
        content: the same, parsed.
        subjects: digests that it is about, the one that it belongs to first.
    """

    media_type: str
    data: bytes
    content: dict[str, Any]
    subjects: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The digest that it belongs to."""
        return self.subjects[0]

    @property
    def sha256(self) -> str:
        """``sha256:…`` of its bytes."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of the referrer that carries it."""
        title = {"org.opencontainers.image.title": TITLES[self.media_type]}
        predicate = self.content.get("predicateType")
        return {**title, PREDICATE_TYPE: str(predicate)} if self.media_type == IN_TOTO else title


def read_document(path: Path) -> Document:
    """Read the document ``path``.

    Raises:
        SignError: it cannot be read, or is none of the three kinds.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SignError(f"{path} cannot be read: {error.strerror}. Build the flow's `.sboms` target.") from error
    try:
        return parse_document(data)
    except ValueError as error:
        raise SignError(f"{path} cannot be attached: {error}. Build the flow's `.sboms` target again.") from None


def parse_document(data: bytes) -> Document:
    """Tell what kind of document ``data`` is, and what it is about.

    Raises:
        ValueError: it is none of the three, or does not say what it is about.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    media_type = _media_type(content) if isinstance(content, dict) else None
    if media_type is None:
        raise ValueError("it is no SPDX or CycloneDX document and no in-toto statement")
    try:
        subjects = tuple(dict.fromkeys(_SUBJECTS[media_type](content)))
    except (LookupError, TypeError, AttributeError, StopIteration):
        subjects = ()
    if not subjects or not all(DIGEST.fullmatch(subject) for subject in subjects):
        raise ValueError(f"it is a document of type {media_type} that does not say which image it is about")
    return Document(media_type, data, content, subjects)


def _media_type(content: dict[str, Any]) -> str | None:
    if "spdxVersion" in content:
        return SPDX
    if content.get("bomFormat") == "CycloneDX":
        return CYCLONEDX
    return IN_TOTO if str(content.get("_type", "")).startswith("https://in-toto.io/Statement/") else None


def _of_spdx(content: dict[str, Any]) -> list[str]:
    """Return the digest of the package that the document describes (SPDX 2.3, 11.1)."""
    described = next(
        item["relatedSpdxElement"] for item in content["relationships"] if item["relationshipType"] == "DESCRIBES"
    )
    package = next(item for item in content["packages"] if item["SPDXID"] == described)
    return [f"sha256:{item['checksumValue']}" for item in package["checksums"] if item["algorithm"] == "SHA256"]


def _of_cyclonedx(content: dict[str, Any]) -> list[str]:
    """Return the digest of the component that the document is about (CycloneDX 1.6, ``metadata.component``)."""
    hashes = content["metadata"]["component"]["hashes"]
    return [f"sha256:{item['content']}" for item in hashes if item["alg"] == "SHA-256"]


def _of_in_toto(content: dict[str, Any]) -> list[str]:
    """Return the digests of the subjects (in-toto attestation v1)."""
    return [f"sha256:{item['digest']['sha256']}" for item in content["subject"]]


_SUBJECTS = {SPDX: _of_spdx, CYCLONEDX: _of_cyclonedx, IN_TOTO: _of_in_toto}
