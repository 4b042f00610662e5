"""What the rule makes of an image of two platforms in a stamped build."""

from __future__ import annotations

import json
from pathlib import Path

from tests.sbom.case import AMD64, ARM64, sha
from tests.sbom.valid import check_cyclonedx, check_provenance, check_spdx

DIRECTORY = Path("tests/sbom/index.sboms")


def test_every_platform_has_its_sboms_and_all_share_a_statement() -> None:
    assert sorted(path.name for path in DIRECTORY.iterdir()) == [
        "train.linux_amd64.cdx.json",
        "train.linux_amd64.spdx.json",
        "train.linux_arm64.cdx.json",
        "train.linux_arm64.spdx.json",
        "train.provenance.json",
    ]
    for platform, hashes in {"linux_amd64": sha("numpy==1.0"), "linux_arm64": sha("arm")}.items():
        check_spdx(DIRECTORY / f"train.{platform}.spdx.json")
        check_cyclonedx(DIRECTORY / f"train.{platform}.cdx.json")
        document = json.loads((DIRECTORY / f"train.{platform}.cdx.json").read_bytes())
        numpy = next(item for item in document["components"] if item["name"] == "numpy")
        assert numpy["hashes"][0]["content"] == hashes
    statement = json.loads((DIRECTORY / "train.provenance.json").read_bytes())
    check_provenance(statement)
    assert len(statement["subject"]) == 3
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["platforms"] == [AMD64, ARM64]


def test_a_stamped_build_tells_its_time() -> None:
    statement = json.loads((DIRECTORY / "train.provenance.json").read_bytes())
    finished = statement["predicate"]["runDetails"]["metadata"]["finishedOn"]
    assert finished > "2024"
    created = json.loads((DIRECTORY / "train.linux_amd64.spdx.json").read_bytes())["creationInfo"]["created"]
    assert created == finished
