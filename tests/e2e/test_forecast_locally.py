"""A flow that only Metaflow itself can read: explained, and run on this machine, each step on its own packages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.flows import CommandLine, Finished

HERE = Path(__file__).parent
EXAMPLE = Path("examples", "forecast")


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


def run(verb: str, arguments: Sequence[str], home: Path) -> Finished:
    """Run the target ``forecast_flow`` + ``verb`` as a person would who has nothing set but a home."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "USER": "tester",
        "BUILD_WORKING_DIRECTORY": str(home / "work"),
    }
    command = CommandLine.read(HERE / f"forecast_flow{verb}.json")
    return command.run(arguments, environ, home / f"log{verb}")


def test_the_config_and_the_mutator_decide_what_is_read() -> None:
    spec = json.loads((EXAMPLE / "forecast_flow.spec.json").read_text(encoding="utf-8"))
    assert spec["reading"]["way"] == "dynamic"
    steps = {step["name"]: step for step in spec["steps"]}
    assert {step["python"] for step in steps.values()} == {"3.14"}
    assert [(item["name"], item["specifier"]) for item in steps["fit"]["declared"]] == [("numpy", "==2.5.5")]
    assert steps["join"]["declared"] == []
    assert all("retry" in step["decorators"] for step in steps.values())


def test_explain_says_that_the_flow_was_run_and_why(home: Path) -> None:
    said = run(".explain", [], home).require_success().output
    assert "read by running it (" in said
    assert "numpy 2.5.5\n  declared in forecast_flow.py:" in said


def test_the_checked_in_advisories_are_compared_with_the_lock(home: Path) -> None:
    said = run(".audit", [], home).require_success().output
    assert "advisories: 1 about PyPI, the newest of 2024-11-21\nno vulnerability is known in " in said
    assert "licences: " in said
    found = json.loads((EXAMPLE / "advisories.json").read_text(encoding="utf-8"))
    found[0]["affected"][0]["ranges"][0]["events"][1] = {"fixed": "99"}
    (home / "work" / "own.json").write_text(json.dumps(found), encoding="utf-8")
    audited = run(".audit", ["--advisories", "own.json", "--ignore", "CVE-2018-18074=on our side of the wall"], home)
    assert "ignored: on our side of the wall" in audited.require_success().output
    audited = run(".audit", ["--advisories", "own.json"], home)
    assert audited.status == 1
    assert (
        "fixed in 99: bazel run //examples/forecast:forecast_flow.lock -- --upgrade-package requests" in audited.output
    )


def test_it_runs_with_the_settings_that_it_was_locked_with(home: Path) -> None:
    said = run("", ["run"], home).require_success().output
    for region in ("north", "south", "west"):
        assert f"{region}: " in said


def test_other_settings_than_the_locked_ones_are_refused_before_a_task_starts(home: Path) -> None:
    settings = json.loads((EXAMPLE / "settings.json").read_text(encoding="utf-8"))
    settings["packages"]["numpy"] = "2.5.4"
    other = home / "other.json"
    other.write_text(json.dumps(settings), encoding="utf-8")
    finished = run("", ["--config", "settings", str(other), "run"], home)
    assert finished.status != 0
    assert "numpy was ==2.5.5, is ==2.5.4" in finished.output
    assert "Task is starting" not in finished.output
    shutil.rmtree(home / "work" / ".metaflow", ignore_errors=True)
