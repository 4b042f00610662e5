"""The images that deployed flows name: in the real specifications of Argo Workflows, Airflow and Step Functions.

AWS is moto's; Argo's objects go to a Kubernetes API server of the tests' own. Both are on loopback, and start nothing.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.kubernetes_api import KubernetesApi, Object, images_of
from tests.extension.aws import batch_queue, s3, simulated_aws, submitted_images
from tests.extension.project import Project, image_of, words

ARGO_EVENTS = {
    "METAFLOW_ARGO_EVENTS_EVENT": "event",
    "METAFLOW_ARGO_EVENTS_EVENT_BUS": "bus",
    "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "source",
    "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "account",
    "METAFLOW_ARGO_EVENTS_WEBHOOK_URL": "http://127.0.0.1:9/",
}
EVERY_FEATURE = {
    **{step: {} for step in ("start", "compare", "gather", "disband", "decide", "small", "end")},
    "train": {"numpy": "2.5.5"},
    "gang": {"pandas": "3.1.1"},
    "big": {"scipy": "1.18.0"},
}
PLAIN = {
    **{step: {} for step in ("start", "left", "right", "meet", "spread", "compare", "end")},
    "train": {"numpy": "2.5.5"},
}
NUMPY = {"numpy": "2.5.5"}
DECLARED = '@pypi(packages={"numpy": "2.5.5"})'

DEPLOY = """
from metaflow import Deployer

made = Deployer("every_feature_flow.py", environment="bazel", pylint=False).argo_workflows().create(
    enable_error_msg_capture=True,
    enable_heartbeat_daemon=True,
    notify_on_error=True,
    notify_slack_webhook_url="http://127.0.0.1:9/",
)
print("deployed", made.name)
"""


@dataclass(frozen=True)
class Deployed:
    """What a Kubernetes cluster holds after a deployment."""

    template: Object
    """The WorkflowTemplate."""
    others: list[Object]
    """The CronWorkflow and the Sensor."""

    @property
    def templates(self) -> dict[str, Object]:
        """Templates of the workflow that run a container, by name."""
        return {item["name"]: item for item in self.template["spec"]["templates"] if list(images_of(item))}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with simulated_aws() as url:
        yield url


@pytest.fixture(scope="module")
def queue(endpoint: str) -> dict[str, str]:
    """Variables that name a Batch queue and what Step Functions needs besides."""
    return batch_queue(endpoint)


@pytest.fixture(scope="module")
def project_in(endpoint: str) -> Callable[[Path], Project]:
    """Returns a project in a directory, whose datastore is the simulated S3."""

    def make(directory: Path) -> Project:
        made = Project(directory)
        made.variables |= s3(endpoint) | {"METAFLOW_S3_WORKER_COUNT": "1"}
        return made

    return make


@pytest.fixture
def project(tmp_path: Path, project_in: Callable[[Path], Project]) -> Project:
    """A small pushed flow."""
    made = project_in(tmp_path)
    made.write_flow(DECLARED)
    made.write_lock(NUMPY)
    made.write_images(NUMPY)
    return made


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, project_in: Callable[[Path], Project]) -> Iterator[Deployed]:
    """A flow with every feature, deployed to Argo Workflows through the Deployer API."""
    made = project_in(tmp_path_factory.mktemp("argo"))
    made.copy_flow("every_feature_flow.py", "EveryFeatureFlow", EVERY_FEATURE)
    made.variables |= ARGO_EVENTS
    with KubernetesApi() as api:
        made.variables["KUBECONFIG"] = str(api.write_configuration(made.directory / "kubeconfig.json"))
        done = made.python("-c", DEPLOY)
        assert done.returncode == 0, words(done)
        (template,) = api.cluster.all("workflowtemplates")
        yield Deployed(template, [*api.cluster.all("cronworkflows"), *api.cluster.all("sensors")])


def test_argo_workflows_runs_every_step_in_its_image(deployed: Deployed) -> None:
    images = {name: set(images_of(template)) for name, template in deployed.templates.items()}
    assert {step: images[step] for step in EVERY_FEATURE} == {step: {image_of(step)} for step in EVERY_FEATURE}


def test_argo_workflows_runs_helper_containers_in_the_image_of_the_start_step(deployed: Deployed) -> None:
    helpers = {name: set(images_of(found)) for name, found in deployed.templates.items() if name not in EVERY_FEATURE}
    names = ("error-msg-capture-hook", "error-tell", "heartbeat-daemon", "success-tell")
    assert helpers == {name: {image_of("start")} for name in names}


def test_both_kinds_of_pods_of_a_jobset_have_the_image_of_their_step(deployed: Deployed) -> None:
    manifest = deployed.templates["gang"]["resource"]["manifest"]
    assert "kind: JobSet" in manifest
    assert list(images_of({"manifest": manifest})) == [image_of("gang")] * 2


def test_what_starts_a_workflow_names_no_image(deployed: Deployed) -> None:
    assert [item["kind"] for item in deployed.others] == ["CronWorkflow", "Sensor"]
    assert list(images_of(deployed.others)) == []


def test_every_container_of_a_step_starts_python_in_the_environment(deployed: Deployed) -> None:
    for step in EVERY_FEATURE:
        said = json.dumps(deployed.templates[step])
        assert "python every_feature_flow.py" in said
        assert "--environment=bazel" in said


def test_the_users_image_wins_for_its_step_and_metaflows_default_image_wins_nowhere(project: Project) -> None:
    project.write_flow(f'@kubernetes(image="team/own")\n    {DECLARED}', imports="pypi, kubernetes")
    project.variables |= {
        "METAFLOW_KUBERNETES_CONTAINER_IMAGE": "team/default",
        "METAFLOW_DEFAULT_CONTAINER_REGISTRY": "registry.example.com",
    }
    assert argo_images(project) == {
        "start": image_of("start"),
        "train": "registry.example.com/team/own",
        "end": image_of("end"),
        "error-msg-capture-hook": image_of("start"),
    }


def test_an_image_of_the_default_decospecs_wins(project: Project) -> None:
    project.write_flow(f"@kubernetes\n    {DECLARED}", imports="pypi, kubernetes")
    project.variables["METAFLOW_DEFAULT_DECOSPECS"] = "kubernetes:image=example/own retry:times=1"
    images = argo_images(project)
    assert images.pop("train") == image_of("train")
    assert images == dict.fromkeys(("start", "end", "error-msg-capture-hook"), "example/own")


def test_an_image_given_on_the_command_line_wins(project: Project) -> None:
    assert set(argo_images(project, "--with", "kubernetes:image=example/own").values()) == {"example/own"}


def test_under_another_environment_metaflows_default_image_and_registry_count(project: Project) -> None:
    project.write_flow()
    project.variables |= {
        "METAFLOW_DEFAULT_CONTAINER_IMAGE": "team/default",
        "METAFLOW_DEFAULT_CONTAINER_REGISTRY": "registry.example.com",
    }
    assert set(argo_images(project, "--environment=local").values()) == {"registry.example.com/team/default"}


def test_airflow_gets_the_image_of_every_step(project: Project) -> None:
    project.copy_flow("plain_flow.py", "PlainFlow", PLAIN)
    done = project.run("airflow", "create", "dag.py")
    assert done.returncode == 0, words(done)
    dag = re.search(r"^CONFIG = (\{.*\})$", project.directory.joinpath("dag.py").read_text(), re.MULTILINE)
    assert dag is not None
    states = ast.literal_eval(dag[1])["states"]
    assert {step: list(images_of(state)) for step, state in states.items()} == {
        step: [image_of(step)] for step in PLAIN
    }


def test_step_functions_starts_jobs_with_the_image_of_every_step(
    project: Project, endpoint: str, queue: Mapping[str, str]
) -> None:
    project.copy_flow("plain_flow.py", "PlainFlow", PLAIN)
    project.variables |= {"AWS_ENDPOINT_URL": endpoint, **queue}
    assert step_functions_images(project, endpoint) == {step: image_of(step) for step in PLAIN}


def test_step_functions_gives_a_step_the_image_that_the_user_chose(
    project: Project, endpoint: str, queue: Mapping[str, str]
) -> None:
    project.variables |= {"AWS_ENDPOINT_URL": endpoint, **queue}
    project.write_flow(f'@batch(image="example/own")\n    {DECLARED}', imports="pypi, batch")
    images = step_functions_images(project, endpoint)
    assert images == {"start": image_of("start"), "train": "example/own", "end": image_of("end")}


def test_a_stale_lock_stops_a_deployment_and_names_the_step(project: Project, endpoint: str) -> None:
    project.variables["AWS_ENDPOINT_URL"] = endpoint
    project.write_flow('@pypi(packages={"numpy": "2.5.6"})')
    done = project.run("step-functions", "create", "--only-json")
    assert done.returncode != 0
    assert "Step train of the flow SmallFlow does not declare what was locked for it" in words(done)


def argo_images(project: Project, *options: str) -> dict[str, str]:
    """Return the image by step (or helper) of the workflow that ``argo-workflows create --only-json`` prints."""
    done = project.run(*options, "argo-workflows", "create", "--only-json")
    assert done.returncode == 0, words(done)
    workflow = json.loads(done.stdout[done.stdout.index("{") :])
    containers = [template for template in workflow["spec"]["templates"] if "container" in template]
    return {template["name"]: template["container"]["image"] for template in containers}


def step_functions_images(project: Project, endpoint: str) -> dict[str, str]:
    """Return the image by step of the jobs that a state machine submits."""
    done = project.run("step-functions", "create", "--only-json")
    assert done.returncode == 0, words(done)
    return submitted_images(json.loads(done.stdout[done.stdout.index("{") :]), endpoint)
