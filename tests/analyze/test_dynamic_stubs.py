"""Packages that are not there while a flow is read: what stands in for them, and where that is not enough."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze.dynamic import read_dynamic
from mfbazel.analyze.errors import DynamicError
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.source import Sources, parse

FLOW = """\
from metaflow import Config, FlowSpec, batch, config_expr, pypi, resources, step
{top}

class F({base}):
    {body}
    {decorators}
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    F()
"""
"""The code of ``top`` starts at line 2."""


def read(path: Path, top: str, decorators: str = "", body: str = "", base: str = "FlowSpec") -> RawFlow:
    file = path / "flow.py"
    text = FLOW.format(top=textwrap.dedent(top), decorators=decorators, body=body, base=base)
    file.write_text(text, encoding="utf-8")
    sources, module = Sources([path]), parse(file, file.name)
    sources.add(module)
    return read_dynamic(module, sources, ReadOptions(timeout=30), "a test asks")


def versions(flow: RawFlow) -> dict[str, str]:
    attributes = next(step.pypi for step in flow.steps if step.name == "start")
    assert attributes is not None
    return {name: item.version for name, item in attributes.packages.items()}


def refused(path: Path, top: str, decorators: str = "", body: str = "", base: str = "FlowSpec") -> str:
    with pytest.raises(DynamicError) as error:
        read(path, top, decorators, body, base)
    return str(error.value)


def test_missing_packages_may_be_used_in_every_way_that_loading_a_file_does(tmp_path: Path) -> None:
    top = """\
    import abc, dataclasses, enum, functools, typing
    import pandas as pd, torch.nn as nn, torch.nn.functional
    import google.cloud.storage as storage
    from sklearn.base import BaseEstimator, TransformerMixin
    from pydantic import BaseModel, Field, validator
    from somewhere import *

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2) @ torch.eye(3)

    class Both(BaseEstimator, TransformerMixin, abc.ABC if False else object):
        pass

    class Settings(BaseModel):
        name: str = Field(default="x")

        @validator("name", pre=True)
        def check(cls, value):
            return value

    @pd.api.extensions.register_dataframe_accessor("mine")
    class Accessor:
        pass

    @torch.no_grad()
    def predict(frame: pd.DataFrame | None, other: typing.Optional[pd.Series] = None) -> list[pd.DataFrame]:
        return [frame]

    @torch.jit.script
    def scripted(x):
        return x

    @dataclasses.dataclass
    class Held:
        frame: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    with torch.device("cpu") as device, pd.option_context("display.max_rows", 5):
        net = Net()
        net.to(device).eval()
    FRAME = pd.DataFrame({"a": [1]})
    FRAME["b"] = FRAME["a"] * 2 + 1 - (-FRAME.a) ** 2
    del FRAME["b"]
    ROWS = [row for row in FRAME.itertuples()]
    assert predict(1) == [1] and scripted(2) == 2 and Accessor.__name__ == "Accessor"
    assert Settings(name="y") and net.anything and Held()
    assert not isinstance("text", pd.DataFrame) and len(FRAME) == 0 and "x" not in FRAME and FRAME in {FRAME}
    pd.options.mode.chained_assignment = None
    partial = functools.partial(pd.merge, how="left")
    storage.Client().bucket("x")
    Settings.model_validate({})
    """
    flow = read(tmp_path, top, '@pypi(packages={"six": "1.16"})')
    assert versions(flow) == {"six": "1.16"}


def test_a_stub_in_the_class_of_the_flow_is_no_step_and_no_parameter(tmp_path: Path) -> None:
    flow = read(tmp_path, "import torch", body="model = torch.nn.Linear(1, 2); layer = torch.nn.Linear")
    assert [step.name for step in flow.steps] == ["start", "end"]


@pytest.mark.parametrize(
    ("decorator", "attribute", "name"),
    [
        ("@pypi(packages={'torch': torch.__version__})", "packages", "torch.__version__"),
        ("@pypi(packages={'torch': f'>={torch.__version__}'})", "packages", "torch.__version__"),
        ("@pypi(packages={torch.name_of(): '1'})", "packages", "torch.name_of()"),
        ("@pypi(python=torch.python)", "python", "torch.python"),
        ("@pypi(disabled=torch.flag)", "disabled", "torch.flag"),
        ("@batch(image='registry.example.com/x:' + str(torch.__version__))", "image", "torch.__version__"),
        ("@resources(cpu=torch.get_num_threads())", "cpu", "torch.get_num_threads()"),
    ],
)
def test_an_attribute_that_comes_from_a_missing_package_is_refused_by_name(
    tmp_path: Path, decorator: str, attribute: str, name: str
) -> None:
    message = refused(tmp_path, "import torch", decorator)
    kind = decorator.partition("(")[0]
    assert f"flow.py:6: step 'start': {kind}: `{attribute}` comes from `{name}`" in message
    assert "the package `torch` is not installed while the flow is read" in message


def test_where_a_missing_package_decided_the_report_says_so(tmp_path: Path) -> None:
    top = 'import torch\nVERSION = "1" if torch.cuda.is_available() else "2"'
    flow = read(tmp_path, top, '@pypi(packages={"torch": VERSION})')
    assert versions(flow) == {"torch": "2"}
    assert "it decided on `torch.cuda.is_available()`, which is not known here (flow.py:3)" in flow.reading.reason


def test_packages_made_of_the_rows_of_something_unknown_are_refused(tmp_path: Path) -> None:
    top = "import pandas\nPACKAGES = {row.name: row.version for row in pandas.read_csv('packages.csv').itertuples()}"
    assert "`packages` comes from `pandas.read_csv()" in refused(tmp_path, top, "@pypi(packages=PACKAGES)")


def test_unknown_values_are_unpacked_to_as_many_names_as_there_are(tmp_path: Path) -> None:
    top = "import torch\nmajor, (minor, patch), *rest = torch.version(), torch.rest(), 1, 2\na, b, c = torch.shape"
    assert "`packages` comes from `torch.shape" in refused(tmp_path, top, "@pypi(packages={'torch': c})")


def test_a_model_of_a_missing_package_keeps_its_arguments_and_the_report_says_so(tmp_path: Path) -> None:
    top = """\
    from pydantic import BaseModel

    class Settings(BaseModel):
        version: str = "1.0"

    SETTINGS = Settings(version="2.0")
    """
    flow = read(tmp_path, top, '@pypi(packages={"numpy": SETTINGS.version})')
    assert versions(flow) == {"numpy": "2.0"}
    assert "`pydantic.BaseModel`, which is not known here (flow.py:7)" in flow.reading.reason


OPTIONAL = """\
try:
    import cupy
except {kind}:
    cupy = None
VERSION = "gpu" if cupy else "cpu"
"""


@pytest.mark.parametrize("kind", ["ImportError", "ModuleNotFoundError", "Exception", "(ImportError, OSError)"])
def test_a_package_that_the_flow_does_without_is_missing(tmp_path: Path, kind: str) -> None:
    flow = read(tmp_path, OPTIONAL.format(kind=kind), '@pypi(packages={"x": "1+" + VERSION})')
    assert versions(flow) == {"x": "1+cpu"}


def test_a_package_that_the_flow_does_not_do_without_is_stubbed(tmp_path: Path) -> None:
    top = 'try:\n    import cupy\nexcept ImportError as error:\n    raise RuntimeError("install cupy") from error'
    assert read(tmp_path, top).name == "F"


def test_asking_whether_a_package_is_there_says_no(tmp_path: Path) -> None:
    top = 'import importlib.util\nVERSION = "1" if importlib.util.find_spec("numpy") else "2"'
    assert versions(read(tmp_path, top, '@pypi(packages={"x": VERSION})')) == {"x": "2"}


def test_a_package_that_happens_to_be_installed_here_is_stubbed_all_the_same(tmp_path: Path) -> None:
    top = "import pytest, hypothesis, rich, zstandard\nassert str(pytest.__version__).startswith('⟨unknown')"
    assert "pytest" in sys.modules
    assert read(tmp_path, top).name == "F"


def test_what_metaflow_itself_needs_is_the_real_thing(tmp_path: Path) -> None:
    top = """\
    import importlib
    from packaging.version import Version
    import requests, typing_extensions, yaml
    VERSION = yaml.safe_load("numpy: '1.0'")["numpy"]
    assert Version(VERSION) < Version("1.1") and requests.codes.ok == 200
    assert importlib.import_module("tomllib").loads("a = 1") == {"a": 1}
    """
    assert versions(read(tmp_path, top, '@pypi(packages={"numpy": VERSION})')) == {"numpy": "1.0"}


def test_a_first_party_module_wins_over_an_installed_package_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "packaging.py").write_text('VERSION = "7"\n')
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text('VERSION = "9"\n')
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "part.py").write_text('VERSION = "8"\n')
    top = "import packaging, torch\nfrom space.part import VERSION"
    decorator = '@pypi(packages={"x": torch.VERSION, "y": VERSION, "z": packaging.VERSION})'
    assert versions(read(tmp_path, top, decorator)) == {"x": "9", "y": "8", "z": "7"}


def test_a_first_party_module_in_the_way_of_metaflow_is_told(tmp_path: Path) -> None:
    (tmp_path / "requests.py").write_text('VERSION = "first-party"\n')
    message = refused(tmp_path, "")
    assert "Metaflow cannot be imported where the flow is read" in message
    assert "requests" in message


def test_a_directory_of_data_does_not_hide_a_missing_package(tmp_path: Path) -> None:
    (tmp_path / "pandas").mkdir()
    (tmp_path / "pandas" / "frame.csv").touch()
    assert read(tmp_path, "import pandas\nFRAME = pandas.DataFrame()").name == "F"


@pytest.mark.parametrize("base", ["company.BaseFlow", "FlowSpec, company.Mixin", "company.Mixin, FlowSpec"])
def test_a_flow_that_derives_from_a_missing_package_is_refused(tmp_path: Path, base: str) -> None:
    message = refused(tmp_path, "import company", base=base)
    name = base.replace("FlowSpec", "").strip(", ")
    assert f"`{name}`" in message
    assert "of a package that is not installed while the flow is read" in message
    assert "flow.py" in message


def test_a_parser_of_a_missing_package_is_refused_by_name(tmp_path: Path) -> None:
    body = 'cfg = Config("cfg", default_value="a: 1", parser="omegaconf.OmegaConf.create")'
    message = refused(tmp_path, "", body=body)
    assert "omegaconf.OmegaConf.create" in message


def test_a_config_parsed_by_a_missing_package_is_refused(tmp_path: Path) -> None:
    top = "import omegaconf\n\ndef parse(text):\n    return {'version': omegaconf.load(text).version}"
    body = 'cfg = Config("cfg", default_value="a: 1", parser=parse)'
    message = refused(tmp_path, top, '@pypi(packages={"numpy": config_expr("cfg.version")})', body)
    assert "`packages` comes from `omegaconf.load().version`" in message


@pytest.mark.parametrize("decorator", ["team.defaults", "team.defaults(python='3.14')", "team.of('x').defaults"])
def test_a_decorator_of_a_missing_package_above_step_is_refused(tmp_path: Path, decorator: str) -> None:
    message = refused(tmp_path, "import team", decorators=f"@{decorator}")
    assert message.startswith("flow.py:")
    assert "could change packages, but `team` is not there" in message
    assert "add its target to `deps`" in message


def test_a_decorator_of_a_missing_package_on_the_flow_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "import team\n\n@team.defaults\nclass Base(FlowSpec):\n    pass\n", base="Base")
    assert message.startswith("flow.py:4: the decorator `team.defaults` could change packages")


def test_a_decorator_of_a_missing_package_below_step_only_wraps_the_function(tmp_path: Path) -> None:
    flow = read(
        tmp_path,
        "import team\n\nclass Base(FlowSpec):\n    @step\n    @team.timed\n    def start(self):\n        pass\n",
    )
    assert [step.name for step in flow.steps] == ["start", "end"]


def test_a_missing_first_party_module_says_where_it_is_declared(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "__init__.py").write_text("")
    message = refused(tmp_path, "import team.defaults")
    assert message == (
        "flow.py:2: the flow raised while it was loaded: ModuleNotFoundError: No module named 'team.defaults'. "
        "If that is your own code, add its target to `deps` of metaflow_flow."
    )
