"""The policy of the repository is enforced before anything is scheduled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.extension.aws import s3
from tests.extension.project import Project, plugin, words

bazel_policy: Any = plugin("bazel_policy")
bazel_errors: Any = plugin("bazel_errors")
bazel_lock: Any = plugin("bazel_lock")
StepRun: Any = plugin("bazel_images").StepRun
DIGEST = "sha256:" + "0" * 64
BUILT = [StepRun("start", f"registry.example.com/ml/churn@{DIGEST}", digest=DIGEST)]
GIVEN = [*BUILT, StepRun("train", "elsewhere.example.com/own:latest", given=True)]


SIGNING = """\
contact = "#ml"
[signing]
required = ["registry.example.com/ml"]
signers = ["cosign"]
attach = ["spdx"]
"""


def images(policy: dict[str, Any] | None = None, **start: Any) -> Any:
    """Return what a push recorded; ``start`` is of the image of that step."""
    entry = {"requirements_sha256": "", "lock": "0" * 16, **start}
    return bazel_lock.Images(
        "images.json", "Flow", dict.fromkeys(("start", "end"), bazel_lock._step_image(entry)), policy or {}
    )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    return tmp_path


def test_an_image_that_a_flow_names_itself_is_held_to_the_policy(workspace: Path) -> None:
    workspace.joinpath("mfbazel.toml").write_text('contact = "#ml"\n[allowed]\nregistries = ["registry.example.com"]\n')
    bazel_policy.check(BUILT, None, images)
    with pytest.raises(bazel_errors.NotAllowedException) as caught:
        bazel_policy.check(GIVEN, None, images)
    said = str(caught.value)
    assert "the image of step *train*, elsewhere.example.com/own:latest: not in [allowed] registries" in said
    assert "ask #ml" in said


def test_so_is_an_image_for_a_container_on_this_machine(workspace: Path) -> None:
    def step(name: str, image: str | None) -> SimpleNamespace:
        return SimpleNamespace(name=name, decorators=[SimpleNamespace(name="container", attributes={"image": image})])

    given = plugin("bazel_container").given_images(
        [step("start", None), step("train", "elsewhere.example.com/own"), step("end", str(workspace))]
    )
    assert [(run.step, run.image) for run in given] == [("train", "elsewhere.example.com/own")]
    workspace.joinpath("mfbazel.toml").write_text('[allowed]\nregistries = ["registry.example.com"]\n')
    with pytest.raises(bazel_errors.NotAllowedException, match="image of step \\*train\\*"):
        bazel_policy.check(given, None, images)


def test_images_of_the_registry_on_this_machine_and_local_steps_are_always_allowed(workspace: Path) -> None:
    workspace.joinpath("mfbazel.toml").write_text("[allowed]\nregistries = []\n")
    bazel_policy.check([StepRun("start"), StepRun("end", f"127.0.0.1:5000/x@{DIGEST}")], None, images)


def test_packages_of_the_lock_are_held_to_the_policy_of_today(workspace: Path) -> None:
    path = workspace / "flow.json"
    wheels = {"a": {"name": "torch", "version": "2.0", "license": "BSD-3-Clause"}}
    environments = {"train": {"wheels": {"linux/amd64": ["a"]}}}
    path.write_text(json.dumps({"wheels": wheels, "environments": environments}))
    lock = bazel_lock.Lock(path, "Flow", {})
    bazel_policy.check(BUILT, lock, images)
    workspace.joinpath("mfbazel.toml").write_text('[refused]\npackages = ["torch<2.1"]\n')
    with pytest.raises(bazel_errors.NotAllowedException, match=r"torch 2.0 \(train\): refused by \[refused\] packages"):
        bazel_policy.check(BUILT, lock, images)


def test_without_a_workspace_the_rules_are_those_of_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILD_WORKSPACE_DIRECTORY", raising=False)
    rules = {"allowed": {"registries": ["registry.example.com"]}}
    monkeypatch.setenv("MFBAZEL_IMAGES", "images.json")
    bazel_policy.check(GIVEN, None, images)
    bazel_policy.check(BUILT, None, lambda: images(rules))
    with pytest.raises(bazel_errors.NotAllowedException, match="elsewhere"):
        bazel_policy.check(GIVEN, None, lambda: images(rules))


def test_a_policy_that_cannot_be_read_stops_a_launch(workspace: Path) -> None:
    workspace.joinpath("mfbazel.toml").write_text("[allowed]\nregistrys = []\n")
    with pytest.raises(bazel_errors.NotAllowedException, match="unknown key `registrys`"):
        bazel_policy.check(BUILT, None, images)


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"attached": ["spdx"]}, ["unsigned: [signing] required of mfbazel.toml, 'registry.example.com/ml'"]),
        ({"signed_by": "notation", "attached": ["spdx"]}, ["signed by notation: not in [signing] signers"]),
        ({"signed_by": "cosign"}, ["without spdx: [signing] attach of mfbazel.toml"]),
        ({}, ["unsigned: ", "without spdx: "]),
        ({"lock": None}, ["unsigned: "]),
    ],
)
def test_an_image_whose_push_did_not_sign_it_as_the_policy_says_is_not_launched(
    workspace: Path, recorded: dict[str, Any], said: list[str]
) -> None:
    workspace.joinpath("mfbazel.toml").write_text(SIGNING)
    with pytest.raises(bazel_errors.NotAllowedException) as caught:
        bazel_policy.check([*BUILT, replace(BUILT[0], step="end")], None, lambda: images(**recorded))
    lines = str(caught.value).splitlines()
    assert lines[0] == "pushed images of steps, as images.json records them, that mfbazel.toml does not allow:"
    for line, words_of in zip(lines[1:-1], said, strict=True):
        assert line.startswith(f"  the image of *start*, *end* in registry.example.com/ml/churn, {words_of}")
    assert lines[-1].startswith("Push them so, with `bazel run //")
    assert lines[-1].endswith(".push`, or promote what was pushed so, or ask #ml.")


@pytest.mark.parametrize(
    "recorded", [{"signed_by": "cosign", "attached": ["provenance", "spdx"]}, {"signed_by": "cosign", "lock": None}]
)
def test_one_whose_push_did_is_launched(workspace: Path, recorded: dict[str, Any]) -> None:
    workspace.joinpath("mfbazel.toml").write_text(SIGNING)
    bazel_policy.check(BUILT, None, lambda: images(**recorded))


def test_nothing_is_asked_of_signatures_elsewhere_of_a_users_image_and_on_this_machine(workspace: Path) -> None:
    workspace.joinpath("mfbazel.toml").write_text(SIGNING)
    here = StepRun("start", f"127.0.0.1:5000/ml/churn@{DIGEST}", digest=DIGEST)
    elsewhere = StepRun("start", f"registry.example.com/dev/churn@{DIGEST}", digest=DIGEST)
    own = StepRun("start", "registry.example.com/ml/own:latest", given=True)
    bazel_policy.check([here, elsewhere, own, StepRun("end")], None, images)


def test_without_a_workspace_what_must_be_signed_is_what_the_build_wrote_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILD_WORKSPACE_DIRECTORY", raising=False)
    monkeypatch.setenv("MFBAZEL_IMAGES", "images.json")
    rules = {"signing": {"required": ["registry.example.com/ml"]}, "contact": "#ml"}
    bazel_policy.check(BUILT, None, lambda: images(rules, signed_by="acme"))
    with pytest.raises(bazel_errors.NotAllowedException, match=r"(?s)unsigned: .signing. required.*or ask #ml"):
        bazel_policy.check(BUILT, None, lambda: images(rules))


def test_a_run_stops_before_anything_is_scheduled(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write_flow("@batch", imports="batch")
    project.write_lock({})
    project.write_images({}, repository="registry.example.com/ml/small")
    tmp_path.joinpath("mfbazel.toml").write_text(SIGNING)
    project.variables |= s3() | {"BUILD_WORKSPACE_DIRECTORY": str(tmp_path)}
    done = project.run("run")
    assert done.returncode != 0
    assert "Not allowed" in done.stderr
    assert "the image of train in registry.example.com/ml/small, unsigned" in words(done)
    assert "with `bazel run //flows:small_flow.push`" in words(done)
