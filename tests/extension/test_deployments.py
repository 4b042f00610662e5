"""The images that deployed flows name: Argo Workflows, Airflow and Step Functions, against a simulated AWS on loopback.

Needs moto and, for Argo Workflows and Airflow, the package ``kubernetes``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.extension.project import Project, image_of, words

AWS = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
}
NUMPY = {"numpy": "2.5.5"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    s3.create_bucket(Bucket="bucket")
    yield url
    server.stop()


@pytest.fixture
def project(tmp_path: Path, endpoint: str) -> Project:
    """A pushed flow whose datastore is the simulated S3."""
    made = Project(tmp_path)
    made.variables |= AWS | {
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bucket/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": endpoint,
    }
    made.write_flow('@pypi(packages={"numpy": "2.5.5"})')
    made.write_lock(NUMPY)
    made.write_images(NUMPY)
    return made


def argo_images(project: Project, *options: str) -> dict[str, str]:
    """Return the image by step of the workflow that ``argo-workflows create`` would deploy."""
    done = project.run(*options, "argo-workflows", "create", "--only-json")
    assert done.returncode == 0, words(done)
    workflow = json.loads(done.stdout[done.stdout.index("{") :])
    containers = [template for template in workflow["spec"]["templates"] if "container" in template]
    return {template["name"]: template["container"]["image"] for template in containers}


@pytest.fixture
def kubernetes() -> None:
    pytest.importorskip("kubernetes")


@pytest.mark.usefixtures("kubernetes")
def test_argo_workflows_gets_the_image_of_every_step_by_digest(project: Project) -> None:
    images = argo_images(project)
    assert {step: images[step] for step in ("start", "train", "end")} == {
        step: image_of(step) for step in ("start", "train", "end")
    }


@pytest.mark.usefixtures("kubernetes")
def test_an_image_given_on_the_command_line_wins(project: Project) -> None:
    assert set(argo_images(project, "--with", "kubernetes:image=example/own").values()) == {"example/own"}


@pytest.mark.usefixtures("kubernetes")
def test_an_image_given_in_the_flow_wins_for_its_step_only(project: Project) -> None:
    project.write_flow(
        '@kubernetes(image="example/own")\n    @pypi(packages={"numpy": "2.5.5"})', imports="pypi, kubernetes"
    )
    images = argo_images(project)
    assert (images["start"], images["train"]) == (image_of("start"), "example/own")


@pytest.mark.usefixtures("kubernetes")
def test_a_default_image_of_metaflows_configuration_does_not_win(project: Project) -> None:
    project.variables["METAFLOW_KUBERNETES_CONTAINER_IMAGE"] = "example/default"
    assert argo_images(project)["train"] == image_of("train")


@pytest.mark.usefixtures("kubernetes")
def test_a_task_of_argo_workflows_starts_with_python_and_the_environment(project: Project) -> None:
    done = project.run("argo-workflows", "create", "--only-json")
    assert done.returncode == 0, words(done)
    assert "python small_flow.py" in done.stdout
    assert "--environment=bazel" in done.stdout


@pytest.mark.usefixtures("kubernetes")
def test_airflow_gets_the_image_of_every_step_by_digest(project: Project) -> None:
    done = project.run("airflow", "create", "dag.py")
    assert done.returncode == 0, words(done)
    images = re.findall(r"'image': '([^']*)'", project.directory.joinpath("dag.py").read_text())
    assert sorted(images) == sorted(image_of(step) for step in ("start", "train", "end"))


def test_step_functions_registers_a_job_with_the_image_of_every_step(project: Project, endpoint: str) -> None:
    project.variables |= {"AWS_ENDPOINT_URL": endpoint, **batch_queue(endpoint)}
    done = project.run("step-functions", "create", "--only-json")
    assert done.returncode == 0, words(done)
    batch = aws_client("batch", endpoint)
    registered = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    images = {definition["containerProperties"]["image"] for definition in registered}
    assert {image_of(step) for step in ("start", "train", "end")} <= images


def test_a_stale_lock_stops_a_deployment_and_names_the_step(project: Project, endpoint: str) -> None:
    project.variables["AWS_ENDPOINT_URL"] = endpoint
    project.write_flow('@pypi(packages={"numpy": "2.5.6"})')
    done = project.run("step-functions", "create", "--only-json")
    assert done.returncode != 0
    assert "Step train of the flow SmallFlow does not declare what was locked for it" in words(done)


def aws_client(service: str, endpoint: str) -> Any:
    """Return a client of the simulated AWS."""
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def batch_queue(endpoint: str) -> dict[str, str]:
    """Make what a Batch queue needs in the simulated AWS, and return the variables that name it."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam = aws_client("iam", endpoint)
    role = iam.create_role(RoleName="jobs", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    profile = iam.create_instance_profile(InstanceProfileName="jobs")["InstanceProfile"]["Arn"]
    ec2 = aws_client("ec2", endpoint)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    batch = aws_client("batch", endpoint)
    made = batch.create_compute_environment(
        computeEnvironmentName="machines",
        type="MANAGED",
        computeResources={
            "type": "EC2",
            "minvCpus": 0,
            "maxvCpus": 2,
            "instanceTypes": ["t2.small"],
            "instanceRole": profile,
            "subnets": [subnet],
            "securityGroupIds": [group],
        },
        serviceRole=role,
    )
    order = [{"order": 1, "computeEnvironment": made["computeEnvironmentArn"]}]
    batch.create_job_queue(jobQueueName="jobs", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    return {
        "METAFLOW_BATCH_JOB_QUEUE": "jobs",
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": role,
        "METAFLOW_SFN_IAM_ROLE": role,
    }
