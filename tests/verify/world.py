"""A flow that is pushed, attached and signed, with the documents that ``mfbazel.sbom`` makes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mfbazel.lock_hash import environments_hash
from mfbazel.push import read_layout
from mfbazel.registry import Client, Descriptor, publish_images
from mfbazel.registry.client import MANIFEST
from mfbazel.sign import Item, Signing, Target, UnsignedError, attach, parse_document
from mfbazel.verify.check import Check, Status
from mfbazel.verify.checks import verify
from mfbazel.verify.deployed import read_deployed
from mfbazel.verify.locked import read_lock
from mfbazel.verify.wish import Wish
from tests.sbom.case import AMD64, BASE, LABEL, Case, demo, sha, write_image

KINDS = ("spdx", "cyclonedx", "provenance")
NUMPY, NUMPY_ELSEWHERE = sha("numpy==1.0"), sha("numpy==1.0 for another platform")
"""Wheels with native code differ for every platform."""

_MADE: dict[tuple[str, ...], dict[str, Any]] = {}


class Notes:
    """A signer that remembers what it signed; it stands in for a program where that does not matter."""

    def __init__(self) -> None:
        self.signed: set[str] = set()

    def sign(self, target: Target) -> None:
        """Note it."""
        self.signed.add(target.reference)

    def verify(self, target: Target) -> str:
        """Look whether it is noted."""
        if target.reference not in self.signed:
            raise UnsignedError(f"{target.reference} is not signed.")
        return "the notes"


@dataclass
class World:
    """The flow of :func:`tests.sbom.case.demo`, with the steps ``start`` and ``train``, each in an image of its own.

    Attributes:
        directory: scratch.
        host: the registry.
        path: the repository.
        platforms: of the images.
        signing: who signs.
        digests: of the steps' images.
    """

    directory: Path
    host: str
    path: str = "flows/demo"
    platforms: Sequence[str] = (AMD64,)
    signing: Signing = field(default_factory=lambda: Signing("notes", {}, Notes()))
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.case: Case = demo(self.directory)
        for platform in self.platforms[1:]:
            self.case.layers[platform] = self.case.layers[AMD64]
            for wheels in self.case.steps.values():
                wheels[platform] = [NUMPY_ELSEWHERE if key == NUMPY else key for key in wheels[AMD64]]
            self.case.wheels[NUMPY_ELSEWHERE] = self.case.wheels[NUMPY]

    @cached_property
    def client(self) -> Client:
        """A client of the registry."""
        return Client(self.host)

    @property
    def lock(self) -> Path:
        """The lock's flow.json."""
        return self.directory / "demo.lock" / "flow.json"

    @property
    def images(self) -> Path:
        """The record of the push."""
        return self.directory / "images.json"

    def push(self, kinds: Sequence[str] = KINDS) -> World:
        """Push, attach and sign everything; record and publish it."""
        items: list[Item] = []
        for step in ("start", "train"):
            layout = read_layout(write_image(self.directory / step, self.platforms, {**BASE, "step": step}))
            for blob in layout.blobs:
                self.client.put_blob(self.path, blob.path.read_bytes())
            for manifest in layout.manifests:
                data = manifest.path.read_bytes()
                kind = json.loads(data)["mediaType"]
                self.client.put_manifest(self.path, manifest.digest, data, kind)
            self.digests[step] = layout.digest
            documents = [document for platform in self.platforms for document in self._documents(step, platform, kinds)]
            for manifest in layout.manifests:
                data = manifest.path.read_bytes()
                about = {document.sha256: document for document in documents if document.subject == manifest.digest}
                subject = Descriptor(manifest.digest, len(data), json.loads(data)["mediaType"])
                items.append(
                    Item(f"the image of {step}", subject, tuple(about.values()), manifest.digest == layout.digest)
                )
        self._finish_lock()
        attach(self.client, self.path, items, self.signing)
        self.record()
        return self

    def _documents(self, step: str, platform: str, kinds: Sequence[str]) -> list[Any]:
        made = self.documents(step, platform)
        return [parse_document(json.dumps(made[kind]).encode()) for kind in kinds]

    def documents(self, step: str, platform: str = AMD64) -> dict[str, Any]:
        """Return what ``mfbazel.sbom`` makes of a step's image, by kind."""
        key = (step, platform, *self.platforms)
        if key not in _MADE:  # they are the same in all tests
            _MADE[key] = self.case.run(step, self.directory / step, "--platform", platform)
        return copy.deepcopy(_MADE[key])

    def _finish_lock(self) -> None:
        document = json.loads(self.case.write_lock().read_text())
        for environment in document["environments"].values():
            environment["python"] = "3.14"
        self.lock.write_text(json.dumps(document))

    def record(self, published: bool = True) -> None:
        """Write the images.json of the push; publish and sign it."""
        environments = json.loads(self.lock.read_text())["environments"]
        steps = {
            step: {
                "digest": digest,
                "image": f"{self.host}/{self.path}@{digest}",
                "lock": environments_hash(environments, [step]),
            }
            for step, digest in self.digests.items()
        }
        content = {
            "schema": 1,
            "flow": "Demo",
            "label": LABEL,
            "repository": f"{self.host}/{self.path}",
            "steps": steps,
        }
        self.images.write_text(json.dumps(content))
        if published:
            done = publish_images(self.client, self.path, ["demo.images"], self.images.read_bytes())
            self.signing.signer.sign(Target(f"{self.host}/{self.path}@{done.digest}", plain_http=True))

    def checks(self, source: str = "", expected: Sequence[str] = KINDS, **wish: Any) -> dict[tuple[str, str], Check]:
        """Verify; return the checks by step and name."""
        deployed = read_deployed(source or str(self.images), insecure=False, timeout=20)
        given: Mapping[str, Any] = {"signing": self.signing, "locked": read_lock(self.lock, {}), **wish}
        found = verify(deployed, Wish(expected=expected, **given), lambda host: Client(host, timeout=20))
        return {(check.step, check.name): check for check in found}

    def replace_attached(self, digest: str, artifact_type: str, data: bytes) -> None:
        """Do as who may write to the registry: list only a document of their own for a manifest."""
        manifest = self.client.get_manifest(self.path, digest)
        subject = Descriptor(digest, len(manifest.data), MANIFEST)
        tag = digest.replace(":", "-")
        listed = json.loads(self.client.get_manifest(self.path, tag).data)
        listed["manifests"] = [item for item in listed["manifests"] if item.get("artifactType") != artifact_type]
        self.client.put_manifest(self.path, tag, json.dumps(listed).encode(), listed["mediaType"])
        attach(self.client, self.path, [Item("forged", subject, (parse_document(data),))], None)


def failed(checks: Mapping[tuple[str, str], Check]) -> dict[tuple[str, str], str]:
    """Return the texts of the checks that failed."""
    return {key: check.text for key, check in checks.items() if check.status is Status.FAILED}
