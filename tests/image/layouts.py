"""Small images for tests, made by the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mfbazel.image.__main__ import main
from mfbazel.layer import Outputs, write_layer
from mfbazel.layer.tar import FILE, Content, Entry

EPOCH = "1970-01-01T00:00:00Z"


def make_layer(directory: Path, name: str, compression: str = "zstd") -> str:
    """Write a layer and return its --layer argument."""
    blob, descriptor = directory / f"{name}.tar", directory / f"{name}.json"
    entries = [Entry(f"{name}.txt", FILE, 0o644, Content(name.encode()), owner=name)]
    write_layer(entries, Outputs(blob, descriptor, None), compression=compression)
    return f"{blob}={descriptor}"


def assemble(tmp_path: Path, name: str, *options: str) -> Path:
    output = tmp_path / name
    platform = () if "--base" in options or "--os" in options else ("--os", "linux", "--architecture", "amd64")
    main(["assemble", "--output", str(output), "--digest", f"{output}.sha256", *platform, *options])
    return output


def document(layout: Path, digest: str) -> dict[str, Any]:
    data = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    result: dict[str, Any] = json.loads(data)
    return result


def manifest_of(layout: Path) -> dict[str, Any]:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    found = document(layout, entry["digest"])
    assert entry["mediaType"] == found["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    return found


def config_of(layout: Path) -> dict[str, Any]:
    return document(layout, manifest_of(layout)["config"]["digest"])


def lines(path: Path, *text: str) -> str:
    path.write_text("".join(f"{line}\n" for line in text))
    return str(path)


def two_platforms(tmp_path: Path) -> Path:
    layouts = []
    for architecture in ("amd64", "arm64"):
        layer = make_layer(tmp_path, architecture)
        layouts.append(
            str(
                assemble(
                    tmp_path, f"i-{architecture}", "--os", "linux", "--architecture", architecture, "--layer", layer
                )
            )
        )
    main(["index", "--output", f"{tmp_path}/index", "--digest", f"{tmp_path}/index.sha256", "--image", *layouts])
    return tmp_path / "index"
