"""What `bazel build //examples/churn:churn_flow.sboms` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sbom.valid import check_cyclonedx, check_provenance, check_spdx

FLOW = Path("examples/churn")
STEPS = ["start", "prepare", "train", "evaluate", "report", "end"]


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def document(step: str, kind: str) -> Path:
    return FLOW / "churn_flow.sboms" / f"{step}.{kind}.json"


@pytest.mark.parametrize("step", STEPS)
def test_the_documents_of_every_step_are_valid_and_about_its_image(step: str) -> None:
    check_spdx(document(step, "spdx"))
    check_cyclonedx(document(step, "cdx"))
    statement = read(document(step, "provenance"))
    check_provenance(statement)
    digest = read(FLOW / "churn_flow.images/images.json")["steps"][step]["digest"]
    assert read(document(step, "cdx"))["metadata"]["component"]["version"] == digest
    assert read(document(step, "spdx"))["packages"][0]["versionInfo"] == digest
    assert [item["digest"]["sha256"] for item in statement["subject"]] == [digest.removeprefix("sha256:")]
    assert statement["predicate"]["runDetails"]["builder"]["id"] == "urn:mfbazel:builder:unidentified"


@pytest.mark.parametrize("step", STEPS)
def test_the_documents_list_the_wheels_of_the_lock(step: str) -> None:
    lock = read(FLOW / "churn_flow.lock/flow.json")
    expected = {lock["wheels"][key]["name"]: key for key in lock["environments"][step]["wheels"]["linux/amd64"]}
    libraries = [item for item in read(document(step, "cdx"))["components"] if item["type"] == "library"]
    assert {item["name"]: item["hashes"][0]["content"] for item in libraries} == expected
    packages = [item for item in read(document(step, "spdx"))["packages"] if "packageFileName" in item]
    assert {item["name"]: item["checksums"][0]["checksumValue"] for item in packages} == expected
    assert len(libraries) == len(packages) == len(expected)
    statement = read(document(step, "provenance"))["predicate"]["buildDefinition"]["resolvedDependencies"]
    wheels = [item["digest"]["sha256"] for item in statement if item["name"].endswith(".whl")]
    assert sorted(wheels) == sorted(expected.values())


def test_steps_of_one_image_have_one_sbom() -> None:
    for kind in ("spdx", "cdx"):
        assert document("start", kind).read_bytes() == document("end", kind).read_bytes()


def test_the_annotations_of_the_lock_make_the_graph() -> None:
    graph = {item["ref"].partition("@")[0]: item for item in read(document("train", "cdx"))["dependencies"]}
    needs = {item.partition("@")[0] for item in graph["pkg:pypi/requests"]["dependsOn"]}
    assert {"pkg:pypi/certifi", "pkg:pypi/idna", "pkg:pypi/urllib3"} <= needs
    assert "pkg:pypi/certifi" not in {item.partition("@")[0] for item in graph["pkg:oci/churn_flow"]["dependsOn"]}
