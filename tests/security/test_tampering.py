"""Something was changed on its way from the index to the container: each part that notices, in the order of the way.

Elsewhere: a wheel in the download cache and on the index (``tests/wheel``), a wheel that does not fit its RECORD
(``tests/layer``), a lock (``tests/lock``), layers that Bazel keeps and blobs in a registry
(``tests/container/test_trust_in_images.py``, ``tests/push``), the published images.json (``tests/registry``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mfbazel.layer import LayerError
from mfbazel.push.errors import PushError
from mfbazel.push.layout import corrupted_blobs, read_layout
from mfbazel.wheel.fetch import FetchError, Wheel, fetch
from tests.container.layouts import Members, write_layout
from tests.layer.wheels import layer, make_wheel

OTHER = "f" * 64


def test_a_wheel_that_was_changed_after_it_was_locked_becomes_no_layer(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    locked = hashlib.sha256(wheel.read_bytes()).hexdigest()
    evil = make_wheel(tmp_path, files={"demo/__init__.py": b"import evil\n"})
    assert evil == wheel
    with pytest.raises(LayerError, match=rf"its sha256 is .*, expected {locked}\. Download the wheel again"):
        layer(tmp_path, wheel, options=("--sha256", f"{wheel.name}={locked}"))


def test_a_wheel_that_was_changed_in_the_cache_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index, which is asked instead, has another one: neither becomes an input of the build."""
    index = make_wheel(tmp_path / "index")
    locked = Wheel("demo", "1.0", index.name, OTHER)
    entry = tmp_path / "cache" / OTHER / index.name
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"evil")
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index.parent),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FetchError, match=rf"locked:   sha256:{OTHER}"):
        fetch(locked, tmp_path / "out.whl")
    assert not entry.exists()
    assert not (tmp_path / "out.whl").exists()


def test_a_layer_that_was_changed_among_the_outputs_is_found_by_its_digest(tmp_path: Path) -> None:
    """A registry computes the digest of what it is sent; this is how a push then says which blob it was."""
    layout = write_layout(tmp_path, [Members().file("program", "honest")])
    blob = read_layout(layout).blobs[1]
    data = blob.path.read_bytes()
    blob.path.write_bytes(data.replace(b"honest", b"hostil"))
    ((found, digest),) = corrupted_blobs(read_layout(layout))
    assert (found.digest, digest) == (blob.digest, f"sha256:{hashlib.sha256(blob.path.read_bytes()).hexdigest()}")


def test_a_manifest_that_was_changed_among_the_outputs_is_refused(tmp_path: Path) -> None:
    layout = write_layout(tmp_path, [Members().file("program", "honest")])
    manifest = read_layout(layout).manifests[0].path
    layer_digest = read_layout(layout).blobs[1].digest
    manifest.write_bytes(manifest.read_bytes().replace(layer_digest.encode(), f"sha256:{OTHER}".encode()))
    with pytest.raises(PushError, match="The file was changed after the build; build the image again"):
        read_layout(layout)
