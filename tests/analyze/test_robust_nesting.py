"""Code that is nested as deeply as a file allows: read where Python reads it, refused with a place otherwise.

How deep Python itself goes differs with its version: 3.11 refuses to build trees of some thousand levels, 3.14 builds
them. So most tests ask for one of two outcomes, the right flow or an error that names the file; none may take long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, ReadOptions, read_flow

STATIC = ReadOptions(reading="static")
SECONDS = 20.0
"""Of processor time for one file; most take less than a tenth of one."""

FLOW = """from metaflow import FlowSpec, step, pypi

{top}

class F(FlowSpec):
    @pypi(packages={{"pandas": {version}}})
    @step
    def start(self):
{body}
        self.next(self.end)

    @step
    def end(self):
        pass
"""

EXPRESSIONS: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: "(" * n + "1" + ")" * n,
    "tuples": lambda n: "(" * n + "1" + ",)" * n,
    "lists": lambda n: "[" * n + "1" + "]" * n,
    "sets and dictionaries": lambda n: "{1:" * n + "1" + "}" * n,
    "unary operators": lambda n: "-" * n + "1",
    "negations": lambda n: "not " * n + "1",
    "attributes": lambda n: "x" + ".a" * n,
    "calls": lambda n: "x" + "()" * n,
    "methods": lambda n: "x" + ".a()" * n,
    "arguments": lambda n: "f(" * n + "1" + ")" * n,
    "subscripts": lambda n: "x" + "[0]" * n,
    "indexes": lambda n: "x[" * n + "0" + "]" * n,
    "strings side by side": lambda n: "'a' " * n,
    "strings in an f-string": lambda n: "f'" + "{x}" * n + "'",
    "format specifications": lambda n: "f'{x:" + "{y}" * n + "}'",
    "sums": lambda n: "+".join(["1"] * n),
    "sums of strings": lambda n: "+".join(["'a'"] * n),
    "powers": lambda n: "**".join(["1"] * n),
    "unions of dictionaries": lambda n: "|".join(["{}"] * n),
    "comparisons": lambda n: "<".join(["1"] * n),
    "conjunctions": lambda n: " and ".join(["x"] * n),
    "conditional expressions": lambda n: "1 if x else " * n + "1",
    "functions": lambda n: "lambda: " * n + "1",
    "comprehensions": lambda n: "[" * n + "x" + " for x in y]" * n,
    "loops of one comprehension": lambda n: "[x" + " for x in y" * n + "]",
    "stars": lambda n: "[" + "*[" * n + "]" * n + "]",
    "assignments in expressions": lambda n: "(" + "(x := " * n + "1" + ")" * n + ")",
}
STATEMENTS: dict[str, Callable[[int], str]] = {
    "if": lambda n: _nested("if x:", n),
    "elif": lambda n: "if x:\n    pass\n" + "elif x:\n    pass\n" * n,
    "else": lambda n: (
        "".join(f"{' ' * level}if x: pass\n{' ' * level}else:\n" for level in range(n)) + " " * n + "pass"
    ),
    "for": lambda n: _nested("for x in y:", n),
    "while": lambda n: _nested("while x:", n),
    "with": lambda n: _nested("with x:", n),
    "try": lambda n: "".join(f"{' ' * level}try:\n" for level in range(n)) + " " * n + "pass\n" + _handlers(n),
    "match": lambda n: (
        "".join(f"{' ' * 2 * i}match x:\n{' ' * (2 * i + 1)}case 1:\n" for i in range(n)) + "  " * n + "pass"
    ),
    "classes": lambda n: _nested("class X:", n),
    "functions": lambda n: _nested("def f():", n),
    "decorators": lambda n: "@x\n" * n + "def f(): pass",
    "decorators of a class": lambda n: "@x\n" * n + "class X: pass",
    "bases": lambda n: f"class X({', '.join(['object'] * n)}): pass",
    "targets": lambda n: "x = " * n + "1",
    "patterns": lambda n: "match x:\n    case " + "[" * n + "]" * n + ": pass",
    "alternatives": lambda n: "match x:\n    case " + "|".join(["1"] * n) + ": pass",
    "annotations": lambda n: "x: " + "a[" * n + "1" + "]" * n + " = 1",
    "deletions": lambda n: "del " + "(" * n + "x" + ")" * n,
    "statements on a line": lambda n: "x = 1;" * n,
    "imports": lambda n: "import " + ".".join(["a"] * n),
    "relative imports": lambda n: f"from {'.' * n} import a",
    "names of an import": lambda n: f"from a import {', '.join(['b'] * n)}",
    "parameters": lambda n: f"def f({', '.join(f'a{number}' for number in range(n))}): pass",
    "global names": lambda n: f"def f():\n    global {', '.join(['x'] * n)}",
    "backslashes": lambda n: "x = 1" + " \\\n" * n,
    "brackets over lines": lambda n: "x = [\n" * min(n, 1) + "1,\n" * n + "]",
}
DEPTHS = (99, 180, 950, 5_000, 50_000)


def _nested(head: str, levels: int) -> str:
    return "".join(f"{' ' * level}{head}\n" for level in range(levels)) + " " * levels + "pass"


def _handlers(levels: int) -> str:
    return "".join(f"{' ' * level}except E: pass\n" for level in reversed(range(levels)))


def read(tmp_path: Path, top: str = "", body: str = "pass", version: str = '"3.1.0"') -> FlowSpec:
    """Return the flow with ``top`` before the class, ``body`` in the first step and this ``version`` of pandas."""
    file = tmp_path / "flow.py"
    inner = "\n".join(f"        {line}" for line in body.split("\n"))
    file.write_text(FLOW.format(top=top, body=inner, version=version))
    return read_flow(file, [], STATIC)


def outcome(tmp_path: Path, top: str = "", body: str = "pass", version: str = '"3.1.0"') -> str:
    """Return the requirement of the first step, or the refusal."""
    started = time.process_time()
    try:
        return read(tmp_path, top, body, version).step("start").declared[0].requirement
    except AnalyzeError as error:
        return str(error)
    finally:
        assert time.process_time() - started < SECONDS


def expected(shown: str) -> bool:
    return shown == "pandas==3.1.0" or shown.startswith("flow.py:")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_an_expression_of_any_depth_is_read_or_refused(tmp_path: Path, kind: str, depth: int) -> None:
    expression = EXPRESSIONS[kind](depth)
    assert expected(outcome(tmp_path, top=f"x = {expression}", body=f"self.call({expression})"))
    shown = outcome(tmp_path, version=expression)
    assert shown.startswith(("flow.py:", "pandas=="))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", STATEMENTS)
def test_statements_of_any_depth_are_read_or_refused(tmp_path: Path, kind: str, depth: int) -> None:
    if depth > 1_500 and "\n " in STATEMENTS[kind](3):
        depth = 1_500  # more would be a large file only: the parser refuses a hundredth of it
    statements = STATEMENTS[kind](depth)
    assert expected(outcome(tmp_path, top=statements))
    if depth < DEPTHS[-1]:
        assert expected(outcome(tmp_path, body=statements))


@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_forty_levels_are_no_reason_to_refuse_a_flow(tmp_path: Path, kind: str) -> None:
    expression = EXPRESSIONS[kind](40)
    assert outcome(tmp_path, top=f"x = {expression}", body=f"x = {expression}") == "pandas==3.1.0"


@pytest.mark.parametrize("kind", STATEMENTS)
def test_forty_statements_in_each_other_are_no_reason_to_refuse_a_flow(tmp_path: Path, kind: str) -> None:
    statements = STATEMENTS[kind](10 if kind == "try" else 40)
    assert outcome(tmp_path, top=statements) == "pandas==3.1.0"


@pytest.mark.parametrize(
    "expression",
    ["+".join(["x"] * 800), "x" + ".a()" * 800, "x" + "[0]" * 800, "'a' " * 50_000, "1 if x else " * 400 + "1"],
)
def test_long_expressions_that_metaflow_takes_are_read(tmp_path: Path, expression: str) -> None:
    """Their trees are deeper than a recursive reader gets on Python's own limit of a thousand calls."""
    assert outcome(tmp_path, top=f"x = 1\ny = {expression}", body=f"y = {expression}") == "pandas==3.1.0"


def test_a_chain_of_a_thousand_elif_is_read(tmp_path: Path) -> None:
    chain = STATEMENTS["elif"](1_000)
    assert outcome(tmp_path, top=f"x = 1\n{chain}") == "pandas==3.1.0"
    assert outcome(tmp_path, body=chain) == "pandas==3.1.0"


def test_the_line_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    shown = outcome(tmp_path, top=f"a = 1\nx = {'-' * 50_000}1\nb = 1\n")
    assert shown.startswith("flow.py:4:1: the code is nested too deeply for Python")
    assert "split the expression" in shown


def test_a_version_that_is_nested_too_deeply_is_refused_with_its_line(tmp_path: Path) -> None:
    shown = outcome(tmp_path, version='"1" + ' * 2_000 + '"2"')
    assert shown.startswith("flow.py:6") or shown.startswith("pandas==111")


def test_many_flat_constants_are_read_in_linear_time(tmp_path: Path) -> None:
    top = "".join(f"V{number} = V{number - 1} if {number} else 0\n" for number in range(1, 20_000))
    assert outcome(tmp_path, top=top) == "pandas==3.1.0"


def test_constants_that_double_each_other_take_no_exponential_time(tmp_path: Path) -> None:
    top = "V0 = '1'\n" + "".join(f"V{number} = V{number - 1} + V{number - 1}\n" for number in range(1, 60))
    shown = outcome(tmp_path, top=top, version="V59")
    assert shown.startswith("flow.py:")


def test_dictionaries_that_hold_each_other_twice_take_no_exponential_time(tmp_path: Path) -> None:
    top = "D0 = {'a': '1'}\n" + "".join(f"D{n} = {{**D{n - 1}, **D{n - 1}}}\n" for n in range(1, 60))
    shown = outcome(tmp_path, top=top, version="D59['a']")
    assert shown.startswith(("flow.py:", "pandas==1"))


def test_functions_that_call_each_other_are_followed_once(tmp_path: Path) -> None:
    top = "".join(f"def f{n}():\n    f{n + 1}()\n    f{n + 1}()\n    f{n - 1}()\n" for n in range(1, 300))
    assert outcome(tmp_path, top=top, body="f1()") == "pandas==3.1.0"


def test_a_long_chain_of_functions_is_followed_or_refused(tmp_path: Path) -> None:
    top = "".join(f"def f{n}():\n    f{n + 1}()\n" for n in range(1, 5_000))
    assert outcome(tmp_path, top=top, body="f1()") == "pandas==3.1.0"


def test_a_long_line_of_base_classes_is_followed_or_refused(tmp_path: Path) -> None:
    top = "class B0: pass\n" + "".join(f"class B{n}(B{n - 1}): pass\n" for n in range(1, 2_000))
    file = tmp_path / "flow.py"
    file.write_text(
        FLOW.format(top=top, body="        pass", version='"1"').replace("F(FlowSpec)", "F(B1999, FlowSpec)")
    )
    try:
        assert read_flow(file, [], STATIC).name == "F"
    except AnalyzeError as error:
        assert str(error).startswith("flow.py")


def test_classes_with_many_shared_bases_take_no_exponential_time(tmp_path: Path) -> None:
    top = "class B0(FlowSpec): pass\nclass C0(FlowSpec): pass\n" + "".join(
        f"class B{n}(B{n - 1}, C{n - 1}): pass\nclass C{n}(B{n - 1}, C{n - 1}): pass\n" for n in range(1, 40)
    )
    file = tmp_path / "flow.py"
    file.write_text(FLOW.format(top=top, body="        pass", version='"1"').replace("F(FlowSpec)", "F(B39)"))
    started = time.process_time()
    with pytest.raises(AnalyzeError, match=r"^flow\.py"):
        read_flow(file, [], STATIC)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("count", [60, 400, 2_000])
def test_flows_of_many_steps_are_read(tmp_path: Path, count: int) -> None:
    steps = "".join(
        f"    @step\n    def s{n}(self):\n        self.next(self.{f's{n + 1}' if n < count else 'end'})\n\n"
        for n in range(1, count + 1)
    )
    text = FLOW.format(top="", body="        pass", version='"1"').replace("self.next(self.end)", "self.next(self.s1)")
    (tmp_path / "flow.py").write_text(text.replace("    @step\n    def end", steps + "    @step\n    def end"))
    started = time.process_time()
    assert len(read_flow(tmp_path / "flow.py", [], STATIC).steps) == count + 2
    assert time.process_time() - started < SECONDS
