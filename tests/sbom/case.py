"""A lock and an image to describe, and the documents that come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.image.layout import CONFIG, INDEX, MANIFEST, canonical, digest_of
from mfbazel.sbom import cli

LABEL = "//flows:demo"
AMD64, ARM64 = "linux/amd64", "linux/arm64"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE_DIGEST = digest_of(b"base")
BASE = {
    "org.opencontainers.image.base.digest": BASE_DIGEST,
    "org.opencontainers.image.base.name": "registry.example.com:5000/python:3.14",
}


def sha(text: str) -> str:
    """Return a sha256 that differs for every ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def wheel(name: str, version: str = "1.0", license: str | None = "MIT", **source: Any) -> dict[str, Any]:
    """Return an entry of ``wheels`` in flow.json."""
    entry: dict[str, Any] = {"name": name, "version": version, "file": f"{name}-{version}-py3-none-any.whl", "size": 9}
    entry |= {"modules": [name]} if license is None else {"modules": [name], "license": license}
    return {**entry, "source": source} if source else entry


def pins(entries: Mapping[str, Sequence[str]]) -> str:
    """Return a requirements file of ``name==version`` lines with who asked for each."""
    return "".join(
        f"{pin} \\\n    --hash=sha256:{sha(pin)}\n" + "".join(f"    # via {asker}\n" for asker in askers)
        for pin, askers in entries.items()
    )


@dataclass
class Case:
    """A flow with the steps ``start`` and ``train``, in ``directory``; tests change it before they :meth:`run`.

    Attributes:
        wheels: of the lock, by hash or label.
        steps: hashes by platform and step.
        texts: requirements files by step.
    """

    directory: Path
    wheels: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    layers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write_lock(self) -> Path:
        """Write the lock directory; return its flow.json."""
        lock = self.directory / "demo.lock"
        lock.mkdir(exist_ok=True)
        flow = {"name": "Demo", "steps": [{"name": n, "environment": n} for n in self.steps if n[0] != "_"]}
        environments = {name: {"file": f"{name}.txt", "wheels": wheels} for name, wheels in self.steps.items()}
        document = {
            "schema": 1,
            "flow": flow,
            "environments": environments,
            "wheels": self.wheels,
            "layers": self.layers,
        }
        (lock / "flow.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        for name, text in self.texts.items():
            (lock / f"{name}.txt").write_text(text, encoding="utf-8")
        return lock / "flow.json"

    def run(self, step: str, image: Path, *options: str) -> dict[str, Any]:
        """Make all documents; return them by format."""
        outputs = {name: self.directory / f"{name}.json" for name in ("spdx", "cyclonedx", "provenance")}
        arguments = ["--lock", str(self.write_lock()), "--label", LABEL, "--step", step, "--image", str(image)]
        arguments += [f"--{name}={path}" for name, path in outputs.items()]
        cli.main([*arguments, "--builder-id=https://ci.example.com/builder", *options])
        return {name: json.loads(path.read_bytes()) for name, path in outputs.items()}


def demo(directory: Path) -> Case:
    """Return a case of usual wheels: ``train`` has numpy and pandas, ``start`` only six."""
    names = {"numpy": "BSD-3-Clause AND MIT", "pandas": "BSD License", "six": "MIT"}
    case = Case(directory, {sha(f"{name}==1.0"): wheel(name, license=license) for name, license in names.items()})
    case.steps = {
        "start": {AMD64: [sha("six==1.0")]},
        "train": {AMD64: [sha(f"{name}==1.0") for name in names]},
    }
    case.texts = {
        "start": pins({"six==1.0": ["demo.py (@pypi)"]}),
        "train": pins({"numpy==1.0": ["pandas"], "pandas==1.0": ["demo.py (@pypi)"], "six==1.0": ["pandas"]}),
    }
    case.layers = {
        AMD64: [
            {"name": "packages-common", "wheels": [sha("six==1.0")], "environments": ["start", "train"]},
            {"name": "packages-of-train", "wheels": [], "environments": ["train"]},
        ]
    }
    return case


def add(case: Case, step: str, key: str, entry: dict[str, Any], platform: str = AMD64) -> None:
    """Lock another wheel for ``step``."""
    case.wheels[key] = entry
    case.steps[step].setdefault(platform, []).append(key)


def write_image(
    directory: Path,
    platforms: Sequence[str] = (AMD64,),
    annotations: Mapping[str, str] | None = None,
    history: Sequence[str] = (),
) -> Path:
    """Write an OCI layout without layers: a manifest, or an index over several platforms."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(document: dict[str, Any], kind: str) -> dict[str, Any]:
        data = canonical(document)
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    manifests = []
    for platform in platforms:
        fields = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        config = {**fields, "history": [{"created_by": line} for line in history], "rootfs": {}}
        manifest: dict[str, Any] = {"mediaType": MANIFEST, "schemaVersion": 2, "layers": []}
        manifest |= {"config": blob(config, CONFIG), "annotations": dict(annotations or {})}
        manifests.append({**blob(manifest, MANIFEST), "platform": fields})
    index = {"mediaType": INDEX, "schemaVersion": 2, "manifests": manifests}
    top = manifests[0] if len(manifests) == 1 else blob(index, INDEX)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    (directory / "index.json").write_bytes(canonical({"mediaType": INDEX, "schemaVersion": 2, "manifests": [top]}))
    return directory
