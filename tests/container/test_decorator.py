"""``@container`` in Metaflow: which image and engine a task gets, and which steps are left alone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.extension.project import Project, image_of, words

# What stands for podman: it has every image, and runs the command with this Python.
PODMAN = """
import json, os, sys
words = sys.argv[1:]
if words[:2] == ["image", "inspect"]:
    print("id-of-" + words[-1].rpartition(":")[2][-4:])
if words[0] == "run":
    if words[words.index("--entrypoint") + 1] == "true":
        sys.exit(0)
    position = words.index("--entrypoint")
    image, command = words[position + 2], words[position + 3:]
    names = [value for word, value in zip(words, words[1:]) if word == "--env"]
    with open({log!r}, "a") as stream:
        stream.write(json.dumps({{"image": image, "command": command, "env": names}}) + chr(10))
    os.execv(sys.executable, [sys.executable, *command])
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A flow, its lock and its pushed images, without Bazel."""
    found = Project(tmp_path)
    found.write_flow()
    found.write_lock({})
    found.write_images({})
    binaries = tmp_path / "bin"
    binaries.mkdir()
    tmp_path.joinpath("podman.py").write_text(PODMAN.format(log=str(tmp_path / "started.jsonl")))
    podman = binaries / "podman"
    podman.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/podman.py" "$@"\n')
    podman.chmod(0o755)
    found.variables |= {"PATH": f"{binaries}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return found


def started(project: Project) -> dict[str, dict[str, object]]:
    """Return what podman was told to start, by step."""
    log = project.directory / "started.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {run["command"][run["command"].index("step") + 1]: run for run in runs}


def short(reference: str) -> str:
    """Return how the engine calls an image."""
    return f"id-of-{reference.rpartition(':')[2][-4:]}"


def test_without_bazel_a_task_gets_the_pushed_image_and_an_image_of_its_own_wins(project: Project) -> None:
    project.write_flow('@container(image="example.com/mine:1.25")', imports="container")
    project.variables["GREETING"] = "hello"
    done = project.run("run", "--with", "container")
    assert done.returncode == 0, done.stdout + done.stderr
    found = started(project)
    assert {step: run["image"] for step, run in found.items()} == {
        "start": short(image_of("start")),
        "train": short("example.com/mine:1.25"),
        "end": short(image_of("end")),
    }
    assert all({"GREETING", "METAFLOW_USER", "PYTHONPATH"} <= set(run["env"]) for run in found.values())  # type: ignore[call-overload]
    assert all("PATH" not in run["env"] for run in found.values())  # type: ignore[operator]
    metadata = project.directory / ".metaflow" / "SmallFlow"
    recorded = [json.loads(path.read_text())["value"] for path in metadata.rglob("sysmeta_container-image_*.json")]
    assert sorted(recorded) == sorted([image_of("start"), "example.com/mine:1.25", image_of("end")])


def test_what_cannot_be_run_is_an_error_before_the_run_starts(project: Project) -> None:
    for spec, said in (
        ("container:engine=lxc", "engine='lxc' is none of auto, podman, docker, bubblewrap"),
        ("container:image=oci:/nowhere", "/nowhere is not the directory of an OCI layout"),
        ("container:image=7", "@container(image=7) is of the wrong type"),
    ):
        done = project.run("run", "--with", spec)
        assert done.returncode != 0
        assert said in words(done)
        assert "Workflow starting" not in words(done)
    assert started(project) == {}


def test_an_image_of_an_older_lock_is_refused(project: Project) -> None:
    project.write_images({"alpha": "1"})
    done = project.run("run", "--with", "container")
    assert done.returncode != 0
    assert "The image of step train of the flow SmallFlow was pushed before its packages were locked anew" in words(
        done
    )


def test_commands_that_start_no_task_prepare_nothing(project: Project) -> None:
    done = project.run("--with", "container:engine=lxc", "package", "list")
    assert done.returncode == 0, done.stdout + done.stderr


def test_steps_that_run_elsewhere_are_left_alone() -> None:
    sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "mfbazel" / "extension"))
    from metaflow.plugins import STEP_DECORATORS

    module = sys.modules[next(deco for deco in STEP_DECORATORS if deco.name == "container").__module__]
    container, batch = SimpleNamespace(name="container"), SimpleNamespace(name="batch")
    assert module.of_step(SimpleNamespace(decorators=[container])) is container
    assert module.of_step(SimpleNamespace(decorators=[container, batch])) is None
    assert module.of_step(SimpleNamespace(decorators=[])) is None
