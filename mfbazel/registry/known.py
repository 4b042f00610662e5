"""What is known of registries that many people use. Where each figure is from: ``docs/registries.md``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mfbazel.registry import ecr

_CHUNK = 32 << 20
_GIB = 1 << 30
_MIB = 1 << 20
_GB = 10**9

Advice = Callable[[str, str], str]
"""Returns a sentence about the repository of a host, by host and path."""


def _no_advice(_host: str, _path: str) -> str:
    return ""


@dataclass(frozen=True)
class RegistryType:
    """A kind of registry: what it can and cannot do, where that goes beyond the distribution specification.

    Attributes:
        name: how people call it; what ``[registries]`` of ``mfbazel.toml`` says.
        hosts: patterns (``fnmatch``) of the hosts that are of this kind; a port in a pattern is compared, too.
        largest_blob: the most bytes that a blob may have; ``None`` without a limit.
        chunk: the most bytes that one request of an upload carries: what arrived in whole requests survives an
            interruption. ``None``: all in one, for registries that take no chunks.
        mounts: whether a blob of one repository can be had in another without sending it.
        uploads_at_once: how many blobs may be sent at the same time.
        requests_per_second: how often requests may begin, where a registry counts them; ``None`` without a limit. A 429
            is waited for anyway.
        create_repository: makes the repository ``path`` on ``host``; only called when the registry says that it is
            missing and the person asked for that. ``None`` where the first push makes it, or where people have to.
        missing: what to do when the registry says that a repository is missing; empty where there is nothing to say.
    """

    name: str
    hosts: tuple[str, ...] = ()
    largest_blob: int | None = None
    chunk: int | None = _CHUNK
    mounts: bool = True
    uploads_at_once: int = 4
    requests_per_second: float | None = None
    create_repository: Callable[[str, str], None] | None = None
    missing: Advice = field(default=_no_advice)


def _missing_in_artifact_registry(host: str, path: str) -> str:
    project, _, rest = path.partition("/")
    location = host.removesuffix("-docker.pkg.dev")
    return (
        "Artifact Registry wants LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE, and the repository to be there: "
        f"`gcloud artifacts repositories create {rest.partition('/')[0] or 'REPOSITORY'} --repository-format=docker "
        f"--location={location} --project={project}`."
    )


def _missing_in_harbor(host: str, path: str) -> str:
    return f"Harbor makes repositories, but no projects: let someone make the project {_first(path)!r} on {host}."


def _missing_in_artifactory(host: str, path: str) -> str:
    return (
        f"Artifactory makes what is below a Docker repository, but not that: let someone make {_first(path)!r} on "
        f"{host} (package type Docker), or correct the name."
    )


def _missing_in_docker_hub(_host: str, path: str) -> str:
    if re.fullmatch(r"(?:library/)?[^/]+", path):
        return f"Docker Hub wants docker.io/NAMESPACE/NAME: {path!r} would be one of its official images."
    return f"Docker Hub makes a repository with its first push, for those who may push to {_first(path)!r}."


def _first(path: str) -> str:
    return path.partition("/")[0]


GENERIC = RegistryType("distribution")
"""Any registry that follows the distribution specification."""

KNOWN = (
    GENERIC,
    RegistryType(
        "docker-hub", ("docker.io", "index.docker.io", "registry-1.docker.io"), missing=_missing_in_docker_hub
    ),
    # Chunks after the first one are acknowledged and dropped: all in one request.
    RegistryType(
        "ecr",
        (
            "*.dkr.ecr.*.amazonaws.com",
            "*.dkr.ecr.*.amazonaws.com.cn",
            "*.dkr.ecr-fips.*.amazonaws.com",
            "*.dkr-ecr.*.on.aws",
        ),
        largest_blob=52_000 * _MIB,
        chunk=None,
        create_repository=ecr.create_repository,
        missing=ecr.missing,
    ),
    RegistryType("ecr-public", ("public.ecr.aws",), largest_blob=10_000 * _MIB, chunk=None, missing=ecr.missing_public),
    RegistryType("artifact-registry", ("*-docker.pkg.dev",), chunk=None, missing=_missing_in_artifact_registry),
    RegistryType("ghcr", ("ghcr.io",), largest_blob=10 * _GB, chunk=4 * _MIB),
    RegistryType("acr", ("*.azurecr.io", "*.azurecr.cn", "*.azurecr.us"), largest_blob=200 * _GIB, chunk=4 * _MIB),
    RegistryType("harbor", missing=_missing_in_harbor),
    RegistryType("artifactory", ("*.jfrog.io",), missing=_missing_in_artifactory),
)
"""The built-in types; that without hosts has to be named for a host."""
