"""Flows in a virtual environment into which pip installed the wheel: no Bazel, no lock, images.json from anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.push_rig import find_crane, serve_registry
from mfbazel.registry import Client, publish_images
from tests.extension.aws import s3, simulated_aws
from tests.extension.project import Project, image_of, words

ROOT = Path(__file__).absolute().parents[2]
NUMPY = {"numpy": "2.5.5"}
STEPS = ("start", "train", "end")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with mfbazel, from the wheels of the test's own environment."""
    directory = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True, env=_clean(directory))
    named = os.environ.get("MFBAZEL_TEST_WHEEL")
    wheel = Path(named) if named else next(ROOT.glob("bazel-bin/tools/wheel/mfbazel-*.whl"))
    interpreter = directory / "bin" / "python"
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--no-compile", str(wheel), "boto3", "kubernetes"]
    if wheels := os.environ.get("MFBAZEL_TEST_WHEELS"):
        places = {str(Path(file).parent) for file in wheels.split()}
        pip += ["--no-index", *(f"--find-links={place}" for place in sorted(places))]
    subprocess.run(pip, check=True, env=_clean(directory))
    return interpreter


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A simulated S3: Argo Workflows takes no local datastore."""
    with simulated_aws() as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, endpoint: str) -> Project:
    """A pushed flow; nothing of Bazel's is in its variables, nor where its images are recorded."""
    made = Project(tmp_path)
    made.write_flow('@pypi(packages={"numpy": "2.5.5"})')
    made.write_images(NUMPY)
    made.variables = s3(endpoint) | {
        "METAFLOW_USER": "tester",
        "MFBAZEL_VERIFY": "0",  # the images are made up
    }
    return made


def _clean(home: Path) -> dict[str, str]:
    """Return an environment without the paths of this test."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE")
    return {"HOME": str(home), **{name: os.environ[name] for name in kept if name in os.environ}}


def _create(python: Path, project: Project, images: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``argo-workflows create --only-json``."""
    environ = _clean(project.directory) | project.variables | ({"MFBAZEL_IMAGES": images} if images else {})
    options = ["--no-pylint", "--environment=bazel", "argo-workflows", "create", "--only-json"]
    command = [str(python), "small_flow.py", *options]
    return subprocess.run(command, cwd=project.directory, env=environ, capture_output=True, text=True, timeout=600)


def _images(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the image by template of a workflow."""
    assert done.returncode == 0, words(done)
    templates = json.loads(done.stdout[done.stdout.index("{") :])["spec"]["templates"]
    return {template["name"]: template["container"]["image"] for template in templates if "container" in template}


def _expected(images: dict[str, str]) -> dict[str, str]:
    return {name: image_of(name) if name in STEPS else image for name, image in images.items()}


def test_images_json_is_read_from_a_file_from_the_environment_and_from_a_registry(
    python: Path, project: Project, tmp_path: Path
) -> None:
    text = project.images.read_text()
    with serve_registry(find_crane(), tmp_path / "disk") as host:
        publish_images(Client(host), "ml/small", ["small_flow.images"], text.encode())
        for named in ("images.json", text, f"oci://{host}/ml/small:small_flow.images"):
            images = _images(_create(python, project, named))
            assert set(STEPS) <= images.keys()
            assert images == _expected(images), named


def test_a_step_that_declares_something_else_than_its_image_holds_is_refused(python: Path, project: Project) -> None:
    project.write_flow('@pypi(packages={"numpy": "2.5.4"})')
    done = _create(python, project, "images.json")
    assert done.returncode != 0
    assert "train of the flow SmallFlow was pushed before its packages were locked anew" in words(done).replace("*", "")
    assert "bazel run //flows:small_flow.push" in words(done)


def test_an_artifact_that_a_registry_lacks_is_named(python: Path, project: Project, tmp_path: Path) -> None:
    with serve_registry(find_crane(), tmp_path / "disk") as host:
        done = _create(python, project, f"oci://{host}/ml/small:small_flow.images")
    assert done.returncode != 0
    assert f"the registry {host} does not have {host}/ml/small:small_flow.images (404)" in words(done)
    assert "Traceback" not in done.stderr
