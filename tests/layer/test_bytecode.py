"""Byte code in layers: what is there, that it is the same in every build, and who may compile it."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.util
import inspect
import io
import json.decoder
import marshal
import subprocess
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mfbazel.layer import LayerError
from mfbazel.layer.bytecode import MAX_SOURCE, Bytecode
from mfbazel.layer.tar import Content
from tests.layer.wheels import SITE, environment, layer, make_wheel, record_line, unpacked

TAG = sys.implementation.cache_tag
PYTHON = "{}.{}".format(*sys.version_info)

# Modules that refer to each other's names, and to many constants, as real ones do.
SOURCES = {
    f"demo/{module.__name__.replace('.', '_')}.py": Path(str(module.__file__)).read_bytes()
    for module in (argparse, csv, dataclasses, inspect, json.decoder, types, typing)
} | {"demo/sets.py": b"x = y in {'one', 'two', 'three', 'four', 'five'}\n"}


def cached(path: str) -> str:
    directory, _, name = path.rpartition("/")
    return f"{directory}/__pycache__/{name.removesuffix('.py')}.{TAG}.pyc"


def names(code: types.CodeType) -> Iterator[str]:
    """Yield the file names of a code object and of those in it."""
    yield code.co_filename
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names(constant)


def test_every_python_file_has_unchecked_byte_code_of_its_place_in_the_image(tmp_path: Path) -> None:
    scripts = {"demo-1.0.data/scripts/tool.py": b"#!python\nx = 1\n", "demo-1.0.data/data/share/x.py": b"y = 2\n"}
    files = unpacked(layer(tmp_path, make_wheel(tmp_path, files=SOURCES | scripts), options=("--bytecode",)))
    sources = {path for path in files if path.endswith(".py")}
    assert sources == {f"{SITE}/{path}" for path in SOURCES} | {"opt/venv/bin/tool.py", "opt/venv/share/x.py"}
    assert {path for path in files if path.endswith(".pyc")} == set(map(cached, sources))
    for path in sources:
        byte_code = files[cached(path)]
        assert byte_code[:4] == importlib.util.MAGIC_NUMBER
        assert byte_code[4:8] == b"\1\0\0\0", "hash-based, and not to be checked (PEP 552)"
        assert byte_code[8:16] == importlib.util.source_hash(files[path])
        code = marshal.loads(byte_code[16:])
        assert set(names(code)) == {f"/{path}"}
        assert code == compile(files[path], f"/{path}", "exec", dont_inherit=True)


def test_record_lists_byte_code_with_hash_and_size(tmp_path: Path) -> None:
    files = unpacked(layer(tmp_path, make_wheel(tmp_path), options=("--bytecode",)))
    record = files[f"{SITE}/demo-1.0.dist-info/RECORD"].decode()
    path = f"{SITE}/demo/__init__.py"
    assert record_line(f"demo/__pycache__/__init__.{TAG}.pyc", files[cached(path)]) in record
    assert len(list(csv.reader(io.StringIO(record)))) == len(files)


def test_python_runs_the_byte_code_and_does_not_look_at_the_source(tmp_path: Path) -> None:
    files = unpacked(layer(tmp_path, make_wheel(tmp_path), options=("--bytecode",)))
    site = tmp_path / "site"
    for path in (f"{SITE}/demo/__init__.py", cached(f"{SITE}/demo/__init__.py")):
        target = site / path.removeprefix(f"{SITE}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[path])
    (site / "demo" / "__init__.py").write_text("value = 'of another source'\n")
    command = [sys.executable, "-c", "import demo; print(demo.value, demo.__cached__)"]
    run = subprocess.run(command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", str(site / "demo" / "__pycache__" / f"__init__.{TAG}.pyc")]


def front(wheel: Path, out: Path, cwd: Path, **variables: str) -> bytes:
    """Run the front as a process; return the layer."""
    out.mkdir()
    cwd.mkdir()
    outputs = ["--compression", "none", "--blob", f"{out}/l.tar", "--descriptor", f"{out}/l.json"]
    command = [sys.executable, "-m", "mfbazel.layer", "wheels", "--python", PYTHON, "--bytecode", *outputs, str(wheel)]
    subprocess.run(command, env={**environment(), **variables}, cwd=cwd, check=True)
    return (out / "l.tar").read_bytes()


def test_byte_code_does_not_depend_on_hash_seed_directory_or_environment(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files=SOURCES)
    first = front(wheel, tmp_path / "1", tmp_path / "here", PYTHONHASHSEED="1")
    assert first == front(wheel, tmp_path / "2", tmp_path / "elsewhere", PYTHONHASHSEED="2")
    assert first == front(
        wheel, tmp_path / "3", tmp_path / "x", PYTHONHASHSEED="3", PYTHONOPTIMIZE="2", LC_ALL="C", append="one two"
    )


def compiled(sources: Iterable[str], directory: Path) -> dict[str, bytes]:
    with Bytecode(PYTHON, None, directory) as bytecode:
        files = {f"{SITE}/{name}": Content(SOURCES[name]) for name in sources}
        return {path: b"".join(result.chunks()) for path, result in bytecode.compiled(files)}


def test_byte_code_of_a_file_does_not_depend_on_the_others(tmp_path: Path) -> None:
    together = compiled(SOURCES, tmp_path)
    assert together == compiled(SOURCES, tmp_path), "twice"
    alone: dict[str, bytes] = {}
    for name in sorted(SOURCES, reverse=True):
        alone |= compiled([name], tmp_path)
    assert together == alone
    without_first = compiled(sorted(SOURCES)[1:], tmp_path)
    assert without_first.items() < together.items(), "each file with the other of the two compilers"


def test_files_that_do_not_compile_are_left_out(tmp_path: Path) -> None:
    bad = {
        "demo/syntax.py": b"print 'x'\n",
        "demo/nul.py": b"x = 1\0\n",
        "demo/encoding.py": b"# coding: martian\nx = 1\n",
        "demo/latin.py": b"x = '\xe9'\n",
        "demo/deep.py": b"(" * 5000 + b")" * 5000,
        "demo/long.py": b"#" * (MAX_SOURCE + 1),
        "demo/notpython.txt": b"x = 1\n",
    }
    good = {"demo/warns.py": b"x = 1 is 1\ny = '\\d'\n", "demo/empty.py": b"", "demo/longest.py": b"#" * MAX_SOURCE}
    files = unpacked(layer(tmp_path, make_wheel(tmp_path, files=bad | good), options=("--bytecode",)))
    assert {path for path in files if path.endswith(".pyc")} == {cached(f"{SITE}/{name}") for name in good}


def test_byte_code_of_the_wheel_gives_way(tmp_path: Path) -> None:
    own = f"demo/__pycache__/__init__.{TAG}.pyc"
    other = "demo/__pycache__/__init__.cpython-27.pyc"
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": b"value = 1\n", own: b"old", other: b"old"})
    files = unpacked(layer(tmp_path, wheel, options=("--bytecode",)))
    assert files[f"{SITE}/{own}"].startswith(importlib.util.MAGIC_NUMBER)
    assert files[f"{SITE}/{other}"] == b"old"
    assert unpacked(layer(tmp_path, wheel, out="plain"))[f"{SITE}/{own}"] == b"old"


def interpreter(tmp_path: Path, says: str) -> str:
    """Write a program that answers as an interpreter does; return its path."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (
            "cpython 3.12 final 3531 cpython-312",
            "byte code of Python 3.14 is compiled by CPython 3.14, and .* is cpython 3.12",
        ),
        ("pypy 3.14 final 3627 pypy314", "is pypy 3.14"),
        (
            "cpython 3.14 alpha 3605 cpython-314",
            r"\(alpha\) writes byte code of format 3605, which releases of Python 3.14 do not read \(theirs is 3627\)",
        ),
        ("cpython 3.14 final 9999 cpython-314", r"writes byte code of format 9999"),
        ("hello", "is not an interpreter of Python 3.7 or later"),
    ],
)
def test_compiler_that_is_not_the_images_python_is_refused(tmp_path: Path, says: str, expected: str) -> None:
    wheel = make_wheel(tmp_path)
    with pytest.raises(LayerError, match=expected) as caught:
        layer(tmp_path, wheel, options=("--bytecode", "--compiler", interpreter(tmp_path, says)))
    assert "--compiler PATH" in str(caught.value)
    assert "--@mfbazel//rules:bytecode_python=LABEL" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_compiler_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"cannot run the interpreter .*/none: No such file"):
        layer(tmp_path, make_wheel(tmp_path), options=("--bytecode", "--compiler", f"{tmp_path}/none"))


def test_compiler_that_dies_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = interpreter(tmp_path, f"cpython {PYTHON} final 3627 {TAG}")
    with pytest.raises(LayerError, match=r"died while it compiled .*/demo/__init__\.py"):
        layer(tmp_path, make_wheel(tmp_path), options=("--bytecode", "--compiler", path))
    assert list((tmp_path / "out").iterdir()) == []


def test_own_interpreter_compiles_for_its_own_version_only(tmp_path: Path) -> None:
    with pytest.raises(
        LayerError, match=rf"byte code of Python 3\.9 is compiled by CPython 3\.9, and this tool runs on {PYTHON}"
    ):
        Bytecode("3.9", None, tmp_path)


def test_given_compiler_is_used(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    own = layer(tmp_path, wheel, options=("--bytecode",), out="own")
    given = layer(tmp_path, wheel, options=("--bytecode", "--compiler", sys.executable), out="given")
    assert (own / "l.tar").read_bytes() == (given / "l.tar").read_bytes()
