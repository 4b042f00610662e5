"""Amazon ECR: repositories have to be made before the first push, which boto3 or the AWS command line does."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess

from mfbazel.errors import MfbazelError

_HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.")
_EXISTS = "RepositoryAlreadyExistsException"
_SECONDS = 120


class RepositoryError(MfbazelError):
    """A repository could not be made."""


def command(host: str, path: str) -> list[str]:
    """Return the words that make the repository ``path`` of the registry ``host``."""
    place = _HOST.match(host)
    options = ["--registry-id", place["account"], "--region", place["region"]] if place else []
    return ["aws", "ecr", "create-repository", *options, "--repository-name", path]


def missing(host: str, path: str) -> str:
    """Say how to make the repository."""
    return (
        f"Amazon ECR wants a repository to be made before the first push: `{shlex.join(command(host, path))}`, or push "
        "with --create-repositories, which does that with your AWS credentials."
    )


def missing_public(_host: str, path: str) -> str:
    """Say how to make a public repository: ``path`` is ``ALIAS/NAME``."""
    name = path.partition("/")[2] or path
    return (
        "Amazon ECR Public wants public.ecr.aws/ALIAS/NAME, and the repository to be there: "
        f"`aws ecr-public create-repository --region us-east-1 --repository-name {shlex.quote(name)}`."
    )


def create_repository(host: str, path: str) -> None:
    """Make the repository ``path`` of the registry ``host``; one that is there already is left as it is.

    boto3 makes it where that can be imported, else the AWS command line.

    Raises:
        RepositoryError: there is neither, or AWS refuses.
    """
    try:
        boto3 = importlib.import_module("boto3")
    except ImportError:
        _create_by_command(host, path)
        return
    place = _HOST.match(host)
    named = {"registryId": place["account"]} if place else {}
    try:
        client = boto3.client("ecr", region_name=place["region"] if place else None)
        client.create_repository(repositoryName=path, **named)
    except Exception as error:  # botocore makes its classes when it is asked
        if _EXISTS not in f"{type(error).__name__} {error}":
            raise _refused(host, path, f"{type(error).__name__}: {error}") from error


def _create_by_command(host: str, path: str) -> None:
    words = command(host, path)
    if not shutil.which(words[0]):
        raise _refused(host, path, "neither the Python package boto3 nor the program aws is here")
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _refused(host, path, str(error)) from error
    if done.returncode and _EXISTS not in done.stderr:
        raise _refused(host, path, done.stderr.strip())


def _refused(host: str, path: str, reason: str) -> RepositoryError:
    return RepositoryError(
        f"the repository {host}/{path} could not be made: {reason}. Make it with `{shlex.join(command(host, path))}`, "
        "or let someone do it who may (ecr:CreateRepository)."
    )
