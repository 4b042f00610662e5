"""What the dynamic reader finds where Metaflow itself must say what a flow is."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze.dynamic import read_dynamic
from mfbazel.analyze.errors import DynamicError
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow, RawStep
from mfbazel.analyze.reader import read_static
from mfbazel.analyze.source import Module, Sources, parse

HEAD = """\
from metaflow import *
from metaflow import FlowMutator, StepMutator, pyproject_toml_parser, requirements_txt_parser, user_step_decorator
"""
END = """\

    @step
    def end(self):
        pass

if __name__ == "__main__":
    F()
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def opened(path: Path, roots: tuple[Path, ...] = ()) -> tuple[Module, Sources]:
    sources, module = Sources([path.parent, *roots]), parse(path, path.name)
    sources.add(module)
    return module, sources


def read(path: Path, text: str, *roots: Path, options: ReadOptions | None = None) -> RawFlow:
    """Read a flow ``F`` whose step ``end`` is added."""
    file = write(path / "flow.py", HEAD + textwrap.dedent(text) + END)
    return read_dynamic(*opened(file, roots), options or ReadOptions(), "a test asks")


def step(flow: RawFlow, name: str = "start") -> RawStep:
    return next(item for item in flow.steps if item.name == name)


def packages(flow: RawFlow, name: str = "start") -> dict[str, tuple[str, str, str]]:
    """Return version, decorator and place by package."""
    found = step(flow, name)
    return {
        key: (item.version, item.decorator, str(item.place))
        for attributes in (found.pypi, found.conda)
        if attributes
        for key, item in attributes.packages.items()
    }


def refused(path: Path, text: str, *roots: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(DynamicError) as error:
        read(path, text, *roots, options=options)
    return str(error.value)


CONFIGURED = """\
class F(FlowSpec):
    team = Config("team", {how})

    @pypi(
        packages={{
            "numpy": config_expr("team.numpy"),
            "six": "1.16.0",
        }},
        python=config_expr("team.python"),
    )
    @resources(cpu=config_expr("team.cpu"))
    @step
    def start(self):
        self.next(self.end)
"""
DEFAULT = """default_value='{"numpy": "1.26.4", "python": "3.12", "cpu": 6}'"""


def test_a_config_with_a_default_value_decides_about_packages_python_and_hardware(tmp_path: Path) -> None:
    flow = read(tmp_path, CONFIGURED.format(how=DEFAULT))
    assert packages(flow) == {"numpy": ("1.26.4", "pypi", "flow.py:8"), "six": ("1.16.0", "pypi", "flow.py:9")}
    found = step(flow)
    assert found.pypi is not None
    assert found.pypi.python == "3.12"
    assert found.requests.cpu == 6
    assert found.place.line == 15
    assert (flow.reading.way, flow.reading.reason) == ("dynamic", "a test asks")


def test_the_default_file_of_a_config_is_found_beside_the_flow(tmp_path: Path) -> None:
    write(tmp_path / "team.json", '{"numpy": "2.0.0", "python": "3.13", "cpu": 1}')
    assert packages(read(tmp_path, CONFIGURED.format(how='default="team.json"')))["numpy"][0] == "2.0.0"


def test_a_file_given_for_a_config_wins_over_its_default(tmp_path: Path) -> None:
    file = write(tmp_path / "elsewhere" / "given.json", '{"numpy": "2.1.0", "python": "3.13", "cpu": 1}')
    flow = read(tmp_path / "flows", CONFIGURED.format(how=DEFAULT), options=ReadOptions(configs={"team": file}))
    assert packages(flow)["numpy"][0] == "2.1.0"


def test_a_value_given_for_a_config_wins_over_its_default(tmp_path: Path) -> None:
    value = '{"numpy": "2.2.0", "python": "3.13", "cpu": 1}'
    flow = read(tmp_path, CONFIGURED.format(how=DEFAULT), options=ReadOptions(config_values={"team": value}))
    assert packages(flow)["numpy"][0] == "2.2.0"


def test_a_config_without_a_value_is_named_with_what_to_write(tmp_path: Path) -> None:
    message = refused(tmp_path, CONFIGURED.format(how="required=True"))
    assert "flow.py" in message
    assert "Config 'team' has no value" in message
    assert '`configs = {"team": "<file>"}`' in message
    assert "`--config team=<file>`" in message


def test_a_missing_file_of_a_config_is_named(tmp_path: Path) -> None:
    options = ReadOptions(configs={"team": tmp_path / "nowhere.json"})
    message = refused(tmp_path, CONFIGURED.format(how=DEFAULT), options=options)
    assert "nowhere.json" in message
    assert "'team'" in message


def test_a_config_that_the_flow_does_not_have_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, CONFIGURED.format(how=DEFAULT), options=ReadOptions(config_values={"other": "{}"}))
    assert "other" in message
    assert "team" in message


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("requirements_txt_parser", "# python==3.11\nnumpy==1.26.4\nsix>=1.16\n"),
        (
            "pyproject_toml_parser",
            '[project]\nname = "x"\nrequires-python = "==3.11"\ndependencies = ["numpy==1.26.4", "six>=1.16"]\n',
        ),
    ],
)
def test_the_parsers_of_metaflow_make_the_flows_packages(tmp_path: Path, parser: str, text: str) -> None:
    write(tmp_path / "requirements", text)
    flow = read(
        tmp_path,
        f"""\
        class F(FlowSpec):
            needs = Config("needs", default="requirements", parser={parser})

            @pypi(**needs)
            @step
            def start(self):
                self.next(self.end)
        """.replace("        class", "class").replace("            ", "    "),
    )
    found = packages(flow)
    assert {name: item[0] for name, item in found.items()} == {"numpy": "1.26.4", "six": ">=1.16"}
    assert {item[2] for item in found.values()} == {"flow.py:6"}


def test_a_config_opened_on_the_flow_decides_for_all_its_steps(tmp_path: Path) -> None:
    text = """\
        needs = Config("needs", default_value={"packages": {"polars": "1.9.0"}, "python": "3.12"})

        @pypi_base(**needs)
        class F(FlowSpec):
            needs = needs

            @step
            def start(self):
                self.next(self.end)
    """
    flow = read(tmp_path, textwrap.dedent(text))
    assert packages(flow) == packages(flow, "end") == {"polars": ("1.9.0", "pypi_base", "flow.py:5")}


def test_a_yaml_parser_needs_no_yaml_package(tmp_path: Path) -> None:
    write(tmp_path / "team.yaml", "numpy: 1.26.4\npython: '3.12'\ncpu: 2\n")
    assert packages(read(tmp_path, CONFIGURED.format(how='default="team.yaml", parser="shape.parse"')))  # fmt: skip


@pytest.fixture(autouse=True)
def shape(tmp_path: Path) -> None:
    write(tmp_path / "shape.py", "import yaml\n\ndef parse(text):\n    return yaml.safe_load(text)\n")


FLOW_MUTATOR = """\
class Standard(FlowMutator):
    def pre_mutate(self, mutable_flow):
        mutable_flow.add_decorator(pypi_base, deco_kwargs={"packages": {"numpy": "1.26.4"}})
        for _, each in mutable_flow.steps:
            each.add_decorator("resources:cpu=4")

    def mutate(self, mutable_flow):
        for name, each in mutable_flow.steps:
            if name == "start":
                each.remove_decorator("retry")
                each.add_decorator(kubernetes, deco_kwargs={"image": "registry.example.com/x:1"})

@Standard
class F(FlowSpec):
    @retry
    @catch
    @step
    def start(self):
        self.next(self.end)
"""


def test_a_flow_mutator_adds_and_removes_decorators(tmp_path: Path) -> None:
    flow = read(tmp_path, FLOW_MUTATOR)
    start = step(flow)
    assert "retry" not in start.decorators
    assert set(start.decorators) >= {"catch", "kubernetes", "resources"}
    assert start.requests.cpu == 4
    assert [(item.decorator, item.image) for item in start.remote] == [("kubernetes", "registry.example.com/x:1")]


def test_what_a_mutator_adds_stands_where_its_own_decorator_does(tmp_path: Path) -> None:
    flow = read(tmp_path, FLOW_MUTATOR)
    assert packages(flow, "end") == {"numpy": ("1.26.4", "pypi_base", "flow.py:15")}
    assert step(flow).remote[0].line == 15


def test_a_step_mutator_overrides_the_packages_of_its_step(tmp_path: Path) -> None:
    text = """\
    class Newer(StepMutator):
        def init(self, version):
            self.version = version

        def mutate(self, mutable_step):
            packages = {"numpy": self.version}
            mutable_step.add_decorator("pypi", deco_kwargs={"packages": packages}, duplicates=mutable_step.OVERRIDE)

    class F(FlowSpec):
        @Newer(version="2.1.0")
        @pypi(packages={"numpy": "1.0", "six": "1.16.0"})
        @step
        def start(self):
            self.next(self.end)
    """
    flow = read(tmp_path, text)
    assert packages(flow) == {"numpy": ("2.1.0", "pypi", "flow.py:12")}
    assert step(flow).decorators == ("pypi",)


def test_a_mutator_of_another_root_and_a_custom_decorator_are_processed(tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(
        library / "company" / "decorators.py",
        """\
        from metaflow import FlowMutator, user_step_decorator
        from company.versions import NUMPY

        class Company(FlowMutator):
            def pre_mutate(self, mutable_flow):
                for _, each in mutable_flow.steps:
                    each.add_decorator("pypi", deco_kwargs={"packages": {"numpy": NUMPY}})

        @user_step_decorator
        def timed(step_name, flow, inputs=None, attributes=None):
            yield
        """,
    )
    write(library / "company" / "versions.py", 'NUMPY = "1.26.4"\n')
    text = """\
    from company.decorators import Company, timed

    @Company
    class F(FlowSpec):
        @timed
        @step
        def start(self):
            self.next(self.end)
    """
    flow = read(tmp_path / "flows", text, library)
    assert packages(flow) == {"numpy": ("1.26.4", "pypi", "flow.py:5")}
    assert step(flow).decorators == ("pypi",)


def test_inherited_steps_and_packages_stand_in_the_file_of_the_base(tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(
        library / "company" / "base.py",
        """\
        from metaflow import FlowSpec, pypi, pypi_base, step

        @pypi_base(packages={"six": "1.16.0"})
        class Base(FlowSpec):
            @pypi(
                packages={"numpy": "1.26.4"},
            )
            @step
            def start(self):
                self.next(self.end)
        """,
    )
    text = """\
    from company.base import Base

    class F(Base):
        unused = Config("unused", default_value={})
    """
    flow = read(tmp_path / "flows", text, library)
    assert packages(flow) == {
        "numpy": ("1.26.4", "pypi", "company/base.py:6"),
        "six": ("1.16.0", "pypi_base", "company/base.py:3"),
    }
    assert str(step(flow).place) == "company/base.py:9"
    assert str(step(flow, "end").place) == "flow.py:9"


def test_packages_of_a_helper_function_stand_where_the_helper_writes_them(tmp_path: Path) -> None:
    text = """\
    def science(function):
        return pypi(packages={"numpy": "1.26.4"})(function)

    class F(FlowSpec):
        @science
        @step
        def start(self):
            self.next(self.end)
    """
    assert packages(read(tmp_path, text)) == {"numpy": ("1.26.4", "pypi", "flow.py:4")}


def test_packages_of_constants_changed_names_and_loops_have_a_place(tmp_path: Path) -> None:
    text = """\
    NAME = "numpy"
    for LATE in ({"pandas": "2.2.0"},):
        pass

    class F(FlowSpec):
        TABLE = {
            "num" + "py": "1.26.4",
            f"{NAME}-financial": "1.0.0",
        }
        TABLE["six"] = "1.16.0"

        @pypi(packages={
            **TABLE,
            **LATE,
        })
        @step
        def start(self):
            self.next(self.end)
    """
    assert {name: item[2] for name, item in packages(read(tmp_path, text)).items()} == {
        "numpy": "flow.py:9",
        "numpy-financial": "flow.py:10",
        "pandas": "flow.py:14",
        "six": "flow.py:14",
    }


def test_the_image_is_the_users_own_and_never_metaflows_default(tmp_path: Path) -> None:
    text = """\
    class F(FlowSpec):
        @batch(cpu=2)
        @step
        def start(self):
            self.next(self.end)
    """
    (remote,) = step(read(tmp_path, text)).remote
    assert (remote.decorator, remote.image, remote.line) == ("batch", None, 4)


PLAIN = [
    """\
    VERSIONS = {"numpy": "1.26.4",
                "six": "1.16.0"}

    @pypi_base(python="3.12", packages={
        "polars": "1.9.0",
        **VERSIONS,
    })
    class F(FlowSpec):
        @card
        @resources(cpu=2, memory="4096", gpu=1)
        @pypi(packages={
            "numpy": "2.0.0",
        })
        @step
        def start(self):
            self.next(self.left, self.right)

        @batch(image="registry.example.com/left:1", gpu=2)
        @step
        def left(self):
            self.next(self.join)

        @pypi(disabled=True)
        @step
        def right(self):
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.spread)

        @step
        def spread(self):
            self.next(self.each, foreach="items")

        @kubernetes(node_selector={"kubernetes.io/arch": "arm64"})
        @step
        def each(self):
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.next(self.end)
    """,
    """\
    @conda_base(libraries={"numpy": "1.26.4"}, packages={"six": ">=1.16"}, disabled=True)
    class F(FlowSpec):
        @conda(libraries={"pandas": "2.2.0"}, disabled=False)
        @step
        def start(self):
            self.next({"a": self.middle, "b": self.end}, condition="kind")

        @retry(times=3)
        @step
        def middle(self):
            self.next(self.end)
    """,
]


@pytest.mark.parametrize("text", PLAIN)
def test_both_ways_of_reading_give_the_same_flow_and_places(tmp_path: Path, text: str) -> None:
    dynamic = read(tmp_path, text)
    static = read_static(*opened(tmp_path / "flow.py"))
    ordered = {item.name: item for item in static.steps}
    assert {item.name: item for item in dynamic.steps} == ordered
    assert dataclasses.replace(dynamic, reading=static.reading, steps=static.steps) == static


def test_the_same_flow_gives_the_same_answer_again(tmp_path: Path) -> None:
    assert read(tmp_path, FLOW_MUTATOR) == read(tmp_path, FLOW_MUTATOR)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("METAFLOW_DEFAULT_DECOSPECS", 'retry pypi:packages={\\"numpy\\":\\"9\\"}'),
        ("METAFLOW_DEFAULT_ENVIRONMENT", "conda"),
        ("METAFLOW_KUBERNETES_CONTAINER_IMAGE", "registry.example.com/default:1"),
        ("METAFLOW_BATCH_CONTAINER_IMAGE", "registry.example.com/default:1"),
        ("METAFLOW_FLOW_CONFIG_VALUE", '{"team": {"numpy": "9", "python": "3.9", "cpu": 9}}'),
        ("METAFLOW_PROFILE", "nowhere"),
    ],
)
def test_metaflows_configuration_of_the_machine_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    text = CONFIGURED.format(how=DEFAULT).replace("    @pypi", "    @batch\n    @pypi")
    before = read(tmp_path, text)
    monkeypatch.setenv(variable, value)
    assert read(tmp_path, text) == before
