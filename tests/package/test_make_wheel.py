"""The wheel of what runs without Bazel: what is in it, and that its bytes depend on nothing else."""

from __future__ import annotations

import email
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

import mfbazel
from tools.wheel.make_wheel import WheelError, main

ROOT = Path(__file__).absolute().parents[2]
BESIDE = ("pyproject.toml", "LICENSE", "docs/without_bazel.md")


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel that Bazel built."""
    named = os.environ.get("MFBAZEL_TEST_WHEEL")
    return Path(named) if named else next(ROOT.glob("bazel-bin/tools/wheel/mfbazel-*.whl"))


@pytest.fixture
def project(tmp_path: Path, wheel: Path) -> Path:
    """The files that the wheel was built of, where they are in the repository."""
    directory = tmp_path / "somewhere"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                below = "mfbazel/extension/" if name.startswith("metaflow_extensions/") else ""
                target = directory / f"{below}{name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    for name in BESIDE:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return directory


def _build(project: Path, output: Path) -> Path:
    files = sorted(path for path in project.rglob("*") if path.is_file())
    main(["--output", str(output), *(f"{path.relative_to(project)}={path}" for path in files)])
    return output


def test_metadata_names_version_python_and_what_is_imported(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"mfbazel-{mfbazel.__version__}.dist-info/METADATA"))
    assert metadata["Name"] == "mfbazel"
    assert metadata["Version"] == mfbazel.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    required = {re.split(r"[<>=!]", text)[0] for text in metadata.get_all("Requires-Dist") or ()}
    assert required == {"metaflow", "packaging", "requests", "urllib3"}
    assert "metaflow>=2.19.17" in (metadata.get_all("Requires-Dist") or ())


def test_metaflow_finds_the_extension_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top_level,) = (archive.read(name).decode().split() for name in names if name.endswith("/top_level.txt"))
    assert top_level == ["metaflow_extensions", "mfbazel"]
    assert "metaflow_extensions/mfbazel/plugins/mfextinit_mfbazel.py" in names
    assert not [name for name in names if name.startswith("metaflow_extensions/") and name.endswith("__init__.py")]
    assert "mfbazel/registry/__init__.py" in names


def test_the_same_files_give_the_same_bytes(tmp_path: Path, wheel: Path, project: Path) -> None:
    again = _build(project, tmp_path / wheel.name)
    assert again.read_bytes() == wheel.read_bytes()


def test_another_version_than_modules_is_refused(tmp_path: Path, project: Path) -> None:
    with pytest.raises(WheelError, match=r"MODULE\.bazel and mfbazel/__init__\.py name different versions"):
        _build(project, tmp_path / "mfbazel-9.9-py3-none-any.whl")
    assert not (tmp_path / "mfbazel-9.9-py3-none-any.whl").exists()


def test_a_module_that_pyproject_leaves_out_is_named(tmp_path: Path, wheel: Path, project: Path) -> None:
    (project / "mfbazel" / "more").mkdir()
    (project / "mfbazel" / "more" / "__init__.py").touch()
    with pytest.raises(WheelError, match=r"lacks mfbazel/more/__init__\.py\. Add mfbazel\.more to `packages`"):
        _build(project, tmp_path / wheel.name)


def test_a_backend_that_fails_is_quoted(tmp_path: Path, wheel: Path, project: Path) -> None:
    (project / "mfbazel" / "__init__.py").write_text("")
    with pytest.raises(WheelError, match=r"setuptools cannot build the wheel[\s\S]*__version__"):
        _build(project, tmp_path / wheel.name)
