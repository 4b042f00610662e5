"""The environment ``bazel`` in real Metaflow processes, with nothing but this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.lock_hash import environments_hash
from tests.extension.aws import s3
from tests.extension.project import Project, words

S3 = s3()
NUMPY = '@pypi(packages={"numpy": "2.5.5"})'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("decorators", "flow", "said"),
    [
        ('@pypi(packages={"numpy": "2.5.4"})', "", "numpy was ==2.5.5, is ==2.5.4"),
        ('@pypi(packages={"numpy": ">=2"})', "", "numpy was ==2.5.5, is >=2"),
        ('@pypi(packages={"numpy": "2.5.5", "scipy": ""})', "", "scipy is new"),
        ("", "", "numpy==2.5.5 is gone"),
        ('@pypi(packages={"numpy": "2.5.5"}, python="3.13")', "", "python was not declared, is 3.13"),
        ('@pypi(packages={"numpy": "2.5.5"}, disabled=True)', "", "numpy==2.5.5 is gone"),
        (NUMPY, '@conda_base(python="3.12")', "python was not declared, is 3.12"),
    ],
)
def test_a_stale_lock_is_an_error_that_names_the_step_and_the_commands(
    project: Project, decorators: str, flow: str, said: str
) -> None:
    project.write_flow(decorators, flow=flow, imports="pypi, conda_base")
    project.write_lock({"numpy": "2.5.5"})
    done = project.run("run")
    printed = words(done)
    assert done.returncode != 0
    assert "Stale lock" in printed
    assert said in printed
    assert ("Step train" in printed) == (not flow)
    assert "`bazel run //flows:small_flow.lock` and then `bazel run //flows:small_flow.push`" in printed
    assert not list(project.directory.glob(".metaflow/SmallFlow/[0-9]*"))


def test_a_step_that_the_lock_does_not_know_is_an_error(project: Project) -> None:
    project.write_flow()
    project.write_lock({}, steps=("start", "end"))
    done = project.run("run")
    assert done.returncode != 0
    assert "Step train is not in the lock of the flow SmallFlow" in words(done)


def test_packages_that_have_another_name_on_the_index_are_compared_under_their_own(project: Project) -> None:
    project.write_flow('@conda(packages={"pytorch": "2.4"})', imports="conda")
    project.write_lock({"pytorch": "2.3"})
    train = (flow := json.loads(project.lock.read_text()))["flow"]["steps"][1]
    train["declared"] = [
        {"name": "torch", "specifier": "==2.3", "decorator": "conda", "conda": "pytorch"},
        {"name": "requests", "specifier": "==2.32", "decorator": "project"},
    ]
    project.lock.write_text(json.dumps(flow))
    done = project.run("run")
    assert done.returncode != 0
    assert "does not declare what was locked for it: pytorch was ==2.3, is ==2.4." in words(done)


def test_without_the_launcher_a_run_says_how_to_start_it(project: Project) -> None:
    project.write_flow()
    done = project.run("run")
    assert done.returncode != 0
    assert "Flow not started by Bazel" in words(done)
    assert "bazel run //<package>:<flow> -- run" in words(done)
    assert "without Bazel, name the images.json of a push in MFBAZEL_IMAGES" in words(done)


@pytest.mark.parametrize("command", ["show", "check"])
def test_commands_that_start_nothing_need_no_lock(project: Project, command: str) -> None:
    project.write_flow(NUMPY)
    done = project.run(command)
    assert done.returncode == 0, words(done)


def test_a_damaged_lock_is_named(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    project.lock.write_text('{"schema": 1,')
    done = project.run("run")
    assert done.returncode != 0
    assert "flow.json cannot be read" in words(done)
    assert "bazel run //flows:small_flow.lock" in words(done)


def test_a_lock_of_a_newer_schema_is_refused(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    project.lock.write_text('{"schema": 2}')
    done = project.run("run")
    assert done.returncode != 0
    assert "has schema 2, this version of mfbazel reads 1" in words(done)


def test_the_lock_of_another_flow_is_refused(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    project.lock.write_text(project.lock.read_text().replace("SmallFlow", "OtherFlow"))
    done = project.run("run")
    assert done.returncode != 0
    assert "is the lock of the flow OtherFlow, not of SmallFlow" in words(done)


def test_a_remote_step_of_a_flow_never_pushed_names_the_push_command(project: Project) -> None:
    project.variables |= S3
    project.write_flow("@batch", imports="batch")
    project.write_lock({})
    project.variables["MFBAZEL_IMAGES"] = str(project.images)
    done = project.run("package", "list")
    assert done.returncode != 0
    assert "Image not pushed" in words(done)
    assert "Run `bazel run //flows:small_flow.push`" in words(done)


def test_the_record_of_the_last_push_is_found_below_the_state_directory(project: Project) -> None:
    project.variables |= S3
    project.write_flow("@batch", imports="batch")
    project.write_lock({})
    project.variables["BUILD_WORKSPACE_DIRECTORY"] = str(project.directory)
    project.variables["MFBAZEL_STATE_DIR"] = str(project.directory / "state")
    done = project.run("package", "list")
    assert done.returncode != 0
    assert "images.json" in words(done)
    assert "Image not pushed" in words(done)


def test_images_that_were_built_and_not_pushed_are_no_images(project: Project) -> None:
    project.variables |= S3
    project.write_flow("@batch", imports="batch")
    project.write_lock({})
    project.write_images({}, pushed=False)
    done = project.run("package", "list")
    assert done.returncode != 0
    assert "has no pushed image of step train" in words(done)
    assert "bazel run //flows:small_flow.push" in words(done)


def test_an_image_older_than_the_lock_is_an_error_that_names_the_step(project: Project) -> None:
    project.variables |= S3
    project.write_flow(f"@batch\n    {NUMPY}", imports="batch, pypi")
    project.write_lock({"numpy": "2.5.5"})
    project.write_images({"numpy": "2.5.4"})
    done = project.run("package", "list")
    assert done.returncode != 0
    assert "Stale image" in words(done)
    assert "The image of step train of the flow SmallFlow was pushed before its packages were locked" in words(done)


@pytest.mark.parametrize(("locked_anew", "stale"), [("train", True), ("end", True), ("start", False)])
def test_so_is_one_of_which_something_was_locked_anew_that_the_step_does_not_declare(
    project: Project, locked_anew: str, stale: bool
) -> None:
    """The image of ``train`` is derived from that of ``end``."""
    project.variables |= S3
    project.write_flow("@batch", imports="batch")
    project.write_lock({})
    project.write_images({})
    lock, images = (json.loads(file.read_text()) for file in (project.lock, project.images))
    packages = environments_hash(lock["environments"], ["train", "end"])
    images["steps"]["train"] |= {"lock": packages, "includes": ["end"]}
    project.images.write_text(json.dumps(images))
    lock["environments"][locked_anew]["wheels"]["linux/amd64"] = ["0" * 64]
    project.lock.write_text(json.dumps(lock))
    done = project.run("package", "list")
    assert (done.returncode != 0) == stale, words(done)
    assert ("The image of step train of the flow SmallFlow was pushed before its packages" in words(done)) == stale


def test_a_step_with_an_image_of_its_own_needs_no_push(project: Project) -> None:
    project.variables |= S3
    project.write_flow('@batch(image="example/own")', imports="batch")
    project.write_lock({})
    done = project.run("package", "list")
    assert done.returncode == 0, words(done)


def test_a_step_without_an_interpreter_is_an_error_that_says_where_it_can_run(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    project.variables["MFBAZEL_STEP_PYTHON_DIR"] = str(project.directory / "none")
    done = project.run("run")
    assert done.returncode != 0
    assert "Step start cannot run on this machine" in words(done)
