"""What the reader finds, and what it refuses."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze import (
    AnalyzeError,
    FlowSpec,
    ReadOptions,
    Requests,
    cli,
    read_flow,
    requirements_sha256,
)

HEAD = "from metaflow import *\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def read(tmp_path: Path, text: str, *roots: Path) -> FlowSpec:
    return read_flow(write(tmp_path / "flow.py", text), roots, ReadOptions("static"))


def single(tmp_path: Path, decorators: str, head: str = "", body: str = "pass", base: str = "") -> FlowSpec:
    """Read a flow of one step with ``decorators`` (a line each)."""
    lines = ["from metaflow import *", *head.splitlines(), *base.splitlines(), "class F(FlowSpec):"]
    lines += [f"    {line}" for line in decorators.splitlines()]
    lines += ["    @step", "    def start(self):", *(f"        {line}" for line in body.splitlines())]
    return read(tmp_path, "\n".join(lines) + "\n")


def requirements(flow: FlowSpec, step: str = "start") -> list[str]:
    return [item.requirement for item in flow.step(step).declared]


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, text)
    return str(error.value)


GRAPH = """
    from metaflow import FlowSpec, parallel, step

    class F(FlowSpec):
        @step
        def start(self):
            self.next(self.b, self.a)

        @step
        def a(self):
            self.next(self.each, foreach="xs")

        @step
        def b(self):
            self.next({"x": self.c, "y": self.d, "again": self.b}, condition="kind")

        @step
        def c(self):
            self.next(self.both)

        @step
        def d(self):
            self.next(self.both)

        @step
        def each(self):
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.next(self.more)

        @step
        def more(self):
            self.next(self.wide, num_parallel=4)

        @parallel
        @step
        def wide(self):
            self.next(self.narrow)

        @step
        def narrow(self, inputs):
            self.next(self.both)

        @step
        def both(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass
    """


def test_types_and_transitions_are_metaflows(tmp_path: Path) -> None:
    steps = {step.name: (step.type, step.next) for step in read(tmp_path, GRAPH).steps}
    assert steps == {
        "start": ("split", ("b", "a")),
        "a": ("foreach", ("each",)),
        "b": ("split-switch", ("c", "d", "b")),
        "c": ("linear", ("both",)),
        "d": ("linear", ("both",)),
        "each": ("linear", ("gather",)),
        "gather": ("join", ("more",)),
        "more": ("foreach", ("wide",)),
        "wide": ("linear", ("narrow",)),
        "narrow": ("join", ("both",)),
        "both": ("join", ("end",)),
        "end": ("end", ()),
    }


def test_steps_are_in_topological_order_with_branches_as_named(tmp_path: Path) -> None:
    order = [step.name for step in read(tmp_path, GRAPH).steps]
    assert order == ["start", "b", "c", "d", "a", "each", "gather", "more", "wide", "narrow", "both", "end"]


def test_start_and_end_may_be_marked(tmp_path: Path) -> None:
    text = """
        from metaflow import FlowSpec, step
        class F(FlowSpec):
            @step(end=True)
            def last(self): pass
            @step(start=True)
            def first(self):
                self.next(self.last)
        """
    assert [(step.name, step.type) for step in read(tmp_path, text).steps] == [("first", "start"), ("last", "end")]


def test_a_flow_of_one_step_is_a_flow(tmp_path: Path) -> None:
    assert [(step.name, step.type) for step in single(tmp_path, "").steps] == [("start", "end")]


@pytest.mark.parametrize(
    "text",
    [
        "from metaflow import FlowSpec, step, pypi\nclass F(FlowSpec):\n    @pypi(packages={'a': '1'})",
        "from metaflow import FlowSpec as S, step, pypi as p\nclass F(S):\n    @p(packages={'a': '1'})",
        "import metaflow as mf\nfrom metaflow import step\nclass F(mf.FlowSpec):\n    @mf.pypi(packages=dict(a='1'))",
        "import metaflow\nfrom metaflow import step\nclass F(metaflow.FlowSpec):\n    "
        "@metaflow.conda(libraries={'a': '1'})",
        "from metaflow import *\nclass F(FlowSpec):\n    @pypi(**{'packages': {'a': '=' + '=1'}})",
        "from metaflow import *\nV = '1'\nclass F(FlowSpec):\n    @pypi(packages={'a': f'=={V}'})",
        "from metaflow import *\nB = {'a': '0'}\nP = {**B, 'a': '1'}\nclass F(FlowSpec):\n    @conda(packages=P)",
        "from metaflow import *\nP = {'x': {'a': '1'}}\nclass F(FlowSpec):\n    @conda(packages=P['x'] | {})",
        "from metaflow import *\nP = {'x': {'y': '1'}}\nclass F(FlowSpec):\n    @conda(packages={'a': P['x']['y']})",
        "from metaflow import *\n@pypi_base(packages={'a': '1'})\nclass F(FlowSpec):\n    @pypi",
        "from metaflow import *\n@pypi_base(packages={'a': '1'})\nclass F(FlowSpec):\n    @pypi()",
        "from metaflow import *\n@conda_base(packages={'a': '0'})\nclass F(FlowSpec):\n    @conda(packages={'a': '1'})",
        "try:\n    from metaflow import *\nexcept ImportError: pass\nclass F(FlowSpec):\n    @retry\n    "
        "@pypi(packages={'a': '1'})",
    ],
)  # fmt: skip
def test_packages_are_found_however_they_are_written(tmp_path: Path, text: str) -> None:
    flow = read(tmp_path, f"{text}\n    @step\n    def start(self): pass\n")
    assert requirements(flow) == ["a==1"]
    assert flow.steps[0].requirements_sha256 == requirements_sha256(None, {"a": "1"})


def test_constants_of_first_party_modules_are_read(tmp_path: Path) -> None:
    write(tmp_path / "root" / "pins" / "__init__.py", "from .versions import DATA, VERSION\n")
    write(tmp_path / "root" / "pins" / "versions.py", "VERSION = '2'\nDATA = {'pandas': VERSION}\n")
    text = "from metaflow import *\nimport pins\nclass F(FlowSpec):\n"
    text += "    @pypi(packages={**pins.DATA, 'a': pins.VERSION})\n"
    flow = read(tmp_path, text + "    @step\n    def start(self): pass\n", tmp_path / "root")
    assert requirements(flow) == ["a==2", "pandas==2"]
    places = [(item.name, item.file, item.line) for item in flow.steps[0].declared]
    assert places == [("a", "flow.py", 4), ("pandas", "pins/versions.py", 2)]


def test_the_steps_packages_are_merged_over_the_flows(tmp_path: Path) -> None:
    flow = single(
        tmp_path, "@pypi(packages={'b': '2'})", base="@pypi_base(packages={'a': '1', 'b': '1'}, python='3.9')"
    )
    step = flow.steps[0]
    assert (requirements(flow), step.python) == (["a==1", "b==2"], "3.9")
    assert [item.decorator for item in step.declared] == ["pypi_base", "pypi"]
    assert step.requirements_sha256 == requirements_sha256("3.9", {"a": "1", "b": "2"})


def test_a_disabled_step_keeps_what_is_declared_and_needs_nothing(tmp_path: Path) -> None:
    step = single(tmp_path, "@pypi(disabled=True)", base="@pypi_base(packages={'a': '1'}, python='3.9')").steps[0]
    assert (step.disabled, len(step.declared), step.effective_declared) == (True, 1, ())
    assert step.requirements_sha256 == requirements_sha256(None, {})


def test_hardware_and_images_are_read(tmp_path: Path) -> None:
    decorators = "@resources(gpu=1, memory=4)\n@kubernetes(image='me/x:1', gpu='2')\n@batch\n@card\n@timeout(seconds=1)"
    step = single(tmp_path, decorators).steps[0]
    assert step.requests == Requests(gpu=2, memory=4)
    assert [(item.decorator, item.image) for item in step.remote] == [("batch", None), ("kubernetes", "me/x:1")]
    assert single(tmp_path, "@resources(gpu=0)").steps[0].requests == Requests()


def test_steps_are_inherited_and_overridden_across_files(tmp_path: Path) -> None:
    write(
        tmp_path / "common.py",
        """
        from metaflow import FlowSpec, pypi, pypi_base, step
        @pypi_base(packages={"base": "1"})
        class Common(FlowSpec):
            @pypi(packages={"a": "1"})
            @step
            def start(self):
                self.next(self.end)
            @pypi(packages={"b": "1"})
            @step
            def end(self): pass
        """,
    )
    text = """
        from metaflow import pypi, step
        from common import Common
        class Middle(Common): pass
        class F(Middle):
            @pypi(packages={"c": "1"})
            @step
            def end(self): pass
        """
    flow = read(tmp_path, text)
    assert flow.name == "F"
    assert requirements(flow, "start") == ["a==1", "base==1"]
    assert requirements(flow, "end") == ["base==1", "c==1"]


def test_decorators_below_step_and_user_step_decorators_are_harmless(tmp_path: Path) -> None:
    head = "@user_step_decorator\ndef timed(step, flow, inputs): yield\nclass Kept(UserStepDecorator): pass"
    text = f"""from metaflow import *
import functools, somewhere
{head}
class F(FlowSpec):
    @timed
    @Kept
    @step
    @somewhere.wraps
    @functools.cache
    def start(self): pass
"""
    assert requirements(read(tmp_path, text)) == []


IMPORTS = """
    from __future__ import annotations
    import os, sys
    import everywhere
    from typing import TYPE_CHECKING
    from metaflow import FlowSpec, step
    from features import top
    import helpers.deep as deep

    if TYPE_CHECKING:
        import checker
    try:
        import optional
    except ImportError:
        optional = None
    try:
        import firm
    finally:
        pass

    def local():
        import in_function

    class Plain:
        def method(self):
            import in_class

    class F(FlowSpec):
        @step
        def start(self):
            import pandas as pd, numpy.linalg
            self.help()
            self.next(self.train)

        def help(self):
            import in_method
            local()

        @step
        def train(self):
            from sklearn.linear_model import LinearRegression
            from features.more import compute
            compute()
            deep.call()
            Plain()
            self.next(self.end)

        @step
        def end(self):
            pass
    """


def test_imports_are_found_where_they_are_reached(tmp_path: Path) -> None:
    write(tmp_path / "features" / "__init__.py", "import of_package\ndef top():\n    import not_reached\n")
    write(tmp_path / "features" / "more.py", "from . import other\nimport of_more\ndef compute():\n    other.inner()\n")
    write(
        tmp_path / "features" / "other.py", "def inner():\n    import of_inner\ndef unused():\n    import unused_one\n"
    )
    write(tmp_path / "root" / "helpers" / "deep.py", "def call():\n    import of_call\n")
    flow = read(tmp_path, IMPORTS, tmp_path / "root")
    found = {step.name: {item.module for item in step.inferred} for step in flow.steps}
    everywhere = {"everywhere", "of_package", "firm"}
    assert found["start"] == everywhere | {"pandas", "numpy.linalg", "in_method", "in_function"}
    assert found["train"] == everywhere | {"sklearn.linear_model", "of_more", "of_inner", "of_call", "in_class"}
    assert found["end"] == everywhere
    places = {item.module: (item.file, item.line) for item in flow.step("train").inferred}
    assert places["sklearn.linear_model"] == ("flow.py", 41)
    assert places["of_inner"] == ("features/other.py", 2)
    assert places["of_call"] == ("helpers/deep.py", 2)


def test_the_front_prints_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "flow.py",
        """
        from metaflow import FlowSpec, pypi, step
        class F(FlowSpec):
            @pypi(packages={"scikit_learn": "1.9.1"}, python="3.14")
            @step
            def start(self):
                import sklearn
        """,
    )
    assert cli.main(["--flow", str(path), "--read", "static", "--python", "3.14"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "name": "F",
        "source": "flow.py",
        "reading": {"way": "static", "reason": "nothing needs running"},
        "steps": [
            {
                "name": "start",
                "type": "end",
                "next": [],
                "file": "flow.py",
                "line": 6,
                "decorators": ["pypi"],
                "environment": "start",
                "disabled": False,
                "python": "3.14",
                "base": "default",
                "platform": None,
                "cpu": None,
                "memory": None,
                "gpu": None,
                "declared": [
                    {
                        "name": "scikit-learn",
                        "specifier": "==1.9.1",
                        "decorator": "pypi",
                        "file": "flow.py",
                        "line": 4,
                    }
                ],
                "inferred": [{"module": "sklearn", "members": [], "file": "flow.py", "line": 7}],
                "remote": [],
                "requirements_sha256": requirements_sha256("3.14", {"scikit-learn": "1.9.1"}),
            }
        ],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class F(:\n    pass\n", "flow.py:1:9: the file does not parse: invalid syntax"),
        ("x = '\0'", "does not parse: "),
        ("x = 1\n", "flow.py: there is no flow: no class in this file derives from metaflow.FlowSpec"),
        (
            HEAD + "class A(FlowSpec): pass\nclass B(FlowSpec): pass\n",
            "flow.py: there are 2 flows, 'A' (line 2) and 'B' (line 3): move all but one",
        ),
        (HEAD + "class A(FlowSpec): pass\n", "flow.py:2: flow 'A' has no steps"),
        (HEAD + "if x:\n    class A(FlowSpec): pass\n", "flow.py:3: flow 'A' is defined under a condition"),
        (
            HEAD + "from lib import Base\nclass A(Base, FlowSpec): pass\n",
            "flow.py:3: the base class `Base` is not found",
        ),
    ],
)
def test_a_file_without_exactly_one_flow_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnalyzeError, match=r"none\.py: cannot read the file: No such file"):
        read_flow(tmp_path / "none.py")


STEPS = (
    HEAD + "class F(FlowSpec):\n    @step\n    def start(self):\n        {start}\n    @step\n    def end(self): pass\n"
)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("self.next(self.ende)", "flow.py:5: step 'start' goes on to 'ende', which is not a step: did you mean 'end'?"),
        ("pass", "flow.py:5: step 'start' does not end with `self.next(…)`"),
        ("self.next(getattr(self, 'end'))", "step 'start': the transition `getattr(self, 'end')` cannot be read"),
        ("self.next(self.end, whatever=1)", "the transition `self.next(self.end, whatever=1)` cannot be read"),
        ("self.next(TABLE, condition='x')", "the transition `self.next(TABLE, condition='x')` cannot be read"),
        ("self.next(self.start)", "flow.py:7: step 'end' is not reachable from 'start'"),
    ],
)  # fmt: skip
def test_a_transition_that_leads_nowhere_is_refused(tmp_path: Path, start: str, message: str) -> None:
    assert message in refused(tmp_path, STEPS.replace("{start}", start))


def test_a_flow_without_a_start_is_refused(tmp_path: Path) -> None:
    text = HEAD + "class F(FlowSpec):\n    @step\n    def a(self): pass\n    @step\n    def end(self): pass\n"
    assert "flow 'F' has no step 'start'" in refused(tmp_path, text)


DECORATORS = [
    ("@pypi(packages=load())", "", "flow.py:4: `packages` of @pypi is a call, `load()`, whose value cannot be known"),
    ("@pypi(packages=lambda: {})", "", "`packages` of @pypi is a function"),
    ("@pypi(packages=config_expr('cfg.x'))", "", "`packages` of @pypi is a `config_expr`, `config_expr('cfg.x')`"),
    ("@pypi(packages={'a': version})", "", "`packages` of @pypi is a name, `version`"),
    ("@pypi(packages={**cfg})", "", "`packages` of @pypi is a name, `cfg`"),
    ("@pypi(**cfg)", "", "`**` of @pypi is a name, `cfg`"),
    ("@kubernetes(**cfg)", "", "`**` of @kubernetes is a name, `cfg`"),
    ("@pypi(packages={'a': 2.2})", "", 'flow.py:4: @pypi: the version of "a" is 2.2, not text: write "2.2"'),
    ("@pypi(packages={'a': 'x y'})", "", 'flow.py:4: @pypi: "a": "x y" is not a requirement'),
    ("@pypi(packages={1: '2'})", "", "the key 1 is not text"),
    ("@pypi({'a': '1'})", "", "flow.py:4: @pypi takes keyword arguments only"),
    ("@pypi(package={'a': '1'})", "", "@pypi has no attribute `package`; it has disabled, packages, python"),
    ("@pypi(python=3.9)", "", '@pypi: `python` is 3.9, not text: write "3.9"'),
    ("@pypi(packages=P)", "P = {}\nP = {'a': '1'}", "`P`, that is assigned more than once or under a condit"),
    ("@pypi(packages=P)", "P = {}\nP['a'] = '1'", "`P`, that is changed after it was assigned (flow.py:3)"),
    ("@pypi(packages=P)", "if x:\n    P = {}", "`P`, that is assigned more than once or under a condit"),
    ("@pypi(packages=P)", "P = {**Q}\nQ = P", "flow.py:2: `packages` of @pypi is a name, `Q`"),
    ("@pypi\n@pypi", "", "flow.py:5: step 'start' has @pypi twice (also in line 4)"),
    ("@pypi(packages={'a': '1'})\n@conda(packages={'b': '1'})", "", "step 'start': it has packages from both"),
    ("@resources(gpu=many())", "", "`gpu` of @resources is a call"),
    ("@resources(gpu='x')", "", "@resources: `gpu` is 'x', not a number"),
    ("@mystery", "", "flow.py:4: step 'start': the decorator `@mystery` is unknown and could change the packages"),
    ("@ours.gpu", "import ours", "flow.py:4: step 'start': the decorator `@ours.gpu` is unknown"),
    ("@wrap", "def wrap(f): return f", "step 'start': the decorator `@wrap` is unknown"),
    ("@M", "class M(StepMutator): pass", "flow.py:4: step 'start': @M is a StepMutator, which changes decorators"),
]  # fmt: skip


@pytest.mark.parametrize(("decorators", "head", "message"), DECORATORS)
def test_what_cannot_be_read_is_refused_with_place_and_construct(
    tmp_path: Path, decorators: str, head: str, message: str
) -> None:
    with pytest.raises(AnalyzeError) as error:
        single(tmp_path, decorators, head=head or "pass")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class M(FlowMutator): pass\n@M\nclass F(FlowSpec):\n    @step\n    def start(self): pass\n",
            "flow.py:3: flow 'F': @M is a FlowMutator",
        ),
        (
            "class F(FlowSpec):\n    if x:\n        @step\n        def start(self): pass\n",
            "flow.py:5: flow 'F': step 'start' is defined under `if`",
        ),
        (
            "@pypi_base\nclass B(FlowSpec): pass\n@pypi_base\nclass F(B):\n    @step\n    def start(self): pass\n",
            "flow.py:4: @pypi_base stands on flow 'F' and on its base (flow.py:2)",
        ),
    ],
)
def test_flow_level_constructs_that_decide_at_run_time_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, HEAD + text)


def test_nothing_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    write(tmp_path / "evil.py", f"open({str(marker)!r}, 'w')\n")
    single(tmp_path, "", head=f"import evil\nopen({str(marker)!r}, 'w')")
    assert not marker.exists()
