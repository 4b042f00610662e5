"""The native assembler against rules_oci itself: the same layers, an equal configuration, the same annotations.

Both sides are built by the Bazel that runs this test. Where Bazel has a registry that is rules_oci; in the toolbox it
is rules_oci where its checkouts are given (docs/design/rules_oci.md), and otherwise a module over the native assembler,
with which nothing is to be compared.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.layouts import INDEX, Json, Layout

RUNFILES = Path(__file__).absolute().parents[2]
HERE = Path(__file__).parent
IMAGES = ("churn_prepare", "every_attribute", "forecast_fit", "forecast_start")
HOW = (
    "rules_oci is the toolbox's own module here, which is the native assembler: to compare with the real one, name "
    "checkouts of it and of what it needs in MFBAZEL_MODULE_rules_oci, MFBAZEL_MODULE_tar_bzl, MFBAZEL_MODULE_jq_bzl "
    "and MFBAZEL_MODULE_package_metadata (docs/design/rules_oci.md)"
)


def layout(assembler: str, name: str) -> Layout:
    paths: dict[str, str] = json.loads(HERE.joinpath(f"{assembler}_images.json").read_text(encoding="utf-8"))
    return Layout(RUNFILES / paths[name])


@pytest.fixture(autouse=True)
def real_rules_oci() -> None:
    """Skip where there is nothing to compare; the real one names targets in an image's history."""
    image = layout("default", "churn_prepare")
    history = image.config(image.manifest())["history"]
    real = history[-1]["created_by"].startswith("bazel build ")
    given = os.environ.get("MFBAZEL_MODULE_rules_oci")  # noqa: SIM112
    assert real or not given, "checkouts are given and were not used"
    if not real:
        pytest.skip(HOW)


@pytest.fixture(params=IMAGES)
def both(request: pytest.FixtureRequest) -> tuple[Layout, Layout]:
    """An image by rules_oci, and by the native assembler."""
    return layout("default", request.param), layout("native", request.param)


def test_the_layers_are_the_same_in_the_same_order(both: tuple[Layout, Layout]) -> None:
    theirs, ours = both
    for their, our in zip(theirs.manifests(), ours.manifests(), strict=True):
        assert our["layers"] == their["layers"]
        assert len(our["layers"]) >= 2


def test_the_configuration_is_equal_but_for_its_history(both: tuple[Layout, Layout]) -> None:
    theirs, ours = both
    for their, our in zip(theirs.manifests(), ours.manifests(), strict=True):
        assert _without_history(ours, our) == _without_history(theirs, their)
        # rules_oci names the target of a layer, the native assembler what is in it.
        assert len(ours.config(our)["history"]) == len(theirs.config(their)["history"])


def test_the_annotations_are_the_same(both: tuple[Layout, Layout]) -> None:
    theirs, ours = both
    for their, our in zip(theirs.manifests(), ours.manifests(), strict=True):
        assert our["annotations"] == their["annotations"]
        assert our["annotations"]


def test_an_index_has_the_same_platforms_and_annotations() -> None:
    theirs, ours = (layout(assembler, "forecast_fit") for assembler in ("default", "native"))
    assert ours.top["mediaType"] == INDEX
    their, our = theirs.document(theirs.top["digest"]), ours.document(ours.top["digest"])
    assert [entry["platform"] for entry in our["manifests"]] == [entry["platform"] for entry in their["manifests"]]
    assert our["annotations"] == their["annotations"]


def test_every_attribute_is_set_in_what_is_compared() -> None:
    image = layout("native", "every_attribute")
    config = image.config(image.manifest())
    assert config["created"] == "2024-02-29T12:00:00Z"
    assert config["config"] == {
        "Cmd": ["--level", "a=b"],
        "Entrypoint": ["/bin/sh", "-c", "echo a, b\necho c"],
        "Env": ["PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1 2", "B=1 2/c"],
        "ExposedPorts": {"443/tcp": {}, "8080": {}},
        "Labels": {"com.example.equals": "a=b", "com.example.name": "every attribute"},
        "User": "1000:1000",
        "Volumes": {"/data": {}, "/more": {}},
        "WorkingDir": "/work",
    }


def _without_history(image: Layout, manifest: Json) -> Json:
    config: dict[str, Any] = image.config(manifest)
    return {key: value for key, value in config.items() if key != "history"}
