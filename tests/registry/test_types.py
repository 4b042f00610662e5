"""Which kind of registry a host is, what plug-ins add, and how repositories are made."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.registry import ecr
from mfbazel.registry.types import GENERIC, RegistryTypeError, known_types, registry_type

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture(autouse=True)
def plug_ins_are_looked_for_anew() -> Iterator[None]:
    known_types.cache_clear()
    yield
    known_types.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on sys.path to install plug-ins into."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return directory


def install(site: Path, name: str, entry: str, code: str) -> None:
    """Install a distribution of one module and one entry point, as pip does."""
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    (site / f"{name}.py").write_text(f"from mfbazel.registry.types import RegistryType\n{code}\n")
    info = site / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[mfbazel.registries]\n{entry}\n")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("docker.io", "docker-hub"),
        (ECR, "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr"),
        ("public.ecr.aws", "ecr-public"),
        ("europe-west3-docker.pkg.dev", "artifact-registry"),
        ("ghcr.io", "ghcr"),
        ("team.azurecr.io", "acr"),
        ("team.jfrog.io", "artifactory"),
        ("registry.example.com", "distribution"),
        ("docker.io.example.com", "distribution"),
        ("127.0.0.1:5000", "distribution"),
    ],
)
def test_the_host_tells_the_type(host: str, name: str) -> None:
    assert registry_type(host).name == name


def test_registries_that_take_no_chunks_get_blobs_in_one_request() -> None:
    for host in (ECR, "public.ecr.aws", "europe-docker.pkg.dev"):
        assert registry_type(host).chunk is None
    assert registry_type("ghcr.io").chunk == registry_type("team.azurecr.io").chunk == 4 << 20
    assert GENERIC.chunk == 32 << 20


def test_a_host_whose_name_says_nothing_can_be_named() -> None:
    named = {"registry.example.com": "harbor", "*.corp.example.com": "artifactory", "127.0.0.1:5001": "ghcr"}
    assert registry_type("registry.example.com:8443", named).name == "harbor"
    assert registry_type("docker.corp.example.com", named).name == "artifactory"
    assert registry_type("127.0.0.1:5000", named) is GENERIC
    assert registry_type("127.0.0.1:5001", named).name == "ghcr"
    with pytest.raises(RegistryTypeError, match=r"'registry.example.com' is said to be 'habor'; there are acr, "):
        registry_type("registry.example.com", {"registry.example.com": "habor"})


def test_a_plug_in_of_a_team_takes_precedence(site: Path) -> None:
    code = "ours = RegistryType('ours', ('*.azurecr.io', 'registry.corp'), largest_blob=5)"
    install(site, "acme_registries", "acme = acme_registries:ours", code)
    assert registry_type("team.azurecr.io").largest_blob == 5
    assert registry_type("registry.corp:5000").name == "ours"
    assert registry_type("registry.example.com", {"registry.example.com": "ours"}).largest_blob == 5
    assert registry_type("ghcr.io").name == "ghcr"


def test_a_plug_in_may_have_several_types(site: Path) -> None:
    install(
        site,
        "several",
        "all = several:ALL",
        "ALL = [RegistryType('a', ('a.example',)), RegistryType('b', ('b.example',))]",
    )
    assert registry_type("b.example").name == "b"


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("x = broken:nothing", "", "AttributeError"),
        ("x = broken:kind", "import not_there", "No module named 'not_there'"),
        ("x = broken:kind", "kind = 'docker'", "it is a str, and neither"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_distribution(site: Path, entry: str, code: str, reason: str) -> None:
    install(site, "broken", entry, code)
    with pytest.raises(RegistryTypeError, match=f"plug-in 'x' .* of the distribution broken 1.5 .*{reason}"):
        registry_type("registry.example.com")


@pytest.mark.parametrize(
    ("host", "path", "advice"),
    [
        (
            ECR,
            "ml/churn",
            "`aws ecr create-repository --registry-id 123456789012 --region eu-west-1 --repository-name ml/churn`",
        ),
        ("public.ecr.aws", "team/churn", "--repository-name churn`"),
        (
            "europe-docker.pkg.dev",
            "my-project/images/churn",
            "repositories create images --repository-format=docker --location=europe --project=my-project`",
        ),
        ("team.jfrog.io", "docker-local/churn", "make 'docker-local' on team.jfrog.io"),
        ("docker.io", "churn", "docker.io/NAMESPACE/NAME"),
    ],
)
def test_of_a_missing_repository_it_is_said_how_to_make_it(host: str, path: str, advice: str) -> None:
    assert advice in registry_type(host).missing(host, path)


class Boto3(types.ModuleType):
    """Stands for boto3; notes what is asked."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("boto3")
        self.asked: list[dict[str, Any]] = []
        self.error = error

    def client(self, service: str, **options: Any) -> Boto3:
        self.asked.append({"service": service, **options})
        return self

    def create_repository(self, **options: Any) -> None:
        self.asked.append(options)
        if self.error:
            raise self.error


def test_boto3_makes_a_repository_in_the_account_and_region_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = Boto3()
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    ecr.create_repository(ECR, "ml/churn")
    assert boto3.asked == [
        {"service": "ecr", "region_name": "eu-west-1"},
        {"repositoryName": "ml/churn", "registryId": "123456789012"},
    ]


def test_a_repository_that_somebody_made_meanwhile_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    error = type("RepositoryAlreadyExistsException", (Exception,), {})("it exists")
    monkeypatch.setitem(sys.modules, "boto3", Boto3(error))
    ecr.create_repository(ECR, "ml/churn")


def test_what_aws_says_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", Boto3(ValueError("not allowed")))
    with pytest.raises(ecr.RepositoryError, match=r"not allowed.*`aws ecr create-repository .*ecr:CreateRepository"):
        ecr.create_repository(ECR, "ml/churn")


@pytest.mark.parametrize(("script", "error"), [("exit 0", ""), ("echo no way >&2; exit 9", "no way")])
def test_without_boto3_the_command_line_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "aws"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n')
    program.chmod(0o755)
    if error:
        with pytest.raises(ecr.RepositoryError, match=error):
            ecr.create_repository(ECR, "ml/churn")
    else:
        ecr.create_repository(ECR, "ml/churn")
    asked = (tmp_path / "asked").read_text()
    assert asked == ("ecr create-repository --registry-id 123456789012 --region eu-west-1 --repository-name ml/churn\n")


def test_without_either_the_error_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ecr.RepositoryError, match=r"neither .* boto3 nor the program aws .*`aws ecr create-repository"):
        ecr.create_repository(ECR, "ml/churn")
