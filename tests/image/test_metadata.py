"""What images say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.image import ImageError
from mfbazel.image.__main__ import main
from tests.image.layouts import assemble, make_layer


def described(tmp_path: Path, *options: str) -> tuple[dict[str, str], str]:
    """Return annotations and time of creation of an image for the environment `train`."""
    lock = tmp_path / "flow.json"
    environment = {"python": "3.14", "wheels": {"linux/amd64": ["a" * 64]}}
    lock.write_text(json.dumps({"schema": 1, "flow": None, "environments": {"train": environment}}))
    annotations, created = tmp_path / "annotations", tmp_path / "created"
    outputs = ["--annotations-out", str(annotations), "--created-out", str(created)]
    named = ["--lock", str(lock), "--environment", "train", "--label", "//ml:churn"]
    main(["metadata", *named, *outputs, *options])
    pairs = (line.partition("=") for line in annotations.read_text().splitlines())
    return {key: value for key, _, value in pairs}, created.read_text()


def status(tmp_path: Path, text: str) -> str:
    path = tmp_path / "status.txt"
    path.write_text(text)
    return str(path)


def test_an_image_names_flow_steps_lock_and_base_and_nothing_that_changes_without_them(tmp_path: Path) -> None:
    base = assemble(tmp_path, "base", "--layer", make_layer(tmp_path, "one"))
    options = ("--base", str(base), "--platform", "linux/amd64", "--step", "train", "--step", "tune")
    annotations, created = described(tmp_path, *options)
    assert annotations == {
        "mfbazel.flow": "//ml:churn",
        "mfbazel.lock": annotations["mfbazel.lock"],
        "mfbazel.steps": "train,tune",
        "org.opencontainers.image.base.digest": (tmp_path / "base.sha256").read_text().strip(),
    }
    assert created == "1970-01-01T00:00:00Z"


def test_a_stamped_image_names_source_revision_and_time(tmp_path: Path) -> None:
    text = "STABLE_GIT_COMMIT 0123abc\nSTABLE_GIT_URL https://git.example.com/ml\nBUILD_TIMESTAMP 1700000000\n"
    annotations, created = described(tmp_path, "--status", status(tmp_path, text))
    assert created == "2023-11-14T22:13:20Z"
    assert annotations["org.opencontainers.image.created"] == created
    assert annotations["org.opencontainers.image.revision"] == "0123abc"
    assert annotations["org.opencontainers.image.source"] == "https://git.example.com/ml"


def test_given_annotations_win_expand_and_take_away(tmp_path: Path) -> None:
    given = ("--annotation", "com.example.what={flow}:{step}", "--annotation", "mfbazel.lock=")
    annotations, _ = described(tmp_path, "--step", "train", *given)
    assert annotations["com.example.what"] == "churn:train"
    assert "mfbazel.lock" not in annotations


def test_annotations_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"//ml:churn: annotation a: \{what\} in 'x\{what\}' is not known"):
        described(tmp_path, "--annotation", "a=x{what}")
    with pytest.raises(ImageError, match="has several lines"):
        described(tmp_path, "--annotation", "a=x\ny")
    with pytest.raises(ImageError, match="BUILD_TIMESTAMP is 'now'"):
        described(tmp_path, "--status", status(tmp_path, "BUILD_TIMESTAMP now\n"))
    assert not (tmp_path / "annotations").exists()


def test_an_unknown_environment_is_refused_with_those_that_the_lock_has(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="has no environment 'tune'; it has train"):
        described(tmp_path, "--environment", "tune")


def test_an_annotation_waits_for_what_it_names(tmp_path: Path) -> None:
    given = ("--annotation", "a={platform}", "--annotation", "b={STABLE_GIT_COMMIT}", "--annotation", "c={step}")
    of_an_index, _ = described(tmp_path, *given, "--step", "start", "--step", "end")
    assert of_an_index["c"] == "start,end"
    assert "a" not in of_an_index
    assert "b" not in of_an_index
    stamped = ("--platform", "linux/arm64", "--status", status(tmp_path, "STABLE_GIT_COMMIT 0123abc\n"))
    annotations, _ = described(tmp_path, *given, *stamped)
    assert (annotations["a"], annotations["b"]) == ("linux-arm64", "0123abc")
