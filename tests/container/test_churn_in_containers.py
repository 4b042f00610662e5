"""The churn flow, ``run --with container``: every step in its image, by bubblewrap and by podman."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.container.laptops import BUILT, Laptop, wait
from tests.e2e import read_run
from tests.e2e.flows import CommandLine, Finished

IMAGES = json.loads((BUILT / "churn_flow.images" / "images.json").read_text(encoding="utf-8"))
LOCK = json.loads((BUILT / "churn_flow.lock" / "flow.json").read_text(encoding="utf-8"))
TASKS = {"start": 1, "prepare": 1, "train": 3, "evaluate": 1, "report": 1, "end": 1}
OWNERS = {"pandas": "prepare", "sklearn": "train", "matplotlib": "report"}
CUSTOMERS = 150
MANY_CUSTOMERS = 5_000_000


def command_line() -> CommandLine:
    """Return ``bazel run //examples/churn:churn_flow``."""
    return CommandLine.read(Path(__file__).with_name("churn_flow.json"))


def words(laptop: Laptop, *arguments: str) -> list[str]:
    """Return the arguments that choose the container."""
    return ["run", "--with", f"container:engine={laptop.engine}", *arguments]


def run_flow(laptop: Laptop, *arguments: str, name: str) -> Finished:
    """Run the flow to its end."""
    return command_line().run(words(laptop, *arguments), laptop.environ, laptop.directory / f"{name}.log")


@dataclass(frozen=True)
class Run:
    """A run that ended well."""

    number: str
    finished: Finished
    tasks: list[dict[str, Any]]


@pytest.fixture(scope="session")
def run(laptop: Laptop) -> Run:
    """A whole run, with a parameter."""
    finished = run_flow(laptop, "--customers", str(CUSTOMERS), name="run").require_success()
    number = _number(finished.output)
    script = Path(read_run.__file__)
    done = subprocess.run(
        [sys.executable, script, "ChurnFlow", number],
        env={**laptop.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
        cwd=laptop.work,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return Run(number, finished, json.loads(done.stdout.splitlines()[-1])["tasks"])


def test_every_task_of_the_graph_succeeds(run: Run) -> None:
    assert Counter(task["step"] for task in run.tasks) == TASKS
    assert all(task["successful"] for task in run.tasks)


def test_the_images_are_those_that_bazel_builds_for_the_flow(laptop: Laptop, run: Run) -> None:
    asked = json.loads((laptop.directory / "bazel.json").read_text(encoding="utf-8"))
    assert asked["arguments"][0] in ("build", "--output_base") or asked["arguments"][1] == "build"
    assert asked["arguments"][-1] == "//examples/churn:churn_flow.images"
    assert asked["directory"] == str(laptop.directory / "workspace")
    assert "as Bazel would say" in run.finished.output


def test_each_task_runs_on_the_images_interpreter_and_packages_only(run: Run) -> None:
    for task in run.tasks:
        environment = LOCK["environments"][task["step"]]
        wheels = [LOCK["wheels"][digest] for digest in environment["wheels"]["linux/amd64"]]
        locked = {re.sub(r"[-_.]+", "-", wheel["name"]).lower(): wheel["version"] for wheel in wheels}
        inspection = task["artifacts"]["inspection"]
        assert inspection["executable"] == "/opt/venv/bin/python"
        # Metaflow itself comes from this machine.
        found = {name: version for name, version in inspection["distributions"].items() if name != "metaflow"}
        assert found == locked
        for module, owner in OWNERS.items():
            expected = "imported" if task["step"] == owner else "ModuleNotFoundError"
            assert inspection["imports"][module] == expected, task["step"]


def test_the_parameter_the_foreach_and_the_card_are_as_without_a_container(run: Run) -> None:
    by_step = {task["step"]: task for task in run.tasks}
    assert by_step["start"]["artifacts"]["customers"] == CUSTOMERS
    assert len(by_step["prepare"]["artifacts"]["rows"]) == CUSTOMERS
    assert by_step["evaluate"]["artifacts"]["aucs"].keys() == {"logistic", "forest", "boosting"}
    assert len(by_step["report"]["cards"]) == 1
    assert "The best of 3 models is" in by_step["end"]["stdout"]


def test_everything_that_was_written_is_the_users(laptop: Laptop, run: Run) -> None:
    written = list(laptop.work.rglob("*"))
    assert laptop.work / ".metaflow" / "ChurnFlow" / run.number in written
    assert {path.lstat().st_uid for path in written} == {os.getuid()}


def test_the_tasks_metadata_names_the_engine_and_the_image(laptop: Laptop, run: Run) -> None:
    metadata = laptop.work / ".metaflow" / "ChurnFlow" / run.number / "train"
    recorded = {
        entry["field_name"]: entry["value"]
        for file in metadata.rglob("_meta/sysmeta_container-*.json")
        for entry in [json.loads(file.read_text(encoding="utf-8"))]
    }
    assert recorded == {"container-engine": laptop.engine, "container-image": IMAGES["steps"]["train"]["digest"]}


def test_nothing_runs_after_the_run(laptop: Laptop, run: Run) -> None:
    assert run.finished.status == 0
    assert laptop.left() == []


# Exit codes and signals of both engines are looked at without Metaflow, in test_engines.
@pytest.mark.parametrize("laptop", ["bubblewrap"], indirect=True)
def test_a_failing_step_fails_the_run_with_its_error(laptop: Laptop, run: Run) -> None:
    del run
    failed = run_flow(laptop, "--customers", "5", name="failing")
    assert failed.status == 1
    assert "ValueError: --customers is 5" in failed.output
    assert laptop.left() == []


@pytest.mark.parametrize("laptop", ["podman"], indirect=True)
def test_ctrl_c_reaches_the_step_and_ends_its_container(laptop: Laptop, run: Run) -> None:
    del run
    program, *rest = command_line().words
    command = [str(Path(program).absolute()), *rest, *words(laptop, "--customers", str(MANY_CUSTOMERS))]
    log = laptop.directory / "interrupted.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=laptop.environ, start_new_session=True
        )
    try:
        wait(lambda: "/prepare/2 (pid" in log.read_text(encoding="utf-8"), "step prepare to start")
        wait(lambda: any("step prepare" in running for running in laptop.left()), "its container")
        time.sleep(5)  # Python has started
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text(encoding="utf-8")
    assert "Workflow interrupted" in said
    assert re.search(r"/prepare/2 \(pid \d+\)\] Aborted!", said), said  # what Metaflow says in the task
    assert "Killing" not in said
    wait(lambda: laptop.left() == [], "everything to end", seconds=10)


def _number(output: str) -> str:
    """Return the number that Metaflow gave the run."""
    match = re.search(r"\(run-id (\d+)\)", output)
    assert match is not None, output
    return match[1]
