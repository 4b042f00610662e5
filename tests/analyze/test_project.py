"""The dependencies that a project gives to every step."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, ReadOptions, read_flow, requirements_sha256
from mfbazel.analyze.project import read_project

FLOW = """
    from metaflow import *
    class F(FlowSpec):
        @pypi(packages={"Pandas": "2.2", "scikit-learn": "1.5"})
        @step
        def start(self):
            self.next(self.plain)
        @step
        def plain(self):
            self.next(self.off)
        @conda(disabled=True)
        @step
        def off(self):
            self.next(self.end)
        @step
        def end(self): pass
    """
PROJECT = """
    [project]
    name = "shop"
    version = "1"
    requires-python = ">=3.10,<3.13"
    dependencies = [
        "pandas>=2",
        'requests[socks]>=2.31; python_version < "3.13"',
        "tool @ https://files.example.com/tool-1-py3-none-any.whl",
    ]

    [dependency-groups]
    dev = ["pytest"]
    """
LOCK = """
    version = 1
    revision = 3
    requires-python = ">=3.10, <3.13"

    [[package]]
    name = "shop"
    version = "1"
    source = { virtual = "." }
    dependencies = [
        { name = "pandas", version = "2.2.3", source = { registry = "r" }, marker = "python_full_version < '3.12'" },
        { name = "pandas", version = "2.3.1", source = { registry = "r" }, marker = "python_full_version >= '3.12'" },
        { name = "requests", extra = ["socks"], marker = "python_full_version < '3.13'" },
        { name = "tool" },
    ]

    [[package]]
    name = "pandas"
    version = "2.2.3"
    source = { registry = "r" }

    [[package]]
    name = "pandas"
    version = "2.3.1"
    source = { registry = "r" }

    [[package]]
    name = "requests"
    version = "2.32.3"
    source = { registry = "r" }

    [[package]]
    name = "tool"
    version = "1"
    source = { url = "https://files.example.com/tool-1-py3-none-any.whl" }
    """


def write(tmp_path: Path, project: str = PROJECT, lock: str | None = None) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(textwrap.dedent(project).lstrip())
    if lock is not None:
        (tmp_path / "uv.lock").write_text(textwrap.dedent(lock))
    return path


def read(tmp_path: Path, project: Path, python: str = "3.12") -> FlowSpec:
    flow = tmp_path / "flow.py"
    flow.write_text(textwrap.dedent(FLOW))
    return read_flow(flow, (), ReadOptions("static", python=python, project=project))


def requirements(flow: FlowSpec, step: str) -> list[tuple[str, str, int]]:
    return [(item.requirement, item.decorator, item.line) for item in flow.step(step).declared]


def test_every_step_gets_them_under_what_its_decorators_say(tmp_path: Path) -> None:
    flow = read(tmp_path, write(tmp_path))
    requests = ('requests[socks]>=2.31 ; python_version < "3.13"', "project", 7)
    tool = ("tool @ https://files.example.com/tool-1-py3-none-any.whl", "project", 8)
    assert requirements(flow, "start") == [("pandas==2.2", "pypi", 4), requests, ("scikit-learn==1.5", "pypi", 4), tool]
    assert requirements(flow, "plain") == [("pandas>=2", "project", 6), requests, tool]
    assert requirements(flow, "off") == []
    assert flow.step("plain").declared[0].file == "pyproject.toml"


def test_they_are_not_in_the_hash_of_what_the_decorators_say(tmp_path: Path) -> None:
    flow = read(tmp_path, write(tmp_path))
    assert flow.step("plain").requirements_sha256 == requirements_sha256(None, {})


def test_the_lock_pins_them_each_version_under_its_marker(tmp_path: Path) -> None:
    flow = read(tmp_path, write(tmp_path, lock=LOCK))
    assert [requirement for requirement, _, _ in requirements(flow, "plain")] == [
        'pandas==2.2.3 ; python_full_version < "3.12"',
        'pandas==2.3.1 ; python_full_version >= "3.12"',
        'requests[socks]==2.32.3 ; python_full_version < "3.13"',
        "tool @ https://files.example.com/tool-1-py3-none-any.whl",
    ]


def test_a_python_that_the_project_refuses_is_an_error(tmp_path: Path) -> None:
    message = (
        r'pyproject.toml:4: step \'start\' has Python 3.14, but the project has `requires-python = "<3.13,>=3.10"`'
    )
    with pytest.raises(AnalyzeError, match=message):
        read(tmp_path, write(tmp_path), python="3.14")


@pytest.mark.parametrize(
    ("project", "message"),
    [
        ("[tool.poetry.dependencies]\npandas = '^2'\n", r"in \[tool.poetry\], in Poetry's own form"),
        ("[tool.other]\n", r"there is no \[project\]"),
        ("[project\n", "is no TOML"),
        ("[project]\nname='x'\ndynamic = ['dependencies']\n", "pyproject.toml:3: the dependencies are dynamic"),
        ("[project]\nname='x'\ndependencies = 'pandas'\n", "`dependencies` of .project. is not a list of texts"),
        ("[project]\nname='x'\ndependencies = [\n'a',\n'new est']\n", "pyproject.toml:5: 'new est' is no requirement"),
        ("[project]\nname='x'\nrequires-python='new'\n", 'pyproject.toml:3: `requires-python = "new"` is not'),
        (
            "[project]\nname='x'\ndependencies=['our_lib']\n[tool.uv.sources]\nour-lib = { path = '../lib' }\n",
            r"pyproject.toml:5: .* takes our-lib from elsewhere than an index \(path\)",
        ),
        ("[project]\nname='x'\n[tool.uv]\ndefault-groups = ['dev', 'gpu']\n", "pyproject.toml:4: `default-groups`"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_with_place_and_remedy(tmp_path: Path, project: str, message: str) -> None:
    with pytest.raises(AnalyzeError, match=message):
        read_project(write(tmp_path, project))


def test_sources_that_are_indexes_and_of_other_packages_are_fine(tmp_path: Path) -> None:
    project = "[project]\nname='x'\ndependencies=['a']\n[tool.uv.sources]\na = { index = 'ours' }\nb = { git = 'x' }\n"
    assert [item.requirement for item in read_project(write(tmp_path, project)).declared] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version = 1\nrevision", "version = 2\nrevision"), "the lock has version 2, not 1"),
        (('name = "shop"', 'name = "other"'), "the lock is not that of the project 'shop'"),
        (('{ name = "requests", extra', '{ name = "urllib3", extra'), "the lock lacks the dependency requests"),
        (('version = "2.32.3"', 'version = "2.30"'), r"the lock has requests 2.30, but the project asks for requests"),
        (('version = "2.32.3"\nsource = { registry', 'version = "2.32.3"\nsource = { git'), r"from an index \(git"),
        (('name = "requests"\nversion', 'name = "urllib3"\nversion'), "does not say which version of requests it has"),
    ],
)  # fmt: skip
def test_a_lock_that_does_not_fit_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    lock = textwrap.dedent(LOCK)
    assert change[0] in lock
    with pytest.raises(AnalyzeError, match=message):
        read_project(write(tmp_path, lock=lock.replace(*change)))


def test_a_project_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnalyzeError, match=r"pyproject\.toml: cannot read the project: No such file"):
        read_project(tmp_path / "pyproject.toml")
