"""images.json as an artifact of a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.registry import Client, Kind, RegistryError, fetch_images, publish_images
from mfbazel.registry.artifact import artifact_manifest
from mfbazel.registry.client import MANIFEST, digest_of
from tests.registry.gate import EMPTY, IMAGE, Gate, Reply, gate_before_a_registry, without_credentials

IMAGES = b'{\n  "schema": 1,\n  "flow": "F",\n  "steps": {}\n}\n'


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    without_credentials(tmp_path, monkeypatch)
    with gate_before_a_registry(tmp_path / "disk") as made:
        yield made


def test_the_manifest_is_an_artifact_of_the_image_specification() -> None:
    manifest = json.loads(artifact_manifest(IMAGES))
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == MANIFEST
    assert manifest["artifactType"] == "application/vnd.mfbazel.images.v1+json"
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }
    (layer,) = manifest["layers"]
    assert (layer["digest"], layer["size"]) == (digest_of(IMAGES), len(IMAGES))
    assert artifact_manifest(IMAGES) == artifact_manifest(IMAGES)


def test_what_was_published_is_read_by_tag_and_by_digest(gate: Gate) -> None:
    published = publish_images(Client(gate.host), "ml/x", ["x.images", "x.images-v1"], IMAGES)
    assert published.tags == ("x.images", "x.images-v1")
    for name in (":x.images", ":x.images-v1", f"@{published.digest}"):
        assert fetch_images(f"{gate.host}/ml/x{name}") == IMAGES


def test_a_second_publication_sends_nothing(gate: Gate) -> None:
    first = publish_images(Client(gate.host), "ml/x", ["x.images"], IMAGES)
    gate.asked.clear()
    second = publish_images(Client(gate.host), "ml/x", ["x.images"], IMAGES)
    assert (second.digest, second.tags) == (first.digest, ())
    assert {asked.method for asked in gate.asked} == {"GET", "HEAD"}


def test_another_tag_sends_one_manifest_and_another_content_moves_the_tag(gate: Gate) -> None:
    publish_images(Client(gate.host), "ml/x", ["x.images"], IMAGES)
    gate.asked.clear()
    assert publish_images(Client(gate.host), "ml/x", ["x.images", "more"], IMAGES).tags == ("more",)
    assert [asked.path for asked in gate.asked if asked.method in ("PUT", "POST")] == ["/v2/ml/x/manifests/more"]
    publish_images(Client(gate.host), "ml/x", ["x.images"], IMAGES + b" ")
    assert fetch_images(f"{gate.host}/ml/x:x.images") == IMAGES + b" "
    assert fetch_images(f"{gate.host}/ml/x:more") == IMAGES


def test_a_tag_that_the_registry_does_not_move_leaves_the_digest(gate: Gate) -> None:
    client = Client(gate.host)
    publish_images(client, "ml/x", ["x.images"], IMAGES)
    refused = Reply(400, b'{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}')
    gate.rule = lambda asked: refused if asked.method == "PUT" and asked.path.endswith("/x.images") else None
    published = publish_images(client, "ml/x", ["x.images", "x.images-v1"], IMAGES + b" ")
    assert (published.tags, published.fixed) == (("x.images-v1",), ("x.images",))
    assert fetch_images(f"{gate.host}/ml/x@{published.digest}") == IMAGES + b" "
    assert fetch_images(f"{gate.host}/ml/x:x.images") == IMAGES
    with pytest.raises(RegistryError, match="400 TAG_INVALID: the tag is immutable"):
        publish_images(client, "ml/other", ["x.images"], IMAGES)


def test_an_image_is_no_artifact_of_images(gate: Gate) -> None:
    client = Client(gate.host)
    client.put_blob("ml/x", EMPTY)
    client.put_manifest("ml/x", "train", IMAGE)
    with pytest.raises(RegistryError) as caught:
        fetch_images(f"oci://{gate.host}/ml/x:train")
    assert caught.value.problem.kind is Kind.OTHER_CONTENT
    assert f"{gate.host}/ml/x:train holds no images.json" in str(caught.value)


def test_a_changed_blob_is_not_taken(gate: Gate) -> None:
    published = publish_images(Client(gate.host), "ml/x", ["x.images"], IMAGES)
    gate.rule = lambda asked: Reply(200, IMAGES + b" ") if "/blobs/" in asked.path else None
    with pytest.raises(RegistryError) as caught:
        fetch_images(f"oci://{gate.host}/ml/x@{published.digest}")
    assert caught.value.problem.kind is Kind.DIGEST
