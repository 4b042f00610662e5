"""What the agreement tests share: the corpus, and the comparison of our answer with Metaflow's."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mfbazel.analyze import FlowSpec, read_flow
from mfbazel.analyze.errors import NeedsRunningError
from mfbazel.analyze.model import Reading, Step
from mfbazel.analyze.options import ReadOptions
from tests.analyze.metaflow_oracle import Answer, Oracle, StepAnswer

HEAD = "from metaflow import *\nimport metaflow, functools, sys\n"
MAIN = '\n\nif __name__ == "__main__":\n    F()\n'
"""How a flow ``F`` in a test begins and ends."""
CORPUS = Path(__file__).absolute().parent / "corpus"
RUN = {"04-playlist-plus"}
"""Directories of the tutorials that must be run to be known: its @conda_base has ``python=get_python_version()``."""
_HEADER = re.compile(r"^# (expect|roots|stubs|config|config-value|conda-name): (.+)$", re.MULTILINE)
_PAIRS = ("config", "config-value", "conda-name")
_WAY = re.compile(r"^(static|dynamic|refused)(?: \((.+)\))?$")


@dataclass(frozen=True)
class Sample:
    """A flow of the corpus and what its header says of it.

    The header is made of comments in lines of their own::

        # expect: static                       the way that `auto` takes,
        # expect: dynamic (<construct>)        with a part of the reason,
        # expect: refused (<message>)          or a part of our error
        # roots: shared                        further import roots
        # stubs: torch                         modules that need not be installed
        # config: name=data/file.json          for a Config
        # config-value: name={"a": 1}
        # conda-name: name=distribution        empty to leave the conda package out

    Attributes:
        way: ``static``, ``dynamic`` or ``refused``; ``reason``: a part of the reason or the error, may be empty.
    """

    path: Path
    way: str
    reason: str = ""
    roots: tuple[Path, ...] = ()
    stubs: tuple[str, ...] = ()
    configs: tuple[tuple[str, Path], ...] = ()
    config_values: tuple[tuple[str, str], ...] = ()
    conda_names: tuple[tuple[str, str], ...] = ()

    def options(self, reading: str = "auto") -> ReadOptions:
        """Return how our reader is to read it."""
        return ReadOptions(
            reading=reading,
            configs=dict(self.configs),
            config_values=dict(self.config_values),
            conda_names=dict(self.conda_names),
        )

    @property
    def left_out(self) -> set[str]:
        """The conda packages that are to be left out."""
        return {name for name, distribution in self.conda_names if not distribution}

    def ask(self, oracle: Oracle) -> Answer:
        """Return what Metaflow says of it."""
        arguments: list[str] = []
        for name, file in self.configs:
            arguments += ["--config", name, str(file)]
        for name, value in self.config_values:
            arguments += ["--config-value", name, value]
        return oracle.ask(self.path, self.roots, arguments, self.stubs)


def corpus() -> list[Sample]:
    """Return the flows of the corpus."""
    return [_sample(path) for path in sorted(CORPUS.rglob("*_flow.py"))]


def _sample(path: Path) -> Sample:
    found: dict[str, list[str]] = {}
    for key, value in _HEADER.findall(path.read_text(encoding="utf-8")):
        found.setdefault(key, []).append(value.strip())
    way = _WAY.match(found["expect"][0])
    assert way, f"{path}: `# expect: {found['expect'][0]}` is not understood"
    pairs = {key: [item.partition("=")[::2] for item in found.get(key, ())] for key in _PAIRS}
    return Sample(
        path,
        way[1],
        way[2] or "",
        tuple(path.parent / item for item in " ".join(found.get("roots", ())).split()),
        tuple(" ".join(found.get("stubs", ())).split()),
        tuple((name, path.parent / file) for name, file in pairs["config"]),
        tuple((name, value) for name, value in pairs["config-value"]),
        tuple((name, value) for name, value in pairs["conda-name"]),
    )


def differences(flow: FlowSpec, answer: Answer, left_out: Collection[str] = ()) -> list[str]:
    """Return, in a line each, where our reading of a flow and Metaflow's answer differ.

    ``left_out``: conda packages that our reader was told to leave out.
    """
    assert answer.refusal is None, f"Metaflow does not load the flow: {answer.refusal}"
    ours = {step.name: step for step in flow.steps}
    found = list(_differ("flow", {"name": flow.name, "steps": sorted(ours)}, _flow(answer)))
    for name in sorted(ours.keys() & answer.steps.keys()):
        theirs = answer.steps[name]
        found += _differ(f"step '{name}'", _our_step(ours[name]), _their_step(theirs))
        if not ours[name].disabled:
            found += _differ(f"step '{name}'", _our_packages(ours[name]), _their_packages(theirs, left_out))
    if flow.steps and flow.steps[0].name != answer.start:
        found.append(f"flow: the first step is {flow.steps[0].name}, Metaflow says {answer.start}")
    return found + out_of_order(flow)


def _differ(where: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterable[str]:
    for key, value in ours.items():
        if value != theirs[key]:
            yield f"{where}: {key} is {value!r}, Metaflow says {theirs[key]!r}"


def _flow(answer: Answer) -> dict[str, Any]:
    return {"name": answer.name, "steps": sorted(answer.steps)}


def _our_step(step: Step) -> dict[str, Any]:
    return {
        "type": step.type,
        "next": step.next,
        "file": Path(step.file).name,
        "line": step.line,
        "decorators": step.decorators,
        "disabled": step.disabled,
        "python": None if step.disabled else step.python,
        "remote": tuple((remote.decorator, remote.image) for remote in step.remote),
        "cpu": step.requests.cpu,
        "memory": step.requests.memory,
        "gpu": step.requests.gpu,
        "platform": step.platform,
    }


def _their_step(step: StepAnswer) -> dict[str, Any]:
    remotes = [(name, given) for name in ("batch", "kubernetes") for given in step.attributes.get(name, ())]
    gpu = _largest(step, "gpu")
    memory = _largest(step, "memory")
    return {
        "type": step.type,
        "next": step.next if step.type != "end" else (),
        "file": Path(step.file).name,
        "line": step.line,
        "decorators": step.decorators,
        "disabled": step.disabled,
        "python": step.python,
        "remote": tuple((name, given.get("image") or None) for name, given in remotes),
        "cpu": _largest(step, "cpu"),
        "memory": int(memory) if memory is not None else None,
        "gpu": int(gpu) if gpu else None,
        "platform": _platform(step),
    }


def _largest(step: StepAnswer, attribute: str) -> float | None:
    """Return the largest value that is given; to ask for zero is to ask for nothing."""
    given = [item for name in ("resources", "batch", "kubernetes") for item in step.attributes.get(name, ())]
    return max((float(item[attribute]) for item in given if item.get(attribute) is not None), default=0) or None


def _platform(step: StepAnswer) -> str | None:
    """Return what @kubernetes selects nodes by; Metaflow's own conda environments know no other source."""
    for given in step.attributes.get("kubernetes", ()):
        selector = given.get("node_selector") or {}
        if isinstance(selector, str):
            selector = dict(item.split("=", 1) for item in selector.split(","))
        architecture = selector.get("kubernetes.io/arch") or selector.get("beta.kubernetes.io/arch")
        if architecture:
            return f"linux/{architecture}"
    return None


def _our_packages(step: Step) -> dict[str, Any]:
    return {
        "pypi": _requirements(item.requirement for item in step.declared if item.decorator.startswith("pypi")),
        "conda": {
            (item.conda or item.name, _specifiers(item.specifier))
            for item in step.declared
            if item.decorator.startswith("conda")
        },
    }


def _their_packages(step: StepAnswer, left_out: Collection[str]) -> dict[str, Any]:
    specs = (_conda(spec) for spec in step.conda)
    return {"pypi": _requirements(step.pypi), "conda": {item for item in specs if item[0] not in left_out}}


def _requirements(texts: Iterable[str]) -> set[str]:
    """Return requirements in a form in which equal ones are equal."""
    found = set()
    for text in texts:
        requirement = Requirement(text)
        requirement.name = canonicalize_name(requirement.name)
        requirement.specifier = SpecifierSet(_specifiers(str(requirement.specifier)))
        found.add(str(requirement))
    return found


def _conda(spec: str) -> tuple[str, str]:
    """Return name and specifiers of a spec on Micromamba's command line, such as ``pytorch::pytorch==2.4.1``."""
    match = re.fullmatch(r"([A-Za-z0-9_.\-]+)(.*)", spec.rpartition("::")[2])
    assert match, f"{spec} is not understood"
    name, version = match[1], match[2]
    if version == "==":
        version = ""
    if re.match(r"=(?!=)", version):  # conda's fuzzy match
        version = f"=={version[1:].removesuffix('.*')}.*"
    return canonicalize_name(name), _specifiers(version)


def _specifiers(text: str) -> str:
    return ",".join(sorted(str(item) for item in SpecifierSet(text.partition(";")[0].strip())))


def agree(flow: Path, oracle: Oracle) -> None:
    """Check that the flow is read as Metaflow reads it, in each of the ways in which it can be read, and equally."""
    answer = oracle.ask(flow)
    assert answer.lint is None
    found = []
    with contextlib.suppress(NeedsRunningError):
        found.append(read_flow(flow, (), ReadOptions(reading="static")))
    if not found or b"__main__" in flow.read_bytes():
        found.append(read_flow(flow, (), ReadOptions(reading="dynamic")))
    for spec in found:
        assert differences(spec, answer) == []
    assert len({dataclasses.replace(spec, reading=Reading("", "")) for spec in found}) == 1


def out_of_order(flow: FlowSpec) -> list[str]:
    """Return each step that stands before all steps it comes from, so that the order would not be topological."""
    found = []
    place = {step.name: number for number, step in enumerate(flow.steps)}
    before: dict[str, list[str]] = {name: [] for name in place}
    for step in flow.steps:
        for successor in step.next:
            before[successor].append(step.name)
    for name, sources in before.items():
        if sources and all(place[source] >= place[name] for source in sources) and place[name]:
            found.append(f"flow: step '{name}' stands before {', '.join(sources)}")
        if len(sources) > 1 and flow.step(name).type == "join":
            late = [source for source in sources if place[source] > place[name]]
            if late:
                found.append(f"flow: join '{name}' stands before {', '.join(late)}")
    return found


def identifier(item: Sample | Path) -> str:
    """Return a test's name for a flow."""
    return item.path.stem.removesuffix("_flow") if isinstance(item, Sample) else item.parent.name


def distributed(suffix: str) -> list[Path]:
    """Return the files of the installed metaflow distribution whose names end in ``suffix``, vendored ones apart."""
    files = [file for file in metadata.files("metaflow") or () if file.suffix == suffix and "_vendor" not in file.parts]
    return sorted(path for path in (Path(str(file.locate())) for file in files) if path.is_file())


def shipped() -> list[Path]:
    """Return the files of the metaflow distribution that define a flow: a class with a step in it."""
    return [path for path in distributed(".py") if _defines_a_flow(path.read_bytes())]


def _defines_a_flow(content: bytes) -> bool:
    if b"FlowSpec" not in content:
        return False
    classes = (node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.ClassDef))
    functions = (item for node in classes for item in node.body if isinstance(item, ast.FunctionDef))
    decorators = (decorator for function in functions for decorator in function.decorator_list)
    return any(ast.unparse(getattr(item, "func", item)).rpartition(".")[2] == "step" for item in decorators)
