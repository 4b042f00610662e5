"""What the static reader knows of names, constants, classes and hardware, and what it leaves to running."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, NeedsRunningError, ReadOptions, Requests, read_flow

BELOW = "    @step\n    @deco\n    def start(self): pass\n"
STEP = "    @step\n    def start(self): pass\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def read(tmp_path: Path, text: str, **files: str) -> FlowSpec:
    for name, content in files.items():
        write(tmp_path / f"{name}.py", content)
    return read_flow(write(tmp_path / "flow.py", text), (), ReadOptions("static"))


def flow(decorators: str, head: str = "", base: str = "FlowSpec", body: str = "") -> str:
    """Return the text of a flow of one step with ``decorators``."""
    lines = [f"    {line}" for line in [*body.splitlines(), *decorators.splitlines()]]
    return "\n".join(["from metaflow import *", *head.splitlines(), f"class F({base}):", *lines, STEP])


def packages(found: FlowSpec, step: str = "start") -> list[str]:
    return [item.requirement for item in found.step(step).declared]


PYPI = "@pypi(packages={'a': '1'})"


@pytest.mark.parametrize(
    "text",
    [
        "import common\nfrom common import *\nclass F(FlowSpec):\n    @pip(packages=common.A)",
        "import common as c\nclass F(c.FlowSpec):\n    @c.pip(packages={'a': c.V})\n    @c.mf.retry",
        "from common import mf\nfrom metaflow import step\nclass F(mf.FlowSpec):\n    @mf.pypi(packages={'a': '1'})",
        "from metaflow import *\np = pypi\nclass F(FlowSpec):\n    @p(packages={'a': '1'})",
        "from metaflow import *\nours = pypi(packages={'a': '1'})\nclass F(FlowSpec):\n    @ours",
        "from metaflow import *\nfrom common import one\nclass F(FlowSpec):\n    @one",
        "from metaflow import *\nclass F(FlowSpec):\n    A = {'a': '1'}\n    @pypi(packages=A)",
        "from metaflow import *\nA = {'a': '9'}\nclass F(FlowSpec):\n    A = {'a': '1'}\n    @pypi(packages=A)",
        "from metaflow import *\nclass P:\n    A = {'a': '1'}\nclass F(FlowSpec):\n    @pypi(packages=P.A)",
        "from metaflow import *\nfrom common import Pins\nclass F(FlowSpec):\n    @pypi(packages=Pins.A)",
        "from metaflow import *\nV = 1\nclass F(FlowSpec):\n    @pypi(packages={'a': f'{V}'})",
        "from metaflow import *\nA = dict(a='0')\nclass F(FlowSpec):\n    @pypi(packages=dict(A, **{'a': '1'}))",
        "from metaflow import *\nA = {'packages': {'a': '1'}}\nclass F(FlowSpec):\n    @pypi(**A)",
        "from metaflow import *\nA = [{'b': '2'}, {'a': '1'}]\nclass F(FlowSpec):\n    @pypi(packages=A[-1])",
        "from metaflow import *\nA = {'a': '1'}\nprint(len(A))\nclass F(FlowSpec):\n    @conda(packages=A)",
        "from metaflow import *\nclass F(FlowSpec):\n    c = Config('c')\n    @pypi(packages={'a': '1'})",
        "from metaflow import *\nclass F(FlowSpec):\n    @retry(times=config_expr('c'))\n    @conda(packages={'a': 1})",
        "from metaflow import *\n@project(name=config_expr('c'))\nclass F(FlowSpec):\n    @pypi(packages={'a': '1'})",
    ],
)
def test_names_mean_what_they_mean_in_python(tmp_path: Path, text: str) -> None:
    common = """
        import metaflow as mf
        from metaflow import FlowSpec, pypi as pip, pypi, step
        V = "1"
        A = {"a": V}
        one = pypi(packages=A)
        class Pins:
            A = {"a": "1"}
        """
    prefix = "" if "import *" in text or "import step" in text else "from metaflow import step\n"
    found = read(tmp_path, f"{prefix}{text}\n{STEP}", common=common)
    assert packages(found) == ["a==1"]


@pytest.mark.parametrize(
    ("decorators", "head", "construct"),
    [
        ("@pypi(packages=cfg.p)", "", "`packages` of @pypi in line 4 is an attribute, `cfg.p`"),
        (
            "@pypi(packages=c.p)",
            "c = Config('c')",
            "`packages` of @pypi in line 4 is the `Config` of line 2, `c.p`",
        ),
        ("@pypi(**c)", "c = Config('c')", "`**` of @pypi in line 4 is the `Config` of line 2, `c`"),
        (
            "@pypi(packages=config_expr('c.p'))",
            "",
            "`packages` of @pypi in line 4 is a `config_expr`, `config_expr('c.p')`",
        ),
        ("@kubernetes(image=tag())", "", "`image` of @kubernetes in line 4 is a call, `tag()`"),
        ("@resources(memory=size)", "", "`memory` of @resources in line 4 is a name, `size`"),
        ("@kubernetes(node_selector=where())", "", "`node_selector` of @kubernetes in line 4 is a call, `where()`"),
        ("@M", "class B(StepMutator): pass\nclass M(B): pass", "the StepMutator @M in line 5"),
        ("@M(1)", "class M(StepMutator, UserStepDecorator): pass", "the StepMutator @M in line 4"),
        ("@ours.gpu(1)", "import ours", "the decorator @ours.gpu in line 4"),
        ("@resources(gpus=1)", "", "`gpus` of @resources in line 4"),
        ("@retry(*n)", "", "`*` of @retry in line 4"),
        ("@pypi(packages=A)", "A = {}\nA.update(b='1')", "changed after it was assigned (flow.py:3)"),
        ("@pypi(packages=A)", "A = {}\nB = A\nB['b'] = '1'", "changed after it was assigned (flow.py:4)"),
        ("@pypi(packages=A)", "A = {}\ndef f(): A.clear()", "changed after it was assigned (flow.py:3)"),
        ("@pypi(packages=A)", "A = {}\nfill(A)", "changed after it was assigned (flow.py:3)"),
        ("@pypi(packages=A)", "for A in []: pass", "assigned more than once or under a condition"),
        ("@pypi(packages=A)", "A = {}\nglobals()['A'] = 1", "names that are rewritten in line 3"),
        (PYPI, "globals()['x'] = 1", "names that are rewritten in line 2"),
        (PYPI, "class B(FlowSpec, metaclass=M): pass", ""),
    ],
)
def test_what_only_running_can_tell_is_named(tmp_path: Path, decorators: str, head: str, construct: str) -> None:
    text = flow(decorators, head or "pass")
    if not construct:
        text, construct = text.replace("class F(FlowSpec)", "class F(B)"), "`metaclass=` of the class B in line 2"
    with pytest.raises(NeedsRunningError) as error:
        read(tmp_path, text)
    assert construct in error.value.construct
    assert str(error.value).startswith("flow.py:")


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        (
            "if x:\n    class F(FlowSpec):\n        @step\n        def start(self): pass\n",
            "the class F under a condition",
        ),
        (f"from lib import Base\nclass F(Base):\n{STEP}", "the base class Base in line 3"),
        (f"class F(make()):\n{STEP}", "the base class make() in line 2"),
        (f"class F(FlowSpec):\n{STEP}F = pypi_base(F)\n", "another meaning of the class F of line 2"),
        (f"class F(FlowSpec):\n{STEP}F.start = retry(F.start)\n", "what is done with the class in line 5"),
        (f"class F(FlowSpec):\n{STEP}setattr(F, 'x', 1)\n", "what is done with the class in line 5"),
        (
            f"class F(FlowSpec):\n    if x:\n        @step\n        def end(self): pass\n{STEP}",
            "the step end under `if`",
        ),
        (f"class F(FlowSpec):\n    end = step(lambda self: 1)\n{STEP}", "a step made by an assignment in line 3"),
        (
            f"def make():\n    return step(f)\nclass F(FlowSpec):\n    end = make()\n{STEP}",
            "a step made by an assignment",
        ),
        (f"class F(FlowSpec):\n    def __init_subclass__(cls): pass\n{STEP}", "`__init_subclass__` of the class F"),
        (
            f"def deco(f):\n    def inner(self): f(self)\n    return inner\nclass F(FlowSpec):\n{BELOW}",
            "the decorator @deco in",
        ),
    ],
)
def test_classes_that_only_running_can_tell_are_named(tmp_path: Path, text: str, construct: str) -> None:
    with pytest.raises(NeedsRunningError) as error:
        read(tmp_path, f"from metaflow import *\n{text}")
    assert construct in error.value.construct


def test_a_file_with_several_flows_is_read_as_the_one_that_it_starts(tmp_path: Path) -> None:
    classes = f"from metaflow import *\nclass A(FlowSpec):\n{STEP}class B(A): pass\nclass C(FlowSpec):\n{STEP}"
    guard = 'if __name__ == "__main__":\n    '
    assert read(tmp_path, f"{classes}{guard}A()\n").name == "A"
    assert read(tmp_path, f"{classes}def main():\n    B()\n{guard}main()\n").name == "B"
    with pytest.raises(AnalyzeError, match=r"there are 2 flows, 'B' .* and 'C' .* or start one with"):
        read(tmp_path, classes)


def test_steps_come_from_other_classes_by_assignment_and_go(tmp_path: Path) -> None:
    text = """
        from metaflow import *
        class Other:
            @pypi(packages={"a": "1"})
            @step
            def last(self): pass
        class Base(FlowSpec):
            @step
            def start(self):
                self.next(self.end)
            @step
            def gone(self): pass
        class F(Base):
            end = Other.last
            gone = None
        """
    found = read(tmp_path, text)
    assert [(step.name, step.line) for step in found.steps] == [("start", 9), ("end", 6)]
    assert packages(found, "end") == ["a==1"]


def test_decorators_of_the_flow_are_inherited_from_every_base(tmp_path: Path) -> None:
    text = """
        from metaflow import *
        @pypi_base(packages={"a": "1"}, python="3.12")
        class A(FlowSpec): pass
        @exit_hook
        class B(FlowSpec): pass
        @exit_hook
        class F(A, B):
            @pypi(packages={"b": "2"}, disabled=False)
            @step
            def start(self): pass
        """
    found = read(tmp_path, text)
    assert (packages(found), found.steps[0].python, found.steps[0].disabled) == (["a==1", "b==2"], "3.12", False)
    with pytest.raises(AnalyzeError, match=r"@pypi_base stands on flow 'F' and on its base \(flow.py:3\)"):
        read(tmp_path, text.replace("@exit_hook\n        class F", "@pypi_base\n        class F"))


@pytest.mark.parametrize(
    ("decorators", "expected"),
    [
        ("@resources(cpu=2, memory=4096, gpu=1)", Requests(2.0, 4096, 1)),
        ("@resources(cpu='1.5', memory='2048')\n@batch(cpu=1, memory=3000, gpu='2')", Requests(1.5, 3000, 2)),
        ("@resources\n@kubernetes\n@batch", Requests()),
        ("@kubernetes(gpu=0, cpu=None, memory='')", Requests()),
        ("@kubernetes(**{'memory': 2 * 1024, 'image': 'x'})", Requests(memory=2048)),
        ("@resources(memory=16 * GB // 2)", Requests(memory=8192)),
    ],
)
def test_requests_are_the_largest_of_what_is_declared(tmp_path: Path, decorators: str, expected: Requests) -> None:
    assert read(tmp_path, flow(decorators, "GB = 1024")).steps[0].requests == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("{'kubernetes.io/arch': 'arm64'}", "linux/arm64"),
        ("'disk=ssd,kubernetes.io/arch=amd64'", "linux/amd64"),
        ("{'disk': 'ssd'}", None),
        ("None", None),
    ],
)
def test_the_platform_is_that_of_the_node_selector(tmp_path: Path, selector: str, expected: str | None) -> None:
    assert read(tmp_path, flow(f"@kubernetes(node_selector={selector})")).steps[0].platform == expected


@pytest.mark.parametrize(
    ("image", "expected"), [("'a/b:1'", "a/b:1"), ("f'a/b:{V}'", "a/b:1"), ("None", None), ("''", None)]
)
def test_an_image_is_its_value(tmp_path: Path, image: str, expected: str | None) -> None:
    assert read(tmp_path, flow(f"@batch(image={image})", "V = 1")).steps[0].remote[0].image == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("True", True),
        ("'true'", True),
        ("1", True),
        ("'yes'", True),
        ("False", False),
        ("'False'", False),
        ("None", False),
    ],
)
def test_disabled_is_what_metaflow_takes_for_it(tmp_path: Path, value: str, *, expected: bool) -> None:
    assert read(tmp_path, flow(f"@conda(packages={{'a': '1'}}, disabled={value})")).steps[0].disabled is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            flow("@pypi_base"),
            "flow.py:3: step 'start' has @pypi_base, which Metaflow takes on the class of the flow only",
        ),
        (
            flow(PYPI).replace("class F", "@pypi\nclass F"),
            "flow.py:2: flow 'F' has @pypi, which Metaflow takes on a step",
        ),
        (
            flow("@step").replace("    @step\n    def", "    @retry\n    def"),
            "@retry stands below @step on step 'start'",
        ),
        (flow("@retry").replace("    @step\n", ""), "flow.py:3: @retry stands on 'start', which is no step"),
        (flow("@retry\n@retry"), "flow.py:4: step 'start' has @retry twice (also in line 3)"),
        (flow("@retry(3)"), "flow.py:3: @retry takes keyword arguments only"),
        (flow("@pypi(packages=['a'])"), "flow.py:3: `packages` of @pypi is ['a'], not a dict"),
        (flow("@pypi(packages=None)"), "flow.py:3: `packages` of @pypi is None, not a dict"),
        (flow("@pypi(packages={'a': None})"), 'flow.py:3: @pypi: the version of "a" is None, not text'),
        (flow("@batch(image=3)"), "flow.py:3: `image` of @batch is 3, not text"),
        (flow("@resources(gpu=0.5)"), "flow.py:3: @resources: `gpu` is 0.5, not a whole number: write `gpu=1`"),
        (flow("@resources(memory='4Gi')"), "flow.py:3: @resources: `memory` is '4Gi', not a number"),
        (flow("@resources(cpu=1e999)"), "flow.py:3: @resources: `cpu` is inf, not a number"),
        (
            flow("@kubernetes(node_selector=[1])"),
            "flow.py:3: @kubernetes: `node_selector` is [1], neither a dict nor text",
        ),
        (
            flow("", "@project(name='x')\nclass M: pass", "M, FlowSpec"),
            "flow.py:2: @project stands on 'M', which is no FlowSpec",
        ),
    ],
)
def test_what_metaflow_refuses_is_an_error_not_a_reason_to_run(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert not isinstance(error.value, NeedsRunningError)


def test_cards_may_be_repeated_and_the_names_of_decorators_are_listed_once(tmp_path: Path) -> None:
    found = read(tmp_path, flow("@card\n@card(type='html')\n@timeout(hours=1)\n@retry"))
    assert found.steps[0].decorators == ("card", "retry", "timeout")


def test_numbers_are_versions_for_conda_only(tmp_path: Path) -> None:
    assert packages(read(tmp_path, flow("@conda(libraries={'a': 1.5, 'b': 2})"))) == ["a==1.5", "b==2"]
    with pytest.raises(AnalyzeError, match=r'the version of "a" is 1\.5, not text: write "1.5"'):
        read(tmp_path, flow("@pypi(packages={'a': 1.5})"))


GRAPH = """
    from metaflow import *
    class F(FlowSpec):
        @step
        def start(self):
            {start}
        @step
        def a(self):
            {a}
        @step
        def b(self, {arguments}):
            {b}
        @step
        def end(self): {end}
    """


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": "self.next(self.a)"}, "step 'end' is the last one: remove its `self.next"),
        ({"a": "self.next(self.end)"}, "step 'b' is not reachable from 'start'"),
        (
            {"start": "self.next(self.a, self.b)", "a": "self.next(self.start)", "arguments": ""},
            "step 'a' leads back to 'start': Metaflow allows no circle",
        ),
        (
            {"start": "self.next(self.a)"},
            "step 'b' is a join (it takes a second argument), but nothing branches before",
        ),
        ({"arguments": ""}, "step 'end' is reached before the branches of step 'start' are joined"),
        ({"arguments": "x, y"}, "step 'b' has 3 arguments"),
        ({"start": "self.next(self.b, foreach='x')", "a": "self.next(self.b)"}, "step 'a' is not reachable"),
        ({"start": "if x:\n                self.next(self.a)"}, "step 'start' does not end with `self.next(…)`"),
        ({"start": 'self.next(self.a, foreach="x")\n            "text"'}, "does not end with `self.next(…)`"),
        ({"start": "self.next({'x': self.a}, condition='c')"}, "switches between fewer than two cases"),
        ({"start": "self.next({'x': self.a, K: self.b}, condition='c')"}, "cannot be read"),
        ({"start": "self.next({'x': self.a, 'y': self.b}, condition=C)"}, "cannot be read"),
        ({"start": "self.next(self.a, num_parallel=2)"}, "step 'a' runs in parallel (`num_parallel` in step 'start')"),
        ({"b": "self.next(self.end, self.a)"}, "step 'b' is a join (it takes a second argument) and branches, too"),
    ],
)
def test_a_graph_that_metaflow_refuses_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    right = {
        "start": "self.next(self.a, foreach='x')",
        "a": "self.next(self.b)",
        "arguments": "others",
        "b": "self.next(self.end)",
        "end": "pass",
    }
    text = GRAPH
    for key, value in {**right, **change}.items():
        text = text.replace(f"{{{key}}}", value)
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


def test_a_join_may_name_its_inputs_as_it_likes_and_a_switch_may_return_to_itself(tmp_path: Path) -> None:
    text = GRAPH.replace("{start}", "self.next(self.a, foreach=NAME)").replace("{arguments}", "whatever")
    text = text.replace("{a}", "self.next(self.b)").replace("{end}", "pass")
    found = read(tmp_path, text.replace("{b}", "self.next(self.end)"))
    assert [(step.name, step.type) for step in found.steps] == [
        ("start", "foreach"),
        ("a", "linear"),
        ("b", "join"),
        ("end", "end"),
    ]


@pytest.mark.parametrize("name", ["next", "Upper", "_hidden", "ünder"])
def test_names_of_steps_are_those_that_metaflow_takes(tmp_path: Path, name: str) -> None:
    text = f"from metaflow import *\nclass F(FlowSpec):\n    @step\n    def {name}(self): pass\n"
    with pytest.raises(AnalyzeError, match=f"{name}"):
        read(tmp_path, text)


def test_values_that_double_end_in_an_error(tmp_path: Path) -> None:
    lines = ["V0 = ['1', '1']", *(f"V{index} = [V{index - 1}, V{index - 1}]" for index in range(1, 60))]
    with pytest.raises(AnalyzeError):
        read(tmp_path, flow("@pypi(packages={'a': '1'}, python=V59)", "\n".join(lines)))
