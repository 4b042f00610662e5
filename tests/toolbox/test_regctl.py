"""The stand-in for regctl, called as rules_oci calls it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REGCTL = Path(__file__).parents[2] / "tools" / "toolbox" / "regctl.py"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def regctl(*words: str, stdin: bytes = b"") -> bytes:
    """Run regctl; returns its output."""
    command = [sys.executable, "-IS", str(REGCTL), *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def sha256(content: bytes) -> str:
    """Return the digest of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def put_image(layout: Path, config: bytes) -> tuple[str, str]:
    """Put a configuration and a manifest that names it; returns their digests."""
    reference = f"ocidir://{layout}:intermediate"
    digest = regctl("blob", "put", reference, stdin=config).decode().strip()
    manifest = json.dumps({"mediaType": MANIFEST, "config": {"digest": digest}, "layers": []}).encode()
    regctl("manifest", "put", reference, stdin=manifest)
    return digest, sha256(manifest)


def blobs(layout: Path) -> set[str]:
    """Return the digests of the blobs in a layout."""
    return {f"sha256:{path.name}" for path in (layout / "blobs" / "sha256").iterdir()}


def index(layout: Path) -> dict[str, Any]:
    """Return index.json of a layout."""
    document: dict[str, Any] = json.loads((layout / "index.json").read_text())
    return document


def test_digest_is_that_of_the_standard_input() -> None:
    assert regctl("digest", stdin=b"layer").decode() == sha256(b"layer") + "\n"


def test_an_image_put_is_read_back(tmp_path: Path) -> None:
    layout = tmp_path / "a:b"
    reference = f"ocidir://{layout}:intermediate"
    config, manifest = put_image(layout, b'{"os": "linux"}')
    assert regctl("manifest", "get", reference, "--format", "{{.Config.Digest}}").decode() == config + "\n"
    assert regctl("blob", "get", reference, config) == b'{"os": "linux"}'
    assert sha256(regctl("manifest", "get", reference, "--format", "raw")) == manifest
    assert [entry["digest"] for entry in index(layout)["manifests"]] == [manifest]
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_a_replaced_manifest_leaves_nothing_behind(tmp_path: Path) -> None:
    put_image(tmp_path, b"{}")
    layer = regctl("blob", "put", f"ocidir://{tmp_path}:intermediate", stdin=b"layer").decode().strip()
    config, manifest = put_image(tmp_path, b'{"os": "linux"}')
    assert blobs(tmp_path) == {config, manifest, layer}
    assert len(index(tmp_path)["manifests"]) == 1


def test_the_same_manifest_again_stays(tmp_path: Path) -> None:
    put_image(tmp_path, b"{}")
    config, manifest = put_image(tmp_path, b"{}")
    assert blobs(tmp_path) == {config, manifest}


def test_manifests_of_other_tags_stay(tmp_path: Path) -> None:
    put_image(tmp_path, b"{}")
    document = index(tmp_path)
    document["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "other"}
    (tmp_path / "index.json").write_text(json.dumps(document))
    _, manifest = put_image(tmp_path, b'{"os": "linux"}')
    assert [entry["digest"] for entry in index(tmp_path)["manifests"]] == [
        document["manifests"][0]["digest"],
        manifest,
    ]


def test_a_linked_blob_of_the_base_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"of the base")
    link = tmp_path / "layout" / "blobs" / "sha256" / sha256(b"{}").removeprefix("sha256:")
    link.parent.mkdir(parents=True)
    link.symlink_to(base)
    regctl("blob", "put", f"ocidir://{tmp_path / 'layout'}:intermediate", stdin=b"{}")
    assert base.read_bytes() == b"of the base"
    assert link.read_bytes() == b"{}"


def refused(*words: str) -> tuple[int, str]:
    """Run regctl; returns its exit code and what it says."""
    result = subprocess.run([sys.executable, "-IS", str(REGCTL), *words], capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def test_a_missing_tag_is_named(tmp_path: Path) -> None:
    told = refused("manifest", "get", f"ocidir://{tmp_path}:none", "--format", "raw")
    assert told == (1, f"error: {tmp_path} has no manifest none\n")


def test_a_reference_into_a_registry_is_refused() -> None:
    told = refused("blob", "put", "localhost/a:b")
    assert told == (1, "error: localhost/a:b is not of the form ocidir://DIRECTORY:TAG\n")


def test_what_it_cannot_do_is_told() -> None:
    code, message = refused("image", "copy", "a", "b")
    assert code == 2
    assert message.startswith("error: the toolbox's regctl does not know: image copy a b\n")
