"""The static reader: a flow's class, its steps and their decorators, from the source alone."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from mfbazel.analyze.classes import Class, Classes
from mfbazel.analyze.constants import Evaluator
from mfbazel.analyze.decorators import (
    FLOW_PACKAGES,
    HARDWARE,
    REMOTES,
    STEP_PACKAGES,
    Decorator,
    DecoratorReader,
)
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.graph import Node, order
from mfbazel.analyze.model import Place, Reading, Requests
from mfbazel.analyze.raw import RawFlow, RawStep, Written
from mfbazel.analyze.requirements import Attributes, merge
from mfbazel.analyze.source import FunctionNode, Module, Sources


@dataclass(frozen=True)
class _Found:
    """A step as it stands in the source."""

    module: Module
    function: FunctionNode
    decorators: tuple[Decorator, ...]


def read_static(module: Module, sources: Sources) -> RawFlow:
    """Read the flow in ``module`` without running or importing anything.

    Raises:
        AnalyzeError: there is no flow or there are several, or something in it is wrong.
        NeedsRunningError: it holds what cannot be known without running it.
    """
    try:
        return _Reader(sources, module).read()
    except RecursionError as error:
        raise AnalyzeError(
            f"{module.shown}: constants or classes are defined by themselves: break the circle"
        ) from error


class _Reader:
    def __init__(self, sources: Sources, module: Module) -> None:
        self._sources = sources
        self._module = module
        self._decorators = DecoratorReader(sources, Evaluator(sources))

    def read(self) -> RawFlow:
        classes = Classes(self._sources, self._module)
        flow = classes.flow()
        lineage = classes.lineage((self._module, flow))
        for owner, definition in lineage:
            self._refuse_config(owner, definition)
        bases = self._flow_packages(lineage)
        found = self._steps(lineage)
        if not found:
            raise AnalyzeError(f"{self._module.where(flow)}: flow '{flow.name}' has no steps: mark methods with @step")
        placed = order(self._nodes(found), flow.name)
        steps = tuple(self._step(found[item.name], item.type, item.next, bases) for item in placed)
        return RawFlow(flow.name, self._module.shown, placed[0].name, steps, Reading("static", "nothing needs running"))

    def _refuse_config(self, module: Module, definition: ast.ClassDef) -> None:
        """Refuse what changes decorators while the flow starts: ``Config``."""
        for statement in definition.body:
            value = getattr(statement, "value", None)
            if isinstance(value, ast.Call) and module.qualified(value.func) == "metaflow.Config":
                raise AnalyzeError(
                    f"{module.where(statement)}: flow '{definition.name}' has a `Config`, whose value is not "
                    f"known before the flow "
                    "runs and may decide about packages: use constants of a module instead"
                )

    def _flow_packages(self, lineage: Sequence[Class]) -> dict[str, Attributes[Written]]:
        found: dict[str, tuple[Decorator, Attributes[Written]]] = {}
        for module, definition in reversed(lineage):
            for decorator in self._decorators.of_flow(definition, module):
                if decorator.name not in FLOW_PACKAGES:
                    continue
                if decorator.name in found:
                    other = found[decorator.name][0]
                    raise AnalyzeError(
                        f"{module.where(decorator.node)}: @{decorator.name} stands on flow "
                        f"'{definition.name}' and on its base "
                        f"({other.module.where(other.node)}), which Metaflow refuses: keep one"
                    )
                found[decorator.name] = (decorator, self._decorators.packages(decorator))
        return {name: attributes for name, (_, attributes) in found.items()}

    def _steps(self, lineage: Sequence[Class]) -> dict[str, _Found]:
        """Return the steps in the order of the source, those of bases first."""
        steps: dict[str, _Found] = {}
        for module, definition in reversed(lineage):
            for statement in definition.body:
                if not isinstance(statement, FunctionNode):
                    self._refuse_conditional(module, definition, statement)
                    continue
                decorators = self._decorators.of_step(statement, module)
                if decorators is None:
                    steps.pop(statement.name, None)
                else:
                    steps[statement.name] = _Found(module, statement, tuple(decorators))
        return steps

    def _refuse_conditional(self, module: Module, definition: ast.ClassDef, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ClassDef):
            return
        for node in ast.walk(statement):
            if isinstance(node, FunctionNode) and self._decorators.of_step(node, module) is not None:
                kind = type(statement).__name__.lower()
                raise AnalyzeError(
                    f"{module.where(node)}: flow '{definition.name}': step '{node.name}' is defined under "
                    f"`{kind}`: whether it "
                    "exists cannot be known without running the flow. Define it directly in the class."
                )

    def _nodes(self, found: dict[str, _Found]) -> dict[str, Node]:
        nodes = {}
        for name, item in found.items():
            start, end = self._decorators.step_flags(item.decorators)
            nodes[name] = Node(name, item.function, item.module, start, end)
        return nodes

    def _step(
        self, found: _Found, kind: str, following: tuple[str, ...], bases: dict[str, Attributes[Written]]
    ) -> RawStep:
        own = {item.name: self._decorators.packages(item) for item in found.decorators if item.name in STEP_PACKAGES}
        merged = {name: merge(bases.get(f"{name}_base"), own.get(name)) for name in STEP_PACKAGES}
        gpu = max((self._decorators.gpu(item) for item in found.decorators if item.name in HARDWARE), default=0)
        remotes = (self._decorators.remote(item) for item in found.decorators if item.name in REMOTES)
        return RawStep(
            name=found.function.name,
            type=kind,
            next=following,
            place=Place(found.module.shown, found.function.lineno),
            decorators=tuple(sorted({item.name for item in found.decorators} - {"step"})),
            pypi=merged["pypi"],
            conda=merged["conda"],
            remote=tuple(sorted(remotes, key=lambda item: item.decorator)),
            requests=Requests(gpu=gpu or None),
        )
