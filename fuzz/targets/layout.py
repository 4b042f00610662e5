"""An OCI layout is read, and names no file outside of itself, or is refused.

An input is JSON documents, one a line. ``@N`` stands for digest and size of the Nth document, which is a blob; the last
one is ``index.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from fuzz.targets.target import Target, expect, mutate_lines
from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import read_image
from mfbazel.push.errors import PushError
from mfbazel.push.layout import corrupted_blobs, read_layout

_REFERENCE = re.compile(rb'"@([0-9])"')


def run(data: bytes, directory: Path) -> str:
    """Write the layout ``data``, and read it as a push and as a container do."""
    layout = directory / "layout"
    _write(data, layout)
    try:
        found = read_layout(layout)
        for blob in (*found.manifests, *found.blobs):
            expect(blob.path.parent == layout / "blobs" / "sha256", f"{blob.path} is read")
        pushed = "damaged" if list(corrupted_blobs(found)) else "pushed"
    except PushError as error:
        expect(str(layout) in str(error), f"the error does not name the layout: {error}")
        pushed = "not pushed"
    try:
        image = read_image(layout, "amd64")
        for layer in image.layers:
            expect(layout.resolve() in layer.blob.resolve().parents, f"{layer.blob} is read")
        return f"{pushed}, run"
    except ContainerError as error:
        expect(str(layout) in str(error), f"the error does not name the layout: {error}")
        return f"{pushed}, not run"


def _write(data: bytes, layout: Path) -> None:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layout.joinpath("oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    *documents, index = data.split(b"\n")
    written: list[bytes] = []

    def refer(match: re.Match[bytes]) -> bytes:
        number = int(match[1])
        content = written[number] if number < len(written) else b""
        return b'"digest": "sha256:%s", "size": %d' % (hashlib.sha256(content).hexdigest().encode(), len(content))

    for document in documents:
        content = _REFERENCE.sub(refer, document)
        written.append(content)
        blobs.joinpath(hashlib.sha256(content).hexdigest()).write_bytes(content)
    layout.joinpath("index.json").write_bytes(_REFERENCE.sub(refer, index))


def seeds() -> list[bytes]:
    """Return an image, an index of it, and what refers to itself or elsewhere."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"diff_ids": ["sha256:" + "0" * 64]},
        "config": {"Env": ["A=1"]},
    }
    layer = b"layer"
    manifest = b'{"config": {"@0"}, "layers": [{"@1", "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]}'
    index = (
        b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": '
        b'[{"@2", "platform": {"os": "linux", "architecture": "amd64"}}]}'
    )
    image = [json.dumps(config).encode(), layer, manifest]
    elsewhere = b'{"manifests": [{"digest": "sha256:../../../../etc/passwd", "size": 1}]}'
    return [
        b"\n".join([*image, b'{"manifests": [{"@2"}]}']),
        b"\n".join([*image, index, b'{"manifests": [{"@3"}]}']),
        b"\n".join([*image, b'{"manifests": []}']),
        elsewhere,
        b"\n".join(
            [b'{"config": {"digest": "sha256:/etc/passwd", "size": 1}, "layers": []}', b'{"manifests": [{"@0"}]}']
        ),
    ]


_mutate = mutate_lines(
    "{", "}", "[", "]", ",", '"@0"', '"@1"', '"@2"', '"@3"', '"digest": "sha256:', "../", "/etc/passwd",
    '"size": -1', "null",
    "1", '"mediaType": "application/vnd.oci.image.index.v1+json"', '"manifests": [', '"layers": [', '"config": ',
    "true", "1e999",
    '"platform": {}', '"Env": ["x"]', "\udcff",
)  # fmt: skip
TARGET = Target(run, seeds, ("mfbazel.container.layout", "mfbazel.push.layout", "json"), _mutate)
