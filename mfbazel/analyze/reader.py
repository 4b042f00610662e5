"""Reading a flow: its class, its steps, and all that the other modules find about them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfbazel.analyze.constants import Evaluator
from mfbazel.analyze.decorators import (
    FLOW_PACKAGES,
    HARDWARE,
    REMOTES,
    STEP_PACKAGES,
    Decorator,
    DecoratorReader,
    Package,
)
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.graph import Node, order
from mfbazel.analyze.imports import ImportReader
from mfbazel.analyze.model import FlowSpec, Inferred, Step
from mfbazel.analyze.requirements import Attributes, Effective, effective, merge
from mfbazel.analyze.source import FunctionNode, Module, Sources, parse

_FLOW_SPEC = ("metaflow.FlowSpec", "metaflow.flowspec.FlowSpec")
_PLAIN_BASES = ("object", "ABC", "Generic", "Protocol")
_Class = tuple[Module, ast.ClassDef]


@dataclass(frozen=True)
class _Found:
    """A step as it stands in the source."""

    module: Module
    function: FunctionNode
    decorators: tuple[Decorator, ...]


def read_flow(path: Path | str, first_party: Sequence[Path | str] = ()) -> FlowSpec:
    """Read the flow in the file ``path`` without running or importing anything.

    Args:
        path: the flow's file.
        first_party: further directories from which first-party modules are imported, beside the flow's own.

    Returns:
        The flow. File names in it are relative to the directory that the file was found in.

    Raises:
        AnalyzeError: the file does not parse, has no or several flows, or holds something that cannot be read.
    """
    path = Path(path)
    sources = Sources([path.parent, *(Path(root) for root in first_party)])
    module = parse(path, path.name)
    sources.add(module)
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

    def read(self) -> FlowSpec:
        flow = self._flow()
        lineage = self._lineage((self._module, flow))
        for owner, definition in lineage:
            self._refuse_config(owner, definition)
        bases = self._flow_packages(lineage)
        found = self._steps(lineage)
        if not found:
            raise AnalyzeError(f"{self._module.where(flow)}: flow '{flow.name}' has no steps: mark methods with @step")
        placed = order(self._nodes(found), flow.name)
        imports = ImportReader(self._sources, self._methods(lineage), found.keys())
        loaded = imports.of_loading(self._module)
        return FlowSpec(
            flow.name,
            self._module.shown,
            tuple(
                self._step(found[item.name], item.type, item.next, bases, loaded | imports.of_step(item.name))
                for item in placed
            ),
        )

    def _flow(self) -> ast.ClassDef:
        """Return the one flow of the file: the class that is a FlowSpec and that no other one derives from."""
        classes = [node for node in ast.walk(self._module.tree) if isinstance(node, ast.ClassDef)]
        flows = [node for node in classes if self._is_flow((self._module, node))]
        parents = {id(parent[1]) for node in flows for parent in self._parents((self._module, node))}
        leaves = [node for node in flows if id(node) not in parents]
        if not leaves:
            raise AnalyzeError(
                f"{self._module.shown}: there is no flow: no class in this file derives from "
                f"metaflow.FlowSpec. Is it the right file?"
            )
        if len(leaves) > 1:
            names = " and ".join(f"'{node.name}' (line {node.lineno})" for node in leaves)
            raise AnalyzeError(
                f"{self._module.shown}: there are {len(leaves)} flows, {names}: move all but one to other files"
            )
        if leaves[0] not in self._module.tree.body:
            raise AnalyzeError(
                f"{self._module.where(leaves[0])}: flow '{leaves[0].name}' is defined under a condition or "
                f"inside something: move "
                "it to the top level of the file"
            )
        return leaves[0]

    def _is_flow(self, definition: _Class, depth: int = 0) -> bool:
        module, node = definition
        if any(module.qualified(base) in _FLOW_SPEC for base in node.bases):
            return True
        return depth < 50 and any(self._is_flow(parent, depth + 1) for parent in self._parents(definition))

    def _parents(self, definition: _Class) -> Iterator[_Class]:
        """Yield the base classes of ``definition`` that are first-party."""
        module, node = definition
        for base in node.bases:
            qualified = module.qualified(base)
            found = self._sources.definition(qualified) if qualified else None
            if found and isinstance(found[1], ast.ClassDef) and found[1] is not node:
                yield found[0], found[1]

    def _lineage(self, definition: _Class) -> list[_Class]:
        """Return ``definition`` and its bases in Python's method resolution order.

        Raises:
            AnalyzeError: a base is not first-party and could bring steps.
        """
        module, node = definition
        for base in node.bases:
            self._check_base(module, base)
        parents = list(self._parents(definition))
        return [
            definition,
            *_merge_orders([self._lineage(parent) for parent in parents] + [parents], module.where(node)),
        ]

    def _check_base(self, module: Module, base: ast.expr) -> None:
        qualified = module.qualified(base.value if isinstance(base, ast.Subscript) else base) or ""
        found = self._sources.definition(qualified)
        plain = qualified in _FLOW_SPEC or qualified.rpartition(".")[2] in _PLAIN_BASES
        if not plain and not (found and isinstance(found[1], ast.ClassDef)):
            raise AnalyzeError(
                f"{module.where(base)}: the base class `{ast.unparse(base)}` is not found in first-party "
                f"code, so its steps cannot "
                "be read: name its import root with `--first-party` (attribute `deps`), or define the steps here"
            )

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

    def _flow_packages(self, lineage: Sequence[_Class]) -> dict[str, Attributes[Package]]:
        found: dict[str, tuple[Decorator, Attributes[Package]]] = {}
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

    def _methods(self, lineage: Sequence[_Class]) -> dict[str, tuple[Module, FunctionNode]]:
        return {
            statement.name: (module, statement)
            for module, definition in reversed(lineage)
            for statement in definition.body
            if isinstance(statement, FunctionNode)
        }

    def _steps(self, lineage: Sequence[_Class]) -> dict[str, _Found]:
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
        self,
        found: _Found,
        kind: str,
        following: tuple[str, ...],
        bases: dict[str, Attributes[Package]],
        inferred: set[Inferred],
    ) -> Step:
        packages = self._step_packages(found, bases)
        gpu = max((self._decorators.gpu(item) for item in found.decorators if item.name in HARDWARE), default=0)
        remotes = tuple(self._decorators.remote(item) for item in found.decorators if item.name in REMOTES)
        return Step(
            name=found.function.name,
            type=kind,
            next=following,
            line=found.function.lineno,
            disabled=packages.disabled,
            python=packages.python,
            gpu=gpu or None,
            declared=tuple(sorted((item.declared for item in packages.packages.values()), key=lambda item: item.name)),
            inferred=self._one_per_module(inferred),
            remote=tuple(sorted(remotes, key=lambda item: item.decorator)),
            requirements=tuple(sorted((name, item.version) for name, item in packages.packages.items())),
        )

    def _step_packages(self, found: _Found, bases: dict[str, Attributes[Package]]) -> Effective[Package]:
        own = {item.name: self._decorators.packages(item) for item in found.decorators if item.name in STEP_PACKAGES}
        merged = {name: merge(bases.get(f"{name}_base"), own.get(name)) for name in STEP_PACKAGES}
        try:
            return effective(merged["pypi"], merged["conda"])
        except AnalyzeError as error:
            raise AnalyzeError(
                f"{found.module.where(found.function)}: step '{found.function.name}': {error}"
            ) from error

    def _one_per_module(self, inferred: set[Inferred]) -> tuple[Inferred, ...]:
        """Keep one place per module: in the flow's file where there is one, then the first."""
        chosen: dict[str, Inferred] = {}
        for item in sorted(inferred, key=lambda item: (item.file != self._module.shown, item.file, item.line)):
            chosen.setdefault(item.module, item)
        return tuple(chosen[name] for name in sorted(chosen))


def _merge_orders(orders: list[list[_Class]], where: str) -> list[_Class]:
    """Merge method resolution orders (C3 linearization).

    Raises:
        AnalyzeError: there is none.
    """
    result = []
    orders = [item for item in orders if item]
    while orders:
        tails = {id(definition) for item in orders for _, definition in item[1:]}
        head = next((item[0] for item in orders if id(item[0][1]) not in tails), None)
        if head is None:
            raise AnalyzeError(f"{where}: the base classes have no consistent order, and Python refuses the class")
        result.append(head)
        orders = [rest for item in orders if (rest := [entry for entry in item if entry[1] is not head[1]])]
    return result
