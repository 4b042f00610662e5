"""The policy of the repository is enforced before anything is scheduled."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.extension.project import plugin

bazel_policy: Any = plugin("bazel_policy")
bazel_errors: Any = plugin("bazel_errors")
bazel_lock: Any = plugin("bazel_lock")
StepRun: Any = plugin("bazel_images").StepRun
DIGEST = "sha256:" + "0" * 64
BUILT = [StepRun("start", f"registry.example.com/ml/churn@{DIGEST}", digest=DIGEST)]
GIVEN = [*BUILT, StepRun("train", "elsewhere.example.com/own:latest", given=True)]


def images(policy: dict[str, Any] | None = None) -> Any:
    return bazel_lock.Images("images.json", "Flow", {}, policy or {})


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
