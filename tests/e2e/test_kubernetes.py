"""A flow on Kubernetes, for real: Metaflow's @kubernetes, a small API server, and a container for every pod.

Everything happens on this machine: the images are those of the churn flow, pushed to a registry on loopback; the pods
of Jobs and JobSets are run by podman and runc.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mfbazel.analyze import requirements_sha256
from tests.e2e.containers import containers_for_ordinary_users_are_optional, why_no_containers
from tests.e2e.flows import CommandLine
from tests.e2e.kubernetes_api import KubernetesApi, Object, Pod
from tests.e2e.machine import Machine, machine_of_test

WORKSPACE = Path(__file__).absolute().parents[2]
FLOW = WORKSPACE / "tests" / "flows" / "kubernetes_flow.py"
BUILT = WORKSPACE / "examples" / "churn" / "churn_flow.images" / "images.json"

# Steps by the step of the churn flow whose image has their packages.
TWINS = {
    "work": "prepare",
    **dict.fromkeys(("start", "gather", "assemble", "gang", "finish", "end"), "start"),
}
LOCAL = ("assemble", "finish", "end")
"""Steps that the resumed run does on this machine, where they have interpreters."""
PACKAGES = {"work": {"numpy": "2.5.5", "pandas": "3.1.1"}}

RUN = """
import sys
from metaflow import Runner

with Runner(sys.argv[1], show_output=True, environment="bazel", pylint=False).run(decospecs=["kubernetes"]) as running:
    print("status", running.status, "run", running.run.id)
"""

pytestmark = pytest.mark.skipif(bool(why_no_containers()), reason=why_no_containers())


@dataclass(frozen=True)
class Run:
    """A run that ended: what was printed, what Metaflow's client says, and the pods that it had."""

    output: str
    described: dict[str, Any]
    pods: list[Object]

    def attempts(self) -> Counter[str]:
        """Return how many pods each step had."""
        return Counter(step_of(pod) for pod in self.pods)

    def seen(self, step: str) -> list[dict[str, Any]]:
        """Return what the tasks of a step saw around them; those that were given up saw nothing."""
        found = [task["artifacts"] for task in self.described["tasks"] if task["step"] == step]
        return [artifacts["seen"] for artifacts in found if "seen" in artifacts]


@dataclass(frozen=True)
class Setting:
    """The machine with its Kubernetes, and the environment in which a person launches flows."""

    machine: Machine
    api: KubernetesApi
    images: dict[str, str]
    """Reference by step."""
    environ: dict[str, str]

    def launch(self, name: str, *arguments: str | Path, **variables: str) -> Run:
        """Run Python with ``arguments``, which start a run; return that."""
        before = len(self.api.cluster.all("pods"))
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.machine.directory / "work",
            env=self.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        output = done.stdout + done.stderr
        self.machine.say(f"{name}: exit code {done.returncode}, {time.monotonic() - began:.1f} s")
        (self.machine.directory / "logs" / f"{name}.log").write_text(output, encoding="utf-8")
        number = re.search(r"run-id (\d+)", output)
        assert number is not None, output
        described = self.machine.read_run("KubernetesFlow", number[1])
        return Run(output, described, self.api.cluster.all("pods")[before:])


@pytest.fixture(scope="module")
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    """The servers, with the images of the churn flow in the registry."""
    with machine_of_test(request, WORKSPACE / "rules" / "private" / "crane") as machine:
        images = pushed(machine)
        with containers_for_ordinary_users_are_optional():
            machine.engine.require_containers(images["start"])

        def node(pod: Pod) -> int:
            done = machine.engine.run_pod(pod.name, pod.image, pod.command, pod.variables, pod.hosts)
            (machine.directory / "logs" / f"{pod.name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
            return done.returncode

        with KubernetesApi(node) as api:
            yield Setting(machine, api, images, launching_environ(machine, api, images))


@pytest.fixture(scope="module")
def failed(setting: Setting) -> Run:
    """A run through the Runner API that fails in the step ``gather``."""
    run = setting.launch("run", "-c", RUN, FLOW, KUBERNETES_FLOW_FAILS_IN="gather")
    if "status failed" not in run.output or "ValueError: told to fail" not in run.output:
        pytest.fail(f"the run did not fail as it should:\n{run.output}\n{setting.machine.logs()}", pytrace=False)
    return run


@pytest.fixture(scope="module")
def resumed(setting: Setting, failed: Run) -> Run:
    """The same run, resumed to its end."""
    assert not failed.described["successful"]
    run = setting.launch("resume", FLOW, "--no-pylint", "resume")
    if not run.described["successful"]:
        pytest.fail(f"the resumed run failed:\n{run.output}\n{setting.machine.logs()}", pytrace=False)
    return run


def test_a_foreach_with_retries_ran_every_attempt_in_a_pod(failed: Run) -> None:
    assert failed.attempts() == {"start": 1, "work": 2 + 2, "gather": 1}


def test_every_container_ran_the_image_of_its_step_by_digest(setting: Setting, failed: Run, resumed: Run) -> None:
    started = {container.name: container.image for container in setting.machine.engine.started()}
    pods = [*failed.pods, *resumed.pods]
    assert {pod["metadata"]["name"]: setting.images[step_of(pod)] for pod in pods}.items() <= started.items()
    assert all(re.search("@sha256:[0-9a-f]{64}$", image) for image in started.values())


def test_a_step_saw_the_packages_of_its_image_and_no_others(resumed: Run) -> None:
    for step in TWINS.keys() - set(LOCAL):
        seen = resumed.seen(step)
        assert seen, step
        for task in seen:
            assert task["python"] == "/opt/venv/bin/python"
            assert ("pandas" in task["distributions"]) == (step == "work")


def test_what_was_given_up_is_caught_on_this_machine(resumed: Run) -> None:
    (gather,) = [task["artifacts"] for task in resumed.described["tasks"] if task["step"] == "gather"]
    assert gather["failed"] == ["False", "True"]
    assert gather["totals"] == [6]


def test_a_resumed_run_has_pods_for_what_had_not_succeeded_alone(resumed: Run) -> None:
    assert resumed.attempts() == {"gather": 1, "gang": 2}


def test_a_gang_found_each_other(setting: Setting, resumed: Run) -> None:
    (jobset,) = setting.api.cluster.all("jobsets")
    assert [condition["type"] for condition in jobset["status"]["conditions"]] == ["Completed"]
    (finish,) = [task["artifacts"] for task in resumed.described["tasks"] if task["step"] == "finish"]
    assert finish["nodes"] == [0, 1]


def test_nothing_was_installed_when_tasks_started(setting: Setting, failed: Run, resumed: Run) -> None:
    assert setting.machine.tripwire.requests == []
    said = [(setting.machine.directory / "logs" / f"{pod['metadata']['name']}.log").read_text() for pod in resumed.pods]
    assert all("Task is starting" in text for text in said)
    for text in [*said, failed.output, resumed.output]:
        assert not re.search(r"\bpip3?\b|Collecting|Installing|Successfully installed|conda", text)


def pushed(machine: Machine) -> dict[str, str]:
    """Push the images of the churn flow; return the reference by step of this one."""
    push = CommandLine.read(Path(__file__).with_name("churn_flow.push.json"))
    repository = f"{machine.registry.host}/examples/churn"
    machine.run(push, "--repository", repository, name="push").require_success()
    built = json.loads(BUILT.read_text(encoding="utf-8"))["steps"]
    return {step: f"{repository}@{built[twin]['digest']}" for step, twin in TWINS.items()}


def launching_environ(machine: Machine, api: KubernetesApi, images: dict[str, str]) -> dict[str, str]:
    """Return the environment of a launching process without Bazel, which knows of images.json alone."""
    recorded = machine.directory / "images.json"
    steps = {
        step: {
            "image": image,
            "digest": image.partition("@")[2],
            "requirements_sha256": requirements_sha256(None, PACKAGES.get(step, {})),
        }
        for step, image in images.items()
    }
    recorded.write_text(json.dumps({"schema": 1, "flow": "KubernetesFlow", "label": "//flows:flow", "steps": steps}))
    pythons = machine.directory / "pythons"
    for step in LOCAL:
        (pythons / step / "bin").mkdir(parents=True)
        (pythons / step / "bin" / "python").symlink_to(sys.executable)
    path = [str(WORKSPACE / "mfbazel" / "extension"), str(WORKSPACE), *(entry for entry in sys.path if entry)]
    return {
        **machine.environ,
        "KUBECONFIG": str(api.write_configuration(machine.directory / "kubeconfig.json")),
        "METAFLOW_DEFAULT_ENVIRONMENT": "bazel",
        "MFBAZEL_IMAGES": str(recorded),
        "MFBAZEL_STEP_PYTHON_DIR": str(pythons),
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in path),
    }


def step_of(pod: Object) -> str:
    """Return the step that a pod ran."""
    return str(pod["metadata"]["annotations"]["metaflow/step_name"])
