"""What is said at launch of the images of steps, and whose image wins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.extension.aws import s3, simulated_aws
from tests.extension.project import REPOSITORY, Project, image_of, plugin, words

report: Any = plugin("bazel_report").report
StepRun: Any = plugin("bazel_images").StepRun

FLOW = """
from metaflow import Config, FlowSpec, StepMutator, config_expr, kubernetes, step

class Mutated(StepMutator):
    def mutate(self, mutable_step):
        mutable_step.add_decorator("kubernetes", deco_kwargs={"image": "example/mutated"})

class SmallFlow(FlowSpec):
    settings = Config("settings", default_value={"image": "example/configured"})

    @step
    def start(self):
        self.next(self.decorated)

    @kubernetes(image="example/decorated")
    @step
    def decorated(self):
        self.next(self.mutated)

    @Mutated
    @step
    def mutated(self):
        self.next(self.configured)

    @kubernetes(image=config_expr("settings.image"))
    @step
    def configured(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    SmallFlow()
"""
STEPS = ("start", "decorated", "mutated", "configured", "end")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with simulated_aws() as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, endpoint: str) -> Project:
    made = Project(tmp_path)
    made.variables |= s3(endpoint)
    made.directory.joinpath("small_flow.py").write_text(FLOW)
    made.write_lock({}, steps=STEPS)
    made.write_images({}, steps=STEPS)
    return made


def deploy(project: Project) -> tuple[dict[str, str], str]:
    """Return the image by step of ``argo-workflows create``, and all that was said."""
    done = project.run("argo-workflows", "create", "--only-json")
    assert done.returncode == 0, words(done)
    templates = json.loads(done.stdout)["spec"]["templates"]
    images = {entry["name"]: entry["container"]["image"] for entry in templates if "container" in entry}
    return {step: images[step] for step in STEPS}, " ".join(done.stderr.split())


def test_an_image_of_the_users_own_wins_wherever_it_is_set_and_the_report_says_so(project: Project) -> None:
    images, said = deploy(project)
    assert images == {
        "start": image_of("start"),
        "decorated": "example/decorated",
        "mutated": "example/mutated",
        "configured": "example/configured",
        "end": image_of("end"),
    }
    for step in ("start", "end"):
        assert f"{step}: {image_of(step)[:-52]}…" in said
    locked = project.lock_of("decorated")
    assert f"decorated: image example/decorated given by the flow; does not follow the lock {locked} " in said
    assert f"configured: image example/configured given by the flow; does not follow the lock {locked}" in said


def test_default_decospecs_give_the_users_own_image_to_steps_that_have_none(project: Project) -> None:
    project.variables["METAFLOW_DEFAULT_DECOSPECS"] = "kubernetes:image=example/everywhere"
    images, said = deploy(project)
    assert (images["start"], images["end"], images["decorated"]) == ("example/everywhere",) * 2 + ("example/decorated",)
    assert "start, mutated, end: image example/everywhere given by the flow; does not follow the lock" in said


def test_a_deployment_stops_when_its_images_cannot_be_confirmed(project: Project) -> None:
    del project.variables["MFBAZEL_VERIFY"]
    project.write_images({}, steps=STEPS, repository="127.0.0.1:9/ml/small")
    done = project.run("argo-workflows", "create", "--only-json")
    assert done.returncode != 0
    assert "Registry does not answer for an image" in words(done)
    assert "start, end: 127.0.0.1:9/ml/small@sha256:" in words(done)
    assert not done.stdout


def test_commands_that_start_nothing_report_nothing(project: Project) -> None:
    done = project.run("package", "list")
    assert done.returncode == 0, words(done)
    assert "given by the flow" not in words(done)
    assert REPOSITORY not in words(done)


def test_steps_that_share_an_image_share_a_line() -> None:
    digest = "a" * 64
    shared = [StepRun(step, f"{REPOSITORY}@sha256:{digest}") for step in ("start", "end")]
    assert report([*shared, StepRun("train")]) == [
        f"*start*, *end*: {REPOSITORY}@sha256:{'a' * 12}…",
        "*train*: on this machine",
    ]


def test_a_run_on_this_machine_alone_has_no_report() -> None:
    assert report([StepRun("start", lock="a"), StepRun("end")]) == []


def test_fifty_images_take_a_line_for_each_repository_and_one_for_all_that_were_given() -> None:
    names = [f"s{number:02}" for number in range(50)]
    built = [StepRun(name, f"r.example.com/a@sha256:{name:0>64}") for name in names]
    given = [StepRun(f"own{number}", f"example/{number}", given=True, lock=f"{number:016}") for number in range(50)]
    assert report([*built, *given]) == [
        "*s00*, *s01*, *s02*, *s03*, *s04*, *s05* and 44 more: 50 images of r.example.com/a",
        "*own0*, *own1*, *own2*, *own3*, *own4*, *own5* and 44 more: 50 images given by the flow; they do not follow "
        "the lock 0000000000000000, 0000000000000001, 0000000000000002, …",
    ]
