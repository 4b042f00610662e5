"""The classes of a flow: which one it is, and what it inherits from first-party code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.source import Module, Sources

_FLOW_SPEC = ("metaflow.FlowSpec", "metaflow.flowspec.FlowSpec")
_PLAIN_BASES = ("object", "ABC", "Generic", "Protocol")
Class = tuple[Module, ast.ClassDef]
"""A class and the module that it is defined in."""


@dataclass
class Classes:
    """Finds classes, from the flow's file ``module`` on."""

    sources: Sources
    module: Module

    def flow(self) -> ast.ClassDef:
        """Return the one flow of the file: the class that is a FlowSpec and that no other one derives from."""
        classes = [node for node in ast.walk(self.module.tree) if isinstance(node, ast.ClassDef)]
        flows = [node for node in classes if self._is_flow((self.module, node))]
        parents = {id(parent[1]) for node in flows for parent in self.parents((self.module, node))}
        leaves = [node for node in flows if id(node) not in parents]
        if not leaves:
            raise AnalyzeError(
                f"{self.module.shown}: there is no flow: no class in this file derives from "
                f"metaflow.FlowSpec. Is it the right file?"
            )
        if len(leaves) > 1:
            names = " and ".join(f"'{node.name}' (line {node.lineno})" for node in leaves)
            raise AnalyzeError(
                f"{self.module.shown}: there are {len(leaves)} flows, {names}: move all but one to other files"
            )
        if leaves[0] not in self.module.tree.body:
            raise AnalyzeError(
                f"{self.module.where(leaves[0])}: flow '{leaves[0].name}' is defined under a condition or "
                f"inside something: move "
                "it to the top level of the file"
            )
        return leaves[0]

    def _is_flow(self, definition: Class, depth: int = 0) -> bool:
        module, node = definition
        if any(module.qualified(base) in _FLOW_SPEC for base in node.bases):
            return True
        return depth < 50 and any(self._is_flow(parent, depth + 1) for parent in self.parents(definition))

    def parents(self, definition: Class) -> Iterator[Class]:
        """Yield the base classes of ``definition`` that are first-party."""
        module, node = definition
        for base in node.bases:
            qualified = module.qualified(base)
            found = self.sources.definition(qualified) if qualified else None
            if found and isinstance(found[1], ast.ClassDef) and found[1] is not node:
                yield found[0], found[1]

    def lineage(self, definition: Class) -> list[Class]:
        """Return ``definition`` and its bases in Python's method resolution order.

        Raises:
            AnalyzeError: a base is not first-party and could bring steps.
        """
        module, node = definition
        for base in node.bases:
            self._check_base(module, base)
        parents = list(self.parents(definition))
        return [
            definition,
            *_merge_orders([self.lineage(parent) for parent in parents] + [parents], module.where(node)),
        ]

    def _check_base(self, module: Module, base: ast.expr) -> None:
        qualified = module.qualified(base.value if isinstance(base, ast.Subscript) else base) or ""
        found = self.sources.definition(qualified)
        plain = qualified in _FLOW_SPEC or qualified.rpartition(".")[2] in _PLAIN_BASES
        if not plain and not (found and isinstance(found[1], ast.ClassDef)):
            raise AnalyzeError(
                f"{module.where(base)}: the base class `{ast.unparse(base)}` is not found in first-party "
                f"code, so its steps cannot "
                "be read: name its import root with `--first-party` (attribute `deps`), or define the steps here"
            )


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
