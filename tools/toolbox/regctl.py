#!/usr/bin/python3 -IS
"""Stand in for regctl where it is not installed: what rules_oci's ``oci_image`` calls, on OCI layout directories.

    regctl digest < FILE
    regctl blob get REFERENCE DIGEST
    regctl blob put REFERENCE < FILE
    regctl manifest get REFERENCE --format raw
    regctl manifest get REFERENCE --format {{.Config.Digest}}
    regctl manifest put REFERENCE < FILE

A reference is ``ocidir://DIRECTORY:TAG``; the tag is the annotation ``org.opencontainers.image.ref.name`` in
``index.json`` (OCI image-spec, image layout). As regctl does, ``manifest put`` removes what the manifest that it
replaces leaves unused.

It is called several times per layer: what it imports is kept small.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    Json = dict[str, Any]

TAG = "org.opencontainers.image.ref.name"
INDEX: Json = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
USAGE_ERROR = 2


class Layout:
    """An OCI layout directory and a tag in it; the directory and its files are made by the first write."""

    def __init__(self, reference: str) -> None:
        """Parse ``reference``; raises SystemExit for another form."""
        directory, separator, self.tag = reference.removeprefix("ocidir://").rpartition(":")
        if not reference.startswith("ocidir://") or not separator:
            raise SystemExit(f"error: {reference} is not of the form ocidir://DIRECTORY:TAG")
        self.directory = Path(directory)

    def blob(self, digest: str) -> Path:
        """Return the path of a blob."""
        return self.directory.joinpath("blobs", *digest.split(":"))

    def index(self) -> Json:
        """Return ``index.json``, an empty index where there is none."""
        path = self.directory / "index.json"
        document: Json = json.loads(path.read_bytes()) if path.exists() else dict(INDEX)
        return document

    def digest(self) -> str | None:
        """Return the digest of the tag's manifest, ``None`` where the tag is missing."""
        return next((entry["digest"] for entry in self.index()["manifests"] if self.names(entry)), None)

    def names(self, entry: Json) -> bool:
        """Return whether an entry of the index has the tag."""
        return bool((entry.get("annotations") or {}).get(TAG) == self.tag)

    def manifest(self) -> bytes:
        """Return the tag's manifest; raises SystemExit where the tag is missing."""
        digest = self.digest()
        if digest is None:
            raise SystemExit(f"error: {self.directory} has no manifest {self.tag}")
        return self.blob(digest).read_bytes()

    def put_blob(self, content: bytes) -> str:
        """Write a blob beside, rename it, and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        replace(self.blob(digest), content)
        return digest

    def put_manifest(self, content: bytes) -> None:
        """Write a manifest under the tag."""
        document: Json = json.loads(content)
        before = self.digest()
        digest = self.put_blob(content)
        unused = self.unused(before, digest, document)
        index = self.index()
        entry = {
            "mediaType": document["mediaType"],
            "digest": digest,
            "size": len(content),
            "annotations": {TAG: self.tag},
        }
        index["manifests"] = [other for other in index["manifests"] if not self.names(other)] + [entry]
        replace(self.directory / "index.json", json.dumps(index).encode())
        replace(self.directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for other in unused:
            self.blob(other).unlink(missing_ok=True)

    def unused(self, before: str | None, digest: str, document: Json) -> list[str]:
        """Return the manifest and the configuration that the manifest ``before`` had and ``document`` has not."""
        if before is None or before == digest:
            return []
        config = json.loads(self.blob(before).read_bytes()).get("config", {}).get("digest")
        return [before] + ([config] if config and config != document.get("config", {}).get("digest") else [])


def replace(path: Path, content: bytes) -> None:
    """Write a file beside and rename it; a link in its place is replaced, not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def digest_of(source: BinaryIO) -> str:
    """Return the digest of what is left to read."""
    digest = hashlib.sha256()
    while chunk := source.read(1 << 20):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def run(words: list[str], source: BinaryIO) -> bytes:
    """Run a command; returns what goes to standard output."""
    match words:
        case ["digest"]:
            return f"{digest_of(source)}\n".encode()
        case ["blob", "get", reference, digest]:
            return Layout(reference).blob(digest).read_bytes()
        case ["blob", "put", reference]:
            return f"{Layout(reference).put_blob(source.read())}\n".encode()
        case ["manifest", "get", reference, "--format", "raw"]:
            return Layout(reference).manifest()
        case ["manifest", "get", reference, "--format", "{{.Config.Digest}}"]:
            return f"{json.loads(Layout(reference).manifest())['config']['digest']}\n".encode()
        case ["manifest", "put", reference]:
            Layout(reference).put_manifest(source.read())
            return b""
    print(f"error: the toolbox's regctl does not know: {' '.join(words)}\n{__doc__}", file=sys.stderr)
    raise SystemExit(USAGE_ERROR)


if __name__ == "__main__":
    sys.stdout.buffer.write(run(sys.argv[1:], sys.stdin.buffer))
