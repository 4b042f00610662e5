"""The budget of layers: from the attribute, the policy or a spec file into the plan, and out of it again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mfbazel.errors import MfbazelError
from mfbazel.lock import cli
from mfbazel.lock.document import build, planned
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment, LockedEnvironment, LockedWheel, Platform, Settings
from mfbazel.lock.origin import GIT, LABEL, Source
from mfbazel.lock.policy import read_policy
from mfbazel.plan import Origin
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @pypi(packages={"alpha": ""})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheelhouse and a flow; nothing else is known."""
    directory = tmp_path / "wheelhouse"
    for name in ("metaflow", "packaging", "alpha"):
        wheel(directory, name, "2.19.39")
    (tmp_path / "demo.py").write_text(FLOW, encoding="utf-8")
    use_only(directory, tmp_path / "home", monkeypatch)


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    return cli.main([command, *arguments, "--python", HERE, "--runtime", "packaging", *options])


def document(tmp_path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return table


def layers(tmp_path: Path, step: str) -> list[str]:
    return [layer["name"] for layer in document(tmp_path)["layers"]["linux/amd64"] if step in layer["environments"]]


def test_a_lock_has_the_budget_only_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    run(tmp_path, "flow")
    usual = (tmp_path / "demo.lock" / "flow.json").read_bytes()
    assert "budget" not in document(tmp_path)
    assert layers(tmp_path, "start") == ["packages-common", "packages-of-start"]
    run(tmp_path, "flow", "--budget", "1")
    assert document(tmp_path)["budget"] == 1
    assert layers(tmp_path, "start") == ["packages-of-start"]
    run(tmp_path, "flow", "--budget", "24")
    assert (tmp_path / "demo.lock" / "flow.json").read_bytes() == usual


def test_another_budget_makes_the_lock_stale_and_is_named_as_a_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "flow")
    assert run(tmp_path, "test", "--budget", "24") == 0
    with pytest.raises(LockError) as caught:
        run(tmp_path, "test", "--budget", "12")
    assert "attribute `budget` is 12, the layers are planned for 24 per image\nRun `bazel run //:demo.lock`" in str(
        caught.value
    )
    assert run(tmp_path, "flow", "--check", "--budget", "12") == 1
    assert "budget 24 → 12 layers per image" in capsys.readouterr().out
    run(tmp_path, "flow", "--budget", "12")
    assert run(tmp_path, "test", "--budget", "12") == 0
    with pytest.raises(LockError, match="attribute `budget` is 24, the layers are planned for 12 per image"):
        run(tmp_path, "test")


@pytest.mark.parametrize("command", ["flow", "test"])
@pytest.mark.parametrize("budget", ["0", "101"])
def test_a_budget_out_of_range_is_refused_with_value_range_and_reason(
    tmp_path: Path, command: str, budget: str
) -> None:
    expected = (
        rf"attribute `budget`: {budget} layers per image is out of range; choose 1 to 100 \(container runtimes refuse "
        "images of more than about 125 layers, the base's included"
    )
    with pytest.raises(MfbazelError, match=expected):
        run(tmp_path, command, "--budget", budget)
    assert not (tmp_path / "demo.lock").exists()


def test_the_policy_says_it_for_flows_that_do_not(tmp_path: Path) -> None:
    path = tmp_path / "mfbazel.toml"
    path.write_text("[lock]\nbudget = 1\n", encoding="utf-8")
    run(tmp_path, "flow", "--policy", str(path))
    assert document(tmp_path)["budget"] == 1
    run(tmp_path, "flow", "--policy", str(path), "--budget", "3")
    assert document(tmp_path)["budget"] == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "mfbazel.toml: [lock]: `budget`: 0 layers per image is out of range; choose 1 to 100"),
        ('"12"', "mfbazel.toml: [lock]: `budget` is not a number: '12'"),
        ("true", "mfbazel.toml: [lock]: `budget` is not a number: True"),
    ],
)
def test_what_the_policy_cannot_say_is_refused(tmp_path: Path, value: str, said: str) -> None:
    path = tmp_path / "mfbazel.toml"
    path.write_text(f"[lock]\nbudget = {value}\n", encoding="utf-8")
    with pytest.raises(LockError) as caught:
        read_policy(path)
    assert said in str(caught.value)


def test_a_spec_file_says_it_for_its_environments(tmp_path: Path) -> None:
    def lock(budget: object) -> dict[str, Any]:
        entries = {
            "a": {"python": HERE, "requirements": ["alpha"]},
            "b": {"python": HERE, "requirements": ["alpha", "packaging"]},
        }
        spec = tmp_path / "environments.json"
        spec.write_text(json.dumps({"environments": entries, "budget": budget}), encoding="utf-8")
        directory = str(tmp_path / "demo.lock")
        assert cli.main(["environments", "--spec", str(spec), "--lock-dir", directory, "--label", "//:demo"]) == 0
        return document(tmp_path)

    assert "budget" not in lock(24)
    assert lock(1)["budget"] == 1
    assert layers(tmp_path, "b") == ["packages-of-b"]
    for wrong in ("12", True):
        with pytest.raises(LockError, match="`budget` is not a number"):
            lock(wrong)


def locked(name: str, wheels: list[LockedWheel]) -> LockedEnvironment:
    return LockedEnvironment(Environment(name, HERE, ()), {"linux/amd64": {}}, {"linux/amd64": wheels})


def test_the_layers_are_a_function_of_the_lock_and_count_what_targets_make() -> None:
    wheels = [LockedWheel(f"big{number}", "1.0", "x.whl", f"{number:064}", 5 << 20) for number in range(30)]
    wheels.append(LockedWheel("lib", "1.0", "x.whl", "//libs:lib", 0, source=Source(LABEL, label="//libs:lib")))
    settings = Settings("//:demo", (Platform("amd64"),), budget=10)
    lock = build(None, [locked("a", wheels), locked("b", wheels[:3])], settings)
    plan = lock.document["layers"]["linux/amd64"]
    assert sum("a" in layer["environments"] for layer in plan) == 10
    assert plan[-1] == {"name": "lib-1.0", "wheels": ["//libs:lib"], "environments": ["a"]}
    again = build(None, [locked("b", wheels[2::-1]), locked("a", wheels[::-1])], settings)
    assert again.document["layers"] == lock.document["layers"]


def test_where_a_wheel_comes_from_tells_how_often_it_changes() -> None:
    entry = {"name": "lib", "version": "1.0", "size": 5}
    commit, target = (source.to_json() for source in (Source(GIT, url="u"), Source(LABEL, label="//libs:lib")))
    assert planned("a" * 64, entry).origin == Origin.INDEX
    assert planned("a" * 64, {**entry, "source": commit}).origin == Origin.SOURCE
    assert planned("//libs:lib", {**entry, "source": target}).origin == Origin.TARGET
