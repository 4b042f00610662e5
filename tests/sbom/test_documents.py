"""SBOMs and provenance statements: what they say, and that the formats' own definitions accept them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sbom.case import (
    AMD64,
    ARM64,
    BASE,
    BASE_DIGEST,
    COMMIT,
    LABEL,
    Case,
    add,
    demo,
    pins,
    sha,
    wheel,
    write_image,
)
from tests.sbom.valid import check_cyclonedx, check_provenance, check_spdx


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return demo(tmp_path)


def image(tmp_path: Path, *platforms: str) -> Path:
    return write_image(tmp_path / "image", platforms or (AMD64,), BASE)


def check(case: Case) -> None:
    check_spdx(case.directory / "spdx.json")
    check_cyclonedx(case.directory / "cyclonedx.json")
    check_provenance(json.loads((case.directory / "provenance.json").read_bytes()))


def spdx_packages(documents: dict[str, Any]) -> dict[str, dict[str, Any]]:
    packages = documents["spdx"]["packages"]
    named = {package["name"]: package for package in packages}
    assert len(named) == len(packages)
    return named


def components(documents: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = documents["cyclonedx"]["components"]
    named = {component["name"]: component for component in found}
    assert len(named) == len(found)
    return named


def dependencies(documents: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = documents["provenance"]["predicate"]["buildDefinition"]["resolvedDependencies"]
    return found


def source_of(documents: dict[str, Any], role: str) -> dict[str, Any]:
    (found,) = [item for item in dependencies(documents) if item.get("annotations", {}).get("role") == role]
    return found


@pytest.mark.parametrize("step", ["start", "train"])
def test_the_wheels_of_the_step_are_there_once_with_their_hashes_and_no_others(
    case: Case, tmp_path: Path, step: str
) -> None:
    documents = case.run(step, image(tmp_path))
    check(case)
    expected = {case.wheels[key]["name"]: key for key in case.steps[step][AMD64]}

    checksums = {
        name: item["checksums"] for name, item in spdx_packages(documents).items() if "packageFileName" in item
    }
    assert checksums == {name: [{"algorithm": "SHA256", "checksumValue": key}] for name, key in expected.items()}
    hashes = {name: item["hashes"] for name, item in components(documents).items() if item["type"] == "library"}
    assert hashes == {name: [{"alg": "SHA-256", "content": key}] for name, key in expected.items()}
    wheels = Counter(
        (item["uri"], item["digest"]["sha256"]) for item in dependencies(documents) if "whl" in item["name"]
    )
    assert wheels == {(f"pkg:pypi/{name}@1.0", key): 1 for name, key in expected.items()}


def test_packages_are_known_by_their_purls_in_all_formats(case: Case, tmp_path: Path) -> None:
    documents = case.run("start", image(tmp_path))
    (reference,) = spdx_packages(documents)["six"]["externalRefs"]
    assert (reference["referenceType"], reference["referenceLocator"]) == ("purl", "pkg:pypi/six@1.0")
    assert components(documents)["six"]["purl"] == "pkg:pypi/six@1.0"


def test_the_graph_says_which_package_needs_which(case: Case, tmp_path: Path) -> None:
    documents = case.run("train", image(tmp_path))
    spdx = documents["spdx"]["relationships"]
    needs = {
        (item["spdxElementId"], item["relatedSpdxElement"]) for item in spdx if item["relationshipType"] == "DEPENDS_ON"
    }
    pandas = "SPDXRef-pypi-pandas"
    assert needs == {
        ("SPDXRef-image", pandas),
        (pandas, "SPDXRef-pypi-numpy"),
        (pandas, "SPDXRef-pypi-six"),
    }
    contained = [item["relatedSpdxElement"] for item in spdx if item["relationshipType"] == "CONTAINS"]
    assert contained == [f"SPDXRef-pypi-{name}" for name in ("numpy", "pandas", "six")]
    graph = {item["ref"]: set(item.get("dependsOn", ())) for item in documents["cyclonedx"]["dependencies"]}
    root = documents["cyclonedx"]["metadata"]["component"]["bom-ref"]
    base = components(documents)["registry.example.com:5000/python"]["bom-ref"]
    assert graph == {
        root: {base, "pkg:pypi/pandas@1.0"},
        base: set(),
        "pkg:pypi/pandas@1.0": {"pkg:pypi/numpy@1.0", "pkg:pypi/six@1.0"},
        "pkg:pypi/numpy@1.0": set(),
        "pkg:pypi/six@1.0": set(),
    }


def test_without_requirements_files_every_package_is_the_images_own(case: Case, tmp_path: Path) -> None:
    case.texts = {}
    documents = case.run("train", image(tmp_path))
    check(case)
    graph = {item["ref"]: item.get("dependsOn", []) for item in documents["cyclonedx"]["dependencies"]}
    root = documents["cyclonedx"]["metadata"]["component"]["bom-ref"]
    assert {f"pkg:pypi/{name}@1.0" for name in ("numpy", "pandas", "six")} < set(graph[root])


def test_licences_are_expressions_where_they_are_and_texts_elsewhere(case: Case, tmp_path: Path) -> None:
    texts: dict[str, Any] = {
        "a": "BSD-3-Clause AND MIT",
        "b": "BSD License",
        "c": "Freie Lizenz für alle ☂",
        "d": "unknown",
        "e": None,
        "f": "MIT OR LicenseRef-Ours",
        "g": "GPL-2.0-only WITH Classpath-exception-2.0",
        "h": "BSD License",
        "i": "LicenseRef-Ours",
        "j": "☂",
    }
    case.steps["start"] = {}
    for name, text in texts.items():
        add(case, "start", sha(f"{name}==1.0"), wheel(name, license=text))
    documents = case.run("start", image(tmp_path))
    check(case)

    declared = {name: item["licenseDeclared"] for name, item in spdx_packages(documents).items() if len(name) == 1}
    unlisted = {item["licenseId"]: item["extractedText"] for item in documents["spdx"]["hasExtractedLicensingInfos"]}
    for name in ("a", "f", "g", "i"):
        assert declared[name] == texts[name]
    for name in ("b", "c", "h", "j"):
        assert unlisted.pop(declared[name], texts[name]) == texts[name]
    assert declared["b"] == declared["h"] != declared["c"]
    assert declared["d"] == declared["e"] == "NOASSERTION"
    assert list(unlisted) == ["LicenseRef-Ours"]

    licenses = {name: item.get("licenses") for name, item in components(documents).items() if len(name) == 1}
    assert licenses["a"] == [{"expression": "BSD-3-Clause AND MIT", "acknowledgement": "declared"}]
    assert licenses["b"] == [{"license": {"name": "BSD License", "acknowledgement": "declared"}}]
    assert licenses["c"] == [{"license": {"name": texts["c"], "acknowledgement": "declared"}}]
    assert licenses["d"] is licenses["e"] is None
    assert licenses["f"] == [{"expression": texts["f"], "acknowledgement": "declared"}]
    assert texts["c"] in (tmp_path / "spdx.json").read_text(encoding="utf-8")


def test_a_single_licence_of_the_list_is_given_by_its_id(case: Case, tmp_path: Path) -> None:
    documents = case.run("start", image(tmp_path))
    assert components(documents)["six"]["licenses"] == [{"license": {"id": "MIT", "acknowledgement": "declared"}}]
    assert spdx_packages(documents)["six"]["licenseDeclared"] == "MIT"


def test_what_a_wheel_was_built_from_and_with_is_told(case: Case, tmp_path: Path) -> None:
    sdist: dict[str, Any] = {
        "kind": "sdist",
        "file": "wget-3.2.zip",
        "sha256": sha("sdist"),
        "size": 7,
        "requires": "_build.wget-3.2",
    }
    git: dict[str, Any] = {
        "kind": "git",
        "url": "https://git.example.com/team/lib.git",
        "revision": "main",
        "commit": COMMIT,
    }
    add(case, "start", sha("wget==3.2"), wheel("wget", "3.2", **sdist))
    add(case, "start", sha("lib==1.0"), wheel("lib", **git, subdirectory="python"))
    case.steps["_build.wget-3.2"] = {AMD64: [sha("setuptools==80.0")]}
    case.wheels[sha("setuptools==80.0")] = wheel("setuptools", "80.0")
    documents = case.run("start", image(tmp_path))
    check(case)

    archive = source_of(documents, "source of wget 3.2")
    assert archive["digest"] == {"sha256": sha("sdist")}
    assert archive["uri"] == "pkg:pypi/wget@3.2?file_name=wget-3.2.zip"
    commit = source_of(documents, "source of lib 1.0")
    assert commit["uri"] == f"git+https://git.example.com/team/lib.git@{COMMIT}#python"
    assert commit["digest"] == {"gitCommit": COMMIT}
    assert source_of(documents, "build requirement")["digest"] == {"sha256": sha("setuptools==80.0")}

    packages = spdx_packages(documents)
    assert packages["lib"]["downloadLocation"] == commit["uri"]
    assert sha("sdist") in packages["wget"]["sourceInfo"]
    assert packages["wget"]["downloadLocation"] == "NOASSERTION"
    (reference,) = components(documents)["wget"]["externalReferences"]
    assert (reference["type"], reference["hashes"][0]["content"]) == ("source-distribution", sha("sdist"))
    assert components(documents)["lib"]["externalReferences"] == [{"type": "vcs", "url": commit["uri"]}]
    assert COMMIT in components(documents)["lib"]["purl"]
    assert "setuptools" not in {**packages, **components(documents)}


@pytest.mark.parametrize("url", ["file:///srv/git/lib", "https://127.0.0.1:8443/lib", "ssh://git@host/lib.git"])
def test_a_commit_at_a_place_that_spdx_cannot_name_is_in_its_source_info(case: Case, tmp_path: Path, url: str) -> None:
    add(case, "start", sha("lib==1.0"), wheel("lib", kind="git", url=url, revision="", commit=COMMIT))
    documents = case.run("start", image(tmp_path))
    check(case)
    assert f"git+{url}@{COMMIT}" in spdx_packages(documents)["lib"]["sourceInfo"]


def test_a_wheel_that_a_target_makes_has_no_hash_but_its_label(case: Case, tmp_path: Path) -> None:
    made = {**wheel("ours", kind="label", label="//lib:ours"), "size": 0}
    add(case, "start", "//lib:ours", made)
    documents = case.run("start", image(tmp_path))
    check(case)
    package = spdx_packages(documents)["ours"]
    assert "checksums" not in package
    assert "//lib:ours" in package["sourceInfo"]
    component = components(documents)["ours"]
    assert "hashes" not in component
    assert {"name": "mfbazel:wheel:label", "value": "//lib:ours"} in component["properties"]
    (dependency,) = [item for item in dependencies(documents) if item["name"] == made["file"]]
    assert "digest" not in dependency
    assert dependency["annotations"] == {"label": "//lib:ours"}


def test_a_wheel_of_the_workspace_has_its_hash_and_its_label(case: Case, tmp_path: Path) -> None:
    add(case, "start", sha("ours==1.0"), wheel("ours", kind="file", label="//lib:ours-1.0-py3-none-any.whl"))
    documents = case.run("start", image(tmp_path))
    check(case)
    assert spdx_packages(documents)["ours"]["checksums"][0]["checksumValue"] == sha("ours==1.0")
    assert "//lib:ours-1.0-py3-none-any.whl" in spdx_packages(documents)["ours"]["sourceInfo"]
    (dependency,) = [item for item in dependencies(documents) if item.get("uri") == "pkg:pypi/ours@1.0"]
    assert dependency["digest"] == {"sha256": sha("ours==1.0")}
    assert dependency["annotations"] == {"label": "//lib:ours-1.0-py3-none-any.whl"}


def test_the_image_and_its_base_are_containers_with_their_digests(case: Case, tmp_path: Path) -> None:
    layout = image(tmp_path)
    digest = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    images = tmp_path / "images.json"
    images.write_text(json.dumps({"repository": "registry.example.com/ml/Demo", "steps": {"start": {}}}))
    documents = case.run("start", layout, "--images", str(images))
    check(case)
    own = documents["cyclonedx"]["metadata"]["component"]
    assert (own["type"], own["version"]) == ("container", digest)
    assert own["purl"] == f"pkg:oci/demo@{digest}?arch=amd64&repository_url=registry.example.com/ml/Demo"
    base = components(documents)["registry.example.com:5000/python"]
    assert (base["type"], base["version"]) == ("container", BASE_DIGEST)
    package = spdx_packages(documents)["registry.example.com:5000/python"]
    assert package["primaryPackagePurpose"] == "CONTAINER"
    described = {(item["relationshipType"], item["relatedSpdxElement"]) for item in documents["spdx"]["relationships"]}
    assert {("DESCRIBES", "SPDXRef-image"), ("DESCENDANT_OF", package["SPDXID"])} < described
    (subject,) = documents["provenance"]["subject"]
    assert subject["name"] == "registry.example.com/ml/Demo"
    assert subject["digest"] == {"sha256": digest.removeprefix("sha256:")}
    assert source_of(documents, "base image")["digest"] == {"sha256": BASE_DIGEST.removeprefix("sha256:")}


@pytest.mark.parametrize("annotations", [{}, {"org.opencontainers.image.base.digest": BASE_DIGEST}])
def test_a_base_is_told_as_far_as_the_image_tells_it(case: Case, tmp_path: Path, annotations: dict[str, str]) -> None:
    documents = case.run("start", write_image(tmp_path / "image", annotations=annotations))
    check(case)
    bases = documents["provenance"]["predicate"]["buildDefinition"]["externalParameters"]["bases"]
    assert bases == ([BASE_DIGEST] if annotations else [])
    containers = [item["name"] for item in components(documents).values() if item["type"] == "container"]
    assert containers == (["base image"] if annotations else [])


def test_an_index_gives_an_sbom_per_platform_and_one_statement_about_all(case: Case, tmp_path: Path) -> None:
    add(
        case, "train", sha("arm"), {**wheel("numpy"), "file": "numpy-1.0-cp314-cp314-manylinux_2_28_aarch64.whl"}, ARM64
    )
    layout = image(tmp_path, AMD64, f"{ARM64}/v8")
    documents = case.run("train", layout, "--platform", ARM64)
    check(case)
    assert set(components(documents)) == {"numpy", "registry.example.com:5000/python"}
    assert components(documents)["numpy"]["hashes"][0]["content"] == sha("arm")
    amd64 = case.run("train", layout, "--platform", AMD64)
    assert {"numpy", "pandas", "six"} < set(components(amd64))
    assert amd64["provenance"] == documents["provenance"]

    subjects = [item["digest"]["sha256"] for item in documents["provenance"]["subject"]]
    index = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    described = {item["cyclonedx"]["metadata"]["component"]["version"] for item in (documents, amd64)}
    assert len(subjects) == 3
    assert {f"sha256:{value}" for value in subjects} == {index, *described}
    numpy = [item["digest"]["sha256"] for item in dependencies(documents) if item.get("uri") == "pkg:pypi/numpy@1.0"]
    assert sorted(numpy) == sorted([sha("numpy==1.0"), sha("arm")])
    parameters = documents["provenance"]["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["platforms"] == [AMD64, "linux/arm64/v8"]
    assert (parameters["flow"], parameters["step"]) == (LABEL, "train")


def test_a_derived_image_holds_the_packages_of_all_its_steps(case: Case, tmp_path: Path) -> None:
    add(case, "start", sha("extra==1.0"), wheel("extra"))
    history = ["packages six-1.0", "packages packages-of-train"]
    layout = write_image(tmp_path / "image", history=history)
    documents = case.run("start", layout, "--includes", "train")
    check(case)
    names = {"extra", "numpy", "pandas", "six"}
    assert set(components(documents)) == names
    assert {item["name"] for item in documents["spdx"]["packages"] if "packageFileName" in item} == names
    wheels = [item["uri"] for item in dependencies(documents) if "uri" in item]
    assert sorted(wheels) == [f"pkg:pypi/{name}@1.0" for name in sorted(names)]
    parameters = documents["provenance"]["predicate"]["buildDefinition"]["externalParameters"]
    assert (parameters["step"], parameters["derivedFrom"]) == ("start", ["train"])


def test_sboms_of_equal_content_are_equal_and_others_have_other_ids(case: Case, tmp_path: Path) -> None:
    layout = image(tmp_path)
    case.steps["end"] = case.steps["start"]
    case.texts["end"] = case.texts["start"]
    first, second = case.run("start", layout), case.run("end", layout)
    assert (first["spdx"], first["cyclonedx"]) == (second["spdx"], second["cyclonedx"])
    case.texts["end"] = pins({"six==1.0": ["somebody-else"]})
    case.wheels[sha("six==1.0")]["license"] = "BSD-3-Clause"
    third = case.run("end", layout)
    assert third["spdx"]["documentNamespace"] != first["spdx"]["documentNamespace"]
    assert third["cyclonedx"]["serialNumber"] != first["cyclonedx"]["serialNumber"]


def test_the_bytes_depend_on_nothing_but_lock_and_image(case: Case, tmp_path: Path) -> None:
    layout, lock = image(tmp_path), case.write_lock()
    seen = set()
    for seed in ("1", "2", "3"):
        outputs = [tmp_path / f"{name}.{seed}" for name in ("spdx", "cyclonedx", "provenance")]
        options = [f"--{path.stem}={path}" for path in outputs]
        options += ["--label", LABEL, "--step=train", f"--image={layout}", f"--lock={lock}", "--builder-id=urn:x:y"]
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": f"UTC+{seed}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        subprocess.run([sys.executable, "-m", "mfbazel.sbom", *options], check=True, env=environment)
        seen.add(tuple(path.read_bytes() for path in outputs))
    assert len(seen) == 1


def test_times_are_those_of_a_stamped_build_only(case: Case, tmp_path: Path) -> None:
    layout = image(tmp_path)
    documents = case.run("start", layout)
    assert documents["spdx"]["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    assert documents["cyclonedx"]["metadata"]["timestamp"].startswith("1970-01-01T00:00:00")
    assert "metadata" not in documents["provenance"]["predicate"]["runDetails"]
    status = tmp_path / "volatile-status.txt"
    status.write_text("BUILD_HOST x\nBUILD_TIMESTAMP 1700000000\nEMPTY\n", encoding="utf-8")
    stamped = case.run("start", layout, "--status", str(status))
    check(case)
    assert stamped["spdx"]["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert stamped["cyclonedx"]["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")
    assert stamped["provenance"]["predicate"]["runDetails"]["metadata"] == {"finishedOn": "2023-11-14T22:13:20Z"}


def test_the_statement_names_builder_version_and_lock(case: Case, tmp_path: Path) -> None:
    documents = case.run("start", image(tmp_path))
    details = documents["provenance"]["predicate"]["runDetails"]
    assert details["builder"]["id"] == "https://ci.example.com/builder"
    assert set(details["builder"]["version"]) == {"mfbazel"}
    (lock,) = [item for item in dependencies(documents) if item["name"] == f"{LABEL}.lock/flow.json"]
    assert lock["digest"]["sha256"]
