"""The code package brings byte code of Metaflow, which is used where it fits and only there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import metaflow
import pytest

from tests.extension.project import plugin

bazel_bytecode: Any = plugin("bazel_bytecode")
TAG = sys.implementation.cache_tag


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Metaflow as a task unpacks it, with the byte code beside the sources."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "elsewhere"))  # as the launcher has it
    directory = tmp_path / "code"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(metaflow.__file__).parent, directory / "metaflow", ignore=ignored)
    for file, arcname in bazel_bytecode.compiled_files():
        directory.joinpath(arcname).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(file, directory / arcname)
    return directory


def imported(code: Path) -> str:
    """Return what Python says while it imports Metaflow from there."""
    command = [sys.executable, "-v", "-c", "from metaflow import FlowSpec, step; import metaflow.util"]
    path = ":".join([str(code), *filter(None, sys.path)])
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    return done.stderr


def test_a_task_compiles_nothing_of_metaflow(code: Path) -> None:
    said = imported(code)
    assert f"metaflow/__pycache__/util.{TAG}.pyc matches" in said
    wrote = [line for line in said.splitlines() if line.startswith("# wrote") and f"{code}/metaflow/" in line]
    assert len(wrote) < 10, wrote
    assert said.count(f"{code}/metaflow/") > 500


def test_byte_code_of_another_source_is_not_used(code: Path) -> None:
    with (code / "metaflow" / "util.py").open("a", encoding="utf-8") as file:
        file.write("\nOTHER = 1\n")
    said = imported(code)
    assert f"metaflow/__pycache__/util.{TAG}.pyc matches" not in said
    assert f"metaflow/__pycache__/decorators.{TAG}.pyc matches" in said


def test_it_is_compiled_once(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code.is_dir()

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(bazel_bytecode.py_compile, "compile", refuse)
    files = dict(bazel_bytecode.compiled_files())
    assert len(files) > 100
    assert all(Path(file).is_file() for file in files)


def test_without_a_cache_there_is_none_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list(bazel_bytecode.compiled_files()) == []
