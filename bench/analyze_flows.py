"""Generates flows for the benchmarks of the analyzer: ten steps each, the same ones for the same number."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

_PER_PACKAGE = 25
_STEPS = ("start", "load", "clean", "split", "train", "tune", "collect", "evaluate", "report", "end")
_PACKAGES = (
    ("pandas", "pandas", "2.3.3"),
    ("numpy", "numpy", ">=2,<3"),
    ("scikit-learn", "sklearn", "1.7.2"),
    ("requests", "requests", ""),
    ("pyarrow", "pyarrow", "~=21.0"),
    ("xgboost", "xgboost", "3.0.5"),
    ("matplotlib", "matplotlib", "!=3.10.2"),
    ("pydantic", "pydantic", "2.11.9"),
    ("polars[pandas]", "polars", "1.33.1"),
)
_MODES = ('"fit"', '"tune"')
_VERSIONS = '''"""Versions that all flows share."""

PANDAS = "2.3.3"
COMMON = {"requests": "2.32.5", "pyarrow": ">=21"}
TRAINING = {**COMMON, "scikit-learn": "1.7.2", "pandas": PANDAS}
PYTHON = "3.12"
'''
_BASE = '''"""What all flows have in common."""

from metaflow import FlowSpec, Parameter, pypi_base

from shared.versions import PYTHON


@pypi_base(packages={"tqdm": "4.67.1"}, python=PYTHON)
class TeamFlow(FlowSpec):
    """A flow of the team."""

    region = Parameter("region", default="eu")

    def note(self, text):
        import structlog

        structlog.get_logger().info(text, region=self.region)
'''
_HELPERS = '''"""Helpers of one package of flows."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

try:
    import orjson
except ImportError:
    orjson = None

LOG = logging.getLogger(__name__)


class Table:
    """Rows with a schema."""

    def __init__(self, rows):
        self.rows = list(rows)

    def frame(self):
        import pandas

        return pandas.DataFrame(self.rows)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.rows))


def fetch(url: str) -> Table:
    import requests

    LOG.info("fetching %s", url)
    return Table(requests.get(url, timeout=10).json())


def fit(table: Table, depth: int = 3):
    from sklearn.ensemble import RandomForestRegressor

    frame = table.frame()
    return RandomForestRegressor(max_depth=depth).fit(frame.drop(columns=["y"]), frame["y"])


def plot(values) -> bytes:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot(list(values))
    return bytes(figure.canvas.tostring_argb())
'''


def write_flows(directory: Path, count: int) -> list[Path]:
    """Write ``count`` flows with their first-party modules below ``directory``, which is their import root.

    Every flow has ten steps (in a row, or with a split, a foreach or a switch), packages of @pypi or @conda as literals
    and as constants of another module, requests for hardware, imports in steps and at the top, helpers of its own
    package and, one in four, a base class of another one.

    Returns:
        The files of the flows.
    """
    _write(directory / "shared" / "__init__.py", "")
    _write(directory / "shared" / "versions.py", _VERSIONS)
    _write(directory / "shared" / "base.py", _BASE)
    files = []
    for number in range(count):
        package = directory / f"team_{number // _PER_PACKAGE:02}"
        if number % _PER_PACKAGE == 0:
            _write(package / "helpers.py", _HELPERS)
        files.append(package / f"flow_{number:04}.py")
        _write(files[-1], flow(number))
    return files


def flow(number: int) -> str:
    """Return the source of the flow ``number``."""
    choose = random.Random(number)
    base = "TeamFlow" if number % 4 == 0 else "FlowSpec"
    lines = [
        f'"""Flow {number} of the benchmark."""',
        "",
        "import json",
        "from datetime import datetime",
        "",
        "from metaflow import FlowSpec, batch, card, catch, conda, current, environment, kubernetes, pypi, resources",
        "from metaflow import retry, step, timeout",
        "",
        *(["from shared.base import TeamFlow"] if base == "TeamFlow" else []),
        "from shared.versions import COMMON, PANDAS, TRAINING",
        "import helpers",
        "",
        f"EXTRA = {{**COMMON, 'tqdm': '4.67.{number % 7}'}}",
        "",
        "",
        f"class Flow{number}({base}):",
        f'    """Reads, trains and reports, {choose.choice(("daily", "weekly", "monthly"))}."""',
    ]
    for name, arguments, transition in _graph(choose):
        lines += ["", *_step(name, arguments, transition, choose, conda=base == "FlowSpec")]
    return "\n".join([*lines, "", "", 'if __name__ == "__main__":', f"    Flow{number}()", ""])


def _graph(choose: random.Random) -> list[tuple[str, str, str]]:
    """Return name, arguments and transition of each of the ten steps."""
    following = {name: f"self.{after}" for name, after in itertools.pairwise(_STEPS)}
    joins = []
    match choose.choice(("row", "split", "foreach", "switch")):
        case "split":
            following |= {"split": "self.train, self.tune", "train": "self.collect"}
            joins = ["collect"]
        case "foreach":
            following |= {"split": 'self.train, foreach="parts"'}
            joins = ["collect"]
        case "switch":
            following |= {"split": '{"fit": self.train, "tune": self.tune}, condition="mode"', "train": "self.collect"}
    return [(name, "self, inputs" if name in joins else "self", following.get(name, "")) for name in _STEPS]


def _step(name: str, arguments: str, transition: str, choose: random.Random, *, conda: bool) -> Sequence[str]:
    packages = choose.sample(_PACKAGES, choose.randint(1, 4))
    lines = [*_decorators(packages, choose, conda=conda), "@step", f"def {name}({arguments}):"]
    if len(arguments) > len("self"):
        lines.append("    self.merge_artifacts(inputs, exclude=['table'])")
    lines += [f"    import {module}" for _, module, _ in packages]
    lines += [
        "    self.started = datetime.now().isoformat()",
        f"    self.parts = [part for part in range({choose.randint(2, 90)}) if part % 2]",
        f"    self.mode = {choose.choice(_MODES)}",
    ]
    match choose.randrange(4):
        case 0:
            lines += ["    self.table = helpers.fetch(f'https://example.com/{current.run_id}')"]
        case 1:
            lines += ["    try:", "        self.model = helpers.fit(self.table)", "    except ValueError as error:"]
            lines += ["        print(f'no model: {error}')", "        self.model = None"]
        case 2:
            lines += ["    for part in self.parts:", "        if part > 7:", "            helpers.plot([part])"]
    lines += ["    print(json.dumps({'step': current.step_name, 'parts': self.parts[:3]}))"]
    lines += [f"    self.next({transition})"] if transition else []
    return [f"    {line}" for line in lines]


def _decorators(packages: Sequence[tuple[str, str, str]], choose: random.Random, *, conda: bool) -> list[str]:
    lines = []
    if choose.random() < 0.3:
        lines.append(f"@retry(times={choose.randint(1, 4)})")
    if choose.random() < 0.2:
        lines.append('@environment(vars={"OMP_NUM_THREADS": "2"})')
    match choose.randrange(6):
        case 0:
            lines.append(f"@batch(cpu={choose.randint(1, 8)}, memory={choose.randint(1, 16) * 1024})")
        case 1:
            lines.append(
                f'@kubernetes(gpu={choose.randint(0, 2)}, image="registry.example.com/ml:1.{choose.randint(0, 9)}")'
            )
        case 2:
            lines.append(f"@resources(cpu={choose.randint(1, 8)}, memory=8000)")
    entries = "".join(f'\n    "{name}": "{version}",' for name, _, version in packages)
    match choose.randrange(5 if conda else 4):
        case 0:
            lines.append("@pypi(packages=TRAINING)")
        case 1:
            lines.append('@pypi(packages={**EXTRA, "pandas": PANDAS}, python="3.13")')
        case 2:
            lines += f"@pypi(packages={{{entries}\n}})".split("\n")
        case 4:
            plain = entries.replace("[pandas]", "")
            lines += f"@conda(libraries={{{plain}\n}})".split("\n")
    return lines


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
