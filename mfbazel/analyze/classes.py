"""The classes of a flow: which one it is, and what it inherits from first-party code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mfbazel.analyze.catalog import FLOW_SPEC, STEP
from mfbazel.analyze.constants import in_line
from mfbazel.analyze.errors import AnalyzeError, NeedsRunningError
from mfbazel.analyze.names import Names, Scope
from mfbazel.analyze.source import FunctionNode, Module, Sources, code_of, statements

Class = tuple[Module, ast.ClassDef]
"""A class and the module that it is defined in."""


@dataclass
class Classes:
    """Finds classes, from the flow's file ``module`` on."""

    sources: Sources
    module: Module
    _flows: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start to look names up."""
        self.names = Names(self.sources)

    def flow(self) -> ast.ClassDef:
        """Return the flow of the file: the class that the file starts, else the one that no other derives from.

        Raises:
            AnalyzeError: there is none, or there are several and the file starts none or several of them.
            NeedsRunningError: it is not at the top level, or a base of unknown origin may make a class one.
        """
        classes = [node for node in statements(self.module.tree.body) if isinstance(node, ast.ClassDef)]
        flows = [node for node in classes if self.is_flow((self.module, node))]
        current = [node for node in flows if self.module.bindings.get(node.name) is node]
        bound = {node.name for node in current}
        hidden = next((node for node in flows if not self._at_top(node)), None)
        started = self._started(current)
        if len(started) == 1 and self._at_top(started[0]):
            return started[0]
        if hidden is not None:
            raise NeedsRunningError(
                f"{self.module.where(hidden)}: flow '{hidden.name}' is defined under a condition or inside something, "
                "so whether it exists cannot be known without running the file. Move it to the top level.",
                f"the class {hidden.name} under a condition in {in_line(hidden, self.module)}",
            )
        renamed = next((node for node in flows if node not in current and node.name not in bound), None)
        if renamed is not None:
            raise NeedsRunningError(
                f"{self.module.where(renamed)}: the name of flow '{renamed.name}' is given to something else below, so "
                "what becomes of the flow cannot be known without running the file. Give it another name.",
                f"another meaning of the class {renamed.name} of {in_line(renamed, self.module)}",
            )
        foreign = self._with_foreign_base(classes)
        if foreign is not None:
            raise foreign
        parents = {id(parent[1]) for node in current for parent in self.parents((self.module, node))}
        leaves = [node for node in current if id(node) not in parents]
        if not leaves:
            raise AnalyzeError(
                f"{self.module.shown}: there is no flow: no class in this file derives from metaflow.FlowSpec. "
                "Is it the right file?"
            )
        if len(leaves) > 1:
            named = " and ".join(f"'{node.name}' (line {node.lineno})" for node in leaves)
            raise AnalyzeError(
                f"{self.module.shown}: there are {len(leaves)} flows, {named}: move all but one to other files, or "
                'start one with `if __name__ == "__main__":`'
            )
        return leaves[0]

    def is_flow(self, definition: Class) -> bool:
        """Say whether a class derives from ``FlowSpec``, as far as first-party code says."""
        module, node = definition
        if id(node) not in self._flows:
            self._flows[id(node)] = False
            direct = any(self.names.qualified(base, Scope(module)) in FLOW_SPEC for base in node.bases)
            self._flows[id(node)] = direct or any(self.is_flow(parent) for parent in self.parents(definition))
        return self._flows[id(node)]

    def _at_top(self, node: ast.ClassDef) -> bool:
        return any(node is statement for statement in self.module.tree.body)

    def _started(self, flows: Sequence[ast.ClassDef]) -> list[ast.ClassDef]:
        """Return the flows that the file starts: those called outside functions, else those called in functions."""
        names = {node.name: node for node in flows}
        for inside in (False, True):
            called = {name for name in _called(self.module.tree.body, inside=inside) if name in names}
            if called:
                return [names[name] for name in sorted(called)]
        return []

    def _with_foreign_base(self, classes: Sequence[ast.ClassDef]) -> NeedsRunningError | None:
        """Return the error for a class that may be a flow by a base of unknown origin: it has steps, or is started."""
        for node in classes:
            unknown = next((base for base in node.bases if not self._is_known(self.module, base)), None)
            if unknown is None or self.is_flow((self.module, node)):
                continue
            if self._has_step(node) or node.name in _called(self.module.tree.body, inside=False):
                return self._foreign_base(self.module, unknown)
        return None

    def _has_step(self, node: ast.ClassDef) -> bool:
        """Say whether a method has @step, or a decorator of which nobody knows what it is."""
        methods = [item for item in node.body if isinstance(item, FunctionNode)]
        decorators = (decorator for item in methods for decorator in item.decorator_list)
        named = (item.func if isinstance(item, ast.Call) else item for item in decorators)
        meanings = (self.names.qualified(item, Scope(self.module, node)) for item in named)
        return any(meaning is None or meaning in STEP for meaning in meanings)

    def parents(self, definition: Class) -> Iterator[Class]:
        """Yield the base classes of ``definition`` that are first-party."""
        module, node = definition
        for base in node.bases:
            found = self.names.definition(_generic(base), Scope(module))
            if found and isinstance(found.binding, ast.ClassDef) and found.binding is not node:
                yield found.scope.module, found.binding

    def lineage(self, definition: Class) -> list[Class]:
        """Return ``definition`` and its bases in Python's method resolution order.

        Raises:
            AnalyzeError: there is no such order.
            NeedsRunningError: a base is not first-party and could bring steps.
        """
        return self._lineage(definition, {})

    def _lineage(self, definition: Class, known: dict[int, list[Class]]) -> list[Class]:
        module, node = definition
        if id(node) not in known:
            known[id(node)] = []
            self._check(module, node)
            parents = list(self.parents(definition))
            orders = [list(self._lineage(parent, known)) for parent in parents]
            known[id(node)] = [definition, *_merge_orders([*orders, parents], module.where(node))]
        return known[id(node)]

    def _check(self, module: Module, node: ast.ClassDef) -> None:
        """Refuse what may bring steps or decorators from elsewhere."""
        for base in node.bases:
            if not self._is_known(module, base):
                raise self._foreign_base(module, base)
        hook = next((item for item in node.body if getattr(item, "name", "") == "__init_subclass__"), None)
        odd = node.keywords[0].value if node.keywords else hook
        if odd is not None:
            what = f"`{node.keywords[0].arg}=`" if node.keywords else "`__init_subclass__`"
            raise NeedsRunningError(
                f"{module.where(odd)}: class '{node.name}' has {what}, which may change the class when it is made. "
                "Let the flow be read dynamically, or define the class without it.",
                f"{what} of the class {node.name} in {in_line(odd, module)}",
            )

    def _is_known(self, module: Module, base: ast.expr) -> bool:
        """Say whether ``base`` is ``FlowSpec``, of the standard library, or a first-party class."""
        plain = _generic(base)
        qualified = self.names.qualified(plain, Scope(module)) or ""
        if qualified in FLOW_SPEC or qualified.partition(".")[0] in ("builtins", "typing_extensions"):
            return True
        found = self.names.defined(qualified)
        if found is not None:
            return isinstance(found.binding, ast.ClassDef) and id(found.binding) not in found.scope.module.conditional
        return qualified.partition(".")[0] in sys.stdlib_module_names

    def _foreign_base(self, module: Module, base: ast.expr) -> NeedsRunningError:
        return NeedsRunningError(
            f"{module.where(base)}: the base class `{code_of(base)}` is not found in first-party code, so its "
            "steps cannot be read: name its import root with `--first-party` (attribute `deps`), or define them here",
            f"the base class {code_of(base)} in {in_line(base, module)}",
        )


def _generic(base: ast.expr) -> ast.expr:
    """Return ``Base`` of ``Base[T]``."""
    return base.value if isinstance(base, ast.Subscript) else base


def _called(statements: Sequence[ast.stmt], *, inside: bool) -> set[str]:
    """Return the names called in ``statements``: outside of functions and classes, or (``inside``) in functions."""
    found: set[str] = set()
    stack: list[tuple[ast.AST, bool]] = [(statement, False) for statement in statements]
    while stack:
        node, within = stack.pop()
        if isinstance(node, ast.ClassDef):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and within == inside:
            found.add(node.func.id)
        within = within or isinstance(node, FunctionNode)
        if within and not inside:
            continue
        stack.extend((child, within) for child in ast.iter_child_nodes(node))
    return found


def _merge_orders(orders: list[list[Class]], where: str) -> list[Class]:
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
