"""The report of packages that stand at several versions, and of what aligning them saves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mfbazel.lock.document import Lock
from mfbazel.lock.repository.report import Diverging, Report, Saving, make_report
from mfbazel.plan import BIG, PlanError

MB = 1_000_000
AMD64, ARM64 = "linux/amd64", "linux/arm64"


def sha(name: str, version: str, platform: str = AMD64, python: str = "any") -> str:
    return hashlib.sha256(f"{name} {version} {platform} {python}".encode()).hexdigest()


class Made:
    """Makes locks whose wheels are named by distribution and version."""

    def __init__(self, sizes: Mapping[str, int], pure: Sequence[str] = ()) -> None:
        self._sizes = sizes
        self._pure = pure

    def lock(self, *environments: dict[str, Any], platforms: Sequence[str] = (AMD64,)) -> Lock:
        wheels: dict[str, Any] = {}
        documents = {}
        for environment in environments:
            chosen: dict[str, list[str]] = {}
            for platform in platforms:
                for name, version in environment["packages"].items():
                    python = "any" if name in self._pure else environment["python"]
                    key = sha(name, version, platform, python)
                    size = self._sizes.get(f"{name} {version}", self._sizes.get(name, MB))
                    wheels[key] = {"name": name, "version": version, "file": f"{name}-{version}.whl", "size": size}
                    chosen.setdefault(platform, []).append(key)
            documents[environment["name"]] = {**environment, "wheels": chosen, "file": f"{environment['name']}.txt"}
        texts = {f"{environment['name']}.txt": requirements_file(environment) for environment in environments}
        return Lock({"schema": 1, "flow": None, "environments": documents, "wheels": wheels}, texts)


def requirements_file(environment: dict[str, Any]) -> str:
    """Return the file of an environment whose ``via`` says what needs what."""
    lines = []
    for name, version in environment["packages"].items():
        lines += [f"{name}=={version} \\", f"    --hash=sha256:{sha(name, version)}"]
        lines += [f"    # via {parent}" for parent in environment.get("via", {}).get(name, [])]
    return "".join(f"{line}\n" for line in lines)


def step(
    name: str, packages: Mapping[str, str], requirements: Sequence[str] = (), python: str = "3.14", **more: Any
) -> dict[str, Any]:
    return {"name": name, "packages": packages, "requirements": requirements, "runtime": [], "python": python, **more}


def only(report: Report) -> Diverging:
    (item,) = report.diverging
    return item


def test_equal_versions_are_no_matter() -> None:
    made = Made({})
    lock = made.lock(step("train", {"numpy": "2.0"}))
    report = make_report({"//a:a": lock, "//b:b": lock})
    assert report.diverging == ()
    assert report.saving == report.saving_at_most == Saving()
    assert report.stored == Saving(MB, 1, MB)


def test_a_big_wheel_at_two_versions_costs_a_layer_of_its_size() -> None:
    made = Made({"numpy 2.0": 20 * MB, "numpy 2.1": 21 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}), step("train", {"numpy": "2.0"})),
            "//b:b": made.lock(step("start", {"numpy": "2.1"})),
        }
    )
    item = only(report)
    assert [(v.version, v.bytes) for v in item.versions] == [("2.1", 21 * MB), ("2.0", 20 * MB)]
    assert [(u.flow, u.steps) for u in item.versions[1].uses] == [("//a:a", ("start", "train"))]
    assert item.alignments[0].constraint == "numpy==2.1"
    assert item.saving == Saving(20 * MB, 1, 20 * MB) == report.saving
    assert report.stored == Saving(41 * MB, 2, 41 * MB)


def test_a_small_wheel_makes_the_whole_shared_layer_another_one() -> None:
    made = Made({"six": MB // 10, "requests": 2 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"requests": "2.32", "six": "1.16"})),
            "//b:b": made.lock(step("start", {"requests": "2.32", "six": "1.17"})),
        }
    )
    assert only(report).saving == Saving(MB // 10, 1, 2 * MB + MB // 10)


def test_what_the_layers_would_be_afterwards_is_planned_not_assumed() -> None:
    """The group that the other flow has holds another wheel besides: its layer stays another one."""
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"six": "1.16"})),
            "//b:b": made.lock(step("start", {"other": "1.0", "six": "1.17"})),
        }
    )
    assert only(report).saving == Saving(MB, 0, 0)


def test_all_alignments_together_may_save_more_than_each_alone() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"idna": "3.1", "six": "1.16"})),
            "//b:b": made.lock(step("start", {"idna": "3.2", "six": "1.17"})),
        }
    )
    assert [item.saving.layers for item in report.diverging] == [0, 0]
    assert report.saving == Saving(2 * MB, 1, 2 * MB)


def test_those_that_save_most_come_first() -> None:
    made = Made({"numpy": 20 * MB, "torch": 200 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"idna": "3.1", "numpy": "2.0", "torch": "2.8"})),
            "//b:b": made.lock(step("start", {"idna": "3.2", "numpy": "2.1", "torch": "2.9"})),
        }
    )
    assert [item.name for item in report.diverging] == ["torch", "numpy", "idna"]
    assert report.saving == Saving(221 * MB, 3, 221 * MB)


def test_the_launcher_is_no_image() -> None:
    made = Made({})
    locks = {
        "//a:a": made.lock(step("_launcher", {"metaflow": "2.19"}), step("start", {"six": "1.17"})),
        "//b:b": made.lock(step("_launcher", {"metaflow": "2.20"}), step("start", {"six": "1.17"})),
    }
    report = make_report(locks)
    assert report.diverging == ()
    assert report.stored.wheel_bytes == MB


def test_a_declaration_that_forbids_is_named_and_not_counted_as_possible() -> None:
    made = Made({"numpy": 20 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("prepare", {"numpy": "2.0"}, ["numpy==2.0"]), step("train", {"numpy": "2.0"})),
            "//b:b": made.lock(step("start", {"numpy": "2.1"}, ["numpy>=2.1"])),
        }
    )
    (alignment,) = only(report).alignments
    assert alignment.version == "2.1"
    assert alignment.forbidden == ("//a:a (prepare): numpy==2.0",)
    assert report.saving == Saving()
    assert report.saving_at_most == Saving(20 * MB, 1, 20 * MB)


def test_the_newest_version_that_everybody_allows_is_the_one_to_align_on() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}, ["numpy<2.2"])),
            "//b:b": made.lock(step("start", {"numpy": "2.1"})),
            "//c:c": made.lock(step("start", {"numpy": "2.10"})),
            "//d:d": made.lock(step("start", {"numpy": "2.11rc1"})),
        }
    )
    item = only(report)
    assert [version.version for version in item.versions] == ["2.11rc1", "2.10", "2.1", "2.0"]
    assert item.alignments[0].version == "2.1"
    assert item.allowed


def test_a_constraint_of_the_policy_forbids_as_a_declaration_does() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}, policy={"constraints": ["numpy<2.1"]})),
            "//b:b": made.lock(step("start", {"numpy": "2.1"}, ["numpy==2.1"])),
        }
    )
    assert not only(report).allowed


def test_a_requirement_for_another_python_forbids_nothing() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}, ['numpy==2.0; python_version < "3.10"'])),
            "//b:b": made.lock(step("start", {"numpy": "2.1"})),
        }
    )
    assert only(report).allowed


def test_different_pythons_share_no_layer_so_there_is_nothing_to_align() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}, python="3.11")),
            "//b:b": made.lock(step("start", {"numpy": "2.1"}, python="3.14")),
        }
    )
    assert only(report).alignments == ()
    assert only(report).saving == Saving()


def test_two_pythons_with_versions_of_their_own_get_a_constraint_with_a_marker() -> None:
    made = Made({})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "1.9"}, python="3.11"), step("end", {"numpy": "2.2"})),
            "//b:b": made.lock(step("start", {"numpy": "2.0"}, python="3.11"), step("end", {"numpy": "2.3"})),
        }
    )
    assert [alignment.constraint for alignment in only(report).alignments] == [
        'numpy==2.0 ; python_version == "3.11"',
        'numpy==2.3 ; python_version == "3.14"',
    ]
    assert only(report).saving == Saving(2 * MB, 2, 2 * MB)


def test_a_wheel_that_another_python_still_uses_is_not_saved_but_its_layer_is() -> None:
    made = Made({}, pure=["six"])
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"six": "1.16"}, python="3.11")),
            "//b:b": made.lock(step("start", {"six": "1.16"}), step("end", {"six": "1.17"})),
        }
    )
    item = only(report)
    assert item.alignments[0].python == "3.14"
    assert item.saving == Saving(0, 1, MB)


def test_cuda_and_cpu_builds_are_not_aligned_with_each_other() -> None:
    made = Made({"torch": 100 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"torch": "2.8+cpu"}), step("train", {"torch": "2.8+cu126"})),
            "//b:b": made.lock(step("start", {"torch": "2.9+cpu"}), step("train", {"torch": "2.9+cu126"})),
        }
    )
    item = only(report)
    assert [alignment.version for alignment in item.alignments] == ["2.9+cpu", "2.9+cu126"]
    assert {alignment.constraint for alignment in item.alignments} == {"torch==2.9"}
    assert item.saving == Saving(200 * MB, 2, 200 * MB)


def test_variants_that_stand_at_different_versions_have_no_common_constraint() -> None:
    made = Made({})
    gpu = {"indexes": {"torch": "torch-cuda"}}
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"torch": "2.8"}), step("train", {"torch": "2.7"}, policy=gpu)),
            "//b:b": made.lock(step("start", {"torch": "2.9"}), step("train", {"torch": "2.7"}, policy=gpu)),
        }
    )
    (alignment,) = only(report).alignments
    assert (alignment.version, alignment.constraint) == ("2.9", None)


def test_a_platform_on_which_nobody_has_the_version_yet_is_estimated_from_another() -> None:
    made = Made({"numpy 2.0": 20 * MB, "numpy 2.1": 22 * MB})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}), platforms=[AMD64, ARM64]),
            "//b:b": made.lock(step("start", {"numpy": "2.1"}), platforms=[AMD64]),
        }
    )
    # arm64 has one wheel before and after; it grows by 2 MB.
    assert only(report).saving == Saving(18 * MB, 1, 18 * MB)


def test_a_wheel_without_a_description_is_an_error_that_names_flow_and_step() -> None:
    lock = Made({}).lock(step("start", {"numpy": "2.0"}))
    broken = Lock({**lock.document, "wheels": {}}, {})
    with pytest.raises(PlanError, match="//a:a: the lock of 'start' names the wheel"):
        make_report({"//a:a": broken})


def test_json_has_what_the_report_has() -> None:
    made = Made({"numpy": BIG})
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"numpy": "2.0"}, ["numpy==2.0"])),
            "//b:b": made.lock(step("start", {"numpy": "2.1"})),
        }
    )
    saving = {"wheel_bytes": BIG, "layers": 1, "layer_bytes": BIG}
    nothing = {"wheel_bytes": 0, "layers": 0, "layer_bytes": 0}
    assert report.to_json() == {
        "schema": 1,
        "flows": 2,
        "stored": {"wheel_bytes": 2 * BIG, "layers": 2, "layer_bytes": 2 * BIG},
        "packages": [
            {
                "name": "numpy",
                "versions": [
                    {"version": "2.1", "bytes": BIG, "uses": [{"flow": "//b:b", "steps": ["start"]}]},
                    {"version": "2.0", "bytes": BIG, "uses": [{"flow": "//a:a", "steps": ["start"]}]},
                ],
                "alignments": [{"python": "3.14", "version": "2.0", "constraint": "numpy==2.0", "forbidden": []}],
                "together": [],
                "saving": saving,
            }
        ],
        "saving": saving,
        "saving_at_most": saving,
    }
    assert nothing == Saving().to_json()


def test_what_is_needed_follows_the_version_of_what_needs_it() -> None:
    """pydantic pins pydantic-core: a newer pydantic-core beside the older pydantic would be no solution."""
    made = Made({})
    via = {"pydantic-core": ["pydantic"]}
    report = make_report(
        {
            "//a:a": made.lock(
                step("start", {"pydantic": "2.12", "pydantic-core": "2.41"}, ["pydantic==2.12"], via=via)
            ),
            "//b:b": made.lock(step("start", {"pydantic": "2.14", "pydantic-core": "2.50"}, via=via)),
        }
    )
    parent, child = report.diverging
    assert [item.name for item in (parent, child)] == ["pydantic", "pydantic-core"]
    assert parent.alignments[0].constraint == "pydantic==2.12"
    assert child.alignments[0].constraint == "pydantic-core==2.41"
    # Alone, either leaves the layer of the other version behind.
    assert parent.together == ("pydantic-core",)
    assert parent.saving == Saving(2 * MB, 1, 2 * MB)
    assert child.saving == Saving(MB, 0, 0)


def test_what_needs_each_other_in_a_circle_is_reported_as_well() -> None:
    made = Made({})
    via = {"one": ["two"], "two": ["one"]}
    report = make_report(
        {
            "//a:a": made.lock(step("start", {"one": "1", "two": "1"}, via=via)),
            "//b:b": made.lock(step("start", {"one": "2", "two": "2"}, via=via)),
        }
    )
    assert {item.alignments[0].constraint for item in report.diverging} == {"one==2", "two==2"}
    assert report.saving == Saving(2 * MB, 1, 2 * MB)
