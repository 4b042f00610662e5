"""Flows put together in unusual ways: whichever way each is read, the answer is Metaflow's own."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analyze.agreement import HEAD, MAIN, agree
from tests.analyze.metaflow_oracle import Oracle

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


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


@pytest.mark.parametrize("name", FLOWS)
def test_flows_written_in_unusual_ways_are_read_as_metaflow_reads_them(
    name: str, tmp_path: Path, oracle: Oracle
) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(HEAD + textwrap.dedent(FLOWS[name]) + MAIN, encoding="utf-8")
    agree(flow, oracle)
