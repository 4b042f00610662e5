"""A simulated AWS on loopback, for flows whose datastore is S3."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
NOWHERE = "http://127.0.0.1:9"
"""The endpoint of flows that ask nothing of S3."""


def s3(endpoint: str = NOWHERE) -> dict[str, str]:
    """Return the variables that make the bucket at ``endpoint`` a flow's datastore."""
    return {
        **KEYS,
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bucket/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": endpoint,
    }


@contextmanager
def simulated_aws() -> Iterator[str]:
    """Run moto, with a bucket in its S3; yield its endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
        yield endpoint
    finally:
        server.stop()


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
        "METAFLOW_SFN_DYNAMO_DB_TABLE": "foreach",
        "METAFLOW_SFN_IAM_ROLE": role,
    }


def job_definitions(endpoint: str) -> dict[str, str]:
    """Return the images of the job definitions that Batch has, by their ARN."""
    registered = aws_client("batch", endpoint).describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    return {job["jobDefinitionArn"]: job["containerProperties"]["image"] for job in registered}


def submitted_images(machine: Any, endpoint: str) -> dict[str, str]:
    """Return the image by step of the jobs that a state machine submits."""
    images = job_definitions(endpoint)
    return {step: images[definition] for step, definition in _submitted(machine)}


def _submitted(content: Any) -> Iterator[tuple[str, str]]:
    """Yield step and job definition of every job in a state machine, whatever it is nested in."""
    if isinstance(content, Mapping):
        if "JobDefinition" in content:
            yield content["Parameters"]["step_name"], content["JobDefinition"]
        for value in content.values():
            yield from _submitted(value)
    elif isinstance(content, list):
        for value in content:
            yield from _submitted(value)
