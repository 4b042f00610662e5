"""Flows written in unusual ways: whichever way each is read, the answer is Metaflow's own.

What a reader of source is tempted to get wrong without saying so: constants that change after they are defined, names
that mean something else than they seem to, decorators that are applied elsewhere, and files that are written oddly.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.analyze import read_flow
from mfbazel.analyze.errors import NeedsRunningError
from mfbazel.analyze.options import ReadOptions
from tests.analyze.agreement import differences
from tests.analyze.metaflow_oracle import Oracle

HEAD = "from metaflow import *\nimport metaflow, functools, sys\n"
FLOW = """
class F(FlowSpec):
    @pypi(packages=PACKAGES)
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self):
        pass
"""
MAIN = '\n\nif __name__ == "__main__":\n    F()\n'

CONSTANTS = {
    "assigned_twice": "PACKAGES = {'pandas': '1.0'}\nPACKAGES = {'pandas': '2.0'}",
    "entry_assigned": "PACKAGES = {'pandas': '1.0'}\nPACKAGES['numpy'] = '2.0'",
    "entry_deleted": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0'}\ndel PACKAGES['numpy']",
    "updated": "PACKAGES = {'pandas': '1.0'}\nPACKAGES.update(numpy='2.0')",
    "set_by_default": "PACKAGES = {'pandas': '1.0'}\nPACKAGES.setdefault('numpy', '2.0')",
    "entry_popped": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0'}\n_ = PACKAGES.pop('numpy')",
    "merged_in_place": "PACKAGES = {'pandas': '1.0'}\nPACKAGES |= {'numpy': '2.0'}",
    "changed_through_another_name": "PACKAGES = {'pandas': '1.0'}\nOTHER = PACKAGES\nOTHER['numpy'] = '2.0'",
    "changed_by_a_function": (
        "PACKAGES = {'pandas': '1.0'}\ndef add():\n    PACKAGES['numpy'] = '2.0'\nadd()"
    ),
    "changed_as_an_argument": (
        "PACKAGES = {'pandas': '1.0'}\ndef add(table):\n    table['numpy'] = '2.0'\nadd(PACKAGES)"
    ),
    "assigned_by_a_function": (
        "PACKAGES = {'pandas': '1.0'}\ndef add():\n    global PACKAGES\n    PACKAGES = {'numpy': '2.0'}\nadd()"
    ),
    "assigned_through_globals": "PACKAGES = {'pandas': '1.0'}\nglobals()['PACKAGES'] = {'numpy': '2.0'}",
    "changed_in_a_loop": "PACKAGES = {}\nfor name in ('a', 'b'):\n    PACKAGES[name] = '1'",
    "loop_variable": "for PACKAGES in ({'pandas': '1.0'}, {'numpy': '2.0'}):\n    pass",
    "chained_assignment": "OTHER = PACKAGES = {'pandas': '1.0'}\nOTHER['numpy'] = '2.0'",
    "unpacked": "PACKAGES, PYTHON = {'pandas': '1.0'}, '3.12'",
    "walrus": "print(PACKAGES := {'pandas': '1.0'})",
    "annotated": "PACKAGES: dict = {'pandas': '1.0'}",
    "with_statement": "import contextlib\nwith contextlib.nullcontext({'pandas': '1.0'}) as PACKAGES:\n    pass",
    "exception": "try:\n    PACKAGES = {'a': '1'}\n    raise OSError\nexcept OSError:\n    PACKAGES = {'b': '2'}",
    "deleted_and_defined_again": "PACKAGES = {'a': '1'}\ndel PACKAGES\nPACKAGES = {'pandas': '1.0'}",
    "nested_dictionary_changed": "ALL = {'x': {'pandas': '1.0'}}\nPACKAGES = ALL['x']\nALL['x']['numpy'] = '2.0'",
    "copied_before_the_change": "BASE = {'pandas': '1.0'}\nPACKAGES = {**BASE}\nBASE['numpy'] = '2.0'",
    "copied_after_the_change": "BASE = {'pandas': '1.0'}\nBASE['numpy'] = '2.0'\nPACKAGES = {**BASE}",
    "used_before_the_change": "PACKAGES = {'pandas': '1.0'}",
    "attribute_of_a_class": "class Pins:\n    PACKAGES = {'pandas': '1.0'}\nPACKAGES = Pins.PACKAGES",
    "copy_method": "BASE = {'pandas': '1.0'}\nPACKAGES = BASE.copy()",
    "pairs": "PACKAGES = dict([('pandas', '1.0')])",
    "zipped": "PACKAGES = dict(zip(['pandas'], ['1.0']))",
    "formatted": "PACKAGES = {'pandas': '%d.%d' % (1, 0), 'numpy': '{}.0'.format(2)}",
    "joined": "PACKAGES = {'pandas': '.'.join(['1', '0'])}",
    "number_formatted": "V = 1.50\nPACKAGES = {'pandas': f'{V}', 'numpy': f'{V:.2f}', 'scipy': f'{V!r}'}",
    "conditional_expression": "PACKAGES = {'pandas': '1.0' if sys.maxsize > 1 else '2.0'}",
    "double_key": "PACKAGES = {'pandas': '1.0', 'numpy': '2.0', 'pandas': '3.0'}",
    "merge_order": "A = {'pandas': '1.0'}\nPACKAGES = {'pandas': '0.1', **A, 'numpy': '2.0', **{'numpy': '3.0'}}",
    "builtin_shadowed": "def dict(**k):\n    return {'numpy': '2.0'}\nPACKAGES = dict(pandas='1.0')",
    "imported_and_assigned": "from textwrap import dedent as PACKAGES\nPACKAGES = {'pandas': '1.0'}",
    "escapes": "PACKAGES = {'p\\x61ndas': '1\\x2e0', 'num' 'py': r'2.0'}",
    "spaces": "PACKAGES = {'pandas': ' 1.0 '.strip(), 'numpy': '>= 2.0'}",
}  # fmt: skip

FLOWS = {
    "applied_after_the_class": FLOW.replace("PACKAGES", "{'pandas': '1.0'}")
    + "F = pypi_base(packages={'numpy': '2.0'})(F)\n",
    "applied_to_a_step_after_the_class": FLOW.replace("PACKAGES", "{'pandas': '1.0'}") + "resources(gpu=1)(F.start)\n",
    "constant_changed_after_the_class": "PACKAGES = {'pandas': '1.0'}\n" + FLOW + "PACKAGES['numpy'] = '2.0'\n",
    "constant_of_the_class": """
        class F(FlowSpec):
            PACKAGES = {"pandas": "1.0"}
            @pypi(packages=PACKAGES)
            @step
            def start(self):
                pass
        """,
    "constant_of_the_class_hides_a_global": """
        PACKAGES = {"numpy": "2.0"}
        class F(FlowSpec):
            PACKAGES = {"pandas": "1.0"}
            @pypi(packages=PACKAGES)
            @step
            def start(self):
                pass
        """,
    "constant_of_the_class_assigned_later": """
        PACKAGES = {"numpy": "2.0"}
        class F(FlowSpec):
            @pypi(packages=PACKAGES)
            @step
            def start(self):
                self.next(self.end)
            PACKAGES = {"pandas": "1.0"}
            @pypi(packages=PACKAGES)
            @step
            def end(self):
                pass
        """,
    "decorator_hidden_by_a_function": """
        def pypi(packages):
            return lambda function: function
        class F(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "decorator_hidden_in_the_class": """
        class F(FlowSpec):
            def resources(gpu):
                return lambda function: function
            @resources(gpu=1)
            @step
            def start(self):
                pass
        """,
    "decorator_partly_applied": """
        py312 = functools.partial(pypi, python="3.12")
        class F(FlowSpec):
            @py312(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "step_under_another_name": """
        task = step
        needs = metaflow.pypi
        class F(FlowSpec):
            @needs(packages={"pandas": "1.0"})
            @task
            def start(self):
                pass
        """,
    "parentheses_around_a_decorator": """
        class F(FlowSpec):
            @(pypi(packages={"pandas": "1.0"}))
            @(step)
            def start(self):
                pass
        """,
    "decorator_in_a_dictionary": """
        STACKS = {"small": pypi(packages={"pandas": "1.0"})}
        class F(FlowSpec):
            @STACKS["small"]
            @step
            def start(self):
                pass
        """,
    "decorator_by_condition": """
        class F(FlowSpec):
            @(pypi(packages={"pandas": "1.0"}) if sys.maxsize > 1 else retry)
            @step
            def start(self):
                pass
        """,
    "decorator_is_a_lambda": """
        class F(FlowSpec):
            @(lambda function: pypi(packages={"pandas": "1.0"})(function))
            @step
            def start(self):
                pass
        """,
    "decorator_that_does_nothing": """
        def marked(function):
            function.mark = True
            return function
        class F(FlowSpec):
            @marked
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "several_decorators_in_one": """
        def heavy(function):
            return pypi(packages={"pandas": "1.0"})(resources(cpu=8)(function))
        class F(FlowSpec):
            @heavy
            @step
            def start(self):
                pass
        """,
    "class_decorator_of_the_team": """
        def team(flow):
            return pypi_base(packages={"pandas": "1.0"})(flow)
        @team
        class F(FlowSpec):
            @step
            def start(self):
                pass
        """,
    "base_that_acts_on_subclasses": """
        class Base(FlowSpec):
            def __init_subclass__(cls, **keywords):
                super().__init_subclass__(**keywords)
                resources(cpu=8)(cls.start)
        class F(Base):
            @step
            def start(self):
                pass
        """,
    "base_made_by_a_call": """
        def base():
            class Base(FlowSpec):
                @pypi(packages={"pandas": "1.0"})
                @step
                def start(self):
                    self.next(self.end)
            return Base
        class F(base()):
            @step
            def end(self):
                pass
        """,
    "base_by_condition": """
        class One(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        class Two(FlowSpec):
            @pypi(packages={"pandas": "2.0"})
            @step
            def start(self):
                pass
        class F(One if sys.maxsize > 1 else Two):
            pass
        """,
    "base_under_another_name": """
        class Base(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        Other = Base
        class F(Other):
            pass
        """,
    "class_defined_twice": """
        class Base(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        class F(Base):
            pass
        class Base(FlowSpec):
            @pypi(packages={"pandas": "2.0"})
            @step
            def start(self):
                pass
        """,
    "step_defined_twice": """
        class F(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                self.next(self.end)
            @pypi(packages={"pandas": "2.0"})
            @step
            def start(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "step_deleted": """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.end)
            @step
            def extra(self):
                self.next(self.end)
            del extra
            @step
            def end(self):
                pass
        """,
    "step_in_a_loop": """
        class F(FlowSpec):
            for number in (1, 2):
                @resources(cpu=number)
                @step
                def start(self):
                    pass
        """,
    "step_in_try": """
        class F(FlowSpec):
            try:
                @resources(cpu=1)
                @step
                def start(self):
                    pass
            finally:
                pass
        """,
    "step_in_with": """
        import contextlib
        class F(FlowSpec):
            with contextlib.suppress(ValueError):
                @resources(cpu=1)
                @step
                def start(self):
                    pass
        """,
    "function_made_a_step_later": """
        class F(FlowSpec):
            def start(self):
                pass
            start = resources(cpu=2)(step(start))
        """,
    "function_of_the_module": """
        @resources(cpu=2)
        @step
        def start(self):
            pass
        class F(FlowSpec):
            begin = None
            start = start
        """,
    "two_flows_and_one_is_run": """
        class Other(FlowSpec):
            @pypi(packages={"numpy": "2.0"})
            @step
            def start(self):
                pass
        class F(FlowSpec):
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "flow_under_a_condition": """
        if sys.maxsize > 1:
            class F(FlowSpec):
                @pypi(packages={"pandas": "1.0"})
                @step
                def start(self):
                    pass
        """,
    "flow_made_by_a_function": """
        def make(version):
            class F(FlowSpec):
                @pypi(packages={"pandas": version})
                @step
                def start(self):
                    pass
            return F
        F = make("1.0")
        """,
    "self_by_another_name": """
        class F(FlowSpec):
            @step
            def start(self, *, speed=1):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "step_with_a_default_argument": """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.each, foreach="xs")
            @step
            def each(self):
                self.next(self.gather)
            @step
            def gather(self, inputs=None, *, speed=1):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "switch_with_numbers_and_booleans": """
        class F(FlowSpec):
            @step
            def start(self):
                self.next({True: self.a, 2: self.b, "x": self.end}, condition="kind")
            @step
            def a(self):
                self.next(self.end)
            @step
            def b(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "switch_on_a_config": """
        class F(FlowSpec):
            config = Config("config", default_value={"a": "x", "b": "y"})
            @step
            def start(self):
                self.next({self.config.a: self.a, self.config.b: self.end}, condition="kind")
            @step
            def a(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "foreach_over_a_variable": """
        class F(FlowSpec):
            @step
            def start(self):
                name = "xs"
                self.next(self.each, foreach=name)
            @step
            def each(self):
                self.next(self.gather)
            @step
            def gather(self, inputs):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
    "odd_step_names": """
        class F(FlowSpec):
            @step(start=True)
            def start_(self):
                self.next(self.x1)
            @step
            def x1(self):
                self.next(self.last__one)
            @step(end=True)
            def last__one(self):
                pass
        """,
    "docstring_only": """
        class F(FlowSpec):
            @step
            def start(self):
                '''Does nothing.'''
        """,
    "semicolons": """
        class F(FlowSpec):
            @step
            def start(self): x = 1; self.next(self.end)
            @step
            def end(self): pass
        """,
    "line_continuations": """
        class F(FlowSpec):
            @pypi(packages= \\
                {"pandas": \\
                 "1.0"})
            @step
            def start(self):
                self \\
                    .next(self. \\
                          end)
            @step
            def end(self):
                pass
        """,
    "mutator_adds_an_image_by_name": """
        class placed(StepMutator):
            def mutate(self, mutable_step):
                mutable_step.add_decorator("kubernetes", deco_kwargs={"image": "registry.example.com/a:1", "cpu": 2})
        class F(FlowSpec):
            @placed
            @step
            def start(self):
                pass
        """,
    "mutator_replaces_packages": """
        class newer(StepMutator):
            def mutate(self, mutable_step):
                mutable_step.add_decorator(
                    "pypi", deco_kwargs={"packages": {"pandas": "2.0"}}, duplicates=mutable_step.OVERRIDE
                )
        class F(FlowSpec):
            @newer
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "mutator_reads_a_config": """
        class configured(FlowMutator):
            def pre_mutate(self, mutable_flow):
                for name, value in mutable_flow.configs:
                    for _, each in mutable_flow.steps:
                        each.add_decorator("pypi", deco_kwargs={"packages": dict(value.packages)})
        @configured
        class F(FlowSpec):
            settings = Config("settings", default_value={"packages": {"pandas": "1.0"}})
            @step
            def start(self):
                pass
        """,
    "mutator_on_a_base": """
        class small(FlowMutator):
            def mutate(self, mutable_flow):
                for _, each in mutable_flow.steps:
                    each.add_decorator("resources", deco_kwargs={"cpu": 1})
        @small
        class Base(FlowSpec):
            @step
            def start(self):
                self.next(self.end)
        class F(Base):
            @step
            def end(self):
                pass
        """,
    "config_that_nobody_uses_for_packages": """
        class F(FlowSpec):
            settings = Config("settings", default_value={"level": 3})
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                print(self.settings.level)
        """,
    "config_decides_about_disabled": """
        class F(FlowSpec):
            settings = Config("settings", default_value={"off": True})
            @pypi(packages={"pandas": "1.0"}, disabled=settings.off)
            @step
            def start(self):
                pass
        """,
    "config_in_environment_variables": """
        class F(FlowSpec):
            settings = Config("settings", default_value={"level": "3"})
            @environment(vars={"LEVEL": config_expr("settings.level")})
            @pypi(packages={"pandas": "1.0"})
            @step
            def start(self):
                pass
        """,
    "yaml_config": """
        class F(FlowSpec):
            settings = Config("settings", default_value="packages: {pandas: '1.0'}", parser=yaml_parser)
            @pypi(packages=settings.packages)
            @step
            def start(self):
                pass
        """,
    "conda_environment_config": """
        TEXT = "name: team\\ndependencies:\\n  - python=3.12\\n  - pandas=2.2.3\\n  - numpy>=2\\n"
        @conda_base(packages=config_expr("team.packages"), python=config_expr("team.python"))
        class F(FlowSpec):
            team = Config("team", default_value=TEXT, parser=conda_environment_yml_parser)
            @step
            def start(self):
                pass
        """,
}

PLAIN = FLOW.replace("PACKAGES", "{'pandas': '1.0'}")
ATTRIBUTES = {
    "image_from_the_environment": "@batch(image=__import__('os').environ.get('NO_SUCH', 'python:3.12'))",
    "image_by_function": "@kubernetes(image='{}:{}'.format('python', '3.12'))",
    "image_by_percent": "@kubernetes(image='%s:%s' % ('python', '3.12'))",
    "image_by_condition": "@batch(image='python:3.12' if sys.maxsize > 1 else None)",
    "empty_image": "@kubernetes(image='')",
    "image_and_everything_else": "@batch(**dict(image='python:3.12', cpu=3))",
    "powers_of_two": "@resources(memory=2**14, cpu=1 << 3)",
    "floats": "@resources(cpu=1e1, memory=4096.0)",
    "divided": "@resources(memory=65536 // 4, cpu=3 / 2)",
    "negative_minus_negative": "@resources(cpu=-(-2))",
    "called": "@resources(memory=int(4e3), cpu=max(2, 3))",
    "text_numbers": "@resources(memory='4096', cpu='0.5', gpu='2')",
    "nothing": "@resources(memory=None, cpu=None, gpu=None)",
    "zero": "@resources(gpu=0, cpu=0)",
    "text_zero": "@resources(gpu='0')",
    "booleans": "@pypi(packages={'pandas': '1.0'}, disabled=not True)",
    "disabled_by_number": "@pypi(packages={'pandas': '1.0'}, disabled=1)",
    "disabled_by_text": "@pypi(packages={'pandas': '1.0'}, disabled='yes')",
    "disabled_by_zero": "@pypi(packages={'pandas': '1.0'}, disabled=0)",
    "conda_and_pypi_and_one_disabled": (
        "@pypi(packages={'pandas': '1.0'})\n@conda(packages={'numpy': '1.0'}, disabled=True)"
    ),
    "conda_without_packages_below_pypi": "@pypi(packages={'pandas': '1.0'})\n@conda",
    "pypi_without_packages_above_conda": "@pypi\n@conda(packages={'numpy': '1.0'})",
    "python_of_conda_below_pypi": "@pypi(packages={'pandas': '1.0'})\n@conda(python='3.10')",
    "python_of_both": "@pypi(packages={'pandas': '1.0'}, python='3.12')\n@conda(python='3.10')",
    "python_formatted": "@pypi(python='.'.join(map(str, (3, 12))))",
    "selector_with_spaces_and_more": "@kubernetes(node_selector='disk=ssd,kubernetes.io/arch=arm64')",
    "selector_of_the_old_label": "@kubernetes(node_selector={'beta.kubernetes.io/arch': 'arm64'})",
    "selector_merged": "@kubernetes(node_selector={**{'kubernetes.io/arch': 'amd64'}, 'kubernetes.io/arch': 'arm64'})",
    "selector_computed": "@kubernetes(node_selector=dict.fromkeys(['kubernetes.io/arch'], 'arm64'))",
    "conda_version_with_spaces": "@conda(packages={'numpy': '>=1.2, <2'})",
    "conda_fuzzy_with_star": "@conda(packages={'numpy': '=1.2.*'})",
    "conda_name_in_capitals": "@conda(packages={'PyYAML': '6.0'})",
    "conda_channel_with_a_path": "@conda(packages={'https://conda.example.com/team::numpy': '1.0'})",
    "extras_with_spaces": "@pypi(packages={'requests [socks, security]': '2.0'})",
    "version_with_a_local_part": "@pypi(packages={'torch': '2.4.1+cpu'})",
    "version_with_a_letter": "@pypi(packages={'pandas': 'v2.0rc1'})",
    "epoch": "@pypi(packages={'pandas': '1!2.0'})",
}
"""Decorators with values in unusual forms."""

ODD_FILES = {
    "tabs": (HEAD + PLAIN.replace("    ", "\t")).encode(),
    "crlf": (HEAD + FLOW.replace("PACKAGES", "{\n'pandas':\n'1.0'}")).replace("\n", "\r\n").encode(),
    "byte_order_mark": b"\xef\xbb\xbf" + (HEAD + PLAIN).encode(),
    "latin_1": b"# -*- coding: latin-1 -*-\nX = '\xe9'\n" + (HEAD + PLAIN).encode(),
    "form_feeds": (HEAD + "\f\n" + PLAIN).encode(),
    "unicode_names": (HEAD + "PÄCKAGES = {'pandas': '1.0'}\n" + FLOW.replace("PACKAGES", "PÄCKAGES")).encode(),
    "no_newline_at_the_end": (HEAD + PLAIN).rstrip().encode(),
    "shebang": b"#!/usr/bin/env python3\n# vim: ts=4\n" + (HEAD + PLAIN).encode(),
}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


def agree(flow: Path, oracle: Oracle) -> None:
    """Check that the flow is read as Metaflow reads it, and statically so or not at all."""
    answer = oracle.ask(flow)
    assert answer.lint is None
    with contextlib.suppress(NeedsRunningError):
        assert differences(read_flow(flow, (), ReadOptions(reading="static")), answer) == []
        return
    assert differences(read_flow(flow), answer) == []


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_the_value_that_they_have_where_they_are_used(name: str, tmp_path: Path, oracle: Oracle) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(f"{HEAD}{CONSTANTS[name]}\n{FLOW}{MAIN}", encoding="utf-8")
    agree(flow, oracle)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_written_in_unusual_ways_are_read_as_metaflow_reads_them(
    name: str, tmp_path: Path, oracle: Oracle
) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(HEAD + textwrap.dedent(FLOWS[name]) + MAIN, encoding="utf-8")
    agree(flow, oracle)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_in_unusual_forms_mean_what_they_mean_to_metaflow(name: str, tmp_path: Path, oracle: Oracle) -> None:
    decorators = textwrap.indent(ATTRIBUTES[name], "    ")
    flow = tmp_path / "flow.py"
    flow.write_text(
        f"{HEAD}\nclass F(FlowSpec):\n{decorators}\n    @step\n    def start(self):\n        pass\n{MAIN}",
        encoding="utf-8",
    )
    agree(flow, oracle)


@pytest.mark.parametrize("name", ODD_FILES)
def test_files_written_oddly_are_read_as_metaflow_reads_them(name: str, tmp_path: Path, oracle: Oracle) -> None:
    flow = tmp_path / "flow.py"
    flow.write_bytes(ODD_FILES[name])
    agree(flow, oracle)
