"""What is read of imports is what Python imports: generated flows are read, and executed with stubs beside that."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import itertools
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfbazel.analyze.imports import read_imports
from mfbazel.analyze.model import Place, Reading
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow, RawStep
from mfbazel.analyze.source import Sources, parse

STEPS = ("start", "middle", "end")
HELPERS = ("helper0", "helper1", "pack.helper2")
FUNCTIONS = 3
METHODS = 3
INSIDE = -0.5
_counter = itertools.count()


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes Metaflow and third-party modules (``tp…``) out of nothing, and notes the latter."""

    def __init__(self) -> None:
        self.imported: set[str] = set()

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "metaflow" and not fullname.startswith("tp"):
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        if spec.name == "metaflow":
            module.__dict__.update(FlowSpec=object, step=lambda function: function)
        else:
            self.imported.add(spec.name)
            module.__dict__["thing"] = None
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: it is complete."""


@contextmanager
def imports_of(directory: Path) -> Iterator[Stubs]:
    """Let modules be imported from ``directory`` and from nothing; forget all of them afterwards."""
    stubs = Stubs()
    before = set(sys.modules)
    sys.meta_path.insert(0, stubs)
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    metaflow = sys.modules.pop("metaflow", None)
    try:
        yield stubs
    finally:
        sys.path.remove(str(directory))
        sys.meta_path.remove(stubs)
        for name in set(sys.modules) - before | {"metaflow"}:
            sys.modules.pop(name, None)
        if metaflow:
            sys.modules["metaflow"] = metaflow


def third_party() -> st.SearchStrategy[str]:
    """Statements that import something."""
    names = st.integers(0, 30).map(lambda number: f"tp{number}")
    return st.one_of(
        names.map(lambda name: f"import {name}"),
        names.map(lambda name: f"import {name} as renamed"),
        names.map(lambda name: f"from {name} import thing"),
        names.map(lambda name: f"__import__('{name}')"),
        names.map(lambda name: f"import importlib; importlib.import_module('{name}')"),
        names.map(lambda name: f"if len('x') == 1:\n    import {name}"),
        names.map(lambda name: f"if False:\n    import {name}"),
        names.map(lambda name: f"try:\n    import {name}\nfinally:\n    pass"),
    )


def calls(module: float, function: int) -> st.SearchStrategy[str]:
    """Statements that call functions which come later, so that running ends. ``module`` is that of
    the caller: :data:`INSIDE` for methods of the flow, -1 for its top level."""
    later = [(other, index) for other in range(len(HELPERS)) for index in range(FUNCTIONS)]
    later = [item for item in later if item > (module, function)]
    if not later:
        return st.just("pass")

    def call(target: tuple[int, int], how: str) -> str:
        name, called = HELPERS[target[0]], f"f{target[1]}"
        own = f"own_{target[0]}_{target[1]}"
        return {
            "plain": f"{called}()" if target[0] == module else f"import {name}\n{name}.{called}()",
            "as": f"import {name} as {own}\n{own}.{called}()",
            "from": f"from {name} import {called} as {own}\n{own}()",
            "class": f"from {name} import C{target[1]} as C{own}\nC{own}().run()",
            "map": f"from {name} import {called} as {own}\nlist(map(lambda _: {own}(), [1]))",
            "nested": f"from {name} import {called} as {own}\ndef nested():\n    {own}()\nnested()",
        }[how]

    # The top level does not hand functions to others here: what those do with them is not read.
    ways = ["plain", "as", "from"] if module < 0 else ["plain", "as", "from", "class", "map", "nested"]
    return st.builds(call, st.sampled_from(later), st.sampled_from(ways))


def block(lines: Sequence[str], depth: int) -> str:
    indent = "    " * depth
    return "\n".join(indent + line for text in (*lines, "pass") for line in text.splitlines())


@st.composite
def programs(draw: st.DrawFn) -> dict[str, str]:
    """A flow and its modules, by file name."""
    files = {"pack/__init__.py": block(draw(st.lists(third_party(), max_size=1)), 0) + "\n"}
    for number, helper in enumerate(HELPERS):
        text = [block(draw(st.lists(third_party(), max_size=2)), 0)]
        for function in range(FUNCTIONS):
            body = draw(st.lists(st.one_of(third_party(), calls(number, function)), max_size=3))
            text.append(f"def f{function}():\n{block(body, 1)}")
            body = draw(st.lists(st.one_of(third_party(), calls(number, function)), max_size=2))
            text.append(f"class C{function}:\n    def run(self):\n{block(body, 2)}")
        files[f"{helper.replace('.', '/')}.py"] = "\n".join(text) + "\n"
    files["the_flow.py"] = draw(flows())
    return files


@st.composite
def flows(draw: st.DrawFn) -> str:
    """The flow's file."""
    top = draw(st.lists(st.one_of(third_party(), calls(-1, 0)), max_size=3))
    text = ["from metaflow import FlowSpec, step", block(top, 0), "class Flow(FlowSpec):"]
    for method in range(METHODS):
        more = [f"self.m{index}()" for index in range(method + 1, METHODS)]
        choices = [third_party(), calls(INSIDE, 0), *([st.sampled_from(more)] if more else [])]
        body = draw(st.lists(st.one_of(choices), max_size=2))
        text.append(f"    def m{method}(self):\n{block(body, 2)}")
    own = st.integers(0, METHODS - 1).map(lambda number: f"self.m{number}()")
    for name in STEPS:
        body = draw(st.lists(st.one_of(third_party(), calls(INSIDE, 0), own), max_size=3))
        text.append(f"    @step\n    def {name}(self):\n{block(body, 2)}")
    return "\n".join(text) + "\n"


def executed(directory: Path) -> dict[str, set[str]]:
    """Run every step by itself, as tasks do; return what each imported."""
    found = {}
    for name in STEPS:
        with imports_of(directory) as stubs:
            flow = importlib.import_module("the_flow").Flow()
            getattr(flow, name)()
            found[name] = stubs.imported
    return found


def inferred(directory: Path) -> dict[str, set[str]]:
    path = directory / "the_flow.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    steps = tuple(
        RawStep(name, "linear", (), Place("the_flow.py", lines.index(f"    def {name}(self):") + 1)) for name in STEPS
    )
    raw = RawFlow("Flow", "the_flow.py", "start", steps, Reading("static", ""))
    found = read_imports(raw, parse(path, "the_flow.py"), Sources([directory]), ReadOptions())
    return {name: {item.module for item in items} for name, items in found.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for all examples."""
    return tmp_path_factory.mktemp("flows")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=programs())
def test_what_is_inferred_is_what_running_imports(root: Path, files: dict[str, str]) -> None:
    directory = root / str(next(_counter))
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    read, ran = inferred(directory), executed(directory)
    for name in STEPS:
        assert read[name] == ran[name], (name, files)


def test_the_stubs_note_imports(tmp_path: Path) -> None:
    text = "from metaflow import FlowSpec, step\nimport tp1\nclass Flow(FlowSpec):\n"
    text += "".join(f"    @step\n    def {name}(self):\n        import tp2\n" for name in STEPS)
    (tmp_path / "the_flow.py").write_text(text, encoding="utf-8")
    assert executed(tmp_path) == inferred(tmp_path) == {name: {"tp1", "tp2"} for name in STEPS}
