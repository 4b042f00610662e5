"""Imports against declarations: what is missing, what to write, and what to do without; no network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from tests.lock.wheelhouse import use_only, wheel

LABEL = "//flows:demo"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """\
from metaflow import FlowSpec, pypi, step, pypi_base
{TOP}
class Demo(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    {DECORATOR}
    @step
    def train(self):
        {TRAIN}
        self.next(self.end)

    @pypi(packages={"delta": "1.0"})
    @step
    def end(self):
        pass
"""


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse, and a configuration that knows nothing else."""
    directory = tmp_path / "wheelhouse"
    wheel(directory, "metaflow", "2.19.39", ("boto3", "requests"))
    wheel(directory, "packaging", "26.0")
    wheel(directory, "boto3", "1.0", ("botocore",))
    wheel(directory, "botocore", "1.0")
    wheel(directory, "requests", "2.0")
    wheel(directory, "scikit_learn", "1.9.1", ("numpy",), modules=("sklearn/__init__",))
    wheel(directory, "numpy", "2.5", modules=("numpy/__init__",))
    wheel(directory, "delta", "1.0", modules=("deltas",))
    wheel(directory, "meta", "1.0", ("meta_impl",), modules=())
    wheel(directory, "meta_impl", "1.0", modules=("meta/__init__",))
    wheel(directory, "google_cloud_storage", "3.0", ("google_cloud_core",), modules=("google/cloud/storage/__init__",))
    wheel(directory, "google_cloud_core", "1.0", modules=("google/cloud/client/__init__", "google/cloud/version"))
    wheel(directory, "opencv_python", "5.0", modules=("cv2/__init__",))
    wheel(directory, "opencv_python_headless", "5.0", modules=("cv2/__init__",))
    wheel(directory, "both", "1.0", ("opencv_python", "opencv_python_headless"))
    return use_only(directory, tmp_path / "home", monkeypatch)


def write(tmp_path: Path, train: str = "pass", top: str = "", decorator: str = "@pypi(packages={})") -> None:
    text = FLOW.replace("{TOP}", top).replace("{TRAIN}", train).replace("{DECORATOR}", decorator)
    (tmp_path / "demo.py").write_text(text, encoding="utf-8")


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", LABEL]
    return cli.main([command, *arguments, "--python", HERE, "--runtime", "boto3", "--runtime", "requests", *options])


def lock(tmp_path: Path, **flow: str) -> None:
    write(tmp_path, **flow)
    assert run(tmp_path, "flow") == 0


def problems(tmp_path: Path, *options: str) -> str:
    """Check the imports where nothing can be resolved or downloaded; return the error."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv("PATH", "")
        context.setenv("PIP_FIND_LINKS", "/nonexistent")
        with pytest.raises(LockError) as error:
            run(tmp_path, "imports", *options)
    return str(error.value)


def document(tmp_path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return table


def test_the_lock_says_which_modules_its_wheels_hold(tmp_path: Path) -> None:
    lock(tmp_path, decorator='@pypi(packages={"google-cloud-storage": ""})')
    found = {entry["name"]: entry["modules"] for entry in document(tmp_path)["wheels"].values()}
    assert found["google-cloud-storage"] == ["google.cloud.storage"]
    assert found["google-cloud-core"] == ["google.cloud.client", "google.cloud.version"]
    assert found["delta"] == ["deltas"]


def test_declared_runtime_and_first_party_imports_pass_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "helper.py").write_text("import json\n", encoding="utf-8")
    lock(
        tmp_path,
        top="import boto3, helper, metaflow.cards, os",
        train="import sklearn.svm; from google.cloud import storage; import requests",
        decorator='@pypi(packages={"scikit-learn": "1.9.1", "google-cloud-storage": "3.0"})',
    )
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    capsys.readouterr()
    assert run(tmp_path, "imports") == 0
    assert capsys.readouterr().out == "the imports of 3 steps are accounted for\n"
    assert run(tmp_path, "imports", "--stamp", str(tmp_path / "stamp")) == 0
    assert (tmp_path / "stamp").read_text(encoding="utf-8") == "the imports of 3 steps are accounted for\n"


def test_a_missing_package_is_told_with_place_distribution_and_the_line_to_add(tmp_path: Path) -> None:
    lock(tmp_path, train="import sklearn.svm")
    text = problems(tmp_path)
    assert text.startswith(f"{LABEL}: imports that no declaration accounts for:\n  step 'train':\n")
    assert "    demo.py:11: import sklearn.svm\n" in text
    assert 'scikit-learn is not in the step\'s environment. Declare it: @pypi(packages={"scikit-learn": ""})' in text
    assert 'imports = {"sklearn": ""}' in text and '`infer = "add"`' in text and '`infer = "off"`' in text
    assert "step 'start'" not in text and "step 'end'" not in text


def test_the_version_is_that_of_another_step_and_the_entry_goes_into_the_decorator_that_is_there(
    tmp_path: Path,
) -> None:
    lock(tmp_path, train="import deltas", decorator='@pypi(packages={"numpy": ""})')
    text = problems(tmp_path, "--import", "deltas=delta")
    assert 'Declare it: add "delta": "1.0" to the packages of @pypi (demo.py:8)' in text


def test_what_is_there_only_for_another_package_is_a_failure_that_names_it(tmp_path: Path) -> None:
    lock(tmp_path, train="import numpy as np, botocore", decorator='@pypi(packages={"scikit-learn": ""})')
    text = problems(tmp_path)
    assert "demo.py:11: import numpy\n      numpy is there only because scikit-learn needs it." in text
    assert 'add "numpy": "2.5" to the packages of @pypi (demo.py:8)' in text
    assert "botocore is there only because boto3 needs it." in text


def test_names_of_a_namespace_package_are_told_apart(tmp_path: Path) -> None:
    lock(
        tmp_path,
        train="from google.cloud import storage, client, bigquery",
        decorator='@pypi(packages={"google-cloud-storage": ""})',
    )
    text = problems(tmp_path)
    assert "from google.cloud import client\n      google-cloud-core is there only because google-cloud-storage" in text
    assert "from google.cloud import bigquery\n      google-cloud-bigquery (a guess" in text
    assert "import storage" not in text


def test_a_package_may_be_declared_for_those_that_it_needs(tmp_path: Path) -> None:
    lock(tmp_path, train="import meta", decorator='@pypi(packages={"meta": ""})')
    assert run(tmp_path, "imports") == 0


def test_a_guess_is_said_to_be_one(tmp_path: Path) -> None:
    lock(tmp_path, train="import unheard_of.thing")
    text = problems(tmp_path)
    assert "unheard-of (a guess, from the name of the import) is not in the step's environment" in text
    assert (
        "If 'unheard_of' is your own code, add its target to `deps` of metaflow_flow; else declare the package" in text
    )


def test_an_ambiguous_import_shows_its_candidates_unless_one_is_declared(tmp_path: Path) -> None:
    lock(tmp_path, train="import cv2")
    text = problems(tmp_path)
    assert "'cv2' may be opencv-python or opencv-python-headless. Declare the one that is meant" in text
    assert '`imports = {"cv2": "opencv-python"}`' in text
    lock(tmp_path, train="import cv2", decorator='@pypi(packages={"opencv-python-headless": ""})')
    assert run(tmp_path, "imports") == 0


def test_two_wheels_of_the_lock_with_one_module_are_ambiguous(tmp_path: Path) -> None:
    lock(tmp_path, train="import cv2", decorator='@pypi(packages={"both": ""})')
    assert "'cv2' may be opencv-python or opencv-python-headless" in problems(tmp_path)


def test_the_users_name_wins_and_an_empty_one_exempts(tmp_path: Path) -> None:
    lock(tmp_path, train="import sklearn, cv2", decorator='@pypi(packages={"delta": ""})')
    assert run(tmp_path, "imports", "--import", "sklearn=", "--import", "cv2=delta") == 0
    text = problems(tmp_path, "--import", "sklearn=numpy", "--import", "cv2=delta")
    assert "numpy is not in the step's environment" in text and "scikit-learn" not in text


def test_all_problems_are_told_at_once_and_common_ones_for_the_class(tmp_path: Path) -> None:
    lock(tmp_path, top="import sklearn", train="import cv2, unheard_of")
    text = problems(tmp_path)
    assert text.count("demo.py:2: import sklearn") == 3
    assert "import cv2" in text and "import unheard_of" in text
    assert (
        'Every step needs scikit-learn: for all of them, on the class: @pypi_base(packages={"scikit-learn": ""})'
        in text
    )
    assert text.index("step 'start'") < text.index("step 'train'") < text.index("step 'end'")


def test_a_disabled_step_is_not_checked_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock(tmp_path, train="import sklearn", decorator="@pypi(disabled=True)")
    capsys.readouterr()
    assert run(tmp_path, "imports") == 0
    assert capsys.readouterr().out.splitlines() == [
        "the imports of 2 steps are accounted for",
        "step 'train' is disabled: it runs with what its base image has, which is not known here",
    ]


def test_off_checks_nothing_and_needs_no_lock(tmp_path: Path) -> None:
    write(tmp_path, train="import sklearn")
    assert run(tmp_path, "imports", "--infer", "off") == 0
    with pytest.raises(LockError, match=r"demo.lock: there is no lock. Make it with `bazel run //flows:demo.lock`"):
        run(tmp_path, "imports")


def test_a_step_that_is_not_locked_yet_is_checked_by_the_mapping(tmp_path: Path) -> None:
    lock(tmp_path, train="import sklearn", decorator='@pypi(packages={"scikit-learn": ""})')
    path = tmp_path / "demo.py"
    path.write_text(path.read_text(encoding="utf-8").replace("train", "fit"), encoding="utf-8")
    assert run(tmp_path, "imports") == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("a-b=c", "attribute `imports`: 'a-b' is not the name of an import"),
        ("a=c==1", r"attribute `imports`: 'c==1' \(of 'a'\) is not the name of a distribution"),
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, option: str, message: str) -> None:
    write(tmp_path)
    with pytest.raises(LockError, match=message):
        run(tmp_path, "imports", "--import", option)


def old_lock(tmp_path: Path) -> None:
    """Take from the lock what older versions did not write."""
    path = tmp_path / "demo.lock" / "flow.json"
    table = document(tmp_path)
    for entry in table["wheels"].values():
        del entry["modules"]
    for key in ("schema", "reading"):
        del table["flow"][key]
    for step in table["flow"]["steps"]:
        for key in ("file", "decorators", "cpu", "memory", "platform"):
            del step[key]
        for inferred in step["inferred"]:
            del inferred["members"]
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def test_a_lock_of_an_older_version_is_read_completed_and_stale_till_then(
    tmp_path: Path,
) -> None:
    lock(tmp_path, train="import sklearn, deltas", decorator='@pypi(packages={"scikit-learn": "", "delta": ""})')
    new = (tmp_path / "demo.lock" / "flow.json").read_bytes()
    old_lock(tmp_path)
    text = problems(tmp_path)
    assert "import deltas" in text and "import sklearn" not in text
    assert "The lock does not say yet which modules 8 of its wheels hold" in text
    assert f"run `bazel run {LABEL}.lock`" in text
    with pytest.raises(LockError) as error:
        run(tmp_path, "test")
    assert "it describes the flow by schema None, this one by 1" in str(error.value)
    assert "8 of its wheels do not say which modules they hold" in str(error.value)
    assert run(tmp_path, "flow") == 0
    assert (tmp_path / "demo.lock" / "flow.json").read_bytes() == new
    assert run(tmp_path, "test") == run(tmp_path, "imports") == 0


def test_another_way_of_reading_alone_makes_no_lock_stale(tmp_path: Path) -> None:
    lock(tmp_path)
    path = tmp_path / "demo.lock" / "flow.json"
    table = document(tmp_path)
    table["flow"]["reading"] = {"way": "dynamic", "reason": "asked for"}
    path.write_text(json.dumps(table), encoding="utf-8")
    assert run(tmp_path, "test") == 0


def test_another_platform_makes_a_lock_stale(tmp_path: Path) -> None:
    lock(tmp_path)
    path = tmp_path / "demo.lock" / "flow.json"
    table = document(tmp_path)
    table["flow"]["steps"][0]["platform"] = "linux/arm64"
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(LockError, match="step 'start': `platform` is not declared, locked is linux/arm64"):
        run(tmp_path, "test")
