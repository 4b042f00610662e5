"""The process behind :mod:`tests.analyze.metaflow_oracle`: it has Metaflow imported and forks for each question.

Called with a directory that it may write in; reads a JSON object per line from standard input and answers with one per
line. It knows nothing of this project.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import socket
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaflow import FlowSpec, parameters
from metaflow._vendor import click
from metaflow.decorators import Decorator, get_all_step_decos
from metaflow.graph import FlowGraph
from metaflow.lint import LintWarn, linter
from metaflow.plugins.pypi import conda_environment
from metaflow.plugins.pypi.micromamba import Micromamba
from metaflow.plugins.pypi.pip import Pip
from metaflow.user_configs.config_parameters import resolve_delayed_evaluator, unpack_delayed_evaluator

Json = dict[str, Any]


def _serve(directory: str) -> None:
    assert get_all_step_decos()["conda"].__module__.startswith("metaflow.plugins."), "an extension replaces @conda"
    for name in ("boto3", "botocore.config", "botocore.exceptions"):  # what else each child would import again
        importlib.import_module(name)
    answers = Path(directory, "answer.json")
    for line in sys.stdin:
        answers.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with Path(directory, "output.txt").open("w", encoding="utf-8") as output:
                    os.dup2(output.fileno(), 1)
                    os.dup2(output.fileno(), 2)
                    answers.write_text(json.dumps(_Child(json.loads(line), Path(output.name)).run()), encoding="utf-8")
                    code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if answers.is_file():
            answer = answers.read_text(encoding="utf-8")
        else:
            output_text = Path(directory, "output.txt").read_text(encoding="utf-8")
            answer = json.dumps({"refusal": f"process ended with {status}: {output_text[-2000:]}"})
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


class _Child:
    """Runs one flow's command line in this process, which is good for nothing else afterwards."""

    def __init__(self, question: Json, output: Path) -> None:
        self.question = question
        self.output = output
        self.found: Json | None = None
        self.refusal: str | None = None

    def run(self) -> Json:
        flow = Path(self.question["flow"])
        os.chdir(flow.parent)
        sys.path[0] = str(flow.parent)
        sys.path[1:1] = self.question["roots"]
        sys.argv = [str(flow), "--quiet", "--environment=conda", "--datastore=s3", "--datastore-root=s3://x/y"]
        sys.argv += ["--metadata=local", "--event-logger=nullSidecarLogger", "--monitor=nullSidecarMonitor"]
        sys.argv += [*self.question["arguments"], "output-raw", "--json"]
        self._prepare()
        try:
            members = runpy.run_path(str(flow), run_name="__main__")
            if self.found is None and self.refusal is None:
                self._start(members)
        except SystemExit as end:
            if end.code:
                self.refusal = f"exit status {end.code}: {self.output.read_text(encoding='utf-8')}"
        except BaseException as error:
            self.refusal = f"{type(error).__name__}: {error}"
        if self.found is None:
            return {"refusal": self.refusal or "Metaflow ended without an answer"}
        return {**self.found, "refusal": self.refusal or self.found["refusal"]}

    def _start(self, members: Json) -> None:
        """Start the flow of a file that does not do so itself."""
        flows = [item for item in members.values() if isinstance(item, type) and issubclass(item, FlowSpec)]
        flows = [item for item in flows if item.__module__ == "__main__" and item is not FlowSpec]
        leaves = [item for item in flows if not any(other is not item and issubclass(other, item) for other in flows)]
        sys.modules["__main__"].__dict__.update(members)
        if len(leaves) != 1:
            raise LookupError(f"{len(leaves)} flows")
        leaves[0]()

    def _prepare(self) -> None:
        def refuse(*arguments: Any) -> None:
            raise ConnectionRefusedError(f"the oracle asks no network: {arguments}")

        socket.socket.connect = refuse  # type: ignore[method-assign]
        FlowSpec.__init__ = _start_flow
        conda_environment.get_pinned_conda_libs = lambda *_: {}
        Decorator.external_init = _remember_given
        FlowGraph.output_steps = lambda graph: self._look(graph)
        if self.question["stubs"]:
            sys.meta_path.append(_Stubs(self.question["stubs"]))

    def _look(self, graph: Any) -> tuple[Json, list[str]]:
        """Stand in for ``FlowGraph.output_steps`` and describe what the command line has made of the flow."""
        state = click.get_current_context().obj
        self.found = {"name": graph.name, "start": graph.start_step, "steps": {}, "refusal": None, "lint": _lint(graph)}
        for step in state.flow:
            try:
                self.found["steps"][step.name] = _step(graph[step.name], step, state)
            except Exception as error:
                self.found["refusal"] = f"{step.name}: {type(error).__name__}: {error}"
        return {}, []


_initialize = FlowSpec.__init__


def _start_flow(flow: FlowSpec, use_cli: bool = True) -> None:
    """Stand in for ``FlowSpec.__init__``: the same, but errors are raised instead of printed.

    The module of the command line is made for the flow in hand while it is imported, so it is imported only here.
    """
    _initialize(flow, use_cli=False)
    if use_cli:
        with parameters.flow_context(type(flow)):
            from metaflow import cli

            cli.main(flow, handle_exceptions=False)


def _lint(graph: Any) -> str | None:
    try:
        linter.run_checks(graph)
    except LintWarn as error:
        return str(error)
    return None


_external_init = Decorator.external_init


def _remember_given(decorator: Any) -> None:
    """Stand in for ``Decorator.external_init``: keep what the user gave before Metaflow fills in and merges."""
    if not decorator._ran_init:
        attributes, unpacked = unpack_delayed_evaluator(dict(decorator.attributes))
        attributes = resolve_delayed_evaluator(attributes, to_dict=True)
        given = {*decorator._user_defined_attributes, *unpacked}
        given |= {key for key, value in attributes.items() if value != decorator.defaults.get(key)}  # by mutators
        decorator.given = {key: attributes[key] for key in sorted(given)}
    _external_init(decorator)


def _step(node: Any, step: Any, state: Any) -> Json:
    """Describe one step: ``node`` of the graph, ``step`` the function with its live decorators."""
    written = [item for item in step.decorators if item.statically_defined or item.inserted_by]
    attributes: dict[str, list[Json]] = {}
    for decorator in written:
        attributes.setdefault(decorator.name, []).append(json.loads(json.dumps(decorator.given, default=repr)))
    environment = state.environment.get_environment(step)
    python = environment["conda"]["python"] if environment else None
    return {
        "name": node.name,
        "type": node.type,
        "next": list(node.out_funcs),
        "file": node.source_file,
        "line": node.func_lineno,
        "decorators": sorted(attributes),
        "attributes": attributes,
        "disabled": not environment,
        "python": None if python == ".".join(map(str, sys.version_info[:3])) else python,
        "pypi": _pip_arguments(environment["pypi"]) if "pypi" in environment else [],
        "conda": _micromamba_arguments(environment["conda"]) if environment else [],
    }


class _Called(Exception):
    """A package manager was about to be run with these arguments."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)


class _Micromamba(Micromamba):  # type: ignore[misc]
    """Metaflow's own, which runs nothing."""

    def __init__(self) -> None:
        self.logger = print

    def info(self) -> Json:
        return {"channels": []}

    def path_to_environment(self, *_: Any) -> str:
        return "/nowhere"

    def _call(self, args: Sequence[str], *_: Any, **__: Any) -> Any:
        if args[0] == "list":
            return [{"name": "python", "version": "3.12.1"}]
        raise _Called(args)


class _Pip(Pip):  # type: ignore[misc]
    """Metaflow's own, which runs nothing."""

    def indices(self, *_: Any) -> tuple[None, list[str]]:
        return None, []

    def _call(self, prefix: str, args: Sequence[str], *_: Any, **__: Any) -> Any:  # noqa: ARG002
        raise _Called(args)


def _pip_arguments(environment: Json) -> list[str]:
    """Return the requirements on the command line of ``pip install``."""
    if not environment["packages"]:
        return []
    try:
        _Pip(_Micromamba()).solve("id", environment["packages"], environment["python"], "linux-64")
    except _Called as call:
        return call.arguments[-len(environment["packages"]) :]
    raise AssertionError("Metaflow's Pip did not call pip")


def _micromamba_arguments(environment: Json) -> list[str]:
    """Return the specs on the command line of ``micromamba create``, Python apart."""
    if not environment["packages"]:
        return []
    try:
        _Micromamba().solve("id", environment["packages"], None, "linux-64")
    except _Called as call:
        return call.arguments[-len(environment["packages"]) :]
    raise AssertionError("Metaflow's Micromamba did not call micromamba")


def _stub(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__init__": lambda *_, **__: None})


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that are not installed; whatever is asked of one is there."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:  # noqa: ARG002
        if name.partition(".")[0] not in self._names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = _stub  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


if __name__ == "__main__":
    _serve(sys.argv[1])
