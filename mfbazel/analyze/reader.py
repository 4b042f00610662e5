"""The static reader: a flow's class, its steps and their decorators, from the source alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mfbazel.analyze.catalog import FLOW_PACKAGES, HARDWARE, PARALLEL, REMOTES, REPEATABLE, STEP, STEP_PACKAGES
from mfbazel.analyze.classes import Class, Classes
from mfbazel.analyze.constants import Evaluator, in_line
from mfbazel.analyze.decorators import Decorator, DecoratorReader
from mfbazel.analyze.errors import AnalyzeError, NeedsRunningError
from mfbazel.analyze.graph import Node, order
from mfbazel.analyze.hardware import requests_of
from mfbazel.analyze.model import Place, Reading
from mfbazel.analyze.mutations import rewritten
from mfbazel.analyze.names import Names, Scope, blocks
from mfbazel.analyze.raw import RawFlow, RawStep, Written
from mfbazel.analyze.requirements import Attributes, merge
from mfbazel.analyze.source import FunctionNode, Module, Sources, code_of


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
        RecursionError: it is nested too deeply.
    """
    return _Reader(sources, module).read()


class _Reader:
    def __init__(self, sources: Sources, module: Module) -> None:
        self._module = module
        self._names = Names(sources)
        self._decorators = DecoratorReader(self._names, Evaluator(self._names))
        self._classes = Classes(sources, module)

    def read(self) -> RawFlow:
        flow = self._classes.flow()
        lineage = self._classes.lineage((self._module, flow))
        self._check_unchanged(lineage)
        bases = self._flow_packages(lineage)
        found = self._steps(lineage)
        if not found:
            raise AnalyzeError(f"{self._module.where(flow)}: flow '{flow.name}' has no steps: mark methods with @step")
        placed = order(self._nodes(found), flow.name)
        steps = tuple(self._step(item.name, found[item.name], item.type, item.next, bases) for item in placed)
        return RawFlow(flow.name, self._module.shown, placed[0].name, steps, Reading("static", "nothing needs running"))

    def _check_unchanged(self, lineage: Sequence[Class]) -> None:
        """Refuse ``Flow.step = …`` and ``setattr(Flow, …)`` beside the classes."""
        names = {definition.name for _, definition in lineage}
        line = rewritten(self._module)
        if line is not None:
            raise NeedsRunningError(
                f"{self._module.shown}:{line}: the names of the file are rewritten while it is loaded. Let the flow be "
                "read dynamically, or assign them by name.",
                f"names that are rewritten in line {line}",
            )
        for module in {id(module): module for module, _ in lineage}.values():
            for node in _top_level(module.tree.body):
                if _changes(node, names) and not isinstance(node, ast.Import | ast.ImportFrom):
                    raise NeedsRunningError(
                        f"{module.where(node)}: the class of the flow may be changed after it was made, "
                        f"`{code_of(node)}`. Let the flow be read dynamically, or write it into the class.",
                        f"what is done with the class in {in_line(node, module)}",
                    )

    def _flow_packages(self, lineage: Sequence[Class]) -> dict[str, Attributes[Written]]:
        found: dict[str, tuple[Decorator, Module]] = {}
        for module, definition in reversed(lineage):
            for decorator in self._decorators.of_flow(definition, Scope(module)):
                if not self._classes.is_flow((module, definition)):
                    raise AnalyzeError(
                        f"{decorator.place}: @{decorator.name} stands on '{definition.name}', which is no FlowSpec, "
                        "and Metaflow refuses it: move it to the flow"
                    )
                if decorator.name in found and decorator.name not in REPEATABLE:
                    other = found[decorator.name][0]
                    raise AnalyzeError(
                        f"{decorator.place}: @{decorator.name} stands on flow '{definition.name}' and on its base "
                        f"({other.place}), which Metaflow refuses: keep one"
                    )
                found[decorator.name] = (decorator, module)
        return {
            name: self._decorators.packages(decorator)
            for name, (decorator, _) in found.items()
            if name in FLOW_PACKAGES
        }

    def _steps(self, lineage: Sequence[Class]) -> dict[str, _Found]:
        """Return the steps in the order of the source, those of bases first."""
        steps: dict[str, _Found] = {}
        for module, definition in reversed(lineage):
            scope = Scope(module, definition)
            for statement in definition.body:
                if isinstance(statement, FunctionNode):
                    decorators = self._decorators.of_step(statement, scope)
                    steps.pop(statement.name, None)
                    if decorators is not None:
                        steps[statement.name] = _Found(module, statement, tuple(decorators))
                else:
                    self._rebind(steps, statement, scope, definition)
        return steps

    def _rebind(self, steps: dict[str, _Found], statement: ast.stmt, scope: Scope, definition: ast.ClassDef) -> None:
        """Take into account what another statement of the class does to steps."""
        if any(blocks(statement)) and not isinstance(statement, ast.ClassDef):
            self._refuse_conditional(steps, statement, scope, definition)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            found = self._named(statement.value, scope)
            if found is not None:
                steps.update(dict.fromkeys(_names_bound(statement), found))
                return
            self._refuse_made(steps, statement.value, statement, scope)
        for name in _names_bound(statement):
            steps.pop(name, None)

    def _named(self, value: ast.expr, scope: Scope) -> _Found | None:
        """Return the step that ``value`` (``other`` or ``Other.step``) names, if it names one."""
        if not isinstance(value, ast.Name | ast.Attribute):
            return None
        found = self._names.definition(value, scope)
        if found is None or not isinstance(found.binding, FunctionNode):
            return None
        decorators = self._decorators.of_step(found.binding, found.scope)
        return None if decorators is None else _Found(found.scope.module, found.binding, tuple(decorators))

    def _refuse_conditional(
        self, steps: Mapping[str, _Found], statement: ast.stmt, scope: Scope, definition: ast.ClassDef
    ) -> None:
        for node in ast.walk(statement):
            is_step = isinstance(node, FunctionNode) and (node.name in steps or self._decorators.is_step(node, scope))
            if is_step or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in steps):
                name = node.name if isinstance(node, FunctionNode) else getattr(node, "id", "")
                kind = type(statement).__name__.lower()
                raise NeedsRunningError(
                    f"{scope.where(node)}: flow '{definition.name}': step '{name}' is defined under `{kind}`: whether "
                    "it exists cannot be known without running the flow. Define it directly in the class.",
                    f"the step {name} under `{kind}` in {in_line(node, scope.module)}",
                )

    def _refuse_made(self, steps: Mapping[str, _Found], value: ast.expr, statement: ast.stmt, scope: Scope) -> None:
        """Refuse ``name = step(…)``, another name for a step, and a step that a first-party function makes."""
        for node in ast.walk(value):
            if isinstance(node, ast.Name | ast.Attribute):
                names_step = (isinstance(node, ast.Name) and node.id in steps) or self._may_inherit(node, value, scope)
                if names_step or self._names.qualified(node, scope) in STEP or self._makes_steps(node, value, scope):
                    raise NeedsRunningError(
                        f"{scope.where(statement)}: `{code_of(statement)}` may make a step. Let the flow be read "
                        "dynamically, or define the step with `def`.",
                        f"a step made by an assignment in {in_line(statement, scope.module)}",
                    )

    def _may_inherit(self, node: ast.expr, value: ast.expr, scope: Scope) -> bool:
        """Say whether ``value`` is an attribute of a first-party class that the class itself does not define."""
        if node is not value or not isinstance(node, ast.Attribute):
            return False
        owner = self._names.definition(node.value, scope)
        return (
            owner is not None
            and isinstance(owner.binding, ast.ClassDef)
            and self._names.definition(node, scope) is None
        )

    def _makes_steps(self, node: ast.expr, value: ast.expr, scope: Scope) -> bool:
        if not isinstance(value, ast.Call) or node is not value.func:
            return False
        found = self._names.definition(node, scope)
        if found is None or not isinstance(found.binding, FunctionNode):
            return False
        return any(
            self._names.qualified(item, found.scope) in STEP
            for item in ast.walk(found.binding)
            if isinstance(item, ast.Name | ast.Attribute)
        )

    def _nodes(self, found: dict[str, _Found]) -> dict[str, Node]:
        nodes = {}
        for name, item in found.items():
            start, end = self._decorators.step_flags(item.decorators)
            parallel = any(decorator.name in PARALLEL for decorator in item.decorators)
            nodes[name] = Node(name, item.function, item.module, start, end, parallel)
        return nodes

    def _step(
        self, name: str, found: _Found, kind: str, following: tuple[str, ...], bases: dict[str, Attributes[Written]]
    ) -> RawStep:
        read = self._decorators
        own = {item.name: read.packages(item) for item in found.decorators if item.name in STEP_PACKAGES}
        merged = {key: merge(bases.get(f"{key}_base"), own.get(key)) for key in STEP_PACKAGES}
        remotes = [item for item in found.decorators if item.name in REMOTES]
        platforms = (read.platform(item) for item in remotes if item.name == "kubernetes")
        return RawStep(
            name=name,
            type=kind,
            next=following,
            place=Place(found.module.shown, found.function.lineno),
            decorators=tuple(sorted({item.name for item in found.decorators} - {"step"})),
            pypi=merged["pypi"],
            conda=merged["conda"],
            remote=tuple(sorted((read.remote(item) for item in remotes), key=lambda item: item.decorator)),
            requests=requests_of(read.hardware(item) for item in found.decorators if item.name in HARDWARE),
            platform=next((platform for platform in platforms if platform), None),
        )


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the simple statements outside of functions and classes."""
    stack = [*reversed(body)]
    while stack:
        statement = stack.pop()
        if isinstance(statement, FunctionNode | ast.ClassDef):
            continue
        inner = [nested for block in blocks(statement) for nested in block]
        if not inner:
            yield statement
        stack.extend(reversed(inner))


def _changes(statement: ast.stmt, names: set[str]) -> bool:
    """Say whether a statement does more with the classes ``names`` than to call them."""
    called = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(id(node.func))
        elif isinstance(node, ast.Name) and node.id in names and id(node) not in called:
            return True
    return False


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.ClassDef(name=name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.AnnAssign(value=None):
            return
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Delete():
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                    yield node.id
