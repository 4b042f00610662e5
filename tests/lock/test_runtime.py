"""What Metaflow itself needs in images: asked of Metaflow, per datastore, and told apart from what steps need."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mfbazel.lock import cli, runtime
from mfbazel.lock.document import Lock
from mfbazel.lock.errors import LockError
from mfbazel.lock.runtime import for_metaflow_alone, runtime_requirements
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @pypi(packages={"alpha": "1.0"})
    @step
    def start(self):
        self.next(self.end)

    @pypi(packages={"boto3": "1.15"})
    @step
    def end(self):
        pass
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Ask Metaflow anew in every test."""
    runtime._needed.cache_clear()
    yield
    runtime._needed.cache_clear()


def needed(*datastores: str) -> dict[str, str]:
    texts = [Requirement(wanted.text) for wanted in runtime_requirements(datastores, "3.14")]
    return {item.name: str(item.specifier) for item in texts}


def own_answers(monkeypatch: pytest.MonkeyPatch, answers: dict[str, dict[str, str]]) -> None:
    import metaflow.metaflow_config

    monkeypatch.setattr(metaflow.metaflow_config, "get_pinned_conda_libs", lambda _python, name: answers[name])


@pytest.mark.parametrize(
    ("datastore", "names"),
    [
        ("local", set()),
        ("s3", {"boto3"}),
        ("azure", {"azure-identity", "azure-storage-blob", "azure-keyvault-secrets", "simple-azure-blob-downloader"}),
        ("gs", {"google-cloud-storage", "google-auth", "google-cloud-secret-manager", "simple-gcp-object-downloader"}),
    ],
)
def test_each_datastore_needs_what_the_installed_metaflow_says(datastore: str, names: set[str]) -> None:
    from metaflow.metaflow_config import get_pinned_conda_libs

    found = needed(datastore)
    assert found == get_pinned_conda_libs("3.14", datastore)
    assert {"requests", *names} <= set(found)
    assert all(specifier.startswith(">=") for specifier in found.values())


def test_several_datastores_need_what_any_does(monkeypatch: pytest.MonkeyPatch) -> None:
    own_answers(monkeypatch, {"one": {"x": ">=1", "y": ">=2"}, "two": {"Y": "", "x": ">=3", "z": "<9"}})
    assert needed("one", "two", "one") == {"x": ">=1,>=3", "y": ">=2", "z": "<9"}
    assert [wanted.where for wanted in runtime_requirements(["one", "two"], "3.14")] == [
        "Metaflow (`datastores`: one, two)",
        "Metaflow (`datastores`: one, two)",
        "Metaflow (`datastores`: two)",
    ]


def test_an_unknown_datastore_is_refused_with_those_that_metaflow_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_DEFAULT_DATASTORE", raising=False)
    with pytest.raises(LockError) as caught:
        runtime_requirements(["gcs"], "3.14")
    assert str(caught.value) == (
        "attribute `datastores`: Metaflow does not know a datastore 'gcs'; it knows azure, gs, local, s3"
    )
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "gs")
    with pytest.raises(LockError, match=r"\(METAFLOW_DEFAULT_DATASTORE is gs here\)"):
        runtime_requirements(["gcs"], "3.14")


def test_the_configuration_of_this_machine_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "azure")
    assert "boto3" in needed(*runtime.DEFAULT_DATASTORES)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'metaflow'"), "cannot be imported: No module named 'metaflow'. Install it"),
        (RuntimeError("Unable to locate METAFLOW_PROFILE"), "refuses to start: Unable to locate METAFLOW_PROFILE"),
    ],
)
def test_a_metaflow_that_cannot_be_asked_is_no_reason_to_guess(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def refuse(_name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(LockError, match=said):
        runtime_requirements(["s3"], "3.14")


ASK = """
import sys
from mfbazel.lock.runtime import runtime_requirements
print([wanted.text for wanted in runtime_requirements(["s3"], "3.14")])
assert not [name for name in sys.modules if name.partition(".")[0] == "metaflow"]
import metaflow
assert metaflow.FlowSpec
"""


def test_no_more_of_metaflow_is_imported_than_its_configuration() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("['boto3>=1.14.0', 'requests>=2.21.0']\n", "")


def test_an_extension_of_metaflow_may_add_to_it(tmp_path: Path) -> None:
    """Extensions are packages of the namespace ``metaflow_extensions`` (Metaflow's extension mechanism)."""
    config = tmp_path / "metaflow_extensions" / "acme" / "config"
    config.mkdir(parents=True)
    (config / "mfextinit_acme.py").write_text(
        "def get_pinned_conda_libs(python_version, datastore_type):\n    return {'acme': '>=3', 'requests': '<3'}\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
    result = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("['acme>=3', 'boto3>=1.14.0', 'requests<3,>=2.21.0']\n", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse, and a configuration that knows nothing else."""
    directory = tmp_path / "wheelhouse"
    wheel(directory, "metaflow", "2.19.39", ("requests",))
    wheel(directory, "packaging", "26.0")
    wheel(directory, "requests", "2.30", ("certifi",))
    wheel(directory, "certifi", "2026.1")
    wheel(directory, "boto3", "1.15", ("botocore",))
    wheel(directory, "botocore", "1.15", ("certifi",))
    wheel(directory, "alpha", "1.0", ("certifi",))
    (tmp_path / "demo.py").write_text(FLOW, encoding="utf-8")
    return use_only(directory, tmp_path / "home", monkeypatch)


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    return cli.main([command, *arguments, "--python", HERE, "--infer", "off", *options])


def read(tmp_path: Path) -> Lock:
    directory = tmp_path / "demo.lock"
    document = json.loads((directory / "flow.json").read_text(encoding="utf-8"))
    return Lock(document, {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.txt")})


@pytest.mark.usefixtures("wheels")
def test_it_is_locked_like_everything_else_and_shown_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "flow") == 0
    lock = read(tmp_path)
    assert lock.environments["start"]["requirements"] == ["alpha==1.0"]
    assert lock.environments["start"]["runtime"] == ["boto3>=1.14.0", "requests>=2.21.0"]
    assert set(lock.versions("start")) == {"alpha", "boto3", "botocore", "certifi", "requests"}
    # certifi is there for alpha as well; what the step declares itself is its own.
    assert for_metaflow_alone(lock, "start") == {"boto3", "botocore", "requests"}
    assert lock.environments["end"]["runtime"] == ["requests>=2.21.0"]
    assert for_metaflow_alone(lock, "end") == {"requests"}
    assert for_metaflow_alone(lock, "_launcher") == set()
    text = capsys.readouterr().out
    assert "for Metaflow itself in every image: boto3>=1.14.0, requests>=2.21.0\n" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["start"][2:5] == ["alpha==1.0", "5", "3"]


@pytest.mark.usefixtures("wheels")
def test_another_datastore_makes_the_lock_stale(tmp_path: Path) -> None:
    assert run(tmp_path, "flow") == 0
    assert run(tmp_path, "test") == 0
    with pytest.raises(LockError) as caught:
        run(tmp_path, "test", "--datastore", "local")
    assert "step 'start': boto3>=1.14.0 is locked, but no longer required" in str(caught.value)
    assert run(tmp_path, "flow", "--datastore", "local") == 0
    assert read(tmp_path).environments["start"]["runtime"] == ["requests>=2.21.0"]
    assert run(tmp_path, "test", "--datastore", "local") == 0
    with pytest.raises(LockError) as caught:
        run(tmp_path, "test", "--datastore", "s3", "--datastore", "local")
    assert "boto3>=1.14.0 is required at Metaflow (`datastores`: s3), but not locked" in str(caught.value)


@pytest.mark.usefixtures("wheels")
def test_what_is_named_instead_counts_and_metaflow_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_answers(monkeypatch, {})
    assert run(tmp_path, "flow", "--runtime", "requests") == 0
    assert read(tmp_path).environments["start"]["runtime"] == ["requests"]
