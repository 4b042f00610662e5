"""What Metaflow refuses, we refuse; and each says why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, read_flow
from tests.analyze.metaflow_oracle import Oracle

HEAD = "from metaflow import *\n"
DECORATORS = {
    "pypi_twice_on_a_step": (
        """
        class F(FlowSpec):
            @pypi(packages={"pandas": "2.2.3"})
            @pypi(packages={"numpy": "2.1.0"})
            @step
            def start(self):
                pass
        """,
        "twice",
        "already has a decorator 'pypi'",
    ),
    "kubernetes_twice_on_a_step": (
        """
        class F(FlowSpec):
            @kubernetes(cpu=1)
            @kubernetes
            @step
            def start(self):
                pass
        """,
        "twice",
        "already has a decorator 'kubernetes'",
    ),
    "resources_twice_on_a_step": (
        """
        class F(FlowSpec):
            @resources(cpu=1)
            @resources(cpu=2)
            @step
            def start(self):
                pass
        """,
        "twice",
        "already has a decorator 'resources'",
    ),
    "pypi_base_twice_on_a_flow": (
        """
        @pypi_base(python="3.12")
        @pypi_base(packages={"numpy": "2.1.0"})
        class F(FlowSpec):
            @step
            def start(self):
                pass
        """,
        "twice",
        "already has a decorator 'pypi_base'",
    ),
    "pypi_base_on_a_flow_and_its_base": (
        """
        @pypi_base(python="3.12")
        class Base(FlowSpec):
            @step
            def start(self):
                pass

        @pypi_base(packages={"numpy": "2.1.0"})
        class F(Base):
            pass
        """,
        "on its base",
        "already has a decorator 'pypi_base'",
    ),
    "pypi_and_conda_packages_on_a_step": (
        """
        @conda_base(packages={"numpy": "2.1.0"})
        class F(FlowSpec):
            @pypi(packages={"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "both @pypi and @conda",
        "Mixing and matching PyPI packages and Conda packages",
    ),
    "unknown_attribute": (
        """
        class F(FlowSpec):
            @pypi(package={"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "has no attribute `package`",
        "does not support the attribute 'package'",
    ),
    "libraries_of_pypi": (
        """
        class F(FlowSpec):
            @pypi(libraries={"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "has no attribute `libraries`",
        "does not support the attribute 'libraries'",
    ),
    "unknown_attribute_of_resources": (
        """
        class F(FlowSpec):
            @resources(gpus=1)
            @step
            def start(self):
                pass
        """,
        "gpus",
        "does not support the attribute 'gpus'",
    ),
    "positional_argument": (
        """
        class F(FlowSpec):
            @pypi({"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "keyword arguments only",
        "not declared as a @step",
    ),
    "decorator_below_step": (
        """
        class F(FlowSpec):
            @step
            @pypi(packages={"pandas": "2.2.3"})
            def start(self):
                pass
        """,
        "below",
        "not declared as a @step",
    ),
    "flow_decorator_on_a_step": (
        """
        class F(FlowSpec):
            @pypi_base(packages={"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "pypi_base",
        "BadFlowDecoratorException",
    ),
    "step_decorator_on_a_flow": (
        """
        @pypi(packages={"pandas": "2.2.3"})
        class F(FlowSpec):
            @step
            def start(self):
                pass
        """,
        "@pypi",
        "BadStepDecoratorException",
    ),
    "version_that_is_no_text": (
        """
        class F(FlowSpec):
            @pypi(packages={"pandas": 2.2})
            @step
            def start(self):
                pass
        """,
        "not text",
        "'float' object has no attribute 'startswith'",
    ),
}

GRAPHS = {
    "unknown_next_step": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.missing)
            @step
            def end(self):
                pass
        """,
        "'missing', which is not a step",
        "an unknown step, *missing*",
    ),
    "no_transition": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.x = 1
            @step
            def end(self):
                pass
        """,
        "does not end with `self.next",
        "is missing a self.next() transition",
    ),
    "transition_in_a_branch": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                if self.x:
                    self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "does not end with `self.next",
        "is missing a self.next() transition",
    ),
    "transition_with_a_variable_step": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(getattr(self, "end"))
            @step
            def end(self):
                pass
        """,
        "cannot be read",
        "self.next() transition",
    ),
    "switch_with_a_variable_case": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                case = "a"
                self.next({case: self.a, "b": self.end}, condition="x")
            @step
            def a(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "cannot be read",
        "invalid self.next() transition",
    ),
    "switch_with_a_computed_condition": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next({"a": self.a, "b": self.end}, condition=self.name_of_it)
            @step
            def a(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "cannot be read",
        "invalid self.next() transition",
    ),
    "switch_with_one_case": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next({"a": self.end}, condition="x")
            @step
            def end(self):
                pass
        """,
        "switch",
        "must define at least 2 transitions",
    ),
    "foreach_and_another_argument": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.a, self.end, foreach="x")
            @step
            def a(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "cannot be read",
        "invalid self.next() transition",
    ),
    "no_end": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.finish)
            @step
            def finish(self):
                pass
        """,
        "no step 'end'",
        "end",
    ),
    "two_starts": (
        """
        class F(FlowSpec):
            @step(start=True)
            def a(self):
                self.next(self.end)
            @step(start=True)
            def b(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "both say @step(start=True)",
        "start",
    ),
    "unreachable_step": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.end)
            @step
            def alone(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "not reachable",
        "unreachable",
    ),
    "end_goes_on": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.end)
            @step
            def end(self):
                self.next(self.end)
        """,
        "'end'",
        "self.next()",
    ),
    "cycle_without_switch": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.a)
            @step
            def a(self):
                self.next(self.b)
            @step
            def b(self):
                self.next({"again": self.a, "done": self.end}, condition="x")
            @step
            def end(self):
                pass
        """,
        "circle",
        "There is a loop in your flow",
    ),
    "split_without_join": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.a, self.b)
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
        "join",
        "Add a join step before",
    ),
    "join_without_split": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.join)
            @step
            def join(self, inputs):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "join",
        "not preceded by a split",
    ),
    "foreach_without_a_step_inside": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.each)
            @step
            def each(self):
                self.next(self.join, foreach="x")
            @step
            def join(self, inputs):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "join",
        "IndexError",  # Metaflow's check of joins meets it before the one that has a message for it
    ),
    "parallel_without_num_parallel": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.work, foreach="x")
            @parallel
            @step
            def work(self):
                self.next(self.join)
            @step
            def join(self, inputs):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "parallel",
        "num_parallel",
    ),
    "join_that_splits": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.a, foreach="x")
            @step
            def a(self):
                self.next(self.join)
            @step
            def join(self, inputs):
                self.next(self.b, self.c)
            @step
            def b(self):
                self.next(self.last)
            @step
            def c(self):
                self.next(self.last)
            @step
            def last(self, inputs):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "join",
        "is both a join step",
    ),
    "reserved_name": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.input)
            @step
            def input(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "'input'",
        "reserved word",
    ),
    "capital_letters": (
        """
        class F(FlowSpec):
            @step
            def start(self):
                self.next(self.Train)
            @step
            def Train(self):
                self.next(self.end)
            @step
            def end(self):
                pass
        """,
        "'Train'",
        "invalid name",
    ),
}
RUNNING = {
    "config_file_missing": (
        """
        class F(FlowSpec):
            settings = Config("settings", default="missing.json")
            @pypi(packages=settings.packages)
            @step
            def start(self):
                pass
        """,
        "settings",
        "settings",
    ),
    "config_value_missing": (
        """
        class F(FlowSpec):
            settings = Config("settings", default_value={"python": "3.12"})
            @pypi(packages=settings.packages)
            @step
            def start(self):
                pass
        """,
        "packages",
        "packages",
    ),
    "config_required_and_not_given": (
        """
        class F(FlowSpec):
            settings = Config("settings", required=True)
            @pypi(packages=settings.packages)
            @step
            def start(self):
                pass
        """,
        "settings",
        "missing configuration for 'settings'",
    ),
    "requirement_with_a_marker": (
        """
        TEXT = 'pandas==2.2.3; python_version < "3.12"'
        class F(FlowSpec):
            needs = Config("needs", default_value=TEXT, parser=requirements_txt_parser)
            @pypi(packages=needs.packages)
            @step
            def start(self):
                pass
        """,
        "markers",
        "markers",
    ),
    "mutator_that_raises": (
        """
        class broken(FlowMutator):
            def pre_mutate(self, mutable_flow):
                raise ValueError("no such team")
        @broken
        class F(FlowSpec):
            @step
            def start(self):
                pass
        """,
        "no such team",
        "no such team",
    ),
    "mutator_adds_a_decorator_twice": (
        """
        class twice(StepMutator):
            def mutate(self, mutable_step):
                mutable_step.add_decorator("pypi", deco_kwargs={"packages": {"a": "1"}}, duplicates=mutable_step.ERROR)
        class F(FlowSpec):
            @twice
            @pypi(packages={"pandas": "2.2.3"})
            @step
            def start(self):
                pass
        """,
        "pypi",
        "already has a decorator 'pypi'",
    ),
    "constant_that_raises": (
        """
        PACKAGES = dict.fromkeys(open("/no/such/file").read().split(), "1.0")
        class F(FlowSpec):
            @pypi(packages=PACKAGES)
            @step
            def start(self):
                pass
        """,
        "/no/such/file",
        "/no/such/file",
    ),
}
"""Flows that must be run to be known, and fail then."""

CASES = {**DECORATORS, **GRAPHS, **RUNNING}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


def write(tmp_path: Path, name: str) -> Path:
    flow = tmp_path / f"{name}.py"
    flow.write_text(
        HEAD + textwrap.dedent(CASES[name][0]) + '\n\nif __name__ == "__main__":\n    F()\n', encoding="utf-8"
    )
    return flow


@pytest.mark.parametrize("name", CASES)
def test_what_metaflow_refuses_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnalyzeError) as error:
        read_flow(write(tmp_path, name))
    assert CASES[name][1] in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_metaflow_refuses_it(name: str, tmp_path: Path, oracle: Oracle) -> None:
    answer = oracle.ask(write(tmp_path, name))
    said = answer.lint or answer.refusal if name in GRAPHS else answer.refusal
    assert CASES[name][2] in (said or "nothing")
