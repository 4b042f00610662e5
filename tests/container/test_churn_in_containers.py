"""The churn flow, ``run --with container``: every step in its image, by bubblewrap and by podman."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import read_run
from tests.e2e.containers import Engine, containers_for_ordinary_users_are_optional, search_path, why_no_containers
from tests.e2e.flows import CommandLine, Finished

ROOT = Path(__file__).absolute().parents[2]
BUILT = ROOT / "examples" / "churn"
IMAGES = json.loads((BUILT / "churn_flow.images" / "images.json").read_text(encoding="utf-8"))
LOCK = json.loads((BUILT / "churn_flow.lock" / "flow.json").read_text(encoding="utf-8"))
TASKS = {"start": 1, "prepare": 1, "train": 3, "evaluate": 1, "report": 1, "end": 1}
OWNERS = {"pandas": "prepare", "sklearn": "train", "matplotlib": "report"}
CUSTOMERS = 150
MANY_CUSTOMERS = 5_000_000

# What answers in the place of Bazel: the images were built before the test.
BAZEL = """
import json, os, sys
from pathlib import Path
root, record = Path(sys.argv[1]), Path(sys.argv[2])
record.write_text(json.dumps({"arguments": sys.argv[3:], "directory": os.getcwd()}))
(events,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--build_event_json_file=")]
files = [root / "churn_flow.images" / "images.json", *root.rglob("index.json", recurse_symlinks=True)]
said = {"namedSetOfFiles": {"files": [{"uri": file.as_uri()} for file in files]}}
Path(events).write_text(json.dumps({"id": {}}) + chr(10) + json.dumps(said) + chr(10))
print("as Bazel would say", file=sys.stderr)
"""


@dataclass(frozen=True)
class Laptop:
    """A directory and an environment in which a person starts the flow."""

    directory: Path
    engine: str
    environ: dict[str, str]
    podman: Engine | None

    @property
    def work(self) -> Path:
        """Where the command is typed."""
        return self.directory / "work"

    def run(self, *arguments: str, name: str) -> Finished:
        """Run the flow to its end."""
        began = time.monotonic()
        finished = self.command().run([*self.words(*arguments)], self.environ, self.directory / f"{name}.log")
        print(f"{self.engine}: {name}: {time.monotonic() - began:.1f} s")
        return finished

    def command(self) -> CommandLine:
        """Return ``bazel run //examples/churn:churn_flow``."""
        return CommandLine.read(Path(__file__).with_name("churn_flow.json"))

    def words(self, *arguments: str) -> list[str]:
        """Return the arguments that choose the container."""
        return ["run", "--with", f"container:engine={self.engine}", *arguments]

    def left(self) -> list[str]:
        """Return what is still running: containers, and processes that name the directory."""
        containers = []
        if self.podman is not None:
            containers = self.podman.listed()
        processes = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.work) in words and int(process.name) != os.getpid():
                processes.append(words)
        return containers + processes


@pytest.fixture(scope="module", params=["bubblewrap", "podman"])
def laptop(request: pytest.FixtureRequest) -> Iterator[Laptop]:
    """A home, a working directory, and one engine."""
    with ExitStack() as stack:
        # Sockets have short paths.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mfbazel-c.")))
        for name in ("work", "workspace", "engine"):
            (directory / name).mkdir()
        environ = {"HOME": str(directory / "home")}
        podman = None
        if request.param == "podman":
            if reason := why_no_containers():
                pytest.skip(reason)
            with containers_for_ordinary_users_are_optional():
                podman = Engine(directory / "engine", "127.0.0.1:1", {}, directory / "podman.log")
                stack.enter_context(podman)
            environ = podman.environ
        elif not shutil.which("bwrap", path=search_path()):
            pytest.skip("bubblewrap is not installed (Debian: apt install bubblewrap)")
        bazel = [sys.executable, "-c", BAZEL, str(BUILT), str(directory / "bazel.json")]
        yield Laptop(directory, request.param, _environ(directory, environ, bazel), podman)


def _environ(directory: Path, engine: dict[str, str], bazel: list[str]) -> dict[str, str]:
    return {
        **engine,
        "PATH": search_path(),
        "USER": "tester",
        "LANG": "C.UTF-8",
        "MFBAZEL_BAZEL": shlex.join(bazel),
        "BUILD_WORKING_DIRECTORY": str(directory / "work"),
        "BUILD_WORKSPACE_DIRECTORY": str(directory / "workspace"),
        "XDG_CACHE_HOME": str(directory / "cache"),
    }


@dataclass(frozen=True)
class Run:
    """A run that ended well."""

    number: str
    finished: Finished
    tasks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(laptop: Laptop) -> Run:
    """A whole run, with a parameter."""
    finished = laptop.run("--customers", str(CUSTOMERS), name="run").require_success()
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


def test_a_failing_step_fails_the_run_with_its_error(laptop: Laptop, run: Run) -> None:
    del run
    if laptop.engine != "bubblewrap":
        pytest.skip("exit codes of podman are compared without Metaflow, in test_engines")
    failed = laptop.run("--customers", "5", name="failing")
    assert failed.status == 1
    assert "ValueError: --customers is 5" in failed.output
    assert laptop.left() == []


def test_ctrl_c_reaches_the_step_and_ends_its_container(laptop: Laptop, run: Run) -> None:
    del run
    if laptop.engine != "podman":
        pytest.skip("signals of bubblewrap are looked at without Metaflow, in test_engines")
    command = laptop.command()
    words = [str(Path(command.words[0]).absolute()), *command.words[1:], *laptop.words("--customers", str(MANY_CUSTOMERS))]
    log = laptop.directory / "interrupted.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=laptop.environ, start_new_session=True
        )
    try:
        _wait(lambda: "/prepare/2 (pid" in log.read_text(encoding="utf-8"), "step prepare to start")
        _wait(lambda: any("step prepare" in words for words in laptop.left()), "its container")
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
    _wait(lambda: laptop.left() == [], "everything to end", seconds=10)


def _wait(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def _number(output: str) -> str:
    """Return the number that Metaflow gave the run."""
    match = re.search(r"\(run-id (\d+)\)", output)
    assert match is not None, output
    return match[1]
