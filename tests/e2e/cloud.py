"""The cloud that Metaflow sees: S3, Batch and what they need, by moto on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.e2e.processes import LOOPBACK, Service, free_port

BUCKET = "metaflow"
QUEUE = "steps"
REGION = "us-east-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": REGION,
}

# What AWS Batch sets in the containers that it starts, and moto does not.
BATCH_VARIABLES = {
    "AWS_BATCH_JOB_ATTEMPT": "1",
    "AWS_BATCH_CE_NAME": QUEUE,
    "AWS_BATCH_JQ_NAME": QUEUE,
    "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
}


class Cloud(Service):
    """A moto server whose Batch runs jobs with the container engine behind ``docker_host``."""

    def __init__(self, docker_host: str, home: Path, log: Path) -> None:
        """Describe the server; ``docker_host`` is a ``unix://`` address, ``home`` its home directory."""
        port = free_port()
        self.endpoint = f"http://{LOOPBACK}:{port}"
        environ = {
            "DOCKER_HOST": docker_host,
            "HOME": str(home),
            "MOTO_DOCKER_NETWORK_MODE": "host",
            "MOTO_PORT": str(port),
            "NO_PROXY": LOOPBACK,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
            **CREDENTIALS,
        }
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
        super().__init__(command, environ, log, self._answers)

    def client(self, service: str) -> Any:
        """Return boto3's client of an AWS service."""
        return boto3.client(
            service,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}, connect_timeout=2, retries={"total_max_attempts": 1}),
            endpoint_url=self.endpoint,
            region_name=REGION,
        )

    def prepare(self) -> str:
        """Make the bucket and the job queue; return the ARN of a role for jobs."""
        self.client("s3").create_bucket(Bucket=BUCKET)
        role = self._role()
        batch = self.client("batch")
        batch.create_compute_environment(
            computeEnvironmentName=QUEUE,
            type="MANAGED",
            state="ENABLED",
            serviceRole=role,
            computeResources={
                "type": "EC2",
                "minvCpus": 0,
                "maxvCpus": 16,
                "instanceTypes": ["t2.medium"],
                "instanceRole": "instances",
                **self._network(),
            },
        )
        batch.create_job_queue(
            jobQueueName=QUEUE,
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": QUEUE}],
        )
        return role

    def jobs(self) -> dict[str, dict[str, str]]:
        """Return, by the name of every job that has ended, its status and the image of its definition."""
        batch = self.client("batch")
        listed = [
            job["jobId"]
            for status in ("SUCCEEDED", "FAILED")
            for job in batch.list_jobs(jobQueue=QUEUE, jobStatus=status)["jobSummaryList"]
        ]
        definitions = {
            definition["jobDefinitionArn"]: definition["containerProperties"]["image"]
            for definition in batch.describe_job_definitions()["jobDefinitions"]
        }
        described = batch.describe_jobs(jobs=listed)["jobs"] if listed else []
        return {
            job["jobName"]: {"status": job["status"], "image": definitions[job["jobDefinition"]]} for job in described
        }

    def job_logs(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of every log stream that a job's container left, with what Metaflow does not keep."""
        logs = self.client("logs")
        group = "/aws/batch/job"
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            return
        for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
            name = stream["logStreamName"]
            events = logs.get_log_events(logGroupName=group, logStreamName=name)["events"]
            yield name, "\n".join(event["message"] for event in events)

    def _answers(self) -> bool:
        try:
            self.client("s3").list_buckets()
        except Exception as error:  # botocore's errors have no common base that is worth a name here
            raise OSError(str(error)) from error
        return True

    def _role(self) -> str:
        """Make what Batch wants of IAM; return the ARN of a role."""
        iam = self.client("iam")
        role = iam.create_role(RoleName="jobs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        iam.create_instance_profile(InstanceProfileName="instances")
        iam.add_role_to_instance_profile(InstanceProfileName="instances", RoleName="jobs")
        return str(role)

    def _network(self) -> dict[str, list[str]]:
        """Return a subnet and a security group of the default network."""
        ec2 = self.client("ec2")
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        return {"subnets": [subnet], "securityGroupIds": [group]}
