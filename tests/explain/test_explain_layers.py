"""What ``.explain -- --layers`` says of the layers that a lock plans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mfbazel.analyze import read_flow
from mfbazel.errors import MfbazelError
from mfbazel.explain import cli
from mfbazel.explain.layer_tables import show_layers
from mfbazel.explain.layers import explain_layers
from mfbazel.lock.document import Lock, planned, read
from mfbazel.plan import plan_layers

MB = 1_000_000
FLOW = """
from metaflow import FlowSpec, step

class DemoFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""
SIZES = {"torch": 200 * MB, "numpy": 15 * MB, "six": 1 * MB, "rich": 2 * MB, "attrs": 3 * MB, "fork": 1 * MB, "lib": 0}
SPECIAL = {"fork": {"kind": "git"}, "lib": {"kind": "label"}}
STEPS = {"start": "six", "train": "six rich attrs numpy torch fork lib", "end": "six numpy"}


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    (tmp_path / "demo_flow.py").write_text(FLOW, encoding="utf-8")


def write_lock(
    directory: Path,
    budget: int | None = None,
    steps: Mapping[str, str] = STEPS,
    pythons: Mapping[str, str] | None = None,
) -> Lock:
    """Lock the flow as it is in ``directory`` now, planned as a lock command does."""
    names = {name: f"//libs:{name}" if name == "lib" else name[0] * 64 for name in SIZES}
    wheels: dict[str, dict[str, Any]] = {}
    for name, key in names.items():
        wheels[key] = {"name": name, "version": "1.0", "file": f"{name}.whl", "size": SIZES[name]}
        if name in SPECIAL:
            wheels[key]["source"] = SPECIAL[name]
    keys = {step: [names[name] for name in text.split()] for step, text in steps.items()}
    pythons = pythons or dict.fromkeys(steps, "3.14")
    layers = plan_layers(
        keys, {key: planned(key, wheel) for key, wheel in wheels.items()}, pythons=pythons, budget=budget or 24
    )
    document: dict[str, Any] = {
        "schema": 1,
        "flow": read_flow(directory / "demo_flow.py").to_json(),
        "environments": {
            step: {"file": f"{step}.txt", "python": pythons[step], "wheels": {"linux/amd64": keys[step]}}
            for step in steps
        },
        "wheels": wheels,
        "layers": {"linux/amd64": [asdict(layer) for layer in layers]},
    }
    if budget:
        document["budget"] = budget
    lock = directory / "demo.lock"
    lock.mkdir(exist_ok=True)
    (lock / "flow.json").write_text(json.dumps(document), encoding="utf-8")
    found = read(lock, "")
    assert found
    return found


def run(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    arguments = ["--flow", "demo_flow.py", "--lock-dir", "demo.lock", "--label", "//flows:demo", "--layers", *options]
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def row(text: str, *start: str) -> list[str]:
    """Return the words of the line that starts with the words ``start``."""
    return next(words for line in text.splitlines() if (words := line.split())[: len(start)] == list(start))


def layer_of(lock: Lock, *names: str, steps: Sequence[str]) -> Any:
    report = explain_layers(lock, "linux/amd64", ["start", "train", "end"])
    return next(
        layer
        for layer in report.layers
        if {wheel.name for wheel in layer.wheels} == {*names} and layer.steps == tuple(steps)
    )


def test_layers_stand_from_the_bottom_to_the_top_each_with_its_reason_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(tmp_path)
    said = run(capsys)
    assert said.startswith("layers for linux/amd64, from the bottom to the top\n")
    assert [" ".join(line.split()) for line in said.splitlines()[2:9]] == [
        "layer wheels MB steps why saved MB twice MB bump MB",
        "torch 1.0 1 200.0 train alone: 4 MiB or more 200.0",
        "numpy 1.0 1 15.0 train, end alone: 4 MiB or more 15.0 15.0",
        "six 1.0 1 1.0 every step small, the same steps 2.0 1.0",
        "packages-of-train 2 5.0 train small, the same steps 5.0",
        "fork 1.0 1 1.0 train small, the same steps, from sources 1.0",
        "lib 1.0 1 ? train a target makes it ?",
    ]
    assert "?: the size of what a target makes is not in the lock" in said


def test_each_step_shows_its_layers_against_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    said = run(capsys)
    assert row(said, "step") == ["step", "layers", "of", "MB", "shared", "MB"]
    assert row(said, "start") == ["start", "1", "24", "1.0", "1.0"]
    assert row(said, "train") == ["train", "6", "24", "222.0", "16.0"]


def test_the_plan_stands_beside_what_others_would_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    said = run(capsys)
    # A bump pushes 200, 15, 1, 5, 5, 1 or 0 MB.
    assert row(said, "this", "plan")[2:] == ["6", "6", "222.0", "32.4"]
    assert row(said, "each", "wheel", "alone")[3:] == ["7", "7", "222.0", "31.7"]
    # Here six 239, numpy 238, and each of the others the 222 MB of train.
    assert row(said, "one", "layer", "per", "step")[4:] == ["3", "1", "239.0", "226.7"]
    assert "without a budget" not in said


def test_what_was_merged_for_the_budget_says_so_and_what_is_stored_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = write_lock(tmp_path, budget=3)
    merged = layer_of(lock, "numpy", "six", "rich", "attrs", "fork", steps=["train"])
    assert (merged.why, merged.twice, merged.saved) == ("budget", 16 * MB, 0)
    rest = layer_of(lock, "six", steps=["start", "end"])
    assert (rest.why, rest.twice, rest.bump) == ("rest", 1 * MB, 23 * MB)
    said = run(capsys)
    assert row(said, "sources-of-train")[4:6] == ["merged:", "budget"]
    assert row(said, "train")[:3] == ["train", "3", "3"]
    assert row(said, "without", "a", "budget")[3:5] == ["6", "6"]
    assert "merged: a step would have more than 3 layers, see the attribute `budget`" in said


def test_a_layer_of_one_python_is_no_copy_of_anothers(tmp_path: Path) -> None:
    pythons = {"start": "3.12", "train": "3.14", "end": "3.14"}
    lock = write_lock(tmp_path, steps=dict.fromkeys(STEPS, "six"), pythons=pythons)
    other, shared = layer_of(lock, "six", steps=["start"]), layer_of(lock, "six", steps=["train", "end"])
    assert (other.saved, other.twice, other.why) == (0, 0, "steps")
    assert (shared.saved, shared.twice, shared.bump) == (1 * MB, 0, 2 * MB)


def test_a_plan_that_gives_one_layer_to_two_pythons_counts_it_twice(tmp_path: Path) -> None:
    """An older lock may have such a plan."""
    pythons = {"start": "3.12", "train": "3.14", "end": "3.14"}
    lock = write_lock(tmp_path, steps=dict.fromkeys(STEPS, "six"), pythons=pythons)
    plan = {"linux/amd64": [{"name": "packages-common", "wheels": ["s" * 64], "environments": list(STEPS)}]}
    report = explain_layers(Lock({**lock.document, "layers": plan}, {}), "linux/amd64", list(STEPS))
    assert (report.layers[0].saved, report.layers[0].bump, report.plans[0].stored) == (1 * MB, 2 * MB, 2 * MB)


def test_json_says_the_same_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path, budget=12)
    table = json.loads(run(capsys, "--json", "--step", "start"))
    assert table == {
        "flow": "DemoFlow",
        "platform": "linux/amd64",
        "budget": 12,
        "stale": [],
        "layers": [
            {
                "name": "packages-common",
                "wheels": [{"name": "six", "version": "1.0", "size": 1 * MB}],
                "steps": ["start", "train", "end"],
                "why": "steps",
                "size": 1 * MB,
                "saved": 2 * MB,
                "twice": 0,
                "bump": 1 * MB,
            }
        ],
        "steps": [{"step": "start", "layers": 1, "size": 1 * MB, "shared": 1 * MB}],
        "plans": table["plans"],
    }
    assert [plan["plan"] for plan in table["plans"]] == ["this", "alone", "steps", "one"]


def test_only_the_layers_of_named_steps_and_packages_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(tmp_path)
    said = run(capsys, "--step", "end")
    assert "torch" not in said
    assert row(said, "numpy")[:2] == ["numpy", "1.0"]
    said = run(capsys, "--package", "rich")
    assert "packages-of-train" in said
    assert "numpy" not in said


def test_a_flow_without_a_lock_has_no_layers_and_says_how_to_plan_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MfbazelError, match=r"--layers: DemoFlow is not locked yet.*`bazel run //flows:demo.lock`"):
        run(capsys)


def test_steps_that_changed_since_they_were_locked_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(tmp_path)
    changed = FLOW.replace("import FlowSpec", "import FlowSpec, pypi").replace(
        "    @step\n    def end", '    @pypi(packages={"six": ""})\n    @step\n    def end'
    )
    (tmp_path / "demo_flow.py").write_text(changed, encoding="utf-8")
    assert "changed since it was locked: end; run `bazel run //flows:demo.lock`" in run(capsys)


def test_only_a_terminal_gets_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = explain_layers(write_lock(tmp_path, budget=3), "linux/amd64", list(STEPS))
    assert "\x1b" not in run(capsys)
    show_layers(report, Console(force_terminal=True, width=200), list(STEPS), report.layers)
    assert "\x1b[33m" in capsys.readouterr().out
