"""Wheels unpacked for this machine's Python."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mfbazel.wheel.unpack import main

_FILES = {
    "demo/__init__.py": "NAMES = {'one', 'two', 'three'}\nVALUE = 'of the source'\ndef function(): pass\n",
    "demo/template.py": "this is {{ no }} Python\n",
    "demo/warned.py": "PATTERN = '\\d'\n",
    "demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in _FILES.items():
            archive.writestr(name, content)
    return path


def unpack(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["unpack.py", *map(str, arguments)])
    assert main() == 0


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_byte_code_lies_beside_the_sources_that_compile_and_is_the_same_in_every_directory(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    unpack(monkeypatch, wheel, tmp_path / "plain")
    unpack(monkeypatch, "--bytecode", wheel, tmp_path / "one")
    unpack(monkeypatch, "--bytecode", wheel, tmp_path / "deep" / "two")
    one = tree(tmp_path / "one")
    tag = sys.implementation.cache_tag
    compiled = {f"demo/__pycache__/{name}.{tag}.pyc" for name in ("__init__", "warned")}
    assert set(one) == set(_FILES) | compiled
    assert one == tree(tmp_path / "deep" / "two")
    assert tree(tmp_path / "plain") == {name: content.encode() for name, content in _FILES.items()}
    assert capfd.readouterr() == ("", "")


def test_python_takes_the_byte_code_and_names_the_source_where_it_is(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(monkeypatch, "--bytecode", wheel, tmp_path / "site")
    source = tmp_path / "site" / "demo" / "__init__.py"
    # Only to see which of the two is taken.
    source.write_text("VALUE = 'of an edit'\n")
    show = "import demo; print(demo.VALUE, demo.function.__code__.co_filename)"
    done = subprocess.run(
        [sys.executable, "-B", "-c", show], env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert done.stdout == f"of the source {source}\n", done.stderr
