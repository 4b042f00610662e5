"""Registries, images, keys and documents for tests of signing and verifying."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.registry import Client, Descriptor
from mfbazel.registry.client import INDEX, MANIFEST, digest_of
from tests.push import registries
from tests.registry.gate import Asked, Gate, Reply

EMPTY = b"{}"
OFFLINE = {"transparency_log": "false"}
"""Options of cosign without any service."""


@contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    """Run docker's registry on loopback; yield ``host:port``."""
    with registries.docker_registry(directory) as registry:
        yield registry.host


def push_image(client: Client, path: str, seed: str) -> Descriptor:
    """Push an image of one layer that differs for every ``seed``; return its manifest's descriptor."""
    client.put_blob(path, EMPTY)
    client.put_blob(path, seed.encode())
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(seed.encode())}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(EMPTY), "size": len(EMPTY)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [{**layer, "size": len(seed.encode())}],
    }
    data = json.dumps(manifest).encode()
    return Descriptor(client.put_manifest(path, digest_of(data), data), len(data), MANIFEST)


class ListingGate(Gate):
    """A registry with the referrers API: it keeps the list that the registry behind it does not keep."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._listed: dict[str, list[dict[str, Any]]] = {}
        self.rule = self._list

    def _list(self, asked: Asked) -> Reply | None:
        if "/referrers/" in asked.path:
            listed = self._listed.get(asked.path.rpartition("/")[2], [])
            body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
            return Reply(200, body, {"Content-Type": INDEX})
        if asked.method == "PUT" and "/manifests/" in asked.path and b'"subject"' in asked.body:
            return self._note(asked)
        return None

    def _note(self, asked: Asked) -> Reply:
        reply = self._pass_on(asked)
        content = json.loads(asked.body)
        subject = content["subject"]["digest"]
        entry = {"mediaType": MANIFEST, "digest": digest_of(asked.body), "size": len(asked.body)}
        entry |= {"artifactType": content.get("artifactType") or content["config"]["mediaType"]}
        listed = self._listed.setdefault(subject, [])
        if entry not in listed and reply.status == 201:
            listed.append(entry)
        return Reply(reply.status, reply.body, {**reply.headers, "OCI-Subject": subject})


def spdx(digest: str, packages: dict[str, str] | None = None) -> bytes:
    """Return as much of an SPDX document about ``digest`` as is looked at; ``packages`` are name and version."""
    image = {"SPDXID": "SPDXRef-image", "name": "image", "versionInfo": digest}
    image["checksums"] = [{"algorithm": "SHA256", "checksumValue": digest.removeprefix("sha256:")}]  # type: ignore[assignment]
    found = [
        {
            "SPDXID": f"SPDXRef-pypi-{name}",
            "name": name,
            "versionInfo": version,
            "checksums": [{"algorithm": "SHA256", "checksumValue": sha(name, version)}],
            "externalRefs": [{"referenceType": "purl", "referenceLocator": f"pkg:pypi/{name}@{version}"}],
        }
        for name, version in (packages or {}).items()
    ]
    describes = {
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-image",
        "spdxElementId": "SPDXRef-DOCUMENT",
    }
    content = {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "packages": [image, *found],
        "relationships": [describes],
    }
    return json.dumps(content).encode()


def sha(name: str, version: str) -> str:
    """Return the sha256 of a made-up wheel."""
    return hashlib.sha256(f"{name}=={version}".encode()).hexdigest()


@dataclass(frozen=True)
class Keys:
    """A key pair of cosign, whose password is in COSIGN_PASSWORD."""

    private: Path
    public: Path

    @property
    def options(self) -> dict[str, str]:
        """Options of the signer, without any service."""
        return {**OFFLINE, "key": str(self.private)}


def cosign_keys(directory: Path, name: str = "cosign", password: str = "") -> Keys:
    """Make a key pair of cosign."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", name],
        cwd=directory,
        env={**os.environ, "COSIGN_PASSWORD": password, "HOME": str(directory)},
        capture_output=True,
        check=True,
    )
    return Keys(directory / f"{name}.key", directory / f"{name}.pub")


def install_acme(site: Path) -> None:
    """Install the signer of a team that docs/signing.md shows, as it stands there, below ``site``; it is quick."""
    text = Path("docs/signing.md").read_text()
    info = site / "acme_signer-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_signer.py").write_text(text.split("```python\n")[1].split("```")[0])
    (info / "entry_points.txt").write_text(text.split("```ini\n")[1].split("```")[0])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-signer\nVersion: 1.0\n")


def notation_home(directory: Path, name: str = "mfbazel.test", trusts: Path | None = None) -> Path:
    """Make a configuration of notation with a test key; it trusts that key, or the one of ``trusts``."""
    directory.mkdir(parents=True)
    subprocess.run(
        ["notation", "cert", "generate-test", "--default", name],
        env={**os.environ, "XDG_CONFIG_HOME": str(directory)},
        capture_output=True,
        check=True,
    )
    store = directory / "notation" / "truststore"
    if trusts:
        shutil.rmtree(store)
        shutil.copytree(trusts / "notation" / "truststore", store)
    policy = {
        "name": "test",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": [f"ca:{name}"],
        "trustedIdentities": ["*"],
    }
    (directory / "notation" / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [policy]}))
    return directory
