"""What cannot be described is refused with the reason, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.errors import MfbazelError
from tests.sbom.case import AMD64, ARM64, Case, add, demo, wheel, write_image

START = ["52 Debian packages", "packages six-1.0", "first-party files"]
TRAIN = [*START, "packages packages-of-train"]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return demo(tmp_path)


def refused(case: Case, step: str, image: Path, *options: str) -> str:
    with pytest.raises(MfbazelError) as caught:
        case.run(step, image, *options)
    written = [path.name for path in case.directory.iterdir() if path.suffix == ".json"]
    assert not written
    return str(caught.value)


def test_the_image_of_another_step(case: Case, tmp_path: Path) -> None:
    message = refused(case, "train", write_image(tmp_path / "start", history=START))
    assert "is not the image of step 'train'" in message
    assert "it lacks packages-of-train" in message
    assert "bazel build //flows:demo.train" in message
    message = refused(case, "start", write_image(tmp_path / "train", history=TRAIN))
    assert "it has packages-of-train of other steps" in message


def test_the_image_of_the_step_is_taken(case: Case, tmp_path: Path) -> None:
    assert case.run("train", write_image(tmp_path / "train", history=TRAIN))
    assert case.run("start", write_image(tmp_path / "start", history=START))


def test_a_layer_may_bear_the_name_that_it_has_on_another_platform(case: Case, tmp_path: Path) -> None:
    (common, own), keys = case.layers[AMD64], list(case.wheels)
    own["wheels"] = keys
    case.layers["linux/arm64"] = [{**own, "name": "packages-elsewhere"}]
    history = ["packages six-1.0", "packages packages-elsewhere"]
    assert case.run("train", write_image(tmp_path / "train", history=history))
    assert common["name"] != "six-1.0"


def test_a_derived_image_whose_steps_have_two_versions(case: Case, tmp_path: Path) -> None:
    add(case, "start", "a" * 64, wheel("numpy", "2.0"))
    message = refused(case, "start", write_image(tmp_path / "image"), "--includes=train")
    assert "step 'start' of //flows:demo is derived from train, and has numpy-2.0-py3-none-any.whl" in message


def test_a_step_that_is_not_in_the_lock(case: Case, tmp_path: Path) -> None:
    message = refused(case, "evaluate", write_image(tmp_path / "image"))
    assert "--step evaluate: //flows:demo has no such step; its lock has start, train" in message


def test_a_platform_that_is_not_in_the_lock(case: Case, tmp_path: Path) -> None:
    message = refused(case, "start", write_image(tmp_path / "image", [ARM64]))
    assert "the image is for linux/arm64, and 'start' of //flows:demo is locked for linux/amd64 only" in message


def test_several_platforms_without_a_choice(case: Case, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image", [AMD64, ARM64])
    assert "choose one with --platform; it has: linux/amd64, linux/arm64" in refused(case, "start", image)
    assert "it has: linux/amd64, linux/arm64" in refused(case, "start", image, "--platform", "linux/s390x")


def test_a_layout_that_is_none(case: Case, tmp_path: Path) -> None:
    assert "is not an OCI image layout" in refused(case, "start", tmp_path)


def test_a_lock_that_is_none(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_image(tmp_path / "image")
    monkeypatch.setattr(case, "write_lock", lambda: tmp_path / "other.lock" / "flow.json")
    assert "there is no lock. Make it with `bazel run //flows:demo.lock`" in refused(case, "start", image)


def test_a_lock_without_a_flow(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = case.write_lock()
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "flow": None}), encoding="utf-8")
    monkeypatch.setattr(case, "write_lock", lambda: path)
    assert "is a lock without a flow" in refused(case, "start", write_image(tmp_path / "image"))


@pytest.mark.parametrize("builder", ["", "us", "https://a b"])
def test_a_builder_that_is_no_uri(case: Case, tmp_path: Path, builder: str) -> None:
    message = refused(case, "start", write_image(tmp_path / "image"), f"--builder-id={builder}")
    assert "SLSA identifies a builder by a URI" in message


@pytest.mark.parametrize("status", ["", "BUILD_TIMESTAMP\n", "BUILD_TIMESTAMP soon\n"])
def test_a_status_file_without_a_time(case: Case, tmp_path: Path, status: str) -> None:
    file = tmp_path / "status.txt"
    file.write_text(status, encoding="utf-8")
    message = refused(case, "start", write_image(tmp_path / "image"), "--status", str(file))
    assert "there is no usable BUILD_TIMESTAMP" in message
