"""The churn flow from its built images to a finished run, every step in its own container.

Everything happens on this machine: the images go to a registry on loopback, Metaflow's @batch talks to moto, and moto
starts the containers with podman and runc.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.containers import containers_for_ordinary_users_are_optional, why_no_containers
from tests.e2e.flows import CommandLine, Finished
from tests.e2e.machine import Machine, machine_of_test

WORKSPACE = Path(__file__).absolute().parents[2]
FLOW = WORKSPACE / "examples" / "churn" / "churn_flow.py"
LOCK = WORKSPACE / "examples" / "churn" / "churn_flow.lock" / "flow.json"
BUILT = WORKSPACE / "examples" / "churn" / "churn_flow.images" / "images.json"

TASKS = {"start": 1, "prepare": 1, "train": 3, "evaluate": 1, "report": 1, "end": 1}
OWNERS = {"pandas": "prepare", "sklearn": "train", "matplotlib": "report"}
CUSTOMERS = 300

pytestmark = pytest.mark.skipif(bool(why_no_containers()), reason=why_no_containers())


@dataclass(frozen=True)
class Run:
    """A run of the flow that ended, and what Metaflow's client says of it."""

    number: str
    finished: Finished
    described: dict[str, Any]

    def tasks(self, step: str) -> list[dict[str, Any]]:
        """Return the tasks of a step."""
        return [task for task in self.described["tasks"] if task["step"] == step]


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The servers."""
    with machine_of_test(request, WORKSPACE / "rules" / "private" / "crane") as started:
        yield started


@pytest.fixture(scope="module")
def launcher() -> CommandLine:
    """``bazel run //examples/churn:churn_flow``."""
    return CommandLine.read(Path(__file__).with_name("churn_flow.json"))


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    """``flow.json``."""
    content: dict[str, Any] = json.loads(LOCK.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def images(machine: Machine) -> dict[str, str]:
    """Step to ``repository@digest``, with the digests of the build; the images are pushed there."""
    push = CommandLine.read(Path(__file__).with_name("churn_flow.push.json"))
    repository = f"{machine.registry.host}/examples/churn"
    machine.run(push, "--repository", repository, name="push").require_success()
    built = json.loads(BUILT.read_text(encoding="utf-8"))
    pushed = {step: f"{repository}@{image['digest']}" for step, image in built["steps"].items()}
    with containers_for_ordinary_users_are_optional():
        machine.engine.require_containers(pushed["start"])
    return pushed


@pytest.fixture(scope="module")
def run(machine: Machine, launcher: CommandLine, images: dict[str, str]) -> Run:
    """A successful run, every step on @batch."""
    assert images.keys() == TASKS.keys()
    finished = machine.run(launcher, "run", "--with", "batch", "--customers", str(CUSTOMERS), name="run")
    if finished.status:
        pytest.fail(f"the run failed:\n{machine.logs()}", pytrace=False)
    return _run(machine, finished)


def test_the_run_succeeds_with_every_task_of_the_graph(run: Run) -> None:
    assert run.described["successful"] and run.described["finished"]
    assert Counter(task["step"] for task in run.described["tasks"]) == TASKS
    assert all(task["successful"] for task in run.described["tasks"])


def test_every_task_ran_in_the_image_pushed_for_its_step(machine: Machine, run: Run, images: dict[str, str]) -> None:
    started = _images_by_task(machine, run.number)
    expected = {(task["step"], task["task"]): images[task["step"]] for task in run.described["tasks"]}
    assert started == expected


def test_every_image_was_pulled_by_digest(machine: Machine, run: Run, images: dict[str, str]) -> None:
    assert run.finished.status == 0
    assert set(images.values()) <= set(machine.engine.pulled())
    assert all(re.search("@sha256:[0-9a-f]{64}$", reference) for reference in machine.engine.pulled())


def test_every_job_was_defined_with_the_image_of_its_step(machine: Machine, run: Run, images: dict[str, str]) -> None:
    jobs = machine.cloud.jobs()
    defined = [(_task(name, run.number), job) for name, job in jobs.items() if _task(name, run.number)]
    assert len(defined) == sum(TASKS.values())
    for (step, _), job in defined:
        assert job == {"status": "SUCCEEDED", "image": images[step]}


@pytest.mark.parametrize("step", TASKS)
def test_a_step_saw_exactly_its_locked_versions(run: Run, lock: dict[str, Any], step: str) -> None:
    environment = lock["environments"][step]
    wheels = [lock["wheels"][digest] for digest in environment["wheels"]["linux/amd64"]]
    locked = {_normalised(wheel["name"]): wheel["version"] for wheel in wheels}
    for task in run.tasks(step):
        inspection = task["artifacts"]["inspection"]
        assert inspection["distributions"] == locked
        assert inspection["python"].startswith(environment["python"] + ".")
        assert inspection["executable"] == "/opt/venv/bin/python"


@pytest.mark.parametrize("module", OWNERS)
def test_a_package_of_one_step_cannot_be_imported_in_the_others(run: Run, module: str) -> None:
    for task in run.described["tasks"]:
        expected = "imported" if task["step"] == OWNERS[module] else "ModuleNotFoundError"
        assert task["artifacts"]["inspection"]["imports"][module] == expected, task["step"]


def test_nothing_was_installed_when_tasks_started(machine: Machine, run: Run, images: dict[str, str]) -> None:
    assert machine.tripwire.requests == []
    for image in images.values():
        assert machine.engine.image_variables(image)["METAFLOW_SKIP_INSTALL_DEPENDENCIES"] == "1"
    said = [text for name, text in machine.cloud.job_logs() if text] + [
        task[stream] for task in run.described["tasks"] for stream in ("stdout", "stderr")
    ]
    assert any("Task is starting" in text for text in said)
    for text in said:
        assert not re.search(r"\bpip3?\b|Collecting|Installing|Successfully installed|conda", text)


def test_an_attempt_to_install_would_have_been_noticed(machine: Machine, images: dict[str, str]) -> None:
    before = list(machine.tripwire.requests)
    download = "import os, urllib.request; urllib.request.urlopen(os.environ['PIP_INDEX_URL'] + '/{}/')"
    for name in ("boto3", "pandas"):
        assert machine.engine.run(images["start"], "python", "-c", download.format(name)).returncode != 0
    world = "import urllib.request; urllib.request.urlopen('https://packages.example.com/')"
    assert machine.engine.run(images["start"], "python", "-c", world).returncode != 0
    heard = machine.tripwire.requests[len(before) :]
    assert heard == ["GET /simple/boto3/", "GET /simple/pandas/", "CONNECT packages.example.com:443"]


def test_the_artifacts_are_read_back_through_the_client(run: Run) -> None:
    (end,) = run.tasks("end")
    assert end["artifacts"]["customers"] == CUSTOMERS
    assert end["artifacts"]["aucs"].keys() == {"logistic", "forest", "boosting"}
    assert all(0.5 < auc <= 1 for auc in end["artifacts"]["aucs"].values())
    best = end["artifacts"]["best"]
    assert end["artifacts"]["aucs"][best] == max(end["artifacts"]["aucs"].values())
    assert f"The best of 3 models is {best}" in end["stdout"]
    assert {task["artifacts"]["model"] for task in run.tasks("train")} == {"logistic", "forest", "boosting"}
    (prepare,) = run.tasks("prepare")
    assert len(prepare["artifacts"]["rows"]) == len(prepare["artifacts"]["labels"]) == CUSTOMERS


def test_the_card_of_the_report_holds_the_drawing(run: Run) -> None:
    (report,) = run.tasks("report")
    (card,) = report["cards"]
    content = _card_content(card)
    assert f"# Best model: {report['artifacts']['best']}" in content
    assert "data:image/png;base64," in content


def test_an_image_that_the_user_chose_wins(
    machine: Machine, launcher: CommandLine, run: Run, images: dict[str, str]
) -> None:
    assert images["start"] != images["prepare"]
    chosen = machine.run(launcher, "run", "--with", f"batch:image={images['start']}", name="run in a chosen image")
    assert chosen.status != 0
    number = _number(chosen)
    assert {task[0]: image for task, image in _images_by_task(machine, number).items()} == {
        "start": images["start"],
        "prepare": images["start"],
    }
    assert "ModuleNotFoundError: No module named 'numpy'" in chosen.output
    assert number != run.number


def test_a_stale_lock_is_an_error_that_names_the_step(machine: Machine, launcher: CommandLine, run: Run) -> None:
    edited = machine.directory / "edited"
    edited.mkdir()
    for source in FLOW.parent.glob("*.py"):
        shutil.copy(source, edited)
    flow = edited / FLOW.name
    before = flow.read_text(encoding="utf-8")
    version = re.search(r'"scikit-learn": "([^"]+)"', before)
    assert version is not None
    flow.write_text(before.replace(version[0], '"scikit-learn": "1.0.0"'), encoding="utf-8")

    jobs = machine.cloud.jobs().keys()
    stale = machine.run(launcher.with_option("--flow", flow), "run", "--with", "batch", name="run with a stale lock")

    assert stale.status != 0
    said = " ".join(stale.output.split())
    assert "Stale lock" in said
    assert "Step train of the flow ChurnFlow does not declare what was locked for it" in said
    assert f"scikit-learn was =={version[1]}, is ==1.0.0" in said
    assert "bazel run //examples/churn:churn_flow.lock" in said
    assert machine.cloud.jobs().keys() == jobs
    assert run.finished.status == 0


def _run(machine: Machine, finished: Finished) -> Run:
    """Read a run back."""
    number = _number(finished)
    return Run(number, finished, machine.read_run("ChurnFlow", number))


def _number(finished: Finished) -> str:
    """Return the number that Metaflow gave the run."""
    match = re.search(r"\(run-id (\d+)\)", finished.output)
    assert match is not None, finished.output
    return match[1]


def _images_by_task(machine: Machine, number: str) -> dict[tuple[str, ...], str]:
    """Return the image that the container of every task of a run was started from, by step and task."""
    tasks = [(_task(container.name, number), container.image) for container in machine.engine.started()]
    return {task: image for task, image in tasks if task}


def _task(name: str, number: str) -> tuple[str, ...]:
    """Return step and task of a job or a container of the run ``number``; nothing for one of another run.

    Metaflow names jobs ``<user>-<flow>-<run>-<step>-<task>-<attempt>``; moto appends the job's id for containers.
    """
    match = re.match(rf"tester-ChurnFlow-{number}-(\w+)-(\d+)-0(-|$)", name)
    return match.group(1, 2) if match else ()


def _card_content(card: str) -> str:
    """Return the JSON that a card's page carries in base64."""
    parts = re.findall(r'__MF_DATA__\["[^"]*"\] = "([^"]*)"', card)
    return "\n".join(base64.b64decode(part).decode() for part in parts)


def _normalised(name: str) -> str:
    """Return the normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()
