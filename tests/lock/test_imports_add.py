"""``infer = "add"``: imports that nobody declares become requirements of the lock, the same ones every time."""

from __future__ import annotations

import json
import shutil
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
from metaflow import FlowSpec, pypi, step
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
    wheel(directory, "boto3", "1.0")
    wheel(directory, "requests", "2.0")
    wheel(directory, "scikit_learn", "1.9.1", ("numpy",), modules=("sklearn/__init__",))
    wheel(directory, "numpy", "2.5", modules=("numpy/__init__",))
    wheel(directory, "opencv_python", "5.0", modules=("cv2/__init__",))
    wheel(directory, "opencv_python_headless", "5.0", modules=("cv2/__init__",))
    return use_only(directory, tmp_path / "home", monkeypatch)


def write(tmp_path: Path, train: str = "pass", top: str = "", decorator: str = "") -> None:
    text = FLOW.replace("{TOP}", top).replace("{TRAIN}", train).replace("{DECORATOR}", decorator)
    (tmp_path / "demo.py").write_text(text, encoding="utf-8")


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", LABEL]
    arguments += ["--python", HERE, "--runtime", "boto3", "--runtime", "requests", "--infer", "add"]
    return cli.main([command, *arguments, *options])


def lock(tmp_path: Path, *options: str) -> dict[str, Any]:
    assert run(tmp_path, "flow", *options) == 0
    table: dict[str, Any] = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return table


def requirements(table: dict[str, Any]) -> dict[str, list[str]]:
    return {name: item["requirements"] for name, item in table["environments"].items() if not name.startswith("_")}


def content(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").iterdir()}


def offline(tmp_path: Path, command: str, *options: str) -> int:
    with pytest.MonkeyPatch.context() as context:
        context.setenv("PATH", "")
        context.setenv("PIP_FIND_LINKS", "/nonexistent")
        return run(tmp_path, command, *options)


def stable(tmp_path: Path, *options: str) -> None:
    """Check that the lock is the same from itself and from nothing, and passes both tests offline."""
    first = content(tmp_path)
    assert offline(tmp_path, "test", *options) == offline(tmp_path, "imports", *options) == 0
    assert run(tmp_path, "flow", "--check", *options) == 0
    lock(tmp_path, *options)
    assert content(tmp_path) == first
    shutil.rmtree(tmp_path / "demo.lock")
    lock(tmp_path, *options)
    assert content(tmp_path) == first


def test_undeclared_imports_become_requirements_of_any_version(tmp_path: Path) -> None:
    write(tmp_path, top="import numpy, boto3", train="from sklearn import svm")
    table = lock(tmp_path)
    assert requirements(table) == {"start": ["numpy"], "train": ["numpy", "scikit-learn"], "end": ["numpy"]}
    assert "scikit-learn==1.9.1" in (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")
    stable(tmp_path)


def test_the_hash_of_the_decorators_and_what_is_declared_stay(tmp_path: Path) -> None:
    write(tmp_path, train="import sklearn")
    added = {step["name"]: step for step in lock(tmp_path)["flow"]["steps"]}
    write(tmp_path)
    plain = {step["name"]: step for step in lock(tmp_path)["flow"]["steps"]}
    for name in plain:
        assert added[name]["requirements_sha256"] == plain[name]["requirements_sha256"]
        assert added[name]["declared"] == plain[name]["declared"] == []


def test_what_is_declared_wins(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "scikit_learn", "1.8", ("numpy",), modules=("sklearn/__init__",))
    write(tmp_path, train="import sklearn, numpy", decorator='@pypi(packages={"scikit-learn": "1.8"})')
    assert requirements(lock(tmp_path))["train"] == ["numpy", "scikit-learn==1.8"]
    stable(tmp_path)


def test_a_disabled_step_gets_nothing(tmp_path: Path) -> None:
    write(tmp_path, train="import sklearn", decorator="@pypi(disabled=True)")
    assert requirements(lock(tmp_path))["train"] == []


def test_a_package_that_also_holds_another_imported_module_does_not_change_the_answer(
    tmp_path: Path, wheels: Path
) -> None:
    # From nothing, `yaml` is known to be PyYAML; from the old lock, a wheel that was added for `skimage` holds it too.
    wheel(wheels, "scikit_image", "1.0", modules=("skimage/__init__", "yaml/__init__"))
    wheel(wheels, "pyyaml", "6.0", modules=("yaml/__init__", "_yaml"))
    write(tmp_path, train="import skimage, yaml")
    assert requirements(lock(tmp_path))["train"] == ["pyyaml", "scikit-image"]
    stable(tmp_path)


def test_the_wheels_of_what_is_declared_decide_before_the_mapping(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "our_yaml", "1.0", modules=("yaml/__init__",))
    wheel(wheels, "ours", "1.0", ("our_yaml",))
    wheel(wheels, "pyyaml", "6.0", modules=("yaml/__init__",))
    write(tmp_path, train="import yaml", decorator='@pypi(packages={"ours": ""})')
    assert requirements(lock(tmp_path))["train"] == ["our-yaml", "ours"]
    stable(tmp_path)


def test_an_added_package_that_moves_a_declared_one_to_other_modules_settles(tmp_path: Path, wheels: Path) -> None:
    # Alone, `ours` is locked at 2.0 and holds `extra`; what `mover` needs moves it to 1.0, which does not.
    wheel(wheels, "ours", "2.0", modules=("ours", "extra"))
    wheel(wheels, "ours", "1.0")
    wheel(wheels, "extra", "1.0")
    wheel(wheels, "mover", "1.0", ("ours<2",))
    write(tmp_path, train="import mover, extra", decorator='@pypi(packages={"ours": ""})')
    assert requirements(lock(tmp_path))["train"] == ["extra", "mover", "ours"]
    stable(tmp_path)


def test_a_new_and_a_gone_import_make_the_lock_stale_without_network(tmp_path: Path) -> None:
    write(tmp_path, train="import numpy")
    lock(tmp_path)
    write(tmp_path, train="import sklearn")
    with pytest.raises(LockError) as error:
        offline(tmp_path, "test")
    text = str(error.value)
    assert "step 'train': scikit-learn is required at demo.py:11 (import sklearn), but not locked" in text
    assert "step 'train': numpy is locked, but no longer required" in text
    assert text.endswith(f"Run `bazel run {LABEL}.lock`.")


def test_ambiguity_is_an_error_with_the_candidates_and_the_attribute(tmp_path: Path) -> None:
    write(tmp_path, top="import cv2")
    with pytest.raises(LockError) as error:
        run(tmp_path, "flow")
    text = str(error.value)
    assert "step 'train': demo.py:2 (import cv2): 'cv2' may be opencv-python or opencv-python-headless" in text
    assert '`imports = {"cv2": "opencv-python"}`' in text
    assert not (tmp_path / "demo.lock").exists()
    options = ("--import", "cv2=opencv-python-headless")
    assert requirements(lock(tmp_path, *options))["end"] == ["opencv-python-headless"]
    stable(tmp_path, *options)


def test_what_the_image_has_anyway_is_not_added(tmp_path: Path) -> None:
    write(tmp_path, train="import sklearn")
    assert requirements(lock(tmp_path, "--import", "sklearn="))["train"] == []
    stable(tmp_path, "--import", "sklearn=")


def test_a_guess_that_no_index_knows_is_told_with_its_import(tmp_path: Path) -> None:
    write(tmp_path, train="import unheard_of")
    with pytest.raises(LockError) as error:
        run(tmp_path, "flow")
    assert "unheard-of\n  demo.py:11 (import unheard_of): unheard-of" in str(error.value)
    assert str(error.value).endswith('If another package provides an import, name it: `imports = {"unheard_of": "…"}`.')


def test_what_added_packages_bring_comes_before_a_guess(tmp_path: Path, wheels: Path) -> None:
    wheel(
        wheels, "matplotlib", "3.0", ("hidden_one",), modules=("matplotlib/__init__", "mpl_toolkits/mplot3d/__init__")
    )
    wheel(wheels, "hidden_one", "1.0", modules=("hidden_module",))
    wheel(wheels, "really_guessed", "1.0", modules=("really_guessed", "hidden_module"))
    write(tmp_path, train="import mpl_toolkits.mplot3d, hidden_module, really_guessed, matplotlib")
    assert requirements(lock(tmp_path))["train"] == ["hidden-one", "matplotlib", "really-guessed"]
    stable(tmp_path)


def test_an_added_package_that_does_not_hold_the_module_is_refused(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "unheard_of", "1.0", modules=("something_else",))
    write(tmp_path, train="import unheard_of.thing")
    with pytest.raises(LockError) as error:
        run(tmp_path, "flow")
    text = str(error.value)
    assert "demo.py:11 (import unheard_of.thing): unheard-of (a guess, from the name of the import) holds no" in text
    assert '`imports = {"unheard_of": "…"}`' in text
    assert not (tmp_path / "demo.lock").exists()


def test_a_version_once_added_is_kept(tmp_path: Path, wheels: Path) -> None:
    write(tmp_path, train="import numpy")
    lock(tmp_path)
    before = content(tmp_path)
    wheel(wheels, "numpy", "3.0", modules=("numpy/__init__",))
    lock(tmp_path)
    assert content(tmp_path) == before
    lock(tmp_path, "--upgrade")
    assert "numpy==3.0" in (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")


def test_an_old_lock_without_modules_is_completed(tmp_path: Path) -> None:
    write(tmp_path, train="import sklearn, numpy")
    table = lock(tmp_path)
    before = content(tmp_path)
    for entry in table["wheels"].values():
        del entry["modules"]
    (tmp_path / "demo.lock" / "flow.json").write_text(json.dumps(table), encoding="utf-8")
    lock(tmp_path)
    assert content(tmp_path) == before
