"""What a task ran on is in its metadata and its card, wherever it ran."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.extension.aws import s3, simulated_aws
from tests.extension.project import Project, digest_of, image_of, plugin, words

bazel_task: Any = plugin("bazel_task")
StepRun: Any = plugin("bazel_images").StepRun
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = f"""#!/bin/sh
case "$PWD $*" in
  {{workspace}}*is-inside-work-tree) echo true ;;
  {{workspace}}*"rev-parse HEAD") echo {COMMIT} ;;
  *) exit 1 ;;
esac
"""
ASK = """
import json
import sys

from metaflow import Task, namespace
from metaflow.cards import get_cards
from metaflow.plugins.cards.exception import CardNotPresentException


def cards(task):
    try:
        return [card.get() for card in get_cards(task)]
    except CardNotPresentException:
        return []


namespace(None)
tasks = [Task(pathspec) for pathspec in sys.argv[1:]]
print(json.dumps([{"metadata": task.metadata_dict, "cards": cards(task)} for task in tasks]))
"""


def ask(project: Project, *pathspecs: str) -> list[tuple[dict[str, str], list[str]]]:
    """Return the metadata of tasks as Metaflow's client shows them, and what their cards show."""
    project.directory.joinpath("ask.py").write_text(ASK)
    done = project.python("ask.py", *pathspecs)
    assert done.returncode == 0, words(done)
    tasks = json.loads(done.stdout)
    return [(task["metadata"], [text for card in task["cards"] for text in shown(card)]) for task in tasks]


def shown(card: str) -> Iterator[str]:
    """Yield the data of a card, which its page holds in base64."""
    for encoded in re.findall(r'"(eyJ[A-Za-z0-9+/=]{100,})"', card):
        yield base64.b64decode(encoded).decode()


def ours(metadata: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("mfbazel-"): value for name, value in metadata.items() if name.startswith("mfbazel-")}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_task_on_this_machine_records_its_lock_and_its_commit_and_shows_them_in_its_card(project: Project) -> None:
    project.write_flow("@card", imports="card")
    project.write_lock({})
    project.make_pythons()
    git = project.directory / "bin" / "git"
    git.parent.mkdir()
    git.write_text(GIT.format(workspace=project.directory / "workspace"))
    git.chmod(0o755)
    project.directory.joinpath("workspace").mkdir()
    project.variables |= {
        "BUILD_WORKSPACE_DIRECTORY": str(project.directory / "workspace"),
        "PATH": f"{git.parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = project.run("run", "--run-id-file", "run")
    assert done.returncode == 0, words(done)
    run = project.directory.joinpath("run").read_text()
    [(metadata, (card,))] = ask(project, f"SmallFlow/{run}/train/2")
    lock = project.lock_of("train")
    assert ours(metadata) == {"image": "no image: local environment", "lock": lock, "label": "//flows:small_flow"}
    assert json.loads(metadata["git-info"])["commit_sha"] == COMMIT
    assert f"**Image:** no image: local environment \\u00b7 **Lock:** `{lock}`" in card


@pytest.fixture
def datastore() -> Iterator[dict[str, str]]:
    with simulated_aws() as endpoint:
        yield s3(endpoint)


def test_a_task_elsewhere_finds_what_it_runs_on_in_the_code_package(tmp_path: Path, datastore: dict[str, str]) -> None:
    """As in a container: from the code package alone, with no variable of the launcher."""
    project, container = Project(tmp_path), Project(tmp_path / "container")
    project.variables |= datastore
    project.write_flow('@batch(image="example/own")', start="@batch\n    @card", imports="batch, card")
    project.write_lock({})
    project.write_images({})
    done = project.run("package", "save", "package.tgz")
    assert done.returncode == 0, words(done)
    with tarfile.open(project.directory / "package.tgz") as archive:
        archive.extractall(container.directory, filter="data")
    packages = [path for path in sys.path if any(Path(path or ".").glob("*.dist-info"))]
    container.variables |= datastore | {
        "PYTHONPATH": os.pathsep.join([str(container.directory / ".mf_code"), *packages])
    }
    ids = ["--run-id", "argo-1", "--task-id"]
    for arguments in (
        ["init", *ids, "t0"],
        ["step", "start", *ids, "t1", "--input-paths", "argo-1/_parameters/t0"],
        ["step", "train", *ids, "t2", "--input-paths", "argo-1/start/t1"],
    ):
        done = container.run("--metadata=local", *arguments)
        assert done.returncode == 0, words(done)
    (metadata, (card,)), (own, _) = ask(container, "SmallFlow/argo-1/start/t1", "SmallFlow/argo-1/train/t2")
    assert {name: value for name, value in ours(metadata).items() if name != "layers"} == {
        "image": image_of("start"),
        "image-from": "bazel",
        "digest": digest_of("start"),
        "lock": project.lock_of("start"),
        "label": "//flows:small_flow",
    }
    assert json.loads(metadata["mfbazel-layers"]) in [
        [digest_of(f"start {platform}")] for platform in ("linux/amd64", "linux/arm64")
    ]
    assert f"**Image:** `{image_of('start')}`" in card
    assert ours(own) == {"image": "example/own", "image-from": "flow", "label": "//flows:small_flow"}


def test_layers_are_those_of_the_platform_that_the_task_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"linux/amd64": ["sha256:a"], "linux/arm64": ["sha256:b"]}
    record = bazel_task.of_step(StepRun("train", image_of("train"), layers=layers), "//flows:f")
    for machine, expected in (("x86_64", '["sha256:a"]'), ("aarch64", '["sha256:b"]'), ("riscv64", None)):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert bazel_task.values(record).get("mfbazel-layers") == expected


@pytest.mark.parametrize("content", [None, "", "[]", '{"steps": {}}', '{"steps": {"train": 1}}', '{"steps": []}'])
def test_without_the_file_nothing_is_recorded_and_no_task_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "small_flow.py")])
    monkeypatch.setattr(sys, "path", [])
    if content is not None:
        (tmp_path / bazel_task.FILE).write_text(content)
    registered: list[object] = []
    provider = type("Provider", (), {"register_metadata": lambda *arguments: registered.append(arguments)})
    bazel_task.register("train", provider(), "1", "2", 0)
    bazel_task.show_in_card("train")
    assert registered == []


def test_a_provider_that_refuses_the_metadata_fails_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bazel_task.TASK_VARIABLE, json.dumps(bazel_task.of_step(StepRun("train"), None)))
    asked = []

    class Provider:
        def register_metadata(self, *arguments: object) -> None:
            asked.append(arguments)
            raise OSError("no route to host")

    bazel_task.register("train", Provider(), "1", "2", 0)
    assert len(asked) == 1


def test_what_another_step_runs_on_is_not_taken_for_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bazel_task.TASK_VARIABLE, json.dumps(bazel_task.of_step(StepRun("train"), None)))
    assert bazel_task.read("train")["step"] == "train"
    assert bazel_task.read("end") is None
